/* SPDX-License-Identifier: Apache-2.0
 * fuzz_tiktoken.c - a text, a NUL, a tokenizer_config.json, a NUL, tiktoken's ranks: what loads must encode the text or say why
 * not, and decode what it made, also as a stream. */
#include "tokenizer_checks.h"

static we_str up_to_nul(const char **at, const char *end)
{
    const char *nul = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
    we_str part = { *at, (size_t)((nul ? nul : end) - *at) };
    *at = nul ? nul + 1 : end;
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const char *at = (const char *)data, *end = at + size;
    we_str text = up_to_nul(&at, end), config = up_to_nul(&at, end);
    we_error err = { 0 };
    we_tok *tok;
    we_status st = we_tok_parse_vocab(&tok, "qwen.tiktoken", (we_str){ at, (size_t)(end - at) }, config, &err);
    check_tokenizer(tok, st, &err, text);
    return 0;
}
