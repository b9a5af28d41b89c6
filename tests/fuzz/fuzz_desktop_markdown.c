/* SPDX-License-Identifier: Apache-2.0
 * fuzz_desktop_markdown.c - arbitrary bytes as a model's answer: every block's markup must be what Pango takes, links must lead to
 * http(s), and an answer that is cut anywhere must do as well. */
#include "markdown.h"

#include <pango/pango.h>
#include <stdlib.h>

static void require(bool holds)
{
    if (!holds) abort();
}

/* GtkLabel takes <a href="..."> out before Pango sees the rest; so do we, and look where it leads. */
static void check_markup(const char *markup)
{
    GString *rest = g_string_new(NULL);
    int depth = 0;
    for (const char *p = markup; *p;) {
        if (g_str_has_prefix(p, "<a href=\"")) {
            p += 9;
            require(g_str_has_prefix(p, "http://") || g_str_has_prefix(p, "https://"));
            while (*p != '"') {
                require(*p && *p != '<' && *p != '>' && (unsigned char)*p > ' ');
                p++;
            }
            require(p[1] == '>' && depth++ == 0);
            p += 2;
        } else if (g_str_has_prefix(p, "</a>")) {
            require(--depth == 0);
            p += 4;
        } else {
            g_string_append_c(rest, *p++);
        }
    }
    require(depth == 0);
    require(pango_parse_markup(rest->str, -1, 0, NULL, NULL, NULL, NULL));
    g_string_free(rest, TRUE);
}

static void check(we_str text)
{
    desk_blocks blocks = { 0 };
    desk_markdown(&blocks, text);
    require(!blocks.failed);
    for (size_t i = 0; i < blocks.n; i++) {
        const desk_block *b = &blocks.items[i];
        require(b->depth >= 0 && b->quotes >= 0 && b->level >= 0 && b->level <= 6);
        require(g_utf8_validate(b->text, -1, NULL) && g_utf8_validate(b->marker, -1, NULL));
        if (b->kind == DESK_CODE) continue;
        char **cells = g_strsplit_set(b->text, b->kind == DESK_TABLE ? "\x1e\x1f" : "", -1);
        for (char **cell = cells; *cell; cell++) check_markup(*cell);
        g_strfreev(cells);
    }
    desk_blocks_deinit(&blocks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const we_str text = { (const char *)data, size };
    check(text);
    if (size) check((we_str){ text.ptr, data[0] % size });
    return 0;
}
