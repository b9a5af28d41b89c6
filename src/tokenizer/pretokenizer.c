/* SPDX-License-Identifier: Apache-2.0
 * pretokenizer.c - the pre-tokenizers, one row each: a stretch of text becomes pieces, for the model to work on one at a time.
 * Most only cut; ByteLevel and Metaspace write the text anew. The byte alphabet of a ByteLevel that stands last is left to
 * the model, which has a faster way (we_pieces.byte_level). */
#include "tokenizer/tokenizer_int.h"

typedef struct pretokenizer_kind {
    we_part_kind head;
    void (*run)(const we_part *part, we_pieces *p);
    bool makes_words; /* pieces are short as a rule */
} pretokenizer_kind;

/* ---- Pieces ---- */

static void push_piece(we_pieces *p, size_t start, size_t end)
{
    if (start >= end) return;
    if (p->n_next == p->next_capacity) {
        size_t capacity = p->next_capacity ? p->next_capacity * 2 : 64;
        we_piece *grown = we_realloc_array(p->next, capacity, sizeof(*grown));
        if (!grown) {
            p->failed = true;
            return;
        }
        p->next = grown;
        p->next_capacity = capacity;
    }
    p->next[p->n_next++] = (we_piece){ (uint32_t)start, (uint32_t)end };
}

/* What was pushed becomes the list. */
static void take_next(we_pieces *p)
{
    we_piece *pieces = p->pieces;
    size_t capacity = p->capacity;
    p->pieces = p->next, p->capacity = p->next_capacity, p->n = p->n_next;
    p->next = pieces, p->next_capacity = capacity, p->n_next = 0;
}

void we_pieces_deinit(we_pieces *p)
{
    we_buf_deinit(&p->bufs[0]);
    we_buf_deinit(&p->bufs[1]);
    we_free(p->pieces);
    we_free(p->next);
    *p = (we_pieces){ 0 };
}

/* ---- Cutting by matches ---- */

/* Takes the matches of a piece and what lies between them, in order and without gaps, and pushes pieces by the behavior. */
typedef struct cutter {
    we_pieces *p;
    we_piece whole;
    we_split_behavior behavior;
    bool invert;
    size_t from, start, end; /* from: the first byte not seen; [start, end): the piece that may still grow */
    bool pending, previous_match;
} cutter;

static void cutter_push(cutter *c)
{
    if (c->pending) push_piece(c->p, c->start, c->end);
    c->pending = false;
}

static void cutter_begin(cutter *c, size_t start, size_t end)
{
    cutter_push(c);
    c->start = start;
    c->end = end;
    c->pending = true;
}

static void cutter_part(cutter *c, size_t start, size_t end, bool match)
{
    match ^= c->invert;
    switch (c->behavior) {
    case WE_SPLIT_REMOVED:
        if (!match) cutter_begin(c, start, end);
        break;
    case WE_SPLIT_ISOLATED: cutter_begin(c, start, end); break;
    case WE_SPLIT_CONTIGUOUS:
        if (match == c->previous_match && c->pending)
            c->end = end;
        else
            cutter_begin(c, start, end);
        break;
    case WE_SPLIT_MERGED_WITH_PREVIOUS:
        if (match && !c->previous_match && c->pending)
            c->end = end;
        else
            cutter_begin(c, start, end);
        break;
    case WE_SPLIT_MERGED_WITH_NEXT: /* a match waits for what follows; a second match leaves it alone */
        if (!match && c->previous_match && c->pending)
            c->end = end;
        else
            cutter_begin(c, start, end);
        break;
    }
    c->previous_match = match;
}

static cutter cutter_of(we_pieces *p, we_piece piece, we_split_behavior behavior, bool invert)
{
    return (cutter){ .p = p, .whole = piece, .behavior = behavior, .invert = invert, .from = piece.start };
}

static void cutter_match(cutter *c, size_t start, size_t end)
{
    if (c->from != start) cutter_part(c, c->from, start, false);
    cutter_part(c, start, end, true);
    c->from = end;
}

static void cutter_end(cutter *c)
{
    if (c->from != c->whole.end) cutter_part(c, c->from, c->whole.end, false);
    cutter_push(c);
}

/* Cut every piece at its characters that have one of these flags, or are this character. */
static void cut_at_chars(we_pieces *p, unsigned flags, uint32_t delimiter, we_split_behavior behavior)
{
    for (size_t k = 0; k < p->n; k++) {
        cutter c = cutter_of(p, p->pieces[k], behavior, false);
        we_str text = { p->text.ptr, p->pieces[k].end };
        for (size_t i = p->pieces[k].start; i < text.len;) {
            size_t at = i;
            uint32_t rune = we_utf8_next(text, &i);
            if ((we_uni_flags(rune) & flags) || rune == delimiter) cutter_match(&c, at, i);
        }
        cutter_end(&c);
    }
    take_next(p);
}

static void run_split(const we_part *part, we_pieces *p)
{
    for (size_t k = 0; k < p->n && !p->failed; k++) {
        we_piece piece = p->pieces[k];
        cutter c = cutter_of(p, piece, part->behavior, part->invert);
        we_part_scan scan;
        size_t start, end;
        we_part_scan_init(&scan, part, (we_str){ p->text.ptr + piece.start, piece.end - piece.start });
        while (we_part_scan_next(&scan, &start, &end)) cutter_match(&c, piece.start + start, piece.start + end);
        cutter_end(&c);
        if (we_part_scan_deinit(&scan, NULL)) p->failed = true;
    }
    take_next(p);
}

static we_status parse_behavior(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    we_str name = { 0 };
    we_status st = we_tok_get_str(tok, json, "behavior", where, false, &name, err);
    if (st || !name.ptr) return st;
    for (size_t i = 0; i < WE_COUNT(names); i++)
        if (we_str_is(name, names[i])) {
            part->behavior = (we_split_behavior)i;
            return WE_OK;
        }
    return we_fail(err, WE_E_UNSUPPORTED, "%s.behavior: unknown behavior \"%.*s\"", where, (int)WE_MIN(name.len, 60),
                   name.ptr);
}

static we_status parse_split(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    part->behavior = WE_SPLIT_ISOLATED;
    we_status st = we_tok_get_pattern(tok, json, where, part, err);
    if (!st) st = parse_behavior(tok, part, json, where, err);
    return st ? st : we_tok_get_bool(json, "invert", where, &part->invert, err);
}

/* ---- White space, punctuation, digits, delimiters ---- */

static void run_whitespace_split(const we_part *part, we_pieces *p)
{
    (void)part;
    cut_at_chars(p, WE_UNI_SPACE, WE_RUNE_INVALID, WE_SPLIT_REMOVED);
}

static void run_bert(const we_part *part, we_pieces *p)
{
    (void)part;
    cut_at_chars(p, WE_UNI_SPACE, WE_RUNE_INVALID, WE_SPLIT_REMOVED);
    cut_at_chars(p, WE_UNI_PUNCT, WE_RUNE_INVALID, WE_SPLIT_ISOLATED);
}

static void run_punctuation(const we_part *part, we_pieces *p)
{
    cut_at_chars(p, WE_UNI_PUNCT, WE_RUNE_INVALID, part->behavior);
}

static we_status parse_punctuation(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    part->behavior = WE_SPLIT_ISOLATED;
    return parse_behavior(tok, part, json, where, err);
}

static void run_digits(const we_part *part, we_pieces *p)
{
    cut_at_chars(p, WE_UNI_NUMERIC, WE_RUNE_INVALID, part->individual_digits ? WE_SPLIT_ISOLATED : WE_SPLIT_CONTIGUOUS);
}

static we_status parse_digits(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    (void)tok;
    return we_tok_get_bool(json, "individual_digits", where, &part->individual_digits, err);
}

static void run_char_delimiter(const we_part *part, we_pieces *p) { cut_at_chars(p, 0, part->rune, WE_SPLIT_REMOVED); }

static we_status parse_char_delimiter(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    (void)tok;
    part->rune = WE_RUNE_INVALID;
    we_status st = we_tok_get_rune(json, "delimiter", where, &part->rune, err);
    if (!st && part->rune == WE_RUNE_INVALID)
        return we_fail(err, WE_E_FORMAT, "%s.delimiter is missing, expected one character", where);
    return st;
}

/* \w+|[^\w\s]+ : runs of word characters and runs of anything else but white space. */
static void run_whitespace(const we_part *part, we_pieces *p)
{
    (void)part;
    for (size_t k = 0; k < p->n; k++) {
        we_piece piece = p->pieces[k];
        we_str text = { p->text.ptr, piece.end };
        size_t start = piece.start;
        int run = 0; /* 1: word, 2: other */
        for (size_t i = piece.start; i < text.len;) {
            size_t at = i;
            unsigned flags = we_uni_flags(we_utf8_next(text, &i));
            int kind = flags & WE_UNI_WORD ? 1 : flags & WE_UNI_SPACE ? 0 : 2;
            if (kind == run) continue;
            if (run) push_piece(p, start, at);
            run = kind;
            start = at;
        }
        if (run) push_piece(p, start, piece.end);
    }
    take_next(p);
}

static void run_fixed_length(const we_part *part, we_pieces *p)
{
    for (size_t k = 0; k < p->n; k++) {
        we_piece piece = p->pieces[k];
        we_str text = { p->text.ptr, piece.end };
        for (size_t i = piece.start; i < text.len;) {
            size_t at = i;
            for (size_t n = 0; n < part->start && i < text.len; n++) we_utf8_next(text, &i);
            push_piece(p, at, i);
        }
    }
    take_next(p);
}

static we_status parse_fixed_length(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    (void)tok;
    part->start = 5;
    we_status st = we_tok_get_size(json, "length", where, &part->start, err);
    return !st && part->start == 0 ? we_fail(err, WE_E_FORMAT, "%s.length is 0, expected at least 1", where) : st;
}

/* Cut where the script changes. As in the reference, a begin without a script (a space) is lost. */
static void run_unicode_scripts(const we_part *part, we_pieces *p)
{
    (void)part;
    for (size_t k = 0; k < p->n; k++) {
        we_piece piece = p->pieces[k];
        we_str text = { p->text.ptr, piece.end };
        unsigned last = 0;
        size_t start = piece.end;
        for (size_t i = piece.start; i < text.len;) {
            size_t at = i;
            unsigned script = we_uni_kind_of(we_utf8_next(text, &i))->script;
            if (!script || script == last) continue;
            if (start < at) push_piece(p, start, at);
            start = at;
            last = script;
        }
        push_piece(p, start, piece.end);
    }
    take_next(p);
}

/* ---- Those that write the text anew ---- */

static we_buf *begin_text(we_pieces *p)
{
    we_buf *buf = &p->bufs[p->current];
    we_buf_clear(buf);
    we_buf_reserve(buf, p->text.len + p->text.len / 8 + 16);
    return buf;
}

/* The text is written. n_first: of it. */
static void end_text(we_pieces *p, we_buf *buf, size_t n_first)
{
    p->n_first = n_first;
    if (buf->failed || buf->len > p->limit) {
        p->too_long = !buf->failed;
        p->failed = true;
        return;
    }
    p->text = we_buf_str(buf);
    p->current ^= 1;
    take_next(p);
}

/* Each piece's own text, with `prefix` before those that want it, and `from` written as `to`. */
static void run_metaspace(const we_part *part, we_pieces *p)
{
    char replacement[4];
    size_t n = (size_t)we_utf8_encode(part->rune, replacement);
    we_buf *buf = begin_text(p);
    size_t n_first = 0;
    for (size_t k = 0; k < p->n && !buf->failed; k++) {
        we_piece piece = p->pieces[k];
        we_str text = { p->text.ptr + piece.start, piece.end - piece.start };
        size_t start = buf->len;
        bool has = text.ptr[0] == ' ' || we_str_starts_with(text, (we_str){ replacement, n });
        bool at_start = piece.start < p->n_first;
        if (!has && (part->scheme == WE_PREPEND_ALWAYS || (part->scheme == WE_PREPEND_FIRST && at_start)))
            we_buf_append(buf, replacement, n);
        if (at_start) {
            n_first = buf->len;
            for (size_t i = piece.start; i < WE_MIN(p->n_first, piece.end); i++)
                n_first += p->text.ptr[i] == ' ' ? n : 1;
        }
        while (text.len) {
            const char *space = memchr(text.ptr, ' ', text.len);
            size_t before = space ? (size_t)(space - text.ptr) : text.len;
            we_buf_append(buf, text.ptr, before);
            if (!space) break;
            we_buf_append(buf, replacement, n);
            text = (we_str){ space + 1, text.len - before - 1 };
        }
        push_piece(p, start, buf->len);
    }
    end_text(p, buf, n_first);
    if (part->individual_digits) /* `split` */
        cut_at_chars(p, 0, part->rune, WE_SPLIT_MERGED_WITH_NEXT);
}

static we_status parse_metaspace(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    static const char *const schemes[] = { "always", "first", "never" };
    we_str scheme = { 0 };
    bool add_prefix_space = true;
    we_status st;
    part->rune = 0x2581;
    part->individual_digits = true;
    if ((st = we_tok_get_rune(json, "replacement", where, &part->rune, err)) ||
        (st = we_tok_get_bool(json, "split", where, &part->individual_digits, err)) ||
        (st = we_tok_get_bool(json, "add_prefix_space", where, &add_prefix_space, err)) ||
        (st = we_tok_get_str(tok, json, "prepend_scheme", where, false, &scheme, err)))
        return st;
    part->scheme = add_prefix_space ? WE_PREPEND_ALWAYS : WE_PREPEND_NEVER;
    if (!scheme.ptr) return WE_OK;
    for (size_t i = 0; i < WE_COUNT(schemes); i++)
        if (we_str_is(scheme, schemes[i])) {
            part->scheme = (we_prepend_scheme)i;
            tok->first_matters |= part->scheme == WE_PREPEND_FIRST;
            return WE_OK;
        }
    return we_fail(err, WE_E_UNSUPPORTED, "%s.prepend_scheme: unknown scheme \"%.*s\"", where,
                   (int)WE_MIN(scheme.len, 60), scheme.ptr);
}

static void run_byte_level(const we_part *part, we_pieces *p)
{
    bool prefix = false;
    for (size_t k = 0; part->add_prefix_space && k < p->n; k++) prefix |= p->text.ptr[p->pieces[k].start] != ' ';
    if (prefix) {
        we_buf *buf = begin_text(p);
        size_t n_first = 0;
        for (size_t k = 0; k < p->n; k++) {
            we_piece piece = p->pieces[k];
            size_t start = buf->len;
            if (p->text.ptr[piece.start] != ' ') we_buf_append_char(buf, ' ');
            if (piece.start < p->n_first) n_first = buf->len + WE_MIN(p->n_first, piece.end) - piece.start;
            we_buf_append(buf, p->text.ptr + piece.start, piece.end - piece.start);
            push_piece(p, start, buf->len);
        }
        end_text(p, buf, n_first);
    }
    if (part->use_regex && !p->failed) run_split(part, p);
    p->byte_level = true;
}

/* The byte alphabet, for components that follow. */
static void write_byte_level(we_pieces *p)
{
    we_buf *buf = begin_text(p);
    size_t n_first = 0;
    for (size_t k = 0; k < p->n && !buf->failed; k++) {
        we_piece piece = p->pieces[k];
        const size_t start = buf->len, first = WE_MIN(WE_MAX(p->n_first, piece.start), piece.end);
        we_byte_level_append(buf, (we_str){ p->text.ptr + piece.start, first - piece.start });
        if (first > piece.start) n_first = buf->len;
        we_byte_level_append(buf, (we_str){ p->text.ptr + first, piece.end - first });
        push_piece(p, start, buf->len);
    }
    end_text(p, buf, n_first);
    p->byte_level = false;
}

static we_status parse_byte_level(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    (void)tok;
    part->use_regex = part->add_prefix_space = true;
    part->behavior = WE_SPLIT_ISOLATED;
    we_status st = we_tok_get_bool(json, "add_prefix_space", where, &part->add_prefix_space, err);
    if (!st) st = we_tok_get_bool(json, "use_regex", where, &part->use_regex, err);
    return !st && part->use_regex ? we_regex_compile(&part->regex, we_str_from(gpt2), err) : st;
}

/* ---- Table ---- */

static const pretokenizer_kind pretokenizers[] = {
    { { "ByteLevel", parse_byte_level }, run_byte_level, true },
    { { "Split", parse_split }, run_split, true },
    { { "Metaspace", parse_metaspace }, run_metaspace, false },
    { { "Whitespace", NULL }, run_whitespace, true },
    { { "WhitespaceSplit", NULL }, run_whitespace_split, true },
    { { "Punctuation", parse_punctuation }, run_punctuation, false },
    { { "Digits", parse_digits }, run_digits, false },
    { { "BertPreTokenizer", NULL }, run_bert, true },
    { { "CharDelimiterSplit", parse_char_delimiter }, run_char_delimiter, false },
    { { "Delimiter", parse_char_delimiter }, run_char_delimiter, false },
    { { "UnicodeScripts", NULL }, run_unicode_scripts, false },
    { { "FixedLength", parse_fixed_length }, run_fixed_length, true },
};

we_status we_tok_parse_pretokenizers(we_tok *tok, const we_json *json, we_error *err)
{
    return we_tok_parse_stage(tok, &tok->pretokenizers, json, "pre_tokenizer", "pretokenizers", pretokenizers,
                              WE_COUNT(pretokenizers), sizeof(*pretokenizers), err);
}

bool we_tok_is_split_into_words(const we_tok *tok)
{
    for (size_t i = 0; i < tok->pretokenizers.n; i++) {
        const we_part *part = &tok->pretokenizers.parts[i];
        const pretokenizer_kind *kind = part->kind;
        if (kind->run == run_byte_level ? part->use_regex : kind->makes_words && !part->is_literal) return true;
    }
    return false;
}

we_status we_tok_pretokenize(const we_tok *tok, we_pieces *p, we_str text, size_t n_first, we_error *err)
{
    p->text = text;
    p->n_first = n_first;
    p->n = p->n_next = 0;
    p->byte_level = p->failed = p->too_long = false;
    p->limit = WE_MIN(WE_TOK_MAX_GROWN(text.len), WE_TOK_MAX_BYTES);
    push_piece(p, 0, text.len);
    take_next(p);
    for (size_t i = 0; i < tok->pretokenizers.n && !p->failed; i++) {
        if (p->byte_level) write_byte_level(p);
        const we_part *part = &tok->pretokenizers.parts[i];
        if (!p->failed) ((const pretokenizer_kind *)part->kind)->run(part, p);
    }
    if (p->too_long) return we_fail(err, WE_E_RANGE, "the tokenizer's pre-tokenizers make the text too long");
    return p->failed ? we_fail(err, WE_E_NOMEM, "no memory for %zu bytes of text in pieces", text.len) : WE_OK;
}
