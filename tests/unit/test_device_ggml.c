/* SPDX-License-Identifier: Apache-2.0
 * test_device_ggml.c - products with ggml's blocks through the device: on the fast path against the sum that int8 activations
 * and the blocks' own values give exactly, with --precise against plain sums; every kernel table, row counts with tails. */
#include "support.h"

#include "device/cpu/kernels.h"
#include "device/device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLS = 768, TOKENS = 14 }; /* more tokens than kernels go row by row with */

typedef struct test_case {
    we_dtype dtype;
    int rows, cols, tokens;
    we_matrix matrix;
    uint8_t *bytes;
    float *values, x[TOKENS * COLS]; /* values: of the weight */
} test_case;

/* Where float16 scales stand in a block; those are given numbers of a size that weights have. */
static void set_scales(we_dtype dtype, uint8_t *block, uint64_t *seed)
{
    static const struct {
        we_dtype dtype;
        int at[2];
        float size;
    } fields[] = {
        { WE_GGML_Q4_0, { 0, -1 }, 0.01F },    { WE_GGML_Q4_1, { 0, 2 }, 0.01F },
        { WE_GGML_Q5_0, { 0, -1 }, 0.005F },   { WE_GGML_Q5_1, { 0, 2 }, 0.005F },
        { WE_GGML_Q8_0, { 0, -1 }, 0.001F },   { WE_GGML_Q2_K, { 80, 82 }, 0.005F },
        { WE_GGML_Q3_K, { 108, -1 }, 0.001F }, { WE_GGML_Q4_K, { 0, 2 }, 2e-4F },
        { WE_GGML_Q5_K, { 0, 2 }, 1e-4F },     { WE_GGML_Q6_K, { 208, -1 }, 2e-5F },
        { WE_GGML_IQ4_NL, { 0, -1 }, 1e-3F },  { WE_GGML_IQ4_XS, { 0, -1 }, 3e-5F },
    };
    if (dtype == WE_GGML_MXFP4) block[0] = (uint8_t)(118 + test_random(seed) % 4);
    for (size_t i = 0; i < WE_COUNT(fields); i++)
        for (int k = 0; fields[i].dtype == dtype && k < 2 && fields[i].at[k] >= 0; k++) {
            const uint16_t h = we_f32_to_f16(fields[i].size * test_random_float(seed));
            memcpy(block + fields[i].at[k], &h, sizeof h);
        }
}

static test_case *case_new(we_dtype dtype, int rows, int tokens)
{
    const int cols = we_dtype_block(dtype) == 32 ? COLS - 96 : COLS; /* a row may end between two steps of 256 */
    test_case *t = calloc(1, sizeof *t);
    uint64_t seed = (uint64_t)dtype * 1000 + (uint64_t)rows;
    *t = (test_case){ .dtype = dtype, .rows = rows, .cols = cols, .tokens = tokens };
    t->matrix =
        (we_matrix){ .rows = rows, .cols = cols, .quant = { WE_QUANT_GGML, 0, we_dtype_block(dtype) }, .dtype = dtype };
    const size_t n = (size_t)we_matrix_bytes(&t->matrix), size = we_dtype_size(dtype);
    t->matrix.data = t->bytes = malloc(n); /* of exactly its size: a read behind it is seen */
    for (size_t i = 0; i < n; i++) t->bytes[i] = (uint8_t)test_random(&seed);
    for (size_t i = 0; i < n; i += size) set_scales(dtype, t->bytes + i, &seed);
    t->values = malloc((size_t)rows * (size_t)cols * sizeof(float));
    for (int r = 0; r < rows; r++) we_matrix_row_f32(&t->matrix, r, t->values + r * cols);
    for (int i = 0; i < tokens * cols; i++) t->x[i] = test_random_float(&seed);
    return t;
}

static void case_free(test_case *t)
{
    free(t->bytes);
    free(t->values);
    free(t);
}

/* x as the fast path rounds it. */
static void round_activations(const float *x, int cols, float *out)
{
    static int8_t codes[COLS + WE_Q8_PAD];
    static float scales[COLS + WE_Q8_PAD], sums[COLS + WE_Q8_PAD];
    we_cpu_kernels_reference.q8_quantize(x, cols, codes, scales, sums);
    for (int i = 0; i < cols; i++) out[i] = scales[i / WE_Q8_GROUP] * (float)codes[i];
}

static void expect(const test_case *t, bool precise, float *want)
{
    for (int k = 0; k < t->tokens; k++) {
        float rounded[COLS];
        const float *x = t->x + k * t->cols;
        if (!precise) {
            round_activations(x, t->cols, rounded);
            x = rounded;
        }
        for (int r = 0; r < t->rows; r++) {
            double sum = 0;
            for (int c = 0; c < t->cols; c++) sum += (double)t->values[r * t->cols + c] * (double)x[c];
            want[k * t->rows + r] = (float)sum;
        }
    }
}

/* The activations come in as an embedding's rows. */
static void run(we_device *d, const test_case *t, bool precise, float *got)
{
    we_error err;
    we_tensor *weight, *table, *x, *out, *ids;
    we_kv *kv;
    const we_matrix activations = {
        .rows = t->tokens, .cols = t->cols, .dtype = WE_F32, .data = (const uint8_t *)t->x
    };
    const we_kv_layer layer = { 1, 16, 0 };
    CHECK_OK(d->ops->weight_new(d, &t->matrix, &weight, &err), &err);
    CHECK_OK(d->ops->weight_new(d, &activations, &table, &err), &err);
    CHECK_OK(d->ops->tensor_new(d, t->tokens, t->cols, &x, &err), &err);
    CHECK_OK(d->ops->tensor_new(d, t->tokens, t->rows, &out, &err), &err);
    CHECK_OK(d->ops->ids_new(d, t->tokens, &ids, &err), &err);
    CHECK_OK(d->ops->kv_new(d, &(we_kv_spec){ &layer, 1, 32 }, &kv, &err), &err);
    int32_t numbers[TOKENS];
    for (int i = 0; i < t->tokens; i++) numbers[i] = i;
    const we_span span = { kv, 0, t->tokens, 0 };
    const we_batch batch = { .spans = &span, .n_spans = 1, .n_rows = t->tokens, .precise = precise };
    d->ops->begin(d, &batch);
    d->ops->write_ids(d, ids, numbers, t->tokens);
    d->ops->embed(d, x, table, ids, 1);
    d->ops->linear(d, &(we_linear){ out, weight, NULL, false }, 1, x);
    CHECK_OK(d->ops->end(d, &err), &err);
    memcpy(got, d->ops->read(d, out, NULL), (size_t)(t->tokens * t->rows) * sizeof *got);
    d->ops->kv_free(d, kv);
    we_tensor *const all[] = { weight, table, x, out, ids };
    for (size_t i = 0; i < WE_COUNT(all); i++) d->ops->tensor_free(d, all[i]);
}

static void check(we_device *d, we_dtype dtype, int rows, int tokens)
{
    test_case *t = case_new(dtype, rows, tokens);
    float *want = malloc((size_t)(rows * tokens) * sizeof *want), *got = malloc((size_t)(rows * tokens) * sizeof *got);
    /* MLX's fast path rounds otherwise: conformance/test_logits.c */
    for (int precise = strcmp(d->ops->name, "mlx") == 0; precise < 2; precise++) {
        expect(t, precise, want);
        run(d, t, precise, got);
        double most = 0, worst = 0;
        for (int i = 0; i < rows * tokens; i++) {
            most = fmax(most, fabs((double)want[i]));
            worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
        }
        /* Without a kernel of its own Q2_K is the sum of three products whose parts cancel: float32 keeps a digit less. */
        const double limit = dtype == WE_GGML_Q2_K ? 6e-5 : 2e-5;
        if (!(worst <= limit * most))
            fail_msg("%s, %s, %d rows, %d tokens%s: off by %g of %g", d->kernels, we_dtype_name(dtype), rows, tokens,
                     precise ? ", precise" : "", worst, most);
    }
    free(want);
    free(got);
    case_free(t);
}

TEST(device_ggml_products_agree_with_the_blocks_values)
{
    static const char *const tables[] = { "reference",  "avx2", "avxvnni",  "avx512",
                                          "avx512bf16", "neon", "neoni8mm", "mlx" };
    int n_tables = 0;
    for (size_t k = 0; k < WE_COUNT(tables); k++) {
        we_device *d;
        const bool mlx = strcmp(tables[k], "mlx") == 0;
        const we_device_options options = { .device = mlx ? "mlx" : "cpu",
                                            .kernels = mlx ? NULL : tables[k],
                                            .threads = 2 };
        if (we_device_open(&d, &options, NULL)) continue;
        n_tables++;
        for (int dtype = WE_GGML_Q4_0; dtype < WE_DTYPE_COUNT; dtype++) {
            check(d, (we_dtype)dtype, 1 + 32, 1);
            check(d, (we_dtype)dtype, 75, 3);
            check(d, (we_dtype)dtype, 40, TOKENS);
        }
        we_device_close(d);
    }
    assert_true(n_tables > 0);
}
