/* SPDX-License-Identifier: Apache-2.0
 * filters_text.c - filters on text. What is no string becomes one first, where Jinja does that.
 * Source: jinja2/filters.py and utils.py of Jinja2 3.1.6, markupsafe 3.0, Python's textwrap. */
#include "template/template_int.h"

#include <stdio.h>

static value like(render *r, value self, value text)
{
    return self.type == V_STR && self.str->markup ? we_tpl_markup(r, text) : text;
}

static bool is_true(value v) { return given(v) && we_tpl_truth(v); }

static int64_t count_arg(render *r, value v, int64_t missing)
{
    int64_t i = missing;
    if (given(v) && !we_tpl_index(v, &i))
        we_tpl_fail(r, "'%s' object cannot be interpreted as an integer", we_tpl_type_name(v));
    return i;
}

static value need_str(render *r, value v)
{
    if (v.type == V_UNDEFINED) we_tpl_raise_undefined(r, v);
    if (v.type != V_STR) we_tpl_fail(r, "'%s' object is not a string", we_tpl_type_name(v));
    return v;
}

/* ---- case, space ---- */

static value filter_upper(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_case(r, we_tpl_soft_str(r, self), CASE_UPPER);
}

static value filter_lower(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_case(r, we_tpl_soft_str(r, self), CASE_LOWER);
}

static value filter_capitalize(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_case(r, we_tpl_soft_str(r, self), CASE_CAPITALIZE);
}

static bool begins_word(uint32_t c) /* [-\s({\[<] */
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || we_tpl_is_space(c);
}

static value filter_title(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    value text = we_tpl_soft_str(r, self);
    we_str s = str_of(text);
    size_t start = r->out->len;
    for (size_t i = 0; i < s.len;) {
        size_t from = i, rest;
        bool separator = begins_word(we_utf8_next(s, &i));
        rest = i; /* behind the first character */
        while (i < s.len) {
            size_t next = i;
            if (begins_word(we_utf8_next(s, &next)) != separator) break;
            i = next;
        }
        we_tpl_write_str(r, we_tpl_case(r, we_tpl_str(r, (we_str){ s.ptr + from, rest - from }), CASE_UPPER));
        we_tpl_write_str(r, we_tpl_case(r, we_tpl_str(r, (we_str){ s.ptr + rest, i - rest }), CASE_LOWER));
    }
    return we_tpl_take(r, start);
}

static value filter_trim(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return we_tpl_str_strip(r, we_tpl_soft_str(r, self), a[0], true, true);
}

static value filter_center(render *r, value self, const value *a, const call *c)
{
    (void)c;
    value text = we_tpl_soft_str(r, self), width = given(a[0]) ? a[0] : v_int(80), center;
    if (!we_tpl_attribute(r, text, WE_STR("center"), &center)) return text;
    return we_tpl_call(r, center, &(call){ &width, 1, NULL, 0 });
}

static value filter_string(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_soft_str(r, self);
}

static value filter_replace(render *r, value self, const value *a, const call *c)
{
    (void)c;
    int64_t max = given(a[2]) && a[2].type != V_NONE ? count_arg(r, a[2], -1) : -1;
    return we_tpl_str_replace(r, we_tpl_to_str(r, self), we_tpl_to_str(r, a[0]), we_tpl_to_str(r, a[1]), max);
}

static value filter_format(render *r, value self, const value *a, const call *c)
{
    (void)a;
    if (c->n_args && c->n_keywords) we_tpl_fail(r, "can't handle positional and keyword arguments at the same time");
    value args;
    if (c->n_keywords) {
        args = v_dict(we_tpl_dict_new(r));
        for (size_t i = 0; i < c->n_keywords; i++)
            we_tpl_dict_set_str(r, args.dict, c->keywords[i].name, c->keywords[i].value);
    } else {
        args = v_tuple(we_tpl_list_new(r, c->n_args));
        for (size_t i = 0; i < c->n_args; i++) we_tpl_list_push(r, args.list, c->args[i]);
    }
    return we_tpl_percent(r, we_tpl_soft_str(r, self), args);
}

/* ---- lines ---- */

static value filter_indent(render *r, value self, const value *a, const call *c)
{
    (void)c;
    bool first = is_true(a[1]), blank = is_true(a[2]);
    value width = given(a[0]) ? a[0] : v_int(4), indention = width;
    if (width.type != V_STR) indention = we_tpl_binary(r, OP_MUL, we_tpl_str_c(r, " "), width);
    if (self.type != V_STR) we_tpl_binary(r, OP_ADD, self, we_tpl_str_c(r, "\n")); /* raises, mostly */
    need_str(r, self);
    list *lines = we_tpl_splitlines(r, we_tpl_concat(r, self, we_tpl_str_c(r, "\n")), false);
    size_t start = r->out->len;
    for (size_t i = 0; i < lines->n; i++) {
        bool indent = i ? blank || lines->items[i].str->len : first;
        if (i) we_tpl_put(r, "\n", 1);
        if (indent) we_tpl_write_str(r, indention);
        we_tpl_write_str(r, lines->items[i]);
    }
    return like(r, self, we_tpl_take(r, start));
}

static value filter_truncate(render *r, value self, const value *a, const call *c)
{
    (void)c;
    value end = given(a[2]) ? need_str(r, a[2]) : we_tpl_str_c(r, "...");
    int64_t length = count_arg(r, a[0], 255), leeway = given(a[3]) && a[3].type != V_NONE ? count_arg(r, a[3], 5) : 5,
            n;
    int64_t end_chars = (int64_t)end.str->n_chars;
    if (length < end_chars)
        we_tpl_fail(r, "expected length >= %lld, got %lld", (long long)end_chars, (long long)length);
    if (leeway < 0) we_tpl_fail(r, "expected leeway >= 0, got %lld", (long long)leeway);
    if (!we_tpl_length(self, &n)) we_tpl_fail(r, "object of type '%s' has no len()", we_tpl_type_name(self));
    if (n <= length || n - length <= leeway) return self;
    value cut = we_tpl_substr(r, need_str(r, self), 0, (size_t)(length - end_chars));
    if (!is_true(a[1])) cut = we_tpl_str_split(r, cut, we_tpl_str_c(r, " "), 1, true).list->items[0];
    return we_tpl_binary(r, OP_ADD, cut, end);
}

static value filter_wordcount(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    we_str s = str_of(we_tpl_soft_str(r, self));
    int64_t n = 0;
    bool inside = false;
    for (size_t i = 0; i < s.len;) {
        bool word = we_tpl_is_word(we_utf8_next(s, &i));
        n += word && !inside;
        inside = word;
    }
    return v_int(n);
}

/* textwrap's chunks: words, cut behind hyphens between letters, and the space between them. */
static bool wrap_space(char c) { return strchr("\t\n\v\f\r ", c) && c; }

static uint32_t rune_at(we_str s, size_t i) { return i < s.len ? we_utf8_next(s, &i) : 0; }

static uint32_t rune_before(we_str s, size_t i)
{
    if (i == 0) return 0;
    do i--;
    while (i > 0 && (s.ptr[i] & 0xC0) == 0x80);
    return rune_at(s, i);
}

static bool letter(uint32_t c) /* [^\d\W] */ { return c && we_tpl_is_word(c) && !we_tpl_is(CC_DECIMAL, c); }

static bool word_punctuation(uint32_t c) /* [\w!"'&.,?] */
{
    return c && (we_tpl_is_word(c) || (c < 0x80 && strchr("!\"'&.,?", (int)c)));
}

/* The end of the chunk that begins at i (wordsep_re). */
static size_t chunk_end(we_str s, size_t i, bool hyphens)
{
    size_t start = i;
    if (wrap_space(s.ptr[i])) {
        while (i < s.len && wrap_space(s.ptr[i])) i++;
        return i;
    }
    size_t dashes = i;
    while (dashes < s.len && s.ptr[dashes] == '-') dashes++;
    if (hyphens && dashes - i >= 2 && word_punctuation(rune_before(s, i)) && we_tpl_is_word(rune_at(s, dashes)) &&
        dashes < s.len)
        return dashes; /* em-dash */
    while (i < s.len && !wrap_space(s.ptr[i])) {
        size_t at = i;
        we_utf8_next(s, &i);
        if (!hyphens) continue;
        bool may_end = word_punctuation(rune_at(s, at)); /* asked first: a run of dashes is gone through once */
        for (dashes = i; may_end && dashes < s.len && s.ptr[dashes] == '-';) dashes++;
        if (dashes - i >= 2 && dashes < s.len && we_tpl_is_word(rune_at(s, dashes))) return i;
        if (s.ptr[at] != '-' || at == start) continue;
        size_t next = i;
        uint32_t after = rune_at(s, i), second;
        if (!letter(after)) continue;
        we_utf8_next(s, &next);
        second = rune_at(s, next);
        if (second == '-') second = rune_at(s, next + 1);
        uint32_t before = rune_before(s, at);
        size_t b = at;
        do b--;
        while (b > 0 && (s.ptr[b] & 0xC0) == 0x80);
        uint32_t before2 = rune_before(s, b);
        bool left = letter(before) && (letter(before2) || (before2 == '-' && letter(rune_before(s, b - 1))));
        if (left && letter(second)) return i;
    }
    return i;
}

typedef struct wrapper {
    render *r;
    list *chunks;
    size_t next;
    int64_t width;
    bool break_long, hyphens;
} wrapper;

static bool is_blank(value v)
{
    we_str s = str_of(v);
    for (size_t i = 0; i < s.len;)
        if (!we_tpl_is_space(we_utf8_next(s, &i))) return false;
    return true;
}

/* How many characters of a word that is too long go on this line: up to a hyphen, if there is one that follows something. */
static int64_t break_at(const wrapper *w, value chunk, int64_t room)
{
    we_str s = { chunk.str->ptr, we_tpl_byte_of(chunk, (size_t)room) };
    size_t hyphen = s.len, dashes = 0;
    while (hyphen > 0 && s.ptr[hyphen - 1] != '-') hyphen--;
    while (dashes < hyphen && s.ptr[dashes] == '-') dashes++;
    if (!w->hyphens || hyphen < 2 || dashes == hyphen) return room;
    return (int64_t)we_tpl_utf8_count((we_str){ s.ptr, hyphen });
}

/* One line of chunks, without the space at its end. */
static value wrap_line(wrapper *w)
{
    int64_t length = 0;
    size_t first = w->next, last;
    while (w->next < w->chunks->n) {
        int64_t n = (int64_t)w->chunks->items[w->next].str->n_chars;
        if (length + n > w->width) break;
        length += n;
        w->next++;
    }
    size_t start = w->r->out->len;
    last = w->next;
    value cut = V_MISSING_VALUE;
    if (w->next < w->chunks->n && (int64_t)w->chunks->items[w->next].str->n_chars > w->width) {
        value *chunk = &w->chunks->items[w->next];
        int64_t room = w->width < 1 ? 1 : w->width - length;
        if (w->break_long) {
            room = break_at(w, *chunk, room);
            cut = we_tpl_substr(w->r, *chunk, 0, (size_t)room);
            *chunk = we_tpl_substr(w->r, *chunk, (size_t)room, chunk->str->n_chars);
        } else if (first == last) {
            cut = *chunk;
            w->next++;
        }
    }
    bool tail = given(cut) && !is_blank(cut);
    if (!given(cut) && last > first && is_blank(w->chunks->items[last - 1])) last--;
    for (size_t i = first; i < last; i++) we_tpl_write_str(w->r, w->chunks->items[i]);
    if (tail) we_tpl_write_str(w->r, cut);
    return we_tpl_take(w->r, start);
}

static void wrap_text(render *r, value text, list *lines, int64_t width, bool break_long, bool hyphens)
{
    we_str s = str_of(text);
    wrapper w = { r, we_tpl_list_new(r, 8), 0, width, break_long, hyphens };
    if (width <= 0) we_tpl_fail(r, "invalid width %lld (must be > 0)", (long long)width);
    for (size_t i = 0, end; i < s.len; i = end) {
        end = chunk_end(s, i, hyphens);
        we_tpl_list_push(r, w.chunks, we_tpl_str(r, (we_str){ s.ptr + i, end - i }));
    }
    while (w.next < w.chunks->n) {
        if (lines->n && is_blank(w.chunks->items[w.next]))
            w.next++;               /* no space at a line's beginning, but the first's */
        value line = wrap_line(&w); /* each takes a chunk, or a part of one */
        if (line.str->len) we_tpl_list_push(r, lines, line);
    }
}

static value filter_wordwrap(render *r, value self, const value *a, const call *c)
{
    (void)c;
    const value text = need_str(r, self);
    if (!text.str->len) return text; /* whatever the arguments are: no line, nothing to wrap */
    int64_t width = count_arg(r, a[0], 79);
    bool break_long = !given(a[1]) || we_tpl_truth(a[1]), hyphens = !given(a[3]) || we_tpl_truth(a[3]);
    value separator = given(a[2]) && a[2].type != V_NONE ? need_str(r, a[2]) : we_tpl_str_c(r, "\n");
    list *paragraphs = we_tpl_splitlines(r, text, false), *texts = we_tpl_list_new(r, paragraphs->n);
    for (size_t i = 0; i < paragraphs->n; i++) {
        list *lines = we_tpl_list_new(r, 8);
        wrap_text(r, paragraphs->items[i], lines, width, break_long, hyphens);
        we_tpl_list_push(r, texts, we_tpl_str_join(r, separator, we_tpl_iter(r, v_list(lines)), false));
    }
    return we_tpl_str_join(r, separator, we_tpl_iter(r, v_list(texts)), false);
}

/* ---- HTML and URLs ---- */

static value filter_escape(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_escape(r, self);
}

static value filter_forceescape(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_escape(r, we_tpl_to_str(r, self));
}

static value filter_safe(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_markup(r, we_tpl_to_str(r, self));
}

static value strip_tags(render *r, value text)
{
    we_str s = str_of(text);
    size_t start = r->out->len, i = 0, at, end;
    while (we_tpl_find_bytes(s, WE_STR("<"), i, &at)) {
        bool comment = s.len - at >= 4 && memcmp(s.ptr + at, "<!--", 4) == 0;
        if (!we_tpl_find_bytes(s, comment ? WE_STR("-->") : WE_STR(">"), at + (comment ? 4 : 0), &end)) break;
        we_tpl_put(r, s.ptr + i, at - i);
        i = end + (comment ? 3 : 1);
    }
    we_tpl_put(r, s.ptr + i, s.len - i);
    return we_tpl_take(r, start);
}

static value filter_striptags(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    value words = we_tpl_str_split(r, strip_tags(r, we_tpl_to_str(r, self)), V_NONE_VALUE, -1, false);
    return we_tpl_unescape(r, we_tpl_str_join(r, we_tpl_str_c(r, " "), we_tpl_iter(r, words), false));
}

static bool quote_safe(unsigned char c) { return (c | 32u) - 'a' < 26u || c - 48u < 10u || (c && strchr("_.-~", c)); }

static void put_quoted(render *r, value v, bool query)
{
    we_str s = str_of(we_tpl_soft_str(r, v));
    char hex[4];
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (query && c == ' ')
            we_tpl_put(r, "+", 1);
        else if (quote_safe(c) || (!query && c == '/'))
            we_tpl_put(r, s.ptr + i, 1);
        else {
            snprintf(hex, sizeof(hex), "%%%02X", c);
            we_tpl_put(r, hex, 3);
        }
    }
}

static value filter_urlencode(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    size_t start = r->out->len, n = 0;
    if (self.type == V_STR || !we_tpl_iterable(self)) {
        put_quoted(r, self, false);
        return we_tpl_take(r, start);
    }
    iterator *it = self.type == V_DICT ? NULL : we_tpl_iter(r, self);
    for (value item; it ? we_tpl_next(r, it, &item) : n < self.dict->n; n++) {
        list *pair = it ? we_tpl_to_list(r, item) : NULL;
        if (pair && pair->n != 2) we_tpl_fail(r, "not enough values to unpack (expected 2, got %zu)", pair->n);
        if (n) we_tpl_put(r, "&", 1);
        put_quoted(r, pair ? pair->items[0] : self.dict->entries[n].key, true);
        we_tpl_put(r, "=", 1);
        put_quoted(r, pair ? pair->items[1] : self.dict->entries[n].value, true);
    }
    return we_tpl_take(r, start);
}

static value filter_xmlattr(render *r, value self, const value *a, const call *c)
{
    (void)c;
    size_t start = r->out->len;
    bool space = !given(a[0]) || we_tpl_truth(a[0]), any = false;
    if (self.type == V_UNDEFINED) we_tpl_raise_undefined(r, self);
    if (self.type != V_DICT) we_tpl_fail(r, "'%s' object has no attribute 'items'", we_tpl_type_name(self));
    for (size_t i = 0; i < self.dict->n; i++) {
        value key = self.dict->entries[i].key, v = self.dict->entries[i].value;
        if (v.type == V_NONE || v.type == V_UNDEFINED) continue;
        if (key.type != V_STR) we_tpl_fail(r, "expected string or bytes-like object, got '%s'", we_tpl_type_name(key));
        for (size_t k = 0; k < key.str->len; k++)
            if (strchr(" \t\n\r\f\v/>=", key.str->ptr[k]) && key.str->ptr[k]) {
                we_str name = str_of(we_tpl_repr(r, key));
                we_tpl_fail(r, "Invalid character in attribute name: %.*s", STR_ARG(name));
            }
        if (any || space) we_tpl_put(r, " ", 1);
        any = true;
        we_tpl_write_str(r, we_tpl_escape(r, key));
        we_tpl_put(r, "=\"", 2);
        we_tpl_write_str(r, we_tpl_escape(r, v));
        we_tpl_put(r, "\"", 1);
    }
    return we_tpl_take(r, start);
}

static value filter_urlize(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)a, (void)c;
    we_tpl_fail(r, "the filter urlize is not supported: it makes links for web pages, which no prompt needs");
}

static const builtin rows[] = {
    { "capitalize", "", filter_capitalize },
    { "center", "width?", filter_center },
    { "e", "", filter_escape },
    { "escape", "", filter_escape },
    { "forceescape", "", filter_forceescape },
    { "format", "*", filter_format },
    { "indent", "width? first? blank?", filter_indent },
    { "lower", "", filter_lower },
    { "pprint", "", we_tpl_pprint },
    { "replace", "old new count?", filter_replace },
    { "safe", "", filter_safe },
    { "string", "", filter_string },
    { "striptags", "", filter_striptags },
    { "title", "", filter_title },
    { "trim", "chars?", filter_trim },
    { "truncate", "length? killwords? end? leeway?", filter_truncate },
    { "upper", "", filter_upper },
    { "urlencode", "", filter_urlencode },
    { "urlize", "*", filter_urlize },
    { "wordcount", "", filter_wordcount },
    { "wordwrap", "width? break_long_words? wrapstring? break_on_hyphens?", filter_wordwrap },
    { "xmlattr", "autospace?", filter_xmlattr },
};
const builtin_table we_tpl_text_filters_table = { rows, WE_COUNT(rows) };
