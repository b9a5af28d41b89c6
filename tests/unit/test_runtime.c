/* SPDX-License-Identifier: Apache-2.0
 * test_runtime.c - sequences: what a prompt shares with the cache is not computed again and gives the same answer as a fresh
 * cache; sliding windows go back by snapshot or compute again; limits and cancelling. */
#include "runtime/runtime.h"
#include "support.h"
#include <math.h>
#include <stdio.h>

typedef struct bed {
    we_device *device;
    we_decoder *decoder;
    we_seq *seq;
} bed;

static bed open_bed_on(we_device *device, const char *name, int context)
{
    bed b = { .device = device };
    we_error err;
    char path[128];
    snprintf(path, sizeof path, "logits/%s", name);
    CHECK_OK(we_decoder_open(&b.decoder, b.device, test_fixture(path),
                             &(we_decoder_options){ .precise = true, .context = context }, &err),
             &err);
    CHECK_OK(we_seq_open(&b.seq, b.decoder, &err), &err);
    return b;
}

static we_device *open_cpu(void)
{
    we_device *device;
    we_error err;
    CHECK_OK(we_device_open(&device, &(we_device_options){ .threads = 2 }, &err), &err);
    return device;
}

static bed open_bed(const char *name, int context) { return open_bed_on(open_cpu(), name, context); }

static void close_bed(bed *b)
{
    we_seq_close(b->seq);
    we_decoder_close(b->decoder);
    we_device_close(b->device);
}

/* n repeatable tokens; another `kind` gives others. */
static void make_tokens(int32_t *out, size_t n, uint64_t kind)
{
    for (size_t i = 0; i < n; i++) out[i] = (int32_t)(3 + test_random(&kind) % 250);
}

static we_result answer(we_seq *seq, const int32_t *tokens, size_t n, size_t mark, int max_tokens)
{
    we_error err;
    we_result r = { .size = sizeof r };
    const we_generation g = { .tokens = tokens,
                              .n_tokens = n,
                              .mark = mark,
                              .max_tokens = max_tokens,
                              .sampling = { .repetition_context = 20 } };
    CHECK_OK(we_seq_generate(seq, &g, &r, &err), &err);
    return r;
}

static void same_answer(const we_result *a, const we_result *b)
{
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof(int32_t));
}

TEST(runtime_a_shared_beginning_is_reused_and_changes_nothing)
{
    bed b = open_bed("llama_f32", 0), fresh = open_bed("llama_f32", 0);
    int32_t tokens[600];
    make_tokens(tokens, WE_COUNT(tokens), 1);
    we_result r = answer(b.seq, tokens, 400, 0, 8);
    assert_int_equal(r.n_cached_tokens, 0);
    we_result_deinit(&r);

    tokens[300] ^= 1; /* the second prompt agrees up to here */
    r = answer(b.seq, tokens, 600, 0, 8);
    we_result want = answer(fresh.seq, tokens, 600, 0, 8);
    assert_int_equal(r.n_cached_tokens, 300);
    same_answer(&r, &want);
    we_result_deinit(&r);

    r = answer(b.seq, tokens, 600, 0, 8); /* the same again: all but the last token, whose logits are wanted */
    assert_int_equal(r.n_cached_tokens, 599);
    same_answer(&r, &want);
    we_result_deinit(&r);
    we_result_deinit(&want);
    close_bed(&b);
    close_bed(&fresh);
}

TEST(runtime_answers_continue_into_the_next_prompt)
{
    bed b = open_bed("llama_f32", 0);
    int32_t tokens[64];
    make_tokens(tokens, 40, 2);
    we_result r = answer(b.seq, tokens, 40, 0, 8);
    memcpy(tokens + 40, r.tokens, 8 * sizeof *tokens);
    make_tokens(tokens + 48, 16, 3);
    we_result_deinit(&r);
    r = answer(b.seq, tokens, 64, 0, 4);
    assert_int_equal(r.n_cached_tokens, 47); /* the eighth token was drawn, but never fed */
    we_result_deinit(&r);
    close_bed(&b);
}

/* A template that drops reasoning from earlier turns: the next prompt parts from the cache at the end of the user's turn. */
static void check_sliding(const char *name, size_t mark, size_t want_cached)
{
    bed b = open_bed(name, 0), fresh = open_bed(name, 0);
    int32_t tokens[400];
    make_tokens(tokens, WE_COUNT(tokens), 4);
    we_result r = answer(b.seq, tokens, 170, mark, 120); /* far past the windows of 24 and 32 */
    assert_int_equal(r.n_tokens, 120);
    we_result_deinit(&r);
    make_tokens(tokens + 160, 240, 5);
    r = answer(b.seq, tokens, 400, 390, 8);
    we_result want = answer(fresh.seq, tokens, 400, 0, 8);
    assert_int_equal(r.n_cached_tokens, want_cached);
    same_answer(&r, &want);
    we_result_deinit(&r);
    we_result_deinit(&want);
    close_bed(&b);
    close_bed(&fresh);
}

TEST(runtime_sliding_windows_go_back_by_snapshot)
{
    check_sliding("llama_sliding_long", 160, 160);
    check_sliding("gemma3_text_long_q4", 160, 160);
}

TEST(runtime_sliding_windows_without_a_fitting_snapshot_compute_again)
{
    check_sliding("llama_sliding_long", 0, 0);
    check_sliding("llama_sliding_long", 165, 0); /* the snapshot lies behind the point where the prompts part */
}

TEST(runtime_a_prompt_beyond_the_context_is_refused_and_a_full_context_ends_the_answer)
{
    bed b = open_bed("llama_f32", 50);
    int32_t tokens[51];
    we_error err;
    make_tokens(tokens, WE_COUNT(tokens), 6);
    we_result r = { .size = sizeof r };
    we_generation g = { .tokens = tokens, .n_tokens = 51, .sampling = { .repetition_context = 20 } };
    CHECK_STATUS(we_seq_generate(b.seq, &g, &r, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "the prompt has 51 tokens, but the context holds 50");
    we_result_deinit(&r);
    r = answer(b.seq, tokens, 40, 0, 0);
    assert_int_equal(r.finish, WE_FINISH_LENGTH);
    assert_int_equal(r.n_tokens, 11); /* ten were fed, one more was drawn from the last position */
    we_result_deinit(&r);
    close_bed(&b);
}

TEST(runtime_ids_beyond_the_vocabulary_are_refused_and_leave_the_cache_alone)
{
    bed b = open_bed("llama_f32", 0);
    we_error err;
    int32_t tokens[10];
    make_tokens(tokens, 10, 7);
    we_result r = answer(b.seq, tokens, 10, 0, 2);
    we_result_deinit(&r);
    tokens[9] = 259;
    we_generation g = { .tokens = tokens, .n_tokens = 10, .sampling = { .repetition_context = 20 } };
    CHECK_STATUS(we_seq_generate(b.seq, &g, &r, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "token id 259 is out of range");
    we_result_deinit(&r);
    assert_int_equal(we_seq_length(b.seq), 11);
    close_bed(&b);
}

/* ---- Guessed tokens ---- */

/* The same answer with guesses as without, and the next prompt finds the same cache. */
static size_t check_guesses(const char *name, const char *draft, float temperature, float penalty, int max_tokens)
{
    bed plain = open_bed(name, 0), guessing = open_bed(name, 0), other = { 0 };
    if (draft) other = open_bed(draft, 0);
    we_error err;
    int32_t tokens[400];
    make_tokens(tokens, 20, 7);
    for (size_t i = 20; i < WE_COUNT(tokens); i++) tokens[i] = tokens[i - 20]; /* what repeats can be looked up */
    we_generation g = {
        .tokens = tokens,
        .n_tokens = 150,
        .max_tokens = max_tokens,
        .sampling = { .temperature = temperature, .repetition_penalty = penalty, .repetition_context = 20, .seed = 3 }
    };
    we_result want = { .size = sizeof want }, got = { .size = sizeof got };
    CHECK_OK(we_seq_generate(plain.seq, &g, &want, &err), &err);
    assert_int_equal(want.n_drafted, 0);
    g.prompt_lookup = !draft;
    g.draft = other.seq;
    CHECK_OK(we_seq_generate(guessing.seq, &g, &got, &err), &err);
    same_answer(&got, &want);
    assert_true(got.n_accepted <= got.n_drafted);
    assert_int_equal(we_seq_length(guessing.seq), we_seq_length(plain.seq));
    const size_t accepted = got.n_accepted;

    we_result_deinit(&got);
    we_result_deinit(&want);
    g.n_tokens = 160; /* goes on from a part of the prompt */
    CHECK_OK(we_seq_generate(plain.seq, &g, &want, &err), &err);
    CHECK_OK(we_seq_generate(guessing.seq, &g, &got, &err), &err);
    assert_int_equal(got.n_cached_tokens, want.n_cached_tokens);
    same_answer(&got, &want);
    we_result_deinit(&got);
    we_result_deinit(&want);
    close_bed(&plain);
    close_bed(&guessing);
    if (draft) close_bed(&other);
    return accepted;
}

TEST(runtime_looked_up_tokens_change_nothing)
{
    check_guesses("llama_f32", NULL, 0, 0, 90);
    check_guesses("llama_f32", NULL, 0.9f, 1.2f, 90);
    check_guesses("gemma3_text_long_q4", NULL, 0, 0, 90); /* windows that the answer leaves */
    for (int most = 1; most < 6; most++) check_guesses("llama_f32", NULL, 0, 0, most);
}

TEST(runtime_a_draft_model_changes_nothing)
{
    assert_true(check_guesses("llama_f32", "llama_f32", 0, 0, 60) > 40); /* itself: all but what the end cuts off */
    check_guesses("llama_f32", "llama_f32", 0.9f, 1.2f, 60);
    check_guesses("llama_f32", "qwen3_f32", 0, 0, 60);
    check_guesses("gemma3_text_long_q4", "gemma3_text_long_q4", 0, 0, 90);
}

TEST(runtime_guesses_end_with_the_context)
{
    bed b = open_bed("llama_f32", 64);
    we_error err;
    int32_t tokens[60];
    for (size_t i = 0; i < WE_COUNT(tokens); i++) tokens[i] = (int32_t)(5 + i % 3);
    const we_generation g = {
        .tokens = tokens, .n_tokens = WE_COUNT(tokens), .prompt_lookup = true, .sampling = { .repetition_context = 20 }
    };
    we_result r = { .size = sizeof r };
    CHECK_OK(we_seq_generate(b.seq, &g, &r, &err), &err);
    assert_int_equal(r.finish, WE_FINISH_LENGTH);
    assert_int_equal(r.n_tokens, 64 - WE_COUNT(tokens) + 1);
    we_result_deinit(&r);
    close_bed(&b);
}

typedef struct canceller {
    we_seq *seq;
    size_t at; /* the row, or the product, at which it pulls the flag */
} canceller;

static bool cancel_at_row(void *user, size_t first, size_t n, const float *rows)
{
    const canceller *c = user;
    (void)n;
    (void)rows;
    if (first >= c->at) atomic_store(we_seq_cancel_flag(c->seq), true);
    return true;
}

TEST(runtime_cancelling_stops_a_prompt)
{
    bed b = open_bed("llama_f32", 0);
    we_error err;
    int32_t tokens[1000];
    make_tokens(tokens, WE_COUNT(tokens), 8);
    const size_t piece = (size_t)we_decoder_get_info(b.decoder)->step_rows;
    canceller at_the_third = { b.seq, 2 * piece };
    CHECK_STATUS(we_seq_eval(b.seq, tokens, WE_COUNT(tokens), cancel_at_row, &at_the_third, &err), WE_E_CANCELLED,
                 &err);
    assert_int_equal(we_seq_length(b.seq), 2 * piece); /* the third is not whole */
    we_result r = answer(b.seq, tokens, 900, 0, 4);    /* the flag is still set */
    assert_int_equal(r.finish, WE_FINISH_CANCELLED);
    assert_int_equal(r.n_tokens, 0);
    we_result_deinit(&r);
    close_bed(&b);
}

static bool cancel_at_product(void *user, const we_linear *l, int n, const float *x, int64_t n_rows)
{
    canceller *c = user;
    (void)l;
    (void)n;
    (void)x;
    (void)n_rows;
    if (c->at > 0 && --c->at == 0) atomic_store(we_seq_cancel_flag(c->seq), true);
    return true;
}

TEST(runtime_cancelling_stops_between_layers)
{
    static const char *const names[] = { "llama_f32", "gemma3_text_bf16" }; /* which has layers with a window */
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        canceller c = { 0 };
        we_error err;
        we_device *tapped, *inner = open_cpu();
        CHECK_OK(we_tap_open(&tapped, inner, cancel_at_product, &c, &err), &err);
        bed b = open_bed_on(tapped, names[i], 0), other = open_bed(names[i], 0);
        c.seq = b.seq;
        int32_t tokens[300];
        make_tokens(tokens, WE_COUNT(tokens), 8);
        for (size_t at = 1; at < 8; at += 3) { /* in the first piece's first layer, and behind it */
            c.at = at;
            we_result r = answer(b.seq, tokens, WE_COUNT(tokens), 0, 4);
            assert_int_equal(r.finish, WE_FINISH_CANCELLED);
            assert_int_equal(we_seq_length(b.seq), 0);
            assert_int_equal(c.at, 0);
            we_result_deinit(&r);
            atomic_store(we_seq_cancel_flag(b.seq), false);
        }
        we_result r = answer(b.seq, tokens, WE_COUNT(tokens), 0, 4),
                  want = answer(other.seq, tokens, WE_COUNT(tokens), 0, 4);
        same_answer(&r, &want);
        we_result_deinit(&r);
        we_result_deinit(&want);
        close_bed(&b);
        we_device_close(inner);
        close_bed(&other);
    }
}

/* ---- Perplexity ---- */

#define CONTEXT 40
#define VOCAB 259

typedef struct all_rows {
    float rows[CONTEXT][VOCAB];
} all_rows;

static bool keep_all(void *user, size_t first, size_t n, const float *rows)
{
    memcpy(((all_rows *)user)->rows[first], rows, n * VOCAB * sizeof(float));
    return true;
}

static void log_softmax(const float *row, double *out)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++) sum += exp((double)row[i]);
    for (int i = 0; i < VOCAB; i++) out[i] = (double)row[i] - log(sum);
}

/* What the definitions say, from the logits of both models over the windows. */
static we_comparison compare_plainly(const bed *model, const bed *base, const int32_t *tokens, size_t n)
{
    all_rows *q = we_calloc(1, sizeof *q), *b = we_calloc(1, sizeof *b);
    assert_true(q && b);
    we_comparison c = { 0 };
    double nll = 0, base_nll = 0, squares = 0;
    for (size_t at = 0; at + CONTEXT <= n; at += CONTEXT) {
        we_error err;
        CHECK_OK(we_seq_eval(model->seq, tokens + at, CONTEXT, keep_all, q, &err), &err);
        CHECK_OK(we_seq_eval(base->seq, tokens + at, CONTEXT, keep_all, b, &err), &err);
        for (int i = CONTEXT / 2 - 1; i + 1 < CONTEXT; i++) {
            const int32_t next = tokens[at + (size_t)i + 1];
            double lq[VOCAB], lb[VOCAB], kld = 0;
            int top_q = 0, top_b = 0;
            log_softmax(q->rows[i], lq);
            log_softmax(b->rows[i], lb);
            for (int k = 0; k < VOCAB; k++) {
                kld += exp(lb[k]) * (lb[k] - lq[k]);
                if (lq[k] > lq[top_q]) top_q = k;
                if (lb[k] > lb[top_b]) top_b = k;
            }
            nll -= lq[next];
            base_nll -= lb[next];
            squares += pow(exp(lq[next]) - exp(lb[next]), 2);
            c.kld_mean += kld;
            c.kld_max = fmax(c.kld_max, kld);
            c.top1_agreement += top_q == top_b;
            c.n_tokens++;
        }
    }
    const double m = (double)c.n_tokens;
    c.perplexity = exp(nll / m);
    c.base_perplexity = exp(base_nll / m);
    c.perplexity_ratio = exp((nll - base_nll) / m);
    c.kld_mean /= m;
    c.top1_agreement /= m;
    c.probability_rms = sqrt(squares / m);
    we_free(q);
    we_free(b);
    return c;
}

static void check_near(double got, double want, double relative)
{
    if (!(fabs(got - want) <= relative * fabs(want) + 1e-9)) fail_msg("%.9g, expected %.9g", got, want);
}

TEST(runtime_perplexity_and_divergence_are_what_the_definitions_say)
{
    bed model = open_bed("llama_q3_g64", 64), base = open_bed("llama_f32", 64);
    int32_t tokens[3 * CONTEXT + 7]; /* what is less than a window is left out */
    we_error err;
    we_comparison got = { 0 };
    we_perplexity_result alone = { 0 };
    make_tokens(tokens, WE_COUNT(tokens), 9);
    assert_int_equal(we_decoder_get_info(model.decoder)->vocab_size, VOCAB);
    const we_comparison want = compare_plainly(&model, &base, tokens, WE_COUNT(tokens));
    CHECK_OK(
        we_decoder_compare(model.decoder, base.decoder, tokens, WE_COUNT(tokens), -1, CONTEXT, NULL, NULL, &got, &err),
        &err);
    assert_int_equal(got.n_tokens, 3 * CONTEXT / 2);
    assert_int_equal(want.n_tokens, got.n_tokens);
    check_near(got.perplexity, want.perplexity, 1e-6);
    check_near(got.base_perplexity, want.base_perplexity, 1e-6);
    check_near(got.perplexity_ratio, want.perplexity_ratio, 1e-6);
    check_near(got.kld_mean, want.kld_mean, 1e-5);
    check_near(got.kld_max, want.kld_max, 1e-5);
    check_near(got.probability_rms, want.probability_rms, 1e-5);
    check_near(got.top1_agreement, want.top1_agreement, 1e-9);
    assert_true(got.kld_median <= got.kld_p90 && got.kld_p90 <= got.kld_p95 && got.kld_p95 <= got.kld_p99);
    assert_true(got.kld_p99 <= got.kld_p999 && got.kld_p999 <= got.kld_max && got.kld_error > 0);

    CHECK_OK(we_decoder_perplexity(model.decoder, tokens, WE_COUNT(tokens), -1, CONTEXT, NULL, NULL, &alone, &err),
             &err);
    check_near(alone.perplexity, got.perplexity, 1e-12);
    check_near(alone.error, got.perplexity_error, 1e-12);
    close_bed(&model);
    close_bed(&base);
}

TEST(runtime_a_model_does_not_differ_from_itself_and_windows_do_not_see_each_other)
{
    static const char *const names[] = { "llama_f32",
                                         "llama_sliding_long" }; /* a cache that is kept, one that is not */
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        bed b = open_bed(names[i], 300);
        int32_t tokens[600];
        we_error err;
        we_comparison c = { 0 };
        make_tokens(tokens, 300, 10);
        memcpy(tokens + 300, tokens, 300 * sizeof *tokens);
        CHECK_OK(we_decoder_compare(b.decoder, b.decoder, tokens, 600, -1, 300, NULL, NULL, &c, &err), &err);
        assert_true(c.kld_max == 0 && c.probability_rms == 0 && c.top1_agreement == 1 && c.perplexity_ratio == 1);
        we_perplexity_result once = { 0 };
        CHECK_OK(we_decoder_perplexity(b.decoder, tokens, 300, -1, 300, NULL, NULL, &once, &err), &err);
        check_near(c.perplexity, once.perplexity, 1e-12); /* the same window twice */
        close_bed(&b);
    }
}

TEST(runtime_perplexity_refuses_what_it_cannot_read)
{
    bed b = open_bed("llama_f32", 64);
    int32_t tokens[64];
    we_error err;
    we_comparison c = { 0 };
    make_tokens(tokens, WE_COUNT(tokens), 11);
    CHECK_STATUS(we_decoder_compare(b.decoder, b.decoder, tokens, 31, -1, 32, NULL, NULL, &c, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "the text has 31 tokens, fewer than one window of 32");
    CHECK_STATUS(we_decoder_compare(b.decoder, b.decoder, tokens, 64, -1, 65, NULL, NULL, &c, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "4 to 64");
    tokens[5] = VOCAB;
    CHECK_STATUS(we_decoder_compare(b.decoder, b.decoder, tokens, 64, -1, 32, NULL, NULL, &c, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "token id 259");
    tokens[5] = 1;
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    st = we_decoder_compare(b.decoder, b.decoder, tokens, 64, -1, 32, NULL, NULL, &c, &err);
    close_bed(&b);
}

/* ---- What calibration stands on ---- */

typedef struct tapped {
    we_decoder *decoder;
    int n_calls;
    int64_t n_rows;
    bool all_named, skip;
} tapped;

static bool on_linear(void *user, const we_linear *l, int n, const float *x, int64_t n_rows)
{
    tapped *t = user;
    for (int i = 0; i < n; i++) t->all_named &= we_decoder_matrix_name(t->decoder, l[i].weight) != NULL;
    for (int64_t i = 0; i < n_rows; i++) t->all_named &= isfinite(x[i]);
    t->n_calls++;
    t->n_rows += n_rows;
    return !t->skip;
}

static void logits_of(we_decoder *decoder, const int32_t *tokens, all_rows *out)
{
    we_error err;
    we_seq *seq;
    CHECK_OK(we_seq_open(&seq, decoder, &err), &err);
    CHECK_OK(we_seq_eval(seq, tokens, CONTEXT, keep_all, out, &err), &err);
    we_seq_close(seq);
}

TEST(runtime_a_tapped_device_computes_the_same_and_a_replaced_matrix_comes_back)
{
    bed b = open_bed("llama_f32", 64);
    we_error err;
    we_device *tap;
    tapped seen = { .all_named = true };
    int32_t tokens[CONTEXT];
    all_rows *want = we_calloc(1, sizeof *want), *got = we_calloc(1, sizeof *got);
    assert_true(want && got);
    make_tokens(tokens, CONTEXT, 12);
    logits_of(b.decoder, tokens, want);
    CHECK_OK(we_tap_open(&tap, b.device, on_linear, &seen, &err), &err);
    CHECK_OK(we_decoder_open(&seen.decoder, tap, test_fixture("logits/llama_f32"),
                             &(we_decoder_options){ .precise = true, .context = 64 }, &err),
             &err);
    logits_of(seen.decoder, tokens, got);
    assert_memory_equal(got->rows, want->rows, sizeof want->rows);
    const we_decoder_info *info = we_decoder_get_info(seen.decoder);
    const int pieces = (CONTEXT + WE_LOGIT_ROWS - 1) / WE_LOGIT_ROWS;
    assert_true(seen.all_named);
    assert_int_equal(seen.n_calls, 4 * info->n_layers + pieces); /* qkv, o, gate and up, down; the head */
    assert_int_equal(seen.n_rows, (4 * info->n_layers + 1) * CONTEXT);

    float *zeros = we_calloc((size_t)(info->hidden_size * info->hidden_size) * 8, sizeof(float));
    assert_non_null(zeros);
    const we_matrix none = { .rows = info->n_heads * info->head_dim,
                             .cols = info->hidden_size,
                             .dtype = WE_F32,
                             .data = (const uint8_t *)zeros };
    CHECK_OK(we_decoder_replace(seen.decoder, "model.layers.0.self_attn.q_proj", &none, &err), &err);
    logits_of(seen.decoder, tokens, got);
    assert_memory_not_equal(got->rows, want->rows, sizeof want->rows);
    CHECK_OK(we_decoder_replace(seen.decoder, "model.layers.0.self_attn.q_proj", NULL, &err), &err);
    logits_of(seen.decoder, tokens, got);
    assert_memory_equal(got->rows, want->rows, sizeof want->rows);
    CHECK_OK(we_decoder_replace(seen.decoder, "model.layers.0.self_attn.q_proj", &none, &err),
             &err); /* closed like this */
    CHECK_STATUS(we_decoder_replace(seen.decoder, "model.layers.9.mlp.up_proj", &none, &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "model.layers.9.mlp.up_proj");
    we_decoder_close(seen.decoder);
    we_device_close(tap);
    we_free(zeros);
    we_free(want);
    we_free(got);
    close_bed(&b);
}
