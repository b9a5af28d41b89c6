/* SPDX-License-Identifier: Apache-2.0
 * post.c - the post-processors: which special tokens go around a text.
 *
 * The reference hands a list of encodings from one to the next: the text at first; a template makes one of each of its
 * pieces. With two in the list a template takes its `pair` form; with more, the reference ends in a panic, and here the
 * list passes unchanged. */
#include "tokenizer/tokenizer_int.h"

typedef struct template_piece {
    int sequence;       /* 0: A, 1: B, -1: special token */
    const int32_t *ids; /* the special token's */
    size_t n_ids;
} template_piece;
typedef struct template_data {
    template_piece *single, *pair;
    size_t n_single, n_pair;
} template_data;

/* Encodings in a row: part i is ids[ends[i - 1] .. ends[i]). */
typedef struct encodings {
    we_ids ids;
    size_t *ends;
    size_t n;
} encodings;

typedef struct post_kind {
    we_part_kind head;
    we_status (*run)(const we_part *part, encodings *e, bool special, we_error *err);
} post_kind;

/* ---- Reading ---- */

static we_status parse_ids(we_tok *tok, const we_json *json, const char *where, template_piece *piece, we_error *err)
{
    if (!we_json_is(json, WE_JSON_ARRAY))
        return we_fail(err, WE_E_FORMAT, "%s.ids is %s, expected an array", where, we_json_type_name(json));
    int32_t *ids = we_arena_calloc(&tok->arena, json->n, sizeof(*ids));
    if (!ids) return we_fail(err, WE_E_NOMEM, "no memory for %s", where);
    for (const we_json *one = json->first; one; one = one->next) {
        int64_t id;
        if (!we_json_i64(one, &id) || id < 0 || id > WE_TOK_MAX_ID)
            return we_fail(err, WE_E_FORMAT, "%s.ids[%zu]: expected an id from 0 to %d", where, piece->n_ids,
                           WE_TOK_MAX_ID);
        ids[piece->n_ids++] = (int32_t)id;
    }
    piece->ids = ids;
    return WE_OK;
}

static we_status parse_piece(we_tok *tok, const we_json *json, const we_json *special_tokens, const char *where,
                             template_piece *piece, we_error *err)
{
    const we_json *sequence = we_json_get(json, "Sequence"), *special = we_json_get(json, "SpecialToken");
    we_str id = { 0 };
    if ((!sequence && !special) || !we_json_str(we_json_get(sequence ? sequence : special, "id"), &id))
        return we_fail(err, WE_E_FORMAT, "%s: expected a Sequence or a SpecialToken with an id", where);
    if (sequence) {
        if (!we_str_is(id, "A") && !we_str_is(id, "B"))
            return we_fail(err, WE_E_FORMAT, "%s: unknown sequence \"%.*s\"", where, (int)WE_MIN(id.len, 60), id.ptr);
        piece->sequence = id.ptr[0] == 'B';
        return WE_OK;
    }
    piece->sequence = -1;
    const we_json *token = NULL;
    for (const we_json *one = we_json_is(special_tokens, WE_JSON_OBJECT) ? special_tokens->first : NULL; one;
         one = one->next)
        if (we_str_eq(one->key, id)) token = one;
    if (!token)
        return we_fail(err, WE_E_FORMAT, "%s: special_tokens lacks \"%.*s\"", where, (int)WE_MIN(id.len, 60), id.ptr);
    return parse_ids(tok, we_json_get(token, "ids"), where, piece, err);
}

static we_status parse_pieces(we_tok *tok, const we_json *json, const char *key, const char *where,
                              template_piece **out, size_t *n, we_error *err)
{
    const we_json *list = we_json_get(json, key);
    char place[160];
    if (!we_json_is(list, WE_JSON_ARRAY))
        return we_fail(err, WE_E_FORMAT, "%s.%s is %s, expected an array", where, key, we_json_type_name(list));
    if (!(*out = we_arena_calloc(&tok->arena, list->n, sizeof(**out))))
        return we_fail(err, WE_E_NOMEM, "no memory for %s", where);
    we_status st = WE_OK;
    for (const we_json *one = list->first; one && !st; one = one->next, (*n)++) {
        snprintf(place, sizeof(place), "%s.%s[%zu]", where, key, *n);
        st = parse_piece(tok, one, we_json_get(json, "special_tokens"), place, &(*out)[*n], err);
    }
    return st;
}

static we_status parse_template(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    template_data *data = part->data = we_arena_calloc(&tok->arena, 1, sizeof(*data));
    if (!data) return we_fail(err, WE_E_NOMEM, "no memory for %s", where);
    we_status st = parse_pieces(tok, json, "single", where, &data->single, &data->n_single, err);
    if (!st && we_json_get(json, "pair")) st = parse_pieces(tok, json, "pair", where, &data->pair, &data->n_pair, err);
    return st;
}

/* "sep": ["[SEP]", 102] */
static we_status parse_token_pair(const we_json *json, const char *key, const char *where, size_t *id, we_error *err)
{
    const we_json *pair = we_json_get(json, key);
    int64_t value;
    if (!we_json_is(pair, WE_JSON_ARRAY) || !we_json_i64(we_json_at(pair, 1), &value) || value < 0 ||
        value > WE_TOK_MAX_ID)
        return we_fail(err, WE_E_FORMAT, "%s.%s: expected [\"token\", id]", where, key);
    *id = (size_t)value;
    return WE_OK;
}

static we_status parse_cls_sep(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    (void)tok;
    we_status st = parse_token_pair(json, "cls", where, &part->start, err);
    return st ? st : parse_token_pair(json, "sep", where, &part->stop, err);
}

/* ---- Running ---- */

/* ids[begin, end) behind the others; `ids` may be NULL where that is empty. */
static we_status append(we_ids *out, const int32_t *ids, size_t begin, size_t end, we_error *err)
{
    we_status st = WE_OK;
    for (size_t i = begin; i < end && !st; i++) st = we_ids_push(out, ids[i], err);
    return st;
}

/* A new list takes the old one's place. */
static we_status replace(encodings *e, we_ids *ids, size_t *ends, size_t n, we_status st, we_error *err)
{
    if (!st && !ends) st = we_fail(err, WE_E_NOMEM, "no memory for the post-processor");
    if (st) {
        we_ids_deinit(ids);
        we_free(ends);
        return st;
    }
    we_ids_deinit(&e->ids);
    we_free(e->ends);
    *e = (encodings){ *ids, ends, n };
    return WE_OK;
}

static we_status run_template(const we_part *part, encodings *e, bool special, we_error *err)
{
    const template_data *data = part->data;
    if (e->n > 2) return WE_OK;
    const template_piece *pieces = e->n == 2 ? data->pair : data->single;
    size_t n_pieces = e->n == 2 ? data->n_pair : data->n_single, n = 0;
    we_ids ids = { 0 };
    size_t *ends = we_calloc(n_pieces + 1, sizeof(*ends));
    we_status st = WE_OK;
    for (size_t i = 0; ends && i < n_pieces && !st; i++) {
        const template_piece *piece = &pieces[i];
        if (piece->sequence < 0) {
            if (!special) continue;
            st = append(&ids, piece->ids, 0, piece->n_ids, err);
        } else if ((size_t)piece->sequence < e->n) {
            size_t from = piece->sequence ? e->ends[0] : 0;
            st = append(&ids, e->ids.ids, from, e->ends[piece->sequence], err);
        }
        ends[n++] = ids.n;
    }
    return replace(e, &ids, ends, n, st, err);
}

static we_status run_cls_sep(const we_part *part, encodings *e, bool special, bool sep_before, we_error *err)
{
    if (!special) return WE_OK;
    const int32_t cls = (int32_t)part->start, sep = (int32_t)part->stop;
    we_ids ids = { 0 };
    size_t *ends = we_calloc(e->n + 1, sizeof(*ends));
    we_status st = WE_OK;
    for (size_t i = 0; ends && i < e->n && !st; i++) {
        size_t from = i ? e->ends[i - 1] : 0;
        if (i == 0)
            st = we_ids_push(&ids, cls, err);
        else if (sep_before)
            st = we_ids_push(&ids, sep, err);
        if (!st) st = append(&ids, e->ids.ids, from, e->ends[i], err);
        if (!st) st = we_ids_push(&ids, sep, err);
        ends[i] = ids.n;
    }
    return replace(e, &ids, ends, e->n, st, err);
}

static we_status run_bert(const we_part *part, encodings *e, bool special, we_error *err)
{
    return run_cls_sep(part, e, special, false, err);
}
static we_status run_roberta(const we_part *part, encodings *e, bool special, we_error *err)
{
    return run_cls_sep(part, e, special, true, err);
}
static we_status run_byte_level(const we_part *part, encodings *e, bool special, we_error *err)
{
    (void)part, (void)e, (void)special, (void)err; /* it only moves offsets */
    return WE_OK;
}

static const post_kind posts[] = {
    { { "TemplateProcessing", parse_template }, run_template },
    { { "ByteLevel", NULL }, run_byte_level },
    { { "BertProcessing", parse_cls_sep }, run_bert },
    { { "RobertaProcessing", parse_cls_sep }, run_roberta },
};

we_status we_tok_parse_posts(we_tok *tok, const we_json *json, we_error *err)
{
    return we_tok_parse_stage(tok, &tok->posts, json, "post_processor", "processors", posts, WE_COUNT(posts),
                              sizeof(*posts), err);
}

we_status we_tok_post_process(const we_tok *tok, we_ids *ids, size_t start, bool special, we_error *err)
{
    bool any = false;
    for (size_t i = 0; i < tok->posts.n; i++)
        any |= ((const post_kind *)tok->posts.parts[i].kind)->run != run_byte_level;
    if (!any) return WE_OK;
    encodings e = { .n = 1 };
    we_status st = append(&e.ids, ids->ids, start, ids->n, err);
    if (!st && !(e.ends = we_calloc(1, sizeof(*e.ends))))
        st = we_fail(err, WE_E_NOMEM, "no memory for the post-processor");
    if (!st) e.ends[0] = e.ids.n;
    for (size_t i = 0; i < tok->posts.n && !st; i++) {
        const we_part *part = &tok->posts.parts[i];
        st = ((const post_kind *)part->kind)->run(part, &e, special, err);
    }
    if (!st) {
        ids->n = start;
        st = append(ids, e.ids.ids, 0, e.ids.n, err);
    }
    we_ids_deinit(&e.ids);
    we_free(e.ends);
    return st;
}
