/* SPDX-License-Identifier: Apache-2.0
 * template_int.h - what the files of this room share.
 *
 *   source -> lexer.c -> parser.c -> scope.c -> we_template        (once)
 *   we_template + context -> exec.c, eval.c -> text                (each render)
 *
 * A failure anywhere below we_template_parse or we_template_run fills the error and jumps back there (we_tpl_fail):
 * everything made on the way lies in one arena, so there is nothing to undo. Hence the rule of this room: below those
 * two, nobody owns anything that an arena or the render does not know. */
#ifndef WE_TEMPLATE_INT_H
#define WE_TEMPLATE_INT_H

#include "template/ast.h"
#include "template/template.h"

#include <setjmp.h>

#define MAX_NESTING 200        /* of expressions and blocks in a template's text */
#define MAX_CHAIN 1000         /* of operators in one expression */
#define MAX_INT_DIGITS 4300    /* Python's own limit for integers as text */
#define MAX_INT_LIMBS 32768    /* a million bits */
#define MAX_RANGE_ITEMS 100000 /* the sandbox's own limit */

/* Run-time counterpart of a scope. */
typedef struct frame frame;
struct frame {
    const scope *scope;
    frame *parent;
    value *slots;
};

typedef struct macro {
    const node *node;
    frame *parent;
} macro;

typedef struct loop {
    iterator *iter;
    value source;
    value before, current, after;
    const value *changed; /* what loop.changed saw last */
    size_t n_changed;
    int64_t index0;
    int64_t length; /* -1: not asked for yet */
    int64_t depth0;
    const node *node;
    frame *parent; /* of the loop's frames, for recursion */
} loop;

struct render {
    we_arena *arena;
    we_buf *out; /* captures (macros, set blocks) are its tail for a while */
    const we_template *tpl;
    size_t steps_left, memory_left, max_output;
    int max_depth;
    int depth, calls; /* C recursion; macro and loop recursion */
    int line;
    bool autoescape;
    dict *context;
    frame *root;
    frame *block_caller; /* for names in scoped blocks */
    const char *date;
    uint64_t random;
    we_error *err;
    we_status status;
    jmp_buf escape;
};

/* ---- template.c: failing, memory, limits ---- */

_Noreturn void we_tpl_fail(render *r, const char *format, ...) WE_PRINTF(2, 3);
_Noreturn void we_tpl_fail_plain(render *r, we_str message); /* without the line */
_Noreturn void we_tpl_nomem(render *r);
void *we_tpl_alloc(render *r, size_t size); /* never NULL; counted */
void *we_tpl_calloc(render *r, size_t n, size_t size);
const char *we_tpl_printf(render *r, const char *format, ...) WE_PRINTF(2, 3);
void we_tpl_work(render *r, size_t n); /* n elements or bytes of work, counted as steps */
void we_tpl_enter(render *r);          /* one level deeper in C; every enter has its leave */
static inline void we_tpl_leave(render *r) { r->depth--; }
#define STR_ARG(s) (int)((s).len > 200 ? 200 : (s).len), (s).ptr /* for %.*s in messages */

/* ---- lexer.c ---- */

typedef enum token_type {
    T_EOF,
    T_DATA,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INTEGER,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_DIV,
    T_FLOORDIV,
    T_MUL,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON
} token_type;

typedef struct token {
    token_type type;
    int line;
    we_str text; /* data, names */
    value value; /* strings and numbers */
} token;

typedef struct token_list {
    token *items; /* the last one is T_EOF */
    size_t n;
} token_list;

void we_tpl_lex(render *r, we_str source, token_list *out);
const char *we_tpl_token_name(token_type type); /* as Jinja's messages call it */

/* ---- parser.c, scope.c ---- */

void we_tpl_parse(render *r, we_template *tpl, token_list tokens);
void we_tpl_bind(render *r, we_template *tpl);

/* ---- value.c: making, looking into, iterating ---- */

value we_tpl_str(render *r, we_str s); /* borrows the bytes */
value we_tpl_str_copy(render *r, we_str s);
value we_tpl_str_c(render *r, const char *text); /* borrows */
value we_tpl_markup(render *r, value str);
value we_tpl_concat(render *r, value a, value b); /* strings */
size_t we_tpl_utf8_count(we_str s);
size_t we_tpl_byte_of(value str, size_t char_index); /* where that character begins */
value we_tpl_substr(render *r, value str, size_t from_char, size_t to_char);

list *we_tpl_list_new(render *r, size_t capacity);
void we_tpl_list_push(render *r, list *l, value v);
value we_tpl_list_concat(render *r, value a, value b);
value we_tpl_pair(render *r, value a, value b);
list *we_tpl_to_list(render *r, value v); /* list(v): new, or the same where nobody can tell */

dict *we_tpl_dict_new(render *r);
void we_tpl_dict_set(render *r, dict *d, value key, value v);
bool we_tpl_dict_get(render *r, const dict *d, value key, value *out);
bool we_tpl_dict_find(const dict *d, we_str key, value *out);
void we_tpl_dict_set_str(render *r, dict *d, we_str key, value v);

value we_tpl_undefined_name(render *r, we_str name);
value we_tpl_undefined_item(render *r, value object, value name);
value we_tpl_undefined_hint(render *r, const char *hint);
_Noreturn void we_tpl_raise_undefined(render *r, value v);

iterator *we_tpl_iterator(render *r, const char *type_name, bool (*next)(render *, iterator *, value *));
bool we_tpl_iterable(value v);
iterator *we_tpl_iter(render *r, value v);     /* raises where v is not iterable */
iterator *we_tpl_reversed(render *r, value v); /* NULL where v is not reversible */
bool we_tpl_next(render *r, iterator *it, value *out);
bool we_tpl_length(value v, int64_t *out); /* false: has none */

const char *we_tpl_type_name(value v);
bool we_tpl_truth(value v);
value we_tpl_from_json(render *r, const we_json *j);

/* ---- compare.c ---- */

bool we_tpl_equal(render *r, value a, value b);
bool we_tpl_same(value a, value b);            /* `is` */
bool we_tpl_less(render *r, value a, value b); /* a < b, raises where Python does */
bool we_tpl_compare(render *r, operator op, value a, value b);
bool we_tpl_contains(render *r, value container, value v);
bool we_tpl_hashable(value v);
uint64_t we_tpl_hash(render *r, value v); /* raises "unhashable type" */
/* Stable. keys[i] belongs to items[i]; both are reordered. */
void we_tpl_sort(render *r, value *keys, value *items, size_t n, bool reverse);

/* ---- bigint.c: integers of any size; every operand is an int, a bool or a big ---- */

value we_tpl_int_parse(render *r, we_str digits, int base, bool negative); /* digits only */
value we_tpl_int_add(render *r, value a, value b);
value we_tpl_int_sub(render *r, value a, value b);
value we_tpl_int_mul(render *r, value a, value b);
void we_tpl_int_divmod(render *r, value a, value b, value *quotient, value *remainder); /* b is not 0; floors */
value we_tpl_int_pow(render *r, value a, int64_t n);
value we_tpl_int_neg(render *r, value a);
int we_tpl_int_sign(value a);
int we_tpl_int_compare(value a, value b);
int we_tpl_int_compare_double(value a, double d); /* d is finite */
double we_tpl_int_to_double(value a);             /* rounded to nearest; infinity where it does not fit */
double we_tpl_int_ratio(render *r, value a, value b);
value we_tpl_int_from_double(render *r, double d);    /* truncates; d is finite */
we_str we_tpl_int_text(render *r, value a, int base); /* with sign; raises beyond Python's limit for base 10 */
uint64_t we_tpl_int_hash(value a);

/* ---- number.c ---- */

value we_tpl_binary(render *r, operator op, value a, value b);
value we_tpl_negate(render *r, value a, bool negative);
double we_tpl_to_double(render *r, value v);                          /* of a number; raises when too large */
bool we_tpl_parse_int(render *r, we_str s, int64_t base, value *out); /* int("...", base) */
bool we_tpl_parse_float(render *r, we_str s, double *out);            /* float("...") */
value we_tpl_round(render *r, value v, int64_t digits);
bool we_tpl_index(value v, int64_t *out); /* an int that fits */

/* ---- format.c, percent.c, strformat.c ---- */

value we_tpl_to_str(render *r, value v); /* str(v) */
value we_tpl_repr(render *r, value v);
void we_tpl_write_str(render *r, value v); /* to r->out, as the next two */
void we_tpl_write_repr(render *r, value v);
size_t we_tpl_float_repr(double d, char out[40]);
size_t we_tpl_float_fixed(double d, int precision, char type, char *out, size_t size); /* like printf, C locale */
value we_tpl_percent(render *r, value format, value args);
value we_tpl_format(render *r, value format, const call *c, value mapping);
value we_tpl_escape(render *r, value v); /* HTML; Markup stays */

/* Text under construction is the tail of r->out: remember r->out->len, put, take. Nothing leaks when a jump passes by, and
 * what is built in the midst of it (a macro's text) is taken off before the next put. */
void we_tpl_put(render *r, const char *bytes, size_t len); /* within the output's limit */
void we_tpl_put_c(render *r, const char *text);
void we_tpl_put_rune(render *r, uint32_t c);
void we_tpl_put_fill(render *r, uint32_t c, int64_t n); /* n times; n may be negative: none */
value we_tpl_take(render *r, size_t start);             /* cut r->out back to start, as a string */
void we_tpl_drop(render *r, size_t start);

/* ---- unicode.c ---- */

bool we_tpl_is_space(uint32_t c);
bool we_tpl_is_printable(uint32_t c);
bool we_tpl_is_word(uint32_t c);
bool we_tpl_is_identifier(we_str s);
typedef enum char_class {
    CC_ALPHA,
    CC_DECIMAL,
    CC_DIGIT,
    CC_NUMERIC,
    CC_CASED,
    CC_LOWER,
    CC_UPPER,
    CC_TITLE
} char_class;
bool we_tpl_is(char_class cc, uint32_t c);
int we_tpl_digit_value(uint32_t c); /* decimal digit of any script, or -1 */
typedef enum case_kind { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP, CASE_FOLD } case_kind;
value we_tpl_case(render *r, value str, case_kind kind);

/* ---- attribute.c, call.c ---- */

value we_tpl_getattr(render *r, value object, we_str name);
value we_tpl_getitem(render *r, value object, value index);
bool we_tpl_attribute(render *r, value object, we_str name, value *out); /* Python's getattr; false: there is none */
value we_tpl_slice(render *r, value object, value start, value stop, value step);
bool we_tpl_callable(value v);
value we_tpl_call(render *r, value callee, const call *c);
value we_tpl_apply(render *r, const builtin *b, value self, const call *c); /* binds the arguments */
value we_tpl_method(render *r, const builtin *b, value self);

/* ---- tables: filters*.c, tests.c, methods*.c, globals.c ---- */

typedef struct builtin_table {
    const builtin *rows;
    size_t n;
} builtin_table;
extern const builtin_table we_tpl_filters_table, we_tpl_text_filters_table, we_tpl_list_filters_table,
    we_tpl_tests_table;
extern const builtin_table we_tpl_str_methods, we_tpl_list_methods, we_tpl_tuple_methods, we_tpl_dict_methods,
    we_tpl_int_methods, we_tpl_float_methods, we_tpl_loop_methods, we_tpl_cycler_methods, we_tpl_dict_type_methods;
const builtin *we_tpl_table_find(builtin_table table, we_str name);
const builtin *we_tpl_find_filter(we_str name);
const builtin *we_tpl_find_test(we_str name);
value we_tpl_find_global(render *r, we_str name); /* V_MISSING: none */
extern const builtin we_tpl_dict_constructor, we_tpl_namespace_constructor;

value we_tpl_tojson(render *r, value self, const value *a, const call *c);
value we_tpl_pprint(render *r, value self, const value *a, const call *c);
value we_tpl_strftime(render *r, we_str format);
value we_tpl_str_split(render *r, value self, value separator, int64_t max, bool from_right);
value we_tpl_str_strip(render *r, value self, value chars, bool left, bool right);
value we_tpl_str_replace(render *r, value self, value from, value to, int64_t max);
value we_tpl_str_join(render *r, value separator, iterator *it, bool convert);
list *we_tpl_splitlines(render *r, value self, bool keep_ends);
value we_tpl_unescape(render *r, value str); /* HTML entities */
value we_tpl_soft_str(render *r, value v);   /* str(v) where v is no string */
bool we_tpl_find_bytes(we_str haystack, we_str needle, size_t from, size_t *at);

/* ---- eval.c, exec.c ---- */

value we_tpl_eval(render *r, frame *f, const node *n);
value we_tpl_eval_call(render *r, frame *f, const node *n,
                       const keyword *caller);                               /* caller: of a call block, or NULL */
value we_tpl_eval_filters(render *r, frame *f, const node *n, value target); /* of a filter or set block */
void we_tpl_exec(render *r, const we_template *tpl);
value we_tpl_call_macro(render *r, macro *m, const call *c);
value we_tpl_call_loop(render *r, loop *l, value source);
value we_tpl_call_block(render *r, const node *block, frame *caller);
int64_t we_tpl_loop_length(render *r, loop *l);
value we_tpl_loop_peek(render *r, loop *l); /* V_MISSING: the last round */
value we_tpl_resolve(render *r, we_str name, frame *block_caller);
void we_tpl_assign(render *r, frame *f, const node *target, value v, bool block);

#endif
