/* SPDX-License-Identifier: Apache-2.0
 * stream.c - server-sent events and lines of JSON out of bytes that come in any pieces, one byte at a time if need be.
 * Source: WHATWG HTML, section 9.2.6 (event streams): lines end in CRLF, LF or CR; several data lines of an event are joined with
 * LF; what begins with ':' is a comment. Unlike there, an event at the very end counts without the empty line behind it. */
#include "backend/backend_int.h"

static bool is_field(we_str line, we_str name, we_str *value)
{
    if (!we_str_starts_with(line, name)) return false;
    *value = (we_str){ line.ptr + name.len, line.len - name.len };
    if (value->len == 0) return true;
    if (value->ptr[0] != ':') return false;
    const size_t skip = value->len > 1 && value->ptr[1] == ' ' ? 2 : 1;
    *value = (we_str){ value->ptr + skip, value->len - skip };
    return true;
}

static bool give_event(we_stream *s, we_stream_fn fn, void *user)
{
    const bool has_data = s->has_data;
    bool go_on = true;
    if (has_data) go_on = fn(user, we_buf_str(&s->names), we_buf_str(&s->data));
    s->has_data = false;
    we_buf_clear(&s->data);
    we_buf_clear(&s->names);
    return go_on;
}

static bool sse_line(we_stream *s, we_str line, we_stream_fn fn, void *user)
{
    we_str value;
    if (line.len == 0) return give_event(s, fn, user);
    if (is_field(line, WE_STR("data"), &value)) {
        if (s->has_data) we_buf_append_char(&s->data, '\n');
        we_buf_append_str(&s->data, value);
        s->has_data = true;
        s->too_long = s->data.len > WE_STREAM_MAX;
    } else if (is_field(line, WE_STR("event"), &value)) {
        we_buf_clear(&s->names);
        we_buf_append_str(&s->names, value);
    }
    return !s->too_long && !s->data.failed && !s->names.failed;
}

static bool ndjson_line(we_stream *s, we_str line, we_stream_fn fn, void *user)
{
    (void)s;
    size_t i = 0;
    while (i < line.len && (line.ptr[i] == ' ' || line.ptr[i] == '\t')) i++;
    return i == line.len || fn(user, WE_STR(""), line);
}

static bool give_line(we_stream *s, we_stream_fn fn, void *user)
{
    we_str line = we_buf_str(&s->line);
    if (!s->begun && we_str_starts_with(line, WE_STR("\xEF\xBB\xBF"))) line = (we_str){ line.ptr + 3, line.len - 3 };
    s->begun = true;
    const bool go_on = s->is_sse ? sse_line(s, line, fn, user) : ndjson_line(s, line, fn, user);
    we_buf_clear(&s->line);
    return go_on;
}

bool we_stream_feed(we_stream *s, we_str bytes, we_stream_fn fn, void *user)
{
    for (size_t i = 0; i < bytes.len;) {
        size_t end = i;
        while (end < bytes.len && bytes.ptr[end] != '\n' && bytes.ptr[end] != '\r') end++;
        if (end > i) {
            s->too_long = s->line.len + (end - i) > WE_STREAM_MAX;
            if (s->too_long) return false;
            we_buf_append(&s->line, bytes.ptr + i, end - i);
            if (s->line.failed) return false;
            s->after_cr = false;
        }
        if (end == bytes.len) break;
        const bool second_half = bytes.ptr[end] == '\n' && s->after_cr; /* of a CRLF */
        s->after_cr = bytes.ptr[end] == '\r';
        i = end + 1;
        if (!second_half && !give_line(s, fn, user)) return false;
    }
    return true;
}

bool we_stream_end(we_stream *s, we_stream_fn fn, void *user)
{
    if (s->line.len && !give_line(s, fn, user)) return false;
    return give_event(s, fn, user);
}

void we_stream_deinit(we_stream *s)
{
    we_buf_deinit(&s->line);
    we_buf_deinit(&s->data);
    we_buf_deinit(&s->names);
}
