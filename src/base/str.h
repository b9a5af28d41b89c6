/* SPDX-License-Identifier: Apache-2.0
 * str.h - borrowed strings with a length, a growing byte buffer, UTF-8. Text may hold NUL, so lengths rule. */
#ifndef WE_BASE_STR_H
#define WE_BASE_STR_H

#include "base/error.h"
#include <string.h>

typedef struct we_str { /* borrowed: [len] bytes, no NUL behind them */
    const char *ptr;
    size_t len;
} we_str;

#define WE_STR(literal) ((we_str){ "" literal, sizeof(literal) - 1 })
static inline we_str we_str_from(const char *text) { return (we_str){ text, text ? strlen(text) : 0 }; }
static inline bool we_str_eq(we_str a, we_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool we_str_is(we_str a, const char *text) { return we_str_eq(a, we_str_from(text)); }
bool we_str_starts_with(we_str s, we_str prefix);
bool we_str_ends_with(we_str s, we_str suffix);
/** Copy text to out with a NUL behind it, control characters and broken UTF-8 as \xNN (newline is kept), cut at a
 * character's border where it does not fit. Gives the length written. size >= 1. */
size_t we_str_clean(char *out, size_t size, we_str text);
uint64_t we_str_hash(we_str s); /* 64-bit, 20 GB/s, the same in every process; not for adversaries */
/** The same for adversaries (7 GB/s): who does not know the key can't make two texts meet. */
uint64_t we_str_hash_keyed(we_str s, const uint64_t key[2]);

typedef struct we_buf { /* owned, growing; zeroed is empty and ready; `failed` stays set once memory ran out */
    char *ptr;          /* NUL behind [len] whenever ptr is not NULL */
    size_t len, capacity;
    bool failed;
} we_buf;

void we_buf_append(we_buf *buf, const void *bytes, size_t len);
void we_buf_append_str(we_buf *buf, we_str s);
void we_buf_append_char(we_buf *buf, char c);
void we_buf_append_rune(we_buf *buf, uint32_t rune); /* as UTF-8; U+FFFD where it is not a scalar value */
void we_buf_printf(we_buf *buf, const char *format, ...) WE_PRINTF(2, 3);
bool we_buf_reserve(we_buf *buf, size_t more);
static inline void we_buf_clear(we_buf *buf)
{
    buf->len = 0;
    if (buf->ptr) buf->ptr[0] = 0;
}
static inline we_str we_buf_str(const we_buf *buf) { return (we_str){ buf->ptr ? buf->ptr : "", buf->len }; }
/** Hand the bytes over (never NULL unless failed; free with we_free) and leave the buffer empty. */
char *we_buf_take(we_buf *buf, size_t *len);
void we_buf_deinit(we_buf *buf);
we_status we_buf_status(const we_buf *buf, we_error *err,
                        const char *what); /* WE_E_NOMEM "no memory for WHAT" once failed */

#define WE_RUNE_INVALID 0xFFFFFFFFU
/** Decode one code point at s[*i] and advance *i by its bytes; WE_RUNE_INVALID advances by the maximal broken part
 * (Unicode 15, section 3.9, as WHATWG decoders do: at least 1). Needs *i < s.len. */
uint32_t we_utf8_next(we_str s, size_t *i);
/** Bytes of a code point as UTF-8, written to out[4]; 0 where it is not a scalar value. */
int we_utf8_encode(uint32_t rune, char out[4]);
/** Index of the first byte that is not part of valid UTF-8, or s.len. */
size_t we_utf8_valid(we_str s);
/** Bytes at the end of s that begin a character which more bytes could complete: 0 to 3. */
size_t we_utf8_incomplete_tail(we_str s);

/** A number from text, all of it, no space around. False (out untouched) when it is none or overflows. */
bool we_parse_i64(we_str s, int64_t *out);
bool we_parse_f64(we_str s, double *out); /* C locale's, whatever the program's locale; no hex, no inf/nan */
/** A finite number as text that reads back the same, in 15 to 17 digits: "0.1", "1", "1e+22". C locale's. Gives its length. */
size_t we_format_f64(char out[32], double value);

/** Bytes for people: "512 B", "14.2 MB", "1.50 GB" (powers of 1000) in a caller's buffer, which is returned. */
const char *we_format_bytes(char out[24], uint64_t bytes);

#endif
