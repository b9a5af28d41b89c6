/* SPDX-License-Identifier: Apache-2.0
 * test_base_system.c - the clock, this machine's figures, and made-up machines: trees of files as /proc and /sys show them. */
#include "support.h"

#include "base/base_int.h"

#include <time.h>

TEST(system_clock_goes_forward)
{
    const uint64_t before_ns = we_now_ns();
    const double before_s = we_now_s();
    nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
    assert_true(we_now_ns() - before_ns >= 2000000);
    assert_true(we_now_s() - before_s >= 0.002);
}

TEST(system_tells_of_this_machine)
{
    we_error err;
    we_memory_info info = { .size = sizeof(info) };
    CHECK_OK(we_system_memory(&info, &err), &err);
    assert_true(info.total_bytes > 1 << 20);
    assert_true(info.available_bytes <= info.total_bytes);
    assert_true(info.resident_bytes > 4096 && info.resident_bytes <= info.peak_resident_bytes);
    assert_in_range(we_cpu_count(), 1, 1 << 18);
}

TEST(system_finds_the_programs_folder)
{
    char *dir = we_executable_dir();
    assert_non_null(dir);
    assert_true(we_path_is_dir(dir));
    assert_true(dir[strlen(dir) - 1] != '/');
    we_free(dir);
}

TEST(system_finds_the_librarys_folder) /* linked into the test: the test's own, where it was called by a whole path */
{
    char *dir = we_library_dir(), *program = we_executable_dir();
    assert_non_null(program);
    if (dir) assert_string_equal(dir, program);
    we_free(dir);
    we_free(program);
}

TEST(system_fills_no_more_than_the_callers_struct)
{
    we_error err;
    we_memory_info info;
    memset(&info, 0xEE, sizeof(info));
    info.size = offsetof(we_memory_info, resident_bytes); /* a program built before that field was added */
    CHECK_OK(we_system_memory(&info, &err), &err);
    assert_true(info.available_bytes < (uint64_t)0xEE << 56);
    assert_true(info.resident_bytes == 0xEEEEEEEEEEEEEEEEU);
    assert_int_equal(info.size, offsetof(we_memory_info, resident_bytes));
}

#if defined(__linux__)

/* A file of a made-up machine, below test_dir(). */
static void put(const char *path, const char *text)
{
    char *dir = we_strndup(path, (size_t)(we_path_base(path) - path));
    we_error err;
    CHECK_OK(we_dir_make(test_path(dir), 0700, &err), &err);
    we_free(dir);
    test_write(path, text, strlen(text));
}

static void put_machine(const char *groups)
{
    put("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n");
    put("proc/self/status", "Name:\twhisperengine\nVmPeak:\t  900 kB\nVmHWM:\t     200 kB\nVmRSS:\t     100 kB\n");
    put("proc/self/cgroup", groups);
}

static we_memory_info memory_of_machine(void)
{
    we_error err;
    we_memory_info info = { .size = sizeof(info) };
    CHECK_OK(we_system_memory_at(test_dir(), &info, &err), &err);
    return info;
}

TEST(system_memory_without_groups_is_the_machines)
{
    put_machine("0::/\n");
    const we_memory_info info = memory_of_machine();
    assert_int_equal(info.total_bytes, 16000000000 / 1000 * 1024);
    assert_int_equal(info.available_bytes, 8000000000 / 1000 * 1024);
    assert_int_equal(info.resident_bytes, 100 * 1024);
    assert_int_equal(info.peak_resident_bytes, 200 * 1024);
    assert_true(we_cpu_quota_at(test_dir()) == 0);
}

TEST(system_memory_counts_every_group_above_ours)
{
    put_machine("0::/user.slice/app.service\n");
    put("sys/fs/cgroup/user.slice/app.service/memory.max", "max\n");
    put("sys/fs/cgroup/user.slice/app.service/memory.current", "1000\n");
    put("sys/fs/cgroup/user.slice/memory.max", "4000000000\n");
    put("sys/fs/cgroup/user.slice/memory.current", "3000000000\n");
    put("sys/fs/cgroup/user.slice/memory.stat", "anon 500000000\nfile 2500000000\ninactive_file 1500000000\n"
                                                "active_file 1000000000\n");
    put("sys/fs/cgroup/user.slice/app.service/cpu.max", "150000 100000\n");
    put("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    const we_memory_info info = memory_of_machine();
    assert_int_equal(info.total_bytes, 4000000000);
    assert_int_equal(info.available_bytes, 3500000000); /* cached files can go */
    assert_true(we_cpu_quota_at(test_dir()) == 1.5);
}

TEST(system_memory_reads_version_1_groups)
{
    put_machine("9:name=systemd:/\n4:memory:/docker/abc\n2:cpuacct,cpu:/docker/abc\n0::/\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "2000000000\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1500000000\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 250000000\n"
                                                       "total_active_file 250000000\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000000000\n");
    put("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    const we_memory_info info = memory_of_machine();
    assert_int_equal(info.total_bytes, 2000000000);
    assert_int_equal(info.available_bytes, 1000000000);
    assert_true(we_cpu_quota_at(test_dir()) == 4);
}

TEST(system_memory_in_a_container_that_names_the_hosts_group)
{
    put_machine(
        "0::/system.slice/docker-0123.scope\n"); /* is not there: the mount point is the container's own group */
    put("sys/fs/cgroup/memory.max", "1000000000\n");
    put("sys/fs/cgroup/memory.current", "900000000\n");
    put("sys/fs/cgroup/cpu.max", "200000 100000\n");
    const we_memory_info info = memory_of_machine();
    assert_int_equal(info.total_bytes, 1000000000);
    assert_int_equal(info.available_bytes, 100000000);
    assert_true(we_cpu_quota_at(test_dir()) == 2);
}

TEST(system_memory_survives_nonsense)
{
    put_machine("nonsense\n");
    memory_of_machine();
    put("proc/self/cgroup", "0::");
    put("sys/fs/cgroup/memory.max", "99999999999999999999999\n");
    put("sys/fs/cgroup/memory.current", "");
    put("sys/fs/cgroup/cpu.max", "100000");
    memory_of_machine();
    assert_true(we_cpu_quota_at(test_dir()) == 0);
    put("proc/meminfo", "");
    we_error err;
    we_memory_info info = { .size = sizeof(info) };
    CHECK_STATUS(we_system_memory_at(test_dir(), &info, &err), WE_E_IO, &err);
    EXPECT_MESSAGE(&err, "MemTotal");
}

#endif
