/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c
 * avx2_few.c - products of a few int8 activations with packed weights, row after row as they lie in memory, up to four tokens
 * at a time; more tokens pass over a block of rows that stays in the second cache. Many: avx2_q8.c.
 *
 *   4 bits  vpmaddubsw: unsigned codes times signed activations, pairs summed in 16 bits. Codes are at most 24 (e2m1 as
 *           2 * value + 12), so two such sums stay below 4 * 24 * 127: nothing saturates. Low nibbles meet the even
 *           activations, high ones the odd; those are separated once for all rows.
 *   others  vpmaddubsw would saturate at 8 bits, so codes and activations are widened to 16 bits for vpmaddwd, which is
 *           exact. Activations are widened once for all rows. */
#include "device/cpu/avx2_codes.h"

#define FEW 4         /* tokens at once */
#define BLOCK 256     /* columns of a step: 8 activation groups, one vector of their scales */
#define PREFETCH 1024 /* bytes ahead */

typedef struct few {
    const we_matrix *w;
    const int8_t *nibbles[FEW]; /* 4 bits: in each 64 the even ones, then the odd ones */
    const int16_t *wide[FEW];   /* others */
    const int32_t *start[FEW];  /* e2m1: [columns / 64, 8] minus 12 times the activations that meet in a lane */
    const float *scales[FEW], *sums[FEW];
    float *y[FEW];
    bool add;
} few;

/* ---- Scales ---- */

typedef struct block_scales {
    __m256 s, s2; /* of each of the 8 activation groups; nvfp4 has 16 in order */
} block_scales;

INLINE block_scales load_scales(const we_matrix *w, we_quant_mode mode, const uint8_t *row, int64_t g, int64_t n)
{
    const __m256 half = _mm256_set1_ps(0.5f); /* e2m1 codes are twice the value */
    block_scales b = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    if (mode == WE_QUANT_NVFP4) {
        b.s = _mm256_mul_ps(e4m3_n(row + g, WE_MIN(n, 8)), half);
        if (n > 8) b.s2 = _mm256_mul_ps(e4m3_n(row + g + 8, n - 8), half);
    } else if (mode == WE_QUANT_MXFP4) {
        b.s = _mm256_mul_ps(e8m0_n(row + g, n), half);
    } else {
        b.s = load_n(w->dtype, row + g * (w->dtype == WE_F32 ? 4 : 2), n);
        if (w->quant.group_size == 64) b.s = _mm256_permutevar8x32_ps(b.s, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
        if (w->quant.group_size == 128) b.s = _mm256_permutevar8x32_ps(b.s, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
    }
    return b;
}

/* ---- One row ---- */

INLINE __m256 nibbles_64(const few *f, we_quant_mode mode, int t, int64_t at, int k, __m256i even, __m256i odd,
                         block_scales ws, __m256 acc)
{
    const __m256i xe = _mm256_load_si256((const __m256i *)(const void *)(f->nibbles[t] + at));
    const __m256i xo = _mm256_load_si256((const __m256i *)(const void *)(f->nibbles[t] + at + 32));
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(even, xe), _mm256_maddubs_epi16(odd, xo));
    __m256i dot = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    if (is_e2m1(mode))
        dot = _mm256_add_epi32(dot, _mm256_load_si256((const __m256i *)(const void *)(f->start[t] + at / 8)));
    const __m256 xs = _mm256_loadu_ps(f->scales[t] + at / BLOCK * 8);
    const __m256i by_4 = _mm256_add_epi32(_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), _mm256_set1_epi32(2 * k));
    __m256 s;
    if (mode == WE_QUANT_NVFP4) {
        const __m256i by_2 =
            _mm256_add_epi32(_mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), _mm256_set1_epi32(4 * (k & 1)));
        s = _mm256_mul_ps(_mm256_permutevar8x32_ps(k < 2 ? ws.s : ws.s2, by_2), _mm256_permutevar8x32_ps(xs, by_4));
    } else {
        s = _mm256_permutevar8x32_ps(_mm256_mul_ps(ws.s, xs), by_4);
    }
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), s, acc);
}

INLINE __m256 codes_32(const few *f, int t, int64_t at, int k, __m256i a, __m256i b, block_scales ws, __m256 acc)
{
    const __m256i xa = _mm256_load_si256((const __m256i *)(const void *)(f->wide[t] + at));
    const __m256i xb = _mm256_load_si256((const __m256i *)(const void *)(f->wide[t] + at + 16));
    const __m256i dot = _mm256_add_epi32(_mm256_madd_epi16(a, xa), _mm256_madd_epi16(b, xb));
    const __m256 s = _mm256_mul_ps(ws.s, _mm256_loadu_ps(f->scales[t] + at / BLOCK * 8));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_permutevar8x32_ps(s, _mm256_set1_epi32(k)), acc);
}

/* For each block of 256 columns: scales; biases times the sums of the activations, 8 groups at once; codes, dot products, one
 * multiply-add with both scales. A block is copied where loads would reach behind the row. */
INLINE void row_few(const few *f, int64_t row, int64_t out, we_quant_mode mode, int bits, int n)
{
    const we_matrix *w = f->w;
    const int64_t cols = w->cols, size = w->quant.group_size;
    const size_t scale_bytes = (size_t)(cols / size) * (is_e2m1(mode) ? 1 : w->dtype == WE_F32 ? 4 : 2);
    const uint8_t *codes = w->data + (size_t)row * (size_t)(cols * bits / 8);
    const uint8_t *scales = w->scales + (size_t)row * scale_bytes;
    const uint8_t *biases = is_e2m1(mode) ? NULL : w->biases + (size_t)row * scale_bytes;
    const bool reaches_behind = bits != 4 && bits != 8;
    __m256 acc[FEW], acc2[FEW];
    UNROLL for (int t = 0; t < n; t++) acc[t] = acc2[t] = _mm256_setzero_ps();

    for (int64_t c = 0; c < cols; c += BLOCK, codes += BLOCK * bits / 8) {
        const int64_t left = WE_MIN(cols - c, BLOCK), g = c / size, n_scales = left / size;
        const uint8_t *p = codes;
        uint8_t tail[BLOCK + 16];
        if (left < BLOCK || (reaches_behind && (cols - c - BLOCK) * bits < 16 * 8)) {
            memset(tail, 0, sizeof tail);
            memcpy(tail, codes, (size_t)(left * bits / 8));
            p = tail;
        }
        const block_scales ws = load_scales(w, mode, scales, g, n_scales);
        if (!is_e2m1(mode)) {
            const __m256 bias = load_scales(w, mode, biases, g, n_scales).s;
            UNROLL for (int t = 0; t < n; t++) acc2[t] =
                _mm256_fmadd_ps(bias, _mm256_loadu_ps(f->sums[t] + c / WE_Q8_GROUP), acc2[t]);
        }
        if (bits == 4) {
            UNROLL for (int k = 0; k < 4; k++)
            {
                const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * k)),
                              nibble = _mm256_set1_epi8(15);
                if (k % 2 == 0) _mm_prefetch((const char *)codes + 32 * k + PREFETCH, _MM_HINT_T0);
                __m256i even = _mm256_and_si256(v, nibble), odd = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);
                if (is_e2m1(mode)) even = e2m1_bytes(even), odd = e2m1_bytes(odd);
                UNROLL for (int t = 0; t < n; t++) acc[t] =
                    nibbles_64(f, mode, t, c + 64 * k, k, even, odd, ws, acc[t]);
            }
        } else {
            UNROLL for (int k = 0; k < 8; k++)
            {
                const __m256i a = codes16(bits, p + 4 * bits * k), b = codes16(bits, p + 4 * bits * k + 2 * bits);
                if (k % 2 == 0) _mm_prefetch((const char *)codes + 4 * bits * k + PREFETCH, _MM_HINT_T0);
                UNROLL for (int t = 0; t < n; t++)
                {
                    if (k % 2)
                        acc[t] = codes_32(f, t, c + 32 * k, k, a, b, ws, acc[t]);
                    else
                        acc2[t] = codes_32(f, t, c + 32 * k, k, a, b, ws, acc2[t]);
                }
            }
        }
    }
    UNROLL for (int t = 0; t < n; t++) f->y[t][out] =
        (f->add ? f->y[t][out] : 0.0f) + sum8(_mm256_add_ps(acc[t], acc2[t]));
}

#include "device/cpu/few_rows.h"

/* ---- Activations in the order and width that the codes want ---- */

static void separate(few *f, int t, const int8_t *from, int64_t stride, uint8_t *scratch)
{
    int8_t *to = (int8_t *)scratch;
    int32_t *start = (int32_t *)(void *)(scratch + stride);
    const __m128i even_first = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    const __m256i ones = _mm256_set1_epi16(1), minus = _mm256_set1_epi32(-12);
    for (int64_t c = 0; c < stride; c += 64) {
        __m128i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = _mm_shuffle_epi8(_mm_load_si128((const __m128i *)(const void *)(from + c + 16 * i)), even_first);
        const __m256i even = _mm256_set_m128i(_mm_unpacklo_epi64(v[2], v[3]), _mm_unpacklo_epi64(v[0], v[1]));
        const __m256i odd = _mm256_set_m128i(_mm_unpackhi_epi64(v[2], v[3]), _mm_unpackhi_epi64(v[0], v[1]));
        _mm256_store_si256((__m256i *)(void *)(to + c), even);
        _mm256_store_si256((__m256i *)(void *)(to + c + 32), odd);
        const __m256i byte = _mm256_set1_epi8(1);
        const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(byte, even), _mm256_maddubs_epi16(byte, odd));
        const __m256i sums = _mm256_madd_epi16(pairs, ones);
        _mm256_store_si256((__m256i *)(void *)(start + c / 8), _mm256_mullo_epi32(sums, minus));
    }
    f->nibbles[t] = to;
    f->start[t] = start;
}

static void widen(few *f, int t, const int8_t *from, int64_t stride, uint8_t *scratch)
{
    int16_t *to = (int16_t *)(void *)scratch;
    for (int64_t c = 0; c < stride; c += 16)
        _mm256_store_si256((__m256i *)(void *)(to + c),
                           _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(const void *)(from + c))));
    f->wide[t] = to;
}

void we_avx2_few(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                 int64_t y_stride, bool add, void *scratch)
{
    const int64_t groups = x->stride / WE_Q8_GROUP;
    for (int64_t token = 0; token < n; token += FEW) {
        const int some = (int)WE_MIN(n - token, FEW);
        few f = { .w = w, .add = add };
        for (int t = 0; t < some; t++) {
            uint8_t *own = (uint8_t *)scratch + 2 * t * x->stride;
            const int8_t *values = x->values + (token + t) * x->stride;
            if (w->quant.bits == 4)
                separate(&f, t, values, x->stride, own);
            else
                widen(&f, t, values, x->stride, own);
            f.scales[t] = x->scales + (token + t) * groups;
            f.sums[t] = x->sums + (token + t) * groups;
            f.y[t] = y + (token + t) * y_stride;
        }
        rows_of(w->quant, some)(&f, first, n_rows);
    }
}
