/* SPDX-License-Identifier: Apache-2.0
 * kernels_none.c - the tables of a processor that we have no special code for. */
#include "device/cpu/kernels.h"

const we_cpu_kernels *const we_cpu_kernel_tables[] = { &we_cpu_kernels_reference, NULL };
