/* SPDX-License-Identifier: Apache-2.0
 * avx2.h - what the AVX2 files share. Only for files compiled with AVX2, FMA and F16C. */
#ifndef WE_CPU_AVX2_H
#define WE_CPU_AVX2_H

#include "device/cpu/avx.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE int32_t sum8_epi32(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

INLINE __m256 bf16_floats8(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }

/* Eight elements of a plain type. */
INLINE __m256 floats8(we_dtype dtype, const uint8_t *p)
{
    if (dtype == WE_F32) return _mm256_loadu_ps((const float *)(const void *)p);
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return dtype == WE_F16 ? _mm256_cvtph_ps(h) : bf16_floats8(h);
}

INLINE bool e4m3_has_nan(const uint8_t *codes, int64_t n)
{
    return memchr(codes, 0x7f, (size_t)n) || memchr(codes, 0xff, (size_t)n);
}

/* 8 vectors of 8 words: word j of vector i becomes word i of vector j. */
INLINE void transpose8(__m256i v[8])
{
    __m256i u[8];
    UNROLL for (int i = 0; i < 8; i += 2)
    {
        u[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        u[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4)
    {
        v[i] = _mm256_unpacklo_epi64(u[i], u[i + 2]);
        v[i + 1] = _mm256_unpackhi_epi64(u[i], u[i + 2]);
        v[i + 2] = _mm256_unpacklo_epi64(u[i + 1], u[i + 3]);
        v[i + 3] = _mm256_unpackhi_epi64(u[i + 1], u[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        u[i] = _mm256_permute2x128_si256(v[i], v[4 + i], 0x20);
        u[4 + i] = _mm256_permute2x128_si256(v[i], v[4 + i], 0x31);
    }
    UNROLL for (int i = 0; i < 8; i++) v[i] = u[i];
}

#endif
