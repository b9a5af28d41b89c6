/* SPDX-License-Identifier: Apache-2.0
 * fuzz_tokenizer_compiled.c - the compiled form of a tokenizer, damaged in ways that no checksum shows: the input names changes
 * to the tables of a sound form, made here from a small tokenizer.json of each kind of model.
 *
 *     byte 0: which tokenizer; then changes of 8 bytes: table, what, place (4), value (2) */
#include "tokenizer/tokenizer_int.h"

#include <stdlib.h>

static void require(bool holds)
{
    if (!holds) abort();
}

/* clang-format off */
#define STAGES "\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}]," \
    "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":null,\"post_processor\":null," \
    "\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a+\"},\"content\":\"b\"},"
static const char *const sources[] = {
    "{" STAGES "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<s>\",\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"ab\":3,\"é\":4,\"aba\":5},"
        "\"merges\":[\"a b\",\"ab a\"]}}",
    "{" STAGES "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<s>\",0],[\"a\",-1],[\"b\",-2],[\"ab\",-1.5],[\"日本\",-3]]}}",
    "{" STAGES "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<s>\",\"vocab\":{\"<s>\":0,\"a\":1,\"##b\":2,\"##é\":3}}}",
};
/* clang-format on */

static char *copy_of(we_str text) /* of its own, aligned as in a map */
{
    char *copy = we_malloc_aligned(64, text.len + 1);
    require(copy);
    memcpy(copy, text.ptr, text.len);
    return copy;
}

static void change(we_str *table, const uint8_t *c)
{
    uint32_t at = (uint32_t)c[2] | (uint32_t)c[3] << 8 | (uint32_t)c[4] << 16 | (uint32_t)c[5] << 24;
    char *bytes = (char *)table->ptr;
    if (table->len == 0) return;
    at %= (uint32_t)table->len;
    switch (c[1] % 4) {
    case 0: bytes[at] = (char)c[6]; break;
    case 1: bytes[at] ^= (char)c[6]; break;
    case 2: memset(bytes + at, c[6], WE_MIN(table->len - at, (size_t)c[7] + 1)); break;
    case 3: table->len = at; break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0; /* libFuzzer's first */
    we_tok *tok = we_calloc(1, sizeof(*tok)), *sound = we_calloc(1, sizeof(*sound));
    we_buf small = { 0 };
    we_tables tables;
    char *copies[WE_N_TABLES];
    require(tok && sound);
    require(we_tok_parse_json(sound, we_str_from(sources[data[0] % WE_COUNT(sources)]), &small, NULL) == WE_OK);
    we_tok_list_tables(sound, we_buf_str(&small), &tables);
    for (size_t i = 0; i < WE_N_TABLES; i++) tables.table[i].ptr = copies[i] = copy_of(tables.table[i]);
    for (size_t i = 1; i + 8 <= size; i += 8) change(&tables.table[data[i] % WE_N_TABLES], data + i);
    we_tok_close(sound);
    we_buf_deinit(&small);

    if (we_tok_take_tables(tok, &tables, NULL) == WE_OK) {
        we_ids ids = { 0 };
        we_buf text = { 0 };
        if (we_tok_encode(tok, WE_STR("abaab<s>éa 日本 xyz"), true, &ids, NULL) == WE_OK)
            for (size_t i = 0; i < ids.n; i++) require(ids.ids[i] >= 0 && (size_t)ids.ids[i] < we_tok_vocab_size(tok));
        we_tok_decode(tok, ids.ids, ids.n, false, &text, NULL);
        we_ids_deinit(&ids);
        we_buf_deinit(&text);
    }
    we_tok_close(tok);
    for (size_t i = 0; i < WE_N_TABLES; i++) we_free(copies[i]);
    return 0;
}
