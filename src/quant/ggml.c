/* SPDX-License-Identifier: Apache-2.0
 * ggml.c - ggml's block types, as GGUF files hold them: what a row of blocks means. Every type comes down to one form,
 *
 *     w = scale * (code - zero) - min
 *
 * with a code of 8 bits for each element, a scale and a min for each group of 16 or 32 neighbours, and a zero for the
 * type; computed in this order in float32 it gives the same bits as ggml's own dequantize_row functions (types without
 * a min subtract 0, which changes nothing). The layouts, in bytes; d, m and dmin are float16:
 *
 *     Q4_0   d 2, q 16                        IQ4_NL as Q4_0, codes through a table
 *     Q4_1   d 2, m 2, q 16                   MXFP4  e8m0 1, q 16 through e2m1's table
 *     Q5_0   d 2, fifth bits 4, q 16          Q8_0   d 2, q 32 (signed)
 *     Q5_1   d 2, m 2, fifth bits 4, q 16
 *     Q2_K   scales and mins 16 x (4 + 4 bits), q 64, d 2, dmin 2
 *     Q3_K   third bits 32, q 64, scales 12 (16 of 6 bits), d 2
 *     Q4_K   d 2, dmin 2, scales and mins 12 (8 x (6 + 6 bits)), q 128
 *     Q5_K   d 2, dmin 2, scales and mins 12, fifth bits 32, q 128
 *     Q6_K   low nibbles 128, upper two bits 64, scales 16 (signed), d 2
 *     IQ4_XS d 2, scales' upper bits 2, lower nibbles 4, q 128 through IQ4_NL's table
 *
 * In blocks of 32 the low nibbles are the first 16 elements, the high ones the others.
 * Source: ggml-quants.c and ggml-common.h of ggml-org/ggml; the vectors in tests/fixtures/ggml come from its Python
 * package. */
#include "quant/quant.h"

#include <assert.h>

#define SUPER 256 /* elements of a K block */

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return we_f16_to_f32(h);
}

/* ---- Blocks of 32 ---- */

static void nibbles(const uint8_t *q, uint8_t *codes)
{
    for (int i = 0; i < 16; i++) codes[i] = q[i] & 15;
    for (int i = 0; i < 16; i++) codes[16 + i] = q[i] >> 4;
}

/* Bit i of a byte to bit 4 of byte i: eight copies, each keeps its bit, and what is not zero carries into the top. */
static void fifth_bits(const uint8_t *p, uint8_t *codes)
{
    for (int b = 0; b < 4; b++) {
        uint64_t spread = (p[b] * UINT64_C(0x0101010101010101)) & UINT64_C(0x8040201008040201), old;
        spread = (spread + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 3 & UINT64_C(0x1010101010101010);
        uint8_t bytes[8];
        for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(spread >> (8 * i));
        memcpy(&spread, bytes, sizeof spread); /* the same on every machine */
        memcpy(&old, codes + 8 * b, sizeof old);
        old |= spread;
        memcpy(codes + 8 * b, &old, sizeof old);
    }
}

static void look_up(const uint8_t table[16], uint8_t *codes, int n)
{
    for (int i = 0; i < n; i++) codes[i] = table[codes[i]];
}

static void q4_0(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    scales[0] = half_at(p);
    mins[0] = 0;
    nibbles(p + 2, codes);
}

static void q4_1(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    scales[0] = half_at(p);
    mins[0] = -half_at(p + 2);
    nibbles(p + 4, codes);
}

static void q5_0(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    scales[0] = half_at(p);
    mins[0] = 0;
    nibbles(p + 6, codes);
    fifth_bits(p + 2, codes);
}

static void q5_1(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    scales[0] = half_at(p);
    mins[0] = -half_at(p + 2);
    nibbles(p + 8, codes);
    fifth_bits(p + 4, codes);
}

static void q8_0(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    scales[0] = half_at(p);
    mins[0] = 0;
    for (int i = 0; i < 32; i++) codes[i] = p[2 + i] ^ 0x80; /* + 128 */
}

/* IQ4_NL's values, 128 added. */
static const uint8_t iq4_codes[16] = { 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241 };

static void iq4_nl(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    q4_0(p, codes, scales, mins);
    look_up(iq4_codes, codes, 32);
}

/* Twice e2m1's values, 12 added; the scale is half of e8m0's to make up for it. */
static void mxfp4(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    static const uint8_t twice[16] = { 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0 };
    const uint32_t bits = p[0] < 2 ? 0x00200000u << p[0] : (uint32_t)(p[0] - 1) << 23;
    memcpy(scales, &bits, sizeof bits);
    mins[0] = 0;
    nibbles(p + 1, codes);
    look_up(twice, codes, 32);
}

/* ---- Blocks of 256 ---- */

/* 64 bytes of 2 bits: of each 32 bytes the lowest bits are the first 32 elements, and so on. */
static void two_bits(const uint8_t *q, uint8_t *codes)
{
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 4; k++)
            for (int i = 0; i < 32; i++) codes[128 * half + 32 * k + i] = q[32 * half + i] >> (2 * k) & 3;
}

/* 128 bytes of nibbles: of each 32 bytes the low ones are 32 elements, the high ones the next 32. */
static void nibbles_super(const uint8_t *q, uint8_t *codes)
{
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < 32; i++) codes[64 * k + i] = q[32 * k + i] & 15;
        for (int i = 0; i < 32; i++) codes[64 * k + 32 + i] = q[32 * k + i] >> 4;
    }
}

/* One more bit for each: bit k of byte i belongs to element 32 k + i. */
static void one_bit(const uint8_t *h, int shift, uint8_t *codes)
{
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) codes[32 * k + i] |= (uint8_t)((h[i] >> k & 1) << shift);
}

static void q2_k(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    const float d = half_at(p + 80), dmin = half_at(p + 82);
    for (int g = 0; g < 16; g++) {
        scales[g] = d * (float)(p[g] & 15);
        mins[g] = dmin * (float)(p[g] >> 4);
    }
    two_bits(p + 16, codes);
}

static void q3_k(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    const uint8_t *s = p + 96;
    const float d = half_at(p + 108);
    for (int g = 0; g < 16; g++) {
        const int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4, high = s[8 + g % 4] >> (2 * (g / 4)) & 3;
        scales[g] = d * (float)((low | high << 4) - 32);
        mins[g] = 0;
    }
    two_bits(p + 32, codes);
    one_bit(p, 2, codes); /* ggml takes 4 off where the bit is clear: zero is 4 */
}

/* Eight scales and mins of 6 bits in 12 bytes: the first four in the low 6 bits of bytes 0-3 and 4-7; of the others the low
 * 4 bits in bytes 8-11, the upper two above the first ones. */
static void scales_super(const uint8_t *p, float *scales, float *mins)
{
    const float d = half_at(p), dmin = half_at(p + 2);
    const uint8_t *q = p + 4;
    for (int g = 0; g < 8; g++) {
        const int scale = g < 4 ? q[g] & 63 : (q[g + 4] & 15) | (q[g - 4] >> 6) << 4;
        const int min = g < 4 ? q[g + 4] & 63 : q[g + 4] >> 4 | (q[g] >> 6) << 4;
        scales[g] = d * (float)scale;
        mins[g] = dmin * (float)min;
    }
}

static void q4_k(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    scales_super(p, scales, mins);
    nibbles_super(p + 16, codes);
}

static void q5_k(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    scales_super(p, scales, mins);
    nibbles_super(p + 48, codes);
    one_bit(p + 16, 4, codes);
}

/* Of each 128 elements: 64 bytes of nibbles, the low ones first; 32 bytes with the two upper bits of four elements. */
static void q6_k(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    const float d = half_at(p + 208);
    for (int g = 0; g < 16; g++) {
        scales[g] = d * (float)(int8_t)p[192 + g];
        mins[g] = 0;
    }
    for (int half = 0; half < 2; half++) {
        const uint8_t *low = p + 64 * half, *high = p + 128 + 32 * half;
        uint8_t *out = codes + 128 * half;
        for (int i = 0; i < 64; i++) out[i] = low[i] & 15;
        for (int i = 0; i < 64; i++) out[64 + i] = low[i] >> 4;
        for (int k = 0; k < 4; k++)
            for (int i = 0; i < 32; i++) out[32 * k + i] |= (uint8_t)((high[i] >> (2 * k) & 3) << 4);
    }
}

static void iq4_xs(const uint8_t *p, uint8_t *codes, float *scales, float *mins)
{
    const float d = half_at(p);
    const unsigned upper = (unsigned)(p[2] | p[3] << 8);
    for (int g = 0; g < 8; g++) {
        const unsigned scale = (p[4 + g / 2] >> (4 * (g % 2)) & 15u) | (upper >> (2 * g) & 3u) << 4;
        scales[g] = d * (float)((int)scale - 32);
        mins[g] = 0;
        nibbles(p + 8 + 16 * g, codes + 32 * g);
    }
    look_up(iq4_codes, codes, SUPER);
}

/* ---- Rows ---- */

static const struct {
    void (*unpack)(const uint8_t *p, uint8_t *codes, float *scales, float *mins); /* one block */
    int group, zero;
} types[WE_DTYPE_COUNT] = {
    [WE_GGML_Q4_0] = { q4_0, 32, 8 },    [WE_GGML_Q4_1] = { q4_1, 32, 0 },       [WE_GGML_Q5_0] = { q5_0, 32, 16 },
    [WE_GGML_Q5_1] = { q5_1, 32, 0 },    [WE_GGML_Q8_0] = { q8_0, 32, 128 },     [WE_GGML_Q2_K] = { q2_k, 16, 0 },
    [WE_GGML_Q3_K] = { q3_k, 16, 4 },    [WE_GGML_Q4_K] = { q4_k, 32, 0 },       [WE_GGML_Q5_K] = { q5_k, 32, 0 },
    [WE_GGML_Q6_K] = { q6_k, 16, 32 },   [WE_GGML_IQ4_NL] = { iq4_nl, 32, 128 }, [WE_GGML_IQ4_XS] = { iq4_xs, 32, 128 },
    [WE_GGML_MXFP4] = { mxfp4, 32, 12 },
};

int we_ggml_group(we_dtype dtype) { return types[dtype].group; }
int we_ggml_zero(we_dtype dtype) { return types[dtype].zero; }

void we_ggml_unpack_row(const we_matrix *m, int64_t row, uint8_t *codes, float *scales, float *mins)
{
    assert(m->quant.mode == WE_QUANT_GGML && types[m->dtype].unpack);
    const int block = we_dtype_block(m->dtype), groups = block / types[m->dtype].group;
    const size_t bytes = we_dtype_size(m->dtype);
    const uint8_t *p = m->data + (size_t)row * we_matrix_row_bytes(m);
    for (int64_t c = 0; c < m->cols; c += block, p += bytes, codes += block, scales += groups, mins += groups)
        types[m->dtype].unpack(p, codes, scales, mins);
}

void we_ggml_row_f32(const we_matrix *m, int64_t row, float *out)
{
    assert(m->quant.mode == WE_QUANT_GGML && types[m->dtype].unpack);
    const int block = we_dtype_block(m->dtype), group = types[m->dtype].group, zero = types[m->dtype].zero;
    const size_t bytes = we_dtype_size(m->dtype);
    const uint8_t *p = m->data + (size_t)row * we_matrix_row_bytes(m);
    uint8_t codes[SUPER];
    float scales[SUPER / 16], mins[SUPER / 16];
    for (int64_t c = 0; c < m->cols; c += block, p += bytes, out += block) {
        types[m->dtype].unpack(p, codes, scales, mins);
        for (int g = 0; g < block / group; g++)
            for (int i = g * group; i < (g + 1) * group; i++) {
                const float product = scales[g] * (float)(codes[i] - zero);
                out[i] = product - mins[g];
            }
    }
}
