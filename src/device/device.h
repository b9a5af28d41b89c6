/* SPDX-License-Identifier: Apache-2.0
 * device.h - the op set: what a machine must be able to do so that the architecture pages (model/arch/) run on it, and the
 * storage of KV caches. Devices: cpu/ (reference, AVX2, AVX-512, NEON), mlx/ (Apple's MLX, a plugin); tap.c stands before another
 * one. Architectures are not known here.
 *
 * How a step runs:
 *
 *     begin(batch)  op op op ... op  end()          between steps only: kv_reserve, kv_trim, tensor_new, read
 *
 * Tensors are handles; no caller sees their bytes but through write_ids and read. Ops return nothing, never call back and
 * are never read in the middle of a step, so a device may run them at once (CPU threads), record and replay them (CUDA
 * graphs), or build them lazily (MLX). What fails inside a step sticks, and end() tells it. A chosen token feeds the next
 * step through its tensor (`sample` writes what `embed` reads) without passing the host.
 *
 * Activations are float32 matrices [rows, cols]; rows is set by the op that writes (embed: one for each id; the others: as
 * their input). A batch holds several sequences (spans of rows); one user is a batch of one.
 *
 * Each op's meaning is its plain version in cpu/ref.c. Sources of the formulas stand there.
 *
 * Threads: a device runs one step at a time; begin waits for the step of another thread to end. Everything else that
 * takes a we_kv or a we_tensor belongs to the thread that owns the session. */
#ifndef WE_DEVICE_H
#define WE_DEVICE_H

#include "quant/quant.h"

typedef struct we_device we_device;
typedef struct we_tensor we_tensor; /* weights, activations, ids: a device's handle */
typedef struct we_rope we_rope;     /* a rotary embedding's frequencies, on the device */
typedef struct we_kv we_kv;         /* the keys and values of one sequence, all layers */

/* ---- What ops take ---- */

/* Rows first .. first + n - 1 of the batch are the next n tokens of one sequence, at `position` and after. */
typedef struct we_span {
    we_kv *kv;
    int32_t first, n;
    int32_t position;
} we_span;

typedef struct we_batch {
    const we_span *spans; /* in order of rows, no gaps, no sequence twice */
    int32_t n_spans, n_rows;
    bool precise; /* float32 throughout: no rounding of activations */
    bool goes_on; /* the step before was ended in the middle: what it wrote is still wanted */
} we_batch;

/* out = x W^T + bias, or out += when `add`. Several at once share one pass over x. out is [rows of x, rows of W]. */
typedef struct we_linear {
    we_tensor *out;
    const we_tensor *weight; /* plain or packed */
    const we_tensor *bias;   /* NULL: none */
    bool add;
} we_linear;

typedef enum we_activation { WE_ACT_SILU, WE_ACT_GELU, WE_ACT_GELU_TANH } we_activation;

#define WE_MAX_QUERY_GROUP 256 /* query heads for one KV head at most: what scratch is made for */

typedef struct we_attend {
    int layer;
    int n_heads, n_kv_heads, head_dim; /* query head h reads KV head h / (n_heads / n_kv_heads) */
    float scale;                       /* on q.k */
    int window;                        /* 0: all; else the token itself and window - 1 before it */
    int last; /* 0: all rows; else a span's last rows: what the others get is nobody's concern */
} we_attend;

/* How one token is drawn from one row of logits. Order: penalty on the logits of the distinct ids in `recent` (divided where
 * positive, else multiplied); log-softmax; top-p, then min-p, then top-k, each on what is left, at temperature 1; then one
 * draw from softmax(left / temperature) by u = we_uniform(seed, counter), going through the ids in ascending order.
 * temperature 0: the highest logit, the lowest id among equals. */
typedef struct we_sample_spec {
    float temperature, top_p, min_p; /* off: top_p 0 or >= 1, min_p 0 */
    int32_t top_k;                   /* off: 0 */
    float repetition_penalty;        /* off: 0 or 1 */
    const int32_t *recent;           /* [n_recent], borrowed until end() */
    int32_t n_recent;
    uint64_t seed, counter;
} we_sample_spec;

/* A number in [0, 1) that depends on (seed, counter) only and is the same on every device: splitmix64 of both. */
double we_uniform(uint64_t seed, uint64_t counter);

/* Keys and values of one layer: n_kv_heads heads of head_dim each. */
typedef struct we_kv_layer {
    int n_kv_heads, head_dim;
    int window; /* 0: keep all; else positions that no later token can see may be dropped */
} we_kv_layer;

typedef struct we_kv_spec {
    const we_kv_layer *layers; /* [n_layers], copied */
    int n_layers;
    int bits; /* 32, 16, 8 or 4 for each number */
} we_kv_spec;

/* Of a device that does not use the system's memory as everybody does. */
typedef struct we_device_memory {
    uint64_t limit_bytes, active_bytes, cached_bytes; /* cached: freed, and kept for the next */
    uint64_t peak_bytes;                              /* the most that was active since the device was opened */
    uint64_t available_bytes;                         /* for a model; 0: the system knows */
} we_device_memory;

/* ---- The device ---- */

typedef struct we_device_ops {
    const char *name; /* "cpu" */

    /* Storage. Handles are freed by their free function, before the device; NULL is allowed there. */
    we_status (*weight_new)(we_device *d, const we_matrix *m, we_tensor **out, we_error *err); /* borrows m's bytes */
    /* NULL: ops read the borrowed bytes themselves. Else called once for each weight before the first step: bring its bytes to
     * where ops read them; the borrowed ones are not read after it. */
    we_status (*weight_fetch)(we_device *d, we_tensor *t, bool precise, we_error *err);
    we_status (*tensor_new)(we_device *d, int64_t max_rows, int64_t cols, we_tensor **out, we_error *err);
    we_status (*ids_new)(we_device *d, int64_t max_rows, we_tensor **out, we_error *err); /* int32 token ids */
    void (*tensor_free)(we_device *d, we_tensor *t);
    /* inv_freq[dims / 2]: radians per position; the first `dims` of a head are rotated, (i, i + dims/2) paired, or (2i, 2i + 1)
     * when interleaved; what is rotated is also multiplied by `scale`. */
    we_status (*rope_new)(we_device *d, const float *inv_freq, int dims, bool interleaved, float scale, we_rope **out,
                          we_error *err);
    void (*rope_free)(we_device *d, we_rope *rope);
    void (*write_ids)(we_device *d, we_tensor *ids, const int32_t *values, int64_t n);
    /* All rows of a tensor (float32 or int32) on the host, once they are computed; borrowed until the tensor is written again.
     * NULL: the device failed (one that runs behind tells it here). */
    const void *(*read)(we_device *d, const we_tensor *t, we_error *err);
    void (*unloaded)(we_device *d);                      /* a model is gone: give back what is kept; NULL: nothing is */
    void (*memory)(we_device *d, we_device_memory *out); /* NULL: the system's */

    /* KV caches. Lengths are the caller's: a span's position says where its rows go. */
    we_status (*kv_new)(we_device *d, const we_kv_spec *spec, we_kv **out, we_error *err);
    void (*kv_free)(we_device *d, we_kv *kv);
    /* Room for positions [0, n) where [0, length) are filled and [length, n) will be written next. Does not copy what is
     * there, but for the one page that a copy shares. */
    we_status (*kv_reserve)(we_device *d, we_kv *kv, int64_t length, int64_t n, we_error *err);
    /* Forget positions >= n. False (nothing changed) where a window has already dropped what a token at n would see. */
    bool (*kv_trim)(we_device *d, we_kv *kv, int64_t n);
    /* A second cache with the same content, for a snapshot: shares pages. */
    we_status (*kv_copy)(we_device *d, const we_kv *kv, we_kv **out, we_error *err);
    uint64_t (*kv_bytes)(we_device *d, const we_kv *kv); /* held now */
    uint64_t (*kv_bytes_needed)(we_device *d, const we_kv_spec *spec,
                                int64_t n_positions); /* by a cache of that length */

    /* A step. */
    void (*begin)(we_device *d, const we_batch *batch); /* the batch is borrowed until end() */
    we_status (*end)(we_device *d, we_error *err);

    /* Ops. x, y, out may be the same tensor only where it is said. */
    void (*embed)(we_device *d, we_tensor *out, const we_tensor *table, const we_tensor *ids, float scale);
    void (*linear)(we_device *d, const we_linear *l, int n, const we_tensor *x);
    /* Over each group of `width` neighbours of a row (0: the whole row): out = x / sqrt(mean(x^2) + eps) * (weight + offset).
     * out may be x. */
    void (*rms_norm)(we_device *d, we_tensor *out, const we_tensor *x, const we_tensor *weight, int width, float eps,
                     float offset);
    void (*rope)(we_device *d, we_tensor *x, const we_rope *rope, int n_heads, int head_dim); /* in place */
    /* Write the batch's keys and values [rows, n_kv_heads * head_dim] to their sequences' caches. */
    void (*kv_append)(we_device *d, int layer, const we_tensor *k, const we_tensor *v);
    /* Causal attention of q [rows, n_heads * head_dim] over its sequences' caches, the batch's own tokens included. */
    void (*attend)(we_device *d, we_tensor *out, const we_tensor *q, const we_attend *spec);
    void (*glu)(we_device *d, we_tensor *gate, const we_tensor *up, we_activation act); /* gate = act(gate) * up */
    /* Two linears, l[0] the gate's and l[1] the other's, and glu, as one op. Read by nothing but a linear with the weight `reader`,
     * the gate's tensor may hold the result in a form of the device's own; the other's need not be written. False: nothing was
     * done, here they are worth no op of their own; NULL: always so. */
    bool (*gated)(we_device *d, const we_linear l[2], const we_tensor *x, we_activation act, const we_tensor *reader);
    void (*add)(we_device *d, we_tensor *x, const we_tensor *y); /* x += y */
    /* Rows of x, one behind the other. out may be x where they ascend. */
    void (*take_rows)(we_device *d, we_tensor *out, const we_tensor *x, const int32_t *rows, int n);
    void (*sample)(we_device *d, we_tensor *ids, const we_tensor *logits,
                   const we_sample_spec *specs); /* a spec a row */

    /* What the machine gives at most, measured on all threads between two steps: some 0.15 s. out->size is the caller's. */
    void (*measure)(we_device *d, we_limits *out);

    void (*close)(we_device *d);
} we_device_ops;

/* A device begins with this; what follows is its own. */
/* What may be held at once. Weights and scratch are counted by the model, pages of caches by the device. */
typedef struct we_budget {
    uint64_t limit; /* 0: none */
    _Atomic uint64_t used;
} we_budget;
/** Count bytes that are about to be taken; false, and nothing is counted, where they exceed the limit. Any thread. */
bool we_budget_take(we_budget *budget, uint64_t bytes);
void we_budget_give(we_budget *budget, uint64_t bytes);

#define WE_STEP_ROWS_MOST 2048

struct we_device {
    const we_device_ops *ops;
    const char *kernels; /* the instruction set in use: "avx512bf16"; "metal" */
    const char *detail;  /* "MLX 0.32.4 on Apple M3"; NULL: nothing to add */
    int n_threads;
    int step_rows;    /* of a step at most, for speed: at most WE_STEP_ROWS_MOST */
    bool runs_behind; /* end() does not wait for what was begun; read() does */
    we_budget budget;
};

typedef struct we_device_options {
    const char *device;          /* NULL or "auto", "mlx", "cpu" */
    const char *kernels;         /* NULL: the best of this CPU; only the CPU has a choice */
    int threads;                 /* 0: every core this process may use */
    uint64_t memory_limit_bytes; /* of weights, scratch and KV caches together; 0: none */
} we_device_options;

/** Open a device by name. Errors: WE_E_UNSUPPORTED (lists the names this build and machine have), WE_E_ARG, WE_E_NOMEM. */
we_status we_device_open(we_device **out, const we_device_options *options, we_error *err);
void we_device_close(we_device *d); /* NULL is allowed */

/* Called before each `linear` with its input, float32 [n_rows, cols of the weights], borrowed for the call. False: leave the
 * product out (what it would write stays as it is). */
typedef bool (*we_tap_fn)(void *user, const we_linear *l, int n, const float *x, int64_t n_rows);

/** A device that does what `inner` does and shows what its products read. inner must outlive it; handles are inner's own.
 * Errors: WE_E_NOMEM. */
we_status we_tap_open(we_device **out, we_device *inner, we_tap_fn fn, void *user, we_error *err);

/** C[m, n] += A[m, k] B[k, n], rows lda, ldb and ldc elements apart: float32 on the caller's thread, at once, by the best kernel of
 * this CPU. For the house's own arithmetic (calibration); models run in steps. */
void we_host_mul_add(const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                     int64_t n, int64_t k);

#endif
