/* SPDX-License-Identifier: Apache-2.0
 * kernels_arm.c - the tables of a build for 64-bit ARM. */
#include "device/cpu/kernels.h"

const we_cpu_kernels *const we_cpu_kernel_tables[] = { &we_cpu_kernels_reference, NULL };
