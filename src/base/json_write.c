/* SPDX-License-Identifier: Apache-2.0
 * json_write.c - the JSON writer. Its shape is that of Python's json.dumps: the same escapes, "[]" and "{}" for empty ones,
 * so that files written here and there compare equal. */
#include "base/json.h"

#include <math.h>

/* What stands before a value or a key: a comma, and the line break where lines are indented. */
static void begin_item(we_json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->need_comma) we_buf_append_char(w->buf, ',');
    if (w->indent && w->depth) we_buf_printf(w->buf, "\n%*s", w->indent * w->depth, "");
    w->need_comma = true;
}

static void begin_container(we_json_writer *w, char open)
{
    begin_item(w);
    we_buf_append_char(w->buf, open);
    w->depth++;
    w->need_comma = false;
}

static void end_container(we_json_writer *w, char close)
{
    w->depth--;
    if (w->indent && w->need_comma) we_buf_printf(w->buf, "\n%*s", w->indent * w->depth, "");
    we_buf_append_char(w->buf, close);
    w->need_comma = true;
}

void we_json_begin_object(we_json_writer *w) { begin_container(w, '{'); }

void we_json_end_object(we_json_writer *w) { end_container(w, '}'); }

void we_json_begin_array(we_json_writer *w) { begin_container(w, '['); }

void we_json_end_array(we_json_writer *w) { end_container(w, ']'); }

static bool must_escape(const we_json_writer *w, uint32_t rune)
{
    return rune < 0x20 || rune == '"' || rune == '\\' || rune == WE_RUNE_INVALID || (rune >= 0x80 && w->ascii);
}

static void append_escape(we_json_writer *w, uint32_t rune)
{
    static const char letters[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *letter = rune && rune < 0x80 ? strchr(letters, (int)rune) : NULL;
    if (rune == WE_RUNE_INVALID) rune = 0xFFFD;
    if (letter)
        we_buf_printf(w->buf, "\\%c", names[letter - letters]);
    else if (rune >= 0x80 && !w->ascii)
        we_buf_append_rune(w->buf, rune);
    else if (rune < 0x10000)
        we_buf_printf(w->buf, "\\u%04x", (unsigned)rune);
    else
        we_buf_printf(w->buf, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((rune - 0x10000) >> 10)),
                      (unsigned)(0xDC00 + ((rune - 0x10000) & 0x3FF)));
}

static void append_string(we_json_writer *w, we_str s)
{
    we_buf_append_char(w->buf, '"');
    size_t run = 0; /* begin of the characters that stand for themselves */
    for (size_t i = 0; i < s.len;) {
        const size_t start = i;
        const uint32_t rune = we_utf8_next(s, &i);
        if (!must_escape(w, rune)) continue;
        we_buf_append(w->buf, s.ptr + run, start - run);
        append_escape(w, rune);
        run = i;
    }
    we_buf_append(w->buf, s.ptr + run, s.len - run);
    we_buf_append_char(w->buf, '"');
}

void we_json_write_key(we_json_writer *w, we_str key)
{
    begin_item(w);
    append_string(w, key);
    we_buf_append_str(w->buf, w->indent ? WE_STR(": ") : WE_STR(":"));
    w->after_key = true;
}

void we_json_key(we_json_writer *w, const char *key) { we_json_write_key(w, we_str_from(key)); }

void we_json_write_raw(we_json_writer *w, we_str json)
{
    begin_item(w);
    we_buf_append_str(w->buf, json);
}

void we_json_write_str(we_json_writer *w, we_str s)
{
    begin_item(w);
    append_string(w, s);
}

void we_json_write_i64(we_json_writer *w, int64_t v)
{
    begin_item(w);
    we_buf_printf(w->buf, "%lld", (long long)v);
}

void we_json_write_f64(we_json_writer *w, double v)
{
    char text[32];
    if (isfinite(v))
        we_json_write_raw(w, (we_str){ text, we_format_f64(text, v) });
    else
        we_json_write_null(w);
}

void we_json_write_bool(we_json_writer *w, bool v) { we_json_write_raw(w, v ? WE_STR("true") : WE_STR("false")); }

void we_json_write_null(we_json_writer *w) { we_json_write_raw(w, WE_STR("null")); }

void we_json_write_tree(we_json_writer *w, const we_json *v)
{
    switch (v->type) {
    case WE_JSON_NULL: we_json_write_null(w); break;
    case WE_JSON_FALSE: we_json_write_bool(w, false); break;
    case WE_JSON_TRUE: we_json_write_bool(w, true); break;
    case WE_JSON_NUMBER: we_json_write_raw(w, v->text); break;
    case WE_JSON_STRING: we_json_write_str(w, v->text); break;
    case WE_JSON_ARRAY:
        we_json_begin_array(w);
        for (const we_json *item = v->first; item; item = item->next) we_json_write_tree(w, item);
        we_json_end_array(w);
        break;
    case WE_JSON_OBJECT:
        we_json_begin_object(w);
        for (const we_json *member = v->first; member; member = member->next) {
            we_json_write_key(w, member->key);
            we_json_write_tree(w, member);
        }
        we_json_end_object(w);
        break;
    }
}
