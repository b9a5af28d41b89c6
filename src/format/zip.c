/* SPDX-License-Identifier: Apache-2.0
 * zip.c - the members of a zip archive: names, sizes, places. What they hold: npz.c, pytorch.c.
 *
 *     +-------+---------+-------+---------+-----+-------------------+----------------+-----+
 *     | local | member  | local | member  | ... | central directory | zip64 end and  | end |
 *     | head  | (data)  | head  | (data)  |     | a record a member | its locator    |     |
 *     +-------+---------+-------+---------+-----+-------------------+----------------+-----+
 *
 * Sizes come from the central directory: MLX writes 0xFFFFFFFF into the local heads. Members may not share bytes, which
 * guards against a kind of zip bomb.
 * Source: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3. */
#include "format/format_int.h"

#include <stdlib.h>

enum { END_BYTES = 22, LOCATOR_BYTES = 20, END64_BYTES = 56, CENTRAL_BYTES = 46, LOCAL_BYTES = 30 };
#define END_SIGNATURE 0x06054b50U
#define LOCATOR_SIGNATURE 0x07064b50U
#define END64_SIGNATURE 0x06064b50U
#define CENTRAL_SIGNATURE 0x02014b50U
#define LOCAL_SIGNATURE 0x04034b50U
#define FLAG_ENCRYPTED 1U
#define ZIP64_EXTRA 1U
#define IN_ZIP64 UINT32_MAX /* in a 32-bit field: the zip64 extra field has the number */
#define DEFLATE_MOST 1032   /* deflate shrinks by no more than this */

static we_status broken(const we_zip *a, const char *what)
{
    return we_fail(a->err, WE_E_FORMAT, "%s: %s: " WE_DAMAGED, a->file, what);
}

we_status we_zip_broken(const we_zip *a, const we_zip_member *m, const char *what)
{
    return we_fail(a->err, WE_E_FORMAT, "%s: \"%.*s\": %s: " WE_DAMAGED, a->file, (int)WE_MIN(m->name.len, 200U),
                   m->name.ptr, what);
}

/* ---- The central directory ---- */

static bool fits(const we_zip *a, uint64_t at, uint64_t len) { return at <= a->len && len <= a->len - at; }

/* The end record lies in the last 22 bytes, or before a comment of at most 65535 that reaches exactly to the end. */
static bool find_end(const we_zip *a, uint64_t *at)
{
    for (uint64_t comment = 0; comment <= UINT16_MAX && fits(a, 0, END_BYTES + comment); comment++) {
        const uint8_t *p = a->bytes + (a->len - END_BYTES - comment);
        if (we_read_u32(p) == END_SIGNATURE && we_read_u16(p + 20) == comment) {
            *at = a->len - END_BYTES - comment;
            return true;
        }
    }
    return false;
}

static we_status find_directory(we_zip *a)
{
    uint64_t end;
    if (!find_end(a, &end)) return broken(a, "not a zip archive, or cut short: it has no directory at its end");
    const uint8_t *p = a->bytes + end;
    a->n_members = we_read_u16(p + 10);
    a->directory_len = we_read_u32(p + 12);
    a->directory = we_read_u32(p + 16);
    if (end >= LOCATOR_BYTES && we_read_u32(p - LOCATOR_BYTES) == LOCATOR_SIGNATURE) {
        const uint64_t end64 = we_read_u64(p - LOCATOR_BYTES + 8);
        if (!fits(a, end64, END64_BYTES) || we_read_u32(a->bytes + end64) != END64_SIGNATURE)
            return broken(a, "its zip64 record is not where its locator says");
        a->n_members = we_read_u64(a->bytes + end64 + 32);
        a->directory_len = we_read_u64(a->bytes + end64 + 40);
        a->directory = we_read_u64(a->bytes + end64 + 48);
    }
    if (a->directory > end || a->directory_len > end - a->directory)
        return broken(a, "its zip directory reaches beyond the end of the file");
    return WE_OK;
}

/* Numbers that did not fit 32 bits, in this order, only those that are marked. */
static bool read_zip64(const uint8_t *extra, size_t extra_len, uint64_t *fields[], size_t n_fields)
{
    size_t n_marked = 0;
    for (size_t i = 0; i < n_fields; i++) n_marked += *fields[i] == IN_ZIP64;
    if (n_marked == 0) return true;
    for (size_t at = 0; extra_len - at >= 4;) {
        const unsigned id = we_read_u16(extra + at);
        const size_t len = we_read_u16(extra + at + 2);
        at += 4;
        if (len > extra_len - at) return false;
        if (id == ZIP64_EXTRA) {
            if (len < 8 * n_marked) return false;
            for (size_t i = 0; i < n_fields; i++)
                if (*fields[i] == IN_ZIP64) {
                    *fields[i] = we_read_u64(extra + at);
                    at += 8;
                }
            return true;
        }
        at += len;
    }
    return false;
}

/* Where the member's bytes lie: its local head has a name and extra fields of its own lengths. */
static we_status read_local(const we_zip *a, we_zip_member *m)
{
    if (m->local > a->directory || LOCAL_BYTES > a->directory - m->local ||
        we_read_u32(a->bytes + m->local) != LOCAL_SIGNATURE)
        return we_zip_broken(a, m, "the zip directory points to a place where no member begins");
    const uint8_t *p = a->bytes + m->local;
    const uint64_t name_len = we_read_u16(p + 26), extra_len = we_read_u16(p + 28);
    m->data = m->local + LOCAL_BYTES + name_len + extra_len;
    if (m->data > a->directory || m->packed_len > a->directory - m->data)
        return we_zip_broken(a, m, "reaches beyond the end of the archive's data");
    if (!we_str_eq((we_str){ (const char *)p + LOCAL_BYTES, (size_t)name_len }, m->name))
        return we_zip_broken(a, m, "has another name in its own head than in the zip directory");
    m->end = m->data + m->packed_len;
    return WE_OK;
}

/* One record of the central directory; *at moves behind it. */
static we_status read_central(const we_zip *a, uint64_t *at, we_zip_member *m)
{
    const uint64_t directory_end = a->directory + a->directory_len;
    const uint8_t *p = a->bytes + *at;
    if (CENTRAL_BYTES > directory_end - *at || we_read_u32(p) != CENTRAL_SIGNATURE)
        return broken(a, "its zip directory is broken");
    const size_t name_len = we_read_u16(p + 28), extra_len = we_read_u16(p + 30), comment_len = we_read_u16(p + 32);
    if (name_len + extra_len + comment_len > directory_end - *at - CENTRAL_BYTES)
        return broken(a, "its zip directory is cut short");
    *m = (we_zip_member){
        .name = { (const char *)p + CENTRAL_BYTES, name_len },
        .method = we_read_u16(p + 10),
        .crc = we_read_u32(p + 16),
        .packed_len = we_read_u32(p + 20),
        .len = we_read_u32(p + 24),
        .local = we_read_u32(p + 42),
    };
    *at += CENTRAL_BYTES + name_len + extra_len + comment_len;
    uint64_t *fields[] = { &m->len, &m->packed_len, &m->local };
    if (!read_zip64(p + CENTRAL_BYTES + name_len, extra_len, fields, WE_COUNT(fields)))
        return we_zip_broken(a, m, "its zip64 sizes are missing");
    if (name_len && memchr(m->name.ptr, '\0', name_len)) return we_zip_broken(a, m, "its name holds a NUL");
    if (we_read_u16(p + 8) & FLAG_ENCRYPTED)
        return we_fail(a->err, WE_E_UNSUPPORTED, "%s: \"%.*s\" is encrypted", a->file, (int)WE_MIN(name_len, 200U),
                       m->name.ptr);
    if (m->method != WE_ZIP_STORED && m->method != WE_ZIP_DEFLATED)
        return we_fail(a->err, WE_E_UNSUPPORTED,
                       "%s: \"%.*s\" is packed by zip method %u; only stored (0) and deflated (8) can "
                       "be read: pack it again",
                       a->file, (int)WE_MIN(name_len, 200U), m->name.ptr, m->method);
    if (m->method == WE_ZIP_STORED && m->len != m->packed_len) return we_zip_broken(a, m, "is stored in two sizes");
    if (m->len / DEFLATE_MOST > m->packed_len) return we_zip_broken(a, m, "claims to unpack to more than zip can hold");
    return read_local(a, m);
}

static int by_local(const void *a, const void *b)
{
    const we_zip_member *x = a, *y = b;
    return x->local < y->local ? -1 : x->local > y->local;
}

we_status we_zip_open(we_zip *a, we_str bytes, const char *file, we_error *err)
{
    *a = (we_zip){ .bytes = (const uint8_t *)bytes.ptr, .len = bytes.len, .file = file, .err = err };
    we_status st = find_directory(a);
    if (st) return st;
    const uint64_t most = a->directory_len / CENTRAL_BYTES, n_members = a->n_members;
    a->n_members = 0;
    a->members = we_realloc_array(NULL, (size_t)most, sizeof(*a->members));
    if (!a->members) return we_fail(err, WE_E_NOMEM, "%s: no memory for its zip directory", file);
    for (uint64_t at = a->directory; at < a->directory + a->directory_len; a->n_members++)
        if ((st = read_central(a, &at, &a->members[a->n_members]))) return st;
    if (a->n_members != n_members) return broken(a, "its zip directory has another number of members than it says");
    if (a->n_members) qsort(a->members, (size_t)a->n_members, sizeof(*a->members), by_local);
    for (size_t i = 1; i < a->n_members; i++)
        if (a->members[i].local < a->members[i - 1].end)
            return we_zip_broken(a, &a->members[i], "shares bytes with another member");
    return WE_OK;
}

void we_zip_close(we_zip *a)
{
    we_free(a->members);
    a->members = NULL;
}
