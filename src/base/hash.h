/* SPDX-License-Identifier: Apache-2.0
 * hash.h - SHA-1 and SHA-256 (FIPS 180-4), for checking files against the names that the hub's storage gives them. Not for
 * secrets. Own code, since libcrypto is not what libcurl uses everywhere (macOS, GnuTLS builds), and this is one page. */
#ifndef WE_BASE_HASH_H
#define WE_BASE_HASH_H

#include "base/str.h"

typedef enum we_hash_kind { WE_HASH_SHA1, WE_HASH_SHA256 } we_hash_kind;

#define WE_HASH_HEX_SIZE 65 /* of SHA-256, with its NUL; SHA-1 takes 41 of them */

typedef struct we_hash {
    we_hash_kind kind;
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t block[64]; /* n_bytes % 64 of them wait here */
} we_hash;

void we_hash_init(we_hash *hash, we_hash_kind kind);
void we_hash_add(we_hash *hash, const void *bytes, size_t len);
/** The digest in lower-case hexadecimal digits; the hash is then used up. */
void we_hash_hex(we_hash *hash, char out[WE_HASH_HEX_SIZE]);

#endif
