/* SPDX-License-Identifier: Apache-2.0
 * test_device_mlx.c - the MLX device as a whole, where this build has it: memory that comes back, limits, failures that become
 * statuses, and going on with a conversation on the other device. Op by op: test_device.c; logits: conformance/test_logits.c. */
#include "runtime/runtime.h"
#include "support.h"

#define SOME_TOKENS 12

typedef struct opened {
    we_device *device;
    we_decoder *decoder;
    we_seq *seq;
} opened;

static opened open_on(const char *device, const char *fixture, bool precise)
{
    opened o;
    we_error err;
    CHECK_OK(we_device_open(&o.device, &(we_device_options){ .device = device, .threads = 1 }, &err), &err);
    CHECK_OK(
        we_decoder_open(&o.decoder, o.device, test_fixture(fixture), &(we_decoder_options){ .precise = precise }, &err),
        &err);
    CHECK_OK(we_seq_open(&o.seq, o.decoder, &err), &err);
    return o;
}

static void close_all(opened *o)
{
    we_seq_close(o->seq);
    we_decoder_close(o->decoder);
    we_device_close(o->device);
}

/* tokens[n ... n + more) = what follows tokens[0, n) */
static void continue_on(const char *device, const char *fixture, int32_t *tokens, size_t n, int more,
                        const we_sampling *sampling)
{
    opened o = open_on(device, fixture, true);
    we_result result = { .size = sizeof result };
    we_error err;
    const we_generation g = { .tokens = tokens, .n_tokens = n, .max_tokens = more, .sampling = *sampling };
    CHECK_OK(we_seq_generate(o.seq, &g, &result, &err), &err);
    assert_int_equal(result.n_tokens, more);
    memcpy(tokens + n, result.tokens, (size_t)more * sizeof *tokens);
    we_result_deinit(&result);
    close_all(&o);
}

TEST(mlx_gives_all_memory_back)
{
    if (!WE_HAS_MLX) skip();
    we_device *d;
    we_error err;
    CHECK_OK(we_device_open(&d, &(we_device_options){ .device = "mlx" }, &err), &err);
    we_device_memory memory;
    for (int round = 0; round < 2; round++) {
        opened o = open_on("mlx", "logits/llama_q4_sharded", false);
        we_result result = { .size = sizeof result };
        const int32_t prompt[] = { 1, 2, 3, 4 };
        const we_generation g = { .tokens = prompt, .n_tokens = WE_COUNT(prompt), .max_tokens = SOME_TOKENS };
        CHECK_OK(we_seq_generate(o.seq, &g, &result, &err), &err);
        we_result_deinit(&result);
        d->ops->memory(d, &memory);
        assert_true(memory.active_bytes > 0);
        close_all(&o);
        d->ops->memory(d, &memory);
        assert_int_equal(memory.active_bytes, 0);
        assert_int_equal(memory.cached_bytes, 0);
    }
    we_device_close(d);
}

TEST(mlx_goes_on_where_the_cpu_stopped)
{
    if (!WE_HAS_MLX) skip();
    static const char *const models[] = { "logits/qwen3_tied_q4", "logits/gemma3_text_bf16",
                                          "logits/llama_sliding_long" };
    const we_sampling greedy = { .repetition_context = 20 }, drawn = { .temperature = 0.8f, .top_p = 0.9f, .seed = 7 };
    for (size_t m = 0; m < WE_COUNT(models); m++)
        for (int way = 0; way < 2; way++) {
            int32_t whole[3 + 3 * SOME_TOKENS] = { 5, 9, 2 }, parts[3 + 3 * SOME_TOKENS] = { 5, 9, 2 };
            const we_sampling *how = way ? &drawn : &greedy;
            continue_on("cpu", models[m], whole, 3, SOME_TOKENS, how);
            continue_on("mlx", models[m], parts, 3, SOME_TOKENS, how); /* the same numbers are drawn */
            assert_memory_equal(whole, parts, (3 + SOME_TOKENS) * sizeof *whole);
            continue_on("cpu", models[m], whole, 3 + SOME_TOKENS, 2 * SOME_TOKENS, &greedy);
            continue_on("mlx", models[m], parts, 3 + SOME_TOKENS, SOME_TOKENS, &greedy);
            continue_on("cpu", models[m], parts, 3 + 2 * SOME_TOKENS, SOME_TOKENS, &greedy);
            assert_memory_equal(whole, parts, sizeof whole);
        }
}

TEST(mlx_holds_the_limit)
{
    if (!WE_HAS_MLX) skip();
    we_device *d;
    we_error err;
    we_decoder *decoder;
    const uint64_t limit = 4096;
    const we_device_options options = { .device = "mlx", .memory_limit_bytes = limit };
    CHECK_OK(we_device_open(&d, &options, &err), &err);
    we_device_memory memory;
    d->ops->memory(d, &memory);
    assert_int_equal(memory.limit_bytes, limit);
    CHECK_STATUS(we_decoder_open(&decoder, d, test_fixture("logits/llama_f32"), NULL, &err), WE_E_NOMEM, &err);
    EXPECT_MESSAGE(&err, "Out of memory during model loading");
    EXPECT_MESSAGE(&err, "MLX_MEMORY_POOL_SIZE");
    we_device_close(d);
    CHECK_OK(we_device_open(&d, &(we_device_options){ .device = "mlx" }, &err), &err);
    d->ops->memory(d, &memory);
    assert_true(memory.limit_bytes > limit); /* as it was */
    we_device_close(d);
}

TEST(mlx_tells_what_it_lacks)
{
    we_device *d;
    we_error err;
    CHECK_STATUS(we_device_open(&d, &(we_device_options){ .device = "mlx", .kernels = "avx2" }, &err), WE_E_UNSUPPORTED,
                 &err);
    EXPECT_MESSAGE(&err, "avx2");
    if (WE_HAS_MLX) return;
    CHECK_STATUS(we_device_open(&d, &(we_device_options){ .device = "mlx" }, &err), WE_E_UNSUPPORTED, &err);
    EXPECT_MESSAGE(&err, "MLX not available. ");
    EXPECT_MESSAGE(&err, "--device cpu");
}
