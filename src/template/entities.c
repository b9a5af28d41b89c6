/* SPDX-License-Identifier: Apache-2.0
 * entities.c - HTML entities back to characters, for `striptags`: numbers and the names that text really uses. */
#include "template/template_int.h"

static const struct {
    const char *name;
    uint32_t rune;
} named[] = {
    { "amp", '&' },       { "lt", '<' },       { "gt", '>' },       { "quot", '"' },     { "apos", '\'' },
    { "nbsp", 0xA0 },     { "copy", 0xA9 },    { "reg", 0xAE },     { "laquo", 0xAB },   { "raquo", 0xBB },
    { "middot", 0xB7 },   { "times", 0xD7 },   { "deg", 0xB0 },     { "ndash", 0x2013 }, { "mdash", 0x2014 },
    { "lsquo", 0x2018 },  { "rsquo", 0x2019 }, { "ldquo", 0x201C }, { "rdquo", 0x201D }, { "bull", 0x2022 },
    { "hellip", 0x2026 }, { "euro", 0x20AC },  { "trade", 0x2122 }, { "larr", 0x2190 },  { "rarr", 0x2192 },
    { "auml", 0xE4 },     { "ouml", 0xF6 },    { "uuml", 0xFC },    { "Auml", 0xC4 },    { "Ouml", 0xD6 },
    { "Uuml", 0xDC },     { "szlig", 0xDF },   { "eacute", 0xE9 },  { "egrave", 0xE8 },  { "agrave", 0xE0 },
};

static size_t numeric(we_str s, size_t i, uint32_t *rune) /* behind "&#"; the end, or 0 */
{
    bool hex = i < s.len && (s.ptr[i] | 32) == 'x';
    size_t start = i += hex;
    uint32_t n = 0;
    for (; i < s.len; i++) {
        int c = s.ptr[i], digit = c >= '0' && c <= '9'                        ? c - '0'
                                  : hex && (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                              : -1;
        if (digit < 0) break;
        if (n < 0x200000) n = n * (hex ? 16 : 10) + (uint32_t)digit;
    }
    if (i == start) return 0;
    *rune = n == 0 || n > 0x10FFFF || (n >= 0xD800 && n < 0xE000) ? 0xFFFD : n;
    return i < s.len && s.ptr[i] == ';' ? i + 1 : i;
}

static size_t entity(we_str s, size_t i, uint32_t *rune) /* behind '&' */
{
    if (i < s.len && s.ptr[i] == '#') return numeric(s, i + 1, rune);
    for (size_t k = 0; k < WE_COUNT(named); k++) {
        size_t len = strlen(named[k].name);
        if (s.len - i <= len || memcmp(s.ptr + i, named[k].name, len) != 0 || s.ptr[i + len] != ';') continue;
        *rune = named[k].rune;
        return i + len + 1;
    }
    return 0;
}

value we_tpl_unescape(render *r, value str)
{
    we_str s = str_of(str);
    size_t start = r->out->len;
    for (size_t i = 0; i < s.len; i++) {
        uint32_t rune;
        size_t end = s.ptr[i] == '&' ? entity(s, i + 1, &rune) : 0;
        if (end) {
            we_tpl_put_rune(r, rune);
            i = end - 1;
        } else {
            we_tpl_put(r, s.ptr + i, 1);
        }
    }
    return we_tpl_take(r, start);
}
