/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mfma -mf16c
 * avx512_q8.c - products of int8 activations with packed weights by vpdpbusd: unsigned codes times signed activations, four
 * neighbours at a time, into int32. e2m1 codes become unsigned as 2 * value + 12; what the 12 adds is taken off again.
 *
 * For many tokens; few: avx512_few.c. A panel of 32 rows x 512 columns is unpacked once into the first cache, so that one vector
 * holds 4 columns of 16 rows; then every token passes by. Lanes are rows: nothing is summed across a vector. */
#include "device/cpu/avx512.h"

#include <assert.h>

#define BLOCK WE_Q8_PAD /* columns of a step: 16 activation groups, whose scales are one vector */

INLINE bool is_e2m1(we_quant_mode mode) { return mode != WE_QUANT_AFFINE; }

/* ---- Many tokens ---- */

#define ROWS WE_PANEL_ROWS

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

/* A tile is 32 rows x 8 tokens: 16 integer accumulators in registers, the floats in the first cache. More tokens, or floats in
 * registers, were no faster. What it reads of its tokens lies side by side: eight rows far apart cost as much in pages and
 * addresses as the products themselves. */
#define TILE WE_Q8_TILE

typedef struct tile {
    const int8_t *x;     /* [4 columns][token][4], at the panel's first column */
    const float *scales; /* [32 columns][token] */
    const float *sums;   /* [weight group][token]: of the activations, scaled */
    float (*y)[ROWS];    /* [token] */
} tile;

void we_avx512_q8_tile(const we_q8 *x, int64_t first, int64_t n)
{
    const int64_t stride = x->stride, groups = stride / WE_Q8_GROUP;
    int8_t *to = x->tiles + first * stride;
    for (int64_t c = 0; c < stride; c += 32) {
        __m256i v[TILE], u[TILE];
        for (int64_t i = 0; i < TILE; i++)
            v[i] = i < n ? _mm256_load_si256((const __m256i *)(const void *)(x->values + (first + i) * stride + c))
                         : _mm256_setzero_si256();
        UNROLL for (int i = 0; i < 8; i += 2) /* 8 x 8 words, transposed */
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
            _mm256_store_si256((__m256i *)(void *)(to + TILE * c + 32 * i),
                               _mm256_permute2x128_si256(v[i], v[4 + i], 0x20));
            _mm256_store_si256((__m256i *)(void *)(to + TILE * c + 32 * (4 + i)),
                               _mm256_permute2x128_si256(v[i], v[4 + i], 0x31));
        }
    }
    for (int64_t g = 0; g < groups; g++)
        for (int64_t i = 0; i < TILE; i++) {
            const int64_t at = first * groups + g * TILE + i;
            x->tile_scales[at] = i < n ? x->scales[(first + i) * groups + g] : 0;
            x->tile_sums[at] = i < n ? x->sums[(first + i) * groups + g] : 0;
        }
}

/* What biases are multiplied with, for all weight groups of a row: sums over as many groups of 32 columns as share one. */
static void sums_of_groups(const float *sums, int64_t n, int each, float *out)
{
    for (int64_t g = 0; g < n; g += each, out += TILE) {
        __m256 sum = _mm256_setzero_ps();
        for (int i = 0; i < WE_MIN(each, n - g); i++, sums += TILE) sum = _mm256_add_ps(sum, _mm256_loadu_ps(sums));
        _mm256_storeu_ps(out, sum);
    }
}

/* nvfp4: groups of 16 columns, two for each scale. */
static void sums_of_16(const int8_t *x, const float *scales, int64_t n_scales, float *out)
{
    for (int64_t g = 0; g < 2 * n_scales; g++, out += TILE) {
        __m256i sum = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++, x += 4 * TILE)
            sum = _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(1), _mm256_load_si256((const __m256i *)(const void *)x));
        _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(scales + g / 2 * TILE)));
    }
}

/* Integers over `words` x 4 columns of 32 rows x n tokens. */
INLINE void dot_tile(const int8_t (*c0)[64], const int8_t (*c1)[64], const int8_t *x, int words, int n, __m512i *d0,
                     __m512i *d1)
{
    UNROLL for (int i = 0; i < n; i++) d0[i] = d1[i] = _mm512_setzero_si512();
    UNROLL for (int k = 0; k < words; k++, x += 4 * TILE)
    {
        const __m512i w0 = _mm512_load_si512(c0[k]), w1 = _mm512_load_si512(c1[k]);
        UNROLL for (int i = 0; i < n; i++)
        {
            int32_t four;
            memcpy(&four, x + 4 * i, sizeof four);
            const __m512i v = _mm512_set1_epi32(four);
            d0[i] = _mm512_dpbusd_epi32(d0[i], w0, v);
            d1[i] = _mm512_dpbusd_epi32(d1[i], w1, v);
        }
    }
}

/* 32 rows x n tokens x the panel's columns. For each weight group: `steps` times integers over columns that share an activation
 * scale, times that scale; at the group's end the weight's scale and bias. The first `steps` - 1 wait in `wait`, in the first
 * cache. What the compiler must not do is to mix one step's products with the next one's: it runs out of registers. */
INLINE void run_tile(const panel *p, const tile *t, int64_t n_groups, int steps, int words, int n)
{
    const int8_t(*c0)[64] = p->codes[0], (*c1)[64] = p->codes[1], *x = t->x;
    const float *scales = t->scales, *sums = t->sums;
    float(*y)[ROWS] = t->y;
    _Alignas(64) float wait[TILE][ROWS];
    for (int64_t g = 0; g < n_groups; g++, sums += TILE) {
        UNROLL for (int s = 0; s < steps; s++)
        {
            __m512i d0[TILE], d1[TILE];
            dot_tile(c0, c1, x, words, n, d0, d1);
            c0 += words, c1 += words, x += words * 4 * TILE;
            const __m512 s0 = _mm512_load_ps(p->scales[g]), s1 = _mm512_load_ps(p->scales[g] + 16);
            const __m512 b0 = _mm512_load_ps(p->biases[g]), b1 = _mm512_load_ps(p->biases[g] + 16);
            UNROLL for (int i = 0; i < n; i++)
            {
                const __m512 xs = _mm512_set1_ps(scales[i]), sum = _mm512_set1_ps(sums[i]);
                __m512 f0 = _mm512_cvtepi32_ps(d0[i]), f1 = _mm512_cvtepi32_ps(d1[i]);
                f0 = s ? _mm512_fmadd_ps(f0, xs, _mm512_load_ps(wait[i])) : _mm512_mul_ps(f0, xs);
                f1 = s ? _mm512_fmadd_ps(f1, xs, _mm512_load_ps(wait[i] + 16)) : _mm512_mul_ps(f1, xs);
                if (s < steps - 1) {
                    _mm512_store_ps(wait[i], f0);
                    _mm512_store_ps(wait[i] + 16, f1);
                    continue;
                }
                const __m512 y0 = _mm512_fmadd_ps(b0, sum, _mm512_load_ps(y[i]));
                const __m512 y1 = _mm512_fmadd_ps(b1, sum, _mm512_load_ps(y[i] + 16));
                _mm512_store_ps(y[i], _mm512_fmadd_ps(f0, s0, y0));
                _mm512_store_ps(y[i] + 16, _mm512_fmadd_ps(f1, s1, y1));
            }
            if (words == 8 || g % 2) scales += TILE; /* two groups of 16 columns have one scale */
            __asm__ volatile("" ::: "memory");
        }
    }
}

/* A function for each size of group and 8 or 4 tokens. */
typedef void (*tile_fn)(const panel *p, const tile *t, int64_t n_groups);
#define TILE_OF(size, steps, words, n)                                             \
    static void tile_##size##_##n(const panel *p, const tile *t, int64_t n_groups) \
    {                                                                              \
        run_tile(p, t, n_groups, steps, words, n);                                 \
    }
TILE_OF(16, 1, 4, 8)
TILE_OF(16, 1, 4, 4)
TILE_OF(32, 1, 8, 8)
TILE_OF(32, 1, 8, 4)
TILE_OF(64, 2, 8, 8)
TILE_OF(64, 2, 8, 4)
TILE_OF(128, 4, 8, 8)
TILE_OF(128, 4, 8, 4)

static tile_fn tile_of(int group_size, int64_t n)
{
    switch (group_size) {
    case 16: return n > 4 ? tile_16_8 : tile_16_4;
    case 32: return n > 4 ? tile_32_8 : tile_32_4;
    case 64: return n > 4 ? tile_64_8 : tile_64_4;
    default: return n > 4 ? tile_128_8 : tile_128_4;
    }
}

/* What the next panel reads, fetched while this one is used: its rows lie far apart, so the hardware does not, and unpacking
 * would wait for memory half of the time. */
typedef struct ahead {
    const uint8_t *codes, *scales, *biases; /* of the next row */
    size_t code_stride, scale_stride;       /* bytes from row to row */
    int lines;                              /* of codes in a row */
    int64_t rows;                           /* still to fetch */
} ahead;

static ahead ahead_of(const we_matrix *w, int64_t row, int64_t n_rows, int64_t c)
{
    const size_t code_stride = we_matrix_row_bytes(w), scale_stride = we_matrix_row_scale_bytes(w);
    const size_t scale_at =
        (size_t)row * scale_stride + (size_t)(c / w->quant.group_size * scale_size(w->quant.mode, w->dtype));
    const int64_t bytes = WE_MIN(w->cols - c, BLOCK) * w->quant.bits / 8;
    return (ahead){
        .codes = w->data + (size_t)row * code_stride + (size_t)(c * w->quant.bits / 8),
        .scales = w->scales + scale_at,
        .biases = (w->biases ? w->biases : w->scales) + scale_at,
        .code_stride = code_stride,
        .scale_stride = scale_stride,
        .lines = (int)(bytes + 63) / 64,
        .rows = n_rows,
    };
}

static void ahead_rows(ahead *a, int64_t n)
{
    for (; n > 0 && a->rows > 0; n--, a->rows--) {
        for (int i = 0; i < a->lines; i++) _mm_prefetch((const char *)a->codes + 64 * i, _MM_HINT_T1);
        _mm_prefetch((const char *)a->scales, _MM_HINT_T1);
        _mm_prefetch((const char *)a->biases, _MM_HINT_T1);
        a->codes += a->code_stride;
        a->scales += a->scale_stride;
        a->biases += a->scale_stride;
    }
}

/* Tokens whose results stay in the cache while all panels of some rows pass by: 32 rows of 128 take 16 KB. */
#define CHUNK 128

/* The sums of n tokens for all weight groups: [tile][group][token]; `out` is used where x does not have them so. */
static const float *sums_of(const we_matrix *w, const we_q8 *x, int64_t first, int64_t n, float *out)
{
    const int size = w->quant.group_size;
    const int64_t groups = x->stride / WE_Q8_GROUP, tile_floats = x->stride / size * TILE;
    if (size == WE_Q8_GROUP) return x->tile_sums + first * groups;
    for (int64_t t = 0; t < n; t += TILE) {
        float *to = out + t / TILE * tile_floats;
        if (size == 16)
            sums_of_16(x->tiles + (first + t) * x->stride, x->tile_scales + (first + t) * groups, groups, to);
        else
            sums_of_groups(x->tile_sums + (first + t) * groups, groups, size / WE_Q8_GROUP, to);
    }
    return out;
}

/* y: [n tokens, padded to tiles][ROWS]; sums: by sums_of */
static void panel_times(const panel *p, const we_matrix *w, int64_t c, int64_t cols, const we_q8 *x, const float *sums,
                        int64_t first, int64_t n, float (*y)[ROWS], ahead *next)
{
    const int size = w->quant.group_size;
    const int64_t groups = x->stride / WE_Q8_GROUP, n_groups = cols / size;
    const int64_t fetch = next->rows / ((n + TILE - 1) / TILE) + 1;
    for (int64_t t = 0; t < n; t += TILE) {
        const int64_t at = (first + t) * groups + c / WE_Q8_GROUP * TILE;
        ahead_rows(next, fetch);
        const tile v = { .x = x->tiles + (first + t) * x->stride + c * TILE,
                         .scales = x->tile_scales + at,
                         .sums = sums + t * (x->stride / size) + c / size * TILE,
                         .y = y + t };
        tile_of(size, n - t)(p, &v, n_groups);
    }
}

/* Results of `n` tokens and up to 32 rows go where they belong. */
static void put(float (*from)[ROWS], int64_t n, int64_t n_rows, float *y, int64_t y_stride, bool add)
{
    const __mmask16 rows[2] = { mask16(n_rows), mask16(n_rows - 16) };
    for (int64_t t = 0; t < n; t++, y += y_stride)
        for (int h = 0; h < 2; h++) {
            __m512 v = _mm512_load_ps(from[t] + 16 * h);
            if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(rows[h], y + 16 * h));
            _mm512_mask_storeu_ps(y + 16 * h, rows[h], v);
        }
}

typedef struct many { /* in scratch */
    panel panel;
    float y[CHUNK][ROWS];
    float sums[]; /* of CHUNK tokens: 32 bytes a column for groups of 16, less for others */
} many;

static void linear_many(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t token, int64_t n,
                        float *y, int64_t y_stride, bool add, many *m)
{
    const float *sums = sums_of(w, x, token, n, m->sums);
    for (int64_t r = 0; r < n_rows; r += ROWS) {
        const int64_t rows = WE_MIN(n_rows - r, ROWS), next_rows = WE_MIN(n_rows - r - ROWS, ROWS);
        memset(m->y, 0, (size_t)n * sizeof m->y[0]);
        for (int64_t c = 0; c < w->cols; c += BLOCK) {
            const int64_t cols = WE_MIN(w->cols - c, BLOCK);
            ahead next = { .rows = 0 };
            if (c + BLOCK < w->cols)
                next = ahead_of(w, first + r, rows, c + BLOCK);
            else if (next_rows > 0)
                next = ahead_of(w, first + r + ROWS, next_rows, 0);
            pack(&m->panel, w, first + r, rows, c, cols);
            panel_times(&m->panel, w, c, cols, x, sums, token, n, m->y, &next);
        }
        put(m->y, n, rows, y + token * y_stride + r, y_stride, add);
    }
}

void we_avx512_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                         int64_t y_stride, bool add, void *scratch)
{
    static_assert(sizeof(many) <= 8192 + 32768, "fits the scratch, and 32 bytes a column for the sums besides");
    if (n > WE_Q8_FEW) {
        for (int64_t t = 0; t < n; t += CHUNK)
            linear_many(w, first, n_rows, x, t, WE_MIN(n - t, CHUNK), y, y_stride, add, scratch);
        return;
    }
    we_avx512_few(w, first, n_rows, x, n, y, y_stride, add, scratch);
}
