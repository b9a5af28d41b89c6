/* SPDX-License-Identifier: Apache-2.0
 * pickle.c - see pickle.h. A pickle is a program for a machine with a stack and a memo; a mark on the stack begins the items
 * of a tuple, list or dictionary. The machine is Python's, its instructions are those below, a function is never called.
 *
 * Memory grows with the bytes read, and stays below half a gigabyte: each instruction makes one value at most, and there
 * may be MOST_VALUES of them.
 * Source: CPython's Lib/pickletools.py; torch/_weights_only_unpickler.py for what a checkpoint consists of. */
#include "format/pickle.h"

#include <inttypes.h>

#define MOST_VALUES ((size_t)4 << 20) /* a tensor takes about a dozen */

enum {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_POP = '0',
    OP_BINFLOAT = 'G',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINSTRING = 'T',
    OP_SHORT_BINSTRING = 'U',
    OP_BINUNICODE = 'X',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_APPENDS = 'e',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_EMPTY_TUPLE = ')',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
    OP_SHORT_BINUNICODE = 0x8c,
    OP_BINUNICODE8 = 0x8d,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95
};

/* All that a pickle may name. */
static const struct {
    const char *module, *name;
    int64_t meaning;
} names[] = {
    { "collections", "OrderedDict", WE_PICKLE_ORDERED_DICT },
    { "torch._utils", "_rebuild_tensor_v2", WE_PICKLE_REBUILD_TENSOR },
    { "torch._utils", "_rebuild_parameter", WE_PICKLE_REBUILD_PARAMETER },
    { "torch", "FloatStorage", (int)WE_PICKLE_STORAGE + WE_F32 },
    { "torch", "HalfStorage", (int)WE_PICKLE_STORAGE + WE_F16 },
    { "torch", "BFloat16Storage", (int)WE_PICKLE_STORAGE + WE_BF16 },
    { "torch", "DoubleStorage", (int)WE_PICKLE_STORAGE + WE_F64 },
    { "torch", "LongStorage", (int)WE_PICKLE_STORAGE + WE_I64 },
    { "torch", "IntStorage", (int)WE_PICKLE_STORAGE + WE_I32 },
    { "torch", "ShortStorage", (int)WE_PICKLE_STORAGE + WE_I16 },
    { "torch", "CharStorage", (int)WE_PICKLE_STORAGE + WE_I8 },
    { "torch", "ByteStorage", (int)WE_PICKLE_STORAGE + WE_U8 },
    { "torch", "BoolStorage", (int)WE_PICKLE_STORAGE + WE_BOOL },
};

typedef struct machine {
    we_arena *arena;
    const char *file;
    const uint8_t *at, *end;
    we_pickle **stack; /* a mark is NULL */
    size_t n, capacity;
    we_pickle **memo; /* NULL: nothing there */
    size_t n_memo, memo_capacity, n_values;
    we_error *err;
} machine;

static we_status broken(const machine *m, const char *what)
{
    return we_fail(m->err, WE_E_FORMAT, "%s: its pickle %s: " WE_DAMAGED, m->file, what);
}

static we_status no_memory(const machine *m)
{
    return we_fail(m->err, WE_E_NOMEM, "%s: no memory for its pickle", m->file);
}

/* ---- The stack ---- */

static bool grow(we_pickle ***items, size_t *capacity, size_t want)
{
    if (want <= *capacity) return true;
    const size_t more = WE_MAX(WE_MAX((size_t)64, *capacity * 2), want);
    we_pickle **grown = we_realloc_array(*items, more, sizeof *grown);
    if (!grown) return false;
    memset(grown + *capacity, 0, (more - *capacity) * sizeof *grown);
    *items = grown;
    *capacity = more;
    return true;
}

static we_status push(machine *m, we_pickle *value)
{
    if (!grow(&m->stack, &m->capacity, m->n + 1)) return no_memory(m);
    m->stack[m->n++] = value;
    return WE_OK;
}

static we_status push_new(machine *m, we_pickle value)
{
    we_pickle *v = we_arena_alloc(m->arena, sizeof *v);
    if (!v) return no_memory(m);
    if (m->n_values++ == MOST_VALUES) return broken(m, "has more values than any model");
    *v = value;
    return push(m, v);
}

static we_status push_int(machine *m, int64_t number)
{
    return push_new(m, (we_pickle){ .type = WE_PICKLE_INT, .number = number });
}

/* The topmost value; an error where there is none, or a mark. */
static we_status pop(machine *m, we_pickle **value)
{
    *value = NULL;
    if (m->n == 0 || !m->stack[m->n - 1]) return broken(m, "takes from an empty stack");
    *value = m->stack[--m->n];
    return WE_OK;
}

static we_pickle *top(const machine *m) { return m->n ? m->stack[m->n - 1] : NULL; }

/* How many values lie above the topmost mark. */
static we_status above_mark(const machine *m, size_t *n)
{
    size_t at = m->n;
    while (at && m->stack[at - 1]) at--;
    *n = m->n - at;
    return at ? WE_OK : broken(m, "takes from a stack without a mark");
}

/* Move the topmost n values behind the items of `to`. The arena keeps an outgrown list: doubling bounds that. */
static we_status move_items(machine *m, size_t n, we_pickle *to)
{
    if (to->n + n > to->capacity) {
        const size_t capacity = WE_MAX(to->n + n, to->capacity * 2);
        we_pickle **items = we_arena_calloc(m->arena, capacity, sizeof *items);
        if (!items) return no_memory(m);
        if (to->n) memcpy(items, to->items, to->n * sizeof *items);
        to->items = items;
        to->capacity = capacity;
    }
    if (n) memcpy(to->items + to->n, m->stack + m->n - n, n * sizeof *to->items);
    to->n += n;
    m->n -= n;
    return WE_OK;
}

static we_status push_tuple(machine *m, size_t n)
{
    if (n > m->n) return broken(m, "takes from an empty stack");
    for (size_t i = m->n - n; i < m->n; i++)
        if (!m->stack[i]) return broken(m, "puts a mark into a tuple");
    we_status st = push_new(m, (we_pickle){ .type = WE_PICKLE_TUPLE });
    if (st) return st;
    we_pickle *tuple = m->stack[--m->n];
    st = move_items(m, n, tuple);
    return st ? st : push(m, tuple);
}

static we_status marked_tuple(machine *m)
{
    size_t n;
    we_pickle *tuple;
    we_status st = above_mark(m, &n);
    if (!st) st = push_tuple(m, n);
    if (!st) st = pop(m, &tuple);
    if (st) return st;
    m->stack[m->n - 1] = tuple; /* in the mark's place */
    return WE_OK;
}

/* What lies above the mark goes into the list or dictionary below it. */
static we_status add_marked(machine *m, we_pickle_type type)
{
    size_t n;
    we_status st = above_mark(m, &n);
    if (st) return st;
    we_pickle *to = m->n >= n + 2 ? m->stack[m->n - n - 2] : NULL;
    if (!to || to->type != type || (type == WE_PICKLE_DICT && n % 2)) return broken(m, "adds items to what has none");
    if ((st = move_items(m, n, to))) return st;
    m->n--; /* the mark */
    return WE_OK;
}

static we_status add_top(machine *m, we_pickle_type type, size_t n)
{
    we_pickle *to = m->n > n ? m->stack[m->n - n - 1] : NULL;
    if (!to || to->type != type) return broken(m, "adds items to what has none");
    for (size_t i = m->n - n; i < m->n; i++)
        if (!m->stack[i]) return broken(m, "takes from an empty stack");
    return move_items(m, n, to);
}

/* ---- Bytes ---- */

static bool take(machine *m, size_t n, const uint8_t **bytes)
{
    if ((size_t)(m->end - m->at) < n) return false;
    *bytes = m->at;
    m->at += n;
    return true;
}

/* A whole number of n bytes, unsigned. */
static we_status take_number(machine *m, size_t n, uint64_t *out)
{
    const uint8_t *p;
    *out = 0;
    if (!take(m, n, &p)) return broken(m, "is cut short");
    for (size_t i = 0; i < n; i++) *out |= (uint64_t)p[i] << (8 * i);
    return WE_OK;
}

static we_status push_number(machine *m, size_t n_bytes)
{
    uint64_t number;
    const we_status st = take_number(m, n_bytes, &number);
    return st ? st : push_int(m, n_bytes == 4 ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number);
}

/* LONG1: two's complement of as many bytes as it says. */
static we_status push_long(machine *m)
{
    uint64_t n, number;
    we_status st = take_number(m, 1, &n);
    if (!st && n > 8) return broken(m, "has a number of more than 64 bits");
    if (!st) st = take_number(m, (size_t)n, &number);
    if (st) return st;
    if (n && n < 8 && number >> (8 * n - 1)) number |= UINT64_MAX << (8 * n);
    return push_int(m, (int64_t)number);
}

/* No tensor depends on one: its value is not kept. */
static we_status push_float(machine *m)
{
    uint64_t number;
    const we_status st = take_number(m, 8, &number);
    return st ? st : push_new(m, (we_pickle){ .type = WE_PICKLE_FLOAT });
}

static we_status push_text(machine *m, size_t length_bytes)
{
    uint64_t n;
    const uint8_t *p;
    const we_status st = take_number(m, length_bytes, &n);
    if (st) return st;
    if (n > (uint64_t)(m->end - m->at) || !take(m, (size_t)n, &p)) return broken(m, "is cut short");
    return push_new(m, (we_pickle){ .type = WE_PICKLE_STR, .text = { (const char *)p, (size_t)n } });
}

/* "module\n" */
static we_status take_line(machine *m, we_str *line)
{
    *line = (we_str){ 0 };
    const uint8_t *end = m->at < m->end ? memchr(m->at, '\n', (size_t)(m->end - m->at)) : NULL;
    if (!end) return broken(m, "is cut short");
    *line = (we_str){ (const char *)m->at, (size_t)(end - m->at) };
    m->at = end + 1;
    return WE_OK;
}

/* ---- Names and calls ---- */

static we_status push_name(machine *m, we_str module, we_str name)
{
    for (size_t i = 0; i < WE_COUNT(names); i++)
        if (we_str_is(module, names[i].module) && we_str_is(name, names[i].name))
            return push_new(m, (we_pickle){ .type = WE_PICKLE_NAME, .number = names[i].meaning });
    return we_fail(
        m->err, WE_E_UNSUPPORTED,
        "%s: its pickle asks for \"%.*s.%.*s\", which is no part of a tensor: a file that can name any function "
        "could run any program, so it is not read. Take the model's safetensors version",
        m->file, (int)WE_MIN(module.len, 100U), module.ptr, (int)WE_MIN(name.len, 100U), name.ptr);
}

static we_status global(machine *m)
{
    we_str module, name;
    we_status st = take_line(m, &module);
    if (!st) st = take_line(m, &name);
    return st ? st : push_name(m, module, name);
}

static we_status stack_global(machine *m)
{
    we_pickle *module, *name;
    we_status st = pop(m, &name);
    if (!st) st = pop(m, &module);
    if (st) return st;
    if (module->type != WE_PICKLE_STR || name->type != WE_PICKLE_STR) return broken(m, "names what is no name");
    return push_name(m, module->text, name->text);
}

/* A call is only written down; an OrderedDict is a dictionary. */
static we_status reduce(machine *m)
{
    we_pickle *arguments, *function;
    we_status st = pop(m, &arguments);
    if (!st) st = pop(m, &function);
    if (st) return st;
    if (function->type != WE_PICKLE_NAME || arguments->type != WE_PICKLE_TUPLE)
        return broken(m, "calls what is no function");
    if (function->number == WE_PICKLE_ORDERED_DICT) {
        if (arguments->n) return broken(m, "fills a dictionary in an old way");
        return push_new(m, (we_pickle){ .type = WE_PICKLE_DICT });
    }
    if (function->number >= WE_PICKLE_STORAGE) return broken(m, "makes a storage by itself");
    if (!(st = push(m, function)) && !(st = push(m, arguments))) st = push_tuple(m, 2);
    if (!st) top(m)->type = WE_PICKLE_CALL;
    return st;
}

/* Attributes: a state_dict carries the versions of its modules, which say nothing about the weights. */
static we_status build(machine *m)
{
    we_pickle *state;
    const we_status st = pop(m, &state);
    if (st) return st;
    if (!top(m) || top(m)->type != WE_PICKLE_DICT) return broken(m, "sets attributes of what is no dictionary");
    return WE_OK;
}

static we_status persistent(machine *m)
{
    if (!top(m)) return broken(m, "takes from an empty stack");
    const we_status st = push_tuple(m, 1);
    if (!st) top(m)->type = WE_PICKLE_REF;
    return st;
}

/* ---- The memo ---- */

static we_status put(machine *m, uint64_t index)
{
    if (!top(m)) return broken(m, "remembers an empty stack");
    /* Python counts up from 0, so that no index exceeds the number of instructions. */
    if (index > m->n_memo) return broken(m, "leaves gaps in its memo");
    if (!grow(&m->memo, &m->memo_capacity, (size_t)index + 1)) return no_memory(m);
    m->memo[index] = top(m);
    m->n_memo = WE_MAX(m->n_memo, (size_t)index + 1);
    return WE_OK;
}

static we_status put_at(machine *m, size_t index_bytes)
{
    uint64_t index;
    const we_status st = take_number(m, index_bytes, &index);
    return st ? st : put(m, index);
}

static we_status get_at(machine *m, size_t index_bytes)
{
    uint64_t index;
    const we_status st = take_number(m, index_bytes, &index);
    if (st) return st;
    if (index >= m->n_memo || !m->memo[index]) return broken(m, "recalls what it has not remembered");
    return push(m, m->memo[index]);
}

/* ---- The machine ---- */

static we_status step(machine *m, uint8_t op)
{
    uint64_t number;
    we_pickle *value;
    switch (op) {
    case OP_PROTO: return take_number(m, 1, &number);
    case OP_FRAME: return take_number(m, 8, &number);
    case OP_MARK: return push(m, NULL);
    case OP_POP: return pop(m, &value);
    case OP_NONE: return push_new(m, (we_pickle){ .type = WE_PICKLE_NONE });
    case OP_NEWTRUE: return push_int(m, 1);
    case OP_NEWFALSE: return push_int(m, 0);
    case OP_BININT: return push_number(m, 4);
    case OP_BININT1: return push_number(m, 1);
    case OP_BININT2: return push_number(m, 2);
    case OP_LONG1: return push_long(m);
    case OP_BINFLOAT: return push_float(m);
    case OP_SHORT_BINSTRING:
    case OP_SHORT_BINUNICODE: return push_text(m, 1);
    case OP_BINSTRING:
    case OP_BINUNICODE: return push_text(m, 4);
    case OP_BINUNICODE8: return push_text(m, 8);
    case OP_EMPTY_LIST: return push_new(m, (we_pickle){ .type = WE_PICKLE_LIST });
    case OP_EMPTY_DICT: return push_new(m, (we_pickle){ .type = WE_PICKLE_DICT });
    case OP_EMPTY_TUPLE: return push_tuple(m, 0);
    case OP_TUPLE: return marked_tuple(m);
    case OP_TUPLE1: return push_tuple(m, 1);
    case OP_TUPLE2: return push_tuple(m, 2);
    case OP_TUPLE3: return push_tuple(m, 3);
    case OP_APPEND: return add_top(m, WE_PICKLE_LIST, 1);
    case OP_APPENDS: return add_marked(m, WE_PICKLE_LIST);
    case OP_SETITEM: return add_top(m, WE_PICKLE_DICT, 2);
    case OP_SETITEMS: return add_marked(m, WE_PICKLE_DICT);
    case OP_BINPUT: return put_at(m, 1);
    case OP_LONG_BINPUT: return put_at(m, 4);
    case OP_MEMOIZE: return put(m, m->n_memo);
    case OP_BINGET: return get_at(m, 1);
    case OP_LONG_BINGET: return get_at(m, 4);
    case OP_GLOBAL: return global(m);
    case OP_STACK_GLOBAL: return stack_global(m);
    case OP_BINPERSID: return persistent(m);
    case OP_REDUCE: return reduce(m);
    case OP_BUILD: return build(m);
    default:
        return we_fail(
            m->err, WE_E_UNSUPPORTED,
            "%s: its pickle has the instruction 0x%02x, which no file of tensors needs, so it is not read. Take "
            "the model's safetensors version",
            m->file, op);
    }
}

we_status we_pickle_parse(we_arena *arena, we_str bytes, const char *file, const we_pickle **out, we_error *err)
{
    we_error own = { 0 }; /* the machine reads its status */
    machine m = { .arena = arena, .file = file, .at = (const uint8_t *)bytes.ptr, .err = &own };
    m.end = m.at + bytes.len;
    we_status st = WE_OK;
    bool stopped = false;
    while (!st && !stopped) {
        const uint8_t *op;
        if (!take(&m, 1, &op))
            st = broken(&m, "is cut short");
        else if (*op == OP_STOP)
            stopped = true;
        else
            st = step(&m, *op);
    }
    we_pickle *value = NULL;
    if (!st) st = pop(&m, &value);
    if (st && err) *err = own;
    *out = value;
    we_free(m.stack);
    we_free(m.memo);
    return st;
}
