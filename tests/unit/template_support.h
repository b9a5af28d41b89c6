/* SPDX-License-Identifier: Apache-2.0
 * template_support.h - rendering in one line, for the tests of src/template. */
#ifndef WE_TESTS_TEMPLATE_SUPPORT_H
#define WE_TESTS_TEMPLATE_SUPPORT_H

#include "support.h"
#include "template/template.h"

#include <stdio.h>

static inline we_status render_text(const char *template, const char *context, const we_template_limits *limits,
                                    we_buf *out, we_error *err)
{
    we_arena arena = { 0 };
    we_template *t = NULL;
    const we_json *json = NULL;
    we_status st = we_json_parse(&arena, we_str_from(context ? context : "{}"), &json, err);
    if (!st) st = we_template_parse(&t, we_str_from(template), err);
    if (!st) st = we_template_run(t, json, "2024-07-26", limits, out, err);
    we_template_free(t);
    we_arena_deinit(&arena);
    return st;
}

static inline void renders_at(const char *template, const char *context, const char *want, const char *file, int line)
{
    we_buf out = { 0 };
    we_error err;
    we_status st = render_text(template, context, NULL, &out, &err);
    if (st || !we_str_is(we_buf_str(&out), want))
        fprintf(stderr, "%s:%d: %.400s\n  got : %.400s\n  want: %.400s\n", file, line, template,
                st ? err.message : out.ptr, want);
    bool same = !st && we_str_is(we_buf_str(&out), want);
    we_buf_deinit(&out);
    _assert_true(same, "the text is as expected", file, line);
}

static inline void fails_at(const char *template, const char *context, const we_template_limits *limits,
                            const char *message, const char *file, int line)
{
    we_buf out = { 0 };
    we_error err;
    we_status st = render_text(template, context, limits, &out, &err);
    we_buf_deinit(&out);
    if (st != WE_E_TEMPLATE || !strstr(err.message, message))
        fprintf(stderr, "%s:%d: %.400s\n  got : %.400s\n  want: %.400s\n", file, line, template,
                st ? err.message : "text", message);
    _assert_true(st == WE_E_TEMPLATE && strstr(err.message, message), "it fails as expected", file, line);
}

#define RENDERS(template, context, want) renders_at(template, context, want, __FILE__, __LINE__)
#define FAILS(template, context, message) fails_at(template, context, NULL, message, __FILE__, __LINE__)
#define FAILS_WITHIN(limits, template, message) fails_at(template, NULL, limits, message, __FILE__, __LINE__)

#endif
