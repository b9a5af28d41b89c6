/* SPDX-License-Identifier: Apache-2.0
 * generate.c - the generation loop: reuse, prefill in pieces, then token by token: draw, end-of-turn check, text, stop
 * texts, callback. */
#include "runtime/seq_int.h"

typedef struct writer { /* from tokens to the text that the caller sees */
    const we_generation *request;
    we_tok_stream stream;
    we_stop stop;
    we_buf text;  /* the whole answer so far */
    bool refused; /* on_piece returned false */
} writer;

static we_status emit(writer *w, we_str piece, int32_t token, we_error *err)
{
    if (!piece.len) return WE_OK;
    we_buf_append_str(&w->text, piece);
    const we_status st = we_buf_status(&w->text, err, "the answer");
    if (st || !w->request->on_piece || w->refused) return st;
    const char *shown = w->text.ptr + (w->text.len - piece.len); /* the buffer keeps a NUL behind it */
    if (!w->request->on_piece(w->request->user, shown, piece.len, token)) w->refused = true;
    return WE_OK;
}

static we_status write_token(writer *w, int32_t token, we_error *err)
{
    we_str piece, safe;
    we_status st;
    if (!w->request->tok) return WE_OK;
    if ((st = we_tok_stream_feed(&w->stream, token, &piece, err)) || (st = we_stop_feed(&w->stop, piece, &safe, err)))
        return st;
    return emit(w, safe, token, err);
}

/* What was held back: half characters, beginnings of stop texts. */
static we_status write_rest(writer *w, we_error *err)
{
    we_str piece, safe;
    we_status st;
    if (!w->request->tok || w->stop.stopped) return WE_OK;
    if ((st = we_tok_stream_flush(&w->stream, &piece, err)) || (st = we_stop_feed(&w->stop, piece, &safe, err)) ||
        (st = emit(w, safe, -1, err)) || w->stop.stopped)
        return st;
    if ((st = we_stop_flush(&w->stop, &safe, err))) return st;
    return emit(w, safe, -1, err);
}

static bool is_eos(const we_generation *r, int32_t token)
{
    for (size_t i = 0; i < r->n_eos && !r->ignore_eos; i++)
        if (r->eos[i] == token) return true;
    return false;
}

static bool cancelled(we_seq *s) { return atomic_load_explicit(&s->cancelled, memory_order_relaxed); }

/* Compute what the cache lacks of the prompt; the last piece draws the first token. False in *go_on: stopped. */
static we_status prefill(we_seq *s, const we_generation *r, we_result *result, int32_t *token, bool *go_on,
                         we_error *err)
{
    size_t at;
    we_status st = we_seq_rewind(s, r->tokens, r->n_tokens, &at, err);
    if (st) return st;
    result->n_cached_tokens = at;
    *go_on = true;
    while (at < r->n_tokens) {
        if (cancelled(s) || (r->on_prefill && !r->on_prefill(r->user, at, r->n_tokens))) *go_on = false;
        if (!*go_on) return WE_OK;
        size_t piece = WE_MIN(r->n_tokens - at, (size_t)s->info->step_rows);
        if (at < r->mark && r->mark < at + piece) piece = r->mark - at; /* a snapshot is taken between pieces */
        const bool last = at + piece == r->n_tokens;
        st = we_seq_feed(s, r->tokens + at, piece, &r->sampling, 0, last ? 1 : 0, token, NULL, NULL, err);
        if (st == WE_E_CANCELLED) { /* in the middle of a piece, which is forgotten */
            *go_on = false;
            return WE_OK;
        }
        if (st) return st;
        at += piece;
        if (at == r->mark && (st = we_seq_keep(s, err))) return st;
    }
    if (r->on_prefill && !r->on_prefill(r->user, at, r->n_tokens)) *go_on = false;
    return WE_OK;
}

/* Tokens of the answer that are known but not yet given out. All but the last have been through the model. */
typedef struct known {
    int32_t tokens[WE_DRAFT_MOST + 1];
    size_t n, at;
    size_t guesses; /* worth making next: more after right ones, one after none was right */
} known;

/* Whether a step can be begun before the token that it reads is known. */
static bool goes_ahead(const we_seq *s, const we_generation *r)
{
    const float penalty = r->sampling.repetition_penalty;
    return s->device->runs_behind && !r->prompt_lookup && !r->draft && (penalty == 0 || penalty == 1);
}

/* One step of the model: the last known token, and guesses behind it that the model's own draws confirm or end. */
static we_status step(we_seq *s, const we_generation *r, we_result *result, size_t n_generated, known *k, we_error *err)
{
    const size_t before = s->tokens.n, context = (size_t)s->info->context;
    int32_t ids[WE_DRAFT_MOST + 1] = { k->tokens[k->n - 1] };
    size_t n = 0, most = WE_MIN(k->guesses, context - before - 1), right = 0;
    if (r->max_tokens > 0) most = WE_MIN(most, (size_t)r->max_tokens - n_generated - 1);
    we_status st;
    if (goes_ahead(s, r)) {
        const bool more = before + 2 < context && (r->max_tokens <= 0 || n_generated + 1 < (size_t)r->max_tokens);
        k->n = 1;
        k->at = 0;
        return we_seq_next(s, ids[0], &r->sampling, n_generated, more, k->tokens, err);
    }
    if ((r->prompt_lookup || r->draft) && most > 0) {
        if ((st = we_ids_push(&s->tokens, ids[0], err))) return st; /* guesses follow all that is known */
        st = we_draft(s, r, most, ids + 1, &n, err);
        s->tokens.n = before;
        if (st) return st;
    }
    if ((st = we_seq_feed(s, ids, n + 1, &r->sampling, n_generated, n + 1, k->tokens, NULL, NULL, err))) return st;
    while (right < n && k->tokens[right] == ids[1 + right]) right++;
    k->n = right + 1;
    k->at = 0;
    if (n) k->guesses = WE_MIN(right == n ? 2 * n + 1 : right + 1, WE_DRAFT_MOST);
    result->n_drafted += n;
    result->n_accepted += right;
    return we_seq_trim(s, before + 1 + right, err);
}

#define KV_COUNTED_EACH 64 /* tokens: walking a long cache's pages is not for every one */

static we_status decode(we_seq *s, const we_generation *r, writer *w, we_ids *out, int32_t token, we_result *result,
                        we_monitor_request *monitor, we_error *err)
{
    known k = { .tokens = { token }, .n = 1, .guesses = 3 };
    for (;;) {
        we_status st;
        token = k.tokens[k.at++];
        if (is_eos(r, token)) {
            result->finish = WE_FINISH_EOS;
            break;
        }
        we_monitor_tokens(monitor, 1);
        if (out->n % KV_COUNTED_EACH == 0) we_monitor_kv(&s->kv_counted, we_seq_kv_bytes(s));
        if ((st = we_ids_push(out, token, err)) || (st = write_token(w, token, err))) return st;
        const bool full =
            r->n_tokens + out->n > (size_t)s->info->context || (r->max_tokens > 0 && out->n >= (size_t)r->max_tokens);
        if (w->stop.stopped)
            result->finish = WE_FINISH_STOP;
        else if (w->refused || cancelled(s))
            result->finish = WE_FINISH_CANCELLED;
        else if (full)
            result->finish = WE_FINISH_LENGTH;
        else if (k.at < k.n)
            continue;
        else if (!(st = step(s, r, result, out->n, &k, err)))
            continue;
        else
            return st;
        break;
    }
    return we_seq_trim(s, r->n_tokens + out->n, err); /* what was right but came behind the end */
}

we_status we_seq_generate(we_seq *s, const we_generation *r, we_result *result, we_error *err)
{
    const double start = we_now_s();
    writer w = { .request = r };
    we_ids out = { 0 };
    we_status st;
    if ((st = we_seq_check_prompt(s, r->tokens, r->n_tokens, err)) ||
        (st = we_sampling_check(&r->sampling, s->info->vocab_size, err)) ||
        (st = we_stop_init(&w.stop, r->stop, r->n_stop, err)))
        return st;
    if (r->tok) we_tok_stream_init(&w.stream, r->tok, true);

    we_monitor_request monitor;
    int32_t token = 0;
    bool go_on = false;
    we_monitor_begin(&monitor);
    result->n_prompt_tokens = r->n_tokens;
    result->finish = WE_FINISH_CANCELLED;
    st = prefill(s, r, result, &token, &go_on, err);
    const double first = we_now_s();
    result->prefill_s = first - start;
    if (!st && go_on) {
        result->first_token_s = first - start;
        we_monitor_first_token(&monitor, r->n_tokens - result->n_cached_tokens, result->n_cached_tokens);
        st = decode(s, r, &w, &out, token, result, &monitor, err);
        const we_status rest = write_rest(&w, st ? NULL : err);
        if (!st) st = rest;
        if (!st && w.stop.stopped) result->finish = WE_FINISH_STOP;
        result->decode_s = we_now_s() - first;
    }
    we_monitor_kv(&s->kv_counted, we_seq_kv_bytes(s));
    we_monitor_end(&monitor, st == WE_OK);
    result->tokens = out.ids;
    result->n_tokens = out.n;
    if (r->tok) {
        result->text = we_buf_take(&w.text, &result->len);
        we_tok_stream_deinit(&w.stream);
    }
    we_stop_deinit(&w.stop);
    we_buf_deinit(&w.text);
    return st;
}
