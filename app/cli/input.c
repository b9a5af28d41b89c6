/* SPDX-License-Identifier: Apache-2.0
 * input.c - reading standard input and files whole or line by line. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>

int cli_read_all(FILE *stream, const char *name, we_buf *out)
{
    size_t n;
    do {
        if (!we_buf_reserve(out, 65536)) {
            cli_error("%s: no memory for the text after %zu bytes", name, out->len);
            return CLI_FAILED;
        }
        n = fread(out->ptr + out->len, 1, 65536, stream);
        out->len += n;
        out->ptr[out->len] = 0;
    } while (n > 0);
    if (!ferror(stream)) return CLI_OK;
    cli_error("%s: %s", name, strerror(errno));
    return CLI_FAILED;
}

int cli_read_file(const char *path, we_buf *out)
{
    if (strcmp(path, "-") == 0) return cli_read_all(stdin, "standard input", out);
    FILE *file = fopen(path, "rb");
    if (!file) {
        cli_error("%s: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    const int status = cli_read_all(file, path, out);
    fclose(file);
    return status;
}

int cli_each_line(cli_line_fn fn, void *user)
{
    char *line = NULL;
    size_t capacity = 0, number = 0;
    ssize_t n;
    int status = CLI_OK;
    errno = 0;
    while (!status && (n = getline(&line, &capacity, stdin)) >= 0) {
        if (n > 0 && line[n - 1] == '\n') line[--n] = 0;
        status = fn(user, (we_str){ line, (size_t)n }, ++number);
        if (!cli_out_flush()) break; /* cli_out_finish tells why */
    }
    if (!status && ferror(stdin)) {
        cli_error("standard input: %s", strerror(errno));
        status = CLI_FAILED;
    }
    free(line);
    return status;
}

bool cli_ask(const char *question)
{
    char answer[16];
    if (!cli_is_terminal(stdin) || !cli_is_terminal(stderr)) return false;
    we_buf shown = { 0 };
    fprintf(stderr, "%s [y/N] ", cli_escape_line(&shown, question));
    we_buf_deinit(&shown);
    if (!fgets(answer, sizeof answer, stdin)) return false;
    return strcmp(answer, "y\n") == 0 || strcmp(answer, "Y\n") == 0 || strcmp(answer, "yes\n") == 0;
}
