/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mfma -mf16c
 * avx512_bf16.c - attention's products for processors that also multiply bfloat16: twice as many at once as float32, and keys
 * and values are converted once for all queries of a unit instead of once for four. Products with
 * plain weights: avx512_plain.c. Everything else: avx512.c. */
#include "device/cpu/avx512.h"

static void to_bf16(const float *x, int64_t ldx, uint16_t *out, int64_t ldo, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++, x += ldx, out += ldo)
        for (int64_t j = 0; j < n + n % 2; j += 16) { /* an odd one's neighbour is 0 */
            const __m512 v = _mm512_maskz_loadu_ps(mask16(n - j), x + j);
            _mm256_mask_storeu_epi16(out + j, mask16(n + n % 2 - j), (__m256i)_mm512_cvtneps_pbh(v));
        }
}

/* Two rows side by side: the first in the low half of each word. */
static void pairs_f16(const uint16_t *b, int64_t ldb, int64_t k, int64_t n, uint32_t *out, int64_t ldo)
{
    const __m512i turned = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                            21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int64_t i = 0; i < k; i += 2, b += 2 * ldb, out += ldo)
        for (int64_t j = 0; j < n; j += 16) {
            const __mmask16 m = mask16(n - j);
            const __m512 first = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, b + j));
            const __m512 second =
                i + 1 < k ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, b + ldb + j)) : _mm512_setzero_ps();
            const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
            _mm512_mask_storeu_epi32(out + j, m, _mm512_permutexvar_epi16(turned, both));
        }
}

INLINE __m512bh pair(const uint16_t *a)
{
    int32_t both;
    memcpy(&both, a, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
}

INLINE void mul_tile(const uint16_t *a, int64_t lda, const uint32_t *b, int64_t ldb, float *c, int64_t ldc, int64_t n,
                     int64_t pairs, bool add, int rows)
{
    __m512 s[4][4];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < 4; j++) s[i][j] =
        add ? _mm512_maskz_loadu_ps(mask16(n - 16 * j), c + i * ldc + 16 * j) : _mm512_setzero_ps();
    for (int64_t l = 0; l < pairs; l++) {
        __m512bh v[4];
        UNROLL for (int j = 0; j < 4; j++) v[j] =
            (__m512bh)_mm512_maskz_loadu_epi32(mask16(n - 16 * j), b + l * ldb + 16 * j);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const __m512bh x = pair(a + i * lda + 2 * l);
            UNROLL for (int j = 0; j < 4; j++) s[i][j] = _mm512_dpbf16_ps(s[i][j], x, v[j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < 4; j++)
        _mm512_mask_storeu_ps(c + i * ldc + 16 * j, mask16(n - 16 * j), s[i][j]);
}

static void mul_bf16(const uint16_t *a, int64_t lda, const uint32_t *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                     int64_t n, int64_t pairs, bool add)
{
    for (int64_t j = 0; j < n; j += 64) {
        const int64_t left = WE_MIN(n - j, 64);
        int64_t i = 0;
        for (; i + 4 <= m; i += 4)
            if (left == 64)
                mul_tile(a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, 64, pairs, add, 4);
            else
                mul_tile(a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, left, pairs, add, 4);
        for (; i < m; i++) mul_tile(a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, left, pairs, add, 1);
    }
}

const we_cpu_kernels we_cpu_kernels_avx512_bf16 = {
    .name = "avx512bf16",
    .supported = we_x86_has_avx512_bf16,
    .linear_bf16 = we_avx512_linear_bf16,
    .bf16_tile = we_avx512_bf16_tile,
    .to_bf16 = to_bf16,
    .pairs_f16 = pairs_f16,
    .mul_bf16 = mul_bf16,
};
