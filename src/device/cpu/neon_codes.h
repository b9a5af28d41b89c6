/* SPDX-License-Identifier: Apache-2.0
 * neon_codes.h - scales of any kind to float32 and codes of any width to signed bytes, for the files that multiply packed weights by
 * SDOT or SMMLA: e2m1 codes become twice their value; codes of up to 6 bits are what they are; 8-bit codes are taken less
 * 128, which their bias, grown by 128 scales, makes good. */
#ifndef WE_CPU_NEON_CODES_H
#define WE_CPU_NEON_CODES_H

#include "device/cpu/neon.h"

#define GROUPS 8 /* whose scales are loaded at once */

INLINE bool is_e2m1(we_quant_mode mode) { return mode != WE_QUANT_AFFINE; }

/* ---- Scales ---- */

/* n elements of a plain type, 0 behind them. */
INLINE void load_floats(we_dtype dtype, const uint8_t *p, int64_t n, float out[GROUPS])
{
    const int64_t size = dtype == WE_F32 ? 4 : 2;
    uint8_t bytes[4 * GROUPS] = { 0 };
    if (n == 4)
        memcpy(bytes, p, (size_t)(4 * size)); /* the usual numbers: a load, not a call */
    else if (n == 8)
        memcpy(bytes, p, (size_t)(8 * size));
    else
        memcpy(bytes, p, (size_t)(n * size));
    vst1q_f32(out, floats4(dtype, bytes));
    vst1q_f32(out + 4, floats4(dtype, bytes + 4 * size));
}

/* Scales, or biases, of n <= GROUPS groups of a row, 0 behind them. */
INLINE void load_scales(const we_matrix *w, we_quant_mode mode, const uint8_t *row, int64_t g, int64_t n,
                        float out[GROUPS])
{
    if (!is_e2m1(mode)) {
        load_floats(w->dtype, row + g * (w->dtype == WE_F32 ? 4 : 2), n, out);
        return;
    }
    for (int64_t i = 0; i < GROUPS; i++) /* codes are twice the value */
        out[i] =
            i >= n ? 0.0f : 0.5f * (mode == WE_QUANT_NVFP4 ? we_e4m3_to_f32(row[g + i]) : we_e8m0_to_f32(row[g + i]));
}

/* ---- Codes ---- */

/* 16 codes of 2, 3, 5 or 6 bits: bring the two bytes that hold a code to a 16-bit lane, shift, mask. Reads 16 bytes. */
INLINE int8x16_t codes16(int bits, const uint8_t *p)
{
    uint8_t at[32];
    int16_t down[16];
    UNROLL for (int i = 0; i < 16; i++)
    {
        at[2 * i] = (uint8_t)(i * bits / 8);
        at[2 * i + 1] = (uint8_t)(i * bits / 8 + 1);
        down[i] = (int16_t) - (i * bits % 8);
    }
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t a = vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(bytes, vld1q_u8(at))), vld1q_s16(down));
    const uint16x8_t b = vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(bytes, vld1q_u8(at + 16))), vld1q_s16(down + 8));
    const uint8x16_t both = vcombine_u8(vmovn_u16(a), vmovn_u16(b));
    return vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8((uint8_t)((1 << bits) - 1))));
}

/* 32 columns as two vectors of signed bytes; 4 bits: the even columns, then the odd ones. */
INLINE int8x16x2_t codes32(we_quant_mode mode, int bits, const uint8_t *p)
{
    int8x16x2_t v;
    if (bits == 4) {
        const uint8x16_t bytes = vld1q_u8(p), low = vandq_u8(bytes, vdupq_n_u8(15)), high = vshrq_n_u8(bytes, 4);
        static const int8_t doubled[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
        v.val[0] = is_e2m1(mode) ? vqtbl1q_s8(vld1q_s8(doubled), low) : vreinterpretq_s8_u8(low);
        v.val[1] = is_e2m1(mode) ? vqtbl1q_s8(vld1q_s8(doubled), high) : vreinterpretq_s8_u8(high);
    } else if (bits == 8) {
        v.val[0] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(0x80)));
        v.val[1] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 16), vdupq_n_u8(0x80)));
    } else {
        v.val[0] = codes16(bits, p);
        v.val[1] = codes16(bits, p + 2 * bits);
    }
    return v;
}

#endif
