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

/* ---- Zip archives (zip.c) ---- */

enum { WE_ZIP_STORED = 0, WE_ZIP_DEFLATED = 8 };

typedef struct we_zip_member {
    we_str name;
    unsigned method; /* one of the two */
    uint32_t crc;
    uint64_t packed_len, len;  /* in the archive, and unpacked */
    uint64_t local, data, end; /* its local head, its bytes, what follows */
} we_zip_member;

typedef struct we_zip {
    const uint8_t *bytes;
    uint64_t len;
    const char *file;                  /* for messages */
    uint64_t directory, directory_len; /* the central directory: all members have ended where it begins */
    we_zip_member *members;            /* in order of place */
    uint64_t n_members;
    we_error *err;
} we_zip;

/** Find and check all members of an archive in memory. we_zip_close frees, on failure too. */
we_status we_zip_open(we_zip *zip, we_str bytes, const char *file, we_error *err);
void we_zip_close(we_zip *zip);
/** "FILE: "MEMBER": what: the file is damaged ..." */
we_status we_zip_broken(const we_zip *zip, const we_zip_member *member, const char *what);

/* The containers are little-endian at any address. */
static inline uint16_t we_read_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t we_read_u32(const uint8_t *p) { return we_read_u16(p) | (uint32_t)we_read_u16(p + 2) << 16; }
static inline uint64_t we_read_u64(const uint8_t *p) { return we_read_u32(p) | (uint64_t)we_read_u32(p + 4) << 32; }

#endif
