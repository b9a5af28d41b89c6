/* SPDX-License-Identifier: Apache-2.0
 * pickle.h - Python's pickle as torch.save writes it: data only. The pickle machine can call any function of any module; this
 * one builds dictionaries, lists, tuples, strings and numbers, and knows by name the few functions and types that tensors are
 * made of. Whatever else a pickle asks for is refused by its name, and nothing is ever executed. Used by pytorch.c alone. */
#ifndef WE_FORMAT_PICKLE_H
#define WE_FORMAT_PICKLE_H

#include "format/format_int.h"

typedef enum we_pickle_type {
    WE_PICKLE_NONE,
    WE_PICKLE_INT, /* True and False are 1 and 0 */
    WE_PICKLE_FLOAT,
    WE_PICKLE_STR,
    WE_PICKLE_TUPLE, /* `items` */
    WE_PICKLE_LIST,  /* `items` */
    WE_PICKLE_DICT,  /* `items`: key, value, key, value, ... */
    WE_PICKLE_NAME,  /* a function or type: `number` is its row in the table of pickle.c */
    WE_PICKLE_REF,   /* a persistent id: `items` has the one value that names it */
    WE_PICKLE_CALL   /* a function's result: `items` are the function (a NAME) and its arguments (a TUPLE) */
} we_pickle_type;

/* Which function or type a NAME is. */
typedef enum we_pickle_name {
    WE_PICKLE_ORDERED_DICT,
    WE_PICKLE_REBUILD_TENSOR,
    WE_PICKLE_REBUILD_PARAMETER,
    WE_PICKLE_STORAGE /* + the we_dtype of its elements: the last */
} we_pickle_name;

typedef struct we_pickle we_pickle;
struct we_pickle {
    we_pickle_type type;
    int64_t number; /* INT, NAME */
    we_str text;    /* STR */
    we_pickle **items;
    size_t n, capacity;
};

/** The value that a pickle of protocol 2 to 5 holds. It lives in the arena; texts point into `bytes`. A value may stand in
 * several places, and even within itself.
 * Errors: WE_E_FORMAT (broken), WE_E_UNSUPPORTED (wants more than data: the message names it), WE_E_NOMEM. */
we_status we_pickle_parse(we_arena *arena, we_str bytes, const char *file, const we_pickle **out, we_error *err);

#endif
