/* SPDX-License-Identifier: Apache-2.0
 * test_sampling.c - the parameters' ranges, the order they make, stop texts in a stream. */
#include "support.h"

#include "sampling/sampling.h"

#include <math.h>

/* ---- Parameters ---- */

static const we_sampling typical = { 0.7F, 0.9F, 0.05F, 40, 1.1F, 20, 42 };

TEST(sampling_check_takes_the_whole_ranges)
{
    we_error err;
    const we_sampling low = { 0 }, high = { 100, 1, 1, 1000, 100, 1000000, UINT64_MAX };
    CHECK_OK(we_sampling_check(&typical, 1000, &err), &err);
    CHECK_OK(we_sampling_check(&low, 1000, &err), &err);
    CHECK_OK(we_sampling_check(&high, 1000, &err), &err);
}

TEST(sampling_check_names_field_value_and_range)
{
    we_sampling s[14];
    for (size_t i = 0; i < WE_COUNT(s); i++) s[i] = typical;
    static const char *const messages[WE_COUNT(s)] = {
        "temperature is -0.5, expected 0 to 100",
        "temperature is 101, expected 0 to 100",
        "temperature is nan",
        "temperature is inf",
        "top_p is -0.1, expected 0 to 1",
        "top_p is 1.5, expected 0 to 1",
        "min_p is 2, expected 0 to 1",
        "top_k is -1, expected 0 to 1000",
        "top_k is 1001, expected 0 to 1000",
        "repetition_penalty is -1, expected 0 to 100",
        "repetition_penalty is 200, expected 0 to 100",
        "repetition_context is 0, expected 1 to 1000000",
        "repetition_context is -5, expected 0 to 1000000",
        "repetition_context is 1.1e+06, expected 1 to 1000000",
    };
    s[0].temperature = -0.5F;
    s[1].temperature = 101;
    s[2].temperature = NAN;
    s[3].temperature = INFINITY;
    s[4].top_p = -0.1F;
    s[5].top_p = 1.5F;
    s[6].min_p = 2;
    s[7].top_k = -1;
    s[8].top_k = 1001;
    s[9].repetition_penalty = -1;
    s[10].repetition_penalty = 200;
    s[11].repetition_context = 0;
    s[12].repetition_penalty = 1; /* off: 0 would do, but not less */
    s[12].repetition_context = -5;
    s[13].repetition_context = 1100000;
    for (size_t i = 0; i < WE_COUNT(s); i++) {
        we_error err;
        CHECK_STATUS(we_sampling_check(&s[i], 1000, &err), WE_E_RANGE, &err);
        EXPECT_MESSAGE(&err, messages[i]);
    }
}

TEST(sampling_spec_carries_the_parameters)
{
    const we_sample_spec spec = we_sampling_spec(&typical, 7, NULL, 0);
    assert_true(spec.temperature == 0.7F && spec.top_p == 0.9F && spec.min_p == 0.05F && spec.top_k == 40);
    assert_true(spec.repetition_penalty == 1.1F && spec.seed == 42 && spec.counter == 7);
    assert_int_equal(spec.n_recent, 0);
}

TEST(sampling_spec_looks_back_on_the_last_tokens_only)
{
    int32_t history[50];
    for (int i = 0; i < 50; i++) history[i] = i;
    we_sample_spec spec = we_sampling_spec(&typical, 0, history, 50);
    assert_int_equal(spec.n_recent, 20);
    assert_ptr_equal(spec.recent, history + 30);
    spec = we_sampling_spec(&typical, 0, history, 5);
    assert_int_equal(spec.n_recent, 5);
    assert_ptr_equal(spec.recent, history);
}

TEST(sampling_spec_looks_at_nothing_without_a_penalty)
{
    const int32_t history[] = { 1, 2, 3 };
    for (int penalty = 0; penalty <= 1; penalty++) {
        we_sampling s = typical;
        s.repetition_penalty = (float)penalty;
        const we_sample_spec spec = we_sampling_spec(&s, 0, history, 3);
        assert_int_equal(spec.n_recent, 0);
        assert_null(spec.recent);
    }
}

/* ---- Stop texts ---- */

/* A stream in, the text that came out, and which stop text ended it (-1: none). */
typedef struct outcome {
    we_buf text;
    int which;
} outcome;

/* Bit i of cuts set: a piece ends behind byte i. */
static outcome run_cut(const we_str *stops, size_t n, we_str stream, uint64_t cuts)
{
    we_error err;
    we_stop stop;
    we_str out;
    outcome result = { { 0 }, -1 };
    CHECK_OK(we_stop_init(&stop, stops, n, &err), &err);
    size_t begin = 0;
    for (size_t i = 0; i < stream.len; i++) {
        if (i + 1 < stream.len && !(cuts >> i & 1)) continue;
        CHECK_OK(we_stop_feed(&stop, (we_str){ stream.ptr + begin, i + 1 - begin }, &out, &err), &err);
        we_buf_append_str(&result.text, out);
        begin = i + 1;
    }
    CHECK_OK(we_stop_flush(&stop, &out, &err), &err);
    we_buf_append_str(&result.text, out);
    if (stop.stopped) result.which = (int)stop.which;
    we_stop_deinit(&stop);
    return result;
}

/* What a stream gives must be the same however it is cut: tried for every way of cutting it. */
static void check_stream(const we_str *stops, size_t n, const char *stream, const char *wanted, bool stopped)
{
    const we_str s = we_str_from(stream);
    for (uint64_t cuts = 0; cuts < (uint64_t)1 << (s.len ? s.len - 1 : 0); cuts++) {
        outcome o = run_cut(stops, n, s, cuts);
        if (!we_str_is(we_buf_str(&o.text), wanted) || (o.which >= 0) != stopped)
            fail_msg("\"%s\" cut as %#llx gave \"%s\", expected \"%s\"", stream, (unsigned long long)cuts,
                     o.text.ptr ? o.text.ptr : "", wanted);
        we_buf_deinit(&o.text);
    }
}

TEST(stop_texts_end_the_stream_however_it_is_cut)
{
    const we_str stops[] = { WE_STR("END"), WE_STR("</s>") };
    check_stream(stops, 2, "one END two", "one ", true);
    check_stream(stops, 2, "a</s>END", "a", true);
    check_stream(stops, 2, "EEND", "E", true);
    check_stream(stops, 2, "ENEND", "EN", true);
    check_stream(stops, 2, "END", "", true);
    check_stream(stops, 2, "", "", false);
    check_stream(stops, 2, "no stop EN", "no stop EN", false);
    check_stream(stops, 2, "x</s", "x</s", false);
    check_stream(NULL, 0, "END", "END", false);
}

TEST(stop_text_that_begins_first_wins)
{
    const we_str stops[] = { WE_STR("bc"), WE_STR("abcd") };
    check_stream(stops, 2, "xabcdy", "x", true);
    check_stream(stops, 2, "xabcy", "xa", true); /* "abc" was held for "abcd", which did not come */
    check_stream(stops, 2, "xabc", "xa", true);  /* the same at the end of the answer */
    const we_str repeated[] = { WE_STR("aab") };
    check_stream(repeated, 1, "aaaab!", "aa", true);
}

TEST(stop_longest_of_those_that_begin_together_is_named)
{
    const we_str stops[] = { WE_STR("\n"), WE_STR("\n\n\n"), WE_STR("\n\n") };
    const outcome o = run_cut(stops, 3, WE_STR("a\n\nb"), 0);
    assert_int_equal(o.which, 2);
    we_free(o.text.ptr);
    check_stream(stops, 3, "a\n\n\nb", "a", true);
}

TEST(stop_gives_safe_text_at_once)
{
    we_error err;
    we_stop stop;
    we_str out;
    const we_str stops[] = { WE_STR("\xe2\x82\xac!") };
    CHECK_OK(we_stop_init(&stop, stops, 1, &err), &err);
    CHECK_OK(we_stop_feed(&stop, WE_STR("abc"), &out, &err), &err);
    CHECK_STR(out, "abc");
    CHECK_OK(we_stop_feed(&stop, WE_STR("d\xe2\x82\xac"), &out, &err), &err);
    CHECK_STR(out, "d"); /* whole characters in, whole characters out */
    CHECK_OK(we_stop_feed(&stop, WE_STR("?"), &out, &err), &err);
    CHECK_STR(out, "\xe2\x82\xac?");
    CHECK_OK(we_stop_feed(&stop, WE_STR("x\xe2\x82\xac!y"), &out, &err), &err);
    CHECK_STR(out, "x");
    assert_true(stop.stopped);
    CHECK_OK(we_stop_feed(&stop, WE_STR("more"), &out, &err), &err);
    CHECK_STR(out, "");
    CHECK_OK(we_stop_flush(&stop, &out, &err), &err);
    CHECK_STR(out, "");
    we_stop_deinit(&stop);
}

TEST(stop_refuses_an_empty_text)
{
    we_error err;
    we_stop stop;
    const we_str stops[] = { WE_STR("a"), WE_STR("") };
    CHECK_STATUS(we_stop_init(&stop, stops, 2, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "stop text 2 is empty");
    we_stop_deinit(&stop);
}

TEST(stop_reports_every_failing_allocation)
{
    const we_str stops[] = { WE_STR("stop") };
    we_error err;
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_stop stop;
        we_str out;
        st = we_stop_init(&stop, stops, 1, &err);
        if (!st) st = we_stop_feed(&stop, WE_STR("text s"), &out, &err);
        if (!st) st = we_stop_flush(&stop, &out, &err);
        if (st) CHECK_STATUS(st, WE_E_NOMEM, &err);
        we_stop_deinit(&stop);
    }
}
