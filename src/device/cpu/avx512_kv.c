/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mfma -mf16c
 * avx512_kv.c - attention over caches of 8 and 4 bits: the vectors of kv_codes.h. */
#include "device/cpu/avx512.h"

typedef __m512 vec;
#define LANES 16
#define KEY_PAIRS 2
#define VALUE_PAIRS 1
#include "device/cpu/kv_codes.h"

INLINE vec vec_set(float x) { return _mm512_set1_ps(x); }
INLINE vec vec_load(const float *x) { return _mm512_loadu_ps(x); }
INLINE void vec_store(float *x, vec v) { _mm512_storeu_ps(x, v); }
INLINE vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE float vec_sum(vec v) { return _mm512_reduce_add_ps(v); }
INLINE vec vec_halves(const uint16_t *x)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)x));
}

INLINE void vec_to_halves(uint16_t *out, vec v)
{
    const __m512 most = _mm512_set1_ps(65504.0f), least = _mm512_set1_ps(-65504.0f);
    v = _mm512_min_ps(most, _mm512_max_ps(least, v));
    _mm256_storeu_si256((__m256i *)(void *)out, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE void codes_pair(int bits, const uint8_t *p, vec v[2])
{
    const __m128i first = _mm_loadu_si128((const __m128i *)(const void *)p);
    if (bits == 8) {
        const __m128i second = _mm_loadu_si128((const __m128i *)(const void *)(p + 16));
        v[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(first));
        v[1] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(second));
        return;
    }
    const __m512i both = _mm512_cvtepu8_epi32(first);
    v[0] = _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15)));
    v[1] = _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4));
}

const we_kv_kernels we_avx512_kv = { kv_keys, kv_values, kv_halves };
