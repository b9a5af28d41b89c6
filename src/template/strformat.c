/* SPDX-License-Identifier: Apache-2.0
 * strformat.c - '{0} {name!r:>8}'.format(...) and format_map(): fields are found through the sandbox's attribute and
 * item look-up. Source: the Python library reference, "Format String Syntax"; string.Formatter. */
#include "template/spec.h"

typedef struct formatter {
    render *r;
    const call *args;
    value mapping; /* of format_map; V_MISSING: keywords */
    int64_t next;  /* of {}; -1 once {0} was seen */
    bool escape;
} formatter;

/* ---- one value, one specification ---- */

static spec parse_spec(render *r, we_str s, value v)
{
    spec out = { .precision = -1 };
    size_t i = 0, after = 0;
    uint32_t first = s.len ? we_utf8_next(s, &after) : 0;
    if (after < s.len && strchr("<>=^", s.ptr[after]) && s.ptr[after]) {
        out.fill = first;
        out.align = s.ptr[after];
        i = after + 1;
    } else if (s.len && strchr("<>=^", s.ptr[0]) && s.ptr[0]) {
        out.align = s.ptr[i++];
    }
    if (i < s.len && strchr("+- ", s.ptr[i]) && s.ptr[i]) {
        out.sign = s.ptr[i] == '-' ? 0 : s.ptr[i];
        i++;
    }
    if (i < s.len && s.ptr[i] == '#') out.alternate = true, i++;
    if (i < s.len && s.ptr[i] == '0' && out.fill == 0) {
        out.zero = out.align == 0 || out.align == '=';
        out.fill = '0';
        if (out.align == 0 && v.type != V_STR) out.align = '=';
        i++;
    }
    out.width = we_tpl_scan_count(r, s, &i);
    if (i < s.len && (s.ptr[i] == ',' || s.ptr[i] == '_')) out.grouping = s.ptr[i++];
    if (i < s.len && s.ptr[i] == '.') {
        size_t start = ++i;
        out.precision = we_tpl_scan_count(r, s, &i);
        if (i == start) we_tpl_fail(r, "Format specifier missing precision");
    }
    if (i < s.len) out.type = s.ptr[i++];
    if (i < s.len)
        we_tpl_fail(r, "Invalid format specifier '%.*s' for object of type '%s'", STR_ARG(s), we_tpl_type_name(v));
    return out;
}

static _Noreturn void unknown_code(render *r, char type, value v)
{
    we_tpl_fail(r, "Unknown format code '%c' for object of type '%s'", type, we_tpl_type_name(v));
}

static void format_string(render *r, spec *s, value v)
{
    if (s->type && s->type != 's') unknown_code(r, s->type, v);
    if (s->sign) we_tpl_fail(r, "Sign not allowed in string format specifier");
    if (s->alternate) we_tpl_fail(r, "Alternate form (#) not allowed in string format specifier");
    if (s->align == '=') we_tpl_fail(r, "'=' alignment not allowed in string format specifier");
    if (s->grouping) we_tpl_fail(r, "Cannot specify '%c' with 's'.", s->grouping);
    we_tpl_put_text(r, s, v);
}

static void format_int(render *r, spec *s, value v)
{
    if (s->type && strchr("eEfFgG%", s->type)) {
        we_tpl_put_float(r, s, we_tpl_to_double(r, v));
        return;
    }
    if (s->type && !strchr("bcdoxXn", s->type)) unknown_code(r, s->type, v);
    if (s->precision >= 0) we_tpl_fail(r, "Precision not allowed in integer format specifier");
    if (s->type != 'c') {
        we_tpl_put_int(r, s, v);
        return;
    }
    char bytes[4];
    int64_t c;
    int len = we_tpl_index(v, &c) && c >= 0 && c <= 0x10FFFF ? we_utf8_encode((uint32_t)c, bytes) : 0;
    if (!len) we_tpl_fail(r, "%%c arg not in range(0x110000)");
    we_tpl_put_padded(r, s, WE_STR(""), (we_str){ bytes, (size_t)len }, s->align && s->align != '=' ? s->align : '<');
}

static void format_value(render *r, value v, we_str text)
{
    if (text.len == 0) {
        we_tpl_write_str(r, v);
        return;
    }
    if (v.type != V_STR && !is_number(v))
        we_tpl_fail(r, "unsupported format string passed to %s.__format__", we_tpl_type_name(v));
    spec s = parse_spec(r, text, v);
    if (v.type == V_STR)
        format_string(r, &s, v);
    else if (v.type == V_FLOAT) {
        if (s.type && !strchr("eEfFgGn%", s.type)) unknown_code(r, s.type, v);
        we_tpl_put_float(r, &s, v.number);
    } else
        format_int(r, &s, v);
}

/* ---- fields ---- */

static bool all_digits(we_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!we_tpl_is_ascii_digit(s.ptr[i])) return false;
    return s.len > 0;
}

/* {} and {0}: string.Formatter numbers fields, or refuses to mix both, only where nothing follows the name. */
static int64_t field_number(formatter *f, we_str name, bool alone)
{
    int64_t n = 0;
    if (name.len == 0) {
        if (f->next < 0)
            we_tpl_fail(f->r, "cannot switch from manual field specification to automatic field numbering");
        return f->next++;
    }
    if (alone && f->next > 0)
        we_tpl_fail(f->r, "cannot switch from automatic field numbering to manual field specification");
    if (alone) f->next = -1;
    if (!we_parse_i64(name, &n)) we_tpl_fail(f->r, "Too many decimal digits in format string");
    return n;
}

/* alone: neither .attr nor [item] follows. */
static value first_of_field(formatter *f, we_str name, bool alone)
{
    if ((alone && name.len == 0) || all_digits(name)) {
        int64_t n = field_number(f, name, alone);
        if (f->mapping.type != V_MISSING || n >= (int64_t)f->args->n_args)
            we_tpl_fail(f->r, "Replacement index %lld out of range for positional args tuple", (long long)n);
        return f->args->args[n];
    }
    if (f->mapping.type == V_MISSING) {
        for (size_t i = 0; i < f->args->n_keywords; i++)
            if (we_str_eq(f->args->keywords[i].name, name)) return f->args->keywords[i].value;
        we_tpl_fail(f->r, "'%.*s'", STR_ARG(name));
    }
    value v;
    if (f->mapping.type != V_DICT) we_tpl_fail(f->r, "'%s' object is not a mapping", we_tpl_type_name(f->mapping));
    if (!we_tpl_dict_find(f->mapping.dict, name, &v)) we_tpl_fail(f->r, "'%.*s'", STR_ARG(name));
    return v;
}

static value field_value(formatter *f, we_str field) /* name(.attr|[item])* */
{
    size_t i = 0;
    while (i < field.len && field.ptr[i] != '.' && field.ptr[i] != '[') i++;
    value v = first_of_field(f, (we_str){ field.ptr, i }, i == field.len);
    while (i < field.len) {
        bool item = field.ptr[i] == '[';
        size_t start = ++i;
        while (i < field.len && (item ? field.ptr[i] != ']' : field.ptr[i] != '.' && field.ptr[i] != '[')) i++;
        if (item && i >= field.len) we_tpl_fail(f->r, "expected '}' before end of string");
        we_str part = { field.ptr + start, i - start };
        if (part.len == 0) we_tpl_fail(f->r, "Empty attribute in format string");
        int64_t n;
        if (!item)
            v = we_tpl_getattr(f->r, v, part);
        else
            v = we_tpl_getitem(f->r, v, all_digits(part) && we_parse_i64(part, &n) ? v_int(n) : we_tpl_str(f->r, part));
        i += item;
        if (item && i < field.len && field.ptr[i] != '.' && field.ptr[i] != '[')
            we_tpl_fail(f->r, "Only '.' or '[' may follow ']' in format field specifier");
    }
    return v;
}

static void expand(formatter *f, we_str s, int depth);

/* What is between { and }: field, !conversion, :specification. */
static void replacement(formatter *f, we_str s, int depth)
{
    size_t end = 0, brackets = 0;
    while (end < s.len && (brackets || (s.ptr[end] != '!' && s.ptr[end] != ':'))) {
        brackets += s.ptr[end] == '[';
        if (brackets && s.ptr[end] == ']') brackets--;
        end++;
    }
    value v = field_value(f, (we_str){ s.ptr, end });
    if (end < s.len && s.ptr[end] == '!') {
        char kind = end + 1 < s.len ? s.ptr[end + 1] : 0;
        if (kind == 'r' || kind == 'a')
            v = we_tpl_repr(f->r, v);
        else if (kind == 's')
            v = we_tpl_to_str(f->r, v);
        else
            we_tpl_fail(f->r, "Unknown conversion specifier '%c'", kind ? kind : '}');
        end += 2;
        if (end < s.len && s.ptr[end] != ':') we_tpl_fail(f->r, "expected ':' after conversion specifier");
    }
    we_str text = { "", 0 };
    if (end < s.len) {
        size_t start = f->r->out->len;
        expand(f, (we_str){ s.ptr + end + 1, s.len - end - 1 }, depth - 1);
        text = str_of(we_tpl_take(f->r, start));
    }
    if (f->escape) v = we_tpl_escape(f->r, v);
    format_value(f->r, v, text);
}

static void expand(formatter *f, we_str s, int depth)
{
    if (depth < 0) we_tpl_fail(f->r, "Max string recursion exceeded");
    for (size_t i = 0; i < s.len;) {
        char c = s.ptr[i++];
        if (c != '{' && c != '}') {
            we_tpl_put(f->r, &c, 1);
            continue;
        }
        if (i < s.len && s.ptr[i] == c) {
            we_tpl_put(f->r, &c, 1);
            i++;
            continue;
        }
        if (c == '}') we_tpl_fail(f->r, "Single '}' encountered in format string");
        if (i >= s.len) we_tpl_fail(f->r, "Single '{' encountered in format string");
        size_t start = i, open = 1;
        for (; i < s.len; i++) {
            open += s.ptr[i] == '{';
            open -= s.ptr[i] == '}';
            if (open == 0) break;
        }
        if (i >= s.len) we_tpl_fail(f->r, "expected '}' before end of string");
        replacement(f, (we_str){ s.ptr + start, i - start }, depth);
        i++;
    }
}

value we_tpl_format(render *r, value format, const call *c, value mapping)
{
    formatter f = { .r = r, .args = c, .mapping = mapping, .escape = format.str->markup };
    size_t start = r->out->len;
    expand(&f, str_of(format), 1);
    value text = we_tpl_take(r, start);
    return f.escape ? we_tpl_markup(r, text) : text;
}
