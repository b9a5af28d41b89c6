/* SPDX-License-Identifier: Apache-2.0
 * neon.h - what the NEON files share, and the table's name. */
#ifndef WE_CPU_NEON_H
#define WE_CPU_NEON_H

#include "device/cpu/kernels.h"

#include <arm_neon.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

bool we_arm_has_dotprod(void); /* Armv8.2 with it: Cortex-A76, Graviton 2, Apple's M1 and later */
bool we_arm_has_i8mm(void);    /* and products of int8 matrices: Armv8.6, Graviton 3, Apple's M2 and later */

extern const we_cpu_kernels we_cpu_kernels_neon;      /* neon.c */
extern const we_cpu_kernels we_cpu_kernels_neon_i8mm; /* neoni8mm_q8.c */
void we_neon_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                       int64_t y_stride, bool add, void *scratch); /* neon_q8.c */
void we_neon_q8_tile(const we_q8 *x, int64_t first, int64_t n);
void we_neon_few(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                 int64_t y_stride, bool add, void *scratch); /* neon_few.c: the same row by row */
extern const we_kv_kernels we_neon_kv;                       /* neon_kv.c */
int64_t we_neon_dots(int64_t rounds, int32_t *sum);          /* neon_dots.c */

INLINE float32x4_t f16_floats(const void *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
INLINE float32x4_t bf16_floats(const void *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* Four elements of a plain type. */
INLINE float32x4_t floats4(we_dtype dtype, const uint8_t *p)
{
    if (dtype == WE_F32) return vreinterpretq_f32_u8(vld1q_u8(p));
    return dtype == WE_F16 ? f16_floats(p) : bf16_floats(p);
}

#endif
