/* SPDX-License-Identifier: Apache-2.0
 * format_int.h - what only the files of src/format share: dtypes by name, checked sizes, shapes for messages, a growing
 * list of tensors, and the sentence that ends most messages. */
#ifndef WE_FORMAT_INT_H
#define WE_FORMAT_INT_H

#include "format/format.h"

/* The next step for a file that contradicts itself. */
#define WE_DAMAGED "the file is damaged or incomplete: download it again"

bool we_dtype_from_name(we_str name, we_dtype *dtype); /* safetensors' spelling */

/** Bytes of whole blocks: product of the dimensions times the element's size; false when it overflows or a dimension is negative. */
bool we_shape_bytes(we_dtype dtype, const int64_t *shape, int n_dims, uint64_t *bytes);

typedef struct we_weight_list { /* zeroed is empty and ready */
    we_weight *items;
    size_t n, capacity;
} we_weight_list;

we_weight *we_weight_list_add(we_weight_list *list); /* one more, zeroed; NULL when memory is out */
void we_weight_list_deinit(we_weight_list *list);
/** Copy the items to the arena. *out is never NULL on success. */
we_status we_weight_list_finish(we_weight_list *list, we_arena *arena, const char *file, we_weight **out, size_t *n,
                                we_error *err);

/* Both containers are little-endian at any address. */
static inline uint16_t we_read_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t we_read_u32(const uint8_t *p) { return we_read_u16(p) | (uint32_t)we_read_u16(p + 2) << 16; }
static inline uint64_t we_read_u64(const uint8_t *p) { return we_read_u32(p) | (uint64_t)we_read_u32(p + 4) << 32; }

#endif
