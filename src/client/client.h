/* SPDX-License-Identifier: Apache-2.0
 * client.h - the door of client/: what the user set and where it came from, and conversations that are answered by whoever can.
 * The functions that programs call (we_config_..., we_client_...) are declared in whisperengine.h and implemented here; what
 * stands below is for the rooms above.
 *
 * Not here: how a backend is spoken to (backend/), tasks on threads of their own (api/). */
#ifndef WE_CLIENT_H
#define WE_CLIENT_H

#include "backend/backend.h"

/* ---- Values of the configuration, checked (config.c) ---- */

/** A number of the table, in *out; left alone where it is not set.
 * Errors: WE_E_ARG ("MLX_MAX_TOKENS is '-5' (environment): expected a whole number, 1 to 2147483647"). */
we_status we_config_i64(const char *name, int64_t *out, we_error *err);
we_status we_config_f64(const char *name, double *out, we_error *err);
we_status we_config_bool(const char *name, bool *out, we_error *err);
we_status we_config_str(const char *name, const char **out, we_error *err); /* borrowed */
/** The order in which backends are tried: FALLBACK_CHAIN. Errors: WE_E_ARG. */
we_status we_config_chain(we_backend_kind out[WE_BACKEND_CHAIN], we_error *err);

/* ---- Which model another backend runs (models.c) ---- */

/** The name by which the backend of `report` has the model that another backend calls `wanted`, in *name, which is freed with
 * we_free; wanted "": its own choice, as "".
 * Errors: WE_E_NOT_FOUND (the reason for passing it over), WE_E_FORMAT (the user's models.json), WE_E_NOMEM. */
we_status we_client_model_for(we_backend_kind kind, const we_backend_report *report, const char *wanted, char **name,
                              we_error *err);

#endif
