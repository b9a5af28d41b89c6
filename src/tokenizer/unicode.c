/* SPDX-License-Identifier: Apache-2.0
 * unicode.c - look-ups in the generated tables, grapheme clusters (UAX 29) and normal forms (UAX 15).
 *
 * Normal forms: decomposition, combining classes and composition of single pairs are utf8proc's; the order of marks and the
 * walk along the text are ours, since utf8proc sorts marks by insertion, which takes hours on a megabyte of them.
 * Characters that Unicode 9 did not have yet pass as they are, as in the reference. */
#include "tokenizer/unicode.h"

#include <utf8proc.h>

/* ---- Look-ups ---- */

const we_uni_set *we_uni_set_find(we_str name)
{
    char key[64];
    size_t n = 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '_' || c == '-' || c == ' ') continue;
        if (n + 1 >= sizeof(key)) return NULL;
        key[n++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    key[n] = 0;
    if (memchr(key, 0, n)) return NULL;
    size_t lo = 0, hi = we_uni_n_sets;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(we_uni_sets[mid].name, key);
        if (order == 0) return &we_uni_sets[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static uint32_t mapped(const we_uni_case_run *runs, size_t n, uint32_t rune)
{
    size_t lo = 0, hi = n;
    while (lo < hi) { /* the first that does not end before it */
        size_t mid = (lo + hi) / 2;
        if (runs[mid].last < rune)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == n || rune < runs[lo].first || (rune - runs[lo].first) % runs[lo].step) return rune;
    return rune + (uint32_t)runs[lo].difference;
}

uint32_t we_uni_to_lower(uint32_t rune)
{
    if (rune < 0x80) return rune >= 'A' && rune <= 'Z' ? rune + 32 : rune;
    return mapped(we_uni_lower, we_uni_n_lower, rune);
}

uint32_t we_uni_to_fold(uint32_t rune)
{
    if (rune < 0x80) return rune >= 'A' && rune <= 'Z' ? rune + 32 : rune;
    return mapped(we_uni_fold, we_uni_n_fold, rune);
}

/* ---- Grapheme clusters ---- */

enum {
    GCB_OTHER,
    GCB_CR,
    GCB_LF,
    GCB_CONTROL,
    GCB_EXTEND,
    GCB_ZWJ,
    GCB_RI,
    GCB_PREPEND,
    GCB_SPACING,
    GCB_L,
    GCB_V,
    GCB_T,
    GCB_LV,
    GCB_LVT
};
#define GCB_CLASS 0x0F
#define GCB_PICTOGRAPHIC 0x10
#define GCB_CONJUNCT 0x60 /* Indic_Conjunct_Break, three values */
#define INCB_CONSONANT 0x20
#define INCB_EXTEND 0x40
#define INCB_LINKER 0x60

static unsigned grapheme_class(uint32_t rune) { return we_uni_kind_of(rune)->grapheme; }

size_t we_uni_grapheme_end(we_str text, size_t start)
{
    size_t i = start;
    unsigned left = grapheme_class(we_utf8_next(text, &i));
    bool after_pictographic = left & GCB_PICTOGRAPHIC;              /* GB11: ExtPict Extend* */
    bool after_consonant = (left & GCB_CONJUNCT) == INCB_CONSONANT; /* GB9c: Consonant [Extend Linker]* */
    bool linked = false;                                            /* ... with a Linker among them */
    bool odd_flags = (left & GCB_CLASS) == GCB_RI;                  /* GB12: an odd number of regional indicators */
    while (i < text.len) {
        size_t at = i;
        unsigned right = grapheme_class(we_utf8_next(text, &i));
        unsigned l = left & GCB_CLASS, r = right & GCB_CLASS, conjunct = right & GCB_CONJUNCT;
        bool joins = false;
        if (l == GCB_CR)
            joins = r == GCB_LF; /* GB3 */
        else if (l == GCB_LF || l == GCB_CONTROL || r == GCB_CR || r == GCB_LF || r == GCB_CONTROL)
            joins = false; /* GB4, GB5 */
        else if (l == GCB_L && (r == GCB_L || r == GCB_V || r == GCB_LV || r == GCB_LVT))
            joins = true; /* GB6 */
        else if ((l == GCB_LV || l == GCB_V) && (r == GCB_V || r == GCB_T))
            joins = true; /* GB7 */
        else if ((l == GCB_LVT || l == GCB_T) && r == GCB_T)
            joins = true; /* GB8 */
        else if (r == GCB_EXTEND || r == GCB_ZWJ || r == GCB_SPACING || l == GCB_PREPEND)
            joins = true; /* GB9, GB9a, GB9b */
        else if (after_consonant && linked && conjunct == INCB_CONSONANT)
            joins = true; /* GB9c */
        else if (l == GCB_ZWJ && after_pictographic && (right & GCB_PICTOGRAPHIC))
            joins = true; /* GB11 */
        else if (r == GCB_RI && odd_flags)
            joins = true; /* GB12, GB13 */
        if (!joins) return at;

        if (right & GCB_PICTOGRAPHIC)
            after_pictographic = true;
        else if (r != GCB_EXTEND && r != GCB_ZWJ)
            after_pictographic = false;
        if (conjunct == INCB_CONSONANT)
            after_consonant = true, linked = false;
        else if (conjunct == INCB_LINKER)
            linked = true;
        else if (conjunct != INCB_EXTEND)
            after_consonant = false;
        odd_flags = r == GCB_RI && !odd_flags;
        left = right;
    }
    return text.len;
}

/* ---- Normal forms ---- */

static const uint16_t loose_flag[] = { WE_UNI_LOOSE_NFC, WE_UNI_LOOSE_NFD, WE_UNI_LOOSE_NFKC, WE_UNI_LOOSE_NFKD };

/* Where the first character that is not its own normal form, or may change its neighbour, begins; text.len: none. */
static size_t find_loose(we_uni_form form, we_str text, size_t start)
{
    size_t i = start;
    while (i < text.len) {
        if ((unsigned char)text.ptr[i] < 0x80) { /* ASCII never is */
            i++;
            continue;
        }
        size_t at = i;
        if (we_uni_flags(we_utf8_next(text, &i)) & loose_flag[form]) return at;
    }
    return text.len;
}

bool we_uni_is_normal(we_uni_form form, we_str text) { return find_loose(form, text, 0) == text.len; }

typedef struct span { /* a stretch between characters that change nothing around them */
    uint32_t *runes;
    uint8_t *classes; /* canonical combining classes */
    size_t n, capacity;
} span;

static bool span_push(span *s, uint32_t rune)
{
    if (s->n == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 64;
        uint32_t *runes = we_realloc_array(s->runes, capacity, sizeof(*runes));
        if (!runes) return false;
        s->runes = runes;
        uint8_t *classes = we_realloc_array(s->classes, capacity, 1);
        if (!classes) return false;
        s->classes = classes;
        s->capacity = capacity;
    }
    bool known = we_uni_flags(rune) & WE_UNI_NORMALIZES;
    s->runes[s->n] = rune;
    s->classes[s->n++] = known ? (uint8_t)utf8proc_get_property((utf8proc_int32_t)rune)->combining_class : 0;
    return true;
}

static bool span_decompose(span *s, we_uni_form form, we_str text)
{
    utf8proc_option_t options = UTF8PROC_DECOMPOSE;
    if (form == WE_UNI_NFKC || form == WE_UNI_NFKD) options |= UTF8PROC_COMPAT;
    for (size_t i = 0; i < text.len;) {
        uint32_t rune = we_utf8_next(text, &i);
        if (!(we_uni_flags(rune) & WE_UNI_NORMALIZES)) {
            if (!span_push(s, rune)) return false;
            continue;
        }
        utf8proc_int32_t parts[32]; /* the longest, U+FDFA, has 18 */
        int boundclass = 0;
        utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)rune, parts, WE_COUNT(parts), options, &boundclass);
        if (n < 0 || n > (utf8proc_ssize_t)WE_COUNT(parts)) parts[0] = (utf8proc_int32_t)rune, n = 1;
        for (utf8proc_ssize_t k = 0; k < n; k++)
            if (!span_push(s, (uint32_t)parts[k])) return false;
    }
    return true;
}

/* Canonical order: marks between two starters, stably by class. A short run by insertion, a long one by counting. */
static bool span_order(span *s)
{
    for (size_t start = 0; start < s->n;) {
        if (s->classes[start] == 0) {
            start++;
            continue;
        }
        size_t end = start;
        while (end < s->n && s->classes[end] != 0) end++;
        size_t n = end - start;
        uint32_t *runes = s->runes + start;
        uint8_t *classes = s->classes + start;
        if (n <= 32) {
            for (size_t i = 1; i < n; i++)
                for (size_t k = i; k > 0 && classes[k - 1] > classes[k]; k--) {
                    uint32_t rune = runes[k];
                    runes[k] = runes[k - 1], runes[k - 1] = rune;
                    uint8_t class = classes[k];
                    classes[k] = classes[k - 1], classes[k - 1] = class;
                }
        } else {
            size_t at[257] = { 0 };
            uint32_t *sorted = we_malloc(n * sizeof(*sorted));
            if (!sorted) return false;
            for (size_t i = 0; i < n; i++) at[classes[i] + 1]++;
            for (size_t c = 1; c < 257; c++) at[c] += at[c - 1];
            size_t first[256];
            memcpy(first, at, sizeof(first));
            for (size_t i = 0; i < n; i++) sorted[at[classes[i]]++] = runes[i];
            memcpy(runes, sorted, n * sizeof(*sorted));
            for (unsigned c = 0; c < 256; c++) memset(classes + first[c], (int)c, at[c] - first[c]);
            we_free(sorted);
        }
        start = end;
    }
    return true;
}

/* The composite of a pair, 0: none. Both are known to Unicode 9; so then is their composite (stability policy). */
static uint32_t compose_pair(uint32_t a, uint32_t b)
{
    utf8proc_int32_t pair[2] = { (utf8proc_int32_t)a, (utf8proc_int32_t)b };
    if (!(we_uni_flags(a) & we_uni_flags(b) & WE_UNI_NORMALIZES)) return 0;
    return utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE) == 1 ? (uint32_t)pair[0] : 0;
}

static void span_compose(span *s)
{
    size_t n = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < s->n; i++) {
        uint32_t rune = s->runes[i];
        uint8_t class = s->classes[i];
        if (starter != SIZE_MAX) {
            bool adjacent = starter + 1 == n;
            bool blocked = !adjacent && (s->classes[n - 1] >= class || s->classes[n - 1] == 0);
            uint32_t composite = blocked ? 0 : compose_pair(s->runes[starter], rune);
            if (composite) {
                s->runes[starter] = composite;
                continue;
            }
        }
        if (class == 0) starter = n;
        s->runes[n] = rune;
        s->classes[n++] = class;
    }
    s->n = n;
}

we_status we_uni_normalize(we_uni_form form, we_str text, we_buf *out, we_error *err)
{
    bool composes = form == WE_UNI_NFC || form == WE_UNI_NFKC;
    span s = { 0 };
    size_t done = 0;
    bool ok = we_buf_reserve(out, text.len);
    while (ok && done < text.len) {
        size_t loose = find_loose(form, text, done);
        if (loose == text.len) break;
        size_t from = loose; /* what stands before may compose with it */
        if (composes && from > done) do
                from--;
            while (from > done && (text.ptr[from] & 0xC0) == 0x80);
        size_t to = loose;
        while (to < text.len) {
            size_t next = to;
            if (!(we_uni_flags(we_utf8_next(text, &next)) & loose_flag[form])) break;
            to = next;
        }
        we_buf_append(out, text.ptr + done, from - done);
        s.n = 0;
        ok = span_decompose(&s, form, (we_str){ text.ptr + from, to - from }) && span_order(&s);
        if (!ok) break;
        if (composes) span_compose(&s);
        for (size_t i = 0; i < s.n; i++) we_buf_append_rune(out, s.runes[i]);
        done = to;
    }
    if (ok) we_buf_append(out, text.ptr + done, text.len - done);
    we_free(s.runes);
    we_free(s.classes);
    return ok && !out->failed ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory to normalize %zu bytes of text", text.len);
}
