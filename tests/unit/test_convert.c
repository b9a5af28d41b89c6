/* SPDX-License-Identifier: Apache-2.0
 * test_convert.c - the way from any source to a folder: where shards are cut, pieces of rows in all actions, running out of
 * memory, cancelling. What the folder's values are: tests/conformance/convert_live.py; files and failures: tests/e2e. */
#include "support.h"

#include "convert/convert_int.h"

#include <stdio.h>
#include <unistd.h>

/* ---- A source of made-up rows ---- */

enum { ROWS = 40000, COLS = 64 }; /* more than one piece: 4 MB are 16384 rows */

static const we_source_tensor tensors[] = {
    { .name = "model.embed_tokens.weight", .dtype = WE_BF16, .n_dims = 2, .shape = { ROWS, COLS } },
    { .name = "model.layers.0.mlp.down_proj.weight", .dtype = WE_F32, .n_dims = 2, .shape = { 7, COLS } },
    { .name = "model.norm.weight", .dtype = WE_BF16, .n_dims = 1, .shape = { COLS } },
    { .name = "scalar", .dtype = WE_F32 },
    { .name = "nothing", .dtype = WE_F32, .n_dims = 2, .shape = { 0, 5 } },
};

static float value_at(int64_t row, int64_t column) { return (float)((row * 31 + column * 7) % 101 - 50) / 64; }

static we_status made_up_rows(const we_source *source, const we_source_tensor *t, int64_t first, int64_t n,
                              uint8_t *scratch, const uint8_t **rows, we_error *err)
{
    (void)source;
    (void)err;
    const int64_t cols = we_row_elements(t);
    for (int64_t i = 0; i < n * cols; i++) {
        const float f = value_at(first + i / cols, i % cols);
        const uint16_t half = we_f32_to_bf16(f);
        if (t->dtype == WE_F32)
            memcpy(scratch + 4 * i, &f, sizeof f);
        else
            memcpy(scratch + 2 * i, &half, sizeof half);
    }
    *rows = scratch;
    return WE_OK;
}

static const we_json config = { .type = WE_JSON_OBJECT };
static const we_side_file files[] = { { .name = "tokenizer.json", .bytes = { "{}", 2 } } };

static we_source made_up(void)
{
    return (we_source){ .name = "made up",
                        .tensors = tensors,
                        .n_tensors = WE_COUNT(tensors),
                        .config = &config,
                        .files = files,
                        .n_files = WE_COUNT(files),
                        .is_checked = true,
                        .read = made_up_rows };
}

static we_convert_job job_of(bool quantize)
{
    we_convert_options o = WE_CONVERT_OPTIONS_INIT;
    we_convert_job job;
    we_error err;
    o.quantize = quantize;
    CHECK_OK(we_convert_job_init(&job, &o, &err), &err);
    return job;
}

/* ---- Tests ---- */

TEST(convert_writes_every_piece)
{
    const we_source source = made_up();
    we_convert_job job = job_of(false);
    we_convert_result result;
    we_weights *w;
    we_error err;
    job.has_dtype = true;
    job.dtype = WE_F32;
    CHECK_OK(we_convert_write(&source, &job, test_path("plain"), &result, &err), &err);
    assert_int_equal(result.n_files, 1);
    assert_int_equal(result.n_tensors, WE_COUNT(tensors));
    CHECK_OK(we_weights_open(&w, test_path("plain"), &err), &err);
    const we_weight *t = we_weights_find(w, tensors[0].name);
    assert_int_equal(t->dtype, WE_F32);
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        float f;
        memcpy(&f, t->data + 4 * i, sizeof f);
        assert_true(f == we_bf16_to_f32(we_f32_to_bf16(value_at(i / COLS, i % COLS))));
    }
    assert_int_equal(we_weights_find(w, "nothing")->bytes, 0);
    we_weights_close(w);
}

TEST(convert_quantizes_every_piece)
{
    const we_source source = made_up();
    const we_convert_job job = job_of(true);
    we_convert_result result;
    we_weights *w;
    we_error err;
    CHECK_OK(we_convert_write(&source, &job, test_path("packed"), &result, &err), &err);
    assert_int_equal(result.n_quantized, 2);
    CHECK_OK(we_weights_open(&w, test_path("packed"), &err), &err);
    const we_weight *weight = we_weights_find(w, "model.embed_tokens.weight");
    const we_weight *scales = we_weights_find(w, "model.embed_tokens.scales");
    const we_weight *biases = we_weights_find(w, "model.embed_tokens.biases");
    for (int64_t row = 0; row < ROWS; row += 97) {
        float values[COLS];
        uint8_t codes[COLS / 2], scale[2], bias[2];
        for (int64_t i = 0; i < COLS; i++) values[i] = we_bf16_to_f32(we_f32_to_bf16(value_at(row, i)));
        we_quant_row((we_quant){ WE_QUANT_AFFINE, 4, 64 }, WE_BF16, values, COLS, codes, scale, bias);
        assert_memory_equal(weight->data + row * COLS / 2, codes, sizeof codes);
        assert_memory_equal(scales->data + row * 2, scale, 2);
        assert_memory_equal(biases->data + row * 2, bias, 2);
    }
    we_weights_close(w);
}

/* As make_shards of mlx-lm: in order, a tensor that is too large alone. */
TEST(convert_cuts_shards)
{
    const we_source source = made_up();
    we_convert_job job = job_of(false);
    we_plan plan;
    we_error err;
    static const struct {
        uint64_t most;
        size_t shards[WE_COUNT(tensors)], n;
    } cases[] = {
        { 0, { 0, 0, 0, 0, 0 }, 1 },
        { 1792 + 128 + 4, { 0, 1, 1, 1, 1 }, 2 },
        { 1792 + 128, { 0, 1, 1, 2, 2 }, 3 },
        { 1, { 0, 1, 2, 3, 4 }, 5 },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        job.shard_bytes = cases[i].most;
        CHECK_OK(we_plan_init(&plan, &source, &job, &err), &err);
        assert_int_equal(plan.n_parts, WE_COUNT(tensors));
        for (size_t k = 0; k < plan.n_parts; k++) assert_int_equal(plan.parts[k]->shard, cases[i].shards[k]);
        assert_int_equal(plan.n_shards, cases[i].n);
        we_plan_deinit(&plan);
    }
    we_convert_result result;
    job.shard_bytes = 1000000;
    CHECK_OK(we_convert_write(&source, &job, test_path("shards"), &result, &err), &err);
    assert_int_equal(result.n_files, 2);
    assert_true(we_path_exists(test_path("shards/model-00001-of-00002.safetensors")));
    we_weights *w;
    CHECK_OK(we_weights_open(&w, test_path("shards"), &err), &err);
    assert_int_equal(we_weights_count(w), WE_COUNT(tensors));
    we_weights_close(w);
}

TEST(convert_out_of_memory)
{
    we_source source = made_up();
    source.tensors = tensors + 1; /* small ones */
    source.n_tensors--;
    const we_convert_job job = job_of(true);
    we_convert_result result;
    we_status st = WE_OK;
    we_error err = { 0 };
    const char *target = test_path("starved");
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = we_convert_write(&source, &job, target, &result, &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
        assert_int_equal(we_path_exists(target), st == WE_OK);
    }
}

static bool never(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    assert_true(done <= total);
    return false;
}

TEST(convert_is_cancelled)
{
    const we_source source = made_up();
    we_convert_job job = job_of(true);
    we_convert_result result;
    we_error err;
    job.progress = never;
    CHECK_STATUS(we_convert_write(&source, &job, test_path("cancelled/below/model"), &result, &err), WE_E_CANCELLED,
                 &err);
    assert_false(we_path_exists(test_path("cancelled")));
}
