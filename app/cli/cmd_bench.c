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
    bool is_prompt; /* belongs to the prompt test */
} series;

static const series all_series[] = {
    { "prompt_tokens_per_second", "prompt", offsetof(we_bench_sample, prompt_tokens_per_second), "tokens/s", true },
    { "generation_tokens_per_second", "generation", offsetof(we_bench_sample, generation_tokens_per_second), "tokens/s",
      false },
    { "time_to_first_token_s", "first token", offsetof(we_bench_sample, time_to_first_token_s), "s", true },
};

static double sample_value(const we_bench_sample *sample, const series *s)
{
    return *(const double *)((const char *)sample + s->offset);
}

static bool series_ran(const we_bench_options *bench, const series *s)
{
    return (s->is_prompt ? bench->prompt_tokens : bench->generated_tokens) > 0;
}

static int bench_json(const cli_model *m, const we_bench_options *bench, const we_bench_sample *samples, uint64_t peak)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_text(&json, "model", m->name);
    cli_json_text(&json, "device", m->engine_info.device);
    cli_json_text(&json, "kernels", m->engine_info.kernels);
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
    cli_json_f64(&json, "load_s", m->info.load_s);
    cli_json_i64(&json, "peak_resident_bytes", peak);
    cli_json_i64(&json, "weights_bytes", m->info.weights_bytes);
    cli_json_i64(&json, "weight_bytes_read_per_token", m->info.weight_bytes_read_per_token);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static void bench_table(const cli_model *m, const we_bench_options *bench, const we_bench_sample *samples,
                        uint64_t peak)
{
    char a[24], b[24], c[24];
    we_buf name = { 0 };
    cli_out_printf("%s on %s (%s, %d threads): %d prompt tokens, %d generated, depth %d, batch %d\n",
                   cli_escape_line(&name, m->name), m->engine_info.device, m->engine_info.kernels,
                   m->engine_info.threads, bench->prompt_tokens, bench->generated_tokens, bench->depth, bench->batch);
    we_buf_deinit(&name);
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
        cli_out_printf("%-12s %12.*f %12.*f %12.*f %s\n", all_series[k].title, digits, sum / bench->repetitions, digits,
                       is_time ? max : min, digits, is_time ? min : max, all_series[k].unit);
    }
    cli_out_printf("load %.2f s, peak resident %s, weights %s, %s of them read for each token\n", m->info.load_s,
                   we_format_bytes(a, peak), we_format_bytes(b, m->info.weights_bytes),
                   we_format_bytes(c, m->info.weight_bytes_read_per_token));
}

static int value_or(const cli_int *value, int otherwise) { return value->set ? (int)value->value : otherwise; }

static int run_bench(const cli_options *options)
{
    we_bench_options bench = WE_BENCH_OPTIONS_INIT;
    bench.prompt_tokens = value_or(&options->n_prompt, bench.prompt_tokens);
    bench.generated_tokens = value_or(&options->n_generate, bench.generated_tokens);
    bench.depth = value_or(&options->depth, bench.depth);
    bench.repetitions = value_or(&options->repetitions, bench.repetitions);
    bench.batch = value_or(&options->batch, bench.batch);
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
        if (we_bench(m.model, &bench, samples, &err) || we_memory_get_info(&memory, &err))
            status = cli_fail(&err);
        else if (options->json)
            status = bench_json(&m, &bench, samples, memory.peak_resident_bytes);
        else
            bench_table(&m, &bench, samples, memory.peak_resident_bytes);
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
    { "batch", 0, CLI_INT, AT(batch), 1, 16, "N", "sequences decoded together (default 1)" },
};
const cli_command cli_command_bench = {
    "bench",
    "[options]",
    "measure a model's speed on this machine",
    "Prompt and generation are separate tests on random tokens, each on a fresh timeline after an\n"
    "untimed warm-up.",
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
        cli_out_printf("perplexity %.4f over %llu tokens, in windows of %d\n", result->perplexity,
                       (unsigned long long)result->n_tokens, result->context);
        return CLI_OK;
    }
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_f64(&json, "perplexity", result->perplexity);
    cli_json_i64(&json, "tokens", result->n_tokens);
    cli_json_i64(&json, "context", (uint64_t)result->context);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static int run_perplexity(const cli_options *options)
{
    if (!options->file) return cli_usage_error(options->command, "--file FILE is needed");
    const int context = value_or(&options->context, 0); /* 0: the library's, which small models make smaller */
    we_buf text = { 0 };
    cli_model m = { 0 };
    we_error err;
    int status = cli_read_file(options->file, &text);
    if (!status && !(status = cli_model_open(&m, options, context, false))) {
        we_perplexity_result result = { .size = sizeof result };
        cli_progress progress = cli_progress_begin("Reading", false);
        const we_str all = we_buf_str(&text);
        const we_status st =
            we_perplexity(m.model, all.ptr, all.len, context, cli_progress_step, &progress, &result, &err);
        cli_progress_end();
        status = st ? cli_fail(&err) : print_perplexity(options, &result);
    }
    cli_model_close(&m);
    we_buf_deinit(&text);
    return status;
}

static const cli_option perplexity_own[] = {
    { "file", 'f', CLI_TEXT, AT(file), 0, 0, "FILE", "the text to read; \"-\" is standard input" },
    { "context", 'c', CLI_INT, AT(context), 4, 1 << 24, "N", "tokens of a window (default 512)" },
};
const cli_command cli_command_perplexity = {
    "perplexity",
    "[options] --file FILE",
    "measure how well a model predicts a text",
    "The text is cut into windows of N tokens, each beginning with BOS where the model has one; the\n"
    "first half of each is context only.",
    perplexity_own,
    WE_COUNT(perplexity_own),
    { &cli_group_model, &cli_group_engine },
    0,
    run_perplexity
};
