/* SPDX-License-Identifier: Apache-2.0
 * model.c - from the options to a loaded model, and from an answer to its figures. Which name is taken: --model, else
 * LLM_CHAT_API_URL, else MLX_MODEL_NAME, else the built-in model; where a name leads is the library's knowledge. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/random.h>

const char *cli_config(const char *name)
{
    we_config_value v = { .size = sizeof v };
    return we_config_get(name, &v, NULL) ? NULL : v.value;
}

const char *cli_model_name(const cli_options *options, const char **origin)
{
    static const char *const variables[] = { "LLM_CHAT_API_URL", "MLX_MODEL_NAME" };
    if (options->model) return *origin = "--model", options->model;
    for (size_t i = 0; i < WE_COUNT(variables); i++)
        if ((*origin = variables[i], cli_config(variables[i])) != NULL) return cli_config(variables[i]);
    return *origin = NULL, "default";
}

int cli_refused(const cli_options *options)
{
    we_config_value v = { .size = sizeof v };
    if (options->model || we_config_get("LLM_CHAT_API_URL", &v, NULL) || !v.refused) return CLI_OK;
    cli_error(
        "./.env sets LLM_CHAT_API_URL=%s, which is another machine and was not followed; mean it with 'whisperengine config "
        "set LLM_CHAT_API_URL=...' or the environment, or say --model",
        v.refused);
    return CLI_FAILED;
}

int cli_model_path(const cli_options *options, char **path)
{
    we_error err;
    const char *origin, *name = cli_model_name(options, &origin);
    *path = NULL;
    const int status = cli_refused(options);
    if (status) return status;
    if (!we_model_find(name, path, &err)) return CLI_OK;
    if (origin && !options->model) we_fail_in(&err, err.status, "%s=%s: ", origin, name);
    return cli_fail(&err);
}

int cli_tokenizer_open(we_tokenizer **out, const cli_options *options)
{
    char *path;
    we_error err;
    *out = NULL;
    int status = cli_model_path(options, &path);
    if (!status && we_tokenizer_open(out, path, &err)) status = cli_fail(&err);
    we_free(path);
    return status;
}

/* ---- Loading ---- */

static int engine_open(cli_model *m, const cli_options *options)
{
    we_error err;
    we_engine_options engine = WE_ENGINE_OPTIONS_INIT;
    engine.device = options->device;
    engine.kernels = options->kernels;
    if (options->threads.set) engine.threads = (int)options->threads.value;
    const we_status st = we_engine_open(&m->engine, &engine, &err);
    if (st == WE_E_ARG) return cli_usage_error(options->command, "%s", err.message);
    if (st) return cli_fail(&err);
    m->engine_info.size = sizeof m->engine_info;
    we_engine_get_info(m->engine, &m->engine_info);
    return CLI_OK;
}

static we_status weights_open(we_model **out, we_engine *engine, const char *path, const cli_options *options,
                              int context, bool precise, we_error *err)
{
    cli_progress progress = cli_progress_begin("Loading", true);
    we_model_options model = WE_MODEL_OPTIONS_INIT;
    model.context = context || !options->context.set ? context : (int)options->context.value;
    model.kv_bits = options->kv_bits.set ? (int)options->kv_bits.value : 0;
    model.precise = precise;
    model.allow_paging = options->allow_paging;
    model.progress = cli_progress_step;
    model.progress_user = &progress;
    const we_status st = we_model_open(out, engine, path, &model, err);
    cli_progress_end();
    return st;
}

const char *cli_device_text(we_buf *out, const we_engine_info *info)
{
    char limit[24];
    we_buf_clear(out);
    if (info->detail[0])
        we_buf_printf(out, "%s (%s), %s, memory limit %s", info->device, info->kernels, info->detail,
                      we_format_bytes(limit, info->memory_limit_bytes));
    else
        we_buf_printf(out, "%s, kernels %s, %d threads", info->device, info->kernels, info->threads);
    return out->failed ? "" : out->ptr;
}

static void note_model(const cli_model *m)
{
    we_buf device = { 0 };
    char weights[24], kv[24], scratch[24];
    cli_note("%s: %s, %s, %.1f M parameters, loaded in %.2f s", m->path, m->info.model_type, m->info.quantization,
             (double)m->info.n_parameters / 1e6, m->info.load_s);
    cli_note("memory: weights %s, KV cache %s at a context of %d tokens, scratch %s",
             we_format_bytes(weights, m->info.weights_bytes), we_format_bytes(kv, m->info.kv_bytes_at_context),
             m->info.context, we_format_bytes(scratch, m->info.scratch_bytes));
    cli_note("device: %s", cli_device_text(&device, &m->engine_info));
    we_buf_deinit(&device);
}

static void draft_close(cli_model *m)
{
    we_session_close(m->draft);
    we_model_close(m->draft_model);
    m->draft = NULL;
    m->draft_model = NULL;
}

/* The model that guesses tokens, if any. Its cache needs no more room than the other's context. */
static int draft_open(cli_model *m, const cli_options *options)
{
    char *path = NULL;
    we_error err;
    if (!options->draft_model) return CLI_OK;
    we_status st = we_model_find(options->draft_model, &path, &err);
    if (!st && options->draft_is_wish && strcmp(path, m->path) == 0) { /* the small model itself answers */
        we_free(path);
        return CLI_OK;
    }
    if (!st) st = weights_open(&m->draft_model, m->engine, path, options, 0, options->precise, &err);
    if (!st) st = we_session_open(&m->draft, m->draft_model, &err);
    if (!st) st = we_session_check_draft(m->session, m->draft, &err);
    we_free(path);
    if (st && !options->draft_is_wish) return cli_fail(&err);
    if (st) {
        cli_note("MLX_DRAFT_MODEL is left out: %s", err.message);
        draft_close(m);
    }
    return CLI_OK;
}

int cli_model_open(cli_model *m, const cli_options *options, int context, bool with_session)
{
    const char *origin;
    we_error err;
    *m = (cli_model){ .name = cli_model_name(options, &origin) };
    int status;
    status = cli_model_path(options, &m->path);
    if (!status) status = engine_open(m, options);
    if (!status && weights_open(&m->model, m->engine, m->path, options, context, options->precise, &err))
        status = cli_fail(&err);
    if (status) {
        cli_model_close(m);
        return status;
    }
    m->info.size = sizeof m->info;
    we_model_get_info(m->model, &m->info);
    if (with_session && we_session_open(&m->session, m->model, &err)) status = cli_fail(&err);
    if (with_session && !status) status = draft_open(m, options);
    if (status) {
        cli_model_close(m);
        return status;
    }
    if (options->verbose) note_model(m);
    return CLI_OK;
}

/* ---- Who answers ---- */

static bool is_scheme(const char *name, const char *scheme) { return strncasecmp(name, scheme, strlen(scheme)) == 0; }

/* Settings that a client hands to MLX: they must live as long as it does. */
static we_engine_options client_engine;
static we_model_options client_model;
static cli_progress client_progress;

static void on_note(void *user, const char *text)
{
    (void)user;
    cli_progress_end();
    if (cli_is_terminal(stdout) && cli_is_terminal(stderr)) fputc('\n', stderr); /* an answer may be on the line */
    cli_note("%s", text);
}

/* loads: at once rather than with the first question. Where that fails, answering tells why, and fails over. */
static int client_open(we_client **client, const cli_options *options, bool loads)
{
    we_error err;
    we_client_options o = WE_CLIENT_OPTIONS_INIT;
    client_engine = (we_engine_options)WE_ENGINE_OPTIONS_INIT;
    client_engine.device = options->device;
    client_engine.kernels = options->kernels;
    client_engine.threads = options->threads.set ? (int)options->threads.value : 0;
    client_model = (we_model_options)WE_MODEL_OPTIONS_INIT;
    client_model.kv_bits = options->kv_bits.set ? (int)options->kv_bits.value : 0;
    client_model.precise = options->precise;
    client_model.allow_paging = options->allow_paging;
    client_progress = cli_progress_begin("Loading", true);
    client_model.progress = cli_progress_step;
    client_model.progress_user = &client_progress;
    o.engine = &client_engine;
    o.model = &client_model;
    o.context = options->context.set ? (int)options->context.value : 0;
    o.no_failover = options->no_failover;
    o.draft_model = options->draft_is_wish ? NULL : options->draft_model;
    o.on_note = on_note;
    if (we_client_open(client, options->model, &o, &err)) return cli_fail(&err);
    if (loads) we_client_load(*client, NULL);
    cli_progress_end();
    return CLI_OK;
}

int cli_answerer_open(cli_model *m, we_client **client, const cli_options *options)
{
    const char *origin, *name = cli_model_name(options, &origin);
    *m = (cli_model){ 0 };
    *client = NULL;
    const int status = cli_refused(options);
    if (status) return status;
    const bool is_mlx = !strstr(name, "://") || is_scheme(name, "mlx://");
    const bool may_fail_over = origin && strcmp(origin, "LLM_CHAT_API_URL") == 0 && !options->no_failover;
    if (is_mlx && !may_fail_over) return cli_model_open(m, options, 0, true);
    if (!is_mlx && options->draft_model && !options->draft_is_wish)
        cli_note("--draft-model is left alone: it guesses for models that MLX runs");
    return client_open(client, options, is_mlx);
}

int cli_model_open_precise(we_model **out, const cli_model *m, const cli_options *options, const char *name,
                           int context)
{
    char *path = NULL;
    we_error err;
    *out = NULL;
    if (we_model_find(name, &path, &err)) return cli_fail(&err);
    const we_status st = weights_open(out, m->engine, path, options, context, true, &err);
    we_free(path);
    return st ? cli_fail(&err) : CLI_OK;
}

void cli_model_close(cli_model *m)
{
    draft_close(m);
    we_session_close(m->session);
    we_model_close(m->model);
    we_engine_close(m->engine);
    we_free(m->path);
    *m = (cli_model){ 0 };
}

/* ---- Sampling ---- */

/* A variable's value in *v; *value NULL where it is not set. */
static int variable(const cli_options *o, const char *name, const char **value, we_config_value *v)
{
    *v = (we_config_value){ .size = sizeof *v };
    *value = we_config_get(name, v, NULL) ? NULL : v->value;
    return *value && !v->is_valid ? cli_usage_error(o->command, "%s", v->problem) : CLI_OK;
}

int cli_environment_apply(cli_options *o)
{
    const struct {
        const char *name;
        cli_int *i;
        cli_real *r;
    } rows[] = {
        { "MLX_MAX_TOKENS", &o->max_tokens, NULL },
        { "MLX_TEMPERATURE", NULL, &o->temperature },
        { "MLX_TOP_P", NULL, &o->top_p },
    };
    we_config_value v;
    const char *value;
    int status;
    for (size_t k = 0; k < WE_COUNT(rows); k++) {
        if (rows[k].i ? rows[k].i->set : rows[k].r->set) continue;
        if ((status = variable(o, rows[k].name, &value, &v)) || !value) {
            if (status) return status;
            continue;
        }
        if (rows[k].i)
            rows[k].i->set = we_parse_i64(we_str_from(value), &rows[k].i->value);
        else
            rows[k].r->set = we_parse_f64(we_str_from(value), &rows[k].r->value);
    }
    if (!o->draft_model && (o->draft_model = cli_config("MLX_DRAFT_MODEL")) != NULL) o->draft_is_wish = true;
    if (o->prompt_lookup) return CLI_OK;
    status = variable(o, "MLX_PROMPT_LOOKUP", &value, &v);
    o->prompt_lookup = value && v.is_on;
    return status;
}

/* 53 bits, so that every reader of the JSON answer keeps the number exactly. */
static uint64_t random_seed(void)
{
    uint64_t seed;
    if (getentropy(&seed, sizeof seed) != 0) seed = we_now_ns();
    return seed & ((UINT64_C(1) << 53) - 1);
}

void cli_sampling_apply(const cli_options *o, const cli_model *m, we_generate_options *out)
{
    out->prompt_lookup = o->prompt_lookup;
    out->draft = m ? m->draft : NULL;
    if (o->max_tokens.set) out->max_tokens = (int)o->max_tokens.value;
    if (o->temperature.set) out->temperature = (float)o->temperature.value;
    if (o->top_p.set) out->top_p = (float)o->top_p.value;
    if (o->top_k.set) out->top_k = (int)o->top_k.value;
    if (o->min_p.set) out->min_p = (float)o->min_p.value;
    if (o->repetition_penalty.set) out->repetition_penalty = (float)o->repetition_penalty.value;
    if (o->repetition_context.set) out->repetition_context = (int)o->repetition_context.value;
    out->seed = o->seed.set ? o->seed.value : random_seed();
    out->stop = o->stop.items;
    out->n_stop = o->stop.n;
    out->ignore_eos = o->ignore_eos;
}

void cli_client_sampling(const cli_options *o, we_generate_options *out)
{
    out->temperature = NAN;
    cli_sampling_apply(o, NULL, out);
}

/* ---- Template variables ---- */

int cli_template_variables(const cli_options *options, char **json)
{
    *json = NULL;
    if (options->template_args.n == 0) return CLI_OK;
    we_arena arena = { 0 };
    we_buf buf = { 0 };
    we_json_writer w = { .buf = &buf };
    we_json_begin_object(&w);
    for (size_t i = 0; i < options->template_args.n; i++) {
        const char *pair = options->template_args.items[i];
        const size_t name = strcspn(pair, "=");
        const we_str value = we_str_from(pair + name + 1);
        const we_json *tree;
        we_json_write_key(&w, (we_str){ pair, name });
        if (we_json_parse(&arena, value, &tree, NULL))
            we_json_write_str(&w, value);
        else
            we_json_write_tree(&w, tree);
    }
    we_json_end_object(&w);
    we_arena_deinit(&arena);
    *json = we_buf_take(&buf, NULL);
    we_buf_deinit(&buf);
    if (*json) return CLI_OK;
    cli_error("no memory for the template's variables");
    return CLI_FAILED;
}

/* ---- Answers ---- */

const char *cli_finish_name(we_finish finish)
{
    static const char *const names[] = { [WE_FINISH_EOS] = "eos",
                                         [WE_FINISH_STOP] = "stop",
                                         [WE_FINISH_LENGTH] = "length",
                                         [WE_FINISH_CANCELLED] = "cancelled" };
    return (size_t)finish < WE_COUNT(names) ? names[finish] : "unknown";
}

double cli_prompt_speed(const we_result *r)
{
    const double n = (double)(r->n_prompt_tokens - r->n_cached_tokens);
    return r->prefill_s > 0 ? n / r->prefill_s : 0;
}

double cli_generation_speed(const we_result *r) { return r->decode_s > 0 ? (double)r->n_tokens / r->decode_s : 0; }

void cli_json_result(cli_json *json, const char *model, const we_result *r, uint64_t seed)
{
    cli_json_text(json, "model", model);
    we_json_key(&json->w, "text");
    if (r->text)
        we_json_write_str(&json->w, (we_str){ r->text, r->len });
    else
        we_json_write_null(&json->w);
    cli_json_text(json, "finish_reason", cli_finish_name(r->finish));
    cli_json_i64(json, "prompt_tokens", r->n_prompt_tokens);
    cli_json_i64(json, "cached_tokens", r->n_cached_tokens);
    cli_json_i64(json, "generated_tokens", r->n_tokens);
    cli_json_i64(json, "drafted_tokens", r->n_drafted);
    cli_json_i64(json, "accepted_tokens", r->n_accepted);
    cli_json_ids(json, "tokens", r->tokens, r->tokens ? r->n_tokens : 0); /* other servers only count them */
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)seed);
    we_json_key(&json->w, "seed");
    we_json_write_raw(&json->w, we_str_from(number));
    cli_json_f64(json, "prefill_s", r->prefill_s);
    cli_json_f64(json, "decode_s", r->decode_s);
    cli_json_f64(json, "time_to_first_token_s", r->first_token_s);
    cli_json_f64(json, "prompt_tokens_per_second", cli_prompt_speed(r));
    cli_json_f64(json, "generation_tokens_per_second", cli_generation_speed(r));
}

void cli_json_client_result(cli_json *json, const we_client_result *r, uint64_t seed)
{
    cli_json_result(json, r->model, &r->result, seed);
    cli_json_text(json, "backend", r->backend);
    cli_json_i64(json, "failovers", (uint64_t)r->n_failovers);
    cli_json_bool(json, "restarted", r->restarted);
}

void cli_note_result(const we_result *r)
{
    if (r->n_drafted)
        cli_note("guessed: %zu tokens, %zu of them right (%.0f %%)", r->n_drafted, r->n_accepted,
                 100.0 * (double)r->n_accepted / (double)r->n_drafted);
    cli_note(
        "prompt: %zu tokens (%zu cached), %.1f tokens/s; answer: %zu tokens, %.1f tokens/s; first token after %.3f s; %s",
        r->n_prompt_tokens, r->n_cached_tokens, cli_prompt_speed(r), r->n_tokens, cli_generation_speed(r),
        r->first_token_s, cli_finish_name(r->finish));
}
