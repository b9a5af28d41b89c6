/* SPDX-License-Identifier: Apache-2.0
 * draft.c - guesses at the tokens that come next, so that one step of the model checks several at once: from an earlier place
 * in the text where the same tokens stood (prompt lookup), or from a smaller model (speculative decoding).
 *
 * A guess is right when the model itself draws that token: with the same logits, the same random numbers and the same penalties
 * as without guesses. So the answer is the same text, not only the same distribution; a wrong guess costs time alone.
 * Sources: Leviathan et al. 2023, arXiv:2211.17192 (speculative decoding); Saxena 2023, "Prompt Lookup Decoding". */
#include "runtime/seq_int.h"

#define LOOKUP_SHORTEST 2 /* tokens that must agree before a guess is worth a step */
#define LOOKUP_LONGEST 16 /* more say no more */

/* The end of tokens[0, n) stands somewhere earlier too: how many tokens of it, at most LOOKUP_LONGEST, end at `at`. */
static size_t agreeing(const int32_t *tokens, size_t n, size_t at)
{
    size_t same = 0;
    while (same < LOOKUP_LONGEST && same <= at && tokens[at - same] == tokens[n - 1 - same]) same++;
    return same;
}

/* What followed the earlier place that agrees longest; of those that agree alike, the latest. */
static size_t look_up(const int32_t *tokens, size_t n, size_t most, int32_t *out)
{
    size_t best = LOOKUP_SHORTEST - 1, from = 0;
    for (size_t at = n - 1; at-- > 0 && best < LOOKUP_LONGEST;) {
        const size_t same = agreeing(tokens, n, at);
        if (same > best) best = same, from = at + 1;
    }
    size_t found = 0;
    while (from && found < most && from + found < n) out[found] = tokens[from + found], found++;
    return found;
}

/* What the draft model finds likeliest, one token after the other. */
static we_status ask_model(we_seq *draft, const int32_t *tokens, size_t n, size_t most, int32_t *out, size_t *n_out,
                           we_error *err)
{
    const we_sampling greedy = { .repetition_context = 1 };
    size_t at;
    if (n + most > (size_t)draft->info->context) return WE_OK; /* it may be shorter than the model's */
    we_status st = we_seq_rewind(draft, tokens, n, &at, err);
    for (size_t i = at; i < n; i++)
        if (tokens[i] >= draft->info->vocab_size) return st; /* vocabularies may be padded differently */
    for (size_t piece; !st && at < n; at += piece) {
        piece = WE_MIN(n - at, (size_t)draft->info->step_rows);
        st = we_seq_feed(draft, tokens + at, piece, &greedy, 0, at + piece == n, out, NULL, NULL, err);
    }
    for (*n_out = 1; !st && *n_out < most; ++*n_out)
        st = we_seq_feed(draft, out + *n_out - 1, 1, &greedy, 0, 1, out + *n_out, NULL, NULL, err);
    return st;
}

we_status we_draft(const we_seq *s, const we_generation *r, size_t most, int32_t *out, size_t *n_out, we_error *err)
{
    we_status st = WE_OK;
    *n_out = 0;
    if (most && r->prompt_lookup) *n_out = look_up(s->tokens.ids, s->tokens.n, most, out);
    if (most && r->draft && *n_out == 0) st = ask_model(r->draft, s->tokens.ids, s->tokens.n, most, out, n_out, err);
    for (size_t i = 0; i < *n_out; i++)
        if (out[i] >= s->info->vocab_size) *n_out = i;
    return st;
}
