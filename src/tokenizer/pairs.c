/* SPDX-License-Identifier: Apache-2.0
 * pairs.c - which two characters stand together in some token: a text may be cut anywhere else before it is merged, since no
 * merge crosses such a place. A bit for each pair's hash: two pairs that share one only cost a cut. */
#include "tokenizer/tokenizer_int.h"

#define PAIR_BITS 22
_Static_assert(WE_N_PAIR_WORDS * 64 == 1 << PAIR_BITS, "a bit for each hash");

static uint64_t pair_bit(uint32_t a, uint32_t b)
{
    uint64_t hash = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15U;
    return hash >> (64 - PAIR_BITS);
}

uint64_t *we_rune_pairs_new(void) { return we_calloc(WE_N_PAIR_WORDS, sizeof(uint64_t)); }

void we_rune_pairs_free(uint64_t *pairs) { we_free(pairs); }

bool we_rune_pairs_have(const uint64_t *pairs, uint32_t left, uint32_t right)
{
    uint64_t bit = pair_bit(left, right);
    return pairs[bit / 64] >> (bit % 64) & 1;
}

void we_rune_pairs_note(uint64_t *pairs, we_str token)
{
    uint32_t last = WE_RUNE_INVALID;
    for (size_t i = 0; i < token.len;) {
        uint32_t rune = we_utf8_next(token, &i);
        if (last != WE_RUNE_INVALID) {
            uint64_t bit = pair_bit(last, rune);
            pairs[bit / 64] |= 1ULL << (bit % 64);
        }
        last = rune;
    }
}
