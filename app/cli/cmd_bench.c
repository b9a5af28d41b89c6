/* SPDX-License-Identifier: Apache-2.0
 * cmd_bench.c - `bench` and `perplexity`: how fast and how good a model is on this machine. */
#include "cli.h"

#define AT(field) offsetof(cli_options, field)
#define DEFAULT_CONTEXT 8192 /* the library's own limit where --context is not given */

/* ---- bench ---- */

typedef struct series { /* one test over its repetitions */
    const char *key, *title;
    size_t offset; /* in we_bench_sample */
    const char *unit;
    bool is_prompt;                      /* belongs to the prompt test */
    const char *share_key, *share_title; /* NULL: of no limit */
} series;

static const series all_series[] = {
    { "prompt_tokens_per_second", "prompt", offsetof(we_bench_sample, prompt_tokens_per_second), "tokens/s", true,
      "prompt_share_of_multiply_adds", "of int8 multiply-adds" },
    { "generation_tokens_per_second", "generation", offsetof(we_bench_sample, generation_tokens_per_second), "tokens/s",
      false, "generation_share_of_memory", "of reading memory" },
    { "time_to_first_token_s", "first token", offsetof(we_bench_sample, time_to_first_token_s), "s", true, NULL, NULL },
};

static double sample_value(const we_bench_sample *sample, const series *s)
{
    return *(const double *)((const char *)sample + s->offset);
}

static bool series_ran(const we_bench_options *bench, const series *s)
{
    return (s->is_prompt ? bench->prompt_tokens : bench->generated_tokens) > 0;
}

/* The roofline: what a test reached of what its bound allows. A prompt is bound by multiplying, generation by reading the weights,
 * once for all sequences, and each sequence's cache. */
static double share_of_limit(const cli_model *m, const we_bench_options *bench, const we_limits *limits,
                             const series *s, double value)
{
    if (s->is_prompt) return value * (double)m->info.multiply_adds_per_token / limits->multiply_adds_per_second;
    const double cached = (bench->depth + bench->generated_tokens / 2.0) * (double)m->info.kv_bytes_per_token;
    const double bytes = (double)m->info.weight_bytes_read_per_token / bench->batch + cached;
    return value * bytes / limits->memory_bytes_per_second;
}

static bool has_share(const we_limits *limits, const series *s)
{
    return s->share_key && (s->is_prompt ? limits->multiply_adds_per_second : limits->memory_bytes_per_second) > 0;
}

static int bench_json(const cli_model *m, const we_bench_options *bench, const we_bench_sample *samples,
                      const we_limits *limits, uint64_t peak)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_text(&json, "model", m->name);
    cli_json_text(&json, "device", m->engine_info.device);
    cli_json_text(&json, "kernels", m->engine_info.kernels);
    cli_json_text(&json, "device_detail", m->engine_info.detail);
    cli_json_i64(&json, "threads", (uint64_t)m->engine_info.threads);
    cli_json_i64(&json, "depth", (uint64_t)bench->depth);
    cli_json_i64(&json, "batch", (uint64_t)bench->batch);
    cli_json_i64(&json, "prompt_tokens", (uint64_t)bench->prompt_tokens);
    cli_json_i64(&json, "generated_tokens", (uint64_t)bench->generated_tokens);
    for (size_t k = 0; k < WE_COUNT(all_series); k++) {
        we_json_key(&json.w, all_series[k].key);
        we_json_begin_array(&json.w);
        for (int i = 0; i < bench->repetitions && series_ran(bench, &all_series[k]); i++)
            we_json_write_f64(&json.w, sample_value(&samples[i], &all_series[k]));
        we_json_end_array(&json.w);
    }
    for (size_t k = 0; k < WE_COUNT(all_series); k++) {
        const series *one = &all_series[k];
        if (!one->share_key) continue;
        we_json_key(&json.w, one->share_key);
        we_json_begin_array(&json.w);
        for (int i = 0; i < bench->repetitions && series_ran(bench, one) && has_share(limits, one); i++)
            we_json_write_f64(&json.w, share_of_limit(m, bench, limits, one, sample_value(&samples[i], one)));
        we_json_end_array(&json.w);
    }
    cli_json_f64(&json, "memory_bytes_per_second", limits->memory_bytes_per_second);
    cli_json_f64(&json, "multiply_adds_per_second", limits->multiply_adds_per_second);
    cli_json_f64(&json, "load_s", m->info.load_s);
    cli_json_i64(&json, "peak_resident_bytes", peak);
    cli_json_i64(&json, "weights_bytes", m->info.weights_bytes);
    cli_json_i64(&json, "weight_bytes_read_per_token", m->info.weight_bytes_read_per_token);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static void bench_table(const cli_model *m, const we_bench_options *bench, const we_bench_sample *samples,
                        const we_limits *limits, uint64_t peak)
{
    char a[24], b[24], c[24];
    we_buf name = { 0 };
    we_buf device = { 0 };
    cli_out_printf("%s on %s: %d prompt tokens, %d generated, depth %d, batch %d\n", cli_escape_line(&name, m->name),
                   cli_device_text(&device, &m->engine_info), bench->prompt_tokens, bench->generated_tokens,
                   bench->depth, bench->batch);
    we_buf_deinit(&name);
    we_buf_deinit(&device);
    cli_out_printf("%-12s %12s %12s %12s\n", "", "mean", "slowest", "fastest");
    for (size_t k = 0; k < WE_COUNT(all_series); k++) {
        if (!series_ran(bench, &all_series[k])) continue;
        double sum = 0, min = 0, max = 0;
        for (int i = 0; i < bench->repetitions; i++) {
            const double v = sample_value(&samples[i], &all_series[k]);
            sum += v;
            min = i ? WE_MIN(min, v) : v;
            max = i ? WE_MAX(max, v) : v;
        }
        const bool is_time = all_series[k].unit[0] == 's';
        const int digits = is_time ? 4 : 1;
        cli_out_printf("%-12s %12.*f %12.*f %12.*f %s", all_series[k].title, digits, sum / bench->repetitions, digits,
                       is_time ? max : min, digits, is_time ? min : max, all_series[k].unit);
        if (has_share(limits, &all_series[k]))
            cli_out_printf(", %.0f%% %s",
                           100 * share_of_limit(m, bench, limits, &all_series[k], sum / bench->repetitions),
                           all_series[k].share_title);
        cli_out_printf("\n");
    }
    if (limits->memory_bytes_per_second > 0)
        cli_out_printf("this machine, measured now: %.1f GB/s read from memory, %.0f G int8 multiply-adds/s\n",
                       limits->memory_bytes_per_second / 1e9, limits->multiply_adds_per_second / 1e9);
    cli_out_printf("load %.2f s, peak resident %s, weights %s, %s of them read for each token\n", m->info.load_s,
                   we_format_bytes(a, peak), we_format_bytes(b, m->info.weights_bytes),
                   we_format_bytes(c, m->info.weight_bytes_read_per_token));
}

static int value_or(const cli_int *value, int otherwise) { return value->set ? (int)value->value : otherwise; }

static int run_bench(const cli_options *options)
{
    we_bench_options bench = WE_BENCH_OPTIONS_INIT;
    we_config_value batch_value = { .size = sizeof batch_value };
    int64_t batch = bench.batch;
    if (!options->batch.set && !we_config_get("MLX_BATCH_SIZE", &batch_value, NULL) && batch_value.value) {
        if (!batch_value.is_valid) return cli_usage_error(options->command, "%s", batch_value.problem);
        we_parse_i64(we_str_from(batch_value.value), &batch);
    }
    bench.prompt_tokens = value_or(&options->n_prompt, bench.prompt_tokens);
    bench.generated_tokens = value_or(&options->n_generate, bench.generated_tokens);
    bench.depth = value_or(&options->depth, bench.depth);
    bench.repetitions = value_or(&options->repetitions, bench.repetitions);
    bench.batch = value_or(&options->batch, (int)batch);
    if (!bench.prompt_tokens && !bench.generated_tokens)
        return cli_usage_error(options->command, "-p 0 and -n 0 leave nothing to measure");

    /* What the tests need, where that is more than a session holds by default. */
    const int needed = bench.depth + WE_MAX(bench.prompt_tokens, bench.generated_tokens) + 1;
    const int context = options->context.set || needed <= DEFAULT_CONTEXT ? 0 : needed;
    we_bench_sample *samples = we_calloc((size_t)bench.repetitions, sizeof *samples);
    cli_model m = { 0 };
    int status = CLI_FAILED;
    we_error err;
    if (!samples) {
        cli_error("no memory for %d repetitions", bench.repetitions);
    } else if (!(status = cli_model_open(&m, options, context, false))) {
        we_memory_info memory = { .size = sizeof memory };
        we_limits limits = { .size = sizeof limits }; /* measured last: that takes memory of its own */
        if (we_bench(m.model, &bench, samples, &err) || we_memory_get_info(&memory, &err) ||
            we_bench_limits(m.model, &limits, &err))
            status = cli_fail(&err);
        else if (options->json)
            status = bench_json(&m, &bench, samples, &limits, memory.peak_resident_bytes);
        else
            bench_table(&m, &bench, samples, &limits, memory.peak_resident_bytes);
    }
    cli_model_close(&m);
    we_free(samples);
    return status;
}

static const cli_option bench_own[] = {
    { "prompt-tokens", 'p', CLI_INT, AT(n_prompt), 0, 1 << 24, "N",
      "tokens of the prompt test (default 512; 0: leave it out)" },
    { "generate-tokens", 'n', CLI_INT, AT(n_generate), 0, 1 << 24, "N",
      "tokens of the generation test (default 128; 0: leave it out)" },
    { "depth", 'd', CLI_INT, AT(depth), 0, 1 << 24, "N", "tokens in the cache before each test (default 0)" },
    { "repetitions", 'r', CLI_INT, AT(repetitions), 1, 10000, "N", "how often each test runs (default 5)" },
    { "batch", 0, CLI_INT, AT(batch), 1, 16, "N", "sequences decoded together (default: MLX_BATCH_SIZE, else 1)" },
};
const cli_command cli_command_bench = {
    "bench",
    "[options]",
    "measure a model's speed on this machine",
    "Prompt and generation are separate tests on random tokens, each on a fresh timeline after an\n"
    "untimed warm-up. Beside the figures: what share of this machine's limits they reach, both measured\n"
    "after the tests: multiply-adds of the products with weights, and bytes of weights and cache read.",
    bench_own,
    WE_COUNT(bench_own),
    { &cli_group_model, &cli_group_engine },
    0,
    run_bench
};

/* ---- perplexity ---- */

static int print_perplexity(const cli_options *options, const we_perplexity_result *result)
{
    if (!options->json) {
        cli_out_printf("perplexity %.4f ± %.4f over %llu tokens, in windows of %d\n", result->perplexity, result->error,
                       (unsigned long long)result->n_tokens, result->context);
        return CLI_OK;
    }
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_f64(&json, "perplexity", result->perplexity);
    cli_json_f64(&json, "perplexity_error", result->error);
    cli_json_i64(&json, "tokens", result->n_tokens);
    cli_json_i64(&json, "context", (uint64_t)result->context);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static int comparison_json(const char *base, const we_comparison *c)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_f64(&json, "perplexity", c->perplexity);
    cli_json_f64(&json, "perplexity_error", c->perplexity_error);
    cli_json_i64(&json, "tokens", c->n_tokens);
    cli_json_i64(&json, "context", (uint64_t)c->context);
    cli_json_text(&json, "base", base);
    cli_json_f64(&json, "base_perplexity", c->base_perplexity);
    cli_json_f64(&json, "base_perplexity_error", c->base_perplexity_error);
    cli_json_f64(&json, "perplexity_ratio", c->perplexity_ratio);
    cli_json_f64(&json, "perplexity_ratio_error", c->perplexity_ratio_error);
    cli_json_f64(&json, "log_perplexity_correlation", c->log_perplexity_correlation);
    we_json_key(&json.w, "kld");
    we_json_begin_object(&json.w);
    cli_json_f64(&json, "mean", c->kld_mean);
    cli_json_f64(&json, "error", c->kld_error);
    cli_json_f64(&json, "median", c->kld_median);
    cli_json_f64(&json, "p90", c->kld_p90);
    cli_json_f64(&json, "p95", c->kld_p95);
    cli_json_f64(&json, "p99", c->kld_p99);
    cli_json_f64(&json, "p99_9", c->kld_p999);
    cli_json_f64(&json, "max", c->kld_max);
    we_json_end_object(&json.w);
    we_json_key(&json.w, "probability_difference");
    we_json_begin_object(&json.w);
    cli_json_f64(&json, "mean", c->probability_mean);
    cli_json_f64(&json, "mean_error", c->probability_mean_error);
    cli_json_f64(&json, "rms", c->probability_rms);
    cli_json_f64(&json, "rms_error", c->probability_rms_error);
    we_json_end_object(&json.w);
    cli_json_f64(&json, "top1_agreement", c->top1_agreement);
    cli_json_f64(&json, "top1_agreement_error", c->top1_agreement_error);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static void comparison_table(const we_comparison *c)
{
    cli_out_printf("%-24s %10.4f ± %.4f over %llu tokens, in windows of %d\n", "perplexity", c->perplexity,
                   c->perplexity_error, (unsigned long long)c->n_tokens, c->context);
    cli_out_printf("%-24s %10.4f ± %.4f\n", "of the base", c->base_perplexity, c->base_perplexity_error);
    cli_out_printf("%-24s %10.4f ± %.4f\n", "ratio", c->perplexity_ratio, c->perplexity_ratio_error);
    cli_out_printf("%-24s %9.2f%%\n", "correlation of log p", 100 * c->log_perplexity_correlation);
    cli_out_printf("%-24s %10.6f ± %.6f\n", "mean KL divergence", c->kld_mean, c->kld_error);
    cli_out_printf("%-24s %10.6f, 90%% %.6f, 95%% %.6f, 99%% %.6f, 99.9%% %.6f, max %.6f\n", "  median", c->kld_median,
                   c->kld_p90, c->kld_p95, c->kld_p99, c->kld_p999, c->kld_max);
    cli_out_printf("%-24s %9.3f%% ± %.3f%%\n", "mean difference of p", 100 * c->probability_mean,
                   100 * c->probability_mean_error);
    cli_out_printf("%-24s %9.3f%% ± %.3f%%\n", "rms difference of p", 100 * c->probability_rms,
                   100 * c->probability_rms_error);
    cli_out_printf("%-24s %9.2f%% ± %.2f%%\n", "same likeliest token", 100 * c->top1_agreement,
                   100 * c->top1_agreement_error);
}

static int perplexity_alone(const cli_model *m, const cli_options *options, we_str text, int context)
{
    we_perplexity_result result = { .size = sizeof result };
    we_error err;
    cli_progress progress = cli_progress_begin("Reading", false);
    const we_status st =
        we_perplexity(m->model, text.ptr, text.len, context, cli_progress_step, &progress, &result, &err);
    cli_progress_end();
    return st ? cli_fail(&err) : print_perplexity(options, &result);
}

static int perplexity_beside(const cli_model *m, const cli_options *options, we_str text, int context)
{
    const bool itself = strcmp(options->kl_base, "precise") == 0;
    we_comparison result = { .size = sizeof result };
    we_model *base;
    we_error err;
    int status = cli_model_open_precise(&base, m, options, itself ? m->path : options->kl_base, context);
    if (status) return status;
    cli_progress progress = cli_progress_begin("Reading", false);
    const we_status st =
        we_compare(m->model, base, text.ptr, text.len, context, cli_progress_step, &progress, &result, &err);
    cli_progress_end();
    if (st)
        status = cli_fail(&err);
    else if (options->json)
        status = comparison_json(options->kl_base, &result);
    else
        comparison_table(&result);
    we_model_close(base);
    return status;
}

static int run_perplexity(const cli_options *options)
{
    if (!options->file) return cli_usage_error(options->command, "--file FILE is needed");
    const int context = value_or(&options->context, 0); /* 0: the library's, which small models make smaller */
    we_buf text = { 0 };
    cli_model m = { 0 };
    int status = cli_read_file(options->file, &text);
    if (!status && !(status = cli_model_open(&m, options, context, false)))
        status = options->kl_base ? perplexity_beside(&m, options, we_buf_str(&text), context)
                                  : perplexity_alone(&m, options, we_buf_str(&text), context);
    cli_model_close(&m);
    we_buf_deinit(&text);
    return status;
}

static const cli_option perplexity_own[] = {
    { "file", 'f', CLI_TEXT, AT(file), 0, 0, "FILE", "the text to read; \"-\" is standard input" },
    { "context", 'c', CLI_INT, AT(context), 4, 1 << 24, "N", "tokens of a window (default 512)" },
    { "kl-base", 0, CLI_TEXT, AT(kl_base), 0, 0, "M",
      "compare with model M run in float32; \"precise\": this model itself" },
};
const cli_command cli_command_perplexity = {
    "perplexity",
    "[options] --file FILE",
    "measure how well a model predicts a text",
    "The text is cut into windows of N tokens, each beginning with BOS where the model has one; the\n"
    "first half of each is context only. With --kl-base both models read the text: how their predictions\n"
    "differ is told as KL divergence, difference of probability and agreement on the likeliest token.",
    perplexity_own,
    WE_COUNT(perplexity_own),
    { &cli_group_model, &cli_group_engine },
    0,
    run_perplexity
};
