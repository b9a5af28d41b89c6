/* SPDX-License-Identifier: Apache-2.0
 * download.c - the blobs of one pull over several connections. Each connection is a thread that takes the next piece of
 * work: a chunk of a blob that is begun, else a blob that is not. Who completes a blob hashes it and puts it in its
 * place. The thread that called waits and tells the progress.
 *
 * One mutex guards all of `download`; what takes long (requests, hashing) runs without it. What a chunk's owner writes
 * (filled[i], the bytes) nobody else touches meanwhile.
 *
 * A blob's name is its hash, so it does not matter who brought which bytes when: resumed, from huggingface_hub's beginning,
 * over a changed connection. If the hash is wrong in the end, all of it is fetched anew, once. */
#include "hub/hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define LEAST_CHUNK (8 * MIB)
#define MOST_CHUNK (256 * MIB)
#define NOTE_EVERY MIB   /* bytes between two notes of how far a chunk has come */
#define SPARE (16 * MIB) /* of disk space left over */
#define TICK_MS 100
#define MOST_RESTARTS 1

typedef enum blob_state {
    BLOB_WAITING, /* not begun */
    BLOB_OPENING, /* a thread takes its lock */
    BLOB_ACTIVE,  /* chunks are to be had */
    BLOB_ENDING,  /* complete; a thread hashes it */
    BLOB_DONE
} blob_state;

typedef struct blob {
    const we_hub_file *file;
    const char *name;
    char *path, *partial, *old, *url;
    blob_state state;
    int lock_fd;
    bool locked_elsewhere; /* another process brings it */
    bool asked;            /* for the lock, since the last tick */
    we_partial part;
    uint64_t done;    /* bytes that are there */
    uint64_t fetched; /* bytes that came in this run */
    char etag[128];   /* what the storage called the content in this run */
    bool one_stream;  /* the server gives no ranges */
    bool spoilt;      /* what is there can't be gone on with: begin anew once nobody writes */
    int restarts;
    int n_working;
} blob;

typedef struct download {
    const we_download *d;
    atomic_bool *cancel; /* the caller's; set by the first failure too, so that all connections end */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    blob *blobs;
    size_t n_blobs;
    uint64_t total;
    int n_threads;
    we_status status;
    we_error error; /* the first */
} download;

/* ---- The work's list ---- */

static void deinit_blobs(download *w)
{
    for (size_t i = 0; i < w->n_blobs; i++) {
        blob *b = &w->blobs[i];
        if (b->state != BLOB_WAITING && b->state != BLOB_DONE) we_partial_close(&b->part);
        we_hub_unlock(b->lock_fd);
        we_free(b->path);
        we_free(b->partial);
        we_free(b->old);
        we_free(b->url);
    }
    we_free(w->blobs);
}

static char *with_suffix(const char *path, const char *suffix)
{
    we_buf out = { 0 };
    we_buf_printf(&out, "%s%s", path, suffix);
    return we_buf_take(&out, NULL);
}

static we_status add_blob(download *w, const we_hub_file *file, we_error *err)
{
    const char *name = we_hub_blob(file);
    for (size_t i = 0; i < w->n_blobs; i++) /* two files of the same content */
        if (strcmp(w->blobs[i].name, name) == 0) return WE_OK;
    char *path = we_hub_join(w->d->root, "blobs", name);
    if (path && we_path_exists(path)) {
        we_free(path);
        return WE_OK;
    }
    blob *b = &w->blobs[w->n_blobs++];
    *b = (blob){ .file = file, .name = name, .path = path, .lock_fd = -1, .part.fd = -1 };
    if (path) {
        b->partial = with_suffix(path, ".whisperengine.incomplete");
        b->old = with_suffix(path, ".incomplete");
    }
    b->url = we_hub_file_url(w->d->client, w->d->commit, file->path);
    w->total += file->size;
    if (!b->partial || !b->old || !b->url) return we_fail(err, WE_E_NOMEM, "no memory for the list of downloads");
    return WE_OK;
}

/* Bytes on disk of a file that is partly there. */
static uint64_t bytes_there(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (uint64_t)info.st_blocks * 512 : 0;
}

static we_status check_space(const download *w, we_error *err)
{
    uint64_t missing = 0;
    struct statvfs fs;
    for (size_t i = 0; i < w->n_blobs; i++) {
        const uint64_t there = WE_MAX(bytes_there(w->blobs[i].partial), bytes_there(w->blobs[i].old));
        missing += w->blobs[i].file->size - WE_MIN(there, w->blobs[i].file->size);
    }
    if (missing == 0 || statvfs(w->d->root, &fs) != 0) return WE_OK;
    const uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (available >= missing + SPARE) return WE_OK;
    char a[24], b[24];
    return we_fail(
        err, WE_E_IO,
        "%s: not enough space: %s are still to be fetched, %s are free. Make room, or set HF_HOME to a folder on "
        "another disk",
        w->d->root, we_format_bytes(a, missing), we_format_bytes(b, available));
}

/* ---- One request ---- */

typedef struct fetch {
    download *w;
    blob *b;
    size_t chunk;
    uint64_t at, noted; /* bytes of the chunk that are there, and that the disk knows of */
    uint64_t most;      /* bytes of the chunk */
    bool ranged;
    bool changed, no_ranges; /* what the headers said */
    we_status status;        /* of writing */
    we_error *err;
} fetch;

static we_str etag_of(we_str field)
{
    if (we_str_starts_with(field, WE_STR("W/"))) field.ptr += 2, field.len -= 2;
    if (field.len >= 2 && field.ptr[0] == '"' && field.ptr[field.len - 1] == '"') field.ptr++, field.len -= 2;
    return field;
}

/* The hub's own answer names the content: X-Linked-Etag where the storage is elsewhere, else ETag. */
static bool names_other_content(const blob *b, const we_net_response *r)
{
    we_str named = etag_of(we_net_field_at(r, 0, "x-linked-etag"));
    if (!named.len) named = etag_of(we_net_field_at(r, 0, "etag"));
    return (we_hub_is_hex(named, 40) || we_hub_is_hex(named, 64)) && !we_str_is(named, b->name) &&
           !we_str_is(named, b->file->oid);
}

/* "bytes 0-99/200" must be the range that was asked for, of a file of the size that is expected. */
static bool is_wanted_range(const fetch *f, we_str field)
{
    char text[128];
    unsigned long long first, last, size;
    snprintf(text, sizeof text, "%.*s", (int)WE_MIN(field.len, sizeof text - 1), field.len ? field.ptr : "");
    const uint64_t start = we_partial_start(&f->b->part, f->chunk) + f->at;
    if (sscanf(text, "bytes %llu-%llu/%llu", &first, &last, &size) != 3) {
        if (sscanf(text, "bytes %llu-%llu/*", &first, &last) != 2) return false;
        size = f->b->file->size;
    }
    return first == start && size == f->b->file->size && last - first + 1 <= f->most - f->at;
}

static bool on_head(void *user, const we_net_response *r)
{
    fetch *f = user;
    if (r->status != 200 && r->status != 206) return true; /* its text goes to the response */
    const we_str length = we_net_field_get(r, "content-length"), etag = we_net_field_get(r, "etag");
    int64_t n;
    pthread_mutex_lock(&f->w->lock);
    if (names_other_content(f->b, r)) f->changed = true;
    if (etag.len && etag.len < sizeof f->b->etag) {
        /* Once only: the machines behind one name may disagree in it, and the hash decides in the end. */
        if (f->b->etag[0] && f->b->restarts == 0 && !we_str_is(etag, f->b->etag)) f->changed = true;
        snprintf(f->b->etag, sizeof f->b->etag, "%.*s", (int)etag.len, etag.ptr);
    }
    pthread_mutex_unlock(&f->w->lock);
    if (r->status == 206) {
        if (!f->ranged || !is_wanted_range(f, we_net_field_get(r, "content-range"))) f->changed = true;
    } else if (f->ranged) {
        f->no_ranges = true;
    } else if (we_parse_i64(length, &n) && (uint64_t)n != f->b->file->size) {
        f->changed = true;
    }
    return !f->changed && !f->no_ranges;
}

static void note(fetch *f)
{
    if (f->noted != f->at && !f->status) f->status = we_partial_note(&f->b->part, f->chunk, f->at, f->err);
    f->noted = f->at;
}

static bool on_body(void *user, const char *bytes, size_t n)
{
    fetch *f = user;
    if (n > f->most - f->at) {
        f->changed = true; /* more than its size */
        return false;
    }
    f->status = we_partial_write(&f->b->part, f->chunk, f->at, bytes, n, f->err);
    if (f->status) return false;
    f->at += n;
    if (f->at - f->noted >= NOTE_EVERY) note(f);
    pthread_mutex_lock(&f->w->lock);
    f->b->part.filled[f->chunk] = f->at;
    f->b->done += n;
    f->b->fetched += n;
    pthread_mutex_unlock(&f->w->lock);
    return !f->status;
}

/* One request for what is missing of the chunk. WE_OK: bytes came, or the failure may pass (*passing). */
static we_status fetch_once(fetch *f, we_net *net, we_net_response *r, bool *passing)
{
    const we_hub_client *c = f->w->d->client;
    char range[80];
    we_buf bearer = { 0 };
    we_net_header headers[3];
    size_t n = we_hub_headers(c, &bearer, headers);
    const uint64_t start = we_partial_start(&f->b->part, f->chunk) + f->at;
    f->ranged = start > 0 || f->most < f->b->file->size;
    snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)start,
             (unsigned long long)(start + f->most - f->at - 1));
    if (f->ranged) headers[n++] = (we_net_header){ "Range", range, false };
    we_status st = we_buf_status(&bearer, f->err, "a request");
    if (!st)
        st = we_net_send(net,
                         &(we_net_request){ .url = f->b->url,
                                            .headers = headers,
                                            .n_headers = n,
                                            .on_head = on_head,
                                            .on_body = on_body,
                                            .user = f,
                                            .cancel = f->w->cancel },
                         r, f->err);
    we_buf_deinit(&bearer);
    note(f);
    if (f->status) return f->status;
    if (f->changed || f->no_ranges) return WE_OK;
    *passing = r->may_pass;
    if (!st && r->status != 200 && r->status != 206) {
        if (r->status == 416) f->changed = true;
        st = f->changed ? WE_OK : we_hub_refused(c, r, f->b->file->path, f->err);
    } else if (!st && f->at < f->most) {
        st = we_fail(f->err, WE_E_NETWORK, "%s: the answer ended early", f->b->file->path);
        *passing = true;
    }
    return st;
}

/* Bring a chunk; failures that may pass are tried again, and count only while no byte comes. */
static we_status fetch_chunk(fetch *f, we_net *net)
{
    we_status st = WE_OK;
    for (int attempt = 0;; attempt++) {
        we_net_response r = { 0 };
        bool passing = false;
        const uint64_t before = f->at;
        st = fetch_once(f, net, &r, &passing);
        if (f->at > before) attempt = 0;
        const bool again = st && passing && attempt < f->w->d->client->retries && !atomic_load(f->w->cancel);
        if (again) we_log(hub, INFO, "%s: %s; trying again", f->b->file->path, f->err->message);
        const bool waited = again && we_net_wait(&r, attempt, f->w->cancel);
        we_net_response_deinit(&r);
        if (!waited) return st;
    }
}

/* ---- Blobs ---- */

/* Called without the mutex. Gives the state that the blob has from now on. */
static we_status open_blob(download *w, blob *b, blob_state *state, we_error *err)
{
    const we_hub_client *c = w->d->client;
    *state = BLOB_WAITING;
    we_status st = we_hub_lock(c->settings->cache, c->name->folder, b->name, &b->lock_fd, err);
    if (st || b->lock_fd < 0) return st;
    if (we_path_exists(b->path)) { /* it came while we waited for the lock */
        we_hub_unlock(b->lock_fd);
        b->lock_fd = -1;
        *state = BLOB_DONE;
        return WE_OK;
    }
    uint64_t chunk = b->file->size / ((uint64_t)w->n_threads * 4) / MIB * MIB;
    chunk = WE_MIN(WE_MAX(chunk, LEAST_CHUNK), MOST_CHUNK);
    *state = BLOB_ACTIVE;
    return we_partial_open(&b->part, b->partial, b->old, b->file->size, chunk, err);
}

/* All bytes are there: hash, and put it in its place. Called without the mutex. *good: the hash is right. */
static we_status end_blob(download *w, blob *b, bool *good, we_error *err)
{
    char hex[WE_HASH_HEX_SIZE];
    we_status st = we_partial_hash(&b->part, b->file, w->cancel, hex, err);
    *good = !st && strcmp(hex, b->name) == 0;
    if (st) return st;
    if (*good) return we_partial_finish(&b->part, b->path, err);
    if (b->restarts < MOST_RESTARTS) {
        we_log(hub, WARN, "%s: its hash is %s, expected %s; fetching it anew", b->file->path, hex, b->name);
        return WE_OK;
    }
    unlink(b->partial);
    return we_fail(
        err, WE_E_FORMAT,
        "%s: what came has the hash %s, but the hub says %s. It was fetched twice; nothing of it was kept. Something "
        "on the way changes the content, or the hub's list is wrong",
        b->file->path, hex, b->name);
}

static we_status restart_blob(const download *w, blob *b, we_error *err)
{
    if (b->restarts++ >= (b->one_stream ? w->d->client->retries : MOST_RESTARTS)) {
        unlink(b->partial);
        return we_fail(
            err, WE_E_FORMAT,
            "%s: the file on the hub changes while it is fetched, or is not the one that the list of files names "
            "(%s). Pull again later",
            b->file->path, b->name);
    }
    b->spoilt = false;
    b->etag[0] = 0;
    b->done = 0;
    return we_partial_restart(&b->part, b->one_stream, err);
}

/* ---- Threads ---- */

typedef struct piece { /* of work; blob NULL: none now */
    blob *blob;
    size_t chunk;
    enum { WORK_NONE, WORK_OPEN, WORK_FETCH, WORK_END, WORK_ALL_DONE } kind;
} piece;

/* What a blob offers now. */
static bool offer(blob *b, piece *out)
{
    if (b->state != BLOB_ACTIVE || b->spoilt) return false;
    size_t n_full = 0;
    for (size_t i = 0; i < b->part.n_chunks; i++) {
        const bool full = b->part.filled[i] == we_partial_chunk_size(&b->part, i);
        n_full += full;
        if (full || b->part.claimed[i]) continue;
        b->part.claimed[i] = true;
        *out = (piece){ b, i, WORK_FETCH };
        return true;
    }
    if (n_full < b->part.n_chunks || b->n_working) return false;
    b->state = BLOB_ENDING;
    *out = (piece){ b, 0, WORK_END };
    return true;
}

/* Blobs are begun in order, so that the first is complete first. */
static piece next_piece(download *w)
{
    piece found = { NULL, 0, WORK_ALL_DONE };
    for (size_t i = 0; i < w->n_blobs; i++) {
        if (offer(&w->blobs[i], &found)) return found;
        if (w->blobs[i].state != BLOB_DONE) found.kind = WORK_NONE;
    }
    for (size_t i = 0; i < w->n_blobs; i++)
        if (w->blobs[i].state == BLOB_WAITING && !w->blobs[i].asked) {
            w->blobs[i].state = BLOB_OPENING;
            return (piece){ &w->blobs[i], 0, WORK_OPEN };
        }
    for (size_t i = 0; i < w->n_blobs; i++) w->blobs[i].asked = false; /* asked again after the next tick */
    return found;
}

static void fail(download *w, we_status st, const we_error *err)
{
    if (!w->status) {
        w->status = st;
        w->error = *err;
    }
    atomic_store(w->cancel, true);
}

/* Called with the mutex held, which is given up while the work runs. */
static void work(download *w, const piece *p, we_net *net)
{
    blob *b = p->blob;
    we_error err = { 0 };
    we_status st = WE_OK;
    blob_state state = b->state;
    bool good = false;
    fetch f = { .w = w, .b = b, .chunk = p->chunk, .err = &err };
    if (p->kind == WORK_FETCH) {
        f.at = f.noted = b->part.filled[p->chunk];
        f.most = we_partial_chunk_size(&b->part, p->chunk);
        b->n_working++;
    }
    pthread_mutex_unlock(&w->lock);
    switch (p->kind) {
    case WORK_OPEN: st = open_blob(w, b, &state, &err); break;
    case WORK_FETCH: st = fetch_chunk(&f, net); break;
    case WORK_END: st = end_blob(w, b, &good, &err); break;
    default: break;
    }
    pthread_mutex_lock(&w->lock);
    switch (p->kind) {
    case WORK_OPEN:
        b->state = state;
        b->asked = b->locked_elsewhere = state == BLOB_WAITING && !st;
        b->done = state == BLOB_DONE ? b->file->size : !st && state == BLOB_ACTIVE ? we_partial_done(&b->part) : 0;
        break;
    case WORK_FETCH:
        b->n_working--;
        b->part.claimed[p->chunk] = false;
        b->spoilt = b->spoilt || f.changed || f.no_ranges;
        if (f.no_ranges && !b->one_stream) b->restarts--; /* to learn that there are no ranges is no failure */
        b->one_stream = b->one_stream || f.no_ranges;
        break;
    case WORK_END:
        if (!st && good) {
            we_partial_close(&b->part);
            we_hub_unlock(b->lock_fd);
            b->lock_fd = -1;
            b->state = BLOB_DONE;
        } else if (!st) {
            b->state = BLOB_ACTIVE;
            b->spoilt = true;
        }
        break;
    default: break;
    }
    if (!st && b->state == BLOB_ACTIVE && b->spoilt && b->n_working == 0) st = restart_blob(w, b, &err);
    if (st) fail(w, st, &err);
    pthread_cond_broadcast(&w->changed);
}

static void wait_tick(download *w)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += TICK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
    pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

static void *connection(void *arg)
{
    download *w = arg;
    we_error err;
    we_net *net = NULL;
    const we_status st = we_hub_net_open(&net, &err);
    pthread_mutex_lock(&w->lock);
    if (st) fail(w, st, &err);
    while (!atomic_load(w->cancel)) {
        const piece p = next_piece(w);
        if (p.kind == WORK_ALL_DONE) break;
        if (p.kind == WORK_NONE)
            wait_tick(w);
        else
            work(w, &p, net);
    }
    w->n_threads--;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    we_net_close(net);
    return NULL;
}

/* ---- The caller's thread ---- */

static we_pull_progress progress_of(const download *w)
{
    we_pull_progress p = { .total_bytes = w->total, .total_files = w->n_blobs };
    for (size_t i = 0; i < w->n_blobs; i++) {
        const blob *b = &w->blobs[i];
        p.done_bytes += b->done;
        p.fetched_bytes += b->fetched;
        p.done_files += b->state == BLOB_DONE;
        if (!p.file && b->state != BLOB_WAITING && b->state != BLOB_DONE) p.file = b->file->path;
        if (b->locked_elsewhere) p.waiting = b->file->path;
    }
    return p;
}

static void report(download *w)
{
    const we_pull_progress p = progress_of(w);
    if (!w->d->progress) return;
    pthread_mutex_unlock(&w->lock);
    const bool go_on = w->d->progress(w->d->user, &p);
    pthread_mutex_lock(&w->lock);
    if (!go_on) atomic_store(w->cancel, true);
}

static void run_threads(download *w, int n)
{
    pthread_t threads[WE_HUB_MOST_CONNECTIONS];
    int started = 0;
    pthread_mutex_lock(&w->lock);
    w->n_threads = n;
    while (started < n && pthread_create(&threads[started], NULL, connection, w) == 0) started++;
    w->n_threads -= n - started;
    if (started == 0) fail(w, WE_E_NOMEM, &(we_error){ WE_E_NOMEM, "the system gave no thread for a download" });
    while (w->n_threads > 0) {
        report(w);
        wait_tick(w);
    }
    report(w);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

we_status we_download_run(const we_download *d, const we_hub_files *files, atomic_bool *cancel, we_error *err)
{
    download w = { .d = d, .cancel = cancel };
    char *blobs = we_path_join(d->root, "blobs");
    w.blobs = we_calloc(files->n, sizeof *w.blobs);
    we_status st = blobs && w.blobs ? we_dir_make(blobs, 0777, err)
                                    : we_fail(err, WE_E_NOMEM, "no memory for the list of downloads");
    for (size_t i = 0; i < files->n && !st; i++)
        if (files->items[i].needed) st = add_blob(&w, &files->items[i], err);
    if (!st) st = check_space(&w, err);
    if (!st && w.n_blobs) {
        pthread_mutex_init(&w.lock, NULL);
        pthread_cond_init(&w.changed, NULL);
        run_threads(&w, d->connections);
        pthread_cond_destroy(&w.changed);
        pthread_mutex_destroy(&w.lock);
        st = w.status;
        if (st && st != WE_E_CANCELLED) {
            if (err) *err = w.error;
        } else if (st || atomic_load(cancel)) {
            st = we_fail(err, WE_E_CANCELLED, "stopped; what has come is kept, pull again to go on");
        }
    }
    deinit_blobs(&w);
    we_free(blobs);
    return st;
}
