/* SPDX-License-Identifier: Apache-2.0
 * host.c - products outside of steps, with the CPU device's kernels and without a device. */
#include "device/cpu/kernels.h"
#include "device/device.h"

#include <pthread.h>

static we_cpu_kernels best;
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void) { we_cpu_kernels_choose(NULL, &best); } /* the reference runs everywhere */

void we_host_mul_add(const float *a, int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, int64_t m,
                     int64_t n, int64_t k)
{
    pthread_once(&chosen, choose);
    best.mul_f32(a, lda, b, ldb, c, ldc, m, n, k, true);
}
