/* SPDX-License-Identifier: Apache-2.0
 * verify.c - reading a model's files again, on several threads, and comparing with the hashes that are known: a file of the
 * hub's cache is a link to a blob whose name is its hash; where it is no link (a cache without links) the kept list of
 * files tells it. A GGUF file of Ollama's is named by its hash. Others have none: their files are read, so that a failing disk shows. */
#include "hub/hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_DEPTH 8
#define TICK_MS 100

typedef struct item {
    char *name, *path; /* below the folder; whole */
    uint64_t size;
    const char *expected;        /* hash; NULL: unknown */
    char blob[WE_HASH_HEX_SIZE]; /* what `expected` points to where the link tells it */
    char why[256];               /* what is wrong; "" */
    bool failed;                 /* reading stopped */
    we_error error;
} item;

typedef struct verification {
    item *items;
    size_t n, capacity, next;
    we_hub_files files; /* the kept list, or empty */
    const char *root;   /* the folder */
    atomic_bool cancel;
    _Atomic uint64_t done;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    int n_threads;
    we_status status; /* of listing */
    we_error *err;
} verification;

/* ---- Which files, which hashes ---- */

static const char *listed_hash(const verification *v, const char *name)
{
    for (size_t i = 0; i < v->files.n; i++)
        if (strcmp(v->files.items[i].path, name) == 0) return we_hub_blob(&v->files.items[i]);
    return NULL;
}

static bool is_hash(const char *name)
{
    return we_hub_is_hex(we_str_from(name), 40) || we_hub_is_hex(we_str_from(name), 64);
}

static bool add_item(verification *v, const char *name, const char *path, uint64_t size)
{
    if (v->n == v->capacity) {
        const size_t capacity = v->capacity ? v->capacity * 2 : 32;
        item *items = we_realloc_array(v->items, capacity, sizeof *items);
        if (!items) return false;
        v->items = items;
        v->capacity = capacity;
    }
    item *it = &v->items[v->n];
    *it = (item){ .name = we_strdup(name), .path = we_strdup(path), .size = size };
    if (!it->name || !it->path) {
        we_free(it->name);
        we_free(it->path);
        return false;
    }
    v->n++;
    char target[4096];
    const ssize_t len = readlink(path, target, sizeof target - 1);
    if (len > 0) {
        target[len] = 0;
        const char *base = we_path_base(target);
        if (strstr(target, "/blobs/") && is_hash(base)) snprintf(it->blob, sizeof it->blob, "%s", base);
    }
    return true;
}

typedef struct walk {
    verification *v;
    const char *dir, *prefix;
    int depth;
} walk;

static bool visit(void *user, const char *name)
{
    const walk *w = user;
    struct stat info;
    char *path = we_path_join(w->dir, name);
    we_buf full = { 0 };
    we_buf_printf(&full, "%s%s", w->prefix, name);
    bool ok = path && !full.failed;
    if (ok && stat(path, &info) != 0) {
        /* A link without its blob is a file that is not here. */
        ok = add_item(w->v, full.ptr, path, 0);
        if (ok) snprintf(w->v->items[w->v->n - 1].why, 256, "its content is not here (%s)", strerror(errno));
    } else if (ok && S_ISDIR(info.st_mode) && w->depth < MOST_DEPTH && name[0] != '.') {
        we_buf_append_char(&full, '/');
        walk below = { w->v, path, full.ptr ? full.ptr : "", w->depth + 1 };
        we_error why;
        if (we_dir_each(path, visit, &below, &why)) we_log(hub, WARN, "%s", why.message);
    } else if (ok && S_ISREG(info.st_mode)) {
        ok = add_item(w->v, full.ptr, path, (uint64_t)info.st_size);
    }
    if (!ok) w->v->status = we_fail(w->v->err, WE_E_NOMEM, "%s: no memory for its list of files", w->dir);
    we_buf_deinit(&full);
    we_free(path);
    return ok && !w->v->status;
}

/* A GGUF file alone: Ollama's blobs are named by their hash. */
static we_status add_file(verification *v, we_error *err)
{
    static const char front[] = "sha256-";
    const char *name = we_path_base(v->root), *hash = name + sizeof front - 1;
    if (!add_item(v, name, v->root, we_path_size(v->root)))
        return we_fail(err, WE_E_NOMEM, "%s: no memory to verify it", v->root);
    item *it = &v->items[0];
    if (strncmp(name, front, sizeof front - 1) == 0 && is_hash(hash)) snprintf(it->blob, sizeof it->blob, "%s", hash);
    return WE_OK;
}

/* The kept list of the commit, if the folder is a revision of the cache. Files of it that a model needs and that are not
 * here are told, too. */
static we_status read_kept_list(verification *v, const char *path, we_error *err)
{
    we_model_source origin;
    we_status st = we_hub_source_of(&origin, path, err);
    if (st || !origin.repo) return st;
    we_buf tree = { 0 };
    we_buf_printf(&tree, "%s/../../trees/%s.json", path, origin.commit);
    if (tree.failed)
        st = we_fail(err, WE_E_NOMEM, "%s: no memory for its path", path);
    else if (we_path_exists(tree.ptr)) {
        we_error why;
        if (we_hub_files_read(&v->files, tree.ptr, &why) || we_hub_files_choose(&v->files, origin.repo, &why)) {
            we_log(hub, WARN, "%s", why.message);
            we_hub_files_deinit(&v->files);
        }
    }
    we_buf_deinit(&tree);
    we_hub_source_deinit(&origin);
    return st;
}

static we_status add_missing(verification *v, we_error *err)
{
    const size_t n_here = v->n;
    for (size_t i = 0; i < v->files.n; i++) {
        const we_hub_file *f = &v->files.items[i];
        bool here = !f->needed;
        for (size_t k = 0; k < n_here && !here; k++) here = strcmp(v->items[k].name, f->path) == 0;
        if (here) continue;
        if (!add_item(v, f->path, f->path, 0)) return we_fail(err, WE_E_NOMEM, "no memory for the list of files");
        snprintf(v->items[v->n - 1].why, 256, "is missing; pull the model again");
    }
    for (size_t i = 0; i < v->n; i++) {
        item *it = &v->items[i];
        const char *listed = listed_hash(v, it->name);
        it->expected = listed ? listed : it->blob[0] ? it->blob : NULL;
    }
    return WE_OK;
}

/* ---- Reading ---- */

static void count(void *user, uint64_t n) { atomic_fetch_add(&((verification *)user)->done, n); }

static void check_item(verification *v, item *it)
{
    char hex[WE_HASH_HEX_SIZE];
    const int fd = open(it->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(it->why, sizeof it->why, "cannot be opened: %s", strerror(errno));
        return;
    }
    const bool git = it->expected && strlen(it->expected) == 40;
    const we_status st = we_hub_hash_fd(fd, it->path, it->size, git, &v->cancel, count, v, hex, &it->error);
    close(fd);
    if (st == WE_E_IO)
        snprintf(it->why, sizeof it->why, "cannot be read: %s", strerror(errno));
    else if (st)
        it->failed = true;
    else if (it->expected && strcmp(hex, it->expected) != 0)
        snprintf(it->why, sizeof it->why, "its hash is %.16s..., expected %.16s...", hex, it->expected);
}

static void *check_some(void *arg)
{
    verification *v = arg;
    pthread_mutex_lock(&v->lock);
    while (v->next < v->n && !atomic_load(&v->cancel)) {
        item *it = &v->items[v->next++];
        if (it->why[0]) continue;
        pthread_mutex_unlock(&v->lock);
        check_item(v, it);
        pthread_mutex_lock(&v->lock);
    }
    v->n_threads--;
    pthread_cond_signal(&v->ended);
    pthread_mutex_unlock(&v->lock);
    return NULL;
}

static void check_all(verification *v, const we_verify_options *o, uint64_t total)
{
    pthread_t threads[16];
    int n = 0, wanted = (int)WE_MIN(WE_COUNT(threads), (size_t)we_cpu_count());
    pthread_mutex_lock(&v->lock);
    while (n < wanted && pthread_create(&threads[n], NULL, check_some, v) == 0) n++;
    v->n_threads += n;
    while (v->n_threads > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
        pthread_cond_timedwait(&v->ended, &v->lock, &until);
        pthread_mutex_unlock(&v->lock);
        if (o->progress && !o->progress(o->user, atomic_load(&v->done), total)) atomic_store(&v->cancel, true);
        pthread_mutex_lock(&v->lock);
    }
    pthread_mutex_unlock(&v->lock);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    if (n == 0) { /* no thread to be had: this one then */
        v->n_threads = 1;
        check_some(v);
    }
}

we_status we_hub_verify(const char *path, const we_verify_options *o, we_verify_result *result, we_error *err)
{
    verification v = { .root = path, .err = err };
    walk w = { &v, path, "", 0 };
    uint64_t total = 0;
    we_status st = we_path_is_dir(path) ? we_dir_each(path, visit, &w, err) : add_file(&v, err);
    if (!st) st = v.status;
    if (!st) st = read_kept_list(&v, path, err);
    if (!st) st = add_missing(&v, err);
    if (!st) {
        for (size_t i = 0; i < v.n; i++) total += v.items[i].size;
        pthread_mutex_init(&v.lock, NULL);
        pthread_cond_init(&v.ended, NULL);
        check_all(&v, o, total);
        pthread_cond_destroy(&v.ended);
        pthread_mutex_destroy(&v.lock);
        result->n_bytes = atomic_load(&v.done);
        if (atomic_load(&v.cancel)) st = we_fail(err, WE_E_CANCELLED, "stopped");
    }
    for (size_t i = 0; i < v.n; i++) {
        const item *it = &v.items[i];
        if (!st && it->failed) st = we_fail(err, it->error.status, "%s", it->error.message);
        if (it->why[0] && !st) {
            result->n_bad++;
            if (o->bad) o->bad(o->user, it->name, it->why);
        } else if (it->expected) {
            result->n_checked++;
        } else {
            result->n_unknown++;
        }
        we_free(it->name);
        we_free(it->path);
    }
    we_free(v.items);
    we_hub_files_deinit(&v.files);
    return st;
}
