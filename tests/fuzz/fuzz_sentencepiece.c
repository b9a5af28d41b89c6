/* SPDX-License-Identifier: Apache-2.0
 * fuzz_sentencepiece.c - a byte n, a text of n bytes, a SentencePiece model: what loads must encode the text or say why not, and
 * decode what it made, also as a stream. */
#include "tokenizer_checks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char config[] = "{\"add_bos_token\":true,\"add_eos_token\":true,\"eos_token\":\"</s>\"}";
    if (size == 0) return 0;
    const char *bytes = (const char *)data + 1;
    const size_t n = WE_MIN((size_t)data[0], size - 1);
    we_error err = { 0 };
    we_tok *tok;
    we_status st =
        we_tok_parse_vocab(&tok, "tokenizer.model", (we_str){ bytes + n, size - 1 - n }, we_str_from(config), &err);
    check_tokenizer(tok, st, &err, (we_str){ bytes, n });
    return 0;
}
