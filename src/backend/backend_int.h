/* SPDX-License-Identifier: Apache-2.0
 * backend_int.h - what the files of backend/ share: the table of functions that each kind fills, the handle, streams of events,
 * requests to a backend's server, and an answer while it comes. */
#ifndef WE_BACKEND_INT_H
#define WE_BACKEND_INT_H

#include "backend/backend.h"
#include "net/net.h"
#include "sampling/sampling.h"
#include <stdatomic.h>
#include <stdio.h>

/* What a kind does. The caller (backend.c) has taken the handle and cleared `cancel`; all of them look at it. */
typedef struct we_backend_ops {
    we_status (*open)(we_backend *b, we_error *err); /* may leave half-made things to close */
    void (*close)(we_backend *b);
    we_status (*inspect)(we_backend *b, we_backend_report *report, int wait_ms, we_error *err);
    we_status (*load)(we_backend *b, we_error *err);
    we_status (*unload)(we_backend *b, we_error *err);
    /* `o` is what ask->options say, over the defaults; reply->model is set by the kind. */
    we_status (*answer)(we_backend *b, const we_backend_ask *ask, const we_generate_options *o, we_backend_reply *reply,
                        we_error *err);
    bool can_continue;
    const char *start; /* how its server is started, for "X does not answer at URL: ..." */
} we_backend_ops;

extern const we_backend_ops we_backend_mlx, we_backend_lmstudio, we_backend_ollama, we_backend_llamacpp,
    we_backend_transformers, we_backend_openai;

struct we_backend {
    const we_backend_ops *ops;
    const we_backend_row *row;
    we_backend_target target;
    we_backend_options options; /* its strings are the handle's own */
    const char *base;           /* where its server answers: target.base, or the address of the one that we started */
    atomic_bool cancel, busy;
    int wait_ms;    /* of the inspection, for its message */
    bool unreached; /* no connection came about for the last request */
    we_net *net;    /* of those that speak HTTP */
    char *chosen;   /* the server's model, where the target names none: it stays the same from then on */
    void *own;      /* the kind's */
};

/* ---- Streams (stream.c) ---- */

/* Lines and events out of bytes that come in any pieces; zeroed is ready. */
typedef struct we_stream {
    bool is_sse;              /* else a line is an event: NDJSON */
    we_buf line, data, names; /* names: of the event */

    bool has_data, begun, after_cr, too_long;
} we_stream;

#define WE_STREAM_MAX ((size_t)4 << 20) /* bytes of a line or event */

typedef bool (*we_stream_fn)(void *user, we_str event, we_str data); /* false stops */

/** Returns false where fn stopped, memory is out (buf.failed) or a line is too long (too_long). */
bool we_stream_feed(we_stream *s, we_str bytes, we_stream_fn fn, void *user);
/** The end: what still stands there without its line end or empty line is an event too. */
bool we_stream_end(we_stream *s, we_stream_fn fn, void *user);
void we_stream_deinit(we_stream *s);

/* ---- Requests (server.c) ---- */

we_status we_server_open(we_backend *b, we_error *err);
void we_server_close(we_backend *b);

typedef struct we_server_call {
    const char *path;   /* behind the handle's base */
    const we_buf *body; /* JSON; NULL: a GET */
    int timeout_ms;     /* for all of it; 0: the handle's idle timeout only */
    bool (*on_body)(void *user, const char *bytes, size_t n);
    void *user;
    bool waits_for_load; /* a 503 is asked again */
} we_server_call;

/** Send and wait. Another status than 2xx is no error here (we_server_refused makes it one); that nothing answers is, with the
 * backend's name, address and how to start it. */
we_status we_server_send(we_backend *b, const we_server_call *call, we_net_response *r, we_error *err);
/** The error that another status than 2xx means, with what the server says of it. */
we_status we_server_refused(we_backend *b, const we_net_response *r, we_error *err);
/** A whole JSON answer, an object. The tree points into r->body. Errors: also those of we_server_refused, WE_E_FORMAT. */
we_status we_server_json(we_backend *b, const we_server_call *call, we_net_response *r, we_arena *arena,
                         const we_json **root, we_error *err);
/** Fail with "LM Studio at http://...: " before the message. */
we_status we_server_fail(const we_backend *b, we_error *err, we_status status, const char *format, ...) WE_PRINTF(4, 5);
/** The first words of what a server sent, for a message: markup and control characters left out, at most 200 bytes. */
const char *we_server_words(char out[256], we_str text);
/** What an "error" member of any of the usual shapes says: {"message"}, a string. ptr NULL: nothing. */
we_str we_server_error_text(const we_json *root);
bool we_server_error_is_model(const we_json *root); /* it says that there is no such model */

/** A model added to a report. name: copied. */
we_backend_model *we_report_add(we_backend_report *report, we_str name);
/** "runs, 3 models, 1 of them loaded". */
we_status we_report_running(we_backend_report *report, we_error *err);
/** Behind an error of the server that may mean so: asks it for its models, and where this one is not among them says that in
 * place of the error, with the nearest names. Gives WE_E_NOT_FOUND. */
we_status we_server_no_model(we_backend *b, const char *model, we_error *err);
/** The model to ask for: the target's, else the one that is loaded, else the first. `*name` is freed with we_free. */
we_status we_server_model(we_backend *b, char **name, we_error *err);

/* ---- An answer while it comes (intake.c) ---- */

typedef struct we_intake {
    we_backend *b;
    const we_generate_options *o;
    we_piece_fn on_reasoning;
    we_buf text, reasoning;
    struct we_tool_call {
        we_buf id, name, arguments;
    } * tools;
    size_t n_tools;
    we_stop stop;
    we_str *stop_texts;      /* that are taken out; NULL: none, or the server does it */
    double start_s, first_s; /* first_s 0: nothing came yet */
    double stat_first_s, stat_decode_s, stat_prefill_s, load_s; /* what the server measured; 0: it does not say */
    size_t n_prompt, n_cached, n_tokens;
    we_finish finish;
    bool ended;     /* the server said that the answer is whole */
    bool cancelled; /* by us or a callback */
    bool failed;    /* error holds why */
    we_error error;
} we_intake;

void we_intake_begin(we_intake *in, we_backend *b, const we_backend_ask *ask, const we_generate_options *o);
/** The server leaves stop texts in its answer: from now on they are taken out. Before the first text. */
bool we_intake_take_stop(we_intake *in);
/** All false where the answer is to stop. */
bool we_intake_text(we_intake *in, we_str text);
bool we_intake_reasoning(we_intake *in, we_str text);
bool we_intake_tool(we_intake *in, size_t index, we_str id, we_str name, we_str arguments);
bool we_intake_fail(we_intake *in, we_status status, const char *format, ...) WE_PRINTF(3, 4);
/** Parse and pass on; broken UTF-8 is mended, broken JSON is a failure. */
bool we_intake_json(we_intake *in, we_str text, bool (*fn)(void *user, const we_json *root), void *user);
/** An "error" member is a failure. */
bool we_intake_check(we_intake *in, const we_json *root);
/** Hand over what came. st, err: how the request ended; gives how the answer ended. */
we_status we_intake_end(we_intake *in, we_status st, we_backend_reply *reply, we_error *err);

we_str we_text_of(const we_json *v);   /* "" where it is no string */
double we_number_of(const we_json *v); /* 0 where it is no positive number */
void we_write_number(we_json_writer *w, const char *key, double value);
double we_widened(float f);                                          /* 0.7F as 0.7, not as 0.699999988 */
void we_write_stop(we_json_writer *w, const we_generate_options *o); /* "stop": [...], where there are any */

/* ---- OpenAI-style servers (openai.c) ---- */

typedef enum we_continues {
    WE_CONTINUES_NOT,
    WE_CONTINUES_LAST, /* a last message of the assistant is continued by itself */
    WE_CONTINUES_FLAG  /* with continue_final_message, add_generation_prompt */
} we_continues;

typedef struct we_openai_flavour {  /* where servers differ */
    const char *chat, *completions; /* paths */
    const char *repetition_penalty; /* the field's name */
    bool takes_usage;               /* stream_options: {include_usage} */
    bool takes_variables;           /* chat_template_kwargs */
    we_continues continues;
    bool takes_generation_config; /* `transformers serve`: what OpenAI's fields lack goes into a text of JSON */
    bool leaves_stop;             /* the stop text stands at the end of its answer */
    bool null_is_no_limit;        /* max_tokens: null, where none is set; its default is a few tokens */
} we_openai_flavour;

/** Answer over /chat/completions or, raw, /completions. model: as the server calls it. */
we_status we_openai_answer(we_backend *b, const we_openai_flavour *f, const char *model, const we_backend_ask *ask,
                           const we_generate_options *o, we_backend_reply *reply, we_error *err);
/** GET path: {"data": [{"id"}]}, with what LM Studio's /api/v0 and others add. */
we_status we_openai_models(we_backend *b, const char *path, we_backend_report *report, int wait_ms, we_error *err);
/** "messages": [...] of a conversation. */
we_status we_conversation_write(we_json_writer *w, const we_backend *b, const we_conversation *c, we_error *err);
/** Raw JSON of the caller's, which must be an array or object as `type` says. what: "tools_json", for the message. */
we_status we_json_copy(we_json_writer *w, const char *json, we_json_type type, const char *what, we_error *err);

/* ---- Servers in Python that we start: which Python (python.c), their life (pyserver.c) ---- */

typedef enum we_python_package { WE_PYTHON_LLAMACPP, WE_PYTHON_TRANSFORMERS } we_python_package;
enum { WE_PYTHON_PACKAGES = WE_PYTHON_TRANSFORMERS + 1 };

typedef struct we_python { /* an interpreter that has a package */
    char python[1024];     /* its whole path; "": it does not */
    char version[64];      /* of the package */
    bool serves;           /* this version has a server */
    char missing[256];     /* what the server needs and is not there, comma-separated; "": nothing */
} we_python;

/** The Python whose server of the package can be started. wait_ms: for all candidates together.
 * Errors : WE_E_NOT_FOUND (no Python, not installed, too old, parts missing: with the mend), WE_E_NETWORK (too slow), WE_E_CANCELLED,
 *          WE_E_NOMEM. */
we_status we_python_find(we_python *out, we_python_package package, int wait_ms, const atomic_bool *cancel,
                         we_error *err);

typedef struct we_command { /* zeroed is empty */
    we_arena arena;
    const char *argv[48], *env[32];
    size_t n_argv, n_env;
    bool failed; /* memory is out */
} we_command;
void we_command_arg(we_command *c, const char *format, ...) WE_PRINTF(2, 3);
void we_command_env(we_command *c, const char *format, ...) WE_PRINTF(2, 3); /* NAME=VALUE, or NAME for without it */

typedef struct we_pyserver_kind {
    we_python_package package;
    const char *models;                                  /* what its models are, for messages: "GGUF file" */
    bool (*runs)(const char *path);                      /* is that a model of it? A look at the file, no more */
    we_status (*check)(const char *path, we_error *err); /* why one that was named is not; after runs() said no */
    /* The command line and environment behind the interpreter. key: "" where it takes none. */
    void (*command)(const we_backend *b, const char *path, int port, const char *key, we_command *c);
    bool takes_key;
    bool asks_by_path;  /* a request names the model by its path, else by the name that we were given */
    const char *health; /* an address that answers once it is ready */
    we_openai_flavour flavour;
} we_pyserver_kind;

we_status we_pyserver_open(we_backend *b, const we_pyserver_kind *kind, we_error *err);
void we_pyserver_close(we_backend *b);
we_status we_pyserver_inspect(we_backend *b, we_backend_report *report, int wait_ms, we_error *err);
we_status we_pyserver_load(we_backend *b, we_error *err);
we_status we_pyserver_unload(we_backend *b, we_error *err);
we_status we_pyserver_answer(we_backend *b, const we_backend_ask *ask, const we_generate_options *o,
                             we_backend_reply *reply, we_error *err);
/* The kinds differ in what they open with: their we_pyserver_kind. */
#define WE_PYSERVER_OPS(open_fn)                                                                                   \
    {                                                                                                              \
        open_fn, we_pyserver_close, we_pyserver_inspect, we_pyserver_load, we_pyserver_unload, we_pyserver_answer, \
            false, "its server did not take the connection"                                                        \
    }

#endif
