/* SPDX-License-Identifier: Apache-2.0
 * task.c - a generate or chat on a thread of its own, of a session or of a client. What the caller passed is copied into the
 * task's arena first. */
#include "api/api.h"
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <time.h>

struct we_task {
    we_session *session; /* or */
    we_client *client;
    we_arena arena;        /* the copied arguments */
    const int32_t *tokens; /* NULL: a chat, or a client's */
    const char *prompt;    /* NULL: a chat, or a session's */
    size_t n_tokens;
    we_conversation conversation;
    we_generate_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done; /* guarded by lock; status, error and result are final once it is set */
    we_status status;
    we_error error;
    we_client_result result; /* a session's is its `result` */
};

/* ---- Copies ---- */

static const char *copy_text(we_arena *a, const char *text, bool *failed)
{
    if (!text) return NULL;
    const char *copy = we_arena_strndup(a, text, strlen(text));
    if (!copy) *failed = true;
    return copy;
}

static bool copy_options(we_task *t, const we_generate_options *opt)
{
    bool failed = false;
    t->options = (we_generate_options)WE_GENERATE_OPTIONS_INIT;
    WE_TAKE_OPTIONS(t->options, opt);
    const char **stop = we_arena_calloc(&t->arena, t->options.n_stop, sizeof *stop);
    for (size_t i = 0; stop && i < t->options.n_stop; i++) stop[i] = copy_text(&t->arena, t->options.stop[i], &failed);
    t->options.stop = stop;
    return stop && !failed;
}

static bool copy_conversation(we_task *t, const we_conversation *conversation)
{
    bool failed = false;
    we_conversation *c = &t->conversation;
    *c = (we_conversation)WE_CONVERSATION_INIT;
    WE_TAKE_OPTIONS(*c, conversation);
    we_message *messages = we_arena_calloc(&t->arena, c->n_messages, sizeof *messages);
    for (size_t i = 0; messages && i < c->n_messages; i++)
        messages[i] = (we_message){ copy_text(&t->arena, c->messages[i].role, &failed),
                                    copy_text(&t->arena, c->messages[i].content, &failed) };
    c->messages = messages;
    c->messages_json = copy_text(&t->arena, c->messages_json, &failed);
    c->tools_json = copy_text(&t->arena, c->tools_json, &failed);
    c->variables_json = copy_text(&t->arena, c->variables_json, &failed);
    c->date = copy_text(&t->arena, c->date, &failed);
    c->documents_json = copy_text(&t->arena, c->documents_json, &failed);
    c->continue_field = copy_text(&t->arena, c->continue_field, &failed);
    return messages && !failed;
}

/* ---- Running ---- */

static we_status ask(we_task *t)
{
    we_result *r = &t->result.result;
    if (t->client && t->prompt) return we_client_generate(t->client, t->prompt, &t->options, &t->result, &t->error);
    if (t->client) return we_client_chat(t->client, &t->conversation, &t->options, &t->result, &t->error);
    return t->tokens ? we_session_do_generate(t->session, t->tokens, t->n_tokens, 0, &t->options, r, &t->error)
                     : we_session_do_chat(t->session, &t->conversation, &t->options, r, &t->error);
}

static void *run(void *arg)
{
    we_task *t = arg;
    const we_status st = ask(t);
    pthread_mutex_lock(&t->lock);
    t->status = st;
    t->done = true;
    if (t->session)
        we_session_end(
            t->session); /* under the lock: we_task_close must not cancel a call that comes after this task */
    pthread_cond_broadcast(&t->ended);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void free_task(we_task *t)
{
    we_client_result_deinit(&t->result);
    pthread_cond_destroy(&t->ended);
    pthread_mutex_destroy(&t->lock);
    we_arena_deinit(&t->arena);
    we_free(t);
}

static we_task *new_task(we_session *s)
{
    we_task *t = we_calloc(1, sizeof *t);
    if (!t) return NULL;
    t->session = s;
    t->result.size = sizeof t->result;
    t->result.result.size = sizeof t->result.result;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->ended, NULL);
    return t;
}

/* Start a task whose arguments are copied (`copied`), or free it. */
static we_status start(we_task **out, we_task *t, bool copied, we_error *err)
{
    *out = NULL;
    if (!t || !copied) {
        if (t) free_task(t);
        return we_fail(err, WE_E_NOMEM, "no memory for a task");
    }
    we_status st = t->session ? we_session_begin(t->session, err) : WE_OK; /* a client's call begins on its thread */
    if (!st && pthread_create(&t->thread, NULL, run, t) != 0) {
        if (t->session) we_session_end(t->session);
        st = we_fail(err, WE_E_NOMEM, "the system gave no thread for a task");
    }
    if (st)
        free_task(t);
    else
        *out = t;
    return st;
}

we_status we_session_generate_async(we_task **out, we_session *s, const int32_t *tokens, size_t n,
                                    const we_generate_options *opt, we_error *err)
{
    *out = NULL;
    WE_REFUSE_UNSIZED(opt, "WE_GENERATE_OPTIONS_INIT");
    we_task *t = new_task(s);
    bool copied = t && copy_options(t, opt);
    if (copied) {
        int32_t *copy = we_arena_calloc(&t->arena, n, sizeof *copy);
        copied = copy != NULL;
        if (copied && n) memcpy(copy, tokens, n * sizeof *copy);
        t->tokens = copy;
        t->n_tokens = n;
    }
    return start(out, t, copied, err);
}

we_status we_session_chat_async(we_task **out, we_session *s, const we_conversation *conversation,
                                const we_generate_options *opt, we_error *err)
{
    *out = NULL;
    WE_REFUSE_UNSIZED(opt, "WE_GENERATE_OPTIONS_INIT");
    WE_REFUSE_UNSIZED(conversation, "WE_CONVERSATION_INIT");
    we_task *t = new_task(s);
    return start(out, t, t && copy_options(t, opt) && copy_conversation(t, conversation), err);
}

/* Without options the configuration and the backend choose. */
static we_task *new_client_task(we_client *client, const we_generate_options *opt)
{
    we_task *t = new_task(NULL);
    if (!t) return NULL;
    t->client = client;
    if (!copy_options(t, opt)) {
        free_task(t);
        return NULL;
    }
    if (!opt) t->options.temperature = NAN;
    return t;
}

we_status we_client_chat_async(we_task **out, we_client *client, const we_conversation *conversation,
                               const we_generate_options *opt, we_error *err)
{
    *out = NULL;
    WE_REFUSE_UNSIZED(opt, "WE_GENERATE_OPTIONS_INIT");
    WE_REFUSE_UNSIZED(conversation, "WE_CONVERSATION_INIT");
    if (!conversation) return we_fail(err, WE_E_ARG, "no conversation was given");
    we_task *t = new_client_task(client, opt);
    return start(out, t, t && copy_conversation(t, conversation), err);
}

we_status we_client_generate_async(we_task **out, we_client *client, const char *prompt, const we_generate_options *opt,
                                   we_error *err)
{
    bool failed = false;
    *out = NULL;
    WE_REFUSE_UNSIZED(opt, "WE_GENERATE_OPTIONS_INIT");
    if (!prompt) return we_fail(err, WE_E_ARG, "no prompt was given");
    we_task *t = new_client_task(client, opt);
    if (t) t->prompt = copy_text(&t->arena, prompt, &failed);
    return start(out, t, t && !failed, err);
}

const we_client_result *we_task_client_result(const we_task *t) { return t->client ? &t->result : NULL; }

/* ---- Waiting ---- */

static struct timespec deadline(int timeout_ms)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += timeout_ms / 1000;
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

we_status we_task_wait(we_task *t, int timeout_ms, bool *done, const we_result **result, we_error *err)
{
    const struct timespec until = deadline(timeout_ms < 0 ? 0 : timeout_ms);
    pthread_mutex_lock(&t->lock);
    if (timeout_ms < 0)
        while (!t->done) pthread_cond_wait(&t->ended, &t->lock);
    else
        while (!t->done && timeout_ms > 0 && pthread_cond_timedwait(&t->ended, &t->lock, &until) != ETIMEDOUT) {
        }
    const bool ended = t->done;
    pthread_mutex_unlock(&t->lock);
    if (done) *done = ended;
    if (!ended) return WE_OK;
    if (result) *result = &t->result.result;
    if (t->status && err) *err = t->error;
    return t->status;
}

void we_task_close(we_task *t)
{
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    if (!t->done && t->session) we_session_cancel(t->session);
    while (!t->done && t->client) { /* again and again: the call forgets what came before its beginning */
        const struct timespec until = deadline(20);
        we_client_cancel(t->client);
        pthread_cond_timedwait(&t->ended, &t->lock, &until);
    }
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    free_task(t);
}
