/* SPDX-License-Identifier: Apache-2.0
 * client_int.h - what the files of client/ share. */
#ifndef WE_CLIENT_INT_H
#define WE_CLIENT_INT_H

#include "client/client.h"
#include "hub/hub.h"

/* ---- Files of KEY=value (envfile.c) ---- */

typedef struct we_envline {
    we_str key, value;   /* borrowed for the call; the value without its quotes */
    const char *problem; /* why the line is none; value is empty then, and perhaps key */
    size_t number;       /* of the line, from 1 */
    size_t start, end;   /* bytes of the line in the text, its end included */
} we_envline;
typedef bool (*we_envline_fn)(void *user, const we_envline *line); /* false stops */

/** Each line that is neither empty nor a comment:
 *     KEY=value   export KEY=value   KEY = "a # \n \" \\ \$"   KEY='as it is'   # comment
 * A value without quotes ends at the line's end or before " #". Nothing is expanded; a value lies on one line.
 * Errors: WE_E_NOMEM. */
we_status we_envfile_parse(we_str text, we_envline_fn fn, void *user, we_error *err);

/** The text with KEY=value in place of the key's lines, at the end where there were none; value NULL: without them.
 * Errors: WE_E_ARG (a value that no line can hold), WE_E_NOMEM. */
we_status we_envfile_change(we_buf *out, we_str text, const char *key, const char *value, we_error *err);

/* ---- The text of an answer (reply_text.c) ---- */

typedef struct we_cleaner { /* special tokens; zeroed is ready */
    we_buf held;
    bool begun;
} we_cleaner;
/** Append to `out` what is certain of the text so far; `ended`: all of it. out->failed where memory is out. */
void we_cleaner_feed(we_cleaner *c, we_str text, bool ended, we_buf *out);

typedef struct we_echo { /* of `said`, at the beginning of what continues it; zeroed but for `said` is ready */
    we_str said;         /* borrowed */
    we_buf held;
    bool decided;
    bool is_anew; /* it began like `said` and then differed: a new answer, not what continues the other */
} we_echo;
void we_echo_feed(we_echo *e, we_str text, bool ended, we_buf *out);

/* ---- Which model another backend runs (models.c) ---- */

/** The row of the model that some backend calls `called`; NULL: none. */
const we_hub_model *we_client_known_model(const we_hub_models *table, const char *called);

/** "FALLBACK_MODEL_OLLAMA". */
void we_client_fallback_variable(we_backend_kind kind, char variable[64]);

/** The API key for a target in *key, NULL: none; we_free. explicit_url: the URL was the caller's, not the configuration's.
 * Errors: those of we_secret_get. */
we_status we_client_key_for(const we_backend_target *target, bool explicit_url, char **key, we_error *err);

/* ---- The secret service (secret.c) ---- */

/* The value of a variable that is kept there. */
#define WE_IN_SECRET_SERVICE "@secret-service"
/** A variable's value; we_free. Errors: WE_E_UNSUPPORTED (no service answers), WE_E_NOT_FOUND (it has none), WE_E_NOMEM. */
we_status we_secret_get(const char *name, char **value, we_error *err);
/** Keep one; NULL takes it out. Errors: WE_E_UNSUPPORTED. */
we_status we_secret_put(const char *name, const char *value, we_error *err);

#endif
