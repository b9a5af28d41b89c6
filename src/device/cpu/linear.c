/* SPDX-License-Identifier: Apache-2.0
 * linear.c - the `linear` op: several products of one input with weights. The input is rounded to int8 once (or stays
 * float32: precise steps, weights that are not packed integers), then the rows of all weights are handed out in blocks to
 * the threads in one run of the pool; the arithmetic is in the kernels. */
#include "device/cpu/cpu_int.h"

#include <assert.h>

typedef struct product {
    we_cpu *d;
    const we_linear *l;
    int n;
    const we_tensor *x;
    bool fast; /* q8 is filled */
    int64_t block_rows;
} product;

static bool wants_q8(const we_cpu *d, const we_linear *l)
{
    const we_matrix *w = &l->weight->matrix;
    return !d->batch->precise && (we_q8_takes(w->quant) || we_cpu_ggml_takes(w));
}
static int64_t blocks_of(const product *p, const we_linear *l)
{
    return (l->weight->rows + p->block_rows - 1) / p->block_rows;
}

static void quantize_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const product *p = arg;
    const we_q8 *q = &p->d->q8;
    const int64_t groups = q->stride / WE_Q8_GROUP;
    for (int64_t r = begin; r < end; r++)
        p->d->k.q8_quantize(p->x->f + r * q->cols, q->cols, q->values + r * q->stride, q->scales + r * groups,
                            q->sums + r * groups);
}

static void quantize_tiles(void *arg, int64_t begin, int64_t end, int thread)
{
    const product *p = arg;
    for (int64_t t = begin; t < end; t++) {
        const int64_t first = t * WE_Q8_TILE, n = WE_MIN(p->x->rows - first, WE_Q8_TILE);
        quantize_rows(arg, first, first + n, thread);
        p->d->k.q8_tile(&p->d->q8, first, n);
    }
}

static void quantize(product *p)
{
    we_q8 *q = &p->d->q8;
    const int64_t rows = p->x->rows;
    q->cols = p->x->cols;
    q->stride = we_q8_stride(q->cols);
    const int64_t worth = WE_MAX(32768 / q->cols, 1); /* a pool run costs about as much as rounding this many */
    if (p->d->k.q8_tile && rows > WE_Q8_FEW)
        we_cpu_for(p->d, (rows + WE_Q8_TILE - 1) / WE_Q8_TILE, (worth + WE_Q8_TILE - 1) / WE_Q8_TILE, quantize_tiles,
                   p);
    else
        we_cpu_for(p->d, rows, worth, quantize_rows, p);
}

static void block(const product *p, const we_linear *l, int64_t first, int64_t n_rows, int thread)
{
    const we_tensor *x = p->x;
    const we_matrix *w = &l->weight->matrix;
    const int64_t stride = l->out->cols;
    float *y = l->out->f + first;
    void *scratch = we_cpu_scratch(p->d, thread);
    const bool fast = p->fast && wants_q8(p->d, l);
    if (fast && w->quant.mode == WE_QUANT_GGML)
        we_cpu_ggml_linear(&p->d->k, w, first, n_rows, &p->d->q8, x->rows, y, stride, l->add, scratch,
                           (uint8_t *)scratch + p->d->ggml_panel);
    else if (fast)
        p->d->k.linear_q8(w, first, n_rows, &p->d->q8, x->rows, y, stride, l->add, scratch);
    else
        p->d->k.linear_f32(w, first, n_rows, x->f, x->cols, x->rows, y, stride, l->add, scratch);
    if (l->bias)
        for (int64_t t = 0; t < x->rows; t++) p->d->k.add(y + t * stride, l->bias->f + first, n_rows);
}

/* Blocks are numbered through all products. What lies together is one call. */
static void blocks(void *arg, int64_t begin, int64_t end, int thread)
{
    const product *p = arg;
    const we_linear *l = p->l;
    for (int64_t before = 0; begin < end; before += blocks_of(p, l), l++) {
        const int64_t last = WE_MIN(end - before, blocks_of(p, l)), first = (begin - before) * p->block_rows;
        if (begin - before >= last) continue;
        block(p, l, first, WE_MIN(last * p->block_rows, l->weight->rows) - first, thread);
        begin = before + last;
    }
}

static bool fits(we_cpu *d, const we_linear *l, const we_tensor *x)
{
    const we_tensor *w = l->weight, *out = l->out;
    if (w->kind == WE_TENSOR_WEIGHT && out->kind == WE_TENSOR_FLOATS && x->kind == WE_TENSOR_FLOATS && out != x &&
        x->cols == w->cols && out->cols == w->rows && x->rows <= out->max_rows && x->rows <= d->batch->n_rows &&
        (!l->bias || (l->bias->f && l->bias->cols == w->rows)) && (!l->add || out->rows == x->rows))
        return true;
    we_cpu_fail(d, WE_E_INTERNAL, "linear: %lld x %lld by a weight of %lld x %lld into %lld x %lld", (long long)x->rows,
                (long long)x->cols, (long long)w->rows, (long long)w->cols, (long long)out->max_rows,
                (long long)out->cols);
    return false;
}

/* Rows of a block: small enough for threads to end together, large enough to be worth handing out and to stream from
 * memory; many tokens want whole panels. */
static int64_t rows_of_block(const product *p, int64_t all_rows, size_t row_bytes)
{
    const int64_t panel = WE_PANEL_ROWS;
    const int64_t worth = (int64_t)(65536 / (row_bytes * (size_t)p->x->rows)) / panel * panel;
    if (p->x->rows <= WE_Q8_FEW) return WE_MAX(panel, worth);
    const int64_t share = all_rows / (p->d->base.n_threads * 16) / panel * panel;
    return WE_MAX(panel, WE_MAX(worth, WE_MIN(share, 8 * panel)));
}

void we_cpu_linear(we_device *device, const we_linear *l, int n, const we_tensor *x)
{
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d) || n < 1) return;
    product p = { .d = d, .l = l, .n = n, .x = x };
    int64_t all_rows = 0, n_blocks = 0;
    size_t row_bytes = 1;
    for (int i = 0; i < n; i++) {
        if (!fits(d, &l[i], x)) return;
        l[i].out->rows = x->rows;
        all_rows += l[i].weight->rows;
        row_bytes = WE_MAX(row_bytes, we_matrix_row_bytes(&l[i].weight->matrix));
        if (wants_q8(d, &l[i])) p.fast = true;
    }
    if (p.fast) quantize(&p);
    p.block_rows = rows_of_block(&p, all_rows, row_bytes);
    for (int i = 0; i < n; i++) n_blocks += blocks_of(&p, &l[i]);
    (x->rows <= WE_Q8_FEW ? we_cpu_for_runs : we_cpu_for)(d, n_blocks, 1, blocks, &p);
}
