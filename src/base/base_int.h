/* SPDX-License-Identifier: Apache-2.0
 * base_int.h - what only base's own files share, and its tests. */
#ifndef WE_BASE_INT_H
#define WE_BASE_INT_H

#include "base/error.h"

/** "PATH: WHAT: No such file or directory" for an errno. Gives WE_E_NOT_FOUND, WE_E_NOMEM or else WE_E_IO. */
we_status we_fail_errno(we_error *err, const char *path, const char *what, int code);

/** Copy the figures into the caller's struct, as many as its `size` has room for. */
void we_memory_info_set(we_memory_info *info, const we_memory_info *read);

/* Linux: the system's figures, read below another root than "" so that tests can bring files of their own. */
we_status we_system_memory_at(const char *root, we_memory_info *info, we_error *err);
double we_cpu_quota_at(const char *root); /* processors that the control group allows; 0 where it sets no limit */

#endif
