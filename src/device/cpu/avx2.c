/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c
 * avx2.c - the table for AVX2 with FMA: float32 products, attention's products, vectors. Integer products: avx2_q8.c,
 * avx2_few.c. */
#include "device/cpu/avx2.h"
#include "device/cpu/rows.h"

#include <math.h>

/* ---- float32 products: two rows, as float32 in scratch (or as they lie there), times four tokens ---- */

#define R 2
#define T 4

static void row_f32(const we_matrix *w, int64_t row, float *out)
{
    if (w->quant.mode != WE_QUANT_NONE) {
        we_row_f32_inline(w, row, out);
        return;
    }
    const size_t size = w->dtype == WE_F32 ? 4 : 2;
    const uint8_t *p = w->data + (size_t)row * (size_t)w->cols * size;
    int64_t c = 0;
    for (; c + 8 <= w->cols; c += 8) _mm256_storeu_ps(out + c, floats8(w->dtype, p + (size_t)c * size));
    if (c < w->cols) we_to_f32(w->dtype, p + (size_t)c * size, (size_t)(w->cols - c), out + c);
}

INLINE float dot_plain(we_dtype dtype, const uint8_t *p, const float *x, int64_t n)
{
    const size_t size = dtype == WE_F32 ? 4 : 2;
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    int64_t c = 0;
    for (; c + 32 <= n; c += 32) {
        const uint8_t *q = p + (size_t)c * size;
        _mm_prefetch((const char *)q + 2048, _MM_HINT_T0);
        s0 = _mm256_fmadd_ps(floats8(dtype, q), _mm256_loadu_ps(x + c), s0);
        s1 = _mm256_fmadd_ps(floats8(dtype, q + 8 * size), _mm256_loadu_ps(x + c + 8), s1);
        s2 = _mm256_fmadd_ps(floats8(dtype, q + 16 * size), _mm256_loadu_ps(x + c + 16), s2);
        s3 = _mm256_fmadd_ps(floats8(dtype, q + 24 * size), _mm256_loadu_ps(x + c + 24), s3);
    }
    for (; c + 8 <= n; c += 8) s0 = _mm256_fmadd_ps(floats8(dtype, p + (size_t)c * size), _mm256_loadu_ps(x + c), s0);
    float rest[8] = { 0 }, sum = sum8(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
    if (c < n) we_to_f32(dtype, p + (size_t)c * size, (size_t)(n - c), rest);
    for (int i = 0; c < n; c++, i++) sum += rest[i] * x[c];
    return sum;
}

static void linear_plain_1(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, float *y, bool add)
{
    const size_t row_bytes = (size_t)w->cols * (w->dtype == WE_F32 ? 4 : 2);
    const uint8_t *p = w->data + (size_t)first * row_bytes;
    for (int64_t r = 0; r < n_rows; r++, p += row_bytes) {
        const float dot = w->dtype == WE_BF16  ? dot_plain(WE_BF16, p, x, w->cols)
                          : w->dtype == WE_F16 ? dot_plain(WE_F16, p, x, w->cols)
                                               : dot_plain(WE_F32, p, x, w->cols);
        y[r] = (add ? y[r] : 0.0f) + dot;
    }
}

/* ---- The same for few tokens of plain weights or mxfp8: straight from their bytes, four rows at a time, or two with more than
 * two tokens: eight sums. One token of plain weights has its rows one by one, which memory likes better. ---- */

#define FEW T
#define MANY 8 /* more tokens than this are worth rows as float32 */

typedef struct few {
    const we_matrix *w;
    const float *x[FEW];
    float *y[FEW];
    float *scales; /* mxfp8: [rows][scales of a row] */
    bool add;
} few;

INLINE void load_few(const uint8_t *const p[4], int64_t c, we_dtype dtype, int rows, __m256 v[4])
{
    const size_t size = dtype == WE_F32 ? 4 : 2;
    UNROLL for (int r = 0; r < rows; r++) v[r] = floats8(dtype, p[r] + (size_t)c * size);
}

INLINE void step_few(const __m256 *v, const float *const x[FEW], int64_t c, int rows, int n, __m256 s[FEW][4])
{
    UNROLL for (int t = 0; t < n; t++)
    {
        const __m256 xt = _mm256_loadu_ps(x[t] + c);
        UNROLL for (int r = 0; r < rows; r++) s[t][r] = _mm256_fmadd_ps(v[r], xt, s[t][r]);
    }
}

/* n scales of mxfp8, times 256: a half has 8 more of exponent bias. 0 is 2^-127, 255 no number. */
INLINE void scales_few(const few *f, int64_t first, int64_t n)
{
    const uint8_t *p = f->w->scales + first;
    const __m256i zero = _mm256_setzero_si256(), last = _mm256_set1_epi32(255), half = _mm256_set1_epi32(0x00400000);
    int64_t g = 0;
    for (; g + 8 <= n; g += 8) {
        const __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p + g)));
        const __m256i ends = _mm256_or_si256(_mm256_cmpeq_epi32(b, zero), _mm256_cmpeq_epi32(b, last));
        const __m256i bits = _mm256_or_si256(_mm256_slli_epi32(b, 23), _mm256_and_si256(ends, half));
        _mm256_storeu_ps(f->scales + g, _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(256.0f)));
    }
    for (; g < n; g++) f->scales[g] = 256.0f * we_e8m0_to_f32(p[g]);
}

/* 16 columns of a row of mxfp8: see e4m3_times in avx512.h. What is not a number counts as 480 here. */
INLINE void e4m3_times(const uint8_t *p, float scale, __m256 out[2])
{
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    const __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16((short)0xbfff));
    const __m256 factor = _mm256_set1_ps(scale);
    out[0] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), factor);
    out[1] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), factor);
}

/* A group of 32 columns. `most`: the largest code of all rows, whose bit 7 is set; 0xff is no number. */
INLINE void step_mxfp8(const few *f, const uint8_t *const p[4], int64_t c, int64_t n_scales, int rows, int n,
                       __m256i *most, __m256 s[FEW][4])
{
    UNROLL for (int r = 0; r < rows; r++)
    {
        const __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)(p[r] + c));
        *most = _mm256_max_epu8(*most, _mm256_or_si256(codes, _mm256_set1_epi8(-128)));
        UNROLL for (int i = 0; i < 32; i += 16)
        {
            __m256 v[2];
            e4m3_times(p[r] + c + i, f->scales[r * n_scales + c / 32], v);
            UNROLL for (int t = 0; t < n; t++) UNROLL for (int j = 0; j < 2; j++) s[t][r] =
                _mm256_fmadd_ps(v[j], _mm256_loadu_ps(f->x[t] + c + i + 8 * j), s[t][r]);
        }
    }
}

INLINE void rows_few(const few *f, int64_t row, int64_t out, we_quant_mode mode, we_dtype dtype, int rows, int n)
{
    const we_matrix *w = f->w;
    const int64_t cols = w->cols, size = mode == WE_QUANT_MXFP8 ? 1 : dtype == WE_F32 ? 4 : 2, n_scales = cols / 32;
    const uint8_t *p[4];
    UNROLL for (int r = 0; r < rows; r++) p[r] = w->data + (size_t)((row + r) * cols * size);
    if (mode == WE_QUANT_MXFP8) scales_few(f, row * n_scales, rows * n_scales);
    __m256 s[FEW][4], v[4];
    __m256i most = _mm256_setzero_si256();
    UNROLL for (int t = 0; t < n; t++) UNROLL for (int r = 0; r < rows; r++) s[t][r] = _mm256_setzero_ps();
    int64_t c = 0;
    for (; c + 32 <= cols; c += 32) {
        UNROLL for (int r = 0; r < rows; r++) for (int64_t i = 0; i < 32 * size; i += 64)
            _mm_prefetch((const char *)p[r] + c * size + i + rows * cols * size, _MM_HINT_T1);
        if (mode == WE_QUANT_MXFP8) { /* has no other columns */
            step_mxfp8(f, p, c, n_scales, rows, n, &most, s);
            continue;
        }
        UNROLL for (int i = 0; i < 32; i += 8)
        {
            load_few(p, c + i, dtype, rows, v);
            step_few(v, f->x, c + i, rows, n, s);
        }
    }
    for (; c + 8 <= cols; c += 8) {
        load_few(p, c, dtype, rows, v);
        step_few(v, f->x, c, rows, n, s);
    }
    if (c < cols) {
        float rest[8] = { 0 }, tails[FEW][8] = { 0 };
        const float *x[FEW];
        for (int r = 0; r < rows; r++) {
            we_to_f32(dtype, p[r] + c * size, (size_t)(cols - c), rest);
            v[r] = _mm256_loadu_ps(rest);
        }
        for (int t = 0; t < n; t++) x[t] = memcpy(tails[t], f->x[t] + c, (size_t)(cols - c) * sizeof(float));
        step_few(v, x, 0, rows, n, s);
    }
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(most, _mm256_set1_epi8(-1))))
        for (int r = 0; r < rows; r++)
            if (e4m3_has_nan(p[r], cols))
                for (int t = 0; t < n; t++) s[t][r] = _mm256_set1_ps(NAN);
    UNROLL for (int t = 0; t < n; t++) UNROLL for (int r = 0; r < rows; r++)
    {
        float *y = &f->y[t][out + r];
        *y = (f->add ? *y : 0.0f) + sum8(s[t][r]);
    }
}

/* A function for each storage and number of tokens. */
typedef void (*rows_fn)(const few *f, int64_t first, int64_t n_rows);
#define ROWS_FEW(name, mode, dtype, rows, n)                                                   \
    static void rows_##name##_##n(const few *f, int64_t first, int64_t n_rows)                 \
    {                                                                                          \
        int64_t r = 0;                                                                         \
        for (; r + rows <= n_rows; r += rows) rows_few(f, first + r, r, mode, dtype, rows, n); \
        for (; r < n_rows; r++) rows_few(f, first + r, r, mode, dtype, 1, n);                  \
    }
#define ROWS_N(name, mode, dtype)     \
    ROWS_FEW(name, mode, dtype, 4, 1) \
    ROWS_FEW(name, mode, dtype, 4, 2) ROWS_FEW(name, mode, dtype, 2, 3) ROWS_FEW(name, mode, dtype, 2, 4)
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

INLINE void tile_f32(const float *const a[R], const float *const x[T], int64_t n, float out[T][R])
{
    __m256 s[T][R];
    UNROLL for (int i = 0; i < T * R; i++) s[i / R][i % R] = _mm256_setzero_ps();
    int64_t c = 0;
    for (; c + 8 <= n; c += 8) {
        const __m256 a0 = _mm256_loadu_ps(a[0] + c), a1 = _mm256_loadu_ps(a[1] + c);
        UNROLL for (int t = 0; t < T; t++)
        {
            const __m256 xt = _mm256_loadu_ps(x[t] + c);
            s[t][0] = _mm256_fmadd_ps(a0, xt, s[t][0]);
            s[t][1] = _mm256_fmadd_ps(a1, xt, s[t][1]);
        }
    }
    UNROLL for (int i = 0; i < T * R; i++) out[i / R][i % R] = sum8(s[i / R][i % R]);
    for (; c < n; c++)
        for (int i = 0; i < T * R; i++) out[i / R][i % R] += x[i / R][c] * a[i % R][c];
}

static void linear_f32(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, int64_t x_stride, int64_t n,
                       float *y, int64_t y_stride, bool add, void *scratch)
{
    if (n == 1 && w->quant.mode == WE_QUANT_NONE) {
        linear_plain_1(w, first, n_rows, x, y, add);
        return;
    }
    if (n <= MANY && (w->quant.mode == WE_QUANT_NONE || w->quant.mode == WE_QUANT_MXFP8)) {
        linear_few(w, first, n_rows, x, x_stride, n, y, y_stride, add, scratch);
        return;
    }
    for (int64_t r = 0; r < n_rows; r += R) {
        const int64_t rows = WE_MIN(n_rows - r, R);
        const float *a[R], *b[T];
        for (int64_t i = 0; i < R; i++) { /* what does not exist is a copy of the last */
            a[i] = (float *)scratch + WE_MIN(i, rows - 1) * w->cols;
            if (i < rows) row_f32(w, first + r + i, (float *)scratch + i * w->cols);
        }
        for (int64_t t = 0; t < n; t += T) {
            float sums[T][R];
            for (int64_t i = 0; i < T; i++) b[i] = x + WE_MIN(t + i, n - 1) * x_stride;
            tile_f32(a, b, w->cols, sums);
            for (int64_t i = 0; i < WE_MIN(T, n - t); i++)
                for (int64_t j = 0; j < rows; j++) {
                    float *out = &y[(t + i) * y_stride + r + j];
                    *out = (add ? *out : 0.0f) + sums[i][j];
                }
        }
    }
}

/* ---- Rounding to int8 ---- */

INLINE __m256i magnitudes(__m256 v) { return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff)); }

INLINE __m256i rounded(__m256 v, __m256 inverse) { return _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse)); }

static void q8_quantize(const float *x, int64_t cols, int8_t *values, float *scales, float *sums)
{
    for (int64_t c = 0; c < we_q8_stride(cols); c += WE_Q8_GROUP) {
        float tail[WE_Q8_GROUP] = { 0 };
        const float *p = x + c;
        if (cols - c < WE_Q8_GROUP) {
            if (cols > c) memcpy(tail, p, (size_t)(cols - c) * sizeof(float));
            p = tail;
        }
        __m256 v[4];
        __m256i most = _mm256_setzero_si256(), words = most;
        UNROLL for (int i = 0; i < 4; i++)
        {
            v[i] = _mm256_loadu_ps(p + 8 * i);
            most = _mm256_max_epu32(most, magnitudes(v[i]));
        }
        most = _mm256_max_epu32(most, _mm256_permute2x128_si256(most, most, 1));
        most = _mm256_max_epu32(most, _mm256_shuffle_epi32(most, 0x4e));
        most = _mm256_max_epu32(most, _mm256_shuffle_epi32(most, 0xb1));
        const we_q8_scale s = we_q8_scale_of((uint32_t)_mm256_cvtsi256_si32(most));
        if (s.inverse != 0) {
            const __m256 inverse = _mm256_set1_ps(s.inverse);
            words = _mm256_packs_epi16(_mm256_packs_epi32(rounded(v[0], inverse), rounded(v[1], inverse)),
                                       _mm256_packs_epi32(rounded(v[2], inverse), rounded(v[3], inverse)));
            words = _mm256_permutevar8x32_epi32(words,
                                                _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)); /* packs work in halves */
        }
        _mm256_storeu_si256((__m256i *)(void *)(values + c), words);
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), words);
        *scales++ = s.scale;
        *sums++ = s.scale * (float)sum8_epi32(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
}

/* ---- Attention's products: 4 rows of A, 16 columns of B ---- */

INLINE __m256 b_floats(const void *b, int64_t at, bool half)
{
    return half ? floats8(WE_F16, (const uint8_t *)((const uint16_t *)b + at)) : _mm256_loadu_ps((const float *)b + at);
}

INLINE void mul_tile(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t k,
                     bool add, bool half, const uint16_t *next, int rows, int vectors)
{
    __m256 s[4][2];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) s[i][j] =
        add ? _mm256_loadu_ps(c + i * ldc + 8 * j) : _mm256_setzero_ps();
    for (int64_t l = 0; l < k; l++) {
        if (next) _mm_prefetch((const char *)(next + l * ldb), _MM_HINT_T0);
        __m256 v[2];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = b_floats(b, l * ldb + 8 * j, half);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const __m256 x = _mm256_broadcast_ss(a + i * lda + l);
            UNROLL for (int j = 0; j < vectors; j++) s[i][j] = _mm256_fmadd_ps(x, v[j], s[i][j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++)
        _mm256_storeu_ps(c + i * ldc + 8 * j, s[i][j]);
}

/* Fewer than 8 columns: one by one. */
INLINE void mul_columns(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                        int64_t n, int64_t k, bool add, bool half)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = add ? c[i * ldc + j] : 0.0f;
            for (int64_t l = 0; l < k; l++) {
                const float v = half ? _cvtsh_ss(((const uint16_t *)b)[l * ldb + j]) : ((const float *)b)[l * ldb + j];
                sum += a[i * lda + l] * v;
            }
            c[i * ldc + j] = sum;
        }
}

INLINE void mul(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m, int64_t n,
                int64_t k, bool add, bool half, const uint16_t *next)
{
    int64_t j = 0;
#define AT(j) (half ? (const void *)((const uint16_t *)b + (j)) : (const void *)((const float *)b + (j)))
    for (; j + 8 <= n; j += n - j >= 16 ? 16 : 8) {
        const bool wide = n - j >= 16;
        const uint16_t *fetch = next && j % 32 == 0 ? next + j : NULL; /* once each line, by the first rows */
        int64_t i = 0;
        for (; i + 4 <= m; i += 4, fetch = NULL) {
            if (wide)
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 4, 2);
            else
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 4, 1);
        }
        for (; i < m; i++, fetch = NULL) {
            if (wide)
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 1, 2);
            else
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 1, 1);
        }
    }
    if (j < n) mul_columns(a, lda, AT(j), ldb, c + j, ldc, m, n - j, k, add, half);
#undef AT
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

/* ---- Vectors: whole ones, then one that is padded ---- */

INLINE __m256i tail_mask(int64_t left)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)WE_MIN(left, 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE __m256 load(const float *x, int64_t left)
{
    return left >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, tail_mask(left));
}
INLINE void store(float *x, int64_t left, __m256 v)
{
    if (left >= 8)
        _mm256_storeu_ps(x, v);
    else
        _mm256_maskstore_ps(x, tail_mask(left), v);
}

/* exp in about 1 ulp: x = n ln 2 + f, |f| <= ln 2 / 2; e^f by the polynomial of Cephes' expf, times 2^n in two factors, so
 * that results down to the subnormal ones come out. A NaN stays one (the clamps give their second operand then). */
INLINE __m256 exp8(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-110.0f), _mm256_min_ps(_mm256_set1_ps(100.0f), x));
    const __m256 n =
        _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 f = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    f = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), f);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(f, f), _mm256_add_ps(f, _mm256_set1_ps(1.0f)));
    const __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1), rest = _mm256_sub_epi32(e, half);
    const __m256i one = _mm256_set1_epi32(127);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23)));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, one), 23)));
}

static void to_f16(const float *x, uint16_t *out, int64_t n)
{
    const __m256 most = _mm256_set1_ps(65504.0f), least = _mm256_set1_ps(-65504.0f),
                 infinity = _mm256_set1_ps(INFINITY);
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 v = load(x + i, n - i);
        const __m256 finite = _mm256_cmp_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), v), infinity, _CMP_LT_OQ);
        const __m256 clamped = _mm256_blendv_ps(v, _mm256_min_ps(most, _mm256_max_ps(least, v)), finite);
        const __m128i half = _mm256_cvtps_ph(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        if (n - i >= 8)
            _mm_storeu_si128((__m128i *)(void *)(out + i), half);
        else
            memcpy(out + i, &half, (size_t)(n - i) * 2);
    }
}

static float max(const float *x, int64_t n)
{
    __m256 most = _mm256_set1_ps(-INFINITY);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        most = _mm256_max_ps(_mm256_loadu_ps(x + i), most); /* of a NaN and a number: the second */
    float all[8], largest = -INFINITY;
    _mm256_storeu_ps(all, most);
    for (int j = 0; j < 8; j++) largest = WE_MAX(largest, all[j]);
    for (; i < n; i++)
        if (x[i] > largest) largest = x[i];
    return largest;
}

static float exp_sum(float *x, float shift, int64_t n)
{
    __m256 sum = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 8) {
        __m256 e = exp8(_mm256_sub_ps(load(x + i, n - i), _mm256_set1_ps(shift)));
        store(x + i, n - i, e);
        if (n - i < 8) e = _mm256_and_ps(e, _mm256_castsi256_ps(tail_mask(n - i)));
        sum = _mm256_add_ps(sum, e);
    }
    return sum8(sum);
}

static void scale(float *x, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) store(x + i, n - i, _mm256_mul_ps(load(x + i, n - i), _mm256_set1_ps(factor)));
}

static void add(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) store(x + i, n - i, _mm256_add_ps(load(x + i, n - i), load(y + i, n - i)));
}

static void rms_norm(float *out, const float *x, const float *weight, int64_t n, float eps, float offset)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        s0 = _mm256_fmadd_ps(a, a, s0);
        s1 = _mm256_fmadd_ps(b, b, s1);
    }
    for (; i < n; i += 8) {
        const __m256 a = load(x + i, n - i);
        s0 = _mm256_fmadd_ps(a, a, s0);
    }
    const __m256 factor = _mm256_set1_ps(1.0f / sqrtf(sum8(_mm256_add_ps(s0, s1)) / (float)n + eps));
    for (i = 0; i < n; i += 8) {
        const __m256 w = _mm256_add_ps(load(weight + i, n - i), _mm256_set1_ps(offset));
        store(out + i, n - i, _mm256_mul_ps(_mm256_mul_ps(load(x + i, n - i), factor), w));
    }
}

INLINE __m256 sigmoid(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    return _mm256_div_ps(one, _mm256_add_ps(one, exp8(_mm256_sub_ps(_mm256_setzero_ps(), x))));
}

static void silu_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 g = load(gate + i, n - i);
        store(gate + i, n - i, _mm256_mul_ps(_mm256_mul_ps(g, sigmoid(g)), load(up + i, n - i)));
    }
}

/* (1 + tanh(u)) / 2 = sigmoid(2 u) */
static void gelu_tanh_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 g = load(gate + i, n - i), cube = _mm256_mul_ps(_mm256_mul_ps(g, g), g);
        const __m256 u =
            _mm256_mul_ps(_mm256_set1_ps(2 * 0.7978845608f), _mm256_fmadd_ps(cube, _mm256_set1_ps(0.044715f), g));
        store(gate + i, n - i, _mm256_mul_ps(_mm256_mul_ps(g, sigmoid(u)), load(up + i, n - i)));
    }
}

const we_cpu_kernels we_cpu_kernels_avx2 = {
    .name = "avx2",
    .supported = we_x86_has_avx2,
    .row_f32 = row_f32,
    .linear_f32 = linear_f32,
    .linear_q8 = we_avx2_linear_q8,
    .linear_ggml = we_avx2_linear_ggml,
    .q8_quantize = q8_quantize,
    .q8_tile = we_avx2_q8_tile,
    .mul_f32 = mul_f32,
    .mul_f16 = mul_f16,
    .kv = &we_avx2_kv,
    .to_f16 = to_f16,
    .max = max,
    .exp_sum = exp_sum,
    .scale = scale,
    .add = add,
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .dots = we_avx2_dots,
};
