/* SPDX-License-Identifier: Apache-2.0
 * test_quant_mlx.c - quantize and dequantize, bit for bit as MLX on a CPU, in all 21 settings and three types.
 * The expected bytes: fixtures/quant/, made by make.py beside them. */
#include "support.h"

#include "quant/quant.h"

#include <stdio.h>

typedef struct fixture {
    we_arena arena;
    we_weight *weights;
    size_t n;
    we_dtype dtype;
    const char *file;
} fixture;

static fixture fixture_open(const char *file, we_dtype dtype)
{
    fixture f = { .dtype = dtype, .file = file };
    we_error err;
    CHECK_OK(we_safetensors_parse(&f.arena, test_read_fixture(file), file, &f.weights, &f.n, &err), &err);
    return f;
}

static const we_weight *part(const fixture *f, const char *setting, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s%s", setting, *setting ? "." : "", what);
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->weights[i].name, name) == 0) return &f->weights[i];
    fail_msg("%s has no %s", f->file, name);
    return NULL;
}

/* Our bytes of one row against theirs. */
static void check_row(const fixture *f, const char *setting, const char *what, int64_t row, const void *got, size_t len)
{
    const uint8_t *want = part(f, setting, what)->data + (size_t)row * len;
    for (size_t i = 0; i < len; i++)
        if (((const uint8_t *)got)[i] != want[i])
            fail_msg("%s, %s.%s: row %lld differs in byte %zu of %zu: got %02x, expected %02x", f->file, setting, what,
                     (long long)row, i, len, ((const uint8_t *)got)[i], want[i]);
}

static void check_setting(const fixture *f, we_quant quant)
{
    enum { COLS = 128 };
    char setting[32];
    snprintf(setting, sizeof setting, "%s.%d.%d", we_quant_mode_name(quant.mode), quant.bits, quant.group_size);
    const bool affine = quant.mode == WE_QUANT_AFFINE;
    const we_weight *input = part(f, "", "input");
    assert_int_equal(input->dtype, f->dtype);
    assert_int_equal(input->shape[1], COLS);
    const we_matrix m = { input->shape[0],
                          COLS,
                          quant,
                          f->dtype,
                          part(f, setting, "weight")->data,
                          part(f, setting, "scales")->data,
                          affine ? part(f, setting, "biases")->data : NULL };
    const we_matrix plain = { .rows = m.rows, .cols = COLS, .dtype = f->dtype, .data = input->data };
    for (int64_t row = 0; row < m.rows; row++) {
        float values[COLS];
        uint8_t data[COLS], scales[4 * COLS / 16], biases[4 * COLS / 16];
        we_matrix_row_f32(&m, row, values);
        check_row(f, setting, "values", row, values, sizeof values);
        we_matrix_row_f32(&plain, row, values);
        we_quant_row(quant, f->dtype, values, COLS, data, scales, affine ? biases : NULL);
        check_row(f, setting, "weight", row, data, we_matrix_row_bytes(&m));
        check_row(f, setting, "scales", row, scales, we_matrix_row_scale_bytes(&m));
        if (affine) check_row(f, setting, "biases", row, biases, we_matrix_row_scale_bytes(&m));
    }
}

static void check_file(const char *file, we_dtype dtype)
{
    static const int bits[] = { 2, 3, 4, 5, 6, 8 }, group_sizes[] = { 32, 64, 128 };
    fixture f = fixture_open(file, dtype);
    for (size_t b = 0; b < WE_COUNT(bits); b++)
        for (size_t g = 0; g < WE_COUNT(group_sizes); g++)
            check_setting(&f, (we_quant){ WE_QUANT_AFFINE, bits[b], group_sizes[g] });
    check_setting(&f, (we_quant){ WE_QUANT_MXFP4, 4, 32 });
    check_setting(&f, (we_quant){ WE_QUANT_MXFP8, 8, 32 });
    check_setting(&f, (we_quant){ WE_QUANT_NVFP4, 4, 16 });
    we_arena_deinit(&f.arena);
}

TEST(quant_is_mlx_in_float32) { check_file("quant/f32.safetensors", WE_F32); }

TEST(quant_is_mlx_in_float16) { check_file("quant/f16.safetensors", WE_F16); }

TEST(quant_is_mlx_in_bfloat16) { check_file("quant/bf16.safetensors", WE_BF16); }
