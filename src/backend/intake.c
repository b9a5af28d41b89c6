/* SPDX-License-Identifier: Apache-2.0
 * intake.c - an answer while it comes from a server: text goes to the caller's callback and into the reply, times are taken, tool
 * calls are put together, and at the end it is decided whether the answer was whole. */
#include "backend/backend_int.h"
#include <stdarg.h>

#define MAX_TEXT ((size_t)64 << 20)
#define MAX_TOOLS 128

void we_intake_begin(we_intake *in, we_backend *b, const we_backend_ask *ask, const we_generate_options *o)
{
    *in = (we_intake){ .b = b, .o = o, .on_reasoning = ask->on_reasoning, .start_s = we_now_s() };
}

bool we_intake_fail(we_intake *in, we_status status, const char *format, ...)
{
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    in->failed = true;
    we_server_fail(in->b, &in->error, status, "%s", text);
    return false;
}

static bool no_memory(we_intake *in)
{
    in->failed = true;
    we_fail(&in->error, WE_E_NOMEM, "no memory for the answer");
    return false;
}

/* A callback is given text with a NUL behind it: the buffer's end. */
static bool take(we_intake *in, we_buf *buf, we_str text, we_piece_fn fn)
{
    if (text.len == 0) return true;
    if (in->first_s == 0) in->first_s = we_now_s();
    if (buf->len + text.len > MAX_TEXT)
        return we_intake_fail(in, WE_E_FORMAT, " does not come to an end: more than 64 MiB of text");
    we_buf_append_str(buf, text);
    if (buf->failed) return no_memory(in);
    if (!fn || fn(in->o->user, buf->ptr + buf->len - text.len, text.len, -1)) return true;
    in->cancelled = true;
    return false;
}

bool we_intake_take_stop(we_intake *in)
{
    const size_t n = in->o->n_stop;
    if (n == 0) return true;
    we_str *texts = we_calloc(n, sizeof *texts);
    in->stop_texts = texts;
    if (!texts) return no_memory(in);
    for (size_t i = 0; i < n; i++) texts[i] = we_str_from(in->o->stop[i]);
    in->failed = we_stop_init(&in->stop, texts, n, &in->error) != WE_OK;
    return !in->failed;
}

bool we_intake_text(we_intake *in, we_str text)
{
    if (in->stop_texts && we_stop_feed(&in->stop, text, &text, &in->error)) return no_memory(in);
    return take(in, &in->text, text, in->o->on_piece);
}

/* What could have become a stop text and did not. */
static void flush_stop(we_intake *in)
{
    we_str rest;
    if (!in->stop_texts) return;
    if (in->stop.stopped)
        in->finish = WE_FINISH_STOP;
    else if (in->failed || in->cancelled)
        return;
    else if (we_stop_flush(&in->stop, &rest, &in->error))
        no_memory(in);
    else
        take(in, &in->text, rest, in->o->on_piece);
}

bool we_intake_reasoning(we_intake *in, we_str text) { return take(in, &in->reasoning, text, in->on_reasoning); }

bool we_intake_tool(we_intake *in, size_t index, we_str id, we_str name, we_str arguments)
{
    if (index >= MAX_TOOLS) return we_intake_fail(in, WE_E_FORMAT, " wants more than %d tool calls at once", MAX_TOOLS);
    if (index >= in->n_tools) {
        struct we_tool_call *tools = we_realloc_array(in->tools, index + 1, sizeof *tools);
        if (!tools) return no_memory(in);
        memset(tools + in->n_tools, 0, (index + 1 - in->n_tools) * sizeof *tools);
        in->tools = tools;
        in->n_tools = index + 1;
    }
    struct we_tool_call *t = &in->tools[index];
    if (t->id.len == 0) we_buf_append_str(&t->id, id); /* some repeat both in every piece */
    if (t->name.len == 0) we_buf_append_str(&t->name, name);
    if (t->arguments.len + arguments.len > MAX_TEXT)
        return we_intake_fail(in, WE_E_FORMAT, " does not come to an end of its tool call");
    we_buf_append_str(&t->arguments, arguments);
    return t->id.failed || t->name.failed || t->arguments.failed ? no_memory(in) : true;
}

/* ---- JSON that comes ---- */

we_str we_text_of(const we_json *v)
{
    we_str s = { "", 0 };
    we_json_str(v, &s);
    return s;
}

double we_number_of(const we_json *v)
{
    double d = 0;
    we_json_f64(v, &d);
    return d > 0 && d < 1e18 ? d : 0;
}

/* JSON must be UTF-8; a server that cuts a character in two is not to end the answer. */
static we_str mended(we_buf *out, we_str s)
{
    if (we_utf8_valid(s) == s.len) return s;
    for (size_t i = 0; i < s.len;) {
        const uint32_t rune = we_utf8_next(s, &i);
        we_buf_append_rune(out, rune == WE_RUNE_INVALID ? 0xFFFD : rune);
    }
    return we_buf_str(out);
}

bool we_intake_json(we_intake *in, we_str text, bool (*fn)(void *user, const we_json *root), void *user)
{
    we_arena arena = { 0 };
    we_buf copy = { 0 };
    we_error why;
    char words[256];
    const we_json *root;
    const we_str whole = mended(&copy, text);
    const we_status st = copy.failed ? WE_E_NOMEM : we_json_parse(&arena, whole, &root, &why);
    bool go_on;
    if (st == WE_E_NOMEM)
        go_on = no_memory(in);
    else if (st)
        go_on = we_intake_fail(in, WE_E_FORMAT, " sent broken JSON (%s): \"%s\"", why.message,
                               we_server_words(words, text));
    else
        go_on = fn(user, root);
    we_arena_deinit(&arena);
    we_buf_deinit(&copy);
    return go_on;
}

bool we_intake_check(we_intake *in, const we_json *root)
{
    char words[256];
    const we_json *error = we_json_get(root, "error");
    if (!error || error->type == WE_JSON_NULL) return true;
    return we_intake_fail(in, we_server_error_is_model(root) ? WE_E_NOT_FOUND : WE_E_NETWORK, " failed: %s",
                          we_server_words(words, we_server_error_text(root)));
}

/* ---- Fields that are sent ---- */

void we_write_number(we_json_writer *w, const char *key, double value)
{
    we_json_key(w, key);
    we_json_write_f64(w, value);
}

double we_widened(float f)
{
    char text[32];
    double d = (double)f;
    snprintf(text, sizeof text, "%.7g", d);
    we_parse_f64(we_str_from(text), &d);
    return d;
}

void we_write_stop(we_json_writer *w, const we_generate_options *o)
{
    if (o->n_stop == 0) return;
    we_json_key(w, "stop");
    we_json_begin_array(w);
    for (size_t i = 0; i < o->n_stop; i++) we_json_write_str(w, we_str_from(o->stop[i]));
    we_json_end_array(w);
}

/* ---- The end ---- */

static void write_tools(const we_intake *in, we_buf *out)
{
    we_json_writer w = { .buf = out };
    we_json_begin_array(&w);
    for (size_t i = 0; i < in->n_tools; i++) {
        const struct we_tool_call *t = &in->tools[i];
        char id[32];
        if (t->name.len == 0) continue; /* an index was left out */
        we_json_begin_object(&w);
        we_json_key(&w, "id");
        if (t->id.len)
            we_json_write_str(&w, we_buf_str(&t->id));
        else
            we_json_write_str(&w,
                              (we_str){ id, (size_t)snprintf(id, sizeof id, "call_%zu", i) }); /* Ollama gives none */
        we_json_key(&w, "type");
        we_json_write_str(&w, WE_STR("function"));
        we_json_key(&w, "function");
        we_json_begin_object(&w);
        we_json_key(&w, "name");
        we_json_write_str(&w, we_buf_str(&t->name));
        we_json_key(&w, "arguments");
        we_json_write_str(&w, we_buf_str(&t->arguments));
        we_json_end_object(&w);
        we_json_end_object(&w);
    }
    we_json_end_array(&w);
}

static void free_tools(we_intake *in)
{
    for (size_t i = 0; i < in->n_tools; i++) {
        we_buf_deinit(&in->tools[i].id);
        we_buf_deinit(&in->tools[i].name);
        we_buf_deinit(&in->tools[i].arguments);
    }
    we_free(in->tools);
}

static void fill_times(const we_intake *in, we_result *r)
{
    const double end_s = we_now_s(), first_s = in->first_s != 0 ? in->first_s : end_s;
    r->first_token_s = in->stat_first_s > 0 ? in->stat_first_s : first_s - in->start_s;
    r->prefill_s = in->stat_prefill_s > 0 ? in->stat_prefill_s : r->first_token_s;
    r->decode_s = in->stat_decode_s > 0 ? in->stat_decode_s : end_s - first_s;
}

/* How the answer ended, given how the request did. */
static we_status outcome(const we_intake *in, we_status st, we_error *err)
{
    if (in->failed) {
        if (err) *err = in->error;
        return in->error.status;
    }
    if (in->ended || in->cancelled) return WE_OK;
    if (st == WE_E_CANCELLED && atomic_load(&in->b->cancel)) return WE_OK;
    if (st == WE_E_NETWORK && (in->text.len || in->reasoning.len))
        return we_fail_in(err, st, "%s broke off in the middle of its answer: ", in->b->row->name);
    if (st) return st;
    return in->text.len || in->reasoning.len
               ? we_server_fail(in->b, err, WE_E_NETWORK, " broke off in the middle of its answer")
               : we_server_fail(in->b, err, WE_E_NETWORK, " ended without an answer");
}

we_status we_intake_end(we_intake *in, we_status st, we_backend_reply *reply, we_error *err)
{
    we_result *r = &reply->result;
    we_buf tools = { 0 };
    flush_stop(in);
    st = outcome(in, st, err);
    if (in->n_tools) write_tools(in, &tools);
    r->finish = !in->ended ? WE_FINISH_CANCELLED : in->finish;
    r->n_tokens = in->n_tokens;
    r->n_prompt_tokens = in->n_prompt;
    r->n_cached_tokens = in->n_cached;
    fill_times(in, r);
    reply->load_s = in->load_s;
    r->text = we_buf_take(&in->text, &r->len);
    if (in->reasoning.len) reply->reasoning = we_buf_take(&in->reasoning, NULL);
    if (tools.len) reply->tool_calls = we_buf_take(&tools, NULL);
    const bool lost = !r->text || tools.failed;
    we_buf_deinit(&tools);
    we_buf_deinit(&in->text);
    we_buf_deinit(&in->reasoning);
    free_tools(in);
    we_stop_deinit(&in->stop);
    we_free(in->stop_texts);
    *in = (we_intake){ 0 };
    return lost && !st ? we_fail(err, WE_E_NOMEM, "no memory for the answer") : st;
}
