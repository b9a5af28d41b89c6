/* SPDX-License-Identifier: Apache-2.0
 * kernels.h - the table of functions that an instruction set fills: ref.c (plain C, what each one means), avx2.c, avxvnni_q8.c,
 * avx512.c, avx512_bf16.c, neon.c. A NULL entry falls back to the next simpler table. Chosen once, in cpu.c; no other file asks which instruction
 * set it runs on. Kernels are leaves: one thread, no allocation, no knowledge of tensors, threads or caches. Pointers may
 * be unaligned; a weight's bytes are never read beyond its end, since a file's map may end there. */
#ifndef WE_CPU_KERNELS_H
#define WE_CPU_KERNELS_H

#include "quant/quant.h"

#include <math.h>

/* ---- Activations rounded to int8 ----
 *
 * One scale for each WE_Q8_GROUP neighbours of a row: value = scale * code, codes in [-127, 127] and in the order of the
 * columns. (64 were a tenth faster for prompts, but took Gemma 3 270M's perplexity, 4 bits, from 0.37% to 0.55% above float32's.)
 * A row is padded with zero codes and scales to WE_Q8_PAD columns, so that kernels may go in large steps. A group that holds an
 * infinity or a NaN has the scale NaN: the result says that something went wrong, whatever the weights. */
#define WE_Q8_GROUP 32
#define WE_Q8_PAD 512 /* 16 groups: a vector of scales */

/* From the bits of a group's largest magnitude: what its codes are multiplied with, and what its values were multiplied with to
 * become codes; 0: all codes are 0. */
typedef struct we_q8_scale {
    float scale, inverse;
} we_q8_scale;
static inline we_q8_scale we_q8_scale_of(uint32_t largest_bits)
{
    float largest;
    memcpy(&largest, &largest_bits, sizeof largest);
    if (largest_bits >= 0x7f800000) return (we_q8_scale){ NAN, 0 };
    if (largest < 1e-30f) return (we_q8_scale){ 0, 0 }; /* 127 / less would overflow */
    return (we_q8_scale){ largest / 127.0f, 127.0f / largest };
}

/* Four rows x 128 columns, all that a product reads of them, in the order in which it does: one stream, and few pages. */
typedef struct we_q8_piece {
    _Alignas(64) int8_t codes[32][4][4]; /* [4 columns][row] */
    int32_t starts[4][4];                /* [32 columns][row]: -8 times the sum of their codes */
    int32_t pairs[2][4]; /* [64 columns][row]: the factors of both 32s to the row's unit, the first in the low half */
    int32_t sums[4]; /* [row]: of both 64s the sum of factor times code, in units of 2^13, the first in the low half */
} we_q8_piece;

typedef struct we_q8 {
    int8_t *values;       /* [rows, stride], aligned to 64 */
    float *scales;        /* [rows, stride / WE_Q8_GROUP] */
    float *sums;          /* the same: scale * sum of the group's codes, for the bias term of affine weights */
    int64_t cols, stride; /* stride: cols padded */
    /* The same for kernels that take WE_Q8_TILE rows at a time, by q8_tile; rows that do not exist are 0. */
    int8_t *tiles;      /* [rows / 8, stride / 4, 8, 4]: four columns of each row side by side */
    float *tile_scales; /* [rows / 8, stride / WE_Q8_GROUP, 8] */
    float *tile_sums;   /* the same */
    /* And once more where a row has one scale, its unit, and a group an integer factor of it (AVX-512: avx512_affine.c). */
    we_q8_piece *pieces; /* [rows / 4, stride / 128] */
    float *units;        /* [rows] */
} we_q8;
#define WE_Q8_TILE 8
#define WE_Q8_FEW 12 /* most rows that go without tiles */

static inline int64_t we_q8_stride(int64_t cols) { return (cols + WE_Q8_PAD - 1) / WE_Q8_PAD * WE_Q8_PAD; }

/* Bytes for all of it, and where in them (aligned to 64) each part lies; cols is set as well. */
static inline size_t we_q8_bytes(int64_t n_rows, int64_t cols)
{
    const size_t rows = (size_t)(n_rows + WE_Q8_TILE - 1) / WE_Q8_TILE * WE_Q8_TILE;
    const size_t values = rows * (size_t)we_q8_stride(cols), floats = values / WE_Q8_GROUP;
    return 2 * values + values / 512 * sizeof(we_q8_piece) + (4 * floats + rows) * sizeof(float);
}
static inline void we_q8_lay(we_q8 *q, void *bytes, int64_t n_rows, int64_t cols)
{
    const int64_t rows = (n_rows + WE_Q8_TILE - 1) / WE_Q8_TILE * WE_Q8_TILE;
    q->cols = cols;
    q->stride = we_q8_stride(cols);
    const int64_t values = rows * q->stride, floats = values / WE_Q8_GROUP;
    q->values = (int8_t *)bytes;
    q->tiles = q->values + values;
    q->pieces = (we_q8_piece *)(void *)(q->tiles + values);
    q->scales = (float *)(void *)(q->pieces + values / 512);
    q->sums = q->scales + floats;
    q->tile_scales = q->sums + floats;
    q->tile_sums = q->tile_scales + floats;
    q->units = q->tile_sums + floats;
}

/* Packings whose codes are integers (e2m1: halves) and which linear_q8 therefore takes. */
static inline bool we_q8_takes(we_quant quant)
{
    return quant.mode == WE_QUANT_AFFINE || quant.mode == WE_QUANT_MXFP4 || quant.mode == WE_QUANT_NVFP4;
}

/* ---- Activations rounded to bfloat16 ----
 *
 * For many rows of them: tiles of WE_BF16_TILE rows, [tile][pair of columns][row], the first column of a pair in the low half of a
 * word. Beside an odd last column is 0, and so are rows that do not exist. */
#define WE_BF16_TILE WE_Q8_TILE
#define WE_BF16_FEW 8 /* most rows that stay float32: guessed tokens are checked with the bits of one alone */

static inline int64_t we_bf16_tile_words(int64_t cols) { return (cols + 1) / 2 * WE_BF16_TILE; }

/* Weights that linear_bf16 takes: of 16 bits, and mxfp8. */
static inline bool we_bf16_takes(const we_matrix *w)
{
    return w->quant.mode == WE_QUANT_MXFP8 ||
           (w->quant.mode == WE_QUANT_NONE && (w->dtype == WE_BF16 || w->dtype == WE_F16));
}

/* Bytes of a scale. */
static inline int64_t we_scale_size(we_quant_mode mode, we_dtype dtype)
{
    return mode != WE_QUANT_AFFINE ? 1 : dtype == WE_F32 ? 4 : 2;
}

/* Bytes that linear_f32, linear_q8 and linear_bf16 may use behind their scratch pointer, which is aligned to 64. Many tokens take most: a panel
 * of rows with the results of WE_PANEL_TOKENS, and, for weights in groups of 16, a float32 for each of those tokens and groups of
 * a row. (16 rows as float32 take no more.) */
#define WE_PANEL_ROWS 32
#define WE_PANEL_TOKENS 256 /* their results stay in the cache while all panels of some rows pass by: 32 KB */
#define WE_PANEL_GROUP 8    /* panels of rows whose results do, where columns are so many that the tokens' leave it */
#define WE_PANEL_BYTES (32768 + WE_PANEL_GROUP * WE_PANEL_TOKENS * WE_PANEL_ROWS * sizeof(float))
static inline size_t we_kernel_scratch_bytes(int64_t cols)
{
    return WE_PANEL_BYTES + (size_t)we_q8_stride(cols) / 16 * WE_PANEL_TOKENS * sizeof(float);
}

/* ---- A head's keys or values in a block of a cache of 8 or 4 bits ----
 *
 * WE_KV_BLOCK positions; WE_KV_GROUP neighbours of a position's head_dim numbers have a scale of their own, with 4 bits a lowest
 * value as well: w = scale * code (+ low), codes in [-127, 127] or [0, 15]. What lies behind head_dim in the last group is 0.
 *
 *   keys    [head_dim, WE_KV_BLOCK] codes: they lie transposed, as those of 16 bits
 *   values  [WE_KV_BLOCK, groups of 32] codes
 *   scales  [groups, WE_KV_BLOCK] of both, lows likewise
 *
 * 4 bits: 32 codes are 16 bytes, the first 16 in the low nibbles, the others in the high ones. */
#define WE_KV_BLOCK 64
#define WE_KV_GROUP 32
typedef struct we_kv_codes {
    int bits, head_dim;
    uint8_t *codes;
    uint16_t *scales, *lows; /* IEEE halves */
} we_kv_codes;
static inline int we_kv_groups(int head_dim) { return (head_dim + WE_KV_GROUP - 1) / WE_KV_GROUP; }

/* Products of m rows with positions [first, first + n) of a block. */
typedef struct we_kv_kernels {
    /* scores[m, WE_KV_BLOCK] = q[m, head_dim] times keys; sums: [m, groups] of q. Others of the block's scores may change. */
    void (*keys)(const we_kv_codes *keys, const float *q, const float *sums, int64_t m, int first, int n,
                 float *scores);
    /* out[m, head_dim] += weights[m, WE_KV_BLOCK], 0 at all other positions of the block, times values */
    void (*values)(const we_kv_codes *values, const float *weights, int64_t m, int first, int n, float *out);
    /* The whole block as 16 bits have it: [head_dim, WE_KV_BLOCK] keys or [WE_KV_BLOCK, head_dim] values. */
    void (*halves)(const we_kv_codes *b, bool values, uint16_t *out);
} we_kv_kernels;

/* ---- Attention in bfloat16: a block of a cache, and queries with what they have gathered so far ---- */

typedef struct we_bf16_block {
    const uint32_t *keys;   /* [(dim + 1) / 2, WE_KV_BLOCK] */
    const uint32_t *values; /* [WE_KV_BLOCK / 2, dim]; numbers, also where nobody looks */
    int64_t dim;
} we_bf16_block;

#define WE_SUM_LANES 16
typedef struct we_bf16_queries {
    const uint16_t *q;          /* [m, dim + dim % 2], times the scale and log2(e) */
    const uint8_t *from, *to;   /* [m]: the positions of the block that each sees; NULL, both: all of it */
    float *reference;           /* [m]: weights are 2^(score - this); -INFINITY at first */
    float (*sum)[WE_SUM_LANES]; /* [m]: of the weights, to be added up */
    float *acc;                 /* [m, dim]: of the weighted values */
} we_bf16_queries;

/* ---- The table ---- */

typedef struct we_cpu_kernels {
    const char *name;
    bool (*supported)(void); /* by this CPU and operating system */

    /* out[cols] = a row of any matrix. */
    void (*row_f32)(const we_matrix *w, int64_t row, float *out);

    /* y[t * y_stride + r] = sum over c of x[t * x_stride + c] * W[first + r][c] for r < n_rows, t < n; += when `add`.
     * The exact path: float32 activations and accumulation, any weight format. */
    void (*linear_f32)(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, int64_t x_stride, int64_t n,
                       float *y, int64_t y_stride, bool add, void *scratch);
    /* The fast path for weights that we_q8_takes: int8 activations, exact integers within a group. Where tiles are joined (q8_join)
     * affine weights in groups of 64 or more lose a little more: their scales and biases are rounded to 1/8190 of the greatest
     * in 512 columns of the row, and a group's sum of 5 to 8 bit codes to its highest 15 bits. */
    void (*linear_q8)(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                      int64_t y_stride, bool add, void *scratch);
    /* The same for ggml's blocks as they lie in the file, n <= WE_Q8_FEW. NULL: ggml.c unpacks them for linear_q8. */
    void (*linear_ggml)(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                        int64_t y_stride, bool add, void *scratch);
    /* The fast path for weights that we_bf16_takes and more than WE_BF16_FEW tokens: activations in bfloat16, sums in float32. NULL,
     * both: linear_f32 does it. bf16_tile: n rows, at most WE_BF16_TILE, of x. */
    void (*linear_bf16)(const we_matrix *w, int64_t first, int64_t n_rows, const uint32_t *x, int64_t n, float *y,
                        int64_t y_stride, bool add, void *scratch);
    void (*bf16_tile)(const float *x, int64_t x_stride, int64_t n, int64_t cols, uint32_t *out);
    /* Round one row: its values, scales and sums, padding included. All tables give the same bits. */
    void (*q8_quantize)(const float *x, int64_t cols, int8_t *values, float *scales, float *sums);
    /* Lay rows [first, first + n), first a multiple of WE_Q8_TILE and n at most that, as a tile. NULL: linear_q8 reads none;
     * else it does for more than WE_Q8_FEW rows. */
    void (*q8_tile)(const we_q8 *x, int64_t first, int64_t n);
    /* The tiles of n rows, one group after the other, from its WE_Q8_GROUP columns x[n], `stride` apart: the bits that q8_quantize and q8_tile
     * give, but for rows of x (only tiles); then, once all groups of the tile at row `first` are there, what is left to do. NULL,
     * both: there is no such way. */
    void (*q8_group)(const we_q8 *x, int64_t n, int64_t group, const float *columns, int64_t stride);
    void (*q8_join)(const we_q8 *x, int64_t first);

    /* C[m, n] = A[m, k] B[k, n], += when `add`; rows lda, ldb, ldc elements apart. For attention: queries times a page of
     * keys (which lie transposed), weights times a page of values. */
    void (*mul_f32)(const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add);
    /* B: IEEE half. `next`, NULL or what the next product reads as this one does B, is fetched from memory meanwhile. */
    void (*mul_f16)(const float *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add, const uint16_t *next);

    /* Attention of many queries in bfloat16; NULL, all three: the products above do it. Two neighbours share a word of 32 bits,
     * the first in its low half; beside an odd last one is 0. to_bf16: [m, n], to nearest even. pairs_f16: IEEE halves [k, n]
     * to [(k + 1) / 2, n] words, neighbours along k. attend_bf16: what a block adds to m queries. */
    void (*to_bf16)(const float *x, int64_t ldx, uint16_t *out, int64_t ldo, int64_t m, int64_t n);
    void (*pairs_f16)(const uint16_t *b, int64_t k, int64_t n, uint32_t *out);
    void (*attend_bf16)(const we_bf16_block *block, const we_bf16_queries *queries, int64_t m);

    const we_kv_kernels *kv; /* attention over caches of 8 and 4 bits */

    /* Vectors of n >= 0 elements. */
    void (*to_f16)(const float *x, uint16_t *out,
                   int64_t n);                          /* to nearest even; finite overflow saturates to +-65504 */
    float (*max)(const float *x, int64_t n);            /* -INFINITY for none; NaNs don't count */
    float (*exp_sum)(float *x, float shift, int64_t n); /* x = exp(x - shift); gives the sum */
    void (*scale)(float *x, float factor, int64_t n);
    void (*add)(float *x, const float *y, int64_t n);
    void (*rms_norm)(float *out, const float *x, const float *weight, int64_t n, float eps, float offset);
    void (*silu_mul)(float *gate, const float *up, int64_t n);      /* gate = gate / (1 + exp(-gate)) * up */
    void (*gelu_tanh_mul)(float *gate, const float *up, int64_t n); /* the tanh form of GELU */
    void (*gelu_mul)(float *gate, const float *up, int64_t n);      /* the exact one */

    /* `rounds` rounds of int8 dot products, all codes 1, that touch registers only and wait for each other as little as may be: what
     * linear_q8 could do at most. Gives the number of multiply-adds; *sum: their sum, which is that number (mod 2^32). */
    int64_t (*dots)(int64_t rounds, int32_t *sum);
} we_cpu_kernels;

/* The tables of this build, best first; NULL-terminated; the last is the reference. kernels_x86.c, kernels_arm.c or
 * kernels_none.c. */
extern const we_cpu_kernels *const we_cpu_kernel_tables[];
extern const we_cpu_kernels we_cpu_kernels_reference;

/** The best table by that name (NULL: of all) that this CPU can run, its missing entries taken from the simpler ones.
 * False: there is none of that name here. */
bool we_cpu_kernels_choose(const char *name, we_cpu_kernels *out);

#endif
