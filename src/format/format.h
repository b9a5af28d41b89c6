/* SPDX-License-Identifier: Apache-2.0
 * format.h - the weights of a model folder as named tensors: safetensors (one file, or shards by index), weights.npz, and
 * to convert from PyTorch's files; and those of a GGUF file, with the metadata that stands before them. Everything is
 * checked before it is handed out: header sizes, offsets, overlaps, dtype x shape = size, duplicate names. What a tensor
 * or a key means is not known here (model/ and tokenizer/ know).
 *
 * Bytes are mapped, not copied, and may begin at any address: read them with memcpy or unaligned loads only. Deflated
 * or transposed members are unpacked once into memory of our own and counted in `unpacked_bytes`. */
#ifndef WE_FORMAT_H
#define WE_FORMAT_H

#include "base/base.h"

/* clang-format off */
typedef enum we_dtype {
    WE_F32, WE_F16, WE_BF16, WE_F64,
    WE_I8, WE_U8, WE_I16, WE_U16, WE_I32, WE_U32, WE_I64, WE_U64, WE_BOOL,
    WE_F8_E4M3, WE_F8_E5M2, WE_F8_E8M0,
    /* ggml's: blocks of a row's neighbours with their scales among them; only in GGUF files (quant/ggml.c) */
    WE_GGML_Q4_0, WE_GGML_Q4_1, WE_GGML_Q5_0, WE_GGML_Q5_1, WE_GGML_Q8_0,
    WE_GGML_Q2_K, WE_GGML_Q3_K, WE_GGML_Q4_K, WE_GGML_Q5_K, WE_GGML_Q6_K,
    WE_GGML_IQ4_NL, WE_GGML_IQ4_XS, WE_GGML_MXFP4,
    WE_DTYPE_COUNT
} we_dtype;
/* clang-format on */

size_t we_dtype_size(we_dtype dtype);      /* bytes of one block: of one element, but for ggml's */
int we_dtype_block(we_dtype dtype);        /* elements of a block: 1, but for ggml's */
const char *we_dtype_name(we_dtype dtype); /* safetensors' or ggml's spelling: "F32", "BF16", "U8", "Q4_K" */

#define WE_MAX_DIMS 8

#define WE_SHAPE_TEXT (WE_MAX_DIMS * 22 + 4)
/** "[48, 96]" in a caller's buffer, which is returned: for messages. */
const char *we_shape_text(char out[WE_SHAPE_TEXT], const int64_t *shape, int n_dims);

typedef struct we_weight {
    const char *name; /* NUL-terminated */
    we_dtype dtype;
    int n_dims;
    int64_t shape[WE_MAX_DIMS]; /* row-major */
    const uint8_t *data;
    size_t bytes;
    const char *file; /* base name of the file it lies in, for messages */
} we_weight;

typedef struct we_weights we_weights; /* all tensors of a folder or a GGUF file; immutable once open */

/** Open a folder's weights: model.safetensors.index.json with its shards, else every model*.safetensors, else
 * weights.npz. An index none of whose files is there, beside a model.safetensors, is stale and left alone.
 * Or open a GGUF file: any part of one that was split (NAME-00001-of-00003.gguf) stands for all of them.
 * Errors: WE_E_NOT_FOUND (none of them; names what is missing, or the shards that are), WE_E_FORMAT (names file, tensor,
 *         what was found and expected; a Git LFS pointer is recognised: "... is a Git LFS pointer, not the weights: run
 *         `git lfs pull` in DIR"), WE_E_UNSUPPORTED (a dtype or packing that we do not read), WE_E_IO, WE_E_NOMEM. */
we_status we_weights_open(we_weights **out, const char *dir, we_error *err);
/** The same, and where none of these is there PyTorch's files: pytorch_model.bin.index.json with its shards, else every
 * pytorch_model*.bin. Nothing in them is executed. Errors: as above, and WE_E_UNSUPPORTED (a pickle that asks for more than
 * tensors: it is named; files of PyTorch before 1.6; large tensors whose elements do not lie in order). */
we_status we_weights_open_any(we_weights **out, const char *dir, we_error *err);
bool we_weights_is_pytorch(const we_weights *weights);
void we_weights_close(we_weights *weights); /* NULL is allowed */

size_t we_weights_count(const we_weights *weights);
const we_weight *we_weights_at(const we_weights *weights, size_t index);       /* in order of file, then of offset */
const we_weight *we_weights_find(const we_weights *weights, const char *name); /* NULL: not there. Binary search. */
uint64_t we_weights_mapped_bytes(const we_weights *weights);
uint64_t we_weights_unpacked_bytes(const we_weights *weights);
/** WE_E_DEVICE when one of the files was cut short since: a few fstats, cheap enough for every step. */
we_status we_weights_check(const we_weights *weights, we_error *err);
/** Read all mapped bytes that are not in the page cache yet, so that they are; progress as whisperengine.h's (NULL: none). */
we_status we_weights_load(const we_weights *weights, we_progress_fn progress, void *user, we_error *err);
/** These bytes of a tensor will not be read again soon: mapped pages stop counting as this process's memory. */
void we_weights_drop(const we_weights *weights, const uint8_t *data, size_t bytes);

/** True when the bytes begin like a Git LFS pointer file. */
bool we_is_lfs_pointer(we_str head);
/** True when `path` is a regular file that begins as GGUF files do, or whose name ends in .gguf. */
bool we_is_gguf(const char *path);

/* ---- GGUF's metadata ---- */

typedef enum we_gguf_type { /* the file's own numbers */
                            WE_GGUF_U8,
                            WE_GGUF_I8,
                            WE_GGUF_U16,
                            WE_GGUF_I16,
                            WE_GGUF_U32,
                            WE_GGUF_I32,
                            WE_GGUF_F32,
                            WE_GGUF_BOOL,
                            WE_GGUF_STRING,
                            WE_GGUF_ARRAY,
                            WE_GGUF_U64,
                            WE_GGUF_I64,
                            WE_GGUF_F64,
                            WE_GGUF_TYPE_COUNT
} we_gguf_type;

typedef struct we_gguf_value {
    const char *key;
    we_gguf_type type; /* of each element; never ARRAY */
    bool is_array;
    uint64_t n;          /* elements; 1 where it is no array */
    const uint8_t *data; /* [bytes] as they stand in the file, checked: strings are a uint64 length and their bytes */
    size_t bytes;
} we_gguf_value;

typedef struct we_gguf {
    const char *file;            /* base name, for messages */
    const we_gguf_value *values; /* sorted by key */
    size_t n_values;
    we_str bytes; /* all keys and values as they stand in the file */
} we_gguf;

/** The metadata of a GGUF file (of its first part, where it was split); NULL for a folder. */
const we_gguf *we_weights_gguf(const we_weights *weights);
const we_gguf_value *we_gguf_get(const we_gguf *gguf, const char *key); /* NULL: not there */
/** Element `i` of a value where it has that kind of type; false (out untouched) where not, also when `v` is NULL.
 * Whole numbers serve as f64; a u64 above INT64_MAX is none. */
bool we_gguf_i64(const we_gguf_value *v, uint64_t i, int64_t *out);
bool we_gguf_f64(const we_gguf_value *v, uint64_t i, double *out);
bool we_gguf_bool(const we_gguf_value *v, bool *out);  /* no array */
bool we_gguf_str(const we_gguf_value *v, we_str *out); /* no array; borrowed from the map */
/** Strings of an array one after another: *at is 0 first; false behind the last. */
bool we_gguf_next_str(const we_gguf_value *v, size_t *at, we_str *out);
/** "an array of 3 strings", "a uint32 (7)": for messages. */
const char *we_gguf_shown(const we_gguf_value *v, char out[96]);

/* The containers by themselves: parse bytes that are already in memory into tensors (names and shapes live in the
 * arena, data points into `bytes`). For the fuzzers and for we_weights_open. `file` is for messages. */
we_status we_safetensors_parse(we_arena *arena, we_str bytes, const char *file, we_weight **out, size_t *n,
                               we_error *err);
we_status we_gguf_parse(we_arena *arena, we_str bytes, const char *file, we_gguf *gguf, we_weight **out, size_t *n,
                        we_error *err);
/* Deflated or Fortran-order members are unpacked into the arena; *unpacked grows by their bytes. All members together
 * may not unpack to more than max_unpacked bytes. All bytes are read, for their checksums. Text members are left out. */
we_status we_npz_parse(we_arena *arena, we_str bytes, const char *file, size_t max_unpacked, we_weight **out, size_t *n,
                       size_t *unpacked, we_error *err);
/* Tensors out of order are copied to the arena, all together at most max_unpacked bytes. */
we_status we_pytorch_parse(we_arena *arena, we_str bytes, const char *file, size_t max_unpacked, we_weight **out,
                           size_t *n, size_t *unpacked, we_error *err);

#endif
