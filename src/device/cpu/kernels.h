/* SPDX-License-Identifier: Apache-2.0
 * kernels.h - the table of functions that an instruction set fills: ref.c (plain C, what each one means), avx2.c, avx512.c,
 * neon.c. A NULL entry falls back to the next simpler table. Chosen once, in cpu.c; no other file asks which instruction
 * set it runs on. Kernels are leaves: one thread, no allocation, no knowledge of tensors, threads or caches. */
#ifndef WE_CPU_KERNELS_H
#define WE_CPU_KERNELS_H

#include "quant/quant.h"

/* Activations rounded to int8, one scale for each group of WE_Q8_GROUP neighbours of a row; row-major. `values` may be
 * permuted within blocks of 64 as the weight's packing likes it (see q8_order); sums are over the stored int8 values. */
#define WE_Q8_GROUP 32
typedef struct we_q8 {
    int8_t *values; /* [rows, cols padded to 64] */
    float *scales;  /* [rows, groups] */
    float *sums;    /* [rows, groups]: scale * sum of the group's values, for the bias term of affine weights */
    int64_t cols, stride, groups; /* stride: bytes of a row of values */
} we_q8;

typedef struct we_cpu_kernels {
    const char *name;
    bool (*supported)(void); /* by this CPU and operating system */

    /* The exact path. y[t * y_stride + r] = sum_c x[t * x_stride + c] * W[first + r][c] for r < n_rows, t < n; float32 activations, any weight
     * format, float32 accumulation. `scratch` has cols floats (a dequantized row). */
    void (*linear_f32)(const we_matrix *w, int64_t first, int64_t n_rows, const float *x, int64_t x_stride, int64_t n, float *y,
                       int64_t y_stride, float *scratch);

    /* The fast path for packed weights: int8 activations. NULL result of q8_supports: not for this packing. */
    bool (*q8_supports)(const we_matrix *w);
    /* Round `n` rows of x to int8 in the order that linear_q8 wants for weights of `quant`. */
    void (*q8_quantize)(we_quant quant, const float *x, int64_t x_stride, int64_t n, we_q8 *out);
    void (*linear_q8)(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y, int64_t y_stride);

    /* Vectors. */
    float (*dot_f32)(const float *a, const float *b, int64_t n);
    float (*dot_f16)(const float *a, const uint16_t *b, int64_t n);          /* b: IEEE half */
    void (*axpy_f32)(float *y, float a, const float *x, int64_t n);          /* y += a x */
    void (*axpy_f16)(float *y, float a, const uint16_t *x, int64_t n);
    void (*to_f16)(const float *x, uint16_t *out, int64_t n);                /* round to nearest even; finite overflow saturates to +-65504 */
    void (*rms_norm)(float *out, const float *x, const float *weight, int64_t n, float eps, float offset);
    void (*silu_mul)(float *gate, const float *up, int64_t n);               /* gate = gate / (1 + exp(-gate)) * up */
    void (*gelu_tanh_mul)(float *gate, const float *up, int64_t n);
    void (*softmax)(float *x, int64_t n);                                    /* in place, max subtracted */
} we_cpu_kernels;

/* The tables of this build, best first; NULL-terminated; the last is the reference. kernels_x86.c, kernels_arm.c or
 * kernels_none.c. */
extern const we_cpu_kernels *const we_cpu_kernel_tables[];
extern const we_cpu_kernels we_cpu_kernels_reference;

#endif
