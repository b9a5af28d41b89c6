/* SPDX-License-Identifier: Apache-2.0
 * names.c - what may stand where a model of the hub is named, and what the hub may call a file. The short names themselves
 * are a table of their own: model_names.c. */
#include "hub/hub_int.h"
#include <ctype.h>

bool we_hub_is_hex(we_str s, size_t n)
{
    if (s.len != n) return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789abcdef", s.ptr[i]) || !s.ptr[i]) return false;
    return true;
}

#define MOST_PATH ((size_t)1024)
#define MOST_PART ((size_t)200) /* file systems take 255; a temporary file's name is a little longer */

bool we_hub_path_is_safe(we_str path)
{
    if (path.len == 0 || path.len > MOST_PATH || we_utf8_valid(path) != path.len) return false;
    for (size_t i = 0; i < path.len; i++)
        if ((unsigned char)path.ptr[i] < 0x20 || path.ptr[i] == 0x7F || path.ptr[i] == '\\') return false;
    for (size_t start = 0; start <= path.len;) { /* an absolute path begins with an empty part */
        const char *slash = start < path.len ? memchr(path.ptr + start, '/', path.len - start) : NULL;
        const we_str part = { path.ptr + start, (slash ? (size_t)(slash - path.ptr) : path.len) - start };
        if (part.len == 0 || part.len > MOST_PART || we_str_is(part, ".") || we_str_is(part, "..")) return false;
        start += part.len + 1;
    }
    return true;
}

/* huggingface_hub's rule for each half of ORG/NAME: letters, digits, "-", "_", "."; no "--" or ".."; "-" and "." not at an end. */
static bool is_repo_part(we_str s)
{
    if (s.len == 0 || s.len > 96) return false;
    for (size_t i = 0; i < s.len; i++) {
        const char c = s.ptr[i];
        const bool edge = i == 0 || i + 1 == s.len;
        if (!isalnum((unsigned char)c) && c != '-' && c != '_' && c != '.') return false;
        if ((c == '-' || c == '.') && (edge || s.ptr[i + 1] == c)) return false;
    }
    return true;
}

static we_status unknown_short_name(const we_hub_models *table, we_str name, we_error *err)
{
    we_buf known = { 0 }, near = { 0 };
    we_nearest nearest = { .wanted = name };
    for (size_t i = 0; i < table->n; i++) {
        we_nearest_add(&nearest, we_str_from(table->items[i].name));
        we_buf_printf(&known, "%s%s", i ? ", " : "", table->items[i].name);
    }
    const bool any = we_nearest_write(&nearest, &near);
    const we_status st =
        we_fail(err, WE_E_NOT_FOUND, "%.*s is none of the short names%s%s%s ORG/NAME as on the hub, or one of: %s",
                (int)name.len, name.ptr, any ? "; did you mean " : "", near.ptr ? near.ptr : "",
                any ? "? Give" : "; give", known.ptr ? known.ptr : "");
    we_buf_deinit(&known);
    we_buf_deinit(&near);
    return st;
}

/* The repository that a short name stands for; we_free. */
static we_status repo_of(we_str name, char **repo, we_error *err)
{
    we_hub_models table;
    *repo = NULL;
    we_status st = we_hub_models_read(&table, err);
    if (st) return st;
    const we_hub_model *model = we_hub_models_find(&table, name);
    const char *called = model ? model->called[WE_BACKEND_MLX] : NULL;
    if (!model)
        st = unknown_short_name(&table, name, err);
    else if (!called || !strchr(called, '/') || called[0] == '/' || called[0] == '.')
        st = we_fail(err, WE_E_NOT_FOUND, "%s: \"%s\".mlx is %s%s%s; expected ORG/NAME as on the hub", table.path,
                     model->name, called ? "\"" : "", called ? called : "not there", called ? "\"" : "");
    else if (!(*repo = we_strdup(called)))
        st = we_fail(err, WE_E_NOMEM, "no memory for a model's name");
    we_hub_models_deinit(&table);
    return st;
}

we_status we_hub_name_parse(we_hub_name *out, const char *text, we_error *err)
{
    *out = (we_hub_name){ 0 };
    const char *at = strchr(text, '@');
    we_str repo = { text, at ? (size_t)(at - text) : strlen(text) };
    const we_str revision = at ? we_str_from(at + 1) : WE_STR("main");
    if (repo.len == 0) return we_fail(err, WE_E_ARG, "the model's name is empty; give ORG/NAME or a short name");
    if (at && !we_hub_path_is_safe(revision))
        return we_fail(err, WE_E_ARG, "\"%s\" is no revision: a branch, a tag or a commit stands behind the @", at + 1);
    char *named = NULL;
    if (!memchr(repo.ptr, '/', repo.len)) {
        const we_status st = repo_of(repo, &named, err);
        if (st) return st;
        repo = we_str_from(named);
    }
    const char *slash = memchr(repo.ptr, '/', repo.len);
    const we_str org = { repo.ptr, (size_t)(slash - repo.ptr) }, name = { slash + 1, repo.len - org.len - 1 };
    if (!is_repo_part(org) || !is_repo_part(name)) {
        we_fail(err, WE_E_ARG, "\"%.*s\" is no name of the hub: ORG/NAME, each of letters, digits, '-', '_' and '.'",
                (int)repo.len, repo.ptr);
        we_free(named);
        return WE_E_ARG;
    }
    we_buf folder = { 0 };
    we_buf_printf(&folder, "models--%.*s--%.*s", (int)org.len, org.ptr, (int)name.len, name.ptr);
    out->folder = we_buf_take(&folder, NULL);
    we_buf_deinit(&folder);
    out->repo = we_strndup(repo.ptr, repo.len);
    out->revision = we_strndup(revision.ptr, revision.len);
    we_free(named);
    if (out->folder && out->repo && out->revision) return WE_OK;
    we_hub_name_deinit(out);
    return we_fail(err, WE_E_NOMEM, "no memory for a model's name");
}

void we_hub_name_deinit(we_hub_name *n)
{
    we_free(n->repo);
    we_free(n->revision);
    we_free(n->folder);
    *n = (we_hub_name){ 0 };
}
