/* SPDX-License-Identifier: Apache-2.0
 * target.c - a folder that is there whole or not at all: made beside its place under a hidden name, then renamed. A folder
 * that it replaces stays until then, and the two change places in one step where the system can do that.
 *
 * The folder in the making is locked (flock): a later run removes those that nobody holds, which a kill left behind. */
#include "convert/convert_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SUFFIX ".tmp"

static we_status no_memory(const char *path, we_error *err)
{
    return we_fail(err, WE_E_NOMEM, "%s: no memory for its path", path);
}

/* The folder that `path` lies in: "a/b" -> "a", "b" -> ".", "/b" -> "/". */
static char *parent_of(const char *path)
{
    const char *base = we_path_base(path);
    if (base == path) return we_strdup(".");
    const size_t len = (size_t)(base - path);
    return we_strndup(path, len > 1 ? len - 1 : 1);
}

/* ---- Looking ---- */

typedef struct contents { /* of a folder that may be removed */
    const char *dir;
    char *foreign; /* the first entry that is no plain file */
    bool has_config, is_empty;
} contents;

static bool look_at(void *user, const char *name)
{
    contents *c = user;
    char *path = we_path_join(c->dir, name);
    struct stat info;
    if (!path || lstat(path, &info) != 0 || S_ISDIR(info.st_mode)) c->foreign = we_strdup(name);
    we_free(path);
    c->is_empty = false;
    c->has_config |= strcmp(name, "config.json") == 0;
    return !c->foreign;
}

/* Only a model's folder is replaced: a slip of the hand must not cost a home folder. */
static we_status check_replaced(const char *path, we_error *err)
{
    contents c = { .dir = path, .is_empty = true };
    if (!we_path_is_dir(path))
        return we_fail(err, WE_E_ARG, "%s exists and is not a folder: give another path, or remove it", path);
    const we_status st = we_dir_each(path, look_at, &c, err);
    const bool refused = !st && !c.is_empty && (c.foreign || !c.has_config);
    if (refused && c.foreign)
        we_fail(err, WE_E_ARG,
                "%s is not overwritten: it holds the folder \"%s\", which no model has; remove it yourself", path,
                c.foreign);
    else if (refused)
        we_fail(err, WE_E_ARG, "%s is not overwritten: it has no config.json, so it is no model; remove it yourself",
                path);
    we_free(c.foreign);
    return refused ? WE_E_ARG : st;
}

static bool is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The nearest folder above that exists. */
static char *existing_above(const char *path)
{
    char *at = parent_of(path);
    while (at && !we_path_exists(at) && strcmp(at, ".") != 0 && strcmp(at, "/") != 0) {
        char *above = parent_of(at);
        we_free(at);
        at = above;
    }
    return at;
}

/* Found out before a model is fetched or read. */
static we_status check_parent(const char *path, we_error *err)
{
    char *above = existing_above(path);
    if (!above) return no_memory(path, err);
    we_status st = WE_OK;
    if (!we_path_is_dir(above))
        st = we_fail(err, WE_E_ARG, "%s cannot be made: %s is no folder", path, above);
    else if (access(above, W_OK | X_OK) != 0)
        st = we_fail(err, WE_E_IO, "%s cannot be made in %s: %s", path, above, strerror(errno));
    we_free(above);
    return st;
}

we_status we_target_init(we_target *t, const char *path, bool overwrite, const char *source, we_error *err)
{
    *t = (we_target){ .lock = -1 };
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') len--;
    if (!(t->path = we_strndup(path, len))) return no_memory(path, err);
    const char *base = we_path_base(t->path);
    if (!base[0] || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return we_fail(err, WE_E_ARG, "\"%s\" is no name for a model's folder", path);
    const we_status st = check_parent(t->path, err);
    if (st) return st;
    struct stat info;
    t->replaces = lstat(t->path, &info) == 0;
    if (!t->replaces) return WE_OK;
    if (!overwrite)
        return we_fail(err, WE_E_ARG,
                       "%s exists already: give another path, remove it, or ask for overwriting (--overwrite)",
                       t->path);
    if (source && is_same(source, t->path))
        return we_fail(err, WE_E_ARG, "%s is the model that is to be converted: give another path", t->path);
    return check_replaced(t->path, err);
}

we_status we_target_check_room(const we_target *t, uint64_t bytes, we_error *err)
{
    char *above = existing_above(t->path);
    if (!above) return no_memory(t->path, err);
    struct statvfs fs;
    const bool known = statvfs(above, &fs) == 0 && fs.f_blocks; /* some network file systems tell nothing */
    we_free(above);
    const uint64_t room = known ? (uint64_t)fs.f_bavail * (fs.f_frsize ? fs.f_frsize : fs.f_bsize) : UINT64_MAX;
    char want[24], have[24];
    if (room >= bytes) return WE_OK;
    return we_fail(err, WE_E_IO,
                   "%s needs %s on the disk, which has room for %s: free some space, or give a path on another disk",
                   t->path, we_format_bytes(want, bytes), we_format_bytes(have, room));
}

/* ---- Making ---- */

/* Plain files in a folder, then the folder. */
static bool remove_file(void *user, const char *name)
{
    char *path = we_path_join(user, name);
    if (path) unlink(path);
    we_free(path);
    return true;
}

static void remove_folder(char *dir)
{
    if (unlink(dir) == 0) return; /* a link to a folder: what it points to is not ours */
    we_dir_each(dir, remove_file, dir, NULL);
    rmdir(dir);
}

typedef struct leftovers {
    const char *dir, *base;
} leftovers;

/* ".NAME.PID.tmp" that no living process has locked. */
static bool remove_leftover(void *user, const char *name)
{
    const leftovers *l = user;
    const size_t base_len = strlen(l->base), len = strlen(name), suffix_len = strlen(SUFFIX);
    int64_t pid;
    if (len <= base_len + 2 + suffix_len || name[0] != '.' || strncmp(name + 1, l->base, base_len) != 0 ||
        name[1 + base_len] != '.' || strcmp(name + len - suffix_len, SUFFIX) != 0 ||
        !we_parse_i64((we_str){ name + base_len + 2, len - base_len - 2 - suffix_len }, &pid))
        return true;
    char *path = we_path_join(l->dir, name);
    const int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        we_log(convert, INFO, "%s, left by an earlier run, is removed", path);
        remove_folder(path);
    }
    if (fd >= 0) close(fd);
    we_free(path);
    return true;
}

static we_status make_parents(we_target *t, const char *parent, we_error *err)
{
    char *at = we_strdup(parent);
    while (at && !we_path_exists(at)) {
        we_free(t->made_parent);
        t->made_parent = at;
        at = parent_of(at);
    }
    const bool failed = !at;
    we_free(at);
    return failed ? no_memory(t->path, err) : we_dir_make(parent, 0777, err);
}

we_status we_target_begin(we_target *t, we_error *err)
{
    char *parent = parent_of(t->path);
    if (!parent) return no_memory(t->path, err);
    we_status st = make_parents(t, parent, err);
    if (!st) {
        leftovers l = { parent, we_path_base(t->path) };
        we_dir_each(parent, remove_leftover, &l, NULL);
        we_buf name = { 0 };
        we_buf_printf(&name, ".%s.%ld" SUFFIX, l.base, (long)getpid());
        t->beside = name.failed ? NULL : we_path_join(parent, name.ptr);
        we_buf_deinit(&name);
        if (!t->beside) st = no_memory(t->path, err);
    }
    we_free(parent);
    if (st) return st;
    if (mkdir(t->beside, 0777) != 0)
        return we_fail(err, WE_E_IO, "%s: the folder cannot be made: %s", t->beside, strerror(errno));
    t->begun = true;
    t->lock = open(t->beside, O_RDONLY | O_CLOEXEC);
    if (t->lock >= 0) flock(t->lock, LOCK_EX | LOCK_NB); /* where locks don't exist, leftovers just stay */
    return WE_OK;
}

/* Two folders change names in one step. False: the system or the file system can't. */
static bool exchange(const char *a, const char *b)
{
#if defined(__linux__) && defined(RENAME_EXCHANGE)
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
#elif defined(__APPLE__) && defined(RENAME_SWAP)
    return renamex_np(a, b, RENAME_SWAP) == 0;
#else
    (void)a;
    (void)b;
    return false;
#endif
}

static void sync_folder(const char *dir)
{
    const int fd = dir ? open(dir, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    fsync(fd); /* some file systems refuse, which costs durability alone */
    close(fd);
}

/* Without an exchange there is a moment in which only the hidden names exist; the old one comes back on failure. */
static bool replace_in_two(we_target *t)
{
    we_buf old = { 0 };
    we_buf_printf(&old, "%s.old", t->beside);
    bool done = !old.failed && rename(t->path, old.ptr) == 0;
    if (done && rename(t->beside, t->path) != 0) {
        const int code = errno;
        done = false;
        if (rename(old.ptr, t->path) != 0) we_log(convert, ERROR, "%s is now at %s", t->path, old.ptr);
        errno = code;
    }
    if (done) remove_folder(old.ptr);
    we_buf_deinit(&old);
    return done;
}

we_status we_target_finish(we_target *t, we_error *err)
{
    sync_folder(t->beside);
    struct stat info;
    const bool exists = lstat(t->path, &info) == 0;
    if (exists && !t->replaces)
        return we_fail(err, WE_E_ARG, "%s came into being while the model was converted: nothing is changed", t->path);
    bool removes = false, done;
    if (!exists)
        done = rename(t->beside, t->path) == 0;
    else if (exchange(t->beside, t->path))
        done = removes = true;
    else
        done = replace_in_two(t);
    if (!done) return we_fail(err, WE_E_IO, "%s: cannot be put in its place: %s", t->path, strerror(errno));
    if (removes) remove_folder(t->beside); /* by now the old one */
    t->finished = true;
    char *parent = parent_of(t->path);
    sync_folder(parent);
    we_free(parent);
    return WE_OK;
}

/* Parents that were made for nothing: from the deepest up to the first of them. */
static void remove_parents(const we_target *t)
{
    char *at = parent_of(t->path);
    while (at && rmdir(at) == 0 && strcmp(at, t->made_parent) != 0) {
        char *above = parent_of(at);
        we_free(at);
        at = above;
    }
    we_free(at);
}

void we_target_deinit(we_target *t)
{
    if (t->begun && !t->finished) remove_folder(t->beside);
    if (t->made_parent && !t->finished) remove_parents(t);
    if (t->lock > 0) close(t->lock);
    we_free(t->beside);
    we_free(t->made_parent);
    we_free(t->path);
    *t = (we_target){ .lock = -1 };
}
