/* SPDX-License-Identifier: Apache-2.0
 * normalizer.c - the normalizers, one row each: text in, text out. Valid UTF-8 stays valid.
 * Not here: the characters' facts and normal forms (unicode.c), SentencePiece's maps (precompiled.c). */
#include "tokenizer/tokenizer_int.h"

typedef struct normalizer_kind {
    we_part_kind head;
    /* Write the result to out (empty before). NULL form: see `form`. */
    we_status (*run)(const we_part *part, we_str in, we_buf *out, we_error *err);
    /* What *n, the bytes of `in` that stand for the text's first character, are in `out`; NULL: what comes of these alone. */
    we_status (*first)(const we_part *part, we_str in, we_str out, size_t *n, we_error *err);
} normalizer_kind;

static we_status done(we_buf *out, we_error *err) { return we_buf_status(out, err, "normalized text"); }

/* ---- Normal forms ---- */

static we_status run_nfc(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    return we_uni_normalize(WE_UNI_NFC, in, out, err);
}
static we_status run_nfd(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    return we_uni_normalize(WE_UNI_NFD, in, out, err);
}
static we_status run_nfkc(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    return we_uni_normalize(WE_UNI_NFKC, in, out, err);
}
static we_status run_nfkd(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    return we_uni_normalize(WE_UNI_NFKD, in, out, err);
}

/* ---- Character by character ---- */

static void append_lower(we_buf *out, uint32_t rune)
{
    if (rune == 0x130) /* the only one that becomes two: i and a dot above */
        we_buf_append(out, "i\xCC\x87", 3);
    else
        we_buf_append_rune(out, we_uni_to_lower(rune));
}

static we_status run_lowercase(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    for (size_t i = 0; i < in.len;) append_lower(out, we_utf8_next(in, &i));
    return done(out, err);
}

/* Keep what has none of these flags. */
static we_status drop(we_str in, unsigned flags, we_buf *out, we_error *err)
{
    for (size_t i = 0; i < in.len;) {
        size_t at = i;
        if (!(we_uni_flags(we_utf8_next(in, &i)) & flags)) we_buf_append(out, in.ptr + at, i - at);
    }
    return done(out, err);
}

static we_status run_strip_accents(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    return drop(in, WE_UNI_MARK, out, err);
}

static bool nmt_drops(uint32_t c)
{
    return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
}
static bool nmt_is_space(uint32_t c)
{
    return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
           c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
}

static we_status run_nmt(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    for (size_t i = 0; i < in.len;) {
        uint32_t rune = we_utf8_next(in, &i);
        if (!nmt_drops(rune)) we_buf_append_rune(out, nmt_is_space(rune) ? ' ' : rune);
    }
    return done(out, err);
}

static we_status run_strip(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    size_t start = 0, end = in.len;
    while (part->left && start < end) {
        size_t next = start;
        if (!(we_uni_flags(we_utf8_next(in, &next)) & WE_UNI_SPACE)) break;
        start = next;
    }
    while (part->right && end > start) {
        size_t last = end - 1;
        while (last > start && (in.ptr[last] & 0xC0) == 0x80) last--;
        size_t next = last;
        if (!(we_uni_flags(we_utf8_next(in, &next)) & WE_UNI_SPACE)) break;
        end = last;
    }
    we_buf_append(out, in.ptr + start, end - start);
    return done(out, err);
}

/* ---- BertNormalizer ---- */

static bool is_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* Cleaning and ideographs: one walk. */
static we_status bert_clean(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    for (size_t i = 0; i < in.len;) {
        uint32_t rune = we_utf8_next(in, &i);
        if (part->clean_text) {
            bool blank = rune == '\t' || rune == '\n' || rune == '\r';
            if (rune == 0 || rune == 0xFFFD || (!blank && (we_uni_flags(rune) & WE_UNI_BERT_CONTROL))) continue;
            if (blank || (we_uni_flags(rune) & WE_UNI_SPACE)) rune = ' ';
        }
        bool apart = part->handle_chinese_chars && is_ideograph(rune);
        if (apart) we_buf_append_char(out, ' ');
        we_buf_append_rune(out, rune);
        if (apart) we_buf_append_char(out, ' ');
    }
    return done(out, err);
}

static we_status run_bert(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    we_buf a = { 0 }, b = { 0 };
    we_status st = bert_clean(part, in, &a, err);
    if (!st && part->strip_accents) {
        st = we_uni_normalize(WE_UNI_NFD, we_buf_str(&a), &b, err);
        we_buf_clear(&a);
        if (!st) st = drop(we_buf_str(&b), WE_UNI_MARK_NONSPACING, &a, err);
    }
    if (!st && part->lowercase)
        st = run_lowercase(part, we_buf_str(&a), out, err);
    else if (!st)
        we_buf_append_str(out, we_buf_str(&a));
    we_buf_deinit(&a);
    we_buf_deinit(&b);
    return st ? st : done(out, err);
}

static we_status parse_bert(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    (void)tok;
    we_status st;
    part->clean_text = part->handle_chinese_chars = part->lowercase = true;
    if ((st = we_tok_get_bool(json, "clean_text", where, &part->clean_text, err)) ||
        (st = we_tok_get_bool(json, "handle_chinese_chars", where, &part->handle_chinese_chars, err)) ||
        (st = we_tok_get_bool(json, "lowercase", where, &part->lowercase, err)))
        return st;
    part->strip_accents = part->lowercase; /* null follows lowercase */
    return we_tok_get_bool(json, "strip_accents", where, &part->strip_accents, err);
}

/* ---- Replace, Prepend, ByteLevel, Strip ---- */

static we_status run_replace(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    we_part_scan scan;
    size_t start, end, from = 0;
    we_part_scan_init(&scan, part, in);
    while (we_part_scan_next(&scan, &start, &end)) {
        we_buf_append(out, in.ptr + from, start - from);
        we_buf_append_str(out, part->text);
        from = end;
        if (out->len > WE_TOK_MAX_GROWN(in.len)) break; /* the caller says so */
    }
    we_buf_append(out, in.ptr + from, in.len - from);
    we_status st = we_part_scan_deinit(&scan, err);
    return st ? st : done(out, err);
}

static we_status parse_replace(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    we_status st = we_tok_get_pattern(tok, json, where, part, err);
    return st ? st : we_tok_get_str(tok, json, "content", where, true, &part->text, err);
}

static we_status run_prepend(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    if (in.len) we_buf_append_str(out, part->text);
    we_buf_append_str(out, in);
    return done(out, err);
}

static we_status parse_prepend(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    return we_tok_get_str(tok, json, "prepend", where, true, &part->text, err);
}

static we_status run_byte_level(const we_part *part, we_str in, we_buf *out, we_error *err)
{
    (void)part;
    we_byte_level_append(out, in);
    return done(out, err);
}

static we_status parse_strip(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    (void)tok;
    we_status st = we_tok_get_bool(json, "strip_left", where, &part->left, err);
    return st ? st : we_tok_get_bool(json, "strip_right", where, &part->right, err);
}

/* ---- What becomes of the first character ---- */

/* A normal form may join it with what follows. */
static we_status first_of_form(const we_part *part, we_str in, we_str out, size_t *n, we_error *err)
{
    const normalizer_kind *kind = part->kind;
    we_buf alone = { 0 };
    we_status st = kind->run(part, (we_str){ in.ptr, *n }, &alone, err);
    if (!st && we_str_starts_with(out, we_buf_str(&alone))) {
        *n = alone.len;
    } else if (!st && out.len) {
        *n = 0;
        we_utf8_next(out, n);
    }
    we_buf_deinit(&alone);
    return st;
}

static we_status first_of_strip(const we_part *part, we_str in, we_str out, size_t *n, we_error *err)
{
    size_t cut = 0;
    (void)err;
    while (part->left && cut < in.len) {
        size_t next = cut;
        if (!(we_uni_flags(we_utf8_next(in, &next)) & WE_UNI_SPACE)) break;
        cut = next;
    }
    *n = WE_MIN(WE_MAX(*n, cut) - cut, out.len);
    return WE_OK;
}

static we_status first_of_prepend(const we_part *part, we_str in, we_str out, size_t *n, we_error *err)
{
    (void)in, (void)out, (void)err;
    *n += *n ? part->text.len : 0;
    return WE_OK;
}

/* New text stands for what the last byte that it replaces stands for; before the text it stands for its begin. */
static we_status first_of_replace(const we_part *part, we_str in, we_str out, size_t *n, we_error *err)
{
    we_part_scan scan;
    size_t start, end, from = 0, n_out = 0;
    (void)out;
    we_part_scan_init(&scan, part, in);
    while (we_part_scan_next(&scan, &start, &end)) {
        if (start >= *n && end > *n) break;
        n_out += start - from;
        from = end;
        if (end <= *n) n_out += part->text.len;
    }
    if (from < *n) n_out += *n - from;
    *n = n_out;
    return we_part_scan_deinit(&scan, err);
}

/* What it drops before anything is kept leaves its place to what follows. */
static we_status first_of_precompiled(const we_part *part, we_str in, we_str out, size_t *n, we_error *err)
{
    we_buf alone = { 0 };
    we_status st = we_precompiled_run(part, (we_str){ in.ptr, *n }, &alone, err);
    const bool dropped = *n && alone.len == 0 && out.len;
    *n = WE_MIN(alone.len, out.len);
    if (!st && dropped) we_utf8_next(out, n);
    we_buf_deinit(&alone);
    return st;
}

static we_status first_after(const we_part *part, we_str in, we_str out, size_t *n, we_error *err)
{
    const normalizer_kind *kind = part->kind;
    if (kind->first) return kind->first(part, in, out, n, err);
    we_buf alone = { 0 };
    we_status st = kind->run(part, (we_str){ in.ptr, *n }, &alone, err);
    *n = WE_MIN(alone.len, out.len);
    we_buf_deinit(&alone);
    return st;
}

/* ---- Table ---- */

static const normalizer_kind normalizers[] = {
    { { "NFC", NULL }, run_nfc, first_of_form },
    { { "NFD", NULL }, run_nfd, first_of_form },
    { { "NFKC", NULL }, run_nfkc, first_of_form },
    { { "NFKD", NULL }, run_nfkd, first_of_form },
    { { "Nmt", NULL }, run_nmt, NULL },
    { { "Lowercase", NULL }, run_lowercase, NULL },
    { { "Strip", parse_strip }, run_strip, first_of_strip },
    { { "StripAccents", NULL }, run_strip_accents, NULL },
    { { "Replace", parse_replace }, run_replace, first_of_replace },
    { { "Prepend", parse_prepend }, run_prepend, first_of_prepend },
    { { "BertNormalizer", parse_bert }, run_bert, NULL },
    { { "Precompiled", we_precompiled_parse }, we_precompiled_run, first_of_precompiled },
    { { "ByteLevel", NULL }, run_byte_level, NULL },
};

we_status we_tok_parse_normalizers(we_tok *tok, const we_json *json, we_error *err)
{
    return we_tok_parse_stage(tok, &tok->normalizers, json, "normalizer", "normalizers", normalizers,
                              WE_COUNT(normalizers), sizeof(*normalizers), err);
}

/* What surely leaves the text as it is needs no copy of it. */
static bool changes_nothing(const we_part *part, we_str text)
{
    const normalizer_kind *kind = part->kind;
    if (kind->run == run_nfc) return we_uni_is_normal(WE_UNI_NFC, text);
    if (kind->run == run_replace && part->is_literal && part->literal.len == 1)
        return !memchr(text.ptr, part->literal.ptr[0], text.len);
    return false;
}

we_status we_tok_normalize(const we_tok *tok, we_tok_work *work, we_str text, we_str *out, we_error *err)
{
    const size_t limit = WE_TOK_MAX_GROWN(text.len);
    int write = 0;
    for (size_t i = 0; i < tok->normalizers.n && text.len; i++) {
        const we_part *part = &tok->normalizers.parts[i];
        const normalizer_kind *kind = part->kind;
        if (changes_nothing(part, text)) continue;
        we_buf *buf = &work->normal[write];
        we_buf_clear(buf);
        we_status st = kind->run(part, text, buf, err);
        if (st) return st;
        if (tok->first_matters && work->at_start) st = first_after(part, text, we_buf_str(buf), &work->n_first, err);
        if (st) return st;
        text = we_buf_str(buf);
        write ^= 1;
        if (text.len > limit || text.len > WE_TOK_MAX_BYTES)
            return we_fail(err, WE_E_RANGE, "the tokenizer's normalizers make the text too long");
    }
    *out = text;
    return WE_OK;
}
