/* SPDX-License-Identifier: Apache-2.0
 * test_tokenizer_files.c - vocabularies that are no tokenizer.json: what their errors say, which of a folder's files is read,
 * what the small files beside it add. Ids and texts are held by tests/conformance/test_tokenizer_vectors.c. */
#include "support.h"

#include "tokenizer/tokenizer.h"

#include <stdio.h>

/* ---- A SentencePiece model, field by field ---- */

static void put_tag(we_buf *b, unsigned number, unsigned wire) { we_buf_append_char(b, (char)(number << 3 | wire)); }

static void put_bytes(we_buf *b, unsigned number, we_str bytes)
{
    if (number >= 16) { /* a tag of two bytes */
        we_buf_append_char(b, (char)(((number << 3 | 2) & 0x7F) | 0x80));
        we_buf_append_char(b, (char)(number >> 4));
    } else {
        put_tag(b, number, 2);
    }
    assert_true(bytes.len < 128);
    we_buf_append_char(b, (char)bytes.len);
    we_buf_append_str(b, bytes);
}

static void put_piece(we_buf *b, const char *text, float score, int type)
{
    we_buf piece = { 0 };
    put_bytes(&piece, 1, we_str_from(text));
    put_tag(&piece, 2, 5);
    we_buf_append(&piece, &score, 4); /* tests run on little-endian machines */
    put_tag(&piece, 3, 0);
    we_buf_append_char(&piece, (char)type);
    put_bytes(b, 1, we_buf_str(&piece));
    we_buf_deinit(&piece);
}

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

/* <unk> <s> </s> ▁ a b ab <im> of a BPE that rewrites nothing */
static we_buf small_model(void)
{
    we_buf b = { 0 };
    put_piece(&b, "<unk>", 0, UNKNOWN);
    put_piece(&b, "<s>", 0, CONTROL);
    put_piece(&b, "</s>", 0, CONTROL);
    put_piece(&b, "\xE2\x96\x81", -3, NORMAL);
    put_piece(&b, "a", -4, NORMAL);
    put_piece(&b, "b", -5, NORMAL);
    put_piece(&b, "ab", -1, NORMAL);
    put_piece(&b, "<im>", 0, USER_DEFINED);
    put_bytes(&b, 2, WE_STR("\x18\x02"));         /* model_type BPE */
    put_bytes(&b, 3, WE_STR("\x18\x01\x20\x00")); /* add_dummy_prefix, keep white space */
    return b;
}

static void expect_ids(const we_tok *tok, const char *text, bool special, const int32_t *want, size_t n)
{
    we_ids ids = { 0 };
    we_error err = { 0 };
    CHECK_OK(we_tok_encode(tok, we_str_from(text), special, &ids, &err), &err);
    assert_int_equal(ids.n, n);
    if (n) assert_memory_equal(ids.ids, want, n * sizeof(*want));
    we_ids_deinit(&ids);
}
#define EXPECT_IDS(tok, text, special, ...) \
    expect_ids(tok, text, special, (const int32_t[]){ __VA_ARGS__ }, WE_COUNT(((const int32_t[]){ __VA_ARGS__ })))

static void expect_text(const we_tok *tok, bool skip_special, const char *want, const int32_t *ids, size_t n)
{
    we_buf text = { 0 };
    we_error err = { 0 };
    CHECK_OK(we_tok_decode(tok, ids, n, skip_special, &text, &err), &err);
    CHECK_STR(we_buf_str(&text), want);
    we_buf_deinit(&text);
}
#define EXPECT_TEXT(tok, skip, want, ...) \
    expect_text(tok, skip, want, (const int32_t[]){ __VA_ARGS__ }, WE_COUNT(((const int32_t[]){ __VA_ARGS__ })))

static void expect_refusal(we_str bytes, we_status status, const char *part)
{
    we_tok *tok = NULL;
    we_error err = { 0 };
    CHECK_STATUS(we_tok_parse_vocab(&tok, "tokenizer.model", bytes, (we_str){ "", 0 }, &err), status, &err);
    EXPECT_MESSAGE(&err, "tokenizer.model: ");
    EXPECT_MESSAGE(&err, part);
    assert_null(tok);
}

TEST(tokenizer_files_sentencepiece_small)
{
    we_buf b = small_model();
    we_tok *tok = NULL;
    we_error err = { 0 };
    we_str content;
    CHECK_OK(we_tok_parse_vocab(&tok, "tokenizer.model", we_buf_str(&b), (we_str){ "", 0 }, &err), &err);
    EXPECT_IDS(tok, "ab", true, 3, 6);
    EXPECT_IDS(tok, "<s>ab</s>b", false, 1, 6, 2, 5); /* the prefix stands only at the begin of the text */
    EXPECT_IDS(tok, "a<im>b?!", false, 3, 4, 7, 5, 0);
    expect_ids(tok, "", true, NULL, 0);
    EXPECT_TEXT(tok, true, "ab \xE2\x81\x87 ", 1, 3, 6, 0, 2);
    EXPECT_TEXT(tok, false, "<s>ab <im></s>", 1, 3, 6, 3, 7, 2);
    EXPECT_TEXT(tok, true, "a", -5, 4, 999); /* ids that no piece has */
    assert_int_equal(we_tok_vocab_size(tok), 8);
    assert_true(we_tok_is_special(tok, 1));
    assert_false(we_tok_is_special(tok, 7));
    assert_true(we_tok_special(tok, "eos_token", &content)); /* the model's own, as no file names another */
    CHECK_STR(content, "</s>");
    size_t n;
    const int32_t *eos = we_tok_eos_ids(tok, &n);
    assert_int_equal(n, 1);
    assert_int_equal(eos[0], 2);
    we_tok_close(tok);
    we_buf_deinit(&b);
}

TEST(tokenizer_files_sentencepiece_settings_of_the_configuration)
{
    static const char config[] =
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_eos_token\":true,\"legacy\":true,\"eos_token\":{\"content\":\"<end>\"},"
        "\"added_tokens_decoder\":{\"0\":{\"content\":\"<unk>\",\"special\":true},\"20\":{\"content\":\"<end>\",\"special\":true},"
        "\"21\":{\"content\":\"<x>\",\"lstrip\":true}},\"additional_special_tokens\":[\"<im>\"]}";
    we_buf b = small_model();
    we_tok *tok = NULL;
    we_error err = { 0 };
    CHECK_OK(we_tok_parse_vocab(&tok, "tokenizer.model", we_buf_str(&b), we_str_from(config), &err), &err);
    EXPECT_IDS(tok, "b", true, 1, 3, 5, 20);                         /* Llama's class adds BOS */
    EXPECT_IDS(tok, "b  <x>b<im>a", false, 3, 5, 21, 3, 5, 7, 3, 4); /* legacy: a prefix behind every added token */
    EXPECT_TEXT(tok, true, "b<x>b", 3, 5, 21, 5, 20, 7);
    assert_int_equal(we_tok_bos_id(tok), 1);
    we_tok_close(tok);
    we_buf_deinit(&b);
}

TEST(tokenizer_files_sentencepiece_refusals_name_the_field)
{
    we_buf b = small_model();
    we_str whole = we_buf_str(&b);
    for (size_t len = 0; len < whole.len; len++) { /* cut anywhere: an error, or a model with fewer fields */
        we_tok *tok = NULL;
        we_error err = { 0 };
        we_status st = we_tok_parse_vocab(&tok, "x", (we_str){ whole.ptr, len }, (we_str){ "", 0 }, &err);
        assert_true(st == WE_OK ? tok != NULL : tok == NULL && err.message[0]);
        we_tok_close(tok);
    }
    expect_refusal((we_str){ whole.ptr, 5 }, WE_E_FORMAT, "cut short");
    expect_refusal(WE_STR(""), WE_E_FORMAT, "pieces is empty");
    expect_refusal(WE_STR("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), WE_E_FORMAT, "longer than the rest");
    expect_refusal(WE_STR("\x08\x01"), WE_E_FORMAT, "must be messages");
    expect_refusal(WE_STR("\x0B\x0C"), WE_E_FORMAT, "wire type");
    expect_refusal(WE_STR("\x0A\x05\x0A\x01"
                          "a\x10\x01"),
                   WE_E_FORMAT, "pieces[0].score has wire type 0, expected 5");
    expect_refusal(WE_STR("\x0A\x03\x0A\x01\xFF"), WE_E_FORMAT, "pieces[0].piece is not UTF-8");
    expect_refusal(WE_STR("\x0A\x03\x0A\x01"
                          "a"),
                   WE_E_FORMAT, "none has the type UNKNOWN");
    static const struct {
        const char *text;
        float score;
        int type;
        const char *message;
    } bad[] = {
        { "ab", 0, NORMAL, "pieces[8] \"ab\": the same piece is there twice" },
        { "<u>", 0, UNKNOWN, "pieces[8] \"<u>\": a second piece of type UNKNOWN" },
        { "<0x41>", 0, BYTE, "trainer_spec.byte_fallback is false" },
        { "", 0, NORMAL, "an empty piece" },
        { "c", 0, 9, "type is unknown" },
        { "c", (float)1e38 * 1e10F, NORMAL, "score is not finite" },
    };
    for (size_t i = 0; i < WE_COUNT(bad); i++) {
        we_buf more = small_model();
        put_piece(&more, bad[i].text, bad[i].score, bad[i].type);
        expect_refusal(we_buf_str(&more), WE_E_FORMAT, bad[i].message);
        we_buf_deinit(&more);
    }
    we_buf_append_str(&b, WE_STR("\x12\x02\x18\x07")); /* the last trainer_spec counts */
    expect_refusal(we_buf_str(&b), WE_E_UNSUPPORTED, "trainer_spec.model_type is 7");
    we_buf_append_str(&b, WE_STR("\x12\x02\x18\x02\x2A\x04\x12\x02xy"));
    expect_refusal(we_buf_str(&b), WE_E_UNSUPPORTED, "denormalizer_spec.precompiled_charsmap");
    we_buf_deinit(&b);
}

/* ---- tiktoken ---- */

/* Every byte, "ab" and "abc". */
static we_buf small_ranks(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    we_buf b = { 0 };
    for (unsigned byte = 0; byte < 256; byte++)
        we_buf_printf(&b, "%c%c== %u\n", digits[byte >> 2], digits[(byte & 3) << 4], byte);
    we_buf_append_str(&b, WE_STR("YWI= 256\nYWJj 257\n"));
    return b;
}

static void expect_rank_refusal(const char *more, const char *part)
{
    we_buf b = small_ranks();
    we_tok *tok = NULL;
    we_error err = { 0 };
    we_buf_append_str(&b, we_str_from(more));
    CHECK_STATUS(we_tok_parse_vocab(&tok, "qwen.tiktoken", we_buf_str(&b), (we_str){ "", 0 }, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "qwen.tiktoken: ");
    EXPECT_MESSAGE(&err, part);
    we_buf_deinit(&b);
}

TEST(tokenizer_files_tiktoken_family_tells_pattern_and_special_tokens)
{
    we_buf b = small_ranks();
    we_tok *tok = NULL;
    we_error err = { 0 };
    CHECK_OK(we_tok_parse_vocab(&tok, "qwen.tiktoken", we_buf_str(&b), (we_str){ "", 0 }, &err), &err);
    EXPECT_IDS(tok, "abc 12<|im_start|>", true, 257, ' ', '1', '2', 259);
    EXPECT_TEXT(tok, true, "abc", 257, 259);
    assert_int_equal(we_tok_vocab_size(tok), 258 + 208);
    we_tok_close(tok);
    CHECK_OK(we_tok_parse_vocab(&tok, "qwen3_6.tiktoken", we_buf_str(&b), (we_str){ "", 0 }, &err), &err);
    EXPECT_IDS(tok, "abc<think>", false, 257, 258 + 24);
    assert_int_equal(we_tok_vocab_size(tok), 258 + 33);
    we_tok_close(tok);
    static const char config[] = "{\"auto_map\":{\"AutoTokenizer\":[\"tokenization_kimi.TikTokenTokenizer\",null]},"
                                 "\"added_tokens_decoder\":{\"259\":{\"content\":\"[EOS]\",\"special\":true}}}";
    CHECK_OK(we_tok_parse_vocab(&tok, "tiktoken.model", we_buf_str(&b), we_str_from(config), &err), &err);
    EXPECT_IDS(tok, "ab[EOS]<|reserved_token_258|>", false, 256, 259, 258);
    we_tok_close(tok);
    CHECK_STATUS(
        we_tok_parse_vocab(&tok, "tokenizer.model", we_buf_str(&b), WE_STR("{\"tokenizer_class\":\"Odd\"}"), &err),
        WE_E_UNSUPPORTED, &err);
    EXPECT_MESSAGE(&err, "tokenizer_class (Odd)");
    EXPECT_MESSAGE(&err, "model_type (nothing)");
    EXPECT_MESSAGE(&err, "Llama 3");
    we_buf_deinit(&b);
}

TEST(tokenizer_files_tiktoken_refusals_name_the_line)
{
    expect_rank_refusal("YWJj 300\n", "line 259: the token is there twice");
    expect_rank_refusal("eHl6 3\n", "have the same id 3");
    expect_rank_refusal("eHl6 -1\n", "line 259: expected a rank");
    expect_rank_refusal("eHl6\n", "line 259: expected a rank");
    expect_rank_refusal("!!!! 300\n", "line 259: expected a token in base64");
    expect_rank_refusal("\n==== 300\n", "line 260: an empty token");
    we_buf b = small_ranks();
    we_tok *tok = NULL;
    we_error err = { 0 };
    we_str without = { b.ptr + 7, b.len - 7 }; /* the byte 0 is the first line */
    CHECK_STATUS(we_tok_parse_vocab(&tok, "qwen.tiktoken", without, (we_str){ "", 0 }, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "the byte 0x00 has no token");
    we_buf_deinit(&b);
}

/* ---- Folders ---- */

static void write_text(const char *name, const char *text) { test_write(name, text, strlen(text)); }

TEST(tokenizer_files_folder_reads_what_is_there)
{
    we_buf spm = small_model(), ranks = small_ranks();
    we_tok *tok = NULL;
    we_error err = { 0 };
    test_write("qwen.tiktoken", ranks.ptr, ranks.len);
    CHECK_OK(we_tok_open(&tok, test_dir(), &err), &err);
    assert_int_equal(we_tok_vocab_size(tok), 258 + 208);
    we_tok_close(tok);
    test_write("tokenizer.model", ranks.ptr, ranks.len); /* ranks in the other's name; the family is in config.json */
    write_text("config.json", "{\"model_type\":\"llama\"}");
    CHECK_OK(we_tok_open(&tok, test_dir(), &err), &err);
    EXPECT_IDS(tok, "ab<|eot_id|>", true, 258, 256, 258 + 9);
    we_tok_close(tok);
    test_write("tokenizer.model", spm.ptr, spm.len);
    write_text("added_tokens.json", "{\"<tool>\": 30}");
    write_text("special_tokens_map.json", "{\"pad_token\": \"<tool>\", \"bos_token\": \"<s>\"}");
    write_text("chat_template.jinja", "{{ bos_token }}x");
    assert_true(we_tok_has_vocab(test_dir()));
    CHECK_OK(we_tok_open(&tok, test_dir(), &err), &err);
    EXPECT_IDS(tok, "a<tool>", true, 1, 3, 4, 30);
    assert_true(we_tok_is_special(tok, 30));
    we_str text;
    assert_true(we_tok_chat_template(tok, NULL, &text));
    CHECK_STR(text, "{{ bos_token }}x");
    we_tok_close(tok);
    write_text("added_tokens.json", "{\"<tool>\": \"x\"}");
    CHECK_STATUS(we_tok_open(&tok, test_dir(), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "added_tokens.json: the token \"<tool>\": expected an id");
    write_text("tokenizer.model", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    CHECK_STATUS(we_tok_open(&tok, test_dir(), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "tokenizer.model is a Git LFS pointer");
    we_buf_deinit(&spm);
    we_buf_deinit(&ranks);
}

/* ---- Memory ---- */

static we_status parse_and_use(const char *name, we_str bytes, we_error *err)
{
    we_tok *tok = NULL;
    we_ids ids = { 0 };
    we_buf text = { 0 };
    we_status st = we_tok_parse_vocab(&tok, name, bytes, WE_STR("{\"add_bos_token\":true}"), err);
    if (!st) st = we_tok_encode(tok, WE_STR("ab ba <im>?"), true, &ids, err);
    if (!st) st = we_tok_decode(tok, ids.ids, ids.n, false, &text, err);
    we_buf_deinit(&text);
    we_ids_deinit(&ids);
    we_tok_close(tok);
    return st;
}

TEST(tokenizer_files_memory_runs_out_anywhere)
{
    we_buf spm = small_model(), ranks = small_ranks();
    we_error err = { 0 };
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = parse_and_use("tokenizer.model", we_buf_str(&spm), &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
    }
    we_buf_append_str(&spm, WE_STR("\x12\x02\x18\x01")); /* Unigram */
    st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = parse_and_use("tokenizer.model", we_buf_str(&spm), &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
    }
    st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = parse_and_use("llama.tiktoken", we_buf_str(&ranks), &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
    }
    we_buf_deinit(&spm);
    we_buf_deinit(&ranks);
}
