/* SPDX-License-Identifier: Apache-2.0
 * cli.h - what the commands share: the table of commands, the way from options to a loaded model, answers and their
 * figures, standard input, Ctrl-C.
 *
 * Invariant: a function that gives an exit status has already printed why, where it is not CLI_OK. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/base.h"
#include "options.h"
#include "terminal.h"

extern const cli_command cli_command_pull, cli_command_rm, cli_command_verify, cli_command_top, cli_command_recommend,
    cli_command_doctor;
extern const cli_command cli_command_chat, cli_command_run, cli_command_list, cli_command_info, cli_command_bench,
    cli_command_perplexity, cli_command_tokenize, cli_command_detokenize, cli_command_template, cli_command_logits,
    cli_command_generate, cli_command_convert, cli_command_backends, cli_command_config, cli_command_setup;

/* ---- From options to a model (model.c) ---- */

/** A variable's value, NULL where it is not set. Borrowed. */
const char *cli_config(const char *name);
/** What --model, LLM_CHAT_API_URL, MLX_MODEL_NAME or the default say, the first that is there.
 * origin : out, "--model" or the variable's name, for messages; NULL where it is the default. Returns: borrowed. */
const char *cli_model_name(const cli_options *options, const char **origin);

/** Say so and fail where --model is missing and ./.env names a URL that was not followed. */
int cli_refused(const cli_options *options);

/** The folder of that model; `*path` is freed with we_free. */
int cli_model_path(const cli_options *options, char **path);

typedef struct cli_model { /* an open model with all it stands on; zeroed is closed */
    const char *name;      /* as the user says it; borrowed from options or environment */
    char *path;
    we_engine *engine;
    we_model *model;
    we_session *session;
    we_model *draft_model; /* --draft-model; NULL: none */
    we_session *draft;
    we_model_info info;
    we_engine_info engine_info;
} cli_model;

/** Find and load the model that the options name, and start a session on it where asked.
 * context: of its sessions; 0: what --context says, else the library's choice. */
int cli_model_open(cli_model *m, const cli_options *options, int context, bool with_session);
/** Who answers run and chat: the model in this process, where --model or the configuration means MLX; else, or where MLX fails
 * and LLM_CHAT_API_URL allows another, a client. One of m->session and *client is set. */
int cli_answerer_open(cli_model *m, we_client **client, const cli_options *options);
/** Load a second model on the engine of `m`, precise (float32 throughout). name: as --model takes it. */
int cli_model_open_precise(we_model **out, const cli_model *m, const cli_options *options, const char *name,
                           int context);
void cli_model_close(cli_model *m);
/** The device in one line: "cpu, kernels avx512, 2 threads". Borrowed from `out`. */
const char *cli_device_text(we_buf *out, const we_engine_info *info);

/** Options of a tokenizer without weights. */
int cli_tokenizer_open(we_tokenizer **out, const cli_options *options);

/** Where a flag is missing, take MLX_MAX_TOKENS, MLX_TEMPERATURE, MLX_TOP_P, MLX_PROMPT_LOOKUP and MLX_DRAFT_MODEL. */
int cli_environment_apply(cli_options *options);
/** Lay the sampling flags, and what guesses tokens, over `out`, which holds the defaults. Without --seed the seed is random.
 * m : NULL where no model is open. */
void cli_sampling_apply(const cli_options *options, const cli_model *m, we_generate_options *out);
/** The same for a client: what no flag says is the backend's choice. */
void cli_client_sampling(const cli_options *options, we_generate_options *out);

/** The --template-arg options as a JSON object; NULL in *json where there are none. Free with we_free. */
int cli_template_variables(const cli_options *options, char **json);

/** Fetch a model from the hub, with progress on standard error. `*path` is freed with we_free. last: out, how it ended; may be
 * NULL. (cmd_pull.c) */
int cli_pull(const cli_options *options, const char *name, char **path, we_pull_progress *last);

/* ---- Answers (model.c) ---- */

const char *cli_finish_name(we_finish finish);
double cli_prompt_speed(const we_result *result); /* tokens a second; 0 where unknown */
double cli_generation_speed(const we_result *result);
/** The members that every answer's JSON object has: text, tokens, counts, timings, finish reason. */
void cli_json_result(cli_json *json, const char *model, const we_result *result, uint64_t seed);
/** The same of a client's answer, and who gave it. */
void cli_json_client_result(cli_json *json, const we_client_result *result, uint64_t seed);
/** The same as a line on standard error, for -v. */
void cli_note_result(const we_result *result);

/* ---- Standard input (input.c) ---- */

/** All of a stream, bytes as they are. `name` is for the message. */
int cli_read_all(FILE *stream, const char *name, we_buf *out);
/** All of a file; "-" is standard input. */
int cli_read_file(const char *path, we_buf *out);

/** Ask the person at the terminal. False where the answer is not yes, or nobody is there to be asked. */
bool cli_ask(const char *question);

/* Called for each line of standard input, without its '\n' and with a NUL behind; another status than CLI_OK ends the reading. */
typedef int (*cli_line_fn)(void *user, we_str line, size_t number);
/** Lines end at '\n' only. Output is flushed after each. */
int cli_each_line(cli_line_fn fn, void *user);

/* ---- Ctrl-C (interrupt.c) ---- */

/** Take over SIGINT, and have SIGTERM and SIGHUP put the terminal back as it was before they end the program.
 * stay   : Ctrl-C never ends the program by itself; else it does where no session runs. */
void cli_interrupt_install(bool stay);
/** For work that cleans up behind itself: SIGINT, SIGTERM and SIGHUP are only noted, cli_interrupted() tells. */
void cli_interrupt_catch(void);
/** The exit status of a program that such a signal stopped. */
int cli_interrupt_status(void);
/** Ctrl-C cancels this session from now on, and an earlier Ctrl-C is forgotten; NULL: it cancels none any more. */
void cli_interrupt_target(we_session *session);
/** The same for a client's call. */
void cli_interrupt_client(we_client *asked);
/** Has Ctrl-C been pressed since a target was set or cli_interrupt_clear was called? */
bool cli_interrupted(void);
void cli_interrupt_clear(void);
/** Set by SIGWINCH and SIGCONT; each call takes the flag. */
bool cli_take_resized(void);
bool cli_take_continued(void);
/** Between an answer's begin and end, typed characters are not shown (Ctrl-C still works). Both do nothing where standard
 * input is no terminal. */
void cli_echo_off(void);
void cli_echo_restore(void);
/** Have the terminal mark pasted text (xterm's mode 2004), or stop it. Ending by a signal stops it too. */
void cli_paste_mode(int fd, bool on);

#endif
