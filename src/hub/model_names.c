/* SPDX-License-Identifier: Apache-2.0
 * model_names.c - the one table that says what each backend calls a model: the rows of short_names.c, and on top of them the
 * user's own, `whisperengine/models.json` in the configuration directory:
 *
 *     {
 *       "my-model":              { "mlx": "ORG/NAME or a folder", "lmstudio": "key", "ollama": "name:tag",
 *                                  "llamacpp": "/path/file.gguf", "transformers": "ORG/NAME or a folder" },
 *       "llama-3.1-8b-instruct": { "ollama": "llama3.1:8b-instruct-q8_0" }
 *     }
 *
 * A name of ours keeps what the user's row leaves out. The whole file is refused where a part of it is wrong: half a table would
 * send people to the wrong model without a word. */
#include "hub/hub.h"

#define MAX_FILE ((size_t)1 << 20)
#define MAX_NAMES 1000

static const char *const keys[WE_BACKEND_OPENAI] = { [WE_BACKEND_MLX] = "mlx",
                                                     [WE_BACKEND_LMSTUDIO] = "lmstudio",
                                                     [WE_BACKEND_OLLAMA] = "ollama",
                                                     [WE_BACKEND_LLAMACPP] = "llamacpp",
                                                     [WE_BACKEND_TRANSFORMERS] = "transformers" };

const char *we_hub_kind_key(int kind) { return keys[kind]; }

const we_hub_model *we_hub_models_find(const we_hub_models *m, we_str name)
{
    for (size_t i = 0; i < m->n; i++)
        if (we_str_is(name, m->items[i].name)) return &m->items[i];
    return NULL;
}

/* ---- Built-in rows ---- */

static we_hub_model of_row(const we_hub_short_name *r)
{
    return (we_hub_model){ .name = r->name,
                           .called = { [WE_BACKEND_MLX] = r->repo,
                                       [WE_BACKEND_LMSTUDIO] = r->lmstudio,
                                       [WE_BACKEND_OLLAMA] = r->ollama,
                                       [WE_BACKEND_LLAMACPP] = we_path_base(r->transformers),
                                       [WE_BACKEND_TRANSFORMERS] = r->transformers },
                           .row = r };
}

/* ---- The user's ---- */

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for the table of models"); }

static bool is_plain(we_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7F) return false;
    return s.len > 0 && s.len <= 1024;
}

/* A name stands in URLs and on command lines, where '/', '@' and "default" mean something else. */
static bool is_name(we_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (strchr(" /@\\", s.ptr[i])) return false;
    return is_plain(s) && s.len <= 96 && s.ptr[0] != '-' && s.ptr[0] != '.' && !we_str_is(s, "default");
}

static int shown(we_str s) { return (int)WE_MIN(s.len, (size_t)100); }

static we_status take_member(we_hub_models *m, we_hub_model *model, const we_json *v, const char *path, we_error *err)
{
    we_str text = { 0 };
    int kind = 0;
    while (kind < WE_HUB_KINDS && !we_str_is(v->key, keys[kind])) kind++;
    if (kind == WE_HUB_KINDS)
        return we_fail(err, WE_E_FORMAT,
                       "%s: \"%s\" has a key \"%.*s\"; expected mlx, lmstudio, ollama, llamacpp or transformers", path,
                       model->name, shown(v->key), v->key.ptr);
    if (!we_json_str(v, &text))
        return we_fail(err, WE_E_FORMAT, "%s: \"%s\".%s is %s; expected a text: what that backend calls the model",
                       path, model->name, keys[kind], we_json_type_name(v));
    if (!is_plain(text) || memchr(text.ptr, 0, text.len))
        return we_fail(err, WE_E_FORMAT,
                       "%s: \"%s\".%s is \"%.*s\"; expected 1 to 1024 bytes without control characters", path,
                       model->name, keys[kind], shown(text), text.ptr);
    const char *copy = we_arena_strndup(&m->arena, text.ptr, text.len);
    if (!copy) return no_memory(err);
    model->called[kind] = copy;
    model->is_users[kind] = true;
    return WE_OK;
}

static we_status take_row(we_hub_models *m, const we_json *v, const char *path, we_error *err)
{
    if (!is_name(v->key) || memchr(v->key.ptr, 0, v->key.len))
        return we_fail(
            err, WE_E_FORMAT,
            "%s: \"%.*s\" is no short name: at most 96 bytes, without blanks, '/', '@' and '\\', not beginning "
            "with '-' or '.', and not \"default\"",
            path, shown(v->key), v->key.ptr);
    if (v->type != WE_JSON_OBJECT)
        return we_fail(err, WE_E_FORMAT, "%s: \"%.*s\" is %s; expected an object: {\"ollama\": \"NAME\", ...}", path,
                       shown(v->key), v->key.ptr, we_json_type_name(v));
    we_hub_model *model = (we_hub_model *)we_hub_models_find(m, v->key);
    if (!model) {
        model = &m->items[m->n++];
        *model = (we_hub_model){ .name = we_arena_strndup(&m->arena, v->key.ptr, v->key.len) };
        if (!model->name) return no_memory(err);
    }
    for (const we_json *member = v->first; member; member = member->next) {
        const we_status st = take_member(m, model, member, path, err);
        if (st) return st;
    }
    return WE_OK;
}

/* json empty: there is no file. */
static we_status build(we_hub_models *m, we_str json, const char *path, we_error *err)
{
    const we_json *root = NULL;
    we_status st = json.len ? we_json_parse(&m->arena, json, &root, err) : WE_OK;
    if (st) return st == WE_E_NOMEM ? st : we_fail_in(err, st, "%s: ", path);
    if (root && root->type != WE_JSON_OBJECT)
        return we_fail(err, WE_E_FORMAT, "%s is %s; expected an object of models: {\"NAME\": {\"ollama\": \"NAME\"}}",
                       path, we_json_type_name(root));
    if (root && root->n > MAX_NAMES)
        return we_fail(err, WE_E_FORMAT, "%s names %u models; expected at most %d", path, (unsigned)root->n, MAX_NAMES);
    m->items = we_calloc(we_hub_n_short_names + (root ? root->n : 0), sizeof *m->items);
    if (!m->items) return no_memory(err);
    for (; m->n < we_hub_n_short_names; m->n++) m->items[m->n] = of_row(&we_hub_short_names[m->n]);
    for (const we_json *v = root ? root->first : NULL; v && !st; v = v->next) st = take_row(m, v, path, err);
    return st;
}

we_status we_hub_models_parse(we_hub_models *out, we_str json, const char *path, we_error *err)
{
    *out = (we_hub_models){ 0 };
    const we_status st = build(out, json, path, err);
    if (st) we_hub_models_deinit(out);
    return st;
}

we_status we_hub_models_read(we_hub_models *out, we_error *err)
{
    *out = (we_hub_models){ 0 };
    char *dir = we_dir_user_config(), *path = dir ? we_path_join(dir, "models.json") : NULL, *text = NULL;
    size_t len = 0;
    const bool lost = dir && !path;
    we_free(dir);
    if (lost) return no_memory(err);
    we_status st = path ? we_file_read(path, MAX_FILE, &text, &len, err) : WE_E_NOT_FOUND; /* no home: no file */
    if (st == WE_E_NOT_FOUND)
        st = WE_OK;
    else if (!st && len == 0)
        st = we_fail(err, WE_E_FORMAT, "%s is empty; expected {}", path);
    if (!st) st = we_hub_models_parse(out, (we_str){ text, len }, path, err);
    out->path = path;
    out->text = text;
    if (st) we_hub_models_deinit(out);
    return st;
}

void we_hub_models_deinit(we_hub_models *m)
{
    we_free(m->items);
    we_free(m->path);
    we_free(m->text);
    we_arena_deinit(&m->arena);
    *m = (we_hub_models){ 0 };
}
