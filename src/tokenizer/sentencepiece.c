/* SPDX-License-Identifier: Apache-2.0
 * sentencepiece.c - reading SentencePiece's models (tokenizer.model, spiece.model): a protobuf message, checked field by field,
 * becomes a tokenizer. Protobuf is a row of fields:
 *
 *     varint: number << 3 | wire type | value: a varint (0), 8 bytes (1), a length and as many bytes (2), 4 bytes (5)
 *
 * Unknown fields are passed over, as protobuf wants it; known ones with another wire type are errors here.
 * Not here: what the model does with a text (model_spm.c).
 * Source: sentencepiece/src/sentencepiece_model.proto, model_interface.cc. */
#include "tokenizer/tokenizer_int.h"

#include <math.h>

/* ---- Protobuf ---- */

typedef struct pb {
    const unsigned char *base, *at, *end; /* base: of the file, for messages */
    const char *message;                  /* "trainer_spec." */
    we_error *err;
} pb;

typedef struct pb_field {
    uint64_t number, value; /* value: of wire types 0, 1, 5 */
    unsigned wire;
    we_str bytes; /* wire type 2 */
} pb_field;

static we_status broken(const pb *r, const char *what)
{
    return we_fail(r->err, WE_E_FORMAT, "%s%s (byte %zu)", r->message, what, (size_t)(r->at - r->base));
}

static bool read_varint(pb *r, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        unsigned char byte = *r->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(pb *r, size_t n, uint64_t *out)
{
    if ((size_t)(r->end - r->at) < n) return false;
    *out = 0;
    for (size_t i = 0; i < n; i++) *out |= (uint64_t)r->at[i] << (8 * i);
    r->at += n;
    return true;
}

/* The next field; r->at == r->end is the caller's to ask before. */
static we_status read_field(pb *r, pb_field *f)
{
    uint64_t tag, len;
    *f = (pb_field){ 0 };
    if (!read_varint(r, &tag)) return broken(r, ": the file is cut short or is no SentencePiece model: a broken tag");
    f->number = tag >> 3;
    f->wire = (unsigned)(tag & 7);
    if (f->number == 0) return broken(r, ": no SentencePiece model: field number 0");
    switch (f->wire) {
    case 0: return read_varint(r, &f->value) ? WE_OK : broken(r, ": the file is cut short in a number");
    case 1: return read_fixed(r, 8, &f->value) ? WE_OK : broken(r, ": the file is cut short in a number");
    case 5: return read_fixed(r, 4, &f->value) ? WE_OK : broken(r, ": the file is cut short in a number");
    case 2:
        if (!read_varint(r, &len)) return broken(r, ": the file is cut short in a length");
        if (len > (uint64_t)(r->end - r->at))
            return broken(r, ": the file is cut short: a field is longer than the rest");
        f->bytes = (we_str){ (const char *)r->at, (size_t)len };
        r->at += len;
        return WE_OK;
    default: return broken(r, ": no SentencePiece model: an unknown wire type");
    }
}

/* ---- The messages ---- */

typedef enum field_kind { FIELD_BOOL, FIELD_INT, FIELD_FLOAT, FIELD_TEXT, FIELD_BYTES } field_kind;
typedef struct field_row {
    unsigned number;
    field_kind kind;
    const char *name;
    size_t offset; /* of a bool, an int32_t, a float, a we_str */
} field_row;

typedef struct piece_message {
    we_str piece;
    float score;
    int32_t type;
} piece_message;
typedef struct trainer_message {
    int32_t model_type;
    bool treat_whitespace_as_suffix, byte_fallback;
    we_str unk_surface, bos_piece, eos_piece, unk_piece, pad_piece;
} trainer_message;
typedef struct normalizer_message {
    we_str precompiled_charsmap;
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
} normalizer_message;
typedef struct model_message {
    trainer_message trainer;
    normalizer_message normalizer, denormalizer;
    size_t n_pieces;
} model_message;

static const field_row piece_rows[] = {
    { 1, FIELD_TEXT, "piece", offsetof(piece_message, piece) },
    { 2, FIELD_FLOAT, "score", offsetof(piece_message, score) },
    { 3, FIELD_INT, "type", offsetof(piece_message, type) },
};
static const field_row trainer_rows[] = {
    { 3, FIELD_INT, "model_type", offsetof(trainer_message, model_type) },
    { 24, FIELD_BOOL, "treat_whitespace_as_suffix", offsetof(trainer_message, treat_whitespace_as_suffix) },
    { 35, FIELD_BOOL, "byte_fallback", offsetof(trainer_message, byte_fallback) },
    { 44, FIELD_TEXT, "unk_surface", offsetof(trainer_message, unk_surface) },
    { 45, FIELD_TEXT, "unk_piece", offsetof(trainer_message, unk_piece) },
    { 46, FIELD_TEXT, "bos_piece", offsetof(trainer_message, bos_piece) },
    { 47, FIELD_TEXT, "eos_piece", offsetof(trainer_message, eos_piece) },
    { 48, FIELD_TEXT, "pad_piece", offsetof(trainer_message, pad_piece) },
};
static const field_row normalizer_rows[] = {
    { 2, FIELD_BYTES, "precompiled_charsmap", offsetof(normalizer_message, precompiled_charsmap) },
    { 3, FIELD_BOOL, "add_dummy_prefix", offsetof(normalizer_message, add_dummy_prefix) },
    { 4, FIELD_BOOL, "remove_extra_whitespaces", offsetof(normalizer_message, remove_extra_whitespaces) },
    { 5, FIELD_BOOL, "escape_whitespaces", offsetof(normalizer_message, escape_whitespaces) },
};

static we_status take_field(pb *r, const pb_field *f, const field_row *row, void *out)
{
    static const unsigned wires[] = { 0, 0, 5, 2, 2 };
    void *place = (char *)out + row->offset;
    if (f->wire != wires[row->kind])
        return we_fail(r->err, WE_E_FORMAT, "%s%s has wire type %u, expected %u (byte %zu)", r->message, row->name,
                       f->wire, wires[row->kind], (size_t)(r->at - r->base));
    if (row->kind == FIELD_BOOL) {
        *(bool *)place = f->value != 0;
    } else if (row->kind == FIELD_INT) {
        *(int32_t *)place = (int32_t)(uint32_t)f->value;
    } else if (row->kind == FIELD_FLOAT) {
        uint32_t bits = (uint32_t)f->value;
        memcpy(place, &bits, 4);
    } else {
        if (row->kind == FIELD_TEXT && we_utf8_valid(f->bytes) != f->bytes.len)
            return we_fail(r->err, WE_E_FORMAT, "%s%s is not UTF-8 (before byte %zu)", r->message, row->name,
                           (size_t)(r->at - r->base));
        *(we_str *)place = f->bytes;
    }
    return WE_OK;
}

/* One message: the fields of the table; the last of several counts. */
static we_status read_message(const pb *outer, we_str bytes, const char *name, const field_row *rows, size_t n_rows,
                              void *out)
{
    const unsigned char *at = (const unsigned char *)bytes.ptr;
    pb r = { outer->base, at, at + bytes.len, name, outer->err };
    while (r.at < r.end) {
        pb_field f;
        we_status st = read_field(&r, &f);
        for (size_t i = 0; i < n_rows && !st; i++)
            if (rows[i].number == f.number) st = take_field(&r, &f, &rows[i], out);
        if (st) return st;
    }
    return WE_OK;
}

static pb reader_of(we_str file, we_error *err)
{
    const unsigned char *at = (const unsigned char *)file.ptr;
    return (pb){ at, at, at + file.len, "ModelProto", err };
}

/* All but the pieces, which are counted. */
static we_status read_settings(we_str file, model_message *m, we_error *err)
{
    pb r = reader_of(file, err);
    while (r.at < r.end) {
        pb_field f;
        we_status st = read_field(&r, &f);
        if (st) return st;
        if (f.number < 1 || f.number > 5) continue;
        if (f.wire != 2) return broken(&r, ": no SentencePiece model: fields 1 to 5 must be messages");
        if (f.number == 1) m->n_pieces++;
        if (f.number == 2)
            st = read_message(&r, f.bytes, "trainer_spec.", trainer_rows, WE_COUNT(trainer_rows), &m->trainer);
        if (f.number == 3)
            st = read_message(&r, f.bytes, "normalizer_spec.", normalizer_rows, WE_COUNT(normalizer_rows),
                              &m->normalizer);
        if (f.number == 5)
            st = read_message(&r, f.bytes, "denormalizer_spec.", normalizer_rows, WE_COUNT(normalizer_rows),
                              &m->denormalizer);
        if (st) return st;
    }
    if (m->n_pieces == 0) return we_fail(err, WE_E_FORMAT, "pieces is empty: no SentencePiece model");
    if (m->n_pieces > WE_TOK_MAX_ID) return we_fail(err, WE_E_FORMAT, "pieces holds more than 4 million");
    if (m->denormalizer.precompiled_charsmap.len)
        return we_fail(err, WE_E_UNSUPPORTED,
                       "denormalizer_spec.precompiled_charsmap: models that rewrite decoded text "
                       "are not supported");
    return WE_OK;
}

/* ---- Pieces ---- */

/* "<0x0A>", as SentencePiece writes it; -1: another text. */
static int byte_of_piece(we_str piece)
{
    char text[8];
    for (int byte = 0; byte < 256; byte++) {
        snprintf(text, sizeof(text), "<0x%02X>", (unsigned)byte);
        if (we_str_is(piece, text)) return byte;
    }
    return -1;
}

static we_status bad_piece(const pb *r, size_t index, we_str piece, const char *what)
{
    return we_fail(r->err, WE_E_FORMAT, "pieces[%zu] \"%.*s\": %s", index, (int)WE_MIN(piece.len, 60), piece.ptr, what);
}

static we_status take_piece(we_tok *tok, const pb *r, size_t index, const piece_message *p)
{
    we_spm *m = tok->spm;
    if (p->piece.len == 0) return bad_piece(r, index, p->piece, "an empty piece");
    if (p->piece.len >= WE_SPM_MAX_PIECE) return bad_piece(r, index, p->piece, "a piece of 8000 bytes or more");
    if (p->type < WE_SPM_NORMAL || p->type > WE_SPM_BYTE) return bad_piece(r, index, p->piece, "type is unknown");
    if (!isfinite(p->score)) return bad_piece(r, index, p->piece, "score is not finite");
    m->scores[index] = p->score;
    m->types[index] = (uint8_t)p->type;
    if (p->type == WE_SPM_UNKNOWN) {
        if (m->unk_id >= 0) return bad_piece(r, index, p->piece, "a second piece of type UNKNOWN");
        m->unk_id = (int32_t)index;
    }
    if (p->type == WE_SPM_BYTE) {
        int byte = byte_of_piece(p->piece);
        if (!m->byte_fallback)
            return bad_piece(r, index, p->piece, "type is BYTE, but trainer_spec.byte_fallback is false");
        if (byte < 0) return bad_piece(r, index, p->piece, "type is BYTE, expected <0x00> to <0xFF>");
        m->bytes[byte] = (int32_t)index;
    }
    return WE_OK;
}

/* Pieces that stand for text live in one map, the others in another, where each text may be once. The second map wins. */
static we_status add_piece(we_tok *tok, const pb *r, size_t index, we_str piece)
{
    if (memchr(piece.ptr, 0, piece.len)) /* the one such piece that the library lets pass is a gap in the ids */
        return piece.len == 1 && tok->spm->types[index] == WE_SPM_UNUSED
                   ? WE_OK
                   : bad_piece(r, index, piece, "U+0000 in a piece");
    int32_t before = we_vocab_find(&tok->vocab, piece);
    if (before >= 0 && we_spm_is_text(tok->spm, before) == we_spm_is_text(tok->spm, (int32_t)index))
        return bad_piece(r, index, piece, "the same piece is there twice");
    return we_vocab_add(&tok->vocab, piece, (int32_t)index) ? WE_OK
                                                            : we_fail(r->err, WE_E_NOMEM, "no memory for the pieces");
}

static we_status read_pieces(we_tok *tok, we_str file, bool text_pieces, we_error *err)
{
    pb r = reader_of(file, err);
    char where[48];
    we_status st = WE_OK;
    for (size_t index = 0; r.at < r.end && !st;) {
        pb_field f;
        piece_message p = { .type = WE_SPM_NORMAL };
        if ((st = read_field(&r, &f)) || f.number != 1) continue;
        snprintf(where, sizeof(where), "pieces[%zu].", index);
        st = read_message(&r, f.bytes, where, piece_rows, WE_COUNT(piece_rows), &p);
        if (!st && text_pieces) st = take_piece(tok, &r, index, &p);
        if (!st && we_spm_is_text(tok->spm, (int32_t)index) == text_pieces) st = add_piece(tok, &r, index, p.piece);
        index++;
    }
    return st;
}

static we_status check_pieces(const we_spm *m, we_error *err)
{
    if (m->unk_id < 0 && !m->byte_fallback)
        return we_fail(err, WE_E_FORMAT, "pieces: none has the type UNKNOWN, and trainer_spec.byte_fallback is false");
    for (int byte = 0; m->byte_fallback && byte < 256; byte++)
        if (m->bytes[byte] < 0)
            return we_fail(err, WE_E_FORMAT, "trainer_spec.byte_fallback is true, but the piece <0x%02X> is missing",
                           (unsigned)byte);
    return WE_OK;
}

/* ---- Special tokens ---- */

/* Whether BOS and EOS go around a text where tokenizer_config.json does not say: as transformers' classes do it. */
static bool class_adds(const we_tok_hints *h, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (we_hints_mention(h, names[i])) return true;
    return false;
}

static we_status set_around(we_tok *tok, const we_tok_hints *h, we_str bos_piece, we_str eos_piece, we_error *err)
{
    static const char *const with_bos[] = { "llama", "gemma", "mistral", "mixtral", "phi3", "internlm" };
    static const char *const with_eos[] = { "t5" };
    bool add_bos = class_adds(h, with_bos, WE_COUNT(with_bos)), add_eos = class_adds(h, with_eos, WE_COUNT(with_eos));
    we_status st;
    if ((st = we_tok_get_bool(h->config, "add_bos_token", "tokenizer_config.json", &add_bos, err)) ||
        (st = we_tok_get_bool(h->config, "add_eos_token", "tokenizer_config.json", &add_eos, err)))
        return st;
    int32_t bos = we_tok_id(tok, we_hints_role(h, "bos_token", bos_piece));
    int32_t eos = we_tok_id(tok, we_hints_role(h, "eos_token", eos_piece));
    return we_tok_set_around(tok, &bos, add_bos && bos >= 0, &eos, add_eos && eos >= 0, err);
}

/* Control pieces are found in a text: chat templates write them. (SentencePiece alone never finds them.) */
static we_status set_added(we_tok *tok, const we_tok_hints *h, we_error *err)
{
    we_added_new list = { 0 };
    we_status st = WE_OK;
    for (size_t i = 0; i < tok->vocab.n && !st; i++) {
        int32_t id = tok->vocab.tokens[i].id;
        if (tok->spm->types[id] != WE_SPM_CONTROL) continue;
        we_added added = { .content = we_vocab_text(&tok->vocab, i), .id = id, .special = true };
        st = we_added_push(tok, &list, &added, err);
    }
    if (!st) st = we_hints_added(tok, h, tok->spm->unk_id, &list, err);
    return we_added_take(tok, &list, st, err);
}

/* ---- Door ---- */

static we_status build(we_tok *tok, we_str file, const model_message *msg, const we_tok_hints *h, we_error *err)
{
    we_spm *m = tok->spm;
    we_status st;
    m->model_type = msg->trainer.model_type;
    m->byte_fallback = msg->trainer.byte_fallback;
    m->whitespace_as_suffix = msg->trainer.treat_whitespace_as_suffix;
    m->add_dummy_prefix = msg->normalizer.add_dummy_prefix;
    m->remove_extra_whitespaces = msg->normalizer.remove_extra_whitespaces;
    m->escape_whitespaces = msg->normalizer.escape_whitespaces;
    m->prefix_always = m->remove_extra_whitespaces;
    if ((st = we_tok_get_bool(h->config, "legacy", "tokenizer_config.json", &m->prefix_always, err)) ||
        (st = we_tok_get_bool(h->config, "add_prefix_space", "tokenizer_config.json", &m->add_dummy_prefix, err)) ||
        (st = we_tok_copy(tok, msg->trainer.unk_surface, &m->unk_surface, err)))
        return st;
    m->scores = we_arena_calloc(&tok->arena, msg->n_pieces, sizeof(*m->scores));
    m->types = we_arena_calloc(&tok->arena, msg->n_pieces, sizeof(*m->types));
    if (!m->scores || !m->types) return we_fail(err, WE_E_NOMEM, "no memory for %zu pieces", msg->n_pieces);
    m->n_pieces = msg->n_pieces;
    if (msg->normalizer.precompiled_charsmap.len &&
        (st = we_charsmap_read(tok, msg->normalizer.precompiled_charsmap, "normalizer_spec", &m->charsmap, err)))
        return st;
    if ((st = read_pieces(tok, file, true, err)) || (st = read_pieces(tok, file, false, err)) ||
        (st = check_pieces(m, err)) || (st = we_spm_prepare(tok, err)) || (st = set_added(tok, h, err)))
        return st;
    if ((st = we_tok_copy(tok, msg->trainer.bos_piece, &m->bos_piece, err)) ||
        (st = we_tok_copy(tok, msg->trainer.eos_piece, &m->eos_piece, err)))
        return st;
    return set_around(tok, h, m->bos_piece, m->eos_piece, err);
}

we_status we_tok_build_sentencepiece(we_tok *tok, we_str file, const we_tok_hints *hints, we_error *err)
{
    static const char *const types[] = { "", "UNIGRAM", "BPE", "WORD", "CHAR" };
    normalizer_message normalizer = { .add_dummy_prefix = true,
                                      .remove_extra_whitespaces = true,
                                      .escape_whitespaces = true };
    model_message msg = { .trainer = { .model_type = WE_SPM_UNIGRAM,
                                       .unk_surface = WE_STR(" \xE2\x81\x87 "),
                                       .unk_piece = WE_STR("<unk>"),
                                       .bos_piece = WE_STR("<s>"),
                                       .eos_piece = WE_STR("</s>") },
                          .normalizer = normalizer,
                          .denormalizer = normalizer };
    we_status st = read_settings(file, &msg, err);
    if (st) return st;
    if (msg.trainer.model_type < WE_SPM_UNIGRAM || msg.trainer.model_type > WE_SPM_CHAR)
        return we_fail(err, WE_E_UNSUPPORTED,
                       "trainer_spec.model_type is %d, expected 1 (UNIGRAM), 2 (BPE), 3 (WORD) or 4 (CHAR)",
                       msg.trainer.model_type);
    if (!(tok->spm = we_spm_new())) return we_fail(err, WE_E_NOMEM, "no memory for a tokenizer");
    tok->model = &we_model_spm;
    tok->has_decoder = true;
    st = build(tok, file, &msg, hints, err);
    if (!st)
        we_log(tokenizer, DEBUG, "%s: SentencePiece %s, %zu pieces%s", hints->file, types[msg.trainer.model_type],
               msg.n_pieces, msg.trainer.byte_fallback ? ", byte fallback" : "");
    return st;
}
