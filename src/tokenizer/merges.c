/* SPDX-License-Identifier: Apache-2.0
 * merges.c - a SentencePiece vocabulary as BPE merges. SentencePiece joins the two neighbours whose joined text has the
 * highest score; tokenizer.json wants the pairs themselves, best first: every way of cutting every piece in two pieces,
 * by the score of the whole. Ways of cutting the same piece come in the order of their parts' ids.
 * Source: generate_merges in transformers/convert_slow_tokenizer.py, whose lists the published files hold. */
#include "tokenizer/tokenizer_int.h"

#include <math.h>
#include <stdlib.h>

typedef struct merge {
    float score;
    uint32_t whole;
    int32_t left, right;
} merge;

typedef struct merge_list {
    merge *items;
    size_t n, capacity;
} merge_list;

/* -0.0 and 0.0 are one score; a NaN comes last. */
static int by_score(const void *a, const void *b)
{
    const merge *x = a, *y = b;
    const float p = x->score == x->score ? x->score : -INFINITY, q = y->score == y->score ? y->score : -INFINITY;
    if (p != q) return p > q ? -1 : 1;
    if (x->whole != y->whole) return x->whole < y->whole ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

static bool add(merge_list *list, merge m)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 4096;
        merge *grown = we_realloc_array(list->items, capacity, sizeof *grown);
        if (!grown) return false;
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->n++] = m;
    return true;
}

static bool cut_piece(merge_list *list, const we_vocab *v, const we_scored *piece, uint32_t index)
{
    size_t at = 0;
    while (at < piece->text.len) {
        we_utf8_next(piece->text, &at);
        if (at == piece->text.len) break;
        const int32_t left = we_vocab_find(v, (we_str){ piece->text.ptr, at });
        if (left < 0) continue;
        const int32_t right = we_vocab_find(v, (we_str){ piece->text.ptr + at, piece->text.len - at });
        if (right >= 0 && !add(list, (merge){ piece->score, index, left, right })) return false;
    }
    return true;
}

we_status we_tok_write_merges(we_json_writer *w, const we_scored *pieces, size_t n, we_error *err)
{
    we_vocab v = { .max_id = -1 };
    merge_list list = { 0 };
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) ok = we_vocab_add(&v, pieces[i].text, (int32_t)i);
    for (size_t i = 0; i < n && ok; i++)
        if (we_vocab_find(&v, pieces[i].text) == (int32_t)i) ok = cut_piece(&list, &v, &pieces[i], (uint32_t)i);
    if (ok && list.n) qsort(list.items, list.n, sizeof *list.items, by_score);
    we_json_begin_array(w);
    for (size_t i = 0; i < list.n && ok; i++) {
        we_json_begin_array(w);
        we_json_write_str(w, pieces[list.items[i].left].text);
        we_json_write_str(w, pieces[list.items[i].right].text);
        we_json_end_array(w);
    }
    we_json_end_array(w);
    we_vocab_deinit(&v);
    we_free(list.items);
    return ok ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for the merges of %zu pieces", n);
}
