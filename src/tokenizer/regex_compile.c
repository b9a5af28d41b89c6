/* SPDX-License-Identifier: Apache-2.0
 * regex_compile.c - the tree becomes a program, and the code points become classes that the program can tell apart.
 *
 * Before that, atomic groups and possessive quantifiers that could as well be greedy become so: where what follows can't
 * fail, or can only begin with a character that the repetition never holds, giving back is useless. With them gone, most
 * tokenizers' patterns fit the table (regex_dfa.c). */
#include "tokenizer/regex_int.h"

#include <stdlib.h>

typedef struct compiler {
    we_arena *arena;
    we_regex *re;
    size_t capacity;
    const we_re_set *sets[WE_RE_MAX_SETS];
    size_t n_sets;
    int body_depth; /* inside of look-arounds and atomic groups */
    long budget;    /* nodes still to emit: repetitions of repetitions of nothing add no instruction */
    we_status status;
    we_error *err;
} compiler;

static void fail(compiler *c, we_status status, const char *what)
{
    if (c->status == WE_OK) c->status = we_fail(c->err, status, "regular expression: %s", what);
}

/* ---- What can follow: may it fail, with which characters can it begin? ---- */

typedef struct follow {
    we_re_set first; /* if it consumes something, the first character is one of these */
    bool empty;      /* may match without consuming */
    bool sure;       /* never fails */
} follow;

static const follow follow_end = { { 0 }, true, true };

static follow follow_of(compiler *c, const we_re_node *node)
{
    follow f = { { 0 }, true, false };
    switch (node->kind) {
    case WE_RE_EMPTY: f.sure = true; break;
    case WE_RE_SET: /* a copy: f.first grows */
        if (!we_re_set_union(c->arena, &f.first, &node->set)) fail(c, WE_E_NOMEM, "no memory");
        f.empty = false;
        break;
    case WE_RE_CAT:
        f.sure = true;
        for (const we_re_node *n = node->child; n; n = n->next) {
            follow one = follow_of(c, n);
            if (f.empty && !we_re_set_union(c->arena, &f.first, &one.first)) fail(c, WE_E_NOMEM, "no memory");
            f.empty &= one.empty;
            f.sure &= one.sure;
        }
        break;
    case WE_RE_ALT:
        f.empty = false;
        for (const we_re_node *n = node->child; n; n = n->next) {
            follow one = follow_of(c, n);
            if (!we_re_set_union(c->arena, &f.first, &one.first)) fail(c, WE_E_NOMEM, "no memory");
            f.empty |= one.empty;
            f.sure |= one.sure;
        }
        break;
    case WE_RE_REPEAT:
        f = follow_of(c, node->child);
        f.empty |= node->min == 0;
        f.sure |= node->min == 0;
        break;
    case WE_RE_ATOMIC: f = follow_of(c, node->child); break;
    case WE_RE_LOOK:
    case WE_RE_ASSERT: break;
    }
    return f;
}

static follow follow_both(compiler *c, const we_re_node *node, const follow *after)
{
    follow f = follow_of(c, node);
    if (f.empty && !we_re_set_union(c->arena, &f.first, &after->first)) fail(c, WE_E_NOMEM, "no memory");
    f.empty &= after->empty;
    f.sure &= after->sure;
    return f;
}

static void simplify(compiler *c, we_re_node *node, const follow *after);

static void simplify_sequence(compiler *c, we_re_node *cat, const follow *after)
{
    size_t n = 0;
    for (we_re_node *child = cat->child; child; child = child->next) n++;
    we_re_node **children = we_arena_calloc(c->arena, n, sizeof(*children));
    if (!children) {
        fail(c, WE_E_NOMEM, "no memory");
        return;
    }
    n = 0;
    for (we_re_node *child = cat->child; child; child = child->next) children[n++] = child;
    follow f = *after;
    while (n-- > 0 && c->status == WE_OK) {
        simplify(c, children[n], &f);
        f = follow_both(c, children[n], &f);
    }
}

/* Replace by the child, keeping the place among the siblings. */
static void unwrap(we_re_node *node)
{
    we_re_node *next = node->next;
    *node = *node->child;
    node->next = next;
}

static void unwrap_single(we_re_node *node)
{
    while (node->kind == WE_RE_CAT && node->child && !node->child->next) unwrap(node);
}

/* (?!\S), (?=\s|$) and their like: one character, or the text's edge, decides. The look-around becomes assertions: any of
 * them, or where it must not match, none of them. */
static void look_at_one(we_re_node *look)
{
    we_re_node *child = look->child;
    unwrap_single(child);
    we_re_node *first = child->kind == WE_RE_ALT ? child->child : child;
    for (we_re_node *n = first; n; n = n->next) {
        unwrap_single(n);
        if (n->kind != WE_RE_SET && n->kind != WE_RE_ASSERT) return;
    }
    for (we_re_node *n = first; n; n = n->next) {
        if (n->kind == WE_RE_SET) {
            n->kind = WE_RE_ASSERT;
            n->behind = look->behind;
            n->negate = false;
        }
        n->negate ^= look->negate;
    }
    look->kind = look->negate ? WE_RE_CAT : WE_RE_ALT;
    look->child = first;
}

static void simplify(compiler *c, we_re_node *node, const follow *after)
{
    switch (node->kind) {
    case WE_RE_CAT: simplify_sequence(c, node, after); break;
    case WE_RE_ALT:
        for (we_re_node *n = node->child; n; n = n->next) simplify(c, n, after);
        break;
    case WE_RE_REPEAT: {
        follow again = follow_of(c, node->child);
        again.sure = after->sure && (node->min <= 1 || again.sure);
        again.empty |= after->empty;
        if (!we_re_set_union(c->arena, &again.first, &after->first)) fail(c, WE_E_NOMEM, "no memory");
        simplify(c, node->child, &again);
        break;
    }
    case WE_RE_ATOMIC: {
        simplify(c, node->child, &follow_end);
        const we_re_node *child = node->child;
        while (child->kind == WE_RE_CAT && child->child && !child->child->next) child = child->child;
        bool run = child->kind == WE_RE_REPEAT && !child->lazy && child->child->kind == WE_RE_SET;
        if (child->kind == WE_RE_SET || child->kind == WE_RE_EMPTY || child->kind == WE_RE_ASSERT ||
            (run && (after->sure || (!after->empty && !we_re_set_meets(&after->first, &child->child->set)))))
            unwrap(node);
        break;
    }
    case WE_RE_LOOK:
        if (!node->behind) /* backwards, what follows comes before */
            simplify(c, node->child, &follow_end);
        look_at_one(node);
        break;
    default: break;
    }
}

/* ---- The program ---- */

static uint32_t emit(compiler *c, we_re_op op)
{
    we_regex *re = c->re;
    if (re->n_insts >= WE_RE_MAX_INSTS) {
        fail(c, WE_E_UNSUPPORTED, "it needs more than 20,000 steps, which this engine does not do");
        return 0;
    }
    if (re->n_insts == c->capacity) {
        size_t capacity = c->capacity ? c->capacity * 2 : 32;
        we_re_inst *insts = we_realloc_array(re->insts, capacity, sizeof(*insts));
        if (!insts) {
            fail(c, WE_E_NOMEM, "no memory");
            return 0;
        }
        re->insts = insts;
        c->capacity = capacity;
    }
    we_re_inst *inst = &re->insts[re->n_insts];
    *inst = (we_re_inst){ .op = (uint8_t)op };
    if (op == WE_RE_OP_SPLIT) inst->memo = c->body_depth ? re->n_body_memo++ | WE_RE_MEMO_BODY : re->n_memo++;
    return (uint32_t)re->n_insts++;
}

static uint16_t intern_set(compiler *c, const we_re_set *set)
{
    for (size_t i = 0; i < c->n_sets; i++)
        if (we_re_set_equal(c->sets[i], set)) return (uint16_t)i;
    if (c->n_sets == WE_RE_MAX_SETS) {
        fail(c, WE_E_UNSUPPORTED, "it has more than 256 different character classes");
        return 0;
    }
    c->sets[c->n_sets] = set;
    return (uint16_t)c->n_sets++;
}

static void emit_node(compiler *c, const we_re_node *node, bool behind);

static void emit_sequence(compiler *c, const we_re_node *node, bool behind)
{
    if (!behind) {
        for (const we_re_node *n = node->child; n && c->status == WE_OK; n = n->next) emit_node(c, n, behind);
        return;
    }
    size_t count = 0; /* backwards: last child first */
    for (const we_re_node *n = node->child; n; n = n->next) count++;
    const we_re_node **children = we_arena_calloc(c->arena, count, sizeof(*children));
    if (!children) {
        fail(c, WE_E_NOMEM, "no memory");
        return;
    }
    count = 0;
    for (const we_re_node *n = node->child; n; n = n->next) children[count++] = n;
    while (count-- > 0 && c->status == WE_OK) emit_node(c, children[count], behind);
}

/* SPLIT L1 L2; L1: a; JUMP end; L2: SPLIT ... end: */
static void emit_alternatives(compiler *c, const we_re_node *node, bool behind)
{
    uint32_t last_jump = 0; /* jumps to the end, linked through x */
    for (const we_re_node *n = node->child; n && c->status == WE_OK; n = n->next) {
        if (!n->next) {
            emit_node(c, n, behind);
            break;
        }
        uint32_t split = emit(c, WE_RE_OP_SPLIT);
        emit_node(c, n, behind);
        uint32_t jump = emit(c, WE_RE_OP_JUMP);
        if (c->status != WE_OK) return;
        c->re->insts[jump].x = last_jump;
        last_jump = jump;
        c->re->insts[split].x = split + 1;
        c->re->insts[split].y = jump + 1;
    }
    while (last_jump && c->status == WE_OK) {
        uint32_t before = c->re->insts[last_jump].x;
        c->re->insts[last_jump].x = (uint32_t)c->re->n_insts;
        last_jump = before;
    }
}

static void set_split(compiler *c, uint32_t split, uint32_t body, uint32_t exit, bool lazy)
{
    if (c->status == WE_OK) {
        c->re->insts[split].x = lazy ? exit : body;
        c->re->insts[split].y = lazy ? body : exit;
    }
}

/* child*: L: SPLIT body exit; body; JUMP L. Where the child can match nothing, a round that consumed nothing is the last. */
static void emit_star(compiler *c, const we_re_node *node, bool behind)
{
    bool may_be_empty = follow_of(c, node->child).empty;
    uint32_t loop = emit(c, WE_RE_OP_SPLIT), enter = 0, check = 0;
    if (may_be_empty) {
        enter = emit(c, WE_RE_OP_LOOP_ENTER);
        c->re->table_fits = false;
    }
    emit_node(c, node->child, behind);
    if (may_be_empty) check = emit(c, WE_RE_OP_LOOP_CHECK);
    uint32_t jump = emit(c, WE_RE_OP_JUMP);
    if (c->status != WE_OK) return;
    c->re->insts[jump].x = loop;
    if (may_be_empty) {
        c->re->insts[enter].x = c->re->insts[check].x = c->re->n_slots++;
        c->re->insts[check].y = jump + 1;
    }
    set_split(c, loop, loop + 1, jump + 1, node->lazy);
}

static void emit_repeat(compiler *c, const we_re_node *node, bool behind)
{
    if (node->child->kind == WE_RE_EMPTY) return;
    if (node->max == WE_RE_INFINITE && node->min == 1 &&
        !follow_of(c, node->child).empty) { /* L: child; SPLIT L exit */
        uint32_t loop = (uint32_t)c->re->n_insts;
        emit_node(c, node->child, behind);
        uint32_t split = emit(c, WE_RE_OP_SPLIT);
        set_split(c, split, loop, split + 1, node->lazy);
        return;
    }
    for (uint32_t i = 0; i < node->min && c->status == WE_OK; i++) emit_node(c, node->child, behind);
    if (node->max == WE_RE_INFINITE) {
        emit_star(c, node, behind);
        return;
    }
    uint32_t last_split = 0, n_splits = 0; /* each leaves for the end; linked through x until that is known */
    for (uint32_t i = node->min; i < node->max && c->status == WE_OK; i++) {
        uint32_t split = emit(c, WE_RE_OP_SPLIT);
        emit_node(c, node->child, behind);
        if (c->status != WE_OK) return;
        c->re->insts[split].x = last_split;
        last_split = split;
        n_splits++;
    }
    while (n_splits-- > 0 && c->status == WE_OK) {
        uint32_t before = c->re->insts[last_split].x;
        set_split(c, last_split, last_split + 1, (uint32_t)c->re->n_insts, node->lazy);
        last_split = before;
    }
}

static void emit_body(compiler *c, const we_re_node *node, we_re_op op, bool behind)
{
    uint32_t at = emit(c, op);
    c->body_depth++;
    c->re->table_fits = false;
    emit_node(c, node->child, op == WE_RE_OP_LOOK ? node->behind : behind);
    emit(c, WE_RE_OP_MATCH);
    c->body_depth--;
    if (c->status == WE_OK) {
        c->re->insts[at].x = (uint32_t)c->re->n_insts;
        c->re->insts[at].behind = op == WE_RE_OP_LOOK ? node->behind : behind;
        c->re->insts[at].negate = node->negate;
    }
}

static void emit_node(compiler *c, const we_re_node *node, bool behind)
{
    if (c->budget-- <= 0) fail(c, WE_E_UNSUPPORTED, "its repetitions multiply beyond what this engine does");
    if (c->status != WE_OK) return;
    switch (node->kind) {
    case WE_RE_EMPTY: break;
    case WE_RE_SET:
    case WE_RE_ASSERT: {
        uint32_t at = emit(c, node->kind == WE_RE_SET ? WE_RE_OP_CHAR : WE_RE_OP_ASSERT);
        uint16_t set = intern_set(c, &node->set);
        if (c->status != WE_OK) return;
        we_re_inst *inst = &c->re->insts[at];
        inst->set = set;
        inst->behind = node->kind == WE_RE_SET ? behind : node->behind;
        inst->negate = node->negate;
        inst->edge = node->edge;
        break;
    }
    case WE_RE_CAT: emit_sequence(c, node, behind); break;
    case WE_RE_ALT: emit_alternatives(c, node, behind); break;
    case WE_RE_REPEAT: emit_repeat(c, node, behind); break;
    case WE_RE_ATOMIC: emit_body(c, node, WE_RE_OP_ATOMIC, behind); break;
    case WE_RE_LOOK: emit_body(c, node, WE_RE_OP_LOOK, behind); break;
    }
}

/* ---- Classes of code points ---- */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The places where membership in some set may change: sorted, the first is 0. */
static uint32_t *borders_new(compiler *c, size_t *n)
{
    size_t count = 1;
    for (size_t i = 0; i < c->n_sets; i++) count += 2 * c->sets[i]->n;
    uint32_t *borders = we_malloc(count * sizeof(*borders));
    if (!borders) return NULL;
    count = 0;
    borders[count++] = 0;
    for (size_t i = 0; i < c->n_sets; i++)
        for (size_t k = 0; k < c->sets[i]->n; k++) {
            borders[count++] = c->sets[i]->ranges[k].lo;
            if (c->sets[i]->ranges[k].hi < WE_RUNE_MAX) borders[count++] = c->sets[i]->ranges[k].hi + 1;
        }
    qsort(borders, count, sizeof(*borders), by_value);
    size_t kept = 1;
    for (size_t i = 1; i < count; i++)
        if (borders[i] != borders[kept - 1]) borders[kept++] = borders[i];
    *n = kept;
    return borders;
}

/* Intervals between borders that are in the same sets become one class. members: [n_classes][n_sets] as found. */
static bool number_classes(compiler *c, const uint32_t *borders, size_t n, uint16_t *class_of, uint8_t **members,
                           size_t *n_classes)
{
    size_t n_sets = WE_MAX(c->n_sets, 1), capacity = 0, n_slots = 1024;
    size_t *at = we_calloc(n_sets, sizeof(*at)); /* each set's range that the sweep has reached */
    uint8_t *row = we_calloc(n_sets, 1);
    uint16_t *slots = we_calloc(n_slots, sizeof(*slots)); /* hash of a row -> class + 1 */
    bool ok = at && row && slots;
    *n_classes = 0;
    for (size_t i = 0; ok && i < n; i++) {
        for (size_t s = 0; s < c->n_sets; s++) {
            const we_re_set *set = c->sets[s];
            while (at[s] < set->n && set->ranges[at[s]].hi < borders[i]) at[s]++;
            row[s] = at[s] < set->n && set->ranges[at[s]].lo <= borders[i];
        }
        size_t slot = (size_t)we_str_hash((we_str){ (const char *)row, n_sets }) & (n_slots - 1);
        while (slots[slot] && memcmp(*members + (size_t)(slots[slot] - 1) * n_sets, row, n_sets) != 0)
            slot = (slot + 1) & (n_slots - 1);
        if (!slots[slot]) {
            if (*n_classes + 1 >= n_slots / 2) {
                fail(c, WE_E_UNSUPPORTED, "its character classes overlap in more than 500 ways");
                break;
            }
            if (*n_classes == capacity) {
                capacity = capacity ? capacity * 2 : 32;
                uint8_t *grown = we_realloc_array(*members, capacity, n_sets);
                if (!(ok = grown)) break;
                *members = grown;
            }
            memcpy(*members + *n_classes * n_sets, row, n_sets);
            slots[slot] = (uint16_t)++ * n_classes;
        }
        class_of[i] = (uint16_t)(slots[slot] - 1);
    }
    we_free(at);
    we_free(row);
    we_free(slots);
    return ok;
}

/* The two-stage table; equal blocks are stored once. */
static bool build_stages(we_regex *re, const uint32_t *borders, size_t n, const uint16_t *class_of)
{
    enum { N_BLOCKS = 0x110000 / 128, N_SLOTS = 16384 };
    uint16_t *slots = we_calloc(N_SLOTS, sizeof(*slots));
    size_t n_blocks = 0, capacity = 0, at = 0;
    re->class_stage1 = we_calloc(N_BLOCKS, sizeof(*re->class_stage1));
    bool ok = slots && re->class_stage1;
    for (size_t b = 0; ok && b < N_BLOCKS; b++) {
        uint16_t block[128];
        for (uint32_t i = 0; i < 128; i++) {
            uint32_t rune = (uint32_t)b * 128 + i;
            while (at + 1 < n && borders[at + 1] <= rune) at++;
            block[i] = class_of[at];
        }
        size_t slot = (size_t)we_str_hash((we_str){ (const char *)block, sizeof(block) }) & (N_SLOTS - 1);
        while (slots[slot] && memcmp(re->class_stage2 + (size_t)(slots[slot] - 1) * 128, block, sizeof(block)) != 0)
            slot = (slot + 1) & (N_SLOTS - 1);
        if (!slots[slot]) {
            if (n_blocks == capacity) {
                capacity = capacity ? capacity * 2 : 64;
                uint16_t *grown = we_realloc_array(re->class_stage2, capacity, sizeof(block));
                if (!(ok = grown)) break;
                re->class_stage2 = grown;
            }
            memcpy(re->class_stage2 + n_blocks * 128, block, sizeof(block));
            slots[slot] = (uint16_t)++n_blocks;
        }
        re->class_stage1[b] = (uint16_t)(slots[slot] - 1);
    }
    we_free(slots);
    return ok;
}

static void build_classes(compiler *c)
{
    we_regex *re = c->re;
    size_t n = 0, n_classes = 0;
    uint8_t *members = NULL;
    uint32_t *borders = borders_new(c, &n);
    uint16_t *class_of = borders ? we_calloc(n, sizeof(*class_of)) : NULL;
    if (!class_of || !number_classes(c, borders, n, class_of, &members, &n_classes)) fail(c, WE_E_NOMEM, "no memory");
    if (c->status == WE_OK) {
        size_t n_sets = WE_MAX(c->n_sets, 1);
        re->n_sets = (uint16_t)n_sets;
        re->n_classes = (uint16_t)n_classes;
        re->set_classes = we_calloc(n_sets, n_classes);
        if (!re->set_classes || !build_stages(re, borders, n, class_of)) fail(c, WE_E_NOMEM, "no memory");
        for (size_t k = 0; re->set_classes && k < n_classes; k++)
            for (size_t s = 0; s < n_sets; s++) re->set_classes[s * n_classes + k] = members[k * n_sets + s];
    }
    we_free(members);
    we_free(class_of);
    we_free(borders);
}

/* ---- Door ---- */

static we_status compile_tree(we_regex **out, we_arena *arena, we_re_node *root, we_error *err)
{
    compiler c = { .arena = arena, .budget = 1000000, .err = err };
    c.re = we_calloc(1, sizeof(*c.re));
    if (!c.re) return we_fail(err, WE_E_NOMEM, "no memory for a regular expression");
    c.re->table_fits = true;
    simplify(&c, root, &follow_end);
    emit_node(&c, root, false);
    emit(&c, WE_RE_OP_MATCH);
    if (c.status == WE_OK) build_classes(&c);
    if (c.status == WE_OK) c.status = we_re_dfa_build(c.re, err);
    if (c.status != WE_OK) {
        we_regex_free(c.re);
        return c.status;
    }
    *out = c.re;
    return WE_OK;
}

we_status we_regex_compile(we_regex **out, we_str pattern, we_error *err)
{
    we_arena arena = { 0 };
    we_re_node *root = NULL;
    *out = NULL;
    we_status st = we_re_parse(&arena, pattern, &root, err);
    if (!st) st = compile_tree(out, &arena, root, err);
    we_arena_deinit(&arena);
    return st;
}

we_status we_regex_compile_literal(we_regex **out, we_str literal, we_error *err)
{
    we_arena arena = { 0 };
    *out = NULL;
    we_re_node *root = we_arena_calloc(&arena, 1, sizeof(*root));
    we_status st = root ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a pattern");
    if (root) root->kind = WE_RE_CAT;
    we_re_node **link = root ? &root->child : NULL;
    for (size_t i = 0; !st && i < literal.len;) {
        uint32_t rune = we_utf8_next(literal, &i);
        we_re_node *node = we_arena_calloc(&arena, 1, sizeof(*node));
        if (!node || !we_re_set_add(&arena, &node->set, rune, rune)) {
            st = we_fail(err, WE_E_NOMEM, "no memory for a pattern");
        } else {
            node->kind = WE_RE_SET;
            *link = node;
            link = &node->next;
        }
    }
    if (!st) st = compile_tree(out, &arena, root, err);
    we_arena_deinit(&arena);
    return st;
}

void we_regex_free(we_regex *re)
{
    if (!re) return;
    we_free(re->insts);
    we_free(re->class_stage1);
    we_free(re->class_stage2);
    we_free(re->set_classes);
    we_free(re->dfa);
    we_free(re->dfa_start);
    we_free(re);
}

bool we_regex_has_dfa(const we_regex *re) { return re->dfa != NULL; }
