/* SPDX-License-Identifier: Apache-2.0
 * lexer.c - template text -> tokens, with everything Jinja does to white space on the way: trim_blocks, lstrip_blocks,
 * the signs in `{%-`, `{%+`, `-%}`, `+%}`, one newline dropped at the end, CR and CRLF read as LF.
 * Source: jinja2/lexer.py of Jinja2 3.1.6, whose regular expressions are named where they are re-enacted. */
#include "template/template_int.h"

#include <stdio.h>

typedef struct lexer {
    render *r;
    we_str src; /* newlines are LF */
    size_t pos;
    int line;
    bool line_starting; /* what was matched last ended in a newline */
    token *items;
    size_t n, capacity;
    char open[MAX_NESTING + 1]; /* closing brackets that are due */
    size_t n_open;
} lexer;

const char *we_tpl_token_name(token_type type)
{
    static const char *const names[] = {
        [T_EOF] = "end of template",
        [T_DATA] = "template data / text",
        [T_VARIABLE_BEGIN] = "begin of print statement",
        [T_VARIABLE_END] = "end of print statement",
        [T_BLOCK_BEGIN] = "begin of statement block",
        [T_BLOCK_END] = "end of statement block",
        [T_NAME] = "name",
        [T_STRING] = "string",
        [T_INTEGER] = "integer",
        [T_FLOAT] = "float",
        [T_ADD] = "+",
        [T_SUB] = "-",
        [T_DIV] = "/",
        [T_FLOORDIV] = "//",
        [T_MUL] = "*",
        [T_MOD] = "%",
        [T_POW] = "**",
        [T_TILDE] = "~",
        [T_LBRACKET] = "[",
        [T_RBRACKET] = "]",
        [T_LPAREN] = "(",
        [T_RPAREN] = ")",
        [T_LBRACE] = "{",
        [T_RBRACE] = "}",
        [T_EQ] = "==",
        [T_NE] = "!=",
        [T_GT] = ">",
        [T_GE] = ">=",
        [T_LT] = "<",
        [T_LE] = "<=",
        [T_ASSIGN] = "=",
        [T_DOT] = ".",
        [T_COLON] = ":",
        [T_PIPE] = "|",
        [T_COMMA] = ",",
        [T_SEMICOLON] = ";",
    };
    return names[type];
}

static _Noreturn void fail_at(lexer *x, int line, const char *message)
{
    x->r->line = line;
    we_tpl_fail(x->r, "%s", message);
}

/* newline_re: \r\n, \r and \n are one newline each; the last one of the template goes. */
static we_str normalize_newlines(render *r, we_str s)
{
    char *out = we_tpl_alloc(r, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\r' && i + 1 < s.len && s.ptr[i + 1] == '\n') continue;
        out[n++] = s.ptr[i] == '\r' ? '\n' : s.ptr[i];
    }
    return (we_str){ out, n };
}

static void push(lexer *x, token t)
{
    if (x->n == x->capacity) {
        size_t capacity = x->capacity ? x->capacity * 2 : 64;
        token *items = we_tpl_alloc(x->r, capacity * sizeof(*items));
        if (x->n) memcpy(items, x->items, x->n * sizeof(*items));
        x->items = items;
        x->capacity = capacity;
    }
    x->items[x->n++] = t;
}

static void push_type(lexer *x, token_type type) { push(x, (token){ .type = type, .line = x->line }); }

/* ---- looking ---- */

static int peek(const lexer *x, size_t offset)
{
    return x->pos + offset < x->src.len ? (unsigned char)x->src.ptr[x->pos + offset] : -1;
}

static bool at(const lexer *x, size_t pos, const char *text)
{
    size_t len = strlen(text);
    return x->src.len - pos >= len && memcmp(x->src.ptr + pos, text, len) == 0;
}

static size_t skip_space(we_str s, size_t pos)
{
    while (pos < s.len) {
        size_t next = pos;
        if (!we_tpl_is_space(we_utf8_next(s, &next))) break;
        pos = next;
    }
    return pos;
}

static size_t find(const lexer *x, size_t pos, const char *text)
{
    size_t where;
    return we_tpl_find_bytes(x->src, we_str_from(text), pos, &where) ? where : SIZE_MAX;
}

/* Go on to `end`; what lies between was matched as one piece. */
static void advance(lexer *x, size_t end)
{
    for (size_t i = x->pos; i < end; i++) x->line += x->src.ptr[i] == '\n';
    if (end > x->pos) x->line_starting = x->src.ptr[end - 1] == '\n';
    x->pos = end;
}

/* The end of a tag that begins at pos: `close` alone (one newline behind it goes), `-` before it (all space behind it
 * goes) or `+` (nothing goes). 0 where there is none. */
static size_t tag_end(const lexer *x, size_t pos, const char *close, bool trim, bool plus)
{
    if (pos >= x->src.len) return 0;
    if (x->src.ptr[pos] == '-' && at(x, pos + 1, close)) return skip_space(x->src, pos + 1 + strlen(close));
    if (plus && x->src.ptr[pos] == '+' && at(x, pos + 1, close)) return pos + 1 + strlen(close);
    if (!at(x, pos, close)) return 0;
    pos += strlen(close);
    return trim && pos < x->src.len && x->src.ptr[pos] == '\n' ? pos + 1 : pos;
}

/* ---- text between tags ---- */

static size_t strip_right(we_str s)
{
    size_t end = 0;
    for (size_t i = 0; i < s.len;) {
        if (!we_tpl_is_space(we_utf8_next(s, &i))) end = i;
    }
    return end;
}

/* Text before a tag whose sign is '-', '+' or 0; strip: lstrip_blocks applies to this kind of tag. */
static void push_text(lexer *x, size_t end, int sign, bool strip)
{
    we_str text = { x->src.ptr + x->pos, end - x->pos };
    if (sign == '-') {
        text.len = strip_right(text);
    } else if (sign != '+' && strip) {
        size_t line = text.len;
        while (line > 0 && text.ptr[line - 1] != '\n') line--;
        if ((line > 0 || x->line_starting) && skip_space(text, line) == text.len) text.len = line;
    }
    if (text.len) push(x, (token){ .type = T_DATA, .line = x->line, .text = text });
    advance(x, end);
}

/* root_raw_re: {% raw %}, in any spelling; gives the end of the tag, or 0. */
static size_t raw_begin(const lexer *x, size_t pos)
{
    size_t p = pos + 2;
    if (p < x->src.len && (x->src.ptr[p] == '-' || x->src.ptr[p] == '+')) p++;
    p = skip_space(x->src, p);
    if (!at(x, p, "raw")) return 0;
    return tag_end(x, skip_space(x->src, p + 3), "%}", false, false);
}

static void lex_raw(lexer *x)
{
    for (size_t p = find(x, x->pos, "{%"); p != SIZE_MAX; p = find(x, p + 1, "{%")) {
        size_t q = p + 2;
        int sign = q < x->src.len && (x->src.ptr[q] == '-' || x->src.ptr[q] == '+') ? x->src.ptr[q++] : 0;
        q = skip_space(x->src, q);
        if (!at(x, q, "endraw")) continue;
        size_t end = tag_end(x, skip_space(x->src, q + 6), "%}", true, true);
        if (!end) continue;
        push_text(x, p, sign, true);
        advance(x, end);
        return;
    }
    if (x->pos < x->src.len) fail_at(x, x->line, "Missing end of raw directive");
}

static void lex_comment(lexer *x)
{
    size_t p = find(x, x->pos, "#}");
    if (p == SIZE_MAX) {
        if (x->pos < x->src.len) fail_at(x, x->line, "Missing end of comment tag");
        return;
    }
    int before = p > x->pos ? x->src.ptr[p - 1] : 0;
    advance(x, tag_end(x, before == '-' || before == '+' ? p - 1 : p, "#}", true, true));
}

/* ---- expressions ---- */

static bool is_digit_of(int c, int base)
{
    if (base <= 10) return c >= '0' && c < '0' + base;
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

/* (\d+_)*\d+ at pos: its end, or pos. */
static size_t digits_end(const lexer *x, size_t pos)
{
    size_t end = pos;
    while (end < x->src.len && is_digit_of(x->src.ptr[end], 10)) {
        while (end < x->src.len && is_digit_of(x->src.ptr[end], 10)) end++;
        if (end + 1 < x->src.len && x->src.ptr[end] == '_' && is_digit_of(x->src.ptr[end + 1], 10)) end++;
    }
    return end;
}

static we_str without_underscores(render *r, we_str s)
{
    char *out = we_tpl_alloc(r, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] != '_') out[n++] = s.ptr[i];
    return (we_str){ out, n };
}

static size_t exponent_end(const lexer *x, size_t pos)
{
    if (pos >= x->src.len || (x->src.ptr[pos] | 32) != 'e') return pos;
    size_t p = pos + 1;
    if (p < x->src.len && (x->src.ptr[p] == '+' || x->src.ptr[p] == '-')) p++;
    size_t end = digits_end(x, p);
    return end > p ? end : pos;
}

/* float_re; false: no float here. */
static bool lex_float(lexer *x)
{
    if (x->pos > 0 && x->src.ptr[x->pos - 1] == '.') return false;
    size_t whole = digits_end(x, x->pos), end = whole;
    if (whole == x->pos) return false;
    if (whole < x->src.len && x->src.ptr[whole] == '.') end = digits_end(x, whole + 1);
    if (end <= whole + 1) end = whole;
    end = exponent_end(x, end);
    if (end == whole) return false;
    double d = 0;
    we_str text = without_underscores(x->r, (we_str){ x->src.ptr + x->pos, end - x->pos });
    we_tpl_parse_float(x->r, text, &d);
    push(x, (token){ .type = T_FLOAT, .line = x->line, .value = v_float(d) });
    advance(x, end);
    return true;
}

static void lex_integer(lexer *x)
{
    int kind = peek(x, 1) | 32, base = peek(x, 0) != '0' ? 10
                                       : kind == 'x'     ? 16
                                       : kind == 'o'     ? 8
                                       : kind == 'b'     ? 2
                                                         : 10;
    size_t start = x->pos, end;
    if (base != 10) {
        size_t p = x->pos + 2;
        for (end = 0; p < x->src.len; end = ++p) { /* (_?[0-9a-f])+ */
            if (x->src.ptr[p] == '_' && p + 1 < x->src.len && is_digit_of(x->src.ptr[p + 1], base)) p++;
            if (!is_digit_of(x->src.ptr[p], base)) break;
        }
        start += 2;
        if (!end) base = 10, start = x->pos;
    }
    if (base == 10) {
        bool zero = x->src.ptr[start] == '0'; /* 0(_?0)* */
        for (end = start + 1; end < x->src.len; end++) {
            size_t p = end + (x->src.ptr[end] == '_');
            if (p >= x->src.len || !is_digit_of(x->src.ptr[p], zero ? 1 : 10)) break;
            end = p;
        }
    }
    we_str text = without_underscores(x->r, (we_str){ x->src.ptr + start, end - start });
    if (base == 10 && text.len > MAX_INT_DIGITS) fail_at(x, x->line, "an integer of this template is too large");
    push(x, (token){ .type = T_INTEGER, .line = x->line, .value = we_tpl_int_parse(x->r, text, base, false) });
    advance(x, end);
}

static bool name_char(uint32_t c)
{
    return (c < 0x80 && ((c | 32) - 'a' < 26u || c - '0' < 10u || c == '_')) || (c >= 0x80 && we_tpl_is_word(c));
}

static bool lex_name(lexer *x)
{
    size_t end = x->pos;
    while (end < x->src.len) {
        size_t next = end;
        if (!name_char(we_utf8_next(x->src, &next))) break;
        end = next;
    }
    if (end == x->pos) return false;
    we_str text = { x->src.ptr + x->pos, end - x->pos };
    if (!we_tpl_is_identifier(text)) fail_at(x, x->line, "Invalid character in identifier");
    push(x, (token){ .type = T_NAME, .line = x->line, .text = text });
    advance(x, end);
    return true;
}

/* ---- strings ---- */

static int hex_escape(lexer *x, we_str s, size_t *i, int n, uint32_t *out)
{
    uint32_t c = 0;
    for (int k = 0; k < n; k++) {
        if (*i >= s.len || !is_digit_of(s.ptr[*i], 16)) {
            fail_at(x, x->line,
                    n == 2   ? "truncated \\xXX escape"
                    : n == 4 ? "truncated \\uXXXX escape"
                             : "truncated \\UXXXXXXXX escape");
        }
        int d = s.ptr[(*i)++];
        c = c * 16 + (uint32_t)(d <= '9' ? d - '0' : (d | 32) - 'a' + 10);
    }
    if (c > 0x10FFFF) fail_at(x, x->line, "illegal Unicode character");
    *out = c;
    return 0;
}

/* A backslash before a character outside ASCII: Jinja turns that one into \xNN, \uNNNN or \UNNNNNNNN before it reads
 * escapes, so that the backslash escapes a backslash. */
static size_t escaped_rune(char *out, uint32_t c)
{
    char text[16];
    snprintf(text, sizeof(text), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    memcpy(out, text, strlen(text));
    return strlen(text);
}

static size_t unescape_one(lexer *x, we_str s, size_t *i, char *out)
{
    static const char plain[] = "\\'\"abfnrtv", means[] = "\\'\"\a\b\f\n\r\t\v";
    uint32_t c = we_utf8_next(s, i);
    const char *known = c < 0x80 && c ? strchr(plain, (int)c) : NULL;
    if (known) return out[0] = means[known - plain], 1;
    if (c == '\n') return 0;
    if (c >= 0x80) return escaped_rune(out, c);
    if (c >= '0' && c <= '7') {
        uint32_t v = c - '0';
        for (int k = 0; k < 2 && *i < s.len && is_digit_of(s.ptr[*i], 8); k++)
            v = v * 8 + (uint32_t)(s.ptr[(*i)++] - '0');
        return (size_t)we_utf8_encode(v, out);
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        hex_escape(x, s, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, &c);
        if (c >= 0xD800 && c < 0xE000) c = 0xFFFD; /* half of a pair has no UTF-8 */
        return (size_t)we_utf8_encode(c, out);
    }
    if (c == 'N')
        fail_at(x, x->line, "\\N{...} needs a table of names, which is not here: write the character, or \\uXXXX");
    out[0] = '\\';
    return 1 + (size_t)we_utf8_encode(c, out + 1);
}

static value unescape(lexer *x, we_str s)
{
    char *out = we_tpl_alloc(x->r, s.len * 6 + 16);
    size_t n = 0;
    for (size_t i = 0; i < s.len;) {
        if (s.ptr[i] != '\\') {
            out[n++] = s.ptr[i++];
            continue;
        }
        i++;
        if (i >= s.len) fail_at(x, x->line, "\\ at end of string");
        n += unescape_one(x, s, &i, out + n);
    }
    return we_tpl_str_copy(x->r, (we_str){ out, n });
}

/* string_re */
static bool lex_string(lexer *x)
{
    char quote = x->src.ptr[x->pos];
    if (quote != '\'' && quote != '"') return false;
    size_t end = x->pos + 1;
    while (end < x->src.len && x->src.ptr[end] != quote) end += x->src.ptr[end] == '\\' ? 2 : 1;
    if (end >= x->src.len) return false;
    value v = unescape(x, (we_str){ x->src.ptr + x->pos + 1, end - x->pos - 1 });
    push(x, (token){ .type = T_STRING, .line = x->line, .value = v });
    advance(x, end + 1);
    return true;
}

/* ---- operators ---- */

static const struct {
    char text[3];
    token_type type;
} operators[] = {
    /* longest first */
    { "//", T_FLOORDIV }, { "**", T_POW },   { "==", T_EQ },      { "!=", T_NE },      { ">=", T_GE },
    { "<=", T_LE },       { "+", T_ADD },    { "-", T_SUB },      { "/", T_DIV },      { "*", T_MUL },
    { "%", T_MOD },       { "~", T_TILDE },  { "[", T_LBRACKET }, { "]", T_RBRACKET }, { "(", T_LPAREN },
    { ")", T_RPAREN },    { "{", T_LBRACE }, { "}", T_RBRACE },   { ">", T_GT },       { "<", T_LT },
    { "=", T_ASSIGN },    { ".", T_DOT },    { ":", T_COLON },    { "|", T_PIPE },     { ",", T_COMMA },
    { ";", T_SEMICOLON },
};

static void balance(lexer *x, char c)
{
    if (!strchr("()[]{}", c)) return;
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_open == MAX_NESTING) fail_at(x, x->line, "too many nested parentheses");
        x->open[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        return;
    }
    x->r->line = x->line;
    if (x->n_open == 0) we_tpl_fail(x->r, "unexpected '%c'", c);
    char due = x->open[--x->n_open];
    if (due != c) we_tpl_fail(x->r, "unexpected '%c', expected '%c'", c, due);
}

static bool lex_operator(lexer *x)
{
    for (size_t i = 0; i < WE_COUNT(operators); i++) {
        if (!at(x, x->pos, operators[i].text)) continue;
        balance(x, operators[i].text[0]);
        push_type(x, operators[i].type);
        advance(x, x->pos + strlen(operators[i].text));
        return true;
    }
    return false;
}

static _Noreturn void unexpected_char(lexer *x)
{
    size_t next = x->pos;
    we_utf8_next(x->src, &next);
    value c = we_tpl_repr(x->r, we_tpl_str(x->r, (we_str){ x->src.ptr + x->pos, next - x->pos }));
    size_t chars = we_tpl_utf8_count((we_str){ x->src.ptr, x->pos });
    x->r->line = x->line;
    we_tpl_fail(x->r, "unexpected char %.*s at %zu", STR_ARG(str_of(c)), chars);
}

/* Inside {{ }} or {% %}, until its end. */
static void lex_expression(lexer *x, bool block)
{
    while (x->pos < x->src.len) {
        size_t end = x->n_open ? 0
                     : block   ? tag_end(x, x->pos, "%}", true, true)
                               : tag_end(x, x->pos, "}}", false, false);
        if (end) {
            push_type(x, block ? T_BLOCK_END : T_VARIABLE_END);
            advance(x, end);
            return;
        }
        int c = peek(x, 0);
        size_t space = skip_space(x->src, x->pos);
        if (space > x->pos)
            advance(x, space);
        else if (c >= '0' && c <= '9') {
            if (!lex_float(x)) lex_integer(x);
        } else if (!lex_name(x) && !lex_string(x) && !lex_operator(x))
            unexpected_char(x);
    }
}

/* ---- the template ---- */

static size_t next_tag(const lexer *x)
{
    for (size_t p = x->pos; p + 1 < x->src.len; p++)
        if (x->src.ptr[p] == '{' && strchr("{%#", x->src.ptr[p + 1]) && x->src.ptr[p + 1]) return p;
    return SIZE_MAX;
}

void we_tpl_lex(render *r, we_str source, token_list *out)
{
    lexer x = { .r = r, .src = normalize_newlines(r, source), .line = 1, .line_starting = true };
    if (x.src.len && x.src.ptr[x.src.len - 1] == '\n') x.src.len--;
    while (x.pos < x.src.len) {
        size_t tag = next_tag(&x);
        if (tag == SIZE_MAX) {
            push_text(&x, x.src.len, '+', false);
            break;
        }
        char kind = x.src.ptr[tag + 1];
        size_t raw = kind == '%' ? raw_begin(&x, tag) : 0;
        int sign =
            tag + 2 < x.src.len && (x.src.ptr[tag + 2] == '-' || x.src.ptr[tag + 2] == '+') ? x.src.ptr[tag + 2] : 0;
        push_text(&x, tag, sign, kind != '{');
        if (kind != '#' && !raw) push_type(&x, kind == '{' ? T_VARIABLE_BEGIN : T_BLOCK_BEGIN);
        advance(&x, raw ? raw : tag + 2 + (sign != 0));
        if (raw)
            lex_raw(&x);
        else if (kind == '#')
            lex_comment(&x);
        else
            lex_expression(&x, kind == '%');
    }
    push_type(&x, T_EOF);
    *out = (token_list){ x.items, x.n };
}
