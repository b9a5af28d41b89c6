/* SPDX-License-Identifier: Apache-2.0
 * weights.c - the weights of a folder or a GGUF file: which files they lie in, those files mapped and parsed, every
 * tensor by its name. The containers themselves: safetensors.c, npz.c, pytorch.c, gguf.c.
 *
 * mlx-lm reads every model*.safetensors and never looks at the index. We read the index first, since only it can tell
 * that a shard is missing; an index none of whose shards is there is stale (left over from the model that was
 * converted), and then the files that are there count, as for mlx-lm. Which tensor the index says lies in which shard
 * is not checked: the shards themselves say what they hold, and model/ names what it misses.
 *
 * Symbolic links are followed (Hugging Face's cache consists of them), but a name in the index stays in the folder. */
#include "format/format_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_INDEX_BYTES ((size_t)256 << 20)
#define LOAD_STEP ((size_t)16 << 20)         /* bytes between two calls of progress */
#define PYTORCH_UNPACKED ((size_t)256 << 20) /* most bytes of tensors that do not lie in order */
#define PAGE 4096                            /* or less than the machine's: only touched more often */

/* Which files make up a model, newest habit first. */
typedef struct layout {
    const char *index;  /* says which shards there are */
    const char *single; /* whose presence makes an index without files a stale one */
    struct {
        const char *prefix, *suffix;
    } patterns[3];        /* where there is no index: what mlx-lm has looked for over time */
    const char *expected; /* for the message that there is none of them */
} layout;

static const layout mlx_layout = {
    "model.safetensors.index.json",
    "model.safetensors",
    { { "model", ".safetensors" }, { "weight", ".safetensors" }, { "weights", ".npz" } },
    "expected model.safetensors, shards with model.safetensors.index.json, or weights.npz. Weights of other kinds (.gguf, "
    ".bin) are converted with `whisperengine convert`",
};

static const layout pytorch_layout = {
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    { { "pytorch_model", ".bin" } },
    "expected model.safetensors or pytorch_model.bin, or shards of either with their index",
};

typedef struct source {
    const char *name;
    we_map *map;
    we_weight *weights;
    size_t n;
} source;

struct we_weights {
    we_arena arena;
    source *sources;
    size_t n_sources;
    we_weight *all; /* in order of source, then of offset */
    size_t n;
    const we_weight **by_name; /* sorted: a hostile file could make hashes collide */
    uint64_t mapped_bytes;
    size_t unpacked_bytes;
    const we_gguf *gguf; /* NULL for a folder */
};

/* ---- Names of files ---- */

typedef struct name_list {
    we_arena *arena;
    const layout *layout;
    const char **names;
    size_t n, capacity;
    bool failed;                 /* out of memory */
    const char *prefix, *suffix; /* add_matching takes names between them */
} name_list;

static bool add_name(name_list *list, we_str name)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 16;
        const char **names = we_realloc_array(list->names, capacity, sizeof(*names));
        if (!names) return !(list->failed = true);
        list->names = names;
        list->capacity = capacity;
    }
    const char *copy = we_arena_strndup(list->arena, name.ptr, name.len);
    if (!copy) return !(list->failed = true);
    list->names[list->n++] = copy;
    return true;
}

static bool add_matching(void *user, const char *name)
{
    name_list *list = user;
    const we_str s = we_str_from(name), prefix = we_str_from(list->prefix), suffix = we_str_from(list->suffix);
    if (s.len < prefix.len + suffix.len || !we_str_starts_with(s, prefix) || !we_str_ends_with(s, suffix)) return true;
    return add_name(list, s);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static void sort_unique(name_list *list)
{
    if (list->n == 0) return;
    qsort(list->names, list->n, sizeof(*list->names), by_text);
    size_t kept = 1;
    for (size_t i = 1; i < list->n; i++)
        if (strcmp(list->names[i], list->names[kept - 1]) != 0) list->names[kept++] = list->names[i];
    list->n = kept;
}

static bool exists_in(name_list *list, const char *dir, const char *name)
{
    char *path = we_path_join(dir, name);
    if (!path) list->failed = true;
    const bool exists = path && we_path_exists(path);
    we_free(path);
    return exists;
}

/* ---- The index ---- */

/* Shards lie beside their index. */
static bool is_plain_name(we_str name)
{
    return name.len && !memchr(name.ptr, '/', name.len) && !memchr(name.ptr, '\\', name.len) &&
           !memchr(name.ptr, '\0', name.len) && !we_str_is(name, ".") && !we_str_is(name, "..");
}

/* {"metadata": ..., "weight_map": {"TENSOR": "FILE", ...}}: the files. */
static we_status parse_index(we_json_reader *json, name_list *list, we_error *err)
{
    if (we_json_next(json) != WE_JSON_EV_BEGIN_OBJECT) goto broken;
    bool has_map = false;
    we_json_event event;
    while ((event = we_json_next(json)) == WE_JSON_EV_KEY) {
        if (!we_str_is(json->text, "weight_map")) {
            if (!we_json_skip(json)) goto broken;
            continue;
        }
        has_map = true;
        if (we_json_next(json) != WE_JSON_EV_BEGIN_OBJECT) goto broken;
        while ((event = we_json_next(json)) == WE_JSON_EV_KEY) {
            if (we_json_next(json) != WE_JSON_EV_VALUE || json->type != WE_JSON_STRING) goto broken;
            const we_str name = json->text;
            if (!is_plain_name(name))
                return we_fail(err, WE_E_FORMAT,
                               "%s: names the file \"%.*s\"; shards must lie beside it: download it again",
                               list->layout->index, (int)WE_MIN(name.len, 200U), name.ptr);
            const bool repeated = list->n && we_str_is(name, list->names[list->n - 1]); /* nearly always */
            if (!repeated && !add_name(list, name))
                return we_fail(err, WE_E_NOMEM, "%s: no memory for its shards", list->layout->index);
        }
        if (event != WE_JSON_EV_END_OBJECT) goto broken;
    }
    if (event == WE_JSON_EV_END_OBJECT && we_json_next(json) == WE_JSON_EV_END && has_map && list->n) return WE_OK;
broken:
    if (json->error.status == WE_E_NOMEM)
        return we_fail(err, WE_E_NOMEM, "%s: no memory to read it", list->layout->index);
    return we_fail(err, WE_E_FORMAT, "%s: expected a \"weight_map\" from tensors to file names%s%s: download it again",
                   list->layout->index, json->error.status ? "; " : "", json->error.status ? json->error.message : "");
}

static we_status report_missing(name_list *list, const char *dir, size_t n_missing, we_error *err)
{
    enum { NAMED = 4 };
    we_buf names = { 0 };
    size_t n_named = 0;
    for (size_t i = 0; i < list->n && n_named < NAMED; i++)
        if (!exists_in(list, dir, list->names[i]))
            we_buf_printf(&names, "%s%.100s", n_named++ ? ", " : "", list->names[i]);
    if (n_missing > n_named) we_buf_printf(&names, " and %zu more", n_missing - n_named);
    const we_status st = we_fail(err, WE_E_NOT_FOUND,
                                 "%s: %zu of the %zu files that %s names are missing: %s. The download is "
                                 "incomplete: download the model again",
                                 dir, n_missing, list->n, list->layout->index, names.ptr ? names.ptr : "");
    we_buf_deinit(&names);
    return st;
}

/* Leaves the list empty where there is no index, or a stale one. */
static we_status list_by_index(name_list *list, const char *dir, we_error *err)
{
    if (!exists_in(list, dir, list->layout->index)) return WE_OK;
    char *path = we_path_join(dir, list->layout->index);
    if (!path) return we_fail(err, WE_E_NOMEM, "%s: no memory to read its index", dir);
    char *text = NULL;
    size_t len = 0;
    we_status st = we_file_read(path, MAX_INDEX_BYTES, &text, &len, err);
    we_free(path);
    if (st) return st;
    if (we_is_lfs_pointer((we_str){ text, len })) {
        st = we_fail(err, WE_E_FORMAT, "%s is a Git LFS pointer, not the index itself: run `git lfs pull` in %s",
                     list->layout->index, dir);
    } else {
        we_json_reader json;
        we_json_reader_init(&json, (we_str){ text, len });
        st = parse_index(&json, list, err);
        we_json_reader_deinit(&json);
    }
    we_free(text);
    if (st) return st;

    sort_unique(list);
    size_t n_missing = 0;
    for (size_t i = 0; i < list->n; i++) n_missing += !exists_in(list, dir, list->names[i]);
    if (list->failed) return WE_OK; /* list_files tells it */
    if (n_missing == list->n && exists_in(list, dir, list->layout->single)) {
        we_log(format, WARN, "%s: none of the files that %s names is there: reading what is there", dir,
               list->layout->index);
        list->n = 0;
        return WE_OK;
    }
    return n_missing ? report_missing(list, dir, n_missing, err) : WE_OK;
}

static we_status list_by_layout(name_list *list, const char *dir, we_error *err)
{
    we_status st = list_by_index(list, dir, err);
    for (size_t i = 0; !st && list->n == 0 && !list->failed && i < WE_COUNT(list->layout->patterns); i++) {
        list->prefix = list->layout->patterns[i].prefix;
        list->suffix = list->layout->patterns[i].suffix;
        if (list->prefix) st = we_dir_each(dir, add_matching, list, err);
    }
    return st;
}

/* The files of the first of the layouts that has any. */
static we_status list_files(name_list *list, const char *dir, const layout *const *layouts, size_t n_layouts,
                            we_error *err)
{
    if (!we_path_is_dir(dir))
        return we_fail(err, WE_E_NOT_FOUND, "%s is %s: expected a model's folder", dir,
                       we_path_exists(dir) ? "not a folder" : "not there");
    we_status st = WE_OK;
    for (size_t i = 0; i < n_layouts && !st && list->n == 0; i++) {
        list->layout = layouts[i];
        st = list_by_layout(list, dir, err);
    }
    if (st) return st;
    if (list->failed) return we_fail(err, WE_E_NOMEM, "%s: no memory for the names of its files", dir);
    if (list->n == 0) return we_fail(err, WE_E_NOT_FOUND, "%s has no weights: %s", dir, list->layout->expected);
    return WE_OK;
}

/* ---- Files ---- */

bool we_is_lfs_pointer(we_str head)
{
    return we_str_starts_with(head, WE_STR("version https://git-lfs.github.com/spec/"));
}

/* Weights hardly shrink when deflated; zeros do, hence the second term for small files. */
static size_t most_unpacked(size_t file_len)
{
    const size_t floor = (size_t)64 << 20;
    return file_len > (SIZE_MAX - floor) / 16 ? SIZE_MAX : file_len * 16 + floor;
}

/* Map it; refuse what is no file of weights at all. */
static we_status map_source(we_weights *w, source *s, const char *dir, we_str *out, we_error *err)
{
    char *path = we_path_join(dir, s->name);
    if (!path) return we_fail(err, WE_E_NOMEM, "%s: no memory to open it", s->name);
    we_status st = we_map_open(&s->map, path, err);
    we_free(path);
    if (st) return st;
    const we_str bytes = { (const char *)we_map_data(s->map), we_map_len(s->map) };
    w->mapped_bytes += bytes.len;
    if (bytes.len == 0) return we_fail(err, WE_E_FORMAT, "%s in %s is empty: download it again", s->name, dir);
    if (we_is_lfs_pointer(bytes))
        return we_fail(err, WE_E_FORMAT, "%s is a Git LFS pointer, not the weights: run `git lfs pull` in %s", s->name,
                       dir);
    *out = bytes;
    return WE_OK;
}

static we_status open_source(we_weights *w, source *s, const char *dir, we_error *err)
{
    we_str bytes;
    const we_status st = map_source(w, s, dir, &bytes, err);
    if (st) return st;
    if (we_str_ends_with(we_str_from(s->name), WE_STR(".npz")))
        return we_npz_parse(&w->arena, bytes, s->name, most_unpacked(bytes.len), &s->weights, &s->n, &w->unpacked_bytes,
                            err);
    if (we_str_ends_with(we_str_from(s->name), WE_STR(".bin")))
        return we_pytorch_parse(&w->arena, bytes, s->name, PYTORCH_UNPACKED, &s->weights, &s->n, &w->unpacked_bytes,
                                err);
    return we_safetensors_parse(&w->arena, bytes, s->name, &s->weights, &s->n, err);
}

static we_status open_sources(we_weights *w, const name_list *list, const char *dir, we_error *err)
{
    w->sources = we_arena_calloc(&w->arena, list->n, sizeof(*w->sources));
    if (!w->sources) return we_fail(err, WE_E_NOMEM, "%s: no memory for the list of its files", dir);
    w->n_sources = list->n;
    for (size_t i = 0; i < list->n; i++) {
        w->sources[i].name = list->names[i];
        const we_status st = open_source(w, &w->sources[i], dir, err);
        if (st) return st;
        w->n += w->sources[i].n;
    }
    if (w->n == 0) return we_fail(err, WE_E_FORMAT, "%s: %s holds no tensors: download it again", dir, list->names[0]);
    return WE_OK;
}

/* ---- GGUF ---- */

static we_status open_part(we_weights *w, source *s, const char *dir, we_gguf *gguf, we_error *err)
{
    we_str bytes;
    const we_status st = map_source(w, s, dir, &bytes, err);
    return st ? st : we_gguf_parse(&w->arena, bytes, s->name, gguf, &s->weights, &s->n, err);
}

#define SPLIT_TAIL "-%05lld-of-%05lld.gguf" /* llama.cpp's; numbers from 1 */

/* The stem of a part's name, without its tail; 0: the name is none of `count` parts. */
static size_t split_stem(const char *name, int64_t number, int64_t count)
{
    char tail[64];
    snprintf(tail, sizeof tail, SPLIT_TAIL, (long long)number, (long long)count);
    const we_str s = we_str_from(name), t = we_str_from(tail);
    return we_str_ends_with(s, t) ? s.len - t.len : 0;
}

/* Fill w->sources with the parts of the file `given`, which is one of them and is open in `first` already. */
static we_status open_parts(we_weights *w, source *first, const char *dir, int64_t count, we_gguf *gguf, we_error *err)
{
    int64_t number = 0;
    char shown[96];
    const char *given = first->name;
    if (!we_gguf_i64(we_gguf_get(gguf, "split.no"), 0, &number) || number < 0 || number >= count)
        return we_fail(err, WE_E_FORMAT, "%s: split.no is %s, expected 0 to %lld: " WE_DAMAGED, given,
                       we_gguf_shown(we_gguf_get(gguf, "split.no"), shown), (long long)count - 1);
    const size_t stem = split_stem(given, number + 1, count);
    if (!stem)
        return we_fail(err, WE_E_FORMAT,
                       "%s: is part %lld of %lld of a split file, but its name does not end in " SPLIT_TAIL
                       ": give the parts their names back",
                       given, (long long)number + 1, (long long)count, (long long)number + 1, (long long)count);
    w->sources = we_arena_calloc(&w->arena, (size_t)count, sizeof *w->sources);
    if (!w->sources) return we_fail(err, WE_E_NOMEM, "%s: no memory for its %lld parts", given, (long long)count);
    w->n_sources = (size_t)count;
    w->sources[number] = *first;
    *first = (source){ 0 };
    for (int64_t i = 0; i < count; i++) {
        source *s = &w->sources[i];
        if (i == number) continue;
        s->name = we_arena_printf(&w->arena, "%.*s" SPLIT_TAIL, (int)stem, given, (long long)i + 1, (long long)count);
        if (!s->name) return we_fail(err, WE_E_NOMEM, "%s: no memory for its parts", given);
        we_gguf own;
        we_status st = open_part(w, s, dir, &own, err);
        if (st == WE_E_NOT_FOUND)
            st = we_fail(err, WE_E_NOT_FOUND, "%s is one of %lld parts, and %s is missing in %s: download it as well",
                         given, (long long)count, s->name, dir);
        if (st) return st;
        if (i == 0) *gguf = own; /* the first has the metadata */
    }
    return WE_OK;
}

enum { MAX_PARTS = 9999 };

static we_status open_gguf(we_weights *w, const char *path, we_error *err)
{
    const char *name = we_path_base(path);
    char *dir = name == path ? we_strdup(".") : we_strndup(path, WE_MAX((size_t)(name - path) - 1, 1U));
    we_gguf *gguf = we_arena_calloc(&w->arena, 1, sizeof *gguf);
    source first = { .name = we_arena_strndup(&w->arena, name, strlen(name)) };
    we_status st = dir && gguf && first.name ? WE_OK : we_fail(err, WE_E_NOMEM, "%s: no memory to open it", path);
    if (!st) st = open_part(w, &first, dir, gguf, err);
    int64_t count = 1;
    char shown[96];
    const we_gguf_value *v = st ? NULL : we_gguf_get(gguf, "split.count");
    if (v && (!we_gguf_i64(v, 0, &count) || count < 0 || count > MAX_PARTS))
        st = we_fail(err, WE_E_FORMAT, "%s: split.count is %s, expected at most %d: " WE_DAMAGED, name,
                     we_gguf_shown(v, shown), MAX_PARTS);
    if (!st && count > 1) {
        st = open_parts(w, &first, dir, count, gguf, err);
    } else if (!st && !(w->sources = we_arena_calloc(&w->arena, 1, sizeof *w->sources))) {
        st = we_fail(err, WE_E_NOMEM, "%s: no memory to open it", path);
    } else if (!st) {
        w->sources[0] = first;
        w->n_sources = 1;
        first.map = NULL;
    }
    we_map_close(first.map);
    we_free(dir);
    w->gguf = gguf;
    for (size_t i = 0; i < w->n_sources; i++) w->n += w->sources[i].n;
    if (!st && w->n == 0) st = we_fail(err, WE_E_FORMAT, "%s: holds no tensors", path);
    return st;
}

const we_gguf *we_weights_gguf(const we_weights *weights) { return weights->gguf; }

/* ---- Tensors by name ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const we_weight *const *)a)->name, (*(const we_weight *const *)b)->name);
}

static we_status index_names(we_weights *w, const char *dir, we_error *err)
{
    w->all = we_arena_calloc(&w->arena, w->n, sizeof(*w->all));
    w->by_name = we_arena_calloc(&w->arena, w->n, sizeof(*w->by_name));
    if (!w->all || !w->by_name) return we_fail(err, WE_E_NOMEM, "%s: no memory for a table of %zu tensors", dir, w->n);
    size_t at = 0;
    for (size_t s = 0; s < w->n_sources; s++)
        for (size_t i = 0; i < w->sources[s].n; i++, at++) {
            w->all[at] = w->sources[s].weights[i];
            w->by_name[at] = &w->all[at];
        }
    qsort(w->by_name, w->n, sizeof(*w->by_name), by_name);
    for (size_t i = 1; i < w->n; i++) {
        const we_weight *a = w->by_name[i - 1], *b = w->by_name[i];
        if (strcmp(a->name, b->name) != 0) continue;
        if (a->file == b->file)
            return we_fail(err, WE_E_FORMAT, "%s: has tensor \"%s\" twice: " WE_DAMAGED, a->file, a->name);
        return we_fail(err, WE_E_FORMAT,
                       "%s: tensor \"%s\" is both in %s and in %s: remove the file that does not belong to this "
                       "model",
                       dir, a->name, a->file, b->file);
    }
    return WE_OK;
}

/* ---- The module's door ---- */

static we_status weights_open(we_weights **out, const char *dir, const layout *const *layouts, size_t n_layouts,
                              we_error *err)
{
    *out = NULL;
    we_weights *w = we_calloc(1, sizeof(*w));
    if (!w) return we_fail(err, WE_E_NOMEM, "%s: no memory to open it", dir);
    name_list list = { .arena = &w->arena };
    const bool is_gguf = we_is_gguf(dir);
    we_status st = is_gguf ? open_gguf(w, dir, err) : list_files(&list, dir, layouts, n_layouts, err);
    if (!st && !is_gguf) st = open_sources(w, &list, dir, err);
    if (!st) st = index_names(w, dir, err);
    we_free(list.names);
    if (st) {
        we_weights_close(w);
        return st;
    }
    we_log(format, DEBUG, "%s: %zu tensors in %zu files, %" PRIu64 " bytes mapped, %zu unpacked", dir, w->n,
           w->n_sources, w->mapped_bytes, w->unpacked_bytes);
    *out = w;
    return WE_OK;
}

we_status we_weights_open(we_weights **out, const char *dir, we_error *err)
{
    static const layout *const layouts[] = { &mlx_layout };
    return weights_open(out, dir, layouts, WE_COUNT(layouts), err);
}

we_status we_weights_open_any(we_weights **out, const char *dir, we_error *err)
{
    static const layout *const layouts[] = { &mlx_layout, &pytorch_layout };
    return weights_open(out, dir, layouts, WE_COUNT(layouts), err);
}

bool we_weights_is_pytorch(const we_weights *weights)
{
    return weights->n_sources && we_str_ends_with(we_str_from(weights->sources[0].name), WE_STR(".bin"));
}

void we_weights_close(we_weights *weights)
{
    if (!weights) return;
    for (size_t i = 0; i < weights->n_sources; i++) we_map_close(weights->sources[i].map);
    we_arena_deinit(&weights->arena);
    we_free(weights);
}

size_t we_weights_count(const we_weights *weights) { return weights->n; }

const we_weight *we_weights_at(const we_weights *weights, size_t index)
{
    return index < weights->n ? &weights->all[index] : NULL;
}

const we_weight *we_weights_find(const we_weights *weights, const char *name)
{
    size_t low = 0, high = weights->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, weights->by_name[middle]->name);
        if (order == 0) return weights->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

uint64_t we_weights_mapped_bytes(const we_weights *weights) { return weights->mapped_bytes; }

uint64_t we_weights_unpacked_bytes(const we_weights *weights) { return weights->unpacked_bytes; }

we_status we_weights_check(const we_weights *weights, we_error *err)
{
    for (size_t i = 0; i < weights->n_sources; i++) {
        const we_status st = we_map_check(weights->sources[i].map, err);
        if (st) return st;
    }
    return WE_OK;
}

void we_weights_drop(const we_weights *weights, const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < weights->n_sources; i++) {
        const we_map *map = weights->sources[i].map;
        const uint8_t *begin = we_map_data(map);
        if (data >= begin && data < begin + we_map_len(map)) we_map_drop(map, (size_t)(data - begin), bytes);
    }
}

/* One byte of every page: enough to bring it in. */
static void touch(const uint8_t *p, size_t len)
{
    volatile uint8_t seen;
    for (size_t at = 0; at < len; at += PAGE) seen = p[at];
    (void)seen;
}

/* Asks for a page in 64: what the system drops or reads comes in larger pieces, and asking for all of 700 MB took 14 ms. */
static bool seems_cached(const we_map *map, size_t at, size_t len)
{
    for (size_t i = 0; i < len; i += 64 * PAGE)
        if (!we_map_is_cached(map, at + i, 1)) return false;
    return true;
}

we_status we_weights_load(const we_weights *weights, we_progress_fn progress, void *user, we_error *err)
{
    const uint64_t total = weights->mapped_bytes;
    uint64_t done = 0;
    for (size_t i = 0; i < weights->n_sources; i++) {
        const we_map *map = weights->sources[i].map;
        const size_t len = we_map_len(map);
        we_map_will_need(map);
        for (size_t at = 0; at < len; at += LOAD_STEP) {
            const size_t step = WE_MIN(LOAD_STEP, len - at);
            /* What is there already is left to the threads that use it: mapping 700 MB took 50 ms, here on one thread. */
            if (!seems_cached(map, at, step)) touch(we_map_data(map) + at, step);
            done += step;
            if (progress && !progress(user, done, total)) return we_fail(err, WE_E_CANCELLED, "Loading was cancelled");
        }
    }
    return we_weights_check(weights, err);
}
