/* SPDX-License-Identifier: Apache-2.0
 * test_model.c - what can be wrong with a model folder is told while it loads, by file, key and value. (That a right one gives
 * the right logits is tests/conformance/test_logits.c.) */
#include "model/model.h"
#include "support.h"
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

/* A copy of a case's config.json with one text replaced, beside its weights. */
static const char *folder_with(const char *name, const char *from, const char *to)
{
    static int n;
    char config[256], weights[256], sub[64];
    snprintf(config, sizeof config, "logits/%s/config.json", name);
    snprintf(weights, sizeof weights, "logits/%s/model.safetensors", name);
    snprintf(sub, sizeof sub, "folder%d", n++);
    const char *dir = test_path(sub);
    mkdir(dir, 0755);

    we_buf text = { 0 };
    const we_str original = test_read_fixture(config);
    const char *at = from ? strstr(original.ptr, from) : NULL;
    if (from) assert_non_null(at);
    const size_t head = at ? (size_t)(at - original.ptr) : original.len;
    we_buf_append(&text, original.ptr, head);
    if (at) {
        we_buf_append(&text, to, strlen(to));
        we_buf_append(&text, at + strlen(from), original.len - head - strlen(from));
    }
    char file[128];
    snprintf(file, sizeof file, "%s/config.json", sub);
    test_write(file, text.ptr, text.len);
    we_buf_deinit(&text);
    snprintf(file, sizeof file, "%s/model.safetensors", sub);
    const we_str bytes = test_read_fixture(weights);
    test_write(file, bytes.ptr, bytes.len);
    return dir;
}

static we_status open_folder(const char *dir, const we_decoder_options *options, we_error *err)
{
    we_device *device;
    we_decoder *decoder;
    CHECK_OK(we_device_open(&device, &(we_device_options){ .threads = 1 }, err), err);
    const we_status st = we_decoder_open(&decoder, device, dir, options, err);
    assert_true((st == WE_OK) == (decoder != NULL));
    we_decoder_close(decoder);
    we_device_close(device);
    return st;
}

TEST(model_wrong_configurations_are_named)
{
    static const struct {
        const char *from, *to;
        we_status status;
        const char *message;
    } cases[] = {
        { "\"model_type\": \"llama\"", "\"model_type\": \"lama\"", WE_E_UNSUPPORTED,
          "model_type \"lama\" is not supported; supported are gemma3_text, llama" },
        { "\"model_type\": \"llama\"", "\"model\": \"llama\"", WE_E_FORMAT, "model_type is missing" },
        { "\"hidden_size\": 64", "\"hidden\": 64", WE_E_FORMAT, "hidden_size is missing" },
        { "\"hidden_size\": 64", "\"hidden_size\": \"64\"", WE_E_FORMAT,
          "hidden_size is \"64\", expected a whole number" },
        { "\"hidden_size\": 64", "\"hidden_size\": -64", WE_E_FORMAT, "hidden_size is -64" },
        { "\"hidden_size\": 64", "\"hidden_size\": 1e30", WE_E_FORMAT, "hidden_size is 1e30" },
        { "\"hidden_size\": 64", "\"hidden_size\": 128", WE_E_FORMAT, "but config.json makes it [128]" },
        { "\"num_attention_heads\": 4", "\"num_attention_heads\": 3", WE_E_FORMAT,
          "num_attention_heads 3 is not a multiple of num_key_value_heads 2" },
        { "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", WE_E_FORMAT, "no tensor model.layers.2." },
        { "\"intermediate_size\": 80", "\"intermediate_size\": 81", WE_E_FORMAT,
          "gate_proj.weight is F32 [80, 64], but config.json makes it [81, 64]" },
        { "\"vocab_size\": 259", "\"vocab_size\": 300", WE_E_FORMAT,
          "embed_tokens.weight is F32 [259, 64], but config.json makes it [300, 64]" },
        { "\"rope_theta\": 10000.0", "\"rope_theta\": 0", WE_E_FORMAT, "rope_theta is 0" },
        { "\"rope_theta\": 10000.0", "\"rope_theta\": 1e4, \"rope_scaling\": {\"type\": \"spiral\"}", WE_E_UNSUPPORTED,
          "rope_scaling of type \"spiral\"" },
        { "\"rope_theta\": 10000.0", "\"rope_theta\": 1e4, \"rope_scaling\": {\"type\": \"linear\"}", WE_E_FORMAT,
          "rope_scaling.factor is nothing" },
        { "\"rope_theta\": 10000.0",
          "\"rope_theta\": 1e4, \"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [1]}, \"head_dim\": 15",
          WE_E_FORMAT, "rotated dimensions" },
        { "\"rope_theta\": 10000.0", "\"layer_types\": [\"sliding_attention\", \"full_attention\"]", WE_E_FORMAT,
          "sliding_window is missing" },
        { "\"rope_theta\": 10000.0", "\"layer_types\": [\"full_attention\"]", WE_E_FORMAT,
          "layer_types is not an array of num_hidden_layers = 2" },
        { "\"rope_theta\": 10000.0", "\"quantization\": {\"mode\": \"ternary\"}", WE_E_UNSUPPORTED,
          "quantization.mode is \"ternary\"" },
        { "\"rope_theta\": 10000.0", "\"quantization\": {\"bits\": 7, \"group_size\": 64}", WE_E_UNSUPPORTED,
          "quantization asks for 7 bits" },
        { "\"rope_theta\": 10000.0", "\"quantization_config\": {\"quant_method\": \"gptq\"}", WE_E_UNSUPPORTED,
          "\"gptq\"" },
        { "\"rope_theta\": 10000.0",
          "\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 128}", WE_E_UNSUPPORTED,
          "\"awq\"" },
        { "\"num_attention_heads\": 4", "\"num_attention_heads\": 1024, \"head_dim\": 2", WE_E_UNSUPPORTED,
          "at most 256 heads can share one" },
        { "{", "[", WE_E_FORMAT, "config.json: line 2, column 19: expected" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_error err;
        CHECK_STATUS(open_folder(folder_with("llama_f32", cases[i].from, cases[i].to), NULL, &err), cases[i].status,
                     &err);
        EXPECT_MESSAGE(&err, cases[i].message);
    }
}

/* An empty tensor may have any other dimensions: their text is longer than most buffers for it. */
TEST(model_absurd_shapes_fit_the_message)
{
    static const char header[] =
        "{\"model.layers.0.input_layernorm.weight\":{\"dtype\":\"F32\",\"shape\":[0,9223372036854775807,"
        "9223372036854775807,9223372036854775807,100000000000,9223372036854775807],\"data_offsets\":[0,0]}}";
    const uint64_t len = sizeof header - 1;
    we_buf file = { 0 };
    we_error err;
    we_buf_append(&file, &len, sizeof len);
    we_buf_append(&file, header, len);
    const char *dir = folder_with("llama_f32", NULL, NULL);
    char name[160];
    snprintf(name, sizeof name, "%s/model.safetensors", we_path_base(dir));
    test_write(name, file.ptr, file.len);
    we_buf_deinit(&file);
    CHECK_STATUS(open_folder(dir, NULL, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "100000000000, 9223372036854775807]");
}

TEST(model_contexts_are_checked)
{
    we_error err;
    const char *dir = test_fixture("logits/llama_f32");
    CHECK_OK(open_folder(dir, &(we_decoder_options){ .context = 2048 }, &err), &err);
    CHECK_STATUS(open_folder(dir, &(we_decoder_options){ .context = 2049 }, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "1 to 2048");
}

TEST(model_missing_files_are_named)
{
    we_error err;
    const char *dir = test_path("empty");
    mkdir(dir, 0755);
    CHECK_STATUS(open_folder(dir, NULL, &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "config.json");
}

TEST(model_git_lfs_pointers_are_recognised)
{
    we_error err;
    static const char pointer[] =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    mkdir(test_path("lfs"), 0755);
    test_write("lfs/config.json", pointer, sizeof pointer - 1);
    CHECK_STATUS(open_folder(test_path("lfs"), NULL, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "git lfs pull");
}

TEST(model_too_large_for_the_memory_says_what_it_needs)
{
    we_error err;
    const char *dir =
        folder_with("llama_f32", "\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 1000000000");
    CHECK_STATUS(open_folder(dir, &(we_decoder_options){ .context = 1000000000 }, &err), WE_E_NOMEM, &err);
    EXPECT_MESSAGE(&err, "Out of memory during model loading");
    EXPECT_MESSAGE(&err, "available are");
}

TEST(model_opens_or_says_no_memory_whichever_allocation_fails)
{
    we_error err;
    we_status st = WE_OK;
    we_device *device;
    CHECK_OK(we_device_open(&device, &(we_device_options){ .threads = 1 }, &err), &err);
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_decoder *decoder;
        st = we_decoder_open(&decoder, device, test_fixture("logits/phi3_q4"), NULL, &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
        we_decoder_close(decoder);
    }
    we_device_close(device);
}

TEST(model_counts_what_it_reads)
{
    we_error err;
    we_device *device;
    we_decoder *decoder;
    CHECK_OK(we_device_open(&device, &(we_device_options){ .threads = 1 }, &err), &err);
    CHECK_OK(we_decoder_open(&decoder, device, test_fixture("logits/llama_q4_g32_f32"), NULL, &err), &err);
    const we_decoder_info *i = we_decoder_get_info(decoder);
    assert_string_equal(i->model_type, "llama");
    assert_string_equal(i->quantization, "4-bit affine, group 32");
    assert_int_equal(i->vocab_size, 259);
    /* hidden 128, 2 layers, 4 heads of 32, 2 KV heads, FF 128, untied: embeddings and head 259 x 128 each */
    const uint64_t matrices = 2 * 259 * 128 + 2 * (128 * 128 + 2 * 64 * 128 + 128 * 128 + 3 * 128 * 128);
    assert_int_equal(i->n_parameters, matrices + 5 * 128);
    assert_int_equal(i->weights_bytes, matrices / 2 + matrices / 32 * 8 + 5 * 128 * 4);
    assert_int_equal(i->weight_bytes_read_per_token, i->weights_bytes - 259 * (128 / 2 + 128 / 32 * 8));
    we_decoder_close(decoder);
    we_device_close(device);
}

typedef struct logits {
    float rows[4][259];
} logits;

static bool keep_logits(void *user, size_t first, size_t n, const float *rows)
{
    logits *l = user;
    memcpy(l->rows[first], rows, n * sizeof l->rows[0]);
    return true;
}

/* Two sequences in one step. The last layer leaves out rows that nobody asked for, and that changes nothing for the others. */
TEST(model_rows_that_are_not_wanted_change_nothing)
{
    static const char *const names[] = { "logits/llama_q4_g32_f32", "logits/gemma3_text_long_q4" };
    static const int32_t ids[9] = { 5, 9, 77, 31, 200, 8, 14, 15, 90 }, wanted[] = { 2, 5, 6 };
    for (size_t m = 0; m < WE_COUNT(names); m++) {
        we_error err;
        we_device *device;
        we_decoder *decoder;
        we_kv *kv[2];
        logits got[2] = { 0 };
        CHECK_OK(we_device_open(&device, &(we_device_options){ .threads = 1 }, &err), &err);
        CHECK_OK(
            we_decoder_open(&decoder, device, test_fixture(names[m]), &(we_decoder_options){ .precise = true }, &err),
            &err);
        for (int i = 0; i < 2; i++) {
            CHECK_OK(we_decoder_kv_new(decoder, &kv[i], &err), &err);
            CHECK_OK(device->ops->kv_reserve(device, kv[i], 0, 6, &err), &err);
        }
        const we_span spans[] = { { kv[0], 0, 6, 0 }, { kv[1], 6, 3, 0 } };
        for (int all = 0; all < 2; all++) {
            const we_step_request r = { .spans = spans,
                                        .n_spans = 2,
                                        .n_rows = 9,
                                        .ids = ids,
                                        .out_rows = wanted,
                                        .n_out = WE_COUNT(wanted),
                                        .all_rows = all,
                                        .on_logits = keep_logits,
                                        .user = &got[all] };
            CHECK_OK(we_decoder_step(decoder, &r, &err), &err);
        }
        for (size_t i = 0; i < WE_COUNT(wanted); i++)
            for (int j = 0; j < 259; j++)
                if (!(fabsf(got[0].rows[i][j] - got[1].rows[i][j]) <= 1e-4f))
                    fail_msg("%s, row %d, token %d: %g, with all rows %g", names[m], wanted[i], j,
                             (double)got[0].rows[i][j], (double)got[1].rows[i][j]);
        for (int i = 0; i < 2; i++) device->ops->kv_free(device, kv[i]);
        we_decoder_close(decoder);
        we_device_close(device);
    }
}
