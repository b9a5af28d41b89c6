/* SPDX-License-Identifier: Apache-2.0
 * half.c - small floats to float32 and back: float16, bfloat16, and the OCP formats e4m3, e8m0, e2m1.
 *
 *              sign exponent mantissa  bias
 *     float16   1      5        10      15    infinities, NaNs, subnormals
 *     bfloat16  1      8         7     127    the upper half of a float32
 *     e4m3      1      4         3       7    largest 448; S.1111.111 is NaN, no infinity; subnormals
 *     e8m0             8               127    a power of two; 255 is NaN
 *     e2m1      1      2         1       1    the sixteen values below
 *
 * Plain integer arithmetic: the same bits on every machine. Kernels use their instructions and are held to this.
 * Source: IEEE 754-2019; OCP Microscaling Formats (MX) v1.0, section 5. For the NaN codes of e4m3 and e8m0, which no
 * quantizer writes, MLX computes 480 and infinity. */
#include "quant/quant.h"

#include <math.h>

const float we_e2m1_values[16] = { 0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F,
                                   -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F };

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* x / 2^shift, to nearest, ties to even. shift: 1 to 31. */
static uint32_t shift_right_even(uint32_t x, unsigned shift)
{
    const uint32_t half = UINT32_C(1) << (shift - 1), rest = x & (2 * half - 1), down = x >> shift;
    return down + (rest > half || (rest == half && (down & 1)));
}

float we_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3FF;
    if (exponent == 31) return float_of(sign | 0x7F800000 | mantissa << 13);
    if (exponent == 0) { /* mantissa * 2^-24, exact in a float32 */
        const float f = (float)mantissa * 0x1p-24F;
        return sign ? -f : f;
    }
    return float_of(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

uint16_t we_f32_to_f16(float f)
{
    const uint32_t bits = bits_of(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    const uint32_t exponent = magnitude >> 23;
    uint32_t half;
    if (magnitude > 0x7F800000)
        half = 0x7E00 | (magnitude >> 13 & 0x3FF); /* NaN, made quiet */
    else if (exponent >= 127 + 16)
        half = 0x7C00; /* 65536 and more, infinity */
    else if (exponent >= 127 - 14)
        half =
            shift_right_even(magnitude - ((127 - 15) << 23), 13); /* a carry moves into the exponent, up to infinity */
    else if (exponent >= 127 - 25)
        half = shift_right_even(0x800000 | (magnitude & 0x7FFFFF), 126 - exponent); /* subnormal: counts 2^-24 */
    else
        half = 0;
    return (uint16_t)(sign | half);
}

uint16_t we_f32_to_bf16(float f)
{
    const uint32_t bits = bits_of(f);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(bits >> 16 | 0x40); /* NaN, made quiet: never rounded to infinity */
    return (uint16_t)shift_right_even(bits, 16);
}

float we_e4m3_to_f32(uint8_t v)
{
    const unsigned exponent = v >> 3 & 15, mantissa = v & 7;
    float f;
    if (exponent == 15 && mantissa == 7)
        f = NAN;
    else if (exponent == 0)
        f = (float)mantissa * 0x1p-9F;
    else
        f = float_of((exponent + 127 - 7) << 23 | mantissa << 20);
    return v & 0x80 ? -f : f;
}

float we_e8m0_to_f32(uint8_t v)
{
    if (v == 255) return NAN;
    return v ? float_of((uint32_t)v << 23) : 0x1p-127F; /* the last is subnormal in a float32 */
}
