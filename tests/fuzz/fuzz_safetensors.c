/* SPDX-License-Identifier: Apache-2.0
 * fuzz_safetensors.c - any bytes as a safetensors file: refused with a message, or tensors that can be read. */
#include "format/format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    we_arena arena = { 0 };
    we_weight *weights;
    size_t n;
    we_error err = { 0 };
    const we_status st = we_safetensors_parse(&arena, (we_str){ (const char *)data, size }, "f", &weights, &n, &err);
    if ((st && (st != err.status || !err.message[0])) || (st && n)) abort();
    const uint8_t *end = data; /* tensors follow each other */
    for (size_t i = 0; i < n; i++) {
        const we_weight *w = &weights[i];
        if (w->n_dims < 0 || w->n_dims > WE_MAX_DIMS || w->data < end || w->bytes > size) abort();
        uint64_t bytes = we_dtype_size(w->dtype);
        for (int d = 0; d < w->n_dims; d++) bytes *= (uint64_t)w->shape[d];
        if (bytes != w->bytes) abort();
        end = w->data + w->bytes;
    }
    if (n && end != data + size) abort();
    we_arena_deinit(&arena);
    return 0;
}
