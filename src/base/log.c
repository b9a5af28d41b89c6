/* SPDX-License-Identifier: Apache-2.0
 * log.c - the process's log. Levels are relaxed atomics, since every we_log asks one; function and user belong together
 * and sit behind a mutex, which only messages that are wanted take. */
#include "base/log.h"
#include "base/str.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#define MAX_MESSAGE 2048

static const char *const module_names[] = {
#define X(name) #name,
    WE_LOG_MODULES(X)
#undef X
};
static const char *const level_names[] = {
    [WE_LOG_ERROR] = "error", [WE_LOG_WARN] = "warn",   [WE_LOG_INFO] = "info",
    [WE_LOG_DEBUG] = "debug", [WE_LOG_TRACE] = "trace", [WE_LOG_OFF] = "off",
};

/* Indexed by module; all begin at WARN. */
static atomic_int levels[WE_LOG_MODULE_COUNT] = {
#define X(name) WE_LOG_WARN,
    WE_LOG_MODULES(X)
#undef X
};
static atomic_bool has_listener;

static pthread_mutex_t listener_lock = PTHREAD_MUTEX_INITIALIZER;
static we_log_fn listener;
static void *listener_user;

void we_log_set_callback(we_log_fn fn, void *user)
{
    pthread_mutex_lock(&listener_lock);
    listener = fn;
    listener_user = user;
    atomic_store_explicit(&has_listener, fn != NULL, memory_order_relaxed);
    pthread_mutex_unlock(&listener_lock);
}

bool we_log_enabled(we_log_module module, we_log_level level)
{
    if (!atomic_load_explicit(&has_listener, memory_order_relaxed)) return false;
    const int most = atomic_load_explicit(&levels[module], memory_order_relaxed);
    return most != WE_LOG_OFF && (int)level <= most;
}

void we_log_write(we_log_module module, we_log_level level, const char *format, ...)
{
    pthread_mutex_lock(&listener_lock);
    const we_log_fn fn = listener;
    void *const user = listener_user;
    pthread_mutex_unlock(&listener_lock); /* not held in the call: listeners may run side by side */
    if (!fn) return;

    char raw[MAX_MESSAGE], message[MAX_MESSAGE];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    if (n < 0) return;
    we_str text = { raw, strlen(raw) };
    if ((size_t)n > text.len) text.len -= we_utf8_incomplete_tail(text);
    we_str_clean(message, sizeof(message), text); /* it may quote a downloaded file, and may go to a terminal */
    fn(user, level, module_names[module], message);
}

static int find_name(const char *const *names, size_t n, we_str name)
{
    for (size_t i = 0; i < n; i++)
        if (we_str_is(name, names[i])) return (int)i;
    return -1;
}

/* "mlx" names what runs MLX's models, as the logger of the same name does in Python: these folders together. */
static const we_log_module mlx_modules[] = { WE_LOG_MODULE_format,   WE_LOG_MODULE_device,  WE_LOG_MODULE_model,
                                             WE_LOG_MODULE_sampling, WE_LOG_MODULE_runtime, WE_LOG_MODULE_backend };

/* One part of a spec, "debug" or "model=debug", into the table of levels. */
static we_status apply_part(int table[WE_LOG_MODULE_COUNT], we_str part, we_error *err)
{
    const char *equals = part.len ? memchr(part.ptr, '=', part.len) : NULL;
    const size_t name_len = equals ? (size_t)(equals - part.ptr) : 0;
    const we_str name = { part.ptr, name_len };
    const we_str level_name = equals ? (we_str){ equals + 1, part.len - name_len - 1 } : part;

    const int level = find_name(level_names, sizeof(level_names) / sizeof(level_names[0]), level_name);
    if (level < 0)
        return we_fail(err, WE_E_ARG, "log level \"%.*s\" is not one of error, warn, info, debug, trace, off",
                       (int)level_name.len, level_name.ptr);
    if (equals && we_str_is(name, "mlx")) {
        for (size_t i = 0; i < sizeof(mlx_modules) / sizeof(mlx_modules[0]); i++) table[mlx_modules[i]] = level;
    } else if (equals) {
        const int module = find_name(module_names, WE_LOG_MODULE_COUNT, name);
        if (module < 0)
            return we_fail(
                err, WE_E_ARG,
                "log module \"%.*s\" is unknown: it should be a folder below src/, like model, or mlx for all that "
                "runs a model",
                (int)name.len, name.ptr);
        table[module] = level;
    } else {
        for (int i = 0; i < WE_LOG_MODULE_COUNT; i++) table[i] = level;
    }
    return WE_OK;
}

we_status we_log_set_levels(const char *spec, we_error *err)
{
    if (!spec) return we_fail(err, WE_E_ARG, "log levels: no text was given");
    int table[WE_LOG_MODULE_COUNT];
    for (int i = 0; i < WE_LOG_MODULE_COUNT; i++) table[i] = atomic_load_explicit(&levels[i], memory_order_relaxed);

    for (const char *p = spec;;) {
        const size_t len = strcspn(p, ",");
        const we_status st = apply_part(table, (we_str){ p, len }, err);
        if (st) return st;
        if (!p[len]) break;
        p += len + 1;
    }
    for (int i = 0; i < WE_LOG_MODULE_COUNT; i++) atomic_store_explicit(&levels[i], table[i], memory_order_relaxed);
    return WE_OK;
}
