/* SPDX-License-Identifier: Apache-2.0
 * test_base_child.c - base: programs that are started, what they get of us, how they end. */
#include "support.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* All that `sh -c script` says. */
static const char *output_of(we_buf *out, const char *script, const char *const *env, const char *dir)
{
    we_child *c;
    we_error err;
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    we_buf_clear(out);
    CHECK_OK(we_child_open(&c, &(we_child_options){ .argv = argv, .env = env, .dir = dir, .log = -1 }, &err), &err);
    while (we_child_read(c, out, 1000) != WE_CHILD_ENDED) {
    }
    we_child_close(c, 60000);
    return out->ptr ? out->ptr : "";
}

TEST(child_runs_with_a_changed_environment_in_a_folder)
{
    we_buf out = { 0 };
    setenv("WE_TEST_STAYS", "stays", 1);
    setenv("WE_TEST_CHANGES", "before", 1);
    setenv("WE_TEST_GOES", "x", 1);
    const char *const env[] = { "WE_TEST_CHANGES=a b=c", "WE_TEST_GOES", "WE_TEST_NEW=", NULL };
    assert_string_equal(
        output_of(&out, "echo $WE_TEST_STAYS,$WE_TEST_CHANGES,${WE_TEST_GOES-none},${WE_TEST_NEW-none}; pwd", env, "/"),
        "stays,a b=c,none,\n/\n");
    assert_string_equal(output_of(&out, "echo $WE_TEST_GOES; echo lost >&2", NULL, NULL), "x\n");
    we_buf_deinit(&out);
}

TEST(child_gets_no_descriptor_and_no_signal_setting_of_ours)
{
    we_buf out = { 0 };
    char script[160];
    sigset_t usr1, old;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, &old);
    signal(SIGUSR2, SIG_IGN);
    const int open_end = open("/dev/null", O_RDONLY), dup_end = fcntl(open_end, F_DUPFD, 40);
    snprintf(script, sizeof script, "(: <&%d) 2>/dev/null && echo open; (: <&%d) 2>/dev/null && echo open; echo done",
             open_end, dup_end);
    assert_string_equal(output_of(&out, script, NULL, NULL), "done\n");
    assert_string_equal(output_of(&out, "kill -USR1 $$; echo lives", NULL, NULL), "");
    assert_string_equal(output_of(&out, "kill -USR2 $$; echo lives", NULL, NULL), "");
    close(open_end);
    close(dup_end);
    signal(SIGUSR2, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    we_buf_deinit(&out);
}

TEST(child_log_is_its_standard_error)
{
    char path[] = "/tmp/we-child-XXXXXX", text[64] = "";
    we_buf out = { 0 };
    we_child *c;
    we_error err;
    const int log = mkstemp(path);
    const char *const argv[] = { "/bin/sh", "-c", "echo logged >&2", NULL };
    CHECK_OK(we_child_open(&c, &(we_child_options){ .argv = argv, .log = log }, &err), &err);
    while (we_child_read(c, &out, 1000) != WE_CHILD_ENDED) {
    }
    we_child_close(c, 60000);
    assert_int_equal(out.len, 0);
    assert_int_equal(pread(log, text, sizeof text - 1, 0), 7);
    assert_string_equal(text, "logged\n");
    close(log);
    unlink(path);
    we_buf_deinit(&out);
}

/* Start a script and wait until it says its own id. */
static we_child *begin(const char *script, pid_t *pid)
{
    we_child *c;
    we_error err;
    we_buf out = { 0 };
    const char *const argv[] = { "/bin/sh", "-c", script, NULL };
    CHECK_OK(we_child_open(&c, &(we_child_options){ .argv = argv, .log = -1 }, &err), &err);
    while (!out.len || out.ptr[out.len - 1] != '\n') assert_int_not_equal(we_child_read(c, &out, 1000), WE_CHILD_ENDED);
    *pid = (pid_t)atol(out.ptr);
    assert_int_equal(we_child_read(c, &out, 0), WE_CHILD_SILENT);
    we_buf_deinit(&out);
    return c;
}

TEST(child_sees_the_end_of_its_input)
{
    pid_t pid;
    we_child *c = begin("echo $$; trap '' TERM; cat >/dev/null", &pid);
    we_child_close(c, 60000); /* not killed: this would take a minute */
    assert_int_equal(kill(pid, 0), -1);
}

TEST(child_that_does_not_end_is_killed_with_its_group)
{
    pid_t pid;
    we_child *c = begin("trap '' TERM; (while :; do sleep 1; done) & echo $!; while :; do sleep 1; done", &pid);
    assert_int_equal(kill(pid, 0), 0);
    we_child_close(c, 0);
    for (int i = 0; i < 6000 && kill(pid, 0) == 0; i++) usleep(10000); /* until it is reaped by whoever reaps orphans */
    if (kill(pid, 0) == 0) skip();                                     /* nobody does, in some containers */
    we_child_close(NULL, 0);
}

TEST(child_that_cannot_be_run_is_an_error)
{
    static const struct {
        const char *program, *dir;
        we_status status;
    } cases[] = { { "/nonexistent/program", NULL, WE_E_NOT_FOUND },
                  { "/dev/null", NULL, WE_E_DENIED },
                  { "/bin/sh", "/nonexistent", WE_E_NOT_FOUND } };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_child *c;
        we_error err;
        const char *const argv[] = { cases[i].program, NULL };
        assert_int_equal(we_child_open(&c, &(we_child_options){ .argv = argv, .dir = cases[i].dir, .log = -1 }, &err),
                         cases[i].status);
        assert_null(c);
        assert_non_null(strstr(err.message, cases[i].program));
    }
}

TEST(child_without_memory)
{
    const char *const argv[] = { "/bin/sh", "-c", ":", NULL };
    for (long n = 0; n < 2; n++) {
        we_child *c;
        we_error err;
        we_alloc_fail_after(n);
        const we_status st = we_child_open(&c, &(we_child_options){ .argv = argv, .log = -1 }, &err);
        we_alloc_fail_after(-1);
        assert_int_equal(st, WE_E_NOMEM);
    }
}

static void *start_some(void *arg)
{
    (void)arg;
    for (int i = 0; i < 8; i++) {
        pid_t pid;
        we_child_close(begin("echo $$; trap '' TERM; cat >/dev/null", &pid),
                       600000); /* waits for the end of its input */
    }
    return NULL;
}

TEST(child_threads_start_theirs_side_by_side) /* none holds another one's pipe open */
{
    pthread_t threads[4];
    for (size_t i = 0; i < WE_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, start_some, NULL), 0);
    for (size_t i = 0; i < WE_COUNT(threads); i++) pthread_join(threads[i], NULL);
}
