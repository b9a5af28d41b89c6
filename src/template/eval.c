/* SPDX-License-Identifier: Apache-2.0
 * eval.c - expressions: a node and a frame -> a value. Statements are exec.c's, operators number.c's and compare.c's. */
#include "template/template_int.h"

static value load(render *r, const frame *f, const node *n)
{
    for (int i = n->name.hops; i > 0; i--) f = f->parent;
    value v = f->slots[n->name.slot];
    return v.type == V_MISSING ? we_tpl_undefined_name(r, n->name.name) : v;
}

static value eval_items(render *r, frame *f, const node *n)
{
    list *l = we_tpl_list_new(r, n->items.n);
    for (size_t i = 0; i < n->items.n; i++) we_tpl_list_push(r, l, we_tpl_eval(r, f, n->items.items[i]));
    return n->kind == N_LIST ? v_list(l) : v_tuple(l);
}

static value eval_dict(render *r, frame *f, const node *n)
{
    dict *d = we_tpl_dict_new(r);
    for (size_t i = 0; i + 1 < n->items.n; i += 2) {
        value key = we_tpl_eval(r, f, n->items.items[i]);
        we_tpl_dict_set(r, d, key, we_tpl_eval(r, f, n->items.items[i + 1]));
    }
    return v_dict(d);
}

static value eval_condition(render *r, frame *f, const node *n)
{
    if (we_tpl_truth(we_tpl_eval(r, f, n->cond.test))) return we_tpl_eval(r, f, n->cond.yes);
    if (n->cond.no) return we_tpl_eval(r, f, n->cond.no);
    return we_tpl_undefined_hint(r, "the inline if-expression evaluated to false and no else section was defined.");
}

static value eval_compare(render *r, frame *f, const node *n) /* a < b < c: each operand once */
{
    value left = we_tpl_eval(r, f, n->compare.first);
    for (size_t i = 0; i < n->compare.rest.n; i++) {
        value right = we_tpl_eval(r, f, n->compare.rest.items[i]);
        r->line = n->line;
        if (!we_tpl_compare(r, n->compare.ops[i], left, right)) return v_bool(false);
        left = right;
    }
    return v_bool(true);
}

static value eval_binary(render *r, frame *f, const node *n)
{
    value left = we_tpl_eval(r, f, n->op.left);
    value right = we_tpl_eval(r, f, n->op.right);
    r->line = n->line;
    return we_tpl_binary(r, n->op.op, left, right);
}

static value eval_concat(render *r, frame *f, const node *n)
{
    value text = we_tpl_str_c(r, "");
    bool markup = false;
    for (size_t i = 0; i < n->items.n; i++) {
        value v = we_tpl_eval(r, f, n->items.items[i]);
        if (r->autoescape && v.type == V_STR && v.str->markup && !markup) {
            text = we_tpl_escape(r, text);
            markup = true;
        }
        v = markup ? we_tpl_escape(r, v) : we_tpl_to_str(r, v);
        text = we_tpl_concat(r, text, v);
    }
    return markup ? we_tpl_markup(r, text) : text;
}

/* ---- arguments ---- */

static void add_star(render *r, value v, list *args)
{
    if (!we_tpl_iterable(v)) we_tpl_fail(r, "argument after * must be an iterable, not %s", we_tpl_type_name(v));
    iterator *it = we_tpl_iter(r, v);
    for (value item; we_tpl_next(r, it, &item);) we_tpl_list_push(r, args, item);
}

static size_t add_star_star(render *r, value v, keyword *keywords, size_t n)
{
    for (size_t i = 0; i < v.dict->n; i++) {
        value key = v.dict->entries[i].key;
        if (key.type != V_STR) we_tpl_fail(r, "keywords must be strings");
        for (size_t k = 0; k < n; k++)
            if (we_str_eq(keywords[k].name, str_of(key)))
                we_tpl_fail(r, "got multiple values for keyword argument '%.*s'", STR_ARG(str_of(key)));
        keywords[n++] = (keyword){ str_of(key), v.dict->entries[i].value };
    }
    return n;
}

static void eval_arguments(render *r, frame *f, const arguments *a, call *c)
{
    size_t n = a->positional.n;
    if (n || a->star) {
        list *args = we_tpl_list_new(r, n);
        for (size_t i = 0; i < n; i++) we_tpl_list_push(r, args, we_tpl_eval(r, f, a->positional.items[i]));
        if (a->star) add_star(r, we_tpl_eval(r, f, a->star), args);
        c->args = args->items;
        c->n_args = args->n;
    }
    n = a->keywords.n;
    if (n == 0 && !a->star_star) return;
    value more = V_MISSING_VALUE;
    if (a->star_star) more = we_tpl_eval(r, f, a->star_star);
    if (a->star_star && more.type != V_DICT)
        we_tpl_fail(r, "argument after ** must be a mapping, not %s", we_tpl_type_name(more));
    keyword *keywords = we_tpl_calloc(r, n + (a->star_star ? more.dict->n : 0), sizeof(*keywords));
    for (size_t i = 0; i < n; i++) keywords[i] = (keyword){ a->names[i], we_tpl_eval(r, f, a->keywords.items[i]) };
    if (a->star_star) n = add_star_star(r, more, keywords, n);
    c->keywords = keywords;
    c->n_keywords = n;
}

value we_tpl_eval_call(render *r, frame *f, const node *n, const keyword *caller)
{
    value callee = we_tpl_eval(r, f, n->call.target);
    call c = { 0 };
    eval_arguments(r, f, &n->call.args, &c);
    if (caller) {
        keyword *keywords = we_tpl_calloc(r, c.n_keywords + 1, sizeof(*keywords));
        if (c.n_keywords) memcpy(keywords, c.keywords, c.n_keywords * sizeof(*keywords));
        keywords[c.n_keywords++] = *caller;
        c.keywords = keywords;
    }
    r->line = n->line;
    return we_tpl_call(r, callee, &c);
}

static value eval_apply(render *r, frame *f, const node *n, value target)
{
    call c = { 0 };
    r->line = n->line;
    if (!n->apply.builtin)
        we_tpl_fail(r, "No %s named '%.*s' found.", n->kind == N_FILTER ? "filter" : "test", STR_ARG(n->apply.name));
    eval_arguments(r, f, &n->apply.args, &c);
    r->line = n->line;
    return we_tpl_apply(r, n->apply.builtin, target, &c);
}

value we_tpl_eval_filters(render *r, frame *f, const node *n, value target) /* the innermost one has no target */
{
    if (n->apply.target) target = we_tpl_eval_filters(r, f, n->apply.target, target);
    return eval_apply(r, f, n, target);
}

/* ---- subscripts ---- */

static value eval_optional(render *r, frame *f, const node *n) { return n ? we_tpl_eval(r, f, n) : V_NONE_VALUE; }

static value eval_getitem(render *r, frame *f, const node *n)
{
    const node *index = n->getitem.index;
    value object = we_tpl_eval(r, f, n->getitem.object);
    if (index->kind == N_SLICE) {
        value start = eval_optional(r, f, index->slice.start), stop = eval_optional(r, f, index->slice.stop);
        value step = eval_optional(r, f, index->slice.step);
        r->line = n->line;
        return we_tpl_slice(r, object, start, stop, step);
    }
    value key = we_tpl_eval(r, f, index);
    r->line = n->line;
    return we_tpl_getitem(r, object, key);
}

static value eval_getattr(render *r, frame *f, const node *n)
{
    value object = we_tpl_eval(r, f, n->getattr.object);
    r->line = n->line;
    return we_tpl_getattr(r, object, str_of(n->getattr.name));
}

static value eval_sign(render *r, frame *f, const node *n)
{
    value v = we_tpl_eval(r, f, n->op.left);
    r->line = n->line;
    return we_tpl_negate(r, v, n->kind == N_NEG);
}

static value eval_shortcut(render *r, frame *f, const node *n)
{
    value left = we_tpl_eval(r, f, n->op.left);
    return we_tpl_truth(left) == (n->kind == N_OR) ? left : we_tpl_eval(r, f, n->op.right);
}

static value eval_node(render *r, frame *f, const node *n)
{
    switch (n->kind) {
    case N_TUPLE:
    case N_LIST: return eval_items(r, f, n);
    case N_DICT: return eval_dict(r, f, n);
    case N_COND: return eval_condition(r, f, n);
    case N_AND:
    case N_OR: return eval_shortcut(r, f, n);
    case N_NOT: return v_bool(!we_tpl_truth(we_tpl_eval(r, f, n->op.left)));
    case N_COMPARE: return eval_compare(r, f, n);
    case N_BINARY: return eval_binary(r, f, n);
    case N_NEG:
    case N_POS: return eval_sign(r, f, n);
    case N_CONCAT: return eval_concat(r, f, n);
    case N_FILTER: return eval_apply(r, f, n, we_tpl_eval(r, f, n->apply.target));
    case N_TEST: return v_bool(we_tpl_truth(eval_apply(r, f, n, we_tpl_eval(r, f, n->apply.target))));
    case N_CALL: return we_tpl_eval_call(r, f, n, NULL);
    case N_GETATTR: return eval_getattr(r, f, n);
    case N_GETITEM: return eval_getitem(r, f, n);
    default: we_tpl_fail(r, "invalid syntax");
    }
}

value we_tpl_eval(render *r, frame *f, const node *n)
{
    we_tpl_work(r, 1);
    if (n->kind == N_CONST) return n->constant;
    r->line = n->line;
    if (n->kind == N_NAME) return load(r, f, n);
    we_tpl_enter(r);
    value v = eval_node(r, f, n);
    we_tpl_leave(r);
    return v;
}
