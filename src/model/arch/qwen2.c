/* SPDX-License-Identifier: Apache-2.0
 * qwen2.c - the Qwen2 and Qwen2.5 dense decoders: a Llama layer with biases on q, k and v (bound because the checkpoint has
 * them) and another default for the rotary base. sliding_window has no effect, as in mlx-lm.
 * Source: Qwen2 Technical Report, arXiv:2407.10671; checked against mlx_lm/models/qwen2.py. */
#include "model/model_int.h"

static const we_config qwen2_defaults = { .rope_theta = 1000000,
                                          .tie_word_embeddings = true,
                                          .max_position_embeddings = 32768 };

const we_arch we_arch_qwen2 = { .name = "qwen2", .parent = &we_arch_llama, .defaults = &qwen2_defaults };
