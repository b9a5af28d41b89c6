/* SPDX-License-Identifier: Apache-2.0
 * test_base_log.c - who hears what of the log. */
#include "support.h"

#include <pthread.h>

static struct heard {
    int n;
    we_log_level level;
    char module[32], message[4096];
} heard;

static void listen(void *user, we_log_level level, const char *module, const char *message)
{
    struct heard *h = user;
    h->n++;
    h->level = level;
    strncpy(h->module, module, sizeof(h->module) - 1);
    strncpy(h->message, message, sizeof(h->message) - 1);
}

static void begin(const char *levels)
{
    we_error err;
    heard = (struct heard){ 0 };
    CHECK_OK(we_log_set_levels(levels, &err), &err);
    we_log_set_callback(listen, &heard);
}

TEST(log_says_warnings_and_errors_by_default)
{
    we_log_set_callback(listen, &heard);
    we_log(model, INFO, "not heard");
    we_log(model, WARN, "layer %d", 3);
    assert_int_equal(heard.n, 1);
    assert_int_equal(heard.level, WE_LOG_WARN);
    assert_string_equal(heard.module, "model");
    assert_string_equal(heard.message, "layer 3");
    we_log(base, ERROR, "%s", "heard");
    assert_int_equal(heard.n, 2);
}

TEST(log_formats_nothing_when_nobody_listens)
{
    begin("trace");
    we_log_set_callback(NULL, NULL);
    int n_evaluated = 0;
    we_log(model, ERROR, "%d", n_evaluated++);
    assert_int_equal(n_evaluated, 0);
    assert_false(we_log_enabled(WE_LOG_MODULE_model, WE_LOG_ERROR));
}

TEST(log_levels_are_set_for_all_and_for_modules)
{
    begin("warn,tokenizer=trace,device=off");
    assert_true(we_log_enabled(WE_LOG_MODULE_tokenizer, WE_LOG_TRACE));
    assert_false(we_log_enabled(WE_LOG_MODULE_device, WE_LOG_ERROR));
    assert_true(we_log_enabled(WE_LOG_MODULE_model, WE_LOG_WARN));
    assert_false(we_log_enabled(WE_LOG_MODULE_model, WE_LOG_INFO));
    begin("model=debug"); /* the others stay */
    assert_true(we_log_enabled(WE_LOG_MODULE_model, WE_LOG_DEBUG));
    assert_true(we_log_enabled(WE_LOG_MODULE_tokenizer, WE_LOG_TRACE));
    begin("error");
    assert_false(we_log_enabled(WE_LOG_MODULE_tokenizer, WE_LOG_WARN));
    begin("mlx=debug"); /* all that runs a model */
    assert_true(we_log_enabled(WE_LOG_MODULE_model, WE_LOG_DEBUG));
    assert_true(we_log_enabled(WE_LOG_MODULE_runtime, WE_LOG_DEBUG));
    assert_true(we_log_enabled(WE_LOG_MODULE_backend, WE_LOG_DEBUG));
    assert_false(we_log_enabled(WE_LOG_MODULE_hub, WE_LOG_WARN));
}

TEST(log_levels_that_are_none_change_nothing)
{
    static const struct {
        const char *spec, *message;
    } bad[] = {
        { "loud", "log level \"loud\"" },
        { "", "log level \"\"" },
        { "debug,", "log level \"\"" },
        { "model=", "log level \"\"" },
        { "engine=debug", "\"engine\" is unknown" },
        { "=debug", "\"\" is unknown" },
        { "trace,model=x", "log level \"x\"" },
        { "DEBUG", "error, warn, info, debug, trace, off" },
    };
    begin("info");
    for (size_t i = 0; i < WE_COUNT(bad); i++) {
        we_error err;
        CHECK_STATUS(we_log_set_levels(bad[i].spec, &err), WE_E_ARG, &err);
        EXPECT_MESSAGE(&err, bad[i].message);
        assert_true(we_log_enabled(WE_LOG_MODULE_model, WE_LOG_INFO));
        assert_false(we_log_enabled(WE_LOG_MODULE_model, WE_LOG_DEBUG));
    }
    we_error err;
    CHECK_STATUS(we_log_set_levels(NULL, &err), WE_E_ARG, &err);
}

TEST(log_messages_are_safe_for_a_terminal_and_whole_characters)
{
    begin("warn");
    we_log(hub, WARN, "%s", "\x1b]0;title\x07");
    assert_string_equal(heard.message, "\\x1b]0;title\\x07");
    char text[3001];
    for (size_t i = 0; i < 3000; i += 3) memcpy(text + i, "\xe2\x82\xac", 3);
    text[3000] = 0;
    we_log(hub, WARN, "x%s", text);
    const we_str message = we_str_from(heard.message);
    assert_in_range(message.len, 2000, 2047);
    assert_int_equal(we_utf8_valid(message), message.len);
    assert_null(strstr(heard.message, "\\x"));
}

static void count(void *user, we_log_level level, const char *module, const char *message)
{
    (void)level, (void)module, (void)message;
    __atomic_fetch_add((int *)user, 1, __ATOMIC_RELAXED);
}

static void *log_a_thousand(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) we_log(runtime, WARN, "%d", i);
    return NULL;
}

TEST(log_may_be_written_and_changed_from_several_threads)
{
    int n[2] = { 0, 0 };
    begin("warn");
    we_log_set_callback(count, &n[0]);
    pthread_t threads[4];
    for (size_t i = 0; i < WE_COUNT(threads); i++) pthread_create(&threads[i], NULL, log_a_thousand, NULL);
    for (int i = 0; i < 100; i++) we_log_set_callback(count, &n[i % 2]);
    for (size_t i = 0; i < WE_COUNT(threads); i++) pthread_join(threads[i], NULL);
    assert_int_equal(n[0] + n[1], 4000);
    we_log_set_callback(NULL, NULL);
}
