/* SPDX-License-Identifier: Apache-2.0
 * build: -march=armv8.2-a+dotprod
 * neon.c - the table for 64-bit ARM with dot products: float32 products, attention's products, vectors. Integer products:
 * neon_q8.c, neon_few.c. */
#include "device/cpu/neon.h"
#include "device/cpu/rows.h"

#include <math.h>

/* ---- float32 products: two rows, as float32 in scratch (or as they lie there), times four tokens ---- */

#define R 2
#define T 4

static void row_f32(const we_matrix *w, int64_t row, float *out)
{
    if (w->quant.mode != WE_QUANT_NONE) {
        we_row_f32_inline(w, row, out);
        return;
    }
    const size_t size = w->dtype == WE_F32 ? 4 : 2;
    const uint8_t *p = w->data + (size_t)row * (size_t)w->cols * size;
    int64_t c = 0;
    for (; c + 4 <= w->cols; c += 4) vst1q_f32(out + c, floats4(w->dtype, p + (size_t)c * size));
    if (c < w->cols) we_to_f32(w->dtype, p + (size_t)c * size, (size_t)(w->cols - c), out + c);
}

INLINE float dot_plain(we_dtype dtype, const uint8_t *p, const float *x, int64_t n)
{
    const size_t size = dtype == WE_F32 ? 4 : 2;
    float32x4_t s[4];
    UNROLL for (int i = 0; i < 4; i++) s[i] = vdupq_n_f32(0);
    int64_t c = 0;
    for (; c + 16 <= n; c += 16)
        UNROLL for (int i = 0; i < 4; i++) s[i] =
            vfmaq_f32(s[i], floats4(dtype, p + (size_t)(c + 4 * i) * size), vld1q_f32(x + c + 4 * i));
    for (; c + 4 <= n; c += 4) s[0] = vfmaq_f32(s[0], floats4(dtype, p + (size_t)c * size), vld1q_f32(x + c));
    float rest[4] = { 0 }, sum = vaddvq_f32(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
    if (c < n) we_to_f32(dtype, p + (size_t)c * size, (size_t)(n - c), rest);
    for (int i = 0; c < n; c++, i++) sum += rest[i] * x[c];
    return sum;
}

static void linear_plain_1(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, float *y, bool add)
{
    const size_t row_bytes = (size_t)w->cols * (w->dtype == WE_F32 ? 4 : 2);
    const uint8_t *p = w->data + (size_t)first * row_bytes;
    for (int64_t r = 0; r < n_rows; r++, p += row_bytes) {
        const float dot = w->dtype == WE_BF16  ? dot_plain(WE_BF16, p, x, w->cols)
                          : w->dtype == WE_F16 ? dot_plain(WE_F16, p, x, w->cols)
                                               : dot_plain(WE_F32, p, x, w->cols);
        y[r] = (add ? y[r] : 0.0f) + dot;
    }
}

INLINE void tile_f32(const float *const a[R], const float *const x[T], int64_t n, float out[T][R])
{
    float32x4_t s[T][R];
    UNROLL for (int i = 0; i < T * R; i++) s[i / R][i % R] = vdupq_n_f32(0);
    int64_t c = 0;
    for (; c + 4 <= n; c += 4) {
        const float32x4_t a0 = vld1q_f32(a[0] + c), a1 = vld1q_f32(a[1] + c);
        UNROLL for (int t = 0; t < T; t++)
        {
            const float32x4_t xt = vld1q_f32(x[t] + c);
            s[t][0] = vfmaq_f32(s[t][0], a0, xt);
            s[t][1] = vfmaq_f32(s[t][1], a1, xt);
        }
    }
    UNROLL for (int i = 0; i < T * R; i++) out[i / R][i % R] = vaddvq_f32(s[i / R][i % R]);
    for (; c < n; c++)
        for (int i = 0; i < T * R; i++) out[i / R][i % R] += x[i / R][c] * a[i % R][c];
}

static void linear_f32(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, int64_t x_stride, int64_t n,
                       float *y, int64_t y_stride, bool add, void *scratch)
{
    if (n == 1 && w->quant.mode == WE_QUANT_NONE) {
        linear_plain_1(w, first, n_rows, x, y, add);
        return;
    }
    for (int64_t r = 0; r < n_rows; r += R) {
        const int64_t rows = WE_MIN(n_rows - r, R);
        const float *a[R], *b[T];
        for (int64_t i = 0; i < R; i++) { /* what does not exist is a copy of the last */
            a[i] = (float *)scratch + WE_MIN(i, rows - 1) * w->cols;
            if (i < rows) row_f32(w, first + r + i, (float *)scratch + i * w->cols);
        }
        for (int64_t t = 0; t < n; t += T) {
            float sums[T][R];
            for (int64_t i = 0; i < T; i++) b[i] = x + WE_MIN(t + i, n - 1) * x_stride;
            tile_f32(a, b, w->cols, sums);
            for (int64_t i = 0; i < WE_MIN(T, n - t); i++)
                for (int64_t j = 0; j < rows; j++) {
                    float *out = &y[(t + i) * y_stride + r + j];
                    *out = (add ? *out : 0.0f) + sums[i][j];
                }
        }
    }
}

/* ---- Rounding to int8 ---- */

static void q8_quantize(const float *x, int64_t cols, int8_t *values, float *scales, float *sums)
{
    for (int64_t c = 0; c < we_q8_stride(cols); c += WE_Q8_GROUP) {
        float tail[WE_Q8_GROUP] = { 0 };
        const float *p = x + c;
        if (cols - c < WE_Q8_GROUP) {
            if (cols > c) memcpy(tail, p, (size_t)(cols - c) * sizeof(float));
            p = tail;
        }
        float32x4_t v[8];
        uint32x4_t most = vdupq_n_u32(0);
        UNROLL for (int i = 0; i < 8; i++)
        {
            v[i] = vld1q_f32(p + 4 * i);
            most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(v[i]), vdupq_n_u32(0x7fffffff)));
        }
        const we_q8_scale s = we_q8_scale_of(vmaxvq_u32(most));
        int32x4_t sum = vdupq_n_s32(0), q[8];
        UNROLL for (int i = 0; i < 8; i++)
        {
            q[i] = s.inverse == 0 ? vdupq_n_s32(0) : vcvtnq_s32_f32(vmulq_n_f32(v[i], s.inverse));
            sum = vaddq_s32(sum, q[i]);
        }
        UNROLL for (int i = 0; i < 8; i += 4)
        {
            const int16x8_t a = vcombine_s16(vmovn_s32(q[i]), vmovn_s32(q[i + 1]));
            const int16x8_t b = vcombine_s16(vmovn_s32(q[i + 2]), vmovn_s32(q[i + 3]));
            vst1q_s8(values + c + 4 * i, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
        }
        *scales++ = s.scale;
        *sums++ = s.scale * (float)vaddvq_s32(sum);
    }
}

/* ---- Attention's products: 4 rows of A, 16 columns of B ---- */

INLINE float32x4_t b_floats(const void *b, int64_t at, bool half)
{
    return half ? f16_floats((const uint16_t *)b + at) : vld1q_f32((const float *)b + at);
}

INLINE void mul_tile(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t k,
                     bool add, bool half, const uint16_t *next, int rows, int vectors)
{
    float32x4_t s[4][4];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) s[i][j] =
        add ? vld1q_f32(c + i * ldc + 4 * j) : vdupq_n_f32(0);
    for (int64_t l = 0; l < k; l++) {
        if (next) __builtin_prefetch(next + l * ldb);
        float32x4_t v[4];
        UNROLL for (int j = 0; j < vectors; j++) v[j] = b_floats(b, l * ldb + 4 * j, half);
        UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) s[i][j] =
            vfmaq_n_f32(s[i][j], v[j], a[i * lda + l]);
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++)
        vst1q_f32(c + i * ldc + 4 * j, s[i][j]);
}

/* Fewer than 4 columns: one by one. */
INLINE void mul_columns(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                        int64_t n, int64_t k, bool add, bool half)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = add ? c[i * ldc + j] : 0.0f;
            for (int64_t l = 0; l < k; l++)
                sum += a[i * lda + l] *
                       (half ? we_f16_to_f32(((const uint16_t *)b)[l * ldb + j]) : ((const float *)b)[l * ldb + j]);
            c[i * ldc + j] = sum;
        }
}

INLINE void mul(const float *a, int64_t lda, const void *b, int64_t ldb, float *c, int64_t ldc, int64_t m, int64_t n,
                int64_t k, bool add, bool half, const uint16_t *next)
{
    int64_t j = 0;
#define AT(j) (half ? (const void *)((const uint16_t *)b + (j)) : (const void *)((const float *)b + (j)))
    for (; j + 4 <= n; j += n - j >= 16 ? 16 : 4) {
        const bool wide = n - j >= 16;
        const uint16_t *fetch = next && j % 32 == 0 ? next + j : NULL; /* once each line, by the first rows */
        int64_t i = 0;
        for (; i + 4 <= m; i += 4, fetch = NULL) {
            if (wide)
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 4, 4);
            else
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 4, 1);
        }
        for (; i < m; i++, fetch = NULL) {
            if (wide)
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 1, 4);
            else
                mul_tile(a + i * lda, lda, AT(j), ldb, c + i * ldc + j, ldc, k, add, half, fetch, 1, 1);
        }
    }
    if (j < n) mul_columns(a, lda, AT(j), ldb, c + j, ldc, m, n - j, k, add, half);
#undef AT
}

static void mul_f32(const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add)
{
    mul(a, lda, b, ldb, c, ldc, m, n, k, add, false, NULL);
}

static void mul_f16(const float *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                    int64_t n, int64_t k, bool add, const uint16_t *next)
{
    mul(a, lda, b, ldb, c, ldc, m, n, k, add, true, next);
}

/* ---- Vectors: whole ones, then one that is padded with zeros ---- */

INLINE float32x4_t load(const float *x, int64_t left)
{
    if (left >= 4) return vld1q_f32(x);
    float v[4] = { 0 };
    memcpy(v, x, (size_t)left * sizeof(float));
    return vld1q_f32(v);
}

INLINE void store(float *x, int64_t left, float32x4_t v)
{
    if (left >= 4) {
        vst1q_f32(x, v);
        return;
    }
    float some[4];
    vst1q_f32(some, v);
    memcpy(x, some, (size_t)left * sizeof(float));
}

/* exp in about 1 ulp: x = n ln 2 + f, |f| <= ln 2 / 2; e^f by the polynomial of Cephes' expf, times 2^n in two factors, so
 * that results down to the subnormal ones come out. A NaN stays one. */
INLINE float32x4_t exp4(float32x4_t x)
{
    x = vmaxq_f32(vdupq_n_f32(-110.0f), vminq_f32(vdupq_n_f32(100.0f), x));
    const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
    float32x4_t f = vfmsq_n_f32(x, n, 0.693359375f);
    f = vfmsq_n_f32(f, n, -2.12194440e-4f);
    float32x4_t p = vdupq_n_f32(1.9875691500e-4f);
    p = vfmaq_f32(vdupq_n_f32(1.3981999507e-3f), p, f);
    p = vfmaq_f32(vdupq_n_f32(8.3334519073e-3f), p, f);
    p = vfmaq_f32(vdupq_n_f32(4.1665795894e-2f), p, f);
    p = vfmaq_f32(vdupq_n_f32(1.6666665459e-1f), p, f);
    p = vfmaq_f32(vdupq_n_f32(5.0000001201e-1f), p, f);
    p = vfmaq_f32(vaddq_f32(f, vdupq_n_f32(1.0f)), p, vmulq_f32(f, f));
    const int32x4_t e = vcvtq_s32_f32(n), half = vshrq_n_s32(e, 1), rest = vsubq_s32(e, half), one = vdupq_n_s32(127);
    p = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, one), 23)));
    return vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, one), 23)));
}

static void to_f16(const float *x, uint16_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        const float32x4_t v = load(x + i, n - i);
        const float32x4_t clamped = vminq_f32(vdupq_n_f32(65504.0f), vmaxq_f32(vdupq_n_f32(-65504.0f), v));
        const uint32x4_t finite = vcltq_f32(vabsq_f32(v), vdupq_n_f32(INFINITY));
        const uint16x4_t half = vreinterpret_u16_f16(vcvt_f16_f32(vbslq_f32(finite, clamped, v)));
        if (n - i >= 4)
            vst1_u16(out + i, half);
        else
            memcpy(out + i, &half, (size_t)(n - i) * 2);
    }
}

static float max(const float *x, int64_t n)
{
    float32x4_t most = vdupq_n_f32(-INFINITY);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) most = vmaxnmq_f32(most, vld1q_f32(x + i)); /* of a NaN and a number: the number */
    float largest = vmaxvq_f32(most);
    for (; i < n; i++)
        if (x[i] > largest) largest = x[i];
    return largest;
}

static float exp_sum(float *x, float shift, int64_t n)
{
    float32x4_t sum = vdupq_n_f32(0);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t e = exp4(vsubq_f32(vld1q_f32(x + i), vdupq_n_f32(shift)));
        vst1q_f32(x + i, e);
        sum = vaddq_f32(sum, e);
    }
    float total = vaddvq_f32(sum);
    store(x + i, n - i, exp4(vsubq_f32(load(x + i, n - i), vdupq_n_f32(shift))));
    for (; i < n; i++) total += x[i];
    return total;
}

static void scale(float *x, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) store(x + i, n - i, vmulq_n_f32(load(x + i, n - i), factor));
}

static void add(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) store(x + i, n - i, vaddq_f32(load(x + i, n - i), load(y + i, n - i)));
}

static void rms_norm(float *out, const float *x, const float *weight, int64_t n, float eps, float offset)
{
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + i + 4);
        s0 = vfmaq_f32(s0, a, a);
        s1 = vfmaq_f32(s1, b, b);
    }
    for (; i < n; i += 4) {
        const float32x4_t a = load(x + i, n - i);
        s0 = vfmaq_f32(s0, a, a);
    }
    const float factor = 1.0f / sqrtf(vaddvq_f32(vaddq_f32(s0, s1)) / (float)n + eps);
    for (i = 0; i < n; i += 4) {
        const float32x4_t w = vaddq_f32(load(weight + i, n - i), vdupq_n_f32(offset));
        store(out + i, n - i, vmulq_f32(vmulq_n_f32(load(x + i, n - i), factor), w));
    }
}

INLINE float32x4_t sigmoid(float32x4_t x)
{
    return vdivq_f32(vdupq_n_f32(1), vaddq_f32(vdupq_n_f32(1), exp4(vnegq_f32(x))));
}

static void silu_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        const float32x4_t g = load(gate + i, n - i);
        store(gate + i, n - i, vmulq_f32(vmulq_f32(g, sigmoid(g)), load(up + i, n - i)));
    }
}

/* (1 + tanh(u)) / 2 = sigmoid(2 u) */
static void gelu_tanh_mul(float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 4) {
        const float32x4_t g = load(gate + i, n - i), cube = vmulq_f32(vmulq_f32(g, g), g);
        const float32x4_t u = vmulq_n_f32(vfmaq_n_f32(g, cube, 0.044715f), 2 * 0.7978845608f);
        store(gate + i, n - i, vmulq_f32(vmulq_f32(g, sigmoid(u)), load(up + i, n - i)));
    }
}

const we_cpu_kernels we_cpu_kernels_neon = {
    .name = "neon",
    .supported = we_arm_has_dotprod,
    .row_f32 = row_f32,
    .linear_f32 = linear_f32,
    .linear_q8 = we_neon_linear_q8,
    .q8_quantize = q8_quantize,
    .q8_tile = we_neon_q8_tile,
    .mul_f32 = mul_f32,
    .mul_f16 = mul_f16,
    .kv = &we_neon_kv,
    .to_f16 = to_f16,
    .max = max,
    .exp_sum = exp_sum,
    .scale = scale,
    .add = add,
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .dots = we_neon_dots,
};
