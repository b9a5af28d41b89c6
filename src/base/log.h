/* SPDX-License-Identifier: Apache-2.0
 * log.h - one log for the process, with a level for each module. Where it goes is the caller's choice
 * (we_log_set_callback in whisperengine.h); nothing is formatted when nobody listens. */
#ifndef WE_BASE_LOG_H
#define WE_BASE_LOG_H

#include "base/error.h"

/* The modules are the rooms below src/. */
/* clang-format off */
#define WE_LOG_MODULES(X) \
    X(base) X(net) X(format) X(quant) X(tokenizer) X(template) X(device) X(model) X(sampling) X(runtime) X(convert) X(hub) \
    X(backend) X(client) X(api) X(server)
typedef enum we_log_module {
#define X(name) WE_LOG_MODULE_##name,
    WE_LOG_MODULES(X)
#undef X
    WE_LOG_MODULE_COUNT
} we_log_module;
/* clang-format on */

bool we_log_enabled(we_log_module module, we_log_level level);
void we_log_write(we_log_module module, we_log_level level, const char *format, ...) WE_PRINTF(3, 4);

/* we_log(model, DEBUG, "bound %d tensors", n); */
#define we_log(module, level, ...)                                             \
    do {                                                                       \
        if (we_log_enabled(WE_LOG_MODULE_##module, WE_LOG_##level))            \
            we_log_write(WE_LOG_MODULE_##module, WE_LOG_##level, __VA_ARGS__); \
    } while (0)

#endif
