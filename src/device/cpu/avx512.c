/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mfma -mf16c
 * avx512.c - the table for AVX-512: float32 products, attention's products, vectors. Integer products: avx512_q8.c. Tails
 * are masked loads and stores, which touch nothing behind the mask. */
#include "device/cpu/avx512.h"

#include <math.h>

INLINE __m512 load_tail(const float *x, int64_t n) { return _mm512_maskz_loadu_ps(mask16(n), x); }

/* ---- Rows as float32: bit for bit the reference's: scale * code, rounded, then + bias ---- */

static void row_plain(const we_matrix *w, int64_t row, float *out)
{
    const size_t size = w->dtype == WE_F32 ? 4 : 2;
    const uint8_t *p = w->data + (size_t)row * (size_t)w->cols * size;
    for (int64_t c = 0; c < w->cols; c += 16) {
        const __mmask16 m = mask16(w->cols - c);
        _mm512_mask_storeu_ps(out + c, m, floats16(w->dtype, p + (size_t)c * size, m));
    }
}

INLINE __m512 decode16(we_quant_mode mode, __m128i codes, __m512 scale, __m512 bias)
{
    if (mode == WE_QUANT_MXFP8) return _mm512_mul_ps(e4m3_floats(codes), scale);
    if (mode == WE_QUANT_AFFINE) {
        const __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
        return _mm512_add_ps(_mm512_mul_ps(scale, q), bias);
    }
    const __m128i doubled =
        _mm_shuffle_epi8(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12), codes);
    const __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(doubled));
    return _mm512_mul_ps(_mm512_mul_ps(q, _mm512_set1_ps(0.5f)), scale);
}

INLINE void row_packed(const we_matrix *w, int64_t row, float *out, we_quant_mode mode, int bits)
{
    const int size = w->quant.group_size;
    const size_t scale_bytes = we_matrix_row_scale_bytes(w);
    const uint8_t *codes = w->data + (size_t)row * (size_t)(w->cols * bits / 8);
    const uint8_t *scales = w->scales + (size_t)row * scale_bytes;
    const uint8_t *biases = mode == WE_QUANT_AFFINE ? w->biases + (size_t)row * scale_bytes : NULL;
    float s[16], b[16] = { 0 };
    int64_t have = -16; /* the group of s[0] */
    for (int64_t c = 0; c < w->cols; c += 64) {
        uint8_t tail[64], bytes[64];
        const int64_t left = WE_MIN(w->cols - c, 64);
        const uint8_t *p = codes + c * bits / 8;
        if (left < 64) p = memcpy(memset(tail, 0, sizeof tail), p, (size_t)(left * bits / 8));
        _mm512_storeu_si512(bytes, codes64(bits, p));
        for (int64_t i = 0; i < left; i += 16) {
            const int64_t g = (c + i) / size;
            if (g >= have + 16) {
                const __mmask16 m = mask16(w->cols / size - g);
                _mm512_storeu_ps(s, scales16(w, scales, g, m));
                if (biases) _mm512_storeu_ps(b, scales16(w, biases, g, m));
                have = g;
            }
            const __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(bytes + i));
            _mm512_storeu_ps(out + c + i,
                             decode16(mode, some, _mm512_set1_ps(s[g - have]), _mm512_set1_ps(b[g - have])));
        }
    }
}

static void row_f32(const we_matrix *w, int64_t row, float *out)
{
    switch (w->quant.mode) {
    case WE_QUANT_NONE: row_plain(w, row, out); return;
    case WE_QUANT_GGML: we_ggml_row_f32(w, row, out); return;
    case WE_QUANT_MXFP8: row_packed(w, row, out, WE_QUANT_MXFP8, 8); return;
    case WE_QUANT_MXFP4:
    case WE_QUANT_NVFP4: row_packed(w, row, out, WE_QUANT_MXFP4, 4); return;
    default: break;
    }
    switch (w->quant.bits) {
    case 2: row_packed(w, row, out, WE_QUANT_AFFINE, 2); break;
    case 3: row_packed(w, row, out, WE_QUANT_AFFINE, 3); break;
    case 4: row_packed(w, row, out, WE_QUANT_AFFINE, 4); break;
    case 5: row_packed(w, row, out, WE_QUANT_AFFINE, 5); break;
    case 6: row_packed(w, row, out, WE_QUANT_AFFINE, 6); break;
    default: row_packed(w, row, out, WE_QUANT_AFFINE, 8); break;
    }
}

/* ---- float32 products ----
 *
 * Few tokens of plain weights or mxfp8: straight from their bytes, four rows at a time, so that activations, which fill the first
 * cache, are loaded once for four. Else four rows at a time as float32 in scratch. Either way times four tokens: sixteen sums. One
 * token's sums are added up in the same order as those of several: guessed tokens are checked with what one alone gets. */

#define R 4
#define FEW 4  /* tokens of one pass over the rows */
#define MANY 8 /* more tokens than this are worth rows as float32 */

typedef struct few {
    const we_matrix *w;
    const float *x[FEW];
    float *y[FEW];
    float *scales; /* mxfp8: [R][scales of a row] */
    bool add;
} few;

/* Columns of `rows` rows of a plain type times n tokens, 16 at a time; `left` of the last exist. */
INLINE void step_few(const few *f, const uint8_t *const p[R], int64_t c, int64_t left, we_dtype dtype, int rows, int n,
                     __m512 s[FEW][R])
{
    const size_t size = dtype == WE_F32 ? 4 : 2;
    const __mmask16 m = mask16(left);
    __m512 v[R];
    UNROLL for (int r = 0; r < rows; r++) v[r] = floats16(dtype, p[r] + (size_t)c * size, m);
    UNROLL for (int t = 0; t < n; t++)
    {
        const __m512 x = left >= 16 ? _mm512_loadu_ps(f->x[t] + c) : load_tail(f->x[t] + c, left);
        UNROLL for (int r = 0; r < rows; r++) s[t][r] = _mm512_fmadd_ps(v[r], x, s[t][r]);
    }
}

/* A group of 32 columns of mxfp8: see e4m3_times. What is no number counts as 480 here; `most` is the largest code of all rows,
 * whose bit 7 is set: 0xff tells. */
INLINE void step_mxfp8(const few *f, const uint8_t *const p[R], int64_t c, int64_t n_scales, int rows, int n,
                       __m256i *most, __m512 s[FEW][R])
{
    __m512 x[FEW][2];
    UNROLL for (int t = 0; t < n; t++) UNROLL for (int i = 0; i < 2; i++) x[t][i] =
        _mm512_loadu_ps(f->x[t] + c + 16 * i);
    UNROLL for (int r = 0; r < rows; r++)
    {
        const __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)(p[r] + c));
        const __m512i wide = _mm512_slli_epi16(_mm512_cvtepi8_epi16(codes), 7);
        const __m512i half = _mm512_and_si512(wide, _mm512_set1_epi16((short)0xbfff));
        const __m512 scale = _mm512_set1_ps(f->scales[r * n_scales + c / 32]);
        const __m512 v0 = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(half)), scale);
        const __m512 v1 = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1)), scale);
        *most = _mm256_max_epu8(*most, _mm256_or_si256(codes, _mm256_set1_epi8(-128)));
        UNROLL for (int t = 0; t < n; t++) s[t][r] =
            _mm512_fmadd_ps(v1, x[t][1], _mm512_fmadd_ps(v0, x[t][0], s[t][r]));
    }
}

INLINE void rows_few(const few *f, int64_t row, int64_t out, we_quant_mode mode, we_dtype dtype, int rows, int n)
{
    const we_matrix *w = f->w;
    const int64_t cols = w->cols, size = mode == WE_QUANT_MXFP8 ? 1 : dtype == WE_F32 ? 4 : 2, n_scales = cols / 32;
    const uint8_t *p[R];
    UNROLL for (int r = 0; r < rows; r++) p[r] = w->data + (size_t)((row + r) * cols * size);
    if (mode == WE_QUANT_MXFP8) /* those of the rows lie behind each other */
        for (int64_t g = 0; g < rows * n_scales; g += 16) {
            const __mmask16 m = mask16(rows * n_scales - g);
            const __m512 scale = scales16(w, w->scales + row * n_scales, g, m);
            _mm512_storeu_ps(f->scales + g, _mm512_mul_ps(scale, _mm512_set1_ps(256.0f)));
        }
    __m512 s[FEW][R];
    UNROLL for (int t = 0; t < n; t++) UNROLL for (int r = 0; r < rows; r++) s[t][r] = _mm512_setzero_ps();
    __m256i most = _mm256_setzero_si256();
    int64_t c = 0;
    for (; c + 32 <= cols; c += 32) {
        UNROLL for (int r = 0; r < rows;
                    r++) for (int64_t i = 0; i < 32 * size;
                              i += 64) /* the next rows: the second cache, the first has activations */
            _mm_prefetch((const char *)p[r] + c * size + i + rows * cols * size, _MM_HINT_T1);
        if (mode == WE_QUANT_MXFP8) { /* has no other columns */
            step_mxfp8(f, p, c, n_scales, rows, n, &most, s);
            continue;
        }
        step_few(f, p, c, 16, dtype, rows, n, s);
        step_few(f, p, c + 16, 16, dtype, rows, n, s);
    }
    for (; c < cols; c += 16) step_few(f, p, c, WE_MIN(cols - c, 16), dtype, rows, n, s);
    if (_mm256_cmpeq_epi8_mask(most, _mm256_set1_epi8(-1)))
        for (int r = 0; r < rows; r++)
            if (e4m3_has_nan(p[r], cols))
                for (int t = 0; t < n; t++) s[t][r] = _mm512_set1_ps(NAN);
    UNROLL for (int t = 0; t < n; t++) UNROLL for (int r = 0; r < rows; r++)
    {
        float *y = &f->y[t][out + r];
        *y = (f->add ? *y : 0.0f) + _mm512_reduce_add_ps(s[t][r]);
    }
}

/* A function for each storage and number of tokens. */
typedef void (*rows_fn)(const few *f, int64_t first, int64_t n_rows);
#define ROWS_FEW(name, mode, dtype, n)                                                \
    static void rows_##name##_##n(const few *f, int64_t first, int64_t n_rows)        \
    {                                                                                 \
        int64_t r = 0;                                                                \
        for (; r + R <= n_rows; r += R) rows_few(f, first + r, r, mode, dtype, R, n); \
        for (; r < n_rows; r++) rows_few(f, first + r, r, mode, dtype, 1, n);         \
    }
#define ROWS_N(name, mode, dtype)  \
    ROWS_FEW(name, mode, dtype, 1) \
    ROWS_FEW(name, mode, dtype, 2) ROWS_FEW(name, mode, dtype, 3) ROWS_FEW(name, mode, dtype, 4)
ROWS_N(f32, WE_QUANT_NONE, WE_F32)
ROWS_N(f16, WE_QUANT_NONE, WE_F16)
ROWS_N(bf16, WE_QUANT_NONE, WE_BF16)
ROWS_N(mx8, WE_QUANT_MXFP8, WE_U8)

static rows_fn rows_of(const we_matrix *w, int64_t n)
{
#define NAMES(name)                                                        \
    {                                                                      \
        rows_##name##_1, rows_##name##_2, rows_##name##_3, rows_##name##_4 \
    }
    static const rows_fn plain[3][FEW] = { [WE_F32] = NAMES(f32), [WE_F16] = NAMES(f16), [WE_BF16] = NAMES(bf16) };
    static const rows_fn mxfp8[FEW] = NAMES(mx8);
    return w->quant.mode == WE_QUANT_MXFP8 ? mxfp8[n - 1] : plain[w->dtype][n - 1];
}

static void linear_few(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, int64_t x_stride, int64_t n,
                       float *y, int64_t y_stride, bool add, void *scratch)
{
    for (int64_t token = 0; token < n; token += FEW) {
        const int64_t some = WE_MIN(n - token, FEW);
        few f = { .w = w, .scales = scratch, .add = add };
        for (int64_t t = 0; t < some; t++) {
            f.x[t] = x + (token + t) * x_stride;
            f.y[t] = y + (token + t) * y_stride;
        }
        rows_of(w, some)(&f, first, n_rows);
    }
}

/* Sixteen sums, tokens by rows. */
INLINE void tile_f32(const float *const a[R], const float *const x[R], int64_t n, float out[R][R])
{
    __m512 s[R][R];
    UNROLL for (int i = 0; i < R * R; i++) s[i / R][i % R] = _mm512_setzero_ps();
    for (int64_t c = 0; c < n; c += 16) {
        const __mmask16 m = mask16(n - c);
        __m512 v[R];
        UNROLL for (int r = 0; r < R; r++) v[r] = _mm512_maskz_loadu_ps(m, a[r] + c);
        UNROLL for (int t = 0; t < R; t++)
        {
            const __m512 xt = _mm512_maskz_loadu_ps(m, x[t] + c);
            UNROLL for (int r = 0; r < R; r++) s[t][r] = _mm512_fmadd_ps(v[r], xt, s[t][r]);
        }
    }
    UNROLL for (int i = 0; i < R * R; i++) out[i / R][i % R] = _mm512_reduce_add_ps(s[i / R][i % R]);
}

static void linear_f32(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, int64_t x_stride, int64_t n,
                       float *y, int64_t y_stride, bool add, void *scratch)
{
    if (n <= MANY && (w->quant.mode == WE_QUANT_NONE || w->quant.mode == WE_QUANT_MXFP8)) {
        linear_few(w, first, n_rows, x, x_stride, n, y, y_stride, add, scratch);
        return;
    }
    for (int64_t r = 0; r < n_rows; r += R) {
        const int64_t rows = WE_MIN(n_rows - r, R);
        const float *a[R], *b[R];
        for (int64_t i = 0; i < R; i++) { /* what does not exist is a copy of the last */
            a[i] = (float *)scratch + WE_MIN(i, rows - 1) * w->cols;
            if (i < rows) row_f32(w, first + r + i, (float *)scratch + i * w->cols);
        }
        for (int64_t t = 0; t < n; t += R) {
            float sums[R][R];
            for (int64_t i = 0; i < R; i++) b[i] = x + WE_MIN(t + i, n - 1) * x_stride;
            tile_f32(a, b, w->cols, sums);
            for (int64_t i = 0; i < WE_MIN(R, n - t); i++)
                for (int64_t j = 0; j < rows; j++) {
                    float *out = &y[(t + i) * y_stride + r + j];
                    *out = (add ? *out : 0.0f) + sums[i][j];
                }
        }
    }
}

/* ---- Rounding to int8 ---- */

static void q8_quantize(const float *x, int64_t cols, int8_t *values, float *scales, float *sums)
{
    const __m512i sign = _mm512_set1_epi32((int)0x80000000u);
    for (int64_t c = 0; c < we_q8_stride(cols); c += WE_Q8_GROUP) {
        const __m512 a = load_tail(x + WE_MIN(c, cols), cols - c);
        const __m512 b = load_tail(x + WE_MIN(c + 16, cols), cols - c - 16);
        const __m512i most = _mm512_max_epu32(_mm512_andnot_si512(sign, _mm512_castps_si512(a)),
                                              _mm512_andnot_si512(sign, _mm512_castps_si512(b)));
        const we_q8_scale s = we_q8_scale_of(_mm512_reduce_max_epu32(most));
        __m512i qa = _mm512_setzero_si512(), qb = qa;
        if (s.inverse != 0) {
            qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, _mm512_set1_ps(s.inverse)));
            qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, _mm512_set1_ps(s.inverse)));
        }
        _mm_storeu_si128((__m128i *)(void *)(values + c), _mm512_cvtepi32_epi8(qa));
        _mm_storeu_si128((__m128i *)(void *)(values + c + 16), _mm512_cvtepi32_epi8(qb));
        *scales++ = s.scale;
        *sums++ = s.scale * (float)_mm512_reduce_add_epi32(_mm512_add_epi32(qa, qb));
    }
}

/* ---- Attention's products: 4 rows of A, 64 columns of B, so that every load of B serves four rows ---- */

INLINE __m512 b_floats(const void *b, int64_t at, bool half, __mmask16 m)
{
    if (half) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, (const uint16_t *)b + at));
    return _mm512_maskz_loadu_ps(m, (const float *)b + at);
}

INLINE void mul_tile(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t n,
                     int64_t k, bool add, bool half, const uint16_t *next, int rows, int vectors)
{
    __m512 s[4][4];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) s[i][j] =
        add ? load_tail(c + i * ldc + 16 * j, n - 16 * j) : _mm512_setzero_ps();
    for (int64_t l = 0; l < k; l++) {
        __m512 v[4];
        if (next)
            for (int j = 0; j < vectors; j += 2) _mm_prefetch((const char *)(next + l * ldb + 16 * j), _MM_HINT_T0);
        UNROLL for (int j = 0; j < vectors; j++) v[j] = b_floats(b, l * ldb + 16 * j, half, mask16(n - 16 * j));
        UNROLL for (int i = 0; i < rows; i++)
        {
            const __m512 x = _mm512_set1_ps(a[i * lda + l]);
            UNROLL for (int j = 0; j < vectors; j++) s[i][j] = _mm512_fmadd_ps(x, v[j], s[i][j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++)
        _mm512_mask_storeu_ps(c + i * ldc + 16 * j, mask16(n - 16 * j), s[i][j]);
}

INLINE void mul(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m, int64_t n,
                int64_t k, bool add, bool half, const uint16_t *next)
{
    for (int64_t j = 0; j < n; j += 64) {
        const void *bj = half ? (const void *)((const uint16_t *)b + j) : (const float *)b + j;
        const int64_t left = WE_MIN(n - j, 64);
        const uint16_t *fetch = next ? next + j : NULL; /* by the first rows */
        int64_t i = 0;
#define TILE(columns, rows, vectors) \
    mul_tile(a + i * lda, lda, bj, ldb, c + i * ldc + j, ldc, columns, k, add, half, fetch, rows, vectors)
        for (; i + 4 <= m; i += 4, fetch = NULL) {
            if (left == 64)
                TILE(64, 4, 4);
            else if (left <= 16)
                TILE(left, 4, 1);
            else
                TILE(left, 4, 4);
        }
        if (left == 64) {
            if (m - i == 3)
                TILE(64, 3, 4);
            else if (m - i == 2)
                TILE(64, 2, 4);
            else if (m - i == 1)
                TILE(64, 1, 4);
            continue;
        }
        for (; i < m; i++, fetch = NULL) TILE(left, 1, 4);
#undef TILE
    }
}

static void mul_f32(const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add)
{
    mul(a, lda, b, ldb, c, ldc, m, n, k, add, false, NULL);
}

static void mul_f16(const float *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add, const uint16_t *next)
{
    mul(a, lda, b, ldb, c, ldc, m, n, k, add, true, next);
}

/* ---- Vectors ---- */

/* exp in about 1 ulp: x = n ln 2 + f, |f| <= ln 2 / 2; e^f by the polynomial of Cephes' expf, times 2^n. Beyond the range:
 * infinity and 0; a NaN stays one (the clamps give their second operand then). */
INLINE __m512 exp16(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), _mm512_min_ps(_mm512_set1_ps(100.0f), x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), f);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(f, f), _mm512_add_ps(f, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

static void to_f16(const float *x, uint16_t *out, int64_t n)
{
    const __m512 most = _mm512_set1_ps(65504.0f), least = _mm512_set1_ps(-65504.0f),
                 infinity = _mm512_set1_ps(INFINITY);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = mask16(n - i);
        const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        const __mmask16 finite = _mm512_cmp_ps_mask(_mm512_abs_ps(v), infinity, _CMP_LT_OQ);
        const __m512 clamped = _mm512_mask_min_ps(v, finite, most, _mm512_max_ps(least, v));
        _mm256_mask_storeu_epi16(out + i, m, _mm512_cvtps_ph(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

static float max(const float *x, int64_t n)
{
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 v = _mm512_mask_loadu_ps(most, mask16(n - i), x + i);
        most = _mm512_max_ps(v, most); /* of a NaN and a number: the second */
    }
    return _mm512_reduce_max_ps(most);
}

static float exp_sum(float *x, float shift, int64_t n)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 m = mask16(n - i);
        const __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_set1_ps(shift)));
        sum = _mm512_mask_add_ps(sum, m, sum, e);
        _mm512_mask_storeu_ps(x + i, m, e);
    }
    return _mm512_reduce_add_ps(sum);
}

static void scale(float *x, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16)
        _mm512_mask_storeu_ps(x + i, mask16(n - i), _mm512_mul_ps(load_tail(x + i, n - i), _mm512_set1_ps(factor)));
}

static void add(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16)
        _mm512_mask_storeu_ps(x + i, mask16(n - i), _mm512_add_ps(load_tail(x + i, n - i), load_tail(y + i, n - i)));
}

static void rms_norm(float *out, const float *x, const float *weight, int64_t n, float eps, float offset)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0;
    for (int64_t i = 0; i < n; i += 32) {
        const __m512 a = load_tail(x + i, n - i), b = load_tail(x + WE_MIN(i + 16, n), n - i - 16);
        s0 = _mm512_fmadd_ps(a, a, s0);
        s1 = _mm512_fmadd_ps(b, b, s1);
    }
    const float squares = _mm512_reduce_add_ps(_mm512_add_ps(s0, s1));
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(squares / (float)n + eps)), plus = _mm512_set1_ps(offset);
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 v = _mm512_mul_ps(load_tail(x + i, n - i), factor);
        const __m512 w = _mm512_add_ps(load_tail(weight + i, n - i), plus);
        _mm512_mask_storeu_ps(out + i, mask16(n - i), _mm512_mul_ps(v, w));
    }
}

INLINE __m512 sigmoid(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exp16(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

static void silu_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 g = load_tail(gate + i, n - i),
                     y = _mm512_mul_ps(_mm512_mul_ps(g, sigmoid(g)), load_tail(up + i, n - i));
        _mm512_mask_storeu_ps(gate + i, mask16(n - i), y);
    }
}

/* (1 + tanh(u)) / 2 = sigmoid(2 u) */
static void gelu_tanh_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        const __m512 g = load_tail(gate + i, n - i), cube = _mm512_mul_ps(_mm512_mul_ps(g, g), g);
        const __m512 u =
            _mm512_mul_ps(_mm512_set1_ps(2 * 0.7978845608f), _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), g));
        const __m512 y = _mm512_mul_ps(_mm512_mul_ps(g, sigmoid(u)), load_tail(up + i, n - i));
        _mm512_mask_storeu_ps(gate + i, mask16(n - i), y);
    }
}

const we_cpu_kernels we_cpu_kernels_avx512 = {
    .name = "avx512",
    .supported = we_x86_has_avx512,
    .row_f32 = row_f32,
    .linear_f32 = linear_f32,
    .linear_q8 = we_avx512_linear_q8,
    .linear_ggml = we_avx512_linear_ggml,
    .q8_quantize = q8_quantize,
    .q8_tile = we_avx512_q8_tile,
    .q8_group = we_avx512_q8_group,
    .q8_join = we_avx512_q8_join,
    .mul_f32 = mul_f32,
    .mul_f16 = mul_f16,
    .kv = &we_avx512_kv,
    .to_f16 = to_f16,
    .max = max,
    .exp_sum = exp_sum,
    .scale = scale,
    .add = add,
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .dots = we_avx512_dots,
};
