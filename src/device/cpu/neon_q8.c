/* SPDX-License-Identifier: Apache-2.0
 * build: -march=armv8.2-a+dotprod
 * neon_q8.c - many tokens' int8 activations times packed weights by SDOT: four columns of four rows with those of one token, in one
 * instruction. Few tokens: neon_few.c. */
#define WORD 4
#include "device/cpu/neon_panel.h"

INLINE void put_words(const int8x16_t rows[4], int8_t *to)
{
    const int32x4_t a = vreinterpretq_s32_s8(rows[0]), b = vreinterpretq_s32_s8(rows[1]);
    const int32x4_t c = vreinterpretq_s32_s8(rows[2]), d = vreinterpretq_s32_s8(rows[3]);
    const int64x2_t ab0 = vreinterpretq_s64_s32(vtrn1q_s32(a, b)), ab1 = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    const int64x2_t cd0 = vreinterpretq_s64_s32(vtrn1q_s32(c, d)), cd1 = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    vst1q_s8(to, vreinterpretq_s8_s64(vtrn1q_s64(ab0, cd0)));
    vst1q_s8(to + 64, vreinterpretq_s8_s64(vtrn1q_s64(ab1, cd1)));
    vst1q_s8(to + 128, vreinterpretq_s8_s64(vtrn2q_s64(ab0, cd0)));
    vst1q_s8(to + 192, vreinterpretq_s8_s64(vtrn2q_s64(ab1, cd1)));
}

INLINE void dot_tile(const int8_t *codes, const int8_t *x, int words, int n, int32x4_t d[2][TILE])
{
    UNROLL for (int i = 0; i < n; i++) d[0][i] = d[1][i] = vdupq_n_s32(0);
    UNROLL for (int k = 0; k < words; k++, codes += 16 * WORD, x += TILE * WORD)
    {
        __asm__ volatile("" ::: "memory"); /* or loads of several words come first, and sums are spilled for them */
        const int8x16_t w[2] = { vld1q_s8(codes), vld1q_s8(codes + 16) };
        UNROLL for (int i = 0; i < n; i += 4)
        {
            const int8x16_t v = vld1q_s8(x + 4 * i);
            UNROLL for (int j = 0; j < 2; j++)
            {
                d[j][i] = vdotq_laneq_s32(d[j][i], w[j], v, 0);
                d[j][i + 1] = vdotq_laneq_s32(d[j][i + 1], w[j], v, 1);
                d[j][i + 2] = vdotq_laneq_s32(d[j][i + 2], w[j], v, 2);
                d[j][i + 3] = vdotq_laneq_s32(d[j][i + 3], w[j], v, 3);
            }
        }
    }
}

void we_neon_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                       int64_t y_stride, bool add, void *scratch)
{
    linear_q8(w, first, n_rows, x, n, y, y_stride, add, scratch);
}

void we_neon_q8_tile(const we_q8 *x, int64_t first, int64_t n) { q8_tile(x, first, n); }
