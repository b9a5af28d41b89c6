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

bool we_intake_text(we_intake *in, we_str text) { return take(in, &in->text, text, in->o->on_piece); }

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

static void write_tools(const we_intake *in, we_buf *out)
{
    we_json_writer w = { .buf = out };
    we_json_begin_array(&w);
    for (size_t i = 0; i < in->n_tools; i++) {
        const struct we_tool_call *t = &in->tools[i];
        if (t->name.len == 0) continue; /* an index was left out */
        we_json_begin_object(&w);
        we_json_key(&w, "id");
        we_json_write_str(&w, we_buf_str(&t->id));
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
    *in = (we_intake){ 0 };
    return lost && !st ? we_fail(err, WE_E_NOMEM, "no memory for the answer") : st;
}
