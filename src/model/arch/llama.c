/* SPDX-License-Identifier: Apache-2.0
 * llama.c - the Llama decoder: RMS norm before attention and before the gated MLP, grouped queries, rotary positions. Also
 * Mistral, CodeLlama and everything else that calls itself "llama"; the parent of most other pages.
 * Not here: kernels (device/), the layer loop (model/run.c).
 * Source: Llama 2, arXiv:2307.09288; The Llama 3 Herd of Models, arXiv:2407.21783; checked against mlx_lm/models/llama.py. */
#include "model/model_int.h"

static const we_tensor_spec llama_tensors[] = {
    { .field = WE_LAYER(input_layernorm), .name = "input_layernorm", .shape = { WE_DIM_HIDDEN } },
    { .field = WE_LAYER(post_attention_layernorm), .name = "post_attention_layernorm", .shape = { WE_DIM_HIDDEN } },
    { .field = WE_LAYER(q_proj), .name = "self_attn.q_proj", .shape = { WE_DIM_Q, WE_DIM_HIDDEN } },
    { .field = WE_LAYER(k_proj), .name = "self_attn.k_proj", .shape = { WE_DIM_KV, WE_DIM_HIDDEN } },
    { .field = WE_LAYER(v_proj), .name = "self_attn.v_proj", .shape = { WE_DIM_KV, WE_DIM_HIDDEN } },
    { .field = WE_LAYER(o_proj), .name = "self_attn.o_proj", .shape = { WE_DIM_HIDDEN, WE_DIM_Q } },
    { .field = WE_LAYER(gate_proj), .name = "mlp.gate_proj", .shape = { WE_DIM_FF, WE_DIM_HIDDEN } },
    { .field = WE_LAYER(up_proj), .name = "mlp.up_proj", .shape = { WE_DIM_FF, WE_DIM_HIDDEN } },
    { .field = WE_LAYER(down_proj), .name = "mlp.down_proj", .shape = { WE_DIM_HIDDEN, WE_DIM_FF } },
};

static const we_config llama_defaults = { .rope_theta = 10000, .tie_word_embeddings = true, .reads_layer_types = true };

static void llama_layer(we_step *s, const we_layer *w)
{
    we_norm(s, s->h, s->x, w->input_layernorm);
    we_qkv(s, s->h, w);
    we_rotate(s, w);
    we_attention(s, w);
    we_project_add(s, s->x, s->a, &w->o_proj);
    we_norm(s, s->h, s->x, w->post_attention_layernorm);
    we_gated(s, s->h, w, WE_ACT_SILU);
    we_project_add(s, s->x, s->gate, &w->down_proj);
}

const we_arch we_arch_llama = {
    .name = "llama",
    .defaults = &llama_defaults,
    .tensors = llama_tensors,
    .n_tensors = WE_COUNT(llama_tensors),
    .layer = llama_layer,
};
