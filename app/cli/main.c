/* SPDX-License-Identifier: Apache-2.0
 * main.c - the command `whisperengine`: the table of commands and the way into them. Each command is a file of its own
 * (cmd_*.c); options.c reads their options. The contract with other programs: answers on standard output, everything
 * else on standard error; exit status 0 done, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C. */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>

static const cli_command *const commands[] = {
    &cli_command_chat,       &cli_command_run,      &cli_command_pull,      &cli_command_list,
    &cli_command_info,       &cli_command_verify,   &cli_command_rm,        &cli_command_bench,
    &cli_command_perplexity, &cli_command_generate, &cli_command_tokenize,  &cli_command_detokenize,
    &cli_command_template,   &cli_command_logits,   &cli_command_convert,   &cli_command_backends,
    &cli_command_config,     &cli_command_setup,    &cli_command_recommend, &cli_command_top,
    &cli_command_doctor,
};

static void print_overview(FILE *stream)
{
    fputs("WhisperEngine runs MLX-format language models on this machine.\n\n"
          "Usage: whisperengine COMMAND [options]\n\nCommands:\n",
          stream);
    for (size_t i = 0; i < WE_COUNT(commands); i++)
        fprintf(stream, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n'whisperengine COMMAND --help' tells a command's options. 'whisperengine chat' is the place to begin.\n"
          "Options: --help, --version\n",
          stream);
}

static const cli_command *command_by_name(const char *name)
{
    for (size_t i = 0; i < WE_COUNT(commands); i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

/* Names at the smallest distance of at most 2, or that begin as the word does. */
static int unknown_command(const char *name)
{
    we_buf near = { 0 };
    size_t best = strlen(name) < 4 ? 1 : 2;
    for (size_t i = 0; i < WE_COUNT(commands); i++) best = WE_MIN(best, cli_distance(name, commands[i]->name));
    for (size_t i = 0; i < WE_COUNT(commands); i++) {
        const bool begins = strlen(name) >= 2 && strncmp(commands[i]->name, name, strlen(name)) == 0;
        if (begins || cli_distance(name, commands[i]->name) == best)
            we_buf_printf(&near, "%s'%s'", near.len ? " or " : "", commands[i]->name);
    }
    if (near.len)
        cli_error("'%s' is not a command, did you mean %s?\nTry 'whisperengine --help'.", name, near.ptr);
    else
        cli_error("'%s' is not a command.\nTry 'whisperengine --help'.", name);
    we_buf_deinit(&near);
    return CLI_USAGE;
}

/* May be called from any thread. */
static void log_line(void *user, we_log_level level, const char *module, const char *message)
{
    (void)user;
    static const char *const levels[] = { "error", "warning", "info", "debug", "trace", "off" };
    we_buf line = { 0 };
    cli_escape(&line, we_str_from(message));
    cli_progress_end();
    fprintf(stderr, "%s[%s] %s: %s%s\n", cli_style_code(stderr, CLI_STYLE_DIM), module, levels[level],
            line.ptr ? line.ptr : "", cli_style_code(stderr, CLI_STYLE_RESET));
    we_buf_deinit(&line);
}

static void on_note(void *user, const char *text)
{
    (void)user;
    cli_note("%s", text);
}

static bool on_question(void *user, const char *question)
{
    (void)user;
    return cli_ask(question);
}

/* Files of variables, and what is logged: -v, then WE_LOG, then --log. */
static int set_up(const cli_options *options)
{
    we_error err;
    we_config_options config = WE_CONFIG_OPTIONS_INIT;
    const bool answers = options->command == &cli_command_run || options->command == &cli_command_chat;
    config.confirm = answers ? on_question : NULL;
    config.on_note = on_note;
    we_log_set_callback(log_line, NULL);
    if (options->verbose && we_log_set_levels("info", &err)) return cli_fail(&err);
    if (we_config_load(&config, &err)) {
        if (err.status != WE_E_ARG) return cli_fail(&err);
        const bool tells = options->command == &cli_command_config || options->command == &cli_command_doctor;
        if (!tells) return cli_usage_error(options->command, "%s", err.message);
    }
    for (size_t i = 0; i < options->log.n; i++)
        if (we_log_set_levels(options->log.items[i], &err))
            return cli_usage_error(options->command, "--log: %s", err.message);
    return CLI_OK;
}

static int run_command(const cli_command *command, int argc, char **argv)
{
    cli_options options;
    int status = cli_options_parse(&options, command, argc, argv);
    if (!status && options.help)
        cli_options_print_help(command);
    else if (!status && !(status = set_up(&options)))
        status = command->run(&options);
    we_log_set_callback(NULL, NULL);
    cli_options_deinit(&options);
    return status;
}

static bool is_any(const char *text, const char *a, const char *b, const char *c)
{
    return strcmp(text, a) == 0 || strcmp(text, b) == 0 || strcmp(text, c) == 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_DFL); /* a parent may have it ignored; `whisperengine list | head` is to end quietly */
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (is_any(word, "--version", "-V", "version")) {
        cli_out_printf("whisperengine %s\n", we_version());
        return cli_out_finish(CLI_OK);
    }
    if (is_any(word, "--help", "-h", "help") && argc == 2) {
        print_overview(stdout);
        return cli_out_finish(CLI_OK);
    }
    char *help[] = { (char[]){ "--help" } };
    const bool asks_help = strcmp(word, "help") == 0 && argc == 3;
    if (asks_help) word = argv[2];
    const cli_command *command = command_by_name(word);
    int status;
    if (!command && word[0] == '-') {
        cli_error("%s: a command comes first.\nTry 'whisperengine --help'.", word);
        status = CLI_USAGE;
    } else if (!command) {
        status = unknown_command(word);
    } else if (asks_help) {
        status = run_command(command, 1, help);
    } else {
        status = run_command(command, argc - 2, argv + 2);
    }
    return cli_out_finish(status);
}
