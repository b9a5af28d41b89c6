/* SPDX-License-Identifier: Apache-2.0
 * tests.c - the tests behind `is`. Source: jinja2/tests.py of Jinja2 3.1.6. */
#include "template/template_int.h"

static value remainder_of(render *r, value v, value by) { return we_tpl_binary(r, OP_MOD, v, by); }

static value test_odd(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return v_bool(we_tpl_equal(r, remainder_of(r, self, v_int(2)), v_int(1)));
}

static value test_even(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    return v_bool(we_tpl_equal(r, remainder_of(r, self, v_int(2)), v_int(0)));
}

static value test_divisibleby(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return v_bool(we_tpl_equal(r, remainder_of(r, self, a[0]), v_int(0)));
}

static value test_lower(render *r, value self, const value *a, const call *c)
{
    (void)a;
    value question = we_tpl_method(r, we_tpl_table_find(we_tpl_str_methods, WE_STR("islower")), we_tpl_to_str(r, self));
    return we_tpl_call(r, question, c);
}

static value test_upper(render *r, value self, const value *a, const call *c)
{
    (void)a;
    value question = we_tpl_method(r, we_tpl_table_find(we_tpl_str_methods, WE_STR("isupper")), we_tpl_to_str(r, self));
    return we_tpl_call(r, question, c);
}

static value test_filter(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    we_tpl_hash(r, self);
    return v_bool(self.type == V_STR && we_tpl_find_filter(str_of(self)));
}

static value test_test(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    we_tpl_hash(r, self);
    return v_bool(self.type == V_STR && we_tpl_find_test(str_of(self)));
}

static value test_sequence(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    int64_t n; /* has a length, and items by index or key; undefined has both */
    return v_bool(self.type != V_VIEW && we_tpl_length(self, &n));
}

static value test_sameas(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)c;
    return v_bool(we_tpl_same(self, a[0]));
}

static value test_in(render *r, value self, const value *a, const call *c)
{
    (void)c;
    return v_bool(we_tpl_contains(r, a[0], self));
}

static value test_callable(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return v_bool(we_tpl_callable(self));
}

static value test_iterable(render *r, value self, const value *a, const call *c)
{
    (void)r, (void)a, (void)c;
    return v_bool(we_tpl_iterable(self));
}

/* Tests that only look at the value. */
#define TYPE_TEST(name, condition)                                          \
    static value name(render *r, value self, const value *a, const call *c) \
    {                                                                       \
        (void)r, (void)a, (void)c;                                          \
        return v_bool(condition);                                           \
    }
TYPE_TEST(test_defined, self.type != V_UNDEFINED)
TYPE_TEST(test_undefined, self.type == V_UNDEFINED)
TYPE_TEST(test_none, self.type == V_NONE)
TYPE_TEST(test_boolean, self.type == V_BOOL)
TYPE_TEST(test_true, self.type == V_BOOL && self.boolean)
TYPE_TEST(test_false, self.type == V_BOOL && !self.boolean)
TYPE_TEST(test_integer, self.type == V_INT || self.type == V_BIG)
TYPE_TEST(test_float, self.type == V_FLOAT)
TYPE_TEST(test_number, is_number(self))
TYPE_TEST(test_string, self.type == V_STR)
TYPE_TEST(test_mapping, self.type == V_DICT)
TYPE_TEST(test_escaped, self.type == V_STR && self.str->markup)

#define COMPARE_TEST(name, op)                                              \
    static value name(render *r, value self, const value *a, const call *c) \
    {                                                                       \
        (void)c;                                                            \
        return v_bool(we_tpl_compare(r, op, self, a[0]));                   \
    }
COMPARE_TEST(test_eq, OP_EQ)
COMPARE_TEST(test_ne, OP_NE)
COMPARE_TEST(test_lt, OP_LT)
COMPARE_TEST(test_le, OP_LE)
COMPARE_TEST(test_gt, OP_GT)
COMPARE_TEST(test_ge, OP_GE)

static const builtin rows[] = {
    { "defined", "", test_defined },
    { "undefined", "", test_undefined },
    { "none", "", test_none },
    { "string", "", test_string },
    { "mapping", "", test_mapping },
    { "sequence", "", test_sequence },
    { "iterable", "", test_iterable },
    { "number", "", test_number },
    { "integer", "", test_integer },
    { "float", "", test_float },
    { "boolean", "", test_boolean },
    { "true", "", test_true },
    { "false", "", test_false },
    { "callable", "", test_callable },
    { "escaped", "", test_escaped },
    { "odd", "", test_odd },
    { "even", "", test_even },
    { "divisibleby", "num", test_divisibleby },
    { "lower", "", test_lower },
    { "upper", "", test_upper },
    { "filter", "", test_filter },
    { "test", "", test_test },
    { "sameas", "other", test_sameas },
    { "in", "seq", test_in },
    { "eq", "/ b", test_eq },
    { "equalto", "/ b", test_eq },
    { "==", "/ b", test_eq },
    { "ne", "/ b", test_ne },
    { "!=", "/ b", test_ne },
    { "lt", "/ b", test_lt },
    { "lessthan", "/ b", test_lt },
    { "<", "/ b", test_lt },
    { "le", "/ b", test_le },
    { "<=", "/ b", test_le },
    { "gt", "/ b", test_gt },
    { "greaterthan", "/ b", test_gt },
    { ">", "/ b", test_gt },
    { "ge", "/ b", test_ge },
    { ">=", "/ b", test_ge },
};
const builtin_table we_tpl_tests_table = { rows, WE_COUNT(rows) };

const builtin *we_tpl_find_test(we_str name) { return we_tpl_table_find(we_tpl_tests_table, name); }
