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
#else
bool we_arm_has_dotprod(void) { return true; } /* every processor of Apple's that runs macOS */
#endif

const we_cpu_kernels *const we_cpu_kernel_tables[] = { &we_cpu_kernels_neon, &we_cpu_kernels_reference, NULL };
