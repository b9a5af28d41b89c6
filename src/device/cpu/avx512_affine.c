/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mfma -mf16c
 * avx512_affine.c - many tokens times affine codes in groups of 64 or 128, what most models are: panels as in avx512_q8.c, with
 * less to do beside the dot products, which share their two pipes with every multiplication.
 *
 * Two neighbours' sums over 32 columns, in 16 bits each, times the activations' scales, are one instruction instead of two
 * multiplications; those scales are integers for it, 15 bits of a unit that the whole row shares. The upper halves of two such products meet
 * the weights' scales in the same way, integers of 12 bits of a unit that 512 columns of a row share, as do the activations' sums the
 * biases. All of these errors are far below that of the activations' own rounding. Sums of codes of up to 4 bits fit once the
 * codes are taken less 8, which is subtracted where a sum begins. Those of wider codes lose their lowest bits: some thirteenth
 * of what the activations' rounding leaves uncertain. Per 64 columns of 16 rows and a token: 16 dot products of bytes, two of
 * words; shifting and blending go to the other pipes. */
#include "device/cpu/ahead.h"
#include "device/cpu/avx512.h"

#include <assert.h>

#define BLOCK WE_Q8_PAD /* columns of a panel */
#define ROWS WE_PANEL_ROWS
#define TILE WE_Q8_TILE
#define RUN 4    /* tokens of one run through the panel: 16 integer sums and 8 results in registers */
#define CENTER 8 /* what codes of up to 4 bits are taken less, once their middle is that */
#define CHUNK WE_PANEL_TOKENS
#define UPPER 0xaaaaaaaau /* the upper halves of words */
#define MOST 32767        /* the greatest factor of a unit */
#define PRODUCT_BITS 16   /* that 64 columns' sum loses before it meets the weight's scale */
#define SUM_BITS 13       /* and that of the activations alone, before it meets the bias */
#define MOST_SCALE 4095   /* 8 x (2^15 + 2^15) of it still fit in 32 bits */

typedef struct panel {
    uint8_t codes[2][BLOCK / 4][64];   /* [half][4 columns][16 rows x 4] */
    int32_t scales[BLOCK / 128][ROWS]; /* of two neighbouring 64s, in 16 bits each: units of PRODUCT_BITS */
    int32_t biases[BLOCK / 128][ROWS]; /* likewise, and what codes are taken less times the scale: units of SUM_BITS */
    float units[ROWS];
} panel;

typedef float results[CHUNK][ROWS]; /* of a panel's rows, in the tokens' units */

typedef struct desk { /* in scratch */
    panel panel;
    results y[WE_PANEL_GROUP];
} desk;
static_assert(sizeof(desk) <= WE_PANEL_BYTES, "fits the scratch");

bool we_avx512_affine_takes(we_quant quant) { return quant.mode == WE_QUANT_AFFINE && quant.group_size >= 64; }

/* The lowest bits that a sum of unsigned codes loses: 32 x 255 x 127 >> 5 is less than 2^15. */
INLINE int lost_bits(int bits) { return bits > 4 ? bits - 3 : 0; }
/* What codes mean 0 with. */
INLINE int middle_of(int bits) { return bits > 4 ? 0 : 1 << (bits - 1); }

/* ---- Activations ---- */

/* Of rows [row, row + RUN) at columns from `c` on. */
INLINE we_q8_piece *piece_of(const we_q8 *x, int64_t row, int64_t c)
{
    return x->pieces + row / RUN * (x->stride / 128) + c / 128;
}

/* The greatest scale of each row in units of 1 / MOST: NaN where one is; *factor: what makes a scale an integer. */
INLINE __m256 units8(const float *scales, int64_t groups, __m256 *factor)
{
    __m256 largest = _mm256_setzero_ps();
    __mmask8 broken = 0;
    for (int64_t g = 0; g < groups; g++) {
        const __m256 s = _mm256_load_ps(scales + g * TILE);
        broken |= _mm256_cmp_ps_mask(s, s, _CMP_UNORD_Q);
        largest = _mm256_max_ps(largest, s);
    }
    const __mmask8 some = _mm256_cmp_ps_mask(largest, _mm256_setzero_ps(), _CMP_GT_OQ);
    const __m256 most = _mm256_set1_ps(MOST);
    *factor = _mm256_maskz_div_ps(some, most, largest);
    return _mm256_mask_mov_ps(_mm256_div_ps(largest, most), broken, _mm256_set1_ps(NAN));
}

/* What eight rows have becomes that of two pieces' rows. */
INLINE void halve(void *first, void *second, __m256i rows)
{
    _mm_store_si128(first, _mm256_castsi256_si128(rows));
    _mm_store_si128(second, _mm256_extracti128_si256(rows, 1));
}

/* The low halves of words side by side, a's in the low ones. */
INLINE __m256i pair8(__m256i a, __m256i b) { return _mm256_mask_mov_epi16(a, 0xaaaa, _mm256_slli_epi32(b, 16)); }

/* A group of two pieces' codes; gives the sums of the rows. */
INLINE __m256i halve_codes(we_q8_piece *first, we_q8_piece *second, int64_t h, const int8_t *codes)
{
    __m512i sum = _mm512_setzero_si512();
    UNROLL for (int i = 0; i < 4; i += 2)
    {
        const __m512i a = _mm512_load_si512(codes + 64 * i), b = _mm512_load_si512(codes + 64 * i + 64);
        _mm512_store_si512(first->codes[8 * h + 2 * i], _mm512_shuffle_i64x2(a, b, 0x88));
        _mm512_store_si512(second->codes[8 * h + 2 * i], _mm512_shuffle_i64x2(a, b, 0xdd));
        sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), a), _mm512_set1_epi8(1), b);
    }
    return _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
}

/* One tile's rows get their units and pieces. Reads tiles and tile_scales. */
void we_avx512_q8_join(const we_q8 *x, int64_t first)
{
    static_assert(TILE == 2 * RUN, "a tile's rows are two runs");
    const int64_t groups = x->stride / WE_Q8_GROUP;
    const int8_t *codes = x->tiles + first * x->stride;
    const float *scales = x->tile_scales + first * groups;
    we_q8_piece *a = piece_of(x, first, 0), *b = piece_of(x, first + RUN, 0);
    __m256 factor;
    _mm256_storeu_ps(x->units + first, units8(scales, groups, &factor));
    for (int64_t g = 0; g < groups; g += 4, a++, b++) {
        __m256i sums[2];
        for (int i = 0; i < 2; i++) {
            __m256i m[2], start[2];
            for (int h = 0; h < 2; h++, codes += TILE * WE_Q8_GROUP) {
                const int at = 2 * i + h;
                start[h] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(halve_codes(a, b, at, codes), 3));
                halve(a->starts[at], b->starts[at], start[h]);
                m[h] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(scales + (g + at) * TILE), factor));
            }
            halve(a->pairs[i], b->pairs[i], pair8(m[0], m[1]));
            const __m256i eight =
                _mm256_add_epi32(_mm256_mullo_epi32(m[0], start[0]), _mm256_mullo_epi32(m[1], start[1]));
            const __m256i sum = _mm256_sub_epi32(_mm256_set1_epi32(1 << (SUM_BITS + 2)), eight); /* to nearest */
            sums[i] = _mm256_srai_epi32(sum, SUM_BITS + 3);
        }
        halve(a->sums, b->sums, pair8(sums[0], sums[1]));
    }
}

void we_avx512_q8_tile(const we_q8 *x, int64_t first, int64_t n)
{
    we_avx2_q8_tile(x, first, n);
    we_avx512_q8_join(x, first);
}

/* Of 8 rows at once, what we_q8_scale_of gives. */
INLINE __m256 scales8(__m256i largest_bits, __m256 *inverse)
{
    const __m256 largest = _mm256_castsi256_ps(largest_bits), most = _mm256_set1_ps(127);
    const __mmask8 finite = _mm256_cmplt_epu32_mask(largest_bits, _mm256_set1_epi32(0x7f800000));
    const __mmask8 some = _mm256_cmp_ps_mask(largest, _mm256_set1_ps(1e-30f), _CMP_GE_OQ);
    *inverse = _mm256_maskz_div_ps(finite & some, most, largest);
    return _mm256_mask_mov_ps(_mm256_maskz_div_ps(some, largest, most), (__mmask8)~finite, _mm256_set1_ps(NAN));
}

void we_avx512_q8_group(const we_q8 *x, int64_t n, int64_t group, const float *columns, int64_t stride)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    for (int64_t first = 0; first < n; first += TILE, columns += TILE * stride) {
        const int64_t rows = WE_MIN(n - first, TILE), at = first * (x->stride / WE_Q8_GROUP) + group * TILE;
        __m512 a[TILE], b[TILE];
        __m256i v[TILE];
        UNROLL for (int i = 0; i < TILE; i++)
        {
            const __mmask16 there = i < rows ? 0xffff : 0;
            a[i] = _mm512_maskz_loadu_ps(there, columns + i * stride);
            b[i] = _mm512_maskz_loadu_ps(there, columns + i * stride + 16);
            const __m512i most = _mm512_max_epu32(_mm512_and_si512(magnitude, _mm512_castps_si512(a[i])),
                                                  _mm512_and_si512(magnitude, _mm512_castps_si512(b[i])));
            v[i] = _mm256_max_epu32(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64(most, 1));
        }
        transpose8(v);
        UNROLL for (int i = 4; i; i /= 2) UNROLL for (int j = 0; j < i; j++) v[j] = _mm256_max_epu32(v[j], v[j + i]);
        __m256 inverse;
        const __m256 scale = scales8(v[0], &inverse);
        _Alignas(32) float factors[TILE];
        _mm256_store_ps(factors, inverse);
        UNROLL for (int i = 0; i < TILE; i++)
        {
            const __m512 factor = _mm512_set1_ps(factors[i]);
            const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a[i], factor));
            const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b[i], factor));
            v[i] = _mm256_set_m128i(_mm512_cvtepi32_epi8(qb), _mm512_cvtepi32_epi8(qa));
        }
        transpose8(v);
        __m256i sum = _mm256_setzero_si256();
        UNROLL for (int i = 0; i < TILE; i++)
        {
            _mm256_store_si256((__m256i *)(void *)(x->tiles + at * WE_Q8_GROUP + 32 * i), v[i]);
            sum = _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(1), v[i]);
        }
        _mm256_store_ps(x->tile_scales + at, scale);
        _mm256_store_ps(x->tile_sums + at, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum)));
    }
}

/* ---- Weights ---- */

/* 4 bits: words of eight codes are brought to their lanes first, then split, which costs half of the shuffles. `whole`: all
 * rows and columns of the panel exist. */
INLINE void pack_nibbles(panel *out, const uint8_t *from, size_t row_bytes, int64_t n_rows, int64_t cols, bool whole)
{
    const __m512i low = _mm512_set1_epi64(0x2c2824200c080400), high = _mm512_set1_epi64(0x3c3834301c181410);
    const __m512i nibble = _mm512_set1_epi8(15);
    for (int64_t half = 0; half < 2; half++, from += 16 * row_bytes)
        for (int64_t at = 0; at < cols; at += 128) {
            __m512i v[16];
            const uint8_t *p = from + at / 2;
            const __mmask64 there = mask64((cols - at) / 2);
            UNROLL for (int r = 0; r < 16; r++, p += row_bytes) v[r] =
                whole ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(16 * half + r < n_rows ? there : 0, p);
            transpose16(v);
            uint8_t(*to)[64] = out->codes[half] + at / 4;
            UNROLL for (int i = 0; i < 16; i++)
            {
                _mm512_store_si512(to[2 * i], _mm512_and_si512(_mm512_multishift_epi64_epi8(low, v[i]), nibble));
                _mm512_store_si512(to[2 * i + 1], _mm512_and_si512(_mm512_multishift_epi64_epi8(high, v[i]), nibble));
            }
        }
}

INLINE void pack_bits(panel *out, const uint8_t *from, size_t row_bytes, int64_t n_rows, int64_t cols, int bits,
                      bool whole)
{
    const __m512i up = _mm512_set1_epi8((char)(bits > 4 ? 0 : CENTER - middle_of(bits)));
    for (int64_t half = 0; half < 2; half++, from += 16 * row_bytes)
        for (int64_t at = 0; at < cols; at += 64) {
            __m512i v[16];
            const uint8_t *p = from + at * bits / 8;
            UNROLL for (int r = 0; r < 16; r++, p += row_bytes) v[r] =
                whole || 16 * half + r < n_rows ? codes64(bits, p) : _mm512_setzero_si512();
            transpose16(v);
            UNROLL for (int i = 0; i < 16; i++)
                _mm512_store_si512(out->codes[half][at / 4 + i], _mm512_add_epi8(v[i], up));
        }
}

/* The low or the high half of each word. */
INLINE __m512 half_floats(we_dtype dtype, __m512i words, bool high)
{
    if (dtype == WE_F16) return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(high ? _mm512_srli_epi32(words, 16) : words));
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
    return _mm512_castsi512_ps(high ? _mm512_and_si512(words, upper) : _mm512_slli_epi32(words, 16));
}

typedef struct group_floats { /* [group of 64 columns][row] */
    _Alignas(64) float scales[BLOCK / 64][ROWS];
    float biases[BLOCK / 64][ROWS];
} group_floats;

INLINE void put_scales(group_floats *out, int64_t group, int64_t each, int64_t half, __m512 scale, __m512 bias)
{
    for (int64_t i = group * each; i < (group + 1) * each; i++) {
        _mm512_store_ps(out->scales[i] + half, scale);
        _mm512_store_ps(out->biases[i] + half, bias);
    }
}

/* Up to eight halves are four words: a row's scales, its biases, and the same of the row 16 further are turned at once. */
INLINE void pack_halves(group_floats *out, we_dtype dtype, const uint8_t *scales, const uint8_t *biases,
                        size_t row_bytes, int64_t n_rows, int64_t n, int64_t each)
{
    const __mmask8 there = (__mmask8)mask16(n);
    __m512i v[16];
    UNROLL for (int r = 0; r < 16; r++, scales += row_bytes, biases += row_bytes)
    {
        const __mmask8 m0 = r < n_rows ? there : 0, m1 = r + 16 < n_rows ? there : 0;
        v[r] = _mm512_castsi128_si512(_mm_maskz_loadu_epi16(m0, scales));
        v[r] = _mm512_inserti32x4(v[r], _mm_maskz_loadu_epi16(m0, biases), 1);
        v[r] = _mm512_inserti32x4(v[r], _mm_maskz_loadu_epi16(m1, scales + 16 * row_bytes), 2);
        v[r] = _mm512_inserti32x4(v[r], _mm_maskz_loadu_epi16(m1, biases + 16 * row_bytes), 3);
    }
    transpose16(v);
    for (int64_t g = 0; g < n; g++) UNROLL for (int h = 0; h < 2; h++)
        {
            const __m512i *words = v + 8 * h + g / 2;
            put_scales(out, g, each, 16 * h, half_floats(dtype, words[0], g % 2), half_floats(dtype, words[4], g % 2));
        }
}

INLINE void pack_floats(group_floats *out, const uint8_t *scales, const uint8_t *biases, size_t row_bytes,
                        int64_t n_rows, int64_t n, int64_t each)
{
    for (int64_t half = 0; half < ROWS; half += 16) {
        __m512i v[16];
        for (int64_t r = 0; r < 16; r++) {
            const size_t row = (size_t)(half + r) * row_bytes;
            const __mmask8 there = half + r < n_rows ? (__mmask8)mask16(n) : 0;
            const __m256 s = _mm256_maskz_loadu_ps(there, scales + row), b = _mm256_maskz_loadu_ps(there, biases + row);
            v[r] = _mm512_castps_si512(_mm512_insertf32x8(_mm512_castps256_ps512(s), b, 1));
        }
        transpose16(v);
        for (int64_t g = 0; g < n; g++)
            put_scales(out, g, each, half, _mm512_castsi512_ps(v[g]), _mm512_castsi512_ps(v[8 + g]));
    }
}

static void read_scales(group_floats *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    const int64_t n = cols / w->quant.group_size, each = w->quant.group_size / 64;
    const size_t row_bytes = we_matrix_row_scale_bytes(w);
    const size_t at =
        (size_t)first * row_bytes + (size_t)(c / w->quant.group_size * we_scale_size(WE_QUANT_AFFINE, w->dtype));
    const uint8_t *scales = w->scales + at, *biases = w->biases + at;
    switch (w->dtype) {
    case WE_F32: pack_floats(out, scales, biases, row_bytes, n_rows, n, each); break;
    case WE_F16: pack_halves(out, WE_F16, scales, biases, row_bytes, n_rows, n, each); break;
    default: pack_halves(out, WE_BF16, scales, biases, row_bytes, n_rows, n, each); break;
    }
}

/* Two vectors of integers as halves of words. */
INLINE __m512i pair16(__m512 low, __m512 high)
{
    return _mm512_mask_mov_epi16(_mm512_cvtps_epi32(low), UPPER, _mm512_slli_epi32(_mm512_cvtps_epi32(high), 16));
}

/* Scales and biases become integers of what their row's greatest is worth MOST_SCALE of: within the panel, 512 columns, they differ
 * from what they were by 1/8190 of the greatest weight at most. */
static void pack_scales(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    group_floats f;
    read_scales(&f, w, first, n_rows, c, cols);
    const int64_t n = cols / 64;
    const int lost = lost_bits(w->quant.bits);
    const __m512 center = _mm512_set1_ps((float)middle_of(w->quant.bits)),
                 product = _mm512_set1_ps((float)(1 << (lost + PRODUCT_BITS)));
    const __m512 sum = _mm512_set1_ps(1 << SUM_BITS), most = _mm512_set1_ps(MOST_SCALE);
    for (int64_t half = 0; half < ROWS; half += 16) {
        __m512 scales[BLOCK / 64], biases[BLOCK / 64], largest = _mm512_setzero_ps();
        __mmask16 broken = 0;
        UNROLL for (int64_t i = 0; i < BLOCK / 64; i++)
        {
            const __mmask16 there = i < n ? 0xffff : 0;
            const __m512 s = _mm512_maskz_load_ps(there, f.scales[i] + half);
            const __m512 b = _mm512_fmadd_ps(s, center, _mm512_maskz_load_ps(there, f.biases[i] + half));
            scales[i] = _mm512_mul_ps(s, product);
            biases[i] = _mm512_mul_ps(b, sum);
            broken |= _mm512_cmp_ps_mask(s, b, _CMP_UNORD_Q);
            largest = _mm512_max_ps(largest, _mm512_max_ps(_mm512_abs_ps(scales[i]), _mm512_abs_ps(biases[i])));
        }
        const __mmask16 some = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(1e-30f), _CMP_GE_OQ);
        const __m512 inverse = _mm512_maskz_div_ps(some, most, largest), unit = _mm512_div_ps(largest, most);
        _mm512_store_ps(out->units + half, _mm512_mask_mov_ps(unit, broken, _mm512_set1_ps(NAN)));
        UNROLL for (int64_t i = 0; i < BLOCK / 128; i++)
        {
            _mm512_store_si512(out->scales[i] + half, pair16(_mm512_mul_ps(scales[2 * i], inverse),
                                                             _mm512_mul_ps(scales[2 * i + 1], inverse)));
            _mm512_store_si512(out->biases[i] + half, pair16(_mm512_mul_ps(biases[2 * i], inverse),
                                                             _mm512_mul_ps(biases[2 * i + 1], inverse)));
        }
    }
}

INLINE void pack_codes(panel *out, const uint8_t *from, size_t row_bytes, int64_t n_rows, int64_t cols, int bits,
                       bool whole)
{
    if (bits == 4)
        pack_nibbles(out, from, row_bytes, n_rows, cols, whole);
    else
        pack_bits(out, from, row_bytes, n_rows, cols, bits, whole);
}

static void pack(panel *out, const we_matrix *w, int64_t first, int64_t n_rows, int64_t c, int64_t cols)
{
    const size_t row_bytes = we_matrix_row_bytes(w);
    const uint8_t *from = w->data + (size_t)first * row_bytes + c * w->quant.bits / 8;
    const bool whole = n_rows == ROWS && cols == BLOCK;
#define PACK(bits)                                                       \
    case bits:                                                           \
        if (whole)                                                       \
            pack_codes(out, from, row_bytes, ROWS, BLOCK, bits, true);   \
        else                                                             \
            pack_codes(out, from, row_bytes, n_rows, cols, bits, false); \
        break
    switch (w->quant.bits) {
        PACK(2);
        PACK(3);
        PACK(4);
        PACK(5);
        PACK(6);
        PACK(8);
    }
#undef PACK
    pack_scales(out, w, first, n_rows, c, cols);
}

/* ---- Products ---- */

/* Sums without their lowest bits: a's in the low halves of words, b's in the high ones. */
INLINE __m512i pair_of(__m512i a, __m512i b, int lost)
{
    if (lost) a = _mm512_srli_epi32(a, (unsigned)lost);
    return _mm512_mask_mov_epi16(a, UPPER, _mm512_slli_epi32(b, (unsigned)(16 - lost)));
}

/* RUN tokens x the panel. The first 32 of each 64 columns and the second side by side: their sums meet in registers, and those of
 * two 64s in `first`, since registers are few. `fetch` rows of what comes next are fetched meanwhile, spread out: a burst of them
 * would hold up what the products load. */
INLINE void run(const panel *p, const we_q8_piece *x, int64_t steps, ahead *next, int64_t fetch, bool begin, int lost,
                float (*y)[ROWS])
{
    _Alignas(64) int32_t first[2][RUN][16]; /* upper halves of the first 64 columns' products */
    const __m512i nearest = _mm512_set1_epi32(1 << (PRODUCT_BITS - 1));
    __m512i y0[RUN], y1[RUN], e0[RUN], e1[RUN];
    UNROLL for (int i = 0; i < RUN; i++) y0[i] = y1[i] = _mm512_setzero_si512();
    const uint8_t(*c0)[64] = p->codes[0], (*c1)[64] = p->codes[1];
    for (int64_t g = 0; g < steps; g++, x++) {
        if (2 * g < fetch) ahead_rows(next, 2);
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m512i a0[RUN], a1[RUN], b0[RUN], b1[RUN];
            UNROLL for (int i = 0; i < RUN; i++)
            {
                /* To nearest; what lies in the middle goes up in one and down in the other. */
                a0[i] = a1[i] = _mm512_set1_epi32(lost ? 1 << (lost - 1) : x->starts[2 * h][i]);
                b0[i] = b1[i] = _mm512_set1_epi32(lost ? (1 << (lost - 1)) - 1 : x->starts[2 * h + 1][i]);
            }
            UNROLL for (int k = 0; k < 8; k++)
            {
                const __m512i u0 = _mm512_load_si512(c0[k]), u1 = _mm512_load_si512(c1[k]);
                const __m512i v0 = _mm512_load_si512(c0[k + 8]), v1 = _mm512_load_si512(c1[k + 8]);

                UNROLL for (int i = 0; i < RUN; i++)
                {
                    int32_t four, later;
                    memcpy(&four, x->codes[16 * h + k][i], sizeof four);
                    memcpy(&later, x->codes[16 * h + k + 8][i], sizeof later);
                    const __m512i xa = _mm512_set1_epi32(four), xb = _mm512_set1_epi32(later);
                    a0[i] = _mm512_dpbusd_epi32(a0[i], u0, xa);
                    a1[i] = _mm512_dpbusd_epi32(a1[i], u1, xa);
                    b0[i] = _mm512_dpbusd_epi32(b0[i], v0, xb);
                    b1[i] = _mm512_dpbusd_epi32(b1[i], v1, xb);
                }
            }
            UNROLL for (int i = 0; i < RUN; i++)
            {
                const __m512i factors = _mm512_set1_epi32(x->pairs[h][i]);
                e0[i] = _mm512_dpwssd_epi32(nearest, pair_of(a0[i], b0[i], lost), factors);
                e1[i] = _mm512_dpwssd_epi32(nearest, pair_of(a1[i], b1[i], lost), factors);
                if (h > 0) continue;
                _mm512_store_si512(first[0][i], _mm512_srli_epi32(e0[i], PRODUCT_BITS));
                _mm512_store_si512(first[1][i], _mm512_srli_epi32(e1[i], PRODUCT_BITS));
            }
            c0 += 16, c1 += 16;
            /* One step's products mixed with the next one's need more registers than there are. */
            __asm__ volatile("" ::"r"(first) : "memory");
        }
        const __m512i scale0 = _mm512_load_si512(p->scales[g]), scale1 = _mm512_load_si512(p->scales[g] + 16);
        const __m512i bias0 = _mm512_load_si512(p->biases[g]), bias1 = _mm512_load_si512(p->biases[g] + 16);
        UNROLL for (int i = 0; i < RUN; i++)
        {
            const __m512i sums = _mm512_set1_epi32(x->sums[i]);
            const __m512i d0 = _mm512_mask_mov_epi16(_mm512_load_si512(first[0][i]), UPPER, e0[i]);
            const __m512i d1 = _mm512_mask_mov_epi16(_mm512_load_si512(first[1][i]), UPPER, e1[i]);
            y0[i] = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(y0[i], bias0, sums), scale0, d0);
            y1[i] = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(y1[i], bias1, sums), scale1, d1);
        }
    }
    const __m512 unit0 = _mm512_load_ps(p->units), unit1 = _mm512_load_ps(p->units + 16);
    UNROLL for (int i = 0; i < RUN; i++)
    {
        const __m512 before0 = begin ? _mm512_setzero_ps() : _mm512_load_ps(y[i]);
        const __m512 before1 = begin ? _mm512_setzero_ps() : _mm512_load_ps(y[i] + 16);
        _mm512_store_ps(y[i], _mm512_fmadd_ps(_mm512_cvtepi32_ps(y0[i]), unit0, before0));
        _mm512_store_ps(y[i] + 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(y1[i]), unit1, before1));
    }
}

typedef void run_fn(const panel *p, const we_q8_piece *x, int64_t steps, ahead *next, int64_t fetch, float (*y)[ROWS]);
#define RUN_OF(name, begin, lost)                                                                                      \
    static void name(const panel *p, const we_q8_piece *x, int64_t steps, ahead *next, int64_t fetch, float(*y)[ROWS]) \
    {                                                                                                                  \
        run(p, x, steps, next, fetch, begin, lost, y);                                                                 \
    }
RUN_OF(run_begin_0, true, 0)
RUN_OF(run_begin_2, true, 2)
RUN_OF(run_begin_3, true, 3)
RUN_OF(run_begin_5, true, 5)
RUN_OF(run_more_0, false, 0)
RUN_OF(run_more_2, false, 2)
RUN_OF(run_more_3, false, 3)
RUN_OF(run_more_5, false, 5)

/* [lost_bits][whether the tokens have results of earlier columns] */
static run_fn *const runs[][2] = { [0] = { run_begin_0, run_more_0 },
                                   [2] = { run_begin_2, run_more_2 },
                                   [3] = { run_begin_3, run_more_3 },
                                   [5] = { run_begin_5, run_more_5 } };

typedef struct product {
    const we_matrix *w;
    const we_q8 *x;
    int64_t token, n; /* of x: from `token` on */
    float *y;         /* [n], y_stride apart: of row `first` and those that follow */
    int64_t first, y_stride;
    bool add;
} product;

/* Brings the lines to be written into the second cache. */
INLINE void fetch_results(const product *j, int64_t row, int64_t t)
{
    UNROLL for (int64_t k = 0; k < RUN; k++)
    {
        const float *y = j->y + WE_MIN(t + k, j->n - 1) * j->y_stride + (row - j->first);
        __builtin_prefetch(y, 1, 2);
        __builtin_prefetch(y + 16, 1, 2);
    }
}

/* Results of a run go where they belong, while the next one multiplies: stores to so many pages would wait for each other. */
INLINE void put(const product *j, float (*from)[ROWS], int64_t row, int64_t n_rows, int64_t t)
{
    const int64_t end = WE_MIN(t + RUN, j->n);
    const __mmask16 m0 = mask16(n_rows), m1 = mask16(n_rows - 16);
    float *y = j->y + t * j->y_stride + (row - j->first);
    for (; t < end; t++, y += j->y_stride, from++) {
        const __m512 unit = _mm512_set1_ps(j->x->units[j->token + t]);
        put16(y, m0, _mm512_mul_ps(_mm512_load_ps(*from), unit), j->add);
        put16(y + 16, m1, _mm512_mul_ps(_mm512_load_ps(*from + 16), unit), j->add);
    }
}

/* All tokens x the panel of rows from `row` at columns [c, c + cols). */
static void panel_times(const product *j, const panel *p, float (*y)[ROWS], int64_t row, int64_t n_rows, int64_t c,
                        int64_t cols, ahead *next)
{
    const int64_t fetch = next->rows / ((j->n + RUN - 1) / RUN) + 1;
    const bool last = c + cols == j->w->cols;
    run_fn *times = runs[lost_bits(j->w->quant.bits)][c > 0];
    for (int64_t t = 0; t < j->n; t += RUN) {
        if (last) fetch_results(j, row, t);
        times(p, piece_of(j->x, j->token + t, c), (cols + 127) / 128, next, fetch, y + t);
        if (last) put(j, y + t, row, n_rows, t);
    }
}

/* Up to WE_PANEL_GROUP panels of rows: the tokens' 512 columns pass by all of them before the next 512 do, so that they come from
 * the second cache where all columns would not fit there. What follows these rows comes next, mostly in the next call. */
static void rows_times(const product *j, desk *d, int64_t first, int64_t n_rows)
{
    const we_matrix *w = j->w;
    const int64_t end = first + n_rows;
    for (int64_t c = 0; c < w->cols; c += BLOCK) {
        const int64_t cols = WE_MIN(w->cols - c, BLOCK);
        for (int64_t row = first; row < end; row += ROWS) {
            const int64_t rows = WE_MIN(end - row, ROWS);
            ahead next = ahead_in_group(w, first, n_rows, row, c);
            pack(&d->panel, w, row, rows, c, cols);
            panel_times(j, &d->panel, d->y[(row - first) / ROWS], row, rows, c, cols, &next);
        }
    }
}

void we_avx512_affine(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                      int64_t y_stride, bool add, void *scratch)
{
    for (int64_t t = 0; t < n; t += CHUNK) {
        const product j = { .w = w,
                            .x = x,
                            .token = t,
                            .n = WE_MIN(n - t, CHUNK),
                            .y = y + t * y_stride,
                            .first = first,
                            .y_stride = y_stride,
                            .add = add };
        for (int64_t r = 0; r < n_rows; r += WE_PANEL_GROUP * ROWS)
            rows_times(&j, scratch, first + r, WE_MIN(n_rows - r, WE_PANEL_GROUP * ROWS));
    }
}
