/* SPDX-License-Identifier: Apache-2.0
 * test_template_vectors.c - chat templates of real models, against what transformers makes of them. Templates and vectors
 * are other people's text and not part of this repository: WE_TEMPLATE_VECTORS names a folder with NAME.json (fields
 * template, date, special_tokens, cases) and src/NAME.jinja. Without it the test is skipped. */
#include "template_vectors.h"

#include <stdlib.h>

typedef struct model {
    const char *file;
    we_template *template;
    char date[16];
    we_chat_special special[16];
    size_t n_special;
} model;

static void read_special(model *m, const we_json *tokens)
{
    for (const we_json *t = tokens ? tokens->first : NULL; t && m->n_special < WE_COUNT(m->special); t = t->next) {
        we_str content;
        if (we_json_str(t, &content)) m->special[m->n_special++] = (we_chat_special){ t->key, content };
    }
}

static we_status render_case(const model *m, const we_json *c, we_buf *out, we_error *err)
{
    const we_json *context = we_json_get(c, "context");
    we_chat_input input = { .messages = we_json_get(c, "messages"), .tools = we_json_get(c, "tools") };
    we_json_bool(we_json_get(c, "add_generation_prompt"), &input.add_generation_prompt);
    if (!context) return we_chat_render(m->template, &input, m->special, m->n_special, m->date, out, err);
    return we_template_run(m->template, context, m->date, NULL, out, err);
}

static void run_model(const char *dir, const char *file, vector_counts *counts)
{
    we_arena arena = { 0 };
    we_error err;
    char *bytes, *source, path[1024];
    size_t len;
    model m = { .file = file };
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    const we_json *vectors = vector_read(&arena, path, &bytes);
    we_str date = vector_str(vectors, "date"), name = vector_str(vectors, "template");
    snprintf(m.date, sizeof(m.date), "%.*s", (int)date.len, date.ptr);
    snprintf(path, sizeof(path), "%s/src/%.*s", dir, (int)name.len, name.ptr);
    CHECK_OK(we_file_read(path, 0, &source, &len, &err), &err);
    CHECK_OK(we_template_parse(&m.template, (we_str){ source, len }, &err), &err);
    read_special(&m, we_json_get(vectors, "special_tokens"));
    for (const we_json *c = we_json_get(vectors, "cases")->first; c; c = c->next) {
        we_buf out = { 0 };
        we_status st = render_case(&m, c, &out, &err);
        vector_check(counts, file, c, st, we_buf_str(&out), &err);
        we_buf_deinit(&out);
    }
    we_template_free(m.template);
    we_arena_deinit(&arena);
    we_free(source);
    we_free(bytes);
}

typedef struct folder {
    const char *dir;
    size_t n_models;
    vector_counts counts;
} folder;

static bool visit(void *user, const char *name)
{
    folder *f = user;
    we_str s = we_str_from(name);
    if (!we_str_ends_with(s, WE_STR(".json")) || we_str_is(s, "snippets.json")) return true;
    run_model(f->dir, name, &f->counts);
    f->n_models++;
    return true;
}

TEST(template_vectors_agree_with_transformers)
{
    folder f = { .dir = getenv("WE_TEMPLATE_VECTORS") };
    we_error err;
    if (!f.dir || !*f.dir) {
        printf("skipped: WE_TEMPLATE_VECTORS names no folder with templates of real models and their vectors\n");
        skip();
    }
    CHECK_OK(we_dir_each(f.dir, visit, &f, &err), &err);
    printf("%zu templates, %zu cases, %zu differences\n", f.n_models, f.counts.n, f.counts.bad);
    assert_true(f.counts.n > 0);
    assert_int_equal(f.counts.bad, 0);
}
