/* SPDX-License-Identifier: Apache-2.0
 * error.c - the table of statuses, and filling the caller's we_error. Messages often quote what stands in a downloaded
 * file, and end up on a terminal: so every byte of them passes through we_str_clean. */
#include "base/error.h"
#include "base/str.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *name, *text;
} statuses[] = {
    [WE_OK] = { "WE_OK", "success" },
    [WE_E_ARG] = { "WE_E_ARG", "invalid argument" },
    [WE_E_RANGE] = { "WE_E_RANGE", "out of range" },
    [WE_E_NOMEM] = { "WE_E_NOMEM", "out of memory" },
    [WE_E_IO] = { "WE_E_IO", "input/output error" },
    [WE_E_NOT_FOUND] = { "WE_E_NOT_FOUND", "not found" },
    [WE_E_FORMAT] = { "WE_E_FORMAT", "broken file content" },
    [WE_E_UNSUPPORTED] = { "WE_E_UNSUPPORTED", "not supported" },
    [WE_E_TEMPLATE] = { "WE_E_TEMPLATE", "chat template error" },
    [WE_E_CANCELLED] = { "WE_E_CANCELLED", "cancelled" },
    [WE_E_BUSY] = { "WE_E_BUSY", "busy" },
    [WE_E_DEVICE] = { "WE_E_DEVICE", "device failure" },
    [WE_E_NETWORK] = { "WE_E_NETWORK", "network failure" },
    [WE_E_DENIED] = { "WE_E_DENIED", "permission denied by the server" },
    [WE_E_INTERNAL] = { "WE_E_INTERNAL", "internal error" },
};
static_assert(sizeof(statuses) / sizeof(statuses[0]) == WE_E_DENIED + 1, "every status has its texts");

static bool is_status(we_status status) { return (size_t)status < sizeof(statuses) / sizeof(statuses[0]); }

const char *we_status_name(we_status status) { return is_status(status) ? statuses[status].name : "WE_E_?"; }

const char *we_status_text(we_status status) { return is_status(status) ? statuses[status].text : "unknown status"; }

/* Formats beside the message, since an argument may well be err->message itself. */
WE_PRINTF(3, 0) static we_str format_cut(char *out, size_t size, const char *format, va_list args)
{
    const int n = vsnprintf(out, size, format, args);
    if (n < 0) return WE_STR("(a message that this locale cannot encode)");
    we_str text = { out, (size_t)n < size ? (size_t)n : size - 1 };
    if ((size_t)n >= size) text.len -= we_utf8_incomplete_tail(text);
    return text;
}

we_status we_fail(we_error *err, we_status status, const char *format, ...)
{
    assert(status != WE_OK);
    if (!err) return status;
    char raw[sizeof(err->message)];
    va_list args;
    va_start(args, format);
    const we_str text = format_cut(raw, sizeof(raw), format, args);
    va_end(args);
    we_str_clean(err->message, sizeof(err->message), text);
    err->status = status;
    return status;
}

we_status we_fail_in(we_error *err, we_status status, const char *format, ...)
{
    if (!err) return status;
    char raw[sizeof(err->message)], old[sizeof(err->message)];
    va_list args;
    va_start(args, format);
    const we_str context = format_cut(raw, sizeof(raw), format, args);
    va_end(args);
    memcpy(old, err->message, sizeof(old));
    const size_t len = we_str_clean(err->message, sizeof(err->message), context);
    we_str_clean(err->message + len, sizeof(err->message) - len, we_str_from(old));
    return err->status;
}
