/* SPDX-License-Identifier: Apache-2.0
 * test_format_safetensors.c - one safetensors file, whole and broken in every way. Folders: test_format_weights.c. */
#include "support.h"

#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>

/* A file in a block of exactly its size, so that the sanitizers see a read behind it. */
typedef struct blob {
    uint8_t *bytes;
    size_t len;
} blob;

static blob blob_of(const void *bytes, size_t len)
{
    blob b = { malloc(len ? len : 1), len };
    if (len) memcpy(b.bytes, bytes, len);
    return b;
}

/* Header and `data_len` bytes of data: 0, 1, 2, ... */
static blob file_of(we_str header, size_t data_len)
{
    blob b = { malloc(8 + header.len + data_len), 8 + header.len + data_len };
    for (int i = 0; i < 8; i++) b.bytes[i] = (uint8_t)(header.len >> (8 * i));
    memcpy(b.bytes + 8, header.ptr, header.len);
    for (size_t i = 0; i < data_len; i++) b.bytes[8 + header.len + i] = (uint8_t)i;
    return b;
}

typedef struct parsed {
    we_arena arena;
    we_weight *weights;
    size_t n;
    we_error err;
} parsed;

static we_status parse(parsed *p, blob b)
{
    memset(p, 0, sizeof(*p));
    return we_safetensors_parse(&p->arena, (we_str){ (char *)b.bytes, b.len }, "m.safetensors", &p->weights, &p->n,
                                &p->err);
}

/* Every byte of every tensor, so that the sanitizers see a pointer astray. */
static unsigned sum(const parsed *p)
{
    unsigned total = 0;
    for (size_t i = 0; i < p->n; i++) {
        total += (unsigned)strlen(p->weights[i].name);
        for (size_t k = 0; k < p->weights[i].bytes; k++) total += p->weights[i].data[k];
    }
    return total;
}

static void check_fails(we_str header, size_t data_len, we_status status, const char *message)
{
    parsed p;
    blob b = file_of(header, data_len);
    CHECK_STATUS(parse(&p, b), status, &p.err);
    EXPECT_MESSAGE(&p.err, "m.safetensors");
    EXPECT_MESSAGE(&p.err, message);
    assert_null(p.weights);
    assert_int_equal(p.n, 0);
    we_arena_deinit(&p.arena);
    free(b.bytes);
}

#define GOOD_HEADER                                                                               \
    "{\"__metadata__\":{\"format\":\"mlx\"},"                                                     \
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"                         \
    "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},"                       \
    "\"a.scalar\":{\"data_offsets\":[0,4],\"shape\":[],\"later\":{\"x\":[1]},\"dtype\":\"F32\"}," \
    "\"c\\u00e9\":{\"dtype\":\"U8\",\"shape\":[1,1,1],\"data_offsets\":[16,17]}}   \n"

TEST(safetensors_tensors_come_in_order_of_offset)
{
    parsed p;
    blob b = file_of(WE_STR(GOOD_HEADER), 17);
    CHECK_OK(parse(&p, b), &p.err);
    const uint8_t *data = b.bytes + 8 + strlen(GOOD_HEADER);
    static const struct {
        const char *name;
        we_dtype dtype;
        int n_dims;
        size_t offset, bytes;
    } expected[] = {
        { "a.scalar", WE_F32, 0, 0, 4 },
        { "empty", WE_F32, 2, 4, 0 },
        { "b", WE_BF16, 2, 4, 12 },
        { "c\xc3\xa9", WE_U8, 3, 16, 1 },
    };
    assert_int_equal(p.n, WE_COUNT(expected));
    for (size_t i = 0; i < p.n; i++) {
        const we_weight *w = &p.weights[i];
        assert_string_equal(w->name, expected[i].name);
        assert_string_equal(w->file, "m.safetensors");
        assert_int_equal(w->dtype, expected[i].dtype);
        assert_int_equal(w->n_dims, expected[i].n_dims);
        assert_ptr_equal(w->data, data + expected[i].offset);
        assert_int_equal(w->bytes, expected[i].bytes);
    }
    assert_int_equal(p.weights[2].shape[0], 2);
    assert_int_equal(p.weights[2].shape[1], 3);
    we_arena_deinit(&p.arena);
    free(b.bytes);
}

TEST(safetensors_every_dtype_has_its_size)
{
    assert_int_equal(we_dtype_size(WE_F64), 8);
    for (int d = 0; d < WE_GGML_Q4_0; d++) { /* ggml's are GGUF's alone */
        char header[128];
        const int len =
            snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                     we_dtype_name((we_dtype)d), 3 * we_dtype_size((we_dtype)d));
        blob b = file_of((we_str){ header, (size_t)len }, 3 * we_dtype_size((we_dtype)d));
        parsed p;
        CHECK_OK(parse(&p, b), &p.err);
        assert_int_equal(p.weights[0].dtype, d);
        we_arena_deinit(&p.arena);
        free(b.bytes);
    }
}

TEST(safetensors_no_tensors_is_a_file)
{
    parsed p;
    blob b = file_of(WE_STR("{}"), 0);
    CHECK_OK(parse(&p, b), &p.err);
    assert_int_equal(p.n, 0);
    we_arena_deinit(&p.arena);
    free(b.bytes);
}

TEST(safetensors_broken_length_is_told)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *message;
    } cases[] = {
        { "", 0, "too few" },
        { "\1\0\0\0\0\0\0", 7, "too few" },
        { "\0\0\0\0\0\0\0\0", 8, "does not begin with '{'" },
        { "\3\0\0\0\0\0\0\0{}", 10, "takes 3 bytes, but the file has only 2" },
        { "\377\377\377\377\377\377\377\377{}", 10, "header length of 18446744073709551615" },
        { "\001\341\365\005\0\0\0\0{}", 10, "at most 100000000" },
        { "<!DOCTYPE html>", 15, "not a safetensors file" },
        { "\2\0\0\0\0\0\0\0[]", 10, "does not begin with '{'" },
        { "\2\0\0\0\0\0\0\0 {}", 11, "does not begin with '{'" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        parsed p;
        blob b = blob_of(cases[i].bytes, cases[i].len);
        CHECK_STATUS(parse(&p, b), WE_E_FORMAT, &p.err);
        EXPECT_MESSAGE(&p.err, cases[i].message);
        EXPECT_MESSAGE(&p.err, "download it again");
        we_arena_deinit(&p.arena);
        free(b.bytes);
    }
}

/* One tensor "x" with these three members. */
#define X(dtype, shape, offsets) \
    WE_STR("{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}")

TEST(safetensors_broken_headers_are_told)
{
    const struct {
        we_str header;
        size_t data_len;
        const char *message;
    } cases[] = {
        { WE_STR("{"), 0, "not valid JSON" },
        { WE_STR("{} {}"), 0, "not valid JSON" },
        { WE_STR("{\"x\":"), 0, "not valid JSON" },
        { WE_STR("{\"x\":{\"dtype\":"), 0, "not valid JSON" },
        { WE_STR("{\"x\":{\"shape\":[1"), 0, "not valid JSON" },
        { WE_STR("{\"__metadata__\":{"), 0, "not valid JSON" },
        { WE_STR("{\"\xff\":1}"), 0, "not valid JSON" },
        { WE_STR("{\"x\":1}"), 0, "tensor \"x\": expected an object" },
        { WE_STR("{\"x\":{}}"), 0, "expected \"dtype\"" },
        { WE_STR("{\"x\":{\"dtype\":\"F32\"}}"), 0, "expected \"shape\"" },
        { WE_STR("{\"x\":{\"dtype\":\"F32\",\"shape\":[]}}"), 4, "two \"data_offsets\"" },
        { X("7", "[1]", "[0,4]"), 4, "\"dtype\" as a string" },
        { X("\"F32\"", "1", "[0,4]"), 4, "\"shape\" as a list" },
        { X("\"F32\"", "[-1]", "[0,4]"), 4, "\"shape\" as a list" },
        { X("\"F32\"", "[1.5]", "[0,4]"), 4, "\"shape\" as a list" },
        { X("\"F32\"", "[[1]]", "[0,4]"), 4, "\"shape\" as a list" },
        { X("\"F32\"", "[\"1\"]", "[0,4]"), 4, "\"shape\" as a list" },
        { X("\"F32\"", "[99999999999999999999]", "[0,4]"), 4, "\"shape\" as a list" },
        { X("\"F32\"", "[1]", "[0]"), 4, "two \"data_offsets\"" },
        { X("\"F32\"", "[1]", "[0,4,8]"), 4, "two \"data_offsets\"" },
        { X("\"F32\"", "[1]", "[-4,0]"), 4, "\"data_offsets\" as two" },
        { X("\"F32\"", "[1]", "{}"), 4, "\"data_offsets\" as two" },
        { X("\"F32\"", "[1]", "[4,0]"), 4, "before it begins" },
        { X("\"F32\"", "[1]", "[0,4]"), 3, "ends at byte 4 of the data, but the file holds 3" },
        { X("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4, "but the file holds 4" },
        { X("\"F32\"", "[2]", "[0,4]"), 4, "takes 4 bytes, but F32 [2] needs 8" },
        { X("\"F32\"", "[]", "[0,8]"), 8, "takes 8 bytes, but F32 [] needs 4" },
        { X("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, "larger than any memory" },
        { X("\"F32\"", "[2305843009213693952]", "[0,0]"), 0, "larger than any memory" },
        { X("\"F32\"", "[1]", "[4,8]"), 8, "4 bytes before tensor \"x\" belong to no tensor" },
        { X("\"F32\"", "[1]", "[0,4]"), 5, "1 bytes behind the last tensor" },
        { WE_STR("{}"), 1, "1 bytes behind the last tensor" },
        { WE_STR("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                 "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}"),
          6, "\"x\" and \"y\" overlap by 2 bytes" },
        { WE_STR("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                 "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"),
          4, "overlap by 4 bytes" },
        { WE_STR("{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                 "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[6,10]}}"),
          10, "2 bytes before tensor \"y\"" },
        { WE_STR("{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"), 0, "holds a NUL" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++)
        check_fails(cases[i].header, cases[i].data_len, WE_E_FORMAT, cases[i].message);
    check_fails(X("\"F4\"", "[2]", "[0,1]"), 1, WE_E_UNSUPPORTED, "dtype F4");
    check_fails(X("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, WE_E_UNSUPPORTED, "more than 8 dimensions");
}

TEST(safetensors_cut_anywhere_is_refused)
{
    blob whole = file_of(WE_STR(GOOD_HEADER), 17);
    for (size_t len = 0; len < whole.len; len++) {
        parsed p;
        blob b = blob_of(whole.bytes, len);
        CHECK_STATUS(parse(&p, b), WE_E_FORMAT, &p.err);
        EXPECT_MESSAGE(&p.err, "download it again");
        we_arena_deinit(&p.arena);
        free(b.bytes);
    }
    free(whole.bytes);
}

TEST(safetensors_any_changed_byte_does_no_harm)
{
    static const uint8_t changes[] = { 0xFF, 0x80, 0x01, 0x10, 0x02 };
    blob b = file_of(WE_STR(GOOD_HEADER), 17);
    for (size_t i = 0; i < b.len; i++)
        for (size_t c = 0; c < WE_COUNT(changes); c++) {
            parsed p;
            b.bytes[i] ^= changes[c];
            if (parse(&p, b) == WE_OK)
                assert_true(sum(&p) < 1 << 20);
            else
                assert_true(p.err.message[0]);
            we_arena_deinit(&p.arena);
            b.bytes[i] ^= changes[c];
        }
    free(b.bytes);
}

TEST(safetensors_names_that_would_drive_a_terminal_are_escaped)
{
    check_fails(WE_STR("{\"\\u001b[2J\":1}"), 0, WE_E_FORMAT, "\\x1b[2J");
}

TEST(safetensors_out_of_memory_is_told)
{
    blob b = file_of(WE_STR(GOOD_HEADER), 17);
    parsed p;
    we_status st = WE_OK;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = parse(&p, b);
        if (st) assert_int_equal(st, WE_E_NOMEM);
        we_arena_deinit(&p.arena);
    }
    free(b.bytes);
}
