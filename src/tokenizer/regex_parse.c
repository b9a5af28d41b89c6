/* SPDX-License-Identifier: Apache-2.0
 * regex_parse.c - a pattern in Oniguruma's dialect becomes a tree. Checked construct by construct against Oniguruma 6.9 as
 * tokenizers 0.23 has it; what surprises is told where it happens.
 * Source: Oniguruma's doc/RE and doc/SYNTAX.md. */
#include "tokenizer/regex_int.h"

typedef struct parser {
    we_arena *arena;
    we_str pattern;
    size_t pos;
    int depth, n_classes;                /* n_classes: brackets that are open */
    bool ignore_case, dot_all, extended; /* (?i) (?m) (?x) */
    we_status status;
    we_error *err;
} parser;

static we_re_node *parse_alternatives(parser *p);

/* ---- Errors and nodes ---- */

static void *fail(parser *p, we_status status, size_t at, const char *what)
{
    if (p->status == WE_OK) p->status = we_fail(p->err, status, "regular expression, byte %zu: %s", at, what);
    return NULL;
}

static void *no_memory(parser *p) { return fail(p, WE_E_NOMEM, p->pos, "no memory"); }

static we_re_node *node_new(parser *p, we_re_kind kind)
{
    we_re_node *node = we_arena_calloc(p->arena, 1, sizeof(*node));
    if (!node) return no_memory(p);
    node->kind = kind;
    return node;
}

static we_re_node *node_set(parser *p, we_re_set set)
{
    we_re_node *node = node_new(p, WE_RE_SET);
    if (node) node->set = set;
    return node;
}

static we_re_node *node_range(parser *p, uint32_t lo, uint32_t hi)
{
    we_re_set set = { 0 };
    return we_re_set_add(p->arena, &set, lo, hi) ? node_set(p, set) : no_memory(p);
}

static we_re_node *node_pair(parser *p, we_re_kind kind, we_re_node *a, we_re_node *b)
{
    we_re_node *node = node_new(p, kind);
    if (!node || !a || !b) return NULL;
    node->child = a;
    a->next = b;
    return node;
}

/* ---- Reading ---- */

static bool at_end(const parser *p) { return p->pos >= p->pattern.len; }
static char peek(const parser *p) { return at_end(p) ? 0 : p->pattern.ptr[p->pos]; }
static bool looking_at(const parser *p, const char *text)
{
    size_t n = strlen(text);
    return p->pattern.len - p->pos >= n && memcmp(p->pattern.ptr + p->pos, text, n) == 0;
}
static bool accept(parser *p, const char *text)
{
    if (!looking_at(p, text)) return false;
    p->pos += strlen(text);
    return true;
}
static uint32_t next_rune(parser *p) { return we_utf8_next(p->pattern, &p->pos); }

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Up to max digits in a base; WE_RUNE_INVALID when there are fewer than min. */
static uint32_t digits(parser *p, unsigned base, int min, int max)
{
    uint32_t value = 0;
    int n = 0;
    for (; n < max && !at_end(p); n++, p->pos++) {
        int digit = hex_value(peek(p));
        if (digit < 0 || (unsigned)digit >= base) break;
        value = value > WE_RUNE_MAX ? value : value * base + (uint32_t)digit;
    }
    return n < min ? WE_RUNE_INVALID : value;
}

static bool scalar(parser *p, uint32_t rune, size_t at, uint32_t *out)
{
    if (rune > WE_RUNE_MAX || (rune >= 0xD800 && rune < 0xE000))
        return fail(p, WE_E_FORMAT, at, "an escape that is no character"), false;
    *out = rune;
    return true;
}

/* \xHH above 7F are the bytes of a character. */
static bool byte_escapes(parser *p, uint32_t first, size_t at, uint32_t *out)
{
    char bytes[4] = { (char)first };
    size_t n = 1, want = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    while (n < want && accept(p, "\\x")) {
        uint32_t byte = digits(p, 16, 2, 2);
        if (byte == WE_RUNE_INVALID) break;
        bytes[n++] = (char)byte;
    }
    we_str text = { bytes, n };
    size_t i = 0;
    if (n != want || we_utf8_valid(text) != n)
        return fail(p, WE_E_FORMAT, at, "bytes that are no UTF-8 character"), false;
    *out = we_utf8_next(text, &i);
    return true;
}

/* The character that an escape stands for, p->pos behind the backslash; the caller has taken the classes and anchors. */
static bool escaped_char(parser *p, uint32_t *out)
{
    size_t at = p->pos - 1;
    uint32_t rune = next_rune(p);
    switch (rune) {
    case 't': *out = '\t'; return true;
    case 'n': *out = '\n'; return true;
    case 'r': *out = '\r'; return true;
    case 'f': *out = '\f'; return true;
    case 'v': *out = '\v'; return true;
    case 'a': *out = '\a'; return true;
    case 'e': *out = 0x1B; return true;
    case 'x':
        if (accept(p, "{")) {
            rune = digits(p, 16, 1, 8);
            if (rune == WE_RUNE_INVALID || !accept(p, "}"))
                return fail(p, WE_E_FORMAT, at, "\\x{...} wants hexadecimal digits"), false;
            return scalar(p, rune, at, out);
        }
        rune = digits(p, 16, 0, 2);
        if (rune >= 0x80) return byte_escapes(p, rune, at, out);
        *out = rune;
        return true;
    case 'u':
        rune = digits(p, 16, 4, 4);
        if (rune == WE_RUNE_INVALID) return fail(p, WE_E_FORMAT, at, "\\u wants four hexadecimal digits"), false;
        return scalar(p, rune, at, out);
    case 'o':
        if (!accept(p, "{")) {
            *out = 'o';
            return true;
        }
        rune = digits(p, 8, 1, 11);
        if (rune == WE_RUNE_INVALID || !accept(p, "}"))
            return fail(p, WE_E_FORMAT, at, "\\o{...} wants octal digits"), false;
        return scalar(p, rune, at, out);
    case 'c':
    case 'C':
        if (rune == 'C' && !accept(p, "-")) return fail(p, WE_E_FORMAT, at, "\\C wants '-' and a letter"), false;
        if (at_end(p)) return fail(p, WE_E_FORMAT, at, "\\c wants a letter"), false;
        rune = next_rune(p);
        *out = rune == '?' ? 0x7F : rune & 0x1F;
        return true;
    case 'M': return fail(p, WE_E_UNSUPPORTED, at, "the meta escape \\M- is not supported"), false;
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
        p->pos--;
        rune = digits(p, 8, 1, 3);
        if (rune >= 0x80) return fail(p, WE_E_FORMAT, at, "an octal escape above 177 is no character"), false;
        *out = rune;
        return true;
    case WE_RUNE_INVALID: return fail(p, WE_E_FORMAT, at, "the pattern is not UTF-8"), false;
    default: *out = rune; return true;
    }
}

/* ---- Named sets ---- */

static bool add_named_str(parser *p, we_re_set *set, we_str name, bool negate, size_t at)
{
    const we_uni_set *uni = we_uni_set_find(name);
    we_re_set named = { 0 };
    if (!uni) {
        if (p->status == WE_OK)
            p->status =
                we_fail(p->err, WE_E_FORMAT, "regular expression, byte %zu: unknown character property \\p{%.*s}", at,
                        (int)WE_MIN(name.len, 60), name.ptr);
        return false;
    }
    /* ² ³ ¹ ¼ ½ ¾ are of it only outside of brackets: there Oniguruma asks an old table for the characters of Latin-1. */
    const bool loose = p->n_classes == 0 && strcmp(uni->name, "word") == 0;
    if (!we_re_set_add_uni(p->arena, &named, uni) ||
        (loose && !(we_re_set_add(p->arena, &named, 0xB2, 0xB3) && we_re_set_add(p->arena, &named, 0xB9, 0xB9) &&
                    we_re_set_add(p->arena, &named, 0xBC, 0xBE))))
        return no_memory(p), false;
    we_re_set_sort(&named);
    if ((negate && !we_re_set_negate(p->arena, &named)) || !we_re_set_union(p->arena, set, &named))
        return no_memory(p), false;
    return true;
}

static bool add_named(parser *p, we_re_set *set, const char *name, bool negate, size_t at)
{
    return add_named_str(p, set, we_str_from(name), negate, at);
}

/* \p{Name} \p{^Name} \P{Name}, behind the p. */
static bool add_property(parser *p, we_re_set *set, bool negate, size_t at)
{
    if (accept(p, "^")) negate = !negate;
    size_t start = p->pos;
    while (!at_end(p) && peek(p) != '}') p->pos++;
    if (at_end(p)) return fail(p, WE_E_FORMAT, at, "\\p{ without }"), false;
    we_str name = { p->pattern.ptr + start, p->pos - start };
    p->pos++;
    return add_named_str(p, set, name, negate, at);
}

/* \d \w \s \h, \p{...} and their opposites: true when the escape at p->pos was one of them (p->status tells of errors). */
static bool class_escape(parser *p, we_re_set *set)
{
    static const struct {
        char letter;
        const char *name;
    } classes[] = { { 'd', "digit" }, { 'w', "word" }, { 's', "whitespace" }, { 'h', "xdigit" } };
    size_t at = p->pos;
    char c = p->pattern.ptr[at + 1];
    for (size_t i = 0; i < WE_COUNT(classes); i++)
        if ((c | 32) == classes[i].letter) {
            p->pos += 2;
            return add_named(p, set, classes[i].name, c < 'a', at) || true;
        }
    if ((c == 'p' || c == 'P') && p->pattern.len - at > 2 && p->pattern.ptr[at + 2] == '{') {
        p->pos += 3;
        add_property(p, set, c == 'P', at);
        return true;
    }
    return false;
}

/* ---- Bracket classes ---- */

/* [:alpha:] and [:^alpha:]; true when there was one. */
static bool posix_bracket(parser *p, we_re_set *set)
{
    static const char *const names[] = { "alnum", "alpha", "ascii", "blank", "cntrl", "digit",  "graph",
                                         "lower", "print", "punct", "space", "upper", "xdigit", "word" };
    size_t at = p->pos;
    if (!accept(p, "[:")) return false;
    bool negate = accept(p, "^");
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        size_t n = strlen(names[i]);
        if (looking_at(p, names[i]) && p->pattern.len - p->pos >= n + 2 &&
            memcmp(p->pattern.ptr + p->pos + n, ":]", 2) == 0) {
            p->pos += n + 2;
            add_named(p, set, strcmp(names[i], "punct") == 0 ? "posixpunct" : names[i], negate, at);
            return true;
        }
    }
    p->pos = at; /* then it is a class in a class that holds ':' */
    return false;
}

static bool parse_class(parser *p, we_re_set *out, bool outermost);

/* One member: a character (true in *is_char) or a whole set, which goes into `set`. */
static bool class_item(parser *p, we_re_set *set, bool *is_char, uint32_t *rune)
{
    *is_char = false;
    if (peek(p) == '[') {
        if (posix_bracket(p, set)) return p->status == WE_OK;
        we_re_set inner = { 0 };
        p->pos++;
        if (!parse_class(p, &inner, false)) return false;
        return we_re_set_union(p->arena, set, &inner) ? true : (no_memory(p), false);
    }
    if (peek(p) == '\\') {
        if (p->pos + 1 >= p->pattern.len) return fail(p, WE_E_FORMAT, p->pos, "\\ at the end"), false;
        if (class_escape(p, set)) return p->status == WE_OK;
        *is_char = true;
        p->pos++;
        if (accept(p, "b")) {
            *rune = '\b';
            return true;
        }
        return escaped_char(p, rune);
    }
    *is_char = true;
    *rune = next_rune(p);
    return true;
}

/* Behind "[": up to and with "]". Case is ignored once, around the whole: (?i:[a&&[^B]]) matches a. */
static bool parse_class(parser *p, we_re_set *out, bool outermost)
{
    size_t at = p->pos - 1;
    if (++p->depth > WE_RE_MAX_DEPTH) return fail(p, WE_E_FORMAT, at, "classes are nested too deeply"), false;
    p->n_classes++;
    bool negate = accept(p, "^"), first = true, has_left = false;
    we_re_set left = { 0 }, set = { 0 }; /* left: what stands before && */
    for (;; first = false) {
        if (at_end(p)) return fail(p, WE_E_FORMAT, at, "[ without ]"), false;
        if (peek(p) == ']' && !first) {
            p->pos++;
            break;
        }
        if (accept(p, "&&")) {
            we_re_set_sort(&set);
            if (has_left ? !we_re_set_intersect(p->arena, &left, &set) : (left = set, false))
                return no_memory(p), false;
            has_left = true;
            set = (we_re_set){ 0 };
            continue;
        }
        bool is_char;
        uint32_t lo = 0, hi = 0;
        if (!class_item(p, &set, &is_char, &lo)) return false;
        bool range = peek(p) == '-' && p->pos + 1 < p->pattern.len && p->pattern.ptr[p->pos + 1] != ']';
        if (range && !is_char) {
            if (!looking_at(p, "-&&")) return fail(p, WE_E_FORMAT, p->pos, "a range that begins with a class"), false;
            range = false;
        }
        hi = lo;
        if (range) {
            p->pos++;
            if (peek(p) == '[' || !class_item(p, &set, &is_char, &hi) || !is_char)
                return fail(p, WE_E_FORMAT, p->pos, "a range that ends with a class"), false;
            if (hi < lo) return fail(p, WE_E_FORMAT, p->pos, "a range that runs backwards"), false;
        }
        if (is_char && !we_re_set_add(p->arena, &set, lo, hi)) return no_memory(p), false;
    }
    we_re_set_sort(&set);
    if (has_left) {
        if (!we_re_set_intersect(p->arena, &left, &set)) return no_memory(p), false;
        set = left;
    }
    if ((p->ignore_case && outermost && !we_re_set_fold(p->arena, &set)) ||
        (negate && !we_re_set_negate(p->arena, &set)))
        return no_memory(p), false;
    *out = set;
    p->depth--;
    p->n_classes--;
    return true;
}

/* ---- Ignoring case ---- */

/* One of a set, or the two or three characters that one of them folds to: (?i:[ß]) matches "ss". */
static we_re_node *with_full_folds(parser *p, we_re_node *node)
{
    we_re_node *alt = NULL, **last = NULL;
    for (size_t i = 0; i < we_uni_n_full_folds; i++) {
        const we_uni_full_fold *f = &we_uni_full_folds[i];
        if (!we_re_set_has(&node->set, f->from)) continue;
        we_re_node *cat = node_new(p, WE_RE_CAT);
        if (!cat) return NULL;
        we_re_node **link = &cat->child;
        for (size_t k = 0; k < 3 && f->to[k]; k++) {
            we_re_node *one = node_range(p, f->to[k], f->to[k]);
            if (!one || !we_re_set_fold(p->arena, &one->set)) return no_memory(p);
            *link = one;
            link = &one->next;
        }
        if (!alt) {
            if (!(alt = node_pair(p, WE_RE_ALT, node, cat))) return NULL;
        } else {
            *last = cat;
        }
        last = &cat->next;
    }
    return alt ? alt : node;
}

static we_re_node *folded_char(parser *p, uint32_t rune)
{
    we_re_node *node = node_range(p, rune, rune);
    if (!node) return NULL;
    return we_re_set_fold(p->arena, &node->set) ? with_full_folds(p, node) : no_memory(p);
}

/* How many of runes[0..n) a character's full folding covers; 0: not this one. */
static size_t fold_covers(const we_uni_full_fold *f, const uint32_t *runes, size_t n)
{
    size_t k = 0;
    for (; k < 3 && f->to[k]; k++)
        if (k >= n || we_uni_to_fold(runes[k]) != we_uni_to_fold(f->to[k])) return 0;
    return k;
}

/* A run of literal characters, any case: at each place the single character or one that folds to several of them:
 * (?i:ss) matches "ß". `budget` bounds the tree on runs such as "ssssssss", where foldings overlap. */
static we_re_node *folded_run(parser *p, const uint32_t *runes, size_t n, int budget)
{
    if (n == 0) return node_new(p, WE_RE_EMPTY);
    we_re_set wide[4] = { 0 }; /* by the number of characters covered */
    bool any = false;
    for (size_t i = 0; budget > 0 && i < we_uni_n_full_folds; i++) {
        size_t covers = fold_covers(&we_uni_full_folds[i], runes, n);
        if (covers) {
            any = true;
            if (!we_re_set_add(p->arena, &wide[covers], we_uni_full_folds[i].from, we_uni_full_folds[i].from))
                return no_memory(p);
        }
    }
    we_re_node *one = folded_char(p, runes[0]);
    if (!any) return n == 1 ? one : node_pair(p, WE_RE_CAT, one, folded_run(p, runes + 1, n - 1, budget));
    we_re_node *alt = node_new(p, WE_RE_ALT);
    we_re_node *plain = node_pair(p, WE_RE_CAT, one, folded_run(p, runes + 1, n - 1, budget - 1));
    if (!alt || !plain) return NULL;
    alt->child = plain;
    we_re_node **link = &plain->next;
    for (size_t covers = 2; covers < 4; covers++) {
        if (wide[covers].n == 0) continue;
        we_re_set_sort(&wide[covers]);
        we_re_node *branch =
            node_pair(p, WE_RE_CAT, node_set(p, wide[covers]), folded_run(p, runes + covers, n - covers, budget - 1));
        if (!branch) return NULL;
        *link = branch;
        link = &branch->next;
    }
    return alt;
}

/* ---- Anchors ---- */

static we_re_node *node_assert(parser *p, bool behind, bool negate, bool edge, const char *set)
{
    we_re_node *node = node_new(p, WE_RE_ASSERT);
    if (!node) return NULL;
    node->behind = behind;
    node->negate = negate;
    node->edge = edge;
    if (set && strcmp(set, "\n") == 0) {
        if (!we_re_set_add(p->arena, &node->set, '\n', '\n')) return no_memory(p);
    } else if (set && !add_named(p, &node->set, set, false, p->pos)) {
        return NULL;
    }
    return node;
}

/* \b: a word's character on one side only; \B: on both or neither. */
static we_re_node *word_boundary(parser *p, bool at_boundary)
{
    we_re_node *a = node_pair(p, WE_RE_CAT, node_assert(p, true, false, false, "word"),
                              node_assert(p, false, at_boundary, false, "word"));
    we_re_node *b = node_pair(p, WE_RE_CAT, node_assert(p, true, true, false, "word"),
                              node_assert(p, false, !at_boundary, false, "word"));
    return node_pair(p, WE_RE_ALT, a, b);
}

/* ^: at every line's begin, but not behind a newline that ends the text. */
static we_re_node *line_begin(parser *p)
{
    return node_pair(
        p, WE_RE_ALT, node_assert(p, true, false, true, NULL),
        node_pair(p, WE_RE_CAT, node_assert(p, true, false, false, "\n"), node_assert(p, false, false, false, "any")));
}

/* \Z: at the end, or before a newline that ends the text. */
static we_re_node *almost_end(parser *p)
{
    we_re_node *look = node_new(p, WE_RE_LOOK);
    we_re_node *end = node_assert(p, false, false, true, NULL);
    if (!look || !end) return NULL;
    look->child = node_pair(p, WE_RE_CAT, node_range(p, '\n', '\n'), node_assert(p, false, false, true, NULL));
    return look->child ? node_pair(p, WE_RE_ALT, end, look) : NULL;
}

/* \R: a line break; CR LF is one and never comes apart. */
static we_re_node *line_break(parser *p)
{
    we_re_set set = { 0 };
    if (!we_re_set_add(p->arena, &set, '\n', '\r') || !we_re_set_add(p->arena, &set, 0x85, 0x85) ||
        !we_re_set_add(p->arena, &set, 0x2028, 0x2029))
        return no_memory(p);
    we_re_node *atomic = node_new(p, WE_RE_ATOMIC);
    if (!atomic) return NULL;
    atomic->child = node_pair(
        p, WE_RE_ALT, node_pair(p, WE_RE_CAT, node_range(p, '\r', '\r'), node_range(p, '\n', '\n')), node_set(p, set));
    return atomic->child ? atomic : NULL;
}

/* ---- Escapes outside of classes ---- */

/* An escape that is no single character; NULL without an error: it is one. */
static we_re_node *special_escape(parser *p)
{
    size_t at = p->pos;
    if (at + 1 >= p->pattern.len) return fail(p, WE_E_FORMAT, at, "\\ at the end");
    we_re_set set = { 0 };
    if (class_escape(p, &set)) return p->status == WE_OK ? node_set(p, set) : NULL;
    char c = p->pattern.ptr[at + 1];
    switch (c) {
    case 'b': p->pos += 2; return word_boundary(p, true);
    case 'B': p->pos += 2; return word_boundary(p, false);
    case 'A': p->pos += 2; return node_assert(p, true, false, true, NULL);
    case 'z': p->pos += 2; return node_assert(p, false, false, true, NULL);
    case 'Z': p->pos += 2; return almost_end(p);
    case 'R': p->pos += 2; return line_break(p);
    case 'O': p->pos += 2; return node_range(p, 0, WE_RUNE_MAX);
    case 'N': {
        p->pos += 2;
        we_re_node *node = node_range(p, '\n', '\n');
        return node && !we_re_set_negate(p->arena, &node->set) ? no_memory(p) : node;
    }
    case 'G': return fail(p, WE_E_UNSUPPORTED, at, "\\G (the search's start) is not supported");
    case 'K': return fail(p, WE_E_UNSUPPORTED, at, "\\K (keep) is not supported");
    case 'X': return fail(p, WE_E_UNSUPPORTED, at, "\\X (a grapheme cluster) is not supported");
    case 'y':
    case 'Y': return fail(p, WE_E_UNSUPPORTED, at, "\\y (a text segment's boundary) is not supported");
    case 'k': return fail(p, WE_E_UNSUPPORTED, at, "back-references (\\k) are not supported");
    case 'g': return fail(p, WE_E_UNSUPPORTED, at, "subexpression calls (\\g) are not supported");
    default: break;
    }
    if (c >= '1' && c <= '9') { /* two digits or more that are octal count as a character, as there */
        bool longer = at + 2 < p->pattern.len && p->pattern.ptr[at + 2] >= '0' && p->pattern.ptr[at + 2] <= '9';
        if (!longer || c >= '8') return fail(p, WE_E_UNSUPPORTED, at, "back-references (\\1) are not supported");
    }
    return NULL;
}

/* ---- Groups ---- */

static we_re_node *close_group(parser *p, we_re_node *body, size_t at)
{
    if (body && !accept(p, ")")) return fail(p, WE_E_FORMAT, at, "( without )");
    return body;
}

static we_re_node *group_of(parser *p, we_re_kind kind, bool behind, bool negate, size_t at)
{
    we_re_node *node = node_new(p, kind);
    we_re_node *body = node ? close_group(p, parse_alternatives(p), at) : NULL;
    if (!body) return NULL;
    node->child = body;
    node->behind = behind;
    node->negate = negate;
    return node;
}

/* (?imx-imx) and (?imx-imx:...). Without a colon the options hold to the end of the group around it, and take the
 * alternatives there with them: a(?i)b|c is a(?i:b|c). */
static we_re_node *option_group(parser *p, size_t at)
{
    bool on = true, i = p->ignore_case, m = p->dot_all, x = p->extended;
    for (;; p->pos++) {
        char c = peek(p);
        if (c == '-')
            on = false;
        else if (c == 'i')
            p->ignore_case = on;
        else if (c == 'm')
            p->dot_all = on;
        else if (c == 'x')
            p->extended = on;
        else
            break;
    }
    we_re_node *body = NULL;
    if (accept(p, ":"))
        body = close_group(p, parse_alternatives(p), at);
    else if (accept(p, ")"))
        body = parse_alternatives(p);
    else if (peek(p) && strchr("WDSPILCy", peek(p)))
        fail(p, WE_E_UNSUPPORTED, p->pos, "this group option is not supported");
    else
        fail(p, WE_E_FORMAT, p->pos, "unknown group option");
    p->ignore_case = i, p->dot_all = m, p->extended = x;
    return body;
}

/* Behind "(". */
static we_re_node *parse_group(parser *p)
{
    size_t at = p->pos - 1;
    bool i = p->ignore_case, m = p->dot_all, x = p->extended;
    we_re_node *node;
    if (accept(p, "?:"))
        node = close_group(p, parse_alternatives(p), at);
    else if (accept(p, "?="))
        node = group_of(p, WE_RE_LOOK, false, false, at);
    else if (accept(p, "?!"))
        node = group_of(p, WE_RE_LOOK, false, true, at);
    else if (accept(p, "?<="))
        node = group_of(p, WE_RE_LOOK, true, false, at);
    else if (accept(p, "?<!"))
        node = group_of(p, WE_RE_LOOK, true, true, at);
    else if (accept(p, "?>"))
        node = group_of(p, WE_RE_ATOMIC, false, false, at);
    else if (looking_at(p, "?<") || looking_at(p, "?'")) { /* a name is of no use without references to it */
        char end = p->pattern.ptr[p->pos + 1] == '<' ? '>' : '\'';
        p->pos += 2;
        size_t name = p->pos;
        while (!at_end(p) && peek(p) != end && peek(p) != ')') p->pos++;
        if (peek(p) != end || p->pos == name) return fail(p, WE_E_FORMAT, at, "a group's name is not closed");
        p->pos++;
        node = close_group(p, parse_alternatives(p), at);
    } else if (looking_at(p, "?~"))
        return fail(p, WE_E_UNSUPPORTED, at, "absent operators (?~...) are not supported");
    else if (looking_at(p, "?("))
        return fail(p, WE_E_UNSUPPORTED, at, "conditionals (?(...)...) are not supported");
    else if (looking_at(p, "?{") || looking_at(p, "*"))
        return fail(p, WE_E_UNSUPPORTED, at, "callouts are not supported");
    else if (accept(p, "?"))
        node = option_group(p, at);
    else
        node = close_group(p, parse_alternatives(p), at);
    p->ignore_case = i, p->dot_all = m, p->extended = x;
    return node;
}

/* ---- Quantifiers ---- */

/* {n} {n,} {,m} {n,m}; false: literal text. A range that runs backwards is turned round. */
static bool parse_interval(parser *p, uint32_t *min, uint32_t *max, bool *fixed)
{
    size_t at = p->pos, i = at + 1, n_digits[2] = { 0 };
    uint32_t value[2] = { 0, 0 };
    bool comma = false;
    for (; i < p->pattern.len && p->pattern.ptr[i] != '}'; i++) {
        char c = p->pattern.ptr[i];
        if (c == ',' && !comma) {
            comma = true;
        } else if (c >= '0' && c <= '9') {
            uint32_t *v = &value[comma];
            *v = *v > WE_RE_MAX_REPEAT ? *v : *v * 10 + (uint32_t)(c - '0');
            n_digits[comma]++;
        } else {
            return false;
        }
    }
    if (i >= p->pattern.len || (!n_digits[0] && !n_digits[1])) return false;
    if (value[0] > WE_RE_MAX_REPEAT || value[1] > WE_RE_MAX_REPEAT)
        return fail(p, WE_E_FORMAT, at, "a repeat count over 100000"), false;
    p->pos = i + 1;
    *fixed = !comma;
    *min = value[0];
    *max = !comma ? value[0] : n_digits[1] ? value[1] : WE_RE_INFINITE;
    if (*max < *min) {
        uint32_t swap = *min;
        *min = *max, *max = swap;
    }
    return true;
}

static we_re_node *repeat(parser *p, we_re_node *child, uint32_t min, uint32_t max, bool lazy)
{
    we_re_node *node = node_new(p, WE_RE_REPEAT);
    if (!node) return NULL;
    node->child = child;
    node->min = min;
    node->max = max;
    node->lazy = lazy;
    return node;
}

static bool at_quantifier(const parser *p)
{
    char c = peek(p);
    if (c == '*' || c == '+' || c == '?') return true;
    uint32_t min, max;
    bool fixed;
    parser probe = *p;
    probe.err = NULL;
    return c == '{' && (parse_interval(&probe, &min, &max, &fixed) || probe.status != WE_OK);
}

/* All quantifiers behind an atom. `?` behind {n} and `+` behind any {...} are quantifiers of their own. */
static we_re_node *parse_quantifiers(parser *p, we_re_node *atom)
{
    for (int n = 0; atom && p->status == WE_OK && at_quantifier(p); n++) {
        if (n > WE_RE_MAX_DEPTH) return fail(p, WE_E_FORMAT, p->pos, "too many quantifiers in a row");
        if (atom->kind == WE_RE_LOOK && n == 0) return fail(p, WE_E_FORMAT, p->pos, "a look-around can't be repeated");
        uint32_t min = 0, max = 0;
        bool fixed = false, interval = peek(p) == '{';
        if (interval) {
            if (!parse_interval(p, &min, &max, &fixed)) return NULL;
        } else {
            char c = p->pattern.ptr[p->pos++];
            min = c == '+';
            max = c == '?' ? 1 : WE_RE_INFINITE;
        }
        bool lazy = !fixed && accept(p, "?");
        bool possessive = !interval && !lazy && accept(p, "+");
        atom = repeat(p, atom, min, max, lazy);
        if (atom && possessive) {
            we_re_node *atomic = node_new(p, WE_RE_ATOMIC);
            if (atomic) atomic->child = atom;
            atom = atomic;
        }
    }
    return p->status == WE_OK ? atom : NULL;
}

/* ---- Sequences and alternatives ---- */

/* Comments, and blanks under (?x). */
static bool skip_comments(parser *p)
{
    for (;;) {
        size_t at = p->pos;
        if (accept(p, "(?#")) {
            while (!at_end(p) && peek(p) != ')') p->pos += peek(p) == '\\' && p->pos + 1 < p->pattern.len ? 2 : 1;
            if (!accept(p, ")")) return fail(p, WE_E_FORMAT, at, "a comment without )"), false;
        } else if (p->extended && !at_end(p) && strchr(" \t\n\r\f\v", peek(p)) && peek(p)) {
            p->pos++;
        } else if (p->extended && peek(p) == '#') {
            while (!at_end(p) && peek(p) != '\n') p->pos++;
        } else {
            return true;
        }
    }
}

/* A character that stands for itself, if one comes next: its value, and what follows it is read. */
static bool literal_char(parser *p, uint32_t *rune)
{
    char c = peek(p);
    if (c == '\\') {
        p->pos++;
        return escaped_char(p, rune);
    }
    size_t at = p->pos;
    *rune = next_rune(p);
    if (*rune == WE_RUNE_INVALID) return fail(p, WE_E_FORMAT, at, "the pattern is not UTF-8"), false;
    return true;
}

/* One atom that is no literal character; NULL without an error: it is one. */
static we_re_node *parse_special(parser *p)
{
    char c = peek(p);
    if (c == '(') {
        p->pos++;
        return parse_group(p);
    }
    if (c == '[') {
        we_re_set set = { 0 };
        uint32_t n = 0;
        p->pos++;
        if (!parse_class(p, &set, true)) return NULL;
        we_re_node *node = node_set(p, set);
        for (size_t i = 0; i < set.n; i++) n += set.ranges[i].hi - set.ranges[i].lo + 1;
        return p->ignore_case && node && n < 200 ? with_full_folds(p, node) : node; /* not for every letter there is */
    }
    if (c == '.') {
        p->pos++;
        we_re_node *node = p->dot_all ? node_range(p, 0, WE_RUNE_MAX) : node_range(p, '\n', '\n');
        return node && !p->dot_all && !we_re_set_negate(p->arena, &node->set) ? no_memory(p) : node;
    }
    if (c == '^') {
        p->pos++;
        return line_begin(p);
    }
    if (c == '$') {
        p->pos++;
        return node_assert(p, false, false, true, "\n");
    }
    if (c == '*' || c == '+' || c == '?' || (c == '{' && at_quantifier(p)))
        return fail(p, WE_E_FORMAT, p->pos, "nothing to repeat");
    return c == '\\' ? special_escape(p) : NULL;
}

static we_re_node *literal_node(parser *p, const uint32_t *runes, size_t n)
{
    if (p->ignore_case) return folded_run(p, runes, n, 6);
    we_re_node *cat = node_new(p, WE_RE_CAT);
    we_re_node **link = cat ? &cat->child : NULL;
    for (size_t i = 0; link && i < n; i++) {
        *link = node_range(p, runes[i], runes[i]);
        link = *link ? &(*link)->next : NULL;
    }
    return p->status == WE_OK ? cat : NULL;
}

/* A run of literal characters as far as it goes; the last one stays behind where a quantifier follows it. */
static we_re_node *parse_literals(parser *p)
{
    uint32_t runes[64];
    size_t n = 0;
    while (n < WE_COUNT(runes)) {
        size_t before = p->pos;
        if (!literal_char(p, &runes[n])) return NULL;
        if (n > 0 && at_quantifier(p)) {
            p->pos = before;
            break;
        }
        n++;
        if (at_quantifier(p))
            return parse_quantifiers(p, p->ignore_case ? folded_char(p, runes[0]) : node_range(p, runes[0], runes[0]));
        if (!skip_comments(p)) return NULL;
        if (at_end(p) || strchr(".[(|)^$*+?", peek(p))) break;
        if (peek(p) == '\\') { /* is the escape a character? */
            parser probe = *p;
            probe.err = NULL;
            if (special_escape(&probe) || probe.status != WE_OK) break;
        }
    }
    return literal_node(p, runes, n);
}

static we_re_node *parse_sequence(parser *p)
{
    we_re_node *cat = node_new(p, WE_RE_CAT);
    if (!cat) return NULL;
    we_re_node **link = &cat->child;
    for (;;) {
        if (!skip_comments(p)) return NULL;
        if (at_end(p) || peek(p) == '|' || peek(p) == ')') return cat;
        we_re_node *atom = parse_special(p);
        if (p->status != WE_OK) return NULL;
        atom = atom ? parse_quantifiers(p, atom) : parse_literals(p);
        if (!atom) return NULL;
        *link = atom;
        link = &atom->next;
    }
}

static we_re_node *parse_alternatives(parser *p)
{
    if (++p->depth > WE_RE_MAX_DEPTH) return fail(p, WE_E_FORMAT, p->pos, "groups are nested too deeply");
    we_re_node *first = parse_sequence(p);
    if (first && peek(p) == '|') {
        we_re_node *alt = node_new(p, WE_RE_ALT);
        if (!alt) return NULL;
        alt->child = first;
        for (we_re_node **link = &first->next; peek(p) == '|';) {
            p->pos++;
            if (!(*link = parse_sequence(p))) return NULL;
            link = &(*link)->next;
        }
        first = alt;
    }
    p->depth--;
    return first;
}

we_status we_re_parse(we_arena *arena, we_str pattern, we_re_node **out, we_error *err)
{
    parser p = { .arena = arena, .pattern = pattern, .err = err };
    *out = NULL;
    if (we_utf8_valid(pattern) != pattern.len)
        return we_fail(err, WE_E_FORMAT, "regular expression: the pattern is not UTF-8");
    if (pattern.len > 100000)
        return we_fail(err, WE_E_FORMAT, "regular expression: the pattern is longer than 100,000 bytes");
    we_re_node *root = parse_alternatives(&p);
    if (root && !at_end(&p)) fail(&p, WE_E_FORMAT, p.pos, ") without (");
    if (p.status == WE_OK) *out = root;
    return p.status;
}
