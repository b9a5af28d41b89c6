/* SPDX-License-Identifier: Apache-2.0
 * few_rows.h - rows_of(): a row's product with up to four tokens, as a function for each packing and number of tokens, so that both are
 * constants inside. Included by the tables that go row by row (avx2_few.c, neon_q8.c), behind their `few` and their
 *
 *     row_few(const few *f, int64_t row, int64_t out, we_quant_mode mode, int bits, int n)
 */
#ifndef WE_CPU_FEW_ROWS_H
#define WE_CPU_FEW_ROWS_H

typedef void (*rows_fn)(const few *f, int64_t first, int64_t n_rows);
#define ROWS_FEW(name, mode, bits, n)                                                 \
    static void rows_##name##_##n(const few *f, int64_t first, int64_t n_rows)        \
    {                                                                                 \
        for (int64_t r = 0; r < n_rows; r++) row_few(f, first + r, r, mode, bits, n); \
    }
#define ROWS_EACH(name, mode, bits) \
    ROWS_FEW(name, mode, bits, 1)   \
    ROWS_FEW(name, mode, bits, 2) ROWS_FEW(name, mode, bits, 3) ROWS_FEW(name, mode, bits, 4)
ROWS_EACH(q2, WE_QUANT_AFFINE, 2)
ROWS_EACH(q3, WE_QUANT_AFFINE, 3)
ROWS_EACH(q4, WE_QUANT_AFFINE, 4)
ROWS_EACH(q5, WE_QUANT_AFFINE, 5)
ROWS_EACH(q6, WE_QUANT_AFFINE, 6)
ROWS_EACH(q8, WE_QUANT_AFFINE, 8)
ROWS_EACH(mx4, WE_QUANT_MXFP4, 4)
ROWS_EACH(nv4, WE_QUANT_NVFP4, 4)

static rows_fn rows_of(we_quant quant, int64_t n)
{
#define NAMES(name)                                                        \
    {                                                                      \
        rows_##name##_1, rows_##name##_2, rows_##name##_3, rows_##name##_4 \
    }
    static const rows_fn affine[9][FEW] = {
        [2] = NAMES(q2), [3] = NAMES(q3), [4] = NAMES(q4), [5] = NAMES(q5), [6] = NAMES(q6), [8] = NAMES(q8)
    };
    static const rows_fn mxfp4[FEW] = NAMES(mx4), nvfp4[FEW] = NAMES(nv4);
    if (quant.mode == WE_QUANT_MXFP4) return mxfp4[n - 1];
    if (quant.mode == WE_QUANT_NVFP4) return nvfp4[n - 1];
    return affine[quant.bits][n - 1];
}

#endif
