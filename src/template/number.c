/* SPDX-License-Identifier: Apache-2.0
 * number.c - Python's operators on any two values, numbers from text, rounding. Integers are exact (bigint.c), `/` always
 * gives a float, `//` and `%` round to minus infinity; what Python refuses is refused in its words. */
#include "template/template_int.h"

#include <math.h>

static const char *const symbols[] = { "+", "-", "*", "/", "//", "%", "** or pow()" };

static _Noreturn void fail_types(render *r, operator op, value a, value b)
{
    if (a.type == V_UNDEFINED) we_tpl_raise_undefined(r, a);
    if (b.type == V_UNDEFINED) we_tpl_raise_undefined(r, b);
    we_tpl_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", symbols[op], we_tpl_type_name(a),
                we_tpl_type_name(b));
}

double we_tpl_to_double(render *r, value v)
{
    if (v.type == V_FLOAT) return v.number;
    double d = we_tpl_int_to_double(v);
    if (isinf(d)) we_tpl_fail(r, "int too large to convert to float");
    return d;
}

bool we_tpl_index(value v, int64_t *out)
{
    if (v.type == V_BOOL) return *out = v.boolean, true;
    if (v.type == V_INT) return *out = v.integer, true;
    return false;
}

/* ---- floats ---- */

static double float_mod(double a, double b, double *quotient) /* CPython's float_divmod */
{
    double rest = fmod(a, b), div = (a - rest) / b;
    if (rest != 0) {
        if ((b < 0) != (rest < 0)) {
            rest += b;
            div -= 1;
        }
    } else {
        rest = copysign(0.0, b);
    }
    double whole = div != 0 ? floor(div) : copysign(0.0, a / b);
    if (div != 0 && div - whole > 0.5) whole += 1;
    *quotient = whole;
    return rest;
}

static value float_pow(render *r, double a, double b)
{
    if (a == 0 && b < 0) we_tpl_fail(r, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b)) we_tpl_fail(r, "complex numbers are not supported");
    double d = pow(a, b);
    if (isinf(d) && isfinite(a) && isfinite(b)) we_tpl_fail(r, "(34, 'Numerical result out of range')");
    return v_float(d);
}

static value float_binary(render *r, operator op, double a, double b)
{
    static const char *const by_zero[] = {
        [OP_DIV] = "float division by zero", [OP_FLOORDIV] = "float floor division by zero", [OP_MOD] = "float modulo"
    };
    double quotient = 0, rest = 0;
    if (b == 0 && op >= OP_DIV && op <= OP_MOD) we_tpl_fail(r, "%s", by_zero[op]);
    if (op == OP_FLOORDIV || op == OP_MOD) rest = float_mod(a, b, &quotient);
    switch (op) {
    case OP_ADD: return v_float(a + b);
    case OP_SUB: return v_float(a - b);
    case OP_MUL: return v_float(a * b);
    case OP_DIV: return v_float(a / b);
    case OP_FLOORDIV: return v_float(quotient);
    case OP_MOD: return v_float(rest);
    default: return float_pow(r, a, b);
    }
}

/* ---- integers ---- */

static value int_pow(render *r, value a, value b)
{
    if (we_tpl_int_sign(b) < 0) return float_pow(r, we_tpl_to_double(r, a), we_tpl_to_double(r, b));
    int64_t n;
    bool fits = we_tpl_index(b, &n);
    if (a.type != V_BIG && (a.type == V_BOOL ? a.boolean : a.integer) <= 1 && (a.type == V_BOOL || a.integer >= -1)) {
        int64_t base = a.type == V_BOOL ? a.boolean : a.integer; /* 0, 1, -1: any exponent will do */
        bool odd = fits ? n & 1 : b.big->limb[0] & 1;
        if (we_tpl_int_sign(b) == 0) return v_int(1);
        return v_int(base == -1 && !odd ? 1 : base);
    }
    if (!fits || n > (int64_t)MAX_INT_LIMBS * 32) we_tpl_fail(r, "an integer of this template is too large");
    return we_tpl_int_pow(r, a, n);
}

static value int_binary(render *r, operator op, value a, value b)
{
    value quotient = V_NONE_VALUE, rest = V_NONE_VALUE;
    bool zero = we_tpl_int_sign(b) == 0;
    if (zero && op == OP_DIV) we_tpl_fail(r, "division by zero");
    if (zero && (op == OP_FLOORDIV || op == OP_MOD)) we_tpl_fail(r, "integer division or modulo by zero");
    if (op == OP_FLOORDIV || op == OP_MOD) we_tpl_int_divmod(r, a, b, &quotient, &rest);
    switch (op) {
    case OP_ADD: return we_tpl_int_add(r, a, b);
    case OP_SUB: return we_tpl_int_sub(r, a, b);
    case OP_MUL: return we_tpl_int_mul(r, a, b);
    case OP_DIV: {
        double d = we_tpl_int_ratio(r, a, b);
        if (isinf(d)) we_tpl_fail(r, "integer division result too large for a float");
        return v_float(d);
    }
    case OP_FLOORDIV: return quotient;
    case OP_MOD: return rest;
    default: return int_pow(r, a, b);
    }
}

/* ---- sequences ---- */

static bool is_sequence(value v) { return v.type == V_STR || v.type == V_LIST || v.type == V_TUPLE; }

static value repeat_string(render *r, value s, int64_t n)
{
    size_t len = s.str->len;
    if (n <= 0 || len == 0) return s.str->markup ? we_tpl_markup(r, we_tpl_str_c(r, "")) : we_tpl_str_c(r, "");
    if ((uint64_t)n > SIZE_MAX / len) we_tpl_fail(r, "the values of this template need too much memory");
    we_tpl_work(r, len * (size_t)n / 64);
    char *bytes = we_tpl_alloc(r, len * (size_t)n);
    for (int64_t i = 0; i < n; i++) memcpy(bytes + (size_t)i * len, s.str->ptr, len);
    value v = we_tpl_str(r, (we_str){ bytes, len * (size_t)n });
    v.str->markup = s.str->markup;
    return v;
}

static value repeat_list(render *r, value l, int64_t n)
{
    size_t items = l.list->n;
    if (n < 0 || items == 0) n = 0;
    if (n && (uint64_t)n > SIZE_MAX / items) we_tpl_fail(r, "the values of this template need too much memory");
    list *out = we_tpl_list_new(r, items * (size_t)n);
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < items; k++) we_tpl_list_push(r, out, l.list->items[k]);
    return l.type == V_LIST ? v_list(out) : v_tuple(out);
}

static value repeat(render *r, value sequence, value times)
{
    int64_t n;
    if (!is_int(times)) {
        if (times.type == V_UNDEFINED) we_tpl_raise_undefined(r, times);
        we_tpl_fail(r, "can't multiply sequence by non-int of type '%s'", we_tpl_type_name(times));
    }
    if (!we_tpl_index(times, &n)) we_tpl_fail(r, "cannot fit 'int' into an index-sized integer");
    return sequence.type == V_STR ? repeat_string(r, sequence, n) : repeat_list(r, sequence, n);
}

static value add_strings(render *r, value a, value b)
{
    bool markup = a.str->markup || b.str->markup;
    if (!markup) return we_tpl_concat(r, a, b);
    return we_tpl_markup(r, we_tpl_concat(r, we_tpl_escape(r, a), we_tpl_escape(r, b)));
}

static value add_others(render *r, value a, value b)
{
    if (a.type == V_STR && b.type == V_STR) return add_strings(r, a, b);
    if (a.type == b.type && is_sequence(a)) return we_tpl_list_concat(r, a, b);
    if (a.type == V_UNDEFINED) we_tpl_raise_undefined(r, a);
    if (b.type == V_UNDEFINED) we_tpl_raise_undefined(r, b);
    if (is_sequence(a))
        we_tpl_fail(r, "can only concatenate %s (not \"%s\") to %s", we_tpl_type_name(a), we_tpl_type_name(b),
                    we_tpl_type_name(a));
    fail_types(r, OP_ADD, a, b);
}

value we_tpl_binary(render *r, operator op, value a, value b)
{
    if (is_int(a) && is_int(b)) return int_binary(r, op, a, b);
    if (is_number(a) && is_number(b)) return float_binary(r, op, we_tpl_to_double(r, a), we_tpl_to_double(r, b));
    if (op == OP_ADD) return add_others(r, a, b);
    if (op == OP_MUL && is_sequence(a)) return repeat(r, a, b);
    if (op == OP_MUL && is_sequence(b)) return repeat(r, b, a);
    if (op == OP_MOD && a.type == V_STR) return we_tpl_percent(r, a, b);
    fail_types(r, op, a, b);
}

value we_tpl_negate(render *r, value a, bool negative)
{
    if (a.type == V_FLOAT) return v_float(negative ? -a.number : a.number);
    if (is_int(a)) return negative ? we_tpl_int_neg(r, a) : we_tpl_int_add(r, a, v_int(0));
    if (a.type == V_UNDEFINED) we_tpl_raise_undefined(r, a);
    we_tpl_fail(r, "bad operand type for unary %c: '%s'", negative ? '-' : '+', we_tpl_type_name(a));
}

/* ---- numbers from text, as int() and float() read them ---- */

/* Without the space around, decimal digits of any script as ASCII, and `_` between digits taken away. False: a character
 * that no number has. */
static bool plain_number(render *r, we_str s, we_str *out)
{
    char *text = we_tpl_alloc(r, s.len + 1);
    size_t n = 0, end = 0;
    for (size_t i = 0; i < s.len;) {
        uint32_t c = we_utf8_next(s, &i);
        int digit = c >= 0x80 ? we_tpl_digit_value(c) : -1;
        if (we_tpl_is_space(c)) {
            if (n) text[n++] = ' ';
            continue;
        }
        if (c >= 0x80 && digit < 0) return false;
        text[n++] = digit >= 0 ? (char)('0' + digit) : (char)c;
        end = n;
    }
    *out = (we_str){ text, end };
    return true;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
}

static bool drop_underscores(we_str s, char *out, size_t *n, int base, bool after_prefix)
{
    bool digit = after_prefix; /* an underscore may follow a digit or the prefix, and a digit must follow it */
    *n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '_') {
            if (!digit || i + 1 == s.len) return false;
            digit = false;
            continue;
        }
        digit = digit_of(s.ptr[i]) < (base > 36 ? 10 : base); /* 99: a float's text */
        if (!digit && base <= 36) return false;
        if (!digit && i > 0 && s.ptr[i - 1] == '_') return false;
        out[(*n)++] = s.ptr[i];
    }
    return *n > 0;
}

bool we_tpl_parse_int(render *r, we_str s, int64_t base, value *out)
{
    we_str text;
    if (base != 0 && (base < 2 || base > 36)) we_tpl_fail(r, "int() base must be >= 2 and <= 36, or 0");
    if (!plain_number(r, s, &text) || text.len == 0) return false;
    bool negative = text.ptr[0] == '-', prefix = false;
    if (text.ptr[0] == '-' || text.ptr[0] == '+') text.ptr++, text.len--;
    if (text.len > 1 && text.ptr[0] == '0') {
        int kind = text.ptr[1] | 32, of = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        prefix = of && (base == 0 || base == of);
        if (prefix) base = of, text.ptr += 2, text.len -= 2;
    }
    bool guess = base == 0;
    if (guess) base = 10;
    char *digits = we_tpl_alloc(r, text.len + 1);
    size_t n;
    if (!drop_underscores(text, digits, &n, (int)base, prefix)) return false;
    if (guess && n > 1 && digits[0] == '0')
        for (size_t i = 1; i < n; i++)
            if (digits[i] != '0') return false; /* 0123 is no literal */
    if (n > MAX_INT_DIGITS && (base & (base - 1))) return false;
    *out = we_tpl_int_parse(r, (we_str){ digits, n }, (int)base, negative);
    return true;
}

static bool named_float(we_str s, double *out)
{
    static const struct {
        const char *name;
        double d;
    } names[] = { { "inf", INFINITY }, { "infinity", INFINITY }, { "nan", NAN } };
    for (size_t k = 0; k < WE_COUNT(names); k++) {
        size_t i = 0;
        while (i < s.len && names[k].name[i] && (s.ptr[i] | 32) == names[k].name[i]) i++;
        if (i == s.len && names[k].name[i] == 0) return *out = names[k].d, true;
    }
    return false;
}

/* Digits, a point, an exponent: [0-9]*.?[0-9]*(e[+-]?[0-9]+)?, one digit before the exponent at least. */
static bool is_float_syntax(we_str s)
{
    size_t i = 0, digits = 0;
    while (i < s.len && digit_of(s.ptr[i]) < 10) i++, digits++;
    if (i < s.len && s.ptr[i] == '.') i++;
    while (i < s.len && digit_of(s.ptr[i]) < 10) i++, digits++;
    if (digits == 0) return false;
    if (i == s.len) return true;
    if ((s.ptr[i] | 32) != 'e') return false;
    i++;
    if (i < s.len && (s.ptr[i] == '+' || s.ptr[i] == '-')) i++;
    size_t start = i;
    while (i < s.len && digit_of(s.ptr[i]) < 10) i++;
    return i > start && i == s.len;
}

/* strtod's results beyond the range of doubles: infinity and zero are what Python gives, too. */
static double read_double(we_str s)
{
    double d = 0;
    if (we_parse_f64(s, &d)) return d;
    bool nonzero = false;
    for (size_t i = 0; i < s.len && (s.ptr[i] | 32) != 'e'; i++) nonzero |= s.ptr[i] >= '1' && s.ptr[i] <= '9';
    for (size_t i = 0; i < s.len; i++)
        if ((s.ptr[i] | 32) == 'e' && i + 1 < s.len && s.ptr[i + 1] == '-') return 0;
    return nonzero ? INFINITY : 0;
}

bool we_tpl_parse_float(render *r, we_str s, double *out)
{
    we_str text;
    size_t n;
    if (!plain_number(r, s, &text) || text.len == 0) return false;
    bool negative = text.ptr[0] == '-';
    if (text.ptr[0] == '-' || text.ptr[0] == '+') text.ptr++, text.len--;
    if (!named_float(text, out)) {
        char *digits = we_tpl_alloc(r, text.len + 4);
        if (!drop_underscores(text, digits + 1, &n, 99, false)) return false;
        if (!is_float_syntax((we_str){ digits + 1, n })) return false;
        bool lead = digits[1] == '.'; /* ".5": written so that every reader takes it */
        if (lead) digits[0] = '0';
        we_str number = { digits + !lead, n + lead };
        size_t point = 0;
        while (point < number.len && number.ptr[point] != '.') point++;
        if (point < number.len && (point + 1 == number.len || digit_of(number.ptr[point + 1]) > 9)) {
            char *at = digits + !lead + point; /* "5." and "5.e3": the point goes */
            memmove(at, at + 1, number.len - point - 1);
            number.len--;
        }
        *out = read_double(number);
    }
    if (negative) *out = -*out;
    return true;
}

/* ---- round() ---- */

static value round_int(render *r, value v, int64_t digits)
{
    if (digits >= 0) return we_tpl_int_add(r, v, v_int(0));
    if (digits < -MAX_INT_DIGITS) return v_int(0);
    value unit = we_tpl_int_pow(r, v_int(10), -digits), quotient, rest, ignored, odd;
    we_tpl_int_divmod(r, v, unit, &quotient, &rest);
    int half = we_tpl_int_compare(we_tpl_int_mul(r, rest, v_int(2)), unit);
    we_tpl_int_divmod(r, quotient, v_int(2), &ignored, &odd);
    if (half > 0 || (half == 0 && we_tpl_int_sign(odd))) quotient = we_tpl_int_add(r, quotient, v_int(1));
    return we_tpl_int_mul(r, quotient, unit);
}

static value round_float(render *r, double d, int64_t digits)
{
    if (!isfinite(d) || digits > 323) return v_float(d);
    if (digits < -308) return v_float(copysign(0.0, d));
    if (digits >= 0) { /* printf rounds the exact binary value, half to even, as Python does */
        char text[800];
        size_t n = we_tpl_float_fixed(d, (int)digits, 'f', text, sizeof(text));
        bool negative = text[0] == '-';
        double rounded = read_double((we_str){ text + negative, n - negative });
        if (isinf(rounded)) we_tpl_fail(r, "rounded value too large to represent");
        return v_float(negative ? -rounded : rounded);
    }
    value whole = we_tpl_int_from_double(r, fabs(d)), unit = we_tpl_int_pow(r, v_int(10), -digits), quotient, rest,
          ignored, odd;
    we_tpl_int_divmod(r, whole, unit, &quotient, &rest);
    int half = we_tpl_int_compare(we_tpl_int_mul(r, rest, v_int(2)), unit);
    if (half == 0 && fabs(d) != floor(fabs(d))) half = 1;
    we_tpl_int_divmod(r, quotient, v_int(2), &ignored, &odd);
    if (half > 0 || (half == 0 && we_tpl_int_sign(odd))) quotient = we_tpl_int_add(r, quotient, v_int(1));
    double rounded = we_tpl_int_to_double(we_tpl_int_mul(r, quotient, unit));
    if (isinf(rounded)) we_tpl_fail(r, "rounded value too large to represent");
    return v_float(copysign(rounded, d));
}

value we_tpl_round(render *r, value v, int64_t digits)
{
    if (is_int(v)) return round_int(r, v, digits);
    if (v.type == V_FLOAT) return round_float(r, v.number, digits);
    we_tpl_fail(r, "type %s doesn't define __round__ method", we_tpl_type_name(v));
}
