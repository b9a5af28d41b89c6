/* SPDX-License-Identifier: Apache-2.0
 * linear.c - the `linear` op: several products of one input with weights. The input is rounded to int8 once (or stays
 * float32: precise steps, weights that are not packed integers), then the rows of all weights are handed out in blocks to
 * the threads in one run of the pool; the arithmetic is in the kernels. */
#include "device/cpu/ahead.h"
#include "device/cpu/cpu_int.h"

#include <assert.h>

typedef struct product {
    we_cpu *d;
    const we_linear *l;
    int n;
    const we_tensor *x;
    we_q8 *q8; /* x rounded, where it is */
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
    const we_q8 *q = p->q8;
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
        p->d->k.q8_tile(p->q8, first, n);
    }
}

static void quantize(product *p)
{
    we_q8 *q = p->q8;
    const int64_t rows = p->x->rows;
    we_q8_lay(q, p->d->q8_bytes, rows, p->x->cols);
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
        we_cpu_ggml_linear(&p->d->k, w, first, n_rows, p->q8, x->rows, y, stride, l->add, scratch,
                           (uint8_t *)scratch + p->d->ggml_panel);
    else if (fast)
        p->d->k.linear_q8(w, first, n_rows, p->q8, x->rows, y, stride, l->add, scratch);
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

/* Rows of a block: of few tokens, large enough to be worth handing out; of many, a panel. */
static int64_t rows_of_block(const product *p, size_t row_bytes)
{
    const int64_t panel = WE_PANEL_ROWS;
    if (p->x->rows > WE_Q8_FEW) return panel;
    return WE_MAX(panel, (int64_t)(65536 / (row_bytes * (size_t)p->x->rows)) / panel * panel);
}

void we_cpu_linear(we_device *device, const we_linear *l, int n, const we_tensor *x)
{
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d) || n < 1) return;
    product p = { .d = d, .l = l, .n = n, .x = x, .q8 = d->gated_of == x ? &d->gated : &d->q8 };
    int64_t n_blocks = 0;
    size_t row_bytes = 1;
    for (int i = 0; i < n; i++) {
        if (!fits(d, &l[i], x)) return;
        we_cpu_writes(d, l[i].out, x->rows);
        row_bytes = WE_MAX(row_bytes, we_matrix_row_bytes(&l[i].weight->matrix));
        if (wants_q8(d, &l[i])) p.fast = true;
    }
    if (p.fast && p.q8 == &d->q8) quantize(&p);
    p.block_rows = rows_of_block(&p, row_bytes);
    for (int i = 0; i < n; i++) n_blocks += blocks_of(&p, &l[i]);
    we_cpu_for_runs(d, n_blocks, 1, blocks, &p);
}

/* ---- gated ----
 *
 * A panel's rows of gate and up are 32 columns of what the next product reads, one group of its activations: they are joined and
 * rounded while they are in the cache, and no float of them is ever written to memory. */

typedef struct gated {
    product p; /* of both */
    void (*glu)(float *gate, const float *up, int64_t n);
} gated;

size_t we_cpu_linear_scratch_bytes(const we_cpu *d, int64_t n_rows, int64_t cols)
{
    const size_t results = d->k.q8_group ? (size_t)n_rows * WE_PANEL_ROWS * sizeof(float) : 0;
    return we_kernel_scratch_bytes(cols) + 2 * results;
}

static void fetch_panel(const we_matrix *w, int64_t first)
{
    ahead a = ahead_of(w, first, WE_PANEL_ROWS, 0);
    ahead_rows(&a, WE_PANEL_ROWS);
}

static void gated_panels(void *arg, int64_t begin, int64_t end, int thread)
{
    const gated *g = arg;
    const product *p = &g->p;
    const we_cpu_kernels *k = &p->d->k;
    const we_matrix *gate = &p->l[0].weight->matrix, *up = &p->l[1].weight->matrix;
    const int64_t n = p->x->rows, cols = WE_PANEL_ROWS;
    void *scratch = we_cpu_scratch(p->d, thread);
    float *y = (float *)(void *)((uint8_t *)scratch + we_kernel_scratch_bytes(p->x->cols)), *z = y + n * cols;
    for (int64_t b = begin; b < end; b++) {
        fetch_panel(up, b * cols);
        k->linear_q8(gate, b * cols, cols, p->q8, n, y, cols, false, scratch);
        if (b + 1 < end) fetch_panel(gate, (b + 1) * cols);
        k->linear_q8(up, b * cols, cols, p->q8, n, z, cols, false, scratch);
        g->glu(y, z, n * cols);
        k->q8_group(&p->d->gated, n, b, y);
    }
}

/* Groups behind the last column are 0. */
static void gated_tiles(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const gated *g = arg;
    const we_q8 *q = &g->p.d->gated;
    const int64_t groups = q->stride / WE_Q8_GROUP, there = q->cols / WE_Q8_GROUP, left = groups - there;
    for (int64_t first = begin * WE_Q8_TILE; first < end * WE_Q8_TILE; first += WE_Q8_TILE) {
        const int64_t at = first * groups + there * WE_Q8_TILE;
        memset(q->tiles + at * WE_Q8_GROUP, 0, (size_t)(left * WE_Q8_GROUP * WE_Q8_TILE));
        memset(q->tile_scales + at, 0, (size_t)(left * WE_Q8_TILE) * sizeof(float));
        memset(q->tile_sums + at, 0, (size_t)(left * WE_Q8_TILE) * sizeof(float));
        g->p.d->k.q8_join(q, first);
    }
}

static bool gates(const we_cpu *d, const we_linear l[2], const we_tensor *x, const we_tensor *reader)
{
    bool all = d->k.q8_group && !d->batch->precise && x->rows > WE_Q8_FEW && reader->kind == WE_TENSOR_WEIGHT &&
               we_q8_takes(reader->matrix.quant) && l[0].weight->rows == l[1].weight->rows &&
               l[0].weight->rows % WE_PANEL_ROWS == 0;
    for (int i = 0; i < 2; i++) all = all && we_q8_takes(l[i].weight->matrix.quant) && !l[i].bias && !l[i].add;
    return all;
}

bool we_cpu_gated(we_device *device, const we_linear l[2], const we_tensor *x, we_activation act,
                  const we_tensor *reader)
{
    static_assert(WE_PANEL_ROWS == WE_Q8_GROUP, "a panel's rows are a group of the next product");
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d) || !fits(d, &l[0], x) || !fits(d, &l[1], x)) return true;
    if (!gates(d, l, x, reader)) return false;
    gated g = { .p = { .d = d, .l = l, .n = 2, .x = x, .q8 = &d->q8 } };
    switch (act) {
    case WE_ACT_SILU: g.glu = d->k.silu_mul; break;
    case WE_ACT_GELU: g.glu = d->k.gelu_mul; break;
    case WE_ACT_GELU_TANH: g.glu = d->k.gelu_tanh_mul; break;
    }
    quantize(&g.p);
    we_q8_lay(&d->gated, d->gated_bytes, x->rows, l[0].weight->rows);
    we_cpu_for_runs(d, l[0].weight->rows / WE_PANEL_ROWS, 1, gated_panels, &g);
    we_cpu_for(d, (x->rows + WE_Q8_TILE - 1) / WE_Q8_TILE, 1, gated_tiles, &g);
    we_cpu_writes(d, l[0].out, x->rows);
    d->gated_of = l[0].out;
    return true;
}
