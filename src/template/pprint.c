/* SPDX-License-Identifier: Apache-2.0
 * pprint.c - the filter pprint: a value as repr() shows it, dicts in the order of their keys, broken into lines where it is
 * wider than 80. Source: the behaviour of pprint.pformat of Python 3.11, which Jinja's filter calls. */
#include "template/template_int.h"

#define WIDTH 80

/* ---- dicts in order ---- */

/* Python's _safe_key: what `<` refuses is ordered by the types' names. */
static bool comes_before(render *r, value a, value b)
{
    if ((is_number(a) && is_number(b)) || (a.type == V_STR && b.type == V_STR) ||
        (a.type == V_TUPLE && b.type == V_TUPLE))
        return we_tpl_less(r, a, b);
    return strcmp(we_tpl_type_name(a), we_tpl_type_name(b)) < 0;
}

static list *sorted_keys(render *r, const dict *d)
{
    list *keys = we_tpl_list_new(r, d->n);
    for (size_t i = 0; i < d->n; i++) {
        size_t at = i;
        we_tpl_list_push(r, keys, d->entries[i].key);
        while (at && comes_before(r, d->entries[i].key, keys->items[at - 1])) {
            keys->items[at] = keys->items[at - 1];
            at--;
            we_tpl_work(r, 1);
        }
        keys->items[at] = d->entries[i].key;
    }
    return keys;
}

static value item_of(render *r, const dict *d, value key)
{
    value v = V_MISSING_VALUE;
    we_tpl_dict_get(r, d, key, &v);
    return v;
}

/* ---- on one line ---- */

static void put_flat(render *r, value v)
{
    if (v.type != V_DICT && v.type != V_LIST && v.type != V_TUPLE) {
        we_tpl_write_repr(r, v);
        return;
    }
    const list *items = v.type == V_DICT ? sorted_keys(r, v.dict) : v.list;
    we_tpl_enter(r);
    we_tpl_work(r, items->n + 1);
    we_tpl_put_c(r, v.type == V_DICT ? "{" : v.type == V_LIST ? "[" : "(");
    for (size_t i = 0; i < items->n; i++) {
        if (i) we_tpl_put_c(r, ", ");
        put_flat(r, items->items[i]);
        if (v.type != V_DICT) continue;
        we_tpl_put_c(r, ": ");
        put_flat(r, item_of(r, v.dict, items->items[i]));
    }
    we_tpl_put_c(r, v.type == V_DICT ? "}" : v.type == V_LIST ? "]" : items->n == 1 ? ",)" : ")");
    we_tpl_leave(r);
}

static value flat(render *r, value v)
{
    const size_t start = r->out->len;
    put_flat(r, v);
    return we_tpl_take(r, start);
}

/* ---- on several ---- */

typedef struct place {         /* where a value is written */
    int64_t indent, allowance; /* columns before it; columns that what closes behind it takes */
    int level;
} place;

static void put_value(render *r, value v, place at);

static void put_break(render *r, int64_t indent)
{
    we_tpl_put_c(r, "\n");
    we_tpl_put_fill(r, ' ', indent);
}

static void put_items(render *r, const list *items, place at)
{
    at.indent++;
    for (size_t i = 0; i < items->n; i++) {
        const bool last = i + 1 == items->n;
        if (i) we_tpl_put_c(r, ","), put_break(r, at.indent);
        put_value(r, items->items[i], (place){ at.indent, last ? at.allowance : 1, at.level });
    }
}

static void put_dict(render *r, const dict *d, place at)
{
    const list *keys = sorted_keys(r, d);
    at.indent++;
    we_tpl_put_c(r, "{");
    for (size_t i = 0; i < keys->n; i++) {
        const bool last = i + 1 == keys->n;
        const value key = flat(r, keys->items[i]);
        if (i) we_tpl_put_c(r, ","), put_break(r, at.indent);
        we_tpl_put(r, key.str->ptr, key.str->len);
        we_tpl_put_c(r, ": ");
        put_value(r, item_of(r, d, keys->items[i]),
                  (place){ at.indent + (int64_t)key.str->n_chars + 2, last ? at.allowance + 1 : 1, at.level });
    }
    we_tpl_put_c(r, "}");
}

/* The end of the word that begins at `from`, with the white space behind it. */
static size_t word_end(we_str s, size_t from)
{
    bool space = false;
    for (size_t i = from, next = from; i < s.len; i = next) {
        const bool is_space = we_tpl_is_space(we_utf8_next(s, &next));
        if (space && !is_space) return i;
        space = is_space;
    }
    return s.len;
}

static value cut(render *r, we_str s, size_t from, size_t to)
{
    return we_tpl_repr(r, we_tpl_str(r, (we_str){ s.ptr + from, to - from }));
}

/* One line of a text, as one chunk or as several that fit. */
static void split_line(render *r, list *chunks, value line, bool is_last, int64_t width, int64_t allowance)
{
    const value whole = we_tpl_repr(r, line);
    if ((int64_t)whole.str->n_chars <= width - (is_last ? allowance : 0)) {
        we_tpl_list_push(r, chunks, whole);
        return;
    }
    const we_str s = str_of(line);
    size_t from = 0, to = 0;
    while (to < s.len) {
        const size_t next = word_end(s, to);
        const int64_t room = width - (is_last && next == s.len ? allowance : 0);
        we_tpl_work(r, 1 + (next - from) / 16);
        if (to > from && (int64_t)cut(r, s, from, next).str->n_chars > room) {
            we_tpl_list_push(r, chunks, cut(r, s, from, to));
            from = to;
        }
        to = next;
    }
    if (to > from) we_tpl_list_push(r, chunks, cut(r, s, from, to));
}

static void put_text(render *r, value v, place at)
{
    list *lines = we_tpl_splitlines(r, v, true), *chunks = we_tpl_list_new(r, lines->n);
    if (at.level == 1) at.indent++, at.allowance++;
    for (size_t i = 0; i < lines->n; i++)
        split_line(r, chunks, lines->items[i], i + 1 == lines->n, WIDTH - at.indent, at.allowance);
    const bool several = chunks->n > 1;
    if (several && at.level == 1) we_tpl_put_c(r, "(");
    for (size_t i = 0; i < chunks->n; i++) {
        if (i) put_break(r, at.indent);
        we_tpl_write_str(r, chunks->items[i]);
    }
    if (several && at.level == 1) we_tpl_put_c(r, ")");
}

static void put_value(render *r, value v, place at)
{
    const value line = flat(r, v);
    const bool fits = (int64_t)line.str->n_chars <= WIDTH - at.indent - at.allowance;
    at.level++;
    we_tpl_enter(r);
    if (!fits && v.type == V_DICT) {
        put_dict(r, v.dict, at);
    } else if (!fits && (v.type == V_LIST || v.type == V_TUPLE)) {
        const char *close = v.type == V_LIST ? "]" : v.list->n == 1 ? ",)" : ")";
        at.allowance += (int64_t)strlen(close);
        we_tpl_put_c(r, v.type == V_LIST ? "[" : "(");
        put_items(r, v.list, at);
        we_tpl_put_c(r, close);
    } else if (!fits && v.type == V_STR && !v.str->markup && v.str->len) {
        put_text(r, v, at);
    } else {
        we_tpl_put(r, line.str->ptr, line.str->len);
    }
    we_tpl_leave(r);
}

value we_tpl_pprint(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    const size_t start = r->out->len;
    put_value(r, self, (place){ 0, 0, 0 });
    return we_tpl_take(r, start);
}
