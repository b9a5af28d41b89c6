/* SPDX-License-Identifier: Apache-2.0
 * backend.c - the table of backends, and the handle: it is taken by one call at a time, its cancel flag is cleared, and the
 * kind's function does the work. */
#include "backend/backend_int.h"
#include <math.h>
#include <stdlib.h>

/* ---- The table ---- */

static const struct {
    we_backend_row row;
    const we_backend_ops *ops;
} table[] = {
    [WE_BACKEND_MLX] = { { "mlx", "MLX", "WhisperEngine's own engine for MLX models" }, &we_backend_mlx },
    [WE_BACKEND_LMSTUDIO] = { { "lmstudio", "LM Studio", "User-friendly local server" }, &we_backend_lmstudio },
    [WE_BACKEND_OLLAMA] = { { "ollama", "Ollama", "Production-ready server" }, &we_backend_ollama },
    [WE_BACKEND_LLAMACPP] = { { "llamacpp", "llama-cpp-python", "Direct Python integration" }, &we_backend_llamacpp },
    [WE_BACKEND_TRANSFORMERS] = { { "transformers", "Transformers", "HuggingFace models" }, &we_backend_transformers },
    [WE_BACKEND_OPENAI] = { { "openai", "OpenAI-style server", "Any server with an OpenAI-style interface" },
                            &we_backend_openai },
};

const we_backend_row *we_backend_row_of(we_backend_kind kind) { return &table[kind].row; }

we_status we_backend_chain_parse(const char *text, we_backend_kind out[WE_BACKEND_CHAIN], we_error *err)
{
    bool named[WE_BACKEND_CHAIN] = { false };
    size_t n = 0;
    for (const char *p = text; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        we_str name = { p, strcspn(p, ",") };
        while (name.len && *name.ptr == ' ') name.ptr++, name.len--;
        while (name.len && name.ptr[name.len - 1] == ' ') name.len--;
        int k = 0;
        while (k < WE_BACKEND_CHAIN && !we_str_is(name, table[k].row.id)) k++;
        if (k == WE_BACKEND_CHAIN || named[k])
            return we_fail(err, WE_E_ARG, "'%.*s' %s", (int)WE_MIN(name.len, (size_t)40), name.ptr,
                           k == WE_BACKEND_CHAIN ? "is no backend of the chain" : "stands there twice");
        named[k] = true;
        out[n++] = (we_backend_kind)k;
    }
    for (int k = 0; k < WE_BACKEND_CHAIN; k++)
        if (!named[k]) out[n++] = (we_backend_kind)k;
    return WE_OK;
}

/* ---- Opening ---- */

/* A header's value: what would end its line has no place in it. */
static we_status check_value(const char *value, const char *what, we_error *err)
{
    for (const char *p = value; p && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7F)
            return we_fail(err, WE_E_ARG, "the %s holds a control character", what);
    return WE_OK;
}

static we_status copy_options(we_backend *b, const we_backend_options *opt, we_error *err)
{
    if (opt) b->options = *opt;
    const char *key = b->options.api_key, *keep_alive = b->options.keep_alive, *draft = b->options.draft_model;
    if (!key && b->target.kind == WE_BACKEND_LMSTUDIO && b->target.local) key = we_env("LM_API_TOKEN");
    if (key && !key[0]) key = NULL;
    b->options.api_key = key ? we_strdup(key) : NULL;
    b->options.keep_alive = keep_alive ? we_strdup(keep_alive) : NULL;
    b->options.draft_model = draft ? we_strdup(draft) : NULL;
    if ((key && !b->options.api_key) || (keep_alive && !b->options.keep_alive) || (draft && !b->options.draft_model))
        return we_fail(err, WE_E_NOMEM, "no memory for a backend");
    we_status st = check_value(b->options.api_key, "API key", err);
    return st ? st : check_value(b->options.keep_alive, "keep-alive time", err);
}

we_status we_backend_open(we_backend **out, const we_backend_target *target, const we_backend_options *opt,
                          we_error *err)
{
    *out = NULL;
    const we_backend_ops *ops = table[target->kind].ops;
    we_backend *b = we_calloc(1, sizeof *b);
    if (!b) return we_fail(err, WE_E_NOMEM, "no memory for a backend");
    atomic_init(&b->cancel, false);
    atomic_init(&b->busy, false);
    b->ops = ops;
    b->row = &table[target->kind].row;
    b->target = (we_backend_target){ target->kind, we_strdup(target->model), we_strdup(target->base), target->local };
    b->base = b->target.base;
    we_status st = b->target.model && b->target.base ? copy_options(b, opt, err)
                                                     : we_fail(err, WE_E_NOMEM, "no memory for a backend");
    if (!st) st = ops->open(b, err);
    if (st) {
        we_backend_close(b);
        return st;
    }
    *out = b;
    return WE_OK;
}

void we_backend_close(we_backend *b)
{
    if (!b) return;
    b->ops->close(b);
    we_backend_target_deinit(&b->target);
    we_free(b->chosen);
    we_free((char *)b->options.api_key);
    we_free((char *)b->options.keep_alive);
    we_free((char *)b->options.draft_model);
    we_free(b);
}

const we_backend_target *we_backend_target_of(const we_backend *b) { return &b->target; }

bool we_backend_can_continue(const we_backend *b) { return b->ops->can_continue; }

/* ---- Calls ---- */

static we_status begin(we_backend *b, we_error *err)
{
    if (atomic_exchange(&b->busy, true))
        return we_fail(err, WE_E_BUSY, "%s is busy: wait for its running call to end", b->row->name);
    atomic_store(&b->cancel, false);
    return WE_OK;
}

static we_status end(we_backend *b, we_status st)
{
    atomic_store(&b->busy, false);
    return st;
}

void we_backend_cancel(we_backend *b) { atomic_store(&b->cancel, true); }

we_status we_backend_inspect(we_backend *b, we_backend_report *report, int wait_ms, we_error *err)
{
    *report = (we_backend_report){ 0 };
    const we_status st = begin(b, err);
    if (st) return st;
    b->wait_ms = wait_ms;
    return end(b, b->ops->inspect(b, report, wait_ms, err));
}

we_status we_backend_load(we_backend *b, we_error *err)
{
    const we_status st = begin(b, err);
    return st ? st : end(b, b->ops->load(b, err));
}

we_status we_backend_unload(we_backend *b, we_error *err)
{
    const we_status st = begin(b, err);
    return st ? st : end(b, b->ops->unload(b, err));
}

static we_status check_ask(const we_backend *b, const we_backend_ask *ask, we_error *err)
{
    const we_conversation *c = ask->conversation;
    if (!c && !ask->prompt) return we_fail(err, WE_E_ARG, "neither a conversation nor a prompt was given");
    if (c && c->size == 0)
        return we_fail(err, WE_E_ARG, "the size of the conversation is 0: begin with WE_CONVERSATION_INIT");
    if (ask->options && ask->options->size == 0)
        return we_fail(err, WE_E_ARG, "the size of the options is 0: begin with WE_GENERATE_OPTIONS_INIT");
    const bool continues =
        c && c->size > offsetof(we_conversation, continue_final_message) && c->continue_final_message;
    if (continues && !b->ops->can_continue)
        return we_fail(err, WE_E_UNSUPPORTED, "%s can't continue the last message of a conversation", b->row->name);
    return WE_OK;
}

we_status we_backend_answer(we_backend *b, const we_backend_ask *ask, we_backend_reply *reply, we_error *err)
{
    *reply = (we_backend_reply){ .result.size = sizeof reply->result };
    we_status st = check_ask(b, ask, err);
    if (st || (st = begin(b, err))) return st;
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    we_conversation c = WE_CONVERSATION_INIT;
    we_backend_ask whole = *ask;
    o.temperature = NAN;
    if (ask->options) memcpy(&o, ask->options, WE_MIN(ask->options->size, sizeof o));
    o.size = sizeof o;
    if (ask->conversation) {
        memcpy(&c, ask->conversation, WE_MIN(ask->conversation->size, sizeof c));
        c.size = sizeof c;
        whole.conversation = &c;
    }
    whole.options = &o;
    b->unreached = false;
    st = b->ops->answer(b, &whole, &o, reply, err);
    if (st == WE_E_CANCELLED && atomic_load(&b->cancel)) { /* before the first word */
        reply->result.finish = WE_FINISH_CANCELLED;
        st = WE_OK;
    }
    reply->may_pass = st == WE_E_NETWORK;
    reply->is_unreached = st && b->unreached;
    return end(b, st);
}

void we_backend_reply_deinit(we_backend_reply *r)
{
    we_result_deinit(&r->result);
    we_free(r->model);
    we_free(r->reasoning);
    we_free(r->tool_calls);
    *r = (we_backend_reply){ 0 };
}

void we_backend_report_deinit(we_backend_report *r)
{
    we_free(r->models);
    we_arena_deinit(&r->arena);
    *r = (we_backend_report){ 0 };
}
