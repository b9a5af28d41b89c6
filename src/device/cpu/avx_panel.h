/* SPDX-License-Identifier: Apache-2.0
 * avx_panel.h - what AVX2, AVX-VNNI and AVX-512 share of panel.h: sums of activations, and where results go. */
#ifndef WE_CPU_AVX_PANEL_H
#define WE_CPU_AVX_PANEL_H

#include "device/cpu/avx2.h"
#include "device/cpu/panel.h"

static void sums_of_groups(const float *sums, int64_t n, int each, float *out)
{
    for (int64_t g = 0; g < n; g += each, out += TILE) {
        __m256 sum = _mm256_setzero_ps();
        for (int i = 0; i < WE_MIN(each, n - g); i++, sums += TILE) sum = _mm256_add_ps(sum, _mm256_loadu_ps(sums));
        _mm256_storeu_ps(out, sum);
    }
}

static void sums_of_16(const int8_t *x, const float *scales, int64_t n_scales, float *out)
{
    for (int64_t g = 0; g < 2 * n_scales; g++, out += TILE) {
        __m256i sum = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++, x += 4 * TILE) {
            const __m256i v = _mm256_load_si256((const __m256i *)(const void *)x);
            const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), v);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
        _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(scales + g / 2 * TILE)));
    }
}

static void put(float (*from)[ROWS], int64_t n, int64_t n_rows, float *y, int64_t y_stride, bool add)
{
    for (int64_t t = 0; t < n; t++, y += y_stride) {
        int64_t r = 0;
        for (; r + 8 <= n_rows; r += 8) {
            __m256 v = _mm256_load_ps(from[t] + r);
            if (add) v = _mm256_add_ps(v, _mm256_loadu_ps(y + r));
            _mm256_storeu_ps(y + r, v);
        }
        for (; r < n_rows; r++) y[r] = (add ? y[r] : 0.0f) + from[t][r];
    }
}

#endif
