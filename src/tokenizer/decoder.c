/* SPDX-License-Identifier: Apache-2.0
 * decoder.c - the decoders, one row each, as a chain of small machines: tokens go in one by one, text comes out as soon as it is
 * certain. Decoding all at once feeds all ids and flushes, so a stream can't give another text.
 *
 * What passes from one to the next are tokens, or parts of tokens: `begins` and `ends` mark the borders, since some decoders
 * look at whole tokens and Fuse and ByteLevel make one of all. A part never ends within a character.
 *
 * One contradiction is the reference's own: ByteFallback makes U+FFFD of every byte of a run that is invalid as a whole, and
 * its stream gives out the characters before the invalid byte as they come. Ours does so too (a newline is such a byte in
 * Llama 2's vocabulary), and writes U+FFFD for the rest only. While none of a run has been seen outside (Strip ate it), all
 * of it can still be taken back. */
#include "tokenizer/tokenizer_int.h"

typedef struct decoder_kind {
    we_part_kind head;
    we_status (*feed)(we_decode *d, size_t stage, we_str text, bool begins, bool ends);
    we_status (*flush)(we_decode *d, size_t stage); /* NULL: nothing is held back */
    bool whole_tokens;                              /* feed wants begins && ends */
} decoder_kind;

static const we_part *part_of(const we_decode *d, size_t stage) { return &d->tok->decoders.parts[stage]; }

static we_status no_memory(const we_decode *d) { return we_fail(d->err, WE_E_NOMEM, "no memory to decode tokens"); }

#define MAX_TOKEN ((size_t)1 << 26) /* Replaces in a row could make one of any length */

/* Hand a part to the decoder behind `stage`. */
static we_status pass(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    stage++;
    if (text.len > MAX_TOKEN) return we_fail(d->err, WE_E_RANGE, "a decoded token exceeds 64 MB");
    if (stage >= d->tok->decoders.n) {
        we_buf_append_str(d->out, text);
        d->n_out += text.len;
        return d->out->failed ? no_memory(d) : WE_OK;
    }
    const decoder_kind *kind = part_of(d, stage)->kind;
    we_decode_stage *s = &d->stages[stage];
    if (!kind->whole_tokens || (begins && ends)) return kind->feed(d, stage, text, begins, ends);
    if (begins) we_buf_clear(&s->gather);
    we_buf_append_str(&s->gather, text);
    if (s->gather.failed) return no_memory(d);
    return ends ? kind->feed(d, stage, we_buf_str(&s->gather), true, true) : WE_OK;
}

/* ---- ByteLevel ---- */

int we_rune_to_byte(uint32_t rune)
{
    if (rune < 0x100)
        return (rune >= '!' && rune <= '~') || (rune >= 0xA1 && rune <= 0xAC) || rune >= 0xAE ? (int)rune : -1;
    uint32_t n = rune - 0x100; /* the others, in order: 00-20, 7F-A0, AD */
    if (n <= 0x20) return (int)n;
    if (n <= 0x42) return (int)(n - 0x21 + 0x7F);
    return n == 0x43 ? 0xAD : -1;
}

uint32_t we_byte_to_rune(unsigned char byte)
{
    if (byte <= 0x20) return 0x100U + byte;
    if (byte >= 0x7F && byte <= 0xA0) return 0x121U + byte - 0x7F;
    return byte == 0xAD ? 0x143 : byte;
}

void we_byte_level_append(we_buf *out, we_str bytes)
{
    if (!we_buf_reserve(out, bytes.len * 2)) return;
    for (size_t i = 0; i < bytes.len; i++) {
        uint32_t rune = we_byte_to_rune((unsigned char)bytes.ptr[i]);
        if (rune < 0x80)
            out->ptr[out->len++] = (char)rune;
        else
            out->len += (size_t)we_utf8_encode(rune, out->ptr + out->len);
    }
    out->ptr[out->len] = 0;
}

/* Give out what is certain of the bytes held: all but an unfinished character. */
static we_status pass_characters(we_decode *d, size_t stage, bool at_end)
{
    we_decode_stage *s = &d->stages[stage];
    we_str bytes = we_buf_str(&s->held);
    size_t certain = at_end ? bytes.len : bytes.len - we_utf8_incomplete_tail(bytes);
    we_str text = { bytes.ptr, certain };
    we_status st = WE_OK;
    if (we_utf8_valid(text) != text.len) { /* one U+FFFD for each maximal broken part */
        we_buf_clear(&s->last);
        for (size_t i = 0; i < text.len;) we_buf_append_rune(&s->last, we_utf8_next(text, &i));
        if (s->last.failed) return no_memory(d);
        text = we_buf_str(&s->last);
    }
    if (text.len || at_end) {
        st = pass(d, stage, text, !s->first_done, at_end);
        s->first_done = true;
    }
    memmove(s->held.ptr ? s->held.ptr : (char[1]){ 0 }, bytes.ptr + certain, bytes.len - certain);
    s->held.len = bytes.len - certain;
    return st;
}

static we_status feed_byte_level(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    (void)begins, (void)ends;
    we_decode_stage *s = &d->stages[stage];
    size_t start = s->held.len;
    for (size_t i = 0; i < text.len;) {
        int byte = we_rune_to_byte(we_utf8_next(text, &i));
        if (byte < 0) { /* not of the alphabet: an added token, as it is */
            s->held.len = start;
            we_buf_append_str(&s->held, text);
            break;
        }
        we_buf_append_char(&s->held, (char)byte);
    }
    return s->held.failed ? no_memory(d) : pass_characters(d, stage, false);
}

static we_status flush_byte_level(we_decode *d, size_t stage) { return pass_characters(d, stage, true); }

/* ---- ByteFallback ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of "<0xNN>", -1: another token. A plus sign before one digit counts, since Rust's parser takes it. */
static int byte_token(we_str text)
{
    if (text.len != 6 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>') return -1;
    int high = text.ptr[3] == '+' ? 0 : hex(text.ptr[3]), low = hex(text.ptr[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* All but gather: while a run is open it only grows, or is over and begins anew, so its length is enough. */
static bool copy_stage(we_decode_stage *to, const we_decode_stage *from)
{
    const we_decode_stage own = *to;
    *to = *from;
    to->held = own.held, to->last = own.last, to->gather = own.gather, to->before = own.before;
    we_buf_clear(&to->held);
    we_buf_clear(&to->last);
    we_buf_append_str(&to->held, we_buf_str(&from->held));
    we_buf_append_str(&to->last, we_buf_str(&from->last));
    return !to->held.failed && !to->last.failed;
}

static we_status remember_stages(we_decode *d, size_t stage)
{
    we_decode_stage *s = &d->stages[stage], *behind = s + 1;
    const size_t n = d->tok->decoders.n - stage - 1;
    if (!s->before) s->before = we_calloc(n + 1, sizeof(*s->before));
    if (!s->before) return no_memory(d);
    for (size_t i = 0; i < n; i++) {
        if (!copy_stage(&s->before[i], &behind[i])) return no_memory(d);
        s->before[i].n_gathered = behind[i].gather.len;
    }
    s->n_out_before = d->n_out;
    return WE_OK;
}

static we_status take_back_stages(we_decode *d, size_t stage)
{
    we_decode_stage *s = &d->stages[stage], *behind = s + 1;
    const size_t n = d->tok->decoders.n - stage - 1;
    for (size_t i = 0; i < n; i++) {
        if (!copy_stage(&behind[i], &s->before[i])) return no_memory(d);
        behind[i].gather.len = WE_MIN(behind[i].gather.len, s->before[i].n_gathered);
    }
    s->given = 0;
    return WE_OK;
}

/* The run that is held has come to its end. */
static we_status end_run(we_decode *d, size_t stage)
{
    we_decode_stage *s = &d->stages[stage];
    we_str run = we_buf_str(&s->held);
    we_status st = WE_OK;
    if (run.len == 0) return WE_OK;
    if (we_utf8_valid(run) == run.len) {
        st = pass(d, stage, (we_str){ run.ptr + s->given, run.len - s->given }, s->given == 0, true);
    } else {
        if (s->given && d->n_out == s->n_out_before) st = take_back_stages(d, stage);
        if (s->given && !st) st = pass(d, stage, (we_str){ "", 0 }, false, true);
        for (size_t i = s->given; i < run.len && !st; i++) st = pass(d, stage, WE_STR("\xEF\xBF\xBD"), true, true);
    }
    we_buf_clear(&s->held);
    s->given = 0;
    return st;
}

static we_status feed_byte_fallback(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    we_decode_stage *s = &d->stages[stage];
    int byte = byte_token(text);
    if (byte < 0) {
        we_status st = end_run(d, stage);
        return st ? st : pass(d, stage, text, begins, ends);
    }
    we_buf_append_char(&s->held, (char)byte);
    if (s->held.failed) return no_memory(d);
    we_str rest = { s->held.ptr + s->given, s->held.len - s->given };
    if (!d->streaming || we_utf8_valid(rest) != rest.len) return WE_OK;
    we_status st = s->given ? WE_OK : remember_stages(d, stage);
    if (!st) st = pass(d, stage, rest, s->given == 0, false);
    s->given = s->held.len;
    return st;
}

/* ---- Fuse ---- */

static we_status feed_fuse(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    (void)begins, (void)ends;
    we_decode_stage *s = &d->stages[stage];
    bool first = !s->first_done;
    s->first_done = true;
    return pass(d, stage, text, first, false);
}

static we_status flush_fuse(we_decode *d, size_t stage)
{
    return pass(d, stage, (we_str){ "", 0 }, !d->stages[stage].first_done, true);
}

/* ---- Strip ---- */

static we_status feed_strip(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    const we_part *part = part_of(d, stage);
    we_decode_stage *s = &d->stages[stage];
    char content[4];
    size_t n = (size_t)we_utf8_encode(part->rune, content), from = 0;
    we_status st = WE_OK;
    if (begins) {
        s->n_cut = s->n_trail = 0;
        s->seen = false; /* a character that is kept */
    }
    s->first_done = begins;
    for (size_t i = 0; i < text.len && !st;) {
        size_t at = i;
        bool match = we_utf8_next(text, &i) == part->rune;
        if (!s->seen && match && s->n_cut < part->start) { /* cut from the begin */
            s->n_cut++;
            from = i;
            continue;
        }
        s->seen = true;
        if (match && part->stop) { /* perhaps cut from the end: held back, as many as may be */
            if (s->n_trail == 0 && at > from) {
                st = pass(d, stage, (we_str){ text.ptr + from, at - from }, s->first_done, false);
                s->first_done = false;
            }
            from = i;
            if (s->n_trail < part->stop) {
                s->n_trail++;
                continue;
            }
            st = pass(d, stage, (we_str){ content, n }, s->first_done, false);
            s->first_done = false;
            continue;
        }
        for (; s->n_trail && !st; s->n_trail--) {
            st = pass(d, stage, (we_str){ content, n }, s->first_done, false);
            s->first_done = false;
        }
    }
    if (!st) st = pass(d, stage, (we_str){ text.ptr + from, text.len - from }, s->first_done, ends);
    s->first_done = false;
    return st;
}

static we_status parse_strip(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    (void)tok;
    we_status st;
    part->rune = WE_RUNE_INVALID;
    if ((st = we_tok_get_rune(json, "content", where, &part->rune, err)) ||
        (st = we_tok_get_size(json, "start", where, &part->start, err)) ||
        (st = we_tok_get_size(json, "stop", where, &part->stop, err)))
        return st;
    if (part->rune == WE_RUNE_INVALID)
        return we_fail(err, WE_E_FORMAT, "%s.content is missing, expected one character", where);
    return WE_OK;
}

/* ---- Metaspace ---- */

static we_status feed_metaspace(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    const we_part *part = part_of(d, stage);
    we_decode_stage *s = &d->stages[stage];
    if (begins) s->index++;
    bool drop = s->index == 1 && part->scheme != WE_PREPEND_NEVER; /* every one of the first token */
    we_buf_clear(&s->last);
    for (size_t i = 0; i < text.len;) {
        size_t at = i;
        if (we_utf8_next(text, &i) != part->rune)
            we_buf_append(&s->last, text.ptr + at, i - at);
        else if (!drop)
            we_buf_append_char(&s->last, ' ');
    }
    return s->last.failed ? no_memory(d) : pass(d, stage, we_buf_str(&s->last), begins, ends);
}

static we_status parse_metaspace(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    we_str scheme = { 0 };
    bool add_prefix_space = true;
    we_status st;
    part->rune = 0x2581;
    if ((st = we_tok_get_rune(json, "replacement", where, &part->rune, err)) ||
        (st = we_tok_get_bool(json, "add_prefix_space", where, &add_prefix_space, err)) ||
        (st = we_tok_get_str(tok, json, "prepend_scheme", where, false, &scheme, err)))
        return st;
    bool never = scheme.ptr ? we_str_is(scheme, "never") : !add_prefix_space;
    part->scheme = never ? WE_PREPEND_NEVER : WE_PREPEND_ALWAYS;
    return WE_OK;
}

/* ---- Replace ---- */

/* Plain text, found as soon as it is there; the longest end that may begin another one is held back. */
static we_status feed_replace_literal(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    const we_part *part = part_of(d, stage);
    we_decode_stage *s = &d->stages[stage];
    if (begins) {
        we_buf_clear(&s->held);
        s->first_done = true;
    }
    we_buf_append_str(&s->held, text);
    we_buf_clear(&s->last);
    we_str all = we_buf_str(&s->held);
    size_t from = 0, start, end;
    we_part_scan scan;
    we_part_scan_init(&scan, part, all);
    while (we_part_scan_next(&scan, &start, &end)) {
        we_buf_append(&s->last, all.ptr + from, start - from);
        we_buf_append_str(&s->last, part->text);
        from = end;
    }
    size_t hold = 0;
    if (!ends && part->literal.len)
        for (size_t n = WE_MIN(part->literal.len - 1, all.len - from); n > 0 && !hold; n--)
            if (memcmp(all.ptr + all.len - n, part->literal.ptr, n) == 0) hold = n;
    we_buf_append(&s->last, all.ptr + from, all.len - from - hold);
    we_status st = we_part_scan_deinit(&scan, d->err);
    if (s->held.failed || s->last.failed) return no_memory(d);
    if (hold) memmove(s->held.ptr, s->held.ptr + all.len - hold, hold);
    s->held.len = hold;
    bool first = s->first_done;
    s->first_done = false;
    return st ? st : pass(d, stage, we_buf_str(&s->last), first, ends);
}

/* A regex sees whole tokens. */
static we_status feed_replace(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    const we_part *part = part_of(d, stage);
    we_decode_stage *s = &d->stages[stage];
    if (part->is_literal && part->literal.len) /* an empty one matches between all characters: as a regex */
        return feed_replace_literal(d, stage, text, begins, ends);
    if (!begins || !ends) {
        if (begins) we_buf_clear(&s->gather);
        we_buf_append_str(&s->gather, text);
        if (s->gather.failed) return no_memory(d);
        if (!ends) return WE_OK;
        text = we_buf_str(&s->gather);
    }
    we_part_scan scan;
    size_t from = 0, start, end;
    we_buf_clear(&s->last);
    we_part_scan_init(&scan, part, text);
    while (we_part_scan_next(&scan, &start, &end)) {
        we_buf_append(&s->last, text.ptr + from, start - from);
        we_buf_append_str(&s->last, part->text);
        from = end;
    }
    we_buf_append(&s->last, text.ptr + from, text.len - from);
    we_status st = we_part_scan_deinit(&scan, d->err);
    if (s->last.failed) return no_memory(d);
    return st ? st : pass(d, stage, we_buf_str(&s->last), true, true);
}

static we_status parse_replace(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    we_status st = we_tok_get_pattern(tok, json, where, part, err);
    return st ? st : we_tok_get_str(tok, json, "content", where, true, &part->text, err);
}

/* ---- WordPiece, CTC ---- */

/* text with every `from` as `to`, into out. */
static void replace_all(we_buf *out, we_str text, we_str from, we_str to)
{
    if (from.len == 0) { /* between all characters, as Rust's replace does it */
        for (size_t i = 0; i < text.len;) {
            size_t at = i;
            we_utf8_next(text, &i);
            we_buf_append_str(out, to);
            we_buf_append(out, text.ptr + at, i - at);
        }
        we_buf_append_str(out, to);
        return;
    }
    for (size_t i = 0; i < text.len;) {
        if (text.len - i >= from.len && memcmp(text.ptr + i, from.ptr, from.len) == 0) {
            we_buf_append_str(out, to);
            i += from.len;
        } else {
            we_buf_append_char(out, text.ptr[i++]);
        }
    }
}

/* In place, through a copy. */
static bool replace_in(we_buf *buf, we_str from, we_str to)
{
    we_buf out = { 0 };
    replace_all(&out, we_buf_str(buf), from, to);
    bool ok = !out.failed && !buf->failed;
    if (ok) {
        we_buf_clear(buf);
        we_buf_append_str(buf, we_buf_str(&out));
    }
    we_buf_deinit(&out);
    return ok && !buf->failed;
}

static bool clean_up(we_buf *buf)
{
    static const char *const pairs[][2] = { { " .", "." },     { " ?", "?" },           { " !", "!" },
                                            { " ,", "," },     { " ' ", "'" },          { " n't", "n't" },
                                            { " 'm", "'m" },   { " do not", " don't" }, { " 's", "'s" },
                                            { " 've", "'ve" }, { " 're", "'re" } };
    bool ok = !buf->failed;
    if (ok && buf->len && !memchr(buf->ptr, ' ', buf->len)) return true;
    for (size_t i = 0; ok && i < WE_COUNT(pairs); i++)
        ok = replace_in(buf, we_str_from(pairs[i][0]), we_str_from(pairs[i][1]));
    return ok;
}

static we_status feed_wordpiece(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    const we_part *part = part_of(d, stage);
    we_decode_stage *s = &d->stages[stage];
    we_buf_clear(&s->last);
    if (s->index++) {
        if (we_str_starts_with(text, part->text))
            text = (we_str){ text.ptr + part->text.len, text.len - part->text.len };
        else
            we_buf_append_char(&s->last, ' ');
    }
    we_buf_append_str(&s->last, text);
    if (s->last.failed || (part->cleanup && !clean_up(&s->last))) return no_memory(d);
    return pass(d, stage, we_buf_str(&s->last), begins, ends);
}

static we_status parse_wordpiece(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    part->text = WE_STR("##");
    part->cleanup = true;
    we_status st = we_tok_get_str(tok, json, "prefix", where, false, &part->text, err);
    return st ? st : we_tok_get_bool(json, "cleanup", where, &part->cleanup, err);
}

static we_status feed_ctc(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    const we_part *part = part_of(d, stage);
    we_decode_stage *s = &d->stages[stage];
    if (s->seen && we_str_eq(we_buf_str(&s->last), text)) /* the same token again */
        return WE_OK;
    s->seen = true;
    we_buf_clear(&s->last);
    we_buf_append_str(&s->last, text);
    we_buf out = { 0 };
    replace_all(&out, text, part->text, WE_STR(""));
    bool ok = !out.failed && !s->last.failed;
    if (ok && part->cleanup) ok = clean_up(&out) && replace_in(&out, part->text2, WE_STR(" "));
    we_status st = !ok ? no_memory(d) : out.len ? pass(d, stage, we_buf_str(&out), begins, ends) : WE_OK;
    we_buf_deinit(&out);
    return st;
}

static we_status parse_ctc(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    we_status st;
    part->text = WE_STR("<pad>");
    part->text2 = WE_STR("|");
    part->cleanup = true;
    if ((st = we_tok_get_str(tok, json, "pad_token", where, false, &part->text, err)) ||
        (st = we_tok_get_str(tok, json, "word_delimiter_token", where, false, &part->text2, err)))
        return st;
    return we_tok_get_bool(json, "cleanup", where, &part->cleanup, err);
}

/* ---- BPEDecoder ---- */

static size_t find(we_str text, we_str what) /* text.len: not there */
{
    for (size_t i = 0; i + what.len <= text.len; i++)
        if (memcmp(text.ptr + i, what.ptr, what.len) == 0) return i;
    return text.len;
}

/* The suffix is a space in every token but the last, where it is nothing: from its first place on, a token waits. */
static we_status end_word(we_decode *d, size_t stage, bool last)
{
    const we_part *part = part_of(d, stage);
    we_decode_stage *s = &d->stages[stage];
    if (!s->seen) return WE_OK;
    s->seen = false;
    we_buf_clear(&s->last);
    replace_all(&s->last, we_buf_str(&s->held), part->text, last ? WE_STR("") : WE_STR(" "));
    we_buf_clear(&s->held);
    return s->last.failed ? no_memory(d) : pass(d, stage, we_buf_str(&s->last), s->given == 0, true);
}

static we_status feed_bpe(we_decode *d, size_t stage, we_str text, bool begins, bool ends)
{
    (void)begins, (void)ends;
    we_decode_stage *s = &d->stages[stage];
    we_status st = end_word(d, stage, false);
    if (st) return st;
    s->given = find(text, part_of(d, stage)->text);
    s->seen = true;
    we_buf_append(&s->held, text.ptr + s->given, text.len - s->given);
    if (s->held.failed) return no_memory(d);
    return s->given ? pass(d, stage, (we_str){ text.ptr, s->given }, true, false) : WE_OK;
}

static we_status flush_bpe(we_decode *d, size_t stage) { return end_word(d, stage, true); }

static we_status parse_bpe(we_tok *tok, we_part *part, const we_json *json, const char *where, we_error *err)
{
    part->text = WE_STR("</w>");
    return we_tok_get_str(tok, json, "suffix", where, false, &part->text, err);
}

/* ---- Table ---- */

static const decoder_kind decoders[] = {
    { { "ByteLevel", NULL }, feed_byte_level, flush_byte_level, true },
    { { "ByteFallback", NULL }, feed_byte_fallback, end_run, true },
    { { "Fuse", NULL }, feed_fuse, flush_fuse, false },
    { { "Strip", parse_strip }, feed_strip, NULL, false },
    { { "Metaspace", parse_metaspace }, feed_metaspace, NULL, false },
    { { "Replace", parse_replace }, feed_replace, NULL, false },
    { { "WordPiece", parse_wordpiece }, feed_wordpiece, NULL, true },
    { { "BPEDecoder", parse_bpe }, feed_bpe, flush_bpe, true },
    { { "CTC", parse_ctc }, feed_ctc, NULL, true },
};

we_status we_tok_parse_decoders(we_tok *tok, const we_json *json, we_error *err)
{
    tok->has_decoder = json && json->type != WE_JSON_NULL;
    return we_tok_parse_stage(tok, &tok->decoders, json, "decoder", "decoders", decoders, WE_COUNT(decoders),
                              sizeof(*decoders), err);
}

/* ---- The chain ---- */

we_status we_decode_init(we_decode *d, const we_tok *tok, bool streaming, we_error *err)
{
    *d = (we_decode){ .tok = tok, .streaming = streaming };
    d->stages =
        we_calloc(tok->decoders.n + 1, sizeof(*d->stages)); /* the last one counts tokens where there is no decoder */
    return d->stages ? WE_OK : we_fail(err, WE_E_NOMEM, "no memory to decode tokens");
}

static void stage_reset(we_decode_stage *s)
{
    *s = (we_decode_stage){ .held = s->held, .last = s->last, .gather = s->gather, .before = s->before };
    we_buf_clear(&s->held);
    we_buf_clear(&s->gather);
    we_buf_clear(&s->last);
}

static void stage_deinit(we_decode_stage *s)
{
    we_buf_deinit(&s->held);
    we_buf_deinit(&s->last);
    we_buf_deinit(&s->gather);
}

void we_decode_deinit(we_decode *d)
{
    const size_t n = d->tok->decoders.n;
    for (size_t i = 0; d->stages && i < n; i++) {
        we_decode_stage *s = &d->stages[i];
        for (size_t k = 0; s->before && k + i + 1 < n; k++) stage_deinit(&s->before[k]);
        we_free(s->before);
        stage_deinit(s);
    }
    we_free(d->stages);
    *d = (we_decode){ 0 };
}

static bool token_text(const we_tok *tok, int32_t id, bool skip_special, we_str *text)
{
    if (id < 0 || (size_t)id >= tok->n_ids || !tok->by_id[id]) return false;
    uint32_t index = tok->by_id[id];
    if (!(index & WE_TOK_ADDED)) {
        *text = we_vocab_text(&tok->vocab, index - 1);
        return true;
    }
    const we_added *added = &tok->added.tokens[(index & ~WE_TOK_ADDED) - 1];
    *text = added->form;
    return !(skip_special && added->skipped);
}

we_status we_decode_feed(we_decode *d, int32_t id, bool skip_special, we_buf *out, we_error *err)
{
    we_str text;
    d->out = out;
    d->err = err;
    if (!token_text(d->tok, id, skip_special, &text)) return WE_OK;
    if (d->tok->spm) return we_spm_decode(d, id, text);
    if (!d->tok->has_decoder && d->stages[0].index++) /* tokens with spaces between them */
        we_buf_append_char(out, ' ');
    return pass(d, (size_t)-1, text, true, true);
}

we_status we_decode_flush(we_decode *d, we_buf *out, we_error *err)
{
    we_status st = WE_OK;
    d->out = out;
    d->err = err;
    if (d->tok->spm) return we_spm_decode_end(d);
    for (size_t i = 0; i < d->tok->decoders.n && !st; i++) {
        const decoder_kind *kind = part_of(d, i)->kind;
        if (kind->flush) st = kind->flush(d, i);
    }
    for (size_t i = 0; i <= d->tok->decoders.n; i++) stage_reset(&d->stages[i]);
    return st;
}
