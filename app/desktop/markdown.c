/* SPDX-License-Identifier: Apache-2.0
 * markdown.c - see markdown.h. The part of CommonMark and GitHub's tables that models write, line by line; one pass over the
 * lines for blocks, one over a block's characters for spans.
 *
 * Spans: an opening mark counts where a closing one of its kind follows in the same block, and they nest properly; else its
 * characters are text. Looking for the end is bounded (MAX_LOOK), so a megabyte of '*' stays linear. */
#include "markdown.h"
#include <stdio.h>

#define MAX_LOOK 2000
#define MAX_NESTING 8
#define MAX_DEPTH 8

/* ---- Text ---- */

/* Text that XML and labels can hold: other control characters and broken UTF-8 become U+FFFD. */
static void append_clean(we_buf *out, we_str text, bool escape)
{
    for (size_t i = 0; i < text.len;) {
        const size_t at = i;
        const uint32_t rune = we_utf8_next(text, &i);
        if (rune == WE_RUNE_INVALID || rune == 0xFFFE || rune == 0xFFFF || rune == 0x7F ||
            (rune < ' ' && rune != '\n' && rune != '\t'))
            we_buf_append_rune(out, 0xFFFD);
        else if (escape && rune == '&')
            we_buf_append_str(out, WE_STR("&amp;"));
        else if (escape && rune == '<')
            we_buf_append_str(out, WE_STR("&lt;"));
        else if (escape && rune == '>')
            we_buf_append_str(out, WE_STR("&gt;"));
        else if (escape && rune == '"')
            we_buf_append_str(out, WE_STR("&quot;"));
        else if (escape && rune == '\'')
            we_buf_append_str(out, WE_STR("&#39;"));
        else
            we_buf_append(out, text.ptr + at, i - at);
    }
}

void desk_markup_escape(we_buf *out, we_str text) { append_clean(out, text, true); }

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n'; }
static bool is_punct(char c) { return c > 0 && c < 0x7F && strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", c); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_word(char c)
{
    return (unsigned char)c >= 0x80 || is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static we_str sub(we_str s, size_t from, size_t to) { return (we_str){ s.ptr + from, to - from }; }
static we_str trim(we_str s)
{
    while (s.len && is_space(s.ptr[0])) s.ptr++, s.len--;
    while (s.len && is_space(s.ptr[s.len - 1])) s.len--;
    return s;
}
static size_t run_of(we_str s, size_t at, char c)
{
    size_t n = 0;
    while (at + n < s.len && s.ptr[at + n] == c) n++;
    return n;
}

/* ---- Spans ---- */

static void spans(we_buf *out, we_str s, int nesting, bool links);

/* Where the mark `c` x `n` closes that opens at `at` (behind it); SIZE_MAX: nowhere. */
static size_t closing(we_str s, size_t at, char c, size_t n)
{
    const size_t end = WE_MIN(s.len, at + MAX_LOOK);
    if (at >= s.len || is_space(s.ptr[at])) return SIZE_MAX;
    for (size_t i = at; i < end;) {
        const char x = s.ptr[i];
        if (x == '\\') {
            i += 2;
        } else if (x == '`') { /* a mark within code is none */
            const size_t k = run_of(s, i, '`');
            size_t j = i + k;
            while (j < end && run_of(s, j, '`') != k) j += WE_MAX(run_of(s, j, '`'), 1);
            i = j < end ? j + k : i + k;
        } else if (x == c) {
            const size_t k = run_of(s, i, c);
            const bool word_behind = i + k < s.len && is_word(s.ptr[i + k]);
            if (k >= n && (n == 2 || k != 2) && !is_space(s.ptr[i - 1]) && i > at && !(c == '_' && word_behind))
                return k > n && n < 3 ? i + k - n : i; /* the outer mark closes last: **a *b*** */
            i += k;
        } else {
            i++;
        }
    }
    return SIZE_MAX;
}

static bool starts_with_web(we_str s)
{
    return we_str_starts_with(s, WE_STR("https://")) || we_str_starts_with(s, WE_STR("http://"));
}

/* An address that we are willing to open: http(s), no spaces, no control characters. */
static bool is_web(we_str s)
{
    if (!starts_with_web(s) || s.len <= 8 || s.len > 2000) return false;
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] <= ' ' || s.ptr[i] == 0x7F) return false;
    return we_utf8_valid(s) == s.len;
}

static void link_open(we_buf *out, we_str address)
{
    we_buf_append_str(out, WE_STR("<a href=\""));
    desk_markup_escape(out, address);
    we_buf_append_str(out, WE_STR("\">"));
}

/* [label](address "title") at `at`; gives the index behind it, or `at` where there is none. */
static size_t link_at(we_buf *out, we_str s, size_t at, int nesting, bool links)
{
    const bool image = s.ptr[at] == '!';
    size_t i = at + image + 1, from = i, depth = 1;
    const size_t end = WE_MIN(s.len, at + MAX_LOOK);
    for (; i < end; i++) {
        if (s.ptr[i] == '\\')
            i++;
        else if (s.ptr[i] == '[')
            depth++;
        else if (s.ptr[i] == ']' && --depth == 0)
            break;
    }
    if (i + 1 >= end || s.ptr[i + 1] != '(') return at;
    const we_str label = sub(s, from, i);
    const size_t open = i + 2;
    for (i = open, depth = 1; i < end; i++) {
        if (s.ptr[i] == '(')
            depth++;
        else if (s.ptr[i] == ')' && --depth == 0)
            break;
        else if (s.ptr[i] == '\n')
            return at;
    }
    if (i >= end) return at;
    we_str address = trim(sub(s, open, i));
    for (size_t k = 0; k < address.len; k++)
        if (is_space(address.ptr[k])) address.len = k; /* a title follows */
    if (address.len > 1 && address.ptr[0] == '<' && address.ptr[address.len - 1] == '>')
        address = sub(address, 1, address.len - 1);
    const we_str shown = label.len ? label : address;
    if (links && is_web(address)) {
        link_open(out, address);
        if (image)
            desk_markup_escape(out, shown);
        else
            spans(out, shown, nesting + 1, false);
        we_buf_append_str(out, WE_STR("</a>"));
    } else { /* file:, javascript: and their like are shown, so that nobody wonders */
        spans(out, shown, nesting + 1, false);
        if (address.len && !we_str_eq(address, shown)) {
            we_buf_append_str(out, WE_STR(" ("));
            desk_markup_escape(out, address);
            we_buf_append_str(out, WE_STR(")"));
        }
    }
    return i + 1;
}

/* A bare address; gives the index behind it, or `at`. */
static size_t address_at(we_buf *out, we_str s, size_t at)
{
    size_t end = at;
    int round = 0;
    if (!starts_with_web(sub(s, at, s.len)) || (at && is_word(s.ptr[at - 1]))) return at;
    while (end < s.len && !is_space(s.ptr[end]) && !strchr("<>\"`", s.ptr[end]) && s.ptr[end]) {
        round += (s.ptr[end] == '(') - (s.ptr[end] == ')');
        if (round < 0) break;
        end++;
    }
    while (end > at && strchr(".,:;!?'*_~", s.ptr[end - 1])) end--; /* the sentence's own */
    if (!is_web(sub(s, at, end))) return at;
    link_open(out, sub(s, at, end));
    desk_markup_escape(out, sub(s, at, end));
    we_buf_append_str(out, WE_STR("</a>"));
    return end;
}

/* `code`, of any number of backticks. */
static size_t code_at(we_buf *out, we_str s, size_t at)
{
    const size_t k = run_of(s, at, '`'), end = WE_MIN(s.len, at + MAX_LOOK);
    size_t i = at + k;
    while (i < end && run_of(s, i, '`') != k) i += WE_MAX(run_of(s, i, '`'), 1);
    if (i >= end) {
        desk_markup_escape(out, sub(s, at, at + k));
        return at + k;
    }
    we_str code = sub(s, at + k, i);
    if (code.len > 2 && code.ptr[0] == ' ' && code.ptr[code.len - 1] == ' ') code = sub(code, 1, code.len - 1);
    we_buf_append_str(out, WE_STR("<tt>"));
    desk_markup_escape(out, code);
    we_buf_append_str(out, WE_STR("</tt>"));
    return i + k;
}

/* *, _, ** , __, ***, ~~ at `at`; gives the index behind the span, or `at` where it is text. */
static size_t emphasis_at(we_buf *out, we_str s, size_t at, int nesting, bool links)
{
    static const char *const open[] = { "", "<i>", "<b>", "<b><i>", "<s>" };
    static const char *const close[] = { "", "</i>", "</b>", "</i></b>", "</s>" };
    const char c = s.ptr[at];
    const size_t k = run_of(s, at, c), n = WE_MIN(k, c == '~' ? 2 : 3);
    if (k > 3 || (c == '~' && k != 2)) return at;
    if (c == '_' && at && is_word(s.ptr[at - 1])) return at;
    const size_t end = closing(s, at + n, c, n);
    if (end == SIZE_MAX) return at;
    const size_t style = c == '~' ? 4 : n;
    we_buf_append_str(out, we_str_from(open[style]));
    spans(out, sub(s, at + n, end), nesting + 1, links);
    we_buf_append_str(out, we_str_from(close[style]));
    return end + n;
}

static void spans(we_buf *out, we_str s, int nesting, bool links)
{
    size_t text = 0, i = 0; /* [text, i) is not written yet */
    if (nesting > MAX_NESTING) {
        desk_markup_escape(out, s);
        return;
    }
    while (i < s.len) {
        const char c = s.ptr[i];
        if (c == '\\' && i + 1 < s.len && is_punct(s.ptr[i + 1])) {
            desk_markup_escape(out, sub(s, text, i));
            text = i + 1;
            i += 2;
            continue;
        }
        const bool link = c == '[' || (c == '!' && i + 1 < s.len && s.ptr[i + 1] == '[');
        const bool mark = c == '*' || c == '_' || c == '~';
        if (!link && !mark && c != '`' && c != 'h') {
            i++;
            continue;
        }
        we_buf span = { 0 };
        size_t behind = i;
        if (link)
            behind = link_at(&span, s, i, nesting, links);
        else if (c == '`')
            behind = code_at(&span, s, i);
        else if (c == 'h')
            behind = links ? address_at(&span, s, i) : i;
        else
            behind = emphasis_at(&span, s, i, nesting, links);
        if (behind > i) {
            desk_markup_escape(out, sub(s, text, i));
            we_buf_append_str(out, we_buf_str(&span));
            if (span.failed) out->failed = true;
            text = i = behind;
        } else {
            i += mark ? run_of(s, i, c) : 1;
        }
        we_buf_deinit(&span);
    }
    desk_markup_escape(out, sub(s, text, s.len));
}

void desk_markdown_inline(we_buf *out, we_str text) { spans(out, trim(text), 0, true); }

/* ---- Blocks ---- */

typedef struct reader {
    desk_blocks *out;
    we_str text;
    size_t pos;
    we_buf gathered; /* the lines of the paragraph, heading or item that is being read */
    desk_block open; /* what it is; without texts */
    bool is_open;
    char marker[16];
    int indents[MAX_DEPTH]; /* where the contents of the open list items begin */
    int n_indents;
    bool blank; /* the line before was empty */
} reader;

static void add(reader *r, desk_block b, we_buf *text, we_str marker)
{
    desk_blocks *out = r->out;
    if (out->n == out->capacity) {
        const size_t capacity = out->capacity ? 2 * out->capacity : 16;
        desk_block *items = we_realloc_array(out->items, capacity, sizeof *items);
        if (!items)
            out->failed = true;
        else
            out->items = items, out->capacity = capacity;
    }
    b.text = out->failed ? NULL : we_buf_take(text, NULL);
    b.marker = b.text ? we_strndup(marker.ptr, marker.len) : NULL;
    if (b.marker) {
        out->items[out->n++] = b;
    } else {
        we_free(b.text);
        out->failed = true;
    }
    we_buf_deinit(text);
}

static void close_open(reader *r)
{
    we_buf markup = { 0 };
    if (!r->is_open) return;
    desk_markdown_inline(&markup, we_buf_str(&r->gathered));
    add(r, r->open, &markup, we_str_from(r->marker));
    we_buf_clear(&r->gathered);
    r->is_open = false;
}

static void open_block(reader *r, desk_block_kind kind, int level, int quotes, const char *marker)
{
    close_open(r);
    r->open = (desk_block){ kind, level, WE_MAX(r->n_indents - 1, 0), quotes, NULL, NULL };
    r->is_open = true;
    snprintf(r->marker, sizeof r->marker, "%s", marker);
}

static we_str next_line(reader *r)
{
    const char *from = r->text.ptr + r->pos, *end = memchr(from, '\n', r->text.len - r->pos);
    const size_t len = end ? (size_t)(end - from) : r->text.len - r->pos;
    r->pos += len + (end != NULL);
    return (we_str){ from, len && from[len - 1] == '\r' ? len - 1 : len };
}

/* Columns of white space before a line's text, which *s then begins with. */
static int indent_of(we_str *s)
{
    int n = 0;
    for (; s->len && (s->ptr[0] == ' ' || s->ptr[0] == '\t'); s->ptr++, s->len--)
        n += s->ptr[0] == '\t' ? 4 - n % 4 : 1;
    return n;
}

/* Take up to `most` marks of a quote from a line's beginning. */
static int take_quotes(we_str *s, int most)
{
    int n = 0;
    for (we_str t = *s;; n++) {
        if (n == most || indent_of(&t) > 3 || !t.len || t.ptr[0] != '>') return n;
        t = sub(t, 1, t.len);
        if (t.len && t.ptr[0] == ' ') t = sub(t, 1, t.len);
        *s = t;
    }
}

static size_t fence_of(we_str s)
{
    if (!s.len || (s.ptr[0] != '`' && s.ptr[0] != '~')) return 0;
    const size_t n = run_of(s, 0, s.ptr[0]);
    if (n < 3 || (s.ptr[0] == '`' && memchr(s.ptr + n, '`', s.len - n))) return 0;
    return n;
}

static void read_fence(reader *r, we_str head, size_t fence, int indent, int quotes)
{
    we_buf code = { 0 }, language = { 0 };
    const char c = head.ptr[0];
    we_str info = trim(sub(head, fence, head.len));
    for (size_t i = 0; i < info.len; i++)
        if (is_space(info.ptr[i]) || info.ptr[i] == '{') info.len = i;
    append_clean(&language, info, false);
    close_open(r);
    while (r->pos < r->text.len) {
        const size_t here = r->pos;
        we_str line = next_line(r), t;
        if (take_quotes(&line, quotes) < quotes) {
            r->pos = here; /* the quote ends, and the code with it */
            break;
        }
        t = line;
        if (indent_of(&t) < indent + 4 && fence_of(t) >= fence && t.ptr[0] == c &&
            trim(sub(t, fence_of(t), t.len)).len == 0)
            break;
        for (int k = 0; k < indent && line.len && line.ptr[0] == ' '; k++) line = sub(line, 1, line.len);
        append_clean(&code, line, false);
        we_buf_append_char(&code, '\n');
    }
    if (code.len) code.ptr[--code.len] = 0;
    add(r, (desk_block){ DESK_CODE, 0, WE_MAX(r->n_indents - 1, 0), quotes, NULL, NULL }, &code, we_buf_str(&language));
    if (language.failed) r->out->failed = true;
    we_buf_deinit(&language);
}

static bool is_rule(we_str s)
{
    size_t n = 0;
    if (!s.len || !strchr("-*_", s.ptr[0]) || !s.ptr[0]) return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == s.ptr[0])
            n++;
        else if (!is_space(s.ptr[i]))
            return false;
    }
    return n >= 3;
}

/* A list's marker: "- ", "* ", "+ ", "1. ", "1) ". Gives its bytes with one space, 0 where there is none. */
static size_t marker_of(we_str s, char out[16])
{
    size_t n = 0;
    while (n < s.len && n < 9 && is_digit(s.ptr[n])) n++;
    const bool numbered = n > 0;
    if (numbered ? n < s.len && (s.ptr[n] == '.' || s.ptr[n] == ')') : s.len && s.ptr[0] && strchr("-*+", s.ptr[0]))
        n++;
    else
        return 0;
    if (n < s.len && s.ptr[n] != ' ' && s.ptr[n] != '\t') return 0;
    if (numbered)
        snprintf(out, 16, "%.*s.", (int)(n - 1), s.ptr);
    else
        snprintf(out, 16, "•");
    return WE_MIN(n + 1, s.len);
}

/* ---- Tables ---- */

/* The next cell of a row, *i behind it. False at the end. */
static bool next_cell(we_str row, size_t *i, we_str *cell)
{
    if (*i >= row.len) return false;
    const size_t from = *i;
    bool code = false;
    size_t k = from;
    for (; k < row.len && (code || row.ptr[k] != '|'); k++) {
        if (row.ptr[k] == '\\')
            k++;
        else if (row.ptr[k] == '`')
            code = !code;
    }
    k = WE_MIN(k, row.len);
    *cell = trim(sub(row, from, k));
    *i = k + 1;
    return true;
}

static we_str without_bars(we_str row)
{
    row = trim(row);
    if (row.len && row.ptr[0] == '|') row = sub(row, 1, row.len);
    if (row.len && row.ptr[row.len - 1] == '|' && (row.len < 2 || row.ptr[row.len - 2] != '\\')) row.len--;
    return row;
}

static size_t count_cells(we_str row)
{
    size_t n = 0, i = 0;
    we_str cell;
    for (row = without_bars(row); next_cell(row, &i, &cell);) n++;
    return n;
}

/* |---|:--:| */
static bool is_table_line(we_str row)
{
    size_t i = 0, n = 0;
    we_str cell;
    if (!memchr(row.ptr, '|', row.len)) return false;
    for (row = without_bars(row); next_cell(row, &i, &cell); n++) {
        size_t dashes = 0;
        for (size_t k = 0; k < cell.len; k++) {
            if (cell.ptr[k] == '-')
                dashes++;
            else if (cell.ptr[k] != ':' || (k && k + 1 < cell.len))
                return false;
        }
        if (!dashes) return false;
    }
    return n > 0;
}

static void append_row(we_buf *out, we_str row, size_t n_cells)
{
    size_t i = 0;
    we_str cell = { "", 0 };
    row = without_bars(row);
    for (size_t n = 0; n < n_cells; n++) {
        if (n) we_buf_append_char(out, '\x1f');
        if (next_cell(row, &i, &cell)) desk_markdown_inline(out, cell);
    }
}

/* The line before was the head if this one is |---|. */
static bool read_table(reader *r, we_str head, int quotes)
{
    const size_t back = r->pos, n = count_cells(head);
    we_buf rows = { 0 };
    we_str line;
    if (!memchr(head.ptr, '|', head.len) || r->pos >= r->text.len) return false;
    line = next_line(r);
    take_quotes(&line, MAX_DEPTH);
    if (!is_table_line(line) || count_cells(line) != n || n > 40) {
        r->pos = back;
        return false;
    }
    close_open(r);
    append_row(&rows, head, n);
    for (size_t here; here = r->pos, here < r->text.len;) {
        line = next_line(r);
        if (take_quotes(&line, MAX_DEPTH) != quotes || !trim(line).len || !memchr(line.ptr, '|', line.len)) {
            r->pos = here;
            break;
        }
        we_buf_append_char(&rows, '\x1e');
        append_row(&rows, line, n);
    }
    add(r, (desk_block){ DESK_TABLE, 0, WE_MAX(r->n_indents - 1, 0), quotes, NULL, NULL }, &rows, WE_STR(""));
    return true;
}

/* ---- Lines ---- */

static void append_line(reader *r, we_str line)
{
    if (r->gathered.len && r->gathered.ptr[r->gathered.len - 1] == '\\') r->gathered.len--;
    if (r->gathered.len) we_buf_append_char(&r->gathered, '\n'); /* models mean the breaks they make */
    we_buf_append_str(&r->gathered, line);
}

static void read_text(reader *r, we_str line, int indent, int quotes)
{
    const bool goes_on = r->is_open && !r->blank && r->open.quotes == quotes && r->open.kind != DESK_HEADING;
    if (goes_on) {
        append_line(r, line);
        return;
    }
    const bool in_item = r->n_indents > 0 && indent >= r->indents[r->n_indents - 1];
    if (!in_item) r->n_indents = 0;
    open_block(r, in_item ? DESK_ITEM : DESK_PARAGRAPH, 0, quotes, "");
    append_line(r, line);
}

static void read_item(reader *r, we_str line, int indent, int quotes, size_t marker_len, const char *marker)
{
    while (r->n_indents && indent < r->indents[r->n_indents - 1]) r->n_indents--;
    /* "1." needs 3 columns, but many models step in by 2 */
    if (r->n_indents && r->blank && indent == 0) r->n_indents = 0;
    if (r->n_indents < MAX_DEPTH) r->indents[r->n_indents++] = indent + 2;
    open_block(r, DESK_ITEM, 0, quotes, marker);
    we_str rest = trim(sub(line, marker_len, line.len));
    const bool todo = we_str_starts_with(rest, WE_STR("[ ] "));
    if (todo || we_str_starts_with(rest, WE_STR("[x] ")) || we_str_starts_with(rest, WE_STR("[X] "))) {
        snprintf(r->marker, sizeof r->marker, "%s", todo ? "☐" : "☑");
        rest = sub(rest, 4, rest.len);
    }
    append_line(r, rest);
}

static void read_line(reader *r)
{
    we_str line = next_line(r), t;
    char marker[16];
    const int quotes = take_quotes(&line, MAX_DEPTH);
    t = line;
    const int indent = indent_of(&t);
    if (r->is_open && r->open.quotes != quotes && (quotes > 0 || r->blank)) close_open(r);
    if (!trim(t).len) {
        close_open(r);
        r->blank = true;
        return;
    }
    const size_t fence = fence_of(t), hashes = run_of(t, 0, '#');
    size_t marker_len;
    if (fence) {
        if (!r->n_indents || indent < r->indents[r->n_indents - 1]) r->n_indents = 0;
        read_fence(r, t, fence, indent, quotes);
    } else if (hashes >= 1 && hashes <= 6 && (hashes == t.len || is_space(t.ptr[hashes]))) {
        we_str title = trim(sub(t, hashes, t.len));
        while (title.len && title.ptr[title.len - 1] == '#') title.len--;
        r->n_indents = 0;
        open_block(r, DESK_HEADING, (int)hashes, quotes, "");
        append_line(r, trim(title));
        close_open(r);
    } else if (is_rule(t)) {
        we_buf none = { 0 };
        close_open(r);
        r->n_indents = 0;
        add(r, (desk_block){ DESK_RULE, 0, 0, quotes, NULL, NULL }, &none, WE_STR(""));
    } else if ((marker_len = marker_of(t, marker))) {
        read_item(r, t, indent, quotes, marker_len, marker);
    } else if (!read_table(r, t, quotes)) {
        read_text(r, t, indent, quotes);
    }
    r->blank = false;
}

void desk_markdown(desk_blocks *out, we_str text)
{
    reader r = { .out = out, .text = text };
    while (r.pos < text.len) read_line(&r);
    close_open(&r);
    if (r.gathered.failed) out->failed = true;
    we_buf_deinit(&r.gathered);
}

void desk_blocks_deinit(desk_blocks *blocks)
{
    for (size_t i = 0; i < blocks->n; i++) {
        we_free(blocks->items[i].text);
        we_free(blocks->items[i].marker);
    }
    we_free(blocks->items);
    *blocks = (desk_blocks){ 0 };
}
