/* SPDX-License-Identifier: Apache-2.0
 * test_device.c - the CPU device through its public operations: every op against a straightforward double-precision version,
 * batches of several sequences, the pages of caches in all widths, and memory that runs out. Kernels: test_kernels.c;
 * choosing tokens: test_device_sample.c. */
#include "support.h"

#include "device/device.h"

#include <math.h>
#include <pthread.h>

/* ---- A device, and handles that are freed together ---- */

static we_device *open_device(const char *kernels, int threads)
{
    we_device *d;
    we_error err;
    const we_device_options options = { .device = "cpu", .kernels = kernels, .threads = threads };
    CHECK_OK(we_device_open(&d, &options, &err), &err);
    return d;
}

static we_tensor *tensor(we_device *d, int64_t rows, int64_t cols)
{
    we_tensor *t;
    we_error err;
    CHECK_OK(d->ops->tensor_new(d, rows, cols, &t, &err), &err);
    return t;
}

static we_tensor *ids_of(we_device *d, const int32_t *values, int64_t n)
{
    we_tensor *t;
    we_error err;
    CHECK_OK(d->ops->ids_new(d, n, &t, &err), &err);
    d->ops->write_ids(d, t, values, n);
    return t;
}

static we_tensor *weight(we_device *d, const float *values, int64_t rows, int64_t cols)
{
    we_tensor *t;
    we_error err;
    const we_matrix m = { .rows = rows, .cols = cols, .dtype = WE_F32, .data = (const uint8_t *)values };
    CHECK_OK(d->ops->weight_new(d, &m, &t, &err), &err);
    return t;
}

static _Thread_local uint32_t random_state = 1;
static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / (float)(1 << 23) - 1.0f;
}

static float *random_floats(int64_t n)
{
    float *x = we_malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) x[i] = random_float();
    return x;
}

/* A tensor's rows can only be written by an op: embed the rows of a weight that is what they should be. */
static void fill(we_device *d, we_tensor *t, const float *values, int64_t rows, int64_t cols)
{
    we_tensor *w = weight(d, values, rows, cols);
    int32_t *row_ids = we_malloc((size_t)rows * sizeof(*row_ids));
    for (int64_t i = 0; i < rows; i++) row_ids[i] = (int32_t)i;
    we_tensor *ids = ids_of(d, row_ids, rows);
    d->ops->embed(d, t, w, ids, 1.0f);
    d->ops->tensor_free(d, ids);
    d->ops->tensor_free(d, w);
    we_free(row_ids);
}

static _Thread_local we_span no_cache_span = { .n = 0 };
static we_batch plain_batch(int rows, bool precise)
{
    no_cache_span = (we_span){ .n = rows };
    return (we_batch){ .spans = &no_cache_span, .n_spans = 1, .n_rows = rows, .precise = precise };
}

static void check_end(we_device *d)
{
    we_error err;
    CHECK_OK(d->ops->end(d, &err), &err);
}

static void check_values(we_device *d, const we_tensor *t, const double *want, int64_t n, double tolerance)
{
    const float *got = d->ops->read(d, t, NULL);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance))
            fail_msg("%s, element %lld: %g, expected %g", d->kernels, (long long)i, (double)got[i], want[i]);
}

/* Every table, the fast ones with three threads, and MLX where this build has it. */
static const char *const all_kernels[] = { "reference",  "avx2", "avxvnni",  "avx512",
                                           "avx512bf16", "neon", "neoni8mm", "mlx" };
static we_device *variant(size_t index)
{
    we_device *d;
    const bool mlx = strcmp(all_kernels[index], "mlx") == 0;
    const we_device_options options = { .device = mlx ? "mlx" : "cpu",
                                        .kernels = mlx ? NULL : all_kernels[index],
                                        .threads = index ? 3 : 1 };
    if (mlx && !WE_HAS_MLX) return NULL;
    we_error err;
    const we_status st = we_device_open(&d, &options, &err);
    if (mlx) CHECK_OK(st, &err);
    return st == WE_OK ? d : NULL;
}
#define EACH_DEVICE(d)                                                \
    for (size_t index_ = 0; index_ < WE_COUNT(all_kernels); index_++) \
        for (we_device *d = variant(index_); d; we_device_close(d), d = NULL)

/* ---- Opening ---- */

TEST(device_opens_by_name_and_says_what_there_is)
{
    we_device *d;
    we_error err;
    CHECK_OK(we_device_open(&d, NULL, &err), &err); /* "mlx" where that has a GPU */
    we_device_close(d);
    CHECK_OK(we_device_open(&d, &(we_device_options){ .device = "cpu" }, &err), &err);
    assert_string_equal(d->ops->name, "cpu");
    assert_true(d->n_threads >= 1);
    we_device_close(d);
    we_device_close(NULL);
    CHECK_STATUS(we_device_open(&d, &(we_device_options){ .device = "abacus" }, &err), WE_E_UNSUPPORTED, &err);
    EXPECT_MESSAGE(&err, "cpu");
    CHECK_STATUS(we_device_open(&d, &(we_device_options){ .kernels = "sse9" }, &err), WE_E_UNSUPPORTED, &err);
    EXPECT_MESSAGE(&err, "reference");
    CHECK_STATUS(we_device_open(&d, &(we_device_options){ .threads = -1 }, &err), WE_E_ARG, &err);
    assert_null(d);
}

TEST(device_open_survives_any_allocation_failing)
{
    we_device *d = NULL;
    we_status st = WE_OK;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = we_device_open(&d, &(we_device_options){ .threads = 2 }, NULL);
        we_device_close(d);
    }
}

/* ---- Simple ops ---- */

TEST(device_embed_gives_scaled_rows)
{
    static const float table[] = { 1, 2, 3, 4, 5, 6 };
    EACH_DEVICE(d)
    {
        we_tensor *w = weight(d, table, 3, 2), *ids = ids_of(d, (int32_t[]){ 2, 0 }, 2), *x = tensor(d, 2, 2);
        const we_batch batch = plain_batch(2, false);
        d->ops->begin(d, &batch);
        d->ops->embed(d, x, w, ids, 10.0f);
        check_end(d);
        check_values(d, x, (double[]){ 50, 60, 10, 20 }, 4, 0);
        d->ops->write_ids(d, ids, (int32_t[]){ 3 }, 1); /* out of the table */
        d->ops->begin(d, &batch);
        d->ops->embed(d, x, w, ids, 1.0f);
        we_error err;
        CHECK_STATUS(d->ops->end(d, &err), WE_E_RANGE, &err);
        d->ops->tensor_free(d, w);
        d->ops->tensor_free(d, ids);
        d->ops->tensor_free(d, x);
    }
}

TEST(device_linear_adds_biases_and_residuals_of_several_weights_at_once)
{
    enum { ROWS = 5, COLS = 64, A = 70, B = 3 };
    float *a = random_floats(A * COLS), *b = random_floats(B * COLS), *x = random_floats(ROWS * COLS),
          *bias = random_floats(A);
    float *start = random_floats(ROWS * B);
    double *want_a = we_calloc(ROWS * A, sizeof(double)), *want_b = we_calloc(ROWS * B, sizeof(double));
    for (int t = 0; t < ROWS; t++)
        for (int c = 0; c < COLS; c++) {
            for (int r = 0; r < A; r++) want_a[t * A + r] += (double)x[t * COLS + c] * (double)a[r * COLS + c];
            for (int r = 0; r < B; r++) want_b[t * B + r] += (double)x[t * COLS + c] * (double)b[r * COLS + c];
        }
    for (int i = 0; i < ROWS * A; i++) want_a[i] += (double)bias[i % A];
    for (int i = 0; i < ROWS * B; i++) want_b[i] += (double)start[i];
    EACH_DEVICE(d)
    {
        we_tensor *wa = weight(d, a, A, COLS), *wb = weight(d, b, B, COLS), *wbias = weight(d, bias, 1, A);
        we_tensor *in = tensor(d, ROWS, COLS), *out_a = tensor(d, ROWS, A), *out_b = tensor(d, ROWS + 2, B);
        const we_batch batch = plain_batch(ROWS, true);
        d->ops->begin(d, &batch);
        fill(d, in, x, ROWS, COLS);
        fill(d, out_b, start, ROWS, B);
        const we_linear l[] = { { .out = out_a, .weight = wa, .bias = wbias },
                                { .out = out_b, .weight = wb, .add = true } };
        d->ops->linear(d, l, 2, in);
        check_end(d);
        check_values(d, out_a, want_a, ROWS * A, 1e-5);
        check_values(d, out_b, want_b, ROWS * B, 1e-5);
        we_tensor *all[] = { wa, wb, wbias, in, out_a, out_b };
        for (size_t i = 0; i < WE_COUNT(all); i++) d->ops->tensor_free(d, all[i]);
    }
    we_free(a), we_free(b), we_free(x), we_free(bias), we_free(start), we_free(want_a), we_free(want_b);
}

/* Fast steps round activations, precise ones do not; both are near the truth. */
static void check_packed(size_t cols, we_quant quant)
{
    enum { ROWS = 3, MAX_COLS = 256, OUT = 40 };
    float *values = random_floats(OUT * cols), *x = random_floats(ROWS * cols);
    we_matrix m = { .rows = OUT, .cols = (int64_t)cols, .quant = quant, .dtype = WE_F32 };
    const size_t row = we_matrix_row_bytes(&m), scale_row = we_matrix_row_scale_bytes(&m);
    uint8_t *data = we_malloc(OUT * row), *scales = we_malloc(OUT * scale_row), *biases = we_malloc(OUT * scale_row);
    for (size_t r = 0; r < OUT; r++)
        we_quant_row(m.quant, m.dtype, values + r * cols, cols, data + r * row, scales + r * scale_row,
                     biases + r * scale_row);
    m.data = data, m.scales = scales, m.biases = biases;
    double want[ROWS * OUT] = { 0 };
    float unpacked[MAX_COLS];
    for (int r = 0; r < OUT; r++) {
        we_matrix_row_f32(&m, r, unpacked);
        for (int t = 0; t < ROWS; t++)
            for (size_t c = 0; c < cols; c++)
                want[t * OUT + r] += (double)x[(size_t)t * cols + c] * (double)unpacked[c];
    }
    EACH_DEVICE(d)
    for (int precise = 0; precise < 2; precise++) {
        we_tensor *w, *in = tensor(d, ROWS, (int64_t)cols), *out = tensor(d, ROWS, OUT);
        we_error err;
        CHECK_OK(d->ops->weight_new(d, &m, &w, &err), &err);
        const we_batch batch = plain_batch(ROWS, precise);
        d->ops->begin(d, &batch);
        fill(d, in, x, ROWS, (int64_t)cols);
        d->ops->linear(d, &(we_linear){ .out = out, .weight = w }, 1, in);
        check_end(d);
        check_values(d, out, want, ROWS * OUT, precise ? 2e-5 : 0.1);
        d->ops->tensor_free(d, w);
        d->ops->tensor_free(d, in);
        d->ops->tensor_free(d, out);
    }
    we_free(values), we_free(x), we_free(data), we_free(scales), we_free(biases);
}
TEST(device_linear_takes_packed_weights)
{
    check_packed(256, (we_quant){ WE_QUANT_AFFINE, 8, 32 });
    check_packed(64, (we_quant){ WE_QUANT_AFFINE, 4, 64 }); /* a whole row in one group */
}

/* Plain: bfloat16. */
static we_matrix random_packed(int64_t rows, int64_t cols, we_quant quant)
{
    we_matrix m = { .rows = rows, .cols = cols, .quant = quant, .dtype = quant.mode ? WE_F32 : WE_BF16 };
    const size_t row = we_matrix_row_bytes(&m), scale_row = we_matrix_row_scale_bytes(&m), n = (size_t)rows;
    float *values = random_floats(rows * cols);
    uint8_t *data = we_malloc(n * row), *scales = we_malloc(n * scale_row + 1), *biases = we_malloc(n * scale_row + 1);
    for (int64_t i = 0; !quant.mode && i < rows * cols; i++) {
        const uint16_t half = we_f32_to_bf16(values[i]);
        memcpy(data + 2 * i, &half, sizeof half);
    }
    for (size_t r = 0; quant.mode && r < n; r++)
        we_quant_row(m.quant, m.dtype, values + r * (size_t)cols, (size_t)cols, data + r * row, scales + r * scale_row,
                     biases + r * scale_row);
    m.data = data, m.scales = scales, m.biases = biases;
    we_free(values);
    return m;
}
static void free_packed(we_matrix *m)
{
    we_free((void *)m->data), we_free((void *)m->scales), we_free((void *)m->biases);
}

/* Two linears and glu in one, where a device has that, are the same one after the other: the product that reads them tells. */
static void check_gated(we_device *d, we_quant quant, we_quant reader, int n, we_activation act)
{
    enum { COLS = 128, FF = 608, OUT = 40 };
    we_matrix m[] = { random_packed(FF, COLS, quant), random_packed(FF, COLS, quant), random_packed(OUT, FF, reader) };
    we_tensor *t[] = { tensor(d, n, COLS), tensor(d, n, FF), tensor(d, n, FF), tensor(d, n, OUT) }, *w[3];
    we_error err;
    for (int i = 0; i < 3; i++) CHECK_OK(d->ops->weight_new(d, &m[i], &w[i], &err), &err);
    const we_linear l[] = { { .out = t[1], .weight = w[0] }, { .out = t[2], .weight = w[1] } };
    const we_linear last = { .out = t[3], .weight = w[2] };
    const we_batch batch = plain_batch(n, false);
    float *x = random_floats(n * COLS);
    double *want = we_malloc((size_t)(n * OUT) * sizeof *want);

    d->ops->begin(d, &batch);
    fill(d, t[0], x, n, COLS);
    d->ops->linear(d, l, 2, t[0]);
    d->ops->glu(d, t[1], t[2], act);
    d->ops->linear(d, &last, 1, t[1]);
    check_end(d);
    const float *got = d->ops->read(d, t[3], NULL);
    for (int i = 0; i < n * OUT; i++) want[i] = (double)got[i];

    d->ops->begin(d, &batch);
    fill(d, t[0], x, n, COLS);
    if (d->ops->gated(d, l, t[0], act, w[2])) d->ops->linear(d, &last, 1, t[1]);
    check_end(d);
    check_values(d, t[3], want, n * OUT, 0);
    d->ops->begin(d, &batch); /* and the tensor is an ordinary one again */
    fill(d, t[0], x, n, COLS);
    d->ops->linear(d, l, 2, t[0]);
    d->ops->glu(d, t[1], t[2], act);
    d->ops->linear(d, &last, 1, t[1]);
    check_end(d);
    check_values(d, t[3], want, n * OUT, 0);

    for (int i = 0; i < 3; i++) d->ops->tensor_free(d, w[i]), free_packed(&m[i]);
    for (int i = 0; i < 4; i++) d->ops->tensor_free(d, t[i]);
    we_free(x), we_free(want);
}

TEST(device_gated_is_its_linears_and_glu)
{
    EACH_DEVICE(d)
    {
        if (!d->ops->gated) continue;
        const we_quant q4 = { WE_QUANT_AFFINE, 4, 32 }, mxfp8 = { WE_QUANT_MXFP8, 8, 32 }, plain = { 0 };
        check_gated(d, (we_quant){ WE_QUANT_AFFINE, 4, 64 }, q4, 131, WE_ACT_SILU);
        check_gated(d, (we_quant){ WE_QUANT_AFFINE, 4, 64 }, q4, 12, WE_ACT_SILU);
        check_gated(d, (we_quant){ WE_QUANT_AFFINE, 8, 32 }, q4, 13, WE_ACT_GELU_TANH);
        check_gated(d, (we_quant){ WE_QUANT_MXFP4, 4, 32 }, q4, 20, WE_ACT_GELU);
        check_gated(d, plain, plain, 37, WE_ACT_SILU);
        check_gated(d, mxfp8, plain, 13, WE_ACT_GELU_TANH);
        check_gated(d, plain, q4, 20, WE_ACT_SILU);
    }
}

/* Products of one input with weights that read it in several forms are what each is alone; up to eight tokens of plain weights are
 * as exact on a CPU as in a precise step. */
TEST(device_linear_rounds_its_input_as_each_weight_wants)
{
    enum { COLS = 96, OUT = 40, ROWS = 13, FEW = 8, N = 5 };
    static const we_quant quants[N] = {
        { 0 }, { WE_QUANT_AFFINE, 4, 32 }, { WE_QUANT_MXFP8, 8, 32 }, { 0 }, { WE_QUANT_AFFINE, 8, 32 }
    };
    we_matrix m[N];
    float *x = random_floats(ROWS * COLS), unpacked[COLS];
    double want[N][ROWS * OUT] = { { 0 } }, alone[N][ROWS * OUT];
    for (int i = 0; i < N; i++) {
        m[i] = random_packed(OUT, COLS, quants[i]);
        for (int r = 0; r < OUT; r++) {
            we_matrix_row_f32(&m[i], r, unpacked);
            for (int t = 0; t < ROWS; t++)
                for (int c = 0; c < COLS; c++) want[i][t * OUT + r] += (double)x[t * COLS + c] * (double)unpacked[c];
        }
    }
    EACH_DEVICE(d)
    {
        we_tensor *in = tensor(d, ROWS, COLS), *w[N], *out[N];
        we_linear l[N];
        we_error err;
        for (int i = 0; i < N; i++) {
            CHECK_OK(d->ops->weight_new(d, &m[i], &w[i], &err), &err);
            out[i] = tensor(d, ROWS, OUT);
            l[i] = (we_linear){ .out = out[i], .weight = w[i] };
        }
        const we_batch batch = plain_batch(ROWS, false);
        for (int together = 0; together < 2; together++) {
            d->ops->begin(d, &batch);
            fill(d, in, x, ROWS, COLS);
            for (int i = 0; i < (together ? 1 : N); i++) d->ops->linear(d, &l[i], together ? N : 1, in);
            check_end(d);
            for (int i = 0; i < N; i++) {
                const float *got = d->ops->read(d, out[i], NULL);
                check_values(d, out[i], together ? alone[i] : want[i], ROWS * OUT, together ? 0 : 0.1);
                for (int j = 0; j < ROWS * OUT; j++) alone[i][j] = (double)got[j];
            }
        }
        const we_batch few = plain_batch(FEW, false);
        d->ops->begin(d, &few);
        fill(d, in, x, FEW, COLS);
        d->ops->linear(d, l, 1, in);
        check_end(d);
        if (strcmp(d->ops->name, "cpu") == 0) check_values(d, out[0], want[0], FEW * OUT, 2e-5);
        for (int i = 0; i < N; i++) d->ops->tensor_free(d, w[i]), d->ops->tensor_free(d, out[i]);
        d->ops->tensor_free(d, in);
    }
    for (int i = 0; i < N; i++) free_packed(&m[i]);
    we_free(x);
}

TEST(device_norm_rope_glu_add_and_take_rows_are_their_formulas)
{
    enum { ROWS = 3, COLS = 8 };
    static const float x[ROWS * COLS] = {
        1, -2, 3, 4, 0.5f, 6, -7, 8, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 1, -1, 3, 2, 5
    };
    static const float norm[4] = { 1, 0.5f, 2, -1 }, inv_freq[2] = { 1.0f, 0.1f };
    double want[ROWS * COLS];
    EACH_DEVICE(d)
    {
        we_tensor *in = tensor(d, ROWS, COLS), *out = tensor(d, ROWS, COLS), *w = weight(d, norm, 1, 4);
        we_rope *rope[2];
        we_error err;
        for (int i = 0; i < 2; i++) CHECK_OK(d->ops->rope_new(d, inv_freq, 4, i, 1.5f, &rope[i], &err), &err);
        we_span spans[] = { { .first = 0, .n = 2, .position = 7 }, { .first = 2, .n = 1, .position = 100 } };
        const we_batch batch = { .spans = spans, .n_spans = 2, .n_rows = ROWS };

        d->ops->begin(d, &batch); /* two groups of 4 in each row */
        fill(d, in, x, ROWS, COLS);
        d->ops->rms_norm(d, out, in, w, 4, 1e-3f, 1.0f);
        check_end(d);
        for (int i = 0; i < ROWS * COLS; i++) {
            double squares = 0;
            for (int j = 0; j < 4; j++) squares += (double)(x[i / 4 * 4 + j] * x[i / 4 * 4 + j]);
            want[i] = (double)x[i] / sqrt(squares / 4 + 1e-3) * ((double)norm[i % 4] + 1);
        }
        check_values(d, out, want, ROWS * COLS, 1e-5);

        for (int interleaved = 0; interleaved < 2; interleaved++) { /* one head of 8, the first 4 are turned */
            d->ops->begin(d, &batch);
            fill(d, in, x, ROWS, COLS);
            d->ops->rope(d, in, rope[interleaved], 1, COLS);
            check_end(d);
            for (int i = 0; i < ROWS * COLS; i++) want[i] = (double)x[i];
            for (int r = 0; r < ROWS; r++)
                for (int j = 0; j < 2; j++) {
                    const int a = r * COLS + (interleaved ? 2 * j : j), b = a + (interleaved ? 1 : 2);
                    const double angle = (double)(r < 2 ? 7 + r : 100) * (double)inv_freq[j];
                    want[a] = 1.5 * ((double)x[a] * cos(angle) - (double)x[b] * sin(angle));
                    want[b] = 1.5 * ((double)x[b] * cos(angle) + (double)x[a] * sin(angle));
                }
            check_values(d, in, want, ROWS * COLS, 1e-4);
        }

        for (int act = WE_ACT_SILU; act <= WE_ACT_GELU_TANH; act++) {
            d->ops->begin(d, &batch);
            fill(d, in, x, ROWS, COLS);
            fill(d, out, x, ROWS, COLS);
            d->ops->add(d, out, in);
            d->ops->glu(d, in, out, (we_activation)act);
            check_end(d);
            for (int i = 0; i < ROWS * COLS; i++) {
                const double g = (double)x[i], silu = g / (1 + exp(-g)), gelu = g * (1 + erf(g / sqrt(2))) / 2;
                const double gelu_tanh = g * (1 + tanh(sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) / 2;
                want[i] = (act == WE_ACT_SILU ? silu : act == WE_ACT_GELU ? gelu : gelu_tanh) * 2 * g;
            }
            check_values(d, in, want, ROWS * COLS, 1e-4);
        }

        d->ops->begin(d, &batch);
        fill(d, in, x, ROWS, COLS);
        d->ops->take_rows(d, out, in, (int32_t[]){ 2, 0 }, 2);
        check_end(d);
        for (int i = 0; i < 2 * COLS; i++) want[i] = (double)x[i < COLS ? 2 * COLS + i : i - COLS];
        check_values(d, out, want, 2 * COLS, 0);

        for (int i = 0; i < 2; i++) d->ops->rope_free(d, rope[i]);
        d->ops->tensor_free(d, in);
        d->ops->tensor_free(d, out);
        d->ops->tensor_free(d, w);
    }
}

/* ---- Attention ---- */

/* A sequence's keys and values as the test knows them: [MAX_POSITIONS, n_kv_heads * head_dim] of each layer. */
#define MAX_POSITIONS 700
typedef struct history {
    int n_kv_heads, head_dim, n_heads, window;
    float scale;
    float *k, *v;
} history;

static history history_new(int n_kv_heads, int group, int head_dim, int window)
{
    history h = {
        .n_kv_heads = n_kv_heads, .head_dim = head_dim, .n_heads = n_kv_heads * group, .window = window, .scale = 0.3f
    };
    h.k = random_floats((int64_t)MAX_POSITIONS * n_kv_heads * head_dim);
    h.v = random_floats((int64_t)MAX_POSITIONS * n_kv_heads * head_dim);
    return h;
}

static void history_free(history *h)
{
    we_free(h->k);
    we_free(h->v);
}

/* What a token at `position` with query q [n_heads * head_dim] gets. */
static void attend_plainly(const history *h, const float *q, int position, double *out)
{
    const int width = h->n_kv_heads * h->head_dim, lo = h->window ? WE_MAX(position - h->window + 1, 0) : 0;
    for (int head = 0; head < h->n_heads; head++) {
        const int at = head / (h->n_heads / h->n_kv_heads) * h->head_dim;
        double scores[MAX_POSITIONS], most = -INFINITY, sum = 0;
        for (int p = lo; p <= position; p++) {
            scores[p] = 0;
            for (int j = 0; j < h->head_dim; j++)
                scores[p] += (double)q[head * h->head_dim + j] * (double)h->k[p * width + at + j];
            scores[p] *= (double)h->scale;
            most = fmax(most, scores[p]);
        }
        for (int j = 0; j < h->head_dim; j++) out[head * h->head_dim + j] = 0;
        for (int p = lo; p <= position; p++) sum += scores[p] = exp(scores[p] - most);
        for (int p = lo; p <= position; p++)
            for (int j = 0; j < h->head_dim; j++)
                out[head * h->head_dim + j] += scores[p] / sum * (double)h->v[p * width + at + j];
    }
}

/* Feed positions [position, position + n) of several sequences in one step and check what they attend to. */
typedef struct feed {
    history *h;
    we_kv *kv;
    int position, n;
} feed;

/* The same where only each span's last rows are asked for. */
static void feed_last(we_device *d, const feed *f, int n_feeds, const we_attend *all, const we_span *spans,
                      const float *q_rows, const double *want, double tolerance)
{
    const int q_width = all->n_heads * all->head_dim, rows = spans[n_feeds - 1].first + spans[n_feeds - 1].n;
    const we_batch batch = { .spans = spans, .n_spans = n_feeds, .n_rows = rows };
    we_tensor *q = tensor(d, rows, q_width), *out = tensor(d, rows, q_width), *picked = tensor(d, rows, q_width);
    for (int last = 1; last <= 70; last += 69)
        for (int i = 0; i < n_feeds; i++) {
            const int n = WE_MIN(last, f[i].n), first = spans[i].first + f[i].n - n;
            int32_t *which = we_malloc((size_t)n * sizeof *which);
            for (int r = 0; r < n; r++) which[r] = first + r;
            we_attend a = *all;
            a.last = last;
            d->ops->begin(d, &batch);
            fill(d, q, q_rows, rows, q_width);
            d->ops->attend(d, out, q, &a);
            d->ops->take_rows(d, picked, out, which, n);
            d->ops->take_rows(d, q, q, which, n);
            check_end(d);
            check_values(d, picked, want + (int64_t)first * q_width, (int64_t)n * q_width, tolerance);
            assert_memory_equal(d->ops->read(d, q, NULL), q_rows + (int64_t)first * q_width,
                                (size_t)(n * q_width) * sizeof(float));
            we_free(which);
        }
    d->ops->tensor_free(d, q), d->ops->tensor_free(d, out), d->ops->tensor_free(d, picked);
}

static void feed_and_check(we_device *d, const feed *f, int n_feeds, double tolerance)
{
    const history *h = f[0].h;
    const int width = h->n_kv_heads * h->head_dim, q_width = h->n_heads * h->head_dim;
    we_span spans[4];
    int rows = 0;
    we_error err;
    for (int i = 0; i < n_feeds; i++) {
        spans[i] = (we_span){ .kv = f[i].kv, .first = rows, .n = f[i].n, .position = f[i].position };
        rows += f[i].n;
        CHECK_OK(d->ops->kv_reserve(d, f[i].kv, f[i].position, f[i].position + f[i].n, &err), &err);
    }
    float *kv_rows[2], *q_rows = random_floats((int64_t)rows * q_width);
    for (int which = 0; which < 2; which++) {
        kv_rows[which] = we_malloc((size_t)(rows * width) * sizeof(float));
        for (int i = 0; i < n_feeds; i++)
            memcpy(kv_rows[which] + spans[i].first * width, (which ? f[i].h->v : f[i].h->k) + f[i].position * width,
                   (size_t)(f[i].n * width) * sizeof(float));
    }
    we_tensor *q = tensor(d, rows, q_width), *k = tensor(d, rows, width), *v = tensor(d, rows, width),
              *out = tensor(d, rows, q_width);
    float *wide =
        random_floats(q_width); /* a weight that takes the queries' width, as a model's output projection does */
    we_tensor *projection = weight(d, wide, 1, q_width);
    const we_batch batch = { .spans = spans, .n_spans = n_feeds, .n_rows = rows };
    d->ops->begin(d, &batch);
    fill(d, q, q_rows, rows, q_width);
    fill(d, k, kv_rows[0], rows, width);
    fill(d, v, kv_rows[1], rows, width);
    d->ops->kv_append(d, 0, k, v);
    const we_attend a = { .layer = 0,
                          .n_heads = h->n_heads,
                          .n_kv_heads = h->n_kv_heads,
                          .head_dim = h->head_dim,
                          .scale = h->scale,
                          .window = h->window };
    d->ops->attend(d, out, q, &a);
    check_end(d);
    double *want = we_malloc((size_t)(rows * q_width) * sizeof(double));
    for (int i = 0; i < n_feeds; i++)
        for (int r = 0; r < f[i].n; r++) {
            const int row = spans[i].first + r;
            attend_plainly(f[i].h, q_rows + row * q_width, f[i].position + r, want + row * q_width);
        }
    check_values(d, out, want, rows * q_width, tolerance);
    feed_last(d, f, n_feeds, &a, spans, q_rows, want, tolerance);
    we_tensor *all[] = { q, k, v, out, projection };
    for (size_t i = 0; i < WE_COUNT(all); i++) d->ops->tensor_free(d, all[i]);
    we_free(q_rows), we_free(kv_rows[0]), we_free(kv_rows[1]), we_free(want), we_free(wide);
}

static we_kv *cache_for(we_device *d, const history *h, int bits)
{
    const we_kv_layer layer = { .n_kv_heads = h->n_kv_heads, .head_dim = h->head_dim, .window = h->window };
    const we_kv_spec spec = { .layers = &layer, .n_layers = 1, .bits = bits };
    we_kv *kv;
    we_error err;
    CHECK_OK(d->ops->kv_new(d, &spec, &kv, &err), &err);
    return kv;
}

static double tolerance_of(int bits) { return bits == 32 ? 1e-5 : bits == 16 ? 4e-3 : bits == 8 ? 2e-2 : 0.25; }

TEST(device_attention_sees_what_was_fed_in_every_width)
{
    static const struct {
        int n_kv_heads, group, head_dim, window;
    } shapes[] = { { 1, 1, 16, 0 }, { 2, 4, 64, 0 },   { 1, 3, 40, 0 },
                   { 2, 2, 32, 5 }, { 2, 2, 80, 100 }, { 1, 70, 4, 0 } };
    static const int bits[] = { 32, 16, 8, 4 };
    EACH_DEVICE(d)
    for (size_t s = 0; s < WE_COUNT(shapes); s++)
        for (size_t b = 0; b < WE_COUNT(bits); b++) {
            if (s > 1 && s % WE_COUNT(bits) != b) continue; /* the first shapes in all widths, the others in one */
            history h = history_new(shapes[s].n_kv_heads, shapes[s].group, shapes[s].head_dim, shapes[s].window);
            we_kv *kv = cache_for(d, &h, bits[b]);
            static const int steps[] = {
                1, 1, 5, 57, 1, 64, 70, 1, 300, 1, 3
            }; /* pages are filled and crossed in all ways */
            int position = 0;
            for (size_t i = 0; i < WE_COUNT(steps); position += steps[i++])
                feed_and_check(d, &(feed){ &h, kv, position, steps[i] }, 1, tolerance_of(bits[b]));
            d->ops->kv_free(d, kv);
            history_free(&h);
        }
}

TEST(device_attention_of_one_token_over_a_long_context_is_split_and_joined)
{
    we_device *d = open_device(NULL, 8); /* one KV head for eight threads */
    for (int window = 0; window <= 300; window += 300) {
        history h = history_new(1, 2, 32, window);
        we_kv *kv = cache_for(d, &h, 32);
        feed_and_check(d, &(feed){ &h, kv, 0, 600 }, 1, 1e-5);
        for (int i = 600; i < 610; i += 2) feed_and_check(d, &(feed){ &h, kv, i, 2 }, 1, 1e-5);
        d->ops->kv_free(d, kv);
        history_free(&h);
    }
    we_device_close(d);
}

TEST(device_attention_keeps_sequences_apart)
{
    EACH_DEVICE(d)
    {
        history h[3];
        we_kv *kv[3];
        for (int i = 0; i < 3; i++) {
            h[i] = history_new(2, 2, 32, 0);
            kv[i] = cache_for(d, &h[i], 16);
        }
        feed_and_check(d, (feed[]){ { &h[0], kv[0], 0, 70 }, { &h[1], kv[1], 0, 3 }, { &h[2], kv[2], 0, 1 } }, 3,
                       tolerance_of(16));
        feed_and_check(d, (feed[]){ { &h[2], kv[2], 1, 1 }, { &h[0], kv[0], 70, 1 } }, 2, tolerance_of(16));
        feed_and_check(d, (feed[]){ { &h[1], kv[1], 3, 100 }, { &h[0], kv[0], 71, 2 }, { &h[2], kv[2], 2, 9 } }, 3,
                       tolerance_of(16));
        for (int i = 0; i < 3; i++) {
            d->ops->kv_free(d, kv[i]);
            history_free(&h[i]);
        }
    }
}

/* ---- Caches ---- */

TEST(device_cache_trims_and_goes_on)
{
    we_device *d = open_device(NULL, 2);
    history h = history_new(2, 2, 32, 0);
    we_kv *kv = cache_for(d, &h, 32);
    feed_and_check(d, &(feed){ &h, kv, 0, 300 }, 1, 1e-5);
    const uint64_t bytes = d->ops->kv_bytes(d, kv);
    assert_true(d->ops->kv_trim(d, kv, 70));
    assert_true(d->ops->kv_bytes(d, kv) < bytes);
    for (int i = 70 * 64; i < MAX_POSITIONS * 64; i++) h.k[i] = random_float(); /* another future */
    feed_and_check(d, &(feed){ &h, kv, 70, 90 }, 1, 1e-5);
    assert_true(d->ops->kv_trim(d, kv, 0));
    assert_int_equal(d->ops->kv_bytes(d, kv), 0);
    feed_and_check(d, &(feed){ &h, kv, 0, 10 }, 1, 1e-5);
    d->ops->kv_free(d, kv);
    d->ops->kv_free(d, NULL);
    history_free(&h);
    we_device_close(d);
}

TEST(device_cache_copies_share_pages_until_one_writes)
{
    static const int bits[] = { 32, 16, 8, 4 };
    we_device *d = open_device(NULL, 2);
    for (size_t b = 0; b < WE_COUNT(bits); b++) {
        history h = history_new(2, 1, 32, 0), other = history_new(2, 1, 32, 0);
        memcpy(other.k, h.k, 100 * 64 * sizeof(float)); /* the same first 100 positions */
        memcpy(other.v, h.v, 100 * 64 * sizeof(float));
        we_kv *kv = cache_for(d, &h, bits[b]), *copy;
        we_error err;
        feed_and_check(d, &(feed){ &h, kv, 0, 100 }, 1, tolerance_of(bits[b]));
        CHECK_OK(d->ops->kv_copy(d, kv, &copy, &err), &err);
        feed_and_check(d, &(feed){ &other, copy, 100, 50 }, 1, tolerance_of(bits[b])); /* from the middle of a page */
        feed_and_check(d, &(feed){ &h, kv, 100, 60 }, 1, tolerance_of(bits[b]));
        feed_and_check(d, &(feed){ &other, copy, 150, 1 }, 1, tolerance_of(bits[b]));
        assert_true(d->ops->kv_trim(d, kv, 30)); /* into a shared page */
        for (int i = 30 * 64; i < MAX_POSITIONS * 64; i++) h.v[i] = random_float();
        feed_and_check(d, &(feed){ &h, kv, 30, 5 }, 1, tolerance_of(bits[b]));
        d->ops->kv_free(d, kv);
        feed_and_check(d, &(feed){ &other, copy, 151, 80 }, 1, tolerance_of(bits[b]));
        d->ops->kv_free(d, copy);
        history_free(&h);
        history_free(&other);
    }
    we_device_close(d);
}

TEST(device_cache_of_a_sliding_layer_forgets_and_says_so)
{
    we_device *d = open_device(NULL, 1);
    history h = history_new(1, 1, 16, 100);
    we_kv *kv = cache_for(d, &h, 32), *copy;
    we_error err;
    uint64_t most = 0;
    for (int i = 0; i < 600; i += 20) {
        feed_and_check(d, &(feed){ &h, kv, i, 20 }, 1, 1e-5);
        most = WE_MAX(most, d->ops->kv_bytes(d, kv));
    }
    const we_kv_layer layer = { .n_kv_heads = 1, .head_dim = 16, .window = 100 };
    const we_kv_spec spec = { .layers = &layer, .n_layers = 1, .bits = 32 };
    assert_true(most <= d->ops->kv_bytes_needed(d, &spec, 600));
    assert_true(d->ops->kv_bytes_needed(d, &spec, 100000) == d->ops->kv_bytes_needed(d, &spec, 10000));
    assert_true(d->ops->kv_trim(d, kv, 590)); /* sees 491 ... 589: the page from 256 on is there */
    feed_and_check(d, &(feed){ &h, kv, 590, 5 }, 1, 1e-5);
    assert_false(d->ops->kv_trim(d, kv, 250));             /* would see 151 */
    feed_and_check(d, &(feed){ &h, kv, 595, 5 }, 1, 1e-5); /* nothing was changed */
    CHECK_OK(d->ops->kv_copy(d, kv, &copy, &err), &err);
    assert_true(d->ops->kv_trim(d, kv, 0)); /* a token at 0 sees nothing */
    feed_and_check(d, &(feed){ &h, kv, 0, 250 }, 1, 1e-5);
    feed_and_check(d, &(feed){ &h, copy, 600, 30 }, 1, 1e-5);
    d->ops->kv_free(d, kv);
    d->ops->kv_free(d, copy);
    history_free(&h);
    we_device_close(d);
}

TEST(device_cache_refuses_nonsense)
{
    we_device *d = open_device(NULL, 1);
    we_kv *kv;
    we_error err;
    we_kv_layer layer = { .n_kv_heads = 2, .head_dim = 16 };
    we_kv_spec spec = { .layers = &layer, .n_layers = 1, .bits = 7 };
    CHECK_STATUS(d->ops->kv_new(d, &spec, &kv, &err), WE_E_ARG, &err);
    spec.bits = 16;
    layer.head_dim = 0;
    CHECK_STATUS(d->ops->kv_new(d, &spec, &kv, &err), WE_E_ARG, &err);
    layer.head_dim = 16;
    CHECK_OK(d->ops->kv_new(d, &spec, &kv, &err), &err);
    CHECK_STATUS(d->ops->kv_reserve(d, kv, 5, 4, &err), WE_E_RANGE, &err);
    CHECK_STATUS(d->ops->kv_reserve(d, kv, 0, INT64_MAX, &err), WE_E_RANGE, &err);
    assert_true(d->ops->kv_bytes_needed(d, &spec, INT64_MAX) == UINT64_MAX);
    assert_int_equal(d->ops->kv_bytes(d, kv), 0);
    d->ops->kv_free(d, kv);
    we_device_close(d);
}

TEST(device_cache_stays_as_it_was_when_memory_is_out)
{
    we_device *d = open_device(NULL, 1);
    history h = history_new(2, 1, 32, 0);
    we_kv *kv = cache_for(d, &h, 16), *copy = NULL;
    we_status st = WE_OK;
    we_error err;
    feed_and_check(d, &(feed){ &h, kv, 0, 100 }, 1, tolerance_of(16));
    CHECK_OK(d->ops->kv_copy(d, kv, &copy, &err), &err);
    const uint64_t bytes = d->ops->kv_bytes(d, kv);
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = d->ops->kv_reserve(d, kv, 100, 500, &err);
        if (st) assert_true(st == WE_E_NOMEM && d->ops->kv_bytes(d, kv) == bytes);
    }
    assert_true(d->ops->kv_bytes(d, kv) > bytes);
    feed_and_check(d, &(feed){ &h, kv, 100, 50 }, 1, tolerance_of(16));
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_kv *again;
        st = d->ops->kv_copy(d, kv, &again, &err);
        d->ops->kv_free(d, again);
    }
    d->ops->kv_free(d, kv);
    d->ops->kv_free(d, copy);
    history_free(&h);
    we_device_close(d);
}

/* ---- Failures ---- */

TEST(device_handles_survive_any_allocation_failing)
{
    static const float values[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    const we_matrix m = { .rows = 1, .cols = 8, .dtype = WE_F32, .data = (const uint8_t *)values };
    we_device *d = open_device(NULL, 1);
    we_status st = WE_OK;
    we_error err;
    we_tensor *t;
    we_rope *rope;
    EACH_ALLOCATION_FAILING(st == WE_OK) { st = d->ops->weight_new(d, &m, &t, &err), d->ops->tensor_free(d, t); }
    EACH_ALLOCATION_FAILING(st == WE_OK) { st = d->ops->tensor_new(d, 4, 4, &t, &err), d->ops->tensor_free(d, t); }
    EACH_ALLOCATION_FAILING(st == WE_OK) { st = d->ops->ids_new(d, 4, &t, &err), d->ops->tensor_free(d, t); }
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = d->ops->rope_new(d, values, 8, false, 1, &rope, &err), d->ops->rope_free(d, rope);
    }
    CHECK_STATUS(d->ops->tensor_new(d, INT64_MAX / 4, 16, &t, &err), WE_E_RANGE, &err);
    CHECK_STATUS(d->ops->tensor_new(d, 0, 16, &t, &err), WE_E_RANGE, &err);
    we_device_close(d);
}

TEST(device_step_without_memory_fails_and_the_next_one_works)
{
    static const float table[] = { 1, 2, 3, 4, 5, 6 };
    we_device *d = open_device(NULL, 1);
    we_tensor *w = weight(d, table, 3, 2), *ids = ids_of(d, (int32_t[]){ 2, 0 }, 2), *x = tensor(d, 2, 2),
              *y = tensor(d, 2, 3);
    const we_batch batch = plain_batch(2, false);
    we_status st = WE_OK;
    we_error err;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        d->ops->begin(d, &batch);
        d->ops->embed(d, x, w, ids, 1.0f);
        d->ops->linear(d, &(we_linear){ .out = y, .weight = w }, 1, x);
        st = d->ops->end(d, &err);
        if (st) assert_int_equal(st, WE_E_NOMEM);
    }
    check_values(d, y, (double[]){ 17, 39, 61, 5, 11, 17 }, 6, 1e-4);
    d->ops->tensor_free(d, w), d->ops->tensor_free(d, ids), d->ops->tensor_free(d, x), d->ops->tensor_free(d, y);
    we_device_close(d);
}

TEST(device_ops_that_do_not_fit_fail_the_step)
{
    we_device *d = open_device(NULL, 1);
    history h = history_new(1, 1, 16, 0);
    we_kv *kv = cache_for(d, &h, 32);
    float *values = random_floats(64);
    we_tensor *x = tensor(d, 2, 16), *narrow = tensor(d, 1, 8), *w = weight(d, values, 2, 8);
    const we_span span = { .kv = kv, .n = 2, .position = 0 };
    const we_batch batch = { .spans = &span, .n_spans = 1, .n_rows = 2 };
    const we_attend a = { .n_heads = 1, .n_kv_heads = 1, .head_dim = 16, .scale = 1 };
    we_error err;
    for (int which = 0; which < 5; which++) {
        d->ops->begin(d, &batch);
        fill(d, x, values, 2, 16);
        if (which == 0) d->ops->kv_append(d, 0, x, x); /* nothing was reserved */
        if (which == 1) d->ops->attend(d, x, x, &a);
        if (which == 2) d->ops->linear(d, &(we_linear){ .out = narrow, .weight = w }, 1, x);
        if (which == 3) d->ops->take_rows(d, narrow, x, (int32_t[]){ 0 }, 1);
        if (which == 4) d->ops->take_rows(d, x, x, (int32_t[]){ 2 }, 1);
        CHECK_STATUS(d->ops->end(d, &err), WE_E_INTERNAL, &err);
    }
    d->ops->tensor_free(d, x), d->ops->tensor_free(d, narrow), d->ops->tensor_free(d, w);
    d->ops->kv_free(d, kv);
    we_free(values);
    history_free(&h);
    we_device_close(d);
}

/* ---- Threads ---- */

static void *steps_of_one_session(void *arg)
{
    we_device *d = arg;
    history h = history_new(2, 2, 16, 0);
    we_kv *kv = cache_for(d, &h, 16);
    for (int i = 0; i < 20; i++) feed_and_check(d, &(feed){ &h, kv, 3 * i, 3 }, 1, tolerance_of(16));
    d->ops->kv_free(d, kv);
    history_free(&h);
    return NULL;
}

TEST(device_steps_of_several_threads_take_turns)
{
    we_device *d = open_device(NULL, 2);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, steps_of_one_session, d), 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    we_device_close(d);
}
