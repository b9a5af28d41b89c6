/* SPDX-License-Identifier: Apache-2.0
 * percent.c - the % operator of strings: '%-5s %(name)d %.2f' % values.
 * Source: the Python library reference, "printf-style String Formatting". */
#include "template/spec.h"

typedef struct percent {
    render *r;
    value args; /* a tuple's items, one by one, or a single value */
    size_t next;
    bool mapping; /* args can be asked by key */
    bool escape;  /* the format is Markup */
} percent;

static value next_argument(percent *p)
{
    bool tuple = p->args.type == V_TUPLE;
    if (p->next >= (tuple ? p->args.list->n : 1)) we_tpl_fail(p->r, "not enough arguments for format string");
    p->next++;
    return tuple ? p->args.list->items[p->next - 1] : p->args;
}

static value keyed_argument(percent *p, we_str format, size_t *i)
{
    size_t start = ++*i, depth = 1;
    if (!p->mapping) we_tpl_fail(p->r, "format requires a mapping");
    for (; *i < format.len; ++*i) {
        depth += format.ptr[*i] == '(';
        depth -= format.ptr[*i] == ')';
        if (depth == 0) break;
    }
    if (*i >= format.len) we_tpl_fail(p->r, "incomplete format key");
    we_str key = { format.ptr + start, *i - start };
    ++*i;
    if (p->args.type == V_UNDEFINED) we_tpl_raise_undefined(p->r, p->args);
    if (p->args.type == V_LIST) we_tpl_fail(p->r, "list indices must be integers or slices, not str");
    value v;
    if (!we_tpl_dict_find(p->args.dict, key, &v)) we_tpl_fail(p->r, "'%.*s'", STR_ARG(key));
    return v;
}

static int64_t star_or_count(percent *p, we_str format, size_t *i)
{
    int64_t n;
    if (*i >= format.len || format.ptr[*i] != '*') return we_tpl_scan_count(p->r, format, i);
    ++*i;
    if (!we_tpl_index(next_argument(p), &n)) we_tpl_fail(p->r, "* wants int");
    if (n > INT32_MAX || n < -INT32_MAX) we_tpl_fail(p->r, "width too big");
    return n;
}

static void flags(we_str format, size_t *i, spec *s)
{
    for (; *i < format.len; ++*i) {
        switch (format.ptr[*i]) {
        case '-': s->align = '<'; break;
        case '+': s->sign = '+'; break;
        case ' ':
            if (!s->sign) s->sign = ' ';
            break;
        case '#': s->alternate = true; break;
        case '0': s->zero = true; break;
        default: return;
        }
    }
}

static void put_char(percent *p, spec *s, value v)
{
    char bytes[4];
    int64_t c;
    if (v.type == V_STR && v.str->n_chars == 1) {
        we_tpl_put_text(p->r, s, v);
        return;
    }
    if (!we_tpl_index(v, &c)) we_tpl_fail(p->r, "%%c requires int or char");
    int len = c < 0 || c > 0x10FFFF ? 0 : we_utf8_encode((uint32_t)c, bytes);
    if (!len) we_tpl_fail(p->r, "%%c arg not in range(0x110000)");
    we_tpl_put_text(p->r, s, we_tpl_str_copy(p->r, (we_str){ bytes, (size_t)len }));
}

static void put_integer(percent *p, spec *s, value v)
{
    bool decimal = s->type == 'd' || s->type == 'i' || s->type == 'u';
    if (v.type == V_UNDEFINED) we_tpl_raise_undefined(p->r, v);
    if (v.type == V_FLOAT && decimal) {
        if (v.number - v.number != 0)
            we_tpl_fail(p->r, "cannot convert float %s to integer", v.number != v.number ? "NaN" : "infinity");
        v = we_tpl_int_from_double(p->r, v.number);
    }
    if (!is_int(v))
        we_tpl_fail(p->r, "%%%c format: %s is required, not %s", s->type, decimal ? "a real number" : "an integer",
                    we_tpl_type_name(v));
    if (decimal) s->type = 'd';
    if (s->zero && s->align != '<') s->align = '=';
    if (s->align == '<') s->zero = false;
    we_tpl_put_int(p->r, s, v);
}

static void put_real(percent *p, spec *s, value v)
{
    if (v.type == V_UNDEFINED) we_tpl_raise_undefined(p->r, v);
    if (!is_number(v)) we_tpl_fail(p->r, "must be real number, not %s", we_tpl_type_name(v));
    if (s->align == '<') s->zero = false;
    we_tpl_put_float(p->r, s, we_tpl_to_double(p->r, v));
}

static void put_string(percent *p, spec *s, value v)
{
    if (s->type == 's')
        v = we_tpl_to_str(p->r, p->escape ? we_tpl_escape(p->r, v) : v);
    else
        v = we_tpl_repr(p->r, v);
    s->zero = false;
    if (!s->align) s->align = '>';
    we_tpl_put_text(p->r, s, v);
}

static void one(percent *p, we_str format, size_t *i)
{
    spec s = { .precision = -1 };
    value keyed = V_MISSING_VALUE;
    if (*i < format.len && format.ptr[*i] == '(') keyed = keyed_argument(p, format, i);
    flags(format, i, &s);
    s.width = star_or_count(p, format, i);
    if (s.width < 0) s.align = '<', s.width = -s.width;
    if (*i < format.len && format.ptr[*i] == '.') {
        ++*i;
        s.precision = star_or_count(p, format, i);
        if (s.precision < 0) s.precision = 0;
    }
    if (*i < format.len && strchr("hlL", format.ptr[*i]) && format.ptr[*i]) ++*i;
    if (*i >= format.len) we_tpl_fail(p->r, "incomplete format");
    size_t at = *i;
    uint32_t c = we_utf8_next(format, i);
    if (c == '%') { /* also as "%5%" */
        we_tpl_put(p->r, "%", 1);
        return;
    }
    if (c >= 0x80 || !c || !strchr("diuoxXeEfFgGcrsa", (int)c))
        we_tpl_fail(p->r, "unsupported format character '%.*s' (0x%x) at index %zu", (int)(*i - at), format.ptr + at,
                    (unsigned)c, we_tpl_utf8_count((we_str){ format.ptr, at }));
    value v = keyed.type == V_MISSING ? next_argument(p) : keyed;
    s.type = (char)c;
    if (c == 'c')
        put_char(p, &s, v);
    else if (strchr("diuoxX", (int)c))
        put_integer(p, &s, v);
    else if (strchr("rsa", (int)c))
        put_string(p, &s, v);
    else
        put_real(p, &s, v);
}

value we_tpl_percent(render *r, value format, value args)
{
    percent p = { .r = r, .args = args, .escape = format.str->markup };
    p.mapping = args.type == V_DICT || args.type == V_LIST || args.type == V_UNDEFINED || args.type == V_RANGE;
    we_str s = str_of(format);
    size_t start = r->out->len;
    for (size_t i = 0; i < s.len;) {
        const char *at = memchr(s.ptr + i, '%', s.len - i);
        size_t end = at ? (size_t)(at - s.ptr) : s.len;
        we_tpl_put(r, s.ptr + i, end - i);
        if (!at) break;
        i = end + 1;
        one(&p, s, &i);
    }
    size_t n = args.type == V_TUPLE ? args.list->n : 1;
    if (p.next < n && !p.mapping) we_tpl_fail(r, "not all arguments converted during string formatting");
    value text = we_tpl_take(r, start);
    return p.escape ? we_tpl_markup(r, text) : text;
}
