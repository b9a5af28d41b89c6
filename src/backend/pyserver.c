/* SPDX-License-Identifier: Apache-2.0
 * pyserver.c - servers in Python that we start, watch, restart and end: what llama-cpp-python and Transformers share.
 *
 *     we ── pipe ──► a supervisor, a small Python program ── starts, watches, ends ──► the server, a process group of its own
 *        ◄─ reports ─┘                                    └── its output ──► a log file of bounded size
 *
 * The supervisor is in Python because Python is there wherever such a server is: a program that only loads our library has no
 * command that it could start. It ends the whole group when the pipe ends, when its parent is gone, and on SIGTERM, so nothing is
 * left behind even where we are killed; on Linux the server dies with its supervisor besides.
 *
 * The server is on a free port of 127.0.0.1. Between our choice of the port and its bind somebody else may take it. So nothing is
 * sent to that port before the server itself has said, on its own output, that it listens there (uvicorn's "running on"); a
 * server that could not bind ends, and another port is tried.
 *
 * It runs in "/", since Python looks for modules in the folder that it is started in. */
#include "backend/backend_int.h"
#include "hub/hub.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PYTHON_MS 20000 /* for its look at the packages, where somebody waits for an answer anyway */
#define START_S 600     /* a large model comes from a slow disk */
#define LOG_BYTES "1048576"
#define LOGS_KEPT 8
#define GRACE_MS 5000 /* the supervisor kills the group after 1.5 s */
#define PORTS 3       /* so many are tried */

/* argv: bytes of the log, what the server says when it is ready, the server's command. 0: our pipe, 1: reports, 2: the log. */
static const char supervisor[] =
    "import os, select, signal, sys, time\n"
    "limit, marker, argv, parent = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3:], os.getppid()\n"
    "def leave(*_): raise SystemExit\n"
    "def tell(text):\n"
    "    try: os.write(1, (text + '\\n').encode())\n"
    "    except OSError: pass\n"
    "def keep(data):\n"
    "    try:\n"
    "        size = os.fstat(2).st_size\n"
    "        if size + len(data) > limit:\n"
    "            rest = os.pread(2, limit // 2, max(0, size - limit // 2))\n"
    "            os.ftruncate(2, 0)\n"
    "            os.write(2, b'...\\n' + rest)\n"
    "        os.write(2, data)\n"
    "    except OSError: pass\n"
    "def begin(out):\n"
    "    try:\n"
    "        os.setpgid(0, 0)\n"
    "        for s in (signal.SIGTERM, signal.SIGCHLD): signal.signal(s, signal.SIG_DFL)\n"
    "        if sys.platform == 'linux':\n"
    "            import ctypes\n"
    "            ctypes.CDLL(None).prctl(1, 9)\n" /* PR_SET_PDEATHSIG, SIGKILL */
    "        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)\n"
    "        os.dup2(out, 1)\n"
    "        os.dup2(out, 2)\n"
    "        os.execv(argv[0], argv)\n"
    "    except BaseException as e: os.write(2, ('%s: %s\\n' % (argv[0], e)).encode())\n"
    "    os._exit(127)\n"
    "def send(sign):\n"
    "    for kill in (os.killpg, os.kill):\n"
    "        try: kill(server, sign)\n"
    "        except OSError: pass\n"
    "out, into = os.pipe()\n"
    "woken, wake = os.pipe()\n"
    "for end in (out, woken, wake): os.set_blocking(end, False)\n"
    "signal.set_wakeup_fd(wake)\n"
    "signal.signal(signal.SIGCHLD, lambda *_: None)\n"
    "server = os.fork()\n"
    "if server == 0: begin(into)\n"
    "os.close(into)\n"
    "signal.signal(signal.SIGTERM, leave)\n"
    "status, seen = None, b''\n"
    "def look(wait):\n"
    "    global marker, seen, status\n"
    "    ready = select.select([0, out, woken], [], [], wait)[0]\n"
    "    if woken in ready: os.read(woken, 4096)\n"
    "    if out in ready:\n"
    "        data = os.read(out, 65536)\n"
    "        keep(data)\n"
    "        seen = (seen + data)[-4096:] if marker else b''\n"
    "        if marker and marker in seen:\n"
    "            tell('ready')\n"
    "            marker = b''\n"
    "        if not data: time.sleep(0.01)\n" /* closed by a server that goes on, or about to end */
    "    if status is None:\n"
    "        pid, code = os.waitpid(server, os.WNOHANG)\n"
    "        if pid: status = code\n"
    "    return ready\n"
    "try:\n"
    "    tell('pid %d' % server)\n"
    "    while status is None and 0 not in look(1) and os.getppid() == parent: pass\n"
    "finally:\n"
    "    if status is None: send(signal.SIGTERM)\n"
    "    until = time.monotonic() + 1.5\n"
    "    while status is None and time.monotonic() < until:\n"
    "        time.sleep(0.01)\n"
    "        look(0)\n"
    "    send(signal.SIGKILL)\n"
    "    if status is None: status = os.waitpid(server, 0)[1]\n"
    "    for _ in range(64): look(0)\n"
    "    sign = status & 127\n"
    "    tell('ended signal %d' % sign if sign else 'ended exit status %d' % (status >> 8))\n";

typedef struct pyserver {
    const we_pyserver_kind *kind;
    we_python python;
    we_child *child; /* the supervisor; NULL: nothing runs */
    int64_t pid;     /* of the server's group; 0: unknown */
    bool ready, ended;
    char end[64]; /* how it ended, for people */
    we_buf reports;
    char *log;  /* its file */
    char *path; /* of the model that it runs */
    char base[64];
} pyserver;

/* ---- Handles ---- */

we_status we_pyserver_open(we_backend *b, const we_pyserver_kind *kind, we_error *err)
{
    pyserver *s = we_calloc(1, sizeof *s);
    if (!s) return we_fail(err, WE_E_NOMEM, "no memory for a backend");
    s->kind = kind;
    b->own = s;
    return we_server_open(b, err);
}

static void take_key(we_backend *b, char *key)
{
    we_free((char *)b->options.api_key);
    b->options.api_key = key;
}

static void stop(we_backend *b)
{
    pyserver *s = b->own;
    if (s->child) we_log(backend, INFO, "%s: its server is ended", b->row->name);
    we_child_close(s->child, GRACE_MS);
    s->child = NULL;
    if (s->pid && !s->end[0]) kill(-(pid_t)s->pid, SIGKILL); /* its supervisor is gone and did not say that it ended */
    s->pid = 0;
    we_free(s->log);
    we_free(s->path);
    s->log = s->path = NULL;
    we_buf_deinit(&s->reports);
    take_key(b, NULL);
    b->base = b->target.base;
}

void we_pyserver_close(we_backend *b)
{
    if (b->own) stop(b);
    we_server_close(b);
    we_free(b->own);
}

/* ---- Commands ---- */

static void put(we_command *c, const char **list, size_t *n, size_t room, const char *format, va_list args)
{
    char text[9000]; /* a model's path and a name before it */
    const int len = vsnprintf(text, sizeof text, format, args);
    const char *copy = len < 0 || len >= (int)sizeof text ? NULL : we_arena_strndup(&c->arena, text, (size_t)len);
    c->failed = c->failed || !copy || *n + 1 >= room;
    if (!c->failed) list[(*n)++] = copy;
}

void we_command_arg(we_command *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put(c, c->argv, &c->n_argv, WE_COUNT(c->argv), format, args);
    va_end(args);
}

void we_command_env(we_command *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put(c, c->env, &c->n_env, WE_COUNT(c->env), format, args);
    va_end(args);
}

/* ---- What is needed ---- */

static int free_port(we_error *err) /* 0: none */
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 &&
                    getsockname(fd, (struct sockaddr *)&at, &len) == 0;
    if (fd >= 0) close(fd);
    if (!ok) we_fail(err, WE_E_IO, "no free port on 127.0.0.1");
    return ok ? ntohs(at.sin_port) : 0;
}

static char *random_key(void) /* we_free; NULL: none */
{
    unsigned char bytes[32];
    char text[2 * sizeof bytes + 1];
    if (getentropy(bytes, sizeof bytes) != 0) return NULL;
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return we_strdup(text);
}

typedef struct logs {
    const char *prefix;
    char *names[256];
    size_t n;
} logs;

static bool collect_log(void *user, const char *name)
{
    logs *l = user;
    if (strncmp(name, l->prefix, strlen(l->prefix)) == 0 && l->n < WE_COUNT(l->names))
        l->n += (l->names[l->n] = we_strdup(name)) != NULL;
    return true;
}

/* Names hold the time, so that they come sorted by it. A log that is still written to may go: its writer keeps the file. */
static void forget_old_logs(const char *dir, const char *prefix)
{
    logs l = { .prefix = prefix };
    we_dir_each(dir, collect_log, &l, NULL);
    for (size_t i = 0; i < l.n; i++) {
        char *path = i + LOGS_KEPT <= l.n ? we_path_join(dir, l.names[i]) : NULL;
        if (path) unlink(path);
        we_free(path);
        we_free(l.names[i]);
    }
}

/* A new file, ours alone; its descriptor, -1 on failure. */
static int open_log(const we_backend *b, char **path, we_error *err)
{
    static atomic_uint count;
    char prefix[32], name[128], when[32] = "";
    struct tm tm;
    const time_t now = time(NULL);
    char *cache = we_dir_user_cache(), *dir = cache ? we_path_join(cache, "logs") : NULL;
    int fd = -1;
    *path = NULL;
    if (!dir) {
        we_fail(err, WE_E_IO, "%s: no place for its server's log: HOME and XDG_CACHE_HOME are not set", b->row->name);
    } else if (!we_dir_make(dir, 0700, err)) {
        snprintf(prefix, sizeof prefix, "%s-", b->row->id);
        forget_old_logs(dir, prefix);
        if (gmtime_r(&now, &tm)) strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
        snprintf(name, sizeof name, "%s%s-%ld-%u.log", prefix, when, (long)getpid(), atomic_fetch_add(&count, 1));
        *path = we_path_join(dir, name);
        if (*path) fd = open(*path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0) we_fail(err, WE_E_IO, "%s: its server's log can't be made in %s", b->row->name, dir);
    }
    we_free(dir);
    we_free(cache);
    return fd;
}

typedef struct near_names {
    const we_pyserver_kind *kind;
    we_nearest nearest;
} near_names;

static bool add_near(void *user, const we_hub_entry *entry)
{
    near_names *n = user;
    if (n->kind->runs(entry->path)) we_nearest_add(&n->nearest, we_str_from(entry->name));
    return true;
}

static we_status no_model(const we_backend *b, const char *name, we_error *err)
{
    const pyserver *s = b->own;
    near_names n = { s->kind, { .wanted = we_str_from(name) } };
    we_buf near = { 0 };
    we_hub_each(add_near, &n, NULL);
    const bool any = we_nearest_write(&n.nearest, &near) && near.ptr;
    we_fail(err, WE_E_NOT_FOUND,
            "%s: there is no %s \"%s\"%s%s; `whisperengine list --all` shows the models on this machine", b->row->name,
            s->kind->models, name, any ? "; did you mean " : "", any ? near.ptr : "");
    we_buf_deinit(&near);
    return WE_E_NOT_FOUND;
}

/* The model: a path, or the name of one that is listed. */
static we_status find_model(const we_backend *b, const char *name, char **path, we_error *err)
{
    const pyserver *s = b->own;
    we_status st = we_hub_find(name, path, err);
    if (st == WE_E_NOT_FOUND) return no_model(b, name, err);
    if (!st && !s->kind->runs(*path)) {
        we_error why;
        st = s->kind->check(*path, &why);
        we_free(*path);
        *path = NULL;
        return we_fail(err, st, "%s can't run %s: %s", b->row->name, name, why.message);
    }
    return st;
}

/* ---- Its life ---- */

static void take_report(pyserver *s, const char *line)
{
    long long pid;
    if (sscanf(line, "pid %lld", &pid) == 1 && pid > 1) s->pid = pid;
    if (strcmp(line, "ready") == 0) s->ready = true;
    if (strncmp(line, "ended ", 6) == 0) snprintf(s->end, sizeof s->end, "%s", line + 6);
}

/* Take what the supervisor says, waiting for it at most so long. */
static void look(pyserver *s, int wait_ms)
{
    if (s->ended) return;
    const we_child_got got = we_child_read(s->child, &s->reports, wait_ms);
    char *line = s->reports.ptr, *end;
    while (line && (end = strchr(line, '\n'))) {
        *end = 0;
        take_report(s, line);
        line = end + 1;
    }
    if (line && line != s->reports.ptr) {
        const size_t rest = strlen(line);
        memmove(s->reports.ptr, line, rest + 1);
        s->reports.len = rest;
    }
    s->ended = got == WE_CHILD_ENDED || s->end[0] || s->reports.len > 4096;
}

static bool lives(pyserver *s, int wait_ms)
{
    if (!s->child) return false;
    const double until_s = we_now_s() + wait_ms / 1000.0;
    do look(s, wait_ms ? 20 : 0);
    while (!s->ended && we_now_s() < until_s);
    return !s->ended;
}

/* The end of its log, a few lines, for a message; "" where there is none. */
static const char *last_lines(const pyserver *s, char out[640])
{
    enum { MOST = 480, LINES = 8 };
    char *text = NULL;
    size_t len = 0;
    out[0] = 0;
    if (!s->log || we_file_read(s->log, (size_t)4 << 20, &text, &len, NULL)) return out;
    while (len && (unsigned char)text[len - 1] <= ' ') len--;
    size_t start = len;
    for (int lines = 0; start && len - start < MOST; start--)
        if (text[start - 1] == '\n' && ++lines == LINES) break;
    while (start < len && we_utf8_valid((we_str){ text + start, len - start }) == 0) start++;
    we_str_clean(out, 640, (we_str){ text + start, len - start });
    we_free(text);
    return out;
}

static bool says(const pyserver *s, const char *words)
{
    char *text = NULL;
    const bool found = s->log && !we_file_read(s->log, (size_t)4 << 20, &text, NULL, NULL) && strstr(text, words);
    we_free(text);
    return found;
}

static we_status fail(we_backend *b, we_status st, const char *what, we_error *err)
{
    char lines[640];
    const pyserver *s = b->own;
    last_lines(s, lines);
    return we_fail(err, st, "%s's server %s.%s%s%s%s", b->row->name, what, lines[0] ? " Its last lines:\n" : "", lines,
                   s->log ? "\nIts log: " : "", s->log ? s->log : "");
}

/* It ended by itself: what it said last. The status tells no passing trouble where it never came up. */
static we_status fail_dead(we_backend *b, we_status st, const char *when, we_error *err)
{
    char what[160];
    const pyserver *s = b->own;
    snprintf(what, sizeof what, "ended %s (%s)", when, s->end[0] ? s->end : "its supervisor is gone");
    return fail(b, st, what, err);
}

static bool cancelled(const we_backend *b) { return atomic_load(&b->cancel); }

static we_status wait_ready(we_backend *b, we_error *err)
{
    pyserver *s = b->own;
    const int limit_s = b->options.idle_timeout_s ? b->options.idle_timeout_s : START_S;
    const double until_s = we_now_s() + limit_s;
    char what[96];
    while (!s->ended && !s->ready && !cancelled(b)) {
        if (limit_s > 0 && we_now_s() > until_s) {
            snprintf(what, sizeof what, "is not ready after %d s", limit_s);
            return fail(b, WE_E_IO, what, err);
        }
        look(s, 50);
    }
    if (cancelled(b)) return we_fail(err, WE_E_CANCELLED, "stopped");
    if (s->ended) return fail_dead(b, WE_E_IO, "at its start", err);
    we_net_response response = { 0 };
    const we_status st =
        we_server_send(b, &(we_server_call){ .path = s->kind->health, .timeout_ms = 30000 }, &response, err);
    const int status = response.status;
    we_net_response_deinit(&response);
    if (st == WE_E_CANCELLED) return st;
    if (!st && status / 100 == 2) return WE_OK;
    if (!lives(s, 500)) return fail_dead(b, WE_E_IO, "at its start", err);
    return fail(b, WE_E_FORMAT, "runs, but does not answer as one", err);
}

static we_status start_at(we_backend *b, int port, we_error *err)
{
    pyserver *s = b->own;
    we_command c = { 0 };
    char *key = s->kind->takes_key ? random_key() : NULL;
    if (s->kind->takes_key && !key) return we_fail(err, WE_E_IO, "no random numbers for a key");
    take_key(b, key);
    s->ready = s->ended = false;
    s->pid = 0;
    s->end[0] = 0;
    we_buf_clear(&s->reports);
    snprintf(s->base, sizeof s->base, "http://127.0.0.1:%d", port);
    b->base = s->base;
    static const char *const before[] = { "-I", "-S", "-c", supervisor, LOG_BYTES, "running on http" };
    static const char *const secrets[] = { "LLM_CHAT_API_KEY", "OPENAI_API_KEY", "LM_API_TOKEN", "HF_TOKEN",
                                           "HUGGING_FACE_HUB_TOKEN" };
    we_command_arg(&c, "%s", s->python.python);
    for (size_t i = 0; i < WE_COUNT(before); i++) we_command_arg(&c, "%s", before[i]);
    we_command_arg(&c, "%s", s->python.python);
    for (size_t i = 0; i < WE_COUNT(secrets); i++) we_command_env(&c, "%s", secrets[i]);
    we_command_env(&c, "PYTHONUNBUFFERED=1");
    we_command_env(&c, "PYTHONSAFEPATH=1");
    s->kind->command(b, s->path, port, key ? key : "", &c);
    we_free(s->log);
    int log = -1;
    we_status st = c.failed ? we_fail(err, WE_E_NOMEM, "no memory to start a server") : WE_OK;
    if (!st && (log = open_log(b, &s->log, err)) < 0) st = WE_E_IO;
    if (!st)
        st = we_child_open(&s->child, &(we_child_options){ .argv = c.argv, .env = c.env, .dir = "/", .log = log }, err);
    if (log >= 0) close(log);
    we_arena_deinit(&c.arena);
    if (st) return st;
    we_log(backend, INFO, "%s %s: %s starts for %s, its log is %s", b->row->name, s->python.version, s->base, s->path,
           s->log);
    return wait_ready(b, err);
}

static we_status start(we_backend *b, we_error *err)
{
    pyserver *s = b->own;
    char *name = NULL, *path = NULL;
    we_status st = we_python_find(&s->python, s->kind->package, PYTHON_MS, &b->cancel, err);
    if (!st) st = we_server_model(b, &name, err);
    if (!st) st = find_model(b, name, &path, err);
    we_free(name);
    for (int i = 0; i < PORTS && !st; i++) {
        const int port = free_port(err);
        if (!port) st = WE_E_IO;
        if (!st) s->path = we_strdup(path);
        if (!st && !s->path) st = we_fail(err, WE_E_NOMEM, "no memory for a path");
        if (!st) st = start_at(b, port, err);
        if (!st) break;
        const bool taken = s->ended && (says(s, "ddress already in use") || says(s, "Errno 98") || says(s, "Errno 48"));
        stop(b);
        if (!taken || i + 1 == PORTS) break;
        we_log(backend, INFO, "%s: port %d was taken meanwhile", b->row->name, port);
        st = WE_OK;
    }
    we_free(path);
    return st;
}

/* *load_s: how long it took, where it had to be started. */
static we_status ensure(we_backend *b, double *load_s, we_error *err)
{
    pyserver *s = b->own;
    const double start_s = we_now_s();
    if (lives(s, 0)) return WE_OK;
    if (s->child) {
        we_log(backend, WARN, "%s's server has ended (%s) and is started again", b->row->name, s->end);
        stop(b);
    }
    const we_status st = start(b, err);
    *load_s = we_now_s() - start_s;
    return st;
}

we_status we_pyserver_load(we_backend *b, we_error *err)
{
    double load_s;
    return ensure(b, &load_s, err);
}

we_status we_pyserver_unload(we_backend *b, we_error *err)
{
    (void)err;
    stop(b);
    return WE_OK;
}

/* ---- Inspecting ---- */

typedef struct listing {
    const pyserver *s;
    we_backend_report *report;
    double until_s;
    bool failed;
} listing;

static bool list_model(void *user, const we_hub_entry *entry)
{
    listing *l = user;
    if (l->until_s > 0 && we_now_s() > l->until_s) return false; /* a slow disk: what is known by then */
    if (!l->s->kind->runs(entry->path)) return true;
    we_backend_model *m = we_report_add(l->report, we_str_from(entry->name));
    if (!m) return l->failed = true, false;
    if (!we_path_is_dir(entry->path)) m->bytes = we_path_size(entry->path);
    m->loaded = l->s->child && l->s->path && strcmp(l->s->path, entry->path) == 0;
    return true;
}

we_status we_pyserver_inspect(we_backend *b, we_backend_report *report, int wait_ms, we_error *err)
{
    pyserver *s = b->own;
    we_python python;
    const double start_s = we_now_s();
    we_status st = we_python_find(&python, s->kind->package, wait_ms ? wait_ms : PYTHON_MS, &b->cancel, err);
    if (st) return st;
    if (s->child) lives(s, 0);
    listing l = { s, report, wait_ms ? start_s + wait_ms / 1000.0 : 0, false };
    st = we_hub_each(list_model, &l, err);
    report->latency_ms = (we_now_s() - start_s) * 1000;
    report->version = we_arena_strndup(&report->arena, python.version, strlen(python.version));
    const size_t n = report->n_models;
    report->reason =
        n ? we_arena_printf(&report->arena, "installed in %s, %zu %s%s", python.python, n, s->kind->models,
                            n == 1 ? "" : "s")
          : we_arena_printf(&report->arena, "installed in %s, but no %s is known here", python.python, s->kind->models);
    if (!st && (l.failed || !report->reason || !report->version))
        st = we_fail(err, WE_E_NOMEM, "no memory for a list of models");
    return st;
}

/* ---- Answering ---- */

static we_status answer_once(we_backend *b, const we_backend_ask *ask, const we_generate_options *o,
                             we_backend_reply *reply, we_error *err)
{
    pyserver *s = b->own;
    we_status st = ensure(b, &reply->load_s, err);
    if (!st) st = we_server_model(b, &reply->model, err);
    if (st) return st;
    const double load_s = reply->load_s;
    st = we_openai_answer(b, &s->kind->flavour, s->kind->asks_by_path ? s->path : reply->model, ask, o, reply, err);
    reply->load_s = load_s;
    return st;
}

/* One that dies before it said anything is started again, once. Where words of its answer were seen, the caller decides: it has
 * them, and the server can't go on behind them. */
we_status we_pyserver_answer(we_backend *b, const we_backend_ask *ask, const we_generate_options *o,
                             we_backend_reply *reply, we_error *err)
{
    pyserver *s = b->own;
    for (int attempt = 0;; attempt++) {
        const we_status st = answer_once(b, ask, o, reply, err);
        if (st != WE_E_NETWORK || cancelled(b) || !s->child || lives(s, 2000)) return st;
        const bool said = reply->result.len > 0 || reply->reasoning;
        if (said || attempt) {
            fail_dead(b, said ? WE_E_NETWORK : WE_E_IO, "in the middle of its answer", err);
            stop(b);
            return said ? WE_E_NETWORK : WE_E_IO;
        }
        we_log(backend, WARN, "%s's server ended (%s) before it answered and is started again", b->row->name, s->end);
        stop(b);
        we_backend_reply_deinit(reply);
        reply->result.size = sizeof reply->result;
    }
}
