/* SPDX-License-Identifier: Apache-2.0
 * config.c - the small files beside tokenizer.json: tokenizer_config.json, special_tokens_map.json, chat_template.jinja (and
 * chat_template.json, additional_chat_templates/), and the end-of-turn ids of generation_config.json and config.json.
 * Only what concerns text is read. Templates are carried as they are. */
#include "format/format.h"
#include "tokenizer/tokenizer_int.h"

#define SMALL_FILE ((size_t)64 << 20) /* gemma's tokenizer_config.json has 1 MB */

/* ---- Files ---- */

we_status we_tok_read_file(const char *dir, const char *name, char **text, size_t *len, we_error *err)
{
    *text = NULL;
    *len = 0;
    char *path = we_path_join(dir, name);
    if (!path) return we_fail(err, WE_E_NOMEM, "no memory for a path");
    we_status st = WE_OK;
    if (we_path_exists(path) && !we_path_is_dir(path)) st = we_file_read(path, WE_TOK_MAX_BYTES, text, len, err);
    if (!st && *text && we_is_lfs_pointer((we_str){ *text, *len })) {
        we_free(*text);
        *text = NULL;
        st = we_fail(err, WE_E_FORMAT,
                     "%s is a Git LFS pointer, not the file itself. Run `git lfs pull` in its folder.", path);
    }
    we_free(path);
    return st;
}

we_status we_tok_read_json(we_arena *arena, const char *dir, const char *name, char **text, const we_json **out,
                           we_error *err)
{
    size_t len;
    *out = NULL;
    we_status st = we_tok_read_file(dir, name, text, &len, err);
    if (st || !*text) return st;
    if (len > SMALL_FILE) return we_fail(err, WE_E_FORMAT, "%s is larger than 64 MB", name);
    st = we_json_parse(arena, (we_str){ *text, len }, out, err);
    return st ? we_fail_in(err, st, "%s: ", name) : WE_OK;
}

/* ---- Roles ---- */

static struct we_tok_role *find_role(const we_tok *tok, we_str role)
{
    for (size_t i = 0; i < tok->n_roles; i++)
        if (we_str_eq(tok->roles[i].role, role)) return &tok->roles[i];
    return NULL;
}

/* A token is a string, or an object with its content. */
static bool token_content(const we_json *value, we_str *out)
{
    return we_json_str(value, out) || we_json_str(we_json_get(value, "content"), out);
}

/* Members named ..._token; those that are set already stay. */
static we_status take_roles(we_tok *tok, const we_json *object, we_error *err)
{
    if (!we_json_is(object, WE_JSON_OBJECT)) return WE_OK;
    size_t capacity = tok->n_roles + object->n;
    struct we_tok_role *roles = we_arena_calloc(&tok->arena, capacity, sizeof(*roles));
    if (!roles) return we_fail(err, WE_E_NOMEM, "no memory for special tokens");
    if (tok->n_roles) memcpy(roles, tok->roles, tok->n_roles * sizeof(*roles));
    tok->roles = roles;
    for (const we_json *one = object->first; one; one = one->next) {
        we_str content;
        if (!we_str_ends_with(one->key, WE_STR("_token")) || !token_content(one, &content) || find_role(tok, one->key))
            continue;
        we_status st = we_tok_copy(tok, one->key, &roles[tok->n_roles].role, err);
        if (!st) st = we_tok_copy(tok, content, &roles[tok->n_roles].content, err);
        if (st) return st;
        tok->n_roles++;
    }
    return WE_OK;
}

we_status we_tok_add_role(we_tok *tok, const char *role, we_str content, we_error *err)
{
    if (find_role(tok, we_str_from(role))) return WE_OK;
    struct we_tok_role *roles = we_arena_calloc(&tok->arena, tok->n_roles + 1, sizeof(*roles));
    if (!roles) return we_fail(err, WE_E_NOMEM, "no memory for special tokens");
    if (tok->n_roles) memcpy(roles, tok->roles, tok->n_roles * sizeof(*roles));
    roles[tok->n_roles++] = (struct we_tok_role){ we_str_from(role), content };
    tok->roles = roles;
    return WE_OK;
}

bool we_tok_special(const we_tok *tok, const char *role, we_str *content)
{
    const struct we_tok_role *found = find_role(tok, we_str_from(role));
    *content = found ? found->content : (we_str){ "", 0 };
    return found != NULL;
}

bool we_tok_special_at(const we_tok *tok, size_t index, we_str *role, we_str *content)
{
    if (index >= tok->n_roles) return false;
    *role = tok->roles[index].role;
    *content = tok->roles[index].content;
    return true;
}

/* ---- Chat templates ---- */

/* A template of that name takes the place of an earlier one. */
static we_status set_template(we_tok *tok, we_str name, we_str source, we_error *err)
{
    we_status st;
    for (size_t i = 0; i < tok->n_templates; i++)
        if (we_str_eq(tok->templates[i].name, name)) return we_tok_copy(tok, source, &tok->templates[i].source, err);
    struct we_tok_template *grown = we_arena_calloc(&tok->arena, tok->n_templates + 1, sizeof(*grown));
    if (!grown) return we_fail(err, WE_E_NOMEM, "no memory for a chat template");
    if (tok->n_templates) memcpy(grown, tok->templates, tok->n_templates * sizeof(*grown));
    tok->templates = grown;
    if ((st = we_tok_copy(tok, name, &grown[tok->n_templates].name, err)) ||
        (st = we_tok_copy(tok, source, &grown[tok->n_templates].source, err)))
        return st;
    tok->n_templates++;
    return WE_OK;
}

/* A string, or [{ "name": ..., "template": ... }]. */
static we_status take_templates(we_tok *tok, const we_json *value, const char *file, we_error *err)
{
    we_str source, name;
    if (!value || value->type == WE_JSON_NULL) return WE_OK;
    if (we_json_str(value, &source)) return set_template(tok, WE_STR("default"), source, err);
    if (value->type != WE_JSON_ARRAY || value->n > 1000)
        return we_fail(err, WE_E_FORMAT, "%s: chat_template is %s, expected a string or a list of named templates",
                       file, we_json_type_name(value));
    we_status st = WE_OK;
    for (const we_json *one = value->first; one && !st; one = one->next) {
        if (!we_json_str(we_json_get(one, "name"), &name) || !we_json_str(we_json_get(one, "template"), &source))
            return we_fail(err, WE_E_FORMAT,
                           "%s: chat_template: expected a name and a template in each member of the list", file);
        st = set_template(tok, name, source, err);
    }
    return st;
}

bool we_tok_chat_template(const we_tok *tok, const char *name, we_str *source)
{
    for (size_t i = 0; i < tok->n_templates; i++)
        if (we_str_is(tok->templates[i].name, name ? name : "default")) {
            *source = tok->templates[i].source;
            return true;
        }
    *source = (we_str){ "", 0 };
    return false;
}

/* A template in a file of its own; the newline at its end belongs to it. */
static we_status read_template(we_tok *tok, const char *dir, const char *file, we_str name, we_error *err)
{
    char *text;
    size_t len;
    we_status st = we_tok_read_file(dir, file, &text, &len, err);
    if (!st && text && we_utf8_valid((we_str){ text, len }) != len)
        st = we_fail(err, WE_E_FORMAT, "%s is not UTF-8", file);
    if (!st && text) st = set_template(tok, name, (we_str){ text, len }, err);
    we_free(text);
    return st;
}

typedef struct more_templates {
    we_tok *tok;
    const char *dir;
    we_status status;
    we_error *err;
} more_templates;

static bool read_named_template(void *user, const char *file)
{
    more_templates *m = user;
    we_str name = we_str_from(file);
    if (!we_str_ends_with(name, WE_STR(".jinja")) || m->tok->n_templates > 1000) return true;
    name.len -= strlen(".jinja");
    m->status = read_template(m->tok, m->dir, file, name, m->err);
    return m->status == WE_OK;
}

static we_status read_templates(we_tok *tok, const char *dir, we_error *err)
{
    we_arena arena = { 0 };
    char *text = NULL;
    const we_json *json;
    we_status st = we_tok_read_json(&arena, dir, "chat_template.json", &text, &json, err);
    if (!st) st = take_templates(tok, we_json_get(json, "chat_template"), "chat_template.json", err);
    we_free(text);
    we_arena_deinit(&arena);
    if (!st) st = read_template(tok, dir, "chat_template.jinja", WE_STR("default"), err);
    char *more = st ? NULL : we_path_join(dir, "additional_chat_templates");
    if (more && we_path_is_dir(more)) {
        more_templates m = { tok, more, WE_OK, err };
        st = we_dir_each(more, read_named_template, &m, err);
        st = st ? st : m.status;
    }
    we_free(more);
    return st;
}

/* ---- End of turn ---- */

we_status we_tok_add_eos(we_tok *tok, int64_t id, we_error *err)
{
    if (id < 0 || id > INT32_MAX) return WE_OK;
    for (size_t i = 0; i < tok->eos_ids.n; i++)
        if (tok->eos_ids.ids[i] == id) return WE_OK;
    return we_ids_push(&tok->eos_ids, (int32_t)id, err);
}

/* One id or a list of them. */
static we_status take_eos(we_tok *tok, const we_json *value, we_error *err)
{
    int64_t id;
    if (we_json_i64(value, &id)) return we_tok_add_eos(tok, id, err);
    we_status st = WE_OK;
    for (const we_json *one = we_json_is(value, WE_JSON_ARRAY) ? value->first : NULL; one && !st; one = one->next)
        if (we_json_i64(one, &id)) st = we_tok_add_eos(tok, id, err);
    return st;
}

/* Tokens with which chat templates end an assistant's message. Where the channels of one message end in <|end|> (gpt-oss)
 * and the message in <|return|>, the former is none of them. */
static const char *const end_of_turn[] = { "<|im_end|>",
                                           "<|eot_id|>",
                                           "<|eom_id|>",
                                           "<end_of_turn>",
                                           "<|end|>",
                                           "<|return|>",
                                           "<|call|>",
                                           "<|end_of_turn|>",
                                           "<|endofturn|>",
                                           "<|eot|>",
                                           "<|end_of_text|>",
                                           "<|endoftext|>",
                                           "<|END_OF_TURN_TOKEN|>",
                                           "<turn|>",
                                           "<|role_end|>" };

static bool contains(we_str text, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i + n <= text.len; i++) {
        const char *at = memchr(text.ptr + i, what[0], text.len - n + 1 - i);
        if (!at) return false;
        if (memcmp(at, what, n) == 0) return true;
        i = (size_t)(at - text.ptr);
    }
    return false;
}

static bool is_added(const we_tok *tok, int32_t id)
{
    return id >= 0 && (size_t)id < tok->n_ids && (tok->by_id[id] & WE_TOK_ADDED);
}

we_status we_tok_find_eos(we_tok *tok, we_error *err)
{
    we_str text;
    we_status st = WE_OK;
    if (we_tok_special(tok, "eos_token", &text)) st = we_tok_add_eos(tok, we_tok_id(tok, text), err);
    if (!we_tok_chat_template(tok, NULL, &text)) return st;
    for (size_t i = 0; i < WE_COUNT(end_of_turn) && !st; i++) {
        int32_t id = we_tok_id(tok, we_str_from(end_of_turn[i]));
        bool inner = strcmp(end_of_turn[i], "<|end|>") == 0 && contains(text, "<|channel|>");
        if (is_added(tok, id) && !inner && contains(text, end_of_turn[i])) st = we_tok_add_eos(tok, id, err);
    }
    return st;
}

/* ---- Doors ---- */

we_status we_tok_parse_config(we_tok *tok, we_str text, we_error *err)
{
    if (text.len == 0) return WE_OK;
    we_arena arena = { 0 };
    const we_json *json;
    we_status st = we_json_parse(&arena, text, &json, err);
    if (!st && json->type != WE_JSON_OBJECT)
        st = we_fail(err, WE_E_FORMAT, "expected an object, found %s", we_json_type_name(json));
    st = st ? we_fail_in(err, st, "tokenizer_config.json: ") : take_roles(tok, json, err);
    if (!st) st = take_templates(tok, we_json_get(json, "chat_template"), "tokenizer_config.json", err);
    we_arena_deinit(&arena);
    return st;
}

static we_status read_map(we_tok *tok, const char *dir, we_error *err)
{
    we_arena arena = { 0 };
    char *text = NULL;
    const we_json *json;
    we_status st = we_tok_read_json(&arena, dir, "special_tokens_map.json", &text, &json, err);
    if (!st) st = take_roles(tok, json, err);
    we_free(text);
    we_arena_deinit(&arena);
    return st;
}

static we_status read_eos(we_tok *tok, const char *dir, const char *file, we_error *err)
{
    we_arena arena = { 0 };
    char *text = NULL;
    const we_json *json;
    we_status st = we_tok_read_json(&arena, dir, file, &text, &json, err);
    if (!st) st = take_eos(tok, we_json_get(json, "eos_token_id"), err);
    if (!st) /* models with pictures nest it */
        st = take_eos(tok, we_json_get(we_json_get(json, "text_config"), "eos_token_id"), err);
    we_free(text);
    we_arena_deinit(&arena);
    return st;
}

we_status we_tok_read_family(we_tok *tok, const char *dir, we_error *err)
{
    we_status st;
    if ((st = read_map(tok, dir, err)) || (st = read_templates(tok, dir, err)) ||
        (st = read_eos(tok, dir, "generation_config.json", err)) || (st = read_eos(tok, dir, "config.json", err)))
        return st;
    return WE_OK;
}
