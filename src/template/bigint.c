/* SPDX-License-Identifier: Apache-2.0
 * bigint.c - Python's integers: int64 where it is enough, else magnitudes in base 2^32. Chat templates hardly ever leave
 * int64, so this is schoolbook arithmetic, bounded by MAX_INT_LIMBS and paid for in steps.
 * Source: Knuth, The Art of Computer Programming, volume 2, 4.3.1 (division: algorithm D). */
#include "template/template_int.h"

#include <math.h>

/* Any integer value, seen as sign and limbs. */
typedef struct magnitude {
    bool negative;
    uint32_t n;
    const uint32_t *limb;
    uint32_t small[2];
} magnitude;

static void magnitude_of(magnitude *m, value v)
{
    if (v.type == V_BIG) {
        m->negative = v.big->negative;
        m->n = v.big->n;
        m->limb = v.big->limb;
        return;
    }
    int64_t i = v.type == V_BOOL ? v.boolean : v.integer;
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    m->negative = i < 0;
    m->small[0] = (uint32_t)u;
    m->small[1] = (uint32_t)(u >> 32);
    m->n = m->small[1] ? 2 : m->small[0] ? 1 : 0;
    m->limb = m->small;
}

static bigint *big_new(render *r, size_t n)
{
    if (n > MAX_INT_LIMBS) we_tpl_fail(r, "an integer of this template is too large");
    we_tpl_work(r, n / 8);
    bigint *b = we_tpl_calloc(r, 1, sizeof(*b) + n * sizeof(uint32_t));
    b->n = (uint32_t)n;
    return b;
}

static value normal(bigint *b)
{
    while (b->n && b->limb[b->n - 1] == 0) b->n--;
    if (b->n <= 2) {
        uint64_t u = (b->n > 0 ? b->limb[0] : 0) | (b->n > 1 ? (uint64_t)b->limb[1] << 32 : 0);
        if (!b->negative && u <= INT64_MAX) return v_int((int64_t)u);
        if (b->negative && u <= (uint64_t)INT64_MAX + 1) return v_int((int64_t)(0 - u));
    }
    return (value){ .type = V_BIG, .big = b };
}

static int compare_limbs(const magnitude *a, const magnitude *b)
{
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (uint32_t i = a->n; i-- > 0;)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

int we_tpl_int_sign(value a)
{
    magnitude m;
    magnitude_of(&m, a);
    return m.n == 0 ? 0 : m.negative ? -1 : 1;
}

int we_tpl_int_compare(value a, value b)
{
    magnitude x, y;
    magnitude_of(&x, a);
    magnitude_of(&y, b);
    int sx = we_tpl_int_sign(a), sy = we_tpl_int_sign(b);
    if (sx != sy) return sx < sy ? -1 : 1;
    int c = compare_limbs(&x, &y);
    return sx < 0 ? -c : c;
}

/* ---- addition, multiplication ---- */

static value add_magnitudes(render *r, const magnitude *a, const magnitude *b, bool negative)
{
    if (a->n < b->n) return add_magnitudes(r, b, a, negative);
    bigint *sum = big_new(r, (size_t)a->n + 1);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        carry += (uint64_t)a->limb[i] + (i < b->n ? b->limb[i] : 0);
        sum->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    sum->limb[a->n] = (uint32_t)carry;
    sum->negative = negative;
    return normal(sum);
}

static value subtract_magnitudes(render *r, const magnitude *a, const magnitude *b, bool negative) /* a >= b */
{
    bigint *difference = big_new(r, a->n);
    int64_t borrow = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        int64_t d = (int64_t)a->limb[i] - (i < b->n ? b->limb[i] : 0) + borrow;
        difference->limb[i] = (uint32_t)d;
        borrow = d < 0 ? -1 : 0;
    }
    difference->negative = negative;
    return normal(difference);
}

static value add_signed(render *r, const magnitude *a, const magnitude *b)
{
    if (a->negative == b->negative) return add_magnitudes(r, a, b, a->negative);
    if (compare_limbs(a, b) >= 0) return subtract_magnitudes(r, a, b, a->negative);
    return subtract_magnitudes(r, b, a, b->negative);
}

value we_tpl_int_add(render *r, value a, value b)
{
    magnitude x, y;
    int64_t sum;
    if (a.type == V_INT && b.type == V_INT && !__builtin_add_overflow(a.integer, b.integer, &sum)) return v_int(sum);
    magnitude_of(&x, a);
    magnitude_of(&y, b);
    return add_signed(r, &x, &y);
}

value we_tpl_int_sub(render *r, value a, value b)
{
    magnitude x, y;
    int64_t difference;
    if (a.type == V_INT && b.type == V_INT && !__builtin_sub_overflow(a.integer, b.integer, &difference))
        return v_int(difference);
    magnitude_of(&x, a);
    magnitude_of(&y, b);
    y.negative = !y.negative;
    return add_signed(r, &x, &y);
}

value we_tpl_int_neg(render *r, value a) { return we_tpl_int_sub(r, v_int(0), a); }

value we_tpl_int_mul(render *r, value a, value b)
{
    magnitude x, y;
    int64_t small;
    if (a.type == V_INT && b.type == V_INT && !__builtin_mul_overflow(a.integer, b.integer, &small))
        return v_int(small);
    magnitude_of(&x, a);
    magnitude_of(&y, b);
    bigint *product = big_new(r, (size_t)x.n + y.n);
    for (uint32_t i = 0; i < x.n; i++) {
        uint64_t carry = 0;
        we_tpl_work(r, y.n / 16);
        for (uint32_t j = 0; j < y.n; j++) {
            carry += (uint64_t)x.limb[i] * y.limb[j] + product->limb[i + j];
            product->limb[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        product->limb[i + y.n] = (uint32_t)carry;
    }
    product->negative = x.negative != y.negative;
    return normal(product);
}

value we_tpl_int_pow(render *r, value a, int64_t n)
{
    value result = v_int(1);
    for (; n > 0; n >>= 1) {
        if (n & 1) result = we_tpl_int_mul(r, result, a);
        if (n > 1) a = we_tpl_int_mul(r, a, a);
    }
    return result;
}

/* ---- division ---- */

static uint32_t divide_by_limb(uint32_t *limb, uint32_t n, uint32_t divisor) /* in place; gives the remainder */
{
    uint64_t rest = 0;
    for (uint32_t i = n; i-- > 0;) {
        rest = rest << 32 | limb[i];
        limb[i] = (uint32_t)(rest / divisor);
        rest %= divisor;
    }
    return (uint32_t)rest;
}

/* Algorithm D: u [n + m + 1] and v [n] are shifted so that v's top bit is set; u becomes the remainder. */
static void divide_normalized(render *r, uint32_t *u, const uint32_t *v, uint32_t *q, uint32_t n, uint32_t m)
{
    for (uint32_t j = m + 1; j-- > 0;) {
        we_tpl_work(r, n / 16);
        uint64_t top = (uint64_t)u[j + n] << 32 | u[j + n - 1];
        uint64_t guess = top / v[n - 1], rest = top % v[n - 1];
        while (guess >> 32 || guess * v[n - 2] > (rest << 32 | u[j + n - 2])) {
            guess--;
            rest += v[n - 1];
            if (rest >> 32) break;
        }
        int64_t borrow = 0;
        uint64_t carry = 0;
        for (uint32_t i = 0; i < n; i++) {
            carry += guess * v[i];
            int64_t d = (int64_t)u[i + j] - (int64_t)(carry & 0xFFFFFFFFu) + borrow;
            u[i + j] = (uint32_t)d;
            borrow = d < 0 ? -1 : 0;
            carry >>= 32;
        }
        int64_t d = (int64_t)u[j + n] - (int64_t)carry + borrow;
        u[j + n] = (uint32_t)d;
        if (d < 0) { /* the guess was one too large: add v back */
            guess--;
            carry = 0;
            for (uint32_t i = 0; i < n; i++) {
                carry += (uint64_t)u[i + j] + v[i];
                u[i + j] = (uint32_t)carry;
                carry >>= 32;
            }
            u[j + n] += (uint32_t)carry;
        }
        q[j] = (uint32_t)guess;
    }
}

static void shift_left(uint32_t *out, const uint32_t *in, uint32_t n, int bits) /* out: [n + 1] */
{
    uint64_t carry = 0;
    for (uint32_t i = 0; i < n; i++) {
        carry |= (uint64_t)in[i] << bits;
        out[i] = (uint32_t)carry;
        carry >>= 32;
    }
    out[n] = (uint32_t)carry;
}

static void divide_magnitudes(render *r, const magnitude *a, const magnitude *b, bigint **quotient, bigint **remainder)
{
    if (compare_limbs(a, b) < 0) {
        *quotient = big_new(r, 0);
        *remainder = big_new(r, a->n);
        if (a->n) memcpy((*remainder)->limb, a->limb, a->n * sizeof(uint32_t));
        return;
    }
    bigint *q = big_new(r, (size_t)a->n - b->n + 1), *rest = big_new(r, (size_t)a->n + 1);
    if (b->n == 1) {
        memcpy(q->limb, a->limb, a->n * sizeof(uint32_t));
        rest->limb[0] = divide_by_limb(q->limb, a->n, b->limb[0]);
        rest->n = 1;
    } else {
        int bits = __builtin_clz(b->limb[b->n - 1]);
        bigint *v = big_new(r, (size_t)b->n + 1);
        shift_left(v->limb, b->limb, b->n, bits);
        shift_left(rest->limb, a->limb, a->n, bits);
        divide_normalized(r, rest->limb, v->limb, q->limb, b->n, a->n - b->n);
        for (uint32_t i = 0; i < b->n; i++)
            rest->limb[i] = (uint32_t)(((uint64_t)rest->limb[i + 1] << 32 | rest->limb[i]) >> bits);
        rest->n = b->n;
    }
    *quotient = q;
    *remainder = rest;
}

void we_tpl_int_divmod(render *r, value a, value b, value *quotient, value *remainder)
{
    magnitude x, y;
    bigint *q, *rest;
    magnitude_of(&x, a);
    magnitude_of(&y, b);
    divide_magnitudes(r, &x, &y, &q, &rest);
    q->negative = x.negative != y.negative;
    rest->negative = x.negative;
    *quotient = normal(q);
    *remainder = normal(rest);
    if (we_tpl_int_sign(*remainder) != 0 && x.negative != y.negative) { /* round down, not to zero */
        *quotient = we_tpl_int_sub(r, *quotient, v_int(1));
        *remainder = we_tpl_int_add(r, *remainder, b);
    }
}

/* ---- doubles ---- */

static int64_t bit_length(const magnitude *m)
{
    return m->n == 0 ? 0 : (int64_t)m->n * 32 - __builtin_clz(m->limb[m->n - 1]);
}

static bool bit_at(const magnitude *m, int64_t i) { return m->limb[i / 32] >> (i % 32) & 1; }

double we_tpl_int_to_double(value a)
{
    if (a.type != V_BIG) return (double)(a.type == V_BOOL ? a.boolean : a.integer);
    magnitude m;
    magnitude_of(&m, a);
    int64_t bits = bit_length(&m), shift = bits - 64; /* a big has 64 bits at least */
    uint64_t top = 0;
    bool sticky = false;
    for (int64_t i = bits; i-- > shift;) top = top << 1 | bit_at(&m, i);
    for (int64_t i = 0; i < shift && !sticky; i++) sticky = bit_at(&m, i);
    double d =
        shift > 2000 ? INFINITY : ldexp((double)(top | sticky), (int)shift); /* bit 0 of 64 is far below rounding */
    return m.negative ? -d : d;
}

int we_tpl_int_compare_double(value a, double d)
{
    if (isnan(d)) return 2;
    double whole = floor(d);
    if (a.type != V_BIG) {
        int64_t i = a.type == V_BOOL ? a.boolean : a.integer;
        if (whole >= 9223372036854775808.0) return -1;
        if (whole < -9223372036854775808.0) return 1;
        int64_t w = (int64_t)whole;
        if (i != w) return i < w ? -1 : 1;
        return d > whole ? -1 : 0;
    }
    double rounded = we_tpl_int_to_double(a);
    if (rounded != d) return rounded < d ? -1 : 1;
    magnitude m;
    magnitude_of(&m, a); /* equal once rounded: a - d has the sign of what was rounded away */
    int exponent;
    double fraction = frexp(fabs(d), &exponent);
    uint64_t mantissa = (uint64_t)ldexp(fraction, 53);
    int64_t shift = exponent - 53;
    for (int64_t i = WE_MAX(bit_length(&m), (int64_t)exponent); i-- > 0;) {
        bool x = i < bit_length(&m) && bit_at(&m, i);
        bool y = i >= shift && i - shift < 53 && (mantissa >> (i - shift) & 1);
        if (x != y) return x == m.negative ? -1 : 1;
    }
    return 0;
}

value we_tpl_int_from_double(render *r, double d)
{
    d = trunc(d);
    if (d >= -9223372036854775808.0 && d < 9223372036854775808.0) return v_int((int64_t)d);
    int exponent;
    uint64_t mantissa = (uint64_t)ldexp(frexp(fabs(d), &exponent), 53);
    int shift = exponent - 53;
    bigint *b = big_new(r, (size_t)shift / 32 + 3);
    uint32_t at = (uint32_t)shift / 32;
    int bits = shift % 32;
    b->limb[at] = (uint32_t)(mantissa << bits);
    b->limb[at + 1] = (uint32_t)(mantissa << bits >> 32);
    b->limb[at + 2] = bits ? (uint32_t)(mantissa >> (64 - bits)) : 0;
    b->negative = d < 0;
    return normal(b);
}

/* a / b, rounded once: a quotient of 64 bits or more, its last bit set where the division left a rest. */
double we_tpl_int_ratio(render *r, value a, value b)
{
    magnitude x, y;
    magnitude_of(&x, a);
    magnitude_of(&y, b);
    if (bit_length(&x) <= 53 && bit_length(&y) <= 53) return we_tpl_int_to_double(a) / we_tpl_int_to_double(b);
    int64_t shift = 66 - (bit_length(&x) - bit_length(&y));
    value q, rest, two = v_int(2);
    if (shift > 0) a = we_tpl_int_mul(r, a, we_tpl_int_pow(r, two, shift));
    if (shift < 0) b = we_tpl_int_mul(r, b, we_tpl_int_pow(r, two, -shift));
    bool negative = x.negative != y.negative;
    if (we_tpl_int_sign(a) < 0) a = we_tpl_int_neg(r, a);
    if (we_tpl_int_sign(b) < 0) b = we_tpl_int_neg(r, b);
    we_tpl_int_divmod(r, a, b, &q, &rest);
    q = we_tpl_int_mul(r, q, two);
    if (we_tpl_int_sign(rest) != 0) q = we_tpl_int_add(r, q, v_int(1));
    int64_t exponent = -shift - 1;
    if (exponent > 2000) exponent = 2000;
    if (exponent < -3000) exponent = -3000;
    double d = ldexp(we_tpl_int_to_double(q), (int)exponent);
    return negative ? -d : d;
}

/* ---- text ---- */

value we_tpl_int_parse(render *r, we_str digits, int base, bool negative)
{
    bigint *b = big_new(r, digits.len / 6 + 1); /* 5 bits a digit at most */
    uint32_t n = 0;
    for (size_t i = 0; i < digits.len; i++) {
        int c = digits.ptr[i];
        uint64_t carry = (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
        we_tpl_work(r, n / 16);
        for (uint32_t k = 0; k < n; k++) {
            carry += (uint64_t)b->limb[k] * (unsigned)base;
            b->limb[k] = (uint32_t)carry;
            carry >>= 32;
        }
        if (carry) b->limb[n++] = (uint32_t)carry;
    }
    b->n = n;
    b->negative = negative;
    return normal(b);
}

we_str we_tpl_int_text(render *r, value a, int base)
{
    magnitude m;
    magnitude_of(&m, a);
    size_t size = (size_t)m.n * 32 + 3, at = size;
    char *text = we_tpl_alloc(r, size);
    bigint *rest = big_new(r, m.n);
    memcpy(rest->limb, m.limb, m.n * sizeof(uint32_t));
    uint32_t n = m.n;
    while (n) {
        we_tpl_work(r, n / 16);
        text[--at] = "0123456789abcdefghijklmnopqrstuvwxyz"[divide_by_limb(rest->limb, n, (uint32_t)base)];
        while (n && rest->limb[n - 1] == 0) n--;
        if (base == 10 && size - at > MAX_INT_DIGITS)
            we_tpl_fail(r, "Exceeds the limit (%d digits) for integer string conversion", MAX_INT_DIGITS);
    }
    if (at == size) text[--at] = '0';
    if (m.negative) text[--at] = '-';
    return (we_str){ text + at, size - at };
}

uint64_t we_tpl_int_hash(value a)
{
    magnitude m;
    magnitude_of(&m, a);
    uint64_t h = m.negative ? 7 : 3;
    for (uint32_t i = 0; i < m.n; i++) h = (h ^ m.limb[i]) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 32);
}
