/* SPDX-License-Identifier: Apache-2.0
 * ggml.c - products of int8 activations with ggml's blocks. A few tokens: the table's linear_ggml, where it has one. Many, or a
 * table without: some rows are unpacked into a panel, a byte an element with a float32 scale and bias for each 32, which is
 * what an affine matrix of 8 bits is; the table's linear_q8 does the rest. Panels are small enough to stay in the second cache.
 *
 * Types whose scales stand for 16 elements are two such matrices: one with the scale of each group's first half, and one
 * that is zero in the first half and has the difference of the two scales in the second. Where mins stand for 16 as well
 * (Q2_K), a third one has the difference of the mins for the second halves' ones. */
#include "device/cpu/cpu_int.h"

#include <assert.h>

#define PANEL_BYTES (128 * 1024) /* of codes, where kernels go row by row and a panel need not be full */

typedef struct panel {
    uint8_t *codes;                                   /* [rows, cols] */
    float *scales, *mins, *wide_scales, *wide_biases; /* [rows, cols / group]; those of the affine matrix: cols / 32 */
} panel;

bool we_cpu_ggml_takes(const we_matrix *w) { return w->quant.mode == WE_QUANT_GGML; }

/* 1 + 4 x 2 / 16 + 4 x 2 / 32 bytes an element */
size_t we_cpu_ggml_scratch_bytes(int64_t cols) { return (size_t)(cols + 32) * WE_PANEL_ROWS * 2; }

static panel panel_at(uint8_t *scratch, int64_t cols)
{
    const size_t n = (size_t)cols * WE_PANEL_ROWS;
    panel p = { .codes = scratch };
    p.scales = (float *)(void *)(scratch + (n + 63) / 64 * 64);
    p.mins = p.scales + n / 16;
    p.wide_scales = p.mins + n / 16;
    p.wide_biases = p.wide_scales + n / 32;
    return p;
}

static void fill_32(panel *p, int64_t n_groups, float zero)
{
    for (int64_t g = 0; g < n_groups; g++) {
        p->wide_scales[g] = p->scales[g];
        p->wide_biases[g] = -p->mins[g] - zero * p->scales[g];
    }
}

static void fill_first_halves(panel *p, int64_t n_groups, float zero)
{
    for (int64_t g = 0; g < n_groups; g++) {
        p->wide_scales[g] = p->scales[2 * g];
        p->wide_biases[g] = -p->mins[2 * g] - zero * p->scales[2 * g];
    }
}

static void fill_second_halves(panel *p, int64_t n_groups, uint8_t zero)
{
    for (int64_t g = 0; g < n_groups; g++) {
        memset(p->codes + 32 * g, zero, 16);
        p->wide_scales[g] = p->scales[2 * g + 1] - p->scales[2 * g];
        p->wide_biases[g] = -(float)zero * p->wide_scales[g];
    }
}

static void fill_second_mins(panel *p, int64_t n_groups)
{
    for (int64_t g = 0; g < n_groups; g++) {
        memset(p->codes + 32 * g, 0, 16);
        memset(p->codes + 32 * g + 16, 1, 16);
        p->wide_scales[g] = p->mins[2 * g] - p->mins[2 * g + 1];
        p->wide_biases[g] = 0;
    }
}

void we_cpu_ggml_linear(const we_cpu_kernels *k, const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x,
                        int64_t n, float *y, int64_t y_stride, bool add, void *scratch, uint8_t *panel_scratch)
{
    assert(we_cpu_ggml_takes(w) && w->cols % 32 == 0);
    if (k->linear_ggml && n <= WE_Q8_FEW) {
        k->linear_ggml(w, first, n_rows, x, n, y, y_stride, add, scratch);
        return;
    }
    const int group = we_ggml_group(w->dtype), zero = we_ggml_zero(w->dtype);
    const int64_t few = WE_MAX(PANEL_BYTES / w->cols, 4);
    const int64_t most = n > WE_Q8_FEW ? WE_PANEL_ROWS : WE_MIN(few, WE_PANEL_ROWS);
    panel p = panel_at(panel_scratch, w->cols);
    for (int64_t r = 0; r < n_rows; r += most) {
        const int64_t rows = WE_MIN(n_rows - r, most), groups = rows * w->cols / 32;
        for (int64_t i = 0; i < rows; i++)
            we_ggml_unpack_row(w, first + r + i, p.codes + i * w->cols, p.scales + i * w->cols / group,
                               p.mins + i * w->cols / group);
        const we_matrix affine = { .rows = rows,
                                   .cols = w->cols,
                                   .quant = { WE_QUANT_AFFINE, 8, 32 },
                                   .dtype = WE_F32,
                                   .data = p.codes,
                                   .scales = (const uint8_t *)p.wide_scales,
                                   .biases = (const uint8_t *)p.wide_biases };
        if (group == 32) {
            fill_32(&p, groups, (float)zero);
            k->linear_q8(&affine, 0, rows, x, n, y + r, y_stride, add, scratch);
            continue;
        }
        fill_first_halves(&p, groups, (float)zero);
        k->linear_q8(&affine, 0, rows, x, n, y + r, y_stride, add, scratch);
        fill_second_halves(&p, groups, (uint8_t)zero);
        k->linear_q8(&affine, 0, rows, x, n, y + r, y_stride, true, scratch);
        if (w->dtype != WE_GGML_Q2_K) continue;
        fill_second_mins(&p, groups);
        k->linear_q8(&affine, 0, rows, x, n, y + r, y_stride, true, scratch);
    }
}
