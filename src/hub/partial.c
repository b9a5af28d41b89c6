/* SPDX-License-Identifier: Apache-2.0
 * partial.c - a blob that comes in ranges, and can go on after a kill.
 *
 * The file is as long as the blob from its beginning, with holes, and behind it stands how far each chunk has come:
 *
 *     [size]         content
 *     [16]           "WhisperEngine 1\n"
 *     [8] [8]        size, bytes of a chunk (this machine's byte order: the file does not travel)
 *     [8] * chunks   bytes filled from each chunk's beginning
 *
 * A figure is written after the bytes that it counts, so a killed process leaves figures that are true. After a loss of
 * power they need not be; that is one reason why the whole is hashed in the end. huggingface_hub's HASH.incomplete has no
 * holes and no figures, and a newer version of it goes on with any bytes that it finds there: hence another name. */
#include "hub/hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[16] = { 'W', 'h', 'i', 's', 'p', 'e', 'r', 'E', 'n', 'g', 'i', 'n', 'e', ' ', '1', '\n' };
#define MOST_CHUNKS ((size_t)1 << 16)
#define HASH_STEP ((size_t)1 << 20)

static we_status failed(const char *path, const char *what, int code, we_error *err)
{
    return we_fail(err, WE_E_IO, "%s: %s: %s", path, what, strerror(code));
}

static bool write_at(int fd, uint64_t at, const void *bytes, size_t n)
{
    for (const char *p = bytes; n;) {
        const ssize_t done = pwrite(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            if (done == 0) errno = EIO;
            return false;
        }
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return true;
}

static bool read_at(int fd, uint64_t at, void *bytes, size_t n)
{
    for (char *p = bytes; n;) {
        const ssize_t done = pread(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return true;
}

/* ---- The figures ---- */

static uint64_t table_at(const we_partial *p) { return p->size + sizeof magic + 2 * sizeof(uint64_t); }

uint64_t we_partial_chunk_size(const we_partial *p, size_t i)
{
    return WE_MIN(p->chunk_bytes, p->size - we_partial_start(p, i));
}

uint64_t we_partial_done(const we_partial *p)
{
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_chunks; i++) n += p->filled[i];
    return n;
}

static bool take_tables(we_partial *p, uint64_t chunk_bytes)
{
    p->chunk_bytes = chunk_bytes;
    p->n_chunks = (size_t)((p->size + chunk_bytes - 1) / chunk_bytes);
    we_free(p->filled);
    we_free(p->claimed);
    p->filled = we_calloc(p->n_chunks, sizeof *p->filled);
    p->claimed = we_calloc(p->n_chunks, sizeof *p->claimed);
    return p->filled && p->claimed;
}

/* Figures that make sense are taken over, with their own size of chunks. */
static bool read_figures(we_partial *p)
{
    char head[sizeof magic];
    uint64_t sizes[2];
    struct stat info;
    if (fstat(p->fd, &info) != 0 || (uint64_t)info.st_size <= p->size || !read_at(p->fd, p->size, head, sizeof head) ||
        memcmp(head, magic, sizeof magic) != 0 || !read_at(p->fd, p->size + sizeof magic, sizes, sizeof sizes) ||
        sizes[0] != p->size || sizes[1] == 0 || p->size / sizes[1] >= MOST_CHUNKS || !take_tables(p, sizes[1]) ||
        !read_at(p->fd, table_at(p), p->filled, p->n_chunks * sizeof *p->filled))
        return false;
    for (size_t i = 0; i < p->n_chunks; i++)
        if (p->filled[i] > we_partial_chunk_size(p, i)) return false;
    return true;
}

static we_status write_figures(we_partial *p, we_error *err)
{
    const uint64_t sizes[2] = { p->size, p->chunk_bytes };
    if (!write_at(p->fd, table_at(p), p->filled, p->n_chunks * sizeof *p->filled) ||
        !write_at(p->fd, p->size + sizeof magic, sizes, sizeof sizes) || !write_at(p->fd, p->size, magic, sizeof magic))
        return failed(p->path, "cannot be written", errno, err);
    return WE_OK;
}

/* What huggingface_hub left behind is the blob's beginning: count it into the chunks. */
static void count_beginning(we_partial *p, uint64_t n)
{
    for (size_t i = 0; i < p->n_chunks && n; i++) {
        p->filled[i] = WE_MIN(n, we_partial_chunk_size(p, i));
        n -= p->filled[i];
    }
}

/* ---- Opening ---- */

we_status we_partial_open(we_partial *p, const char *path, const char *old, uint64_t size, uint64_t chunk_bytes,
                          we_error *err)
{
    struct stat info;
    uint64_t beginning = 0;
    *p = (we_partial){ .fd = -1, .path = we_strdup(path), .size = size };
    if (!p->path) return we_fail(err, WE_E_NOMEM, "no memory for a path");
    if (lstat(path, &info) != 0 && lstat(old, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size <= size &&
        rename(old, path) == 0)
        beginning = (uint64_t)info.st_size;
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p->fd < 0) return failed(path, "cannot be opened", errno, err);
    if (read_figures(p)) return WE_OK;
    if (!take_tables(p, chunk_bytes)) return we_fail(err, WE_E_NOMEM, "%s: no memory for its figures", path);
    if (!beginning && ftruncate(p->fd, 0) != 0) return failed(path, "cannot be emptied", errno, err);
    count_beginning(p, beginning);
    return write_figures(p, err);
}

void we_partial_close(we_partial *p)
{
    if (p->fd >= 0) close(p->fd);
    we_free(p->path);
    we_free(p->filled);
    we_free(p->claimed);
    *p = (we_partial){ .fd = -1 };
}

we_status we_partial_restart(we_partial *p, bool whole, we_error *err)
{
    if (!take_tables(p, whole && p->size ? p->size : p->chunk_bytes))
        return we_fail(err, WE_E_NOMEM, "%s: no memory for its figures", p->path);
    if (ftruncate(p->fd, 0) != 0) return failed(p->path, "cannot be emptied", errno, err);
    return write_figures(p, err);
}

/* ---- Content ---- */

we_status we_partial_write(const we_partial *p, size_t i, uint64_t at, const void *bytes, size_t n, we_error *err)
{
    if (write_at(p->fd, we_partial_start(p, i) + at, bytes, n)) return WE_OK;
    return failed(p->path, "cannot be written", errno, err);
}

we_status we_partial_note(const we_partial *p, size_t i, uint64_t filled, we_error *err)
{
    if (write_at(p->fd, table_at(p) + i * sizeof filled, &filled, sizeof filled)) return WE_OK;
    return failed(p->path, "cannot be written", errno, err);
}

we_status we_hub_hash_fd(int fd, const char *path, uint64_t size, bool git, const atomic_bool *cancel,
                         void (*step)(void *user, uint64_t n), void *user, char hex[WE_HASH_HEX_SIZE], we_error *err)
{
    char head[64], *bytes = we_malloc(HASH_STEP);
    if (!bytes) return we_fail(err, WE_E_NOMEM, "%s: no memory to read it", path);
    we_status st = WE_OK;
    we_hash hash;
    we_hash_init(&hash, git ? WE_HASH_SHA1 : WE_HASH_SHA256);
    if (git) we_hash_add(&hash, head, (size_t)snprintf(head, sizeof head, "blob %llu", (unsigned long long)size) + 1);
    for (uint64_t at = 0; at < size && !st;) {
        const size_t n = (size_t)WE_MIN(size - at, (uint64_t)HASH_STEP);
        if (cancel && atomic_load(cancel)) {
            st = we_fail(err, WE_E_CANCELLED, "stopped");
        } else if (!read_at(fd, at, bytes, n)) {
            st = failed(path, "cannot be read", errno, err);
        } else {
            we_hash_add(&hash, bytes, n);
            at += n;
            if (step) step(user, n);
        }
    }
    if (!st) we_hash_hex(&hash, hex);
    we_free(bytes);
    return st;
}

we_status we_partial_hash(const we_partial *p, const we_hub_file *file, const atomic_bool *cancel,
                          char hex[WE_HASH_HEX_SIZE], we_error *err)
{
    return we_hub_hash_fd(p->fd, p->path, p->size, !file->sha256, cancel, NULL, NULL, hex, err);
}

we_status we_partial_finish(const we_partial *p, const char *blob, we_error *err)
{
    if (ftruncate(p->fd, (off_t)p->size) != 0 || fsync(p->fd) != 0)
        return failed(p->path, "cannot be written", errno, err);
    if (rename(p->path, blob) != 0) return failed(blob, "cannot be put in its place", errno, err);
    return WE_OK;
}
