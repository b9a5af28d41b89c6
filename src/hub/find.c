/* SPDX-License-Identifier: Apache-2.0
 * find.c - names to folders. The places, in order: a path; the models folder ($LOCAL_MODELS_DIR, else ./models where it
 * exists, else the user's data directory) below mlx/; the Hugging Face cache in huggingface_hub's layout:
 *
 *     $HF_HUB_CACHE or $HF_HOME/hub or ~/.cache/huggingface/hub
 *       models--ORG--NAME/refs/main               the revision's hash, as text
 *       models--ORG--NAME/snapshots/HASH/         the folder
 *
 * then what LM Studio and Ollama have downloaded (foreign.c). The built-in model lies beside the program (an installation or a build tree), else where the library was installed. */
#include "hub/hub.h"
#include "hub/foreign.h"
#include "format/format.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef WE_DATA_DIR
#define WE_DATA_DIR "/usr/local/share/whisperengine"
#endif

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for a model's path"); }

static char *join3(const char *a, const char *b, const char *c)
{
    char *ab = we_path_join(a, b), *abc = ab ? we_path_join(ab, c) : NULL;
    we_free(ab);
    return abc;
}

static bool has_config(const char *dir)
{
    char *config = we_path_join(dir, "config.json");
    const bool there = config && we_path_exists(config);
    we_free(config);
    return there;
}

/* ---- Places ---- */

/* An environment variable that is set and not empty. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* The folder that holds mlx/; we_free. */
static char *models_dir(void)
{
    const char *set = environment("LOCAL_MODELS_DIR");
    if (set) return we_strdup(set);
    if (we_path_is_dir("./models")) return we_strdup("./models");
    char *data = we_dir_user_data(), *dir = data ? we_path_join(data, "models") : NULL;
    we_free(data);
    if (dir && we_path_is_dir(dir)) return dir;
    we_free(dir);
    return we_strdup("./models");
}

static char *hub_cache_dir(void)
{
    const char *set = environment("HF_HUB_CACHE");
    if (set) return we_strdup(set);
    if ((set = environment("HF_HOME"))) return we_path_join(set, "hub");
    if ((set = environment("XDG_CACHE_HOME"))) return join3(set, "huggingface", "hub");
    return (set = environment("HOME")) ? join3(set, ".cache/huggingface", "hub") : NULL;
}

/* The built-in model: share/whisperengine beside bin/, the source tree above a build folder, the installed place. */
static char *builtin_dir(void)
{
    static const char *const beside[] = { "../share/whisperengine/models/default", "../../models/default",
                                          "../../../models/default", "../../../../models/default" };
    char *program = we_executable_dir();
    for (size_t i = 0; program && i < WE_COUNT(beside); i++) {
        char *dir = we_path_join(program, beside[i]);
        if (dir && has_config(dir)) {
            we_free(program);
            char *clean = realpath(dir, NULL), *copy = clean ? we_strdup(clean) : NULL;
            free(clean);
            if (!copy) return dir;
            we_free(dir);
            return copy;
        }
        we_free(dir);
    }
    we_free(program);
    return we_strdup(WE_DATA_DIR "/models/default");
}

/* ---- The Hugging Face cache ---- */

/* The folder of the revision that refs/main names, or NULL. `repo` is models--ORG--NAME. */
static char *snapshot_dir(const char *cache, const char *repo)
{
    char *ref_path = join3(cache, repo, "refs/main"), *ref = NULL, *found = NULL;
    size_t len = 0;
    if (ref_path && !we_file_read(ref_path, 256, &ref, &len, NULL)) {
        while (len && (ref[len - 1] == '\n' || ref[len - 1] == ' ')) ref[--len] = 0;
        char *snapshots = len && !strchr(ref, '/') && ref[0] != '.' ? join3(cache, repo, "snapshots") : NULL;
        found = snapshots ? we_path_join(snapshots, ref) : NULL;
        we_free(snapshots);
    }
    we_free(ref_path);
    we_free(ref);
    if (found && has_config(found)) return found;
    we_free(found);
    return NULL;
}

static const char repo_prefix[] = "models--";

/* "models--ORG--NAME" -> "ORG/NAME"; we_free. NULL: another kind of entry. */
static char *repo_name(const char *repo)
{
    if (strncmp(repo, repo_prefix, sizeof repo_prefix - 1) != 0) return NULL;
    char *name = we_strdup(repo + sizeof repo_prefix - 1), *dashes = name ? strstr(name, "--") : NULL;
    if (!dashes) return name;
    *dashes = '/';
    memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    return name;
}

typedef struct cache_search {
    const char *cache, *wanted; /* ORG/NAME or NAME */
    char *found;
} cache_search;

static bool match_repo(void *user, const char *entry)
{
    cache_search *s = user;
    char *name = repo_name(entry);
    const char *slash = name ? strchr(name, '/') : NULL;
    if (name && (strcmp(name, s->wanted) == 0 || (slash && strcmp(slash + 1, s->wanted) == 0)))
        s->found = snapshot_dir(s->cache, entry);
    we_free(name);
    return !s->found;
}

static char *find_in_cache(const char *name)
{
    char *cache = hub_cache_dir();
    cache_search search = { cache, name, NULL };
    if (cache && we_path_is_dir(cache)) we_dir_each(cache, match_repo, &search, NULL);
    we_free(cache);
    return search.found;
}

/* ---- Names ---- */

static const char *const other_schemes[] = { "lmstudio://",     "ollama://", "llamacpp://",
                                             "transformers://", "http://",   "https://" };

static we_status not_found(const char *shown, we_error *err)
{
    return we_fail(
        err, WE_E_NOT_FOUND,
        "Model path does not exist: %s\n`whisperengine list` shows the models on this machine. Put the model's MLX folder there "
        "(config.json, model.safetensors, tokenizer.json, tokenizer_config.json), or give another path with --model.",
        shown);
}

static we_status found(char *path, char **out, we_error *err)
{
    if (!path) return no_memory(err);
    *out = path;
    return WE_OK;
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
    if (strcmp(name, "default") == 0) return found(builtin_dir(), path, err);
    if (we_path_exists(name)) {
        if (we_path_is_dir(name) || we_is_gguf(name)) return found(we_strdup(name), path, err);
        return we_fail(err, WE_E_UNSUPPORTED,
                       "%s is a file; a model is a folder with config.json, weights and tokenizer.json, or a GGUF file",
                       name);
    }
    if (name[0] == '/' || name[0] == '.') return not_found(name, err);

    char *models = models_dir(), *local = models ? join3(models, "mlx", name) : NULL;
    we_free(models);
    if (!local) return no_memory(err);
    if (we_path_is_dir(local)) return found(local, path, err);
    *path = find_in_cache(name);
    if (!*path) *path = we_foreign_find(name);
    const we_status st = *path ? WE_OK : not_found(local, err);
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
    char *models = models_dir(), *mlx = models ? join3(models, "mlx", name) : NULL;
    we_free(models);
    return found(mlx, path, err);
}

/* ---- Listing ---- */

typedef struct listing {
    const char *dir, *source;
    bool is_cache;
    we_hub_fn fn;
    void *user;
    bool stopped;
} listing;

static bool list_one(void *user, const char *entry)
{
    listing *l = user;
    char *name = l->is_cache ? repo_name(entry) : we_strdup(entry);
    char *path = l->is_cache ? snapshot_dir(l->dir, entry) : we_path_join(l->dir, entry);
    if (name && path && has_config(path)) l->stopped = !l->fn(l->user, &(we_hub_entry){ name, path, l->source });
    we_free(name);
    we_free(path);
    return !l->stopped;
}

we_status we_hub_each(we_hub_fn fn, void *user, we_error *err)
{
    char *builtin = builtin_dir(), *models = models_dir(), *mlx = models ? we_path_join(models, "mlx") : NULL,
         *cache = hub_cache_dir();
    we_free(models);
    const bool failed = !builtin || !mlx;
    bool go_on = !failed && (!has_config(builtin) || fn(user, &(we_hub_entry){ "default", builtin, "built-in" }));
    const listing places[] = { { mlx, "models", false, fn, user, false },
                               { cache, "hugging face cache", true, fn, user, false } };
    for (size_t i = 0; i < WE_COUNT(places) && go_on; i++) {
        listing l = places[i];
        we_error why;
        if (!l.dir || !we_path_is_dir(l.dir)) continue;
        if (we_dir_each(l.dir, list_one, &l, &why)) we_log(hub, WARN, "%s", why.message);
        go_on = !l.stopped;
    }
    if (go_on) we_foreign_each(fn, user);
    we_free(builtin);
    we_free(mlx);
    we_free(cache);
    return failed ? no_memory(err) : WE_OK;
}
