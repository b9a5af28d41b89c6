/* SPDX-License-Identifier: Apache-2.0
 * models.c - one model's names with each backend: the table of short names (hub/short_names.c), the same name elsewhere, and
 * what FALLBACK_MODEL_... says; and which API key belongs to which server. */
#include "client/client_int.h"
#include "hub/hub.h"
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

/* ---- Names ---- */

static bool same(const char *a, const char *b) { return strcasecmp(a, b) == 0; }

/* Without its publisher. */
static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash && slash[1] ? slash + 1 : name;
}

static const we_hub_short_name *row_of(const char *wanted)
{
    for (size_t i = 0; i < we_hub_n_short_names; i++) {
        const we_hub_short_name *r = &we_hub_short_names[i];
        const char *const names[] = { r->name,     r->repo,         base_name(r->repo),        r->ollama,
                                      r->lmstudio, r->transformers, base_name(r->transformers) };
        for (size_t k = 0; k < WE_COUNT(names); k++)
            if (same(names[k], wanted) || same(names[k], base_name(wanted))) return r;
    }
    return NULL;
}

static bool begins_like(const char *name, const char *beginning)
{
    return strncasecmp(name, beginning, strlen(beginning)) == 0;
}

/* Does the backend mean `name` by its `has`? */
static bool is_model(we_backend_kind kind, const char *has, const char *name)
{
    if (same(has, name) || same(base_name(has), base_name(name))) return true;
    if (kind == WE_BACKEND_OLLAMA) { /* "llama3.2" is "llama3.2:latest" */
        const size_t len = strlen(name);
        return begins_like(has, name) && (same(has + len, ":latest") || (strchr(name, ':') && has[len] == '-'));
    }
    return kind == WE_BACKEND_LLAMACPP && begins_like(base_name(has), base_name(name));
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

we_status we_client_model_for(we_backend_kind kind, const we_backend_report *report, const char *wanted, char **name,
                              we_error *err)
{
    char variable[64];
    const we_hub_short_name *row = wanted[0] ? row_of(wanted) : NULL;
    const char *const table[] = { [WE_BACKEND_MLX] = row ? row->repo : NULL,
                                  [WE_BACKEND_LMSTUDIO] = row ? row->lmstudio : NULL,
                                  [WE_BACKEND_OLLAMA] = row ? row->ollama : NULL,
                                  [WE_BACKEND_LLAMACPP] = row ? base_name(row->transformers) : NULL,
                                  [WE_BACKEND_TRANSFORMERS] = row ? row->transformers : NULL,
                                  [WE_BACKEND_OPENAI] = NULL };
    we_client_fallback_variable(kind, variable);
    const char *other = we_env(variable), *found = NULL;
    if (wanted[0] == 0) found = kind == WE_BACKEND_MLX ? "default" : "";
    if (!found) found = find(kind, report, wanted);
    if (!found && row) found = find(kind, report, row->name);
    if (!found) found = find(kind, report, table[kind]);
    if (!found) found = other;
    *name = found ? we_strdup(found) : NULL;
    if (found && !*name) return we_fail(err, WE_E_NOMEM, "no memory for a model's name");
    if (found) return WE_OK;
    return we_fail(err, WE_E_NOT_FOUND, "does not have %s%s%s (%s may name another model)",
                   table[kind] ? table[kind] : wanted,
                   table[kind] && !same(table[kind], wanted) ? ", its name for " : "",
                   table[kind] && !same(table[kind], wanted) ? wanted : "", variable);
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

const char *we_client_key_for(const we_backend_target *target, bool explicit_url)
{
    const char *key = we_env("LLM_CHAT_API_KEY"), *url = we_env("LLM_CHAT_API_URL");
    if (!target->base[0]) return NULL;
    if (key && url) {
        we_backend_target own;
        const bool is_own = !we_backend_target_parse(&own, url, NULL) && same_server(own.base, target->base);
        we_backend_target_deinit(&own);
        /* A folder's .env names the server, and the key is the user's own: it was not meant for that. */
        const bool is_meant =
            source_of("LLM_CHAT_API_URL") != WE_CONFIG_DOTENV || source_of("LLM_CHAT_API_KEY") == WE_CONFIG_DOTENV;
        if (is_own && is_meant) return key;
    } else if (key && explicit_url && target->kind == WE_BACKEND_OPENAI) {
        return key;
    }
    return same_server(target->base, "https://api.openai.com") ? we_env("OPENAI_API_KEY") : NULL;
}
