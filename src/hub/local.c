/* SPDX-License-Identifier: Apache-2.0
 * local.c - the models folder ($LOCAL_MODELS_DIR; settings.c says which one it is else), and what is called how in it:
 *
 *     mlx/NAME/, mlx/ORG/NAME/    "NAME", "ORG/NAME": MLX folders, where `convert` puts them
 *     *.gguf                      by its name, with ".gguf" or without, in the models folder itself, in mlx/ and in mlx/ORG/
 *
 * What begins with a dot is not ours to show. */
#include "hub/hub_int.h"
#include "format/format.h"

#include <stdio.h>
#include <sys/stat.h>

char *we_local_place(const char *name)
{
    char *models = we_hub_models_dir(), *path = models ? we_hub_join(models, "mlx", name) : NULL;
    we_free(models);
    return path;
}

static bool is_folder_or_link(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && (S_ISDIR(info.st_mode) || S_ISLNK(info.st_mode));
}

/* DIR/NAME or DIR/NAME.gguf where that is a file; we_free. */
static char *gguf_in(const char *dir, const char *name)
{
    static const char *const tails[] = { "", ".gguf" };
    for (size_t i = 0; dir && i < WE_COUNT(tails); i++) {
        we_buf file = { 0 };
        we_buf_printf(&file, "%s%s", name, tails[i]);
        char *path = file.failed ? NULL : we_path_join(dir, file.ptr);
        we_buf_deinit(&file);
        if (path && we_str_ends_with(we_str_from(path), WE_STR(".gguf")) && we_is_gguf(path)) return path;
        we_free(path);
    }
    return NULL;
}

char *we_local_find(const char *name)
{
    char *place = we_local_place(name);
    if (place && is_folder_or_link(place)) return place;
    we_free(place);
    char *models = we_hub_models_dir(), *mlx = models ? we_path_join(models, "mlx") : NULL;
    char *path = gguf_in(mlx, name);
    if (!path) path = gguf_in(models, name);
    we_free(mlx);
    we_free(models);
    return path;
}

typedef struct level {
    const char *dir;
    const char *org; /* NULL: not below an ORG/ */
    bool files_only;
    we_hub_fn fn;
    void *user;
    bool stopped;
} level;

static bool list_entry(void *user, const char *entry);

static bool list_level(level *l)
{
    we_error why;
    if (we_path_is_dir(l->dir) && we_dir_each(l->dir, list_entry, l, &why)) we_log(hub, WARN, "%s", why.message);
    return !l->stopped;
}

static bool list_entry(void *user, const char *entry)
{
    level *l = user;
    if (entry[0] == '.') return true;
    we_buf name = { 0 };
    we_buf_printf(&name, "%s%s%s", l->org ? l->org : "", l->org ? "/" : "", entry);
    char *path = we_path_join(l->dir, entry);
    if (path && !name.failed) {
        const bool is_folder = we_path_is_dir(path);
        const bool is_model = is_folder ? !l->files_only && we_hub_has_config(path)
                                        : we_hub_is_gguf_name(we_str_from(entry)) && we_is_gguf(path);
        if (is_model) {
            l->stopped = !l->fn(l->user, &(we_hub_entry){ name.ptr, path, "models" });
        } else if (is_folder && !l->files_only && !l->org) {
            level below = { path, entry, false, l->fn, l->user, false };
            l->stopped = !list_level(&below);
        }
    }
    we_free(path);
    we_buf_deinit(&name);
    return !l->stopped;
}

we_status we_local_each(we_hub_fn fn, void *user, bool *go_on, we_error *err)
{
    char *models = we_hub_models_dir(), *mlx = models ? we_path_join(models, "mlx") : NULL;
    const we_status st = mlx ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for the models folder's path");
    if (!st) {
        level folders = { mlx, NULL, false, fn, user, false }, files = { models, NULL, true, fn, user, false };
        *go_on = list_level(&folders) && list_level(&files);
    }
    we_free(mlx);
    we_free(models);
    return st;
}
