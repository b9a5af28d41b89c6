/* SPDX-License-Identifier: Apache-2.0
 * gemma3_text.c - the Gemma 3 text decoder: norms (of weight + 1) before and after attention and MLP, q and k normalised per
 * head, tanh GELU, embeddings scaled by sqrt(hidden_size), and a pattern of sliding layers, which rotate with a base of their
 * own, with a full layer every sliding_window_pattern-th.
 * Source: Gemma 3 Technical Report, arXiv:2503.19786; checked against mlx_lm/models/gemma3_text.py. */
#include "model/model_int.h"
#include <math.h>

static const we_tensor_spec gemma3_tensors[] = {
    /* beside Llama's */
    { .field = WE_LAYER(q_norm), .name = "self_attn.q_norm", .shape = { WE_DIM_HEAD } },
    { .field = WE_LAYER(k_norm), .name = "self_attn.k_norm", .shape = { WE_DIM_HEAD } },
    { .field = WE_LAYER(pre_feedforward_layernorm), .name = "pre_feedforward_layernorm", .shape = { WE_DIM_HIDDEN } },
    { .field = WE_LAYER(post_feedforward_layernorm), .name = "post_feedforward_layernorm", .shape = { WE_DIM_HIDDEN } },
};

static const we_config gemma3_defaults = {
    .hidden_size = 1152,
    .num_hidden_layers = 26,
    .intermediate_size = 6912,
    .num_attention_heads = 4,
    .head_dim = 256,
    .rms_norm_eps = 1e-6,
    .vocab_size = 262144,
    .num_key_value_heads = 1,
    .rope_theta = 1000000,
    .rope_local_base_freq = 10000,
    .query_pre_attn_scalar = 256,
    .sliding_window = 512,
    .sliding_window_pattern = 6,
    .max_position_embeddings = 32768,
};

static we_status gemma3_configure(we_config *c, we_error *err)
{
    (void)err;
    c->attention_scale = (float)(1 / sqrt(c->query_pre_attn_scalar));
    c->embed_scale = we_bf16_to_f32(we_f32_to_bf16((float)sqrt((double)c->hidden_size))); /* rounded in every type */
    c->norm_offset = 1;
    c->tied_without_head = true;
    c->has_local_rope = true;
    return WE_OK;
}

static void gemma3_layer(we_step *s, const we_layer *w)
{
    we_norm(s, s->h, s->x, w->input_layernorm);
    we_qkv(s, s->h, w);
    we_head_norms(s, w);
    we_rotate(s, w);
    we_attention(s, w);
    we_project(s, s->h, s->a, &w->o_proj);
    we_norm(s, s->h, s->h, w->post_attention_layernorm);
    we_add(s, s->x, s->h);
    we_norm(s, s->h, s->x, w->pre_feedforward_layernorm);
    we_gated(s, s->h, w, WE_ACT_GELU_TANH);
    we_project(s, s->h, s->gate, &w->down_proj);
    we_norm(s, s->h, s->h, w->post_feedforward_layernorm);
    we_add(s, s->x, s->h);
}

const we_arch we_arch_gemma3_text = {
    .name = "gemma3_text",
    .parent = &we_arch_llama,
    .defaults = &gemma3_defaults,
    .tensors = gemma3_tensors,
    .n_tensors = WE_COUNT(gemma3_tensors),
    .configure = gemma3_configure,
    .layer = gemma3_layer,
};
