/* SPDX-License-Identifier: Apache-2.0
 * monitor_int.h - the page of figures that each process with a model keeps, for the two files that write and read it.
 *
 *     $XDG_RUNTIME_DIR/whisperengine/PID-START.stats, mode 0600; else /tmp/whisperengine-UID/, mode 0700
 *
 * START is the process's as we_system_process tells it, so a name is never used twice. One writer, who counts with
 * relaxed atomics in the mapped file; readers copy it and believe nothing. The page is no interface: another version of the library may
 * have another one, which is why it begins with its version and size. */
#ifndef WE_MONITOR_INT_H
#define WE_MONITOR_INT_H

#include "runtime/runtime.h"

#define WE_MONITOR_MAGIC                       \
    {                                          \
        'W', 'E', '-', 'S', 'T', 'A', 'T', 'S' \
    }
#define WE_MONITOR_VERSION 1u

typedef enum we_monitor_count { /* what stands where in the page; a new one changes the version */
                                WE_MONITOR_MODELS,
                                WE_MONITOR_WEIGHTS_BYTES,
                                WE_MONITOR_SCRATCH_BYTES,
                                WE_MONITOR_KV_BYTES,
                                WE_MONITOR_WAITING,
                                WE_MONITOR_RUNNING,
                                WE_MONITOR_DONE,
                                WE_MONITOR_FAILED,
                                WE_MONITOR_PROMPT_TOKENS,
                                WE_MONITOR_CACHED_TOKENS,
                                WE_MONITOR_GENERATED_TOKENS,
                                WE_MONITOR_PROMPT_RATE,     /* thousandths of tokens a second, of the latest prompt */
                                WE_MONITOR_GENERATION_RATE, /* likewise, of the latest answer */
                                WE_MONITOR_FIRST_TOKEN_US,
                                WE_MONITOR_COUNTS
} we_monitor_count;

typedef struct we_monitor_page {
    char magic[8];
    uint32_t version, size;
    uint64_t pid, start;
    _Atomic uint64_t sequence; /* odd while the texts are being written */
    char model[256], device[64];
    _Atomic uint64_t counts[WE_MONITOR_COUNTS];
} we_monitor_page;

/** A page's bytes as what the public header promises, but for what the system tells of the process.
 * Errors: WE_E_FORMAT (not such a page, not this process's, figures or texts that can't be). */
we_status we_monitor_parse(we_str bytes, uint64_t pid, uint64_t start, we_monitor_info *out, we_error *err);
/** A page's bytes, texts and figures of one moment. Errors: WE_E_IO, WE_E_FORMAT (no regular file of ours, another size). */
we_status we_monitor_read(const char *path, we_monitor_page *out, we_error *err);

/** "PID-START.stats" of a process, and back. */
void we_monitor_name(char out[64], uint64_t pid, uint64_t start);
bool we_monitor_name_parse(const char *name, uint64_t *pid, uint64_t *start);

/** The folder at one of the two places: first the session's, then the one below /tmp. make: where it is missing.
 * path   : out, NULL where there is none that can be trusted; free with we_free. */
#define WE_MONITOR_PLACES 2
we_status we_monitor_dir(int place, bool make, char **path, we_error *err);

/** Remove the pages of processes that are gone. */
void we_monitor_tidy(void);
/** Fill in what the system tells: process and memory. */
void we_monitor_complete(we_monitor_info *info, const we_process *process);

#endif
