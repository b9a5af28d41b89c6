/* SPDX-License-Identifier: Apache-2.0
 * parser_stmt.c - tokens -> nodes: text, {{ }} and the statements in {% %}, one function for each tag.
 * Source: jinja2/parser.py of Jinja2 3.1.6; `generation` is transformers' own (it renders its body). */
#include "template/parser.h"

/* ---- bodies ---- */

static const char *quoted_list(parser *p, const char *const *names)
{
    const char *text = "";
    for (size_t i = 0; names[i]; i++) text = we_tpl_printf(p->r, "%s%s'%s'", text, i ? " or " : "", names[i]);
    return text;
}

static bool is_one_of(const token *t, const char *const *names)
{
    for (size_t i = 0; names && names[i]; i++)
        if (we_tpl_is_name(t, names[i])) return true;
    return false;
}

/* A tag that nobody knows here, or (tag NULL) the end of the template before a block's end. */
static _Noreturn void fail_unclosed(parser *p, const token *tag, int line)
{
    const char *message = "Unexpected end of template.";
    bool nested = false;
    if (tag) message = we_tpl_printf(p->r, "Encountered unknown tag '%.*s'.", STR_ARG(tag->text));
    for (size_t i = 0; tag && i < p->n_due; i++) nested |= is_one_of(tag, p->due_tags[i]);
    if (p->n_due)
        message =
            we_tpl_printf(p->r, "%s %s %s.", message,
                          nested ? "You probably made a nesting mistake. Jinja is expecting this tag, but currently "
                                   "looking for"
                                 : "Jinja was looking for the following tags:",
                          quoted_list(p, p->due_tags[p->n_due - 1]));
    if (p->n_open)
        message = we_tpl_printf(p->r, "%s The innermost block that needs to be closed is '%s'.", message,
                                p->open_tags[p->n_open - 1]);
    we_tpl_parse_fail(p, line, message);
}

static node *parse_statement(parser *p);

static node_list parse_body(parser *p, const char *const *ends)
{
    node_list body = { 0 };
    we_tpl_nest(p);
    if (ends) p->due_tags[p->n_due++] = ends;
    for (token *t; (t = we_tpl_current(p))->type != T_EOF;) {
        we_tpl_advance(p);
        if (t->type == T_DATA) {
            node *n = we_tpl_node(p, N_DATA, t->line);
            n->constant = we_tpl_str(p->r, t->text);
            we_tpl_node_push(p, &body, n);
        } else if (t->type == T_VARIABLE_BEGIN) {
            node *n = we_tpl_node(p, N_PRINT, t->line);
            we_tpl_node_push(p, &n->items, we_tpl_tuple(p, (tuple_rules){ .condition = true }));
            we_tpl_expect(p, T_VARIABLE_END);
            we_tpl_node_push(p, &body, n);
        } else {
            if (is_one_of(we_tpl_current(p), ends)) break;
            we_tpl_node_push(p, &body, parse_statement(p));
            we_tpl_expect(p, T_BLOCK_END);
        }
    }
    if (ends && we_tpl_current(p)->type == T_EOF) fail_unclosed(p, NULL, we_tpl_current(p)->line);
    if (ends) p->n_due--;
    p->nesting--;
    return body;
}

/* The rest of the opening tag, then the body; the token that ends it is current afterwards. */
static node_list parse_block_body(parser *p, const char *const *ends)
{
    we_tpl_skip_if(p, T_COLON);
    we_tpl_expect(p, T_BLOCK_END);
    return parse_body(p, ends);
}

static node_list parse_whole_body(parser *p, const char *const *ends)
{
    node_list body = parse_block_body(p, ends);
    we_tpl_advance(p);
    return body;
}

#define ENDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* ---- targets ---- */

static bool can_assign(const node *n)
{
    static const char *const constants[] = { "true", "false", "none", "True", "False", "None", NULL };
    if (n->kind == N_NSREF) return true;
    if (n->kind == N_TUPLE) {
        for (size_t i = 0; i < n->items.n; i++)
            if (!can_assign(n->items.items[i])) return false;
        return true;
    }
    for (size_t i = 0; n->kind == N_NAME && constants[i]; i++)
        if (we_str_is(n->name.name, constants[i])) return false;
    return n->kind == N_NAME;
}

static void mark_stored(node *n, bool param)
{
    if (n->kind == N_NAME) {
        n->name.store = !param;
        n->name.param = param;
    }
    for (size_t i = 0; n->kind == N_TUPLE && i < n->items.n; i++) mark_stored(n->items.items[i], param);
}

static const char *kind_name(const node *n)
{
    static const char *const names[N_SLICE + 1] = {
        [N_CONST] = "const", [N_NAME] = "name", [N_NSREF] = "nsref",     [N_TUPLE] = "tuple",
        [N_LIST] = "list",   [N_DICT] = "dict", [N_COND] = "condexpr",   [N_AND] = "and",
        [N_OR] = "or",       [N_NOT] = "not",   [N_COMPARE] = "compare", [N_BINARY] = "binexpr",
        [N_NEG] = "neg",     [N_POS] = "pos",   [N_CONCAT] = "concat",   [N_FILTER] = "filter",
        [N_TEST] = "test",   [N_CALL] = "call", [N_GETATTR] = "getattr", [N_GETITEM] = "getitem",
        [N_SLICE] = "slice",
    };
    return n->kind <= N_SLICE ? names[n->kind] : "statement";
}

static node *parse_target(parser *p, bool with_namespace, const char *end_name)
{
    node *n = we_tpl_tuple(p, (tuple_rules){ .simple = true, .with_namespace = with_namespace, .end_name = end_name });
    if (!can_assign(n)) {
        p->r->line = n->line;
        we_tpl_fail(p->r, "can't assign to '%s'", kind_name(n));
    }
    mark_stored(n, false);
    return n;
}

static node *parse_name_target(parser *p, bool param)
{
    token *t = we_tpl_expect(p, T_NAME);
    node *n = we_tpl_node(p, N_NAME, t->line);
    n->name.name = t->text;
    if (!can_assign(n)) we_tpl_parse_fail(p, t->line, "can't assign to 'name'");
    mark_stored(n, param);
    return n;
}

/* ---- tags ---- */

static node *parse_set(parser *p, int line)
{
    node *target = parse_target(p, true, NULL);
    bool inline_set = we_tpl_skip_if(p, T_ASSIGN);
    node *n = we_tpl_node(p, inline_set ? N_SET : N_SET_BLOCK, line);
    n->set.target = target;
    if (inline_set) {
        n->set.expr = we_tpl_tuple(p, (tuple_rules){ .condition = true });
    } else {
        n->set.filter = we_tpl_parse_filter(p, NULL, false);
        n->set.body = parse_whole_body(p, ENDS("endset"));
    }
    return n;
}

static node *parse_for(parser *p, int line)
{
    node *n = we_tpl_node(p, N_FOR, line);
    n->loop.target = parse_target(p, false, "in");
    we_tpl_expect_name(p, "in");
    n->loop.iter = we_tpl_tuple(p, (tuple_rules){ .end_name = "recursive" });
    if (we_tpl_skip_name(p, "if")) n->loop.test = we_tpl_expression(p, true);
    n->loop.recursive = we_tpl_skip_name(p, "recursive");
    n->loop.body = parse_block_body(p, ENDS("endfor", "else"));
    if (we_tpl_is_name(we_tpl_advance(p), "else")) n->loop.otherwise = parse_whole_body(p, ENDS("endfor"));
    return n;
}

static node *parse_if(parser *p, int line)
{
    node *first = we_tpl_node(p, N_IF, line), *n = first;
    for (;;) {
        n->branch.test = we_tpl_tuple(p, (tuple_rules){ 0 });
        n->branch.body = parse_block_body(p, ENDS("elif", "else", "endif"));
        token *t = we_tpl_advance(p);
        if (we_tpl_is_name(t, "endif")) return first;
        n = n->branch.next = we_tpl_node(p, N_IF, t->line);
        if (we_tpl_is_name(t, "elif")) continue;
        n->branch.body = parse_whole_body(p, ENDS("endif"));
        return first;
    }
}

static node *parse_with(parser *p, int line)
{
    node *n = we_tpl_node(p, N_WITH, line);
    while (we_tpl_current(p)->type != T_BLOCK_END) {
        if (n->inner.targets.n) we_tpl_expect(p, T_COMMA);
        node *target = parse_target(p, false, NULL);
        mark_stored(target, true);
        we_tpl_node_push(p, &n->inner.targets, target);
        we_tpl_expect(p, T_ASSIGN);
        we_tpl_node_push(p, &n->inner.values, we_tpl_expression(p, true));
    }
    n->inner.body = parse_whole_body(p, ENDS("endwith"));
    return n;
}

static node *parse_autoescape(parser *p, int line)
{
    node *n = we_tpl_node(p, N_AUTOESCAPE, line);
    n->inner.option = we_tpl_expression(p, true);
    n->inner.body = parse_whole_body(p, ENDS("endautoescape"));
    return n;
}

static node *parse_filter_block(parser *p, int line)
{
    node *n = we_tpl_node(p, N_FILTER_BLOCK, line);
    n->inner.filter = we_tpl_parse_filter(p, NULL, true);
    n->inner.body = parse_whole_body(p, ENDS("endfilter"));
    return n;
}

static bool is_blank(const node *n)
{
    if (n->kind != N_DATA) return false;
    we_str s = str_of(n->constant);
    for (size_t i = 0; i < s.len;)
        if (!we_tpl_is_space(we_utf8_next(s, &i))) return false;
    return true;
}

static node *parse_block(parser *p, int line)
{
    node *n = we_tpl_node(p, N_BLOCK, line);
    n->block.name = we_tpl_expect(p, T_NAME)->text;
    n->block.scoped = we_tpl_skip_name(p, "scoped");
    n->block.required = we_tpl_skip_name(p, "required");
    if (we_tpl_current(p)->type == T_SUB)
        we_tpl_fail(p->r,
                    "Block names in Jinja have to be valid Python identifiers and may not contain hyphens, use an "
                    "underscore instead.");
    n->block.body = parse_whole_body(p, ENDS("endblock"));
    for (size_t i = 0; n->block.required && i < n->block.body.n; i++)
        if (!is_blank(n->block.body.items[i]))
            we_tpl_fail(p->r, "Required blocks can only contain comments or whitespace");
    token *t = we_tpl_current(p);
    if (t->type == T_NAME && we_str_eq(t->text, n->block.name)) we_tpl_advance(p);
    we_tpl_node_push(p, &p->tpl->blocks, n);
    return n;
}

static void push_signature_name(parser *p, signature *sig, node *param)
{
    size_t n = sig->params.n;
    for (size_t i = 0; i < n; i++)
        if (we_str_eq(sig->names[i], param->name.name))
            we_tpl_fail(p->r, "duplicate argument '%.*s' in function definition", STR_ARG(param->name.name));
    if ((n & (n - 1)) == 0) {
        we_str *names = we_tpl_alloc(p->r, (n ? n * 2 : 1) * sizeof(*names));
        if (n) memcpy(names, sig->names, n * sizeof(*names));
        sig->names = names;
    }
    sig->names[n] = param->name.name;
    we_tpl_node_push(p, &sig->params, param);
}

static void parse_signature(parser *p, signature *sig)
{
    we_tpl_expect(p, T_LPAREN);
    while (we_tpl_current(p)->type != T_RPAREN) {
        if (sig->params.n) we_tpl_expect(p, T_COMMA);
        node *param = parse_name_target(p, true);
        if (we_tpl_skip_if(p, T_ASSIGN))
            we_tpl_node_push(p, &sig->defaults, we_tpl_expression(p, true));
        else if (sig->defaults.n)
            we_tpl_fail(p->r, "non-default argument follows default argument");
        push_signature_name(p, sig, param);
    }
    we_tpl_expect(p, T_RPAREN);
}

static node *parse_macro(parser *p, int line)
{
    node *n = we_tpl_node(p, N_MACRO, line);
    n->macro.target = parse_name_target(p, false);
    n->macro.name = n->macro.target->name.name;
    parse_signature(p, &n->macro.sig);
    n->macro.body = parse_whole_body(p, ENDS("endmacro"));
    return n;
}

static node *parse_call_block(parser *p, int line)
{
    node *n = we_tpl_node(p, N_CALL_BLOCK, line);
    if (we_tpl_current(p)->type == T_LPAREN) parse_signature(p, &n->macro.sig);
    n->macro.call = we_tpl_expression(p, true);
    if (n->macro.call->kind != N_CALL) we_tpl_parse_fail(p, line, "expected call");
    n->macro.body = parse_whole_body(p, ENDS("endcall"));
    return n;
}

static node *parse_generation(parser *p, int line)
{
    node *n = we_tpl_node(p, N_GENERATION, line);
    n->macro.body = parse_whole_body(p, ENDS("endgeneration"));
    return n;
}

static node *parse_print(parser *p, int line)
{
    node *n = we_tpl_node(p, N_PRINT, line);
    while (we_tpl_current(p)->type != T_BLOCK_END) {
        if (n->items.n) we_tpl_expect(p, T_COMMA);
        we_tpl_node_push(p, &n->items, we_tpl_expression(p, true));
    }
    return n;
}

static node *parse_break(parser *p, int line) { return we_tpl_node(p, N_BREAK, line); }

static node *parse_continue(parser *p, int line) { return we_tpl_node(p, N_CONTINUE, line); }

/* ---- tags that ask for other templates: parsed, and an error when they are reached ---- */

static bool skip_context(parser *p)
{
    token *t = we_tpl_current(p);
    size_t at = p->pos;
    if (!we_tpl_is_name(t, "with") && !we_tpl_is_name(t, "without")) return false;
    we_tpl_advance(p);
    if (we_tpl_skip_name(p, "context")) return true;
    p->pos = at;
    return false;
}

static node *foreign(parser *p, int line)
{
    node *n = we_tpl_node(p, N_FOREIGN, line);
    n->foreign.expr = we_tpl_expression(p, true);
    return n;
}

static node *parse_extends(parser *p, int line)
{
    node *n = foreign(p, line);
    n->foreign.extends = true;
    return n;
}

static node *parse_include(parser *p, int line)
{
    node *n = foreign(p, line);
    size_t at = p->pos;
    if (we_tpl_skip_name(p, "ignore") && !we_tpl_skip_name(p, "missing")) p->pos = at;
    skip_context(p);
    return n;
}

static node *parse_import(parser *p, int line)
{
    node *n = foreign(p, line);
    we_tpl_expect_name(p, "as");
    we_tpl_node_push(p, &n->foreign.targets, parse_name_target(p, false));
    skip_context(p);
    return n;
}

static node *parse_from(parser *p, int line)
{
    node *n = foreign(p, line);
    we_tpl_expect_name(p, "import");
    for (;;) {
        if (n->foreign.targets.n) we_tpl_expect(p, T_COMMA);
        if (we_tpl_current(p)->type != T_NAME) we_tpl_expect(p, T_NAME);
        if (skip_context(p)) break;
        node *target = parse_name_target(p, false);
        if (target->name.name.ptr[0] == '_')
            we_tpl_parse_fail(p, target->line, "names starting with an underline can not be imported");
        if (we_tpl_skip_name(p, "as")) target = parse_name_target(p, false);
        we_tpl_node_push(p, &n->foreign.targets, target);
        if (skip_context(p) || we_tpl_current(p)->type != T_COMMA) break;
    }
    return n;
}

/* ---- one statement ---- */

static const struct tag {
    const char *name;
    node *(*parse)(parser *p, int line);
} tags[] = {
    { "if", parse_if },
    { "for", parse_for },
    { "set", parse_set },
    { "macro", parse_macro },
    { "call", parse_call_block },
    { "filter", parse_filter_block },
    { "with", parse_with },
    { "generation", parse_generation },
    { "break", parse_break },
    { "continue", parse_continue },
    { "print", parse_print },
    { "block", parse_block },
    { "autoescape", parse_autoescape },
    { "extends", parse_extends },
    { "include", parse_include },
    { "import", parse_import },
    { "from", parse_from },
};

static node *parse_statement(parser *p)
{
    token *t = we_tpl_current(p);
    if (t->type != T_NAME) we_tpl_parse_fail(p, t->line, "tag name expected");
    for (size_t i = 0; i < WE_COUNT(tags); i++) {
        if (!we_str_is(t->text, tags[i].name)) continue;
        p->open_tags[p->n_open++] = tags[i].name;
        we_tpl_advance(p);
        node *n = tags[i].parse(p, t->line);
        p->n_open--;
        return n;
    }
    fail_unclosed(p, t, t->line);
}

void we_tpl_parse(render *r, we_template *tpl, token_list tokens)
{
    parser p = { .r = r, .tpl = tpl, .tokens = tokens };
    tpl->body = parse_body(&p, NULL);
}
