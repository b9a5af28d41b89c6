/* SPDX-License-Identifier: Apache-2.0
 * model.c - reading "model" of tokenizer.json. Vocabulary and merges, which can be 30 MB, pass through the pull reader once;
 * the rest is a small tree for the model kind's own function. The kinds are in model_*.c, one row here. */
#include "tokenizer/tokenizer_int.h"

static const we_model_kind *const models[] = { &we_model_bpe, &we_model_unigram, &we_model_wordpiece,
                                               &we_model_wordlevel };

/* The model's members but vocab and merges, as an object. */
typedef struct model_settings {
    we_json object;
    const we_json **tail;
} model_settings;

static we_status reader_failed(const we_json_reader *r, we_error *err)
{
    return we_fail(err, r->error.status, "%s", r->error.message);
}

static we_status expected(const we_json_reader *r, we_error *err, const char *what)
{
    char where[48];
    return we_fail(err, WE_E_FORMAT, "%s (%s)", what, we_json_where(r, where));
}

static bool is_number(const we_json_reader *r, we_json_event ev)
{
    return ev == WE_JSON_EV_VALUE && r->type == WE_JSON_NUMBER;
}
static bool is_string(const we_json_reader *r, we_json_event ev)
{
    return ev == WE_JSON_EV_VALUE && r->type == WE_JSON_STRING;
}

/* { "token": id, ... } */
static we_status read_vocab_object(we_tok *tok, we_json_reader *r, we_error *err)
{
    for (;;) {
        we_json_event ev = we_json_next(r);
        if (ev == WE_JSON_EV_ERROR) return reader_failed(r, err);
        if (ev == WE_JSON_EV_END_OBJECT) return WE_OK;
        we_vocab *v = &tok->vocab;
        if (!we_vocab_add(v, r->text, 0)) /* the text first: the reader reuses its place */
            return we_fail(err, WE_E_NOMEM, "no memory for model.vocab");
        ev = we_json_next(r);
        if (ev == WE_JSON_EV_ERROR) return reader_failed(r, err);
        we_str token = we_vocab_text(v, v->n - 1);
        int64_t id = -1;
        if (!is_number(r, ev) || !we_parse_i64(r->text, &id) || id < 0 || id >= WE_TOK_MAX_ID) {
            char where[48];
            return we_fail(err, WE_E_FORMAT, "model.vocab[\"%.*s\"]: expected an id from 0 to %d (%s)",
                           (int)WE_MIN(token.len, 60), token.ptr, WE_TOK_MAX_ID - 1, we_json_where(r, where));
        }
        v->tokens[v->n - 1].id = (int32_t)id;
        v->max_id = WE_MAX(v->max_id, (int32_t)id);
    }
}

/* [ ["token", score], ... ]: ids count up; scores are kept beside the vocabulary. */
static we_status read_vocab_array(we_tok *tok, we_json_reader *r, double **scores, we_error *err)
{
    size_t capacity = 0;
    for (;;) {
        we_vocab *v = &tok->vocab;
        we_json_event ev = we_json_next(r);
        if (ev == WE_JSON_EV_ERROR) return reader_failed(r, err);
        if (ev == WE_JSON_EV_END_ARRAY) return WE_OK;
        char what[64];
        snprintf(what, sizeof(what), "model.vocab[%zu]: expected [\"token\", score]", v->n);
        if (ev != WE_JSON_EV_BEGIN_ARRAY || !is_string(r, we_json_next(r)))
            return r->error.status ? reader_failed(r, err) : expected(r, err, what);
        if (v->n >= WE_TOK_MAX_ID) return expected(r, err, "model.vocab holds more than 4 million tokens");
        if (!we_vocab_add(v, r->text, (int32_t)v->n)) return we_fail(err, WE_E_NOMEM, "no memory for model.vocab");
        if (v->n > capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            double *grown = we_realloc_array(*scores, capacity, sizeof(*grown));
            if (!grown) return we_fail(err, WE_E_NOMEM, "no memory for model.vocab");
            *scores = grown;
        }
        if (!is_number(r, we_json_next(r)) || !we_unigram_score(r->text, &(*scores)[v->n - 1]) ||
            we_json_next(r) != WE_JSON_EV_END_ARRAY)
            return r->error.status ? reader_failed(r, err) : expected(r, err, what);
    }
}

static we_status read_vocab(we_tok *tok, we_json_reader *r, we_error *err)
{
    we_json_event ev = we_json_next(r);
    if (ev == WE_JSON_EV_ERROR) return reader_failed(r, err);
    if (tok->vocab.n) return expected(r, err, "model.vocab is there twice");
    if (ev == WE_JSON_EV_BEGIN_OBJECT) return read_vocab_object(tok, r, err);
    if (ev != WE_JSON_EV_BEGIN_ARRAY) return expected(r, err, "model.vocab: expected an object or an array");
    double *scores = NULL;
    we_status st = read_vocab_array(tok, r, &scores, err);
    if (st) {
        we_free(scores);
        return st;
    }
    return we_unigram_take_scores(tok, scores, err); /* owned from here on, also on failure */
}

static we_status add_setting(we_tok *tok, model_settings *s, we_json_reader *r, we_str key, we_error *err)
{
    const we_json *value;
    we_status st = we_json_read_tree(r, &tok->arena, &value, err);
    if (st) return st;
    we_json *member = we_arena_alloc(&tok->arena, sizeof(*member));
    if (!member) return we_fail(err, WE_E_NOMEM, "no memory for model.%.*s", (int)key.len, key.ptr);
    *member = *value;
    member->key = key;
    member->next = NULL;
    *s->tail = member;
    s->tail = (const we_json **)&member->next;
    s->object.n++;
    return WE_OK;
}

/* Some old files have no "type": tell by the members, in the reference's order. */
static const char *guess_type(const we_tok *tok, const we_json *settings, bool has_merges)
{
    if (has_merges) return "BPE";
    if (tok->unigram) return "Unigram";
    return we_json_get(settings, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

static we_status choose(we_tok *tok, const we_json *settings, bool has_merges, we_error *err)
{
    const we_json *type = we_json_get(settings, "type");
    we_str name = we_str_from(guess_type(tok, settings, has_merges));
    if (type && !we_json_str(type, &name))
        return we_fail(err, WE_E_FORMAT, "model.type is %s, expected a string", we_json_type_name(type));
    for (size_t i = 0; i < WE_COUNT(models); i++)
        if (we_str_is(name, models[i]->name)) tok->model = models[i];
    if (!tok->model)
        return we_fail(err, WE_E_UNSUPPORTED,
                       "model.type: unknown model \"%.*s\" (known: BPE, Unigram, WordPiece, WordLevel)",
                       (int)WE_MIN(name.len, 60), name.ptr);
    if ((tok->model == &we_model_unigram) != (tok->unigram != NULL) && tok->vocab.n)
        return we_fail(err, WE_E_FORMAT, "model.vocab: not of the kind that %s has", tok->model->name);
    if (tok->model == &we_model_bpe && !has_merges) return we_fail(err, WE_E_FORMAT, "model.merges is missing");
    return WE_OK;
}

we_status we_tok_take_model(we_tok *tok, const we_json *settings, const we_tables *tables, we_error *err)
{
    const bool has_merges = tables->table[WE_TABLE_MERGES].len > 0, has_scores = tables->table[WE_TABLE_ROOT].len > 0;
    if (!we_json_is(settings, WE_JSON_OBJECT) || !we_vocab_take(&tok->vocab, tables) ||
        (has_merges && !we_bpe_take(tok, tables)) || (has_scores && !we_unigram_take(tok, tables)))
        return we_fail(err, WE_E_FORMAT, "the compiled form is damaged");
    we_status st = choose(tok, settings, has_merges, err);
    if (!st && has_merges != (tok->model == &we_model_bpe))
        st = we_fail(err, WE_E_FORMAT, "the compiled form is damaged");
    return st ? st : tok->model->finish(tok, settings, err);
}

we_status we_tok_read_model(we_tok *tok, we_json_reader *r, const we_json **settings, we_error *err)
{
    model_settings s = { .object = { .type = WE_JSON_OBJECT } };
    s.tail = &s.object.first;
    we_json_reader later = { 0 }; /* where the merges begin, read when all that they need is known */
    bool has_vocab = false, has_merges = false;
    we_json_event ev = we_json_next(r);
    if (ev == WE_JSON_EV_ERROR) return reader_failed(r, err);
    if (ev != WE_JSON_EV_BEGIN_OBJECT) return expected(r, err, "model: expected an object");
    we_status st = WE_OK;
    while (!st && (ev = we_json_next(r)) == WE_JSON_EV_KEY) {
        if (we_str_is(r->text, "vocab")) {
            has_vocab = true;
            st = read_vocab(tok, r, err);
        } else if (we_str_is(r->text, "merges")) {
            if (has_merges) return expected(r, err, "model.merges is there twice");
            has_merges = true;
            later = *r;
            later.scratch = (we_buf){ 0 };
            const we_json *prefix = we_json_get(&s.object, "continuing_subword_prefix");
            we_str text = { 0 };
            if (has_vocab && prefix) { /* the usual order: one pass */
                we_json_str(prefix, &text);
                st = we_bpe_read_merges(tok, r, text, err);
            } else if (!we_json_skip(r)) {
                st = reader_failed(r, err);
            }
        } else {
            we_str key;
            st = we_tok_copy(tok, r->text, &key, err);
            if (!st) st = add_setting(tok, &s, r, key, err);
        }
    }
    if (!st && ev == WE_JSON_EV_ERROR) st = reader_failed(r, err);
    if (!st && !has_vocab) st = we_fail(err, WE_E_FORMAT, "model.vocab is missing");
    if (!st) st = choose(tok, &s.object, has_merges, err);
    if (!st && tok->model == &we_model_bpe && !tok->bpe) {
        we_str prefix = { 0 };
        we_json_str(we_json_get(&s.object, "continuing_subword_prefix"), &prefix);
        st = we_bpe_read_merges(tok, &later, prefix, err);
        we_json_reader_deinit(&later);
    }
    we_json *object = st ? NULL : we_arena_alloc(&tok->arena, sizeof(*object));
    if (!st && !object) st = we_fail(err, WE_E_NOMEM, "no memory for the model's settings");
    if (st) return st;
    *object = s.object;
    *settings = object;
    st = tok->model->finish(tok, object, err);
    return !st && tok->model->build ? tok->model->build(tok, err) : st;
}
