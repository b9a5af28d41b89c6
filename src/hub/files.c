/* SPDX-License-Identifier: Apache-2.0
 * files.c - a repository's list of files: as the hub's API gives it (/api/models/REPO/tree/COMMIT), as huggingface_hub keeps
 * it (trees/COMMIT.json), and which of the files a model needs.
 *
 * Every name is checked before anything is made of it, also of files that are not needed: a list with a hostile name in it
 * is no list to trust. */
#include "hub/hub_int.h"
#include <fnmatch.h>
#include <stdlib.h>

#define MOST_FILES ((size_t)100000)
#define MOST_BYTES (INT64_C(1) << 50)

/* ---- The list ---- */

static we_hub_file *add(we_hub_files *files)
{
    if (files->n == files->capacity) {
        const size_t capacity = files->capacity ? files->capacity * 2 : 32;
        we_hub_file *items = we_realloc_array(files->items, capacity, sizeof *items);
        if (!items) return NULL;
        files->items = items;
        files->capacity = capacity;
    }
    files->items[files->n] = (we_hub_file){ 0 };
    return &files->items[files->n++];
}

void we_hub_files_deinit(we_hub_files *files)
{
    we_arena_deinit(&files->arena);
    we_free(files->items);
    *files = (we_hub_files){ 0 };
}

static const char *keep(we_hub_files *files, we_str s) { return we_arena_strndup(&files->arena, s.ptr, s.len); }

/* What both forms of the list say of a file, checked. */
typedef struct entry {
    we_str path;
    const we_json *size, *oid, *lfs_oid, *lfs_size, *xet;
} entry;

static we_status broken(we_str path, const char *key, const we_json *found, const char *expected, we_error *err)
{
    return we_fail(err, WE_E_FORMAT, "the list of files: \"%.*s\": %s is %s, expected %s", (int)WE_MIN(path.len, 200),
                   path.ptr, key, we_json_type_name(found), expected);
}

static bool size_of(const we_json *v, uint64_t *out)
{
    int64_t n;
    if (!we_json_i64(v, &n) || n < 0 || n > MOST_BYTES) return false;
    *out = (uint64_t)n;
    return true;
}

static we_status add_entry(we_hub_files *files, const entry *e, we_error *err)
{
    we_str oid, sha256 = { 0 }, xet = { 0 };
    if (!we_hub_path_is_safe(e->path)) {
        char shown[300];
        we_str_clean(shown, sizeof shown, (we_str){ e->path.ptr, WE_MIN(e->path.len, 200) });
        return we_fail(
            err, WE_E_FORMAT,
            "the list of files names \"%s\", which is no name for a file below a folder; nothing was written", shown);
    }
    if (files->n == MOST_FILES) return we_fail(err, WE_E_FORMAT, "the list of files is longer than %zu", MOST_FILES);
    if (!we_json_str(e->oid, &oid) || !we_hub_is_hex(oid, 40))
        return broken(e->path, "oid", e->oid, "40 hexadecimal digits", err);
    if (e->lfs_oid && (!we_json_str(e->lfs_oid, &sha256) || !we_hub_is_hex(sha256, 64)))
        return broken(e->path, "lfs.oid", e->lfs_oid, "64 hexadecimal digits", err);
    if (e->xet && e->xet->type != WE_JSON_NULL && (!we_json_str(e->xet, &xet) || !we_hub_is_hex(xet, 64)))
        return broken(e->path, "xetHash", e->xet, "64 hexadecimal digits", err);
    we_hub_file *f = add(files);
    if (!f) return we_fail(err, WE_E_NOMEM, "no memory for the list of files");
    if (!size_of(e->size, &f->oid_size)) return broken(e->path, "size", e->size, "a number of bytes", err);
    f->size = f->oid_size;
    if (e->lfs_oid && !size_of(e->lfs_size, &f->size))
        return broken(e->path, "lfs.size", e->lfs_size, "a number of bytes", err);
    f->path = keep(files, e->path);
    f->oid = keep(files, oid);
    f->sha256 = sha256.ptr ? keep(files, sha256) : NULL;
    f->xet = xet.ptr ? keep(files, xet) : NULL;
    if (!f->path || !f->oid || (sha256.ptr && !f->sha256) || (xet.ptr && !f->xet))
        return we_fail(err, WE_E_NOMEM, "no memory for the list of files");
    return WE_OK;
}

we_status we_hub_files_parse(we_hub_files *files, we_str json, we_error *err)
{
    const we_json *root;
    we_arena arena = { 0 };
    we_status st = we_json_parse(&arena, json, &root, err);
    if (st)
        we_fail_in(err, st, "the list of files: ");
    else if (root->type != WE_JSON_ARRAY)
        st = we_fail(err, WE_E_FORMAT, "the list of files is %s, expected an array", we_json_type_name(root));
    for (const we_json *v = st ? NULL : root->first; v && !st; v = v->next) {
        we_str type, path;
        const we_json *lfs = we_json_get(v, "lfs");
        if (!we_json_str(we_json_get(v, "type"), &type) || !we_json_str(we_json_get(v, "path"), &path)) {
            st = we_fail(err, WE_E_FORMAT, "the list of files holds an entry without a type or a path");
            break;
        }
        if (we_json_is(lfs, WE_JSON_NULL)) lfs = NULL;
        if (lfs && !we_json_get(lfs, "oid")) {
            st = broken(path, "lfs", lfs, "an object with an oid", err);
            break;
        }
        const entry e = { path,
                          we_json_get(v, "size"),
                          we_json_get(v, "oid"),
                          we_json_get(lfs, "oid"),
                          we_json_get(lfs, "size"),
                          we_json_get(v, "xetHash") };
        if (we_str_is(type, "file")) st = add_entry(files, &e, err);
    }
    we_arena_deinit(&arena);
    return st;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const we_hub_file *)a)->path, ((const we_hub_file *)b)->path);
}

we_status we_hub_files_sort(we_hub_files *files, we_error *err)
{
    if (files->n) qsort(files->items, files->n, sizeof *files->items, by_path);
    for (size_t i = 1; i < files->n; i++)
        if (strcmp(files->items[i - 1].path, files->items[i].path) == 0)
            return we_fail(err, WE_E_FORMAT, "the list of files names \"%s\" twice", files->items[i].path);
    return WE_OK;
}

/* ---- trees/COMMIT.json ---- */

#define TREE_VERSION 1 /* of huggingface_hub's file */

static we_status read_tree(we_hub_files *files, const we_json *root, const char *path, we_error *err)
{
    int64_t version;
    const we_json *list = we_json_get(root, "files");
    if (!we_json_i64(we_json_get(root, "format_version"), &version) || version != TREE_VERSION ||
        !we_json_is(list, WE_JSON_OBJECT))
        return we_fail(err, WE_E_FORMAT, "%s: not a list of files of version %d", path, TREE_VERSION);
    we_status st = WE_OK;
    for (const we_json *v = list->first; v && !st; v = v->next) {
        const entry e = { v->key,
                          we_json_get(v, "size"),
                          we_json_get(v, "blob_id"),
                          we_json_get(v, "lfs_sha256"),
                          we_json_get(v, "lfs_size"),
                          we_json_get(v, "xet_hash") };
        st = add_entry(files, &e, err);
    }
    return st ? st : we_hub_files_sort(files, err);
}

we_status we_hub_files_read(we_hub_files *files, const char *path, we_error *err)
{
    char *text = NULL;
    size_t len = 0;
    const we_json *root;
    we_arena arena = { 0 };
    we_status st = we_file_read(path, (size_t)64 << 20, &text, &len, err);
    if (!st) st = we_json_parse(&arena, (we_str){ text, len }, &root, err);
    if (!st) st = read_tree(files, root, path, err);
    we_arena_deinit(&arena);
    we_free(text);
    return st;
}

static void text_member(we_json_writer *w, const char *key, const char *value)
{
    if (!value) return;
    we_json_key(w, key);
    we_json_write_str(w, we_str_from(value));
}

static void number_member(we_json_writer *w, const char *key, uint64_t value)
{
    we_json_key(w, key);
    we_json_write_i64(w, (int64_t)value);
}

we_status we_hub_files_write(const we_hub_files *files, const char *path, we_error *err)
{
    we_buf text = { 0 };
    we_json_writer w = { .buf = &text, .indent = 1 };
    we_json_begin_object(&w);
    number_member(&w, "format_version", TREE_VERSION);
    we_json_key(&w, "files");
    we_json_begin_object(&w);
    for (size_t i = 0; i < files->n; i++) {
        const we_hub_file *f = &files->items[i];
        we_json_key(&w, f->path);
        we_json_begin_object(&w);
        number_member(&w, "size", f->oid_size);
        text_member(&w, "blob_id", f->oid);
        text_member(&w, "lfs_sha256", f->sha256);
        if (f->sha256) number_member(&w, "lfs_size", f->size);
        text_member(&w, "xet_hash", f->xet);
        we_json_end_object(&w);
    }
    we_json_end_object(&w);
    we_json_end_object(&w);
    const size_t dir_len = (size_t)(we_path_base(path) - path);
    char *dir = we_strndup(path, dir_len);
    we_status st = we_buf_status(&text, err, "the list of files");
    if (!st && !dir) st = we_fail(err, WE_E_NOMEM, "no memory for the list of files");
    if (!st) st = we_dir_make(dir, 0777, err);
    if (!st) st = we_file_write(path, text.ptr, text.len, 0666, err);
    we_free(dir);
    we_buf_deinit(&text);
    return st;
}

/* ---- What a model needs ---- */

/* The files beside the weights, as huggingface_hub's allow_patterns would name them, in the main folder. Python code is not
 * among them: nothing here runs it. */
static const char *const beside[] = { "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja" };

/* Weights, the first kind that is there: what the loader reads, then what only convert reads. Where a repository holds its
 * weights twice (consolidated.safetensors beside model-00001-of-00004.safetensors), the second copy is left out. */
static const char *const weights[] = {
    "model*.safetensors", "weights*.safetensors", "weights.npz", "*.safetensors", "*.npz", "pytorch_model*.bin", "*.bin"
};

static bool matches(const char *pattern, const char *path)
{
    return fnmatch(pattern, path, FNM_PATHNAME | FNM_PERIOD) == 0;
}

static size_t choose(we_hub_files *files, const char *pattern)
{
    size_t n = 0;
    for (size_t i = 0; i < files->n; i++)
        if (matches(pattern, files->items[i].path)) files->items[i].needed = true, n++;
    return n;
}

static bool is_there(const we_hub_files *files, const char *pattern)
{
    for (size_t i = 0; i < files->n; i++)
        if (matches(pattern, files->items[i].path)) return true;
    return false;
}

we_status we_hub_files_choose(we_hub_files *files, const char *repo, we_error *err)
{
    size_t n_weights = 0;
    for (size_t i = 0; i < WE_COUNT(weights) && !n_weights; i++) n_weights = choose(files, weights[i]);
    if (!n_weights && is_there(files, "*.gguf"))
        return we_fail(
            err, WE_E_NOT_FOUND,
            "%s holds GGUF files only, which are not MLX; look for the model's MLX form (mlx-community/...), or "
            "download one of the files and import it with `convert --gguf`",
            repo);
    if (!n_weights)
        return we_fail(err, WE_E_NOT_FOUND,
                       "%s holds no weights (no .safetensors, .npz or .bin file in its main folder)", repo);
    if (!is_there(files, "config.json"))
        return we_fail(err, WE_E_NOT_FOUND, "%s holds no config.json: it is not a language model's folder", repo);
    for (size_t i = 0; i < WE_COUNT(beside); i++) choose(files, beside[i]);
    choose(files, "additional_chat_templates/*.jinja");
    return WE_OK;
}
