/* SPDX-License-Identifier: Apache-2.0
 * panel.h - many tokens times packed weights, what all tables share: a panel of 32 rows x 512 columns is unpacked once into the first
 * cache, then the tokens pass by in tiles. Static, since each file that includes it has its own instructions. */
#ifndef WE_CPU_PANEL_H
#define WE_CPU_PANEL_H

#include "device/cpu/ahead.h"

#include <assert.h>

#define BLOCK WE_Q8_PAD /* columns of a step: 16 activation groups, whose scales are one vector */
#define ROWS WE_PANEL_ROWS

typedef struct panel {
    int8_t codes[2][BLOCK / 4][64]; /* [half][4 columns][16 rows x 4], or as the including file has it */
    float scales[BLOCK / 16][ROWS]; /* [weight group][row] */
    float biases[BLOCK / 16][ROWS]; /* affine's own, and what codes are shifted by times the scale */
} panel;

#define TILE WE_Q8_TILE

typedef struct tile {
    const int8_t *x;     /* [4 columns][token][4] or likewise, at the panel's first column */
    const float *scales; /* [32 columns][token] */
    const float *sums;   /* [weight group][token]: of the activations, scaled */
    float (*y)[ROWS];    /* [token] */
} tile;

/* F(mode, bits) of a packing that has a panel, both constants, so that each gets code of its own. nvfp4's codes are mxfp4's. */
#define FOR_PACKING(quant, F)                  \
    do {                                       \
        if ((quant).mode != WE_QUANT_AFFINE) { \
            F(WE_QUANT_MXFP4, 4);              \
            break;                             \
        }                                      \
        switch ((quant).bits) {                \
        case 2: F(WE_QUANT_AFFINE, 2); break;  \
        case 3: F(WE_QUANT_AFFINE, 3); break;  \
        case 4: F(WE_QUANT_AFFINE, 4); break;  \
        case 5: F(WE_QUANT_AFFINE, 5); break;  \
        case 6: F(WE_QUANT_AFFINE, 6); break;  \
        default: F(WE_QUANT_AFFINE, 8); break; \
        }                                      \
    } while (0)

/* ---- What the including file defines ---- */

/* Unpacks rows [first, first + n_rows), n_rows at most ROWS, and columns [c, c + cols), cols at most BLOCK. */
static void pack(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols);
/* Adds the panel's products with up to TILE tokens, of which `n` are left, to the tile's y. */
typedef void (*tile_fn)(const panel *p, const tile *t, int64_t n_groups);
static tile_fn tile_of(we_quant quant, int64_t n);
/* What biases are multiplied with, for all weight groups of a row: sums over as many groups of 32 columns as share one. */
static void sums_of_groups(const float *sums, int64_t n, int each, float *out);
/* The same for nvfp4: groups of 16 columns, two for each scale. */
static void sums_of_16(const int8_t *x, const float *scales, int64_t n_scales, float *out);
/* Results of `n` tokens and up to 32 rows go where they belong. */
static void put(float (*from)[ROWS], int64_t n, int64_t n_rows, float *y, int64_t y_stride, bool add);

/* ---- The loops ---- */

#define CHUNK WE_PANEL_TOKENS

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
        tile_of(w->quant, n - t)(p, &v, n_groups);
    }
}

typedef struct many { /* in scratch */
    panel panel;
    float y[CHUNK][ROWS];
    float sums[]; /* of CHUNK tokens, for the groups of a row */
} many;

static void linear_many(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t token, int64_t n,
                        float *y, int64_t y_stride, bool add, many *m)
{
    const float *sums = sums_of(w, x, token, n, m->sums);
    for (int64_t r = 0; r < n_rows; r += ROWS) {
        const int64_t rows = WE_MIN(n_rows - r, ROWS);
        const int64_t next_rows = WE_MIN(w->rows - (first + r + rows), ROWS); /* mostly in the next call */
        memset(m->y, 0, (size_t)n * sizeof m->y[0]);
        for (int64_t c = 0; c < w->cols; c += BLOCK) {
            const int64_t cols = WE_MIN(w->cols - c, BLOCK);
            ahead next = { .rows = 0 };
            if (c + BLOCK < w->cols)
                next = ahead_of(w, first + r, rows, c + BLOCK);
            else if (next_rows > 0)
                next = ahead_of(w, first + r + rows, next_rows, 0);
            pack(&m->panel, w, first + r, rows, c, cols);
            panel_times(&m->panel, w, c, cols, x, sums, token, n, m->y, &next);
        }
        put(m->y, n, rows, y + token * y_stride + r, y_stride, add);
    }
}

static void linear_panels(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                          int64_t y_stride, bool add, void *scratch)
{
    static_assert(sizeof(many) <= WE_PANEL_BYTES, "leaves the rest of the scratch to the sums");
    for (int64_t t = 0; t < n; t += CHUNK)
        linear_many(w, first, n_rows, x, t, WE_MIN(n - t, CHUNK), y, y_stride, add, scratch);
}

#endif
