/* SPDX-License-Identifier: Apache-2.0
 * compare.c - equality, order, membership, hashes and sorting as Python defines them: 1 == 1.0 == True, text by code
 * point, lists and tuples item by item, and a type error where Python raises one. */
#include "template/template_int.h"

#include <math.h>

/* ---- equality ---- */

static bool numbers_equal(value a, value b)
{
    if (a.type == V_FLOAT && b.type == V_FLOAT) return a.number == b.number;
    if (a.type == V_FLOAT) return isfinite(a.number) && we_tpl_int_compare_double(b, a.number) == 0;
    if (b.type == V_FLOAT) return isfinite(b.number) && we_tpl_int_compare_double(a, b.number) == 0;
    return we_tpl_int_compare(a, b) == 0;
}

bool we_tpl_same(value a, value b)
{
    if (a.type != b.type) return false;
    switch (a.type) {
    case V_NONE: return true;
    case V_BOOL: return a.boolean == b.boolean;
    case V_INT: return a.integer == b.integer;
    case V_FLOAT: return a.number == b.number;
    case V_STR: return a.ptr == b.ptr || (a.str->markup == b.str->markup && we_str_eq(str_of(a), str_of(b)));
    case V_LIST:
    case V_TUPLE: return a.ptr == b.ptr || (a.list->items == b.list->items && a.list->n == b.list->n && a.list->n > 0);
    default: return a.ptr == b.ptr;
    }
}

static bool dicts_equal(render *r, const dict *a, const dict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        value other;
        if (!we_tpl_dict_get(r, b, a->entries[i].key, &other)) return false;
        if (!we_tpl_equal(r, a->entries[i].value, other)) return false;
    }
    return true;
}

static bool views_equal(render *r, value a, value b)
{
    if (a.ptr == b.ptr) return true;
    if (a.view->kind == VIEW_VALUES || b.view->kind == VIEW_VALUES) return false;
    if (a.view->of->n != b.view->of->n) return false;
    iterator *it = we_tpl_iter(r, a);
    for (value item; we_tpl_next(r, it, &item);)
        if (!we_tpl_contains(r, b, item)) return false;
    return true;
}

static bool functions_equal(value a, value b)
{
    const function *x = a.function, *y = b.function;
    return x->builtin == y->builtin && we_tpl_same(x->self, y->self);
}

bool we_tpl_equal(render *r, value a, value b)
{
    we_tpl_work(r, 1);
    if (is_number(a) && is_number(b)) return numbers_equal(a, b);
    if (a.type != b.type) return false;
    bool equal = true;
    we_tpl_enter(r);
    switch (a.type) {
    case V_NONE:
    case V_UNDEFINED: break;
    case V_STR:
        we_tpl_work(r, a.str->len / 64);
        equal = we_str_eq(str_of(a), str_of(b));
        break;
    case V_LIST:
    case V_TUPLE:
        equal = a.list->n == b.list->n;
        for (size_t i = 0; equal && i < a.list->n; i++) equal = we_tpl_equal(r, a.list->items[i], b.list->items[i]);
        break;
    case V_DICT: equal = a.ptr == b.ptr || dicts_equal(r, a.dict, b.dict); break;
    case V_RANGE: {
        const range *x = a.range, *y = b.range;
        equal = x->n == y->n && (x->n == 0 || (x->start == y->start && (x->n == 1 || x->step == y->step)));
        break;
    }
    case V_VIEW: equal = views_equal(r, a, b); break;
    case V_FUNCTION: equal = functions_equal(a, b); break;
    default: equal = a.ptr == b.ptr; break;
    }
    we_tpl_leave(r);
    return equal;
}

/* ---- order ---- */

static int order_of_doubles(double a, double b)
{
    return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2; /* 2: NaN, no order at all */
}

static int order_of_numbers(value a, value b)
{
    if (a.type == V_FLOAT && b.type == V_FLOAT) return order_of_doubles(a.number, b.number);
    if (a.type == V_FLOAT) {
        if (!isfinite(a.number)) return order_of_doubles(a.number, 0);
        return -we_tpl_int_compare_double(b, a.number);
    }
    if (b.type == V_FLOAT) {
        if (!isfinite(b.number)) return order_of_doubles(0, b.number);
        return we_tpl_int_compare_double(a, b.number);
    }
    return we_tpl_int_compare(a, b);
}

static int order_of_strings(value a, value b)
{
    size_t n = WE_MIN(a.str->len, b.str->len);
    int c = n ? memcmp(a.str->ptr, b.str->ptr, n) : 0; /* UTF-8 sorts as its code points do */
    if (c == 0) return a.str->len < b.str->len ? -1 : a.str->len > b.str->len;
    return c < 0 ? -1 : 1;
}

static bool order_holds(operator op, int order)
{
    switch (op) {
    case OP_LT: return order == -1;
    case OP_LE: return order == -1 || order == 0;
    case OP_GT: return order == 1;
    default: return order == 1 || order == 0;
    }
}

static bool ordered(render *r, operator op, value a, value b);

static bool lists_ordered(render *r, operator op, const list *a, const list *b)
{
    size_t n = WE_MIN(a->n, b->n);
    for (size_t i = 0; i < n; i++)
        if (!we_tpl_equal(r, a->items[i], b->items[i])) return ordered(r, op, a->items[i], b->items[i]);
    return order_holds(op, a->n < b->n ? -1 : a->n > b->n);
}

static bool is_set(value v) /* views of keys and items are compared as sets */
{
    return v.type == V_VIEW && v.view->kind != VIEW_VALUES;
}

static bool views_ordered(render *r, operator op, value a, value b)
{
    if (op == OP_GT || op == OP_GE) return views_ordered(r, op == OP_GT ? OP_LT : OP_LE, b, a);
    size_t n = a.view->of->n, m = b.view->of->n;
    if (op == OP_LT ? n >= m : n > m) return false;
    iterator *it = we_tpl_iter(r, a);
    for (value item; we_tpl_next(r, it, &item);)
        if (!we_tpl_contains(r, b, item)) return false;
    return true;
}

static bool ordered(render *r, operator op, value a, value b)
{
    static const char *const names[] = { [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">=" };
    we_tpl_work(r, 1);
    if (is_number(a) && is_number(b)) return order_holds(op, order_of_numbers(a, b));
    if (a.type == V_STR && b.type == V_STR) return order_holds(op, order_of_strings(a, b));
    if (a.type == b.type && (a.type == V_LIST || a.type == V_TUPLE)) {
        we_tpl_enter(r);
        bool holds = lists_ordered(r, op, a.list, b.list);
        we_tpl_leave(r);
        return holds;
    }
    if (is_set(a) && is_set(b)) return views_ordered(r, op, a, b);
    if (a.type == V_UNDEFINED) we_tpl_raise_undefined(r, a);
    if (b.type == V_UNDEFINED) we_tpl_raise_undefined(r, b);
    we_tpl_fail(r, "'%s' not supported between instances of '%s' and '%s'", names[op], we_tpl_type_name(a),
                we_tpl_type_name(b));
}

bool we_tpl_less(render *r, value a, value b) { return ordered(r, OP_LT, a, b); }

bool we_tpl_compare(render *r, operator op, value a, value b)
{
    switch (op) {
    case OP_EQ: return we_tpl_equal(r, a, b);
    case OP_NE: return !we_tpl_equal(r, a, b);
    case OP_IN: return we_tpl_contains(r, b, a);
    case OP_NOT_IN: return !we_tpl_contains(r, b, a);
    default: return ordered(r, op, a, b);
    }
}

/* ---- membership ---- */

static bool in_view(render *r, const view *w, value v)
{
    value found;
    if (w->kind == VIEW_KEYS) return we_tpl_dict_get(r, w->of, v, &found);
    if (w->kind == VIEW_ITEMS)
        return v.type == V_TUPLE && v.list->n == 2 && we_tpl_dict_get(r, w->of, v.list->items[0], &found) &&
               we_tpl_equal(r, found, v.list->items[1]);
    for (size_t i = 0; i < w->of->n; i++)
        if (we_tpl_equal(r, w->of->entries[i].value, v)) return true;
    return false;
}

bool we_tpl_contains(render *r, value container, value v)
{
    value found;
    size_t at;
    switch (container.type) {
    case V_STR:
        if (v.type != V_STR)
            we_tpl_fail(r, "'in <string>' requires string as left operand, not %s", we_tpl_type_name(v));
        we_tpl_work(r, container.str->len / 16);
        return we_tpl_find_bytes(str_of(container), str_of(v), 0, &at);
    case V_DICT: return we_tpl_dict_get(r, container.dict, v, &found);
    case V_VIEW: return in_view(r, container.view, v);
    default: break;
    }
    if (!we_tpl_iterable(container))
        we_tpl_fail(r, "argument of type '%s' is not iterable", we_tpl_type_name(container));
    iterator *it = we_tpl_iter(r, container);
    for (value item; we_tpl_next(r, it, &item);)
        if (we_tpl_same(item, v) || we_tpl_equal(r, item, v)) return true;
    return false;
}

/* ---- hashes ---- */

bool we_tpl_hashable(value v) { return v.type != V_LIST && v.type != V_DICT && !is_set(v); }

static uint64_t mix(uint64_t h)
{
    h ^= h >> 31;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

static uint64_t hash_of_double(render *r, double d)
{
    if (!isfinite(d)) return isnan(d) ? 3 : d > 0 ? 1 : 2;
    if (d == floor(d)) return we_tpl_int_hash(we_tpl_int_from_double(r, d));
    uint64_t bits;
    memcpy(&bits, &d, sizeof(bits));
    return mix(bits);
}

uint64_t we_tpl_hash(render *r, value v)
{
    if (!we_tpl_hashable(v)) we_tpl_fail(r, "unhashable type: '%s'", we_tpl_type_name(v));
    switch (v.type) {
    case V_STR: we_tpl_work(r, v.str->len / 64); return we_str_hash(str_of(v));
    case V_BOOL:
    case V_INT:
    case V_BIG: return we_tpl_int_hash(v);
    case V_FLOAT: return hash_of_double(r, v.number);
    case V_UNDEFINED:
    case V_NONE: return mix((uint64_t)v.type);
    case V_RANGE: return mix((uint64_t)v.range->n);
    case V_FUNCTION: return mix((uint64_t)(uintptr_t)v.function->builtin);
    case V_TUPLE: {
        uint64_t h = v.list->n;
        we_tpl_enter(r);
        we_tpl_work(r, v.list->n); /* a tuple of shared tuples may be short to write and long to walk */
        for (size_t i = 0; i < v.list->n; i++) h = mix(h * 31 + we_tpl_hash(r, v.list->items[i]));
        we_tpl_leave(r);
        return h;
    }
    default: return mix((uint64_t)(uintptr_t)v.ptr);
    }
}

/* ---- sorting ---- */

typedef struct sort_pair {
    value key, item;
} sort_pair;

static void merge_sort(render *r, sort_pair *a, sort_pair *scratch, size_t n)
{
    if (n < 2) return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    merge_sort(r, a, scratch, half);
    merge_sort(r, a + half, scratch, n - half);
    while (i < half && j < n) scratch[k++] = we_tpl_less(r, a[j].key, a[i].key) ? a[j++] : a[i++];
    while (i < half) scratch[k++] = a[i++];
    while (j < n) scratch[k++] = a[j++];
    memcpy(a, scratch, n * sizeof(*a));
}

static void reverse_pairs(sort_pair *a, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        sort_pair t = a[i];
        a[i] = a[n - 1 - i];
        a[n - 1 - i] = t;
    }
}

void we_tpl_sort(render *r, value *keys, value *items, size_t n, bool reverse)
{
    if (n < 2) return;
    sort_pair *a = we_tpl_calloc(r, n, sizeof(*a)), *scratch = we_tpl_calloc(r, n, sizeof(*scratch));
    for (size_t i = 0; i < n; i++) a[i] = (sort_pair){ keys[i], items[i] };
    if (reverse) reverse_pairs(a, n); /* so that equal ones keep their order, as in Python */
    merge_sort(r, a, scratch, n);
    if (reverse) reverse_pairs(a, n);
    for (size_t i = 0; i < n; i++) {
        keys[i] = a[i].key;
        items[i] = a[i].item;
    }
}
