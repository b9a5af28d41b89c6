/* SPDX-License-Identifier: Apache-2.0
 * tap.c - a device that shows what its linear ops read: all ops go to another device, and before each product the step is
 * ended there, the input is read, and a new step is begun. Nothing but what device.h allows is asked of the other device, so
 * any device can be tapped; what is not tapped pays nothing.
 *
 * Slower than the other device by a step for each product: for calibration, not for answers. */
#include "device/device_int.h"

#include <assert.h>

typedef struct tap {
    we_device base; /* first */
    we_device *inner;
    we_tap_fn fn;
    void *user;
    const we_batch *batch;   /* of the step that runs */
    we_batch rest;           /* the same, once it was ended in between */
    const we_tensor *picked; /* what take_rows wrote last in this step, and how many rows */
    int64_t n_picked;
    we_error error; /* the first failure of the step */
} tap;

static tap *tap_of(we_device *d) { return (tap *)d; }
static we_device *inner_of(we_device *d) { return tap_of(d)->inner; }

/* ---- Storage: the other device's ---- */

static we_status weight_new(we_device *d, const we_matrix *m, we_tensor **out, we_error *err)
{
    return inner_of(d)->ops->weight_new(inner_of(d), m, out, err);
}
static we_status tensor_new(we_device *d, int64_t max_rows, int64_t cols, we_tensor **out, we_error *err)
{
    return inner_of(d)->ops->tensor_new(inner_of(d), max_rows, cols, out, err);
}
static we_status ids_new(we_device *d, int64_t max_rows, we_tensor **out, we_error *err)
{
    return inner_of(d)->ops->ids_new(inner_of(d), max_rows, out, err);
}
static void tensor_free(we_device *d, we_tensor *t) { inner_of(d)->ops->tensor_free(inner_of(d), t); }
static we_status rope_new(we_device *d, const float *inv_freq, int dims, bool interleaved, float scale, we_rope **out,
                          we_error *err)
{
    return inner_of(d)->ops->rope_new(inner_of(d), inv_freq, dims, interleaved, scale, out, err);
}
static void rope_free(we_device *d, we_rope *rope) { inner_of(d)->ops->rope_free(inner_of(d), rope); }
static void write_ids(we_device *d, we_tensor *ids, const int32_t *values, int64_t n)
{
    inner_of(d)->ops->write_ids(inner_of(d), ids, values, n);
}
static const void *read(we_device *d, const we_tensor *t, we_error *err)
{
    return inner_of(d)->ops->read(inner_of(d), t, err);
}
static we_status weight_fetch(we_device *d, we_tensor *t, bool precise, we_error *err)
{
    const we_device_ops *ops = inner_of(d)->ops;
    return ops->weight_fetch ? ops->weight_fetch(inner_of(d), t, precise, err) : WE_OK;
}
static void unloaded(we_device *d)
{
    if (inner_of(d)->ops->unloaded) inner_of(d)->ops->unloaded(inner_of(d));
}
static void memory(we_device *d, we_device_memory *out)
{
    *out = (we_device_memory){ 0 };
    if (inner_of(d)->ops->memory) inner_of(d)->ops->memory(inner_of(d), out);
}
static we_status kv_new(we_device *d, const we_kv_spec *spec, we_kv **out, we_error *err)
{
    return inner_of(d)->ops->kv_new(inner_of(d), spec, out, err);
}
static void kv_free(we_device *d, we_kv *kv) { inner_of(d)->ops->kv_free(inner_of(d), kv); }
static we_status kv_reserve(we_device *d, we_kv *kv, int64_t length, int64_t n, we_error *err)
{
    return inner_of(d)->ops->kv_reserve(inner_of(d), kv, length, n, err);
}
static bool kv_trim(we_device *d, we_kv *kv, int64_t n) { return inner_of(d)->ops->kv_trim(inner_of(d), kv, n); }
static we_status kv_copy(we_device *d, const we_kv *kv, we_kv **out, we_error *err)
{
    return inner_of(d)->ops->kv_copy(inner_of(d), kv, out, err);
}
static uint64_t kv_bytes(we_device *d, const we_kv *kv) { return inner_of(d)->ops->kv_bytes(inner_of(d), kv); }
static uint64_t kv_bytes_needed(we_device *d, const we_kv_spec *spec, int64_t n_positions)
{
    return inner_of(d)->ops->kv_bytes_needed(inner_of(d), spec, n_positions);
}

/* ---- Steps ---- */

static void begin(we_device *d, const we_batch *batch)
{
    tap *t = tap_of(d);
    t->batch = batch;
    t->picked = NULL;
    t->error = (we_error){ 0 };
    t->inner->ops->begin(t->inner, batch);
}

static we_status end(we_device *d, we_error *err)
{
    tap *t = tap_of(d);
    const we_status st = t->inner->ops->end(t->inner, err);
    if (t->error.status && err) *err = t->error;
    return t->error.status ? t->error.status : st;
}

static void linear(we_device *d, const we_linear *l, int n, const we_tensor *x)
{
    tap *t = tap_of(d);
    const we_device_ops *ops = t->inner->ops;
    we_error why = { 0 };
    if (ops->end(t->inner, &why) && !t->error.status) t->error = why;
    const float *rows = t->error.status ? NULL : ops->read(t->inner, x, &t->error);
    const bool go_on = !rows || t->fn(t->user, l, n, rows, x == t->picked ? t->n_picked : t->batch->n_rows);
    t->rest = *t->batch;
    t->rest.goes_on = true;
    ops->begin(t->inner, &t->rest);
    if (go_on) ops->linear(t->inner, l, n, x);
}

/* ---- The other ops ---- */

static void embed(we_device *d, we_tensor *out, const we_tensor *table, const we_tensor *ids, float scale)
{
    inner_of(d)->ops->embed(inner_of(d), out, table, ids, scale);
}
static void rms_norm(we_device *d, we_tensor *out, const we_tensor *x, const we_tensor *weight, int width, float eps,
                     float offset)
{
    inner_of(d)->ops->rms_norm(inner_of(d), out, x, weight, width, eps, offset);
}
static void rope(we_device *d, we_tensor *x, const we_rope *r, int n_heads, int head_dim)
{
    inner_of(d)->ops->rope(inner_of(d), x, r, n_heads, head_dim);
}
static void kv_append(we_device *d, int layer, const we_tensor *k, const we_tensor *v)
{
    inner_of(d)->ops->kv_append(inner_of(d), layer, k, v);
}
static void attend(we_device *d, we_tensor *out, const we_tensor *q, const we_attend *spec)
{
    inner_of(d)->ops->attend(inner_of(d), out, q, spec);
}
static void glu(we_device *d, we_tensor *gate, const we_tensor *up, we_activation act)
{
    inner_of(d)->ops->glu(inner_of(d), gate, up, act);
}
static void add(we_device *d, we_tensor *x, const we_tensor *y) { inner_of(d)->ops->add(inner_of(d), x, y); }
static void take_rows(we_device *d, we_tensor *out, const we_tensor *x, const int32_t *rows, int n)
{
    tap_of(d)->picked = out;
    tap_of(d)->n_picked = n;
    inner_of(d)->ops->take_rows(inner_of(d), out, x, rows, n);
}
static void sample(we_device *d, we_tensor *ids, const we_tensor *logits, const we_sample_spec *specs)
{
    inner_of(d)->ops->sample(inner_of(d), ids, logits, specs);
}

static void measure(we_device *d, we_limits *out) { inner_of(d)->ops->measure(inner_of(d), out); }
static void close(we_device *d) { we_free(d); }

static const we_device_ops tap_ops = {
    .name = "tap",
    .weight_new = weight_new,
    .weight_fetch = weight_fetch,
    .tensor_new = tensor_new,
    .ids_new = ids_new,
    .tensor_free = tensor_free,
    .rope_new = rope_new,
    .rope_free = rope_free,
    .write_ids = write_ids,
    .read = read,
    .unloaded = unloaded,
    .memory = memory,
    .kv_new = kv_new,
    .kv_free = kv_free,
    .kv_reserve = kv_reserve,
    .kv_trim = kv_trim,
    .kv_copy = kv_copy,
    .kv_bytes = kv_bytes,
    .kv_bytes_needed = kv_bytes_needed,
    .begin = begin,
    .end = end,
    .embed = embed,
    .linear = linear,
    .rms_norm = rms_norm,
    .rope = rope,
    .kv_append = kv_append,
    .attend = attend,
    .glu = glu,
    .add = add,
    .take_rows = take_rows,
    .sample = sample,
    .measure = measure,
    .close = close,
};
static_assert(sizeof(we_device_ops) == 34 * sizeof(void *),
              "a new op has to be passed on here too"); /* but gated, whose linears would not be seen */

we_status we_tap_open(we_device **out, we_device *inner, we_tap_fn fn, void *user, we_error *err)
{
    *out = NULL;
    tap *t = we_calloc(1, sizeof *t);
    if (!t) return we_fail(err, WE_E_NOMEM, "no memory for a tapped device");
    t->base.ops = &tap_ops; /* memory is counted in the inner device's budget */
    t->base.kernels = inner->kernels;
    t->base.n_threads = inner->n_threads;
    t->base.step_rows = inner->step_rows;
    t->inner = inner;
    t->fn = fn;
    t->user = user;
    *out = &t->base;
    return WE_OK;
}
