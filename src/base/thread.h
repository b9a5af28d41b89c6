/* SPDX-License-Identifier: Apache-2.0
 * thread.h - a pool that runs one function on all of its threads at once. Mutexes and conditions are pthread's own. */
#ifndef WE_BASE_THREAD_H
#define WE_BASE_THREAD_H

#include "base/error.h"

typedef struct we_pool we_pool;

/* The caller is thread 0 of n. */
typedef void (*we_pool_fn)(void *arg, int thread, int n_threads);

/** n_threads: 0 means one for each core that this process may use (we_cpu_count). The pool starts n_threads - 1 threads.
 * Errors: WE_E_NOMEM, WE_E_ARG (more than 1024). */
we_status we_pool_open(we_pool **out, int n_threads, we_error *err);
void we_pool_close(we_pool *pool); /* NULL is allowed */
int we_pool_threads(const we_pool *pool);

/** Run fn on every thread and wait for all. One caller at a time. Workers spin for some microseconds for the next call
 * before they sleep, since a decoding step makes hundreds of calls. Does not allocate. */
void we_pool_run(we_pool *pool, we_pool_fn fn, void *arg);

#endif
