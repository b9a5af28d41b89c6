/* SPDX-License-Identifier: Apache-2.0
 * model_spm.c - what a SentencePiece model does with a text, exactly as that library does it: its normalizer, its four kinds
 * of segmentation, its way to write ids as text. It is a model of its own, since `tokenizers` differs in small things that
 * its JSON can't tell: equal scores of BPE (the leftmost merges first, whatever the cut), user-defined symbols, float sums,
 * the longest key of a normalization map instead of the shortest.
 * Reading the file: sentencepiece.c.
 * Source: sentencepiece/src: normalizer.cc, bpe_model.cc, unigram_model.cc, sentencepiece_processor.cc. */
#include "tokenizer/tokenizer_int.h"

#include <float.h>

static const char space_symbol[] = "\xE2\x96\x81"; /* U+2581 */
#define SPACE_LEN 3
#define UNK_PENALTY 10.0F

we_spm *we_spm_new(void)
{
    we_spm *m = we_calloc(1, sizeof(*m));
    if (!m) return NULL;
    m->unk_id = -1;
    for (int byte = 0; byte < 256; byte++) m->bytes[byte] = -1;
    return m;
}

static void spm_free(we_tok *tok)
{
    if (!tok->spm) return;
    we_trie_deinit(&tok->spm->user);
    we_trie_deinit(&tok->spm->trie);
    we_rune_pairs_free(tok->spm->pairs);
    we_free(tok->spm);
}

/* ---- Making ready ---- */

bool we_spm_is_text(const we_spm *m, int32_t id)
{
    return m->types[id] == WE_SPM_NORMAL || m->types[id] == WE_SPM_USER_DEFINED || m->types[id] == WE_SPM_UNUSED;
}

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for the pieces"); }

we_status we_spm_prepare(we_tok *tok, we_error *err)
{
    we_spm *m = tok->spm;
    float lowest = FLT_MAX;
    bool any_unused = false;
    if (m->model_type == WE_SPM_BPE && !(m->pairs = we_rune_pairs_new())) return no_memory(err);
    for (size_t i = 0; i < tok->vocab.n; i++) {
        int32_t id = tok->vocab.tokens[i].id;
        we_str text = we_vocab_text(&tok->vocab, i);
        if (!we_spm_is_text(m, id)) continue;
        any_unused |= m->types[id] == WE_SPM_UNUSED;
        if (m->types[id] == WE_SPM_NORMAL) lowest = WE_MIN(lowest, m->scores[id]);
        if (m->types[id] == WE_SPM_USER_DEFINED && !we_trie_add(&m->user, text, id)) return no_memory(err);
        if (m->model_type == WE_SPM_UNIGRAM && !we_trie_add(&m->trie, text, id)) return no_memory(err);
        if (m->pairs) we_rune_pairs_note(m->pairs, text);
    }
    if (any_unused) { /* how such a piece comes apart again depends on the whole text */
        we_rune_pairs_free(m->pairs);
        m->pairs = NULL;
    }
    m->unk_score = lowest - UNK_PENALTY;
    return WE_OK;
}

/* ---- Normalizer ---- */

/* The longest user-defined symbol at `start`: its bytes, 0: none. */
static size_t user_symbol_at(const we_spm *m, we_str text, size_t start, int32_t *id)
{
    size_t len = 0;
    uint32_t node = m->user.root[(unsigned char)text.ptr[start]];
    for (size_t i = start + 1; node; i++) {
        if (m->user.values[node] >= 0) {
            len = i - start;
            *id = m->user.values[node];
        }
        if (i == text.len) break;
        node = we_trie_step(&m->user, node, (unsigned char)text.ptr[i]);
    }
    return len;
}

/* What stands at in[*i], rewritten; *i goes behind it. */
static we_str normalize_prefix(const we_spm *m, we_str in, size_t *i)
{
    const size_t start = *i;
    int32_t id;
    size_t len = user_symbol_at(m, in, start, &id);
    we_str out = { in.ptr + start, len };
    if (len) {
        *i += len;
        return out;
    }
    if (m->charsmap && (len = we_charsmap_longest(m->charsmap, (we_str){ in.ptr + start, in.len - start }, &out))) {
        *i += len;
        return out;
    }
    we_utf8_next(in, i);
    return (we_str){ in.ptr + start, *i - start };
}

static void append_space(const we_spm *m, we_buf *out)
{
    if (m->escape_whitespaces)
        we_buf_append(out, space_symbol, SPACE_LEN);
    else
        we_buf_append_char(out, ' ');
}

static void append_escaped(const we_spm *m, we_buf *out, we_str text)
{
    while (text.len) {
        const char *space = m->escape_whitespaces ? memchr(text.ptr, ' ', text.len) : NULL;
        size_t before = space ? (size_t)(space - text.ptr) : text.len;
        we_buf_append(out, text.ptr, before);
        if (space) append_space(m, out);
        before += space != NULL;
        text = (we_str){ text.ptr + before, text.len - before };
    }
}

we_status we_spm_normalize(const we_tok *tok, we_tok_work *work, we_str in, bool at_start, we_str *out, we_error *err)
{
    const we_spm *m = tok->spm;
    const bool dummy = m->add_dummy_prefix && (at_start || m->prefix_always);
    const we_str space = m->escape_whitespaces ? (we_str){ space_symbol, SPACE_LEN } : WE_STR(" ");
    we_buf *buf = &work->normal[0];
    size_t i = 0;
    we_buf_clear(buf);
    while (m->remove_extra_whitespaces && i < in.len) { /* at the begin */
        size_t next = i;
        if (!we_str_is(normalize_prefix(m, in, &next), " ")) break;
        i = next;
    }
    if (i < in.len) {
        const size_t limit = WE_TOK_MAX_GROWN(in.len);
        bool after_space = m->remove_extra_whitespaces;
        if (dummy && !m->whitespace_as_suffix) append_space(m, buf);
        while (i < in.len && !buf->failed) {
            we_str part = normalize_prefix(m, in, &i);
            while (after_space && part.len && part.ptr[0] == ' ') part = (we_str){ part.ptr + 1, part.len - 1 };
            append_escaped(m, buf, part);
            if (part.len) after_space = m->remove_extra_whitespaces && part.ptr[part.len - 1] == ' ';
            if (buf->len > limit || buf->len > WE_TOK_MAX_BYTES)
                return we_fail(err, WE_E_RANGE, "the tokenizer's normalizer makes the text too long");
        }
        while (m->remove_extra_whitespaces && we_str_ends_with(we_buf_str(buf), space)) buf->len -= space.len;
        if (dummy && m->whitespace_as_suffix) append_space(m, buf);
    }
    *out = we_buf_str(buf);
    return we_buf_status(buf, err, "normalized text");
}

/* ---- Scratch ---- */

typedef struct symbol {  /* of BPE: a stretch of the text */
    uint32_t start, len; /* len 0: merged into the one before */
    uint32_t before, next;
    bool frozen; /* a user-defined symbol never merges */
} symbol;
#define NO_SYMBOL UINT32_MAX

typedef struct candidate { /* the pair that begins at the symbol `left` and has `len` bytes */
    float score;
    uint32_t left, len;
} candidate;

typedef struct best_node { /* of Unigram: the best way to a place */
    float score;
    uint32_t from;
    int32_t id;
} best_node;

typedef struct spm_work {
    symbol *symbols;
    candidate *heap;
    uint32_t *cuts; /* [n_pieces]: the left part's bytes of an unused piece that was last made; 0: none was */
    best_node *best;
    size_t n_symbols, symbol_capacity, n_heap, heap_capacity, best_capacity;
} spm_work;

void we_spm_work_free(void *spm)
{
    spm_work *w = spm;
    if (!w) return;
    we_free(w->symbols);
    we_free(w->heap);
    we_free(w->cuts);
    we_free(w->best);
    we_free(w);
}

/* Room for one more. */
static bool grow(void **items, size_t n, size_t *capacity, size_t size)
{
    if (n < *capacity) return true;
    size_t more = *capacity ? *capacity * 2 : 256;
    void *grown = we_realloc_array(*items, more, size);
    if (!grown) return false;
    *items = grown;
    *capacity = more;
    return true;
}
#define GROW(w, items, n, capacity) grow((void **)&(w)->items, (w)->n, &(w)->capacity, sizeof(*(w)->items))

static we_status no_room(we_str text, we_error *err)
{
    return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", text.len);
}

/* ---- Giving out ---- */

typedef struct output {
    const we_tok *tok;
    we_ids *ids;
    bool after_unk; /* unknowns in a row are one */
    we_error *err;
} output;

static we_status put(output *o, we_str text, int32_t id)
{
    const we_spm *m = o->tok->spm;
    we_status st = WE_OK;
    if (id != m->unk_id) {
        o->after_unk = false;
        return we_ids_push(o->ids, id, o->err);
    }
    if (m->byte_fallback) {
        for (size_t i = 0; i < text.len && !st; i++)
            st = we_ids_push(o->ids, m->bytes[(unsigned char)text.ptr[i]], o->err);
        return st;
    }
    if (!o->after_unk) st = we_ids_push(o->ids, id, o->err);
    o->after_unk = true;
    return st;
}

static int32_t piece_id(const we_tok *tok, we_str text)
{
    int32_t id = we_vocab_find(&tok->vocab, text);
    return id < 0 ? tok->spm->unk_id : id;
}

/* ---- BPE ---- */

static bool comes_first(candidate a, candidate b) { return a.score != b.score ? a.score > b.score : a.left < b.left; }

static bool heap_push(spm_work *w, candidate item)
{
    if (!GROW(w, heap, n_heap, heap_capacity)) return false;
    size_t i = w->n_heap++;
    for (; i > 0 && comes_first(item, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = item;
    return true;
}

static candidate heap_pop(spm_work *w)
{
    candidate top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        if (child + 1 < w->n_heap && comes_first(w->heap[child + 1], w->heap[child])) child++;
        if (!comes_first(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

static we_str symbol_text(we_str text, const symbol *s) { return (we_str){ text.ptr + s->start, s->len }; }

/* A pair whose joined text is a piece may merge. */
static bool consider(const we_tok *tok, spm_work *w, we_str text, uint32_t left, uint32_t right)
{
    if (left == NO_SYMBOL || right == NO_SYMBOL) return true;
    const symbol *a = &w->symbols[left], *b = &w->symbols[right];
    if (a->frozen || b->frozen || a->len + b->len > tok->vocab.max_len) return true;
    we_str joined = { text.ptr + a->start, a->len + b->len };
    int32_t id = we_vocab_find(&tok->vocab, joined);
    if (id < 0 || !we_spm_is_text(tok->spm, id)) return true;
    if (tok->spm->types[id] == WE_SPM_UNUSED) w->cuts[id] = a->len;
    return heap_push(w, (candidate){ tok->spm->scores[id], left, a->len + b->len });
}

/* A piece that is not used comes apart into what it was last made of. */
#define MAX_DEPTH 100 /* the library's: what is nested deeper stays whole */
static we_status put_resegmented(output *o, const spm_work *w, we_str text, int depth)
{
    const we_spm *m = o->tok->spm;
    int32_t id = we_vocab_find(&o->tok->vocab, text);
    if (id < 0 || !we_spm_is_text(m, id)) return put(o, text, m->unk_id);
    if (m->types[id] != WE_SPM_UNUSED || depth > MAX_DEPTH) return put(o, text, id);
    const size_t left = w->cuts[id];
    if (left == 0) return put(o, text, m->unk_id);
    we_status st = put_resegmented(o, w, (we_str){ text.ptr, left }, depth + 1);
    return st ? st : put_resegmented(o, w, (we_str){ text.ptr + left, text.len - left }, depth + 1);
}

/* Merge the symbols gathered so far and give them out. */
static we_status merge_symbols(output *o, spm_work *w, we_str text)
{
    bool ok = true;
    w->n_heap = 0;
    for (uint32_t i = 0; i < w->n_symbols; i++) {
        w->symbols[i].before = i ? i - 1 : NO_SYMBOL;
        w->symbols[i].next = i + 1 < w->n_symbols ? i + 1 : NO_SYMBOL;
    }
    for (uint32_t i = 1; i < w->n_symbols && ok; i++) ok = consider(o->tok, w, text, i - 1, i);
    while (w->n_heap > 0 && ok) {
        candidate top = heap_pop(w);
        symbol *left = &w->symbols[top.left];
        if (left->len == 0 || left->next == NO_SYMBOL || left->len + w->symbols[left->next].len != top.len)
            continue; /* the pair is gone */
        symbol *right = &w->symbols[left->next];
        left->len = top.len;
        left->next = right->next;
        right->len = 0;
        if (left->next != NO_SYMBOL) w->symbols[left->next].before = top.left;
        ok = consider(o->tok, w, text, left->before, top.left) && consider(o->tok, w, text, top.left, left->next);
    }
    if (!ok) return no_room(text, o->err);
    we_status st = WE_OK;
    for (uint32_t i = 0; i < w->n_symbols && !st; i = w->symbols[i].next)
        st = put_resegmented(o, w, symbol_text(text, &w->symbols[i]), 0);
    w->n_symbols = 0;
    return st;
}

/* Where two neighbours stand in no piece together no merge can cross: what stands before is merged on its own. */
static we_status encode_bpe(output *o, spm_work *w, we_str text)
{
    const we_spm *m = o->tok->spm;
    uint32_t last = 0;
    bool last_frozen = false;
    we_status st = WE_OK;
    w->n_symbols = 0;
    if (!m->pairs) { /* there are unused pieces */
        we_free(w->cuts);
        if (!(w->cuts = we_calloc(m->n_pieces, sizeof(*w->cuts)))) return no_room(text, o->err);
    }
    for (size_t i = 0; i < text.len && !st;) {
        const size_t start = i;
        int32_t id;
        size_t len = user_symbol_at(m, text, start, &id);
        uint32_t rune = we_utf8_next(text, &i);
        if (len) i = start + len;
        if (m->pairs && w->n_symbols && (len || last_frozen || !we_rune_pairs_have(m->pairs, last, rune)))
            st = merge_symbols(o, w, text);
        if (!st && !GROW(w, symbols, n_symbols, symbol_capacity)) st = no_room(text, o->err);
        if (!st)
            w->symbols[w->n_symbols++] =
                (symbol){ .start = (uint32_t)start, .len = (uint32_t)(i - start), .frozen = len != 0 };
        last = rune;
        last_frozen = len != 0;
    }
    return st ? st : merge_symbols(o, w, text);
}

/* ---- Unigram ---- */

/* A user-defined symbol counts more than all that it could be cut into; sums are rounded as the library's floats are. */
static float user_score(size_t len) { return (float)(0.1 * ((double)len - 1)); }

static void improve(best_node *node, float score, uint32_t from, int32_t id)
{
    if (node->from == NO_SYMBOL || score > node->score) *node = (best_node){ score, from, id };
}

/* In long texts sums lose their small digits: from time to time all that still count are moved near zero. */
#define FAR_FROM_ZERO 100000.0F
static void move_near_zero(best_node *best, size_t start, size_t end)
{
    const float offset = best[start].score;
    if (offset <= FAR_FROM_ZERO && offset >= -FAR_FROM_ZERO) return;
    for (size_t i = start; i <= end; i++)
        if (i == start || best[i].from != NO_SYMBOL) best[i].score -= offset;
}

static void find_best(const we_spm *m, we_str text, best_node *best)
{
    size_t furthest = 0;
    for (size_t i = 0; i <= text.len; i++) best[i] = (best_node){ 0.0F, NO_SYMBOL, 0 };
    for (size_t start = 0; start < text.len;) {
        size_t after = start;
        we_utf8_next(text, &after);
        move_near_zero(best, start, WE_MAX(start, furthest));
        const float here = best[start].score;
        bool single = false; /* the character is a piece of its own */
        uint32_t node = m->trie.root[(unsigned char)text.ptr[start]];
        for (size_t i = start + 1; node; i++) {
            int32_t id = m->trie.values[node];
            if (id >= 0 && m->types[id] != WE_SPM_UNUSED) {
                float score = m->types[id] == WE_SPM_USER_DEFINED ? user_score(i - start) : m->scores[id];
                improve(&best[i], score + here, (uint32_t)start, id);
                furthest = WE_MAX(furthest, i);
                single |= i == after;
            }
            if (i == text.len) break;
            node = we_trie_step(&m->trie, node, (unsigned char)text.ptr[i]);
        }
        if (!single) {
            improve(&best[after], m->unk_score + here, (uint32_t)start, m->unk_id);
            furthest = WE_MAX(furthest, after);
        }
        start = after;
    }
}

static we_status encode_unigram(output *o, spm_work *w, we_str text)
{
    if (text.len + 1 > w->best_capacity) {
        best_node *grown = we_realloc_array(w->best, text.len + 1, sizeof(*grown));
        if (!grown) return no_room(text, o->err);
        w->best = grown;
        w->best_capacity = text.len + 1;
    }
    best_node *best = w->best;
    find_best(o->tok->spm, text, best);
    uint32_t next = NO_SYMBOL; /* turn the way round: best[i].from becomes the place that follows i */
    for (uint32_t i = (uint32_t)text.len;;) {
        uint32_t from = best[i].from;
        best[i].from = next;
        next = i;
        if (i == 0) break;
        i = from;
    }
    we_status st = WE_OK;
    for (uint32_t i = 0; i < text.len && !st; i = best[i].from)
        st = put(o, (we_str){ text.ptr + i, best[i].from - i }, best[best[i].from].id);
    return st;
}

/* ---- Words and characters ---- */

/* A word begins at each U+2581. */
static we_status encode_words(output *o, we_str text)
{
    we_status st = WE_OK;
    for (size_t i = 0, start = 0; i < text.len && !st;) {
        we_utf8_next(text, &i);
        we_str rest = { text.ptr + i, text.len - i };
        if (rest.len && !we_str_starts_with(rest, (we_str){ space_symbol, SPACE_LEN })) continue;
        we_str word = { text.ptr + start, i - start };
        st = put(o, word, piece_id(o->tok, word));
        start = i;
    }
    return st;
}

static we_status encode_chars(output *o, we_str text)
{
    we_status st = WE_OK;
    for (size_t i = 0; i < text.len && !st;) {
        const size_t start = i;
        int32_t id;
        size_t len = user_symbol_at(o->tok->spm, text, start, &id);
        we_utf8_next(text, &i);
        if (len) i = start + len;
        we_str one = { text.ptr + start, i - start };
        st = put(o, one, piece_id(o->tok, one));
    }
    return st;
}

static we_status spm_encode(const we_tok *tok, we_tok_work *work, we_str piece, bool byte_level, we_ids *out,
                            we_error *err)
{
    (void)byte_level;
    output o = { tok, out, false, err };
    if (!work->spm && !(work->spm = we_calloc(1, sizeof(spm_work)))) return no_room(piece, err);
    switch (tok->spm->model_type) {
    case WE_SPM_BPE: return encode_bpe(&o, work->spm, piece);
    case WE_SPM_UNIGRAM: return encode_unigram(&o, work->spm, piece);
    case WE_SPM_WORD: return encode_words(&o, piece);
    default: return encode_chars(&o, piece);
    }
}

const we_model_kind we_model_spm = { "SentencePiece", NULL, NULL, spm_encode, spm_free };

/* ---- Decoding ---- */

static we_status out_status(const we_decode *d)
{
    return d->out->failed ? we_fail(d->err, WE_E_NOMEM, "no memory to decode tokens") : WE_OK;
}

static void give(we_decode *d, we_str text)
{
    we_buf_append_str(d->out, text);
    d->spm.any_text |= text.len > 0;
}

/* Whole characters of the bytes held; a byte that begins none is U+FFFD by itself. */
static void give_bytes(we_decode *d, bool at_end)
{
    for (;;) {
        we_str held = { d->spm.bytes, d->spm.n_bytes };
        size_t len = 0;
        if (held.len == 0 || (!at_end && we_utf8_incomplete_tail(held) == held.len)) return;
        if (we_utf8_next(held, &len) == WE_RUNE_INVALID) {
            give(d, WE_STR("\xEF\xBF\xBD"));
            len = 1;
        } else {
            give(d, (we_str){ held.ptr, len });
        }
        d->spm.n_bytes -= len;
        memmove(d->spm.bytes, d->spm.bytes + len, d->spm.n_bytes);
    }
}

static int byte_of(const we_spm *m, int32_t id)
{
    for (int byte = 0; byte < 256; byte++)
        if (m->bytes[byte] == id) return byte;
    return -1;
}

/* A piece's text; the first U+2581 of all goes, as the normalizer has put it there. */
static void give_piece(we_decode *d, const we_spm *m, we_str text)
{
    bool cut = !d->spm.started && (m->add_dummy_prefix || m->remove_extra_whitespaces) &&
               we_str_starts_with(text, (we_str){ space_symbol, SPACE_LEN });
    if (cut) text = (we_str){ text.ptr + SPACE_LEN, text.len - SPACE_LEN };
    d->spm.cut = cut && !m->remove_extra_whitespaces; /* then all in front go */
    while (text.len) {
        size_t before = 0;
        while (before < text.len && !we_str_starts_with((we_str){ text.ptr + before, text.len - before },
                                                        (we_str){ space_symbol, SPACE_LEN }))
            before++;
        give(d, (we_str){ text.ptr, before });
        if (before < text.len) {
            give(d, WE_STR(" "));
            before += SPACE_LEN;
        }
        text = (we_str){ text.ptr + before, text.len - before };
    }
}

we_status we_spm_decode(we_decode *d, int32_t id, we_str text)
{
    const we_spm *m = d->tok->spm;
    const bool added = d->tok->by_id[id] & WE_TOK_ADDED;
    if (!added && m->types[id] == WE_SPM_BYTE) {
        d->spm.bytes[d->spm.n_bytes++] = (char)byte_of(m, id);
        give_bytes(d, false);
        return out_status(d);
    }
    give_bytes(d, true);
    d->spm.started |= d->spm.cut || d->spm.any_text;
    d->spm.cut = false;
    if (added && we_tok_is_special(d->tok, id)) /* not seen by the library: no text has begun */
        we_buf_append_str(d->out, text);
    else if (added && (size_t)id >= m->n_pieces)
        give(d, text);
    else if (id == m->unk_id)
        give(d, m->unk_surface);
    else
        give_piece(d, m, text);
    return out_status(d);
}

we_status we_spm_decode_end(we_decode *d)
{
    give_bytes(d, true);
    d->spm = (we_spm_decode_state){ .n_bytes = 0 };
    return out_status(d);
}
