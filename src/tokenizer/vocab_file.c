/* SPDX-License-Identifier: Apache-2.0
 * vocab_file.c - vocabularies of folders without tokenizer.json: which files are looked for, what the small files beside them
 * tell, and the parts of a tokenizer that SentencePiece's and tiktoken's have in common.
 * Not here: the two formats (sentencepiece.c, tiktoken.c). */
#include "format/format.h"
#include "tokenizer/tokenizer_int.h"

/* ---- Base64 ---- */

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool we_base64_decode(we_str in, char *out, size_t *n)
{
    uint32_t bits = 0;
    int n_bits = 0;
    *n = 0;
    while (in.len && in.ptr[in.len - 1] == '=') in.len--;
    for (size_t i = 0; i < in.len; i++) {
        int value = base64_value(in.ptr[i]);
        if (value < 0) return false;
        bits = bits << 6 | (uint32_t)value;
        if ((n_bits += 6) >= 8) {
            n_bits -= 8;
            out[(*n)++] = (char)(unsigned char)(bits >> n_bits);
        }
    }
    return true;
}

/* ---- Hints ---- */

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c; }

static bool text_mentions(we_str text, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= text.len; i++) {
        size_t k = 0;
        while (k < n && lower(text.ptr[i + k]) == word[k]) k++;
        if (k == n) return true;
    }
    return false;
}

/* auto_map holds a string, or a list or an object of them. */
static bool value_mentions(const we_json *value, const char *word, int depth)
{
    we_str text;
    if (we_json_str(value, &text)) return text_mentions(text, word);
    if (depth > 3 || (!we_json_is(value, WE_JSON_ARRAY) && !we_json_is(value, WE_JSON_OBJECT))) return false;
    for (const we_json *one = value->first; one; one = one->next)
        if (value_mentions(one, word, depth + 1)) return true;
    return false;
}

bool we_hints_mention(const we_tok_hints *h, const char *word)
{
    return value_mentions(we_json_get(h->config, "tokenizer_class"), word, 0) ||
           value_mentions(we_json_get(h->config, "auto_map"), word, 0) ||
           value_mentions(we_json_get(h->model, "model_type"), word, 0);
}

/* A token is a string, or an object with its content. */
static bool token_content(const we_json *value, we_str *out)
{
    return we_json_str(value, out) || we_json_str(we_json_get(value, "content"), out);
}

we_str we_hints_role(const we_tok_hints *h, const char *role, we_str otherwise)
{
    we_str content;
    if (token_content(we_json_get(h->config, role), &content)) return content;
    return token_content(we_json_get(h->roles, role), &content) ? content : otherwise;
}

/* ---- Added tokens ---- */

typedef struct adding {
    we_tok *tok;
    int32_t except;
    we_added_new *list;
    we_error *err;
} adding;

static we_status bad_id(const adding *a, const char *file, const char *key, we_str content)
{
    return we_fail(a->err, WE_E_FORMAT, "%s: %s \"%.*s\": expected an id from 0 to %d", file, key,
                   (int)WE_MIN(content.len, 60), content.ptr, WE_TOK_MAX_ID);
}

static we_status add_token(const adding *a, const we_added *added)
{
    if (added->id == a->except || added->content.len == 0) return WE_OK;
    return we_added_push(a->tok, a->list, added, a->err);
}

static we_status add_from_map(const adding *a, const we_json *map) /* added_tokens.json: { content: id } */
{
    we_status st = WE_OK;
    for (const we_json *one = we_json_is(map, WE_JSON_OBJECT) ? map->first : NULL; one && !st; one = one->next) {
        int64_t id;
        if (!we_json_i64(one, &id) || id < 0 || id > WE_TOK_MAX_ID)
            return bad_id(a, "added_tokens.json", "the token", one->key);
        we_added added = { .content = one->key, .id = (int32_t)id };
        st = add_token(a, &added);
    }
    return st;
}

static we_status add_from_decoder(const adding *a, const we_json *map) /* { "id": { "content": ... } } */
{
    static const char where[] = "tokenizer_config.json: added_tokens_decoder";
    we_status st = WE_OK;
    for (const we_json *one = we_json_is(map, WE_JSON_OBJECT) ? map->first : NULL; one && !st; one = one->next) {
        int64_t id;
        we_added added = { 0 };
        if (!we_parse_i64(one->key, &id) || id < 0 || id > WE_TOK_MAX_ID)
            return bad_id(a, "tokenizer_config.json", "added_tokens_decoder", one->key);
        added.id = (int32_t)id;
        if (!token_content(one, &added.content))
            return we_fail(a->err, WE_E_FORMAT, "%s[%d].content is missing, expected a string", where, added.id);
        if ((st = we_tok_get_bool(one, "single_word", where, &added.single_word, a->err)) ||
            (st = we_tok_get_bool(one, "lstrip", where, &added.lstrip, a->err)) ||
            (st = we_tok_get_bool(one, "rstrip", where, &added.rstrip, a->err)) ||
            (st = we_tok_get_bool(one, "special", where, &added.special, a->err)))
            return st;
        st = add_token(a, &added);
    }
    return st;
}

/* Tokens that are only named: special where they are known by another file or by the vocabulary. */
static we_status add_named(const adding *a, const we_json *token)
{
    we_added added = { .special = true, .id = -1 };
    if (!token_content(token, &added.content)) return WE_OK;
    int32_t index = we_vocab_find(&a->list->seen, added.content);
    if (index >= 0) {
        a->list->tokens[index].special = true;
        return WE_OK;
    }
    added.id = we_vocab_find(&a->tok->vocab, added.content);
    return added.id < 0 ? WE_OK : add_token(a, &added);
}

static we_status add_roles(const adding *a, const we_json *object)
{
    we_status st = WE_OK;
    for (const we_json *one = we_json_is(object, WE_JSON_OBJECT) ? object->first : NULL; one && !st; one = one->next) {
        if (we_str_is(one->key, "additional_special_tokens") || we_str_is(one->key, "extra_special_tokens"))
            for (const we_json *token = one->type == WE_JSON_ARRAY || one->type == WE_JSON_OBJECT ? one->first : NULL;
                 token && !st; token = token->next)
                st = add_named(a, token);
        else if (we_str_ends_with(one->key, WE_STR("_token")))
            st = add_named(a, one);
    }
    return st;
}

we_status we_hints_added(we_tok *tok, const we_tok_hints *h, int32_t except, we_added_new *list, we_error *err)
{
    const adding a = { tok, except, list, err };
    we_status st;
    if ((st = add_from_map(&a, h->added)) ||
        (st = add_from_decoder(&a, we_json_get(h->config, "added_tokens_decoder"))) || (st = add_roles(&a, h->config)))
        return st;
    return add_roles(&a, h->roles);
}

/* ---- Ids around every text ---- */

static void write_sides(we_json_writer *w, const char *const *names)
{
    for (int i = 0; i < 3; i++) {
        we_json_begin_object(w);
        we_json_key(w, i == 1 ? "Sequence" : "SpecialToken");
        we_json_begin_object(w);
        we_json_key(w, "id");
        we_json_write_str(w, we_str_from(names[i]));
        we_json_end_object(w);
        we_json_end_object(w);
    }
}

static void write_ids(we_json_writer *w, const char *name, const int32_t *ids, size_t n)
{
    we_json_key(w, name);
    we_json_begin_object(w);
    we_json_key(w, "ids");
    we_json_begin_array(w);
    for (size_t i = 0; i < n; i++) we_json_write_i64(w, ids[i]);
    we_json_end_array(w);
    we_json_end_object(w);
}

we_status we_tok_set_around(we_tok *tok, const int32_t *before, size_t n_before, const int32_t *behind, size_t n_behind,
                            we_error *err)
{
    static const char *const names[] = { "before", "A", "behind" };
    if (n_before + n_behind == 0) return WE_OK;
    we_buf buf = { 0 };
    we_arena arena = { 0 };
    we_json_writer w = { .buf = &buf };
    const we_json *json;
    we_json_begin_object(&w);
    we_json_key(&w, "type");
    we_json_write_str(&w, WE_STR("TemplateProcessing"));
    we_json_key(&w, "single");
    we_json_begin_array(&w);
    write_sides(&w, names);
    we_json_end_array(&w);
    we_json_key(&w, "special_tokens");
    we_json_begin_object(&w);
    write_ids(&w, names[0], before, n_before);
    write_ids(&w, names[2], behind, n_behind);
    we_json_end_object(&w);
    we_json_end_object(&w);
    we_status st = we_buf_status(&buf, err, "the post-processor");
    if (!st) st = we_json_parse(&arena, we_buf_str(&buf), &json, err);
    if (!st) st = we_tok_parse_posts(tok, json, err);
    we_arena_deinit(&arena);
    we_buf_deinit(&buf);
    return st;
}

/* ---- Reading ---- */

static we_status build(we_tok *tok, we_str bytes, const we_tok_hints *h, we_error *err)
{
    if (we_is_lfs_pointer(bytes))
        return we_fail(err, WE_E_FORMAT, "%s is a Git LFS pointer, not the file itself. Run `git lfs pull`.", h->file);
    if (bytes.len > WE_TOK_MAX_BYTES) return we_fail(err, WE_E_FORMAT, "%s exceeds 2 GiB", h->file);
    we_status st = we_is_tiktoken(bytes) ? we_tok_build_tiktoken(tok, bytes, h, err)
                                         : we_tok_build_sentencepiece(tok, bytes, h, err);
    if (!st) st = we_tok_build_index(tok, err);
    return st ? we_fail_in(err, st, "%s: ", h->file) : WE_OK;
}

we_status we_tok_parse_vocab(we_tok **out, const char *name, we_str bytes, we_str tokenizer_config_json, we_error *err)
{
    *out = NULL;
    we_arena arena = { 0 };
    we_tok_hints hints = { .file = name };
    we_tok *tok = we_calloc(1, sizeof(*tok));
    if (!tok) return we_fail(err, WE_E_NOMEM, "no memory for a tokenizer");
    we_status st = WE_OK;
    if (tokenizer_config_json.len && (st = we_json_parse(&arena, tokenizer_config_json, &hints.config, err)))
        st = we_fail_in(err, st, "tokenizer_config.json: ");
    if (!st) st = build(tok, bytes, &hints, err);
    if (!st) st = we_tok_parse_config(tok, tokenizer_config_json, err);
    if (!st) st = we_tok_finish(tok, err);
    we_arena_deinit(&arena);
    if (st)
        we_tok_close(tok);
    else
        *out = tok;
    return st;
}

static we_status open_file(we_tok *tok, const char *dir, const char *name, we_error *err)
{
    we_arena arena = { 0 };
    char *texts[4] = { NULL }, *path = we_path_join(dir, name);
    we_map *map = NULL;
    we_tok_hints h = { .file = name };
    we_status st = path ? we_map_open(&map, path, err) : we_fail(err, WE_E_NOMEM, "no memory for a path");
    if (!st && !(st = we_tok_read_json(&arena, dir, "tokenizer_config.json", &texts[0], &h.config, err)) &&
        !(st = we_tok_read_json(&arena, dir, "added_tokens.json", &texts[1], &h.added, err)) &&
        !(st = we_tok_read_json(&arena, dir, "special_tokens_map.json", &texts[2], &h.roles, err)) &&
        !(st = we_tok_read_json(&arena, dir, "config.json", &texts[3], &h.model, err))) {
        st = build(tok, (we_str){ (const char *)we_map_data(map), we_map_len(map) }, &h, err);
        if (st) st = we_fail_in(err, st, "%s/", dir);
    }
    if (!st) st = we_map_check(map, err);
    we_map_close(map);
    for (size_t i = 0; i < WE_COUNT(texts); i++) we_free(texts[i]);
    we_arena_deinit(&arena);
    we_free(path);
    return st;
}

/* ---- Finding ---- */

static bool first_tiktoken(void *user, const char *name)
{
    char **found = user;
    if (!we_str_ends_with(we_str_from(name), WE_STR(".tiktoken"))) return true;
    *found = we_strdup(name);
    return false;
}

static bool is_there(const char *dir, const char *name)
{
    char *path = we_path_join(dir, name);
    bool there = path && we_path_exists(path);
    we_free(path);
    return there;
}

/* The file's name in *name, to be freed; NULL: there is none. */
static we_status find_file(const char *dir, char **name, we_error *err)
{
    static const char *const names[] = { "tokenizer.model", "tiktoken.model", "spiece.model", "spm.model" };
    *name = NULL;
    if (!we_path_is_dir(dir)) return WE_OK;
    for (size_t i = 0; i < WE_COUNT(names); i++)
        if (is_there(dir, names[i]))
            return (*name = we_strdup(names[i])) ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a path");
    return we_dir_each(dir, first_tiktoken, name, err);
}

bool we_tok_has_vocab(const char *dir)
{
    char *name = NULL;
    bool there = is_there(dir, "tokenizer.json") || (find_file(dir, &name, NULL) == WE_OK && name);
    we_free(name);
    return there;
}

we_status we_tok_open_vocab_file(we_tok *tok, const char *dir, we_error *err)
{
    char *name;
    we_status st = find_file(dir, &name, err);
    if (!st && name) st = open_file(tok, dir, name, err);
    we_free(name);
    return st;
}
