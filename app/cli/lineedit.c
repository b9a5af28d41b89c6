/* SPDX-License-Identifier: Apache-2.0
 * lineedit.c - see lineedit.h. libedit draws and edits; the characters reach it through read_char below, since three things
 * are ours: Ctrl-C ends the line at once (libedit's own reader retries it), a changed window size is followed, and a paste of
 * several lines stays one message. The terminal marks pastes ("ESC [200~" ... "ESC [201~"); a newline inside stands
 * in the edited line as U+21B5 and becomes a newline again when the line is taken. */
#include "lineedit.h"

#include "cli.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/select.h>
#include <unistd.h>

#define HISTORY_LINES 1000
#define HISTORY_BYTES ((size_t)16 << 20) /* a longer file is not ours */
#define SEQUENCE_WAIT_MS 50              /* between the bytes of one key or character */
#define PASTED_NEWLINE 0x21B5            /* U+21B5, a bent arrow */

static const char pasted_newline[] = "\xE2\x86\xB5";

struct cli_lineedit {
    EditLine *el;
    History *history;
    FILE *stream;
    const char *prompt;
    char *history_path;
    wchar_t queue[8]; /* an escape sequence that was looked at and is none of ours */
    size_t n_queue;
    bool pasting, paste_cr; /* inside a paste; its last character was a carriage return */
    bool smart;
};

/* ---- Characters ---- */

enum { BYTE_END = 0, BYTE_NONE = -1, BYTE_INTERRUPTED = -2 };

static void follow_terminal(cli_lineedit *le)
{
    if (cli_take_resized()) el_resize(le->el);
    if (cli_take_continued()) { /* after Ctrl-Z and fg the shell's modes are on the terminal */
        el_set(le->el, EL_PREP_TERM, 0);
        el_set(le->el, EL_PREP_TERM, 1);
        el_set(le->el, EL_REFRESH);
    }
}

/* One byte from standard input. wait_ms < 0 waits without limit. Signals are only let in while waiting, so that none falls
 * between the question whether it came and the wait. */
static int next_byte(cli_lineedit *le, int wait_ms, unsigned char *out)
{
    sigset_t held, before;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGWINCH);
    sigaddset(&held, SIGCONT);
    sigprocmask(SIG_BLOCK, &held, &before);
    int result = BYTE_NONE;
    for (;;) {
        if (cli_interrupted()) {
            result = BYTE_INTERRUPTED;
            break;
        }
        follow_terminal(le);
        fd_set input;
        FD_ZERO(&input);
        FD_SET(STDIN_FILENO, &input);
        const struct timespec wait = { wait_ms / 1000, (long)(wait_ms % 1000) * 1000000L };
        const int n = pselect(STDIN_FILENO + 1, &input, NULL, NULL, wait_ms < 0 ? NULL : &wait, &before);
        if (n < 0 && errno == EINTR) continue;
        if (n > 0) {
            const ssize_t got = read(STDIN_FILENO, out, 1);
            if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
            result = got == 1 ? 1 : BYTE_END;
        } else if (n < 0) {
            result = BYTE_END;
        }
        break;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}

/* After an ESC: true where a paste mark follows ("[200~" begins, "[201~" ends). What else came is queued. */
static bool paste_mark(cli_lineedit *le)
{
    static const char mark[] = "[20";
    unsigned char c = 0;
    size_t n = 0;
    for (; n < 5; n++) {
        if (next_byte(le, SEQUENCE_WAIT_MS, &c) != 1) break;
        le->queue[le->n_queue++] = c;
        if (n < 3 ? c != mark[n] : n == 3 ? c != '0' && c != '1' : c != '~') break;
    }
    if (n < 5) return false;
    le->pasting = le->queue[3] == '0';
    le->paste_cr = false;
    le->n_queue = 0;
    return true;
}

/* The rest of a character whose first byte is there. */
static wchar_t finish_rune(cli_lineedit *le, unsigned char first)
{
    char bytes[4] = { (char)first };
    size_t n = 1;
    unsigned char c;
    while (n < 4 && we_utf8_incomplete_tail((we_str){ bytes, n }) == n && next_byte(le, SEQUENCE_WAIT_MS, &c) == 1)
        bytes[n++] = (char)c;
    size_t i = 0;
    const uint32_t rune = we_utf8_next((we_str){ bytes, n }, &i);
    return rune == WE_RUNE_INVALID ? 0xFFFD : (wchar_t)rune;
}

/* What a pasted character becomes; 0: nothing. */
static wchar_t pasted(cli_lineedit *le, wchar_t rune)
{
    const bool after_cr = le->paste_cr;
    le->paste_cr = rune == '\r';
    if (rune == '\r' || (rune == '\n' && !after_cr)) return PASTED_NEWLINE;
    if (rune == '\t') return rune;
    return rune < 0x20 || rune == 0x7F ? 0 : rune;
}

/* libedit's reader: 1 and a character, 0 at the end, -1 where Ctrl-C ends the line. */
static int read_char(EditLine *el, wchar_t *out)
{
    cli_lineedit *le = NULL;
    el_get(el, EL_CLIENTDATA, (void **)&le);
    fflush(le->stream);
    for (;;) {
        if (le->n_queue) {
            *out = le->queue[0];
            memmove(le->queue, le->queue + 1, --le->n_queue * sizeof *le->queue);
            return 1;
        }
        unsigned char first;
        const int got = next_byte(le, -1, &first);
        if (got != 1) {
            errno = got == BYTE_INTERRUPTED ? EINTR : 0;
            return got == BYTE_INTERRUPTED ? -1 : 0;
        }
        if (first == 0x1B && le->smart && paste_mark(le)) continue;
        const wchar_t rune = first < 0x80 ? (wchar_t)first : finish_rune(le, first);
        *out = le->pasting ? pasted(le, rune) : rune;
        if (*out) return 1;
    }
}

static char *show_prompt(EditLine *el)
{
    cli_lineedit *le = NULL;
    el_get(el, EL_CLIENTDATA, (void **)&le);
    return (char *)(uintptr_t)le->prompt; /* libedit's type; it does not write */
}

/* ---- History ---- */

static void history_enter(cli_lineedit *le, const char *line)
{
    HistEvent event;
    if (le->history && *line) history(le->history, &event, H_ENTER, line);
}

/* A line a time; a newline inside an entry is U+21B5 there too. */
static we_status history_load(cli_lineedit *le, we_error *err)
{
    char *text;
    size_t len;
    if (!le->history_path || !we_path_exists(le->history_path)) return WE_OK;
    const we_status st = we_file_read(le->history_path, HISTORY_BYTES, &text, &len, err);
    if (st) return st;
    for (char *p = text; *p;) {
        char *end = strchr(p, '\n');
        if (end) *end = 0;
        if (we_utf8_valid(we_str_from(p)) == strlen(p)) history_enter(le, p);
        if (!end) break;
        p = end + 1;
    }
    we_free(text);
    return WE_OK;
}

/* The last `most` lines of a text, each with its newline. */
static we_str last_lines(we_str text, size_t most)
{
    size_t start = text.len;
    for (size_t n = 0; start > 0; start--)
        if (text.ptr[start - 1] == '\n' && start < text.len && ++n == most) break;
    return (we_str){ text.ptr + start, text.len - start };
}

/* The file is read again first, so that two chats at once keep each other's lines. */
static we_status history_append(const char *path, const char *line, we_error *err)
{
    we_buf all = { 0 };
    char *text;
    size_t len;
    if (!we_file_read(path, HISTORY_BYTES, &text, &len, NULL)) {
        we_buf_append_str(&all, last_lines((we_str){ text, len }, HISTORY_LINES - 1));
        we_free(text);
        if (all.len && all.ptr[all.len - 1] != '\n') we_buf_append_char(&all, '\n');
    }
    we_buf_append_str(&all, we_str_from(line));
    we_buf_append_char(&all, '\n');
    we_status st = we_buf_status(&all, err, "the input history");
    if (!st) st = we_file_write(path, all.ptr, all.len, 0600, err);
    we_buf_deinit(&all);
    return st;
}

we_status cli_lineedit_remember(cli_lineedit *le, const char *line, we_error *err)
{
    we_buf entry = { 0 };
    for (const char *p = line; *p; p++) {
        if (*p == '\n')
            we_buf_append(&entry, pasted_newline, sizeof pasted_newline - 1);
        else
            we_buf_append_char(&entry, *p);
    }
    we_status st = we_buf_status(&entry, err, "the input history");
    if (!st && entry.len) {
        history_enter(le, entry.ptr);
        if (le->history_path) st = history_append(le->history_path, entry.ptr, err);
    }
    we_buf_deinit(&entry);
    return st;
}

/* ---- The editor ---- */

/* libedit works on wide characters of the locale: without a UTF-8 one it would garble what is typed. */
static void choose_locale(void)
{
    static const char *const others[] = { "C.UTF-8", "en_US.UTF-8", "UTF-8" };
    setlocale(LC_CTYPE, "");
    for (size_t i = 0; strcmp(nl_langinfo(CODESET), "UTF-8") != 0 && i < WE_COUNT(others); i++)
        setlocale(LC_CTYPE, others[i]);
}

we_status cli_lineedit_open(cli_lineedit **out, FILE *stream, const char *history_path, we_error *err)
{
    cli_lineedit *le = *out = we_calloc(1, sizeof *le);
    if (!le) return we_fail(err, WE_E_NOMEM, "no memory for the line editor");
    choose_locale();
    le->stream = stream;
    le->prompt = "";
    le->smart = cli_is_smart_terminal(stream);
    le->history_path = history_path ? we_strdup(history_path) : NULL;
    le->history = history_init();
    le->el = el_init("whisperengine", stdin, stream, stderr);
    if (!le->el || !le->history || (history_path && !le->history_path)) {
        cli_lineedit_close(le);
        *out = NULL;
        return we_fail(err, WE_E_NOMEM, "no memory for the line editor");
    }
    HistEvent event;
    history(le->history, &event, H_SETSIZE, HISTORY_LINES);
    history(le->history, &event, H_SETUNIQUE, 1); /* a line said twice in a row is kept once */
    el_set(le->el, EL_CLIENTDATA, le);
    el_set(le->el, EL_SIGNAL, 0);
    el_set(le->el, EL_GETCFN, read_char);
    el_set(le->el, EL_EDITOR, "emacs");
    el_set(le->el, EL_HIST, history, le->history);
    el_set(le->el, EL_PROMPT_ESC, show_prompt, '\1');
    el_set(le->el, EL_BIND, "^I", "ed-insert", NULL);
    el_set(le->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(le->el, NULL); /* the person's ~/.editrc */
    return history_load(le, err);
}

void cli_lineedit_close(cli_lineedit *le)
{
    if (!le) return;
    if (le->el) el_end(le->el);
    if (le->history) history_end(le->history);
    we_free(le->history_path);
    we_free(le);
}

static void take_line(const char *text, we_buf *line)
{
    we_buf_clear(line);
    for (const char *p = text; *p && *p != '\n';) {
        if (strncmp(p, pasted_newline, sizeof pasted_newline - 1) == 0) {
            we_buf_append_char(line, '\n');
            p += sizeof pasted_newline - 1;
        } else {
            we_buf_append_char(line, *p++);
        }
    }
    while (line->len && line->ptr[line->len - 1] == '\n') line->ptr[--line->len] = 0;
}

cli_line cli_lineedit_read(cli_lineedit *le, const char *prompt, we_buf *line)
{
    int n = 0;
    le->prompt = prompt;
    le->n_queue = 0;
    le->pasting = false;
    cli_interrupt_clear();
    if (le->smart) cli_paste_mode(fileno(le->stream), true);
    el_set(le->el, EL_PREP_TERM, 1); /* before the prompt is drawn: a fast typist's first key is not echoed twice */
    const char *text = el_gets(le->el, &n);
    if (le->smart) cli_paste_mode(fileno(le->stream), false);
    if (text && n > 0) {
        take_line(text, line);
        return line->failed ? CLI_LINE_END : CLI_LINE_TEXT;
    }
    if (cli_interrupted()) {
        cli_interrupt_clear();
        fprintf(le->stream, "^C\n");
        fflush(le->stream);
        return CLI_LINE_INTERRUPTED;
    }
    fprintf(le->stream, "\n");
    fflush(le->stream);
    return CLI_LINE_END;
}
