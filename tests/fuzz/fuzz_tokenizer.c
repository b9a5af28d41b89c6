/* SPDX-License-Identifier: Apache-2.0
 * fuzz_tokenizer.c - a tokenizer.json, a NUL and a text: whatever loads must encode the text or say why not, decode what it
 * made, and give the same text as a stream, in whole characters. */
#include "tokenizer_checks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data, *nul = size ? memchr(bytes, 0, size) : NULL;
    const we_str json = { bytes, nul ? (size_t)(nul - bytes) : size };
    we_str text = { nul ? nul + 1 : "", nul ? size - json.len - 1 : 0 };
    we_error err = { 0 };
    we_tok *tok;
    we_status st = we_tok_parse(&tok, json, (we_str){ "", 0 }, &err);
    check_tokenizer(tok, st, &err, text);
    return 0;
}
