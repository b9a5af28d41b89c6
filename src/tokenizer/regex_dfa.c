/* SPDX-License-Identifier: Apache-2.0
 * regex_dfa.c - the program as a table: state and class of the next character give the next state, and whether a match ends
 * before that character.
 *
 * A state is the list of instructions that the backtracking engine would still try, in its order, before jumps and
 * assertions are looked into, and what the assertions that look behind need to know. Only with the next character's class
 * at hand are they followed up to the characters they consume; so an assertion that looks ahead by one character, as
 * \s+(?!\S) does, costs nothing. Where the list reaches the end of the program, a match ends, and what stands behind it in
 * the list is dropped: the backtracking engine would not have tried it.
 * Source: the leftmost-first automata of RE2 (re2/dfa.cc), built whole instead of as needed. */
#include "tokenizer/regex_int.h"

#define MAX_STATES 4096
#define MAX_ENTRIES 1000000U
#define MAX_WORK 2000000L /* instructions followed in all */
#define MAX_BEHIND 16

typedef struct state { /* its list is pcs[start .. start + n) */
    uint32_t context;  /* bit i: what the i-th assertion behind says */
    uint32_t start, n;
} state;

typedef struct builder {
    we_regex *re;
    uint32_t behind[MAX_BEHIND]; /* their instructions */
    size_t n_behind;
    state *states;
    size_t n_states, states_capacity;
    uint32_t *pcs;
    size_t n_pcs, pcs_capacity;
    uint32_t *slots;               /* hash of states -> number; 0: free (state 0, dead, is never looked up) */
    uint32_t *stack, *list, *next; /* scratch, [n_insts + 1] each */
    uint32_t *mark;                /* [n_insts]: visited in this round */
    uint32_t round;
    long work;
    bool out_of_memory, too_large;
} builder;
enum { N_SLOTS = 4 * MAX_STATES };

static bool asserts(const we_regex *re, const we_re_inst *inst, unsigned class) /* n_classes: the text's edge */
{
    bool holds = class == re->n_classes ? inst->edge : re->set_classes[(size_t)inst->set * re->n_classes + class];
    return holds != inst->negate;
}

static uint32_t context_behind(const builder *b, unsigned class)
{
    uint32_t context = 0;
    for (size_t i = 0; i < b->n_behind; i++)
        if (asserts(b->re, &b->re->insts[b->behind[i]], class)) context |= 1U << i;
    return context;
}

static bool behind_holds(const builder *b, uint32_t context, uint32_t pc)
{
    for (size_t i = 0; i < b->n_behind; i++)
        if (b->behind[i] == pc) return context >> i & 1;
    return false;
}

/* Follow one entry of the list depth first, in order, to the characters: these go to b->list from *n on. True: the end of
 * the program was reached. */
static bool follow(builder *b, uint32_t context, unsigned class, uint32_t pc, size_t *n)
{
    const we_regex *re = b->re;
    size_t depth = 0;
    b->stack[depth++] = pc;
    while (depth > 0) {
        pc = b->stack[--depth];
        for (;;) { /* a chain of instructions */
            if (b->mark[pc] == b->round) break;
            b->mark[pc] = b->round;
            b->work++;
            const we_re_inst *inst = &re->insts[pc];
            if (inst->op == WE_RE_OP_MATCH) return true;
            if (inst->op == WE_RE_OP_CHAR) {
                b->list[(*n)++] = pc;
                break;
            }
            if (inst->op == WE_RE_OP_SPLIT) {
                b->stack[depth++] = inst->y; /* each instruction splits once a round: the stack can't overflow */
                pc = inst->x;
            } else if (inst->op == WE_RE_OP_JUMP) {
                pc = inst->x;
            } else { /* ASSERT */
                if (!(inst->behind ? behind_holds(b, context, pc) : asserts(re, inst, class))) break;
                pc++;
            }
        }
    }
    return false;
}

static uint32_t state_of(builder *b, uint32_t context, const uint32_t *pcs, size_t n)
{
    if (n == 0) return 0;
    uint64_t hash = we_str_hash((we_str){ (const char *)pcs, n * sizeof(*pcs) }) ^ context * 0x9E3779B97F4A7C15U;
    size_t slot = (size_t)(hash ^ hash >> 32) & (N_SLOTS - 1);
    for (; b->slots[slot]; slot = (slot + 1) & (N_SLOTS - 1)) {
        const state *s = &b->states[b->slots[slot]];
        if (s->context == context && s->n == n && memcmp(b->pcs + s->start, pcs, n * sizeof(*pcs)) == 0)
            return b->slots[slot];
    }
    if (b->n_states == MAX_STATES) {
        b->too_large = true;
        return 0;
    }
    if (b->n_states == b->states_capacity) {
        size_t capacity = b->states_capacity ? b->states_capacity * 2 : 64;
        state *grown = we_realloc_array(b->states, capacity, sizeof(*grown));
        if (!grown) return b->out_of_memory = true, 0;
        b->states = grown;
        b->states_capacity = capacity;
    }
    if (b->pcs_capacity - b->n_pcs < n) {
        size_t capacity = b->pcs_capacity * 2 + n + 256;
        uint32_t *grown = we_realloc_array(b->pcs, capacity, sizeof(*grown));
        if (!grown) return b->out_of_memory = true, 0;
        b->pcs = grown;
        b->pcs_capacity = capacity;
    }
    memcpy(b->pcs + b->n_pcs, pcs, n * sizeof(*pcs));
    b->states[b->n_states] = (state){ context, (uint32_t)b->n_pcs, (uint32_t)n };
    b->n_pcs += n;
    return b->slots[slot] = (uint32_t)b->n_states++;
}

/* What state `from` does on a class (n_classes: the text's end): next state << 1 | match. */
static uint32_t transition(builder *b, size_t from, unsigned class)
{
    const we_regex *re = b->re;
    state s = b->states[from];
    size_t n = 0;
    bool match = false;
    b->round++;
    for (uint32_t i = 0; i < s.n && !match; i++) match = follow(b, s.context, class, b->pcs[s.start + i], &n);
    if (class == re->n_classes) return match;
    size_t n_next = 0;
    b->round++; /* the marks now say: already in the next list */
    for (size_t i = 0; i < n; i++) {
        uint32_t pc = b->list[i];
        if (re->set_classes[(size_t)re->insts[pc].set * re->n_classes + class] && b->mark[pc + 1] != b->round) {
            b->mark[pc + 1] = b->round;
            b->next[n_next++] = pc + 1;
        }
    }
    return state_of(b, context_behind(b, class), b->next, n_next) << 1 | match;
}

static bool build(builder *b)
{
    we_regex *re = b->re;
    size_t width = (size_t)re->n_classes + 1;
    if (!(re->dfa_start = we_calloc(width, sizeof(*re->dfa_start)))) return false;
    uint32_t begin = 0;
    for (unsigned class = 0; class < width; class ++)
        re->dfa_start[class] = state_of(b, context_behind(b, class), &begin, 1);
    size_t capacity = 0;
    for (size_t s = 0; s < b->n_states; s++) {
        if (b->n_states * width > MAX_ENTRIES || b->work > MAX_WORK || b->too_large) {
            b->too_large = true;
            return true;
        }
        if (s >= capacity) {
            capacity = capacity ? capacity * 2 : 32;
            uint32_t *grown = we_realloc_array(re->dfa, capacity * width, sizeof(*grown));
            if (!grown) return false;
            re->dfa = grown;
        }
        for (unsigned class = 0; class < width; class ++)
            re->dfa[s * width + class] = s == 0 ? 0 : transition(b, s, class);
        if (b->out_of_memory) return false;
    }
    re->n_states = (uint32_t)b->n_states;
    return true;
}

we_status we_re_dfa_build(we_regex *re, we_error *err)
{
    builder b = { .re = re, .n_states = 1 };
    if (!re->table_fits) return WE_OK;
    for (size_t pc = 0; pc < re->n_insts; pc++)
        if (re->insts[pc].op == WE_RE_OP_ASSERT && re->insts[pc].behind) {
            if (b.n_behind == MAX_BEHIND) return WE_OK;
            b.behind[b.n_behind++] = (uint32_t)pc;
        }
    size_t n = re->n_insts + 1;
    b.states = we_calloc(b.states_capacity = 64, sizeof(*b.states)); /* with state 0, dead */
    b.slots = we_calloc(N_SLOTS, sizeof(*b.slots));
    b.stack = we_calloc(n, sizeof(*b.stack));
    b.list = we_calloc(n, sizeof(*b.list));
    b.next = we_calloc(n, sizeof(*b.next));
    b.mark = we_calloc(n, sizeof(*b.mark));
    bool ok = b.states && b.slots && b.stack && b.list && b.next && b.mark && build(&b);
    we_free(b.states);
    we_free(b.slots);
    we_free(b.stack);
    we_free(b.list);
    we_free(b.next);
    we_free(b.mark);
    we_free(b.pcs);
    if (ok && !b.too_large) return WE_OK;
    we_free(re->dfa);
    we_free(re->dfa_start);
    re->dfa = re->dfa_start = NULL;
    return ok ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory for a regular expression's table");
}
