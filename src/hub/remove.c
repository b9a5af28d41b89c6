/* SPDX-License-Identifier: Apache-2.0
 * remove.c - taking a model off this machine, in two steps: what would go (so that a person can be asked), and going.
 *
 * A revision of the hub's cache goes with its links, its refs, its kept list and the blobs that no other revision links to; the
 * repository's folder goes with the last revision. A folder of the models folder goes as it is. Nothing is ever removed
 * through a link: a link itself goes, what it points to stays.
 *
 * The plan remembers the folder's inode, and the removal walks with openat and O_NOFOLLOW from a folder that is still that
 * one: what took its place meanwhile is not touched. */
#include "hub/hub_int.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct plan {
    char *parent, *name; /* of the folder or link */
    char *root;          /* models--ORG--NAME; NULL: no revision of the cache */
    char *cache, *folder;
    char *commit;
    char **blobs; /* names of those that go */
    size_t n_blobs, capacity;
    dev_t device;
    ino_t inode;
} plan;

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for the removal"); }

/* ---- What is there ---- */

static void add_sizes(int at, we_removal *r, int depth)
{
    DIR *dir = fdopendir(at);
    if (!dir) {
        close(at);
        return;
    }
    for (const struct dirent *e; (e = readdir(dir));) {
        struct stat info;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (fstatat(dirfd(dir), e->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISDIR(info.st_mode)) {
            const int below =
                depth < 64 ? openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
            if (below >= 0) add_sizes(below, r, depth + 1);
        } else {
            r->n_files++;
            if (S_ISREG(info.st_mode)) r->bytes += (uint64_t)info.st_size;
        }
    }
    closedir(dir);
}

/* ---- The blobs of a revision ---- */

/* Called with the base name of every link to a blob below a folder; false stops. */
typedef bool (*blob_fn)(void *user, const char *blob);

static bool each_blob(int at, blob_fn fn, void *user, int depth)
{
    DIR *dir = fdopendir(at);
    bool go_on = dir != NULL;
    if (!dir) close(at);
    for (const struct dirent *e; go_on && (e = readdir(dir));) {
        char target[4096];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        const ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);
        if (n > 0) {
            target[n] = 0;
            const char *base = we_path_base(target);
            const bool is_blob = base - target >= 6 && memcmp(base - 6, "blobs/", 6) == 0 && base[0] && base[0] != '.';
            if (is_blob) go_on = fn(user, base);
            continue;
        }
        const int below =
            depth < 64 ? openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (below >= 0) go_on = each_blob(below, fn, user, depth + 1);
    }
    if (dir) closedir(dir);
    return go_on;
}

static bool take_blob(void *user, const char *blob)
{
    plan *p = user;
    for (size_t i = 0; i < p->n_blobs; i++)
        if (strcmp(p->blobs[i], blob) == 0) return true;
    if (p->n_blobs == p->capacity) {
        const size_t capacity = p->capacity ? p->capacity * 2 : 32;
        char **blobs = we_realloc_array(p->blobs, capacity, sizeof *blobs);
        if (!blobs) return false;
        p->blobs = blobs;
        p->capacity = capacity;
    }
    char *copy = we_strdup(blob);
    if (copy) p->blobs[p->n_blobs++] = copy;
    return copy != NULL;
}

static bool keep_blob(void *user, const char *blob)
{
    plan *p = user;
    for (size_t i = 0; i < p->n_blobs; i++)
        if (strcmp(p->blobs[i], blob) == 0) {
            we_free(p->blobs[i]);
            p->blobs[i] = p->blobs[--p->n_blobs];
            break;
        }
    return true;
}

typedef struct other_revisions {
    plan *p;
    const char *snapshots;
    bool any;
} other_revisions;

static bool keep_of_revision(void *user, const char *name)
{
    other_revisions *o = user;
    if (strcmp(name, o->p->commit) == 0) return true;
    char *dir = we_path_join(o->snapshots, name);
    const int at = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    o->any = true;
    if (at >= 0) each_blob(at, keep_blob, o->p, 0);
    we_free(dir);
    return true;
}

static we_status plan_revision(plan *p, we_removal *r, we_error *err)
{
    char *snapshots = we_path_join(p->root, "snapshots"), *blobs = we_path_join(p->root, "blobs");
    const int at = open(r->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    we_status st = snapshots && blobs ? WE_OK : no_memory(err);
    if (at < 0 && !st) st = we_fail(err, WE_E_IO, "%s: cannot be read: %s", r->path, strerror(errno));
    if (!st && !each_blob(at, take_blob, p, 0))
        st = no_memory(err);
    else if (st && at >= 0)
        close(at);
    other_revisions others = { p, snapshots, false };
    if (!st) st = we_dir_each(snapshots, keep_of_revision, &others, err);
    for (size_t i = 0; i < p->n_blobs && !st; i++) {
        char *path = we_path_join(blobs, p->blobs[i]);
        struct stat info;
        if (path && lstat(path, &info) == 0 && S_ISREG(info.st_mode)) r->bytes += (uint64_t)info.st_size;
        we_free(path);
    }
    we_free(blobs);
    we_free(snapshots);
    return st;
}

/* ---- Which folder a name means ---- */

static we_status refuse(const char *name, const char *why, we_error *err)
{
    return we_fail(err, WE_E_ARG, "\"%s\" %s; nothing was removed. `whisperengine list` shows the names", name, why);
}

static bool is_link(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISLNK(info.st_mode);
}

static we_status split_path(plan *p, const char *path, we_error *err)
{
    const char *base = we_path_base(path);
    p->parent = we_strndup(path, (size_t)(base - path));
    p->name = we_strdup(base);
    return p->parent && p->name ? WE_OK : no_memory(err);
}

static we_status plan_entry(plan *p, we_removal *r, const char *name, we_error *err)
{
    struct stat info;
    if (is_link(r->path)) {
        char target[4096];
        const ssize_t n = readlink(r->path, target, sizeof target);
        r->link_target = n >= 0 ? we_strndup(target, (size_t)n) : NULL;
        r->n_files = 1;
        return r->link_target ? split_path(p, r->path, err) : no_memory(err);
    }
    if (lstat(r->path, &info) == 0 && S_ISREG(info.st_mode)) { /* a GGUF file */
        if (we_hub_is_gguf_part(we_str_from(r->path)))
            return refuse(name, "is one of several files that make up a model: remove them yourself", err);
        r->n_files = 1;
        r->bytes = (uint64_t)info.st_size;
        return split_path(p, r->path, err);
    }
    const int at = open(r->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (at < 0) return we_fail(err, WE_E_IO, "%s: cannot be read: %s", r->path, strerror(errno));
    if (!we_hub_has_config(r->path)) {
        close(at);
        return refuse(name, "is a folder without a config.json, so not a model's", err);
    }
    add_sizes(at, r, 0);
    return split_path(p, r->path, err);
}

static we_status take_revision(plan *p, we_removal *r, const we_model_source *source, we_error *err)
{
    p->root = we_strndup(r->path, strlen(r->path) - strlen("/snapshots/") - strlen(source->commit));
    p->commit = we_strdup(source->commit);
    p->folder = p->root ? we_strdup(we_path_base(p->root)) : NULL;
    we_status st = p->folder && p->commit ? split_path(p, r->path, err) : no_memory(err);
    const int at = st ? -1 : open(r->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (at >= 0) add_sizes(at, r, 0);
    return st ? st : plan_revision(p, r, err);
}

/* A name may also lead to a folder below the working directory, or to another program's models: those are not ours. */
static we_status plan_cached(plan *p, we_removal *r, const char *name, we_error *err)
{
    we_model_source source = { 0 };
    we_status st = we_hub_find(name, &r->path, err);
    if (!st) st = we_hub_source_of(&source, r->path, err);
    p->cache = st ? NULL : we_hub_cache_dir();
    const bool ours = source.repo && p->cache && we_str_starts_with(we_str_from(r->path), we_str_from(p->cache)) &&
                      strlen(r->path) > strlen(p->cache);
    if (!st)
        st = ours ? take_revision(p, r, &source, err)
                  : refuse(name, "is not in the models folder nor in the hub's cache", err);
    we_hub_source_deinit(&source);
    return st;
}

we_status we_hub_removal_plan(we_removal *r, const char *name, we_error *err)
{
    *r = (we_removal){ 0 };
    if (strncmp(name, "mlx://", 6) == 0) name += 6;
    if (strcmp(name, "default") == 0) return refuse(name, "is the built-in model", err);
    if (!we_hub_path_is_safe(we_str_from(name)))
        return refuse(name, "is not the name of a model (a path is none: remove such a folder yourself)", err);
    plan *p = we_calloc(1, sizeof *p);
    if (!p) return no_memory(err);
    r->plan = p;
    r->path = we_local_find(name);
    we_status st = r->path ? plan_entry(p, r, name, err) : plan_cached(p, r, name, err);
    struct stat info;
    if (!st && lstat(r->path, &info) == 0) {
        p->device = info.st_dev;
        p->inode = info.st_ino;
    }
    if (st) we_hub_removal_deinit(r);
    return st;
}

void we_hub_removal_deinit(we_removal *r)
{
    plan *p = r->plan;
    for (size_t i = 0; p && i < p->n_blobs; i++) we_free(p->blobs[i]);
    if (p) {
        we_free(p->blobs);
        we_free(p->parent);
        we_free(p->name);
        we_free(p->root);
        we_free(p->cache);
        we_free(p->folder);
        we_free(p->commit);
    }
    we_free(p);
    we_free(r->path);
    we_free(r->link_target);
    *r = (we_removal){ 0 };
}

/* ---- Going ---- */

static we_status not_removed(const char *path, int code, we_error *err)
{
    return we_fail(err, WE_E_IO, "%s: cannot be removed: %s", path, strerror(code));
}

/* Everything in the folder `at` (which is closed), then the folder itself is its caller's. `shown` is for messages. */
static we_status empty_folder(int at, const char *shown, int depth, we_error *err)
{
    DIR *dir = fdopendir(at);
    we_status st = WE_OK;
    if (!dir) {
        st = not_removed(shown, errno, err);
        close(at);
        return st;
    }
    for (const struct dirent *e; !st && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        const int below = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0 && depth >= 64) {
            close(below);
            st = we_fail(err, WE_E_IO, "%s: folders in folders too deep to remove", shown);
        } else if (below >= 0) {
            st = empty_folder(below, shown, depth + 1, err);
        }
        if (!st && unlinkat(dirfd(dir), e->d_name, below >= 0 ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT)
            st = not_removed(shown, errno, err);
    }
    closedir(dir);
    return st;
}

/* `name` in the folder `parent`, if it is still the one that was planned. */
static we_status remove_entry(const plan *p, const char *shown, we_error *err)
{
    struct stat info;
    we_status st = WE_OK;
    const int at = open(p->parent[0] ? p->parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0) return not_removed(shown, errno, err);
    if (fstatat(at, p->name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        st = not_removed(shown, errno, err);
    } else if (info.st_dev != p->device || info.st_ino != p->inode) {
        st = we_fail(err, WE_E_IO, "%s: another one took its place meanwhile; nothing was removed", shown);
    } else if (!S_ISDIR(info.st_mode)) {
        if (unlinkat(at, p->name, 0) != 0) st = not_removed(shown, errno, err);
    } else {
        const int below = openat(at, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        st = below < 0 ? not_removed(shown, errno, err) : empty_folder(below, shown, 0, err);
        if (!st && unlinkat(at, p->name, AT_REMOVEDIR) != 0) st = not_removed(shown, errno, err);
    }
    close(at);
    return st;
}

typedef struct ref_walk {
    const plan *p;
    const char *dir;
    int depth;
} ref_walk;

/* Refs that lead to the commit that is gone, and folders of refs that are empty then. */
static bool drop_ref(void *user, const char *name)
{
    const ref_walk *w = user;
    char *path = we_path_join(w->dir, name), *text = NULL;
    if (path && !is_link(path) && we_path_is_dir(path) && w->depth < 8) {
        ref_walk below = { w->p, path, w->depth + 1 };
        we_dir_each(path, drop_ref, &below, NULL);
        rmdir(path);
    } else if (path && !we_file_read(path, 256, &text, NULL, NULL) && we_str_is(we_str_from(text), w->p->commit)) {
        unlink(path);
    }
    we_free(text);
    we_free(path);
    return true;
}

/* The folders of a repository whose last revision is gone. They go only where they are empty; parts of a download that was
 * broken off, and what huggingface_hub noted about files that do not exist, go with them. */
static void drop_repository(const plan *p)
{
    static const char *const parts[] = { "snapshots", "refs", "trees", ".no_exist", "blobs" };
    for (size_t i = 0; i < WE_COUNT(parts); i++) {
        char *dir = we_path_join(p->root, parts[i]);
        const int at = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (at >= 0 && i == 0)
            close(at);
        else if (at >= 0)
            empty_folder(at, dir, 0, NULL);
        if (dir) rmdir(dir);
        we_free(dir);
    }
    rmdir(p->root);
}

static bool has_entries(const char *dir)
{
    DIR *d = opendir(dir);
    bool any = false;
    for (const struct dirent *e; d && !any && (e = readdir(d));)
        any = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d) closedir(d);
    return any;
}

/* A blob goes under its lock, so that no download that just found it there is left with a link to nothing. */
static we_status drop_blob(const plan *p, const char *blob, we_error *err)
{
    int lock_fd;
    char *path = we_hub_join(p->root, "blobs", blob);
    we_status st = path ? we_hub_lock(p->cache, p->folder, blob, &lock_fd, err) : no_memory(err);
    if (!st && lock_fd < 0)
        st = we_fail(err, WE_E_BUSY, "%s: another program works on it just now; try again when it has ended", path);
    if (!st && unlink(path) != 0 && errno != ENOENT) st = not_removed(path, errno, err);
    if (!st) we_hub_unlock(lock_fd);
    we_free(path);
    return st;
}

static we_status remove_revision(const plan *p, const char *path, we_error *err)
{
    we_status st = WE_OK;
    char *refs = we_path_join(p->root, "refs"), *snapshots = we_path_join(p->root, "snapshots");
    we_buf tree = { 0 };
    we_buf_printf(&tree, "%s/trees/%s.json", p->root, p->commit);
    if (!refs || !snapshots || tree.failed) st = no_memory(err);
    if (!st) st = remove_entry(p, path, err); /* first the links, so that no name leads to half a model */
    if (!st) {
        ref_walk w = { p, refs, 0 };
        if (we_path_is_dir(refs)) we_dir_each(refs, drop_ref, &w, NULL);
        unlink(tree.ptr);
    }
    for (size_t i = 0; i < p->n_blobs && !st; i++) st = drop_blob(p, p->blobs[i], err);
    if (!st && !has_entries(snapshots)) drop_repository(p);
    we_buf_deinit(&tree);
    we_free(snapshots);
    we_free(refs);
    return st;
}

we_status we_hub_removal_run(const we_removal *r, we_error *err)
{
    const plan *p = r->plan;
    return p->root ? remove_revision(p, r->path, err) : remove_entry(p, r->path, err);
}
