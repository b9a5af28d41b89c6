/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mfma -mf16c
 * avx512_q8.c - products of int8 activations with packed weights by vpdpbusd: unsigned codes times signed activations, four
 * neighbours at a time, into int32. e2m1 codes become unsigned as 2 * value + 12; what the 12 adds is taken off again.
 *
 * Two ways, by the number of tokens:
 *
 *   few   Row after row, as they lie in memory: one stream that the prefetchers follow. 4-bit codes are not even put in
 *         order: low nibbles meet the even activations, high ones the odd.
 *   many  A panel of 32 rows x 512 columns is unpacked once into the first cache, so that one vector holds 4 columns of 16
 *         rows; then every token passes by. Lanes are rows: nothing is summed across a vector. */
#include "device/cpu/avx512.h"

#include <assert.h>

#define BLOCK WE_Q8_PAD /* columns of a step: 16 activation groups, whose scales are one vector */
#define GROUPS (BLOCK / WE_Q8_GROUP)

INLINE bool is_e2m1(we_quant_mode mode) { return mode != WE_QUANT_AFFINE; }

/* ---- Few tokens ---- */

#define FEW 4         /* tokens of one pass over the rows */
#define MANY 12       /* more tokens than this are worth a panel */
#define PREFETCH 2048 /* bytes ahead: the hardware's prefetcher stops at the end of every page */

typedef struct few {
    const we_matrix *w;
    int group_shift; /* log2 of the group size: a division a block costs as much as half of its products */
    size_t code_bytes, scale_bytes; /* of a row */
    const int8_t *x[FEW];           /* [padded columns]; 4 bits: in each 128 the even ones, then the odd ones */
    const int32_t
        *start[FEW]; /* e2m1: [padded columns / 128, 16]: minus 12 times the activations that meet in a lane */
    const float *scales[FEW], *sums[FEW];
    float *y[FEW];
    bool add;
} few;

/* Lane i takes element i / each + first: four groups for 4 lanes each, two for 8, eight for 2. */
INLINE __m512i spread(int each, int first)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i index = _mm512_srli_epi32(lane, each == 8 ? 3 : each == 4 ? 2 : each == 2 ? 1 : 0);
    return _mm512_add_epi32(index, _mm512_set1_epi32(first));
}

/* Scales of a block for each of its 16 activation groups; nvfp4 has two each: 32, in order. */
typedef struct block_scales {
    __m512 s, s2;
} block_scales;

INLINE block_scales load_scales(const we_matrix *w, we_quant_mode mode, const uint8_t *row, int64_t g, int64_t n)
{
    block_scales b = { scales16(w, row, g, mask16(n)), _mm512_setzero_ps() };
    if (mode == WE_QUANT_NVFP4) {
        b.s2 = scales16(w, row, g + 16, mask16(n - 16));
    } else if (w->quant.group_size > WE_Q8_GROUP) {
        const __m512i by = w->quant.group_size == 64 ? spread(2, 0) : spread(4, 0);
        b.s = _mm512_permutexvar_ps(by, b.s);
    }
    if (is_e2m1(mode)) { /* codes are twice the value */
        b.s = _mm512_mul_ps(b.s, _mm512_set1_ps(0.5f));
        b.s2 = _mm512_mul_ps(b.s2, _mm512_set1_ps(0.5f));
    }
    return b;
}

/* 128 columns of 4 bits: the two products of a lane belong to the same 8 columns, so they are added before they are scaled. */
INLINE __m512 nibbles_128(const few *f, we_quant_mode mode, int t, int64_t at, int k, __m512i even, __m512i odd,
                          block_scales ws, __m512 acc)
{
    __m512i dot = is_e2m1(mode) ? _mm512_loadu_si512(f->start[t] + at / 8) : _mm512_setzero_si512();
    dot = _mm512_dpbusd_epi32(dot, even, _mm512_loadu_si512(f->x[t] + at));
    dot = _mm512_dpbusd_epi32(dot, odd, _mm512_loadu_si512(f->x[t] + at + 64));
    const __m512 xs = _mm512_loadu_ps(f->scales[t] + (at / BLOCK) * GROUPS);
    __m512 s;
    if (mode == WE_QUANT_NVFP4)
        s = _mm512_mul_ps(_mm512_permutexvar_ps(spread(4, 4 * k), xs),
                          _mm512_permutexvar_ps(spread(2, 8 * (k & 1)), k < 2 ? ws.s : ws.s2));
    else
        s = _mm512_permutexvar_ps(spread(4, 4 * k), _mm512_mul_ps(ws.s, xs));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), s, acc);
}

/* 64 columns of any other width, in order. */
INLINE __m512 codes_64(const few *f, int t, int64_t at, int k, __m512i codes, block_scales ws, __m512 acc)
{
    const __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_loadu_si512(f->x[t] + at));
    const __m512 xs = _mm512_loadu_ps(f->scales[t] + (at / BLOCK) * GROUPS);
    const __m512 s = _mm512_permutexvar_ps(spread(8, 2 * k), _mm512_mul_ps(ws.s, xs));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), s, acc);
}

/* One row times n tokens. For each block of 512 columns: scales; biases times the sums of the activations, 16 groups at once;
 * codes to bytes, dot products, one multiply-add with both scales. */
INLINE void row_few(const few *f, int64_t row, int64_t out, we_quant_mode mode, int bits, int n)
{
    const we_matrix *w = f->w;
    const int64_t cols = w->cols;
    const uint8_t *codes = w->data + (size_t)row * f->code_bytes;
    const uint8_t *scales = w->scales + (size_t)row * f->scale_bytes;
    const uint8_t *biases = is_e2m1(mode) ? NULL : w->biases + (size_t)row * f->scale_bytes;
    __m512 acc[FEW], acc2[FEW];
    UNROLL for (int t = 0; t < n; t++) acc[t] = acc2[t] = _mm512_setzero_ps();

    for (int64_t c = 0; c < cols; c += BLOCK, codes += BLOCK * bits / 8) {
        const int64_t left = WE_MIN(cols - c, BLOCK), g = c >> f->group_shift, n_scales = left >> f->group_shift;
        const uint8_t *p = codes;
        uint8_t tail[BLOCK];
        if (left < BLOCK) { /* what lies behind the row is not ours to read */
            memset(tail, 0, sizeof tail);
            memcpy(tail, codes, (size_t)(left * bits / 8));
            p = tail;
        }
        const block_scales ws = load_scales(w, mode, scales, g, n_scales);
        if (!is_e2m1(mode)) {
            const __m512 bias = load_scales(w, mode, biases, g, n_scales).s;
            UNROLL for (int t = 0; t < n; t++) acc2[t] =
                _mm512_fmadd_ps(bias, _mm512_loadu_ps(f->sums[t] + c / WE_Q8_GROUP), acc2[t]);
        }
        if (bits == 4) {
            UNROLL for (int k = 0; k < 4; k++)
            {
                const __m512i v = _mm512_loadu_si512(p + 64 * k), nibble = _mm512_set1_epi8(15);
                _mm_prefetch((const char *)codes + 64 * k + PREFETCH, _MM_HINT_T0);
                __m512i even = _mm512_and_si512(v, nibble), odd = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
                if (is_e2m1(mode)) even = e2m1_bytes(even), odd = e2m1_bytes(odd);
                UNROLL for (int t = 0; t < n; t++) acc[t] =
                    nibbles_128(f, mode, t, c + 128 * k, k, even, odd, ws, acc[t]);
            }
        } else {
            UNROLL for (int k = 0; k < 8; k++)
            {
                const __m512i v = codes64(bits, p + 8 * bits * k);
                _mm_prefetch((const char *)codes + 8 * bits * k + PREFETCH, _MM_HINT_T0);
                UNROLL for (int t = 0; t < n; t++)
                {
                    if (k % 2)
                        acc[t] = codes_64(f, t, c + 64 * k, k, v, ws, acc[t]);
                    else
                        acc2[t] = codes_64(f, t, c + 64 * k, k, v, ws, acc2[t]);
                }
            }
        }
    }
    UNROLL for (int t = 0; t < n; t++)
    {
        const float sum = _mm512_reduce_add_ps(_mm512_add_ps(acc[t], acc2[t]));
        f->y[t][out] = (f->add ? f->y[t][out] : 0.0f) + sum;
    }
}

/* A function for each packing and number of tokens. */
typedef void (*rows_fn)(const few *f, int64_t first, int64_t n_rows);
#define ROWS_FEW(name, mode, bits, n)                                                 \
    static void rows_##name##_##n(const few *f, int64_t first, int64_t n_rows)        \
    {                                                                                 \
        for (int64_t r = 0; r < n_rows; r++) row_few(f, first + r, r, mode, bits, n); \
    }
#define ROWS_EACH(name, mode, bits) \
    ROWS_FEW(name, mode, bits, 1)   \
    ROWS_FEW(name, mode, bits, 2) ROWS_FEW(name, mode, bits, 3) ROWS_FEW(name, mode, bits, 4)
ROWS_EACH(q2, WE_QUANT_AFFINE, 2)
ROWS_EACH(q3, WE_QUANT_AFFINE, 3)
ROWS_EACH(q4, WE_QUANT_AFFINE, 4)
ROWS_EACH(q5, WE_QUANT_AFFINE, 5)
ROWS_EACH(q6, WE_QUANT_AFFINE, 6)
ROWS_EACH(q8, WE_QUANT_AFFINE, 8)
ROWS_EACH(mx4, WE_QUANT_MXFP4, 4)
ROWS_EACH(nv4, WE_QUANT_NVFP4, 4)

static rows_fn rows_of(we_quant quant, int64_t n)
{
#define NAMES(name)                                                        \
    {                                                                      \
        rows_##name##_1, rows_##name##_2, rows_##name##_3, rows_##name##_4 \
    }
    static const rows_fn affine[9][FEW] = {
        [2] = NAMES(q2), [3] = NAMES(q3), [4] = NAMES(q4), [5] = NAMES(q5), [6] = NAMES(q6), [8] = NAMES(q8)
    };
    static const rows_fn mxfp4[FEW] = NAMES(mx4), nvfp4[FEW] = NAMES(nv4);
    if (quant.mode == WE_QUANT_MXFP4) return mxfp4[n - 1];
    if (quant.mode == WE_QUANT_NVFP4) return nvfp4[n - 1];
    return affine[quant.bits][n - 1];
}

/* 4 bits: activations in the order in which codes come out of their bytes. Others: as they are. */
static void order(few *f, int t, const we_q8 *x, int64_t token, uint8_t **scratch)
{
    const int8_t *from = x->values + token * x->stride;
    f->x[t] = from;
    if (f->w->quant.bits != 4) return;
    int8_t *to = (int8_t *)*scratch;
    int32_t *start = (int32_t *)(void *)(*scratch + x->stride);
    *scratch += x->stride + x->stride / 2;
    f->x[t] = to;
    f->start[t] = start;
    const __m512i offset = _mm512_set1_epi8((char)E2M1_OFFSET);
    for (int64_t c = 0; c < x->stride; c += 128) {
        const __m512i a = _mm512_loadu_si512(from + c), b = _mm512_loadu_si512(from + c + 64);
        const __m512i even =
            _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)), _mm512_cvtepi16_epi8(b), 1);
        const __m512i odd = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(_mm512_srli_epi16(a, 8))),
                                               _mm512_cvtepi16_epi8(_mm512_srli_epi16(b, 8)), 1);
        _mm512_store_si512(to + c, even);
        _mm512_store_si512(to + c + 64, odd);
        if (f->w->quant.mode == WE_QUANT_AFFINE) continue;
        const __m512i zero = _mm512_setzero_si512();
        const __m512i added = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, offset, even), offset, odd);
        _mm512_store_si512(start + c / 8, _mm512_sub_epi32(zero, added));
    }
}

static void linear_few(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t token, int64_t n,
                       float *y, int64_t y_stride, bool add, uint8_t *scratch)
{
    few f = {
        .w = w,
        .group_shift = __builtin_ctz((unsigned)w->quant.group_size),
        .code_bytes = we_matrix_row_bytes(w),
        .scale_bytes = we_matrix_row_scale_bytes(w),
        .add = add,
    };
    for (int t = 0; t < (int)n; t++) {
        order(&f, t, x, token + t, &scratch);
        f.scales[t] = x->scales + (token + t) * (x->stride / WE_Q8_GROUP);
        f.sums[t] = x->sums + (token + t) * (x->stride / WE_Q8_GROUP);
        f.y[t] = y + (token + t) * y_stride;
    }
    rows_of(w->quant, n)(&f, first, n_rows);
}

/* ---- Many tokens ---- */

#define ROWS WE_PANEL_ROWS
#define TILE 4 /* tokens: 2 x 4 integer and 2 x 4 float accumulators */

typedef struct panel {
    int8_t codes[2][BLOCK / 4][64]; /* [half][4 columns][16 rows x 4] */
    float scales[BLOCK / 16][ROWS]; /* [weight group][row] */
    float biases[BLOCK / 16][ROWS]; /* affine's own; e2m1: -12 times the scale */
} panel;

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

/* 64 columns from `p`, of which `left` exist. */
INLINE __m512i panel_codes(we_quant_mode mode, int bits, const uint8_t *p, int64_t left)
{
    uint8_t tail[64];
    if (left < 64) {
        memset(tail, 0, sizeof tail);
        memcpy(tail, p, (size_t)(left * bits / 8));
        p = tail;
    }
    const __m512i codes = codes64(bits, p);
    return is_e2m1(mode) ? e2m1_bytes(codes) : codes;
}

INLINE void pack_codes(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols,
                       we_quant_mode mode, int bits)
{
    const size_t row_bytes = (size_t)(w->cols * bits / 8);
    for (int half = 0; half < 2; half++)
        for (int64_t at = 0; at < cols; at += 64) {
            __m512i v[16];
            UNROLL for (int r = 0; r < 16; r++)
            {
                const int64_t row = 16 * half + r;
                const uint8_t *p = w->data + (size_t)(first + row) * row_bytes + (c + at) * bits / 8;
                v[r] = row < n_rows ? panel_codes(mode, bits, p, cols - at) : _mm512_setzero_si512();
            }
            transpose16(v);
            UNROLL for (int i = 0; i < 16; i++) _mm512_store_si512(out->codes[half][at / 4 + i], v[i]);
        }
}

/* `base` times factor, 16 groups from g of 16 rows at a time, turned so that lanes are rows. */
static void pack_floats(float (*out)[ROWS], const we_matrix *w, const uint8_t *base, float factor, int64_t first,
                        int64_t n_rows, int64_t g, int64_t n)
{
    const size_t row_bytes = we_matrix_row_scale_bytes(w);
    for (int64_t half = 0; half < ROWS; half += 16)
        for (int64_t i = 0; i < n; i += 16) {
            __m512i v[16];
            for (int64_t r = 0; r < 16; r++) {
                const uint8_t *row = base + (size_t)(first + half + r) * row_bytes;
                const __m512 f = half + r < n_rows ? scales16(w, row, g + i, mask16(n - i)) : _mm512_setzero_ps();
                v[r] = _mm512_castps_si512(_mm512_mul_ps(f, _mm512_set1_ps(factor)));
            }
            transpose16(v);
            for (int64_t j = 0; j < WE_MIN(n - i, 16); j++) _mm512_store_si512(out[i + j] + half, v[j]);
        }
}

static void pack_scales(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    const int64_t n = cols / w->quant.group_size, g = c / w->quant.group_size;
    const bool e2m1 = is_e2m1(w->quant.mode); /* codes are twice the value, plus the offset */
    pack_floats(out->scales, w, w->scales, e2m1 ? 0.5f : 1.0f, first, n_rows, g, n);
    pack_floats(out->biases, w, e2m1 ? w->scales : w->biases, e2m1 ? -0.5f * E2M1_OFFSET : 1.0f, first, n_rows, g, n);
}

static void pack(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
#define PACK(mode, bits) pack_codes(out, w, first, n_rows, c, cols, mode, bits)
    if (w->quant.mode != WE_QUANT_AFFINE)
        PACK(WE_QUANT_MXFP4, 4);
    else if (w->quant.bits == 2)
        PACK(WE_QUANT_AFFINE, 2);
    else if (w->quant.bits == 3)
        PACK(WE_QUANT_AFFINE, 3);
    else if (w->quant.bits == 4)
        PACK(WE_QUANT_AFFINE, 4);
    else if (w->quant.bits == 5)
        PACK(WE_QUANT_AFFINE, 5);
    else if (w->quant.bits == 6)
        PACK(WE_QUANT_AFFINE, 6);
    else
        PACK(WE_QUANT_AFFINE, 8);
#undef PACK
    pack_scales(out, w, first, n_rows, c, cols);
}

typedef struct tile {
    const int8_t *x[TILE];                     /* at the panel's first column */
    const float *scales[TILE];                 /* of its activation groups */
    _Alignas(64) float sums[BLOCK / 16][TILE]; /* of the activations in each weight group, scaled */
    float *y[TILE];
    int n; /* tokens that exist; the others are copies of the last */
    __mmask16 rows[2];
    bool add;
} tile;

/* What the biases are multiplied with. nvfp4's groups are half of what x->sums counts. */
static void tile_sums(tile *t, const we_q8 *x, const int64_t token[TILE], int64_t c, int64_t cols, int size)
{
    for (int i = 0; i < TILE; i++) {
        const float *sums = x->sums + token[i] * (x->stride / WE_Q8_GROUP) + c / WE_Q8_GROUP;
        for (int64_t g = 0; g < cols / size; g++) {
            float sum = 0;
            for (int j = 0; j < size / WE_Q8_GROUP; j++) sum += sums[g * (size / WE_Q8_GROUP) + j];
            if (size < WE_Q8_GROUP) {
                const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(t->x[i] + g * size));
                __m128i s = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), v);
                s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
                s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
                sum = (float)_mm_cvtsi128_si32(s) * t->scales[i][g / 2];
            }
            t->sums[g][i] = sum;
        }
    }
}

/* 32 rows x 4 tokens x the panel's columns. For each weight group: integers over 32 columns (nvfp4: 16), then one scale step;
 * at the group's end the bias. */
INLINE void run_tile(const panel *p, const tile *t, int64_t n_groups, int steps, int words)
{
    __m512 y0[TILE], y1[TILE];
    UNROLL for (int i = 0; i < TILE; i++)
    {
        const bool read = t->add && i < t->n;
        y0[i] = read ? _mm512_maskz_loadu_ps(t->rows[0], t->y[i]) : _mm512_setzero_ps();
        y1[i] = read ? _mm512_maskz_loadu_ps(t->rows[1], t->y[i] + 16) : _mm512_setzero_ps();
    }
    int64_t word = 0; /* four columns each */
    for (int64_t g = 0; g < n_groups; g++) {
        const __m512 s0 = _mm512_load_ps(p->scales[g]), s1 = _mm512_load_ps(p->scales[g] + 16);
        for (int s = 0; s < steps; s++) {
            __m512i d0[TILE], d1[TILE];
            UNROLL for (int i = 0; i < TILE; i++) d0[i] = d1[i] = _mm512_setzero_si512();
            UNROLL for (int k = 0; k < words; k++)
            {
                const __m512i w0 = _mm512_load_si512(p->codes[0][word + k]),
                              w1 = _mm512_load_si512(p->codes[1][word + k]);
                UNROLL for (int i = 0; i < TILE; i++)
                {
                    int32_t four;
                    memcpy(&four, t->x[i] + 4 * (word + k), sizeof four);
                    const __m512i x = _mm512_set1_epi32(four);
                    d0[i] = _mm512_dpbusd_epi32(d0[i], w0, x);
                    d1[i] = _mm512_dpbusd_epi32(d1[i], w1, x);
                }
            }
            UNROLL for (int i = 0; i < TILE; i++)
            {
                const __m512 xs = _mm512_set1_ps(t->scales[i][word / 8]);
                y0[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d0[i]), _mm512_mul_ps(s0, xs), y0[i]);
                y1[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d1[i]), _mm512_mul_ps(s1, xs), y1[i]);
            }
            word += words;
        }
        const __m512 b0 = _mm512_load_ps(p->biases[g]), b1 = _mm512_load_ps(p->biases[g] + 16);
        UNROLL for (int i = 0; i < TILE; i++)
        {
            const __m512 sum = _mm512_set1_ps(t->sums[g][i]);
            y0[i] = _mm512_fmadd_ps(b0, sum, y0[i]);
            y1[i] = _mm512_fmadd_ps(b1, sum, y1[i]);
        }
    }
    UNROLL for (int i = 0; i < TILE; i++)
    {
        if (i >= t->n) break;
        _mm512_mask_storeu_ps(t->y[i], t->rows[0], y0[i]);
        _mm512_mask_storeu_ps(t->y[i] + 16, t->rows[1], y1[i]);
    }
}

static void tile_32(const panel *p, const tile *t, int64_t n_groups, int steps) { run_tile(p, t, n_groups, steps, 8); }
static void tile_16(const panel *p, const tile *t, int64_t n_groups) { run_tile(p, t, n_groups, 1, 4); }

static void panel_times(const panel *p, const we_matrix *w, int64_t c, int64_t cols, int64_t n_rows, const we_q8 *x,
                        int64_t n, float *y, int64_t y_stride, bool add)
{
    const int size = w->quant.group_size;
    tile t = { .rows = { mask16(n_rows), mask16(n_rows - 16) }, .add = add };
    for (int64_t first = 0; first < n; first += TILE) {
        int64_t token[TILE];
        t.n = (int)WE_MIN(n - first, TILE);
        for (int i = 0; i < TILE; i++) {
            token[i] = first + WE_MIN(i, t.n - 1);
            t.x[i] = x->values + token[i] * x->stride + c;
            t.scales[i] = x->scales + (token[i] * x->stride + c) / WE_Q8_GROUP;
            t.y[i] = y + token[i] * y_stride;
        }
        tile_sums(&t, x, token, c, cols, size);
        if (size == 16)
            tile_16(p, &t, cols / 16);
        else
            tile_32(p, &t, cols / size, size / WE_Q8_GROUP);
    }
}

static void linear_many(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                        int64_t y_stride, bool add, panel *p)
{
    for (int64_t r = 0; r < n_rows; r += ROWS) {
        const int64_t rows = WE_MIN(n_rows - r, ROWS);
        for (int64_t c = 0; c < w->cols; c += BLOCK) {
            const int64_t cols = WE_MIN(w->cols - c, BLOCK);
            pack(p, w, first + r, rows, c, cols);
            panel_times(p, w, c, cols, rows, x, n, y + r, y_stride, add || c > 0);
        }
    }
}

void we_avx512_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                         int64_t y_stride, bool add, void *scratch)
{
    if (n > MANY) {
        static_assert(sizeof(panel) <= WE_Q8_PAD * (WE_PANEL_ROWS + WE_PANEL_ROWS / 2) + 8192,
                      "a panel fits the scratch");
        linear_many(w, first, n_rows, x, n, y, y_stride, add, scratch);
        return;
    }
    for (int64_t t = 0; t < n; t += FEW)
        linear_few(w, first, n_rows, x, t, WE_MIN(n - t, FEW), y, y_stride, add, scratch);
}
