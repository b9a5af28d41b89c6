/* SPDX-License-Identifier: Apache-2.0
 * test_backend.c - backend: handles on servers of our own, whose answers come in pieces of one byte, broken, cut or as
 * something else; and on the engine, with the built-in model. */
#include "backend/backend.h"
#include "http_server.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
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

/* ---- What goes wrong ---- */

typedef struct failure {
    const char *name, *answer;
    we_status status;
    const char *says, *kept; /* text that came before */
} failure;

static void check_failures(const char *url, const failure *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        static const size_t pieces[] = { 0, 1 };
        for (size_t k = 0; k < WE_COUNT(pieces); k++) {
            talk t = { 0 };
            talk_begin(&t, url, &cases[i].answer, 1, pieces[k]);
            CHECK_STATUS(talk_ask(&t), cases[i].status, &t.err);
            EXPECT_MESSAGE(&t.err, cases[i].says);
            assert_null(strchr(t.err.message, 27));
            assert_string_equal(t.reply.result.text, cases[i].kept);
            assert_int_equal(t.reply.may_pass, cases[i].status == WE_E_NETWORK);
            talk_end(&t);
        }
    }
}

TEST(backend_openai_tells_what_is_wrong)
{
    static const failure cases[] = {
        { "html", HTTP_ANSWER("200 OK", "text/html", "<html><b>Log in</b> here</html>"), WE_E_FORMAT, "\"Log in here\"",
          "" },
        { "no choices", JSON("{\"id\":1}"), WE_E_FORMAT, "without choices (application/json): \"{\"id\":1}\"", "" },
        { "empty choices", SSE("data: {\"choices\":[]}\n\ndata: [DONE]\n\n"), WE_E_FORMAT, "without choices", "" },
        { "cut", SSE("data: {\"choices\":[{\"delta\":{\"content\":\"He\"}}]}\n\n"), WE_E_NETWORK, "broke off", "He" },
        { "nothing", SSE(""), WE_E_NETWORK, "ended without an answer", "" },
        { "broken", SSE("data: {\"choices\":[{\"delta\":{\"content\":\"He\"}}]}\n\ndata: {\"cho\n\ndata: [DONE]\n\n"),
          WE_E_FORMAT, "broken JSON (line 1", "He" },
        { "error event",
          SSE("data: {\"choices\":[{\"delta\":{\"content\":\"He\"}}]}\n\nevent: error\ndata: {\"error\":{\"message\":"
              "\"out of \\u001b[2Jmemory\"}}\n\n"),
          WE_E_NETWORK, "failed: out of \\x1b[2Jmemory", "He" },
        { "error as text", JSON("{\"error\":\"Unexpected endpoint or method.\"}"), WE_E_NETWORK, "Unexpected endpoint",
          "" },
        { "400", HTTP_ANSWER("400 Bad Request", "application/json", "{\"error\":{\"message\":\"top_k\"}}"), WE_E_ARG,
          "refused the request (HTTP 400: top_k)", "" },
        { "422", HTTP_ANSWER("422 No", "application/json", "{\"detail\":[{\"loc\":[1],\"msg\":\"field required\"}]}"),
          WE_E_ARG, "field required", "" },
        { "401", HTTP_ANSWER("401 No", "text/plain", "go away"), WE_E_DENIED,
          "does not accept this API key (HTTP 401: go away)", "" },
        { "redirect", "HTTP/1.1 307 Elsewhere\r\nConnection: close\r\nLocation: http://evil.example/v1\r\n\r\n",
          WE_E_FORMAT, "leads to another address (HTTP 307), which is not followed: \"http://evil.example/v1\"", "" },
        { "429", HTTP_ANSWER("429 Slow", "text/plain", ""), WE_E_NETWORK, "failed (HTTP 429)", "" },
        { "array", JSON("[1]"), WE_E_FORMAT, "without choices", "" },
    };
    check_failures("http://127.0.0.1:%d/v1#m", cases, WE_COUNT(cases));
}

TEST(backend_ollama_tells_what_is_wrong)
{
    static const failure cases[] = {
        { "html", HTTP_ANSWER("200 OK", "text/html", "<html>Log in</html>"), WE_E_FORMAT,
          "not its interface: \"Log in\"", "" },
        { "cut", JSON("{\"message\":{\"content\":\"He\"},\"done\":false}\n"), WE_E_NETWORK, "broke off", "He" },
        { "half a line", JSON("{\"message\":{\"content\":\"He\"},\"done\":false}\n{\"mess"), WE_E_FORMAT, "broken JSON",
          "He" },
        { "error line",
          JSON("{\"message\":{\"content\":\"He\"},\"done\":false}\n{\"error\":\"an error was encountered\"}\n"),
          WE_E_NETWORK, "failed: an error was encountered", "He" },
        { "500", HTTP_ANSWER("500 No", "application/json", "{\"error\":\"model requires more system memory\"}"),
          WE_E_NETWORK, "HTTP 500: model requires more system memory", "" },
        { "huge counts", JSON("{\"done\":true,\"eval_count\":1e300,\"message\":7,\"eval_duration\":-5}"), WE_OK, "",
          "" },
    };
    check_failures("ollama://m@127.0.0.1:%d", cases, WE_COUNT(cases) - 1);
    talk t = { 0 };
    talk_begin(&t, "ollama://m@127.0.0.1:%d", &cases[WE_COUNT(cases) - 1].answer, 1, 0);
    CHECK_OK(talk_ask(&t), &t.err);
    assert_int_equal(t.reply.result.n_tokens, 0);
    talk_end(&t);
}

TEST(backend_a_missing_model_is_told_with_its_neighbours)
{
    talk t = { 0 };
    const char *const answers[] = {
        HTTP_ANSWER("404 Not Found", "application/json", "{\"error\":\"model 'lama3.2' not found\"}"),
        JSON("{\"version\":\"0.12.3\"}"),
        JSON("{\"models\":[{\"name\":\"llama3.2:latest\",\"size\":7},{\"name\":\"phi4:14b\"}]}"),
        JSON("{\"models\":[]}"),
    };
    talk_begin(&t, "ollama://lama3.2@127.0.0.1:%d", answers, WE_COUNT(answers), 0);
    CHECK_STATUS(talk_ask(&t), WE_E_NOT_FOUND, &t.err);
    EXPECT_MESSAGE(&t.err,
                   "has no model \"lama3.2\"; did you mean \"llama3.2:latest\"?; `ollama pull lama3.2` fetches it");
    talk_end(&t);
}

TEST(backend_nothing_listens)
{
    talk t = { 0 };
    talk_begin(&t, "ollama://m@127.0.0.1:1", NULL, 0, 0);
    CHECK_STATUS(talk_ask(&t), WE_E_NETWORK, &t.err);
    EXPECT_MESSAGE(&t.err, "Ollama does not answer at http://127.0.0.1:1: start it with `ollama serve`");
    assert_true(t.reply.may_pass);
    talk_end(&t);
}

TEST(backend_takes_the_loaded_model_where_none_is_named_and_stays_with_it)
{
    talk t = { 0 };
    const char *const answers[] = { JSON("{\"version\":\"1\"}"),
                                    JSON("{\"models\":[{\"name\":\"a\"},{\"name\":\"b\"}]}"),
                                    JSON("{\"models\":[{\"name\":\"b\"}]}"), JSON("{\"done\":true}"),
                                    JSON("{\"done\":true}") };
    talk_begin(&t, "ollama://@127.0.0.1:%d", answers, WE_COUNT(answers), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(talk_ask(&t), &t.err);
        assert_string_equal(t.reply.model, "b");
        we_backend_reply_deinit(&t.reply);
    }
    talk_end(&t);
}

TEST(backend_a_refusal_that_is_not_about_the_model_is_told_as_it_is)
{
    talk t = { 0 };
    const char *const answers[] = { HTTP_ANSWER("404 Not Found", "text/plain", "404 page not found"),
                                    HTTP_ANSWER("404 Not Found", "text/plain", "404 page not found") };
    talk_begin(&t, "http://127.0.0.1:%d/api#m", answers, 2, 0);
    CHECK_STATUS(talk_ask(&t), WE_E_NOT_FOUND, &t.err);
    EXPECT_MESSAGE(&t.err, "refused the request (HTTP 404: 404 page not found)");
    talk_end(&t);
}

/* ---- Ollama ---- */

TEST(backend_ollama_streams_and_gives_its_figures)
{
    talk t = { 0 };
    const char *const answers[] = { JSON(
        "\r\n{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\"},\"done\":false}\n"
        "{\"message\":{\"content\":\"Hel\"},\"done\":false}\r\n{\"message\":{\"content\":\"lo\xC3\"},\"done\":false}\n"
        "{\"message\":{\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1.0]}}}]},\"done\":false}\n"
        "{\"done\":true,\"done_reason\":\"length\",\"load_duration\":2000000000,\"prompt_eval_count\":26,"
        "\"prompt_eval_duration\":500000000,\"eval_count\":4,\"eval_duration\":1000000000}\n") };
    talk_begin(&t, "ollama://m@127.0.0.1:%d", answers, 1, 1);
    CHECK_OK(talk_ask(&t), &t.err);
    assert_string_equal(t.reply.result.text, "Hello\xEF\xBF\xBD");
    assert_string_equal(t.reply.reasoning, "hm");
    assert_string_equal(
        t.reply.tool_calls,
        "[{\"id\":\"call_0\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1.0]}\"}}]");
    assert_int_equal(t.reply.result.finish, WE_FINISH_LENGTH);
    assert_int_equal(t.reply.result.n_prompt_tokens, 26);
    assert_int_equal(t.reply.result.n_tokens, 4);
    assert_true(fabs(t.reply.result.decode_s - 1) < 1e-9 && fabs(t.reply.result.prefill_s - 0.5) < 1e-9);
    assert_true(fabs(t.reply.load_s - 2) < 1e-9);
    talk_end(&t);
}

TEST(backend_ollama_gets_options_and_messages_in_its_own_shape)
{
    static const struct {
        const char *messages, *part; /* of the request */
        we_status status;
    } cases[] = {
        { "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"},"
          "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,QUJD\"}}]}]",
          "\"messages\":[{\"role\":\"user\",\"content\":\"ab\",\"images\":[\"QUJD\"]}]", WE_OK },
        { "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
          "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}}]},{\"role\":\"tool\",\"name\":\"f\",\"content\":\"2\"}]",
          "\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},"
          "{\"role\":\"tool\",\"tool_name\":\"f\",\"content\":\"2\"}]",
          WE_OK },
        { "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"http://x/y\"}}]}]", NULL,
          WE_E_UNSUPPORTED },
        { "[{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}}]}]", NULL, WE_E_ARG },
        { "{}", NULL, WE_E_ARG },
        { "[", NULL, WE_E_ARG },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        talk t = { 0 };
        const char *const answers[] = { JSON("{\"done\":true}") };
        static const char *const stop[] = { "\n" };
        we_conversation c = WE_CONVERSATION_INIT;
        we_generate_options o = WE_GENERATE_OPTIONS_INIT;
        c.messages_json = cases[i].messages;
        c.variables_json = "{\"enable_thinking\": false}";
        o.temperature = 0.7F;
        o.top_k = 40;
        o.seed = 0x8000000FF;
        o.max_tokens = 9;
        o.stop = stop;
        o.n_stop = 1;
        talk_begin(&t, "ollama://m@127.0.0.1:%d", answers, 1, 0);
        const we_status st =
            we_backend_answer(t.backend, &(we_backend_ask){ .conversation = &c, .options = &o }, &t.reply, &t.err);
        if (cases[i].part) {
            CHECK_OK(st, &t.err);
            assert_non_null(strstr(t.server.asked.ptr, cases[i].part));
            assert_non_null(strstr(t.server.asked.ptr,
                                   "\"think\":false,\"options\":{\"num_predict\":9,\"temperature\":0.7,\"top_k\":40,"
                                   "\"seed\":255,\"stop\":[\"\\n\"]}"));
        } else {
            CHECK_STATUS(st, cases[i].status, &t.err);
            shutdown(t.server.fd, SHUT_RDWR);
        }
        talk_end(&t);
    }
}

/* ---- LM Studio ---- */

#define UNEXPECTED JSON("{\"error\":\"Unexpected endpoint or method. (GET /x). Returning 200 anyway\"}")
static const char v1_models[] =
    JSON("{\"models\":[{\"type\":\"llm\",\"key\":\"m\",\"size_bytes\":7,\"max_context_length\":4096,"
         "\"loaded_instances\":[{\"id\":\"m\"},{\"id\":\"m:2\"}]},"
         "{\"type\":\"llm\",\"key\":\"idle\",\"loaded_instances\":[]},{\"type\":\"embedding\",\"key\":\"e\"}]}");
static const char v1_chat[] = SSE(
    "event: chat.start\ndata: {\"type\":\"chat.start\",\"model_instance_id\":\"m\"}\n\n"
    "event: reasoning.delta\ndata: {\"type\":\"reasoning.delta\",\"content\":\"hm\"}\n\n"
    "event: message.delta\ndata: {\"type\":\"message.delta\",\"content\":\"Hi\"}\n\n"
    "event: chat.end\ndata: {\"type\":\"chat.end\",\"result\":{\"stats\":{\"input_tokens\":5,\"total_output_tokens\":20,"
    "\"tokens_per_second\":10,\"time_to_first_token_seconds\":0.5,\"model_load_time_seconds\":2}}}\n\n");

/* Ask with n messages: user; system, user; user, assistant, user. */
static we_status studio_ask(talk *t, size_t n)
{
    static const we_message turns[][3] = { { { "user", "Hello" } },
                                           { { "system", "Be kind" }, { "user", "Hello" } },
                                           { { "user", "Hello" }, { "assistant", "Yes?" }, { "user", "Bye" } } };
    we_conversation c = WE_CONVERSATION_INIT;
    c.messages = turns[n - 1];
    c.n_messages = n;
    return we_backend_answer(t->backend, &(we_backend_ask){ .conversation = &c }, &t->reply, &t->err);
}

TEST(backend_lmstudio_asks_its_own_chat_for_a_first_turn)
{
    talk t = { 0 };
    const char *const answers[] = { v1_models, v1_chat };
    talk_begin(&t, "lmstudio://m@127.0.0.1:%d", answers, 2, 1);
    CHECK_OK(studio_ask(&t, 2), &t.err);
    assert_non_null(strstr(t.server.asked.ptr, "POST /api/v1/chat HTTP"));
    assert_non_null(strstr(t.server.asked.ptr,
                           "{\"model\":\"m\",\"input\":\"Hello\",\"system_prompt\":\"Be kind\",\"stream\":true,"
                           "\"store\":false}"));
    assert_string_equal(t.reply.result.text, "Hi");
    assert_string_equal(t.reply.reasoning, "hm");
    assert_int_equal(t.reply.result.n_prompt_tokens, 5);
    assert_int_equal(t.reply.result.n_tokens, 20);
    assert_true(fabs(t.reply.result.first_token_s - 0.5) < 1e-9 && fabs(t.reply.result.decode_s - 2) < 1e-9);
    assert_true(fabs(t.reply.load_s - 2) < 1e-9);
    talk_end(&t);
}

TEST(backend_lmstudio_falls_back_to_the_interface_that_is_there)
{
    static const char v0_models[] = JSON("{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"state\":\"loaded\"}]}");
    static const struct {
        const char *answers[4];
        size_t n, messages;
        const char *path; /* that answered */
    } cases[] = {
        { { v1_models, stream }, 2, 3, "POST /api/v0/chat/completions HTTP" },
        { { v1_models, UNEXPECTED, stream }, 3, 3, "POST /v1/chat/completions HTTP" },
        { { v1_models, UNEXPECTED, stream }, 3, 1, "POST /api/v0/chat/completions HTTP" },
        { { UNEXPECTED, v0_models, stream }, 3, 1, "POST /api/v0/chat/completions HTTP" },
        { { UNEXPECTED, UNEXPECTED, v0_models, stream }, 4, 1, "POST /v1/chat/completions HTTP" },
        { { HTTP_ANSWER("404 Not Found", "text/plain", ""), HTTP_ANSWER("404 Not Found", "text/plain", ""), v0_models,
            stream },
          4,
          1,
          "POST /v1/chat/completions HTTP" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        talk t = { 0 };
        talk_begin(&t, "lmstudio://m@127.0.0.1:%d", cases[i].answers, cases[i].n, 0);
        CHECK_OK(studio_ask(&t, cases[i].messages), &t.err);
        assert_true(t.reply.result.len > 0);
        assert_non_null(strstr(t.server.asked.ptr, cases[i].path));
        talk_end(&t);
    }
}

TEST(backend_lmstudio_loads_once_and_unloads_all)
{
    talk t = { 0 };
    const char *const idle[] = { v1_models, JSON("{\"type\":\"llm\",\"instance_id\":\"idle\",\"status\":\"loaded\"}") };
    talk_begin(&t, "lmstudio://idle@127.0.0.1:%d", idle, 2, 0);
    CHECK_OK(we_backend_load(t.backend, &t.err), &t.err);
    assert_non_null(strstr(t.server.asked.ptr, "POST /api/v1/models/load HTTP"));
    assert_non_null(strstr(t.server.asked.ptr, "{\"model\":\"idle\"}"));
    talk_end(&t);

    const char *const loaded[] = { v1_models, v1_models, JSON("{\"instance_id\":\"m\"}"),
                                   JSON("{\"instance_id\":\"m:2\"}") };
    talk_begin(&t, "lmstudio://m@127.0.0.1:%d", loaded, 4, 0);
    CHECK_OK(we_backend_load(t.backend, &t.err),
             &t.err); /* it is there: a second instance would take its memory again */
    CHECK_OK(we_backend_unload(t.backend, &t.err), &t.err);
    assert_null(strstr(t.server.asked.ptr, "/load HTTP"));
    assert_non_null(strstr(t.server.asked.ptr, "{\"instance_id\":\"m\"}"));
    assert_non_null(strstr(t.server.asked.ptr, "{\"instance_id\":\"m:2\"}"));
    talk_end(&t);

    const char *const missing[] = { v1_models,
                                    HTTP_ANSWER(
                                        "400 Bad Request", "application/json",
                                        "{\"error\":{\"type\":\"model_not_found\",\"message\":\"no such model\"}}"),
                                    v1_models };
    talk_begin(&t, "lmstudio://idl@127.0.0.1:%d", missing, 3, 0);
    CHECK_STATUS(we_backend_load(t.backend, &t.err), WE_E_NOT_FOUND, &t.err);
    EXPECT_MESSAGE(&t.err, "has no model \"idl\"; did you mean \"idle\"");
    talk_end(&t);
}

/* ---- Stopping ---- */

TEST(backend_a_callback_stops_an_answer)
{
    talk t = { .stop_after = 3 };
    const char *const answers[] = { stream };
    talk_begin(&t, "http://127.0.0.1:%d/v1#m", answers, 1, 1);
    CHECK_OK(talk_ask(&t), &t.err);
    assert_int_equal(t.reply.result.finish, WE_FINISH_CANCELLED);
    CHECK_STR(we_buf_str(&t.seen), "Gr\xC3\xBC\xC3\x9F");
    talk_end(&t);
}

typedef struct canceller {
    we_backend *backend;
    atomic_bool done;
} canceller;

static void *keep_cancelling(void *arg)
{
    canceller *c = arg;
    while (!atomic_load(&c->done)) { /* one that comes before the call does not count */
        usleep(10000);
        we_backend_cancel(c->backend);
    }
    return NULL;
}

TEST(backend_is_cancelled_while_nothing_comes)
{
    static const char *const urls[] = { "http://127.0.0.1:%d/v1#m", "ollama://m@127.0.0.1:%d" };
    for (size_t i = 0; i < WE_COUNT(urls); i++) {
        talk t = { .server.hang = true };
        pthread_t thread;
        const char *const answers[] = { "HTTP/1.1 200 OK\r\n\r\n" };
        talk_begin(&t, urls[i], answers, 1, 0);
        canceller c = { .backend = t.backend };
        assert_int_equal(pthread_create(&thread, NULL, keep_cancelling, &c), 0);
        CHECK_OK(talk_ask(&t), &t.err);
        atomic_store(&c.done, true);
        assert_int_equal(t.reply.result.finish, WE_FINISH_CANCELLED);
        pthread_join(thread, NULL);
        talk_end(&t);
    }
}

TEST(backend_waits_while_a_model_loads)
{
    talk t = { 0 };
    const char *const answers[] = {
        HTTP_ANSWER("503 Loading", "application/json", "{\"error\":{\"message\":\"Loading model\"}}"), stream
    };
    talk_begin(&t, "http://127.0.0.1:%d/v1#m", answers, 2, 0);
    CHECK_OK(talk_ask(&t), &t.err);
    assert_true(t.reply.result.len > 0);
    talk_end(&t);
}

TEST(backend_continuing_is_refused_where_it_is_not_possible)
{
    talk t = { 0 };
    we_conversation c = WE_CONVERSATION_INIT;
    c.messages = hello;
    c.n_messages = 1;
    c.continue_final_message = true;
    talk_begin(&t, "http://127.0.0.1:%d/v1#m", NULL, 0, 0);
    assert_false(we_backend_can_continue(t.backend));
    CHECK_STATUS(we_backend_answer(t.backend, &(we_backend_ask){ .conversation = &c }, &t.reply, &t.err),
                 WE_E_UNSUPPORTED, &t.err);
    talk_end(&t);
}

TEST(backend_answers_survive_failing_allocations)
{
    static const char *const urls[] = { "http://127.0.0.1:%d/v1#m", "ollama://m@127.0.0.1:%d" };
    static const char *const whole[] = {
        stream,
        JSON(
            "{\"message\":{\"content\":\"Hel\",\"thinking\":\"hm\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]},"
            "\"done\":true}\n")
    };
    for (size_t i = 0; i < WE_COUNT(urls); i++) {
        we_status st = WE_E_NOMEM;
        EACH_ALLOCATION_FAILING(st == WE_OK)
        {
            talk t = { 0 };
            char url[64];
            we_backend_target target;
            we_conversation c = WE_CONVERSATION_INIT;
            c.messages = hello;
            c.n_messages = 1;
            we_buf_reserve(&t.server.asked, 8192);
            http_server_start(&t.server, &whole[i], 1);
            snprintf(url, sizeof url, urls[i], t.server.port);
            st = we_backend_target_parse(&target, url, &t.err);
            if (!st) st = we_backend_open(&t.backend, &target, NULL, &t.err);
            if (!st) st = we_backend_answer(t.backend, &(we_backend_ask){ .conversation = &c }, &t.reply, &t.err);
            assert_true(st == WE_OK || st == WE_E_NOMEM);
            if (st) shutdown(t.server.fd, SHUT_RDWR);
            we_backend_target_deinit(&target);
            talk_end(&t);
        }
    }
}

/* ---- The engine ---- */

TEST(backend_mlx_answers_and_unloads)
{
    we_backend_target target;
    we_backend *b;
    we_backend_reply reply;
    we_backend_report report;
    we_error err;
    const we_engine_options engine = { sizeof engine, NULL, NULL, 1, 0 };
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

/* ---- Detection ---- */

TEST(backend_detection_gives_the_whole_chain)
{
    we_backends *list;
    we_error err;
    setenv("OLLAMA_HOST", "127.0.0.1:1", 1);
    setenv("LMSTUDIO_HOST", "127.0.0.1:1", 1);
    CHECK_OK(we_backends_detect(&list, NULL, &err), &err);
    assert_int_equal(we_backends_count(list), 5);
    assert_int_equal(we_backends_optimal(list), 0);
    for (size_t i = 0; i < we_backends_count(list); i++) {
        we_backend_info info = { .size = sizeof info };
        CHECK_OK(we_backends_get(list, i, &info, &err), &err);
        assert_int_equal(info.size, sizeof info);
        assert_int_equal(info.priority, i + 1);
        assert_true(info.id[0] && info.name[0] && info.description[0] && info.reason[0]);
        if (i < 3) assert_int_equal(info.available, i == 0); /* a Python beside may well have the others */
    }
    we_backend_info info = { .size = sizeof info };
    CHECK_STATUS(we_backends_get(list, 5, &info, &err), WE_E_RANGE, &err);
    info.size = 0;
    CHECK_STATUS(we_backends_get(list, 0, &info, &err), WE_E_ARG, &err);
    we_backends_close(list);
    const we_backends_options options = { sizeof options, -1 };
    CHECK_STATUS(we_backends_detect(&list, &options, &err), WE_E_RANGE, &err);
    assert_null(list);
}

TEST(backend_detection_survives_failing_allocations)
{
    we_status st = WE_E_NOMEM;
    we_error err;
    setenv("OLLAMA_HOST", "127.0.0.1:1", 1);
    setenv("LMSTUDIO_HOST", "127.0.0.1:1", 1);
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_backends *list;
        st = we_backends_detect(&list, NULL, &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
        assert_true((st == WE_OK) == (list != NULL));
        we_backends_close(list);
    }
}
