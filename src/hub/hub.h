/* SPDX-License-Identifier: Apache-2.0
 * hub.h - where a model's name leads on this machine, and which models there are. (Downloads come here later.) What is
 * inside a model folder is not known here. */
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

/** Every folder with a config.json, and LM Studio's and Ollama's GGUF files, in the places where we_hub_find looks, the
 * built-in model first. Errors: WE_E_NOMEM. */
we_status we_hub_each(we_hub_fn fn, void *user, we_error *err);

#endif
