/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mavx512vbmi -mfma -mf16c
 * avx512_plain.c - many tokens times weights that are bfloat16 already, halves or mxfp8, by vdpbf16ps: two neighbours of a row times
 * two of a token, added to a float32; twice what float32 products do at once. bfloat16 and mxfp8 (3 bits of mantissa, scales that are
 * powers of two) lose nothing here; halves lose their last three bits, as activations lose theirs.
 *
 * As in avx512_q8.c a panel of 32 rows x 512 columns is brought into the first cache once, in an order in which lanes are rows, and
 * tiles of eight tokens pass by. */
#include "device/cpu/ahead.h"
#include "device/cpu/avx512.h"

#include <assert.h>

#define BLOCK WE_Q8_PAD /* columns of a panel */
#define ROWS WE_PANEL_ROWS
#define TILE WE_BF16_TILE
#define SPREAD 16 /* pairs of columns between two rows that are fetched ahead */
#define CHUNK WE_PANEL_TOKENS

typedef uint32_t panel[BLOCK / 2][ROWS]; /* [two columns][row] */
typedef float results[CHUNK][ROWS];

typedef struct desk { /* in scratch */
    _Alignas(64) panel panel;
    results y[WE_PANEL_GROUP];
    float scales[ROWS][BLOCK / 32]; /* mxfp8 */
} desk;
static_assert(sizeof(desk) <= WE_PANEL_BYTES + WE_Q8_PAD / 16 * WE_PANEL_TOKENS * sizeof(float), "fits the scratch");

/* ---- Activations ---- */

/* Eight rows of 32 columns and of the next 32 are turned at once. */
void we_avx512_bf16_tile(const float *x, int64_t x_stride, int64_t n, int64_t cols, uint32_t *out)
{
    for (int64_t c = 0; c < cols; c += 64) {
        __m512i v[16];
        UNROLL for (int i = 0; i < 16; i++)
        {
            const int64_t left = i % TILE < n ? cols - c - i / TILE * 32 : 0;
            const float *at = x + (left > 0 ? i % TILE * x_stride + c + i / TILE * 32 : 0);
            const __m512 a = _mm512_maskz_loadu_ps(mask16(left), at);
            const __m512 b = left > 16 ? _mm512_maskz_loadu_ps(mask16(left - 16), at + 16) : _mm512_setzero_ps();
            v[i] = (__m512i)_mm512_cvtne2ps_pbh(b, a);
        }
        transpose16(v);
        const int64_t pairs = (WE_MIN(cols - c, 64) + 1) / 2;
        for (int64_t p = 0; p < pairs; p++, out += TILE) {
            const __m256i words = p < 16 ? _mm512_castsi512_si256(v[p]) : _mm512_extracti64x4_epi64(v[p - 16], 1);
            _mm256_storeu_si256((__m256i *)(void *)out, words);
        }
    }
}

/* ---- Weights ---- */

/* 32 columns of a row, of which `left` exist, as 16 pairs. */
INLINE __m512i pairs16(const uint8_t *p, int64_t left, we_quant_mode mode, we_dtype dtype, const float *scale)
{
    if (mode == WE_QUANT_MXFP8) { /* whole groups */
        const __m512 factor = _mm512_set1_ps(*scale);
        const __m512 a = e4m3_times(_mm_loadu_si128((const __m128i *)(const void *)p), factor);
        const __m512 b = e4m3_times(_mm_loadu_si128((const __m128i *)(const void *)(p + 16)), factor);
        return (__m512i)_mm512_cvtne2ps_pbh(b, a);
    }
    const __m512i halves = left >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((__mmask32)mask64(left), p);
    if (dtype == WE_BF16) return halves;
    const __m512 a = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    const __m512 b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
    return (__m512i)_mm512_cvtne2ps_pbh(b, a);
}

static void pack_scales(desk *d, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    const int64_t groups = w->cols / 32;
    const uint8_t *at = w->scales + first * groups + c / 32;
    const __mmask16 there = mask16(cols / 32);
    for (int64_t r = 0; r < n_rows; r++, at += groups) /* times what e4m3_times leaves out */
        _mm512_store_ps(d->scales[r],
                        _mm512_mul_ps(e8m0_floats(_mm_maskz_loadu_epi8(there, at)), _mm512_set1_ps(256.0f)));
}

INLINE void pack(desk *d, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols,
                 we_quant_mode mode, we_dtype dtype)
{
    const int64_t size = mode == WE_QUANT_MXFP8 ? 1 : 2;
    const size_t row_bytes = (size_t)(w->cols * size);
    const uint8_t *from = w->data + (size_t)first * row_bytes + c * size;
    if (mode == WE_QUANT_MXFP8) pack_scales(d, w, first, n_rows, c, cols);
    for (int64_t half = 0; half < ROWS; half += 16, from += 16 * row_bytes)
        for (int64_t at = 0; at < cols; at += 32) {
            __m512i v[16];
            UNROLL for (int r = 0; r < 16; r++) v[r] =
                half + r < n_rows ? pairs16(from + (size_t)r * row_bytes + at * size, cols - at, mode, dtype,
                                            &d->scales[half + r][at / 32])
                                  : _mm512_setzero_si512();
            transpose16(v);
            UNROLL for (int i = 0; i < 16; i++) _mm512_store_si512(d->panel[at / 2 + i] + half, v[i]);
        }
}

static void pack_any(desk *d, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    if (w->quant.mode == WE_QUANT_MXFP8)
        pack(d, w, first, n_rows, c, cols, WE_QUANT_MXFP8, WE_U8);
    else if (w->dtype == WE_F16)
        pack(d, w, first, n_rows, c, cols, WE_QUANT_NONE, WE_F16);
    else
        pack(d, w, first, n_rows, c, cols, WE_QUANT_NONE, WE_BF16);
}

/* ---- Products ---- */

/* A tile of tokens x the panel: sixteen sums. `fetch` rows of what comes next are fetched meanwhile, spread out: a burst of them would
 * hold up what the products load. */
INLINE void run(const uint32_t (*w)[ROWS], const uint32_t *x, int64_t pairs, ahead *next, int64_t fetch, bool begin,
                float (*y)[ROWS])
{
    __m512 s0[TILE], s1[TILE];
    UNROLL for (int t = 0; t < TILE; t++)
    {
        s0[t] = begin ? _mm512_setzero_ps() : _mm512_load_ps(y[t]);
        s1[t] = begin ? _mm512_setzero_ps() : _mm512_load_ps(y[t] + 16);
    }
    for (int64_t k = 0; k < pairs;) {
        if (fetch-- > 0) ahead_rows(next, 1);
        for (const int64_t end = WE_MIN(k + SPREAD, pairs); k < end; k++, x += TILE) {
            const __m512bh w0 = (__m512bh)_mm512_load_si512(w[k]), w1 = (__m512bh)_mm512_load_si512(w[k] + 16);
            UNROLL for (int t = 0; t < TILE; t++)
            {
                const __m512bh v = (__m512bh)_mm512_set1_epi32((int)x[t]);
                s0[t] = _mm512_dpbf16_ps(s0[t], w0, v);
                s1[t] = _mm512_dpbf16_ps(s1[t], w1, v);
            }
        }
    }
    UNROLL for (int t = 0; t < TILE; t++)
    {
        _mm512_store_ps(y[t], s0[t]);
        _mm512_store_ps(y[t] + 16, s1[t]);
    }
}

static void run_begin(const uint32_t (*w)[ROWS], const uint32_t *x, int64_t pairs, ahead *next, int64_t fetch,
                      float (*y)[ROWS])
{
    run(w, x, pairs, next, fetch, true, y);
}
static void run_more(const uint32_t (*w)[ROWS], const uint32_t *x, int64_t pairs, ahead *next, int64_t fetch,
                     float (*y)[ROWS])
{
    run(w, x, pairs, next, fetch, false, y);
}

typedef struct product {
    const we_matrix *w;
    const uint32_t *x; /* tiles */
    int64_t n;
    float *y; /* [n], y_stride apart: of row `first` and those that follow */
    int64_t first, y_stride;
    bool add;
} product;

/* Results of a tile from token t on go where they belong. */
static void put(const product *j, float (*from)[ROWS], int64_t row, int64_t n_rows, int64_t t)
{
    const __mmask16 m0 = mask16(n_rows), m1 = mask16(n_rows - 16);
    const int64_t end = WE_MIN(t + TILE, j->n);
    float *y = j->y + t * j->y_stride + (row - j->first);
    for (; t < end; t++, y += j->y_stride, from++) {
        put16(y, m0, _mm512_load_ps(*from), j->add);
        put16(y + 16, m1, _mm512_load_ps(*from + 16), j->add);
    }
}

/* All tokens x the panel of rows from `row` at columns [c, c + cols). */
static void panel_times(const product *j, const desk *d, float (*y)[ROWS], int64_t row, int64_t n_rows, int64_t c,
                        int64_t cols, ahead *next)
{
    const int64_t tile_words = we_bf16_tile_words(j->w->cols), fetch = next->rows / ((j->n + TILE - 1) / TILE) + 1;
    const uint32_t *x = j->x + c / 2 * TILE;
    for (int64_t t = 0; t < j->n; t += TILE, x += tile_words) {
        (c == 0 ? run_begin : run_more)((const uint32_t(*)[ROWS])d->panel, x, (cols + 1) / 2, next, fetch, y + t);
        if (c + cols == j->w->cols) put(j, y + t, row, n_rows, t);
    }
}

/* Up to WE_PANEL_GROUP panels of rows, as in avx512_affine.c. */
static void rows_times(const product *j, desk *d, int64_t first, int64_t n_rows)
{
    const we_matrix *w = j->w;
    const int64_t end = first + n_rows;
    for (int64_t c = 0; c < w->cols; c += BLOCK) {
        const int64_t cols = WE_MIN(w->cols - c, BLOCK);
        for (int64_t row = first; row < end; row += ROWS) {
            const int64_t rows = WE_MIN(end - row, ROWS);
            ahead next = ahead_in_group(w, first, n_rows, row, c);
            pack_any(d, w, row, rows, c, cols);
            panel_times(j, d, d->y[(row - first) / ROWS], row, rows, c, cols, &next);
        }
    }
}

void we_avx512_linear_bf16(const we_matrix *w, int64_t first, int64_t n_rows, const uint32_t *x, int64_t n, float *y,
                           int64_t y_stride, bool add, void *scratch)
{
    const int64_t pairs = (w->cols + 1) / 2;
    for (int64_t t = 0; t < n; t += CHUNK) {
        const product j = { .w = w,
                            .x = x + t * pairs,
                            .n = WE_MIN(n - t, CHUNK),
                            .y = y + t * y_stride,
                            .first = first,
                            .y_stride = y_stride,
                            .add = add };
        for (int64_t r = 0; r < n_rows; r += WE_PANEL_GROUP * ROWS)
            rows_times(&j, scratch, first + r, WE_MIN(n_rows - r, WE_PANEL_GROUP * ROWS));
    }
}
