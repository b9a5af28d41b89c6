/* SPDX-License-Identifier: Apache-2.0
 * options.c - the option parser, the shared option tables and the printer of help. See options.h. */
#include "options.h"

#include "base/base.h"
#include "terminal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define AT(field) offsetof(cli_options, field)
#define INT_LIMIT 2147483647.0

/* ---- The shared tables ---- */

static const cli_option model_options[] = {
    { "model", 'm', CLI_TEXT, AT(model), 0, 0, "M",
      "a folder, a name below $LOCAL_MODELS_DIR/mlx, ORG/NAME, \"default\" or a URL (else $LLM_CHAT_API_URL, "
      "$MLX_MODEL_NAME, \"default\")" },
};

static const cli_option engine_options[] = {
    { "context", 'c', CLI_INT, AT(context), 1, INT_LIMIT, "N",
      "most tokens of a session (default: the model's, at most 8192)" },
    { "kv-bits", 0, CLI_CHOICE, AT(kv_bits), 0, 0, "16|8|4",
      "bits of each cached key and value (default 16; 4 costs some quality)" },
    { "allow-paging", 0, CLI_FLAG, AT(allow_paging), 0, 0, NULL, "load weights that exceed the available memory" },
    { "threads", 't', CLI_INT, AT(threads), 1, 1024, "N", "worker threads (default: one for each core)" },
    { "kernels", 0, CLI_TEXT, AT(kernels), 0, 0, "NAME",
      "reference, avx2, avxvnni, avx512, avx512bf16, neon, neoni8mm (default: the best)" },
    { "device", 0, CLI_TEXT, AT(device), 0, 0, "NAME", "auto, mlx or cpu (default auto)" },
    { "precise", 0, CLI_FLAG, AT(precise), 0, 0, NULL, "compute in float32 throughout: slow, exact" },
    { "prompt-lookup", 0, CLI_FLAG, AT(prompt_lookup), 0, 0, NULL,
      "guess tokens from earlier text, check several in a step: the same answer, sooner where it repeats its prompt" },
    { "draft-model", 0, CLI_TEXT, AT(draft_model), 0, 0, "M",
      "a smaller model with the same vocabulary that guesses tokens likewise" },
};

static const cli_option sampling_options[] = {
    { "max-tokens", 0, CLI_INT, AT(max_tokens), 1, INT_LIMIT, "N", "most tokens of an answer" },
    { "temperature", 0, CLI_REAL, AT(temperature), 0, 100, "X", "0 takes the likeliest token each time" },
    { "top-p", 0, CLI_REAL, AT(top_p), 0, 1, "X", "sample from the likeliest tokens that sum to X (0 or 1: off)" },
    { "top-k", 0, CLI_INT, AT(top_k), 0, INT_LIMIT, "N", "sample from the N likeliest tokens (0: off)" },
    { "min-p", 0, CLI_REAL, AT(min_p), 0, 1, "X", "drop tokens below X times the likeliest one (0: off)" },
    { "repetition-penalty", 0, CLI_REAL, AT(repetition_penalty), 0, 100, "X", "weaken tokens that just came (1: off)" },
    { "repetition-context", 0, CLI_INT, AT(repetition_context), 1, INT_LIMIT, "N",
      "tokens that it looks back on (default 20)" },
    { "stop", 0, CLI_TEXTS, AT(stop), 0, 0, "TEXT", "end the answer before this text (may be repeated)" },
    { "seed", 0, CLI_SEED, AT(seed), 0, 0, "N", "the same seed gives the same answer (default: random)" },
};

static const cli_option template_options[] = {
    { "template-arg", 0, CLI_PAIRS, AT(template_args), 0, 0, "K=V",
      "a variable for the chat template; V is JSON or else a text (may be repeated)" },
};

static const cli_option common_options[] = {
    { "json", 0, CLI_FLAG, AT(json), 0, 0, NULL, "answer with JSON" },
    { "verbose", 'v', CLI_FLAG, AT(verbose), 0, 0, NULL, "tell details on standard error" },
    { "log", 0, CLI_TEXTS, AT(log), 0, 0, "MODULE=LEVEL",
      "log of the library: error, warn, info, debug, trace, off; LEVEL alone sets all" },
    { "help", 'h', CLI_FLAG, AT(help), 0, 0, NULL, "show this" },
};

static const cli_option answerer_options[] = {
    { "no-failover", 0, CLI_FLAG, AT(no_failover), 0, 0, NULL, "do not ask another backend where the first one fails" },
};

const cli_group cli_group_answerer = { "Backends", answerer_options, WE_COUNT(answerer_options) };
const cli_group cli_group_model = { "Model", model_options, WE_COUNT(model_options) };
const cli_group cli_group_engine = { "Running", engine_options, WE_COUNT(engine_options) };
const cli_group cli_group_sampling = { "Sampling", sampling_options, WE_COUNT(sampling_options) };
const cli_group cli_group_template = { "Template", template_options, WE_COUNT(template_options) };
const cli_group cli_group_common = { "Common", common_options, WE_COUNT(common_options) };

/* ---- A walk over all options of a command ---- */

typedef struct option_walk {
    const cli_command *command;
    size_t group, row;
} option_walk;

/* Group 0 is the command's own, then those it names, then the common one. False past the last. */
static bool group_at(const cli_command *command, size_t index, cli_group *out)
{
    if (index == 0) {
        *out = (cli_group){ "Options", command->own, command->n_own };
        return true;
    }
    size_t n = 0;
    while (n < WE_COUNT(command->groups) && command->groups[n]) n++;
    if (index - 1 < n)
        *out = *command->groups[index - 1];
    else if (index - 1 == n)
        *out = cli_group_common;
    else
        return false;
    return true;
}

static const cli_option *option_next(option_walk *walk)
{
    cli_group group;
    while (group_at(walk->command, walk->group, &group)) {
        if (walk->row < group.n_options) return &group.options[walk->row++];
        walk->group++;
        walk->row = 0;
    }
    return NULL;
}

static const cli_option *option_by_name(const cli_command *command, we_str name)
{
    option_walk walk = { command, 0, 0 };
    const cli_option *option;
    while ((option = option_next(&walk)) != NULL)
        if (we_str_is(name, option->name)) return option;
    return NULL;
}

static const cli_option *option_by_letter(const cli_command *command, char letter)
{
    option_walk walk = { command, 0, 0 };
    const cli_option *option;
    while ((option = option_next(&walk)) != NULL)
        if (option->letter == letter) return option;
    return NULL;
}

/* ---- Errors ---- */

int cli_usage_error(const cli_command *command, const char *format, ...)
{
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    cli_error("%s: %s\nTry 'whisperengine %s --help'.", command->name, message, command->name);
    return CLI_USAGE;
}

size_t cli_distance(const char *a, const char *b)
{
    /* Levenshtein with one row, and a swap of neighbours as one edit. Names are short. */
    enum { LONGEST = 48 };
    size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST) return SIZE_MAX;
    size_t rows[3][LONGEST + 1];
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3];
        const size_t *last = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = WE_MIN(best, WE_MIN(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) best = WE_MIN(best, before[j - 2] + 1);
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

static int unknown_option(const cli_command *command, const char *shown, const char *name)
{
    option_walk walk = { command, 0, 0 };
    const cli_option *option, *nearest = NULL;
    size_t best = 3;
    while ((option = option_next(&walk)) != NULL) {
        const size_t d = cli_distance(name, option->name);
        if (d < best || (!nearest && strlen(name) > 2 && strncmp(name, option->name, strlen(name)) == 0)) {
            best = WE_MIN(d, best);
            nearest = option;
        }
    }
    if (nearest) return cli_usage_error(command, "unknown option %s, did you mean --%s?", shown, nearest->name);
    return cli_usage_error(command, "unknown option %s", shown);
}

/* ---- Values ---- */

static int int_parse(const cli_command *command, const char *name, const char *text, double min, double max,
                     cli_int *out)
{
    int64_t value;
    if (!we_parse_i64(we_str_from(text), &value) || (double)value < min || (double)value > max)
        return cli_usage_error(command, "%s: '%s' is not a whole number from %.0f to %.0f", name, text, min, max);
    *out = (cli_int){ value, true };
    return CLI_OK;
}

static int real_parse(const cli_command *command, const char *name, const char *text, double min, double max,
                      cli_real *out)
{
    double value;
    if (!we_parse_f64(we_str_from(text), &value) || !(value >= min && value <= max))
        return cli_usage_error(command, "%s: '%s' is not a number from %g to %g", name, text, min, max);
    *out = (cli_real){ value, true };
    return CLI_OK;
}

static int seed_parse(const cli_command *command, const char *name, const char *text, cli_seed *out)
{
    char *end = NULL;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno)
        return cli_usage_error(command, "%s: '%s' is not a whole number from 0 to 18446744073709551615", name, text);
    *out = (cli_seed){ value, true };
    return CLI_OK;
}

/* One of the words of "16|8|4". */
static int word_parse(const cli_command *command, const char *name, const cli_option *option, const char *text,
                      const char **out)
{
    const size_t len = strlen(text);
    for (const char *p = option->argument; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        const size_t n = strcspn(p, "|");
        if (n == len && memcmp(p, text, n) == 0) return *out = text, CLI_OK;
    }
    return cli_usage_error(command, "%s: '%s' is none of %s", name, text, option->argument);
}

static int choice_parse(const cli_command *command, const char *name, const cli_option *option, const char *text,
                        cli_int *out)
{
    const char *word = "";
    const int status = word_parse(command, name, option, text, &word);
    out->set = !status && we_parse_i64(we_str_from(word), &out->value);
    return status;
}

static int tokens_parse(const cli_command *command, const char *name, const char *text, cli_tokens *out)
{
    size_t n = 1;
    for (const char *p = text; *p; p++) n += *p == ',';
    we_free(out->ids);
    *out = (cli_tokens){ we_calloc(n, sizeof(int32_t)), 0, true };
    if (!out->ids) return cli_usage_error(command, "%s: no memory for %zu tokens", name, n);
    for (const char *p = text; out->n < n; p += strcspn(p, ",") + 1) {
        we_str item = { p, strcspn(p, ",") };
        while (item.len && *item.ptr == ' ') item.ptr++, item.len--; /* "1, 2, 3" is what people paste */
        int64_t id;
        if (!we_parse_i64(item, &id) || id < 0 || id > INT32_MAX)
            return cli_usage_error(
                command, "%s: '%.*s' at place %zu is not a token id (0 to 2147483647), expected ids like 1,2,3", name,
                (int)WE_MIN(item.len, 40), item.ptr, out->n + 1);
        out->ids[out->n++] = (int32_t)id;
    }
    return CLI_OK;
}

static bool is_date(const char *text)
{
    static const char shape[] = "dddd-dd-dd";
    if (strlen(text) != sizeof shape - 1) return false;
    for (size_t i = 0; shape[i]; i++)
        if (shape[i] == 'd' ? !isdigit((unsigned char)text[i]) : text[i] != shape[i]) return false;
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const int year = atoi(text), month = atoi(text + 5), day = atoi(text + 8);
    if (year < 1 || month < 1 || month > 12 || day < 1) return false;
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] + (month == 2 && leap);
}

static int texts_add(const cli_command *command, cli_texts *texts, const char *text)
{
    const char **items = we_realloc_array(texts->items, texts->n + 1, sizeof *items);
    if (!items) return cli_usage_error(command, "no memory for the options");
    items[texts->n++] = text;
    texts->items = items;
    return CLI_OK;
}

static int value_store(cli_options *out, const cli_option *option, const char *shown, const char *text)
{
    void *at = (char *)out + option->offset;
    const cli_command *command = out->command;
    switch (option->type) {
    case CLI_FLAG: *(bool *)at = true; return CLI_OK;
    case CLI_INT: return int_parse(command, shown, text, option->min, option->max, at);
    case CLI_CHOICE: return choice_parse(command, shown, option, text, at);
    case CLI_WORD: return word_parse(command, shown, option, text, at);
    case CLI_REAL: return real_parse(command, shown, text, option->min, option->max, at);
    case CLI_SEED: return seed_parse(command, shown, text, at);
    case CLI_TOKENS: return tokens_parse(command, shown, text, at);
    case CLI_TEXT: *(const char **)at = text; return CLI_OK;
    case CLI_TEXTS: return texts_add(command, at, text);
    case CLI_PAIRS:
        if (text[0] == '=' || !strchr(text, '='))
            return cli_usage_error(command, "%s: '%s' is not of the form NAME=VALUE", shown, text);
        return texts_add(command, at, text);
    case CLI_DATE:
        if (!is_date(text))
            return cli_usage_error(command, "%s: '%s' is not a date of the form YYYY-MM-DD", shown, text);
        *(const char **)at = text;
        return CLI_OK;
    }
    return CLI_USAGE;
}

/* ---- The parser ---- */

typedef struct arguments {
    int argc, next;
    char **argv;
} arguments;

static int value_take(cli_options *out, const cli_option *option, const char *shown, const char *attached,
                      arguments *args)
{
    if (option->type == CLI_FLAG) {
        if (attached) return cli_usage_error(out->command, "%s takes no value", shown);
        return value_store(out, option, shown, NULL);
    }
    if (!attached && args->next == args->argc)
        return cli_usage_error(out->command, "%s needs a value: %s %s", shown, shown, option->argument);
    return value_store(out, option, shown, attached ? attached : args->argv[args->next++]);
}

static int long_option(cli_options *out, const char *argument, arguments *args)
{
    char shown[64];
    const we_str name = { argument + 2, strcspn(argument + 2, "=") };
    snprintf(shown, sizeof shown, "--%.*s", (int)WE_MIN(name.len, 48), name.ptr);
    const cli_option *option = option_by_name(out->command, name);
    if (!option) return unknown_option(out->command, shown, shown + 2);
    return value_take(out, option, shown, name.ptr[name.len] == '=' ? name.ptr + name.len + 1 : NULL, args);
}

/* "-v", "-vh", "-p 512", "-p512", "-p=512". */
static int short_options(cli_options *out, const char *argument, arguments *args)
{
    for (const char *p = argument + 1; *p; p++) {
        const char shown[3] = { '-', *p, 0 };
        const cli_option *option = option_by_letter(out->command, *p);
        if (!option) return unknown_option(out->command, shown, p);
        const char *attached = option->type != CLI_FLAG && p[1] ? p + 1 + (p[1] == '=') : NULL;
        const int status = value_take(out, option, shown, attached, args);
        if (status || attached || option->type != CLI_FLAG) return status;
    }
    return CLI_OK;
}

static int positional_argument(cli_options *out, const char *argument)
{
    const int most = out->command->max_positional;
    if (most >= 0 && out->positional.n >= (size_t)most)
        return cli_usage_error(out->command, "'%s' was not expected", argument);
    return texts_add(out->command, &out->positional, argument);
}

int cli_options_parse(cli_options *out, const cli_command *command, int argc, char **argv)
{
    *out = (cli_options){ .command = command };
    arguments args = { argc, 0, argv };
    bool only_positional = false;
    while (args.next < argc) {
        const char *argument = argv[args.next++];
        int status;
        if (only_positional || argument[0] != '-' || !argument[1])
            status = positional_argument(out, argument);
        else if (strcmp(argument, "--") == 0)
            only_positional = true, status = CLI_OK;
        else if (argument[1] == '-')
            status = long_option(out, argument, &args);
        else
            status = short_options(out, argument, &args);
        if (status) return status;
        if (out->help) return CLI_OK; /* whatever else is wrong: the person wants to read */
    }
    return CLI_OK;
}

void cli_options_deinit(cli_options *options)
{
    cli_texts *const texts[] = { &options->positional, &options->log, &options->stop, &options->template_args };
    for (size_t i = 0; i < WE_COUNT(texts); i++) we_free(texts[i]->items);
    we_free(options->prompt_tokens.ids);
    we_free(options->tokens.ids);
    *options = (cli_options){ 0 };
}

/* ---- Help ---- */

enum { HELP_COLUMN = 30, HELP_WIDTH = 100 };

/* The text from HELP_COLUMN on, broken between words. */
static void print_wrapped(const char *text, size_t column)
{
    for (const char *p = text; *p;) {
        const size_t word = strcspn(p, " ");
        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH) {
            cli_out_printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        cli_out_printf("%s%.*s", column > HELP_COLUMN ? " " : "", (int)word, p);
        column += word + (column > HELP_COLUMN);
        p += word;
        while (*p == ' ') p++;
    }
    cli_out_printf("\n");
}

static void print_option(const cli_option *option)
{
    char left[64];
    const char letter[] = { '-', option->letter, ',', ' ', 0 };
    const int n = snprintf(left, sizeof left, "  %s--%s%s%s", option->letter ? letter : "    ", option->name,
                           option->argument ? " " : "", option->argument ? option->argument : "");
    cli_out_printf("%s", left);
    if (n + 2 > HELP_COLUMN)
        cli_out_printf("\n%*s", HELP_COLUMN, "");
    else
        cli_out_printf("%*s", HELP_COLUMN - n, "");
    print_wrapped(option->help, HELP_COLUMN);
}

void cli_options_print_help(const cli_command *command)
{
    cli_out_printf("whisperengine %s - %s\n\nUsage: whisperengine %s %s\n", command->name, command->summary,
                   command->name, command->usage);
    if (command->details) cli_out_printf("\n%s\n", command->details);
    cli_group group;
    for (size_t i = 0; group_at(command, i, &group); i++) {
        if (group.n_options == 0) continue;
        cli_out_printf("\n%s:\n", group.title);
        for (size_t k = 0; k < group.n_options; k++) /* a command's own row stands for a shared one of that name */
            if (option_by_name(command, we_str_from(group.options[k].name)) == &group.options[k])
                print_option(&group.options[k]);
    }
}
