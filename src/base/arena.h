/* SPDX-License-Identifier: Apache-2.0
 * arena.h - memory with one lifetime: many small pieces, freed together. Three lifetimes matter (docs/architecture.md):
 * model, session, step. Also the checked helpers around malloc that everything else uses.
 *
 * Built with sanitizers, every piece gets a malloc of its own, so that ASan sees its borders. */
#ifndef WE_BASE_ARENA_H
#define WE_BASE_ARENA_H

#include "base/error.h"

typedef struct we_arena_block we_arena_block;
typedef struct we_arena {
    we_arena_block *blocks; /* newest first */
    size_t used_bytes;      /* handed out */
} we_arena;

/* An arena is ready when zeroed: `we_arena a = {0};`. One thread at a time. */

/** size bytes aligned to 16, not cleared; NULL when memory is out. size 0 gives a valid pointer. */
void *we_arena_alloc(we_arena *arena, size_t size);
/** n * size bytes, cleared; NULL when memory is out or the product overflows. */
void *we_arena_calloc(we_arena *arena, size_t n, size_t size);
/** A copy of len bytes with a NUL behind them. */
char *we_arena_strndup(we_arena *arena, const char *text, size_t len);
/** printf into the arena. */
char *we_arena_printf(we_arena *arena, const char *format, ...) WE_PRINTF(2, 3);
/** Free everything; the arena is ready again. */
void we_arena_deinit(we_arena *arena);

/* malloc family with overflow checks, and a hook: tests make the n-th allocation fail (we_alloc_fail_after). All code of
 * the library allocates through these or through an arena. NULL when memory is out; n * size == 0 gives a valid pointer. */
void *we_malloc(size_t size);
void *we_calloc(size_t n, size_t size);
void *we_realloc_array(void *p, size_t n, size_t size); /* the old block stays valid on failure */
char *we_strndup(const char *text, size_t len);
char *we_strdup(const char *text);
/** Aligned (a power of two, >= sizeof(void *)); free with we_free like the others. */
void *we_malloc_aligned(size_t alignment, size_t size);

/** Zeroed memory straight from the system, aligned to its pages, for much of which little may be used: what nobody touches takes
 * little. Goes back to the system at once, parts that are multiples of we_pages_unit alone as well. size: >= 1. NULL: no memory.
 * Asks for the system's large pages: one fault each (2 MB) instead of hundreds. */
void *we_pages_new(size_t size);
void we_pages_free(void *p, size_t size); /* NULL is allowed */
size_t we_pages_unit(void);

/** Tests only: let `n` more allocations succeed and fail those after; negative (the default) never fails. Per process. */
void we_alloc_fail_after(long n);

#endif
