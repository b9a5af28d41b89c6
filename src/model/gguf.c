/* SPDX-License-Identifier: Apache-2.0
 * gguf.c - what a GGUF file says of a model, in the words of an MLX folder: its metadata as config.json, its tensors'
 * names as checkpoint names. One table row for each architecture that the engine runs. Who wants the file as it stands
 * (weights.c) and who makes a folder of it (convert/) both come here.
 *
 * Where the two worlds differ beyond names:
 *   llama   rows of q and k are ordered so that neighbours (2i, 2i + 1) rotate together, where MLX pairs (i, i + half):
 *           in place the rotation is told so (rope_traditional), an import puts the rows back.
 *   gemma3  1 is added to the weights of norms already; an import takes it off.
 *   Rotary scaling of Llama 3 and Phi-3 is stored as a divisor for each frequency, in tensors of its own.
 * Source: docs/gguf.md of ggml-org/ggml; conversion/ and src/llama-model.cpp of ggml-org/llama.cpp. */
#include "model/model_int.h"

#include <math.h>
#include <stdio.h>

/* ---- Names ---- */

typedef struct name_row {
    const char *gguf, *mlx;
} name_row;

static const name_row outer_names[] = { { "token_embd", "model.embed_tokens" },
                                        { "output_norm", "model.norm" },
                                        { "output", "lm_head" } };

static const name_row layer_names[] = {
    /* behind blk.N. and model.layers.N. */
    { "attn_norm", "input_layernorm" },
    { "attn_q", "self_attn.q_proj" },
    { "attn_k", "self_attn.k_proj" },
    { "attn_v", "self_attn.v_proj" },
    { "attn_output", "self_attn.o_proj" },
    { "attn_q_norm", "self_attn.q_norm" },
    { "attn_k_norm", "self_attn.k_norm" },
    { "ffn_gate", "mlp.gate_proj" },
    { "ffn_up", "mlp.up_proj" },
    { "ffn_down", "mlp.down_proj" },
    { "ffn_norm", "post_attention_layernorm" },
};
static const name_row phi3_names[] = { { "attn_qkv", "self_attn.qkv_proj" }, { "ffn_up", "mlp.gate_up_proj" } };
static const name_row gemma3_names[] = { { "post_attention_norm", "post_attention_layernorm" },
                                         { "ffn_norm", "pre_feedforward_layernorm" },
                                         { "post_ffw_norm", "post_feedforward_layernorm" } };

struct we_gguf_arch {
    const char *name; /* general.architecture */
    const char *model_type, *class_name;
    const name_row *names; /* win over layer_names, in both columns */
    size_t n_names;
    bool pairs_neighbours, adds_one_to_norms, overflows_f16, is_gemma3, is_phi3;
};

static const we_gguf_arch archs[] = {
    { "llama", "llama", "LlamaForCausalLM", NULL, 0, .pairs_neighbours = true },
    { "qwen2", "qwen2", "Qwen2ForCausalLM", NULL, 0, .overflows_f16 = false },
    { "qwen3", "qwen3", "Qwen3ForCausalLM", NULL, 0, .overflows_f16 = false },
    { "phi3", "phi3", "Phi3ForCausalLM", phi3_names, WE_COUNT(phi3_names), .is_phi3 = true },
    { "gemma3", "gemma3_text", "Gemma3ForCausalLM", gemma3_names, WE_COUNT(gemma3_names), .adds_one_to_norms = true,
      .overflows_f16 = true, .is_gemma3 = true },
};

we_status we_gguf_find_arch(const we_gguf *gguf, const we_gguf_arch **out, we_error *err)
{
    we_str name;
    char shown[96], known[128] = "";
    const we_gguf_value *v = we_gguf_get(gguf, "general.architecture");
    for (size_t i = 0; i < WE_COUNT(archs); i++) {
        if (we_gguf_str(v, &name) && we_str_is(name, archs[i].name)) {
            *out = &archs[i];
            return WE_OK;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", archs[i].name);
    }
    return we_fail(err, WE_E_UNSUPPORTED, "%s: general.architecture is %s, which this version does not run; it runs %s",
                   gguf->file, we_gguf_shown(v, shown), known);
}

bool we_gguf_overflows_f16(const we_gguf_arch *arch) { return arch->overflows_f16; }

static const char *look_up(const name_row *rows, size_t n, we_str name, bool to_mlx)
{
    for (size_t i = 0; i < n; i++)
        if (we_str_is(name, to_mlx ? rows[i].gguf : rows[i].mlx)) return to_mlx ? rows[i].mlx : rows[i].gguf;
    return NULL;
}

/* "PREFIX N . MIDDLE LEAF" -> N and MIDDLE; LEAF is ".weight" or ".bias". False: another kind of name. */
static bool cut_name(const char *name, const char *prefix, int64_t *layer, we_str *middle, const char **leaf)
{
    *layer = -1;
    *leaf = strrchr(name, '.');
    if (!*leaf) return false;
    if (strncmp(name, prefix, strlen(prefix)) == 0) {
        const char *digits = name + strlen(prefix);
        const size_t n = strspn(digits, "0123456789");
        if (n && digits[n] == '.' && digits + n < *leaf && we_parse_i64((we_str){ digits, n }, layer)) {
            *middle = (we_str){ digits + n + 1, (size_t)(*leaf - digits) - n - 1 };
            return true;
        }
        *layer = -1;
    }
    *middle = (we_str){ name, (size_t)(*leaf - name) };
    return true;
}

static bool translate(const we_gguf_arch *arch, const char *name, bool to_mlx, char out[WE_GGUF_NAME])
{
    static const char *const prefixes[] = { "blk.", "model.layers." };
    int64_t layer;
    we_str middle;
    const char *leaf, *found;
    if (!cut_name(name, prefixes[!to_mlx], &layer, &middle, &leaf)) return false;
    if (layer < 0) {
        if (!(found = look_up(outer_names, WE_COUNT(outer_names), middle, to_mlx))) return false;
        snprintf(out, WE_GGUF_NAME, "%s%s", found, leaf);
        return true;
    }
    if (!(found = look_up(arch->names, arch->n_names, middle, to_mlx))) {
        found = look_up(layer_names, WE_COUNT(layer_names), middle, to_mlx);
        /* a name that the architecture gives another meaning */
        if (found && look_up(arch->names, arch->n_names, we_str_from(found), !to_mlx)) found = NULL;
    }
    if (!found) return false;
    snprintf(out, WE_GGUF_NAME, "%s%lld.%s%s", prefixes[to_mlx], (long long)layer, found, leaf);
    return true;
}

bool we_gguf_name(const we_gguf_arch *arch, const char *mlx_name, char out[WE_GGUF_NAME])
{
    return translate(arch, mlx_name, false, out);
}

static bool is_rope_tensor(const char *name)
{
    static const char *const names[] = { "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight" };
    for (size_t i = 0; i < WE_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

we_gguf_role we_gguf_tensor(const we_gguf_arch *arch, const char *name, char out[WE_GGUF_NAME])
{
    if (is_rope_tensor(name)) return (we_gguf_role){ .is_settings = true };
    we_gguf_role role = { .is_known = translate(arch, name, true, out) };
    if (!role.is_known) return role;
    const bool is_q = strstr(out, ".q_proj.") != NULL, is_k = strstr(out, ".k_proj.") != NULL;
    const we_str s = we_str_from(out);
    role.permuted_q = arch->pairs_neighbours && is_q;
    role.permuted_k = arch->pairs_neighbours && is_k;
    role.one_added = arch->adds_one_to_norms && we_str_ends_with(s, WE_STR("norm.weight"));
    return role;
}

/* ---- Metadata ---- */

typedef struct reader {
    const we_weights *weights;
    const we_gguf *gguf;
    const we_gguf_arch *arch;
    we_json_writer w;
    we_error *err;
} reader;

static const we_gguf_value *get(const reader *r, const char *key, char full[128])
{
    snprintf(full, 128, "%s.%s", r->arch->name, key);
    return we_gguf_get(r->gguf, full);
}

static we_status wrong(const reader *r, const char *full, const we_gguf_value *v, const char *expected)
{
    char shown[96];
    return we_fail(r->err, WE_E_FORMAT, "%s: %s is %s, expected %s", r->gguf->file, full, we_gguf_shown(v, shown),
                   expected);
}

/* A whole number of at least 1; a list must say the same for every layer. `fallback` 0: the file must have it. */
static we_status get_int(const reader *r, const char *key, int64_t fallback, int64_t *out)
{
    char full[128];
    const we_gguf_value *v = get(r, key, full);
    if (!v && fallback) {
        *out = fallback;
        return WE_OK;
    }
    if (!we_gguf_i64(v, 0, out) || *out < 1 || *out > INT32_MAX)
        return wrong(r, full, v, "a whole number of 1 or more");
    for (uint64_t i = 1; i < v->n; i++) {
        int64_t other;
        if (we_gguf_i64(v, i, &other) && other == *out) continue;
        return we_fail(r->err, WE_E_UNSUPPORTED, "%s: %s differs from layer to layer, which this version does not run",
                       r->gguf->file, full);
    }
    return WE_OK;
}

/* The shortest number that gives the same float32: 1e-06 where the file's says 9.99999997e-07. */
static double shortest(const we_gguf_value *v, double x)
{
    if (v->type != WE_GGUF_F32) return x;
    for (int digits = 1; digits < 9; digits++) {
        char text[32];
        double back;
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
        if (we_parse_f64(we_str_from(text), &back) && (float)back == (float)x) return back;
    }
    return x;
}

/* A positive number; `fallback` 0: the file must have it. */
static we_status get_number(const reader *r, const char *key, double fallback, double *out)
{
    char full[128];
    const we_gguf_value *v = get(r, key, full);
    if (!v && fallback > 0) {
        *out = fallback;
        return WE_OK;
    }
    if (!v || v->is_array || !we_gguf_f64(v, 0, out) || !(*out > 0) || isinf(*out))
        return wrong(r, full, v, "a number above 0");
    *out = shortest(v, *out);
    return WE_OK;
}

static void write_int(reader *r, const char *key, int64_t v)
{
    we_json_key(&r->w, key);
    we_json_write_i64(&r->w, v);
}
static void write_number(reader *r, const char *key, double v)
{
    we_json_key(&r->w, key);
    we_json_write_f64(&r->w, v);
}
static void write_text(reader *r, const char *key, we_str v)
{
    we_json_key(&r->w, key);
    we_json_write_str(&r->w, v);
}
static void write_bool(reader *r, const char *key, bool v)
{
    we_json_key(&r->w, key);
    we_json_write_bool(&r->w, v);
}

/* ---- Rotary scaling ---- */

/* A vector of `n` float32 that divide the frequencies; NULL in *out where there is none. */
static we_status get_factors(const reader *r, const char *name, int64_t n, const we_weight **out)
{
    char shape[WE_SHAPE_TEXT];
    *out = we_weights_find(r->weights, name);
    const we_weight *w = *out;
    if (!w) return WE_OK;
    if (w->dtype != WE_F32 || w->n_dims != 1 || w->shape[0] != n)
        return we_fail(r->err, WE_E_FORMAT, "%s: %s is %s %s, expected F32 [%lld]", r->gguf->file, name,
                       we_dtype_name(w->dtype), we_shape_text(shape, w->shape, w->n_dims), (long long)n);
    for (int64_t i = 0; i < n; i++) {
        float f;
        we_to_f32(WE_F32, w->data + 4 * i, 1, &f);
        if (!(f > 0) || isinf(f))
            return we_fail(r->err, WE_E_FORMAT, "%s: %s[%lld] is %g, expected a number above 0", r->gguf->file, name,
                           (long long)i, (double)f);
    }
    return WE_OK;
}

static double factor_at(const we_weight *w, int64_t i)
{
    float f;
    we_to_f32(WE_F32, w->data + 4 * i, 1, &f);
    return (double)f;
}

static void write_factors(reader *r, const char *key, const we_weight *w)
{
    we_json_key(&r->w, key);
    we_json_begin_array(&r->w);
    for (int64_t i = 0; i < w->shape[0]; i++) we_json_write_f64(&r->w, factor_at(w, i));
    we_json_end_array(&r->w);
}

/* Whether the divisors are those of Llama 3's published settings for some factor: then config.json can say so. */
static bool is_llama3(const we_weight *w, double base, int64_t dims, double *factor)
{
    const double original = 8192, low = 1, high = 4, pi = 3.14159265358979323846;
    *factor = 1;
    for (int64_t i = 0; i < w->shape[0]; i++) *factor = fmax(*factor, factor_at(w, i));
    for (int64_t i = 0; i < w->shape[0]; i++) {
        const double wavelength = 2 * pi * pow(base, 2.0 * (double)i / (double)dims);
        const double smooth = (original / wavelength - low) / (high - low);
        const double wanted = wavelength < original / high  ? 1
                              : wavelength > original / low ? *factor
                                                            : 1 / ((1 - smooth) / *factor + smooth);
        if (fabs(factor_at(w, i) - wanted) > 1e-4 * wanted) return false;
    }
    return *factor > 1;
}

/* Divisors of another origin: LongRoPE's form, with an original length that leaves the magnitude alone. */
static void write_divisors(reader *r, const we_weight *freqs, double base, int64_t dims, int64_t context)
{
    double factor;
    we_json_key(&r->w, "rope_scaling");
    we_json_begin_object(&r->w);
    if (is_llama3(freqs, base, dims, &factor)) {
        write_text(r, "rope_type", WE_STR("llama3"));
        write_number(r, "factor", factor);
        write_number(r, "low_freq_factor", 1);
        write_number(r, "high_freq_factor", 4);
        write_int(r, "original_max_position_embeddings", 8192);
    } else {
        write_text(r, "type", WE_STR("longrope"));
        write_factors(r, "long_factor", freqs);
        write_factors(r, "short_factor", freqs);
        write_int(r, "original_max_position_embeddings", context);
    }
    we_json_end_object(&r->w);
}

static we_status write_longrope(reader *r, const we_weight *long_factor, const we_weight *short_factor, int64_t context)
{
    int64_t original;
    const we_status st = get_int(r, "rope.scaling.original_context_length", context, &original);
    if (st) return st;
    we_json_key(&r->w, "rope_scaling");
    we_json_begin_object(&r->w);
    write_text(r, "type", WE_STR("longrope"));
    write_factors(r, "long_factor", long_factor);
    write_factors(r, "short_factor", short_factor ? short_factor : long_factor);
    we_json_end_object(&r->w);
    write_int(r, "original_max_position_embeddings", original);
    return WE_OK;
}

/* rope.scaling.type: none, linear, yarn; older files have only a linear factor. */
static we_status write_typed_scaling(reader *r, int64_t context)
{
    char full[128], shown[96];
    we_str type = WE_STR("none");
    double factor = 1;
    const we_gguf_value *v = get(r, "rope.scaling.type", full);
    if (v && !we_gguf_str(v, &type)) return wrong(r, full, v, "a name");
    if (!v && get(r, "rope.scale_linear", full)) type = WE_STR("linear");
    const bool is_linear = we_str_is(type, "linear"), is_yarn = we_str_is(type, "yarn");
    if (!is_linear && !is_yarn) {
        if (we_str_is(type, "none") || we_str_is(type, "longrope")) return WE_OK;
        return we_fail(r->err, WE_E_UNSUPPORTED, "%s: %s is %s; known are none, linear, yarn, longrope", r->gguf->file,
                       full, we_gguf_shown(v, shown));
    }
    int64_t original = 0;
    we_status st = get(r, "rope.scaling.factor", full) ? get_number(r, "rope.scaling.factor", 0, &factor)
                                                       : get_number(r, "rope.scale_linear", 1, &factor);
    if (!st && is_yarn) st = get_int(r, "rope.scaling.original_context_length", context, &original);
    if (st || (is_linear && factor <= 1)) return st;
    we_json_key(&r->w, "rope_scaling");
    we_json_begin_object(&r->w);
    write_text(r, "rope_type", type);
    write_number(r, "factor", factor);
    if (is_yarn) write_int(r, "original_max_position_embeddings", original);
    we_json_end_object(&r->w);
    return WE_OK;
}

static we_status write_rope(reader *r, int64_t head_dim, int64_t context)
{
    double base;
    int64_t dims;
    const we_weight *freqs, *long_factor, *short_factor;
    we_status st;
    if ((st = get_number(r, "rope.freq_base", 10000, &base)) ||
        (st = get_int(r, "rope.dimension_count", head_dim, &dims)))
        return st;
    if (dims > head_dim || dims % 2)
        return we_fail(r->err, WE_E_FORMAT, "%s: %s.rope.dimension_count is %lld, expected an even number up to %lld",
                       r->gguf->file, r->arch->name, (long long)dims, (long long)head_dim);
    write_number(r, "rope_theta", base);
    if (dims < head_dim || r->arch->is_phi3) write_number(r, "partial_rotary_factor", (double)dims / (double)head_dim);
    if ((st = get_factors(r, "rope_freqs.weight", dims / 2, &freqs)) ||
        (st = get_factors(r, "rope_factors_long.weight", dims / 2, &long_factor)) ||
        (st = get_factors(r, "rope_factors_short.weight", dims / 2, &short_factor)))
        return st;
    if (long_factor) return write_longrope(r, long_factor, short_factor, context);
    if (!freqs) return write_typed_scaling(r, context);
    write_divisors(r, freqs, base, dims, context);
    return WE_OK;
}

/* ---- config.json ---- */

static void write_token_id(reader *r, const char *key, const char *gguf_key)
{
    int64_t id;
    if (we_gguf_i64(we_gguf_get(r->gguf, gguf_key), 0, &id) && id >= 0 && id <= INT32_MAX) write_int(r, key, id);
}

/* llama.cpp's rule: Gemma 3 27B is told by its 62 layers. */
static we_status write_gemma3(reader *r, int64_t n_layers, int64_t hidden, int64_t heads, int64_t head_dim)
{
    int64_t window, pattern = 6;
    double local;
    char full[128];
    we_status st = get_int(r, "attention.sliding_window", 0, &window);
    if (!st && !(get(r, "attention.sliding_window_pattern", full) &&
                 get(r, "attention.sliding_window_pattern", full)->is_array))
        st = get_int(r, "attention.sliding_window_pattern", pattern, &pattern);
    if (!st) st = get_number(r, "rope.freq_base_swa", 10000, &local);
    if (st) return st;
    write_int(r, "sliding_window", window);
    write_int(r, "sliding_window_pattern", pattern);
    write_number(r, "rope_local_base_freq", local);
    write_int(r, "query_pre_attn_scalar", n_layers == 62 ? hidden / heads : head_dim);
    write_text(r, "hidden_activation", WE_STR("gelu_pytorch_tanh"));
    return WE_OK;
}

static we_status refuse_experts(const reader *r)
{
    char full[128];
    int64_t n;
    if (!we_gguf_i64(get(r, "expert_count", full), 0, &n) || n == 0) return WE_OK;
    return we_fail(r->err, WE_E_UNSUPPORTED, "%s: %s is %lld: mixtures of experts are not run by this version",
                   r->gguf->file, full, (long long)n);
}

static we_status write_config(reader *r, bool in_place)
{
    int64_t hidden, layers, ff, heads, kv_heads, head_dim, value_dim, context;
    double eps;
    we_status st;
    if ((st = refuse_experts(r)) || (st = get_int(r, "embedding_length", 0, &hidden)) ||
        (st = get_int(r, "block_count", 0, &layers)) || (st = get_int(r, "feed_forward_length", 0, &ff)) ||
        (st = get_int(r, "attention.head_count", 0, &heads)) ||
        (st = get_int(r, "attention.head_count_kv", heads, &kv_heads)) ||
        (st = get_int(r, "attention.key_length", WE_MAX(hidden / heads, 1), &head_dim)) ||
        (st = get_int(r, "attention.value_length", head_dim, &value_dim)) ||
        (st = get_int(r, "context_length", 0, &context)) ||
        (st = get_number(r, "attention.layer_norm_rms_epsilon", 0, &eps)))
        return st;
    if (value_dim != head_dim)
        return we_fail(r->err, WE_E_UNSUPPORTED,
                       "%s: %s.attention.value_length is %lld, but key_length is %lld; they must be one", r->gguf->file,
                       r->arch->name, (long long)value_dim, (long long)head_dim);
    const we_weight *embed = we_weights_find(r->weights, "token_embd.weight");
    if (!embed || embed->n_dims != 2)
        return we_fail(r->err, WE_E_FORMAT, "%s: has no matrix token_embd.weight", r->gguf->file);

    we_json_begin_object(&r->w);
    we_json_key(&r->w, "architectures");
    we_json_begin_array(&r->w);
    we_json_write_str(&r->w, we_str_from(r->arch->class_name));
    we_json_end_array(&r->w);
    write_text(r, "model_type", we_str_from(r->arch->model_type));
    write_int(r, "hidden_size", hidden);
    write_int(r, "num_hidden_layers", layers);
    write_int(r, "intermediate_size", ff);
    write_int(r, "num_attention_heads", heads);
    write_int(r, "num_key_value_heads", kv_heads);
    write_int(r, "head_dim", head_dim);
    write_int(r, "vocab_size", embed->shape[0]);
    write_int(r, "max_position_embeddings", context);
    write_number(r, "rms_norm_eps", eps);
    write_bool(r, "tie_word_embeddings", !we_weights_find(r->weights, "output.weight"));
    if (we_weights_find(r->weights, "blk.0.attn_q.bias")) write_bool(r, "attention_bias", true);
    if (in_place && r->arch->pairs_neighbours) write_bool(r, "rope_traditional", true);
    if ((st = write_rope(r, head_dim, context)) ||
        (r->arch->is_gemma3 && (st = write_gemma3(r, layers, hidden, heads, head_dim))))
        return st;
    write_token_id(r, "bos_token_id", "tokenizer.ggml.bos_token_id");
    write_token_id(r, "eos_token_id", "tokenizer.ggml.eos_token_id");
    write_text(r, "torch_dtype", WE_STR("bfloat16"));
    we_json_end_object(&r->w);
    return WE_OK;
}

we_status we_gguf_config(const we_weights *weights, bool in_place, we_buf *json, we_error *err)
{
    reader r = { .weights = weights, .gguf = we_weights_gguf(weights), .w = { .buf = json, .indent = 4 }, .err = err };
    we_status st = we_gguf_find_arch(r.gguf, &r.arch, err);
    if (!st) st = write_config(&r, in_place);
    return st ? st : we_buf_status(json, err, "the configuration");
}

we_status we_gguf_config_read(we_config *config, const we_arch **arch, we_arena *arena, const we_weights *weights,
                              we_error *err)
{
    const we_gguf *gguf = we_weights_gguf(weights);
    we_buf json = { 0 };
    const we_gguf_arch *found;
    we_status st = we_gguf_config(weights, true, &json, err);
    if (!st) st = we_gguf_find_arch(gguf, &found, err);
    if (!st) st = we_config_parse(config, arch, arena, we_buf_str(&json), gguf->file, err);
    if (!st && found->adds_one_to_norms) config->norm_offset = 0;
    we_buf_deinit(&json);
    return st;
}
