/* SPDX-License-Identifier: Apache-2.0
 * nearest.h - names that somebody may have meant: of all that are added, the three that are least unlike a wanted one. */
#ifndef WE_BASE_NEAREST_H
#define WE_BASE_NEAREST_H

#include "base/str.h"

typedef struct we_nearest { /* zeroed but for `wanted` is ready */
    we_str wanted;          /* borrowed */
    size_t n, score[3];
    char name[3][256];
} we_nearest;

/** Take a name into account; it is copied. One that is too unlike, too long or there already is left out. */
void we_nearest_add(we_nearest *nearest, we_str name);
/** Append them as "a", "b" or "c", quotes included; nothing where none is near. False: nothing. */
bool we_nearest_write(const we_nearest *nearest, we_buf *out);

#endif
