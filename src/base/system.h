/* SPDX-License-Identifier: Apache-2.0
 * system.h - clock, processor count, memory figures (with the control group's limits), where this program lies, environment
 * variables. */
#ifndef WE_BASE_SYSTEM_H
#define WE_BASE_SYSTEM_H

#include "base/str.h"

uint64_t we_now_ns(void); /* monotonic */
double we_now_s(void);    /* monotonic, seconds */
int we_cpu_count(void);   /* cores this process may use: affinity and control group quota count; >= 1 */
/* Reads /proc/meminfo and cgroup v2/v1 (Linux), sysctl and host_statistics (macOS). See we_memory_get_info. */
we_status we_system_memory(we_memory_info *info, we_error *err);

typedef struct we_process {
    uint64_t start; /* when it began, as the system counts; tells it from a later process of the same id */
    uint64_t resident_bytes;
    char name[32]; /* its program's, as it stands there; may hold anything */
} we_process;
/** Look at a process. False: there is none of that id (any more), or the system does not tell. */
bool we_system_process(int64_t pid, we_process *out);
/** Bytes that this user may still write to the file system that holds a path (or its nearest parent that exists); 0: unknown. */
uint64_t we_disk_free(const char *path);

/** GPUs that the system shows, "NVIDIA H200, AMD with 16.0 GB"; "" where it shows none. Not whether anything can compute there. */
void we_system_gpus(we_buf *out);

char *we_executable_dir(void); /* folder of the running program; we_free; NULL where unknown */
char *we_library_dir(void);    /* folder of the file that this code was loaded from; we_free; NULL where unknown */

/** A variable that is set and not empty: the environment's, else what was laid below it. NULL: neither. The laid value stays
 * for the process's life; the environment's as long as getenv's. */
const char *we_env(const char *name);
/** Lay a value below a variable of the environment, in place of an earlier one; NULL takes it away. Both are copied.
 * Returns: false where memory is out. */
bool we_env_lay(const char *name, const char *value);

#endif
