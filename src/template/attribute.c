/* SPDX-License-Identifier: Apache-2.0
 * attribute.c - a.b, a['b'], a[1:2]: attributes of every kind of value, inside the sandbox. Names that begin with an
 * underscore and methods that would change their object give an undefined value that raises when it is used.
 * Source: jinja2/sandbox.py of Jinja2 3.1.6. */
#include "template/template_int.h"

/* ---- the sandbox ---- */

static bool is_dunder(we_str name) /* what every Python object has; the rest would be found nowhere */
{
    static const char *const common[] = {
        "__class__",
        "__doc__",
        "__init__",
        "__new__",
        "__repr__",
        "__str__",
        "__eq__",
        "__ne__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__hash__",
        "__dir__",
        "__getattribute__",
        "__setattr__",
        "__delattr__",
        "__reduce__",
        "__reduce_ex__",
        "__sizeof__",
        "__format__",
        "__subclasshook__",
        "__init_subclass__",
        "__getstate__",
    };
    for (size_t i = 0; i < WE_COUNT(common); i++)
        if (we_str_is(name, common[i])) return true;
    return false;
}

static bool changes_object(value object, we_str name)
{
    static const char *const of_list[] = { "append", "clear",  "pop",    "reverse", "insert",
                                           "sort",   "extend", "remove", NULL };
    static const char *const of_dict[] = { "clear", "pop", "popitem", "setdefault", "update", NULL };
    const char *const *names = object.type == V_LIST ? of_list : object.type == V_DICT ? of_dict : NULL;
    for (; names && *names; names++)
        if (we_str_is(name, *names)) return true;
    return false;
}

static value unsafe(render *r, value object, we_str name)
{
    return we_tpl_undefined_hint(r, we_tpl_printf(r, "access to attribute '%.*s' of '%s' object is unsafe.",
                                                  STR_ARG(name), we_tpl_type_name(object)));
}

/* ---- attributes that are no methods ---- */

static bool number_attribute(value v, we_str name, value *out)
{
    bool whole = v.type != V_FLOAT;
    if (we_str_is(name, "real") || (whole && we_str_is(name, "numerator")))
        *out = v.type == V_BOOL ? v_int(v.boolean) : v;
    else if (we_str_is(name, "imag"))
        *out = whole ? v_int(0) : v_float(0);
    else if (whole && we_str_is(name, "denominator"))
        *out = v_int(1);
    else
        return false;
    return true;
}

static bool loop_attribute(render *r, loop *l, we_str name, value *out)
{
    if (we_str_is(name, "index"))
        *out = v_int(l->index0 + 1);
    else if (we_str_is(name, "index0"))
        *out = v_int(l->index0);
    else if (we_str_is(name, "first"))
        *out = v_bool(l->index0 == 0);
    else if (we_str_is(name, "last"))
        *out = v_bool(we_tpl_loop_peek(r, l).type == V_MISSING);
    else if (we_str_is(name, "length"))
        *out = v_int(we_tpl_loop_length(r, l));
    else if (we_str_is(name, "revindex"))
        *out = v_int(we_tpl_loop_length(r, l) - l->index0);
    else if (we_str_is(name, "revindex0"))
        *out = v_int(we_tpl_loop_length(r, l) - l->index0 - 1);
    else if (we_str_is(name, "depth"))
        *out = v_int(l->depth0 + 1);
    else if (we_str_is(name, "depth0"))
        *out = v_int(l->depth0);
    else if (we_str_is(name, "previtem"))
        *out = l->index0 == 0 ? we_tpl_undefined_hint(r, "there is no previous item") : l->before;
    else if (we_str_is(name, "nextitem")) {
        *out = we_tpl_loop_peek(r, l);
        if (out->type == V_MISSING) *out = we_tpl_undefined_hint(r, "there is no next item");
    } else
        return false;
    return true;
}

static bool macro_attribute(render *r, const macro *m, we_str name, value *out)
{
    const signature *sig = &m->node->macro.sig;
    bool named = m->node->kind == N_MACRO;
    if (we_str_is(name, "name"))
        *out = named ? we_tpl_str(r, m->node->macro.name) : V_NONE_VALUE;
    else if (we_str_is(name, "caller"))
        *out = v_bool(sig->wants_caller);
    else if (we_str_is(name, "catch_kwargs"))
        *out = v_bool(sig->wants_kwargs);
    else if (we_str_is(name, "catch_varargs"))
        *out = v_bool(sig->wants_varargs);
    else if (we_str_is(name, "arguments")) {
        list *l = we_tpl_list_new(r, sig->params.n);
        for (size_t i = 0; i < sig->params.n; i++) we_tpl_list_push(r, l, we_tpl_str(r, sig->names[i]));
        *out = v_tuple(l);
    } else
        return false;
    return true;
}

static bool range_attribute(const range *g, we_str name, value *out)
{
    if (we_str_is(name, "start"))
        *out = v_int(g->start);
    else if (we_str_is(name, "stop"))
        *out = v_int(g->stop);
    else if (we_str_is(name, "step"))
        *out = v_int(g->step);
    else
        return false;
    return true;
}

static bool plain_attribute(render *r, value v, we_str name, value *out)
{
    switch (v.type) {
    case V_BOOL:
    case V_INT:
    case V_BIG:
    case V_FLOAT: return number_attribute(v, name, out);
    case V_NAMESPACE: return we_tpl_dict_find(v.dict, name, out);
    case V_LOOP: return loop_attribute(r, v.loop, name, out);
    case V_MACRO: return macro_attribute(r, v.macro, name, out);
    case V_RANGE: return range_attribute(v.range, name, out);
    case V_TUPLE:
        if (!v.list->group || (!we_str_is(name, "grouper") && !we_str_is(name, "list"))) return false;
        *out = v.list->items[we_str_is(name, "list")];
        return true;
    case V_CYCLER:
        if (we_str_is(name, "pos"))
            *out = v_int((int64_t)v.cycler->pos);
        else if (we_str_is(name, "items"))
            *out = v_tuple(v.cycler->items);
        else if (we_str_is(name, "current"))
            *out = v.cycler->items->items[v.cycler->pos];
        else
            return false;
        return true;
    case V_JOINER:
        if (we_str_is(name, "sep"))
            *out = v.joiner->separator;
        else if (we_str_is(name, "used"))
            *out = v_bool(v.joiner->used);
        else
            return false;
        return true;
    default: return false;
    }
}

/* ---- methods ---- */

static builtin_table methods_of(value v)
{
    switch (v.type) {
    case V_STR: return we_tpl_str_methods;
    case V_LIST: return we_tpl_list_methods;
    case V_RANGE:
    case V_TUPLE: return we_tpl_tuple_methods;
    case V_DICT: return we_tpl_dict_methods;
    case V_BOOL:
    case V_INT:
    case V_BIG: return we_tpl_int_methods;
    case V_FLOAT: return we_tpl_float_methods;
    case V_LOOP: return we_tpl_loop_methods;
    case V_CYCLER: return we_tpl_cycler_methods;
    case V_FUNCTION: /* `dict` is an object with one method */
        if (v.function->builtin == &we_tpl_dict_constructor) return we_tpl_dict_type_methods; /* fall through */
    default: return (builtin_table){ NULL, 0 };
    }
}

value we_tpl_method(render *r, const builtin *b, value self)
{
    function *f = we_tpl_alloc(r, sizeof(*f));
    *f = (function){ b, self };
    return (value){ .type = V_FUNCTION, .function = f };
}

bool we_tpl_attribute(render *r, value object, we_str name, value *out)
{
    bool dunder = is_dunder(name);
    if (object.type == V_NAMESPACE) { /* has its attributes and nothing else */
        if (we_str_is(name, "__class__")) return *out = unsafe(r, object, name), true;
        return plain_attribute(r, object, name, out);
    }
    if (object.type == V_UNDEFINED && !dunder && !(name.len >= 4 && name.ptr[0] == '_' && name.ptr[1] == '_'))
        we_tpl_raise_undefined(r, object);
    if (dunder || changes_object(object, name)) return *out = unsafe(r, object, name), true;
    if (plain_attribute(r, object, name, out)) return true;
    const builtin *b = we_tpl_table_find(methods_of(object), name);
    if (b) *out = we_tpl_method(r, b, object);
    return b != NULL;
}

/* ---- items ---- */

static bool item_at(render *r, value object, int64_t i, value *out)
{
    int64_t n;
    if (!we_tpl_length(object, &n)) return false;
    if (i < 0) i += n;
    if (i < 0 || i >= n) return false;
    if (object.type == V_STR) {
        bool markup = object.str->markup;
        *out = we_tpl_substr(r, object, (size_t)i, (size_t)i + 1);
        out->str->markup = markup;
    } else if (object.type == V_RANGE) {
        *out = v_int(object.range->start + i * object.range->step);
    } else {
        *out = object.list->items[i];
    }
    return true;
}

extern const builtin we_tpl_block_reference;

static bool block_named(render *r, we_str name, value *out)
{
    for (size_t i = 0; i < r->tpl->blocks.n; i++) {
        const node *n = r->tpl->blocks.items[i];
        if (!we_str_eq(n->block.name, name)) continue;
        *out = we_tpl_method(r, &we_tpl_block_reference, (value){ .type = V_BLOCKS, .ptr = n });
        return true;
    }
    return false;
}

/* Python's object[index]; false where it raises TypeError or LookupError. */
static bool item(render *r, value object, value index, value *out)
{
    int64_t i;
    switch (object.type) {
    case V_UNDEFINED: we_tpl_raise_undefined(r, object);
    case V_DICT: return we_tpl_hashable(index) && we_tpl_dict_get(r, object.dict, index, out);
    case V_LIST:
    case V_TUPLE:
    case V_STR:
    case V_RANGE: return we_tpl_index(index, &i) && item_at(r, object, i, out);
    case V_BLOCKS: return index.type == V_STR && block_named(r, str_of(index), out);
    default: return false;
    }
}

value we_tpl_getitem(render *r, value object, value index)
{
    value v;
    if (item(r, object, index, &v)) return v;
    if (index.type == V_STR && we_tpl_attribute(r, object, str_of(index), &v)) return v;
    return we_tpl_undefined_item(r, object, index);
}

value we_tpl_getattr(render *r, value object, we_str name)
{
    value v, index;
    if (we_tpl_attribute(r, object, name, &v)) return v;
    if (object.type == V_DICT) { /* by far the most frequent */
        if (we_tpl_dict_find(object.dict, name, &v)) return v;
        return we_tpl_undefined_item(r, object, we_tpl_str(r, name));
    }
    index = we_tpl_str(r, name);
    return item(r, object, index, &v) ? v : we_tpl_undefined_item(r, object, index);
}

/* ---- slices ---- */

static int64_t slice_index(render *r, value v, int64_t missing)
{
    int64_t i = 0;
    if (v.type == V_NONE) return missing;
    if (v.type == V_BIG) return v.big->negative ? INT64_MIN : INT64_MAX;
    if (!we_tpl_index(v, &i)) we_tpl_fail(r, "slice indices must be integers or None or have an __index__ method");
    return i;
}

static int64_t clamp(int64_t i, int64_t n, int64_t low, int64_t high)
{
    if (i < 0) i = i < -n ? low : i + n;
    return i < low ? low : i > high ? high : i;
}

static value slice_range(render *r, const range *g, int64_t start, int64_t stop, int64_t step, int64_t n)
{
    range *out = we_tpl_alloc(r, sizeof(*out));
    *out = (range){ .n = n };
    if (__builtin_mul_overflow(start, g->step, &out->start) ||
        __builtin_add_overflow(out->start, g->start, &out->start) ||
        __builtin_mul_overflow(stop, g->step, &out->stop) || __builtin_add_overflow(out->stop, g->start, &out->stop) ||
        __builtin_mul_overflow(step, g->step, &out->step))
        we_tpl_fail(r, "an integer of this template is too large");
    return (value){ .type = V_RANGE, .range = out };
}

value we_tpl_slice(render *r, value object, value start_value, value stop_value, value step_value)
{
    int64_t n;
    if (object.type == V_UNDEFINED) we_tpl_raise_undefined(r, object);
    if (object.type == V_DICT) we_tpl_fail(r, "unhashable type: 'slice'");
    if (object.type == V_VIEW || !we_tpl_length(object, &n))
        we_tpl_fail(r, "'%s' object is not subscriptable", we_tpl_type_name(object));
    int64_t step = slice_index(r, step_value, 1);
    if (step == 0) we_tpl_fail(r, "slice step cannot be zero");
    if (step < -INT64_MAX) step = -INT64_MAX;
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t start =
        start_value.type == V_NONE ? (step < 0 ? high : low) : clamp(slice_index(r, start_value, 0), n, low, high);
    int64_t stop =
        stop_value.type == V_NONE ? (step < 0 ? low : high) : clamp(slice_index(r, stop_value, 0), n, low, high);
    int64_t count = step > 0 ? (stop > start ? (stop - start - 1) / step + 1 : 0)
                             : (start > stop ? (start - stop - 1) / -step + 1 : 0);
    if (object.type == V_RANGE) return slice_range(r, object.range, start, stop, step, count);
    if (object.type == V_STR && step == 1) return we_tpl_substr(r, object, (size_t)start, (size_t)(start + count));
    list *out = we_tpl_list_new(r, (size_t)count);
    if (object.type != V_STR) {
        for (int64_t i = 0; i < count; i++) we_tpl_list_push(r, out, object.list->items[start + i * step]);
        return object.type == V_LIST ? v_list(out) : v_tuple(out);
    }
    value chars = v_list(we_tpl_to_list(r, object));
    size_t from = r->out->len;
    for (int64_t i = 0; i < count; i++) we_tpl_write_str(r, chars.list->items[start + i * step]);
    value text = we_tpl_take(r, from);
    return object.str->markup ? we_tpl_markup(r, text) : text;
}
