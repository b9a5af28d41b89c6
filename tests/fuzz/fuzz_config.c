/* SPDX-License-Identifier: Apache-2.0
 * fuzz_config.c - any bytes as config.json: an error or a configuration whose numbers are usable, never a crash. */
#include "model/model_int.h"
#include <assert.h>
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    we_arena arena = { 0 };
    we_config c;
    const we_arch *arch = NULL;
    we_error err;
    if (!we_config_parse(&c, &arch, &arena, (we_str){ (const char *)data, size }, "config.json", &err)) {
        assert(arch && c.head_dim > 0 && c.num_attention_heads % c.num_key_value_heads == 0);
        for (int64_t i = 0; i < c.num_hidden_layers; i++) assert(c.layer_windows[i] >= 0);
        we_rope_params p = { c.rope_theta, (int)((double)c.head_dim * c.partial_rotary_factor), c.rope_scaling,
                             c.max_position_embeddings, 0 };
        float scale, *inv_freq = we_malloc((size_t)p.dims / 2 * sizeof *inv_freq);
        assert(inv_freq);
        we_rope_frequencies(&p, inv_freq, &scale);
        we_free(inv_freq);
    }
    we_arena_deinit(&arena);
    return 0;
}
