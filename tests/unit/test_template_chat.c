/* SPDX-License-Identifier: Apache-2.0
 * test_template_chat.c - what happens to a conversation before its template sees it. */
#include "template_support.h"

typedef struct chat_case {
    we_arena arena;
    we_chat_input input;
    const char *template;
    we_buf out;
    we_error err;
} chat_case;

static const we_json *parsed(chat_case *c, const char *json)
{
    const we_json *out = NULL;
    if (json) CHECK_OK(we_json_parse(&c->arena, we_str_from(json), &out, &c->err), &c->err);
    return out;
}

static chat_case conversation(const char *messages, const char *tools, const char *variables, const char *template)
{
    chat_case c = { .template = template };
    c.input.messages = parsed(&c, messages);
    c.input.tools = parsed(&c, tools);
    c.input.variables = parsed(&c, variables);
    return c;
}

static we_status render_chat(chat_case *c)
{
    static const we_chat_special special[] = { { { "bos_token", 9 }, { "<s>", 3 } },
                                               { { "additional_special_tokens", 25 }, { "x", 1 } } };
    we_template *t;
    we_status st = we_template_parse(&t, we_str_from(c->template), &c->err);
    we_buf_deinit(&c->out);
    if (!st) st = we_chat_render(t, &c->input, special, WE_COUNT(special), NULL, &c->out, &c->err);
    we_template_free(t);
    return st;
}

static void chat_case_deinit(chat_case *c)
{
    we_buf_deinit(&c->out);
    we_arena_deinit(&c->arena);
}

static void expect_context(const char *messages, const char *tools, const char *variables, const char *template,
                           const char *want)
{
    chat_case c = conversation(messages, tools, variables, template);
    c.input.add_generation_prompt = true;
    CHECK_OK(render_chat(&c), &c.err);
    CHECK_STR(we_buf_str(&c.out), want);
    chat_case_deinit(&c);
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
        const char *messages, *tools, *variables, *message;
    } cases[] = {
        { "[]", NULL, NULL, "no messages" },
        { "{}", NULL, NULL, "expected an array" },
        { NULL, NULL, NULL, "expected an array" },
        { "[1]", NULL, NULL, "message 0 is a number" },
        { "[{}]", NULL, "[1]", "variables" },
        { "[{}]", NULL, "{\"messages\":[]}", "variables hold \"messages\"" },
        { "[{}]", "[{},1]", NULL, "tools: member 1 is a number" },
        { "[{}]", "{}", NULL, "tools is an object, expected an array" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        chat_case c = conversation(cases[i].messages, cases[i].tools, cases[i].variables, "");
        CHECK_STATUS(render_chat(&c), WE_E_TEMPLATE, &c.err);
        EXPECT_MESSAGE(&c.err, cases[i].message);
        chat_case_deinit(&c);
    }
}

TEST(chat_documents_reach_the_template)
{
    chat_case c = conversation("[{\"role\":\"u\"}]", NULL, NULL, "{{ documents }}");
    c.input.documents = parsed(&c, "[{\"title\":\"t\",\"text\":\"x\"}]");
    CHECK_OK(render_chat(&c), &c.err);
    CHECK_STR(we_buf_str(&c.out), "[{'title': 't', 'text': 'x'}]");
    c.input.documents = parsed(&c, "[\"x\"]");
    CHECK_STATUS(render_chat(&c), WE_E_TEMPLATE, &c.err);
    EXPECT_MESSAGE(&c.err, "documents: member 0 is a string");
    chat_case_deinit(&c);
}

/* ---- continue_final_message ---- */

#define PLAIN "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}"
#define TRIM "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>\n{% endfor %}"
#define PARTS                                                                                         \
    "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text if p.text else '#' }}{% " \
    "endfor %}</>\n{% endfor %}"
#define THINK \
    "{% for m in messages %}<{{ m.role }}>({{ m.thinking }}){% if m.content %}{{ m.content }}{% endif %}</>\n{% endfor %}"
#define USER "[{\"role\":\"u\",\"content\":\"q\"},{\"role\":\"a\","

TEST(chat_continues_the_final_message)
{
    static const struct {
        const char *messages, *field, *template, *want;
    } cases[] = {
        { USER "\"content\":\"so far\"}]", "content", PLAIN, "<u>q</>\n<a>so far" },
        { USER "\"content\":\"so far \\n\"}]", "content", PLAIN, "<u>q</>\n<a>so far \n" },
        { USER "\"content\":\"so far \"}]", "content", TRIM, "<u>q</>\n<a>so far" },
        { USER "\"content\":\"\"}]", "content", PLAIN, "<u>q</>\n<a>" },
        { USER "\"content\":\"\"}]", "content", TRIM, "<u>q</>\n<a>" },
        { USER "\"content\":\"\u00e9\u3000\"}]", "content", TRIM, "<u>q</>\n<a>\u00e9" },
        { "[{\"role\":\"a\",\"content\":[{\"text\":\"x\"},{\"text\":\"y\"},{\"image\":1}]}]", "content", PARTS,
          "<a>xy" },
        { USER "\"content\":\"c\",\"reasoning\":\"r\"}]", "reasoning_content", THINK, "<u>()q</>\n<a>(r" },
        { USER "\"content\":\"c\",\"reasoning\":\"r\"}]", "thinking", THINK, "<u>()q</>\n<a>(r" },
        { USER "\"content\":\"c\",\"reasoning\":\"r\"}]", "content", THINK, "<u>()q</>\n<a>(r)c" },
        { "[{\"role\":\"a\",\"content\":\"q\"}]", "role", PLAIN, "<a" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        chat_case c = conversation(cases[i].messages, NULL, NULL, cases[i].template);
        c.input.continue_field = cases[i].field;
        CHECK_OK(render_chat(&c), &c.err);
        CHECK_STR(we_buf_str(&c.out), cases[i].want);
        chat_case_deinit(&c);
    }
}

TEST(chat_says_why_it_cannot_continue)
{
    static const struct {
        const char *messages, *field, *template, *message;
    } cases[] = {
        { "[]", "content", PLAIN, "no messages" },
        { USER "\"content\":null}]", "content", PLAIN, "has no \"content\"" },
        { USER "\"reasoning\":\"r\"}]", "reasoning", PLAIN, "does not use \"reasoning\"" },
        { USER "\"content\":5}]", "content", PLAIN, "no text" },
        { USER "\"content\":{}}]", "content", PLAIN, "no text" },
        { USER "\"content\":[]}]", "content", PLAIN, "no text" },
        { USER "\"content\":[{\"image\":1}]}]", "content", PLAIN, "no text" },
        { USER "\"content\":[{\"text\":\"a\"},5]}]", "content", PLAIN, "no text" },
        { USER "\"content\":[{\"text\":\"a\"},\"some text\"]}]", "content", PLAIN, "no text" },
        { USER "\"content\":[{\"text\":null}]}]", "content", PLAIN, "no text" },
        { USER "\"content\":\"a\"}]", "content", "{{ messages[0].content }}", "does not appear" },
        { USER "\"content\":\"<think>a\"}]", "content", "{{ messages[1].content.split('k>')[1] }}", "does not appear" },
        { USER "\"content\":\"a\"}]", "content", "{{ messages[0].content.x.y }}", "line 1" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        chat_case c = conversation(cases[i].messages, NULL, NULL, cases[i].template);
        c.input.continue_field = cases[i].field;
        CHECK_STATUS(render_chat(&c), WE_E_TEMPLATE, &c.err);
        EXPECT_MESSAGE(&c.err, cases[i].message);
        c.input.add_generation_prompt = true;
        if (c.input.messages->n) CHECK_STATUS(render_chat(&c), WE_E_ARG, &c.err);
        chat_case_deinit(&c);
    }
}

TEST(chat_survives_failing_allocations)
{
    static const char *const messages[] = { "[{\"role\":\"a\",\"reasoning\":\"r\"},{\"content\":\"x\"}]",
                                            "[{\"b\":[1]},{\"content\":[{\"text\":\"x\"}]}]" };
    for (size_t i = 0; i < WE_COUNT(messages); i++) {
        chat_case c = conversation(messages[i], NULL, NULL, "{{ messages[1].content }}");
        c.input.continue_field = "content";
        we_status st = WE_E_NOMEM;
        EACH_ALLOCATION_FAILING(st == WE_OK)
        {
            st = render_chat(&c);
            assert_true(st == WE_OK || st == WE_E_NOMEM);
        }
        chat_case_deinit(&c);
    }
}
