/* SPDX-License-Identifier: Apache-2.0
 * system_macos.c - processors and memory as macOS tells them. */
#if defined(__APPLE__)
#include "base/arena.h"
#include "base/base_int.h"
#include "base/file.h"
#include "base/system.h"

#include <libproc.h>
#include <limits.h>
#include <mach-o/dyld.h>
#include <mach/mach.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/sysctl.h>

int we_cpu_count(void)
{
    /* Performance cores where the machine has two kinds: all threads of a pool wait for the slowest. */
    static const char *const names[] = { "hw.perflevel0.logicalcpu", "hw.logicalcpu" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int n = 0;
        size_t size = sizeof(n);
        if (sysctlbyname(names[i], &n, &size, NULL, 0) == 0 && n > 0) return n;
    }
    return 1;
}

we_status we_system_memory(we_memory_info *info, we_error *err)
{
    uint64_t total = 0;
    size_t size = sizeof(total);
    if (sysctlbyname("hw.memsize", &total, &size, NULL, 0) != 0)
        return we_fail(err, WE_E_IO, "sysctl does not tell hw.memsize");

    const mach_port_t host = mach_host_self();
    vm_size_t page_bytes = 0;
    vm_statistics64_data_t vm;
    mach_msg_type_number_t n = HOST_VM_INFO64_COUNT;
    const bool known = host_page_size(host, &page_bytes) == KERN_SUCCESS &&
                       host_statistics64(host, HOST_VM_INFO64, (host_info64_t)&vm, &n) == KERN_SUCCESS;
    mach_port_deallocate(mach_task_self(), host);
    if (!known) return we_fail(err, WE_E_IO, "host_statistics64 does not tell the free memory");

    mach_task_basic_info_data_t task;
    n = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&task, &n) != KERN_SUCCESS)
        return we_fail(err, WE_E_IO, "task_info does not tell this process's memory");

    /* Inactive and purgeable pages are given up before anything is swapped; speculative ones are in free_count. */
    const uint64_t free_pages = (uint64_t)vm.free_count + vm.inactive_count + vm.purgeable_count;
    const we_memory_info read = {
        .total_bytes = total,
        .available_bytes = free_pages * page_bytes,
        .resident_bytes = task.resident_size,
        .peak_resident_bytes = task.resident_size_max,
    };
    we_memory_info_set(info, &read);
    return WE_OK;
}

void we_system_gpus(we_buf *out)
{
#if defined(__aarch64__)
    we_buf_append_str(out, WE_STR("Apple silicon's own")); /* the others would take IOKit */
#else
    (void)out;
#endif
}

bool we_system_process(int64_t pid, we_process *out)
{
    struct proc_taskallinfo info;
    if (pid <= 0 || pid > INT_MAX ||
        proc_pidinfo((int)pid, PROC_PIDTASKALLINFO, 0, &info, sizeof(info)) != sizeof(info))
        return false;
    *out = (we_process){
        .start = info.pbsd.pbi_start_tvsec * 1000000 + info.pbsd.pbi_start_tvusec,
        .resident_bytes = info.ptinfo.pti_resident_size,
    };
    snprintf(out->name, sizeof(out->name), "%s", info.pbsd.pbi_comm);
    return true;
}

char *we_executable_dir(void)
{
    char path[PATH_MAX], real[PATH_MAX];
    uint32_t size = sizeof(path);
    if (_NSGetExecutablePath(path, &size) != 0 || !realpath(path, real)) return NULL;
    const size_t dir_len = (size_t)(we_path_base(real) - real);
    return we_strndup(real, dir_len > 1 ? dir_len - 1 : dir_len); /* without the slash, unless it is the root */
}
#endif
