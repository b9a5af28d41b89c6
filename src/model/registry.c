/* SPDX-License-Identifier: Apache-2.0
 * registry.c - which page runs which model_type: a row for each. Model types that are another's under a second name point to
 * the same page. */
#include "model/model_int.h"

extern const we_arch we_arch_qwen2, we_arch_qwen3, we_arch_phi3, we_arch_gemma3_text;

static const struct {
    const char *model_type;
    const we_arch *arch;
} registry[] = {
    { "gemma3_text", &we_arch_gemma3_text },
    { "llama", &we_arch_llama },
    { "mistral", &we_arch_llama }, /* sliding_window without layer_types has no effect, as in mlx-lm */
    { "phi3", &we_arch_phi3 },
    { "qwen2", &we_arch_qwen2 },
    { "qwen3", &we_arch_qwen3 },
};

const we_arch *we_arch_find(we_str model_type)
{
    for (size_t i = 0; i < WE_COUNT(registry); i++)
        if (we_str_is(model_type, registry[i].model_type)) return registry[i].arch;
    return NULL;
}

const char *we_model_type_at(size_t index) { return index < WE_COUNT(registry) ? registry[index].model_type : NULL; }

bool we_model_type_known(we_str model_type) { return we_arch_find(model_type) != NULL; }
