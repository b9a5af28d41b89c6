/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c -mavxvnni
 * avxvnni_q8.c - the table for processors that have vpdpbusd for 256 bits, without AVX-512: unsigned codes times signed activations,
 * four neighbours at a time, into int32, in one instruction where AVX2 has three. Everything else: avx2.c. */
#include "device/cpu/avx2_panel.h"

static inline code_kind kind_of(we_quant quant)
{
    (void)quant;
    return KIND_CODES;
}

INLINE void dot_tile(const int8_t (*codes)[64], const int8_t *x, code_kind kind, int words, __m256i d0[TOKENS],
                     __m256i d1[TOKENS])
{
    (void)kind;
    UNROLL for (int i = 0; i < TOKENS; i++) d0[i] = d1[i] = _mm256_setzero_si256();
    UNROLL for (int k = 0; k < words; k++, x += 4 * TILE)
    {
        const __m256i w0 = _mm256_load_si256((const __m256i *)(const void *)codes[k]);
        const __m256i w1 = _mm256_load_si256((const __m256i *)(const void *)(codes[k] + 32));
        UNROLL for (int i = 0; i < TOKENS; i++)
        {
            int32_t four;
            memcpy(&four, x + 4 * i, sizeof four);
            const __m256i v = _mm256_set1_epi32(four);
            d0[i] = _mm256_dpbusd_avx_epi32(d0[i], w0, v);
            d1[i] = _mm256_dpbusd_avx_epi32(d1[i], w1, v);
        }
    }
}

static void linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                      int64_t y_stride, bool add, void *scratch)
{
    if (n > WE_Q8_FEW)
        linear_panels(w, first, n_rows, x, n, y, y_stride, add, scratch);
    else
        we_avx2_few(w, first, n_rows, x, n, y, y_stride, add, scratch);
}

#define CHAINS 8 /* that wait for nobody, see avx512_dots.c */

static int64_t dots(int64_t rounds, int32_t *sum)
{
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i acc[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++)
    {
        acc[i] = _mm256_setzero_si256();
        __asm__ volatile("" : "+x"(acc[i])); /* or the compiler would find that all chains are one */
    }
    for (int64_t r = 0; r < rounds; r++)
        UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_dpbusd_avx_epi32(acc[i], ones, ones);
    UNROLL for (int i = 1; i < CHAINS; i++) acc[0] = _mm256_add_epi32(acc[0], acc[i]);
    *sum = sum8_epi32(acc[0]);
    return rounds * CHAINS * 32;
}

const we_cpu_kernels we_cpu_kernels_avx_vnni = {
    .name = "avxvnni",
    .supported = we_x86_has_avx_vnni,
    .linear_q8 = linear_q8,
    .q8_tile = we_avx2_q8_tile,
    .dots = dots,
};
