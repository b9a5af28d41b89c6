/* SPDX-License-Identifier: Apache-2.0
 * perplexity.c - how well a decoder predicts a text, alone or beside a base: perplexity, and what the distributions of the
 * next token differ by. The text is cut into windows, each a timeline of its own; the first half of a window is context
 * only, and no logits are computed for it.
 *
 * The base reads a piece of a window, its rows of logits are kept, then the decoder reads the same piece: what is held is
 * one piece of rows, not [tokens, vocab_size] of the text.
 *
 * Source: the figures are those of llama.cpp's tools/perplexity with --kl-divergence. */
#include "runtime/seq_int.h"
#include <math.h>
#include <stdlib.h>

#define BASE_ROWS_BYTES ((size_t)64 << 20) /* rows of the base's logits that are kept, unless 16 of them are more */

typedef struct moments {
    double sum, sum_squares;
} moments;

static void add_to(moments *m, double x)
{
    m->sum += x;
    m->sum_squares += x * x;
}

static double mean_of(const moments *m, uint64_t n) { return m->sum / (double)n; }

static double variance_of(const moments *m, uint64_t n)
{
    const double mean = mean_of(m, n);
    return fmax(m->sum_squares / (double)n - mean * mean, 0);
}

static double error_of(const moments *m, uint64_t n) { return n > 1 ? sqrt(variance_of(m, n) / (double)(n - 1)) : 0; }

typedef struct reading {
    we_seq *seq, *base; /* base: NULL for perplexity alone */
    int32_t *window;    /* [context] */
    size_t context, first_scored;
    size_t position; /* of the piece's first row in the window */
    int vocab_size;
    float *base_logits; /* [piece rows, vocab_size] */
    uint64_t n, n_same_top;
    moments nll, base_nll, log_ratio, kld, probability, probability_squared;
    double nll_products;
    float *klds; /* one for each token scored */
} reading;

typedef struct softmax {
    double log_sum; /* log of the sum of exp(row[i]) */
    int top;
} softmax;

/* expf: each term is off by 1e-7 of itself at most, and a double `exp` took a third of the time over a large vocabulary. */
static softmax softmax_of(const float *row, int n)
{
    int top = 0;
    double sum = 0;
    for (int i = 1; i < n; i++)
        if (row[i] > row[top]) top = i;
    for (int i = 0; i < n; i++) sum += (double)expf(row[i] - row[top]);
    return (softmax){ (double)row[top] + log(sum), top };
}

/* sum of p (log p - log q), p = softmax(base), q = softmax(row) */
static double divergence(const float *base, softmax b, const float *row, softmax q, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)expf((float)((double)base[i] - b.log_sum)) * ((double)base[i] - (double)row[i]);
    return fmax(sum - (b.log_sum - q.log_sum), 0);
}

double we_divergence(const float *base, const float *row, int n)
{
    return divergence(base, softmax_of(base, n), row, softmax_of(row, n), n);
}

static void compare_row(reading *r, const float *row, softmax q, const float *base, int32_t id)
{
    const softmax b = softmax_of(base, r->vocab_size);
    const double nll = q.log_sum - (double)row[id], base_nll = b.log_sum - (double)base[id];
    const double kld = divergence(base, b, row, q, r->vocab_size), difference = exp(-nll) - exp(-base_nll);
    add_to(&r->base_nll, base_nll);
    add_to(&r->log_ratio, nll - base_nll);
    add_to(&r->kld, kld);
    add_to(&r->probability, difference);
    add_to(&r->probability_squared, difference * difference);
    r->nll_products += nll * base_nll;
    r->n_same_top += b.top == q.top;
    r->klds[r->n] = (float)kld;
}

/* The logits of position i score token i + 1. */
static bool score_rows(void *user, size_t first, size_t n, const float *rows)
{
    reading *r = user;
    for (size_t i = 0; i < n; i++) {
        const size_t next = r->position + first + i + 1;
        if (next >= r->context) continue;
        const float *row = rows + i * (size_t)r->vocab_size;
        const softmax q = softmax_of(row, r->vocab_size);
        add_to(&r->nll, q.log_sum - (double)row[r->window[next]]);
        if (r->base) compare_row(r, row, q, r->base_logits + (first + i) * (size_t)r->vocab_size, r->window[next]);
        r->n++;
    }
    return true;
}

static bool keep_rows(void *user, size_t first, size_t n, const float *rows)
{
    reading *r = user;
    const size_t width = (size_t)r->vocab_size;
    memcpy(r->base_logits + first * width, rows, n * width * sizeof(float));
    return true;
}

static size_t piece_rows(const reading *r)
{
    if (!r->base) return WE_STEP_ROWS;
    const size_t rows = BASE_ROWS_BYTES / ((size_t)r->vocab_size * sizeof(float));
    return WE_MIN(WE_MAX(rows, WE_LOGIT_ROWS), WE_STEP_ROWS);
}

static we_status read_window(reading *r, we_error *err)
{
    const size_t rows = piece_rows(r),
                 n_context = r->first_scored - 1; /* the row before the first scored token scores it */
    we_status st = WE_OK;
    we_seq_restart(r->seq);
    if (r->base) we_seq_restart(r->base);
    for (size_t at = 0; at < r->context && !st;) {
        const bool scored = at >= n_context;
        const size_t n = WE_MIN(rows, (scored ? r->context : n_context) - at);
        r->position = at;
        if (r->base) st = we_seq_feed(r->base, r->window + at, n, NULL, 0, 0, NULL, scored ? keep_rows : NULL, r, err);
        if (!st) st = we_seq_feed(r->seq, r->window + at, n, NULL, 0, 0, NULL, scored ? score_rows : NULL, r, err);
        at += n;
    }
    return st;
}

static we_status open_reading(reading *r, we_decoder *decoder, we_decoder *base, size_t n_windows, we_error *err)
{
    const size_t n_scored = n_windows * (r->context - r->first_scored);
    we_status st = we_seq_open(&r->seq, decoder, err);
    if (!st && base) st = we_seq_open(&r->base, base, err);
    if (st) return st;
    r->window = we_calloc(r->context, sizeof *r->window);
    if (base) {
        r->base_logits = we_calloc(piece_rows(r) * (size_t)r->vocab_size, sizeof(float));
        r->klds = we_calloc(n_scored, sizeof(float));
    }
    if (!r->window || (base && (!r->base_logits || !r->klds)))
        return we_fail(err, WE_E_NOMEM, "no memory for a window of %zu tokens", r->context);
    return WE_OK;
}

static void close_reading(reading *r)
{
    we_seq_close(r->seq);
    we_seq_close(r->base);
    we_free(r->window);
    we_free(r->base_logits);
    we_free(r->klds);
}

static we_status check_text(const we_decoder *decoder, const int32_t *tokens, size_t n, int context, size_t taken,
                            we_error *err)
{
    const we_decoder_info *info = we_decoder_get_info(decoder);
    if (context < 4 || context > info->context)
        return we_fail(err, WE_E_RANGE, "perplexity: a context of %d tokens is out of range: 4 to %d", context,
                       info->context);
    if (n < taken)
        return we_fail(err, WE_E_RANGE, "perplexity: the text has %zu tokens, fewer than one window of %zu", n, taken);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= info->vocab_size)
            return we_fail(err, WE_E_RANGE, "token id %d is out of range: this model's vocabulary has the ids 0 to %d",
                           (int)tokens[i], info->vocab_size - 1);
    return WE_OK;
}

static we_status read_text(reading *r, we_decoder *decoder, we_decoder *base, const int32_t *tokens, size_t n,
                           int32_t bos, int context, we_progress_fn progress, void *user, we_error *err)
{
    const size_t taken = (size_t)context - (bos >= 0); /* of the text by each window */
    we_status st = check_text(decoder, tokens, n, context, taken, err);
    if (!st && base) st = check_text(base, tokens, n, context, taken, err);
    if (st) return st;
    r->context = (size_t)context;
    r->first_scored = r->context / 2;
    r->vocab_size = we_decoder_get_info(decoder)->vocab_size;
    const size_t n_windows = n / taken;
    st = open_reading(r, decoder, base, n_windows, err);
    for (size_t i = 0; i < n_windows && !st; i++) {
        if (bos >= 0) r->window[0] = bos;
        memcpy(r->window + (bos >= 0), tokens + i * taken, taken * sizeof *tokens);
        st = read_window(r, err);
        if (!st && progress && !progress(user, i + 1, n_windows))
            st = we_fail(err, WE_E_CANCELLED, "stopped by the caller");
    }
    return st;
}

we_status we_decoder_perplexity(we_decoder *decoder, const int32_t *tokens, size_t n, int32_t bos, int context,
                                we_progress_fn progress, void *user, we_perplexity_result *result, we_error *err)
{
    reading r = { 0 };
    const we_status st = read_text(&r, decoder, NULL, tokens, n, bos, context, progress, user, err);
    if (!st) {
        result->perplexity = exp(mean_of(&r.nll, r.n));
        result->error = result->perplexity * error_of(&r.nll, r.n);
        result->n_tokens = r.n;
        result->context = context;
    }
    close_reading(&r);
    return st;
}

/* ---- Beside a base ---- */

static int by_size(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Between two neighbours the value is interpolated. */
static double percentile(const float *sorted, uint64_t n, double fraction)
{
    const double at = fraction * (double)(n - 1);
    const uint64_t below = (uint64_t)at, above = WE_MIN(below + 1, n - 1);
    return (double)sorted[below] + (at - (double)below) * ((double)sorted[above] - (double)sorted[below]);
}

static void summarize(reading *r, we_comparison *out)
{
    const uint64_t n = r->n;
    const double same = (double)r->n_same_top / (double)n;
    const double covariance = r->nll_products / (double)n - mean_of(&r->nll, n) * mean_of(&r->base_nll, n);
    const double spread = sqrt(variance_of(&r->nll, n) * variance_of(&r->base_nll, n));
    qsort(r->klds, (size_t)n, sizeof *r->klds, by_size);
    out->n_tokens = n;
    out->context = (int)r->context;
    out->perplexity = exp(mean_of(&r->nll, n));
    out->perplexity_error = out->perplexity * error_of(&r->nll, n);
    out->base_perplexity = exp(mean_of(&r->base_nll, n));
    out->base_perplexity_error = out->base_perplexity * error_of(&r->base_nll, n);
    out->perplexity_ratio = exp(mean_of(&r->log_ratio, n));
    out->perplexity_ratio_error = out->perplexity_ratio * error_of(&r->log_ratio, n);
    out->log_perplexity_correlation = spread > 0 ? covariance / spread : 1;
    out->kld_mean = mean_of(&r->kld, n);
    out->kld_error = error_of(&r->kld, n);
    out->kld_median = percentile(r->klds, n, 0.5);
    out->kld_p90 = percentile(r->klds, n, 0.9);
    out->kld_p95 = percentile(r->klds, n, 0.95);
    out->kld_p99 = percentile(r->klds, n, 0.99);
    out->kld_p999 = percentile(r->klds, n, 0.999);
    out->kld_max = (double)r->klds[n - 1];
    out->probability_mean = mean_of(&r->probability, n);
    out->probability_mean_error = error_of(&r->probability, n);
    out->probability_rms = sqrt(mean_of(&r->probability_squared, n));
    out->probability_rms_error =
        out->probability_rms > 0 ? error_of(&r->probability_squared, n) / (2 * out->probability_rms) : 0;
    out->top1_agreement = same;
    out->top1_agreement_error = n > 1 ? sqrt(same * (1 - same) / (double)(n - 1)) : 0;
}

we_status we_decoder_compare(we_decoder *decoder, we_decoder *base, const int32_t *tokens, size_t n, int32_t bos,
                             int context, we_progress_fn progress, void *user, we_comparison *result, we_error *err)
{
    const int vocab_size = we_decoder_get_info(decoder)->vocab_size, base_size = we_decoder_get_info(base)->vocab_size;
    if (vocab_size != base_size)
        return we_fail(
            err, WE_E_ARG,
            "the model's vocabulary has %d tokens, the base's %d: only models with one vocabulary can be compared",
            vocab_size, base_size);
    reading r = { 0 };
    const we_status st = read_text(&r, decoder, base, tokens, n, bos, context, progress, user, err);
    if (!st) summarize(&r, result);
    close_reading(&r);
    return st;
}
