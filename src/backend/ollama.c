/* SPDX-License-Identifier: Apache-2.0
 * ollama.c - Ollama's own interface: /api/version, /api/tags, /api/ps, /api/chat, /api/generate. Answers are lines of JSON whose
 * last one has "done" and the times in nanoseconds. A model is loaded by an empty request and unloaded by one with keep_alive 0.
 * A conversation that ends with a message of the assistant is continued by itself.
 * Source: docs/api.md of ollama/ollama (read in 2026); llama3.2 means llama3.2:latest. */
#include "backend/backend_int.h"
#include <math.h>

/* ---- Inspecting ---- */

static int left_ms(int wait_ms, double start_s)
{
    if (wait_ms <= 0) return 0;
    const int left = wait_ms - (int)((we_now_s() - start_s) * 1000);
    return WE_MAX(left, 1);
}

static bool same_model(const char *name, we_str other)
{
    const we_str n = we_str_from(name);
    if (we_str_eq(n, other)) return true;
    const we_str tag = WE_STR(":latest");
    return we_str_starts_with(other, n) && we_str_eq((we_str){ other.ptr + n.len, other.len - n.len }, tag);
}

static we_status add_models(we_backend_report *report, const we_json *models, we_error *err)
{
    for (const we_json *m = models ? models->first : NULL; m; m = m->next) {
        const we_str name = we_text_of(we_json_get(m, "name"));
        if (!name.len) continue;
        we_backend_model *added = we_report_add(report, name);
        if (!added) return we_fail(err, WE_E_NOMEM, "no memory for a list of models");
        added->bytes = (uint64_t)we_number_of(we_json_get(m, "size"));
    }
    return WE_OK;
}

static void mark_loaded(we_backend_report *report, const we_json *models)
{
    for (const we_json *m = models ? models->first : NULL; m; m = m->next)
        for (size_t i = 0; i < report->n_models; i++)
            if (same_model(report->models[i].name, we_text_of(we_json_get(m, "name")))) report->models[i].loaded = true;
}

typedef enum part { VERSION, TAGS, RUNNING } part;

static we_status inspect_part(we_backend *b, we_backend_report *report, part which, int wait_ms, we_error *err)
{
    static const char *const paths[] = { "/api/version", "/api/tags", "/api/ps" };
    we_net_response response = { 0 };
    we_arena arena = { 0 };
    const we_json *root;
    we_status st = we_server_json(b, &(we_server_call){ .path = paths[which], .timeout_ms = wait_ms }, &response,
                                  &arena, &root, err);
    const we_json *models = st ? NULL : we_json_get(root, "models");
    if (!st && which == VERSION) {
        const we_str version = we_text_of(we_json_get(root, "version"));
        report->version = we_arena_strndup(&report->arena, version.ptr, WE_MIN(version.len, (size_t)40));
        if (!version.len)
            st = we_server_fail(b, err, WE_E_FORMAT, " is not an Ollama: it tells no version");
        else if (!report->version)
            st = we_fail(err, WE_E_NOMEM, "no memory for a version");
    } else if (which == TAGS && models) {
        st = add_models(report, models, err);
    } else if (which == RUNNING && models) {
        mark_loaded(report, models);
    }
    we_arena_deinit(&arena);
    we_net_response_deinit(&response);
    return st;
}

static we_status inspect(we_backend *b, we_backend_report *report, int wait_ms, we_error *err)
{
    const double start_s = we_now_s();
    we_status st = inspect_part(b, report, VERSION, wait_ms, err);
    report->latency_ms = (we_now_s() - start_s) * 1000;
    if (!st) st = inspect_part(b, report, TAGS, left_ms(wait_ms, start_s), err);
    if (!st && inspect_part(b, report, RUNNING, left_ms(wait_ms, start_s), NULL) == WE_E_NOMEM) /* since 0.1.33 */
        st = we_fail(err, WE_E_NOMEM, "no memory for a list of models");
    return st ? st : we_report_running(report, err);
}

/* ---- What is sent ---- */

static void write_options(we_json_writer *w, const we_backend *b, const we_generate_options *o)
{
    we_json_key(w, "options");
    we_json_begin_object(w);
    if (b->options.context > 0) we_write_number(w, "num_ctx", b->options.context);
    if (o) {
        if (o->max_tokens > 0) we_write_number(w, "num_predict", o->max_tokens);
        if (!isnan(o->temperature)) we_write_number(w, "temperature", we_widened(o->temperature));
        if (o->top_p > 0) we_write_number(w, "top_p", we_widened(o->top_p));
        if (o->top_k > 0) we_write_number(w, "top_k", o->top_k);
        if (o->min_p > 0) we_write_number(w, "min_p", we_widened(o->min_p));
        if (o->repetition_penalty > 0) we_write_number(w, "repeat_penalty", we_widened(o->repetition_penalty));
        if (o->repetition_context > 0) we_write_number(w, "repeat_last_n", o->repetition_context);
        if (o->seed) we_write_number(w, "seed", (double)(o->seed & 0x7FFFFFFF));
        we_write_stop(w, o);
    }
    we_json_end_object(w);
}

/* A number of seconds, or a duration such as "5m". */
static void write_keep_alive(we_json_writer *w, const char *keep_alive)
{
    int64_t seconds;
    if (!keep_alive) return;
    we_json_key(w, "keep_alive");
    if (we_parse_i64(we_str_from(keep_alive), &seconds))
        we_json_write_i64(w, seconds);
    else
        we_json_write_str(w, we_str_from(keep_alive));
}

/* The text of OpenAI's parts goes into one string, pictures beside it as base64. */
static we_status write_parts(we_json_writer *w, const we_json *parts, we_error *err)
{
    we_buf text = { 0 };
    size_t n_images = 0;
    for (const we_json *p = parts->first; p; p = p->next) {
        we_buf_append_str(&text, we_text_of(we_json_get(p, "text")));
        if (we_json_get(p, "image_url")) n_images++;
    }
    we_json_key(w, "content");
    we_json_write_str(w, we_buf_str(&text));
    const we_status st = we_buf_status(&text, err, "a message");
    we_buf_deinit(&text);
    if (st || n_images == 0) return st;
    we_json_key(w, "images");
    we_json_begin_array(w);
    for (const we_json *p = parts->first; p; p = p->next) {
        const we_json *image = we_json_get(p, "image_url");
        const we_str url = we_text_of(we_json_get(image, "url"));
        const char *comma = url.len ? memchr(url.ptr, ',', url.len) : NULL;
        if (!image) continue;
        if (!we_str_starts_with(url, WE_STR("data:")) || !comma)
            return we_fail(err, WE_E_UNSUPPORTED,
                           "Ollama takes pictures in the message itself (data:...), not by address");
        we_json_write_str(w, (we_str){ comma + 1, url.len - (size_t)(comma + 1 - url.ptr) });
    }
    we_json_end_array(w);
    return WE_OK;
}

/* OpenAI carries a call's arguments as text, Ollama as an object. */
static we_status write_calls(we_json_writer *w, const we_json *calls, we_error *err)
{
    we_json_key(w, "tool_calls");
    we_json_begin_array(w);
    for (const we_json *c = calls->first; c; c = c->next) {
        const we_json *function = we_json_get(c, "function"), *arguments = we_json_get(function, "arguments"),
                      *parsed = arguments;
        we_arena arena = { 0 };
        we_status st = WE_OK;
        if (we_json_is(arguments, WE_JSON_STRING)) st = we_json_parse(&arena, arguments->text, &parsed, err);
        we_json_begin_object(w);
        we_json_key(w, "function");
        we_json_begin_object(w);
        we_json_key(w, "name");
        we_json_write_str(w, we_text_of(we_json_get(function, "name")));
        we_json_key(w, "arguments");
        if (!st && we_json_is(parsed, WE_JSON_OBJECT))
            we_json_write_tree(w, parsed);
        else
            we_json_write_raw(w, WE_STR("{}"));
        we_json_end_object(w);
        we_json_end_object(w);
        we_arena_deinit(&arena);
        if (st)
            return st == WE_E_NOMEM ? st
                                    : we_fail(err, WE_E_ARG, "messages_json: the arguments of a tool call are no JSON");
    }
    we_json_end_array(w);
    return WE_OK;
}

static we_status write_message(we_json_writer *w, const we_json *m, we_error *err)
{
    we_status st = WE_OK;
    we_json_begin_object(w);
    for (const we_json *field = m->first; field && !st; field = field->next) {
        if (we_str_is(field->key, "content") && field->type == WE_JSON_ARRAY) {
            st = write_parts(w, field, err);
        } else if (we_str_is(field->key, "tool_calls") && field->type == WE_JSON_ARRAY) {
            st = write_calls(w, field, err);
        } else if (field->type != WE_JSON_NULL) {
            const bool renamed = we_str_is(field->key, "name");
            we_json_write_key(w, renamed ? WE_STR("tool_name") : field->key);
            we_json_write_tree(w, field);
        }
    }
    we_json_end_object(w);
    return st;
}

/* The messages of the caller's JSON, in Ollama's shape. */
static we_status write_messages_json(we_json_writer *w, const char *json, we_error *err)
{
    we_arena arena = { 0 };
    we_error why;
    const we_json *root;
    we_status st = we_json_parse(&arena, we_str_from(json), &root, &why);
    if (st)
        st = we_fail(err, st == WE_E_NOMEM ? st : WE_E_ARG, "messages_json: %s", why.message);
    else if (root->type != WE_JSON_ARRAY)
        st = we_fail(err, WE_E_ARG, "messages_json is %s, expected an array", we_json_type_name(root));
    we_json_key(w, "messages");
    we_json_begin_array(w);
    for (const we_json *m = st ? NULL : root->first; m && !st; m = m->next) st = write_message(w, m, err);
    we_json_end_array(w);
    we_arena_deinit(&arena);
    return st;
}

/* enable_thinking, which several templates know, is Ollama's "think". */
static we_status write_variables(we_json_writer *w, const char *json, we_error *err)
{
    we_arena arena = { 0 };
    we_error why;
    const we_json *root;
    bool think;
    we_status st = we_json_parse(&arena, we_str_from(json), &root, &why);
    if (st)
        st = we_fail(err, st == WE_E_NOMEM ? st : WE_E_ARG, "variables_json: %s", why.message);
    else if (we_json_bool(we_json_get(root, "enable_thinking"), &think)) {
        we_json_key(w, "think");
        we_json_write_bool(w, think);
    }
    we_arena_deinit(&arena);
    return st;
}

static we_status write_conversation(we_json_writer *w, const we_backend *b, const we_conversation *c, we_error *err)
{
    we_conversation plain = *c;
    if (c->messages_json) plain.messages_json = NULL;
    we_status st = WE_OK;
    if (c->messages_json && !c->documents_json)
        st = write_messages_json(w, c->messages_json, err);
    else
        st = we_conversation_write(w, b, &plain, err);
    if (!st && c->tools_json) {
        we_json_key(w, "tools");
        st = we_json_copy(w, c->tools_json, WE_JSON_ARRAY, "tools_json", err);
    }
    if (!st && c->variables_json) st = write_variables(w, c->variables_json, err);
    return st;
}

static we_status write_request(we_buf *out, const we_backend *b, const char *model, const we_backend_ask *ask,
                               const we_generate_options *o, we_error *err)
{
    we_json_writer w = { .buf = out };
    we_status st = WE_OK;
    we_json_begin_object(&w);
    we_json_key(&w, "model");
    we_json_write_str(&w, we_str_from(model));
    we_json_key(&w, "stream");
    we_json_write_bool(&w, true);
    if (ask->conversation) {
        st = write_conversation(&w, b, ask->conversation, err);
    } else {
        we_json_key(&w, "prompt");
        we_json_write_str(&w, we_str_from(ask->prompt));
        we_json_key(&w, "raw");
        we_json_write_bool(&w, true);
    }
    write_options(&w, b, o);
    write_keep_alive(&w, b->options.keep_alive);
    we_json_end_object(&w);
    return st ? st : we_buf_status(out, err, "a request");
}

/* ---- What comes ---- */

typedef struct receiver {
    we_intake in;
    we_stream stream;
    we_buf words; /* the beginning of something that is no JSON */
    size_t n_tools;
    bool begun, is_other;
} receiver;

static bool take_calls(receiver *r, const we_json *calls)
{
    for (const we_json *c = we_json_is(calls, WE_JSON_ARRAY) ? calls->first : NULL; c; c = c->next) {
        const we_json *function = we_json_get(c, "function"), *arguments = we_json_get(function, "arguments");
        we_buf text = { 0 };
        we_json_writer w = { .buf = &text };
        if (arguments) we_json_write_tree(&w, arguments);
        const bool ok = text.failed ? we_intake_fail(&r->in, WE_E_NOMEM, ": no memory for the answer")
                                    : we_intake_tool(&r->in, r->n_tools++, we_text_of(we_json_get(c, "id")),
                                                     we_text_of(we_json_get(function, "name")), we_buf_str(&text));
        we_buf_deinit(&text);
        if (!ok) return false;
    }
    return true;
}

static void take_done(we_intake *in, const we_json *root)
{
    in->n_prompt = (size_t)we_number_of(we_json_get(root, "prompt_eval_count"));
    in->n_tokens = (size_t)we_number_of(we_json_get(root, "eval_count"));
    in->load_s = we_number_of(we_json_get(root, "load_duration")) / 1e9;
    in->stat_prefill_s = we_number_of(we_json_get(root, "prompt_eval_duration")) / 1e9;
    in->stat_decode_s = we_number_of(we_json_get(root, "eval_duration")) / 1e9;
    in->finish = we_str_is(we_text_of(we_json_get(root, "done_reason")), "length") ? WE_FINISH_LENGTH : WE_FINISH_EOS;
    in->ended = true;
}

static bool take_object(void *user, const we_json *root)
{
    receiver *r = user;
    bool done = false;
    const we_json *message = we_json_get(root, "message");
    if (!we_intake_check(&r->in, root)) return false;
    if (!message) message = root; /* of /api/generate: "response", "thinking" beside the rest */
    if (!we_intake_reasoning(&r->in, we_text_of(we_json_get(message, "thinking"))) ||
        !we_intake_text(&r->in, we_text_of(we_json_get(message, message == root ? "response" : "content"))) ||
        !take_calls(r, we_json_get(message, "tool_calls")))
        return false;
    if (we_json_bool(we_json_get(root, "done"), &done) && done) take_done(&r->in, root);
    return true;
}

static bool on_line(void *user, we_str event, we_str line)
{
    receiver *r = user;
    (void)event;
    return r->in.ended || we_intake_json(&r->in, line, take_object, r);
}

static bool receive(void *user, const char *bytes, size_t n)
{
    receiver *r = user;
    we_str s = { bytes, n };
    while (!r->begun && s.len && strchr(" \t\r\n", s.ptr[0])) s = (we_str){ s.ptr + 1, s.len - 1 };
    if (!r->begun && s.len) r->is_other = s.ptr[0] != '{';
    r->begun = r->begun || s.len > 0;
    if (r->is_other) {
        we_buf_append_str(&r->words, s);
        return r->words.len < 2048 && !r->words.failed;
    }
    if (we_stream_feed(&r->stream, s, on_line, r)) return true;
    if (r->stream.too_long) return we_intake_fail(&r->in, WE_E_FORMAT, " sent a line of more than 4 MiB");
    if (!r->in.failed && !r->in.cancelled) return we_intake_fail(&r->in, WE_E_NOMEM, ": no memory for the answer");
    return false;
}

static void finish(receiver *r)
{
    char words[256];
    if (r->is_other)
        we_intake_fail(&r->in, WE_E_FORMAT, " answers something that is not its interface: \"%s\"",
                       we_server_words(words, we_buf_str(&r->words)));
    else if (!r->in.failed && !r->in.cancelled)
        we_stream_end(&r->stream, on_line, r);
}

/* Its model library is one command away. */
static we_status no_model(we_backend *b, const char *model, we_error *err)
{
    const we_status st = we_server_no_model(b, model, err);
    if (err && strstr(err->message, "has no model")) {
        we_error whole = *err;
        we_fail(err, st, "%s; `ollama pull %s` fetches it", whole.message, model);
    }
    return st;
}

static we_status answer(we_backend *b, const we_backend_ask *ask, const we_generate_options *o, we_backend_reply *reply,
                        we_error *err)
{
    receiver r = { 0 };
    we_buf body = { 0 };
    we_net_response response = { 0 };
    we_status st = we_server_model(b, &reply->model, err);
    if (!st) st = write_request(&body, b, reply->model, ask, o, err);
    if (!st) {
        we_intake_begin(&r.in, b, ask, o);
        st = we_server_send(b,
                            &(we_server_call){ .path = ask->conversation ? "/api/chat" : "/api/generate",
                                               .body = &body,
                                               .on_body = receive,
                                               .user = &r,
                                               .waits_for_load = true },
                            &response, err);
        if (!st && response.status >= 300) st = we_server_refused(b, &response, err);
        if (!st || st == WE_E_NETWORK || r.is_other) finish(&r);
        st = we_intake_end(&r.in, st, reply, err);
    }
    if (st == WE_E_NOT_FOUND && reply->model) st = no_model(b, reply->model, err);
    we_stream_deinit(&r.stream);
    we_buf_deinit(&r.words);
    we_buf_deinit(&body);
    we_net_response_deinit(&response);
    return st;
}

/* ---- Loading ---- */

/* A request without a prompt; keep_alive "0" unloads. */
static we_status keep(we_backend *b, const char *keep_alive, we_error *err)
{
    char *model;
    we_buf body = { 0 };
    we_net_response response = { 0 };
    we_arena arena = { 0 };
    const we_json *root;
    we_json_writer w = { .buf = &body };
    we_status st = we_server_model(b, &model, err);
    if (st) return st;
    we_json_begin_object(&w);
    we_json_key(&w, "model");
    we_json_write_str(&w, we_str_from(model));
    we_json_key(&w, "stream");
    we_json_write_bool(&w, false);
    write_keep_alive(&w, keep_alive);
    if (b->options.context > 0) write_options(&w, b, NULL);
    we_json_end_object(&w);
    st = we_buf_status(&body, err, "a request");
    if (!st)
        st = we_server_json(b, &(we_server_call){ .path = "/api/generate", .body = &body, .waits_for_load = true },
                            &response, &arena, &root, err);
    if (st == WE_E_NOT_FOUND) st = no_model(b, model, err);
    we_arena_deinit(&arena);
    we_net_response_deinit(&response);
    we_buf_deinit(&body);
    we_free(model);
    return st;
}

static we_status load(we_backend *b, we_error *err) { return keep(b, b->options.keep_alive, err); }

static we_status unload(we_backend *b, we_error *err) { return keep(b, "0", err); }

const we_backend_ops we_backend_ollama = { we_server_open, we_server_close,
                                           inspect,        load,
                                           unload,         answer,
                                           true,           "start it with `ollama serve`, or open its app" };
