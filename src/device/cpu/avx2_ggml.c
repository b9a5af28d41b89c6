/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c
 * avx2_ggml.c - a few tokens times ggml's blocks, by vpmaddubsw: unsigned codes times signed activations, pairs summed in 16
 * bits. Codes below 64 give 2 * 63 * 127, and signed ones 2 * 128 * 127 at most: nothing saturates. */
#include "device/cpu/avx_ggml.h"

INLINE __m256i dot_32(__m256i codes, __m256i x)
{
    return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1));
}

void we_avx2_linear_ggml(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                         int64_t y_stride, bool add, void *scratch)
{
    linear_ggml(w, first, n_rows, x, n, y, y_stride, add, scratch);
}
