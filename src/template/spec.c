/* SPDX-License-Identifier: Apache-2.0
 * spec.c - laying out one number or text: sign, prefix, grouping, precision, padding. */
#include "template/spec.h"

#include <math.h>
#include <stdio.h>

bool we_tpl_is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

int64_t we_tpl_scan_count(render *r, we_str s, size_t *i)
{
    int64_t n = 0;
    for (; *i < s.len && we_tpl_is_ascii_digit(s.ptr[*i]); ++*i) {
        n = n * 10 + (s.ptr[*i] - '0');
        if (n > INT32_MAX) we_tpl_fail(r, "Too many decimal digits in format string");
    }
    return n;
}

void we_tpl_put_padded(render *r, const spec *s, we_str sign, we_str body, char align)
{
    int64_t pad = s->width - (int64_t)we_tpl_utf8_count(sign) - (int64_t)we_tpl_utf8_count(body);
    if (pad < 0) pad = 0;
    uint32_t fill = s->fill ? s->fill : ' ';
    int64_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
    int64_t middle = align == '=' ? pad : 0;
    we_tpl_put_fill(r, fill, left);
    we_tpl_put(r, sign.ptr, sign.len);
    we_tpl_put_fill(r, fill, middle);
    we_tpl_put(r, body.ptr, body.len);
    we_tpl_put_fill(r, fill, pad - left - middle);
}

/* Digits with separators, filled up with zeros to `width` where zeros pad. The text ends at the digits' end: `rest` (a
 * fraction, an exponent) comes behind. */
static we_str grouped(render *r, const spec *s, we_str digits, we_str rest, int64_t width)
{
    size_t every = s->grouping == '_' && s->type && strchr("boxX", s->type) ? 4 : 3;
    size_t start = r->out->len, have = digits.len, zeros = 0;
    if (s->zero && width > (int64_t)rest.len) {
        size_t room = (size_t)width - rest.len;
        if (!s->grouping)
            zeros = room > have ? room - have : 0;
        else
            while (have + zeros + (have + zeros - 1) / every < room) zeros++;
    }
    size_t n = have + zeros;
    for (size_t i = 0; i < n; i++) {
        if (s->grouping && i && (n - i) % every == 0) we_tpl_put(r, &s->grouping, 1);
        we_tpl_put(r, i < zeros ? "0" : digits.ptr + i - zeros, 1);
    }
    we_tpl_put(r, rest.ptr, rest.len);
    return str_of(we_tpl_take(r, start));
}

static we_str sign_of(render *r, const spec *s, bool negative, const char *prefix)
{
    const char *sign = negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
    return we_str_from(we_tpl_printf(r, "%s%s", sign, prefix));
}

static void put_number(render *r, const spec *s, we_str sign, we_str digits, we_str rest)
{
    we_str body = grouped(r, s, digits, rest, s->width - (int64_t)sign.len);
    we_tpl_put_padded(r, s, sign, body, s->align ? s->align : '>');
}

void we_tpl_put_int(render *r, const spec *s, value v)
{
    static const struct {
        char type;
        int base;
        const char *prefix;
    } kinds[] = {
        { 'b', 2, "0b" },
        { 'o', 8, "0o" },
        { 'x', 16, "0x" },
        { 'X', 16, "0X" },
    };
    int base = 10;
    const char *prefix = "";
    for (size_t i = 0; i < WE_COUNT(kinds); i++) {
        if (kinds[i].type != s->type) continue;
        base = kinds[i].base;
        if (s->alternate) prefix = kinds[i].prefix;
    }
    we_str text = we_tpl_int_text(r, v, base);
    bool negative = text.ptr[0] == '-';
    text.ptr += negative, text.len -= negative;
    if (s->type == 'X') {
        char *upper = memcpy(we_tpl_alloc(r, text.len), text.ptr, text.len);
        for (size_t i = 0; i < text.len; i++)
            if (upper[i] >= 'a') upper[i] = (char)(upper[i] - 'a' + 'A');
        text.ptr = upper;
    }
    if (s->precision > (int64_t)text.len) { /* of %: at least so many digits */
        size_t start = r->out->len;
        we_tpl_put_fill(r, '0', s->precision - (int64_t)text.len);
        we_tpl_put(r, text.ptr, text.len);
        text = str_of(we_tpl_take(r, start));
    }
    put_number(r, s, sign_of(r, s, negative, prefix), text, WE_STR(""));
}

/* %g keeps trailing zeros only in its alternate form; without a type, as in "{:.3}", a point and a digit always stay. */
static size_t general(double d, int precision, bool point, char *out, size_t size)
{
    size_t n = we_tpl_float_fixed(d, WE_MAX(precision, 1) - 1, 'e', out, size);
    int exponent = 0;
    const char *e = strchr(out, 'e');
    for (const char *p = e + 2; *p; p++) exponent = exponent * 10 + (*p - '0');
    if (e[1] == '-') exponent = -exponent;
    int digits = WE_MAX(precision, 1);
    bool scientific = exponent < -4 || exponent >= digits;
    if (!scientific) n = we_tpl_float_fixed(d, WE_MAX(digits - 1 - exponent, 0), 'f', out, size);
    char *tail = scientific ? strchr(out, 'e') : out + n, *end = tail;
    if (memchr(out, '.', (size_t)(tail - out))) {
        while (end > out && end[-1] == '0') end--;
        if (end > out && end[-1] == '.') end--;
    }
    size_t tail_len = (size_t)(out + n - tail);
    memmove(end, tail, tail_len + 1);
    n -= (size_t)(tail - end);
    if (point && !scientific && !strchr(out, '.')) n += (size_t)snprintf(out + n, size - n, ".0");
    return n;
}

static size_t float_text(double d, const spec *s, char type, int precision, char *out, size_t size)
{
    if (!isfinite(d)) return (size_t)snprintf(out, size, isnan(d) ? "nan" : "inf");
    if (type == 'e' || type == 'f') return we_tpl_float_fixed(d, precision, type, out, size);
    if (type == 'g' && s->alternate) {
        char format[] = "%#.*g";
        return (size_t)snprintf(out, size, format, WE_MAX(precision, 1), d);
    }
    return general(d, precision, type == 0, out, size);
}

void we_tpl_put_float(render *r, const spec *s, double d)
{
    char type = s->type, text[1200];
    bool upper = type == 'E' || type == 'F' || type == 'G', percent = type == '%';
    int64_t precision = s->precision < 0 ? 6 : s->precision;
    bool negative = signbit(d) && !isnan(d);
    if (precision > 700) we_tpl_fail(r, "precision too big");
    if (upper) type = (char)(type - 'A' + 'a');
    if (type == 'n') type = 'g';
    if (percent) d *= 100, type = 'f';
    size_t n;
    if (type == 0 && s->precision < 0)
        n = we_tpl_float_repr(fabs(d), text);
    else
        n = float_text(fabs(d), s, type, (int)precision, text, sizeof(text));
    if (s->alternate && isfinite(d) && type != 'g' && !memchr(text, '.', n)) text[n++] = '.';
    for (size_t i = 0; upper && i < n; i++)
        if (text[i] >= 'a' && text[i] <= 'z') text[i] = (char)(text[i] - 'a' + 'A');
    if (percent) text[n++] = '%';
    size_t whole = 0;
    while (whole < n && we_tpl_is_ascii_digit(text[whole])) whole++;
    we_str digits = { text, whole }, rest = { text + whole, n - whole };
    if (whole == 0) digits = rest, rest = (we_str){ "", 0 }; /* inf, nan */
    spec plain = *s;
    if (whole == 0) plain.grouping = 0;
    put_number(r, &plain, sign_of(r, s, negative, ""), digits, rest);
}

void we_tpl_put_text(render *r, const spec *s, value str)
{
    if (s->precision >= 0) str = we_tpl_substr(r, str, 0, (size_t)s->precision);
    we_tpl_put_padded(r, s, WE_STR(""), str_of(str), s->align ? s->align : '<');
}
