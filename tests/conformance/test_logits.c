/* SPDX-License-Identifier: Apache-2.0
 * test_logits.c - every case of tests/fixtures/logits against what mlx-lm computed: the logits of all positions and the greedy
 * continuation, in float32 (`precise`) and on the fast path, on the kernels that this machine has. Tolerances: the README
 * beside the cases. */
#include "runtime/runtime.h"
#include "unit/support.h"
#include <math.h>
#include <stdio.h>

#define GREEDY_TOKENS 16

typedef struct expected {
    we_arena arena;
    const int32_t *tokens, *greedy;
    size_t n_tokens, vocab_size;
    const float *logits;
    double logit_std;
} expected;

static const we_weight *member(const we_weight *all, size_t n, we_str name)
{
    for (size_t i = 0; i < n; i++)
        if (we_str_is(name, all[i].name)) return &all[i];
    return NULL;
}

/* A member's bytes at an address fit for its type. */
static const void *aligned(expected *e, const we_weight *w)
{
    void *copy = we_arena_alloc(&e->arena, w->bytes);
    assert_non_null(copy);
    memcpy(copy, w->data, w->bytes);
    return copy;
}

/* native: as mlx-lm on MLX's CPU computes in the model's own type, rather than in the one that `match` names. */
static void read_expected(expected *e, const char *name, bool native)
{
    char path[256];
    we_error err;
    we_weight *all;
    const we_json *json;
    size_t n, unpacked = 0;
    we_str match = WE_STR("logits");
    snprintf(path, sizeof path, "logits/%s/expected.json", name);
    CHECK_OK(we_json_parse(&e->arena, test_read_fixture(path), &json, &err), &err);
    assert_true(we_json_f64(we_json_get(json, "logit_std"), &e->logit_std));
    assert_true(we_json_str(we_json_get(json, "match"), &match));
    if (native) match = WE_STR("logits");
    snprintf(path, sizeof path, "logits/%s/expected.npz", name);
    CHECK_OK(we_npz_parse(&e->arena, test_read_fixture(path), path, 1 << 26, &all, &n, &unpacked, &err), &err);
    const we_weight *tokens = member(all, n, WE_STR("tokens")), *greedy = member(all, n, WE_STR("greedy")),
                    *logits = member(all, n, match);
    assert_non_null(tokens);
    assert_non_null(greedy);
    assert_non_null(logits);
    assert_int_equal(greedy->shape[0], GREEDY_TOKENS);
    e->n_tokens = (size_t)tokens->shape[0];
    e->vocab_size = (size_t)logits->shape[1];
    e->tokens = aligned(e, tokens);
    e->greedy = aligned(e, greedy);
    e->logits = aligned(e, logits);
}

typedef struct comparison {
    const expected *want;
    double largest, sum_of_squares;
} comparison;

static bool compare_rows(void *user, size_t first, size_t n, const float *rows)
{
    comparison *c = user;
    const float *want = c->want->logits + first * c->want->vocab_size;
    for (size_t i = 0; i < n * c->want->vocab_size; i++) {
        const double error = fabs((double)rows[i] - want[i]) / c->want->logit_std;
        c->largest = error <= c->largest ? c->largest : error; /* a NaN stays */
        c->sum_of_squares += error * error;
    }
    return true;
}

static void run_case(const char *name, const we_device_options *options, bool precise)
{
    char path[256];
    we_error err;
    expected want = { 0 };
    we_device *device;
    we_decoder *decoder;
    we_seq *seq;
    CHECK_OK(we_device_open(&device, options, &err), &err);
    const bool native = !precise && strcmp(device->kernels, "mlx-cpu") == 0; /* MLX's GPU kernels round elsewhere */
    read_expected(&want, name, native);
    snprintf(path, sizeof path, "logits/%s", name);
    CHECK_OK(we_decoder_open(&decoder, device, test_fixture(path), &(we_decoder_options){ .precise = precise }, &err),
             &err);
    CHECK_OK(we_seq_open(&seq, decoder, &err), &err);

    comparison c = { &want, 0, 0 };
    CHECK_OK(we_seq_eval(seq, want.tokens, want.n_tokens, compare_rows, &c, &err), &err);
    const double rms = sqrt(c.sum_of_squares / (double)(want.n_tokens * want.vocab_size));

    we_result result = { .size = sizeof result };
    const we_generation g = { .tokens = want.tokens,
                              .n_tokens = want.n_tokens,
                              .max_tokens = GREEDY_TOKENS,
                              .sampling = { .repetition_context = 20 } };
    CHECK_OK(we_seq_generate(seq, &g, &result, &err), &err);
    printf("%-24s %-10s %-8s largest error %.1e, rms %.1e of the standard deviation\n", name, device->kernels,
           precise ? "precise" : "fast", c.largest, rms);
    if (precise)
        assert_true(c.largest <= 5e-4);
    else if (native)
        assert_true(rms <= 0.02);
    else
        assert_true(rms <= 0.05);
    assert_int_equal(result.n_tokens, GREEDY_TOKENS);
    assert_memory_equal(result.tokens, want.greedy, GREEDY_TOKENS * sizeof(int32_t));

    we_result_deinit(&result);
    we_seq_close(seq);
    we_decoder_close(decoder);
    we_device_close(device);
    we_arena_deinit(&want.arena);
}

/* Every folder of the fixtures, so that a new architecture's case is a new folder. */
typedef struct case_names {
    char names[128][64];
    size_t n;
} case_names;

static bool add_case(void *user, const char *name)
{
    case_names *c = user;
    char path[256];
    snprintf(path, sizeof path, "logits/%s/config.json", name);
    if (we_path_exists(test_fixture(path))) snprintf(c->names[c->n++], sizeof c->names[0], "%s", name);
    return c->n < WE_COUNT(c->names);
}

static void run_all(const we_device_options *options, bool precise)
{
    case_names cases = { .n = 0 };
    we_error err;
    CHECK_OK(we_dir_each(test_fixture("logits"), add_case, &cases, &err), &err);
    assert_true(cases.n >= 29);
    for (size_t i = 0; i < cases.n; i++) run_case(cases.names[i], options, precise);
}

static const we_device_options cpu = { .device = "cpu", .threads = 2 };
static const we_device_options reference = { .device = "cpu", .kernels = "reference", .threads = 2 };
TEST(logits_agree_in_float32) { run_all(&cpu, true); }
TEST(logits_agree_in_float32_on_reference_kernels) { run_all(&reference, true); }
TEST(logits_are_near_on_the_fast_path) { run_all(&cpu, false); }

static const we_device_options mlx = { .device = "mlx" };
TEST(logits_agree_in_float32_on_mlx)
{
    if (!WE_HAS_MLX) skip();
    run_all(&mlx, true);
}
TEST(logits_are_near_on_the_fast_path_of_mlx)
{
    if (!WE_HAS_MLX) skip();
    run_all(&mlx, false);
}
