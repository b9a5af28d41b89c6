/* SPDX-License-Identifier: Apache-2.0
 * npz.c - weights.npz as a list of tensors: a zip archive (zip.c) with one .npy file for each.
 *
 *     NAME.npy:  "\x93NUMPY" major minor  length  {'descr': '<f4', 'fortran_order': False, 'shape': (48, 96), }  elements
 *                6           1     1      2 or 4  (a Python literal, padded with spaces)
 *
 * Stored members stay where they are; deflated and transposed ones are unpacked once, all of them together to at most
 * max_unpacked. Every member is held against its checksum, which reads the whole file once; nothing else would notice a
 * flipped bit, and the weights are about to be read anyway.
 * Source: numpy/lib/format.py. MLX writes bfloat16 as "<V2". */
#include "format/format_int.h"

#include <inttypes.h>
#include <stdlib.h>
#define ZLIB_CONST /* next_in points to const */
#include <zlib.h>

typedef struct archive {
    we_zip zip;
    we_arena *arena;
    uint64_t may_unpack;
    uint64_t unpacked;
} archive;

/* ---- The header of a .npy file ---- */

typedef struct npy {
    we_str descr;
    bool fortran_order;
    int64_t shape[WE_MAX_DIMS];
    int n_dims;
    size_t header_len; /* where the elements begin */
} npy;

typedef struct cursor { /* over the Python literal */
    const char *p, *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t')) c->p++;
}

static bool take(cursor *c, char wanted)
{
    skip_space(c);
    if (c->p == c->end || *c->p != wanted) return false;
    c->p++;
    return true;
}

static bool take_word(cursor *c, const char *word)
{
    const size_t len = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->p) < len || memcmp(c->p, word, len) != 0) return false;
    c->p += len;
    return true;
}

static bool take_string(cursor *c, we_str *out)
{
    const char quote = take(c, '\'') ? '\'' : take(c, '"') ? '"' : '\0';
    const char *close = quote ? memchr(c->p, quote, (size_t)(c->end - c->p)) : NULL;
    if (!close) return false;
    *out = (we_str){ c->p, (size_t)(close - c->p) };
    c->p = close + 1;
    return true;
}

static bool take_size(cursor *c, int64_t *out)
{
    const char *begin = c->p;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9') c->p++;
    if (!we_parse_i64((we_str){ begin, (size_t)(c->p - begin) }, out)) return false;
    if (c->p < c->end && *c->p == 'L') c->p++; /* Python 2's long */
    return true;
}

/* "()", "(3,)", "(48, 96)"; MLX writes "(48, 96, )". */
static bool take_shape(cursor *c, npy *h)
{
    if (!take(c, '(')) return false;
    while (!take(c, ')')) {
        if (h->n_dims == WE_MAX_DIMS || !take_size(c, &h->shape[h->n_dims])) return false;
        h->n_dims++;
        if (!take(c, ',')) return take(c, ')');
    }
    return true;
}

static bool parse_dict(cursor c, npy *h)
{
    bool has_descr = false, has_order = false, has_shape = false;
    if (!take(&c, '{')) return false;
    while (!take(&c, '}')) {
        we_str key;
        if (!take_string(&c, &key) || !take(&c, ':')) return false;
        if (we_str_is(key, "descr") && !has_descr) {
            if (!(has_descr = take_string(&c, &h->descr))) return false;
        } else if (we_str_is(key, "fortran_order") && !has_order) {
            has_order = true;
            h->fortran_order = take_word(&c, "True");
            if (!h->fortran_order && !take_word(&c, "False")) return false;
        } else if (we_str_is(key, "shape") && !has_shape) {
            if (!(has_shape = take_shape(&c, h))) return false;
        } else {
            return false;
        }
        if (!take(&c, ',')) {
            if (!take(&c, '}')) return false;
            break;
        }
    }
    skip_space(&c); /* only padding may follow */
    return c.p == c.end && has_descr && has_order && has_shape;
}

static bool parse_npy(const uint8_t *p, uint64_t len, npy *h)
{
    *h = (npy){ 0 };
    if (len < 12 || memcmp(p, "\x93NUMPY", 6) != 0 || p[6] < 1 || p[6] > 3) return false;
    const size_t start = p[6] == 1 ? 10 : 12;
    const uint64_t dict_len = p[6] == 1 ? we_read_u16(p + 8) : we_read_u32(p + 8);
    if (dict_len > len - start) return false;
    h->header_len = start + (size_t)dict_len;
    return parse_dict((cursor){ (const char *)p + start, (const char *)p + h->header_len }, h);
}

/* numpy's type strings: a byte order ('<', '>', or '|' for none), a kind, a size. */
static const struct {
    const char *text;
    we_dtype dtype;
} descrs[] = {
    { "f4", WE_F32 }, { "f2", WE_F16 }, { "V2", WE_BF16 }, { "f8", WE_F64 }, { "i1", WE_I8 },
    { "u1", WE_U8 },  { "i2", WE_I16 }, { "u2", WE_U16 },  { "i4", WE_I32 }, { "u4", WE_U32 },
    { "i8", WE_I64 }, { "u8", WE_U64 }, { "b1", WE_BOOL },
};

static we_status read_descr(const archive *a, const we_zip_member *m, we_str descr, we_dtype *dtype)
{
    const char order = descr.len ? descr.ptr[0] : '\0';
    for (size_t i = 0; descr.len == 3 && i < WE_COUNT(descrs); i++) {
        if (memcmp(descr.ptr + 1, descrs[i].text, 2) != 0) continue;
        *dtype = descrs[i].dtype;
        if (order == '<' || order == '|' || (order == '>' && we_dtype_size(*dtype) == 1)) return WE_OK;
        if (order == '>')
            return we_fail(a->zip.err, WE_E_UNSUPPORTED,
                           "%s: \"%.*s\" is big-endian (%.*s); weights must be little-endian: save it "
                           "again on a common machine",
                           a->zip.file, (int)WE_MIN(m->name.len, 200U), m->name.ptr, (int)descr.len, descr.ptr);
    }
    return we_fail(a->zip.err, WE_E_UNSUPPORTED, "%s: \"%.*s\" has numpy type '%.*s', which is no type of weights",
                   a->zip.file, (int)WE_MIN(m->name.len, 200U), m->name.ptr, (int)WE_MIN(descr.len, 40U), descr.ptr);
}

/* ---- Elements ---- */

static we_status may_unpack(archive *a, const we_zip_member *m, uint64_t len)
{
    if (len > a->may_unpack || len > SIZE_MAX)
        return we_fail(a->zip.err, WE_E_FORMAT,
                       "%s: \"%.*s\" unpacks to %" PRIu64 " bytes, more than weights of a file this size "
                       "can: " WE_DAMAGED,
                       a->zip.file, (int)WE_MIN(m->name.len, 200U), m->name.ptr, len);
    a->may_unpack -= len;
    return WE_OK;
}

static we_status no_memory(const archive *a, const we_zip_member *m, uint64_t len)
{
    return we_fail(a->zip.err, WE_E_NOMEM, "%s: no memory to unpack \"%.*s\" (%" PRIu64 " bytes)", a->zip.file,
                   (int)WE_MIN(m->name.len, 200U), m->name.ptr, len);
}

/* zlib's lengths have 32 bits, and its allocator is ours, so that tests can make it fail. */
static void *zlib_alloc(void *unused, unsigned n, unsigned size)
{
    (void)unused;
    return we_calloc(n, size);
}
static void zlib_free(void *unused, void *p)
{
    (void)unused;
    we_free(p);
}
static unsigned zlib_len(uint64_t len) { return (unsigned)WE_MIN(len, (uint64_t)1 << 30); }

/* Exactly m->len bytes come out of exactly m->packed_len, or it is broken. */
static we_status inflate_member(const archive *a, const we_zip_member *m, uint8_t *out)
{
    z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free };
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) return no_memory(a, m, m->len);
    uint8_t none;
    z.next_in = a->zip.bytes + m->data;
    z.next_out = m->len ? out : &none;
    uint64_t in_left = m->packed_len, out_left = m->len;
    int result = Z_OK;
    while (result == Z_OK) {
        const unsigned in = zlib_len(in_left), room = zlib_len(out_left);
        z.avail_in = in;
        z.avail_out = room;
        result = inflate(&z, Z_NO_FLUSH);
        in_left -= in - z.avail_in;
        out_left -= room - z.avail_out;
    }
    inflateEnd(&z);
    if (result == Z_MEM_ERROR) return no_memory(a, m, m->len);
    if (result != Z_STREAM_END || in_left || out_left)
        return we_zip_broken(&a->zip, m, "does not unpack to its declared size");
    return WE_OK;
}

static uint32_t checksum(const uint8_t *p, uint64_t len)
{
    uLong crc = crc32(0, NULL, 0);
    while (len) {
        const unsigned n = zlib_len(len);
        crc = crc32(crc, p, n);
        p += n;
        len -= n;
    }
    return (uint32_t)crc;
}

/* One plane of the transpose, out[i][j] = in[j][i], in tiles that stay in the cache. Strides are in elements. */
typedef struct plane {
    uint8_t *out;
    const uint8_t *in;
    size_t out_stride, in_stride;
    size_t n_i, n_j;
} plane;

static inline void transpose_sized(const plane *t, size_t size)
{
    enum { TILE = 32 };
    for (size_t i0 = 0; i0 < t->n_i; i0 += TILE)
        for (size_t j0 = 0; j0 < t->n_j; j0 += TILE)
            for (size_t i = i0; i < WE_MIN(i0 + TILE, t->n_i); i++)
                for (size_t j = j0; j < WE_MIN(j0 + TILE, t->n_j); j++)
                    memcpy(t->out + (i * t->out_stride + j) * size, t->in + (j * t->in_stride + i) * size, size);
}

static void transpose_plane(const plane *t, size_t size)
{
    switch (size) { /* a constant size makes memcpy a load and a store */
    case 1: transpose_sized(t, 1); break;
    case 2: transpose_sized(t, 2); break;
    case 4: transpose_sized(t, 4); break;
    default: transpose_sized(t, size); break;
    }
}

/* Fortran order to C order: out[i][...][j] = in[j][...][i], the axes between reversed as well. */
static void transpose(uint8_t *out, const uint8_t *in, const int64_t *shape, int n_dims, size_t size)
{
    const size_t n_first = (size_t)shape[0], n_last = (size_t)shape[n_dims - 1];
    size_t n_planes = 1;
    for (int d = 1; d < n_dims - 1; d++) n_planes *= (size_t)shape[d];
    for (size_t p = 0; p < n_planes; p++) {
        /* p counts the axes between in C order; in_p is the same place counted in Fortran order. */
        size_t in_p = 0, rest = p, step = n_planes;
        for (int d = n_dims - 2; d >= 1; d--) {
            step /= (size_t)shape[d];
            in_p += rest % (size_t)shape[d] * step;
            rest /= (size_t)shape[d];
        }
        const plane t = {
            out + p * n_last * size, in + in_p * n_first * size, n_planes * n_last, n_planes * n_first, n_first, n_last
        };
        transpose_plane(&t, size);
    }
}

/* With at most one axis longer than 1 the two orders are the same; MLX then writes either. */
static bool is_transposed(const npy *h, uint64_t n_bytes)
{
    int n_long = 0;
    for (int d = 0; d < h->n_dims; d++) n_long += h->shape[d] > 1;
    return h->fortran_order && n_long > 1 && n_bytes > 0;
}

/* Dtype, shape and size, from the unpacked member's bytes. *skip: text, which is no weight. */
static we_status read_npy(archive *a, const we_zip_member *m, const uint8_t *bytes, npy *h, we_weight *w, bool *skip)
{
    if (!parse_npy(bytes, m->len, h)) return we_zip_broken(&a->zip, m, "its .npy header is broken");
    *skip = h->descr.len > 1 && (h->descr.ptr[1] == 'U' || h->descr.ptr[1] == 'S');
    if (*skip) return WE_OK;
    we_status st = read_descr(a, m, h->descr, &w->dtype);
    if (st) return st;
    w->n_dims = h->n_dims;
    memcpy(w->shape, h->shape, sizeof(w->shape));
    char shape[WE_SHAPE_TEXT];
    uint64_t expected;
    if (!we_shape_bytes(w->dtype, w->shape, w->n_dims, &expected) || expected != m->len - h->header_len)
        return we_fail(a->zip.err, WE_E_FORMAT,
                       "%s: \"%.*s\" holds %" PRIu64 " bytes of elements, which is not the size of %s %s: " WE_DAMAGED,
                       a->zip.file, (int)WE_MIN(m->name.len, 200U), m->name.ptr, m->len - h->header_len,
                       we_dtype_name(w->dtype), we_shape_text(shape, w->shape, w->n_dims));
    w->bytes = (size_t)expected;
    w->data = bytes + h->header_len;
    return WE_OK;
}

static we_status read_stored(archive *a, const we_zip_member *m, we_weight *w, bool *skip)
{
    const uint8_t *bytes = a->zip.bytes + m->data;
    if (checksum(bytes, m->len) != m->crc) return we_zip_broken(&a->zip, m, "its checksum is wrong");
    npy h;
    we_status st = read_npy(a, m, bytes, &h, w, skip);
    if (st || *skip || !is_transposed(&h, w->bytes)) return st;
    if ((st = may_unpack(a, m, w->bytes))) return st;
    uint8_t *out = we_arena_alloc(a->arena, w->bytes);
    if (!out) return no_memory(a, m, w->bytes);
    transpose(out, w->data, w->shape, w->n_dims, we_dtype_size(w->dtype));
    w->data = out;
    a->unpacked += w->bytes;
    return WE_OK;
}

/* The arena keeps the elements in C order only: unpacked bytes that are transposed next, or skipped, are freed. */
static we_status read_deflated(archive *a, const we_zip_member *m, we_weight *w, bool *skip)
{
    we_status st = may_unpack(a, m, m->len);
    if (st) return st;
    uint8_t *bytes = we_malloc((size_t)m->len);
    if (!bytes) return no_memory(a, m, m->len);
    npy h;
    st = inflate_member(a, m, bytes);
    if (!st && checksum(bytes, m->len) != m->crc) st = we_zip_broken(&a->zip, m, "its checksum is wrong");
    if (!st) st = read_npy(a, m, bytes, &h, w, skip);
    if (!st && !*skip) {
        uint8_t *out = we_arena_alloc(a->arena, w->bytes);
        if (!out)
            st = no_memory(a, m, w->bytes);
        else if (is_transposed(&h, w->bytes))
            transpose(out, w->data, w->shape, w->n_dims, we_dtype_size(w->dtype));
        else if (w->bytes)
            memcpy(out, w->data, w->bytes);
        w->data = out;
        a->unpacked += w->bytes;
    }
    we_free(bytes);
    return st;
}

static we_status read_weights(archive *a, we_weight_list *list)
{
    for (size_t i = 0; i < a->zip.n_members; i++) {
        const we_zip_member *m = &a->zip.members[i];
        const we_str suffix = WE_STR(".npy");
        if (!we_str_ends_with(m->name, suffix)) continue; /* someone's note, or a folder */
        we_weight w = { .file = a->zip.file };
        bool skip = false;
        we_status st = m->method == WE_ZIP_STORED ? read_stored(a, m, &w, &skip) : read_deflated(a, m, &w, &skip);
        if (st) return st;
        if (skip) continue;
        we_weight *added = we_weight_list_add(list);
        w.name = we_arena_strndup(a->arena, m->name.ptr, m->name.len - suffix.len);
        if (!added || !w.name)
            return we_fail(a->zip.err, WE_E_NOMEM, "%s: no memory for its tensors' names", a->zip.file);
        *added = w;
    }
    return WE_OK;
}

we_status we_npz_parse(we_arena *arena, we_str bytes, const char *file, size_t max_unpacked, we_weight **out, size_t *n,
                       size_t *unpacked, we_error *err)
{
    *out = NULL;
    *n = 0;
    archive a = { .arena = arena, .may_unpack = max_unpacked };
    we_weight_list list = { 0 };
    we_status st = we_zip_open(&a.zip, bytes, file, err);
    if (!st) st = read_weights(&a, &list);
    if (!st) st = we_weight_list_finish(&list, arena, file, out, n, err);
    if (!st) *unpacked += (size_t)a.unpacked;
    we_weight_list_deinit(&list);
    we_zip_close(&a.zip);
    return st;
}
