/* SPDX-License-Identifier: Apache-2.0
 * system.h - clock, processor count, memory figures (with the control group's limits), where this program lies. */
#ifndef WE_BASE_SYSTEM_H
#define WE_BASE_SYSTEM_H

#include "base/error.h"

uint64_t we_now_ns(void); /* monotonic */
double we_now_s(void);    /* monotonic, seconds */
int we_cpu_count(void);   /* cores this process may use: affinity and control group quota count; >= 1 */
/* Reads /proc/meminfo and cgroup v2/v1 (Linux), sysctl and host_statistics (macOS). See we_memory_get_info. */
we_status we_system_memory(we_memory_info *info, we_error *err);
char *we_executable_dir(void); /* folder of the running program; we_free; NULL where unknown */

#endif
