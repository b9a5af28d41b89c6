/* SPDX-License-Identifier: Apache-2.0
 * find.c - names to folders. The places, in order: a path; the models folder (local.c); the Hugging Face cache (its layout is
 * in hub_int.h), by ORG/NAME, by short name or by NAME alone, with @REVISION or without.
 *
 * Then what LM Studio and Ollama have downloaded (foreign.c). The built-in model lies beside the program or the library (an
 * installation, a build tree, a Python package), else where the library was installed. */
#include "hub/hub_int.h"
#include "hub/foreign.h"
#include "format/format.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef WE_DATA_DIR
#define WE_DATA_DIR "/usr/local/share/whisperengine"
#endif

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for a model's path"); }

/* ---- Places ---- */

static char *first_with_config(char *beside, const char *const *places, size_t n) /* takes `beside` */
{
    for (size_t i = 0; beside && i < n; i++) {
        char *dir = we_path_join(beside, places[i]);
        if (dir && we_hub_has_config(dir)) {
            we_free(beside);
            char *clean = realpath(dir, NULL), *copy = clean ? we_strdup(clean) : NULL;
            free(clean);
            if (!copy) return dir;
            we_free(dir);
            return copy;
        }
        we_free(dir);
    }
    we_free(beside);
    return NULL;
}

/* The built-in model. Beside the shared library, which another program (Python) may have loaded: in its package, next to lib/
 * and lib/ARCH/, the source tree. Beside the program: share/whisperengine next to bin/, the source tree above a build folder. */
static char *builtin_dir(void)
{
    static const char *const by_program[] = { "../share/whisperengine/models/default", "../../models/default",
                                              "../../../models/default", "../../../../models/default" };
    static const char *const by_library[] = { "models/default", "../share/whisperengine/models/default",
                                              "../../share/whisperengine/models/default", "../../models/default" };
    char *dir = first_with_config(we_library_dir(), by_library, WE_COUNT(by_library));
    if (!dir) dir = first_with_config(we_executable_dir(), by_program, WE_COUNT(by_program));
    return dir ? dir : we_strdup(WE_DATA_DIR "/models/default");
}

/* ---- The Hugging Face cache ---- */

/* The folder of a revision that holds a model; we_free. */
static char *model_snapshot(const char *cache, const char *folder, const char *revision)
{
    char *dir = we_hub_snapshot(cache, folder, revision);
    if (dir && we_hub_has_config(dir)) return dir;
    we_free(dir);
    return NULL;
}

typedef struct cache_search {
    const char *cache, *revision;
    const char *wanted; /* NAME without its ORG */
    char *found;
} cache_search;

static bool match_repo(void *user, const char *entry)
{
    cache_search *s = user;
    char *repo = we_hub_repo_of(entry);
    const char *slash = repo ? strchr(repo, '/') : NULL;
    if (repo && strcmp(slash ? slash + 1 : repo, s->wanted) == 0)
        s->found = model_snapshot(s->cache, entry, s->revision);
    we_free(repo);
    return !s->found;
}

/* ORG/NAME, a short name, or the NAME of a repository that is there, each with @REVISION or without. */
static char *find_in_cache(const char *text)
{
    char *cache = we_hub_cache_dir(), *bare = NULL, *path = NULL;
    we_hub_name name;
    if (cache && we_path_is_dir(cache)) {
        if (!we_hub_name_parse(&name, text, NULL)) {
            path = model_snapshot(cache, name.folder, name.revision);
            we_hub_name_deinit(&name);
        }
        const size_t len = strcspn(text, "@");
        bare = path || memchr(text, '/', len) ? NULL : we_strndup(text, len);
        if (bare) {
            cache_search search = { cache, text[len] ? text + len + 1 : "main", bare, NULL };
            we_dir_each(cache, match_repo, &search, NULL);
            path = search.found;
        }
    }
    we_free(bare);
    we_free(cache);
    return path;
}

/* ---- Names ---- */

static const char *const other_schemes[] = { "lmstudio://",     "ollama://", "llamacpp://",
                                             "transformers://", "http://",   "https://" };

static bool add_near(void *user, const we_hub_entry *entry)
{
    we_nearest_add(user, we_str_from(entry->name));
    return true;
}

/* name: "" where only `shown` was asked for, a path. */
static we_status not_found(const char *name, const char *shown, we_error *err)
{
    we_nearest nearest = { .wanted = we_str_from(name) };
    we_hub_models table;
    we_buf near = { 0 };
    const bool knows = name[0] && !we_hub_models_read(&table, NULL);
    const bool is_short = knows && we_hub_models_find(&table, nearest.wanted);
    if (is_short)
        we_buf_printf(&near, "`whisperengine pull %s` fetches it. ", name);
    else if (name[0])
        we_hub_each(add_near, &nearest, NULL);
    for (size_t i = 0; knows && !is_short && i < table.n; i++)
        we_nearest_add(&nearest, we_str_from(table.items[i].name));
    if (nearest.n) {
        we_buf_printf(&near, "Did you mean ");
        we_nearest_write(&nearest, &near);
        we_buf_printf(&near, "? ");
    }
    const we_status st = we_fail(
        err, WE_E_NOT_FOUND,
        "Model path does not exist: %s\n%s`whisperengine list` shows the models on this machine, `whisperengine pull` fetches "
        "one. Put the model's MLX folder there (config.json, model.safetensors, tokenizer.json, tokenizer_config.json), or "
        "give another path with --model.",
        shown, near.ptr ? near.ptr : "");
    if (knows) we_hub_models_deinit(&table);
    we_buf_deinit(&near);
    return st;
}

static we_status found(char *path, char **out, we_error *err)
{
    if (!path) return no_memory(err);
    *out = path;
    return WE_OK;
}

/* NULL: nothing of that name is here. Errors: WE_E_UNSUPPORTED (a file that is no model), WE_E_NOMEM. */
static we_status find_here(const char *name, char **path, char **local, we_error *err)
{
    if (strcmp(name, "default") == 0) return found(builtin_dir(), path, err);
    if (we_path_exists(name)) {
        if (we_path_is_dir(name) || we_is_gguf(name)) return found(we_strdup(name), path, err);
        return we_fail(err, WE_E_UNSUPPORTED,
                       "%s is a file; a model is a folder with config.json, weights and tokenizer.json, or a GGUF file",
                       name);
    }
    if (name[0] == '/' || name[0] == '.') return WE_OK;
    *local = we_local_place(name);
    if (!*local) return no_memory(err);
    *path = we_local_find(name);
    if (*path && we_path_exists(*path)) return WE_OK;
    we_free(*path); /* a link that leads nowhere */
    *path = find_in_cache(name);
    if (!*path) *path = we_foreign_find(name);
    return WE_OK;
}

/* Where the user's models.json says that a name leads. */
static we_status find_as_told(const char *name, char **path, we_error *err)
{
    we_hub_models table;
    char *local = NULL;
    we_status st = we_hub_models_read(&table, err);
    if (st) return st;
    const we_hub_model *model = we_hub_models_find(&table, we_str_from(name));
    if (model && model->is_users[WE_BACKEND_MLX]) st = find_here(model->called[WE_BACKEND_MLX], path, &local, err);
    we_hub_models_deinit(&table);
    we_free(local);
    return st;
}

we_status we_hub_find(const char *name, char **path, we_error *err)
{
    *path = NULL;
    for (size_t i = 0; i < WE_COUNT(other_schemes); i++)
        if (strncmp(name, other_schemes[i], strlen(other_schemes[i])) == 0)
            return we_fail(err, WE_E_UNSUPPORTED,
                           "%s: models behind %s are not reached by this version; give a folder, a name or mlx://NAME",
                           name, other_schemes[i]);
    if (strncmp(name, "mlx://", 6) == 0) name += 6;
    if (!name[0]) return we_fail(err, WE_E_ARG, "the model's name is empty; `default` is the built-in model");
    const bool is_path = name[0] == '/' || name[0] == '.';
    char *local = NULL;
    we_status st = find_here(name, path, &local, err);
    if (!st && !*path && !is_path) st = find_as_told(name, path, err);
    if (!st && !*path) st = not_found(is_path ? "" : name, local ? local : name, err);
    we_free(local);
    return st;
}

/* A part of a name that stays in its folder, and that no listing hides. */
static bool is_plain_part(const char *part, size_t len)
{
    if (len == 0 || part[0] == '.' || part[0] == '-') return false;
    for (size_t i = 0; i < len; i++)
        if (part[i] == '\\' || (unsigned char)part[i] < ' ' || part[i] == 0x7F) return false;
    return true;
}

we_status we_hub_target(const char *name, char **path, we_error *err)
{
    *path = NULL;
    const char *slash = strchr(name, '/');
    const size_t first = slash ? (size_t)(slash - name) : strlen(name);
    const bool plain = is_plain_part(name, first) && strcmp(name, "default") != 0 && !strstr(name, "://") &&
                       (!slash || (!strchr(slash + 1, '/') && is_plain_part(slash + 1, strlen(slash + 1))));
    if (!plain) return we_fail(err, WE_E_ARG, "\"%s\" is no name for a new model: expected NAME or ORG/NAME", name);
    return found(we_local_place(name), path, err);
}

/* ---- Listing ---- */

typedef struct cache_listing {
    const char *dir;
    we_hub_fn fn;
    void *user;
    bool stopped;
} cache_listing;

static bool list_repo(void *user, const char *entry)
{
    cache_listing *l = user;
    char *name = we_hub_repo_of(entry), *path = name ? model_snapshot(l->dir, entry, "main") : NULL;
    if (path) l->stopped = !l->fn(l->user, &(we_hub_entry){ name, path, "hugging face cache" });
    we_free(name);
    we_free(path);
    return !l->stopped;
}

we_status we_hub_each(we_hub_fn fn, void *user, we_error *err)
{
    char *builtin = builtin_dir(), *cache = we_hub_cache_dir();
    we_error why;
    bool go_on =
        builtin && (!we_hub_has_config(builtin) || fn(user, &(we_hub_entry){ "default", builtin, "built-in" }));
    we_status st = builtin ? WE_OK : no_memory(err);
    if (!st && go_on) st = we_local_each(fn, user, &go_on, err);
    if (!st && go_on && cache && we_path_is_dir(cache)) {
        cache_listing l = { cache, fn, user, false };
        if (we_dir_each(cache, list_repo, &l, &why)) we_log(hub, WARN, "%s", why.message);
        go_on = !l.stopped;
    }
    if (!st && go_on) we_foreign_each(fn, user);
    we_free(builtin);
    we_free(cache);
    return st;
}
