/* SPDX-License-Identifier: Apache-2.0
 * test_base_hash.c - SHA-1 and SHA-256 against the examples of FIPS 180-4 (NIST, "Examples with Intermediate Values") and
 * git's own name for a known blob. */
#include "base/hash_int.h"
#include "support.h"

static const char *digest(we_hash_kind kind, const char *text, size_t len)
{
    static char hex[WE_HASH_HEX_SIZE];
    we_hash h;
    we_hash_init(&h, kind);
    we_hash_add(&h, text, len);
    we_hash_hex(&h, hex);
    return hex;
}

TEST(hash_agrees_with_the_standard)
{
    static const struct {
        const char *text, *sha1, *sha256;
    } rows[] = {
        { "", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
          "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "a9993e364706816aba3e25717850c26c9cd0d89d",
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        { "blob 5\0hello", "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", NULL },
    };
    for (size_t i = 0; i < WE_COUNT(rows); i++) {
        const size_t len = i == 3 ? 12 : strlen(rows[i].text);
        assert_string_equal(digest(WE_HASH_SHA1, rows[i].text, len), rows[i].sha1);
        if (rows[i].sha256) assert_string_equal(digest(WE_HASH_SHA256, rows[i].text, len), rows[i].sha256);
    }
}

TEST(hash_of_a_million_letters_in_uneven_pieces)
{
    char letters[1000], hex[WE_HASH_HEX_SIZE];
    memset(letters, 'a', sizeof letters);
    for (int kind = 0; kind < 2; kind++) {
        we_hash h;
        we_hash_init(&h, (we_hash_kind)kind);
        size_t left = 1000000;
        for (size_t piece = 1; left; piece = piece % 997 + 1) {
            const size_t n = WE_MIN(left, piece);
            we_hash_add(&h, letters, n);
            left -= n;
        }
        we_hash_hex(&h, hex);
        assert_string_equal(hex, kind == WE_HASH_SHA1
                                     ? "34aa973cd4c4daa4f61eeb2bdbad27316534016f"
                                     : "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

TEST(hash_of_this_processor_agrees_with_the_plain_one)
{
    uint8_t bytes[64 * 9];
    uint32_t plain[8], native[8];
    uint64_t seed = 7;
    const we_sha256_fn fn = we_sha256_native();
    if (!fn) skip();
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)test_random(&seed);
    for (int i = 0; i < 8; i++) plain[i] = native[i] = (uint32_t)test_random(&seed);
    we_sha256_plain(plain, bytes, 9);
    fn(native, bytes, 9);
    assert_memory_equal(plain, native, sizeof plain);
}
