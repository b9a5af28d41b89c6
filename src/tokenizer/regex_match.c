/* SPDX-License-Identifier: Apache-2.0
 * regex_match.c - finding matches: by the table (regex_dfa.c), or by backtracking with a memory.
 *
 * The table is fast, but a pattern like a*b|a reads ahead again and again: once a scan has taken many more steps than its text
 * has bytes, backtracking goes on in its place. That one notes every choice (SPLIT) that has failed at a place and never
 * tries it there again, in this search or a later one, so that all searches of a text together take steps in proportion to
 * its length. In the bodies of look-arounds and atomic groups successes are noted too, with their ends.
 *
 * One thing is looser than in a textbook: the memory does not know in which round of a loop over an empty body it was
 * written, which no pattern of a tokenizer does. */
#include "tokenizer/regex_int.h"

#define NO_MATCH SIZE_MAX
#define PAGE 1024 /* places in a page of the memory */

typedef enum frame_kind { FRAME_ALTERNATIVE, FRAME_FAILED, FRAME_SLOT } frame_kind;
typedef struct frame {
    frame_kind kind;
    uint32_t pc; /* the SPLIT; for SLOT: its number */
    size_t pos;  /* for SLOT: the former value */
} frame;

struct we_regex_memo {
    size_t n_pages;
    uint64_t **failed; /* [n_pages]: bit place * n_memo + choice; taken when first written */
    size_t **ends;     /* [n_pages]: for the choices of bodies: 0 unknown, 1 failed, end + 2 */
    frame *frames;
    size_t n_frames, capacity;
    size_t *slots;
};

static we_regex_memo *memo_new(const we_regex *re, size_t text_len)
{
    we_regex_memo *m = we_calloc(1, sizeof(*m));
    if (!m) return NULL;
    m->n_pages = text_len / PAGE + 1;
    m->failed = we_calloc(m->n_pages, sizeof(*m->failed));
    m->ends = we_calloc(m->n_pages, sizeof(*m->ends));
    m->slots = we_calloc(re->n_slots + 1, sizeof(*m->slots));
    return m;
}

static bool memo_ok(const we_regex_memo *m) { return m && m->failed && m->ends && m->slots; }

static void memo_free(we_regex_memo *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n_pages; i++) {
        if (m->failed) we_free(m->failed[i]);
        if (m->ends) we_free(m->ends[i]);
    }
    we_free(m->failed);
    we_free(m->ends);
    we_free(m->frames);
    we_free(m->slots);
    we_free(m);
}

/* 0 unknown, 1 failed, end + 2. */
static size_t recall(const we_regex *re, const we_regex_memo *m, uint32_t memo, size_t pos)
{
    size_t page = pos / PAGE;
    if (memo & WE_RE_MEMO_BODY)
        return m->ends[page] ? m->ends[page][(pos % PAGE) * re->n_body_memo + (memo & ~WE_RE_MEMO_BODY)] : 0;
    if (!m->failed[page]) return 0;
    size_t bit = (pos % PAGE) * re->n_memo + memo;
    return m->failed[page][bit / 64] >> (bit % 64) & 1;
}

static bool note(const we_regex *re, we_regex_memo *m, uint32_t memo, size_t pos, size_t value)
{
    size_t page = pos / PAGE;
    if (memo & WE_RE_MEMO_BODY) {
        if (!m->ends[page] && !(m->ends[page] = we_calloc((size_t)PAGE * re->n_body_memo, sizeof(**m->ends))))
            return false;
        m->ends[page][(pos % PAGE) * re->n_body_memo + (memo & ~WE_RE_MEMO_BODY)] = value;
        return true;
    }
    size_t bit = (pos % PAGE) * re->n_memo + memo;
    if (!m->failed[page] && !(m->failed[page] = we_calloc(((size_t)PAGE * re->n_memo + 63) / 64, sizeof(**m->failed))))
        return false;
    m->failed[page][bit / 64] |= 1ULL << (bit % 64);
    return true;
}

static bool push(we_regex_scan *s, frame_kind kind, uint32_t pc, size_t pos)
{
    we_regex_memo *m = s->memo;
    if (m->n_frames == m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 256;
        frame *grown = we_realloc_array(m->frames, capacity, sizeof(*grown));
        if (!grown) {
            s->out_of_memory = true;
            return false;
        }
        m->frames = grown;
        m->capacity = capacity;
    }
    m->frames[m->n_frames++] = (frame){ kind, pc, pos };
    return true;
}

/* The class of the next character (or the one before), n_classes at the text's edge; *pos moves past it. */
static unsigned next_class(const we_regex_scan *s, bool behind, size_t *pos)
{
    if (*pos == (behind ? 0 : s->text.len)) return s->re->n_classes;
    return we_re_class(s->re, behind ? we_re_decode_before(s->text.ptr, pos) : we_re_decode(s->text.ptr, pos));
}

static bool in_set(const we_regex *re, unsigned set, unsigned class)
{
    return class < re->n_classes && re->set_classes[(size_t)set * re->n_classes + class];
}

/* Run the instructions from pc at pos to the MATCH of this program or body: where it ends, or NO_MATCH. C recursion only by
 * the pattern's own nesting. */
static size_t run(we_regex_scan *s, uint32_t pc, size_t pos)
{
    const we_regex *re = s->re;
    we_regex_memo *m = s->memo;
    const size_t base = m->n_frames;
    size_t end = NO_MATCH;
    for (;; s->n_steps++) {
        const we_re_inst *inst = &re->insts[pc];
        bool failed = false;
        switch ((we_re_op)inst->op) {
        case WE_RE_OP_CHAR: {
            size_t after = pos;
            unsigned class = next_class(s, inst->behind, &after);
            failed = !in_set(re, inst->set, class);
            pos = after;
            pc++;
            break;
        }
        case WE_RE_OP_ASSERT: {
            size_t ignored = pos;
            unsigned class = next_class(s, inst->behind, &ignored);
            bool holds = class == re->n_classes ? inst->edge : in_set(re, inst->set, class);
            failed = holds == inst->negate;
            pc++;
            break;
        }
        case WE_RE_OP_JUMP: pc = inst->x; break;
        case WE_RE_OP_SPLIT: {
            size_t known = recall(re, m, inst->memo, pos);
            if (known > 1) {
                end = known - 2;
                goto matched;
            }
            failed = known == 1 || !push(s, FRAME_ALTERNATIVE, pc, pos);
            pc = inst->x;
            break;
        }
        case WE_RE_OP_LOOK:
        case WE_RE_OP_ATOMIC: {
            size_t inner = run(s, pc + 1, pos);
            failed = (inner == NO_MATCH) != (inst->op == WE_RE_OP_LOOK && inst->negate);
            if (inst->op == WE_RE_OP_ATOMIC) pos = inner;
            pc = inst->x;
            break;
        }
        case WE_RE_OP_LOOP_ENTER:
            failed = !push(s, FRAME_SLOT, inst->x, m->slots[inst->x]);
            m->slots[inst->x] = pos;
            pc++;
            break;
        case WE_RE_OP_LOOP_CHECK: pc = m->slots[inst->x] == pos ? inst->y : pc + 1; break;
        case WE_RE_OP_MATCH: end = pos; goto matched;
        }
        if (s->out_of_memory) break;
        while (failed) { /* back to the last choice */
            if (m->n_frames == base) return NO_MATCH;
            frame *f = &m->frames[m->n_frames - 1];
            if (f->kind == FRAME_ALTERNATIVE) {
                f->kind = FRAME_FAILED;
                pc = re->insts[f->pc].y;
                pos = f->pos;
                failed = false;
            } else {
                if (f->kind == FRAME_SLOT)
                    m->slots[f->pc] = f->pos;
                else if (!note(re, m, re->insts[f->pc].memo, f->pos, 1))
                    s->out_of_memory = true;
                m->n_frames--;
            }
        }
    }
matched: /* every choice that is still open led here */
    while (m->n_frames > base) {
        const frame *f = &m->frames[--m->n_frames];
        if (f->kind == FRAME_SLOT)
            m->slots[f->pc] = f->pos;
        else if (end != NO_MATCH && (re->insts[f->pc].memo & WE_RE_MEMO_BODY) &&
                 !note(re, m, re->insts[f->pc].memo, f->pos, end + 2))
            s->out_of_memory = true;
    }
    return s->out_of_memory ? NO_MATCH : end;
}

/* The table from `pos`: the last place where a match ends. */
static size_t run_table(we_regex_scan *s, size_t pos)
{
    const we_regex *re = s->re;
    const size_t width = (size_t)re->n_classes + 1;
    const char *text = s->text.ptr;
    const size_t len = s->text.len;
    size_t before = pos, end = NO_MATCH, n_steps = 0;
    unsigned behind = re->n_classes;
    if (pos > 0) behind = we_re_class(re, we_re_decode_before(text, &before));
    uint32_t state = re->dfa_start[behind];
    while (state && pos < len) {
        size_t at = pos;
        unsigned class = we_re_class(re, we_re_decode(text, &pos));
        uint32_t entry = re->dfa[state * width + class];
        if (entry & 1) end = at;
        state = entry >> 1;
        n_steps++;
    }
    if (state && re->dfa[state * width + re->n_classes] & 1) end = len;
    s->n_steps += n_steps;
    return end;
}

/* The leftmost match at or behind `pos`. */
static bool search(we_regex_scan *s, size_t pos, size_t *start, size_t *end)
{
    for (;; we_re_decode(s->text.ptr, &pos)) {
        bool table = s->re->dfa && !s->force_memo && s->n_steps < 65536 + 16 * s->text.len;
        if (!table && !s->memo) {
            s->memo = memo_new(s->re, s->text.len);
            if (!memo_ok(s->memo)) {
                s->out_of_memory = true;
                return false;
            }
        }
        size_t found = table ? run_table(s, pos) : run(s, 0, pos);
        if (found != NO_MATCH) {
            *start = pos;
            *end = found;
            return true;
        }
        if (s->out_of_memory || pos >= s->text.len) return false;
    }
}

void we_regex_scan_init(we_regex_scan *scan, const we_regex *re, we_str text)
{
    *scan = (we_regex_scan){ .re = re, .text = text, .last_end = SIZE_MAX };
}

void we_regex_scan_deinit(we_regex_scan *scan)
{
    memo_free(scan->memo);
    scan->memo = NULL;
}

bool we_regex_scan_next(we_regex_scan *scan, size_t *start, size_t *end)
{
    while (scan->pos <= scan->text.len) {
        if (!search(scan, scan->pos, start, end)) {
            scan->pos = scan->text.len + 1;
            return false;
        }
        if (*start == *end && *end == scan->last_end) { /* empty, and right behind the last one: one character on */
            if (scan->pos >= scan->text.len) break;
            we_re_decode(scan->text.ptr, &scan->pos);
            continue;
        }
        scan->pos = scan->last_end = *end;
        return true;
    }
    scan->pos = scan->text.len + 1;
    return false;
}
