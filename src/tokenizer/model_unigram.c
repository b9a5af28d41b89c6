/* SPDX-License-Identifier: Apache-2.0
 * model_unigram.c - Unigram: the segmentation with the best sum of scores (Viterbi). A character that is no token costs the
 * lowest score minus 10; neighbouring unknowns are one token, or with byte fallback their bytes.
 * Sums are formed in the reference's order, so that ties fall the same way.
 * Source: Kudo, arXiv:1804.10959; tokenizers/src/models/unigram. */
#include "tokenizer/tokenizer_int.h"

#include <math.h>

struct we_unigram {
    double *scores; /* by id */
    bool borrowed;  /* scores are a compiled form's */
    double unk_score;
    int32_t unk_id; /* -1: none */
    bool byte_fallback;
    int32_t fallback[256];
    we_trie trie; /* value: id */
};

typedef struct best_node { /* the best way to a place */
    double score;
    uint32_t from; /* where its last token begins; NO_WAY: not reached */
    int32_t id;
} best_node;
#define NO_WAY UINT32_MAX
#define UNK_PENALTY 10.0

we_status we_unigram_take_scores(we_tok *tok, double *scores, we_error *err)
{
    if (!(tok->unigram = we_calloc(1, sizeof(*tok->unigram)))) {
        we_free(scores);
        return we_fail(err, WE_E_NOMEM, "no memory for model.vocab");
    }
    tok->unigram->scores = scores;
    return WE_OK;
}

/* 10^exponent, as a decimal literal is rounded. */
static double power_of_ten(int exponent)
{
    char text[16];
    double power = 1.0;
    const int n = snprintf(text, sizeof(text), "1e%d", exponent);
    we_parse_f64((we_str){ text, (size_t)n }, &power);
    return power;
}

/* The reference's reader (Rust's serde_json) does not round to the nearest double: it takes as many digits as fit 64 bits and
 * multiplies or divides by a power of ten. A quarter of ALBERT's scores differ in the last bit, which decides ties. */
bool we_unigram_score(we_str number, double *out)
{
    size_t i = number.len && number.ptr[0] == '-';
    const bool negative = i > 0;
    uint64_t digits = 0;
    int64_t exponent = 0, written = 0;
    bool fraction = false, full = false;
    if (!we_parse_f64(number, out)) return false; /* from here on it is a number, and below 1.8e308 */
    for (; i < number.len && (number.ptr[i] | 32) != 'e'; i++) {
        if (number.ptr[i] == '.') {
            /* whole digits may have been dropped: it tries again with those behind the point */
            fraction = true, full = false;
            continue;
        }
        const unsigned digit = (unsigned)(number.ptr[i] - '0');
        full = full || digits > (UINT64_MAX - digit) / 10;
        if (!full) digits = digits * 10 + digit;
        exponent += (full && !fraction) - (!full && fraction);
    }
    if (i < number.len) {
        i += 1 + (number.ptr[i + 1] == '+');
        if (!we_parse_i64((we_str){ number.ptr + i, number.len - i }, &written) || written < INT32_MIN)
            written = INT32_MIN; /* so far down, or it would have been infinite, that all of it is 0 */
    }
    exponent += written;

    double value = (double)digits;
    for (; exponent < -308 && value != 0.0; exponent += 308) value /= 1e308;
    if (value != 0.0) value = exponent < 0 ? value / power_of_ten((int)-exponent) : value * power_of_ten((int)exponent);
    *out = negative ? -value : value;
    return isfinite(*out);
}

static we_status unigram_finish(we_tok *tok, const we_json *settings, we_error *err)
{
    we_unigram *m = tok->unigram;
    if (!m) /* an empty vocabulary written as an object */
        return we_fail(err, WE_E_FORMAT, "model.vocab: expected an array of [\"token\", score]");
    size_t unk = SIZE_MAX;
    we_status st = we_tok_get_bool(settings, "byte_fallback", "model", &m->byte_fallback, err);
    if (!st) st = we_tok_get_size(settings, "unk_id", "model", &unk, err);
    if (st) return st;
    if (unk != SIZE_MAX && unk >= tok->vocab.n)
        return we_fail(err, WE_E_FORMAT, "model.unk_id is %zu, but the vocabulary has %zu tokens", unk, tok->vocab.n);
    m->unk_id = unk == SIZE_MAX ? -1 : (int32_t)unk;
    double lowest = INFINITY;
    for (size_t i = 0; i < tok->vocab.n; i++)
        if (m->scores[i] < lowest) lowest = m->scores[i];
    m->unk_score = lowest - UNK_PENALTY;
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof(text), "<0x%02X>", b);
        m->fallback[b] = we_vocab_find(&tok->vocab, we_str_from(text));
    }
    return WE_OK;
}

static we_status unigram_build(we_tok *tok, we_error *err)
{
    for (size_t i = 0; i < tok->vocab.n; i++) {
        we_str text = we_vocab_text(&tok->vocab, i);
        if (text.len && !we_trie_add(&tok->unigram->trie, text, (int32_t)i))
            return we_fail(err, WE_E_NOMEM, "no memory for model.vocab");
    }
    return WE_OK;
}

static void unigram_free(we_tok *tok)
{
    if (!tok->unigram) return;
    we_trie_deinit(&tok->unigram->trie);
    if (!tok->unigram->borrowed) we_free(tok->unigram->scores);
    we_free(tok->unigram);
    tok->unigram = NULL;
}

void we_unigram_give(const we_tok *tok, we_tables *tables)
{
    tables->table[WE_TABLE_SCORES] = WE_TABLE_OF(tok->unigram->scores, tok->vocab.n);
    we_trie_give(&tok->unigram->trie, tables);
}

bool we_unigram_take(we_tok *tok, const we_tables *tables)
{
    we_unigram *m = tok->unigram = we_calloc(1, sizeof(*m));
    if (!m) return false;
    m->borrowed = true;
    m->scores = (double *)tables->table[WE_TABLE_SCORES].ptr;
    return tables->table[WE_TABLE_SCORES].len == tok->vocab.n * sizeof(*m->scores) &&
           we_trie_take(&m->trie, tables, tok->vocab.n);
}

static void improve(best_node *node, double score, uint32_t from, int32_t id)
{
    if (node->from == NO_WAY || score > node->score) *node = (best_node){ score, from, id };
}

/* Fill best[0 .. piece.len]. */
static we_status find_best(const we_unigram *m, we_str piece, best_node *best, we_error *err)
{
    for (size_t i = 0; i <= piece.len; i++) best[i] = (best_node){ 0.0, NO_WAY, 0 };
    for (size_t start = 0; start < piece.len;) {
        size_t after = start;
        we_utf8_next(piece, &after);
        bool single = false; /* the character is a token of its own */
        uint32_t node = m->trie.root[(unsigned char)piece.ptr[start]];
        for (size_t i = start + 1; node; i++) {
            int32_t id = m->trie.values[node];
            if (id >= 0) {
                improve(&best[i], m->scores[id] + best[start].score, (uint32_t)start, id);
                single |= i == after;
            }
            if (i == piece.len) break;
            node = we_trie_step(&m->trie, node, (unsigned char)piece.ptr[i]);
        }
        if (!single) {
            if (m->unk_id < 0)
                return we_fail(err, WE_E_FORMAT, "tokenizer.json: an unknown character, and model.unk_id is missing");
            improve(&best[after], m->unk_score + best[start].score, (uint32_t)start, m->unk_id);
        }
        start = after;
    }
    return WE_OK;
}

/* One token's text, or several unknowns that are one now. */
static we_status push_token(const we_tok *tok, we_str text, we_ids *out, we_error *err)
{
    const we_unigram *m = tok->unigram;
    int32_t id = we_vocab_find(&tok->vocab, text);
    if (id >= 0) return we_ids_push(out, id, err);
    bool all = m->byte_fallback;
    for (size_t i = 0; all && i < text.len; i++) all = m->fallback[(unsigned char)text.ptr[i]] >= 0;
    if (!all && m->unk_id < 0)
        return we_fail(err, WE_E_FORMAT, "tokenizer.json: an unknown character, and model.unk_id is missing");
    if (!all) return we_ids_push(out, m->unk_id, err);
    we_status st = WE_OK;
    for (size_t i = 0; i < text.len && !st; i++) st = we_ids_push(out, m->fallback[(unsigned char)text.ptr[i]], err);
    return st;
}

static we_status unigram_encode(const we_tok *tok, we_tok_work *work, we_str piece, bool byte_level, we_ids *out,
                                we_error *err)
{
    const we_unigram *m = tok->unigram;
    (void)byte_level; /* the caller has written it out: only BPE takes bytes */
    if (piece.len + 1 > work->unigram_capacity) {
        best_node *grown = we_realloc_array(work->unigram, piece.len + 1, sizeof(*grown));
        if (!grown) return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", piece.len);
        work->unigram = grown;
        work->unigram_capacity = piece.len + 1;
    }
    best_node *best = work->unigram;
    we_status st = find_best(m, piece, best, err);
    if (st) return st;
    uint32_t next = NO_WAY; /* turn the way round: best[i].from becomes the place that follows i */
    for (uint32_t i = (uint32_t)piece.len;;) {
        uint32_t from = best[i].from;
        best[i].from = next;
        next = i;
        if (i == 0) break;
        i = from;
    }
    for (uint32_t i = 0; i < piece.len && !st;) {
        uint32_t end = best[i].from;
        bool unknown = best[end].id == m->unk_id;
        while (unknown && end < piece.len && best[best[end].from].id == m->unk_id) end = best[end].from;
        st = push_token(tok, (we_str){ piece.ptr + i, end - i }, out, err);
        i = end;
    }
    return st;
}

const we_model_kind we_model_unigram = { "Unigram", unigram_finish, unigram_build, unigram_encode, unigram_free };
