/* SPDX-License-Identifier: Apache-2.0
 * models.c - which model a backend runs in place of another's: the table of names (hub/model_names.c), the same name
 * elsewhere, and what FALLBACK_MODEL_... says; and which API key belongs to which server. */
#include "client/client_int.h"
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

/* ---- Names ---- */

static bool same(const char *a, const char *b) { return strcasecmp(a, b) == 0; }

/* Without its publisher or folder. */
static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash && slash[1] ? slash + 1 : name;
}

static bool begins_like(const char *name, const char *beginning)
{
    return strncasecmp(name, beginning, strlen(beginning)) == 0;
}

/* Is this file a form of that model: "Qwen3-8B-Q4_K_M.gguf" one of "Qwen3-8B"? A longer name is another model's. */
static bool is_file_of(const char *file, const char *name)
{
    const char *base = base_name(file);
    const size_t len = strlen(base_name(name));
    return begins_like(base, base_name(name)) && !isalnum((unsigned char)base[len]);
}

/* Does the backend mean `name` by its `has`? */
static bool is_model(we_backend_kind kind, const char *has, const char *name)
{
    if (same(has, name) || same(base_name(has), base_name(name))) return true;
    if (kind == WE_BACKEND_OLLAMA) { /* "llama3.2" is "llama3.2:latest" */
        const size_t len = strlen(name);
        return begins_like(has, name) && (same(has + len, ":latest") || (strchr(name, ':') && has[len] == '-'));
    }
    return kind == WE_BACKEND_LLAMACPP && is_file_of(has, name);
}

/* The model that somebody's backend calls `wanted`; of several that a file may be a form of the one with the longest name. */
const we_hub_model *we_client_known_model(const we_hub_models *table, const char *wanted)
{
    const we_hub_model *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; i < table->n; i++) {
        const we_hub_model *m = &table->items[i];
        if (same(m->name, wanted) || same(m->name, base_name(wanted))) return m;
        for (int kind = 0; kind < WE_HUB_KINDS; kind++) {
            const char *called = m->called[kind];
            if (!called) continue;
            if (same(called, wanted) || same(base_name(called), base_name(wanted))) return m;
            if (kind != WE_BACKEND_LLAMACPP || !we_str_ends_with(we_str_from(wanted), WE_STR(".gguf"))) continue;
            if (!is_file_of(wanted, called) || strlen(called) <= best_len) continue;
            best = m;
            best_len = strlen(called);
        }
    }
    return best;
}

static const char *find(we_backend_kind kind, const we_backend_report *report, const char *name)
{
    for (size_t i = 0; name && i < report->n_models; i++)
        if (is_model(kind, report->models[i].name, name)) return report->models[i].name;
    return NULL;
}

void we_client_fallback_variable(we_backend_kind kind, char variable[64])
{
    const size_t n = (size_t)snprintf(variable, 64, "FALLBACK_MODEL_%s", we_backend_row_of(kind)->id);
    for (size_t i = 0; i < n; i++) variable[i] = (char)toupper((unsigned char)variable[i]);
}

/* The name by which the backend is asked; NULL: it does not have the model. */
static const char *name_for(we_backend_kind kind, const we_backend_report *report, const we_hub_model *model,
                            const char *wanted)
{
    if (wanted[0] == 0) return kind == WE_BACKEND_MLX ? "default" : "";
    const char *called = model && kind < WE_BACKEND_OPENAI ? model->called[kind] : NULL;
    const char *found = find(kind, report, wanted);
    if (!found && model) found = find(kind, report, model->name);
    if (!found) found = find(kind, report, called);
    /* A file or folder of the user's need not lie where the backend looks. */
    if (!found && called && model->is_users[kind] && we_path_exists(called)) found = called;
    return found;
}

we_status we_client_model_for(we_backend_kind kind, const we_backend_report *report, const char *wanted, char **name,
                              we_error *err)
{
    char variable[64];
    we_hub_models table;
    *name = NULL;
    we_status st = we_hub_models_read(&table, err);
    if (st) return st;
    we_client_fallback_variable(kind, variable);
    const we_hub_model *model = wanted[0] ? we_client_known_model(&table, wanted) : NULL;
    const char *called = model && kind < WE_BACKEND_OPENAI ? model->called[kind] : NULL, *other = we_env(variable);
    const char *found = name_for(kind, report, model, wanted);
    if (!found) found = other;
    if (!found) {
        const bool differs = called && !same(called, wanted);
        st = we_fail(err, WE_E_NOT_FOUND, "does not have %s%s%s (%s may name another model)", called ? called : wanted,
                     differs ? ", its name for " : "", differs ? wanted : "", variable);
    } else if (!(*name = we_strdup(found))) {
        st = we_fail(err, WE_E_NOMEM, "no memory for a model's name");
    }
    we_hub_models_deinit(&table);
    return st;
}

/* ---- API keys ---- */

/* Scheme, host and port of both the same? Bases are normalised (url.c). */
static bool same_server(const char *a, const char *b)
{
    const char *host_a = strstr(a, "://"), *host_b = strstr(b, "://");
    if (!host_a || !host_b) return false;
    const size_t n = (size_t)(host_a - a) + 3 + strcspn(host_a + 3, "/");
    return n == (size_t)(host_b - b) + 3 + strcspn(host_b + 3, "/") && strncasecmp(a, b, n) == 0;
}

static we_config_source source_of(const char *name)
{
    we_config_value v = { .size = sizeof v };
    return we_config_get(name, &v, NULL) ? WE_CONFIG_DEFAULT : v.source;
}

/* A variable's value, from the secret service where it is kept there. */
static we_status key_of(const char *name, char **key, we_error *err)
{
    const char *value = we_env(name);
    if (!value) return WE_OK;
    if (strcmp(value, WE_IN_SECRET_SERVICE) == 0) {
        const we_status st = we_secret_get(name, key, err);
        return st ? we_fail_in(err, st, "%s: ", name) : WE_OK;
    }
    *key = we_strdup(value);
    return *key ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for an API key");
}

we_status we_client_key_for(const we_backend_target *target, bool explicit_url, char **key, we_error *err)
{
    const bool has_key = we_env("LLM_CHAT_API_KEY") != NULL;
    const char *url = we_env("LLM_CHAT_API_URL");
    *key = NULL;
    if (!target->base[0]) return WE_OK;
    if (has_key && url) {
        we_backend_target own;
        const bool is_own = !we_backend_target_parse(&own, url, NULL) && same_server(own.base, target->base);
        we_backend_target_deinit(&own);
        /* A folder's .env names the server, and the key is the user's own: it was not meant for that. */
        const bool is_meant =
            source_of("LLM_CHAT_API_URL") != WE_CONFIG_DOTENV || source_of("LLM_CHAT_API_KEY") == WE_CONFIG_DOTENV;
        if (is_own && is_meant) return key_of("LLM_CHAT_API_KEY", key, err);
    } else if (has_key && explicit_url && target->kind == WE_BACKEND_OPENAI) {
        return key_of("LLM_CHAT_API_KEY", key, err);
    }
    return same_server(target->base, "https://api.openai.com") ? key_of("OPENAI_API_KEY", key, err) : WE_OK;
}
