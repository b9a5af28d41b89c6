/* SPDX-License-Identifier: Apache-2.0
 * parser.c - tokens -> nodes: the expressions. Statements are in parser_stmt.c; what names mean is scope.c's work.
 * One function per level of precedence, as in Jinja: a condition holds an `or`, that an `and`, then `not`, comparisons,
 * + and -, ~, * / // %, **, signs, and at the bottom names, literals, calls, subscripts, filters and tests.
 * Source: jinja2/parser.py of Jinja2 3.1.6. */
#include "template/parser.h"

/* ---- tokens ---- */

token *we_tpl_current(parser *p) { return &p->tokens.items[p->pos]; }

static token *look(parser *p)
{
    size_t next = p->pos + 1;
    return &p->tokens.items[next < p->tokens.n ? next : p->tokens.n - 1];
}

token *we_tpl_advance(parser *p)
{
    token *t = we_tpl_current(p);
    if (p->pos + 1 < p->tokens.n) p->pos++;
    p->r->line = we_tpl_current(p)->line;
    return t;
}

bool we_tpl_is_name(const token *t, const char *name) { return t->type == T_NAME && we_str_is(t->text, name); }

bool we_tpl_skip_if(parser *p, token_type type)
{
    bool yes = we_tpl_current(p)->type == type;
    if (yes) we_tpl_advance(p);
    return yes;
}

bool we_tpl_skip_name(parser *p, const char *name)
{
    bool yes = we_tpl_is_name(we_tpl_current(p), name);
    if (yes) we_tpl_advance(p);
    return yes;
}

const char *we_tpl_describe(parser *p, const token *t)
{
    if (t->type == T_NAME) return we_tpl_printf(p->r, "%.*s", STR_ARG(t->text));
    return we_tpl_token_name(t->type);
}

void we_tpl_parse_fail(parser *p, int line, const char *message)
{
    p->r->line = line;
    we_tpl_fail(p->r, "%s", message);
}

token *we_tpl_expect(parser *p, token_type type)
{
    token *t = we_tpl_current(p);
    p->r->line = t->line;
    if (t->type == type) return we_tpl_advance(p);
    if (t->type == T_EOF) we_tpl_fail(p->r, "unexpected end of template, expected '%s'.", we_tpl_token_name(type));
    we_tpl_fail(p->r, "expected token '%s', got '%s'", we_tpl_token_name(type), we_tpl_describe(p, t));
}

token *we_tpl_expect_name(parser *p, const char *name)
{
    token *t = we_tpl_current(p);
    p->r->line = t->line;
    if (we_tpl_is_name(t, name)) return we_tpl_advance(p);
    if (t->type == T_EOF) we_tpl_fail(p->r, "unexpected end of template, expected '%s'.", name);
    we_tpl_fail(p->r, "expected token '%s', got '%s'", name, we_tpl_describe(p, t));
}

/* ---- nodes ---- */

node *we_tpl_node(parser *p, node_kind kind, int line)
{
    node *n = we_tpl_calloc(p->r, 1, sizeof(*n));
    n->kind = kind;
    n->line = line;
    n->depth = 1;
    return n;
}

void we_tpl_node_push(parser *p, node_list *to, node *n)
{
    if ((to->n & (to->n - 1)) == 0) { /* 0, 1, 2, 4, ...: full */
        node **items = we_tpl_alloc(p->r, (to->n ? to->n * 2 : 1) * sizeof(*items));
        if (to->n) memcpy(items, to->items, to->n * sizeof(*items));
        to->items = items;
    }
    to->items[to->n++] = n;
}

/* Long chains of operators make deep trees without nested brackets. */
static node *deeper(parser *p, node *n, const node *a, const node *b)
{
    int depth = WE_MAX(a ? a->depth : 0, b ? b->depth : 0);
    if (depth >= MAX_CHAIN) we_tpl_parse_fail(p, n->line, "the expression is too long");
    n->depth = depth + 1;
    return n;
}

static node *constant(parser *p, int line, value v)
{
    node *n = we_tpl_node(p, N_CONST, line);
    n->constant = v;
    return n;
}

static node *binary(parser *p, node_kind kind, operator op, node *left, node *right, int line)
{
    node *n = we_tpl_node(p, kind, line);
    n->op.op = op;
    n->op.left = left;
    n->op.right = right;
    return deeper(p, n, left, right);
}

static node *list_node(parser *p, node_kind kind, int line, node_list items)
{
    node *n = we_tpl_node(p, kind, line);
    n->items = items;
    for (size_t i = 0; i < items.n; i++) n->depth = WE_MAX(n->depth, items.items[i]->depth);
    return deeper(p, n, n, NULL);
}

void we_tpl_nest(parser *p)
{
    if (++p->nesting > MAX_NESTING) we_tpl_fail(p->r, "the template is nested too deeply");
}

/* ---- the bottom: names, literals ---- */

static node *parse_list(parser *p)
{
    int line = we_tpl_expect(p, T_LBRACKET)->line;
    node_list items = { 0 };
    while (we_tpl_current(p)->type != T_RBRACKET) {
        if (items.n) we_tpl_expect(p, T_COMMA);
        if (we_tpl_current(p)->type == T_RBRACKET) break;
        we_tpl_node_push(p, &items, we_tpl_expression(p, true));
    }
    we_tpl_expect(p, T_RBRACKET);
    return list_node(p, N_LIST, line, items);
}

static node *parse_dict(parser *p)
{
    int line = we_tpl_expect(p, T_LBRACE)->line;
    node_list items = { 0 };
    while (we_tpl_current(p)->type != T_RBRACE) {
        if (items.n) we_tpl_expect(p, T_COMMA);
        if (we_tpl_current(p)->type == T_RBRACE) break;
        we_tpl_node_push(p, &items, we_tpl_expression(p, true));
        we_tpl_expect(p, T_COLON);
        we_tpl_node_push(p, &items, we_tpl_expression(p, true));
    }
    we_tpl_expect(p, T_RBRACE);
    return list_node(p, N_DICT, line, items);
}

static node *parse_name(parser *p, bool with_namespace)
{
    token *t = we_tpl_advance(p);
    if (we_str_is(t->text, "true") || we_str_is(t->text, "True")) return constant(p, t->line, v_bool(true));
    if (we_str_is(t->text, "false") || we_str_is(t->text, "False")) return constant(p, t->line, v_bool(false));
    if (we_str_is(t->text, "none") || we_str_is(t->text, "None")) return constant(p, t->line, V_NONE_VALUE);
    bool attribute = with_namespace && we_tpl_skip_if(p, T_DOT);
    node *n = we_tpl_node(p, attribute ? N_NSREF : N_NAME, t->line);
    n->name.name = t->text;
    if (attribute) n->name.attr = we_tpl_expect(p, T_NAME)->text;
    return n;
}

static node *parse_strings(parser *p) /* 'a' 'b' is 'ab' */
{
    token *t = we_tpl_advance(p);
    value v = t->value;
    while (we_tpl_current(p)->type == T_STRING) v = we_tpl_concat(p->r, v, we_tpl_advance(p)->value);
    return constant(p, t->line, v);
}

node *we_tpl_primary(parser *p, bool with_namespace)
{
    token *t = we_tpl_current(p);
    node *n;
    we_tpl_nest(p);
    switch (t->type) {
    case T_NAME: n = parse_name(p, with_namespace); break;
    case T_STRING: n = parse_strings(p); break;
    case T_INTEGER:
    case T_FLOAT: n = constant(p, t->line, we_tpl_advance(p)->value); break;
    case T_LPAREN:
        we_tpl_advance(p);
        n = we_tpl_tuple(p, (tuple_rules){ .condition = true, .explicit = true });
        we_tpl_expect(p, T_RPAREN);
        break;
    case T_LBRACKET: n = parse_list(p); break;
    case T_LBRACE: n = parse_dict(p); break;
    default: p->r->line = t->line; we_tpl_fail(p->r, "unexpected '%s'", we_tpl_describe(p, t));
    }
    p->nesting--;
    return n;
}

static bool tuple_ends(parser *p, const tuple_rules *rules)
{
    token *t = we_tpl_current(p);
    if (t->type == T_VARIABLE_END || t->type == T_BLOCK_END || t->type == T_RPAREN) return true;
    return rules->end_name && we_tpl_is_name(t, rules->end_name);
}

node *we_tpl_tuple(parser *p, tuple_rules rules)
{
    int line = we_tpl_current(p)->line;
    node_list items = { 0 };
    bool is_tuple = false;
    for (;;) {
        if (items.n) we_tpl_expect(p, T_COMMA);
        if (tuple_ends(p, &rules)) break;
        we_tpl_node_push(
            p, &items, rules.simple ? we_tpl_primary(p, rules.with_namespace) : we_tpl_expression(p, rules.condition));
        if (we_tpl_current(p)->type != T_COMMA) break;
        is_tuple = true;
        line = we_tpl_current(p)->line;
    }
    if (!is_tuple) {
        if (items.n) return items.items[0];
        if (!rules.explicit)
            we_tpl_fail(p->r, "Expected an expression, got '%s'", we_tpl_describe(p, we_tpl_current(p)));
    }
    return list_node(p, N_TUPLE, line, items);
}

/* ---- calls, subscripts, filters, tests ---- */

static void add_name(parser *p, we_str **names, size_t n, we_str name)
{
    for (size_t i = 0; i < n; i++) /* Python's compiler says so */
        if (we_str_eq((*names)[i], name)) we_tpl_fail(p->r, "keyword argument repeated: %.*s", STR_ARG(name));
    if ((n & (n - 1)) == 0) {
        we_str *more = we_tpl_alloc(p->r, (n ? n * 2 : 1) * sizeof(*more));
        if (n) memcpy(more, *names, n * sizeof(*more));
        *names = more;
    }
    (*names)[n] = name;
}

static void parse_argument(parser *p, arguments *args, int line)
{
    static const char bad[] = "invalid syntax for function call expression";
    token *t = we_tpl_current(p);
    if (t->type == T_MUL) {
        if (args->star || args->star_star) we_tpl_parse_fail(p, line, bad);
        we_tpl_advance(p);
        args->star = we_tpl_expression(p, true);
    } else if (t->type == T_POW) {
        if (args->star_star) we_tpl_parse_fail(p, line, bad);
        we_tpl_advance(p);
        args->star_star = we_tpl_expression(p, true);
    } else if (t->type == T_NAME && look(p)->type == T_ASSIGN) {
        if (args->star_star) we_tpl_parse_fail(p, line, bad);
        add_name(p, &args->names, args->keywords.n, t->text);
        we_tpl_advance(p);
        we_tpl_advance(p);
        we_tpl_node_push(p, &args->keywords, we_tpl_expression(p, true));
    } else {
        if (args->star || args->star_star || args->keywords.n) we_tpl_parse_fail(p, line, bad);
        we_tpl_node_push(p, &args->positional, we_tpl_expression(p, true));
    }
}

static int arguments_depth(const arguments *args)
{
    int depth = 0;
    for (size_t i = 0; i < args->positional.n; i++) depth = WE_MAX(depth, args->positional.items[i]->depth);
    for (size_t i = 0; i < args->keywords.n; i++) depth = WE_MAX(depth, args->keywords.items[i]->depth);
    if (args->star) depth = WE_MAX(depth, args->star->depth);
    if (args->star_star) depth = WE_MAX(depth, args->star_star->depth);
    return depth;
}

static void parse_arguments(parser *p, arguments *args)
{
    int line = we_tpl_expect(p, T_LPAREN)->line;
    bool comma = false;
    while (we_tpl_current(p)->type != T_RPAREN) {
        if (comma) we_tpl_expect(p, T_COMMA);
        if (comma && we_tpl_current(p)->type == T_RPAREN) break;
        parse_argument(p, args, line);
        comma = true;
    }
    we_tpl_expect(p, T_RPAREN);
}

static node *parse_call(parser *p, node *callee)
{
    node *n = we_tpl_node(p, N_CALL, we_tpl_current(p)->line);
    n->call.target = callee;
    parse_arguments(p, &n->call.args);
    n->depth = arguments_depth(&n->call.args);
    return deeper(p, n, n, callee);
}

static node *parse_slice_rest(parser *p, node *start, int line)
{
    node *n = we_tpl_node(p, N_SLICE, line);
    token_type t = we_tpl_current(p)->type;
    n->slice.start = start;
    if (t != T_COLON && t != T_RBRACKET && t != T_COMMA) n->slice.stop = we_tpl_expression(p, true);
    if (we_tpl_skip_if(p, T_COLON)) {
        t = we_tpl_current(p)->type;
        if (t != T_RBRACKET && t != T_COMMA) n->slice.step = we_tpl_expression(p, true);
    }
    deeper(p, n, start, n->slice.stop);
    return deeper(p, n, n, n->slice.step);
}

static node *parse_subscribed(parser *p)
{
    int line = we_tpl_current(p)->line;
    if (we_tpl_skip_if(p, T_COLON)) return parse_slice_rest(p, NULL, line);
    node *start = we_tpl_expression(p, true);
    return we_tpl_skip_if(p, T_COLON) ? parse_slice_rest(p, start, line) : start;
}

static node *parse_subscript(parser *p, node *object)
{
    token *t = we_tpl_advance(p);
    node *n = we_tpl_node(p, N_GETITEM, t->line), *index;
    if (t->type == T_DOT) {
        token *name = we_tpl_advance(p);
        if (name->type == T_NAME) {
            n->kind = N_GETATTR;
            n->getattr.object = object;
            n->getattr.name = we_tpl_str(p->r, name->text);
            return deeper(p, n, object, NULL);
        }
        if (name->type != T_INTEGER) we_tpl_parse_fail(p, name->line, "expected name or number");
        index = constant(p, name->line, name->value);
    } else {
        node_list items = { 0 };
        while (we_tpl_current(p)->type != T_RBRACKET) {
            if (items.n) we_tpl_expect(p, T_COMMA);
            we_tpl_node_push(p, &items, parse_subscribed(p));
        }
        we_tpl_expect(p, T_RBRACKET);
        for (size_t i = 0; items.n > 1 && i < items.n; i++)
            if (items.items[i]->kind == N_SLICE) we_tpl_parse_fail(p, t->line, "invalid syntax");
        index = items.n == 1 ? items.items[0] : list_node(p, N_TUPLE, t->line, items);
    }
    n->getitem.object = object;
    n->getitem.index = index;
    return deeper(p, n, object, index);
}

static node *parse_postfix(parser *p, node *n)
{
    for (;;) {
        token_type t = we_tpl_current(p)->type;
        if (t == T_DOT || t == T_LBRACKET)
            n = parse_subscript(p, n);
        else if (t == T_LPAREN)
            n = parse_call(p, n);
        else
            return n;
    }
}

static we_str parse_dotted(parser *p)
{
    we_str name = we_tpl_expect(p, T_NAME)->text;
    while (we_tpl_skip_if(p, T_DOT)) {
        we_str more = we_tpl_expect(p, T_NAME)->text;
        name = we_str_from(we_tpl_printf(p->r, "%.*s.%.*s", STR_ARG(name), STR_ARG(more)));
    }
    return name;
}

node *we_tpl_parse_filter(parser *p, node *target, bool inline_start)
{
    while (inline_start || we_tpl_skip_if(p, T_PIPE)) {
        node *n = we_tpl_node(p, N_FILTER, we_tpl_current(p)->line);
        inline_start = false;
        n->apply.target = target;
        n->apply.name = parse_dotted(p);
        n->apply.builtin = we_tpl_find_filter(n->apply.name);
        if (we_tpl_current(p)->type == T_LPAREN) parse_arguments(p, &n->apply.args);
        n->depth = arguments_depth(&n->apply.args);
        target = deeper(p, n, n, target);
    }
    return target;
}

static bool begins_test_argument(const token *t)
{
    switch (t->type) {
    case T_NAME: return !we_tpl_is_name(t, "else") && !we_tpl_is_name(t, "or") && !we_tpl_is_name(t, "and");
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE: return true;
    default: return false;
    }
}

static node *parse_test(parser *p, node *target)
{
    node *n = we_tpl_node(p, N_TEST, we_tpl_advance(p)->line);
    bool negated = we_tpl_skip_name(p, "not");
    n->apply.target = target;
    n->apply.name = parse_dotted(p);
    n->apply.builtin = we_tpl_find_test(n->apply.name);
    if (we_tpl_current(p)->type == T_LPAREN) {
        parse_arguments(p, &n->apply.args);
    } else if (begins_test_argument(we_tpl_current(p))) {
        if (we_tpl_is_name(we_tpl_current(p), "is")) we_tpl_fail(p->r, "You cannot chain multiple tests with is");
        we_tpl_node_push(p, &n->apply.args.positional, parse_postfix(p, we_tpl_primary(p, false)));
    }
    n->depth = arguments_depth(&n->apply.args);
    deeper(p, n, n, target);
    return negated ? binary(p, N_NOT, OP_ADD, n, NULL, n->line) : n;
}

static node *parse_filters_and_tests(parser *p, node *n)
{
    for (;;) {
        token *t = we_tpl_current(p);
        if (t->type == T_PIPE)
            n = we_tpl_parse_filter(p, n, false);
        else if (we_tpl_is_name(t, "is"))
            n = parse_test(p, n);
        else if (t->type == T_LPAREN)
            n = parse_call(p, n);
        else
            return n;
    }
}

/* ---- operators, tightest first ---- */

static node *parse_unary(parser *p, bool with_filter)
{
    token *t = we_tpl_current(p);
    node *n;
    if (t->type == T_SUB || t->type == T_ADD) {
        we_tpl_advance(p);
        we_tpl_nest(p);
        n = binary(p, t->type == T_SUB ? N_NEG : N_POS, OP_SUB, parse_unary(p, false), NULL, t->line);
        p->nesting--;
    } else {
        n = we_tpl_primary(p, false);
    }
    n = parse_postfix(p, n);
    return with_filter ? parse_filters_and_tests(p, n) : n;
}

static node *parse_pow(parser *p)
{
    node *left = parse_unary(p, true);
    while (we_tpl_current(p)->type == T_POW) {
        int line = we_tpl_advance(p)->line;
        left = binary(p, N_BINARY, OP_POW, left, parse_unary(p, true), line);
    }
    return left;
}

static bool operator_of(token_type t, operator* op)
{
    static const struct {
        token_type token;
        operator op;
    } table[] = {
        { T_MUL, OP_MUL }, { T_DIV, OP_DIV }, { T_FLOORDIV, OP_FLOORDIV },
        { T_MOD, OP_MOD }, { T_EQ, OP_EQ },   { T_NE, OP_NE },
        { T_LT, OP_LT },   { T_LE, OP_LE },   { T_GT, OP_GT },
        { T_GE, OP_GE },
    };
    for (size_t i = 0; i < WE_COUNT(table); i++)
        if (table[i].token == t) return *op = table[i].op, true;
    return false;
}

static node *parse_product(parser *p)
{
    node *left = parse_pow(p);
    operator op;
    while (operator_of(we_tpl_current(p)->type, &op) && op < OP_EQ) {
        int line = we_tpl_advance(p)->line;
        left = binary(p, N_BINARY, op, left, parse_pow(p), line);
    }
    return left;
}

static node *parse_concat(parser *p)
{
    int line = we_tpl_current(p)->line;
    node_list items = { 0 };
    we_tpl_node_push(p, &items, parse_product(p));
    while (we_tpl_skip_if(p, T_TILDE)) we_tpl_node_push(p, &items, parse_product(p));
    return items.n == 1 ? items.items[0] : list_node(p, N_CONCAT, line, items);
}

static node *parse_sum(parser *p)
{
    node *left = parse_concat(p);
    for (token_type t; (t = we_tpl_current(p)->type) == T_ADD || t == T_SUB;) {
        int line = we_tpl_advance(p)->line;
        left = binary(p, N_BINARY, t == T_ADD ? OP_ADD : OP_SUB, left, parse_concat(p), line);
    }
    return left;
}

static bool comparison(parser *p, operator* op)
{
    token *t = we_tpl_current(p);
    if (operator_of(t->type, op) && *op >= OP_EQ) {
        we_tpl_advance(p);
        return true;
    }
    if (we_tpl_skip_name(p, "in")) return *op = OP_IN, true;
    if (!we_tpl_is_name(t, "not") || !we_tpl_is_name(look(p), "in")) return false;
    we_tpl_advance(p);
    we_tpl_advance(p);
    return *op = OP_NOT_IN, true;
}

static node *parse_compare(parser *p)
{
    int line = we_tpl_current(p)->line;
    node *first = parse_sum(p);
    operator op, *ops = NULL;
    node_list rest = { 0 };
    while (comparison(p, &op)) {
        if ((rest.n & (rest.n - 1)) == 0) {
            operator* more = we_tpl_alloc(p->r, (rest.n ? rest.n * 2 : 1) * sizeof(*more));
            if (rest.n) memcpy(more, ops, rest.n * sizeof(*more));
            ops = more;
        }
        ops[rest.n] = op;
        we_tpl_node_push(p, &rest, parse_sum(p));
    }
    if (rest.n == 0) return first;
    node *n = we_tpl_node(p, N_COMPARE, line);
    n->compare.first = first;
    n->compare.ops = ops;
    n->compare.rest = rest;
    for (size_t i = 0; i < rest.n; i++) n->depth = WE_MAX(n->depth, rest.items[i]->depth);
    return deeper(p, n, n, first);
}

static node *parse_not(parser *p)
{
    if (!we_tpl_is_name(we_tpl_current(p), "not")) return parse_compare(p);
    int line = we_tpl_advance(p)->line;
    we_tpl_nest(p);
    node *n = binary(p, N_NOT, OP_ADD, parse_not(p), NULL, line);
    p->nesting--;
    return n;
}

static node *parse_and(parser *p)
{
    int line = we_tpl_current(p)->line;
    node *left = parse_not(p);
    while (we_tpl_skip_name(p, "and")) left = binary(p, N_AND, OP_ADD, left, parse_not(p), line);
    return left;
}

static node *parse_or(parser *p)
{
    int line = we_tpl_current(p)->line;
    node *left = parse_and(p);
    while (we_tpl_skip_name(p, "or")) left = binary(p, N_OR, OP_ADD, left, parse_and(p), line);
    return left;
}

static node *parse_condition(parser *p)
{
    int line = we_tpl_current(p)->line;
    node *n = parse_or(p);
    while (we_tpl_skip_name(p, "if")) {
        node *c = we_tpl_node(p, N_COND, line);
        c->cond.yes = n;
        c->cond.test = parse_or(p);
        if (we_tpl_skip_name(p, "else")) {
            we_tpl_nest(p);
            c->cond.no = parse_condition(p);
            p->nesting--;
        }
        deeper(p, c, n, c->cond.test);
        n = deeper(p, c, c, c->cond.no);
    }
    return n;
}

node *we_tpl_expression(parser *p, bool with_condition) { return with_condition ? parse_condition(p) : parse_or(p); }
