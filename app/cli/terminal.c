/* SPDX-License-Identifier: Apache-2.0
 * terminal.c - standard output and standard error of the command. See terminal.h. */
#include "terminal.h"

#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

bool cli_is_terminal(FILE *stream) { return isatty(fileno(stream)) == 1; }

bool cli_is_smart_terminal(FILE *stream)
{
    const char *term = getenv("TERM");
    return cli_is_terminal(stream) && term && *term && strcmp(term, "dumb") != 0;
}

const char *cli_style_code(FILE *stream, cli_style style)
{
    static const char *const codes[] = { "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[36m" };
    const char *no_color = getenv("NO_COLOR");
    if ((no_color && *no_color) || !cli_is_smart_terminal(stream)) return "";
    return codes[style];
}

/* ---- Escaping ---- */

static bool is_bidi_control(uint32_t rune)
{
    return rune == 0x061C || rune == 0x200E || rune == 0x200F || (rune >= 0x202A && rune <= 0x202E) ||
           (rune >= 0x2066 && rune <= 0x2069);
}

static void escape(we_buf *out, we_str text, bool one_line)
{
    for (size_t i = 0; i < text.len;) {
        const size_t start = i;
        const uint32_t rune = we_utf8_next(text, &i);
        const bool layout = rune == '\n' || rune == '\t';
        if (rune == WE_RUNE_INVALID)
            for (size_t k = start; k < i; k++) we_buf_printf(out, "\\x%02x", (unsigned char)text.ptr[k]);
        else if (layout && one_line)
            we_buf_append_str(out, rune == '\n' ? WE_STR("\\n") : WE_STR("\\t"));
        else if (layout)
            we_buf_append_char(out, (char)rune);
        else if (rune < 0x20 || rune == 0x7F)
            we_buf_printf(out, "\\x%02x", (unsigned)rune);
        else if ((rune >= 0x80 && rune <= 0x9F) || is_bidi_control(rune))
            we_buf_printf(out, "\\u%04x", (unsigned)rune);
        else
            we_buf_append(out, text.ptr + start, i - start);
    }
}

void cli_escape(we_buf *out, we_str text) { escape(out, text, false); }

const char *cli_escape_line(we_buf *out, const char *text)
{
    we_buf_clear(out);
    escape(out, we_str_from(text), true);
    return out->ptr ? out->ptr : "";
}

/* ---- Standard output ---- */

static int out_errno; /* the first failure; nothing is written after it */

void cli_out_bytes(we_str bytes)
{
    if (out_errno || bytes.len == 0) return;
    if (fwrite(bytes.ptr, 1, bytes.len, stdout) != bytes.len) out_errno = errno ? errno : EIO;
}

void cli_out_text(we_str text)
{
    we_buf escaped = { 0 };
    cli_escape(&escaped, text);
    if (escaped.failed)
        out_errno = ENOMEM;
    else
        cli_out_bytes(we_buf_str(&escaped));
    we_buf_deinit(&escaped);
}

void cli_out_exact(we_str text)
{
    if (cli_is_terminal(stdout))
        cli_out_text(text);
    else
        cli_out_bytes(text);
}

void cli_out_printf(const char *format, ...)
{
    if (out_errno) return;
    va_list args;
    va_start(args, format);
    if (vprintf(format, args) < 0) out_errno = errno ? errno : EIO;
    va_end(args);
}

bool cli_out_flush(void)
{
    if (!out_errno && fflush(stdout) != 0) out_errno = errno ? errno : EIO;
    return out_errno == 0;
}

int cli_out_finish(int status)
{
    if (cli_out_flush() && fclose(stdout) != 0) out_errno = errno ? errno : EIO;
    if (!out_errno) return status;
    if (out_errno != EPIPE) /* a reader that left needs no message */
        fprintf(stderr, "whisperengine: standard output: %s\n", strerror(out_errno));
    return status ? status : CLI_FAILED;
}

/* ---- Standard error ---- */

static void say(const char *prefix, cli_style style, const char *format, va_list args)
{
    char message[4096];
    we_buf escaped = { 0 };
    vsnprintf(message, sizeof message, format, args);
    cli_escape(&escaped, we_str_from(message));
    cli_out_flush(); /* both may be the same terminal */
    cli_progress_end();
    fprintf(stderr, "%s%s%s%s\n", cli_style_code(stderr, style), prefix, escaped.ptr ? escaped.ptr : "",
            cli_style_code(stderr, CLI_STYLE_RESET));
    we_buf_deinit(&escaped);
}

void cli_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("whisperengine: ", CLI_STYLE_RED, format, args);
    va_end(args);
}

void cli_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("", CLI_STYLE_DIM, format, args);
    va_end(args);
}

int cli_fail(const we_error *err)
{
    cli_error("%s", err->message[0] ? err->message : we_status_text(err->status));
    return CLI_FAILED;
}

/* ---- Progress ---- */

#define PROGRESS_AFTER_S 0.5
#define PROGRESS_EVERY_S 0.1

static atomic_bool progress_drawn; /* log lines, which come from any thread, erase it first */

cli_progress cli_progress_begin(const char *what, bool show_bytes)
{
    return (cli_progress){ .what = what, .show_bytes = show_bytes, .start_s = we_now_s() };
}

bool cli_progress_step(void *user, uint64_t done, uint64_t total)
{
    cli_progress *p = user;
    const double now = we_now_s();
    if (now - p->start_s < PROGRESS_AFTER_S || now - p->drawn_s < PROGRESS_EVERY_S || total == 0) return true;
    if (!cli_is_smart_terminal(stderr)) return true;
    const int percent = (int)(100.0 * (double)WE_MIN(done, total) / (double)total);
    char a[24], b[24];
    p->drawn_s = now;
    atomic_store(&progress_drawn, true);
    fprintf(stderr, "\r\x1b[K%s %3d%%", p->what, percent);
    if (p->show_bytes) fprintf(stderr, "  %s of %s", we_format_bytes(a, done), we_format_bytes(b, total));
    if (p->show_rate && done) {
        const double rate = (double)done / (now - p->start_s), left_s = (double)(total - WE_MIN(done, total)) / rate;
        fprintf(stderr, "  %s/s  %.0f:%02.0f left", we_format_bytes(a, (uint64_t)rate), floor(left_s / 60),
                floor(fmod(left_s, 60)));
    }
    fflush(stderr);
    return true;
}

void cli_progress_show(const char *line)
{
    we_buf escaped = { 0 };
    atomic_store(&progress_drawn, true);
    fprintf(stderr, "\r\x1b[K%s", cli_escape_line(&escaped, line));
    fflush(stderr);
    we_buf_deinit(&escaped);
}

void cli_progress_end(void)
{
    if (!atomic_exchange(&progress_drawn, false)) return;
    fputs("\r\x1b[K", stderr);
    fflush(stderr);
}

/* ---- JSON answers ---- */

void cli_json_begin(cli_json *json)
{
    *json = (cli_json){ 0 };
    json->w.buf = &json->buf;
    json->w.indent = cli_is_terminal(stdout) ? 2 : 0;
    json->w.ascii = cli_is_terminal(stdout); /* so that no control character reaches it */
}

int cli_json_end(cli_json *json)
{
    const bool failed = json->buf.failed;
    if (failed) {
        cli_error("no memory for the answer");
    } else {
        cli_out_bytes(we_buf_str(&json->buf));
        cli_out_printf("\n");
    }
    we_buf_deinit(&json->buf);
    return failed ? CLI_FAILED : CLI_OK;
}

void cli_json_text(cli_json *json, const char *key, const char *value)
{
    we_json_key(&json->w, key);
    if (value)
        we_json_write_str(&json->w, we_str_from(value));
    else
        we_json_write_null(&json->w);
}

void cli_json_i64(cli_json *json, const char *key, uint64_t value)
{
    we_json_key(&json->w, key);
    we_json_write_i64(&json->w, (int64_t)WE_MIN(value, (uint64_t)INT64_MAX));
}

void cli_json_f64(cli_json *json, const char *key, double value)
{
    we_json_key(&json->w, key);
    we_json_write_f64(&json->w, value);
}

void cli_json_bool(cli_json *json, const char *key, bool value)
{
    we_json_key(&json->w, key);
    we_json_write_bool(&json->w, value);
}

void cli_json_ids(cli_json *json, const char *key, const int32_t *ids, size_t n)
{
    we_json_key(&json->w, key);
    we_json_begin_array(&json->w);
    for (size_t i = 0; i < n; i++) we_json_write_i64(&json->w, ids[i]);
    we_json_end_array(&json->w);
}
