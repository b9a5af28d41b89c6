/* SPDX-License-Identifier: Apache-2.0
 * compiled.c - the compiled form of a tokenizer: its large tables as they lie in memory, in the user's cache directory, to be
 * mapped the next time instead of reading 33 MB of JSON anew. What is small is kept as JSON and read as ever.
 *
 *     header, with a checksum of itself   we_compiled_header
 *     tables, each at a multiple of 64    named by offset, length and hash in the header
 *
 * Which file belongs to a tokenizer.json is asked of its content alone, at every opening: the name is a hash of all of its
 * bytes, of the format and of the library's version. Size and times of a file would save some milliseconds, but they can be
 * set at will, and copies of a model share one form this way. That hash is for speed, and someone could make two texts of one
 * name; the header therefore holds a second one, with a key that is drawn for each form. Both take 7 ms for 33 MB.
 *
 * Trust: the folder and the file must be the user's own and closed to other writers; checksums find what a disk or a
 * crash did; and the tables are checked where they are taken (the _take functions), so that whatever they hold, nothing is read
 * outside of them. A form that fails any of this is passed over and written anew. Deleting it is always safe. */
#include "tokenizer/tokenizer_int.h"

#include <sys/stat.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

#define FORMAT 2 /* counts up with any change to the tables or to a hash in them: test_tokenizer_compiled.c notices */
#define ALIGNMENT 64
#define MAX_FILES 16 /* in the folder: the oldest make room */

static const char magic[8] = { 'w', 'e', 't', 'o', 'k', 'c', 0, FORMAT };

static uint64_t library_hash(void) { return we_str_hash(WE_STR(WE_VERSION)); }

static uint64_t header_hash(const we_compiled_header *h)
{
    const size_t start = offsetof(we_compiled_header, library);
    return we_str_hash((we_str){ (const char *)h + start, sizeof(*h) - start });
}

/* ---- Reading ---- */

bool we_compiled_read(we_str file, we_str source, we_tables *tables)
{
    we_compiled_header h;
    if (file.len < sizeof(h)) return false;
    memcpy(&h, file.ptr, sizeof(h));
    if (memcmp(h.magic, magic, sizeof(magic)) != 0 || h.checksum != header_hash(&h) || h.library != library_hash() ||
        h.source_len != source.len || h.source_hash != we_str_hash_keyed(source, h.salt))
        return false;
    for (size_t i = 0; i < WE_N_TABLES; i++) {
        const uint64_t offset = h.tables[i].offset, len = h.tables[i].len;
        if (offset % ALIGNMENT || offset > file.len || len > file.len - offset) return false;
        tables->table[i] = (we_str){ file.ptr + offset, (size_t)len };
        if (we_str_hash(tables->table[i]) != h.tables[i].hash) return false;
    }
    return true;
}

/* ---- The place ---- */

static char *folder(void)
{
    char *cache = we_dir_user_cache();
    char *path = cache ? we_path_join(cache, "tokenizers") : NULL;
    we_free(cache);
    return path;
}

char *we_compiled_path(we_str source)
{
    char name[40];
    char *dir = folder();
    if (!dir) return NULL;
    snprintf(name, sizeof(name), "%016llx.wetok", (unsigned long long)(we_str_hash(source) ^ library_hash() ^ FORMAT));
    char *path = we_path_join(dir, name);
    we_free(dir);
    return path;
}

static bool is_ours(const char *path)
{
    char *dir = folder();
    const bool ours = dir && we_path_is_private(dir) && we_path_is_private(path);
    we_free(dir);
    return ours;
}

we_map *we_compiled_find(we_str source, we_tables *tables)
{
    char *path = we_compiled_path(source);
    we_map *map = NULL;
    if (path && is_ours(path) && we_map_open(&map, path, NULL) == WE_OK &&
        !we_compiled_read((we_str){ (const char *)we_map_data(map), we_map_len(map) }, source, tables)) {
        we_log(tokenizer, INFO, "%s is damaged or not of this version: it is made anew", path);
        we_map_close(map);
        map = NULL;
    }
    we_free(path);
    return map;
}

/* ---- Writing ---- */

static we_status write_form(const char *path, we_str source, const we_tables *tables, we_error *err)
{
    static const char zeros[ALIGNMENT];
    we_compiled_header h = { .library = library_hash(), .source_len = source.len };
    we_str pieces[2 * WE_N_TABLES + 1];
    size_t n = 0, at = sizeof(h);
    memcpy(h.magic, magic, sizeof(magic));
    if (getentropy(h.salt, sizeof(h.salt)) != 0) return we_fail(err, WE_E_IO, "no random numbers");
    h.source_hash = we_str_hash_keyed(source, h.salt);
    pieces[n++] = (we_str){ (const char *)&h, sizeof(h) };
    for (size_t i = 0; i < WE_N_TABLES; i++) {
        const we_str table = tables->table[i];
        const size_t gap = (ALIGNMENT - at % ALIGNMENT) % ALIGNMENT;
        h.tables[i].offset = at + gap;
        h.tables[i].len = table.len;
        h.tables[i].hash = we_str_hash(table);
        pieces[n++] = (we_str){ zeros, gap };
        pieces[n++] = table;
        at += gap + table.len;
    }
    h.checksum = header_hash(&h);
    return we_file_write_cache(path, pieces, n, 0600, err);
}

typedef struct oldest {
    const char *dir;
    char *path;
    time_t time;
    size_t n_files;
} oldest;

static bool find_oldest(void *user, const char *name)
{
    oldest *o = user;
    struct stat info;
    char *path = we_path_join(o->dir, name);
    if (path && lstat(path, &info) == 0 && S_ISREG(info.st_mode)) {
        o->n_files++;
        if (!o->path || info.st_mtime < o->time) {
            char *former = o->path;
            o->path = path;
            o->time = info.st_mtime;
            path = former;
        }
    }
    we_free(path);
    return true;
}

/* What other versions and files that are gone have left would stay forever. */
static void make_room(const char *dir)
{
    oldest o = { .dir = dir };
    if (we_dir_each(dir, find_oldest, &o, NULL) == WE_OK && o.n_files > MAX_FILES) unlink(o.path);
    we_free(o.path);
}

void we_compiled_save(we_str source, const we_tables *tables)
{
    we_error err = { 0 };
    char *dir = folder(), *path = we_compiled_path(source);
    if (dir && path) {
        we_status st = we_dir_make(dir, 0700, &err);
        if (!st && !we_path_is_private(dir)) st = we_fail(&err, WE_E_IO, "%s is not the user's alone", dir);
        if (!st) st = write_form(path, source, tables, &err);
        if (!st) make_room(dir);
        if (st) we_log(tokenizer, INFO, "the compiled tokenizer is not kept: %s", err.message);
    }
    we_free(dir);
    we_free(path);
}
