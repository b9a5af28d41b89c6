/* SPDX-License-Identifier: Apache-2.0
 * quant.h - number formats and packings of weights: conversions of half floats, and MLX's quantizations: what a packed
 * row means, packing and unpacking in plain C. This is the reference that kernels are held to; devices have fast
 * versions.
 * Source: MLX's documentation of mx.quantize; OCP Microscaling Formats (MX) v1.0 for e2m1, e4m3, e8m0.
 *
 * A packed row is one little-endian bit stream of uint32 words: element i has the bits [i * bits, (i + 1) * bits), also
 * for 3, 5 and 6 bits, crossing words. One scale (and bias) stands for `group_size` neighbours of a row:
 *
 *     affine  w = scale * q + bias     q unsigned; scale (of any sign) and bias have the model's float type
 *     mxfp4   w = 2^(s - 127) * e2m1   groups of 32, s uint8
 *     mxfp8   w = 2^(s - 127) * e4m3   groups of 32, s uint8
 *     nvfp4   w = e4m3(s) * e2m1       groups of 16, s uint8
 *
 * Beside MLX's packings stand ggml's block types, where scales lie among the codes (ggml.c). */
#ifndef WE_QUANT_H
#define WE_QUANT_H

#include "format/format.h"

typedef enum we_quant_mode {
    WE_QUANT_NONE,
    WE_QUANT_AFFINE,
    WE_QUANT_MXFP4,
    WE_QUANT_MXFP8,
    WE_QUANT_NVFP4,
    WE_QUANT_MODE_COUNT,                /* of what a configuration can name */
    WE_QUANT_GGML = WE_QUANT_MODE_COUNT /* blocks of the matrix's dtype; bits 0, group_size the block's elements */
} we_quant_mode;

typedef struct we_quant {
    we_quant_mode mode;
    int bits;
    int group_size;
} we_quant;

const char *we_quant_mode_name(we_quant_mode mode); /* "affine", as config.json has it */
bool we_quant_mode_parse(we_str name, we_quant_mode *mode);
bool we_quant_valid(
    we_quant quant); /* affine: bits 2,3,4,5,6,8 and groups 32,64,128; the others: their one setting; not ggml's */

/* A matrix [rows, cols] as it lies in memory: plain (quant.mode NONE, elements of `dtype`) or packed (`data` holds the
 * codes, `dtype` is that of scales and biases when affine) or blocks of ggml's (mode GGML, `dtype` says which, no scales
 * or biases of their own). Pointers may be unaligned. A vector is one row. */
typedef struct we_matrix {
    int64_t rows, cols;
    we_quant quant;
    we_dtype dtype; /* F32, F16, BF16; ggml's */
    const uint8_t *data, *scales, *biases;
} we_matrix;

size_t we_matrix_row_bytes(const we_matrix *m);       /* of `data` */
size_t we_matrix_row_scale_bytes(const we_matrix *m); /* of `scales`; the same of `biases` where there are any */
uint64_t we_matrix_bytes(const we_matrix *m);         /* all of it */
/** Rows [first, first + n) of m: no copy. Needs first + n <= rows. */
we_matrix we_matrix_rows(const we_matrix *m, int64_t first, int64_t n);

/** One row as float32: out[cols]. The reference for every fast path. */
void we_matrix_row_f32(const we_matrix *m, int64_t row, float *out);
/** Codes of one packed row, one byte an element: out[cols]. */
void we_quant_unpack_row(const we_matrix *m, int64_t row, uint8_t *out);
/** Pack codes; out has cols * bits / 8 bytes. Needs cols * bits % 32 == 0. */
void we_quant_pack_row(int bits, const uint8_t *codes, int64_t cols, uint8_t *out);
/** Quantize one row as mx.quantize does on a CPU, bit for bit.
 * dtype : the type that the values came from, each one exact in it: MLX computes in it, and affine scales and biases
 *         have it.
 * data, scales, biases: out, sized as above; biases is NULL unless affine. cols % group_size == 0. */
void we_quant_row(we_quant quant, we_dtype dtype, const float *values, int64_t cols, uint8_t *data, uint8_t *scales,
                  uint8_t *biases);

/* ggml's blocks: w = scale * (code - zero) - min, computed in this order; a scale and a min for each group. */
int we_ggml_group(we_dtype dtype); /* 16 or 32; 0: none of ggml's types */
int we_ggml_zero(we_dtype dtype);
void we_ggml_unpack_row(const we_matrix *m, int64_t row, uint8_t *codes, float *scales, float *mins);
void we_ggml_row_f32(const we_matrix *m, int64_t row, float *out); /* the same bits as ggml's own functions */

/* Half floats, exact; to half: round to nearest, ties to even; overflow gives infinity. */
float we_f16_to_f32(uint16_t h);
uint16_t we_f32_to_f16(float f);
static inline float we_bf16_to_f32(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
uint16_t we_f32_to_bf16(float f); /* NaN stays NaN */
float we_e4m3_to_f32(uint8_t v);  /* OCP E4M3: bias 7, subnormals, no infinity */
float we_e8m0_to_f32(uint8_t v);  /* 2^(v - 127); 255 is NaN */
extern const float we_e2m1_values[16];
/** n elements of a plain dtype (F32, F16, BF16), possibly unaligned, as float32. */
void we_to_f32(we_dtype dtype, const void *src, size_t n, float *out);
/** One scale or bias of a packed matrix as float32. */
float we_scale_f32(const we_matrix *m, const uint8_t *base, int64_t row, int64_t group);

#endif
