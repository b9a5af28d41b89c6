/* SPDX-License-Identifier: Apache-2.0
 * test_client_text.c - client: special tokens and echoes in answers, wherever the pieces are cut; a model's names elsewhere;
 * which server gets which key. */
#include "client/client_int.h"
#include "support.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void expect_clean(const char *text, const char *wanted)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        we_cleaner c = { 0 };
        we_buf out = { 0 };
        for (size_t at = 0; at < strlen(text); at += piece)
            we_cleaner_feed(&c, (we_str){ text + at, WE_MIN(piece, strlen(text) - at) }, false, &out);
        we_cleaner_feed(&c, WE_STR(""), true, &out);
        CHECK_STR(we_buf_str(&out), wanted);
        we_buf_deinit(&c.held);
        we_buf_deinit(&out);
    }
}

TEST(client_cleaner_takes_special_tokens_out)
{
    expect_clean("Hello<|im_end|>", "Hello");
    expect_clean("<|im_start|>a<|eot_id|>b<end_of_turn>\n", "ab\n");
    expect_clean("<s> a <s>struck</s> b</s> \n", " a <s>struck</s> b \n");
    expect_clean("if a <| b && c <", "if a <| b && c <");
    expect_clean("[x] [/INST] y[/INST]", "[x] [/INST] y");
    expect_clean("<|im_<|im_end|>", "<|im_");
    expect_clean("<|unknown|><|im_end", "<|unknown|><|im_end");
}

static void expect_continued(const char *said, const char *text, const char *wanted)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        we_echo e = { .said = we_str_from(said) };
        we_buf out = { 0 };
        for (size_t at = 0; at < strlen(text); at += piece)
            we_echo_feed(&e, (we_str){ text + at, WE_MIN(piece, strlen(text) - at) }, false, &out);
        we_echo_feed(&e, WE_STR(""), true, &out);
        CHECK_STR(we_buf_str(&out), wanted);
        we_buf_deinit(&e.held);
        we_buf_deinit(&out);
    }
}

TEST(client_echo_of_the_answer_so_far_is_dropped)
{
    expect_continued("The capital of", "The capital of France", " France");
    expect_continued("The capital of ", " The capital of France", "France");
    expect_continued("The capital of", " France", " France");
    expect_continued("The capital of", "The capital is", "The capital is");
    expect_continued("The capital of", "The", "The");
    expect_continued("a", "a cat", "a cat"); /* too short to be sure */
}

TEST(client_answer_that_begins_anew_is_told_from_one_that_goes_on)
{
    static const struct {
        const char *said, *text;
        bool is_anew;
    } cases[] = {
        { "The sky is blue in daytime because of", "The sky is blue in daytime since", true },
        { "The sky is blue in daytime because of", " The sky is blue in daytime, as", true },
        { "The sky is blue in daytime because of", "The sky is blue in daytime because of the air",
          false }, /* an echo */
        { "The sky is blue in daytime because of", " the air. The sky is blue in daytime", false },
        { "The sky is blue in daytime because of", "The sky is red", false },             /* too short to be sure */
        { "The sky is blue in daytime because of", "The sky is blue in daytime", false }, /* it may still be one */
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_echo e = { .said = we_str_from(cases[i].said) };
        we_buf out = { 0 };
        we_echo_feed(&e, we_str_from(cases[i].text), false, &out);
        assert_int_equal(e.is_anew, cases[i].is_anew);
        we_buf_deinit(&e.held);
        we_buf_deinit(&out);
    }
}

static const char *model_for(we_backend_kind kind, const char *const *has, size_t n, const char *wanted)
{
    static char text[1200];
    we_backend_model models[8];
    char *name;
    we_error err;
    for (size_t i = 0; i < n; i++) models[i] = (we_backend_model){ .name = has[i] };
    const we_backend_report report = { .models = models, .n_models = n };
    if (we_client_model_for(kind, &report, wanted, &name, &err)) {
        snprintf(text, sizeof text, "!%s", err.message);
    } else {
        snprintf(text, sizeof text, "%s", name);
        we_free(name);
    }
    return text;
}

TEST(client_model_has_its_name_with_each_backend)
{
    static const char *const ollama[] = { "phi3:mini", "llama3.1:8b", "mine:latest", "llama3.2:3b-instruct-q4_K_M" };
    static const char *const lmstudio[] = { "google/gemma-3-4b", "meta-llama-3.1-8b-instruct" };
    static const char *const files[] = { "/m/Llama-3.1-8B-Instruct-Q4_K_M.gguf" };
    unsetenv("FALLBACK_MODEL_OLLAMA");
    assert_string_equal(model_for(WE_BACKEND_OLLAMA, ollama, 4, "llama-3.1-8b-instruct"), "llama3.1:8b");
    assert_string_equal(model_for(WE_BACKEND_OLLAMA, ollama, 4, "mlx-community/Llama-3.2-3B-Instruct-4bit"), ollama[3]);
    assert_string_equal(model_for(WE_BACKEND_OLLAMA, ollama, 4, "mine"), "mine:latest");
    assert_string_equal(model_for(WE_BACKEND_OLLAMA, ollama, 4, ""), "");
    assert_string_equal(model_for(WE_BACKEND_LMSTUDIO, lmstudio, 2, "llama3.1:8b"), lmstudio[1]);
    assert_string_equal(model_for(WE_BACKEND_LLAMACPP, files, 1, "llama-3.1-8b-instruct"), files[0]);
    assert_string_equal(model_for(WE_BACKEND_MLX, lmstudio, 0, ""), "default");
    assert_string_equal(
        model_for(WE_BACKEND_OLLAMA, ollama, 4, "qwen3-8b"),
        "!does not have qwen3:8b, its name for qwen3-8b (FALLBACK_MODEL_OLLAMA may name another model)");
    setenv("FALLBACK_MODEL_OLLAMA", "phi3:mini", 1);
    assert_string_equal(model_for(WE_BACKEND_OLLAMA, ollama, 4, "qwen3-8b"), "phi3:mini");
    unsetenv("FALLBACK_MODEL_OLLAMA");
}

static const char *key_for(const char *url, bool explicit_url)
{
    we_backend_target target;
    we_error err;
    CHECK_OK(we_backend_target_parse(&target, url, &err), &err);
    static char kept[32];
    char *key;
    CHECK_OK(we_client_key_for(&target, explicit_url, &key, &err), &err);
    we_backend_target_deinit(&target);
    snprintf(kept, sizeof kept, "%s", key ? key : "none");
    we_free(key);
    return kept;
}

TEST(client_key_goes_only_to_its_own_server)
{
    setenv("LLM_CHAT_API_KEY", "mine", 1);
    setenv("OPENAI_API_KEY", "theirs", 1);
    setenv("LLM_CHAT_API_URL", "https://a.example:8443/v1", 1);
    assert_string_equal(key_for("https://a.example:8443/v1#m", false), "mine");
    assert_string_equal(key_for("https://a.example/v1", true), "none");
    assert_string_equal(key_for("http://a.example:8443/v1", true), "none");
    assert_string_equal(key_for("https://a.example:8444/v1", true), "none");
    assert_string_equal(key_for("ollama://x", false), "none");
    assert_string_equal(key_for("https://api.openai.com/v1", true), "theirs");
    unsetenv("LLM_CHAT_API_URL");
    assert_string_equal(key_for("https://b.example/v1", true), "mine");
    assert_string_equal(key_for("https://b.example/v1", false), "none");
    /* a folder's .env leads somewhere: the user's own key does not go there */
    unsetenv("LLM_CHAT_API_URL");
    assert_int_equal(chdir(test_dir()), 0);
    setenv("XDG_CONFIG_HOME", test_dir(), 1);
    test_write(".env", "LLM_CHAT_API_URL=http://127.0.0.1:1/v1\n", 39);
    CHECK_OK(we_config_load(NULL, NULL), NULL);
    assert_string_equal(key_for("http://127.0.0.1:1/v1", false), "none");
    unlink(".env");
    CHECK_OK(we_config_load(NULL, NULL), NULL);
    unsetenv("LLM_CHAT_API_KEY");
    unsetenv("OPENAI_API_KEY");
}
