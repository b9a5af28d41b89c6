/* SPDX-License-Identifier: Apache-2.0
 * test_device_sample.c - choosing tokens: the device's `sample` against a plain version in double precision that sorts, as
 * mlx_lm/sample_utils.py does; the drawn distribution; the uniform numbers. */
#include "support.h"

#include "device/device.h"

#include <math.h>
#include <stdlib.h>

static uint32_t random_state = 1;
static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / (float)(1 << 23) - 1.0f;
}

/* ---- The plain version ---- */

typedef struct candidate {
    double logprob;
    int32_t id;
    bool kept;
} candidate;

static int by_logprob(const void *a, const void *b) /* highest first, then lowest id */
{
    const candidate *x = a, *y = b;
    if (x->logprob != y->logprob) return x->logprob < y->logprob ? 1 : -1;
    return x->id - y->id;
}

static int by_id(const void *a, const void *b) { return ((const candidate *)a)->id - ((const candidate *)b)->id; }

static void keep_top_p(candidate *c, int n, double top_p) /* sorted; ties with the last that stays, stay */
{
    double total = 0, above = 0, lowest = INFINITY;
    for (int i = 0; i < n; i++) total += exp(c[i].logprob);
    for (int i = 0; i < n; above += exp(c[i++].logprob))
        if (above < top_p * total) lowest = c[i].logprob;
    for (int i = 0; i < n; i++) c[i].kept = c[i].logprob >= lowest;
}

static int32_t sample_plainly(const float *logits, int n, const we_sample_spec *s, bool *kept)
{
    candidate *c = we_calloc((size_t)n, sizeof(*c));
    bool *seen = we_calloc((size_t)n, sizeof(*seen));
    double most = -INFINITY, total = 0;
    for (int i = 0; i < n; i++) c[i] = (candidate){ (double)logits[i], i, true };
    for (int i = 0; i < s->n_recent && s->repetition_penalty != 0; i++) {
        candidate *r = &c[s->recent[i]];
        if (seen[r->id]) continue;
        seen[r->id] = true;
        r->logprob = (double)(r->logprob < 0 ? (float)r->logprob * s->repetition_penalty
                                             : (float)r->logprob / s->repetition_penalty);
    }
    for (int i = 0; i < n; i++) most = fmax(most, c[i].logprob);
    for (int i = 0; i < n; i++) total += exp(c[i].logprob - most);
    for (int i = 0; i < n; i++) c[i].logprob -= most + log(total);
    qsort(c, (size_t)n, sizeof(*c), by_logprob);
    if (s->top_p > 0 && s->top_p < 1) keep_top_p(c, n, (double)s->top_p);
    for (int i = 0; i < n && s->min_p > 0; i++)
        if (c[i].logprob < c[0].logprob + log((double)s->min_p)) c[i].kept = false;
    for (int i = 0, left = s->top_k; i < n && s->top_k > 0; i++)
        if (c[i].kept && left-- <= 0) c[i].kept = false;
    int32_t chosen = c[0].id;
    const double best = c[0].logprob;
    qsort(c, (size_t)n, sizeof(*c), by_id);
    for (int i = 0; i < n; i++) kept[i] = c[i].kept;
    if (s->temperature > 0) {
        double sum = 0, at = 0;
        for (int i = 0; i < n; i++) sum += c[i].kept ? exp((c[i].logprob - best) / (double)s->temperature) : 0;
        const double u = we_uniform(s->seed, s->counter) * sum;
        for (int i = 0; i < n; i++) {
            if (!c[i].kept) continue;
            chosen = i;
            at += exp((c[i].logprob - best) / (double)s->temperature);
            if (at > u) break;
        }
    }
    we_free(c);
    we_free(seen);
    return chosen;
}

/* ---- The device ---- */

typedef struct sampler {
    we_device *d;
    we_tensor *logits, *ids, *row_ids;
    int n;
} sampler;

/* kernels: a name of the CPU's, NULL for its best, or "mlx" */
static sampler sampler_open(const char *kernels, int n, int rows)
{
    sampler s = { .n = n };
    we_error err;
    const bool mlx = kernels && strcmp(kernels, "mlx") == 0;
    const we_device_options options = { .device = mlx ? "mlx" : "cpu", .kernels = mlx ? NULL : kernels, .threads = 2 };
    CHECK_OK(we_device_open(&s.d, &options, &err), &err);
    CHECK_OK(s.d->ops->tensor_new(s.d, rows, n, &s.logits, &err), &err);
    CHECK_OK(s.d->ops->ids_new(s.d, rows, &s.ids, &err), &err);
    CHECK_OK(s.d->ops->ids_new(s.d, rows, &s.row_ids, &err), &err);
    return s;
}

static void sampler_close(sampler *s)
{
    s->d->ops->tensor_free(s->d, s->logits);
    s->d->ops->tensor_free(s->d, s->ids);
    s->d->ops->tensor_free(s->d, s->row_ids);
    we_device_close(s->d);
}

static const int32_t *draw(sampler *s, const float *logits, int rows, const we_sample_spec *specs)
{
    we_tensor *table;
    we_error err;
    const we_matrix m = { .rows = rows, .cols = s->n, .dtype = WE_F32, .data = (const uint8_t *)logits };
    CHECK_OK(s->d->ops->weight_new(s->d, &m, &table, &err), &err);
    const int32_t numbers[] = { 0, 1, 2, 3 };
    s->d->ops->write_ids(s->d, s->row_ids, numbers, rows);
    const we_span span = { .n = rows };
    const we_batch batch = { .spans = &span, .n_spans = 1, .n_rows = rows };
    s->d->ops->begin(s->d, &batch);
    s->d->ops->embed(s->d, s->logits, table, s->row_ids, 1.0f);
    s->d->ops->sample(s->d, s->ids, s->logits, specs);
    CHECK_OK(s->d->ops->end(s->d, &err), &err);
    s->d->ops->tensor_free(s->d, table);
    return s->d->ops->read(s->d, s->ids, NULL);
}

/* ---- Tests ---- */

static const char *const kernels[] = { "reference", NULL, "mlx" };
#define EACH_DEVICE(k) for (size_t k = 0; k < WE_COUNT(kernels) - !WE_HAS_MLX; k++)

TEST(sample_agrees_with_the_plain_version)
{
    static const int32_t recent[] = { 3, 7, 7, 0, 3 };
    static const we_sample_spec settings[] = {
        { .temperature = 0 },
        { .temperature = 1 },
        { .temperature = 0.3f },
        { .temperature = 1, .top_p = 0.9f },
        { .temperature = 2, .top_p = 0.5f },
        { .temperature = 1, .top_p = 0.01f },
        { .temperature = 1, .min_p = 0.1f },
        { .temperature = 1, .top_k = 1 },
        { .temperature = 1, .top_k = 7 },
        { .temperature = 0.7f, .top_p = 0.8f, .min_p = 0.05f, .top_k = 5 },
        { .temperature = 0, .repetition_penalty = 1.5f, .recent = recent, .n_recent = 5 },
        { .temperature = 1, .top_p = 0.9f, .repetition_penalty = 3, .recent = recent, .n_recent = 5 },
    };
    static const int sizes[] = { 8, 100, 3001 };
    EACH_DEVICE(k)
    for (size_t z = 0; z < WE_COUNT(sizes); z++) {
        const int n = sizes[z];
        sampler s = sampler_open(kernels[k], n, 4);
        float *logits = we_malloc((size_t)(4 * n) * sizeof(float));
        bool *kept = we_malloc((size_t)n);
        int differ = 0, draws = 0;
        for (size_t i = 0; i < WE_COUNT(settings) * (n > 1000 ? 3 : 15); i++) {
            we_sample_spec specs[4];
            for (int j = 0; j < 4 * n; j++)
                logits[j] = i % 4 == 3 ? (float)(int)(random_float() * 4) : random_float() * 8; /* ties */
            for (int r = 0; r < 4; r++) {
                specs[r] = settings[(i + (size_t)r) % WE_COUNT(settings)];
                specs[r].seed = 11;
                specs[r].counter = i * 4 + (size_t)r;
            }
            const int32_t *got = draw(&s, logits, 4, specs);
            for (int r = 0; r < 4; r++, draws++) {
                const int32_t want = sample_plainly(logits + r * n, n, &specs[r], kept);
                assert_true(got[r] >= 0 && got[r] < n && kept[got[r]]); /* never what was filtered out */
                differ += got[r] != want;
            }
        }
        if (differ * 200 > draws) fail_msg("%d of %d draws differ", differ, draws); /* rounding at a border, seldom */
        we_free(logits);
        we_free(kept);
        sampler_close(&s);
    }
}

static void check_greedy(const char *name)
{
    sampler s = sampler_open(name, 40, 1);
    float logits[40];
    for (int i = 0; i < 40; i++) logits[i] = i == 33 || i == 12 || i == 39 ? 5.0f : 1.0f;
    assert_int_equal(*draw(&s, logits, 1, &(we_sample_spec){ .temperature = 0 }), 12);
    for (int i = 0; i < 40; i++) logits[i] = -INFINITY;
    logits[9] = -1e30f;
    assert_int_equal(*draw(&s, logits, 1, &(we_sample_spec){ .temperature = 0 }), 9);
    assert_int_equal(*draw(&s, logits, 1, &(we_sample_spec){ .temperature = 1, .top_p = 0.5f, .top_k = 3 }), 9);
    sampler_close(&s);
}
TEST(sample_greedy_takes_the_lowest_id_among_equals) { EACH_DEVICE(k) check_greedy(kernels[k]); }

static void check_odd(const char *name)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY };
    sampler s = sampler_open(name, 40, 1);
    for (int kind = 0; kind < 9; kind++) {
        float logits[40];
        for (int i = 0; i < 40; i++)
            logits[i] = kind < 3 || i % 5 == 0 ? odd[kind % 3] : kind < 6 ? random_float() : odd[(kind + i) % 3];
        const int32_t id =
            *draw(&s, logits, 1, &(we_sample_spec){ .temperature = 1, .top_p = 0.9f, .min_p = 0.1f, .top_k = 5 });
        assert_true(id >= 0 && id < 40);
    }
    sampler_close(&s);
}
TEST(sample_survives_logits_that_are_no_numbers) { EACH_DEVICE(k) check_odd(kernels[k]); }

TEST(sample_draws_with_the_right_frequencies)
{
    enum { DRAWS = 4000 };
    static const double probabilities[] = { 0.5, 0.25, 0.125, 0.0625, 0.0625 };
    sampler s = sampler_open(NULL, 5, 1);
    float logits[5];
    int counts[5] = { 0 };
    for (int i = 0; i < 5; i++)
        logits[i] = (float)log(probabilities[i]) * 0.5f + 3.0f; /* temperature 0.5 brings them back */
    for (uint64_t i = 0; i < DRAWS; i++)
        counts[*draw(&s, logits, 1, &(we_sample_spec){ .temperature = 0.5f, .seed = 1, .counter = i })]++;
    double chi_squared = 0;
    for (int i = 0; i < 5; i++) {
        const double expected = (double)DRAWS * probabilities[i];
        chi_squared += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    if (chi_squared > 18.5) fail_msg("chi squared is %g: 4 degrees of freedom exceed 18.5 once in 1000", chi_squared);
    sampler_close(&s);
}

TEST(uniform_numbers_are_spread_and_repeat)
{
    double sum = 0;
    int buckets[16] = { 0 };
    for (uint64_t i = 0; i < 16000; i++) {
        const double u = we_uniform(i / 4000, i % 4000);
        assert_true(u >= 0 && u < 1 && u == we_uniform(i / 4000, i % 4000));
        sum += u;
        buckets[(int)(u * 16)]++;
    }
    assert_true(fabs(sum / 16000 - 0.5) < 0.01);
    for (int i = 0; i < 16; i++) assert_true(abs(buckets[i] - 1000) < 150);
    assert_true(we_uniform(0, 1) != we_uniform(1, 0) && we_uniform(0, 0) != we_uniform(0, 1));
}
