/* replay.c - main() of a fuzz target in a normal build: runs every file of its kept corpus through the target once.
 * Not here: the targets (fuzz_<parser>.c, one LLVMFuzzerTestOneInput each); fuzzing itself (script/fuzz, libFuzzer).
 * Each input lies in a heap block of exactly its size, so that the sanitizer builds see a read past its end.
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 1: replayed, 0: not a regular file, -1: unreadable */
static int replay_file(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return -1;
    if (!S_ISREG(st.st_mode)) return 0;
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1);
    int result = -1;
    if (data && fread(data, 1, size, f) == size) {
        LLVMFuzzerTestOneInput(data, size);
        result = 1;
    }
    free(data);
    fclose(f);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    struct dirent **entries = NULL;
    int n_entries = scandir(argv[1], &entries, NULL, alphasort);
    int n_replayed = 0;
    int n_failed = 0;
    for (int i = 0; i < n_entries; i++) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", argv[1], entries[i]->d_name);
        fprintf(stderr, "%s\n", path); /* the last one named is the one that crashed */
        int result = length < (int)sizeof path ? replay_file(path) : -1;
        if (result > 0) n_replayed++;
        if (result < 0) {
            fprintf(stderr, "%s: cannot be read\n", path);
            n_failed++;
        }
        free(entries[i]);
    }
    free(entries);
    if (n_replayed == 0) fprintf(stderr, "%s: the corpus is empty or missing; it needs at least one input\n", argv[1]);
    printf("%d inputs replayed, %d unreadable\n", n_replayed, n_failed);
    return n_replayed > 0 && n_failed == 0 ? 0 : 1;
}
