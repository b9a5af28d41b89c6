/* SPDX-License-Identifier: Apache-2.0
 * cmd_backends.c - `backends`: who can answer on this machine, in the order in which they are tried, and why not. */
#include "cli.h"

static void write_models(cli_json *json, const we_backend_info *info)
{
    we_json_key(&json->w, "models");
    we_json_begin_array(&json->w);
    for (size_t i = 0; i < info->n_models; i++) {
        const we_backend_model *m = &info->models[i];
        we_json_begin_object(&json->w);
        cli_json_text(json, "name", m->name);
        cli_json_i64(json, "bytes", m->bytes);
        cli_json_i64(json, "context", (uint64_t)m->context);
        cli_json_bool(json, "loaded", m->loaded);
        we_json_end_object(&json->w);
    }
    we_json_end_array(&json->w);
}

/* How one backend stands to the model of the chat: the name that it would answer with, or why it would be passed over. */
typedef struct taking_over {
    char *name; /* owned; NULL: none */
    we_error why;
} taking_over;

static void write_backend(cli_json *json, const we_backend_info *info, const char *wanted, const taking_over *t)
{
    we_json_begin_object(&json->w);
    cli_json_i64(json, "priority", (uint64_t)info->priority);
    cli_json_text(json, "id", info->id);
    cli_json_text(json, "name", info->name);
    cli_json_text(json, "description", info->description);
    cli_json_bool(json, "available", info->available);
    cli_json_text(json, "reason", info->reason);
    cli_json_text(json, "version", info->version[0] ? info->version : NULL);
    cli_json_text(json, "url", info->url[0] ? info->url : NULL);
    cli_json_f64(json, "latency_ms", info->latency_ms);
    write_models(json, info);
    if (wanted) {
        cli_json_text(json, "answers_with", t->name);
        cli_json_text(json, "passed_over", t->name ? NULL : t->why.message);
    }
    we_json_end_object(&json->w);
}

/* The row, and below it the reason and the first models: both are too long for a column. */
static void print_backend(const we_backend_info *info, bool all, const char *wanted, const taking_over *t)
{
    enum { SHOWN = 8 };
    we_buf text = { 0 };
    cli_out_printf("%d  %-17s %s%s%s", info->priority, info->name,
                   cli_style_code(stdout, info->available ? CLI_STYLE_GREEN : CLI_STYLE_DIM),
                   info->available ? "available" : "not available", cli_style_code(stdout, CLI_STYLE_RESET));
    if (info->version[0]) cli_out_printf(", version %s", cli_escape_line(&text, info->version));
    if (info->available) cli_out_printf(", answered in %.0f ms", info->latency_ms);
    cli_out_printf("\n   %s\n", cli_escape_line(&text, info->reason));
    const size_t n = all ? info->n_models : WE_MIN(info->n_models, (size_t)SHOWN);
    for (size_t i = 0; i < n; i++) {
        char size[24];
        const we_backend_model *m = &info->models[i];
        cli_out_printf("     %-44s %10s%s\n", cli_escape_line(&text, m->name),
                       m->bytes ? we_format_bytes(size, m->bytes) : "", m->loaded ? "  loaded" : "");
    }
    if (n < info->n_models) cli_out_printf("     and %zu more (--all)\n", info->n_models - n);
    if (wanted && info->available && t->name)
        cli_out_printf("   answers with %s\n", cli_escape_line(&text, t->name));
    else if (wanted && info->available)
        cli_out_printf("   %s\n", cli_escape_line(&text, t->why.message));
    we_buf_deinit(&text);
}

/* The model of the chat as its own backend calls it; we_free; NULL: none is chosen. */
static char *wanted_model(const cli_options *options)
{
    const char *origin, *name = cli_model_name(options, &origin);
    if (!origin) return NULL;
    if (!strstr(name, "://")) return we_strdup(name);
    we_client *client;
    we_error err;
    we_client_info info = { .size = sizeof info };
    if (we_client_open(&client, name, NULL, &err)) {
        cli_note("%s=%s: %s", origin, name, err.message);
        return NULL;
    }
    we_client_get_info(client, &info);
    char *model = info.model[0] ? we_strdup(info.model) : NULL;
    we_client_close(client);
    return model;
}

static int run_backends(const cli_options *options)
{
    we_backends *list;
    we_error err;
    if (we_backends_detect(&list, NULL, &err)) return cli_fail(&err);
    char *wanted = wanted_model(options);
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_array(&json.w);
    for (size_t i = 0; i < we_backends_count(list); i++) {
        we_backend_info info = { .size = sizeof info };
        taking_over t = { 0 };
        if (we_backends_get(list, i, &info, &err)) break;
        if (!info.available)
            snprintf(t.why.message, sizeof t.why.message, "%s", info.reason);
        else if (wanted)
            we_backends_model_for(list, i, wanted, &t.name, &t.why);
        if (options->json)
            write_backend(&json, &info, wanted, &t);
        else
            print_backend(&info, options->all, wanted, &t);
        we_free(t.name);
    }
    we_json_end_array(&json.w);
    int status = CLI_OK;
    if (options->json)
        status = cli_json_end(&json);
    else
        we_buf_deinit(&json.buf);
    we_free(wanted);
    we_backends_close(list);
    return status;
}

#define AT(field) offsetof(cli_options, field)
static const cli_option backends_own[] = {
    { "all", 'a', CLI_FLAG, AT(all), 0, 0, NULL, "every model, not only the first of each" },
};
const cli_command cli_command_backends = {
    "backends",
    "[options]",
    "show who can answer on this machine",
    "In the order in which they are tried. Servers are asked at their usual addresses, or where\n"
    "LMSTUDIO_HOST and OLLAMA_HOST say. Where a model is chosen, by --model or a variable, each tells\n"
    "what it would answer with in its place.",
    backends_own,
    WE_COUNT(backends_own),
    { &cli_group_model },
    0,
    run_backends
};
