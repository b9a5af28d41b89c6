/* SPDX-License-Identifier: Apache-2.0
 * server.c - requests to a backend's server: its address, its key, what its answers and failures mean for people. */
#include "backend/backend_int.h"
#include <stdarg.h>

#define CONNECT_S 5
#define IDLE_S 300 /* a slow machine reads a long prompt for minutes before the first word */
#define MAX_JSON ((size_t)32 << 20)
#define LOADING_TRIES 12 /* 503 "loading": some four minutes in all */

we_status we_server_open(we_backend *b, we_error *err) { return we_net_open(&b->net, "whisperengine", err); }

void we_server_close(we_backend *b) { we_net_close(b->net); }

/* ---- Messages ---- */

we_status we_server_fail(const we_backend *b, we_error *err, we_status status, const char *format, ...)
{
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return we_fail(err, status, "%s at %s%s", b->row->name, b->base, text);
}

const char *we_server_words(char out[256], we_str text)
{
    char plain[200];
    size_t n = 0;
    bool in_tag = false, gap = false;
    for (size_t i = 0; i < text.len && n + 2 < sizeof plain; i++) {
        const char c = text.ptr[i], next = i + 1 < text.len ? text.ptr[i + 1] : ' ';
        const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
        in_tag = in_tag || (c == '<' && (next == '/' || next == '!' || ((next | 0x20) >= 'a' && (next | 0x20) <= 'z')));
        if (in_tag || blank) {
            in_tag = in_tag && c != '>';
            gap = true;
            continue;
        }
        if (gap && n) plain[n++] = ' ';
        gap = false;
        plain[n++] = c;
    }
    while (n && we_utf8_incomplete_tail((we_str){ plain, n })) n--; /* cut at a character's border */
    we_str_clean(out, 256, (we_str){ plain, n });
    return out;
}

we_str we_server_error_text(const we_json *root)
{
    static const char *const keys[] = { "error", "message", "detail" };
    we_str text = { 0 };
    for (size_t i = 0; i < WE_COUNT(keys) && !text.ptr; i++) {
        const we_json *v = we_json_get(root, keys[i]);
        if (v && v->type == WE_JSON_OBJECT) v = we_json_get(v, "message");
        if (v && v->type == WE_JSON_ARRAY) v = we_json_get(v->first, "msg"); /* FastAPI's */
        we_json_str(v, &text);
    }
    return text;
}

bool we_server_error_is_model(const we_json *root)
{
    const we_json *error = we_json_get(root, "error");
    return we_str_is(we_text_of(we_json_get(error, "code")), "model_not_found") ||
           we_str_is(we_text_of(we_json_get(error, "type")), "model_not_found");
}

/* What another status than 2xx means, and what the body says of it, shortened. */
static we_status read_refusal(const we_net_response *r, char said[256])
{
    we_arena arena = { 0 };
    const we_json *root = NULL;
    we_str text = { 0 };
    if (!we_json_parse(&arena, we_buf_str(&r->body), &root, NULL)) text = we_server_error_text(root);
    we_server_words(said, text.ptr ? text : we_buf_str(&r->body));
    const bool is_model = root && we_server_error_is_model(root);
    we_arena_deinit(&arena);
    switch (r->status) {
    case 401:
    case 403: return WE_E_DENIED;
    case 404: return WE_E_NOT_FOUND;
    case 400:
    case 422: return is_model ? WE_E_NOT_FOUND : WE_E_ARG;
    default: return WE_E_NETWORK;
    }
}

we_status we_server_refused(we_backend *b, const we_net_response *r, we_error *err)
{
    char said[256];
    const we_status st = read_refusal(r, said);
    const char *colon = said[0] ? ": " : "";
    const char *token = b->target.kind == WE_BACKEND_LMSTUDIO ? "; its token belongs into LM_API_TOKEN" : "";
    if (r->status < 400) {
        const we_str to = we_net_field_get(r, "location");
        return we_server_fail(b, err, WE_E_FORMAT, " leads to another address (HTTP %d), which is not followed: \"%s\"",
                              r->status, we_server_words(said, to.ptr ? to : WE_STR("")));
    }
    if (st == WE_E_DENIED)
        return we_server_fail(b, err, st, " %s (HTTP %d%s%s)%s",
                              b->options.api_key ? "does not accept this API key" : "wants an API key", r->status,
                              colon, said, token);
    return we_server_fail(b, err, st, " %s (HTTP %d%s%s)", st == WE_E_NETWORK ? "failed" : "refused the request",
                          r->status, colon, said);
}

/* Nothing answered: say what and where, and how it is started. */
static we_status no_answer(we_backend *b, const we_server_call *call, const we_net_response *r, we_status st,
                           we_error *err)
{
    if (st != WE_E_NETWORK || r->status != 0) return st;
    if (r->is_timeout && call->timeout_ms)
        return we_server_fail(b, err, st, " did not answer within %d ms", b->wait_ms);
    if (!r->is_refused) return we_fail_in(err, st, "%s does not answer: ", b->row->name);
    return we_fail(err, st, "%s does not answer at %s: %s", b->row->name, b->base, b->ops->start);
}

/* ---- Sending ---- */

static we_status send_once(we_backend *b, const we_server_call *call, const char *url, we_net_response *r,
                           we_error *err)
{
    we_buf bearer = { 0 };
    if (b->options.api_key) we_buf_printf(&bearer, "Bearer %s", b->options.api_key);
    if (bearer.failed) {
        *r = (we_net_response){ 0 };
        return we_fail(err, WE_E_NOMEM, "no memory for a request");
    }
    const we_net_header headers[] = { { "Accept", "application/json, text/event-stream, application/x-ndjson", false },
                                      { "Content-Type", "application/json", false },
                                      { "Authorization", bearer.ptr, true } };
    const we_backend_options *o = &b->options;
    const we_net_request request = {
        .method = call->body ? "POST" : "GET",
        .url = url,
        .headers = headers,
        .n_headers = bearer.ptr ? 3 : 2,
        .body = call->body ? we_buf_str(call->body) : (we_str){ 0 },
        .connect_timeout_s = o->connect_timeout_s > 0 ? o->connect_timeout_s : CONNECT_S,
        .idle_timeout_s = o->idle_timeout_s ? o->idle_timeout_s : IDLE_S,
        .timeout_ms = call->timeout_ms,
        .max_body = MAX_JSON,
        .no_redirects = true, /* only the server that was named gets to read the conversation */
        .on_body = call->on_body,
        .user = call->user,
        .cancel = &b->cancel,
    };
    const we_status st = we_net_send(b->net, &request, r, err);
    b->unreached = st && r->is_unreached;
    we_buf_deinit(&bearer);
    return no_answer(b, call, r, st, err);
}

we_status we_server_send(we_backend *b, const we_server_call *call, we_net_response *r, we_error *err)
{
    we_buf url = { 0 };
    *r = (we_net_response){ 0 };
    we_buf_printf(&url, "%s%s", b->base, call->path);
    we_status st = we_buf_status(&url, err, "a request");
    for (int attempt = 0; !st; attempt++) {
        st = send_once(b, call, url.ptr, r, err);
        if (st || r->status != 503 || !call->waits_for_load || attempt == LOADING_TRIES) break;
        we_log(backend, INFO, "%s is not ready (HTTP 503): asked again", b->row->name);
        if (!we_net_wait(r, attempt, &b->cancel)) {
            if (atomic_load(&b->cancel)) st = we_fail(err, WE_E_CANCELLED, "stopped");
            break;
        }
        we_net_response_deinit(r);
    }
    we_buf_deinit(&url);
    return st;
}

we_status we_server_json(we_backend *b, const we_server_call *call, we_net_response *r, we_arena *arena,
                         const we_json **root, we_error *err)
{
    char words[256];
    *root = NULL;
    we_status st = we_server_send(b, call, r, err);
    if (!st && r->status >= 300) st = we_server_refused(b, r, err);
    if (st) return st;
    const bool parsed = we_json_parse(arena, we_buf_str(&r->body), root, err) == WE_OK;
    if (parsed && (*root)->type == WE_JSON_OBJECT) return WE_OK;
    if (err && !parsed && err->status == WE_E_NOMEM) return WE_E_NOMEM;
    *root = NULL;
    return we_server_fail(b, err, WE_E_FORMAT, " answers something that is not its interface: \"%s\"",
                          we_server_words(words, we_buf_str(&r->body)));
}

/* ---- Models ---- */

we_backend_model *we_report_add(we_backend_report *report, we_str name)
{
    const char *copy = we_arena_strndup(&report->arena, name.ptr, name.len);
    we_backend_model *models = we_realloc_array(report->models, report->n_models + 1, sizeof *models);
    if (models) report->models = models;
    if (!copy || !models) return NULL;
    we_backend_model *m = &models[report->n_models++];
    *m = (we_backend_model){ .name = copy };
    return m;
}

we_status we_report_running(we_backend_report *report, we_error *err)
{
    size_t loaded = 0;
    for (size_t i = 0; i < report->n_models; i++) loaded += report->models[i].loaded;
    const char *s = report->n_models == 1 ? "" : "s";
    report->reason =
        report->n_models == 0 ? we_arena_printf(&report->arena, "runs, but has no model")
        : loaded == 0         ? we_arena_printf(&report->arena, "runs, %zu model%s", report->n_models, s)
                      : we_arena_printf(&report->arena, "runs, %zu model%s, %zu loaded", report->n_models, s, loaded);
    return report->reason ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a list of models");
}

const char *we_backend_nearest(we_buf *out, const we_backend_report *report, const char *name)
{
    we_nearest nearest = { .wanted = we_str_from(name) };
    for (size_t i = 0; i < report->n_models; i++) we_nearest_add(&nearest, we_str_from(report->models[i].name));
    we_buf_clear(out);
    we_nearest_write(&nearest, out);
    return out->ptr ? out->ptr : "";
}

we_status we_server_no_model(we_backend *b, const char *model, we_error *err)
{
    we_backend_report report = { 0 };
    we_buf near = { 0 };
    bool known = b->ops->inspect(b, &report, 0, NULL) != WE_OK; /* then what the server said has to do */
    for (size_t i = 0; i < report.n_models; i++) known = known || strcmp(report.models[i].name, model) == 0;
    if (!known && we_backend_nearest(&near, &report, model)[0])
        we_server_fail(b, err, WE_E_NOT_FOUND, " has no model \"%s\"; did you mean %s?", model, near.ptr);
    else if (!known)
        we_server_fail(b, err, WE_E_NOT_FOUND, " has no model \"%s\", and none of a similar name", model);
    we_buf_deinit(&near);
    we_backend_report_deinit(&report);
    return WE_E_NOT_FOUND;
}

we_status we_server_model(we_backend *b, char **name, we_error *err)
{
    const char *wanted = b->target.model[0] ? b->target.model : b->chosen;
    we_backend_report report = { 0 };
    we_status st = wanted ? WE_OK : b->ops->inspect(b, &report, 0, err);
    const we_backend_model *best = NULL;
    for (size_t i = 0; !st && i < report.n_models; i++)
        if (!best || (report.models[i].loaded && !best->loaded)) best = &report.models[i];
    if (!st && !wanted && !best) st = we_server_fail(b, err, WE_E_NOT_FOUND, " has no model");
    if (!st && !wanted) wanted = b->chosen = we_strdup(best->name);
    *name = st || !wanted ? NULL : we_strdup(wanted);
    if (!st && !*name) st = we_fail(err, WE_E_NOMEM, "no memory for a model's name");
    we_backend_report_deinit(&report);
    return st;
}
