/* SPDX-License-Identifier: Apache-2.0
 * test_backend_stream.c - backend: events and lines out of bytes in any pieces; the first words of what a server sends. */
#include "backend/backend_int.h"
#include "support.h"

typedef struct seen {
    we_buf text; /* "name|data;" for each event */
    size_t n, stop_at;
} seen;

static bool see(void *user, we_str event, we_str data)
{
    seen *s = user;
    we_buf_append_str(&s->text, event);
    we_buf_append_char(&s->text, '|');
    we_buf_append_str(&s->text, data);
    we_buf_append_char(&s->text, ';');
    return ++s->n != s->stop_at;
}

static void check_stream(bool is_sse, we_str input, const char *wanted)
{
    for (size_t piece = 1; piece <= input.len; piece += piece < 9 ? 1 : input.len) {
        we_stream stream = { .is_sse = is_sse };
        seen s = { 0 };
        for (size_t i = 0; i < input.len; i += piece)
            assert_true(we_stream_feed(&stream, (we_str){ input.ptr + i, WE_MIN(piece, input.len - i) }, see, &s));
        assert_true(we_stream_end(&stream, see, &s));
        CHECK_STR(we_buf_str(&s.text), wanted);
        we_buf_deinit(&s.text);
        we_stream_deinit(&stream);
    }
}

TEST(backend_stream_reads_events)
{
    static const struct {
        const char *input, *wanted;
    } cases[] = {
        { "data: a\n\ndata:b\r\n\r\ndata: c\r\rdata\n\n", "|a;|b;|c;|;" },
        { "\xEF\xBB\xBF: hello\nevent: x\ndata:  two spaces\nid: 7\nretry: 1\n\n", "x| two spaces;" },
        { "data: {\ndata: \"a\":1}\n\n\n\n", "|{\n\"a\":1};" },
        { "event: lost\n\ndata: a\n\n", "|a;" },
        { "data: no empty line behind it", "|no empty line behind it;" },
        { "database: no field of ours\nDATA: x\n\n", "" },
        { "\r\n\r\n\n", "" },
        { "data: a\r\ndata: b\n\r\n", "|a\nb;" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) check_stream(true, we_str_from(cases[i].input), cases[i].wanted);
}

TEST(backend_stream_reads_lines)
{
    check_stream(false, WE_STR("{\"a\":1}\n{\"b\":2}\r\n\n  \n{\"c\":3}"), "|{\"a\":1};|{\"b\":2};|{\"c\":3};");
}

TEST(backend_stream_stops_where_told)
{
    we_stream stream = { .is_sse = true };
    seen s = { .stop_at = 2 };
    assert_false(we_stream_feed(&stream, WE_STR("data: a\n\ndata: b\n\ndata: c\n\n"), see, &s));
    CHECK_STR(we_buf_str(&s.text), "|a;|b;");
    we_buf_deinit(&s.text);
    we_stream_deinit(&stream);
}

TEST(backend_stream_refuses_endless_lines_and_events)
{
    static const char line[] = "data: 0123456789012345678901234567890123456789012345678901234567890123456789\n";
    for (int whole = 0; whole < 2; whole++) { /* without line ends; with them, but without an end of the event */
        we_stream stream = { .is_sse = true };
        seen s = { 0 };
        size_t n = 0;
        while (we_stream_feed(&stream, (we_str){ line, sizeof line - 2 + (size_t)whole }, see, &s)) n++;
        assert_true(stream.too_long);
        assert_true(n * sizeof line <= 2 * WE_STREAM_MAX && s.n == 0);
        we_stream_deinit(&stream);
    }
}

TEST(backend_words_leave_markup_and_controls_out)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        { "<!DOCTYPE html>\n<html><h1 class='a'>Bad   Gateway</h1>\n\n<p>nginx</p>", "Bad Gateway nginx" },
        { "a < b and 1 <2", "a < b and 1 <2" },
        { "\x1b[31mred\x07 \xff", "\\x1b[31mred\\x07 \\xff" },
        { "", "" },
        { "<never closed", "" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        char out[256];
        assert_string_equal(we_server_words(out, we_str_from(cases[i].text)), cases[i].words);
    }
    char out[256], many[4096];
    memset(many, 0xC3, sizeof many);
    for (size_t i = 1; i < sizeof many; i += 2) many[i] = (char)0xBC; /* umlauts, cut between two */
    we_server_words(out, (we_str){ many, sizeof many });
    assert_int_equal(we_utf8_valid(we_str_from(out)), strlen(out));
    assert_true(strlen(out) > 150 && !strchr(out, '\\'));
}

TEST(backend_offers_the_nearest_names)
{
    static const struct {
        const char *name, *near;
    } cases[] = {
        { "lama3.2:latest", "\"llama3.2:latest\"" },
        { "gemma-3-4b", "\"google/gemma-3-4b\"" },
        { "qwen3", "\"qwen3:8b\" or \"qwen3:4b\"" },
        { "something/quite/different", "" },
    };
    we_backend_report r = { 0 };
    static const char *const names[] = { "llama3.2:latest", "qwen3:8b", "google/gemma-3-4b", "qwen3:4b" };
    for (size_t i = 0; i < WE_COUNT(names); i++) assert_non_null(we_report_add(&r, we_str_from(names[i])));
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_buf out = { 0 };
        assert_string_equal(we_backend_nearest(&out, &r, cases[i].name), cases[i].near);
        we_buf_deinit(&out);
    }
    we_backend_report_deinit(&r);
}
