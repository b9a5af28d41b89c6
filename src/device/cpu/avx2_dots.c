/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c
 * avx2_dots.c - what AVX2 has for int8 dot products at its fastest, three instructions for 32: see dots in kernels.h. */
#include "device/cpu/avx2.h"

#define CHAINS 8

int64_t we_avx2_dots(int64_t rounds, int32_t *sum)
{
    const __m256i pairs = _mm256_set1_epi16(1);
    __m256i acc[CHAINS], ones = _mm256_set1_epi8(1);
    UNROLL for (int i = 0; i < CHAINS; i++)
    {
        acc[i] = _mm256_setzero_si256();
        __asm__ volatile("" : "+x"(acc[i])); /* or the compiler would find that all chains are one */
    }
    for (int64_t r = 0; r < rounds; r++) UNROLL for (int i = 0; i < CHAINS; i++)
        {
            __asm__ volatile("" : "+x"(ones)); /* or the products would be taken out of the loop */
            acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(ones, ones), pairs));
        }
    UNROLL for (int i = 1; i < CHAINS; i++) acc[0] = _mm256_add_epi32(acc[0], acc[i]);
    *sum = sum8_epi32(acc[0]);
    return rounds * CHAINS * 32;
}
