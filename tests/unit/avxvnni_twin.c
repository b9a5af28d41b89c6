/* SPDX-License-Identifier: Apache-2.0
 * build: -mavx2 -mfma -mf16c -mavx512f -mavx512vl -mavx512vnni
 * avxvnni_twin.c - the table for AVX-VNNI once more, in the AVX-512VL form of its one instruction, for machines that have only that
 * form: test_kernels.c holds it to the reference. */
#include <immintrin.h>

#define _mm256_dpbusd_avx_epi32 _mm256_dpbusd_epi32
#define we_cpu_kernels_avx_vnni we_test_avxvnni_twin
#define we_x86_has_avx_vnni we_x86_has_avx512
#include "device/cpu/avxvnni_q8.c"
