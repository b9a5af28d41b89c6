/* SPDX-License-Identifier: Apache-2.0
 * filters.c - filters on single values and numbers. On text: filters_text.c; on sequences: filters_list.c; `tojson`:
 * tojson.c. Source: jinja2/filters.py of Jinja2 3.1.6. */
#include "template/template_int.h"

#include <math.h>

static value filter_default(render *r, value self, const value *a, const call *c)
{
    (void)c;
    bool replace = self.type == V_UNDEFINED || (given(a[1]) && we_tpl_truth(a[1]) && !we_tpl_truth(self));
    if (!replace) return self;
    return given(a[0]) ? a[0] : we_tpl_str_c(r, "");
}

static value filter_length(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    int64_t n;
    if (self.type == V_LOOP) return v_int(we_tpl_loop_length(r, self.loop));
    if (!we_tpl_length(self, &n)) we_tpl_fail(r, "object of type '%s' has no len()", we_tpl_type_name(self));
    return v_int(n);
}

static value filter_attr(render *r, value self, const value *a, const call *c)
{
    (void)c;
    value v;
    if (a[0].type != V_STR) we_tpl_fail(r, "attribute name must be string, not '%s'", we_tpl_type_name(a[0]));
    if (we_tpl_attribute(r, self, str_of(a[0]), &v)) return v;
    return we_tpl_undefined_item(r, self, a[0]);
}

/* ---- numbers ---- */

static value filter_abs(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    if (self.type == V_FLOAT) return v_float(fabs(self.number));
    if (is_int(self)) return we_tpl_negate(r, self, we_tpl_int_sign(self) < 0);
    we_tpl_fail(r, "bad operand type for abs(): '%s'", we_tpl_type_name(self));
}

/* float(v); false where Python raises TypeError or ValueError. */
static bool to_float(render *r, value v, double *out)
{
    if (v.type == V_UNDEFINED) we_tpl_raise_undefined(r, v);
    if (is_number(v)) return *out = we_tpl_to_double(r, v), true;
    return v.type == V_STR && we_tpl_parse_float(r, str_of(v), out);
}

static value filter_float(render *r, value self, const value *a, const call *c)
{
    (void)c;
    double d;
    if (to_float(r, self, &d)) return v_float(d);
    return given(a[0]) ? a[0] : v_float(0);
}

static value filter_int(render *r, value self, const value *a, const call *c)
{
    (void)c;
    int64_t base = 10;
    double d;
    value v, fallback = given(a[0]) ? a[0] : v_int(0);
    const bool has_base = !given(a[1]) || we_tpl_index(a[1], &base); /* without, int() fails, and float() is tried */
    if (self.type == V_STR && base != 0 && (base < 2 || base > 36)) base = 10;
    if (self.type == V_STR && has_base && we_tpl_parse_int(r, str_of(self), base, &v)) return v;
    if (is_int(self)) return we_tpl_negate(r, self, false);
    if (self.type == V_FLOAT && isinf(self.number)) we_tpl_fail(r, "cannot convert float infinity to integer");
    if (!to_float(r, self, &d) || !isfinite(d)) return fallback;
    return we_tpl_int_from_double(r, d);
}

static value filter_round(render *r, value self, const value *a, const call *c)
{
    (void)c;
    int64_t digits = 0;
    bool ceiling = false, to_floor = false;
    if (given(a[1])) {
        ceiling = a[1].type == V_STR && we_str_is(str_of(a[1]), "ceil");
        to_floor = a[1].type == V_STR && we_str_is(str_of(a[1]), "floor");
        if (!ceiling && !to_floor && (a[1].type != V_STR || !we_str_is(str_of(a[1]), "common")))
            we_tpl_fail(r, "method must be common, ceil or floor");
    }
    bool none = a[0].type == V_NONE;
    if (given(a[0]) && !none && !we_tpl_index(a[0], &digits))
        we_tpl_fail(r, "'%s' object cannot be interpreted as an integer", we_tpl_type_name(a[0]));
    if (!ceiling && !to_floor) {
        value v = we_tpl_round(r, self, digits);
        return none && v.type == V_FLOAT ? we_tpl_int_from_double(r, v.number) : v;
    }
    value unit = we_tpl_binary(r, OP_POW, v_int(10), v_int(digits)), v = we_tpl_binary(r, OP_MUL, self, unit);
    if (v.type == V_FLOAT) {
        if (!isfinite(v.number))
            we_tpl_fail(r, "cannot convert float %s to integer", isnan(v.number) ? "NaN" : "infinity");
        v = we_tpl_int_from_double(r, ceiling ? ceil(v.number) : floor(v.number));
    } else if (!is_int(v)) {
        we_tpl_fail(r, "must be real number, not %s", we_tpl_type_name(v));
    }
    return we_tpl_binary(r, OP_DIV, v, unit);
}

static value filter_filesizeformat(render *r, value self, const value *a, const call *c)
{
    (void)c;
    static const char *const units[2][8] = { { "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" },
                                             { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB" } };
    bool binary = given(a[0]) && we_tpl_truth(a[0]);
    double bytes, base = binary ? 1024 : 1000, unit = base;
    if (!to_float(r, self, &bytes)) we_tpl_fail(r, "could not convert %s to float", we_tpl_type_name(self));
    if (bytes == 1) return we_tpl_str_c(r, "1 Byte");
    if (bytes < base) {
        we_str whole = str_of(we_tpl_to_str(r, we_tpl_int_from_double(r, isfinite(bytes) ? bytes : 0)));
        return we_tpl_str_c(r, we_tpl_printf(r, "%.*s Bytes", STR_ARG(whole)));
    }
    int i = 0;
    for (unit = base * base; i < 7 && bytes >= unit; i++) unit *= base;
    char text[400];
    we_tpl_float_fixed(base * bytes / unit, 1, 'f', text, sizeof(text));
    return we_tpl_str_c(r, we_tpl_printf(r, "%s %s", text, units[binary][i]));
}

static value filter_random(render *r, value self, const value *a, const call *c)
{
    (void)a, (void)c;
    int64_t n;
    if (!we_tpl_length(self, &n)) we_tpl_fail(r, "object of type '%s' has no len()", we_tpl_type_name(self));
    if (n == 0) return we_tpl_undefined_hint(r, "No random item, sequence was empty.");
    r->random ^= r->random << 13, r->random ^= r->random >> 7, r->random ^= r->random << 17; /* xorshift64 */
    return we_tpl_getitem(r, self, v_int((int64_t)(r->random % (uint64_t)n)));
}

static const builtin rows[] = {
    { "abs", "", filter_abs },
    { "attr", "name", filter_attr },
    { "count", "", filter_length },
    { "d", "default_value? boolean?", filter_default },
    { "default", "default_value? boolean?", filter_default },
    { "filesizeformat", "binary?", filter_filesizeformat },
    { "float", "default?", filter_float },
    { "int", "default? base?", filter_int },
    { "length", "", filter_length },
    { "random", "", filter_random },
    { "round", "precision? method?", filter_round },
    { "tojson", "ensure_ascii? indent? separators? sort_keys?", we_tpl_tojson },
};
const builtin_table we_tpl_filters_table = { rows, WE_COUNT(rows) };

const builtin *we_tpl_find_filter(we_str name)
{
    const builtin *b = we_tpl_table_find(we_tpl_filters_table, name);
    if (!b) b = we_tpl_table_find(we_tpl_text_filters_table, name);
    return b ? b : we_tpl_table_find(we_tpl_list_filters_table, name);
}
