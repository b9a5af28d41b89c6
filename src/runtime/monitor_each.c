/* SPDX-License-Identifier: Apache-2.0
 * monitor_each.c - the pages of figures of all processes that run a model: where they lie, reading them without believing them,
 * removing those of processes that are gone. */
#include "runtime/monitor_int.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Places ---- */

/* Ours alone, and no link: a folder below /tmp may be anybody's. */
static we_status check_private(const char *path, we_error *err)
{
    struct stat info;
    if (lstat(path, &info) != 0) return we_fail(err, WE_E_NOT_FOUND, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)))
        return we_fail(err, WE_E_IO, "%s is not a folder of this user's alone: remove it, or set its mode to 0700",
                       path);
    return WE_OK;
}

we_status we_monitor_dir(int place, bool make, char **path, we_error *err)
{
    const char *session = getenv("XDG_RUNTIME_DIR");
    we_buf at = { 0 };
    *path = NULL;
    if (place == 0 && (!session || session[0] != '/'))
        return we_fail(err, WE_E_NOT_FOUND, "XDG_RUNTIME_DIR is not set");
    if (place == 0)
        we_buf_printf(&at, "%s/whisperengine", session);
    else
        we_buf_printf(&at, "/tmp/whisperengine-%u", (unsigned)geteuid());
    we_status st = we_buf_status(&at, err, "a path");
    if (!st && make && mkdir(at.ptr, 0700) != 0 && errno != EEXIST)
        st = we_fail(err, WE_E_IO, "%s: %s", at.ptr, strerror(errno));
    if (!st) st = check_private(at.ptr, err);
    if (!st) *path = we_buf_take(&at, NULL);
    we_buf_deinit(&at);
    return st;
}

void we_monitor_name(char out[64], uint64_t pid, uint64_t start)
{
    snprintf(out, 64, "%" PRIu64 "-%" PRIu64 ".stats", pid, start);
}

bool we_monitor_name_parse(const char *name, uint64_t *pid, uint64_t *start)
{
    char same[64];
    const char *dash = strchr(name, '-');
    const size_t pid_len = dash ? (size_t)(dash - name) : 0, start_len = dash ? strcspn(dash + 1, ".") : 0;
    int64_t p, s;
    if (!dash || !we_parse_i64((we_str){ name, pid_len }, &p) || !we_parse_i64((we_str){ dash + 1, start_len }, &s) ||
        p <= 0 || s < 0)
        return false;
    *pid = (uint64_t)p;
    *start = (uint64_t)s;
    we_monitor_name(same, *pid, *start);
    return strcmp(name, same) == 0;
}

/* ---- Reading ---- */

/* read, not mapped: a page that is cut short meanwhile is an error then, and no signal. */
static bool read_at(int fd, void *out, size_t size, size_t at)
{
    return pread(fd, out, size, (off_t)at) == (ssize_t)size;
}

we_status we_monitor_read(const char *path, we_monitor_page *out, we_error *err)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return we_fail(err, WE_E_IO, "%s: %s", path, strerror(errno));
    bool ok = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
              info.st_size == (off_t)sizeof *out;
    bool steady = false;
    for (int tries = 0; ok && !steady && tries < 100; tries++) { /* the texts change when a model opens: hardly ever */
        uint64_t before = 0, after = 0;
        const size_t at = offsetof(we_monitor_page, sequence);
        ok = read_at(fd, &before, sizeof before, at) && read_at(fd, out, sizeof *out, 0) &&
             read_at(fd, &after, sizeof after, at);
        steady = before == after && before % 2 == 0;
    }
    close(fd);
    return ok && steady ? WE_OK
                        : we_fail(err, WE_E_FORMAT, "%s is not a page of figures that this version can read", path);
}

static bool is_text(const char *text, size_t size) { return memchr(text, '\0', size) != NULL; }

we_status we_monitor_parse(we_str bytes, uint64_t pid, uint64_t start, we_monitor_info *out, we_error *err)
{
    enum { MOST_REQUESTS = 1 << 24 };
    const uint64_t most = UINT64_C(1) << 53; /* bytes, tokens, rates: what a double still counts exactly */
    we_monitor_page p;
    if (bytes.len != sizeof p)
        return we_fail(err, WE_E_FORMAT, "a page of %zu bytes, expected %zu", bytes.len, sizeof p);
    memcpy(&p, bytes.ptr, sizeof p);
    if (memcmp(p.magic, (const char[])WE_MONITOR_MAGIC, sizeof p.magic) != 0 || p.version != WE_MONITOR_VERSION ||
        p.size != sizeof p)
        return we_fail(err, WE_E_FORMAT, "a page of another version");
    if (p.pid != pid || p.start != start) return we_fail(err, WE_E_FORMAT, "a page of another process");
    if (!is_text(p.model, sizeof p.model) || !is_text(p.device, sizeof p.device))
        return we_fail(err, WE_E_FORMAT, "a text without an end");
    uint64_t n[WE_MONITOR_COUNTS];
    for (int i = 0; i < WE_MONITOR_COUNTS; i++) {
        n[i] = atomic_load_explicit(&p.counts[i], memory_order_relaxed);
        const bool few = i == WE_MONITOR_MODELS || i == WE_MONITOR_WAITING || i == WE_MONITOR_RUNNING;
        if (n[i] > (few ? MOST_REQUESTS : most))
            return we_fail(err, WE_E_FORMAT, "figure %d of the page is %" PRIu64, i, n[i]);
    }
    *out = (we_monitor_info){
        .size = sizeof *out,
        .pid = (int64_t)pid,
        .n_models = (size_t)n[WE_MONITOR_MODELS],
        .weights_bytes = n[WE_MONITOR_WEIGHTS_BYTES],
        .kv_bytes = n[WE_MONITOR_KV_BYTES],
        .scratch_bytes = n[WE_MONITOR_SCRATCH_BYTES],
        .n_waiting = (size_t)n[WE_MONITOR_WAITING],
        .n_running = (size_t)n[WE_MONITOR_RUNNING],
        .n_done = n[WE_MONITOR_DONE],
        .n_failed = n[WE_MONITOR_FAILED],
        .n_prompt_tokens = n[WE_MONITOR_PROMPT_TOKENS],
        .n_cached_tokens = n[WE_MONITOR_CACHED_TOKENS],
        .n_generated_tokens = n[WE_MONITOR_GENERATED_TOKENS],
        .prompt_tokens_per_second = (double)n[WE_MONITOR_PROMPT_RATE] / 1000,
        .generation_tokens_per_second = (double)n[WE_MONITOR_GENERATION_RATE] / 1000,
        .time_to_first_token_s = (double)n[WE_MONITOR_FIRST_TOKEN_US] / 1e6,
    };
    we_str_clean(out->model, sizeof out->model, we_str_from(p.model));
    we_str_clean(out->device, sizeof out->device, we_str_from(p.device));
    return WE_OK;
}

void we_monitor_complete(we_monitor_info *info, const we_process *process)
{
    we_memory_info memory = { .size = sizeof memory };
    we_str_clean(info->program, sizeof info->program, we_str_from(process->name));
    info->resident_bytes = process->resident_bytes;
    if (we_system_memory(&memory, NULL)) return; /* the figures stay 0 */
    info->system_total_bytes = memory.total_bytes;
    info->system_available_bytes = memory.available_bytes;
}

/* ---- All of them ---- */

typedef struct walk {
    const char *dir;
    we_monitor_fn fn; /* NULL: only tidy */
    void *user;
    bool stopped, out_of_memory;
} walk;

static bool visit(void *user, const char *name)
{
    walk *w = user;
    uint64_t pid, start;
    we_process process;
    we_monitor_page page;
    we_monitor_info info;
    we_error why;
    if (!we_monitor_name_parse(name, &pid, &start)) return true; /* not ours */
    char *path = we_path_join(w->dir, name);
    if (!path) return w->out_of_memory = true, false;
    const bool alive = we_system_process((int64_t)pid, &process) && process.start == start;
    if (!alive) {
        unlink(path);
    } else if (w->fn) {
        we_status st = we_monitor_read(path, &page, &why);
        if (!st) st = we_monitor_parse((we_str){ (const char *)&page, sizeof page }, pid, start, &info, &why);
        if (st) {
            we_log(runtime, INFO, "%s is left out: %s", path, why.message);
        } else {
            we_monitor_complete(&info, &process);
            w->stopped = !w->fn(w->user, &info);
        }
    }
    we_free(path);
    return !w->stopped;
}

we_status we_monitor_each_process(we_monitor_fn fn, void *user, we_error *err)
{
    walk w = { .fn = fn, .user = user };
    for (int place = 0; place < WE_MONITOR_PLACES && !w.stopped; place++) {
        char *dir;
        if (we_monitor_dir(place, false, &dir, NULL)) continue;
        w.dir = dir;
        we_dir_each(dir, visit, &w, NULL);
        we_free(dir);
        if (w.out_of_memory) return we_fail(err, WE_E_NOMEM, "no memory for the list of processes");
    }
    return WE_OK;
}

void we_monitor_tidy(void) { we_monitor_each_process(NULL, NULL, NULL); }
