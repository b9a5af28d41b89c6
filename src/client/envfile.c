/* SPDX-License-Identifier: Apache-2.0
 * envfile.c - files of KEY=value lines, read as shells and dotenv readers agree on, and changed a line at a time so that
 * comments and order stay. Which keys mean something is config.c's knowledge. */
#include "client/client_int.h"

typedef struct cursor {
    we_str text; /* one line, without its end */
    size_t at;
} cursor;

static bool at_end(const cursor *c) { return c->at == c->text.len; }
static char here(const cursor *c) { return at_end(c) ? '\0' : c->text.ptr[c->at]; }

static void skip_blanks(cursor *c)
{
    while (here(c) == ' ' || here(c) == '\t') c->at++;
}

static bool is_key_char(char c, bool first)
{
    return c == '_' || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (!first && c >= '0' && c <= '9');
}

static we_str take_key(cursor *c)
{
    const size_t start = c->at;
    while (is_key_char(here(c), c->at == start)) c->at++;
    return (we_str){ c->text.ptr + start, c->at - start };
}

static char unescaped(char c) { return c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c; }

/* Behind the opening quote. Gives NULL, or what is wrong. */
static const char *take_quoted(cursor *c, char quote, we_buf *value)
{
    for (; !at_end(c) && here(c) != quote; c->at++) {
        char ch = here(c);
        if (ch == '\\' && quote == '"' && c->at + 1 < c->text.len && strchr("nrt\"\\$`", c->text.ptr[c->at + 1]) &&
            c->text.ptr[c->at + 1])
            ch = unescaped(c->text.ptr[++c->at]);
        we_buf_append_char(value, ch);
    }
    if (at_end(c)) return "the quote is not closed on its line";
    c->at++;
    skip_blanks(c);
    return at_end(c) || here(c) == '#' ? NULL : "something stands behind the closing quote";
}

static void take_plain(cursor *c, we_buf *value)
{
    const size_t start = c->at;
    size_t end = start;
    for (; !at_end(c); c->at++) {
        const bool blank = here(c) == ' ' || here(c) == '\t';
        if (here(c) == '#' && (c->at == start || end < c->at)) break; /* a blank stands before it */
        if (!blank) end = c->at + 1;
    }
    we_buf_append(value, c->text.ptr + start, end - start);
}

static const char *check_value(const we_buf *value)
{
    if (value->len && we_utf8_valid(we_buf_str(value)) != value->len) return "the value is not UTF-8";
    for (size_t i = 0; i < value->len; i++)
        if ((unsigned char)value->ptr[i] < ' ' || value->ptr[i] == 0x7F) return "the value holds a control character";
    return NULL;
}

static const char *take_assignment(cursor *c, we_str *key, we_buf *value)
{
    static const we_str word = { "export", 6 };
    *key = take_key(c);
    skip_blanks(c);
    if (we_str_eq(*key, word) && here(c) != '=') {
        *key = take_key(c);
        skip_blanks(c);
    }
    if (key->len == 0) return "expected KEY=value";
    if (here(c) != '=') return "expected '=' behind the name";
    c->at++;
    skip_blanks(c);
    const char quote = here(c);
    const char *problem = NULL;
    if (quote == '"' || quote == '\'') {
        c->at++;
        problem = take_quoted(c, quote, value);
    } else {
        take_plain(c, value);
    }
    return problem ? problem : check_value(value);
}

/* The next line of text from *at on, and where it begins and ends. False at the end. */
static bool next_line(we_str text, size_t *at, we_str *line, we_envline *out)
{
    if (*at == 0 && we_str_starts_with(text, WE_STR("\xEF\xBB\xBF"))) *at = 3;
    if (*at >= text.len) return false;
    const char *end = memchr(text.ptr + *at, '\n', text.len - *at);
    size_t len = (end ? (size_t)(end - text.ptr) : text.len) - *at;
    *line = (we_str){ text.ptr + *at, len };
    if (len && line->ptr[len - 1] == '\r') line->len--;
    out->number++;
    out->start = *at;
    *at += len + (end != NULL);
    out->end = *at;
    return true;
}

we_status we_envfile_parse(we_str text, we_envline_fn fn, void *user, we_error *err)
{
    we_buf value = { 0 };
    we_envline line = { 0 };
    we_str bytes;
    size_t at = 0;
    bool go_on = true;
    while (go_on && !value.failed && next_line(text, &at, &bytes, &line)) {
        cursor c = { bytes, 0 };
        skip_blanks(&c);
        if (at_end(&c) || here(&c) == '#') continue;
        we_buf_clear(&value);
        line.problem = take_assignment(&c, &line.key, &value);
        line.value = line.problem ? WE_STR("") : we_buf_str(&value);
        if (!value.failed) go_on = fn(user, &line);
    }
    const we_status st = we_buf_status(&value, err, "a configuration file");
    we_buf_deinit(&value);
    return st;
}

/* ---- Changing ---- */

static void append_line(we_buf *out, const char *key, const char *value)
{
    bool plain = true;
    for (const char *p = value; *p; p++) plain = plain && *p != ' ' && !strchr("\"'#$`\\;&|<>()*?[]!~", *p);
    we_buf_printf(out, "%s=", key);
    if (!plain) we_buf_append_char(out, '"');
    for (const char *p = value; *p; p++) {
        if (!plain && strchr("\"\\$`", *p)) we_buf_append_char(out, '\\');
        we_buf_append_char(out, *p);
    }
    we_buf_append_str(out, plain ? WE_STR("\n") : WE_STR("\"\n"));
}

typedef struct change {
    we_buf *out;
    we_str text;
    const char *key, *value;
    size_t copied; /* bytes of text */
    bool done;
} change;

static bool change_line(void *user, const we_envline *line)
{
    change *c = user;
    if (!we_str_is(line->key, c->key)) return true;
    we_buf_append(c->out, c->text.ptr + c->copied, line->start - c->copied);
    c->copied = line->end;
    if (c->value && !c->done) append_line(c->out, c->key, c->value);
    c->done = true;
    return true;
}

we_status we_envfile_change(we_buf *out, we_str text, const char *key, const char *value, we_error *err)
{
    we_buf shown = { 0 };
    if (value) we_buf_append_str(&shown, we_str_from(value));
    const char *problem = shown.failed ? NULL : check_value(&shown);
    we_buf_deinit(&shown);
    if (problem) return we_fail(err, WE_E_ARG, "%s can't be kept in a file: %s", key, problem);
    change c = { out, text, key, value, 0, false };
    we_status st = we_envfile_parse(text, change_line, &c, err);
    if (st) return st;
    we_buf_append(out, text.ptr + c.copied, text.len - c.copied);
    if (value && !c.done) {
        if (out->len && out->ptr[out->len - 1] != '\n') we_buf_append_char(out, '\n');
        append_line(out, key, value);
    }
    return we_buf_status(out, err, "a configuration file");
}
