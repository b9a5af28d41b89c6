/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c
 * avx2_kv.c - attention over caches of 8 and 4 bits: the vectors of kv_codes.h. */
#include "device/cpu/avx2.h"

typedef __m256 vec;
#define LANES 8
#define KEY_PAIRS 1
#define VALUE_PAIRS 1
#include "device/cpu/kv_codes.h"

INLINE vec vec_set(float x) { return _mm256_set1_ps(x); }
INLINE vec vec_load(const float *x) { return _mm256_loadu_ps(x); }
INLINE void vec_store(float *x, vec v) { _mm256_storeu_ps(x, v); }
INLINE vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE float vec_sum(vec v) { return sum8(v); }
INLINE vec vec_halves(const uint16_t *x) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)x)); }

INLINE void vec_to_halves(uint16_t *out, vec v)
{
    v = _mm256_min_ps(_mm256_set1_ps(65504.0f), _mm256_max_ps(_mm256_set1_ps(-65504.0f), v));
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE void codes_pair(int bits, const uint8_t *p, vec v[2])
{
    const __m128i first = _mm_loadl_epi64((const __m128i *)(const void *)p);
    if (bits == 8) {
        const __m128i second = _mm_loadl_epi64((const __m128i *)(const void *)(p + 16));
        v[0] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(first));
        v[1] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(second));
        return;
    }
    const __m256i both = _mm256_cvtepu8_epi32(first);
    v[0] = _mm256_cvtepi32_ps(_mm256_and_si256(both, _mm256_set1_epi32(15)));
    v[1] = _mm256_cvtepi32_ps(_mm256_srli_epi32(both, 4));
}

const we_kv_kernels we_avx2_kv = { kv_keys, kv_values, kv_halves };
