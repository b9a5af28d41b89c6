/* SPDX-License-Identifier: Apache-2.0
 * fuzz_pytorch.c - any bytes as a file of torch.save: refused with a message, or tensors that can be read. An even first byte
 * means that the rest is an archive; else it is a pickle, which is put into an archive with a storage "0" of 64 bytes. */
#include "weight_checks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(we_buf *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++, value >>= 8) we_buf_append_char(out, (char)value);
}

/* A member at the archive's end, and its record for the directory. */
static void add_member(we_buf *zip, we_buf *directory, const char *name, we_str content)
{
    const size_t at = zip->len, name_len = strlen(name);
    put(zip, 0x04034b50, 4), put(zip, 0, 22), put(zip, name_len, 2), put(zip, 0, 2);
    we_buf_append(zip, name, name_len);
    we_buf_append_str(zip, content);
    put(directory, 0x02014b50, 4), put(directory, 0, 16), put(directory, content.len, 4),
        put(directory, content.len, 4);
    put(directory, name_len, 2), put(directory, 0, 12), put(directory, at, 4);
    we_buf_append(directory, name, name_len);
}

static void wrap(we_buf *zip, we_str pickle)
{
    static const char storage[64] = { 1, 2, 3 };
    we_buf directory = { 0 };
    add_member(zip, &directory, "m/data.pkl", pickle);
    add_member(zip, &directory, "m/data/0", (we_str){ storage, sizeof storage });
    const size_t at = zip->len;
    we_buf_append_str(zip, we_buf_str(&directory));
    put(zip, 0x06054b50, 4), put(zip, 0, 4), put(zip, 2, 2), put(zip, 2, 2);
    put(zip, directory.len, 4), put(zip, at, 4), put(zip, 0, 2);
    we_buf_deinit(&directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    we_buf zip = { 0 };
    const we_str rest = { (const char *)data + 1, size - 1 };
    if (data[0] & 1)
        wrap(&zip, rest);
    else
        we_buf_append_str(&zip, rest);

    we_arena arena = { 0 };
    we_weight *weights;
    size_t n, unpacked = 0;
    we_error err = { 0 };
    const we_status st = we_pytorch_parse(&arena, we_buf_str(&zip), "f", MAX_UNPACKED, &weights, &n, &unpacked, &err);
    check_weights(st, &err, weights, n, unpacked);
    we_arena_deinit(&arena);
    we_buf_deinit(&zip);
    return 0;
}
