/* SPDX-License-Identifier: Apache-2.0
 * openai.c - servers with an OpenAI-style interface: /chat/completions and, raw, /completions, streamed as server-sent events.
 * LM Studio, llama_cpp.server, `transformers serve`, llama.cpp, vLLM and others speak it, each with its own additions, so what
 * comes is read generously: a whole JSON object in place of a stream, a missing [DONE], errors inside the stream, usage
 * anywhere. What tells a stream from an object from a web page is the first byte, not the content type.
 * Source: OpenAI API reference, "Chat" and "Completions" (2026); LM Studio's /api/v0 adds `stats`, llama.cpp `timings`. */
#include "backend/backend_int.h"
#include <math.h>

/* ---- What is sent ---- */

we_status we_json_copy(we_json_writer *w, const char *json, we_json_type type, const char *what, we_error *err)
{
    we_arena arena = { 0 };
    we_error why;
    const we_json *root;
    we_status st = we_json_parse(&arena, we_str_from(json), &root, &why);
    if (st) st = we_fail(err, st == WE_E_NOMEM ? st : WE_E_ARG, "%s: %s", what, why.message);
    if (!st && root->type != type)
        st = we_fail(err, WE_E_ARG, "%s is %s, expected %s", what, we_json_type_name(root),
                     type == WE_JSON_ARRAY ? "an array" : "an object");
    if (!st) we_json_write_tree(w, root);
    we_arena_deinit(&arena);
    return st;
}

we_status we_conversation_write(we_json_writer *w, const we_backend *b, const we_conversation *c, we_error *err)
{
    if (c->documents_json)
        return we_fail(err, WE_E_UNSUPPORTED, "%s takes no documents beside the messages: put them into a message",
                       b->row->name);
    if (c->continue_final_message && c->continue_field && strcmp(c->continue_field, "content") != 0)
        return we_fail(err, WE_E_UNSUPPORTED, "%s can't continue a message's \"%s\"", b->row->name, c->continue_field);
    we_json_key(w, "messages");
    if (c->messages_json) return we_json_copy(w, c->messages_json, WE_JSON_ARRAY, "messages_json", err);
    we_json_begin_array(w);
    for (size_t i = 0; i < c->n_messages; i++) {
        we_json_begin_object(w);
        we_json_key(w, "role");
        we_json_write_str(w, we_str_from(c->messages[i].role));
        we_json_key(w, "content");
        we_json_write_str(w, we_str_from(c->messages[i].content));
        we_json_end_object(w);
    }
    we_json_end_array(w);
    return WE_OK;
}

/* transformers' GenerationConfig, as a text. It stands in place of the model's own but for what it leaves out, and the server's
 * limit of 1024 tokens goes with it: without one, 20 would be the end. Where a temperature is asked for, sampling is meant, and
 * few models say do_sample by themselves. */
static void write_generation_config(we_json_writer *w, const we_generate_options *o)
{
    const bool samples = !isnan(o->temperature) && o->temperature > 0;
    if (!samples && o->top_k <= 0 && o->min_p <= 0 && o->repetition_penalty <= 0) return;
    we_buf text = { 0 };
    we_json_writer inner = { .buf = &text };
    we_json_begin_object(&inner);
    if (samples) {
        we_json_key(&inner, "do_sample");
        we_json_write_bool(&inner, true);
    }
    we_write_number(&inner, "max_new_tokens", o->max_tokens > 0 ? o->max_tokens : 1024);
    if (o->top_k > 0) we_write_number(&inner, "top_k", o->top_k);
    if (o->min_p > 0) we_write_number(&inner, "min_p", we_widened(o->min_p));
    if (o->repetition_penalty > 0) we_write_number(&inner, "repetition_penalty", we_widened(o->repetition_penalty));
    we_json_end_object(&inner);
    we_json_key(w, "generation_config");
    we_json_write_str(w, we_buf_str(&text));
    w->buf->failed = w->buf->failed || text.failed;
    we_buf_deinit(&text);
}

static void write_sampling(we_json_writer *w, const we_openai_flavour *f, const we_generate_options *o)
{
    if (o->max_tokens > 0) {
        we_write_number(w, "max_tokens", o->max_tokens);
    } else if (f->null_is_no_limit) {
        we_json_key(w, "max_tokens");
        we_json_write_null(w);
    }
    if (!isnan(o->temperature)) we_write_number(w, "temperature", we_widened(o->temperature));
    if (o->top_p > 0) we_write_number(w, "top_p", we_widened(o->top_p));
    if (f->takes_generation_config) {
        write_generation_config(w, o);
    } else {
        if (o->top_k > 0) we_write_number(w, "top_k", o->top_k);
        if (o->min_p > 0) we_write_number(w, "min_p", we_widened(o->min_p));
        if (o->repetition_penalty > 0) we_write_number(w, f->repetition_penalty, we_widened(o->repetition_penalty));
    }
    if (o->seed) we_write_number(w, "seed", (double)(o->seed & 0x7FFFFFFF));
    we_write_stop(w, o);
}

static we_status write_request(we_buf *out, const we_backend *b, const we_openai_flavour *f, const char *model,
                               const we_backend_ask *ask, const we_generate_options *o, we_error *err)
{
    const we_conversation *c = ask->conversation;
    we_json_writer w = { .buf = out };
    we_status st = WE_OK;
    we_json_begin_object(&w);
    we_json_key(&w, "model");
    we_json_write_str(&w, we_str_from(model));
    we_json_key(&w, "stream");
    we_json_write_bool(&w, true);
    if (f->takes_usage) {
        we_json_key(&w, "stream_options");
        we_json_write_raw(&w, WE_STR("{\"include_usage\":true}"));
    }
    write_sampling(&w, f, o);
    if (!c) {
        we_json_key(&w, "prompt");
        we_json_write_str(&w, we_str_from(ask->prompt));
    } else {
        st = we_conversation_write(&w, b, c, err);
        if (!st && c->tools_json) {
            we_json_key(&w, "tools");
            st = we_json_copy(&w, c->tools_json, WE_JSON_ARRAY, "tools_json", err);
        }
        if (!st && c->variables_json && f->takes_variables) {
            we_json_key(&w, "chat_template_kwargs");
            st = we_json_copy(&w, c->variables_json, WE_JSON_OBJECT, "variables_json", err);
        } else if (!st && c->variables_json) {
            we_log(backend, INFO, "%s takes no template variables: left out", b->row->name);
        }
        if (c->continue_final_message && f->continues == WE_CONTINUES_FLAG) {
            we_json_key(&w, "continue_final_message");
            we_json_write_bool(&w, true);
            we_json_key(&w, "add_generation_prompt");
            we_json_write_bool(&w, false);
        }
    }
    we_json_end_object(&w);
    return st ? st : we_buf_status(out, err, "a request");
}

/* ---- What comes ---- */

typedef struct receiver {
    we_intake in;
    we_stream stream;
    we_buf whole; /* an answer that is one JSON object, or the first bytes of one that is nothing */
    enum { UNKNOWN, STREAM, OBJECT } form;
    bool has_choice, done;
} receiver;

#define MAX_OBJECT ((size_t)32 << 20)
#define MAX_WORDS ((size_t)2048)

/* A string, or an array of parts of which the text ones count. */
static bool take_content(we_intake *in, const we_json *content)
{
    if (!we_json_is(content, WE_JSON_ARRAY)) return we_intake_text(in, we_text_of(content));
    for (const we_json *part = content->first; part; part = part->next)
        if (!we_intake_text(in, we_text_of(we_json_get(part, "text")))) return false;
    return true;
}

static bool take_tools(we_intake *in, const we_json *calls)
{
    if (!we_json_is(calls, WE_JSON_ARRAY)) return true;
    int64_t at = 0;
    for (const we_json *call = calls->first; call; call = call->next, at++) {
        const we_json *function = we_json_get(call, "function");
        int64_t index = at;
        we_json_i64(we_json_get(call, "index"), &index);
        if (!we_intake_tool(in, index < 0 ? SIZE_MAX : (size_t)index, we_text_of(we_json_get(call, "id")),
                            we_text_of(we_json_get(function, "name")), we_text_of(we_json_get(function, "arguments"))))
            return false;
    }
    return true;
}

static bool take_message(we_intake *in, const we_json *message)
{
    we_str thoughts = we_text_of(we_json_get(message, "reasoning_content"));
    if (!thoughts.len) thoughts = we_text_of(we_json_get(message, "reasoning"));
    return we_intake_reasoning(in, thoughts) && take_content(in, we_json_get(message, "content")) &&
           take_tools(in, we_json_get(message, "tool_calls"));
}

static void take_count(size_t *out, const we_json *v)
{
    const double d = we_number_of(v);
    if (d > 0) *out = (size_t)d;
}

static void take_figures(we_intake *in, const we_json *root)
{
    const we_json *usage = we_json_get(root, "usage"), *stats = we_json_get(root, "stats"),
                  *timings = we_json_get(root, "timings");
    take_count(&in->n_prompt, we_json_get(usage, "prompt_tokens"));
    take_count(&in->n_tokens, we_json_get(usage, "completion_tokens"));
    take_count(&in->n_cached, we_json_get(we_json_get(usage, "prompt_tokens_details"), "cached_tokens"));
    if (stats) {
        const double rate = we_number_of(we_json_get(stats, "tokens_per_second"));
        in->stat_first_s = we_number_of(we_json_get(stats, "time_to_first_token"));
        in->stat_decode_s = rate > 0 ? (double)in->n_tokens / rate : 0;
        if (we_str_is(we_text_of(we_json_get(stats, "stop_reason")), "stopStringFound")) in->finish = WE_FINISH_STOP;
    }
    if (timings) {
        in->stat_prefill_s = we_number_of(we_json_get(timings, "prompt_ms")) / 1000;
        in->stat_decode_s = we_number_of(we_json_get(timings, "predicted_ms")) / 1000;
    }
}

static bool take_choice(receiver *r, const we_json *choice)
{
    we_intake *in = &r->in;
    we_str reason;
    r->has_choice = true;
    const we_json *delta = we_json_get(choice, "delta");
    if (!we_json_is(delta, WE_JSON_OBJECT)) delta = we_json_get(choice, "message");
    if (!take_message(in, delta) || !we_intake_text(in, we_text_of(we_json_get(choice, "text")))) return false;
    if (!we_json_str(we_json_get(choice, "finish_reason"), &reason)) return true;
    in->ended = true;
    in->finish = we_str_is(reason, "length") ? WE_FINISH_LENGTH : WE_FINISH_EOS;
    return true;
}

static bool take_object(void *user, const we_json *root)
{
    receiver *r = user;
    if (!we_intake_check(&r->in, root)) return false;
    const we_json *choices = we_json_get(root, "choices");
    if (we_json_is(choices, WE_JSON_ARRAY) && choices->first && !take_choice(r, choices->first)) return false;
    take_figures(&r->in, root);
    return true;
}

static bool take_json(receiver *r, we_str text) { return we_intake_json(&r->in, text, take_object, r); }

static bool on_event(void *user, we_str event, we_str data)
{
    receiver *r = user;
    (void)event;
    if (r->done) return true;
    if (we_str_is(data, "[DONE]")) {
        r->done = true;
        r->in.ended = r->in.ended || r->has_choice;
        return true;
    }
    return data.len == 0 || take_json(r, data);
}

static bool receive(void *user, const char *bytes, size_t n)
{
    receiver *r = user;
    we_str s = { bytes, n };
    while (r->form == UNKNOWN && s.len && strchr(" \t\r\n", s.ptr[0])) s = (we_str){ s.ptr + 1, s.len - 1 };
    if (s.len == 0) return true;
    if (r->form == UNKNOWN) r->form = s.ptr[0] == '{' ? OBJECT : STREAM;
    const size_t most = r->form == OBJECT ? MAX_OBJECT : MAX_WORDS, room = most - WE_MIN(most, r->whole.len);
    if (!r->has_choice) we_buf_append(&r->whole, s.ptr, WE_MIN(s.len, room));
    if (r->whole.failed) return we_intake_fail(&r->in, WE_E_NOMEM, ": no memory for the answer");
    if (r->form == OBJECT) return s.len <= room || we_intake_fail(&r->in, WE_E_FORMAT, " sent too long an answer");
    if (we_stream_feed(&r->stream, s, on_event, r)) return true;
    if (r->stream.too_long) return we_intake_fail(&r->in, WE_E_FORMAT, " sent a line of more than 4 MiB");
    if (!r->in.failed && !r->in.cancelled) return we_intake_fail(&r->in, WE_E_NOMEM, ": no memory for the answer");
    return false;
}

/* The end of the bytes. */
static void finish(receiver *r, const we_net_response *response)
{
    char words[256];
    we_intake *in = &r->in;
    if (in->failed || in->cancelled) return;
    if (r->form == OBJECT) {
        if (take_json(r, we_buf_str(&r->whole)) && r->has_choice) in->ended = true;
    } else {
        we_stream_end(&r->stream, on_event, r);
    }
    if (r->has_choice || in->failed || in->cancelled || response->status / 100 != 2) return;
    const we_str type = we_net_field_get(response, "content-type");
    we_server_words(words, we_buf_str(&r->whole));
    if (r->form != UNKNOWN)
        we_intake_fail(in, WE_E_FORMAT, " sent a reply without choices (%.*s): \"%s\"",
                       (int)WE_MIN(type.len, (size_t)80), type.ptr ? type.ptr : "", words);
}

we_status we_openai_answer(we_backend *b, const we_openai_flavour *f, const char *model, const we_backend_ask *ask,
                           const we_generate_options *o, we_backend_reply *reply, we_error *err)
{
    receiver r = { .stream = { .is_sse = true } };
    we_buf body = { 0 };
    we_net_response response = { 0 };
    we_status st = write_request(&body, b, f, model, ask, o, err);
    if (!st) {
        we_intake_begin(&r.in, b, ask, o);
        const we_server_call call = { .path = ask->conversation ? f->chat : f->completions,
                                      .body = &body,
                                      .on_body = receive,
                                      .user = &r,
                                      .waits_for_load = true };
        if (!f->leaves_stop || we_intake_take_stop(&r.in)) st = we_server_send(b, &call, &response, err);
        if (!st && response.status >= 300) st = we_server_refused(b, &response, err);
        if (!st || st == WE_E_NETWORK) finish(&r, &response);
        st = we_intake_end(&r.in, st, reply, err);
    }
    if (st == WE_E_NOT_FOUND) st = we_server_no_model(b, model, err);
    we_stream_deinit(&r.stream);
    we_buf_deinit(&r.whole);
    we_buf_deinit(&body);
    we_net_response_deinit(&response);
    return st;
}

/* ---- Models ---- */

we_status we_openai_models(we_backend *b, const char *path, we_backend_report *report, int wait_ms, we_error *err)
{
    we_net_response response = { 0 };
    we_arena arena = { 0 };
    const we_json *root;
    const double start_s = we_now_s();
    we_status st =
        we_server_json(b, &(we_server_call){ .path = path, .timeout_ms = wait_ms }, &response, &arena, &root, err);
    report->latency_ms = (we_now_s() - start_s) * 1000;
    const we_json *data = st ? NULL : we_json_get(root, "data");
    if (!st && !we_json_is(data, WE_JSON_ARRAY)) {
        char words[256];
        st = we_server_fail(b, err, WE_E_FORMAT, " answers something that is not its interface: \"%s\"",
                            we_server_words(words, we_buf_str(&response.body)));
    }
    for (const we_json *m = st ? NULL : data->first; m && !st; m = m->next) {
        const we_str id = we_text_of(we_json_get(m, "id")), type = we_text_of(we_json_get(m, "type"));
        if (!id.len || we_str_is(type, "embeddings") || we_str_is(type, "embedding")) continue;
        we_backend_model *added = we_report_add(report, id);
        if (!added)
            st = we_fail(err, WE_E_NOMEM, "no memory for a list of models");
        else {
            added->loaded = we_str_is(we_text_of(we_json_get(m, "state")), "loaded");
            added->context = (int)WE_MIN(we_number_of(we_json_get(m, "max_context_length")), 2e9);
        }
    }
    if (!st) st = we_report_running(report, err);
    we_arena_deinit(&arena);
    we_net_response_deinit(&response);
    return st;
}

/* ---- A plain server ---- */

static const we_openai_flavour plain = { .chat = "/chat/completions",
                                         .completions = "/completions",
                                         .repetition_penalty = "repetition_penalty",
                                         .takes_usage = true,
                                         .takes_variables = true,
                                         .continues = WE_CONTINUES_NOT };

static we_status inspect(we_backend *b, we_backend_report *report, int wait_ms, we_error *err)
{
    return we_openai_models(b, "/models", report, wait_ms, err);
}

/* Nothing to tell it: it has its model, or loads it when it is asked. */
static we_status load(we_backend *b, we_error *err)
{
    we_backend_report report = { 0 };
    const we_status st = inspect(b, &report, 0, err);
    we_backend_report_deinit(&report);
    return st;
}

static we_status unload(we_backend *b, we_error *err)
{
    (void)b;
    (void)err;
    return WE_OK;
}

static we_status answer(we_backend *b, const we_backend_ask *ask, const we_generate_options *o, we_backend_reply *reply,
                        we_error *err)
{
    const we_status st = we_server_model(b, &reply->model, err);
    return st ? st : we_openai_answer(b, &plain, reply->model, ask, o, reply, err);
}

const we_backend_ops we_backend_openai = { we_server_open, we_server_close, inspect, load,
                                           unload,         answer,          false,   "is its server running?" };
