/* SPDX-License-Identifier: Apache-2.0
 * cache.c - huggingface_hub's layout on disk: finding a revision's folder, putting links and refs. What comes from the hub
 * (the names of files) is walked with openat and O_NOFOLLOW, so that no link that lies there leads out of the cache. */
#include "hub/hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

char *we_hub_join(const char *a, const char *b, const char *c)
{
    char *ab = we_path_join(a, b), *abc = ab ? we_path_join(ab, c) : NULL;
    we_free(ab);
    return abc;
}

bool we_hub_has_config(const char *dir)
{
    char *config = we_path_join(dir, "config.json");
    const bool there = config && we_path_exists(config);
    we_free(config);
    return there;
}

static const char repo_prefix[] = "models--";

char *we_hub_repo_of(const char *folder)
{
    if (strncmp(folder, repo_prefix, sizeof repo_prefix - 1) != 0) return NULL;
    char *name = we_strdup(folder + sizeof repo_prefix - 1), *dashes = name ? strstr(name, "--") : NULL;
    if (!dashes) return name;
    *dashes = '/';
    memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    return name;
}

/* ---- Revisions ---- */

typedef struct prefix_search {
    const char *prefix;
    char *found; /* NULL: none; several: the first */
} prefix_search;

static bool match_prefix(void *user, const char *name)
{
    prefix_search *s = user;
    if (!WE_HUB_IS_COMMIT(we_str_from(name)) || !we_str_starts_with(we_str_from(name), we_str_from(s->prefix)))
        return true;
    s->found = we_strdup(name);
    return false;
}

/* The commit that refs/REVISION names, or that begins as `revision` does; we_free. */
static char *commit_of(const char *root, const char *revision)
{
    char *ref_path = we_hub_join(root, "refs", revision), *ref = NULL;
    size_t len = 0;
    if (ref_path && !we_file_read(ref_path, 256, &ref, &len, NULL))
        while (len && (ref[len - 1] == '\n' || ref[len - 1] == ' ')) ref[--len] = 0;
    we_free(ref_path);
    if (ref && len && !strchr(ref, '/') && ref[0] != '.') return ref;
    we_free(ref);
    prefix_search search = { revision, NULL };
    char *snapshots = strlen(revision) >= 7 ? we_path_join(root, "snapshots") : NULL;
    if (snapshots && we_path_is_dir(snapshots)) we_dir_each(snapshots, match_prefix, &search, NULL);
    we_free(snapshots);
    return search.found;
}

char *we_hub_snapshot(const char *cache, const char *folder, const char *revision)
{
    if (!we_hub_path_is_safe(we_str_from(revision))) return NULL;
    char *root = we_path_join(cache, folder), *commit = root ? commit_of(root, revision) : NULL;
    char *dir = commit ? we_hub_join(root, "snapshots", commit) : NULL;
    we_free(commit);
    we_free(root);
    if (dir && we_path_is_dir(dir)) return dir;
    we_free(dir);
    return NULL;
}

we_status we_hub_write_ref(const char *root, const char *revision, const char *commit, we_error *err)
{
    if (strcmp(revision, commit) == 0) return WE_OK; /* a commit needs no ref */
    char *path = we_hub_join(root, "refs", revision), *before = NULL;
    char *dir = path ? we_strndup(path, (size_t)(we_path_base(path) - path)) : NULL;
    size_t len = 0;
    we_status st = dir ? we_dir_make(dir, 0777, err) : we_fail(err, WE_E_NOMEM, "no memory for a path");
    /* A ref that says so already is left alone: the folder may be another user's. */
    if (!st && (we_file_read(path, 256, &before, &len, NULL) || !we_str_is((we_str){ before, len }, commit)))
        st = we_file_write(path, commit, strlen(commit), 0666, err);
    we_free(before);
    we_free(dir);
    we_free(path);
    return st;
}

/* ---- Links ---- */

static we_status io_error(const char *root, const char *path, const char *what, we_error *err)
{
    const int code = errno;
    if (code == ELOOP || code == ENOTDIR || code == EMLINK)
        return we_fail(err, WE_E_FORMAT, "%s: %s passes through a link or a file there; remove it and pull again", root,
                       path);
    return we_fail(err, WE_E_IO, "%s: %s %s: %s", root, path, what, strerror(code));
}

/* The folder `name` below `at`, made where it is not there. */
static int open_below(int at, const char *name)
{
    const int there = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (there >= 0 || errno != ENOENT) return there;
    if (mkdirat(at, name, 0777) != 0 && errno != EEXIST) return -1;
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Make `name` in `at` a link to `target`: a new one beside it, renamed over what is there. */
static int replace_link(int at, const char *name, const char *target)
{
    char beside[300];
    snprintf(beside, sizeof beside, "%s.%ld.tmp", name, (long)getpid());
    unlinkat(at, beside, 0);
    if (symlinkat(target, at, beside) != 0) return -1;
    if (renameat(at, beside, at, name) == 0) return 0;
    const int code = errno;
    unlinkat(at, beside, 0);
    errno = code;
    return -1;
}

static bool links_to(int at, const char *name, const char *target)
{
    char now[4096];
    const ssize_t n = readlinkat(at, name, now, sizeof now);
    return n >= 0 && we_str_is((we_str){ now, (size_t)n }, target);
}

we_status we_hub_link(const char *root, const char *commit, const char *path, const char *blob, we_error *err)
{
    we_status st = WE_OK;
    we_buf target = { 0 };
    char *rest = we_strdup(path), *name = rest;
    int at = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *const above[] = { "snapshots", commit };
    if (!rest) st = we_fail(err, WE_E_NOMEM, "%s: no memory for its path", path);
    if (!st && at < 0) st = io_error(root, path, "cannot be linked", err);
    we_buf_append_str(&target, WE_STR("../../"));
    for (size_t depth = 0; !st; depth++) {
        char *slash = depth < WE_COUNT(above) ? NULL : strchr(name, '/');
        if (depth >= WE_COUNT(above) && !slash) break;
        if (slash) *slash = 0, we_buf_append_str(&target, WE_STR("../"));
        const int below = open_below(at, slash ? name : above[depth]);
        if (below < 0) st = io_error(root, path, "cannot be linked", err);
        close(at);
        at = below;
        if (slash) name = slash + 1;
    }
    we_buf_printf(&target, "blobs/%s", blob);
    if (!st) st = we_buf_status(&target, err, "a link");
    if (!st && !links_to(at, name, target.ptr) && replace_link(at, name, target.ptr) != 0)
        st = io_error(root, path, "cannot be linked", err);
    if (at >= 0) close(at);
    we_buf_deinit(&target);
    we_free(rest);
    return st;
}
