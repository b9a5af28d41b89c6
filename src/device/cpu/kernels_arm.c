/* SPDX-License-Identifier: Apache-2.0
 * kernels_arm.c - the tables of a build for 64-bit ARM, and what this processor can do. */
#include "device/cpu/neon.h"

#if defined(__linux__)
#include <sys/auxv.h>

bool we_arm_has_dotprod(void)
{
    const unsigned long asimddp = 1ul << 20; /* HWCAP_ASIMDDP */
    return (getauxval(AT_HWCAP) & asimddp) != 0;
}

bool we_arm_has_i8mm(void)
{
    const unsigned long i8mm = 1ul << 13; /* HWCAP2_I8MM */
    return we_arm_has_dotprod() && (getauxval(AT_HWCAP2) & i8mm) != 0;
}
#else
#include <sys/sysctl.h>

bool we_arm_has_dotprod(void) { return true; } /* every processor of Apple's that runs macOS */

bool we_arm_has_i8mm(void)
{
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_I8MM", &has, &size, NULL, 0) == 0 && has;
}
#endif

const we_cpu_kernels *const we_cpu_kernel_tables[] = { &we_cpu_kernels_neon_i8mm, &we_cpu_kernels_neon,
                                                       &we_cpu_kernels_reference, NULL };
