/* SPDX-License-Identifier: Apache-2.0
 * test_template_values.c - Python's values in templates: how they print, count, compare, sort, become JSON and text. */
#include "template_support.h"

TEST(template_prints_as_python_does)
{
    RENDERS("{{ v }}", "{\"v\":[true,null,1.0,\"it's\",{\"k\":\"a\\nb\\u00a0\\u200b\"},-0.0]}",
            "[True, None, 1.0, \"it's\", {'k': 'a\\nb\\xa0\\u200b'}, -0.0]");
    RENDERS("{{ (1,) }} {{ () }} {{ range(1, 5, 2) }} {{ {}.keys() }}", NULL, "(1,) () range(1, 5, 2) dict_keys([])");
}

TEST(template_floats_are_shortest)
{
    RENDERS("{{ v }}", "{\"v\":[0.1,1e16,123456789012345680.0,1e-5,0.0001,5e-324,1.7976931348623157e308,1e22]}",
            "[0.1, 1e+16, 1.2345678901234568e+17, 1e-05, 0.0001, 5e-324, 1.7976931348623157e+308, 1e+22]");
    RENDERS("{{ 1 / 3 }} {{ 1e308 * 10 }} {{ 7 / 2 }} {{ 2.5 | round }} {{ 2.675 | round(2) }} {{ 1234 | round(-2) }}",
            NULL, "0.3333333333333333 inf 3.5 2.0 2.67 1200");
}

TEST(
    template_floats_below_a_power_of_two_are_shortest) /* the nearest 16 digits of 2 ** -24 read back as something else */
{
    RENDERS("{{ 4096 ** -2 }} {{ v }}", "{\"v\":[9007199254740993.0, 4503599627370495.5]}",
            "5.960464477539063e-08 [9007199254740992.0, 4503599627370495.5]");
}

TEST(template_pprint_breaks_lines_as_python_does)
{
    RENDERS("{{ {'b': [1, 'x'], 'a': none} | pprint }} {{ 'it\\'s' | pprint }} {{ {2: 1, 'a': 1, none: 1} | pprint }}",
            NULL, "{'a': None, 'b': [1, 'x']} \"it's\" {None: 1, 2: 1, 'a': 1}");
    RENDERS("{{ ('word ' * 20) | pprint }}", NULL,
            "('word word word word word word word word word word word word word word word '\n"
            " 'word word word word word ')");
    RENDERS("{{ {'list': ['x' * 40, 'y' * 40], 'n': (1,)} | pprint }}", NULL,
            "{'list': ['xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',\n"
            "          'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy'],\n"
            " 'n': (1,)}");
}

TEST(template_integers_have_no_limit)
{
    RENDERS("{{ 2 ** 64 }} {{ v + 1 }} {{ -v // 7 }} {{ v % 1000 }} {{ v * v }}",
            "{\"v\":123456789012345678901234567890}",
            "18446744073709551616 123456789012345678901234567891 -17636684144620811271604938270 890 "
            "15241578753238836750495351562536198787501905199875019052100");
    RENDERS("{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 9223372036854775807 + 1 }} {{ 2 ** -1 }}", NULL,
            "-4 2 -2 9223372036854775808 0.5");
    RENDERS("{{ v == v + 0.0 }} {{ 2 ** 53 + 1 == 2.0 ** 53 }} {{ 2 ** 200 > 1e60 }} {{ 10 ** 30 / 10 ** 29 }}",
            "{\"v\":3}", "True False True 10.0");
    FAILS("{{ 10 ** 5000 }}", NULL, "Exceeds the limit (4300 digits)");
    FAILS("{{ 1 // 0 }}", NULL, "integer division or modulo by zero");
}

TEST(template_numbers_from_text)
{
    RENDERS(
        "{{ ' 42 ' | int }} {{ '3.9' | int }} {{ 'x' | int(7) }} {{ 'ff' | int(0, 16) }} {{ '1_000' | int }} {{ '1e3' | float }}"
        " {{ '.5' | float }} {{ 'nan' | float }} {{ '٣' | int }}",
        NULL, "42 3 7 255 1000 1000.0 0.5 nan 3");
}

TEST(template_equality_crosses_number_types)
{
    RENDERS(
        "{{ 1 == 1.0 == true }} {{ {1: 'a'}[true] }} {{ [1, 2] == (1, 2) }} {{ '1' == 1 }} {{ x == y }} {{ none == false }}",
        NULL, "True a False False True False");
    FAILS("{{ 1 < 'a' }}", NULL, "'<' not supported between instances of 'int' and 'str'");
}

TEST(template_sorting_ignores_case)
{
    RENDERS(
        "{{ ['b', 'A', 'c'] | sort }} {{ ['b', 'A'] | sort(case_sensitive=true) }} {{ [3, 1, 2] | sort(reverse=true) }}",
        NULL, "['A', 'b', 'c'] ['A', 'b'] [3, 2, 1]");
    RENDERS("{{ l | sort(attribute='n,m') | map(attribute='m') | join }}",
            "{\"l\":[{\"n\":2,\"m\":\"c\"},{\"n\":1,\"m\":\"b\"},{\"n\":1,\"m\":\"a\"}]}", "abc");
    RENDERS("{% for k, v in l | groupby('n') %}{{ k }}:{{ v | length }} {% endfor %}",
            "{\"l\":[{\"n\":2},{\"n\":1},{\"n\":2}]}", "1:1 2:2 ");
}

TEST(template_text_is_code_points)
{
    RENDERS("{{ s | length }} {{ s[1] }} {{ s[::-1] }} {{ s[-2:] }} {{ s.find('z') }}",
            "{\"s\":\"\\u00e9\\ud83e\\udd99z\"}", "3 🦙 z🦙é 🦙z 2");
    RENDERS(
        "{{ 'ß ŉ'.upper() }} {{ 'ΑΣ ΑΣΑ'.lower() }} {{ 'ǆ'.title() }} {{ 'ﬁn'.capitalize() }} {{ 'İ'.lower() | length }}",
        NULL, "SS ʼN ας ασα ǅ Fin 2");
    RENDERS("[{{ '\\u2003\\u001c a\\u200b\\u00a0'.strip() }}]", NULL, "[a\u200b]");
}

TEST(template_string_methods)
{
    RENDERS(
        "{{ 'a,b,,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ 'a b  '.split(none, 1) }} {{ 'abc'.partition('b') }}",
        NULL, "['a', 'b,,c'] ['a', 'b'] ['a', 'b  '] ('a', 'b', 'c')");
    RENDERS(
        "{{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }} {{ 'abc'.startswith(('x', 'ab')) }} {{ '-5'.zfill(4) }}"
        " {{ 'ab'.center(5, '*') }}",
        NULL, "bba -a-b- True -005 **ab*");
    FAILS("{{ 'abc'.nope() }}", NULL, "'str object' has no attribute 'nope'");
    FAILS("{{ '-'.join([1]) }}", NULL, "sequence item 0: expected str instance, int found");
}

TEST(template_formatting)
{
    RENDERS("{{ '%-5s|%05.1f|%x|%+d|%r' % ('a', 2.25, 255, 3, 'q') }} {{ '%(k)s' % {'k': 1} }}", NULL,
            "a    |002.2|ff|+3|'q' 1");
    RENDERS(
        "{{ '{:>5}|{0!r:^7}|{n:,.2f}|{n:08.1f}' .format('a', n=1234.5) if false }}{{ '{0:>5}|{0!r:^7}|{n:,.2f}'.format('a', n=1234.5) }}",
        NULL, "    a|  'a'  |1,234.50");
    FAILS("{{ '%d' % 'x' }}", NULL, "a real number is required, not str");
    FAILS("{{ '%s %s' % 'x' }}", NULL, "not enough arguments for format string");
    FAILS("{{ '{1}'.format(1) }}", NULL, "out of range");
    RENDERS("{{ '{}{0.x}{}'.format(1, 2) }}", NULL, "12"); /* fields are numbered where nothing follows the name */
    FAILS("{{ '{0}{}'.format(1, 2) }}", NULL, "cannot switch from manual field specification");
    FAILS("{{ '{.x}'.format(1) }}", NULL, "''");
    FAILS("{{ '{}{[0]}'.format(1, [2]) }}", NULL, "''");
}

TEST(template_tojson_is_pythons)
{
    RENDERS("{{ v | tojson }}", "{\"v\":{\"b\":[1,1.0,null,\"<é\\\"\\n\"],\"a\":{}}}",
            "{\"b\": [1, 1.0, null, \"<é\\\"\\n\"], \"a\": {}}");
    RENDERS("{{ v | tojson(indent=2, sort_keys=true) }}", "{\"v\":{\"b\":[1],\"a\":[]}}",
            "{\n  \"a\": [],\n  \"b\": [\n    1\n  ]\n}");
    RENDERS("{{ v | tojson(separators=(',', ':'), ensure_ascii=true) }}", "{\"v\":{\"é\":\"\\ud83e\\udd99\"}}",
            "{\"\\u00e9\":\"\\ud83e\\udd99\"}");
    RENDERS("{{ {1: 2, none: 3, true: 4} | tojson }} {{ 'nan' | float | tojson }}", NULL,
            "{\"1\": 4, \"null\": 3} NaN");
    FAILS("{{ [x] | tojson }}", NULL, "Object of type Undefined is not JSON serializable");
    FAILS("{{ range(3) | tojson }}", NULL, "Object of type range is not JSON serializable");
}

TEST(template_markup_escapes_what_joins_it)
{
    RENDERS(
        "{{ '<' | e }} {{ ('<' | safe) + '<' }} {{ '<' + ('>' | safe) }} {{ ('<' | safe) ~ '<' }} {{ ['<' | safe] }}",
        NULL, "&lt; <&lt; &lt;> << [Markup('<')]");
    RENDERS("{{ '<p>x &amp; <!-- > -->y</p>  z' | striptags }}", NULL, "x & y z");
}

TEST(template_time_is_the_given_day)
{
    RENDERS("{{ strftime_now('%Y-%m-%d %H:%M:%S %A %a %B %b %-d %j %p %I %y %U %W %V %u %w %e%%') }}", NULL,
            "2024-07-26 00:00:00 Friday Fri July Jul 26 208 AM 12 24 29 30 30 5 5 26%");
    we_buf out = { 0 };
    we_error err;
    we_template *t;
    CHECK_OK(we_template_parse(&t, WE_STR("{{ strftime_now('%Y') | int > 2020 }}"), &err), &err);
    CHECK_OK(we_template_run(t, NULL, NULL, NULL, &out, &err), &err);
    CHECK_STR(we_buf_str(&out), "True");
    we_buf_deinit(&out);
    we_template_free(t);
}
