/* SPDX-License-Identifier: Apache-2.0
 * test_device_mlx.c - the MLX device as a whole, where this build has it: memory that comes back, limits, failures that become
 * statuses, and going on with a conversation on the other device. Op by op: test_device.c; logits: conformance/test_logits.c. */
#include "runtime/runtime.h"
#include "support.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

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

/* The whole answer's length goes to *n_tokens. */
static we_status generate(we_seq *seq, const int32_t *prompt, size_t n_prompt, int max_tokens, size_t *n_tokens,
                          we_error *err)
{
    we_result result = { .size = sizeof result };
    const we_generation g = { .tokens = prompt, .n_tokens = n_prompt, .max_tokens = max_tokens, .ignore_eos = true };
    const we_status st = we_seq_generate(seq, &g, &result, err);
    *n_tokens = result.n_tokens;
    we_result_deinit(&result);
    return st;
}

static bool on_a_cpu(const we_device *d) { return strcmp(d->kernels, "mlx-cpu") == 0; }

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

TEST(mlx_holds_weights_once)
{
    if (!WE_HAS_MLX) skip();
    static const char *const models[] = { "logits/llama_f32", "logits/llama_q4_sharded", "logits/gemma3_text_bf16" };
    for (size_t i = 0; i < WE_COUNT(models); i++) {
        we_device_memory memory;
        opened o = open_on("mlx", models[i], false);
        const we_decoder_info *info = we_decoder_get_info(o.decoder);
        o.device->ops->memory(o.device, &memory);
        /* Beside the weights: a rotary embedding's frequencies; GPUs round each tensor up to pages. On the way: nothing more than
         * is kept. */
        if (on_a_cpu(o.device))
            assert_in_range(memory.active_bytes, info->weights_bytes, info->weights_bytes + 4096);
        else
            assert_true(memory.active_bytes >= info->weights_bytes);
        assert_in_range(memory.peak_bytes, memory.active_bytes, memory.active_bytes + 4096);
        close_all(&o);
    }
}

#if defined(__linux__)
/* A Llama of one layer whose embeddings are 128 MB of zeros, in a file with a hole. */
static const char *large_model(void)
{
    enum { VOCABULARY = 1 << 20, HIDDEN = 64 };
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 1048576, \"hidden_size\": 64, \"intermediate_size\": 64, "
        "\"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"num_hidden_layers\": 1, \"rms_norm_eps\": 1e-5, "
        "\"max_position_embeddings\": 256, \"tie_word_embeddings\": true}";
    static const char *const square[] = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                          "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                          "mlp.down_proj" };
    static const char *const vector[] = { "model.norm", "model.layers.0.input_layernorm",
                                          "model.layers.0.post_attention_layernorm" };
    we_buf header = { 0 };
    long at = 2L * VOCABULARY * HIDDEN;
    we_buf_printf(&header,
                  "{\"model.embed_tokens.weight\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[0,%ld]}",
                  VOCABULARY, HIDDEN, at);
    for (size_t i = 0; i < WE_COUNT(square); i++, at += 2L * HIDDEN * HIDDEN)
        we_buf_printf(&header,
                      ",\"model.layers.0.%s.weight\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[%ld,%ld]}",
                      square[i], HIDDEN, HIDDEN, at, at + 2L * HIDDEN * HIDDEN);
    for (size_t i = 0; i < WE_COUNT(vector); i++, at += 2L * HIDDEN)
        we_buf_printf(&header, ",\"%s.weight\":{\"dtype\":\"BF16\",\"shape\":[%d],\"data_offsets\":[%ld,%ld]}",
                      vector[i], HIDDEN, at, at + 2L * HIDDEN);
    we_buf_append_str(&header, WE_STR("}"));
    const uint64_t length = header.len;
    FILE *file = fopen(test_path("model.safetensors"), "wb");
    assert_non_null(file);
    fwrite(&length, sizeof length, 1, file);
    fwrite(header.ptr, 1, header.len, file);
    fclose(file);
    assert_int_equal(truncate(test_path("model.safetensors"), (off_t)(sizeof length + length) + at), 0);
    we_buf_deinit(&header);
    test_write("config.json", config, sizeof config - 1);
    return test_dir();
}

static rlim_t address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

TEST(mlx_out_of_memory_while_loading_is_a_status)
{
    if (!WE_HAS_MLX) skip();
    const char *large = large_model();
    const int32_t prompt[] = { 1, 2, 3, 4 };
    size_t n;
    we_error err;
    we_decoder *decoder;
    we_device_memory before, after;
    struct rlimit limit, was;
    opened o = open_on("mlx", "logits/llama_f32", false);
    if (!on_a_cpu(o.device)) { /* the limit would be the driver's, too */
        close_all(&o);
        return;
    }
    CHECK_OK(generate(o.seq, prompt, WE_COUNT(prompt), SOME_TOKENS, &n, &err), &err); /* MLX's threads are there */
    o.device->ops->memory(o.device, &before);

    getrlimit(RLIMIT_AS, &was);
    limit = was;
    limit.rlim_cur = address_space() + (200 << 20); /* the file can be mapped, and not be copied as well */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    const we_status st = we_decoder_open(&decoder, o.device, large, NULL, &err);
    setrlimit(RLIMIT_AS, &was);
    CHECK_STATUS(st, WE_E_NOMEM, &err);
    EXPECT_MESSAGE(&err, "Out of memory during model loading: ");
    EXPECT_MESSAGE(&err, " of the weights' 134 MB were taken");
    EXPECT_MESSAGE(&err, "MLX could not allocate 134217728 bytes");
    o.device->ops->memory(o.device, &after);
    assert_true(after.active_bytes <= before.active_bytes); /* nothing is left of what was taken */

    CHECK_OK(generate(o.seq, prompt, WE_COUNT(prompt), SOME_TOKENS, &n, &err), &err);
    assert_int_equal(n, SOME_TOKENS);
    CHECK_OK(we_decoder_open(&decoder, o.device, large, NULL, &err), &err);
    we_decoder_close(decoder);
    close_all(&o);
}
#endif

/* Two conversations fill the limit; the one that needs more is told so in the middle of its answer, and can go on once the other
 * is closed. */
TEST(mlx_out_of_memory_in_an_answer_is_a_status)
{
    if (!WE_HAS_MLX) skip();
    int32_t prompt[250] = { 0 };
    size_t n;
    we_error err;
    we_seq *other;
    opened o = { 0 };
    const we_decoder_options options = { .context = 512 };
    const char *model = test_fixture("logits/llama_f32");
    CHECK_OK(we_device_open(&o.device, &(we_device_options){ .device = "mlx" }, &err), &err);
    CHECK_OK(we_decoder_open(&o.decoder, o.device, model, &options, &err), &err);
    const we_decoder_info info = *we_decoder_get_info(o.decoder);
    we_decoder_close(o.decoder);
    we_device_close(o.device);

    const we_device_options limited = { .device = "mlx",
                                        .memory_limit_bytes =
                                            info.weights_bytes + info.scratch_bytes + info.kv_bytes_at_context };
    CHECK_OK(we_device_open(&o.device, &limited, &err), &err);
    CHECK_OK(we_decoder_open(&o.decoder, o.device, model, &options, &err), &err);
    CHECK_OK(we_seq_open(&o.seq, o.decoder, &err), &err);
    CHECK_OK(we_seq_open(&other, o.decoder, &err), &err);
    CHECK_OK(generate(other, prompt, WE_COUNT(prompt), 1, &n, &err), &err); /* a cache grows by 256 */
    CHECK_STATUS(generate(o.seq, prompt, 240, 40, &n, &err), WE_E_NOMEM, &err);
    EXPECT_MESSAGE(&err, "no memory for a KV cache");
    EXPECT_MESSAGE(&err, "MLX_MEMORY_POOL_SIZE");
    assert_in_range(n, 10, 20); /* what fit is kept */
    CHECK_OK(generate(other, prompt, WE_COUNT(prompt), 1, &n, &err), &err);
    we_seq_close(other);
    CHECK_OK(generate(o.seq, prompt, 240, 40, &n, &err), &err);
    assert_int_equal(n, 40);
    close_all(&o);
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
