/* SPDX-License-Identifier: Apache-2.0
 * python.c - which Python has the packages whose servers we start. Candidates, in this order: $VIRTUAL_ENV's, the python3 of PATH,
 * the one that WE_PYTHON names; the first that has a package runs it.
 *
 * A package is found with find_spec, so nothing of it is imported: torch alone would take seconds. One run of each candidate
 * answers for both packages, all candidates run at once, and who asks meanwhile or within some seconds shares the answer: so
 * detection, which asks for both within 300 ms, starts each Python once. A Python that is too slow is ended, and is called that. */
#include "backend/backend_int.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MAX_CANDIDATES 3
#define FRESH_S 5 /* an answer is taken for so long */
#define MAX_ANSWER ((size_t)1 << 16)

/* What a package's server needs beside it stands here, since looking it up means reading the metadata of each. The empty entry
 * of sys.path is the folder in which we are: what lies there is nobody's package. */
static const char probe[] =
    "import sys\n"
    "sys.path[:] = [p for p in sys.path if p]\n"
    "import json, os\n"
    "from importlib import metadata, util\n"
    "def look(package, project, server, needs):\n"
    "    spec = util.find_spec(package)\n"
    "    if not spec or not spec.origin: return None\n"
    "    try: version = metadata.version(project)\n"
    "    except metadata.PackageNotFoundError: version = ''\n"
    "    return {'version': version, 'serves': os.path.exists(os.path.join(os.path.dirname(spec.origin), *server)),\n"
    "            'missing': [n for n in needs if not util.find_spec(n)]}\n"
    "print()\n"
    "print(json.dumps({'python': sys.executable,\n"
    "    'llamacpp': look('llama_cpp', 'llama_cpp_python', ('server', '__main__.py'),\n"
    "        ('uvicorn', 'fastapi', 'pydantic_settings', 'sse_starlette', 'starlette_context')),\n"
    "    'transformers': look('transformers', 'transformers', ('cli', 'serve.py'),\n"
    "        ('torch', 'uvicorn', 'fastapi', 'pydantic', 'openai'))}))\n";

typedef struct candidate {
    char path[1024];
    we_status status;  /* WE_OK: it answered; WE_E_NETWORK: too late */
    char problem[256]; /* why there is no answer */
    we_python has[WE_PYTHON_PACKAGES];
} candidate;

typedef struct look {
    candidate candidates[MAX_CANDIDATES];
    size_t n;
} look;

/* ---- Candidates ---- */

/* False: there is no such program. */
static bool add(look *l, const char *path)
{
    const size_t len = strlen(path);
    if (path[0] != '/' || len >= sizeof l->candidates[0].path || we_path_is_dir(path) || access(path, X_OK) != 0)
        return false;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->candidates[i].path, path) == 0) return true;
    memcpy(l->candidates[l->n++].path, path, len + 1);
    return true;
}

/* macOS without its developer tools has a /usr/bin/python3 that opens a window and offers them. */
static bool is_placeholder(const char *path)
{
    return strcmp(path, "/usr/bin/python3") == 0 && we_path_exists("/usr/bin/xcode-select") &&
           !we_path_exists("/Library/Developer/CommandLineTools") && !we_path_exists("/Applications/Xcode.app");
}

static void find_candidates(look *l)
{
    char path[1100];
    const char *venv = getenv("VIRTUAL_ENV"), *dirs = getenv("PATH"), *named = we_env("WE_PYTHON");
    if (venv && venv[0] && snprintf(path, sizeof path, "%s/bin/python3", venv) < (int)sizeof path) add(l, path);
    for (const char *p = dirs ? dirs : ""; *p;) { /* a relative folder is whatever lies where we are: not taken */
        const int len = (int)WE_MIN(strcspn(p, ":"), sizeof path);
        if (snprintf(path, sizeof path, "%.*s/python3", len, p) < (int)sizeof path && !is_placeholder(path) &&
            add(l, path))
            break;
        p += strcspn(p, ":");
        p += *p == ':';
    }
    if (named) add(l, named);
}

/* ---- Asking ---- */

static void read_package(we_python *out, const char *python, const we_json *v)
{
    if (!we_json_is(v, WE_JSON_OBJECT)) return;
    bool serves = false;
    const we_json *missing = we_json_get(v, "missing");
    we_json_bool(we_json_get(v, "serves"), &serves);
    snprintf(out->python, sizeof out->python, "%s", python);
    const we_str version = we_text_of(we_json_get(v, "version"));
    we_str_clean(out->version, sizeof out->version, version);
    out->serves = serves;
    for (const we_json *m = we_json_is(missing, WE_JSON_ARRAY) ? missing->first : NULL; m; m = m->next) {
        const size_t have = strlen(out->missing);
        const we_str name = we_text_of(m);
        snprintf(out->missing + have, sizeof out->missing - have, "%s%.*s", have ? ", " : "",
                 (int)WE_MIN(name.len, (size_t)100), name.ptr);
    }
}

/* Its last line; a start-up file of the user's may print others. */
static void read_answer(candidate *c, we_str text)
{
    we_arena arena = { 0 };
    const we_json *root = NULL;
    char words[256], python[sizeof c->path];
    while (text.len && text.ptr[text.len - 1] <= ' ') text.len--;
    size_t start = text.len;
    while (start && text.ptr[start - 1] != '\n') start--;
    text = (we_str){ text.ptr + start, text.len - start };
    c->status = we_json_parse(&arena, text, &root, NULL);
    const we_str path = !c->status ? we_text_of(we_json_get(root, "python")) : WE_STR("");
    if (!path.len || path.len >= sizeof python || path.ptr[0] != '/' || memchr(path.ptr, 0, path.len)) {
        if (c->status != WE_E_NOMEM) c->status = WE_E_FORMAT;
        snprintf(c->problem, sizeof c->problem, "gives no answer of a Python 3.8 or later: \"%.200s\"",
                 we_server_words(words, text));
    } else {
        snprintf(python, sizeof python, "%.*s", (int)path.len, path.ptr);
        for (int k = 0; k < WE_PYTHON_PACKAGES; k++)
            read_package(&c->has[k], python, we_json_get(root, k == WE_PYTHON_LLAMACPP ? "llamacpp" : "transformers"));
    }
    we_arena_deinit(&arena);
}

/* Run all and read until each has ended or the time is up. */
static void ask(look *l, double until_s, const atomic_bool *cancel)
{
    we_child *children[MAX_CANDIDATES] = { NULL };
    we_buf answers[MAX_CANDIDATES] = { { 0 } };
    we_error why;
    size_t running = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *const argv[] = { l->candidates[i].path, "-c", probe, NULL };
        const char *const env[] = { "PYTHONSAFEPATH=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUTF8=1", NULL };
        candidate *c = &l->candidates[i];
        c->status = we_child_open(&children[i], &(we_child_options){ .argv = argv, .env = env, .log = -1 }, &why);
        if (c->status)
            snprintf(c->problem, sizeof c->problem, "%.250s", why.message);
        else
            running++;
    }
    while (running && we_now_s() < until_s && !atomic_load(cancel)) {
        for (size_t i = 0; i < l->n; i++) {
            if (!children[i]) continue;
            const we_child_got got = we_child_read(children[i], &answers[i], running > 1 ? 2 : 10);
            if (got != WE_CHILD_ENDED && answers[i].len < MAX_ANSWER) continue;
            we_child_close(children[i], 1000); /* it is at its end already */
            children[i] = NULL;
            running--;
            if (answers[i].failed)
                l->candidates[i].status = WE_E_NOMEM;
            else
                read_answer(&l->candidates[i], we_buf_str(&answers[i]));
        }
    }
    for (size_t i = 0; i < l->n; i++) {
        if (children[i]) l->candidates[i].status = WE_E_NETWORK;
        we_child_close(children[i], 0);
        we_buf_deinit(&answers[i]);
    }
}

/* ---- Sharing ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running;
    double at_s; /* of the answer; 0: none */
    look look;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static bool same_candidates(const look *a, const look *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->candidates[i].path, b->candidates[i].path) != 0) return false;
    return true;
}

/* The candidate that gave no answer for this reason; NULL: none. */
static const candidate *one_that(const look *l, we_status status)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->candidates[i].status == status) return &l->candidates[i];
    return NULL;
}

/* Fill in what the candidates say, our own run or somebody else's. */
static void ask_shared(look *l, int wait_ms, const atomic_bool *cancel)
{
    const double until_s = we_now_s() + wait_ms / 1000.0;
    bool answered = false;
    pthread_mutex_lock(&shared.lock);
    while (!answered && we_now_s() < until_s && !atomic_load(cancel)) {
        const bool fresh = shared.at_s > 0 && we_now_s() - shared.at_s < FRESH_S && same_candidates(&shared.look, l) &&
                           !one_that(&shared.look, WE_E_NETWORK) && !one_that(&shared.look, WE_E_NOMEM);
        if (fresh) {
            *l = shared.look;
            answered = true;
        } else if (shared.running) {
            struct timespec soon;
            clock_gettime(CLOCK_REALTIME, &soon);
            soon.tv_nsec += 10000000;
            if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
            pthread_cond_timedwait(&shared.changed, &shared.lock, &soon);
        } else {
            shared.running = true;
            pthread_mutex_unlock(&shared.lock);
            ask(l, until_s, cancel);
            pthread_mutex_lock(&shared.lock);
            shared.running = false;
            shared.at_s = we_now_s();
            shared.look = *l;
            answered = true;
            pthread_cond_broadcast(&shared.changed);
        }
    }
    pthread_mutex_unlock(&shared.lock);
    for (size_t i = 0; i < l->n && !answered; i++) l->candidates[i].status = WE_E_NETWORK;
}

/* ---- The answer ---- */

static const struct {
    const char *name, *install, *old; /* old: what a version without a server is told */
} packages[WE_PYTHON_PACKAGES] = {
    [WE_PYTHON_LLAMACPP] = { "llama-cpp-python", "llama-cpp-python[server]", "has no server" },
    [WE_PYTHON_TRANSFORMERS] = { "Transformers", "transformers[serving]", "has no `transformers serve` as of 5.0" },
};

static we_status fail(we_python_package package, const look *l, const we_python *best, int wait_ms, we_error *err)
{
    const char *name = packages[package].name, *install = packages[package].install;
    we_buf looked = { 0 };
    if (best && !best->serves)
        return we_fail(err, WE_E_NOT_FOUND, "%s %s in %s %s: `%s -m pip install -U '%s'`", name, best->version,
                       best->python, packages[package].old, best->python, install);
    if (best)
        return we_fail(err, WE_E_NOT_FOUND,
                       "%s %s is installed in %s, but not what its server needs (%s): `%s -m pip install '%s'`", name,
                       best->version, best->python, best->missing, best->python, install);
    if (l->n == 0)
        return we_fail(err, WE_E_NOT_FOUND,
                       "no Python was found: neither in VIRTUAL_ENV nor python3 in PATH, and WE_PYTHON names none");
    const candidate *late = one_that(l, WE_E_NETWORK);
    if (one_that(l, WE_E_NOMEM)) return we_fail(err, WE_E_NOMEM, "no memory to look for Python");
    if (late)
        return we_fail(err, WE_E_NETWORK, "%s: Python (%s) did not answer within %d ms; ask again", name, late->path,
                       wait_ms);
    for (size_t i = 0; i < l->n; i++)
        we_buf_printf(&looked, "%s%s%s%s", i ? ", " : "", l->candidates[i].path, l->candidates[i].problem[0] ? " " : "",
                      l->candidates[i].problem);
    const we_status st =
        we_fail(err, WE_E_NOT_FOUND,
                "%s is not installed (looked in %s): `%s -m pip install '%s'`, or name its Python with WE_PYTHON", name,
                looked.ptr ? looked.ptr : "", l->candidates[0].path, install);
    we_buf_deinit(&looked);
    return st;
}

we_status we_python_find(we_python *out, we_python_package package, int wait_ms, const atomic_bool *cancel,
                         we_error *err)
{
    look *l = we_calloc(1, sizeof *l);
    if (!l) return we_fail(err, WE_E_NOMEM, "no memory to look for Python");
    const we_python *best = NULL;
    find_candidates(l);
    if (l->n) ask_shared(l, wait_ms, cancel);
    for (size_t i = 0; i < l->n; i++) {
        const we_python *p = &l->candidates[i].has[package];
        if (p->python[0] && (!best || (!(best->serves && !best->missing[0]) && p->serves && !p->missing[0]))) best = p;
    }
    we_status st = WE_OK;
    if (atomic_load(cancel))
        st = we_fail(err, WE_E_CANCELLED, "stopped");
    else if (best && best->serves && !best->missing[0])
        *out = *best;
    else
        st = fail(package, l, best, wait_ms, err);
    we_free(l);
    return st;
}
