/* SPDX-License-Identifier: Apache-2.0
 * regex_int.h - what the regex files share: sets of characters, the syntax tree, the program and the table.
 *     regex_parse.c: pattern -> tree     regex_set.c: sets     regex_compile.c: tree -> program     regex_match.c: matching
 *     regex_dfa.c: program -> table */
#ifndef WE_TOKENIZER_REGEX_INT_H
#define WE_TOKENIZER_REGEX_INT_H

#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

#define WE_RE_MAX_DEPTH 64      /* of nested groups */
#define WE_RE_MAX_INSTS 20000   /* a program's instructions */
#define WE_RE_MAX_REPEAT 100000 /* Oniguruma's */
#define WE_RE_MAX_SETS 256      /* distinct sets of a pattern */
#define WE_RE_INFINITE UINT32_MAX

/* ---- Sets of code points: sorted, disjoint, inclusive ranges in an arena ---- */

typedef struct we_re_range {
    uint32_t lo, hi;
} we_re_range;
typedef struct we_re_set {
    we_re_range *ranges;
    size_t n, capacity;
} we_re_set;

/* All: false when memory is out. */
bool we_re_set_add(we_arena *arena, we_re_set *set, uint32_t lo, uint32_t hi); /* any order; call _sort when done */
void we_re_set_sort(we_re_set *set);
bool we_re_set_add_uni(we_arena *arena, we_re_set *set, const we_uni_set *uni);
bool we_re_set_union(we_arena *arena, we_re_set *set, const we_re_set *other);
bool we_re_set_negate(we_arena *arena, we_re_set *set);
bool we_re_set_intersect(we_arena *arena, we_re_set *set, const we_re_set *other);
bool we_re_set_fold(we_arena *arena, we_re_set *set); /* add everything that folds to the same */
bool we_re_set_has(const we_re_set *set, uint32_t rune);
bool we_re_set_meets(const we_re_set *a, const we_re_set *b);
bool we_re_set_equal(const we_re_set *a, const we_re_set *b);

/* ---- The tree ---- */

typedef enum we_re_kind {
    WE_RE_EMPTY,  /* matches nothing, always */
    WE_RE_SET,    /* one character of `set` */
    WE_RE_CAT,    /* children in order */
    WE_RE_ALT,    /* children, the first that works */
    WE_RE_REPEAT, /* child, min to max times */
    WE_RE_ATOMIC, /* child, never entered again once left */
    WE_RE_LOOK,   /* child matches ahead (or behind), or does not; consumes nothing */
    WE_RE_ASSERT  /* the next (or previous) character is in `set`, or the text's edge is there and `edge`; or not */
} we_re_kind;

typedef struct we_re_node we_re_node;
struct we_re_node {
    we_re_kind kind;
    bool lazy, behind, negate, edge;
    uint32_t min, max;
    we_re_set set;
    we_re_node *child; /* first */
    we_re_node *next;  /* sibling */
};

we_status we_re_parse(we_arena *arena, we_str pattern, we_re_node **out, we_error *err);

/* ---- The program ---- */

typedef enum we_re_op {
    WE_RE_OP_CHAR,       /* set; next: pc + 1 */
    WE_RE_OP_SPLIT,      /* x first, then y */
    WE_RE_OP_JUMP,       /* x */
    WE_RE_OP_ASSERT,     /* set; behind, negate, edge */
    WE_RE_OP_LOOK,       /* body at pc + 1, behind x it goes on; behind, negate */
    WE_RE_OP_ATOMIC,     /* body at pc + 1, behind x it goes on */
    WE_RE_OP_LOOP_ENTER, /* remember the position in slot x */
    WE_RE_OP_LOOP_CHECK, /* slot x; nothing consumed since: go to y */
    WE_RE_OP_MATCH       /* the end of the program or of a body */
} we_re_op;

typedef struct we_re_inst {
    uint8_t op;
    bool behind, negate, edge;
    uint16_t set;
    uint32_t x, y;
    uint32_t memo; /* SPLIT: its number; those inside of bodies count on their own, with MEMO_BODY set */
} we_re_inst;
#define WE_RE_MEMO_BODY 0x80000000U

struct we_regex {
    we_re_inst *insts;
    size_t n_insts;
    uint32_t n_memo, n_body_memo, n_slots;
    bool table_fits; /* nothing in it that only backtracking can do */

    /* Characters that no set tells apart are one class. */
    uint16_t n_classes, n_sets;
    uint16_t *class_stage1; /* [0x110000 / 128] */
    uint16_t *class_stage2;
    uint8_t *set_classes; /* [n_sets][n_classes]: member or not */

    /* The table: entry = next state << 1 | a match ends before this character. State 0 is dead. */
    uint32_t *dfa; /* [n_states][n_classes + 1]; the last column is the end of the text; NULL: none */
    uint32_t n_states;
    uint32_t
        *dfa_start; /* [n_classes + 1]: the state to begin in behind a character of that class; last: text's begin */
};

static inline unsigned we_re_class(const we_regex *re, uint32_t rune)
{
    return re->class_stage2[(size_t)re->class_stage1[rune >> 7] << 7 | (rune & 127)];
}

/** Build re->dfa where the program allows it and the table stays small; otherwise leave NULL. Errors: WE_E_NOMEM. */
we_status we_re_dfa_build(we_regex *re, we_error *err);

/* The next character of valid UTF-8: a decoder without checks, for the inner loops. */
static inline uint32_t we_re_decode(const char *text, size_t *i)
{
    const unsigned char *p = (const unsigned char *)text + *i;
    if (p[0] < 0x80) return *i += 1, p[0];
    if (p[0] < 0xE0) return *i += 2, (p[0] & 0x1FU) << 6 | (p[1] & 0x3FU);
    if (p[0] < 0xF0) return *i += 3, (p[0] & 0x0FU) << 12 | (p[1] & 0x3FU) << 6 | (p[2] & 0x3FU);
    return *i += 4, (p[0] & 0x07U) << 18 | (p[1] & 0x3FU) << 12 | (p[2] & 0x3FU) << 6 | (p[3] & 0x3FU);
}
static inline uint32_t we_re_decode_before(const char *text, size_t *i)
{
    size_t at = *i - 1;
    while (((unsigned char)text[at] & 0xC0) == 0x80) at--;
    size_t end = at;
    *i = at;
    return we_re_decode(text, &end);
}

#endif
