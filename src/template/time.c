/* SPDX-License-Identifier: Apache-2.0
 * time.c - strftime_now: the moment of the render, written in the C locale whatever the program's locale is.
 * Source: C17 7.27.3.5 and glibc's flags (`%-d`). */
#include "template/template_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *const days[] = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" };
static const char *const months[] = { "January", "February", "March",     "April",   "May",      "June",
                                      "July",    "August",   "September", "October", "November", "December" };

static int days_in_year_before(int year, int month) /* month from 0 */
{
    static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return before[month] + (leap && month > 1);
}

static int weekday(int year, int month, int day) /* 0 is Sunday; month from 0 */
{
    static const int shift[] = { 0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4 };
    if (month < 2) year--;
    return (year + year / 4 - year / 100 + year / 400 + shift[month] + day) % 7;
}

static bool date_from_text(const char *text, struct tm *out)
{
    int year, month, day, n = 0;
    if (sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &n) != 3 || text[n]) return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > 31) return false;
    *out = (struct tm){ .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day };
    out->tm_wday = weekday(year, month - 1, day);
    out->tm_yday = days_in_year_before(year, month - 1) + day - 1;
    return true;
}

/* ISO 8601: the week belongs to the year that its Thursday is in. */
static int iso_week(const struct tm *t, int *year)
{
    int monday_based = (t->tm_wday + 6) % 7, thursday = t->tm_yday - monday_based + 3;
    *year = t->tm_year + 1900;
    int length = days_in_year_before(*year, 11) + 31;
    if (thursday < 0) {
        --*year;
        thursday += days_in_year_before(*year, 11) + 31;
    } else if (thursday >= length) {
        ++*year;
        thursday -= length;
    }
    return thursday / 7 + 1;
}

typedef struct directive {
    char flag; /* '-', '_', '0', '^' or 0 */
    char kind;
} directive;

static void put_number(render *r, directive d, int n, int width, char padding)
{
    char text[32];
    if (d.flag == '-') width = 0;
    if (d.flag == '_') padding = ' ';
    if (d.flag == '0') padding = '0';
    snprintf(text, sizeof(text), padding == '0' ? "%0*d" : "%*d", width, n);
    we_tpl_put_c(r, text);
}

static void put_name(render *r, directive d, const char *name, size_t len)
{
    for (size_t i = 0; i < len && name[i]; i++) {
        char c = d.flag == '^' && name[i] >= 'a' ? (char)(name[i] - 32) : name[i];
        we_tpl_put(r, &c, 1);
    }
}

static void format_time(render *r, const struct tm *t, we_str format);

static bool put_numeric(render *r, directive d, const struct tm *t)
{
    int year = t->tm_year + 1900, hour12 = t->tm_hour % 12 ? t->tm_hour % 12 : 12, iso_year,
        week = iso_week(t, &iso_year);
    const struct {
        char kind;
        int n, width;
        char padding;
    } rows[] = {
        { 'd', t->tm_mday, 2, '0' },
        { 'e', t->tm_mday, 2, ' ' },
        { 'H', t->tm_hour, 2, '0' },
        { 'I', hour12, 2, '0' },
        { 'k', t->tm_hour, 2, ' ' },
        { 'l', hour12, 2, ' ' },
        { 'j', t->tm_yday + 1, 3, '0' },
        { 'm', t->tm_mon + 1, 2, '0' },
        { 'M', t->tm_min, 2, '0' },
        { 'S', t->tm_sec, 2, '0' },
        { 'y', year % 100, 2, '0' },
        { 'Y', year, 1, '0' },
        { 'C', year / 100, 2, '0' },
        { 'w', t->tm_wday, 1, '0' },
        { 'u', t->tm_wday ? t->tm_wday : 7, 1, '0' },
        { 'U', (t->tm_yday + 7 - t->tm_wday) / 7, 2, '0' },
        { 'W', (t->tm_yday + 7 - (t->tm_wday + 6) % 7) / 7, 2, '0' },
        { 'V', week, 2, '0' },
        { 'G', iso_year, 1, '0' },
        { 'g', iso_year % 100, 2, '0' },
        { 'f', 0, 6, '0' },
    };
    for (size_t i = 0; i < WE_COUNT(rows); i++) {
        if (rows[i].kind != d.kind) continue;
        put_number(r, d, rows[i].n, rows[i].width, rows[i].padding);
        return true;
    }
    return false;
}

static bool put_composed(render *r, char kind, const struct tm *t)
{
    static const struct {
        char kind;
        const char *format;
    } rows[] = {
        { 'c', "%a %b %e %H:%M:%S %Y" },
        { 'D', "%m/%d/%y" },
        { 'x', "%m/%d/%y" },
        { 'F', "%Y-%m-%d" },
        { 'T', "%H:%M:%S" },
        { 'X', "%H:%M:%S" },
        { 'R', "%H:%M" },
        { 'r', "%I:%M:%S %p" },
        { 'n', "\n" },
        { 't', "\t" },
        { 'Z', "" },
        { 'z', "" },
    };
    for (size_t i = 0; i < WE_COUNT(rows); i++) {
        if (rows[i].kind != kind) continue;
        format_time(r, t, we_str_from(rows[i].format));
        return true;
    }
    return false;
}

static bool put_directive(render *r, directive d, const struct tm *t)
{
    struct tm copy = *t;
    switch (d.kind) {
    case 'a': put_name(r, d, days[t->tm_wday], 3); return true;
    case 'A': put_name(r, d, days[t->tm_wday], 16); return true;
    case 'b':
    case 'h': put_name(r, d, months[t->tm_mon], 3); return true;
    case 'B': put_name(r, d, months[t->tm_mon], 16); return true;
    case 'p': put_name(r, d, t->tm_hour < 12 ? "AM" : "PM", 2); return true;
    case 'P': put_name(r, d, t->tm_hour < 12 ? "am" : "pm", 2); return true;
    case '%': we_tpl_put(r, "%", 1); return true;
    case 's': {
        copy.tm_isdst = -1;
        we_tpl_put_c(r, we_tpl_printf(r, "%lld", (long long)mktime(&copy)));
        return true;
    }
    default: return put_numeric(r, d, t) || put_composed(r, d.kind, t);
    }
}

static void format_time(render *r, const struct tm *t, we_str format)
{
    for (size_t i = 0; i < format.len; i++) {
        size_t start = i;
        if (format.ptr[i] != '%') {
            we_tpl_put(r, format.ptr + i, 1);
            continue;
        }
        directive d = { 0 };
        if (i + 1 < format.len && strchr("-_0^", format.ptr[i + 1])) d.flag = format.ptr[++i];
        if (i + 1 < format.len) d.kind = format.ptr[++i];
        if (!d.kind || !put_directive(r, d, t)) we_tpl_put(r, format.ptr + start, i + 1 - start); /* as it stands */
    }
}

value we_tpl_strftime(render *r, we_str format)
{
    struct tm t;
    time_t now = time(NULL);
    if (r->date && !date_from_text(r->date, &t)) we_tpl_fail(r, "the date '%s' is not written as YYYY-MM-DD", r->date);
    if (!r->date && !localtime_r(&now, &t)) we_tpl_fail(r, "the clock gives no date");
    size_t start = r->out->len;
    format_time(r, &t, format);
    return we_tpl_take(r, start);
}
