/* SPDX-License-Identifier: Apache-2.0
 * engine.c - see engine.h. The thread takes jobs from a queue; events go back as idle sources, in their order. Pieces are gathered
 * for PIECE_MS, so that a fast model does not flood the main loop.
 *
 * `lock` guards what both sides touch: the client's pointer (for cancelling), the gathered text, the ids that were stopped. */
#include "engine.h"
#include <math.h>
#include <string.h>

#define PIECE_MS 50

typedef enum job_kind { LOAD, UNLOAD, ASK, LOOK_AGAIN, QUIT } job_kind;

typedef struct job {
    job_kind kind;
    int64_t id;
    char *url, *messages;
    gboolean continues;
    guint load; /* the value of wanted_load when it was asked for */
} job;

struct desk_engine {
    GAsyncQueue *jobs;
    GThread *thread;
    desk_engine_events events;
    gpointer user;
    gboolean closed; /* the main loop's */
    int ref_count;

    GMutex lock;
    we_client *client; /* written by the thread only, under the lock */
    GString *text;     /* of the running answer, not yet delivered */
    gboolean text_is_due;
    int64_t running;     /* id of the running answer, 0: none */
    GHashTable *stopped; /* ids */

    guint wanted_load; /* atomic: a load whose number is not this one is out of date */
    int quits;         /* atomic */

    /* the thread's own */
    char *url; /* of the client */
    we_model_options model_options;
    gboolean loaded;
    guint running_load;
    gint64 told_us; /* when progress was told */
};

static void unref(desk_engine *e)
{
    if (!g_atomic_int_dec_and_test(&e->ref_count)) return;
    g_async_queue_unref(e->jobs);
    g_string_free(e->text, TRUE);
    g_hash_table_unref(e->stopped);
    g_mutex_clear(&e->lock);
    g_free(e->url);
    g_free(e);
}

static void job_free(gpointer p)
{
    job *j = p;
    g_free(j->url);
    g_free(j->messages);
    g_free(j);
}

/* ---- Events: made on the thread, delivered in the main loop ---- */

typedef struct event {
    desk_engine *e;
    desk_engine_status *status; /* one of these */
    desk_answer *answer;
    char *text; /* with `answer`: its last piece, or NULL */
    char *note;
} event;

static void event_free(gpointer p)
{
    event *v = p;
    if (v->status) {
        g_free(v->status->url);
        g_free(v->status->model);
        g_free(v->status->backend);
        g_free(v->status->problem);
        g_free(v->status);
    }
    if (v->answer) {
        g_free(v->answer->problem);
        g_free(v->answer->model);
        g_free(v->answer);
    }
    g_free(v->text);
    g_free(v->note);
    unref(v->e);
    g_free(v);
}

/* What was gathered and not delivered; NULL: nothing. Under the lock. */
static char *take_text(desk_engine *e)
{
    char *text = e->text->len ? g_strndup(e->text->str, e->text->len) : NULL;
    g_string_truncate(e->text, 0);
    return text;
}

static gboolean text_is_due(gpointer p)
{
    desk_engine *e = p;
    g_mutex_lock(&e->lock);
    char *text = take_text(e);
    const int64_t id = e->running;
    e->text_is_due = FALSE;
    g_mutex_unlock(&e->lock);
    if (text && !e->closed) e->events.piece(e->user, id, text);
    g_free(text);
    return G_SOURCE_REMOVE;
}

static gboolean deliver(gpointer p)
{
    const event *v = p;
    desk_engine *e = v->e;
    if (e->closed) return G_SOURCE_REMOVE;
    if (v->status) {
        e->events.status(e->user, v->status);
    } else if (v->answer) {
        if (v->text) e->events.piece(e->user, v->answer->id, v->text);
        e->events.done(e->user, v->answer);
    } else {
        e->events.note(e->user, v->note);
    }
    return G_SOURCE_REMOVE;
}

static void send_event(desk_engine *e, event given)
{
    event *v = g_new0(event, 1);
    *v = given;
    v->e = e;
    g_atomic_int_inc(&e->ref_count);
    g_idle_add_full(G_PRIORITY_DEFAULT, deliver, v, event_free);
}

static void tell(desk_engine *e, desk_engine_state state, double progress, gboolean answering, const char *problem)
{
    desk_engine_status *s = g_new0(desk_engine_status, 1);
    we_client_info info = { .size = sizeof info, .backend = "", .model = "" };
    if (e->client) we_client_get_info(e->client, &info);
    *s = (desk_engine_status){ state,
                               answering,
                               progress,
                               g_strdup(e->url ? e->url : ""),
                               g_strdup(info.model ? info.model : ""),
                               g_strdup(info.backend),
                               g_strdup(problem ? problem : ""),
                               info.kind };
    send_event(e, (event){ .status = s });
}

/* ---- On the thread: the client ---- */

static void on_note(void *user, const char *text) { send_event(user, (event){ .note = g_strdup(text) }); }

static bool on_load(void *user, uint64_t done, uint64_t total)
{
    desk_engine *e = user;
    const gint64 now = g_get_monotonic_time();
    if (now - e->told_us > PIECE_MS * 1000) {
        e->told_us = now;
        tell(e, DESK_ENGINE_LOADING, total ? (double)done / (double)total : 0, FALSE, NULL);
    }
    return !g_atomic_int_get(&e->quits) && (guint)g_atomic_int_get(&e->wanted_load) == e->running_load;
}

static void set_client(desk_engine *e, we_client *client)
{
    g_mutex_lock(&e->lock);
    we_client *old = e->client;
    e->client = client;
    g_mutex_unlock(&e->lock);
    we_client_close(old);
    e->loaded = FALSE;
}

/* Have a client of that URL. */
static we_status have_client(desk_engine *e, const char *url, we_error *err)
{
    we_client *client = NULL;
    we_client_options o = WE_CLIENT_OPTIONS_INIT;
    if (e->client && strcmp(e->url, url) == 0) return WE_OK;
    set_client(e, NULL);
    g_free(e->url);
    e->url = g_strdup(url);
    e->model_options = (we_model_options)WE_MODEL_OPTIONS_INIT;
    e->model_options.progress = on_load;
    e->model_options.progress_user = e;
    o.model = &e->model_options;
    o.on_note = on_note;
    o.user = e;
    const we_status st = we_client_open(&client, *url ? url : NULL, &o, err);
    if (!st) set_client(e, client);
    return st;
}

/* A load that was overtaken by another one is silent. */
static we_status load(desk_engine *e, const char *url, guint number)
{
    we_error err = { 0 };
    e->running_load = number;
    if ((guint)g_atomic_int_get(&e->wanted_load) != number) return WE_E_CANCELLED;
    we_status st = have_client(e, url, &err);
    if (!st && e->loaded) return WE_OK;
    tell(e, DESK_ENGINE_LOADING, 0, FALSE, NULL);
    if (!st) st = we_client_load(e->client, &err);
    e->loaded = !st;
    if ((guint)g_atomic_int_get(&e->wanted_load) != number || g_atomic_int_get(&e->quits)) return WE_E_CANCELLED;
    tell(e, st ? DESK_ENGINE_FAILED : DESK_ENGINE_READY, 1, FALSE, err.message);
    return st;
}

static void unload(desk_engine *e)
{
    set_client(e, NULL);
    tell(e, DESK_ENGINE_EMPTY, 0, FALSE, NULL);
}

/* ---- On the thread: an answer ---- */

static gboolean is_stopped(desk_engine *e, int64_t id)
{
    g_mutex_lock(&e->lock);
    const gboolean stopped = g_hash_table_contains(e->stopped, &id);
    g_mutex_unlock(&e->lock);
    return stopped || g_atomic_int_get(&e->quits);
}

static bool on_piece(void *user, const char *text, size_t len, int32_t token)
{
    desk_engine *e = user;
    (void)token;
    g_mutex_lock(&e->lock);
    for (size_t i = 0; i < len; i++) g_string_append_c(e->text, text[i] ? text[i] : ' '); /* messages are C strings */
    if (!e->text_is_due && len) {
        e->text_is_due = TRUE;
        g_atomic_int_inc(&e->ref_count);
        g_timeout_add_full(G_PRIORITY_DEFAULT, PIECE_MS, text_is_due, e, (GDestroyNotify)unref);
    }
    const bool go_on = !g_hash_table_contains(e->stopped, &e->running);
    g_mutex_unlock(&e->lock);
    return go_on && !g_atomic_int_get(&e->quits);
}

static bool on_prefill(void *user, size_t done, size_t total)
{
    desk_engine *e = user;
    (void)done, (void)total;
    return !is_stopped(e, e->running);
}

static void answer(desk_engine *e, const job *j)
{
    we_error err = { 0 };
    we_client_result r = { .size = sizeof r, .result.size = sizeof r.result };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    we_conversation c = WE_CONVERSATION_INIT;
    we_status st = WE_OK;
    gboolean asked = FALSE;
    o.temperature = NAN; /* what the configuration says */
    o.on_piece = on_piece;
    o.on_prefill = on_prefill;
    o.user = e;
    c.messages_json = j->messages;
    c.continue_final_message = j->continues;
    g_mutex_lock(&e->lock);
    e->running = j->id;
    g_mutex_unlock(&e->lock);
    if (!is_stopped(e, j->id)) {
        e->running_load = (guint)g_atomic_int_get(&e->wanted_load);
        st = have_client(e, j->url, &err);
        if (!st && !e->loaded) tell(e, DESK_ENGINE_LOADING, 0, TRUE, NULL);
        /* Where that fails, the answer may come from the next backend of the chain. */
        if (!st && !e->loaded) e->loaded = !we_client_load(e->client, &err);
        if (!st) {
            tell(e, DESK_ENGINE_READY, 1, TRUE, NULL);
            asked = !is_stopped(e, j->id);
            if (asked) st = we_client_chat(e->client, &c, &o, &r, &err);
            e->loaded = e->loaded || (asked && !st);
        }
    }
    desk_answer *a = g_new0(desk_answer, 1);
    const we_result *got = &r.result;
    *a = (desk_answer){ .id = j->id,
                        .status = st,
                        .finish = asked && !is_stopped(e, j->id) ? got->finish : WE_FINISH_CANCELLED,
                        .problem = g_strdup(st ? err.message : ""),
                        .model = g_strdup(r.model ? r.model : ""),
                        .n_tokens = got->n_tokens,
                        .tokens_per_second =
                            got->n_tokens > 1 && got->decode_s > 0 ? (double)got->n_tokens / got->decode_s : 0,
                        .first_token_s = got->first_token_s };
    g_mutex_lock(&e->lock);
    g_hash_table_remove(e->stopped, &j->id);
    char *rest = take_text(e);
    e->running = 0;
    g_mutex_unlock(&e->lock);
    send_event(e, (event){ .answer = a, .text = rest });
    tell(e, st && !e->loaded ? DESK_ENGINE_FAILED : DESK_ENGINE_READY, 1, FALSE, st ? err.message : NULL);
    we_client_result_deinit(&r);
}

/* MLX_UNLOAD_MINUTES in microseconds; 0: never. */
static guint64 patience(void)
{
    we_config_value v = { .size = sizeof v };
    if (we_config_get("MLX_UNLOAD_MINUTES", &v, NULL) || !v.value || !v.is_valid) return 0;
    return g_ascii_strtoull(v.value, NULL, 10) * 60 * G_USEC_PER_SEC;
}

static gpointer live(gpointer p)
{
    desk_engine *e = p;
    for (gboolean open = TRUE; open;) {
        const guint64 wait_us = e->loaded ? patience() : 0;
        job *j = wait_us ? g_async_queue_timeout_pop(e->jobs, wait_us) : g_async_queue_pop(e->jobs);
        if (!j) {
            unload(e);
            continue;
        }
        switch (j->kind) {
        case LOAD: load(e, j->url, j->load); break;
        case UNLOAD: unload(e); break;
        case ASK: answer(e, j); break;
        case LOOK_AGAIN: break;
        case QUIT: open = FALSE; break;
        }
        job_free(j);
    }
    set_client(e, NULL);
    unref(e);
    return NULL;
}

/* ---- Doors ---- */

desk_engine *desk_engine_new(const desk_engine_events *events, gpointer user)
{
    desk_engine *e = g_new0(desk_engine, 1);
    e->jobs = g_async_queue_new_full(job_free);
    e->events = *events;
    e->user = user;
    e->ref_count = 2;
    e->text = g_string_new(NULL);
    e->stopped = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_mutex_init(&e->lock);
    e->thread = g_thread_new("model", live, e);
    return e;
}

static void push(desk_engine *e, job given)
{
    job *j = g_new0(job, 1);
    *j = given;
    g_async_queue_push(e->jobs, j);
}

void desk_engine_close(desk_engine *e)
{
    if (!e) return;
    e->closed = TRUE;
    g_atomic_int_set(&e->quits, 1);
    g_mutex_lock(&e->lock);
    if (e->client) we_client_cancel(e->client);
    g_mutex_unlock(&e->lock);
    push(e, (job){ .kind = QUIT });
    g_thread_join(e->thread);
    unref(e);
}

void desk_engine_settings_changed(desk_engine *e) { push(e, (job){ .kind = LOOK_AGAIN }); }

void desk_engine_load(desk_engine *e, const char *url)
{
    const guint number = (guint)g_atomic_int_add(&e->wanted_load, 1) + 1;
    push(e, (job){ .kind = LOAD, .url = g_strdup(url), .load = number });
}

void desk_engine_unload(desk_engine *e)
{
    g_atomic_int_inc(&e->wanted_load); /* a running load ends */
    push(e, (job){ .kind = UNLOAD });
}

void desk_engine_ask(desk_engine *e, int64_t id, const char *url, const char *messages, gboolean continues)
{
    push(e,
         (job){ .kind = ASK, .id = id, .url = g_strdup(url), .messages = g_strdup(messages), .continues = continues });
}

void desk_engine_stop(desk_engine *e, int64_t id)
{
    int64_t *key = g_new(int64_t, 1);
    *key = id;
    g_mutex_lock(&e->lock);
    g_hash_table_add(e->stopped, key);
    if (e->client && e->running == id) we_client_cancel(e->client);
    g_mutex_unlock(&e->lock);
}
