/* SPDX-License-Identifier: Apache-2.0
 * conversation.c - see conversation.h. */
#include "conversation.h"

#define MAX_FILE_BYTES ((size_t)256 << 20)

void cli_conversation_deinit(cli_conversation *c)
{
    while (c->n) cli_conversation_drop_last(c);
    we_free(c->messages);
    we_free(c->model);
    *c = (cli_conversation){ 0 };
}

static we_status out_of_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for the conversation"); }

static we_status reserve_one(cli_conversation *c, we_error *err)
{
    if (c->n < c->capacity) return WE_OK;
    const size_t capacity = WE_MAX(c->capacity * 2, 16);
    we_message *messages = we_realloc_array(c->messages, capacity, sizeof *messages);
    if (!messages) return out_of_memory(err);
    c->messages = messages;
    c->capacity = capacity;
    return WE_OK;
}

static void insert(cli_conversation *c, size_t at, const char *role, char *owned)
{
    memmove(c->messages + at + 1, c->messages + at, (c->n - at) * sizeof *c->messages);
    c->messages[at] = (we_message){ role, owned };
    c->n++;
}

we_status cli_conversation_add(cli_conversation *c, const char *role, const char *content, we_error *err)
{
    const we_status st = reserve_one(c, err);
    if (st) return st;
    char *copy = we_strdup(content);
    if (!copy) return out_of_memory(err);
    insert(c, c->n, role, copy);
    return WE_OK;
}

static void content_free(we_message *message)
{
    we_free((void *)(uintptr_t)message->content); /* ours, see insert; the public struct says const */
}

void cli_conversation_drop_last(cli_conversation *c)
{
    if (c->n) content_free(&c->messages[--c->n]);
}

static bool has_system(const cli_conversation *c) { return c->n > 0 && strcmp(c->messages[0].role, "system") == 0; }

we_status cli_conversation_set_system(cli_conversation *c, const char *content, we_error *err)
{
    const we_status st = reserve_one(c, err);
    char *copy = NULL;
    if (st) return st;
    if (content && *content && !(copy = we_strdup(content))) return out_of_memory(err);
    if (has_system(c)) {
        content_free(&c->messages[0]);
        memmove(c->messages, c->messages + 1, --c->n * sizeof *c->messages);
    }
    if (copy) insert(c, 0, "system", copy);
    return WE_OK;
}

void cli_conversation_reset(cli_conversation *c)
{
    const size_t keep = has_system(c);
    while (c->n > keep) cli_conversation_drop_last(c);
}

/* ---- The file ---- */

we_status cli_conversation_save(const cli_conversation *c, const char *path, const char *model, we_error *err)
{
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf, .indent = 1 };
    we_json_begin_object(&w);
    we_json_key(&w, "version");
    we_json_write_i64(&w, 1);
    we_json_key(&w, "model");
    we_json_write_str(&w, we_str_from(model));
    we_json_key(&w, "messages");
    we_json_begin_array(&w);
    for (size_t i = 0; i < c->n; i++) {
        we_json_begin_object(&w);
        we_json_key(&w, "role");
        we_json_write_str(&w, we_str_from(c->messages[i].role));
        we_json_key(&w, "content");
        we_json_write_str(&w, we_str_from(c->messages[i].content));
        we_json_end_object(&w);
    }
    we_json_end_array(&w);
    we_json_end_object(&w);
    we_buf_append_char(&buf, '\n');
    we_status st = we_buf_status(&buf, err, "the conversation");
    if (!st) st = we_file_write(path, buf.ptr, buf.len, 0600, err);
    we_buf_deinit(&buf);
    return st;
}

static const char *known_role(we_str role)
{
    static const char *const roles[] = { "system", "user", "assistant" };
    for (size_t i = 0; i < WE_COUNT(roles); i++)
        if (we_str_is(role, roles[i])) return roles[i];
    return NULL;
}

static we_status add_from_json(cli_conversation *c, const we_json *message, const char *path, we_error *err)
{
    we_str role, content;
    const char *known = NULL;
    if (we_json_str(we_json_get(message, "role"), &role)) known = known_role(role);
    if (!known || !we_json_str(we_json_get(message, "content"), &content) || memchr(content.ptr, 0, content.len))
        return we_fail(err, WE_E_FORMAT,
                       "%s: message %zu has no role system, user or assistant or no content; remove the file or start "
                       "without --continue",
                       path, c->n + 1);
    char *copy = we_strndup(content.ptr, content.len);
    if (!copy) return out_of_memory(err);
    const we_status st = cli_conversation_add(c, known, copy, err);
    we_free(copy);
    return st;
}

we_status cli_conversation_load(cli_conversation *c, const char *path, we_error *err)
{
    char *text;
    size_t len;
    we_arena arena = { 0 };
    const we_json *root = NULL, *messages;
    we_str model;
    we_status st = we_file_read(path, MAX_FILE_BYTES, &text, &len, err);
    if (st) return st;
    if ((st = we_json_parse(&arena, (we_str){ text, len }, &root, err))) {
        we_fail_in(err, st, "%s: ", path);
    } else if (!we_json_is(messages = we_json_get(root, "messages"), WE_JSON_ARRAY)) {
        st = we_fail(err, WE_E_FORMAT, "%s: \"messages\" is %s, expected an array", path, we_json_type_name(messages));
    } else {
        for (const we_json *m = messages->first; m && !st; m = m->next) st = add_from_json(c, m, path, err);
        if (!st && we_json_str(we_json_get(root, "model"), &model)) c->model = we_strndup(model.ptr, model.len);
    }
    we_arena_deinit(&arena);
    we_free(text);
    if (st) cli_conversation_deinit(c);
    return st;
}
