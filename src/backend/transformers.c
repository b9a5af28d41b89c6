/* SPDX-License-Identifier: Apache-2.0
 * transformers.c - Transformers: `transformers serve` on a folder of the Hugging Face form, started by us (pyserver.c).
 *
 * It has no key. It allows no other origin (--enable-cors is not given), so a web page can't ask it; other users of this machine
 * could. It runs no code of a model's (--trust-remote-code is never given), reads only what is on this machine
 * (HF_HUB_OFFLINE), and is bound to its one model: a request names it by the same path.
 * Source: transformers/cli/serve.py and cli/serving/ of transformers 5.23. */
#include "backend/backend_int.h"
#include <stdlib.h>

#define MAX_CONFIG ((size_t)8 << 20)

/* Why not; NULL: it may. MLX's packed weights are nobody else's form. */
static const char *problem_of(const char *path)
{
    if (!we_path_is_dir(path)) return "it is no folder with a config.json";
    if (strchr(path, '@')) return "Transformers takes what follows an '@' for a revision; call the folder otherwise";
    char *config = we_path_join(path, "config.json"), *text = NULL;
    size_t len = 0;
    we_arena arena = { 0 };
    const we_json *root = NULL;
    const char *problem = NULL;
    if (!config || we_file_read(config, MAX_CONFIG, &text, &len, NULL) ||
        we_json_parse(&arena, (we_str){ text, len }, &root, NULL))
        problem = "its config.json can't be read";
    else if (we_json_get(we_json_get(root, "quantization"), "bits"))
        problem = "it is quantized for MLX; `whisperengine convert --dequantize` makes a form that Transformers reads";
    else if (!we_json_get(root, "architectures"))
        problem = "its config.json names no architecture";
    we_arena_deinit(&arena);
    we_free(text);
    we_free(config);
    return problem;
}

static bool runs(const char *path) { return !problem_of(path); }

static we_status check(const char *path, we_error *err)
{
    const char *problem = problem_of(path);
    return we_fail(err, WE_E_UNSUPPORTED, "%s", problem ? problem : "it changed meanwhile");
}

static void command(const we_backend *b, const char *path, int port, const char *key, we_command *c)
{
    (void)b;
    (void)key;
    we_command_env(c, "HF_HUB_OFFLINE=1");
    we_command_env(c, "HF_HUB_DISABLE_TELEMETRY=1");
    we_command_env(c, "HF_HUB_DISABLE_UPDATE_CHECK=1");
    if (!getenv("OMP_NUM_THREADS")) we_command_env(c, "OMP_NUM_THREADS=%d", we_cpu_count());
    const char *const fixed[] = { "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port" };
    for (size_t i = 0; i < WE_COUNT(fixed); i++) we_command_arg(c, "%s", fixed[i]);
    we_command_arg(c, "%d", port);
    we_command_arg(c, "%s", path);
}

static const we_pyserver_kind kind = {
    .package = WE_PYTHON_TRANSFORMERS,
    .models = "model folder",
    .runs = runs,
    .check = check,
    .command = command,
    .asks_by_path = true,
    .health = "/health",
    .flavour = { .chat = "/v1/chat/completions",
                 .completions = "/v1/completions",
                 .repetition_penalty = "repetition_penalty",
                 .takes_variables = true,
                 .takes_generation_config = true,
                 .leaves_stop = true,
                 .continues = WE_CONTINUES_NOT },
};

static we_status open_transformers(we_backend *b, we_error *err) { return we_pyserver_open(b, &kind, err); }

const we_backend_ops we_backend_transformers = WE_PYSERVER_OPS(open_transformers);
