/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512vbmi -mfma -mf16c
 * avx512_few.c - products of packed weights with up to eight tokens, by vpdpbusd: row after row, as they lie in memory; one
 * stream that the prefetchers follow, and every byte of it is unpacked once for all tokens. More tokens: avx512_q8.c.
 *
 * A step is 512 columns of a row. Its 16 activation groups of 32 become the 16 lanes: eight vectors of four codes a lane,
 *
 *     v[k], lane p:  columns of group lane_group(p) that v[k] of the activations has there as well
 *
 * so that eight dot products sum up a group inside its lane, and one multiplication by the scales of all 16 follows. Lanes
 * within a row instead of sixteen rows: nothing waits for sixteen streams, and a lane holds a whole group, so that scaling costs
 * a token three instructions for eight products. (With codes in the order of their bytes it was three for two.) */
#include "device/cpu/avx512.h"

#define BLOCK WE_Q8_PAD /* columns of a step */
#define STEPS 8         /* vectors of a block */
#define PREFETCH 8192   /* bytes ahead: the hardware's prefetcher stops at the end of every page */

/* The activations of CHUNK blocks stay in the first cache. Longer rows pass by in groups, chunk after chunk; the next group is
 * fetched meanwhile, in the order of its bytes. One token alone passes row after row, but sums up chunk after chunk as well: so
 * the number of tokens changes no result. */
#define CHUNK 5
#define GROUP 16

#define PAIR 2      /* rows that pass together */
#define PAIR_FROM 6 /* tokens */

typedef struct few {
    const we_matrix *w;
    size_t code_bytes, scale_bytes; /* of a row */
    int step, step_bytes;           /* scales of a block */
    we_dtype dtype;                 /* of affine ones */
    int64_t block, n_blocks;        /* what of the columns is next */
    int64_t ahead;                  /* in bytes, of what is to be fetched; 0: PREFETCH */
    const int8_t *x;                /* [block][v][token][64], see order() */
    const float *scales;            /* [block][token][16 lanes]: the activations' */
    const float *sums;              /* [block][unit][token][16]: scaled sums of the codes, for biases */
    __m512i lanes;                  /* lane_group of each */
    __m512i by;                     /* of a block's scales, the lane's (with 16 columns a scale: the first of two) */
    float *y[WE_FEW];
    bool add;
} few;

/* ---- Turning: words of a group, which lie side by side, to the same lane of one vector each ---- */

/* [4] of 4 groups a vector: group 4 i + p / 4 to lane p = .. + i */
INLINE void turn4(__m512i v[4])
{
    const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
    const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

/* [2] of 8 groups a vector */
INLINE void turn2(__m512i v[2])
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i a = v[0], b = v[1];
    v[0] = _mm512_permutex2var_epi32(a, even, b);
    v[1] = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

/* [8] of 2 groups a vector */
INLINE void turn8(__m512i v[8])
{
    turn4(v);
    turn4(v + 4);
    UNROLL for (int i = 0; i < 4; i++)
    {
        const __m512i a = v[i], b = v[4 + i];
        v[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        v[4 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
    }
}

static __m512i lane_groups(int bits)
{
    if (bits == 2) return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if (bits == 4) return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
}

/* ---- Codes ---- */

/* The block at p, its words turned: vectors of codes, or of bytes that several codes share. */
INLINE void turned(int bits, const uint8_t *p, __m512i v[STEPS])
{
    if (bits == 4 || bits == 2) {
        UNROLL for (int i = 0; i < bits; i++) v[i] = _mm512_loadu_si512(p + 64 * i);
        if (bits == 4)
            turn4(v);
        else
            turn2(v);
        return;
    }
    UNROLL for (int i = 0; i < STEPS; i++) v[i] = codes64(bits, p + 8 * bits * i);
    turn8(v);
}

/* Vector k of a block's codes. Where several share a byte, plane after plane comes out of it. raised: the high nibbles stay where
 * they are, 16 times as large. */
INLINE __m512i codes_of(bool e2m1, int bits, bool raised, const __m512i v[STEPS], int k)
{
    if (bits != 4 && bits != 2) return v[k];
    const int planes = 8 / bits, j = k % planes;
    const __m512i bytes = v[k / planes], low = _mm512_set1_epi8((char)((1 << bits) - 1));
    const __m512i c = raised && j == 1 ? _mm512_andnot_si512(low, bytes)
                                       : _mm512_and_si512(_mm512_srli_epi16(bytes, (unsigned)(j * bits)), low);
    return e2m1 ? e2m1_bytes(c) : c;
}

/* ---- Scales ---- */

/* A block's scales, or biases, each in the lanes that it is for; those not in `some` do not exist. */
INLINE __m512 affine_lanes(const few *f, const uint8_t *p, __mmask16 some)
{
    if (f->dtype == WE_F32) return _mm512_permutexvar_ps(f->by, _mm512_maskz_loadu_ps(some, p));
    const __m256i halves = _mm256_maskz_loadu_epi16(some, p);
    if (f->dtype == WE_F16) return _mm512_cvtph_ps(_mm256_permutexvar_epi16(_mm512_cvtepi32_epi16(f->by), halves));
    /* bfloat16 is the upper half of a float */
    return _mm512_castsi512_ps(
        _mm512_maskz_permutexvar_epi16(0xaaaaaaaa, _mm512_slli_epi32(f->by, 16), _mm512_castsi256_si512(halves)));
}

/* The same for e2m1, unit u, half as large: codes are twice the value. */
INLINE __m512 e2m1_lanes(const few *f, const uint8_t *p, __mmask32 some, int units, int u)
{
    const __m128i low = _mm_maskz_loadu_epi8((__mmask16)some, p);
    __m512 scale;
    if (units == 1)
        scale = _mm512_permutexvar_ps(f->by, e8m0_floats(low));
    else
        scale = _mm512_permutex2var_ps(e4m3_floats(low), _mm512_add_epi32(f->by, _mm512_set1_epi32(u)),
                                       e4m3_floats(_mm_maskz_loadu_epi8((__mmask16)(some >> 16), p + 16)));
    return _mm512_mul_ps(scale, _mm512_set1_ps(0.5f));
}

/* ---- Rows ---- */

/* Where the next block of a row lies. */
typedef struct place {
    const uint8_t *codes, *scales, *biases;
    __mmask32 some; /* of its scales */
} place;

/* A block of `rows` rows times n tokens; `units`: 2 where 16 columns have a scale. Two rows share what is loaded of the activations:
 * with eight tokens and one row the loads keep the first cache so busy that it takes up no lines from memory. */
INLINE void block_few(const few *f, const place *at, int64_t i, bool e2m1, int bits, int units, int n, int rows,
                      __m512 (*acc)[WE_FEW])
{
    const int64_t block = f->block + i;
    const int8_t *x = f->x + block * BLOCK * n;
    const float *scales = f->scales + block * 16 * n, *sums = f->sums + block * 16 * n * units;
    const bool raised = bits == 4 && !e2m1 && n <= 2; /* one shift for each token's sum instead of four for the codes */
    const int steps = STEPS / units;
    __m512i v[PAIR][STEPS];
    UNROLL for (int r = 0; r < rows; r++) turned(bits, at[r].codes, v[r]);
    UNROLL for (int u = 0; u < units; u++)
    {
        __m512i dot[PAIR][2][WE_FEW];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int t = 0; t < n; t++) dot[r][0][t] = dot[r][1][t] =
            _mm512_setzero_si512();
        UNROLL for (int k = steps * u; k < steps * (u + 1); k++)
        {
            __m512i c[PAIR];
            UNROLL for (int r = 0; r < rows; r++) c[r] = codes_of(e2m1, bits, raised, v[r], k);
            UNROLL for (int t = 0; t < n; t++)
            {
                __m512i some = _mm512_load_si512(x + 64 * (n * k + t));
                if (rows > 1) __asm__("" : "+v"(some)); /* one load: as an operand of both products it would be two */
                UNROLL for (int r = 0; r < rows; r++)
                {
                    __m512i *d = &dot[r][raised ? k % 2 : 0][t];
                    *d = _mm512_dpbusd_epi32(*d, c[r], some);
                }
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
        {
            if (raised)
                UNROLL for (int t = 0; t < n; t++) dot[r][0][t] =
                    _mm512_add_epi32(dot[r][0][t], _mm512_srai_epi32(dot[r][1][t], 4));
            const __m512 scale = e2m1 ? e2m1_lanes(f, at[r].scales, at[r].some, units, u)
                                      : affine_lanes(f, at[r].scales, (__mmask16)at[r].some);
            const __m512 bias = e2m1 ? _mm512_mul_ps(scale, _mm512_set1_ps(-E2M1_OFFSET))
                                     : affine_lanes(f, at[r].biases, (__mmask16)at[r].some);
            UNROLL for (int t = 0; t < n; t++)
            {
                const __m512 d = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[r][0][t]), _mm512_load_ps(scales + 16 * t));
                acc[r][t] = _mm512_fmadd_ps(d, scale, acc[r][t]);
                acc[r][t] = _mm512_fmadd_ps(bias, _mm512_load_ps(sums + 16 * (n * u + t)), acc[r][t]);
            }
        }
    }
}

/* The sums of eight vectors. */
INLINE __m256 sums_of(const __m512 a[8])
{
    __m512 pairs[4], fours[2];
    UNROLL for (int i = 0; i < 4; i++) pairs[i] =
        _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
    UNROLL for (int i = 0; i < 2; i++)
    {
        const __m512d u = _mm512_castps_pd(pairs[2 * i]), v = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] =
            _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(u, v)), _mm512_castpd_ps(_mm512_unpackhi_pd(u, v)));
    }
    const __m512 halves =
        _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x88), _mm512_shuffle_f32x4(fours[0], fours[1], 0xdd));
    const __m512 sum = _mm512_add_ps(halves, _mm512_shuffle_f32x4(halves, halves, 0xb1));
    return _mm256_insertf128_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x4_ps(sum, 2), 1);
}

/* The same of eight vectors each of two rows: [vector][row] */
INLINE __m512 sums_of_pair(const __m512 a[8], const __m512 b[8])
{
    __m512 pairs[8], fours[4], halves[2];
    UNROLL for (int i = 0; i < 8; i++) pairs[i] =
        _mm512_add_ps(_mm512_unpacklo_ps(a[i], b[i]), _mm512_unpackhi_ps(a[i], b[i]));
    UNROLL for (int i = 0; i < 4; i++)
    {
        const __m512d u = _mm512_castps_pd(pairs[2 * i]), v = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] =
            _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(u, v)), _mm512_castpd_ps(_mm512_unpackhi_pd(u, v)));
    }
    UNROLL for (int i = 0; i < 2; i++) halves[i] =
        _mm512_add_ps(_mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0x88),
                      _mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                         _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd));
}

/* The same of one: in that order. */
INLINE float sum_of(__m512 a)
{
    a = _mm512_add_ps(a, _mm512_permute_ps(a, 0x4e));
    a = _mm512_add_ps(a, _mm512_permute_ps(a, 0xb1));
    a = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0xb1));
    return _mm512_cvtss_f32(_mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0x4e)));
}

/* Blocks [begin, end) of a row, or two, from f->block on. What is fetched lies in the order of its bytes. */
INLINE void blocks_few(const few *f, place *at, int64_t begin, int64_t end, const uint8_t *ahead, bool e2m1, int bits,
                       int units, int n, int rows, __m512 (*acc)[WE_FEW])
{
    const int64_t cols = f->w->cols - f->block * BLOCK, whole = WE_MIN(cols / BLOCK, end);
    const int64_t step = BLOCK / 8 * bits, step_bytes = f->step_bytes;
    for (int64_t b = begin; b < whole; b++) {
        UNROLL for (int i = 0; i < rows * bits; i++) _mm_prefetch((const char *)ahead + 64 * i, _MM_HINT_T0);
        ahead += rows * step;
        UNROLL for (int r = 0; r < rows; r++)
        {
            _mm_prefetch((const char *)at[r].scales + PREFETCH / 8, _MM_HINT_T0);
            if (!e2m1) _mm_prefetch((const char *)at[r].biases + PREFETCH / 8, _MM_HINT_T0);
        }
        block_few(f, at, b, e2m1, bits, units, n, rows, acc);
        UNROLL for (int r = 0; r < rows; r++) at[r].codes += step, at[r].scales += step_bytes,
            at[r].biases += step_bytes;
    }
    if (whole < end) { /* what lies behind the row is not ours to read */
        uint8_t tail[PAIR][BLOCK] = { 0 };
        const int64_t left = cols - whole * BLOCK;
        for (int r = 0; r < rows; r++) {
            memcpy(tail[r], at[r].codes, (size_t)(left * bits / 8));
            at[r].codes = tail[r];
            at[r].some = (__mmask32)mask64(left / f->w->quant.group_size);
        }
        block_few(f, at, whole, e2m1, bits, units, n, rows, acc);
    }
}

INLINE place place_of(const few *f, int64_t row, bool e2m1, int bits)
{
    const size_t codes = (size_t)row * f->code_bytes + (size_t)(f->block * BLOCK / 8 * bits);
    const size_t scales = (size_t)row * f->scale_bytes + (size_t)(f->block * f->step_bytes);
    return (place){ .codes = f->w->data + codes,
                    .scales = f->w->scales + scales,
                    .biases = e2m1 ? NULL : f->w->biases + scales,
                    .some = (__mmask32)mask64(f->step) };
}

/* Sums of two rows go where they belong. */
INLINE void put_pair(const few *f, int64_t out, int n, bool add, __m512 sums)
{
    const __m128 two[4] = { _mm512_castps512_ps128(sums), _mm512_extractf32x4_ps(sums, 1),
                            _mm512_extractf32x4_ps(sums, 2), _mm512_extractf32x4_ps(sums, 3) };
    UNROLL for (int t = 0; t < n; t++)
    {
        __m128i *to = (__m128i *)(void *)(f->y[t] + out);
        const __m128 s = t % 2 ? _mm_movehl_ps(two[t / 2], two[t / 2]) : two[t / 2];
        const __m128i before = add ? _mm_loadl_epi64(to) : _mm_setzero_si128();
        _mm_storel_epi64(to, _mm_castps_si128(_mm_add_ps(_mm_castsi128_ps(before), s)));
    }
}

/* `rows` rows from `row` on: y's from `out` on. */
INLINE void row_few(const few *f, int64_t row, int64_t out, const uint8_t *ahead, bool e2m1, int bits, int units, int n,
                    int rows)
{
    place at[PAIR];
    UNROLL for (int r = 0; r < rows; r++) at[r] = place_of(f, row + r, e2m1, bits);
    for (int64_t b = 0; b < f->n_blocks; b += CHUNK) {
        const bool add = f->add || b > 0;
        __m512 acc[PAIR][WE_FEW];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int t = 0; t < WE_FEW; t++) acc[r][t] = _mm512_setzero_ps();
        blocks_few(f, at, b, WE_MIN(b + CHUNK, f->n_blocks), ahead + b * rows * (BLOCK / 8 * bits), e2m1, bits, units,
                   n, rows, acc);
        if (rows == PAIR) {
            put_pair(f, out, n, add, sums_of_pair(acc[0], acc[1]));
            continue;
        }
        float sums[WE_FEW];
        if (n == 1)
            sums[0] = sum_of(acc[0][0]);
        else
            _mm256_storeu_ps(sums, sums_of(acc[0]));
        UNROLL for (int t = 0; t < n; t++) f->y[t][out] = (add ? f->y[t][out] : 0.0f) + sums[t];
    }
}

/* Rows `at` and after. */
INLINE void rows_few(const few *f, int64_t first, int64_t at, int64_t n_rows, bool e2m1, int bits, int units, int n)
{
    const int64_t end = at + n_rows, row_bytes = f->n_blocks * BLOCK / 8 * bits;
    const uint8_t *ahead = f->w->data + (size_t)(first + at) * f->code_bytes + (f->ahead ? f->ahead : PREFETCH);
    if (n >= PAIR_FROM && bits == 4) /* others have no registers left for it */
        for (; at + PAIR <= end; at += PAIR, ahead += PAIR * row_bytes)
            row_few(f, first + at, at, ahead, e2m1, bits, units, n, PAIR);
    for (; at < end; at++, ahead += row_bytes) row_few(f, first + at, at, ahead, e2m1, bits, units, n, 1);
}

/* A function for each packing and number of tokens. */
typedef void (*rows_fn)(const few *f, int64_t first, int64_t at, int64_t n_rows);
#define ROWS_FEW(name, e2m1, bits, units, n)                                               \
    static void rows_##name##_##n(const few *f, int64_t first, int64_t at, int64_t n_rows) \
    {                                                                                      \
        rows_few(f, first, at, n_rows, e2m1, bits, units, n);                              \
    }
#define ROWS(name, e2m1, bits, units)                                                         \
    ROWS_FEW(name, e2m1, bits, units, 1)                                                      \
    ROWS_FEW(name, e2m1, bits, units, 2)                                                      \
    ROWS_FEW(name, e2m1, bits, units, 3)                                                      \
    ROWS_FEW(name, e2m1, bits, units, 4)                                                      \
    ROWS_FEW(name, e2m1, bits, units, 6)                                                      \
    ROWS_FEW(name, e2m1, bits, units, 8)                                                      \
    static const rows_fn rows_##name[] = { rows_##name##_1, rows_##name##_2, rows_##name##_3, \
                                           rows_##name##_4, rows_##name##_6, rows_##name##_8 };
ROWS(q2, false, 2, 1)
ROWS(q3, false, 3, 1)
ROWS(q4, false, 4, 1)
ROWS(q5, false, 5, 1)
ROWS(q6, false, 6, 1)
ROWS(q8, false, 8, 1)
ROWS(mx4, true, 4, 1)
ROWS(nv4, true, 4, 2)
static const int rows_sizes[] = { 1, 2, 3, 4, 6, 8 }; /* tokens of one pass */

static rows_fn rows_of(we_quant quant, int size)
{
    static const rows_fn *const affine[9] = {
        [2] = rows_q2, [3] = rows_q3, [4] = rows_q4, [5] = rows_q5, [6] = rows_q6, [8] = rows_q8
    };
    if (quant.mode == WE_QUANT_MXFP4) return rows_mx4[size];
    if (quant.mode == WE_QUANT_NVFP4) return rows_nv4[size];
    return affine[quant.bits][size];
}

/* ---- Activations in the order of the codes ---- */

/* 64 activations of each plane, in the order in which codes come out of their bytes: column `planes` * i + j becomes number i of
 * plane j, which is out[j * apart]. */
INLINE void planes_of(const int8_t *from, __m512i *out, int planes, int apart)
{
    UNROLL for (int j = 0; j < planes; j++)
    {
        __m512i plane = _mm512_loadu_si512(from);
        if (planes == 2) {
            const __m512i a = _mm512_srli_epi16(plane, (unsigned)(8 * j));
            const __m512i b = _mm512_srli_epi16(_mm512_loadu_si512(from + 64), (unsigned)(8 * j));
            plane = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)), _mm512_cvtepi16_epi8(b), 1);
        } else if (planes == 4) {
            __m128i some[4];
            UNROLL for (int i = 0; i < 4; i++) some[i] =
                _mm512_cvtepi32_epi8(_mm512_srli_epi32(_mm512_loadu_si512(from + 64 * i), (unsigned)(8 * j)));
            plane = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(some[1], some[0])),
                                       _mm256_set_m128i(some[3], some[2]), 1);
        }
        out[j * apart] = plane;
    }
}

/* A block's activations to the places that unpack gives its codes: plane j of step i is v[planes * i + j]. */
INLINE void turn_block(const int8_t *from, int planes, __m512i v[STEPS])
{
    __m512i plane[4][STEPS];
    const int n = STEPS / planes;
    UNROLL for (int i = 0; i < n; i++) planes_of(from + 64 * planes * i, &plane[0][i], planes, STEPS);
    UNROLL for (int j = 0; j < planes; j++)
    {
        if (planes == 1)
            turn8(plane[j]);
        else if (planes == 2)
            turn4(plane[j]);
        else
            turn2(plane[j]);
        UNROLL for (int i = 0; i < n; i++) v[planes * i + j] = plane[j][i];
    }
}

/* Scaled sums of the two halves of each group. */
static void sums_of_16(const __m512i v[STEPS], __m512 scale, float *out, int apart)
{
    for (int u = 0; u < 2; u++) {
        __m512i sum = _mm512_setzero_si512();
        for (int k = 0; k < STEPS / 2; k++) sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), v[STEPS / 2 * u + k]);
        _mm512_store_ps(out + apart * u, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale));
    }
}

static void order(const few *f, const we_q8 *x, int64_t token, int n, int8_t *to, float *scales, float *sums)
{
    const int bits = f->w->quant.bits, units = f->w->quant.group_size == 16 ? 2 : 1;
    const int64_t groups = x->stride / WE_Q8_GROUP;
    for (int64_t b = 0; b < f->n_blocks; b++, to += BLOCK * n, scales += 16 * n, sums += 16 * n * units)
        for (int t = 0; t < n; t++) {
            const int8_t *from = x->values + (token + t) * x->stride + b * BLOCK;
            const int64_t at = (token + t) * groups + b * 16;
            __m512i v[STEPS];
            if (bits == 4)
                turn_block(from, 2, v);
            else if (bits == 2)
                turn_block(from, 4, v);
            else
                turn_block(from, 1, v);
            UNROLL for (int k = 0; k < STEPS; k++) _mm512_store_si512(to + 64 * (n * k + t), v[k]);
            const __m512 scale = _mm512_permutexvar_ps(f->lanes, _mm512_loadu_ps(x->scales + at));
            _mm512_store_ps(scales + 16 * t, scale);
            if (units == 2)
                sums_of_16(v, scale, sums + 16 * t, 16 * n);
            else
                _mm512_store_ps(sums + 16 * t, _mm512_permutexvar_ps(f->lanes, _mm512_loadu_ps(x->sums + at)));
        }
}

static void few_tokens(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t token, int size,
                       float *y, int64_t y_stride, bool add, uint8_t *scratch)
{
    const int n = rows_sizes[size];
    const int group = w->quant.group_size;
    int8_t *values = (int8_t *)scratch; /* then scales, an eighth as large, and sums, a quarter at most */
    float *scales = (float *)(void *)(scratch + n * x->stride);
    float *sums = scales + n * x->stride / WE_Q8_GROUP;
    few f = {
        .w = w,
        .code_bytes = we_matrix_row_bytes(w),
        .scale_bytes = we_matrix_row_scale_bytes(w),
        .step = BLOCK / group,
        .step_bytes = BLOCK / group * (int)we_scale_size(w->quant.mode, w->dtype),
        .dtype = w->dtype,
        .n_blocks = x->stride / BLOCK,
        .x = values,
        .scales = scales,
        .sums = sums,
        .lanes = lane_groups(w->quant.bits),
    };
    f.by = group == 16 ? _mm512_slli_epi32(f.lanes, 1) : _mm512_srli_epi32(f.lanes, group == 128 ? 2 : group == 64);
    const int64_t n_blocks = f.n_blocks;
    order(&f, x, token, n, values, scales, sums);
    for (int t = 0; t < n; t++) f.y[t] = y + (token + t) * y_stride;
    const bool wide = n > 1 && n_blocks > CHUNK;
    const int64_t together = wide ? GROUP : n_rows, chunk = wide ? CHUNK : n_blocks;
    for (int64_t r = 0; r < n_rows; r += together)
        for (f.block = 0; f.block < n_blocks; f.block += chunk) {
            const int64_t rows = WE_MIN(together, n_rows - r);
            f.n_blocks = WE_MIN(chunk, n_blocks - f.block);
            f.add = add || f.block > 0;
            if (wide) f.ahead = rows * ((int64_t)f.code_bytes + f.block * BLOCK / 8 * w->quant.bits);
            rows_of(w->quant, size)(&f, first, r, rows);
        }
}

void we_avx512_few(const we_matrix *w, int64_t first, int64_t n_rows, const we_q8 *x, int64_t n, float *y,
                   int64_t y_stride, bool add, uint8_t *scratch)
{
    for (int64_t token = 0; token < n;) {
        int size = WE_COUNT(rows_sizes) - 1;
        while (rows_sizes[size] > n - token) size--;
        few_tokens(w, first, n_rows, x, token, size, y, y_stride, add, scratch);
        token += rows_sizes[size];
    }
}
