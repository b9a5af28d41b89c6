/* SPDX-License-Identifier: Apache-2.0
 * kernels_x86.c - the tables of a build for x86-64. */
#include "device/cpu/kernels.h"

const we_cpu_kernels *const we_cpu_kernel_tables[] = { &we_cpu_kernels_reference, NULL };
