/* SPDX-License-Identifier: Apache-2.0
 * config.c - config.json -> we_config. One table says which keys are read and what they may be; a page's defaults fill what
 * the file leaves out. Meaning follows mlx-lm where it differs from Transformers (oracles in tests/conformance). */
#include "model/model_int.h"
#include <math.h>
#include <stdio.h>

typedef enum { KEY_INT, KEY_NUMBER, KEY_BOOL } key_type;

static const struct {
    const char *name;
    key_type type;
    size_t field;
    double least, most;
    bool needed; /* by every architecture: an error where neither file nor page has it */
} keys[] = {
#define INT_KEY(name, least, most, needed)                             \
    {                                                                  \
#name, KEY_INT, offsetof(we_config, name), least, most, needed \
    }
#define NUMBER_KEY(name, least, most, needed)                             \
    {                                                                     \
#name, KEY_NUMBER, offsetof(we_config, name), least, most, needed \
    }
#define BOOL_KEY(name)                                          \
    {                                                           \
#name, KEY_BOOL, offsetof(we_config, name), 0, 1, false \
    }
    INT_KEY(hidden_size, 1, 1 << 20, true),
    INT_KEY(num_hidden_layers, 1, 10000, true),
    INT_KEY(intermediate_size, 1, 1 << 24, true),
    INT_KEY(num_attention_heads, 1, 65536, true),
    INT_KEY(num_key_value_heads, 1, 65536, false),
    INT_KEY(head_dim, 1, 65536, false),
    INT_KEY(vocab_size, 1, 1 << 26, true),
    INT_KEY(max_position_embeddings, 1, 1 << 30, false),
    INT_KEY(original_max_position_embeddings, 1, 1 << 30, false),
    INT_KEY(sliding_window, 1, 1 << 30, false),
    INT_KEY(sliding_window_pattern, 1, 10000, false),
    NUMBER_KEY(rms_norm_eps, 0, 1, true),
    NUMBER_KEY(rope_theta, 1e-3, 1e15, true),
    NUMBER_KEY(rope_local_base_freq, 1e-3, 1e15, false),
    NUMBER_KEY(partial_rotary_factor, 0, 1, false),
    NUMBER_KEY(query_pre_attn_scalar, 1e-6, 1e9, false),
    BOOL_KEY(rope_traditional),
    BOOL_KEY(tie_word_embeddings),
};

/* A value for a message: strings quoted, numbers as written, the rest by type. */
static const char *shown(const we_json *v, char out[80])
{
    if (we_json_is(v, WE_JSON_NUMBER))
        snprintf(out, 80, "%.*s", (int)WE_MIN(v->text.len, 60), v->text.ptr);
    else if (we_json_is(v, WE_JSON_STRING))
        snprintf(out, 80, "\"%.*s\"", (int)WE_MIN(v->text.len, 60), v->text.ptr);
    else
        return we_json_type_name(v);
    return out;
}

static we_status bad_value(we_error *err, const char *file, const char *key, const we_json *v, const char *expected)
{
    char buf[80];
    return we_fail(err, WE_E_FORMAT, "%s: %s is %s, expected %s", file, key, shown(v, buf), expected);
}

static we_status read_keys(we_config *c, const we_json *root, const char *file, we_error *err)
{
    for (size_t i = 0; i < WE_COUNT(keys); i++) {
        void *field = (char *)c + keys[i].field;
        const we_json *v = we_json_get(root, keys[i].name);
        if (!v || v->type == WE_JSON_NULL) {
            const bool given = keys[i].type == KEY_INT      ? *(int64_t *)field != 0
                               : keys[i].type == KEY_NUMBER ? *(double *)field > 0
                                                            : true;
            if (keys[i].needed && !given)
                return we_fail(err, WE_E_FORMAT, "%s: %s is missing; a model_type of \"%s\" needs it", file,
                               keys[i].name, c->model_type);
            continue;
        }
        char expected[96];
        if (keys[i].type == KEY_BOOL) {
            if (!we_json_bool(v, field)) return bad_value(err, file, keys[i].name, v, "true or false");
        } else if (keys[i].type == KEY_INT) {
            int64_t n;
            snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", keys[i].least, keys[i].most);
            if (!we_json_i64(v, &n) || (double)n < keys[i].least || (double)n > keys[i].most)
                return bad_value(err, file, keys[i].name, v, expected);
            *(int64_t *)field = n;
        } else {
            double x;
            snprintf(expected, sizeof expected, "a number from %g to %g", keys[i].least, keys[i].most);
            if (!we_json_f64(v, &x) || !(x >= keys[i].least && x <= keys[i].most))
                return bad_value(err, file, keys[i].name, v, expected);
            *(double *)field = x;
        }
    }
    return WE_OK;
}

/* ---- rope_scaling ---- */

static const struct {
    const char *name;
    we_rope_kind kind;
} rope_kinds[] = {
    { "default", WE_ROPE_DEFAULT }, { "linear", WE_ROPE_LINEAR }, { "llama3", WE_ROPE_LLAMA3 },
    { "yarn", WE_ROPE_YARN },       { "su", WE_ROPE_LONGROPE },   { "longrope", WE_ROPE_LONGROPE },
    { "dynamic", WE_ROPE_DYNAMIC }, { "mrope", WE_ROPE_DEFAULT }, /* text only: its three sections are the same */
};

static we_status read_long_factor(we_rope_scaling *r, const we_json *v, we_arena *arena, const char *file,
                                  we_error *err)
{
    if (!we_json_is(v, WE_JSON_ARRAY) || v->n == 0)
        return bad_value(err, file, "rope_scaling.long_factor", v, "an array of numbers");
    double *f = we_arena_calloc(arena, v->n, sizeof *f);
    if (!f) return we_fail(err, WE_E_NOMEM, "%s: no memory for rope_scaling", file);
    r->long_factor = f;
    r->n_long_factor = (int)v->n;
    for (const we_json *e = v->first; e; e = e->next)
        if (!we_json_f64(e, f) || !(*f++ > 0))
            return bad_value(err, file, "rope_scaling.long_factor", e, "a positive number");
    return WE_OK;
}

static we_status read_rope_scaling(we_config *c, const we_json *root, we_arena *arena, const char *file, we_error *err)
{
    const we_json *v = we_json_get(root, "rope_scaling");
    if (!we_json_is(v, WE_JSON_OBJECT)) v = we_json_get(root, "rope_parameters"); /* Transformers 5 nests it there */
    if (!we_json_is(v, WE_JSON_OBJECT)) return WE_OK;

    we_rope_scaling *r = &c->rope_scaling;
    we_str name = WE_STR("default");
    if (!we_json_str(we_json_get(v, "type"), &name)) we_json_str(we_json_get(v, "rope_type"), &name);
    size_t k = 0;
    while (k < WE_COUNT(rope_kinds) && !we_str_is(name, rope_kinds[k].name)) k++;
    if (k == WE_COUNT(rope_kinds))
        return we_fail(
            err, WE_E_UNSUPPORTED,
            "%s: rope_scaling of type \"%.*s\" is not known; known are default, linear, llama3, yarn, longrope, dynamic",
            file, (int)WE_MIN(name.len, 60), name.ptr);
    r->kind = rope_kinds[k].kind;

    const struct {
        const char *name;
        double *field, fallback; /* NAN: needed */
        bool used;
    } numbers[] = {
        { "factor", &r->factor, NAN,
          r->kind == WE_ROPE_LINEAR || r->kind == WE_ROPE_LLAMA3 || r->kind == WE_ROPE_YARN ||
              r->kind == WE_ROPE_DYNAMIC },
        { "low_freq_factor", &r->low_freq_factor, 1, r->kind == WE_ROPE_LLAMA3 },
        { "high_freq_factor", &r->high_freq_factor, 4, r->kind == WE_ROPE_LLAMA3 },
        { "original_max_position_embeddings", &r->original_max_position_embeddings,
          r->kind == WE_ROPE_LLAMA3             ? 8192
          : c->original_max_position_embeddings ? (double)c->original_max_position_embeddings
                                                : 4096,
          r->kind == WE_ROPE_LLAMA3 || r->kind == WE_ROPE_YARN || r->kind == WE_ROPE_LONGROPE },
        { "beta_fast", &r->beta_fast, 32, r->kind == WE_ROPE_YARN },
        { "beta_slow", &r->beta_slow, 1, r->kind == WE_ROPE_YARN },
        { "mscale", &r->mscale, 1, r->kind == WE_ROPE_YARN },
    };
    for (size_t i = 0; i < WE_COUNT(numbers); i++) {
        if (!numbers[i].used) continue;
        char key[80];
        snprintf(key, sizeof key, "rope_scaling.%s", numbers[i].name);
        const we_json *n = we_json_get(v, numbers[i].name);
        *numbers[i].field = numbers[i].fallback;
        if ((n && n->type != WE_JSON_NULL && !we_json_f64(n, numbers[i].field)) || !(*numbers[i].field > 0) ||
            isinf(*numbers[i].field))
            return bad_value(err, file, key, n, "a positive number");
    }
    if (r->kind == WE_ROPE_LLAMA3 && r->high_freq_factor <= r->low_freq_factor)
        return we_fail(err, WE_E_FORMAT, "%s: rope_scaling.high_freq_factor is not above low_freq_factor", file);
    if (r->kind == WE_ROPE_DYNAMIC && !c->max_position_embeddings)
        return we_fail(err, WE_E_FORMAT, "%s: rope_scaling of type \"dynamic\" needs max_position_embeddings", file);
    if (r->kind == WE_ROPE_YARN) {
        const we_json *n = we_json_get(v, "mscale_all_dim");
        if (n && !we_json_f64(n, &r->mscale_all_dim))
            return bad_value(err, file, "rope_scaling.mscale_all_dim", n, "a number");
    }
    if (r->kind == WE_ROPE_LONGROPE) return read_long_factor(r, we_json_get(v, "long_factor"), arena, file, err);
    return WE_OK;
}

/* rope_theta may stand inside rope_parameters; a key of its own wins. */
static we_status read_nested_theta(we_config *c, const we_json *root, const char *file, we_error *err)
{
    const we_json *v = we_json_get(we_json_get(root, "rope_parameters"), "rope_theta");
    if (!v) return WE_OK;
    if (!we_json_f64(v, &c->rope_theta) || !(c->rope_theta >= 1e-3 && c->rope_theta <= 1e15))
        return bad_value(err, file, "rope_parameters.rope_theta", v, "a number from 0.001 to 1e+15");
    return WE_OK;
}

/* ---- sliding layers ---- */

static we_status read_layer_windows(we_config *c, const we_json *root, we_arena *arena, const char *file, we_error *err)
{
    int *windows = we_arena_calloc(arena, (size_t)c->num_hidden_layers, sizeof *windows);
    if (!windows) return we_fail(err, WE_E_NOMEM, "%s: no memory for the layers", file);
    c->layer_windows = windows;
    if (!c->reads_layer_types) {
        if (!c->sliding_window || !c->sliding_window_pattern) return WE_OK;
        for (int64_t i = 0; i < c->num_hidden_layers; i++)
            if ((i + 1) % c->sliding_window_pattern) windows[i] = (int)c->sliding_window;
        return WE_OK;
    }
    const we_json *types = we_json_get(root, "layer_types");
    if (!types || types->type == WE_JSON_NULL) return WE_OK;
    if (types->type != WE_JSON_ARRAY || types->n != c->num_hidden_layers)
        return we_fail(err, WE_E_FORMAT, "%s: layer_types is not an array of num_hidden_layers = %lld names", file,
                       (long long)c->num_hidden_layers);
    int64_t i = 0;
    for (const we_json *t = types->first; t; t = t->next, i++) {
        we_str name;
        if (!we_json_str(t, &name) || (!we_str_is(name, "full_attention") && !we_str_is(name, "sliding_attention")))
            return bad_value(err, file, "layer_types", t, "\"full_attention\" or \"sliding_attention\"");
        if (!we_str_is(name, "sliding_attention")) continue;
        if (!c->sliding_window)
            return we_fail(err, WE_E_FORMAT, "%s: layer_types has sliding layers, but sliding_window is missing", file);
        windows[i] = (int)c->sliding_window;
    }
    return WE_OK;
}

/* ---- quantization: the settings are taken from the tensors' shapes (weights.c); here only what we could not run ---- */

static we_status check_one_quantization(const we_json *v, const char *file, const char *where, we_error *err)
{
    char key[200];
    const we_json *m = we_json_get(v, "mode");
    we_str name = WE_STR("affine");
    we_quant q = { .mode = WE_QUANT_AFFINE, .bits = 4, .group_size = 64 };
    if (m && (!we_json_str(m, &name) || !we_quant_mode_parse(name, &q.mode))) {
        char buf[80];
        return we_fail(err, WE_E_UNSUPPORTED, "%s: %s.mode is %s; known are affine, mxfp4, mxfp8, nvfp4", file, where,
                       shown(m, buf));
    }
    int64_t bits = q.mode == WE_QUANT_MXFP8 ? 8 : 4, group = q.mode == WE_QUANT_NVFP4    ? 16
                                                             : q.mode == WE_QUANT_AFFINE ? 64
                                                                                         : 32;
    const we_json *b = we_json_get(v, "bits"), *g = we_json_get(v, "group_size");
    snprintf(key, sizeof key, "%s.bits", where);
    if (b && !we_json_i64(b, &bits)) return bad_value(err, file, key, b, "a whole number");
    snprintf(key, sizeof key, "%s.group_size", where);
    if (g && !we_json_i64(g, &group)) return bad_value(err, file, key, g, "a whole number");
    q.bits = (int)WE_MIN(WE_MAX(bits, 0), 99);
    q.group_size = (int)WE_MIN(WE_MAX(group, 0), 99999);
    if (!we_quant_valid(q))
        return we_fail(
            err, WE_E_UNSUPPORTED,
            "%s: %s asks for %d bits in groups of %d (%s); known are affine with 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, "
            "mxfp4 and mxfp8 in groups of 32, nvfp4 in groups of 16",
            file, where, q.bits, q.group_size, we_quant_mode_name(q.mode));
    return WE_OK;
}

static we_status check_quantization(const we_json *root, const char *file, const char *key, we_error *err)
{
    const we_json *v = we_json_get(root, key);
    if (!v || v->type == WE_JSON_NULL) return WE_OK;
    if (v->type != WE_JSON_OBJECT) return bad_value(err, file, key, v, "an object");
    const we_json *method = we_json_get(v, "quant_method");
    we_str name;
    we_quant_mode mode;
    if (method && !(we_json_str(method, &name) && we_quant_mode_parse(name, &mode))) { /* gptq, awq, fp8, ... */
        char buf[80];
        return we_fail(err, WE_E_UNSUPPORTED,
                       "%s: %s.quant_method is %s, which is not an MLX quantization; use an MLX version of the model",
                       file, key, shown(method, buf));
    }
    we_status st = check_one_quantization(v, file, key, err);
    for (const we_json *e = v->first; e && !st; e = e->next) {
        if (e->type != WE_JSON_OBJECT) continue;
        char where[160];
        snprintf(where, sizeof where, "%s.%.*s", key, (int)WE_MIN(e->key.len, 100), e->key.ptr);
        st = check_one_quantization(e, file, where, err);
    }
    return st;
}

/* ---- the whole ---- */

static we_status derive(we_config *c, const char *file, we_error *err)
{
    if (!c->num_key_value_heads) c->num_key_value_heads = c->num_attention_heads;
    if (c->num_attention_heads % c->num_key_value_heads)
        return we_fail(err, WE_E_FORMAT, "%s: num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
                       file, (long long)c->num_attention_heads, (long long)c->num_key_value_heads);
    if (c->num_attention_heads / c->num_key_value_heads > WE_MAX_QUERY_GROUP)
        return we_fail(err, WE_E_UNSUPPORTED,
                       "%s: num_attention_heads %lld for num_key_value_heads %lld: at most %d heads can share one",
                       file, (long long)c->num_attention_heads, (long long)c->num_key_value_heads, WE_MAX_QUERY_GROUP);
    if (!c->head_dim) {
        if (c->hidden_size % c->num_attention_heads)
            return we_fail(
                err, WE_E_FORMAT,
                "%s: hidden_size %lld is not a multiple of num_attention_heads %lld, and head_dim is missing", file,
                (long long)c->hidden_size, (long long)c->num_attention_heads);
        c->head_dim = c->hidden_size / c->num_attention_heads;
    }
    if (c->partial_rotary_factor <= 0) c->partial_rotary_factor = 1;
    const int dims = (int)((double)c->head_dim * c->partial_rotary_factor);
    if (dims % 2 || dims < 2)
        return we_fail(err, WE_E_FORMAT, "%s: head_dim %lld gives %d rotated dimensions, expected an even number", file,
                       (long long)c->head_dim, dims);
    if (c->rope_scaling.kind == WE_ROPE_LONGROPE && c->rope_scaling.n_long_factor != dims / 2 &&
        c->rope_scaling.n_long_factor != 1)
        return we_fail(err, WE_E_FORMAT, "%s: rope_scaling.long_factor has %d numbers, expected %d", file,
                       c->rope_scaling.n_long_factor, dims / 2);
    if (c->rope_scaling.kind == WE_ROPE_DYNAMIC && dims < 4)
        return we_fail(err, WE_E_FORMAT, "%s: rope_scaling of type \"dynamic\" needs at least 4 rotated dimensions",
                       file);
    return WE_OK;
}

static we_status unknown_model_type(we_str type, const char *file, we_error *err)
{
    char known[512] = "";
    const char *name;
    for (size_t i = 0; (name = we_model_type_at(i)); i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", name);
    return we_fail(err, WE_E_UNSUPPORTED, "%s: model_type \"%.*s\" is not supported; supported are %s", file,
                   (int)WE_MIN(type.len, 60), type.ptr, known);
}

static we_status read_root(we_config *c, const we_arch **arch, we_arena *arena, const we_json *root, const char *file,
                           we_error *err)
{
    if (root->type != WE_JSON_OBJECT)
        return we_fail(err, WE_E_FORMAT, "%s: holds %s, expected an object", file, we_json_type_name(root));
    we_str type;
    if (!we_json_str(we_json_get(root, "model_type"), &type))
        return we_fail(err, WE_E_FORMAT, "%s: model_type is missing; is this a model's config.json?", file);
    const we_arch *a = we_arch_find(type);
    if (!a) return unknown_model_type(type, file, err);

    *c = a->defaults ? *a->defaults : (we_config){ 0 };
    c->model_type = we_arena_strndup(arena, type.ptr, type.len);
    if (!c->model_type) return we_fail(err, WE_E_NOMEM, "%s: no memory", file);
    we_status st;
    if ((st = read_nested_theta(c, root, file, err)) || (st = read_keys(c, root, file, err)) ||
        (st = read_rope_scaling(c, root, arena, file, err)) || (st = read_layer_windows(c, root, arena, file, err)) ||
        (st = check_quantization(root, file, "quantization", err)) ||
        (!we_json_get(root, "quantization") && (st = check_quantization(root, file, "quantization_config", err))) ||
        (st = derive(c, file, err)))
        return st;
    for (const we_arch *p = a; p; p = p->parent)
        if (p->configure) {
            if ((st = p->configure(c, err))) return we_fail_in(err, st, "%s: ", file);
            break;
        }
    if (c->attention_scale <= 0) c->attention_scale = (float)(1 / sqrt((double)c->head_dim));
    if (c->embed_scale <= 0) c->embed_scale = 1;
    *arch = a;
    return WE_OK;
}

we_status we_config_parse(we_config *config, const we_arch **arch, we_arena *arena, we_str text, const char *file,
                          we_error *err)
{
    const we_json *root = NULL;
    we_arena tree = { 0 };
    we_status st = we_json_parse(&tree, text, &root, err);
    if (st)
        we_fail_in(err, st, "%s: ", file);
    else
        st = read_root(config, arch, arena, root, file, err);
    we_arena_deinit(&tree);
    return st;
}

we_status we_config_read(we_config *config, const we_arch **arch, we_arena *arena, const char *dir, we_error *err)
{
    char *path = we_path_join(dir, "config.json"), *text = NULL;
    size_t len = 0;
    if (!path) return we_fail(err, WE_E_NOMEM, "%s: no memory", dir);
    we_status st = we_file_read(path, 64 << 20, &text, &len, err);
    if (st == WE_E_NOT_FOUND)
        st = we_fail(err, WE_E_NOT_FOUND,
                     "%s has no config.json: it is not a model folder, or its download did not end", dir);
    if (!st && we_is_lfs_pointer((we_str){ text, len }))
        st = we_fail(err, WE_E_FORMAT, "%s is a Git LFS pointer, not the file itself: run `git lfs pull` in %s", path,
                     dir);
    if (!st) st = we_config_parse(config, arch, arena, (we_str){ text, len }, path, err);
    we_free(text);
    we_free(path);
    return st;
}
