/* SPDX-License-Identifier: Apache-2.0
 * measure.c - speed of a decoder on this machine: the bench's tests on random tokens. Quality is perplexity.c. */
#include "runtime/seq_int.h"

typedef struct bench {
    we_decoder *decoder;
    const we_bench_options *options;
    we_seq **seqs;       /* [batch] */
    we_tensor *drawn[2]; /* [batch] tokens of a step and the one before it, in turn */
    uint64_t random;
} bench;

static int32_t random_token(bench *b)
{
    const int vocab = we_decoder_get_info(b->decoder)->vocab_size;
    return (int32_t)(we_uniform(42, b->random++) * vocab);
}

/* n random tokens; with `sampling` the one that follows is drawn, as a prompt's end does. */
static we_status fill(bench *b, we_seq *s, size_t n, const we_sampling *sampling, we_error *err)
{
    int32_t ids[WE_STEP_ROWS_MOST], sampled;
    we_status st = WE_OK;
    while (n && !st) {
        const size_t piece = WE_MIN(n, (size_t)s->info->step_rows);
        for (size_t i = 0; i < piece; i++) ids[i] = random_token(b);
        n -= piece;
        st = we_seq_feed(s, ids, piece, sampling, 0, n || !sampling ? 0 : 1, &sampled, NULL, NULL, err);
    }
    return st;
}

/* All sequences at `depth`. */
static we_status to_depth(bench *b, we_error *err)
{
    we_status st = WE_OK;
    for (int i = 0; i < b->options->batch && !st; i++) {
        we_seq_reset(b->seqs[i]);
        st = fill(b, b->seqs[i], (size_t)b->options->depth, NULL, err);
    }
    return st;
}

/* One token of every sequence in one step; number `step` of the test. It reads what the one before drew, on the device; nobody
 * looks at the tokens themselves, but the test waits for them, one step behind, as an answer does. */
static we_status step_all(bench *b, int step, we_error *err)
{
    int32_t first[WE_LOGIT_ROWS];
    we_span spans[WE_LOGIT_ROWS];
    we_sample_spec specs[WE_LOGIT_ROWS] = { 0 };
    int32_t rows[WE_LOGIT_ROWS];
    const int n = b->options->batch;
    we_status st = WE_OK;
    for (int i = 0; i < n && !st; i++) {
        we_seq *s = b->seqs[i];
        const int64_t at = (int64_t)s->tokens.n;
        spans[i] = (we_span){ s->kv, i, 1, (int32_t)at };
        rows[i] = i;
        st = s->device->ops->kv_reserve(s->device, s->kv, at, at + 1, err);
        first[i] = random_token(b);
        if (!st) st = we_ids_push(&s->tokens, first[i], err);
    }
    const we_step_request request = { .spans = spans,
                                      .n_spans = n,
                                      .n_rows = n,
                                      .ids = step ? NULL : first,
                                      .drawn_before = b->drawn[(step + 1) % 2],
                                      .out_rows = rows,
                                      .n_out = n,
                                      .specs = specs,
                                      .drawn = b->drawn[step % 2] };
    if (!st) st = we_decoder_step(b->decoder, &request, err);
    we_device *d = we_decoder_device(b->decoder);
    if (!st && step && !d->ops->read(d, b->drawn[(step + 1) % 2], err)) st = WE_E_DEVICE;
    return st;
}

static void count_caches(const bench *b)
{
    for (int i = 0; i < b->options->batch; i++) we_monitor_kv(&b->seqs[i]->kv_counted, we_seq_kv_bytes(b->seqs[i]));
}

static we_status prompt_test(bench *b, we_bench_sample *sample, we_error *err)
{
    const we_sampling greedy = { .temperature = 0 };
    const int n = b->options->prompt_tokens;
    we_monitor_request monitor;
    we_status st = to_depth(b, err);
    const double start = we_now_s();
    we_monitor_begin(&monitor);
    for (int i = 0; i < b->options->batch && !st; i++) {
        st = fill(b, b->seqs[i], (size_t)n, &greedy, err);
        if (i == 0) sample->time_to_first_token_s = we_now_s() - start;
    }
    sample->prompt_tokens_per_second = (double)n * b->options->batch / (we_now_s() - start);
    if (!st) we_monitor_first_token(&monitor, (size_t)(n * b->options->batch), 0);
    count_caches(b);
    we_monitor_end(&monitor, !st);
    return st;
}

static we_status generation_test(bench *b, we_bench_sample *sample, we_error *err)
{
    we_monitor_request monitor;
    we_status st = to_depth(b, err);
    we_monitor_begin(&monitor);
    we_monitor_first_token(&monitor, 0, 0);
    const double start = we_now_s();
    for (int i = 0; i < b->options->generated_tokens && !st; i++) {
        st = step_all(b, i, err);
        we_monitor_tokens(&monitor, (size_t)b->options->batch);
    }
    we_device *d = we_decoder_device(b->decoder);
    if (!st && !d->ops->read(d, b->drawn[(b->options->generated_tokens + 1) % 2], err)) st = WE_E_DEVICE;
    sample->generation_tokens_per_second =
        (double)b->options->generated_tokens * b->options->batch / (we_now_s() - start);
    count_caches(b);
    we_monitor_end(&monitor, !st);
    return st;
}

static we_status check_bench(const we_decoder *decoder, const we_bench_options *o, we_error *err)
{
    const int context = we_decoder_get_info(decoder)->context;
    if (o->prompt_tokens < 0 || o->generated_tokens < 0 || o->depth < 0 || (!o->prompt_tokens && !o->generated_tokens))
        return we_fail(err, WE_E_RANGE,
                       "bench: prompt and generated tokens are %d and %d at depth %d; at least one token is needed",
                       o->prompt_tokens, o->generated_tokens, o->depth);
    if (o->repetitions < 1 || o->repetitions > 10000)
        return we_fail(err, WE_E_RANGE, "bench: repetitions are %d, expected 1 to 10000", o->repetitions);
    if (o->batch < 1 || o->batch > WE_LOGIT_ROWS)
        return we_fail(err, WE_E_RANGE, "bench: batch is %d, expected 1 to %d", o->batch, WE_LOGIT_ROWS);
    if ((int64_t)o->depth + WE_MAX(o->prompt_tokens, o->generated_tokens) > context)
        return we_fail(err, WE_E_RANGE, "bench: depth %d + %d tokens exceed the context of %d: raise --context",
                       o->depth, WE_MAX(o->prompt_tokens, o->generated_tokens), context);
    return WE_OK;
}

/* A repetition is a prompt test and a generation test; the first, untimed one warms caches, pages and clocks. */
static we_status run_bench(bench *b, we_bench_sample *samples, we_error *err)
{
    we_status st = WE_OK;
    for (int i = -1; i < b->options->repetitions && !st; i++) {
        we_bench_sample warm_up, *sample = i < 0 ? &warm_up : &samples[i];
        *sample = (we_bench_sample){ 0 };
        if (b->options->prompt_tokens) st = prompt_test(b, sample, err);
        if (b->options->generated_tokens && !st) st = generation_test(b, sample, err);
    }
    return st;
}

we_status we_decoder_bench(we_decoder *decoder, const we_bench_options *options, we_bench_sample *samples,
                           we_error *err)
{
    we_status st = check_bench(decoder, options, err);
    if (st) return st;
    bench b = { .decoder = decoder, .options = options, .seqs = we_calloc((size_t)options->batch, sizeof(we_seq *)) };
    if (!b.seqs) return we_fail(err, WE_E_NOMEM, "no memory for %d sessions", options->batch);
    we_device *d = we_decoder_device(decoder);
    for (int i = 0; i < 2 && !st; i++) st = d->ops->ids_new(d, options->batch, &b.drawn[i], err);
    for (int i = 0; i < options->batch && !st; i++) st = we_seq_open(&b.seqs[i], decoder, err);
    if (!st) st = run_bench(&b, samples, err);
    for (int i = 0; i < options->batch; i++) we_seq_close(b.seqs[i]);
    for (int i = 0; i < 2; i++) d->ops->tensor_free(d, b.drawn[i]);
    we_free(b.seqs);
    return st;
}
