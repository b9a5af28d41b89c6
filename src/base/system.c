/* SPDX-License-Identifier: Apache-2.0
 * system.c - the clock, room on disks, where this code lies. What each system tells of processors and memory: system_linux.c,
 * system_macos.c. */
#include "base/arena.h"
#include "base/base_int.h"
#include "base/file.h"
#include "base/system.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

uint64_t we_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

double we_now_s(void) { return (double)we_now_ns() * 1e-9; }

char *we_library_dir(void)
{
    static const char this_file = 0;
    Dl_info info;
    /* A program's own name is what it was called by, which leads nowhere unless it is a whole path. */
    if (!dladdr(&this_file, &info) || !info.dli_fname || info.dli_fname[0] != '/') return NULL;
    char *path = realpath(info.dli_fname, NULL);
    const size_t dir_len = path ? (size_t)(we_path_base(path) - path) : 0;
    char *dir = path ? we_strndup(path, dir_len > 1 ? dir_len - 1 : dir_len) : NULL;
    free(path);
    return dir;
}

void we_memory_info_set(we_memory_info *info, const we_memory_info *read)
{
    const size_t size = info->size < sizeof(*read) ? info->size : sizeof(*read);
    const size_t first = offsetof(we_memory_info, total_bytes);
    if (size > first) memcpy((char *)info + first, (const char *)read + first, size - first);
}

uint64_t we_disk_free(const char *path)
{
    char *at = we_strdup(path[0] ? path : ".");
    struct statvfs info;
    uint64_t bytes = 0;
    while (at && at[0]) {
        if (statvfs(at, &info) == 0) {
            bytes = (uint64_t)info.f_bavail * info.f_frsize;
            break;
        }
        char *slash = strrchr(at, '/');
        if (slash == at && at[1])
            at[1] = '\0'; /* the root itself */
        else if (slash && slash != at)
            *slash = '\0';
        else if (!slash && strcmp(at, ".") != 0)
            memcpy(at, ".", 2);
        else
            break;
    }
    we_free(at);
    return bytes;
}
