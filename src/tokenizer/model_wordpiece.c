/* SPDX-License-Identifier: Apache-2.0
 * model_wordpiece.c - WordPiece (the longest token that begins the rest of the word, again and again) and WordLevel (the word
 * is a token or it is not). */
#include "tokenizer/tokenizer_int.h"

struct we_wordpiece {
    we_str prefix, unk_token;
    int32_t unk_id;
    size_t max_input_chars_per_word;
};

static we_status wordpiece_finish(we_tok *tok, const we_json *settings, we_error *err)
{
    we_wordpiece *m = tok->wordpiece = we_arena_calloc(&tok->arena, 1, sizeof(*m));
    if (!m) return we_fail(err, WE_E_NOMEM, "no memory for the model");
    bool pieces = tok->model == &we_model_wordpiece;
    m->unk_token = pieces ? WE_STR("[UNK]") : WE_STR("<unk>");
    m->prefix = WE_STR("##");
    m->max_input_chars_per_word = 100;
    we_status st = we_tok_get_str(tok, settings, "unk_token", "model", false, &m->unk_token, err);
    if (!st && pieces) st = we_tok_get_str(tok, settings, "continuing_subword_prefix", "model", false, &m->prefix, err);
    if (!st && pieces)
        st = we_tok_get_size(settings, "max_input_chars_per_word", "model", &m->max_input_chars_per_word, err);
    m->unk_id = we_vocab_find(&tok->vocab, m->unk_token);
    return st;
}

static we_status push_unknown(const we_wordpiece *m, we_ids *out, we_error *err)
{
    if (m->unk_id < 0)
        return we_fail(err, WE_E_FORMAT,
                       "tokenizer.json: model.unk_token \"%.*s\" is needed, but the vocabulary lacks it",
                       (int)WE_MIN(m->unk_token.len, 60), m->unk_token.ptr);
    return we_ids_push(out, m->unk_id, err);
}

static we_status wordpiece_encode(const we_tok *tok, we_tok_work *work, we_str word, bool byte_level, we_ids *out,
                                  we_error *err)
{
    const we_wordpiece *m = tok->wordpiece;
    const size_t begin = out->n;
    size_t n_chars = 0;
    (void)byte_level;
    (void)work;
    for (size_t i = 0; i < word.len; i++) n_chars += (word.ptr[i] & 0xC0) != 0x80;
    if (n_chars > m->max_input_chars_per_word) return push_unknown(m, out, err);
    for (size_t start = 0; start < word.len;) {
        int32_t id = -1;
        size_t end = WE_MIN(word.len, start + tok->vocab.max_len); /* no token is longer */
        while (end < word.len && end > start && (word.ptr[end] & 0xC0) == 0x80) end--;
        while (end > start) {
            we_str rest = { word.ptr + start, end - start };
            id = start ? we_vocab_find_pair(&tok->vocab, m->prefix, rest) : we_vocab_find(&tok->vocab, rest);
            if (id >= 0) break;
            do end--;
            while (end > start && (word.ptr[end] & 0xC0) == 0x80);
        }
        if (id < 0) { /* the whole word is unknown */
            out->n = begin;
            return push_unknown(m, out, err);
        }
        we_status st = we_ids_push(out, id, err);
        if (st) return st;
        start = end;
    }
    return WE_OK;
}

static we_status wordlevel_encode(const we_tok *tok, we_tok_work *work, we_str word, bool byte_level, we_ids *out,
                                  we_error *err)
{
    (void)byte_level;
    (void)work;
    int32_t id = we_vocab_find(&tok->vocab, word);
    return id >= 0 ? we_ids_push(out, id, err) : push_unknown(tok->wordpiece, out, err);
}

static void nothing_to_free(we_tok *tok) { (void)tok; }

const we_model_kind we_model_wordpiece = { "WordPiece", wordpiece_finish, NULL, wordpiece_encode, nothing_to_free };
const we_model_kind we_model_wordlevel = { "WordLevel", wordpiece_finish, NULL, wordlevel_encode, nothing_to_free };
