/* SPDX-License-Identifier: Apache-2.0
 * test_kernels.c - every kernel table that this CPU runs against the reference: all packings, odd shapes, tails, unaligned
 * bytes that end where their allocation ends (so that a sanitizer sees a read behind them), and the extremes. */
#include "support.h"

#include "device/cpu/kernels.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#if WE_HAS_AVXVNNI_TWIN
extern const we_cpu_kernels we_test_avxvnni_twin; /* avxvnni_twin.c */
#define TWIN (&we_test_avxvnni_twin)
#else
#define TWIN ((const we_cpu_kernels *)NULL)
#endif

/* Table number i with what it falls back to, NULL if this CPU can't run it; behind the build's tables the twin of one of them. */
static we_cpu_kernels *variant(int i, we_cpu_kernels *out)
{
    for (const we_cpu_kernels *const *t = we_cpu_kernel_tables; *t; t++)
        if (i-- == 0) return (*t)->supported() && we_cpu_kernels_choose((*t)->name, out) ? out : NULL;
    const we_cpu_kernels *twin = i == 0 ? TWIN : NULL;
    if (!twin || !twin->supported() || !we_cpu_kernels_choose("avx2", out)) return NULL;
    out->name = "avxvnni's twin";
    out->linear_q8 = twin->linear_q8;
    out->q8_tile = twin->q8_tile;
    out->dots = twin->dots;
    return out;
}

/* Each table of this CPU; the reference too, against itself. */
#define MAX_VARIANTS 8
#define EACH_CPU_VARIANT(k)                      \
    for (int at_ = 0; at_ < MAX_VARIANTS; at_++) \
        for (we_cpu_kernels table_, *k = variant(at_, &table_); k; k = NULL)

static const we_cpu_kernels *reference = &we_cpu_kernels_reference;

/* ---- Random content ---- */

static uint64_t random_state = 1;
static uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) ^ (uint32_t)(random_state >> 17);
}
static float random_float(float most) { return ((float)(random_bits() % 20001) / 10000.0f - 1.0f) * most; }

/* n floats that begin one byte behind an aligned address would be undefined for C code: floats are aligned to 4, no more. */
static float *random_floats(int64_t n, float most)
{
    float *x = (float *)we_malloc((size_t)(n + 1) * sizeof(float)) + 1;
    for (int64_t i = 0; i < n; i++) x[i] = random_float(most);
    return x;
}
static void free_floats(float *x) { we_free(x - 1); }

/* ---- Matrices ---- */

static uint8_t *odd_bytes(size_t n) { return (uint8_t *)we_malloc(n + 1) + 1; }
static void free_odd(const uint8_t *p)
{
    if (p) we_free((void *)(p - 1));
}

static void put(we_dtype dtype, uint8_t *at, float value)
{
    const uint16_t half = dtype == WE_F16 ? we_f32_to_f16(value) : we_f32_to_bf16(value);
    if (dtype == WE_F32)
        memcpy(at, &value, 4);
    else
        memcpy(at, &half, 2);
}

static uint8_t random_scale_byte(we_quant_mode mode)
{
    return mode == WE_QUANT_NVFP4 ? (uint8_t)(random_bits() % 0x7f) : (uint8_t)(120 + random_bits() % 10);
}

#define MOST_SCALE 0.1f /* of affine weights */
static we_matrix random_matrix(int64_t rows, int64_t cols, we_quant quant, we_dtype dtype)
{
    we_matrix m = { .rows = rows, .cols = cols, .quant = quant, .dtype = dtype };
    const size_t n = (size_t)rows * we_matrix_row_bytes(&m), width = dtype == WE_F32 ? 4 : 2;
    uint8_t *data = odd_bytes(n), *scales = NULL, *biases = NULL;
    for (size_t i = 0; i < n; i++) {
        data[i] = (uint8_t)random_bits();
        if (quant.mode == WE_QUANT_MXFP8 && (data[i] & 0x7f) == 0x7f) data[i] = 0; /* no NaNs */
    }
    if (quant.mode == WE_QUANT_NONE)
        for (size_t i = 0; i < n; i += width) put(dtype, data + i, random_float(1));
    else {
        const size_t bytes = (size_t)rows * we_matrix_row_scale_bytes(&m);
        scales = odd_bytes(bytes);
        for (size_t i = 0; i < bytes; i++) scales[i] = random_scale_byte(quant.mode);
        if (quant.mode == WE_QUANT_AFFINE) {
            biases = odd_bytes(bytes);
            for (size_t i = 0; i < bytes; i += width) {
                put(dtype, scales + i, random_float(MOST_SCALE));
                put(dtype, biases + i, random_float(1));
            }
        }
    }
    m.data = data;
    m.scales = scales;
    m.biases = biases;
    return m;
}

static void free_matrix(we_matrix *m)
{
    free_odd(m->data);
    free_odd(m->scales);
    free_odd(m->biases);
}

/* Every packing there is. */
static size_t all_quants(we_quant *out)
{
    static const int bits[] = { 2, 3, 4, 5, 6, 8 }, sizes[] = { 32, 64, 128 };
    size_t n = 0;
    for (size_t b = 0; b < WE_COUNT(bits); b++)
        for (size_t s = 0; s < WE_COUNT(sizes); s++) out[n++] = (we_quant){ WE_QUANT_AFFINE, bits[b], sizes[s] };
    out[n++] = (we_quant){ WE_QUANT_MXFP4, 4, 32 };
    out[n++] = (we_quant){ WE_QUANT_MXFP8, 8, 32 };
    out[n++] = (we_quant){ WE_QUANT_NVFP4, 4, 16 };
    return n;
}
#define MAX_QUANTS 32

/* ---- Comparison: by the largest value, since sums of many terms cancel ---- */

static void check_within(const char *what, const we_cpu_kernels *k, const float *got, const float *want, int64_t n,
                         double allowed)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= allowed))
            fail_msg("%s, %s: element %lld of %lld is %g, expected %g (within %g)", k->name, what, (long long)i,
                     (long long)n, (double)got[i], (double)want[i], allowed);
}

static double largest_of(const float *x, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i]));
    return largest;
}

static void check_near(const char *what, const we_cpu_kernels *k, const float *got, const float *want, int64_t n,
                       double tolerance)
{
    check_within(what, k, got, want, n, tolerance * largest_of(want, n));
}

/* ---- Rounding ---- */

typedef struct rounded {
    we_q8 q;
    int64_t groups;
} rounded;

static rounded round_rows(const we_cpu_kernels *k, const float *x, int64_t cols, int64_t n)
{
    rounded r;
    we_q8_lay(&r.q, we_malloc_aligned(64, we_q8_bytes(n, cols)), n, cols);
    r.groups = r.q.stride / WE_Q8_GROUP;
    for (int64_t t = 0; t < n; t++)
        k->q8_quantize(x + t * cols, cols, r.q.values + t * r.q.stride, r.q.scales + t * r.groups,
                       r.q.sums + t * r.groups);
    return r;
}

static void free_rounded(rounded *r) { we_free(r->q.values); }

/* What the linear op does before it calls linear_q8. */
static void lay_tiles(const we_cpu_kernels *k, const we_q8 *q, int64_t n)
{
    if (!k->q8_tile || n <= WE_Q8_FEW) return;
    for (int64_t t = 0; t < n; t += WE_Q8_TILE) k->q8_tile(q, t, WE_MIN(n - t, WE_Q8_TILE));
}

TEST(kernels_rounding_gives_the_same_bits_everywhere)
{
    static const int64_t cols[] = { 1, 16, 31, 32, 33, 48, 64, 100, 512, 513, 2048 };
    for (size_t i = 0; i < WE_COUNT(cols); i++) {
        const int64_t n = cols[i];
        float *x = random_floats(n, 3);
        for (int special = 0; special < 6; special++) {
            if (special == 1) x[n / 2] = INFINITY;
            if (special == 2) x[n / 2] = NAN;
            if (special == 3) x[n / 2] = FLT_MAX;
            if (special == 4)
                for (int64_t j = 0; j < n; j++) x[j] = 1e-39f;
            if (special == 5)
                for (int64_t j = 0; j < n; j++) x[j] = j % 2 ? 0.0f : -0.0f;
            rounded want = round_rows(reference, x, n, 1);
            EACH_CPU_VARIANT(k) {
                rounded got = round_rows(k, x, n, 1);
                assert_memory_equal(got.q.values, want.q.values, (size_t)want.q.stride);
                for (int64_t g = 0; g < want.groups; g++) {
                    const bool nan = isnan(want.q.scales[g]);
                    assert_true(nan ? isnan(got.q.scales[g]) && isnan(got.q.sums[g])
                                    : got.q.scales[g] == want.q.scales[g] && got.q.sums[g] == want.q.sums[g]);
                }
                free_rounded(&got);
            }
            free_rounded(&want);
        }
        free_floats(x);
    }
}

TEST(kernels_rounding_keeps_each_group_within_half_a_step)
{
    float *x = random_floats(256, 5);
    rounded r = round_rows(reference, x, 256, 1);
    for (int i = 0; i < 256; i++) {
        const float scale = r.q.scales[i / WE_Q8_GROUP];
        assert_true(fabsf(scale * (float)r.q.values[i] - x[i]) <= scale * 0.5001f);
    }
    free_rounded(&r);
    free_floats(x);
}

/* ---- Rows ---- */

TEST(kernels_rows_have_the_reference_s_bits)
{
    we_quant quants[MAX_QUANTS];
    size_t n_quants = all_quants(quants);
    quants[n_quants++] = (we_quant){ 0 };
    static const we_dtype dtypes[] = { WE_F32, WE_F16, WE_BF16 };
    for (size_t i = 0; i < n_quants; i++)
        for (size_t d = 0; d < 3; d++)
            for (int64_t groups = 1; groups <= 19; groups += 3) {
                const int64_t cols = quants[i].mode ? groups * quants[i].group_size : groups * 7;
                we_matrix m = random_matrix(3, cols, quants[i], dtypes[d]);
                float *want = random_floats(cols, 1), *got = random_floats(cols, 1);
                for (int64_t r = 0; r < 3; r++) {
                    we_matrix_row_f32(&m, r, want);
                    EACH_CPU_VARIANT(k) {
                        k->row_f32(&m, r, got);
                        for (int64_t c = 0; c < cols; c++)
                            if (got[c] != want[c])
                                fail_msg("%s: %s %d bits: column %lld is %a, expected %a", k->name,
                                         we_quant_mode_name(quants[i].mode), quants[i].bits, (long long)c,
                                         (double)got[c], (double)want[c]);
                    }
                }
                free_floats(want);
                free_floats(got);
                free_matrix(&m);
            }
}

TEST(kernels_every_scale_byte_has_its_value)
{
    static const we_quant quants[] = { { WE_QUANT_MXFP4, 4, 32 },
                                       { WE_QUANT_NVFP4, 4, 16 },
                                       { WE_QUANT_MXFP8, 8, 32 } };
    for (size_t i = 0; i < WE_COUNT(quants); i++) {
        const int64_t cols = quants[i].group_size;
        we_matrix m = random_matrix(256, cols, quants[i], WE_BF16);
        for (int s = 0; s < 256; s++) ((uint8_t *)m.scales)[s] = (uint8_t)s;
        float want[32], got[32];
        EACH_CPU_VARIANT(k)
            for (int64_t r = 0; r < 256; r++) {
                we_matrix_row_f32(&m, r, want);
                k->row_f32(&m, r, got);
                for (int64_t c = 0; c < cols; c++)
                    if (got[c] != want[c] && !(isnan(got[c]) && isnan(want[c])))
                        fail_msg("%s: scale byte %lld: %a, expected %a", k->name, (long long)r, (double)got[c],
                                 (double)want[c]);
            }
        free_matrix(&m);
    }
}

/* ---- Products with weights ---- */

static void *scratch_new(int64_t cols) { return we_malloc_aligned(64, we_kernel_scratch_bytes(cols)); }

typedef struct shape {
    int64_t rows, groups, tokens; /* columns: groups * group size */
} shape;

/* What linear_q8 may be off by: a few terms can cancel; where tiles are joined, scales are rounded too, and sums of wide codes to 16
 * bits (kernels.h): half of a last bit, in each group. */
static double allowed_q8(const we_cpu_kernels *k, const we_matrix *m, const rounded *r, int64_t tokens, double largest)
{
    if (!k->q8_join || tokens <= WE_Q8_FEW || m->quant.mode != WE_QUANT_AFFINE || m->quant.group_size < 64)
        return 3e-5 * largest;
    float scale = 0;
    for (int64_t i = 0; i < tokens * r->groups; i++) scale = fmaxf(scale, r->q.scales[i]);
    const double lost = m->quant.bits > 4 ? 1 << (m->quant.bits - 4) : 0;
    return 4e-4 * largest + (double)(m->cols / WE_Q8_GROUP) * (double)(scale * MOST_SCALE) * lost;
}

/* linear_q8 for rows first .. first + n_rows of m, into the middle of a larger y whose other elements must stay. */
static void check_q8(const we_matrix *m, const float *x, int64_t tokens, bool add)
{
    const int64_t first = m->rows > 2 ? 1 : 0, n_rows = m->rows - first, stride = n_rows + 3;
    float *before = random_floats(tokens * stride, 1), *want = random_floats(tokens * stride, 1),
          *got = random_floats(tokens * stride, 1);
    void *scratch = scratch_new(m->cols);
    rounded r = round_rows(reference, x, m->cols, tokens);
    memcpy(want, before, (size_t)(tokens * stride) * sizeof(float));
    reference->linear_q8(m, first, n_rows, &r.q, tokens, want, stride, add, scratch);
    EACH_CPU_VARIANT(k) {
        char what[96];
        snprintf(what, sizeof what, "%s %d bits, groups of %d, %lld x %lld, %lld tokens",
                 we_quant_mode_name(m->quant.mode), m->quant.bits, m->quant.group_size, (long long)n_rows,
                 (long long)m->cols, (long long)tokens);
        memcpy(got, before, (size_t)(tokens * stride) * sizeof(float));
        lay_tiles(k, &r.q, tokens);
        k->linear_q8(m, first, n_rows, &r.q, tokens, got, stride, add, scratch);
        check_within(what, k, got, want, tokens * stride,
                     allowed_q8(k, m, &r, tokens, largest_of(want, tokens * stride)));
        for (int64_t t = 0; t < tokens; t++) /* nothing else was written */
            assert_memory_equal(got + t * stride + n_rows, before + t * stride + n_rows, 3 * sizeof(float));
    }
    free_rounded(&r);
    we_free(scratch);
    free_floats(before);
    free_floats(want);
    free_floats(got);
}

TEST(kernels_int8_products_agree_with_the_reference)
{
    static const shape shapes[] = { { 1, 1, 1 },   { 7, 3, 1 },    { 3, 5, 2 },   { 5, 9, 3 },
                                    { 2, 17, 4 },  { 9, 2, 5 },    { 33, 4, 6 },  { 40, 9, 9 },
                                    { 70, 16, 8 }, { 17, 33, 7 },  { 64, 8, 13 }, { 5, 40, 1 },
                                    { 45, 6, 14 }, { 33, 17, 13 }, { 19, 90, 8 }, { 3, 45, 3 } };
    static const we_dtype dtypes[] = { WE_BF16, WE_F16, WE_F32 };
    we_quant quants[MAX_QUANTS];
    const size_t n_quants = all_quants(quants);
    for (size_t i = 0; i < n_quants; i++) {
        if (!we_q8_takes(quants[i])) continue;
        for (size_t s = 0; s < WE_COUNT(shapes); s++) {
            const int64_t cols = shapes[s].groups * quants[i].group_size;
            we_matrix m = random_matrix(shapes[s].rows, cols, quants[i], dtypes[s % 3]);
            float *x = random_floats(cols * shapes[s].tokens, 2);
            check_q8(&m, x, shapes[s].tokens, s % 2);
            free_floats(x);
            free_matrix(&m);
        }
    }
}

/* All codes at their maximum against activations of +-127: what saturates somewhere inside shows here. */
TEST(kernels_int8_products_do_not_saturate)
{
    we_quant quants[MAX_QUANTS];
    const size_t n_quants = all_quants(quants);
    for (size_t i = 0; i < n_quants; i++) {
        if (!we_q8_takes(quants[i])) continue;
        const int64_t cols = (i % 2 ? 4 : 17) * quants[i].group_size; /* the last step is a part of one */
        we_matrix m = random_matrix(33, cols, quants[i], WE_F32);
        memset((uint8_t *)m.data, quants[i].mode == WE_QUANT_AFFINE ? 0xff : 0x77, 33 * we_matrix_row_bytes(&m));
        float *x = random_floats(cols * 21, 2);
        for (int sign = 0; sign < 3; sign++) {
            for (int64_t c = 0; c < cols * 21; c++) x[c] = sign == 0 || (sign == 2 && c % 2) ? 127.0f : -127.0f;
            static const int64_t tokens[] = {
                1, 2, 3, 5, 8, 13, 21
            }; /* passes of all sizes, tiles with and without a rest */
            for (size_t t = 0; t < WE_COUNT(tokens); t++) check_q8(&m, x, tokens[t], false);
        }
        free_floats(x);
        free_matrix(&m);
    }
}

/* A step's tokens with the weights that have most to keep beside them: groups of 16. */
TEST(kernels_int8_products_of_a_whole_step_stay_in_their_scratch)
{
    enum { COLS = 4096, TOKENS = 256, FENCE = 64 };
    we_matrix m = random_matrix(3, COLS, (we_quant){ WE_QUANT_NVFP4, 4, 16 }, WE_U8);
    float *x = random_floats(COLS * TOKENS, 2), *y = random_floats(3 * TOKENS, 1);
    const size_t bytes = we_kernel_scratch_bytes(COLS);
    uint8_t *scratch = we_malloc_aligned(64, bytes + FENCE), fence[FENCE];
    memset(fence, 0xa5, FENCE);
    memcpy(scratch + bytes, fence, FENCE);
    rounded r = round_rows(reference, x, COLS, TOKENS);
    EACH_CPU_VARIANT(k) {
        lay_tiles(k, &r.q, TOKENS);
        k->linear_q8(&m, 0, 3, &r.q, TOKENS, y, 3, false, scratch);
        if (memcmp(scratch + bytes, fence, FENCE) != 0) fail_msg("%s writes behind its scratch", k->name);
    }
    free_rounded(&r);
    we_free(scratch);
    free_floats(x);
    free_floats(y);
    free_matrix(&m);
}

TEST(kernels_int8_products_of_a_broken_activation_are_not_numbers)
{
    we_matrix m = random_matrix(3, 128, (we_quant){ WE_QUANT_AFFINE, 4, 64 }, WE_BF16);
    float *x = random_floats(128 * 8, 1), y[3 * 8];
    void *scratch = scratch_new(128);
    for (int64_t t = 0; t < 8; t++) x[t * 128 + 100] = t % 2 ? NAN : INFINITY;
    rounded r = round_rows(reference, x, 128, 8);
    EACH_CPU_VARIANT(k)
        for (int64_t n = 1; n <= 8; n += 7) {
            lay_tiles(k, &r.q, n);
            k->linear_q8(&m, 0, 3, &r.q, n, y, 3, false, scratch);
            for (int64_t i = 0; i < 3 * n; i++) assert_true(isnan(y[i]));
        }
    free_rounded(&r);
    we_free(scratch);
    free_floats(x);
    free_matrix(&m);
}

TEST(kernels_float_products_agree_with_the_reference)
{
    static const shape shapes[] = { { 1, 1, 1 },  { 7, 3, 2 },  { 5, 9, 1 },  { 6, 17, 5 }, { 33, 4, 9 },
                                    { 3, 13, 3 }, { 9, 70, 4 }, { 5, 21, 6 }, { 2, 8, 7 },  { 18, 33, 8 } };
    we_quant quants[MAX_QUANTS];
    size_t n_quants = all_quants(quants);
    quants[n_quants++] = (we_quant){ 0 };
    static const we_dtype dtypes[] = { WE_F32, WE_F16, WE_BF16 };
    for (size_t i = 0; i < n_quants * 3; i++)
        for (size_t s = 0; s < WE_COUNT(shapes); s++) {
            const we_quant quant = quants[i / 3];
            const int64_t cols = shapes[s].groups * (quant.mode ? quant.group_size : 11), n = shapes[s].tokens,
                          rows = shapes[s].rows;
            we_matrix m = random_matrix(rows + 1, cols, quant, dtypes[i % 3]);
            float *x = random_floats(n * (cols + 2), 1), *want = random_floats(n * rows, 1),
                  *got = random_floats(n * rows, 1);
            void *scratch = scratch_new(cols);
            const bool add = s % 2;
            memset(want, 0, (size_t)(n * rows) * sizeof(float));
            reference->linear_f32(&m, 1, rows, x, cols + 2, n, want, rows, add, scratch);
            EACH_CPU_VARIANT(k) {
                memset(got, 0, (size_t)(n * rows) * sizeof(float));
                k->linear_f32(&m, 1, rows, x, cols + 2, n, got, rows, add, scratch);
                check_near("linear_f32", k, got, want, n * rows, 3e-5); /* a few terms can cancel */
            }
            we_free(scratch);
            free_floats(x);
            free_floats(want);
            free_floats(got);
            free_matrix(&m);
        }
}

/* A code or a scale that is none makes its row NaN, and no other. */
TEST(kernels_float_products_of_mxfp8_show_what_is_not_a_number)
{
    enum { ROWS = 11, COLS = 96, TOKENS = 9, BROKEN = 6 };
    for (int64_t kind = 0; kind < 3; kind++) {
        we_matrix m = random_matrix(ROWS, COLS, (we_quant){ WE_QUANT_MXFP8, 8, 32 }, WE_BF16);
        uint8_t *at = kind < 2 ? (uint8_t *)m.data + BROKEN * COLS + 40 * kind : (uint8_t *)m.scales + BROKEN * 3 + 1;
        *at = kind ? 0xff : 0x7f;
        float *x = random_floats(TOKENS * COLS, 1), y[TOKENS * ROWS];
        void *scratch = scratch_new(COLS);
        EACH_CPU_VARIANT(k)
            for (int64_t n = 1; n <= TOKENS; n++) {
                k->linear_f32(&m, 0, ROWS, x, COLS, n, y, ROWS, false, scratch);
                for (int64_t i = 0; i < n * ROWS; i++)
                    if ((isnan(y[i]) != 0) != (i % ROWS == BROKEN))
                        fail_msg("%s, %lld tokens, kind %lld: row %lld is %g", k->name, (long long)n, (long long)kind,
                                 (long long)(i % ROWS), (double)y[i]);
            }
        we_free(scratch);
        free_floats(x);
        free_matrix(&m);
    }
}

/* ---- Products of bfloat16 ---- */

static float *bf16_floats(const float *x, int64_t n)
{
    float *out = we_malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) out[i] = we_bf16_to_f32(we_f32_to_bf16(x[i]));
    return out;
}

/* Tiles of n rows, as the linear op lays them. */
static uint32_t *bf16_tiles(const we_cpu_kernels *k, const float *x, int64_t x_stride, int64_t n, int64_t cols)
{
    const int64_t tiles = (n + WE_BF16_TILE - 1) / WE_BF16_TILE, words = we_bf16_tile_words(cols);
    uint32_t *out = we_malloc_aligned(64, (size_t)(tiles * words) * sizeof *out);
    for (int64_t t = 0; t < tiles; t++)
        k->bf16_tile(x + t * WE_BF16_TILE * x_stride, x_stride, WE_MIN(n - t * WE_BF16_TILE, WE_BF16_TILE), cols,
                     out + t * words);
    return out;
}

TEST(kernels_bfloat16_tiles_hold_each_row_rounded)
{
    static const int64_t cols[] = { 1, 2, 15, 16, 17, 32, 33, 63, 64, 65, 130 };
    EACH_CPU_VARIANT(k) {
        if (!k->bf16_tile) continue;
        for (size_t i = 0; i < WE_COUNT(cols) * WE_BF16_TILE; i++) {
            const int64_t c = cols[i / WE_BF16_TILE], n = (int64_t)(i % WE_BF16_TILE) + 1;
            float *x = random_floats(n * c, 3); /* its end is its allocation's */
            uint32_t *tile = bf16_tiles(k, x, c, n, c);
            for (int64_t at = 0; at < we_bf16_tile_words(c); at++)
                for (int64_t half = 0; half < 2; half++) {
                    const int64_t row = at % WE_BF16_TILE, col = at / WE_BF16_TILE * 2 + half;
                    assert_int_equal(tile[at] >> (16 * half) & 0xffff,
                                     row < n && col < c ? we_f32_to_bf16(x[row * c + col]) : 0);
                }
            we_free(tile);
            free_floats(x);
        }
    }
}

/* Next to float32 products of the same rounded numbers: what is left is the order of the sums, of which each of the at most `cols`
 * additions may be off by 2^-24 of what the terms' magnitudes add up to, and so may the reference's. */
TEST(kernels_products_of_bfloat16_agree_with_the_reference)
{
    static const struct {
        int64_t rows, cols, tokens;
    } shapes[] = { { 1, 32, 9 },   { 16, 64, 16 },   { 31, 96, 10 },  { 33, 32, 17 },
                   { 65, 544, 8 }, { 40, 1056, 23 }, { 7, 512, 261 }, { 64, 1024, 9 } };
    static const struct {
        we_quant quant;
        we_dtype dtype;
        int64_t fewer; /* columns: odd tails */
    } kinds[] = { { { 0 }, WE_BF16, 0 },
                  { { 0 }, WE_BF16, 5 },
                  { { 0 }, WE_F16, 0 },
                  { { 0 }, WE_F16, 14 },
                  { { WE_QUANT_MXFP8, 8, 32 }, WE_BF16, 0 } };
    for (size_t i = 0; i < WE_COUNT(shapes) * WE_COUNT(kinds); i++) {
        const we_quant quant = kinds[i % WE_COUNT(kinds)].quant;
        const we_dtype dtype = kinds[i % WE_COUNT(kinds)].dtype;
        const int64_t rows = shapes[i / WE_COUNT(kinds)].rows, n = shapes[i / WE_COUNT(kinds)].tokens,
                      cols = shapes[i / WE_COUNT(kinds)].cols - kinds[i % WE_COUNT(kinds)].fewer;
        we_matrix m = random_matrix(rows + 1, cols, quant, dtype);
        assert_true(we_bf16_takes(&m));
        float *x = random_floats(n * (cols + 2), 1), *x_rounded = bf16_floats(x, n * (cols + 2)),
              *y = random_floats(n * (rows + 3), 1), *got = random_floats(n * (rows + 3), 1),
              *row = we_malloc((size_t)cols * sizeof(float));
        void *scratch = scratch_new(cols);
        EACH_CPU_VARIANT(k) {
            if (!k->linear_bf16) continue;
            uint32_t *tiles = bf16_tiles(k, x, cols + 2, n, cols);
            for (int add = 0; add < 2; add++) {
                memcpy(got, y, (size_t)(n * (rows + 3)) * sizeof(float));
                k->linear_bf16(&m, 1, rows, tiles, n, got, rows + 3, add, scratch);
                for (int64_t r = 0; r < rows + 3; r++) {
                    if (r < rows) reference->row_f32(&m, 1 + r, row);
                    for (int64_t t = 0; t < n; t++) {
                        const float was = y[t * (rows + 3) + r], *xt = x_rounded + t * (cols + 2);
                        double want = r >= rows || add ? (double)was : 0, terms = fabs(want);
                        for (int64_t c = 0; r < rows && c < cols; c++) {
                            const double term = (double)we_bf16_to_f32(we_f32_to_bf16(row[c])) * (double)xt[c];
                            want += term;
                            terms += fabs(term);
                        }
                        const float w = (float)want;
                        check_within("linear_bf16", k, &got[t * (rows + 3) + r], &w, 1,
                                     r < rows ? terms * (double)(cols + 2) * 0x1p-24 : 0);
                    }
                }
            }
            we_free(tiles);
        }
        we_free(scratch);
        we_free(row);
        we_free(x_rounded);
        free_floats(x);
        free_floats(y);
        free_floats(got);
        free_matrix(&m);
    }
}

TEST(kernels_products_of_bfloat16_show_what_is_not_a_number)
{
    enum { ROWS = 33, COLS = 96, TOKENS = 11, BROKEN = 9 };
    static const we_quant quants[] = { { 0 }, { WE_QUANT_MXFP8, 8, 32 } };
    for (size_t q = 0; q < WE_COUNT(quants); q++) {
        we_matrix m = random_matrix(ROWS, COLS, quants[q], WE_BF16);
        float *x = random_floats(TOKENS * COLS, 1), y[TOKENS * ROWS];
        x[BROKEN * COLS + 70] = NAN;
        void *scratch = scratch_new(COLS);
        EACH_CPU_VARIANT(k) {
            if (!k->linear_bf16) continue;
            uint32_t *tiles = bf16_tiles(k, x, COLS, TOKENS, COLS);
            k->linear_bf16(&m, 0, ROWS, tiles, TOKENS, y, ROWS, false, scratch);
            for (int i = 0; i < TOKENS * ROWS; i++) assert_int_equal(isnan(y[i]) != 0, i / ROWS == BROKEN);
            /* and of a weight */
            x[BROKEN * COLS + 70] = 1;
            const size_t at = 32 * we_matrix_row_bytes(&m) + 71 * we_matrix_row_bytes(&m) / COLS;
            uint8_t *weight = (uint8_t *)m.data + at, was[2] = { weight[0], weight[1] };
            if (quants[q].mode)
                weight[0] = 0xff;
            else
                put(WE_BF16, weight, NAN);
            we_free(tiles);
            tiles = bf16_tiles(k, x, COLS, TOKENS, COLS);
            k->linear_bf16(&m, 0, ROWS, tiles, TOKENS, y, ROWS, false, scratch);
            for (int i = 0; i < TOKENS * ROWS; i++) assert_int_equal(isnan(y[i]) != 0, i % ROWS == 32);
            memcpy(weight, was, sizeof was);
            x[BROKEN * COLS + 70] = NAN;
            we_free(tiles);
        }
        we_free(scratch);
        free_floats(x);
        free_matrix(&m);
    }
}

/* ---- Attention's products ---- */

TEST(kernels_page_products_agree_with_the_reference)
{
    static const int64_t ms[] = { 1, 2, 3, 4, 5, 8, 13 }, ns[] = { 1, 7, 16, 33, 64, 80, 128 }, ks[] = { 1, 5, 64 };
    for (size_t i = 0; i < WE_COUNT(ms) * WE_COUNT(ns) * WE_COUNT(ks); i++) {
        const int64_t m = ms[i % 7], n = ns[i / 7 % 7], k = ks[i / 49], lda = k + 1, ldb = n + 3, ldc = n + 2;
        float *a = random_floats(m * lda, 1), *b = random_floats(k * ldb, 1), *c = random_floats(m * ldc, 1);
        float *want = random_floats(m * ldc, 1), *got = random_floats(m * ldc, 1);
        uint16_t *half = we_malloc((size_t)(k * ldb) * 2);
        reference->to_f16(b, half, k * ldb);
        for (int kind = 0; kind < 4; kind++) {
            const bool add = kind % 2, use_half = kind / 2;
            memcpy(want, c, (size_t)(m * ldc) * sizeof(float));
            if (use_half)
                reference->mul_f16(a, lda, half, ldb, want, ldc, m, n, k, add, NULL);
            else
                reference->mul_f32(a, lda, b, ldb, want, ldc, m, n, k, add);
            EACH_CPU_VARIANT(v) {
                memcpy(got, c, (size_t)(m * ldc) * sizeof(float));
                if (use_half)
                    v->mul_f16(a, lda, half, ldb, got, ldc, m, n, k, add, i % 2 ? half : NULL);
                else
                    v->mul_f32(a, lda, b, ldb, got, ldc, m, n, k, add);
                check_near(use_half ? "mul_f16" : "mul_f32", v, got, want, m * ldc, 2e-6);
            }
        }
        we_free(half);
        free_floats(a);
        free_floats(b);
        free_floats(c);
        free_floats(want);
        free_floats(got);
    }
}

/* ---- Attention in bfloat16 ---- */

#define BLOCKS 3

static float bf16_of(float x) { return we_bf16_to_f32(we_f32_to_bf16(x)); }

typedef struct bf16_case {
    int64_t m, dim;
    float *q;                    /* [m, dim] */
    uint16_t *halves[BLOCKS][2]; /* keys [dim, WE_KV_BLOCK], values [WE_KV_BLOCK, dim] */
    uint8_t *from, *to;          /* [m] of the last block; the others are seen whole */
} bf16_case;

/* From what is rounded to bfloat16, all else in double precision. */
static void attend_plainly(const bf16_case *c, int64_t i, double *out)
{
    double weights[BLOCKS][WE_KV_BLOCK], most = -INFINITY, sum = 0;
    for (int b = 0; b < BLOCKS; b++)
        for (int p = 0; p < WE_KV_BLOCK; p++) {
            const bool seen = b < BLOCKS - 1 || (p >= c->from[i] && p < c->to[i]);
            double score = 0;
            for (int64_t l = 0; l < c->dim; l++)
                score += (double)(bf16_of(c->q[i * c->dim + l]) *
                                  bf16_of(we_f16_to_f32(c->halves[b][0][l * WE_KV_BLOCK + p])));
            weights[b][p] = seen ? score : -INFINITY;
            most = fmax(most, weights[b][p]);
        }
    for (int64_t l = 0; l < c->dim; l++) out[l] = 0;
    for (int b = 0; b < BLOCKS; b++)
        for (int p = 0; p < WE_KV_BLOCK; p++) {
            const double w = exp2(weights[b][p] - most);
            sum += w;
            for (int64_t l = 0; l < c->dim; l++)
                out[l] += w * (double)bf16_of(we_f16_to_f32(c->halves[b][1][p * c->dim + l]));
        }
    for (int64_t l = 0; l < c->dim; l++) out[l] /= sum;
}

static void attend_fast(const we_cpu_kernels *k, const bf16_case *c, float *out)
{
    const int64_t m = c->m, dim = c->dim, stride = dim + dim % 2;
    uint16_t *q = we_malloc((size_t)(m * stride) * 2);
    uint32_t *keys = we_malloc((size_t)(stride / 2 * WE_KV_BLOCK) * 4);
    uint32_t *values = we_malloc((size_t)(WE_KV_BLOCK / 2 * dim) * 4);
    float *reference_of = we_malloc((size_t)m * sizeof(float)),
          (*sum)[WE_SUM_LANES] = we_calloc((size_t)m, sizeof *sum);
    for (int64_t i = 0; i < m; i++) reference_of[i] = -INFINITY;
    memset(out, 0, (size_t)(m * dim) * sizeof(float));
    k->to_bf16(c->q, dim, q, stride, m, dim);
    for (int b = 0; b < BLOCKS; b++) {
        k->pairs_f16(c->halves[b][0], dim, WE_KV_BLOCK, keys);
        k->pairs_f16(c->halves[b][1], WE_KV_BLOCK, dim, values);
        const bool last = b == BLOCKS - 1;
        k->attend_bf16(&(we_bf16_block){ keys, values, dim },
                       &(we_bf16_queries){ q, last ? c->from : NULL, last ? c->to : NULL, reference_of, sum, out }, m);
    }
    for (int64_t i = 0; i < m; i++) {
        float all = 0;
        for (int j = 0; j < WE_SUM_LANES; j++) all += sum[i][j];
        for (int64_t l = 0; l < dim; l++) out[i * dim + l] /= all;
    }
    we_free(q), we_free(keys), we_free(values), we_free(reference_of), we_free(sum);
}

/* Scores grow from block to block, beyond what the first one's reference can be kept for. */
static bf16_case random_case(int64_t m, int64_t dim)
{
    bf16_case c = { m, dim, random_floats(m * dim, 3), { { NULL } }, we_malloc((size_t)m), we_malloc((size_t)m) };
    for (int b = 0; b < BLOCKS; b++)
        for (int which = 0; which < 2; which++) {
            float *x = random_floats(WE_KV_BLOCK * dim, which ? 1 : (float)(1 + 4 * b));
            c.halves[b][which] = we_malloc((size_t)(WE_KV_BLOCK * dim) * 2);
            reference->to_f16(x, c.halves[b][which], WE_KV_BLOCK * dim);
            free_floats(x);
        }
    for (int64_t i = 0; i < m; i++) {
        c.from[i] = (uint8_t)(random_bits() % 3 ? random_bits() % WE_KV_BLOCK : 0);
        c.to[i] = (uint8_t)(c.from[i] + random_bits() % (WE_KV_BLOCK + 1u - c.from[i])); /* some see nothing */
    }
    return c;
}

static void free_case(bf16_case *c)
{
    for (int b = 0; b < BLOCKS; b++) we_free(c->halves[b][0]), we_free(c->halves[b][1]);
    free_floats(c->q);
    we_free(c->from), we_free(c->to);
}

TEST(kernels_bfloat16_attention_agrees_with_the_definition)
{
    static const int64_t ms[] = { 1, 3, 4, 17 }, dims[] = { 1, 5, 16, 40, 64, 80, 128, 256 };
    for (size_t n = 0; n < WE_COUNT(ms) * WE_COUNT(dims); n++) {
        bf16_case c = random_case(ms[n % 4], dims[n / 4]);
        float *got = random_floats(c.m * c.dim, 1);
        double *want = we_malloc((size_t)c.dim * sizeof *want);
        EACH_CPU_VARIANT(k) {
            if (!k->attend_bf16) continue;
            attend_fast(k, &c, got);
            for (int64_t i = 0; i < c.m; i++) {
                attend_plainly(&c, i, want);
                for (int64_t l = 0; l < c.dim; l++) /* weights are rounded, by one in 256 at most; values are below 1 */
                    if (!(fabs((double)got[i * c.dim + l] - want[l]) <= 1.0 / 256 + 2e-4))
                        fail_msg("%s: %lld queries of %lld: query %lld, number %lld is %g, expected %g", k->name,
                                 (long long)c.m, (long long)c.dim, (long long)i, (long long)l,
                                 (double)got[i * c.dim + l], want[l]);
            }
        }
        we_free(want);
        free_floats(got);
        free_case(&c);
    }
}

TEST(kernels_bfloat16_attention_of_what_is_no_number_is_none)
{
    bf16_case c = random_case(5, 64);
    float *got = random_floats(c.m * c.dim, 1);
    c.q[2 * c.dim + 7] = NAN;
    EACH_CPU_VARIANT(k) {
        if (!k->attend_bf16) continue;
        attend_fast(k, &c, got);
        for (int64_t i = 0; i < c.m; i++) assert_int_equal(isnan(got[i * c.dim]), i == 2);
    }
    free_floats(got);
    free_case(&c);
}

/* ---- Caches of 8 and 4 bits ---- */

static we_kv_codes random_codes(int bits, int head_dim, bool values, bool extreme)
{
    const int n_groups = we_kv_groups(head_dim), n_scales = n_groups * WE_KV_BLOCK;
    const size_t row = (size_t)(values ? n_groups * WE_KV_GROUP : WE_KV_BLOCK) * (size_t)bits / 8;
    const size_t n = row * (size_t)(values ? WE_KV_BLOCK : head_dim);
    we_kv_codes b = { .bits = bits, .head_dim = head_dim, .codes = odd_bytes(n) };
    b.scales = we_malloc((size_t)n_scales * 4);
    b.lows = b.scales + n_scales;
    for (size_t i = 0; i < n; i++)
        b.codes[i] = extreme ? (uint8_t)(bits == 4 ? 0xff : i % 3 ? 127 : -127) : (uint8_t)random_bits();
    for (int i = 0; i < 2 * n_scales; i++)
        b.scales[i] = we_f32_to_f16(i < n_scales ? fabsf(random_float(extreme ? 600 : 0.1f)) : random_float(1));
    return b;
}

TEST(kernels_cache_codes_agree_with_the_reference)
{
    static const int dims[] = { 1, 16, 31, 32, 40, 64, 80, 128, 257 }, ms[] = { 1, 2, 3, 4, 7, 13 };
    static const struct {
        int first, n;
    } ranges[] = { { 0, 64 }, { 0, 1 }, { 63, 1 }, { 7, 33 }, { 31, 2 }, { 40, 24 } };
    for (size_t i = 0; i < WE_COUNT(dims) * WE_COUNT(ms) * WE_COUNT(ranges) * 4; i++) {
        const int bits = i % 2 ? 8 : 4, dim = dims[i / 4 % 9], n_groups = we_kv_groups(dim);
        const int64_t m = ms[i / 36 % 6];
        const bool values = i / 2 % 2;
        const int first = ranges[i / 216].first, n = ranges[i / 216].n;
        const bool extreme = i % 5 == 0;
        we_kv_codes b = random_codes(bits, dim, values, extreme);
        const double term = bits == 8 ? (extreme ? 600 : 0.1) * 128 : (extreme ? 600 : 0.1) * 15 + 1;
        float *q = random_floats(m * dim, 1), *sums = random_floats(m * n_groups, 1);
        float *weights = random_floats(m * WE_KV_BLOCK, 1), *want = random_floats(m * WE_MAX(dim, WE_KV_BLOCK), 1);
        for (int64_t r = 0; r < m; r++) {
            for (int g = 0; g < n_groups; g++) {
                sums[r * n_groups + g] = 0;
                for (int d = 32 * g; d < WE_MIN(dim, 32 * g + 32); d++) sums[r * n_groups + g] += q[r * dim + d];
            }
            for (int l = 0; l < WE_KV_BLOCK; l++)
                if (l < first || l >= first + n) weights[r * WE_KV_BLOCK + l] = 0;
        }
        const int64_t n_out = m * (values ? dim : WE_KV_BLOCK), n_halves = (int64_t)dim * WE_KV_BLOCK;
        float *start = random_floats(n_out, 1), *got = random_floats(n_out + 1, 1);
        uint16_t *halves = we_malloc((size_t)n_halves * 4), *want_halves = halves + n_halves;
        memcpy(want, start, (size_t)n_out * sizeof(float));
        if (values)
            reference->kv->values(&b, weights, m, first, n, want);
        else
            reference->kv->keys(&b, q, sums, m, first, n, want);
        reference->kv->halves(&b, values, want_halves);
        EACH_CPU_VARIANT(k) {
            memcpy(got, start, (size_t)n_out * sizeof(float));
            got[n_out] = 12345;
            if (values)
                k->kv->values(&b, weights, m, first, n, got);
            else
                k->kv->keys(&b, q, sums, m, first, n, got);
            for (int64_t r = 0; r < m && !values; r++)
                check_within("scores of a cache's codes", k, got + r * WE_KV_BLOCK + first,
                             want + r * WE_KV_BLOCK + first, n, 1e-6 * dim * term); /* few may cancel */
            if (values) check_within("values of a cache's codes", k, got, want, n_out, 1e-6 * n * term);
            assert_true(got[n_out] == 12345);
            k->kv->halves(&b, values, halves);
            for (int64_t j = 0; j < n_halves; j++) {
                const float a = we_f16_to_f32(halves[j]), w = we_f16_to_f32(want_halves[j]);
                if (!(fabsf(a - w) <= 1e-3f * fabsf(w) + 1e-4f)) /* some round once, some twice */
                    fail_msg("%s: half %lld is %g, expected %g", k->name, (long long)j, (double)a, (double)w);
            }
        }
        we_free(halves);
        free_odd(b.codes);
        we_free(b.scales);
        float *all[] = { q, sums, weights, want, start, got };
        for (size_t j = 0; j < WE_COUNT(all); j++) free_floats(all[j]);
    }
}

/* ---- Vectors ---- */

static const int64_t lengths[] = { 0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 1000 };

static bool same_float(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

TEST(kernels_halves_saturate_and_round_to_even)
{
    static const float special[] = { 0.0f,  -0.0f,    1.0f,           65504.0f,      65519.0f, 65520.0f,
                                     -1e9f, INFINITY, -INFINITY,      0x1p-24f,      3e-8f,    2e-8f,
                                     NAN,   1.0009f,  1.00048828125f, 1.00146484375f };
    uint16_t want[17], got[17];
    EACH_CPU_VARIANT(k)
        for (int64_t n = 0; n <= 16; n++) {
            got[n] = want[n] = 12345;
            reference->to_f16(special, want, n);
            k->to_f16(special, got, n);
            for (int64_t i = 0; i <= n; i++) assert_true(same_float(we_f16_to_f32(got[i]), we_f16_to_f32(want[i])));
        }
    uint16_t h;
    reference->to_f16(&special[6], &h, 1);
    assert_float_equal(we_f16_to_f32(h), -65504.0f, 0);
}

TEST(kernels_exp_is_accurate_to_two_units)
{
    EACH_CPU_VARIANT(k) {
        double worst = 0;
        for (float x = -87.0f; x < 88.0f; x += 0.01f) {
            float e = x;
            k->exp_sum(&e, 0.0f, 1);
            const double want = exp((double)x), ulp = (double)nextafterf((float)want, INFINITY) - (double)(float)want;
            worst = fmax(worst, fabs((double)e - want) / ulp);
        }
        if (worst > 2.0) fail_msg("%s: exp is off by %g units", k->name, worst);
        float ends[] = { -INFINITY, -200.0f, 0.0f, NAN, 200.0f };
        k->exp_sum(ends, 0.0f, 5);
        assert_true(ends[0] == 0 && ends[1] == 0 && ends[2] == 1 && isnan(ends[3]) && isinf(ends[4]));
    }
}

TEST(kernels_vectors_agree_with_the_reference)
{
    for (size_t i = 0; i < WE_COUNT(lengths); i++) {
        const int64_t n = lengths[i];
        float *x = random_floats(n + 1, 6), *y = random_floats(n + 1, 2), *want = random_floats(n + 1, 1),
              *got = random_floats(n + 1, 1);
        const size_t bytes = (size_t)(n + 1) * sizeof(float); /* one more: it must stay as it is */
        EACH_CPU_VARIANT(k) {
#define BOTH(call_want, call_got, tolerance) \
    memcpy(want, x, bytes);                  \
    memcpy(got, x, bytes);                   \
    call_want;                               \
    call_got;                                \
    check_near(#call_got, k, got, want, n + 1, tolerance)
            BOTH(reference->scale(want, 1.7f, n), k->scale(got, 1.7f, n), 0);
            BOTH(reference->add(want, y, n), k->add(got, y, n), 0);
            BOTH(reference->silu_mul(want, y, n), k->silu_mul(got, y, n), 1e-6);
            BOTH(reference->gelu_tanh_mul(want, y, n), k->gelu_tanh_mul(got, y, n), 1e-6);
            BOTH(reference->gelu_mul(want, y, n), k->gelu_mul(got, y, n), 1e-6);
            BOTH(reference->exp_sum(want, 2, n), k->exp_sum(got, 2, n), 1e-6);
            if (n > 0) {
                BOTH(reference->rms_norm(want, x, y, n, 1e-5f, 0), k->rms_norm(got, x, y, n, 1e-5f, 0), 1e-6);
                BOTH(reference->rms_norm(want, want, y, n, 1e-5f, 1), k->rms_norm(got, got, y, n, 1e-5f, 1), 1e-6);
            }
#undef BOTH
            assert_true(k->max(x, n) == reference->max(x, n));
            memcpy(want, x, bytes);
            memcpy(got, x, bytes);
            const float a = reference->exp_sum(want, 1, n), b = k->exp_sum(got, 1, n);
            assert_true(fabsf(a - b) <= 1e-6f * a);
        }
        free_floats(x);
        free_floats(y);
        free_floats(want);
        free_floats(got);
    }
}

TEST(kernels_max_skips_nans)
{
    float x[20];
    for (int i = 0; i < 20; i++) x[i] = i % 3 ? (float)i : NAN;
    EACH_CPU_VARIANT(k) {
        assert_true(k->max(x, 20) == 19.0f);
        assert_true(k->max(x, 1) == -INFINITY);
        assert_true(k->max(x, 0) == -INFINITY);
    }
}

/* ---- The tables themselves ---- */

/* Guessed tokens are checked several at once: each must get the numbers that it gets alone. */
TEST(kernels_few_tokens_have_the_bits_of_one)
{
    enum { ROWS = 19, TOKENS = 8 };
    we_quant quants[MAX_QUANTS];
    const size_t n_quants = all_quants(quants);
    for (size_t i = 0; i < n_quants; i++) {
        if (!we_q8_takes(quants[i])) continue;
        for (int64_t cols = 1024; cols <= 5632; cols += 4608) {
            we_matrix m = random_matrix(ROWS, cols, quants[i], WE_BF16);
            float *x = random_floats(cols * TOKENS, 2), *one = random_floats(ROWS, 1),
                  *several = random_floats(ROWS * TOKENS, 1);
            void *scratch = scratch_new(cols);
            EACH_CPU_VARIANT(k)
                for (int64_t n = 2; n <= TOKENS; n++) {
                    rounded all = round_rows(k, x, cols, n), alone = round_rows(k, x + (n - 1) * cols, cols, 1);
                    k->linear_q8(&m, 0, ROWS, &all.q, n, several, ROWS, false, scratch);
                    k->linear_q8(&m, 0, ROWS, &alone.q, 1, one, ROWS, false, scratch);
                    if (memcmp(one, several + (n - 1) * ROWS, sizeof(float) * ROWS) != 0)
                        fail_msg("%s: %s %d bits, %lld columns: the last of %lld tokens differs from itself alone",
                                 k->name, we_quant_mode_name(quants[i].mode), quants[i].bits, (long long)cols,
                                 (long long)n);
                    free_rounded(&all);
                    free_rounded(&alone);
                }
            we_free(scratch);
            free_floats(x);
            free_floats(one);
            free_floats(several);
            free_matrix(&m);
        }
    }
}

TEST(kernels_dots_are_as_many_as_they_say)
{
    EACH_CPU_VARIANT(k) {
        static const int64_t rounds[] = { 0, 1, 100 };
        for (size_t i = 0; i < WE_COUNT(rounds); i++) {
            int32_t sum;
            const int64_t n = k->dots(rounds[i], &sum);
            assert_true(rounds[i] == 0 ? n == 0 : n >= rounds[i]);
            assert_int_equal(sum, n);
        }
    }
}

TEST(kernels_tables_end_with_the_reference_and_are_complete)
{
    int n = 0;
    while (we_cpu_kernel_tables[n]) n++;
    assert_true(n > 0 && n < MAX_VARIANTS && we_cpu_kernel_tables[n - 1] == reference);
    EACH_CPU_VARIANT(k) {
        assert_non_null(k->row_f32);
        assert_non_null(k->linear_f32);
        assert_non_null(k->linear_q8);
        assert_non_null(k->q8_quantize);
        assert_non_null(k->mul_f32);
        assert_non_null(k->mul_f16);
        assert_non_null(k->gelu_mul);
        assert_non_null(k->kv);
    }
    we_cpu_kernels k;
    assert_false(we_cpu_kernels_choose("sse9", &k));
}
