/* SPDX-License-Identifier: Apache-2.0
 * filters_list.c - filters on sequences. Those that Jinja writes as generators are lazy here, too: nothing happens and
 * nothing fails until someone asks for an item, and they can be gone through once.
 * Source: jinja2/filters.py of Jinja2 3.1.6. */
#include "template/template_int.h"

static bool is_true(value v) { return given(v) && we_tpl_truth(v); }

/* ---- attributes by path: "a.b.0" ---- */

typedef struct getter {
    list *parts;
    value fallback; /* V_MISSING: none */
    bool ignore_case;
} getter;

static value path_part(render *r, we_str s)
{
    value v;
    bool digits = s.len > 0;
    for (size_t i = 0; i < s.len; i++) digits &= s.ptr[i] >= '0' && s.ptr[i] <= '9';
    if (digits && we_tpl_parse_int(r, s, 10, &v)) return v;
    return we_tpl_str(r, s);
}

static getter getter_new(render *r, value attribute, value fallback, bool ignore_case)
{
    getter g = { we_tpl_list_new(r, 4), fallback.type == V_NONE ? V_MISSING_VALUE : fallback, ignore_case };
    if (!given(attribute) || attribute.type == V_NONE) return g;
    if (attribute.type != V_STR) {
        we_tpl_list_push(r, g.parts, attribute);
        return g;
    }
    we_str s = str_of(attribute);
    for (size_t start = 0, i = 0; i <= s.len; i++) {
        if (i < s.len && s.ptr[i] != '.') continue;
        we_tpl_list_push(r, g.parts, path_part(r, (we_str){ s.ptr + start, i - start }));
        start = i + 1;
    }
    return g;
}

static value get(render *r, const getter *g, value item)
{
    for (size_t i = 0; i < g->parts->n; i++) {
        item = we_tpl_getitem(r, item, g->parts->items[i]);
        if (given(g->fallback) && item.type == V_UNDEFINED) item = g->fallback;
    }
    return g->ignore_case && item.type == V_STR ? we_tpl_case(r, item, CASE_LOWER) : item;
}

/* ---- generators ---- */

typedef struct lazy {     /* of map, select and their kin */
    const builtin *apply; /* filter or test */
    we_str name;          /* of it, for the message when there is none */
    call args;
    getter getter;
    bool by_attribute, keep; /* select: keep is true; reject: false */
    const call *raw;
} lazy;

static value generator(render *r, value source, bool (*next)(render *, iterator *, value *), void *state)
{
    iterator *it = we_tpl_iterator(r, "generator", next);
    it->source = source;
    it->state = state;
    return v_iter(it);
}

/* The source's iterator, on the first call. False: the source is falsy, so there is nothing. */
static bool start(render *r, iterator *it, bool falsy_is_empty)
{
    if (it->started) return it->inner != NULL;
    it->started = true;
    if (!falsy_is_empty || we_tpl_truth(it->source)) it->inner = we_tpl_iter(r, it->source);
    return it->inner != NULL;
}

static const call *copy_call(render *r, const call *c)
{
    call *copy = we_tpl_alloc(r, sizeof(*copy));
    *copy = *c;
    return copy;
}

static call skip_args(const call *c, size_t n)
{
    return (call){ c->args + n, c->n_args - n, c->keywords, c->n_keywords };
}

/* ---- map ---- */

static void prepare_map(render *r, lazy *m)
{
    const call *c = m->raw;
    value attribute = V_MISSING_VALUE, fallback = V_MISSING_VALUE;
    for (size_t i = 0; i < c->n_keywords; i++)
        if (we_str_is(c->keywords[i].name, "attribute")) attribute = c->keywords[i].value;
    if (c->n_args == 0 && given(attribute)) {
        for (size_t i = 0; i < c->n_keywords; i++) {
            if (we_str_is(c->keywords[i].name, "default"))
                fallback = c->keywords[i].value;
            else if (!we_str_is(c->keywords[i].name, "attribute"))
                we_tpl_fail(r, "Unexpected keyword argument '%.*s'", STR_ARG(c->keywords[i].name));
        }
        m->getter = getter_new(r, attribute, fallback, false);
        m->by_attribute = true;
        return;
    }
    if (c->n_args == 0) we_tpl_fail(r, "map requires a filter argument");
    m->args = skip_args(c, 1);
    m->name = str_of(we_tpl_to_str(r, c->args[0]));
    m->apply = c->args[0].type == V_STR ? we_tpl_find_filter(m->name) : NULL;
}

static bool next_mapped(render *r, iterator *it, value *out)
{
    lazy *m = it->state;
    bool first = !it->started;
    if (first && we_tpl_truth(it->source)) prepare_map(r, m);
    if (!start(r, it, true) || !we_tpl_next(r, it->inner, out)) return false;
    if (m->by_attribute) {
        *out = get(r, &m->getter, *out);
        return true;
    }
    if (!m->apply) we_tpl_fail(r, "No filter named '%.*s'.", STR_ARG(m->name));
    *out = we_tpl_apply(r, m->apply, *out, &m->args);
    return true;
}

static value filter_map(render *r, value self, const value *a, const call *c)
{
    (void)a;
    lazy *m = we_tpl_calloc(r, 1, sizeof(*m));
    m->raw = copy_call(r, c);
    return generator(r, self, next_mapped, m);
}

/* ---- select, reject, selectattr, rejectattr ---- */

static void prepare_select(render *r, lazy *m)
{
    size_t off = m->by_attribute;
    if (m->by_attribute) {
        if (m->raw->n_args == 0) we_tpl_fail(r, "Missing parameter for attribute name");
        m->getter = getter_new(r, m->raw->args[0], V_MISSING_VALUE, false);
    }
    if (m->raw->n_args <= off) return;
    value name = m->raw->args[off];
    m->name = str_of(we_tpl_to_str(r, name));
    m->args = skip_args(m->raw, off + 1);
    m->apply = name.type == V_STR ? we_tpl_find_test(m->name) : NULL;
}

static bool next_selected(render *r, iterator *it, value *out)
{
    lazy *m = it->state;
    if (!it->started && we_tpl_truth(it->source)) prepare_select(r, m);
    if (!start(r, it, true)) return false;
    while (we_tpl_next(r, it->inner, out)) {
        value v = m->by_attribute ? get(r, &m->getter, *out) : *out;
        if (m->name.ptr && !m->apply) we_tpl_fail(r, "No test named '%.*s'.", STR_ARG(m->name));
        if (m->apply) v = we_tpl_apply(r, m->apply, v, &m->args);
        if (we_tpl_truth(v) == m->keep) return true;
    }
    return false;
}

static value select_filter(render *r, value self, const call *c, bool by_attribute, bool keep)
{
    lazy *m = we_tpl_calloc(r, 1, sizeof(*m));
    m->raw = copy_call(r, c);
    m->by_attribute = by_attribute;
    m->keep = keep;
    return generator(r, self, next_selected, m);
}

static value filter_select(render *r, value self, const value *a, const call *c)
{
    (void)a;
    return select_filter(r, self, c, false, true);
}

static value filter_reject(render *r, value self, const value *a, const call *c)
{
    (void)a;
    return select_filter(r, self, c, false, false);
}

static value filter_selectattr(render *r, value self, const value *a, const call *c)
{
    (void)a;
    return select_filter(r, self, c, true, true);
}

static value filter_rejectattr(render *r, value self, const value *a, const call *c)
{
    (void)a;
    return select_filter(r, self, c, true, false);
}

/* ---- unique, items, batch, slice ---- */

typedef struct unique {
    getter getter;
    dict *seen;
} unique;

static bool next_unique(render *r, iterator *it, value *out)
{
    unique *u = it->state;
    start(r, it, false);
    while (we_tpl_next(r, it->inner, out)) {
        value key = get(r, &u->getter, *out), ignored;
        if (we_tpl_dict_get(r, u->seen, key, &ignored)) continue;
        we_tpl_dict_set(r, u->seen, key, V_NONE_VALUE);
        return true;
    }
    return false;
}

static value filter_unique(render *r, value self, const value *a, const call *c)
{
    (void)c;
    unique *u = we_tpl_alloc(r, sizeof(*u));
    *u = (unique){ getter_new(r, a[1], V_MISSING_VALUE, !is_true(a[0])), we_tpl_dict_new(r) };
    return generator(r, self, next_unique, u);
}

static bool next_pair(render *r, iterator *it, value *out)
{
    if (it->source.type == V_UNDEFINED) return false;
    if (it->source.type != V_DICT) we_tpl_fail(r, "Can only get item pairs from a mapping.");
    if (it->index >= it->source.dict->n) return false;
    const dict_entry *e = &it->source.dict->entries[it->index++];
    *out = we_tpl_pair(r, e->key, e->value);
    return true;
}

static value filter_items(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return generator(r, self, next_pair, NULL);
}

typedef struct batch {
    value size, fill;
    value held; /* the item that did not fit into the batch before */
    bool done;
} batch;

static bool next_batch(render *r, iterator *it, value *out)
{
    batch *b = it->state;
    start(r, it, false);
    if (b->done) return false;
    list *l = we_tpl_list_new(r, 4);
    if (given(b->held)) we_tpl_list_push(r, l, b->held);
    b->held = V_MISSING_VALUE;
    for (value item; we_tpl_next(r, it->inner, &item);) {
        if (we_tpl_equal(r, v_int((int64_t)l->n), b->size)) {
            b->held = item;
            *out = v_list(l);
            return true;
        }
        we_tpl_list_push(r, l, item);
    }
    b->done = true;
    if (l->n == 0) return false;
    if (given(b->fill) && b->fill.type != V_NONE && we_tpl_less(r, v_int((int64_t)l->n), b->size)) {
        int64_t size;
        if (!we_tpl_index(b->size, &size)) we_tpl_fail(r, "can't multiply sequence by non-int of type 'float'");
        while ((int64_t)l->n < size) we_tpl_list_push(r, l, b->fill);
    }
    *out = v_list(l);
    return true;
}

static value filter_batch(render *r, value self, const value *a, const call *c)
{
    (void)c;
    batch *b = we_tpl_calloc(r, 1, sizeof(*b));
    b->size = a[0];
    b->fill = a[1];
    return generator(r, self, next_batch, b);
}

typedef struct slices {
    list *items;
    int64_t n;
    value fill;
} slices;

static bool next_slice(render *r, iterator *it, value *out)
{
    slices *s = it->state;
    if (!s->items) {
        if (s->n == 0) {
            we_tpl_to_list(r, it->source);
            we_tpl_fail(r, "integer division or modulo by zero");
        }
        s->items = we_tpl_to_list(r, it->source);
    }
    int64_t i = (int64_t)it->index++;
    if (i >= s->n) return false;
    int64_t each = (int64_t)s->items->n / s->n, extra = (int64_t)s->items->n % s->n;
    int64_t from = i * each + WE_MIN(i, extra), to = from + each + (i < extra);
    list *l = we_tpl_list_new(r, (size_t)(to - from));
    for (int64_t k = from; k < to; k++) we_tpl_list_push(r, l, s->items->items[k]);
    if (given(s->fill) && s->fill.type != V_NONE && i >= extra) we_tpl_list_push(r, l, s->fill);
    *out = v_list(l);
    return true;
}

static value filter_slice(render *r, value self, const value *a, const call *c)
{
    (void)c;
    slices *s = we_tpl_calloc(r, 1, sizeof(*s));
    if (!we_tpl_index(a[0], &s->n))
        we_tpl_fail(r, "unsupported operand type(s) for //: 'int' and '%s'", we_tpl_type_name(a[0]));
    s->fill = a[1];
    return generator(r, self, next_slice, s);
}

/* ---- first, last, list, reverse, join, sum ---- */

static value filter_first(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    value v;
    if (we_tpl_next(r, we_tpl_iter(r, self), &v)) return v;
    return we_tpl_undefined_hint(r, "No first item, sequence was empty.");
}

static value filter_last(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    value v;
    iterator *it = we_tpl_reversed(r, self);
    if (!it) we_tpl_fail(r, "'%s' object is not reversible", we_tpl_type_name(self));
    if (we_tpl_next(r, it, &v)) return v;
    return we_tpl_undefined_hint(r, "No last item, sequence was empty.");
}

static value filter_list(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return v_list(we_tpl_to_list(r, self));
}

static value filter_reverse(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    if (self.type == V_STR) return we_tpl_slice(r, self, V_NONE_VALUE, V_NONE_VALUE, v_int(-1));
    iterator *it = we_tpl_reversed(r, self);
    if (it) return v_iter(it);
    if (!we_tpl_iterable(self)) we_tpl_fail(r, "argument must be iterable");
    return we_tpl_slice(r, v_list(we_tpl_to_list(r, self)), V_NONE_VALUE, V_NONE_VALUE, v_int(-1));
}

static bool next_attribute(render *r, iterator *it, value *out)
{
    if (!we_tpl_next(r, it->inner, out)) return false;
    *out = get(r, it->state, *out);
    return true;
}

/* map(getter, v) where an attribute is given, else iter(v) */
static iterator *attributes_of(render *r, value v, value attribute)
{
    iterator *inner = we_tpl_iter(r, v);
    if (!given(attribute) || attribute.type == V_NONE) return inner;
    getter *g = we_tpl_alloc(r, sizeof(*g));
    *g = getter_new(r, attribute, V_MISSING_VALUE, false);
    iterator *it = we_tpl_iterator(r, "map", next_attribute);
    it->inner = inner;
    it->state = g;
    return it;
}

static value filter_join(render *r, value self, const value *a, const call *c)
{
    (void)c;
    value separator = given(a[0]) ? we_tpl_to_str(r, a[0]) : we_tpl_str_c(r, "");
    return we_tpl_str_join(r, separator, attributes_of(r, self, a[1]), true);
}

static value filter_sum(render *r, value self, const value *a, const call *c)
{
    (void)c;
    value total = given(a[1]) ? a[1] : v_int(0), item;
    iterator *it = attributes_of(r, self, a[0]);
    if (total.type == V_STR) we_tpl_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    while (we_tpl_next(r, it, &item)) total = we_tpl_binary(r, OP_ADD, total, item);
    return total;
}

/* ---- sort, min, max, groupby, dictsort ---- */

/* One key for each item: a list of the attributes' values, as Jinja makes it. */
static value *sort_keys(render *r, const list *l, value attribute, bool ignore_case)
{
    list *paths = we_tpl_list_new(r, 2);
    if (given(attribute) && attribute.type == V_STR)
        paths = we_tpl_str_split(r, attribute, we_tpl_str_c(r, ","), -1, false).list;
    else
        we_tpl_list_push(r, paths, attribute);
    getter *getters = we_tpl_calloc(r, paths->n, sizeof(*getters));
    for (size_t i = 0; i < paths->n; i++) getters[i] = getter_new(r, paths->items[i], V_MISSING_VALUE, ignore_case);
    value *keys = we_tpl_calloc(r, l->n + 1, sizeof(*keys));
    for (size_t i = 0; i < l->n; i++) {
        list *key = we_tpl_list_new(r, paths->n);
        for (size_t k = 0; k < paths->n; k++) we_tpl_list_push(r, key, get(r, &getters[k], l->items[i]));
        keys[i] = v_list(key);
    }
    return keys;
}

static list *copy_items(render *r, value v)
{
    const list *from = we_tpl_to_list(r, v);
    list *l = we_tpl_list_new(r, from->n);
    for (size_t i = 0; i < from->n; i++) we_tpl_list_push(r, l, from->items[i]);
    return l;
}

/* The `reverse` of Python's sorted(): any integer, and nothing else. */
static bool is_reversed(render *r, value v)
{
    if (given(v) && !is_int(v)) we_tpl_fail(r, "'%s' object cannot be interpreted as an integer", we_tpl_type_name(v));
    return is_true(v);
}

static value filter_sort(render *r, value self, const value *a, const call *c)
{
    (void)c;
    list *l = copy_items(r, self);
    value *keys = sort_keys(r, l, a[2], !is_true(a[1]));
    we_tpl_sort(r, keys, l->items, l->n, is_reversed(r, a[0]));
    return v_list(l);
}

static value least(render *r, value self, const value *a, bool greatest)
{
    getter g = getter_new(r, a[1], V_MISSING_VALUE, !is_true(a[0]));
    iterator *it = we_tpl_iter(r, self);
    value best, key, item;
    if (!we_tpl_next(r, it, &best)) return we_tpl_undefined_hint(r, "No aggregated item, sequence was empty.");
    key = get(r, &g, best);
    while (we_tpl_next(r, it, &item)) {
        value k = get(r, &g, item);
        if (!we_tpl_compare(r, greatest ? OP_GT : OP_LT, k, key)) continue;
        best = item;
        key = k;
    }
    return best;
}

static value filter_min(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return least(r, self, a, false);
}

static value filter_max(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return least(r, self, a, true);
}

static value filter_groupby(render *r, value self, const value *a, const call *c)
{
    (void)c;
    getter g = getter_new(r, a[0], a[1], !is_true(a[2])), shown = getter_new(r, a[0], a[1], false);
    list *l = copy_items(r, self), *groups = we_tpl_list_new(r, 8), *group = NULL;
    value *keys = we_tpl_calloc(r, l->n + 1, sizeof(*keys));
    for (size_t i = 0; i < l->n; i++) keys[i] = get(r, &g, l->items[i]);
    we_tpl_sort(r, keys, l->items, l->n, false);
    for (size_t i = 0; i < l->n; i++) {
        if (i == 0 || !we_tpl_equal(r, keys[i - 1], keys[i])) {
            group = we_tpl_list_new(r, 4);
            value pair = we_tpl_pair(r, is_true(a[2]) ? keys[i] : get(r, &shown, l->items[i]), v_list(group));
            pair.list->group = true;
            we_tpl_list_push(r, groups, pair);
        }
        we_tpl_list_push(r, group, l->items[i]);
    }
    return v_list(groups);
}

static value filter_dictsort(render *r, value self, const value *a, const call *c)
{
    (void)c;
    bool by_key = !given(a[1]) || (a[1].type == V_STR && we_str_is(str_of(a[1]), "key"));
    bool by_value = given(a[1]) && a[1].type == V_STR && we_str_is(str_of(a[1]), "value");
    if (!by_key && !by_value) we_tpl_fail(r, "You can only sort by either \"key\" or \"value\"");
    if (self.type == V_UNDEFINED) we_tpl_raise_undefined(r, self);
    if (self.type != V_DICT) we_tpl_fail(r, "'%s' object has no attribute 'items'", we_tpl_type_name(self));
    list *l = we_tpl_list_new(r, self.dict->n);
    value *keys = we_tpl_calloc(r, self.dict->n + 1, sizeof(*keys));
    for (size_t i = 0; i < self.dict->n; i++) {
        const dict_entry *e = &self.dict->entries[i];
        we_tpl_list_push(r, l, we_tpl_pair(r, e->key, e->value));
        keys[i] = by_key ? e->key : e->value;
        if (!is_true(a[0]) && keys[i].type == V_STR) keys[i] = we_tpl_case(r, keys[i], CASE_LOWER);
    }
    we_tpl_sort(r, keys, l->items, l->n, is_reversed(r, a[2]));
    return v_list(l);
}

static const builtin rows[] = {
    { "batch", "linecount fill_with?", filter_batch },
    { "dictsort", "case_sensitive? by? reverse?", filter_dictsort },
    { "first", "", filter_first },
    { "groupby", "attribute default? case_sensitive?", filter_groupby },
    { "items", "", filter_items },
    { "join", "d? attribute?", filter_join },
    { "last", "", filter_last },
    { "list", "", filter_list },
    { "map", "*", filter_map },
    { "max", "case_sensitive? attribute?", filter_max },
    { "min", "case_sensitive? attribute?", filter_min },
    { "reject", "*", filter_reject },
    { "rejectattr", "*", filter_rejectattr },
    { "reverse", "", filter_reverse },
    { "select", "*", filter_select },
    { "selectattr", "*", filter_selectattr },
    { "slice", "slices fill_with?", filter_slice },
    { "sort", "reverse? case_sensitive? attribute?", filter_sort },
    { "sum", "attribute? start?", filter_sum },
    { "unique", "case_sensitive? attribute?", filter_unique },
};
const builtin_table we_tpl_list_filters_table = { rows, WE_COUNT(rows) };
