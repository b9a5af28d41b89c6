/* SPDX-License-Identifier: Apache-2.0
 * card.c - README.md of a converted model: the head of the source's card (YAML between two lines "---"), in which the
 * library becomes mlx, as mlx-lm writes it. The text below it is about other files and is left out.
 *
 *     ---
 *     license: apache-2.0
 *     library_name: mlx
 *     pipeline_tag: text-generation
 *     tags:
 *     - mlx
 *     ---
 *
 * YAML is not parsed: top-level keys begin a line, and what is indented or begins with '-' belongs to the one above. */
#include "convert/convert_int.h"

#define LARGEST_CARD ((size_t)4 << 20)

static we_str next_line(we_str *rest)
{
    const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    const size_t len = end ? (size_t)(end - rest->ptr) : rest->len;
    const we_str line = { rest->ptr, len && rest->ptr[len - 1] == '\r' ? len - 1 : len };
    rest->ptr += len + (end != NULL);
    rest->len -= len + (end != NULL);
    return line;
}

static bool is_key(we_str line, const char *key)
{
    const size_t n = strlen(key);
    return line.len > n && memcmp(line.ptr, key, n) == 0 && line.ptr[n] == ':';
}

/* Copy the source's head without what is written anew; its list of tags goes to `tags`. */
static void copy_head(we_str text, we_buf *head, we_buf *tags)
{
    static const char *const ours[] = { "library_name", "pipeline_tag" };
    we_str rest = text, line = next_line(&rest);
    if (!we_str_is(line, "---")) return;
    bool skips = false, in_tags = false;
    while (rest.len && !we_str_is(line = next_line(&rest), "---")) {
        const bool continues = !line.len || line.ptr[0] == ' ' || line.ptr[0] == '-' || line.ptr[0] == '#';
        if (!continues) {
            in_tags = is_key(line, "tags");
            skips = in_tags;
            for (size_t i = 0; i < WE_COUNT(ours); i++) skips |= is_key(line, ours[i]);
        } else if (in_tags && line.len && !we_str_is(line, "- mlx")) {
            we_buf_printf(tags, "%.*s\n", (int)line.len, line.ptr);
        }
        if (!skips) we_buf_printf(head, "%.*s\n", (int)line.len, line.ptr);
    }
    if (!we_str_is(line, "---")) head->len = tags->len = 0; /* it never ends: no head at all */
}

we_status we_source_add_card(we_arena *arena, const char *dir, we_side_file *file, we_error *err)
{
    char *path = we_path_join(dir, "README.md"), *text = NULL;
    size_t len = 0;
    we_buf head = { 0 }, tags = { 0 };
    if (path && !we_file_read(path, LARGEST_CARD, &text, &len, NULL)) copy_head((we_str){ text, len }, &head, &tags);
    if (!head.len) we_buf_printf(&head, "language: en\n");
    we_buf_printf(&head, "library_name: mlx\npipeline_tag: text-generation\ntags:\n%.*s- mlx\n", (int)tags.len,
                  tags.ptr ? tags.ptr : "");
    const char *card = head.failed || tags.failed || !path ? NULL : we_arena_printf(arena, "---\n%s---\n", head.ptr);
    we_buf_deinit(&head);
    we_buf_deinit(&tags);
    we_free(text);
    we_free(path);
    if (!card) return we_fail(err, WE_E_NOMEM, "%s: no memory for its README.md", dir);
    *file = (we_side_file){ .name = "README.md", .bytes = we_str_from(card) };
    return WE_OK;
}
