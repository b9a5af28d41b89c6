/* SPDX-License-Identifier: Apache-2.0
 * sampling.c - the parameters of a draw: their ranges, and the order to the device that they make. The draw itself is a
 * device's op; stop texts are in stop.c. */
#include "sampling/sampling.h"

#define MAX_REPETITION_CONTEXT 1000000

static bool penalizes(const we_sampling *s) { return s->repetition_penalty != 0 && s->repetition_penalty != 1; }

static we_status check_range(const char *name, double value, double low, double high, we_error *err)
{
    if (value >= low && value <= high) return WE_OK; /* a NaN is neither */
    return we_fail(err, WE_E_RANGE, "%s is %g, expected %g to %.7g", name, value, low, high);
}

we_status we_sampling_check(const we_sampling *s, int vocab_size, we_error *err)
{
    const int least_context = penalizes(s) ? 1 : 0; /* a zeroed struct is greedy and valid */
    we_status st;
    if ((st = check_range("temperature", (double)s->temperature, 0, 100, err)) ||
        (st = check_range("top_p", (double)s->top_p, 0, 1, err)) ||
        (st = check_range("min_p", (double)s->min_p, 0, 1, err)) ||
        (st = check_range("top_k", s->top_k, 0, vocab_size, err)) ||
        (st = check_range("repetition_penalty", (double)s->repetition_penalty, 0, 100, err)) ||
        (st = check_range("repetition_context", s->repetition_context, least_context, MAX_REPETITION_CONTEXT, err)))
        return st;
    return WE_OK;
}

we_sample_spec we_sampling_spec(const we_sampling *s, uint64_t n_generated, const int32_t *history, size_t n_history)
{
    we_sample_spec spec = {
        .temperature = s->temperature,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .top_k = s->top_k,
        .seed = s->seed,
        .counter = n_generated,
    };
    if (penalizes(s)) {
        const size_t n = WE_MIN(n_history, (size_t)s->repetition_context);
        spec.repetition_penalty = s->repetition_penalty;
        spec.recent = n ? history + (n_history - n) : NULL;
        spec.n_recent = (int32_t)n;
    }
    return spec;
}
