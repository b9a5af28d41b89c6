/* SPDX-License-Identifier: Apache-2.0
 * cmd_models.c - `info` and `list`: the models on this machine, and what one says of itself without being loaded. Not here:
 * what brings, checks and removes them (cmd_pull.c). */
#include "cli.h"

#include <stdarg.h>

/* ---- info ---- */

typedef struct model_facts {
    const char *name, *path;
    we_model_info info;
    we_model_source source;
} model_facts;

/* The device that `auto` means here. */
static const char *runs_on(we_buf *out)
{
    we_engine *engine;
    we_engine_info info = { .size = sizeof info };
    we_error err;
    if (we_engine_open(&engine, NULL, &err)) {
        we_buf_printf(out, "%s", err.message);
        return out->failed ? "" : out->ptr;
    }
    we_engine_get_info(engine, &info);
    const char *text = cli_device_text(out, &info);
    we_engine_close(engine);
    return text;
}

static int info_json(const model_facts *f)
{
    const we_model_info *i = &f->info;
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        { "parameters", i->n_parameters },
        { "vocab_size", (uint64_t)i->vocab_size },
        { "hidden_size", (uint64_t)i->hidden_size },
        { "layers", (uint64_t)i->n_layers },
        { "heads", (uint64_t)i->n_heads },
        { "kv_heads", (uint64_t)i->n_kv_heads },
        { "head_dim", (uint64_t)i->head_dim },
        { "max_position_embeddings", (uint64_t)i->max_position_embeddings },
        { "context", (uint64_t)i->context },
        { "weights_bytes", i->weights_bytes },
        { "weight_bytes_read_per_token", i->weight_bytes_read_per_token },
        { "kv_bytes_per_token", i->kv_bytes_per_token },
        { "kv_bytes_at_context", i->kv_bytes_at_context },
        { "scratch_bytes", i->scratch_bytes },
    };
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_text(&json, "name", f->name);
    cli_json_text(&json, "path", f->path);
    cli_json_text(&json, "model_type", i->model_type);
    cli_json_text(&json, "quantization", i->quantization);
    for (size_t k = 0; k < WE_COUNT(numbers); k++) cli_json_i64(&json, numbers[k].key, numbers[k].value);
    cli_json_text(&json, "repo", f->source.repo);
    cli_json_text(&json, "commit", f->source.commit);
    cli_json_text(&json, "revisions", f->source.revisions);
    we_buf device = { 0 };
    cli_json_text(&json, "runs_on", runs_on(&device));
    we_buf_deinit(&device);
    cli_json_bool(&json, "tokenizer", i->has_tokenizer);
    cli_json_bool(&json, "chat_template", i->has_chat_template);
    if (i->chat_format) cli_json_text(&json, "chat_format", i->chat_format);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static void info_row(const char *label, const char *format, ...) WE_PRINTF(2, 3);
static void info_row(const char *label, const char *format, ...)
{
    char text[1024];
    we_buf line = { 0 };
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cli_out_printf("%-15s %s\n", label, cli_escape_line(&line, text));
    we_buf_deinit(&line);
}

static void info_table(const model_facts *f)
{
    const we_model_info *i = &f->info;
    char weights[24], read[24], kv[24], each[24], scratch[24], all[24];
    const uint64_t total = i->weights_bytes + i->kv_bytes_at_context + i->scratch_bytes;
    info_row("name", "%s", f->name);
    info_row("path", "%s", f->path);
    if (f->source.repo && f->source.revisions[0])
        info_row("from", "%s, revision %s, commit %.12s", f->source.repo, f->source.revisions, f->source.commit);
    else if (f->source.repo)
        info_row("from", "%s, commit %.12s", f->source.repo, f->source.commit);
    info_row("type", "%s", i->model_type);
    info_row("quantization", "%s", i->quantization);
    info_row("parameters", "%.1f M", (double)i->n_parameters / 1e6);
    info_row("shape", "%d layers, hidden size %d, %d heads (%d for keys and values) of %d, vocabulary %d", i->n_layers,
             i->hidden_size, i->n_heads, i->n_kv_heads, i->head_dim, i->vocab_size);
    info_row("context", "%d tokens here, the model was made for %d", i->context, i->max_position_embeddings);
    info_row("memory", "%s: weights %s, KV cache %s when full, scratch %s", we_format_bytes(all, total),
             we_format_bytes(weights, i->weights_bytes), we_format_bytes(kv, i->kv_bytes_at_context),
             we_format_bytes(scratch, i->scratch_bytes));
    info_row("per token", "%s of weights read, %s of KV cache", we_format_bytes(read, i->weight_bytes_read_per_token),
             we_format_bytes(each, i->kv_bytes_per_token));
    we_buf device = { 0 };
    info_row("runs on", "%s", runs_on(&device));
    we_buf_deinit(&device);
    info_row("tokenizer", "%s", i->has_tokenizer ? "yes" : "no");
    if (i->chat_format)
        info_row("chat template", "no; chats take the %s format", i->chat_format);
    else
        info_row("chat template", "%s", i->has_chat_template ? "yes" : "no");
}

static int run_info(const cli_options *given)
{
    cli_options options = *given;
    if (options.positional.n && options.model)
        return cli_usage_error(options.command, "the model is named twice: '%s' and --model '%s'",
                               options.positional.items[0], options.model);
    if (options.positional.n) options.model = options.positional.items[0];

    char *path, model_type[64], quantization[128];
    const char *origin;
    we_error err;
    int status = cli_model_path(&options, &path);
    if (status) return status;
    we_model_options model = WE_MODEL_OPTIONS_INIT;
    if (options.context.set) model.context = (int)options.context.value;
    if (options.kv_bits.set) model.kv_bits = (int)options.kv_bits.value;
    model.precise = options.precise;
    model_facts facts = {
        cli_model_name(&options, &origin), path, { .size = sizeof facts.info }, { .size = sizeof facts.source }
    };
    if (we_model_get_source(&facts.source, path, &err) ||
        we_model_inspect(path, &model, &facts.info, model_type, quantization, &err))
        status = cli_fail(&err);
    else if (options.json)
        status = info_json(&facts);
    else
        info_table(&facts);
    we_model_source_deinit(&facts.source);
    we_free(path);
    return status;
}

#define AT(field) offsetof(cli_options, field)
static const cli_option info_own[] = {
    { "context", 'c', CLI_INT, AT(context), 1, 2147483647, "N",
      "count the memory of N tokens (default: the model's, at most 8192)" },
    { "kv-bits", 0, CLI_CHOICE, AT(kv_bits), 0, 0, "16|8|4", "count the memory of such a cache (default 16)" },
    { "precise", 0, CLI_FLAG, AT(precise), 0, 0, NULL, "count the memory of --precise" },
};
const cli_command cli_command_info = { "info",
                                       "[options] [M]",
                                       "show a model's type, size and memory",
                                       "The model is not loaded.",
                                       info_own,
                                       WE_COUNT(info_own),
                                       { &cli_group_model },
                                       1,
                                       run_info };

/* ---- list ---- */

typedef struct model_list {
    const cli_options *options;
    cli_json json;
    we_buf name, type;
    size_t shown, hidden;
} model_list;

static void list_row_json(cli_json *json, const we_model_entry *entry)
{
    we_json_begin_object(&json->w);
    cli_json_text(json, "name", entry->name);
    cli_json_text(json, "path", entry->path);
    cli_json_text(json, "source", entry->source);
    cli_json_text(json, "model_type", entry->type);
    cli_json_i64(json, "bytes", entry->bytes);
    cli_json_text(json, "quantization", entry->quantization);
    cli_json_i64(json, "parameters", entry->n_parameters);
    cli_json_i64(json, "max_position_embeddings", (uint64_t)entry->max_position_embeddings);
    cli_json_bool(json, "runnable", entry->runnable);
    we_json_end_object(&json->w);
}

static void list_row(model_list *list, const we_model_entry *entry)
{
    static const char row[] = "%-40s %-10s %-24s %10s  %-18s %s\n";
    char size[24];
    if (list->shown == 0) cli_out_printf(row, "NAME", "TYPE", "QUANTIZATION", "SIZE", "SOURCE", "RUNS");
    cli_out_printf(row, cli_escape_line(&list->name, entry->name),
                   cli_escape_line(&list->type, *entry->type ? entry->type : "?"), entry->quantization,
                   we_format_bytes(size, entry->bytes), entry->source, entry->runnable ? "yes" : "no");
}

static bool list_entry(void *user, const we_model_entry *entry)
{
    model_list *list = user;
    if (!entry->runnable && !list->options->all) {
        list->hidden++;
        return true;
    }
    if (list->options->json)
        list_row_json(&list->json, entry);
    else
        list_row(list, entry);
    list->shown++;
    return true;
}

static int run_list(const cli_options *options)
{
    model_list list = { .options = options };
    we_error err;
    int status = CLI_OK;
    cli_json_begin(&list.json);
    we_json_begin_array(&list.json.w);
    if (we_models_list(list_entry, &list, &err)) status = cli_fail(&err);
    we_json_end_array(&list.json.w);
    if (!status && options->json)
        status = cli_json_end(&list.json);
    else
        we_buf_deinit(&list.json.buf);
    if (!status && list.hidden)
        cli_note("%zu more can't be run by this build or are incomplete: --all shows them", list.hidden);
    we_buf_deinit(&list.name);
    we_buf_deinit(&list.type);
    return status;
}

static const cli_option list_own[] = {
    { "all", 'a', CLI_FLAG, AT(all), 0, 0, NULL, "also those that this build can't run or that are incomplete" },
};
const cli_command cli_command_list = { "list",
                                       "[options]",
                                       "list the models on this machine",
                                       "The names are what --model takes.",
                                       list_own,
                                       WE_COUNT(list_own),
                                       { NULL },
                                       0,
                                       run_list };
