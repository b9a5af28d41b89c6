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
    const bool plain = w->quant.mode == WE_QUANT_NONE; /* no scales */
    const int64_t bits = plain ? 8 * (int64_t)we_dtype_size(w->dtype) : w->quant.bits;
    const size_t code_stride = we_matrix_row_bytes(w), scale_stride = we_matrix_row_scale_bytes(w);
    const uint8_t *codes = w->data + (size_t)row * code_stride + (size_t)(c * bits / 8);
    const int64_t begin = (int64_t)((uintptr_t)codes % 64); /* in a line: files are packed without gaps */
    const int64_t bytes = WE_MIN(w->cols - c, WE_Q8_PAD) * bits / 8;
    ahead a = { .codes = codes,
                .scales = codes,
                .biases = codes,
                .code_stride = code_stride,
                .scale_stride = scale_stride,
                .lines = (int)((begin + bytes + 63) / 64),
                .rows = n_rows };
    if (!plain) {
        const int64_t at = c / w->quant.group_size * we_scale_size(w->quant.mode, w->dtype);
        a.scales = w->scales + (size_t)row * scale_stride + (size_t)at;
        a.biases = w->biases ? w->biases + (a.scales - w->scales) : a.scales;
    }
    return a;
}

/* What comes behind the panel of rows from `row` at columns from c on, where panels of `n_rows` rows from `first` on take the same
 * 512 columns before the next 512: mostly it is needed in the next call, where it is the last one. */
static inline ahead ahead_in_group(const we_matrix *w, int64_t first, int64_t n_rows, int64_t row, int64_t c)
{
    const int64_t end = first + n_rows, behind = row + WE_PANEL_ROWS;
    if (behind < end) return ahead_of(w, behind, WE_MIN(end - behind, WE_PANEL_ROWS), c);
    if (c + WE_Q8_PAD < w->cols) return ahead_of(w, first, WE_MIN(n_rows, WE_PANEL_ROWS), c + WE_Q8_PAD);
    return ahead_of(w, end, WE_MIN(w->rows - end, WE_PANEL_ROWS), 0);
}

/* Into the first cache: what it has to give up is then in the second. Fetched into the second alone, more was gone again when
 * it was unpacked, above all where another weight's panels come in between (gate and up). */
static inline void fetch(const uint8_t *p) { __builtin_prefetch(p, 0, 3); }

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
