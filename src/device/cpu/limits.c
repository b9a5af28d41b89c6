/* SPDX-License-Identifier: Apache-2.0
 * limits.c - what this machine gives at most, on all of the device's threads: bytes read from memory, which generation waits for,
 * and int8 multiply-adds from registers, which prompts wait for. Short on purpose (0.15 s together); the best of a few windows
 * counts, since whatever else runs only takes away.
 *
 * A window: every thread works through its own part until the time is over, and tells what it did and how long that took. */
#include "device/cpu/cpu_int.h"

#define PIECE ((size_t)1 << 20)
#define MOST_PIECES 512 /* of all threads together: beyond the caches */
#define ROUNDS 4096     /* of dot products between two looks at the clock */
#define WINDOWS 3
#define TOUCH_S 0.05
#define READ_S 0.02
#define DOTS_S 0.01

typedef struct window {
    const we_cpu_kernels *k;
    uint64_t *words; /* n_pieces pieces */
    size_t n_pieces;
    _Atomic uint64_t touched; /* pieces of a thread's part that every thread has touched */
    _Atomic uint64_t done;    /* pieces read, or multiply-adds */
    _Atomic uint64_t longest_us;
    _Atomic uint64_t sum; /* so that no work is left out */
} window;

static void raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t seen = atomic_load(most);
    while (seen < value && !atomic_compare_exchange_weak(most, &seen, value)) continue;
}

static void thread_done(window *w, uint64_t done, double begin_s, uint64_t sum)
{
    raise_to(&w->longest_us, (uint64_t)((we_now_s() - begin_s) * 1e6));
    atomic_fetch_add(&w->done, done);
    atomic_fetch_add(&w->sum, sum);
}

static uint64_t *own_part(const window *w, int thread, int n_threads, size_t *n)
{
    *n = w->n_pieces / (size_t)n_threads;
    return w->words + (size_t)thread * *n * (PIECE / sizeof *w->words);
}

static void touch(void *arg, int thread, int n_threads)
{
    window *w = arg;
    const double begin_s = we_now_s();
    size_t n, i = 0;
    uint64_t *part = own_part(w, thread, n_threads, &n);
    for (; i < n && we_now_s() - begin_s < TOUCH_S; i++) memset((char *)part + i * PIECE, 1, PIECE);
    uint64_t least = atomic_load(&w->touched);
    while (i < least && !atomic_compare_exchange_weak(&w->touched, &least, i)) continue;
}

static void read_part(void *arg, int thread, int n_threads)
{
    window *w = arg;
    size_t n;
    const uint64_t *part = own_part(w, thread, n_threads, &n);
    n = WE_MIN(n, (size_t)atomic_load(&w->touched));
    uint64_t sums[8] = { 0 }, pieces = 0;
    const double begin_s = we_now_s();
    for (size_t i = 0; n && we_now_s() - begin_s < READ_S; i = (i + 1) % n, pieces++) {
        const uint64_t *p = part + i * (PIECE / sizeof *p);
        for (size_t k = 0; k < PIECE / sizeof *p; k += 8)
            for (size_t j = 0; j < 8; j++) sums[j] += p[k + j];
    }
    for (int j = 1; j < 8; j++) sums[0] += sums[j];
    thread_done(w, pieces, begin_s, sums[0]);
}

static void multiply(void *arg, int thread, int n_threads)
{
    (void)thread, (void)n_threads;
    window *w = arg;
    uint64_t done = 0, sum = 0;
    const double begin_s = we_now_s();
    do {
        int32_t of_these;
        done += (uint64_t)w->k->dots(ROUNDS, &of_these);
        sum += (uint64_t)of_these;
    } while (we_now_s() - begin_s < DOTS_S);
    thread_done(w, done, begin_s, sum);
}

/* What a second brings, at best; 0: nothing could be measured. */
static double best(we_cpu *d, window *w, we_pool_fn fn, const char *what)
{
    double most = 0;
    for (int i = 0; i < WINDOWS; i++) {
        atomic_store(&w->done, 0);
        atomic_store(&w->longest_us, 0);
        we_pool_run(d->pool, fn, w);
        const uint64_t us = atomic_load(&w->longest_us), done = atomic_load(&w->done);
        we_log(device, DEBUG, "%s: %llu in %llu us (sum %llx)", what, (unsigned long long)done, (unsigned long long)us,
               (unsigned long long)atomic_load(&w->sum));
        if (us) most = WE_MAX(most, (double)done / ((double)us * 1e-6));
    }
    return most;
}

static double memory_speed(we_cpu *d, window *w)
{
    we_memory_info memory = { .size = sizeof memory };
    if (we_system_memory(&memory, NULL)) return 0;
    w->n_pieces = (size_t)WE_MIN((uint64_t)MOST_PIECES, memory.available_bytes / 8 / PIECE);
    if (w->n_pieces == 0 || !(w->words = we_malloc_aligned(PIECE, w->n_pieces * PIECE))) return 0;
    atomic_store(&w->touched, MOST_PIECES);
    we_pool_run(d->pool, touch, w);
    const double pieces = best(d, w, read_part, "MiB read");
    we_free(w->words);
    return pieces * (double)PIECE;
}

void we_cpu_measure(we_device *device, we_limits *out)
{
    we_cpu *d = we_cpu_of(device);
    window w = { .k = &d->k };
    pthread_mutex_lock(&d->step_lock); /* the threads are a step's */
    out->multiply_adds_per_second = best(d, &w, multiply, "multiply-adds");
    out->memory_bytes_per_second = memory_speed(d, &w);
    pthread_mutex_unlock(&d->step_lock);
}
