/* SPDX-License-Identifier: Apache-2.0
 * origin.c - where a folder came from: a path that ends in models--ORG--NAME/snapshots/COMMIT tells its repository and commit,
 * the refs beside it tell what leads there. */
#include "hub/hub_int.h"

typedef struct ref_search {
    const char *dir; /* refs/..., */
    const char *prefix;
    const char *commit;
    we_buf *found;
} ref_search;

static bool match_ref(void *user, const char *name)
{
    ref_search *s = user;
    char *path = we_path_join(s->dir, name), *text = NULL;
    we_buf full = { 0 };
    we_buf_printf(&full, "%s%s", s->prefix, name);
    if (path && we_path_is_dir(path) && strlen(s->prefix) < 200) { /* refs/pr/1 */
        we_buf_append_char(&full, '/');
        ref_search below = { path, full.ptr ? full.ptr : "", s->commit, s->found };
        we_dir_each(path, match_ref, &below, NULL);
    } else if (path && !we_file_read(path, 256, &text, NULL, NULL) && we_str_is(we_str_from(text), s->commit)) {
        we_buf_printf(s->found, "%s%s", s->found->len ? ", " : "", full.ptr ? full.ptr : "");
    }
    we_free(text);
    we_buf_deinit(&full);
    we_free(path);
    return true;
}

/* Where the last part of path[0, *len) begins; *len then ends before its slash. */
static we_str take_last(const char *path, size_t *len)
{
    while (*len && path[*len - 1] == '/') --*len;
    size_t start = *len;
    while (start && path[start - 1] != '/') start--;
    const we_str part = { path + start, *len - start };
    *len = start;
    return part;
}

we_status we_hub_source_of(we_model_source *out, const char *path, we_error *err)
{
    *out = (we_model_source){ 0 };
    size_t len = strlen(path);
    const we_str commit = take_last(path, &len), snapshots = take_last(path, &len);
    const size_t root_len = len;
    const we_str folder = take_last(path, &len);
    if (!WE_HUB_IS_COMMIT(commit) || !we_str_is(snapshots, "snapshots") ||
        !we_str_starts_with(folder, WE_STR("models--")))
        return WE_OK;
    we_buf found = { 0 };
    char *name = we_strndup(folder.ptr, folder.len), *root = we_strndup(path, root_len);
    char *refs = root ? we_path_join(root, "refs") : NULL;
    out->repo = name ? we_hub_repo_of(name) : NULL;
    out->commit = we_strndup(commit.ptr, commit.len);
    if (refs && out->commit && we_path_is_dir(refs)) {
        ref_search search = { refs, "", out->commit, &found };
        we_dir_each(refs, match_ref, &search, NULL);
    }
    out->revisions = found.len ? we_buf_take(&found, NULL) : we_strdup("");
    we_buf_deinit(&found);
    we_free(refs);
    we_free(root);
    we_free(name);
    if (out->repo && out->commit && out->revisions) return WE_OK;
    we_hub_source_deinit(out);
    return we_fail(err, WE_E_NOMEM, "%s: no memory for its origin", path);
}

void we_hub_source_deinit(we_model_source *o)
{
    we_free(o->repo);
    we_free(o->commit);
    we_free(o->revisions);
    *o = (we_model_source){ 0 };
}
