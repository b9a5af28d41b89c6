/* SPDX-License-Identifier: Apache-2.0
 * terminal.h - what the command writes: answers on standard output, everything else on standard error; colours only where a
 * terminal shows them; foreign text escaped so that it can't drive the terminal; failed writes noticed. Also the line that
 * shows how far a long piece of work has come, and the answer as JSON. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include "base/base.h"

#include <stdio.h>

bool cli_is_terminal(FILE *stream);
/** A terminal that understands escape sequences ($TERM is set and not "dumb"). */
bool cli_is_smart_terminal(FILE *stream);

typedef enum cli_style {
    CLI_STYLE_RESET,
    CLI_STYLE_BOLD,
    CLI_STYLE_DIM,
    CLI_STYLE_RED,
    CLI_STYLE_GREEN,
    CLI_STYLE_CYAN
} cli_style;
/** The escape sequence for a style, "" where the stream shows none (no terminal, NO_COLOR). */
const char *cli_style_code(FILE *stream, cli_style style);

/** Append text with what could drive a terminal made visible: C0 but newline and tab, DEL and broken bytes as \xNN; C1 and
 * the bidirectional controls as \uNNNN. */
void cli_escape(we_buf *out, we_str text);
/** The same for one line, such as a name: newline and tab are shown escaped too. Returns out's text, "" if memory is out. */
const char *cli_escape_line(we_buf *out, const char *text);

/* ---- Standard output ---- */

void cli_out_bytes(we_str bytes); /* as they are */
void cli_out_text(we_str text);   /* escaped */
void cli_out_exact(we_str text);  /* as they are into a file or pipe, escaped on a terminal */
void cli_out_printf(const char *format, ...) WE_PRINTF(1, 2); /* our own text; foreign parts must be escaped before */
/** Hand all to the system. False once anything was lost (disk full, ...): the reason is told by cli_out_finish. */
bool cli_out_flush(void);
/** Flush and close; gives `status`, or CLI_FAILED with a message where output was lost. */
int cli_out_finish(int status);

/* ---- Standard error ---- */

void cli_error(const char *format, ...) WE_PRINTF(1, 2); /* "whisperengine: ..." */
void cli_note(const char *format, ...) WE_PRINTF(1, 2);  /* a line without prefix, dimmed */
/** Print err's message; gives CLI_FAILED. */
int cli_fail(const we_error *err);

/* ---- Progress ---- */

typedef struct cli_progress {
    const char *what; /* "Loading" */
    bool show_bytes;  /* done and total are bytes worth showing */
    bool show_rate;   /* and how fast they go, and how long it will take */
    double start_s, drawn_s;
} cli_progress;

cli_progress cli_progress_begin(const char *what, bool show_bytes);
/** A we_progress_fn, with a cli_progress as user. Draws on standard error after half a second, if that is a terminal. */
bool cli_progress_step(void *user, uint64_t done, uint64_t total);
/** Draw a line of one's own in its place, where standard error is a terminal. */
void cli_progress_show(const char *line);
/** Erase what is drawn. */
void cli_progress_end(void);

/* ---- JSON answers ---- */

typedef struct cli_json { /* begin, write through `w`, end */
    we_json_writer w;
    we_buf buf;
} cli_json;

void cli_json_begin(cli_json *json);
/** Print the value and a newline, free the buffer. Gives CLI_OK, or CLI_FAILED where memory ran out. */
int cli_json_end(cli_json *json);
void cli_json_text(cli_json *json, const char *key, const char *value); /* NULL: null */
void cli_json_i64(cli_json *json, const char *key, uint64_t value);
void cli_json_f64(cli_json *json, const char *key, double value);
void cli_json_bool(cli_json *json, const char *key, bool value);
void cli_json_ids(cli_json *json, const char *key, const int32_t *ids, size_t n);

#endif
