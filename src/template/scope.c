/* SPDX-License-Identifier: Apache-2.0
 * scope.c - what each name of a template means, found once after parsing. A scope is a row of slots; loops, macros,
 * blocks, `with`, filter and set blocks have one each, `if` has none. A name is a slot so many scopes up.
 *
 * Jinja decides this before anything runs, and that shows: a name that a scope stores anywhere belongs to the scope from
 * its beginning, a macro sees the variable (not its value then), a set block cannot read the name it sets. So each scope
 * is first searched for the names it loads and stores (declare), then every name in it is bound. Filters and tests that
 * do not exist are found here, too, but inside a condition only when it is reached.
 * Source: jinja2/idtracking.py and jinja2/compiler.py of Jinja2 3.1.6. */
#include "template/template_int.h"

typedef struct binder {
    render *r;
    we_template *tpl;
    scope *scope;
    int branches; /* of `if` around, while declaring */
    bool soft;    /* in a condition: unknown filters wait */
    bool in_loop; /* break and continue are allowed */
    bool toplevel;
} binder;

/* ---- slots ---- */

static bool find_slot(const scope *s, we_str name, size_t *out)
{
    for (size_t i = 0; i < s->n; i++)
        if (we_str_eq(s->slots[i].name, name)) return *out = i, true;
    return false;
}

static bool find_outer(const scope *s, we_str name, int *hops, size_t *out)
{
    for (*hops = 0; s; s = s->parent, ++*hops)
        if (find_slot(s, name, out)) return true;
    return false;
}

static slot *add_slot(binder *b, we_str name, load_action load)
{
    scope *s = b->scope;
    if ((s->n & (s->n - 1)) == 0) {
        slot *slots = we_tpl_alloc(b->r, (s->n ? s->n * 2 : 1) * sizeof(*slots));
        if (s->n) memcpy(slots, s->slots, s->n * sizeof(*slots));
        s->slots = slots;
    }
    s->slots[s->n] = (slot){ .name = name, .load = load };
    return &s->slots[s->n++];
}

static size_t declare_param(binder *b, we_str name)
{
    size_t i;
    if (!find_slot(b->scope, name, &i)) i = (size_t)(add_slot(b, name, LOAD_NOTHING) - b->scope->slots);
    b->scope->slots[i].load = LOAD_NOTHING;
    b->scope->slots[i].stored = true;
    return i;
}

static void declare_load(binder *b, we_str name)
{
    int hops;
    size_t i;
    if (!find_outer(b->scope, name, &hops, &i)) add_slot(b, name, LOAD_RESOLVE);
}

static void declare_store(binder *b, we_str name)
{
    int hops;
    size_t i;
    if (find_slot(b->scope, name, &i)) {
        b->scope->slots[i].stored = true;
        return;
    }
    bool outer = b->scope->parent && find_outer(b->scope->parent, name, &hops, &i);
    /* A branch may not be taken: then the name is still the context's. */
    slot *s = add_slot(b, name, outer ? LOAD_OUTER : b->branches ? LOAD_RESOLVE : LOAD_UNDEFINED);
    s->stored = true;
    if (outer) {
        s->hops = hops + 1;
        s->outer = i;
    }
}

/* ---- walking ---- */

typedef struct walker {
    void (*visit)(void *context, node *n);
    void *context;
} walker;

static void visit(walker w, node *n)
{
    if (n) w.visit(w.context, n);
}

static void visit_list(walker w, node_list l)
{
    for (size_t i = 0; i < l.n; i++) visit(w, l.items[i]);
}

static void visit_arguments(walker w, const arguments *a)
{
    visit_list(w, a->positional);
    visit_list(w, a->keywords);
    visit(w, a->star);
    visit(w, a->star_star);
}

static void visit_macro(walker w, node *n)
{
    visit_list(w, n->macro.sig.params);
    visit_list(w, n->macro.sig.defaults);
    visit_list(w, n->macro.body);
}

/* The nodes right below n, in the order in which Jinja keeps them. */
static void visit_children(walker w, node *n)
{
    switch (n->kind) {
    case N_CONST:
    case N_NAME:
    case N_NSREF:
    case N_DATA:
    case N_BREAK:
    case N_CONTINUE: break;
    case N_TUPLE:
    case N_LIST:
    case N_DICT:
    case N_CONCAT:
    case N_PRINT: visit_list(w, n->items); break;
    case N_COND: visit(w, n->cond.test), visit(w, n->cond.yes), visit(w, n->cond.no); break;
    case N_AND:
    case N_OR:
    case N_NOT:
    case N_BINARY:
    case N_NEG:
    case N_POS: visit(w, n->op.left), visit(w, n->op.right); break;
    case N_COMPARE: visit(w, n->compare.first), visit_list(w, n->compare.rest); break;
    case N_FILTER:
    case N_TEST: visit(w, n->apply.target), visit_arguments(w, &n->apply.args); break;
    case N_CALL: visit(w, n->call.target), visit_arguments(w, &n->call.args); break;
    case N_GETATTR: visit(w, n->getattr.object); break;
    case N_GETITEM: visit(w, n->getitem.object), visit(w, n->getitem.index); break;
    case N_SLICE: visit(w, n->slice.start), visit(w, n->slice.stop), visit(w, n->slice.step); break;
    case N_FOR:
        visit(w, n->loop.target), visit(w, n->loop.iter);
        visit_list(w, n->loop.body), visit_list(w, n->loop.otherwise), visit(w, n->loop.test);
        break;
    case N_IF: visit(w, n->branch.test), visit_list(w, n->branch.body), visit(w, n->branch.next); break;
    case N_SET: visit(w, n->set.target), visit(w, n->set.expr); break;
    case N_SET_BLOCK: visit(w, n->set.target), visit(w, n->set.filter), visit_list(w, n->set.body); break;
    case N_CALL_BLOCK: visit(w, n->macro.call), visit_macro(w, n); break;
    case N_MACRO:
    case N_GENERATION: visit_macro(w, n); break;
    case N_FILTER_BLOCK: visit_list(w, n->inner.body), visit(w, n->inner.filter); break;
    case N_WITH: visit_list(w, n->inner.targets), visit_list(w, n->inner.values), visit_list(w, n->inner.body); break;
    case N_AUTOESCAPE: visit(w, n->inner.option), visit_list(w, n->inner.body); break;
    case N_BLOCK: visit_list(w, n->block.body); break;
    case N_FOREIGN: visit(w, n->foreign.expr); break;
    }
}

/* ---- is a special name (loop, caller, self, ...) asked for? ---- */

typedef struct mention {
    const char *name;
    bool loaded, declared; /* whichever came first */
} mention;

static void look_for(void *context, node *n)
{
    mention *m = context;
    if (m->loaded || m->declared || n->kind == N_BLOCK) return;
    if (n->kind == N_NAME && we_str_is(n->name.name, m->name)) {
        m->declared = n->name.store || n->name.param;
        m->loaded = !m->declared;
        return;
    }
    visit_children((walker){ look_for, m }, n);
}

static bool mentions(node_list body, const char *name)
{
    mention m = { .name = name };
    visit_list((walker){ look_for, &m }, body);
    return m.loaded;
}

static void forbid_loop_target(void *context, node *n)
{
    binder *b = context;
    if (n->kind == N_NAME && n->name.store && we_str_is(n->name.name, "loop")) {
        b->r->line = n->line;
        we_tpl_fail(b->r, "Can't assign to special loop variable in for-loop target");
    }
    visit_children((walker){ forbid_loop_target, b }, n);
}

/* ---- declaring: the names of one scope ---- */

static void declare(void *context, node *n)
{
    binder *b = context;
    walker w = { declare, b };
    switch (n->kind) {
    case N_NAME:
        if (n->name.param)
            declare_param(b, n->name.name);
        else if (n->name.store)
            declare_store(b, n->name.name);
        else
            declare_load(b, n->name.name);
        break;
    case N_NSREF: declare_load(b, n->name.name); break;
    case N_IF:
        visit(w, n->branch.test);
        b->branches++;
        visit_list(w, n->branch.body);
        visit(w, n->branch.next);
        b->branches--;
        break;
    case N_SET: visit(w, n->set.expr), visit(w, n->set.target); break;
    case N_FOREIGN: visit(w, n->foreign.expr), visit_list(w, n->foreign.targets); break;
    /* What has a scope of its own shows only what it takes from here. */
    case N_SET_BLOCK: visit(w, n->set.target); break;
    case N_FOR: visit(w, n->loop.iter); break;
    case N_MACRO: declare_store(b, n->macro.name); break;
    case N_CALL_BLOCK: visit(w, n->macro.call); break;
    case N_FILTER_BLOCK: visit(w, n->inner.filter); break;
    case N_WITH: visit_list(w, n->inner.values); break;
    case N_GENERATION:
    case N_AUTOESCAPE:
    case N_BLOCK: break;
    default: visit_children(w, n); break;
    }
}

static void declare_as_params(binder *b, node *target)
{
    if (target->kind == N_NAME) declare_param(b, target->name.name);
    for (size_t i = 0; target->kind == N_TUPLE && i < target->items.n; i++)
        declare_as_params(b, target->items.items[i]);
}

static binder inner(binder *b, scope *parent)
{
    scope *s = we_tpl_calloc(b->r, 1, sizeof(*s));
    s->parent = parent;
    return (binder){ .r = b->r, .tpl = b->tpl, .scope = s, .in_loop = b->in_loop };
}

/* ---- binding: every name of a scope to its slot ---- */

static void bind(void *context, node *n);

static void bind_list(binder *b, node_list l) { visit_list((walker){ bind, b }, l); }

static void bind_one(binder *b, node *n) { visit((walker){ bind, b }, n); }

static void bind_name(binder *b, node *n)
{
    if (!find_outer(b->scope, n->name.name, &n->name.hops, &n->name.slot))
        we_tpl_fail(b->r, "'%.*s' can't be used here: nothing outside of this block refers to it",
                    STR_ARG(n->name.name));
}

static void look_for_scoped_block(void *context, node *n)
{
    bool *found = context;
    *found |= n->kind == N_BLOCK && n->block.scoped;
    if (!*found) visit_children((walker){ look_for_scoped_block, found }, n);
}

static bool holds_scoped_block(node *n) /* which may ask for `loop`, too */
{
    bool found = false;
    look_for_scoped_block(&found, n);
    return found;
}

static void bind_for(binder *b, node *n)
{
    bind_one(b, n->loop.iter);
    forbid_loop_target(b, n);

    binder test = inner(b, b->scope), body = inner(b, b->scope), otherwise = inner(b, b->scope);
    n->loop.extended = n->loop.recursive || mentions(n->loop.body, "loop") || holds_scoped_block(n);
    declare_as_params(&body, n->loop.target); /* first, so that their slots are the same in `test` */
    if (n->loop.extended) n->loop.loop_slot = declare_param(&body, WE_STR("loop"));
    visit_list((walker){ declare, &body }, n->loop.body);
    body.in_loop = true;
    bind_one(&body, n->loop.target);
    bind_list(&body, n->loop.body);
    n->loop.scope = body.scope;

    declare_as_params(&test, n->loop.target);
    if (n->loop.test) {
        declare(&test, n->loop.test);
        bind_one(&test, n->loop.test);
    }
    n->loop.test_scope = test.scope;

    visit_list((walker){ declare, &otherwise }, n->loop.otherwise);
    bind_list(&otherwise, n->loop.otherwise);
    n->loop.else_scope = otherwise.scope;
}

static void check_explicit_caller(binder *b, const signature *sig)
{
    for (size_t i = 0; i < sig->params.n; i++) {
        if (!we_str_is(sig->names[i], "caller") || sig->params.n - i <= sig->defaults.n) continue;
        we_tpl_fail(b->r,
                    "When defining macros or call blocks the special \"caller\" argument must be omitted or be given "
                    "a default.");
    }
}

static bool has_param(const signature *sig, const char *name)
{
    for (size_t i = 0; i < sig->params.n; i++)
        if (we_str_is(sig->names[i], name)) return true;
    return false;
}

static void bind_macro(binder *b, node *n)
{
    signature *sig = &n->macro.sig;
    binder body = inner(b, b->scope);
    body.in_loop = false;
    visit_macro((walker){ declare, &body }, n);
    if (mentions(n->macro.body, "caller")) {
        check_explicit_caller(b, sig);
        if (!has_param(sig, "caller")) sig->caller_slot = declare_param(&body, WE_STR("caller"));
        sig->wants_caller = true;
    }
    sig->wants_kwargs = mentions(n->macro.body, "kwargs") && !has_param(sig, "kwargs");
    if (sig->wants_kwargs) sig->kwargs_slot = declare_param(&body, WE_STR("kwargs"));
    sig->wants_varargs = mentions(n->macro.body, "varargs") && !has_param(sig, "varargs");
    if (sig->wants_varargs) sig->varargs_slot = declare_param(&body, WE_STR("varargs"));
    visit_macro((walker){ bind, &body }, n);
    n->macro.scope = body.scope;
}

static void bind_block(binder *b, node *n)
{
    binder body = inner(b, NULL);
    body.in_loop = false;
    if (mentions(n->block.body, "self")) declare_param(&body, WE_STR("self"));
    if (mentions(n->block.body, "super")) declare_param(&body, WE_STR("super"));
    visit_list((walker){ declare, &body }, n->block.body);
    bind_list(&body, n->block.body);
    n->block.scope = body.scope;
    n->block.outer = b->scope;
    for (size_t i = 0; i < b->tpl->blocks.n; i++) {
        const node *other = b->tpl->blocks.items[i];
        if (other != n && we_str_eq(other->block.name, n->block.name))
            we_tpl_fail(b->r, "block '%.*s' defined twice", STR_ARG(n->block.name));
    }
}

static void bind_inner(binder *b, node *n)
{
    binder body = inner(b, b->scope);
    if (n->kind == N_WITH) bind_list(b, n->inner.values);
    if (n->kind == N_AUTOESCAPE) declare(&body, n->inner.option);
    visit_list((walker){ declare, &body }, n->inner.targets);
    visit_list((walker){ declare, &body }, n->inner.body);
    if (n->inner.filter) declare(&body, n->inner.filter);
    bind_list(&body, n->inner.targets);
    bind_one(&body, n->inner.option);
    bind_list(&body, n->inner.body);
    bind_one(&body, n->inner.filter);
    n->inner.scope = body.scope;
}

static void bind_set_block(binder *b, node *n)
{
    binder body = inner(b, b->scope);
    visit_list((walker){ declare, &body }, n->set.body);
    bind_one(b, n->set.target);
    bind_list(&body, n->set.body);
    bind_one(&body, n->set.filter);
    n->set.scope = body.scope;
}

static void bind_soft(binder *b, node *n)
{
    bool soft = b->soft;
    b->soft = true;
    visit_children((walker){ bind, b }, n);
    b->soft = soft;
}

/* Jinja folds constants before it looks at the rest: `'a' or (x | nosuch)` is 'a'. NULL: not constant. */
static const node *fold(const node *n)
{
    const node *left;
    switch (n->kind) {
    case N_CONST: return n;
    case N_OR: left = fold(n->op.left); return !left || we_tpl_truth(left->constant) ? left : fold(n->op.right);
    case N_AND: left = fold(n->op.left); return !left || !we_tpl_truth(left->constant) ? left : fold(n->op.right);
    case N_COND: {
        const node *test = fold(n->cond.test);
        if (!test) return NULL;
        const node *taken = we_tpl_truth(test->constant) ? n->cond.yes : n->cond.no;
        return taken ? fold(taken) : NULL;
    }
    default: return NULL;
    }
}

static void bind_apply(binder *b, node *n)
{
    if (!n->apply.builtin && !b->soft)
        we_tpl_fail(b->r, "No %s named '%.*s'.", n->kind == N_FILTER ? "filter" : "test", STR_ARG(n->apply.name));
    visit_children((walker){ bind, b }, n);
}

static void bind(void *context, node *n)
{
    binder *b = context;
    walker w = { bind, b };
    b->r->line = n->line;
    if (n->kind == N_OR || n->kind == N_AND || n->kind == N_COND) {
        const node *constant = fold(n);
        if (constant) {
            *n = *constant;
            return;
        }
    }
    switch (n->kind) {
    case N_NAME:
    case N_NSREF: bind_name(b, n); break;
    case N_FILTER:
    case N_TEST: bind_apply(b, n); break;
    case N_COND:
    case N_IF: bind_soft(b, n); break;
    case N_FOR: bind_for(b, n); break;
    case N_SET: bind_one(b, n->set.expr), bind_one(b, n->set.target); break;
    case N_SET_BLOCK: bind_set_block(b, n); break;
    case N_MACRO: bind_name(b, n->macro.target), bind_macro(b, n); break;
    case N_CALL_BLOCK: bind_macro(b, n), bind_one(b, n->macro.call); break;
    case N_GENERATION: bind_macro(b, n); break;
    case N_FILTER_BLOCK:
    case N_WITH:
    case N_AUTOESCAPE: bind_inner(b, n); break;
    case N_BLOCK: bind_block(b, n); break;
    case N_BREAK:
    case N_CONTINUE:
        if (!b->in_loop) we_tpl_fail(b->r, "'%s' outside loop", n->kind == N_BREAK ? "break" : "continue");
        break;
    case N_FOREIGN:
        if (n->foreign.extends && !b->toplevel) we_tpl_fail(b->r, "cannot use extend from a non top-level scope");
        bind_one(b, n->foreign.expr), bind_list(b, n->foreign.targets);
        break;
    default: visit_children(w, n); break;
    }
}

void we_tpl_bind(render *r, we_template *tpl)
{
    binder none = { .r = r, .tpl = tpl };
    binder root = inner(&none, NULL);
    root.toplevel = true;
    tpl->uses_self = mentions(tpl->body, "self");
    if (tpl->uses_self) tpl->self_slot = declare_param(&root, WE_STR("self"));
    visit_list((walker){ declare, &root }, tpl->body);
    bind_list(&root, tpl->body);
    tpl->scope = root.scope;
}
