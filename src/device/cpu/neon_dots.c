/* SPDX-License-Identifier: Apache-2.0
 * build: -march=armv8.2-a+dotprod
 * neon_dots.c - SDOT at its fastest: see dots in kernels.h. */
#include "device/cpu/neon.h"

#define CHAINS 16

int64_t we_neon_dots(int64_t rounds, int32_t *sum)
{
    const int8x16_t ones = vdupq_n_s8(1);
    int32x4_t acc[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++)
    {
        acc[i] = vdupq_n_s32(0);
        __asm__ volatile("" : "+w"(acc[i])); /* or the compiler would find that all chains are one */
    }
    for (int64_t r = 0; r < rounds; r++) UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vdotq_s32(acc[i], ones, ones);
    UNROLL for (int i = 1; i < CHAINS; i++) acc[0] = vaddq_s32(acc[0], acc[i]);
    *sum = vaddvq_s32(acc[0]);
    return rounds * CHAINS * 16;
}
