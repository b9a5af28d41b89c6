/* SPDX-License-Identifier: Apache-2.0
 * test_base_thread.c - the pool: every thread runs once per call, nothing is lost, nothing races (run it under the thread
 * sanitizer). */
#include "support.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define MOST_THREADS 64

typedef struct tally {
    int calls[MOST_THREADS]; /* plain: the pool must order the accesses */
    int n_threads;
} tally;

static void count_call(void *arg, int thread, int n_threads)
{
    tally *t = arg;
    t->calls[thread]++;
    if (thread == 0) t->n_threads = n_threads;
}

static we_pool *open_pool(int n_threads)
{
    we_error err;
    we_pool *pool;
    CHECK_OK(we_pool_open(&pool, n_threads, &err), &err);
    return pool;
}

TEST(pool_runs_every_thread_once_per_call)
{
    static const int sizes[] = { 1, 2, 3, 8, 33 };
    for (size_t s = 0; s < WE_COUNT(sizes); s++) {
        we_pool *pool = open_pool(sizes[s]);
        assert_int_equal(we_pool_threads(pool), sizes[s]);
        tally t = { 0 };
        enum { ROUNDS = 500 };
        for (int round = 1; round <= ROUNDS; round++) {
            we_pool_run(pool, count_call, &t);
            for (int i = 0; i < sizes[s]; i++)
                if (t.calls[i] != round) fail_msg("%d threads: thread %d ran %d of %d", sizes[s], i, t.calls[i], round);
        }
        assert_int_equal(t.n_threads, sizes[s]);
        we_pool_close(pool);
    }
}

TEST(pool_zero_means_a_thread_for_each_core)
{
    we_pool *pool = open_pool(0);
    assert_int_equal(we_pool_threads(pool), we_cpu_count());
    we_pool_close(pool);
    we_pool_close(NULL);
}

TEST(pool_refuses_absurd_sizes)
{
    we_error err;
    we_pool *pool = (we_pool *)&err;
    CHECK_STATUS(we_pool_open(&pool, 1025, &err), WE_E_ARG, &err);
    EXPECT_MESSAGE(&err, "1025 threads");
    assert_null(pool);
    CHECK_STATUS(we_pool_open(&pool, -1, &err), WE_E_ARG, &err);
    we_alloc_fail_after(0);
    CHECK_STATUS(we_pool_open(&pool, 2, &err), WE_E_NOMEM, &err);
}

TEST(pool_wakes_after_its_threads_fell_asleep)
{
    we_pool *pool = open_pool(4);
    tally t = { 0 };
    for (int round = 0; round < 20; round++) {
        we_pool_run(pool, count_call, &t);
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL); /* longer than any spinning */
    }
    for (int i = 0; i < 4; i++) assert_int_equal(t.calls[i], 20);
    we_pool_close(pool);
}

/* Threads of unequal work, around the time at which waiting turns from spinning to sleeping. */
static void work_unequally(void *arg, int thread, int n_threads)
{
    const uint64_t *round = arg;
    (void)n_threads;
    const uint64_t end = we_now_ns() + ((*round * 7 + (uint64_t)thread * 13) % 10) * 10000;
    while (we_now_ns() < end) {
    }
}

TEST(pool_loses_no_wakeup_where_spinning_turns_into_sleep)
{
    we_pool *pool = open_pool(2);
    for (uint64_t round = 0; round < 3000; round++) {
        we_pool_run(pool, work_unequally, &round);
        const uint64_t end = we_now_ns() + round % 100 * 1000;
        while (we_now_ns() < end) {
        }
    }
    we_pool_close(pool);
}

static void add_up(void *arg, int thread, int n_threads)
{
    float *x = arg;
    for (int i = thread; i < 4096; i += n_threads) x[i] += 1;
}

TEST(pool_orders_what_one_call_writes_before_the_next)
{
    static float x[4096];
    we_pool *pool = open_pool(3);
    for (int round = 0; round < 200; round++) {
        we_pool_run(pool, add_up, x);
        x[round] -= 1; /* the caller's own access between calls */
        x[round] += 1;
    }
    for (int i = 0; i < 4096; i++) assert_true(x[i] == 200);
    we_pool_close(pool);
}

static void run_nested(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    if (thread == 0) we_pool_run(arg, count_call, &(tally){ 0 });
}

TEST(pool_may_run_another_pool)
{
    we_pool *outer = open_pool(2), *inner = open_pool(2);
    for (int i = 0; i < 50; i++) we_pool_run(outer, run_nested, inner);
    we_pool_close(inner);
    we_pool_close(outer);
}

static void note_mask(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    ((int *)arg)[thread] = sigismember(&mask, SIGINT) * 2 + sigismember(&mask, SIGBUS);
}

TEST(pool_leaves_signals_to_the_program_but_takes_its_faults)
{
    int masks[2] = { -1, -1 };
    we_pool *pool = open_pool(2);
    we_pool_run(pool, note_mask, masks);
    assert_int_equal(masks[0], 0); /* the caller's own mask is as it was */
    assert_int_equal(masks[1], 2); /* Ctrl-C blocked, SIGBUS not */
    we_pool_close(pool);
}
