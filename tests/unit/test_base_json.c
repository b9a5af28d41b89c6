/* SPDX-License-Identifier: Apache-2.0
 * test_base_json.c - the JSON reader, tree and writer. What is valid and what is not follows RFC 8259 and the cases that
 * Nicolas Seriot's JSONTestSuite collects. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Helpers ---- */

/* Parses text, writes the tree back without spaces and compares. */
static void check_rewrites(we_str text, const char *wanted)
{
    we_arena arena = { 0 };
    we_error err;
    const we_json *tree;
    CHECK_OK(we_json_parse(&arena, text, &tree, &err), &err);
    we_buf out = { 0 };
    we_json_writer w = { .buf = &out };
    we_json_write_tree(&w, tree);
    CHECK_STR(we_buf_str(&out), wanted);
    we_buf_deinit(&out);
    we_arena_deinit(&arena);
}

static void check_fails(we_str text, const char *message)
{
    we_arena arena = { 0 };
    we_error err;
    const we_json *tree;
    /* A copy of exactly the text's size, so that the sanitizers see a read behind it. */
    char *copy = malloc(text.len ? text.len : 1);
    if (text.len) memcpy(copy, text.ptr, text.len);
    const we_status st = we_json_parse(&arena, (we_str){ copy, text.len }, &tree, &err);
    free(copy);
    we_arena_deinit(&arena);
    if (st != WE_E_FORMAT)
        fail_msg("%.*s\n    gave %s, expected \"%s\"", (int)text.len, text.ptr, we_status_name(st), message);
    assert_null(tree);
    EXPECT_MESSAGE(&err, message);
}

/* ---- What is JSON ---- */

TEST(json_values_survive_unchanged_and_in_order)
{
    check_rewrites(WE_STR(" {\"b\" : 1 ,\n\t\"a\":[true,false , null,\"x\",{}, [] ],\r\n\"b\":-0.50e+07 } "),
                   "{\"b\":1,\"a\":[true,false,null,\"x\",{},[]],\"b\":-0.50e+07}");
    check_rewrites(WE_STR("12345678901234567890123456789012345678901234567890.0"),
                   "12345678901234567890123456789012345678901234567890.0");
    check_rewrites(WE_STR("\"\""), "\"\"");
    check_rewrites(WE_STR("0"), "0");
    check_rewrites(WE_STR("\xEF\xBB\xBFnull"), "null");
}

TEST(json_escapes_become_characters)
{
    check_rewrites(WE_STR("\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\""), "\"a\\\"\\\\/\\b\\f\\n\\r\\tz\"");
    check_rewrites(WE_STR("\"\\u00e9\\u20AC\\uD83D\\uDE00\""), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    check_rewrites(WE_STR("\"\\u001f\\u007F\""), "\"\\u001f\x7f\"");
    check_rewrites(WE_STR("{\"\\u0061\\n\":1}"), "{\"a\\n\":1}");
}

TEST(json_lone_surrogates_become_replacement_characters)
{
    check_rewrites(WE_STR("\"\\uD800\""), "\"\xef\xbf\xbd\"");
    check_rewrites(WE_STR("\"\\uDC00x\""), "\"\xef\xbf\xbdx\"");
    check_rewrites(WE_STR("\"\\uD800\\uD800\\uDC00\""), "\"\xef\xbf\xbd\xf0\x90\x80\x80\"");
    check_rewrites(WE_STR("\"\\uD800\\n\\uDBFF\\u0041\""), "\"\xef\xbf\xbd\\n\xef\xbf\xbd"
                                                           "A\"");
}

TEST(json_strings_may_hold_nul)
{
    we_arena arena = { 0 };
    we_error err;
    const we_json *tree;
    CHECK_OK(we_json_parse(&arena, WE_STR("\"a\\u0000b\""), &tree, &err), &err);
    assert_int_equal(tree->text.len, 3);
    assert_memory_equal(tree->text.ptr, "a\0b", 3);
    we_arena_deinit(&arena);
}

TEST(json_strings_end_wherever_their_quote_stands)
{
    /* Every length and every place of the special byte in an eight-byte step. */
    for (size_t n = 0; n < 40; n++) {
        char text[128];
        const int len =
            snprintf(text, sizeof(text), "[\"%.*s\",\"\"]", (int)n, "0123456789012345678901234567890123456789");
        char wanted[128];
        memcpy(wanted, text, sizeof(text));
        check_rewrites((we_str){ text, (size_t)len }, wanted);
        for (size_t at = 0; at < n; at++) {
            text[2 + at] = (char)0x1F;
            check_fails((we_str){ text, (size_t)len }, "control character");
            text[2 + at] = (char)0xFF;
            check_fails((we_str){ text, (size_t)len }, "not valid UTF-8");
            text[2 + at] = '\x7f';
            wanted[2 + at] = '\x7f';
            check_rewrites((we_str){ text, (size_t)len }, wanted);
            text[2 + at] = wanted[2 + at] = (char)('0' + at % 10);
        }
    }
}

TEST(json_what_is_not_json_is_refused_with_its_place)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "", "line 1, column 1: expected a value, found the end of the text" },
        { " \n ", "line 2, column 2: expected a value" },
        { "{\"a\":1,}", "line 1, column 8: expected a key, found '}'" },
        { "[1,]", "line 1, column 4: expected a value, found ']'" },
        { "[,1]", "expected a value, found ','" },
        { "[1 2]", "line 1, column 4: expected ',' or ']', found '2'" },
        { "{\"a\" 1}", "expected ':', found '1'" },
        { "{\"a\":1 \"b\":2}", "expected ',' or '}', found '\"'" },
        { "{a:1}", "expected a key or '}', found 'a'" },
        { "{1:1}", "expected a key or '}'" },
        { "[1}", "expected ',' or ']', found '}'" },
        { "{\"a\":1]", "expected ',' or '}', found ']'" },
        { "[", "expected a value, found the end" },
        { "{", "expected a key or '}', found the end" },
        { "[1", "expected ',' or ']', found the end" },
        { "]", "expected a value, found ']'" },
        { "1 2", "column 3: expected nothing behind the value, found '2'" },
        { "{}x", "expected nothing behind the value" },
        { "nul", "expected a value, found 'n'" },
        { "True", "expected a value, found 'T'" },
        { "truex", "expected nothing behind the value, found 'x'" },
        { "NaN", "expected a value" },
        { "-Infinity", "expected a digit, found 'I'" },
        { "+1", "expected a value" },
        { ".5", "expected a value" },
        { "1.", "expected a digit" },
        { "1.e5", "expected a digit" },
        { "1e", "expected a digit" },
        { "1e+", "expected a digit" },
        { "-", "expected a digit, found the end" },
        { "01", "must not begin with 0" },
        { "-012", "column 2: a number must not begin with 0" },
        { "0x10", "expected nothing behind the value, found 'x'" },
        { "'a'", "expected a value, found '''" },
        { "\"a", "column 3: the string does not end" },
        { "\"a\\", "no such escape" },
        { "\"\\x41\"", "column 2: no such escape" },
        { "\"\\u12\"", "no such escape" },
        { "\"\\u12G4\"", "no such escape" },
        { "\"\\U0041\"", "no such escape" },
        { "\"a\nb\"", "a control character" },
        { "\"\t\"", "a control character" },
        { "[\"\xC3\xA9\",\n\"\xC3\xA9\xC3\"]", "line 2, column 3: the string is not valid UTF-8" },
        { "\"\xED\xA0\x80\"", "not valid UTF-8" },
        { "\"\xC3\\n\xA9\"", "not valid UTF-8" },
        { "[\xC3\xA9]", "found '\xC3\xA9'" },
        { "[\xFF]", "found '\\xff'" },
        { "// x\n1", "expected a value, found '/'" },
        { "[1]\xEF\xBB\xBF", "expected nothing behind the value" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) check_fails(we_str_from(cases[i].text), cases[i].message);
    check_fails(WE_STR("[1\0]"), "expected ',' or ']', found '");
    check_fails(WE_STR("\0"), "expected a value");
    check_fails(WE_STR("\"\\\0\""), "no such escape");
    check_fails(WE_STR("1\0"), "expected nothing behind the value");
}

TEST(json_every_beginning_of_a_text_is_refused)
{
    const we_str text =
        WE_STR("{\"k\\u00e9y\":[1.5e-3,\"\xf0\x9f\x98\x80\\uD83D\\uDE00\",true,null,{}],\"z\":[[false]]}");
    for (size_t len = 0; len < text.len; len++) check_fails((we_str){ text.ptr, len }, "column");
}

TEST(json_nesting_is_limited)
{
    char text[2 * WE_JSON_MAX_DEPTH + 3];
    const size_t n = WE_JSON_MAX_DEPTH;
    memset(text, '[', n);
    memset(text + n, ']', n);
    text[2 * n] = 0;
    check_rewrites((we_str){ text, 2 * n }, text);
    memset(text, '[', n + 1);
    memset(text + n + 1, ']', n + 1);
    check_fails((we_str){ text, 2 * n + 2 }, "nested too deep");
}

/* ---- Pull reader ---- */

TEST(json_reader_gives_events_and_then_the_end_forever)
{
    static const we_json_event wanted[] = {
        WE_JSON_EV_BEGIN_OBJECT, WE_JSON_EV_KEY,        WE_JSON_EV_BEGIN_ARRAY, WE_JSON_EV_VALUE,
        WE_JSON_EV_BEGIN_OBJECT, WE_JSON_EV_END_OBJECT, WE_JSON_EV_END_ARRAY,   WE_JSON_EV_KEY,
        WE_JSON_EV_VALUE,        WE_JSON_EV_END_OBJECT, WE_JSON_EV_END,         WE_JSON_EV_END,
    };
    we_json_reader r;
    we_json_reader_init(&r, WE_STR("{\"a\":[1,{}],\"b\":\"x\"} "));
    for (size_t i = 0; i < WE_COUNT(wanted); i++) assert_int_equal(we_json_next(&r), wanted[i]);
    we_json_reader_deinit(&r);
}

TEST(json_reader_repeats_its_error)
{
    we_json_reader r;
    we_json_reader_init(&r, WE_STR("[1,,2]"));
    while (we_json_next(&r) != WE_JSON_EV_ERROR) {
    }
    assert_int_equal(r.error.status, WE_E_FORMAT);
    EXPECT_MESSAGE(&r.error, "line 1, column 4: expected a value, found ','");
    for (int i = 0; i < 3; i++) assert_int_equal(we_json_next(&r), WE_JSON_EV_ERROR);
    assert_false(we_json_skip(&r));
    we_json_reader_deinit(&r);
}

TEST(json_reader_borrows_what_has_no_escapes)
{
    const we_str input = WE_STR("[\"plain \xc3\xa9\",\"a\\nb\",\"again\"]");
    we_json_reader r;
    we_json_reader_init(&r, input);
    we_json_next(&r);
    assert_int_equal(we_json_next(&r), WE_JSON_EV_VALUE);
    assert_true(r.text_in_input);
    assert_ptr_equal(r.text.ptr, input.ptr + 2);
    assert_int_equal(we_json_next(&r), WE_JSON_EV_VALUE);
    assert_false(r.text_in_input);
    CHECK_STR(r.text, "a\nb");
    assert_int_equal(we_json_next(&r), WE_JSON_EV_VALUE);
    assert_true(r.text_in_input);
    CHECK_STR(r.text, "again");
    we_json_reader_deinit(&r);
}

TEST(json_reader_skips_whole_values)
{
    we_json_reader r;
    we_json_reader_init(&r, WE_STR("{\"skip\":{\"a\":[1,[2,{}]],\"b\":3},\"scalar\":1,\"keep\":4}"));
    we_json_next(&r);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(we_json_next(&r), WE_JSON_EV_KEY);
        assert_true(we_json_skip(&r));
    }
    assert_int_equal(we_json_next(&r), WE_JSON_EV_KEY);
    CHECK_STR(r.text, "keep");
    assert_int_equal(we_json_next(&r), WE_JSON_EV_VALUE);
    CHECK_STR(r.text, "4");
    assert_false(we_json_skip(&r)); /* the object ends here: our mistake, and it is said */
    assert_int_equal(r.error.status, WE_E_INTERNAL);
    we_json_reader_deinit(&r);
}

TEST(json_reader_builds_a_tree_of_one_value_in_the_middle)
{
    we_arena arena = { 0 };
    we_error err;
    const we_json *tree;
    we_json_reader r;
    we_json_reader_init(&r, WE_STR("{\"big\":[1,2],\"small\":{\"x\":[\"y\"]},\"n\":7}"));
    we_json_next(&r);
    we_json_next(&r);
    assert_true(we_json_skip(&r));
    we_json_next(&r);
    CHECK_OK(we_json_read_tree(&r, &arena, &tree, &err), &err);
    CHECK_STR(we_json_at(we_json_get(tree, "x"), 0)->text, "y");
    assert_int_equal(we_json_next(&r), WE_JSON_EV_KEY);
    CHECK_OK(we_json_read_tree(&r, &arena, &tree, &err), &err);
    CHECK_STR(tree->text, "7");
    CHECK_STATUS(we_json_read_tree(&r, &arena, &tree, &err), WE_E_INTERNAL, &err);
    we_json_reader_deinit(&r);
    we_arena_deinit(&arena);
}

/* ---- Tree ---- */

TEST(json_get_finds_the_last_of_equal_keys_and_takes_anything)
{
    we_arena arena = { 0 };
    we_error err;
    const we_json *tree;
    CHECK_OK(we_json_parse(&arena, WE_STR("{\"a\":1,\"b\":[10,20],\"a\":2,\"a\\u0000\":3}"), &tree, &err), &err);
    assert_int_equal(tree->n, 4);
    CHECK_STR(we_json_get(tree, "a")->text, "2");
    CHECK_STR(we_json_at(we_json_get(tree, "b"), 1)->text, "20");
    assert_null(we_json_at(we_json_get(tree, "b"), 2));
    assert_null(we_json_get(tree, "c"));
    assert_null(we_json_get(NULL, "a"));
    assert_null(we_json_get(we_json_get(tree, "b"), "a"));
    assert_null(we_json_at(tree, 0));
    assert_string_equal(we_json_type_name(tree), "an object");
    assert_string_equal(we_json_type_name(NULL), "nothing");
    we_arena_deinit(&arena);
}

TEST(json_numbers_are_read_on_request)
{
    static const struct {
        const char *text;
        bool is_int;
        int64_t i;
        double f;
    } cases[] = {
        { "4", true, 4, 4 },
        { "4.0", true, 4, 4 },
        { "4.5", false, 0, 4.5 },
        { "-1e3", true, -1000, -1000 },
        { "1e-1", false, 0, 0.1 },
        { "9223372036854775807", true, INT64_MAX, 0x1p63 },
        { "9223372036854775808", false, 0, 0x1p63 },
        { "-9223372036854775808.0", true, INT64_MIN, -0x1p63 },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        const we_json v = { .type = WE_JSON_NUMBER, .text = we_str_from(cases[i].text) };
        int64_t n = 42;
        double f = 42;
        assert_int_equal(we_json_i64(&v, &n), cases[i].is_int);
        assert_true(n == (cases[i].is_int ? cases[i].i : 42));
        assert_true(we_json_f64(&v, &f) && f == cases[i].f);
    }
    const we_json huge = { .type = WE_JSON_NUMBER, .text = WE_STR("1e999") };
    double f = 42;
    int64_t n = 42;
    assert_false(we_json_f64(&huge, &f) || we_json_i64(&huge, &n));
    assert_true(f == 42 && n == 42);
}

TEST(json_values_are_checked_before_they_are_given)
{
    const we_json text = { .type = WE_JSON_STRING, .text = WE_STR("1") }, yes = { .type = WE_JSON_TRUE };
    int64_t n;
    double f;
    bool b = false;
    we_str s;
    assert_false(we_json_i64(&text, &n) || we_json_f64(&text, &f) || we_json_bool(&text, &b) || we_json_str(&yes, &s));
    assert_false(we_json_i64(NULL, &n) || we_json_f64(NULL, &f) || we_json_bool(NULL, &b) || we_json_str(NULL, &s));
    assert_true(we_json_bool(&yes, &b) && b);
    assert_true(we_json_str(&text, &s) && we_str_is(s, "1"));
}

TEST(json_every_failing_allocation_is_reported)
{
    we_error err;
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_arena arena = { 0 };
        const we_json *tree;
        st = we_json_parse(&arena, WE_STR("{\"\\u0061\":[1,\"b\\n\",{\"c\":[[],{}]}],\"d\":\"\\t\"}"), &tree, &err);
        if (st) CHECK_STATUS(st, WE_E_NOMEM, &err);
        assert_true((tree != NULL) == (st == WE_OK));
        we_arena_deinit(&arena);
    }
}

/* ---- Writer ---- */

/* {"a":[],"b":[1,{"c":null}],"d":{}} */
static void write_sample(we_json_writer *w)
{
    we_json_begin_object(w);
    we_json_key(w, "a");
    we_json_begin_array(w);
    we_json_end_array(w);
    we_json_key(w, "b");
    we_json_begin_array(w);
    we_json_write_i64(w, 1);
    we_json_begin_object(w);
    we_json_key(w, "c");
    we_json_write_null(w);
    we_json_end_object(w);
    we_json_end_array(w);
    we_json_key(w, "d");
    we_json_begin_object(w);
    we_json_end_object(w);
    we_json_end_object(w);
}

TEST(json_writer_indents_as_python_does)
{
    we_buf out = { 0 };
    we_json_writer line = { .buf = &out };
    write_sample(&line);
    CHECK_STR(we_buf_str(&out), "{\"a\":[],\"b\":[1,{\"c\":null}],\"d\":{}}");
    we_buf_clear(&out);
    we_json_writer pretty = { .buf = &out, .indent = 2 };
    write_sample(&pretty);
    CHECK_STR(we_buf_str(&out),
              "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {\n      \"c\": null\n    }\n  ],\n  \"d\": {}\n}");
    we_buf_deinit(&out);
}

TEST(json_writer_writes_scalars)
{
    we_buf out = { 0 };
    we_json_writer w = { .buf = &out };
    we_json_begin_array(&w);
    we_json_write_i64(&w, INT64_MIN);
    we_json_write_f64(&w, 1);
    we_json_write_f64(&w, -0.1);
    we_json_write_f64(&w, (double)INFINITY);
    we_json_write_f64(&w, (double)NAN);
    we_json_write_bool(&w, true);
    we_json_write_bool(&w, false);
    we_json_write_raw(&w, WE_STR("{ }"));
    we_json_end_array(&w);
    CHECK_STR(we_buf_str(&out), "[-9223372036854775808,1,-0.1,null,null,true,false,{ }]");
    we_buf_deinit(&out);
}

TEST(json_writer_escapes_and_repairs_strings)
{
    const we_str text = WE_STR("\"\\/\b\f\n\r\t\0\x1f\x7f\xc3\xa9\xf0\x9f\x98\x80\xff!");
    we_buf out = { 0 };
    we_json_writer w = { .buf = &out };
    we_json_write_str(&w, text);
    CHECK_STR(we_buf_str(&out), "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd!\"");
    we_buf_clear(&out);
    we_json_writer ascii = { .buf = &out, .ascii = true };
    we_json_write_str(&ascii, text);
    CHECK_STR(we_buf_str(&out), "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\\u00e9\\ud83d\\ude00\\ufffd!\"");
    we_buf_deinit(&out);
}

TEST(json_writer_survives_failing_memory)
{
    we_error err;
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_buf out = { 0 };
        we_json_writer w = { .buf = &out, .indent = 4 };
        write_sample(&w);
        st = we_buf_status(&out, &err, "the JSON text");
        we_buf_deinit(&out);
    }
}
