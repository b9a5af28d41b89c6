/* SPDX-License-Identifier: Apache-2.0
 * phi3.c - Phi-3 and Phi-4 dense decoders: a Llama layer whose q, k, v and whose gate and up lie joined in one matrix each
 * (cut by rows while binding, so the layer is Llama's), of whose heads a part may be rotated, with "longrope" positions.
 * Source: Phi-3 Technical Report, arXiv:2404.14219; LongRoPE, arXiv:2402.13753; checked against mlx_lm/models/phi3.py. */
#include "model/model_int.h"

#define JOINED_QKV "self_attn.qkv_proj"
#define JOINED_GATE_UP "mlp.gate_up_proj"

static const we_tensor_spec phi3_tensors[] = {
    { .field = WE_LAYER(q_proj),
      .name = JOINED_QKV,
      .shape = { WE_DIM_Q, WE_DIM_HIDDEN },
      .of = { WE_DIM_Q, WE_DIM_KV, WE_DIM_KV } },
    { .field = WE_LAYER(k_proj),
      .name = JOINED_QKV,
      .shape = { WE_DIM_KV, WE_DIM_HIDDEN },
      .after = { WE_DIM_Q },
      .of = { WE_DIM_Q, WE_DIM_KV, WE_DIM_KV } },
    { .field = WE_LAYER(v_proj),
      .name = JOINED_QKV,
      .shape = { WE_DIM_KV, WE_DIM_HIDDEN },
      .after = { WE_DIM_Q, WE_DIM_KV },
      .of = { WE_DIM_Q, WE_DIM_KV, WE_DIM_KV } },
    { .field = WE_LAYER(gate_proj),
      .name = JOINED_GATE_UP,
      .shape = { WE_DIM_FF, WE_DIM_HIDDEN },
      .of = { WE_DIM_FF, WE_DIM_FF } },
    { .field = WE_LAYER(up_proj),
      .name = JOINED_GATE_UP,
      .shape = { WE_DIM_FF, WE_DIM_HIDDEN },
      .after = { WE_DIM_FF },
      .of = { WE_DIM_FF, WE_DIM_FF } },
};

static const we_config phi3_defaults = { .rope_theta = 10000,
                                         .partial_rotary_factor = 1,
                                         .max_position_embeddings = 131072,
                                         .original_max_position_embeddings = 4096 };

const we_arch we_arch_phi3 = {
    .name = "phi3",
    .parent = &we_arch_llama,
    .defaults = &phi3_defaults,
    .tensors = phi3_tensors,
    .n_tensors = WE_COUNT(phi3_tensors),
};
