/* SPDX-License-Identifier: Apache-2.0
 * hub.h - models by their names: where a name leads on this machine, which models there are, how one comes here from the
 * Hugging Face hub, how it is checked and how it goes. What is inside a model folder is not known here. */
#ifndef WE_HUB_H
#define WE_HUB_H

#include "base/base.h"

/** See we_model_find in whisperengine.h. */
we_status we_hub_find(const char *name, char **path, we_error *err);

/** Where a new model of that name belongs: the models folder's mlx/NAME or mlx/ORG/NAME, from where we_hub_find takes it.
 * path   : out, NULL on failure; free with we_free. Errors: WE_E_ARG (not such a name), WE_E_NOMEM. */
we_status we_hub_target(const char *name, char **path, we_error *err);

typedef struct we_hub_entry {
    const char *name, *path; /* borrowed for the call */
    const char *source;      /* "built-in", "models", "hugging face cache", "lm studio", "ollama" */
} we_hub_entry;
typedef bool (*we_hub_fn)(void *user, const we_hub_entry *entry); /* false stops */

/** Every folder with a config.json and every GGUF file in the places where we_hub_find looks, the built-in model first.
 * Errors: WE_E_NOMEM. */
we_status we_hub_each(we_hub_fn fn, void *user, we_error *err);

/* ---- Short names (short_names.c) ---- */

typedef struct we_hub_short_name {
    const char *name;             /* "llama-3.1-8b-instruct" */
    const char *repo;             /* its MLX form on the hub */
    uint64_t n_parameters, bytes; /* of the 4-bit form */
    int context;
    const char *lmstudio, *ollama, *transformers; /* what other backends call it */
} we_hub_short_name;

extern const we_hub_short_name we_hub_short_names[];
extern const size_t we_hub_n_short_names;

typedef struct
    we_hub_shape { /* of one model, as its config.json has it: what it needs can be counted before it is here */
    int n_layers, hidden_size, intermediate_size, n_heads, n_kv_heads, head_dim, vocab_size;
    bool tied;              /* one matrix is embeddings and output */
    int window, full_every; /* layers see `window` tokens, but each full_every-th one all; 0: all of them do */
    int tier_gb;            /* recommended from a machine of so much memory on: 8, 16, 32; 0: not by itself */
} we_hub_shape;
extern const we_hub_shape we_hub_shapes[]; /* [we_hub_n_short_names], in the same order */

/* ---- One model's names with every backend: the short names, extended by the user's models.json (model_names.c) ---- */

#define WE_HUB_KINDS ((int)WE_BACKEND_OPENAI) /* kinds of backends that have models of their own */

typedef struct we_hub_model {
    const char *name;
    const char *
        called[WE_BACKEND_OPENAI]; /* by we_backend_kind; NULL: nobody says. llamacpp: a file, or how its name begins */
    bool is_users[WE_BACKEND_OPENAI]; /* the user's file says so */
    const we_hub_short_name *row;     /* NULL: only the user knows it */
} we_hub_model;

typedef struct we_hub_models { /* zeroed is empty */
    we_hub_model *items;       /* the short names in their order, then the user's */
    size_t n;
    char *path, *text; /* of the user's file */
    we_arena arena;
} we_hub_models;

/** Read the table anew: the user's file is short, and may have changed.
 * out    : zeroed on failure; free with we_hub_models_deinit.
 * Errors : WE_E_FORMAT (the file, key and value are named), WE_E_IO, WE_E_NOMEM. No file is no error. */
we_status we_hub_models_read(we_hub_models *out, we_error *err);
/** The built-in rows, and what `json` says on top of them. path: for messages; both are kept, not copied. Errors: as above. */
we_status we_hub_models_parse(we_hub_models *out, we_str json, const char *path, we_error *err);
void we_hub_models_deinit(we_hub_models *models);
const we_hub_model *we_hub_models_find(const we_hub_models *models, we_str name); /* NULL: none */
const char *we_hub_kind_key(int kind); /* "ollama": a key of models.json and the scheme of URLs */

/* ---- From the hub ---- */

char *we_hub_cache_dir(void); /* where downloads go; we_free; NULL where there is no home */

#define WE_HUB_MOST_CONNECTIONS 64

/** See we_model_pull in whisperengine.h. The options are complete and checked. */
we_status we_hub_pull(const char *name, const we_pull_options *options, char **path, we_error *err);

/* ---- Where a folder came from, checking and removing it ---- */

/** See we_model_get_source in whisperengine.h. */
we_status we_hub_source_of(we_model_source *out, const char *path, we_error *err);
void we_hub_source_deinit(we_model_source *source);

/** Read every file of a folder, and compare with the hashes that are known. See we_model_verify in whisperengine.h, which
 * looks into the files besides. */
we_status we_hub_verify(const char *path, const we_verify_options *options, we_verify_result *result, we_error *err);

/** See we_model_removal_plan and its neighbours in whisperengine.h. */
we_status we_hub_removal_plan(we_removal *removal, const char *name, we_error *err);
we_status we_hub_removal_run(const we_removal *removal, we_error *err);
void we_hub_removal_deinit(we_removal *removal);

#endif
