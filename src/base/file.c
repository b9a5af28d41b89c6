/* SPDX-License-Identifier: Apache-2.0
 * file.c - whole files, paths, folders. Maps are in map.c. */
#include "base/arena.h"
#include "base/base_int.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* "PATH: No such file or directory": strerror_r's two flavours differ, %m is not everywhere. */
we_status we_fail_errno(we_error *err, const char *path, const char *what, int code)
{
    char text[128] = "";
#if defined(__GLIBC__)
    const char *reason = strerror_r(code, text, sizeof(text));
#else
    const char *reason = strerror_r(code, text, sizeof(text)) == 0 ? text : "unknown error";
#endif
    if (code == ENOMEM) return we_fail(err, WE_E_NOMEM, "%s: %s: %s", path, what, reason);
    return we_fail(err, code == ENOENT ? WE_E_NOT_FOUND : WE_E_IO, "%s: %s: %s", path, what, reason);
}

/* ---- Reading and writing ---- */

static we_status read_all(int fd, const char *path, size_t max_len, size_t expected, we_buf *buf, we_error *err)
{
    /* The size is a hint: files in /proc say 0, pipes say nothing. One byte more than expected finds the end at once. */
    we_buf_reserve(buf, expected + 1);
    for (;;) {
        if (!buf->failed && buf->capacity - buf->len == 1) we_buf_reserve(buf, 64 * 1024);
        if (buf->failed) return we_buf_status(buf, err, path);
        const ssize_t n = read(fd, buf->ptr + buf->len, buf->capacity - buf->len - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return we_fail_errno(err, path, "cannot be read", errno);
        if (n == 0) return WE_OK;
        buf->len += (size_t)n;
        buf->ptr[buf->len] = '\0';
        if (buf->len > max_len) return we_fail(err, WE_E_FORMAT, "%s: is longer than %zu bytes", path, max_len);
    }
}

we_status we_file_read(const char *path, size_t max_len, char **text, size_t *len, we_error *err)
{
    *text = NULL;
    if (max_len == 0) max_len = (size_t)1 << 30;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return we_fail_errno(err, path, "cannot be opened", errno);

    we_buf buf = { 0 };
    struct stat info;
    we_status st = WE_OK;
    if (fstat(fd, &info) != 0)
        st = we_fail_errno(err, path, "cannot be read", errno);
    else if (S_ISDIR(info.st_mode))
        st = we_fail(err, WE_E_IO, "%s: is a folder, expected a file", path);
    else if (info.st_size > 0 && (uint64_t)info.st_size > max_len)
        st = we_fail(err, WE_E_FORMAT, "%s: is %lld bytes long, expected at most %zu", path, (long long)info.st_size,
                     max_len);
    else
        st = read_all(fd, path, max_len, info.st_size > 0 ? (size_t)info.st_size : 0, &buf, err);
    close(fd);
    if (st) {
        we_buf_deinit(&buf);
        return st;
    }
    size_t n;
    *text = we_buf_take(&buf, &n);
    if (len) *len = n;
    return WE_OK;
}

static bool write_all(int fd, const char *bytes, size_t len)
{
    while (len) {
        const ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* A new file beside `target`; its name goes to *path. -1 and errno on failure. */
static int create_beside(const char *target, unsigned mode, char **path)
{
    static atomic_uint counter;
    for (int attempt = 0; attempt < 100; attempt++) {
        we_buf name = { 0 };
        we_buf_printf(&name, "%s.%ld-%u.tmp", target, (long)getpid(), atomic_fetch_add(&counter, 1));
        *path = we_buf_take(&name, NULL);
        if (!*path) {
            errno = ENOMEM;
            return -1;
        }
        const int fd = open(*path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
        if (fd >= 0) return fd;
        const int code = errno;
        we_free(*path);
        *path = NULL;
        errno = code;
        if (code != EEXIST) return -1; /* EEXIST: left behind by a dead process that had our id */
    }
    return -1;
}

/* A rename lasts only once its folder is on disk. Some file systems refuse, which costs durability alone. */
static void sync_folder_of(const char *path)
{
    const size_t dir_len = (size_t)(we_path_base(path) - path);
    char *dir = dir_len ? we_strndup(path, dir_len) : we_strdup(".");
    const int fd = dir ? open(dir, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    we_free(dir);
}

static we_status write_file(const char *path, const we_str *pieces, size_t n_pieces, unsigned mode, bool sync,
                            we_error *err)
{
    /* A link (people link their configuration files) stays one: what it points to is replaced. */
    char linked[PATH_MAX];
    const char *target = realpath(path, linked) ? linked : path;
    char *beside = NULL;
    we_status st = WE_OK;
    const int fd = create_beside(target, mode, &beside);
    if (fd < 0) {
        st = we_fail_errno(err, path, "cannot be written", errno);
    } else {
        bool written = true;
        for (size_t i = 0; i < n_pieces && written; i++) written = write_all(fd, pieces[i].ptr, pieces[i].len);
        if (sync && written) written = fsync(fd) == 0;
        int code = written ? 0 : errno;
        if (close(fd) != 0 && !code) code = errno;
        if (!code && rename(beside, target) != 0) code = errno;
        if (code) {
            unlink(beside);
            st = we_fail_errno(err, path, "cannot be written", code);
        } else if (sync) {
            sync_folder_of(target);
        }
    }
    we_free(beside);
    return st;
}

we_status we_file_write(const char *path, const void *bytes, size_t len, unsigned mode, we_error *err)
{
    return write_file(path, &(we_str){ bytes, len }, 1, mode, true, err);
}

we_status we_file_write_cache(const char *path, const we_str *pieces, size_t n_pieces, unsigned mode, we_error *err)
{
    return write_file(path, pieces, n_pieces, mode, false, err);
}

/* ---- Paths ---- */

bool we_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool we_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool we_path_is_private(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && !S_ISLNK(info.st_mode) && info.st_uid == geteuid() &&
           !(info.st_mode & (S_IWGRP | S_IWOTH));
}

uint64_t we_path_size(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

char *we_path_join(const char *dir, const char *name)
{
    const size_t dir_len = strlen(dir);
    we_buf path = { 0 };
    we_buf_append(&path, dir, dir_len);
    if (dir_len && dir[dir_len - 1] != '/') we_buf_append_char(&path, '/');
    we_buf_append(&path, name, strlen(name));
    return we_buf_take(&path, NULL);
}

const char *we_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- Folders ---- */

we_status we_dir_make(const char *path, unsigned mode, we_error *err)
{
    char *partial = we_strdup(path);
    if (!partial) return we_fail(err, WE_E_NOMEM, "%s: no memory for its path", path);
    we_status st = WE_OK;
    for (size_t i = 1; !st && partial[0]; i++) {
        const char c = partial[i];
        if (c != '/' && c != '\0') continue;
        partial[i] = '\0';
        if (mkdir(partial, (mode_t)mode) != 0) {
            const int code = errno; /* a parent may exist and yet be refused, e.g. on a read-only file system */
            if (!we_path_is_dir(partial)) st = we_fail_errno(err, path, "the folder cannot be made", code);
        }
        partial[i] = c;
        if (c == '\0') break;
    }
    we_free(partial);
    return st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All names of a folder into an arena-backed, growing list. */
typedef struct name_list {
    we_arena arena;
    const char **names;
    size_t n, capacity;
} name_list;

static bool list_add(name_list *list, const char *name)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 64;
        const char **names = we_realloc_array(list->names, capacity, sizeof(*names));
        if (!names) return false;
        list->names = names;
        list->capacity = capacity;
    }
    const char *copy = we_arena_strndup(&list->arena, name, strlen(name));
    if (!copy) return false;
    list->names[list->n++] = copy;
    return true;
}

static we_status list_read(name_list *list, DIR *dir, const char *path, we_error *err)
{
    for (;;) {
        errno = 0; /* readdir's end and its failure are both NULL */
        const struct dirent *entry = readdir(dir);
        if (!entry) return errno ? we_fail_errno(err, path, "the folder cannot be read", errno) : WE_OK;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!list_add(list, entry->d_name)) return we_fail(err, WE_E_NOMEM, "%s: no memory for its names", path);
    }
}

we_status we_dir_each(const char *path, we_dir_fn fn, void *user, we_error *err)
{
    DIR *dir = opendir(path);
    if (!dir) return we_fail_errno(err, path, "the folder cannot be read", errno);
    name_list list = { 0 };
    const we_status st = list_read(&list, dir, path, err);
    closedir(dir); /* before the calls, which may look into folders of their own */
    if (!st && list.n) {
        qsort(list.names, list.n, sizeof(list.names[0]), compare_names);
        for (size_t i = 0; i < list.n; i++)
            if (!fn(user, list.names[i])) break;
    }
    we_free(list.names);
    we_arena_deinit(&list.arena);
    return st;
}

/* $variable, or ~/below_home; a relative path in the variable counts as unset (XDG base directory specification 0.8). */
static char *user_dir(const char *variable, const char *below_home)
{
    const char *value = variable ? getenv(variable) : NULL;
    if (value && value[0] == '/') return we_path_join(value, "whisperengine");
    const char *home = getenv("HOME");
    if (!home || home[0] != '/') return NULL;
    we_buf path = { 0 };
    we_buf_printf(&path, "%s/%s/whisperengine", home, below_home);
    return we_buf_take(&path, NULL);
}

#if defined(__APPLE__)
char *we_dir_user_data(void) { return user_dir(NULL, "Library/Application Support"); }
char *we_dir_user_config(void) { return user_dir(NULL, "Library/Application Support"); }
char *we_dir_user_cache(void) { return user_dir(NULL, "Library/Caches"); }
#else
char *we_dir_user_data(void) { return user_dir("XDG_DATA_HOME", ".local/share"); }
char *we_dir_user_config(void) { return user_dir("XDG_CONFIG_HOME", ".config"); }
char *we_dir_user_cache(void) { return user_dir("XDG_CACHE_HOME", ".cache"); }
#endif
