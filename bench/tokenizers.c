/* SPDX-License-Identifier: Apache-2.0
 * tokenizers.c - how long a tokenizer takes to open, and how fast it encodes a text in pieces, one after the other on one
 * thread. Answers with one line of JSON; bench/tokenizers.py compares it with Hugging Face tokenizers.
 *
 *     bench/tokenizers FOLDER TEXT [PIECE_BYTES] */
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "tokenizers: %s\n", what);
    exit(1);
}

int main(int argc, char **argv)
{
    we_error err = { 0 };
    if (argc < 3) fail("usage: tokenizers FOLDER TEXT [PIECE_BYTES]");
    const size_t piece_bytes = argc > 3 ? (size_t)atoll(argv[3]) : 4096;
    char *text;
    size_t len;
    we_tok *tok;
    const double begin = we_now_s();
    if (we_tok_open(&tok, argv[1], &err)) fail(err.message);
    const double open_s = we_now_s() - begin;
    we_memory_info opened = { .size = sizeof(opened) }, done = { .size = sizeof(done) };
    if (we_system_memory(&opened, &err)) fail(err.message);
    if (we_file_read(argv[2], 0, &text, &len, &err)) fail(err.message);

    we_ids ids = { 0 };
    size_t n_ids = 0;
    const double start = we_now_s();
    for (size_t at = 0; at < len;) {
        size_t end = WE_MIN(len, at + WE_MAX(piece_bytes, 4));
        while (end < len && (text[end] & 0xC0) == 0x80) end--;
        ids.n = 0;
        if (we_tok_encode(tok, (we_str){ text + at, end - at }, false, &ids, &err)) fail(err.message);
        n_ids += ids.n;
        at = end;
    }
    const double encode_s = we_now_s() - start;
    if (we_system_memory(&done, &err)) fail(err.message);
    printf("{\"open_s\": %.6f, \"encode_s\": %.6f, \"n_ids\": %zu, \"open_peak_bytes\": %llu, \"peak_bytes\": %llu}\n",
           open_s, encode_s, n_ids, (unsigned long long)opened.peak_resident_bytes,
           (unsigned long long)done.peak_resident_bytes);
    we_ids_deinit(&ids);
    we_tok_close(tok);
    we_free(text);
    return 0;
}
