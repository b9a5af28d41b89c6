/* SPDX-License-Identifier: Apache-2.0
 * hash.c - SHA-1 and SHA-256 as FIPS 180-4 writes them: padding is the same, the inner loops differ. */
#include "base/hash.h"
#include "base/hash_int.h"
#include "base/base.h"
#include <pthread.h>
#include <stdio.h>

static uint32_t rotate_left(uint32_t x, int n) { return x << n | x >> (32 - n); }
static uint32_t rotate_right(uint32_t x, int n) { return x >> n | x << (32 - n); }

static uint32_t read_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- SHA-1, section 6.1.2 ---- */

static void sha1(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int t = 0; t < 16; t++) w[t] = read_be32(block + 4 * t);
    for (int t = 16; t < 80; t++) w[t] = rotate_left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    for (int t = 0; t < 80; t++) {
        uint32_t f, k;
        if (t < 20)
            f = (b & c) ^ (~b & d), k = 0x5a827999;
        else if (t < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (t < 60)
            f = (b & c) ^ (b & d) ^ (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        const uint32_t next = rotate_left(a, 5) + f + e + k + w[t];
        e = d;
        d = c;
        c = rotate_left(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

/* ---- SHA-256, section 6.2.2 ---- */

const uint32_t we_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void sha256_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 16; t++) w[t] = read_be32(block + 4 * t);
    for (int t = 16; t < 64; t++) {
        const uint32_t x = w[t - 15], y = w[t - 2];
        w[t] = w[t - 16] + w[t - 7] + (rotate_right(x, 7) ^ rotate_right(x, 18) ^ x >> 3) +
               (rotate_right(y, 17) ^ rotate_right(y, 19) ^ y >> 10);
    }
    for (int t = 0; t < 64; t++) {
        const uint32_t t1 = h + (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) +
                            ((e & f) ^ (~e & g)) + we_sha256_k[t] + w[t];
        const uint32_t t2 =
            (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

void we_sha256_plain(uint32_t state[8], const uint8_t *blocks, size_t n_blocks)
{
    for (size_t i = 0; i < n_blocks; i++) sha256_block(state, blocks + 64 * i);
}

static we_sha256_fn sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static void choose_sha256(void) { sha256 = we_sha256_native() ? we_sha256_native() : we_sha256_plain; }

/* ---- What both share ---- */

void we_hash_init(we_hash *h, we_hash_kind kind)
{
    static const uint32_t start[2][8] = {
        [WE_HASH_SHA1] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 },
        [WE_HASH_SHA256] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                             0x5be0cd19 },
    };
    pthread_once(&sha256_once, choose_sha256);
    *h = (we_hash){ .kind = kind };
    memcpy(h->state, start[kind], sizeof h->state);
}

static void add_blocks(we_hash *h, const uint8_t *blocks, size_t n)
{
    if (h->kind == WE_HASH_SHA256) {
        sha256(h->state, blocks, n);
        return;
    }
    for (size_t i = 0; i < n; i++) sha1(h->state, blocks + 64 * i);
}

void we_hash_add(we_hash *h, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    const size_t waiting = h->n_bytes % 64;
    h->n_bytes += len;
    if (len == 0) return;
    if (waiting) {
        const size_t take = WE_MIN(len, 64 - waiting);
        memcpy(h->block + waiting, p, take);
        p += take;
        len -= take;
        if (waiting + take < 64) return;
        add_blocks(h, h->block, 1);
    }
    add_blocks(h, p, len / 64);
    memcpy(h->block, p + len / 64 * 64, len % 64);
}

void we_hash_hex(we_hash *h, char out[WE_HASH_HEX_SIZE])
{
    const uint64_t n_bits = h->n_bytes * 8;
    uint8_t end[72] = { 0x80 }; /* a one bit, zeros, the length: together with what waits one block or two */
    const size_t zeros = (119 - h->n_bytes % 64) % 64;
    for (int i = 0; i < 8; i++) end[1 + zeros + (size_t)i] = (uint8_t)(n_bits >> (56 - 8 * i));
    we_hash_add(h, end, 1 + zeros + 8);
    const int n = h->kind == WE_HASH_SHA1 ? 5 : 8;
    for (int i = 0; i < n; i++) snprintf(out + 8 * i, 9, "%08x", (unsigned)h->state[i]);
}
