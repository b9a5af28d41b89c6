/* SPDX-License-Identifier: Apache-2.0
 * test_backend_pyserver.c - backend: which Python has a package, and servers that never come up. The Pythons are shell scripts of
 * this test; servers that answer are in tests/e2e/test_pyservers.py. */
#include "backend/backend_int.h"
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PACKAGE(version, serves, missing) \
    "{\"version\": \"" version "\", \"serves\": " serves ", \"missing\": [" missing "]}"
#define ANSWER(python, llamacpp, transformers) \
    "echo '{\"python\": \"" python "\", \"llamacpp\": " llamacpp ", \"transformers\": " transformers "}'\n"
#define WHOLE PACKAGE("1.2", "true", "")

/* dir/name, a program of this script; absolute. */
static const char *put_python(const char *dir, const char *name, const char *script)
{
    char whole[4096], path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    mkdir(test_path(dir), 0700);
    snprintf(whole, sizeof whole, "#!/bin/sh\n%s", script);
    const char *made = test_write(path, whole, strlen(whole));
    chmod(made, 0700);
    return made;
}

/* NULL: none such. */
static void use_pythons(const char *venv_script, const char *path_script, const char *named_script)
{
    static int n;
    char dir[64], bin[72];
    snprintf(dir, sizeof dir, "venv%d", ++n);
    snprintf(bin, sizeof bin, "venv%d/bin", n);
    mkdir(test_path(dir), 0700);
    if (venv_script) put_python(bin, "python3", venv_script);
    setenv("VIRTUAL_ENV", venv_script ? test_path(dir) : "", 1);
    snprintf(dir, sizeof dir, "path%d", n);
    if (path_script) put_python(dir, "python3", path_script);
    setenv("PATH", path_script ? test_path(dir) : "relative:", 1);
    snprintf(dir, sizeof dir, "named%d", n);
    setenv("WE_PYTHON", named_script ? put_python(dir, "python", named_script) : "", 1);
}

static we_status find(we_python *out, we_python_package package, we_error *err)
{
    atomic_bool cancel = false;
    return we_python_find(out, package, 60000, &cancel, err);
}

static const char with_llama[] = ANSWER("/a/python3", WHOLE, "null");
static const char with_both[] = ANSWER("/b/python3", PACKAGE("2", "true", ""), WHOLE);
static const char with_none[] = ANSWER("/n/python3", "null", "null");
static const char without_server[] = ANSWER("/o/python3", PACKAGE("0.1", "false", ""), PACKAGE("4.40", "false", ""));
static const char without_parts[] = ANSWER("/p/python3", PACKAGE("3", "true", "\"uvicorn\", \"fastapi\""), "null");

TEST(python_candidates_stand_in_order)
{
    we_python p;
    we_error err;
    use_pythons(with_llama, with_both, with_both);
    CHECK_OK(find(&p, WE_PYTHON_LLAMACPP, &err), &err);
    assert_string_equal(p.python, "/a/python3");
    assert_string_equal(p.version, "1.2");
    CHECK_OK(find(&p, WE_PYTHON_TRANSFORMERS, &err), &err);
    assert_string_equal(p.python, "/b/python3");
    use_pythons(NULL, with_none, with_both);
    CHECK_OK(find(&p, WE_PYTHON_LLAMACPP, &err), &err);
    assert_string_equal(p.python, "/b/python3");
    use_pythons(without_parts, with_both, NULL); /* one that can serve goes before one that can't */
    CHECK_OK(find(&p, WE_PYTHON_LLAMACPP, &err), &err);
    assert_string_equal(p.python, "/b/python3");
}

TEST(python_without_the_package_is_told_with_the_mend)
{
    we_python p;
    we_error err;
    static const struct {
        const char *script, *says;
    } cases[] = {
        { with_none, "llama-cpp-python is not installed (looked in /" },
        { with_none, "-m pip install 'llama-cpp-python[server]'`, or name its Python with WE_PYTHON" },
        { without_server, "llama-cpp-python 0.1 in /o/python3 has no server: `/o/python3 -m pip install -U" },
        { without_parts, "not what its server needs (uvicorn, fastapi): `/p/python3 -m pip install" },
        { "exit 1", "gives no answer of a Python 3.8 or later: \"\"" },
        { "echo; printf 'a<b>\\033[1mx'", "\"a \\x1b[1mx\"" },
        { "echo '{\"python\": \"relative\"}'", "gives no answer" },
        { "echo '{\"python\": \"/x\", \"llamacpp\": 7}'", "is not installed" },
        { "head -c 200000 /dev/zero", "gives no answer" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        char script[4096];
        snprintf(script, sizeof script, "PATH=/usr/bin:/bin\n%s", cases[i].script);
        use_pythons(NULL, script, NULL);
        CHECK_STATUS(find(&p, WE_PYTHON_LLAMACPP, &err), WE_E_NOT_FOUND, &err);
        EXPECT_MESSAGE(&err, cases[i].says);
    }
    use_pythons(NULL, NULL, NULL);
    CHECK_STATUS(find(&p, WE_PYTHON_LLAMACPP, &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "no Python was found");
    use_pythons(NULL, without_server, NULL);
    CHECK_STATUS(find(&p, WE_PYTHON_TRANSFORMERS, &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "has no `transformers serve`");
}

TEST(python_says_more_before_its_answer)
{
    we_python p;
    we_error err;
    use_pythons(NULL, "echo hello; echo '{}'\n" ANSWER("/a/python3", WHOLE, "null"), NULL);
    CHECK_OK(find(&p, WE_PYTHON_LLAMACPP, &err), &err);
}

TEST(python_that_is_slow_is_ended)
{
    we_python p;
    we_error err;
    atomic_bool cancel = false;
    use_pythons(NULL, "PATH=/usr/bin:/bin; while :; do sleep 100; done", NULL);
    CHECK_STATUS(we_python_find(&p, WE_PYTHON_LLAMACPP, 50, &cancel, &err), WE_E_NETWORK, &err);
    EXPECT_MESSAGE(&err, "did not answer within 50 ms; ask again");
    cancel = true;
    CHECK_STATUS(we_python_find(&p, WE_PYTHON_LLAMACPP, 600000, &cancel, &err), WE_E_CANCELLED, &err);
}

static void *find_often(void *arg)
{
    we_python p;
    we_error err;
    for (int i = 0; i < 20; i++) CHECK_OK(find(&p, i % 2 ? WE_PYTHON_LLAMACPP : WE_PYTHON_TRANSFORMERS, &err), &err);
    (void)arg;
    return NULL;
}

TEST(python_is_started_once_for_all_who_ask)
{
    pthread_t threads[4];
    char script[1024];
    size_t len;
    char *text;
    we_error err;
    snprintf(script, sizeof script, "echo x >>'%s'\n%s", test_path("runs"), with_both);
    use_pythons(NULL, script, NULL);
    for (size_t i = 0; i < WE_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, find_often, NULL), 0);
    for (size_t i = 0; i < WE_COUNT(threads); i++) pthread_join(threads[i], NULL);
    CHECK_OK(we_file_read(test_path("runs"), 0, &text, &len, &err), &err);
    assert_true(len < 2 * 80); /* not once each; a machine that stops for seconds may ask again */
    we_free(text);
}

/* ---- Servers that never come up ---- */

/* Pythons that answer as both, and are the supervisor too: that one gets -I first. */
static we_backend *begin(const char *supervisor, int timeout_s)
{
    char script[4096], url[1024];
    we_backend *b;
    we_backend_target target;
    we_error err;
    setenv("XDG_CACHE_HOME", test_path("cache"), 1);
    snprintf(script, sizeof script, "PATH=/usr/bin:/bin\nif [ \"$1\" = -I ]; then\n%s\nexit\nfi\n", supervisor);
    use_pythons(NULL, NULL, script);
    const size_t len = strlen(script);
    snprintf(script + len, sizeof script - len,
             "echo \"{\\\"python\\\": \\\"$0\\\", \\\"llamacpp\\\": {\\\"version\\\": \\\"1\\\", "
             "\\\"serves\\\": true, \\\"missing\\\": []}}\"\n");
    use_pythons(NULL, NULL, script);
    const char *gguf = test_write("model.gguf", "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    snprintf(url, sizeof url, "llamacpp://%s", gguf);
    CHECK_OK(we_backend_target_parse(&target, url, &err), &err);
    CHECK_OK(we_backend_open(&b, &target, &(we_backend_options){ .idle_timeout_s = timeout_s }, &err), &err);
    we_backend_target_deinit(&target);
    return b;
}

TEST(pyserver_that_ends_at_its_start_says_why)
{
    static const struct {
        const char *supervisor, *says;
    } cases[] = {
        { "echo pid 999999999; echo 'no \033[1m memory' >&2; echo ended exit status 3",
          "ended at its start (exit status 3). Its last lines:\nno \\x1b[1m memory\nIts log: " },
        { "echo broken >&2", "(its supervisor is gone). Its last lines:\nbroken" },
        { "echo pid x; echo pid -1; echo pid 1; printf 'ready'", "its supervisor is gone" },
        { "head -c 100000 /dev/zero | tr '\\0' x", "its supervisor is gone" },
        { "echo ended signal 9", "(signal 9)" },
        { "echo ready; echo ended signal 11", "(signal 11)" },
        { "exit 1", "its supervisor is gone" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_error err;
        we_backend *b = begin(cases[i].supervisor, 0);
        CHECK_STATUS(we_backend_load(b, &err), WE_E_IO, &err);
        EXPECT_MESSAGE(&err, cases[i].says);
        we_backend_close(b);
    }
}

TEST(pyserver_that_is_never_ready_is_ended)
{
    we_error err;
    we_backend *b = begin("echo waiting >&2; cat", 1);
    CHECK_STATUS(we_backend_load(b, &err), WE_E_IO, &err);
    EXPECT_MESSAGE(&err, "is not ready after 1 s");
    EXPECT_MESSAGE(&err, "waiting");
    we_backend_close(b);
}

static void *cancel_soon(void *arg)
{
    usleep(20000);
    for (int i = 0; i < 200; i++) {
        we_backend_cancel(arg);
        usleep(10000);
    }
    return NULL;
}

TEST(pyserver_start_can_be_cancelled)
{
    we_error err;
    pthread_t thread;
    we_backend *b = begin("cat", -1);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, b), 0);
    CHECK_STATUS(we_backend_load(b, &err), WE_E_CANCELLED, &err);
    pthread_join(thread, NULL);
    we_backend_close(b);
}

TEST(pyserver_needs_a_place_for_its_log)
{
    we_error err;
    we_backend *b = begin("cat", 1);
    setenv("XDG_CACHE_HOME", test_write("no-folder", "", 0), 1);
    CHECK_STATUS(we_backend_load(b, &err), WE_E_IO, &err);
    we_backend_close(b);
}

TEST(pyserver_without_memory)
{
    we_error err = { 0 };
    we_backend_close(begin("exit 1", 0));
    we_backend_target target = { WE_BACKEND_LLAMACPP, (char *)test_path("model.gguf"), (char *)"", true };
    EACH_ALLOCATION_FAILING(strstr(err.message, "ended at its start"))
    {
        we_backend *b = NULL;
        we_status st = we_backend_open(&b, &target, NULL, &err);
        if (!st) st = we_backend_load(b, &err);
        we_backend_close(b);
        assert_true(st == WE_E_NOMEM || st == WE_E_IO || st == WE_E_NOT_FOUND);
    }
}

TEST(pyserver_models_are_looked_at_before_the_start)
{
    we_error err;
    we_backend *b;
    we_backend_close(begin("exit 1", 0));
    const char *folder = test_path("folder");
    mkdir(folder, 0700);
    const struct {
        const char *model, *says;
    } cases[] = { { folder, "is no GGUF file" }, { "/nonexistent/x.gguf", "there is no GGUF file" } };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_backend_target target = { WE_BACKEND_LLAMACPP, (char *)cases[i].model, (char *)"", true };
        CHECK_OK(we_backend_open(&b, &target, NULL, &err), &err);
        assert_int_not_equal(we_backend_load(b, &err), WE_OK);
        EXPECT_MESSAGE(&err, cases[i].says);
        we_backend_close(b);
    }
}
