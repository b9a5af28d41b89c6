/* SPDX-License-Identifier: Apache-2.0
 * safetensors.c - one safetensors file as a list of tensors that point into its bytes. Shards and folders: weights.c.
 *
 *     0         8               8 + H
 *     +---------+---------------+-----------+---------+-----+
 *     | H (u64) | JSON header   | a tensor  | another | ... |
 *     +---------+---------------+-----------+---------+-----+
 *                               0 = where data_offsets count from
 *
 *     { "__metadata__": { ... },
 *       "NAME": { "dtype": "BF16", "shape": [8, 64], "data_offsets": [0, 1024] }, ... }
 *
 * Strict where the reference implementation is (huggingface/safetensors, safetensors/src/tensor.rs:
 * Metadata::validate): the tensors, in any order, cover the data exactly, with no overlap, no hole and nothing behind
 * the last. MLX's own reader would let holes and a tail pass, but neither it nor the reference writes them: they are
 * traces of a broken download. Not checked here: that names are unique, which weights.c finds when it sorts them. */
#include "format/format_int.h"

#include <inttypes.h>
#include <stdlib.h>

#define LENGTH_BYTES 8
#define MAX_HEADER_BYTES 100000000 /* the reference implementation's limit */

typedef struct header {
    we_json_reader json;
    we_arena *arena;
    const char *file;
    const uint8_t *data; /* what data_offsets count from */
    uint64_t data_len;
    we_error *err;
} header;

static we_status not_json(header *h)
{
    if (h->json.error.status == WE_E_NOMEM) return we_fail(h->err, WE_E_NOMEM, "%s: no memory for its header", h->file);
    return we_fail(h->err, WE_E_FORMAT, "%s: its header is not valid JSON (%s): " WE_DAMAGED, h->file,
                   h->json.error.message);
}

/* The next value was not what a tensor's entry needs there. */
static we_status wrong_entry(header *h, we_json_event found, const char *name, const char *expected)
{
    if (found == WE_JSON_EV_ERROR) return not_json(h);
    return we_fail(h->err, WE_E_FORMAT, "%s: tensor \"%s\": expected %s in its header: " WE_DAMAGED, h->file, name,
                   expected);
}

/* An array of whole numbers >= 0, at most `max` of them; *n counts those beyond as well. */
static we_status read_sizes(header *h, const char *name, const char *expected, int64_t *out, int max, int *n)
{
    we_json_event event = we_json_next(&h->json);
    if (event != WE_JSON_EV_BEGIN_ARRAY) return wrong_entry(h, event, name, expected);
    *n = 0;
    while ((event = we_json_next(&h->json)) == WE_JSON_EV_VALUE) {
        int64_t value;
        if (h->json.type != WE_JSON_NUMBER || !we_parse_i64(h->json.text, &value) || value < 0)
            return wrong_entry(h, event, name, expected);
        if (*n < max) out[*n] = value;
        if (*n <= max) ++*n;
    }
    return event == WE_JSON_EV_END_ARRAY ? WE_OK : wrong_entry(h, event, name, expected);
}

static we_status read_dtype(header *h, we_weight *w)
{
    const we_json_event event = we_json_next(&h->json);
    if (event != WE_JSON_EV_VALUE || h->json.type != WE_JSON_STRING)
        return wrong_entry(h, event, w->name, "\"dtype\" as a string");
    if (!we_dtype_from_name(h->json.text, &w->dtype))
        return we_fail(h->err, WE_E_UNSUPPORTED, "%s: tensor \"%s\" has dtype %.*s, which this version cannot read",
                       h->file, w->name, (int)WE_MIN(h->json.text.len, 40U), h->json.text.ptr);
    return WE_OK;
}

/* Offsets against the file, and against dtype and shape. */
static we_status place(header *h, we_weight *w, const int64_t offsets[2])
{
    char shape[WE_SHAPE_TEXT];
    we_shape_text(shape, w->shape, w->n_dims);
    const uint64_t begin = (uint64_t)offsets[0], end = (uint64_t)offsets[1];
    if (begin > end)
        return we_fail(h->err, WE_E_FORMAT,
                       "%s: tensor \"%s\" ends at byte %" PRIu64 ", before it begins at %" PRIu64 ": " WE_DAMAGED,
                       h->file, w->name, end, begin);
    if (end > h->data_len)
        return we_fail(h->err, WE_E_FORMAT,
                       "%s: tensor \"%s\" ends at byte %" PRIu64 " of the data, but the file holds %" PRIu64
                       ": " WE_DAMAGED,
                       h->file, w->name, end, h->data_len);
    uint64_t expected;
    if (!we_shape_bytes(w->dtype, w->shape, w->n_dims, &expected))
        return we_fail(h->err, WE_E_FORMAT, "%s: tensor \"%s\": %s %s is larger than any memory: " WE_DAMAGED, h->file,
                       w->name, we_dtype_name(w->dtype), shape);
    if (end - begin != expected)
        return we_fail(h->err, WE_E_FORMAT,
                       "%s: tensor \"%s\" takes %" PRIu64 " bytes, but %s %s needs %" PRIu64 ": " WE_DAMAGED, h->file,
                       w->name, end - begin, we_dtype_name(w->dtype), shape, expected);
    w->data = h->data + begin;
    w->bytes = (size_t)expected;
    w->file = h->file;
    return WE_OK;
}

/* The value behind a tensor's name. Members that we do not know are skipped, as the reference does. */
static we_status read_tensor(header *h, we_weight *w)
{
    we_json_event event = we_json_next(&h->json);
    if (event != WE_JSON_EV_BEGIN_OBJECT) return wrong_entry(h, event, w->name, "an object");
    bool has_dtype = false, has_shape = false, has_offsets = false;
    int64_t offsets[2] = { 0 };
    int n_offsets = 0;
    we_status st = WE_OK;
    while (!st && (event = we_json_next(&h->json)) == WE_JSON_EV_KEY) {
        if (we_str_is(h->json.text, "dtype")) {
            st = read_dtype(h, w);
            has_dtype = true;
        } else if (we_str_is(h->json.text, "shape")) {
            st = read_sizes(h, w->name, "\"shape\" as a list of sizes", w->shape, WE_MAX_DIMS, &w->n_dims);
            has_shape = true;
        } else if (we_str_is(h->json.text, "data_offsets")) {
            st = read_sizes(h, w->name, "\"data_offsets\" as two byte positions", offsets, 2, &n_offsets);
            has_offsets = true;
        } else if (!we_json_skip(&h->json)) {
            return not_json(h);
        }
    }
    if (st) return st;
    if (event != WE_JSON_EV_END_OBJECT) return not_json(h);
    if (!has_dtype) return wrong_entry(h, event, w->name, "\"dtype\"");
    if (!has_shape) return wrong_entry(h, event, w->name, "\"shape\"");
    if (!has_offsets || n_offsets != 2) return wrong_entry(h, event, w->name, "two \"data_offsets\"");
    if (w->n_dims > WE_MAX_DIMS)
        return we_fail(h->err, WE_E_UNSUPPORTED, "%s: tensor \"%s\" has more than %d dimensions", h->file, w->name,
                       WE_MAX_DIMS);
    return place(h, w, offsets);
}

static we_status read_header(header *h, we_weight_list *list)
{
    we_json_event event = we_json_next(&h->json);
    if (event == WE_JSON_EV_ERROR) return not_json(h);
    if (event != WE_JSON_EV_BEGIN_OBJECT)
        return we_fail(h->err, WE_E_FORMAT, "%s: its header is not a JSON object: " WE_DAMAGED, h->file);
    while ((event = we_json_next(&h->json)) == WE_JSON_EV_KEY) {
        const we_str key = h->json.text;
        if (we_str_is(key, "__metadata__")) {
            if (!we_json_skip(&h->json)) return not_json(h);
            continue;
        }
        if (key.len && memchr(key.ptr, '\0', key.len))
            return we_fail(h->err, WE_E_FORMAT, "%s: the name of tensor \"%.*s...\" holds a NUL: " WE_DAMAGED, h->file,
                           (int)strlen(key.ptr), key.ptr);
        we_weight *w = we_weight_list_add(list);
        if (!w || !(w->name = we_arena_strndup(h->arena, key.ptr, key.len)))
            return we_fail(h->err, WE_E_NOMEM, "%s: no memory for its tensors' names", h->file);
        we_status st = read_tensor(h, w);
        if (st) return st;
    }
    /* Behind the object only white space may come: writers pad the header with it. */
    if (event != WE_JSON_EV_END_OBJECT || we_json_next(&h->json) != WE_JSON_EV_END) return not_json(h);
    return WE_OK;
}

/* By first byte, then by last, so that empty tensors come before the one that begins where they lie. */
static int by_place(const void *a, const void *b)
{
    const we_weight *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Sorted by place, each tensor begins where the one before it ended. */
static we_status check_cover(const header *h, const we_weight *weights, size_t n)
{
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t begin = (uint64_t)(weights[i].data - h->data);
        if (begin < end)
            return we_fail(h->err, WE_E_FORMAT,
                           "%s: tensors \"%s\" and \"%s\" overlap by %" PRIu64 " bytes: " WE_DAMAGED, h->file,
                           weights[i - 1].name, weights[i].name, end - begin);
        if (begin > end)
            return we_fail(h->err, WE_E_FORMAT,
                           "%s: %" PRIu64 " bytes before tensor \"%s\" belong to no tensor: " WE_DAMAGED, h->file,
                           begin - end, weights[i].name);
        end = begin + weights[i].bytes;
    }
    if (end != h->data_len)
        return we_fail(h->err, WE_E_FORMAT, "%s: %" PRIu64 " bytes behind the last tensor belong to none: " WE_DAMAGED,
                       h->file, h->data_len - end);
    return WE_OK;
}

we_status we_safetensors_parse(we_arena *arena, we_str bytes, const char *file, we_weight **out, size_t *n,
                               we_error *err)
{
    *out = NULL;
    *n = 0;
    if (bytes.len < LENGTH_BYTES)
        return we_fail(err, WE_E_FORMAT, "%s: %zu bytes are too few for a safetensors file: " WE_DAMAGED, file,
                       bytes.len);
    const uint64_t header_len = we_read_u64((const uint8_t *)bytes.ptr);
    const uint64_t rest = bytes.len - LENGTH_BYTES;
    if (header_len > MAX_HEADER_BYTES)
        return we_fail(err, WE_E_FORMAT,
                       "%s: not a safetensors file: it begins with a header length of %" PRIu64
                       " bytes, at most %d are allowed: download it again",
                       file, header_len, MAX_HEADER_BYTES);
    if (header_len > rest)
        return we_fail(err, WE_E_FORMAT,
                       "%s: its header takes %" PRIu64 " bytes, but the file has only %" PRIu64
                       " behind its first 8: " WE_DAMAGED,
                       file, header_len, rest);
    /* The format asks for it, and it tells other files apart before the JSON reader's message would puzzle people. */
    if (header_len == 0 || bytes.ptr[LENGTH_BYTES] != '{')
        return we_fail(err, WE_E_FORMAT,
                       "%s: not a safetensors file: its header does not begin with '{': download it again", file);

    header h = { .arena = arena, .file = file, .data_len = rest - header_len, .err = err };
    h.data = (const uint8_t *)bytes.ptr + LENGTH_BYTES + header_len;
    we_json_reader_init(&h.json, (we_str){ bytes.ptr + LENGTH_BYTES, (size_t)header_len });
    we_weight_list list = { 0 };
    we_status st = read_header(&h, &list);
    if (!st && list.n) qsort(list.items, list.n, sizeof(*list.items), by_place);
    if (!st) st = we_weight_list_finish(&list, arena, file, out, n, err);
    if (!st) st = check_cover(&h, *out, *n);
    we_weight_list_deinit(&list);
    we_json_reader_deinit(&h.json);
    if (st) {
        *out = NULL;
        *n = 0;
    }
    return st;
}
