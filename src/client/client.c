/* SPDX-License-Identifier: Apache-2.0
 * client.c - a conversation that is answered by whoever can. The client stands on one backend, the URL's own at first; where
 * that fails, it goes down the chain, asks each whether it is there and has the model, and stays with the first that answers.
 *
 * What always holds: what the caller has seen of an answer is not said again: the next backend gets it as a last message of
 * the assistant's to continue, and where it can't, a note says that the answer begins anew. Handles stay open until the client
 * closes, so that we_client_cancel may touch the current one from a signal handler. */
#include "client/client_int.h"
#include "net/net.h"
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define INSPECT_MS 1500 /* a server in the chain that is silent for longer is passed over */
#define RETRIES 2

typedef struct slot { /* a backend that was stood on */
    we_backend *backend;
    struct slot *next;
} slot;

struct we_client {
    we_client_options options; /* its strings are the client's own */
    char *wanted;              /* the model, as the URL's own backend calls it */
    we_backend_kind kind;      /* of the URL */
    slot *slots;               /* newest first */
    _Atomic(we_backend *) current;
    atomic_bool cancelled, busy;
    int n_failovers;
};

static void WE_PRINTF(2, 3) note(const we_client *c, const char *format, ...)
{
    char raw[1400], text[1400];
    va_list args;
    if (!c->options.on_note) return;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    we_str_clean(text, sizeof text, we_str_from(raw));
    c->options.on_note(c->options.user, text);
}

#define PLACE(type, field) (offsetof(type, field) + sizeof(((type *)0)->field)) /* a struct that has it is no shorter */

static const we_backend_row *row_of(const we_backend *b) { return we_backend_row_of(we_backend_target_of(b)->kind); }

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for a client"); }

/* ---- Opening and closing ---- */

/* Stand on a target. key: NULL for none of ours. */
static we_status stand_on(we_client *c, const we_backend_target *target, const char *key, we_error *err)
{
    const we_client_options *o = &c->options;
    slot *s = we_calloc(1, sizeof *s);
    if (!s) return no_memory(err);
    const we_status st = we_backend_open(&s->backend, target,
                                         &(we_backend_options){ .api_key = key,
                                                                .context = o->context,
                                                                .connect_timeout_s = o->connect_timeout_s,
                                                                .idle_timeout_s = o->idle_timeout_s,
                                                                .engine = o->engine,
                                                                .model = o->model,
                                                                .draft_model = o->draft_model,
                                                                .on_note = o->on_note,
                                                                .user = o->user },
                                         err);
    if (st) {
        we_free(s);
        return st;
    }
    s->next = c->slots;
    c->slots = s;
    atomic_store(&c->current, s->backend);
    return WE_OK;
}

/* The URL that the configuration gives; we_free. */
static we_status configured_url(char **url, we_error *err)
{
    we_buf text = { 0 };
    we_config_value v = { .size = sizeof v };
    we_config_get("LLM_CHAT_API_URL", &v, NULL);
    if (v.refused)
        return we_fail(err, WE_E_DENIED,
                       "./.env sets LLM_CHAT_API_URL=%s, which is another machine and was not followed", v.refused);
    const char *model = we_env("MLX_MODEL_NAME");
    if (v.value)
        we_buf_append_str(&text, we_str_from(v.value));
    else
        we_buf_printf(&text, "mlx://%s", model ? model : "default");
    *url = we_buf_take(&text, NULL);
    we_buf_deinit(&text);
    return *url ? WE_OK : no_memory(err);
}

static we_status open_url(we_client *c, const char *url, we_error *err)
{
    char *own = NULL;
    we_backend_target target = { 0 };
    we_status st = url ? WE_OK : configured_url(&own, err);
    if (!st && (st = we_backend_target_parse(&target, url ? url : own, err)) && !url)
        we_fail_in(err, st, "LLM_CHAT_API_URL: ");
    if (!st) {
        c->kind = target.kind;
        c->wanted = we_strdup(target.model);
        char *key = NULL;
        st = !c->wanted           ? no_memory(err)
             : c->options.api_key ? WE_OK
                                  : we_client_key_for(&target, url != NULL, &key, err);
        if (!st) st = stand_on(c, &target, key ? key : c->options.api_key, err);
        we_free(key);
    }
    /* A kind that this build can't do fails over like one that is not there. */
    we_backend_target_deinit(&target);
    we_free(own);
    return st;
}

we_status we_client_open(we_client **out, const char *url, const we_client_options *opt, we_error *err)
{
    *out = NULL;
    if (opt && opt->size == 0)
        return we_fail(err, WE_E_ARG, "the size of the options is 0: begin with WE_CLIENT_OPTIONS_INIT");
    we_client *c = we_calloc(1, sizeof *c);
    if (!c) return no_memory(err);
    c->options = (we_client_options)WE_CLIENT_OPTIONS_INIT;
    if (opt) memcpy(&c->options, opt, WE_MIN(opt->size, sizeof c->options));
    const char *key = c->options.api_key, *draft = c->options.draft_model;
    c->options.api_key = key ? we_strdup(key) : NULL;
    c->options.draft_model = draft ? we_strdup(draft) : NULL;
    const bool copied = (!key || c->options.api_key) && (!draft || c->options.draft_model);
    const we_status st = copied ? open_url(c, url, err) : no_memory(err);
    if (st) {
        we_client_close(c);
        return st;
    }
    *out = c;
    return WE_OK;
}

void we_client_close(we_client *c)
{
    if (!c) return;
    while (c->slots) {
        slot *s = c->slots;
        c->slots = s->next;
        we_backend_close(s->backend);
        we_free(s);
    }
    we_free((char *)c->options.api_key);
    we_free((char *)c->options.draft_model);
    we_free(c->wanted);
    we_free(c);
}

void we_client_get_info(const we_client *c, we_client_info *info)
{
    const we_backend *b = atomic_load(&((we_client *)c)->current);
    const we_backend_target *t = we_backend_target_of(b);
    const we_client_info i = { sizeof i, t->kind, row_of(b)->name, t->model, t->base, c->n_failovers };
    const size_t room = info->size;
    memcpy(info, &i, WE_MIN(room, sizeof i));
    info->size = room;
}

/* ---- One call at a time ---- */

static we_status begin(we_client *c, we_error *err)
{
    if (atomic_exchange(&c->busy, true))
        return we_fail(err, WE_E_BUSY, "the client is busy: wait for its running call to end");
    atomic_store(&c->cancelled, false);
    return WE_OK;
}

static we_status end(we_client *c, we_status st)
{
    atomic_store(&c->busy, false);
    return st;
}

void we_client_cancel(we_client *c)
{
    atomic_store(&c->cancelled, true);
    we_backend_cancel(atomic_load(&c->current));
}

/* ---- An answer ---- */

typedef struct asking {
    we_client *c;
    const we_conversation *conversation; /* NULL: raw */
    const char *prompt;
    we_generate_options options; /* defaults filled in */
    we_backend_kind chain[WE_BACKEND_CHAIN];
    we_buf answer; /* what the caller has seen of it */
    int n_pieces;
    bool restarted;
    int n_failovers;
    /* of one attempt */
    we_cleaner cleaner;
    we_echo echo;
    bool cleans, continues, came, out_of_memory;
    we_backend_reply reply;
} asking;

/* The backend was to go on, and began again: what was said until then is dropped. */
static void begin_anew(asking *a)
{
    note(a->c, "%s does not go on: it begins the answer anew", row_of(atomic_load(&a->c->current))->name);
    a->restarted = true;
    we_buf_clear(&a->answer);
}

/* Hand on what is certain. */
static bool hand_on(asking *a, const char *bytes, size_t n, int32_t token, bool ended)
{
    we_buf clean = { 0 }, fresh = { 0 };
    bool go_on = true;
    if (a->cleans)
        we_cleaner_feed(&a->cleaner, (we_str){ bytes, n }, ended, &clean);
    else
        we_buf_append(&clean, bytes, n);
    if (a->continues)
        we_echo_feed(&a->echo, we_buf_str(&clean), ended, &fresh);
    else
        we_buf_append_str(&fresh, we_buf_str(&clean));
    if (a->echo.is_anew && !a->restarted && a->conversation) begin_anew(a);
    we_buf_append_str(&a->answer, we_buf_str(&fresh));
    if (clean.failed || fresh.failed || a->answer.failed)
        go_on = !(a->out_of_memory = true);
    else if (fresh.len && a->options.on_piece)
        go_on = a->options.on_piece(a->options.user, fresh.ptr, fresh.len, token);
    we_buf_deinit(&clean);
    we_buf_deinit(&fresh);
    return go_on;
}

static bool on_piece(void *user, const char *text, size_t len, int32_t token)
{
    asking *a = user;
    a->came = a->came || len > 0;
    a->n_pieces++;
    return hand_on(a, text, len, token, false) && !atomic_load(&a->c->cancelled);
}

static bool on_prefill(void *user, size_t done, size_t total)
{
    const asking *a = user;
    if (atomic_load(&a->c->cancelled)) return false;
    return !a->options.on_prefill || a->options.on_prefill(a->options.user, done, total);
}

/* The conversation with what there is of the answer behind it; messages and `last` are the caller's to free. */
static we_status extended(const asking *a, const char *partial, we_conversation *out, we_message **messages,
                          char **last, we_error *err)
{
    const we_conversation *c = a->conversation;
    we_buf text = { 0 };
    const bool joins = c->continue_final_message && c->n_messages > 0;
    const size_t n = c->n_messages + !joins;
    *messages = we_calloc(n, sizeof **messages);
    if (joins) we_buf_append_str(&text, we_str_from(c->messages[c->n_messages - 1].content));
    we_buf_append_str(&text, we_str_from(partial));
    *last = we_buf_take(&text, NULL);
    we_buf_deinit(&text);
    if (!*messages || !*last) return no_memory(err);
    for (size_t i = 0; i < c->n_messages; i++) (*messages)[i] = c->messages[i];
    (*messages)[n - 1] = (we_message){ "assistant", *last };
    *out = *c;
    out->messages = *messages;
    out->n_messages = n;
    out->continue_final_message = true;
    return WE_OK;
}

/* The same for messages that are JSON. */
static we_status extended_json(const asking *a, const char *partial, we_conversation *out, char **last, we_error *err)
{
    we_arena arena = { 0 };
    we_buf text = { 0 };
    const we_json *root;
    we_status st = we_json_parse(&arena, we_str_from(a->conversation->messages_json), &root, err);
    we_json_writer w = { .buf = &text };
    we_json_begin_array(&w);
    for (const we_json *m = st ? NULL : root->first; m; m = m->next) we_json_write_tree(&w, m);
    we_json_begin_object(&w);
    we_json_key(&w, "role");
    we_json_write_str(&w, WE_STR("assistant"));
    we_json_key(&w, "content");
    we_json_write_str(&w, we_str_from(partial));
    we_json_end_object(&w);
    we_json_end_array(&w);
    we_arena_deinit(&arena);
    *last = we_buf_take(&text, NULL);
    we_buf_deinit(&text);
    if (st || !*last) return st ? st : no_memory(err);
    *out = *a->conversation;
    out->messages_json = *last;
    out->continue_final_message = true;
    return WE_OK;
}

/* Ask the current backend once. */
static we_status ask_once(asking *a, we_error *err)
{
    we_backend *b = atomic_load(&a->c->current);
    we_conversation whole = WE_CONVERSATION_INIT;
    we_message *messages = NULL;
    we_buf prompt = { 0 };
    char *last = NULL, *said = we_strndup(we_buf_str(&a->answer).ptr, a->answer.len);
    we_status st = said ? WE_OK : no_memory(err);
    we_generate_options o = a->options;
    we_backend_ask ask = { .conversation = a->conversation, .prompt = a->prompt, .options = &o };
    a->continues = a->answer.len > 0;
    a->cleans = we_backend_target_of(b)->kind != WE_BACKEND_MLX;
    a->came = false;
    a->echo = (we_echo){ .said = said ? we_str_from(said) : WE_STR("") };
    a->cleaner = (we_cleaner){ .begun = a->continues };
    if (!st && a->continues && a->prompt) {
        we_buf_printf(&prompt, "%s%s", a->prompt, said);
        ask.prompt = prompt.ptr;
        st = we_buf_status(&prompt, err, "a request");
    } else if (!st && a->continues) {
        ask.conversation = &whole;
        st = a->conversation->messages_json ? extended_json(a, said, &whole, &last, err)
                                            : extended(a, said, &whole, &messages, &last, err);
    }
    if (o.max_tokens > 0) o.max_tokens = WE_MAX(1, o.max_tokens - a->n_pieces);
    o.on_piece = on_piece;
    o.on_prefill = on_prefill;
    o.user = a;
    we_backend_reply_deinit(&a->reply);
    if (!st && !atomic_load(&a->c->cancelled)) st = we_backend_answer(b, &ask, &a->reply, err);
    if (atomic_load(&a->c->cancelled)) a->reply.result.finish = WE_FINISH_CANCELLED;
    if (a->came && !a->out_of_memory) hand_on(a, "", 0, -1, true);
    if (a->out_of_memory) st = no_memory(err);
    we_buf_deinit(&a->cleaner.held);
    we_buf_deinit(&a->echo.held);
    we_buf_deinit(&prompt);
    we_free(messages);
    we_free(last);
    we_free(said);
    return st;
}

static int retries_of(const we_client *c)
{
    return c->options.retries < 0 ? 0 : c->options.retries ? c->options.retries : RETRIES;
}

/* Ask again where that may help: only as long as nothing was said. tries: already made. patient: also a server that was not
 * reached, since it may be on its way up; else somebody else may be quicker. */
static we_status ask_current(asking *a, int tries, bool patient, we_error *err)
{
    const we_net_response nothing = { 0 };
    for (int i = tries;; i++) {
        const we_status st = ask_once(a, err);
        if (!st || a->came || !a->reply.may_pass || i >= retries_of(a->c) || atomic_load(&a->c->cancelled)) return st;
        if (a->reply.is_unreached && !patient) return st;
        we_log(client, INFO, "asked again: %s", we_status_text(st)); /* a server's own words may be the prompt's */
        if (!we_net_wait(&nothing, i, &a->c->cancelled)) return st;
    }
}

/* Nobody else is there: perhaps the first one comes. */
static we_status wait_for_first(asking *a, we_status st, we_error *err)
{
    const we_net_response nothing = { 0 };
    if (retries_of(a->c) == 0 || !we_net_wait(&nothing, 0, &a->c->cancelled)) return st;
    return ask_current(a, 1, true, err);
}

/* ---- Failing over ---- */

/* Another backend may do better. What the caller did wrong stays wrong. */
static bool may_fail_over(we_status st)
{
    switch (st) {
    case WE_E_NETWORK:
    case WE_E_DENIED:
    case WE_E_NOT_FOUND:
    case WE_E_FORMAT:
    case WE_E_UNSUPPORTED:
    case WE_E_DEVICE:
    case WE_E_IO:
    case WE_E_NOMEM: return true;
    default: return false;
    }
}

/* Is it there, with the model? Stands on it then. */
static we_status try_kind(we_client *c, we_backend_kind kind, we_error *err)
{
    we_backend_target target;
    we_backend *probe = NULL;
    we_backend_report report = { 0 };
    char *name = NULL;
    we_status st = we_backend_target_default(&target, kind, err);
    for (const slot *s = c->slots; s && !st; s = s->next) {
        const we_backend_target *t = we_backend_target_of(s->backend);
        if (t->kind == kind && strcmp(t->base, target.base) == 0) st = we_fail(err, WE_E_NETWORK, "failed before");
    }
    char *key = NULL;
    if (!st) st = we_client_key_for(&target, false, &key, err);
    if (!st)
        st = we_backend_open(&probe, &target, &(we_backend_options){ .api_key = key, .connect_timeout_s = 2 }, err);
    if (!st) st = we_backend_inspect(probe, &report, INSPECT_MS, err);
    if (!st) st = we_client_model_for(kind, &report, c->wanted, &name, err);
    if (!st) {
        we_free(target.model);
        target.model = name;
        st = stand_on(c, &target, key, err);
    }
    we_free(key);
    we_backend_report_deinit(&report);
    we_backend_close(probe);
    we_backend_target_deinit(&target);
    return st;
}

/* Stand on the next of the chain. False where there is none; `reasons` says why each was passed over. */
static bool next_backend(asking *a, bool tried[WE_BACKEND_OPENAI + 1], we_buf *reasons)
{
    for (size_t i = 0; i < WE_BACKEND_CHAIN && !atomic_load(&a->c->cancelled); i++) {
        we_error why;
        const we_backend_kind kind = a->chain[i];
        const char *name = we_backend_row_of(kind)->name;
        if (tried[kind]) continue;
        tried[kind] = true;
        if (!try_kind(a->c, kind, &why)) return true;
        we_log(client, INFO, "%s is passed over: %s", name, why.message);
        we_buf_printf(reasons, "%s%s: %s", reasons->len ? "; " : "", name, why.message);
    }
    return false;
}

static void tell_change(asking *a, const we_error *why)
{
    const we_client *c = a->c;
    const we_backend *b = atomic_load(&a->c->current);
    const char *model = we_backend_target_of(b)->model;
    const char *does = a->answer.len == 0 ? "answers" : a->restarted ? "begins the answer anew" : "goes on";
    note(c, "%s. %s %s%s%s", why->message, row_of(b)->name, does, model[0] ? " with " : "", model);
}

/* Before the next backend is asked: can it go on where the last one stopped? */
static void prepare(asking *a, const we_error *why)
{
    const we_backend *b = atomic_load(&a->c->current);
    const bool json_in_the_middle =
        a->conversation && a->conversation->messages_json && a->conversation->continue_final_message;
    const bool anew = a->answer.len > 0 && (!a->prompt && (!we_backend_can_continue(b) || json_in_the_middle));
    a->restarted = anew;
    tell_change(a, why);
    if (!anew) return;
    we_buf_clear(&a->answer);
    a->n_pieces = 0;
}

/* It goes on with last messages, and then not with this one: a template that cuts them, a server that refuses them. */
static bool cannot_continue(const asking *a, we_status st)
{
    const bool refuses = st == WE_E_UNSUPPORTED || st == WE_E_TEMPLATE || st == WE_E_ARG;
    return refuses && a->conversation && a->continues && !a->came && a->answer.len;
}

static we_status ask_chain(asking *a, we_error *err)
{
    we_client *c = a->c;
    we_backend *const first = atomic_load(&c->current);
    bool tried[WE_BACKEND_OPENAI + 1] = { false };
    bool was_restarted = false;
    we_error one;
    we_status st = ask_current(a, 0, c->options.no_failover, &one);
    we_error origin = one;
    we_buf reasons = { 0 };
    const we_backend_target *t = we_backend_target_of(first);
    if (t->kind == WE_BACKEND_MLX) tried[WE_BACKEND_MLX] = true;
    while (st && !c->options.no_failover && !atomic_load(&c->cancelled)) {
        if (cannot_continue(a, st)) {
            a->restarted = true;
            tell_change(a, &one);
            we_buf_clear(&a->answer);
            a->n_pieces = 0;
        } else if (may_fail_over(st) && next_backend(a, tried, &reasons)) {
            c->n_failovers++;
            a->n_failovers++;
            prepare(a, &one);
        } else {
            break;
        }
        was_restarted = was_restarted || a->restarted;
        a->restarted = false;
        st = ask_current(a, 0, false, &one);
        if (st && !cannot_continue(a, st))
            we_buf_printf(&reasons, "%s%s: %s", reasons.len ? "; " : "", row_of(atomic_load(&c->current))->name,
                          one.message);
    }
    if (st && a->reply.is_unreached && a->n_failovers == 0 && !c->options.no_failover) st = wait_for_first(a, st, &one);
    a->restarted = a->restarted || was_restarted;
    if (st) {
        atomic_store(&c->current, first); /* the next question begins at the beginning */
        if (err) *err = origin;
        if (err && reasons.len && !c->options.no_failover)
            st = we_fail(err, origin.status, "%s\nNobody else could answer: %s", origin.message, reasons.ptr);
        else
            st = origin.status;
    }
    we_buf_deinit(&reasons);
    return st;
}

/* ---- The calls ---- */

/* What was left open is what the configuration says. */
static we_status fill_options(we_generate_options *o, const we_generate_options *given, we_error *err)
{
    *o = (we_generate_options)WE_GENERATE_OPTIONS_INIT;
    o->temperature = NAN;
    if (given && given->size == 0)
        return we_fail(err, WE_E_ARG, "the size of the options is 0: begin with WE_GENERATE_OPTIONS_INIT");
    if (given) memcpy(o, given, WE_MIN(given->size, sizeof *o));
    o->size = sizeof *o;
    int64_t most = o->max_tokens;
    double temperature = (double)o->temperature, top_p = (double)o->top_p;
    we_status st = WE_OK;
    if (most == 0) st = we_config_i64("MLX_MAX_TOKENS", &most, err);
    if (!st && isnan(temperature)) st = we_config_f64("MLX_TEMPERATURE", &temperature, err);
    if (!st && top_p <= 0) st = we_config_f64("MLX_TOP_P", &top_p, err);
    if (!st && !o->prompt_lookup) st = we_config_bool("MLX_PROMPT_LOOKUP", &o->prompt_lookup, err);
    o->max_tokens = (int)most;
    o->temperature = (float)temperature;
    o->top_p = (float)top_p;
    return st;
}

static void fill_result(asking *a, we_client_result *out)
{
    const we_backend *b = atomic_load(&a->c->current);
    we_backend_reply *r = &a->reply;
    we_client_result result = { .kind = we_backend_target_of(b)->kind,
                                .backend = row_of(b)->name,
                                .model = r->model,
                                .reasoning = r->reasoning,
                                .tool_calls = r->tool_calls,
                                .n_failovers = a->n_failovers,
                                .restarted = a->restarted,
                                .load_s = r->load_s,
                                .result = r->result };
    we_free(result.result.text);
    result.result.text = we_buf_take(&a->answer, &result.result.len);
    *r = (we_backend_reply){ 0 };
    const size_t room = result.size = out->size;
    const size_t inner = room - WE_MIN(room, offsetof(we_client_result, result));
    result.result.size = WE_MIN(inner, sizeof result.result);
    we_client_result rest = result; /* what the struct of another version has no place for */
    if (room >= PLACE(we_client_result, model)) rest.model = NULL;
    if (room >= PLACE(we_client_result, reasoning)) rest.reasoning = NULL;
    if (room >= PLACE(we_client_result, tool_calls)) rest.tool_calls = NULL;
    if (inner >= PLACE(we_result, tokens)) rest.result.text = NULL, rest.result.tokens = NULL; /* both or none */
    rest.size = sizeof rest;
    rest.result.size = sizeof rest.result;
    we_client_result_deinit(&rest);
    memcpy(out, &result, WE_MIN(room, sizeof result));
}

static we_status answer(we_client *c, const we_conversation *conversation, const char *prompt,
                        const we_generate_options *opt, we_client_result *result, we_error *err)
{
    asking a = { .c = c, .conversation = conversation, .prompt = prompt };
    we_conversation whole = WE_CONVERSATION_INIT;
    if (result && result->size == 0)
        return we_fail(err, WE_E_ARG, "the size of the result is 0: begin with its sizeof");
    if (result) {
        const we_client_result empty = { .size = result->size };
        memcpy(result, &empty, WE_MIN(empty.size, sizeof empty));
    }
    if (conversation) {
        if (conversation->size == 0)
            return we_fail(err, WE_E_ARG, "the size of the conversation is 0: begin with WE_CONVERSATION_INIT");
        memcpy(&whole, conversation, WE_MIN(conversation->size, sizeof whole));
        whole.size = sizeof whole;
        a.conversation = &whole;
    }
    we_error own;
    if (!err) err = &own;
    we_status st = fill_options(&a.options, opt, err);
    if (!st) st = we_config_chain(a.chain, err);
    if (!st) st = begin(c, err);
    if (st) return st;
    st = end(c, ask_chain(&a, err));
    if (result) fill_result(&a, result);
    we_backend_reply_deinit(&a.reply);
    we_buf_deinit(&a.answer);
    return st;
}

we_status we_client_chat(we_client *c, const we_conversation *conversation, const we_generate_options *opt,
                         we_client_result *result, we_error *err)
{
    if (!conversation) return we_fail(err, WE_E_ARG, "no conversation was given");
    return answer(c, conversation, NULL, opt, result, err);
}

we_status we_client_generate(we_client *c, const char *prompt, const we_generate_options *opt, we_client_result *result,
                             we_error *err)
{
    if (!prompt) return we_fail(err, WE_E_ARG, "no prompt was given");
    return answer(c, NULL, prompt, opt, result, err);
}

we_status we_client_load(we_client *c, we_error *err)
{
    const we_status st = begin(c, err);
    return st ? st : end(c, we_backend_load(atomic_load(&c->current), err));
}

we_status we_client_unload(we_client *c, we_error *err)
{
    const we_status st = begin(c, err);
    return st ? st : end(c, we_backend_unload(atomic_load(&c->current), err));
}

we_status we_client_models(we_client *c, we_client_model_fn fn, void *user, we_error *err)
{
    we_backend_report report;
    we_status st = begin(c, err);
    if (st) return st;
    st = end(c, we_backend_inspect(atomic_load(&c->current), &report, 0, err));
    for (size_t i = 0; !st && i < report.n_models; i++)
        if (!fn(user, &report.models[i])) break;
    we_backend_report_deinit(&report);
    return st;
}

/* ---- Results ---- */

void we_client_result_deinit(we_client_result *r)
{
    if (!r) return;
    char **const texts[] = { &r->model, &r->reasoning, &r->tool_calls };
    for (size_t i = 0; i < WE_COUNT(texts) && (const char *)(texts[i] + 1) <= (const char *)r + r->size; i++) {
        we_free(*texts[i]);
        *texts[i] = NULL;
    }
    if (r->size >= offsetof(we_client_result, result) + PLACE(we_result, tokens)) we_result_deinit(&r->result);
}

static void write_message(we_json_writer *w, const we_client_result *r)
{
    we_json_begin_object(w);
    we_json_key(w, "role");
    we_json_write_str(w, WE_STR("assistant"));
    we_json_key(w, "content");
    we_json_write_str(w, (we_str){ r->result.text ? r->result.text : "", r->result.text ? r->result.len : 0 });
    if (r->reasoning) {
        we_json_key(w, "reasoning_content");
        we_json_write_str(w, we_str_from(r->reasoning));
    }
    if (r->tool_calls) {
        we_json_key(w, "tool_calls");
        we_json_write_raw(w, we_str_from(r->tool_calls));
    }
    we_json_end_object(w);
}

static void write_count(we_json_writer *w, const char *key, size_t n)
{
    we_json_key(w, key);
    we_json_write_i64(w, (int64_t)n);
}

static void write_text(we_json_writer *w, const char *key, const char *text)
{
    we_json_key(w, key);
    we_json_write_str(w, we_str_from(text));
}

we_status we_client_result_json(const we_client_result *r, char **json, we_error *err)
{
    static const char *const reasons[] = { "stop", "stop", "length", "stop" };
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    char id[40];
    snprintf(id, sizeof id, "chatcmpl-%016llx", (unsigned long long)we_now_ns());
    we_json_begin_object(&w);
    write_text(&w, "id", id);
    write_text(&w, "object", "chat.completion");
    write_count(&w, "created", (size_t)time(NULL));
    write_text(&w, "model", r->model ? r->model : "");
    write_text(&w, "backend", r->backend ? r->backend : "");
    we_json_key(&w, "restarted");
    we_json_write_bool(&w, r->restarted);
    we_json_key(&w, "choices");
    we_json_begin_array(&w);
    we_json_begin_object(&w);
    write_count(&w, "index", 0);
    we_json_key(&w, "message");
    write_message(&w, r);
    write_text(&w, "finish_reason", r->tool_calls ? "tool_calls" : reasons[r->result.finish]);
    we_json_end_object(&w);
    we_json_end_array(&w);
    we_json_key(&w, "usage");
    we_json_begin_object(&w);
    write_count(&w, "prompt_tokens", r->result.n_prompt_tokens);
    write_count(&w, "completion_tokens", r->result.n_tokens);
    write_count(&w, "total_tokens", r->result.n_prompt_tokens + r->result.n_tokens);
    we_json_end_object(&w);
    we_json_end_object(&w);
    const we_status st = we_buf_status(&buf, err, "a response");
    *json = st ? NULL : we_buf_take(&buf, NULL);
    we_buf_deinit(&buf);
    return st;
}
