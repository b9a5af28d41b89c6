/* SPDX-License-Identifier: Apache-2.0
 * test_format_gguf.c - GGUF files, whole, split, and broken in every way: metadata of all types, tensors, messages. */
#include "support.h"

#include "format/format.h"

#include <stdlib.h>

/* ---- A writer ---- */

static void put(we_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++, v >>= 8) we_buf_append_char(b, (char)v);
}
static void put_str(we_buf *b, const char *s)
{
    put(b, strlen(s), 8);
    we_buf_append(b, s, strlen(s));
}
static void put_head(we_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_values)
{
    we_buf_append(b, "GGUF", 4);
    put(b, version, 4);
    put(b, n_tensors, 8);
    put(b, n_values, 8);
}
static void put_key(we_buf *b, const char *key, we_gguf_type type)
{
    put_str(b, key);
    put(b, type, 4);
}
static void put_u32(we_buf *b, const char *key, uint32_t v)
{
    put_key(b, key, WE_GGUF_U32);
    put(b, v, 4);
}
static void put_tensor(we_buf *b, const char *name, int n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    put_str(b, name);
    put(b, (uint64_t)n_dims, 4);
    for (int i = 0; i < n_dims; i++) put(b, dims[i], 8);
    put(b, type, 4);
    put(b, offset, 8);
}
static void put_data(we_buf *b, size_t alignment, size_t len)
{
    while (b->len % alignment) we_buf_append_char(b, 0);
    for (size_t i = 0; i < len; i++) we_buf_append_char(b, (char)i);
}

typedef struct parsed {
    we_arena arena;
    we_gguf gguf;
    we_weight *weights;
    size_t n;
    we_error err;
    uint8_t *bytes; /* of exactly the file's size, so that the sanitizers see a read behind it */
} parsed;

static we_status parse(parsed *p, const we_buf *b, size_t len)
{
    *p = (parsed){ .bytes = malloc(len ? len : 1) };
    if (len) memcpy(p->bytes, b->ptr, len);
    return we_gguf_parse(&p->arena, (we_str){ (char *)p->bytes, len }, "m.gguf", &p->gguf, &p->weights, &p->n, &p->err);
}

static void parsed_free(parsed *p)
{
    we_arena_deinit(&p->arena);
    free(p->bytes);
}

static void check_fails(we_buf *b, we_status status, const char *message)
{
    parsed p;
    CHECK_STATUS(parse(&p, b, b->len), status, &p.err);
    EXPECT_MESSAGE(&p.err, "m.gguf");
    EXPECT_MESSAGE(&p.err, message);
    assert_int_equal(p.n, 0);
    assert_int_equal(p.gguf.n_values, 0);
    parsed_free(&p);
    we_buf_deinit(b);
}

/* ---- What holds ---- */

static void put_good(we_buf *b)
{
    put_head(b, 3, 3, 16);
    put_key(b, "b.u8", WE_GGUF_U8), put(b, 200, 1);
    put_key(b, "a.i8", WE_GGUF_I8), put(b, 0xff, 1);
    put_key(b, "u16", WE_GGUF_U16), put(b, 65535, 2);
    put_key(b, "i16", WE_GGUF_I16), put(b, 0xfffe, 2);
    put_key(b, "u32", WE_GGUF_U32), put(b, 4000000000u, 4);
    put_key(b, "i32", WE_GGUF_I32), put(b, 0xfffffffd, 4);
    put_key(b, "f32", WE_GGUF_F32), put(b, 0x3fc00000, 4);
    put_key(b, "bool", WE_GGUF_BOOL), put(b, 1, 1);
    put_key(b, "string", WE_GGUF_STRING), put_str(b, "caf\xc3\xa9");
    put_key(b, "u64", WE_GGUF_U64), put(b, UINT64_MAX, 8);
    put_key(b, "i64", WE_GGUF_I64), put(b, (uint64_t)-5, 8);
    put_key(b, "f64", WE_GGUF_F64), put(b, 0x4004000000000000, 8);
    put_key(b, "strings", WE_GGUF_ARRAY), put(b, WE_GGUF_STRING, 4), put(b, 3, 8);
    put_str(b, "x"), put_str(b, ""), put_str(b, "yz");
    put_key(b, "floats", WE_GGUF_ARRAY), put(b, WE_GGUF_F32, 4), put(b, 2, 8);
    put(b, 0x3fc00000, 4), put(b, 0xbf800000, 4);
    put_key(b, "empty", WE_GGUF_ARRAY), put(b, WE_GGUF_I32, 4), put(b, 0, 8);
    put_u32(b, "general.alignment", 64);
    put_tensor(b, "q", 2, (uint64_t[]){ 64, 3 }, 2, 128);  /* Q4_0: 3 rows of 2 blocks of 18 */
    put_tensor(b, "f", 1, (uint64_t[]){ 5 }, 0, 0);        /* F32 */
    put_tensor(b, "scalar", 0, (uint64_t[]){ 0 }, 30, 64); /* BF16 */
    put_data(b, 64, 128 + 108);
}

TEST(gguf_values_and_tensors)
{
    we_buf b = { 0 };
    put_good(&b);
    parsed p;
    CHECK_OK(parse(&p, &b, b.len), &p.err);
    int64_t i;
    double f;
    bool flag;
    we_str s;
    static const struct {
        const char *key;
        int64_t value;
    } whole[] = { { "b.u8", 200 }, { "a.i8", -1 },          { "u16", 65535 }, { "i16", -2 },
                  { "i32", -3 },   { "u32", 4000000000LL }, { "i64", -5 } };
    for (size_t k = 0; k < WE_COUNT(whole); k++) {
        assert_true(we_gguf_i64(we_gguf_get(&p.gguf, whole[k].key), 0, &i));
        assert_int_equal(i, whole[k].value);
        assert_true(we_gguf_f64(we_gguf_get(&p.gguf, whole[k].key), 0, &f));
        assert_true(f == (double)whole[k].value);
    }
    assert_false(we_gguf_i64(we_gguf_get(&p.gguf, "u64"), 0, &i)); /* beyond int64 */
    assert_false(we_gguf_i64(we_gguf_get(&p.gguf, "f32"), 0, &i));
    assert_true(we_gguf_f64(we_gguf_get(&p.gguf, "f32"), 0, &f) && f == 1.5);
    assert_true(we_gguf_f64(we_gguf_get(&p.gguf, "f64"), 0, &f) && f == 2.5);
    assert_true(we_gguf_f64(we_gguf_get(&p.gguf, "floats"), 1, &f) && f == -1);
    assert_false(we_gguf_f64(we_gguf_get(&p.gguf, "floats"), 2, &f));
    assert_true(we_gguf_bool(we_gguf_get(&p.gguf, "bool"), &flag) && flag);
    assert_false(we_gguf_bool(we_gguf_get(&p.gguf, "u32"), &flag));
    assert_true(we_gguf_str(we_gguf_get(&p.gguf, "string"), &s));
    CHECK_STR(s, "caf\xc3\xa9");
    assert_false(we_gguf_str(we_gguf_get(&p.gguf, "strings"), &s));
    assert_null(we_gguf_get(&p.gguf, "no.such"));
    assert_false(we_gguf_i64(NULL, 0, &i) || we_gguf_f64(NULL, 0, &f) || we_gguf_bool(NULL, &flag));

    size_t at = 0;
    const we_gguf_value *strings = we_gguf_get(&p.gguf, "strings");
    static const char *const expected[] = { "x", "", "yz" };
    for (int k = 0; k < 3; k++) {
        assert_true(we_gguf_next_str(strings, &at, &s));
        CHECK_STR(s, expected[k]);
    }
    assert_false(we_gguf_next_str(strings, &at, &s));

    char shown[96];
    assert_string_equal(we_gguf_shown(strings, shown), "an array of 3 string");
    assert_string_equal(we_gguf_shown(we_gguf_get(&p.gguf, "i32"), shown), "-3 (int32)");
    assert_string_equal(we_gguf_shown(NULL, shown), "missing");

    assert_int_equal(p.n, 3); /* in order of place; shapes outermost first */
    assert_string_equal(p.weights[0].name, "f");
    assert_int_equal(p.weights[0].dtype, WE_F32);
    assert_int_equal(p.weights[0].bytes, 20);
    assert_string_equal(p.weights[1].name, "scalar");
    assert_int_equal(p.weights[1].bytes, 2);
    assert_int_equal(p.weights[1].n_dims, 0);
    assert_string_equal(p.weights[2].name, "q");
    assert_int_equal(p.weights[2].dtype, WE_GGML_Q4_0);
    assert_int_equal(p.weights[2].shape[0], 3);
    assert_int_equal(p.weights[2].shape[1], 64);
    assert_int_equal(p.weights[2].bytes, 108);
    assert_int_equal(p.weights[2].data[0], 128);
    parsed_free(&p);
    we_buf_deinit(&b);
}

TEST(gguf_cut_anywhere_is_refused)
{
    we_buf b = { 0 };
    put_good(&b);
    for (size_t len = 0; len < b.len; len++) {
        parsed p;
        assert_int_not_equal(parse(&p, &b, len), WE_OK);
        assert_true(p.err.message[0]);
        parsed_free(&p);
    }
    we_buf_deinit(&b);
}

TEST(gguf_headers_that_lie)
{
    we_buf b = { 0 };
    we_buf_append(&b, "GGML....", 8);
    check_fails(&b, WE_E_FORMAT, "does not begin with \"GGUF\"");
    put_head(&b, 1, 0, 0);
    check_fails(&b, WE_E_UNSUPPORTED, "GGUF version 1");
    put_head(&b, 3u << 24, 0, 0);
    check_fails(&b, WE_E_UNSUPPORTED, "big-endian");
    put_head(&b, 3, 0, UINT64_MAX);
    check_fails(&b, WE_E_FORMAT, "counts 18446744073709551615 keys");
    put_head(&b, 3, UINT64_MAX, 0);
    check_fails(&b, WE_E_FORMAT, "counts 18446744073709551615 tensors");
    put_head(&b, 3, 0, 1), put(&b, UINT64_MAX, 8), put(&b, 0, 64);
    check_fails(&b, WE_E_FORMAT, "a string of 18446744073709551615 bytes");
}

TEST(gguf_values_that_lie)
{
    we_buf b = { 0 };
    put_head(&b, 3, 0, 1), put_key(&b, "k", (we_gguf_type)13), put(&b, 0, 8);
    check_fails(&b, WE_E_FORMAT, "key k has type 13");
    put_head(&b, 3, 0, 1), put_key(&b, "k", WE_GGUF_ARRAY), put(&b, WE_GGUF_ARRAY, 4), put(&b, 0, 8);
    check_fails(&b, WE_E_UNSUPPORTED, "key k is an array of arrays");
    put_head(&b, 3, 0, 1), put_key(&b, "k", WE_GGUF_ARRAY), put(&b, WE_GGUF_U64, 4), put(&b, UINT64_MAX / 8 + 2, 8);
    put(&b, 0, 16);
    check_fails(&b, WE_E_FORMAT, "key k counts 2305843009213693953 elements");
    put_head(&b, 3, 0, 2), put_u32(&b, "k", 1), put_u32(&b, "k", 2);
    check_fails(&b, WE_E_FORMAT, "has key k twice");
    put_head(&b, 3, 0, 1), put_u32(&b, "general.alignment", 48);
    check_fails(&b, WE_E_FORMAT, "general.alignment is 48 (uint32), expected a power of two");
    put_head(&b, 3, 0, 1), put_u32(&b, "general.alignment", 0);
    check_fails(&b, WE_E_FORMAT, "general.alignment is 0");
    put_head(&b, 3, 0, 1), put(&b, 0, 8), put(&b, 0, 8);
    check_fails(&b, WE_E_FORMAT, "a name of 0 bytes");
    put_head(&b, 3, 0, 1), put(&b, 2, 8), we_buf_append(&b, "k\0", 2), put(&b, 0, 8);
    check_fails(&b, WE_E_FORMAT, "holds a NUL");
}

static void one_tensor(we_buf *b, int n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    put_head(b, 3, 1, 0);
    put_tensor(b, "t", n_dims, dims, type, offset);
    put_data(b, 32, 64);
}

TEST(gguf_tensors_that_lie)
{
    we_buf b = { 0 };
    one_tensor(&b, 2, (uint64_t[]){ 4, 5 }, 0, 0);
    check_fails(&b, WE_E_FORMAT, "tensor \"t\" takes 80 bytes from 0 of the data on, but the file holds 64");
    one_tensor(&b, 1, (uint64_t[]){ 4 }, 0, UINT64_MAX - 31);
    check_fails(&b, WE_E_FORMAT, "but the file holds 64");
    one_tensor(&b, 1, (uint64_t[]){ 4 }, 0, 8);
    check_fails(&b, WE_E_FORMAT, "lies at 8, which is no multiple of the alignment 32");
    one_tensor(&b, 2, (uint64_t[]){ UINT64_C(1) << 40, UINT64_C(1) << 40 }, 0, 0);
    check_fails(&b, WE_E_FORMAT, "larger than any memory");
    one_tensor(&b, 1, (uint64_t[]){ UINT64_MAX }, 0, 0);
    check_fails(&b, WE_E_FORMAT, "has a dimension of 18446744073709551615");
    one_tensor(&b, 2, (uint64_t[]){ 4, 0 }, 0, 0);
    check_fails(&b, WE_E_FORMAT, "has a dimension of 0");
    one_tensor(&b, 5, (uint64_t[]){ 1, 1, 1, 1, 1 }, 0, 0);
    check_fails(&b, WE_E_FORMAT, "has 5 dimensions");
    one_tensor(&b, 1, (uint64_t[]){ 40 }, 2, 0);
    check_fails(&b, WE_E_FORMAT, "its rows are no multiple of 32");
    one_tensor(&b, 1, (uint64_t[]){ 256 }, 16, 0);
    check_fails(&b, WE_E_UNSUPPORTED, "tensor \"t\" has type IQ2_XXS");
    one_tensor(&b, 1, (uint64_t[]){ 256 }, 1000, 0);
    check_fails(&b, WE_E_UNSUPPORTED, "ggml type 1000");
    put_head(&b, 3, 2, 0);
    put_tensor(&b, "t", 1, (uint64_t[]){ 9 }, 0, 0);
    put_tensor(&b, "u", 1, (uint64_t[]){ 4 }, 0, 32);
    put_data(&b, 32, 64);
    check_fails(&b, WE_E_FORMAT, "tensors \"t\" and \"u\" overlap by 4 bytes");
}

/* ---- Files ---- */

static const char *write_part(const char *name, const char *tensor, int number, int count)
{
    we_buf b = { 0 };
    put_head(&b, 3, tensor ? 1 : 0, 3);
    put_key(&b, "split.no", WE_GGUF_U16), put(&b, (uint64_t)number, 2);
    put_key(&b, "split.count", WE_GGUF_U16), put(&b, (uint64_t)count, 2);
    put_u32(&b, number ? "later" : "first", 7);
    if (tensor) put_tensor(&b, tensor, 1, (uint64_t[]){ 4 }, 0, 0);
    put_data(&b, 32, 16);
    const char *path = test_write(name, b.ptr, b.len);
    we_buf_deinit(&b);
    return path;
}

TEST(gguf_parts_are_joined)
{
    static const char *const names[] = { "m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf" };
    const char *paths[3];
    we_weights *w;
    we_error err;
    for (int i = 0; i < 2; i++) paths[i] = write_part(names[i], i ? "b" : NULL, i, 3);
    CHECK_STATUS(we_weights_open(&w, paths[0], &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "m-00003-of-00003.gguf is missing");
    paths[2] = write_part(names[2], "a", 2, 3);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(we_weights_open(&w, paths[i], &err), &err);
        assert_int_equal(we_weights_count(w), 2);
        assert_string_equal(we_weights_find(w, "a")->file, names[2]);
        assert_string_equal(we_weights_find(w, "b")->file, names[1]);
        assert_non_null(we_gguf_get(we_weights_gguf(w), "first"));
        assert_null(we_gguf_get(we_weights_gguf(w), "later"));
        we_weights_close(w);
    }
    CHECK_STATUS(we_weights_open(&w, write_part("other.gguf", "a", 1, 3), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "its name does not end in -00002-of-00003.gguf");
    CHECK_STATUS(we_weights_open(&w, write_part("m-00005-of-00003.gguf", "a", 5, 3), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "split.no is 5 (uint16), expected 0 to 2");
    write_part(names[2], "b", 2, 3);
    CHECK_STATUS(we_weights_open(&w, paths[0], &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "tensor \"b\" is both in");
}

TEST(gguf_files_are_told_apart)
{
    we_buf b = { 0 };
    we_weights *w;
    we_error err;
    put_head(&b, 3, 1, 0);
    put_tensor(&b, "t", 1, (uint64_t[]){ 4 }, 0, 0);
    put_data(&b, 32, 16);
    const char *blob = test_write("sha256-0123", b.ptr, b.len); /* as Ollama names them */
    assert_true(we_is_gguf(blob));
    assert_false(we_is_gguf(test_dir()));
    assert_false(we_is_gguf(test_path("no.gguf")));
    assert_false(we_is_gguf(test_write("text", "hello", 5)));
    CHECK_OK(we_weights_open(&w, blob, &err), &err);
    assert_int_equal(we_weights_count(w), 1);
    we_weights_close(w);
    const we_str pointer = WE_STR("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n");
    CHECK_STATUS(we_weights_open(&w, test_write("p.gguf", pointer.ptr, pointer.len), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "git lfs pull");
    CHECK_STATUS(we_weights_open(&w, test_write("e.gguf", "", 0), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "is empty");
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = we_weights_open(&w, blob, &err);
        if (!st) we_weights_close(w);
    }
    we_buf_deinit(&b);
}
