/* SPDX-License-Identifier: Apache-2.0
 * gguf.c - one GGUF file as metadata and tensors that point into its bytes. Files that were split: weights.c. What keys
 * and tensors mean: model/gguf.c, tokenizer/gguf.c; what blocks mean: quant/ggml.c.
 *
 *     "GGUF"  version u32  n_tensors u64  n_values u64
 *     n_values times:   key  type u32  value             a string is its length (u64) and its bytes
 *     n_tensors times:  name  n_dims u32  dims u64[]  type u32  offset u64
 *     padding up to general.alignment (32 where it is missing), then the data that offsets count from
 *
 * dims[0] is the innermost: a weight's columns. Nothing of the header is believed before it is checked: counts against
 * the bytes that are left, offsets against the alignment, the data's end and each other.
 * Source: docs/gguf.md of ggml-org/ggml. */
#include "format/format_int.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MAX_KEY 65535   /* the specification's */
#define MAX_NAME 255    /* it says 64; some writers take more */
#define MAX_DIMS_GGUF 4 /* ggml's */
#define DEFAULT_ALIGNMENT 32

typedef struct cursor {
    const uint8_t *at, *end;
    const char *file;
    we_error *err;
} cursor;

static uint64_t left(const cursor *c) { return (uint64_t)(c->end - c->at); }

static we_status ends_early(const cursor *c, const char *what)
{
    return we_fail(c->err, WE_E_FORMAT, "%s: the file ends inside %s: " WE_DAMAGED, c->file, what);
}

static we_status read_u32(cursor *c, const char *what, uint32_t *out)
{
    if (left(c) < 4) return ends_early(c, what);
    *out = we_read_u32(c->at);
    c->at += 4;
    return WE_OK;
}

static we_status read_u64(cursor *c, const char *what, uint64_t *out)
{
    if (left(c) < 8) return ends_early(c, what);
    *out = we_read_u64(c->at);
    c->at += 8;
    return WE_OK;
}

static we_status read_str(cursor *c, const char *what, we_str *out)
{
    uint64_t len = 0;
    const we_status st = read_u64(c, what, &len);
    if (st) return st;
    if (len > left(c))
        return we_fail(c->err, WE_E_FORMAT,
                       "%s: %s holds a string of %" PRIu64 " bytes, but only %" PRIu64
                       " are left in the file: " WE_DAMAGED,
                       c->file, what, len, left(c));
    *out = (we_str){ (const char *)c->at, (size_t)len };
    c->at += len;
    return WE_OK;
}

/* A key's or a tensor's name: short, without NUL. */
static we_status read_name(cursor *c, we_arena *arena, const char *what, size_t most, const char **out)
{
    we_str name = { 0 };
    const we_status st = read_str(c, what, &name);
    if (st) return st;
    if (name.len == 0 || name.len > most)
        return we_fail(c->err, WE_E_FORMAT, "%s: %s has a name of %zu bytes, expected 1 to %zu: " WE_DAMAGED, c->file,
                       what, name.len, most);
    if (memchr(name.ptr, '\0', name.len))
        return we_fail(c->err, WE_E_FORMAT, "%s: the name of %s holds a NUL: " WE_DAMAGED, c->file, what);
    if (!(*out = we_arena_strndup(arena, name.ptr, name.len)))
        return we_fail(c->err, WE_E_NOMEM, "%s: no memory for its names", c->file);
    return WE_OK;
}

/* ---- Values ---- */

static const struct {
    const char *name;
    size_t size; /* 0: not fixed */
} types[] = {
    [WE_GGUF_U8] = { "uint8", 1 },    [WE_GGUF_I8] = { "int8", 1 },    [WE_GGUF_U16] = { "uint16", 2 },
    [WE_GGUF_I16] = { "int16", 2 },   [WE_GGUF_U32] = { "uint32", 4 }, [WE_GGUF_I32] = { "int32", 4 },
    [WE_GGUF_F32] = { "float32", 4 }, [WE_GGUF_BOOL] = { "bool", 1 },  [WE_GGUF_STRING] = { "string", 0 },
    [WE_GGUF_ARRAY] = { "array", 0 }, [WE_GGUF_U64] = { "uint64", 8 }, [WE_GGUF_I64] = { "int64", 8 },
    [WE_GGUF_F64] = { "float64", 8 },
};
static_assert(WE_COUNT(types) == WE_GGUF_TYPE_COUNT, "one row for each type");

static we_status read_type(cursor *c, const char *key, we_gguf_type *out)
{
    uint32_t type = 0;
    const we_status st = read_u32(c, key, &type);
    if (st) return st;
    if (type >= WE_GGUF_TYPE_COUNT)
        return we_fail(c->err, WE_E_FORMAT, "%s: key %s has type %" PRIu32 ", expected 0 to %d: " WE_DAMAGED, c->file,
                       key, type, WE_GGUF_TYPE_COUNT - 1);
    *out = (we_gguf_type)type;
    return WE_OK;
}

static we_status skip_elements(cursor *c, const we_gguf_value *v)
{
    const size_t size = types[v->type].size;
    if (v->n > left(c) / (size ? size : 8))
        return we_fail(c->err, WE_E_FORMAT,
                       "%s: key %s counts %" PRIu64 " elements, but only %" PRIu64
                       " bytes are left in the file: " WE_DAMAGED,
                       c->file, v->key, v->n, left(c));
    if (size) {
        c->at += v->n * size;
        return WE_OK;
    }
    we_status st = WE_OK;
    we_str s;
    for (uint64_t i = 0; i < v->n && !st; i++) st = read_str(c, v->key, &s);
    return st;
}

static we_status read_value(cursor *c, we_arena *arena, we_gguf_value *v)
{
    we_status st = read_name(c, arena, "a key", MAX_KEY, &v->key);
    if (!st) st = read_type(c, v->key, &v->type);
    if (st) return st;
    v->n = 1;
    if (v->type == WE_GGUF_ARRAY) {
        v->is_array = true;
        if ((st = read_type(c, v->key, &v->type)) || (st = read_u64(c, v->key, &v->n))) return st;
        if (v->type == WE_GGUF_ARRAY)
            return we_fail(c->err, WE_E_UNSUPPORTED, "%s: key %s is an array of arrays, which this version cannot read",
                           c->file, v->key);
    }
    v->data = c->at;
    st = skip_elements(c, v);
    v->bytes = (size_t)(c->at - v->data);
    return st;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const we_gguf_value *)a)->key, ((const we_gguf_value *)b)->key);
}

static we_status read_values(cursor *c, we_arena *arena, uint64_t n, we_gguf *out)
{
    enum { LEAST = 8 + 1 + 4 + 1 }; /* bytes of a key and its value */
    if (n > left(c) / LEAST)
        return we_fail(c->err, WE_E_FORMAT,
                       "%s: counts %" PRIu64 " keys, which %" PRIu64 " bytes cannot hold: " WE_DAMAGED, c->file, n,
                       left(c));
    size_t capacity = 0, used = 0;
    const uint8_t *begin = c->at;
    we_gguf_value *values = NULL; /* grown as they come: a count alone takes no memory */
    we_status st = WE_OK;
    for (uint64_t i = 0; i < n && !st; i++) {
        if (used == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            we_gguf_value *grown = we_realloc_array(values, capacity, sizeof *grown);
            if (!grown) {
                st = we_fail(c->err, WE_E_NOMEM, "%s: no memory for its keys", c->file);
                break;
            }
            values = grown;
        }
        values[used] = (we_gguf_value){ 0 };
        st = read_value(c, arena, &values[used++]);
    }
    if (!st && used) qsort(values, used, sizeof *values, by_key);
    for (size_t i = 1; i < used && !st; i++)
        if (strcmp(values[i - 1].key, values[i].key) == 0)
            st = we_fail(c->err, WE_E_FORMAT, "%s: has key %s twice: " WE_DAMAGED, c->file, values[i].key);
    we_gguf_value *kept = st ? NULL : we_arena_calloc(arena, used, sizeof *kept);
    if (!st && !kept) st = we_fail(c->err, WE_E_NOMEM, "%s: no memory for its keys", c->file);
    if (kept && used) memcpy(kept, values, used * sizeof *kept);
    we_free(values);
    *out = (we_gguf){ c->file, kept, st ? 0 : used, { (const char *)begin, (size_t)(c->at - begin) } };
    return st;
}

const we_gguf_value *we_gguf_get(const we_gguf *gguf, const char *key)
{
    const we_gguf_value wanted = { .key = key };
    return gguf->n_values ? bsearch(&wanted, gguf->values, gguf->n_values, sizeof wanted, by_key) : NULL;
}

bool we_gguf_i64(const we_gguf_value *v, uint64_t i, int64_t *out)
{
    if (!v || i >= v->n) return false;
    const uint8_t *p = v->data + i * types[v->type].size;
    switch (v->type) {
    case WE_GGUF_U8: *out = p[0]; return true;
    case WE_GGUF_I8: *out = (int8_t)p[0]; return true;
    case WE_GGUF_U16: *out = we_read_u16(p); return true;
    case WE_GGUF_I16: *out = (int16_t)we_read_u16(p); return true;
    case WE_GGUF_U32: *out = we_read_u32(p); return true;
    case WE_GGUF_I32: *out = (int32_t)we_read_u32(p); return true;
    case WE_GGUF_I64: *out = (int64_t)we_read_u64(p); return true;
    case WE_GGUF_U64:
        if (we_read_u64(p) > INT64_MAX) return false;
        *out = (int64_t)we_read_u64(p);
        return true;
    default: return false;
    }
}

bool we_gguf_f64(const we_gguf_value *v, uint64_t i, double *out)
{
    int64_t whole;
    if (we_gguf_i64(v, i, &whole)) {
        *out = (double)whole;
        return true;
    }
    if (!v || i >= v->n) return false;
    if (v->type == WE_GGUF_F32) {
        const uint32_t bits = we_read_u32(v->data + 4 * i);
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
        return true;
    }
    if (v->type != WE_GGUF_F64) return false;
    const uint64_t bits = we_read_u64(v->data + 8 * i);
    memcpy(out, &bits, sizeof *out);
    return true;
}

bool we_gguf_bool(const we_gguf_value *v, bool *out)
{
    if (!v || v->is_array || v->type != WE_GGUF_BOOL) return false;
    *out = v->data[0] != 0;
    return true;
}

bool we_gguf_next_str(const we_gguf_value *v, size_t *at, we_str *out)
{
    if (!v || v->type != WE_GGUF_STRING || *at >= v->bytes) return false;
    *out = (we_str){ (const char *)v->data + *at + 8, (size_t)we_read_u64(v->data + *at) };
    *at += 8 + out->len;
    return true;
}

bool we_gguf_str(const we_gguf_value *v, we_str *out)
{
    size_t at = 0;
    return v && !v->is_array && we_gguf_next_str(v, &at, out);
}

const char *we_gguf_shown(const we_gguf_value *v, char out[96])
{
    we_str text;
    double number;
    if (!v)
        snprintf(out, 96, "missing");
    else if (v->is_array)
        snprintf(out, 96, "an array of %" PRIu64 " %s", v->n, types[v->type].name);
    else if (we_gguf_str(v, &text))
        snprintf(out, 96, "\"%.*s\"", (int)WE_MIN(text.len, 60U), text.ptr);
    else if (we_gguf_f64(v, 0, &number))
        snprintf(out, 96, "%.17g (%s)", number, types[v->type].name);
    else
        snprintf(out, 96, "a %s", types[v->type].name);
    return out;
}

/* ---- Tensors ---- */

/* By ggml's own numbers; what we do not read has a name for the message. */
static const struct {
    const char *name;
    int dtype; /* -1: not read */
} ggml_types[] = {
    /* clang-format off */
    [0] = { "F32", WE_F32 }, [1] = { "F16", WE_F16 }, [2] = { "Q4_0", WE_GGML_Q4_0 }, [3] = { "Q4_1", WE_GGML_Q4_1 },
    [4] = { "Q4_2", -1 }, [5] = { "Q4_3", -1 }, [6] = { "Q5_0", WE_GGML_Q5_0 }, [7] = { "Q5_1", WE_GGML_Q5_1 },
    [8] = { "Q8_0", WE_GGML_Q8_0 }, [9] = { "Q8_1", -1 }, [10] = { "Q2_K", WE_GGML_Q2_K },
    [11] = { "Q3_K", WE_GGML_Q3_K }, [12] = { "Q4_K", WE_GGML_Q4_K }, [13] = { "Q5_K", WE_GGML_Q5_K },
    [14] = { "Q6_K", WE_GGML_Q6_K }, [15] = { "Q8_K", -1 }, [16] = { "IQ2_XXS", -1 }, [17] = { "IQ2_XS", -1 },
    [18] = { "IQ3_XXS", -1 }, [19] = { "IQ1_S", -1 }, [20] = { "IQ4_NL", WE_GGML_IQ4_NL }, [21] = { "IQ3_S", -1 },
    [22] = { "IQ2_S", -1 }, [23] = { "IQ4_XS", WE_GGML_IQ4_XS }, [24] = { "I8", WE_I8 }, [25] = { "I16", WE_I16 },
    [26] = { "I32", WE_I32 }, [27] = { "I64", WE_I64 }, [28] = { "F64", WE_F64 }, [29] = { "IQ1_M", -1 },
    [30] = { "BF16", WE_BF16 }, [31] = { "Q4_0_4_4", -1 }, [32] = { "Q4_0_4_8", -1 }, [33] = { "Q4_0_8_8", -1 },
    [34] = { "TQ1_0", -1 }, [35] = { "TQ2_0", -1 }, [36] = { "IQ4_NL_4_4", -1 }, [37] = { "IQ4_NL_4_8", -1 },
    [38] = { "IQ4_NL_8_8", -1 }, [39] = { "MXFP4", WE_GGML_MXFP4 },
    /* clang-format on */
};

static we_status read_dtype(cursor *c, we_weight *w)
{
    uint32_t type = 0;
    const we_status st = read_u32(c, "its list of tensors", &type);
    if (st) return st;
    if (type >= WE_COUNT(ggml_types))
        return we_fail(c->err, WE_E_UNSUPPORTED,
                       "%s: tensor \"%s\" has ggml type %" PRIu32 ", which this version does not know", c->file,
                       w->name, type);
    if (ggml_types[type].dtype < 0)
        return we_fail(
            c->err, WE_E_UNSUPPORTED,
            "%s: tensor \"%s\" has type %s, which this version cannot read; take another quantization of the "
            "model (Q4_K_M, Q8_0, ...)",
            c->file, w->name, ggml_types[type].name);
    w->dtype = (we_dtype)ggml_types[type].dtype;
    return WE_OK;
}

static we_status read_shape(cursor *c, we_weight *w)
{
    uint32_t n = 0;
    we_status st = read_u32(c, "its list of tensors", &n);
    if (st) return st;
    if (n > MAX_DIMS_GGUF)
        return we_fail(c->err, WE_E_FORMAT,
                       "%s: tensor \"%s\" has %" PRIu32 " dimensions, expected at most %d: " WE_DAMAGED, c->file,
                       w->name, n, MAX_DIMS_GGUF);
    w->n_dims = (int)n;
    for (int i = 0; i < w->n_dims; i++) {
        uint64_t size = 0;
        if ((st = read_u64(c, "its list of tensors", &size))) return st;
        if (size == 0 || size > INT64_MAX)
            return we_fail(c->err, WE_E_FORMAT, "%s: tensor \"%s\" has a dimension of %" PRIu64 ": " WE_DAMAGED,
                           c->file, w->name, size);
        w->shape[w->n_dims - 1 - i] = (int64_t)size;
    }
    return WE_OK;
}

/* Bytes from type and shape: whole blocks along a row. */
static we_status measure(cursor *c, we_weight *w)
{
    char shape[WE_SHAPE_TEXT];
    const int64_t block = we_dtype_block(w->dtype), cols = w->n_dims ? w->shape[w->n_dims - 1] : 1;
    if (cols % block)
        return we_fail(c->err, WE_E_FORMAT,
                       "%s: tensor \"%s\" is %s %s, but its rows are no multiple of %d: " WE_DAMAGED, c->file, w->name,
                       we_dtype_name(w->dtype), we_shape_text(shape, w->shape, w->n_dims), (int)block);
    uint64_t bytes;
    if (!we_shape_bytes(w->dtype, w->shape, w->n_dims, &bytes))
        return we_fail(c->err, WE_E_FORMAT, "%s: tensor \"%s\": %s %s is larger than any memory: " WE_DAMAGED, c->file,
                       w->name, we_dtype_name(w->dtype), we_shape_text(shape, w->shape, w->n_dims));
    w->bytes = (size_t)bytes;
    w->file = c->file;
    return WE_OK;
}

typedef struct placed { /* an offset waits until the data's beginning is known */
    we_weight_list weights;
    uint64_t *offsets;
    size_t capacity;
} placed;

static we_status read_tensor(cursor *c, we_arena *arena, placed *p)
{
    if (p->weights.n == p->capacity) {
        p->capacity = p->capacity ? p->capacity * 2 : 64;
        uint64_t *grown = we_realloc_array(p->offsets, p->capacity, sizeof *grown);
        if (!grown) return we_fail(c->err, WE_E_NOMEM, "%s: no memory for its tensors", c->file);
        p->offsets = grown;
    }
    we_weight *w = we_weight_list_add(&p->weights);
    if (!w) return we_fail(c->err, WE_E_NOMEM, "%s: no memory for its tensors", c->file);
    we_status st;
    if ((st = read_name(c, arena, "a tensor", MAX_NAME, &w->name)) || (st = read_shape(c, w)) ||
        (st = read_dtype(c, w)) || (st = measure(c, w)))
        return st;
    return read_u64(c, "its list of tensors", &p->offsets[p->weights.n - 1]);
}

static we_status place(const cursor *c, const uint8_t *data, uint64_t data_len, uint64_t alignment, placed *p)
{
    for (size_t i = 0; i < p->weights.n; i++) {
        we_weight *w = &p->weights.items[i];
        const uint64_t offset = p->offsets[i];
        if (offset % alignment)
            return we_fail(c->err, WE_E_FORMAT,
                           "%s: tensor \"%s\" lies at %" PRIu64 ", which is no multiple of the alignment %" PRIu64
                           ": " WE_DAMAGED,
                           c->file, w->name, offset, alignment);
        if (offset > data_len || w->bytes > data_len - offset)
            return we_fail(c->err, WE_E_FORMAT,
                           "%s: tensor \"%s\" takes %zu bytes from %" PRIu64
                           " of the data on, but the file holds %" PRIu64 ": " WE_DAMAGED,
                           c->file, w->name, w->bytes, offset, data_len);
        w->data = data + offset;
    }
    return WE_OK;
}

static int by_place(const void *a, const void *b)
{
    const we_weight *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static we_status check_overlap(const cursor *c, const we_weight *w, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (w[i - 1].data + w[i - 1].bytes > w[i].data)
            return we_fail(c->err, WE_E_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap by %zu bytes: " WE_DAMAGED,
                           c->file, w[i - 1].name, w[i].name, (size_t)(w[i - 1].data + w[i - 1].bytes - w[i].data));
    return WE_OK;
}

static we_status alignment_of(const cursor *c, const we_gguf *gguf, uint64_t *out)
{
    const we_gguf_value *v = we_gguf_get(gguf, "general.alignment");
    char shown[96];
    int64_t n = DEFAULT_ALIGNMENT;
    if (v && (v->is_array || !we_gguf_i64(v, 0, &n) || n < 1 || n > 1 << 20 || (n & (n - 1))))
        return we_fail(c->err, WE_E_FORMAT,
                       "%s: general.alignment is %s, expected a power of two up to 1048576: " WE_DAMAGED, c->file,
                       we_gguf_shown(v, shown));
    *out = (uint64_t)n;
    return WE_OK;
}

static we_status read_tensors(cursor *c, we_arena *arena, uint64_t n, const uint8_t *begin, const we_gguf *gguf,
                              placed *p)
{
    enum { LEAST = 8 + 1 + 4 + 4 + 8 };
    uint64_t alignment = 1;
    we_status st = alignment_of(c, gguf, &alignment);
    if (st) return st;
    if (n > left(c) / LEAST)
        return we_fail(c->err, WE_E_FORMAT,
                       "%s: counts %" PRIu64 " tensors, which %" PRIu64 " bytes cannot hold: " WE_DAMAGED, c->file, n,
                       left(c));
    for (uint64_t i = 0; i < n && !st; i++) st = read_tensor(c, arena, p);
    if (st) return st;
    const uint64_t header = (uint64_t)(c->at - begin), start = (header + alignment - 1) / alignment * alignment;
    const uint64_t all = (uint64_t)(c->end - begin);
    const uint64_t data_len = start < all ? all - start : 0;
    return place(c, begin + WE_MIN(start, all), data_len, alignment, p);
}

/* ---- The whole ---- */

bool we_is_gguf(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return false; /* a pipe would be waited for */
    if (we_str_ends_with(we_str_from(path), WE_STR(".gguf"))) return true;
    FILE *file = fopen(path, "rb");
    char magic[4];
    const bool is = file && fread(magic, 1, sizeof magic, file) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    if (file) fclose(file);
    return is;
}

static we_status read_head(cursor *c, uint64_t *n_tensors, uint64_t *n_values)
{
    uint32_t version = 0;
    if (left(c) < 4 || memcmp(c->at, "GGUF", 4) != 0)
        return we_fail(c->err, WE_E_FORMAT, "%s: not a GGUF file: it does not begin with \"GGUF\"", c->file);
    c->at += 4;
    we_status st = read_u32(c, "its header", &version);
    if (st) return st;
    if (version && !(version & 0xffff))
        return we_fail(c->err, WE_E_UNSUPPORTED, "%s: is a big-endian GGUF file, which this version cannot read",
                       c->file);
    if (version != 2 && version != 3)
        return we_fail(c->err, WE_E_UNSUPPORTED, "%s: is GGUF version %" PRIu32 "; versions 2 and 3 can be read",
                       c->file, version);
    if ((st = read_u64(c, "its header", n_tensors))) return st;
    return read_u64(c, "its header", n_values);
}

we_status we_gguf_parse(we_arena *arena, we_str bytes, const char *file, we_gguf *gguf, we_weight **out, size_t *n,
                        we_error *err)
{
    *out = NULL;
    *n = 0;
    *gguf = (we_gguf){ .file = file };
    const uint8_t *begin = (const uint8_t *)bytes.ptr;
    cursor c = { begin, begin + bytes.len, file, err };
    placed p = { 0 };
    uint64_t n_tensors = 0, n_values = 0;
    we_status st;
    if (!(st = read_head(&c, &n_tensors, &n_values)) && !(st = read_values(&c, arena, n_values, gguf)))
        st = read_tensors(&c, arena, n_tensors, begin, gguf, &p);
    if (!st && p.weights.n) qsort(p.weights.items, p.weights.n, sizeof *p.weights.items, by_place);
    if (!st) st = check_overlap(&c, p.weights.items, p.weights.n);
    if (!st) st = we_weight_list_finish(&p.weights, arena, file, out, n, err);
    we_weight_list_deinit(&p.weights);
    we_free(p.offsets);
    if (st) *n = gguf->n_values = 0;
    return st;
}
