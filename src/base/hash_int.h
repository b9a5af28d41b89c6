/* SPDX-License-Identifier: Apache-2.0
 * hash_int.h - the inner loop of SHA-256, which processors have instructions for. */
#ifndef WE_BASE_HASH_INT_H
#define WE_BASE_HASH_INT_H

#include <stddef.h>
#include <stdint.h>

typedef void (*we_sha256_fn)(uint32_t state[8], const uint8_t *blocks, size_t n_blocks);

extern const uint32_t we_sha256_k[64]; /* FIPS 180-4, section 4.2.2 */
void we_sha256_plain(uint32_t state[8], const uint8_t *blocks, size_t n_blocks);
/** The version for this processor, or NULL where it has no instructions for it. hash_x86.c, hash_arm.c, hash_none.c. */
we_sha256_fn we_sha256_native(void);

#endif
