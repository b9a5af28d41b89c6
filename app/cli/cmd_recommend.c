/* SPDX-License-Identifier: Apache-2.0
 * cmd_recommend.c - `recommend`: the models that suit this machine, what they need, how fast they may be, how to get them. */
#include "cli.h"

typedef struct rows {
    we_recommendation *items; /* strings are owned */
    size_t n, capacity;
    bool failed;
} rows;

static void rows_deinit(rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        we_free((char *)r->items[i].name);
        we_free((char *)r->items[i].command);
        we_free((char *)r->items[i].reason);
    }
    we_free(r->items);
}

static bool collect(void *user, const we_recommendation *r)
{
    rows *all = user;
    if (all->n == all->capacity) {
        const size_t capacity = all->capacity ? 2 * all->capacity : 32;
        we_recommendation *items = we_realloc_array(all->items, capacity, sizeof *items);
        if (!items) return all->failed = true, false;
        all->items = items;
        all->capacity = capacity;
    }
    we_recommendation *own = &all->items[all->n++];
    *own = *r;
    own->name = we_strdup(r->name);
    own->command = we_strdup(r->command);
    own->reason = we_strdup(r->reason);
    all->failed = !own->name || !own->command || !own->reason;
    return !all->failed;
}

static void write_row(cli_json *json, const we_recommendation *r)
{
    we_json_begin_object(&json->w);
    cli_json_text(json, "name", r->name);
    cli_json_bool(json, "recommended", r->is_recommended);
    cli_json_bool(json, "fits", r->fits);
    cli_json_bool(json, "fits_now", r->fits_now);
    cli_json_bool(json, "here", r->is_here);
    cli_json_text(json, "reason", r->reason);
    cli_json_text(json, "command", r->command);
    cli_json_i64(json, "tier_gb", (uint64_t)r->tier_gb);
    cli_json_i64(json, "parameters", r->n_parameters);
    cli_json_i64(json, "download_bytes", r->download_bytes);
    cli_json_i64(json, "context", (uint64_t)r->context);
    cli_json_i64(json, "weights_bytes", r->weights_bytes);
    cli_json_i64(json, "kv_bytes", r->kv_bytes);
    cli_json_i64(json, "scratch_bytes", r->scratch_bytes);
    cli_json_i64(json, "needed_bytes", r->needed_bytes);
    cli_json_f64(json, "tokens_per_second", r->tokens_per_second);
    we_json_end_object(&json->w);
}

static int print_json(const we_machine *m, const rows *all)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    we_json_key(&json.w, "machine");
    we_json_begin_object(&json.w);
    cli_json_i64(&json, "memory_total_bytes", m->memory_total_bytes);
    cli_json_i64(&json, "memory_available_bytes", m->memory_available_bytes);
    cli_json_f64(&json, "memory_bytes_per_second", m->memory_bytes_per_second);
    cli_json_i64(&json, "disk_free_bytes", m->disk_free_bytes);
    cli_json_i64(&json, "cores", (uint64_t)m->n_cpus);
    cli_json_i64(&json, "tier_gb", (uint64_t)m->tier_gb);
    cli_json_text(&json, "gpus", m->gpus);
    we_json_end_object(&json.w);
    we_json_key(&json.w, "models");
    we_json_begin_array(&json.w);
    for (size_t i = 0; i < all->n; i++) write_row(&json, &all->items[i]);
    we_json_end_array(&json.w);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

static void print_machine(const we_machine *m)
{
    char total[24], available[24], disk[24], speed[24];
    we_buf text = { 0 };
    cli_out_printf("Memory     %s, %s of it available\n", we_format_bytes(total, m->memory_total_bytes),
                   we_format_bytes(available, m->memory_available_bytes));
    if (m->memory_bytes_per_second > 0)
        cli_out_printf("Bandwidth  about %s a second, measured on %d core%s\n",
                       we_format_bytes(speed, (uint64_t)m->memory_bytes_per_second), m->n_cpus,
                       m->n_cpus == 1 ? "" : "s");
    if (m->disk_free_bytes) cli_out_printf("Disk       %s free\n", we_format_bytes(disk, m->disk_free_bytes));
    cli_out_printf("GPU        %s\n", m->gpus[0] ? cli_escape_line(&text, m->gpus) : "none that the system shows");
    if (m->gpus[0]) cli_out_printf("           (this version computes on the CPU)\n");
    we_buf_deinit(&text);
}

/* "24", "2.4", "0.45": no more than is known. */
static const char *about(char out[24], double speed)
{
    snprintf(out, 24, speed >= 10 ? "%.0f" : speed >= 1 ? "%.1f" : "%.2f", speed);
    return out;
}

static void print_table(const rows *all)
{
    cli_out_printf("\n%s  %-22s %9s %9s %9s %8s %9s%s\n", cli_style_code(stdout, CLI_STYLE_BOLD), "MODEL", "WEIGHTS",
                   "CONTEXT", "KV CACHE", "IN ALL", "TOKENS/S", cli_style_code(stdout, CLI_STYLE_RESET));
    for (size_t i = 0; i < all->n; i++) {
        const we_recommendation *r = &all->items[i];
        char weights[24], kv[24], needed[24], speed[24];
        const cli_style style = r->is_recommended ? CLI_STYLE_GREEN : CLI_STYLE_DIM;
        const bool plain = !r->is_recommended && r->fits;
        cli_out_printf("%s%s %-22s %9s %9d %9s %8s %9s%s\n", plain ? "" : cli_style_code(stdout, style),
                       r->is_recommended ? "*"
                       : r->fits         ? " "
                                         : "-",
                       r->name, we_format_bytes(weights, r->weights_bytes), r->context,
                       we_format_bytes(kv, r->kv_bytes), we_format_bytes(needed, r->needed_bytes),
                       r->tokens_per_second > 0 ? about(speed, r->tokens_per_second) : "",
                       plain ? "" : cli_style_code(stdout, CLI_STYLE_RESET));
    }
    cli_out_printf("\n*  recommended    -  does not fit this machine\n"
                   "Weights as they are fetched; speeds are about, from the bandwidth.\n\n");
    for (size_t i = 0; i < all->n; i++) {
        const we_recommendation *r = &all->items[i];
        if (r->is_recommended) cli_out_printf("    %s\n", r->command);
        if (r->is_recommended && !r->fits_now) cli_out_printf("      (%s)\n", r->reason);
    }
    cli_out_printf("The others likewise.\n");
}

static int run_recommend(const cli_options *options)
{
    we_error err;
    rows all = { 0 };
    we_machine machine = { .size = sizeof machine };
    we_recommend_options o = WE_RECOMMEND_OPTIONS_INIT;
    if (options->context.set) o.context = (int)options->context.value;
    int status = CLI_OK;
    if (we_recommend_each(&o, &machine, collect, &all, &err)) {
        status = cli_fail(&err);
    } else if (all.failed) {
        cli_error("no memory for the list of models");
        status = CLI_FAILED;
    } else if (options->json) {
        status = print_json(&machine, &all);
    } else {
        print_machine(&machine);
        print_table(&all);
    }
    we_free((char *)machine.gpus);
    rows_deinit(&all);
    return status;
}

#define AT(field) offsetof(cli_options, field)
static const cli_option recommend_own[] = {
    { "context", 'c', CLI_INT, AT(context), 1, 1 << 30, "N", "tokens that prompt and answer may have (default 8192)" },
};
const cli_command cli_command_recommend = {
    "recommend",
    "[options]",
    "show which models suit this machine",
    "Memory is counted from each model's shape, speed is expected from this machine's memory bandwidth, which is\n"
    "measured for 0.1 s.",
    recommend_own,
    WE_COUNT(recommend_own),
    { NULL },
    0,
    run_recommend
};
