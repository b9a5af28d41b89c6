/* SPDX-License-Identifier: Apache-2.0
 * test_convert_refine.c - quantizing for given inputs: against sums computed plainly in double, next to rounding, and against
 * all scales and biases there are. */
#include "convert/convert_int.h"
#include "support.h"

#include <math.h>

typedef struct bed {
    we_pool *pool;
    we_hessian *h;
    int cols, rows, n_inputs;
    float *x, *w; /* inputs [n_inputs, cols]; weights [rows, cols] */
} bed;

/* Inputs whose columns lean on each other and differ in size, as those of a model do. */
static void make_inputs(bed *b, uint64_t seed)
{
    for (int t = 0; t < b->n_inputs; t++) {
        float common = test_random_float(&seed), *x = b->x + t * b->cols;
        for (int i = 0; i < b->cols; i++) {
            common = 0.7F * common + 0.5F * test_random_float(&seed);
            x[i] = common * (i % 7 == 3 ? 6.0F : 1.0F) + 0.2F;
        }
    }
}

static bed open_bed(int rows, int cols, int n_inputs, int threads)
{
    we_error err;
    uint64_t seed = 5;
    bed b = { .rows = rows, .cols = cols, .n_inputs = n_inputs };
    b.x = we_calloc((size_t)(n_inputs * cols), sizeof(float));
    b.w = we_calloc((size_t)(rows * cols), sizeof(float));
    float *scratch = we_calloc(we_hessian_scratch(cols), sizeof(float));
    assert_true(b.x && b.w && scratch);
    make_inputs(&b, 17);
    for (int i = 0; i < rows * cols; i++) b.w[i] = test_random_float(&seed) * test_random_float(&seed);
    CHECK_OK(we_pool_open(&b.pool, threads, &err), &err);
    assert_non_null(b.h = we_hessian_new(cols));
    for (int t = 0; t < n_inputs; t += 100)
        we_hessian_add(b.h, b.pool, b.x + t * cols, (size_t)WE_MIN(100, n_inputs - t), scratch);
    we_free(scratch);
    return b;
}

static void close_bed(bed *b)
{
    we_hessian_free(b->h);
    we_pool_close(b->pool);
    we_free(b->x);
    we_free(b->w);
}

typedef struct packed {
    uint8_t *data, *scales, *biases;
    we_matrix m;
} packed;

static packed packed_new(const bed *b, we_quant q, we_dtype dtype)
{
    const size_t n = (size_t)(b->rows * b->cols), groups = n / (size_t)q.group_size;
    packed p = { we_calloc(n, 1), we_calloc(groups, 4), we_calloc(groups, 4), { 0 } };
    assert_true(p.data && p.scales && p.biases);
    p.m = (we_matrix){ b->rows, b->cols, q, dtype, p.data, p.scales, p.biases };
    return p;
}

static void packed_free(packed *p)
{
    we_free(p->data);
    we_free(p->scales);
    we_free(p->biases);
}

static packed by_rounding(const bed *b, we_quant q, we_dtype dtype)
{
    packed p = packed_new(b, q, dtype);
    for (int r = 0; r < b->rows; r++)
        we_quant_row(q, dtype, b->w + r * b->cols, b->cols, p.data + (size_t)r * we_matrix_row_bytes(&p.m),
                     p.scales + (size_t)r * we_matrix_row_scale_bytes(&p.m),
                     p.biases + (size_t)r * we_matrix_row_scale_bytes(&p.m));
    return p;
}

static packed by_refining(const bed *b, we_quant q, we_dtype dtype)
{
    packed p = packed_new(b, q, dtype);
    we_refiner *r = we_refiner_new(b->pool, b->h, q, dtype);
    assert_non_null(r);
    we_refiner_run(r, b->w, b->rows, p.data, p.scales, p.biases);
    we_refiner_free(r);
    return p;
}

/* |(Q - W) x|^2 over all inputs, as its definition says; with the damping of 1% of the mean diagonal that is part of what is
 * made small. One row, or all (-1). */
static double error_of(const bed *b, const float *(*row_of)(const void *, int), const void *of, int only)
{
    double sum = 0, trace = 0;
    for (int i = 0; i < b->n_inputs * b->cols; i++) trace += (double)b->x[i] * (double)b->x[i];
    const double damping = 0.01 * trace / b->cols;
    for (int r = 0; r < b->rows; r++) {
        if (only >= 0 && r != only) continue;
        const float *q = row_of(of, r), *w = b->w + r * b->cols;
        for (int t = 0; t < b->n_inputs; t++) {
            double dot = 0;
            for (int i = 0; i < b->cols; i++) dot += ((double)q[i] - (double)w[i]) * (double)b->x[t * b->cols + i];
            sum += dot * dot;
        }
        for (int i = 0; i < b->cols; i++) sum += damping * pow((double)q[i] - (double)w[i], 2);
    }
    return sum;
}

static const float *packed_row(const void *of, int row)
{
    static float values[1024];
    we_matrix_row_f32(&((const packed *)of)->m, row, values);
    return values;
}

static const float *plain_row(const void *of, int row)
{
    (void)row;
    return of;
}

TEST(refine_products_are_nearer_than_by_rounding)
{
    static const struct {
        int rows, cols, bits, group_size;
        we_dtype dtype;
        double part; /* of rounding's error that may be left */
    } cases[] = {
        { 40, 192, 2, 64, WE_F32, 0.4 },   { 33, 128, 3, 64, WE_BF16, 0.4 }, { 1, 96, 3, 32, WE_F16, 0.6 },
        { 17, 256, 4, 128, WE_BF16, 0.4 }, { 16, 128, 5, 32, WE_F16, 0.6 },  { 5, 64, 8, 32, WE_F32, 0.9 },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        const we_quant q = { WE_QUANT_AFFINE, cases[i].bits, cases[i].group_size };
        we_error err;
        bed b = open_bed(cases[i].rows, cases[i].cols, 350, 2);
        CHECK_OK(we_hessian_finish(b.h, b.pool, q.group_size, "w", &err), &err);
        packed rounded = by_rounding(&b, q, cases[i].dtype), refined = by_refining(&b, q, cases[i].dtype);
        const double was = error_of(&b, packed_row, &rounded, -1), is = error_of(&b, packed_row, &refined, -1);
        if (!(is < was * cases[i].part)) fail_msg("case %zu: error %g, by rounding %g", i, is, was);
        for (int r = 0; r < b.rows; r++)
            assert_true(error_of(&b, packed_row, &refined, r) <= error_of(&b, packed_row, &rounded, r));
        packed_free(&rounded);
        packed_free(&refined);
        close_bed(&b);
    }
}

/* The last step leaves no code that could be changed for the better, one at a time. */
TEST(refine_no_single_code_can_be_better)
{
    const we_quant q = { WE_QUANT_AFFINE, 3, 32 };
    we_error err;
    bed b = open_bed(3, 64, 200, 1);
    CHECK_OK(we_hessian_finish(b.h, b.pool, 32, "w", &err), &err);
    packed refined = by_refining(&b, q, WE_F32);
    int better = 0;
    for (int r = 0; r < b.rows; r++) {
        const double is = error_of(&b, packed_row, &refined, r);
        float row[64];
        memcpy(row, packed_row(&refined, r), sizeof row);
        uint8_t codes[64];
        we_quant_unpack_row(&refined.m, r, codes);
        for (int i = 0; i < 64; i++)
            for (int step = -1; step <= 1; step += 2) {
                if (codes[i] + step < 0 || codes[i] + step > 7) continue;
                const float was = row[i];
                row[i] += (float)step * we_scale_f32(&refined.m, refined.scales, r, i / 32);
                better += error_of(&b, plain_row, row, r) < is * (1 - 1e-4);
                row[i] = was;
            }
    }
    assert_true(better <= 3 * 4); /* the sweep passes each column once: later ones may open a little room before */
    packed_free(&refined);
    close_bed(&b);
}

/* A row that lies on a grid comes back as it is: nothing is lost by looking for something better. */
TEST(refine_what_fits_the_grid_stays)
{
    const we_quant q = { WE_QUANT_AFFINE, 4, 32 };
    we_error err;
    bed b = open_bed(20, 64, 300, 2);
    uint64_t seed = 3;
    for (int r = 0; r < b.rows; r++)
        for (int i = 0; i < b.cols; i++) {
            const int code = i % 32 < 2 ? 15 * (i % 2) : (int)(test_random(&seed) % 16); /* both ends are there */
            b.w[r * b.cols + i] = 0.03125F * (float)code - 0.25F;
        }
    CHECK_OK(we_hessian_finish(b.h, b.pool, 32, "w", &err), &err);
    packed refined = by_refining(&b, q, WE_BF16);
    for (int r = 0; r < b.rows; r++) CHECK_CLOSE(packed_row(&refined, r), b.w + r * b.cols, (size_t)b.cols, 1e-5);
    packed_free(&refined);
    close_bed(&b);
}

TEST(refine_threads_change_nothing)
{
    const we_quant q = { WE_QUANT_AFFINE, 3, 64 };
    we_error err;
    bed one = open_bed(70, 192, 260, 1), three = open_bed(70, 192, 260, 3);
    CHECK_OK(we_hessian_finish(one.h, one.pool, 64, "w", &err), &err);
    CHECK_OK(we_hessian_finish(three.h, three.pool, 64, "w", &err), &err);
    packed a = by_refining(&one, q, WE_BF16), c = by_refining(&three, q, WE_BF16);
    assert_memory_equal(a.data, c.data, 70 * we_matrix_row_bytes(&a.m));
    assert_memory_equal(a.scales, c.scales, 70 * we_matrix_row_scale_bytes(&a.m));
    assert_memory_equal(a.biases, c.biases, 70 * we_matrix_row_scale_bytes(&a.m));
    packed_free(&a);
    packed_free(&c);
    close_bed(&one);
    close_bed(&three);
}

TEST(refine_inputs_that_are_silent_or_broken)
{
    const we_quant q = { WE_QUANT_AFFINE, 4, 32 };
    we_error err;
    bed b = open_bed(4, 64, 1, 1);
    float scratch[64 * 128], zeros[64] = { 0 };
    we_hessian_free(b.h);
    assert_non_null(b.h = we_hessian_new(64));
    we_hessian_add(b.h, b.pool, zeros, 1, scratch); /* never anything but 0: then weights are what is kept near */
    CHECK_OK(we_hessian_finish(b.h, b.pool, 32, "w", &err), &err);
    packed refined = by_refining(&b, q, WE_F32);
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < 64; i++)
            assert_true(fabsf(packed_row(&refined, r)[i] - b.w[r * 64 + i]) <= 0.08F); /* half a step of 2 / 15 */
    packed_free(&refined);

    we_hessian_free(b.h);
    assert_non_null(b.h = we_hessian_new(64));
    zeros[7] = NAN;
    we_hessian_add(b.h, b.pool, zeros, 1, scratch);
    CHECK_STATUS(we_hessian_finish(b.h, b.pool, 32, "layers.3.mlp.up_proj", &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "layers.3.mlp.up_proj: its inputs are not finite");
    close_bed(&b);
}

TEST(refine_out_of_memory_is_told)
{
    we_error err;
    bed b = open_bed(4, 64, 10, 2);
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_hessian *h = we_hessian_new(64);
        float scratch[64 * 128];
        st = h ? WE_OK : WE_E_NOMEM;
        if (h) we_hessian_add(h, b.pool, b.x, 10, scratch);
        if (h) st = we_hessian_finish(h, b.pool, 64, "w", &err);
        we_refiner *r = st ? NULL : we_refiner_new(b.pool, h, (we_quant){ WE_QUANT_AFFINE, 4, 64 }, WE_BF16);
        if (!r) st = WE_E_NOMEM;
        we_refiner_free(r);
        we_hessian_free(h);
    }
    close_bed(&b);
}
