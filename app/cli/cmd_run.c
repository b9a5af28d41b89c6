/* SPDX-License-Identifier: Apache-2.0
 * cmd_run.c - `run`: one answer to one prompt, streamed. The prompt is the arguments, or standard input, or both. */
#include "cli.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

/* With a prompt on the command line, standard input is an extra that a parent may have left open without meaning to
 * write: then its first byte has to come within this time. */
#define STDIN_WAIT_MS 3000

/* Whether standard input holds something to read beside a prompt that was given. */
static bool stdin_is_meant(void)
{
    struct stat st;
    if (isatty(STDIN_FILENO) || fstat(STDIN_FILENO, &st) != 0) return false;
    if (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)) return true;
    struct pollfd fd = { STDIN_FILENO, POLLIN, 0 };
    if (poll(&fd, 1, STDIN_WAIT_MS) > 0) return true;
    cli_note("nothing came on standard input in %d s: going on with the prompt alone", STDIN_WAIT_MS / 1000);
    return false;
}

static int prompt_read(const cli_options *options, we_buf *prompt)
{
    const cli_texts *words = &options->positional;
    for (size_t i = 0; i < words->n; i++) {
        if (i) we_buf_append_char(prompt, ' ');
        we_buf_append_str(prompt, we_str_from(words->items[i]));
    }
    if (words->n == 0 && isatty(STDIN_FILENO))
        return cli_usage_error(options->command, "a prompt is needed, as an argument or on standard input");
    if (words->n == 0 || stdin_is_meant()) {
        we_buf text = { 0 };
        const int status = cli_read_all(stdin, "standard input", &text);
        if (text.len && prompt->len) we_buf_append_str(prompt, WE_STR("\n\n"));
        we_buf_append_str(prompt, we_buf_str(&text));
        we_buf_deinit(&text);
        if (status) return status;
    }
    /* A message is a C string: nothing behind a NUL may get lost in silence. */
    if (prompt->len && memchr(prompt->ptr, 0, prompt->len)) {
        cli_error("the prompt holds a NUL character; expected text");
        return CLI_FAILED;
    }
    while (prompt->len && (prompt->ptr[prompt->len - 1] == '\n' || prompt->ptr[prompt->len - 1] == '\r'))
        prompt->ptr[--prompt->len] = 0; /* the one that ends a file or `echo` */
    if (prompt->failed || prompt->len == 0) {
        cli_error(prompt->failed ? "no memory for the prompt" : "the prompt is empty");
        return CLI_FAILED;
    }
    return CLI_OK;
}

static bool show_piece(void *user, const char *text, size_t len, int32_t token)
{
    (void)token;
    char *last = user;
    if (len) *last = text[len - 1];
    cli_out_text((we_str){ text, len });
    return cli_out_flush() && !cli_interrupted();
}

static bool go_on(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return !cli_interrupted();
}

static void print_json(const cli_model *m, const we_client_result *answered, const we_result *result, uint64_t seed,
                       int *status)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    if (m->session)
        cli_json_result(&json, m->name, result, seed);
    else
        cli_json_client_result(&json, answered, seed);
    we_json_end_object(&json.w);
    *status = cli_json_end(&json);
}

static int answer(const cli_options *options, cli_model *m, we_client *client, const char *prompt,
                  const char *variables)
{
    const we_message messages[] = { { "system", options->system }, { "user", prompt } };
    const size_t skip = options->system ? 0 : 1;
    we_conversation conversation = WE_CONVERSATION_INIT;
    conversation.messages = messages + skip;
    conversation.n_messages = WE_COUNT(messages) - skip;
    conversation.variables_json = variables;

    char last = '\n';
    we_generate_options generate = WE_GENERATE_OPTIONS_INIT;
    if (client) {
        cli_client_sampling(options, &generate);
    } else {
        we_model_default_sampling(m->model, &generate);
        cli_sampling_apply(options, m, &generate);
    }
    generate.on_piece = options->json ? NULL : show_piece;
    generate.on_prefill = go_on;
    generate.user = &last;

    we_client_result answered = { .size = sizeof answered, .result.size = sizeof answered.result };
    we_result *const result = &answered.result;
    we_error err;
    cli_interrupt_target(m->session);
    cli_interrupt_client(client);
    const we_status st = client ? we_client_chat(client, &conversation, &generate, &answered, &err)
                                : we_session_chat(m->session, &conversation, &generate, result, &err);
    cli_interrupt_target(NULL);
    cli_interrupt_client(NULL);

    int status = CLI_OK;
    if (!options->json && last != '\n') cli_out_printf("\n");
    if (st)
        status = cli_fail(&err);
    else if (options->json)
        print_json(m, &answered, result, generate.seed, &status);
    if (!st && options->verbose) cli_note_result(result);
    if (!st && options->verbose && client)
        cli_note("answered by %s, model %s", answered.backend, answered.model ? answered.model : "");
    if (!st && !status && cli_interrupted()) status = CLI_INTERRUPTED;
    we_client_result_deinit(&answered);
    return status;
}

static int run(const cli_options *given)
{
    cli_options options = *given;
    cli_model m = { 0 };
    we_client *client = NULL;
    we_buf prompt = { 0 };
    char *variables = NULL;
    int status;
    if (!(status = cli_environment_apply(&options)) && !(status = cli_template_variables(&options, &variables)) &&
        !(status = prompt_read(&options, &prompt)) && !(status = cli_answerer_open(&m, &client, &options))) {
        cli_interrupt_install(false);
        status = answer(&options, &m, client, prompt.ptr, variables);
    }
    we_client_close(client);
    cli_model_close(&m);
    we_buf_deinit(&prompt);
    we_free(variables);
    return status;
}

static const cli_option own[] = {
    { "system", 's', CLI_TEXT, offsetof(cli_options, system), 0, 0, "TEXT", "a system message before the prompt" },
};

const cli_command cli_command_run = {
    "run",
    "[options] [PROMPT...]",
    "answer one prompt",
    "Streams one answer to standard output. The prompt is the arguments joined by spaces, or\n"
    "standard input; where both are given, standard input follows after a blank line.\n"
    "Variables (MLX_TEMPERATURE, MLX_CONTEXT_LENGTH, ...) stand for options that are left out: see\n"
    "'whisperengine config -v'. Ctrl-C stops the answer; the exit status is then 130.",
    own,
    WE_COUNT(own),
    { &cli_group_model, &cli_group_sampling, &cli_group_template, &cli_group_engine, &cli_group_answerer },
    -1,
    run
};
