/* SPDX-License-Identifier: Apache-2.0
 * fuzz_hub_files.c - any bytes as the hub's list of files: an error, or a list whose names and hashes can be used in paths. */
#include "hub/hub_int.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    we_hub_files files = { 0 };
    we_error err;
    if (!we_hub_files_parse(&files, (we_str){ (const char *)data, size }, &err) && !we_hub_files_sort(&files, &err)) {
        we_hub_files_choose(&files, "org/name", &err);
        for (size_t i = 0; i < files.n; i++) {
            const char *path = files.items[i].path, *blob = we_hub_blob(&files.items[i]);
            if (path[0] == '/' || strstr(path, "/../") || strncmp(path, "../", 3) == 0) abort();
            if (strlen(blob) != (files.items[i].sha256 ? 64u : 40u) || strpbrk(blob, "/.")) abort();
        }
    }
    we_hub_files_deinit(&files);
    return 0;
}
