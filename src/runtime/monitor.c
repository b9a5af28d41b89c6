/* SPDX-License-Identifier: Apache-2.0
 * monitor.c - this process's page of figures: made with its first model, gone with its last one. While there is none, or where no
 * folder can be had for it, the same struct in this process's own memory is counted in. Reading pages: monitor_each.c.
 *
 * Counting costs a token an addition, a store and a look at the clock: 0.13 us, beside steps of 1 ms and more.
 *
 * Invariant: `page` changes only while no model is open, and nothing counts without one but the tests. */
#include "runtime/monitor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static we_monitor_page own = { .magic = WE_MONITOR_MAGIC,
                               .version = WE_MONITOR_VERSION,
                               .size = sizeof(we_monitor_page) };
static _Atomic(we_monitor_page *) page = &own;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the change of `page`, its texts, and what is below */
static int n_models;
static char *page_path;

static _Atomic uint64_t *count(we_monitor_count i)
{
    return &atomic_load_explicit(&page, memory_order_relaxed)->counts[i];
}
static void add(we_monitor_count i, uint64_t n) { atomic_fetch_add_explicit(count(i), n, memory_order_relaxed); }
static void set(we_monitor_count i, uint64_t n) { atomic_store_explicit(count(i), n, memory_order_relaxed); }

/* ---- The page ---- */

/* Written whole before it is mapped: its block exists, so no store into the map can fail on a full disk. */
static we_monitor_page *map_page(const char *path, we_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST && unlink(path) == 0)
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        we_fail(err, WE_E_IO, "%s: %s", path, strerror(errno));
        return NULL;
    }
    void *map = MAP_FAILED;
    if (write(fd, &own, sizeof own) == (ssize_t)sizeof own)
        map = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const int code = errno;
    close(fd);
    if (map != MAP_FAILED) return map;
    unlink(path);
    we_fail(err, WE_E_IO, "%s: %s", path, strerror(code));
    return NULL;
}

static void open_page(void)
{
    we_process self;
    we_error why;
    if (!we_system_process(getpid(), &self)) return;
    own.pid = (uint64_t)getpid();
    own.start = self.start;
    char name[64];
    we_monitor_name(name, own.pid, own.start);
    for (int place = 0; place < WE_MONITOR_PLACES; place++) {
        char *dir = NULL;
        we_monitor_page *map = NULL;
        if (!we_monitor_dir(place, true, &dir, &why) && (page_path = we_path_join(dir, name)))
            map = map_page(page_path, &why);
        we_free(dir);
        if (map) {
            atomic_store(&page, map);
            return;
        }
        we_free(page_path);
        page_path = NULL;
        we_log(runtime, DEBUG, "no page for `whisperengine top` there: %s", why.message);
    }
}

static void close_page(void)
{
    we_monitor_page *map = atomic_load(&page);
    if (map == &own) return;
    for (int i = 0; i < WE_MONITOR_COUNTS; i++) atomic_store(&own.counts[i], atomic_load(&map->counts[i]));
    atomic_store(&page, &own);
    if (map->pid == (uint64_t)getpid()) unlink(page_path); /* a forked child leaves its parent's alone */
    munmap(map, sizeof *map);
    we_free(page_path);
    page_path = NULL;
}

/* Readers that see an odd number, or another one behind the texts than before them, try again. */
static void write_texts(const char *model, const char *device)
{
    we_monitor_page *p = atomic_load(&page);
    atomic_fetch_add(&p->sequence, 1);
    atomic_thread_fence(memory_order_seq_cst);
    snprintf(p->model, sizeof p->model, "%s", model);
    snprintf(p->device, sizeof p->device, "%s", device);
    atomic_thread_fence(memory_order_seq_cst);
    atomic_fetch_add(&p->sequence, 1);
}

void we_monitor_model_opened(const char *model, const char *device, uint64_t weights_bytes, uint64_t scratch_bytes)
{
    pthread_mutex_lock(&lock);
    if (n_models++ == 0) {
        we_monitor_tidy();
        open_page();
    }
    write_texts(model, device);
    set(WE_MONITOR_MODELS, (uint64_t)n_models);
    add(WE_MONITOR_WEIGHTS_BYTES, weights_bytes);
    add(WE_MONITOR_SCRATCH_BYTES, scratch_bytes);
    pthread_mutex_unlock(&lock);
}

void we_monitor_model_closed(uint64_t weights_bytes, uint64_t scratch_bytes)
{
    pthread_mutex_lock(&lock);
    n_models--;
    set(WE_MONITOR_MODELS, (uint64_t)n_models);
    add(WE_MONITOR_WEIGHTS_BYTES, 0 - weights_bytes);
    add(WE_MONITOR_SCRATCH_BYTES, 0 - scratch_bytes);
    if (n_models == 0) {
        close_page();
        write_texts("", "");
    }
    pthread_mutex_unlock(&lock);
}

we_status we_monitor_self(we_monitor_info *info, we_error *err)
{
    we_process self;
    if (!we_system_process(getpid(), &self))
        return we_fail(err, WE_E_IO, "the system does not tell about this process: is /proc mounted?");
    we_monitor_page copy = { .magic = WE_MONITOR_MAGIC, .version = WE_MONITOR_VERSION, .size = sizeof copy };
    pthread_mutex_lock(&lock);
    const we_monitor_page *p = atomic_load(&page);
    copy.pid = (uint64_t)getpid();
    copy.start = self.start;
    memcpy(copy.model, p->model, sizeof copy.model);
    memcpy(copy.device, p->device, sizeof copy.device);
    for (int i = 0; i < WE_MONITOR_COUNTS; i++)
        copy.counts[i] = atomic_load_explicit(&p->counts[i], memory_order_relaxed);
    pthread_mutex_unlock(&lock);
    const we_status st =
        we_monitor_parse((we_str){ (const char *)&copy, sizeof copy }, copy.pid, copy.start, info, err);
    if (!st) we_monitor_complete(info, &self);
    return st;
}

/* ---- Counting ---- */

static uint64_t rate_of(uint64_t n, double seconds) { return seconds > 0 ? (uint64_t)((double)n / seconds * 1000) : 0; }

void we_monitor_begin(we_monitor_request *r)
{
    *r = (we_monitor_request){ .start_s = we_now_s() };
    add(WE_MONITOR_WAITING, 1);
}

void we_monitor_first_token(we_monitor_request *r, size_t n_computed, size_t n_cached)
{
    r->first_s = we_now_s();
    const double seconds = r->first_s - r->start_s;
    add(WE_MONITOR_WAITING, (uint64_t)-1);
    add(WE_MONITOR_RUNNING, 1);
    add(WE_MONITOR_PROMPT_TOKENS, n_computed);
    add(WE_MONITOR_CACHED_TOKENS, n_cached);
    if (n_computed == 0) return;
    set(WE_MONITOR_PROMPT_RATE, rate_of(n_computed, seconds));
    set(WE_MONITOR_FIRST_TOKEN_US, (uint64_t)(seconds * 1e6));
}

void we_monitor_tokens(we_monitor_request *r, size_t n)
{
    r->n_generated += n;
    add(WE_MONITOR_GENERATED_TOKENS, n);
    if (r->n_generated > n) /* the prompt's last step gave the first */
        set(WE_MONITOR_GENERATION_RATE, rate_of(r->n_generated - n, we_now_s() - r->first_s));
}

void we_monitor_end(we_monitor_request *r, bool ok)
{
    add(r->first_s > 0 ? WE_MONITOR_RUNNING : WE_MONITOR_WAITING, (uint64_t)-1);
    add(ok ? WE_MONITOR_DONE : WE_MONITOR_FAILED, 1);
}

void we_monitor_kv(uint64_t *counted, uint64_t now)
{
    add(WE_MONITOR_KV_BYTES, now - *counted);
    *counted = now;
}
