/* SPDX-License-Identifier: Apache-2.0
 * build: -march=armv8.2-a+dotprod
 * neon_few.c - products of a few int8 activations with packed weights by SDOT, row after row as they lie in memory, up to four
 * tokens at a time; more tokens pass over a block of rows that stays in the second cache. Many: neon_q8.c.
 *
 * SDOT wants signed bytes: e2m1 codes become twice their value; codes of up to 6 bits are what they are; 8-bit codes are
 * taken less 128, which their bias, grown by 128 scales, makes good. 4 bits: low nibbles meet the even activations, high ones
 * the odd; those are separated once for all rows. */
#include "device/cpu/neon_codes.h"

#include <assert.h>

#define FEW 4     /* tokens at once */
#define BLOCK 256 /* columns of a step: 8 activation groups */
static_assert(BLOCK == GROUPS * WE_Q8_GROUP, "a block's scales are loaded at once");

typedef struct few {
    const we_matrix *w;
    const int8_t *x[FEW]; /* 4 bits: in each 32 the even ones, then the odd ones */
    const float *scales[FEW], *sums[FEW];
    float *y[FEW];
    bool add;
} few;

/* ---- Scales ---- */

/* Scales of a block for each of its activation groups; nvfp4 has two for each. */
INLINE void scales_of_block(const we_matrix *w, we_quant_mode mode, const uint8_t *row, int64_t g, int64_t n,
                            float out[2 * GROUPS])
{
    if (is_e2m1(mode)) {
        load_scales(w, mode, row, g, WE_MIN(n, GROUPS), out);
        if (mode == WE_QUANT_NVFP4) load_scales(w, mode, row, g + GROUPS, WE_MAX(n - GROUPS, 0), out + GROUPS);
        return;
    }
    float own[GROUPS];
    const int shift = w->quant.group_size == 128 ? 2 : w->quant.group_size == 64 ? 1 : 0;
    load_scales(w, mode, row, g, n, own);
    UNROLL for (int i = 0; i < GROUPS; i++) out[i] = own[i >> shift];
}

/* ---- One row ----
 *
 * For each block of 256 columns: scales; biases times the sums of the activations; codes, dot products, one multiply-add with
 * both scales. A block is copied where loads would reach behind the row. */

INLINE void row_few(const few *f, int64_t row, int64_t out, we_quant_mode mode, int bits, int n)
{
    const we_matrix *w = f->w;
    const int64_t cols = w->cols, size = w->quant.group_size;
    const size_t scale_bytes = (size_t)(cols / size) * (is_e2m1(mode) ? 1 : w->dtype == WE_F32 ? 4 : 2);
    const uint8_t *codes = w->data + (size_t)row * (size_t)(cols * bits / 8);
    const uint8_t *scales = w->scales + (size_t)row * scale_bytes;
    const uint8_t *biases = is_e2m1(mode) ? NULL : w->biases + (size_t)row * scale_bytes;
    const bool reaches_behind = bits != 4 && bits != 8;
    float32x4_t acc[FEW], acc2[FEW];
    UNROLL for (int t = 0; t < n; t++) acc[t] = acc2[t] = vdupq_n_f32(0);

    for (int64_t c = 0; c < cols; c += BLOCK, codes += BLOCK * bits / 8) {
        const int64_t left = WE_MIN(cols - c, BLOCK), g = c / size, n_scales = left / size, group = c / WE_Q8_GROUP;
        const uint8_t *p = codes;
        uint8_t tail[BLOCK + 16];
        if (left < BLOCK || (reaches_behind && (cols - c - BLOCK) * bits < 16 * 8)) {
            memset(tail, 0, sizeof tail);
            memcpy(tail, codes, (size_t)(left * bits / 8));
            p = tail;
        }
        float s[2 * GROUPS], b[2 * GROUPS];
        scales_of_block(w, mode, scales, g, n_scales, s);
        if (!is_e2m1(mode)) {
            scales_of_block(w, mode, biases, g, n_scales, b);
            UNROLL for (int i = 0; i < GROUPS; i += 4)
            {
                float32x4_t bias = vld1q_f32(b + i);
                if (bits == 8) bias = vfmaq_n_f32(bias, vld1q_f32(s + i), 128.0f);
                UNROLL for (int t = 0; t < n; t++) acc2[t] =
                    vfmaq_f32(acc2[t], bias, vld1q_f32(f->sums[t] + group + i));
            }
        }
        UNROLL for (int k = 0; k < GROUPS; k++)
        {
            const int8x16x2_t v = codes32(mode, bits, p + 4 * bits * k);
            UNROLL for (int t = 0; t < n; t++)
            {
                const int8_t *x = f->x[t] + c + 32 * k;
                const int32x4_t dot =
                    vdotq_s32(vdotq_s32(vdupq_n_s32(0), v.val[0], vld1q_s8(x)), v.val[1], vld1q_s8(x + 16));
                const float xs = f->scales[t][group + k];
                if (mode == WE_QUANT_NVFP4) {
                    const float32x4_t two = vcombine_f32(vdup_n_f32(s[2 * k]), vdup_n_f32(s[2 * k + 1]));
                    acc[t] = vfmaq_f32(acc[t], vcvtq_f32_s32(dot), vmulq_n_f32(two, xs));
                } else if (k % 2) {
                    acc[t] = vfmaq_n_f32(acc[t], vcvtq_f32_s32(dot), s[k] * xs);
                } else {
                    acc2[t] = vfmaq_n_f32(acc2[t], vcvtq_f32_s32(dot), s[k] * xs);
                }
            }
        }
    }
    UNROLL for (int t = 0; t < n; t++) f->y[t][out] =
        (f->add ? f->y[t][out] : 0.0f) + vaddvq_f32(vaddq_f32(acc[t], acc2[t]));
}

#include "device/cpu/few_rows.h"

static const int8_t *separate(const int8_t *from, int64_t stride, int8_t *to)
{
    for (int64_t c = 0; c < stride; c += 32) {
        const int8x16x2_t v = vld2q_s8(from + c);
        vst1q_s8(to + c, v.val[0]);
        vst1q_s8(to + c + 16, v.val[1]);
    }
    return to;
}

void we_neon_few(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                 int64_t y_stride, bool add, void *scratch)
{
    const int64_t groups = x->stride / WE_Q8_GROUP;
    for (int64_t token = 0; token < n; token += FEW) {
        const int64_t some = WE_MIN(n - token, FEW);
        few f = { .w = w, .add = add };
        for (int64_t t = 0; t < some; t++) {
            const int8_t *values = x->values + (token + t) * x->stride;
            f.x[t] = w->quant.bits == 4 ? separate(values, x->stride, (int8_t *)scratch + t * x->stride) : values;
            f.scales[t] = x->scales + (token + t) * groups;
            f.sums[t] = x->sums + (token + t) * groups;
            f.y[t] = y + (token + t) * y_stride;
        }
        rows_of(w->quant, some)(&f, first, n_rows);
    }
}
