/* SPDX-License-Identifier: Apache-2.0
 * kernels_x86.c - the tables of a build for x86-64, and what this processor and its operating system can do. The questions
 * stand here and not beside the kernels, whose files are compiled for instructions that may be missing.
 * Source: Intel SDM vol. 2A, CPUID, and vol. 1, 13.3 (XCR0: the registers that the system saves). */
#include "device/cpu/avx.h"

#include <cpuid.h>

enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6 };

static bool system_saves(uint32_t registers)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}

bool we_x86_has_avx2(void)
{
    unsigned a, b, c, d;
    if (!system_saves(XCR0_AVX) || !__get_cpuid(1, &a, &b, &c, &d)) return false;
    if (!(c & bit_FMA) || !(c & bit_F16C)) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

bool we_x86_has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return we_x86_has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVXVNNI);
}

bool we_x86_has_avx512(void)
{
    unsigned a, b, c, d;
    if (!we_x86_has_avx2() || !system_saves(XCR0_AVX512) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const unsigned foundation = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    const unsigned dots = bit_AVX512VNNI | bit_AVX512VBMI;
    return (b & foundation) == foundation && (c & dots) == dots;
}

bool we_x86_has_avx512_bf16(void)
{
    unsigned a, b, c, d;
    return we_x86_has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVX512BF16);
}

const we_cpu_kernels *const we_cpu_kernel_tables[] = { &we_cpu_kernels_avx512_bf16, &we_cpu_kernels_avx512,
                                                       &we_cpu_kernels_avx_vnni,    &we_cpu_kernels_avx2,
                                                       &we_cpu_kernels_reference,   NULL };
