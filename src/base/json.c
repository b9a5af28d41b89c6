/* SPDX-License-Identifier: Apache-2.0
 * json.c - the JSON pull reader and the tree built on it. The writer is json_write.c.
 *
 * Most of a tokenizer file is short strings without escapes. They are scanned eight bytes at a step, checked for UTF-8 only
 * where a byte above U+007F was seen, and given out as a slice of the input. Lines are counted only once there is an error.
 * Source: RFC 8259; a byte order mark at the beginning is ignored, as its section 8.1 allows. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>

/* ---- Reader: state and errors ---- */

/* What may come next: reader->state. */
enum next {
    WANT_VALUE,
    WANT_VALUE_OR_END, /* behind '[' */
    WANT_KEY,          /* behind a comma */
    WANT_KEY_OR_END,   /* behind '{' */
    WANT_COMMA_OR_END, /* behind a value in an array or object */
    WANT_NOTHING,      /* behind the one value */
    FAILED
};

void we_json_reader_init(we_json_reader *reader, we_str input)
{
    *reader = (we_json_reader){ .input = input, .state = WANT_VALUE };
    if (we_str_starts_with(input, WE_STR("\xEF\xBB\xBF"))) reader->pos = 3;
}

void we_json_reader_deinit(we_json_reader *reader) { we_buf_deinit(&reader->scratch); }

const char *we_json_where(const we_json_reader *reader, char out[48])
{
    size_t line = 1, column = 1; /* columns count characters, as editors do */
    for (size_t i = 0; i < reader->pos && i < reader->input.len; i++) {
        const unsigned char c = (unsigned char)reader->input.ptr[i];
        if (c == '\n')
            line++, column = 1;
        else if ((c & 0xC0) != 0x80)
            column++;
    }
    snprintf(out, 48, "line %zu, column %zu", line, column);
    return out;
}

static we_json_event fail_with(we_json_reader *r, we_status status, const char *problem)
{
    char where[48];
    r->state = FAILED;
    we_fail(&r->error, status, "%s: %s", we_json_where(r, where), problem);
    return WE_JSON_EV_ERROR;
}

/* At the reader's position; says what stands there. */
static we_json_event fail_expected(we_json_reader *r, const char *expected)
{
    char problem[128];
    if (r->pos >= r->input.len) {
        snprintf(problem, sizeof(problem), "expected %s, found the end of the text", expected);
    } else {
        const we_str rest = { r->input.ptr + r->pos, r->input.len - r->pos };
        size_t n = 0;
        we_utf8_next(rest, &n);
        snprintf(problem, sizeof(problem), "expected %s, found '%.*s'", expected, (int)n, rest.ptr);
    }
    return fail_with(r, WE_E_FORMAT, problem);
}

static we_json_event fail_at(we_json_reader *r, size_t pos, const char *problem)
{
    r->pos = pos;
    return fail_with(r, WE_E_FORMAT, problem);
}

/* ---- Reader: strings ---- */

#define ONES 0x0101010101010101U
#define HIGHS 0x8080808080808080U

static uint64_t load_little_endian(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* 0x80 in the bytes that end a run: a quote, a backslash, a control character. Bytes above the lowest one marked may be
 * marked by mistake (the borrow), so only that one counts. */
static uint64_t run_enders(uint64_t word)
{
    const uint64_t quote = word ^ (ONES * '"'), backslash = word ^ (ONES * '\\');
    return (((quote - ONES) & ~quote) | ((backslash - ONES) & ~backslash) | ((word - ONES * 0x20) & ~word)) & HIGHS;
}

/* The first byte from i on that ends a run of plain characters, or s.len; *high collects the bytes' high bits. */
static size_t scan_run(we_str s, size_t i, uint64_t *high)
{
    while (i + 8 <= s.len) {
        const uint64_t word = load_little_endian(s.ptr + i), enders = run_enders(word);
        if (enders) {
            const int n = __builtin_ctzll(enders) / 8;
            *high |= word & ((enders & -enders) - 1);
            return i + (size_t)n;
        }
        *high |= word;
        i += 8;
    }
    for (; i < s.len; i++) {
        const unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"' || c == '\\' || c < 0x20) break;
        *high |= c;
    }
    return i;
}

/* Four hex digits at s[i]; false where there are none. */
static bool hex4(we_str s, size_t i, uint32_t *out)
{
    if (s.len < 4 || i > s.len - 4) return false;
    *out = 0;
    for (size_t k = i; k < i + 4; k++) {
        const char c = s.ptr[k];
        const char lower = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            *out = *out * 16 + (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            *out = *out * 16 + (uint32_t)(lower - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* The escape whose backslash is at *i, into scratch; *i moves behind it. False where it is none. */
static bool read_escape(we_json_reader *r, size_t *i)
{
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const we_str s = r->input;
    if (*i + 1 >= s.len) return false;
    const char c = s.ptr[*i + 1];
    if (c != 'u') {
        const char *name = c ? strchr(names, c) : NULL;
        if (!name) return false;
        we_buf_append_char(&r->scratch, meanings[name - names]);
        *i += 2;
        return true;
    }
    uint32_t rune, low;
    if (!hex4(s, *i + 2, &rune)) return false;
    *i += 6;
    if (rune >= 0xD800 && rune < 0xDC00 && *i + 1 < s.len && s.ptr[*i] == '\\' && s.ptr[*i + 1] == 'u' &&
        hex4(s, *i + 2, &low) && low >= 0xDC00 && low < 0xE000) {
        rune = 0x10000 + ((rune - 0xD800) << 10) + (low - 0xDC00);
        *i += 6;
    }
    we_buf_append_rune(&r->scratch, rune); /* makes U+FFFD of a surrogate left alone */
    return true;
}

/* The string whose opening quote is at pos, into r->text; pos moves behind the closing one. */
static bool read_string(we_json_reader *r)
{
    const we_str s = r->input;
    const size_t begin = r->pos + 1;
    uint64_t high = 0;
    size_t i = begin, run = begin; /* begin of the run not yet in scratch */
    r->text_in_input = true;
    for (;;) {
        i = scan_run(s, i, &high);
        if (i >= s.len) return fail_at(r, i, "the string does not end"), false;
        if (s.ptr[i] == '"') break;
        if (s.ptr[i] != '\\') return fail_at(r, i, "a control character in a string must be escaped"), false;
        if (r->text_in_input) we_buf_clear(&r->scratch);
        r->text_in_input = false;
        we_buf_append(&r->scratch, s.ptr + run, i - run);
        if (!read_escape(r, &i)) return fail_at(r, i, "no such escape in a string"), false;
        run = i;
    }
    r->text = (we_str){ s.ptr + begin, i - begin };
    if (high & HIGHS) {
        const size_t valid = we_utf8_valid(r->text);
        if (valid < r->text.len) return fail_at(r, begin + valid, "the string is not valid UTF-8"), false;
    }
    if (!r->text_in_input) {
        we_buf_append(&r->scratch, s.ptr + run, i - run);
        if (r->scratch.failed) return fail_with(r, WE_E_NOMEM, "no memory for a string"), false;
        r->text = we_buf_str(&r->scratch);
    }
    r->pos = i + 1;
    return true;
}

/* ---- Reader: the other values ---- */

static size_t skip_digits(we_str s, size_t i)
{
    while (i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9') i++;
    return i;
}

/* [-] 0 | digits [. digits] [e [+-] digits] from pos on, into r->text. */
static bool read_number(we_json_reader *r)
{
    const we_str s = r->input;
    const size_t begin = r->pos, whole = begin + (s.ptr[begin] == '-');
    size_t i = skip_digits(s, whole);
    if (i == whole) return r->pos = i, fail_expected(r, "a digit"), false;
    if (s.ptr[whole] == '0' && i > whole + 1) return fail_at(r, whole, "a number must not begin with 0"), false;
    if (i < s.len && s.ptr[i] == '.') {
        const size_t fraction = i + 1;
        i = skip_digits(s, fraction);
        if (i == fraction) return r->pos = i, fail_expected(r, "a digit"), false;
    }
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E')) {
        i++;
        if (i < s.len && (s.ptr[i] == '+' || s.ptr[i] == '-')) i++;
        const size_t exponent = i;
        i = skip_digits(s, exponent);
        if (i == exponent) return r->pos = i, fail_expected(r, "a digit"), false;
    }
    r->text = (we_str){ s.ptr + begin, i - begin };
    r->text_in_input = true;
    r->pos = i;
    return true;
}

static bool read_word(we_json_reader *r, we_str word)
{
    const we_str rest = { r->input.ptr + r->pos, r->input.len - r->pos };
    if (!we_str_starts_with(rest, word)) return fail_expected(r, "a value"), false;
    r->text = (we_str){ rest.ptr, word.len };
    r->text_in_input = true;
    r->pos += word.len;
    return true;
}

static void skip_space(we_json_reader *r)
{
    const we_str s = r->input;
    size_t i = r->pos;
    while (i < s.len && (s.ptr[i] == ' ' || s.ptr[i] == '\n' || s.ptr[i] == '\r' || s.ptr[i] == '\t')) i++;
    r->pos = i;
}

/* The next character that is no space; 0 at the end, where a NUL in the text ends up as well: it fits nothing. */
static char peek(we_json_reader *r)
{
    skip_space(r);
    return r->pos < r->input.len ? r->input.ptr[r->pos] : '\0';
}

/* ---- Reader: structure ---- */

static bool in_object(const we_json_reader *r)
{
    const int d = r->depth - 1;
    return r->stack[d / 64] >> (d % 64) & 1;
}

static we_json_event begin_container(we_json_reader *r, bool object)
{
    if (r->depth == WE_JSON_MAX_DEPTH) return fail_with(r, WE_E_FORMAT, "arrays and objects are nested too deep");
    const int d = r->depth++;
    const uint64_t bit = (uint64_t)1 << (d % 64);
    if (object)
        r->stack[d / 64] |= bit;
    else
        r->stack[d / 64] &= ~bit;
    r->pos++;
    r->state = object ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
    return object ? WE_JSON_EV_BEGIN_OBJECT : WE_JSON_EV_BEGIN_ARRAY;
}

static int state_behind_value(const we_json_reader *r) { return r->depth ? WANT_COMMA_OR_END : WANT_NOTHING; }

static we_json_event end_container(we_json_reader *r)
{
    const bool object = in_object(r);
    r->pos++;
    r->depth--;
    r->state = state_behind_value(r);
    return object ? WE_JSON_EV_END_OBJECT : WE_JSON_EV_END_ARRAY;
}

static we_json_event next_value(we_json_reader *r)
{
    const char c = peek(r);
    bool ok;
    switch (c) {
    case '{': return begin_container(r, true);
    case '[': return begin_container(r, false);
    case '"': r->type = WE_JSON_STRING, ok = read_string(r); break;
    case 't': r->type = WE_JSON_TRUE, ok = read_word(r, WE_STR("true")); break;
    case 'f': r->type = WE_JSON_FALSE, ok = read_word(r, WE_STR("false")); break;
    case 'n': r->type = WE_JSON_NULL, ok = read_word(r, WE_STR("null")); break;
    default:
        if (c != '-' && (c < '0' || c > '9')) return fail_expected(r, "a value");
        r->type = WE_JSON_NUMBER, ok = read_number(r);
    }
    if (!ok) return WE_JSON_EV_ERROR;
    r->state = state_behind_value(r);
    return WE_JSON_EV_VALUE;
}

static we_json_event next_key(we_json_reader *r)
{
    if (peek(r) != '"') return fail_expected(r, r->state == WANT_KEY ? "a key" : "a key or '}'");
    if (!read_string(r)) return WE_JSON_EV_ERROR;
    if (peek(r) != ':') return fail_expected(r, "':'");
    r->pos++;
    r->state = WANT_VALUE;
    return WE_JSON_EV_KEY;
}

we_json_event we_json_next(we_json_reader *r)
{
    switch (r->state) {
    case WANT_VALUE: return next_value(r);
    case WANT_VALUE_OR_END: return peek(r) == ']' ? end_container(r) : next_value(r);
    case WANT_KEY: return next_key(r);
    case WANT_KEY_OR_END: return peek(r) == '}' ? end_container(r) : next_key(r);
    case WANT_COMMA_OR_END: {
        const bool object = in_object(r);
        const char c = peek(r);
        if (c == (object ? '}' : ']')) return end_container(r);
        if (c != ',') return fail_expected(r, object ? "',' or '}'" : "',' or ']'");
        r->pos++;
        r->state = object ? WANT_KEY : WANT_VALUE;
        return object ? next_key(r) : next_value(r);
    }
    case WANT_NOTHING:
        skip_space(r);
        return r->pos == r->input.len ? WE_JSON_EV_END : fail_expected(r, "nothing behind the value");
    default: return WE_JSON_EV_ERROR;
    }
}

bool we_json_skip(we_json_reader *r)
{
    const int depth = r->depth;
    do {
        const we_json_event event = we_json_next(r);
        if (event == WE_JSON_EV_ERROR) return false;
        if (event == WE_JSON_EV_END || r->depth < depth) return fail_with(r, WE_E_INTERNAL, "no value to skip"), false;
    } while (r->depth > depth);
    return true;
}

/* ---- Tree ---- */

/* The open array or object, and its last child, to which the next is linked. */
typedef struct frame {
    we_json *node, *last;
} frame;

static bool keep_text(const we_json_reader *r, we_arena *arena, we_str *out)
{
    if (r->text_in_input) {
        *out = r->text;
        return true;
    }
    out->ptr = we_arena_strndup(arena, r->text.ptr, r->text.len);
    out->len = r->text.len;
    return out->ptr != NULL;
}

static void add_child(frame *parent, we_json *node)
{
    if (parent->last)
        parent->last->next = node;
    else
        parent->node->first = node;
    parent->last = node;
    parent->node->n++;
}

/* Reads events until the first value is whole; NULL when memory is out or the reader failed. */
static const we_json *build(we_json_reader *r, we_arena *arena)
{
    frame frames[WE_JSON_MAX_DEPTH];
    int depth = 0;
    we_str key = { NULL, 0 };
    do {
        const we_json_event event = we_json_next(r);
        switch (event) {
        case WE_JSON_EV_KEY:
            if (!keep_text(r, arena, &key)) return NULL;
            continue;
        case WE_JSON_EV_END_ARRAY:
        case WE_JSON_EV_END_OBJECT:
            if (depth == 0) return fail_with(r, WE_E_INTERNAL, "no value to read"), NULL;
            depth--;
            continue;
        case WE_JSON_EV_END: return fail_with(r, WE_E_INTERNAL, "no value to read"), NULL;
        case WE_JSON_EV_ERROR: return NULL;
        case WE_JSON_EV_VALUE:
        case WE_JSON_EV_BEGIN_ARRAY:
        case WE_JSON_EV_BEGIN_OBJECT: break;
        }
        we_json *node = we_arena_calloc(arena, 1, sizeof(*node));
        if (!node) return NULL;
        node->key = key;
        key = (we_str){ NULL, 0 };
        if (depth) add_child(&frames[depth - 1], node);
        if (event == WE_JSON_EV_VALUE) {
            node->type = r->type;
            if ((r->type == WE_JSON_STRING || r->type == WE_JSON_NUMBER) && !keep_text(r, arena, &node->text))
                return NULL;
            if (depth == 0) return node;
        } else {
            node->type = event == WE_JSON_EV_BEGIN_OBJECT ? WE_JSON_OBJECT : WE_JSON_ARRAY;
            frames[depth++] = (frame){ node, NULL };
        }
    } while (depth);
    return frames[0].node;
}

we_status we_json_read_tree(we_json_reader *reader, we_arena *arena, const we_json **out, we_error *err)
{
    *out = build(reader, arena);
    if (*out) return WE_OK;
    if (reader->state == FAILED) return we_fail(err, reader->error.status, "%s", reader->error.message);
    return we_fail(err, WE_E_NOMEM, "no memory for the JSON tree");
}

we_status we_json_parse(we_arena *arena, we_str input, const we_json **out, we_error *err)
{
    we_json_reader reader;
    we_json_reader_init(&reader, input);
    we_status st = we_json_read_tree(&reader, arena, out, err);
    if (!st && we_json_next(&reader) != WE_JSON_EV_END) {
        *out = NULL;
        st = we_fail(err, reader.error.status, "%s", reader.error.message);
    }
    we_json_reader_deinit(&reader);
    return st;
}

const we_json *we_json_get(const we_json *object, const char *key)
{
    if (!we_json_is(object, WE_JSON_OBJECT)) return NULL;
    const we_str wanted = we_str_from(key);
    const we_json *found = NULL;
    for (const we_json *member = object->first; member; member = member->next)
        if (we_str_eq(member->key, wanted)) found = member;
    return found;
}

const we_json *we_json_at(const we_json *array, size_t index)
{
    if (!we_json_is(array, WE_JSON_ARRAY) || index >= array->n) return NULL;
    const we_json *item = array->first;
    while (index--) item = item->next;
    return item;
}

const char *we_json_type_name(const we_json *v)
{
    static const char *const names[] = {
        [WE_JSON_NULL] = "null",        [WE_JSON_FALSE] = "false",     [WE_JSON_TRUE] = "true",
        [WE_JSON_NUMBER] = "a number",  [WE_JSON_STRING] = "a string", [WE_JSON_ARRAY] = "an array",
        [WE_JSON_OBJECT] = "an object",
    };
    return v ? names[v->type] : "nothing";
}

bool we_json_f64(const we_json *v, double *out) { return we_json_is(v, WE_JSON_NUMBER) && we_parse_f64(v->text, out); }

bool we_json_i64(const we_json *v, int64_t *out)
{
    double d;
    if (!we_json_is(v, WE_JSON_NUMBER)) return false;
    if (we_parse_i64(v->text, out)) return true;
    if (!we_parse_f64(v->text, &d) || d != floor(d) || d < -0x1p63 || d >= 0x1p63) return false;
    *out = (int64_t)d;
    return true;
}

bool we_json_bool(const we_json *v, bool *out)
{
    if (!we_json_is_bool(v)) return false;
    *out = v->type == WE_JSON_TRUE;
    return true;
}

bool we_json_str(const we_json *v, we_str *out)
{
    if (!we_json_is(v, WE_JSON_STRING)) return false;
    *out = v->text;
    return true;
}
