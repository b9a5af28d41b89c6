/* SPDX-License-Identifier: Apache-2.0
 * test_quant.c - conversions of small floats (every value of each), packed rows, matrices that are parts of others.
 * What mx.quantize and mx.dequantize give: test_quant_mlx.c. */
#include "support.h"

#include "quant/quant.h"

#include <math.h>

/* ---- Half floats ---- */

/* What the bits of a small float mean, by the definition. Not for infinities and NaNs. */
static double meaning(unsigned v, int exponent_bits, int mantissa_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = (int)(v >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const int mantissa = (int)(v & ((1U << mantissa_bits) - 1));
    const double magnitude = exponent ? ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)
                                      : ldexp(mantissa, 1 - bias - mantissa_bits);
    return v >> (exponent_bits + mantissa_bits) & 1 ? -magnitude : magnitude;
}

TEST(quant_every_float16_has_its_value_and_comes_back)
{
    for (unsigned h = 0; h <= UINT16_MAX; h++) {
        const float f = we_f16_to_f32((uint16_t)h);
        if ((h & 0x7C00) != 0x7C00) {
            assert_true((double)f == meaning(h, 5, 10) && !signbit(f) == !(h & 0x8000));
        } else if ((h & 0x3FF) == 0) {
            assert_true(isinf(f) && (f < 0) == (h >> 15));
        } else {
            assert_true(isnan(f) && isnan(we_f16_to_f32(we_f32_to_f16(f))));
            continue;
        }
        assert_int_equal(we_f32_to_f16(f), h);
    }
}

TEST(quant_every_bfloat16_has_its_value_and_comes_back)
{
    for (unsigned h = 0; h <= UINT16_MAX; h++) {
        const float f = we_bf16_to_f32((uint16_t)h);
        if ((h & 0x7F80) != 0x7F80) {
            assert_true((double)f == meaning(h, 8, 7) && !signbit(f) == !(h & 0x8000));
        } else if (h & 0x7F) {
            assert_true(isnan(f) && isnan(we_bf16_to_f32(we_f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(we_f32_to_bf16(f), h);
    }
}

/* Between any two neighbours: the middle goes to the even one, a little less and a little more to the nearer one. The
 * last neighbour is infinity, which counts as the next power of two. */
static void check_rounding(uint16_t (*to_half)(float), unsigned infinity, int exponent_bits, int mantissa_bits)
{
    for (unsigned h = 0; h < infinity; h++) {
        const double middle =
            (meaning(h, exponent_bits, mantissa_bits) + meaning(h + 1, exponent_bits, mantissa_bits)) / 2;
        const float f = (float)middle;
        assert_true((double)f == middle);
        assert_int_equal(to_half(f), h + (h & 1));
        assert_int_equal(to_half(nextafterf(f, 0)), h);
        assert_int_equal(to_half(nextafterf(f, INFINITY)), h + 1);
        assert_int_equal(to_half(-f), 0x8000 | (h + (h & 1)));
        assert_int_equal(to_half(nextafterf(-f, -INFINITY)), 0x8000 | (h + 1));
    }
}

TEST(quant_rounding_to_half_is_to_nearest_even)
{
    check_rounding(we_f32_to_f16, 0x7C00, 5, 10);
    check_rounding(we_f32_to_bf16, 0x7F7F, 8, 7); /* the middle between the largest and infinity: below */
    assert_int_equal(we_f32_to_bf16(0x1.FEFFFEp127F), 0x7F7F);
    assert_int_equal(we_f32_to_bf16(0x1.FFp127F), 0x7F80);
    assert_int_equal(we_f32_to_f16(1e30F), 0x7C00);
    assert_int_equal(we_f32_to_f16(-INFINITY), 0xFC00);
    assert_int_equal(we_f32_to_f16(1e-30F), 0);
    assert_int_equal(we_f32_to_f16(0x1p-149F), 0);
    float smallest_nan;
    memcpy(&smallest_nan, &(uint32_t){ 0x7F800001 }, sizeof smallest_nan);
    assert_true(isnan(we_f16_to_f32(we_f32_to_f16(smallest_nan))));
    assert_true(isnan(we_bf16_to_f32(we_f32_to_bf16(smallest_nan))));
}

TEST(quant_every_byte_float_has_its_value)
{
    for (unsigned v = 0; v < 256; v++) {
        const float e4m3 = we_e4m3_to_f32((uint8_t)v);
        if ((v & 0x7F) == 0x7F)
            assert_true(isnan(e4m3));
        else
            assert_true((double)e4m3 == meaning(v, 4, 3) && !signbit(e4m3) == !(v & 0x80));
        const float e8m0 = we_e8m0_to_f32((uint8_t)v);
        if (v == 255)
            assert_true(isnan(e8m0));
        else
            assert_true((double)e8m0 == ldexp(1, (int)v - 127));
    }
    for (unsigned v = 0; v < 16; v++)
        assert_true((double)we_e2m1_values[v] == meaning(v, 2, 1) && !signbit(we_e2m1_values[v]) == !(v & 8));
}

TEST(quant_plain_elements_are_read_at_any_address)
{
    const float f32[] = { 1.5F, -0.0F, 1e-40F };
    const uint16_t f16[] = { 0x3E00, 0x8000, 0x0001 }, bf16[] = { 0x3FC0, 0x8000, 0x0001 };
    uint8_t bytes[sizeof f32 + 1];
    float out[3];
    memcpy(bytes + 1, f32, sizeof f32);
    we_to_f32(WE_F32, bytes + 1, 3, out);
    assert_memory_equal(out, f32, sizeof f32);
    memcpy(bytes + 1, f16, sizeof f16);
    we_to_f32(WE_F16, bytes + 1, 3, out);
    assert_true(out[0] == 1.5F && signbit(out[1]) && out[2] == 0x1p-24F);
    memcpy(bytes + 1, bf16, sizeof bf16);
    we_to_f32(WE_BF16, bytes + 1, 3, out);
    assert_true(out[0] == 1.5F && signbit(out[1]) && out[2] == 0x1p-133F);
    we_to_f32(WE_F16, bytes, 0, NULL);
}

/* ---- Modes ---- */

TEST(quant_modes_have_names_and_settings)
{
    we_quant_mode mode;
    for (int i = WE_QUANT_AFFINE; i < WE_QUANT_MODE_COUNT; i++) {
        assert_true(we_quant_mode_parse(we_str_from(we_quant_mode_name((we_quant_mode)i)), &mode));
        assert_int_equal(mode, i);
    }
    assert_false(we_quant_mode_parse(WE_STR("none"), &mode));
    assert_false(we_quant_mode_parse(WE_STR("affin"), &mode));
    assert_false(we_quant_mode_parse(WE_STR(""), &mode));
    int n_valid = 0;
    for (int m = -1; m <= WE_QUANT_MODE_COUNT; m++)
        for (int bits = -1; bits <= 9; bits++)
            for (int group_size = 0; group_size <= 256; group_size++)
                n_valid += we_quant_valid((we_quant){ (we_quant_mode)m, bits, group_size });
    assert_int_equal(n_valid, 6 * 3 + 3);
}

/* ---- Packed rows ---- */

TEST(quant_packed_codes_come_back)
{
    enum { COLS = 160 };
    static const int bits[] = { 2, 3, 4, 5, 6, 8 };
    for (size_t b = 0; b < WE_COUNT(bits); b++) {
        uint64_t seed = 1;
        uint8_t codes[COLS], packed[COLS + 2], back[2 * COLS];
        for (int i = 0; i < COLS; i++) codes[i] = (uint8_t)(test_random(&seed) & ((1U << bits[b]) - 1));
        memset(packed, 0xA5, sizeof packed);
        we_quant_pack_row(bits[b], codes, COLS, packed + 1);
        const size_t len = (size_t)(COLS * bits[b] / 8);
        assert_int_equal(packed[0], 0xA5);
        assert_int_equal(packed[len + 1], 0xA5);
        /* The definition, bit by bit. */
        for (int i = 0; i < COLS; i++)
            for (int k = 0; k < bits[b]; k++) {
                const int at = i * bits[b] + k;
                assert_int_equal(packed[1 + at / 8] >> (at % 8) & 1, codes[i] >> k & 1);
            }
        const we_matrix m = {
            .rows = 2, .cols = COLS / 2, .data = packed + 1, .dtype = WE_F32, .quant = { WE_QUANT_AFFINE, bits[b], 32 }
        };
        we_quant_unpack_row(&m, 0, back);
        we_quant_unpack_row(&m, 1, back + COLS / 2);
        assert_memory_equal(back, codes, COLS);
    }
}

TEST(quant_rows_of_a_matrix_are_a_matrix)
{
    static const uint8_t data[6 * 128] = { 0 }, scales[6 * 128] = { 0 }, biases[6 * 128] = { 0 };
    we_matrix m = { .rows = 6,
                    .cols = 128,
                    .quant = { WE_QUANT_AFFINE, 3, 64 },
                    .dtype = WE_BF16,
                    .data = data,
                    .scales = scales,
                    .biases = biases };
    assert_int_equal(we_matrix_row_bytes(&m), 48);
    assert_int_equal(we_matrix_row_scale_bytes(&m), 4);
    assert_int_equal(we_matrix_bytes(&m), 6 * (48 + 4 + 4));
    we_matrix part = we_matrix_rows(&m, 2, 3);
    assert_int_equal(part.rows, 3);
    assert_ptr_equal(part.data, data + 96);
    assert_ptr_equal(part.scales, scales + 8);
    assert_ptr_equal(part.biases, biases + 8);
    part = we_matrix_rows(&m, 6, 0);
    assert_int_equal(part.rows, 0);

    m.quant = (we_quant){ WE_QUANT_NVFP4, 4, 16 };
    m.biases = NULL;
    assert_int_equal(we_matrix_row_bytes(&m), 64);
    assert_int_equal(we_matrix_row_scale_bytes(&m), 8);
    assert_int_equal(we_matrix_bytes(&m), 6 * 72);
    part = we_matrix_rows(&m, 5, 1);
    assert_ptr_equal(part.scales, scales + 40);
    assert_null(part.biases);

    m = (we_matrix){ .rows = 6, .cols = 64, .dtype = WE_F16, .data = data };
    assert_int_equal(we_matrix_row_bytes(&m), 128);
    assert_int_equal(we_matrix_row_scale_bytes(&m), 0);
    assert_int_equal(we_matrix_bytes(&m), 6 * 128);
    part = we_matrix_rows(&m, 1, 2);
    assert_ptr_equal(part.data, data + 128);
    assert_null(part.scales);
}

/* Nothing is promised of infinities and NaNs but that the rest of the house stands: no undefined conversion. */
TEST(quant_values_that_are_not_finite_do_no_harm)
{
    static const float odd[] = { INFINITY, -INFINITY, NAN, 3e38F, -3e38F, 1e-45F };
    static const we_quant quants[] = {
        { WE_QUANT_AFFINE, 4, 32 }, { WE_QUANT_MXFP4, 4, 32 }, { WE_QUANT_MXFP8, 8, 32 }, { WE_QUANT_NVFP4, 4, 16 }
    };
    static const we_dtype dtypes[] = { WE_F32, WE_F16, WE_BF16 };
    for (size_t q = 0; q < WE_COUNT(quants); q++)
        for (size_t d = 0; d < WE_COUNT(dtypes); d++)
            for (size_t o = 0; o < WE_COUNT(odd); o++)
                for (int all = 0; all < 2; all++) {
                    float w[32] = { 0.25F, -1 };
                    uint8_t data[32], scales[16], biases[16];
                    for (int i = 0; i < (all ? 32 : 1); i++) w[all ? i : 5] = odd[o];
                    we_quant_row(quants[q], dtypes[d], w, 32, data, scales, biases);
                    const we_matrix m = { 1, 32, quants[q], dtypes[d], data, scales, biases };
                    we_matrix_row_f32(&m, 0, w);
                }
}

/* Groups whose scale is 1: what remains are the codes. Every float16 and bfloat16 up to the largest code. */
static void check_codes(we_quant quant, we_dtype dtype, float most, uint8_t (*want)(float f, we_dtype dtype))
{
    for (unsigned h = 0; h < 65536; h++) {
        float w[32] = { most };
        uint8_t data[32], codes[32], scales[2];
        w[1] = dtype == WE_F16 ? we_f16_to_f32((uint16_t)h) : we_bf16_to_f32((uint16_t)h);
        if (!(fabsf(w[1]) <= most)) continue;
        we_quant_row(quant, dtype, w, 32, data, scales, NULL);
        const we_matrix m = { .rows = 1, .cols = 32, .quant = quant, .dtype = dtype, .data = data };
        we_quant_unpack_row(&m, 0, codes);
        if (codes[1] != want(w[1], dtype))
            fail_msg("%s: %g has the code %u, expected %u", we_dtype_name(dtype), (double)w[1], codes[1],
                     want(w[1], dtype));
    }
}

static uint8_t nearest_e2m1(float f,
                            we_dtype dtype) /* as MLX finds it: distances in the weights' type, the first of equals */
{
    uint8_t best = 0;
    float least = INFINITY;
    for (uint8_t code = 0; code < 16; code++) {
        float distance = f - we_e2m1_values[code];
        distance = dtype == WE_F16 ? we_f16_to_f32(we_f32_to_f16(distance)) : we_bf16_to_f32(we_f32_to_bf16(distance));
        if (fabsf(distance) >= least) continue;
        least = fabsf(distance);
        best = code;
    }
    return best;
}

static uint8_t nearest_e4m3(float f, we_dtype dtype) /* ties to the even code */
{
    (void)dtype;
    uint8_t best = 0;
    for (uint8_t code = 1; code < 0x7F; code++) {
        const float was = fabsf(fabsf(f) - we_e4m3_to_f32(best)), is = fabsf(fabsf(f) - we_e4m3_to_f32(code));
        if (is < was || (is == was && code % 2 == 0)) best = code;
    }
    return (uint8_t)(best | (signbit(f) ? 0x80 : 0));
}

TEST(quant_every_half_becomes_the_nearest_small_float)
{
    static const we_dtype dtypes[] = { WE_F16, WE_BF16 };
    for (size_t d = 0; d < WE_COUNT(dtypes); d++) {
        check_codes((we_quant){ WE_QUANT_MXFP4, 4, 32 }, dtypes[d], 6, nearest_e2m1);
        check_codes((we_quant){ WE_QUANT_NVFP4, 4, 16 }, dtypes[d], 6, nearest_e2m1);
        check_codes((we_quant){ WE_QUANT_MXFP8, 8, 32 }, dtypes[d], 448, nearest_e4m3);
    }
}
