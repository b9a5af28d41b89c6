/* SPDX-License-Identifier: Apache-2.0
 * seq.c - a token timeline and its KV cache: feeding tokens, going back, snapshots. */
#include "runtime/seq_int.h"
#include <assert.h>

we_status we_seq_open(we_seq **out, we_decoder *decoder, we_error *err)
{
    *out = NULL;
    we_seq *s = we_calloc(1, sizeof *s);
    if (!s) return we_fail(err, WE_E_NOMEM, "no memory for a session");
    s->decoder = decoder;
    s->device = we_decoder_device(decoder);
    s->info = we_decoder_get_info(decoder);
    atomic_init(&s->cancelled, false);
    we_status st = we_decoder_kv_new(decoder, &s->kv, err);
    for (int i = 0; i < 2 && !st && s->device->runs_behind; i++)
        st = s->device->ops->ids_new(s->device, 1, &s->drawn[i], err);
    if (st) {
        we_seq_close(s);
        return st;
    }
    *out = s;
    return WE_OK;
}

static void drop_snapshot(we_seq *s)
{
    s->device->ops->kv_free(s->device, s->snapshot);
    s->snapshot = NULL;
    s->snapshot_tokens.n = 0;
}

void we_seq_close(we_seq *s)
{
    if (!s) return;
    we_monitor_kv(&s->kv_counted, 0);
    drop_snapshot(s);
    s->device->ops->kv_free(s->device, s->kv);
    for (int i = 0; i < 2; i++) s->device->ops->tensor_free(s->device, s->drawn[i]);
    we_ids_deinit(&s->tokens);
    we_ids_deinit(&s->snapshot_tokens);
    we_free(s);
}

void we_seq_reset(we_seq *s)
{
    drop_snapshot(s);
    const bool emptied = s->device->ops->kv_trim(s->device, s->kv, 0);
    assert(emptied); /* nothing before position 0 can be missing */
    (void)emptied;
    s->tokens.n = 0;
    s->ahead = false;
    we_monitor_kv(&s->kv_counted, we_seq_kv_bytes(s));
}

void we_seq_restart(we_seq *s)
{
    s->ahead = false;
    if (s->info->rewinds && !s->snapshot)
        s->tokens.n = 0; /* a token sees no position behind its own: what lies there is written before it is read */
    else
        we_seq_reset(s);
}

size_t we_seq_length(const we_seq *s) { return s->tokens.n; }

uint64_t we_seq_kv_bytes(const we_seq *s)
{
    const uint64_t kept = s->snapshot ? s->device->ops->kv_bytes(s->device, s->snapshot) : 0;
    return s->device->ops->kv_bytes(s->device, s->kv) + kept; /* pages that both share count twice: an upper bound */
}

atomic_bool *we_seq_cancel_flag(we_seq *s) { return &s->cancelled; }

/* ---- Feeding ---- */

we_status we_seq_feed(we_seq *s, const int32_t *ids, size_t n, const we_sampling *sampling, uint64_t n_generated,
                      size_t n_draws, int32_t *sampled, we_logits_fn on_logits, void *user, we_error *err)
{
    assert(n >= 1 && n <= (size_t)s->info->step_rows && n_draws <= n && n_draws <= WE_DRAFT_MOST + 1);
    const size_t before = s->tokens.n;
    s->ahead = false; /* what it wrote is written again */
    we_status st = s->device->ops->kv_reserve(s->device, s->kv, (int64_t)before, (int64_t)(before + n), err);
    for (size_t i = 0; i < n && !st; i++) st = we_ids_push(&s->tokens, ids[i], err);
    if (st) {
        s->tokens.n = before;
        return st;
    }
    int32_t rows[WE_STEP_ROWS_MOST];
    const size_t n_out = on_logits ? n : n_draws;
    for (size_t i = 0; i < n_out; i++) rows[i] = (int32_t)(n - n_out + i);
    we_sample_spec specs[WE_DRAFT_MOST + 1];
    for (size_t i = 0; i < n_draws; i++)
        specs[i] = we_sampling_spec(sampling, n_generated + i, s->tokens.ids, s->tokens.n - n_draws + 1 + i);
    const we_span span = { s->kv, 0, (int32_t)n, (int32_t)before };
    const we_step_request request = {
        .spans = &span,
        .n_spans = 1,
        .n_rows = (int)n,
        .ids = s->tokens.ids + before,
        .out_rows = rows,
        .n_out = (int)n_out,
        .specs = n_draws ? specs : NULL,
        .sampled = sampled,
        .cancelled = n_draws < n ? &s->cancelled : NULL, /* a prompt's piece; a step that draws all its rows is short */
        .on_logits = on_logits,
        .user = user,
    };
    st = we_decoder_step(s->decoder, &request, err);
    if (st) s->tokens.n = before; /* the cache's rows behind are written again by the next feed */
    return st;
}

/* Begin the step of the token at position tokens.n - 1 + behind: `token`, or the one in drawn[newest]. */
static we_status begin_next(we_seq *s, const int32_t *token, const we_sampling *sampling, uint64_t n_generated,
                            we_error *err)
{
    const int64_t at = (int64_t)s->tokens.n;
    const int into = token ? s->newest : 1 - s->newest;
    we_status st = s->device->ops->kv_reserve(s->device, s->kv, at, at + 1, err);
    if (st) return st;
    const we_span span = { s->kv, 0, 1, (int32_t)at };
    const int32_t row = 0;
    const we_sample_spec spec = we_sampling_spec(sampling, n_generated, s->tokens.ids, s->tokens.n);
    const we_step_request request = {
        .spans = &span,
        .n_spans = 1,
        .n_rows = 1,
        .ids = token,
        .drawn_before = s->drawn[s->newest],
        .out_rows = &row,
        .n_out = 1,
        .specs = &spec,
        .drawn = s->drawn[into],
    };
    st = we_decoder_step(s->decoder, &request, err);
    if (!st) s->newest = into;
    return st;
}

we_status we_seq_next(we_seq *s, int32_t token, const we_sampling *sampling, uint64_t n_generated, bool more,
                      int32_t *next, we_error *err)
{
    we_status st = s->ahead ? WE_OK : begin_next(s, &token, sampling, n_generated, err);
    s->ahead = false;
    if (!st) st = we_ids_push(&s->tokens, token, err);
    if (st) return st;
    const int drawn = s->newest;
    if (more) {
        if ((st = begin_next(s, NULL, sampling, n_generated + 1, err))) return st;
        s->ahead = true;
    }
    const int32_t *value = s->device->ops->read(s->device, s->drawn[drawn], err);
    if (!value) return err ? err->status : WE_E_DEVICE;
    *next = *value;
    return WE_OK;
}

/* ---- Going back ---- */

we_status we_seq_trim(we_seq *s, size_t n, we_error *err)
{
    if (n >= s->tokens.n) return WE_OK;
    s->ahead = false;
    if (!s->device->ops->kv_trim(s->device, s->kv, (int64_t)n))
        return we_fail(err, WE_E_INTERNAL, "the KV cache cannot go back from %zu to %zu tokens", s->tokens.n, n);
    s->tokens.n = n;
    return WE_OK;
}

static size_t common_prefix(const we_ids *a, const int32_t *b, size_t n)
{
    size_t i = 0;
    while (i < a->n && i < n && a->ids[i] == b[i]) i++;
    return i;
}

we_status we_seq_rewind(we_seq *s, const int32_t *tokens, size_t n, size_t *reused, we_error *err)
{
    const we_device_ops *ops = s->device->ops;
    const size_t common = common_prefix(&s->tokens, tokens, n - 1);
    s->ahead = false;
    if (common == s->tokens.n || ops->kv_trim(s->device, s->kv, (int64_t)common)) {
        s->tokens.n = common;
    } else if (s->snapshot && common_prefix(&s->snapshot_tokens, tokens, n - 1) == s->snapshot_tokens.n) {
        we_kv *copy;
        we_status st = ops->kv_copy(s->device, s->snapshot, &copy, err);
        if (st) return st;
        ops->kv_free(s->device, s->kv);
        s->kv = copy;
        s->tokens.n = 0;
        for (size_t i = 0; i < s->snapshot_tokens.n && !st; i++)
            st = we_ids_push(&s->tokens, s->snapshot_tokens.ids[i], err);
        if (st) return st;
        we_log(runtime, INFO, "went back to the snapshot after %zu tokens: the cache cannot rewind to %zu", s->tokens.n,
               common);
    } else {
        we_log(runtime, INFO, "computing the whole prompt again: the cache cannot rewind from %zu to %zu tokens",
               s->tokens.n, common);
        we_seq_reset(s);
    }
    *reused = s->tokens.n;
    return WE_OK;
}

we_status we_seq_keep(we_seq *s, we_error *err)
{
    if (s->info->rewinds) return WE_OK;
    s->ahead = false;
    drop_snapshot(s);
    we_status st = WE_OK;
    for (size_t i = 0; i < s->tokens.n && !st; i++) st = we_ids_push(&s->snapshot_tokens, s->tokens.ids[i], err);
    if (!st) st = s->device->ops->kv_copy(s->device, s->kv, &s->snapshot, err);
    if (st) drop_snapshot(s);
    return st;
}

/* ---- All logits of a prompt ---- */

typedef struct offset_rows { /* rows of a piece -> rows of the prompt */
    we_logits_fn fn;
    void *user;
    size_t first;
} offset_rows;

static bool pass_rows(void *user, size_t first, size_t n, const float *rows)
{
    const offset_rows *o = user;
    return o->fn(o->user, o->first + first, n, rows);
}

we_status we_seq_check_prompt(const we_seq *s, const int32_t *tokens, size_t n, we_error *err)
{
    if (n > (size_t)s->info->context)
        return we_fail(err, WE_E_RANGE,
                       "the prompt has %zu tokens, but the context holds %d: shorten it, begin a new conversation, or "
                       "raise --context",
                       n, s->info->context);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= s->info->vocab_size)
            return we_fail(err, WE_E_RANGE, "token id %d is out of range: this model's vocabulary has the ids 0 to %d",
                           (int)tokens[i], s->info->vocab_size - 1);
    return WE_OK;
}

we_status we_seq_eval(we_seq *s, const int32_t *tokens, size_t n, we_logits_fn fn, void *user, we_error *err)
{
    we_status st = we_seq_check_prompt(s, tokens, n, err);
    if (!st) we_seq_reset(s);
    offset_rows rows = { fn, user, 0 };
    while (rows.first < n && !st) {
        if (atomic_load(&s->cancelled)) return we_fail(err, WE_E_CANCELLED, "stopped");
        const size_t piece = WE_MIN(n - rows.first, (size_t)s->info->step_rows);
        st = we_seq_feed(s, tokens + rows.first, piece, NULL, 0, 0, NULL, pass_rows, &rows, err);
        rows.first += piece;
    }
    return st;
}
