/* SPDX-License-Identifier: Apache-2.0
 * ast.h - a parsed template: nodes, and the scopes their names live in. Made by parser.c, completed by scope.c, walked by
 * eval.c (expressions) and exec.c (statements); immutable from then on, shared by threads. */
#ifndef WE_TEMPLATE_AST_H
#define WE_TEMPLATE_AST_H

#include "template/value.h"

typedef enum node_kind {
    /* expressions */
    N_CONST,
    N_NAME,
    N_NSREF, /* ns.attr as a target of set */
    N_TUPLE,
    N_LIST,
    N_DICT,
    N_COND,
    N_AND,
    N_OR,
    N_NOT,
    N_COMPARE,
    N_BINARY,
    N_NEG,
    N_POS,
    N_CONCAT,
    N_FILTER,
    N_TEST,
    N_CALL,
    N_GETATTR,
    N_GETITEM,
    N_SLICE,
    /* statements */
    N_DATA,
    N_PRINT,
    N_FOR,
    N_IF,
    N_SET,
    N_SET_BLOCK,
    N_MACRO,
    N_CALL_BLOCK,
    N_GENERATION,
    N_FILTER_BLOCK,
    N_WITH,
    N_AUTOESCAPE,
    N_BLOCK,
    N_BREAK,
    N_CONTINUE,
    N_FOREIGN /* extends, include, import: there are no other templates */
} node_kind;

typedef enum operator{
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
}
operator;

typedef struct node node;
typedef struct node_list {
    node **items;
    size_t n;
} node_list;

/* How a slot begins when its scope is entered. */
typedef enum load_action {
    LOAD_NOTHING, /* a parameter: filled by whoever enters */
    LOAD_RESOLVE, /* from the context */
    LOAD_OUTER,   /* a copy of an outer scope's slot */
    LOAD_UNDEFINED
} load_action;

typedef struct slot {
    we_str name;
    load_action load;
    int hops; /* LOAD_OUTER: scopes up, from this one */
    size_t outer;
    bool stored;
} slot;

typedef struct scope {
    slot *slots;
    size_t n;
    struct scope *parent; /* NULL: the template, a block */
} scope;

typedef struct arguments { /* of a call, a filter or a test */
    node_list positional;
    we_str *names; /* of the keywords */
    node_list keywords;
    node *star, *star_star;
} arguments;

typedef struct signature { /* of a macro, a call block */
    we_str *names;
    node_list params;   /* N_NAME */
    node_list defaults; /* of the last ones */
    bool wants_caller, wants_kwargs, wants_varargs;
    size_t caller_slot, kwargs_slot, varargs_slot;
} signature;

struct node {
    node_kind kind;
    int line;
    int depth; /* of the expression tree below */
    union {
        value constant; /* N_CONST; N_DATA: its text */
        struct {
            we_str name, attr; /* attr: N_NSREF */
            bool store, param;
            int hops;
            size_t slot;
        } name;
        node_list items; /* tuple, list, concat, print; dict: key, value, key, value, ... */
        struct {
            node *test, *yes, *no;
        } cond;
        struct {
            operator op;
            node *left, *right; /* N_NOT, N_NEG, N_POS: left */
        } op;
        struct {
            node *first;
            operator* ops;
            node_list rest;
        } compare;
        struct {
            node *target; /* NULL in a filter block */
            we_str name;
            const builtin *builtin; /* NULL: unknown, raises when it is reached */
            arguments args;
        } apply; /* filter, test */
        struct {
            node *target;
            arguments args;
        } call;
        struct {
            node *object;
            value name;
        } getattr;
        struct {
            node *object, *index;
        } getitem;
        struct {
            node *start, *stop, *step;
        } slice;
        struct {
            node *target, *iter, *test;
            node_list body, otherwise;
            bool recursive, extended; /* extended: the body asks for `loop` */
            scope *scope, *test_scope, *else_scope;
            size_t loop_slot;
        } loop;
        struct {
            node *test; /* NULL: else */
            node_list body;
            node *next; /* elif, else */
        } branch;
        struct {
            node *target, *expr; /* set */
            node *filter;        /* set block */
            node_list body;
            scope *scope;
        } set;
        struct {
            we_str name;  /* of a macro */
            node *target; /* N_NAME that the macro is stored in */
            signature sig;
            node *call; /* N_CALL of a call block */
            node_list body;
            scope *scope;
        } macro; /* also generation */
        struct {
            node *filter;              /* filter block */
            node *option;              /* autoescape */
            node_list targets, values; /* with */
            node_list body;
            scope *scope;
        } inner;
        struct {
            we_str name;
            node_list body;
            bool scoped, required;
            scope *scope, *outer;
        } block;
        struct {
            node *expr;
            node_list targets; /* N_NAME that an import stores in */
            bool extends;
        } foreign;
    };
};

struct we_template {
    we_arena arena;
    we_str source;
    node_list body;
    scope *scope;
    node_list blocks; /* every N_BLOCK */
    bool uses_self;
    size_t self_slot;
};

#endif
