/* SPDX-License-Identifier: Apache-2.0
 * tokenizer.c - the door of the room: reading tokenizer.json, and the order of work:
 *
 *     text -> added tokens as they are -> normalizer -> added tokens once more -> pre-tokenizer -> model -> post-processor
 *
 * Every stretch between added tokens goes through normalizer and pre-tokenizer on its own. */
#include "format/format.h"
#include "tokenizer/tokenizer_int.h"

/* ---- Small things ---- */

void we_ids_deinit(we_ids *ids)
{
    we_free(ids->ids);
    *ids = (we_ids){ 0 };
}

we_status we_ids_push(we_ids *ids, int32_t id, we_error *err)
{
    if (ids->n == ids->capacity) {
        size_t capacity = ids->capacity ? ids->capacity * 2 : 64;
        int32_t *grown = we_realloc_array(ids->ids, capacity, sizeof(*grown));
        if (!grown) return we_fail(err, WE_E_NOMEM, "no memory for %zu token ids", capacity);
        ids->ids = grown;
        ids->capacity = capacity;
    }
    ids->ids[ids->n++] = id;
    return WE_OK;
}

we_status we_tok_copy(we_tok *tok, we_str text, we_str *out, we_error *err)
{
    char *copy = we_arena_strndup(&tok->arena, text.ptr ? text.ptr : "", text.len);
    if (!copy) return we_fail(err, WE_E_NOMEM, "no memory for the tokenizer");
    *out = (we_str){ copy, text.len };
    return WE_OK;
}

/* ---- Reading settings ---- */

static const we_json *member(const we_json *object, const char *key) /* null counts as absent */
{
    const we_json *value = we_json_get(object, key);
    return we_json_is(value, WE_JSON_NULL) ? NULL : value;
}

static we_status wrong(const we_json *value, const char *where, const char *key, const char *want, we_error *err)
{
    return we_fail(err, WE_E_FORMAT, "%s.%s is %s, expected %s", where, key, we_json_type_name(value), want);
}

we_status we_tok_get_bool(const we_json *object, const char *key, const char *where, bool *out, we_error *err)
{
    const we_json *value = member(object, key);
    return value && !we_json_bool(value, out) ? wrong(value, where, key, "true or false", err) : WE_OK;
}

we_status we_tok_get_size(const we_json *object, const char *key, const char *where, size_t *out, we_error *err)
{
    const we_json *value = member(object, key);
    int64_t number;
    if (!value) return WE_OK;
    if (!we_json_i64(value, &number) || number < 0) return wrong(value, where, key, "a number from 0 on", err);
    *out = (size_t)number;
    return WE_OK;
}

we_status we_tok_get_str(we_tok *tok, const we_json *object, const char *key, const char *where, bool required,
                         we_str *out, we_error *err)
{
    const we_json *value = member(object, key);
    we_str text;
    if (!value && !required) return WE_OK;
    if (!we_json_str(value, &text)) return wrong(value, where, key, "a string", err);
    return we_tok_copy(tok, text, out, err);
}

we_status we_tok_get_rune(const we_json *object, const char *key, const char *where, uint32_t *out, we_error *err)
{
    const we_json *value = member(object, key);
    we_str text;
    size_t i = 0;
    if (!value) return WE_OK;
    if (!we_json_str(value, &text) || text.len == 0) return wrong(value, where, key, "one character", err);
    *out = we_utf8_next(text, &i);
    return i == text.len ? WE_OK : we_fail(err, WE_E_FORMAT, "%s.%s holds more than one character", where, key);
}

we_status we_tok_get_pattern(we_tok *tok, const we_json *object, const char *where, we_part *part, we_error *err)
{
    const we_json *pattern = member(object, "pattern");
    we_str text;
    if (we_json_str(we_json_get(pattern, "String"), &text)) {
        part->is_literal = true;
        return we_tok_copy(tok, text, &part->literal, err);
    }
    if (!we_json_str(we_json_get(pattern, "Regex"), &text))
        return we_fail(err, WE_E_FORMAT, "%s.pattern: expected {\"String\": ...} or {\"Regex\": ...}", where);
    we_status st = we_regex_compile(&part->regex, text, err);
    return st ? we_fail_in(err, st, "%s.pattern: ", where) : WE_OK;
}

/* ---- Patterns, plain or regex ---- */

void we_part_scan_init(we_part_scan *scan, const we_part *part, we_str text)
{
    *scan = (we_part_scan){ .part = part, .text = text };
    if (!part->is_literal) we_regex_scan_init(&scan->regex, part->regex, text);
}

/* An empty pattern matches between all characters, as in the reference, where it is a regex too. */
static bool next_literal(we_part_scan *scan, size_t *start, size_t *end)
{
    we_str what = scan->part->literal, text = scan->text;
    if (scan->pos > text.len) return false;
    if (what.len == 0) {
        *start = *end = scan->pos;
        if (scan->pos == text.len)
            scan->pos++;
        else
            we_utf8_next(text, &scan->pos);
        return true;
    }
    while (text.len - scan->pos >= what.len) {
        const char *at = memchr(text.ptr + scan->pos, what.ptr[0], text.len - scan->pos - what.len + 1);
        if (!at) break;
        *start = (size_t)(at - text.ptr);
        *end = *start + what.len;
        if (memcmp(at, what.ptr, what.len) == 0) {
            scan->pos = *end;
            return true;
        }
        scan->pos = *start + 1;
    }
    scan->pos = text.len + 1;
    return false;
}

bool we_part_scan_next(we_part_scan *scan, size_t *start, size_t *end)
{
    if (scan->text.len == 0) return false; /* the reference does not ask there, even where a pattern would match */
    return scan->part->is_literal ? next_literal(scan, start, end) : we_regex_scan_next(&scan->regex, start, end);
}

we_status we_part_scan_deinit(we_part_scan *scan, we_error *err)
{
    if (scan->part->is_literal) return WE_OK;
    bool failed = scan->regex.out_of_memory;
    we_regex_scan_deinit(&scan->regex);
    return failed ? we_fail(err, WE_E_NOMEM, "no memory to search %zu bytes", scan->text.len) : WE_OK;
}

/* ---- Stages ---- */

typedef struct stage_reader {
    we_tok *tok;
    we_parts *out;
    const char *sequence;
    const unsigned char *table;
    size_t n_rows, row_size;
    we_error *err;
} stage_reader;

static we_status unknown_component(const stage_reader *r, const char *where, we_str name)
{
    we_buf known = { 0 };
    for (size_t i = 0; i < r->n_rows; i++)
        we_buf_printf(&known, "%s, ", ((const we_part_kind *)(r->table + i * r->row_size))->name);
    we_status st = we_fail(r->err, WE_E_UNSUPPORTED, "%s.type: unknown component \"%.*s\" (known: %sSequence)", where,
                           (int)WE_MIN(name.len, 60), name.ptr, known.failed ? "" : known.ptr);
    we_buf_deinit(&known);
    return st;
}

static we_status parse_component(stage_reader *r, const we_json *json, const char *where, int depth)
{
    we_str name;
    if (!we_json_is(json, WE_JSON_OBJECT))
        return we_fail(r->err, WE_E_FORMAT, "%s is %s, expected an object", where, we_json_type_name(json));
    if (!we_json_str(we_json_get(json, "type"), &name))
        return wrong(we_json_get(json, "type"), where, "type", "a component's name", r->err);
    if (we_str_is(name, "Sequence")) {
        const we_json *list = we_json_get(json, r->sequence);
        char place[160];
        if (!we_json_is(list, WE_JSON_ARRAY)) return wrong(list, where, r->sequence, "an array", r->err);
        if (depth > 16) return we_fail(r->err, WE_E_FORMAT, "%s: sequences are nested too deeply", where);
        we_status st = WE_OK;
        size_t index = 0;
        for (const we_json *one = list->first; one && !st; one = one->next, index++) {
            snprintf(place, sizeof(place), "%.100s.%s[%zu]", where, r->sequence, index);
            st = parse_component(r, one, place, depth + 1);
        }
        return st;
    }
    const we_part_kind *kind = NULL;
    for (size_t i = 0; i < r->n_rows && !kind; i++) {
        const we_part_kind *row = (const we_part_kind *)(const void *)(r->table + i * r->row_size);
        if (we_str_is(name, row->name)) kind = row;
    }
    if (!kind) return unknown_component(r, where, name);
    if (r->out->n == WE_TOK_MAX_PARTS)
        return we_fail(r->err, WE_E_UNSUPPORTED, "%s: more than %d components in a row", where, WE_TOK_MAX_PARTS);
    we_part *part = &r->out->parts[r->out->n++]; /* counted first: what it got by then is freed on failure */
    part->kind = kind;
    return kind->parse ? kind->parse(r->tok, part, json, where, r->err) : WE_OK;
}

we_status we_tok_parse_stage(we_tok *tok, we_parts *out, const we_json *json, const char *where, const char *sequence,
                             const void *table, size_t n_rows, size_t row_size, we_error *err)
{
    if (!json || json->type == WE_JSON_NULL) return WE_OK;
    out->parts = we_arena_calloc(&tok->arena, WE_TOK_MAX_PARTS, sizeof(*out->parts));
    if (!out->parts) return we_fail(err, WE_E_NOMEM, "no memory for %s", where);
    stage_reader r = { tok, out, sequence, table, n_rows, row_size, err };
    return parse_component(&r, json, where, 0);
}

/* ---- Opening ---- */

static void free_parts(we_parts *parts)
{
    for (size_t i = 0; i < parts->n; i++) we_regex_free(parts->parts[i].regex);
}

static void clear(we_tok *tok)
{
    we_model_bpe.free(tok);
    we_model_unigram.free(tok);
    we_model_spm.free(tok);
    free_parts(&tok->normalizers);
    free_parts(&tok->pretokenizers);
    free_parts(&tok->decoders);
    we_added_deinit(&tok->added);
    we_vocab_deinit(&tok->vocab);
    we_ids_deinit(&tok->eos_ids);
    we_free(tok->by_id);
    we_arena_deinit(&tok->arena);
    we_map_close(tok->compiled);
    *tok = (we_tok){ 0 };
}

void we_tok_close(we_tok *tok)
{
    if (!tok) return;
    clear(tok);
    we_free(tok);
}

/* Which token an id is; added ones hide the model's. */
we_status we_tok_build_index(we_tok *tok, we_error *err)
{
    int32_t max_id = tok->vocab.n ? tok->vocab.max_id : -1;
    for (size_t i = 0; i < tok->added.n; i++) max_id = WE_MAX(max_id, tok->added.tokens[i].id);
    tok->n_ids = (size_t)(max_id + 1);
    if (!(tok->by_id = we_calloc(tok->n_ids, sizeof(*tok->by_id))))
        return we_fail(err, WE_E_NOMEM, "no memory for %zu tokens", tok->n_ids);
    for (size_t i = 0; i < tok->vocab.n; i++) {
        uint32_t *slot = &tok->by_id[tok->vocab.tokens[i].id];
        if (*slot) {
            we_str a = we_vocab_text(&tok->vocab, *slot - 1), b = we_vocab_text(&tok->vocab, i);
            if (!we_str_eq(a, b))
                return we_fail(err, WE_E_FORMAT, "the vocabulary's \"%.*s\" and \"%.*s\" have the same id %d",
                               (int)WE_MIN(a.len, 60), a.ptr, (int)WE_MIN(b.len, 60), b.ptr, tok->vocab.tokens[i].id);
        }
        *slot = (uint32_t)i + 1;
    }
    for (size_t i = 0; i < tok->added.n; i++) tok->by_id[tok->added.tokens[i].id] = (uint32_t)(i + 1) | WE_TOK_ADDED;
    return WE_OK;
}

/* The members of tokenizer.json, model by the pull reader, the rest as trees. */
typedef struct file_parts {
    const we_json *added_tokens, *normalizer, *pre_tokenizer, *post_processor, *decoder;
    we_json_reader model; /* where it begins: the pre-tokenizer must be known to make it ready */
    bool has_model;
    const we_json *settings; /* the model's, without vocabulary and merges */
    const we_tables *tables; /* of a compiled form, which has these apart; NULL: they are read from `model` */
} file_parts;

static const struct {
    const char *key;
    size_t offset;
} stage_members[] = {
    { "added_tokens", offsetof(file_parts, added_tokens) },
    { "normalizer", offsetof(file_parts, normalizer) },
    { "pre_tokenizer", offsetof(file_parts, pre_tokenizer) },
    { "post_processor", offsetof(file_parts, post_processor) },
    { "decoder", offsetof(file_parts, decoder) },
};

static const we_json **tree_of(file_parts *parts, size_t i)
{
    return (const we_json **)(void *)((char *)parts + stage_members[i].offset);
}

static we_status read_members(we_arena *arena, we_json_reader *r, file_parts *parts, we_error *err)
{
    we_json_event ev = we_json_next(r);
    if (ev == WE_JSON_EV_ERROR) return we_fail(err, r->error.status, "%s", r->error.message);
    if (ev != WE_JSON_EV_BEGIN_OBJECT) return we_fail(err, WE_E_FORMAT, "expected an object");
    while ((ev = we_json_next(r)) == WE_JSON_EV_KEY) {
        const we_json **tree = NULL;
        for (size_t i = 0; i < WE_COUNT(stage_members); i++)
            if (we_str_is(r->text, stage_members[i].key)) tree = tree_of(parts, i);
        we_status st = WE_OK;
        if (tree) {
            st = we_json_read_tree(r, arena, tree, err);
        } else if (we_str_is(r->text, "model")) {
            parts->model = *r;
            parts->model.scratch = (we_buf){ 0 };
            parts->has_model = true;
            if (parts->pre_tokenizer && parts->decoder && parts->added_tokens && parts->normalizer &&
                parts->post_processor)
                return WE_OK; /* the usual order, and it is the last member: no need to walk over 30 MB twice */
            if (!we_json_skip(r)) ev = WE_JSON_EV_ERROR;
        } else if (!we_json_skip(r)) {
            ev = WE_JSON_EV_ERROR;
        }
        if (st) return st;
        if (ev == WE_JSON_EV_ERROR) break;
    }
    if (ev == WE_JSON_EV_ERROR) return we_fail(err, r->error.status, "%s", r->error.message);
    return WE_OK;
}

/* What stands behind the model, where it was read in passing. */
static we_status read_rest(we_json_reader *r, we_error *err)
{
    we_json_event ev;
    while ((ev = we_json_next(r)) == WE_JSON_EV_KEY) {
        if (!we_json_skip(r)) {
            ev = WE_JSON_EV_ERROR;
            break;
        }
    }
    if (ev == WE_JSON_EV_END_OBJECT) ev = we_json_next(r);
    return ev == WE_JSON_EV_END ? WE_OK
                                : we_fail(err, r->error.status ? r->error.status : WE_E_FORMAT, "%s", r->error.message);
}

static we_status build_model(we_tok *tok, file_parts *parts, we_error *err)
{
    if (parts->tables) return we_tok_take_model(tok, parts->settings, parts->tables, err);
    if (!parts->has_model) return we_fail(err, WE_E_FORMAT, "model is missing");
    we_status st = we_tok_read_model(tok, &parts->model, &parts->settings, err);
    return st ? st : read_rest(&parts->model, err);
}

static we_status build(we_tok *tok, file_parts *parts, we_error *err)
{
    we_status st;
    if ((st = we_tok_parse_normalizers(tok, parts->normalizer, err)) ||
        (st = we_tok_parse_pretokenizers(tok, parts->pre_tokenizer, err)) ||
        (st = we_tok_parse_posts(tok, parts->post_processor, err)) ||
        (st = we_tok_parse_decoders(tok, parts->decoder, err)) || (st = build_model(tok, parts, err)) ||
        (st = we_tok_parse_added(tok, parts->added_tokens, err)))
        return st;
    return we_tok_build_index(tok, err);
}

/* ---- The compiled form: all that was read, as tables and a small JSON ---- */

static void keep_small(file_parts *parts, we_buf *small)
{
    we_json_writer w = { .buf = small };
    we_json_begin_object(&w);
    for (size_t i = 0; i < WE_COUNT(stage_members); i++)
        if (*tree_of(parts, i)) {
            we_json_key(&w, stage_members[i].key);
            we_json_write_tree(&w, *tree_of(parts, i));
        }
    we_json_key(&w, "model");
    we_json_write_tree(&w, parts->settings);
    we_json_end_object(&w);
}

void we_tok_list_tables(const we_tok *tok, we_str small, we_tables *tables)
{
    for (size_t i = 0; i < WE_N_TABLES; i++) tables->table[i] = (we_str){ "", 0 };
    tables->table[WE_TABLE_JSON] = small;
    we_vocab_give(&tok->vocab, tables);
    if (tok->model == &we_model_bpe) we_bpe_give(tok->bpe, tables);
    if (tok->model == &we_model_unigram) we_unigram_give(tok, tables);
}

we_status we_tok_take_tables(we_tok *tok, const we_tables *tables, we_error *err)
{
    we_arena arena = { 0 };
    const we_json *json;
    file_parts parts = { .tables = tables };
    we_status st = we_json_parse(&arena, tables->table[WE_TABLE_JSON], &json, err);
    for (size_t i = 0; i < WE_COUNT(stage_members) && !st; i++)
        *tree_of(&parts, i) = we_json_get(json, stage_members[i].key);
    if (!st) parts.settings = we_json_get(json, "model");
    if (!st) st = build(tok, &parts, err);
    we_arena_deinit(&arena);
    if (st) clear(tok);
    return st;
}

we_status we_tok_parse_json(we_tok *tok, we_str json, we_buf *small, we_error *err)
{
    we_arena trees = { 0 };
    file_parts parts = { 0 };
    we_json_reader reader;
    if (we_is_lfs_pointer(json))
        return we_fail(err, WE_E_FORMAT,
                       "tokenizer.json is a Git LFS pointer, not the file itself. Run `git lfs pull`.");
    if (json.len > WE_TOK_MAX_BYTES) return we_fail(err, WE_E_FORMAT, "tokenizer.json exceeds 2 GiB");
    we_json_reader_init(&reader, json);
    we_status st = read_members(&trees, &reader, &parts, err);
    if (!st) st = build(tok, &parts, err);
    if (!st && small) keep_small(&parts, small);
    we_json_reader_deinit(&parts.model);
    we_json_reader_deinit(&reader);
    we_arena_deinit(&trees);
    return st ? we_fail_in(err, st, "tokenizer.json: ") : WE_OK;
}

we_status we_tok_finish(we_tok *tok, we_error *err)
{
    we_status st;
    if (tok->spm && tok->spm->bos_piece.ptr && we_tok_id(tok, tok->spm->bos_piece) >= 0 &&
        (st = we_tok_add_role(tok, "bos_token", tok->spm->bos_piece, err)))
        return st;
    if (tok->spm && tok->spm->eos_piece.ptr && we_tok_id(tok, tok->spm->eos_piece) >= 0 &&
        (st = we_tok_add_role(tok, "eos_token", tok->spm->eos_piece, err)))
        return st;
    return we_tok_find_eos(tok, err);
}

we_status we_tok_parse(we_tok **out, we_str tokenizer_json, we_str tokenizer_config_json, we_error *err)
{
    *out = NULL;
    we_tok *tok = we_calloc(1, sizeof(*tok));
    if (!tok) return we_fail(err, WE_E_NOMEM, "no memory for a tokenizer");
    we_status st;
    if ((st = we_tok_parse_json(tok, tokenizer_json, NULL, err)) ||
        (st = we_tok_parse_config(tok, tokenizer_config_json, err)) || (st = we_tok_finish(tok, err))) {
        we_tok_close(tok);
        return st;
    }
    *out = tok;
    return WE_OK;
}

/* A folder may hold the settings alone: its chat template can be rendered, but nothing can be encoded. */
static bool has_settings(const char *dir)
{
    static const char *const names[] = { "tokenizer_config.json", "chat_template.jinja", "chat_template.json" };
    bool there = false;
    for (size_t i = 0; i < WE_COUNT(names) && !there; i++) {
        char *path = we_path_join(dir, names[i]);
        there = path && we_path_exists(path);
        we_free(path);
    }
    return there;
}

static we_status no_vocabulary(we_error *err)
{
    return we_fail(
        err, WE_E_NOT_FOUND,
        "the model's folder has no tokenizer.json, tokenizer.model or *.tiktoken, so text and tokens can't be "
        "converted");
}

static bool open_compiled(we_tok *tok, we_str json)
{
    we_tables tables;
    we_map *map = we_compiled_find(json, &tables);
    if (!map) return false;
    if (we_tok_take_tables(tok, &tables, NULL) != WE_OK) {
        we_log(tokenizer, INFO, "%s is damaged: it is made anew", we_map_path(map));
        we_map_close(map);
        return false;
    }
    tok->compiled = map;
    return true;
}

/* Parse, and keep the compiled form of what was made from `source`. */
static we_status parse_and_keep(we_tok *tok, we_str source, we_str json, we_error *err)
{
    we_buf small = { 0 };
    we_status st = we_tok_parse_json(tok, json, &small, err);
    if (!st && !small.failed) {
        we_tables tables;
        we_tok_list_tables(tok, we_buf_str(&small), &tables);
        we_compiled_save(source, &tables);
    }
    we_buf_deinit(&small);
    return st;
}

/* A large file takes a third of a second to read; the next time its compiled form takes a tenth of that. */
static we_status open_json(we_tok *tok, we_str json, we_error *err)
{
    if (json.len < WE_COMPILED_MIN) return we_tok_parse_json(tok, json, NULL, err);
    return open_compiled(tok, json) ? WE_OK : parse_and_keep(tok, json, json, err);
}

static we_status open_vocabulary(we_tok *tok, const char *dir, we_error *err)
{
    char *path = we_path_join(dir, "tokenizer.json");
    we_map *map = NULL;
    we_status st = path ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a path");
    if (!st && !we_path_exists(path)) {
        we_free(path);
        st = we_tok_open_vocab_file(tok, dir, err);
        if (!st && !tok->model && !has_settings(dir))
            st = we_fail(err, WE_E_NOT_FOUND,
                         "%s: no tokenizer (looked for tokenizer.json, tokenizer.model, tiktoken.model, spiece.model, "
                         "spm.model, *.tiktoken)",
                         dir);
        return st;
    }
    if (!st) st = we_map_open(&map, path, err);
    if (!st && (st = open_json(tok, (we_str){ (const char *)we_map_data(map), we_map_len(map) }, err)))
        st = we_fail_in(err, st, "%s/", dir);
    if (!st) st = we_map_check(map, err);
    we_map_close(map);
    we_free(path);
    return st;
}

static we_status open_in(we_tok *tok, const char *dir, we_error *err)
{
    char *text = NULL;
    size_t len = 0;
    we_status st = open_vocabulary(tok, dir, err);
    if (!st) st = we_tok_read_file(dir, "tokenizer_config.json", &text, &len, err);
    if (!st && text) st = we_tok_parse_config(tok, (we_str){ text, len }, err);
    we_free(text);
    if (!st) st = we_tok_read_family(tok, dir, err);
    return st ? st : we_tok_finish(tok, err);
}

we_status we_tok_open(we_tok **out, const char *dir, we_error *err)
{
    *out = NULL;
    we_tok *tok = we_calloc(1, sizeof(*tok));
    if (!tok) return we_fail(err, WE_E_NOMEM, "no memory for a tokenizer");
    we_status st = open_in(tok, dir, err);
    if (st)
        we_tok_close(tok);
    else
        *out = tok;
    return st;
}

/* The compiled form saves making the JSON as well: it belongs to the metadata's bytes. */
static we_status open_gguf_json(we_tok *tok, const we_gguf *gguf, we_error *err)
{
    if (gguf->bytes.len >= WE_COMPILED_MIN && open_compiled(tok, gguf->bytes)) return WE_OK;
    we_buf json = { 0 };
    we_status st = we_tok_from_gguf(gguf, &json, NULL, err);
    if (!st && gguf->bytes.len >= WE_COMPILED_MIN)
        st = parse_and_keep(tok, gguf->bytes, we_buf_str(&json), err);
    else if (!st)
        st = we_tok_parse_json(tok, we_buf_str(&json), NULL, err);
    we_buf_deinit(&json);
    return st;
}

static we_status build_from_gguf(we_tok *tok, const we_gguf *gguf, we_error *err)
{
    we_buf config = { 0 };
    int64_t ids[WE_TOK_GGUF_EOS];
    const size_t n = we_tok_gguf_eos(gguf, ids);
    we_status st = open_gguf_json(tok, gguf, err);
    if (!st) st = we_tok_from_gguf(gguf, NULL, &config, err);
    if (!st) st = we_tok_parse_config(tok, we_buf_str(&config), err);
    for (size_t i = 0; i < n && !st; i++) st = we_tok_add_eos(tok, ids[i], err);
    we_buf_deinit(&config);
    return st ? st : we_tok_find_eos(tok, err);
}

we_status we_tok_open_gguf(we_tok **out, const we_gguf *gguf, we_error *err)
{
    *out = NULL;
    we_tok *tok = we_calloc(1, sizeof(*tok));
    if (!tok) return we_fail(err, WE_E_NOMEM, "no memory for a tokenizer");
    const we_status st = build_from_gguf(tok, gguf, err);
    if (st)
        we_tok_close(tok);
    else
        *out = tok;
    return st;
}

/* ---- Encoding ---- */

typedef struct encoder {
    const we_tok *tok;
    we_tok_work work;
    we_ids *out;
} encoder;

static we_status on_token(void *user, int32_t id, we_error *err)
{
    return we_ids_push(((encoder *)user)->out, id, err);
}

/* A normalized stretch without added tokens. */
static we_status on_normal_text(void *user, we_str text, size_t offset, we_error *err)
{
    encoder *e = user;
    we_pieces *p = &e->work.pieces;
    we_status st = we_tok_pretokenize(e->tok, p, text, WE_MAX(e->work.n_first, offset) - offset, err);
    for (size_t i = 0; i < p->n && !st; i++) {
        we_str piece = { p->text.ptr + p->pieces[i].start, p->pieces[i].end - p->pieces[i].start };
        if (p->byte_level && e->tok->model != &we_model_bpe) {
            we_buf_clear(&e->work.joined);
            we_byte_level_append(&e->work.joined, piece);
            if (e->work.joined.failed) return we_fail(err, WE_E_NOMEM, "no memory to encode %zu bytes", piece.len);
            piece = we_buf_str(&e->work.joined);
        }
        st = e->tok->model->encode(e->tok, &e->work, piece, p->byte_level, e->out, err);
    }
    return st;
}

static we_status on_text(void *user, we_str text, size_t offset, we_error *err)
{
    encoder *e = user;
    e->work.at_start = offset == 0;
    e->work.n_first = 0;
    if (offset == 0) we_utf8_next(text, &e->work.n_first);
    we_status st = e->tok->spm ? we_spm_normalize(e->tok, &e->work, text, e->work.at_start, &text, err)
                               : we_tok_normalize(e->tok, &e->work, text, &text, err);
    return st ? st : we_added_split(&e->tok->added, true, text, e, on_normal_text, on_token, err);
}

we_status we_tok_encode(const we_tok *tok, we_str text, bool special, we_ids *out, we_error *err)
{
    const size_t start = out->n, valid = we_utf8_valid(text);
    if (valid != text.len)
        return we_fail(err, WE_E_FORMAT, "the text is not UTF-8: byte %zu is 0x%02x", valid,
                       (unsigned char)text.ptr[valid]);
    if (text.len > WE_TOK_MAX_BYTES) return we_fail(err, WE_E_RANGE, "the text exceeds 2 GiB");
    if (!tok->model) return no_vocabulary(err);
    encoder e = { .tok = tok, .out = out };
    we_status st = we_added_split(&tok->added, false, text, &e, on_text, on_token, err);
    if (!st) st = we_tok_post_process(tok, out, start, special, err);
    if (!st && tok->compiled) st = we_map_check(tok->compiled, err);
    we_pieces_deinit(&e.work.pieces);
    we_buf_deinit(&e.work.normal[0]);
    we_buf_deinit(&e.work.normal[1]);
    we_buf_deinit(&e.work.joined);
    we_bpe_work_free(tok, e.work.bpe);
    we_free(e.work.unigram);
    we_spm_work_free(e.work.spm);
    if (st) out->n = start;
    return st;
}

we_status we_tok_decode(const we_tok *tok, const int32_t *ids, size_t n, bool skip_special, we_buf *out, we_error *err)
{
    if (!tok->model) return no_vocabulary(err);
    we_decode d;
    we_status st = we_decode_init(&d, tok, false, err);
    for (size_t i = 0; i < n && !st; i++) st = we_decode_feed(&d, ids[i], skip_special, out, err);
    if (!st) st = we_decode_flush(&d, out, err);
    if (!st && tok->compiled) st = we_map_check(tok->compiled, err);
    we_decode_deinit(&d);
    return st ? st : we_buf_status(out, err, "decoded text");
}

/* ---- Questions ---- */

size_t we_tok_vocab_size(const we_tok *tok) { return tok->n_ids; }

int32_t we_tok_id(const we_tok *tok, we_str token)
{
    for (size_t i = 0; i < tok->added.n; i++)
        if (we_str_eq(tok->added.tokens[i].content, token)) return tok->added.tokens[i].id;
    return we_vocab_find(&tok->vocab, token);
}

bool we_tok_token(const we_tok *tok, int32_t id, we_str *content)
{
    *content = (we_str){ "", 0 };
    if (id < 0 || (size_t)id >= tok->n_ids || !tok->by_id[id]) return false;
    uint32_t index = tok->by_id[id];
    *content = index & WE_TOK_ADDED ? tok->added.tokens[(index & ~WE_TOK_ADDED) - 1].content
                                    : we_vocab_text(&tok->vocab, index - 1);
    return true;
}

bool we_tok_is_special(const we_tok *tok, int32_t id)
{
    if (id < 0 || (size_t)id >= tok->n_ids || !(tok->by_id[id] & WE_TOK_ADDED)) return false;
    return tok->added.tokens[(tok->by_id[id] & ~WE_TOK_ADDED) - 1].special;
}

int32_t we_tok_bos_id(const we_tok *tok)
{
    we_ids ids = { 0 };
    int32_t bos = -1;
    if (we_tok_encode(tok, (we_str){ "", 0 }, true, &ids, NULL) == WE_OK &&
        ids.n > 0) /* an empty text shows what is added */
        bos = ids.ids[0];
    we_ids_deinit(&ids);
    if (bos < 0) return -1;
    we_str text = WE_STR("a"); /* a token in front, or only behind? */
    if (we_tok_encode(tok, text, true, &ids, NULL) != WE_OK || ids.n == 0 || ids.ids[0] != bos) bos = -1;
    we_ids_deinit(&ids);
    return bos;
}

const int32_t *we_tok_eos_ids(const we_tok *tok, size_t *n)
{
    *n = tok->eos_ids.n;
    return tok->eos_ids.ids;
}
