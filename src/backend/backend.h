/* SPDX-License-Identifier: Apache-2.0
 * backend.h - the door of backend/: whoever can answer a conversation, behind one small interface. A URL becomes a target, a
 * target becomes a handle, and a handle answers conversations and raw prompts with the structs that sessions use too.
 *
 * Not here: which backend is taken after another one failed, whose address comes from which variable, and what the user
 * hears of it (client/).
 *
 * What always holds: only the target's own address is asked; an API key goes to that server alone and appears in no
 * log and no message; text that a server sends is passed on as it is, but for messages, which are cleaned and cut. */
#ifndef WE_BACKEND_H
#define WE_BACKEND_H

#include "base/base.h"

/* ---- Targets (url.c) ---- */

typedef struct we_backend_target {
    we_backend_kind kind;
    char *model; /* name, file or folder; "" where the URL names none */
    char *base;  /* "http://127.0.0.1:11434", "https://host/v1"; "" for those that are no server yet */
    bool local;  /* base is on this machine, or is "" */
} we_backend_target;

/** Read a URL: mlx://NAME, lmstudio://NAME[@HOST:PORT], ollama://NAME[@HOST:PORT], llamacpp://FILE,
 * transformers://NAME-OR-FOLDER, http(s)://HOST[:PORT]/v1[#MODEL].
 * Where no address is given, LMSTUDIO_HOST and OLLAMA_HOST count, then the usual ones.
 * out    : zeroed on failure; free with we_backend_target_deinit.
 * Errors : WE_E_ARG (unknown scheme: the known ones are named; user and password in it; port; no name), WE_E_NOMEM. */
we_status we_backend_target_parse(we_backend_target *out, const char *url, we_error *err);
/** A backend at its usual address, no model named. Errors: as above, where a variable is wrong. */
we_status we_backend_target_default(we_backend_target *out, we_backend_kind kind, we_error *err);
void we_backend_target_deinit(we_backend_target *target);
/** Is `value` an address as LMSTUDIO_HOST and OLLAMA_HOST take it, and is it on this machine? Errors: WE_E_ARG. */
we_status we_backend_host_check(const char *variable, const char *value, bool *local, we_error *err);
/** Does a model's name begin with one of the schemes? */
bool we_backend_is_url(const char *name);

typedef struct we_backend_row { /* what is said of a kind; the table is in backend.c */
    const char *id, *name, *description;
} we_backend_row;
const we_backend_row *we_backend_row_of(we_backend_kind kind);

#define WE_BACKEND_CHAIN 5 /* kinds that are tried one after the other: all but WE_BACKEND_OPENAI */
/** The order in which they are tried: those that `text` names ("ollama,mlx"), then the others as they stand in the table. NULL: none
 * named. Errors: WE_E_ARG (a name that is none, or stands there twice). */
we_status we_backend_chain_parse(const char *text, we_backend_kind out[WE_BACKEND_CHAIN], we_error *err);

/* ---- What a backend says of itself ---- */

typedef struct we_backend_report { /* zeroed is empty; strings and models lie in its arena */
    const char *reason;            /* why it can be used: "runs, 3 models"; set where inspecting gave WE_OK */
    const char *version;           /* NULL where unknown */
    we_backend_model *models;
    size_t n_models;
    double latency_ms;
    we_arena arena;
} we_backend_report;
void we_backend_report_deinit(we_backend_report *report);

/** The names nearest to `name`, at most three, as "a", "b" or "c"; "" where none is near. Returns: out's text. */
const char *we_backend_nearest(we_buf *out, const we_backend_report *report, const char *name);

/* ---- Handles ---- */

typedef struct we_backend we_backend;

typedef struct we_backend_options { /* zeroed: the defaults */
    const char *api_key;   /* for the target's server; NULL: LM_API_TOKEN for an LM Studio on this machine, else none */
    int context;           /* most tokens, where the backend can be told; 0: its own choice */
    int connect_timeout_s; /* 0: 5 */
    int idle_timeout_s;    /* a server sends no byte for so long: 0: 300, negative: no limit */
    const char *keep_alive;          /* Ollama: how long the model stays in memory: "5m", "-1"; NULL: its own choice */
    const we_engine_options *engine; /* MLX; NULL: the defaults */
    const we_model_options *model;   /* MLX; NULL: the defaults; its context is the one above */
    const char *draft_model;         /* MLX: guesses tokens for the model; NULL: what MLX_DRAFT_MODEL says, "": none */
    we_note_fn on_note;              /* told that the draft model of the configuration was left out; NULL: nobody */
    void *user;                      /* handed to it */
} we_backend_options;

/** Make a handle. Nothing is asked or loaded yet. Target and options are copied (but for what the engine's point to).
 * Errors : WE_E_NOMEM, WE_E_ARG (api_key, keep_alive), WE_E_UNSUPPORTED. */
we_status we_backend_open(we_backend **out, const we_backend_target *target, const we_backend_options *opt,
                          we_error *err);
void we_backend_close(we_backend *backend); /* NULL is allowed; a child that it started ends */

const we_backend_target *we_backend_target_of(const we_backend *backend);
/** Can it continue a conversation's last message (continue_final_message)? Where it cannot, such a conversation is
 * WE_E_UNSUPPORTED. */
bool we_backend_can_continue(const we_backend *backend);

/** Ask whether it is there, for its version and its models.
 * report : free with we_backend_report_deinit, after an error too.
 * wait_ms: how long that may take; 0: as long as the options say.
 * Errors : WE_E_NETWORK (nothing answers there), WE_E_DENIED, WE_E_FORMAT (something else answers there), WE_E_NOMEM. The message
 *          is the reason why it cannot be used. */
we_status we_backend_inspect(we_backend *backend, we_backend_report *report, int wait_ms, we_error *err);

/** Bring the model into memory, so that the first answer need not wait. Answering loads by itself.
 * Errors : those of we_backend_inspect, WE_E_NOT_FOUND (no such model; the nearest names are offered), WE_E_CANCELLED. */
we_status we_backend_load(we_backend *backend, we_error *err);
/** Give the model's memory back. A server that cannot be told does so when it likes. */
we_status we_backend_unload(we_backend *backend, we_error *err);

typedef struct we_backend_ask {
    const we_conversation *conversation; /* NULL: raw */
    const char *prompt;                  /* raw: continued as it is, without a template */
    /* As sessions take them, NULL for the defaults. Here NAN as temperature, and 0 for top_p, top_k, min_p, repetition_penalty and
     * seed leave the choice to the backend (MLX: the sampling that the model's makers recommend). */
    const we_generate_options *options;
    we_piece_fn
        on_reasoning; /* what a server marks as its model's thoughts; NULL: only collected; same user as on_piece */
} we_backend_ask;

typedef struct we_backend_reply { /* zeroed before the call; free with we_backend_reply_deinit, after an error too */
    we_result
        result;  /* `tokens` is NULL but for MLX; n_tokens and n_prompt_tokens are 0 where the server does not tell */
    char *model; /* as the backend names it */
    char *reasoning;   /* NULL: none */
    char *tool_calls;  /* a JSON array as in OpenAI's messages; NULL: none */
    double load_s;     /* of it spent on loading the model; 0 where unknown */
    bool may_pass;     /* the failure looks like one that passes */
    bool is_unreached; /* no connection came about */
} we_backend_reply;
void we_backend_reply_deinit(we_backend_reply *reply);

/** Answer, streaming to on_piece. While a server says that it loads its model, it is asked again.
 * reply  : after an error it holds what came until there.
 * Errors : those of we_backend_load; WE_E_UNSUPPORTED (continuing, a field that it does not know), WE_E_NETWORK (broke off), WE_E_FORMAT
 *          (an answer that is none). Cancelling is no error: WE_OK and WE_FINISH_CANCELLED. */
we_status we_backend_answer(we_backend *backend, const we_backend_ask *ask, we_backend_reply *reply, we_error *err);

/** Stop the running call of this handle soon; from any thread, and from a signal handler. */
void we_backend_cancel(we_backend *backend);

/* ---- Detection (detect.c) ---- */

typedef struct we_backend_found {
    we_backend_kind kind;
    bool available;
    char *url; /* "" where it is no server */
    char reason[1024];
    we_backend_report report;
} we_backend_found;

/** Inspect all kinds of the chain at once; what is found stands in its order. wait_ms: for all together.
 * found  : out, [WE_BACKEND_CHAIN]; free each with we_backend_found_deinit. Errors: WE_E_NOMEM (nothing to free then). */
we_status we_backend_detect(we_backend_found *found, const we_backend_kind *chain, int wait_ms, we_error *err);
void we_backend_found_deinit(we_backend_found *found);

/* ---- Recommendations (recommend.c) ---- */

/** See we_recommend_each in whisperengine.h; the machine is given. Errors: WE_E_NOMEM. */
we_status we_recommend_for(const we_machine *machine, int context, we_recommend_fn fn, void *user, we_error *err);
/** Look at this machine. measure: its memory's bandwidth too, some 0.15 s on all threads. gpus: what machine->gpus points to.
 * Errors: WE_E_IO, WE_E_NOMEM. */
we_status we_machine_look(we_machine *machine, we_buf *gpus, bool measure, we_error *err);
uint64_t we_machine_usable(const we_machine *machine); /* bytes for models, when other programs are closed */
/** Bytes a second that all cores together read from memory, as the CPU device measures it; 0: could not be measured. */
double we_memory_bandwidth(void);
/** See we_setup_recommendations. found: [WE_BACKEND_CHAIN]. */
we_status we_setup_texts(const we_machine *machine, const we_backend_found *found, we_note_fn fn, void *user,
                         we_error *err);

#endif
