/* SPDX-License-Identifier: Apache-2.0
 * test_format_npz.c - weights.npz archives, as numpy and MLX write them and broken in every way. They are built here,
 * piece by piece, so that each can lie about one thing. Folders: test_format_weights.c. */
#include "support.h"

#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define LIMIT ((size_t)1 << 20)

/* ---- Building ---- */

static void put(we_buf *out, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) we_buf_append_char(out, (char)(value >> (8 * i)));
}

typedef struct options { /* how a member is written, and about what it lies; zeroed is as numpy.savez */
    bool deflated;
    bool mlx; /* 0xFFFFFFFF in the local head, the sizes in zip64 fields */
    bool encrypted, other_local_name;
    unsigned method; /* in place of 0 or 8 */
    uint64_t crc_change, len_change, packed_len_change, offset_change;
} options;

typedef struct zip {
    we_buf out, central;
    int n;
} zip;

static void deflate_into(we_buf *out, we_str bytes)
{
    z_stream z = { 0 };
    uint8_t packed[4096];
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)bytes.ptr;
    z.avail_in = (unsigned)bytes.len;
    do {
        z.next_out = packed;
        z.avail_out = sizeof packed;
        assert_true(deflate(&z, Z_FINISH) != Z_STREAM_ERROR);
        we_buf_append(out, packed, sizeof packed - z.avail_out);
    } while (z.avail_out == 0);
    deflateEnd(&z);
}

static void zip_add(zip *z, const char *name, we_str bytes, options o)
{
    we_buf packed = { 0 };
    if (o.deflated)
        deflate_into(&packed, bytes);
    else
        we_buf_append_str(&packed, bytes);
    const uint64_t local = z->out.len + o.offset_change;
    const uint64_t crc = (crc32(0, (const Bytef *)bytes.ptr, (unsigned)bytes.len) + o.crc_change) & UINT32_MAX;
    const uint64_t len = bytes.len + o.len_change, packed_len = packed.len + o.packed_len_change;
    const unsigned method = o.method ? o.method : o.deflated ? 8 : 0;
    const size_t name_len = strlen(name);

    put(&z->out, 0x04034b50, 4);
    put(&z->out, 20, 2); /* version */
    put(&z->out, o.encrypted, 2);
    put(&z->out, method, 2);
    put(&z->out, 0, 4); /* time, date */
    put(&z->out, crc, 4);
    put(&z->out, o.mlx ? UINT32_MAX : packed_len, 4);
    put(&z->out, o.mlx ? UINT32_MAX : len, 4);
    put(&z->out, name_len, 2);
    put(&z->out, o.mlx ? 20 : 0, 2);
    we_buf_append(&z->out, o.other_local_name ? "????????????????" : name, name_len);
    if (o.mlx) {
        put(&z->out, 1, 2);
        put(&z->out, 16, 2);
        put(&z->out, len, 8);
        put(&z->out, packed_len, 8);
    }
    we_buf_append(&z->out, packed.ptr, packed.len);

    put(&z->central, 0x02014b50, 4);
    put(&z->central, 20, 2);
    put(&z->central, 20, 2);
    put(&z->central, o.encrypted, 2);
    put(&z->central, method, 2);
    put(&z->central, 0, 4);
    put(&z->central, crc, 4);
    put(&z->central, packed_len, 4);
    put(&z->central, o.mlx ? UINT32_MAX : len, 4);
    put(&z->central, name_len, 2);
    put(&z->central, o.mlx ? 29 : 0, 2);
    put(&z->central, 3, 2); /* comment */
    put(&z->central, 0, 2 + 2 + 4);
    put(&z->central, o.mlx ? UINT32_MAX : local, 4);
    we_buf_append(&z->central, name, name_len);
    if (o.mlx) {
        put(&z->central, 0x5455, 2); /* somebody's time stamp comes first */
        put(&z->central, 5, 2);
        put(&z->central, 0, 5);
        put(&z->central, 1, 2);
        put(&z->central, 16, 2);
        put(&z->central, len, 8);
        put(&z->central, local, 8);
    }
    we_buf_append(&z->central, "hi!", 3);
    z->n++;
    we_buf_deinit(&packed);
}

/* A .npy file: magic, version 1, the header padded as numpy does it, the elements. */
static void npy(we_buf *out, const char *header, const void *elements, size_t len)
{
    const size_t header_len = (strlen(header) + 1 + 10 + 63) / 64 * 64 - 10;
    we_buf_append(out, "\x93NUMPY\1", 8);
    put(out, header_len, 2);
    we_buf_printf(out, "%-*s\n", (int)header_len - 1, header);
    we_buf_append(out, elements, len);
}

static void zip_add_npy(zip *z, const char *name, const char *header, const void *elements, size_t len, options o)
{
    we_buf bytes = { 0 };
    npy(&bytes, header, elements, len);
    zip_add(z, name, we_buf_str(&bytes), o);
    we_buf_deinit(&bytes);
}

static void zip_end(zip *z, bool zip64, const char *comment)
{
    const uint64_t directory = z->out.len, directory_len = z->central.len;
    we_buf_append_str(&z->out, we_buf_str(&z->central));
    we_buf_deinit(&z->central);
    const uint64_t end64 = z->out.len;
    if (zip64) {
        put(&z->out, 0x06064b50, 4);
        put(&z->out, 44, 8);
        put(&z->out, 45, 2 + 2);
        put(&z->out, 0, 4 + 4);
        put(&z->out, (uint64_t)z->n, 8);
        put(&z->out, (uint64_t)z->n, 8);
        put(&z->out, directory_len, 8);
        put(&z->out, directory, 8);
        put(&z->out, 0x07064b50, 4);
        put(&z->out, 0, 4);
        put(&z->out, end64, 8);
        put(&z->out, 1, 4);
    }
    put(&z->out, 0x06054b50, 4);
    put(&z->out, 0, 2 + 2);
    put(&z->out, (uint64_t)z->n, 2);
    put(&z->out, (uint64_t)z->n, 2);
    put(&z->out, zip64 ? UINT32_MAX : directory_len, 4);
    put(&z->out, zip64 ? UINT32_MAX : directory, 4);
    put(&z->out, strlen(comment), 2);
    we_buf_append(&z->out, comment, strlen(comment));
    assert_false(z->out.failed);
}

/* ---- Parsing ---- */

typedef struct parsed {
    we_arena arena;
    we_weight *weights;
    size_t n, unpacked;
    we_error err;
    uint8_t *bytes; /* in a block of exactly their size, so that the sanitizers see a read behind it */
} parsed;

static we_status parse_within(parsed *p, const void *bytes, size_t len, size_t limit)
{
    memset(p, 0, sizeof(*p));
    p->bytes = malloc(len ? len : 1);
    if (len) memcpy(p->bytes, bytes, len);
    return we_npz_parse(&p->arena, (we_str){ (char *)p->bytes, len }, "w.npz", limit, &p->weights, &p->n, &p->unpacked,
                        &p->err);
}

static we_status parse(parsed *p, const zip *z) { return parse_within(p, z->out.ptr, z->out.len, LIMIT); }

static void parsed_deinit(parsed *p)
{
    we_arena_deinit(&p->arena);
    free(p->bytes);
}

/* The archive must be refused with this message. Frees it. */
static void check_fails(zip *z, we_status status, const char *message)
{
    parsed p;
    CHECK_STATUS(parse(&p, z), status, &p.err);
    EXPECT_MESSAGE(&p.err, "w.npz");
    EXPECT_MESSAGE(&p.err, message);
    assert_null(p.weights);
    parsed_deinit(&p);
    we_buf_deinit(&z->out);
}

/* One member "x.npy" with this header, 24 bytes of elements and these options. */
static zip zip_of(const char *header, options o)
{
    zip z = { 0 };
    zip_add_npy(&z, "x.npy", header, "abcdefghijklmnopqrstuvwx", 24, o);
    zip_end(&z, false, "");
    return z;
}

#define F4_2_3 "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"

/* ---- What is read ---- */

static const float matrix[6] = { 1, 2, 3, 4, 5, 6 };
static const float turned[6] = { 1, 4, 2, 5, 3, 6 }; /* the same in Fortran order */

/* What both writers have: stored and deflated, both orders, all kinds of headers. */
static zip every_kind(bool mlx)
{
    const options stored = { .mlx = mlx }, deflated = { .mlx = mlx, .deflated = true };
    zip z = { 0 };
    zip_add_npy(&z, "a.weight.npy", F4_2_3, matrix, sizeof matrix, stored);
    zip_add(&z, "note.txt", WE_STR("not a tensor"), stored);
    zip_add_npy(&z, "b.npy", "{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":True}", turned, sizeof turned,
                stored);
    zip_add_npy(&z, "c.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L, )}", matrix, sizeof matrix,
                deflated);
    zip_add_npy(&z, "d.npy", "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, )}", turned, sizeof turned,
                deflated);
    zip_add_npy(&z, "text.npy", "{'descr': '<U2', 'fortran_order': False, 'shape': ()}", "a\0\0\0b\0\0\0", 8, stored);
    zip_add_npy(&z, "half.npy", "{'descr': '<V2', 'fortran_order': True, 'shape': (1, 3, 1), }", matrix, 6, stored);
    zip_add_npy(&z, "bytes.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }", "hello", 5, stored);
    zip_add_npy(&z, "scalar.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (), }", "\1\0\0\0\0\0\0\0", 8,
                stored);
    zip_add_npy(&z, "none.npy", "{'descr': '<f2', 'fortran_order': True, 'shape': (0, 4), }", NULL, 0, deflated);
    zip_end(&z, mlx, mlx ? "" : "a comment");
    return z;
}

/* Everything of every_kind but the archive itself. */
static void check_every_kind(const parsed *p)
{
    static const struct {
        const char *name;
        we_dtype dtype;
        int n_dims;
        size_t bytes;
        const void *data;
    } expected[] = {
        { "a.weight", WE_F32, 2, 24, matrix },
        { "b", WE_F32, 2, 24, matrix },
        { "c", WE_F32, 2, 24, matrix },
        { "d", WE_F32, 2, 24, matrix },
        { "half", WE_BF16, 3, 6, matrix },
        { "bytes", WE_U8, 1, 5, "hello" },
        { "scalar", WE_I64, 0, 8, "\1\0\0\0\0\0\0" },
        { "none", WE_F16, 2, 0, "" },
    };
    assert_int_equal(p->n, WE_COUNT(expected));
    for (size_t i = 0; i < p->n; i++) {
        const we_weight *w = &p->weights[i];
        assert_string_equal(w->name, expected[i].name);
        assert_string_equal(w->file, "w.npz");
        assert_int_equal(w->dtype, expected[i].dtype);
        assert_int_equal(w->n_dims, expected[i].n_dims);
        assert_int_equal(w->bytes, expected[i].bytes);
        assert_non_null(w->data);
        assert_memory_equal(w->data, expected[i].data, w->bytes);
    }
    assert_int_equal(p->weights[0].shape[0], 2);
    assert_int_equal(p->weights[0].shape[1], 3);
    assert_int_equal(p->weights[7].shape[0], 0);
    assert_int_equal(p->unpacked, 3 * 24); /* b, c, d; the one-dimensional ones stay where they are */
}

TEST(npz_of_numpy_and_of_mlx_are_read)
{
    for (int mlx = 0; mlx < 2; mlx++) {
        zip z = every_kind(mlx);
        parsed p;
        CHECK_OK(parse(&p, &z), &p.err);
        check_every_kind(&p);
        const uint8_t *data = p.weights[0].data; /* stored: not copied */
        assert_true(data > p.bytes && data < p.bytes + z.out.len);
        parsed_deinit(&p);
        we_buf_deinit(&z.out);
    }
}

TEST(npz_empty_archive_has_no_tensors)
{
    zip z = { 0 };
    zip_end(&z, false, "");
    parsed p;
    CHECK_OK(parse(&p, &z), &p.err);
    assert_int_equal(p.n, 0);
    parsed_deinit(&p);
    we_buf_deinit(&z.out);
}

TEST(npz_every_type_is_known)
{
    static const struct {
        const char *descr;
        we_dtype dtype;
    } types[] = {
        { "<f4", WE_F32 }, { "<f2", WE_F16 }, { "<V2", WE_BF16 }, { "|V2", WE_BF16 }, { "<f8", WE_F64 },
        { "|i1", WE_I8 },  { "<u1", WE_U8 },  { ">u1", WE_U8 },   { "<i2", WE_I16 },  { "<u2", WE_U16 },
        { "<i4", WE_I32 }, { "<u4", WE_U32 }, { "<i8", WE_I64 },  { "<u8", WE_U64 },  { "|b1", WE_BOOL },
    };
    for (size_t i = 0; i < WE_COUNT(types); i++) {
        char header[128];
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%zu,), }", types[i].descr,
                 24 / we_dtype_size(types[i].dtype));
        zip z = zip_of(header, (options){ 0 });
        parsed p;
        CHECK_OK(parse(&p, &z), &p.err);
        assert_int_equal(p.weights[0].dtype, types[i].dtype);
        parsed_deinit(&p);
        we_buf_deinit(&z.out);
    }
}

/* An array whose element (i, j, k, ...) is a number that says so, in Fortran order. */
static void check_transposed(const int64_t *shape, int n_dims, const char *descr, size_t size, bool deflated)
{
    size_t n = 1;
    for (int d = 0; d < n_dims; d++) n *= (size_t)shape[d];
    uint8_t *elements = calloc(n, size), *expected = calloc(n, size);
    for (size_t c = 0; c < n; c++) { /* c counts in C order: the last axis fastest */
        size_t rest = c, place = 0, step = n;
        for (int d = n_dims - 1; d >= 0; d--) {
            step /= (size_t)shape[d];
            place += rest % (size_t)shape[d] * step;
            rest /= (size_t)shape[d];
        }
        const uint64_t value = c * 0x9e3779b97f4a7c15U >> 8;
        memcpy(expected + c * size, &value, size);
        memcpy(elements + place * size, &value, size);
    }
    we_buf header = { 0 };
    we_buf_printf(&header, "{'descr': '%s', 'fortran_order': True, 'shape': (", descr);
    for (int d = 0; d < n_dims; d++) we_buf_printf(&header, "%d, ", (int)shape[d]);
    we_buf_append_str(&header, WE_STR("), }"));
    zip z = { 0 };
    zip_add_npy(&z, "x.npy", header.ptr, elements, n * size, (options){ .deflated = deflated });
    zip_end(&z, false, "");
    parsed p;
    CHECK_OK(parse(&p, &z), &p.err);
    assert_int_equal(p.weights[0].bytes, n * size);
    assert_memory_equal(p.weights[0].data, expected, n * size);
    assert_int_equal(p.unpacked, n * size);
    parsed_deinit(&p);
    we_buf_deinit(&z.out);
    we_buf_deinit(&header);
    free(elements);
    free(expected);
}

TEST(npz_transposed_arrays_are_turned)
{
    static const struct {
        int64_t shape[5];
        int n_dims;
    } shapes[] = {
        { { 2, 3 }, 2 },    { { 33, 65 }, 2 },     { { 3, 1, 5 }, 3 },
        { { 4, 3, 5 }, 3 }, { { 2, 3, 4, 5 }, 4 }, { { 2, 3, 2, 4, 3 }, 5 },
    };
    static const struct {
        const char *descr;
        size_t size;
    } types[] = { { "|u1", 1 }, { "<f2", 2 }, { "<u4", 4 }, { "<f8", 8 } };
    for (size_t s = 0; s < WE_COUNT(shapes); s++)
        for (size_t t = 0; t < WE_COUNT(types); t++)
            check_transposed(shapes[s].shape, shapes[s].n_dims, types[t].descr, types[t].size, s % 2);
}

/* ---- What is refused ---- */

TEST(npz_broken_headers_of_arrays_are_told)
{
    static const struct {
        const char *header;
        we_status status;
        const char *message;
    } cases[] = {
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", WE_E_UNSUPPORTED, "big-endian" },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", WE_E_UNSUPPORTED, "numpy type '|O'" },
        { "{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }", WE_E_UNSUPPORTED, "numpy type '<c8'" },
        { "{'descr': '', 'fortran_order': False, 'shape': (3,), }", WE_E_UNSUPPORTED, "numpy type ''" },
        { "{'descr': '|V3', 'fortran_order': False, 'shape': (8,), }", WE_E_UNSUPPORTED, "numpy type '|V3'" },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }", WE_E_FORMAT,
          "24 bytes of elements, which is not the size of F32 [7]" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", WE_E_FORMAT, "not the size of F32 [5]" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", WE_E_FORMAT,
          "not the size" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-6,), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,6), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': 6, }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (6,), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'shape': (6,), }", WE_E_FORMAT, ".npy header" },
        { "{'fortran_order': False, 'shape': (6,), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), } x", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)", WE_E_FORMAT, ".npy header" },
        { "{'descr': '<f4", WE_E_FORMAT, ".npy header" },
        { "", WE_E_FORMAT, ".npy header" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++)
        for (int deflated = 0; deflated < 2; deflated++) {
            zip z = zip_of(cases[i].header, (options){ .deflated = deflated });
            check_fails(&z, cases[i].status, cases[i].message);
        }
}

TEST(npz_members_that_are_no_arrays_are_told)
{
    static const we_str contents[] = {
        { "", 0 },
        { "\x93NUMPY", 6 },
        { "\x93NUMPY\4\0\0\0\0\0{}", 14 },
        { "\x93NUMPY\1\0\xff\xff{}", 12 },
        { "\x93NUMPY\2\0\xff\xff\xff\xff{}", 14 },
        { "PK\3\4 and so on", 14 },
    };
    for (size_t i = 0; i < WE_COUNT(contents); i++) {
        zip z = { 0 };
        zip_add(&z, "x.npy", contents[i], (options){ .deflated = i % 2 });
        zip_end(&z, false, "");
        check_fails(&z, WE_E_FORMAT, "\"x.npy\": its .npy header is broken");
    }
    zip z = { 0 }; /* a header of version 2 is fine */
    we_buf bytes = { 0 };
    we_buf_append(&bytes, "\x93NUMPY\2", 8);
    put(&bytes, strlen(F4_2_3), 4);
    we_buf_append(&bytes, F4_2_3, strlen(F4_2_3));
    we_buf_append(&bytes, matrix, sizeof matrix);
    zip_add(&z, "x.npy", we_buf_str(&bytes), (options){ 0 });
    zip_end(&z, false, "");
    parsed p;
    CHECK_OK(parse(&p, &z), &p.err);
    assert_memory_equal(p.weights[0].data, matrix, sizeof matrix);
    parsed_deinit(&p);
    we_buf_deinit(&bytes);
    we_buf_deinit(&z.out);
}

TEST(npz_members_that_lie_are_told)
{
    static const struct {
        options o;
        we_status status;
        const char *message;
    } cases[] = {
        { { .crc_change = 1 }, WE_E_FORMAT, "its checksum is wrong" },
        { { .crc_change = 1, .deflated = true }, WE_E_FORMAT, "its checksum is wrong" },
        { { .encrypted = true }, WE_E_UNSUPPORTED, "is encrypted" },
        { { .method = 12 }, WE_E_UNSUPPORTED, "zip method 12" },
        { { .method = 8 }, WE_E_FORMAT, "does not unpack to its declared size" },
        { { .other_local_name = true }, WE_E_FORMAT, "another name" },
        { { .offset_change = 1 }, WE_E_FORMAT, "points to a place where no member begins" },
        { { .offset_change = 1U << 30 }, WE_E_FORMAT, "points to a place where no member begins" },
        { { .offset_change = (uint64_t)-1, .mlx = true }, WE_E_FORMAT, "points to a place where no member begins" },
        { { .len_change = 1 }, WE_E_FORMAT, "stored in two sizes" },
        { { .len_change = 1 << 20, .packed_len_change = 1 << 20 }, WE_E_FORMAT, "reaches beyond" },
        { { .len_change = (uint64_t)-1 << 32, .packed_len_change = 1, .mlx = true },
          WE_E_FORMAT,
          "stored in two sizes" },
        { { .len_change = 1, .deflated = true }, WE_E_FORMAT, "does not unpack to its declared size" },
        { { .len_change = (uint64_t)-1, .deflated = true }, WE_E_FORMAT, "does not unpack to its declared size" },
        { { .packed_len_change = (uint64_t)-1, .deflated = true },
          WE_E_FORMAT,
          "does not unpack to its declared size" },
        { { .len_change = 1 << 20, .deflated = true }, WE_E_FORMAT, "claims to unpack to more than zip can hold" },
        { { .len_change = 1ULL << 62, .deflated = true, .mlx = true }, WE_E_FORMAT, "claims to unpack" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        zip z = zip_of(F4_2_3, cases[i].o);
        check_fails(&z, cases[i].status, cases[i].message);
    }
}

TEST(npz_that_unpacks_to_too_much_is_refused)
{
    static const char zeros[200000];
    zip z = { 0 };
    const char *header = "{'descr': '|u1', 'fortran_order': False, 'shape': (200000,), }";
    zip_add_npy(&z, "x.npy", header, zeros, sizeof zeros, (options){ .deflated = true });
    zip_add_npy(&z, "y.npy", header, zeros, sizeof zeros, (options){ .deflated = true });
    zip_end(&z, false, "");
    parsed p;
    CHECK_STATUS(parse_within(&p, z.out.ptr, z.out.len, 300000), WE_E_FORMAT, &p.err);
    EXPECT_MESSAGE(&p.err, "\"y.npy\" unpacks to 200");
    parsed_deinit(&p);
    CHECK_OK(parse_within(&p, z.out.ptr, z.out.len, 500000), &p.err);
    parsed_deinit(&p);
    we_buf_deinit(&z.out);

    z = zip_of("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", (options){ 0 });
    CHECK_STATUS(parse_within(&p, z.out.ptr, z.out.len, 23), WE_E_FORMAT, &p.err);
    parsed_deinit(&p);
    CHECK_OK(parse_within(&p, z.out.ptr, z.out.len, 24), &p.err);
    parsed_deinit(&p);
    we_buf_deinit(&z.out);
}

TEST(npz_members_that_share_bytes_are_refused)
{
    zip z = { 0 };
    zip_add_npy(&z, "x.npy", F4_2_3, matrix, sizeof matrix, (options){ 0 });
    we_buf twice = { 0 }; /* the same member once more in the directory */
    we_buf_append_str(&twice, we_buf_str(&z.central));
    we_buf_append_str(&z.central, we_buf_str(&twice));
    we_buf_deinit(&twice);
    z.n = 2;
    zip_end(&z, false, "");
    check_fails(&z, WE_E_FORMAT, "shares bytes with another member");

    z = (zip){ .n = 1 };
    zip_end(&z, false, "");
    check_fails(&z, WE_E_FORMAT, "another number of members");
}

TEST(npz_names_that_hold_a_nul_are_refused)
{
    zip z = { 0 };
    zip_add_npy(&z, "x.npy", F4_2_3, matrix, sizeof matrix, (options){ 0 });
    z.out.ptr[30] = z.central.ptr[46] = '\0';
    zip_end(&z, false, "");
    check_fails(&z, WE_E_FORMAT, "holds a NUL");
}

TEST(npz_that_is_no_archive_is_told)
{
    static const we_str texts[] = { { "", 0 }, { "PK\5\6", 4 }, { "<!DOCTYPE html><html>not found</html>", 37 } };
    for (size_t i = 0; i < WE_COUNT(texts); i++) {
        parsed p;
        CHECK_STATUS(parse_within(&p, texts[i].ptr, texts[i].len, LIMIT), WE_E_FORMAT, &p.err);
        EXPECT_MESSAGE(&p.err, "not a zip archive, or cut short");
        EXPECT_MESSAGE(&p.err, "download it again");
        parsed_deinit(&p);
    }
}

TEST(npz_cut_anywhere_is_refused)
{
    for (int mlx = 0; mlx < 2; mlx++) {
        zip z = every_kind(mlx);
        for (size_t len = 0; len < z.out.len; len++) {
            parsed p;
            CHECK_STATUS(parse_within(&p, z.out.ptr, len, LIMIT), WE_E_FORMAT, &p.err);
            parsed_deinit(&p);
        }
        we_buf_deinit(&z.out);
    }
}

/* A changed byte is noticed, or changes nothing that counts: a time stamp, a comment, the archive's name for a note. */
TEST(npz_any_changed_byte_is_noticed)
{
    static const uint8_t changes[] = { 0xFF, 0x80, 0x01, 0x10, 0x08 };
    for (int mlx = 0; mlx < 2; mlx++) {
        zip z = every_kind(mlx);
        for (size_t i = 0; i < z.out.len; i++)
            for (size_t c = 0; c < WE_COUNT(changes); c++) {
                parsed p;
                z.out.ptr[i] = (char)(z.out.ptr[i] ^ changes[c]);
                if (parse(&p, &z) == WE_OK)
                    check_every_kind(&p);
                else
                    assert_true(p.err.message[0]);
                parsed_deinit(&p);
                z.out.ptr[i] = (char)(z.out.ptr[i] ^ changes[c]);
            }
        we_buf_deinit(&z.out);
    }
}

TEST(npz_out_of_memory_is_told)
{
    zip z = every_kind(true);
    parsed p;
    we_status st = WE_OK;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = parse(&p, &z);
        if (st) assert_int_equal(st, WE_E_NOMEM);
        parsed_deinit(&p);
    }
    we_buf_deinit(&z.out);
}
