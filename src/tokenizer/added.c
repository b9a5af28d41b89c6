/* SPDX-License-Identifier: Apache-2.0
 * added.c - added tokens: reading them, and finding them in a text, leftmost first, the longest of those.
 *
 * Which id a token has is the reference's rule, not the file's: the model's id where its vocabulary holds the content, else
 * the next free one behind the vocabulary, in the file's order. The two agree in files that the reference wrote. */
#include "tokenizer/tokenizer_int.h"

/* ---- Reading ---- */

static we_status parse_one(we_tok *tok, we_added *added, const we_json *json, size_t index, we_error *err)
{
    char where[48];
    snprintf(where, sizeof(where), "added_tokens[%zu]", index);
    if (!we_json_is(json, WE_JSON_OBJECT))
        return we_fail(err, WE_E_FORMAT, "%s is %s, expected an object", where, we_json_type_name(json));
    int64_t id;
    if (!we_json_i64(we_json_get(json, "id"), &id) || id < 0 || id > WE_TOK_MAX_ID)
        return we_fail(err, WE_E_FORMAT, "%s.id is %s, expected a number from 0 to %d", where,
                       we_json_is(we_json_get(json, "id"), WE_JSON_NUMBER) ? "out of range"
                                                                           : we_json_type_name(we_json_get(json, "id")),
                       WE_TOK_MAX_ID);
    added->id = (int32_t)id;
    we_status st;
    if ((st = we_tok_get_str(tok, json, "content", where, true, &added->content, err)) ||
        (st = we_tok_get_bool(json, "single_word", where, &added->single_word, err)) ||
        (st = we_tok_get_bool(json, "lstrip", where, &added->lstrip, err)) ||
        (st = we_tok_get_bool(json, "rstrip", where, &added->rstrip, err)) ||
        (st = we_tok_get_bool(json, "special", where, &added->special, err)))
        return st;
    added->normalized = !added->special;
    return we_tok_get_bool(json, "normalized", where, &added->normalized, err);
}

/* The form behind the normalizer, for tokens that are matched there. */
static we_status normalize_content(we_tok *tok, we_added *added, we_error *err)
{
    added->form = added->content;
    if (!added->normalized || tok->normalizers.n == 0) return WE_OK;
    we_tok_work work = { 0 };
    we_str form;
    we_status st = we_tok_normalize(tok, &work, added->content, &form, err);
    if (!st) st = we_tok_copy(tok, form, &added->form, err);
    we_buf_deinit(&work.normal[0]);
    we_buf_deinit(&work.normal[1]);
    return st;
}

/* Contents that came before: a second one replaces the first, as in the reference. */
static we_added *find_content(we_added_list *list, const we_vocab *seen, we_str content)
{
    int32_t index = we_vocab_find(seen, content);
    return index < 0 ? NULL : &list->tokens[index];
}

/* The list is complete: make its tokens ready to be found. */
static we_status index_tokens(we_added_list *list, const we_vocab *seen, we_error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        we_added *added = &list->tokens[i];
        const we_added *named = find_content(list, seen, added->form);
        added->skipped = named && named->special;
        bool *any = added->normalized ? &list->any_normal : &list->any_raw;
        if (added->form.len == 0) /* the normalizer leaves nothing of it: never found */
            continue;
        *any = true;
        if (!we_trie_add(added->normalized ? &list->normal : &list->raw, added->form, (int32_t)i))
            return we_fail(err, WE_E_NOMEM, "no memory for added tokens");
    }
    return WE_OK;
}

we_status we_tok_parse_added(we_tok *tok, const we_json *json, we_error *err)
{
    we_added_list *list = &tok->added;
    if (!json || json->type == WE_JSON_NULL) return WE_OK;
    if (json->type != WE_JSON_ARRAY)
        return we_fail(err, WE_E_FORMAT, "added_tokens is %s, expected an array", we_json_type_name(json));
    list->tokens = we_arena_calloc(&tok->arena, json->n, sizeof(*list->tokens));
    if (!list->tokens) return we_fail(err, WE_E_NOMEM, "no memory for added tokens");
    we_vocab seen = { 0 };
    we_status st = WE_OK;
    size_t index = 0;
    int32_t next_id = (int32_t)tok->vocab.n;
    for (const we_json *one = json->first; one && !st; one = one->next, index++) {
        we_added added = { 0 };
        if ((st = parse_one(tok, &added, one, index, err)) || added.content.len == 0) continue;
        if ((st = normalize_content(tok, &added, err))) continue;
        we_added *before = find_content(list, &seen, added.content);
        int32_t id = before ? before->id : we_vocab_find(&tok->vocab, added.content);
        if (id < 0) id = next_id++;
        if (id != added.id)
            we_log(tokenizer, WARN, "added_tokens[%zu] says id %d; as in Hugging Face tokenizers it gets %d", index,
                   added.id, id);
        added.id = id;
        if (before) {
            *before = added;
            continue;
        }
        if (!we_vocab_add(&seen, added.content, (int32_t)list->n))
            st = we_fail(err, WE_E_NOMEM, "no memory for added tokens");
        else
            list->tokens[list->n++] = added;
    }
    if (!st) st = index_tokens(list, &seen, err);
    we_vocab_deinit(&seen);
    return st;
}

we_status we_added_push(we_tok *tok, we_added_new *list, const we_added *added, we_error *err)
{
    we_added copy = *added;
    we_status st = we_tok_copy(tok, added->content, &copy.content, err);
    if (st) return st;
    copy.form = copy.content;
    int32_t before = we_vocab_find(&list->seen, copy.content);
    if (before >= 0) {
        list->tokens[before] = copy;
        return WE_OK;
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        we_added *grown = we_realloc_array(list->tokens, capacity, sizeof(*grown));
        if (!grown) return we_fail(err, WE_E_NOMEM, "no memory for added tokens");
        list->tokens = grown;
        list->capacity = capacity;
    }
    if (!we_vocab_add(&list->seen, copy.content, (int32_t)list->n))
        return we_fail(err, WE_E_NOMEM, "no memory for added tokens");
    list->tokens[list->n++] = copy;
    return WE_OK;
}

we_status we_added_take(we_tok *tok, we_added_new *from, we_status st, we_error *err)
{
    we_added_list *list = &tok->added;
    if (!st && !(list->tokens = we_arena_calloc(&tok->arena, from->n, sizeof(*list->tokens))))
        st = we_fail(err, WE_E_NOMEM, "no memory for added tokens");
    if (!st) {
        if (from->n) memcpy(list->tokens, from->tokens, from->n * sizeof(*list->tokens));
        list->n = from->n;
        st = index_tokens(list, &from->seen, err);
    }
    we_free(from->tokens);
    we_vocab_deinit(&from->seen);
    return st;
}

void we_added_deinit(we_added_list *added)
{
    we_trie_deinit(&added->raw);
    we_trie_deinit(&added->normal);
}

/* ---- Finding ---- */

/* The longest token that begins at `start`: its index, or -1. */
static int32_t longest_at(const we_trie *trie, we_str text, size_t start, size_t *end)
{
    int32_t found = -1;
    uint32_t node = trie->root[(unsigned char)text.ptr[start]];
    for (size_t i = start + 1; node; i++) {
        if (trie->values[node] >= 0) {
            found = trie->values[node];
            *end = i;
        }
        if (i == text.len) break;
        node = we_trie_step(trie, node, (unsigned char)text.ptr[i]);
    }
    return found;
}

static uint32_t rune_before(we_str text, size_t i)
{
    do i--;
    while (i > 0 && (text.ptr[i] & 0xC0) == 0x80);
    return we_utf8_next(text, &i);
}

static bool is_word(uint32_t rune) { return we_uni_flags(rune) & WE_UNI_WORD; }

static size_t skip_space_back(we_str text, size_t i, size_t stop)
{
    while (i > stop && (we_uni_flags(rune_before(text, i)) & WE_UNI_SPACE)) do
            i--;
        while ((text.ptr[i] & 0xC0) == 0x80);
    return i;
}

static size_t skip_space(we_str text, size_t i)
{
    while (i < text.len) {
        size_t next = i;
        if (!(we_uni_flags(we_utf8_next(text, &next)) & WE_UNI_SPACE)) break;
        i = next;
    }
    return i;
}

we_status we_added_split(const we_added_list *added, bool normalized, we_str text, void *user, we_added_text_fn text_fn,
                         we_added_token_fn token_fn, we_error *err)
{
    const we_trie *trie = normalized ? &added->normal : &added->raw;
    size_t done = 0; /* what stands before has been handed on */
    size_t i = normalized ? (added->any_normal ? 0 : text.len) : (added->any_raw ? 0 : text.len);
    we_status st = WE_OK;
    while (i < text.len && !st) {
        size_t end = 0;
        int32_t index = trie->root[(unsigned char)text.ptr[i]] ? longest_at(trie, text, i, &end) : -1;
        if (index < 0) {
            i++;
            continue;
        }
        const we_added *token = &added->tokens[index];
        size_t start = i;
        i = end; /* the search goes on here, whatever white space the token takes */
        if (token->single_word) {
            size_t next = end;
            if ((start > 0 && is_word(rune_before(text, start))) ||
                (end < text.len && is_word(we_utf8_next(text, &next))))
                continue;
        }
        if (token->lstrip) start = skip_space_back(text, start, done);
        if (token->rstrip) end = skip_space(text, end);
        if (start > done) st = text_fn(user, (we_str){ text.ptr + done, start - done }, done, err);
        bool eaten = token->lstrip && done >= end; /* the token before took all of it as white space */
        if (!st && !eaten) st = token_fn(user, token->id, err);
        done = end;
    }
    if (!st && done < text.len) st = text_fn(user, (we_str){ text.ptr + done, text.len - done }, done, err);
    return st;
}
