/* SPDX-License-Identifier: Apache-2.0
 * test_template.c - the template language: white space, statements, scopes, loops, macros, errors with their lines, and
 * conversations in templates of our own. Numbers and text: test_template_values.c; limits: test_template_limits.c. */
#include "template_support.h"

/* ---- white space ---- */

TEST(template_drops_one_newline_at_the_end)
{
    RENDERS("a\n\n", NULL, "a\n");
    RENDERS("a\r\n", NULL, "a");
    RENDERS("a\r\nb\rc", NULL, "a\nb\nc");
}

TEST(template_trims_and_strips_around_blocks)
{
    RENDERS("  {% if true %}\n  x\n  {% endif %}\nb", NULL, "  x\nb");
    RENDERS("a {% if true %}\nx{% endif %}", NULL, "a x");
    RENDERS("  {{ 1 }}\n", NULL, "  1");
    RENDERS("  {# c #}\nx", NULL, "x");
}

TEST(template_signs_override_trimming)
{
    RENDERS("a  \n {%- if true -%} \n x {%- endif %}", NULL, "ax");
    RENDERS("  {%+ if true +%}\n{% endif %}", NULL, "  \n");
    RENDERS("a \n {{- 1 -}} \n b", NULL, "a1b");
    RENDERS("a {#- c -#} b", NULL, "ab");
}

TEST(template_raw_keeps_everything)
{
    RENDERS("{% raw %}{{ x }} {% if %}{% endraw %}", NULL, "{{ x }} {% if %}");
    RENDERS("a{%- raw -%} {{ {%- endraw -%} b", NULL, "a{{b");
}

/* ---- statements ---- */

TEST(template_if_takes_the_first_true_branch)
{
    static const char t[] = "{% if x > 1 %}many{% elif x %}one{% else %}none{% endif %}";
    RENDERS(t, "{\"x\":2}", "many");
    RENDERS(t, "{\"x\":1}", "one");
    RENDERS(t, "{\"x\":0}", "none");
}

TEST(template_set_stays_in_its_loop)
{
    RENDERS("{% set x = 0 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", NULL, "120");
    RENDERS("{% if true %}{% set x = 1 %}{% endif %}{{ x }}", NULL, "1");
    RENDERS("{% set a, b = 1, [2] %}{{ a }}{{ b }}", NULL, "1[2]");
    FAILS("{% set a, b = [1] %}", NULL, "not enough values to unpack (expected 2, got 1)");
}

TEST(template_namespace_leaves_the_loop)
{
    RENDERS("{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", NULL,
            "3");
    FAILS("{% set d.x = 1 %}", "{\"d\":{}}", "cannot assign attribute on non-namespace object");
    FAILS("{% set ns = namespace(_x=1) %}", NULL, "underscore");
}

TEST(template_set_block_captures_text)
{
    RENDERS("{% set x %} a{{ 1 }} {% endset %}[{{ x }}]", NULL, "[ a1 ]");
    RENDERS("{% set x | trim | upper %} a {% endset %}[{{ x }}]", NULL, "[A]");
    RENDERS("{% set c %}{{ c }}!{% endset %}{{ c }}", "{\"c\":\"x\"}", "!"); /* the name belongs to the scope already */
}

TEST(template_filter_block_and_with)
{
    RENDERS("{% filter upper | trim %} a {% endfilter %}", NULL, "A");
    RENDERS("{% with a=1, b=x %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{\"x\":2}", "12");
    FAILS("{% filter length %}abc{% endfilter %}", NULL, "expected str instance, int found");
}

TEST(template_generation_renders_its_body)
{
    RENDERS("{% generation %}a{{ 1 }}{% endgeneration %}", NULL, "a1");
    FAILS("{% for x in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", NULL, "'break' outside loop");
}

/* ---- loops ---- */

TEST(template_loop_knows_where_it_is)
{
    RENDERS(
        "{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }} {% endfor %}",
        NULL, "103TrueFalse 212FalseFalse 321FalseTrue ");
    RENDERS(
        "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}",
        NULL, "Truea1 Falseb12 Truea1 ");
    RENDERS("{% for x in [1, 2, 3, 4] if x is even %}{{ loop.length }}{{ x }}{% endfor %}", NULL, "2224");
}

TEST(template_loop_over_pairs)
{
    RENDERS("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{\"d\":{\"b\":1,\"a\":2}}", "b=1;a=2;");
    RENDERS("{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}", "{\"d\":{\"b\":1,\"a\":2}}", "a=2;b=1;");
}

TEST(template_loop_else_runs_unless_a_round_ended)
{
    RENDERS("{% for x in [] %}x{% else %}none{% endfor %}", NULL, "none");
    RENDERS("{% for x in [1] %}{% continue %}{% else %}E{% endfor %}", NULL, "E");
    RENDERS("{% for x in [1, 2] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}", NULL, "12");
}

TEST(template_loop_calls_itself)
{
    RENDERS("{% for x in t recursive %}{{ x.n }}{{ loop.depth }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}",
            "{\"t\":[{\"n\":\"a\",\"c\":[{\"n\":\"b\"},{\"n\":\"c\"}]}]}", "a1(b2c2)");
    FAILS("{% for x in [1] %}{{ loop([2]) }}{% endfor %}", NULL, "must have the 'recursive' marker");
}

/* ---- macros ---- */

TEST(template_macro_takes_arguments)
{
    RENDERS("{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(b=5, a=4) }}",
            NULL, "121 123 454");
    RENDERS("{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}", NULL, "(1, 2){'k': 3}");
    FAILS("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", NULL, "macro 'm' takes not more than 1 argument(s)");
    FAILS("{% macro m(a) %}{% endmacro %}{{ m(z=2) }}", NULL, "macro 'm' takes no keyword argument 'z'");
}

TEST(template_macro_sees_variables_not_values)
{
    RENDERS("{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}", NULL, "12");
    RENDERS("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}b{% endmacro %}{{ a() }}", NULL, "b");
}

TEST(template_call_block_passes_its_body)
{
    RENDERS("{% macro each(l) %}{% for x in l %}<{{ caller(x) }}>{% endfor %}{% endmacro %}"
            "{% call(v) each([1, 2]) %}{{ v * 2 }}{% endcall %}",
            NULL, "<2><4>");
}

TEST(template_blocks_render_in_place)
{
    RENDERS("{% set x = 1 %}{% block a %}[{{ x }}]{% endblock %}{{ self.a() }}", NULL, "[1][1]");
    FAILS("{% block a %}{% endblock %}{% block a %}{% endblock %}", NULL, "block 'a' defined twice");
}

/* ---- expressions ---- */

TEST(template_operators_bind_as_in_jinja)
{
    RENDERS("{{ 1 + 2 * 3 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 1 < 2 < 3 }} {{ not 0 }}", NULL, "7 64 4 True True");
    RENDERS("{{ 1 ~ 2 * 3 }} {{ 10 - 2 - 3 }} {{ 0 or 'x' }} {{ '' and 1 }} {{ 2 + 1 is odd }}", NULL, "16 5 x  3");
    FAILS("{{ 'a' ~ 1 + 2 }}", NULL, "can only concatenate str (not \"int\") to str");
    FAILS("{{ 1 + 2 | string }}", NULL, "unsupported operand type(s) for +: 'int' and 'str'");
}

TEST(template_undefined_prints_nothing_and_raises_when_used)
{
    RENDERS("[{{ x }}{{ x ~ 'a' }}{{ x | length }}{{ d.y }}{{ 'q' if false }}]", "{\"d\":{}}", "[a0]");
    FAILS("{{ x.y }}", NULL, "line 1: 'x' is undefined");
    FAILS("{{ d.y.z }}", "{\"d\":{}}", "'dict object' has no attribute 'y'");
    FAILS("{{ l[5] + 1 }}", "{\"l\":[]}", "list object has no element 5");
}

TEST(template_dict_methods_hide_keys)
{
    RENDERS("{{ d['items'] }} {{ d.items() | list }} {{ d.get('x', 5) }} {{ d.a }}", "{\"d\":{\"items\":1,\"a\":2}}",
            "1 [('items', 1), ('a', 2)] 5 2");
}

TEST(template_lazy_filters_wait)
{
    RENDERS("{{ 'yes' if [] | map('upper') }}{{ ([1] | map('string'))[0] }}", NULL, "yes");
    FAILS("{{ [1] | map('string') | length }}", NULL, "object of type 'generator' has no len()");
    RENDERS("{% set g = [1, 2] | map('string') %}{{ g | list }}{{ g | list }}", NULL, "['1', '2'][]");
}

TEST(template_sandbox_holds)
{
    RENDERS("{{ ''.__class__ }}{{ l.append }}", "{\"l\":[]}", "");
    FAILS("{{ ''.__class__.x }}", NULL, "access to attribute '__class__' of 'str' object is unsafe");
    FAILS("{{ l.append(1) }}", "{\"l\":[]}", "access to attribute 'append' of 'list' object is unsafe");
    FAILS("{{ d.update({}) }}", "{\"d\":{}}", "unsafe");
    RENDERS("{{ '{0.__class__}'.format(1) }}", NULL, "");
}

/* ---- errors ---- */

TEST(template_errors_name_their_line)
{
    FAILS("a\nb\n{{ 1 + }}", NULL, "line 3: unexpected 'end of print statement'");
    FAILS("{% if x %}\n\n{{ 1 }", NULL, "line 3: unexpected '}'");
    FAILS("\n{% nope %}", NULL, "line 2: Encountered unknown tag 'nope'.");
    FAILS("{% for x in y %}\n{% if x %}", NULL,
          "line 2: Unexpected end of template. Jinja was looking for the following tags: "
          "'elif' or 'else' or 'endif'.");
    FAILS("{{ 'a'\n| nope }}", NULL, "line 2: No filter named 'nope'.");
    FAILS("x\n{{ 1 / n }}", "{\"n\":0}", "line 2: division by zero");
    FAILS("{# never closed", NULL, "line 1: Missing end of comment tag");
    FAILS("{% raw %} {{ x }}", NULL, "line 1: Missing end of raw directive");
}

TEST(template_exceptions_come_as_they_stand)
{
    we_buf out = { 0 };
    we_error err;
    CHECK_STATUS(render_text("a\n{{ raise_exception('Roles must alternate!') }}", NULL, NULL, &out, &err),
                 WE_E_TEMPLATE, &err);
    assert_string_equal(err.message, "Roles must alternate!");
    we_buf_deinit(&out);
}

TEST(template_unknown_filters_wait_inside_conditions)
{
    RENDERS("{% if false %}{{ 1 | nope }}{% endif %}ok", NULL, "ok");
    FAILS("{% if true %}{{ 1 | nope }}{% endif %}", NULL, "No filter named 'nope' found.");
    FAILS("{% if false %}{% for x in [1] %}{{ x | nope }}{% endfor %}{% endif %}", NULL, "No filter named 'nope'.");
}

TEST(template_names_what_it_leaves_out)
{
    FAILS("{{ lipsum() }}", NULL, "lipsum() is not supported");
    FAILS("{{ 'x' | urlize }}", NULL, "urlize is not supported");
    FAILS("{{ '\\N{BULLET}' }}", NULL, "write the character, or \\uXXXX");
}

TEST(template_filters_check_their_arguments_as_python_does)
{
    RENDERS("{{ '12' | int(3, 'x') }} {{ '' | wordwrap(none) }} {{ [2, 1] | sort(1) }}", NULL, "12  [2, 1]");
    FAILS("{{ [2, 1] | sort(none) }}", NULL, "'NoneType' object cannot be interpreted as an integer");
    FAILS("{{ {} | dictsort(reverse='x') }}", NULL, "'str' object cannot be interpreted as an integer");
    FAILS("{{ cycler('a', b=1) }}", NULL, "unexpected keyword argument 'b'");
}

/* ---- conversations ---- */

static const char chat[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\" Weather? \"},"
    "{\"role\":\"assistant\",\"content\":\"<think>hm</think>\\nLet me see.\",\"tool_calls\":[{\"function\":{\"name\":\"look\","
    "\"arguments\":{\"city\":\"K\\u00f6ln\",\"days\":[1,2]}}}]},{\"role\":\"tool\",\"content\":\"rain\"},"
    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"And \"},{\"type\":\"text\",\"text\":\"then?\"}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":\"object\"}}}],"
    "\"add_generation_prompt\":true}";

TEST(template_conversation_with_tools)
{
    static const char t[] =
        "{%- macro text(c) -%}\n"
        "    {%- if c is string -%}{{ c }}{%- else -%}{%- for p in c if p.type == 'text' -%}{{ p.text }}{%- endfor -%}{%- endif -%}\n"
        "{%- endmacro -%}\n"
        "{%- set ns = namespace(start=0) -%}\n"
        "{%- if messages[0].role == 'system' -%}\n"
        "    {%- set ns.start = 1 -%}\n"
        "    {{- '[sys]' ~ messages[0].content }}{% if tools %}{{ '\\n' ~ tools | map(attribute='function.name') | join(', ') }}{% endif %}[/sys]\n"
        "{% endif -%}\n"
        "{%- for m in messages[ns.start:] -%}\n"
        "    {%- set body = text(m.content) -%}\n"
        "    {%- if m.role == 'assistant' and '</think>' in body -%}\n"
        "        {%- set body = body.split('</think>')[-1].lstrip('\\n') -%}\n"
        "    {%- endif -%}\n"
        "    {{- '<' ~ m.role ~ '>' ~ body | trim }}\n"
        "    {%- for call in m.tool_calls or [] %}\n\n"
        "{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}\n\n"
        "{% endfor -%}\n"
        "{%- if add_generation_prompt -%}<assistant>{%- endif -%}";
    RENDERS(
        t, chat,
        "[sys]Be brief.\nlook[/sys]\n<user>Weather?\n<assistant>Let me see.\nlook({\"city\": \"K\u00f6ln\", \"days\": [1, 2]})\n"
        "<tool>rain\n<user>And then?\n<assistant>");
}

TEST(template_conversation_refuses_bad_order)
{
    static const char t[] =
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate, message ' ~ loop.index) }}{% endif %}{% endfor %}";
    FAILS(t, chat, "roles must alternate, message 1");
}

TEST(template_schema_rendered_by_a_recursive_macro)
{
    static const char t[] =
        "{%- macro ts(s) -%}{%- if s.type == 'object' -%}{ {%- for k, v in s.properties.items() -%}{{ k }}{{ '?' if k not in "
        "s.get('required', []) }}: {{ ts(v) }}{{ ', ' if not loop.last }}{%- endfor -%} }{%- elif s.type == 'array' -%}"
        "{{ ts(s['items']) }}[]{%- else -%}{{ s.type }}{%- endif -%}{%- endmacro -%}{{ ts(schema) }}";
    RENDERS(
        t,
        "{\"schema\":{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"array\","
        "\"items\":{\"type\":\"object\",\"properties\":{\"c\":{\"type\":\"integer\"}}}}}}}",
        "{a: string, b?: {c?: integer}[]}");
}
