/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c
 * avx2_q8.c - many tokens' int8 activations times packed weights by vpmaddubsw: unsigned codes times signed activations, pairs
 * summed in 16 bits, which it does with saturation; few tokens: avx2_few.c. What fits decides how soon vpmaddwd must widen:
 *
 *   2 to 4 bits    eight pairs of 15 * 127 stay below 2^15: once in 32 columns
 *   5, 6, e2m1     two pairs of 63 * 127 do (e2m1: codes up to 24)
 *   8 bits         codes less 128, whose magnitudes are multiplied with activations that have their signs: one pair does; the 128
 *                  is in the bias */
#include "device/cpu/avx2_panel.h"

static inline code_kind kind_of(we_quant quant)
{
    if (is_e2m1(quant.mode)) return KIND_CODES;
    return quant.bits <= 4 ? KIND_SMALL : quant.bits == 8 ? KIND_SIGNED : KIND_CODES;
}

INLINE __m256i rows8(const int8_t *codes) { return _mm256_load_si256((const __m256i *)(const void *)codes); }
INLINE __m256i token_of(const int8_t *x, int token)
{
    int32_t four;
    memcpy(&four, x + 4 * token, sizeof four);
    return _mm256_set1_epi32(four);
}
INLINE __m256i widened(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

/* The sum so far, in a register: else the compiler computes all products first, to add them up as a tree, and spills them. */
INLINE __m256i so_far(__m256i sum)
{
    __asm__("" : "+x"(sum));
    return sum;
}

INLINE void small_codes(const int8_t (*codes)[64], const int8_t *x, int words, __m256i d0[TOKENS], __m256i d1[TOKENS])
{
    UNROLL for (int k = 0; k < words; k++, x += 4 * TILE)
    {
        const __m256i w0 = rows8(codes[k]), w1 = rows8(codes[k] + 32);
        UNROLL for (int i = 0; i < TOKENS; i++)
        {
            const __m256i v = token_of(x, i);
            const __m256i p0 = _mm256_maddubs_epi16(w0, v), p1 = _mm256_maddubs_epi16(w1, v);
            d0[i] = so_far(k ? _mm256_add_epi16(d0[i], p0) : p0);
            d1[i] = so_far(k ? _mm256_add_epi16(d1[i], p1) : p1);
        }
    }
    UNROLL for (int i = 0; i < TOKENS; i++) d0[i] = widened(d0[i]), d1[i] = widened(d1[i]);
}

INLINE void two_at_once(const int8_t (*codes)[64], const int8_t *x, int words, __m256i d0[TOKENS], __m256i d1[TOKENS])
{
    UNROLL for (int k = 0; k < words; k += 2, x += 8 * TILE)
    {
        const __m256i w0 = rows8(codes[k]), w1 = rows8(codes[k] + 32);
        const __m256i u0 = rows8(codes[k + 1]), u1 = rows8(codes[k + 1] + 32);
        UNROLL for (int i = 0; i < TOKENS; i++)
        {
            const __m256i v = token_of(x, i), next = token_of(x, TILE + i);
            const __m256i p0 = widened(_mm256_add_epi16(_mm256_maddubs_epi16(w0, v), _mm256_maddubs_epi16(u0, next)));
            const __m256i p1 = widened(_mm256_add_epi16(_mm256_maddubs_epi16(w1, v), _mm256_maddubs_epi16(u1, next)));
            d0[i] = so_far(k ? _mm256_add_epi32(d0[i], p0) : p0);
            d1[i] = so_far(k ? _mm256_add_epi32(d1[i], p1) : p1);
        }
    }
}

INLINE void signed_codes(const int8_t (*codes)[64], const int8_t *x, int words, __m256i d0[TOKENS], __m256i d1[TOKENS])
{
    UNROLL for (int k = 0; k < words; k++, x += 4 * TILE)
    {
        const __m256i w0 = rows8(codes[k]), w1 = rows8(codes[k] + 32);
        const __m256i a0 = _mm256_abs_epi8(w0), a1 = _mm256_abs_epi8(w1); /* -128: 128, unsigned */
        UNROLL for (int i = 0; i < TOKENS; i++)
        {
            const __m256i v = token_of(x, i);
            const __m256i p0 = widened(_mm256_maddubs_epi16(a0, _mm256_sign_epi8(v, w0)));
            const __m256i p1 = widened(_mm256_maddubs_epi16(a1, _mm256_sign_epi8(v, w1)));
            d0[i] = so_far(k ? _mm256_add_epi32(d0[i], p0) : p0);
            d1[i] = so_far(k ? _mm256_add_epi32(d1[i], p1) : p1);
        }
    }
}

INLINE void dot_tile(const int8_t (*codes)[64], const int8_t *x, code_kind kind, int words, __m256i d0[TOKENS],
                     __m256i d1[TOKENS])
{
    if (kind == KIND_SMALL)
        small_codes(codes, x, words, d0, d1);
    else if (kind == KIND_CODES)
        two_at_once(codes, x, words, d0, d1);
    else
        signed_codes(codes, x, words, d0, d1);
}

void we_avx2_q8_tile(const we_q8 *x, int64_t first, int64_t n)
{
    const int64_t stride = x->stride, groups = stride / WE_Q8_GROUP;
    int8_t *to = x->tiles + first * stride;
    for (int64_t c = 0; c < stride; c += 32) {
        __m256i v[TILE];
        for (int64_t i = 0; i < TILE; i++)
            v[i] = i < n ? _mm256_load_si256((const __m256i *)(const void *)(x->values + (first + i) * stride + c))
                         : _mm256_setzero_si256();
        transpose8(v);
        UNROLL for (int i = 0; i < TILE; i++) _mm256_store_si256((__m256i *)(void *)(to + TILE * c + 32 * i), v[i]);
    }
    for (int64_t g = 0; g < groups; g++)
        for (int64_t i = 0; i < TILE; i++) {
            const int64_t at = first * groups + g * TILE + i;
            x->tile_scales[at] = i < n ? x->scales[(first + i) * groups + g] : 0;
            x->tile_sums[at] = i < n ? x->sums[(first + i) * groups + g] : 0;
        }
}

void we_avx2_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                       int64_t y_stride, bool add, void *scratch)
{
    if (n > WE_Q8_FEW)
        linear_panels(w, first, n_rows, x, n, y, y_stride, add, scratch);
    else
        we_avx2_few(w, first, n_rows, x, n, y, y_stride, add, scratch);
}
