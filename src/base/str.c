/* SPDX-License-Identifier: Apache-2.0
 * str.c - strings, the growing buffer, UTF-8, numbers as text. */
#include "base/arena.h"
#include "base/str.h"

#include <assert.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__APPLE__)
#include <xlocale.h> /* strtod_l */
#endif

/* ---- Borrowed strings ---- */

bool we_str_starts_with(we_str s, we_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

bool we_str_ends_with(we_str s, we_str suffix)
{
    return s.len >= suffix.len && (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

static uint64_t load64(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

/* MurmurHash3's mixing, eight bytes at a step, in four lanes while there are 32 bytes; the last step reads the last eight bytes,
 * overlapping the one before.
 * Source: Austin Appleby, MurmurHash3.cpp (public domain): fmix64 and the first constant of x64_128. */
uint64_t we_str_hash(we_str s)
{
    const uint64_t k = 0x87c37b91114253d5U;
    uint64_t hash = s.len * k, tail = 0;
    if (s.len >= 8) {
        size_t i = 0;
        if (s.len >= 32) {
            uint64_t lane[4] = { hash, 1, 2, 3 };
            for (; s.len - i >= 32; i += 32)
                for (size_t j = 0; j < 4; j++) {
                    lane[j] = (lane[j] ^ load64(s.ptr + i + 8 * j)) * k;
                    lane[j] ^= lane[j] >> 32;
                }
            for (size_t j = 0; j < 4; j++) hash = (hash ^ lane[j]) * k, hash ^= hash >> 32;
        }
        for (; i + 8 < s.len; i += 8) {
            hash = (hash ^ load64(s.ptr + i)) * k;
            hash ^= hash >> 32;
        }
        tail = load64(s.ptr + s.len - 8);
    } else if (s.len) {
        memcpy(&tail, s.ptr, s.len);
    }
    hash ^= tail;
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdU;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53U;
    return hash ^ (hash >> 33);
}

/* SipHash-1-3 in four lanes, so that the processor has four chains of steps to work on at once: lane i takes every fourth
 * word and begins with i in its state; the lanes' ends and what does not fill a round of lanes go through a fifth.
 * Source: Aumasson, Bernstein: SipHash, a fast short-input PRF (2012). */
#define LANES 4
typedef struct sip {
    uint64_t a[LANES], b[LANES], c[LANES], d[LANES];
} sip;

static inline uint64_t rotate(uint64_t x, int n) { return x << n | x >> (64 - n); }

static inline void sip_round(sip *s, int n_lanes)
{
    for (int i = 0; i < n_lanes; i++) {
        uint64_t a = s->a[i] + s->b[i], b = rotate(s->b[i], 13) ^ a, c = s->c[i] + s->d[i], d = rotate(s->d[i], 16) ^ c;
        a = rotate(a, 32) + d;
        d = rotate(d, 21) ^ a;
        c += b;
        b = rotate(b, 17) ^ c;
        s->a[i] = a, s->b[i] = b, s->c[i] = rotate(c, 32), s->d[i] = d;
    }
}

static inline void sip_words(sip *s, int n_lanes, const char *p)
{
    uint64_t words[LANES];
    memcpy(words, p, (size_t)n_lanes * sizeof(*words));
    for (int i = 0; i < n_lanes; i++) s->d[i] ^= words[i];
    sip_round(s, n_lanes);
    for (int i = 0; i < n_lanes; i++) s->a[i] ^= words[i];
}

static void sip_init(sip *s, const uint64_t key[2], uint64_t first_lane)
{
    for (uint64_t i = 0; i < LANES; i++) {
        s->a[i] = key[0] ^ 0x736f6d6570736575U;
        s->b[i] = key[1] ^ 0x646f72616e646f6dU ^ (first_lane + i);
        s->c[i] = key[0] ^ 0x6c7967656e657261U;
        s->d[i] = key[1] ^ 0x7465646279746573U;
    }
}

uint64_t we_str_hash_keyed(we_str s, const uint64_t key[2])
{
    sip lanes, last;
    size_t i = 0;
    sip_init(&lanes, key, 0);
    for (; s.len - i >= sizeof(lanes.a); i += sizeof(lanes.a)) sip_words(&lanes, LANES, s.ptr + i);
    sip_init(&last, key, LANES);
    const uint64_t len = s.len;
    sip_words(&last, 1, (const char *)&len);
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t end = lanes.a[lane] ^ lanes.b[lane] ^ lanes.c[lane] ^ lanes.d[lane];
        sip_words(&last, 1, (const char *)&end);
    }
    for (uint64_t word; i < s.len; i += sizeof(word)) {
        word = 0;
        memcpy(&word, s.ptr + i, s.len - i < sizeof(word) ? s.len - i : sizeof(word));
        sip_words(&last, 1, (const char *)&word);
    }
    last.c[0] ^= 0xFF;
    for (int i_round = 0; i_round < 3; i_round++) sip_round(&last, 1);
    return last.a[0] ^ last.b[0] ^ last.c[0] ^ last.d[0];
}

/* What a terminal would obey (C0 but for newline, DEL, C1) and what is no UTF-8 at all. */
static bool needs_escape(uint32_t rune)
{
    return (rune < 0x20 && rune != '\n') || (rune >= 0x7F && rune < 0xA0) || rune == WE_RUNE_INVALID;
}

size_t we_str_clean(char *out, size_t size, we_str text)
{
    size_t len = 0;
    for (size_t i = 0; i < text.len;) {
        const size_t start = i;
        const bool escape = needs_escape(we_utf8_next(text, &i));
        const size_t width = (i - start) * (escape ? 4 : 1);
        if (len + width >= size) break;
        for (size_t k = start; escape && k < i; k++)
            snprintf(out + len + 4 * (k - start), 5, "\\x%02x", (unsigned char)text.ptr[k]);
        if (!escape) memcpy(out + len, text.ptr + start, width);
        len += width;
    }
    out[len] = '\0';
    return len;
}

/* ---- Growing buffer ---- */

bool we_buf_reserve(we_buf *buf, size_t more)
{
    if (buf->failed) return false;
    if (buf->ptr && more < buf->capacity - buf->len) return true; /* one byte stays for the NUL */
    const size_t most = PTRDIFF_MAX - 1;
    if (more > most - buf->len) {
        buf->failed = true;
        return false;
    }
    const size_t needed = buf->len + more + 1, grown = buf->capacity <= most / 2 ? buf->capacity * 2 : most;
    const size_t capacity = needed > grown ? (needed < 32 ? 32 : needed) : grown;
    char *ptr = we_realloc_array(buf->ptr, capacity, 1);
    if (!ptr) {
        buf->failed = true;
        return false;
    }
    buf->ptr = ptr;
    buf->capacity = capacity;
    buf->ptr[buf->len] = '\0';
    return true;
}

void we_buf_append(we_buf *buf, const void *bytes, size_t len)
{
    if (len == 0 || !we_buf_reserve(buf, len)) return;
    memcpy(buf->ptr + buf->len, bytes, len);
    buf->len += len;
    buf->ptr[buf->len] = '\0';
}

void we_buf_append_str(we_buf *buf, we_str s) { we_buf_append(buf, s.ptr, s.len); }

void we_buf_append_char(we_buf *buf, char c)
{
    if (!we_buf_reserve(buf, 1)) return;
    buf->ptr[buf->len++] = c;
    buf->ptr[buf->len] = '\0';
}

void we_buf_append_rune(we_buf *buf, uint32_t rune)
{
    char bytes[4];
    int n = we_utf8_encode(rune, bytes);
    if (n == 0) n = we_utf8_encode(0xFFFD, bytes);
    we_buf_append(buf, bytes, (size_t)n);
}

void we_buf_printf(we_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const size_t room = buf->failed ? 0 : buf->capacity - buf->len;
    const int n = vsnprintf(room ? buf->ptr + buf->len : NULL, room, format, args);
    if (n < 0) {
        buf->failed = true;
    } else if ((size_t)n < room) {
        buf->len += (size_t)n;
    } else if (we_buf_reserve(buf, (size_t)n)) {
        vsnprintf(buf->ptr + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    } else if (room) {
        buf->ptr[buf->len] = '\0'; /* undo the part that was written */
    }
    va_end(again);
    va_end(args);
}

char *we_buf_take(we_buf *buf, size_t *len)
{
    if (!buf->ptr) we_buf_reserve(buf, 0);
    char *ptr = buf->failed ? NULL : buf->ptr;
    if (len) *len = ptr ? buf->len : 0;
    if (!ptr) we_free(buf->ptr);
    *buf = (we_buf){ .failed = buf->failed };
    return ptr;
}

void we_buf_deinit(we_buf *buf)
{
    we_free(buf->ptr);
    *buf = (we_buf){ 0 };
}

we_status we_buf_status(const we_buf *buf, we_error *err, const char *what)
{
    return buf->failed ? we_fail(err, WE_E_NOMEM, "no memory for %s", what) : WE_OK;
}

/* ---- UTF-8 ----
 * Well-formed sequences (Unicode 15, table 3-7); only the second byte's range depends on the first:
 *
 *     00..7F
 *     C2..DF  80..BF
 *     E0      A0..BF  80..BF            (below: overlong)
 *     E1..EF  80..BF  80..BF            but ED 80..9F (above: surrogates)
 *     F0      90..BF  80..BF  80..BF    (below: overlong)
 *     F1..F4  80..BF  80..BF  80..BF    but F4 80..8F (above: past U+10FFFF) */

typedef struct lead {        /* what a first byte announces */
    int n_more;              /* bytes that follow; -1: can't begin a character */
    unsigned char low, high; /* range of the second byte */
} lead;

static lead lead_of(unsigned char c)
{
    if (c < 0x80) return (lead){ 0, 0, 0 };
    if (c < 0xC2 || c > 0xF4) return (lead){ -1, 0, 0 };
    if (c < 0xE0) return (lead){ 1, 0x80, 0xBF };
    if (c < 0xF0) return (lead){ 2, c == 0xE0 ? 0xA0 : 0x80, c == 0xED ? 0x9F : 0xBF };
    return (lead){ 3, c == 0xF0 ? 0x90 : 0x80, c == 0xF4 ? 0x8F : 0xBF };
}

uint32_t we_utf8_next(we_str s, size_t *i)
{
    assert(*i < s.len);
    const unsigned char first = (unsigned char)s.ptr[(*i)++];
    if (first < 0x80) return first;
    const lead l = lead_of(first);
    if (l.n_more < 0) return WE_RUNE_INVALID;
    uint32_t rune = first & (0x3FU >> l.n_more);
    unsigned char low = l.low, high = l.high;
    for (int k = 0; k < l.n_more; k++) {
        const unsigned char c = *i < s.len ? (unsigned char)s.ptr[*i] : 0;
        if (c < low || c > high) return WE_RUNE_INVALID;
        rune = (rune << 6) | (c & 0x3FU);
        low = 0x80, high = 0xBF;
        (*i)++;
    }
    return rune;
}

int we_utf8_encode(uint32_t rune, char out[4])
{
    if (rune < 0x80) {
        out[0] = (char)rune;
        return 1;
    }
    if (rune < 0x800) {
        out[0] = (char)(0xC0 | (rune >> 6));
        out[1] = (char)(0x80 | (rune & 0x3F));
        return 2;
    }
    if (rune < 0x10000) {
        if (rune >= 0xD800 && rune < 0xE000) return 0;
        out[0] = (char)(0xE0 | (rune >> 12));
        out[1] = (char)(0x80 | ((rune >> 6) & 0x3F));
        out[2] = (char)(0x80 | (rune & 0x3F));
        return 3;
    }
    if (rune > 0x10FFFF) return 0;
    out[0] = (char)(0xF0 | (rune >> 18));
    out[1] = (char)(0x80 | ((rune >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((rune >> 6) & 0x3F));
    out[3] = (char)(0x80 | (rune & 0x3F));
    return 4;
}

static bool is_more(unsigned char byte) { return (byte & 0xC0) == 0x80; }

size_t we_utf8_valid(we_str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    for (size_t i = 0; i < s.len;) {
        if (i + 8 <= s.len && !(load64(s.ptr + i) & 0x8080808080808080U)) {
            i += 8;
            continue;
        }
        if (p[i] >= 0xC2 && p[i] <= 0xDF && i + 1 < s.len && is_more(p[i + 1])) { /* most, without a call */
            i += 2;
            continue;
        }
        if (p[i] >= 0xE1 && p[i] <= 0xEC && i + 2 < s.len && is_more(p[i + 1]) && is_more(p[i + 2])) {
            i += 3;
            continue;
        }
        const size_t start = i;
        if (we_utf8_next(s, &i) == WE_RUNE_INVALID) return start;
    }
    return s.len;
}

size_t we_utf8_incomplete_tail(we_str s)
{
    for (size_t n = 1; n <= 3 && n <= s.len; n++) {
        const unsigned char *tail = (const unsigned char *)s.ptr + s.len - n;
        if ((tail[0] & 0xC0) == 0x80) continue;
        const lead l = lead_of(tail[0]);
        if (l.n_more < (int)n) return 0;
        return n == 1 || (tail[1] >= l.low && tail[1] <= l.high) ? n : 0;
    }
    return 0;
}

/* ---- Numbers as text ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool we_parse_i64(we_str s, int64_t *out)
{
    const bool negative = s.len && s.ptr[0] == '-';
    if (s.len == (size_t)negative) return false;
    int64_t value = 0; /* kept negative: that side reaches one further */
    for (size_t i = negative; i < s.len; i++) {
        if (!is_digit(s.ptr[i])) return false;
        const int digit = s.ptr[i] - '0';
        if (value < (INT64_MIN + digit) / 10) return false;
        value = value * 10 - digit;
    }
    if (!negative && value == INT64_MIN) return false;
    *out = negative ? value : -value;
    return true;
}

static size_t skip_digits(we_str s, size_t i)
{
    while (i < s.len && is_digit(s.ptr[i])) i++;
    return i;
}

/* [+-] digits [. digits] [e [+-] digits] with a digit before the exponent: what strtod takes, less hex, inf and nan. */
static bool is_decimal(we_str s)
{
    size_t i = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+');
    const size_t whole = i;
    i = skip_digits(s, i);
    size_t n_digits = i - whole;
    if (i < s.len && s.ptr[i] == '.') {
        const size_t fraction = ++i;
        i = skip_digits(s, i);
        n_digits += i - fraction;
    }
    if (n_digits == 0) return false;
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E')) {
        i++;
        if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+')) i++;
        const size_t exponent = i;
        i = skip_digits(s, i);
        if (i == exponent) return false;
    }
    return i == s.len;
}

/* The program's locale may write 0,5. "C" is a constant of the C library, so this can't run out of memory in practice. */
static locale_t c_locale;

static void make_c_locale(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static locale_t get_c_locale(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_c_locale);
    return c_locale;
}

bool we_parse_f64(we_str s, double *out)
{
    if (!is_decimal(s) || !get_c_locale()) return false;
    char small[64];
    char *text = s.len < sizeof(small) ? small : we_malloc(s.len + 1); /* strtod wants the NUL */
    if (!text) return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    const double value = strtod_l(text, NULL, get_c_locale());
    if (text != small) we_free(text);
    if (isinf(value)) return false;
    *out = value;
    return true;
}

size_t we_format_f64(char out[32], double value)
{
    assert(isfinite(value));
    const locale_t before = uselocale(get_c_locale()); /* of this thread only; 0 would change nothing */
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value) break;
    }
    uselocale(before);
    return (size_t)len;
}

const char *we_format_bytes(char out[24], uint64_t bytes)
{
    static const char *const units[] = { "kB", "MB", "GB", "TB", "PB", "EB" };
    if (bytes < 1000) {
        snprintf(out, 24, "%u B", (unsigned)bytes);
        return out;
    }
    /* Three digits in integers: no locale's comma, and 999,950 becomes 1.00 MB, not 1000 kB. */
    uint64_t unit = 1000;
    size_t u = 0;
    while (bytes / unit >= 1000 || (bytes / unit == 999 && bytes % unit >= unit / 2)) unit *= 1000, u++;
    const uint64_t whole = bytes / unit, rest = bytes % unit;
    const uint64_t tenths = whole * 10 + (rest + unit / 20) / (unit / 10);
    const uint64_t hundredths = whole * 100 + (rest + unit / 200) / (unit / 100);
    if (hundredths < 1000)
        snprintf(out, 24, "%u.%02u %s", (unsigned)(hundredths / 100), (unsigned)(hundredths % 100), units[u]);
    else if (tenths < 1000)
        snprintf(out, 24, "%u.%u %s", (unsigned)(tenths / 10), (unsigned)(tenths % 10), units[u]);
    else
        snprintf(out, 24, "%u %s", (unsigned)(whole + (rest >= unit / 2)), units[u]);
    return out;
}
