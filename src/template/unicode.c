/* SPDX-License-Identifier: Apache-2.0
 * unicode.c - characters as Python's str methods see them: white space, printable, classes, full case mapping with the
 * final sigma. */
#include "template/template_int.h"
#include "template/unicode_tables.h"

#include <utf8proc.h>

#define IN_TABLE(table, c) in_table(table, WE_COUNT(table), c)

static bool in_table(const rune_range *table, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > table[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && c >= table[low].first;
}

static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }

static bool is_letter(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool we_tpl_is_space(uint32_t c)
{
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool we_tpl_is_printable(uint32_t c)
{
    if (c < 0x7F) return c >= 0x20;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

bool we_tpl_is(char_class cc, uint32_t c)
{
    utf8proc_category_t k = category(c);
    switch (cc) {
    case CC_ALPHA: return is_letter(c);
    case CC_DECIMAL: return k == UTF8PROC_CATEGORY_ND;
    case CC_DIGIT: return k == UTF8PROC_CATEGORY_ND || IN_TABLE(other_digits, c);
    case CC_NUMERIC:
        return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO ||
               IN_TABLE(other_numeric, c);
    case CC_LOWER: return k == UTF8PROC_CATEGORY_LL || IN_TABLE(other_lowercase, c);
    case CC_UPPER: return k == UTF8PROC_CATEGORY_LU || IN_TABLE(other_uppercase, c);
    case CC_TITLE: return k == UTF8PROC_CATEGORY_LT;
    case CC_CASED: return we_tpl_is(CC_LOWER, c) || we_tpl_is(CC_UPPER, c) || k == UTF8PROC_CATEGORY_LT;
    }
    return false;
}

bool we_tpl_is_word(uint32_t c) /* \w: alphanumeric or underscore */
{
    return c == '_' || we_tpl_is(CC_ALPHA, c) || we_tpl_is(CC_NUMERIC, c);
}

/* Letters, then also digits and marks: XID_Start and XID_Continue but for a handful of characters. */
bool we_tpl_is_identifier(we_str s)
{
    for (size_t i = 0; i < s.len;) {
        bool first = i == 0;
        uint32_t c = we_utf8_next(s, &i);
        utf8proc_category_t k = category(c);
        bool start = c == '_' || is_letter(c) || k == UTF8PROC_CATEGORY_NL;
        bool follows = k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC ||
                       k == UTF8PROC_CATEGORY_PC || c == 0xB7 || c == 0x387;
        if (!start && (first || !follows)) return false;
    }
    return s.len > 0;
}

int we_tpl_digit_value(uint32_t c)
{
    if (!we_tpl_is(CC_DECIMAL, c)) return -1;
    uint32_t zero = c; /* decimal digits stand in rows of ten */
    while (zero > 0 && we_tpl_is(CC_DECIMAL, zero - 1)) zero--;
    return (int)((c - zero) % 10);
}

/* ---- case ---- */

static const struct special_case *special(uint32_t c)
{
    size_t low = 0, high = WE_COUNT(special_cases);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (special_cases[mid].rune < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low < WE_COUNT(special_cases) && special_cases[low].rune == c ? &special_cases[low] : NULL;
}

static bool ignorable(uint32_t c)
{
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: return IN_TABLE(other_case_ignorable, c);
    }
}

/* A capital sigma at [at, end) becomes the final one when a cased letter stands before it and none behind it. */
static bool is_final_sigma(we_str s, size_t at, size_t end)
{
    size_t i = at;
    bool before = false;
    while (i > 0) {
        do i--;
        while (i > 0 && (s.ptr[i] & 0xC0) == 0x80);
        size_t next = i;
        uint32_t c = we_utf8_next(s, &next);
        if (ignorable(c)) continue;
        before = we_tpl_is(CC_CASED, c);
        break;
    }
    while (before && end < s.len) {
        uint32_t c = we_utf8_next(s, &end);
        if (!ignorable(c)) return !we_tpl_is(CC_CASED, c);
    }
    return before;
}

static void put_lower(render *r, we_str s, size_t at, size_t end, uint32_t c)
{
    if (c == 0x3A3)
        we_tpl_put_rune(r, is_final_sigma(s, at, end) ? 0x3C2 : 0x3C3);
    else if (c == 0x130)
        we_tpl_put_c(r, "i\xcc\x87");
    else
        we_tpl_put_rune(r,
                        c < 0x80 ? c | (c - 'A' < 26u ? 0x20u : 0u) : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

static void put_upper(render *r, uint32_t c)
{
    const struct special_case *s = c < 0x80 ? NULL : special(c);
    if (s)
        we_tpl_put_c(r, s->upper);
    else
        we_tpl_put_rune(r, c < 0x80 ? (c - 'a' < 26u ? c - 0x20 : c) : (uint32_t)utf8proc_toupper((utf8proc_int32_t)c));
}

static void put_title(render *r, uint32_t c)
{
    const struct special_case *s = special(c);
    if (s)
        we_tpl_put_c(r, s->title);
    else
        we_tpl_put_rune(r, (uint32_t)utf8proc_totitle((utf8proc_int32_t)c));
}

static void put_folded(render *r, uint32_t c)
{
    utf8proc_int32_t out[8];
    int last = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, out, 8, UTF8PROC_CASEFOLD, &last);
    for (utf8proc_ssize_t i = 0; i < n && i < 8; i++) we_tpl_put_rune(r, (uint32_t)out[i]);
}

value we_tpl_case(render *r, value str, case_kind kind)
{
    we_str s = str_of(str);
    size_t start = r->out->len;
    bool cased = false; /* the character before is */
    we_tpl_work(r, s.len / 8);
    for (size_t i = 0; i < s.len;) {
        size_t at = i;
        uint32_t c = we_utf8_next(s, &i);
        switch (kind) {
        case CASE_UPPER: put_upper(r, c); break;
        case CASE_LOWER: put_lower(r, s, at, i, c); break;
        case CASE_FOLD: put_folded(r, c); break;
        case CASE_CAPITALIZE: at ? put_lower(r, s, at, i, c) : put_title(r, c); break;
        case CASE_TITLE:
            cased ? put_lower(r, s, at, i, c) : put_title(r, c);
            cased = we_tpl_is(CC_CASED, c);
            break;
        case CASE_SWAP:
            if (we_tpl_is(CC_UPPER, c))
                put_lower(r, s, at, i, c);
            else if (we_tpl_is(CC_LOWER, c))
                put_upper(r, c);
            else
                we_tpl_put_rune(r, c);
            break;
        }
    }
    value v = we_tpl_take(r, start);
    return str.str->markup ? we_tpl_markup(r, v) : v;
}
