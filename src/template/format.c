/* SPDX-License-Identifier: Apache-2.0
 * format.c - str() and repr() of every value. Floats are the shortest text that reads back the same, strings choose
 * their quotes and escape what Python does not hold for printable. The % operator is percent.c's, format() strformat.c's. */
#include "template/template_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- floats ---- */

size_t we_tpl_float_fixed(double d, int precision, char type, char *out, size_t size)
{
    char format[8] = { '%', '.', '*', type, 0 };
    int n = snprintf(out, size, format, precision, d);
    for (char *p = out; *p; p++) /* whatever the locale's point is */
        if ((unsigned char)*p >= 0x80 ||
            !strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-.", *p))
            *p = '.';
    return (size_t)n;
}

static bool reads_back(const char *text, double d)
{
    double back = 0;
    return we_parse_f64(we_str_from(text), &back) && back == d;
}

/* One more in the last place of "d.ddde+NN"; false where that carries over the point. */
static bool round_up(char *text)
{
    for (char *p = strchr(text, 'e') - 1; p >= text; p--) {
        if (*p == '.') continue;
        if (*p != '9') return ++*p, true;
        *p = '0';
    }
    return false;
}

/* The fewest significant digits that read back as d, and the exponent of the first of them. Below a power of two doubles
 * lie closer than above: there the digits that read back may be the ones above the nearest (2 ** -24). */
static int shortest_digits(double d, char digits[20], int *exponent)
{
    char text[64], above[64];
    for (int precision = fabs(d) < 2.3e-308 ? 0 : 14; precision <= 16; precision++) {
        we_tpl_float_fixed(d, precision, 'e', text, sizeof(text));
        if (precision == 16 || reads_back(text, d)) break;
        memcpy(above, text, sizeof(above));
        if (!round_up(above) || !reads_back(above, d)) continue;
        memcpy(text, above, sizeof(text));
        break;
    }
    int n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p != '.') digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    *exponent = 0;
    for (const char *q = p + 2; *q; q++) *exponent = *exponent * 10 + (*q - '0');
    if (p[1] == '-') *exponent = -*exponent;
    return n;
}

size_t we_tpl_float_repr(double d, char out[40])
{
    char digits[20], *p = out;
    int exponent;
    if (isnan(d)) return (size_t)snprintf(out, 40, "nan");
    if (signbit(d)) *p++ = '-';
    if (isinf(d)) return (size_t)(p - out) + (size_t)snprintf(p, 8, "inf");
    int n = shortest_digits(fabs(d), digits, &exponent);
    if (exponent < -4 || exponent >= 16) {
        *p++ = digits[0];
        if (n > 1) *p++ = '.';
        for (int i = 1; i < n; i++) *p++ = digits[i];
        p += snprintf(p, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return (size_t)(p - out);
    }
    if (exponent < 0) *p++ = '0', *p++ = '.';
    for (int i = -1; i > exponent; i--) *p++ = '0';
    for (int i = 0; i < WE_MAX(n, exponent + 1); i++) {
        *p++ = i < n ? digits[i] : '0';
        if (i == exponent) *p++ = '.';
    }
    if (n <= exponent + 1) *p++ = '0';
    return (size_t)(p - out);
}

/* ---- strings ---- */

static void repr_char(render *r, uint32_t c, uint32_t quote)
{
    char text[16];
    if (c == quote || c == '\\')
        we_tpl_put_c(r, "\\"), we_tpl_put_rune(r, c);
    else if (c == '\n')
        we_tpl_put_c(r, "\\n");
    else if (c == '\r')
        we_tpl_put_c(r, "\\r");
    else if (c == '\t')
        we_tpl_put_c(r, "\\t");
    else if (we_tpl_is_printable(c))
        we_tpl_put_rune(r, c);
    else {
        snprintf(text, sizeof(text), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        we_tpl_put_c(r, text);
    }
}

static void repr_string(render *r, value v)
{
    we_str s = str_of(v);
    bool single = s.len && memchr(s.ptr, '\'', s.len), twice = s.len && memchr(s.ptr, '"', s.len);
    uint32_t quote = single && !twice ? '"' : '\'';
    we_tpl_work(r, s.len / 16);
    if (v.str->markup) we_tpl_put_c(r, "Markup(");
    we_tpl_put_rune(r, quote);
    for (size_t i = 0; i < s.len;) repr_char(r, we_utf8_next(s, &i), quote);
    we_tpl_put_rune(r, quote);
    if (v.str->markup) we_tpl_put_c(r, ")");
}

/* ---- containers ---- */

static void repr_items(render *r, const list *l, const char *open, const char *close)
{
    we_tpl_put_c(r, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i) we_tpl_put_c(r, ", ");
        we_tpl_write_repr(r, l->items[i]);
    }
    we_tpl_put_c(r, close);
}

static void repr_dict(render *r, const dict *d)
{
    we_tpl_put_c(r, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i) we_tpl_put_c(r, ", ");
        we_tpl_write_repr(r, d->entries[i].key);
        we_tpl_put_c(r, ": ");
        we_tpl_write_repr(r, d->entries[i].value);
    }
    we_tpl_put_c(r, "}");
}

static void repr_view(render *r, value v)
{
    we_tpl_put_c(r, we_tpl_type_name(v));
    we_tpl_put_c(r, "(");
    repr_items(r, we_tpl_to_list(r, v), "[", "]");
    we_tpl_put_c(r, ")");
}

static void repr_range(render *r, const range *g)
{
    char text[96];
    if (g->step == 1)
        snprintf(text, sizeof(text), "range(%lld, %lld)", (long long)g->start, (long long)g->stop);
    else
        snprintf(text, sizeof(text), "range(%lld, %lld, %lld)", (long long)g->start, (long long)g->stop,
                 (long long)g->step);
    we_tpl_put_c(r, text);
}

static void repr_macro(render *r, const macro *m)
{
    if (m->node->kind != N_MACRO) {
        we_tpl_put_c(r, "<Macro anonymous>");
        return;
    }
    we_tpl_put_c(r, "<Macro ");
    repr_string(r, we_tpl_str(r, m->node->macro.name));
    we_tpl_put_c(r, ">");
}

static void repr_loop(render *r, loop *l)
{
    we_tpl_put_c(
        r, we_tpl_printf(r, "<LoopContext %lld/%lld>", (long long)l->index0 + 1, (long long)we_tpl_loop_length(r, l)));
}

static void repr_function(render *r, const function *f) /* Python would show an address */
{
    if (f->self.type == V_MISSING)
        we_tpl_put_c(r, we_tpl_printf(r, "<function %s>", f->builtin->name));
    else
        we_tpl_put_c(
            r, we_tpl_printf(r, "<built-in method %s of %s object>", f->builtin->name, we_tpl_type_name(f->self)));
}

static void put_int(render *r, int64_t i)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%lld", (long long)i);
    we_tpl_put(r, text, (size_t)n);
}

static void put_float(render *r, double d)
{
    char text[40];
    we_tpl_put(r, text, we_tpl_float_repr(d, text));
}

static void put_str(render *r, we_str s) { we_tpl_put(r, s.ptr, s.len); }

void we_tpl_write_repr(render *r, value v)
{
    we_tpl_work(r, 1);
    we_tpl_enter(r);
    switch (v.type) {
    case V_MISSING: we_tpl_put_c(r, "missing"); break;
    case V_UNDEFINED: we_tpl_put_c(r, "Undefined"); break;
    case V_NONE: we_tpl_put_c(r, "None"); break;
    case V_BOOL: we_tpl_put_c(r, v.boolean ? "True" : "False"); break;
    case V_INT: put_int(r, v.integer); break;
    case V_BIG: put_str(r, we_tpl_int_text(r, v, 10)); break;
    case V_FLOAT: put_float(r, v.number); break;
    case V_STR: repr_string(r, v); break;
    case V_LIST: repr_items(r, v.list, "[", "]"); break;
    case V_TUPLE: repr_items(r, v.list, "(", v.list->n == 1 ? ",)" : ")"); break;
    case V_DICT: repr_dict(r, v.dict); break;
    case V_NAMESPACE:
        we_tpl_put_c(r, "<Namespace ");
        repr_dict(r, v.dict);
        we_tpl_put_c(r, ">");
        break;
    case V_RANGE: repr_range(r, v.range); break;
    case V_VIEW: repr_view(r, v); break;
    case V_MACRO: repr_macro(r, v.macro); break;
    case V_LOOP: repr_loop(r, v.loop); break;
    case V_FUNCTION: repr_function(r, v.function); break;
    case V_BLOCKS: we_tpl_put_c(r, "<TemplateReference None>"); break;
    case V_ITER:
    case V_CYCLER:
    case V_JOINER: we_tpl_put_c(r, we_tpl_printf(r, "<%s object>", we_tpl_type_name(v))); break;
    }
    we_tpl_leave(r);
}

void we_tpl_write_str(render *r, value v)
{
    if (v.type == V_STR)
        put_str(r, str_of(v));
    else if (v.type != V_UNDEFINED)
        we_tpl_write_repr(r, v);
}

value we_tpl_repr(render *r, value v)
{
    size_t start = r->out->len;
    we_tpl_write_repr(r, v);
    return we_tpl_take(r, start);
}

value we_tpl_to_str(render *r, value v)
{
    if (v.type == V_STR && !v.str->markup) return v;
    if (v.type == V_STR) return we_tpl_str(r, str_of(v));
    size_t start = r->out->len;
    we_tpl_write_str(r, v);
    return we_tpl_take(r, start);
}

value we_tpl_soft_str(render *r, value v) { return v.type == V_STR ? v : we_tpl_to_str(r, v); }

/* ---- HTML ---- */

value we_tpl_escape(render *r, value v)
{
    static const struct {
        char c;
        const char *entity;
    } entities[] = {
        { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '"', "&#34;" }, { '\'', "&#39;" },
    };
    if (v.type == V_STR && v.str->markup) return v;
    v = we_tpl_to_str(r, v);
    size_t start = r->out->len;
    for (size_t i = 0; i < v.str->len; i++) {
        const char *entity = NULL;
        for (size_t k = 0; k < WE_COUNT(entities); k++)
            if (entities[k].c == v.str->ptr[i]) entity = entities[k].entity;
        if (entity)
            we_tpl_put_c(r, entity);
        else
            we_tpl_put(r, v.str->ptr + i, 1);
    }
    return we_tpl_markup(r, we_tpl_take(r, start));
}
