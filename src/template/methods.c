/* SPDX-License-Identifier: Apache-2.0
 * methods.c - the methods of lists, tuples, dicts, numbers, loops and cyclers. Methods that would change a list or a dict
 * are kept out by the sandbox (attribute.c); strings have their own file. */
#include "template/template_int.h"

#include <math.h>
#include <stdlib.h>

/* ---- lists, tuples, ranges ---- */

static value list_copy(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return v_list(we_tpl_to_list(r, self));
}

static value list_count(render *r, value self, const value *a, const call *c)
{
    (void)c;
    int64_t n = 0;
    iterator *it = we_tpl_iter(r, self);
    for (value item; we_tpl_next(r, it, &item);) n += we_tpl_equal(r, item, a[0]);
    return v_int(n);
}

static int64_t bound(render *r, value v, int64_t n, int64_t missing)
{
    int64_t i = missing;
    if (v.type != V_MISSING && !we_tpl_index(v, &i))
        we_tpl_fail(r, "slice indices must be integers or have an __index__ method");
    return i < 0 ? WE_MAX(i + n, 0) : i;
}

static value list_index(render *r, value self, const value *a, const call *c)
{
    (void)c;
    int64_t n = 0, i = 0;
    we_tpl_length(self, &n);
    int64_t from = bound(r, a[1], n, 0), to = bound(r, a[2], n, n);
    iterator *it = we_tpl_iter(r, self);
    for (value item; we_tpl_next(r, it, &item); i++)
        if (i >= from && i < to && we_tpl_equal(r, item, a[0])) return v_int(i);
    if (self.type == V_TUPLE) we_tpl_fail(r, "tuple.index(x): x not in tuple");
    we_str text = str_of(we_tpl_repr(r, a[0]));
    we_tpl_fail(r, "%.*s is not in %s", STR_ARG(text), we_tpl_type_name(self));
}

/* ---- dicts ---- */

static value dict_copy(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    dict *d = we_tpl_dict_new(r);
    for (size_t i = 0; i < self.dict->n; i++)
        we_tpl_dict_set(r, d, self.dict->entries[i].key, self.dict->entries[i].value);
    return v_dict(d);
}

static value dict_get(render *r, value self, const value *a, const call *c)
{
    (void)c;
    value v;
    if (we_tpl_dict_get(r, self.dict, a[0], &v)) return v;
    return a[1].type == V_MISSING ? V_NONE_VALUE : a[1];
}

static value dict_fromkeys(render *r, value self, const value *a, const call *c)
{
    (void)self, (void)c;
    dict *d = we_tpl_dict_new(r);
    iterator *it = we_tpl_iter(r, a[0]);
    for (value key; we_tpl_next(r, it, &key);) we_tpl_dict_set(r, d, key, a[1].type == V_MISSING ? V_NONE_VALUE : a[1]);
    return v_dict(d);
}

static value view_of(render *r, value self, view_kind kind)
{
    view *w = we_tpl_alloc(r, sizeof(*w));
    *w = (view){ kind, self.dict };
    return (value){ .type = V_VIEW, .view = w };
}

static value dict_keys(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return view_of(r, self, VIEW_KEYS);
}

static value dict_values(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return view_of(r, self, VIEW_VALUES);
}

static value dict_items(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return view_of(r, self, VIEW_ITEMS);
}

/* ---- numbers ---- */

static value int_bit_length(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    we_str bits = we_tpl_int_text(r, self, 2);
    return v_int(we_tpl_int_sign(self) == 0 ? 0 : (int64_t)bits.len - (we_tpl_int_sign(self) < 0));
}

static value int_bit_count(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    we_str bits = we_tpl_int_text(r, self, 2);
    int64_t n = 0;
    for (size_t i = 0; i < bits.len; i++) n += bits.ptr[i] == '1';
    return v_int(n);
}

static value number_itself(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return self.type == V_BOOL ? v_int(self.boolean) : self;
}

static value int_ratio(render *r, value self, const value *a, const call *c)
{
    return we_tpl_pair(r, number_itself(r, self, a, c), v_int(1));
}

static value float_is_integer(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return v_bool(isfinite(self.number) && floor(self.number) == self.number);
}

static value float_ratio(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    if (!isfinite(self.number))
        we_tpl_fail(r, "cannot convert %s to integer ratio", isnan(self.number) ? "NaN" : "Infinity");
    int exponent;
    double fraction = frexp(self.number, &exponent);
    for (int i = 0; i < 300 && fraction != floor(fraction); i++) fraction *= 2, exponent--;
    value top = we_tpl_int_from_double(r, fraction), power = we_tpl_int_pow(r, v_int(2), abs(exponent));
    if (exponent > 0) return we_tpl_pair(r, we_tpl_int_mul(r, top, power), v_int(1));
    return we_tpl_pair(r, top, power);
}

/* ---- loops, cyclers ---- */

static value loop_cycle(render *r, value self, const value *a, const call *c)
{
    (void)a;
    if (c->n_args == 0) we_tpl_fail(r, "no items for cycling given");
    return c->args[(size_t)self.loop->index0 % c->n_args];
}

static value loop_changed(render *r, value self, const value *a, const call *c)
{
    (void)a;
    loop *l = self.loop;
    bool same = l->changed && l->n_changed == c->n_args;
    for (size_t i = 0; same && i < c->n_args; i++) same = we_tpl_equal(r, l->changed[i], c->args[i]);
    if (same) return v_bool(false);
    value *copy = we_tpl_calloc(r, c->n_args + 1, sizeof(*copy));
    if (c->n_args) memcpy(copy, c->args, c->n_args * sizeof(*copy));
    l->changed = copy;
    l->n_changed = c->n_args;
    return v_bool(true);
}

static value cycler_next(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    cycler *y = self.cycler;
    value v = y->items->items[y->pos];
    y->pos = (y->pos + 1) % y->items->n;
    return v;
}

static value cycler_reset(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    self.cycler->pos = 0;
    return V_NONE_VALUE;
}

static const builtin list_rows[] = {
    { "copy", "", list_copy },
    { "count", "/ value", list_count },
    { "index", "/ value start? stop?", list_index },
};
static const builtin tuple_rows[] = {
    { "count", "/ value", list_count },
    { "index", "/ value start? stop?", list_index },
};
static const builtin dict_rows[] = {
    { "copy", "", dict_copy },
    { "fromkeys", "/ iterable value?", dict_fromkeys },
    { "get", "/ key default?", dict_get },
    { "items", "", dict_items },
    { "keys", "", dict_keys },
    { "values", "", dict_values },
};
static const builtin dict_type_rows[] = {
    { "fromkeys", "/ iterable value?", dict_fromkeys },
};
static const builtin int_rows[] = {
    { "bit_length", "", int_bit_length },
    { "bit_count", "", int_bit_count },
    { "conjugate", "", number_itself },
    { "as_integer_ratio", "", int_ratio },
};
static const builtin float_rows[] = {
    { "is_integer", "", float_is_integer },
    { "conjugate", "", number_itself },
    { "as_integer_ratio", "", float_ratio },
};
static const builtin loop_rows[] = {
    { "cycle", "*", loop_cycle },
    { "changed", "*", loop_changed },
};
static const builtin cycler_rows[] = {
    { "next", "", cycler_next },
    { "reset", "", cycler_reset },
};
const builtin_table we_tpl_list_methods = { list_rows, WE_COUNT(list_rows) };
const builtin_table we_tpl_tuple_methods = { tuple_rows, WE_COUNT(tuple_rows) };
const builtin_table we_tpl_dict_methods = { dict_rows, WE_COUNT(dict_rows) };
const builtin_table we_tpl_dict_type_methods = { dict_type_rows, WE_COUNT(dict_type_rows) };
const builtin_table we_tpl_int_methods = { int_rows, WE_COUNT(int_rows) };
const builtin_table we_tpl_float_methods = { float_rows, WE_COUNT(float_rows) };
const builtin_table we_tpl_loop_methods = { loop_rows, WE_COUNT(loop_rows) };
const builtin_table we_tpl_cycler_methods = { cycler_rows, WE_COUNT(cycler_rows) };
