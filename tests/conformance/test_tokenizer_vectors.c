/* SPDX-License-Identifier: Apache-2.0
 * test_tokenizer_vectors.c - every vector of tests/fixtures/tokenizers: ids, texts and streams as Hugging Face tokenizers gives
 * them, and for vocabularies in other files as sentencepiece and tiktoken do. The tiny tokenizers lie beside their vectors. The real ones do not (they belong to their makers): where the
 * environment's WE_TOKENIZERS names a folder with NAME/tokenizer.json for each, they are run too. */
#include "support.h"

#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct tally {
    size_t n_cases, n_wrong;
} tally;

static void expect_ids(tally *t, const char *name, size_t index, const char *what, const we_ids *got,
                       const we_json *want)
{
    t->n_cases++;
    bool same = want && got->n == want->n;
    const we_json *one = want ? want->first : NULL;
    for (size_t i = 0; same && i < got->n; i++, one = one->next) {
        int64_t id = -1;
        same = we_json_i64(one, &id) && id == got->ids[i];
    }
    if (same) return;
    if (t->n_wrong++ < 5) {
        printf("%s case %zu: %s differ\n  got ", name, index, what);
        for (size_t i = 0; i < got->n && i < 60; i++) printf(" %d", got->ids[i]);
        printf("\n  want");
        size_t n = 0;
        for (one = want ? want->first : NULL; one && n++ < 60; one = one->next)
            printf(" %.*s", (int)one->text.len, one->text.ptr);
        printf("\n");
    }
}

static void expect_text(tally *t, const char *name, size_t index, const char *what, we_str got, we_str want)
{
    t->n_cases++;
    if (we_str_eq(got, want)) return;
    if (t->n_wrong++ < 5)
        printf("%s case %zu: %s differs\n  got  %.*s\n  want %.*s\n", name, index, what, (int)WE_MIN(got.len, 300),
               got.ptr, (int)WE_MIN(want.len, 300), want.ptr);
}

static void encode_case(tally *t, const we_tok *tok, const char *name, size_t index, we_str text, const we_json *c)
{
    we_error err = { 0 };
    we_ids ids = { 0 };
    CHECK_OK(we_tok_encode(tok, text, false, &ids, &err), &err);
    expect_ids(t, name, index, "ids", &ids, we_json_get(c, "ids"));
    ids.n = 0;
    CHECK_OK(we_tok_encode(tok, text, true, &ids, &err), &err);
    expect_ids(t, name, index, "ids with special tokens", &ids, we_json_get(c, "ids_special"));
    we_ids_deinit(&ids);
}

/* Pieces must join to the whole, hold no part of a character, and come no later than the reference's. */
static void stream_case(tally *t, const we_tok *tok, const char *name, size_t index, const we_ids *ids, we_str decoded,
                        const we_json *stream)
{
    we_error err = { 0 };
    we_tok_stream s;
    we_buf all = { 0 };
    we_str piece;
    bool late = false, torn = false;
    const we_json *least = stream->first;
    we_tok_stream_init(&s, tok, true);
    for (size_t i = 0; i < ids->n; i++, least = least ? least->next : NULL) {
        int64_t n = 0;
        CHECK_OK(we_tok_stream_feed(&s, ids->ids[i], &piece, &err), &err);
        torn |= we_utf8_valid(piece) != piece.len;
        we_buf_append_str(&all, piece);
        late |= !we_json_i64(least, &n) || all.len < (size_t)n;
    }
    CHECK_OK(we_tok_stream_flush(&s, &piece, &err), &err);
    we_buf_append_str(&all, piece);
    expect_text(t, name, index, "stream", we_buf_str(&all), decoded);
    if (torn || late) printf("%s case %zu: a piece %s\n", name, index, torn ? "is torn" : "comes late");
    t->n_wrong += torn || late;
    we_buf_deinit(&all);
    we_tok_stream_deinit(&s);
}

static void decode_case(tally *t, const we_tok *tok, const char *name, size_t index, const we_json *list,
                        const we_json *c)
{
    we_error err = { 0 };
    we_ids ids = { 0 };
    we_buf text = { 0 };
    we_str want = { 0 };
    for (const we_json *one = list->first; one; one = one->next) {
        int64_t id = -1;
        assert_true(we_json_i64(one, &id));
        CHECK_OK(we_ids_push(&ids, (int32_t)id, &err), &err);
    }
    CHECK_OK(we_tok_decode(tok, ids.ids, ids.n, false, &text, &err), &err);
    assert_true(we_json_str(we_json_get(c, "decoded_special"), &want));
    expect_text(t, name, index, "text with special tokens", we_buf_str(&text), want);
    we_buf_clear(&text);
    CHECK_OK(we_tok_decode(tok, ids.ids, ids.n, true, &text, &err), &err);
    assert_true(we_json_str(we_json_get(c, "decoded"), &want));
    expect_text(t, name, index, "text", we_buf_str(&text), want);
    if (we_json_is(we_json_get(c, "stream"), WE_JSON_ARRAY))
        stream_case(t, tok, name, index, &ids, want, we_json_get(c, "stream"));
    we_buf_deinit(&text);
    we_ids_deinit(&ids);
}

/* All cases of one tokenizer in a folder. */
static tally run_vectors(const char *name, const char *dir, we_str vectors)
{
    tally t = { 0, 0 };
    we_error err = { 0 };
    we_tok *tok = NULL;
    we_arena arena = { 0 };
    const we_json *json = NULL;
    double start = we_now_s();
    CHECK_OK(we_tok_open(&tok, dir, &err), &err);
    double seconds = we_now_s() - start;
    CHECK_OK(we_json_parse(&arena, vectors, &json, &err), &err);
    size_t index = 0;
    for (const we_json *c = we_json_get(json, "cases")->first; c; c = c->next, index++) {
        we_str text = { 0 };
        assert_true(we_json_str(we_json_get(c, "text"), &text));
        encode_case(&t, tok, name, index, text, c);
        decode_case(&t, tok, name, index, we_json_get(c, "ids_special"), c);
    }
    for (const we_json *c = we_json_get(json, "decode_cases")->first; c; c = c->next, index++)
        decode_case(&t, tok, name, index, we_json_get(c, "ids"), c);
    printf("%s: %zu of %zu checks agree (opened in %.3f s)\n", name, t.n_cases - t.n_wrong, t.n_cases, seconds);
    we_arena_deinit(&arena);
    we_tok_close(tok);
    return t;
}

static const char *const tiny_names[] = { "bpe-clip",
                                          "bpe-gpt2",
                                          "bpe-llama3",
                                          "bpe-qwen",
                                          "bpe-split-mix",
                                          "spm-gemma",
                                          "spm-legacy",
                                          "spm-metaspace-first",
                                          "unigram-precompiled",
                                          "wordpiece-bert" };

TEST(tokenizer_vectors_tiny)
{
    size_t n_wrong = 0;
    for (size_t i = 0; i < WE_COUNT(tiny_names); i++) {
        char path[128];
        snprintf(path, sizeof(path), "tokenizers/tiny/%s/vectors.json", tiny_names[i]);
        we_str vectors = test_read_fixture(path);
        *strrchr(path, '/') = 0;
        n_wrong += run_vectors(tiny_names[i], test_fixture(path), vectors).n_wrong;
    }
    assert_int_equal(n_wrong, 0);
}

/* ---- Streams of ids that no text gives ---- */

#define MAX_NOISE 14

/* The first n ids, one by one and then flushed. */
static void stream_noise(const we_tok *tok, const int32_t *ids, size_t n, we_buf *out)
{
    we_error err = { 0 };
    we_tok_stream s;
    we_str piece;
    we_buf_clear(out);
    we_tok_stream_init(&s, tok, true);
    for (size_t i = 0; i <= n; i++) {
        CHECK_OK(i < n ? we_tok_stream_feed(&s, ids[i], &piece, &err) : we_tok_stream_flush(&s, &piece, &err), &err);
        assert_int_equal(we_utf8_valid(piece), piece.len);
        we_buf_append_str(out, piece);
    }
    we_tok_stream_deinit(&s);
}

/* Whether the text of fewer ids is no begin of the text of all: a run of <0xNN> that turned invalid late. The reference's
 * own stream has given out the former by then, if it does not end in U+FFFD. */
static bool is_contradicted(const we_buf *texts, size_t n)
{
    const we_str all = we_buf_str(&texts[n]), replacement = WE_STR("\xEF\xBF\xBD");
    for (size_t i = 0; i < n; i++) {
        const we_str text = we_buf_str(&texts[i]);
        const bool waits = text.len >= 3 && we_str_eq((we_str){ text.ptr + text.len - 3, 3 }, replacement);
        if (!waits && !we_str_starts_with(all, text)) return true;
    }
    return false;
}

TEST(tokenizer_streams_of_noise) /* cut anywhere, a stream gives what decoding at once does */
{
    for (size_t i = 0; i < WE_COUNT(tiny_names); i++) {
        char path[128];
        we_error err = { 0 };
        we_tok *tok = NULL;
        we_buf texts[MAX_NOISE + 1] = { 0 }, out = { 0 };
        size_t n_compared = 0, n_contradicted = 0, n_wrong = 0;
        uint64_t random = 20261123 + i;
        snprintf(path, sizeof(path), "tokenizers/tiny/%s", tiny_names[i]);
        CHECK_OK(we_tok_open(&tok, test_fixture(path), &err), &err);
        const size_t n_ids = we_tok_vocab_size(tok) + 2;
        for (int round = 0; round < 1500; round++) {
            int32_t ids[MAX_NOISE];
            for (size_t n = 0; n <= MAX_NOISE; n++) {
                we_buf_clear(&texts[n]);
                CHECK_OK(we_tok_decode(tok, ids, n, true, &texts[n], &err), &err);
                if (is_contradicted(texts, n)) {
                    n_contradicted++;
                } else {
                    stream_noise(tok, ids, n, &out);
                    n_compared++;
                    if (!we_str_eq(we_buf_str(&out), we_buf_str(&texts[n])) && n_wrong++ < 5) {
                        printf("%s, ids", tiny_names[i]);
                        for (size_t k = 0; k < n; k++) printf(" %d", ids[k]);
                        printf("\n  stream  %.*s\n  at once %.*s\n", (int)out.len, out.ptr, (int)texts[n].len,
                               texts[n].ptr);
                    }
                }
                if (n == MAX_NOISE) break;
                random = random * 6364136223846793005U + 1442695040888963407U;
                ids[n] = (int32_t)((random >> 33) % (random >> 62 ? n_ids : 300)); /* bytes and the like come first */
            }
        }
        printf("%s: %zu streams compared, %zu contradicted\n", tiny_names[i], n_compared, n_contradicted);
        assert_int_equal(n_wrong, 0);
        for (size_t n = 0; n <= MAX_NOISE; n++) we_buf_deinit(&texts[n]);
        we_buf_deinit(&out);
        we_tok_close(tok);
    }
}

TEST(tokenizer_stream_takes_back_what_was_not_seen) /* Strip ate the run's first space, then the run turned invalid */
{
    static const int32_t ids[] = { 35, 155, 199, 527, 58 };
    we_error err = { 0 };
    we_tok *tok = NULL;
    we_buf out = { 0 };
    CHECK_OK(we_tok_open(&tok, test_fixture("tokenizers/tiny/spm-metaspace-first"), &err), &err);
    stream_noise(tok, ids, WE_COUNT(ids), &out);
    assert_string_equal(out.ptr, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                                 "\xC3\xA1"
                                 "bel7");
    we_buf_deinit(&out);
    we_tok_close(tok);
}

TEST(tokenizer_vectors_files) /* vocabularies that are no tokenizer.json */
{
    static const char *const names[] = {
        "spm-bpe-llama", "spm-bpe-sparse",    "spm-bpe-suffix", "spm-bpe-unused",   "spm-bpe-user",
        "spm-char",      "spm-unigram-bytes", "spm-unigram-t5", "spm-unigram-user", "spm-word",
        "tiktoken-kimi", "tiktoken-llama",    "tiktoken-o200k", "tiktoken-qwen",
    };
    size_t n_wrong = 0;
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        char path[128];
        snprintf(path, sizeof(path), "tokenizers/files/%s/vectors.json", names[i]);
        we_str vectors = test_read_fixture(path);
        *strrchr(path, '/') = 0;
        n_wrong += run_vectors(names[i], test_fixture(path), vectors).n_wrong;
    }
    assert_int_equal(n_wrong, 0);
}

TEST(tokenizer_vectors_real)
{
    static const char *const names[] = { "llama3_1", "llama3", "qwen3", "gemma3",    "deepseek_v3",
                                         "gptoss",   "llama2", "gpt4o", "gpt35turbo" };
    const char *folder = getenv("WE_TOKENIZERS");
    size_t n_wrong = 0, n_run = 0;
    if (!folder) {
        printf("skipped: WE_TOKENIZERS names no folder with real tokenizers\n");
        skip();
    }
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        char path[128];
        char *dir = we_path_join(folder, names[i]);
        assert_non_null(dir);
        snprintf(path, sizeof(path), "tokenizers/real/%s.json", names[i]);
        if (we_path_is_dir(dir)) {
            n_wrong += run_vectors(names[i], dir, test_read_fixture(path)).n_wrong;
            n_run++;
        } else {
            printf("%s: skipped, %s is not there\n", names[i], dir);
        }
        we_free(dir);
    }
    assert_int_equal(n_wrong, 0);
    assert_true(n_run > 0);
}
