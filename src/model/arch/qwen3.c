/* SPDX-License-Identifier: Apache-2.0
 * qwen3.c - the Qwen3 dense decoder: a Llama layer whose q and k are RMS-normalised per head before the rotation.
 * Source: Qwen3 Technical Report, arXiv:2505.09388; checked against mlx_lm/models/qwen3.py. */
#include "model/model_int.h"

static const we_tensor_spec qwen3_tensors[] = {
    /* beside Llama's */
    { .field = WE_LAYER(q_norm), .name = "self_attn.q_norm", .shape = { WE_DIM_HEAD } },
    { .field = WE_LAYER(k_norm), .name = "self_attn.k_norm", .shape = { WE_DIM_HEAD } },
};

static void qwen3_layer(we_step *s, const we_layer *w)
{
    we_norm(s, s->h, s->x, w->input_layernorm);
    we_qkv(s, s->h, w);
    we_head_norms(s, w);
    we_rotate(s, w);
    we_attention(s, w);
    we_project_add(s, s->x, s->a, &w->o_proj);
    we_norm(s, s->h, s->x, w->post_attention_layernorm);
    we_gated(s, s->h, w, WE_ACT_SILU);
    we_project_add(s, s->x, s->gate, &w->down_proj);
}

static const we_config qwen3_defaults = { .rope_theta = 1000000 };

const we_arch we_arch_qwen3 = {
    .name = "qwen3",
    .parent = &we_arch_llama,
    .defaults = &qwen3_defaults,
    .tensors = qwen3_tensors,
    .n_tensors = WE_COUNT(qwen3_tensors),
    .layer = qwen3_layer,
};
