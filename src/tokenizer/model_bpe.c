/* SPDX-License-Identifier: Apache-2.0
 * model_bpe.c - byte pair encoding: the pair of lowest rank merges first, the leftmost among equals, until none is left.
 *
 * Three things make it fast, none changes the result: short pieces are merged in an array, long ones with a heap over a
 * linked list (n log n); words seen before come from a cache of one cache line each; and a piece that no
 * pre-tokenizer cut (SentencePiece's models) is cut where two neighbouring characters stand in no token together, since no
 * merge can cross that place.
 * Source: Sennrich et al., arXiv:1508.07909; tokenizers/src/models/bpe. */
#include "tokenizer/tokenizer_int.h"

#include <stdatomic.h>

typedef struct merge {
    uint32_t left_1; /* left + 1; 0: free */
    int32_t right;
    uint32_t rank;
    int32_t id;
} merge;

struct we_bpe {
    merge *merges; /* a hash table of n_slots */
    size_t n_slots, n_merges;
    we_str prefix, suffix, unk_token;
    int32_t unk_id; /* -1: none, or not in the vocabulary */
    bool fuse_unk, byte_fallback, ignore_merges;
    bool whole_alphabet;   /* every character of the byte alphabet is a token */
    int32_t chars[256];    /* by byte: the token of that byte's character of the byte alphabet */
    int32_t ascii[128];    /* the token of that character; -1: none */
    int32_t fallback[256]; /* "<0x00>" ... */
    int32_t min_fallback, max_fallback;
    uint64_t *pairs; /* characters that stand together in some token (pairs.c); NULL: pieces are never cut */
    bool borrowed;   /* merges and pairs are a compiled form's */
    uint32_t *
        byte_ranks; /* [256][256]: the rank of two bytes' symbols, from a table that stays in the processor's cache; NULL: no
                             whole alphabet */
    _Atomic(struct cached_word *) idle[8]; /* caches that no call uses just now: warm for the next one */
};

#define SHORT_PIECE 64 /* symbols: up to here the array is faster than the heap */

/* ---- Scratch of one call ---- */

typedef struct cached_word { /* 64 bytes */
    uint8_t len, n_ids;      /* len 0: free */
    char text[22];
    int32_t ids[10];
} cached_word;
#define CACHE_WORDS 16384

typedef struct heap_item {
    uint32_t rank, pos;
} heap_item;

typedef struct bpe_work {
    int32_t *ids;                    /* [capacity] */
    uint32_t *ranks, *next, *before; /* of the pair that begins here; neighbours */
    heap_item *heap;
    size_t n_heap, heap_capacity, capacity;
    cached_word *cache;
    size_t n_bytes; /* encoded so far: a cache pays only for more than a few words */
} bpe_work;

/* Words seen in earlier calls are worth more than the megabyte: calls of 4 KB are twice as fast with them. */
static cached_word *take_cache(we_bpe *m)
{
    for (size_t i = 0; i < WE_COUNT(m->idle); i++) {
        cached_word *cache = atomic_exchange(&m->idle[i], NULL);
        if (cache) return cache;
    }
    return NULL;
}

static void give_cache(we_bpe *m, cached_word *cache)
{
    for (size_t i = 0; cache && i < WE_COUNT(m->idle); i++) {
        cached_word *none = NULL;
        if (atomic_compare_exchange_strong(&m->idle[i], &none, cache)) return;
    }
    we_free(cache);
}

void we_bpe_work_free(const we_tok *tok, void *bpe)
{
    bpe_work *w = bpe;
    if (!w) return;
    give_cache(tok->bpe, w->cache);
    we_free(w->ids);
    we_free(w->ranks);
    we_free(w->next);
    we_free(w->before);
    we_free(w->heap);
    we_free(w);
}

static bool reserve(bpe_work *w, size_t n)
{
    if (n <= w->capacity) return true;
    size_t capacity = WE_MAX(n, w->capacity * 2);
    void *grown[4] = { we_realloc_array(w->ids, capacity, 4) };
    w->ids = grown[0] ? grown[0] : w->ids;
    grown[1] = we_realloc_array(w->ranks, capacity, 4);
    w->ranks = grown[1] ? grown[1] : w->ranks;
    grown[2] = we_realloc_array(w->next, capacity, 4);
    w->next = grown[2] ? grown[2] : w->next;
    grown[3] = we_realloc_array(w->before, capacity, 4);
    w->before = grown[3] ? grown[3] : w->before;
    if (!grown[0] || !grown[1] || !grown[2] || !grown[3]) return false;
    w->capacity = capacity;
    return true;
}

/* ---- Merges ---- */

static size_t merge_hash(int32_t left, int32_t right)
{
    uint64_t hash = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15U;
    return (size_t)(hash >> 24);
}

static const merge *find_merge(const we_bpe *m, int32_t left, int32_t right)
{
    for (size_t at = merge_hash(left, right) & (m->n_slots - 1);; at = (at + 1) & (m->n_slots - 1)) {
        const merge *slot = &m->merges[at];
        if (slot->left_1 == (uint32_t)left + 1 && slot->right == right) return slot;
        if (!slot->left_1) return NULL;
    }
}

#define NO_RANK UINT32_MAX

static uint32_t rank_of(const we_bpe *m, int32_t left, int32_t right)
{
    const merge *x = find_merge(m, left, right);
    return x ? x->rank : NO_RANK;
}

/* A look-up is a cache miss as a rule: two that are asked together wait together. */
static void prefetch_merge(const we_bpe *m, int32_t left, int32_t right)
{
    __builtin_prefetch(&m->merges[merge_hash(left, right) & (m->n_slots - 1)]);
}

static bool grow_merges(we_bpe *m)
{
    size_t n_slots = m->n_slots ? m->n_slots * 2 : 1024;
    merge *slots = we_calloc(n_slots, sizeof(*slots));
    if (!slots) return false;
    for (size_t i = 0; i < m->n_slots; i++) {
        if (!m->merges[i].left_1) continue;
        size_t at = merge_hash((int32_t)(m->merges[i].left_1 - 1), m->merges[i].right) & (n_slots - 1);
        while (slots[at].left_1) at = (at + 1) & (n_slots - 1);
        slots[at] = m->merges[i];
    }
    we_free(m->merges);
    m->merges = slots;
    m->n_slots = n_slots;
    return true;
}

/* A pair that is there already gets the later rank, as in the reference. */
static bool add_merge(we_bpe *m, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    if (m->n_merges * 4 >= m->n_slots * 3 && !grow_merges(m)) return false;
    merge *slot = (merge *)find_merge(m, left, right);
    if (!slot) {
        size_t at = merge_hash(left, right) & (m->n_slots - 1);
        while (m->merges[at].left_1) at = (at + 1) & (m->n_slots - 1);
        slot = &m->merges[at];
        m->n_merges++;
    }
    *slot = (merge){ (uint32_t)left + 1, right, rank, id };
    return true;
}

/* ---- Reading merges ---- */

/* Three look-ups a merge, each a cache miss in a vocabulary of 260,000: merges are gathered, and all misses of a batch wait
 * together. To open gemma3 (515,000 merges) takes 0.26 s so, and took twice that one by one. */
#define BATCH 64
typedef struct pending_merge {
    we_str left, right; /* in the file, or for those with escapes at an offset of `copies` (ptr NULL) */
    size_t left_at, right_at;
    uint32_t hashes[3];
} pending_merge;
typedef struct merge_batch {
    pending_merge merges[BATCH];
    size_t n, index; /* index: of the first */
    we_buf copies;
    we_str prefix;
} merge_batch;

static we_status bad_merge(size_t index, const char *what, we_str text, we_error *err)
{
    return we_fail(err, WE_E_FORMAT, "model.merges[%zu]: %s \"%.*s\"", index, what, (int)WE_MIN(text.len, 80),
                   text.ptr);
}

static we_status add_pair(we_tok *tok, const pending_merge *p, size_t index, we_str rest, we_error *err)
{
    static const we_str nothing = { "", 0 };
    int32_t a = we_vocab_find_hashed(&tok->vocab, p->hashes[0], p->left, nothing);
    int32_t b = we_vocab_find_hashed(&tok->vocab, p->hashes[1], p->right, nothing);
    if (a < 0 || b < 0) return bad_merge(index, "the vocabulary lacks", a < 0 ? p->left : p->right, err);
    int32_t id = we_vocab_find_hashed(&tok->vocab, p->hashes[2], p->left, rest);
    if (id < 0) {
        char text[96];
        snprintf(text, sizeof(text), "%.*s%.*s", (int)WE_MIN(p->left.len, 40), p->left.ptr, (int)WE_MIN(rest.len, 40),
                 rest.ptr);
        return bad_merge(index, "the vocabulary lacks the merged token", we_str_from(text), err);
    }
    return add_merge(tok->bpe, a, b, (uint32_t)index, id) ? WE_OK
                                                          : we_fail(err, WE_E_NOMEM, "no memory for model.merges");
}

static we_status batch_end(we_tok *tok, merge_batch *batch, we_error *err)
{
    we_status st = WE_OK;
    if (batch->copies.failed) return we_fail(err, WE_E_NOMEM, "no memory for model.merges");
    for (size_t i = 0; i < batch->n; i++) {
        pending_merge *p = &batch->merges[i];
        if (!p->left.ptr) p->left.ptr = batch->copies.ptr + p->left_at;
        if (!p->right.ptr) p->right.ptr = batch->copies.ptr + p->right_at;
        if (p->right.len < batch->prefix.len)
            return bad_merge(batch->index + i, "shorter than continuing_subword_prefix:", p->right, err);
        we_str rest = { p->right.ptr + batch->prefix.len, p->right.len - batch->prefix.len }, nothing = { "", 0 };
        p->hashes[0] = we_vocab_hash_pair(p->left, nothing);
        p->hashes[1] = we_vocab_hash_pair(p->right, nothing);
        p->hashes[2] = we_vocab_hash_pair(p->left, rest);
    }
    for (int step = 0; step < 3; step++)
        for (size_t i = 0; i < batch->n; i++)
            for (int k = 0; k < 3; k++) we_vocab_prefetch(&tok->vocab, batch->merges[i].hashes[k], step);
    for (size_t i = 0; i < batch->n && !st; i++) {
        const pending_merge *p = &batch->merges[i];
        we_str rest = { p->right.ptr + batch->prefix.len, p->right.len - batch->prefix.len };
        st = add_pair(tok, p, batch->index + i, rest, err);
    }
    batch->index += batch->n;
    batch->n = 0;
    we_buf_clear(&batch->copies);
    return st;
}

/* The reader's text, for as long as the batch lasts. */
static we_str keep(merge_batch *batch, const we_json_reader *r, size_t start, size_t len, size_t *at)
{
    if (r->text_in_input) return (we_str){ r->text.ptr + start, len };
    *at = batch->copies.len;
    we_buf_append(&batch->copies, r->text.ptr + start, len);
    we_buf_append_char(&batch->copies, 0); /* so that an empty one has a place too */
    return (we_str){ NULL, len };
}

static bool is_string(const we_json_reader *r, we_json_event ev)
{
    return ev == WE_JSON_EV_VALUE && r->type == WE_JSON_STRING;
}

static we_status next_merge(we_json_reader *r, we_json_event ev, merge_batch *batch, we_error *err)
{
    pending_merge *p = &batch->merges[batch->n];
    size_t index = batch->index + batch->n;
    if (is_string(r, ev)) { /* "a b" */
        const char *space = memchr(r->text.ptr, ' ', r->text.len);
        size_t before = space ? (size_t)(space - r->text.ptr) : 0;
        if (!space || memchr(space + 1, ' ', r->text.len - before - 1))
            return bad_merge(index, "expected two tokens and a space between them, found", r->text, err);
        p->left = keep(batch, r, 0, before, &p->left_at);
        p->right = keep(batch, r, before + 1, r->text.len - before - 1, &p->right_at);
        batch->n++;
        return WE_OK;
    }
    if (ev == WE_JSON_EV_BEGIN_ARRAY && is_string(r, ev = we_json_next(r))) { /* ["a", "b"] */
        p->left = keep(batch, r, 0, r->text.len, &p->left_at);
        if (is_string(r, ev = we_json_next(r))) {
            p->right = keep(batch, r, 0, r->text.len, &p->right_at);
            ev = we_json_next(r);
            if (ev == WE_JSON_EV_END_ARRAY) {
                batch->n++;
                return WE_OK;
            }
        }
    }
    if (ev == WE_JSON_EV_ERROR) return we_fail(err, r->error.status, "%s", r->error.message);
    return we_fail(err, WE_E_FORMAT, "model.merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", index);
}

we_status we_bpe_read_merges(we_tok *tok, we_json_reader *r, we_str prefix, we_error *err)
{
    if (!(tok->bpe = we_calloc(1, sizeof(*tok->bpe))) || !grow_merges(tok->bpe))
        return we_fail(err, WE_E_NOMEM, "no memory for model.merges");
    we_json_event ev = we_json_next(r);
    if (ev != WE_JSON_EV_BEGIN_ARRAY && ev != WE_JSON_EV_ERROR)
        return we_fail(err, WE_E_FORMAT, "model.merges: expected an array");
    merge_batch batch = { .prefix = prefix };
    we_status st = WE_OK;
    while (!st && (ev = we_json_next(r)) != WE_JSON_EV_END_ARRAY) {
        if (ev == WE_JSON_EV_ERROR)
            st = we_fail(err, r->error.status, "%s", r->error.message);
        else if (is_string(r, ev) && we_str_starts_with(r->text, WE_STR("#version")))
            continue; /* a line of old merges.txt that ended up here */
        else
            st = next_merge(r, ev, &batch, err);
        if (!st && batch.n == BATCH) st = batch_end(tok, &batch, err);
    }
    if (!st) st = batch_end(tok, &batch, err);
    we_buf_deinit(&batch.copies);
    return st;
}

/* ---- Merges that no file lists ---- */

static we_status add_split(void *user, int32_t id, int32_t left, int32_t right, we_error *err)
{
    return add_merge(((we_tok *)user)->bpe, left, right, (uint32_t)id, id)
               ? WE_OK
               : we_fail(err, WE_E_NOMEM, "no memory for the merges");
}

we_status we_bpe_merges_from_ids(we_tok *tok, we_error *err)
{
    if (!(tok->bpe = we_calloc(1, sizeof(*tok->bpe))) || !grow_merges(tok->bpe))
        return we_fail(err, WE_E_NOMEM, "no memory for the merges");
    return we_vocab_each_split(&tok->vocab, add_split, tok, err);
}

/* ---- Settings ---- */

/* The unknown token and those of bytes: symbols that stand for other text than their own. */
static bool is_no_text(const we_bpe *m, int32_t id)
{
    if (id == m->unk_id) return true;
    if (!m->byte_fallback || id < m->min_fallback || id > m->max_fallback) return false;
    for (int b = 0; b < 256; b++)
        if (id == m->fallback[b]) return true;
    return false;
}

/* Pieces may be cut where no token holds both neighbours, unless a symbol can be something else than its own text. */
static we_status find_pairs(we_tok *tok, we_error *err)
{
    we_bpe *m = tok->bpe;
    bool keeps = m->byte_fallback; /* without an unknown token, unknown characters vanish and their neighbours meet */
    for (int b = 0; keeps && b < 256; b++) keeps = m->fallback[b] >= 0;
    if (we_tok_is_split_into_words(tok) || m->prefix.len || m->suffix.len || m->ignore_merges ||
        (!m->unk_token.ptr && !keeps))
        return WE_OK;
    for (size_t i = 0; i < m->n_slots; i++) {
        const merge *x = &m->merges[i];
        if (x->left_1 && (is_no_text(m, (int32_t)(x->left_1 - 1)) || is_no_text(m, x->right))) return WE_OK;
    }
    if (!(m->pairs = we_rune_pairs_new())) return we_fail(err, WE_E_NOMEM, "no memory for the model's character pairs");
    for (size_t i = 0; i < tok->vocab.n; i++) we_rune_pairs_note(m->pairs, we_vocab_text(&tok->vocab, i));
    return WE_OK;
}

static we_status bpe_finish(we_tok *tok, const we_json *settings, we_error *err)
{
    we_bpe *m = tok->bpe;
    we_status st;
    if ((st = we_tok_get_bool(settings, "fuse_unk", "model", &m->fuse_unk, err)) ||
        (st = we_tok_get_bool(settings, "byte_fallback", "model", &m->byte_fallback, err)) ||
        (st = we_tok_get_bool(settings, "ignore_merges", "model", &m->ignore_merges, err)) ||
        (st = we_tok_get_str(tok, settings, "continuing_subword_prefix", "model", false, &m->prefix, err)) ||
        (st = we_tok_get_str(tok, settings, "end_of_word_suffix", "model", false, &m->suffix, err)) ||
        (st = we_tok_get_str(tok, settings, "unk_token", "model", false, &m->unk_token, err)))
        return st;
    m->unk_id = m->unk_token.ptr ? we_vocab_find(&tok->vocab, m->unk_token) : -1;
    m->whole_alphabet = true;
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        int n = we_utf8_encode(we_byte_to_rune((unsigned char)b), text);
        m->chars[b] = we_vocab_find(&tok->vocab, (we_str){ text, (size_t)n });
        m->whole_alphabet &= m->chars[b] >= 0;
        snprintf(text, sizeof(text), "<0x%02X>", b);
        m->fallback[b] = we_vocab_find(&tok->vocab, we_str_from(text));
        m->min_fallback = b ? WE_MIN(m->min_fallback, m->fallback[b]) : m->fallback[b];
        m->max_fallback = b ? WE_MAX(m->max_fallback, m->fallback[b]) : m->fallback[b];
        if (b < 128) {
            text[0] = (char)b;
            m->ascii[b] = we_vocab_find(&tok->vocab, (we_str){ text, 1 });
        }
    }
    if (!m->whole_alphabet) return WE_OK;
    if (!(m->byte_ranks = we_calloc((size_t)1 << 16, sizeof(*m->byte_ranks))))
        return we_fail(err, WE_E_NOMEM, "no memory for the model's pairs of bytes");
    for (size_t i = 0; i < (size_t)1 << 16; i++) m->byte_ranks[i] = rank_of(m, m->chars[i >> 8], m->chars[i & 255]);
    return WE_OK;
}

static void bpe_free(we_tok *tok)
{
    if (!tok->bpe) return;
    for (size_t i = 0; i < WE_COUNT(tok->bpe->idle); i++) we_free(tok->bpe->idle[i]);
    we_free(tok->bpe->byte_ranks);
    if (!tok->bpe->borrowed) {
        we_free(tok->bpe->merges);
        we_rune_pairs_free(tok->bpe->pairs);
    }
    we_free(tok->bpe);
    tok->bpe = NULL;
}

/* ---- The compiled form ---- */

void we_bpe_give(const we_bpe *m, we_tables *tables)
{
    tables->table[WE_TABLE_MERGES] = WE_TABLE_OF(m->merges, m->n_slots);
    if (m->pairs) tables->table[WE_TABLE_PAIRS] = WE_TABLE_OF(m->pairs, WE_N_PAIR_WORDS);
}

bool we_bpe_take(we_tok *tok, const we_tables *tables)
{
    const we_str merges = tables->table[WE_TABLE_MERGES], pairs = tables->table[WE_TABLE_PAIRS];
    we_bpe *m = tok->bpe = we_calloc(1, sizeof(*m));
    if (!m) return false;
    m->borrowed = true;
    m->merges = (merge *)merges.ptr;
    m->n_slots = merges.len / sizeof(*m->merges);
    m->pairs = pairs.len ? (uint64_t *)pairs.ptr : NULL;
    if (m->n_slots == 0 || m->n_slots & (m->n_slots - 1) ||
        (pairs.len && pairs.len != WE_N_PAIR_WORDS * sizeof(uint64_t)))
        return false;
    for (size_t i = 0; i < m->n_slots; i++) {
        if (m->merges[i].left_1 && (m->merges[i].id < 0 || m->merges[i].id > tok->vocab.max_id)) return false;
        m->n_merges += m->merges[i].left_1 != 0;
    }
    return m->n_merges < m->n_slots; /* a search ends at a free slot */
}

/* ---- Merging ---- */

/* In place; the number of symbols that are left. bytes: what the symbols stand for, one each; NULL: they are others. */
static size_t merge_short(const we_bpe *m, bpe_work *w, size_t n, const char *bytes)
{
    int32_t *ids = w->ids;
    uint32_t *ranks = w->ranks;
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = bytes ? m->byte_ranks[(size_t)(unsigned char)bytes[i] << 8 | (unsigned char)bytes[i + 1]]
                         : rank_of(m, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_RANK) break;
        ids[best] = find_merge(m, ids[best], ids[best + 1])->id;
        n--;
        if (best > 0) prefetch_merge(m, ids[best - 1], ids[best]);
        if (best + 1 < n) prefetch_merge(m, ids[best], ids[best + 2]);
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof(*ids));
        if (best + 1 < n) memmove(ranks + best + 1, ranks + best + 2, (n - best - 1) * sizeof(*ranks));
        if (best > 0) ranks[best - 1] = rank_of(m, ids[best - 1], ids[best]);
        if (best + 1 < n) ranks[best] = rank_of(m, ids[best], ids[best + 1]);
    }
    return n;
}

static bool before(heap_item a, heap_item b) { return a.rank != b.rank ? a.rank < b.rank : a.pos < b.pos; }

static bool heap_push(bpe_work *w, heap_item item)
{
    if (w->n_heap == w->heap_capacity) {
        size_t capacity = w->heap_capacity ? w->heap_capacity * 2 : 1024;
        heap_item *grown = we_realloc_array(w->heap, capacity, sizeof(*grown));
        if (!grown) return false;
        w->heap = grown;
        w->heap_capacity = capacity;
    }
    size_t i = w->n_heap++;
    for (; i > 0 && before(item, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = item;
    return true;
}

static heap_item heap_pop(bpe_work *w)
{
    heap_item top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        if (child + 1 < w->n_heap && before(w->heap[child + 1], w->heap[child])) child++;
        if (!before(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

static bool rank_pair(const we_bpe *m, bpe_work *w, uint32_t pos)
{
    uint32_t right = w->next[pos];
    w->ranks[pos] = right == NO_RANK ? NO_RANK : rank_of(m, w->ids[pos], w->ids[right]);
    return w->ranks[pos] == NO_RANK || heap_push(w, (heap_item){ w->ranks[pos], pos });
}

/* The same for many symbols; SIZE_MAX: memory is out. */
static size_t merge_long(const we_bpe *m, bpe_work *w, size_t n)
{
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->before[i] = i - 1; /* NO_RANK for the first */
        w->next[i] = i + 1 < n ? i + 1 : NO_RANK;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!rank_pair(m, w, i)) return SIZE_MAX;
    while (w->n_heap > 0) {
        heap_item top = heap_pop(w);
        uint32_t pos = top.pos;
        if (w->ids[pos] < 0 || w->ranks[pos] != top.rank) /* the pair is gone */
            continue;
        uint32_t right = w->next[pos], far = w->next[right];
        w->ids[pos] = find_merge(m, w->ids[pos], w->ids[right])->id;
        w->ids[right] = -1;
        w->next[pos] = far;
        if (far != NO_RANK) w->before[far] = pos;
        if (!rank_pair(m, w, pos) || (w->before[pos] != NO_RANK && !rank_pair(m, w, w->before[pos]))) return SIZE_MAX;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (w->ids[i] >= 0) w->ids[kept++] = w->ids[i];
    return kept;
}

/* ---- From text to symbols ---- */

/* The symbols of a piece, one a character, into w->ids; the order of pending unknowns is the reference's. */
static we_status symbols_of(const we_tok *tok, bpe_work *w, we_buf *joined, we_str piece, size_t *n_out, we_error *err)
{
    const we_bpe *m = tok->bpe;
    size_t n = 0;
    bool unk_pending = false;
    if (!reserve(w, (piece.len + m->prefix.len + m->suffix.len) *
                            (m->byte_fallback && (m->prefix.len || m->suffix.len) ? 2 : 1) +
                        2))
        return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", piece.len);
    for (size_t i = 0; i < piece.len;) {
        size_t at = i;
        uint32_t rune = we_utf8_next(piece, &i);
        we_str text = { piece.ptr + at, i - at };
        bool plain = (at == 0 || !m->prefix.len) && (i < piece.len || !m->suffix.len);
        if (!plain) {
            we_buf_clear(joined);
            if (at > 0) we_buf_append_str(joined, m->prefix);
            we_buf_append_str(joined, text);
            if (i == piece.len) we_buf_append_str(joined, m->suffix);
            if (joined->failed) return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", piece.len);
            text = we_buf_str(joined);
        }
        int32_t id = plain && rune < 128 ? m->ascii[rune] : we_vocab_find(&tok->vocab, text);
        if (id >= 0) {
            if (unk_pending) w->ids[n++] = m->unk_id;
            unk_pending = false;
            w->ids[n++] = id;
            continue;
        }
        bool all_bytes = m->byte_fallback;
        for (size_t k = 0; all_bytes && k < text.len; k++) all_bytes = m->fallback[(unsigned char)text.ptr[k]] >= 0;
        if (all_bytes) {
            if (!reserve(w, n + text.len + (piece.len - i) + 2))
                return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", piece.len);
            for (size_t k = 0; k < text.len; k++) w->ids[n++] = m->fallback[(unsigned char)text.ptr[k]];
            continue;
        }
        if (!m->unk_token.ptr) continue; /* without an unknown token the character is dropped */
        if (m->unk_id < 0)
            return we_fail(err, WE_E_FORMAT,
                           "tokenizer.json: model.unk_token \"%.*s\" is needed, but the vocabulary lacks it",
                           (int)WE_MIN(m->unk_token.len, 60), m->unk_token.ptr);
        if (unk_pending && !m->fuse_unk) w->ids[n++] = m->unk_id;
        unk_pending = true;
    }
    if (unk_pending) w->ids[n++] = m->unk_id;
    *n_out = n;
    return WE_OK;
}

static we_status push_ids(we_ids *out, const int32_t *ids, size_t n, we_error *err)
{
    we_status st = WE_OK;
    for (size_t i = 0; i < n && !st; i++) st = we_ids_push(out, ids[i], err);
    return st;
}

static we_status encode_word(const we_tok *tok, we_tok_work *work, we_str word, bool byte_level, we_ids *out,
                             we_error *err)
{
    const we_bpe *m = tok->bpe;
    bpe_work *w = work->bpe;
    we_str text = word;
    bool direct = byte_level && m->whole_alphabet && !m->prefix.len && !m->suffix.len; /* symbols straight from bytes */
    if (byte_level && m->ignore_merges) {
        we_buf_clear(&work->joined);
        we_byte_level_append(&work->joined, word);
        if (work->joined.failed) return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", word.len);
        text = we_buf_str(&work->joined);
    }
    if (m->ignore_merges) {
        int32_t id = we_vocab_find(&tok->vocab, text);
        if (id >= 0) return we_ids_push(out, id, err);
    }
    size_t n = 0;
    if (direct) {
        if (!reserve(w, word.len)) return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", word.len);
        for (; n < word.len; n++) w->ids[n] = m->chars[(unsigned char)word.ptr[n]];
    } else {
        we_buf copy = { 0 };
        if (byte_level) {
            we_byte_level_append(&copy, word);
            text = we_buf_str(&copy);
        }
        we_status st = copy.failed ? we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", word.len)
                                   : symbols_of(tok, w, &work->joined, text, &n, err);
        we_buf_deinit(&copy);
        if (st) return st;
    }
    n = n <= SHORT_PIECE ? merge_short(m, w, n, direct ? word.ptr : NULL) : merge_long(m, w, n);
    if (n == SIZE_MAX) return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", word.len);
    return push_ids(out, w->ids, n, err);
}

/* ---- The cache of words ---- */

static size_t word_hash(we_str word)
{
    uint64_t hash = word.len, part;
    size_t i = 0;
    for (; i + 8 <= word.len; i += 8) {
        memcpy(&part, word.ptr + i, 8);
        hash = (hash ^ part) * 0x9E3779B97F4A7C15U;
        hash ^= hash >> 29;
    }
    part = 0;
    memcpy(&part, word.ptr + i, word.len - i);
    hash = (hash ^ part) * 0x9E3779B97F4A7C15U;
    return (size_t)(hash >> 40) & (CACHE_WORDS - 1);
}

static we_status encode_cached(const we_tok *tok, we_tok_work *work, we_str word, bool byte_level, we_ids *out,
                               we_error *err)
{
    bpe_work *w = work->bpe;
    w->n_bytes += word.len;
    if (word.len > sizeof(w->cache->text) || (!w->cache && w->n_bytes < 1000))
        return encode_word(tok, work, word, byte_level, out, err);
    if (!w->cache && !(w->cache = we_calloc(CACHE_WORDS, sizeof(*w->cache))))
        return we_fail(err, WE_E_NOMEM, "no memory for a cache of words");
    cached_word *slot = &w->cache[word_hash(word)];
    if (slot->len == word.len && memcmp(slot->text, word.ptr, word.len) == 0)
        return push_ids(out, slot->ids, slot->n_ids, err);
    size_t start = out->n;
    we_status st = encode_word(tok, work, word, byte_level, out, err);
    const size_t n_ids = out->n - start;
    if (!st && n_ids <= WE_COUNT(slot->ids)) {
        slot->len = (uint8_t)word.len;
        slot->n_ids = (uint8_t)n_ids;
        memcpy(slot->text, word.ptr, word.len);
        if (n_ids) memcpy(slot->ids, out->ids + start, n_ids * sizeof(*slot->ids)); /* out may still hold nothing */
    }
    return st;
}

/* Cut where no merge can cross. Two characters that may both be unknown stay together: their unknowns may fuse. */
static we_status encode_in_parts(const we_tok *tok, we_tok_work *work, we_str piece, we_ids *out, we_error *err)
{
    const we_bpe *m = tok->bpe;
    size_t start = 0, i = 0;
    uint32_t last = we_utf8_next(piece, &i);
    bool last_known = true;
    we_status st = WE_OK;
    for (size_t before_last = 0; i < piece.len && !st;) {
        size_t at = i;
        uint32_t rune = we_utf8_next(piece, &i);
        if (!we_rune_pairs_have(m->pairs, last, rune)) {
            we_str one = { piece.ptr + before_last, at - before_last };
            last_known = last < 128 ? m->ascii[last] >= 0 : we_vocab_find(&tok->vocab, one) >= 0;
            if (last_known) {
                st = encode_cached(tok, work, (we_str){ piece.ptr + start, at - start }, false, out, err);
                start = at;
            }
        }
        last = rune;
        before_last = at;
    }
    return st ? st : encode_cached(tok, work, (we_str){ piece.ptr + start, piece.len - start }, false, out, err);
}

static we_status bpe_encode(const we_tok *tok, we_tok_work *work, we_str piece, bool byte_level, we_ids *out,
                            we_error *err)
{
    if (!work->bpe) {
        if (!(work->bpe = we_calloc(1, sizeof(bpe_work))))
            return we_fail(err, WE_E_NOMEM, "no memory to encode a text");
        ((bpe_work *)work->bpe)->cache = take_cache(tok->bpe);
    }
    if (tok->bpe->pairs && !byte_level && piece.len > 8) return encode_in_parts(tok, work, piece, out, err);
    return encode_cached(tok, work, piece, byte_level, out, err);
}

const we_model_kind we_model_bpe = { "BPE", bpe_finish, find_pairs, bpe_encode, bpe_free };
