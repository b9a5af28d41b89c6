/* SPDX-License-Identifier: Apache-2.0
 * support.h - what every test program shares: TEST(), checks that print the engine's own message, folders for scratch files,
 * fixtures. main() is in support.c; it runs all tests of the program, or those that match its argument ("*utf8*"). */
#ifndef WE_TESTS_SUPPORT_H
#define WE_TESTS_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/base.h"

/* TEST(module_what_holds) { ... } defines a test and makes main() run it. */
#define TEST(name)                                                                                       \
    static void name(void);                                                                              \
    static void run_##name(void **state)                                                                 \
    {                                                                                                    \
        (void)state;                                                                                     \
        name();                                                                                          \
    }                                                                                                    \
    __attribute__((constructor)) static void register_##name(void) { test_register(#name, run_##name); } \
    static void name(void)
void test_register(const char *name, CMUnitTestFunction run);

/** A call must succeed; else the test fails with the message in `err` (a we_error *). */
#define CHECK_OK(call, err) test_check_status(call, WE_OK, err, #call, __FILE__, __LINE__)
/** A call must fail in this way, and `err` must carry a message for it. */
#define CHECK_STATUS(call, status, err) test_check_status(call, status, err, #call, __FILE__, __LINE__)
void test_check_status(we_status got, we_status wanted, const we_error *err, const char *call, const char *file,
                       int line);

/** The message in `err` must hold this text. */
#define EXPECT_MESSAGE(err, part) test_expect_message(err, part, __FILE__, __LINE__)
void test_expect_message(const we_error *err, const char *part, const char *file, int line);

/** A we_str must hold exactly this C string. */
#define CHECK_STR(str, text) test_check_str(str, text, __FILE__, __LINE__)
void test_check_str(we_str got, const char *wanted, const char *file, int line);

/** Floats must agree: |got - want| <= relative * max(|want|, largest |want| / 1000). The message names the worst place. */
#define CHECK_CLOSE(got, want, n, relative) test_check_close(got, want, n, relative, __FILE__, __LINE__)
void test_check_close(const float *got, const float *want, size_t n, double relative, const char *file, int line);

/** Run a statement with the first allocation failing, then the second, ... until `done` is true behind it. Inside, the
 * statement should free all it got. After the loop allocations succeed again.
 *
 *     EACH_ALLOCATION_FAILING(st == WE_OK) { st = thing_open(&t, &err); thing_close(t); } */
#define EACH_ALLOCATION_FAILING(done) \
    for (long fail_after_ = 0; test_fail_allocation(fail_after_, fail_after_ > 0 && (done)); fail_after_++)
bool test_fail_allocation(long n, bool done);

/** A folder of the running test's own, empty; removed with all in it when the program ends. Borrowed. */
const char *test_dir(void);
/** test_dir()/name; borrowed until the program ends. */
const char *test_path(const char *name);
/** Write a file into test_dir() and give its path. */
const char *test_write(const char *name, const void *bytes, size_t len);
/** The path of a file below tests/fixtures; borrowed until the program ends. */
const char *test_fixture(const char *name);
/** The bytes of a file below tests/fixtures, a NUL behind them; borrowed until the program ends. */
we_str test_read_fixture(const char *name);

/** A repeatable stream of random numbers (splitmix64). */
uint64_t test_random(uint64_t *state);
/** In [-1, 1). */
float test_random_float(uint64_t *state);

#endif
