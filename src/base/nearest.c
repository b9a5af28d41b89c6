/* SPDX-License-Identifier: Apache-2.0
 * nearest.c - names that somebody may have meant. Unlikeness is Levenshtein's distance, without regard to case. */
#include "base/base.h"

static size_t distance(we_str a, we_str b)
{
    enum { MOST = 120 };
    size_t row[MOST + 1];
    if (a.len > MOST || b.len > MOST) return MOST;
    for (size_t j = 0; j <= b.len; j++) row[j] = j;
    for (size_t i = 0; i < a.len; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b.len; j++) {
            const bool same = (a.ptr[i] | 0x20) == (b.ptr[j] | 0x20);
            const size_t replace = corner + !same;
            corner = row[j + 1];
            row[j + 1] = WE_MIN(replace, WE_MIN(corner, row[j]) + 1);
        }
    }
    return row[b.len];
}

static bool holds(we_str text, we_str part)
{
    for (size_t i = 0; part.len && i + part.len <= text.len; i++)
        if (memcmp(text.ptr + i, part.ptr, part.len) == 0) return true;
    return false;
}

/* How unlike two names are; the name without its publisher counts too, and one that is a part of the other is near. */
static size_t unlikeness(we_str name, we_str wanted)
{
    size_t slash = 0;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] == '/') slash = i + 1;
    const we_str base = { name.ptr + slash, name.len - slash };
    if (holds(name, wanted) || holds(wanted, base)) return 1;
    return WE_MIN(distance(name, wanted), distance(base, wanted));
}

void we_nearest_add(we_nearest *nearest, we_str name)
{
    const size_t most = WE_COUNT(nearest->score), s = unlikeness(name, nearest->wanted);
    if (s > WE_MAX(nearest->wanted.len / 2, (size_t)2) || name.len >= sizeof nearest->name[0]) return;
    for (size_t i = 0; i < nearest->n; i++)
        if (we_str_is(name, nearest->name[i])) return;
    size_t at = nearest->n;
    while (at > 0 && s < nearest->score[at - 1]) at--;
    if (at == most) return;
    nearest->n = WE_MIN(nearest->n + 1, most);
    for (size_t k = nearest->n - 1; k > at; k--) {
        nearest->score[k] = nearest->score[k - 1];
        memcpy(nearest->name[k], nearest->name[k - 1], sizeof nearest->name[k]);
    }
    nearest->score[at] = s;
    memcpy(nearest->name[at], name.ptr, name.len);
    nearest->name[at][name.len] = 0;
}

bool we_nearest_write(const we_nearest *nearest, we_buf *out)
{
    const size_t n = nearest->n;
    for (size_t i = 0; i < n; i++)
        we_buf_printf(out, "%s\"%s\"", i == 0 ? "" : i + 1 == n ? " or " : ", ", nearest->name[i]);
    return n > 0;
}
