/* SPDX-License-Identifier: Apache-2.0
 * model.c - the model handle: a decoder and a tokenizer out of one folder or GGUF file; finding, listing and inspecting folders. */
#include "api/api.h"
#include "client/client.h"
#include "convert/convert.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- generation_config.json's recommended sampling ---- */

static void read_recommended(we_model *m)
{
    struct {
        const char *key;
        double *value;
    } const fields[] = {
        { "temperature", &m->recommended.temperature },
        { "top_p", &m->recommended.top_p },
        { "top_k", &m->recommended.top_k },
        { "min_p", &m->recommended.min_p },
        { "repetition_penalty", &m->recommended.repetition_penalty },
    };
    for (size_t i = 0; i < WE_COUNT(fields); i++) *fields[i].value = NAN;
    char *path = we_path_join(m->path, "generation_config.json"), *text = NULL;
    size_t len;
    const we_json *root;
    we_arena arena = { 0 };
    we_error why;
    if (path && we_path_exists(path)) {
        we_status st = we_file_read(path, 1 << 20, &text, &len, &why);
        if (!st) st = we_json_parse(&arena, (we_str){ text, len }, &root, &why);
        if (st) we_log(api, WARN, "%s is left out: %s", path, why.message);
        for (size_t i = 0; i < WE_COUNT(fields) && !st; i++)
            we_json_f64(we_json_get(root, fields[i].key), fields[i].value);
        if (!st && we_json_is(we_json_get(root, "do_sample"), WE_JSON_FALSE)) m->recommended.temperature = 0;
    }
    we_arena_deinit(&arena);
    we_free(text);
    we_free(path);
}

/* A recommendation outside what we_sampling_check takes is nonsense, not an error of the user's. */
static void recommend(float *field, double value, double most)
{
    if (value >= 0 && value <= most) *field = (float)value;
}

void we_model_default_sampling(const we_model *m, we_generate_options *opt)
{
    recommend(&opt->temperature, m->recommended.temperature, 100);
    recommend(&opt->top_p, m->recommended.top_p, 1);
    recommend(&opt->min_p, m->recommended.min_p, 1);
    recommend(&opt->repetition_penalty, m->recommended.repetition_penalty, 100);
    if (m->recommended.top_k >= 0 && m->recommended.top_k < we_decoder_get_info(m->decoder)->vocab_size)
        opt->top_k = (int)m->recommended.top_k;
}

/* ---- Opening ---- */

/* Ids of the tokenizer that the model has no embedding for. A few added special tokens may lie beyond (Gemma 3's image token
 * does); ordinary ones mean that the two do not belong together. */
static we_status check_fit(const we_model *m, we_error *err)
{
    const int vocab_size = we_decoder_get_info(m->decoder)->vocab_size;
    const size_t n = we_tok_vocab_size(m->tokenizer->tok);
    for (size_t id = (size_t)vocab_size; id < n; id++) {
        we_str content;
        if (!we_tok_token(m->tokenizer->tok, (int32_t)id, &content) ||
            we_tok_is_special(m->tokenizer->tok, (int32_t)id))
            continue;
        return we_fail(
            err, WE_E_FORMAT,
            "%s: the tokenizer does not fit the model: its token \"%.*s\" has the id %zu, but config.json's vocab_size is %d; the files "
            "come from different models",
            m->path, (int)WE_MIN(content.len, 40), content.ptr, id, vocab_size);
    }
    return WE_OK;
}

static we_status check_folder(const char *path, we_error *err)
{
    if (we_path_is_dir(path) || we_is_gguf(path)) return WE_OK;
    if (we_path_exists(path))
        return we_fail(err, WE_E_UNSUPPORTED,
                       "%s is a file; a model is a folder with config.json, weights and tokenizer.json, or a GGUF file",
                       path);
    return we_fail(err, WE_E_NOT_FOUND, "Model path does not exist: %s", path);
}

static we_status check_options(const we_model_options *o, we_error *err)
{
    if (o->kv_bits != 0 && o->kv_bits != 16 && o->kv_bits != 8 && o->kv_bits != 4)
        return we_fail(err, WE_E_RANGE, "kv_bits is %d, expected 16, 8 or 4", o->kv_bits);
    if (o->context < 0)
        return we_fail(err, WE_E_RANGE, "context is %d, expected 1 or more, or 0 for the model's", o->context);
    return WE_OK;
}

/* What the caller leaves open is what the configuration says; its context is a wish, for models of any length. */
static we_status fill_options(we_model_options *o, int *usual_context, we_error *err)
{
    int64_t context = 0, kv_bits = o->kv_bits;
    we_status st = o->context ? WE_OK : we_config_i64("MLX_CONTEXT_LENGTH", &context, err);
    if (!st && !kv_bits) st = we_config_i64("MLX_KV_BITS", &kv_bits, err);
    if (st) return st;
    *usual_context = (int)context;
    o->kv_bits = (int)kv_bits;
    return check_options(o, err);
}

/* ---- MLX_QUANTIZATION ---- */

/* Floating-point weights in an MLX folder, which quantizing makes smaller. */
static bool is_unquantized(const char *path)
{
    char type[64], quantization[128];
    we_model_info info = { .size = sizeof info };
    if (!we_path_is_dir(path) || we_model_inspect(path, NULL, &info, type, quantization, NULL)) return false;
    return strcmp(quantization, "bfloat16") == 0 || strcmp(quantization, "float16") == 0 ||
           strcmp(quantization, "float32") == 0;
}

typedef struct stamp {
    const char *dir;
    uint64_t hash;
} stamp;

/* What a changed model differs in: names, sizes and times of its files. */
static bool add_stamp(void *user, const char *name)
{
    stamp *s = user;
    struct stat st;
    char *path = we_path_join(s->dir, name);
    if (path && stat(path, &st) == 0) {
        const int64_t facts[] = { (int64_t)st.st_size, (int64_t)st.st_mtime };
        s->hash = s->hash * 31 + we_str_hash(we_str_from(name));
        s->hash = s->hash * 31 + we_str_hash((we_str){ (const char *)facts, sizeof facts });
    }
    we_free(path);
    return true;
}

/* Where the quantized form of a folder is kept; we_free; NULL: no home, or memory is out. */
static char *quantized_path(const char *path)
{
    char *real = realpath(path, NULL), *dir = we_dir_user_cache();
    stamp s = { path, we_str_hash(we_str_from(real ? real : path)) };
    we_buf text = { 0 };
    if (dir && !we_dir_each(path, add_stamp, &s, NULL))
        we_buf_printf(&text, "%s/quantized/%.80s-%016llx", dir, we_path_base(real ? real : path),
                      (unsigned long long)s.hash);
    char *out = text.len ? we_buf_take(&text, NULL) : NULL;
    we_buf_deinit(&text);
    we_free(dir);
    free(real);
    return out;
}

/* Put the quantized form in the place of the model's path, where that is wanted. */
static we_status quantize(we_model *m, const we_model_options *o, we_error *err)
{
    bool wanted = o->quantize > 0;
    we_status st = o->quantize ? WE_OK : we_config_bool("MLX_QUANTIZATION", &wanted, err);
    if (st || !wanted || !is_unquantized(m->path)) return st;
    char *target = quantized_path(m->path);
    if (!target)
        return we_fail(err, WE_E_IO, "%s can't be quantized: this user has no cache folder (HOME, XDG_CACHE_HOME)",
                       m->path);
    if (!we_path_is_dir(target)) {
        we_convert_options convert = WE_CONVERT_OPTIONS_INIT;
        convert.quantize = true;
        convert.progress = o->progress;
        convert.progress_user = o->progress_user;
        we_log(api, INFO, "%s is quantized into %s", m->path, target);
        st = we_convert(m->path, target, &convert, NULL, err);
        if (st == WE_E_ARG && we_path_is_dir(target)) st = WE_OK; /* another process was faster */
        if (st) we_fail_in(err, st, "MLX_QUANTIZATION: ");
    }
    if (st) {
        we_free(target);
        return st;
    }
    we_free(m->path);
    m->path = target;
    return WE_OK;
}

static we_status open_parts(we_model *m, we_model_options *o, we_error *err)
{
    int usual_context;
    we_status st = check_folder(m->path, err);
    if (st || (st = fill_options(o, &usual_context, err))) return st;
    const we_decoder_options decoder_options = {
        .context = o->context,
        .usual_context = usual_context,
        .kv_bits = o->kv_bits,
        .precise = o->precise,
        .allow_paging = o->allow_paging,
        .progress = o->progress,
        .progress_user = o->progress_user,
    };
    if ((st = quantize(m, o, err)) || (st = we_tokenizer_open_optional(&m->tokenizer, m->path, err)) ||
        (st = we_decoder_open(&m->decoder, m->engine->device, m->path, &decoder_options, err)) ||
        (m->tokenizer && (st = check_fit(m, err))))
        return st;
    read_recommended(m);
    return WE_OK;
}

/* As people know it: ORG/NAME where the hub's cache holds it, else the folder's or file's own name. */
static void tell_monitor(we_model *m)
{
    const we_decoder_info *d = we_decoder_get_info(m->decoder);
    const we_device *device = m->engine->device;
    we_model_source source = { .size = sizeof source };
    char on[64];
    const bool known = we_hub_source_of(&source, m->path, NULL) == WE_OK && source.repo;
    snprintf(on, sizeof on, "%s (%s, %d threads)", device->ops->name, device->kernels, device->n_threads);
    we_monitor_model_opened(known ? source.repo : we_path_base(m->path), on, d->weights_bytes, d->scratch_bytes);
    m->monitored = true;
    we_hub_source_deinit(&source);
}

we_status we_model_open(we_model **out, we_engine *engine, const char *path, const we_model_options *opt, we_error *err)
{
    *out = NULL;
    const double start = we_now_s();
    we_model_options o = WE_MODEL_OPTIONS_INIT;
    WE_REFUSE_UNSIZED(opt, "WE_MODEL_OPTIONS_INIT");
    WE_TAKE_OPTIONS(o, opt);
    we_model *m = we_calloc(1, sizeof *m);
    if (!m || !(m->path = we_strdup(path))) {
        we_free(m);
        return we_fail(err, WE_E_NOMEM, "%s: no memory for the model", path);
    }
    m->engine = engine;
    const we_status st = open_parts(m, &o, err);
    if (st) {
        we_model_close(m);
        return st;
    }
    m->load_s = we_now_s() - start;
    tell_monitor(m);
    *out = m;
    return WE_OK;
}

void we_model_close(we_model *m)
{
    if (!m) return;
    if (m->monitored) {
        const we_decoder_info *d = we_decoder_get_info(m->decoder);
        we_monitor_model_closed(d->weights_bytes, d->scratch_bytes);
    }
    we_decoder_close(m->decoder);
    we_tokenizer_close(m->tokenizer);
    we_free(m->path);
    we_free(m);
}

const we_tokenizer *we_model_tokenizer(const we_model *m) { return m->tokenizer; }

/* ---- Telling ---- */

static we_model_info info_of(const we_decoder_info *d, const we_tokenizer *tokenizer)
{
    return (we_model_info){
        .size = sizeof(we_model_info),
        .model_type = d->model_type,
        .quantization = d->quantization,
        .vocab_size = d->vocab_size,
        .hidden_size = d->hidden_size,
        .n_layers = d->n_layers,
        .n_heads = d->n_heads,
        .n_kv_heads = d->n_kv_heads,
        .head_dim = d->head_dim,
        .max_position_embeddings = d->max_position_embeddings,
        .context = d->context,
        .n_parameters = d->n_parameters,
        .weights_bytes = d->weights_bytes,
        .weight_bytes_read_per_token = d->weight_bytes_read_per_token,
        .kv_bytes_per_token = d->kv_bytes_per_token,
        .kv_bytes_at_context = d->kv_bytes_at_context,
        .scratch_bytes = d->scratch_bytes,
        .has_tokenizer = tokenizer != NULL,
        .has_chat_template = tokenizer && !tokenizer->family,
        .chat_format = tokenizer && tokenizer->family ? tokenizer->family->name : NULL,
        .multiply_adds_per_token = d->multiply_adds_per_token,
    };
}

void we_model_get_info(const we_model *m, we_model_info *info)
{
    we_model_info i = info_of(we_decoder_get_info(m->decoder), m->tokenizer);
    i.path = m->path;
    i.load_s = m->load_s;
    WE_GIVE_INFO(info, i);
}

/* The decoder of a folder with names and shapes only. A device is needed for the cache's layout; one thread of it. */
static we_status inspect(const char *path, we_model_options *o, we_device **device, we_decoder **decoder, we_error *err)
{
    int usual_context;
    we_status st = check_folder(path, err);
    if (st || (st = fill_options(o, &usual_context, err))) return st;
    const we_decoder_options options = { .context = o->context,
                                         .usual_context = usual_context,
                                         .kv_bits = o->kv_bits,
                                         .precise = o->precise,
                                         .bind_only = true };
    if ((st = we_device_open(device, &(we_device_options){ .device = "cpu", .threads = 1 }, err))) return st;
    return we_decoder_open(decoder, *device, path, &options, err);
}

we_status we_model_inspect(const char *path, const we_model_options *opt, we_model_info *info, char model_type[64],
                           char quantization[128], we_error *err)
{
    we_model_options o = WE_MODEL_OPTIONS_INIT;
    WE_REFUSE_UNSIZED(opt, "WE_MODEL_OPTIONS_INIT");
    WE_TAKE_OPTIONS(o, opt);
    WE_REFUSE_UNSIZED(info, "its sizeof");
    we_device *device = NULL;
    we_decoder *decoder = NULL;
    we_tokenizer *tokenizer = NULL;
    we_status st = inspect(path, &o, &device, &decoder, err);
    if (!st) st = we_tokenizer_open_optional(&tokenizer, path, err);
    if (!st) {
        const we_decoder_info *d = we_decoder_get_info(decoder);
        we_model_info i = info_of(d, tokenizer);
        snprintf(model_type, 64, "%s", d->model_type);
        snprintf(quantization, 128, "%s", d->quantization);
        i.path = path;
        i.model_type = model_type;
        i.quantization = quantization;
        WE_GIVE_INFO(info, i);
    }
    we_tokenizer_close(tokenizer);
    we_decoder_close(decoder);
    we_device_close(device);
    return st;
}

/* ---- Finding and listing ---- */

we_status we_model_find(const char *name, char **path, we_error *err) { return we_hub_find(name, path, err); }

typedef struct folder_size {
    const char *dir;
    uint64_t bytes;
} folder_size;

static bool add_file(void *user, const char *name)
{
    folder_size *f = user;
    char *path = we_path_join(f->dir, name);
    if (path && !we_path_is_dir(path)) f->bytes += we_path_size(path);
    we_free(path);
    return true;
}

typedef struct model_listing {
    we_model_entry_fn fn;
    void *user;
    we_device *device;
    bool out_of_memory;
} model_listing;

/* What a model calls its architecture; we_free. NULL: it does not say, or memory is out. */
static char *type_of(const char *path)
{
    if (!we_is_gguf(path)) return we_config_text(path, "model_type");
    we_weights *weights;
    we_str type;
    char *copy = NULL;
    if (we_weights_open(&weights, path, NULL)) return NULL;
    if (we_gguf_str(we_gguf_get(we_weights_gguf(weights), "general.architecture"), &type))
        copy = we_strndup(type.ptr, type.len);
    we_weights_close(weights);
    return copy;
}

static bool list_model(void *user, const we_hub_entry *e)
{
    model_listing *l = user;
    folder_size size = { e->path, 0 };
    we_error why = { 0 };
    we_decoder *decoder = NULL;
    if (we_path_is_dir(e->path))
        we_dir_each(e->path, add_file, &size, NULL);
    else
        size.bytes = we_path_size(e->path);
    char *type = type_of(e->path);
    if (!type && !(type = we_strdup(""))) {
        l->out_of_memory = true;
        return false;
    }
    const we_status st =
        we_decoder_open(&decoder, l->device, e->path, &(we_decoder_options){ .bind_only = true }, &why);
    if (st) we_log(api, INFO, "%s cannot run: %s", e->path, why.message);
    we_model_entry entry = { e->name, e->path, e->source, type, size.bytes, st == WE_OK, "", 0, 0 };
    if (!st) {
        const we_decoder_info *d = we_decoder_get_info(decoder);
        entry.quantization = d->quantization;
        entry.n_parameters = d->n_parameters;
        entry.max_position_embeddings = d->max_position_embeddings;
    }
    const bool go_on = l->fn(l->user, &entry);
    we_decoder_close(decoder);
    we_free(type);
    return go_on;
}

we_status we_models_list(we_model_entry_fn fn, void *user, we_error *err)
{
    model_listing l = { fn, user, NULL, false };
    we_status st = we_device_open(&l.device, &(we_device_options){ .device = "cpu", .threads = 1 }, err);
    if (!st) st = we_hub_each(list_model, &l, err);
    if (!st && l.out_of_memory) st = we_fail(err, WE_E_NOMEM, "no memory for the list of models");
    we_device_close(l.device);
    return st;
}
