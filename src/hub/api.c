/* SPDX-License-Identifier: Apache-2.0
 * api.c - what is asked of the hub: which commit a revision is, and which files that commit holds. Also the words for what
 * the hub refuses: it tells why in X-Error-Code (as huggingface_hub reads it), and answers 401 for a repository that does
 * not exist as well as for one that may not be seen. */
#include "hub/hub_int.h"
#include <stdio.h>

#ifndef WE_VERSION
#define WE_VERSION "0"
#endif

#define MOST_PAGES 1000

we_status we_hub_net_open(we_net **out, we_error *err) { return we_net_open(out, "whisperengine/" WE_VERSION, err); }

size_t we_hub_headers(const we_hub_client *c, we_buf *bearer, we_net_header out[2])
{
    size_t n = 0;
    out[n++] =
        (we_net_header){ "Accept-Encoding", "identity", false }; /* sizes and ranges count the bytes of the file */
    if (!c->settings->token) return n;
    we_buf_printf(bearer, "Bearer %s", c->settings->token);
    if (!bearer->failed) out[n++] = (we_net_header){ "Authorization", bearer->ptr, true };
    return n;
}

/* ---- Refusals ---- */

static bool field_is(const we_net_response *r, const char *name, const char *value)
{
    return we_str_is(we_net_field_get(r, name), value);
}

static we_status denied(const we_hub_client *c, const we_net_response *r, bool gated, we_error *err)
{
    const char *hub = c->settings->endpoint, *repo = c->name->repo;
    if (gated && c->settings->token)
        return we_fail(
            err, WE_E_DENIED,
            "%s: its makers ask for consent, and the token in HF_TOKEN has none. Open %s/%s, log in with the "
            "token's account, accept the terms, and pull again",
            repo, hub, repo);
    if (gated)
        return we_fail(err, WE_E_DENIED,
                       "%s: its makers ask for consent. Open %s/%s, log in and accept the terms; then make a token at "
                       "%s/settings/tokens and set it: export HF_TOKEN=hf_...",
                       repo, hub, repo, hub);
    if (r->status == 403)
        return we_fail(err, WE_E_DENIED,
                       "%s: the hub forbids it (403). Does the token in HF_TOKEN have the right to read it?", repo);
    if (c->settings->token)
        return we_fail(
            err, WE_E_DENIED,
            "%s: the hub does not accept the token in HF_TOKEN (401), or the repository does not exist. Tokens are "
            "at %s/settings/tokens",
            repo, hub);
    return we_fail(
        err, WE_E_NOT_FOUND,
        "%s: no such repository on %s, or a private one. Look at the spelling; for a private one set HF_TOKEN to "
        "a token from %s/settings/tokens",
        repo, hub, hub);
}

we_status we_hub_refused(const we_hub_client *c, const we_net_response *r, const char *what, we_error *err)
{
    const char *repo = c->name->repo;
    const we_str said = we_net_field_get(r, "x-error-message");
    if (field_is(r, "x-error-code", "GatedRepo")) return denied(c, r, true, err);
    if (field_is(r, "x-error-code", "RevisionNotFound"))
        return we_fail(err, WE_E_NOT_FOUND, "%s has no branch, tag or commit \"%s\"", repo, c->name->revision);
    if (r->status == 401 || r->status == 403) return denied(c, r, false, err);
    if (field_is(r, "x-error-code", "EntryNotFound"))
        return we_fail(err, WE_E_NOT_FOUND, "%s: the hub lists %s but does not have it", repo, what);
    if (r->status == 404)
        return we_fail(err, WE_E_NOT_FOUND,
                       "%s: not found on %s (%s). Look at the spelling: ORG/NAME as in its address", repo,
                       c->settings->endpoint, what);
    if (r->status == 429 || r->retry_after_s)
        return we_fail(err, WE_E_NETWORK, "%s: the hub asks to wait%s: too many requests (%d). Try again later%s", repo,
                       r->retry_after_s ? " longer than makes sense here" : "", r->status,
                       c->settings->token ? "" : ", or set HF_TOKEN: the limits are wider with a token");
    return we_fail(err, WE_E_NETWORK, "%s: the hub answered %d for %s%s%.*s", repo, r->status, what,
                   said.len ? ": " : "", (int)WE_MIN(said.len, 300), said.len ? said.ptr : "");
}

/* ---- Requests ---- */

/* GET, repeated while the failure may pass. The response is the caller's to free, after an error too. */
static we_status get(const we_hub_client *c, const char *url, const char *what, we_net_response *r, we_error *err)
{
    we_buf bearer = { 0 };
    we_net_header headers[2];
    const size_t n = we_hub_headers(c, &bearer, headers);
    const we_net_request request = { .url = url, .headers = headers, .n_headers = n, .cancel = c->cancel };
    we_status st = we_buf_status(&bearer, err, "a request");
    *r = (we_net_response){ 0 };
    for (int attempt = 0; !st; attempt++) {
        st = we_net_send(c->net, &request, r, err);
        if (!st && r->status == 200) break;
        if (!st) st = we_hub_refused(c, r, what, err);
        if (!r->may_pass || attempt == c->retries || !we_net_wait(r, attempt, c->cancel)) break;
        we_log(hub, INFO, "%s; trying again", err ? err->message : what);
        we_net_response_deinit(r);
        st = WE_OK;
    }
    if (c->cancel && atomic_load(c->cancel)) st = we_fail(err, WE_E_CANCELLED, "stopped");
    we_buf_deinit(&bearer);
    return st;
}

/* ENDPOINT/api/models/REPO/KIND/REVISION; we_free. */
static char *api_url(const we_hub_client *c, const char *kind, const char *revision, we_str query)
{
    we_buf url = { 0 };
    we_buf_printf(&url, "%s/api/models/%s/%s/", c->settings->endpoint, c->name->repo, kind);
    we_net_url_escape(&url, we_str_from(revision), false);
    we_buf_append_str(&url, query);
    return we_buf_take(&url, NULL);
}

char *we_hub_file_url(const we_hub_client *c, const char *commit, const char *path)
{
    we_buf url = { 0 };
    we_buf_printf(&url, "%s/%s/resolve/%s/", c->settings->endpoint, c->name->repo, commit);
    we_net_url_escape(&url, we_str_from(path), true);
    return we_buf_take(&url, NULL);
}

we_status we_hub_api_commit(const we_hub_client *c, char commit[41], we_error *err)
{
    char *url = api_url(c, "revision", c->name->revision, WE_STR(""));
    if (!url) return we_fail(err, WE_E_NOMEM, "no memory for a request");
    we_net_response r;
    we_arena arena = { 0 };
    const we_json *root;
    we_str sha = { 0 };
    we_status st = get(c, url, "the model's page", &r, err);
    if (!st && (st = we_json_parse(&arena, we_buf_str(&r.body), &root, err)))
        we_fail_in(err, st, "%s: the hub's answer: ", c->name->repo);
    if (!st && (!we_json_str(we_json_get(root, "sha"), &sha) || !WE_HUB_IS_COMMIT(sha)))
        st = we_fail(err, WE_E_FORMAT, "%s: the hub's answer names no commit (is %s a hub?)", c->name->repo,
                     c->settings->endpoint);
    if (!st) snprintf(commit, 41, "%.*s", (int)sha.len, sha.ptr);
    we_arena_deinit(&arena);
    we_net_response_deinit(&r);
    we_free(url);
    return st;
}

/* The query of the next page from `Link: <URL>; rel="next"`. Only the query is taken: a mirror may hand the hub's own address
 * through, and no answer shall choose where the token goes. */
static we_str next_query(const we_net_response *r)
{
    const we_str link = we_net_field_get(r, "link");
    for (size_t i = 0; i < link.len; i++) {
        if (link.ptr[i] != '<') continue;
        const char *end = memchr(link.ptr + i, '>', link.len - i);
        const char *query = end ? memchr(link.ptr + i, '?', (size_t)(end - link.ptr) - i) : NULL;
        if (!end) break;
        const char *stop = memchr(end, ',', link.len - (size_t)(end - link.ptr));
        const we_str rel = { end, (stop ? (size_t)(stop - end) : link.len - (size_t)(end - link.ptr)) };
        for (size_t k = 0; query && k + 4 <= rel.len; k++)
            if (memcmp(rel.ptr + k, "next", 4) == 0) return (we_str){ query, (size_t)(end - query) };
        i = (size_t)(end - link.ptr);
    }
    return (we_str){ 0 };
}

we_status we_hub_api_files(const we_hub_client *c, const char *commit, we_hub_files *files, we_error *err)
{
    char *url = api_url(c, "tree", commit, WE_STR("?recursive=true&expand=false"));
    we_status st = url ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a request");
    for (int page = 0; !st && url; page++) {
        we_net_response r;
        char *next = NULL;
        st = get(c, url, "its list of files", &r, err);
        if (!st && (st = we_hub_files_parse(files, we_buf_str(&r.body), err)))
            we_fail_in(err, st, "%s: ", c->name->repo);
        const we_str query = st ? (we_str){ 0 } : next_query(&r);
        if (query.ptr && page == MOST_PAGES)
            st = we_fail(err, WE_E_FORMAT, "%s: the list of files does not end", c->name->repo);
        else if (query.ptr && !(next = api_url(c, "tree", commit, query)))
            st = we_fail(err, WE_E_NOMEM, "no memory for a request");
        we_net_response_deinit(&r);
        we_free(url);
        url = next;
    }
    we_free(url);
    return st ? st : we_hub_files_sort(files, err);
}
