/* SPDX-License-Identifier: Apache-2.0
 * foreign.c - models that LM Studio and Ollama have downloaded. Their files are read where they lie and never changed.
 *
 *     LM Studio   ~/.lmstudio/models, before that ~/.cache/lm-studio/models
 *                   PUBLISHER/REPOSITORY/FILE.gguf   "PUBLISHER/REPOSITORY/FILE.gguf"
 *                   PUBLISHER/REPOSITORY/            "PUBLISHER/REPOSITORY", an MLX folder
 *     Ollama      $OLLAMA_MODELS, ~/.ollama/models, /usr/share/ollama/.ollama/models (its service on Linux)
 *                   manifests/registry.ollama.ai/library/NAME/TAG   "NAME:TAG"; other hosts and users stand in front
 *                   blobs/sha256-...                                the GGUF file that the manifest names
 *
 * Parts of split files but the first, and projectors of pictures (mmproj...), are no models of their own. */
#include "hub/foreign.h"
#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_MANIFEST ((size_t)1 << 20)
#define MODEL_LAYER "application/vnd.ollama.image.model"

typedef struct visit {
    we_hub_fn fn;
    void *user;
    const char *source;
    const char *blobs; /* Ollama's */
    char *dir, *name;  /* of the level: its path, and what names begin with */
    int depth;         /* levels below which the models lie */
    bool stopped;
} visit;

static bool give(visit *v, const char *name, const char *path)
{
    v->stopped = !v->fn(v->user, &(we_hub_entry){ name, path, v->source });
    return !v->stopped;
}

/* Call `each` for what is in v->dir/entry, with "NAME/" or "NAME" in front of what it finds. */
static bool descend(visit *v, const char *entry, const char *front, we_dir_fn each)
{
    visit below = *v;
    we_error why;
    we_buf name = { 0 };
    we_buf_printf(&name, "%s%s", v->name, front);
    below.dir = we_path_join(v->dir, entry);
    below.name = we_buf_take(&name, NULL);
    below.depth--;
    if (below.dir && below.name && we_path_is_dir(below.dir) && we_dir_each(below.dir, each, &below, &why))
        we_log(hub, WARN, "%s", why.message);
    we_buf_deinit(&name);
    we_free(below.dir);
    we_free(below.name);
    v->stopped = below.stopped;
    return !v->stopped;
}

/* ---- LM Studio ---- */

/* "-00002-of-00003.gguf" at the name's end; NULL: it is whole. */
static const char *part_of(we_str file)
{
    static const char shape[] = "-#####-of-#####.gguf";
    const size_t n = sizeof shape - 1;
    if (file.len < n) return NULL;
    const char *tail = file.ptr + file.len - n;
    for (size_t i = 0; i < n; i++)
        if (shape[i] == '#' ? tail[i] < '0' || tail[i] > '9' : tail[i] != shape[i]) return NULL;
    return tail;
}

bool we_hub_is_gguf_part(we_str file) { return part_of(file) != NULL; }

bool we_hub_is_gguf_name(we_str file)
{
    const char *part = part_of(file);
    return we_str_ends_with(file, WE_STR(".gguf")) && !we_str_starts_with(file, WE_STR("mmproj")) &&
           (!part || memcmp(part, "-00001", 6) == 0);
}

static bool lmstudio_file(void *user, const char *entry)
{
    visit *v = user;
    const we_str file = we_str_from(entry);
    const bool is_gguf = we_hub_is_gguf_name(file);
    const bool is_config = we_str_is(file, "config.json");
    if (!is_gguf && !is_config) return true;
    we_buf name = { 0 };
    we_buf_append_str(&name, we_str_from(v->name));
    if (is_config && name.len)
        name.ptr[--name.len] = 0; /* the folder itself: without the slash */
    else
        we_buf_append_str(&name, file);
    char *path = is_config ? we_strdup(v->dir) : we_path_join(v->dir, entry);
    const bool go_on = !path || name.failed || give(v, we_buf_str(&name).ptr, path);
    we_free(path);
    we_buf_deinit(&name);
    return go_on;
}

static bool lmstudio_level(void *user, const char *entry)
{
    visit *v = user;
    char front[300];
    if (entry[0] == '.' || strlen(entry) + 2 > sizeof front) return true;
    snprintf(front, sizeof front, "%s/", entry);
    return descend(v, entry, front, v->depth == 1 ? lmstudio_file : lmstudio_level);
}

/* ---- Ollama ---- */

/* "sha256:<64 hexadecimal digits>" -> the blob's path; NULL: not such a digest. we_free. */
static char *blob_path(const char *blobs, we_str digest)
{
    static const char digits[] = "0123456789abcdef";
    char file[7 + 64 + 1] = "sha256-";
    if (digest.len != 7 + 64 || !we_str_starts_with(digest, WE_STR("sha256:"))) return NULL;
    for (size_t i = 7; i < digest.len; i++) {
        if (!digest.ptr[i] || !strchr(digits, digest.ptr[i])) return NULL; /* it becomes part of a path */
        file[i] = digest.ptr[i];
    }
    return we_path_join(blobs, file);
}

/* The blob of the layer that holds the weights; we_free. */
static char *find_blob(const char *blobs, const char *manifest)
{
    char *text = NULL, *found = NULL;
    size_t len;
    we_arena arena = { 0 };
    const we_json *root = NULL;
    we_error why;
    we_status st = we_file_read(manifest, MAX_MANIFEST, &text, &len, &why);
    if (!st) st = we_json_parse(&arena, (we_str){ text, len }, &root, &why);
    if (st) we_log(hub, WARN, "%s is passed over: %s", manifest, why.message);
    const we_json *layers = st ? NULL : we_json_get(root, "layers");
    for (const we_json *l = we_json_is(layers, WE_JSON_ARRAY) ? layers->first : NULL; l && !found; l = l->next) {
        we_str type, digest;
        if (we_json_str(we_json_get(l, "mediaType"), &type) && we_str_is(type, MODEL_LAYER) &&
            we_json_str(we_json_get(l, "digest"), &digest))
            found = blob_path(blobs, digest);
    }
    we_arena_deinit(&arena);
    we_free(text);
    if (found && we_is_gguf(found)) return found;
    we_free(found);
    return NULL;
}

static bool ollama_tag(void *user, const char *entry)
{
    visit *v = user;
    if (entry[0] == '.') return true;
    we_buf name = { 0 };
    we_buf_printf(&name, "%s:%s", v->name, entry);
    char *manifest = we_path_join(v->dir, entry);
    char *blob = manifest && !we_path_is_dir(manifest) ? find_blob(v->blobs, manifest) : NULL;
    const bool go_on = !blob || name.failed || give(v, name.ptr, blob);
    we_free(blob);
    we_free(manifest);
    we_buf_deinit(&name);
    return go_on;
}

/* manifests/HOST/USER/NAME/TAG: Ollama's own host and library are not part of a name. */
static bool ollama_level(void *user, const char *entry)
{
    visit *v = user;
    char front[300];
    if (entry[0] == '.' || strlen(entry) + 2 > sizeof front) return true;
    const bool unsaid = (v->depth == 3 && strcmp(entry, "registry.ollama.ai") == 0) ||
                        (v->depth == 2 && !v->name[0] && strcmp(entry, "library") == 0);
    snprintf(front, sizeof front, "%s%s", unsaid ? "" : entry, unsaid || v->depth == 1 ? "" : "/");
    return descend(v, entry, front, v->depth == 1 ? ollama_tag : ollama_level);
}

/* ---- All ---- */

static bool visit_lmstudio(const char *home, const char *models, we_hub_fn fn, void *user)
{
    visit v = { .fn = fn, .user = user, .source = "lm studio", .dir = (char *)home, .name = "", .depth = 3 };
    return descend(&v, models, "", lmstudio_level);
}

static bool visit_ollama(const char *models, we_hub_fn fn, void *user)
{
    char *blobs = we_path_join(models, "blobs");
    visit v = {
        .fn = fn, .user = user, .source = "ollama", .blobs = blobs, .dir = (char *)models, .name = "", .depth = 4
    };
    const bool go_on = !blobs || descend(&v, "manifests", "", ollama_level);
    we_free(blobs);
    return go_on;
}

bool we_foreign_each(we_hub_fn fn, void *user)
{
    const char *home = we_env("HOME"), *set = we_env("OLLAMA_MODELS");
    if (home && (!visit_lmstudio(home, ".lmstudio/models", fn, user) ||
                 !visit_lmstudio(home, ".cache/lm-studio/models", fn, user)))
        return false;
    if (set) return visit_ollama(set, fn, user);
    char *own = home ? we_path_join(home, ".ollama/models") : NULL;
    const bool go_on = !own || visit_ollama(own, fn, user);
    we_free(own);
    return go_on && visit_ollama("/usr/share/ollama/.ollama/models", fn, user);
}

/* ---- By name ---- */

typedef struct search {
    const char *wanted;
    char *found;
} search;

/* `name` itself, or what stands behind one of its slashes; with or without `tail`. */
static bool is_called(const char *name, const char *wanted, const char *tail)
{
    for (const char *at = name; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL) {
        const size_t n = strlen(wanted);
        if (strncmp(at, wanted, n) == 0 && (!at[n] || strcmp(at + n, tail) == 0)) return true;
    }
    return false;
}

/* "PUBLISHER/REPOSITORY" of "PUBLISHER/REPOSITORY/FILE.gguf": the first file stands for it. */
static bool is_in(const char *name, const char *wanted)
{
    const char *slash = strrchr(name, '/');
    const size_t n = strlen(wanted);
    if (!slash || (size_t)(slash - name) < n) return false;
    const char *at = slash - n;
    return strncmp(at, wanted, n) == 0 && (at == name || at[-1] == '/');
}

static bool match(void *user, const we_hub_entry *e)
{
    search *s = user;
    const bool is_ollama = strcmp(e->source, "ollama") == 0;
    const bool is_it = is_ollama
                           ? strcmp(e->name, s->wanted) == 0 || (strncmp(e->name, s->wanted, strlen(s->wanted)) == 0 &&
                                                                 strcmp(e->name + strlen(s->wanted), ":latest") == 0)
                           : is_called(e->name, s->wanted, ".gguf") ||
                                 (we_str_ends_with(we_str_from(e->name), WE_STR(".gguf")) && is_in(e->name, s->wanted));
    if (is_it) s->found = we_strdup(e->path);
    return !s->found;
}

char *we_foreign_find(const char *name)
{
    search s = { name, NULL };
    we_foreign_each(match, &s);
    return s.found;
}
