/* SPDX-License-Identifier: Apache-2.0
 * test_quant_ggml.c - ggml's block types, bit for bit as its own code dequantizes them. The expected values:
 * fixtures/ggml/blocks.bin, made by make.py beside it. */
#include "support.h"

#include "quant/quant.h"

typedef struct record {
    const char *name;
    uint32_t cols, bytes;
    const uint8_t *data, *values;
} record;

/* The record at *at; false at the end. */
static bool next_record(we_str file, size_t *at, record *out)
{
    if (*at == file.len) return false;
    const uint8_t *p = (const uint8_t *)file.ptr + *at;
    out->name = (const char *)p;
    memcpy(&out->cols, p + 8, 4);
    memcpy(&out->bytes, p + 12, 4);
    out->data = p + 16;
    out->values = out->data + out->bytes;
    *at += 16 + out->bytes + 4 * (size_t)out->cols;
    assert_true(*at <= file.len);
    return true;
}

static we_dtype dtype_of(const char *name)
{
    for (int t = WE_GGML_Q4_0; t < WE_DTYPE_COUNT; t++)
        if (strcmp(we_dtype_name((we_dtype)t), name) == 0) return (we_dtype)t;
    fail_msg("no type %s", name);
    return WE_F32;
}

TEST(ggml_rows_have_the_same_bits_as_ggmls)
{
    const we_str file = test_read_fixture("ggml/blocks.bin");
    record r;
    int n_types = 0;
    for (size_t at = 0; next_record(file, &at, &r); n_types++) {
        const we_dtype dtype = dtype_of(r.name);
        /* twice the row, so that the second row's place is right too; at an odd address */
        uint8_t bytes[1 + 2 * 512];
        float out[256];
        memcpy(bytes + 1, r.data, r.bytes);
        memcpy(bytes + 1 + r.bytes, r.data, r.bytes);
        const we_matrix m = { .rows = 2,
                              .cols = r.cols,
                              .quant = { WE_QUANT_GGML, 0, we_dtype_block(dtype) },
                              .dtype = dtype,
                              .data = bytes + 1 };
        assert_int_equal(we_matrix_row_bytes(&m), r.bytes);
        assert_int_equal(we_matrix_bytes(&m), 2 * r.bytes);
        for (int row = 0; row < 2; row++) {
            we_matrix_row_f32(&m, row, out);
            assert_memory_equal(out, r.values, sizeof out);
        }
        const we_matrix second = we_matrix_rows(&m, 1, 1);
        we_matrix_row_f32(&second, 0, out);
        assert_memory_equal(out, r.values, sizeof out);
    }
    assert_int_equal(n_types, WE_DTYPE_COUNT - WE_GGML_Q4_0);
}

TEST(ggml_modes_are_no_configurations)
{
    we_quant_mode mode;
    assert_false(we_quant_mode_parse(WE_STR("ggml"), &mode));
    assert_false(we_quant_valid((we_quant){ WE_QUANT_GGML, 4, 32 }));
    assert_string_equal(we_quant_mode_name(WE_QUANT_GGML), "ggml");
}
