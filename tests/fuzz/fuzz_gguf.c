/* SPDX-License-Identifier: Apache-2.0
 * fuzz_gguf.c - any bytes as a GGUF file: refused with a message, or metadata and tensors that can be read; and a tokenizer,
 * where the metadata has one, as texts that can be parsed or are refused with a message. */
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_value(const we_gguf_value *v)
{
    char shown[96];
    int64_t whole;
    double number;
    bool flag;
    we_str text;
    size_t at = 0, n = 0;
    if (!we_gguf_shown(v, shown)[0]) abort();
    we_gguf_bool(v, &flag);
    for (uint64_t i = 0; i < v->n && i < 1000; i++) {
        we_gguf_i64(v, i, &whole);
        we_gguf_f64(v, i, &number);
    }
    while (we_gguf_next_str(v, &at, &text)) n += 1 + (text.len ? text.ptr[text.len - 1] & 0 : 0);
    if (v->type == WE_GGUF_STRING && n != v->n) abort();
}

static void read_tokenizer(const we_gguf *gguf)
{
    we_buf json = { 0 }, config = { 0 };
    we_error err = { 0 };
    const we_status st = we_tok_from_gguf(gguf, &json, &config, &err);
    if (st && (st != err.status || !err.message[0])) abort();
    we_tok *tok = NULL;
    if (!st && !we_tok_parse(&tok, we_buf_str(&json), we_buf_str(&config), &err)) we_tok_close(tok);
    we_buf_deinit(&json);
    we_buf_deinit(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    we_arena arena = { 0 };
    we_weight *weights;
    we_gguf gguf;
    size_t n;
    we_error err = { 0 };
    const we_status st = we_gguf_parse(&arena, (we_str){ (const char *)data, size }, "f", &gguf, &weights, &n, &err);
    if ((st && (st != err.status || !err.message[0])) || (st && (n || gguf.n_values))) abort();
    for (size_t i = 0; i < gguf.n_values; i++) read_value(&gguf.values[i]);
    if (!st) read_tokenizer(&gguf);
    const uint8_t *end = data; /* tensors do not overlap */
    for (size_t i = 0; i < n; i++) {
        const we_weight *w = &weights[i];
        if (w->n_dims < 0 || w->n_dims > WE_MAX_DIMS || w->data < end) abort();
        end = w->data + w->bytes;
    }
    if (end > data + size) abort();
    we_arena_deinit(&arena);
    return 0;
}
