/* SPDX-License-Identifier: Apache-2.0
 * ahead.h - weights that the next panel of 512 columns will unpack, fetched while this one is used. */
#ifndef WE_CPU_AHEAD_H
#define WE_CPU_AHEAD_H

#include "device/cpu/kernels.h"

/* Its rows lie far apart, so the hardware does not fetch them, and unpacking would wait for memory half of the time. */
typedef struct ahead {
    const uint8_t *codes, *scales, *biases; /* of the next row */
    size_t code_stride, scale_stride;       /* bytes from row to row */
    int lines;                              /* of codes in a row */
    int64_t rows;                           /* still to fetch */
} ahead;

static inline ahead ahead_of(const we_matrix *w, int64_t row, int64_t n_rows, int64_t c)
{
    const size_t code_stride = we_matrix_row_bytes(w), scale_stride = we_matrix_row_scale_bytes(w);
    const size_t scale_at =
        (size_t)row * scale_stride + (size_t)(c / w->quant.group_size * we_scale_size(w->quant.mode, w->dtype));
    const int64_t bytes = WE_MIN(w->cols - c, WE_Q8_PAD) * w->quant.bits / 8;
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

static inline void fetch(const uint8_t *p) { __builtin_prefetch(p, 0, 2); } /* into the second cache */

static inline void ahead_rows(ahead *a, int64_t n)
{
    for (; n > 0 && a->rows > 0; n--, a->rows--) {
        for (int i = 0; i < a->lines; i++) fetch(a->codes + 64 * i);
        fetch(a->scales);
        fetch(a->biases);
        a->codes += a->code_stride;
        a->scales += a->scale_stride;
        a->biases += a->scale_stride;
    }
}

#endif
