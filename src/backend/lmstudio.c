/* SPDX-License-Identifier: Apache-2.0
 * lmstudio.c - LM Studio, over the best interface that it has:
 *
 *     /api/v1   since 0.4: models with their loaded instances, load, unload, chat with figures. Its chat keeps conversations on
 *               the server and takes no earlier answers, no seed and no stop texts, so only a first turn without those goes there
 *     /api/v0   since 0.3.6: models with their state; OpenAI's chat and completions with figures ("stats")
 *     /v1       always: OpenAI's
 *
 * An address that it does not know is answered with 200 and {"error": "Unexpected endpoint or method. ..."}. Models load by
 * themselves when they are asked for. A conversation that ends with a message of the assistant is continued; some of its
 * runtimes repeat that message first (lmstudio-bug-tracker #2041).
 * Source: lmstudio.ai/docs/developer (2_rest, 3_openai-compat; read in 2026). */
#include "backend/backend_int.h"
#include <math.h>

typedef enum level { NOT_ASKED, OPENAI, V0, V1 } level;

typedef struct studio {
    level level;
} studio;

static level *level_of(we_backend *b) { return &((studio *)b->own)->level; }

static we_status open_studio(we_backend *b, we_error *err)
{
    b->own = we_calloc(1, sizeof(studio));
    return b->own ? we_server_open(b, err) : we_fail(err, WE_E_NOMEM, "no memory for a backend");
}

static void close_studio(we_backend *b)
{
    we_server_close(b);
    we_free(b->own);
}

/* ---- Inspecting ---- */

static we_status add_model(we_backend_report *report, const we_json *m, we_error *err)
{
    const we_str key = we_text_of(we_json_get(m, "key"));
    if (!key.len || we_str_is(we_text_of(we_json_get(m, "type")), "embedding")) return WE_OK;
    we_backend_model *added = we_report_add(report, key);
    if (!added) return we_fail(err, WE_E_NOMEM, "no memory for a list of models");
    const we_json *instances = we_json_get(m, "loaded_instances");
    added->loaded = we_json_is(instances, WE_JSON_ARRAY) && instances->n > 0;
    added->bytes = (uint64_t)we_number_of(we_json_get(m, "size_bytes"));
    added->context = (int)WE_MIN(we_number_of(we_json_get(m, "max_context_length")), 2e9);
    return WE_OK;
}

/* Gives /api/v1's models, WE_E_UNSUPPORTED where this LM Studio is older. */
static we_status get_v1(we_backend *b, we_net_response *response, we_arena *arena, const we_json **models, int wait_ms,
                        we_error *err)
{
    const we_json *root;
    we_status st = we_server_json(b, &(we_server_call){ .path = "/api/v1/models", .timeout_ms = wait_ms }, response,
                                  arena, &root, err);
    if (st == WE_E_NOT_FOUND) return WE_E_UNSUPPORTED;
    if (st) return st;
    *models = we_json_get(root, "models");
    return we_json_is(*models, WE_JSON_ARRAY) ? WE_OK : WE_E_UNSUPPORTED;
}

static we_status inspect_v1(we_backend *b, we_backend_report *report, int wait_ms, we_error *err)
{
    we_net_response response = { 0 };
    we_arena arena = { 0 };
    const we_json *models = NULL;
    we_status st = get_v1(b, &response, &arena, &models, wait_ms, err);
    for (const we_json *m = st ? NULL : models->first; m && !st; m = m->next) st = add_model(report, m, err);
    if (!st) st = we_report_running(report, err);
    we_arena_deinit(&arena);
    we_net_response_deinit(&response);
    return st;
}

static we_status inspect(we_backend *b, we_backend_report *report, int wait_ms, we_error *err)
{
    const double start_s = we_now_s();
    we_error why;
    we_status st = inspect_v1(b, report, wait_ms, err);
    report->latency_ms = (we_now_s() - start_s) * 1000;
    level found = V1;
    if (st == WE_E_UNSUPPORTED) {
        const int left = wait_ms ? WE_MAX(wait_ms - (int)report->latency_ms, 1) : 0;
        st = we_openai_models(b, "/api/v0/models", report, left, &why);
        found = V0;
        if (st == WE_E_NOT_FOUND || st == WE_E_FORMAT) {
            const double ms = (we_now_s() - start_s) * 1000;
            st = we_openai_models(b, "/v1/models", report, wait_ms ? WE_MAX(wait_ms - (int)ms, 1) : 0, &why);
            found = OPENAI;
        }
        if (st && err) *err = why;
    }
    if (st) return st;
    *level_of(b) = found;
    report->version = found == V1 ? "0.4 or later" : found == V0 ? "0.3.6 or later" : NULL;
    return WE_OK;
}

static we_status ask_level(we_backend *b, we_error *err)
{
    if (*level_of(b) != NOT_ASKED) return WE_OK;
    we_backend_report report = { 0 };
    const we_status st = inspect(b, &report, 0, err);
    we_backend_report_deinit(&report);
    return st;
}

/* ---- Loading ---- */

static we_status post(we_backend *b, const char *path, const we_buf *body, we_error *err)
{
    we_net_response response = { 0 };
    we_arena arena = { 0 };
    const we_json *root;
    char words[256];
    we_status st = we_buf_status(body, err, "a request");
    if (!st) st = we_server_json(b, &(we_server_call){ .path = path, .body = body }, &response, &arena, &root, err);
    if (!st && we_json_get(root, "error"))
        st = we_server_fail(b, err, we_server_error_is_model(root) ? WE_E_NOT_FOUND : WE_E_NETWORK, " failed: %s",
                            we_server_words(words, we_server_error_text(root)));
    we_arena_deinit(&arena);
    we_net_response_deinit(&response);
    return st;
}

static we_status load_named(we_backend *b, const char *model, we_error *err)
{
    we_backend_report report = { 0 };
    we_buf body = { 0 };
    we_json_writer w = { .buf = &body };
    bool loaded = false, known = false;
    we_status st = inspect(b, &report, 0, err);
    for (size_t i = 0; !st && i < report.n_models; i++)
        if (strcmp(report.models[i].name, model) == 0) known = true, loaded = report.models[i].loaded;
    we_backend_report_deinit(&report);
    if (st || loaded) return st; /* another load would make a second instance */
    if (*level_of(b) != V1) {    /* it loads with the first question */
        if (known) return WE_OK;
        we_server_fail(b, err, WE_E_NOT_FOUND, " has no model \"%s\"", model);
        return we_server_no_model(b, model, err);
    }
    we_json_begin_object(&w);
    we_json_key(&w, "model");
    we_json_write_str(&w, we_str_from(model));
    if (b->options.context > 0) we_write_number(&w, "context_length", b->options.context);
    we_json_end_object(&w);
    st = post(b, "/api/v1/models/load", &body, err);
    we_buf_deinit(&body);
    return st == WE_E_NOT_FOUND ? we_server_no_model(b, model, err) : st;
}

static we_status load(we_backend *b, we_error *err)
{
    char *model;
    we_status st = we_server_model(b, &model, err);
    if (!st) st = load_named(b, model, err);
    we_free(model);
    return st;
}

/* Every instance of the model. */
static we_status unload_instances(we_backend *b, const char *model, const we_json *models, we_error *err)
{
    we_status st = WE_OK;
    for (const we_json *m = models->first; m; m = m->next) {
        const we_json *instances = we_json_get(m, "loaded_instances");
        if (!we_str_is(we_text_of(we_json_get(m, "key")), model) || !we_json_is(instances, WE_JSON_ARRAY)) continue;
        for (const we_json *i = instances->first; i && !st; i = i->next) {
            we_buf body = { 0 };
            we_json_writer w = { .buf = &body };
            we_json_begin_object(&w);
            we_json_key(&w, "instance_id");
            we_json_write_str(&w, we_text_of(we_json_get(i, "id")));
            we_json_end_object(&w);
            st = post(b, "/api/v1/models/unload", &body, err);
            we_buf_deinit(&body);
        }
    }
    return st;
}

/* Before 0.4 it can't be told; it unloads by itself after a while. */
static we_status unload(we_backend *b, we_error *err)
{
    we_net_response response = { 0 };
    we_arena arena = { 0 };
    const we_json *models = NULL;
    char *model;
    we_status st = we_server_model(b, &model, err);
    if (st) return st;
    st = get_v1(b, &response, &arena, &models, 0, err);
    if (!st) st = unload_instances(b, model, models, err);
    we_arena_deinit(&arena);
    we_net_response_deinit(&response);
    we_free(model);
    return st == WE_E_UNSUPPORTED ? WE_OK : st;
}

/* ---- The chat of /api/v1 ---- */

/* The system's message and the user's, where the conversation is no more than those and no option is set that is unknown there. */
static bool fits_v1(const we_backend_ask *ask, const we_generate_options *o, const char **system, const char **user)
{
    const we_conversation *c = ask->conversation;
    if (!c || c->messages_json || c->tools_json || c->variables_json || c->documents_json ||
        c->continue_final_message || o->n_stop || o->seed || o->temperature > 1 || c->n_messages < 1 ||
        c->n_messages > 2)
        return false;
    const we_message *last = &c->messages[c->n_messages - 1];
    *system = c->n_messages == 2 ? c->messages[0].content : NULL;
    *user = last->content;
    return strcmp(last->role, "user") == 0 && (c->n_messages == 1 || strcmp(c->messages[0].role, "system") == 0);
}

static void write_v1(we_buf *out, const we_backend *b, const char *model, const char *system, const char *user,
                     const we_generate_options *o)
{
    we_json_writer w = { .buf = out };
    we_json_begin_object(&w);
    we_json_key(&w, "model");
    we_json_write_str(&w, we_str_from(model));
    we_json_key(&w, "input");
    we_json_write_str(&w, we_str_from(user));
    if (system) {
        we_json_key(&w, "system_prompt");
        we_json_write_str(&w, we_str_from(system));
    }
    we_json_key(&w, "stream");
    we_json_write_bool(&w, true);
    we_json_key(&w, "store"); /* the conversation is ours to keep */
    we_json_write_bool(&w, false);
    if (o->max_tokens > 0) we_write_number(&w, "max_output_tokens", o->max_tokens);
    if (!isnan(o->temperature)) we_write_number(&w, "temperature", we_widened(o->temperature));
    if (o->top_p > 0) we_write_number(&w, "top_p", we_widened(o->top_p));
    if (o->top_k > 0) we_write_number(&w, "top_k", o->top_k);
    if (o->min_p > 0) we_write_number(&w, "min_p", we_widened(o->min_p));
    if (o->repetition_penalty > 0) we_write_number(&w, "repeat_penalty", we_widened(o->repetition_penalty));
    if (b->options.context > 0) we_write_number(&w, "context_length", b->options.context);
    we_json_end_object(&w);
}

typedef struct receiver {
    we_intake in;
    we_stream stream;
    we_buf words;  /* the beginning of what came */
    bool is_known; /* an event of this interface was seen */
} receiver;

static void take_end(we_intake *in, const we_json *result)
{
    const we_json *stats = we_json_get(result, "stats");
    const double rate = we_number_of(we_json_get(stats, "tokens_per_second"));
    in->n_prompt = (size_t)we_number_of(we_json_get(stats, "input_tokens"));
    in->n_tokens = (size_t)we_number_of(we_json_get(stats, "total_output_tokens"));
    in->stat_first_s = we_number_of(we_json_get(stats, "time_to_first_token_seconds"));
    in->stat_decode_s = rate > 0 ? (double)in->n_tokens / rate : 0;
    in->load_s = we_number_of(we_json_get(stats, "model_load_time_seconds"));
    const bool full = in->o->max_tokens > 0 && in->n_tokens >= (size_t)in->o->max_tokens;
    in->finish = full ? WE_FINISH_LENGTH : WE_FINISH_EOS;
    in->ended = true;
}

static bool take_object(void *user, const we_json *root)
{
    receiver *r = user;
    const we_str type = we_text_of(we_json_get(root, "type")), content = we_text_of(we_json_get(root, "content"));
    r->is_known = r->is_known || type.len > 0;
    if (we_str_is(type, "message.delta")) return we_intake_text(&r->in, content);
    if (we_str_is(type, "reasoning.delta")) return we_intake_reasoning(&r->in, content);
    if (we_str_is(type, "chat.end")) return take_end(&r->in, we_json_get(root, "result")), true;
    return we_intake_check(&r->in, root);
}

static bool on_event(void *user, we_str event, we_str data)
{
    receiver *r = user;
    (void)event; /* the data says it too, as "type" */
    return r->in.ended || data.len == 0 || we_intake_json(&r->in, data, take_object, r);
}

static bool receive(void *user, const char *bytes, size_t n)
{
    receiver *r = user;
    if (!r->is_known && r->words.len < 2048) we_buf_append(&r->words, bytes, WE_MIN(n, 2048 - r->words.len));
    if (!r->words.failed && we_stream_feed(&r->stream, (we_str){ bytes, n }, on_event, r)) return true;
    if (r->stream.too_long) return we_intake_fail(&r->in, WE_E_FORMAT, " sent a line of more than 4 MiB");
    if (!r->in.failed && !r->in.cancelled) return we_intake_fail(&r->in, WE_E_NOMEM, ": no memory for the answer");
    return false;
}

static void finish(receiver *r)
{
    char words[256];
    if (!r->in.failed && !r->in.cancelled) we_stream_end(&r->stream, on_event, r);
    if (r->is_known || r->in.failed || r->in.cancelled) return;
    if (r->words.len)
        we_intake_fail(&r->in, WE_E_FORMAT, " answers something that is not its interface: \"%s\"",
                       we_server_words(words, we_buf_str(&r->words)));
}

static we_status answer_v1(we_backend *b, const we_backend_ask *ask, const we_generate_options *o, const char *system,
                           const char *user, we_backend_reply *reply, we_error *err)
{
    receiver r = { .stream = { .is_sse = true } };
    we_buf body = { 0 };
    we_net_response response = { 0 };
    write_v1(&body, b, reply->model, system, user, o);
    we_status st = we_buf_status(&body, err, "a request");
    we_intake_begin(&r.in, b, ask, o);
    if (!st)
        st = we_server_send(
            b,
            &(we_server_call){
                .path = "/api/v1/chat", .body = &body, .on_body = receive, .user = &r, .waits_for_load = true },
            &response, err);
    if (!st && response.status >= 300) st = we_server_refused(b, &response, err);
    if (!st || st == WE_E_NETWORK) finish(&r);
    st = we_intake_end(&r.in, st, reply, err);
    we_stream_deinit(&r.stream);
    we_buf_deinit(&r.words);
    we_buf_deinit(&body);
    we_net_response_deinit(&response);
    return st == WE_E_NOT_FOUND ? we_server_no_model(b, reply->model, err) : st;
}

/* ---- Answering ---- */

static const we_openai_flavour v0 = { .chat = "/api/v0/chat/completions",
                                      .completions = "/api/v0/completions",
                                      .repetition_penalty = "repeat_penalty",
                                      .takes_usage = true,
                                      .continues = WE_CONTINUES_LAST };
static const we_openai_flavour plain = { .chat = "/v1/chat/completions",
                                         .completions = "/v1/completions",
                                         .repetition_penalty = "repeat_penalty",
                                         .takes_usage = true,
                                         .continues = WE_CONTINUES_LAST };

/* Should a version have dropped /api/v0, or not have a part of /api/v1, the next one is asked. */
static we_status answer(we_backend *b, const we_backend_ask *ask, const we_generate_options *o, we_backend_reply *reply,
                        we_error *err)
{
    const char *system = NULL, *user = NULL;
    we_status st = ask_level(b, err);
    if (!st) st = we_server_model(b, &reply->model, err);
    if (st) return st;
    level at = *level_of(b);
    if (at == V1 && !fits_v1(ask, o, &system, &user)) at = V0;
    for (;;) {
        we_error why = { 0 };
        st = at == V1 ? answer_v1(b, ask, o, system, user, reply, &why)
                      : we_openai_answer(b, at == V0 ? &v0 : &plain, reply->model, ask, o, reply, &why);
        if (!st || at == OPENAI || !strstr(why.message, "Unexpected endpoint")) {
            if (st && err) *err = why;
            return st;
        }
        we_result_deinit(&reply->result);
        *level_of(b) = at == V1 ? V0 : OPENAI;
        at = *level_of(b);
    }
}

const we_backend_ops we_backend_lmstudio = {
    open_studio, close_studio, inspect, load,
    unload,      answer,       true,    "start its server, on its Developer page or with `lms server start`"
};
