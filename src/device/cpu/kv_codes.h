/* SPDX-License-Identifier: Apache-2.0
 * kv_codes.h - attention over a block of a cache of 8 or 4 bits (we_kv_codes), what AVX2, AVX-512 and NEON share: codes become float32
 * in registers, for up to four queries at once, and scales are applied to what a group sums up to (keys) or to the weights
 * of the positions (values), so that a code costs its conversion and no more. Static, since each file that includes it
 * has its own vectors. */
#ifndef WE_CPU_KV_CODES_H
#define WE_CPU_KV_CODES_H

#include "device/cpu/kernels.h"

/* ---- What the including file defines, beside INLINE and UNROLL: `vec` of LANES floats ----
 *
 * KEY_PAIRS, VALUE_PAIRS: pairs of vectors in a tile; of values within a group */
INLINE vec vec_set(float x);
INLINE vec vec_load(const float *x);
INLINE void vec_store(float *x, vec v);
INLINE vec vec_fma(vec a, vec b, vec c); /* a * b + c */
INLINE float vec_sum(vec v);
INLINE vec vec_halves(const uint16_t *x);        /* from IEEE halves */
INLINE void vec_to_halves(uint16_t *out, vec v); /* saturating as to_f16 */
/* Of the 32 codes of a group: those at p, and those 16 behind them. */
INLINE void codes_pair(int bits, const uint8_t *p, vec v[2]);

/* Pair u of vectors begins at this column, and at this byte. */
INLINE int pair_column(int u) { return u * LANES / 16 * 32 + u * LANES % 16; }
INLINE int pair_byte(int bits, int u) { return u * LANES / 16 * 4 * bits + u * LANES % 16; }

INLINE int key_stride(int bits) { return WE_KV_BLOCK * bits / 8; }
INLINE int value_stride(int bits, int head_dim) { return we_kv_groups(head_dim) * 4 * bits; }

/* ---- Keys ---- */

INLINE void keys_tile(const we_kv_codes *b, int bits, int u, const float *q, const float *sums, float *scores, int rows)
{
    const int dim = b->head_dim, n_groups = we_kv_groups(dim);
    const uint8_t *p = b->codes;
    for (int g = 0; g < n_groups; g++) {
        vec s[4][2 * KEY_PAIRS];
        UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < 2 * KEY_PAIRS; j++) s[i][j] = vec_set(0);
        for (int d = 32 * g; d < WE_MIN(32 * g + 32, dim); d++, p += key_stride(bits)) {
            vec v[2 * KEY_PAIRS];
            UNROLL for (int j = 0; j < KEY_PAIRS; j++) codes_pair(bits, p + pair_byte(bits, u + j), v + 2 * j);
            UNROLL for (int i = 0; i < rows; i++)
            {
                const vec x = vec_set(q[i * dim + d]);
                UNROLL for (int j = 0; j < 2 * KEY_PAIRS; j++) s[i][j] = vec_fma(v[j], x, s[i][j]);
            }
        }
        UNROLL for (int j = 0; j < 2 * KEY_PAIRS; j++)
        {
            const int column = pair_column(u + j / 2) + j % 2 * 16;
            const vec scale = vec_halves(b->scales + g * WE_KV_BLOCK + column);
            UNROLL for (int i = 0; i < rows; i++)
            {
                float *to = scores + i * WE_KV_BLOCK + column;
                vec sum = vec_fma(s[i][j], scale, g ? vec_load(to) : vec_set(0));
                if (bits == 4)
                    sum = vec_fma(vec_halves(b->lows + g * WE_KV_BLOCK + column), vec_set(sums[i * n_groups + g]), sum);
                vec_store(to, sum);
            }
        }
    }
}

INLINE void keys_rows(const we_kv_codes *b, int bits, const float *q, const float *sums, int first, int n,
                      float *scores, int rows)
{
    for (int u = 0; u < WE_KV_BLOCK / (2 * LANES); u += KEY_PAIRS) {
        const int begin = pair_column(u), end = pair_column(u + KEY_PAIRS - 1) + 16 + LANES;
        if (end > first && begin < first + n) keys_tile(b, bits, u, q, sums, scores, rows);
    }
}

INLINE void keys_bits(const we_kv_codes *b, int bits, const float *q, const float *sums, int64_t m, int first, int n,
                      float *scores)
{
    const int64_t dim = b->head_dim, n_groups = we_kv_groups(b->head_dim);
    int64_t i = 0;
#define ROWS_AT(rows)                \
    for (; i + rows <= m; i += rows) \
    keys_rows(b, bits, q + i * dim, sums + i * n_groups, first, n, scores + i * WE_KV_BLOCK, rows)
    ROWS_AT(4);
    ROWS_AT(2);
    ROWS_AT(1);
#undef ROWS_AT
}

static void kv_keys(const we_kv_codes *b, const float *q, const float *sums, int64_t m, int first, int n, float *scores)
{
    if (b->bits == 8)
        keys_bits(b, 8, q, sums, m, first, n, scores);
    else
        keys_bits(b, 4, q, sums, m, first, n, scores);
}

/* ---- Values ---- */

/* weights: [4][WE_KV_BLOCK], times the group's scales; plus: what each row gets besides; out: 32 columns */
INLINE void values_tile(const we_kv_codes *b, int bits, int g, int u, float (*weights)[WE_KV_BLOCK], const float *plus,
                        int first, int n, float *out, int64_t ldo, int rows)
{
    const int stride = value_stride(bits, b->head_dim);
    const uint8_t *p = b->codes + first * stride + g * 4 * bits;
    vec s[4][2 * VALUE_PAIRS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < 2 * VALUE_PAIRS; j++) s[i][j] = vec_set(plus[i]);
    for (int l = first; l < first + n; l++, p += stride) {
        vec v[2 * VALUE_PAIRS];
        UNROLL for (int j = 0; j < VALUE_PAIRS; j++) codes_pair(bits, p + pair_byte(bits, u + j), v + 2 * j);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const vec x = vec_set(weights[i][l]);
            UNROLL for (int j = 0; j < 2 * VALUE_PAIRS; j++) s[i][j] = vec_fma(v[j], x, s[i][j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < 2 * VALUE_PAIRS; j++)
    {
        float *to = out + i * ldo + pair_column(u + j / 2) + j % 2 * 16;
        vec_store(to, vec_fma(s[i][j], vec_set(1), vec_load(to)));
    }
}

INLINE void values_group(const we_kv_codes *b, int bits, int g, const float *weights, int first, int n, float *out,
                         int rows)
{
    float scaled[4][WE_KV_BLOCK], plus[4] = { 0 }, tail[4][32] = { 0 };
    const int dim = b->head_dim, left = dim - 32 * g;
    for (int i = 0; i < rows; i++) {
        vec low = vec_set(0);
        for (int c = 0; c < WE_KV_BLOCK; c += LANES) {
            const vec w = vec_load(weights + i * WE_KV_BLOCK + c);
            vec_store(scaled[i] + c, vec_fma(w, vec_halves(b->scales + g * WE_KV_BLOCK + c), vec_set(0)));
            if (bits == 4) low = vec_fma(w, vec_halves(b->lows + g * WE_KV_BLOCK + c), low);
        }
        if (bits == 4) plus[i] = vec_sum(low);
    }
    float *to = left < 32 ? tail[0] : out + 32 * g;
    for (int u = 0; u < 16 / LANES; u += VALUE_PAIRS)
        values_tile(b, bits, g, u, scaled, plus, first, n, to, left < 32 ? 32 : dim, rows);
    if (left < 32)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < left; j++) out[i * dim + 32 * g + j] += tail[i][j];
}

INLINE void values_bits(const we_kv_codes *b, int bits, const float *weights, int64_t m, int first, int n, float *out)
{
    const int dim = b->head_dim, n_groups = we_kv_groups(dim);
    int64_t i = 0;
#define ROWS_AT(rows)                      \
    for (; i + rows <= m; i += rows)       \
        for (int g = 0; g < n_groups; g++) \
    values_group(b, bits, g, weights + i * WE_KV_BLOCK, first, n, out + i * dim, rows)
    ROWS_AT(4);
    ROWS_AT(2);
    ROWS_AT(1);
#undef ROWS_AT
}

static void kv_values(const we_kv_codes *b, const float *weights, int64_t m, int first, int n, float *out)
{
    if (b->bits == 8)
        values_bits(b, 8, weights, m, first, n, out);
    else
        values_bits(b, 4, weights, m, first, n, out);
}

/* ---- As 16 bits have them ---- */

#define HALVES_VECTORS (32 / LANES) /* of 32 columns: those of each pair in turn */

/* 32 codes, w = scale * code + low, of which `n` are wanted. */
INLINE void halves_32(int bits, const uint8_t *p, const vec *scale, const vec *low, uint16_t *out, int n)
{
    uint16_t all[32], *to = n < 32 ? all : out;
    UNROLL for (int u = 0; u < HALVES_VECTORS / 2; u++)
    {
        vec v[2];
        codes_pair(bits, p + u * LANES, v);
        UNROLL for (int j = 0; j < 2; j++)
            vec_to_halves(to + u * LANES + 16 * j, vec_fma(v[j], scale[2 * u + j], low[2 * u + j]));
    }
    if (n < 32) memcpy(out, all, (size_t)n * sizeof *out);
}

INLINE void keys_halves(const we_kv_codes *b, int bits, uint16_t *out)
{
    const int dim = b->head_dim;
    for (int c = 0; c < WE_KV_BLOCK; c += 32)
        for (int g = 0; g < we_kv_groups(dim); g++) {
            vec scale[HALVES_VECTORS], low[HALVES_VECTORS];
            UNROLL for (int i = 0; i < HALVES_VECTORS; i++)
            {
                const int at = g * WE_KV_BLOCK + c + i / 2 * LANES + i % 2 * 16;
                scale[i] = vec_halves(b->scales + at);
                low[i] = bits == 4 ? vec_halves(b->lows + at) : vec_set(0);
            }
            for (int d = 32 * g; d < WE_MIN(32 * g + 32, dim); d++)
                halves_32(bits, b->codes + d * key_stride(bits) + c * bits / 8, scale, low, out + d * WE_KV_BLOCK + c,
                          32);
        }
}

INLINE void values_halves(const we_kv_codes *b, int bits, uint16_t *out)
{
    const int dim = b->head_dim;
    for (int g = 0; g < we_kv_groups(dim); g++) {
        float scales[WE_KV_BLOCK], lows[WE_KV_BLOCK] = { 0 };
        for (int l = 0; l < WE_KV_BLOCK; l += LANES) {
            vec_store(scales + l, vec_halves(b->scales + g * WE_KV_BLOCK + l));
            if (bits == 4) vec_store(lows + l, vec_halves(b->lows + g * WE_KV_BLOCK + l));
        }
        for (int l = 0; l < WE_KV_BLOCK; l++) {
            vec scale[HALVES_VECTORS], low[HALVES_VECTORS];
            UNROLL for (int i = 0; i < HALVES_VECTORS; i++) scale[i] = vec_set(scales[l]), low[i] = vec_set(lows[l]);
            halves_32(bits, b->codes + l * value_stride(bits, dim) + g * 4 * bits, scale, low, out + l * dim + 32 * g,
                      WE_MIN(dim - 32 * g, 32));
        }
    }
}

static void kv_halves(const we_kv_codes *b, bool values, uint16_t *out)
{
    if (values)
        b->bits == 8 ? values_halves(b, 8, out) : values_halves(b, 4, out);
    else
        b->bits == 8 ? keys_halves(b, 8, out) : keys_halves(b, 4, out);
}

#endif
