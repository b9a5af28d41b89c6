/* SPDX-License-Identifier: Apache-2.0
 * seq_int.h - the inside of a sequence, for the files of runtime/. */
#ifndef WE_SEQ_INT_H
#define WE_SEQ_INT_H

#include "runtime/runtime.h"

struct we_seq {
    we_decoder *decoder;
    we_device *device;
    const we_decoder_info *info;
    we_kv *kv;
    we_ids tokens; /* what the cache holds, in order */
    we_kv *snapshot;
    we_ids snapshot_tokens; /* what the snapshot holds */
    uint64_t kv_counted;    /* by the monitor */
    we_tensor *drawn[2];    /* of a device that runs behind: the tokens of the newest two steps, in turn */
    int newest;
    bool ahead; /* the step of the token drawn[newest], which nobody has read, has begun behind `tokens` */
    atomic_bool cancelled;
};

/** Run the next n tokens (n <= info.step_rows) through the decoder; they are in `tokens` afterwards, or not on failure.
 * n_draws: 0, or draw what follows each of the last n_draws tokens (WE_DRAFT_MOST + 1 at most) into sampled[]; the first of
 * them is number n_generated of the answer. on_logits: NULL, or gets the logits of all n rows. */
we_status we_seq_feed(we_seq *seq, const int32_t *ids, size_t n, const we_sampling *sampling, uint64_t n_generated,
                      size_t n_draws, int32_t *sampled, we_logits_fn on_logits, void *user, we_error *err);

/** The same for one token and what follows it, on a device that runs behind: the step after it is begun before the token is read,
 * so that the device never waits for us. more: that step will be wanted, as far as is known. Only without a penalty, which has to
 * know the token first. */
we_status we_seq_next(we_seq *seq, int32_t token, const we_sampling *sampling, uint64_t n_generated, bool more,
                      int32_t *next, we_error *err);

/** Forget all but the first n tokens, none of which lies before the last feed's first: that is always possible. */
we_status we_seq_trim(we_seq *seq, size_t n, we_error *err);

#define WE_DRAFT_MOST 7 /* with the token before them, a step that kernels take in one pass */
/** Guess up to `most` tokens (WE_DRAFT_MOST at most) that follow the sequence's, as the request asks. */
we_status we_draft(const we_seq *seq, const we_generation *request, size_t most, int32_t *out, size_t *n_out,
                   we_error *err);

/** Make the cache hold a beginning of tokens[0, n - 1) as long as it can, and tell its length: the last token is always left
 * to compute, since its logits are wanted. */
we_status we_seq_rewind(we_seq *seq, const int32_t *tokens, size_t n, size_t *reused, we_error *err);

/** Begin a new timeline that will be as long as the one before: the cache keeps its memory where its pages can be written
 * again (no window dropped any). */
void we_seq_restart(we_seq *seq);

/** Keep a snapshot of the cache as it is now, where it could not be gone back to otherwise. */
we_status we_seq_keep(we_seq *seq, we_error *err);

/** WE_E_RANGE where a prompt does not fit the context or holds ids beyond the vocabulary. */
we_status we_seq_check_prompt(const we_seq *seq, const int32_t *tokens, size_t n, we_error *err);

#endif
