/* SPDX-License-Identifier: Apache-2.0
 * globals.c - the functions that every template has: range, dict, namespace, cycler, joiner, raise_exception,
 * strftime_now. Source: jinja2/utils.py and sandbox.py of Jinja2 3.1.6; transformers' chat_template_utils.py. */
#include "template/template_int.h"

/* ---- range ---- */

static value make_range(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)a;
    int64_t n[3] = { 0, 0, 1 };
    if (c->n_keywords)
        we_tpl_fail(r, "safe_range() got an unexpected keyword argument '%.*s'", STR_ARG(c->keywords[0].name));
    if (c->n_args == 0) we_tpl_fail(r, "range expected at least 1 argument, got 0");
    if (c->n_args > 3) we_tpl_fail(r, "range expected at most 3 arguments, got %zu", c->n_args);
    for (size_t i = 0; i < c->n_args; i++) {
        value v = c->args[i];
        if (v.type == V_BIG)
            we_tpl_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE_ITEMS);
        if (!we_tpl_index(v, &n[c->n_args == 1 ? 1 : i]))
            we_tpl_fail(r, "'%s' object cannot be interpreted as an integer", we_tpl_type_name(v));
    }
    if (n[2] == 0) we_tpl_fail(r, "range() arg 3 must not be zero");
    uint64_t span = n[2] > 0 ? (uint64_t)n[1] - (uint64_t)n[0] : (uint64_t)n[0] - (uint64_t)n[1];
    uint64_t step = n[2] > 0 ? (uint64_t)n[2] : 0 - (uint64_t)n[2];
    bool empty = n[2] > 0 ? n[1] <= n[0] : n[1] >= n[0];
    uint64_t items = empty ? 0 : (span - 1) / step + 1;
    if (items > MAX_RANGE_ITEMS)
        we_tpl_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE_ITEMS);
    range *g = we_tpl_alloc(r, sizeof(*g));
    *g = (range){ n[0], n[1], n[2], (int64_t)items };
    return (value){ .type = V_RANGE, .range = g };
}

/* ---- dict, namespace ---- */

static void add_pairs(render *r, dict *d, value v)
{
    if (!we_tpl_iterable(v)) we_tpl_fail(r, "'%s' object is not iterable", we_tpl_type_name(v));
    iterator *it = we_tpl_iter(r, v);
    size_t i = 0;
    for (value item; we_tpl_next(r, it, &item); i++) {
        if (!we_tpl_iterable(item))
            we_tpl_fail(r, "cannot convert dictionary update sequence element #%zu to a sequence", i);
        list *pair = we_tpl_to_list(r, item);
        if (pair->n != 2)
            we_tpl_fail(r, "dictionary update sequence element #%zu has length %zu; 2 is required", i, pair->n);
        we_tpl_dict_set(r, d, pair->items[0], pair->items[1]);
    }
}

static dict *build_dict(render *r, const call *c)
{
    dict *d = we_tpl_dict_new(r);
    if (c->n_args > 1) we_tpl_fail(r, "dict expected at most 1 argument, got %zu", c->n_args);
    if (c->n_args && c->args[0].type == V_UNDEFINED) we_tpl_raise_undefined(r, c->args[0]); /* asked for .keys */
    if (c->n_args && c->args[0].type == V_DICT) {
        const dict *from = c->args[0].dict;
        for (size_t i = 0; i < from->n; i++) we_tpl_dict_set(r, d, from->entries[i].key, from->entries[i].value);
    } else if (c->n_args) {
        add_pairs(r, d, c->args[0]);
    }
    for (size_t i = 0; i < c->n_keywords; i++) we_tpl_dict_set_str(r, d, c->keywords[i].name, c->keywords[i].value);
    return d;
}

static value make_dict(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)a;
    return v_dict(build_dict(r, c));
}

static value make_namespace(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)a;
    dict *d = build_dict(r, c);
    for (size_t i = 0; i < d->n; i++) {
        value key = d->entries[i].key;
        if (key.type == V_STR && key.str->len && key.str->ptr[0] == '_')
            we_tpl_fail(r,
                        "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. "
                        "Please rename the attribute.",
                        STR_ARG(str_of(key)));
    }
    return (value){ .type = V_NAMESPACE, .dict = d };
}

/* ---- cycler, joiner ---- */

static value make_cycler(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)a;
    if (c->n_keywords)
        we_tpl_fail(r, "Cycler.__init__() got an unexpected keyword argument '%.*s'", STR_ARG(c->keywords[0].name));
    if (c->n_args == 0) we_tpl_fail(r, "at least one item has to be provided");
    cycler *y = we_tpl_calloc(r, 1, sizeof(*y));
    y->items = we_tpl_list_new(r, c->n_args);
    for (size_t i = 0; i < c->n_args; i++) we_tpl_list_push(r, y->items, c->args[i]);
    return (value){ .type = V_CYCLER, .cycler = y };
}

static value make_joiner(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)c;
    joiner *j = we_tpl_alloc(r, sizeof(*j));
    *j = (joiner){ given(a[0]) ? a[0] : we_tpl_str_c(r, ", "), false };
    return (value){ .type = V_JOINER, .joiner = j };
}

/* ---- transformers' own ---- */

static value raise_exception(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)c;
    we_tpl_fail_plain(r, str_of(we_tpl_to_str(r, a[0])));
}

static value strftime_now(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)c;
    if (a[0].type != V_STR) we_tpl_fail(r, "strftime() argument 1 must be str, not %s", we_tpl_type_name(a[0]));
    return we_tpl_strftime(r, str_of(a[0]));
}

static value lipsum(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)a, (void)c;
    we_tpl_fail(r, "lipsum() is not supported: it writes random text, and a prompt has to be the same each time");
}

static value call_block(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return we_tpl_call_block(r, self.ptr, NULL);
}
const builtin we_tpl_block_reference = { "block", "", call_block };

const builtin we_tpl_dict_constructor = { "dict", "*", make_dict };

static const builtin functions[] = {
    { "range", "*", make_range },
    { "namespace", "*", make_namespace },
    { "cycler", "*", make_cycler },
    { "joiner", "sep?", make_joiner },
    { "raise_exception", "message", raise_exception },
    { "strftime_now", "format", strftime_now },
    { "lipsum", "*", lipsum },
};

value we_tpl_find_global(render *r, we_str name)
{
    if (we_str_is(name, "dict")) return we_tpl_method(r, &we_tpl_dict_constructor, V_MISSING_VALUE);
    const builtin *b = we_tpl_table_find((builtin_table){ functions, WE_COUNT(functions) }, name);
    return b ? we_tpl_method(r, b, V_MISSING_VALUE) : V_MISSING_VALUE;
}
