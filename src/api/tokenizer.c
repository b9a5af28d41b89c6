/* SPDX-License-Identifier: Apache-2.0
 * tokenizer.c - the tokenizer handle: tokenizer/ and template/ behind one folder. */
#include "api/api.h"

static const char *const template_names[] = { "default", "tool_use" };

/* ---- Families: folders without a chat template ---- */

char *we_config_text(const char *dir, const char *key)
{
    char *path = we_path_join(dir, "config.json"), *text = NULL, *found = NULL;
    size_t len;
    const we_json *root;
    we_arena arena = { 0 };
    we_str value;
    if (path && we_path_exists(path) && !we_file_read(path, 64 << 20, &text, &len, NULL) &&
        !we_json_parse(&arena, (we_str){ text, len }, &root, NULL) && we_json_str(we_json_get(root, key), &value))
        found = we_strndup(value.ptr, value.len);
    we_arena_deinit(&arena);
    we_free(text);
    we_free(path);
    return found;
}

static bool has_token(const void *user, we_str token) { return we_tok_id(user, token) >= 0; }

/* The folder's own name and the one it was made from: "vicuna-7b-4bit lmsys/vicuna-7b-v1.5". */
static char *names_of(const char *path)
{
    we_buf names = { 0 };
    char *origin = we_config_text(path, "_name_or_path");
    size_t end = strlen(path), start;
    while (end && path[end - 1] == '/') end--;
    for (start = end; start && path[start - 1] != '/'; start--) {
    }
    we_buf_append(&names, path + start, end - start);
    if (origin) we_buf_printf(&names, " %s", origin);
    we_free(origin);
    char *text = we_buf_take(&names, NULL);
    we_buf_deinit(&names);
    return text;
}

static we_status add_eos(we_ids *ids, int32_t id, we_error *err)
{
    for (size_t i = 0; i < ids->n; i++)
        if (ids->ids[i] == id) return WE_OK;
    return we_ids_push(ids, id, err);
}

static we_status take_family(we_tokenizer *t, const char *path, we_error *err)
{
    char *type = we_config_text(path, "model_type"), *names = names_of(path), why[WE_FAMILY_WHY];
    const we_family_facts facts = { has_token, t->tok, we_str_from(type), we_str_from(names) };
    we_status st = names ? WE_OK : we_fail(err, WE_E_NOMEM, "%s: no memory for its name", path);
    if (!st) {
        t->family = we_family_find(&facts, why);
        we_log(template, INFO, "%s has no chat template; chats are written in the %s format: %s", path, t->family->name,
               why);
        st = we_family_template(t->family, &t->templates[0], err);
    }
    const char *tokens = !st && t->family->end_of_turn ? t->family->end_of_turn : "";
    while (!st && *tokens) {
        const we_str token = { tokens, strcspn(tokens, " ") };
        const int32_t id = we_tok_id(t->tok, token);
        if (id >= 0) st = add_eos(&t->eos, id, err);
        tokens += token.len + strspn(tokens + token.len, " ");
    }
    we_free(names);
    we_free(type);
    return st;
}

/* ---- Opening ---- */

static we_status take_templates(we_tokenizer *t, const char *path, we_error *err)
{
    /* A broken template must not keep anyone from tokenizing: its error is told when it is used. */
    for (size_t i = 0; i < WE_COUNT(template_names); i++) {
        we_str source;
        if (!we_tok_chat_template(t->tok, template_names[i], &source)) continue;
        if (we_template_parse(&t->templates[i], source, &t->template_errors[i]) == WE_E_NOMEM)
            return we_fail(err, WE_E_NOMEM, "%s: no memory for the chat template", path);
    }
    const bool has_one = t->templates[0] || t->template_errors[0].status;
    return has_one ? WE_OK : take_family(t, path, err);
}

static we_status open_gguf(we_tok **out, const char *path, we_error *err)
{
    we_weights *weights;
    we_status st = we_weights_open(&weights, path, err);
    if (st) return st;
    st = we_tok_open_gguf(out, we_weights_gguf(weights), err);
    we_weights_close(weights);
    return st;
}

we_status we_tokenizer_open(we_tokenizer **out, const char *path, we_error *err)
{
    *out = NULL;
    we_tokenizer *t = we_calloc(1, sizeof *t);
    if (!t) return we_fail(err, WE_E_NOMEM, "%s: no memory for the tokenizer", path);
    we_status st = we_is_gguf(path) ? open_gguf(&t->tok, path, err) : we_tok_open(&t->tok, path, err);
    size_t n = 0;
    const int32_t *eos = st ? NULL : we_tok_eos_ids(t->tok, &n);
    for (size_t i = 0; i < n && !st; i++) st = we_ids_push(&t->eos, eos[i], err);
    if (!st) st = take_templates(t, path, err);
    if (st) {
        we_tokenizer_close(t);
        return st;
    }
    *out = t;
    return WE_OK;
}

void we_tokenizer_close(we_tokenizer *t)
{
    if (!t) return;
    for (size_t i = 0; i < WE_COUNT(t->templates); i++) we_template_free(t->templates[i]);
    we_ids_deinit(&t->eos);
    we_tok_close(t->tok);
    we_free(t);
}

static we_status open_gguf_optional(we_tokenizer **out, const char *path, we_error *err)
{
    we_weights *weights;
    const we_status st = we_weights_open(&weights, path, err);
    if (st) return st;
    const bool there = we_tok_in_gguf(we_weights_gguf(weights));
    we_weights_close(weights);
    return there ? we_tokenizer_open(out, path, err) : WE_OK;
}

we_status we_tokenizer_open_optional(we_tokenizer **out, const char *path, we_error *err)
{
    *out = NULL;
    if (we_is_gguf(path)) return open_gguf_optional(out, path, err);
    return we_tok_has_vocab(path) ? we_tokenizer_open(out, path, err) : WE_OK;
}

we_status we_tokenize(const we_tokenizer *t, const char *text, size_t len, bool special, int32_t **ids, size_t *n,
                      we_error *err)
{
    we_ids out = { 0 };
    const we_status st = we_tok_encode(t->tok, (we_str){ text, len }, special, &out, err);
    if (st) we_ids_deinit(&out);
    *ids = st ? NULL : out.ids;
    *n = st ? 0 : out.n;
    return st;
}

we_status we_detokenize(const we_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, char **text,
                        size_t *len, we_error *err)
{
    we_buf out = { 0 };
    *text = NULL;
    *len = 0;
    we_status st = we_tok_decode(t->tok, ids, n, skip_special, &out, err);
    if (!st) st = we_buf_status(&out, err, "the text");
    if (!st && !(*text = we_buf_take(&out, len))) st = we_fail(err, WE_E_NOMEM, "no memory for the text");
    we_buf_deinit(&out);
    return st;
}

struct we_detokenizer {
    we_tok_stream stream;
};

we_status we_detokenizer_open(we_detokenizer **out, const we_tokenizer *t, bool skip_special, we_error *err)
{
    *out = we_calloc(1, sizeof **out);
    if (!*out) return we_fail(err, WE_E_NOMEM, "no memory for a streaming decode");
    we_tok_stream_init(&(*out)->stream, t->tok, skip_special);
    return WE_OK;
}

void we_detokenizer_close(we_detokenizer *d)
{
    if (!d) return;
    we_tok_stream_deinit(&d->stream);
    we_free(d);
}

static we_status give_piece(we_status st, we_str piece, const char **text, size_t *len)
{
    *text = st || !piece.ptr ? "" : piece.ptr;
    *len = st ? 0 : piece.len;
    return st;
}

we_status we_detokenizer_feed(we_detokenizer *d, int32_t id, const char **text, size_t *len, we_error *err)
{
    we_str piece = { 0 };
    const we_status st = we_tok_stream_feed(&d->stream, id, &piece, err);
    return give_piece(st, piece, text, len);
}

we_status we_detokenizer_flush(we_detokenizer *d, const char **text, size_t *len, we_error *err)
{
    we_str piece = { 0 };
    const we_status st = we_tok_stream_flush(&d->stream, &piece, err);
    return give_piece(st, piece, text, len);
}

/* ---- Chat templates ---- */

static we_status parse_json(we_arena *arena, const char *what, const char *text, we_json_type type, const we_json **out,
                            we_error *err)
{
    we_error why = { 0 };
    const we_status st = we_json_parse(arena, we_str_from(text), out, &why);
    if (st)
        return we_fail(err, st == WE_E_FORMAT ? WE_E_ARG : st, "%s: %s", what,
                       why.message); /* no file's: the caller's */
    if ((*out)->type != type)
        return we_fail(err, WE_E_ARG, "%s: is %s, expected %s", what, we_json_type_name(*out),
                       type == WE_JSON_ARRAY ? "an array" : "an object");
    return WE_OK;
}

static we_status messages_json(const we_conversation *c, we_buf *out, we_error *err)
{
    we_json_writer w = { .buf = out };
    we_json_begin_array(&w);
    for (size_t i = 0; i < c->n_messages; i++) {
        if (!c->messages[i].role || !c->messages[i].content)
            return we_fail(err, WE_E_ARG, "message %zu has no role or no content", i);
        const we_str role = we_str_from(c->messages[i].role), content = we_str_from(c->messages[i].content);
        if (we_utf8_valid(role) != role.len || we_utf8_valid(content) != content.len)
            return we_fail(err, WE_E_FORMAT, "message %zu is not UTF-8 (byte %zu)", i, we_utf8_valid(content));
        we_json_begin_object(&w);
        we_json_key(&w, "role");
        we_json_write_str(&w, role);
        we_json_key(&w, "content");
        we_json_write_str(&w, content);
        we_json_end_object(&w);
    }
    we_json_end_array(&w);
    return we_buf_status(out, err, "the messages");
}

/* bos_token and its kin, for the template's variables. */
static size_t special_tokens(const we_tokenizer *t, we_chat_special *out, size_t capacity)
{
    size_t n = 0;
    we_str content;
    while (n < capacity && we_tok_special_at(t->tok, n, &out[n].role, &out[n].content)) n++;
    /* A family's format asks for these two; where the configuration is silent, the tokenizer and the model know them. */
    if (t->family && n < capacity && !we_tok_special(t->tok, "bos_token", &content) &&
        we_tok_token(t->tok, we_tok_bos_id(t->tok), &content))
        out[n++] = (we_chat_special){ WE_STR("bos_token"), content };
    if (t->family && n < capacity && !we_tok_special(t->tok, "eos_token", &content) && t->eos.n &&
        we_tok_token(t->tok, t->eos.ids[0], &content))
        out[n++] = (we_chat_special){ WE_STR("eos_token"), content };
    return n;
}

static we_status render(const we_tokenizer *t, const we_conversation *c, we_arena *arena, we_buf *out, we_error *err)
{
    const bool go_on = c->continue_final_message;
    we_chat_input input = { .add_generation_prompt = !c->no_generation_prompt && !go_on };
    if (go_on) input.continue_field = c->continue_field ? c->continue_field : "content";
    we_status st = WE_OK;
    const char *messages = c->messages_json;
    we_buf made = { 0 };
    if (!messages) {
        st = messages_json(c, &made, err);
        char *copy = st ? NULL : we_arena_strndup(arena, made.ptr, made.len); /* the tree points into it */
        if (!st && !copy) st = we_fail(err, WE_E_NOMEM, "no memory for the messages");
        messages = copy;
        we_buf_deinit(&made);
    }
    if (!st) st = parse_json(arena, "messages", messages, WE_JSON_ARRAY, &input.messages, err);
    if (!st && c->tools_json) st = parse_json(arena, "tools", c->tools_json, WE_JSON_ARRAY, &input.tools, err);
    if (!st && c->documents_json)
        st = parse_json(arena, "documents", c->documents_json, WE_JSON_ARRAY, &input.documents, err);
    if (!st && c->variables_json)
        st = parse_json(arena, "template variables", c->variables_json, WE_JSON_OBJECT, &input.variables, err);
    if (st) return st;

    const size_t which = input.tools && t->templates[1] ? 1 : 0;
    if (!t->templates[which])
        return we_fail(err, t->template_errors[which].status, "chat template: %s", t->template_errors[which].message);
    we_chat_special special[32];
    return we_chat_render(t->templates[which], &input, special, special_tokens(t, special, WE_COUNT(special)), c->date,
                          out, err);
}

static we_status take_text(we_status st, we_buf *out, char **text, size_t *len, we_error *err)
{
    *text = NULL;
    *len = 0;
    if (!st) st = we_buf_status(out, err, "the prompt");
    if (!st && !(*text = we_buf_take(out, len))) st = we_fail(err, WE_E_NOMEM, "no memory for the prompt");
    we_buf_deinit(out);
    return st;
}

we_status we_template_render(const we_tokenizer *t, const we_conversation *conversation, char **text, size_t *len,
                             we_error *err)
{
    we_conversation c = WE_CONVERSATION_INIT;
    WE_REFUSE_UNSIZED(conversation, "WE_CONVERSATION_INIT");
    WE_TAKE_OPTIONS(c, conversation);
    we_arena arena = { 0 };
    we_buf out = { 0 };
    we_status st = render(t, &c, &arena, &out, err);
    st = take_text(st, &out, text, len, err);
    we_arena_deinit(&arena);
    return st;
}

we_status we_template_render_source(const char *source, size_t source_len, const char *context_json, const char *date,
                                    char **text, size_t *len, we_error *err)
{
    we_arena arena = { 0 };
    we_buf out = { 0 };
    we_template *t = NULL;
    const we_json *context = NULL;
    we_status st = parse_json(&arena, "context", context_json, WE_JSON_OBJECT, &context, err);
    if (!st) st = we_template_parse(&t, (we_str){ source, source_len }, err);
    if (!st) st = we_template_run(t, context, date, NULL, &out, err);
    st = take_text(st, &out, text, len, err);
    we_template_free(t);
    we_arena_deinit(&arena);
    return st;
}
