/* SPDX-License-Identifier: Apache-2.0
 * avx.h - the x86 tables' names, and the pieces of them that have files of their own. */
#ifndef WE_CPU_AVX_H
#define WE_CPU_AVX_H

#include "device/cpu/kernels.h"

bool we_x86_has_avx2(void);        /* with FMA and F16C: Haswell, Zen and later */
bool we_x86_has_avx_vnni(void);    /* and AVX2: Alder Lake, Zen 5 and later */
bool we_x86_has_avx512(void);      /* F, BW, VL, DQ, VNNI and VBMI: Ice Lake, Zen 4 and later */
bool we_x86_has_avx512_bf16(void); /* Cooper Lake, Sapphire Rapids, Zen 4 and later */

extern const we_cpu_kernels we_cpu_kernels_avx2;        /* avx2.c */
extern const we_cpu_kernels we_cpu_kernels_avx_vnni;    /* avxvnni_q8.c */
extern const we_cpu_kernels we_cpu_kernels_avx512;      /* avx512.c */
extern const we_cpu_kernels we_cpu_kernels_avx512_bf16; /* avx512_bf16.c */

void we_avx512_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                         int64_t y_stride, bool add, void *scratch); /* avx512_q8.c */
void we_avx2_linear_q8(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                       int64_t y_stride, bool add, void *scratch); /* avx2_q8.c */
void we_avx2_q8_tile(const we_q8 *x, int64_t first, int64_t n);    /* for the tables without AVX-512 */
void we_avx512_q8_tile(const we_q8 *x, int64_t first, int64_t n);  /* avx512_affine.c, with the next two */
void we_avx512_q8_group(const we_q8 *x, int64_t n, int64_t group, const float *columns, int64_t stride);
void we_avx512_q8_join(const we_q8 *x, int64_t first);
void we_avx2_few(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                 int64_t y_stride, bool add, void *scratch); /* avx2_few.c: the same row by row */
void we_avx512_linear_ggml(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                           int64_t y_stride, bool add, void *scratch); /* avx512_ggml.c */
void we_avx2_linear_ggml(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                         int64_t y_stride, bool add, void *scratch); /* avx2_ggml.c */
void we_avx512_linear_bf16(const we_matrix *w, int64_t first, int64_t n_rows, const uint32_t *x, int64_t n, float *y,
                           int64_t y_stride, bool add, void *scratch); /* avx512_plain.c, with the next */
void we_avx512_bf16_tile(const float *x, int64_t x_stride, int64_t n, int64_t cols, uint32_t *out);
extern const we_kv_kernels we_avx512_kv, we_avx2_kv;  /* avx512_kv.c, avx2_kv.c */
int64_t we_avx512_dots(int64_t rounds, int32_t *sum); /* avx512_dots.c */
int64_t we_avx2_dots(int64_t rounds, int32_t *sum);   /* avx2_dots.c */

#endif
