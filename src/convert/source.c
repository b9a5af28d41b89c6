/* SPDX-License-Identifier: Apache-2.0
 * source.c - a Hugging Face folder as a source: its weights under the names and in the order that mlx-lm stores them, what
 * it would not store left out, config.json, the files beside.
 *
 * The names of the architectures that the engine runs are the same in both worlds; what differs is told by the table below.
 * Other architectures go through unchanged, with a warning: mlx-lm may rename or join their tensors.
 * Source: sanitize() and the order of attributes in mlx_lm/models (llama, qwen2, qwen3, phi3, gemma3_text), load_config and
 * save in mlx_lm/utils.py, version 0.32.2. */
#include "convert/convert_int.h"

#include <stdlib.h>
#include <sys/stat.h>

#define LARGEST_CONFIG ((size_t)64 << 20)

typedef struct folder_source {
    we_source source; /* first: what `read` gets is this */
    we_arena arena;
    we_weights *weights;
    char *config_text, *generation_text;
    const char *dir;
} folder_source;

/* ---- Architectures ---- */

typedef enum { HEAD_KEPT, HEAD_TIED_BY_DEFAULT, HEAD_TIED_IF_SAID } head_rule;

static const struct {
    const char *model_type;
    head_rule head; /* lm_head is left out where tie_word_embeddings is true */
} rules[] = {
    { "gemma3_text", HEAD_KEPT }, /* tied where the checkpoint has none */
    { "llama", HEAD_TIED_BY_DEFAULT }, { "mistral", HEAD_TIED_BY_DEFAULT }, { "phi3", HEAD_TIED_IF_SAID },
    { "qwen2", HEAD_TIED_BY_DEFAULT }, { "qwen3", HEAD_TIED_IF_SAID },
};

/* Modules in the order of mlx-lm's attributes: those beside the layers, and those of a layer. */
static const char *const outer_order[] = { "embed_tokens", "layers", "norm", "lm_head" };
static const char *const layer_order[] = {
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.qkv_proj",
    "self_attn.o_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "mlp.gate_proj",
    "mlp.gate_up_proj",
    "mlp.down_proj",
    "mlp.up_proj",
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
};
static const char *const leaf_order[] = { "weight", "scales", "biases", "bias" };

static size_t rank(we_str name, const char *const *order, size_t n)
{
    size_t i = 0;
    while (i < n && !we_str_is(name, order[i])) i++;
    return i;
}

typedef struct sort_key {
    size_t outer, module, leaf;
    int64_t layer;
} sort_key;

static sort_key key_of(const char *name)
{
    sort_key k = { .layer = -1 };
    static const char layers[] = "layers.";
    const char *at = strstr(name, layers), *dot = strrchr(name, '.');
    const we_str leaf = we_str_from(dot ? dot + 1 : name);
    k.leaf = rank(leaf, leaf_order, WE_COUNT(leaf_order));
    const char *module = name;
    if (at && (at == name || at[-1] == '.')) {
        const char *number = at + sizeof layers - 1;
        const size_t digits = strspn(number, "0123456789");
        if (number[digits] == '.' && we_parse_i64((we_str){ number, digits }, &k.layer)) module = number + digits + 1;
    }
    const size_t module_len = dot && dot > module ? (size_t)(dot - module) : strlen(module);
    if (k.layer >= 0) {
        k.outer = rank(WE_STR("layers"), outer_order, WE_COUNT(outer_order));
        k.module = rank((we_str){ module, module_len }, layer_order, WE_COUNT(layer_order));
        return k;
    }
    const char *last = module + module_len; /* "model.embed_tokens" -> "embed_tokens" */
    while (last > module && last[-1] != '.') last--;
    k.outer = rank((we_str){ last, module_len - (size_t)(last - module) }, outer_order, WE_COUNT(outer_order));
    return k;
}

#define COMPARE(a, b) \
    if ((a) != (b)) return (a) < (b) ? -1 : 1

static int by_order(const void *a, const void *b)
{
    const we_source_tensor *x = a, *y = b;
    const sort_key k = key_of(x->name), l = key_of(y->name);
    COMPARE(k.outer, l.outer);
    COMPARE(k.layer, l.layer);
    COMPARE(k.module, l.module);
    const char *dot =
        strrchr(x->name, '.'); /* modules that the table does not have, by name; then weight, scales, ... */
    const size_t len = dot ? (size_t)(dot - x->name) : strlen(x->name);
    const int order = strncmp(x->name, y->name, len);
    if (order) return order;
    COMPARE(k.leaf, l.leaf);
    return strcmp(x->name, y->name);
}

void we_source_sort(we_source_tensor *tensors, size_t n)
{
    if (n) qsort(tensors, n, sizeof *tensors, by_order);
}

static bool drops_head(const we_json *config, bool *known)
{
    we_str type = { 0 };
    *known = false;
    if (!we_json_str(we_json_get(config, "model_type"), &type)) return false;
    for (size_t i = 0; i < WE_COUNT(rules); i++) {
        if (!we_str_is(type, rules[i].model_type)) continue;
        *known = true;
        bool tied = rules[i].head == HEAD_TIED_BY_DEFAULT;
        we_json_bool(we_json_get(config, "tie_word_embeddings"), &tied);
        return tied && rules[i].head != HEAD_KEPT;
    }
    return false;
}

/* ---- Tensors ---- */

static we_status list_tensors(folder_source *s, we_error *err)
{
    bool known;
    const bool without_head = drops_head(s->source.config, &known);
    const size_t n = we_weights_count(s->weights);
    we_source_tensor *tensors = we_arena_calloc(&s->arena, n, sizeof *tensors);
    if (!tensors) return we_fail(err, WE_E_NOMEM, "%s: no memory for a table of %zu tensors", s->dir, n);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const we_weight *w = we_weights_at(s->weights, i);
        if (known && strstr(w->name, "self_attn.rotary_emb.inv_freq")) continue; /* computed anew by everybody */
        if (without_head && strncmp(w->name, "lm_head.", 8) == 0) continue;
        tensors[kept] =
            (we_source_tensor){ .name = w->name, .dtype = w->dtype, .n_dims = w->n_dims, .file = w->file, .index = i };
        memcpy(tensors[kept++].shape, w->shape, sizeof w->shape);
    }
    we_source_sort(tensors, kept);
    s->source.tensors = tensors;
    s->source.n_tensors = kept;
    return WE_OK;
}

static we_status read_rows(const we_source *source, const we_source_tensor *t, int64_t first, int64_t n,
                           uint8_t *scratch, const uint8_t **rows, we_error *err)
{
    (void)n;
    (void)scratch;
    (void)err;
    const folder_source *s = (const folder_source *)source;
    const we_weight *w = we_weights_at(s->weights, t->index);
    *rows = w->data + (size_t)(first * we_row_elements(t)) * we_dtype_size(t->dtype);
    return WE_OK;
}

static void rows_done(const we_source *source, const uint8_t *rows, size_t bytes)
{
    we_weights_drop(((const folder_source *)source)->weights, rows, bytes);
}

static we_status check_maps(const we_source *source, we_error *err)
{
    return we_weights_check(((const folder_source *)source)->weights, err);
}

/* ---- config.json ---- */

/* A JSON object of the folder; *out is NULL where the file is not there. */
static we_status read_object(folder_source *s, const char *name, char **text, const we_json **out, we_error *err)
{
    *out = NULL;
    char *path = we_path_join(s->dir, name);
    if (!path) return we_fail(err, WE_E_NOMEM, "%s: no memory for a path", s->dir);
    size_t len = 0;
    we_status st = WE_OK;
    if (we_path_exists(path)) {
        if (!(st = we_file_read(path, LARGEST_CONFIG, text, &len, err)) &&
            (st = we_json_parse(&s->arena, (we_str){ *text, len }, out, err)))
            we_fail_in(err, st, "%s: ", path);
        if (!st && !we_json_is(*out, WE_JSON_OBJECT))
            st = we_fail(err, WE_E_FORMAT, "%s: is %s, expected an object", path, we_json_type_name(*out));
    }
    we_free(path);
    return st;
}

static we_status read_config(folder_source *s, we_error *err)
{
    const we_json *config, *generation;
    we_status st = read_object(s, "config.json", &s->config_text, &config, err);
    if (st) return st;
    if (!config)
        return we_fail(err, WE_E_NOT_FOUND,
                       "%s has no config.json, so it is no model's folder: download the model again", s->dir);
    /* mlx-lm stores what the generation will use; a broken file is nothing to it, and the copy stays as it is. */
    we_error why;
    if (read_object(s, "generation_config.json", &s->generation_text, &generation, &why)) {
        we_log(convert, WARN, "%s", why.message);
        generation = NULL;
    }
    const we_json *eos = we_json_get(generation, "eos_token_id");
    int64_t id = -1;
    const bool is_set = eos && eos->type != WE_JSON_NULL && !(we_json_i64(eos, &id) && id == 0);
    if (is_set && !(config = we_config_with(&s->arena, config, "eos_token_id", eos))) goto no_memory;
    bool known;
    drops_head(config, &known);
    s->source.is_checked = !known; /* there is nothing to check it by */
    if (known && !(config = we_config_with(&s->arena, config, "vision_config", NULL))) goto no_memory;
    if (!known) {
        we_str type = { 0 };
        we_json_str(we_json_get(config, "model_type"), &type);
        we_log(
            convert, WARN,
            "%s: model_type \"%.*s\" is not known: its tensors are converted under their own names, and neither this "
            "engine nor mlx-lm may run the result",
            s->dir, (int)WE_MIN(type.len, 60U), type.len ? type.ptr : "");
    }
    s->source.config = config;
    return WE_OK;
no_memory:
    return we_fail(err, WE_E_NOMEM, "%s: no memory for its configuration", s->dir);
}

/* ---- The files beside ---- */

/* What a tokenizer and a chat need. Python files are left out: nothing here runs them, and others should not. */
static const char *const side_names[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tiktoken.model",
    "qwen.tiktoken",
    "spiece.model",
    "spm.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
};

static we_status list_files(folder_source *s, we_error *err)
{
    we_side_file *files = we_arena_calloc(&s->arena, WE_COUNT(side_names) + 1, sizeof *files);
    if (!files) goto no_memory;
    size_t n = 0;
    for (size_t i = 0; i < WE_COUNT(side_names); i++) {
        const char *path = we_arena_printf(&s->arena, "%s/%s", s->dir, side_names[i]);
        if (!path) goto no_memory;
        struct stat info;
        if (lstat(path, &info) != 0) continue;
        if (stat(path, &info) != 0)
            return we_fail(err, WE_E_NOT_FOUND, "%s is a link that leads nowhere: download the model again", path);
        if (!S_ISREG(info.st_mode)) return we_fail(err, WE_E_FORMAT, "%s is no plain file", path);
        files[n++] = (we_side_file){ .name = side_names[i], .path = path };
    }
    s->source.files = files;
    s->source.n_files = n;
    return we_source_add_card(&s->arena, s->dir, &files[s->source.n_files++], err);
no_memory:
    return we_fail(err, WE_E_NOMEM, "%s: no memory for its files", s->dir);
}

/* ---- The whole ---- */

static we_status source_open(folder_source *s, const char *dir, we_error *err)
{
    *s = (folder_source){ .source = { .name = dir, .read = read_rows, .done = rows_done, .check = check_maps },
                          .dir = dir };
    if (!we_path_is_dir(dir))
        return we_fail(err, WE_E_NOT_FOUND, "%s is %s: expected a model's folder", dir,
                       we_path_exists(dir) ? "a file" : "not there");
    we_status st;
    if ((st = read_config(s, err)) || (st = we_weights_open_any(&s->weights, dir, err)) || (st = list_tensors(s, err)))
        return st;
    return list_files(s, err);
}

static void source_close(folder_source *s)
{
    we_weights_close(s->weights);
    we_arena_deinit(&s->arena);
    we_free(s->config_text);
    we_free(s->generation_text);
}

we_status we_convert_folder(const char *dir, const char *target, const we_convert_options *opt,
                            we_convert_result *result, we_error *err)
{
    we_convert_job job;
    folder_source s;
    we_status st = we_convert_job_init(&job, opt, err);
    if (st) return st;
    st = source_open(&s, dir, err);
    if (!st && !s.source.is_checked && !we_weights_is_pytorch(s.weights)) {
        st =
            we_convert_check(dir, dir, err); /* before minutes are spent on it; PyTorch's files the engine can't bind */
        s.source.is_checked = true;
    }
    if (!st) st = we_convert_write(&s.source, &job, target, result, err);
    source_close(&s);
    return st;
}
