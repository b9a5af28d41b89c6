/* SPDX-License-Identifier: Apache-2.0
 * hub_int.h - what the files of hub/ share: settings from the environment, names of repositories, the hub's API, the cache's
 * layout, locks, the download of one set of files.
 *
 * huggingface_hub's cache, which is ours too:
 *
 *     CACHE/models--ORG--NAME/refs/main                 the commit of a branch or tag, as text
 *                             snapshots/COMMIT/FILE     a relative link to the blob
 *                             blobs/HASH                SHA-256 of a file in LFS, git's SHA-1 of any other
 *                             blobs/HASH.incomplete     the beginning of one, as older versions of it leave it behind
 *                             blobs/HASH.whisperengine.incomplete    ranges of one, ours (partial.c)
 *                             trees/COMMIT.json         the list of files, as newer versions of it keep it
 *     CACHE/.locks/models--ORG--NAME/HASH.lock          flock, held while the blob is written */
#ifndef WE_HUB_INT_H
#define WE_HUB_INT_H

#include "hub/hub.h"
#include "net/net.h"

/* ---- settings.c: the environment ---- */

typedef struct we_hub_settings {
    char *cache;    /* NULL where there is no home */
    char *endpoint; /* "https://huggingface.co", without a slash behind */
    char *token;    /* NULL: none */
    bool offline;
} we_hub_settings;

/** token, endpoint: NULL: as the environment says. Errors: WE_E_NOMEM. */
we_status we_hub_settings_read(we_hub_settings *s, const char *token, const char *endpoint, we_error *err);
void we_hub_settings_deinit(we_hub_settings *s);
char *we_hub_models_dir(void); /* the folder that holds mlx/; we_free */

/* ---- local.c: the models folder ---- */

/** Where a model of that name belongs: MODELS/mlx/NAME. we_free; NULL: no memory. */
char *we_local_place(const char *name);
/** What is called so in the models folder: a folder, a link (perhaps to nothing) or a GGUF file. we_free; NULL: nothing is. */
char *we_local_find(const char *name);
/** Every model there. *go_on: false: fn stopped it. Folders that cannot be read are logged. Errors: WE_E_NOMEM. */
we_status we_local_each(we_hub_fn fn, void *user, bool *go_on, we_error *err);

/* ---- names.c: what a user may call a model on the hub ---- */

typedef struct we_hub_name {
    char *repo;     /* "ORG/NAME" */
    char *revision; /* "main" where none was given */
    char *folder;   /* "models--ORG--NAME" */
} we_hub_name;

/** "ORG/NAME", "ORG/NAME@REVISION", "SHORT" or "SHORT@REVISION". Errors: WE_E_ARG, WE_E_NOT_FOUND (no such short name; the next
 * ones are told), WE_E_NOMEM. */
we_status we_hub_name_parse(we_hub_name *out, const char *text, we_error *err);
void we_hub_name_deinit(we_hub_name *name);

/** Is a file of this name a model? Not "mmproj...", nor a later part of a split one. (foreign.c) */
bool we_hub_is_gguf_name(we_str file);
bool we_hub_is_gguf_part(we_str file); /* "m-00002-of-00003.gguf" */
/** May this name from the hub become a file below a folder? Relative, no "." or ".." or empty part, no backslash, no control
 * characters, valid UTF-8, of a length that file systems take. */
bool we_hub_path_is_safe(we_str path);
bool we_hub_is_hex(we_str s, size_t n);
#define WE_HUB_IS_COMMIT(s) we_hub_is_hex(s, 40)

/* ---- files.c: a repository's list of files, and which of them a model needs ---- */

typedef struct we_hub_file {
    const char *path;
    uint64_t size;
    const char *oid;    /* of the blob in git, 40 hexadecimal digits */
    const char *sha256; /* of the content where it lies in LFS, else NULL */
    const char *xet;    /* another of its names, kept for huggingface_hub; else NULL */
    uint64_t oid_size;  /* `size` in the list of huggingface_hub, the same but for odd servers */
    bool needed;
} we_hub_file;

typedef struct we_hub_files {
    we_arena arena;
    we_hub_file *items;
    size_t n, capacity;
} we_hub_files;

/** The name of a file's blob, and how its content is hashed. */
static inline const char *we_hub_blob(const we_hub_file *f) { return f->sha256 ? f->sha256 : f->oid; }

/** Add a page of the API's answer. Errors: WE_E_FORMAT (also for a name that is not safe), WE_E_NOMEM. */
we_status we_hub_files_parse(we_hub_files *files, we_str json, we_error *err);
/** Sort by path; WE_E_FORMAT where one stands there twice. */
we_status we_hub_files_sort(we_hub_files *files, we_error *err);
/** Mark what a model needs. Errors: WE_E_NOT_FOUND: it is no model that can be run or converted; the message says what is there. */
we_status we_hub_files_choose(we_hub_files *files, const char *repo, we_error *err);
void we_hub_files_deinit(we_hub_files *files);

/** The list in trees/COMMIT.json. Reading gives WE_E_NOT_FOUND where there is none, WE_E_FORMAT where it is broken. */
we_status we_hub_files_read(we_hub_files *files, const char *path, we_error *err);
we_status we_hub_files_write(const we_hub_files *files, const char *path, we_error *err);

/* ---- api.c: asking the hub ---- */

typedef struct we_hub_client {
    const we_hub_settings *settings;
    const we_hub_name *name;
    const atomic_bool *cancel;
    int retries;
    we_net *net; /* of the thread that asks the API */
} we_hub_client;

we_status we_hub_net_open(we_net **out, we_error *err);
/** The commit that the name's revision stands for. */
we_status we_hub_api_commit(const we_hub_client *c, char commit[41], we_error *err);
we_status we_hub_api_files(const we_hub_client *c, const char *commit, we_hub_files *files, we_error *err);
/** The address of a file's content; we_free. NULL when memory is out. */
char *we_hub_file_url(const we_hub_client *c, const char *commit, const char *path);
/** The headers of every request; gives their count, at most 2. `bearer` is the buffer of the token's. */
size_t we_hub_headers(const we_hub_client *c, we_buf *bearer, we_net_header out[2]);
/** Say why the hub did not give `what` (a status of 400 and more, or one that no one expects). */
we_status we_hub_refused(const we_hub_client *c, const we_net_response *r, const char *what, we_error *err);

/* ---- lock.c ---- */

/** Take huggingface_hub's lock of a blob, without waiting. *fd is -1 where another holds it.
 * Errors : WE_E_IO, WE_E_NOMEM. */
we_status we_hub_lock(const char *cache, const char *folder, const char *blob, int *fd, we_error *err);
void we_hub_unlock(int fd);

/* ---- partial.c: a blob that comes in ranges ---- */

typedef struct we_partial {
    int fd;
    char *path;
    uint64_t size, chunk_bytes;
    size_t n_chunks;
    uint64_t *filled; /* [n_chunks] bytes from each chunk's beginning */
    bool *claimed;    /* [n_chunks] a connection works on it */
} we_partial;

/** Open or begin the partial file of a blob; its lock must be held.
 * old    : HASH.incomplete of huggingface_hub, taken over where ours is not there. */
we_status we_partial_open(we_partial *p, const char *path, const char *old, uint64_t size, uint64_t chunk_bytes,
                          we_error *err);
static inline uint64_t we_partial_start(const we_partial *p, size_t i) { return (uint64_t)i * p->chunk_bytes; }
uint64_t we_partial_chunk_size(const we_partial *p, size_t i);
uint64_t we_partial_done(const we_partial *p);
/** Append to chunk i. Errors: WE_E_IO. */
we_status we_partial_write(const we_partial *p, size_t i, uint64_t at, const void *bytes, size_t n, we_error *err);
/** Note on disk how far chunk i has come: after this, a kill does not lose it. */
we_status we_partial_note(const we_partial *p, size_t i, uint64_t filled, we_error *err);
/** Forget everything: one chunk from now on where `whole`. */
we_status we_partial_restart(we_partial *p, bool whole, we_error *err);
/** The hash of the content, as the blob's name is formed. Errors: WE_E_IO, WE_E_CANCELLED. */
we_status we_partial_hash(const we_partial *p, const we_hub_file *file, const atomic_bool *cancel,
                          char hex[WE_HASH_HEX_SIZE], we_error *err);
/** Cut what is not content, flush, rename. */
we_status we_partial_finish(const we_partial *p, const char *blob, we_error *err);
void we_partial_close(we_partial *p);

/** A file's hash as a blob's name: git's where `size_prefix`, else SHA-256 of the bytes alone. */
we_status we_hub_hash_fd(int fd, const char *path, uint64_t size, bool git, const atomic_bool *cancel,
                         void (*step)(void *user, uint64_t n), void *user, char hex[WE_HASH_HEX_SIZE], we_error *err);

/* ---- download.c ---- */

typedef struct we_download {
    const we_hub_client *client;
    const char *commit;
    const char *root; /* CACHE/models--ORG--NAME */
    int connections;
    we_pull_progress_fn progress;
    void *user;
} we_download;

/** Bring the blobs of all needed files that are not there. */
we_status we_download_run(const we_download *d, const we_hub_files *files, atomic_bool *cancel, we_error *err);

/* ---- cache.c ---- */

char *we_hub_join(const char *a, const char *b, const char *c); /* we_free */
bool we_hub_has_config(const char *dir);
/** The folder of a revision (branch, tag, commit or its first digits), which need not hold a model; NULL where it is not there. */
char *we_hub_snapshot(const char *cache, const char *folder, const char *revision);
/** "models--ORG--NAME" -> "ORG/NAME"; we_free. NULL: another kind of entry. */
char *we_hub_repo_of(const char *folder);
/** Make snapshots/COMMIT/PATH a link to the blob, through folders that are no links. Existing links to it stay.
 * Errors : WE_E_IO, WE_E_FORMAT (a link stands in the way), WE_E_NOMEM. */
we_status we_hub_link(const char *root, const char *commit, const char *path, const char *blob, we_error *err);
we_status we_hub_write_ref(const char *root, const char *revision, const char *commit, we_error *err);

#endif
