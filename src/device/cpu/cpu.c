/* SPDX-License-Identifier: Apache-2.0
 * cpu.c - the CPU as a device: choosing kernels, handles, steps, spreading work over threads, and the ops that are one
 * simple pass over rows. The others: linear.c, attend.c, sample.c; the cache's pages: kv.c.
 *
 * Ops run at once. Within a step nothing is allocated: begin grows the scratch to what the batch and the largest weight can
 * need. A failure sticks in `error`, later ops return at once, and end() tells it. */
#include "device/cpu/cpu_int.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define STEP_ROWS 256 /* fewer unpack the weights more often; more gain nothing, their results leave the cache */

/* ---- Kernels ---- */

bool we_cpu_kernels_choose(const char *name, we_cpu_kernels *out)
{
    const we_cpu_kernels *const *t = we_cpu_kernel_tables;
    while (*t && !((!name || strcmp(name, (*t)->name) == 0) && (*t)->supported())) t++;
    if (!*t) return false;
    *out = **t;
    while (*++t) { /* simpler ones fill what is missing; one that this CPU lacks is no simpler one */
        if (!(*t)->supported()) continue;
#define FILL(entry) \
    if (!out->entry) out->entry = (*t)->entry
        FILL(row_f32);
        FILL(linear_f32);
        if (!out->linear_q8) { /* which they belong to */
            out->q8_tile = (*t)->q8_tile;
            out->q8_group = (*t)->q8_group;
            out->q8_join = (*t)->q8_join;
        }
        FILL(linear_q8);
        FILL(linear_ggml);
        FILL(linear_bf16);
        FILL(bf16_tile);
        FILL(q8_quantize);
        FILL(mul_f32);
        FILL(mul_f16);
        FILL(to_bf16);
        FILL(pairs_f16);
        FILL(attend_bf16);
        FILL(kv);
        FILL(to_f16);
        FILL(max);
        FILL(exp_sum);
        FILL(scale);
        FILL(add);
        FILL(rms_norm);
        FILL(silu_mul);
        FILL(gelu_tanh_mul);
        FILL(gelu_mul);
        FILL(dots);
#undef FILL
    }
    return true;
}

static we_status no_such_kernels(const char *name, we_error *err)
{
    char names[128] = "";
    for (const we_cpu_kernels *const *t = we_cpu_kernel_tables; *t; t++) {
        if (!(*t)->supported()) continue;
        const size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", len ? ", " : "", (*t)->name);
    }
    return we_fail(err, WE_E_UNSUPPORTED, "there are no kernels '%s' for this CPU; it runs: %s", name, names);
}

/* ---- Threads ---- */

typedef struct range {
    we_cpu *d;
    we_cpu_fn fn;
    void *arg;
    int64_t n, piece;
    _Atomic int64_t next;
} range;

static void run_range(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    range *r = arg;
    for (;;) {
        const int64_t begin = atomic_fetch_add_explicit(&r->next, r->piece, memory_order_relaxed);
        if (begin >= r->n) return;
        r->fn(r->arg, begin, WE_MIN(begin + r->piece, r->n), thread);
    }
}

void we_cpu_for(we_cpu *d, int64_t n, int64_t piece, we_cpu_fn fn, void *arg)
{
    assert(piece > 0);
    if (n <= piece) {
        if (n > 0) fn(arg, 0, n, 0);
        return;
    }
    range r = { .fn = fn, .arg = arg, .n = n, .piece = piece };
    atomic_init(&r.next, 0);
    we_pool_run(d->pool, run_range, &r);
}

struct we_cpu_run { /* on lines of its own */
    _Alignas(128) _Atomic int64_t next;
    int64_t end;
};
#define RUN_PART 4 /* of what is left of a run: little is left to wait for when one thread is late */

static void run_runs(void *arg, int thread, int n_threads)
{
    const range *r = arg;
    struct we_cpu_run *runs = r->d->runs;
    for (int i = 0; i < n_threads; i++) {
        struct we_cpu_run *run = &runs[(thread + i) % n_threads];
        int64_t at = atomic_load_explicit(&run->next, memory_order_relaxed);
        while (at < run->end) {
            const int64_t left = run->end - at, n = WE_MIN(WE_MAX(left / RUN_PART, r->piece), left);
            if (!atomic_compare_exchange_weak_explicit(&run->next, &at, at + n, memory_order_relaxed,
                                                       memory_order_relaxed))
                continue;
            r->fn(r->arg, at, at + n, thread);
            at = atomic_load_explicit(&run->next, memory_order_relaxed);
        }
    }
}

void we_cpu_for_runs(we_cpu *d, int64_t n, int64_t piece, we_cpu_fn fn, void *arg)
{
    assert(piece > 0);
    if (n <= piece) {
        if (n > 0) fn(arg, 0, n, 0);
        return;
    }
    const int64_t n_threads = d->base.n_threads;
    for (int64_t i = 0; i < n_threads; i++) {
        atomic_store_explicit(&d->runs[i].next, n * i / n_threads, memory_order_relaxed);
        d->runs[i].end = n * (i + 1) / n_threads;
    }
    range r = { .d = d, .fn = fn, .arg = arg, .n = n, .piece = piece };
    we_pool_run(d->pool, run_runs, &r);
}

/* Rows for one piece of a pass that touches `cols` numbers a row: waking threads costs as much as some 16,000 of them. */
static int64_t rows_a_piece(const we_cpu *d, int64_t rows, int64_t cols)
{
    const int64_t worth = WE_MAX(16384 / WE_MAX(cols, 1), 1);
    return WE_MAX(worth, rows / (d->base.n_threads * 8));
}

/* ---- Handles ---- */

static void tensor_free(we_device *d, we_tensor *t)
{
    (void)d;
    if (!t) return;
    we_free(t->f);
    we_free(t->ids);
    we_free(t);
}

static we_tensor *tensor_alloc(int kind, int64_t max_rows, int64_t cols)
{
    we_tensor *t = we_calloc(1, sizeof(*t));
    if (!t) return NULL;
    t->kind = kind;
    t->max_rows = max_rows;
    t->cols = cols;
    return t;
}

static bool size_fits(int64_t rows, int64_t cols)
{
    return rows > 0 && cols > 0 && cols <= INT32_MAX && rows <= INT32_MAX && rows <= INT64_MAX / 64 / cols;
}

static we_status weight_new(we_device *device, const we_matrix *m, we_tensor **out, we_error *err)
{
    *out = NULL;
    const bool plain = m->quant.mode == WE_QUANT_NONE,
               known = m->quant.mode == WE_QUANT_GGML || we_quant_valid(m->quant);
    if (!size_fits(m->rows, m->cols) || (!plain && (!known || m->cols % m->quant.group_size)))
        return we_fail(err, WE_E_UNSUPPORTED, "the CPU can't take a weight of %lld x %lld in groups of %d",
                       (long long)m->rows, (long long)m->cols, m->quant.group_size);
    we_tensor *t = tensor_alloc(WE_TENSOR_WEIGHT, m->rows, m->cols);
    if (!t) return we_fail(err, WE_E_NOMEM, "no memory for a weight's handle");
    t->matrix = *m;
    t->rows = m->rows;
    if (m->rows == 1) { /* norms and biases: a float32 copy is what their ops read */
        t->f = we_malloc((size_t)m->cols * sizeof(float));
        if (!t->f) {
            tensor_free(device, t);
            return we_fail(err, WE_E_NOMEM, "no memory for a vector of %lld", (long long)m->cols);
        }
        we_matrix_row_f32(m, 0, t->f);
    }
    we_cpu_raise(&we_cpu_of(device)->max_cols, m->cols);
    if (we_cpu_ggml_takes(m)) we_cpu_raise(&we_cpu_of(device)->max_ggml_cols, m->cols);
    *out = t;
    return WE_OK;
}

static we_status tensor_new(we_device *device, int64_t max_rows, int64_t cols, we_tensor **out, we_error *err)
{
    *out = NULL;
    if (!size_fits(max_rows, cols))
        return we_fail(err, WE_E_RANGE, "a tensor can't be %lld x %lld", (long long)max_rows, (long long)cols);
    we_tensor *t = tensor_alloc(WE_TENSOR_FLOATS, max_rows, cols);
    if (t) t->f = we_malloc_aligned(64, (size_t)max_rows * (size_t)cols * sizeof(float));
    if (!t || !t->f) {
        tensor_free(device, t);
        return we_fail(err, WE_E_NOMEM, "no memory for a tensor of %lld x %lld", (long long)max_rows, (long long)cols);
    }
    we_cpu_raise(&we_cpu_of(device)->max_logits, cols);
    *out = t;
    return WE_OK;
}

static we_status ids_new(we_device *d, int64_t max_rows, we_tensor **out, we_error *err)
{
    *out = NULL;
    if (!size_fits(max_rows, 1)) return we_fail(err, WE_E_RANGE, "there can't be %lld ids", (long long)max_rows);
    we_tensor *t = tensor_alloc(WE_TENSOR_IDS, max_rows, 1);
    if (t) t->ids = we_calloc((size_t)max_rows, sizeof(*t->ids));
    if (!t || !t->ids) {
        tensor_free(d, t);
        return we_fail(err, WE_E_NOMEM, "no memory for %lld ids", (long long)max_rows);
    }
    *out = t;
    return WE_OK;
}

static void write_ids(we_device *d, we_tensor *ids, const int32_t *values, int64_t n)
{
    (void)d;
    assert(ids->kind == WE_TENSOR_IDS && n >= 0 && n <= ids->max_rows);
    memcpy(ids->ids, values, (size_t)n * sizeof(*values));
    ids->rows = n;
}

static const void *read_rows(we_device *d, const we_tensor *t, we_error *err)
{
    (void)d, (void)err;
    return t->kind == WE_TENSOR_IDS ? (const void *)t->ids : t->f;
}

static we_status rope_new(we_device *device, const float *inv_freq, int dims, bool interleaved, float scale,
                          we_rope **out, we_error *err)
{
    *out = NULL;
    if (dims < 2 || dims % 2 || dims > 65536)
        return we_fail(err, WE_E_ARG, "a rotary embedding can't turn %d dimensions", dims);
    we_rope *rope = we_calloc(1, sizeof(*rope) + (size_t)(dims / 2) * sizeof(float));
    if (!rope) return we_fail(err, WE_E_NOMEM, "no memory for a rotary embedding");
    rope->dims = dims;
    rope->interleaved = interleaved;
    rope->scale = scale;
    memcpy(rope->inv_freq, inv_freq, (size_t)(dims / 2) * sizeof(float));
    we_cpu *d = we_cpu_of(device);
    pthread_mutex_lock(&d->ropes_lock);
    rope->next = d->ropes;
    d->ropes = rope;
    pthread_mutex_unlock(&d->ropes_lock);
    *out = rope;
    return WE_OK;
}

static void rope_free(we_device *device, we_rope *rope)
{
    if (!rope) return;
    we_cpu *d = we_cpu_of(device);
    pthread_mutex_lock(&d->ropes_lock);
    we_rope **link = &d->ropes;
    while (*link != rope) link = &(*link)->next;
    *link = rope->next;
    pthread_mutex_unlock(&d->ropes_lock);
    we_free(rope->cos_sin);
    we_free(rope);
}

/* ---- A step ---- */

void we_cpu_fail(we_cpu *d, we_status status, const char *format, ...)
{
    if (we_cpu_failed(d)) return;
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    we_fail(&d->error, status, "%s", text);
}

/* Grow a piece of scratch; its old content is not needed. */
static bool grow(void *pointer, size_t *have, size_t need)
{
    if (need <= *have) return true;
    uint8_t **p = pointer;
    we_free(*p);
    *p = we_malloc_aligned(128, need);
    *have = *p ? need : 0;
    return *p != NULL;
}

static bool grow_ropes(we_cpu *d, int64_t n_rows)
{
    bool ok = true;
    pthread_mutex_lock(&d->ropes_lock);
    for (we_rope *r = d->ropes; r && ok; r = r->next) {
        if (r->max_rows >= n_rows) continue;
        we_free(r->cos_sin);
        r->cos_sin = we_malloc_aligned(64, (size_t)n_rows * (size_t)r->dims * sizeof(float));
        r->max_rows = r->cos_sin ? n_rows : 0;
        r->step = 0;
        ok = r->cos_sin != NULL;
    }
    pthread_mutex_unlock(&d->ropes_lock);
    return ok;
}

static bool grow_scratch(we_cpu *d, int64_t n_rows)
{
    const int64_t cols = WE_MAX(atomic_load(&d->max_cols), 1), ggml_cols = atomic_load(&d->max_ggml_cols);
    size_t each = WE_MAX(we_cpu_linear_scratch_bytes(d, n_rows, cols), we_cpu_attend_scratch_bytes(d));
    each = (each + 127) / 128 * 128;
    d->ggml_panel = each;
    if (ggml_cols) each += (we_cpu_ggml_scratch_bytes(ggml_cols) + 127) / 128 * 128;
    if (each > d->thread_scratch_bytes) {
        size_t have = 0;
        we_free(d->thread_scratch);
        d->thread_scratch = NULL;
        d->thread_scratch_bytes = 0;
        if (!grow(&d->thread_scratch, &have, each * (size_t)d->base.n_threads)) return false;
        d->thread_scratch_bytes = each;
    }
    return grow(&d->q8_bytes, &d->q8_size, we_q8_bytes(n_rows, cols)) &&
           grow(&d->gated_bytes, &d->gated_size, d->k.q8_group || d->k.linear_bf16 ? we_q8_bytes(n_rows, cols) : 0) &&
           grow(&d->partials, &d->partials_bytes, we_cpu_attend_partials_bytes(d)) &&
           grow(&d->sample_scratch, &d->sample_bytes, we_cpu_sample_bytes(atomic_load(&d->max_logits))) &&
           grow_ropes(d, n_rows);
}

static void begin(we_device *device, const we_batch *batch)
{
    we_cpu *d = we_cpu_of(device);
    pthread_mutex_lock(&d->step_lock);
    d->batch = batch;
    d->gated_of = NULL;
    d->step++;
    d->error.status = WE_OK;
    if (batch->n_rows < 1 || batch->n_spans < 1)
        we_cpu_fail(d, WE_E_ARG, "a step without tokens");
    else if (!grow_scratch(d, batch->n_rows))
        we_cpu_fail(d, WE_E_NOMEM, "no memory for a step of %d tokens", batch->n_rows);
}

static we_status end(we_device *device, we_error *err)
{
    we_cpu *d = we_cpu_of(device);
    const we_error first = d->error;
    d->batch = NULL;
    pthread_mutex_unlock(&d->step_lock);
    return first.status == WE_OK ? WE_OK : we_fail(err, first.status, "%s", first.message);
}

/* An op writes `rows` rows of `cols`: false where `out` can't hold them. */
static bool takes(we_cpu *d, we_tensor *out, int64_t rows, int64_t cols, const char *op)
{
    if (we_cpu_failed(d)) return false;
    if (out->kind == WE_TENSOR_FLOATS && rows <= out->max_rows && cols == out->cols) {
        we_cpu_writes(d, out, rows);
        return true;
    }
    we_cpu_fail(d, WE_E_INTERNAL, "%s: a tensor of %lld x %lld can't take %lld x %lld", op, (long long)out->max_rows,
                (long long)out->cols, (long long)rows, (long long)cols);
    return false;
}

/* ---- Ops ---- */

typedef struct pass { /* the arguments of any of the ops below */
    we_cpu *d;
    we_tensor *out;
    const we_tensor *x, *y;
    const int32_t *rows;
    float eps, offset, scale;
    int64_t width;
    void (*glu)(float *gate, const float *up, int64_t n);
    const we_rope *rope;
    int n_heads, head_dim;
    int layer;
} pass;

static void embed_rows(void *arg, int64_t begin_row, int64_t end_row, int thread)
{
    (void)thread;
    const pass *p = arg;
    for (int64_t r = begin_row; r < end_row; r++) {
        float *out = p->out->f + r * p->out->cols;
        p->d->k.row_f32(&p->x->matrix, p->y->ids[r], out);
        if (p->scale != 1.0f) p->d->k.scale(out, p->scale, p->out->cols);
    }
}

static void embed(we_device *device, we_tensor *out, const we_tensor *table, const we_tensor *ids, float scale)
{
    we_cpu *d = we_cpu_of(device);
    assert(table->kind == WE_TENSOR_WEIGHT && ids->kind == WE_TENSOR_IDS);
    if (!takes(d, out, ids->rows, table->cols, "embed")) return;
    for (int64_t i = 0; i < ids->rows; i++)
        if (ids->ids[i] < 0 || ids->ids[i] >= table->rows) {
            we_cpu_fail(d, WE_E_RANGE, "token id %d is not below the vocabulary's size of %lld", ids->ids[i],
                        (long long)table->rows);
            return;
        }
    pass p = { .d = d, .out = out, .x = table, .y = ids, .scale = scale };
    we_cpu_for(d, ids->rows, rows_a_piece(d, ids->rows, table->cols), embed_rows, &p);
}

static void rms_norm_rows(void *arg, int64_t begin_row, int64_t end_row, int thread)
{
    (void)thread;
    const pass *p = arg;
    const int64_t cols = p->x->cols;
    for (int64_t i = begin_row * cols; i < end_row * cols; i += p->width)
        p->d->k.rms_norm(p->out->f + i, p->x->f + i, p->y->f, p->width, p->eps, p->offset);
}

static void rms_norm(we_device *device, we_tensor *out, const we_tensor *x, const we_tensor *weight, int width,
                     float eps, float offset)
{
    we_cpu *d = we_cpu_of(device);
    if (!takes(d, out, x->rows, x->cols, "rms_norm")) return;
    pass p = {
        .d = d, .out = out, .x = x, .y = weight, .width = width ? width : x->cols, .eps = eps, .offset = offset
    };
    if (p.width < 1 || x->cols % p.width || !weight->f || weight->cols != p.width) {
        we_cpu_fail(d, WE_E_INTERNAL, "rms_norm: groups of %d in %lld columns, a weight of %lld", width,
                    (long long)x->cols, (long long)weight->cols);
        return;
    }
    we_cpu_for(d, x->rows, rows_a_piece(d, x->rows, x->cols), rms_norm_rows, &p);
}

/* Cosines and sines of the step's positions, once for all layers. mlx's rope multiplies in float32 as well. */
static void rope_fill(const we_batch *batch, we_rope *rope)
{
    const int half = rope->dims / 2;
    float *cs = rope->cos_sin;
    for (int s = 0; s < batch->n_spans; s++)
        for (int i = 0; i < batch->spans[s].n; i++, cs += rope->dims)
            for (int j = 0; j < half; j++) {
                const float angle = (float)(batch->spans[s].position + i) * rope->inv_freq[j];
                cs[j] = cosf(angle) * rope->scale;
                cs[half + j] = sinf(angle) * rope->scale;
            }
}

static void rope_head(float *x, const float *cs, int half, int step, int pair)
{
    for (int j = 0; j < half; j++) {
        const float a = x[j * step], b = x[j * step + pair];
        x[j * step] = a * cs[j] - b * cs[half + j];
        x[j * step + pair] = b * cs[j] + a * cs[half + j];
    }
}

static void rope_rows(void *arg, int64_t begin_row, int64_t end_row, int thread)
{
    (void)thread;
    const pass *p = arg;
    const int half = p->rope->dims / 2;
    for (int64_t r = begin_row; r < end_row; r++)
        for (int h = 0; h < p->n_heads; h++) {
            float *x = p->out->f + r * p->out->cols + (int64_t)h * p->head_dim;
            const float *cs = p->rope->cos_sin + r * p->rope->dims;
            if (p->rope->interleaved)
                rope_head(x, cs, half, 2, 1);
            else
                rope_head(x, cs, half, 1, half);
        }
}

static void rope(we_device *device, we_tensor *x, const we_rope *constant, int n_heads, int head_dim)
{
    we_cpu *d = we_cpu_of(device);
    we_rope *r = (we_rope *)constant; /* its table of this step is a cache */
    if (we_cpu_failed(d)) return;
    if (x->rows != d->batch->n_rows || x->cols != (int64_t)n_heads * head_dim || r->dims > head_dim ||
        r->max_rows < x->rows) {
        we_cpu_fail(d, WE_E_INTERNAL, "rope: %lld x %lld is not %d tokens of %d heads of %d", (long long)x->rows,
                    (long long)x->cols, d->batch->n_rows, n_heads, head_dim);
        return;
    }
    if (r->step != d->step) {
        rope_fill(d->batch, r);
        r->step = d->step;
    }
    pass p = { .d = d, .out = x, .rope = r, .n_heads = n_heads, .head_dim = head_dim };
    we_cpu_for(d, x->rows, rows_a_piece(d, x->rows, x->cols), rope_rows, &p);
}

/* Positions whose codes share bytes (kernels.h: 32 of a cache of 4 bits) are one thread's: the first row from `r` on that begins
 * such a group. */
static int64_t group_from(const we_span *span, int64_t r)
{
    const int64_t end = span->first + span->n, into = (span->position + r - span->first) % WE_KV_GROUP;
    if (r <= span->first) return span->first;
    return r >= end || into == 0 ? WE_MIN(r, end) : WE_MIN(r + WE_KV_GROUP - into, end);
}

static void append_rows(void *arg, int64_t begin_row, int64_t end_row, int thread)
{
    (void)thread;
    const pass *p = arg;
    const int64_t cols = p->x->cols;
    for (int s = 0; s < p->d->batch->n_spans; s++) {
        const we_span *span = &p->d->batch->spans[s];
        for (int64_t r = group_from(span, begin_row); r < group_from(span, end_row); r++)
            we_kv_write(&p->d->k, span->kv, p->layer, span->position + (r - span->first), p->x->f + r * cols,
                        p->y->f + r * cols);
    }
}

static void kv_append(we_device *device, int layer, const we_tensor *k, const we_tensor *v)
{
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d)) return;
    for (int s = 0; s < d->batch->n_spans; s++) {
        const we_span *span = &d->batch->spans[s];
        const int64_t begin_at = span->position, end_at = begin_at + span->n;
        const bool has = span->kv && we_kv_has(span->kv, layer, begin_at, end_at);
        const we_kv_layer *shape = has ? &span->kv->layers[layer].shape : NULL;
        if (!has || k->cols != v->cols || k->cols != (int64_t)shape->n_kv_heads * shape->head_dim ||
            k->rows != d->batch->n_rows || v->rows != k->rows) {
            we_cpu_fail(d, WE_E_INTERNAL, "kv_append: layer %d has no room for %lld x %lld at %d", layer,
                        (long long)k->rows, (long long)k->cols, span->position);
            return;
        }
    }
    pass p = { .d = d, .x = k, .y = v, .layer = layer };
    we_cpu_for(d, k->rows, rows_a_piece(d, k->rows, k->cols), append_rows, &p);
}

static void glu_rows(void *arg, int64_t begin_row, int64_t end_row, int thread)
{
    (void)thread;
    const pass *p = arg;
    p->glu(p->out->f + begin_row, p->y->f + begin_row, end_row - begin_row);
}

static void glu(we_device *device, we_tensor *gate, const we_tensor *up, we_activation act)
{
    we_cpu *d = we_cpu_of(device);
    if (!takes(d, gate, up->rows, up->cols, "glu")) return;
    pass p = { .d = d, .out = gate, .y = up };
    switch (act) {
    case WE_ACT_SILU: p.glu = d->k.silu_mul; break;
    case WE_ACT_GELU: p.glu = d->k.gelu_mul; break;
    case WE_ACT_GELU_TANH: p.glu = d->k.gelu_tanh_mul; break;
    }
    const int64_t n = up->rows * up->cols;
    we_cpu_for(d, n, rows_a_piece(d, n, 1), glu_rows, &p);
}

static void add_rows(void *arg, int64_t begin_row, int64_t end_row, int thread)
{
    (void)thread;
    const pass *p = arg;
    p->d->k.add(p->out->f + begin_row, p->y->f + begin_row, end_row - begin_row);
}

static void add(we_device *device, we_tensor *x, const we_tensor *y)
{
    we_cpu *d = we_cpu_of(device);
    if (!takes(d, x, y->rows, y->cols, "add")) return;
    pass p = { .d = d, .out = x, .y = y };
    const int64_t n = y->rows * y->cols;
    we_cpu_for(d, n, rows_a_piece(d, n, 1), add_rows, &p);
}

static void take_rows(we_device *device, we_tensor *out, const we_tensor *x, const int32_t *rows, int n)
{
    we_cpu *d = we_cpu_of(device);
    const int64_t n_rows = x->rows; /* out may be x */
    if (!takes(d, out, n, x->cols, "take_rows")) return;
    for (int i = 0; i < n; i++) {
        if (rows[i] < 0 || rows[i] >= n_rows) {
            we_cpu_fail(d, WE_E_INTERNAL, "take_rows: row %d of %lld", rows[i], (long long)n_rows);
            return;
        }
        memmove(out->f + i * x->cols, x->f + rows[i] * x->cols, (size_t)x->cols * sizeof(float));
    }
}

/* ---- Open and close ---- */

static void close_cpu(we_device *device)
{
    we_cpu *d = we_cpu_of(device);
    assert(!d->ropes && "handles are freed before the device");
    we_pool_close(d->pool);
    pthread_mutex_destroy(&d->step_lock);
    pthread_mutex_destroy(&d->ropes_lock);
    we_free(d->runs);
    we_free(d->thread_scratch);
    we_free(d->q8_bytes);
    we_free(d->gated_bytes);
    we_free(d->partials);
    we_free(d->sample_scratch);
    we_free(d);
}

static const we_device_ops cpu_ops = {
    .name = "cpu",
    .weight_new = weight_new,
    .tensor_new = tensor_new,
    .ids_new = ids_new,
    .tensor_free = tensor_free,
    .rope_new = rope_new,
    .rope_free = rope_free,
    .write_ids = write_ids,
    .read = read_rows,
    .kv_new = we_cpu_kv_new,
    .kv_free = we_cpu_kv_free,
    .kv_reserve = we_cpu_kv_reserve,
    .kv_trim = we_cpu_kv_trim,
    .kv_copy = we_cpu_kv_copy,
    .kv_bytes = we_cpu_kv_bytes,
    .kv_bytes_needed = we_cpu_kv_bytes_needed,
    .begin = begin,
    .end = end,
    .embed = embed,
    .linear = we_cpu_linear,
    .rms_norm = rms_norm,
    .rope = rope,
    .kv_append = kv_append,
    .attend = we_cpu_attend,
    .glu = glu,
    .gated = we_cpu_gated,
    .add = add,
    .take_rows = take_rows,
    .sample = we_cpu_sample,
    .measure = we_cpu_measure,
    .close = close_cpu,
};

we_status we_cpu_open(we_device **out, const we_device_options *options, we_error *err)
{
    we_cpu_kernels kernels;
    if (!we_cpu_kernels_choose(options->kernels, &kernels)) return no_such_kernels(options->kernels, err);
    we_cpu *d = we_calloc(1, sizeof(*d));
    if (!d) return we_fail(err, WE_E_NOMEM, "no memory for the CPU device");
    const we_status st = we_pool_open(&d->pool, options->threads, err);
    if (st) {
        we_free(d);
        return st;
    }
    d->runs = we_malloc_aligned(_Alignof(struct we_cpu_run), (size_t)we_pool_threads(d->pool) * sizeof *d->runs);
    if (!d->runs) {
        we_pool_close(d->pool);
        we_free(d);
        return we_fail(err, WE_E_NOMEM, "no memory for the CPU device");
    }
    pthread_mutex_init(&d->step_lock, NULL);
    pthread_mutex_init(&d->ropes_lock, NULL);
    d->k = kernels;
    d->base = (we_device){
        .ops = &cpu_ops, .kernels = d->k.name, .n_threads = we_pool_threads(d->pool), .step_rows = STEP_ROWS
    };
    d->base.budget.limit = options->memory_limit_bytes;
    *out = &d->base;
    return WE_OK;
}
