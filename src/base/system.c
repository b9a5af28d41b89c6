/* SPDX-License-Identifier: Apache-2.0
 * system.c - the clock. What each system tells of processors and memory: system_linux.c, system_macos.c. */
#include "base/base_int.h"
#include "base/system.h"

#include <string.h>
#include <time.h>

uint64_t we_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

double we_now_s(void) { return (double)we_now_ns() * 1e-9; }

void we_memory_info_set(we_memory_info *info, const we_memory_info *read)
{
    const size_t size = info->size < sizeof(*read) ? info->size : sizeof(*read);
    const size_t first = offsetof(we_memory_info, total_bytes);
    if (size > first) memcpy((char *)info + first, (const char *)read + first, size - first);
}
