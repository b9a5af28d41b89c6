/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mfma -mf16c
 * avx512_q8.c - products of int8 activations with packed weights by vpdpbusd: unsigned codes times signed activations, four
 * neighbours at a time, into int32. e2m1 codes become unsigned as 2 * value + 12; what the 12 adds is taken off again.
 *
 * For many tokens and groups of 16 or 32 (wider ones: avx512_affine.c; few tokens: avx512_few.c). A panel of 32 rows x 512 columns
 * is unpacked once into the first cache, so that one vector holds 4 columns of 16 rows; then every token passes by. Lanes are
 * rows: nothing is summed across a vector. */
#include "device/cpu/avx512.h"
#include "device/cpu/avx_panel.h"

INLINE bool is_e2m1(we_quant_mode mode) { return mode != WE_QUANT_AFFINE; }

/* ---- Many tokens ---- */

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
    FOR_PACKING(w->quant, PACK);
#undef PACK
    pack_scales(out, w, first, n_rows, c, cols);
}

/* A tile is 32 rows x 8 tokens: 16 integer accumulators in registers, the floats in the first cache. More tokens, or floats in
 * registers, were no faster. What it reads of its tokens lies side by side: eight rows far apart cost as much in pages and
 * addresses as the products themselves. */
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

/* 32 rows x n tokens x the panel's columns, in weight groups of `words` x 4: integers, then both scales and the bias. What the
 * compiler must not do is to mix one group's products with the next one's: it runs out of registers. */
INLINE void run_tile(const panel *p, const tile *t, int64_t n_groups, int words, int n)
{
    const int8_t(*c0)[64] = p->codes[0], (*c1)[64] = p->codes[1], *x = t->x;
    const float *scales = t->scales, *sums = t->sums;
    float(*y)[ROWS] = t->y;
    for (int64_t g = 0; g < n_groups; g++, sums += TILE) {
        __m512i d0[TILE], d1[TILE];
        dot_tile(c0, c1, x, words, n, d0, d1);
        c0 += words, c1 += words, x += words * 4 * TILE;
        const __m512 s0 = _mm512_load_ps(p->scales[g]), s1 = _mm512_load_ps(p->scales[g] + 16);
        const __m512 b0 = _mm512_load_ps(p->biases[g]), b1 = _mm512_load_ps(p->biases[g] + 16);
        UNROLL for (int i = 0; i < n; i++)
        {
            const __m512 xs = _mm512_set1_ps(scales[i]), sum = _mm512_set1_ps(sums[i]);
            const __m512 f0 = _mm512_mul_ps(_mm512_cvtepi32_ps(d0[i]), xs);
            const __m512 f1 = _mm512_mul_ps(_mm512_cvtepi32_ps(d1[i]), xs);
            const __m512 y0 = _mm512_fmadd_ps(b0, sum, _mm512_load_ps(y[i]));
            const __m512 y1 = _mm512_fmadd_ps(b1, sum, _mm512_load_ps(y[i] + 16));
            _mm512_store_ps(y[i], _mm512_fmadd_ps(f0, s0, y0));
            _mm512_store_ps(y[i] + 16, _mm512_fmadd_ps(f1, s1, y1));
        }
        if (words == 8 || g % 2) scales += TILE; /* two groups of 16 columns have one scale */
        __asm__ volatile("" ::: "memory");
    }
}

/* A function for each size of group and 8 or 4 tokens. */
#define TILE_OF(size, words, n)                                                    \
    static void tile_##size##_##n(const panel *p, const tile *t, int64_t n_groups) \
    {                                                                              \
        run_tile(p, t, n_groups, words, n);                                        \
    }
TILE_OF(16, 4, 8)
TILE_OF(16, 4, 4)
TILE_OF(32, 8, 8)
TILE_OF(32, 8, 4)

static tile_fn tile_of(we_quant quant, int64_t n)
{
    if (quant.group_size == 16) return n > 4 ? tile_16_8 : tile_16_4;
    return n > 4 ? tile_32_8 : tile_32_4;
}

void we_avx512_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                         int64_t y_stride, bool add, void *scratch)
{
    if (n > WE_Q8_FEW && we_avx512_affine_takes(w->quant))
        we_avx512_affine(w, first, n_rows, x, n, y, y_stride, add, scratch);
    else if (n > WE_Q8_FEW)
        linear_panels(w, first, n_rows, x, n, y, y_stride, add, scratch);
    else
        we_avx512_few(w, first, n_rows, x, n, y, y_stride, add, scratch);
}
