/* SPDX-License-Identifier: Apache-2.0
 * build: -march=armv8.2-a+dotprod
 * neon_kv.c - attention over caches of 8 and 4 bits: the vectors of kv_codes.h, two registers each. */
#include "device/cpu/neon.h"

typedef float32x4x2_t vec;
#define LANES 8
#define KEY_PAIRS 1
#define VALUE_PAIRS 1
#include "device/cpu/kv_codes.h"

INLINE vec vec_of(float32x4_t a, float32x4_t b)
{
    vec v;
    v.val[0] = a;
    v.val[1] = b;
    return v;
}
INLINE vec vec_set(float x) { return vec_of(vdupq_n_f32(x), vdupq_n_f32(x)); }
INLINE vec vec_load(const float *x) { return vec_of(vld1q_f32(x), vld1q_f32(x + 4)); }
INLINE void vec_store(float *x, vec v) { vst1q_f32(x, v.val[0]), vst1q_f32(x + 4, v.val[1]); }
INLINE vec vec_fma(vec a, vec b, vec c)
{
    return vec_of(vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1]));
}
INLINE float vec_sum(vec v) { return vaddvq_f32(vaddq_f32(v.val[0], v.val[1])); }
INLINE vec vec_halves(const uint16_t *x) { return vec_of(f16_floats(x), f16_floats(x + 4)); }

INLINE void vec_to_halves(uint16_t *out, vec v)
{
    UNROLL for (int i = 0; i < 2; i++)
    {
        const float32x4_t x = vminq_f32(vdupq_n_f32(65504.0f), vmaxq_f32(vdupq_n_f32(-65504.0f), v.val[i]));
        vst1_u16(out + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x)));
    }
}

INLINE vec vec_codes(int8x8_t codes)
{
    const int16x8_t wide = vmovl_s8(codes);
    return vec_of(vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide)));
}

INLINE void codes_pair(int bits, const uint8_t *p, vec v[2])
{
    const uint8x8_t first = vld1_u8(p);
    if (bits == 8) {
        v[0] = vec_codes(vreinterpret_s8_u8(first));
        v[1] = vec_codes(vreinterpret_s8_u8(vld1_u8(p + 16)));
        return;
    }
    v[0] = vec_codes(vreinterpret_s8_u8(vand_u8(first, vdup_n_u8(15))));
    v[1] = vec_codes(vreinterpret_s8_u8(vshr_n_u8(first, 4)));
}

const we_kv_kernels we_neon_kv = { kv_keys, kv_values, kv_halves };
