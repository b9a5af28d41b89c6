/* SPDX-License-Identifier: Apache-2.0
 * avx_ggml.h - products of a few tokens' int8 activations with ggml's blocks as they lie in the file (their layouts: quant/ggml.c).
 * avx2_ggml.c and avx512_ggml.c include it, each with its own product of 32 codes.
 *
 * A row goes by in steps of 256 elements: one K block, or eight blocks of 32. A step has
 *
 *     scales and biases   w = scale * code - bias, of 8 groups of 32 or 16 groups of 16; the sum over biases needs only the
 *                         sums of the activations, one multiply-add for eight groups
 *     codes               32 at a time in the order of the columns; unsigned and below 64, or signed ones of 8 bits
 *     dot products        whole numbers, then one multiply-add with both scales
 */
#ifndef WE_CPU_AVX_GGML_H
#define WE_CPU_AVX_GGML_H

#include "device/cpu/avx2.h"

#include <assert.h>

#define STEP 256
#define AHEAD 2048 /* bytes that are prefetched: the hardware's prefetcher stops at the end of every page */
#define AT_ONCE 4  /* tokens of one pass over the rows, at most */

/* ---- Scales ---- */

typedef struct step_scales {
    __m256 scale[2], bias[2]; /* [1]: only of types with 16 groups */
} step_scales;

INLINE int step_groups(we_dtype dtype)
{
    return dtype == WE_GGML_Q2_K || dtype == WE_GGML_Q3_K || dtype == WE_GGML_Q6_K ? 16 : 8;
}

/* Codes that use all 8 bits and are taken as signed. */
INLINE bool is_signed(we_dtype dtype)
{
    return dtype == WE_GGML_Q8_0 || dtype == WE_GGML_IQ4_NL || dtype == WE_GGML_IQ4_XS;
}

INLINE float zero_of(we_dtype dtype)
{
    switch (dtype) {
    case WE_GGML_Q4_0: return 8;
    case WE_GGML_Q5_0: return 16;
    case WE_GGML_Q3_K: return 4;
    case WE_GGML_Q6_K: return 32;
    case WE_GGML_MXFP4: return 12;
    default: return 0;
    }
}

INLINE uint32_t word_at(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

INLINE __m256 half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm256_cvtph_ps(_mm_set1_epi16((short)h));
}

/* The halves at p, p + size, ... of eight blocks. */
INLINE __m256 eight_halves(const uint8_t *p, size_t size)
{
    __m128i h = _mm_setzero_si128();
#define PUT(i) h = _mm_insert_epi16(h, p[(i)*size] | p[(i)*size + 1] << 8, i)
    PUT(0), PUT(1), PUT(2), PUT(3), PUT(4), PUT(5), PUT(6), PUT(7);
#undef PUT
    return _mm256_cvtph_ps(h);
}

/* Half of e8m0's powers of two, since codes are twice the value; the two least are subnormal. */
INLINE __m256 eight_powers(const uint8_t *p, size_t size)
{
    const __m256i e =
        _mm256_setr_epi32(p[0], p[size], p[2 * size], p[3 * size], p[4 * size], p[5 * size], p[6 * size], p[7 * size]);
    const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i usual = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(small, usual, _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1))));
}

INLINE __m256 floats_of_bytes(uint64_t bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes)));
}

/* Q4_K's and Q5_K's twelve bytes: eight scales and mins of 6 bits. */
INLINE step_scales scales_of_12(const uint8_t *p)
{
    const uint32_t low = 0x0f0f0f0f, high = 0x03030303, six = 0x3f3f3f3f;
    const uint32_t a = word_at(p + 4), b = word_at(p + 8), c = word_at(p + 12);
    const uint64_t scales = (a & six) | (uint64_t)((c & low) | (a >> 6 & high) << 4) << 32;
    const uint64_t mins = (b & six) | (uint64_t)((c >> 4 & low) | (b >> 6 & high) << 4) << 32;
    step_scales s = { 0 };
    s.scale[0] = _mm256_mul_ps(half_at(p), floats_of_bytes(scales));
    s.bias[0] = _mm256_mul_ps(half_at(p + 2), floats_of_bytes(mins));
    return s;
}

INLINE void put_16(__m256 d, __m128i signed_bytes, __m256 *out)
{
    out[0] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(signed_bytes)));
    out[1] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(signed_bytes, signed_bytes))));
}

INLINE __m128i q3_k_scales(const uint8_t *s)
{
    const __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)s), nibble = _mm_set1_epi8(15);
    const __m128i lows = _mm_unpacklo_epi64(_mm_and_si128(low, nibble), _mm_and_si128(_mm_srli_epi16(low, 4), nibble));
    const uint32_t h = word_at(s + 8);
    const __m128i highs =
        _mm_and_si128(_mm_setr_epi32((int)h, (int)(h >> 2), (int)(h >> 4), (int)(h >> 6)), _mm_set1_epi8(3));
    return _mm_sub_epi8(_mm_or_si128(lows, _mm_slli_epi16(highs, 4)), _mm_set1_epi8(32));
}

INLINE __m256 iq4_xs_scales(const uint8_t *p)
{
    const __m256i by = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)word_at(p + 4)), _mm256_slli_epi32(by, 2));
    const __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(p[2] | p[3] << 8), _mm256_slli_epi32(by, 1));
    const __m256i scale = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
                                          _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
    return _mm256_mul_ps(half_at(p), _mm256_cvtepi32_ps(_mm256_sub_epi32(scale, _mm256_set1_epi32(32))));
}

INLINE step_scales scales_of(we_dtype dtype, const uint8_t *p, size_t size)
{
    step_scales s = { 0 };
    const __m128i nibble = _mm_set1_epi8(15);
    switch (dtype) {
    case WE_GGML_Q4_K:
    case WE_GGML_Q5_K: return scales_of_12(p);
    case WE_GGML_Q2_K: {
        const __m128i both = _mm_loadu_si128((const __m128i *)(const void *)p);
        put_16(half_at(p + 80), _mm_and_si128(both, nibble), s.scale);
        put_16(half_at(p + 82), _mm_and_si128(_mm_srli_epi16(both, 4), nibble), s.bias);
        return s;
    }
    case WE_GGML_Q3_K: put_16(half_at(p + 108), q3_k_scales(p + 96), s.scale); break;
    case WE_GGML_Q6_K:
        put_16(half_at(p + 208), _mm_loadu_si128((const __m128i *)(const void *)(p + 192)), s.scale);
        break;
    case WE_GGML_IQ4_XS: s.scale[0] = iq4_xs_scales(p); break;
    case WE_GGML_MXFP4: s.scale[0] = eight_powers(p, size); break;
    default: s.scale[0] = eight_halves(p, size); break;
    }
    const __m256 zero = _mm256_set1_ps(zero_of(dtype));
    for (int i = 0; i < 2; i++) s.bias[i] = _mm256_mul_ps(s.scale[i], zero);
    if (dtype == WE_GGML_Q4_1 || dtype == WE_GGML_Q5_1)
        s.bias[0] = _mm256_xor_ps(eight_halves(p + 2, size), _mm256_set1_ps(-0.0f));
    return s;
}

/* ---- Codes ---- */

INLINE __m256i load_32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

/* Sixteen bytes: the low nibbles, then the high ones. */
INLINE __m256i nibbles_32(const uint8_t *p)
{
    const __m128i q = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), _mm256_set1_epi8(15));
}

/* Bits `at` and up of each byte. */
INLINE __m256i bits_32(const uint8_t *p, int at, int mask)
{
    return _mm256_and_si256(_mm256_srli_epi16(load_32(p), at), _mm256_set1_epi8((char)mask));
}

/* `value` in each byte whose bit of the 32 is set. */
INLINE __m256i where_bit(uint32_t bits, char value)
{
    const __m256i of_byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3,
                                             3, 3, 3, 3, 3, 3, 3);
    const __m256i one = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    const __m256i copies = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), of_byte);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(copies, one), one), _mm256_set1_epi8(value));
}

/* Bit `at` of each byte, moved to `value`, its bit from there on. */
INLINE __m256i each_bit(const uint8_t *p, int at, char value)
{
    const __m256i bit = _mm256_set1_epi8((char)(1 << at));
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(load_32(p), bit), bit), _mm256_set1_epi8(value));
}

INLINE __m256i look_up_32(__m128i table, __m256i codes)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

/* Elements 32 k to 32 k + 31 of a step. */
INLINE __m256i codes_of(we_dtype dtype, const uint8_t *p, size_t size, int k)
{
    const __m128i iq4 = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    const __m128i e2m1 = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    const uint8_t *block = p + (size_t)k * size; /* of types whose blocks are 32 */
    switch (dtype) {
    case WE_GGML_Q4_0: return nibbles_32(block + 2);
    case WE_GGML_Q4_1: return nibbles_32(block + 4);
    case WE_GGML_Q5_0: return _mm256_or_si256(nibbles_32(block + 6), where_bit(word_at(block + 2), 16));
    case WE_GGML_Q5_1: return _mm256_or_si256(nibbles_32(block + 8), where_bit(word_at(block + 4), 16));
    case WE_GGML_Q8_0: return load_32(block + 2);
    case WE_GGML_IQ4_NL: return look_up_32(iq4, nibbles_32(block + 2));
    case WE_GGML_MXFP4: return look_up_32(e2m1, nibbles_32(block + 1));
    case WE_GGML_IQ4_XS: return look_up_32(iq4, nibbles_32(p + 8 + 16 * k));
    case WE_GGML_Q2_K: return bits_32(p + 16 + 32 * (k / 4), 2 * (k % 4), 3);
    case WE_GGML_Q3_K: return _mm256_or_si256(bits_32(p + 32 + 32 * (k / 4), 2 * (k % 4), 3), each_bit(p, k, 4));
    case WE_GGML_Q4_K: return bits_32(p + 16 + 32 * (k / 2), 4 * (k % 2), 15);
    case WE_GGML_Q5_K: return _mm256_or_si256(bits_32(p + 48 + 32 * (k / 2), 4 * (k % 2), 15), each_bit(p + 16, k, 16));
    default: /* Q6_K */
        return _mm256_or_si256(bits_32(p + 64 * (k / 4) + 32 * (k % 2), k % 4 / 2 * 4, 15),
                               _mm256_slli_epi16(bits_32(p + 128 + 32 * (k / 4), 2 * (k % 4), 3), 4));
    }
}

/* ---- Rows ---- */

/* What the including file has: eight sums of four products each, in order; exact. Codes are below 64, or signed. */
INLINE __m256i dot_32(__m256i codes, __m256i x);

INLINE __m256i dot_signed_32(__m256i codes, __m256i x) /* -128 becomes 128, which is right without a sign */
{
    return dot_32(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
}

typedef struct few {
    const we_matrix *w;
    size_t block_bytes;
    const int8_t *x[AT_ONCE];
    const float *scales[AT_ONCE];
    const float *sums[AT_ONCE]; /* of the activations of each group of the weights */
    float *y[AT_ONCE];
    bool add;
} few;

INLINE void step_few(const few *f, we_dtype dtype, const uint8_t *p, int64_t c, int n, __m256 *acc, __m256 *biases)
{
    const size_t size = f->block_bytes;
    const step_scales s = scales_of(dtype, p, size);
    const bool has_bias = !is_signed(dtype), sixteen = step_groups(dtype) == 16;
    __m256 products[AT_ONCE][2];
    UNROLL for (int t = 0; t < n; t++)
    {
        const __m256 xs = _mm256_loadu_ps(f->scales[t] + c / WE_Q8_GROUP);
        const float *sums = f->sums[t] + c / STEP * step_groups(dtype);
        if (has_bias) biases[t] = _mm256_fmadd_ps(s.bias[0], _mm256_loadu_ps(sums), biases[t]);
        if (has_bias && sixteen) biases[t] = _mm256_fmadd_ps(s.bias[1], _mm256_loadu_ps(sums + 8), biases[t]);
        if (!sixteen) {
            products[t][0] = _mm256_mul_ps(s.scale[0], xs);
            continue;
        }
        products[t][0] =
            _mm256_mul_ps(s.scale[0], _mm256_permutevar8x32_ps(xs, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)));
        products[t][1] =
            _mm256_mul_ps(s.scale[1], _mm256_permutevar8x32_ps(xs, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)));
    }
    UNROLL for (int k = 0; k < 8; k++)
    {
        const __m256i codes = codes_of(dtype, p, size, k);
        const int at = 2 * (k % 4);
        const __m256i by =
            sixteen ? _mm256_setr_epi32(at, at, at, at, at + 1, at + 1, at + 1, at + 1) : _mm256_set1_epi32(k);
        UNROLL for (int t = 0; t < n; t++)
        {
            const __m256i x = _mm256_load_si256((const __m256i *)(const void *)(f->x[t] + c + 32 * k));
            const __m256i dot = is_signed(dtype) ? dot_signed_32(codes, x) : dot_32(codes, x);
            const __m256 scale = _mm256_permutevar8x32_ps(products[t][sixteen ? k / 4 : 0], by);
            acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, acc[t]);
        }
    }
}

INLINE void row_few(const few *f, we_dtype dtype, int64_t row, int64_t out, int n)
{
    const int64_t cols = f->w->cols;
    const size_t size = f->block_bytes, step = STEP / (size_t)we_dtype_block(dtype) * size;
    const uint8_t *p = f->w->data + (size_t)row * we_matrix_row_bytes(f->w);
    __m256 acc[AT_ONCE], biases[AT_ONCE];
    UNROLL for (int t = 0; t < n; t++) acc[t] = biases[t] = _mm256_setzero_ps();

    int64_t c = 0;
    for (; c + STEP <= cols; c += STEP, p += step) {
        for (size_t i = 0; i < step; i += 64) _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
        step_few(f, dtype, p, c, n, acc, biases);
    }
    if (c < cols) { /* blocks of 32; what lies behind the row is not ours to read */
        uint8_t tail[8 * 64] = { 0 };
        memcpy(tail, p, (size_t)(cols - c) / 32 * size);
        step_few(f, dtype, tail, c, n, acc, biases);
    }
    UNROLL for (int t = 0; t < n; t++) f->y[t][out] =
        (f->add ? f->y[t][out] : 0.0f) + sum8(_mm256_sub_ps(acc[t], biases[t]));
}

/* A function for each type and number of tokens. */
typedef void (*rows_fn)(const few *f, int64_t first, int64_t n_rows);
#define ROWS_FEW(type, n)                                                                 \
    static void rows_##type##_##n(const few *f, int64_t first, int64_t n_rows)            \
    {                                                                                     \
        for (int64_t r = 0; r < n_rows; r++) row_few(f, WE_GGML_##type, first + r, r, n); \
    }
#define ROWS_OF(type) ROWS_FEW(type, 1) ROWS_FEW(type, 2) ROWS_FEW(type, 4)
#define TYPES(X) \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) X(MXFP4)
TYPES(ROWS_OF)

static rows_fn rows_of(we_dtype dtype, int n)
{
#define CASE(type) \
    case WE_GGML_##type: return n == 1 ? rows_##type##_1 : n == 2 ? rows_##type##_2 : rows_##type##_4;
    switch (dtype) {
        TYPES(CASE)
    default: return NULL;
    }
#undef CASE
}

/* scale * sum of the codes, for each 16 columns. */
static void sum_sixteens(const int8_t *x, const float *scales, int64_t stride, float *sums)
{
    for (int64_t g = 0; g < stride / 16; g++) {
        int sum = 0;
        for (int i = 0; i < 16; i++) sum += x[16 * g + i];
        sums[g] = scales[g / 2] * (float)sum;
    }
}

static void linear_ggml(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                        int64_t y_stride, bool add, float *scratch)
{
    static_assert(WE_Q8_GROUP == 32 && WE_Q8_PAD % STEP == 0, "a step is eight groups of activations");
    const int64_t groups = x->stride / WE_Q8_GROUP;
    const bool sixteen = step_groups(w->dtype) == 16;
    for (int64_t token = 0; token < n;) {
        const int some = n - token >= 4 ? 4 : n - token >= 2 ? 2 : 1;
        few f = { .w = w, .block_bytes = we_dtype_size(w->dtype), .add = add };
        for (int t = 0; t < some; t++) {
            f.x[t] = x->values + (token + t) * x->stride;
            f.scales[t] = x->scales + (token + t) * groups;
            f.sums[t] = x->sums + (token + t) * groups;
            f.y[t] = y + (token + t) * y_stride;
            if (!sixteen) continue;
            sum_sixteens(f.x[t], f.scales[t], x->stride, scratch + 2 * t * groups);
            f.sums[t] = scratch + 2 * t * groups;
        }
        rows_of(w->dtype, some)(&f, first, n_rows);
        token += some;
    }
}

#endif
