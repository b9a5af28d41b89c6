/* SPDX-License-Identifier: Apache-2.0
 * tokenizer_checks.h - what must hold for every tokenizer that opens, whatever file it came from: shared by the fuzz targets
 * of tokenizer.json, SentencePiece's models and tiktoken's ranks. */
#ifndef WE_FUZZ_TOKENIZER_CHECKS_H
#define WE_FUZZ_TOKENIZER_CHECKS_H

#include "tokenizer/tokenizer.h"

#include <stdlib.h>

static void require(bool holds)
{
    if (!holds) abort();
}

static bool holds_replacement(we_str text)
{
    for (size_t i = 0; i + 3 <= text.len; i++)
        if (memcmp(text.ptr + i, "\xEF\xBF\xBD", 3) == 0) return true;
    return false;
}

/* The stream gives the same text as decoding at once, in whole characters. */
static void check_decoding(const we_tok *tok, const we_ids *ids, bool skip_special)
{
    we_error err = { 0 };
    we_buf whole = { 0 }, joined = { 0 };
    we_tok_stream stream;
    we_str piece;
    we_status st = we_tok_decode(tok, ids->ids, ids->n, skip_special, &whole, &err);
    require(st == WE_OK || err.message[0]);
    we_tok_stream_init(&stream, tok, skip_special);
    for (size_t i = 0; i < ids->n && !st; i++) {
        st = we_tok_stream_feed(&stream, ids->ids[i], &piece, &err);
        require(we_utf8_valid(piece) == piece.len);
        we_buf_append_str(&joined, piece);
    }
    if (!st) st = we_tok_stream_flush(&stream, &piece, &err);
    if (!st) {
        we_buf_append_str(&joined, piece);
        /* a run of bytes that turns invalid late contradicts what was given out, in the reference too */
        require(holds_replacement(we_buf_str(&whole)) || holds_replacement(we_buf_str(&joined)) ||
                we_str_eq(we_buf_str(&whole), we_buf_str(&joined)));
    }
    we_tok_stream_deinit(&stream);
    we_buf_deinit(&whole);
    we_buf_deinit(&joined);
}

/* Takes the tokenizer, NULL where it did not open. */
static void check_tokenizer(we_tok *tok, we_status opened, const we_error *opening, we_str text)
{
    we_error err = { 0 };
    we_ids ids = { 0 };
    if (opened != WE_OK) {
        require(!tok && opening->message[0]);
        return;
    }
    text.len = WE_MIN(text.len, 2000);
    for (int special = 0; special < 2; special++) {
        we_status st = we_tok_encode(tok, text, special, &ids, &err);
        require(st == WE_OK || err.message[0]);
    }
    for (size_t i = 0; i < ids.n; i++) require(ids.ids[i] >= 0);
    for (int32_t id = -1; id < 8; id++) require(we_ids_push(&ids, id, &err) == WE_OK);
    check_decoding(tok, &ids, true);
    check_decoding(tok, &ids, false);
    (void)we_tok_bos_id(tok);
    we_ids_deinit(&ids);
    we_tok_close(tok);
}

#endif
