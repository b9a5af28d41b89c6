/* SPDX-License-Identifier: Apache-2.0
 * lineedit.h - a line from the person at the terminal, with editing (libedit) and a history that outlives the program. */
#ifndef CLI_LINEEDIT_H
#define CLI_LINEEDIT_H

#include "base/base.h"

#include <stdio.h>

typedef struct cli_lineedit cli_lineedit;

typedef enum cli_line {
    CLI_LINE_TEXT,        /* `line` holds it, without the newline; pasted newlines are in it */
    CLI_LINE_INTERRUPTED, /* Ctrl-C: what was typed is dropped */
    CLI_LINE_END          /* Ctrl-D on an empty line, or the terminal is gone */
} cli_line;

/** stream      : the terminal to draw on; the input is standard input.
 *  history_path: the file of earlier lines, or NULL for none; read now, each added line is written at once (mode 0600).
 *  Errors      : WE_E_NOMEM; a history that can't be read is only a message in `err`, and *out is there. */
we_status cli_lineedit_open(cli_lineedit **out, FILE *stream, const char *history_path, we_error *err);
void cli_lineedit_close(cli_lineedit *le);
/** `prompt` may hold escape sequences between \1 and \1. */
cli_line cli_lineedit_read(cli_lineedit *le, const char *prompt, we_buf *line);
we_status cli_lineedit_remember(cli_lineedit *le, const char *line, we_error *err);

#endif
