/* SPDX-License-Identifier: Apache-2.0
 * call.c - calling: macros, loops, joiners, and the built-in functions with their named and optional parameters. */
#include "template/template_int.h"

#define MAX_PARAMS 8

const builtin *we_tpl_table_find(builtin_table table, we_str name)
{
    for (size_t i = 0; i < table.n; i++)
        if (we_str_is(name, table.rows[i].name)) return &table.rows[i];
    return NULL;
}

bool we_tpl_callable(value v)
{
    return v.type == V_FUNCTION || v.type == V_MACRO || v.type == V_LOOP || v.type == V_JOINER || v.type == V_UNDEFINED;
}

typedef struct parameter {
    we_str name;
    bool optional, by_position;
} parameter;

static size_t parse_params(const char *text, parameter *out)
{
    size_t n = 0;
    bool by_position = false;
    while (*text) {
        size_t len = strcspn(text, " ");
        if (*text == '/') {
            by_position = true;
        } else {
            bool optional = text[len - 1] == '?';
            out[n++] = (parameter){ { text, len - optional }, optional, by_position };
        }
        text += len;
        text += strspn(text, " ");
    }
    return n;
}

value we_tpl_apply(render *r, const builtin *b, value self, const call *c)
{
    if (b->params[0] == '*') return b->fn(r, self, NULL, c);
    parameter params[MAX_PARAMS];
    value a[MAX_PARAMS];
    size_t n = parse_params(b->params, params);
    if (c->n_args > n)
        we_tpl_fail(r, "%s() takes at most %zu argument%s (%zu given)", b->name, n, n == 1 ? "" : "s", c->n_args);
    for (size_t i = 0; i < n; i++) a[i] = i < c->n_args ? c->args[i] : V_MISSING_VALUE;
    for (size_t k = 0; k < c->n_keywords; k++) {
        we_str name = c->keywords[k].name;
        size_t i = 0;
        while (i < n && (params[i].by_position || !we_str_eq(params[i].name, name))) i++;
        if (i == n) we_tpl_fail(r, "%s() got an unexpected keyword argument '%.*s'", b->name, STR_ARG(name));
        if (a[i].type != V_MISSING)
            we_tpl_fail(r, "%s() got multiple values for argument '%.*s'", b->name, STR_ARG(name));
        a[i] = c->keywords[k].value;
    }
    for (size_t i = 0; i < n; i++)
        if (a[i].type == V_MISSING && !params[i].optional)
            we_tpl_fail(r, "%s() missing 1 required positional argument: '%.*s'", b->name, STR_ARG(params[i].name));
    return b->fn(r, self, a, c);
}

static value call_loop(render *r, loop *l, const call *c)
{
    if (c->n_args != 1 || c->n_keywords) we_tpl_fail(r, "LoopContext.__call__() takes 2 positional arguments");
    return we_tpl_call_loop(r, l, c->args[0]);
}

static value call_joiner(render *r, joiner *j, const call *c)
{
    if (c->n_args || c->n_keywords) we_tpl_fail(r, "Joiner.__call__() takes 1 positional argument");
    if (j->used) return j->separator;
    j->used = true;
    return we_tpl_str_c(r, "");
}

value we_tpl_call(render *r, value callee, const call *c)
{
    switch (callee.type) {
    case V_FUNCTION: return we_tpl_apply(r, callee.function->builtin, callee.function->self, c);
    case V_MACRO: return we_tpl_call_macro(r, callee.macro, c);
    case V_LOOP: return call_loop(r, callee.loop, c);
    case V_JOINER: return call_joiner(r, callee.joiner, c);
    case V_UNDEFINED: we_tpl_raise_undefined(r, callee);
    default: we_tpl_fail(r, "'%s' object is not callable", we_tpl_type_name(callee));
    }
}
