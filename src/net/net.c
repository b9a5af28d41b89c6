/* SPDX-License-Identifier: Apache-2.0
 * net.c - one request from its URL to the last byte of its answer.
 *
 * libcurl's own redirects are off: which headers go along is decided here, in one place, and the headers of every hop are
 * kept (the Hugging Face hub tells a file's hash in the answer that redirects to the storage). The transfer runs in a
 * multi handle, which keeps connections open between requests and lets `cancel` be seen while nothing arrives. */
#include "net/net.h"
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#define MAX_REDIRECTS 10
#define MAX_FIELDS 500
#define MAX_ERROR_BODY ((size_t)64 << 10)
#define MAX_BODY ((size_t)64 << 20)
#define POLL_MS 100

struct we_net {
    CURL *easy;
    CURLM *multi;
    char *user_agent;
};

/* ---- Opening ---- */

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static bool global_ready;

static void global_init(void) { global_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK; }

we_status we_net_open(we_net **out, const char *user_agent, we_error *err)
{
    *out = NULL;
    pthread_once(&global_once, global_init);
    we_net *net = global_ready ? we_calloc(1, sizeof *net) : NULL;
    if (net) {
        net->easy = curl_easy_init();
        net->multi = curl_multi_init();
        net->user_agent = we_strdup(user_agent);
    }
    if (!net || !net->easy || !net->multi || !net->user_agent) {
        we_net_close(net);
        return we_fail(err, WE_E_NOMEM, "no memory for network connections");
    }
    *out = net;
    return WE_OK;
}

void we_net_close(we_net *net)
{
    if (!net) return;
    if (net->easy) curl_easy_cleanup(net->easy);
    if (net->multi) curl_multi_cleanup(net->multi);
    we_free(net->user_agent);
    we_free(net);
}

/* ---- URLs ---- */

typedef struct origin { /* who answers a URL, in libcurl's own reading of it */
    char *scheme, *host, *port;
} origin;

static void origin_deinit(origin *o)
{
    curl_free(o->scheme);
    curl_free(o->host);
    curl_free(o->port);
    *o = (origin){ 0 };
}

/* False where the URL is not one of http or https. */
static bool origin_of(const char *url, origin *out)
{
    *out = (origin){ 0 };
    CURLU *parts = curl_url();
    const bool ok = parts && !curl_url_set(parts, CURLUPART_URL, url, 0) &&
                    !curl_url_get(parts, CURLUPART_SCHEME, &out->scheme, 0) &&
                    !curl_url_get(parts, CURLUPART_HOST, &out->host, 0) &&
                    !curl_url_get(parts, CURLUPART_PORT, &out->port, CURLU_DEFAULT_PORT) &&
                    (strcasecmp(out->scheme, "http") == 0 || strcasecmp(out->scheme, "https") == 0);
    curl_url_cleanup(parts);
    if (!ok) origin_deinit(out);
    return ok;
}

static bool same_origin(const origin *a, const origin *b)
{
    return strcasecmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 && strcmp(a->port, b->port) == 0;
}

static bool is_loopback(const origin *o)
{
    return strcasecmp(o->host, "localhost") == 0 || strncmp(o->host, "127.", 4) == 0 || strcmp(o->host, "[::1]") == 0;
}

void we_net_url_clean(we_buf *out, const char *url)
{
    const char *rest = strstr(url, "://");
    rest = rest ? rest + 3 : url;
    const size_t host = strcspn(rest, "/?#");
    const char *at = rest;
    for (size_t i = 0; i < host; i++)
        if (rest[i] == '@') at = rest + i + 1;
    we_buf_append(out, url, (size_t)(rest - url));
    we_buf_append(out, at, strcspn(at, "?#"));
}

void we_net_url_escape(we_buf *out, we_str text, bool path)
{
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.ptr[i];
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                           (c && strchr("-._~", c)) || (path && c == '/');
        if (plain)
            we_buf_append_char(out, (char)c);
        else
            we_buf_printf(out, "%%%02X", c);
    }
}

/* ---- One transfer ---- */

typedef struct transfer {
    const we_net_request *request;
    we_net_response *response;
    CURL *easy;
    size_t capacity; /* of response->fields */
    bool head_done;  /* what comes then are trailers */
    bool redirected; /* this answer only leads to another one */
    bool stopped;    /* a callback said so */
    bool too_long, out_of_memory;
} transfer;

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool add_field(transfer *t, we_str name, we_str value)
{
    we_net_response *r = t->response;
    if (r->n_fields == t->capacity) {
        const size_t capacity = t->capacity ? t->capacity * 2 : 32;
        we_net_field *fields = we_realloc_array((void *)r->fields, capacity, sizeof *fields);
        if (!fields) return false;
        r->fields = fields;
        t->capacity = capacity;
    }
    we_net_field *f = (we_net_field *)&r->fields[r->n_fields];
    f->name = (we_str){ we_arena_strndup(&r->arena, name.ptr, name.len), name.len };
    f->value = (we_str){ we_arena_strndup(&r->arena, value.ptr, value.len), value.len };
    f->hop = r->n_hops;
    if (!f->name.ptr || !f->value.ptr) return false;
    r->n_fields++;
    return true;
}

/* Headers of interim answers (100, 103) are not this hop's. */
static void forget_hop(we_net_response *r)
{
    while (r->n_fields && r->fields[r->n_fields - 1].hop == r->n_hops) r->n_fields--;
}

static bool head_complete(transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200) return true;
    t->head_done = true;
    t->response->status = (int)status;
    t->redirected =
        !t->request->no_redirects && is_redirect((int)status) && we_net_field_get(t->response, "location").len > 0;
    if (t->redirected || !t->request->on_head) return true;
    t->stopped = !t->request->on_head(t->request->user, t->response);
    return !t->stopped;
}

static size_t on_header(char *bytes, size_t one, size_t n, void *user)
{
    (void)one;
    transfer *t = user;
    we_str line = { bytes, n };
    if (t->head_done) return n;
    while (line.len && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r')) line.len--;
    if (line.len == 0) return head_complete(t) ? n : 0;
    const char *colon = memchr(line.ptr, ':', line.len);
    if (we_str_starts_with(line, WE_STR("HTTP/"))) {
        forget_hop(t->response);
    } else if (colon && t->response->n_fields < MAX_FIELDS) {
        we_str name = { line.ptr, (size_t)(colon - line.ptr) }, value = { colon + 1, line.len - name.len - 1 };
        while (value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t')) value.ptr++, value.len--;
        while (value.len && (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t')) value.len--;
        if (!add_field(t, name, value)) {
            t->out_of_memory = true;
            return 0;
        }
    }
    return n;
}

static size_t on_write(char *bytes, size_t one, size_t n, void *user)
{
    (void)one;
    transfer *t = user;
    we_net_response *r = t->response;
    const bool good = r->status / 100 == 2;
    if (t->redirected) return n;
    if (good && t->request->on_body) {
        t->stopped = !t->request->on_body(t->request->user, bytes, n);
        return t->stopped ? 0 : n;
    }
    const size_t most = !good ? MAX_ERROR_BODY : t->request->max_body ? t->request->max_body : MAX_BODY;
    const size_t room = most - WE_MIN(most, r->body.len);
    we_buf_append(&r->body, bytes, WE_MIN(n, room));
    t->out_of_memory = r->body.failed;
    t->too_long = good && n > room;
    return t->out_of_memory || t->too_long ? 0 : n;
}

/* A closed connection must not end the process. libcurl would set the whole process's SIGPIPE aside; a library may not. */
typedef struct pipe_guard {
    sigset_t before;
    bool was_pending;
} pipe_guard;

static pipe_guard pipe_guard_begin(void)
{
    pipe_guard g;
    sigset_t pending, pipe;
    sigpending(&pending);
    g.was_pending = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &g.before);
    return g;
}

static void pipe_guard_end(const pipe_guard *g)
{
    sigset_t pending, pipe;
    int number;
    sigpending(&pending);
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    if (!g->was_pending && sigismember(&pending, SIGPIPE) == 1) sigwait(&pipe, &number);
    pthread_sigmask(SIG_SETMASK, &g->before, NULL);
}

/* CURLE_ABORTED_BY_CALLBACK where `cancel` became true. */
static CURLcode drive(we_net *net, const atomic_bool *cancel)
{
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (curl_multi_add_handle(net->multi, net->easy)) return code;
    for (int running = 1;;) {
        if (cancel && atomic_load(cancel)) {
            code = CURLE_ABORTED_BY_CALLBACK;
            break;
        }
        if (curl_multi_perform(net->multi, &running)) break;
        int left;
        const CURLMsg *message = curl_multi_info_read(net->multi, &left);
        if (message && message->msg == CURLMSG_DONE) {
            code = message->data.result;
            break;
        }
        if (!running || curl_multi_poll(net->multi, NULL, 0, POLL_MS, NULL)) break;
    }
    curl_multi_remove_handle(net->multi, net->easy);
    return code;
}

/* ---- Setting up ---- */

static bool add_line(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer) *list = longer;
    return longer != NULL;
}

/* The header lines of one hop. A value is the caller's, perhaps from a file: what would begin another line is refused. */
static we_status header_lines(const we_net_request *request, bool elsewhere, struct curl_slist **list, we_error *err)
{
    bool ok = add_line(list, "Expect:");
    for (size_t i = 0; ok && i < request->n_headers; i++) {
        const we_net_header *h = &request->headers[i];
        if (strpbrk(h->value, "\r\n"))
            return we_fail(err, WE_E_ARG, "the value of the header %s holds a line break", h->name);
        if (elsewhere && (h->secret || strcasecmp(h->name, "Authorization") == 0)) continue;
        we_buf line = { 0 };
        we_buf_printf(&line, h->value[0] ? "%s: %s" : "%s;", h->name, h->value);
        ok = !line.failed && add_line(list, line.ptr);
        we_buf_deinit(&line);
    }
    return ok ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a request's headers");
}

static void set_up(we_net *net, const we_net_request *request, const char *url, const char *method, bool with_body,
                   const origin *where, struct curl_slist *headers, transfer *t, char *why)
{
    CURL *e = net->easy;
    const char *authorities = getenv("SSL_CERT_FILE");
    curl_easy_reset(e);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_URL, url);
    curl_easy_setopt(e, CURLOPT_USERAGENT, net->user_agent);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, why);
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    else if (strcmp(method, "GET") != 0)
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method);
    if (with_body) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, request->body.len ? request->body.ptr : "");
    }
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)(request->connect_timeout_s ? request->connect_timeout_s : 15));
    if (request->idle_timeout_s >= 0) {
        curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)(request->idle_timeout_s ? request->idle_timeout_s : 30));
    }
    if (request->timeout_ms > 0) {
        curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
#if LIBCURL_VERSION_NUM >= 0x075700
        curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* a slow look-up of the name is not waited for */
#endif
    }
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (is_loopback(where)) curl_easy_setopt(e, CURLOPT_PROXY, "");
    if (authorities && authorities[0]) curl_easy_setopt(e, CURLOPT_CAINFO, authorities);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
}

/* ---- Errors ---- */

/* Before a transfer begins there is no connection; one that is used again has its figure, too. */
static bool was_reached(CURL *easy)
{
    curl_off_t began_us = 0;
    return curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &began_us) == CURLE_OK && began_us > 0;
}

static we_status transport_failed(const transfer *t, CURLcode code, const char *url, const char *why, we_error *err)
{
    we_net_response *r = t->response;
    we_buf shown = { 0 };
    we_net_url_clean(&shown, url);
    const char *name = shown.ptr ? shown.ptr : "the server";
    const char *text = why[0] ? why : curl_easy_strerror(code);
    we_status st = WE_E_NETWORK;
    r->may_pass = false;
    r->is_refused = code == CURLE_COULDNT_CONNECT;
    r->is_unreached = r->is_refused || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY ||
                      (code == CURLE_OPERATION_TIMEDOUT && !was_reached(t->easy));
    r->is_timeout = code == CURLE_OPERATION_TIMEDOUT;
    if (t->out_of_memory || code == CURLE_OUT_OF_MEMORY) {
        st = we_fail(err, WE_E_NOMEM, "%s: no memory for the answer", name);
    } else if (t->too_long) {
        st = we_fail(err, WE_E_FORMAT, "%s: the answer is longer than expected", name);
    } else if (t->stopped || code == CURLE_ABORTED_BY_CALLBACK) {
        st = we_fail(err, WE_E_CANCELLED, "%s: stopped", name);
    } else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
        we_fail(
            err, st,
            "%s: the server's certificate is not trusted: %s. If a proxy of your organisation signs its own, name its "
            "authorities in SSL_CERT_FILE",
            name, text);
    } else if (code == CURLE_COULDNT_RESOLVE_PROXY) {
        we_fail(err, st, "%s: the proxy was not found: %s. Look at https_proxy, http_proxy and all_proxy", name, text);
    } else {
        r->may_pass = true;
        we_fail(err, st, "%s: %s", name, text);
    }
    we_buf_deinit(&shown);
    return st;
}

static bool status_may_pass(int status)
{
    return status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

/* ---- The way to the last answer ---- */

typedef struct hop {
    char *url;          /* we_free */
    const char *method; /* borrowed */
    bool with_body, elsewhere;
} hop;

static we_status send_hop(we_net *net, const hop *h, const origin *where, transfer *t, we_error *err)
{
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    we_status st = header_lines(t->request, h->elsewhere, &headers, err);
    if (!st) {
        t->head_done = t->redirected = false;
        t->response->status = 0;
        set_up(net, t->request, h->url, h->method, h->with_body, where, headers, t, why);
        const pipe_guard guard = pipe_guard_begin();
        const CURLcode code = drive(net, t->request->cancel);
        pipe_guard_end(&guard);
        if (code) st = transport_failed(t, code, h->url, why, err);
    }
    curl_slist_free_all(headers);
    return st;
}

/* Where the answer leads, and how: 303 and, as everybody does, 301 and 302 turn a POST into a GET. */
static we_status next_hop(we_net *net, hop *h, const origin *first, origin *where, const we_net_response *r,
                          we_error *err)
{
    char *location = NULL;
    origin next;
    we_buf shown = { 0 };
    curl_easy_getinfo(net->easy, CURLINFO_REDIRECT_URL, &location);
    we_net_url_clean(&shown, h->url);
    we_status st = WE_OK;
    if (!location || !origin_of(location, &next))
        st = we_fail(err, WE_E_NETWORK, "%s: leads to an address that is not one of http or https",
                     shown.ptr ? shown.ptr : "the server");
    we_buf_deinit(&shown);
    if (st) return st;
    if (strcasecmp(where->scheme, "https") == 0 && strcasecmp(next.scheme, "https") != 0)
        st = we_fail(err, WE_E_NETWORK, "https://%s: leads to an address without encryption, http://%s; not followed",
                     where->host, next.host);
    char *url = st ? NULL : we_strdup(location);
    if (!st && !url) st = we_fail(err, WE_E_NOMEM, "no memory for a request");
    if (st) {
        origin_deinit(&next);
        return st;
    }
    if (r->status == 303 || (r->status < 303 && strcmp(h->method, "POST") == 0)) {
        if (strcmp(h->method, "HEAD") != 0) h->method = "GET";
        h->with_body = false;
    }
    we_free(h->url);
    h->url = url;
    /* Once away, a way back does not bring the secret back: the second server chose that address. */
    h->elsewhere = h->elsewhere || !same_origin(first, &next);
    origin_deinit(where);
    *where = next;
    return WE_OK;
}

we_status we_net_send(we_net *net, const we_net_request *request, we_net_response *response, we_error *err)
{
    *response = (we_net_response){ 0 };
    transfer t = { .request = request, .response = response, .easy = net->easy };
    const char *method = request->method ? request->method : "GET";
    hop h = { we_strdup(request->url), method, request->body.ptr != NULL, false };
    origin first = { 0 }, where = { 0 };
    we_status st = WE_OK;
    if (!h.url)
        st = we_fail(err, WE_E_NOMEM, "no memory for a request");
    else if (!origin_of(h.url, &first) || !origin_of(h.url, &where))
        st = we_fail(err, WE_E_ARG, "\"%s\" is not an address of http or https", h.url);
    while (!st) {
        st = send_hop(net, &h, &where, &t, err);
        if (we_log_enabled(WE_LOG_MODULE_net, WE_LOG_DEBUG)) {
            we_buf shown = { 0 };
            we_net_url_clean(&shown, h.url);
            we_log(net, DEBUG, "%s %s: %d", h.method, shown.ptr ? shown.ptr : "", response->status);
            we_buf_deinit(&shown);
        }
        if (st || !t.redirected) break;
        if (response->n_hops == MAX_REDIRECTS)
            st = we_fail(err, WE_E_NETWORK, "%s://%s: leads to one address after the other, %d times", first.scheme,
                         first.host, MAX_REDIRECTS);
        else if (!(st = next_hop(net, &h, &first, &where, response, err)))
            response->n_hops++;
    }
    if (!st) {
        curl_off_t wait_s = 0;
        response->may_pass = status_may_pass(response->status);
        if (!curl_easy_getinfo(net->easy, CURLINFO_RETRY_AFTER, &wait_s) && wait_s > 0)
            response->retry_after_s = wait_s < 1000000 ? (int)wait_s : 1000000;
    }
    origin_deinit(&first);
    origin_deinit(&where);
    we_free(h.url);
    return st;
}

void we_net_response_deinit(we_net_response *r)
{
    we_buf_deinit(&r->body);
    we_free((void *)r->fields);
    we_arena_deinit(&r->arena);
    *r = (we_net_response){ 0 };
}

we_str we_net_field_at(const we_net_response *r, int n, const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i < r->n_fields; i++) {
        const we_net_field *f = &r->fields[i];
        if (f->hop == n && f->name.len == len && strncasecmp(f->name.ptr, name, len) == 0) return f->value;
    }
    return (we_str){ 0 };
}

we_str we_net_field_get(const we_net_response *r, const char *name) { return we_net_field_at(r, r->n_hops, name); }

/* ---- Trying again ---- */

#define MOST_WAIT_MS 30000
#define MOST_RETRY_AFTER_S 300

bool we_net_wait(const we_net_response *response, int attempt, const atomic_bool *cancel)
{
    if (response->retry_after_s > MOST_RETRY_AFTER_S) return false;
    const uint64_t now = we_now_ns();
    uint64_t wait_ms = WE_MIN(UINT64_C(250) << WE_MIN(attempt, 20), (uint64_t)MOST_WAIT_MS);
    wait_ms -= (now >> 8) % (wait_ms / 2 + 1);
    wait_ms = WE_MAX(wait_ms, (uint64_t)response->retry_after_s * 1000);
    const uint64_t end = now + wait_ms * 1000000;
    for (uint64_t t; (t = we_now_ns()) < end;) {
        if (cancel && atomic_load(cancel)) return false;
        const uint64_t step = WE_MIN(end - t, (uint64_t)POLL_MS * 1000000);
        nanosleep(&(struct timespec){ 0, (long)step }, NULL);
    }
    return !(cancel && atomic_load(cancel));
}
