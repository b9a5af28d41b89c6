/* SPDX-License-Identifier: Apache-2.0
 * test_api.c - the public header as a program uses it, on the built-in model: chat, streaming, stop texts, seeds, tasks,
 * cancelling from another thread, and what is refused. */
#include "support.h"
#include "whisperengine.h"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

typedef struct bed {
    we_engine *engine;
    we_model *model;
    we_session *session;
} bed;

static bed open_bed(void)
{
    bed b;
    we_error err;
    char *path;
    const we_engine_options engine = { sizeof engine, NULL, NULL, 2, 0 };
    CHECK_OK(we_engine_open(&b.engine, &engine, &err), &err);
    CHECK_OK(we_model_find("default", &path, &err), &err);
    CHECK_OK(we_model_open(&b.model, b.engine, path, NULL, &err), &err);
    CHECK_OK(we_session_open(&b.session, b.model, &err), &err);
    we_free(path);
    return b;
}

static void close_bed(bed *b)
{
    we_session_close(b->session);
    we_model_close(b->model);
    we_engine_close(b->engine);
}

static const we_message hello[] = { { "user", "Hello! What is WhisperEngine?" } };

static we_conversation conversation(const we_message *messages, size_t n)
{
    we_conversation c = WE_CONVERSATION_INIT;
    c.messages = messages;
    c.n_messages = n;
    return c;
}

static bool collect(void *user, const char *text, size_t len, int32_t token)
{
    (void)token;
    assert_int_equal(text[len], 0);
    assert_int_equal(we_utf8_valid((we_str){ text, len }), len);
    we_buf_append(user, text, len);
    return true;
}

TEST(api_chat_streams_the_answer_that_it_returns)
{
    bed b = open_bed();
    we_error err;
    we_buf seen = { 0 };
    we_result r = { .size = sizeof r };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    const we_conversation c = conversation(hello, 1);
    o.max_tokens = 40;
    o.on_piece = collect;
    o.user = &seen;
    CHECK_OK(we_session_chat(b.session, &c, &o, &r, &err), &err);
    assert_true(r.len > 0 && r.n_tokens > 0 && r.n_tokens <= 40);
    assert_int_equal(r.len, seen.len);
    assert_memory_equal(r.text, seen.ptr, r.len);
    assert_true(r.finish == WE_FINISH_EOS || r.finish == WE_FINISH_LENGTH);
    assert_true(r.n_prompt_tokens > 5 && r.n_cached_tokens == 0);
    assert_true(r.prefill_s > 0 && r.first_token_s >= r.prefill_s && r.decode_s > 0);

    we_session_info info = { .size = sizeof info };
    we_session_get_info(b.session, &info);
    assert_true(info.n_tokens >= r.n_prompt_tokens && info.n_tokens <= info.context && info.kv_bytes > 0);
    we_result_deinit(&r);
    we_buf_deinit(&seen);
    close_bed(&b);
}

TEST(api_a_result_of_an_older_version_is_not_written_beyond_its_size)
{
    we_result r;
    memset(&r, 0xEE, sizeof r);
    r.size = offsetof(we_result, decode_s); /* a program built before that field was added */
    r.text = NULL;
    r.tokens = NULL;
    we_result_deinit(&r);
    assert_int_equal(r.size, offsetof(we_result, decode_s));
    assert_int_equal(r.len, 0);
    assert_int_equal(((const unsigned char *)&r)[r.size], 0xEE);
    assert_int_equal(((const unsigned char *)&r)[sizeof r - 1], 0xEE);
}

TEST(api_the_next_turn_computes_only_what_is_new)
{
    bed b = open_bed();
    we_error err;
    we_result first = { .size = sizeof first }, second = { .size = sizeof second };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    o.max_tokens = 60;
    we_conversation c = conversation(hello, 1);
    CHECK_OK(we_session_chat(b.session, &c, &o, &first, &err), &err);
    const we_message more[] = { hello[0], { "assistant", first.text }, { "user", "How do I convert a model?" } };
    c = conversation(more, 3);
    CHECK_OK(we_session_chat(b.session, &c, &o, &second, &err), &err);
    assert_true(second.n_cached_tokens >= first.n_prompt_tokens);
    assert_true(second.n_cached_tokens < second.n_prompt_tokens);
    we_result_deinit(&first);
    we_result_deinit(&second);
    close_bed(&b);
}

TEST(api_an_answer_can_be_continued)
{
    bed b = open_bed();
    we_error err;
    we_result whole = { .size = sizeof whole }, rest = { .size = sizeof rest };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    o.max_tokens = 40;
    we_conversation c = conversation(hello, 1);
    CHECK_OK(we_session_chat(b.session, &c, &o, &whole, &err), &err);
    char *half = we_strdup(whole.text);
    size_t cut = whole.len / 2;
    while (half[cut] && half[cut] != ' ') cut++;
    half[cut] = 0;
    const we_message more[] = { hello[0], { "assistant", half } };
    c = conversation(more, 2);
    c.continue_final_message = true;
    o.max_tokens = 5;
    CHECK_OK(we_session_chat(b.session, &c, &o, &rest, &err), &err);
    assert_true(rest.len > 0 && rest.n_cached_tokens > 0);
    assert_memory_equal(rest.text, whole.text + cut, rest.len);
    we_result_deinit(&rest);

    /* the same from a thread of its own; the field's name is copied */
    char field[] = "content";
    we_task *task;
    const we_result *later;
    c.continue_field = field;
    CHECK_OK(we_session_chat_async(&task, b.session, &c, &o, &err), &err);
    memset(field, 'x', sizeof field - 1);
    CHECK_OK(we_task_wait(task, -1, NULL, &later, &err), &err);
    assert_memory_equal(later->text, whole.text + cut, later->len);
    we_task_close(task);
    CHECK_STATUS(we_session_chat(b.session, &c, &o, NULL, &err), WE_E_TEMPLATE, &err);
    EXPECT_MESSAGE(&err, "no \"xxxxxxx\"");
    we_result_deinit(&whole);
    we_free(half);
    close_bed(&b);
}

TEST(api_a_program_of_an_older_header_keeps_working)
{
    bed b = open_bed();
    we_error err;
    char *text;
    size_t len;
    we_conversation c = conversation(hello, 1);
    memset(&c.documents_json, 0x55,
           sizeof c - offsetof(we_conversation, documents_json)); /* what lies behind its struct */
    c.size = offsetof(we_conversation, documents_json);
    CHECK_OK(we_template_render(we_model_tokenizer(b.model), &c, &text, &len, &err), &err);
    assert_true(len > 0);
    we_free(text);
    close_bed(&b);
}

TEST(api_the_same_seed_gives_the_same_answer)
{
    bed b = open_bed();
    we_error err;
    we_result r[3] = { { .size = sizeof r[0] }, { .size = sizeof r[0] }, { .size = sizeof r[0] } };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    const we_conversation c = conversation(hello, 1);
    o.max_tokens = 60;
    o.temperature = 2;
    for (int i = 0; i < 3; i++) {
        o.seed = i < 2 ? 7 : 8;
        we_session_reset(b.session);
        CHECK_OK(we_session_chat(b.session, &c, &o, &r[i], &err), &err);
    }
    assert_int_equal(r[0].n_tokens, r[1].n_tokens);
    assert_memory_equal(r[0].tokens, r[1].tokens, r[0].n_tokens * sizeof(int32_t));
    const size_t shared = WE_MIN(r[0].n_tokens, r[2].n_tokens);
    assert_true(r[0].n_tokens != r[2].n_tokens || memcmp(r[0].tokens, r[2].tokens, shared * sizeof(int32_t)) != 0);
    for (int i = 0; i < 3; i++) we_result_deinit(&r[i]);
    close_bed(&b);
}

TEST(api_stop_texts_end_the_answer_and_do_not_leak)
{
    bed b = open_bed();
    we_error err;
    we_result whole = { .size = sizeof whole }, cut = { .size = sizeof cut };
    we_buf seen = { 0 };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    const we_conversation c = conversation(hello, 1);
    o.max_tokens = 60;
    CHECK_OK(we_session_chat(b.session, &c, &o, &whole, &err), &err);
    assert_true(whole.len > 20);

    char stop[8]; /* from the middle of the answer: it begins and ends inside of tokens */
    snprintf(stop, sizeof stop, "%.5s", whole.text + 9);
    const char *const stops[] = { "\x01never", stop };
    o.stop = stops;
    o.n_stop = 2;
    o.on_piece = collect;
    o.user = &seen;
    CHECK_OK(we_session_chat(b.session, &c, &o, &cut, &err), &err);
    assert_int_equal(cut.finish, WE_FINISH_STOP);
    assert_null(strstr(cut.text, stop));
    assert_memory_equal(cut.text, whole.text, cut.len);
    assert_int_equal(cut.len, strstr(whole.text, stop) - whole.text);
    assert_int_equal(seen.len, cut.len);
    we_result_deinit(&whole);
    we_result_deinit(&cut);
    we_buf_deinit(&seen);
    close_bed(&b);
}

static void *cancel_soon(void *session)
{
    usleep(30000);
    we_session_cancel(session);
    return NULL;
}

TEST(api_an_answer_is_cancelled_from_another_thread)
{
    bed b = open_bed();
    we_error err;
    pthread_t thread;
    we_result r = { .size = sizeof r };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    const int32_t token = 5;
    o.ignore_eos = true; /* to the end of the context, which takes longer than the other thread's sleep */
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, b.session), 0);
    CHECK_OK(we_session_generate(b.session, &token, 1, &o, &r, &err), &err);
    pthread_join(thread, NULL);
    assert_true(r.finish == WE_FINISH_CANCELLED || r.finish == WE_FINISH_LENGTH);
    we_result_deinit(&r);
    close_bed(&b);
}

static bool refuse(void *user, const char *text, size_t len, int32_t token)
{
    (void)text, (void)len, (void)token;
    return ++*(int *)user < 3;
}

TEST(api_a_callback_that_returns_false_stops_the_answer)
{
    bed b = open_bed();
    we_error err;
    int calls = 0;
    we_result r = { .size = sizeof r };
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    const we_conversation c = conversation(hello, 1);
    const char *const stops[] = { "\x01never" }; /* holds text back, which must not come after the refusal either */
    o.stop = stops;
    o.n_stop = 1;
    o.on_piece = refuse;
    o.user = &calls;
    CHECK_OK(we_session_chat(b.session, &c, &o, &r, &err), &err);
    assert_int_equal(r.finish, WE_FINISH_CANCELLED);
    assert_int_equal(calls, 3);
    we_result_deinit(&r);
    close_bed(&b);
}

TEST(api_tasks_run_beside_their_caller)
{
    bed b = open_bed();
    we_error err;
    we_task *task, *second;
    bool done = false;
    const we_result *r = NULL;
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    o.max_tokens = 30;
    {
        char text[64] = "Hello there."; /* copied: gone before the task ends */
        const we_message m[] = { { "user", text } };
        const we_conversation c = conversation(m, 1);
        CHECK_OK(we_session_chat_async(&task, b.session, &c, &o, &err), &err);
        memset(text, 'x', sizeof text - 1);
    }
    const we_status busy =
        we_session_chat_async(&second, b.session, &(we_conversation){ .size = sizeof(we_conversation) }, &o, &err);
    if (busy == WE_E_BUSY)
        assert_null(second);
    else
        we_task_close(second); /* the first was done already */
    we_task_wait(task, -1, &done, &r, &err);
    assert_true(done);
    assert_non_null(r);
    assert_true(r->len > 0);
    we_task_close(task);

    o.max_tokens = 0;
    o.ignore_eos = true;
    const int32_t token = 5;
    CHECK_OK(we_session_generate_async(&task, b.session, &token, 1, &o, &err), &err);
    we_task_close(task); /* cancels */
    CHECK_OK(we_session_generate(b.session, &token, 1, &(we_generate_options){ .size = sizeof o, .max_tokens = 1 },
                                 NULL, &err),
             &err);
    close_bed(&b);
}

TEST(api_nonsense_is_refused_by_name)
{
    bed b = open_bed();
    we_error err;
    const int32_t token = 5;
    static const struct {
        we_generate_options o;
        const char *message;
    } cases[] = {
        { { .size = sizeof(we_generate_options), .temperature = -1 }, "temperature" },
        { { .size = sizeof(we_generate_options), .top_p = 1.5F }, "top_p" },
        { { .size = sizeof(we_generate_options), .min_p = -0.1F }, "min_p" },
        { { .size = sizeof(we_generate_options), .top_k = -3 }, "top_k" },
        { { .size = sizeof(we_generate_options), .repetition_penalty = -2 }, "repetition_penalty" },
        { { .size = sizeof(we_generate_options), .max_tokens = -1 }, "max_tokens" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        CHECK_STATUS(we_session_generate(b.session, &token, 1, &cases[i].o, NULL, &err), WE_E_RANGE, &err);
        EXPECT_MESSAGE(&err, cases[i].message);
    }
    CHECK_STATUS(we_session_generate(b.session, &token, 0, NULL, NULL, &err), WE_E_RANGE, &err);
    CHECK_STATUS(we_session_chat(b.session, &(we_conversation){ .size = sizeof(we_conversation), .messages_json = "{" },
                                 NULL, NULL, &err),
                 WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "messages");
    close_bed(&b);
}

TEST(api_a_result_can_be_freed_after_any_failure)
{
    bed b = open_bed();
    we_error err;
    we_result r;
    memset(&r, 0xAA, sizeof r); /* as a caller's stack may look */
    r.size = sizeof r;
    const we_conversation broken = { .size = sizeof broken, .messages_json = "not json" };
    CHECK_STATUS(we_session_chat(b.session, &broken, NULL, &r, &err), WE_E_ARG, &err);
    we_result_deinit(&r);
    close_bed(&b);
}

TEST(api_structs_without_a_size_are_refused)
{
    bed b = open_bed();
    we_error err;
    const int32_t token = 5;
    we_generate_options o = { .max_tokens = 3 };
    we_result r = { .size = 0 };
    CHECK_STATUS(we_session_generate(b.session, &token, 1, &o, NULL, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "WE_GENERATE_OPTIONS_INIT");
    CHECK_STATUS(we_session_generate(b.session, &token, 1, NULL, &r, &err), WE_E_ARG, &err);
    close_bed(&b);
}

TEST(api_a_bad_id_leaves_the_session_as_it_was)
{
    bed b = open_bed();
    we_error err;
    we_generate_options o = WE_GENERATE_OPTIONS_INIT;
    int32_t tokens[40];
    for (int i = 0; i < 40; i++) tokens[i] = 5 + i;
    o.max_tokens = 1;
    CHECK_OK(we_session_generate(b.session, tokens, 40, &o, NULL, &err), &err);
    tokens[5] = -7;
    CHECK_STATUS(we_session_generate(b.session, tokens, 40, &o, NULL, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "token id -7");
    we_session_info info = { .size = sizeof info };
    we_session_get_info(b.session, &info);
    assert_int_equal(info.n_tokens, 40);
    close_bed(&b);
}

TEST(api_names_that_lead_nowhere_say_what_to_do)
{
    we_error err;
    char *path;
    CHECK_STATUS(we_model_find("no-such-model", &path, &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "Model path does not exist: ");
    EXPECT_MESSAGE(&err, "/mlx/no-such-model");
    EXPECT_MESSAGE(&err, "whisperengine list");
    assert_null(path);
    CHECK_STATUS(we_model_find("ollama://llama3", &path, &err), WE_E_UNSUPPORTED, &err);
    CHECK_STATUS(we_model_find("", &path, &err), WE_E_ARG, &err);
}

TEST(api_limits_are_this_machine_s)
{
    bed b = open_bed();
    we_error err;
    we_limits limits = { .size = sizeof limits };
    CHECK_OK(we_bench_limits(b.model, &limits, &err), &err);
    assert_true(limits.multiply_adds_per_second > 1e5 && limits.multiply_adds_per_second < 1e17);
    assert_true(limits.memory_bytes_per_second > 1e6 && limits.memory_bytes_per_second < 1e14);
    we_model_info info = { .size = sizeof info };
    we_model_get_info(b.model, &info);
    assert_true(info.multiply_adds_per_token > 0 && info.multiply_adds_per_token < info.n_parameters);
    close_bed(&b);
}

TEST(api_an_old_program_with_smaller_structs_still_works)
{
    bed b = open_bed();
    we_model_info info = { .size = offsetof(we_model_info, n_parameters), .n_parameters = 12345 };
    we_model_get_info(b.model, &info);
    assert_string_equal(info.model_type, "llama");
    assert_int_equal(info.n_parameters, 12345); /* beyond what it said it has room for */
    assert_int_equal(info.size, offsetof(we_model_info, n_parameters));
    close_bed(&b);
}
