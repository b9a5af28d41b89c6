/* SPDX-License-Identifier: Apache-2.0
 * test_backend.c - backend: handles on servers of our own, whose answers come in pieces of one byte, broken, cut or as
 * something else; and on the engine, with the built-in model. */
#include "backend/backend.h"
#include "http_server.h"
#include <math.h>
#include <unistd.h>

#define SSE(body) HTTP_ANSWER("200 OK", "text/event-stream", body)
#define JSON(body) HTTP_ANSWER("200 OK", "application/json", body)

static const we_message hello[] = { { "user", "Hello \xF0\x9F\x91\x8B\n" } };

typedef struct talk {
    http_server server;
    we_backend *backend;
    we_backend_reply reply;
    we_error err;
    we_buf seen, thoughts;
    size_t stop_after; /* bytes; 0: never */
} talk;

static bool see(void *user, const char *text, size_t len, int32_t token)
{
    talk *t = user;
    assert_int_equal(text[len], 0);
    assert_int_equal(token, -1);
    we_buf_append(&t->seen, text, len);
    return !t->stop_after || t->seen.len < t->stop_after;
}

static bool think(void *user, const char *text, size_t len, int32_t token)
{
    (void)token;
    we_buf_append(&((talk *)user)->thoughts, text, len);
    return true;
}

/* A handle on a server that gives these answers. url: with a %d for the port. */
static void talk_begin(talk *t, const char *url, const char *const *answers, size_t n, size_t piece)
{
    char whole[256];
    we_backend_target target;
    t->server.piece = piece;
    http_server_start(&t->server, answers, n);
    snprintf(whole, sizeof whole, url, t->server.port);
    CHECK_OK(we_backend_target_parse(&target, whole, &t->err), &t->err);
    CHECK_OK(we_backend_open(&t->backend, &target, &(we_backend_options){ .api_key = "sesame" }, &t->err), &t->err);
    we_backend_target_deinit(&target);
}

static we_status talk_ask(talk *t)
{
    we_conversation c = WE_CONVERSATION_INIT;
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    c.messages = hello;
    c.n_messages = 1;
    o.temperature = NAN;
    o.on_piece = see;
    o.user = t;
    return we_backend_answer(t->backend, &(we_backend_ask){ .conversation = &c, .options = &o, .on_reasoning = think },
                             &t->reply, &t->err);
}

static void talk_end(talk *t)
{
    http_server_stop(&t->server);
    we_backend_close(t->backend);
    we_backend_reply_deinit(&t->reply);
    we_buf_deinit(&t->seen);
    we_buf_deinit(&t->thoughts);
    http_server_deinit(&t->server);
    *t = (talk){ 0 };
}

/* ---- OpenAI-style ---- */

static const char stream[] =
    SSE("\xEF\xBB\xBF: welcome\r\n\r\n"
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n"
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n"
        "event: x\nid: 7\ndata: {\"choices\":[{\"delta\":\ndata: {\"content\":\"Gr\xC3\xBC\xC3\x9F\"}}]}\n\n"
        "data:{\"choices\":[{\"delta\":{\"content\":\" dich \\ud83d\\ude00\"}}]}\r\r"
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3}}\n\n"
        "data: [DONE]\n\n");

TEST(backend_openai_streams_whatever_the_pieces)
{
    static const size_t pieces[] = { 0, 1, 7 };
    for (size_t i = 0; i < WE_COUNT(pieces); i++) {
        talk t = { 0 };
        const char *const answers[] = { stream };
        talk_begin(&t, "http://127.0.0.1:%d/v1#m", answers, 1, pieces[i]);
        CHECK_OK(talk_ask(&t), &t.err);
        CHECK_STR(we_buf_str(&t.seen), "Gr\xC3\xBC\xC3\x9F dich \xF0\x9F\x98\x80");
        assert_string_equal(t.reply.result.text, t.seen.ptr);
        assert_string_equal(t.reply.reasoning, "hm");
        CHECK_STR(we_buf_str(&t.thoughts), "hm");
        assert_string_equal(t.reply.model, "m");
        assert_int_equal(t.reply.result.finish, WE_FINISH_LENGTH);
        assert_int_equal(t.reply.result.n_prompt_tokens, 11);
        assert_int_equal(t.reply.result.n_tokens, 3);
        assert_true(t.reply.result.first_token_s > 0);
        talk_end(&t);
    }
}

TEST(backend_openai_sends_the_conversation_and_the_key)
{
    talk t = { 0 };
    const char *const answers[] = { stream };
    talk_begin(&t, "http://127.0.0.1:%d/v1#m", answers, 1, 0);
    CHECK_OK(talk_ask(&t), &t.err);
    assert_non_null(strstr(t.server.asked.ptr, "POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_non_null(strstr(t.server.asked.ptr, "Authorization: Bearer sesame\r\n"));
    assert_non_null(strstr(t.server.asked.ptr,
                           "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                           "\"messages\":[{\"role\":\"user\",\"content\":\"Hello \xF0\x9F\x91\x8B\\n\"}]}"));
    talk_end(&t);
}

/* ---- The engine ---- */

TEST(backend_mlx_answers_and_unloads)
{
    we_backend_target target;
    we_backend *b;
    we_backend_reply reply;
    we_backend_report report;
    we_error err;
    const we_engine_options engine = { sizeof engine, NULL, NULL, 1 };
    we_conversation c = WE_CONVERSATION_INIT;
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    c.messages = hello;
    c.n_messages = 1;
    o.max_tokens = 4;
    CHECK_OK(we_backend_target_parse(&target, "mlx://default", &err), &err);
    CHECK_OK(we_backend_open(&b, &target, &(we_backend_options){ .engine = &engine, .context = 256 }, &err), &err);
    CHECK_OK(we_backend_answer(b, &(we_backend_ask){ .conversation = &c, .options = &o }, &reply, &err), &err);
    assert_true(reply.result.n_tokens > 0 && reply.result.n_tokens <= 4 && reply.load_s > 0);
    assert_string_equal(reply.model, "default");
    we_backend_reply_deinit(&reply);
    CHECK_OK(we_backend_answer(b, &(we_backend_ask){ .prompt = "Once", .options = &o }, &reply, &err), &err);
    assert_true(reply.result.n_prompt_tokens > 0 && reply.load_s == 0);
    we_backend_reply_deinit(&reply);
    CHECK_OK(we_backend_inspect(b, &report, 0, &err), &err);
    assert_true(report.n_models >= 1 && report.models[0].loaded && report.models[0].bytes > 0);
    assert_non_null(strstr(report.reason, "runs on this machine: cpu"));
    we_backend_report_deinit(&report);
    CHECK_OK(we_backend_unload(b, &err), &err);
    we_backend_close(b);
    we_backend_target_deinit(&target);
}
