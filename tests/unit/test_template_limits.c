/* SPDX-License-Identifier: Apache-2.0
 * test_template_limits.c - templates that ask for too much: steps, memory, output, depth; and memory that runs out. */
#include "template_support.h"

static const we_template_limits small = {
    .max_output_bytes = 10000, .max_steps = 100000, .max_depth = 50, .max_memory_bytes = 1 << 20
};

TEST(template_limits_ranges)
{
    FAILS("{% for i in range(10 ** 9) %}x{% endfor %}", NULL, "Range too big");
    FAILS("{{ range(10 ** 30) }}", NULL, "Range too big");
}

TEST(template_limits_steps)
{
    FAILS_WITHIN(&small, "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
                 "too many steps");
    FAILS("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", NULL, "too many steps");
}

TEST(template_limits_walks_over_what_is_shared) /* 2 ** 60 leaves in 60 tuples */
{
    static const char *const uses[] = { "{{ {ns.a: 1} }}", "{{ ns.a == ns.b }}", "{{ ns.a < ns.b }}" };
    char template[256];
    for (size_t i = 0; i < WE_COUNT(uses); i++) {
        snprintf(template, sizeof template,
                 "{%% set ns = namespace(a=(1,), b=(1,)) %%}{%% for i in range(60) %%}{%% set ns.a = (ns.a, ns.a) %%}"
                 "{%% set ns.b = (ns.b, ns.b) %%}{%% endfor %%}%s",
                 uses[i]);
        FAILS_WITHIN(&small, template, "too many steps");
    }
    FAILS_WITHIN(
        &small,
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a "
        "| pprint }}",
        "");
}

TEST(template_limits_memory)
{
    FAILS("{{ 'a' * 10 ** 9 }}", NULL, "too much memory");
    FAILS("{{ [1] * 10 ** 9 }}", NULL, "");
    FAILS("{{ 'a' * 10 ** 30 }}", NULL, "cannot fit 'int' into an index-sized integer");
    FAILS_WITHIN(
        &small,
        "{% set ns = namespace(s='abcdefgh') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "too much memory");
    FAILS("{{ 10 ** (10 ** 10) }}", NULL, "too large");
    FAILS("{{ 7 ** (7 ** 7) }}", NULL, "too large");
}

TEST(template_limits_output)
{
    FAILS_WITHIN(&small, "{% for i in range(1001) %}0123456789{% endfor %}", "the output is longer than 10000 bytes");
    FAILS_WITHIN(&small, "{{ ['0123456789' * 50] * 50 }}", "the output is longer than 10000 bytes");
    FAILS_WITHIN(&small, "{{ '%99999d' % 1 }}", "the output is longer");
    FAILS_WITHIN(&small, "{{ 'a'.center(2000000000) }}", "the output is longer");
}

TEST(template_limits_recursion)
{
    FAILS("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", NULL, "maximum recursion depth exceeded");
    FAILS("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", NULL, "maximum recursion depth exceeded");
    FAILS("{% block a %}{{ self.a() }}{% endblock %}", NULL, "maximum recursion depth exceeded");
    FAILS("{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", NULL,
          "maximum recursion depth exceeded");
    FAILS(
        "{% set ns = namespace(g=[1]) %}{% for i in range(90000) %}{% set ns.g = ns.g | select %}{% endfor %}{{ ns.g | list }}",
        NULL, "maximum recursion depth exceeded");
    FAILS("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", NULL, "maximum recursion depth exceeded");
}

TEST(template_limits_recursion_lets_macros_go_deep)
{
    RENDERS(
        "{% macro m(n) %}{% if n %}{% for i in [1] %}{{ m(n - 1) }}{% endfor %}{% else %}end{% endif %}{% endmacro %}{{ m(100) }}",
        NULL, "end");
}

static void repeat(we_buf *buf, const char *text, int n)
{
    for (int i = 0; i < n; i++) we_buf_append(buf, text, strlen(text));
}

TEST(template_limits_nesting_of_the_source)
{
    static const struct {
        const char *open, *middle, *close;
        const char *message;
    } cases[] = {
        { "(", "1", ")", "nested" },
        { "[", "", "]", "nested" },
        { "-", "1", "", "nested" },
        { "not ", "1", "", "nested" },
        { "1 if 0 else ", "1", "", "nested" },
        { "1 + ", "1", "", "too long" },
        { "1 | abs", "", "", "too long" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_buf t = { 0 };
        repeat(&t, "{{ ", 1);
        repeat(&t, cases[i].open, 5000);
        repeat(&t, cases[i].middle, 1);
        repeat(&t, cases[i].close, 5000);
        repeat(&t, " }}", 1);
        FAILS(t.ptr, NULL, cases[i].message);
        we_buf_deinit(&t);
    }
    we_buf t = { 0 };
    repeat(&t, "{% if 1 %}", 5000);
    FAILS(t.ptr, NULL, "nested too deeply");
    we_buf_deinit(&t);
}

TEST(template_limits_let_long_expressions_be)
{
    we_buf t = { 0 };
    repeat(&t, "{{ 0", 1);
    repeat(&t, " + 1", 150);
    repeat(&t, " }}", 1);
    RENDERS(t.ptr, NULL, "150");
    we_buf_deinit(&t);
}

TEST(template_collects_text_in_linear_time) /* 20,000 pieces of 100 bytes: 20 GB if each were copied */
{
    RENDERS(
        "{% set ns = namespace(s='') %}{% for i in range(20000) %}{% set ns.s = ns.s + 'x' * 100 %}{% endfor %}{{ ns.s | length }}",
        NULL, "2000000");
    RENDERS(
        "{% set ns = namespace(l=[]) %}{% for i in range(20000) %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.l | sum }}",
        NULL, "199990000");
}

TEST(template_refuses_bytes_that_are_no_text)
{
    we_template *t;
    we_error err;
    CHECK_STATUS(we_template_parse(&t, WE_STR("a\xff"), &err), WE_E_TEMPLATE, &err);
    assert_null(t);
    EXPECT_MESSAGE(&err, "UTF-8");
}

TEST(template_context_must_be_an_object)
{
    we_buf out = { 0 };
    we_error err;
    CHECK_STATUS(render_text("x", "[1]", NULL, &out, &err), WE_E_TEMPLATE, &err);
    EXPECT_MESSAGE(&err, "an object");
    we_buf_deinit(&out);
}

TEST(template_survives_failing_allocations)
{
    static const char t[] =
        "{% macro m(x) %}{{ x | tojson }}{% endmacro %}{% set ns = namespace(s='') %}{% for i in l | sort %}"
        "{% set ns.s = ns.s ~ i ~ ',' %}{% endfor %}{{ ns.s }}{{ m({'a': l}) }}{{ '%5d' % 3 }}{{ 2 ** 100 }}";
    we_error err;
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_buf out = { 0 };
        st = render_text(t, "{\"l\":[3,1,2]}", NULL, &out, &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
        we_buf_deinit(&out);
    }
}
