/* SPDX-License-Identifier: Apache-2.0
 * support.c - main() of the test programs, and their helpers (support.h). */
#include "support.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_TESTS 512

static struct CMUnitTest tests[MAX_TESTS];
static size_t n_tests;
static we_arena kept; /* texts that are borrowed until the program ends */

void test_register(const char *name, CMUnitTestFunction run)
{
    if (n_tests == MAX_TESTS) abort();
    tests[n_tests++] = (struct CMUnitTest){ .name = name, .test_func = run };
}

/* ---- Checks ---- */

void test_check_status(we_status got, we_status wanted, const we_error *err, const char *call, const char *file,
                       int line)
{
    const char *message = err && got != WE_OK ? err->message : "";
    if (got != wanted) {
        print_error("%s\n    gave %s: %s\n    expected %s\n", call, we_status_name(got), message,
                    we_status_name(wanted));
        _fail(file, line);
    }
    if (got == WE_OK || !err) return;
    if (err->status != got || !message[0]) {
        print_error("%s\n    gave %s, but its we_error says %s: \"%s\"\n", call, we_status_name(got),
                    we_status_name(err->status), message);
        _fail(file, line);
    }
}

void test_expect_message(const we_error *err, const char *part, const char *file, int line)
{
    if (strstr(err->message, part)) return;
    print_error("message \"%s\"\n    should hold \"%s\"\n", err->message, part);
    _fail(file, line);
}

void test_check_str(we_str got, const char *wanted, const char *file, int line)
{
    if (we_str_is(got, wanted)) return;
    print_error("got      \"%.*s\" (%zu bytes)\nexpected \"%s\" (%zu bytes)\n", (int)got.len, got.ptr, got.len, wanted,
                strlen(wanted));
    _fail(file, line);
}

void test_check_close(const float *got, const float *want, size_t n, double relative, const char *file, int line)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)want[i]));
    size_t worst = n;
    double worst_error = 1;
    for (size_t i = 0; i < n; i++) {
        const double allowed = relative * fmax(fabs((double)want[i]), largest / 1000);
        const double difference = fabs((double)got[i] - (double)want[i]);
        const double error = difference == 0 ? 0 : difference / allowed; /* 1: just allowed */
        if (error <= worst_error || got[i] == want[i]) continue;         /* a NaN is neither */
        worst = i;
        worst_error = isnan(error) ? INFINITY : error;
    }
    if (worst == n) return;
    print_error("[%zu] of %zu is %.9g, expected %.9g within %g\n", worst, n, (double)got[worst], (double)want[worst],
                relative);
    _fail(file, line);
}

bool test_fail_allocation(long n, bool done)
{
    we_alloc_fail_after(done ? -1 : n);
    if (!done && n == 100000) fail_msg("still failing after %ld allocations that succeeded", n);
    return !done;
}

/* ---- Files ---- */

static char root[256]; /* below it a folder for each test; empty until the first is asked for */
static size_t current_test, current_dir_test = MAX_TESTS;
static const char *current_dir;

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static void remove_root(void)
{
    if (root[0]) nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    we_arena_deinit(&kept);
}

const char *test_dir(void)
{
    if (!root[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(root, sizeof(root), "%s/we-test-XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(root)) fail_msg("%s: no scratch folder", root);
    }
    if (current_dir_test != current_test) {
        char name[32];
        snprintf(name, sizeof(name), "%zu", current_test);
        current_dir = we_arena_printf(&kept, "%s/%s", root, name);
        current_dir_test = current_test;
        we_error err;
        CHECK_OK(we_dir_make(current_dir, 0700, &err), &err);
    }
    return current_dir;
}

const char *test_path(const char *name) { return we_arena_printf(&kept, "%s/%s", test_dir(), name); }

const char *test_write(const char *name, const void *bytes, size_t len)
{
    const char *path = test_path(name);
    we_error err;
    CHECK_OK(we_file_write(path, bytes, len, 0600, &err), &err);
    return path;
}

const char *test_fixture(const char *name) { return we_arena_printf(&kept, "%s/%s", WE_FIXTURES, name); }

we_str test_read_fixture(const char *name)
{
    char *text;
    size_t len;
    we_error err;
    CHECK_OK(we_file_read(test_fixture(name), 0, &text, &len, &err), &err);
    const we_str copy = { we_arena_strndup(&kept, text, len), len };
    we_free(text);
    return copy;
}

/* ---- Random numbers ---- */

uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

float test_random_float(uint64_t *state) { return (float)(test_random(state) >> 40) * 0x1p-23F - 1; }

/* ---- main ---- */

static int after_test(void **state)
{
    (void)state;
    we_alloc_fail_after(-1);
    current_test++;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    for (size_t i = 0; i < n_tests; i++) tests[i].teardown_func = after_test;
    const char *name = we_path_base(argv[0]);
    const int n_failed = _cmocka_run_group_tests(name, tests, n_tests, NULL, NULL);
    remove_root();
    return n_failed ? 1 : 0;
}
