/* SPDX-License-Identifier: Apache-2.0
 * pytorch.c - a file of torch.save (pytorch_model.bin) as a list of tensors that point into its bytes: a zip archive (zip.c)
 * of storages, and a pickle (pickle.c) that says which tensor lies where in which.
 *
 *     NAME/data.pkl      {"model.norm.weight": _rebuild_tensor_v2(storage, offset, size, stride, ...), ...}
 *                        a storage is the persistent id ("storage", torch.HalfStorage, KEY, device, n elements)
 *     NAME/byteorder     "little" (may be missing)
 *     NAME/data/KEY      the storage's elements, stored, not deflated
 *
 * Several tensors may share a storage; what stride and offset reach lies within it, or the file is refused. A tensor whose
 * elements do not lie in order (a transposed one) is unpacked once. Files of PyTorch before 1.6, which are no archives, are
 * refused with advice.
 * Source: torch/serialization.py, torch/_utils.py. */
#include "format/pickle.h"

#include <stdlib.h>

#define LARGEST_PICKLE ((uint64_t)64 << 20)

typedef struct checkpoint {
    we_zip zip;
    we_arena *arena;
    const we_zip_member **by_name;
    we_str root;         /* "pytorch_model/" */
    uint64_t may_unpack; /* bytes that are left of what may be copied */
    size_t unpacked;
    we_error *err;
} checkpoint;

static we_status broken(const checkpoint *c, we_str name, const char *what)
{
    return we_fail(c->err, WE_E_FORMAT, "%s: tensor \"%.*s\" %s: " WE_DAMAGED, c->zip.file, (int)WE_MIN(name.len, 200U),
                   name.ptr, what);
}

/* A hostile archive may have millions of members, and as many tensors that look for theirs. */
static int by_name(const void *a, const void *b)
{
    const we_str x = (*(const we_zip_member *const *)a)->name, y = (*(const we_zip_member *const *)b)->name;
    const int order = memcmp(x.ptr, y.ptr, WE_MIN(x.len, y.len));
    return order ? order : (x.len > y.len) - (x.len < y.len);
}

static we_status index_members(checkpoint *c)
{
    const size_t n = (size_t)c->zip.n_members;
    c->by_name = we_arena_calloc(c->arena, n, sizeof *c->by_name);
    if (!c->by_name) return we_fail(c->err, WE_E_NOMEM, "%s: no memory for its members", c->zip.file);
    for (size_t i = 0; i < n; i++) c->by_name[i] = &c->zip.members[i];
    if (n) qsort(c->by_name, n, sizeof *c->by_name, by_name);
    return WE_OK;
}

/* How a member's name compares with root + folder + name. */
static int compare_with(we_str full, we_str root, we_str folder, we_str name)
{
    const we_str parts[] = { root, folder, name };
    for (size_t i = 0; i < WE_COUNT(parts); i++) {
        const size_t n = WE_MIN(full.len, parts[i].len);
        const int order = n ? memcmp(full.ptr, parts[i].ptr, n) : 0;
        if (order || n < parts[i].len) return order ? order : -1;
        full = (we_str){ full.ptr + n, full.len - n };
    }
    return full.len > 0;
}

static const we_zip_member *find_member(const checkpoint *c, const char *folder, we_str name)
{
    size_t low = 0, high = (size_t)c->zip.n_members;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare_with(c->by_name[middle]->name, c->root, we_str_from(folder), name);
        if (order == 0) return c->by_name[middle];
        if (order > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- Storages ---- */

typedef struct storage {
    we_dtype dtype;
    const uint8_t *data;
    uint64_t n; /* elements */
} storage;

static bool is_int(const we_pickle *v) { return v->type == WE_PICKLE_INT && v->number >= 0; }

/* ("storage", type, key, device, n) */
static we_status read_storage(const checkpoint *c, we_str name, const we_pickle *ref, storage *out)
{
    const we_pickle *id = ref->type == WE_PICKLE_REF && ref->n == 1 ? ref->items[0] : NULL;
    if (!id || id->type != WE_PICKLE_TUPLE || id->n != 5 || id->items[0]->type != WE_PICKLE_STR ||
        !we_str_is(id->items[0]->text, "storage") || id->items[1]->type != WE_PICKLE_NAME ||
        id->items[1]->number < WE_PICKLE_STORAGE || id->items[2]->type != WE_PICKLE_STR || !is_int(id->items[4]))
        return broken(c, name, "has no storage where one is expected");
    const we_str key = id->items[2]->text;
    const we_zip_member *m = find_member(c, "data/", key);
    if (!m) return broken(c, name, "lies in a storage that the archive does not have");
    if (m->method != WE_ZIP_STORED)
        return we_fail(c->err, WE_E_UNSUPPORTED,
                       "%s: \"%.*s\" is deflated, as PyTorch never writes it: save the model again", c->zip.file,
                       (int)WE_MIN(m->name.len, 200U), m->name.ptr);
    out->dtype = (we_dtype)(id->items[1]->number - WE_PICKLE_STORAGE);
    out->data = c->zip.bytes + m->data;
    out->n = (uint64_t)id->items[4]->number;
    if (out->n > m->len / we_dtype_size(out->dtype)) return broken(c, name, "lies in a storage that is cut short");
    return WE_OK;
}

/* ---- Tensors ---- */

typedef struct view { /* of a storage */
    storage storage;
    int64_t offset, stride[WE_MAX_DIMS];
} view;

static we_status read_sizes(const checkpoint *c, we_str name, const we_pickle *size, const we_pickle *stride,
                            we_weight *w, view *v)
{
    if (size->type != WE_PICKLE_TUPLE || stride->type != WE_PICKLE_TUPLE || size->n != stride->n)
        return broken(c, name, "has no sizes and strides");
    if (size->n > WE_MAX_DIMS)
        return we_fail(c->err, WE_E_UNSUPPORTED, "%s: tensor \"%.*s\" has more than %d dimensions", c->zip.file,
                       (int)WE_MIN(name.len, 200U), name.ptr, WE_MAX_DIMS);
    w->n_dims = (int)size->n;
    for (size_t i = 0; i < size->n; i++) {
        if (!is_int(size->items[i]) || !is_int(stride->items[i]))
            return broken(c, name, "has a negative size or stride");
        w->shape[i] = size->items[i]->number;
        v->stride[i] = stride->items[i]->number;
    }
    return WE_OK;
}

/* Does every element that size, stride and offset reach lie in the storage? */
static bool is_within(const we_weight *w, const view *v)
{
    uint64_t last = (uint64_t)v->offset;
    for (int d = 0; d < w->n_dims; d++) {
        if (w->shape[d] == 0) return true;
        const uint64_t steps = (uint64_t)w->shape[d] - 1, stride = (uint64_t)v->stride[d];
        if (steps && stride > (uint64_t)INT64_MAX / steps) return false;
        last += steps * stride;
        if (last > (uint64_t)INT64_MAX) return false;
    }
    return last < v->storage.n;
}

static bool is_in_order(const we_weight *w, const view *v)
{
    int64_t expected = 1;
    for (int d = w->n_dims - 1; d >= 0; d--) {
        if (w->shape[d] == 0) return true;
        if (w->shape[d] > 1 && v->stride[d] != expected) return false;
        expected *= w->shape[d];
    }
    return true;
}

/* Elements in order, gathered by their strides. */
static void gather(uint8_t *out, const we_weight *w, const view *v)
{
    const size_t size = we_dtype_size(w->dtype);
    int64_t place[WE_MAX_DIMS] = { 0 }, at = v->offset;
    for (uint64_t left = w->bytes / size; left; left--, out += size) {
        memcpy(out, v->storage.data + (size_t)at * size, size);
        for (int d = w->n_dims - 1; d >= 0; d--) {
            at += v->stride[d];
            if (++place[d] < w->shape[d]) break;
            at -= v->stride[d] * w->shape[d];
            place[d] = 0;
        }
    }
}

static we_status unpack(checkpoint *c, we_weight *w, const view *v)
{
    if (w->bytes > c->may_unpack)
        return we_fail(
            c->err, WE_E_UNSUPPORTED,
            "%s: tensor \"%s\" and others are not stored in order and too large to be put in order in memory: save "
            "the model with contiguous tensors",
            c->zip.file, w->name);
    uint8_t *out = we_arena_alloc(c->arena, w->bytes);
    if (!out) return we_fail(c->err, WE_E_NOMEM, "%s: no memory to put \"%s\" in order", c->zip.file, w->name);
    gather(out, w, v);
    w->data = out;
    c->may_unpack -= w->bytes;
    c->unpacked += w->bytes;
    return WE_OK;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks), maybe within _rebuild_parameter(tensor, ...).
 * *skip: the value is no tensor. */
static we_status read_tensor(checkpoint *c, we_str name, const we_pickle *value, we_weight *w, bool *skip)
{
    const we_pickle *arguments = NULL;
    for (int depth = 0; depth < 2 && value->type == WE_PICKLE_CALL; depth++) {
        arguments = value->items[1];
        if (value->items[0]->number != WE_PICKLE_REBUILD_PARAMETER || arguments->n == 0) break;
        value = arguments->items[0];
    }
    if ((*skip = value->type != WE_PICKLE_CALL)) return WE_OK;
    if (value->items[0]->number != WE_PICKLE_REBUILD_TENSOR || arguments->n < 4 || !is_int(arguments->items[1]))
        return broken(c, name, "is not built as PyTorch does it");
    view v = { .offset = arguments->items[1]->number };
    we_status st = read_storage(c, name, arguments->items[0], &v.storage);
    if (!st) st = read_sizes(c, name, arguments->items[2], arguments->items[3], w, &v);
    if (st) return st;
    uint64_t bytes;
    w->dtype = v.storage.dtype;
    w->file = c->zip.file;
    if (!we_shape_bytes(w->dtype, w->shape, w->n_dims, &bytes) || bytes > SIZE_MAX || (bytes && !is_within(w, &v)))
        return broken(c, name, "reaches beyond its storage");
    w->bytes = (size_t)bytes;
    w->data = v.storage.data + (bytes ? (size_t)v.offset * we_dtype_size(w->dtype) : 0);
    return is_in_order(w, &v) ? WE_OK : unpack(c, w, &v);
}

static we_status read_tensors(checkpoint *c, const we_pickle *root, we_weight_list *list)
{
    if (root->type != WE_PICKLE_DICT)
        return we_fail(c->err, WE_E_UNSUPPORTED, "%s: holds no tensors by name (a state_dict): save model.state_dict()",
                       c->zip.file);
    for (size_t i = 0; i + 1 < root->n; i += 2) {
        const we_pickle *key = root->items[i];
        bool skip;
        if (key->type != WE_PICKLE_STR) continue; /* no weight's */
        if (memchr(key->text.ptr, '\0', key->text.len)) return broken(c, key->text, "has a NUL in its name");
        we_weight w = { .name = we_arena_strndup(c->arena, key->text.ptr, key->text.len) };
        if (!w.name) return we_fail(c->err, WE_E_NOMEM, "%s: no memory for its tensors' names", c->zip.file);
        const we_status st = read_tensor(c, key->text, root->items[i + 1], &w, &skip);
        if (st) return st;
        if (skip) {
            we_log(format, INFO, "%s: \"%s\" is no tensor and left out", c->zip.file, w.name);
            continue;
        }
        we_weight *added = we_weight_list_add(list);
        if (!added) return we_fail(c->err, WE_E_NOMEM, "%s: no memory for its tensors' names", c->zip.file);
        *added = w;
    }
    return WE_OK;
}

/* ---- The archive ---- */

/* "NAME/data.pkl": all members lie in a folder of the archive. */
static const we_zip_member *find_root(checkpoint *c)
{
    const we_str wanted = WE_STR("/data.pkl");
    for (size_t i = 0; i < c->zip.n_members; i++) {
        const we_zip_member *m = &c->zip.members[i];
        if (!we_str_ends_with(m->name, wanted) || memchr(m->name.ptr, '/', m->name.len - wanted.len)) continue;
        c->root = (we_str){ m->name.ptr, m->name.len - wanted.len + 1 };
        return m;
    }
    return NULL;
}

static we_status check_archive(const checkpoint *c, const we_zip_member *pickle)
{
    const char *file = c->zip.file;
    if (!pickle)
        return we_fail(c->err, WE_E_FORMAT, "%s: an archive, but not one of torch.save: it has no data.pkl", file);
    if (find_member(c, "", WE_STR("constants.pkl")))
        return we_fail(c->err, WE_E_UNSUPPORTED, "%s: a TorchScript program, not weights: save model.state_dict()",
                       file);
    if (pickle->method != WE_ZIP_STORED || pickle->len > LARGEST_PICKLE)
        return we_fail(c->err, WE_E_UNSUPPORTED, "%s: its data.pkl is deflated or too long, as PyTorch never writes it",
                       file);
    const we_zip_member *order = find_member(c, "", WE_STR("byteorder"));
    const we_str text = { order ? (const char *)c->zip.bytes + order->data : "little", order ? (size_t)order->len : 6 };
    if (!we_str_is(text, "little"))
        return we_fail(c->err, WE_E_UNSUPPORTED, "%s: was written on a machine of the other byte order: save it again",
                       file);
    return WE_OK;
}

/* torch.save until 1.5: a pickled magic number first. And Python's own pickles. */
static bool is_bare_pickle(we_str bytes) { return bytes.len > 2 && (uint8_t)bytes.ptr[0] == 0x80 && bytes.ptr[1] <= 5; }

we_status we_pytorch_parse(we_arena *arena, we_str bytes, const char *file, size_t max_unpacked, we_weight **out,
                           size_t *n, size_t *unpacked, we_error *err)
{
    *out = NULL;
    *n = 0;
    if (is_bare_pickle(bytes))
        return we_fail(
            err, WE_E_UNSUPPORTED,
            "%s: is in the format of PyTorch before 1.6: load it and save it again with a newer one, or take the "
            "model's safetensors version",
            file);
    checkpoint c = { .arena = arena, .may_unpack = max_unpacked, .err = err };
    we_weight_list list = { 0 };
    const we_pickle *root = NULL;
    we_status st = we_zip_open(&c.zip, bytes, file, err);
    const we_zip_member *pickle = st ? NULL : find_root(&c);
    if (!st) st = index_members(&c);
    if (!st) st = check_archive(&c, pickle);
    if (!st) st = we_pickle_parse(arena, (we_str){ bytes.ptr + pickle->data, (size_t)pickle->len }, file, &root, err);
    if (!st) st = read_tensors(&c, root, &list);
    if (!st) st = we_weight_list_finish(&list, arena, file, out, n, err);
    if (!st) *unpacked += c.unpacked;
    we_weight_list_deinit(&list);
    we_zip_close(&c.zip);
    return st;
}
