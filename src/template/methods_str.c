/* SPDX-License-Identifier: Apache-2.0
 * methods_str.c - the methods of strings. Source: the Python library reference, "String Methods". */
#include "template/template_int.h"

/* ---- helpers ---- */

bool we_tpl_find_bytes(we_str haystack, we_str needle, size_t from, size_t *at)
{
    if (from > haystack.len) return false;
    if (needle.len == 0) return *at = from, true;
    const char *p = memmem(haystack.ptr + from, haystack.len - from, needle.ptr, needle.len); /* linear time */
    if (p) *at = (size_t)(p - haystack.ptr);
    return p != NULL;
}

static bool find_last(render *r, we_str haystack, we_str needle, size_t end, size_t *at)
{
    if (needle.len > end) return false;
    for (size_t i = end - needle.len + 1; i-- > 0;) {
        if (needle.len && haystack.ptr[i] != needle.ptr[0]) continue;
        we_tpl_work(r, 1 + needle.len / 64);
        if (memcmp(haystack.ptr + i, needle.ptr, needle.len) == 0) return *at = i, true;
    }
    return false;
}

static we_str text_arg(render *r, value v, const char *what)
{
    if (v.type != V_STR) we_tpl_fail(r, "%s must be str, not %s", what, we_tpl_type_name(v));
    return str_of(v);
}

static int64_t int_arg(render *r, value v, int64_t missing)
{
    int64_t i = 0;
    if (v.type == V_MISSING) return missing;
    if (v.type == V_BIG) return v.big->negative ? INT64_MIN / 2 : INT64_MAX / 2;
    if (!we_tpl_index(v, &i)) we_tpl_fail(r, "'%s' object cannot be interpreted as an integer", we_tpl_type_name(v));
    return i;
}

static value part(render *r, value self, size_t from, size_t to) /* bytes */
{
    value v = we_tpl_str(r, (we_str){ self.str->ptr + from, to - from });
    v.str->markup = self.str->markup;
    return v;
}

static value like(render *r, value self, value text) /* Markup's methods give Markup */
{
    return self.str->markup ? we_tpl_markup(r, text) : text;
}

/* ---- stripping ---- */

static bool strips(we_str s, size_t at, const we_str *chars)
{
    size_t next = at, i = 0;
    uint32_t c = we_utf8_next(s, &next);
    if (!chars) return we_tpl_is_space(c);
    while (i < chars->len)
        if (we_utf8_next(*chars, &i) == c) return true;
    return false;
}

value we_tpl_str_strip(render *r, value self, value chars, bool left, bool right)
{
    we_str s = str_of(self), set = { "", 0 };
    if (chars.type != V_MISSING && chars.type != V_NONE) {
        if (chars.type != V_STR) we_tpl_fail(r, "strip arg must be None or str");
        set = str_of(chars);
    }
    const we_str *of = chars.type == V_STR ? &set : NULL;
    size_t from = 0, to = s.len;
    we_tpl_work(r, s.len / 16 + set.len);
    while (left && from < to && strips(s, from, of)) we_utf8_next(s, &from);
    while (right && to > from) {
        size_t at = to - 1;
        while (at > from && (s.ptr[at] & 0xC0) == 0x80) at--;
        if (!strips(s, at, of)) break;
        to = at;
    }
    return part(r, self, from, to);
}

static value str_strip(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return we_tpl_str_strip(r, self, a[0], true, true);
}

static value str_lstrip(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return we_tpl_str_strip(r, self, a[0], true, false);
}

static value str_rstrip(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return we_tpl_str_strip(r, self, a[0], false, true);
}

/* ---- splitting, joining ---- */

static void reverse_list(list *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        value t = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = t;
    }
}

static list *split_space(render *r, value self, int64_t max)
{
    we_str s = str_of(self);
    list *out = we_tpl_list_new(r, 8);
    size_t i = 0;
    for (;;) {
        while (i < s.len && strips(s, i, NULL)) we_utf8_next(s, &i);
        if (i == s.len) return out;
        size_t start = i;
        if (max >= 0 && (int64_t)out->n == max) {
            we_tpl_list_push(r, out, part(r, self, start, s.len)); /* with its space at the end */
            return out;
        }
        while (i < s.len && !strips(s, i, NULL)) we_utf8_next(s, &i);
        we_tpl_list_push(r, out, part(r, self, start, i));
    }
}

static size_t back_one(we_str s, size_t at)
{
    do at--;
    while (at > 0 && (s.ptr[at] & 0xC0) == 0x80);
    return at;
}

static list *rsplit_space(render *r, value self, int64_t max)
{
    we_str s = str_of(self);
    list *out = we_tpl_list_new(r, 8);
    size_t i = s.len;
    for (;;) {
        while (i > 0 && strips(s, back_one(s, i), NULL)) i = back_one(s, i);
        if (i == 0) break;
        size_t end = i;
        if (max >= 0 && (int64_t)out->n == max) {
            we_tpl_list_push(r, out, part(r, self, 0, end));
            break;
        }
        while (i > 0 && !strips(s, back_one(s, i), NULL)) i = back_one(s, i);
        we_tpl_list_push(r, out, part(r, self, i, end));
    }
    reverse_list(out);
    return out;
}

value we_tpl_str_split(render *r, value self, value separator, int64_t max, bool from_right)
{
    we_str s = str_of(self);
    we_tpl_work(r, s.len / 16);
    if (separator.type == V_MISSING || separator.type == V_NONE)
        return v_list(from_right ? rsplit_space(r, self, max) : split_space(r, self, max));
    we_str by = text_arg(r, separator, "separator");
    if (by.len == 0) we_tpl_fail(r, "empty separator");
    list *out = we_tpl_list_new(r, 8);
    size_t from = 0, to = s.len, at;
    while (from_right && (max < 0 || (int64_t)out->n < max) && find_last(r, s, by, to, &at)) {
        we_tpl_list_push(r, out, part(r, self, at + by.len, to));
        to = at;
    }
    while (!from_right && (max < 0 || (int64_t)out->n < max) && we_tpl_find_bytes(s, by, from, &at)) {
        we_tpl_list_push(r, out, part(r, self, from, at));
        from = at + by.len;
    }
    we_tpl_list_push(r, out, part(r, self, from, to));
    if (from_right) reverse_list(out);
    return v_list(out);
}

static value str_split(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return we_tpl_str_split(r, self, a[0], int_arg(r, a[1], -1), false);
}

static value str_rsplit(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return we_tpl_str_split(r, self, a[0], int_arg(r, a[1], -1), true);
}

static bool is_line_end(uint32_t c)
{
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

list *we_tpl_splitlines(render *r, value self, bool keep_ends)
{
    we_str s = str_of(self);
    list *out = we_tpl_list_new(r, 8);
    size_t start = 0;
    we_tpl_work(r, s.len / 16);
    for (size_t i = 0; i < s.len;) {
        size_t end = i;
        uint32_t c = we_utf8_next(s, &i);
        if (!is_line_end(c)) continue;
        if (c == '\r' && i < s.len && s.ptr[i] == '\n') i++;
        we_tpl_list_push(r, out, part(r, self, start, keep_ends ? i : end));
        start = i;
    }
    if (start < s.len) we_tpl_list_push(r, out, part(r, self, start, s.len));
    return out;
}

static value str_splitlines(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return v_list(we_tpl_splitlines(r, self, a[0].type != V_MISSING && int_arg(r, a[0], 0) != 0));
}

value we_tpl_str_join(render *r, value separator, iterator *it, bool convert)
{
    size_t start = r->out->len, n = 0;
    bool markup = separator.str->markup;
    for (value item; we_tpl_next(r, it, &item); n++) {
        if (item.type != V_STR && !convert)
            we_tpl_fail(r, "sequence item %zu: expected str instance, %s found", n, we_tpl_type_name(item));
        if (markup) item = we_tpl_escape(r, item);
        if (n) we_tpl_put(r, separator.str->ptr, separator.str->len);
        we_tpl_write_str(r, item);
    }
    return like(r, separator, we_tpl_take(r, start));
}

static value str_join(render *r, value self, const value *a, const call *c)
{
    (void)c;
    if (!we_tpl_iterable(a[0])) we_tpl_fail(r, "can only join an iterable");
    return we_tpl_str_join(r, self, we_tpl_iter(r, a[0]), false);
}

static value partition(render *r, value self, value separator, bool from_right)
{
    we_str s = str_of(self), by = text_arg(r, separator, "separator");
    size_t at = 0;
    if (by.len == 0) we_tpl_fail(r, "empty separator");
    bool found = from_right ? find_last(r, s, by, s.len, &at) : we_tpl_find_bytes(s, by, 0, &at);
    list *l = we_tpl_list_new(r, 3);
    if (found) {
        we_tpl_list_push(r, l, part(r, self, 0, at));
        we_tpl_list_push(r, l, part(r, self, at, at + by.len));
        we_tpl_list_push(r, l, part(r, self, at + by.len, s.len));
    } else {
        for (size_t i = 0; i < 3; i++) we_tpl_list_push(r, l, i == (from_right ? 2u : 0u) ? self : part(r, self, 0, 0));
    }
    return v_tuple(l);
}

static value str_partition(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return partition(r, self, a[0], false);
}

static value str_rpartition(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return partition(r, self, a[0], true);
}

/* ---- finding, replacing ---- */

/* str[start:end] as bytes; false where start is beyond the end. */
static bool window(render *r, value self, value start, value end, size_t *from, size_t *to)
{
    int64_t n = (int64_t)self.str->n_chars;
    int64_t i = start.type == V_NONE ? 0 : int_arg(r, start, 0), j = end.type == V_NONE ? n : int_arg(r, end, n);
    if (i < 0) i = i < -n ? 0 : i + n;
    if (j < 0) j = j < -n ? 0 : j + n;
    if (j > n) j = n;
    if (i > j) return false;
    *from = we_tpl_byte_of(self, (size_t)i);
    *to = we_tpl_byte_of(self, (size_t)j);
    return true;
}

static int64_t find_in(render *r, value self, const value *a, bool last)
{
    we_str needle = text_arg(r, a[0], "argument"), s = str_of(self);
    size_t from, to, at;
    if (!window(r, self, a[1], a[2], &from, &to)) return -1;
    we_tpl_work(r, s.len / 16);
    we_str within = { s.ptr + from, to - from };
    if (last ? !find_last(r, within, needle, within.len, &at) : !we_tpl_find_bytes(within, needle, 0, &at)) return -1;
    return (int64_t)we_tpl_utf8_count((we_str){ s.ptr, from + at });
}

static value str_find(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return v_int(find_in(r, self, a, false));
}

static value str_rfind(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return v_int(find_in(r, self, a, true));
}

static value must_find(render *r, int64_t at)
{
    if (at < 0) we_tpl_fail(r, "substring not found");
    return v_int(at);
}

static value str_index(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return must_find(r, find_in(r, self, a, false));
}

static value str_rindex(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return must_find(r, find_in(r, self, a, true));
}

static value str_count(render *r, value self, const value *a, const call *c)
{
    (void)c;
    we_str needle = text_arg(r, a[0], "argument"), s = str_of(self);
    size_t from, to;
    int64_t n = 0;
    if (!window(r, self, a[1], a[2], &from, &to)) return v_int(0);
    we_tpl_work(r, s.len / 16);
    we_str within = { s.ptr + from, to - from };
    if (needle.len == 0) return v_int((int64_t)we_tpl_utf8_count(within) + 1);
    for (size_t at = 0; we_tpl_find_bytes(within, needle, at, &at); at += needle.len) n++;
    return v_int(n);
}

value we_tpl_str_replace(render *r, value self, value from, value to, int64_t max)
{
    we_str s = str_of(self), old = str_of(from), new = str_of(to);
    size_t start = r->out->len, i = 0, at;
    we_tpl_work(r, s.len / 16);
    while (max != 0 && we_tpl_find_bytes(s, old, i, &at)) {
        if (old.len == 0) { /* between all characters: before each, and at the end */
            we_tpl_put(r, new.ptr, new.len);
            if (i == s.len) break;
            size_t next = i;
            we_utf8_next(s, &next);
            we_tpl_put(r, s.ptr + i, next - i);
            i = next;
        } else {
            we_tpl_put(r, s.ptr + i, at - i);
            we_tpl_put(r, new.ptr, new.len);
            i = at + old.len;
        }
        max -= max > 0;
    }
    we_tpl_put(r, s.ptr + i, s.len - i);
    return like(r, self, we_tpl_take(r, start));
}

static value str_replace(render *r, value self, const value *a, const call *c)
{
    (void)c;
    text_arg(r, a[0], "replace() argument 1");
    text_arg(r, a[1], "replace() argument 2");
    return we_tpl_str_replace(r, self, a[0], self.str->markup ? we_tpl_escape(r, a[1]) : a[1], int_arg(r, a[2], -1));
}

static bool affix(render *r, value self, const value *a, bool at_end, const char *name)
{
    size_t from, to;
    value one = a[0];
    list single = { .items = &one, .n = 1 }, *all = a[0].type == V_TUPLE ? a[0].list : &single;
    bool inside = window(r, self, a[1], a[2], &from, &to);
    for (size_t i = 0; i < all->n; i++) {
        if (all->items[i].type != V_STR)
            we_tpl_fail(r, "%s first arg must be str or a tuple of str, not %s", name, we_tpl_type_name(all->items[i]));
        we_str s = str_of(all->items[i]), within = { self.str->ptr + (inside ? from : 0), inside ? to - from : 0 };
        if (inside && (at_end ? we_str_ends_with(within, s) : we_str_starts_with(within, s))) return true;
    }
    return false;
}

static value str_startswith(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return v_bool(affix(r, self, a, false, "startswith"));
}

static value str_endswith(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return v_bool(affix(r, self, a, true, "endswith"));
}

static value str_removeprefix(render *r, value self, const value *a, const call *c)
{
    (void)c;
    we_str prefix = text_arg(r, a[0], "removeprefix() argument");
    return part(r, self, we_str_starts_with(str_of(self), prefix) ? prefix.len : 0, self.str->len);
}

static value str_removesuffix(render *r, value self, const value *a, const call *c)
{
    (void)c;
    we_str suffix = text_arg(r, a[0], "removesuffix() argument");
    return part(r, self, 0, self.str->len - (we_str_ends_with(str_of(self), suffix) ? suffix.len : 0));
}

/* ---- case ---- */

#define CASE_METHOD(name, kind)                                             \
    static value name(render *r, value self, const value *a, const call *c) \
    {                                                                       \
        (void)a, (void)c;                                                   \
        return we_tpl_case(r, self, kind);                                  \
    }
CASE_METHOD(str_upper, CASE_UPPER)
CASE_METHOD(str_lower, CASE_LOWER)
CASE_METHOD(str_title, CASE_TITLE)
CASE_METHOD(str_capitalize, CASE_CAPITALIZE)
CASE_METHOD(str_swapcase, CASE_SWAP)
CASE_METHOD(str_casefold, CASE_FOLD)

/* ---- questions ---- */

static bool all_are(value self, char_class cc)
{
    we_str s = str_of(self);
    for (size_t i = 0; i < s.len;)
        if (!we_tpl_is(cc, we_utf8_next(s, &i))) return false;
    return s.len > 0;
}

#define CLASS_METHOD(name, cc)                                              \
    static value name(render *r, value self, const value *a, const call *c) \
    {                                                                       \
        (void)r, (void)a, (void)c;                                          \
        return v_bool(all_are(self, cc));                                   \
    }
CLASS_METHOD(str_isalpha, CC_ALPHA)
CLASS_METHOD(str_isdecimal, CC_DECIMAL)
CLASS_METHOD(str_isdigit, CC_DIGIT)
CLASS_METHOD(str_isnumeric, CC_NUMERIC)

static value str_isalnum(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    we_str s = str_of(self);
    for (size_t i = 0; i < s.len;) {
        uint32_t x = we_utf8_next(s, &i);
        if (x == '_' || !we_tpl_is_word(x)) return v_bool(false);
    }
    return v_bool(s.len > 0);
}

static value str_isspace(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    we_str s = str_of(self);
    for (size_t i = 0; i < s.len;)
        if (!we_tpl_is_space(we_utf8_next(s, &i))) return v_bool(false);
    return v_bool(s.len > 0);
}

static value str_isprintable(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    we_str s = str_of(self);
    for (size_t i = 0; i < s.len;)
        if (!we_tpl_is_printable(we_utf8_next(s, &i))) return v_bool(false);
    return v_bool(true);
}

static value str_isascii(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return v_bool(self.str->len == self.str->n_chars);
}

static value str_isidentifier(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return v_bool(we_tpl_is_identifier(str_of(self)));
}

static bool one_case(value self, char_class yes, char_class no)
{
    we_str s = str_of(self);
    bool seen = false;
    for (size_t i = 0; i < s.len;) {
        uint32_t c = we_utf8_next(s, &i);
        if (we_tpl_is(no, c) || we_tpl_is(CC_TITLE, c)) return false;
        seen |= we_tpl_is(yes, c);
    }
    return seen;
}

static value str_islower(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return v_bool(one_case(self, CC_LOWER, CC_UPPER));
}

static value str_isupper(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return v_bool(one_case(self, CC_UPPER, CC_LOWER));
}

static value str_istitle(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    we_str s = str_of(self);
    bool cased = false, seen = false;
    for (size_t i = 0; i < s.len;) {
        uint32_t x = we_utf8_next(s, &i);
        bool upper = we_tpl_is(CC_UPPER, x) || we_tpl_is(CC_TITLE, x), lower = we_tpl_is(CC_LOWER, x);
        if ((upper && cased) || (lower && !cased)) return v_bool(false);
        cased = upper || lower;
        seen |= cased;
    }
    return v_bool(seen);
}

/* ---- padding ---- */

static value pad(render *r, value self, value width, value fill, int where) /* -1: text left, 0: centre, 1: right */
{
    uint32_t c = ' ';
    if (fill.type != V_MISSING) {
        we_str f = text_arg(r, fill, "The fill character");
        size_t i = 0;
        if (fill.str->n_chars != 1) we_tpl_fail(r, "The fill character must be exactly one character long");
        c = we_utf8_next(f, &i);
    }
    int64_t want = int_arg(r, width, 0), missing = want - (int64_t)self.str->n_chars;
    if (missing <= 0) return self;
    int64_t left = where > 0 ? missing : where < 0 ? 0 : missing / 2 + (missing & want & 1);
    size_t start = r->out->len;
    we_tpl_put_fill(r, c, left);
    we_tpl_put(r, self.str->ptr, self.str->len);
    we_tpl_put_fill(r, c, missing - left);
    return like(r, self, we_tpl_take(r, start));
}

static value str_center(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return pad(r, self, a[0], a[1], 0);
}

static value str_ljust(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return pad(r, self, a[0], a[1], -1);
}

static value str_rjust(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return pad(r, self, a[0], a[1], 1);
}

static value str_zfill(render *r, value self, const value *a, const call *c)
{
    (void)c;
    we_str s = str_of(self);
    int64_t missing = int_arg(r, a[0], 0) - (int64_t)self.str->n_chars;
    if (missing <= 0) return self;
    size_t start = r->out->len, sign = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+');
    we_tpl_put(r, s.ptr, sign);
    we_tpl_put_fill(r, '0', missing);
    we_tpl_put(r, s.ptr + sign, s.len - sign);
    return like(r, self, we_tpl_take(r, start));
}

static value str_expandtabs(render *r, value self, const value *a, const call *c)
{
    (void)c;
    we_str s = str_of(self);
    int64_t size = int_arg(r, a[0], 8), column = 0;
    size_t start = r->out->len;
    for (size_t i = 0; i < s.len;) {
        uint32_t x = we_utf8_next(s, &i);
        if (x == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            we_tpl_put_fill(r, ' ', n);
            column += n;
            continue;
        }
        we_tpl_put_rune(r, x);
        column = x == '\n' || x == '\r' ? 0 : column + 1;
    }
    return like(r, self, we_tpl_take(r, start));
}

/* ---- formatting, translating ---- */

static value str_format(render *r, value self, const value *a, const call *c)
{
    (void)a;
    return we_tpl_format(r, self, c, V_MISSING_VALUE);
}

static value str_format_map(render *r, value self, const value *a, const call *c)
{
    return we_tpl_format(r, self, c, a[0]);
}

static value str_translate(render *r, value self, const value *a, const call *c)
{
    (void)c;
    we_str s = str_of(self);
    size_t start = r->out->len;
    if (a[0].type != V_DICT) we_tpl_fail(r, "'%s' object is not subscriptable", we_tpl_type_name(a[0]));
    for (size_t i = 0; i < s.len;) {
        uint32_t x = we_utf8_next(s, &i);
        value to;
        if (!we_tpl_dict_get(r, a[0].dict, v_int(x), &to))
            we_tpl_put_rune(r, x);
        else if (to.type == V_INT && to.integer >= 0 && to.integer <= 0x10FFFF)
            we_tpl_put_rune(r, (uint32_t)to.integer);
        else if (to.type == V_STR)
            we_tpl_write_str(r, to);
        else if (to.type != V_NONE)
            we_tpl_fail(r, "character mapping must return integer, None or str");
    }
    return like(r, self, we_tpl_take(r, start));
}

static void map_chars(render *r, dict *d, value from, value to)
{
    we_str s = text_arg(r, from, "maketrans() argument"), t = text_arg(r, to, "maketrans() argument");
    if (from.str->n_chars != to.str->n_chars)
        we_tpl_fail(r, "the first two maketrans arguments must have equal length");
    for (size_t i = 0, j = 0; i < s.len;) {
        uint32_t x = we_utf8_next(s, &i);
        we_tpl_dict_set(r, d, v_int(x), v_int(we_utf8_next(t, &j)));
    }
}

static value str_maketrans(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)c;
    dict *d = we_tpl_dict_new(r);
    if (a[1].type != V_MISSING) {
        map_chars(r, d, a[0], a[1]);
        we_str s = a[2].type == V_MISSING ? WE_STR("") : text_arg(r, a[2], "maketrans() argument");
        for (size_t i = 0; i < s.len;) we_tpl_dict_set(r, d, v_int(we_utf8_next(s, &i)), V_NONE_VALUE);
        return v_dict(d);
    }
    if (a[0].type != V_DICT) we_tpl_fail(r, "if you give only one argument to maketrans it must be a dict");
    for (size_t i = 0; i < a[0].dict->n; i++) {
        value key = a[0].dict->entries[i].key;
        size_t at = 0;
        if (key.type == V_STR && key.str->n_chars != 1)
            we_tpl_fail(r, "string keys in translate table must be of length 1");
        if (key.type == V_STR) key = v_int(we_utf8_next(str_of(key), &at));
        we_tpl_dict_set(r, d, key, a[0].dict->entries[i].value);
    }
    return v_dict(d);
}

static const builtin methods[] = {
    { "capitalize", "", str_capitalize },
    { "casefold", "", str_casefold },
    { "center", "/ width fillchar?", str_center },
    { "count", "/ sub start? end?", str_count },
    { "endswith", "/ suffix start? end?", str_endswith },
    { "expandtabs", "tabsize?", str_expandtabs },
    { "find", "/ sub start? end?", str_find },
    { "format", "*", str_format },
    { "format_map", "/ mapping", str_format_map },
    { "index", "/ sub start? end?", str_index },
    { "isalnum", "", str_isalnum },
    { "isalpha", "", str_isalpha },
    { "isascii", "", str_isascii },
    { "isdecimal", "", str_isdecimal },
    { "isdigit", "", str_isdigit },
    { "isidentifier", "", str_isidentifier },
    { "islower", "", str_islower },
    { "isnumeric", "", str_isnumeric },
    { "isprintable", "", str_isprintable },
    { "isspace", "", str_isspace },
    { "istitle", "", str_istitle },
    { "isupper", "", str_isupper },
    { "join", "/ iterable", str_join },
    { "ljust", "/ width fillchar?", str_ljust },
    { "lower", "", str_lower },
    { "lstrip", "/ chars?", str_lstrip },
    { "maketrans", "/ x y? z?", str_maketrans },
    { "partition", "/ sep", str_partition },
    { "removeprefix", "/ prefix", str_removeprefix },
    { "removesuffix", "/ suffix", str_removesuffix },
    { "replace", "/ old new count?", str_replace },
    { "rfind", "/ sub start? end?", str_rfind },
    { "rindex", "/ sub start? end?", str_rindex },
    { "rjust", "/ width fillchar?", str_rjust },
    { "rpartition", "/ sep", str_rpartition },
    { "rsplit", "sep? maxsplit?", str_rsplit },
    { "rstrip", "/ chars?", str_rstrip },
    { "split", "sep? maxsplit?", str_split },
    { "splitlines", "keepends?", str_splitlines },
    { "startswith", "/ prefix start? end?", str_startswith },
    { "strip", "/ chars?", str_strip },
    { "swapcase", "", str_swapcase },
    { "title", "", str_title },
    { "translate", "/ table", str_translate },
    { "upper", "", str_upper },
    { "zfill", "/ width", str_zfill },
};
const builtin_table we_tpl_str_methods = { methods, WE_COUNT(methods) };
