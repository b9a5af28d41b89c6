/* SPDX-License-Identifier: Apache-2.0
 * mlx.c - opening the MLX device, which is a plugin (plugin.cpp): where it lies, whether it is this build's, and whether the MLX
 * that it found is the one it was built with. MLX's C++ interface changes between minor versions, and a library with other
 * classes would crash: so versions are compared before anything else is called, and all symbols are asked for after that.
 *
 * The plugin comes from our own library folder, by its whole path; no variable and no search path leads elsewhere. */
#include "device/mlx/plugin.h"

#include <dlfcn.h>
#include <stdio.h>

static const we_mlx_host host = {
    .fail = we_fail,
    .budget_take = we_budget_take,
    .budget_give = we_budget_give,
    .uniform = we_uniform,
    .f32_to_bf16 = we_f32_to_bf16,
    .row_f32 = we_matrix_row_f32,
    .ggml_group = we_ggml_group,
    .ggml_zero = we_ggml_zero,
    .ggml_unpack_row = we_ggml_unpack_row,
};

/* Beside the library, in lib/whisperengine; the program's ../lib/whisperengine; the build tree's plugins. */
static char *plugin_path(void)
{
    static const struct {
        bool by_program;
        const char *below;
    } places[] = {
        { false, "whisperengine/" WE_MLX_PLUGIN_FILE },       { false, "plugins/" WE_MLX_PLUGIN_FILE },
        { true, "../lib/whisperengine/" WE_MLX_PLUGIN_FILE }, { true, "plugins/" WE_MLX_PLUGIN_FILE },
        { true, "../plugins/" WE_MLX_PLUGIN_FILE },           { true, "../../plugins/" WE_MLX_PLUGIN_FILE },
    };
    for (size_t i = 0; i < WE_COUNT(places); i++) {
        char *dir = places[i].by_program ? we_executable_dir() : we_library_dir();
        char *path = dir ? we_path_join(dir, places[i].below) : NULL;
        we_free(dir);
        if (path && we_path_exists(path)) return path;
        we_free(path);
    }
    return NULL;
}

static bool same_minor(const char *a, const char *b)
{
    int a_major, a_minor, b_major, b_minor;
    return sscanf(a, "%d.%d", &a_major, &a_minor) == 2 && sscanf(b, "%d.%d", &b_major, &b_minor) == 2 &&
           a_major == b_major && a_minor == b_minor;
}

/* A plugin stays open for the life of the process: MLX's threads run in it. */
static we_status load(const char *path, const we_mlx_plugin **out, we_error *err)
{
    void *lib = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!lib)
        return we_fail(err, WE_E_UNSUPPORTED,
                       "MLX not available. %s can't be loaded, because MLX was not found or is another version: %s. "
                       "Install the MLX that it was built with, or use --device cpu.",
                       path, dlerror());
    const we_mlx_plugin *plugin = dlsym(lib, WE_MLX_PLUGIN_SYMBOL);
    if (!plugin || plugin->layout != WE_MLX_LAYOUT) {
        dlclose(lib);
        return we_fail(
            err, WE_E_UNSUPPORTED,
            "MLX not available. %s belongs to another build of WhisperEngine: install both from one build, or use "
            "--device cpu.",
            path);
    }
    const char *version = plugin->version();
    if (!same_minor(plugin->built_with, version))
        return we_fail(
            err, WE_E_UNSUPPORTED,
            "MLX not available. The MLX installed here is %s, but WhisperEngine was built with %s: install MLX %s, or "
            "build WhisperEngine again, or use --device cpu.",
            version, plugin->built_with, plugin->built_with);
    if (!dlopen(path, RTLD_NOW | RTLD_LOCAL))
        return we_fail(err, WE_E_UNSUPPORTED, "MLX not available. MLX %s lacks what %s was built for: %s", version,
                       path, dlerror());
    *out = plugin;
    return WE_OK;
}

static we_status open_plugin(we_device **out, const we_device_options *options, bool gpu_only, we_error *err)
{
    const we_mlx_plugin *plugin;
    *out = NULL;
    if (options->kernels)
        return we_fail(err, WE_E_UNSUPPORTED, "the device mlx has no kernels to choose from, '%s' is one of the CPU's",
                       options->kernels);
    char *path = plugin_path();
    if (!path)
        return we_fail(err, WE_E_UNSUPPORTED,
                       "MLX not available. This build has no MLX device (%s): install MLX and build with -DWE_MLX=ON "
                       "(docs/macos.md), or use --device cpu.",
                       WE_MLX_PLUGIN_FILE);
    we_status st = load(path, &plugin, err);
    we_free(path);
    if (!st) st = plugin->open(out, options, &host, gpu_only, err);
    if (!st) we_log(device, INFO, "%s, %s", (*out)->detail, (*out)->kernels);
    return st;
}

we_status we_mlx_open(we_device **out, const we_device_options *options, we_error *err)
{
    return open_plugin(out, options, false, err);
}

/* Without a GPU MLX is far slower than our own kernels; and asking costs the loading of a large library. */
static bool may_have_gpu(void)
{
#ifdef __APPLE__
    return true;
#else
    return we_path_exists("/dev/nvidiactl");
#endif
}

bool we_mlx_suits(we_device **out, const we_device_options *options)
{
    we_error why = { 0 };
    if (options->kernels || !may_have_gpu()) return false;
    char *path = plugin_path();
    const bool there = path != NULL;
    we_free(path);
    if (!there) return false;
    if (open_plugin(out, options, true, &why) == WE_OK) return true;
    we_log(device, WARN, "%s", why.message);
    return false;
}
