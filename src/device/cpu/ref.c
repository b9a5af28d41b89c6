/* SPDX-License-Identifier: Apache-2.0
 * ref.c - every kernel in plain scalar C: the specification that the fast tables are tested against, and what runs where
 * there is no fast one. Sums are kept in double, so that a difference is the fast kernel's own rounding.
 *
 * Sources: RMS norm: Zhang and Sennrich 2019, arXiv:1910.07467. SiLU, GELU and its tanh form: Hendrycks and Gimpel 2016,
 * arXiv:1606.08415. Packings: quant/quant.h. */
#include "device/cpu/kernels.h"

#include <math.h>

static bool always(void) { return true; }

/* ---- Linear ---- */

static void linear_f32(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, int64_t x_stride, int64_t n,
                       float *y, int64_t y_stride, bool add, void *scratch)
{
    float *row = scratch;
    for (int64_t r = 0; r < n_rows; r++) {
        we_matrix_row_f32(w, first + r, row);
        for (int64_t t = 0; t < n; t++) {
            double sum = 0;
            for (int64_t c = 0; c < w->cols; c++) sum += (double)row[c] * (double)x[t * x_stride + c];
            float *out = &y[t * y_stride + r];
            *out = (add ? *out : 0.0f) + (float)sum;
        }
    }
}

/* What the codes mean as integers: themselves when affine, twice the e2m1 value otherwise. */
static void row_integers(const we_matrix *w, int64_t row, int16_t *out, uint8_t *codes)
{
    we_quant_unpack_row(w, row, codes);
    for (int64_t c = 0; c < w->cols; c++)
        out[c] = w->quant.mode == WE_QUANT_AFFINE ? (int16_t)codes[c] : (int16_t)(2 * we_e2m1_values[codes[c]]);
}

/* For each group:  x . w  =  sx sw (qx . qw)  +  bias sx sum(qx). Where weight and activation groups differ in width, the
 * narrower one is the step. */
static double dot_q8(const we_matrix *w, int64_t row, const int16_t *qw, const we_q8 *x, int64_t t)
{
    const bool affine = w->quant.mode == WE_QUANT_AFFINE;
    const int step = WE_MIN(w->quant.group_size, WE_Q8_GROUP);
    const int8_t *qx = x->values + t * x->stride;
    const float *scales = x->scales + t * (x->stride / WE_Q8_GROUP);
    double sum = 0;
    for (int64_t c = 0; c < w->cols; c += step) {
        const int64_t group = c / w->quant.group_size;
        int32_t dot = 0, codes = 0;
        for (int64_t i = c; i < c + step && i < w->cols; i++) {
            dot += qw[i] * qx[i];
            codes += qx[i];
        }
        const double sx = (double)scales[c / WE_Q8_GROUP];
        const double sw = (double)we_scale_f32(w, w->scales, row, group) * (affine ? 1.0 : 0.5);
        const double bias = affine ? (double)we_scale_f32(w, w->biases, row, group) : 0.0;
        sum += sx * (sw * dot + bias * codes);
    }
    return sum;
}

static void linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                      int64_t y_stride, bool add, void *scratch)
{
    int16_t *qw = scratch;
    uint8_t *codes = (uint8_t *)(qw + w->cols);
    for (int64_t r = 0; r < n_rows; r++) {
        row_integers(w, first + r, qw, codes);
        for (int64_t t = 0; t < n; t++) {
            float *out = &y[t * y_stride + r];
            *out = (add ? *out : 0.0f) + (float)dot_q8(w, first + r, qw, x, t);
        }
    }
}

/* Magnitudes are compared as integers, in which order infinity and NaN lie above all numbers. */
static uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}

static void q8_quantize(const float *x, int64_t cols, int8_t *values, float *scales, float *sums)
{
    for (int64_t c = 0; c < we_q8_stride(cols); c += WE_Q8_GROUP) {
        uint32_t most = 0;
        for (int64_t i = c; i < WE_MIN(c + WE_Q8_GROUP, cols); i++) most = WE_MAX(most, magnitude(x[i]));
        const we_q8_scale s = we_q8_scale_of(most);
        int32_t sum = 0;
        for (int64_t i = c; i < c + WE_Q8_GROUP; i++) {
            values[i] = s.inverse == 0 || i >= cols ? 0 : (int8_t)lrintf(x[i] * s.inverse);
            sum += values[i];
        }
        *scales++ = s.scale;
        *sums++ = s.scale * (float)sum;
    }
}

/* ---- Attention's products ---- */

static void mul_f32(const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = add ? (double)c[i * ldc + j] : 0.0;
            for (int64_t l = 0; l < k; l++) sum += (double)a[i * lda + l] * (double)b[l * ldb + j];
            c[i * ldc + j] = (float)sum;
        }
}

static void mul_f16(const float *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add, const uint16_t *next)
{
    (void)next;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = add ? (double)c[i * ldc + j] : 0.0;
            for (int64_t l = 0; l < k; l++) sum += (double)a[i * lda + l] * (double)we_f16_to_f32(b[l * ldb + j]);
            c[i * ldc + j] = (float)sum;
        }
}

/* ---- Vectors ---- */

static void to_f16(const float *x, uint16_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint16_t h = we_f32_to_f16(x[i]);
        const bool overflowed = (h & 0x7fff) == 0x7c00 && !isinf(x[i]);
        out[i] = overflowed ? (uint16_t)((h & 0x8000) | 0x7bff) : h;
    }
}

static float max(const float *x, int64_t n)
{
    float most = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > most) most = x[i];
    return most;
}

static float exp_sum(float *x, float shift, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - shift);
        sum += (double)x[i];
    }
    return (float)sum;
}

static void scale(float *x, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

static void add(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

static void rms_norm(float *out, const float *x, const float *weight, int64_t n, float eps, float offset)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
    const float factor = (float)(1.0 / sqrt(squares / (double)n + (double)eps));
    for (int64_t i = 0; i < n; i++) out[i] = x[i] * factor * (weight[i] + offset);
}

static void silu_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void gelu_tanh_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float g = gate[i], inner = 0.7978845608028654f * (g + 0.044715f * g * g * g); /* sqrt(2 / pi) */
        gate[i] = 0.5f * g * (1.0f + tanhf(inner)) * up[i];
    }
}

static void gelu_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        gate[i] = 0.5f * gate[i] * (1.0f + erff(gate[i] * 0.7071067811865476f)) * up[i]; /* 1 / sqrt(2) */
}

/* ---- Caches of 8 and 4 bits ---- */

/* Number `at` of the codes that begin at `row`. */
static int kv_code(int bits, const uint8_t *row, int at)
{
    if (bits == 8) return (int8_t)row[at];
    return row[at / 32 * 16 + at % 16] >> (at % 32 / 16 * 4) & 15;
}

static float kv_number(const we_kv_codes *b, bool values, int position, int d)
{
    const int row = values ? position : d, width = values ? we_kv_groups(b->head_dim) * WE_KV_GROUP : WE_KV_BLOCK;
    const int code = kv_code(b->bits, b->codes + row * width * b->bits / 8, values ? d : position);
    const int at = d / WE_KV_GROUP * WE_KV_BLOCK + position;
    return we_f16_to_f32(b->scales[at]) * (float)code + (b->bits == 4 ? we_f16_to_f32(b->lows[at]) : 0.0f);
}

static void kv_keys(const we_kv_codes *b, const float *q, const float *sums, int64_t m, int first, int n, float *scores)
{
    (void)sums;
    for (int64_t i = 0; i < m; i++)
        for (int l = first; l < first + n; l++) {
            double sum = 0;
            for (int d = 0; d < b->head_dim; d++)
                sum += (double)q[i * b->head_dim + d] * (double)kv_number(b, false, l, d);
            scores[i * WE_KV_BLOCK + l] = (float)sum;
        }
}

static void kv_values(const we_kv_codes *b, const float *weights, int64_t m, int first, int n, float *out)
{
    for (int64_t i = 0; i < m; i++)
        for (int d = 0; d < b->head_dim; d++) {
            double sum = (double)out[i * b->head_dim + d];
            for (int l = first; l < first + n; l++)
                sum += (double)weights[i * WE_KV_BLOCK + l] * (double)kv_number(b, true, l, d);
            out[i * b->head_dim + d] = (float)sum;
        }
}

static void kv_halves(const we_kv_codes *b, bool values, uint16_t *out)
{
    for (int i = 0; i < b->head_dim * WE_KV_BLOCK; i++) {
        const int position = values ? i / b->head_dim : i % WE_KV_BLOCK;
        const float x = kv_number(b, values, position, values ? i % b->head_dim : i / WE_KV_BLOCK);
        to_f16(&x, &out[i], 1);
    }
}

static const we_kv_kernels kv = { kv_keys, kv_values, kv_halves };

static int64_t dots(int64_t rounds, int32_t *sum)
{
    int32_t acc[8] = { 0 };
    volatile int8_t one = 1; /* whose value the compiler does not know */
    for (int64_t r = 0; r < rounds; r++) {
        const int8_t x = one;
        for (int i = 0; i < 8; i++) acc[i] += x * x;
    }
    *sum = 0;
    for (int i = 0; i < 8; i++) *sum += acc[i];
    return rounds * 8;
}

const we_cpu_kernels we_cpu_kernels_reference = {
    .name = "reference",
    .supported = always,
    .row_f32 = we_matrix_row_f32,
    .linear_f32 = linear_f32,
    .linear_q8 = linear_q8,
    .q8_quantize = q8_quantize,
    .mul_f32 = mul_f32,
    .mul_f16 = mul_f16,
    .kv = &kv,
    .to_f16 = to_f16,
    .max = max,
    .exp_sum = exp_sum,
    .scale = scale,
    .add = add,
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .gelu_mul = gelu_mul,
    .dots = dots,
};
