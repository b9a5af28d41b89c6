/* SPDX-License-Identifier: Apache-2.0
 * plugin.h - what the library (mlx.c, C) and the plugin (plugin.cpp, C++, linked to MLX) know of each other. The plugin calls nothing
 * of the library but through we_mlx_host, and shows one symbol, we_mlx_plugin. Both sides are built together: `layout` and
 * `version` say so. */
#ifndef WE_MLX_PLUGIN_H
#define WE_MLX_PLUGIN_H

#include "device/device_int.h"

/* A plugin of another build would read our structs wrongly. */
#define WE_MLX_LAYOUT                                                                                                \
    (1 + sizeof(we_device_ops) * 4096 + sizeof(we_device) + sizeof(we_device_options) * 64 + sizeof(we_batch) * 16 + \
     sizeof(we_mlx_host))

typedef struct we_mlx_host {
    we_status (*fail)(we_error *err, we_status status, const char *format, ...);
    bool (*budget_take)(we_budget *budget, uint64_t bytes);
    void (*budget_give)(we_budget *budget, uint64_t bytes);
    double (*uniform)(uint64_t seed, uint64_t counter);
    uint16_t (*f32_to_bf16)(float f);
    void (*row_f32)(const we_matrix *m, int64_t row, float *out);
    int (*ggml_group)(we_dtype dtype);
    int (*ggml_zero)(we_dtype dtype);
    void (*ggml_unpack_row)(const we_matrix *m, int64_t row, uint8_t *codes, float *scales, float *mins);
} we_mlx_host;

typedef struct we_mlx_plugin {
    size_t layout;
    const char *built_with;       /* MLX's version at build time, "0.32.4" */
    const char *(*version)(void); /* of the MLX that is loaded */
    /* Only after the versions were compared. gpu_only: WE_E_UNSUPPORTED where MLX would run on the CPU. */
    we_status (*open)(we_device **out, const we_device_options *options, const we_mlx_host *host, bool gpu_only,
                      we_error *err);
} we_mlx_plugin;

#define WE_MLX_PLUGIN_SYMBOL "we_mlx_plugin_table"
#ifdef __APPLE__
#define WE_MLX_PLUGIN_FILE "whisperengine-mlx.dylib"
#else
#define WE_MLX_PLUGIN_FILE "whisperengine-mlx.so"
#endif

#endif
