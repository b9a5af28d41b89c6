/* SPDX-License-Identifier: Apache-2.0
 * file.h - reading files whole, mapping them, writing them so that nothing is ever half-written, paths, folders.
 *
 * A mapped file that another program cuts short would end the process with SIGBUS. Maps are therefore registered, and a
 * handler (installed with a map, passing on what is not ours) puts zero pages in the place of the missing ones and marks
 * the map as torn; whoever computes over a map asks we_map_check afterwards and throws the result away. */
#ifndef WE_BASE_FILE_H
#define WE_BASE_FILE_H

#include "base/str.h"

typedef struct we_map we_map; /* a file, mapped read-only */

/** Map a regular file. Errors: WE_E_NOT_FOUND, WE_E_IO. An empty file maps to len 0. */
we_status we_map_open(we_map **out, const char *path, we_error *err);
void we_map_close(we_map *map); /* NULL is allowed */
const uint8_t *we_map_data(const we_map *map);
size_t we_map_len(const we_map *map);
const char *we_map_path(const we_map *map);
/** WE_E_DEVICE where the file has become shorter than the map ("PATH was cut short while in use ..."): one fstat. */
we_status we_map_check(const we_map *map, we_error *err);
/** Tell the kernel that the whole will be read soon, in order. */
void we_map_will_need(const we_map *map);
/** Whether the bytes [at, at + len) are in the system's cache, so that reading them waits for no disk. Of a file that this user may
 * not write, Linux says yes without a look. */
bool we_map_is_cached(const we_map *map, size_t at, size_t len);
/** The bytes [at, at + len) will not be read again soon: their pages stop counting as this process's memory (they stay in
 * the system's cache, and come back by themselves where somebody does read them). */
void we_map_drop(const we_map *map, size_t at, size_t len);

/** A file's bytes with a NUL behind them. max_len guards against absurd sizes (0: 1 GiB). Errors: WE_E_NOT_FOUND, WE_E_IO,
 * WE_E_FORMAT (too large), WE_E_NOMEM. *text is freed with we_free. "-" is not special. */
we_status we_file_read(const char *path, size_t max_len, char **text, size_t *len, we_error *err);
/** Write beside, flush, rename over: readers see the old or the new file, whole. mode e.g. 0600. */
we_status we_file_write(const char *path, const void *bytes, size_t len, unsigned mode, we_error *err);
/** The same from several pieces and without waiting for the disk: for caches, which a crash may lose or cut. */
we_status we_file_write_cache(const char *path, const we_str *pieces, size_t n_pieces, unsigned mode, we_error *err);

bool we_path_exists(const char *path);
bool we_path_is_dir(const char *path);
/** No link, owned by this process's user, and nobody else may write to it. */
bool we_path_is_private(const char *path);
uint64_t we_path_size(const char *path);                               /* 0 where it can't be read */
char *we_path_join(const char *dir, const char *name);                 /* we_free; NULL when memory is out */
const char *we_path_base(const char *path);                            /* the part after the last '/', borrowed */
we_status we_dir_make(const char *path, unsigned mode, we_error *err); /* with its parents; existing is fine */

/* Called for each entry but "." and ".."; false stops. */
typedef bool (*we_dir_fn)(void *user, const char *name);
/** Errors: WE_E_NOT_FOUND, WE_E_IO. Names come sorted by bytes. */
we_status we_dir_each(const char *path, we_dir_fn fn, void *user, we_error *err);

/** The user's folders by the XDG base directory specification (macOS: ~/Library/Application Support and Caches), with
 * "/whisperengine" behind; NULL where there is no home. we_free. */
char *we_dir_user_data(void);
char *we_dir_user_config(void);
char *we_dir_user_cache(void);

#endif
