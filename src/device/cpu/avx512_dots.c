/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi
 * avx512_dots.c - vpdpbusd at its fastest: see dots in kernels.h. */
#include "device/cpu/avx512.h"

#define CHAINS 16 /* that wait for nobody: an instruction takes 4 or 5 cycles, one or two begin in each */

int64_t we_avx512_dots(int64_t rounds, int32_t *sum)
{
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i acc[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++)
    {
        acc[i] = _mm512_setzero_si512();
        __asm__ volatile("" : "+v"(acc[i])); /* or the compiler would find that all chains are one */
    }
    for (int64_t r = 0; r < rounds; r++)
        UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], ones, ones);
    UNROLL for (int i = 1; i < CHAINS; i++) acc[0] = _mm512_add_epi32(acc[0], acc[i]);
    *sum = _mm512_reduce_add_epi32(acc[0]);
    return rounds * CHAINS * 64;
}
