/* SPDX-License-Identifier: Apache-2.0
 * options.h - what can stand on the command line, as tables: each option has a row with its type, range and help, each
 * command a row with its options. One parser and one printer of help read them; no command parses anything itself.
 *
 * Not here: the environment variables (the library's configuration) and what the options do. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 }; /* exit statuses */

typedef struct cli_int {
    int64_t value;
    bool set;
} cli_int;

typedef struct cli_real {
    double value;
    bool set;
} cli_real;

typedef struct cli_seed {
    uint64_t value;
    bool set;
} cli_seed;

typedef struct cli_texts { /* of an option that may be repeated */
    const char **items;
    size_t n;
} cli_texts;

typedef struct cli_tokens {
    int32_t *ids;
    size_t n;
    bool set;
} cli_tokens;

typedef struct cli_command cli_command;

/* Every value that any command takes; a command's table says which of them it fills. Texts are argv's own. */
typedef struct cli_options {
    const cli_command *command;
    cli_texts positional;
    /* all commands */
    bool help, json, verbose;
    cli_texts log;
    /* which model, and how it runs */
    const char *model, *device, *kernels;
    cli_int context, kv_bits, threads;
    bool allow_paging, precise, prompt_lookup;
    const char *draft_model;
    bool draft_is_wish; /* it is the configuration's, and left out where it does not fit */
    /* sampling */
    cli_int max_tokens, top_k, repetition_context;
    cli_real temperature, top_p, min_p, repetition_penalty;
    cli_seed seed;
    cli_texts stop;
    /* single commands */
    cli_texts template_args;
    const char *system;
    bool continue_last;
    const char *prompt;
    cli_tokens prompt_tokens, tokens;
    bool ignore_eos, output_tokens;
    bool no_special, keep_special, jsonl;
    const char *messages, *tools, *documents, *template_file, *template_context, *date;
    bool no_generation_prompt, continue_final_message;
    const char *output, *file, *kl_base;
    cli_int n_prompt, n_generate, depth, repetitions, batch;
    bool all, yes, once;
    cli_int connections, retries;
    const char *hf_path, *gguf, *mlx_path, *q_mode, *quant_predicate, *calibrate, *dtype;
    cli_int q_bits, q_group_size;
    bool quantize, dequantize, overwrite, lossless;
    bool no_failover, write, dotenv;
} cli_options;

typedef enum cli_type {
    CLI_FLAG,   /* bool */
    CLI_INT,    /* cli_int, min .. max */
    CLI_CHOICE, /* cli_int, one of those in `argument`: "16|8|4" */
    CLI_WORD,   /* const char *, one of those in `argument`: "affine|mxfp4" */
    CLI_REAL,   /* cli_real, min .. max */
    CLI_SEED,   /* cli_seed */
    CLI_TEXT,   /* const char * */
    CLI_TEXTS,  /* cli_texts, the option may be repeated */
    CLI_PAIRS,  /* cli_texts of "name=value" */
    CLI_TOKENS, /* cli_tokens: "1,2,3" */
    CLI_DATE    /* const char *, "YYYY-MM-DD" */
} cli_type;

typedef struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* the short form, or 0 */
    cli_type type;
    size_t offset; /* of the value in cli_options */
    double min, max;
    const char *argument; /* what the help calls the value */
    const char *help;
} cli_option;

typedef struct cli_group {
    const char *title;
    const cli_option *options;
    size_t n_options;
} cli_group;

/* The groups that several commands share. */
extern const cli_group cli_group_model, cli_group_engine, cli_group_sampling, cli_group_template, cli_group_answerer,
    cli_group_common;

struct cli_command {
    const char *name;
    const char *usage;   /* behind the name: "[options] [PROMPT]" */
    const char *summary; /* one line for the list of commands */
    const char *details; /* lines below the usage */
    const cli_option *own;
    size_t n_own;
    const cli_group *groups[6];             /* NULL at the end; the common one comes by itself */
    int max_positional;                     /* -1: any number */
    int (*run)(const cli_options *options); /* gives the exit status */
};

/** Read what stands behind the command's name into `out`.
 * Returns: CLI_OK, or CLI_USAGE after the message is printed. Free with cli_options_deinit either way. */
int cli_options_parse(cli_options *out, const cli_command *command, int argc, char **argv);
void cli_options_deinit(cli_options *options);

/** The command's help, on standard output. */
void cli_options_print_help(const cli_command *command);

/** "what: ...", then where to look; gives CLI_USAGE. For what a table can't say ("one of these two is needed"). */
int cli_usage_error(const cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** How many edits turn one name into the other: for "did you mean". */
size_t cli_distance(const char *a, const char *b);

#endif
