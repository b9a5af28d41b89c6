/* SPDX-License-Identifier: Apache-2.0
 * parser.h - what parser.c (expressions) and parser_stmt.c (statements) share. */
#ifndef WE_TEMPLATE_PARSER_H
#define WE_TEMPLATE_PARSER_H

#include "template/template_int.h"

typedef struct parser {
    render *r;
    we_template *tpl;
    token_list tokens;
    size_t pos;
    int nesting;
    const char *open_tags[MAX_NESTING + 2];       /* names of the blocks that are open */
    const char *const *due_tags[MAX_NESTING + 2]; /* what may end each of them */
    size_t n_open, n_due;
} parser;

typedef struct tuple_rules {
    bool simple;          /* names and literals only: a target */
    bool with_namespace;  /* ns.attr is a target */
    bool condition;       /* `a if b` belongs to an item */
    bool explicit;        /* in parentheses: may be empty */
    const char *end_name; /* a name that ends it, such as `in` */
} tuple_rules;

token *we_tpl_current(parser *p);
token *we_tpl_advance(parser *p); /* gives the token that was current */
token *we_tpl_expect(parser *p, token_type type);
token *we_tpl_expect_name(parser *p, const char *name);
bool we_tpl_is_name(const token *t, const char *name);
bool we_tpl_skip_if(parser *p, token_type type);
bool we_tpl_skip_name(parser *p, const char *name);
const char *we_tpl_describe(parser *p, const token *t);
_Noreturn void we_tpl_parse_fail(parser *p, int line, const char *message);
void we_tpl_nest(parser *p); /* one level deeper; p->nesting-- comes back */

node *we_tpl_node(parser *p, node_kind kind, int line);
void we_tpl_node_push(parser *p, node_list *to, node *n);

node *we_tpl_expression(parser *p, bool with_condition);
node *we_tpl_tuple(parser *p, tuple_rules rules);
node *we_tpl_primary(parser *p, bool with_namespace);
node *we_tpl_parse_filter(parser *p, node *target, bool inline_start);

#endif
