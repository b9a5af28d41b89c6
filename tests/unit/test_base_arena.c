/* SPDX-License-Identifier: Apache-2.0
 * test_base_arena.c - the malloc family, its hook for tests, and arenas. */
#include "support.h"

TEST(malloc_family_gives_pointers_for_nothing_and_refuses_overflow)
{
    void *p[] = { we_malloc(0), we_calloc(0, 8), we_calloc(8, 0), we_realloc_array(NULL, 0, 8), we_strndup("", 0) };
    for (size_t i = 0; i < WE_COUNT(p); i++) {
        assert_non_null(p[i]);
        we_free(p[i]);
    }
    we_free(NULL);
    assert_null(we_malloc(SIZE_MAX));
    assert_null(we_calloc(SIZE_MAX / 2, 4));
    assert_null(we_realloc_array(NULL, (size_t)1 << 40, (size_t)1 << 40));
}

TEST(malloc_family_aligns_and_clears)
{
    for (size_t alignment = sizeof(void *); alignment <= 4096; alignment *= 2) {
        void *p = we_malloc_aligned(alignment, 100);
        assert_int_equal((uintptr_t)p % alignment, 0);
        we_free(p);
    }
    unsigned char *cleared = we_calloc(10, 10);
    for (size_t i = 0; i < 100; i++) assert_int_equal(cleared[i], 0);
    we_free(cleared);
}

TEST(malloc_family_keeps_the_old_block_on_failure)
{
    char *text = we_strdup("kept");
    we_alloc_fail_after(0);
    assert_null(we_realloc_array(text, 1000, 1));
    we_alloc_fail_after(-1);
    assert_string_equal(text, "kept");
    we_free(text);
}

TEST(alloc_fail_after_lets_n_allocations_succeed)
{
    we_alloc_fail_after(2);
    void *p[] = { we_malloc(1), we_calloc(1, 1), we_malloc(1), we_malloc_aligned(64, 1), we_strdup("x") };
    we_alloc_fail_after(-1);
    assert_true(p[0] && p[1]);
    assert_true(!p[2] && !p[3] && !p[4]);
    we_free(p[0]);
    we_free(p[1]);
}

TEST(arena_pieces_are_aligned_and_apart)
{
    we_arena arena = { 0 };
    unsigned char *pieces[2000];
    size_t sizes[2000], total = 0;
    uint64_t seed = 7;
    for (size_t i = 0; i < WE_COUNT(pieces); i++) {
        sizes[i] = i % 100 == 99 ? 5000 : test_random(&seed) % 200; /* some larger than a block likes */
        pieces[i] = we_arena_alloc(&arena, sizes[i]);
        total += sizes[i];
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i & 0xFF), sizes[i]);
    }
    for (size_t i = 0; i < WE_COUNT(pieces); i++)
        for (size_t k = 0; k < sizes[i]; k++)
            if (pieces[i][k] != (i & 0xFF)) fail_msg("piece %zu was overwritten", i);
    assert_int_equal(arena.used_bytes, total);
    we_arena_deinit(&arena);
    assert_int_equal(arena.used_bytes, 0);
    assert_non_null(we_arena_alloc(&arena, 1)); /* ready again */
    we_arena_deinit(&arena);
}

TEST(arena_makes_text)
{
    we_arena arena = { 0 };
    assert_string_equal(we_arena_printf(&arena, "model.layers.%d.%s", 12, "self_attn"), "model.layers.12.self_attn");
    assert_string_equal(we_arena_strndup(&arena, "abcdef", 3), "abc");
    assert_string_equal(we_arena_strndup(&arena, NULL, 0), "");
    we_arena_deinit(&arena);
}

TEST(arena_clears_and_refuses_overflow)
{
    we_arena arena = { 0 };
    memset(we_arena_alloc(&arena, 64), 0xFF, 64);
    const unsigned char *cleared = we_arena_calloc(&arena, 8, 8);
    for (size_t i = 0; i < 64; i++) assert_int_equal(cleared[i], 0);
    assert_null(we_arena_calloc(&arena, SIZE_MAX / 4, 8));
    assert_null(we_arena_alloc(&arena, SIZE_MAX));
    assert_null(we_arena_strndup(&arena, "", SIZE_MAX));
    assert_non_null(we_arena_calloc(&arena, 0, 8));
    we_arena_deinit(&arena);
}

TEST(arena_stays_usable_after_memory_ran_out)
{
    we_arena arena = { 0 };
    char *first = we_arena_strndup(&arena, "first", 5);
    we_alloc_fail_after(0);
    assert_null(we_arena_alloc(&arena, 1 << 20));
    assert_null(we_arena_printf(&arena, "%*s", 1 << 20, ""));
    we_alloc_fail_after(-1);
    assert_non_null(we_arena_alloc(&arena, 1 << 20));
    assert_string_equal(first, "first");
    we_arena_deinit(&arena);
}
