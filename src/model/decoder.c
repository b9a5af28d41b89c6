/* SPDX-License-Identifier: Apache-2.0
 * decoder.c - opening and closing a decoder: read the configuration, map and bind the weights, count what it will need and
 * refuse before taking it, make the scratch of a step. The forward pass is run.c. */
#include "model/model_int.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#define DEFAULT_CONTEXT 8192

static we_status choose_context(we_decoder *m, const char *dir, we_error *err)
{
    const we_rope_scaling *rope = &m->config.rope_scaling;
    int64_t most = m->config.max_position_embeddings ? m->config.max_position_embeddings : INT32_MAX;
    if (rope->kind == WE_ROPE_DYNAMIC)
        most = (int64_t)fmin((double)most * rope->factor, INT32_MAX); /* made to go beyond */
    const int64_t usual = m->options.usual_context ? m->options.usual_context : DEFAULT_CONTEXT;
    const int64_t want = m->options.context ? m->options.context : WE_MIN(most, usual);
    if (want < 1 || want > most)
        return we_fail(
            err, WE_E_RANGE,
            "%s: a context of %lld tokens is out of range: this model has 1 to %lld (max_position_embeddings)", dir,
            (long long)want, (long long)most);
    m->info.context = (int)want;
    return WE_OK;
}

/* The caches' shape; the caller frees spec->layers. */
static we_status kv_spec(const we_decoder *m, we_kv_spec *spec, we_error *err)
{
    const we_config *c = &m->config;
    we_kv_layer *layers = we_calloc((size_t)c->num_hidden_layers, sizeof *layers);
    if (!layers) return we_fail(err, WE_E_NOMEM, "no memory for the description of the KV cache");
    for (int64_t i = 0; i < c->num_hidden_layers; i++)
        layers[i] = (we_kv_layer){ (int)c->num_key_value_heads, (int)c->head_dim, c->layer_windows[i] };
    *spec = (we_kv_spec){ layers, (int)c->num_hidden_layers,
                          m->options.precise   ? 32
                          : m->options.kv_bits ? m->options.kv_bits
                                               : 16 };
    return WE_OK;
}

we_status we_decoder_kv_new(const we_decoder *m, we_kv **out, we_error *err)
{
    we_kv_spec spec;
    we_status st = kv_spec(m, &spec, err);
    if (st) return st;
    st = m->device->ops->kv_new(m->device, &spec, out, err);
    we_free((void *)spec.layers);
    return st;
}

/* Scratch tensors: member of we_step, width. One table, so that counting and making agree. */
typedef struct scratch {
    size_t field;
    int64_t rows, cols; /* cols 0: token ids */
} scratch;
#define N_SCRATCH 12

static void list_scratch(const we_decoder *m, scratch out[N_SCRATCH])
{
    const we_config *c = &m->config;
    const int64_t n = m->device->step_rows, q = c->num_attention_heads * c->head_dim,
                  kv = c->num_key_value_heads * c->head_dim;
    const scratch all[N_SCRATCH] = {
        { offsetof(we_step, ids), n, 0 },
        { offsetof(we_step, x), n, c->hidden_size },
        { offsetof(we_step, h), n, c->hidden_size },
        { offsetof(we_step, q), n, q },
        { offsetof(we_step, k), n, kv },
        { offsetof(we_step, v), n, kv },
        { offsetof(we_step, a), n, q },
        { offsetof(we_step, gate), n, c->intermediate_size },
        { offsetof(we_step, up), n, c->intermediate_size },
        { offsetof(we_step, picked), WE_LOGIT_ROWS, c->hidden_size },
        { offsetof(we_step, logits), WE_LOGIT_ROWS, c->vocab_size },
        { offsetof(we_step, sampled), WE_LOGIT_ROWS, 0 },
    };
    memcpy(out, all, sizeof all);
}

static we_status make_scratch(we_decoder *m, we_error *err)
{
    scratch list[N_SCRATCH];
    list_scratch(m, list);
    we_device *d = m->device;
    m->step.d = d;
    m->step.c = &m->config;
    we_status st = WE_OK;
    for (size_t i = 0; i < N_SCRATCH && !st; i++) {
        we_tensor **t = (we_tensor **)((char *)&m->step + list[i].field);
        st = list[i].cols ? d->ops->tensor_new(d, list[i].rows, list[i].cols, t, err)
                          : d->ops->ids_new(d, list[i].rows, t, err);
    }
    return st;
}

static void free_scratch(we_decoder *m)
{
    scratch list[N_SCRATCH];
    list_scratch(m, list);
    for (size_t i = 0; i < N_SCRATCH; i++)
        m->device->ops->tensor_free(m->device, *(we_tensor **)((char *)&m->step + list[i].field));
}

static we_status count_memory(we_decoder *m, we_error *err)
{
    we_kv_spec spec;
    we_status st = kv_spec(m, &spec, err);
    if (st) return st;
    const int bytes_x2 = spec.bits * 2 / 8; /* two numbers, a key's and a value's */
    m->info.kv_bytes_per_token = (uint64_t)m->config.num_hidden_layers *
                                 (uint64_t)(m->config.num_key_value_heads * m->config.head_dim) * (uint64_t)bytes_x2;
    m->info.kv_bytes_at_context = m->device->ops->kv_bytes_needed(m->device, &spec, m->info.context);
    we_free((void *)spec.layers);
    scratch list[N_SCRATCH];
    list_scratch(m, list);
    for (size_t i = 0; i < N_SCRATCH; i++)
        m->info.scratch_bytes += (uint64_t)(list[i].rows * WE_MAX(list[i].cols, 1)) * sizeof(float);
    return WE_OK;
}

we_status we_decoder_count(const we_decoder_shape *shape, we_device *device, int context, uint64_t *kv_bytes,
                           uint64_t *scratch_bytes, we_error *err)
{
    int *windows = we_calloc((size_t)shape->n_layers, sizeof *windows);
    if (!windows) return we_fail(err, WE_E_NOMEM, "no memory for a list of layers");
    for (int i = 0; shape->full_every && i < shape->n_layers; i++)
        if ((i + 1) % shape->full_every) windows[i] = shape->window;
    we_decoder m = {
        .device = device,
        .info.context = context,
        .config = {
            .hidden_size = shape->hidden_size,
            .num_hidden_layers = shape->n_layers,
            .intermediate_size = shape->intermediate_size,
            .num_attention_heads = shape->n_heads,
            .num_key_value_heads = shape->n_kv_heads,
            .head_dim = shape->head_dim,
            .vocab_size = shape->vocab_size,
            .layer_windows = windows,
        },
    };
    const we_status st = count_memory(&m, err);
    *kv_bytes = m.info.kv_bytes_at_context;
    *scratch_bytes = m.info.scratch_bytes;
    we_free(windows);
    return st;
}

/* What there is for a model: the device's own memory, else the system's. False: nobody tells. */
static bool available_memory(we_device *d, uint64_t *bytes)
{
    we_memory_info system = { sizeof system, 0, 0, 0, 0 };
    we_device_memory own = { 0 };
    if (d->ops->memory) d->ops->memory(d, &own);
    if (!own.available_bytes && we_system_memory(&system, NULL)) return false;
    *bytes = own.available_bytes ? own.available_bytes : system.available_bytes;
    return true;
}

static we_status check_memory(const we_decoder *m, const char *dir, we_error *err)
{
    uint64_t available_bytes;
    if (!available_memory(m->device, &available_bytes)) return WE_OK; /* try */
    const we_decoder_info *i = &m->info;
    const bool pages = m->options.allow_paging && !m->device->ops->weight_fetch;
    const uint64_t unpacked = we_weights_unpacked_bytes(m->weights); /* taken already: no longer in `available` */
    const uint64_t own = WE_MIN(i->kv_bytes_at_context, UINT64_MAX / 4) + i->scratch_bytes, /* the sums stay sums */
        all = own + i->weights_bytes - WE_MIN(unpacked, i->weights_bytes);
    if ((pages ? own : all) <= available_bytes) return WE_OK;
    char needed[24], weights[24], kv[24], scratch_text[24], available[24];
    return we_fail(
        err, WE_E_NOMEM,
        "Out of memory during model loading: %s needs %s (weights %s + KV cache at a context of %d tokens %s + scratch %s), "
        "available are %s. Use a smaller --context or --kv-bits, a smaller model%s.",
        dir, we_format_bytes(needed, own + i->weights_bytes), we_format_bytes(weights, i->weights_bytes), i->context,
        we_format_bytes(kv, i->kv_bytes_at_context), we_format_bytes(scratch_text, i->scratch_bytes),
        we_format_bytes(available, available_bytes),
        own <= available_bytes && !m->device->ops->weight_fetch
            ? ", or --allow-paging (slow: weights are read from disk again and again)"
            : "");
}

/* The user's own limit: weights and scratch are counted now, caches as they grow; one full context must fit. */
static we_status count_in_budget(we_decoder *m, const char *dir, we_error *err)
{
    const we_decoder_info *i = &m->info;
    we_budget *b = &m->device->budget;
    const uint64_t kept = i->weights_bytes + i->scratch_bytes, kv = WE_MIN(i->kv_bytes_at_context, UINT64_MAX / 4);
    const uint64_t used = atomic_load(&b->used);
    char needed[24], weights[24], kv_text[24], scratch_text[24], limit[24], used_text[24];
    if (we_budget_take(b, kept + kv)) {
        we_budget_give(b, kv);
        m->counted_bytes = kept;
        return WE_OK;
    }
    return we_fail(
        err, WE_E_NOMEM,
        "Out of memory during model loading: %s needs %s (weights %s + KV cache at a context of %d tokens %s + scratch %s), "
        "the limit is %s, %s of it in use (MLX_MEMORY_POOL_SIZE). Raise it, or use a smaller --context or --kv-bits, or a smaller "
        "model.",
        dir, we_format_bytes(needed, kept + kv), we_format_bytes(weights, i->weights_bytes), i->context,
        we_format_bytes(kv_text, i->kv_bytes_at_context), we_format_bytes(scratch_text, i->scratch_bytes),
        we_format_bytes(limit, b->limit), we_format_bytes(used_text, used));
}

static void fill_info(we_decoder *m)
{
    const we_config *c = &m->config;
    we_decoder_info *i = &m->info;
    snprintf(i->model_type, sizeof i->model_type, "%s", c->model_type);
    i->vocab_size = (int)c->vocab_size;
    i->hidden_size = (int)c->hidden_size;
    i->n_layers = (int)c->num_hidden_layers;
    i->n_heads = (int)c->num_attention_heads;
    i->n_kv_heads = (int)c->num_key_value_heads;
    i->head_dim = (int)c->head_dim;
    i->max_position_embeddings = (int)c->max_position_embeddings;
    i->step_rows = m->device->step_rows;
    i->rewinds = true;
    for (int64_t l = 0; l < c->num_hidden_layers; l++) i->rewinds &= c->layer_windows[l] == 0;
}

/* A device with memory of its own takes the weights over, and the map's pages can go. */
static we_status fetch_weights(we_decoder *m, const char *dir, we_error *err)
{
    const we_device_ops *ops = m->device->ops;
    uint64_t done = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        we_error why = { 0 };
        const we_status st = ops->weight_fetch(m->device, m->tensors[i].handle, m->options.precise, &why);
        char weights[24], taken[24], in_use[24];
        we_device_memory memory = { 0 };
        if (st == WE_E_NOMEM) {
            if (ops->memory) ops->memory(m->device, &memory);
            return we_fail(
                err, WE_E_NOMEM,
                "Out of memory during model loading: %s: %s of the weights' %s were taken, the device has %s in "
                "use: %s. Use a smaller model, or raise MLX_MEMORY_POOL_SIZE.",
                dir, we_format_bytes(taken, done), we_format_bytes(weights, m->info.weights_bytes),
                we_format_bytes(in_use, memory.active_bytes), why.message);
        }
        if (st) return we_fail(err, st, "%s: %s", dir, why.message);
        const we_matrix *t = &m->tensors[i].matrix;
        we_weights_drop(m->weights, t->data, (size_t)t->rows * we_matrix_row_bytes(t));
        done += we_matrix_bytes(t);
        if (m->options.progress &&
            !m->options.progress(m->options.progress_user, WE_MIN(done, m->info.weights_bytes), m->info.weights_bytes))
            return we_fail(err, WE_E_CANCELLED, "%s: loading was stopped", dir);
    }
    return we_weights_check(m->weights, err);
}

/* A GGUF file's configuration stands among its weights. */
static we_status read_all(we_decoder *m, const char *dir, we_error *err)
{
    we_status st;
    if (!we_is_gguf(dir)) {
        st = we_config_read(&m->config, &m->arch, &m->arena, dir, err);
        return st ? st : we_weights_open(&m->weights, dir, err);
    }
    st = we_weights_open(&m->weights, dir, err);
    return st ? st : we_gguf_config_read(&m->config, &m->arch, &m->arena, m->weights, err);
}

static we_status open_all(we_decoder *m, const char *dir, we_error *err)
{
    we_status st;
    if ((st = read_all(m, dir, err)) || (st = choose_context(m, dir, err))) return st;
    fill_info(m);
    if ((st = we_bind_weights(m, dir, err)) || (st = count_memory(m, err)) || m->options.bind_only) return st;
    if ((st = count_in_budget(m, dir, err)) || (st = check_memory(m, dir, err)) || (st = we_bind_ropes(m, 0, err)) ||
        (st = make_scratch(m, err)))
        return st;
    if (m->device->ops->weight_fetch) return fetch_weights(m, dir, err);
    if (m->options.allow_paging) { /* reading all of it would only push it out again */
        const uint64_t all = m->info.weights_bytes;
        if (m->options.progress && !m->options.progress(m->options.progress_user, all, all))
            return we_fail(err, WE_E_CANCELLED, "%s: loading was stopped", dir);
        return WE_OK;
    }
    return we_weights_load(m->weights, m->options.progress, m->options.progress_user, err);
}

we_status we_decoder_open(we_decoder **out, we_device *device, const char *dir, const we_decoder_options *options,
                          we_error *err)
{
    *out = NULL;
    we_decoder *m = we_calloc(1, sizeof *m);
    if (!m) return we_fail(err, WE_E_NOMEM, "%s: no memory for the model's tables", dir);
    m->device = device;
    m->options = options ? *options : (we_decoder_options){ 0 };
    pthread_mutex_init(&m->lock, NULL);
    const we_status st = open_all(m, dir, err);
    if (st) {
        we_decoder_close(m);
        return st;
    }
    we_log(model, INFO, "%s: %s, %s, %d layers, context %d", dir, m->info.model_type, m->info.quantization,
           m->info.n_layers, m->info.context);
    *out = m;
    return WE_OK;
}

void we_decoder_close(we_decoder *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n_slots; i++)
        if (*m->slots[i].field != m->slots[i].own) m->device->ops->tensor_free(m->device, *m->slots[i].field);
    we_free(m->slots);
    for (size_t i = 0; i < m->n_tensors; i++) m->device->ops->tensor_free(m->device, m->tensors[i].handle);
    we_free(m->tensors);
    free_scratch(m);
    m->device->ops->rope_free(m->device, m->rope);
    m->device->ops->rope_free(m->device, m->local_rope);
    if (m->device->ops->unloaded) m->device->ops->unloaded(m->device);
    we_weights_close(m->weights);
    we_budget_give(&m->device->budget, m->counted_bytes);
    we_arena_deinit(&m->arena);
    pthread_mutex_destroy(&m->lock);
    we_free(m);
}

const we_decoder_info *we_decoder_get_info(const we_decoder *m) { return &m->info; }

we_device *we_decoder_device(const we_decoder *m) { return m->device; }
