/* SPDX-License-Identifier: Apache-2.0
 * test_monitor.c - the page of figures: what is counted is what is read; pages that lie, are cut short, are no files or belong to
 * others are left out; those of processes that are gone are removed. */
#include "runtime/monitor_int.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A session's folder of the running test's own. */
static void use_own_place(void)
{
    chmod(test_dir(), 0700);
    setenv("XDG_RUNTIME_DIR", test_dir(), 1);
}

static we_monitor_info self(void)
{
    we_error err;
    we_monitor_info info = { .size = sizeof info };
    CHECK_OK(we_monitor_self(&info, &err), &err);
    return info;
}

typedef struct seen {
    size_t n, n_own;
    we_monitor_info own;
} seen;

static bool see(void *user, const we_monitor_info *info)
{
    seen *s = user;
    s->n++;
    if (info->pid == getpid()) {
        s->n_own++;
        s->own = *info;
    }
    return true;
}

static seen look(void)
{
    we_error err;
    seen s = { 0 };
    CHECK_OK(we_monitor_each_process(see, &s, &err), &err);
    return s;
}

TEST(monitor_counts_a_request)
{
    use_own_place();
    const we_monitor_info before = self();
    we_monitor_request r;
    uint64_t kv = 0;
    we_monitor_model_opened("org/model", "cpu (reference, 1 threads)", 1000, 10);
    we_monitor_begin(&r);
    assert_int_equal(self().n_waiting, 1);
    we_monitor_first_token(&r, 7, 5);
    assert_int_equal(self().n_waiting, 0);
    assert_int_equal(self().n_running, 1);
    we_monitor_tokens(&r, 1);
    we_monitor_tokens(&r, 1);
    we_monitor_kv(&kv, 4096);
    we_monitor_kv(&kv, 2048);
    const seen s = look();
    assert_int_equal(s.n_own, 1);
    assert_string_equal(s.own.model, "org/model");
    assert_string_equal(s.own.device, "cpu (reference, 1 threads)");
    assert_int_equal(s.own.weights_bytes, 1000);
    assert_int_equal(s.own.scratch_bytes, 10);
    assert_int_equal(s.own.kv_bytes, 2048);
    assert_int_equal(s.own.n_models, 1);
    assert_int_equal(s.own.n_prompt_tokens - before.n_prompt_tokens, 7);
    assert_int_equal(s.own.n_cached_tokens - before.n_cached_tokens, 5);
    assert_int_equal(s.own.n_generated_tokens - before.n_generated_tokens, 2);
    assert_true(s.own.resident_bytes > 4096 && s.own.system_total_bytes > s.own.resident_bytes);
    assert_true(s.own.program[0] != 0);
    we_monitor_end(&r, true);
    we_monitor_begin(&r);
    we_monitor_end(&r, false); /* before its first token */
    we_monitor_kv(&kv, 0);
    const we_monitor_info after = self();
    assert_int_equal(after.n_done - before.n_done, 1);
    assert_int_equal(after.n_failed - before.n_failed, 1);
    assert_int_equal(after.n_running + after.n_waiting, 0);
    assert_int_equal(after.kv_bytes, 0);
    we_monitor_model_closed(1000, 10);
    assert_int_equal(look().n_own, 0);                                     /* the last model takes the page away */
    assert_int_equal(self().n_generated_tokens, after.n_generated_tokens); /* the figures stay */
    assert_int_equal(self().weights_bytes, 0);
    assert_string_equal(self().model, "");
}

TEST(monitor_page_is_the_users_alone)
{
    use_own_place();
    struct stat info;
    we_process me;
    char name[64], path[256];
    we_monitor_model_opened("m", "cpu", 1, 1);
    assert_true(we_system_process(getpid(), &me));
    we_monitor_name(name, (uint64_t)getpid(), me.start);
    snprintf(path, sizeof path, "%s/whisperengine/%s", test_dir(), name);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_size, sizeof(we_monitor_page));
    snprintf(path, sizeof path, "%s/whisperengine", test_dir());
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    we_monitor_model_closed(1, 1);
}

TEST(monitor_trusts_no_folder_of_others)
{
    use_own_place();
    we_error err;
    char *dir, path[256];
    snprintf(path, sizeof path, "%s/whisperengine", test_dir());
    assert_int_equal(symlink("/tmp", path), 0);
    CHECK_STATUS(we_monitor_dir(0, true, &dir, &err), WE_E_IO, &err);
    assert_null(dir);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    chmod(path, 0777);
    CHECK_STATUS(we_monitor_dir(0, true, &dir, &err), WE_E_IO, &err);
    EXPECT_MESSAGE(&err, "0700");
    chmod(path, 0700);
    CHECK_OK(we_monitor_dir(0, true, &dir, &err), &err);
    we_free(dir);
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    CHECK_STATUS(we_monitor_dir(0, true, &dir, &err), WE_E_NOT_FOUND, &err);
    CHECK_OK(we_monitor_dir(1, true, &dir, &err), &err); /* then below /tmp */
    assert_true(strncmp(dir, "/tmp/whisperengine-", 19) == 0);
    we_free(dir);
}

TEST(monitor_names_are_read_back)
{
    char name[64];
    uint64_t pid, start;
    we_monitor_name(name, 42, 4711);
    assert_true(we_monitor_name_parse(name, &pid, &start));
    assert_int_equal(pid, 42);
    assert_int_equal(start, 4711);
    static const char *const no[] = { "",           "42",
                                      "42-.stats",  "-1.stats",
                                      "0-1.stats",  "042-1.stats",
                                      "4-1.statsx", "+4-1.stats",
                                      "4--1.stats", "99999999999999999999-1.stats" };
    for (size_t i = 0; i < WE_COUNT(no); i++) assert_false(we_monitor_name_parse(no[i], &pid, &start));
}

static we_monitor_page good_page(void)
{
    we_monitor_page p = {
        .magic = WE_MONITOR_MAGIC, .version = WE_MONITOR_VERSION, .size = sizeof p, .pid = 42, .start = 7
    };
    strcpy(p.model, "m");
    strcpy(p.device, "cpu");
    return p;
}

static we_status parse(const we_monitor_page *p, we_monitor_info *info, we_error *err)
{
    return we_monitor_parse((we_str){ (const char *)p, sizeof *p }, 42, 7, info, err);
}

TEST(monitor_believes_no_page)
{
    we_error err;
    we_monitor_info info;
    we_monitor_page p = good_page();
    CHECK_OK(parse(&p, &info, &err), &err);
    for (size_t len = 0; len < sizeof p; len += 31)
        CHECK_STATUS(we_monitor_parse((we_str){ (const char *)&p, len }, 42, 7, &info, &err), WE_E_FORMAT, &err);
    p.magic[0] = 'X';
    CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    p = good_page(), p.version++;
    CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    p = good_page(), p.size--;
    CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    p = good_page(), p.pid = 43;
    CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    p = good_page(), p.start = 8;
    CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    p = good_page(), memset(p.model, 'a', sizeof p.model);
    CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    p = good_page(), memset(p.device, 'a', sizeof p.device);
    CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    for (int i = 0; i < WE_MONITOR_COUNTS; i++) {
        p = good_page();
        p.counts[i] = UINT64_MAX;
        CHECK_STATUS(parse(&p, &info, &err), WE_E_FORMAT, &err);
    }
    p = good_page(), strcpy(p.model, "\x1b[31mred\xff");
    CHECK_OK(parse(&p, &info, &err), &err);
    assert_string_equal(info.model, "\\x1b[31mred\\xff");
}

static void put_page(const char *name, const void *bytes, size_t len)
{
    char path[128];
    snprintf(path, sizeof path, "whisperengine/%s", name);
    test_write(path, bytes, len);
}

TEST(monitor_leaves_hostile_files_out_and_removes_stale_ones)
{
    use_own_place();
    we_error err;
    char *dir, name[64], path[256], gone_path[256];
    we_process me;
    CHECK_OK(we_monitor_dir(0, true, &dir, &err), &err);
    assert_true(we_system_process(getpid(), &me));
    we_monitor_page p = good_page();

    put_page("notes.txt", "x", 1); /* not ours: stays, unread */
    we_monitor_name(name, (uint64_t)getpid(), me.start + 1);
    snprintf(gone_path, sizeof gone_path, "%s/%s", dir, name);
    put_page(name, &p, sizeof p); /* this id, but an earlier process */
    we_monitor_name(name, (uint64_t)getpid(), me.start);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(look().n_own, 0);
    assert_false(we_path_exists(gone_path));

    put_page(name, &p, 12); /* too short */
    assert_int_equal(look().n_own, 0);
    p.pid = (uint64_t)getpid();
    p.start = me.start;
    put_page(name, &p, sizeof p);
    assert_int_equal(look().n_own, 1);
    p.sequence = 1; /* its texts are being written, for ever */
    put_page(name, &p, sizeof p);
    assert_int_equal(look().n_own, 0);
    unlink(path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(look().n_own, 0);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* opening it must not wait */
    assert_int_equal(look().n_own, 0);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(look().n_own, 0);
    rmdir(path);
    we_free(dir);
}

/* ---- Texts change while others read ---- */

static void *open_and_close(void *arg)
{
    for (int i = 0; i < 200; i++) {
        we_monitor_model_opened(i % 2 ? "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                      : "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                                "cpu", 1, 1);
        we_monitor_model_closed(1, 1);
    }
    return arg;
}

TEST(monitor_texts_are_of_one_moment)
{
    use_own_place();
    pthread_t thread;
    we_monitor_model_opened("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "cpu", 1, 1); /* the page stays */
    assert_int_equal(pthread_create(&thread, NULL, open_and_close, NULL), 0);
    for (int i = 0; i < 200; i++) {
        const seen s = look();
        for (const char *c = s.own.model; s.n_own && *c; c++) assert_int_equal(*c, s.own.model[0]);
    }
    pthread_join(thread, NULL);
    we_monitor_model_closed(1, 1);
}

TEST(monitor_survives_no_memory)
{
    use_own_place();
    we_error err;
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        seen s = { 0 };
        we_monitor_model_opened("m", "cpu", 1, 1);
        st = we_monitor_each_process(see, &s, &err);
        if (!st && s.n_own == 0) st = WE_E_NOMEM; /* no page this time, or it was not seen */
        we_monitor_model_closed(1, 1);
    }
}
