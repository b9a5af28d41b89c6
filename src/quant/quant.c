/* SPDX-License-Identifier: Apache-2.0
 * quant.c - what a packed row means: sizes, codes, dequantized values. Quantizing: quantize.c; conversions: half.c;
 * ggml's blocks: ggml.c.
 * Plain loops over unaligned bytes; kernels in device/ are held to these. */
#include "quant/quant.h"

#include <assert.h>

/* ---- Modes ---- */

static const char *const mode_names[] = {
    [WE_QUANT_NONE] = "none",   [WE_QUANT_AFFINE] = "affine", [WE_QUANT_MXFP4] = "mxfp4",
    [WE_QUANT_MXFP8] = "mxfp8", [WE_QUANT_NVFP4] = "nvfp4",
};
static_assert(WE_COUNT(mode_names) == WE_QUANT_MODE_COUNT, "one name for each mode");

const char *we_quant_mode_name(we_quant_mode mode)
{
    if (mode == WE_QUANT_GGML) return "ggml";
    return (unsigned)mode < WE_QUANT_MODE_COUNT ? mode_names[mode] : "?";
}

bool we_quant_mode_parse(we_str name, we_quant_mode *mode)
{
    for (int i = WE_QUANT_AFFINE; i < WE_QUANT_MODE_COUNT; i++) /* a file never says "none" */
        if (we_str_is(name, mode_names[i])) {
            *mode = (we_quant_mode)i;
            return true;
        }
    return false;
}

bool we_quant_valid(we_quant q)
{
    switch (q.mode) {
    case WE_QUANT_AFFINE:
        return q.bits >= 2 && q.bits <= 8 && q.bits != 7 &&
               (q.group_size == 32 || q.group_size == 64 || q.group_size == 128);
    case WE_QUANT_MXFP4: return q.bits == 4 && q.group_size == 32;
    case WE_QUANT_MXFP8: return q.bits == 8 && q.group_size == 32;
    case WE_QUANT_NVFP4: return q.bits == 4 && q.group_size == 16;
    default: return false;
    }
}

/* ---- Sizes ---- */

size_t we_matrix_row_bytes(const we_matrix *m)
{
    if (m->quant.mode == WE_QUANT_NONE) return (size_t)m->cols * we_dtype_size(m->dtype);
    if (m->quant.mode == WE_QUANT_GGML) return (size_t)(m->cols / we_dtype_block(m->dtype)) * we_dtype_size(m->dtype);
    return (size_t)m->cols * (size_t)m->quant.bits / 8;
}

size_t we_matrix_row_scale_bytes(const we_matrix *m)
{
    if (m->quant.mode == WE_QUANT_NONE || m->quant.mode == WE_QUANT_GGML) return 0;
    return (size_t)(m->cols / m->quant.group_size) * (m->quant.mode == WE_QUANT_AFFINE ? we_dtype_size(m->dtype) : 1);
}

uint64_t we_matrix_bytes(const we_matrix *m)
{
    const uint64_t n_scales = m->quant.mode == WE_QUANT_AFFINE ? 2 : 1; /* biases are as many */
    return (uint64_t)m->rows * (we_matrix_row_bytes(m) + n_scales * we_matrix_row_scale_bytes(m));
}

we_matrix we_matrix_rows(const we_matrix *m, int64_t first, int64_t n)
{
    assert(first >= 0 && n >= 0 && first <= m->rows && n <= m->rows - first);
    we_matrix rows = *m;
    rows.rows = n;
    rows.data += (size_t)first * we_matrix_row_bytes(m);
    if (rows.scales) rows.scales += (size_t)first * we_matrix_row_scale_bytes(m);
    if (rows.biases) rows.biases += (size_t)first * we_matrix_row_scale_bytes(m);
    return rows;
}

/* ---- Codes ---- */

/* A code spans at most two bytes. The second is read only where the code reaches into it: it may lie behind the row. */
static void unpack(int bits, const uint8_t *in, int64_t n, uint8_t *out)
{
    const unsigned mask = (1U << bits) - 1;
    for (int64_t i = 0; i < n; i++) {
        const size_t bit = (size_t)i * (size_t)bits;
        const uint8_t *p = in + bit / 8;
        const int shift = (int)(bit % 8);
        unsigned code = (unsigned)p[0] >> shift;
        if (shift + bits > 8) code |= (unsigned)p[1] << (8 - shift);
        out[i] = (uint8_t)(code & mask);
    }
}

void we_quant_unpack_row(const we_matrix *m, int64_t row, uint8_t *out)
{
    assert(m->quant.mode != WE_QUANT_NONE);
    unpack(m->quant.bits, m->data + (size_t)row * we_matrix_row_bytes(m), m->cols, out);
}

/* 8 codes are `bits` bytes. */
static void pack_eights(int bits, const uint8_t *codes, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i += 8, out += bits) {
        uint64_t held = 0;
        for (int k = 0; k < 8; k++) held |= (uint64_t)codes[i + k] << (bits * k);
        for (int k = 0; k < bits; k++) out[k] = (uint8_t)(held >> (8 * k));
    }
}

void we_quant_pack_row(int bits, const uint8_t *codes, int64_t cols, uint8_t *out)
{
    assert(bits >= 1 && bits <= 8 && cols * bits % 32 == 0);
    for (int64_t i = 0; i < cols; i++) assert(codes[i] >> bits == 0);
    if (bits == 4) {
        for (int64_t i = 0; i < cols / 2; i++) out[i] = (uint8_t)(codes[2 * i] | codes[2 * i + 1] << 4);
    } else if (bits == 8) {
        memcpy(out, codes, (size_t)cols);
    } else {
        pack_eights(bits, codes, cols / 8 * 8, out);
        unsigned held = 0; /* bits that wait for their byte to fill up */
        int n_held = 0;
        out += cols / 8 * bits;
        for (int64_t i = cols / 8 * 8; i < cols; i++) {
            held |= (unsigned)codes[i] << n_held;
            for (n_held += bits; n_held >= 8; n_held -= 8, held >>= 8) *out++ = (uint8_t)held;
        }
    }
}

/* ---- Values ---- */

void we_to_f32(we_dtype dtype, const void *src, size_t n, float *out)
{
    assert(dtype == WE_F32 || dtype == WE_F16 || dtype == WE_BF16);
    const uint8_t *p = src;
    uint16_t half;
    switch (dtype) {
    case WE_F32:
        if (n) memcpy(out, p, n * sizeof(*out));
        break;
    case WE_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, p + 2 * i, sizeof half);
            out[i] = we_f16_to_f32(half);
        }
        break;
    case WE_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, p + 2 * i, sizeof half);
            out[i] = we_bf16_to_f32(half);
        }
        break;
    default: break;
    }
}

float we_scale_f32(const we_matrix *m, const uint8_t *base, int64_t row, int64_t group)
{
    assert(m->quant.mode != WE_QUANT_NONE);
    const uint8_t *scales = base + (size_t)row * we_matrix_row_scale_bytes(m);
    float scale = 0;
    switch (m->quant.mode) {
    case WE_QUANT_AFFINE: we_to_f32(m->dtype, scales + (size_t)group * we_dtype_size(m->dtype), 1, &scale); break;
    case WE_QUANT_MXFP4:
    case WE_QUANT_MXFP8: scale = we_e8m0_to_f32(scales[group]); break;
    case WE_QUANT_NVFP4: scale = we_e4m3_to_f32(scales[group]); break;
    default: break;
    }
    return scale;
}

/* Product, then sum, each rounded: what mx.dequantize gives with float32 scales and biases. */
static void dequantize_group(const we_matrix *m, int64_t row, int64_t group, const uint8_t *codes, float *out)
{
    const int n = m->quant.group_size;
    const float scale = we_scale_f32(m, m->scales, row, group);
    if (m->quant.mode == WE_QUANT_AFFINE) {
        const float bias = we_scale_f32(m, m->biases, row, group);
        for (int i = 0; i < n; i++) {
            const float product = scale * (float)codes[i];
            out[i] = product + bias;
        }
    } else if (m->quant.mode == WE_QUANT_MXFP8) {
        for (int i = 0; i < n; i++) out[i] = scale * we_e4m3_to_f32(codes[i]);
    } else {
        for (int i = 0; i < n; i++) out[i] = scale * we_e2m1_values[codes[i]];
    }
}

void we_matrix_row_f32(const we_matrix *m, int64_t row, float *out)
{
    assert(row >= 0 && row < m->rows);
    const uint8_t *data = m->data + (size_t)row * we_matrix_row_bytes(m);
    if (m->quant.mode == WE_QUANT_NONE) {
        we_to_f32(m->dtype, data, (size_t)m->cols, out);
        return;
    }
    if (m->quant.mode == WE_QUANT_GGML) {
        we_ggml_row_f32(m, row, out);
        return;
    }
    assert(we_quant_valid(m->quant) && m->cols % m->quant.group_size == 0);
    const int group_size = m->quant.group_size;
    const size_t group_bytes = (size_t)(group_size * m->quant.bits / 8);
    uint8_t codes[128]; /* the largest group */
    for (int64_t g = 0; g < m->cols / group_size; g++) {
        unpack(m->quant.bits, data + (size_t)g * group_bytes, group_size, codes);
        dequantize_group(m, row, g, codes, out + g * group_size);
    }
}
