/* SPDX-License-Identifier: Apache-2.0
 * value.h - what a template computes with: Python's values, as far as templates can see them. A value is a tag and one
 * word; what is larger lies in the arena of the render (or, for literals, of the template) and is never freed alone.
 *
 * Nothing changes after it was made, but for what templates may change: a namespace's attributes, cyclers, joiners,
 * loops, iterators. Strings and lists may therefore share bytes: `a + b` grows in place where `a` ends at the end of its
 * store, so that a template that collects its text piece by piece takes linear time. */
#ifndef WE_TEMPLATE_VALUE_H
#define WE_TEMPLATE_VALUE_H

#include "base/base.h"

typedef struct render render;

typedef enum value_type {
    V_MISSING, /* an empty slot, an absent argument; never seen by a template */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_BIG, /* an integer outside int64 */
    V_FLOAT,
    V_STR,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_RANGE,
    V_VIEW, /* d.keys(), d.values(), d.items() */
    V_ITER, /* generators and the like: consumed once */
    V_FUNCTION,
    V_MACRO,
    V_NAMESPACE,
    V_LOOP,
    V_CYCLER,
    V_JOINER,
    V_BLOCKS /* `self` */
} value_type;

typedef struct value {
    value_type type;
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct bigint *big;
        struct string *str;
        struct list *list; /* V_LIST, V_TUPLE */
        struct dict *dict; /* V_DICT, V_NAMESPACE */
        struct undefined *undefined;
        struct range *range;
        struct view *view;
        struct iterator *iter;
        struct function *function;
        struct macro *macro;
        struct loop *loop;
        struct cycler *cycler;
        struct joiner *joiner;
        const void *ptr; /* any of them: identity */
    };
} value;

/* Magnitude in base 2^32, least first, no leading zero; never fits int64. */
typedef struct bigint {
    bool negative;
    uint32_t n;
    uint32_t limb[];
} bigint;

typedef struct string { /* valid UTF-8 */
    const char *ptr;
    size_t len;
    size_t n_chars; /* code points; all ASCII when equal to len */
    bool markup;    /* a Markup string: what is joined to it gets escaped */
    struct string_store *store;
} string;

typedef struct list {
    value *items;
    size_t n;
    bool group; /* a tuple made by groupby: has .grouper and .list */
    struct list_store *store;
} list;

typedef struct dict_entry {
    value key, value;
    uint64_t hash;
} dict_entry;

typedef struct dict { /* in order of insertion */
    dict_entry *entries;
    size_t n, capacity;
    uint32_t *index; /* open addressing over entries, 0 is free; NULL while small */
    size_t index_size;
} dict;

/* An undefined value knows why, since using it raises that. */
typedef struct undefined {
    const char *hint; /* the whole message; NULL: made from object and name */
    value object;     /* V_MISSING: a variable */
    value name;
} undefined;

typedef struct range {
    int64_t start, stop, step;
    int64_t n;
} range;

typedef enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } view_kind;
typedef struct view {
    view_kind kind;
    dict *of;
} view;

typedef struct iterator iterator;
struct iterator {
    const char *type_name;
    bool (*next)(render *r, iterator *it, value *out); /* false at the end */
    value source;
    iterator *inner;
    size_t index, n;
    void *state;
    bool started;
};

typedef struct keyword {
    we_str name;
    value value;
} keyword;

typedef struct call { /* the arguments of one call */
    const value *args;
    size_t n_args;
    const keyword *keywords;
    size_t n_keywords;
} call;

/* A filter, test, method or global function. `params` names what may be given, separated by blanks: "width?" is
 * optional, all behind "/" is by position only, "*" hands the call over as it is (then `a` is NULL). Absent arguments
 * are V_MISSING. `self` is the filtered or tested value or the method's object. */
typedef struct builtin {
    const char *name;
    const char *params;
    value (*fn)(render *r, value self, const value *a, const call *c);
} builtin;

typedef struct function {
    const builtin *builtin;
    value self;
} function;

typedef struct cycler {
    list *items;
    size_t pos;
} cycler;

typedef struct joiner {
    value separator;
    bool used;
} joiner;

static inline value v_bool(bool b) { return (value){ .type = V_BOOL, .boolean = b }; }
static inline value v_int(int64_t i) { return (value){ .type = V_INT, .integer = i }; }
static inline value v_float(double d) { return (value){ .type = V_FLOAT, .number = d }; }
static inline value v_list(list *l) { return (value){ .type = V_LIST, .list = l }; }
static inline value v_tuple(list *l) { return (value){ .type = V_TUPLE, .list = l }; }
static inline value v_dict(dict *d) { return (value){ .type = V_DICT, .dict = d }; }
static inline value v_iter(iterator *it) { return (value){ .type = V_ITER, .iter = it }; }
static inline we_str str_of(value v) { return (we_str){ v.str->ptr, v.str->len }; }
static inline bool is_int(value v) /* a bool is one, too */
{
    return v.type == V_BOOL || v.type == V_INT || v.type == V_BIG;
}
static inline bool given(value v) /* an optional argument */ { return v.type != V_MISSING; }
static inline bool is_number(value v) { return is_int(v) || v.type == V_FLOAT; }
#define V_NONE_VALUE ((value){ .type = V_NONE })
#define V_MISSING_VALUE ((value){ .type = V_MISSING })

#endif
