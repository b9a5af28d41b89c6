/* SPDX-License-Identifier: Apache-2.0
 * arena.c - the malloc family that the whole library allocates through, and arenas above it.
 *
 * An arena is a list of blocks; the newest is filled from its low end. A piece too large to share a block gets one of its
 * own, put behind the newest so that the newest's rest stays in use. Under a sanitizer each piece is such a block. */
#include "base/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- malloc & co. ---- */

static atomic_long allocations_left = -1; /* negative: no limit */

void we_alloc_fail_after(long n) { atomic_store(&allocations_left, n); }

static bool may_allocate(void)
{
    long left = atomic_load_explicit(&allocations_left, memory_order_relaxed);
    do {
        if (left < 0) return true;
        if (left == 0) return false;
    } while (!atomic_compare_exchange_weak(&allocations_left, &left, left - 1));
    return true;
}

/* Bytes to ask malloc for; false where no object can be that large. Zero becomes one, to get a pointer. */
static bool bytes_of(size_t n, size_t size, size_t *bytes)
{
    if (size && n > PTRDIFF_MAX / size) return false;
    *bytes = n && size ? n * size : 1;
    return true;
}

void *we_malloc(size_t size)
{
    size_t bytes;
    return bytes_of(1, size, &bytes) && may_allocate() ? malloc(bytes) : NULL;
}

void *we_calloc(size_t n, size_t size)
{
    size_t bytes;
    return bytes_of(n, size, &bytes) && may_allocate() ? calloc(1, bytes) : NULL;
}

void *we_realloc_array(void *p, size_t n, size_t size)
{
    size_t bytes;
    return bytes_of(n, size, &bytes) && may_allocate() ? realloc(p, bytes) : NULL;
}

char *we_strndup(const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? we_malloc(len + 1) : NULL;
    if (!copy) return NULL;
    if (len) memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *we_strdup(const char *text) { return we_strndup(text, strlen(text)); }

void *we_malloc_aligned(size_t alignment, size_t size)
{
    assert(alignment >= sizeof(void *) && (alignment & (alignment - 1)) == 0);
    size_t bytes;
    void *p;
    /* Not aligned_alloc: C17 wants sizes that are multiples of the alignment, and macOS holds us to it. */
    return bytes_of(1, size, &bytes) && may_allocate() && posix_memalign(&p, alignment, bytes) == 0 ? p : NULL;
}

void *we_pages_new(size_t size)
{
    if (!may_allocate()) return NULL;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(p, size, MADV_HUGEPAGE);
#endif
    return p;
}

void we_pages_free(void *p, size_t size)
{
    if (p) munmap(p, size);
}

size_t we_pages_unit(void) { return (size_t)sysconf(_SC_PAGESIZE); }

void we_free(void *p) { free(p); }

/* ---- Arenas ---- */

#define ALIGNMENT 16
#define FIRST_BLOCK 4096
#define LARGEST_BLOCK (1024 * 1024) /* blocks double up to here, so that few are taken and at most 1 MiB idles */

#if defined(__SANITIZE_ADDRESS__)
#define BLOCK_PER_PIECE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define BLOCK_PER_PIECE 1
#endif
#endif
#ifndef BLOCK_PER_PIECE
#define BLOCK_PER_PIECE 0
#endif

struct we_arena_block {
    _Alignas(ALIGNMENT) we_arena_block *next;
    size_t capacity, used; /* of data */
    _Alignas(ALIGNMENT) char data[];
};
static_assert(sizeof(we_arena_block) % ALIGNMENT == 0, "data begins at an aligned offset");

static we_arena_block *block_new(size_t capacity)
{
    we_arena_block *block = capacity <= SIZE_MAX - sizeof(*block) ? we_malloc(sizeof(*block) + capacity) : NULL;
    if (block) *block = (we_arena_block){ .capacity = capacity };
    return block;
}

/* A block for one piece alone, behind the newest. It counts as full. */
static void *alloc_alone(we_arena *arena, size_t size)
{
    we_arena_block *block = block_new(size);
    if (!block) return NULL;
    block->used = size;
    we_arena_block **link = arena->blocks ? &arena->blocks->next : &arena->blocks;
    block->next = *link;
    *link = block;
    return block->data;
}

static size_t next_block_size(const we_arena *arena)
{
    if (!arena->blocks || arena->blocks->capacity < FIRST_BLOCK) return FIRST_BLOCK;
    return arena->blocks->capacity < LARGEST_BLOCK / 2 ? arena->blocks->capacity * 2 : LARGEST_BLOCK;
}

void *we_arena_alloc(we_arena *arena, size_t size)
{
    if (size > PTRDIFF_MAX - ALIGNMENT) return NULL;
    const size_t bytes = BLOCK_PER_PIECE ? size : (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    we_arena_block *block = arena->blocks;
    void *p;
    if (!BLOCK_PER_PIECE && block && bytes <= block->capacity - block->used) {
        p = block->data + block->used;
        block->used += bytes;
    } else if (BLOCK_PER_PIECE || bytes > next_block_size(arena) / 4) {
        p = alloc_alone(arena, bytes);
    } else {
        block = block_new(next_block_size(arena));
        if (!block) return NULL;
        block->next = arena->blocks;
        arena->blocks = block;
        p = block->data;
        block->used = bytes;
    }
    if (p) arena->used_bytes += size;
    return p;
}

void *we_arena_calloc(we_arena *arena, size_t n, size_t size)
{
    size_t bytes;
    if (!bytes_of(n, size, &bytes)) return NULL;
    void *p = we_arena_alloc(arena, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

char *we_arena_strndup(we_arena *arena, const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? we_arena_alloc(arena, len + 1) : NULL;
    if (!copy) return NULL;
    if (len) memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *we_arena_printf(we_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int len = vsnprintf(NULL, 0, format, args);
    char *text = len >= 0 ? we_arena_alloc(arena, (size_t)len + 1) : NULL;
    if (text) vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

void we_arena_deinit(we_arena *arena)
{
    for (we_arena_block *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        we_free(block);
    }
    *arena = (we_arena){ 0 };
}
