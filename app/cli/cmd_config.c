/* SPDX-License-Identifier: Apache-2.0
 * cmd_config.c - `config`: each variable, its value and where that comes from; and the user's file changed a variable at a time.
 * What the variables mean and which values they take is the library's table. */
#include "cli.h"

static const char *source_name(const we_config_value *v)
{
    static const char *const names[] = { [WE_CONFIG_DEFAULT] = "default",
                                         [WE_CONFIG_ENVIRONMENT] = "environment",
                                         [WE_CONFIG_DOTENV] = "./.env",
                                         [WE_CONFIG_USER] = "user" };
    return names[v->source];
}

typedef struct listing {
    const cli_options *options;
    cli_json json;
    int status;
} listing;

static bool write_value(void *user, const we_config_value *v)
{
    cli_json *json = &((listing *)user)->json;
    we_json_begin_object(&json->w);
    cli_json_text(json, "name", v->name);
    cli_json_text(json, "value", v->value);
    cli_json_text(json, "default", v->default_value);
    cli_json_text(json, "source", source_name(v));
    cli_json_text(json, "path", v->path);
    cli_json_text(json, "range", v->range);
    cli_json_text(json, "help", v->help);
    cli_json_text(json, "refused", v->refused);
    cli_json_text(json, "problem", v->is_valid ? NULL : v->problem);
    cli_json_bool(json, "secret", v->is_secret);
    cli_json_bool(json, "in_secret_service", v->is_in_service);
    cli_json_bool(json, "settable", v->is_settable);
    we_json_end_object(&json->w);
    return true;
}

static bool print_value(void *user, const we_config_value *v)
{
    listing *l = user;
    we_buf text = { 0 };
    const char *plain = v->value ? "" : cli_style_code(stdout, CLI_STYLE_DIM);
    cli_out_printf("%-28s %s%s%s", v->name, plain,
                   cli_escape_line(&text, v->value              ? v->value
                                          : v->default_value[0] ? v->default_value
                                                                : "not set"),
                   cli_style_code(stdout, CLI_STYLE_RESET));
    cli_out_printf("  (%s%s)\n", v->is_in_service ? "the secret service, says " : "",
                   v->path ? cli_escape_line(&text, v->path) : source_name(v));
    if (v->refused)
        cli_out_printf("%-28s   ./.env says %s, which was not followed\n", "", cli_escape_line(&text, v->refused));
    if (!v->is_valid) cli_out_printf("%-28s   %s\n", "", cli_escape_line(&text, v->problem));
    if (l->options->verbose) cli_out_printf("%-28s   %s: %s\n", "", v->help, v->range);
    we_buf_deinit(&text);
    return true;
}

static int list(const cli_options *options)
{
    listing l = { .options = options };
    char *file = NULL;
    if (!options->json) {
        we_config_each(print_value, &l);
        we_buf text = { 0 };
        if (!we_config_file(&file, NULL)) cli_out_printf("\nYour file: %s\n", cli_escape_line(&text, file));
        we_buf_deinit(&text);
        we_free(file);
        return CLI_OK;
    }
    cli_json_begin(&l.json);
    we_json_begin_array(&l.json.w);
    we_config_each(write_value, &l);
    we_json_end_array(&l.json.w);
    return cli_json_end(&l.json);
}

/* keeps: in the secret service. */
static int change(const char *name, const char *value, bool keeps)
{
    we_error err;
    char *file = NULL;
    const we_status st = keeps ? we_config_keep_secret(name, value, &err) : we_config_set(name, value, &err);
    if (st || we_config_file(&file, &err)) return cli_fail(&err);
    we_config_value v = { .size = sizeof v };
    cli_note("%s is %s %s", name,
             keeps   ? "kept in the secret service, says"
             : value ? "set in"
                     : "not set any more in",
             file);
    if (!we_config_get(name, &v, NULL) && (v.source == WE_CONFIG_ENVIRONMENT || v.source == WE_CONFIG_DOTENV))
        cli_note("but %s comes first and sets it too", v.source == WE_CONFIG_DOTENV ? "./.env" : "the environment");
    we_free(file);
    return CLI_OK;
}

static int set(const cli_options *options, const char *pair, bool keeps)
{
    const char *equals = strchr(pair, '=');
    if (!equals || equals == pair) return cli_usage_error(options->command, "'%s' is not of the form NAME=VALUE", pair);
    char *name = we_strndup(pair, (size_t)(equals - pair));
    if (!name) {
        cli_error("no memory for a variable's name");
        return CLI_FAILED;
    }
    const int status = change(name, equals + 1, keeps);
    we_free(name);
    return status;
}

static int run(const cli_options *options)
{
    const cli_texts *words = &options->positional;
    if (words->n == 0) return list(options);
    const char *verb = words->items[0];
    const bool is_set = strcmp(verb, "set") == 0, is_unset = strcmp(verb, "unset") == 0,
               keeps = strcmp(verb, "keep") == 0;
    if ((!is_set && !is_unset && !keeps) || words->n < 2)
        return cli_usage_error(options->command, is_set     ? "set NAME=VALUE: which?"
                                                 : keeps    ? "keep NAME=VALUE: which?"
                                                 : is_unset ? "unset NAME: which?"
                                                            : "expected set NAME=VALUE, keep NAME=VALUE or unset NAME");
    int status = CLI_OK;
    for (size_t i = 1; i < words->n && !status; i++)
        status = is_unset ? change(words->items[i], NULL, false) : set(options, words->items[i], keeps);
    return status;
}

const cli_command cli_command_config = {
    "config",
    "[options] [set NAME=VALUE... | keep NAME=VALUE | unset NAME...]",
    "show and set the variables, and where each value comes from",
    "A value comes from the environment, else ./.env, else your own file, else it is the default.\n"
    "'set' and 'unset' change your own file; 'keep' puts an API key into the session's secret service, and into\n"
    "your file that it is there. -v tells what each variable means and takes.",
    NULL,
    0,
    { NULL },
    -1,
    run
};

/* ---- setup ---- */

typedef struct proposals {
    const cli_options *options;
    cli_json json;
} proposals;

static void show_proposal(void *user, const char *name, const char *value, const char *reason)
{
    proposals *p = user;
    we_buf text = { 0 };
    if (p->options->json) {
        we_json_begin_object(&p->json.w);
        cli_json_text(&p->json, "name", name);
        cli_json_text(&p->json, "value", value);
        cli_json_text(&p->json, "reason", reason);
        we_json_end_object(&p->json.w);
    } else {
        cli_out_printf("%s=%s", name, cli_escape_line(&text, value));
        cli_out_printf("    # %s\n", cli_escape_line(&text, reason));
    }
    we_buf_deinit(&text);
}

/* Models that would suit this machine better than what is here. */
typedef struct better {
    we_buf names;
    const char *first_command; /* owned */
    bool is_here;
} better;

static bool find_better(void *user, const we_recommendation *r)
{
    better *b = user;
    if (!r->is_recommended) return true;
    b->is_here = b->is_here || r->is_here;
    we_buf_printf(&b->names, "%s%s", b->names.len ? " or " : "", r->name);
    if (!b->first_command) b->first_command = we_strdup(r->command);
    return true;
}

static void tell_better(void)
{
    better b = { 0 };
    we_recommend_options o = WE_RECOMMEND_OPTIONS_INIT;
    o.no_measure = true;
    if (!we_recommend_each(&o, NULL, find_better, &b, NULL) && !b.is_here && b.first_command && b.names.ptr)
        cli_note("This machine can run %s, which is not here yet: `%s`, then `whisperengine setup` again.", b.names.ptr,
                 b.first_command);
    we_free((char *)b.first_command);
    we_buf_deinit(&b.names);
}

static int write_proposals(const cli_options *options, const we_backends *list, size_t n)
{
    we_error err;
    const we_config_target target = options->dotenv ? WE_CONFIG_TO_DOTENV : WE_CONFIG_TO_USER;
    const char *where = options->dotenv ? "./.env" : "your own file";
    cli_out_flush();
    if (!options->write && !cli_ask(options->dotenv ? "Write this to ./.env?" : "Write this to your own file?")) {
        if (!options->json) cli_note("Nothing was written; --write does.");
        return CLI_OK;
    }
    if (we_config_auto(list, target, NULL, NULL, NULL, &err)) return cli_fail(&err);
    cli_note("%zu variable%s written to %s.", n, n == 1 ? " is" : "s are", where);
    return CLI_OK;
}

static int run_setup(const cli_options *options)
{
    we_backends *list;
    we_error err;
    size_t n = 0;
    int status = CLI_OK;
    proposals p = { .options = options };
    if (we_backends_detect(&list, NULL, &err)) return cli_fail(&err);
    cli_json_begin(&p.json);
    we_json_begin_array(&p.json.w);
    if (we_config_auto(list, WE_CONFIG_TO_NOWHERE, show_proposal, &p, &n, &err)) status = cli_fail(&err);
    we_json_end_array(&p.json.w);
    if (options->json && !status)
        status = cli_json_end(&p.json);
    else
        we_buf_deinit(&p.json.buf);
    if (!status && !options->json) tell_better();
    if (!status && n == 0)
        cli_note("Everything that could be proposed is set already; 'whisperengine config' shows it.");
    else if (!status)
        status = write_proposals(options, list, n);
    we_backends_close(list);
    return status;
}

#define AT(field) offsetof(cli_options, field)
static const cli_option setup_own[] = {
    { "write", 'w', CLI_FLAG, AT(write), 0, 0, NULL, "write without asking" },
    { "dotenv", 0, CLI_FLAG, AT(dotenv), 0, 0, NULL, "into ./.env instead of your own file" },
};
const cli_command cli_command_setup = {
    "setup",
    "[options]",
    "find backends and write the variables for them",
    "Looks for backends, shows the variables that would be set, and asks before it writes them. What\n"
    "is set already, in the environment or in a file, is left alone.",
    setup_own,
    WE_COUNT(setup_own),
    { NULL },
    0,
    run_setup
};
