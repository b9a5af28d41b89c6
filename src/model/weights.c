/* SPDX-License-Identifier: Apache-2.0
 * weights.c - from named tensors to a layer's fields: names and shapes come from the architecture page, packings from the
 * tensors themselves. A tensor is quantized if its .scales exist, whatever config.json says; bits and group size follow from
 * the shapes, the mode from the type of the scales (as mlx-lm does where the configuration is silent; models exist whose
 * configuration is wrong for some tensor). A GGUF file's names are translated on the way (gguf.c); its blocks stay as
 * they are. */
#include "model/model_int.h"
#include <stdio.h>

/* How often each packing occurs, for the text in we_decoder_info. */
typedef struct packing_count {
    we_quant quant;
    we_dtype dtype;
    int n;
} packing_count;

typedef struct binder {
    we_decoder *m;
    const char *dir, *prefix; /* of all names: "model." or "language_model.model." */
    const we_gguf_arch *gguf; /* NULL: a folder */
    const char *said_by;      /* "config.json", for messages */
    packing_count packings[32];
    int n_packings;
    we_error *err;
} binder;

typedef struct bound { /* a tensor found and checked, whole or cut */
    we_matrix matrix;
    const we_weight *bias;
} bound;

static int64_t dim_of(const we_config *c, we_dim dim)
{
    switch (dim) {
    case WE_DIM_NONE: return 0;
    case WE_DIM_HIDDEN: return c->hidden_size;
    case WE_DIM_FF: return c->intermediate_size;
    case WE_DIM_Q: return c->num_attention_heads * c->head_dim;
    case WE_DIM_KV: return c->num_key_value_heads * c->head_dim;
    case WE_DIM_HEAD: return c->head_dim;
    case WE_DIM_VOCAB: return c->vocab_size;
    }
    return 0;
}

static const we_weight *find(const binder *b, const char *name, const char *suffix)
{
    char full[512], translated[WE_GGUF_NAME];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    if (!b->gguf) return we_weights_find(b->m->weights, full);
    return we_gguf_name(b->gguf, full, translated) ? we_weights_find(b->m->weights, translated) : NULL;
}

static we_status wrong_shape(const binder *b, const we_weight *w, int64_t rows, int64_t cols)
{
    char shape[WE_SHAPE_TEXT], want[64];
    if (cols)
        snprintf(want, sizeof want, "[%lld, %lld]", (long long)rows, (long long)cols);
    else
        snprintf(want, sizeof want, "[%lld]", (long long)rows);
    return we_fail(b->err, WE_E_FORMAT, "%s/%s: %s is %s %s, but %s makes it %s", b->dir, w->file, w->name,
                   we_dtype_name(w->dtype), we_shape_text(shape, w->shape, w->n_dims), b->said_by, want);
}

static we_status missing(const binder *b, const char *name)
{
    char full[512], translated[WE_GGUF_NAME];
    snprintf(full, sizeof full, "%s.weight", name);
    if (b->gguf && we_gguf_name(b->gguf, full, translated))
        return we_fail(b->err, WE_E_FORMAT, "%s/%s: has no tensor %s, which the architecture needs", b->dir,
                       we_weights_gguf(b->m->weights)->file, translated);
    return we_fail(b->err, WE_E_FORMAT, "%s: the weights have no tensor %s.weight, which a model_type of \"%s\" needs",
                   b->dir, name, b->m->config.model_type);
}

static bool is_float(we_dtype t) { return t == WE_F32 || t == WE_F16 || t == WE_BF16; }

static we_status not_float(const binder *b, const we_weight *w)
{
    return we_fail(b->err, WE_E_UNSUPPORTED,
                   "%s/%s: %s has the type %s; weights can be F32, F16, BF16 or an MLX quantization", b->dir, w->file,
                   w->name, we_dtype_name(w->dtype));
}

/* Packing from shapes: codes [rows, cols * bits / 32] of U32, scales [rows, cols / group_size]. */
static we_status infer_quant(const binder *b, const we_weight *w, const we_weight *scales, const we_weight *biases,
                             int64_t rows, int64_t cols, we_quant *q)
{
    char shape[WE_SHAPE_TEXT];
    if (w->dtype != WE_U32 || w->n_dims != 2 || w->shape[0] != rows || w->shape[1] * 32 % cols || scales->n_dims != 2 ||
        scales->shape[0] != rows || scales->shape[1] < 1 || cols % scales->shape[1]) {
        char other[WE_SHAPE_TEXT];
        return we_fail(b->err, WE_E_FORMAT, "%s/%s: %s is %s %s with scales %s, which is no packing of [%lld, %lld]",
                       b->dir, w->file, w->name, we_dtype_name(w->dtype), we_shape_text(shape, w->shape, w->n_dims),
                       we_shape_text(other, scales->shape, scales->n_dims), (long long)rows, (long long)cols);
    }
    q->bits = (int)(w->shape[1] * 32 / cols);
    q->group_size = (int)(cols / scales->shape[1]);
    if (is_float(scales->dtype)) {
        q->mode = WE_QUANT_AFFINE;
        if (!biases)
            return we_fail(b->err, WE_E_FORMAT, "%s/%s: %s has scales but no biases", b->dir, w->file, w->name);
        if (biases->dtype != scales->dtype || biases->bytes != scales->bytes)
            return we_fail(b->err, WE_E_FORMAT, "%s/%s: %s is %s %s, expected the same as its scales", b->dir,
                           biases->file, biases->name, we_dtype_name(biases->dtype),
                           we_shape_text(shape, biases->shape, biases->n_dims));
    } else if (scales->dtype == WE_U8) {
        q->mode = q->bits == 8 ? WE_QUANT_MXFP8 : q->group_size == 16 ? WE_QUANT_NVFP4 : WE_QUANT_MXFP4;
    }
    if (!we_quant_valid(*q))
        return we_fail(b->err, WE_E_UNSUPPORTED,
                       "%s/%s: %s is packed with %d bits in groups of %d with %s scales, which is not known", b->dir,
                       w->file, w->name, q->bits, q->group_size, we_dtype_name(scales->dtype));
    return WE_OK;
}

static bool dtype_matters(we_quant q) { return q.mode == WE_QUANT_NONE || q.mode == WE_QUANT_GGML; }

static void count(binder *b, const bound *t)
{
    const we_matrix *m = &t->matrix;
    b->m->info.n_parameters += (uint64_t)(m->rows * m->cols) + (t->bias ? (uint64_t)t->bias->shape[0] : 0);
    b->m->info.weights_bytes += we_matrix_bytes(m) + (t->bias ? t->bias->bytes : 0);
    if (m->rows == 1) return; /* vectors stay unquantized */
    int i = 0;
    while (i < b->n_packings && (memcmp(&b->packings[i].quant, &m->quant, sizeof m->quant) != 0 ||
                                 (dtype_matters(m->quant) && b->packings[i].dtype != m->dtype)))
        i++;
    if (i == (int)WE_COUNT(b->packings)) return;
    if (i == b->n_packings) b->packings[b->n_packings++] = (packing_count){ m->quant, m->dtype, 0 };
    b->packings[i].n++;
}

/* A whole matrix [rows, cols] by name. */
static we_status find_matrix(binder *b, const char *name, int64_t rows, int64_t cols, bound *out)
{
    const we_weight *w = find(b, name, ".weight");
    if (!w) return missing(b, name);
    const we_weight *scales = find(b, name, ".scales"), *biases = find(b, name, ".biases");
    *out = (bound){ .matrix = { .rows = rows, .cols = cols, .dtype = w->dtype, .data = w->data },
                    .bias = find(b, name, ".bias") };
    if (scales) {
        we_status st = infer_quant(b, w, scales, biases, rows, cols, &out->matrix.quant);
        if (st) return st;
        out->matrix.dtype = scales->dtype;
        out->matrix.scales = scales->data;
        out->matrix.biases = biases ? biases->data : NULL;
    } else {
        if (w->n_dims != 2 || w->shape[0] != rows || w->shape[1] != cols) return wrong_shape(b, w, rows, cols);
        if (we_ggml_group(w->dtype))
            out->matrix.quant = (we_quant){ WE_QUANT_GGML, 0, we_dtype_block(w->dtype) };
        else if (!is_float(w->dtype))
            return not_float(b, w);
    }
    const we_weight *bias = out->bias;
    if (bias && (bias->n_dims != 1 || bias->shape[0] != rows)) return wrong_shape(b, bias, rows, 0);
    if (bias && !is_float(bias->dtype)) return not_float(b, bias);
    return WE_OK;
}

static we_status find_vector(binder *b, const char *name, int64_t n, bound *out)
{
    const we_weight *w = find(b, name, ".weight");
    if (!w) return missing(b, name);
    if (w->n_dims != 1 || w->shape[0] != n) return wrong_shape(b, w, n, 0);
    if (!is_float(w->dtype)) return not_float(b, w);
    *out = (bound){ .matrix = { .rows = 1, .cols = n, .dtype = w->dtype, .data = w->data } };
    return WE_OK;
}

/* A device's handle for a matrix, kept in the list of what is to be freed. */
static we_status make_tensor(binder *b, const we_matrix *m, we_tensor **out)
{
    we_decoder *d = b->m;
    if (d->options.bind_only) return WE_OK;
    if (d->n_tensors == d->tensors_capacity) {
        const size_t more = WE_MAX(64, d->tensors_capacity * 2);
        we_handle *grown = we_realloc_array(d->tensors, more, sizeof *grown);
        if (!grown) return we_fail(b->err, WE_E_NOMEM, "%s: no memory for the list of tensors", b->dir);
        d->tensors = grown;
        d->tensors_capacity = more;
    }
    we_status st = d->device->ops->weight_new(d->device, m, out, b->err);
    if (!st) d->tensors[d->n_tensors++] = (we_handle){ *out, *m };
    return st;
}

static we_status add_slot(binder *b, const char *name, we_tensor **field, int64_t first, int64_t rows)
{
    we_decoder *d = b->m;
    if (d->options.bind_only) return WE_OK;
    if (d->n_slots == d->slots_capacity) {
        const size_t more = WE_MAX(64, d->slots_capacity * 2);
        we_slot *grown = we_realloc_array(d->slots, more, sizeof *grown);
        if (!grown) return we_fail(b->err, WE_E_NOMEM, "%s: no memory for the list of matrices", b->dir);
        d->slots = grown;
        d->slots_capacity = more;
    }
    const char *kept = we_arena_strndup(&d->arena, name, strlen(name));
    if (!kept) return we_fail(b->err, WE_E_NOMEM, "%s: no memory for the list of matrices", b->dir);
    d->slots[d->n_slots++] = (we_slot){ kept, field, *field, first, rows };
    return WE_OK;
}

/* first: of the checkpoint's rows, where the matrix is a part of a joined one. */
static we_status make_proj(binder *b, const bound *t, const char *name, int64_t first, we_proj *out)
{
    we_status st = make_tensor(b, &t->matrix, &out->weight);
    if (!st) st = add_slot(b, name, &out->weight, first, t->matrix.rows);
    if (st || !t->bias) return st;
    const we_matrix bias = { .rows = 1,
                             .cols = t->matrix.rows,
                             .dtype = t->bias->dtype,
                             .data = t->bias->data + (size_t)first * we_dtype_size(t->bias->dtype) };
    return make_tensor(b, &bias, &out->bias);
}

/* Of the last layer a prompt's tokens need what their keys and values come from, and only the last token the rest. */
static bool every_token_reads(const we_config *c, const we_layer *layer, size_t field)
{
    return layer->index < c->num_hidden_layers - 1 || field == WE_LAYER(q_proj) || field == WE_LAYER(k_proj) ||
           field == WE_LAYER(v_proj);
}

/* One row of a page's table, for one layer. */
static we_status bind_field(binder *b, we_layer *layer, const we_tensor_spec *spec)
{
    const we_config *c = &b->m->config;
    char name[256];
    snprintf(name, sizeof name, "%slayers.%d.%s", b->prefix, layer->index, spec->name);
    void *field = (char *)layer + spec->field;
    const int64_t rows = dim_of(c, spec->shape[0]), cols = dim_of(c, spec->shape[1]);
    bound t;
    we_status st;
    if (!cols) {
        if ((st = find_vector(b, name, rows, &t))) return st;
        count(b, &t);
        return make_tensor(b, &t.matrix, field);
    }
    int64_t all_rows = 0, first = 0;
    for (size_t i = 0; i < WE_COUNT(spec->of); i++) all_rows += dim_of(c, spec->of[i]);
    for (size_t i = 0; i < WE_COUNT(spec->after); i++) first += dim_of(c, spec->after[i]);
    if ((st = find_matrix(b, name, all_rows ? all_rows : rows, cols, &t))) return st;
    if (first == 0) count(b, &t); /* a joined tensor once */
    t.matrix = we_matrix_rows(&t.matrix, first, rows);
    if (every_token_reads(c, layer, spec->field)) b->m->info.multiply_adds_per_token += (uint64_t)(rows * cols);
    return make_proj(b, &t, name, first, field);
}

/* A page's fields: its own rows, and those of its parents for fields that it does not have itself. */
static we_status bind_layer(binder *b, we_layer *layer)
{
    for (const we_arch *page = b->m->arch; page; page = page->parent)
        for (size_t i = 0; i < page->n_tensors; i++) {
            const we_tensor_spec *spec = &page->tensors[i];
            bool replaced = false;
            for (const we_arch *p = b->m->arch; p != page; p = p->parent)
                for (size_t j = 0; j < p->n_tensors; j++) replaced |= p->tensors[j].field == spec->field;
            we_status st = replaced ? WE_OK : bind_field(b, layer, spec);
            if (st) return st;
        }
    return WE_OK;
}

static we_status bind_outer(binder *b)
{
    we_decoder *m = b->m;
    we_config *c = &m->config;
    char name[256];
    bound t;
    we_status st;
    snprintf(name, sizeof name, "%sembed_tokens", b->prefix);
    if ((st = find_matrix(b, name, c->vocab_size, c->hidden_size, &t))) return st;
    count(b, &t);
    if ((st = make_tensor(b, &t.matrix, &m->embed_tokens))) return st;
    m->lm_head = (we_proj){ m->embed_tokens, NULL };
    if ((st = add_slot(b, name, &m->embed_tokens, 0, t.matrix.rows))) return st;
    if ((st = add_slot(b, name, &m->lm_head.weight, 0, t.matrix.rows))) return st; /* unless it has its own: below */
    bound head = t;

    snprintf(name, sizeof name, "%snorm", b->prefix);
    if ((st = find_vector(b, name, c->hidden_size, &t))) return st;
    count(b, &t);
    if ((st = make_tensor(b, &t.matrix, &m->norm))) return st;

    /* lm_head stands beside `model`, not below it. */
    snprintf(name, sizeof name, "%.*slm_head", (int)(strlen(b->prefix) - (b->prefix[0] ? strlen("model.") : 0)),
             b->prefix);
    if (c->tied_without_head) c->tie_word_embeddings = !find(b, name, ".weight");
    const uint64_t embed_bytes = we_matrix_bytes(&head.matrix);
    m->info.weight_bytes_read_per_token = m->info.weights_bytes;
    if (!c->tie_word_embeddings) {
        if ((st = find_matrix(b, name, c->vocab_size, c->hidden_size, &head))) return st;
        count(b, &head);
        if (m->n_slots) m->n_slots--; /* that of the tied one */
        if ((st = make_proj(b, &head, name, 0, &m->lm_head))) return st;
        m->info.weight_bytes_read_per_token =
            m->info.weights_bytes - embed_bytes; /* of the embeddings one row is read */
    }
    return WE_OK;
}

static void describe_quantization(const binder *b)
{
    char *out = b->m->info.quantization;
    const size_t size = sizeof b->m->info.quantization;
    if (b->n_packings > 1) snprintf(out, size, "mixed: ");
    for (int i = 0; i < b->n_packings; i++) {
        const packing_count *p = &b->packings[i];
        const size_t at = strlen(out);
        const char *comma = i ? "; " : "";
        if (p->quant.mode == WE_QUANT_NONE)
            snprintf(out + at, size - at, "%s%s", comma,
                     p->dtype == WE_F32   ? "float32"
                     : p->dtype == WE_F16 ? "float16"
                                          : "bfloat16");
        else if (p->quant.mode == WE_QUANT_GGML)
            snprintf(out + at, size - at, "%s%s", comma, we_dtype_name(p->dtype));
        else
            snprintf(out + at, size - at, "%s%d-bit %s, group %d", comma, p->quant.bits,
                     we_quant_mode_name(p->quant.mode), p->quant.group_size);
    }
}

we_status we_bind_weights(we_decoder *m, const char *dir, we_error *err)
{
    static const char *const prefixes[] = { "model.", "language_model.model.", "" };
    binder b = { .m = m, .dir = dir, .prefix = prefixes[0], .said_by = "config.json", .err = err };
    const we_gguf *gguf = we_weights_gguf(m->weights);
    if (gguf) {
        const we_status st = we_gguf_find_arch(gguf, &b.gguf, err);
        const char *name = we_path_base(dir); /* tensors name their file themselves */
        b.dir = name == dir ? "." : we_arena_strndup(&m->arena, dir, (size_t)(name - dir) - 1);
        b.said_by = "the file's metadata";
        if (st) return st;
        if (!b.dir) return we_fail(err, WE_E_NOMEM, "%s: no memory", dir);
    }
    for (size_t i = 0; i < WE_COUNT(prefixes); i++) {
        char name[64];
        snprintf(name, sizeof name, "%sembed_tokens", prefixes[i]);
        if (!find(&b, name, ".weight")) continue;
        b.prefix = prefixes[i];
        break;
    }
    m->layers = we_arena_calloc(&m->arena, (size_t)m->config.num_hidden_layers, sizeof *m->layers);
    if (!m->layers)
        return we_fail(err, WE_E_NOMEM, "%s: no memory for %lld layers", dir, (long long)m->config.num_hidden_layers);
    we_status st = WE_OK;
    for (int i = 0; i < m->config.num_hidden_layers && !st; i++) {
        we_layer *layer = &m->layers[i];
        layer->index = i;
        layer->window = m->config.layer_windows[i];
        layer->rope = m->config.has_local_rope && layer->window ? &m->local_rope : &m->rope;
        st = bind_layer(&b, layer);
    }
    if (!st) st = bind_outer(&b);
    describe_quantization(&b);
    return st;
}

/* ---- Matrices by name ---- */

const char *we_decoder_matrix_name(const we_decoder *m, const we_tensor *weight)
{
    for (size_t i = 0; i < m->n_slots; i++)
        if (*m->slots[i].field == weight) return m->slots[i].name;
    return NULL;
}

bool we_decoder_is_head(const we_decoder *m, const we_tensor *weight) { return m->lm_head.weight == weight; }

static void put_own(we_decoder *m, we_slot *slot)
{
    if (*slot->field != slot->own) m->device->ops->tensor_free(m->device, *slot->field);
    *slot->field = slot->own;
}

we_status we_decoder_replace(we_decoder *m, const char *name, const we_matrix *with, we_error *err)
{
    we_status st = WE_OK;
    bool found = false;
    for (size_t i = 0; i < m->n_slots; i++) {
        we_slot *slot = &m->slots[i];
        if (strcmp(slot->name, name) != 0) continue;
        found = true;
        put_own(m, slot);
        if (!with || st) continue;
        const we_matrix part = we_matrix_rows(with, slot->first, slot->rows);
        we_tensor *made;
        st = m->device->ops->weight_new(m->device, &part, &made, err);
        if (!st) *slot->field = made;
    }
    if (!found) return we_fail(err, WE_E_NOT_FOUND, "the model has no matrix %s", name);
    if (st) we_decoder_replace(m, name, NULL, NULL);
    return st;
}

/* ---- Rotary embeddings ---- */

static we_status make_rope(we_decoder *m, const we_rope_params *params, we_rope **out, we_error *err)
{
    float scale, *inv_freq = we_malloc((size_t)params->dims / 2 * sizeof *inv_freq);
    if (!inv_freq) return we_fail(err, WE_E_NOMEM, "no memory for rotary frequencies");
    we_rope_frequencies(params, inv_freq, &scale);
    we_rope *made = NULL;
    we_status st =
        m->device->ops->rope_new(m->device, inv_freq, params->dims, m->config.rope_traditional, scale, &made, err);
    we_free(inv_freq);
    if (st) return st;
    m->device->ops->rope_free(m->device, *out);
    *out = made;
    return WE_OK;
}

we_status we_bind_ropes(we_decoder *m, int64_t length, we_error *err)
{
    const we_config *c = &m->config;
    we_rope_params params = {
        .base = c->rope_theta,
        .dims = (int)((double)c->head_dim * c->partial_rotary_factor),
        .scaling = c->rope_scaling,
        .max_position_embeddings = c->max_position_embeddings,
        .length = length,
    };
    we_status st = make_rope(m, &params, &m->rope, err);
    if (st || !c->has_local_rope) return st;
    params.base = c->rope_local_base_freq;
    params.scaling = (we_rope_scaling){ 0 };
    return make_rope(m, &params, &m->local_rope, err);
}
