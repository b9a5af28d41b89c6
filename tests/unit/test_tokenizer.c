/* SPDX-License-Identifier: Apache-2.0
 * test_tokenizer.c - what holds for every tokenizer: errors that name file and key, added tokens, streams, the files beside
 * tokenizer.json. Ids and texts against the reference are in tests/conformance/test_tokenizer_vectors.c. */
#include "support.h"

#include "tokenizer/tokenizer_int.h"

#include <math.h>
#include <stdio.h>

/* A byte-level BPE over a, b, c and the space. */
#define MODEL                                                                                                              \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\u0120\":3,\"ab\":4,\"abc\":5,\"aa\":6,\"aaaa\":7}," \
    "\"merges\":[\"a b\",[\"ab\",\"c\"],\"a a\",\"aa aa\"]}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"

static we_tok *parse(const char *json)
{
    we_tok *tok = NULL;
    we_error err = { 0 };
    CHECK_OK(we_tok_parse(&tok, we_str_from(json), WE_STR(""), &err), &err);
    return tok;
}

static void expect_ids(const we_tok *tok, const char *text, const int32_t *want, size_t n)
{
    we_ids ids = { 0 };
    we_error err = { 0 };
    CHECK_OK(we_tok_encode(tok, we_str_from(text), false, &ids, &err), &err);
    assert_int_equal(ids.n, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids.ids[i], want[i]);
    we_ids_deinit(&ids);
}
#define EXPECT_IDS(tok, text, ...) \
    expect_ids(tok, text, (const int32_t[]){ __VA_ARGS__ }, WE_COUNT(((const int32_t[]){ __VA_ARGS__ })))

/* ---- Broken files ---- */

TEST(tokenizer_errors_name_file_and_key)
{
    static const struct {
        const char *json;
        we_status status;
        const char *part;
    } cases[] = {
        { "", WE_E_FORMAT, "tokenizer.json: line 1" },
        { "[]", WE_E_FORMAT, "expected an object" },
        { "{}", WE_E_FORMAT, "model is missing" },
        { "{\"model\":{}}", WE_E_FORMAT, "model.vocab is missing" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", WE_E_FORMAT, "model.merges is missing" },
        { "{\"model\":{\"type\":\"GPT\",\"vocab\":{},\"merges\":[]}}", WE_E_UNSUPPORTED, "unknown model \"GPT\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", WE_E_FORMAT, "model.vocab[\"a\"]" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4294967296},\"merges\":[]}}", WE_E_FORMAT,
          "model.vocab[\"a\"]" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", WE_E_FORMAT, "model.vocab[\"a\"]" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":3,\"b\":3},\"merges\":[]}}", WE_E_FORMAT, "the same id 3" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", WE_E_FORMAT,
          "model.merges[0]: the vocabulary lacks \"b\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", WE_E_FORMAT,
          "lacks the merged token \"ab\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", WE_E_FORMAT, "model.merges[0]" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", WE_E_FORMAT, "model.merges[0]" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{}}}", WE_E_FORMAT,
          "model.merges: expected an array" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"x\"]]}}", WE_E_FORMAT,
          "model.vocab[0]: expected [\"token\", score]" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", WE_E_FORMAT, "model.unk_id is 1" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", WE_E_FORMAT, "model.vocab" },
        { "{\"model\":{\"type\":\"WordLevel\",\"vocab\":[[\"a\",0]]}}", WE_E_FORMAT, "model.vocab" },
        { "{\"added_tokens\":[{\"id\":0}]," MODEL "}", WE_E_FORMAT, "added_tokens[0].content" },
        { "{\"added_tokens\":[{\"id\":-1,\"content\":\"x\"}]," MODEL "}", WE_E_FORMAT, "added_tokens[0].id" },
        { "{\"added_tokens\":7," MODEL "}", WE_E_FORMAT, "added_tokens is a number" },
        { "{\"normalizer\":{\"type\":\"Rot13\"}," MODEL "}", WE_E_UNSUPPORTED, "unknown component \"Rot13\"" },
        { "{\"normalizer\":{}," MODEL "}", WE_E_FORMAT, "normalizer.type" },
        { "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\"}]}," MODEL "}", WE_E_FORMAT,
          "normalizer.normalizers[0].pattern" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}}," MODEL "}", WE_E_FORMAT,
          "pre_tokenizer.pattern: regular expression" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a)\\\\1\"}}," MODEL "}", WE_E_UNSUPPORTED,
          "back-references" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Shuffled\"}," MODEL "}",
          WE_E_UNSUPPORTED, "Shuffled" },
        { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}],"
          "\"special_tokens\":{}}," MODEL "}",
          WE_E_FORMAT, "post_processor.single[0]: special_tokens lacks \"<s>\"" },
        { "{\"decoder\":{\"type\":\"Strip\"}," MODEL "}", WE_E_FORMAT, "decoder.content" },
        { "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", WE_E_FORMAT, "git lfs pull" },
        { "{" MODEL "} x", WE_E_FORMAT, "line 1" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_tok *tok = NULL;
        we_error err = { 0 };
        we_status st = we_tok_parse(&tok, we_str_from(cases[i].json), WE_STR(""), &err);
        if (st != cases[i].status) print_message("case %zu: %s\n", i, cases[i].json);
        CHECK_STATUS(st, cases[i].status, &err);
        EXPECT_MESSAGE(&err, cases[i].part);
        EXPECT_MESSAGE(&err, "tokenizer.json");
        assert_null(tok);
    }
}

TEST(tokenizer_members_come_in_any_order)
{
    we_tok *tok = parse("{\"model\":{\"merges\":[\"a b\"],\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}},"
                        "\"added_tokens\":[],\"normalizer\":{\"type\":\"Lowercase\"}}");
    EXPECT_IDS(tok, "AB", 2);
    we_tok_close(tok);
}

TEST(tokenizer_text_that_is_not_utf8_is_refused_with_its_place)
{
    we_tok *tok = parse("{" MODEL "}");
    we_ids ids = { 0 };
    we_error err = { 0 };
    CHECK_STATUS(we_tok_encode(tok, WE_STR("ab\xC3("), false, &ids, &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "byte 2 is 0xc3");
    assert_int_equal(ids.n, 0);
    we_ids_deinit(&ids);
    we_tok_close(tok);
}

/* ---- Encoding ---- */

TEST(tokenizer_bpe_merges_by_rank_then_from_the_left)
{
    we_tok *tok = parse("{\"pre_tokenizer\":" BYTE_LEVEL "," MODEL "}");
    EXPECT_IDS(tok, "abc", 5);
    EXPECT_IDS(tok, "aab", 0, 4);
    EXPECT_IDS(tok, "aaaaa", 7, 0);
    EXPECT_IDS(tok, "ab abc", 4, 3, 5);
    we_tok_close(tok);
}

/* Quadratic work on a million bytes would outlast the test's time limit many times over. */
TEST(tokenizer_a_megabyte_of_one_letter_takes_no_quadratic_time)
{
#define LETTERS "\"a\":0,\"aa\":1,\"aaaa\":2,\"<u>\":3,\"<0x62>\":4,\"##a\":5,\"##aaaa\":6"
#define MERGES "\"merges\":[\"a a\",\"aa aa\"]}}"
    static const struct {
        const char *json, *letter;
        size_t n_ids;
    } cases[] = {
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{" LETTERS "}," MERGES, "a", 250000 }, /* in one piece */
        { "{\"pre_tokenizer\":" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",\"vocab\":{" LETTERS "}," MERGES, "a",
          250000 },
        { "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{" LETTERS "}," MERGES, "a", 250000 },
        { "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{" LETTERS "}," MERGES, "b", 1000000 },
        { "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"<u>\",\"vocab\":{" LETTERS "}," MERGES, "c", 1000000 },
        { "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"<u>\",\"fuse_unk\":true,\"vocab\":{" LETTERS "}," MERGES, "c",
          1 },
        { "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<u>\",0],[\"a\",-1],[\"aaaa\",-2]]}}", "a",
          250000 },
        { "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<u>\",0],[\"a\",-1]]}}", "b", 1 },
        { "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":[[\"<u>\",0],[\"<0x62>\",-1]]}}",
          "b", 1000000 },
        { "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<u>\",\"vocab\":{" LETTERS "}}}", "a", 1 },
        { "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<u>\",\"max_input_chars_per_word\":2000000,"
          "\"vocab\":{" LETTERS "}}}",
          "a", 250000 },
        { "{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"<u>\",\"vocab\":{" LETTERS "}}}", "a", 1 },
    };
    we_buf text = { 0 };
    assert_true(we_buf_reserve(&text, 1000000));
    text.len = 1000000;
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_tok *tok = parse(cases[i].json);
        we_ids ids = { 0 };
        we_error err = { 0 };
        memset(text.ptr, cases[i].letter[0], text.len);
        CHECK_OK(we_tok_encode(tok, we_buf_str(&text), false, &ids, &err), &err);
        assert_int_equal(ids.n, cases[i].n_ids);
        we_ids_deinit(&ids);
        we_tok_close(tok);
    }
    we_buf_deinit(&text);
}

/* Metaspace asks whether a piece stands for the text's first character; text that a normalizer put before it does as well. */
TEST(tokenizer_metaspace_first_knows_what_stands_for_the_first_character)
{
#define FIRST_PIECES                                                                                                          \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"String\":\"b\"},"         \
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"," \
    "\"split\":false}]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"_\":2,\"x\":3},\"merges\":[]}}"
    we_tok *tok = parse("{" FIRST_PIECES);
    EXPECT_IDS(tok, "ab", 2, 0, 1);
    EXPECT_IDS(tok, "ba", 2, 1, 0);
    we_tok_close(tok);
    tok = parse("{\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"x\"}," FIRST_PIECES);
    EXPECT_IDS(tok, "ba", 2, 3, 2, 1, 0);
    EXPECT_IDS(tok, "ab", 2, 3, 0, 1);
    we_tok_close(tok);
    tok =
        parse("{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"^\"},\"content\":\"xb\"}," FIRST_PIECES);
    EXPECT_IDS(tok, "ba", 2, 3, 2, 1, 2, 1, 0);
    we_tok_close(tok);
    tok = parse("{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"\"}," FIRST_PIECES);
    EXPECT_IDS(tok, "ab", 1); /* the first character is gone, and nothing stands for it */
    EXPECT_IDS(tok, "bab", 2, 1, 1);
    we_tok_close(tok);
}

TEST(
    tokenizer_precompiled_leaves_the_place_of_what_it_drops) /* U+200B before the text: what follows is then the first */
{
    we_error err = { 0 };
    we_arena arena = { 0 };
    const we_json *fixture = NULL;
    we_buf json = { 0 };
    we_str map = { 0 };
    CHECK_OK(
        we_json_parse(&arena, test_read_fixture("tokenizers/tiny/unigram-precompiled/tokenizer.json"), &fixture, &err),
        &err);
    const we_json *first = we_json_get(we_json_get(fixture, "normalizer"), "normalizers")->first;
    assert_true(we_json_str(we_json_get(first, "precompiled_charsmap"), &map));
    we_buf_printf(&json, "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"%.*s\"}," FIRST_PIECES,
                  (int)map.len, map.ptr);
    we_tok *tok = parse(json.ptr);
    EXPECT_IDS(tok,
               "\u200b\u200b"
               "ab",
               2, 0, 1);
    EXPECT_IDS(tok,
               "b\u200b"
               "a",
               2, 1, 0);
    we_tok_close(tok);
    we_buf_deinit(&json);
    we_arena_deinit(&arena);
}

TEST(tokenizer_patterns_are_not_asked_of_an_empty_text)
{
    we_error err = { 0 };
    we_buf text = { 0 };
    we_tok *tok =
        parse("{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Replace\",\"pattern\":"
              "{\"Regex\":\"(?<!a)\"},\"content\":\"x\"}]},\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"b\":0}}}");
    CHECK_OK(we_tok_decode(tok, NULL, 0, false, &text, &err), &err);
    assert_int_equal(text.len, 0);
    CHECK_OK(we_tok_decode(tok, (const int32_t[]){ 0 }, 1, false, &text, &err), &err);
    assert_string_equal(text.ptr, "xbx");
    we_buf_deinit(&text);
    we_tok_close(tok);
}

TEST(tokenizer_added_tokens_are_found_leftmost_and_longest)
{
    we_tok *tok = parse("{\"added_tokens\":[{\"id\":8,\"content\":\"<x>\",\"normalized\":false},"
                        "{\"id\":9,\"content\":\"<x><y>\",\"normalized\":false},"
                        "{\"id\":10,\"content\":\"bb\",\"single_word\":true,\"normalized\":false},"
                        "{\"id\":11,\"content\":\"[m]\",\"lstrip\":true,\"rstrip\":true,\"normalized\":false}],"
                        "\"pre_tokenizer\":" BYTE_LEVEL "," MODEL "}");
    EXPECT_IDS(tok, "a<x><y><x>b", 0, 9, 8, 1);
    EXPECT_IDS(tok, "a bb abb", 0, 3, 10, 3, 4, 1);
    EXPECT_IDS(tok, "a \n[m]\t b", 0, 11, 1);
    assert_int_equal(we_tok_vocab_size(tok), 12);
    assert_int_equal(we_tok_id(tok, WE_STR("<x><y>")), 9);
    assert_int_equal(we_tok_id(tok, WE_STR("abc")), 5);
    assert_int_equal(we_tok_id(tok, WE_STR("nothing")), -1);
    we_tok_close(tok);
}

TEST(tokenizer_normalizers_can_not_grow_a_text_without_bound)
{
    char json[4000] = "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[";
    for (int i = 0; i < 30; i++)
        strcat(json, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"aaaaaaaa\"},");
    strcat(json, "{\"type\":\"NFC\"}]}," MODEL "}");
    we_tok *tok = parse(json);
    we_ids ids = { 0 };
    we_error err = { 0 };
    CHECK_STATUS(we_tok_encode(tok, WE_STR("ab"), false, &ids, &err), WE_E_RANGE, &err);
    EXPECT_MESSAGE(&err, "too long");
    we_ids_deinit(&ids);
    we_tok_close(tok);
}

TEST(tokenizer_template_tells_the_bos_id)
{
    we_tok *tok =
        parse("{\"added_tokens\":[{\"id\":8,\"content\":\"<s>\",\"special\":true}],\"post_processor\":{\"type\":"
              "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],"
              "\"special_tokens\":{\"<s>\":{\"ids\":[8]}}}," MODEL "}");
    assert_int_equal(we_tok_bos_id(tok), 8);
    assert_true(we_tok_is_special(tok, 8));
    assert_false(we_tok_is_special(tok, 0));
    we_tok_close(tok);
    tok = parse("{" MODEL "}");
    assert_int_equal(we_tok_bos_id(tok), -1);
    we_tok_close(tok);
}

/* ---- Decoding ---- */

static const char bytes_json[] = "{\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{"
                                 "\"\u00e4\":0,\"\u00b8\":1,\"\u0143\":2,\"a\":3},\"merges\":[]}}"; /* E4 B8 AD 61 */

TEST(
    tokenizer_unigram_scores_are_read_as_the_reference_does) /* which does not round to the nearest double: see there */
{
    static const struct {
        const char *text;
        double value; /* what tokenizers 0.23.3 writes back */
    } cases[] = {
        { "-3.4181873195115625", -0x1.b587297e73b85p+1 },
        { "-9.3309413336934232199", -0x1.2a971247a373cp+3 },
        { "-3587701962695281.91506", -0x1.97dfdea17c4e3p+51 },
        { "72999.949461646763123953834", 0x1.1d27f30feb21bp+16 },
        { "7230646852759.946639205013e117", 0x1.4dcd526c39cbep+431 },
        { "-80776672178663053460.958398e263", -0x1.bcfffedd14e27p+939 },
        { "-16281358101.829e-243", -0x1.9e23dab3d5179p-774 },
        { "120944056415178755.68e-267", 0x1.bb5ab13e83128p-831 },
        { "-184467440737095516159.75", -0x1.4p+67 },
        { "123456789012345678901234567890", 0x1.8ee90ff6c373ep+96 },
        { "1.5E+2", 150.0 },
        { "0.1e309", 1e308 },
        { "4.9e-324", 0x0.0000000000001p-1022 },
        { "12345e-330", 0.0 },
        { "5e-99999999999999999999", 0.0 },
        { "0e99999999999999999999", 0.0 },
    };
    double value;
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        assert_true(we_unigram_score(we_str_from(cases[i].text), &value));
        if (value != cases[i].value) fail_msg("%s is %a, expected %a", cases[i].text, value, cases[i].value);
    }
    assert_true(we_unigram_score(WE_STR("-0"), &value) && signbit(value));
    assert_false(we_unigram_score(WE_STR("1e309"), &value));
}

TEST(tokenizer_stream_holds_back_half_characters)
{
    we_tok *tok = parse(bytes_json);
    we_tok_stream s;
    we_str piece;
    we_error err = { 0 };
    we_tok_stream_init(&s, tok, true);
    for (int round = 0; round < 2; round++) { /* flush begins anew */
        static const struct {
            int32_t id;
            const char *text;
        } steps[] = { { 3, "a" },
                      { 0, "" },
                      { 1, "" },
                      { 2, "\u4e2d" },
                      { 0, "" },
                      { 3, "\ufffd"
                           "a" },
                      { 99, "" },
                      { -1, "" },
                      { 0, "" } };
        for (size_t i = 0; i < WE_COUNT(steps); i++) {
            CHECK_OK(we_tok_stream_feed(&s, steps[i].id, &piece, &err), &err);
            CHECK_STR(piece, steps[i].text);
        }
        CHECK_OK(we_tok_stream_flush(&s, &piece, &err), &err);
        CHECK_STR(piece, "\ufffd");
    }
    we_tok_stream_deinit(&s);
    we_tok_close(tok);
}

TEST(tokenizer_without_a_decoder_joins_tokens_by_spaces)
{
    we_tok *tok = parse("{" MODEL "}");
    we_buf text = { 0 };
    we_error err = { 0 };
    CHECK_OK(we_tok_decode(tok, (const int32_t[]){ 0, 77, 5 }, 3, false, &text, &err), &err);
    CHECK_STR(we_buf_str(&text), "a abc");
    we_buf_deinit(&text);
    we_tok_close(tok);
}

TEST(tokenizer_byte_alphabet_has_a_way_back)
{
    for (int byte = 0; byte < 256; byte++)
        assert_int_equal(we_rune_to_byte(we_byte_to_rune((unsigned char)byte)), byte);
    assert_int_equal(we_rune_to_byte(0x144), -1);
    assert_int_equal(we_rune_to_byte(' '), -1);
    assert_int_equal(we_byte_to_rune(' '), 0x120);
}

/* ---- The files beside it ---- */

static void expect_role(const we_tok *tok, const char *role, const char *want)
{
    we_str content;
    assert_int_equal(we_tok_special(tok, role, &content), want != NULL);
    CHECK_STR(content, want ? want : "");
}

TEST(tokenizer_folder_is_read_whole)
{
    static const char json[] = "{\"added_tokens\":[{\"id\":8,\"content\":\"<eos>\",\"special\":true},"
                               "{\"id\":9,\"content\":\"<|im_end|>\",\"special\":true}]," MODEL "}";
    static const char config[] = "{\"eos_token\":{\"content\":\"<eos>\"},\"bos_token\":null,\"pad_token\":\"b\","
                                 "\"chat_template\":[{\"name\":\"default\",\"template\":\"old\"},"
                                 "{\"name\":\"tool_use\",\"template\":\"tools\"}]}";
    static const char map[] = "{\"bos_token\":\"a\",\"eos_token\":\"other\"}";
    test_write("tokenizer.json", json, strlen(json));
    test_write("tokenizer_config.json", config, strlen(config));
    test_write("special_tokens_map.json", map, strlen(map));
    test_write("chat_template.jinja", "new <|im_end|>\n", 15);
    test_write("generation_config.json", "{\"eos_token_id\":[5,8]}", 22);
    test_write("config.json", "{\"text_config\":{\"eos_token_id\":7}}", 34);
    we_tok *tok = NULL;
    we_error err = { 0 };
    CHECK_OK(we_tok_open(&tok, test_dir(), &err), &err);
    expect_role(tok, "eos_token", "<eos>");
    expect_role(tok, "bos_token", "a");
    expect_role(tok, "pad_token", "b");
    expect_role(tok, "unk_token", NULL);
    we_str source, role;
    assert_true(we_tok_chat_template(tok, NULL, &source));
    CHECK_STR(source, "new <|im_end|>\n");
    assert_true(we_tok_chat_template(tok, "tool_use", &source));
    CHECK_STR(source, "tools");
    assert_false(we_tok_chat_template(tok, "rag", &source));
    size_t n, roles = 0;
    while (we_tok_special_at(tok, roles, &role, &source)) roles++;
    assert_int_equal(roles, 3);
    const int32_t *eos = we_tok_eos_ids(tok, &n), want[] = { 5, 8, 7, 9 };
    assert_int_equal(n, 4);
    assert_memory_equal(eos, want, sizeof(want));
    we_tok_close(tok);
}

TEST(tokenizer_folder_without_tokenizer_json_is_named)
{
    we_tok *tok = NULL;
    we_error err = { 0 };
    CHECK_STATUS(we_tok_open(&tok, test_dir(), &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "tokenizer.json, tokenizer.model, tiktoken.model, spiece.model, spm.model, *.tiktoken");
    assert_null(tok);
}

TEST(tokenizer_lfs_pointers_are_recognised)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    we_tok *tok = NULL;
    we_error err = { 0 };
    test_write("tokenizer.json", "{" MODEL "}", strlen("{" MODEL "}"));
    test_write("tokenizer_config.json", pointer, strlen(pointer));
    CHECK_STATUS(we_tok_open(&tok, test_dir(), &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "tokenizer_config.json is a Git LFS pointer");
}

/* ---- Unicode ---- */

static void expect_form(we_uni_form form, const char *text, const char *want)
{
    we_buf out = { 0 };
    we_error err = { 0 };
    CHECK_OK(we_uni_normalize(form, we_str_from(text), &out, &err), &err);
    CHECK_STR(we_buf_str(&out), want);
    we_buf_deinit(&out);
}

TEST(unicode_normal_forms)
{
    expect_form(WE_UNI_NFC, "e\u0301 a\u0323\u0307", "\u00e9 \u1ea1\u0307");
    expect_form(WE_UNI_NFC, "\u0958\ufb2c", "\u0915\u093c\u05e9\u05bc\u05c1"); /* excluded from composition */
    expect_form(WE_UNI_NFC, "\u1112\u1161\u11ab", "\ud55c");
    expect_form(WE_UNI_NFD, "\ud55c\u1ea1\u0307",
                "\u1112\u1161\u11ab"
                "a\u0323\u0307");
    expect_form(WE_UNI_NFKC, "\ufb01\u00b2\uff21", "fi2A");
    expect_form(WE_UNI_NFKD, "\u00bd", "1\u20442");
    expect_form(WE_UNI_NFC, "\U00016121\U00016129", "\U00016121\U00016129"); /* Unicode 16 composes these, 9 did not */
}

TEST(unicode_marks_by_the_thousand_take_linear_time)
{
    we_buf text = { 0 }, out = { 0 };
    we_error err = { 0 };
    for (int i = 0; i < 200000; i++) we_buf_append_str(&text, i % 2 ? WE_STR("\u0301") : WE_STR("\u0323"));
    CHECK_OK(we_uni_normalize(WE_UNI_NFC, we_buf_str(&text), &out, &err), &err);
    assert_int_equal(out.len, text.len);
    we_buf_deinit(&text);
    we_buf_deinit(&out);
}

TEST(unicode_grapheme_clusters)
{
    static const char *const clusters[] = { "a",
                                            "e\u0301",
                                            "\r\n",
                                            "\n",
                                            "\U0001F468\u200d\U0001F469",
                                            "\U0001F1E9\U0001F1EA",
                                            "\U0001F1EB",
                                            "\ud55c",
                                            "\u1100\u1161",
                                            "\u0915\u094d\u0937",
                                            "b" };
    we_buf text = { 0 };
    for (size_t i = 0; i < WE_COUNT(clusters); i++) we_buf_append_str(&text, we_str_from(clusters[i]));
    size_t at = 0;
    for (size_t i = 0; i < WE_COUNT(clusters); i++) {
        size_t end = we_uni_grapheme_end(we_buf_str(&text), at);
        CHECK_STR(((we_str){ text.ptr + at, end - at }), clusters[i]);
        at = end;
    }
    assert_int_equal(at, text.len);
    we_buf_deinit(&text);
}

/* ---- Memory ---- */

TEST(tokenizer_survives_failing_allocations)
{
    static const char *const names[] = { "bpe-qwen", "spm-legacy", "unigram-precompiled", "wordpiece-bert" };
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        char path[100];
        snprintf(path, sizeof(path), "tokenizers/tiny/%s/tokenizer.json", names[i]);
        we_str json = test_read_fixture(path);
        we_error err = { 0 };
        we_status st = WE_OK;
        EACH_ALLOCATION_FAILING(st == WE_OK)
        {
            we_tok *tok = NULL;
            we_ids ids = { 0 };
            we_buf text = { 0 };
            st = we_tok_parse(&tok, json, WE_STR("{\"eos_token\":\"</s>\",\"chat_template\":\"x\"}"), &err);
            if (!st) st = we_tok_encode(tok, WE_STR("The lamp's e\u0301 12 \u4e2d\u6587</s>"), true, &ids, &err);
            if (!st) st = we_tok_decode(tok, ids.ids, ids.n, true, &text, &err);
            we_ids_deinit(&ids);
            we_buf_deinit(&text);
            we_tok_close(tok);
            assert_true(st == WE_OK || st == WE_E_NOMEM);
        }
    }
}
