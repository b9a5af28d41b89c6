/* SPDX-License-Identifier: Apache-2.0
 * build: -march=armv8-a+crypto
 * hash_arm.c - SHA-256 with the cryptographic extension of 64-bit ARM.
 * Source: Arm Architecture Reference Manual, SHA256H, SHA256H2, SHA256SU0, SHA256SU1. */
#include "base/hash_int.h"
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

static void sha256_ce(uint32_t state[8], const uint8_t *blocks, size_t n_blocks)
{
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; n_blocks; n_blocks--, blocks += 64) {
        const uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t w[4]; /* the last 16 words of the schedule */
        for (int i = 0; i < 16; i++) {
            uint32x4_t *now = &w[i % 4];
            if (i < 4)
                *now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(blocks + 16 * i)));
            else
                *now = vsha256su1q_u32(vsha256su0q_u32(*now, w[(i + 1) % 4]), w[(i + 2) % 4], w[(i + 3) % 4]);
            const uint32x4_t wk = vaddq_u32(*now, vld1q_u32(we_sha256_k + 4 * i)), before = abcd;
            abcd = vsha256hq_u32(abcd, efgh, wk);
            efgh = vsha256h2q_u32(efgh, before, wk);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

we_sha256_fn we_sha256_native(void)
{
#if defined(__linux__)
    const unsigned long has_sha2 = 1UL << 6; /* HWCAP_SHA2 */
    return getauxval(AT_HWCAP) & has_sha2 ? sha256_ce : NULL;
#else
    return sha256_ce; /* every Mac with this processor has it */
#endif
}
