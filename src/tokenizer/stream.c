/* SPDX-License-Identifier: Apache-2.0
 * stream.c - text for ids as they come: the decoders' chain, kept between calls. */
#include "tokenizer/tokenizer_int.h"

void we_tok_stream_init(we_tok_stream *s, const we_tok *tok, bool skip_special)
{
    *s = (we_tok_stream){ .tok = tok, .skip_special = skip_special };
}

void we_tok_stream_deinit(we_tok_stream *s)
{
    if (s->state) {
        we_decode_deinit(s->state);
        we_free(s->state);
    }
    we_buf_deinit(&s->text);
    *s = (we_tok_stream){ 0 };
}

/* The chain, made with the first id. */
static we_status begin(we_tok_stream *s, we_error *err)
{
    we_buf_clear(&s->text);
    if (s->state) return WE_OK;
    we_decode *state = we_malloc(sizeof(*state));
    if (!state) return we_fail(err, WE_E_NOMEM, "no memory to decode tokens");
    we_status st = we_decode_init(state, s->tok, true, err);
    if (st)
        we_free(state);
    else
        s->state = state;
    return st;
}

we_status we_tok_stream_feed(we_tok_stream *s, int32_t id, we_str *piece, we_error *err)
{
    *piece = (we_str){ "", 0 };
    we_status st = begin(s, err);
    if (!st) st = we_decode_feed(s->state, id, s->skip_special, &s->text, err);
    if (!st) *piece = we_buf_str(&s->text);
    return st;
}

we_status we_tok_stream_flush(we_tok_stream *s, we_str *piece, we_error *err)
{
    *piece = (we_str){ "", 0 };
    we_status st = begin(s, err);
    if (!st) st = we_decode_flush(s->state, &s->text, err);
    if (!st) *piece = we_buf_str(&s->text);
    return st;
}
