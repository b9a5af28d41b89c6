/* SPDX-License-Identifier: Apache-2.0
 * quantize.c - a row of floats to codes and scales, bit for bit as mx.quantize on a CPU. The way back: quant.c.
 *
 * affine: the edge of a group (its end farther from zero) becomes a multiple of the scale, so that it and zero are
 * exact:
 *
 *     scale = (max - min) / (2^bits - 1), negative where max is the edge       q0 = round(edge / scale)
 *     scale = edge / q0, bias = edge          (q0 = 0: the scale stays, bias = 0)
 *     q = round((w - bias) / scale), cut to [0, 2^bits - 1]
 *
 * in float32, and q with this scale and bias, not with those that are stored after rounding to the model's type.
 *
 * mxfp4, mxfp8, nvfp4: the scale brings the group's largest value to the code's largest, 6 or 448, and is then rounded:
 * up to a power of two (mx), to the nearest e4m3 (nvfp4). Each operation is rounded to the weights' own type, since
 * mx.quantize computes there. On a GPU it differs in ties of e2m1 (to even codes; here towards zero) and in the scale
 * of an empty group.
 *
 * Source: MLX 0.32.4, mlx/backend/cpu/quantized.cpp (affine) and fp_quantize in mlx/ops.cpp (the others; up to 0.32.2
 * the power of two was the nearest one, so that half of all groups lost their largest values: ml-explore/mlx#4353). */
#include "quant/quant.h"

#include <assert.h>
#include <math.h>

#define MAX_GROUP 128
#define E2M1_MAX 6.0F
#define E4M3_MAX 448.0F

/* The nearest value of a dtype: where MLX keeps intermediate results in the weights' type. */
static float round_to(we_dtype dtype, float f)
{
    switch (dtype) {
    case WE_F16: return we_f16_to_f32(we_f32_to_f16(f));
    case WE_BF16: return we_bf16_to_f32(we_f32_to_bf16(f));
    default: return f;
    }
}

static void store(we_dtype dtype, float f, uint8_t *out)
{
    if (dtype == WE_F32) {
        memcpy(out, &f, sizeof f);
        return;
    }
    const uint16_t half = dtype == WE_F16 ? we_f32_to_f16(f) : we_f32_to_bf16(f);
    memcpy(out, &half, sizeof half);
}

/* ---- affine ---- */

/* To nearest, ties to even: what rintf gives, where |f| < 2^22; beyond, a value that is beyond too. Two additions, which a
 * compiler does for several elements at once on every CPU; rintf is a call on older x86-64. */
static inline float round_even(float f)
{
    const float big = 0x1.8p23F; /* the last bit of a float of this size counts 1 */
    return (f + big) - big;
}

/* Four floats at once: GCC's and Clang's vectors, on every CPU. By themselves compilers leave these loops as they are, since
 * the order of comparisons matters where one is a NaN. */
typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));

static inline float4 load4(const float *p)
{
    float4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline float4 pick4(int4 mask, float4 yes, float4 no)
{
    return (float4)(((int4)yes & mask) | ((int4)no & ~mask));
}

/* Least and greatest; a NaN is passed over. n is a multiple of 16. */
static void affine_range(const float *w, int n, float *low, float *high)
{
    const float4 top = { INFINITY, INFINITY, INFINITY, INFINITY };
    float4 lows[2] = { top, top }, highs[2] = { -top, -top };
    for (int i = 0; i < n; i += 8)
        for (int k = 0; k < 2; k++) {
            const float4 v = load4(w + i + 4 * k);
            highs[k] = pick4(v > highs[k], v, highs[k]);
            lows[k] = pick4(v < lows[k], v, lows[k]);
        }
    *low = INFINITY;
    *high = -INFINITY;
    for (int k = 0; k < 8; k++) {
        *high = highs[k / 4][k % 4] > *high ? highs[k / 4][k % 4] : *high;
        *low = lows[k / 4][k % 4] < *low ? lows[k / 4][k % 4] : *low;
    }
}

static void affine_group(int bits, const float *w, int n, float *scale, float *bias, uint8_t *codes)
{
    const float n_bins = (float)((1 << bits) - 1), least = 1e-7F;
    float low, high;
    affine_range(w, n, &low, &high);
    const bool low_is_edge = fabsf(low) > fabsf(high);
    const float step = (high - low) / n_bins;
    float s = step > least ? step : least, b = 0;
    if (!low_is_edge) s = -s;
    const float edge = low_is_edge ? low : high, ratio = edge / s;
    const float q0 = fabsf(ratio) < 0x1p22F ? round_even(ratio) : rintf(ratio);
    if (q0 != 0) {
        s = edge / q0;
        b = edge;
    }
    for (int i = 0; i < n; i++) {
        const float q = round_even((w[i] - b) / s), at_most = q < n_bins ? q : n_bins;
        codes[i] = (uint8_t)(int)(q > 0 ? at_most : 0); /* NaN: 0 */
    }
    *scale = s;
    *bias = b;
}

/* ---- mxfp4, mxfp8, nvfp4 ---- */

/* Both conversions are whole number arithmetic and comparisons without branches, so that compilers do several elements at once. */

/* To nearest, ties to even; beyond 448, infinity and NaN: 448. */
static inline uint8_t e4m3_of(float f)
{
    uint32_t bits, few;
    memcpy(&bits, &f, sizeof bits);
    const uint32_t sign = bits >> 24 & 0x80, magnitude = bits & 0x7FFFFFFF;
    const float subnormal = fabsf(f) + 0x1p14F; /* its last bit counts 2^-9 */
    memcpy(&few, &subnormal, sizeof few);
    const uint32_t small = few & 15;                                                 /* of them: 0 to 8 */
    const uint32_t usual = (magnitude + 0x7FFFF + (magnitude >> 20 & 1)) >> 20;      /* three bits behind the first */
    const uint32_t code = magnitude < 0x3C800000 ? small : usual - ((127 - 7) << 3); /* 2^-6 */
    return (uint8_t)(sign | (magnitude < 0x43E00000 ? code : 0x7E));                 /* 448 */
}

/* The nearest of the sixteen, the first of them where two are equally near; 0 for a NaN. MLX compares distances that are rounded
 * to the weights' type: below 8 those near the middle between two values are exact, and the value nearer to zero comes first. */
static inline uint8_t e2m1_of(float f)
{
    const float m = fabsf(f);
    const int code = (m > 0.25F) + (m > 0.75F) + (m > 1.25F) + (m > 1.75F) + (m > 2.5F) + (m > 3.5F) + (m > 5.0F);
    return (uint8_t)(code + (code > 0 && f < 0 ? 8 : 0));
}

/* The same by distances, for what lies beyond: there they are rounded, and far values are as near as near ones. */
static uint8_t e2m1_far(float f, we_dtype dtype)
{
    uint8_t nearest = 0;
    float least = fabsf(round_to(dtype, f - we_e2m1_values[0]));
    for (uint8_t code = 1; code < 16; code++) {
        const float distance = fabsf(round_to(dtype, f - we_e2m1_values[code]));
        if (distance < least) {
            least = distance;
            nearest = code;
        }
    }
    return nearest;
}

/* The least power of two that is not below the scale, as its e8m0 code. A scale of 0 counts as 1. */
static uint8_t e8m0_of(float scale)
{
    if (!isfinite(scale)) return 255;
    if (scale == 0) return 127;
    int exponent;
    const float fraction = frexpf(scale, &exponent); /* scale = fraction * 2^exponent, fraction in [0.5, 1) */
    if (fraction == 0.5F) exponent--;
    return (uint8_t)(exponent < -127 ? 0 : exponent + 127); /* at most 2^126 comes here */
}

/* w / scale, rounded to the type. bfloat16 by whole numbers in place, since a call an element is what takes the time. */
static void divide(we_dtype dtype, const float *w, int n, float scale, float *out)
{
    for (int i = 0; i < n; i++) out[i] = w[i] / scale;
    if (dtype == WE_F16)
        for (int i = 0; i < n; i++) out[i] = round_to(WE_F16, out[i]);
    for (int i = 0; i < n && dtype == WE_BF16; i++) {
        uint32_t bits;
        memcpy(&bits, &out[i], sizeof bits);
        const uint32_t even =
            (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000; /* a NaN stays one: none has such low bits */
        memcpy(&out[i], &even, sizeof even);
    }
}

static uint8_t float_group(we_quant_mode mode, we_dtype dtype, const float *w, int n, uint8_t *codes)
{
    float largest = 0, x[MAX_GROUP];
    for (int i = 0; i < n; i++) largest = fabsf(w[i]) > largest ? fabsf(w[i]) : largest;
    const float scale = round_to(dtype, largest / (mode == WE_QUANT_MXFP8 ? E4M3_MAX : E2M1_MAX));
    const uint8_t code = mode == WE_QUANT_NVFP4 ? e4m3_of(scale) : e8m0_of(scale);
    const float stored = round_to(dtype, mode == WE_QUANT_NVFP4 ? we_e4m3_to_f32(code) : we_e8m0_to_f32(code));
    divide(dtype, w, n, stored, x); /* 0 / 0 in an empty nvfp4 group, which becomes code 0 */
    if (mode == WE_QUANT_MXFP8) {
        for (int i = 0; i < n; i++) codes[i] = e4m3_of(x[i]);
        return code;
    }
    bool far = false;
    for (int i = 0; i < n; i++) {
        codes[i] = e2m1_of(x[i]);
        far |= fabsf(x[i]) >= 8;
    }
    for (int i = 0; i < n && far; i++) codes[i] = e2m1_far(x[i], dtype);
    return code;
}

/* ---- A row ---- */

void we_quant_row(we_quant quant, we_dtype dtype, const float *values, int64_t cols, uint8_t *data, uint8_t *scales,
                  uint8_t *biases)
{
    const int n = quant.group_size;
    assert(we_quant_valid(quant) && cols % n == 0);
    assert(dtype == WE_F32 || dtype == WE_F16 || dtype == WE_BF16);
    const size_t group_bytes = (size_t)(n * quant.bits / 8), float_bytes = we_dtype_size(dtype);
    uint8_t codes[MAX_GROUP];
    for (int64_t g = 0; g < cols / n; g++) {
        if (quant.mode == WE_QUANT_AFFINE) {
            float scale, bias;
            affine_group(quant.bits, values + g * n, n, &scale, &bias, codes);
            store(dtype, scale, scales + (size_t)g * float_bytes);
            store(dtype, bias, biases + (size_t)g * float_bytes);
        } else {
            scales[g] = float_group(quant.mode, dtype, values + g * n, n, codes);
        }
        we_quant_pack_row(quant.bits, codes, n, data + (size_t)g * group_bytes);
    }
}
