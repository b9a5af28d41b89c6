/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c
 * avx512_ggml.c - a few tokens times ggml's blocks, by vpdpbusd. */
#include "device/cpu/avx_ggml.h"

INLINE __m256i dot_32(__m256i codes, __m256i x) { return _mm256_dpbusd_epi32(_mm256_setzero_si256(), codes, x); }

void we_avx512_linear_ggml(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                           int64_t y_stride, bool add, void *scratch)
{
    linear_ggml(w, first, n_rows, x, n, y, y_stride, add, scratch);
}
