/* SPDX-License-Identifier: Apache-2.0
 * whisperengine.h - the public interface of the WhisperEngine library: load an MLX-format language model, chat with it,
 * generate from tokens, tokenize, render templates, measure.
 *
 * How it hangs together: an *engine* owns the device (threads, kernels); a *model* is weights bound to an engine; a
 * *session* is one token timeline with its KV cache on a model; a *tokenizer* is a model folder's text side and works
 * without weights. A handle outlives the handles made from it: close sessions before their model, models before the
 * engine. Option structs begin with their own size: set it with the WE_*_OPTIONS_INIT macros, so that a program built
 * against an older header keeps working.
 *
 * Every function that can fail returns a we_status and writes a sentence for people into the caller's `we_error`, which
 * may be NULL. The library never prints and never exits. All text is UTF-8.
 *
 * Threads: engines and models may be used from any thread at once; a session and a task belong to one thread at a time,
 * but for the functions that say otherwise. A we_error belongs to its caller. */
#ifndef WHISPERENGINE_H
#define WHISPERENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define WE_API __attribute__((visibility("default")))
#else
#define WE_API
#endif

/* ---- Status and errors ------------------------------------------------------------------------------------------ */

/* What went wrong, for programs; we_error.message says it for people. Values are stable across versions. */
typedef enum we_status {
    WE_OK = 0,
    WE_E_ARG = 1,         /* the caller's argument makes no sense */
    WE_E_RANGE = 2,       /* a number outside its range; a prompt longer than the context */
    WE_E_NOMEM = 3,       /* memory: weights + KV cache + scratch exceed what is available */
    WE_E_IO = 4,          /* the operating system refused a file operation */
    WE_E_NOT_FOUND = 5,   /* no such model, file or name */
    WE_E_FORMAT = 6,      /* a file's content is broken or contradicts itself */
    WE_E_UNSUPPORTED = 7, /* well-formed, but not something this build can run */
    WE_E_TEMPLATE = 8,    /* a chat template is wrong or raised an exception */
    WE_E_CANCELLED = 9,   /* stopped by we_session_cancel or by a callback */
    WE_E_BUSY = 10,       /* the handle is in use by a running task */
    WE_E_DEVICE = 11,     /* the device failed, or a mapped model file was cut short while in use */
    WE_E_INTERNAL = 12,   /* our mistake: please report it */
    WE_E_NETWORK = 13,    /* another machine did not answer, or broke off */
    WE_E_DENIED = 14      /* a server wants a token, or does not accept this one */
} we_status;

typedef struct we_error {
    we_status status;
    char message[1024]; /* one sentence or two: the thing, what was found, what was expected, the next step */
} we_error;

/** The name of a status as written in this header, e.g. "WE_E_NOMEM".
 * Returns: a static string; "WE_E_?" for a value that is not a status.
 * Threads: any. Since: 0.1 */
WE_API const char *we_status_name(we_status status);

/** A status as a short text for people, e.g. "out of memory".
 * Returns: a static string.
 * Threads: any. Since: 0.1 */
WE_API const char *we_status_text(we_status status);

/** The library's version, e.g. "0.1.0".
 * Returns: a static string.
 * Threads: any. Since: 0.1 */
WE_API const char *we_version(void);

/** Free memory that a function of this library handed out and whose comment says "we_free".
 * p      : NULL is allowed.
 * Threads: any. Since: 0.1 */
WE_API void we_free(void *p);

/* ---- Log -------------------------------------------------------------------------------------------------------- */

typedef enum we_log_level {
    WE_LOG_ERROR,
    WE_LOG_WARN,
    WE_LOG_INFO,
    WE_LOG_DEBUG,
    WE_LOG_TRACE,
    WE_LOG_OFF
} we_log_level;

/* `module` is the name of a folder below src/ ("model", "tokenizer", ...); both strings are borrowed for the call.
 * May be called from any thread, several at once; must not call the library. */
typedef void (*we_log_fn)(void *user, we_log_level level, const char *module, const char *message);

/** Send the library's log to a function; NULL (the default) drops it. One per process.
 * user   : handed to `fn`.
 * Threads: call before the other functions, or accept that running calls may use the old one.
 * Since  : 0.1 */
WE_API void we_log_set_callback(we_log_fn fn, void *user);

/** Choose how much is logged: "debug", "model=debug", "warn,tokenizer=trace,device=off". Default: "warn".
 * "mlx" as a module stands for all that run a model: format, device, model, sampling, runtime and backend.
 * spec   : levels error, warn, info, debug, trace, off; a level without a module sets all. Read, not kept.
 * Errors : WE_E_ARG (unknown level or module; nothing changed).
 * Threads: any. Since: 0.1 */
WE_API we_status we_log_set_levels(const char *spec, we_error *err);

/* ---- Configuration ---------------------------------------------------------------------------------------------- */

/* Variables that say who answers and how: LLM_CHAT_API_URL, MLX_MAX_TOKENS, LOCAL_MODELS_DIR, ... (docs/configuration.md lists
 * them). A variable's value comes from the environment, else from ./.env, else from the user's file `whisperengine/env` in the
 * configuration directory, else it is the default. Without we_config_load only the environment counts. The process's
 * environment itself is never changed. */

typedef enum we_config_source {
    WE_CONFIG_DEFAULT,
    WE_CONFIG_ENVIRONMENT,
    WE_CONFIG_DOTENV, /* ./.env */
    WE_CONFIG_USER    /* the user's file */
} we_config_source;

/* A line for people: what was read, left out, decided. Borrowed for the call. */
typedef void (*we_note_fn)(void *user, const char *text);
/* A question that needs a yes; false is the safe answer. */
typedef bool (*we_confirm_fn)(void *user, const char *question);

typedef struct we_config_options {
    size_t size;           /* sizeof(we_config_options) */
    bool no_dotenv;        /* leave ./.env alone */
    we_confirm_fn confirm; /* ./.env leads to another machine: follow it? NULL: no */
    we_note_fn on_note;    /* NULL: none */
    void *user;            /* handed to both */
} we_config_options;
/* clang-format off */
#define WE_CONFIG_OPTIONS_INIT { sizeof(we_config_options), false, NULL, NULL, NULL }
/* clang-format on */

typedef struct we_config_value {
    size_t size;               /* in: sizeof(we_config_value) */
    const char *name;          /* strings are borrowed for the process's life, but for the environment's own */
    const char *value;         /* NULL: not set; a secret is shown as "********" */
    const char *default_value; /* what counts where it is not set, for people */
    const char *help;          /* one line */
    const char *path;          /* of the file it comes from; NULL: none */
    const char *refused; /* what ./.env says and was not followed, since it leads to another machine; NULL: nothing */
    we_config_source source;
    bool is_secret, is_settable, is_valid;
    char range[160];    /* "a whole number, 1 to 64" */
    char problem[1024]; /* where it is not valid */
    bool is_on;         /* of one that takes true or false: what the value means */
    bool is_in_service; /* a secret that is kept in the secret service */
    const char *words;  /* of one that takes a word out of a list: "16|8|4"; NULL: any other */
} we_config_value;

/** Read ./.env and the user's file, and apply WE_LOG. A program calls it once, at its start; a later call reads them anew.
 * ./.env counts only where it belongs to the user and nobody else may write to it.
 * opt    : NULL for the defaults; read, not kept.
 * Errors : WE_E_NOMEM, WE_E_ARG (WE_LOG). Files that are missing or not to be trusted are no error: on_note hears of it.
 * Threads: any; others may see some variables changed before others. Since: 0.1 */
WE_API we_status we_config_load(const we_config_options *opt, we_error *err);

typedef bool (*we_config_fn)(void *user, const we_config_value *value); /* borrowed for the call; false stops */

/** Every variable, in the order of the documentation.
 * Threads: any. Since: 0.1 */
WE_API void we_config_each(we_config_fn fn, void *user);

/** One variable.
 * value  : out; `size` must be set.
 * Errors : WE_E_NOT_FOUND (no such variable), WE_E_ARG (size).
 * Threads: any. Since: 0.1 */
WE_API we_status we_config_get(const char *name, we_config_value *value, we_error *err);

/** Would this be a value of the variable?
 * Errors : WE_E_NOT_FOUND, WE_E_ARG (the message names the range), WE_E_UNSUPPORTED (counts only in the environment), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_config_check(const char *name, const char *value, we_error *err);

/** Write a variable into the user's file, whose other lines stay as they are, and let it count from now on. The environment
 * and ./.env still come first.
 * value  : NULL takes the variable out.
 * Errors : those of we_config_check; WE_E_IO, WE_E_NOT_FOUND (no home folder), WE_E_NOMEM. The file is whole, old or new.
 * Threads: any; two programs that write at once: the later one wins. Since: 0.1 */
WE_API we_status we_config_set(const char *name, const char *value, we_error *err);

/** Keep an API key in the session's secret service (by way of libsecret, where that is installed) instead of the user's file, which
 * then says "@secret-service" in its place; so every program that reads the configuration finds it. we_config_set takes it out again.
 * name   : LLM_CHAT_API_KEY or OPENAI_API_KEY.
 * Errors : WE_E_UNSUPPORTED (no secret service answers: nothing is changed, and we_config_set is the other way), those of
 *          we_config_set.
 * Threads: any; may wait for a person who unlocks the service. Since: 0.1 */
WE_API we_status we_config_keep_secret(const char *name, const char *value, we_error *err);

typedef struct we_backends we_backends; /* see "Backends" below */

typedef enum we_config_target {
    WE_CONFIG_TO_NOWHERE, /* only propose */
    WE_CONFIG_TO_USER,    /* the user's file */
    WE_CONFIG_TO_DOTENV   /* ./.env */
} we_config_target;

/* A variable that is proposed: borrowed for the call. */
typedef void (*we_config_proposal_fn)(void *user, const char *name, const char *value, const char *reason);

/** Configure by what is found on this machine: look for backends, propose values for variables that are not set anywhere, and
 * write them where asked. What is set stays as it is.
 * list   : what was detected.
 * fn     : called for each proposal, written or not; NULL: none.
 * n      : out, how many there are; may be NULL.
 * Errors : those of we_config_set; what was written before stays.
 * Threads: as we_config_set. Since: 0.1 */
WE_API we_status we_config_auto(const we_backends *list, we_config_target target, we_config_proposal_fn fn, void *user,
                                size_t *n, we_error *err);

/** Where the user's file is, whether it exists or not.
 * path   : out; free with we_free.
 * Errors : WE_E_NOT_FOUND (no home folder), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_config_file(char **path, we_error *err);

/* ---- Engine ----------------------------------------------------------------------------------------------------- */

typedef struct we_engine we_engine; /* the device: worker threads and the kernels chosen for this machine */

typedef struct we_engine_options {
    size_t size;         /* sizeof(we_engine_options) */
    const char *device;  /* "auto" (NULL): "mlx" where it has a GPU, else "cpu"; "mlx", "cpu" */
    const char *kernels; /* NULL: MLX_KERNELS, else the best for this CPU; "reference", "avx2", "avxvnni", "avx512",
                            "avx512bf16", "neon", "neoni8mm"; never "mlx" then */
    int threads;         /* 0: MLX_THREADS, else one for each core that this process may use */
    uint64_t
        memory_limit_bytes; /* of weights, KV caches and scratch of all its models; 0: MLX_MEMORY_POOL_SIZE, else none */
} we_engine_options;
/* clang-format off */
#define WE_ENGINE_OPTIONS_INIT { sizeof(we_engine_options), NULL, NULL, 0, 0 }
/* clang-format on */

typedef struct we_engine_info {
    size_t size;         /* in: sizeof(we_engine_info) */
    const char *device;  /* "cpu", "mlx"; strings are borrowed until the engine closes */
    const char *kernels; /* "avx512bf16"; "metal", "cuda" */
    int threads;
    const char *detail; /* "MLX 0.32.4 on Apple M3"; "" where there is nothing to add */
    uint64_t memory_limit_bytes, memory_active_bytes, memory_cached_bytes; /* MLX's own; 0 elsewhere */
} we_engine_info;

/** Start the device.
 * out    : the engine, or NULL on failure; free with we_engine_close.
 * opt    : NULL for the defaults; read, not kept.
 * Errors : WE_E_UNSUPPORTED (device or kernels that this machine lacks), WE_E_ARG (also: MLX_MEMORY_POOL_SIZE, MLX_THREADS,
 *          MLX_KERNELS), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_engine_open(we_engine **out, const we_engine_options *opt, we_error *err);

/** Stop the device. All its models must be closed.
 * engine : NULL is allowed.
 * Threads: when no other call uses it. Since: 0.1 */
WE_API void we_engine_close(we_engine *engine);

/** Tell which device, kernels and how many threads were chosen.
 * info   : out; `size` must be set.
 * Threads: any. Since: 0.1 */
WE_API void we_engine_get_info(const we_engine *engine, we_engine_info *info);

/* ---- Finding models --------------------------------------------------------------------------------------------- */

/** Where a model's name leads: a path, a name below $LOCAL_MODELS_DIR/mlx (default ./models if it exists, else the user's
 * data directory), a GGUF file's there or in $LOCAL_MODELS_DIR (".gguf" may be left out), ORG/NAME or NAME in the Hugging Face
 * cache, or "default" for the built-in model.
 * path   : out, the folder or file; free with we_free.
 * Errors : WE_E_NOT_FOUND ("Model path does not exist: ./models/mlx/NAME", and what to do next), WE_E_UNSUPPORTED (a URL of
 *          another backend), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_model_find(const char *name, char **path, we_error *err);

typedef struct we_model_entry {
    const char *name;   /* as --model takes it */
    const char *path;   /* the folder, or the GGUF file */
    const char *source; /* "built-in", "models", "hugging face cache", "lm studio" or "ollama" */
    const char *type;   /* config.json's model_type, GGUF's general.architecture; "" where that could not be read */
    uint64_t bytes;     /* of all files in the folder */
    bool runnable;      /* the engine knows the architecture and the folder is complete */
    /* Of runnable ones; "" and 0 for others. */
    const char *quantization; /* "4-bit affine, group 64" */
    uint64_t n_parameters;
    int max_position_embeddings; /* the context that it was made for */
} we_model_entry;

/* Called once for each model; `entry` is borrowed for the call. Return false to stop. */
typedef bool (*we_model_entry_fn)(void *user, const we_model_entry *entry);

/** List the models on this machine, the built-in one first.
 * Errors : WE_E_NOMEM; an unreadable folder is left out and logged.
 * Threads: any. Since: 0.1 */
WE_API we_status we_models_list(we_model_entry_fn fn, void *user, we_error *err);

/* One model's names: the short one, which we_model_find and we_model_pull take, and what each backend calls the model. */
typedef struct we_short_name {
    size_t size;      /* sizeof(we_short_name) */
    const char *name; /* "llama-3.1-8b-instruct"; strings are borrowed for the call */
    const char *mlx;  /* ORG/NAME on the hub, or a folder; these are NULL where nobody says */
    const char *lmstudio, *ollama;
    const char *llamacpp; /* a GGUF file, or how its name begins */
    const char *transformers;
    bool is_users; /* the user's models.json names it */
} we_short_name;

/* Called once for each; `name` is borrowed for the call. Return false to stop. */
typedef bool (*we_short_name_fn)(void *user, const we_short_name *name);

/** Every short name: the built-in ones, and those of the user's `whisperengine/models.json` in the configuration directory, which
 * is read anew.
 * Errors : WE_E_FORMAT (that file; its message names file, key and value), WE_E_IO, WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_short_names_each(we_short_name_fn fn, void *user, we_error *err);

/* ---- Models from the Hugging Face hub ---------------------------------------------------------------------------- */

typedef struct we_pull_progress {
    uint64_t done_bytes, total_bytes; /* of what was not here when the pull began; both 0 while the hub is asked */
    uint64_t fetched_bytes;           /* that came over the network in this run; done_bytes also counts what was kept */
    size_t done_files, total_files;
    const char *file;    /* one that is on its way, or NULL; borrowed for the call */
    const char *waiting; /* one that another process fetches just now, or NULL; borrowed for the call */
} we_pull_progress;

/* Called several times a second from the thread that pulls. False cancels. */
typedef bool (*we_pull_progress_fn)(void *user, const we_pull_progress *progress);

typedef struct we_pull_options {
    size_t size;          /* sizeof(we_pull_options) */
    const char *token;    /* NULL: HF_TOKEN, else the file that `hf auth login` writes */
    const char *endpoint; /* NULL: HF_ENDPOINT, else https://huggingface.co */
    int connections;      /* 1 to 64 at once */
    int retries;          /* of a request that fails without any progress, 0 to 100 */
    we_pull_progress_fn progress;
    void *progress_user;
} we_pull_options;
/* clang-format off */
#define WE_PULL_OPTIONS_INIT { sizeof(we_pull_options), NULL, NULL, 8, 5, NULL, NULL }
/* clang-format on */

/** Fetch a model from the hub into huggingface_hub's cache (HF_HOME, HF_HUB_CACHE): only the files that it needs and that
 * are not there yet. Content is checked by its hash. A pull that was broken off, even killed, goes on where it stopped; the name
 * leads to the new revision once all of it is here.
 * name   : "ORG/NAME" or a short name like "llama-3.2-1b", "@REVISION" (branch, tag, commit) behind it or not.
 * opt    : NULL for the defaults; read, not kept.
 * path   : out, the folder; free with we_free.
 * Errors : WE_E_NOT_FOUND (repository, revision; no model in it), WE_E_DENIED (the message tells which page to visit and how to
 *          set a token), WE_E_NETWORK, WE_E_FORMAT (wrong hash twice; a list of files that can't be trusted), WE_E_IO (no space,
 *          no permission), WE_E_CANCELLED, WE_E_ARG, WE_E_RANGE, WE_E_NOMEM.
 * Threads: any; two pulls of one model wait for each other, in other processes and huggingface_hub's too. Since: 0.1 */
WE_API we_status we_model_pull(const char *name, const we_pull_options *opt, char **path, we_error *err);

typedef struct we_model_source { /* where a folder came from; all NULL where it is not one of the hub's cache */
    size_t size;                 /* in: sizeof(we_model_source) */
    char *repo;                  /* "ORG/NAME" */
    char *commit;                /* 40 digits */
    char *revisions;             /* the branches and tags that lead to it here: "main, v1.0" */
} we_model_source;

/** Tell where a model folder came from.
 * source : out; `size` must be set; free its insides with we_model_source_deinit.
 * path   : the folder (a name goes through we_model_find first).
 * Errors : WE_E_ARG, WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_model_get_source(we_model_source *source, const char *path, we_error *err);

/** Free what a we_model_source holds; the struct itself is the caller's. NULL and zeroed structs are allowed.
 * Threads: its own. Since: 0.1 */
WE_API void we_model_source_deinit(we_model_source *source);

typedef struct we_verify_options {
    size_t size; /* sizeof(we_verify_options) */
    /* Bytes that were read, and of all files; called from the verifying thread. False cancels. */
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void (*bad)(void *user, const char *file, const char *why); /* called for each file that is not as it should be */
    void *user;                                                 /* handed to both */
} we_verify_options;
/* clang-format off */
#define WE_VERIFY_OPTIONS_INIT { sizeof(we_verify_options), NULL, NULL, NULL }
/* clang-format on */

typedef struct we_verify_result {
    size_t size;      /* in: sizeof(we_verify_result) */
    size_t n_checked; /* files whose hash is known and right */
    size_t n_unknown; /* files that were read, but that nobody gave a hash for */
    size_t n_bad;     /* files with a wrong hash, that can't be read, or that are missing */
    uint64_t n_bytes; /* that were read */
} we_verify_result;

/** Check a model folder: read every file, compare with the hash that the hub gave it (where it came from there), and look
 * whether configuration, weights and tokenizer fit together.
 * path   : the folder (a name goes through we_model_find first).
 * opt    : NULL for the defaults; read, not kept.
 * result : out; `size` must be set. Bad files are counted there and are no error of the call.
 * Errors : WE_E_IO, WE_E_FORMAT and WE_E_NOT_FOUND (the files contradict each other, or some are missing), WE_E_CANCELLED,
 *          WE_E_ARG, WE_E_NOMEM. A model that this build can't run is only read.
 * Threads: any. Since: 0.1 */
WE_API we_status we_model_verify(const char *path, const we_verify_options *opt, we_verify_result *result,
                                 we_error *err);

typedef struct we_removal { /* what removing a model would do */
    size_t size;            /* in: sizeof(we_removal) */
    char *path;             /* the folder or link that goes */
    char *link_target;      /* where it is a link: what it points to, which stays; else NULL */
    uint64_t bytes;         /* that become free */
    size_t n_files;
    void *plan; /* the library's own */
} we_removal;

/** Find out what removing a model means, without doing it: a folder or link below the models folder, or a revision in the
 * hub's cache together with the content that no other revision refers to.
 * removal: out; `size` must be set; free its insides with we_model_removal_deinit.
 * name   : as --model takes it. A path is refused, and so are "", ".", "..", "/" and the built-in model.
 * Errors : WE_E_ARG (such a name), WE_E_NOT_FOUND, WE_E_IO, WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_model_removal_plan(we_removal *removal, const char *name, we_error *err);

/** Do it. Nothing is removed through a link, nor where another folder took the place since the plan.
 * Errors : WE_E_IO (what could not be removed is named; what is before it is gone), WE_E_BUSY (a download of it runs), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_model_removal_run(const we_removal *removal, we_error *err);

/** Free what a we_removal holds; the struct itself is the caller's. NULL and zeroed structs are allowed.
 * Threads: its own. Since: 0.1 */
WE_API void we_model_removal_deinit(we_removal *removal);

/* ---- Tokenizer and chat template -------------------------------------------------------------------------------- */

typedef struct we_tokenizer we_tokenizer; /* a model folder's tokenizer and chat template; immutable once open */

/** Read the tokenizer of a model folder; weights and config.json need not be there.
 * out    : the tokenizer, or NULL on failure; free with we_tokenizer_close.
 * path   : the folder (a name goes through we_model_find first).
 * Errors : WE_E_NOT_FOUND, WE_E_FORMAT, WE_E_UNSUPPORTED (a component that is not known; it is named), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_tokenizer_open(we_tokenizer **out, const char *path, we_error *err);

/** Free a tokenizer that we_tokenizer_open gave; NULL is allowed.
 * Threads: when no other call uses it. Since: 0.1 */
WE_API void we_tokenizer_close(we_tokenizer *tokenizer);

/** Text to token ids.
 * text   : [len] bytes, need not end in NUL; may hold NUL.
 * special: also add what the post-processor adds (BOS and the like).
 * ids, n : out; free `*ids` with we_free. n may be 0, then *ids may be NULL.
 * Errors : WE_E_FORMAT (text is not UTF-8), WE_E_NOMEM.
 * Threads: any, at once. Since: 0.1 */
WE_API we_status we_tokenize(const we_tokenizer *tokenizer, const char *text, size_t len, bool special, int32_t **ids,
                             size_t *n, we_error *err);

/** Token ids to text. Ids without a token are dropped.
 * skip_special: leave special tokens out.
 * text, len: out; `*text` also ends in a NUL that `len` does not count; free with we_free.
 * Errors : WE_E_NOMEM.
 * Threads: any, at once. Since: 0.1 */
WE_API we_status we_detokenize(const we_tokenizer *tokenizer, const int32_t *ids, size_t n, bool skip_special,
                               char **text, size_t *len, we_error *err);

typedef struct we_detokenizer we_detokenizer; /* streaming: ids in one at a time, whole characters out */

/** Start a streaming decode; borrows the tokenizer.
 * Errors : WE_E_NOMEM.
 * Threads: the detokenizer belongs to one thread at a time. Since: 0.1 */
WE_API we_status we_detokenizer_open(we_detokenizer **out, const we_tokenizer *tokenizer, bool skip_special,
                                     we_error *err);

/** Free a detokenizer; NULL is allowed.
 * Threads: its own. Since: 0.1 */
WE_API void we_detokenizer_close(we_detokenizer *detokenizer);

/** Feed one id and take the text that has become certain: never a part of a character, never a changed past.
 * text, len: out, borrowed until the next call on the detokenizer; len may be 0.
 * Errors : WE_E_NOMEM.
 * Threads: its own. Since: 0.1 */
WE_API we_status we_detokenizer_feed(we_detokenizer *detokenizer, int32_t id, const char **text, size_t *len,
                                     we_error *err);

/** Take the text still held back; the detokenizer then begins anew.
 * text, len: out, borrowed until the next call on the detokenizer.
 * Errors : WE_E_NOMEM.
 * Threads: its own. Since: 0.1 */
WE_API we_status we_detokenizer_flush(we_detokenizer *detokenizer, const char **text, size_t *len, we_error *err);

typedef struct we_message {
    const char *role;    /* "system", "user", "assistant", "tool" */
    const char *content; /* UTF-8 */
} we_message;

/* A conversation as the chat template sees it. Give either `messages` or `messages_json`. */
typedef struct we_conversation {
    size_t size; /* sizeof(we_conversation) */
    const we_message *messages;
    size_t n_messages;
    const char *messages_json;  /* OpenAI-shaped messages as a JSON array: for parts, tool calls and other fields */
    const char *tools_json;     /* a JSON array of tools, or NULL */
    const char *variables_json; /* a JSON object of extra template variables ("enable_thinking": false), or NULL */
    bool no_generation_prompt;  /* leave out the head of the assistant's turn */
    const char *date;           /* "YYYY-MM-DD" for strftime_now; NULL: today */
    const char *documents_json; /* a JSON array of documents ({"title", "text"}) for templates that retrieve, or NULL */
    bool continue_final_message; /* the prompt ends in the middle of the final message, which the answer then continues;
                                    includes no_generation_prompt */
    const char *continue_field;  /* the member of the message that is continued; NULL: "content" */
} we_conversation;
/* clang-format off */
#define WE_CONVERSATION_INIT { sizeof(we_conversation), NULL, 0, NULL, NULL, NULL, false, NULL, NULL, false, NULL }
/* clang-format on */

/** Render a conversation with the folder's chat template, as transformers' apply_chat_template does. A folder without one gets
 * the format of the family that its special tokens, model_type or name point to, or a plain one (told in the log, level info).
 * text, len: out, the prompt; free `*text` with we_free.
 * Errors : WE_E_TEMPLATE (the template's own message, its line), WE_E_ARG (JSON that is none),
 *          WE_E_FORMAT (a message that is not UTF-8), WE_E_NOMEM.
 * Threads: any, at once. Since: 0.1 */
WE_API we_status we_template_render(const we_tokenizer *tokenizer, const we_conversation *conversation, char **text,
                                    size_t *len, we_error *err);

/** Render any chat template on any context.
 * source, source_len: the Jinja text. context_json: a JSON object with the variables.
 * date   : "YYYY-MM-DD" for strftime_now; NULL: today.
 * text, len: out; free `*text` with we_free.
 * Errors : WE_E_TEMPLATE, WE_E_ARG, WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_template_render_source(const char *source, size_t source_len, const char *context_json,
                                           const char *date, char **text, size_t *len, we_error *err);

/* ---- Model ------------------------------------------------------------------------------------------------------ */

typedef struct we_model we_model; /* weights bound to a device, and the tokenizer beside them; immutable once open */

/* done and total are bytes; called from the thread that opens, at least once with done == total. False cancels. */
typedef bool (*we_progress_fn)(void *user, uint64_t done, uint64_t total);

typedef struct we_model_options {
    size_t size;             /* sizeof(we_model_options) */
    int context;             /* most tokens of a session; 0: the model's, at most MLX_CONTEXT_LENGTH, else 8192 */
    int kv_bits;             /* 16, 8 or 4 bits for each cached key and value; 0: MLX_KV_BITS, else 16 */
    bool precise;            /* float32 throughout: slow, exact */
    bool allow_paging;       /* load weights that exceed the available memory */
    we_progress_fn progress; /* NULL: none */
    void *progress_user;
    int quantize; /* an unquantized folder is quantized to 4 bits into the user's cache, which is then opened, now and later: 1
                     yes, -1 no, 0: what MLX_QUANTIZATION says, else no */
} we_model_options;
/* clang-format off */
#define WE_MODEL_OPTIONS_INIT { sizeof(we_model_options), 0, 0, false, false, NULL, NULL, 0 }
/* clang-format on */

typedef struct we_model_info {
    size_t size;              /* in: sizeof(we_model_info) */
    const char *path;         /* strings are borrowed until the model closes */
    const char *model_type;   /* config.json's */
    const char *quantization; /* "4-bit affine, group 64", "bfloat16", "mixed: ..." */
    int vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim;
    int max_position_embeddings; /* what the model was made for */
    int context;                 /* what a session of it holds here */
    uint64_t n_parameters;
    uint64_t weights_bytes;               /* mapped or unpacked */
    uint64_t weight_bytes_read_per_token; /* by one decoding step of one sequence */
    uint64_t kv_bytes_per_token;          /* while no sliding window is full */
    uint64_t kv_bytes_at_context;         /* of one session whose context is full */
    uint64_t scratch_bytes;
    double load_s;
    bool has_tokenizer, has_chat_template;
    const char
        *chat_format; /* without a chat template: the known family whose format a chat takes ("ChatML", "Llama 2", ...,
                                or "plain"); static; else NULL */
    uint64_t
        multiply_adds_per_token; /* with weights, by a token of a prompt; what only its last one needs is left out */
} we_model_info;

/** Load a model folder: config.json, model*.safetensors or weights.npz, tokenizer files if there are any.
 * Weights are mapped, not copied. The folder's files must not change while the model is open.
 * out    : the model, or NULL on failure; free with we_model_close.
 * engine : must outlive the model.
 * path   : the folder (a name goes through we_model_find first).
 * opt    : NULL for the defaults; read, not kept.
 * Errors : WE_E_NOT_FOUND, WE_E_FORMAT, WE_E_UNSUPPORTED, WE_E_RANGE (context), WE_E_ARG (a variable's value), WE_E_CANCELLED
 *          (progress said so), WE_E_NOMEM ("Out of memory during model loading", with needed and available figures).
 * Threads: any. Since: 0.1 */
WE_API we_status we_model_open(we_model **out, we_engine *engine, const char *path, const we_model_options *opt,
                               we_error *err);

/** Unload. All its sessions must be closed.
 * model  : NULL is allowed.
 * Threads: when no other call uses it. Since: 0.1 */
WE_API void we_model_close(we_model *model);

/** Tell what was loaded.
 * info   : out; `size` must be set.
 * Threads: any, at once. Since: 0.1 */
WE_API void we_model_get_info(const we_model *model, we_model_info *info);

/** The tokenizer beside the weights.
 * Returns: borrowed until the model closes; NULL where the folder has none.
 * Threads: any, at once. Since: 0.1 */
WE_API const we_tokenizer *we_model_tokenizer(const we_model *model);

/** Read what a folder says of itself without loading it: fills all of `info` but load_s; its strings are the caller's own.
 * path   : the folder (a name goes through we_model_find first).
 * opt    : context, kv_bits and precise count for the memory figures; NULL for the defaults.
 * model_type, quantization: out buffers of 64 and 128 bytes that `info` points to.
 * Errors : as we_model_open's, but never WE_E_NOMEM for lack of room for the weights.
 * Threads: any. Since: 0.1 */
WE_API we_status we_model_inspect(const char *path, const we_model_options *opt, we_model_info *info,
                                  char model_type[64], char quantization[128], we_error *err);

/* ---- Sessions: generate and chat -------------------------------------------------------------------------------- */

typedef struct we_session we_session; /* one token timeline and its KV cache; borrows its model */

/* A piece of the answer: whole UTF-8 characters, borrowed for the call, with a NUL after `len`. `token` is the id that
 * completed it, or -1 for text freed at the end. Runs on the generating thread; false stops the answer. */
typedef bool (*we_piece_fn)(void *user, const char *text, size_t len, int32_t token);

/* Called between the pieces of a prompt. False stops. */
typedef bool (*we_prefill_fn)(void *user, size_t done, size_t total);

typedef struct we_generate_options {
    size_t size;              /* sizeof(we_generate_options) */
    int max_tokens;           /* most tokens to generate; 0: up to the context's end */
    float temperature;        /* 0: greedy */
    float top_p;              /* 0 or 1: off */
    int top_k;                /* 0: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 0 or 1: off */
    int repetition_context;   /* tokens that the penalty looks back on; 0 means 20 */
    uint64_t seed;            /* same seed, prompt, options and kernels: same answer */
    const char *const *stop;  /* texts that end the answer and do not appear in it */
    size_t n_stop;
    bool ignore_eos;      /* go on after an end-of-turn token */
    we_piece_fn on_piece; /* NULL: none */
    we_prefill_fn on_prefill;
    void *user; /* handed to both */
    bool
        prompt_lookup; /* guess tokens from earlier places in the text and check several in one step: the same answer, in
                           fewer steps where it repeats its prompt */
    struct we_session
        *draft; /* a session of a smaller model with the same vocabulary that guesses likewise; its own timeline is
                                 lost; busy while this call runs. NULL: none */
} we_generate_options;
/* clang-format off */
#define WE_GENERATE_OPTIONS_INIT { sizeof(we_generate_options), 0, 0.0F, 0.0F, 0, 0.0F, 0.0F, 0, 0, NULL, 0, false, NULL, NULL, NULL, false, NULL }
/* clang-format on */

/** The sampling that the model's makers recommend in generation_config.json, on top of WE_GENERATE_OPTIONS_INIT.
 * opt    : in and out: temperature, top_p, top_k, min_p and repetition_penalty are set where the file has them.
 * Threads: any, at once. Since: 0.1 */
WE_API void we_model_default_sampling(const we_model *model, we_generate_options *opt);

typedef enum we_finish {
    WE_FINISH_EOS,      /* the model ended its turn */
    WE_FINISH_STOP,     /* a stop text appeared */
    WE_FINISH_LENGTH,   /* max_tokens, or the context is full */
    WE_FINISH_CANCELLED /* we_session_cancel, or a callback returned false */
} we_finish;

typedef struct we_result {
    size_t size; /* in: sizeof(we_result) */
    char *text;  /* the whole answer, NUL-terminated; NULL where the model has no tokenizer */
    size_t len;
    int32_t *tokens; /* generated ids, without the end-of-turn token */
    size_t n_tokens;
    size_t n_prompt_tokens; /* of the whole prompt */
    size_t n_cached_tokens; /* of them found in the KV cache and not computed again */
    we_finish finish;
    double prefill_s, decode_s, first_token_s; /* seconds; first_token_s from the call to the first sampled token */
    size_t n_drafted, n_accepted;              /* guessed tokens, and those of them that were right */
} we_result;

/** Free what a we_result holds; the struct itself is the caller's. NULL and zeroed structs are allowed.
 * Threads: its own. Since: 0.1 */
WE_API void we_result_deinit(we_result *result);

/** Start a timeline.
 * out    : the session, or NULL on failure; free with we_session_close.
 * Errors : WE_E_NOMEM, WE_E_DEVICE.
 * Threads: any. Since: 0.1 */
WE_API we_status we_session_open(we_session **out, we_model *model, we_error *err);

/** Can `draft` guess tokens for `session`? What we_generate_options' `draft` asks for, beforehand.
 * Errors : WE_E_ARG (their vocabularies differ; both are the same session).
 * Threads: one at a time per session. Since: 0.1 */
WE_API we_status we_session_check_draft(we_session *session, const we_session *draft, we_error *err);

/** End a timeline and free its cache; NULL is allowed. A running task must have ended.
 * Threads: its own. Since: 0.1 */
WE_API void we_session_close(we_session *session);

/** Continue a prompt of token ids, raw: no template. What the cache shares with the prompt's beginning is reused.
 * tokens : [n] ids in [0, vocab_size), n >= 1; read, not kept.
 * opt    : NULL for greedy to the context's end.
 * result : out, may be NULL; `size` must be set; free its insides with we_result_deinit, after an error too (it then holds
 *          what was generated until there).
 * Errors : WE_E_RANGE (ids; a prompt that does not fit the context: nothing changed), WE_E_BUSY, WE_E_DEVICE, WE_E_NOMEM.
 *          Cancelling is no error: WE_OK and WE_FINISH_CANCELLED.
 * Threads: one at a time per session; sessions of one model take turns step by step. Since: 0.1 */
WE_API we_status we_session_generate(we_session *session, const int32_t *tokens, size_t n,
                                     const we_generate_options *opt, we_result *result, we_error *err);

/** Answer a conversation: render the whole of it, tokenize, reuse what the cache shares with it, prefill the rest, answer.
 * With continue_final_message the answer is what comes behind the final message's text, without that text.
 * Errors : those of we_template_render and we_session_generate.
 * Threads: as we_session_generate. Since: 0.1 */
WE_API we_status we_session_chat(we_session *session, const we_conversation *conversation,
                                 const we_generate_options *opt, we_result *result, we_error *err);

/** Stop the running generate, chat or eval of a session soon: at the next token or piece of a prompt.
 * Does nothing where none runs.
 * Threads: any; safe in a signal handler. Since: 0.1 */
WE_API void we_session_cancel(we_session *session);

/** Forget all tokens and give the cache's memory back.
 * Threads: one at a time per session. Since: 0.1 */
WE_API void we_session_reset(we_session *session);

typedef struct we_session_info {
    size_t size;       /* in: sizeof(we_session_info) */
    size_t n_tokens;   /* in the cache */
    size_t context;    /* most of them */
    uint64_t kv_bytes; /* held by the cache now, snapshot included */
} we_session_info;

/** Tell how full the cache is.
 * Threads: one at a time per session. Since: 0.1 */
WE_API void we_session_get_info(const we_session *session, we_session_info *info);

/* Rows of logits in order: `rows` is [n, vocab_size] float32 before softmax, for positions first .. first + n - 1; borrowed
 * for the call. False stops. Must not run sessions of the same model: their steps wait for this one. */
typedef bool (*we_logits_fn)(void *user, size_t first, size_t n, const float *rows);

/** The logits of every position of a prompt. The session begins anew with these tokens.
 * tokens : [n] ids, n >= 1.
 * Errors : those of we_session_generate; WE_E_CANCELLED where `fn` returned false.
 * Threads: one at a time per session. Since: 0.1 */
WE_API we_status we_session_eval(we_session *session, const int32_t *tokens, size_t n, we_logits_fn fn, void *user,
                                 we_error *err);

typedef struct we_task we_task; /* a chat or generate that runs on a thread of its own */

/** Like we_session_generate, on a thread of its own. Arguments are copied; callbacks run on that thread.
 * out    : the task, or NULL; free with we_task_close. The session is busy until the task ends.
 * Errors : WE_E_BUSY, WE_E_NOMEM; what happens later is we_task_wait's answer.
 * Threads: one at a time per session. Since: 0.1 */
WE_API we_status we_session_generate_async(we_task **out, we_session *session, const int32_t *tokens, size_t n,
                                           const we_generate_options *opt, we_error *err);

/** Like we_session_chat, on a thread of its own; see we_session_generate_async.
 * Errors : WE_E_BUSY, WE_E_NOMEM.
 * Threads: one at a time per session. Since: 0.1 */
WE_API we_status we_session_chat_async(we_task **out, we_session *session, const we_conversation *conversation,
                                       const we_generate_options *opt, we_error *err);

/** Wait for a task's end.
 * timeout_ms: 0 asks without waiting, negative waits without limit.
 * done   : out, whether it has ended.
 * result : out when done, may be NULL; borrowed until we_task_close.
 * Errors : the task's own, once it has ended.
 * Threads: any. Since: 0.1 */
WE_API we_status we_task_wait(we_task *task, int timeout_ms, bool *done, const we_result **result, we_error *err);

/** Cancel the task if it runs, wait for its end and free it; NULL is allowed.
 * Threads: any, once. Since: 0.1 */
WE_API void we_task_close(we_task *task);

/* ---- Converting ------------------------------------------------------------------------------------------------- */

typedef struct we_convert_options {
    size_t size;      /* sizeof(we_convert_options) */
    bool quantize;    /* pack linear layers and embeddings */
    bool dequantize;  /* unpack a quantized model */
    int bits;         /* 2, 3, 4, 5, 6 or 8; 0: the mode's usual (4, mxfp8: 8) */
    int group_size;   /* 32, 64 or 128; 0: the mode's usual (affine 64, mxfp4 and mxfp8 32, nvfp4 16) */
    const char *mode; /* "affine" (NULL), "mxfp4", "mxfp8", "nvfp4" */
    const char
        *predicate;    /* more bits for some layers: "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"; NULL: none */
    const char *dtype; /* of what stays unpacked: "float16", "bfloat16", "float32"; NULL: config.json's torch_dtype,
                                else the source's own */
    bool overwrite;    /* replace a model that is at the target; it stays until the new one is whole */
    we_progress_fn progress; /* NULL: none; bytes of the source; false cancels */
    void *progress_user;
    bool
        lossless; /* of a GGUF file: Q4_0, Q4_1 and Q8_0 as affine groups of 32 with the same values, in a float16 model */
    const char
        *calibrate; /* a UTF-8 text file like what the model will read: packings are made for it, and bits go to the
                                matrices that need them; no larger than without. NULL: none. Affine only, no predicate */
    we_progress_fn calibrate_progress; /* NULL: none; steps of the calibration; the same user; false cancels */
} we_convert_options;
/* clang-format off */
#define WE_CONVERT_OPTIONS_INIT { sizeof(we_convert_options), false, false, 0, 0, NULL, NULL, NULL, false, NULL, NULL, false, NULL, NULL }
/* clang-format on */

typedef struct we_convert_result {
    size_t size;                   /* in: sizeof(we_convert_result) */
    uint64_t bytes;                /* of the files written */
    size_t n_files;                /* that hold weights */
    size_t n_tensors, n_quantized; /* written; packed matrices among them count once */
    uint64_t n_parameters;
    double bits_per_weight;
    uint64_t n_nan, n_inf; /* found among the source's weights; a warning in the log names where */
} we_convert_result;

/** Convert a Hugging Face model or a GGUF file to an MLX folder, as mlx_lm.convert does. Uses two threads and little memory, whatever the
 * model's size. The target appears whole or not at all: it is written beside and renamed.
 * source : a folder, or a name as we_model_find takes it: safetensors, or PyTorch's .bin (nothing in it is executed); or a GGUF
 *          file, which becomes bfloat16 where nothing else is asked for.
 * target : the folder to make; parents are made too.
 * opt    : NULL for a copy in config.json's type; read, not kept.
 * result : out, may be NULL; `size` must be set.
 * Errors : WE_E_NOT_FOUND (no such model; names missing shards), WE_E_ARG (the target exists; options that exclude each
 *          other), WE_E_RANGE (bits, group size), WE_E_FORMAT, WE_E_UNSUPPORTED (FP8 and other foreign packings; a pickle
 *          that wants to run code), WE_E_IO (no space, no permission), WE_E_CANCELLED, WE_E_NOMEM. The earlier state stays.
 * Threads: any. Since: 0.1 */
WE_API we_status we_convert(const char *source, const char *target, const we_convert_options *opt,
                            we_convert_result *result, we_error *err);

/** Would we_convert refuse these options or this target whatever the source is? For who has to fetch the source first.
 * Errors : WE_E_ARG (options that exclude each other; the target exists and `overwrite` is not set, or is no model folder), WE_E_RANGE,
 *          WE_E_NOT_FOUND, WE_E_IO (the text to calibrate with; a folder that may not be written).
 * Threads: any. Since: 0.1 */
WE_API we_status we_convert_ready(const char *target, const we_convert_options *opt, we_error *err);

/** Convert a model into the models folder, where its name finds it afterwards: $LOCAL_MODELS_DIR/mlx/NAME.
 * source_model_path: as in we_convert.
 * target_model_name: NAME or ORG/NAME.
 * path   : out, the new folder; free with we_free. NULL is allowed.
 * Errors : those of we_convert; WE_E_ARG (a name that leads out of the models folder).
 * Threads: any. Since: 0.1 */
WE_API we_status we_convert_model_to_mlx(const char *source_model_path, const char *target_model_name,
                                         const we_convert_options *opt, char **path, we_error *err);

/* ---- Backends --------------------------------------------------------------------------------------------------- */

/* Who can answer a conversation, in the order in which they are tried where FALLBACK_CHAIN says nothing else. The last one, any
 * server with an OpenAI-style interface, is reached only where a URL names it. */
typedef enum we_backend_kind {
    WE_BACKEND_MLX,          /* this library's own engine */
    WE_BACKEND_LMSTUDIO,     /* an LM Studio that runs */
    WE_BACKEND_OLLAMA,       /* an Ollama that runs */
    WE_BACKEND_LLAMACPP,     /* llama-cpp-python's server, started for the purpose */
    WE_BACKEND_TRANSFORMERS, /* `transformers serve`, started for the purpose */
    WE_BACKEND_OPENAI        /* http(s)://host/v1 */
} we_backend_kind;

typedef struct we_backend_model {
    const char *name; /* as the backend's URL takes it; strings are borrowed from the list */
    uint64_t bytes;   /* 0: unknown */
    int context;      /* most tokens; 0: unknown */
    bool loaded;      /* in memory now */
} we_backend_model;

typedef struct we_backend_info {
    size_t size;      /* in: sizeof(we_backend_info) */
    const char *id;   /* "lmstudio", the URL's scheme; strings are borrowed from the list */
    const char *name; /* "LM Studio" */
    const char *description;
    const char *reason;  /* why it is available or passed over: a sentence */
    const char *version; /* "" where unknown */
    const char *url;     /* where it was looked for; "" for those that are no server */
    const we_backend_model *models;
    size_t n_models;
    we_backend_kind kind;
    int priority; /* 1 is tried first */
    bool available;
    double latency_ms; /* how long its answer took; 0 where none came */
} we_backend_info;

typedef struct we_backends_options {
    size_t size;    /* sizeof(we_backends_options) */
    int timeout_ms; /* for all of them together; 0 means 300 */
} we_backends_options;
/* clang-format off */
#define WE_BACKENDS_OPTIONS_INIT { sizeof(we_backends_options), 300 }
/* clang-format on */

/* we_backends is what was found on this machine, once; immutable. */

/** Look for every backend of the chain, all at the same time. Servers are asked at their usual addresses, or where
 * LMSTUDIO_HOST and OLLAMA_HOST say; one that is silent for too long counts as not available.
 * out    : the list, or NULL on failure; free with we_backends_close.
 * opt    : NULL for the defaults; read, not kept.
 * Errors : WE_E_NOMEM, WE_E_RANGE (timeout), WE_E_ARG (FALLBACK_CHAIN). A backend that is not there is no error.
 * Threads: any. Since: 0.1 */
WE_API we_status we_backends_detect(we_backends **out, const we_backends_options *opt, we_error *err);

/** Free a list; NULL is allowed.
 * Threads: when no other call uses it. Since: 0.1 */
WE_API void we_backends_close(we_backends *list);

/** How many backends the list holds, the missing ones too.
 * Threads: any. Since: 0.1 */
WE_API size_t we_backends_count(const we_backends *list);

/** One of the list, in the order of priority: index 0 is tried first.
 * info   : out; `size` must be set.
 * Errors : WE_E_RANGE (index), WE_E_ARG (size).
 * Threads: any. Since: 0.1 */
WE_API we_status we_backends_get(const we_backends *list, size_t index, we_backend_info *info, we_error *err);

/** With which model a backend of the list would answer in place of another one's: by the table of short names, the same name, or
 * what FALLBACK_MODEL_... says.
 * model  : as any backend calls it.
 * name   : out, as this one calls it; free with we_free.
 * Errors : WE_E_NOT_FOUND (the reason for passing it over), WE_E_FORMAT (models.json), WE_E_RANGE (index), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_backends_model_for(const we_backends *list, size_t index, const char *model, char **name,
                                       we_error *err);

/** The index of the first one that is available; we_backends_count() where none is.
 * Threads: any. Since: 0.1 */
WE_API size_t we_backends_optimal(const we_backends *list);

/* ---- Client ----------------------------------------------------------------------------------------------------- */

/* A client holds conversations with whoever a URL names, and where that one fails with the next of the chain: MLX, LM Studio,
 * Ollama, llama-cpp-python, Transformers. The whole conversation is handed over each time, so nothing is lost on the way. */
typedef struct we_client we_client;

typedef struct we_client_options {
    size_t size;                     /* sizeof(we_client_options) */
    const char *api_key;             /* for the URL's own server; NULL: what the configuration has for it */
    int connect_timeout_s;           /* 0: 5 */
    int idle_timeout_s;              /* a server sends no byte for so long; 0: 300, negative: no limit */
    int retries;                     /* of a request that failed in a way that may pass; 0: 2, negative: none */
    bool no_failover;                /* only the URL's own backend answers */
    int context;                     /* most tokens, where the backend can be told; 0: its own choice */
    const we_engine_options *engine; /* MLX; NULL: the defaults. Kept: both must outlive the client */
    const we_model_options *model;   /* likewise */
    we_note_fn on_note;              /* who failed and who answers in its place; NULL: none */
    void *user;                      /* handed to it */
    const char *draft_model;         /* MLX: a smaller model of the same vocabulary that guesses tokens; "": none.
                                        NULL: MLX_DRAFT_MODEL, left out with a note where it does not fit */
} we_client_options;
/* clang-format off */
#define WE_CLIENT_OPTIONS_INIT { sizeof(we_client_options), NULL, 0, 0, 0, false, 0, NULL, NULL, NULL, NULL, NULL }
/* clang-format on */

typedef struct we_client_result {
    size_t size;          /* in: sizeof(we_client_result) */
    we_backend_kind kind; /* who answered */
    const char *backend;  /* its name: "Ollama"; static */
    char *model;          /* as it calls the model */
    char *reasoning;      /* the model's thoughts, where the server marks them; NULL: none */
    char *tool_calls;     /* a JSON array as in OpenAI's messages; NULL: none */
    int n_failovers;      /* backends that failed before */
    bool restarted;       /* the answer was begun anew in the middle: only the new one is in `result` */
    double load_s;        /* spent on loading the model; 0 where unknown */
    we_result result; /* its size is the library's to set; `tokens` is NULL but for MLX. Stays the last: it may grow */
} we_client_result;

/** Free what a result holds; the struct itself is the caller's. NULL and zeroed structs are allowed.
 * Threads: its own. Since: 0.1 */
WE_API void we_client_result_deinit(we_client_result *result);

/** A result as an OpenAI-style chat completion: {"id", "object", "created", "model", "choices": [{"index", "message",
 * "finish_reason"}], "usage"}, with "backend" and "restarted".
 * json   : out; free with we_free.
 * Errors : WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_client_result_json(const we_client_result *result, char **json, we_error *err);

/** Make a client. Nothing is asked or loaded yet.
 * out    : the client, or NULL on failure; free with we_client_close.
 * url    : mlx://NAME, lmstudio://NAME, ollama://NAME, llamacpp://FILE, transformers://NAME, http(s)://HOST/v1[#MODEL];
 *          NULL: LLM_CHAT_API_URL, else mlx://MLX_MODEL_NAME, else the built-in model.
 * opt    : NULL for the defaults; copied, but for what engine and model point to.
 * Errors : WE_E_ARG (URL, options), WE_E_DENIED (./.env names a URL of another machine; see we_config_load), WE_E_UNSUPPORTED,
 *          WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_client_open(we_client **out, const char *url, const we_client_options *opt, we_error *err);

/** End a client; its models are unloaded where it loaded them into this process, children that it started end. NULL is allowed.
 * Threads: when no other call uses it. Since: 0.1 */
WE_API void we_client_close(we_client *client);

/** Answer a conversation, streaming to opt->on_piece. A backend that fails before its first piece is asked again where that
 * may help; then the next of the chain takes over, continuing what is there of the answer.
 * opt    : NULL: what MLX_MAX_TOKENS, MLX_TEMPERATURE, MLX_TOP_P and MLX_PROMPT_LOOKUP say. So do max_tokens 0, temperature NAN,
 *          top_p 0 and prompt_lookup false; where they are not set either, and for top_k, min_p, repetition_penalty and seed
 *          at 0, the backend chooses.
 * result : out, may be NULL; `size` must be set; free its insides with we_client_result_deinit, after an error too (it then
 *          holds what came until there).
 * Errors : the first backend's, with what kept the others from answering; WE_E_ARG (a variable's value), WE_E_BUSY. Cancelling is
 *          no error: WE_OK and WE_FINISH_CANCELLED.
 * Threads: one at a time per client; callbacks run on the calling thread. Since: 0.1 */
WE_API we_status we_client_chat(we_client *client, const we_conversation *conversation, const we_generate_options *opt,
                                we_client_result *result, we_error *err);

/** Continue a text as it is, without a chat template; otherwise like we_client_chat.
 * Errors : those of we_client_chat.
 * Threads: one at a time per client. Since: 0.1 */
WE_API we_status we_client_generate(we_client *client, const char *prompt, const we_generate_options *opt,
                                    we_client_result *result, we_error *err);

/** Like we_client_chat, on a thread of its own. Arguments are copied; callbacks run on that thread. A client that is busy is
 * we_task_wait's answer.
 * out    : the task, or NULL; free with we_task_close, before the client.
 * Errors : WE_E_NOMEM, WE_E_ARG; what happens later is we_task_wait's answer.
 * Threads: any. Since: 0.1 */
WE_API we_status we_client_chat_async(we_task **out, we_client *client, const we_conversation *conversation,
                                      const we_generate_options *opt, we_error *err);

/** Like we_client_generate, on a thread of its own; see we_client_chat_async.
 * Errors : WE_E_NOMEM, WE_E_ARG.
 * Threads: any. Since: 0.1 */
WE_API we_status we_client_generate_async(we_task **out, we_client *client, const char *prompt,
                                          const we_generate_options *opt, we_error *err);

/** A client's task has a result of its own; its `result` member is what we_task_wait gives.
 * Returns: borrowed until we_task_close, complete once we_task_wait says done; NULL for a session's task.
 * Threads: any. Since: 0.1 */
WE_API const we_client_result *we_task_client_result(const we_task *task);

/** Stop the running call of a client soon. Does nothing where none runs.
 * Threads: any; safe in a signal handler. Since: 0.1 */
WE_API void we_client_cancel(we_client *client);

/** Bring the model into memory, so that the first answer need not wait.
 * Errors : the backend's own (nobody takes over); WE_E_BUSY.
 * Threads: one at a time per client. Since: 0.1 */
WE_API we_status we_client_load(we_client *client, we_error *err);

/** Give the model's memory back. A server that cannot be told does so when it likes.
 * Errors : as we_client_load's.
 * Threads: one at a time per client. Since: 0.1 */
WE_API we_status we_client_unload(we_client *client, we_error *err);

typedef bool (*we_client_model_fn)(void *user, const we_backend_model *model); /* borrowed for the call; false stops */

/** The models of the client's backend.
 * Errors : WE_E_NETWORK, WE_E_DENIED, WE_E_FORMAT, WE_E_BUSY, WE_E_NOMEM.
 * Threads: one at a time per client. Since: 0.1 */
WE_API we_status we_client_models(we_client *client, we_client_model_fn fn, void *user, we_error *err);

typedef struct we_client_info {
    size_t size;          /* in: sizeof(we_client_info) */
    we_backend_kind kind; /* who answers now */
    const char *backend;  /* its name; static */
    const char *model;    /* "" where the URL names none; borrowed until the client's next call */
    const char *url;      /* its address, "" where it is no server; likewise */
    int n_failovers;      /* since the client was opened */
} we_client_info;

/** Tell who answers.
 * Threads: one at a time per client. Since: 0.1 */
WE_API void we_client_get_info(const we_client *client, we_client_info *info);

/* ---- Recommendations -------------------------------------------------------------------------------------------- */

typedef struct we_machine {
    size_t size;                                         /* in: sizeof(we_machine) */
    uint64_t memory_total_bytes, memory_available_bytes; /* a control group's limit counts */
    uint64_t disk_free_bytes;                            /* where downloads go; 0: unknown */
    double memory_bytes_per_second;                      /* measured: what all cores together read; 0: not measured */
    int n_cpus;
    int tier_gb;      /* 8, 16 or 32: what kind of machine that is, for models */
    const char *gpus; /* that the system shows, "" for none; this version computes on the CPU */
} we_machine;

typedef struct we_recommendation {
    size_t size;
    const char *name;    /* "llama-3.1-8b-instruct"; strings are borrowed for the call */
    const char *command; /* what brings it here, or, where it is here, begins a chat */
    const char *reason;  /* why it suits this machine or not: a sentence */
    uint64_t n_parameters;
    uint64_t download_bytes;
    uint64_t weights_bytes, kv_bytes, scratch_bytes, needed_bytes; /* the last is the sum */
    int context;              /* of these figures: what was asked for, at most the model's */
    int tier_gb;              /* recommended from such a machine on; 0: in none of the tiers */
    double tokens_per_second; /* about, of one answer; 0: unknown */
    bool is_here;             /* on this machine */
    bool fits;                /* this machine's memory holds it, and its disk where it is not here */
    bool fits_now;            /* what is free of the memory now does */
    bool is_recommended;
} we_recommendation;

/* Called for each; `r` and its strings are borrowed for the call. Return false to stop. */
typedef bool (*we_recommend_fn)(void *user, const we_recommendation *r);

typedef struct we_recommend_options {
    size_t size;     /* sizeof(we_recommend_options) */
    int context;     /* tokens; 0: 8192 */
    bool no_measure; /* leave the bandwidth, and with it the expected speed, unknown */
} we_recommend_options;
/* clang-format off */
#define WE_RECOMMEND_OPTIONS_INIT { sizeof(we_recommend_options), 0, false }
/* clang-format on */

/** Which of the models with a short name suit this machine, smallest first: memory counted from their shapes, speed
 * expected from the memory's bandwidth, which takes 0.1 s to measure.
 * opt    : NULL for the defaults.
 * machine: out, may be NULL; `size` must be set. Its `gpus` is a text that is freed with we_free.
 * Errors : WE_E_RANGE (context), WE_E_IO (the system does not tell its memory), WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_recommend_each(const we_recommend_options *opt, we_machine *machine, we_recommend_fn fn, void *user,
                                   we_error *err);

/** What to do so that this machine chats well, as a list of sentences: a model to fetch, backends to install or start.
 * fn     : called for each; the text is borrowed for the call. Takes up to 300 ms for looking for backends.
 * Errors : WE_E_IO, WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_setup_recommendations(we_note_fn fn, void *user, we_error *err);

/* ---- Measuring -------------------------------------------------------------------------------------------------- */

typedef struct we_bench_options {
    size_t size;          /* sizeof(we_bench_options) */
    int prompt_tokens;    /* 0: leave the test out */
    int generated_tokens; /* 0: leave the test out */
    int depth;            /* tokens in the cache before each test, filled untimed */
    int repetitions;      /* each with a fresh timeline; one untimed warm-up runs before */
    int batch;            /* sequences decoded together */
} we_bench_options;
/* clang-format off */
#define WE_BENCH_OPTIONS_INIT { sizeof(we_bench_options), 512, 128, 0, 5, 1 }
/* clang-format on */

typedef struct we_bench_sample {
    double prompt_tokens_per_second;     /* 0 where the test was left out */
    double generation_tokens_per_second; /* of all sequences together */
    double time_to_first_token_s;        /* of the prompt test's prompt */
} we_bench_sample;

/** Measure a model's speed on random tokens.
 * samples: out, [repetitions].
 * Errors : WE_E_RANGE (depth + tokens exceed the context), WE_E_NOMEM, WE_E_DEVICE.
 * Threads: any; other sessions of the model disturb the figures. Since: 0.1 */
WE_API we_status we_bench(we_model *model, const we_bench_options *opt, we_bench_sample *samples, we_error *err);

/* What the model's device gives at most on its threads, as measured now; 0: could not be measured. */
typedef struct we_limits {
    size_t size;                     /* in: sizeof(we_limits) */
    double memory_bytes_per_second;  /* read from memory, beyond the caches: the bound of generation; 0: not measured */
    double multiply_adds_per_second; /* int8 dot products of the kernels in use, from registers: the bound of prompts */
} we_limits;

/** Measure what the model's device gives at most, to see a bench's figures beside it. Takes some 0.15 s and up to 512 MiB.
 * limits : out; `size` must be set.
 * Errors : none yet.
 * Threads: any; waits for a running step to end. Since: 0.1 */
WE_API we_status we_bench_limits(we_model *model, we_limits *limits, we_error *err);

typedef struct we_perplexity_result {
    size_t size; /* in: sizeof(we_perplexity_result) */
    double perplexity;
    uint64_t n_tokens; /* that were scored */
    int context;       /* tokens of a window */
    double error;      /* of the perplexity: one standard deviation of the mean, tokens taken as independent */
} we_perplexity_result;

/** exp of the mean negative log-likelihood of a text, in windows of `context` tokens, each beginning with BOS where the
 * model has one, the first half of each as context only.
 * context: 0 means 512.
 * Errors : WE_E_RANGE (text shorter than one window), WE_E_UNSUPPORTED (no tokenizer), WE_E_CANCELLED, WE_E_FORMAT, WE_E_NOMEM.
 * Threads: any. Since: 0.1 */
WE_API we_status we_perplexity(we_model *model, const char *text, size_t len, int context, we_progress_fn progress,
                               void *progress_user, we_perplexity_result *result, we_error *err);

/* How far a model's predictions are from those of a base model, token by token. An `_error` is one standard deviation of
 * the mean, tokens taken as independent. Logarithms are natural. */
typedef struct we_comparison {
    size_t size;       /* in: sizeof(we_comparison) */
    uint64_t n_tokens; /* that were scored */
    int context;       /* tokens of a window */
    double perplexity, perplexity_error;
    double base_perplexity, base_perplexity_error;
    double perplexity_ratio, perplexity_ratio_error; /* perplexity / base_perplexity */
    double log_perplexity_correlation;               /* of both models' -log p, over the tokens */
    /* Kullback-Leibler divergence D(base || model) of the next token's distribution */
    double kld_mean, kld_error, kld_median, kld_p90, kld_p95, kld_p99, kld_p999, kld_max;
    /* p(token) by the model less p(token) by the base, of the text's own tokens */
    double probability_mean, probability_mean_error, probability_rms, probability_rms_error;
    double top1_agreement, top1_agreement_error; /* how often both find the same token likeliest, 0 to 1 */
} we_comparison;

/** Perplexity of a text by a model and by a base, and how their predictions differ: what a quantization lost. Windows are
 * those of we_perplexity; both models read each window in turn, so memory does not grow with the text.
 * base   : of the same vocabulary, tokenizing `text` alike; open it with `precise` for a reference.
 * context: 0 means 512.
 * Errors : WE_E_RANGE (text shorter than one window), WE_E_UNSUPPORTED (no tokenizer), WE_E_ARG (the models' vocabularies
 *          differ), WE_E_CANCELLED, WE_E_FORMAT, WE_E_NOMEM, WE_E_DEVICE.
 * Threads: any. Since: 0.1 */
WE_API we_status we_compare(we_model *model, we_model *base, const char *text, size_t len, int context,
                            we_progress_fn progress, void *progress_user, we_comparison *result, we_error *err);

typedef struct we_memory_info {
    size_t size;              /* in: sizeof(we_memory_info) */
    uint64_t total_bytes;     /* of the machine, or what the control group allows */
    uint64_t available_bytes; /* that could be taken without swapping; the control group counts */
    uint64_t resident_bytes;  /* of this process, mapped weights included */
    uint64_t peak_resident_bytes;
} we_memory_info;

/** Read the machine's and this process's memory figures.
 * Errors : WE_E_IO (the system does not tell).
 * Threads: any. Since: 0.1 */
WE_API we_status we_memory_get_info(we_memory_info *info, we_error *err);

/* ---- Monitor ---------------------------------------------------------------------------------------------------- */

/* What a process that runs a model does now. Texts are clean: no control characters, valid UTF-8. */
typedef struct we_monitor_info {
    size_t size; /* in: sizeof(we_monitor_info) */
    int64_t pid;
    char program[64];
    char model[256];        /* the one opened last; "" where none is open */
    char device[64];        /* "cpu (avx512, 8 threads)" */
    size_t n_models;        /* open ones */
    uint64_t weights_bytes; /* of all of them */
    uint64_t kv_bytes;      /* of all sessions' caches */
    uint64_t scratch_bytes;
    uint64_t resident_bytes;                             /* of the process, mapped weights included */
    uint64_t system_total_bytes, system_available_bytes; /* see we_memory_info; 0: unknown */
    size_t n_waiting; /* requests whose first token has not come: their prompt is read, or waits for its turn */
    size_t n_running; /* requests that get tokens now */
    uint64_t n_done, n_failed; /* since the process began, like all below */
    uint64_t n_prompt_tokens;  /* computed */
    uint64_t n_cached_tokens;  /* of prompts, that were still in a cache */
    uint64_t n_generated_tokens;
    double prompt_tokens_per_second;     /* of the latest prompt; 0: none yet */
    double generation_tokens_per_second; /* of the latest answer, while it comes and after */
    double time_to_first_token_s;        /* of the latest request */
} we_monitor_info;

/** This process's figures.
 * info   : out; `size` must be set.
 * Errors : WE_E_IO (the system does not tell), WE_E_ARG (size).
 * Threads: any. Since: 0.1 */
WE_API we_status we_monitor_get(we_monitor_info *info, we_error *err);

/* Called for each process; `info` is borrowed for the call. Return false to stop. */
typedef bool (*we_monitor_fn)(void *user, const we_monitor_info *info);

/** The figures of every process of this user that has a model open, this one's too, in no order. They are read from
 * $XDG_RUNTIME_DIR/whisperengine or, without that, a folder of the user's below /tmp; what processes that are gone left there is removed.
 * Errors : WE_E_NOMEM. What can't be read is left out and logged.
 * Threads: any. Since: 0.1 */
WE_API we_status we_monitor_each(we_monitor_fn fn, void *user, we_error *err);

#ifdef __cplusplus
}
#endif
#endif
