/* SPDX-License-Identifier: Apache-2.0
 * client_int.h - what the files of client/ share. */
#ifndef WE_CLIENT_INT_H
#define WE_CLIENT_INT_H

#include "client/client.h"

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

#endif
