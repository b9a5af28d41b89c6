/* SPDX-License-Identifier: Apache-2.0
 * cmd_top.c - `top`: the processes that run a model, once or as a view that is drawn anew every second. A frame is built whole
 * and written at once; a line never gets wider than the terminal, and where a table does not fit, each process is a few short lines. */
#include "cli.h"

#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define REFRESH_S 1.0
#define TABLE_COLUMNS 76 /* below that, short lines */

typedef struct sample { /* one look at all processes */
    we_monitor_info *items;
    size_t n, capacity;
    bool failed;
    double at_s;
    we_memory_info memory;
} sample;

static void sample_deinit(sample *s)
{
    we_free(s->items);
    *s = (sample){ 0 };
}

static bool collect(void *user, const we_monitor_info *info)
{
    sample *s = user;
    if (s->n == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 8;
        we_monitor_info *items = we_realloc_array(s->items, capacity, sizeof *items);
        if (!items) return s->failed = true, false;
        s->items = items;
        s->capacity = capacity;
    }
    s->items[s->n++] = *info;
    return true;
}

static int by_pid(const void *a, const void *b)
{
    const we_monitor_info *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static int take_sample(sample *s)
{
    we_error err;
    *s = (sample){ .at_s = we_now_s(), .memory = { .size = sizeof s->memory } };
    we_status st = we_memory_get_info(&s->memory, &err);
    if (!st) st = we_monitor_each(collect, s, &err);
    if (!st && !s->failed) {
        if (s->n) qsort(s->items, s->n, sizeof *s->items, by_pid);
        return CLI_OK;
    }
    if (!st) cli_error("no memory for the list of processes");
    sample_deinit(s);
    return st ? cli_fail(&err) : CLI_FAILED;
}

/* What came since the sample before, while answers come: of all sequences together. Else the latest answer's own rate. */
static double speed_of(const we_monitor_info *now, const sample *before, double at_s)
{
    for (size_t i = 0; before && i < before->n; i++) {
        const we_monitor_info *then = &before->items[i];
        if (then->pid != now->pid || !then->n_running || !now->n_running || at_s <= before->at_s ||
            now->n_generated_tokens < then->n_generated_tokens)
            continue;
        return (double)(now->n_generated_tokens - then->n_generated_tokens) / (at_s - before->at_s);
    }
    return now->generation_tokens_per_second;
}

/* ---- JSON ---- */

static void write_process(cli_json *json, const we_monitor_info *p)
{
    we_json_begin_object(&json->w);
    cli_json_i64(json, "pid", (uint64_t)p->pid);
    cli_json_text(json, "program", p->program);
    cli_json_text(json, "model", p->model);
    cli_json_text(json, "device", p->device);
    cli_json_i64(json, "models", p->n_models);
    cli_json_i64(json, "weights_bytes", p->weights_bytes);
    cli_json_i64(json, "kv_bytes", p->kv_bytes);
    cli_json_i64(json, "scratch_bytes", p->scratch_bytes);
    cli_json_i64(json, "resident_bytes", p->resident_bytes);
    cli_json_i64(json, "running", p->n_running);
    cli_json_i64(json, "waiting", p->n_waiting);
    cli_json_i64(json, "done", p->n_done);
    cli_json_i64(json, "failed", p->n_failed);
    cli_json_i64(json, "prompt_tokens", p->n_prompt_tokens);
    cli_json_i64(json, "cached_tokens", p->n_cached_tokens);
    cli_json_i64(json, "generated_tokens", p->n_generated_tokens);
    cli_json_f64(json, "prompt_tokens_per_second", p->prompt_tokens_per_second);
    cli_json_f64(json, "generation_tokens_per_second", p->generation_tokens_per_second);
    cli_json_f64(json, "time_to_first_token_s", p->time_to_first_token_s);
    we_json_end_object(&json->w);
}

static int print_json(const sample *s)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_i64(&json, "system_total_bytes", s->memory.total_bytes);
    cli_json_i64(&json, "system_available_bytes", s->memory.available_bytes);
    we_json_key(&json.w, "processes");
    we_json_begin_array(&json.w);
    for (size_t i = 0; i < s->n; i++) write_process(&json, &s->items[i]);
    we_json_end_array(&json.w);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

/* ---- A frame ---- */

typedef struct frame {
    we_buf text;
    const char *line_end; /* "\n", or what also clears the rest of a terminal's line */
    int columns, rows;    /* rows 0: as many as there are */
    int n_rows;
    const char *plain, *dim, *bold;
} frame;

/* Counted in code points: what a model's name holds is seldom wider. */
static we_str cut(const char *text, int columns)
{
    const we_str all = we_str_from(text);
    size_t i = 0;
    for (int n = 0; n < columns && i < all.len; n++) we_utf8_next(all, &i);
    return (we_str){ text, i };
}

static void put_line(frame *f, const char *style, const char *format, ...) WE_PRINTF(3, 4);
static void put_line(frame *f, const char *style, const char *format, ...)
{
    char line[1024];
    we_buf escaped = { 0 };
    va_list args;
    if (f->rows && f->n_rows >= f->rows) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    const we_str shown = cut(cli_escape_line(&escaped, line), f->columns);
    we_buf_printf(&f->text, "%s%.*s%s%s", style, (int)shown.len, shown.ptr, style[0] ? f->plain : "", f->line_end);
    f->n_rows++;
    we_buf_deinit(&escaped);
}

/* A text cut or filled to exactly so many columns. */
static const char *padded(char out[1100], const char *text, int columns)
{
    const we_str head = cut(text, columns);
    int n = 0;
    for (size_t i = 0; i < head.len; n++) we_utf8_next(head, &i);
    snprintf(out, 1100, "%.*s%*s", (int)head.len, head.ptr, columns - n, "");
    return out;
}

static void put_process(frame *f, const we_monitor_info *p, double speed)
{
    char weights[24], kv[24], scratch[24], resident[24], name[1100], first[24];
    we_format_bytes(weights, p->weights_bytes);
    we_format_bytes(kv, p->kv_bytes);
    we_format_bytes(scratch, p->scratch_bytes);
    we_format_bytes(resident, p->resident_bytes);
    snprintf(first, sizeof first, p->time_to_first_token_s < 100 ? "%.2f s" : "%.0f s", p->time_to_first_token_s);
    if (f->columns >= TABLE_COLUMNS) {
        put_line(f, p->n_running + p->n_waiting ? f->bold : "", "%7lld  %s %3zu %4zu %8.1f %8.1f %8s %9s",
                 (long long)p->pid, padded(name, p->model, f->columns - 55), p->n_running, p->n_waiting, speed,
                 p->prompt_tokens_per_second, first, resident);
        put_line(f, f->dim, "         weights %s, KV cache %s, scratch %s; %llu done, %llu failed", weights, kv,
                 scratch, (unsigned long long)p->n_done, (unsigned long long)p->n_failed);
        put_line(f, f->dim, "         %s, %s", p->program, p->device);
        return;
    }
    put_line(f, p->n_running + p->n_waiting ? f->bold : "", "%lld %s", (long long)p->pid, p->model);
    put_line(f, "", "  %.1f tokens/s, %zu run, %zu wait", speed, p->n_running, p->n_waiting);
    put_line(f, "", "  prompt %.1f/s, first %s", p->prompt_tokens_per_second, first);
    put_line(f, f->dim, "  %s: weights %s", resident, weights);
    put_line(f, f->dim, "  KV %s, scratch %s", kv, scratch);
}

static void build(frame *f, const sample *s, const sample *before)
{
    char available[24], total[24];
    const int each = f->columns >= TABLE_COLUMNS ? 3 : 5;
    we_format_bytes(available, s->memory.available_bytes);
    we_format_bytes(total, s->memory.total_bytes);
    if (f->columns >= TABLE_COLUMNS) {
        put_line(f, "", "%zu process%s with a model; memory: %s of %s available", s->n, s->n == 1 ? "" : "es",
                 available, total);
    } else {
        put_line(f, "", "%zu process%s with a model", s->n, s->n == 1 ? "" : "es");
        put_line(f, "", "%s of %s available", available, total);
    }
    put_line(f, "", "%s", "");
    if (s->n == 0) put_line(f, f->dim, "None runs now: `whisperengine chat` in another terminal is one.");
    if (s->n && f->columns >= TABLE_COLUMNS) {
        char name[1100];
        put_line(f, f->bold, "%7s  %s %3s %4s %8s %8s %8s %9s", "PID", padded(name, "MODEL", f->columns - 55), "RUN",
                 "WAIT", "TOKENS/S", "PROMPT/S", "FIRST", "MEMORY");
    }
    for (size_t i = 0; i < s->n; i++) {
        const bool last = i + 1 == s->n;
        if (f->rows && f->n_rows + each + !last > f->rows) {
            put_line(f, f->dim, "and %zu more", s->n - i);
            break;
        }
        put_process(f, &s->items[i], speed_of(&s->items[i], before, s->at_s));
    }
}

static int print_once(const sample *s)
{
    struct winsize size = { 0 };
    const char *dim = cli_style_code(stdout, CLI_STYLE_DIM), *bold = cli_style_code(stdout, CLI_STYLE_BOLD);
    frame f = {
        .line_end = "\n", .columns = 80, .plain = cli_style_code(stdout, CLI_STYLE_RESET), .dim = dim, .bold = bold
    };
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col) f.columns = size.ws_col;
    build(&f, s, NULL);
    cli_out_bytes(we_buf_str(&f.text));
    const bool failed = f.text.failed;
    we_buf_deinit(&f.text);
    if (failed) cli_error("no memory for the answer");
    return failed ? CLI_FAILED : CLI_OK;
}

/* ---- The live view ---- */

static struct termios terminal_before;

static void enter(void)
{
    struct termios raw = terminal_before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    cli_out_printf("\x1b[?1049h\x1b[?25l"); /* the other screen, no cursor */
}

static void leave(void)
{
    cli_out_printf("\x1b[?25h\x1b[?1049l");
    cli_out_flush();
    tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_before);
}

static void draw(const sample *s, const sample *before)
{
    struct winsize size = { 0 };
    frame f = { .line_end = "\x1b[K\r\n",
                .columns = 80,
                .rows = 23,
                .plain = cli_style_code(stdout, CLI_STYLE_RESET),
                .dim = cli_style_code(stdout, CLI_STYLE_DIM),
                .bold = cli_style_code(stdout, CLI_STYLE_BOLD) };
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row) {
        f.columns = size.ws_col;
        f.rows = WE_MAX(size.ws_row - 1, 1); /* the last one says how to leave */
    }
    we_buf_append_str(&f.text, WE_STR("\x1b[H"));
    build(&f, s, before);
    we_buf_append_str(&f.text, WE_STR("\x1b[J"));
    we_buf_printf(&f.text, "\x1b[%d;1H%s%.*s%s", f.rows + 1, f.dim, f.columns, "q quits", f.plain);
    if (!f.text.failed) cli_out_bytes(we_buf_str(&f.text));
    we_buf_deinit(&f.text);
}

/* Wait for the next refresh; false: leave. Signals and resizing end the wait early. */
static bool wait_for_key(double until_s)
{
    const double left_s = until_s - we_now_s();
    struct pollfd input = { STDIN_FILENO, POLLIN, 0 };
    char key;
    if (poll(&input, 1, left_s > 0 ? (int)(left_s * 1000) + 1 : 0) <= 0) return !cli_interrupted();
    if (read(STDIN_FILENO, &key, 1) != 1) return false;
    return key != 'q' && key != 'Q' && !cli_interrupted();
}

static int watch(void)
{
    sample before = { 0 }, now = { 0 };
    int status = CLI_OK;
    if (tcgetattr(STDIN_FILENO, &terminal_before) != 0) {
        cli_error("top: standard input is no terminal; --once shows the figures once");
        return CLI_FAILED;
    }
    cli_interrupt_install(true);
    cli_interrupt_catch();
    enter();
    for (bool go_on = true; go_on && !cli_interrupted();) {
        if ((status = take_sample(&now))) break;
        const double until_s = now.at_s + REFRESH_S;
        do {
            draw(&now, &before);
            if (!cli_out_flush()) go_on = false;
            go_on = go_on && wait_for_key(until_s);
            if (go_on && cli_take_continued()) enter();
        } while (go_on && cli_take_resized() && we_now_s() < until_s);
        sample_deinit(&before);
        before = now;
        now = (sample){ 0 };
    }
    sample_deinit(&before);
    leave();
    return status ? status : CLI_OK;
}

static int run_top(const cli_options *options)
{
    if (!options->json && !options->once && cli_is_smart_terminal(stdout)) return watch();
    sample s;
    int status = take_sample(&s);
    if (status) return status;
    status = options->json ? print_json(&s) : print_once(&s);
    sample_deinit(&s);
    return status;
}

#define AT(field) offsetof(cli_options, field)
static const cli_option top_own[] = {
    { "once", '1', CLI_FLAG, AT(once), 0, 0, NULL, "show it once and end" },
};
const cli_command cli_command_top = {
    "top",
    "[options]",
    "watch the processes that run a model",
    "Every second: requests that get tokens (RUN) or wait for their first one (WAIT), speed of answers and prompts,\n"
    "time to the first token, memory. q quits. Where standard output is no terminal, once.",
    top_own,
    WE_COUNT(top_own),
    { NULL },
    0,
    run_top
};
