/* SPDX-License-Identifier: Apache-2.0
 * keeper.c - see keeper.h. What cannot be written waits in its order and is tried again, with every further write and every
 * RETRY_US; while the file does not even open, reads wait with it. */
#include "keeper.h"
#include <glib/gi18n.h>

#define RETRY_US (3 * G_USEC_PER_SEC)

typedef enum job_kind { PUT_CONVERSATION, PUT_MESSAGE, CUT, SET_DELETED, PUT, LIST, MESSAGES, GET, CLOSE } job_kind;

typedef struct job {
    job_kind kind;
    int64_t id, first;
    desk_conversation *conversation;
    desk_message *message;
    char *text, *value;
    desk_rows_fn rows_fn;
    desk_memo_fn memo_fn;
    gpointer user;
    gboolean kept;   /* of a problem: see desk_problem_fn */
    GPtrArray *rows; /* the answer */
    struct desk_keeper *keeper;
} job;

struct desk_keeper {
    char *path;
    GAsyncQueue *jobs;
    GThread *thread;
    desk_problem_fn problem;
    gpointer user;
    gboolean closed; /* the main loop's: answers that come later are dropped */
    int ref_count;

    /* the thread's own */
    desk_store *store; /* NULL: it does not open */
    GQueue waiting;
    char *told; /* why things wait, as it was told; NULL: all is written */
};

static void keeper_unref(desk_keeper *k)
{
    if (!g_atomic_int_dec_and_test(&k->ref_count)) return;
    g_async_queue_unref(k->jobs);
    g_free(k->path);
    g_free(k);
}

static void job_free(gpointer p)
{
    job *j = p;
    desk_conversation_free(j->conversation);
    desk_message_free(j->message);
    if (j->rows) g_ptr_array_unref(j->rows);
    g_free(j->text);
    g_free(j->value);
    if (j->keeper) keeper_unref(j->keeper);
    g_free(j);
}

/* ---- In the main loop ---- */

static gboolean deliver(gpointer p)
{
    const job *j = p;
    if (j->keeper->closed) return G_SOURCE_REMOVE;
    if (j->rows_fn)
        j->rows_fn(j->user, j->rows);
    else if (j->memo_fn)
        j->memo_fn(j->user, j->value);
    else
        j->keeper->problem(j->keeper->user, j->kept, j->text);
    return G_SOURCE_REMOVE;
}

static void hand_back(desk_keeper *k, job *j)
{
    g_atomic_int_inc(&k->ref_count);
    j->keeper = k;
    g_idle_add_full(G_PRIORITY_DEFAULT, deliver, j, job_free);
}

/* ---- On the thread ---- */

/* Takes `text`. */
static void tell(desk_keeper *k, gboolean kept, char *text)
{
    job *j = g_new0(job, 1);
    j->kept = kept;
    j->text = text;
    hand_back(k, j);
}

static we_status work(desk_store *s, job *j, we_error *err)
{
    switch (j->kind) {
    case PUT_CONVERSATION: return desk_store_put_conversation(s, j->conversation, err);
    case PUT_MESSAGE: return desk_store_put_message(s, j->id, j->message, err);
    case CUT: return desk_store_cut(s, j->id, j->first, err);
    case SET_DELETED: return desk_store_set_deleted(s, j->id, j->first != 0, err);
    case PUT: return desk_store_put(s, j->text, j->value, err);
    case LIST: return desk_store_list(s, j->text, &j->rows, err);
    case MESSAGES: return desk_store_messages(s, j->id, &j->rows, err);
    case GET: return desk_store_get(s, j->text, &j->value, err);
    case CLOSE: break;
    }
    return WE_OK;
}

static we_status have_store(desk_keeper *k, we_error *err)
{
    char *aside = NULL;
    if (k->store) return WE_OK;
    const we_status st = desk_store_open(&k->store, k->path, &aside, err);
    if (aside)
        tell(k, TRUE,
             g_strdup_printf(_("The file of your conversations was damaged. A new one was begun; the old one is kept "
                               "as %s"),
                             aside));
    g_free(aside);
    return st;
}

static void finish(desk_keeper *k, job *j)
{
    if (j->rows_fn || j->memo_fn)
        hand_back(k, j);
    else
        job_free(j);
}

/* Write what waits, until something fails. */
static void try_again(desk_keeper *k)
{
    we_error err = { 0 };
    we_status st = have_store(k, &err);
    while (!st && k->waiting.length) {
        st = work(k->store, k->waiting.head->data, &err);
        if (st == WE_E_IO) break;
        if (st) tell(k, TRUE, g_strdup_printf(_("A conversation could not be saved: %s"), err.message));
        st = WE_OK; /* waiting would not mend that */
        finish(k, g_queue_pop_head(&k->waiting));
    }
    if (g_strcmp0(st ? err.message : NULL, k->told) == 0) return;
    g_free(k->told);
    k->told = st ? g_strdup(err.message) : NULL;
    tell(k, !st,
         st ? g_strdup_printf(
                  _("Chats are not being saved: %s. They go on in memory, and are saved as soon as that works."),
                  err.message)
            : NULL);
}

static gboolean reads(const job *j) { return j->rows_fn || j->memo_fn; }

/* An answer that grows is written many times: the newest state counts. */
static void wait_in_line(desk_keeper *k, job *j)
{
    const job *last = k->waiting.tail ? k->waiting.tail->data : NULL;
    if (last && last->kind == PUT_MESSAGE && j->kind == PUT_MESSAGE && last->message->id == j->message->id)
        job_free(g_queue_pop_tail(&k->waiting));
    g_queue_push_tail(&k->waiting, j);
}

static gpointer live(gpointer p)
{
    desk_keeper *k = p;
    try_again(k);
    for (gboolean open = TRUE; open;) {
        we_error err = { 0 };
        const gboolean waits = k->told != NULL;
        job *j = waits ? g_async_queue_timeout_pop(k->jobs, RETRY_US) : g_async_queue_pop(k->jobs);
        if (j && j->kind == CLOSE) {
            open = FALSE;
            job_free(j);
        } else if (j && reads(j) && k->store) {
            if (work(k->store, j, &err))
                tell(k, TRUE, g_strdup_printf(_("A conversation could not be read: %s"), err.message));
            finish(k, j);
            continue;
        } else if (j) {
            wait_in_line(k, j);
        }
        try_again(k);
    }
    if (k->waiting.length) g_message("%u changes of conversations were not saved: %s", k->waiting.length, k->told);
    g_queue_clear_full(&k->waiting, job_free);
    g_free(k->told);
    desk_store_close(k->store);
    keeper_unref(k);
    return NULL;
}

/* ---- Doors ---- */

desk_keeper *desk_keeper_new(const char *path, desk_problem_fn problem, gpointer user)
{
    desk_keeper *k = g_new0(desk_keeper, 1);
    k->path = g_strdup(path);
    k->jobs = g_async_queue_new_full(job_free);
    k->problem = problem;
    k->user = user;
    k->ref_count = 2;
    g_queue_init(&k->waiting);
    k->thread = g_thread_new("store", live, k);
    return k;
}

static void push(desk_keeper *k, job given)
{
    job *j = g_new0(job, 1);
    *j = given;
    g_async_queue_push(k->jobs, j);
}

void desk_keeper_close(desk_keeper *k)
{
    if (!k) return;
    push(k, (job){ .kind = CLOSE });
    g_thread_join(k->thread);
    k->closed = TRUE;
    keeper_unref(k);
}

void desk_keeper_put_conversation(desk_keeper *k, const desk_conversation *c)
{
    push(k, (job){ .kind = PUT_CONVERSATION, .conversation = desk_conversation_copy(c) });
}

void desk_keeper_put_message(desk_keeper *k, int64_t conversation, const desk_message *m)
{
    push(k, (job){ .kind = PUT_MESSAGE, .id = conversation, .message = desk_message_copy(m) });
}

void desk_keeper_cut(desk_keeper *k, int64_t conversation, int64_t first)
{
    push(k, (job){ .kind = CUT, .id = conversation, .first = first });
}

void desk_keeper_set_deleted(desk_keeper *k, int64_t conversation, gboolean deleted)
{
    push(k, (job){ .kind = SET_DELETED, .id = conversation, .first = deleted });
}

void desk_keeper_put(desk_keeper *k, const char *name, const char *value)
{
    push(k, (job){ .kind = PUT, .text = g_strdup(name), .value = g_strdup(value) });
}

void desk_keeper_list(desk_keeper *k, const char *needle, desk_rows_fn fn, gpointer user)
{
    push(k, (job){ .kind = LIST, .text = g_strdup(needle), .rows_fn = fn, .user = user });
}

void desk_keeper_messages(desk_keeper *k, int64_t conversation, desk_rows_fn fn, gpointer user)
{
    push(k, (job){ .kind = MESSAGES, .id = conversation, .rows_fn = fn, .user = user });
}

void desk_keeper_get(desk_keeper *k, const char *name, desk_memo_fn fn, gpointer user)
{
    push(k, (job){ .kind = GET, .text = g_strdup(name), .memo_fn = fn, .user = user });
}
