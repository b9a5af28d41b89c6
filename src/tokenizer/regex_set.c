/* SPDX-License-Identifier: Apache-2.0
 * regex_set.c - sets of code points as sorted ranges, for the time that a pattern is compiled. */
#include "tokenizer/regex_int.h"

#include <stdlib.h>

bool we_re_set_add(we_arena *arena, we_re_set *set, uint32_t lo, uint32_t hi)
{
    if (set->n == set->capacity) {
        size_t capacity = set->capacity ? set->capacity * 2 : 8;
        we_re_range *ranges = we_arena_calloc(arena, capacity, sizeof(*ranges));
        if (!ranges) return false;
        if (set->n) memcpy(ranges, set->ranges, set->n * sizeof(*ranges));
        set->ranges = ranges;
        set->capacity = capacity;
    }
    set->ranges[set->n++] = (we_re_range){ lo, hi };
    return true;
}

static int by_start(const void *a, const void *b)
{
    const we_re_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

void we_re_set_sort(we_re_set *set)
{
    if (set->n == 0) return;
    qsort(set->ranges, set->n, sizeof(*set->ranges), by_start);
    size_t n = 1;
    for (size_t i = 1; i < set->n; i++) {
        we_re_range *last = &set->ranges[n - 1];
        if (set->ranges[i].lo <= last->hi + 1)
            last->hi = WE_MAX(last->hi, set->ranges[i].hi);
        else
            set->ranges[n++] = set->ranges[i];
    }
    set->n = n;
}

bool we_re_set_add_uni(we_arena *arena, we_re_set *set, const we_uni_set *uni)
{
    const uint32_t *word = &we_uni_ranges[uni->start], *const words_end = word + uni->n;
    size_t category = 0;
    for (uint32_t from = 0, to; from <= WE_RUNE_MAX; from = to + 1) {
        const bool last = category + 1 == we_uni_n_categories;
        const uint32_t category_end = last ? WE_RUNE_MAX : (we_uni_categories[category + 1] >> 5) - 1;
        bool in = uni->categories >> (we_uni_categories[category] & 31) & 1;
        to = category_end;
        if (word < words_end) {
            const uint32_t lo = *word >> 11, hi = lo + (*word & 2047);
            if (from < lo) {
                to = WE_MIN(to, lo - 1);
            } else {
                in = !in;
                to = WE_MIN(to, hi);
                if (to == hi) word++;
            }
        }
        if (to == category_end) category++;
        if (in && !we_re_set_add(arena, set, from, to)) return false;
    }
    we_re_set_sort(set);
    return true;
}

bool we_re_set_union(we_arena *arena, we_re_set *set, const we_re_set *other)
{
    for (size_t i = 0; i < other->n; i++)
        if (!we_re_set_add(arena, set, other->ranges[i].lo, other->ranges[i].hi)) return false;
    we_re_set_sort(set);
    return true;
}

bool we_re_set_negate(we_arena *arena, we_re_set *set)
{
    we_re_set rest = { 0 };
    uint32_t from = 0;
    for (size_t i = 0; i < set->n; i++) {
        if (set->ranges[i].lo > from && !we_re_set_add(arena, &rest, from, set->ranges[i].lo - 1)) return false;
        from = set->ranges[i].hi + 1;
    }
    if (from <= WE_RUNE_MAX && !we_re_set_add(arena, &rest, from, WE_RUNE_MAX)) return false;
    *set = rest;
    return true;
}

bool we_re_set_intersect(we_arena *arena, we_re_set *set, const we_re_set *other)
{
    we_re_set both = { 0 };
    for (size_t i = 0, k = 0; i < set->n && k < other->n;) {
        const we_re_range *a = &set->ranges[i], *b = &other->ranges[k];
        uint32_t lo = WE_MAX(a->lo, b->lo), hi = WE_MIN(a->hi, b->hi);
        if (lo <= hi && !we_re_set_add(arena, &both, lo, hi)) return false;
        if (a->hi < b->hi)
            i++;
        else
            k++;
    }
    *set = both;
    return true;
}

bool we_re_set_has(const we_re_set *set, uint32_t rune)
{
    size_t lo = 0, hi = set->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (set->ranges[mid].hi < rune)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < set->n && set->ranges[lo].lo <= rune;
}

bool we_re_set_meets(const we_re_set *a, const we_re_set *b)
{
    for (size_t i = 0, k = 0; i < a->n && k < b->n;) {
        if (a->ranges[i].hi < b->ranges[k].lo)
            i++;
        else if (b->ranges[k].hi < a->ranges[i].lo)
            k++;
        else
            return true;
    }
    return false;
}

bool we_re_set_equal(const we_re_set *a, const we_re_set *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->ranges, b->ranges, a->n * sizeof(*a->ranges)) == 0);
}

bool we_re_set_fold(we_arena *arena, we_re_set *set)
{
    we_re_set targets = { 0 }; /* what members fold to */
    const we_uni_case_run *const end = &we_uni_fold[we_uni_n_fold];
    for (const we_uni_case_run *run = we_uni_fold; run < end; run++)
        for (uint32_t from = run->first; from <= run->last; from += run->step) {
            const uint32_t to = from + (uint32_t)run->difference;
            if ((we_re_set_has(set, from) || we_re_set_has(set, to)) && !we_re_set_add(arena, &targets, to, to))
                return false;
        }
    we_re_set_sort(&targets);
    for (const we_uni_case_run *run = we_uni_fold; run < end; run++)
        for (uint32_t from = run->first; from <= run->last; from += run->step) {
            const uint32_t to = from + (uint32_t)run->difference;
            if (we_re_set_has(&targets, to) &&
                !(we_re_set_add(arena, set, from, from) && we_re_set_add(arena, set, to, to)))
                return false;
        }
    we_re_set_sort(set);
    return true;
}
