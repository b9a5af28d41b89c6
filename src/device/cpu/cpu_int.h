/* SPDX-License-Identifier: Apache-2.0
 * cpu_int.h - what the files of the CPU device share: the device itself, its tensors, and how work is spread over threads.
 * cpu.c: storage, steps and the simple ops; linear.c: products with weights, ggml.c: those in ggml's blocks; attend.c: attention; kv.c: the cache's pages;
 * sample.c: choosing a token; limits.c: what the machine gives at most. */
#ifndef WE_CPU_INT_H
#define WE_CPU_INT_H

#include "device/cpu/kernels.h"
#include "device/device_int.h"

#include <pthread.h>
#include <stdatomic.h>

struct we_tensor {
    enum { WE_TENSOR_WEIGHT, WE_TENSOR_FLOATS, WE_TENSOR_IDS } kind;
    int64_t rows, cols, max_rows; /* rows: set by the op that writes */
    we_matrix matrix;             /* WEIGHT: the bytes are the caller's */
    float *f;                     /* FLOATS, and the float32 copy of a WEIGHT that is a vector (norms, biases) */
    int32_t *ids;                 /* IDS */
};

struct we_rope {
    we_rope *next; /* in the device's list */
    int dims;
    bool interleaved;
    float scale;
    float *cos_sin; /* of this step: [rows, dims / 2] cosines, then sines, each times scale; NULL until begin */
    int64_t max_rows;
    uint64_t step; /* that cos_sin was filled in */
    float inv_freq[];
};

typedef struct we_cpu {
    we_device base; /* first */
    we_cpu_kernels k;
    we_pool *pool;
    struct we_cpu_run *runs; /* one for each thread: we_cpu_for_runs */

    /* The largest that anything needs. Handles are made by any thread, also during another's step: hence atomic, and read
     * when the next step begins. */
    _Atomic int64_t max_cols;      /* of a weight */
    _Atomic int64_t max_ggml_cols; /* of one in ggml's blocks; 0: there is none */
    _Atomic int64_t max_head_dim;  /* of a cache */
    _Atomic int64_t max_logits;    /* columns of a tensor */
    pthread_mutex_t ropes_lock;
    we_rope *ropes;

    /* The step that runs; its thread holds step_lock from begin to end. */
    pthread_mutex_t step_lock;
    const we_batch *batch;
    uint64_t step;
    we_error error; /* the first failure of the step; ops do nothing after it */

    /* Scratch: grown in begin only. */
    uint8_t *thread_scratch; /* n_threads pieces */
    size_t thread_scratch_bytes;
    size_t ggml_panel; /* where ggml.c's part of a piece begins */
    we_q8 q8;          /* the rounded input of a product, in q8_bytes */
    uint8_t *q8_bytes;
    size_t q8_size;
    const we_tensor *gated_of; /* what gated wrote: its tiles are in `gated`, itself holds nothing; NULL: none */
    we_q8 gated;
    uint8_t *gated_bytes;
    size_t gated_size;
    float *partials; /* of an attention split over its context */
    size_t partials_bytes;
    uint8_t *sample_scratch; /* sample.c */
    size_t sample_bytes;
} we_cpu;

static inline we_cpu *we_cpu_of(we_device *d) { return (we_cpu *)d; }
static inline bool we_cpu_failed(const we_cpu *d) { return d->error.status != WE_OK; }
/* The first failure of a step sticks until end(). */
void we_cpu_fail(we_cpu *d, we_status status, const char *format, ...) WE_PRINTF(3, 4);
/* An op writes `rows` rows of a tensor. */
static inline void we_cpu_writes(we_cpu *d, we_tensor *out, int64_t rows)
{
    out->rows = rows;
    if (d->gated_of == out) d->gated_of = NULL;
}
static inline void *we_cpu_scratch(we_cpu *d, int thread)
{
    return d->thread_scratch + (size_t)thread * d->thread_scratch_bytes;
}

/* *most = max(*most, value) */
static inline void we_cpu_raise(_Atomic int64_t *most, int64_t value)
{
    int64_t seen = atomic_load(most);
    while (seen < value && !atomic_compare_exchange_weak(most, &seen, value)) continue;
}

/* Call fn for pieces [begin, end) of [0, n), each at most `piece` long, on all threads; they take the next piece when they
 * are done with one, so that all end together. One piece runs at once, without waking the others. */
typedef void (*we_cpu_fn)(void *arg, int64_t begin, int64_t end, int thread);
void we_cpu_for(we_cpu *d, int64_t n, int64_t piece, we_cpu_fn fn, void *arg);
/* The same for what is read from memory in order: each thread has a run of its own, takes a part of what is left of it, at least
 * `piece`, and helps the others when it is through. */
void we_cpu_for_runs(we_cpu *d, int64_t n, int64_t piece, we_cpu_fn fn, void *arg);

/* ---- linear.c, attend.c, sample.c: ops, and the scratch they want for a batch ---- */
void we_cpu_linear(we_device *d, const we_linear *l, int n, const we_tensor *x);
bool we_cpu_gated(we_device *d, const we_linear l[2], const we_tensor *x, we_activation act, const we_tensor *reader);
size_t we_cpu_linear_scratch_bytes(const we_cpu *d, int64_t n_rows, int64_t cols); /* for each thread */
void we_cpu_attend(we_device *d, we_tensor *out, const we_tensor *q, const we_attend *spec);
size_t we_cpu_attend_scratch_bytes(const we_cpu *d); /* for each thread */
size_t we_cpu_attend_partials_bytes(const we_cpu *d);
void we_cpu_sample(we_device *d, we_tensor *ids, const we_tensor *logits, const we_sample_spec *specs);
size_t we_cpu_sample_bytes(int64_t n_logits);

/* ---- limits.c ---- */
void we_cpu_measure(we_device *d, we_limits *out);

/* ---- ggml.c: fast products with ggml's blocks. panel: we_cpu_ggml_scratch_bytes, aligned to 64 ---- */
bool we_cpu_ggml_takes(const we_matrix *w);
size_t we_cpu_ggml_scratch_bytes(int64_t cols);
void we_cpu_ggml_linear(const we_cpu_kernels *k, const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x,
                        int64_t n, float *y, int64_t y_stride, bool add, void *scratch, uint8_t *panel);

/* ---- kv.c ---- */
#define WE_KV_PAGE 256 /* positions that are allocated and shared together */

typedef struct we_kv_page we_kv_page;
typedef struct we_kv_store { /* one layer */
    we_kv_layer shape;
    size_t page_bytes;
    we_kv_page **pages; /* [capacity]; NULL: dropped, or not there yet */
    int64_t capacity;
    int64_t first; /* pages before it were dropped by the window */
} we_kv_store;

struct we_kv {
    int bits, n_layers;
    we_kv_store layers[];
};

we_status we_cpu_kv_new(we_device *d, const we_kv_spec *spec, we_kv **out, we_error *err);
void we_cpu_kv_free(we_device *d, we_kv *kv);
we_status we_cpu_kv_reserve(we_device *d, we_kv *kv, int64_t length, int64_t n, we_error *err);
bool we_cpu_kv_trim(we_device *d, we_kv *kv, int64_t n);
we_status we_cpu_kv_copy(we_device *d, const we_kv *kv, we_kv **out, we_error *err);
uint64_t we_cpu_kv_bytes(we_device *d, const we_kv *kv);
uint64_t we_cpu_kv_bytes_needed(we_device *d, const we_kv_spec *spec, int64_t n_positions);

/* Whether positions [begin, end) of a layer have their pages. */
bool we_kv_has(const we_kv *kv, int layer, int64_t begin, int64_t end);
/* Keys or values of one head in one block. 32 and 16 bits: keys lie transposed, [head_dim, WE_KV_BLOCK], values as
 * [WE_KV_BLOCK, head_dim]: both are then the right-hand side of a product, and no sum runs across a vector. */
const void *we_kv_block(const we_kv *kv, int layer, int64_t index, int head, bool values);
/* The same of 8 or 4 bits. */
we_kv_codes we_kv_codes_of(const we_kv *kv, int layer, int64_t index, int head, bool values);
/* Write one position: keys and values [n_kv_heads * head_dim]. */
void we_kv_write(const we_cpu_kernels *k, we_kv *kv, int layer, int64_t position, const float *keys,
                 const float *values);

#endif
