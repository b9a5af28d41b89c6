/* SPDX-License-Identifier: Apache-2.0
 * error.h - filling the caller's we_error. The status enum and its names are public: whisperengine.h. */
#ifndef WE_BASE_ERROR_H
#define WE_BASE_ERROR_H

#include "whisperengine.h"

#if defined(__GNUC__) || defined(__clang__)
#define WE_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define WE_PRINTF(format_index, first)
#endif

/** Write status and message, give the status back: `return we_fail(err, WE_E_FORMAT, "%s: ...", file);`
 * err: may be NULL. A message that is too long is cut at a character's border. Control characters that come from
 *      foreign text are written as \xNN, so that no message can drive a terminal (newline is kept). */
we_status we_fail(we_error *err, we_status status, const char *format, ...) WE_PRINTF(3, 4);

/** Put a context before the message that is there: "model.safetensors: " + message. Gives err's status back,
 * or `status` where err is NULL. */
we_status we_fail_in(we_error *err, we_status status, const char *format, ...) WE_PRINTF(3, 4);

#endif
