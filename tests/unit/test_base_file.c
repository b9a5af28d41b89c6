/* SPDX-License-Identifier: Apache-2.0
 * test_base_file.c - whole files, maps (and what happens to them when their file is cut short), paths, folders. */
#include "support.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Reading and writing ---- */

TEST(file_reads_back_what_was_written)
{
    we_error err;
    char *text;
    size_t len;
    const char *path = test_write("a.txt", "one\0two", 7);
    CHECK_OK(we_file_read(path, 0, &text, &len, &err), &err);
    assert_int_equal(len, 7);
    assert_memory_equal(text, "one\0two", 8);
    we_free(text);
    assert_int_equal(we_path_size(path), 7);

    CHECK_OK(we_file_write(path, NULL, 0, 0600, &err), &err);
    CHECK_OK(we_file_read(path, 0, &text, NULL, &err), &err);
    assert_string_equal(text, "");
    we_free(text);
}

TEST(file_write_cache_joins_pieces)
{
    const we_str pieces[] = { WE_STR("one "), WE_STR(""), WE_STR("two") };
    const char *path = test_path("pieces");
    we_error err = { 0 };
    char *text;
    size_t len;
    CHECK_OK(we_file_write_cache(path, pieces, 3, 0600, &err), &err);
    CHECK_OK(we_file_read(path, 0, &text, &len, &err), &err);
    CHECK_STR(((we_str){ text, len }), "one two");
    we_free(text);
    assert_true(we_path_is_private(path));
    assert_int_equal(chmod(path, 0620), 0);
    assert_false(we_path_is_private(path));
    assert_int_equal(symlink(path, test_path("to_pieces")), 0);
    assert_false(we_path_is_private(test_path("to_pieces")));
    assert_false(we_path_is_private(test_path("not there")));
}

TEST(file_larger_than_a_read_comes_whole)
{
    const size_t n = 3000001;
    char *bytes = we_malloc(n), *text;
    uint64_t seed = 3;
    for (size_t i = 0; i < n; i++) bytes[i] = (char)test_random(&seed);
    const char *path = test_write("large", bytes, n);
    we_error err;
    size_t len;
    CHECK_OK(we_file_read(path, n, &text, &len, &err), &err);
    assert_int_equal(len, n);
    assert_memory_equal(text, bytes, n);
    we_free(text);
    CHECK_STATUS(we_file_read(path, n - 1, &text, &len, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "is 3000001 bytes long, expected at most 3000000");
    assert_null(text);
    we_free(bytes);
}

static void *write_pipe(void *path)
{
    FILE *f = fopen(path, "w");
    for (int i = 0; f && i < 100000; i++) fputs("0123456789", f);
    if (f) fclose(f);
    return NULL;
}

TEST(file_without_a_size_is_read_to_its_end)
{
    const char *path = test_path("pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    pthread_t thread;
    pthread_create(&thread, NULL, write_pipe, (void *)path);
    we_error err;
    char *text;
    size_t len;
    const we_status st = we_file_read(path, 0, &text, &len, &err);
    pthread_join(thread, NULL);
    CHECK_OK(st, &err);
    assert_int_equal(len, 1000000);
    we_free(text);
    CHECK_STATUS(we_file_read("/dev/zero", 100000, &text, &len, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "longer than 100000 bytes");
}

TEST(file_failures_name_the_file_and_the_reason)
{
    we_error err;
    char *text;
    CHECK_STATUS(we_file_read(test_path("missing"), 0, &text, NULL, &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "/missing: cannot be opened: No such file or directory");
    CHECK_STATUS(we_file_read(test_dir(), 0, &text, NULL, &err), WE_E_IO, &err);
    EXPECT_MESSAGE(&err, "is a folder");
    CHECK_STATUS(we_file_write(test_path("no/such/folder"), "", 0, 0600, &err), WE_E_NOT_FOUND, &err);
    CHECK_STATUS(we_file_write(test_dir(), "", 0, 0600, &err), WE_E_IO, &err);
    const char *path = test_write("a", "abc", 3);
    we_alloc_fail_after(0);
    CHECK_STATUS(we_file_read(path, 0, &text, NULL, &err), WE_E_NOMEM, &err);
    assert_null(text);
    CHECK_STATUS(we_file_write(path, "x", 1, 0600, &err), WE_E_NOMEM, &err);
}

static bool count_entry(void *user, const char *name)
{
    (void)name;
    ++*(int *)user;
    return true;
}

TEST(file_write_replaces_whole_keeps_links_and_leaves_nothing_behind)
{
    we_error err;
    const char *path = test_write("real", "old", 3), *link = test_path("link");
    assert_int_equal(symlink("real", link), 0);
    const int before = open(path, O_RDONLY);
    CHECK_OK(we_file_write(link, "new", 3, 0640, &err), &err);

    char old[4] = "";
    assert_int_equal(read(before, old, 3), 3); /* who has it open goes on with the old file */
    assert_string_equal(old, "old");
    close(before);
    struct stat info;
    assert_true(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0717, 0600); /* the group's bits are the umask's to decide */
    char *text;
    CHECK_OK(we_file_read(path, 0, &text, NULL, &err), &err);
    assert_string_equal(text, "new");
    we_free(text);
    int n = 0;
    CHECK_OK(we_dir_each(test_dir(), count_entry, &n, &err), &err);
    assert_int_equal(n, 2);
}

/* ---- Maps ---- */

TEST(map_shows_a_files_bytes)
{
    we_error err;
    we_map *map;
    const char *path = test_write("m", "mapped", 6);
    CHECK_OK(we_map_open(&map, path, &err), &err);
    assert_int_equal(we_map_len(map), 6);
    assert_memory_equal(we_map_data(map), "mapped", 6);
    assert_string_equal(we_map_path(map), path);
    we_map_will_need(map);
    assert_true(we_map_is_cached(map, 0, 6)); /* just written */
    assert_true(we_map_is_cached(map, 2, 4));
    assert_false(we_map_is_cached(map, 2, 5)); /* beyond the end */
    CHECK_OK(we_map_check(map, &err), &err);
    we_map_close(map);
    we_map_close(NULL);
}

TEST(map_of_an_empty_file_is_empty)
{
    we_error err;
    we_map *map;
    CHECK_OK(we_map_open(&map, test_write("e", "", 0), &err), &err);
    assert_int_equal(we_map_len(map), 0);
    assert_non_null(we_map_data(map));
    we_map_will_need(map);
    assert_true(we_map_is_cached(map, 0, 0));
    CHECK_OK(we_map_check(map, &err), &err);
    we_map_close(map);
}

TEST(map_failures_name_the_file_and_the_reason)
{
    we_error err;
    we_map *map;
    CHECK_STATUS(we_map_open(&map, test_path("missing"), &err), WE_E_NOT_FOUND, &err);
    CHECK_STATUS(we_map_open(&map, test_dir(), &err), WE_E_IO, &err);
    EXPECT_MESSAGE(&err, "is not a regular file");
    const char *pipe = test_path("pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    CHECK_STATUS(we_map_open(&map, pipe, &err), WE_E_IO, &err); /* and does not wait for a writer */
    assert_null(map);
    const char *path = test_write("m", "mapped", 6);
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = we_map_open(&map, path, &err);
        if (st) CHECK_STATUS(st, WE_E_NOMEM, &err);
        we_map_close(map);
    }
}

/* A file of n pages, all bytes 'x'. */
static const char *write_pages(const char *name, size_t n)
{
    const size_t len = n * (size_t)sysconf(_SC_PAGESIZE);
    char *bytes = we_malloc(len);
    memset(bytes, 'x', len);
    const char *path = test_write(name, bytes, len);
    we_free(bytes);
    return path;
}

/* The thread sanitizer takes the handler's mmap for a write to what other threads read: they find no page there either. */
__attribute__((no_sanitize("thread"))) static uint64_t sum(const we_map *map)
{
    const volatile uint8_t *data = we_map_data(map);
    uint64_t total = 0;
    for (size_t i = 0; i < we_map_len(map); i += 512) total += data[i];
    return total;
}

TEST(map_cut_short_while_in_use_reads_zeros_and_is_reported)
{
    we_error err;
    we_map *map, *other;
    const char *path = write_pages("weights", 8);
    CHECK_OK(we_map_open(&other, write_pages("other", 2), &err), &err);
    CHECK_OK(we_map_open(&map, path, &err), &err);
    const uint64_t whole = sum(map);
    assert_int_equal(truncate(path, sysconf(_SC_PAGESIZE)), 0);
    assert_int_equal(sum(map), whole / 8); /* no crash: the first page, then zeros */
    CHECK_STATUS(we_map_check(map, &err), WE_E_DEVICE, &err);
    EXPECT_MESSAGE(&err, "weights was cut short while in use");
    CHECK_OK(we_map_check(other, &err), &err);
    assert_int_equal(sum(other), whole / 4);
    we_map_close(map);
    we_map_close(other);
}

TEST(map_cut_short_and_grown_again_is_still_reported)
{
    we_error err;
    we_map *map;
    const char *path = write_pages("weights", 4);
    CHECK_OK(we_map_open(&map, path, &err), &err);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(sum(map), 0);
    assert_int_equal(truncate(path, 4 * sysconf(_SC_PAGESIZE)), 0);
    CHECK_STATUS(we_map_check(map, &err), WE_E_DEVICE, &err);
    EXPECT_MESSAGE(&err, "could not be read while in use");
    we_map_close(map);
    CHECK_OK(we_map_open(&map, path, &err), &err); /* the slot's next owner begins whole */
    CHECK_OK(we_map_check(map, &err), &err);
    we_map_close(map);
}

TEST(map_of_a_replaced_file_keeps_the_old_bytes)
{
    we_error err;
    we_map *map;
    const char *path = write_pages("weights", 2);
    CHECK_OK(we_map_open(&map, path, &err), &err);
    const uint64_t before = sum(map);
    CHECK_OK(we_file_write(path, "short", 5, 0600, &err), &err);
    assert_int_equal(sum(map), before);
    CHECK_OK(we_map_check(map, &err), &err);
    we_map_close(map);
}

static void sum_in_pool(void *arg, int thread, int n_threads)
{
    (void)thread, (void)n_threads;
    sum(arg);
}

TEST(map_cut_short_under_several_threads_is_survived)
{
    we_error err;
    we_pool *pool;
    CHECK_OK(we_pool_open(&pool, 4, &err), &err);
    for (int round = 0; round < 20; round++) {
        we_map *map;
        const char *path = write_pages("weights", 16);
        CHECK_OK(we_map_open(&map, path, &err), &err);
        assert_int_equal(truncate(path, 0), 0);
        we_pool_run(pool, sum_in_pool, map);
        CHECK_STATUS(we_map_check(map, &err), WE_E_DEVICE, &err);
        we_map_close(map);
    }
    we_pool_close(pool);
}

TEST(map_registry_holds_more_maps_than_one_chunk)
{
    enum { N = 200 };
    we_error err;
    we_map *maps[N];
    const char *path = write_pages("weights", 1);
    for (int i = 0; i < N; i++) CHECK_OK(we_map_open(&maps[i], path, &err), &err);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(sum(maps[N - 1]), 0);
    for (int i = 0; i < N; i++) {
        CHECK_STATUS(we_map_check(maps[i], &err), WE_E_DEVICE, &err);
        we_map_close(maps[i]);
    }
}

static volatile sig_atomic_t n_earlier_handled;

static void on_earlier(int signal_number)
{
    (void)signal_number;
    n_earlier_handled++;
}

/* Opens a map, so that our handler is in place, then gets a SIGBUS that has nothing to do with it. */
static void die_of_foreign_sigbus(const char *path, bool sent)
{
    signal(SIGBUS, SIG_DFL); /* a sanitizer's handler would report and exit */
    we_map *map;
    if (we_map_open(&map, path, NULL) != WE_OK) _exit(1);
    if (sent) raise(SIGBUS);
    const int fd = open(path, O_RDONLY);
    const volatile char *foreign = mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, fd, 0);
    (void)foreign[(1 << 20) - 1];
}

static void hand_sigbus_to_earlier_handler(const char *path)
{
    signal(SIGBUS, on_earlier);
    we_map *map;
    if (we_map_open(&map, path, NULL) != WE_OK) _exit(1);
    raise(SIGBUS);
    _exit(n_earlier_handled == 1 ? 0 : 2);
}

/* The handler is installed once per process, and earlier tests did: so this runs in a process of its own, which is this
 * program again with a word in its environment. */
__attribute__((constructor)) static void act_as_child(void)
{
    const char *act = getenv("WE_TEST_SIGBUS"), *path = getenv("WE_TEST_SIGBUS_PATH");
    if (!act || !path) return;
    if (strcmp(act, "earlier") == 0) hand_sigbus_to_earlier_handler(path);
    die_of_foreign_sigbus(path, strcmp(act, "sent") == 0);
    _exit(3);
}

static int status_of_child(const char *act)
{
    setenv("WE_TEST_SIGBUS", act, 1);
    const pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "test_base_file", (char *)NULL);
        _exit(4);
    }
    unsetenv("WE_TEST_SIGBUS");
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

TEST(map_handler_passes_on_what_is_not_ours)
{
    if (!we_path_exists("/proc/self/exe")) skip();
    setenv("WE_TEST_SIGBUS_PATH", write_pages("weights", 1), 1);
    const int fault = status_of_child("fault"), sent = status_of_child("sent"), earlier = status_of_child("earlier");
    unsetenv("WE_TEST_SIGBUS_PATH");
    assert_true(WIFSIGNALED(fault) && WTERMSIG(fault) == SIGBUS);
    assert_true(WIFSIGNALED(sent) && WTERMSIG(sent) == SIGBUS);
    assert_true(WIFEXITED(earlier));
    assert_int_equal(WEXITSTATUS(earlier), 0);
}

/* ---- Paths and folders ---- */

TEST(path_parts)
{
    static const struct {
        const char *dir, *name, *joined;
    } cases[] = { { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "/", "b", "/b" } };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        char *joined = we_path_join(cases[i].dir, cases[i].name);
        assert_string_equal(joined, cases[i].joined);
        assert_string_equal(we_path_base(joined), "b");
        we_free(joined);
    }
    assert_string_equal(we_path_base("b"), "b");
    assert_string_equal(we_path_base("a/"), "");
    we_alloc_fail_after(0);
    assert_null(we_path_join("a", "b"));
}

TEST(path_questions)
{
    const char *path = test_write("f", "12345", 5);
    assert_true(we_path_exists(path) && !we_path_is_dir(path));
    assert_true(we_path_exists(test_dir()) && we_path_is_dir(test_dir()));
    assert_false(we_path_exists(test_path("g")) || we_path_is_dir(test_path("g")));
    assert_int_equal(we_path_size(path), 5);
    assert_int_equal(we_path_size(test_path("g")), 0);
}

TEST(dir_make_makes_parents_and_accepts_what_exists)
{
    we_error err;
    CHECK_OK(we_dir_make(test_path("a/b//c/"), 0700, &err), &err);
    assert_true(we_path_is_dir(test_path("a/b/c")));
    CHECK_OK(we_dir_make(test_path("a/b"), 0700, &err), &err);
    CHECK_OK(we_dir_make("/", 0700, &err), &err);
    test_write("file", "", 0);
    CHECK_STATUS(we_dir_make(test_path("file"), 0700, &err), WE_E_IO, &err);
    CHECK_STATUS(we_dir_make(test_path("file/below"), 0700, &err), WE_E_IO, &err);
    EXPECT_MESSAGE(&err, "the folder cannot be made");
}

static bool collect(void *user, const char *name)
{
    we_buf_printf(user, "%s ", name);
    return strcmp(name, "stop") != 0;
}

TEST(dir_each_gives_names_sorted_and_stops_on_request)
{
    static const char *const names[] = { "b", "a", "B", "z", "\xc3\xa9", "stop" };
    for (size_t i = 0; i < WE_COUNT(names); i++) test_write(names[i], "", 0);
    we_error err;
    we_buf seen = { 0 };
    CHECK_OK(we_dir_each(test_dir(), collect, &seen, &err), &err);
    CHECK_STR(we_buf_str(&seen), "B a b stop ");
    we_buf_deinit(&seen);
    CHECK_STATUS(we_dir_each(test_path("missing"), collect, &seen, &err), WE_E_NOT_FOUND, &err);
    CHECK_STATUS(we_dir_each(test_path("a"), collect, &seen, &err), WE_E_IO, &err);
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        int n = 0;
        st = we_dir_each(test_dir(), count_entry, &n, &err);
        if (st) CHECK_STATUS(st, WE_E_NOMEM, &err);
        assert_int_equal(n, st ? 0 : WE_COUNT(names));
    }
}

static void check_user_dir(char *got, const char *wanted)
{
    if (wanted)
        assert_string_equal(got, wanted);
    else
        assert_null(got);
    we_free(got);
}

TEST(dir_user_folders_follow_the_systems_custom)
{
    char *home = getenv("HOME") ? we_strdup(getenv("HOME")) : NULL;
    setenv("HOME", "/home/u", 1);
#if defined(__APPLE__)
    check_user_dir(we_dir_user_data(), "/home/u/Library/Application Support/whisperengine");
    check_user_dir(we_dir_user_config(), "/home/u/Library/Application Support/whisperengine");
    check_user_dir(we_dir_user_cache(), "/home/u/Library/Caches/whisperengine");
#else
    unsetenv("XDG_DATA_HOME");
    setenv("XDG_CONFIG_HOME", "relative", 1);
    setenv("XDG_CACHE_HOME", "/var/cache/u", 1);
    check_user_dir(we_dir_user_data(), "/home/u/.local/share/whisperengine");
    check_user_dir(we_dir_user_config(), "/home/u/.config/whisperengine");
    check_user_dir(we_dir_user_cache(), "/var/cache/u/whisperengine");
#endif
    unsetenv("HOME");
    check_user_dir(we_dir_user_data(), NULL);
    if (home) setenv("HOME", home, 1);
    we_free(home);
}
