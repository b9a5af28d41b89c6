/* SPDX-License-Identifier: Apache-2.0
 * mlx.c - the backend that is this library itself: an engine, a model and a session behind the interface of the others, over the
 * public header as any program would use it. "Available" means that this machine can run it; models are those of the hub. */
#include "backend/backend_int.h"
#include <math.h>

typedef struct mlx {
    we_engine *engine;
    we_model *model;
    we_session *session;
    we_model *draft_model; /* guesses tokens for the other; NULL: none */
    we_session *draft;
    double load_s;
} mlx;

static we_status open_mlx(we_backend *b, we_error *err)
{
    b->own = we_calloc(1, sizeof(mlx));
    return b->own ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a backend");
}

static void close_draft(mlx *m)
{
    we_session_close(m->draft);
    we_model_close(m->draft_model);
    m->draft = NULL;
    m->draft_model = NULL;
}

static void forget(mlx *m)
{
    close_draft(m);
    we_session_close(m->session);
    we_model_close(m->model);
    we_engine_close(m->engine);
    *m = (mlx){ 0 };
}

static void close_mlx(we_backend *b)
{
    if (b->own) forget(b->own);
    we_free(b->own);
}

/* ---- Inspecting ---- */

typedef struct listing {
    we_backend_report *report;
    const char *loaded; /* path of the model in use */
    double until_s;
    bool failed;
} listing;

static bool list_model(void *user, const we_model_entry *entry)
{
    listing *l = user;
    if (we_now_s() > l->until_s) return false; /* a slow disk: what is known by then */
    if (!entry->runnable) return true;
    we_backend_model *m = we_report_add(l->report, we_str_from(entry->name));
    if (!m) return l->failed = true, false;
    m->bytes = entry->bytes;
    m->loaded = l->loaded && strcmp(l->loaded, entry->path) == 0;
    return true;
}

static we_status inspect(we_backend *b, we_backend_report *report, int wait_ms, we_error *err)
{
    mlx *m = b->own;
    we_engine *engine = m->engine;
    we_engine_options options = WE_ENGINE_OPTIONS_INIT;
    const double start_s = we_now_s();
    if (b->options.engine) options = *b->options.engine;
    options.threads = 1; /* only to hear which device it is */
    we_status st = engine ? WE_OK : we_engine_open(&engine, &options, err);
    if (st) return st;
    we_engine_info info = { .size = sizeof info };
    we_model_info model = { .size = sizeof model };
    we_engine_get_info(engine, &info);
    if (m->model) we_model_get_info(m->model, &model);
    listing l = { report, model.path, wait_ms > 0 ? start_s + wait_ms / 1000.0 : INFINITY, false };
    st = we_models_list(list_model, &l, err);
    const size_t n = report->n_models;
    report->version = we_version();
    char limit[24];
    report->reason =
        info.detail[0] ? we_arena_printf(&report->arena, "runs on this machine: %s (%s), memory limit %s, %zu model%s",
                                         info.detail, info.kernels, we_format_bytes(limit, info.memory_limit_bytes), n,
                                         n == 1 ? "" : "s")
                       : we_arena_printf(&report->arena, "runs on this machine: %s, %s kernels, %zu model%s",
                                         info.device, info.kernels, n, n == 1 ? "" : "s");
    if (engine != m->engine) we_engine_close(engine);
    report->latency_ms = (we_now_s() - start_s) * 1000;
    if (!st && (l.failed || !report->reason)) st = we_fail(err, WE_E_NOMEM, "no memory for a list of models");
    return st;
}

/* ---- Loading ---- */

typedef struct progress {
    we_backend *b;
    we_progress_fn fn;
    void *user;
} progress;

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    const progress *p = user;
    return !atomic_load(&p->b->cancel) && (!p->fn || p->fn(p->user, done, total));
}

static we_status open_draft(mlx *m, const char *path, const we_model_options *o, we_error *err)
{
    we_status st = we_model_open(&m->draft_model, m->engine, path, o, err);
    if (!st) st = we_session_open(&m->draft, m->draft_model, err);
    if (!st) st = we_session_check_draft(m->session, m->draft, err);
    if (st) close_draft(m);
    return st;
}

/* What the caller asked for has to be; the configuration's is a wish, since it was not made for this model alone. */
static we_status load_draft(we_backend *b, const char *model_path, const we_model_options *o, we_error *err)
{
    const char *asked = b->options.draft_model, *name = asked ? asked : we_env("MLX_DRAFT_MODEL");
    char *path, text[sizeof err->message + 32];
    we_error why;
    if (!name || !name[0]) return WE_OK;
    we_status st = we_model_find(name, &path, &why);
    const bool is_itself = !st && !asked && strcmp(path, model_path) == 0; /* the small model answers by itself */
    if (!st && !is_itself) st = open_draft(b->own, path, o, &why);
    we_free(path);
    if (!st) return WE_OK;
    if (asked || st == WE_E_CANCELLED) return we_fail(err, st, "%s", why.message);
    if (!b->options.on_note) return WE_OK;
    const size_t n = (size_t)snprintf(text, sizeof text, "MLX_DRAFT_MODEL is left out: ");
    we_str_clean(text + n, sizeof text - n, we_str_from(why.message));
    b->options.on_note(b->options.user, text);
    return WE_OK;
}

static we_status load(we_backend *b, we_error *err)
{
    mlx *m = b->own;
    if (m->session) return WE_OK;
    char *path;
    const double start_s = we_now_s();
    we_model_options o = WE_MODEL_OPTIONS_INIT;
    if (b->options.model) o = *b->options.model;
    progress p = { b, o.progress, o.progress_user };
    o.progress = on_progress;
    o.progress_user = &p;
    if (b->options.context > 0) o.context = b->options.context;
    we_status st = we_model_find(b->target.model, &path, err);
    if (st) return st;
    if ((st = we_engine_open(&m->engine, b->options.engine, err)) ||
        (st = we_model_open(&m->model, m->engine, path, &o, err)) ||
        (st = we_session_open(&m->session, m->model, err)) || (st = load_draft(b, path, &o, err)))
        forget(m);
    else
        m->load_s = we_now_s() - start_s;
    we_free(path);
    return st;
}

static we_status unload(we_backend *b, we_error *err)
{
    (void)err;
    forget(b->own);
    return WE_OK;
}

/* ---- Answering ---- */

typedef struct relay { /* the caller's callbacks, and the handle's cancel flag beside them */
    we_backend *b;
    const we_generate_options *o;
} relay;

static bool on_piece(void *user, const char *text, size_t len, int32_t token)
{
    const relay *r = user;
    return !atomic_load(&r->b->cancel) && (!r->o->on_piece || r->o->on_piece(r->o->user, text, len, token));
}

static bool on_prefill(void *user, size_t done, size_t total)
{
    const relay *r = user;
    return !atomic_load(&r->b->cancel) && (!r->o->on_prefill || r->o->on_prefill(r->o->user, done, total));
}

/* What was left open is the model's makers' choice. */
static we_generate_options with_defaults(const we_model *model, const we_generate_options *o)
{
    we_generate_options d = WE_GENERATE_OPTIONS_INIT, out = *o;
    we_model_default_sampling(model, &d);
    if (isnan(o->temperature)) out.temperature = d.temperature;
    if (o->top_p == 0) out.top_p = d.top_p;
    if (o->top_k == 0) out.top_k = d.top_k;
    if (o->min_p == 0) out.min_p = d.min_p;
    if (o->repetition_penalty == 0) out.repetition_penalty = d.repetition_penalty;
    return out;
}

static we_status continue_prompt(mlx *m, const char *prompt, const we_generate_options *o, we_result *result,
                                 we_error *err)
{
    const we_tokenizer *t = we_model_tokenizer(m->model);
    int32_t *ids;
    size_t n;
    if (!t)
        return we_fail(err, WE_E_UNSUPPORTED, "the model has no tokenizer.json: there is no way from text to tokens");
    we_status st = we_tokenize(t, prompt, strlen(prompt), true, &ids, &n, err);
    if (st) return st;
    st = we_session_generate(m->session, ids, n, o, result, err);
    we_free(ids);
    return st;
}

static we_status answer(we_backend *b, const we_backend_ask *ask, const we_generate_options *o, we_backend_reply *reply,
                        we_error *err)
{
    mlx *m = b->own;
    const bool was_loaded = m->session != NULL;
    we_status st = load(b, err);
    if (st) return st;
    if (!was_loaded) reply->load_s = m->load_s;
    if (!(reply->model = we_strdup(b->target.model))) return we_fail(err, WE_E_NOMEM, "no memory for a model's name");
    relay r = { b, o };
    we_generate_options with = with_defaults(m->model, o);
    with.draft = m->draft;
    with.on_piece = on_piece;
    with.on_prefill = on_prefill;
    with.user = &r;
    return ask->conversation ? we_session_chat(m->session, ask->conversation, &with, &reply->result, err)
                             : continue_prompt(m, ask->prompt, &with, &reply->result, err);
}

const we_backend_ops we_backend_mlx = { open_mlx, close_mlx, inspect, load, unload, answer, true, "" };
