/* SPDX-License-Identifier: Apache-2.0
 * thread.c - the pool. A call is announced by a new `round`, its end by `n_running` reaching zero; who waits for either
 * spins first, since the next call of a decoding step is a few microseconds away, and then sleeps on a condition.
 *
 * No wake-up is lost: a sleeper counts itself in n_asleep (or owner_asleep) and then looks once more, the other side
 * changes its variable and then looks whether somebody sleeps; both orders are sequentially consistent, so at least one of
 * them sees the other, and the lock holds the waker back until the sleeper really waits. */
#include "base/arena.h"
#include "base/system.h"
#include "base/thread.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define MAX_THREADS 1024
/* Longer than the gap between two ops; where cores are scarce, longer only takes them from who works. */
#define SPIN_NS 20000
#define PAUSES_PER_LOOK 32            /* between looks at the clock, which cost about as much */
#define CACHE_LINE 128                /* two lines: x86 fetches them in pairs; Apple's are this long */
#define STACK_BYTES (2 * 1024 * 1024) /* macOS gives threads 512 KiB, too little for kernels' panels */

struct we_pool {
    _Alignas(CACHE_LINE) atomic_uint round; /* read by all while they wait */
    we_pool_fn fn;                          /* of this round, with arg; fn NULL: go home */
    void *arg;
    int n_threads;
    bool may_spin;
    _Alignas(CACHE_LINE) atomic_int n_running; /* workers that have not finished this round */
    _Alignas(CACHE_LINE) atomic_int n_asleep;  /* workers that wait on wake */
    atomic_bool owner_asleep;                  /* waits on done */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    struct worker {
        we_pool *pool;
        pthread_t thread;
    } workers[]; /* n_threads - 1 */
};

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* yield does nothing on most cores */
#endif
}

static bool is_new_round(we_pool *pool, unsigned seen) { return atomic_load(&pool->round) != seen; }

static bool is_done(we_pool *pool, unsigned unused)
{
    (void)unused;
    return atomic_load(&pool->n_running) == 0;
}

/* Whether `ready` became true within a short while. */
static bool spin(we_pool *pool, bool (*ready)(we_pool *, unsigned), unsigned seen)
{
    if (ready(pool, seen)) return true;
    if (!pool->may_spin) return false;
    const uint64_t end_ns = we_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            cpu_pause();
            if (ready(pool, seen)) return true;
        }
    } while (we_now_ns() < end_ns);
    return false;
}

static void wait_for_round(we_pool *pool, unsigned seen)
{
    if (spin(pool, is_new_round, seen)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->n_asleep, 1);
    while (!is_new_round(pool, seen)) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->n_asleep, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    we_pool *pool = worker->pool;
    const int index = (int)(worker - pool->workers) + 1;
    for (unsigned round = 0;; round++) {
        wait_for_round(pool, round);
        if (!pool->fn) return NULL;
        pool->fn(pool->arg, index, pool->n_threads);
        if (atomic_fetch_sub(&pool->n_running, 1) == 1 && atomic_load(&pool->owner_asleep)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

/* Begin a round: the workers see fn and arg once they see the new number. */
static void announce(we_pool *pool, we_pool_fn fn, void *arg)
{
    pool->fn = fn;
    pool->arg = arg;
    atomic_store(&pool->n_running, pool->n_threads - 1);
    atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->n_asleep) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void wait_for_workers(we_pool *pool)
{
    if (spin(pool, is_done, 0)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->owner_asleep, true);
    while (!is_done(pool, 0)) pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->owner_asleep, false);
    pthread_mutex_unlock(&pool->lock);
}

void we_pool_run(we_pool *pool, we_pool_fn fn, void *arg)
{
    assert(fn);
    if (pool->n_threads > 1) announce(pool, fn, arg);
    fn(arg, 0, pool->n_threads);
    if (pool->n_threads > 1) wait_for_workers(pool);
}

int we_pool_threads(const we_pool *pool) { return pool->n_threads; }

/* Signals meant for the program (Ctrl-C) go to its own threads. Faults stay ours: blocked, they would end the process
 * before the handler for torn maps (map.c) could run. */
static void block_signals(sigset_t *before)
{
    static const int kept[] = { SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF };
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) sigdelset(&blocked, kept[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

/* Start the workers; gives how many run. */
static int start_workers(we_pool *pool)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigset_t before;
    block_signals(&before); /* inherited by the threads */
    int n = 0;
    for (; n < pool->n_threads - 1; n++) {
        struct worker *worker = &pool->workers[n];
        worker->pool = pool;
        if (pthread_create(&worker->thread, &attributes, work, worker) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return n;
}

static void join_and_free(we_pool *pool, int n_workers)
{
    announce(pool, NULL, NULL);
    for (int i = 0; i < n_workers; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    we_free(pool);
}

we_status we_pool_open(we_pool **out, int n_threads, we_error *err)
{
    *out = NULL;
    if (n_threads < 0 || n_threads > MAX_THREADS)
        return we_fail(err, WE_E_ARG, "%d threads were asked for, expected 0 (one for each core) to %d", n_threads,
                       MAX_THREADS);
    const int n_cores = we_cpu_count();
    if (n_threads == 0) n_threads = n_cores < MAX_THREADS ? n_cores : MAX_THREADS;

    const size_t size = sizeof(we_pool) + (size_t)(n_threads - 1) * sizeof(struct worker);
    we_pool *pool = we_malloc_aligned(CACHE_LINE, size);
    if (!pool) return we_fail(err, WE_E_NOMEM, "no memory for a pool of %d threads", n_threads);
    const bool may_spin = n_threads <= n_cores; /* else who spins keeps a core from who works */
    *pool = (we_pool){ .n_threads = n_threads, .may_spin = may_spin };
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);

    const int n_started = start_workers(pool);
    if (n_started < n_threads - 1) {
        join_and_free(pool, n_started);
        return we_fail(err, WE_E_NOMEM, "the system lets us start only %d of %d threads: ask for fewer", n_started + 1,
                       n_threads);
    }
    *out = pool;
    return WE_OK;
}

void we_pool_close(we_pool *pool)
{
    if (pool) join_and_free(pool, pool->n_threads - 1);
}
