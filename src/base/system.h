/* SPDX-License-Identifier: Apache-2.0
 * system.h - clock, processor count, memory figures (with the control group's limits), where this program lies, environment
 * variables. */
#ifndef WE_BASE_SYSTEM_H
#define WE_BASE_SYSTEM_H

#include "base/error.h"

uint64_t we_now_ns(void); /* monotonic */
double we_now_s(void);    /* monotonic, seconds */
int we_cpu_count(void);   /* cores this process may use: affinity and control group quota count; >= 1 */
/* Reads /proc/meminfo and cgroup v2/v1 (Linux), sysctl and host_statistics (macOS). See we_memory_get_info. */
we_status we_system_memory(we_memory_info *info, we_error *err);
char *we_executable_dir(void); /* folder of the running program; we_free; NULL where unknown */

/** A variable that is set and not empty: the environment's, else what was laid below it. NULL: neither. The laid value stays
 * for the process's life; the environment's as long as getenv's. */
const char *we_env(const char *name);
/** Lay a value below a variable of the environment, in place of an earlier one; NULL takes it away. Both are copied.
 * Returns: false where memory is out. */
bool we_env_lay(const char *name, const char *value);

#endif
