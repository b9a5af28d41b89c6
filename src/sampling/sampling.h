/* SPDX-License-Identifier: Apache-2.0
 * sampling.h - which token comes next, and where an answer ends. The arithmetic on logits is a device's op (device/device.h:
 * sample); here live the parameters, their checks, the look-back window, and the stop texts.
 * Order and meaning of the filters follow mlx_lm/sample_utils.py: repetition penalty on logits, then top-p, min-p, top-k on
 * the log-probabilities at temperature 1, then one draw at `temperature`. */
#ifndef WE_SAMPLING_H
#define WE_SAMPLING_H

#include "device/device.h"

typedef struct we_sampling {
    float temperature;        /* 0: greedy */
    float top_p;              /* 0 or 1: off */
    float min_p;              /* 0: off */
    int top_k;                /* 0: off */
    float repetition_penalty; /* 0 or 1: off */
    int repetition_context;   /* tokens looked back on */
    uint64_t seed;
} we_sampling;

/** WE_E_RANGE naming field, value and range: temperature 0..100 and finite, top_p 0..1, min_p 0..1, top_k 0..vocab_size,
 * repetition_penalty 0..100, repetition_context 1..1,000,000 (0 too while the penalty is off). */
we_status we_sampling_check(const we_sampling *sampling, int vocab_size, we_error *err);

/** The device's order for the n-th generated token (from 0) of an answer. history: all tokens of the timeline, prompt
 * included; borrowed by the result, so it must not move before the op has run. */
we_sample_spec we_sampling_spec(const we_sampling *sampling, uint64_t n_generated, const int32_t *history,
                                size_t n_history);

/* ---- Stop texts ---- */

/* Looks for several texts in a stream and holds back what could still become one, so that a stop text never leaks, also
 * across token borders. Bytes, not characters: a stop text is found wherever it stands; what is given out is cut at
 * character borders only if it came in so. */
typedef struct we_stop {
    const we_str *texts; /* borrowed: n non-empty texts */
    size_t n;
    we_buf held;  /* may be the beginning of a stop text */
    we_buf out;   /* what the last call gave */
    bool stopped; /* a stop text was seen; nothing more comes out */
    size_t which; /* its index, once stopped */
} we_stop;

/** Errors: WE_E_ARG (an empty text). */
we_status we_stop_init(we_stop *stop, const we_str *texts, size_t n, we_error *err);
void we_stop_deinit(we_stop *stop);
/** Feed a piece; *out (borrowed until the next call) is the text that is now safe. The earliest match ends the stream; of
 * matches that begin at the same byte the longest. Once `stopped`, gives empty text. */
we_status we_stop_feed(we_stop *stop, we_str piece, we_str *out, we_error *err);
/** End of the answer: what was held back. */
we_status we_stop_flush(we_stop *stop, we_str *out, we_error *err);

#endif
