/* SPDX-License-Identifier: Apache-2.0
 * system_linux.c - processors and memory as Linux tells them.
 *
 * A control group limits its whole subtree, so every group from ours up to the root counts. In a container the path that
 * /proc/self/cgroup names may be the host's and not be there; the walk up then ends at the mount point, which is ours.
 * Sources: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc_meminfo(5), proc_pid_status(5). */
#if defined(__linux__)
#include "base/arena.h"
#include "base/base_int.h"
#include "base/file.h"
#include "base/system.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define NO_LIMIT UINT64_MAX

/* ---- Small files of the kernel's ---- */

/* A file's text, or NULL; we_free. */
static char *read_small(const char *path)
{
    char *text;
    return we_file_read(path, 1 << 20, &text, NULL, NULL) == WE_OK ? text : NULL;
}

/* The line's first number; false for "max" and all else. */
static bool leading_u64(const char *text, uint64_t *out)
{
    const we_str digits = { text, strspn(text, "0123456789") };
    int64_t value;
    if (!we_parse_i64(digits, &value)) return false;
    *out = (uint64_t)value;
    return true;
}

static bool file_u64(const char *dir, const char *name, uint64_t *out)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    char *text = read_small(path);
    const bool ok = text && leading_u64(text, out);
    we_free(text);
    return ok;
}

/* The number behind a key at a line's beginning: "MemTotal:   16 kB", "inactive_file 4096"; 0 where there is none. */
static uint64_t number_of_key(const char *text, const char *key)
{
    const size_t len = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, key, len) != 0 || (line[len] != ':' && line[len] != ' ')) continue;
        const char *value = line + len + strspn(line + len, ": \t");
        uint64_t number = 0;
        leading_u64(value, &number);
        return number;
    }
    return 0;
}

/* ---- Control groups ---- */

/* What differs between the two versions of the memory controller. */
typedef struct memory_files {
    const char *limit, *usage, *inactive_file, *active_file;
} memory_files;
static const memory_files memory_v1 = { "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                        "total_active_file" };
static const memory_files memory_v2 = { "memory.max", "memory.current", "inactive_file", "active_file" };

/* Our group's path for a v1 controller, or for v2 where controller is "": the part behind "N:controller,...:". */
static bool group_path(const char *groups, const char *controller, char *out, size_t size)
{
    const size_t name_len = strlen(controller);
    for (const char *line = groups; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) return false;
        const char *name = ++names;
        bool found = name_len == 0 && name == path;
        for (; name_len && !found && name < path; name += strcspn(name, ",:") + 1)
            found = strcspn(name, ",:") == name_len && strncmp(name, controller, name_len) == 0;
        if (!found) continue;
        path++;
        const int len = (int)strcspn(path, "\n");
        return snprintf(out, size, "%.*s", len, path) < (int)size;
    }
    return false;
}

/* Called for our group's folder and those above it. */
typedef void (*group_fn)(void *user, const char *dir);

/* Walk from our group up to the mount point; false where this controller is not there. */
static bool each_group(const char *root, const char *groups, const char *controller, group_fn fn, void *user)
{
    char path[PATH_MAX / 2], dir[PATH_MAX];
    if (!group_path(groups, controller, path, sizeof(path))) return false;
    if (strcmp(path, "/") == 0) path[0] = '\0';
    for (;;) {
        snprintf(dir, sizeof(dir), "%s/sys/fs/cgroup%s%s%s", root, controller[0] ? "/" : "", controller, path);
        fn(user, dir);
        char *slash = strrchr(path, '/');
        if (!slash) return true;
        *slash = '\0';
    }
}

typedef struct memory_limits {
    const memory_files *files;
    uint64_t limit, available; /* the smallest of all groups seen */
} memory_limits;

static void look_at_memory(void *user, const char *dir)
{
    memory_limits *m = user;
    uint64_t limit, usage;
    if (!file_u64(dir, m->files->limit, &limit) || !file_u64(dir, m->files->usage, &usage)) return;
    /* Cached files count as used, though the kernel drops them before it refuses memory. */
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/memory.stat", dir);
    char *stat = read_small(path);
    const uint64_t cached =
        stat ? number_of_key(stat, m->files->inactive_file) + number_of_key(stat, m->files->active_file) : 0;
    we_free(stat);
    const uint64_t taken = usage > cached ? usage - cached : 0;
    const uint64_t available = limit > taken ? limit - taken : 0;
    if (limit < m->limit) m->limit = limit;
    if (available < m->available) m->available = available;
}

typedef struct cpu_limit {
    bool v2;
    double n_cpus; /* 0: none seen */
} cpu_limit;

static void look_at_cpus(void *user, const char *dir)
{
    cpu_limit *c = user;
    uint64_t quota_us = 0, period_us = 0;
    if (c->v2) { /* "150000 100000" or "max 100000" */
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/cpu.max", dir);
        char *text = read_small(path);
        const char *space = text ? strchr(text, ' ') : NULL;
        if (space && leading_u64(text, &quota_us)) leading_u64(space + 1, &period_us);
        we_free(text);
    } else { /* quota is -1 for none, which is no number to us */
        if (file_u64(dir, "cpu.cfs_quota_us", &quota_us)) file_u64(dir, "cpu.cfs_period_us", &period_us);
    }
    if (!quota_us || !period_us) return;
    const double n_cpus = (double)quota_us / (double)period_us;
    if (c->n_cpus == 0 || n_cpus < c->n_cpus) c->n_cpus = n_cpus;
}

static char *read_groups(const char *root)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    return read_small(path);
}

/* ---- Processors ---- */

double we_cpu_quota_at(const char *root)
{
    char *groups = read_groups(root);
    if (!groups) return 0;
    cpu_limit c = { .v2 = false };
    each_group(root, groups, "cpu", look_at_cpus, &c);
    c.v2 = true;
    each_group(root, groups, "", look_at_cpus, &c);
    we_free(groups);
    return c.n_cpus;
}

/* Processors in this process's affinity mask. The mask must be as large as the kernel's, which nobody tells: try. */
static int affinity_count(void)
{
    for (int n_cpus = 1024; n_cpus <= 1 << 18; n_cpus *= 4) {
        const size_t size = CPU_ALLOC_SIZE(n_cpus);
        cpu_set_t *set = we_calloc(1, size);
        if (!set) break;
        const int n = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        we_free(set);
        if (n > 0) return n;
    }
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

int we_cpu_count(void)
{
    const int n = affinity_count();
    const double quota = we_cpu_quota_at("");
    if (quota <= 0 || quota >= n) return n;
    return (int)quota + ((double)(int)quota < quota); /* 1.5 processors keep two threads three quarters busy */
}

/* ---- Memory ---- */

we_status we_system_memory_at(const char *root, we_memory_info *info, we_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    char *meminfo = read_small(path);
    snprintf(path, sizeof(path), "%s/proc/self/status", root);
    char *status = read_small(path);
    char *groups = read_groups(root);

    we_memory_info read = { 0 };
    if (meminfo) {
        read.total_bytes = number_of_key(meminfo, "MemTotal") * 1024;
        read.available_bytes = number_of_key(meminfo, "MemAvailable") * 1024;
    }
    if (status) {
        read.resident_bytes = number_of_key(status, "VmRSS") * 1024;
        read.peak_resident_bytes = number_of_key(status, "VmHWM") * 1024;
    }
    if (groups) {
        memory_limits m = { &memory_v1, NO_LIMIT, NO_LIMIT };
        each_group(root, groups, "memory", look_at_memory, &m);
        m.files = &memory_v2;
        each_group(root, groups, "", look_at_memory, &m);
        if (m.limit < read.total_bytes) read.total_bytes = m.limit;
        if (m.available < read.available_bytes) read.available_bytes = m.available;
    }
    we_free(meminfo);
    we_free(status);
    we_free(groups);
    if (!read.total_bytes)
        return we_fail(err, WE_E_IO, "%s/proc/meminfo does not tell MemTotal: is /proc mounted?", root);
    we_memory_info_set(info, &read);
    return WE_OK;
}

we_status we_system_memory(we_memory_info *info, we_error *err) { return we_system_memory_at("", info, err); }

/* ---- Processes ---- */

/* "PID (NAME) S PPID ...", the name may hold anything, ')' too. Source: proc_pid_stat(5); fields counted from 1. */
bool we_system_process(int64_t pid, we_process *out)
{
    enum { STATE = 3, START = 22, RESIDENT_PAGES = 24 };
    char path[64];
    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    char *stat = read_small(path);
    const char *name = stat ? strchr(stat, '(') : NULL, *end = stat ? strrchr(stat, ')') : NULL;
    uint64_t start = 0, pages = 0;
    bool ok = name && end && end > name && end[1] == ' ' && end[2] != 'Z' && end[2] != 'X'; /* not one that has ended */
    if (ok) {
        const char *field = end + 2;
        for (int i = STATE; i < RESIDENT_PAGES && field; i++) {
            if (i == START) leading_u64(field, &start);
            field = strchr(field, ' ');
            if (field) field++;
        }
        ok = field && leading_u64(field, &pages);
        size_t len = (size_t)(end - name - 1);
        if (len > sizeof(out->name) - 1) len = sizeof(out->name) - 1;
        *out = (we_process){ .start = start, .resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE) };
        memcpy(out->name, name + 1, len);
    }
    we_free(stat);
    return ok;
}

/* ---- GPUs ---- */

/* NVIDIA's driver: DIR/BUS/information has a line "Model: \t NVIDIA H200". */
static bool nvidia_gpu(void *user, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "/proc/driver/nvidia/gpus/%s/information", name);
    char *text = read_small(path);
    const char *model = text ? strstr(text, "Model:") : NULL;
    if (model) {
        we_buf *out = user;
        model += strlen("Model:");
        model += strspn(model, " \t");
        we_buf_printf(out, "%s%.*s", out->len ? ", " : "", (int)strcspn(model, "\n"), model);
    }
    we_free(text);
    return true;
}

/* amdgpu tells its memory: /sys/class/drm/cardN/device/mem_info_vram_total. */
static bool amd_gpu(void *user, const char *name)
{
    char path[PATH_MAX / 2];
    uint64_t bytes;
    if (strncmp(name, "card", 4) != 0 || strchr(name, '-')) return true; /* card0-HDMI-A-1 is a plug */
    snprintf(path, sizeof(path), "/sys/class/drm/%s/device", name);
    if (file_u64(path, "mem_info_vram_total", &bytes)) {
        char size[24];
        we_buf *out = user;
        we_buf_printf(out, "%sAMD with %s", out->len ? ", " : "", we_format_bytes(size, bytes));
    }
    return true;
}

void we_system_gpus(we_buf *out)
{
    we_dir_each("/proc/driver/nvidia/gpus", nvidia_gpu, out, NULL);
    we_dir_each("/sys/class/drm", amd_gpu, out, NULL);
}

char *we_executable_dir(void)
{
    char path[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (len <= 0) return NULL;
    path[len] = '\0';
    const size_t dir_len = (size_t)(we_path_base(path) - path);
    return we_strndup(path, dir_len > 1 ? dir_len - 1 : dir_len); /* without the slash, unless it is the root */
}
#endif
