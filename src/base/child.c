/* SPDX-License-Identifier: Apache-2.0
 * child.c - starting and ending programs.
 *
 * fork and exec, not posix_spawn: that one knows no portable way to a session, a folder and closed descriptors. Other threads
 * may hold any lock while we fork, so between fork and exec only functions that signal handlers may call are used, and all
 * that needs memory is made before. */
#include "base/child.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

extern char **environ;

struct we_child {
    pid_t pid;         /* 0: it was waited for */
    int input, output; /* ours of the pipes; -1: closed */
};

/* ---- Starting ---- */

static bool is_named(const char *entry, const char *name, size_t len)
{
    return strncmp(entry, name, len) == 0 && (entry[len] == '=' || !entry[len]);
}

/* Our environment with the changes, as an array whose texts are borrowed; we_free. NULL: memory is out. */
static const char **changed_environment(const char *const *changes)
{
    size_t n = 0, n_changes = 0;
    while (environ[n]) n++;
    while (changes && changes[n_changes]) n_changes++;
    const char **out = we_calloc(n + n_changes + 1, sizeof *out);
    size_t at = 0;
    for (size_t i = 0; out && i < n; i++) {
        bool changed = false;
        for (size_t k = 0; k < n_changes && !changed; k++)
            changed = is_named(environ[i], changes[k], strcspn(changes[k], "="));
        if (!changed) out[at++] = environ[i];
    }
    for (size_t k = 0; out && k < n_changes; k++)
        if (strchr(changes[k], '=')) out[at++] = changes[k];
    return out;
}

/* Descriptors of 3 and above but for `kept`. In the child, before exec. */
static void close_others(int kept, long most)
{
#if defined(__linux__) && defined(SYS_close_range)
    if (syscall(SYS_close_range, (unsigned)kept + 1, ~0U, 0U) == 0 &&
        (kept == 3 || syscall(SYS_close_range, 3U, (unsigned)kept - 1, 0U) == 0))
        return;
#endif
    for (int fd = 3; fd < most; fd++)
        if (fd != kept) close(fd);
}

typedef struct plan { /* of the child between fork and exec */
    const char *const *argv, *const *env;
    const char *dir;
    int input, output, log, failure;
    long most_descriptors;
    sigset_t signals;
} plan;

/* A descriptor below 3 would be overwritten while the others are put there. */
static int out_of_the_way(int fd) { return fd < 3 ? fcntl(fd, F_DUPFD, 3) : fd; }

_Noreturn static void become(const plan *p)
{
    struct sigaction usual = { .sa_handler = SIG_DFL };
    const int input = out_of_the_way(p->input), output = out_of_the_way(p->output), log = out_of_the_way(p->log),
              failure = out_of_the_way(p->failure);
    for (int s = 1; s < NSIG; s++) sigaction(s, &usual, NULL);
    setsid();
    if (input >= 0 && output >= 0 && log >= 0 && failure >= 0 && dup2(input, 0) == 0 && dup2(output, 1) == 1 &&
        dup2(log, 2) == 2 && (!p->dir || chdir(p->dir) == 0)) {
        close_others(failure, p->most_descriptors);
        fcntl(failure, F_SETFD, FD_CLOEXEC);
        sigprocmask(SIG_SETMASK, &p->signals, NULL);
        execve(p->argv[0], (char *const *)p->argv, (char *const *)p->env);
    }
    const int why = errno;
    const ssize_t told = write(failure, &why, sizeof why);
    _exit(told == (ssize_t)sizeof why ? 127 : 126);
}

static bool open_pipe(int ends[2])
{
    if (pipe(ends) != 0) {
        ends[0] = ends[1] = -1;
        return false;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return true;
}

static void shut(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* No handler of the program that we are a part of may run in the child. */
static pid_t fork_quietly(plan *p)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &p->signals);
    const pid_t pid = fork();
    if (pid == 0) {
        sigemptyset(&p->signals);
        become(p);
    }
    const int why = errno;
    pthread_sigmask(SIG_SETMASK, &p->signals, NULL);
    errno = why;
    return pid;
}

static we_status failed(const char *program, int why, we_error *err)
{
    const we_status st = why == ENOENT || why == ENOTDIR ? WE_E_NOT_FOUND
                         : why == EACCES || why == EPERM ? WE_E_DENIED
                         : why == ENOMEM                 ? WE_E_NOMEM
                                                         : WE_E_IO;
    return we_fail(err, st, "%s can't be run: %s", program, strerror(why));
}

/* The child tells why it could not become the program; the pipe's end is that it did. */
static int read_failure(int fd)
{
    int why = 0;
    ssize_t n;
    while ((n = read(fd, &why, sizeof why)) < 0 && errno == EINTR) {
    }
    return n == (ssize_t)sizeof why ? why : 0;
}

static void reap(we_child *c, int flags)
{
    pid_t pid;
    while ((pid = waitpid(c->pid, NULL, flags)) < 0 && errno == EINTR) {
    }
    if (pid != 0) c->pid = 0; /* also where somebody else has waited for it (ECHILD) */
}

we_status we_child_open(we_child **out, const we_child_options *o, we_error *err)
{
    int input[2] = { -1, -1 }, output[2] = { -1, -1 }, failure[2] = { -1, -1 }, why = 0, nothing = -1;
    *out = NULL;
    we_child *c = we_calloc(1, sizeof *c);
    const char **env = changed_environment(o->env);
    if (!c || !env) {
        we_free(c);
        we_free(env);
        return we_fail(err, WE_E_NOMEM, "no memory to start %s", o->argv[0]);
    }
    const long most = sysconf(_SC_OPEN_MAX);
    if (o->log < 0) nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (open_pipe(input) && open_pipe(output) && open_pipe(failure) && (o->log >= 0 || nothing >= 0)) {
        plan p = { .argv = o->argv, .env = env, .dir = o->dir, .input = input[0], .output = output[1] };
        p.log = o->log >= 0 ? o->log : nothing;
        p.failure = failure[1];
        p.most_descriptors = most > 0 && most < 65536 ? most : 65536;
        c->pid = fork_quietly(&p);
        why = c->pid < 0 ? errno : 0;
    } else {
        why = errno;
    }
    shut(&input[0]);
    shut(&output[1]);
    shut(&failure[1]);
    shut(&nothing);
    if (!why && (why = read_failure(failure[0]))) reap(c, 0);
    shut(&failure[0]);
    we_free(env);
    c->input = input[1];
    c->output = output[0];
    if (why) {
        shut(&c->input);
        shut(&c->output);
        we_free(c);
        return failed(o->argv[0], why, err);
    }
    fcntl(c->output, F_SETFL, O_NONBLOCK);
    *out = c;
    return WE_OK;
}

/* ---- Reading ---- */

we_child_got we_child_read(we_child *c, we_buf *out, int wait_ms)
{
    char bytes[4096];
    struct pollfd ready = { c->output, POLLIN, 0 };
    if (c->output < 0) return WE_CHILD_ENDED;
    if (poll(&ready, 1, wait_ms) <= 0) return WE_CHILD_SILENT;
    const ssize_t n = read(c->output, bytes, sizeof bytes);
    if (n > 0) {
        we_buf_append(out, bytes, (size_t)n);
        return WE_CHILD_BYTES;
    }
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return WE_CHILD_SILENT;
    shut(&c->output);
    return WE_CHILD_ENDED;
}

/* ---- Ending ---- */

void we_child_close(we_child *c, int grace_ms)
{
    if (!c) return;
    const double until_s = we_now_s() + grace_ms / 1000.0;
    shut(&c->input);
    reap(c, WNOHANG);
    if (c->pid) kill(c->pid, SIGTERM); /* a fork of ours may hold the pipe open */
    while (c->pid && we_now_s() < until_s) {
        poll(NULL, 0, 5);
        reap(c, WNOHANG);
    }
    if (c->pid) {
        kill(-c->pid, SIGKILL);
        kill(c->pid, SIGKILL);
        reap(c, 0);
    }
    shut(&c->output);
    we_free(c);
}
