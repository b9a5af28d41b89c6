/* SPDX-License-Identifier: Apache-2.0
 * avx512.h - what the AVX-512 files share: unpacking codes of any width to bytes, and scales of any kind to float32.
 * Only for files compiled with AVX-512 F, BW, VL, DQ, VBMI. */
#ifndef WE_CPU_AVX512_H
#define WE_CPU_AVX512_H

#include "device/cpu/avx2.h"

#define WE_FEW 8 /* most tokens of one pass over rows as they lie in memory */
/* Products of rows with a few tokens: avx512_few.c. */
void we_avx512_few(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                   int64_t y_stride, bool add, uint8_t *scratch);

/* Many tokens and the most common packings, those that it takes: avx512_affine.c. */
bool we_avx512_affine_takes(we_quant quant);
void we_avx512_affine(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                      int64_t y_stride, bool add, void *scratch);

/* The low n bits set. */
INLINE __mmask64 mask64(int64_t n) { return n >= 64 ? ~0ull : n <= 0 ? 0 : (1ull << n) - 1; }
INLINE __mmask16 mask16(int64_t n) { return (__mmask16)(mask64(n) & 0xffff); }

/* Results of up to 16 rows: y = v, or += v. */
INLINE void put16(float *y, __mmask16 there, __m512 v, bool add)
{
    _mm512_mask_storeu_ps(y, there, add ? _mm512_add_ps(v, _mm512_maskz_loadu_ps(there, y)) : v);
}

/* Eight codes of `bits` bits are `bits` bytes, and those lie in one 64-bit lane: bring them there, then take eight bytes
 * beginning at bits 0, bits, 2 bits, ... of the lane, and mask. Reads 8 * bits bytes, no more. */
INLINE __m512i codes64(int bits, const uint8_t *p)
{
    if (bits == 8) return _mm512_loadu_si512(p);
    __m512i lanes;
    if (bits == 4)
        lanes = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(const void *)p));
    else if (bits == 2)
        lanes = _mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)(const void *)p));
    else {
        /* byte i of lane j is byte j * bits + i; those behind the eighth code are masked away below */
        const __m512i at = _mm512_add_epi8(
            _mm512_set1_epi64(0x0706050403020100),
            _mm512_mullo_epi16(_mm512_set_epi64(0x0007000700070007, 0x0006000600060006, 0x0005000500050005,
                                                0x0004000400040004, 0x0003000300030003, 0x0002000200020002,
                                                0x0001000100010001, 0),
                               _mm512_set1_epi16((short)(bits * 0x101))));
        lanes = _mm512_permutexvar_epi8(at, _mm512_maskz_loadu_epi8(mask64(8 * bits), p));
    }
    const __m512i shifts = _mm512_set1_epi64((int64_t)0x0706050403020100 * bits);
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, lanes), _mm512_set1_epi8((char)((1 << bits) - 1)));
}

/* e2m1 codes to bytes 2 * value + 12, in [0, 24]. */
INLINE __m512i e2m1_bytes(__m512i codes)
{
    const __m128i table = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes);
}
#define E2M1_OFFSET 12

INLINE __m512 bf16_floats(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }

INLINE __m512 e4m3_floats(__m128i v) /* a half has four more bits of exponent bias to give: 2^8 */
{
    const __m256i b = _mm256_cvtepu8_epi16(v);
    const __m256i magnitude = _mm256_and_si256(b, _mm256_set1_epi16(0x7f));
    const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(b, _mm256_set1_epi16(0x80)), 8);
    const __m256i nan =
        _mm256_and_si256(_mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7fff));
    const __m256i half = _mm256_or_si256(_mm256_or_si256(sign, nan), _mm256_slli_epi16(magnitude, 7));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0f));
}

/* e4m3 becomes a half with 2^-8 of its value, which the scale makes good: the sign is spread over what lies above seven bits, then one
 * of them is taken away. */
INLINE __m512 e4m3_times(__m128i codes, __m512 scale)
{
    const __m256i wide = _mm256_cvtepi8_epi16(codes);
    __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16((short)0xbfff));
    const __mmask16 nan = _mm_cmpeq_epi8_mask(_mm_or_si128(codes, _mm_set1_epi8(-128)), _mm_set1_epi8(-1));
    half = _mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(0x7fff));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), scale);
}

INLINE __m512 e8m0_floats(__m128i v)
{
    const __m512i b = _mm512_cvtepu8_epi32(v);
    __m512i bits = _mm512_slli_epi32(b, 23);
    bits = _mm512_mask_mov_epi32(bits, _mm512_testn_epi32_mask(b, b), _mm512_set1_epi32(0x00400000)); /* 2^-127 */
    bits =
        _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(b, _mm512_set1_epi32(255)), _mm512_set1_epi32(0x7fc00000));
    return _mm512_castsi512_ps(bits);
}

/* Elements of a plain type where `m` is set, 0 elsewhere. */
INLINE __m512 floats16(we_dtype dtype, const uint8_t *p, __mmask16 m)
{
    switch (dtype) {
    case WE_F32: return _mm512_maskz_loadu_ps(m, p);
    case WE_F16: return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
    default: return bf16_floats(_mm256_maskz_loadu_epi16(m, p));
    }
}

/* Scales, or biases, of a packing where `m` is set, 0 elsewhere. */
INLINE __m512 scale_floats(we_quant_mode mode, we_dtype dtype, const uint8_t *p, __mmask16 m)
{
    switch (mode) {
    case WE_QUANT_MXFP4:
    case WE_QUANT_MXFP8: return e8m0_floats(_mm_maskz_loadu_epi8(m, p));
    case WE_QUANT_NVFP4: return e4m3_floats(_mm_maskz_loadu_epi8(m, p));
    default: return floats16(dtype, p, m);
    }
}

/* Up to 16 scales of a packed matrix, of one row, from group `g` on. */
INLINE __m512 scales16(const we_matrix *w, const uint8_t *row, int64_t g, __mmask16 m)
{
    return scale_floats(w->quant.mode, w->dtype, row + g * we_scale_size(w->quant.mode, w->dtype), m);
}

/* 16 vectors of 16 words: word j of vector i becomes word i of vector j. */
INLINE void transpose16(__m512i v[16])
{
    __m512i u[16];
    UNROLL for (int i = 0; i < 16; i += 2)
    {
        u[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        u[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4)
    {
        v[i] = _mm512_unpacklo_epi64(u[i], u[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(u[i], u[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(u[i + 1], u[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(u[i + 1], u[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) /* v[4 b + i]: columns i, 4 + i, 8 + i, 12 + i of rows 4 b .. 4 b + 3 */
    {
        u[i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88);
        u[4 + i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
        u[8 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
        u[12 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        v[i] = _mm512_shuffle_i32x4(u[i], u[8 + i], 0x88);
        v[8 + i] = _mm512_shuffle_i32x4(u[i], u[8 + i], 0xdd);
        v[4 + i] = _mm512_shuffle_i32x4(u[4 + i], u[12 + i], 0x88);
        v[12 + i] = _mm512_shuffle_i32x4(u[4 + i], u[12 + i], 0xdd);
    }
}

#endif
