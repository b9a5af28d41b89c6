/* SPDX-License-Identifier: Apache-2.0
 * fuzz_desktop_highlight.c - a first line that names a language, then arbitrary bytes as code: words come in order, inside of it, and
 * cut no character where it is UTF-8. */
#include "highlight.h"

#include <glib.h>
#include <stdlib.h>

typedef struct seen {
    we_str code;
    size_t end;
    bool valid;
} seen;

static void look(void *user, desk_token token, size_t from, size_t to)
{
    seen *s = user;
    if (token >= DESK_TOKENS || from < s->end || to <= from || to > s->code.len) abort();
    if (s->valid && !g_utf8_validate(s->code.ptr + from, (gssize)(to - from), NULL)) abort();
    s->end = to;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    if (!line) return 0;
    const size_t n = (size_t)(line - data);
    char *language = g_strndup((const char *)data, n);
    seen s = { .code = { (const char *)line + 1, size - n - 1 } };
    s.valid = g_utf8_validate(s.code.ptr, (gssize)s.code.len, NULL);
    desk_highlight(language, s.code, look, &s);
    g_free(language);
    return 0;
}
