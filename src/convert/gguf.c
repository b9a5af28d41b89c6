/* SPDX-License-Identifier: Apache-2.0
 * gguf.c - a GGUF file as a source: its tensors under MLX's names as float32 rows, config.json from its metadata, the
 * tokenizer as tokenizer.json. What names and keys mean: model/gguf.c, tokenizer/gguf.c.
 *
 * On the way, rows of q and k that are ordered for rotating neighbours are put back, and the 1 that was added to Gemma's
 * norms is taken off.
 *
 * With `lossless`, three block types become affine groups of 32 in a float16 model, code for code:
 *
 *     Q4_0  w = d (q - 8)      4 bits, scale d, bias -8 d
 *     Q4_1  w = d q + m        4 bits, scale d, bias m
 *     Q8_0  w = d q            8 bits of q + 128, scale d, bias -128 d
 *
 * All of these are float16 numbers. Other types have no such form and are stored as float16 values, which is said. */
#include "convert/convert_int.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

typedef enum { PART_VALUES, PART_CODES, PART_SCALES, PART_BIASES } part_kind;

typedef struct gguf_item { /* what a tensor of the source is made of */
    const we_weight *weight;
    part_kind part;
    int64_t head_rows; /* of one head, where rows are put back into order; 0: they stay */
    bool one_added;
    int bits; /* of CODES, SCALES, BIASES */
} gguf_item;

typedef struct gguf_source {
    we_source source; /* first: what `read` gets is this */
    we_arena arena;
    we_weights *weights;
    const we_gguf *gguf;
    const we_gguf_arch *arch;
    const char *path;
    bool lossless;
    gguf_item *items;
    we_source_tensor *tensors;
    size_t n, n_rounded; /* matrices that `lossless` could not keep */
    we_dtype rounded;    /* the type of the first of them */
    we_buf tokenizer, tokenizer_config, config;
} gguf_source;

/* ---- Reading ---- */

static we_matrix matrix_of(const we_weight *w)
{
    const int64_t cols = w->n_dims ? w->shape[w->n_dims - 1] : 1;
    const int block = we_dtype_block(w->dtype);
    int64_t rows = 1;
    for (int i = 0; i + 1 < w->n_dims; i++) rows *= w->shape[i];
    return (we_matrix){ .rows = rows,
                        .cols = cols,
                        .quant = { block > 1 ? WE_QUANT_GGML : WE_QUANT_NONE, 0, block > 1 ? block : 0 },
                        .dtype = w->dtype,
                        .data = w->data };
}

/* Where row `r` of MLX's order lies: of each head, the halves row by row. */
static int64_t place_of(const gguf_item *item, int64_t r)
{
    const int64_t dim = item->head_rows;
    if (!dim) return r;
    const int64_t in_head = r % dim, half = in_head / (dim / 2);
    return r - in_head + 2 * (in_head % (dim / 2)) + half;
}

/* Float32 values of rows; a vector's elements move as a matrix's rows do. */
static void read_values(const gguf_item *item, const we_matrix *m, int64_t first, int64_t n, float *out)
{
    for (int64_t r = 0; r < n; r++) we_matrix_row_f32(m, place_of(item, first + r), out + r * m->cols);
    if (item->one_added)
        for (int64_t i = 0; i < n * m->cols; i++) out[i] -= 1;
}

static void read_vector(const gguf_item *item, const we_matrix *m, float *out)
{
    for (int64_t i = 0; i < m->cols; i++) {
        const int64_t at = place_of(item, i);
        we_to_f32(m->dtype, m->data + (size_t)at * we_dtype_size(m->dtype), 1, out + i);
    }
}

/* Packed codes, scales or biases of one row. */
static bool read_packed(const gguf_item *item, const we_matrix *m, int64_t row, uint8_t *out)
{
    const int64_t n_groups = m->cols / 32;
    const size_t block_bytes = we_dtype_size(m->dtype);
    const uint8_t *block = m->data + (size_t)row * we_matrix_row_bytes(m);
    bool finite = true;
    for (int64_t g = 0; g < n_groups; g++, block += block_bytes) {
        uint8_t codes[32];
        uint16_t half;
        float scale, min;
        if (item->part == PART_CODES) {
            const we_matrix one = { 1, 32, m->quant, m->dtype, block, NULL, NULL };
            we_ggml_unpack_row(&one, 0, codes, &scale, &min);
            we_quant_pack_row(item->bits, codes, 32, out);
            out += 4 * item->bits;
            continue;
        }
        memcpy(&half, block, sizeof half); /* d stands first in all three */
        if (item->part == PART_BIASES && m->dtype == WE_GGML_Q4_1)
            memcpy(&half, block + 2, sizeof half);
        else if (item->part == PART_BIASES)
            half = we_f32_to_f16(-(float)we_ggml_zero(m->dtype) * we_f16_to_f32(half));
        finite &= (half & 0x7c00) != 0x7c00;
        memcpy(out, &half, sizeof half);
        out += sizeof half;
    }
    return finite;
}

static we_status read_rows(const we_source *source, const we_source_tensor *t, int64_t first, int64_t n,
                           uint8_t *scratch, const uint8_t **rows, we_error *err)
{
    const gguf_source *s = (const gguf_source *)source;
    const gguf_item *item = &s->items[t->index];
    const we_matrix m = matrix_of(item->weight);
    const size_t row_bytes = we_matrix_row_bytes(&m), out_bytes = (size_t)we_row_elements(t) * we_dtype_size(t->dtype);
    *rows = scratch;
    if (t->dtype == item->weight->dtype && !item->head_rows && !item->one_added) {
        *rows = m.data + (size_t)first * row_bytes;
        return WE_OK;
    }
    if (item->part != PART_VALUES) {
        for (int64_t r = 0; r < n; r++)
            if (!read_packed(item, &m, place_of(item, first + r), scratch + (size_t)r * out_bytes))
                return we_fail(err, WE_E_UNSUPPORTED,
                               "%s: %s has scales that no float16 bias goes with; leave --lossless out",
                               item->weight->file, item->weight->name);
    } else if (item->head_rows && item->weight->n_dims == 1) {
        read_vector(item, &m, (float *)(void *)scratch);
    } else {
        read_values(item, &m, first, n, (float *)(void *)scratch);
    }
    if (item->part == PART_VALUES || item->part == PART_CODES) /* scales lie among the codes: read a second time */
        we_weights_drop(s->weights, m.data + (size_t)first * row_bytes, (size_t)n * row_bytes);
    return WE_OK;
}

static void rows_done(const we_source *source, const uint8_t *rows, size_t bytes)
{
    we_weights_drop(((const gguf_source *)source)->weights, rows, bytes); /* nothing where they lie in scratch */
}

static we_status check_maps(const we_source *source, we_error *err)
{
    return we_weights_check(((const gguf_source *)source)->weights, err);
}

/* ---- Tensors ---- */

static we_status add(gguf_source *s, const gguf_item *item, const char *stem, const char *leaf, we_dtype dtype,
                     int64_t cols, we_error *err)
{
    const we_weight *w = item->weight;
    we_source_tensor *t = &s->tensors[s->n];
    *t = (we_source_tensor){
        .dtype = dtype, .n_dims = w->n_dims, .file = w->file, .index = s->n, .head_rows = item->head_rows
    };
    memcpy(t->shape, w->shape, sizeof w->shape);
    if (t->n_dims) t->shape[t->n_dims - 1] = cols;
    s->items[s->n++] = *item;
    t->name = we_arena_printf(&s->arena, "%s%s", stem, leaf);
    return t->name ? WE_OK : we_fail(err, WE_E_NOMEM, "%s: no memory for its names", s->path);
}

/* Bits of the affine form of a type; 0: there is none. */
static int lossless_bits(we_dtype dtype)
{
    return dtype == WE_GGML_Q4_0 || dtype == WE_GGML_Q4_1 ? 4 : dtype == WE_GGML_Q8_0 ? 8 : 0;
}

static we_status add_packed(gguf_source *s, gguf_item item, const char *stem, we_error *err)
{
    const int64_t cols = item.weight->shape[1];
    we_status st;
    item.bits = lossless_bits(item.weight->dtype);
    item.part = PART_CODES;
    if ((st = add(s, &item, stem, ".weight", WE_U32, cols * item.bits / 32, err))) return st;
    item.part = PART_SCALES;
    if ((st = add(s, &item, stem, ".scales", WE_F16, cols / 32, err))) return st;
    item.part = PART_BIASES;
    return add(s, &item, stem, ".biases", WE_F16, cols / 32, err);
}

/* Rows of a head, for tensors whose rows are to be put back. */
static we_status find_head_rows(const gguf_source *s, const we_weight *w, int64_t heads, int64_t *out, we_error *err)
{
    *out = heads > 0 ? w->shape[0] / heads : 0;
    if (w->n_dims >= 1 && w->n_dims <= 2 && *out > 0 && *out * heads == w->shape[0] && *out % 2 == 0) return WE_OK;
    char shape[WE_SHAPE_TEXT];
    return we_fail(err, WE_E_FORMAT, "%s: %s is %s, which %lld heads of an even size do not share", s->path, w->name,
                   we_shape_text(shape, w->shape, w->n_dims), (long long)heads);
}

static we_status add_weight(gguf_source *s, const we_weight *w, const we_gguf_role *role, char *name, we_error *err)
{
    int64_t heads = 0;
    gguf_item item = { .weight = w, .one_added = role->one_added };
    we_status st = WE_OK;
    if (role->permuted_q || role->permuted_k) {
        we_json_i64(we_json_get(s->source.config, role->permuted_q ? "num_attention_heads" : "num_key_value_heads"),
                    &heads);
        st = find_head_rows(s, w, heads, &item.head_rows, err);
    }
    if (st) return st;
    const we_str whole = we_str_from(name);
    const bool is_matrix = w->n_dims == 2 && we_str_ends_with(whole, WE_STR(".weight"));
    if (s->lossless && is_matrix && lossless_bits(w->dtype)) {
        name[whole.len - strlen(".weight")] = 0;
        return add_packed(s, item, name, err);
    }
    if (s->lossless && is_matrix && w->dtype != WE_F16 && !s->n_rounded++) s->rounded = w->dtype;
    const bool plain = we_dtype_block(w->dtype) == 1 && !item.head_rows && !item.one_added;
    if (!we_ggml_group(w->dtype) && w->dtype != WE_F32 && w->dtype != WE_F16 && w->dtype != WE_BF16)
        return we_fail(err, WE_E_UNSUPPORTED, "%s: %s has the type %s, which is none of a weight's", s->path, w->name,
                       we_dtype_name(w->dtype));
    return add(s, &item, name, "", plain ? w->dtype : WE_F32, w->n_dims ? w->shape[w->n_dims - 1] : 1, err);
}

static we_status list_tensors(gguf_source *s, we_error *err)
{
    const size_t n = we_weights_count(s->weights);
    s->tensors = we_arena_calloc(&s->arena, 3 * n, sizeof *s->tensors);
    s->items = we_arena_calloc(&s->arena, 3 * n, sizeof *s->items);
    if (!s->tensors || !s->items)
        return we_fail(err, WE_E_NOMEM, "%s: no memory for a table of %zu tensors", s->path, n);
    for (size_t i = 0; i < n; i++) {
        char name[WE_GGUF_NAME];
        const we_weight *w = we_weights_at(s->weights, i);
        const we_gguf_role role = we_gguf_tensor(s->arch, w->name, name);
        if (role.is_settings) continue;
        if (!role.is_known) {
            we_log(convert, WARN, "%s: tensor %s has no place in this architecture and is left out", s->path, w->name);
            continue;
        }
        const we_status st = add_weight(s, w, &role, name, err);
        if (st) return st;
    }
    if (s->n_rounded)
        we_log(convert, WARN, "%s: %zu matrices (the first is %s) have no lossless form and are rounded to float16",
               s->path, s->n_rounded, we_dtype_name(s->rounded));
    we_source_sort(s->tensors, s->n);
    s->source.tensors = s->tensors;
    s->source.n_tensors = s->n;
    return WE_OK;
}

/* ---- config.json ---- */

/* "quantization": groups of 32, the bits of most, and those of the others by name. */
static void write_quantization(const gguf_source *s, we_json_writer *w, int common)
{
    we_json_begin_object(w);
    we_json_key(w, "group_size");
    we_json_write_i64(w, 32);
    we_json_key(w, "bits");
    we_json_write_i64(w, common);
    we_json_key(w, "mode");
    we_json_write_str(w, WE_STR("affine"));
    for (size_t i = 0; i < s->n; i++) {
        const we_source_tensor *t = &s->tensors[i];
        const gguf_item *item = &s->items[t->index];
        if (item->part != PART_CODES || item->bits == common) continue;
        we_json_write_key(w, (we_str){ t->name, strlen(t->name) - strlen(".weight") });
        we_json_begin_object(w);
        we_json_key(w, "group_size");
        we_json_write_i64(w, 32);
        we_json_key(w, "bits");
        we_json_write_i64(w, item->bits);
        we_json_end_object(w);
    }
    we_json_end_object(w);
}

static we_status parse_config(gguf_source *s, we_str text, const we_json **out, we_error *err)
{
    const char *copy = we_arena_strndup(&s->arena, text.ptr, text.len); /* the tree points into it */
    if (!copy) return we_fail(err, WE_E_NOMEM, "%s: no memory for its configuration", s->path);
    return we_json_parse(&s->arena, (we_str){ copy, text.len }, out, err);
}

static we_status set(gguf_source *s, const char *key, const we_json *value, we_error *err)
{
    s->source.config = value ? we_config_with(&s->arena, s->source.config, key, value) : NULL;
    return s->source.config ? WE_OK : we_fail(err, WE_E_NOMEM, "%s: no memory for its configuration", s->path);
}

static we_status read_config(gguf_source *s, we_error *err)
{
    const we_json *eos = NULL;
    we_buf ids = { 0 };
    int64_t list[WE_TOK_GGUF_EOS];
    we_status st = we_gguf_config(s->weights, false, &s->config, err);
    if (!st) st = parse_config(s, we_buf_str(&s->config), &s->source.config, err);
    const size_t n = we_tok_gguf_eos(s->gguf, list);
    if (st || n < 2) return st; /* as mlx-lm does: what generation_config.json says stands here too */
    for (size_t i = 0; i < n; i++) we_buf_printf(&ids, "%s%lld", i ? "," : "[", (long long)list[i]);
    we_buf_append_char(&ids, ']');
    if (!(st = we_buf_status(&ids, err, "token ids")) && !(st = parse_config(s, we_buf_str(&ids), &eos, err)))
        st = set(s, "eos_token_id", eos, err);
    we_buf_deinit(&ids);
    return st;
}

static we_status add_quantization(gguf_source *s, we_error *err)
{
    size_t n_packed[9] = { 0 };
    const we_json *quantization = NULL, *dtype = NULL;
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].part == PART_CODES) n_packed[s->items[i].bits]++;
    we_status st = parse_config(s, WE_STR("\"float16\""), &dtype, err);
    if (!st) st = set(s, "torch_dtype", dtype, err);
    if (st || !(n_packed[4] + n_packed[8])) return st;
    we_buf text = { 0 };
    we_json_writer w = { .buf = &text };
    write_quantization(s, &w, n_packed[8] > n_packed[4] ? 8 : 4);
    if (!(st = we_buf_status(&text, err, "the configuration")) &&
        !(st = parse_config(s, we_buf_str(&text), &quantization, err)) &&
        !(st = set(s, "quantization", quantization, err)))
        st = set(s, "quantization_config", quantization, err);
    we_buf_deinit(&text);
    return st;
}

/* ---- The files beside ---- */

static const char *generation_config(gguf_source *s)
{
    int64_t ids[WE_TOK_GGUF_EOS], bos;
    const size_t n = we_tok_gguf_eos(s->gguf, ids);
    we_buf text = { 0 };
    we_json_writer w = { .buf = &text, .indent = 2 };
    we_json_begin_object(&w);
    if (we_gguf_i64(we_gguf_get(s->gguf, "tokenizer.ggml.bos_token_id"), 0, &bos) && bos >= 0) {
        we_json_key(&w, "bos_token_id");
        we_json_write_i64(&w, bos);
    }
    if (n) we_json_key(&w, "eos_token_id");
    if (n > 1) we_json_begin_array(&w);
    for (size_t i = 0; i < n; i++) we_json_write_i64(&w, ids[i]);
    if (n > 1) we_json_end_array(&w);
    we_json_end_object(&w);
    const char *copy = text.failed ? NULL : we_arena_strndup(&s->arena, text.ptr, text.len);
    we_buf_deinit(&text);
    return copy;
}

static we_status list_files(gguf_source *s, we_error *err)
{
    enum { MOST = 4 };
    we_side_file *files = we_arena_calloc(&s->arena, MOST, sizeof *files);
    const char *generation = generation_config(s);
    if (!files || !generation) return we_fail(err, WE_E_NOMEM, "%s: no memory for its files", s->path);
    we_status st = WE_OK;
    size_t n = 0;
    if (we_tok_in_gguf(s->gguf)) {
        if ((st = we_tok_from_gguf(s->gguf, &s->tokenizer, &s->tokenizer_config, err))) return st;
        files[n++] = (we_side_file){ .name = "tokenizer.json", .bytes = we_buf_str(&s->tokenizer) };
        files[n++] = (we_side_file){ .name = "tokenizer_config.json", .bytes = we_buf_str(&s->tokenizer_config) };
    } else {
        we_log(convert, WARN, "%s: has no tokenizer; the model can only be given tokens", s->path);
    }
    files[n++] = (we_side_file){ .name = "generation_config.json", .bytes = we_str_from(generation) };
    st = we_source_add_card(&s->arena, s->path, &files[n++], err); /* there is none below a file: a new one */
    s->source.files = files;
    s->source.n_files = n;
    return st;
}

/* ---- The whole ---- */

static we_status source_open(gguf_source *s, we_error *err)
{
    we_status st = we_weights_open(&s->weights, s->path, err);
    if (st) return st;
    s->gguf = we_weights_gguf(s->weights);
    if ((st = we_gguf_find_arch(s->gguf, &s->arch, err))) return st;
    if (s->lossless && we_gguf_overflows_f16(s->arch))
        return we_fail(err, WE_E_UNSUPPORTED,
                       "%s: this family's activations exceed float16, and a lossless import is a float16 model; leave "
                       "--lossless out (bfloat16), or quantize with -q",
                       s->path);
    if ((st = read_config(s, err)) || (st = list_tensors(s, err)) || (s->lossless && (st = add_quantization(s, err))))
        return st;
    return list_files(s, err);
}

static void source_close(gguf_source *s)
{
    we_weights_close(s->weights);
    we_buf_deinit(&s->tokenizer);
    we_buf_deinit(&s->tokenizer_config);
    we_buf_deinit(&s->config);
    we_arena_deinit(&s->arena);
}

we_status we_convert_gguf(const char *path, const char *target, const we_convert_options *opt,
                          we_convert_result *result, we_error *err)
{
    we_convert_job job;
    if (opt->lossless && (opt->quantize || opt->dequantize || opt->dtype))
        return we_fail(err, WE_E_ARG,
                       "a lossless import keeps the file's own numbers: it can't be quantized, dequantized or cast");
    we_status st = we_convert_job_init(&job, opt, err);
    if (st) return st;
    gguf_source s = { .source = { .name = path, .read = read_rows, .done = rows_done, .check = check_maps },
                      .path = path,
                      .lossless = opt->lossless };
    if (!(st = source_open(&s, err))) st = we_convert_write(&s.source, &job, target, result, err);
    source_close(&s);
    return st;
}
