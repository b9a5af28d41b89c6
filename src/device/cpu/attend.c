/* SPDX-License-Identifier: Apache-2.0
 * attend.c - causal attention over the pages of a cache, in one pass with a running softmax: scores never leave the first
 * cache. Where keys and values lie: kv.c. Source: Dao et al. 2022, arXiv:2205.14135 (FlashAttention); splitting the context:
 * Dao et al. 2023, "Flash-Decoding for long-context inference".
 *
 * The work is cut into units: one KV head x some rows of a sequence x (for few rows and many threads) a part of its context.
 * A unit's `m` query vectors are those rows times the query heads that share the KV head, so the cache is read once for all
 * of them. Parts of one context are joined at the end. Many queries go in bfloat16 where the processor multiplies that: then a
 * block's scores, weights and products are one kernel. */
#include "device/cpu/cpu_int.h"

#include <assert.h>
#include <math.h>

#define BLOCK_QUERIES 64 /* query vectors of a unit, if a row has fewer */
#define LOG2E 1.44269504f
#define MAX_GROUP 256   /* query heads for one KV head */
#define MANY_QUERIES 48 /* fewer are not worth converting the keys and values for all of them */
#define FLOAT_ROWS \
    8 /* rows of a span that stay float32: guessed tokens are checked with the numbers that one alone gets */
#define SPLIT_ROWS 4  /* a span of more rows has units enough */
#define SPLIT_MIN 256 /* positions of a part */

typedef struct work {
    we_cpu *d;
    const we_attend *a;
    const float *q;
    float *out;
    int64_t cols;
    int group; /* query heads of a KV head */
    int block_rows;
    int n_parts; /* of each context */
} work;

typedef struct unit {
    const we_span *span;
    int head;           /* KV head */
    int row, n_rows;    /* within the span */
    int64_t begin, end; /* positions looked at */
    int part;
} unit;

/* What a thread works with; pieces of its scratch. m = n_rows * group vectors. */
typedef struct desk {
    float *q;                     /* [m, head_dim], scaled */
    float *q_sums;                /* 8 and 4 bits: [m, groups] */
    float *acc;                   /* [m, head_dim] */
    float *scores;                /* [m, WE_KV_BLOCK] */
    float *most;                  /* [m] largest score so far, or what scores are measured against */
    float *sum;                   /* [m] of exp(score - most) */
    uint16_t *halves;             /* a block unpacked or cut out */
    uint16_t *q_half;             /* bfloat16: queries, rows even */
    uint32_t *keys, *values;      /* of a block, converted */
    float (*lanes)[WE_SUM_LANES]; /* [m] whose sum is `sum` */
    uint8_t *from, *to;           /* [m] */
    bool many;                    /* queries */
    bool bf16;                    /* this unit's products are */
} desk;

/* ---- Scratch ---- */

typedef struct pieces { /* of `base`; NULL: they are only counted */
    uint8_t *base;
    size_t used;
} pieces;

static void *take(pieces *p, int64_t bytes)
{
    void *piece = p->base ? p->base + p->used : NULL;
    p->used += ((size_t)bytes + 63) / 64 * 64;
    return piece;
}

/* For m queries of `vectors` numbers; gives its size. */
static size_t lay(desk *k, void *base, int64_t m, int64_t vectors, int64_t dim)
{
    const int64_t word = sizeof(float);
    pieces p = { base, 0 };
    *k = (desk){ .q = take(&p, vectors * word) };
    k->acc = take(&p, vectors * word);
    k->scores = take(&p, m * WE_KV_BLOCK * word);
    k->most = take(&p, m * word);
    k->sum = take(&p, m * word);
    k->q_sums = take(&p, m * we_kv_groups((int)dim) * word);
    k->halves = take(&p, WE_KV_BLOCK * dim * 2);
    k->q_half = take(&p, (vectors + m) * 2);
    k->keys = take(&p, WE_KV_BLOCK * (dim + 1) / 2 * word);
    k->values = take(&p, WE_KV_BLOCK * dim / 2 * word);
    k->lanes = take(&p, m * (int64_t)sizeof *k->lanes);
    k->from = take(&p, m);
    k->to = take(&p, m);
    return p.used;
}

static int64_t most_queries(int group) { return WE_MAX(BLOCK_QUERIES, group); }

size_t we_cpu_attend_scratch_bytes(const we_cpu *d)
{
    desk k;
    const int64_t dim = atomic_load(&d->max_head_dim), cols = atomic_load(&d->max_cols);
    /* A row of query heads is a weight's input. */
    return lay(&k, NULL, MAX_GROUP, WE_MAX(BLOCK_QUERIES * dim, cols + dim), dim);
}

static desk desk_of(const work *w, int thread)
{
    desk k;
    const int64_t m = most_queries(w->group), dim = w->a->head_dim;
    const size_t bytes = lay(&k, we_cpu_scratch(w->d, thread), m, m * dim, dim);
    assert(bytes <= w->d->thread_scratch_bytes);
    (void)bytes;
    return k;
}

/* ---- Units ---- */

/* Rows of a span that are asked for: its last ones. */
static int rows_of(const work *w, const we_span *span) { return w->a->last ? WE_MIN(w->a->last, span->n) : span->n; }
static int blocks_of(const work *w, const we_span *span)
{
    return (rows_of(w, span) + w->block_rows - 1) / w->block_rows;
}
static int parts_of(const work *w, const we_span *span) { return rows_of(w, span) <= SPLIT_ROWS ? w->n_parts : 1; }
static int64_t units_of(const work *w, const we_span *span)
{
    return (int64_t)w->a->n_kv_heads * blocks_of(w, span) * parts_of(w, span);
}

static unit unit_at(const work *w, int64_t index)
{
    const we_span *span = w->d->batch->spans;
    for (; index >= units_of(w, span); span++) index -= units_of(w, span);
    const int parts = parts_of(w, span), blocks = blocks_of(w, span);
    unit u = { .span = span, .part = (int)(index % parts), .head = (int)(index / parts % w->a->n_kv_heads) };
    /* The last rows see most: they go first. */
    u.row = span->n - rows_of(w, span) + (blocks - 1 - (int)(index / parts / w->a->n_kv_heads)) * w->block_rows;
    u.n_rows = WE_MIN(w->block_rows, span->n - u.row);
    const int64_t first = span->position + u.row, last = first + u.n_rows - 1;
    const int64_t lo = w->a->window ? WE_MAX(first - w->a->window + 1, 0) : 0, hi = last + 1;
    int64_t each = (hi - lo + parts - 1) / parts;
    each = (each + WE_KV_BLOCK - 1) / WE_KV_BLOCK * WE_KV_BLOCK;
    u.begin = WE_MIN(lo + u.part * each, hi);
    u.end = WE_MIN(u.begin + each, hi);
    return u;
}

/* ---- One unit ---- */

static void sum_queries(desk *k, int64_t m, int dim)
{
    const int n_groups = we_kv_groups(dim);
    for (int64_t i = 0; i < m; i++)
        for (int g = 0; g < n_groups; g++) {
            float sum = 0;
            for (int j = g * WE_KV_GROUP; j < WE_MIN((g + 1) * WE_KV_GROUP, dim); j++) sum += k->q[i * dim + j];
            k->q_sums[i * n_groups + g] = sum;
        }
}

static void gather_queries(const work *w, const unit *u, desk *k)
{
    const int64_t dim = w->a->head_dim, m = u->n_rows * w->group;
    k->many = !w->d->batch->precise && rows_of(w, u->span) > FLOAT_ROWS && m >= MANY_QUERIES;
    k->bf16 = w->d->k.attend_bf16 && u->span->kv->bits <= 16 && k->many;
    const float scale = k->bf16 ? w->a->scale * LOG2E : w->a->scale;
    for (int i = 0; i < m; i++) {
        const int64_t row = u->span->first + u->row + i / w->group, head = u->head * w->group + i % w->group;
        const float *from = w->q + row * w->cols + head * dim;
        for (int64_t j = 0; j < dim; j++) k->q[i * dim + j] = from[j] * scale;
        for (int64_t j = 0; j < dim; j++) k->acc[i * dim + j] = 0;
        k->most[i] = -INFINITY;
        k->sum[i] = 0;
    }
    if (k->bf16) {
        w->d->k.to_bf16(k->q, dim, k->q_half, dim + dim % 2, m, dim);
        memset(k->lanes, 0, (size_t)m * sizeof *k->lanes);
    } else if (u->span->kv->bits < 16)
        sum_queries(k, m, w->a->head_dim);
}

/* What is read behind a block of 16 bits: the values behind the keys, then the next block's keys; NULL: nothing. */
static const uint16_t *block_after(const work *w, const unit *u, int64_t index, bool values)
{
    if (values && (index + 1) * WE_KV_BLOCK >= u->end) return NULL;
    return we_kv_block(u->span->kv, w->a->layer, values ? index + 1 : index, u->head, !values);
}

/* In codes of 8 or 4 bits, for few queries. */
static void product_codes(const we_kv_kernels *kernels, const we_kv_codes *block, desk *k, int64_t m, int first, int n,
                          bool values)
{
    if (!values) {
        kernels->keys(block, k->q, k->q_sums, m, first, n, k->scores);
        return;
    }
    for (int64_t i = 0; i < m; i++) {
        float *s = k->scores + i * WE_KV_BLOCK;
        for (int j = 0; j < first; j++) s[j] = 0;
        for (int j = first + n; j < WE_KV_BLOCK; j++) s[j] = 0;
    }
    kernels->values(block, k->scores, m, first, n, k->acc);
}

/* C (+)= A B with B a block of keys [dim, positions] or values [positions, dim]; positions first .. first + n of it. */
static void product(const work *w, const unit *u, desk *k, int64_t index, int first, int n, bool values)
{
    const we_cpu_kernels *kernels = &w->d->k;
    const we_kv *kv = u->span->kv;
    const int64_t m = u->n_rows * w->group, dim = w->a->head_dim;
    const void *block = we_kv_block(kv, w->a->layer, index, u->head, values);
    if (kv->bits < 16) {
        const we_kv_codes codes = we_kv_codes_of(kv, w->a->layer, index, u->head, values);
        if (!k->many) {
            product_codes(kernels->kv, &codes, k, m, first, n, values);
            return;
        }
        kernels->kv->halves(&codes, values, k->halves);
        block = k->halves;
    }
    const float *a = values ? k->scores + first : k->q;
    float *c = values ? k->acc : k->scores + first;
    const int64_t at = values ? first * dim : first, width = values ? dim : n, depth = values ? n : dim;
    const int64_t lda = values ? WE_KV_BLOCK : dim, ldb = values ? dim : WE_KV_BLOCK;
    if (kv->bits == 32)
        kernels->mul_f32(a, lda, (const float *)block + at, ldb, c, ldb, m, width, depth, values);
    else
        kernels->mul_f16(a, lda, (const uint16_t *)block + at, ldb, c, ldb, m, width, depth, values,
                         kv->bits == 16 ? block_after(w, u, index, values) : NULL);
}

typedef struct stretch {
    int64_t lo, hi; /* none: lo >= hi */
} stretch;

/* Which of positions [first, first + n) of the block at `base` a unit's query sees. */
static stretch seen_by(const work *w, const unit *u, int query, int64_t base, int first, int n)
{
    const int64_t position = u->span->position + u->row + query / w->group;
    const int64_t oldest = w->a->window ? position - w->a->window + 1 : 0;
    return (stretch){ WE_MAX(oldest - base, first), WE_MIN(position + 1 - base, first + n) };
}

/* Scores of one block to weights: masked ones become 0, what was summed before is brought to the new maximum. */
static void soften(const work *w, const unit *u, desk *k, int64_t base, int first, int n)
{
    const we_cpu_kernels *kernels = &w->d->k;
    for (int i = 0; i < u->n_rows * w->group; i++) {
        const stretch seen = seen_by(w, u, i, base, first, n);
        const int lo = (int)seen.lo, hi = (int)seen.hi;
        float *s = k->scores + i * WE_KV_BLOCK;
        for (int j = first; j < WE_MIN(lo, first + n); j++) s[j] = 0;
        for (int j = WE_MAX(hi, first); j < first + n; j++) s[j] = 0;
        if (lo >= hi) continue;
        const float most = kernels->max(s + lo, hi - lo);
        if (most > k->most[i]) {
            const float factor = expf(k->most[i] - most);
            kernels->scale(k->acc + (int64_t)i * w->a->head_dim, factor, w->a->head_dim);
            k->sum[i] *= factor;
            k->most[i] = most;
        }
        k->sum[i] += kernels->exp_sum(s + lo, k->most[i], hi - lo);
    }
}

/* ---- The same in bfloat16 ---- */

/* The same for all queries. Gives false where that is the whole block for each. */
static bool see(const work *w, const unit *u, desk *k, int64_t base, int first, int n)
{
    bool cut = first > 0 || n < WE_KV_BLOCK;
    for (int i = 0; i < u->n_rows * w->group; i++) {
        const stretch seen = seen_by(w, u, i, base, first, n);
        const bool some = seen.lo < seen.hi;
        k->from[i] = (uint8_t)(some ? seen.lo : 0);
        k->to[i] = (uint8_t)(some ? seen.hi : 0);
        cut |= seen.lo > 0 || seen.hi < WE_KV_BLOCK;
    }
    return cut;
}

/* A block as halves: where it is cut, values outside of it are 0, since 0 times what was forgotten there may be no number. */
static const uint16_t *halves_of(const work *w, const unit *u, desk *k, int64_t index, int first, int n, bool values)
{
    const we_kv *kv = u->span->kv;
    const uint16_t *block = we_kv_block(kv, w->a->layer, index, u->head, values);
    const int64_t dim = w->a->head_dim;
    if (kv->bits < 16) {
        const we_kv_codes codes = we_kv_codes_of(kv, w->a->layer, index, u->head, values);
        w->d->k.kv->halves(&codes, values, k->halves);
        block = k->halves;
    }
    if (!values || n == WE_KV_BLOCK) return block;
    const size_t row = (size_t)dim * sizeof *block;
    if (block != k->halves) memcpy(k->halves + first * dim, block + first * dim, (size_t)n * row);
    memset(k->halves, 0, (size_t)first * row);
    memset(k->halves + (first + n) * dim, 0, (size_t)(WE_KV_BLOCK - first - n) * row);
    return k->halves;
}

/* Keys and values are converted once for all queries. */
static void attend_bf16(const work *w, const unit *u, desk *k, int64_t index, int first, int n)
{
    const we_cpu_kernels *kernels = &w->d->k;
    const int64_t dim = w->a->head_dim;
    kernels->pairs_f16(halves_of(w, u, k, index, first, n, false), dim, WE_KV_BLOCK, k->keys);
    kernels->pairs_f16(halves_of(w, u, k, index, first, n, true), WE_KV_BLOCK, dim, k->values);
    const bool cut = see(w, u, k, index * WE_KV_BLOCK, first, n);
    const we_bf16_block block = { k->keys, k->values, dim };
    const we_bf16_queries queries = { .q = k->q_half,
                                      .from = cut ? k->from : NULL,
                                      .to = cut ? k->to : NULL,
                                      .reference = k->most,
                                      .sum = k->lanes,
                                      .acc = k->acc };
    kernels->attend_bf16(&block, &queries, u->n_rows * w->group);
}

static void add_lanes(const work *w, const unit *u, desk *k)
{
    for (int i = 0; i < u->n_rows * w->group; i++)
        for (int j = 0; j < WE_SUM_LANES; j++) k->sum[i] += k->lanes[i][j];
}

/* ---- Results ---- */

static void finish_whole(const work *w, const unit *u, desk *k)
{
    const int64_t dim = w->a->head_dim;
    for (int i = 0; i < u->n_rows * w->group; i++) {
        const int64_t row = u->span->first + u->row + i / w->group, head = u->head * w->group + i % w->group;
        float *out = w->out + row * w->cols + head * dim;
        memcpy(out, k->acc + i * dim, (size_t)dim * sizeof(float));
        w->d->k.scale(out, 1.0f / k->sum[i], dim);
    }
}

/* A part's result: [rows of the span's batch][query heads][parts] of head_dim sums, the maximum, the sum of weights. */
static float *partial_at(const work *w, int64_t row, int64_t head, int part)
{
    return w->d->partials + ((row * w->a->n_heads + head) * w->n_parts + part) * (w->a->head_dim + 2);
}

static void finish_part(const work *w, const unit *u, desk *k)
{
    const int64_t dim = w->a->head_dim;
    for (int i = 0; i < u->n_rows * w->group; i++) {
        const int64_t row = u->span->first + u->row + i / w->group, head = u->head * w->group + i % w->group;
        float *p = partial_at(w, row, head, u->part);
        memcpy(p, k->acc + i * dim, (size_t)dim * sizeof(float));
        p[dim] = k->most[i];
        p[dim + 1] = k->sum[i];
    }
}

static void attend_units(void *arg, int64_t begin, int64_t end, int thread)
{
    const work *w = arg;
    desk k = desk_of(w, thread);
    for (int64_t index = begin; index < end; index++) {
        const unit u = unit_at(w, index);
        gather_queries(w, &u, &k);
        for (int64_t at = u.begin; at < u.end;) {
            const int64_t block = at / WE_KV_BLOCK, base = block * WE_KV_BLOCK;
            const int first = (int)(at - base), n = (int)(WE_MIN(u.end, base + WE_KV_BLOCK) - at);
            at += n;
            if (k.bf16) {
                attend_bf16(w, &u, &k, block, first, n);
                continue;
            }
            product(w, &u, &k, block, first, n, false);
            soften(w, &u, &k, base, first, n);
            product(w, &u, &k, block, first, n, true);
        }
        if (k.bf16) add_lanes(w, &u, &k);
        if (parts_of(w, u.span) > 1)
            finish_part(w, &u, &k);
        else
            finish_whole(w, &u, &k);
    }
}

/* ---- Joining parts ---- */

static void join(const work *w, int64_t row, int64_t head)
{
    const int64_t dim = w->a->head_dim;
    float *out = w->out + row * w->cols + head * dim, most = -INFINITY, sum = 0;
    for (int p = 0; p < w->n_parts; p++) most = WE_MAX(most, partial_at(w, row, head, p)[dim]);
    for (int64_t j = 0; j < dim; j++) out[j] = 0;
    for (int p = 0; p < w->n_parts; p++) {
        const float *part = partial_at(w, row, head, p);
        if (part[dim + 1] == 0.0f) continue; /* an empty part */
        const float factor = expf(part[dim] - most);
        sum += factor * part[dim + 1];
        for (int64_t j = 0; j < dim; j++) out[j] += factor * part[j];
    }
    w->d->k.scale(out, 1.0f / sum, dim);
}

static void join_all(const work *w)
{
    for (int s = 0; s < w->d->batch->n_spans; s++) {
        const we_span *span = &w->d->batch->spans[s];
        if (parts_of(w, span) == 1) continue;
        for (int r = span->n - rows_of(w, span); r < span->n; r++)
            for (int h = 0; h < w->a->n_heads; h++) join(w, span->first + r, h);
    }
}

/* ---- The op ---- */

size_t we_cpu_attend_partials_bytes(const we_cpu *d)
{
    const int64_t cols = atomic_load(&d->max_cols);
    return (size_t)(cols * 2) * sizeof(float) * (size_t)(4 * d->base.n_threads) * SPLIT_ROWS;
}

/* How many parts make enough units for all threads. */
static int choose_parts(const work *w)
{
    const we_batch *batch = w->d->batch;
    int64_t units = 0, longest = 0;
    for (int s = 0; s < batch->n_spans; s++) {
        units += (int64_t)w->a->n_kv_heads * blocks_of(w, &batch->spans[s]);
        longest = WE_MAX(longest, batch->spans[s].position + batch->spans[s].n);
    }
    if (w->a->window) longest = WE_MIN(longest, w->a->window);
    const int64_t wanted = WE_MIN(4 * w->d->base.n_threads / units, longest / SPLIT_MIN);
    const size_t each = (size_t)batch->n_rows * (size_t)w->a->n_heads * (size_t)(w->a->head_dim + 2) * sizeof(float);
    return (int)WE_MAX(WE_MIN(wanted, (int64_t)(w->d->partials_bytes / each)), 1);
}

static bool valid(we_cpu *d, const we_tensor *out, const we_tensor *q, const we_attend *a)
{
    bool ok = a->n_kv_heads > 0 && a->n_heads > 0 && a->n_heads % a->n_kv_heads == 0 &&
              a->n_heads / a->n_kv_heads <= MAX_GROUP && q->cols == (int64_t)a->n_heads * a->head_dim &&
              q->cols <= atomic_load(&d->max_cols) + a->head_dim && q->rows == d->batch->n_rows &&
              out->cols == q->cols && q->rows <= out->max_rows && out != q;
    for (int s = 0; s < d->batch->n_spans && ok; s++) {
        const we_span *span = &d->batch->spans[s];
        const int64_t lo = a->window ? WE_MAX(span->position - a->window + 1, 0) : 0;
        ok = span->kv && we_kv_has(span->kv, a->layer, lo, (int64_t)span->position + span->n) &&
             span->kv->layers[a->layer].shape.n_kv_heads == a->n_kv_heads &&
             span->kv->layers[a->layer].shape.head_dim == a->head_dim;
    }
    if (!ok)
        we_cpu_fail(d, WE_E_INTERNAL, "attend: layer %d with %d heads (%d of keys) of %d does not fit its cache",
                    a->layer, a->n_heads, a->n_kv_heads, a->head_dim);
    return ok;
}

void we_cpu_attend(we_device *device, we_tensor *out, const we_tensor *q, const we_attend *a)
{
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d) || !valid(d, out, q, a)) return;
    out->rows = q->rows;
    work w = { .d = d, .a = a, .q = q->f, .out = out->f, .cols = q->cols, .group = a->n_heads / a->n_kv_heads };
    w.block_rows = WE_MAX(BLOCK_QUERIES / w.group, 1);
    w.n_parts = choose_parts(&w);
    int64_t n_units = 0;
    for (int s = 0; s < d->batch->n_spans; s++) n_units += units_of(&w, &d->batch->spans[s]);
    const int64_t context = d->batch->spans[0].position + d->batch->n_rows;
    const bool tiny = d->batch->n_rows * q->cols * context < 65536; /* not worth waking the others */
    we_cpu_for(d, n_units, tiny ? n_units : 1, attend_units, &w);
    if (w.n_parts > 1) join_all(&w);
}
