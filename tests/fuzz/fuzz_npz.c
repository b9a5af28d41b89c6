/* SPDX-License-Identifier: Apache-2.0
 * fuzz_npz.c - any bytes as a .npz archive: refused with a message, or tensors that can be read. Checksums stop nearly
 * all changes to a member, so the first byte says whether those of stored members are put right before the archive is
 * read. */
#include "weight_checks.h"

#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t read_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Each record of a directory that points to a member stored in the archive gets that member's checksum. */
static void repair_checksums(uint8_t *zip, size_t size)
{
    for (size_t at = 0; size >= 46 && at <= size - 46; at++) {
        uint8_t *record = zip + at;
        if (read_u32(record) != 0x02014b50) continue;
        const size_t len = read_u32(record + 20), local = read_u32(record + 42);
        if (local > size - 32 || read_u32(zip + local) != 0x04034b50) continue;
        const size_t begin = local + 30 + (read_u32(zip + local + 26) & 0xFFFF) + (read_u32(zip + local + 28) & 0xFFFF);
        if (begin > size || len > size - begin) continue;
        const uint32_t crc = (uint32_t)crc32(0, zip + begin, (unsigned)len);
        for (int i = 0; i < 4; i++) record[16 + i] = (uint8_t)(crc >> (8 * i));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const bool repair = data[0] & 1;
    uint8_t *zip = malloc(size);
    if (!zip) return 0;
    memcpy(zip, data, size);
    if (repair) repair_checksums(zip + 1, size - 1);

    we_arena arena = { 0 };
    we_weight *weights;
    size_t n, unpacked = 0;
    we_error err = { 0 };
    const we_status st =
        we_npz_parse(&arena, (we_str){ (char *)zip + 1, size - 1 }, "f", MAX_UNPACKED, &weights, &n, &unpacked, &err);
    check_weights(st, &err, weights, n, unpacked);
    we_arena_deinit(&arena);
    free(zip);
    return 0;
}
