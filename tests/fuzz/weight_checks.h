/* SPDX-License-Identifier: Apache-2.0
 * weight_checks.h - what holds for the tensors of an archive that a fuzzer made: refused with a message, or every byte of
 * them can be read. */
#ifndef WE_FUZZ_WEIGHT_CHECKS_H
#define WE_FUZZ_WEIGHT_CHECKS_H

#include "format/format.h"

#include <stdlib.h>

#define MAX_UNPACKED ((size_t)1 << 20)

static inline void check_weights(we_status st, const we_error *err, const we_weight *weights, size_t n, size_t unpacked)
{
    if (st && (st != err->status || !err->message[0] || n)) abort();
    if (unpacked > MAX_UNPACKED) abort();
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) {
        const we_weight *w = &weights[i];
        if (w->n_dims < 0 || w->n_dims > WE_MAX_DIMS) abort();
        uint64_t bytes = we_dtype_size(w->dtype);
        for (int d = 0; d < w->n_dims; d++) bytes *= (uint64_t)w->shape[d];
        if (bytes != w->bytes) abort();
        for (size_t k = 0; k < w->bytes; k++) sum += w->data[k]; /* the sanitizers see a pointer astray */
    }
    volatile unsigned seen = sum;
    (void)seen;
}

#endif
