/* SPDX-License-Identifier: Apache-2.0
 * chunk.c - a piece of a tensor: some rows read, rounded to another type, quantized or dequantized. No file is known here
 * and no thread; each caller has a scratch of its own. What is copied as it is stays where the source has it. */
#include "convert/convert_int.h"

#include <assert.h>

int64_t we_row_elements(const we_source_tensor *t) { return t->n_dims ? t->shape[t->n_dims - 1] : 1; }

int64_t we_row_count(const we_source_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++) n *= t->shape[i];
    return n;
}

int64_t we_chunk_rows(const we_plan_item *item)
{
    const int64_t row_bytes = WE_MAX(item->cols, 1) * (int64_t)sizeof(float);
    return WE_MAX((int64_t)WE_CHUNK_BYTES / row_bytes, 1);
}

uint64_t we_part_row_bytes(const we_plan_item *item, const we_part *part)
{
    return item->rows ? part->bytes / (uint64_t)item->rows : 0;
}

void we_chunk_scratch_deinit(we_chunk_scratch *scratch)
{
    for (int i = 0; i < 3; i++) {
        we_free(scratch->in[i]);
        we_free(scratch->out[i]);
    }
    we_free(scratch->values);
    *scratch = (we_chunk_scratch){ 0 };
}

/* ---- Scratch ---- */

static we_status no_memory(const we_plan_item *item, we_error *err)
{
    return we_fail(err, WE_E_NOMEM, "%s: no memory to convert it", item->tensor->name);
}

static uint8_t *make_room(uint8_t **buffer, size_t *have, size_t want)
{
    if (*buffer && *have >= want) return *buffer;
    we_free(*buffer);
    *buffer = we_malloc(want);
    *have = *buffer ? want : 0;
    return *buffer;
}

static float *make_values(we_chunk_scratch *s, size_t n)
{
    if (s->values && s->n_values >= n) return s->values;
    we_free(s->values);
    s->values = we_malloc(n * sizeof(float));
    s->n_values = s->values ? n : 0;
    return s->values;
}

/* ---- Values ---- */

/* Elements in any of the float types as float32. */
static void to_f32(we_dtype dtype, const uint8_t *in, size_t n, float *out)
{
    if (dtype != WE_F64) {
        we_to_f32(dtype, in, n, out);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double value;
        memcpy(&value, in + i * sizeof value, sizeof value);
        out[i] = (float)value;
    }
}

static void from_f32(we_dtype dtype, const float *in, size_t n, uint8_t *out)
{
    if (dtype == WE_F32) {
        memcpy(out, in, n * sizeof(float));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = dtype == WE_F16 ? we_f32_to_f16(in[i]) : we_f32_to_bf16(in[i]);
        memcpy(out + 2 * i, &half, sizeof half);
    }
}

static void round_to(we_dtype dtype, float *values, size_t n)
{
    if (dtype == WE_F16)
        for (size_t i = 0; i < n; i++) values[i] = we_f16_to_f32(we_f32_to_f16(values[i]));
    else if (dtype == WE_BF16)
        for (size_t i = 0; i < n; i++) values[i] = we_bf16_to_f32(we_f32_to_bf16(values[i]));
}

/* In the bits, without a branch, so that the compiler can count many at once. */
static void count_bad(we_dtype dtype, const uint8_t *in, size_t n, we_chunk_counts *counts)
{
    uint64_t n_bad = 0, n_inf = 0;
    if (dtype == WE_F16 || dtype == WE_BF16) {
        const uint16_t edge = dtype == WE_F16 ? 0x7C00 : 0x7F80;
        for (size_t at = 0; at < n;) { /* in runs whose counts fit 16 bits */
            const size_t end = WE_MIN(n, at + 32768);
            uint16_t bad = 0, inf = 0;
            for (; at < end; at++) {
                uint16_t h;
                memcpy(&h, in + 2 * at, sizeof h);
                h &= 0x7FFF;
                bad = (uint16_t)(bad + (h >= edge));
                inf = (uint16_t)(inf + (h == edge));
            }
            n_bad += bad;
            n_inf += inf;
        }
    } else if (dtype == WE_F32) {
        for (size_t at = 0; at < n;) {
            const size_t end = WE_MIN(n, at + ((size_t)1 << 20));
            uint32_t bad = 0, inf = 0;
            for (; at < end; at++) {
                uint32_t f;
                memcpy(&f, in + 4 * at, sizeof f);
                f &= 0x7FFFFFFF;
                bad += f >= 0x7F800000;
                inf += f == 0x7F800000;
            }
            n_bad += bad;
            n_inf += inf;
        }
    } else if (dtype == WE_F64) {
        for (size_t i = 0; i < n; i++) {
            uint64_t d;
            memcpy(&d, in + 8 * i, sizeof d);
            d &= INT64_MAX;
            n_bad += d >= UINT64_C(0x7FF) << 52;
            n_inf += d == UINT64_C(0x7FF) << 52;
        }
    }
    counts->n_nan += n_bad - n_inf;
    counts->n_inf += n_inf;
}

/* ---- Actions ---- */

typedef struct piece {
    const we_source *source;
    const we_plan_item *item;
    int64_t first, n;
    we_chunk_scratch *scratch;
    we_chunk_counts *counts;
    we_error *err;
} piece;

/* The same rows of one of the item's tensors, counted for what is no number. */
static we_status read_rows(piece *p, int slot, const we_source_tensor *t, const uint8_t **rows)
{
    const size_t n = (size_t)(p->n * we_row_elements(t)), bytes = n * we_dtype_size(t->dtype);
    if (!make_room(&p->scratch->in[slot], &p->scratch->in_bytes[slot], WE_MAX(bytes, 1)))
        return no_memory(p->item, p->err);
    we_status st = p->source->read(p->source, t, p->first, p->n, p->scratch->in[slot], rows, p->err);
    if (!st) count_bad(t->dtype, *rows, n, p->counts);
    return st;
}

static void give_back(piece *p, const we_source_tensor *t, const uint8_t *rows)
{
    if (p->source->done)
        p->source->done(p->source, rows, (size_t)(p->n * we_row_elements(t)) * we_dtype_size(t->dtype));
}

/* Room for a part's rows. */
static uint8_t *part_room(piece *p, int part)
{
    const size_t bytes = (size_t)((uint64_t)p->n * we_part_row_bytes(p->item, &p->item->parts[part]));
    return make_room(&p->scratch->out[part], &p->scratch->out_bytes[part], WE_MAX(bytes, 1));
}

static we_status cast(piece *p, const uint8_t *out[3])
{
    const we_source_tensor *t = p->item->tensor;
    const size_t n = (size_t)(p->n * p->item->cols);
    const uint8_t *rows;
    float *values = make_values(p->scratch, n);
    uint8_t *to = part_room(p, 0);
    if (!values || !to) return no_memory(p->item, p->err);
    const we_status st = read_rows(p, 0, t, &rows);
    if (st) return st;
    to_f32(t->dtype, rows, n, values);
    from_f32(p->item->dtype, values, n, to);
    give_back(p, t, rows);
    out[0] = to;
    return WE_OK;
}

static we_status quantize(piece *p, const uint8_t *out[3])
{
    const we_plan_item *item = p->item;
    const size_t cols = (size_t)item->cols;
    const uint8_t *rows;
    float *values = make_values(p->scratch, cols);
    uint8_t *to[3] = { 0 };
    size_t row_bytes[3] = { 0 };
    for (int i = 0; i < item->n_parts; i++) {
        row_bytes[i] = (size_t)we_part_row_bytes(item, &item->parts[i]);
        if (!(out[i] = to[i] = part_room(p, i))) return no_memory(item, p->err);
    }
    if (!values) return no_memory(item, p->err);
    const we_status st = read_rows(p, 0, item->tensor, &rows);
    if (st) return st;
    const size_t in_bytes = cols * we_dtype_size(item->tensor->dtype);
    for (size_t r = 0; r < (size_t)p->n; r++) {
        to_f32(item->tensor->dtype, rows + r * in_bytes, cols, values);
        if (item->tensor->dtype != item->dtype) round_to(item->dtype, values, cols);
        we_quant_row(item->quant, item->dtype, values, item->cols, to[0] + r * row_bytes[0], to[1] + r * row_bytes[1],
                     to[2] ? to[2] + r * row_bytes[2] : NULL);
    }
    give_back(p, item->tensor, rows);
    return WE_OK;
}

/* Made by a calibration: no copy. */
static void take_given(const we_plan_item *item, int64_t first, int64_t n, const uint8_t *out[3])
{
    const we_matrix rows = we_matrix_rows(item->given, first, n);
    out[0] = rows.data;
    out[1] = rows.scales;
    out[2] = rows.biases;
}

we_status we_chunk_values(const we_source *source, const we_plan_item *item, int64_t first, int64_t n,
                          we_chunk_scratch *scratch, const float **values, we_error *err)
{
    const we_source_tensor *t = item->tensor;
    const size_t n_values = (size_t)(n * item->cols);
    we_chunk_counts counts = { 0 };
    piece p = { source, item, first, n, scratch, &counts, err };
    const uint8_t *rows;
    float *out = make_values(scratch, n_values);
    if (!out) return no_memory(item, err);
    const we_status st = read_rows(&p, 0, t, &rows);
    if (st) return st;
    to_f32(t->dtype, rows, n_values, out);
    if (t->dtype != item->dtype) round_to(item->dtype, out, n_values);
    give_back(&p, t, rows);
    *values = out;
    return WE_OK;
}

/* As mx.dequantize computes it: scale and bias in the type of the result, the product rounded to it before the bias is
 * added. The other modes' values are exact in float32. */
static void dequantize_row(const we_plan_item *item, const we_matrix *m, int64_t row, uint8_t *codes, float *values)
{
    if (item->quant.mode != WE_QUANT_AFFINE) {
        we_matrix_row_f32(m, row, values);
        return;
    }
    const int group_size = item->quant.group_size;
    we_quant_unpack_row(m, row, codes);
    for (int64_t g = 0; g < item->cols / group_size; g++) {
        float scale = we_scale_f32(m, m->scales, row, g), bias = we_scale_f32(m, m->biases, row, g);
        float *w = values + g * group_size;
        round_to(item->dtype, &scale, 1);
        round_to(item->dtype, &bias, 1);
        for (int i = 0; i < group_size; i++) w[i] = scale * (float)codes[g * group_size + i];
        round_to(item->dtype, w, (size_t)group_size);
        for (int i = 0; i < group_size; i++) w[i] += bias;
    }
}

static we_status dequantize(piece *p, const uint8_t *out[3])
{
    const we_plan_item *item = p->item;
    const size_t cols = (size_t)item->cols, out_bytes = cols * we_dtype_size(item->dtype);
    we_matrix m = { .rows = p->n, .cols = item->cols, .quant = item->quant, .dtype = item->scales->dtype };
    float *values = make_values(p->scratch, cols);
    uint8_t *to = part_room(p, 0), *codes = make_room(&p->scratch->out[1], &p->scratch->out_bytes[1], cols);
    if (!values || !to || !codes) return no_memory(item, p->err);
    we_status st;
    if ((st = read_rows(p, 0, item->tensor, &m.data)) || (st = read_rows(p, 1, item->scales, &m.scales))) return st;
    if (item->biases && (st = read_rows(p, 2, item->biases, &m.biases))) return st;
    for (size_t r = 0; r < (size_t)p->n; r++) {
        dequantize_row(item, &m, (int64_t)r, codes, values);
        from_f32(item->dtype, values, cols, to + r * out_bytes);
    }
    give_back(p, item->tensor, m.data);
    out[0] = to;
    return WE_OK;
}

we_status we_chunk_compute(const we_source *source, const we_plan_item *item, int64_t first, int64_t n,
                           we_chunk_scratch *scratch, const uint8_t *out[3], we_chunk_counts *counts, we_error *err)
{
    assert(first >= 0 && n >= 0 && first <= item->rows && n <= item->rows - first);
    piece p = { source, item, first, n, scratch, counts, err };
    switch (item->action) {
    case WE_COPY: return read_rows(&p, 0, item->tensor, &out[0]);
    case WE_CAST: return cast(&p, out);
    case WE_QUANTIZE:
        if (!item->given) return quantize(&p, out);
        take_given(item, first, n, out);
        return WE_OK;
    case WE_DEQUANTIZE: return dequantize(&p, out);
    }
    return we_fail(err, WE_E_INTERNAL, "%s: no such action", item->tensor->name);
}
