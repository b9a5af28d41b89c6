/* SPDX-License-Identifier: Apache-2.0
 * llamacpp.c - llama-cpp-python: `python -m llama_cpp.server` on a GGUF file, started by us (pyserver.c).
 *
 * Its pages allow every origin (CORS "*"), so any web page that a browser shows here could ask it: it gets a random key, which only
 * its environment holds. Its settings may come from the environment too; what would turn it away from what we say is taken out
 * (CONFIG_FILE, HOST, PORT, the TLS files, a repository to download from).
 * Source: llama_cpp/server/settings.py, __main__.py and types.py of llama-cpp-python 0.3.36. */
#include "backend/backend_int.h"
#include "format/format.h"
#include <stdlib.h>

#define MOST_CONTEXT 8192 /* unless more is asked for: the KV cache is taken at once */

static bool runs(const char *path) { return !we_path_is_dir(path) && we_is_gguf(path); }

static we_status check(const char *path, we_error *err)
{
    return we_fail(err, WE_E_UNSUPPORTED, "%s is no GGUF file", path);
}

/* What the model was made for; 0: it does not say. */
static int context_of(const char *path)
{
    we_weights *weights;
    we_str arch;
    int64_t n = 0;
    char key[96];
    if (we_weights_open(&weights, path, NULL)) return 0;
    const we_gguf *gguf = we_weights_gguf(weights);
    if (we_gguf_str(we_gguf_get(gguf, "general.architecture"), &arch) && arch.len < 64) {
        snprintf(key, sizeof key, "%.*s.context_length", (int)arch.len, arch.ptr);
        const we_gguf_value *v = we_gguf_get(gguf, key);
        if (!v || !we_gguf_i64(v, 0, &n)) n = 0;
    }
    we_weights_close(weights);
    return n > 0 && n < INT32_MAX ? (int)n : 0;
}

static void command(const we_backend *b, const char *path, int port, const char *key, we_command *c)
{
    static const char *const left_out[] = { "CONFIG_FILE",  "HOST",      "PORT",  "SSL_KEYFILE",
                                            "SSL_CERTFILE", "ROOT_PATH", "MODEL", "HF_MODEL_REPO_ID" };
    const int threads = b->options.engine ? b->options.engine->threads : 0, made_for = context_of(path);
    int context = b->options.context;
    if (context <= 0) context = made_for ? WE_MIN(made_for, MOST_CONTEXT) : MOST_CONTEXT;
    for (size_t i = 0; i < WE_COUNT(left_out); i++) we_command_env(c, "%s", left_out[i]);
    we_command_env(c, "API_KEY=%s", key);
    const char *const fixed[] = { "-m", "llama_cpp.server", "--host", "127.0.0.1", "--logits_all", "false", "--model" };
    for (size_t i = 0; i < WE_COUNT(fixed); i++) we_command_arg(c, "%s", fixed[i]);
    we_command_arg(c, "%s", path);
    we_command_arg(c, "--port");
    we_command_arg(c, "%d", port);
    we_command_arg(c, "--n_ctx");
    we_command_arg(c, "%d", context);
    we_command_arg(c, "--n_threads");
    we_command_arg(c, "%d", threads > 0 ? threads : we_cpu_count());
    if (!getenv("N_GPU_LAYERS")) { /* all that a build for a GPU can take; another one does not care */
        we_command_arg(c, "--n_gpu_layers");
        we_command_arg(c, "-1");
    }
}

static const we_pyserver_kind kind = {
    .package = WE_PYTHON_LLAMACPP,
    .models = "GGUF file",
    .runs = runs,
    .check = check,
    .command = command,
    .takes_key = true,
    .health = "/v1/models",
    .flavour = { .chat = "/v1/chat/completions",
                 .completions = "/v1/completions",
                 .repetition_penalty = "repeat_penalty",
                 .continues = WE_CONTINUES_NOT,
                 .null_is_no_limit = true },
};

static we_status open_llamacpp(we_backend *b, we_error *err) { return we_pyserver_open(b, &kind, err); }

const we_backend_ops we_backend_llamacpp = WE_PYSERVER_OPS(open_llamacpp);
