/* SPDX-License-Identifier: Apache-2.0
 * short_names.c - the built-in rows of the table of models (model_names.c): what people say, the MLX repository on the hub that
 * it stands for, and what they want to know before the download. A new name is a new row. Sizes are of the 4-bit form: parameters times 4.5 bits (a scale
 * and a bias of 16 bits for each group of 64), rounded up; what a download really takes is asked of the hub. */
#include "hub/hub.h"

#define M *UINT64_C(1000000)

const we_hub_short_name we_hub_short_names[] = {
    /* name, repository, parameters, bytes at 4 bits, context;
     * the same model as LM Studio, Ollama and the hub (for Transformers; GGUF files begin like its last part) call it */
    { "smollm2-135m-instruct", "mlx-community/SmolLM2-135M-Instruct", 135 M, 270 M, 8192, "smollm2-135m-instruct",
      "smollm2:135m", "HuggingFaceTB/SmolLM2-135M-Instruct" },
    { "qwen3-0.6b", "mlx-community/Qwen3-0.6B-4bit", 596 M, 336 M, 40960, "qwen3-0.6b", "qwen3:0.6b",
      "Qwen/Qwen3-0.6B" },
    { "gemma-3-1b", "mlx-community/gemma-3-1b-it-4bit", 1000 M, 563 M, 32768, "gemma-3-1b", "gemma3:1b",
      "google/gemma-3-1b-it" },
    { "llama-3.2-1b", "mlx-community/Llama-3.2-1B-Instruct-4bit", 1236 M, 696 M, 131072, "llama-3.2-1b-instruct",
      "llama3.2:1b", "meta-llama/Llama-3.2-1B-Instruct" },
    { "qwen3-1.7b", "mlx-community/Qwen3-1.7B-4bit", 1721 M, 969 M, 40960, "qwen3-1.7b", "qwen3:1.7b",
      "Qwen/Qwen3-1.7B" },
    { "llama-3.2-3b", "mlx-community/Llama-3.2-3B-Instruct-4bit", 3213 M, 1808 M, 131072, "llama-3.2-3b-instruct",
      "llama3.2:3b", "meta-llama/Llama-3.2-3B-Instruct" },
    { "phi-3-mini", "mlx-community/Phi-3-mini-4k-instruct-4bit", 3821 M, 2150 M, 4096, "phi-3-mini-4k-instruct",
      "phi3:mini", "microsoft/Phi-3-mini-4k-instruct" },
    { "gemma-3-4b", "mlx-community/gemma-3-4b-it-4bit", 4300 M, 2419 M, 131072, "gemma-3-4b", "gemma3:4b",
      "google/gemma-3-4b-it" },
    { "qwen3-4b", "mlx-community/Qwen3-4B-4bit", 4022 M, 2263 M, 40960, "qwen3-4b", "qwen3:4b", "Qwen/Qwen3-4B" },
    { "codellama-7b", "mlx-community/CodeLlama-7b-Instruct-hf-4bit-MLX", 6739 M, 3791 M, 16384, "codellama-7b-instruct",
      "codellama:7b", "codellama/CodeLlama-7b-Instruct-hf" },
    { "mistral-7b-instruct", "mlx-community/Mistral-7B-Instruct-v0.3-4bit", 7248 M, 4077 M, 32768,
      "mistral-7b-instruct-v0.3", "mistral:7b", "mistralai/Mistral-7B-Instruct-v0.3" },
    { "qwen2.5-7b-instruct", "mlx-community/Qwen2.5-7B-Instruct-4bit", 7616 M, 4284 M, 32768, "qwen2.5-7b-instruct",
      "qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct" },
    { "llama-3.1-8b-instruct", "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit", 8030 M, 4517 M, 131072,
      "meta-llama-3.1-8b-instruct", "llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct" },
    { "qwen3-8b", "mlx-community/Qwen3-8B-4bit", 8191 M, 4608 M, 40960, "qwen3-8b", "qwen3:8b", "Qwen/Qwen3-8B" },
    { "gemma-3-12b", "mlx-community/gemma-3-12b-it-4bit", 12187 M, 6856 M, 131072, "gemma-3-12b", "gemma3:12b",
      "google/gemma-3-12b-it" },
    { "qwen3-14b", "mlx-community/Qwen3-14B-4bit", 14768 M, 8307 M, 40960, "qwen3-14b", "qwen3:14b", "Qwen/Qwen3-14B" },
    { "qwen3-32b", "mlx-community/Qwen3-32B-4bit", 32762 M, 18429 M, 40960, "qwen3-32b", "qwen3:32b",
      "Qwen/Qwen3-32B" },
    { "llama-3.1-70b", "mlx-community/Meta-Llama-3.1-70B-Instruct-4bit", 70554 M, 39687 M, 131072,
      "meta-llama-3.1-70b-instruct", "llama3.1:70b", "meta-llama/Llama-3.1-70B-Instruct" },
};
const size_t we_hub_n_short_names = sizeof we_hub_short_names / sizeof we_hub_short_names[0];

/* clang-format off */
const we_hub_shape we_hub_shapes[] = {
    /* layers, hidden, feed-forward, heads, KV heads, of a head, vocabulary, tied, window, full each, tier */
    { 30,  576,  1536,  9,  3,  64,  49152, true,     0, 0,  0 }, /* smollm2-135m-instruct */
    { 28, 1024,  3072, 16,  8, 128, 151936, true,     0, 0,  0 }, /* qwen3-0.6b */
    { 26, 1152,  6912,  4,  1, 256, 262144, true,   512, 6,  0 }, /* gemma-3-1b */
    { 16, 2048,  8192, 32,  8,  64, 128256, true,     0, 0,  0 }, /* llama-3.2-1b */
    { 28, 2048,  6144, 16,  8, 128, 151936, true,     0, 0,  0 }, /* qwen3-1.7b */
    { 28, 3072,  8192, 24,  8, 128, 128256, true,     0, 0,  8 }, /* llama-3.2-3b */
    { 32, 3072,  8192, 32, 32,  96,  32064, false,    0, 0,  8 }, /* phi-3-mini */
    { 34, 2560, 10240,  8,  4, 256, 262208, true,  1024, 6,  0 }, /* gemma-3-4b */
    { 36, 2560,  9728, 32,  8, 128, 151936, true,     0, 0,  0 }, /* qwen3-4b */
    { 32, 4096, 11008, 32, 32, 128,  32016, false,    0, 0,  0 }, /* codellama-7b */
    { 32, 4096, 14336, 32,  8, 128,  32768, false,    0, 0, 16 }, /* mistral-7b-instruct */
    { 28, 3584, 18944, 28,  4, 128, 152064, false,    0, 0,  0 }, /* qwen2.5-7b-instruct */
    { 32, 4096, 14336, 32,  8, 128, 128256, false,    0, 0, 16 }, /* llama-3.1-8b-instruct */
    { 36, 4096, 12288, 32,  8, 128, 151936, false,    0, 0,  0 }, /* qwen3-8b */
    { 48, 3840, 15360, 16,  8, 256, 262208, true,  1024, 6,  0 }, /* gemma-3-12b */
    { 40, 5120, 17408, 40,  8, 128, 151936, false,    0, 0,  0 }, /* qwen3-14b */
    { 64, 5120, 25600, 64,  8, 128, 151936, false,    0, 0,  0 }, /* qwen3-32b */
    { 80, 8192, 28672, 64,  8, 128, 128256, false,    0, 0, 32 }, /* llama-3.1-70b */
};
/* clang-format on */
_Static_assert(sizeof we_hub_shapes / sizeof we_hub_shapes[0] ==
                   sizeof we_hub_short_names / sizeof we_hub_short_names[0],
               "a short name without a shape, or the other way round");
