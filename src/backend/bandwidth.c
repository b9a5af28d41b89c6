/* SPDX-License-Identifier: Apache-2.0
 * bandwidth.c - how fast this machine reads its memory, on all cores: what decoding waits for. Short on purpose (up to 0.1 s), so
 * the figure is good for "about": some time to touch a buffer beyond the caches, some to read it again and again. */
#include "backend/backend_int.h"

#define PIECE ((size_t)1 << 20)
#define MOST_PIECES 512 /* of all threads together */
#define TOUCH_S 0.05
#define READ_S 0.03

typedef struct reading {
    uint64_t *words;
    size_t n_pieces; /* of the buffer */
    double begin_s;
    _Atomic uint64_t touched, read; /* pieces */
    _Atomic uint64_t sum;           /* so that no read is left out */
    _Atomic uint64_t read_us;       /* the longest of the threads */
} reading;

static void own_part(const reading *r, int thread, int n_threads, size_t *first, size_t *n)
{
    *n = r->n_pieces / (size_t)n_threads;
    *first = (size_t)thread * *n;
}

static void touch(void *arg, int thread, int n_threads)
{
    reading *r = arg;
    size_t first, n, i = 0;
    own_part(r, thread, n_threads, &first, &n);
    for (; i < n && we_now_s() - r->begin_s < TOUCH_S; i++) memset((char *)r->words + (first + i) * PIECE, 1, PIECE);
    /* the part that all threads have: what one could not touch, none reads */
    uint64_t least = atomic_load(&r->touched);
    while (i < least && !atomic_compare_exchange_weak(&r->touched, &least, i)) {
    }
}

static void read_part(void *arg, int thread, int n_threads)
{
    reading *r = arg;
    size_t first, n;
    uint64_t sums[4] = { 0 }, pieces = 0;
    own_part(r, thread, n_threads, &first, &n);
    n = WE_MIN(n, (size_t)atomic_load(&r->touched));
    const double begin_s = we_now_s();
    for (size_t i = 0; n && we_now_s() - begin_s < READ_S; i = (i + 1) % n, pieces++) {
        const uint64_t *w = r->words + (first + i) * (PIECE / sizeof *w);
        for (size_t k = 0; k < PIECE / sizeof *w; k += 4)
            for (size_t j = 0; j < 4; j++) sums[j] += w[k + j];
    }
    const uint64_t us = (uint64_t)((we_now_s() - begin_s) * 1e6);
    atomic_fetch_add(&r->sum, sums[0] + sums[1] + sums[2] + sums[3]);
    atomic_fetch_add(&r->read, pieces);
    uint64_t longest = atomic_load(&r->read_us);
    while (us > longest && !atomic_compare_exchange_weak(&r->read_us, &longest, us)) {
    }
}

double we_memory_bandwidth(void)
{
    we_pool *pool;
    we_memory_info memory = { .size = sizeof memory };
    reading r = { .touched = MOST_PIECES };
    if (we_system_memory(&memory, NULL)) return 0;
    r.n_pieces = (size_t)WE_MIN((uint64_t)MOST_PIECES, memory.available_bytes / 8 / PIECE);
    if (r.n_pieces == 0 || !(r.words = we_malloc_aligned(PIECE, r.n_pieces * PIECE))) return 0;
    if (we_pool_open(&pool, 0, NULL)) {
        we_free(r.words);
        return 0;
    }
    r.begin_s = we_now_s();
    we_pool_run(pool, touch, &r);
    we_pool_run(pool, read_part, &r);
    const uint64_t us = atomic_load(&r.read_us), pieces = atomic_load(&r.read);
    we_pool_close(pool);
    we_log(backend, DEBUG, "read %llu MiB in %llu us (sum %llx)", (unsigned long long)pieces, (unsigned long long)us,
           (unsigned long long)atomic_load(&r.sum));
    we_free(r.words);
    return us ? (double)pieces * (double)PIECE / ((double)us * 1e-6) : 0;
}
