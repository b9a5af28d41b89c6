/* SPDX-License-Identifier: Apache-2.0
 * exec.c - statements: text and values to the output, loops, macros, blocks, assignments. */
#include "template/template_int.h"

typedef enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow exec_list(render *r, frame *f, node_list body);

/* ---- frames ---- */

static frame *frame_new(render *r, const scope *s, frame *parent)
{
    frame *f = we_tpl_alloc(r, sizeof(*f) + s->n * sizeof(value));
    f->scope = s;
    f->parent = parent;
    f->slots = (value *)(void *)(f + 1);
    for (size_t i = 0; i < s->n; i++) f->slots[i] = V_MISSING_VALUE;
    return f;
}

static value *slot_of(frame *f, int hops, size_t i)
{
    while (hops-- > 0) f = f->parent;
    return &f->slots[i];
}

static value stored_in(const frame *f, we_str name)
{
    for (size_t i = 0; i < f->scope->n; i++)
        if (f->scope->slots[i].stored && we_str_eq(f->scope->slots[i].name, name)) return f->slots[i];
    return V_MISSING_VALUE;
}

value we_tpl_resolve(render *r, we_str name, frame *block_caller)
{
    value v = V_MISSING_VALUE;
    for (const frame *f = block_caller; f && v.type == V_MISSING; f = f->parent) v = stored_in(f, name);
    if (v.type == V_MISSING && r->root) v = stored_in(r->root, name);
    if (v.type != V_MISSING || we_tpl_dict_find(r->context, name, &v)) return v;
    return we_tpl_find_global(r, name);
}

/* Every name of the scope gets its value at the beginning; parameters are filled by whoever enters. */
static void frame_enter(render *r, frame *f)
{
    const scope *s = f->scope;
    for (size_t i = 0; i < s->n; i++) {
        switch (s->slots[i].load) {
        case LOAD_NOTHING: break;
        case LOAD_RESOLVE: f->slots[i] = we_tpl_resolve(r, s->slots[i].name, r->block_caller); break;
        case LOAD_OUTER: f->slots[i] = *slot_of(f, s->slots[i].hops, s->slots[i].outer); break;
        case LOAD_UNDEFINED: f->slots[i] = V_MISSING_VALUE; break;
        }
    }
}

/* ---- assignment ---- */

static void check_namespace_name(render *r, we_str name)
{
    if (name.len && name.ptr[0] == '_')
        we_tpl_fail(r,
                    "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. Please "
                    "rename the attribute.",
                    STR_ARG(name));
}

static void assign_attribute(render *r, frame *f, const node *target, value v, bool block)
{
    value object = *slot_of(f, target->name.hops, target->name.slot);
    if (object.type == V_NAMESPACE)
        check_namespace_name(r, target->name.attr);
    else if (!block)
        we_tpl_fail(r, "cannot assign attribute on non-namespace object");
    else if (object.type != V_DICT) /* a set block may store into a dict: Jinja does not look there */
        we_tpl_fail(r, "'%s' object does not support item assignment", we_tpl_type_name(object));
    we_tpl_dict_set_str(r, object.dict, target->name.attr, v);
}

static void unpack(render *r, frame *f, const node *target, value v, bool block)
{
    size_t want = target->items.n;
    if (!we_tpl_iterable(v)) we_tpl_fail(r, "cannot unpack non-iterable %s object", we_tpl_type_name(v));
    iterator *it = we_tpl_iter(r, v);
    value *items = we_tpl_calloc(r, want + 1, sizeof(*items));
    for (size_t i = 0; i < want; i++)
        if (!we_tpl_next(r, it, &items[i]))
            we_tpl_fail(r, "not enough values to unpack (expected %zu, got %zu)", want, i);
    if (we_tpl_next(r, it, &items[want])) we_tpl_fail(r, "too many values to unpack (expected %zu)", want);
    for (size_t i = 0; i < want; i++) we_tpl_assign(r, f, target->items.items[i], items[i], block);
}

void we_tpl_assign(render *r, frame *f, const node *target, value v, bool block)
{
    if (target->kind == N_NAME)
        *slot_of(f, target->name.hops, target->name.slot) = v;
    else if (target->kind == N_NSREF)
        assign_attribute(r, f, target, v, block);
    else
        unpack(r, f, target, v, block);
}

static void check_namespaces(render *r, frame *f, const node *target) /* before the value is looked at */
{
    if (target->kind == N_NSREF && slot_of(f, target->name.hops, target->name.slot)->type != V_NAMESPACE)
        we_tpl_fail(r, "cannot assign attribute on non-namespace object");
    for (size_t i = 0; target->kind == N_TUPLE && i < target->items.n; i++)
        check_namespaces(r, f, target->items.items[i]);
}

static void exec_set(render *r, frame *f, const node *n)
{
    check_namespaces(r, f, n->set.target);
    value v = we_tpl_eval(r, f, n->set.expr);
    r->line = n->line;
    we_tpl_assign(r, f, n->set.target, v, false);
}

/* A body whose text is kept; *text is set where the flow goes on. */
static flow capture(render *r, frame *f, node_list body, value *text)
{
    size_t start = r->out->len;
    flow way = exec_list(r, f, body);
    if (way == FLOW_NEXT)
        *text = we_tpl_take(r, start);
    else
        we_tpl_drop(r, start);
    return way;
}

static flow exec_set_block(render *r, frame *f, const node *n)
{
    frame *body = frame_new(r, n->set.scope, f);
    frame_enter(r, body);
    value text = V_NONE_VALUE;
    flow way = capture(r, body, n->set.body, &text);
    if (way != FLOW_NEXT) return way;
    if (r->autoescape) text = we_tpl_markup(r, text);
    if (n->set.filter) text = we_tpl_eval_filters(r, body, n->set.filter, text);
    r->line = n->line;
    we_tpl_assign(r, f, n->set.target, text, true);
    return way;
}

/* ---- output ---- */

static void print(render *r, value v)
{
    if (r->autoescape) v = we_tpl_escape(r, v);
    we_tpl_write_str(r, v);
}

static void exec_print(render *r, frame *f, const node *n)
{
    for (size_t i = 0; i < n->items.n; i++) print(r, we_tpl_eval(r, f, n->items.items[i]));
}

static void put_text(render *r, value v) /* where Jinja joins without str() */
{
    if (v.type != V_STR) we_tpl_fail(r, "sequence item 0: expected str instance, %s found", we_tpl_type_name(v));
    we_tpl_put(r, v.str->ptr, v.str->len);
}

static flow exec_filter_block(render *r, frame *f, const node *n)
{
    frame *body = frame_new(r, n->inner.scope, f);
    frame_enter(r, body);
    value text = V_NONE_VALUE;
    flow way = capture(r, body, n->inner.body, &text);
    if (way == FLOW_NEXT) put_text(r, we_tpl_eval_filters(r, body, n->inner.filter, text));
    return way;
}

/* ---- loops ---- */

typedef struct filtered { /* `for x in y if test`: asked item by item */
    const node *node;
    frame *frame;
    value source;
} filtered;

static bool next_filtered(render *r, iterator *it, value *out)
{
    filtered *s = it->state;
    if (!it->inner) it->inner = we_tpl_iter(r, s->source);
    while (we_tpl_next(r, it->inner, out)) {
        we_tpl_assign(r, s->frame, s->node->loop.target, *out, false);
        if (we_tpl_truth(we_tpl_eval(r, s->frame, s->node->loop.test))) return true;
    }
    return false;
}

static value filter_source(render *r, const node *n, frame *parent, value source)
{
    iterator *it = we_tpl_iterator(r, "generator", next_filtered);
    filtered *s = we_tpl_alloc(r, sizeof(*s));
    *s = (filtered){ n, frame_new(r, n->loop.test_scope, parent), source };
    frame_enter(r, s->frame);
    it->state = s;
    return v_iter(it);
}

value we_tpl_loop_peek(render *r, loop *l)
{
    if (l->after.type == V_MISSING && !we_tpl_next(r, l->iter, &l->after)) l->after = V_MISSING_VALUE;
    return l->after;
}

int64_t we_tpl_loop_length(render *r, loop *l)
{
    if (l->length >= 0 || we_tpl_length(l->source, &l->length)) return l->length;
    list *rest = we_tpl_list_new(r, 8); /* of an iterator: what is left, and what was */
    for (value item; we_tpl_next(r, l->iter, &item);) we_tpl_list_push(r, rest, item);
    l->iter = we_tpl_iter(r, v_list(rest));
    return l->length = (int64_t)rest->n + l->index0 + 1 + (l->after.type != V_MISSING);
}

static loop *loop_new(render *r, const node *n, frame *parent, value source, int64_t depth0)
{
    loop *l = we_tpl_calloc(r, 1, sizeof(*l));
    l->node = n;
    l->parent = parent;
    l->source = source;
    l->iter = we_tpl_iter(r, source);
    l->index0 = -1;
    l->length = -1;
    l->depth0 = depth0;
    return l;
}

/* The whole statement: every round, or the else part. */
static flow run_loop(render *r, const node *n, frame *parent, value source, int64_t depth0)
{
    if (n->loop.test) source = filter_source(r, n, parent, source);
    frame *f =
        frame_new(r, n->loop.scope, parent); /* one for all rounds: macros that a round leaves behind see the last */
    loop *l = n->loop.extended ? loop_new(r, n, parent, source, depth0) : NULL;
    value item, self = l ? (value){ .type = V_LOOP, .loop = l } : we_tpl_undefined_hint(r, "loop");
    iterator *it = we_tpl_iter(r, l ? self : source);
    bool otherwise = true;
    while (we_tpl_next(r, it, &item)) {
        r->line = n->line;
        if (l) {
            f->slots[n->loop.loop_slot] = self;
            item = item.list->items[0];
        }
        we_tpl_assign(r, f, n->loop.target, item, false);
        frame_enter(r, f);
        flow way = exec_list(r, f, n->loop.body);
        if (way == FLOW_BREAK) break;
        if (way == FLOW_NEXT) otherwise = false;
    }
    for (size_t i = 0; i < f->scope->n; i++) f->slots[i] = V_MISSING_VALUE;
    if (!otherwise || n->loop.otherwise.n == 0) return FLOW_NEXT;
    frame *e = frame_new(r, n->loop.else_scope, parent);
    frame_enter(r, e);
    return exec_list(r, e, n->loop.otherwise);
}

static void enter_call(render *r)
{
    if (r->calls >= r->max_depth) we_tpl_fail(r, "maximum recursion depth exceeded");
    r->calls++;
}

value we_tpl_call_loop(render *r, loop *l, value source)
{
    if (!l->node->loop.recursive) we_tpl_fail(r, "The loop must have the 'recursive' marker to be called recursively.");
    size_t start = r->out->len;
    enter_call(r);
    run_loop(r, l->node, l->parent, source, l->depth0 + 1);
    r->calls--;
    value text = we_tpl_take(r, start);
    return r->autoescape ? we_tpl_markup(r, text) : text;
}

/* ---- macros ---- */

static size_t find_keyword(const call *c, we_str name)
{
    for (size_t i = 0; i < c->n_keywords; i++)
        if (we_str_eq(c->keywords[i].name, name)) return i;
    return SIZE_MAX;
}

/* The keyword's value, and used[i] set; V_MISSING: not given. */
static value take_keyword(const call *c, bool *used, we_str name)
{
    size_t i = find_keyword(c, name);
    if (i == SIZE_MAX || used[i]) return V_MISSING_VALUE;
    used[i] = true;
    return c->keywords[i].value;
}

static void pass_keywords(render *r, const node *n, frame *f, const call *c, const bool *used)
{
    const signature *sig = &n->macro.sig;
    dict *rest = we_tpl_dict_new(r);
    for (size_t i = 0; i < c->n_keywords; i++)
        if (!used[i]) we_tpl_dict_set_str(r, rest, c->keywords[i].name, c->keywords[i].value);
    if (sig->wants_kwargs) {
        f->slots[sig->kwargs_slot] = v_dict(rest);
    } else if (rest->n) {
        value ignored;
        if (we_tpl_dict_find(rest, WE_STR("caller"), &ignored))
            we_tpl_fail(r,
                        "macro '%.*s' was invoked with two values for the special caller argument. This is most likely "
                        "a bug.",
                        STR_ARG(n->macro.name));
        we_tpl_fail(r, "macro '%.*s' takes no keyword argument '%.*s'", STR_ARG(n->macro.name),
                    STR_ARG(str_of(rest->entries[0].key)));
    }
}

static void pass_varargs(render *r, const node *n, frame *f, const call *c)
{
    const signature *sig = &n->macro.sig;
    size_t n_params = sig->params.n;
    if (sig->wants_varargs) {
        list *rest = we_tpl_list_new(r, 4);
        for (size_t i = n_params; i < c->n_args; i++) we_tpl_list_push(r, rest, c->args[i]);
        f->slots[sig->varargs_slot] = v_tuple(rest);
    } else if (c->n_args > n_params) {
        we_tpl_fail(r, "macro '%.*s' takes not more than %zu argument(s)", STR_ARG(n->macro.name), n_params);
    }
}

static void pass_arguments(render *r, const node *n, frame *f, const call *c)
{
    const signature *sig = &n->macro.sig;
    size_t n_params = sig->params.n;
    bool *used = we_tpl_calloc(r, c->n_keywords + 1, sizeof(bool)), has_caller = false;
    for (size_t i = 0; i < n_params; i++) {
        bool given = i < c->n_args;
        value v = given ? c->args[i] : take_keyword(c, used, sig->names[i]);
        f->slots[sig->params.items[i]->name.slot] = v;
        has_caller |= we_str_is(sig->names[i], "caller") && (!given || c->n_args >= n_params);
    }
    if (sig->wants_caller && !has_caller) {
        value v = take_keyword(c, used, WE_STR("caller"));
        if (v.type == V_MISSING || v.type == V_NONE) v = we_tpl_undefined_hint(r, "No caller defined");
        bool own = true; /* `caller` among the parameters has been given by position */
        for (size_t i = 0; i < n_params; i++) own &= !we_str_is(sig->names[i], "caller");
        if (own) f->slots[sig->caller_slot] = v;
    }
    pass_keywords(r, n, f, c, used);
    pass_varargs(r, n, f, c);
}

static void fill_defaults(render *r, const node *n, frame *f)
{
    const signature *sig = &n->macro.sig;
    size_t first = sig->params.n - sig->defaults.n;
    for (size_t i = 0; i < sig->params.n; i++) {
        value *v = &f->slots[sig->params.items[i]->name.slot];
        if (v->type != V_MISSING) continue;
        if (i >= first)
            *v = we_tpl_eval(r, f, sig->defaults.items[i - first]);
        else
            *v =
                we_tpl_undefined_hint(r, we_tpl_printf(r, "parameter '%.*s' was not provided", STR_ARG(sig->names[i])));
    }
}

value we_tpl_call_macro(render *r, macro *m, const call *c)
{
    frame *f = frame_new(r, m->node->macro.scope, m->parent);
    size_t start = r->out->len;
    enter_call(r);
    pass_arguments(r, m->node, f, c);
    frame_enter(r, f);
    fill_defaults(r, m->node, f);
    exec_list(r, f, m->node->macro.body);
    r->calls--;
    value text = we_tpl_take(r, start);
    return r->autoescape ? we_tpl_markup(r, text) : text;
}

static value macro_value(render *r, frame *f, const node *n)
{
    macro *m = we_tpl_alloc(r, sizeof(*m));
    *m = (macro){ n, f };
    return (value){ .type = V_MACRO, .macro = m };
}

static void exec_macro(render *r, frame *f, const node *n)
{
    we_tpl_assign(r, f, n->macro.target, macro_value(r, f, n), false);
}

static void exec_call_block(render *r, frame *f, const node *n)
{
    keyword caller = { WE_STR("caller"), macro_value(r, f, n) };
    put_text(r, we_tpl_eval_call(r, f, n->macro.call, &caller));
}

static void exec_generation(render *r, frame *f, const node *n)
{
    macro m = { n, f };
    put_text(r, we_tpl_call_macro(r, &m, &(call){ 0 }));
}

/* ---- blocks ---- */

static void run_block(render *r, const node *n, frame *caller)
{
    if (n->block.required) we_tpl_fail(r, "Required block '%.*s' not found", STR_ARG(n->block.name));
    frame *outer = r->block_caller, *f = frame_new(r, n->block.scope, NULL);
    size_t i;
    if (caller) r->block_caller = caller;
    enter_call(r);
    frame_enter(r, f);
    for (i = 0; i < f->scope->n; i++) {
        if (f->scope->slots[i].load != LOAD_NOTHING) continue;
        f->slots[i] = we_str_is(f->scope->slots[i].name, "self")
                          ? (value){ .type = V_BLOCKS }
                          : we_tpl_undefined_hint(r, "there is no parent block.");
    }
    exec_list(r, f, n->block.body);
    r->calls--;
    r->block_caller = outer;
}

value we_tpl_call_block(render *r, const node *block, frame *caller)
{
    size_t start = r->out->len;
    run_block(r, block, caller);
    return we_tpl_take(r, start);
}

/* ---- the rest ---- */

static flow exec_if(render *r, frame *f, const node *n)
{
    for (; n; n = n->branch.next)
        if (!n->branch.test || we_tpl_truth(we_tpl_eval(r, f, n->branch.test))) return exec_list(r, f, n->branch.body);
    return FLOW_NEXT;
}

static void exec_recursive(render *r, frame *f, const node *n)
{
    enter_call(r);
    run_loop(r, n, f, we_tpl_eval(r, f, n->loop.iter), 0);
    r->calls--;
}

static flow exec_for(render *r, frame *f, const node *n)
{
    if (!n->loop.recursive) return run_loop(r, n, f, we_tpl_eval(r, f, n->loop.iter), 0);
    exec_recursive(r, f, n);
    return FLOW_NEXT;
}

static flow exec_with(render *r, frame *f, const node *n)
{
    frame *body = frame_new(r, n->inner.scope, f);
    frame_enter(r, body);
    for (size_t i = 0; i < n->inner.targets.n; i++)
        we_tpl_assign(r, body, n->inner.targets.items[i], we_tpl_eval(r, f, n->inner.values.items[i]), false);
    return exec_list(r, body, n->inner.body);
}

static flow exec_autoescape(render *r, frame *f, const node *n)
{
    frame *body = frame_new(r, n->inner.scope, f);
    bool before = r->autoescape;
    frame_enter(r, body);
    r->autoescape = we_tpl_truth(we_tpl_eval(r, body, n->inner.option));
    flow way = exec_list(r, body, n->inner.body);
    r->autoescape = before;
    return way;
}

static flow exec_one(render *r, frame *f, const node *n)
{
    r->line = n->line;
    we_tpl_work(r, 1);
    switch (n->kind) {
    case N_DATA: we_tpl_put(r, n->constant.str->ptr, n->constant.str->len); break;
    case N_PRINT: exec_print(r, f, n); break;
    case N_IF: return exec_if(r, f, n);
    case N_FOR: return exec_for(r, f, n);
    case N_SET: exec_set(r, f, n); break;
    case N_SET_BLOCK: return exec_set_block(r, f, n);
    case N_MACRO: exec_macro(r, f, n); break;
    case N_CALL_BLOCK: exec_call_block(r, f, n); break;
    case N_GENERATION: exec_generation(r, f, n); break;
    case N_FILTER_BLOCK: return exec_filter_block(r, f, n);
    case N_WITH: return exec_with(r, f, n);
    case N_AUTOESCAPE: return exec_autoescape(r, f, n);
    case N_BLOCK: run_block(r, n, n->block.scoped ? f : NULL); break;
    case N_BREAK: return FLOW_BREAK;
    case N_CONTINUE: return FLOW_CONTINUE;
    default: we_tpl_fail(r, "no loader for this environment specified");
    }
    return FLOW_NEXT;
}

static flow exec_list(render *r, frame *f, node_list body)
{
    flow way = FLOW_NEXT;
    we_tpl_enter(r);
    for (size_t i = 0; i < body.n && way == FLOW_NEXT; i++) way = exec_one(r, f, body.items[i]);
    we_tpl_leave(r);
    return way;
}

void we_tpl_exec(render *r, const we_template *tpl)
{
    frame *f = frame_new(r, tpl->scope, NULL);
    frame_enter(r, f);
    r->root = f;
    if (tpl->uses_self) f->slots[tpl->self_slot] = (value){ .type = V_BLOCKS };
    exec_list(r, f, tpl->body);
}
