/* SPDX-License-Identifier: Apache-2.0
 * map.c - mapped files, and the SIGBUS handler that keeps a file cut short from ending the process.
 *
 * The handler runs in whichever thread touched the missing page and may take no lock, so the registry of maps is a list of
 * slots that is only ever added to; a slot is claimed and released under a mutex, and read without one:
 *
 *     claim:    end, torn, then begin     (release order: who sees `begin` sees the rest)
 *     release:  begin = NOWHERE           (before munmap, so that no address is ever found in two slots)
 *
 * A map whose page is missing stays in its slot while the handler looks, since its owner is just reading from it; so the
 * handler always finds the right one. wayland's wayland-shm.c puts zeros in a torn buffer's place in the same way. */
#include "base/arena.h"
#include "base/base_int.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOWHERE UINTPTR_MAX
#define SLOTS_PER_CHUNK 64

typedef struct slot {
    atomic_uintptr_t begin, end; /* addresses; begin is NOWHERE while the slot is free */
    atomic_bool torn;            /* a page was missing */
} slot;

typedef struct chunk {
    slot slots[SLOTS_PER_CHUNK];
    struct chunk *_Atomic next; /* chunks are never freed */
} chunk;

struct we_map {
    slot *slot; /* NULL for an empty file, which has nothing to tear */
    void *data;
    size_t len;
    int fd; /* kept for we_map_check: the path may name another file by then */
    char path[];
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static chunk *_Atomic registry;
static uintptr_t page_size;

/* ---- The handler ---- */

static struct sigaction previous;
static siginfo_t *_Atomic passing; /* the signal that pass_on hands on just now */

/* A page that is missing, not a signal that somebody sent. */
static bool is_fault(const siginfo_t *info)
{
    return info->si_code > 0 && info->si_code != SI_USER; /* which is positive on macOS */
}

/* Hand a SIGBUS that is not ours to whoever had the signal before us. Who took it from us and lost it again when another
 * map was opened may in turn know us as its own previous one: the same signal coming round ends with the default. */
static void pass_on(int signal_number, siginfo_t *info, void *context)
{
    const bool round = atomic_exchange(&passing, info) == info;
    if (!round && (previous.sa_flags & SA_SIGINFO)) {
        previous.sa_sigaction(signal_number, info, context);
    } else if (!round && previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signal_number);
    } else if (round || is_fault(info) || previous.sa_handler == SIG_DFL) {
        signal(SIGBUS, SIG_DFL);
        if (!is_fault(info)) raise(SIGBUS); /* a fault comes back by itself when we return */
    }
    atomic_store(&passing, NULL);
}

static slot *find_slot(uintptr_t address)
{
    for (chunk *c = atomic_load(&registry); c; c = atomic_load(&c->next))
        for (size_t i = 0; i < SLOTS_PER_CHUNK; i++) {
            slot *s = &c->slots[i];
            const uintptr_t begin = atomic_load(&s->begin);
            if (begin == NOWHERE || address < begin) continue;
            const uintptr_t end = atomic_load(&s->end);
            if (address < end && atomic_load(&s->begin) == begin) return s; /* not claimed anew in between */
        }
    return NULL;
}

/* From the missing page to the map's end, not that page alone: the rest is missing too, and a mapping for each page would
 * soon meet the system's limit of mappings. */
static bool put_zeros(const slot *s, uintptr_t address)
{
    const uintptr_t page = address & ~(page_size - 1);
    return mmap((void *)page, atomic_load(&s->end) - page, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    const int saved_errno = errno;
    slot *s = is_fault(info) ? find_slot((uintptr_t)info->si_addr) : NULL;
    if (s && put_zeros(s, (uintptr_t)info->si_addr))
        atomic_store(&s->torn, true);
    else
        pass_on(signal_number, info, context);
    errno = saved_errno;
}

/* With each map, since others set handlers too (crash reporters, test frameworks). Called under registry_lock. */
static void install_handler(void)
{
    struct sigaction current, ours = { .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigaction(SIGBUS, NULL, &current);
    if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == on_sigbus) return;
    if (!page_size) page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (current.sa_sigaction != on_sigbus) previous = current; /* equal: put back by signal(), which loses SA_SIGINFO */
    ours.sa_sigaction = on_sigbus;
    sigemptyset(&ours.sa_mask);
    sigaction(SIGBUS, &ours, NULL);
}

/* ---- The registry ---- */

static slot *find_free_slot(void)
{
    chunk *_Atomic *link = &registry;
    for (chunk *c; (c = atomic_load(link)); link = &c->next)
        for (size_t i = 0; i < SLOTS_PER_CHUNK; i++)
            if (atomic_load(&c->slots[i].begin) == NOWHERE) return &c->slots[i];

    chunk *c = we_calloc(1, sizeof(*c));
    if (!c) return NULL;
    for (size_t i = 0; i < SLOTS_PER_CHUNK; i++) atomic_init(&c->slots[i].begin, NOWHERE);
    atomic_store(link, c);
    return &c->slots[0];
}

static slot *slot_claim(const void *data, size_t len)
{
    pthread_mutex_lock(&registry_lock);
    install_handler();
    slot *s = find_free_slot();
    if (s) {
        /* The last page counts whole: a read behind the file's end, up to the page's, is no fault anyway. */
        atomic_store(&s->end, ((uintptr_t)data + len + page_size - 1) & ~(page_size - 1));
        atomic_store(&s->torn, false);
        atomic_store(&s->begin, (uintptr_t)data);
    }
    pthread_mutex_unlock(&registry_lock);
    return s;
}

static void slot_release(slot *s)
{
    pthread_mutex_lock(&registry_lock);
    atomic_store(&s->begin, NOWHERE);
    pthread_mutex_unlock(&registry_lock);
}

/* ---- Maps ---- */

/* Map the open file m->fd. What was taken is we_map_close's to give back, on failure too. */
static we_status map_fd(we_map *m, we_error *err)
{
    struct stat info;
    if (fstat(m->fd, &info) != 0) return we_fail_errno(err, m->path, "cannot be read", errno);
    if (!S_ISREG(info.st_mode))
        return we_fail(err, WE_E_IO, "%s: is not a regular file, so it cannot be mapped", m->path);
    if ((uint64_t)info.st_size > PTRDIFF_MAX) return we_fail(err, WE_E_IO, "%s: too large to be mapped", m->path);
    if (info.st_size == 0) return WE_OK;
    const size_t len = (size_t)info.st_size;
    void *data = mmap(NULL, len, PROT_READ, MAP_SHARED, m->fd, 0);
    if (data == MAP_FAILED) return we_fail_errno(err, m->path, "cannot be mapped", errno);
    m->data = data;
    m->len = len;
    m->slot = slot_claim(data, len);
    return m->slot ? WE_OK : we_fail(err, WE_E_NOMEM, "%s: no memory for its map's entry", m->path);
}

we_status we_map_open(we_map **out, const char *path, we_error *err)
{
    *out = NULL;
    const size_t path_size = strlen(path) + 1;
    we_map *m = we_calloc(1, sizeof(*m) + path_size);
    if (!m) return we_fail(err, WE_E_NOMEM, "%s: no memory for its map", path);
    memcpy(m->path, path, path_size);
    m->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait for its writer */
    const we_status st = m->fd < 0 ? we_fail_errno(err, path, "cannot be opened", errno) : map_fd(m, err);
    if (st) {
        we_map_close(m);
        return st;
    }
    *out = m;
    return WE_OK;
}

void we_map_close(we_map *map)
{
    if (!map) return;
    if (map->slot) slot_release(map->slot);
    if (map->data) munmap(map->data, map->len);
    if (map->fd >= 0) close(map->fd);
    we_free(map);
}

const uint8_t *we_map_data(const we_map *map) { return map->data ? map->data : (const uint8_t *)""; }

size_t we_map_len(const we_map *map) { return map->len; }

const char *we_map_path(const we_map *map) { return map->path; }

we_status we_map_check(const we_map *map, we_error *err)
{
    if (!map->slot) return WE_OK;
    struct stat info;
    const bool known = fstat(map->fd, &info) == 0;
    if (known && (uint64_t)info.st_size < map->len)
        return we_fail(err, WE_E_DEVICE,
                       "%s was cut short while in use (%zu bytes before, %lld now): load the model again", map->path,
                       map->len, (long long)info.st_size);
    if (!known || atomic_load(&map->slot->torn)) /* torn but long enough: grown again, or the disk failed to read */
        return we_fail(err, WE_E_DEVICE, "%s could not be read while in use: check its disk and load the model again",
                       map->path);
    return WE_OK;
}

void we_map_will_need(const we_map *map)
{
    if (map->data) madvise(map->data, map->len, MADV_WILLNEED);
}

bool we_map_is_cached(const we_map *map, size_t at, size_t len)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char seen[1024]; /* a byte for each page; its lowest bit */
    if (at > map->len || len > map->len - at) return false;
    const size_t end = at + len;
    for (size_t from = at / page * page; from < end; from += sizeof seen * page) {
        const size_t n = end - from < sizeof seen * page ? end - from : sizeof seen * page;
        if (mincore((char *)map->data + from, n, (void *)seen) != 0) return false;
        for (size_t i = 0; i < (n + page - 1) / page; i++)
            if (!(seen[i] & 1)) return false;
    }
    return true;
}

void we_map_drop(const we_map *map, size_t at, size_t len)
{
    /* Pages that are only partly meant stay: their other part may be in use. */
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), begin = (at + page - 1) / page * page;
    if (!map->data || at > map->len || len > map->len - at || at + len < begin + page) return;
    madvise((char *)map->data + begin, (at + len) / page * page - begin, MADV_DONTNEED);
}
