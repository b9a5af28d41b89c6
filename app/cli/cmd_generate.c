/* SPDX-License-Identifier: Apache-2.0
 * cmd_generate.c - `generate`: continue a text or token ids, raw, without a chat template. Greedy unless the options say
 * otherwise: neither the environment nor the model's recommendation changes what tests and tools measure. */
#include "cli.h"

#define DEFAULT_MAX_TOKENS 256 /* a raw continuation seldom ends by itself */

/* As mlx-lm does: the post-processor's tokens are added, unless the text begins with the BOS token itself. */
static int tokenize_prompt(const cli_model *m, const char *text, int32_t **ids, size_t *n)
{
    const we_tokenizer *tokenizer = we_model_tokenizer(m->model);
    int32_t *plain = NULL;
    size_t n_plain;
    we_error err;
    if (!tokenizer) {
        cli_error("%s: the folder has no tokenizer, give --prompt-tokens instead of --prompt", m->path);
        return CLI_FAILED;
    }
    if (we_tokenize(tokenizer, text, strlen(text), true, ids, n, &err) ||
        we_tokenize(tokenizer, text, strlen(text), false, &plain, &n_plain, &err))
        return cli_fail(&err);
    if (*n > n_plain && n_plain > 0 && (*ids)[0] == plain[0] && (*ids)[1] == plain[0]) {
        we_free(*ids);
        *ids = plain;
        *n = n_plain;
        return CLI_OK;
    }
    we_free(plain);
    return CLI_OK;
}

static bool show_piece(void *user, const char *text, size_t len, int32_t token)
{
    (void)user, (void)token;
    cli_out_exact((we_str){ text, len });
    return cli_out_flush() && !cli_interrupted();
}

static bool go_on(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return !cli_interrupted();
}

static int print_json(const cli_model *m, const we_result *result, uint64_t seed)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_result(&json, m->name, result, seed);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static int generate(const cli_options *options, cli_model *m, const int32_t *ids, size_t n)
{
    we_generate_options generate = WE_GENERATE_OPTIONS_INIT;
    const bool stream = !options->json && !options->output_tokens;
    generate.max_tokens = DEFAULT_MAX_TOKENS;
    cli_sampling_apply(options, m, &generate);
    generate.on_piece = stream ? show_piece : NULL;
    generate.on_prefill = go_on;

    we_result result = { .size = sizeof result };
    we_error err;
    cli_interrupt_target(m->session);
    const we_status st = we_session_generate(m->session, ids, n, &generate, &result, &err);
    cli_interrupt_target(NULL);

    int status = CLI_OK;
    if (st)
        status = cli_fail(&err);
    else if (options->json)
        status = print_json(m, &result, generate.seed);
    else if (options->output_tokens)
        for (size_t i = 0; i < result.n_tokens; i++) cli_out_printf("%s%d", i ? "," : "", result.tokens[i]);
    if (!st && (options->output_tokens ? !options->json : stream && cli_is_terminal(stdout))) cli_out_printf("\n");
    if (!st && options->verbose) cli_note_result(&result);
    if (!st && !status && cli_interrupted()) status = CLI_INTERRUPTED;
    we_result_deinit(&result);
    return status;
}

static int run(const cli_options *options)
{
    if (!options->prompt == !options->prompt_tokens.set)
        return cli_usage_error(options->command, "one of --prompt TEXT and --prompt-tokens 1,2,3 is needed");
    cli_model m;
    int status = cli_model_open(&m, options, 0, true);
    if (status) return status;
    int32_t *ids = NULL;
    size_t n = 0;
    cli_interrupt_install(false);
    if (options->prompt_tokens.set)
        status = generate(options, &m, options->prompt_tokens.ids, options->prompt_tokens.n);
    else if (!(status = tokenize_prompt(&m, options->prompt, &ids, &n))) {
        if (n > 0) {
            status = generate(options, &m, ids, n);
        } else {
            cli_error("--prompt: '%s' gives no tokens, at least one is needed", options->prompt);
            status = CLI_FAILED;
        }
    }
    we_free(ids);
    cli_model_close(&m);
    return status;
}

#define AT(field) offsetof(cli_options, field)
static const cli_option own[] = {
    { "prompt", 'p', CLI_TEXT, AT(prompt), 0, 0, "TEXT", "the text to continue" },
    { "prompt-tokens", 0, CLI_TOKENS, AT(prompt_tokens), 0, 0, "1,2,3", "the token ids to continue" },
    { "ignore-eos", 0, CLI_FLAG, AT(ignore_eos), 0, 0, NULL, "go on after an end-of-turn token" },
    { "output-tokens", 0, CLI_FLAG, AT(output_tokens), 0, 0, NULL,
      "print the ids that were generated, separated by commas" },
};

const cli_command cli_command_generate = {
    "generate",
    "[options] (--prompt TEXT | --prompt-tokens 1,2,3)",
    "continue a text or tokens, without a chat template",
    "Greedy unless the sampling options say otherwise; 256 tokens unless --max-tokens does.\n"
    "Into a file or pipe the text goes byte for byte, with no newline added.",
    own,
    WE_COUNT(own),
    { &cli_group_model, &cli_group_sampling, &cli_group_engine },
    0,
    run
};
