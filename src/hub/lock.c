/* SPDX-License-Identifier: Apache-2.0
 * lock.c - huggingface_hub's lock of a blob: flock on CACHE/.locks/models--ORG--NAME/HASH.lock, which is what PyPI's filelock
 * takes on Unix. The file stays behind, as filelock leaves it: to remove it would part those who wait from those who
 * come. An older filelock may remove it all the same, so a lock on a file that has no name any more is no lock. */
#include "hub/hub_int.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static we_status lock_path(const char *path, int *fd, we_error *err)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
        if (*fd < 0) return we_fail(err, WE_E_IO, "%s: the lock cannot be opened: %s", path, strerror(errno));
        if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
            const int code = errno;
            close(*fd);
            *fd = -1;
            if (code == EWOULDBLOCK || code == EACCES) return WE_OK;
            return we_fail(err, WE_E_IO, "%s: this file system has no locks: %s", path, strerror(code));
        }
        struct stat mine, named;
        if (fstat(*fd, &mine) == 0 && stat(path, &named) == 0 && mine.st_ino == named.st_ino &&
            mine.st_dev == named.st_dev)
            return WE_OK;
        close(*fd);
        *fd = -1;
    }
    return WE_OK; /* somebody is busy with it */
}

we_status we_hub_lock(const char *cache, const char *folder, const char *blob, int *fd, we_error *err)
{
    *fd = -1;
    char *dir = we_hub_join(cache, ".locks", folder), *base = dir ? we_path_join(dir, blob) : NULL;
    we_buf path = { 0 };
    if (base) we_buf_printf(&path, "%s.lock", base);
    we_status st = !base || path.failed ? we_fail(err, WE_E_NOMEM, "no memory for a lock's path") : WE_OK;
    if (!st) st = we_dir_make(dir, 0777, err);
    if (!st) st = lock_path(path.ptr, fd, err);
    we_buf_deinit(&path);
    we_free(base);
    we_free(dir);
    return st;
}

void we_hub_unlock(int fd)
{
    if (fd >= 0) close(fd);
}
