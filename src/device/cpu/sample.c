/* SPDX-License-Identifier: Apache-2.0
 * sample.c - the `sample` op: one token from one row of logits. Source of order and meaning: mlx_lm/sample_utils.py.
 *
 * Log-probabilities are never computed: a filter compares tokens of one row, and logits differ from them by a constant.
 * Nothing is sorted either. Top-p and top-k ask for one value, "the lowest that stays": it is found digit by digit, from a
 * histogram (of mass or of counts) over each 11 bits of the logits' order-preserving integer form. */
#include "device/cpu/cpu_int.h"

#include <math.h>

#define DIGIT_BITS 11
#define N_BUCKETS (1 << DIGIT_BITS)

typedef struct bucket {
    double mass;
    int64_t count;
} bucket;

typedef struct row {
    const we_cpu_kernels *k;
    float *x; /* [n] logits; -INFINITY: filtered out */
    int64_t n;
    float *p;        /* [n] exp(x - largest), where asked for */
    bucket *buckets; /* [N_BUCKETS] */
} row;

size_t we_cpu_sample_bytes(int64_t n_logits)
{
    return (size_t)n_logits * 2 * sizeof(float) + N_BUCKETS * sizeof(bucket) + 128;
}

/* ---- Penalty ---- */

/* Each distinct id once: an id that was met is marked by its bit in `seen`. */
static void penalize(row *r, const we_sample_spec *spec)
{
    uint8_t *seen = (uint8_t *)r->p;
    for (int i = 0; i < spec->n_recent; i++)
        if (spec->recent[i] >= 0 && spec->recent[i] < r->n) seen[spec->recent[i]] = 0;
    for (int i = 0; i < spec->n_recent; i++) {
        const int32_t id = spec->recent[i];
        if (id < 0 || id >= r->n || seen[id]) continue;
        seen[id] = 1;
        r->x[id] = r->x[id] < 0 ? r->x[id] * spec->repetition_penalty : r->x[id] / spec->repetition_penalty;
    }
}

/* ---- Filters ---- */

/* Floats as integers of the same order. */
static uint32_t key_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t key)
{
    const uint32_t bits = key & 0x80000000u ? key & 0x7fffffff : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The lowest value v such that what lies strictly above v is less than `limit`, counted or, with `mass`, as the sum of p. */
static float lowest_kept(row *r, bool mass, double limit)
{
    double above = 0;
    uint32_t prefix = 0;
    for (int shift = 32; shift > 0;) {
        const int bits = WE_MIN(DIGIT_BITS, shift), high = shift;
        shift -= bits;
        memset(r->buckets, 0, N_BUCKETS * sizeof(bucket));
        for (int64_t i = 0; i < r->n; i++) {
            const uint32_t key = key_of(r->x[i]);
            if (high < 32 && key >> high != prefix) continue;
            bucket *b = &r->buckets[key >> shift & ((1u << bits) - 1)];
            b->count++;
            if (mass) b->mass += (double)r->p[i];
        }
        /* Down from the top: the digit is that of the last bucket that begins below the limit. */
        int digit = -1;
        double before = above;
        for (int b = (1 << bits) - 1; b >= 0; b--) {
            if (r->buckets[b].count == 0) continue;
            if (digit >= 0 && before >= limit) break;
            digit = b;
            above = before;
            before += mass ? r->buckets[b].mass : (double)r->buckets[b].count;
        }
        prefix = prefix << bits | (uint32_t)digit;
    }
    return value_of(prefix);
}

static void drop_below(row *r, float lowest)
{
    for (int64_t i = 0; i < r->n; i++)
        if (r->x[i] < lowest) r->x[i] = -INFINITY;
}

static double exp_all(row *r, float largest) /* p = exp(x - largest) */
{
    memcpy(r->p, r->x, (size_t)r->n * sizeof(float));
    double total = 0; /* in pieces: a float sum of 100,000 terms loses digits */
    for (int64_t i = 0; i < r->n; i += 1024) total += (double)r->k->exp_sum(r->p + i, largest, WE_MIN(1024, r->n - i));
    return total;
}

static void keep_top_p(row *r, float largest, double top_p)
{
    const double total = exp_all(r, largest);
    drop_below(r, lowest_kept(r, true, top_p * total));
}

/* Exactly k stay: of those equal to the lowest, the first ids. */
static void keep_top_k(row *r, int64_t k)
{
    const float lowest = lowest_kept(r, false, (double)k);
    if (isinf(lowest)) return; /* fewer than k are left */
    int64_t equals = k;
    for (int64_t i = 0; i < r->n; i++) equals -= r->x[i] > lowest;
    for (int64_t i = 0; i < r->n; i++)
        if (r->x[i] < lowest || (r->x[i] == lowest && equals-- <= 0)) r->x[i] = -INFINITY;
}

/* ---- The token ---- */

static int32_t argmax(const row *r)
{
    const float largest = r->k->max(r->x, r->n);
    for (int64_t i = 0; i < r->n; i++)
        if (r->x[i] == largest) return (int32_t)i;
    return 0;
}

static int32_t draw(row *r, float largest, const we_sample_spec *spec)
{
    const float inverse = 1.0f / spec->temperature;
    if (isinf(inverse)) return argmax(r);
    for (int64_t i = 0; i < r->n; i++) r->x[i] = (r->x[i] - largest) * inverse;
    const double total = exp_all(r, 0.0f), at = we_uniform(spec->seed, spec->counter) * total;
    double sum = 0;
    int32_t last = 0;
    for (int64_t i = 0; i < r->n; i++) {
        if (r->p[i] == 0.0f) continue;
        sum += (double)r->p[i];
        last = (int32_t)i;
        if (sum > at) break;
    }
    return last;
}

static int32_t sample_row(row *r, const we_sample_spec *spec)
{
    const float penalty = spec->repetition_penalty;
    if (penalty != 0.0f && penalty != 1.0f && spec->n_recent > 0) penalize(r, spec);
    const float largest = r->k->max(r->x, r->n);
    if (!(spec->temperature > 0.0f) || isinf(largest)) return argmax(r); /* infinite: nothing can be compared with it */
    if (spec->top_p > 0.0f && spec->top_p < 1.0f) keep_top_p(r, largest, (double)spec->top_p);
    if (spec->min_p > 0.0f) drop_below(r, largest + logf(spec->min_p));
    if (spec->top_k > 0 && spec->top_k < r->n) keep_top_k(r, spec->top_k);
    return draw(r, largest, spec);
}

void we_cpu_sample(we_device *device, we_tensor *ids, const we_tensor *logits, const we_sample_spec *specs)
{
    we_cpu *d = we_cpu_of(device);
    if (we_cpu_failed(d)) return;
    if (ids->kind != WE_TENSOR_IDS || logits->rows > ids->max_rows ||
        d->sample_bytes < we_cpu_sample_bytes(logits->cols)) {
        we_cpu_fail(d, WE_E_INTERNAL, "sample: no room for %lld rows of %lld logits", (long long)logits->rows,
                    (long long)logits->cols);
        return;
    }
    row r = { .k = &d->k, .n = logits->cols, .buckets = (bucket *)(void *)d->sample_scratch };
    r.x = (float *)(void *)(r.buckets + N_BUCKETS);
    r.p = r.x + r.n;
    for (int64_t i = 0; i < logits->rows; i++) {
        memcpy(r.x, logits->f + i * r.n, (size_t)r.n * sizeof(float));
        ids->ids[i] = sample_row(&r, &specs[i]);
    }
    ids->rows = logits->rows;
}
