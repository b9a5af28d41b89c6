/* SPDX-License-Identifier: Apache-2.0
 * avx2_panel.h - many tokens times packed weights with vectors of eight rows: how a panel is unpacked, and the scales of a tile.
 * avx2_q8.c and avxvnni_q8.c include it, each with its own dot products. */
#ifndef WE_CPU_AVX2_PANEL_H
#define WE_CPU_AVX2_PANEL_H

#include "device/cpu/avx2_codes.h"
#include "device/cpu/avx_panel.h"

#define TOKENS 4 /* at once, by 16 rows: eight integer accumulators of the 16 registers */

/* ---- What the including file defines ---- */

/* How codes lie in the panel and are multiplied. */
typedef enum code_kind {
    KIND_SMALL,  /* 4 bits at most */
    KIND_CODES,  /* all others, unsigned */
    KIND_SIGNED, /* 8 bits, less 128 */
} code_kind;
static inline code_kind kind_of(we_quant quant);
/* Integers over `words` x 4 columns of 16 rows x TOKENS tokens. */
static inline void dot_tile(const int8_t (*codes)[64], const int8_t *x, code_kind kind, int words, __m256i d0[TOKENS],
                            __m256i d1[TOKENS]);

/* ---- Unpacking ---- */

/* 32 columns from `p`, of which `left` exist, to bytes; no byte behind the row's end is read. */
INLINE __m256i panel_codes(we_quant_mode mode, int bits, const uint8_t *p, int64_t left)
{
    const bool reaches_behind = bits != 4 && bits != 8;
    uint8_t tail[48];
    if (left < 32 || (reaches_behind && (left - 32) * bits < 16 * 8)) {
        memset(tail, 0, sizeof tail);
        memcpy(tail, p, (size_t)(WE_MIN(left, 32) * bits / 8));
        p = tail;
    }
    if (bits == 8) return _mm256_loadu_si256((const __m256i *)(const void *)p);
    if (bits == 4) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p), nibble = _mm_set1_epi8(15);
        const __m128i even = _mm_and_si128(v, nibble), odd = _mm_and_si128(_mm_srli_epi16(v, 4), nibble);
        const __m256i codes = _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
        return is_e2m1(mode) ? e2m1_bytes(codes) : codes;
    }
    const __m256i words = _mm256_packus_epi16(codes16(bits, p), codes16(bits, p + 2 * bits));
    return _mm256_permute4x64_epi64(words, 0xd8);
}

INLINE void pack_codes(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols,
                       we_quant_mode mode, int bits)
{
    const size_t row_bytes = (size_t)(w->cols * bits / 8);
    const bool is_signed = kind_of(w->quant) == KIND_SIGNED;
    for (int64_t block = 0; block < ROWS; block += 8)
        for (int64_t at = 0; at < cols; at += 32) {
            __m256i v[8];
            UNROLL for (int r = 0; r < 8; r++)
            {
                const int64_t row = block + r;
                const uint8_t *p = w->data + (size_t)(first + row) * row_bytes + (c + at) * bits / 8;
                v[r] = row < n_rows ? panel_codes(mode, bits, p, w->cols - c - at) : _mm256_setzero_si256();
                if (bits == 8 && is_signed) v[r] = _mm256_xor_si256(v[r], _mm256_set1_epi8(-128));
            }
            transpose8(v);
            UNROLL for (int i = 0; i < 8; i++)
                _mm256_store_si256((__m256i *)(void *)(out->codes[block / 16][at / 4 + i] + block % 16 * 4), v[i]);
        }
}

/* Scales or biases of 8 groups of a row, 0 behind n. */
INLINE __m256 scales8(const we_matrix *w, const uint8_t *p, int64_t n)
{
    n = WE_MIN(n, 8);
    switch (w->quant.mode) {
    case WE_QUANT_MXFP4: return e8m0_n(p, n);
    case WE_QUANT_NVFP4: return e4m3_n(p, n);
    default: return load_n(w->dtype, p, n);
    }
}

/* 8 groups of 8 rows at a time, turned so that lanes are rows. Codes that are more than the value (e2m1: twice and 12) or less
 * (signed: 128) are set right here. */
static void pack_scales(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    const int64_t n = cols / w->quant.group_size, from = c / w->quant.group_size;
    const size_t row_bytes = we_matrix_row_scale_bytes(w);
    const int64_t size = we_scale_size(w->quant.mode, w->dtype);
    const bool e2m1 = is_e2m1(w->quant.mode);
    const __m256 half = _mm256_set1_ps(0.5f);
    const __m256 offset = _mm256_set1_ps(e2m1 ? -12 : kind_of(w->quant) == KIND_SIGNED ? 128 : 0);
    for (int64_t block = 0; block < ROWS; block += 8)
        for (int64_t g = 0; g < n; g += 8) {
            __m256i s[8], b[8];
            for (int64_t r = 0; r < 8; r++) {
                s[r] = b[r] = _mm256_setzero_si256();
                if (block + r >= n_rows) continue;
                const size_t at = (size_t)(first + block + r) * row_bytes + (size_t)((from + g) * size);
                __m256 scale = scales8(w, w->scales + at, n - g), bias = _mm256_setzero_ps();
                if (e2m1)
                    scale = _mm256_mul_ps(scale, half);
                else
                    bias = scales8(w, w->biases + at, n - g);
                s[r] = _mm256_castps_si256(scale);
                b[r] = _mm256_castps_si256(_mm256_fmadd_ps(scale, offset, bias));
            }
            transpose8(s);
            transpose8(b);
            for (int64_t i = 0; i < WE_MIN(n - g, 8); i++) {
                _mm256_store_si256((__m256i *)(void *)(out->scales[g + i] + block), s[i]);
                _mm256_store_si256((__m256i *)(void *)(out->biases[g + i] + block), b[i]);
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

/* 16 rows x TOKENS tokens x the panel's columns. For each weight group: `steps` times integers over columns that share an
 * activation scale, times that scale; at the group's end the weight's scale and bias. The first `steps` - 1 wait in `wait`, in the
 * first cache: the registers are taken. Nor must the compiler mix one step's products with the next one's. */
INLINE void run_part(const panel *p, const tile *t, int64_t n_groups, int steps, int words, code_kind kind, int half,
                     int token)
{
    const int8_t(*codes)[64] = p->codes[half], *x = t->x + 4 * token;
    const float *scales = t->scales + token, *sums = t->sums + token;
    float(*y)[ROWS] = t->y + token;
    _Alignas(32) float wait[TOKENS][16];
    for (int64_t g = 0; g < n_groups; g++, sums += TILE) {
        const float *ws = p->scales[g] + 16 * half, *wb = p->biases[g] + 16 * half;
        UNROLL for (int s = 0; s < steps; s++)
        {
            __m256i d0[TOKENS], d1[TOKENS];
            dot_tile(codes, x, kind, words, d0, d1);
            codes += words, x += words * 4 * TILE;
            const __m256 s0 = _mm256_load_ps(ws), s1 = _mm256_load_ps(ws + 8);
            UNROLL for (int i = 0; i < TOKENS; i++)
            {
                const __m256 xs = _mm256_broadcast_ss(scales + i);
                __m256 f0 = _mm256_cvtepi32_ps(d0[i]), f1 = _mm256_cvtepi32_ps(d1[i]);
                f0 = s ? _mm256_fmadd_ps(f0, xs, _mm256_load_ps(wait[i])) : _mm256_mul_ps(f0, xs);
                f1 = s ? _mm256_fmadd_ps(f1, xs, _mm256_load_ps(wait[i] + 8)) : _mm256_mul_ps(f1, xs);
                if (s < steps - 1) {
                    _mm256_store_ps(wait[i], f0);
                    _mm256_store_ps(wait[i] + 8, f1);
                    continue;
                }
                const __m256 sum = _mm256_broadcast_ss(sums + i);
                float *to = y[i] + 16 * half;
                const __m256 y0 = _mm256_fmadd_ps(_mm256_load_ps(wb), sum, _mm256_load_ps(to));
                const __m256 y1 = _mm256_fmadd_ps(_mm256_load_ps(wb + 8), sum, _mm256_load_ps(to + 8));
                _mm256_store_ps(to, _mm256_fmadd_ps(f0, s0, y0));
                _mm256_store_ps(to + 8, _mm256_fmadd_ps(f1, s1, y1));
            }
            if (words == 8 || g % 2) scales += TILE; /* two groups of 16 columns have one scale */
            __asm__ volatile("" ::: "memory");
        }
    }
}

/* A function for each size of group, kind of codes and 8 or 4 tokens. */
#define TILE_OF(name, steps, words, kind)                                                           \
    static void tile_##name##_4(const panel *p, const tile *t, int64_t n_groups)                    \
    {                                                                                               \
        for (int half = 0; half < 2; half++) run_part(p, t, n_groups, steps, words, kind, half, 0); \
    }                                                                                               \
    static void tile_##name##_8(const panel *p, const tile *t, int64_t n_groups)                    \
    {                                                                                               \
        for (int part = 0; part < 4; part++)                                                        \
            run_part(p, t, n_groups, steps, words, kind, part / 2, part % 2 * TOKENS);              \
    }
TILE_OF(16, 1, 4, KIND_CODES)
TILE_OF(32_small, 1, 8, KIND_SMALL)
TILE_OF(64_small, 2, 8, KIND_SMALL)
TILE_OF(128_small, 4, 8, KIND_SMALL)
TILE_OF(32, 1, 8, KIND_CODES)
TILE_OF(64, 2, 8, KIND_CODES)
TILE_OF(128, 4, 8, KIND_CODES)
TILE_OF(32_signed, 1, 8, KIND_SIGNED)
TILE_OF(64_signed, 2, 8, KIND_SIGNED)
TILE_OF(128_signed, 4, 8, KIND_SIGNED)

static tile_fn tile_of(we_quant quant, int64_t n)
{
#define EITHER(name) (n > TOKENS ? tile_##name##_8 : tile_##name##_4)
#define BY_SIZE(kind) \
    (quant.group_size == 32 ? EITHER(32##kind) : quant.group_size == 64 ? EITHER(64##kind) : EITHER(128##kind))
    if (quant.group_size == 16) return EITHER(16);
    switch (kind_of(quant)) {
    case KIND_SMALL: return BY_SIZE(_small);
    case KIND_SIGNED: return BY_SIZE(_signed);
    default: return BY_SIZE();
    }
#undef BY_SIZE
#undef EITHER
}

#endif
