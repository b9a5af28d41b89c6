/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mfma -mf16c
 * avx512_bf16.c - attention of many queries for processors that also multiply bfloat16: twice as many at once as float32, keys
 * and values are converted once for all queries of a unit instead of once for four, and scores never leave the registers.
 * Products with plain weights: avx512_plain.c. Everything else: avx512.c. */
#include "device/cpu/avx512.h"

#include <math.h>

static void to_bf16(const float *x, int64_t ldx, uint16_t *out, int64_t ldo, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++, x += ldx, out += ldo)
        for (int64_t j = 0; j < n + n % 2; j += 16) { /* an odd one's neighbour is 0 */
            const __m512 v = _mm512_maskz_loadu_ps(mask16(n - j), x + j);
            _mm256_mask_storeu_epi16(out + j, mask16(n + n % 2 - j), (__m256i)_mm512_cvtneps_pbh(v));
        }
}

INLINE void pair_rows(const uint16_t *first, const uint16_t *second, uint32_t *out, __mmask16 m)
{
    const __m512i turned = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                            21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512 a = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, first));
    const __m512 b = second ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, second)) : _mm512_setzero_ps();
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    _mm512_mask_storeu_epi32(out, m, _mm512_permutexvar_epi16(turned, both));
}

/* Two rows side by side: the first in the low half of each word. */
static void pairs_f16(const uint16_t *b, int64_t k, int64_t n, uint32_t *out)
{
    for (int64_t i = 0; i < k; i += 2, b += 2 * n, out += n) {
        const uint16_t *second = i + 1 < k ? b + n : NULL;
        int64_t j = 0;
        if (second)
            for (; j + 16 <= n; j += 16) pair_rows(b + j, second + j, out + j, 0xffff);
        for (; j < n; j += 16) pair_rows(b + j, second ? second + j : NULL, out + j, mask16(n - j));
    }
}

/* ---- Attention ----
 *
 * Four queries at a time: their scores with a block's 64 keys are 16 vectors, which become weights in registers and are
 * multiplied with the values at once. Source: Dao et al. 2022, arXiv:2205.14135 (FlashAttention). What a score is measured against
 * is brought up only where it is exceeded by more than SLACK, which is seldom once some blocks have passed: weights may be above 1
 * (so does FlashAttention-4). */

#define QUERIES 4
#define VECTORS 4 /* of 16 positions, or of 16 of a head's dimensions */
#define SLACK 8.0f

INLINE __m512bh pair(const uint16_t *a)
{
    int32_t both;
    memcpy(&both, a, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
}

/* s += A B: rows of A, pairs of it and of B, n columns of B. */
INLINE void multiply(__m512 s[QUERIES][VECTORS], const uint16_t *a, int64_t lda, const uint32_t *b, int64_t ldb,
                     int64_t n, int64_t pairs, int rows)
{
    for (int64_t l = 0; l < pairs; l++) {
        __m512bh v[VECTORS];
        UNROLL for (int j = 0; j < VECTORS; j++) v[j] =
            (__m512bh)_mm512_maskz_loadu_epi32(mask16(n - 16 * j), b + l * ldb + 16 * j);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const __m512bh x = pair(a + i * lda + 2 * l);
            UNROLL for (int j = 0; j < VECTORS; j++) s[i][j] = _mm512_dpbf16_ps(s[i][j], x, v[j]);
        }
    }
}

/* acc += W V for 64 dimensions or less. */
INLINE void add_values(const uint16_t (*weights)[WE_KV_BLOCK], const uint32_t *values, int64_t dim, float *acc,
                       int64_t n, int64_t begin, int64_t end, int rows)
{
    __m512 s[QUERIES][VECTORS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < VECTORS; j++) s[i][j] =
        _mm512_maskz_loadu_ps(mask16(n - 16 * j), acc + i * dim + 16 * j);
    multiply(s, weights[0] + 2 * begin, WE_KV_BLOCK, values + begin * dim, dim, n, end - begin, rows);
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < VECTORS; j++)
        _mm512_mask_storeu_ps(acc + i * dim + 16 * j, mask16(n - 16 * j), s[i][j]);
}

/* 2^x with an error of 7.5e-5, a fiftieth of what rounding to bfloat16 adds. */
INLINE __m512 exp2_16(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(0.0551716668f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.2426111351f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6932609870f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.9999280728f));
    return _mm512_scalef_ps(p, n);
}

static void raise_reference(const we_bf16_queries *x, int64_t i, int64_t dim, float most)
{
    if (!(most > x->reference[i])) return;
    const __m512 factor = exp2_16(_mm512_set1_ps(x->reference[i] - most));
    _mm512_storeu_ps(x->sum[i], _mm512_mul_ps(_mm512_loadu_ps(x->sum[i]), factor));
    for (int64_t j = 0; j < dim; j += 16) {
        const __mmask16 m = mask16(dim - j);
        float *at = x->acc + i * dim + j;
        _mm512_mask_storeu_ps(at, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, at), factor));
    }
    x->reference[i] = most;
}

INLINE __mmask16 seen_of(const we_bf16_queries *x, int64_t i, int j)
{
    return mask16(x->to[i] - 16 * j) & (__mmask16)~mask16(x->from[i] - 16 * j);
}

INLINE void attend_tile(const we_bf16_block *b, const we_bf16_queries *x, int64_t at, bool masked, int rows)
{
    const int64_t dim = b->dim, q_stride = dim + dim % 2;
    __m512 s[QUERIES][VECTORS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < VECTORS; j++) s[i][j] = _mm512_setzero_ps();
    multiply(s, x->q + at * q_stride, q_stride, b->keys, WE_KV_BLOCK, WE_KV_BLOCK, q_stride / 2, rows);

    __m512 most[QUERIES];
    __mmask16 exceeded = 0;
    UNROLL for (int i = 0; i < rows; i++)
    {
        if (masked)
            UNROLL for (int j = 0; j < VECTORS; j++) s[i][j] =
                _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), seen_of(x, at + i, j), s[i][j]);
        most[i] = _mm512_max_ps(_mm512_max_ps(s[i][0], s[i][1]), _mm512_max_ps(s[i][2], s[i][3]));
        exceeded |= _mm512_cmp_ps_mask(most[i], _mm512_set1_ps(x->reference[at + i] + SLACK), _CMP_GT_OQ);
    }
    if (exceeded) UNROLL for (int i = 0; i < rows; i++) raise_reference(x, at + i, dim, _mm512_reduce_max_ps(most[i]));

    _Alignas(64) uint16_t weights[QUERIES][WE_KV_BLOCK];
    UNROLL for (int i = 0; i < rows; i++)
    {
        const __m512 reference = _mm512_set1_ps(x->reference[at + i]);
        UNROLL for (int j = 0; j < VECTORS; j++)
        {
            s[i][j] = exp2_16(_mm512_sub_ps(s[i][j], reference));
            if (masked) s[i][j] = _mm512_maskz_mov_ps(seen_of(x, at + i, j), s[i][j]);
        }
        const __m512 sum = _mm512_add_ps(_mm512_add_ps(s[i][0], s[i][1]), _mm512_add_ps(s[i][2], s[i][3]));
        _mm512_storeu_ps(x->sum[at + i], _mm512_add_ps(_mm512_loadu_ps(x->sum[at + i]), sum));
        _mm512_store_si512(weights[i], (__m512i)_mm512_cvtne2ps_pbh(s[i][1], s[i][0]));
        _mm512_store_si512(weights[i] + 32, (__m512i)_mm512_cvtne2ps_pbh(s[i][3], s[i][2]));
    }

    int64_t begin = 0, end = WE_KV_BLOCK / 2;
    if (masked) {
        end = 0, begin = WE_KV_BLOCK / 2;
        for (int i = 0; i < rows; i++) {
            begin = WE_MIN(begin, x->from[at + i] / 2);
            end = WE_MAX(end, (x->to[at + i] + 1) / 2);
        }
    }
    const uint16_t(*w)[WE_KV_BLOCK] = (const uint16_t(*)[WE_KV_BLOCK])weights;
    float *acc = x->acc + at * dim;
    int64_t j = 0;
    for (; j + 64 <= dim; j += 64) add_values(w, b->values + j, dim, acc + j, 64, begin, end, rows);
    if (j < dim) add_values(w, b->values + j, dim, acc + j, dim - j, begin, end, rows);
}

static bool sees_nothing(const we_bf16_queries *x, int64_t at, int64_t n)
{
    for (int64_t i = at; i < at + n; i++)
        if (x->from[i] < x->to[i]) return false;
    return true;
}

static void attend_bf16(const we_bf16_block *b, const we_bf16_queries *x, int64_t m)
{
    int64_t at = 0;
    if (!x->to) {
        for (; at + QUERIES <= m; at += QUERIES) attend_tile(b, x, at, false, QUERIES);
        for (; at < m; at++) attend_tile(b, x, at, false, 1);
        return;
    }
    for (; at + QUERIES <= m; at += QUERIES)
        if (!sees_nothing(x, at, QUERIES)) attend_tile(b, x, at, true, QUERIES);
    for (; at < m; at++)
        if (!sees_nothing(x, at, 1)) attend_tile(b, x, at, true, 1);
}

const we_cpu_kernels we_cpu_kernels_avx512_bf16 = {
    .name = "avx512bf16",
    .supported = we_x86_has_avx512_bf16,
    .linear_bf16 = we_avx512_linear_bf16,
    .bf16_tile = we_avx512_bf16_tile,
    .to_bf16 = to_bf16,
    .pairs_f16 = pairs_f16,
    .attend_bf16 = attend_bf16,
};
