/* SPDX-License-Identifier: Apache-2.0
 * cmd_chat.c - `chat`: a conversation. At a terminal it has a prompt, line editing and an input history; from a pipe it
 * answers line by line with nothing around the answers. Each turn hands the whole conversation to the library, which
 * reuses what its cache shares with it.
 *
 * Invariant: the conversation holds whole turns. A turn that fails leaves no message behind; one that was stopped keeps its
 * partial answer. */
#include "cli.h"
#include "conversation.h"
#include "lineedit.h"

#include <ctype.h>
#include <unistd.h>

typedef struct chat {
    const cli_options *options;
    cli_model m;       /* one of these two answers: m.session, */
    we_client *client; /* or this */
    cli_conversation conversation;
    we_generate_options generate;
    uint64_t seed;
    char *variables;
    we_client_result last;                  /* of the last turn; zeroed before the first */
    char *conversation_path, *history_path; /* NULL where there is no place for them */
    bool store_failed;                      /* told once, then no longer tried */
    cli_lineedit *editor;
    FILE *screen; /* where a person reads; NULL: nobody does */
    char last_char;
    uint64_t n_turns;
    bool ends;
    int status;
} chat;

/* ---- What is kept between runs ---- */

/* The model, as the conversation's file names it. */
static const char *model_name(const chat *c)
{
    we_client_info info = { .size = sizeof info };
    if (!c->client) return c->m.name;
    we_client_get_info(c->client, &info);
    return info.model;
}

static void paths_find(chat *c)
{
    we_error err;
    char *dir = we_dir_user_data();
    if (dir && !we_dir_make(dir, 0700, &err)) {
        c->conversation_path = we_path_join(dir, "conversation.json");
        c->history_path = we_path_join(dir, "chat_history");
    } else {
        cli_note("the conversation will not be kept: %s", dir ? err.message : "this user has no home folder");
    }
    we_free(dir);
}

static void store_conversation(chat *c)
{
    we_error err;
    if (!c->conversation_path || c->store_failed) return;
    if (!cli_conversation_save(&c->conversation, c->conversation_path, model_name(c), &err)) return;
    c->store_failed = true;
    cli_note("the conversation is not kept: %s", err.message);
}

static int continue_last(chat *c)
{
    we_error err;
    if (!c->conversation_path) return CLI_OK; /* said in paths_find */
    const we_status st = cli_conversation_load(&c->conversation, c->conversation_path, &err);
    if (st == WE_E_NOT_FOUND) {
        cli_note("there is no conversation to continue yet: a new one begins");
        return CLI_OK;
    }
    if (st) return cli_fail(&err);
    if (c->screen || c->options->verbose)
        cli_note("Continuing the last conversation: %zu messages.", c->conversation.n);
    if (c->conversation.model && strcmp(c->conversation.model, model_name(c)) != 0)
        cli_note("It was last held with %s.", c->conversation.model);
    return CLI_OK;
}

/* ---- A turn ---- */

static bool show_piece(void *user, const char *text, size_t len, int32_t token)
{
    (void)token;
    chat *c = user;
    if (len) c->last_char = text[len - 1];
    cli_out_text((we_str){ text, len });
    return cli_out_flush() && !cli_interrupted();
}

static bool go_on(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return !cli_interrupted();
}

static void turn_failed(chat *c, const we_error *err)
{
    cli_conversation_drop_last(&c->conversation);
    cli_error("%s", err->message);
    if (err->status == WE_E_RANGE && c->screen)
        cli_note("Your message was not kept. /reset begins a new conversation.");
    if (!c->screen) c->status = CLI_FAILED;
}

static void print_answer(chat *c, const we_client_result *answered)
{
    const we_result *result = &answered->result;
    if (c->options->json) {
        cli_json json;
        cli_json_begin(&json);
        we_json_begin_object(&json.w);
        if (c->client)
            cli_json_client_result(&json, answered, c->generate.seed);
        else
            cli_json_result(&json, c->m.name, result, c->generate.seed);
        we_json_end_object(&json.w);
        cli_json_end(&json);
    } else if (c->last_char != '\n') {
        cli_out_printf("\n"); /* the pieces are out already */
    }
    if (c->screen && cli_is_terminal(stdout)) cli_out_printf("\n");
    cli_out_flush();
}

static void tell_finish(const chat *c, const we_client_result *answered)
{
    const we_result *result = &answered->result;
    we_session_info info = { .size = sizeof info };
    if (c->client)
        info.context = SIZE_MAX; /* the server's own knowledge */
    else
        we_session_get_info(c->m.session, &info);
    if (result->finish == WE_FINISH_CANCELLED)
        cli_note("(stopped)");
    else if (result->finish == WE_FINISH_LENGTH && info.n_tokens + 1 >= info.context)
        cli_note("(the context of %zu tokens is full: /reset begins a new conversation)", info.context);
    else if (result->finish == WE_FINISH_LENGTH)
        cli_note("(the answer was cut after %zu tokens, as --max-tokens says)", result->n_tokens);
    if (c->options->verbose) cli_note_result(result);
    if (c->options->verbose && c->client)
        cli_note("answered by %s, model %s", answered->backend, answered->model ? answered->model : "");
}

/* Keep the answer; one that was stopped before its first character takes its question with it. */
static we_status keep_answer(chat *c, we_result *result, we_error *err)
{
    if (result->len == 0 && result->finish == WE_FINISH_CANCELLED) {
        cli_conversation_drop_last(&c->conversation);
        return WE_OK;
    }
    for (size_t i = 0; i < result->len; i++)
        if (!result->text[i]) result->text[i] = ' '; /* messages are C strings */
    return cli_conversation_add(&c->conversation, "assistant", result->text ? result->text : "", err);
}

static void take_turn(chat *c, const char *text)
{
    we_error err = { 0 };
    if (cli_conversation_add(&c->conversation, "user", text, &err)) {
        cli_fail(&err);
        c->status = CLI_FAILED;
        return;
    }
    we_conversation conversation = WE_CONVERSATION_INIT;
    conversation.messages = c->conversation.messages;
    conversation.n_messages = c->conversation.n;
    conversation.variables_json = c->variables;
    c->generate.seed = c->seed + c->n_turns++;
    c->last_char = '\n';

    we_client_result result = { .size = sizeof result, .result.size = sizeof result.result };
    cli_interrupt_target(c->m.session);
    cli_interrupt_client(c->client);
    if (c->editor) cli_echo_off();
    we_status st = c->client ? we_client_chat(c->client, &conversation, &c->generate, &result, &err)
                             : we_session_chat(c->m.session, &conversation, &c->generate, &result.result, &err);
    if (c->editor) cli_echo_restore();
    cli_interrupt_target(NULL);
    cli_interrupt_client(NULL);

    if (!st) {
        print_answer(c, &result);
        if (c->screen || c->options->verbose) tell_finish(c, &result);
        st = keep_answer(c, &result.result, &err);
    } else if (c->last_char != '\n') {
        cli_out_printf("\n");
    }
    if (st) {
        turn_failed(c, &err);
        we_client_result_deinit(&result);
        return;
    }
    we_client_result_deinit(&c->last);
    c->last = result;
    store_conversation(c);
}

/* ---- Slash commands ---- */

typedef struct slash_command {
    const char *name, *other, *argument, *help;
    void (*run)(chat *c, const char *argument); /* "" where there is none */
} slash_command;

static void slash_help(chat *c, const char *argument);

static void stats_of_client(const chat *c)
{
    we_buf text = { 0 };
    we_client_info info = { .size = sizeof info };
    we_client_get_info(c->client, &info);
    cli_out_printf("backend  %s%s%s", info.backend, info.url[0] ? " at " : "", cli_escape_line(&text, info.url));
    cli_out_printf("; model %s", cli_escape_line(&text, c->last.model ? c->last.model : info.model));
    cli_out_printf("; %d failover%s so far\n", info.n_failovers, info.n_failovers == 1 ? "" : "s");
    we_buf_deinit(&text);
}

static void slash_stats(chat *c, const char *argument)
{
    (void)argument;
    char weights[24], kv[24], full[24], resident[24], available[24];
    const we_result *r = &c->last.result;
    we_memory_info memory = { .size = sizeof memory };
    if (c->n_turns && r->n_prompt_tokens) {
        cli_out_printf("prompt   %zu tokens, %zu of them cached; %.1f tokens/s\n", r->n_prompt_tokens,
                       r->n_cached_tokens, cli_prompt_speed(r));
        cli_out_printf("answer   %zu tokens; %.1f tokens/s; time to first token %.3f s\n", r->n_tokens,
                       cli_generation_speed(r), r->first_token_s);
    } else {
        cli_out_printf("no answer yet: tokens/s are known after the first one\n");
    }
    if (c->client) {
        stats_of_client(c);
        return;
    }
    we_session_info session = { .size = sizeof session };
    we_session_get_info(c->m.session, &session);
    cli_out_printf("backend  MLX, in this process; model %s\n", c->m.name);
    cli_out_printf("context  %zu of %zu tokens\n", session.n_tokens, session.context);
    cli_out_printf("memory   weights %s, KV cache %s (%s when full)\n",
                   we_format_bytes(weights, c->m.info.weights_bytes), we_format_bytes(kv, session.kv_bytes),
                   we_format_bytes(full, c->m.info.kv_bytes_at_context));
    if (!we_memory_get_info(&memory, NULL))
        cli_out_printf("process  resident %s; %s available on this machine\n",
                       we_format_bytes(resident, memory.resident_bytes),
                       we_format_bytes(available, memory.available_bytes));
    we_buf device = { 0 };
    we_engine_info engine = { .size = sizeof engine };
    we_engine_get_info(c->m.engine, &engine);
    cli_out_printf("device   %s\n", cli_device_text(&device, &engine));
    if (engine.detail[0])
        cli_out_printf("         %s in use there, %s kept for reuse\n",
                       we_format_bytes(weights, engine.memory_active_bytes),
                       we_format_bytes(kv, engine.memory_cached_bytes));
    we_buf_deinit(&device);
}

static void slash_system(chat *c, const char *argument)
{
    we_error err;
    if (cli_conversation_set_system(&c->conversation, argument, &err)) {
        cli_fail(&err);
        return;
    }
    cli_note(*argument ? "The system message is set; it counts from the next answer on."
                       : "There is no system message any more.");
}

static void slash_reset(chat *c, const char *argument)
{
    (void)argument;
    cli_conversation_reset(&c->conversation);
    if (c->m.session) we_session_reset(c->m.session);
    store_conversation(c);
    cli_note("A new conversation begins.");
}

static void slash_save(chat *c, const char *argument)
{
    we_error err;
    if (!*argument)
        cli_note("/save needs a file's name: /save FILE");
    else if (cli_conversation_save(&c->conversation, argument, model_name(c), &err))
        cli_fail(&err);
    else
        cli_note("%zu messages are in %s.", c->conversation.n, argument);
}

static void slash_exit(chat *c, const char *argument)
{
    (void)argument;
    c->ends = true;
}

static const slash_command slash_commands[] = {
    { "/help", "/?", "", "show this", slash_help },
    { "/stats", NULL, "", "tokens/s, time to first token, context and memory", slash_stats },
    { "/system", NULL, " TEXT", "set the system message; without a text take it away", slash_system },
    { "/reset", "/new", "", "forget this conversation and begin a new one", slash_reset },
    { "/save", NULL, " FILE", "write the conversation to a file (JSON)", slash_save },
    { "/exit", "/quit", "", "leave; Ctrl-D does the same", slash_exit },
};

static void slash_help(chat *c, const char *argument)
{
    (void)c, (void)argument;
    for (size_t i = 0; i < WE_COUNT(slash_commands); i++) {
        const slash_command *s = &slash_commands[i];
        char left[32];
        snprintf(left, sizeof left, "%s%s", s->name, s->argument);
        cli_out_printf("%-14s %s%s%s%s\n", left, s->help, s->other ? " (also " : "", s->other ? s->other : "",
                       s->other ? ")" : "");
    }
    cli_out_printf("Ctrl-C stops an answer, and clears the line at the prompt. Arrow keys edit the line and\n"
                   "bring back earlier ones, Ctrl-R searches them.\n");
}

/* A message may begin with a slash too ("/etc/passwd is what?"): a command is a slash and letters up to a space. */
static bool is_slash_word(const char *text)
{
    if (text[0] != '/') return false;
    const char *p = text + 1;
    while (isalpha((unsigned char)*p) || *p == '?') p++;
    return p > text + 1 && (!*p || isspace((unsigned char)*p));
}

static void run_slash(chat *c, const char *text)
{
    const we_str word = { text, strcspn(text, " \t\n") };
    const char *argument = text + word.len;
    while (isspace((unsigned char)*argument)) argument++;
    for (size_t i = 0; i < WE_COUNT(slash_commands); i++) {
        const slash_command *s = &slash_commands[i];
        if (!we_str_is(word, s->name) && !(s->other && we_str_is(word, s->other))) continue;
        s->run(c, argument);
        cli_out_flush();
        return;
    }
    cli_error("%.*s is not a command here; /help lists them", (int)WE_MIN(word.len, 40), word.ptr);
    if (!c->screen) c->status = CLI_FAILED;
}

static void take_line(chat *c, const char *line)
{
    const char *text = line + strspn(line, " \t\r\n");
    size_t len = strlen(text);
    while (len && isspace((unsigned char)text[len - 1])) len--;
    if (len == 0) return;
    char *message = we_strndup(text, len);
    if (!message) {
        cli_error("no memory for the message");
        c->status = CLI_FAILED;
        return;
    }
    if (is_slash_word(message))
        run_slash(c, message);
    else
        take_turn(c, message);
    we_free(message);
}

/* ---- The two ways to hold a conversation ---- */

static void greet(const chat *c)
{
    char size[24];
    const we_model_info *i = &c->m.info;
    we_client_info info = { .size = sizeof info };
    fprintf(c->screen, "%sWhisperEngine %s%s\n", cli_style_code(c->screen, CLI_STYLE_BOLD), we_version(),
            cli_style_code(c->screen, CLI_STYLE_RESET));
    if (c->client) {
        we_client_get_info(c->client, &info);
        cli_note("%s%s%s, model %s.\n/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n", info.backend,
                 info.url[0] ? " at " : "", info.url, info.model[0] ? info.model : "of its choice");
        return;
    }
    cli_note(
        "Model %s: %s, %s, %s; context of %d tokens.\n/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n",
        c->m.name, i->model_type, i->quantization, we_format_bytes(size, i->weights_bytes), i->context);
}

static void hold_at_terminal(chat *c)
{
    we_error err = { 0 };
    we_buf line = { 0 }, prompt = { 0 };
    const char *bold = cli_style_code(c->screen, CLI_STYLE_BOLD);
    if (*bold)
        we_buf_printf(&prompt, "\1%s%s\1> \1%s\1", bold, cli_style_code(c->screen, CLI_STYLE_CYAN),
                      cli_style_code(c->screen, CLI_STYLE_RESET));
    if (cli_lineedit_open(&c->editor, c->screen, c->history_path, &err)) cli_note("%s", err.message);
    if (!c->editor) c->status = CLI_FAILED;
    while (c->editor && !c->ends) {
        const cli_line got = cli_lineedit_read(c->editor, prompt.len ? prompt.ptr : "> ", &line);
        if (got == CLI_LINE_END || !cli_out_flush()) break;
        if (got == CLI_LINE_INTERRUPTED || line.len == 0) continue;
        if (cli_lineedit_remember(c->editor, line.ptr, &err))
            cli_note("the input history is not kept: %s", err.message);
        take_line(c, line.ptr);
    }
    cli_lineedit_close(c->editor);
    c->editor = NULL;
    we_buf_deinit(&line);
    we_buf_deinit(&prompt);
}

static int answer_line(void *user, we_str line, size_t number)
{
    chat *c = user;
    if (memchr(line.ptr, 0, line.len)) {
        cli_error("standard input: line %zu holds a NUL character; expected text", number);
        c->status = CLI_FAILED;
        return CLI_OK;
    }
    take_line(c, line.ptr);
    return c->ends ? CLI_INTERRUPTED : CLI_OK;
}

static void hold_over_pipe(chat *c)
{
    const int status = cli_each_line(answer_line, c);
    if (status && !c->ends) c->status = status;
}

/* ---- The command ---- */

static FILE *find_screen(void)
{
    if (!isatty(STDIN_FILENO)) return NULL;
    return cli_is_terminal(stdout) ? stdout : cli_is_terminal(stderr) ? stderr : NULL;
}

static int check_model(const chat *c)
{
    if (c->client || c->m.info.has_tokenizer) return CLI_OK;
    cli_error("%s: the folder has no tokenizer, which a chat needs; 'whisperengine generate' continues raw tokens",
              c->m.path);
    return CLI_FAILED;
}

static int begin(chat *c)
{
    we_error err;
    int status;
    if ((status = cli_template_variables(c->options, &c->variables)) ||
        (status = cli_answerer_open(&c->m, &c->client, c->options)) || (status = check_model(c)))
        return status;
    cli_interrupt_install(c->screen != NULL);
    if (c->client) {
        cli_client_sampling(c->options, &c->generate);
    } else {
        we_model_default_sampling(c->m.model, &c->generate);
        cli_sampling_apply(c->options, &c->m, &c->generate);
    }
    c->seed = c->generate.seed;
    c->generate.on_piece = c->options->json ? NULL : show_piece;
    c->generate.on_prefill = go_on;
    c->generate.user = c;
    if (c->screen) greet(c);
    paths_find(c);
    if (c->options->continue_last && (status = continue_last(c))) return status;
    if (c->options->system && cli_conversation_set_system(&c->conversation, c->options->system, &err))
        return cli_fail(&err);
    return CLI_OK;
}

static int run(const cli_options *given)
{
    cli_options options = *given;
    chat c = { .options = &options, .generate = WE_GENERATE_OPTIONS_INIT, .screen = find_screen() };
    int status = cli_environment_apply(&options);
    if (!status && !(status = begin(&c))) {
        if (c.screen)
            hold_at_terminal(&c);
        else
            hold_over_pipe(&c);
        status = c.status;
    }
    we_client_result_deinit(&c.last);
    cli_conversation_deinit(&c.conversation);
    we_client_close(c.client);
    cli_model_close(&c.m);
    we_free(c.variables);
    we_free(c.conversation_path);
    we_free(c.history_path);
    return status;
}

#define AT(field) offsetof(cli_options, field)
static const cli_option own[] = {
    { "system", 's', CLI_TEXT, AT(system), 0, 0, "TEXT", "a system message" },
    { "continue", 0, CLI_FLAG, AT(continue_last), 0, 0, NULL, "take up the last conversation" },
};

const cli_command cli_command_chat = {
    "chat",
    "[options]",
    "talk with a model",
    "At a terminal: /help lists what can be typed; Ctrl-C stops an answer, Ctrl-D leaves. From a pipe\n"
    "each line is a message and only the answers are printed. Variables (MLX_TEMPERATURE, MLX_CONTEXT_LENGTH, ...)\n"
    "stand for options that are left out: see 'whisperengine config -v'.",
    own,
    WE_COUNT(own),
    { &cli_group_model, &cli_group_sampling, &cli_group_template, &cli_group_engine, &cli_group_answerer },
    0,
    run
};
