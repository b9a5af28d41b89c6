/* SPDX-License-Identifier: Apache-2.0
 * build: -march=armv8.2-a+dotprod+i8mm
 * neoni8mm_q8.c - the table for processors that multiply matrices of int8 (Armv8.6: Graviton 3, Apple's M2 and later): SMMLA has two rows and
 * two tokens, eight columns each: twice the products of SDOT in one instruction. Everything else: neon.c. */
#define WORD 8
#include "device/cpu/neon_panel.h"

INLINE void put_words(const int8x16_t rows[4], int8_t *to)
{
    UNROLL for (int i = 0; i < 2; i++)
    {
        const int64x2_t a = vreinterpretq_s64_s8(rows[2 * i]), b = vreinterpretq_s64_s8(rows[2 * i + 1]);
        vst1q_s8(to + 16 * i, vreinterpretq_s8_s64(vzip1q_s64(a, b)));
        vst1q_s8(to + 16 * i + 128, vreinterpretq_s8_s64(vzip2q_s64(a, b)));
    }
}

INLINE void dot_tile(const int8_t *codes, const int8_t *x, int words, int n, int32x4_t d[2][TILE])
{
    int32x4_t s[4][TILE / 2]; /* two rows with two tokens: rows follow each other, tokens within */
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < n / 2; j++) s[i][j] = vdupq_n_s32(0);
    UNROLL for (int k = 0; k < words; k++, codes += 16 * WORD, x += TILE * WORD)
    {
        __asm__ volatile("" ::: "memory"); /* or loads of several words come first, and sums are spilled for them */
        int8x16_t w[4];
        UNROLL for (int i = 0; i < 4; i++) w[i] = vld1q_s8(codes + 16 * i);
        UNROLL for (int j = 0; j < n / 2; j++)
        {
            const int8x16_t v = vld1q_s8(x + 16 * j);
            UNROLL for (int i = 0; i < 4; i++) s[i][j] = vmmlaq_s32(s[i][j], w[i], v);
        }
    }
    UNROLL for (int i = 0; i < 2; i++) UNROLL for (int j = 0; j < n / 2; j++)
    {
        d[i][2 * j] = vuzp1q_s32(s[2 * i][j], s[2 * i + 1][j]);
        d[i][2 * j + 1] = vuzp2q_s32(s[2 * i][j], s[2 * i + 1][j]);
    }
}

#define CHAINS 16 /* that wait for nobody, see neon_dots.c */

static int64_t dots(int64_t rounds, int32_t *sum)
{
    const int8x16_t ones = vdupq_n_s8(1);
    int32x4_t acc[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++)
    {
        acc[i] = vdupq_n_s32(0);
        __asm__ volatile("" : "+w"(acc[i])); /* or the compiler would find that all chains are one */
    }
    for (int64_t r = 0; r < rounds; r++)
        UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vmmlaq_s32(acc[i], ones, ones);
    UNROLL for (int i = 1; i < CHAINS; i++) acc[0] = vaddq_s32(acc[0], acc[i]);
    *sum = vaddvq_s32(acc[0]);
    return rounds * CHAINS * 32;
}

const we_cpu_kernels we_cpu_kernels_neon_i8mm = {
    .name = "neoni8mm",
    .supported = we_arm_has_i8mm,
    .linear_q8 = linear_q8,
    .q8_tile = q8_tile,
    .dots = dots,
};
