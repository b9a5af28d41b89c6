/* SPDX-License-Identifier: Apache-2.0
 * template_vectors.h - what the two programs that replay template vectors share: one case, rendered and compared. */
#ifndef WE_TESTS_TEMPLATE_VECTORS_H
#define WE_TESTS_TEMPLATE_VECTORS_H

#include "support.h"
#include "template/template.h"

#include <stdio.h>

typedef struct vector_counts {
    size_t n, bad;
} vector_counts;

static inline we_str vector_str(const we_json *object, const char *key)
{
    we_str s = { "", 0 };
    we_json_str(we_json_get(object, key), &s);
    return s;
}

/* Compare with the case's "text", or with its "error". */
static inline void vector_check(vector_counts *counts, const char *file, const we_json *c, we_status st, we_str got,
                                const we_error *err)
{
    bool want_error = we_json_get(c, "error") != NULL;
    we_str want = vector_str(c, "text"), name = vector_str(c, "name");
    counts->n++;
    if (want_error ? st == WE_E_TEMPLATE : st == WE_OK && we_str_eq(got, want)) return;
    if (counts->bad++ > 20) return;
    fprintf(stderr, "%s, %.*s:\n", file, (int)name.len, name.ptr);
    if (st)
        fprintf(stderr, "  failed: %s\n", err->message);
    else
        fprintf(stderr, "  got : %.*s\n", (int)got.len, got.ptr);
    fprintf(stderr, "  want: %.*s\n", want_error ? 8 : (int)want.len, want_error ? "an error" : want.ptr);
}

static inline const we_json *vector_read(we_arena *arena, const char *path, char **bytes)
{
    we_error err;
    size_t len;
    const we_json *file;
    CHECK_OK(we_file_read(path, 0, bytes, &len, &err), &err);
    CHECK_OK(we_json_parse(arena, (we_str){ *bytes, len }, &file, &err), &err);
    return file;
}

#endif
