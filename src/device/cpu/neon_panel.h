/* SPDX-License-Identifier: Apache-2.0
 * neon_panel.h - many tokens times packed weights on 64-bit ARM: how a panel is unpacked, and a tile of 8 rows x 8 tokens (16 sums, of 32
 * registers). neon_q8.c and neoni8mm_q8.c include it, each with its own dot products, which say how many columns a word has:
 * codes lie as [word][16 rows][columns], activations as [word][8 tokens][columns]. All codes are signed. */
#ifndef WE_CPU_NEON_PANEL_H
#define WE_CPU_NEON_PANEL_H

#include "device/cpu/neon_codes.h"
#include "device/cpu/panel.h"

/* ---- What the including file defines, beside WORD: 4 or 8 columns ---- */

/* 16 columns of four rows to the panel: row r of the four at to + r * WORD, the next word 16 * WORD behind. */
static inline void put_words(const int8x16_t rows[4], int8_t *to);
/* Integers over `words` words of 8 rows x n tokens, 4 or 8: d[rows / 4][token]. */
static inline void dot_tile(const int8_t *codes, const int8_t *x, int words, int n, int32x4_t d[2][TILE]);

/* ---- Sums, results ---- */

static void sums_of_groups(const float *sums, int64_t n, int each, float *out)
{
    for (int64_t g = 0; g < n; g += each, out += TILE) {
        float32x4_t a = vdupq_n_f32(0), b = a;
        for (int i = 0; i < WE_MIN(each, n - g); i++, sums += TILE) {
            a = vaddq_f32(a, vld1q_f32(sums));
            b = vaddq_f32(b, vld1q_f32(sums + 4));
        }
        vst1q_f32(out, a);
        vst1q_f32(out + 4, b);
    }
}

/* nvfp4's codes are signed and have no bias. */
static void sums_of_16(const int8_t *x, const float *scales, int64_t n_scales, float *out)
{
    (void)x, (void)scales;
    memset(out, 0, (size_t)(2 * n_scales * TILE) * sizeof(float));
}

static void put(float (*from)[ROWS], int64_t n, int64_t n_rows, float *y, int64_t y_stride, bool add)
{
    for (int64_t t = 0; t < n; t++, y += y_stride) {
        int64_t r = 0;
        for (; r + 4 <= n_rows; r += 4) {
            float32x4_t v = vld1q_f32(from[t] + r);
            if (add) v = vaddq_f32(v, vld1q_f32(y + r));
            vst1q_f32(y + r, v);
        }
        for (; r < n_rows; r++) y[r] = (add ? y[r] : 0.0f) + from[t][r];
    }
}

/* ---- Unpacking ---- */

INLINE void pack_codes(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols,
                       we_quant_mode mode, int bits)
{
    const size_t row_bytes = (size_t)(w->cols * bits / 8);
    const bool reaches_behind = bits != 4 && bits != 8;
    for (int64_t block = 0; block < ROWS; block += 4)
        for (int64_t at = 0; at < cols; at += 32) {
            int8x16_t low[4], high[4];
            for (int64_t r = 0; r < 4; r++) {
                low[r] = high[r] = vdupq_n_s8(0);
                if (block + r >= n_rows) continue;
                const uint8_t *p = w->data + (size_t)(first + block + r) * row_bytes + (c + at) * bits / 8;
                const int64_t left = w->cols - c - at;
                uint8_t tail[48];
                if (left < 32 || (reaches_behind && (left - 32) * bits < 16 * 8)) {
                    memset(tail, 0, sizeof tail);
                    memcpy(tail, p, (size_t)(WE_MIN(left, 32) * bits / 8));
                    p = tail;
                }
                const int8x16x2_t v = codes32(mode, bits, p);
                low[r] = bits == 4 ? vzip1q_s8(v.val[0], v.val[1]) : v.val[0];
                high[r] = bits == 4 ? vzip2q_s8(v.val[0], v.val[1]) : v.val[1];
            }
            int8_t *to = (int8_t *)out->codes[block / 16] + 16 * at + block % 16 * WORD;
            put_words(low, to);
            put_words(high, to + 16 * 16);
        }
}

/* 8-bit codes are 128 less: the bias is 128 scales more. */
static void pack_scales(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    const int64_t n = cols / w->quant.group_size, from = c / w->quant.group_size;
    const size_t row_bytes = we_matrix_row_scale_bytes(w);
    const bool e2m1 = is_e2m1(w->quant.mode);
    const float offset = !e2m1 && w->quant.bits == 8 ? 128.0f : 0.0f;
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t g = 0; g < n; g += GROUPS) {
            float s[GROUPS] = { 0 }, b[GROUPS] = { 0 };
            const int64_t some = WE_MIN(n - g, GROUPS);
            const size_t row = (size_t)(first + r) * row_bytes;
            if (r < n_rows) {
                load_scales(w, w->quant.mode, w->scales + row, from + g, some, s);
                if (!e2m1) load_scales(w, w->quant.mode, w->biases + row, from + g, some, b);
            }
            for (int64_t i = 0; i < some; i++) {
                out->scales[g + i][r] = s[i];
                out->biases[g + i][r] = b[i] + offset * s[i];
            }
        }
}

static void pack(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
#define PACK(mode, bits) pack_codes(out, w, first, n_rows, c, cols, mode, bits)
    FOR_PACKING(w->quant, PACK);
#undef PACK
    pack_scales(out, w, first, n_rows, c, cols);
}

/* ---- A tile ---- */

/* 8 rows x n tokens x the panel's columns: see run_part in avx2_panel.h, whose registers are fewer. */
INLINE void run_part(const panel *p, const tile *t, int64_t n_groups, int steps, int words, int rows, int n)
{
    const int8_t *codes = (const int8_t *)p->codes[rows / 16] + rows % 16 * WORD, *x = t->x;
    const float *scales = t->scales, *sums = t->sums;
    float(*y)[ROWS] = t->y;
    float wait[TILE][8];
    for (int64_t g = 0; g < n_groups; g++, sums += TILE) {
        const float *ws = p->scales[g] + rows, *wb = p->biases[g] + rows;
        UNROLL for (int s = 0; s < steps; s++)
        {
            int32x4_t d[2][TILE];
            dot_tile(codes, x, words, n, d);
            codes += words * 16 * WORD, x += words * TILE * WORD;
            UNROLL for (int i = 0; i < n; i++) UNROLL for (int j = 0; j < 2; j++)
            {
                float32x4_t f = vcvtq_f32_s32(d[j][i]);
                f = s ? vfmaq_n_f32(vld1q_f32(wait[i] + 4 * j), f, scales[i]) : vmulq_n_f32(f, scales[i]);
                if (s < steps - 1) {
                    vst1q_f32(wait[i] + 4 * j, f);
                    continue;
                }
                float *to = y[i] + rows + 4 * j;
                const float32x4_t before = vfmaq_n_f32(vld1q_f32(to), vld1q_f32(wb + 4 * j), sums[i]);
                vst1q_f32(to, vfmaq_f32(before, f, vld1q_f32(ws + 4 * j)));
            }
            if (words * WORD == 32 || g % 2) scales += TILE; /* two groups of 16 columns have one scale */
            __asm__ volatile("" ::: "memory"); /* or the compiler mixes one step's products with the next one's */
        }
    }
}

/* A function for each size of group and 8 or 4 tokens. */
#define TILE_OF(size, steps, columns, n)                                                                       \
    static void tile_##size##_##n(const panel *p, const tile *t, int64_t n_groups)                             \
    {                                                                                                          \
        for (int rows = 0; rows < ROWS; rows += 8) run_part(p, t, n_groups, steps, (columns) / WORD, rows, n); \
    }
TILE_OF(16, 1, 16, 8)
TILE_OF(16, 1, 16, 4)
TILE_OF(32, 1, 32, 8)
TILE_OF(32, 1, 32, 4)
TILE_OF(64, 2, 32, 8)
TILE_OF(64, 2, 32, 4)
TILE_OF(128, 4, 32, 8)
TILE_OF(128, 4, 32, 4)

static tile_fn tile_of(we_quant quant, int64_t n)
{
    switch (quant.group_size) {
    case 16: return n > 4 ? tile_16_8 : tile_16_4;
    case 32: return n > 4 ? tile_32_8 : tile_32_4;
    case 64: return n > 4 ? tile_64_8 : tile_64_4;
    default: return n > 4 ? tile_128_8 : tile_128_4;
    }
}

static void q8_tile(const we_q8 *x, int64_t first, int64_t n)
{
    const int64_t stride = x->stride, groups = stride / WE_Q8_GROUP;
    int8_t *to = x->tiles + first * stride;
    for (int64_t c = 0; c < stride; c += WORD)
        for (int64_t i = 0; i < TILE; i++, to += WORD)
            if (i < n)
                memcpy(to, x->values + (first + i) * stride + c, WORD);
            else
                memset(to, 0, WORD);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t i = 0; i < TILE; i++) {
            const int64_t at = first * groups + g * TILE + i;
            x->tile_scales[at] = i < n ? x->scales[(first + i) * groups + g] : 0;
            x->tile_sums[at] = i < n ? x->sums[(first + i) * groups + g] : 0;
        }
}

static void linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                      int64_t y_stride, bool add, void *scratch)
{
    if (n > WE_Q8_FEW)
        linear_panels(w, first, n_rows, x, n, y, y_stride, add, scratch);
    else
        we_neon_few(w, first, n_rows, x, n, y, y_stride, add, scratch);
}

#endif
