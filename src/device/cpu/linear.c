/* SPDX-License-Identifier: Apache-2.0
 * linear.c - the `linear` op: several products of one input with weights. The input is rounded once, to int8 or bfloat16 (or stays
 * float32: precise steps, few tokens of plain weights), then the rows of all weights are handed out in blocks to
 * the threads in one run of the pool; the arithmetic is in the kernels. */
#include "device/cpu/ahead.h"
#include "device/cpu/cpu_int.h"

#include <assert.h>

typedef enum form { FLOATS, CODES, HALVES } form; /* of the input: float32, int8, bfloat16 */

typedef struct product {
    we_cpu *d;
    const we_linear *l;
    int n;
    const we_tensor *x;
    form form;
    we_q8 *q8;        /* x rounded: CODES */
    uint32_t *halves; /* HALVES: tiles, in the bytes of a q8, which are more */
    int64_t block_rows;
} product;

static form form_of(const we_cpu *d, const we_linear *l, const we_tensor *x)
{
    const we_matrix *w = &l->weight->matrix;
    if (d->batch->precise) return FLOATS;
    if (we_q8_takes(w->quant) || we_cpu_ggml_takes(w)) return CODES;
    return d->k.linear_bf16 && we_bf16_takes(w) && x->rows > WE_BF16_FEW ? HALVES : FLOATS;
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

static void halve_tiles(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const product *p = arg;
    const we_tensor *x = p->x;
    for (int64_t t = begin; t < end; t++) {
        const int64_t first = t * WE_BF16_TILE;
        p->d->k.bf16_tile(x->f + first * x->cols, x->cols, WE_MIN(x->rows - first, WE_BF16_TILE), x->cols,
                          p->halves + t * we_bf16_tile_words(x->cols));
    }
}

static void round_input(product *p)
{
    if (p->form == CODES) quantize(p);
    if (p->form == HALVES) we_cpu_for(p->d, (p->x->rows + WE_BF16_TILE - 1) / WE_BF16_TILE, 1, halve_tiles, p);
}

static void block(const product *p, const we_linear *l, int64_t first, int64_t n_rows, int thread)
{
    const we_tensor *x = p->x;
    const we_matrix *w = &l->weight->matrix;
    const int64_t stride = l->out->cols;
    float *y = l->out->f + first;
    void *scratch = we_cpu_scratch(p->d, thread);
    if (p->form == CODES && w->quant.mode == WE_QUANT_GGML)
        we_cpu_ggml_linear(&p->d->k, w, first, n_rows, p->q8, x->rows, y, stride, l->add, scratch,
                           (uint8_t *)scratch + p->d->ggml_panel);
    else if (p->form == CODES)
        p->d->k.linear_q8(w, first, n_rows, p->q8, x->rows, y, stride, l->add, scratch);
    else if (p->form == HALVES)
        p->d->k.linear_bf16(w, first, n_rows, p->halves, x->rows, y, stride, l->add, scratch);
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

/* Products that read the input in one form. */
static void products(we_cpu *d, const we_linear *l, int n, const we_tensor *x, form read)
{
    const bool gated = d->gated_of == x;
    product p = { .d = d,
                  .l = l,
                  .n = n,
                  .x = x,
                  .form = read,
                  .q8 = gated ? &d->gated : &d->q8,
                  .halves = (uint32_t *)(void *)(gated ? d->gated_bytes : d->q8_bytes) };
    int64_t n_blocks = 0;
    size_t row_bytes = 1;
    for (int i = 0; i < n; i++) {
        we_cpu_writes(d, l[i].out, x->rows);
        row_bytes = WE_MAX(row_bytes, we_matrix_row_bytes(&l[i].weight->matrix));
    }
    if (!gated) round_input(&p);
    p.block_rows = rows_of_block(&p, row_bytes);
    for (int i = 0; i < n; i++) n_blocks += blocks_of(&p, &l[i]);
    we_cpu_for_runs(d, n_blocks, 1, blocks, &p);
}

void we_cpu_linear(we_device *device, const we_linear *l, int n, const we_tensor *x)
{
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d) || n < 1) return;
    for (int i = 0; i < n; i++)
        if (!fits(d, &l[i], x)) return;
    while (n > 0) {
        const form read = form_of(d, l, x);
        int same = 1;
        while (same < n && form_of(d, &l[same], x) == read) same++;
        products(d, l, same, x, read);
        l += same;
        n -= same;
    }
}

/* ---- gated ----
 *
 * A panel's rows of gate and up are 32 columns of what the next product reads, one group of its activations: they are joined and
 * rounded while they are in the cache, and no float of them is ever written to memory. */

#define GATED_ROWS \
    (4 * WE_PANEL_ROWS) /* of gate, then of up: what is read and written meanwhile fits into the second cache */

typedef struct gated {
    product p; /* of both */
    void (*glu)(float *gate, const float *up, int64_t n);
} gated;

size_t we_cpu_linear_scratch_bytes(const we_cpu *d, int64_t n_rows, int64_t cols)
{
    const bool gates = d->k.q8_group || d->k.linear_bf16;
    const size_t results = gates ? (size_t)n_rows * GATED_ROWS * sizeof(float) : 0;
    return we_kernel_scratch_bytes(cols) + 2 * results;
}

static void fetch_panel(const we_matrix *w, int64_t first)
{
    ahead a = ahead_of(w, first, WE_PANEL_ROWS, 0);
    ahead_rows(&a, WE_PANEL_ROWS);
}

/* Rows of a weight: y[n, rows] */
static void some_rows(const product *p, const we_matrix *w, int64_t first, int64_t rows, float *y, void *scratch)
{
    const we_cpu_kernels *k = &p->d->k;
    const int64_t n = p->x->rows;
    if (p->form == CODES)
        k->linear_q8(w, first, rows, p->q8, n, y, rows, false, scratch);
    else
        k->linear_bf16(w, first, rows, p->halves, n, y, rows, false, scratch);
}

/* Columns [first, first + WE_PANEL_ROWS) of what the next product reads; y: of all rows, `stride` apart. */
static void round_columns(const product *p, int64_t cols, int64_t first, const float *y, int64_t stride)
{
    we_cpu *d = p->d;
    const int64_t n = p->x->rows;
    if (p->form == CODES) {
        d->k.q8_group(&d->gated, n, first / WE_Q8_GROUP, y, stride);
        return;
    }
    uint32_t *out = (uint32_t *)(void *)d->gated_bytes + first / 2 * WE_BF16_TILE;
    for (int64_t t = 0; t < n; t += WE_BF16_TILE, out += we_bf16_tile_words(cols))
        d->k.bf16_tile(y + t * stride, stride, WE_MIN(n - t, WE_BF16_TILE), WE_PANEL_ROWS, out);
}

static void gated_panels(void *arg, int64_t begin, int64_t end, int thread)
{
    const gated *g = arg;
    const product *p = &g->p;
    const we_matrix *gate = &p->l[0].weight->matrix, *up = &p->l[1].weight->matrix;
    const int64_t n = p->x->rows;
    void *scratch = we_cpu_scratch(p->d, thread);
    float *y = (float *)(void *)((uint8_t *)scratch + we_kernel_scratch_bytes(p->x->cols)), *z = y + n * GATED_ROWS;
    begin *= WE_PANEL_ROWS, end *= WE_PANEL_ROWS;
    fetch_panel(up, begin); /* later ones are those that follow in the same weight */
    for (int64_t first = begin; first < end; first += GATED_ROWS) {
        const int64_t rows = WE_MIN(end - first, GATED_ROWS);
        some_rows(p, gate, first, rows, y, scratch);
        some_rows(p, up, first, rows, z, scratch);
        g->glu(y, z, n * rows);
        for (int64_t r = 0; r < rows; r += WE_PANEL_ROWS) round_columns(p, gate->rows, first + r, y + r, rows);
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

/* The form of what all three read; FLOATS: gate and up are not joined here. */
static form gated_form(const we_cpu *d, const we_linear l[2], const we_tensor *x, const we_tensor *reader)
{
    const we_matrix *w[3] = { &l[0].weight->matrix, &l[1].weight->matrix, &reader->matrix };
    if (d->batch->precise || x->rows <= WE_Q8_FEW || reader->kind != WE_TENSOR_WEIGHT ||
        l[0].weight->rows != l[1].weight->rows || l[0].weight->rows % WE_PANEL_ROWS)
        return FLOATS;
    bool codes = d->k.q8_group, halves = d->k.linear_bf16;
    for (int i = 0; i < 3; i++) {
        codes = codes && we_q8_takes(w[i]->quant);
        halves = halves && we_bf16_takes(w[i]);
        if (i < 2 && (l[i].bias || l[i].add)) return FLOATS;
    }
    return codes ? CODES : halves ? HALVES : FLOATS;
}

bool we_cpu_gated(we_device *device, const we_linear l[2], const we_tensor *x, we_activation act,
                  const we_tensor *reader)
{
    static_assert(WE_PANEL_ROWS == WE_Q8_GROUP, "a panel's rows are a group of the next product");
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d) || !fits(d, &l[0], x) || !fits(d, &l[1], x)) return true;
    gated g = { .p = { .d = d, .l = l, .n = 2, .x = x, .form = gated_form(d, l, x, reader), .q8 = &d->q8 } };
    if (g.p.form == FLOATS) return false;
    g.p.halves = (uint32_t *)(void *)d->q8_bytes;
    switch (act) {
    case WE_ACT_SILU: g.glu = d->k.silu_mul; break;
    case WE_ACT_GELU: g.glu = d->k.gelu_mul; break;
    case WE_ACT_GELU_TANH: g.glu = d->k.gelu_tanh_mul; break;
    }
    round_input(&g.p);
    we_q8_lay(&d->gated, d->gated_bytes, x->rows, l[0].weight->rows);
    we_cpu_for_runs(d, l[0].weight->rows / WE_PANEL_ROWS, 1, gated_panels, &g);
    if (g.p.form == CODES) we_cpu_for(d, (x->rows + WE_Q8_TILE - 1) / WE_Q8_TILE, 1, gated_tiles, &g);
    we_cpu_writes(d, l[0].out, x->rows);
    d->gated_of = l[0].out;
    return true;
}
