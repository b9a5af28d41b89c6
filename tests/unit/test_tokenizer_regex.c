/* SPDX-License-Identifier: Apache-2.0
 * test_tokenizer_regex.c - the regular expressions of src/tokenizer. What each pattern matches was taken from Oniguruma 6.9.8 as
 * Hugging Face tokenizers 0.23.3 has it (its Replace normalizer). */
#include "support.h"

#include "tokenizer/regex.h"

#include <stdio.h>

/* The text with '#' in the place of every match; by the table or by backtracking. */
static we_str replaced(we_buf *out, const char *pattern, we_str text, bool force_memo)
{
    we_error err = { 0 };
    we_regex *re = NULL;
    we_regex_scan scan;
    size_t start, end, from = 0;
    CHECK_OK(we_regex_compile(&re, we_str_from(pattern), &err), &err);
    we_buf_clear(out);
    we_regex_scan_init(&scan, re, text);
    scan.force_memo = force_memo;
    while (we_regex_scan_next(&scan, &start, &end)) {
        we_buf_append(out, text.ptr + from, start - from);
        we_buf_append_char(out, '#');
        from = end;
    }
    we_buf_append(out, text.ptr + from, text.len - from);
    assert_false(scan.out_of_memory);
    we_regex_scan_deinit(&scan);
    we_regex_free(re);
    return we_buf_str(out);
}

typedef struct match_case {
    const char *pattern, *text, *want;
} match_case;

static void check_cases(const match_case *cases, size_t n)
{
    we_buf out = { 0 };
    for (size_t i = 0; i < n; i++)
        for (int memo = 0; memo < 2; memo++) {
            we_str got = replaced(&out, cases[i].pattern, we_str_from(cases[i].text), memo);
            if (!we_str_is(got, cases[i].want))
                print_message("pattern %s on \"%s\"\n", cases[i].pattern, cases[i].text);
            CHECK_STR(got, cases[i].want);
        }
    we_buf_deinit(&out);
}

TEST(regex_quantifiers)
{
    static const match_case cases[] = {
        { "a++b", "aab", "#" },      { "a{1,2}+", "aaa", "#" },   { "a{2}?", "aaa", "#a#" },
        { "a{,2}", "aaa", "##" },    { "a{2,1}", "aaaa", "##" },  { "a{", "a{", "#" },
        { "a{1", "a{1", "#" },       { "x*", "axb", "#a#b#" },    { "a*", "baac", "#b#c#" },
        { "a+?", "aa", "##" },       { "a??", "aa", "#a#a#" },    { "a*?b", "aab", "#" },
        { "a**", "aa", "#" },        { "a+*", "aa", "#" },        { "", "ab", "#a#b#" },
        { "a||b", "ab", "#b#" },     { "(?>a+)a", "aaa", "aaa" }, { "a?+a", "aa", "#" },
        { "(?:a|ab)c", "abc", "#" }, { "a|ab", "ab", "#b" },      { "(?:ab|a)*+b", "abab", "a#a#" },
    };
    check_cases(cases, WE_COUNT(cases));
}

TEST(regex_anchors_and_looking_around)
{
    static const match_case cases[] = {
        { "^a", "a\na\r\na", "#\n#\r\n#" },
        { "a$", "a\na\r\na", "#\na\r\n#" },
        { "\\Aa", "a\na", "#\na" },
        { "a\\Z", "a\na\n", "a\n#\n" },
        { "a\\z", "a\na", "a\n#" },
        { "\\bab\\b", "ab cab", "# cab" },
        { "\\Bb", "ab b", "a# b" },
        { "$", "a\n", "a#\n#" },
        { "^", "a\nb", "#a\n#b" },
        { "\\b", "ab", "#ab#" },
        { "(?=b)", "ab", "a#b" },
        { "(?<=a)b", "ab bb", "a# bb" },
        { "(?<=a+)b", "aab bb", "aa# bb" },
        { "(?<!a|bc)d", "ad bcd cd", "ad bcd c#" },
        { "\\s+(?!\\S)", "a   b  ", "a# b#" },
        { "x(?=\\s|$)", "x xy x", "# xy #" },
        { "\\d{1,3}(?=(?:\\d{3})*(?:\\D|$))", "1234567 12", "### #" },
    };
    check_cases(cases, WE_COUNT(cases));
}

TEST(regex_classes)
{
    static const match_case cases[] = {
        { "[[:alpha:]&&[^a]]", "abc", "a##" },
        { "[a-c&&b-d]", "abcd", "a##d" },
        { "[^a&&b]", "ab", "##" },
        { "[a&&]", "ab", "ab" },
        { "[]a]", "]a", "##" },
        { "[a-]", "a-", "##" },
        { "[[a]b]", "ab[]", "##[]" },
        { "\\p{^L}", "a1", "a#" },
        { "\\P{^L}", "a1", "#1" },
        { "\\p{Hani}", "\u4e2d", "#" },
        { "\\p{InBasicLatin}", "a\u00e9", "#\u00e9" },
        { "\\p{upper case letter}", "aA", "a#" },
        { "\\pL", "aA", "aA" },
        { "\\p{Word}", "a1-", "##-" },
        { "\\h", "gf0", "g##" },
        { "\\H", "gf0", "#f0" },
        { ".", "a\n", "#\n" },
        { "(?m).", "a\n", "##" },
        { "\\N", "a\n", "#\n" },
        { "\\O", "a\n", "##" },
        { "\\R", "\r\n\n\xC2\x85", "###" },
        { "\\s", "\xC2\x85\u00a0\u2028\u180e\u200b\x1c", "###\u180e\u200b\x1c" },
        { "\\w", "a\u0301_1\u2160-", "#####-" },
        { "\\w", "\u00b1\u00b2\u00b3\u00b4\u00b9\u00bc\u00bd\u00be\u2074",
          "\u00b1##\u00b4####\u2074" }, /* Oniguruma's own */
        { "[\\w]", "\u00b2\u00bd", "\u00b2\u00bd" },
        { "\\P{Word}", "\u00bd-", "\u00bd#" },
        { "\\b.", "-\u00bd-", "-##" },
        { "[\\u4e00-\\u9fa5]+", "a\u4e2d\u6587", "a#" },
        { "[\\p{P}\\p{S}]+", "!+\U0001fae8a", "#a" }, /* a face of Unicode 15 */
    };
    check_cases(cases, WE_COUNT(cases));
}

TEST(regex_escapes)
{
    static const match_case cases[] = {
        { "\\x41", "A", "#" },
        { "\\x{1F600}", "\U0001f600", "#" },
        { "\\u00e9", "\u00e9", "#" },
        { "\\101", "A", "#" },
        { "\\o{101}", "A", "#" },
        { "\\xC3\\xA9", "\u00e9", "#" },
        { "\\t\\n\\r", "\t\n\r", "#" },
        { "\\e", "\x1b", "#" },
        { "\\q", "q", "#" },
        { "\\Qa.b\\E", "Qa.bE", "#" },
        { "(?#note)a", "a", "#" },
        { "(?x) a b # c\n", "ab", "#" },
    };
    check_cases(cases, WE_COUNT(cases));
}

TEST(regex_ignoring_case_is_unicode_s)
{
    static const match_case cases[] = {
        { "(?i:'s|'ll)", "'\u017f 'S 'Ll", "# # #" },
        { "(?i:ss)", "\u00df \u1e9e ss S\u017f", "# # # #" },
        { "(?i)\u00df", "ss SS", "# #" },
        { "(?i:fi)", "\ufb01 fi \ufb03", "# # \ufb03" },
        { "(?i)s{2}", "\u00df ss", "\u00df #" },
        { "(?i)k", "\u212aKk", "###" },
        { "(?i)[^k]", "\u212aKk", "\u212aKk" },
        { "(?i)[\u00df]x", "\u00dfx ssx", "# #" },
        { "(?i)a(?-i)a", "Aa AA", "# AA" },
        { "a(?i)b|c", "aB C aC", "# C #" },
        { "(?i:[[:alpha:]&&[^b]])", "b", "#" },
    };
    check_cases(cases, WE_COUNT(cases));
}

TEST(regex_patterns_of_tokenizers_fit_the_table)
{
    static const char *const patterns[] = {
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
        "|\\s+(?!\\S)|\\s+",
        "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]"
        "|\\s+(?!\\S)|\\s+",
    };
    for (size_t i = 0; i < WE_COUNT(patterns); i++) {
        we_error err = { 0 };
        we_regex *re = NULL;
        CHECK_OK(we_regex_compile(&re, we_str_from(patterns[i]), &err), &err);
        assert_true(we_regex_has_dfa(re));
        we_regex_free(re);
    }
}

TEST(regex_hostile_patterns_take_linear_time)
{
    static const char *const patterns[] = { "(?:a*)*b",       "(?:a|a)*b",        "(?:a+)+$b",
                                            "a*b|a",          "(?=a*b)a|c",       "(?<!a*b)c",
                                            "(?:(?>a*)|b)*c", "(?:a?){30}a{30}b", "[^x]*[^y]*x" };
    enum { N = 20000 };
    we_buf text = { 0 };
    for (int i = 0; i < N; i++) we_buf_append_char(&text, 'a');
    for (size_t i = 0; i < WE_COUNT(patterns); i++)
        for (int memo = 0; memo < 2; memo++) {
            we_regex *re = NULL;
            we_error err = { 0 };
            CHECK_OK(we_regex_compile(&re, we_str_from(patterns[i]), &err), &err);
            we_regex_scan scan;
            we_regex_scan_init(&scan, re, we_buf_str(&text));
            scan.force_memo = memo;
            size_t start, end;
            while (we_regex_scan_next(&scan, &start, &end)) assert_true(start <= end);
            if (scan.n_steps > 300 * N) fail_msg("%s: %zu steps for %d bytes", patterns[i], scan.n_steps, N);
            we_regex_scan_deinit(&scan);
            we_regex_free(re);
        }
    we_buf_deinit(&text);
}

TEST(regex_refusals_name_the_construct)
{
    static const struct {
        const char *pattern;
        we_status status;
        const char *part;
    } cases[] = {
        { "(a)\\1", WE_E_UNSUPPORTED, "back-references" },
        { "(?<n>a)\\k<n>", WE_E_UNSUPPORTED, "back-references" },
        { "(?<n>a)\\g<n>", WE_E_UNSUPPORTED, "subexpression" },
        { "(?(a)b|c)", WE_E_UNSUPPORTED, "conditionals" },
        { "(?~abc)", WE_E_UNSUPPORTED, "absent" },
        { "a\\Kb", WE_E_UNSUPPORTED, "\\K" },
        { "\\X", WE_E_UNSUPPORTED, "\\X" },
        { "(?s)a", WE_E_FORMAT, "option" },
        { "(", WE_E_FORMAT, "( without )" },
        { ")", WE_E_FORMAT, ") without (" },
        { "[", WE_E_FORMAT, "[ without ]" },
        { "*a", WE_E_FORMAT, "nothing to repeat" },
        { "[z-a]", WE_E_FORMAT, "backwards" },
        { "\\p{Klingon}", WE_E_FORMAT, "Klingon" },
        { "a{100001}", WE_E_FORMAT, "100000" },
        { "(?:a{1000}){1000}", WE_E_UNSUPPORTED, "20,000" },
        { "\\xff", WE_E_FORMAT, "UTF-8" },
        { "\\", WE_E_FORMAT, "at the end" },
        { "(?:(?:^){100000}){100000}", WE_E_UNSUPPORTED, "20,000" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_error err = { 0 };
        we_regex *re = NULL;
        CHECK_STATUS(we_regex_compile(&re, we_str_from(cases[i].pattern), &err), cases[i].status, &err);
        EXPECT_MESSAGE(&err, cases[i].part);
        assert_null(re);
    }
}

TEST(regex_nested_too_deeply_is_refused)
{
    we_buf pattern = { 0 };
    we_error err = { 0 };
    we_regex *re = NULL;
    for (int i = 0; i < 5000; i++) we_buf_append_char(&pattern, '(');
    CHECK_STATUS(we_regex_compile(&re, we_buf_str(&pattern), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "nested too deeply");
    we_buf_deinit(&pattern);
}

TEST(regex_survives_failing_allocations)
{
    we_error err = { 0 };
    we_status st = WE_OK;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_regex *re = NULL;
        st = we_regex_compile(&re, WE_STR("(?i:'s|ss)|[^\\r\\n]?+\\p{L}+|(?<=a|bc)\\d{1,3}(?=x+y)|\\s+(?!\\S)"), &err);
        if (!st) {
            we_regex_scan scan;
            size_t start, end;
            we_regex_scan_init(&scan, re, WE_STR("it's a 12345 xxxy"));
            while (we_regex_scan_next(&scan, &start, &end))
                ;
            st = scan.out_of_memory ? WE_E_NOMEM : WE_OK;
            we_regex_scan_deinit(&scan);
        }
        we_regex_free(re);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
    }
}
