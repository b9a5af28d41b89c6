/* SPDX-License-Identifier: Apache-2.0
 * test_template_snippets.c - the template language in small pieces, against what Jinja2 3.1.6 makes of them
 * (tests/fixtures/templates/snippets.json). */
#include "template_vectors.h"

TEST(template_snippets_agree_with_jinja)
{
    we_arena arena = { 0 };
    vector_counts counts = { 0 };
    char *bytes;
    const we_json *file = vector_read(&arena, test_fixture("templates/snippets.json"), &bytes);
    char date[16];
    snprintf(date, sizeof(date), "%.*s", (int)vector_str(file, "date").len, vector_str(file, "date").ptr);
    for (const we_json *c = we_json_get(file, "cases")->first; c; c = c->next) {
        we_template *template = NULL;
        we_buf out = { 0 };
        we_error err;
        we_status st = we_template_parse(&template, vector_str(c, "template"), &err);
        if (!st) st = we_template_run(template, we_json_get(c, "context"), date, NULL, &out, &err);
        vector_check(&counts, "snippets.json", c, st, we_buf_str(&out), &err);
        we_template_free(template);
        we_buf_deinit(&out);
    }
    assert_true(counts.n > 200);
    assert_int_equal(counts.bad, 0);
    we_arena_deinit(&arena);
    we_free(bytes);
}
