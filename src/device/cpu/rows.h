/* SPDX-License-Identifier: Apache-2.0
 * rows.h - a row of any matrix as float32, in plain C that compilers turn into vectors. Included by the tables that have no
 * special code for it, so that it is compiled with their flags. Same bits as we_matrix_row_f32. */
#ifndef WE_CPU_ROWS_H
#define WE_CPU_ROWS_H

#include "device/cpu/kernels.h"

#define WE_INLINE static inline __attribute__((always_inline))

/* Eight codes are `bits` bytes; reads no more. */
WE_INLINE void we_unpack8(int bits, const uint8_t *p, uint8_t *out)
{
    uint64_t word = 0;
    memcpy(&word, p, (size_t)bits); /* little-endian, as all that have a table of their own */
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)(word >> (i * bits) & ((1u << bits) - 1));
}

WE_INLINE void we_affine_row(const we_matrix *w, int64_t row, int bits, float *out)
{
    const int size = w->quant.group_size;
    const uint8_t *codes = w->data + (size_t)row * we_matrix_row_bytes(w);
    for (int64_t c = 0; c < w->cols; c += 32, codes += 4 * bits, out += 32) {
        uint8_t q[32];
        for (int i = 0; i < 4; i++) we_unpack8(bits, codes + i * bits, q + 8 * i);
        const float scale = we_scale_f32(w, w->scales, row, c / size), bias = we_scale_f32(w, w->biases, row, c / size);
        for (int i = 0; i < 32; i++) out[i] = scale * (float)q[i] + bias;
    }
}

/* e4m3 bits moved to where a float32 has them are that number times 2^-120, subnormal ones included. */
WE_INLINE float we_e4m3_inline(uint8_t v)
{
    const uint32_t magnitude = v & 0x7fu;
    const uint32_t bits = (magnitude == 0x7f ? 0x7fc00000u : magnitude << 20) | (uint32_t)(v & 0x80) << 24;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f * 0x1p120f;
}

WE_INLINE void we_e4m3_row(const we_matrix *w, int64_t row, float *out)
{
    const uint8_t *codes = w->data + (size_t)row * (size_t)w->cols;
    for (int64_t c = 0; c < w->cols; c += 32) {
        const float scale = we_scale_f32(w, w->scales, row, c / 32);
        for (int i = 0; i < 32; i++) out[c + i] = we_e4m3_inline(codes[c + i]) * scale;
    }
}

WE_INLINE void we_e2m1_row(const we_matrix *w, int64_t row, float *out)
{
    const uint8_t *codes = w->data + (size_t)row * (size_t)(w->cols / 2);
    for (int64_t c = 0; c < w->cols; c += 16, codes += 8) {
        const float scale = we_scale_f32(w, w->scales, row, c / w->quant.group_size);
        for (int i = 0; i < 8; i++) {
            out[c + 2 * i] = we_e2m1_values[codes[i] & 15] * scale;
            out[c + 2 * i + 1] = we_e2m1_values[codes[i] >> 4] * scale;
        }
    }
}

static inline void we_row_f32_inline(const we_matrix *w, int64_t row, float *out)
{
    switch (w->quant.mode) {
    case WE_QUANT_MXFP8: we_e4m3_row(w, row, out); return;
    case WE_QUANT_MXFP4:
    case WE_QUANT_NVFP4: we_e2m1_row(w, row, out); return;
    case WE_QUANT_AFFINE: break;
    default: we_matrix_row_f32(w, row, out); return;
    }
    switch (w->quant.bits) {
    case 2: we_affine_row(w, row, 2, out); break;
    case 3: we_affine_row(w, row, 3, out); break;
    case 4: we_affine_row(w, row, 4, out); break;
    case 5: we_affine_row(w, row, 5, out); break;
    case 6: we_affine_row(w, row, 6, out); break;
    default: we_affine_row(w, row, 8, out); break;
    }
}

#endif
