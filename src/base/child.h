/* SPDX-License-Identifier: Apache-2.0
 * child.h - programs that we start: in a session of their own, so that no key of a terminal reaches them, and ended as a whole.
 *
 * Standard input is a pipe that nothing is written to: it reads its end when we close the child, and when we are gone, however
 * that came about. A program that looks at it ends with us. Standard output comes to us; standard error goes where the caller
 * says. No other descriptor is handed on. */
#ifndef WE_BASE_CHILD_H
#define WE_BASE_CHILD_H

#include "base/str.h"

typedef struct we_child we_child;

typedef struct we_child_options {
    const char *const *argv; /* ends with NULL; argv[0] is the program's path, not looked for in PATH */
    const char *const
        *env; /* "NAME=VALUE" in place of the environment's, "NAME" for without it; ends with NULL. NULL: as it is */
    const char *dir; /* it runs there; NULL: where we are */
    int log;         /* descriptor for its standard error; -1: thrown away */
} we_child_options;

/** Start a program.
 * Errors : WE_E_NOT_FOUND, WE_E_DENIED, WE_E_IO (it can't be run), WE_E_NOMEM.
 * Threads: any; a child belongs to one thread at a time. */
we_status we_child_open(we_child **out, const we_child_options *options, we_error *err);

typedef enum we_child_got { WE_CHILD_BYTES, WE_CHILD_SILENT, WE_CHILD_ENDED } we_child_got;
/** Append what it wrote to its standard output; waits for that, at most wait_ms. ENDED: nothing more can come. */
we_child_got we_child_read(we_child *child, we_buf *out, int wait_ms);

/** End it: it is asked to (end of input, SIGTERM), and where it is still there after grace_ms it and all of its process group
 * are killed. NULL is allowed. */
void we_child_close(we_child *child, int grace_ms);

#endif
