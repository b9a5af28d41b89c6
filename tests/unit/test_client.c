/* SPDX-License-Identifier: Apache-2.0
 * test_client.c - client: the public interface over servers of our own: an answer as OpenAI's shape, tasks, failing over. What
 * real stand-ins do is in tests/e2e/test_failover.py. */
#include "http_server.h"
#include <unistd.h>

#define SSE(body) HTTP_ANSWER("200 OK", "text/event-stream", body)

static const char whole[] =
    SSE("data: {\"choices\":[{\"delta\":{\"content\":\"Hi <|im_\"}}]}\n\n"
        "data: {\"choices\":[{\"delta\":{\"content\":\"end|>you\"},\"finish_reason\":\"stop\"}]}\n\n"
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\n");
static const char nothing[] = HTTP_ANSWER("200 OK", "text/html", "<h1>Welcome</h1>");

static const we_message hello[] = { { "user", "Hello" } };

static we_conversation greeting(void)
{
    we_conversation c = WE_CONVERSATION_INIT;
    c.messages = hello;
    c.n_messages = 1;
    return c;
}

static we_client *open_on(http_server *s, const char *const *answers, size_t n)
{
    char url[64];
    we_client *client;
    we_error err;
    we_client_options o = WE_CLIENT_OPTIONS_INIT;
    setenv("OLLAMA_HOST", "127.0.0.1:1", 1);
    setenv("LMSTUDIO_HOST", "127.0.0.1:1", 1);
    setenv("HOME", test_dir(), 1);
    http_server_start(s, answers, n);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1#m", s->port);
    o.no_failover = true;
    CHECK_OK(we_client_open(&client, url, &o, &err), &err);
    return client;
}

TEST(client_answers_in_openais_shape)
{
    http_server s = { 0 };
    const char *const answers[] = { whole };
    we_client *client = open_on(&s, answers, 1);
    const we_conversation c = greeting();
    we_client_result r = { .size = sizeof r };
    we_error err;
    char *json;
    CHECK_OK(we_client_chat(client, &c, NULL, &r, &err), &err);
    assert_string_equal(r.result.text, "Hi you");
    assert_string_equal(r.model, "m");
    assert_int_equal(r.kind, WE_BACKEND_OPENAI);
    CHECK_OK(we_client_result_json(&r, &json, &err), &err);
    assert_non_null(strstr(json, "\"object\":\"chat.completion\""));
    assert_non_null(
        strstr(json, "\"message\":{\"role\":\"assistant\",\"content\":\"Hi you\"},\"finish_reason\":\"stop\""));
    assert_non_null(strstr(json, "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3,\"total_tokens\":8}"));
    we_free(json);
    we_client_result_deinit(&r);
    http_server_stop(&s);
    we_client_close(client);
    http_server_deinit(&s);
}

TEST(client_results_of_other_versions_are_filled_as_far_as_they_go)
{
    enum { STEP = 8, N = sizeof(we_client_result) / STEP };
    http_server s = { 0 };
    const char *answers[N];
    for (size_t i = 0; i < N; i++) answers[i] = whole;
    we_client *client = open_on(&s, answers, N);
    const we_conversation c = greeting();
    union {
        we_client_result r;
        unsigned char bytes[sizeof(we_client_result) + STEP];
    } u;
    we_error err;
    for (size_t size = STEP; size <= sizeof u.r; size += STEP) {
        memset(&u, 0xA5, sizeof u);
        u.r.size = size;
        CHECK_OK(we_client_chat(client, &c, NULL, &u.r, &err), &err);
        assert_int_equal(u.r.size, size);
        if (size >= sizeof(we_client_result)) assert_string_equal(u.r.result.text, "Hi you");
        we_client_result_deinit(&u.r); /* the sanitizer finds what is left */
        for (size_t i = size; i < sizeof u; i++) assert_int_equal(u.bytes[i], 0xA5);
    }
    u.r.size = 0;
    CHECK_STATUS(we_client_chat(client, &c, NULL, &u.r, &err), WE_E_ARG, &err);
    http_server_stop(&s);
    we_client_close(client);
    http_server_deinit(&s);
}

TEST(client_tasks_end_and_are_cancelled)
{
    http_server s = { .hang = true };
    const char *const answers[] = { whole, SSE("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n") };
    we_client *client = open_on(&s, answers, 2);
    const we_conversation c = greeting();
    we_task *task;
    we_error err;
    bool done = false;
    CHECK_OK(we_client_chat_async(&task, client, &c, NULL, &err), &err);
    CHECK_OK(we_task_wait(task, -1, &done, NULL, &err), &err);
    assert_true(done);
    assert_string_equal(we_task_client_result(task)->result.text, "Hi you");
    we_task_close(task);
    CHECK_OK(we_client_generate_async(&task, client, "Once", NULL, &err), &err);
    we_task_close(task); /* whether it has begun or not */
    http_server_stop(&s);
    we_client_close(client);
    http_server_deinit(&s);
}

TEST(client_tells_what_went_wrong)
{
    http_server s = { 0 };
    const char *const answers[] = { nothing };
    we_client *client = open_on(&s, answers, 1), *other;
    const we_conversation c = greeting();
    we_client_result r = { .size = sizeof r };
    we_error err;
    CHECK_STATUS(we_client_chat(client, &c, NULL, &r, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "Welcome");
    we_client_result_deinit(&r);
    CHECK_STATUS(we_client_open(&other, "gopher://x", NULL, &err), WE_E_ARG, &err);
    setenv("MLX_TOP_P", "7", 1);
    CHECK_STATUS(we_client_chat(client, &c, NULL, NULL, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "MLX_TOP_P is '7' (environment): expected a number, 0 to 1");
    unsetenv("MLX_TOP_P");
    http_server_stop(&s);
    we_client_close(client);
    http_server_deinit(&s);
}
