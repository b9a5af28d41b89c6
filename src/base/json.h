/* SPDX-License-Identifier: Apache-2.0
 * json.h - our JSON (RFC 8259): a pull reader for large files, a tree for small ones, a writer. Member order is kept,
 * numbers stay text until someone asks (so 1 and 1.0 differ and 100-digit integers survive), strings may hold U+0000,
 * depth is limited. Input must be UTF-8; lone surrogates in \u escapes become U+FFFD. Duplicate keys
 * are kept in the tree; we_json_get finds the last, as Python's json does.
 *
 * Errors carry line and column. The only JSON code in the project. */
#ifndef WE_BASE_JSON_H
#define WE_BASE_JSON_H

#include "base/arena.h"
#include "base/str.h"

#define WE_JSON_MAX_DEPTH 200

typedef enum we_json_type {
    WE_JSON_NULL,
    WE_JSON_FALSE,
    WE_JSON_TRUE,
    WE_JSON_NUMBER,
    WE_JSON_STRING,
    WE_JSON_ARRAY,
    WE_JSON_OBJECT
} we_json_type;

/* ---- Pull reader ---- */

typedef enum we_json_event {
    WE_JSON_EV_VALUE, /* a scalar: `type`, and `text` for numbers and strings */
    WE_JSON_EV_KEY,   /* `text` */
    WE_JSON_EV_BEGIN_ARRAY,
    WE_JSON_EV_END_ARRAY,
    WE_JSON_EV_BEGIN_OBJECT,
    WE_JSON_EV_END_OBJECT,
    WE_JSON_EV_END,  /* the one value is complete, only white space was behind it */
    WE_JSON_EV_ERROR /* `error` is filled; every further call gives the same */
} we_json_event;

typedef struct we_json_reader {
    we_str input; /* borrowed */
    size_t pos;
    we_json_type type; /* of EV_VALUE */
    we_str text;       /* decoded string or the number's characters: borrowed from `input` where no escape stands in it,
                             else from `scratch`, until the next call */
    bool text_in_input; /* text points into `input` and lives as long */
    we_buf scratch;
    int depth;
    int state;                                     /* the reader's own */
    uint64_t stack[(WE_JSON_MAX_DEPTH + 63) / 64]; /* bit: object or array */
    we_error error;
} we_json_reader;

void we_json_reader_init(we_json_reader *reader, we_str input);
void we_json_reader_deinit(we_json_reader *reader);
we_json_event we_json_next(we_json_reader *reader);
/** After a KEY, or where a value is expected: skip that whole value. False on error (reader->error). */
bool we_json_skip(we_json_reader *reader);
/** "line 3, column 14" of the reader's position, for messages. */
const char *we_json_where(const we_json_reader *reader, char out[48]);

/* ---- Tree ---- */

typedef struct we_json we_json;
struct we_json {
    we_json_type type;
    uint32_t n;           /* children of an array or object */
    we_str key;           /* in an object */
    we_str text;          /* of a string (decoded) or number (as written) */
    const we_json *first; /* child */
    const we_json *next;  /* sibling */
};

/** Parse into an arena. `input` must live as long as the arena: strings without escapes point into it.
 * Errors: WE_E_FORMAT ("line 3, column 14: expected ',' or '}'"), WE_E_NOMEM. */
we_status we_json_parse(we_arena *arena, we_str input, const we_json **out, we_error *err);
/** Build the tree of the value that begins at the reader's position (after a KEY or where a value is expected). */
we_status we_json_read_tree(we_json_reader *reader, we_arena *arena, const we_json **out, we_error *err);

/** The last member of that name, or NULL (also when `object` is NULL or no object). */
const we_json *we_json_get(const we_json *object, const char *key);
const we_json *we_json_at(const we_json *array, size_t index); /* NULL out of range; linear */
static inline bool we_json_is(const we_json *v, we_json_type type) { return v && v->type == type; }
static inline bool we_json_is_bool(const we_json *v)
{
    return v && (v->type == WE_JSON_TRUE || v->type == WE_JSON_FALSE);
}
const char *we_json_type_name(const we_json *v); /* "a string", "null", "nothing" for NULL: for messages */

/* Values with a check; false leaves *out alone. Integers accept 4 and 4.0, not 4.5. */
bool we_json_i64(const we_json *v, int64_t *out);
bool we_json_f64(const we_json *v, double *out);
bool we_json_bool(const we_json *v, bool *out);
bool we_json_str(const we_json *v, we_str *out);

/* ---- Writer ---- */

typedef struct we_json_writer { /* zeroed but for `buf` and `indent` is ready */
    we_buf *buf;                /* borrowed */
    int indent;                 /* 0: one line, "," and ":" without spaces */
    bool ascii;                 /* \uXXXX for everything above U+007F */
    int depth;
    bool need_comma, after_key;
} we_json_writer;

void we_json_begin_object(we_json_writer *w);
void we_json_end_object(we_json_writer *w);
void we_json_begin_array(we_json_writer *w);
void we_json_end_array(we_json_writer *w);
void we_json_key(we_json_writer *w, const char *key);
void we_json_write_key(we_json_writer *w, we_str key);
void we_json_write_str(we_json_writer *w, we_str s); /* invalid UTF-8 becomes U+FFFD */
void we_json_write_i64(we_json_writer *w, int64_t v);
void we_json_write_f64(we_json_writer *w, double v); /* shortest text that reads back the same; inf and nan: null */
void we_json_write_bool(we_json_writer *w, bool v);
void we_json_write_null(we_json_writer *w);
void we_json_write_raw(we_json_writer *w, we_str json); /* trusted JSON as it stands */
void we_json_write_tree(we_json_writer *w, const we_json *v);

#endif
