/* SPDX-License-Identifier: Apache-2.0
 * test_template_chat.c - what happens to a conversation before its template sees it. */
#include "template_support.h"

typedef struct chat_case {
    we_arena arena;
    const we_json *context;
    we_error err;
} chat_case;

static const we_json *parsed(chat_case *c, const char *json)
{
    const we_json *out = NULL;
    if (json) CHECK_OK(we_json_parse(&c->arena, we_str_from(json), &out, &c->err), &c->err);
    return out;
}

static we_status build(chat_case *c, const char *messages, const char *tools, const char *variables)
{
    static const we_chat_special special[] = { { { "bos_token", 9 }, { "<s>", 3 } },
                                               { { "additional_special_tokens", 25 }, { "x", 1 } } };
    we_chat_input input = { parsed(c, messages), parsed(c, tools), parsed(c, variables), true };
    return we_chat_context(&c->arena, &input, special, WE_COUNT(special), &c->context, &c->err);
}

static void expect_context(const char *messages, const char *tools, const char *variables, const char *template,
                           const char *want)
{
    chat_case c = { 0 };
    we_template *t;
    we_buf out = { 0 };
    CHECK_OK(build(&c, messages, tools, variables), &c.err);
    CHECK_OK(we_template_parse(&t, we_str_from(template), &c.err), &c.err);
    CHECK_OK(we_template_run(t, c.context, NULL, NULL, &out, &c.err), &c.err);
    CHECK_STR(we_buf_str(&out), want);
    we_buf_deinit(&out);
    we_template_free(t);
    we_arena_deinit(&c.arena);
}

TEST(chat_context_has_defaults_and_special_tokens)
{
    expect_context(
        "[{\"role\":\"user\"}]", NULL, NULL,
        "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ bos_token }}{{ eos_token is defined }}"
        "{{ additional_special_tokens is defined }}",
        "TrueTrueTrue<s>FalseFalse");
    expect_context("[{\"role\":\"user\"}]", "[]", "{\"enable_thinking\":false,\"bos_token\":\"B\"}",
                   "{{ tools }}{{ enable_thinking }}{{ bos_token }}", "[]FalseB");
}

TEST(chat_context_drops_nulls)
{
    expect_context("[{\"role\":\"user\",\"content\":null,\"x\":{\"y\":null}}]", NULL, NULL, "{{ messages }}",
                   "[{'role': 'user', 'x': {'y': None}}]");
}

TEST(chat_context_gives_reasoning_all_its_names)
{
    expect_context("[{\"role\":\"a\",\"reasoning\":\"r\"}]", NULL, NULL, "{{ messages[0] }}",
                   "{'thinking': 'r', 'role': 'a', 'reasoning': 'r', 'reasoning_content': 'r'}");
    expect_context("[{\"role\":\"a\",\"reasoning_content\":\"c\",\"thinking\":\"t\",\"z\":1}]", NULL, NULL,
                   "{{ messages[0] }}", "{'thinking': 't', 'role': 'a', 'reasoning_content': 'c', 'z': 1}");
    expect_context("[{\"role\":\"a\",\"thinking\":null,\"reasoning_content\":\"c\"}]", NULL, NULL, "{{ messages[0] }}",
                   "{'thinking': 'c', 'role': 'a', 'reasoning_content': 'c'}");
}

TEST(chat_context_takes_the_last_of_repeated_keys)
{
    expect_context("[{\"a\":1,\"b\":2,\"a\":3}]", NULL, NULL, "{{ messages[0] }}", "{'a': 3, 'b': 2}");
}

TEST(chat_context_refuses_what_is_no_conversation)
{
    static const struct {
        const char *messages, *variables, *message;
    } cases[] = {
        { "[]", NULL, "no messages" },       { "{}", NULL, "expected an array" },
        { NULL, NULL, "expected an array" }, { "[1]", NULL, "message 0 is a number" },
        { "[{}]", "[1]", "variables" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        chat_case c = { 0 };
        CHECK_STATUS(build(&c, cases[i].messages, NULL, cases[i].variables), WE_E_TEMPLATE, &c.err);
        EXPECT_MESSAGE(&c.err, cases[i].message);
        we_arena_deinit(&c.arena);
    }
}

TEST(chat_context_survives_failing_allocations)
{
    chat_case c = { 0 };
    we_chat_input input = { parsed(&c, "[{\"role\":\"a\",\"reasoning\":\"r\"},{\"b\":[1]}]"), NULL, NULL, true };
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_arena arena = { 0 };
        const we_json *out;
        st = we_chat_context(&arena, &input, NULL, 0, &out, &c.err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
        we_arena_deinit(&arena);
    }
    we_arena_deinit(&c.arena);
}
