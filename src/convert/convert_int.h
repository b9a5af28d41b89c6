/* SPDX-License-Identifier: Apache-2.0
 * convert_int.h - what the files of src/convert share. A *source* is a model as its MLX folder will name it, wherever it
 * comes from: a Hugging Face folder (source.c) or a GGUF file (gguf.c). From there on all go one way:
 *
 *     we_source ──► plan.c: which tensor is kept, cast, quantized or dequantized, and how large all becomes
 *               ──► write.c: a folder beside the target, filled by two threads (chunk.c), then renamed
 *
 * Invariant: no whole tensor is ever in memory of our own. Rows are read, computed and written in pieces of at most
 * WE_CHUNK_BYTES as float32, a few of them at a time. */
#ifndef WE_CONVERT_INT_H
#define WE_CONVERT_INT_H

#include "convert/convert.h"

#define WE_CHUNK_BYTES ((size_t)4 << 20)        /* of a piece's rows as float32 */
#define WE_LONGEST_ROW_BYTES ((size_t)64 << 20) /* a piece is one row at least */

/* ---- Source ---- */

typedef struct we_source_tensor {
    const char *name; /* as in the MLX folder: "model.layers.0.self_attn.q_proj.weight" */
    we_dtype dtype;   /* as `read` gives it; F64 is stored as F32 */
    int n_dims;
    int64_t shape[WE_MAX_DIMS]; /* a row is the last dimension; a tensor without one is one row of one element */
    const char *file;           /* where it lies, for messages; may be NULL */
    size_t index;               /* the source's own */
    int64_t head_rows;          /* GGUF's Llama: in place, the two halves of each so many rows lie row by row; else 0 */
} we_source_tensor;

typedef struct we_side_file { /* lies beside the weights: tokenizer.json, chat_template.jinja, ... */
    const char *name;         /* in the target */
    const char *path;         /* copied from there, or NULL and */
    we_str bytes;             /* written as they are */
} we_side_file;

typedef struct we_source we_source;
struct we_source {
    const char *name; /* the folder or file, for messages */
    const we_source_tensor *tensors;
    size_t n_tensors;      /* in the order in which mlx-lm would store them: shards are cut in it */
    const we_json *config; /* config.json as an object; what a conversion changes in it is plan.c's */
    const we_side_file *files;
    size_t n_files;
    bool is_checked; /* we_convert_check was asked about the source itself */

    /** Rows [first, first + n) of a tensor in its dtype. *rows: out, either borrowed from the source (a map: no copy) or
     * `scratch`, which has room for them; unaligned. Called by two threads at once. */
    we_status (*read)(const we_source *source, const we_source_tensor *tensor, int64_t first, int64_t n,
                      uint8_t *scratch, const uint8_t **rows, we_error *err);
    /** Those rows will not be asked for again; NULL where nothing is to be given back. */
    void (*done)(const we_source *source, const uint8_t *rows, size_t bytes);
    /** Asked when all is read: was what was read there (a mapped file may have been cut short)? NULL: always. */
    we_status (*check)(const we_source *source, we_error *err);
};

/** Put tensors into the order in which mlx-lm stores them. */
void we_source_sort(we_source_tensor *tensors, size_t n);

/** Elements of a row, and rows, of a tensor. */
int64_t we_row_elements(const we_source_tensor *t);
int64_t we_row_count(const we_source_tensor *t);

/** The tree of an object with one member set or (value NULL) taken away; NULL when memory is out. */
const we_json *we_config_with(we_arena *arena, const we_json *object, const char *key, const we_json *value);

/** README.md of the target: the head of the card in `dir` (may be a folder without one), made mlx's (card.c). */
we_status we_source_add_card(we_arena *arena, const char *dir, we_side_file *file, we_error *err);

/* ---- Options, checked ---- */

typedef enum we_recipe {
    WE_RECIPE_NONE,
    WE_RECIPE_MIXED_2_6,
    WE_RECIPE_MIXED_3_4,
    WE_RECIPE_MIXED_3_6,
    WE_RECIPE_MIXED_4_6,
    WE_RECIPE_COUNT
} we_recipe;

typedef struct we_convert_job { /* we_convert_options with their defaults filled in */
    bool quantize, dequantize, overwrite;
    we_quant quant; /* of `quantize` */
    we_recipe recipe;
    const char *calibrate; /* a text file, or NULL */
    we_progress_fn calibrate_progress;
    const struct we_calibration *calibrated; /* what came of it: matrices that are packed already */
    bool has_dtype;                          /* else config.json's torch_dtype, else what each tensor has */
    we_dtype dtype;
    uint64_t shard_bytes; /* most of one file's tensors; 0: mlx-lm's 5 GiB */
    we_progress_fn progress;
    void *progress_user;
} we_convert_job;

/** Errors: WE_E_ARG, WE_E_RANGE (a combination that MLX does not have). */
we_status we_convert_job_init(we_convert_job *job, const we_convert_options *opt, we_error *err);

/* ---- Plan ---- */

typedef enum we_action { WE_COPY, WE_CAST, WE_QUANTIZE, WE_DEQUANTIZE } we_action;

typedef struct we_part { /* a tensor of the target */
    const char *name;
    we_dtype dtype;
    int n_dims;
    int64_t shape[WE_MAX_DIMS];
    uint64_t bytes;
    size_t shard;
    uint64_t offset; /* in its file */
} we_part;

typedef struct we_plan_item { /* one source tensor, or a packed one with its scales, and what becomes of it */
    we_action action;
    const we_source_tensor *tensor;
    const we_source_tensor *scales, *biases; /* of DEQUANTIZE */
    we_quant quant;                          /* of QUANTIZE and DEQUANTIZE */
    we_dtype dtype;                          /* to compute in: floats are rounded to it first */
    int64_t rows, cols;                      /* of the plain values */
    const we_matrix *given;                  /* of QUANTIZE: the packed rows, where a calibration made them */
    we_part parts[3];                        /* one, or weight, scales and biases */
    int n_parts;
} we_plan_item;

typedef struct we_plan {
    we_arena arena;
    we_plan_item *items;
    size_t n_items, n_quantized;
    we_part **parts; /* of all items, in order */
    size_t n_parts, n_shards;
    uint64_t total_parameters, total_bytes; /* as model.safetensors.index.json has them */
    uint64_t read_bytes;                    /* of the source, for progress */
    const we_json *config;
} we_plan;

/** Decide everything before anything is written.
 * Errors: WE_E_UNSUPPORTED (FP8 and foreign packings; quantized already; rows of absurd length), WE_E_FORMAT, WE_E_NOMEM. */
we_status we_plan_init(we_plan *plan, const we_source *source, const we_convert_job *job, we_error *err);
void we_plan_deinit(we_plan *plan);

/* ---- Pieces ---- */

typedef struct we_chunk_scratch { /* of one thread; zeroed is empty */
    uint8_t *in[3], *out[3];
    size_t in_bytes[3], out_bytes[3];
    float *values;
    size_t n_values;
} we_chunk_scratch;

typedef struct we_chunk_counts { /* what was seen among the values */
    uint64_t n_nan, n_inf;
} we_chunk_counts;

/** Rows that a piece of this item has at most. */
int64_t we_chunk_rows(const we_plan_item *item);
/** Read rows [first, first + n) of an item and compute its parts.
 * out: [n_parts], borrowed from the scratch or the source until the next call; the bytes follow from plan and rows. */
we_status we_chunk_compute(const we_source *source, const we_plan_item *item, int64_t first, int64_t n,
                           we_chunk_scratch *scratch, const uint8_t *out[3], we_chunk_counts *counts, we_error *err);
/** Rows [first, first + n) of an item to be quantized, as float32 rounded to the item's type.
 * values: out, [n, cols], borrowed from the scratch until the next call. */
we_status we_chunk_values(const we_source *source, const we_plan_item *item, int64_t first, int64_t n,
                          we_chunk_scratch *scratch, const float **values, we_error *err);
void we_chunk_scratch_deinit(we_chunk_scratch *scratch);
/** Bytes of one row of a part. */
uint64_t we_part_row_bytes(const we_plan_item *item, const we_part *part);

/* ---- Quantizing for given inputs (refine.c) ---- */

typedef struct we_hessian we_hessian; /* X^T X of the inputs of one matrix, or of several that read the same */
typedef struct we_refiner we_refiner; /* quantizes rows for it, on all threads of a pool */

/** Of inputs with n columns, n % 32 == 0; NULL when memory is out. */
we_hessian *we_hessian_new(int64_t n);
void we_hessian_free(we_hessian *h);
/** What one takes when it is finished, without its threads' scratch. */
uint64_t we_hessian_bytes(int64_t n);
/** Add rows of inputs [n_rows, n], n_rows <= 128; scratch: we_hessian_scratch(n) floats. */
void we_hessian_add(we_hessian *h, we_pool *pool, const float *x, size_t n_rows, float *scratch);
size_t we_hessian_scratch(int64_t n);
/** All is added: make it ready for groups of this size. name: for messages.
 * Errors: WE_E_NOMEM, WE_E_FORMAT (inputs that are not finite). */
we_status we_hessian_finish(we_hessian *h, we_pool *pool, int group_size, const char *name, we_error *err);

/** Affine packings of this size, scales and biases stored as dtype; NULL when memory is out. */
we_refiner *we_refiner_new(we_pool *pool, const we_hessian *h, we_quant quant, we_dtype dtype);
void we_refiner_free(we_refiner *r);
/** Rows [n_rows, n] to packed rows, as we_quant_row lays them out, one behind the other. */
void we_refiner_run(we_refiner *r, const float *rows, int64_t n_rows, uint8_t *data, uint8_t *scales, uint8_t *biases);

/* ---- Quantizing with a text in view (calibrate.c) ---- */

typedef struct we_calibration we_calibration;

/** Quantize all that `plan` would quantize, with job->calibrate in view, to no more bits than it plans for the whole.
 * source : its name is a folder or file that we_decoder_open takes; source and plan are not needed afterwards.
 * Errors : WE_E_FORMAT (the text: empty, not UTF-8, too short; weights that are no numbers), those of we_decoder_open, WE_E_CANCELLED. */
we_status we_calibrate(we_calibration **out, const we_source *source, const we_convert_job *job, const we_plan *plan,
                       we_error *err);
void we_calibration_free(we_calibration *calibration); /* NULL is allowed */
/** A matrix packed, by its name without ".weight"; NULL: none. Borrowed. */
const we_matrix *we_calibration_find(const we_calibration *calibration, we_str name);

/* ---- The target (target.c) ---- */

typedef struct we_target { /* a folder that comes into being beside its final place; zeroed is none */
    char *path;            /* where it will be */
    char *beside;          /* where it is made: ".NAME.PID.tmp" in the same folder */
    char *made_parent;     /* the first parent that had to be made, or NULL */
    int lock;              /* keeps others from taking `beside` for left over; -1: none */
    bool replaces;         /* `path` exists */
    bool begun, finished;
} we_target;

/** Refuse what may not be overwritten; nothing is made yet. source: a folder that the target must not be, or NULL. */
we_status we_target_init(we_target *target, const char *path, bool overwrite, const char *source, we_error *err);
/** WE_E_IO where the disk has less room than `bytes`. */
we_status we_target_check_room(const we_target *target, uint64_t bytes, we_error *err);
/** Make the folder beside, and remove those that dead processes left there. */
we_status we_target_begin(we_target *target, we_error *err);
/** All is written and synced: put it in its place, and remove what was there. */
we_status we_target_finish(we_target *target, we_error *err);
/** Free; what was begun and not finished is removed. */
void we_target_deinit(we_target *target);

/* ---- Writing (write.c) ---- */

/** Would the engine bind the model in a folder: are all tensors there, in the shapes that config.json says? Nothing is read.
 * A model that the engine does not run for another reason is only warned of. `shown`: what messages call the folder.
 * Errors: WE_E_FORMAT (a tensor is missing or has another shape), WE_E_NOMEM. */
we_status we_convert_check(const char *dir, const char *shown, we_error *err);

/** Plan, check the room on the disk, write beside, rename. Both ways into convert/ end here.
 * Errors: WE_E_ARG (the target exists and `overwrite` is not set, or is no model folder), WE_E_IO (no space, no permission),
 *         WE_E_CANCELLED, those of we_plan_init and of the source. The earlier state stays on every failure. */
we_status we_convert_write(const we_source *source, const we_convert_job *job, const char *target,
                           we_convert_result *result, we_error *err);

#endif
