/* SPDX-License-Identifier: Apache-2.0
 * avx2_codes.h - scales of any kind to float32 and codes of any width to bytes or words, for the files that multiply packed weights
 * by AVX2. */
#ifndef WE_CPU_AVX2_CODES_H
#define WE_CPU_AVX2_CODES_H

#include "device/cpu/avx2.h"

INLINE bool is_e2m1(we_quant_mode mode) { return mode != WE_QUANT_AFFINE; }

/* ---- Scales ---- */

/* n <= 8 elements of 2 or 4 bytes as floats, 0 behind them. The usual numbers are one load each. */
INLINE __m256 load_n(we_dtype dtype, const uint8_t *p, int64_t n)
{
    if (n >= 8) return floats8(dtype, p);
    __m128i h = _mm_setzero_si128();
    if (dtype == WE_F32) {
        float v[8] = { 0 };
        memcpy(v, p, (size_t)n * 4);
        return _mm256_loadu_ps(v);
    }
    if (n == 4)
        h = _mm_loadl_epi64((const __m128i *)(const void *)p);
    else
        memcpy(&h, p, (size_t)n * 2);
    return dtype == WE_F16 ? _mm256_cvtph_ps(h) : bf16_floats8(h);
}

INLINE __m256 e4m3_n(const uint8_t *p, int64_t n)
{
    uint64_t bytes = 0;
    memcpy(&bytes, p, (size_t)n);
    const __m128i b = _mm_cvtepu8_epi16(_mm_cvtsi64_si128((int64_t)bytes));
    const __m128i magnitude = _mm_and_si128(b, _mm_set1_epi16(0x7f));
    const __m128i sign = _mm_slli_epi16(_mm_and_si128(b, _mm_set1_epi16(0x80)), 8);
    const __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7f)), _mm_set1_epi16(0x7fff));
    const __m128i half = _mm_or_si128(_mm_or_si128(sign, nan), _mm_slli_epi16(magnitude, 7));
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0f)); /* a half's exponent bias is 8 more */
}

INLINE __m256 e8m0_n(const uint8_t *p, int64_t n)
{
    float v[8] = { 0 };
    for (int64_t i = 0; i < n; i++) v[i] = we_e8m0_to_f32(p[i]);
    return _mm256_loadu_ps(v);
}

/* ---- Codes ---- */

/* 16 codes of 2, 3, 5 or 6 bits in 16-bit lanes: bring the two bytes that hold a code to its lane, shift it up to the lane's
 * top by a multiplication, then down. Reads 16 bytes. */
INLINE __m256i codes16(int bits, const uint8_t *p)
{
    if (bits == 8) return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
#define AT(i) (char)((i)*bits / 8), (char)((i)*bits / 8 + 1)
#define UP(i) (short)(1 << (16 - bits - (i)*bits % 8))
    const __m256i at = _mm256_setr_epi8(AT(0), AT(1), AT(2), AT(3), AT(4), AT(5), AT(6), AT(7), AT(8), AT(9), AT(10),
                                        AT(11), AT(12), AT(13), AT(14), AT(15));
    const __m256i up = _mm256_setr_epi16(UP(0), UP(1), UP(2), UP(3), UP(4), UP(5), UP(6), UP(7), UP(8), UP(9), UP(10),
                                         UP(11), UP(12), UP(13), UP(14), UP(15));
#undef AT
#undef UP
    const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, at), up), 16 - bits);
}

/* e2m1 codes to bytes 2 * value + 12. */
INLINE __m256i e2m1_bytes(__m256i codes)
{
    const __m128i table = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

#endif
