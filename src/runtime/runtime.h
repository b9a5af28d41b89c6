/* SPDX-License-Identifier: Apache-2.0
 * runtime.h - sequences: a token timeline with its KV cache on a decoder, reuse of what a new prompt shares with it, the
 * generation loop with streaming text and stop texts, measuring. Chat templates and model folders are not known here.
 *
 * Reuse: a prompt is compared with the tokens in the cache; what follows the common beginning is forgotten, and only the
 * rest is computed. A cache with sliding windows cannot always go back: then the snapshot taken at `mark` (the end of the
 * last user turn, where the next prompt will still agree) is taken up, or else all is computed again and the log says so. */
#ifndef WE_RUNTIME_H
#define WE_RUNTIME_H

#include "model/model.h"
#include "sampling/sampling.h"
#include "tokenizer/tokenizer.h"
#include <stdatomic.h>

typedef struct we_seq we_seq; /* one thread at a time, but for cancelling */

we_status we_seq_open(we_seq **out, we_decoder *decoder, we_error *err);
void we_seq_close(we_seq *seq); /* NULL is allowed */
/** Forget all tokens. */
void we_seq_reset(we_seq *seq);
size_t we_seq_length(const we_seq *seq);     /* tokens in the cache */
uint64_t we_seq_kv_bytes(const we_seq *seq); /* held now, snapshot included */
/** The flag that stops a running call soon; set it from any thread or signal handler, clear it before a call. */
atomic_bool *we_seq_cancel_flag(we_seq *seq);

typedef struct we_generation {
    const int32_t *tokens; /* [n_tokens] the whole prompt, n_tokens >= 1 */
    size_t n_tokens;
    size_t mark;    /* tokens[0, mark) will come again in the next prompt; 0: unknown */
    int max_tokens; /* 0: to the context's end */
    we_sampling sampling;
    const int32_t *eos; /* [n_eos] end the answer, unless ignore_eos */
    size_t n_eos;
    bool ignore_eos;
    const we_tok *tok;  /* NULL: no text */
    const we_str *stop; /* [n_stop] */
    size_t n_stop;
    bool prompt_lookup; /* guess tokens from earlier places in the text */
    we_seq *draft;      /* guess tokens with this model of the same vocabulary; NULL: none */
    we_piece_fn on_piece;
    we_prefill_fn on_prefill;
    void *user;
} we_generation;

/** Run it. `result` (deinit with we_result_deinit) is filled as far as things went, after an error too.
 * Errors: see we_session_generate in whisperengine.h. */
we_status we_seq_generate(we_seq *seq, const we_generation *request, we_result *result, we_error *err);

/** The logits of every token of a prompt, from an empty cache. Errors: see we_session_eval. */
we_status we_seq_eval(we_seq *seq, const int32_t *tokens, size_t n, we_logits_fn fn, void *user, we_error *err);

/** See we_bench in whisperengine.h. */
we_status we_decoder_bench(we_decoder *decoder, const we_bench_options *options, we_bench_sample *samples,
                           we_error *err);

/** Kullback-Leibler divergence D(softmax(base) || softmax(row)) of two rows of n logits. */
double we_divergence(const float *base, const float *row, int n);

/** See we_perplexity. tokens: of the whole text; bos: begins each window, -1 for none. */
we_status we_decoder_perplexity(we_decoder *decoder, const int32_t *tokens, size_t n, int32_t bos, int context,
                                we_progress_fn progress, void *user, we_perplexity_result *result, we_error *err);

/** See we_compare: the same windows through both decoders. */
we_status we_decoder_compare(we_decoder *decoder, we_decoder *base, const int32_t *tokens, size_t n, int32_t bos,
                             int context, we_progress_fn progress, void *user, we_comparison *result, we_error *err);

/* ---- Monitor (monitor.c, monitor_each.c): what this process does, in a page of figures that `top` of another one reads ---- */

/** A model is there, or gone: the first brings the page, the last takes it away. Texts are copied. */
void we_monitor_model_opened(const char *model, const char *device, uint64_t weights_bytes, uint64_t scratch_bytes);
void we_monitor_model_closed(uint64_t weights_bytes, uint64_t scratch_bytes);

typedef struct we_monitor_request { /* one request's own figures, with whoever runs it */
    double start_s, first_s;
    uint64_t n_generated;
} we_monitor_request;
void we_monitor_begin(we_monitor_request *r);
/** The prompt is read: that many tokens were computed, those were in the cache. */
void we_monitor_first_token(we_monitor_request *r, size_t n_computed, size_t n_cached);
void we_monitor_tokens(we_monitor_request *r, size_t n); /* n more have come, one of each sequence */
void we_monitor_end(we_monitor_request *r, bool ok);
/** A cache has so many bytes now; *counted is the caller's, 0 at first, and what is counted of it. */
void we_monitor_kv(uint64_t *counted, uint64_t now);

/** See we_monitor_get and we_monitor_each in whisperengine.h. */
we_status we_monitor_self(we_monitor_info *info, we_error *err);
we_status we_monitor_each_process(we_monitor_fn fn, void *user, we_error *err);

#endif
