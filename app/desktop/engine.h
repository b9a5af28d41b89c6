/* SPDX-License-Identifier: Apache-2.0
 * engine.h - the thread that the model lives on: one client of the library, one answer at a time, others wait their turn. What
 * happens there reaches the main loop as calls of desk_engine_events. No widgets here. */
#ifndef DESK_ENGINE_H
#define DESK_ENGINE_H

#include <glib.h>
#include <whisperengine.h>

typedef struct desk_engine desk_engine;

typedef enum desk_engine_state {
    DESK_ENGINE_EMPTY,   /* no model in memory */
    DESK_ENGINE_LOADING, /* `progress` tells how far, 0 to 1 */
    DESK_ENGINE_READY,
    DESK_ENGINE_FAILED /* `problem` tells why */
} desk_engine_state;

typedef struct desk_engine_status {
    desk_engine_state state;
    gboolean answering;
    double progress;
    char *url;     /* what was asked for; "" before the first */
    char *model;   /* as the backend calls it */
    char *backend; /* "MLX" */
    char *problem;
    we_backend_kind kind; /* of `backend` */
} desk_engine_status;

typedef struct desk_answer { /* how an answer ended */
    int64_t id;
    we_status status; /* not WE_OK: `problem` */
    we_finish finish;
    char *problem;
    char *model;
    size_t n_tokens;
    double tokens_per_second, first_token_s; /* 0: unknown */
} desk_answer;

/* All are called in the main loop; arguments are borrowed. */
typedef struct desk_engine_events {
    void (*status)(gpointer user, const desk_engine_status *status);
    void (*piece)(gpointer user, int64_t id,
                  const char *text); /* comes some 20 times a second, whatever the model's speed */
    void (*done)(gpointer user, const desk_answer *answer);
    void (*note)(gpointer user, const char *text); /* who failed and who answers in its place */
} desk_engine_events;

desk_engine *desk_engine_new(const desk_engine_events *events, gpointer user);
/** Stops what runs and waits for the thread's end. */
void desk_engine_close(desk_engine *e);

/** The configuration has changed: look at it again. What a loaded model was loaded with stays until it is unloaded. */
void desk_engine_settings_changed(desk_engine *e);
/** Bring a model into memory. A load that runs is given up for this one.
 * url    : mlx://NAME and the like; "": what the configuration says. */
void desk_engine_load(desk_engine *e, const char *url);
void desk_engine_unload(desk_engine *e);
/** Answer a conversation, loading `url` first where another one is in memory.
 * id     : handed to the events.
 * messages: JSON array of {"role", "content"}.
 * continues: the last message is the beginning of the answer. */
void desk_engine_ask(desk_engine *e, int64_t id, const char *url, const char *messages, gboolean continues);
/** Stop one answer, whether it runs or waits. Its `done` comes all the same. */
void desk_engine_stop(desk_engine *e, int64_t id);

#endif
