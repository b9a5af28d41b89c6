/* SPDX-License-Identifier: Apache-2.0
 * test_template_families.c - the formats for models without a chat template, against the real templates of their families:
 * the same text for every conversation of the vectors that is plain text and that the real template takes.
 * WE_TEMPLATE_VECTORS as in test_template_vectors.c; without it the test is skipped. */
#include "template_vectors.h"

#include <stdlib.h>

enum { /* what of a real template is its own and not its family's */
       ALL,
       WITH_SYSTEM = 1, /* it writes a system message of its own where there is none */
       NO_SYSTEM = 2,   /* it drops or moves system messages */
       ONE_TURN = 4,    /* begins or ends later turns differently */
       PROMPTED = 8,    /* writes something else where no answer is asked for */
       OWN_SPACE = 16   /* drops empty messages, or trims some */
};

static const struct real {
    const char *family, *file;
    int only;
} reals[] = {
    { "ChatML", "inline-teknium-OpenHermes-2.5-Mistral-7B.json", ALL },
    { "ChatML", "Qwen-Qwen3-0.6B.json", NO_SYSTEM },
    { "Llama 3", "npm-llama3_1.json", ALL },
    { "Gemma", "npm-gemma3.json", ALL },
    { "Gemma", "google-gemma-2-2b-it.json", ALL },
    { "Gemma 4", "google-gemma-4-31B-it.json", ALL },
    { "Phi-3", "microsoft-Phi-3.5-mini-instruct.json", PROMPTED | OWN_SPACE },
    { "Mistral v1", "inline-mistralai-Mistral-7B-Instruct-v0.2-mistralai-v1-template-wit.json", ALL },
    { "Mistral v7 Tekken", "Mistral-Small-3.2-24B-Instruct-2506.json", WITH_SYSTEM },
    { "Mistral v7 Tekken", "unsloth-mistral-Devstral-Small-2507.json", WITH_SYSTEM },
    { "Llama 2", "inline-bofenghuang-vigogne-2-70b-chat.json", WITH_SYSTEM | ONE_TURN },
    { "DeepSeek", "npm-deepseek_v3.json", ALL },
    { "DeepSeek LLM", "inline-DeepSeek-V2.json", ALL },
    { "Command R", "inline-CohereForAI-c4ai-command-r-plus.json", ALL },
    { "Granite", "inline-ibm-granite-granite-3.0-8b-instruct.json", ALL },
    { "GLM-4", "inline-ChatGLM4.json", OWN_SPACE },
    { "Kimi", "moonshotai-Kimi-K2.json", WITH_SYSTEM },
    { "Megrez", "inline-Infinigence-Megrez-3B-Instruct.json", WITH_SYSTEM },
    { "Seed", "inline-ByteDance-Seed-Seed-OSS-36B-Instruct.json", OWN_SPACE },
    { "OpenChat", "inline-openchat-openchat-3.5-0106.json", ALL },
    { "MiniCPM", "inline-MiniCPM-3B-OpenHermes-2.5-v2-GGUF.json", ALL },
    { "Orion", "inline-OrionStarAI-Orion-14B-Chat.json", NO_SYSTEM },
    { "RWKV", "llama-cpp-rwkv-world.json", OWN_SPACE },
};

static bool holds(we_str text, we_str what)
{
    for (size_t i = 0; i + what.len <= text.len; i++)
        if (memcmp(text.ptr + i, what.ptr, what.len) == 0) return true;
    return false;
}

static bool is_plain(const we_json *c, int only)
{
    const we_json *messages = we_json_get(c, "messages"), *tools = we_json_get(c, "tools");
    bool prompt = false, system = false;
    size_t n_users = 0, n_answers = 0;
    we_json_bool(we_json_get(c, "add_generation_prompt"), &prompt);
    if (!messages || we_json_get(c, "error") || (tools && tools->type != WE_JSON_NULL)) return false;
    for (const we_json *m = messages->first; m; m = m->next) {
        we_str role = vector_str(m, "role"), content;
        if (!we_json_str(we_json_get(m, "content"), &content) || m->n != 2) return false;
        const bool first = m == messages->first, asked = we_str_is(role, "user");
        if (we_str_is(role, "system") ? !first : !asked && !we_str_is(role, "assistant")) return false;
        if (asked ? n_users != n_answers : n_users == n_answers && !we_str_is(role, "system")) return false;
        if (holds(content, WE_STR("</think>"))) return false; /* reasoning goes from later turns */
        if ((only & OWN_SPACE) && (content.len == 0 || strchr(" \t\n", content.ptr[0]))) return false;
        n_answers += we_str_is(role, "assistant");
        system |= we_str_is(role, "system");
        n_users += asked;
    }
    return ((only & WITH_SYSTEM) == 0 || system) && ((only & NO_SYSTEM) == 0 || !system) &&
           ((only & ONE_TURN) == 0 || n_users == 1) && ((only & PROMPTED) == 0 || prompt) && n_users > 0;
}

static const we_family *family_named(const char *name)
{
    for (size_t i = 0; we_family_at(i); i++)
        if (strcmp(we_family_at(i)->name, name) == 0) return we_family_at(i);
    return NULL;
}

static void compare(const char *dir, const struct real *real, vector_counts *counts)
{
    we_arena arena = { 0 };
    we_error err;
    we_template *t;
    char *bytes, path[1024];
    we_chat_special special[16];
    size_t n_special = 0, before = counts->n;
    snprintf(path, sizeof(path), "%s/%s", dir, real->file);
    const we_json *vectors = vector_read(&arena, path, &bytes);
    CHECK_OK(we_family_template(family_named(real->family), &t, &err), &err);
    const we_json *tokens = we_json_get(vectors, "special_tokens");
    for (const we_json *s = tokens ? tokens->first : NULL; s && n_special < WE_COUNT(special); s = s->next) {
        we_str content;
        if (we_json_str(s, &content)) special[n_special++] = (we_chat_special){ s->key, content };
    }
    for (const we_json *c = we_json_get(vectors, "cases")->first; c; c = c->next) {
        we_buf out = { 0 };
        we_chat_input input = { .messages = we_json_get(c, "messages") };
        we_json_bool(we_json_get(c, "add_generation_prompt"), &input.add_generation_prompt);
        if (!is_plain(c, real->only)) continue;
        we_status st = we_chat_render(t, &input, special, n_special, NULL, &out, &err);
        vector_check(counts, real->file, c, st, we_buf_str(&out), &err);
        we_buf_deinit(&out);
    }
    printf("%-18s %2zu cases of %s\n", real->family, counts->n - before, real->file);
    assert_true(counts->n > before);
    we_template_free(t);
    we_arena_deinit(&arena);
    we_free(bytes);
}

TEST(template_families_write_what_their_real_templates_write)
{
    const char *dir = getenv("WE_TEMPLATE_VECTORS");
    vector_counts counts = { 0 };
    if (!dir || !*dir) {
        printf("skipped: WE_TEMPLATE_VECTORS names no folder with templates of real models and their vectors\n");
        skip();
    }
    for (size_t i = 0; i < WE_COUNT(reals); i++) compare(dir, &reals[i], &counts);
    assert_int_equal(counts.bad, 0);
}
