/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c
 * avx2_dots.c - what AVX2 has for int8 dot products at its fastest, as codes of up to 4 bits allow: two instructions for 32,
 * and two more for every eight of those. See dots in kernels.h. */
#include "device/cpu/avx2.h"

#define CHAINS 6 /* each with a sum in 16 and one in 32 bits */
#define PAIRS 8  /* that fit 16 bits */

int64_t we_avx2_dots(int64_t rounds, int32_t *sum)
{
    const __m256i one = _mm256_set1_epi16(1);
    __m256i acc[CHAINS], ones = _mm256_set1_epi8(1);
    UNROLL for (int i = 0; i < CHAINS; i++)
    {
        acc[i] = _mm256_setzero_si256();
        __asm__ volatile("" : "+x"(acc[i])); /* or the compiler would find that all chains are one */
    }
    for (int64_t r = 0; r < rounds; r++) {
        __m256i pairs[CHAINS];
        UNROLL for (int k = 0; k < PAIRS; k++) UNROLL for (int i = 0; i < CHAINS; i++)
        {
            __asm__ volatile("" : "+x"(ones)); /* or the products would be taken out of the loop */
            const __m256i product = _mm256_maddubs_epi16(ones, ones);
            pairs[i] = k ? _mm256_add_epi16(pairs[i], product) : product;
            __asm__("" : "+x"(pairs[i])); /* or they would be added up as a tree */
        }
        UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(pairs[i], one));
    }
    UNROLL for (int i = 1; i < CHAINS; i++) acc[0] = _mm256_add_epi32(acc[0], acc[i]);
    *sum = sum8_epi32(acc[0]);
    return rounds * CHAINS * PAIRS * 32;
}
