/* SPDX-License-Identifier: Apache-2.0
 * url.c - URLs to targets. One table of schemes; names stand in a URL as they are, without percent signs, since models' names
 * hold '/', ':' and '@' themselves:
 *
 *     ollama://llama3.2:3b@[::1]:11434         an address is what stands behind the last '@' and ends in a port
 *     lmstudio://google/gemma-3-4b@q4_k_m      so this '@' belongs to the name
 *     https://host:8000/v1#qwen3               any OpenAI-style server; the model may stand behind '#'
 *
 * OLLAMA_HOST is read as Ollama's own client does (envconfig/config.go): host, host:port, scheme://host:port/path, quotes
 * around it, an address to listen on (0.0.0.0) as one to connect to. LMSTUDIO_HOST takes the same forms. */
#include "backend/backend_int.h"
#include <stdlib.h>

#define MAX_URL ((size_t)8192)

typedef struct scheme {
    const char *name;
    we_backend_kind kind;
    int port;             /* of a server at its usual address; 0: none */
    const char *variable; /* that names another address */
} scheme;

static const scheme schemes[] = {
    { "mlx", WE_BACKEND_MLX, 0, NULL },
    { "lmstudio", WE_BACKEND_LMSTUDIO, 1234, "LMSTUDIO_HOST" },
    { "ollama", WE_BACKEND_OLLAMA, 11434, "OLLAMA_HOST" },
    { "llamacpp", WE_BACKEND_LLAMACPP, 0, NULL },
    { "transformers", WE_BACKEND_TRANSFORMERS, 0, NULL },
    { "http", WE_BACKEND_OPENAI, 80, NULL },
    { "https", WE_BACKEND_OPENAI, 443, NULL },
};

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for a backend's address"); }

/* The scheme that a text begins with, and its length with "://"; NULL: none of ours. */
static const scheme *scheme_of(we_str text, size_t *len)
{
    for (size_t i = 0; i < WE_COUNT(schemes); i++) {
        const size_t n = strlen(schemes[i].name);
        if (text.len < n + 3 || memcmp(text.ptr + n, "://", 3) != 0) continue;
        bool same = true;
        for (size_t k = 0; k < n; k++) same = same && (text.ptr[k] | 0x20) == schemes[i].name[k];
        if (same) return *len = n + 3, &schemes[i];
    }
    return NULL;
}

bool we_backend_is_url(const char *name)
{
    size_t len;
    return scheme_of(we_str_from(name), &len) != NULL;
}

static we_str behind(we_str s, size_t at) { return (we_str){ s.ptr + at, s.len - at }; }

static size_t last_of(we_str s, char c) /* s.len: none */
{
    size_t at = s.len;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] == c) at = i;
    return at;
}

static size_t first_of(we_str s, const char *any)
{
    size_t i = 0;
    while (i < s.len && !(s.ptr[i] && strchr(any, s.ptr[i]))) i++;
    return i;
}

/* ---- Addresses ---- */

typedef struct address {
    char host[260]; /* an IPv6 one in brackets */
    int port;       /* 0: none given */
} address;

static bool is_hex(char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

/* Digits of an IPv6 address, perhaps with an IPv4 one at its end. What exactly is one, the resolver knows. */
static bool is_ipv6(we_str s)
{
    size_t colons = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == ':')
            colons++;
        else if (s.ptr[i] != '.' && !is_hex(s.ptr[i]))
            return false;
    }
    return colons >= 2 && s.len < 64;
}

static bool is_host(we_str s)
{
    if (s.len == 0 || s.len > 253) return false;
    for (size_t i = 0; i < s.len; i++) {
        const char c = s.ptr[i];
        const bool plain =
            (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '.' || c == '-' || c == '_';
        if (!plain || (i == 0 && c == '-')) return false;
    }
    return true;
}

static bool read_port(we_str s, int *port)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return false;
    if (s.len > 5 || !we_parse_i64(s, &n) || n < 1 || n > 65535) return false;
    *port = (int)n;
    return true;
}

/* HOST, HOST:PORT, [IPV6], [IPV6]:PORT, IPV6. False where it is none of them. */
static bool read_address(we_str s, address *out)
{
    we_str host = s, port = { 0 };
    const char *format = "%.*s";
    out->port = 0;
    if (s.len && s.ptr[0] == '[') {
        const size_t end = first_of(s, "]");
        if (end == s.len || !is_ipv6(host = (we_str){ s.ptr + 1, end - 1 })) return false;
        port = behind(s, end + 1);
        if (port.len && port.ptr[0] != ':') return false;
        format = "[%.*s]";
    } else if (is_ipv6(s)) {
        format = "[%.*s]";
    } else {
        host.len = last_of(s, ':');
        port = behind(s, host.len);
        if (!is_host(host)) return false;
    }
    if (port.len && !read_port(behind(port, 1), &out->port)) return false;
    snprintf(out->host, sizeof out->host, format, (int)host.len, host.ptr);
    return true;
}

/* An address that a server listens on as one that a client connects to. */
static void connect_address(address *a)
{
    if (strcmp(a->host, "0.0.0.0") == 0) strcpy(a->host, "127.0.0.1");
    if (strcmp(a->host, "[::]") == 0) strcpy(a->host, "[::1]");
}

static bool is_local(const char *host)
{
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
}

/* ---- Variables ---- */

static we_str trimmed(we_str s)
{
    while (s.len && strchr("\"' \t", s.ptr[0])) s = behind(s, 1);
    while (s.len && strchr("\"' \t", s.ptr[s.len - 1])) s.len--;
    return s;
}

/* The base that `value`, the text of the scheme's variable, names; its usual one where it is NULL. */
static we_status base_of(const scheme *row, const char *value, we_buf *base, bool *local, we_error *err)
{
    we_str text = value ? trimmed(we_str_from(value)) : WE_STR("");
    const char *protocol = "http";
    address a = { "127.0.0.1", 0 };
    int port = row->port;
    size_t len = 0;
    if (text.len) {
        const scheme *given = scheme_of(text, &len);
        if (given && given->kind == WE_BACKEND_OPENAI) {
            protocol = given->name;
            port = given->port;
            text = behind(text, len);
        }
        while (text.len && text.ptr[text.len - 1] == '/') text.len--;
    }
    const size_t end = first_of(text, "/");
    we_str host = { text.ptr, end }, path = behind(text, end);
    const bool port_only = host.len && host.ptr[0] == ':' && !is_ipv6(host);
    bool ok = first_of(path, "?#@\\ ") == path.len && text.len < MAX_URL;
    for (size_t i = 0; i < path.len; i++) ok = ok && (unsigned char)path.ptr[i] > ' ' && path.ptr[i] != 0x7F;
    if (ok && port_only)
        ok = read_port(behind(host, 1), &a.port);
    else if (ok && host.len)
        ok = read_address(host, &a);
    if (!ok && last_of(text, '@') < text.len)
        return we_fail(err, WE_E_ARG, "%s: user and password do not belong into an address; expected host:port",
                       row->variable);
    if (!ok)
        return we_fail(err, WE_E_ARG, "%s=%s: expected host:port, for example 127.0.0.1:%d", row->variable, value,
                       row->port);
    connect_address(&a);
    we_buf_printf(base, "%s://%s:%d%.*s", protocol, a.host, a.port ? a.port : port, (int)path.len, path.ptr);
    *local = is_local(a.host);
    return WE_OK;
}

static we_status usual_base(const scheme *row, we_buf *base, bool *local, we_error *err)
{
    return base_of(row, row->variable ? we_env(row->variable) : NULL, base, local, err);
}

we_status we_backend_host_check(const char *variable, const char *value, bool *local, we_error *err)
{
    const scheme *row = schemes;
    while (!row->variable || strcmp(row->variable, variable) != 0) row++;
    we_buf base = { 0 };
    const we_status st = base_of(row, value, &base, local, err);
    we_buf_deinit(&base);
    return st;
}

/* ---- The parts of a URL ---- */

/* NAME[@HOST:PORT]. Gives the name's length. */
static we_status read_named(const scheme *row, we_str rest, size_t *name_len, we_buf *base, bool *local, we_error *err)
{
    const size_t at = row->port ? last_of(rest, '@') : rest.len;
    const we_str place = at < rest.len ? behind(rest, at + 1) : WE_STR("");
    address a;
    *name_len = rest.len;
    *local = true;
    const size_t colon = last_of(place, ':');
    if (colon < place.len) {
        if (!read_address(place, &a) || !a.port)
            return we_fail(err, WE_E_ARG, "%s://...: \"%.*s\" is no HOST:PORT", row->name, (int)WE_MIN(place.len, 200),
                           place.ptr);
        const we_str name = { rest.ptr, at };
        const size_t other = last_of(name, '@');
        if (other < at && first_of(behind(name, other), ":") < at - other)
            return we_fail(err, WE_E_ARG,
                           "%s://...: user and password do not belong into an address; an API key is set apart from it",
                           row->name);
        connect_address(&a);
        we_buf_printf(base, "http://%s:%d", a.host, a.port);
        *local = is_local(a.host);
        *name_len = at;
        return WE_OK;
    }
    return row->port ? usual_base(row, base, local, err) : WE_OK;
}

/* HOST[:PORT][/PATH][#MODEL]. */
static we_status read_server(const scheme *row, we_str rest, we_str *model, we_buf *base, bool *local, we_error *err)
{
    const size_t hash = first_of(rest, "#");
    *model = hash < rest.len ? behind(rest, hash + 1) : WE_STR("");
    rest.len = hash;
    while (rest.len && rest.ptr[rest.len - 1] == '/') rest.len--;
    const size_t end = first_of(rest, "/?");
    const we_str host = { rest.ptr, end };
    we_str path = behind(rest, end);
    address a;
    if (last_of(host, '@') < host.len)
        return we_fail(err, WE_E_ARG,
                       "%s://...: user and password do not belong into an address; an API key is set apart from it",
                       row->name);
    if (!read_address(host, &a))
        return we_fail(err, WE_E_ARG, "%s://%.*s: \"%.*s\" is no HOST or HOST:PORT", row->name,
                       (int)WE_MIN(rest.len, 200), rest.ptr, (int)WE_MIN(host.len, 200), host.ptr);
    const size_t odd = first_of(path, "? \\");
    if (odd < path.len)
        return we_fail(err, WE_E_ARG, "%s://%s: a '%c' has no place in a server's address; expected %s://HOST/v1",
                       row->name, a.host, path.ptr[odd], row->name);
    static const we_str whole = { "/chat/completions", 17 };
    if (we_str_ends_with(path, whole)) path.len -= whole.len;
    if (path.len == 0) path = WE_STR("/v1");
    we_buf_printf(base, "%s://%s", row->name, a.host);
    if (a.port) we_buf_printf(base, ":%d", a.port);
    we_buf_append_str(base, path);
    *local = is_local(a.host);
    return WE_OK;
}

/* ---- Targets ---- */

static we_status finish(we_backend_target *out, we_backend_kind kind, we_str model, we_buf *base, bool local,
                        we_error *err)
{
    const bool failed = base->failed;
    char *text = we_buf_take(base, NULL), *name = we_strndup(model.ptr, model.len);
    if (failed || !text || !name) {
        we_free(text);
        we_free(name);
        return no_memory(err);
    }
    *out = (we_backend_target){ kind, name, text, local };
    return WE_OK;
}

we_status we_backend_target_parse(we_backend_target *out, const char *url, we_error *err)
{
    *out = (we_backend_target){ 0 };
    const we_str text = we_str_from(url);
    size_t len = 0;
    const scheme *row = scheme_of(text, &len);
    if (text.len > MAX_URL) return we_fail(err, WE_E_ARG, "a URL of %zu bytes is too long", text.len);
    if (!row)
        return we_fail(err, WE_E_ARG,
                       "%s: not the URL of a backend; expected mlx://NAME, lmstudio://NAME, ollama://NAME, "
                       "llamacpp://FILE, transformers://NAME or http(s)://HOST/v1",
                       strchr(url, '@') ? "the address" : url);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7F)
            return we_fail(err, WE_E_ARG, "%s://...: the URL holds a control character", row->name);
    we_str rest = behind(text, len), model = rest;
    we_buf base = { 0 };
    bool local = true;
    we_status st = row->kind == WE_BACKEND_OPENAI ? read_server(row, rest, &model, &base, &local, err)
                                                  : read_named(row, rest, &model.len, &base, &local, err);
    if (!st && row->port == 0 && model.len == 0)
        st = we_fail(err, WE_E_ARG, "%s: a model's name is missing%s", url,
                     row->kind == WE_BACKEND_MLX ? "; mlx://default is the built-in one" : "");
    if (!st) st = finish(out, row->kind, model, &base, local, err);
    we_buf_deinit(&base);
    return st;
}

we_status we_backend_target_default(we_backend_target *out, we_backend_kind kind, we_error *err)
{
    *out = (we_backend_target){ 0 };
    const scheme *row = &schemes[0];
    while (row->kind != kind) row++;
    we_buf base = { 0 };
    bool local = true;
    we_status st = row->variable ? usual_base(row, &base, &local, err) : WE_OK;
    if (!st) st = finish(out, kind, kind == WE_BACKEND_MLX ? WE_STR("default") : WE_STR(""), &base, local, err);
    we_buf_deinit(&base);
    return st;
}

void we_backend_target_deinit(we_backend_target *t)
{
    we_free(t->model);
    we_free(t->base);
    *t = (we_backend_target){ 0 };
}
