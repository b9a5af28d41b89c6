/* SPDX-License-Identifier: Apache-2.0
 * test_tokenizer_compiled.c - the compiled form of a tokenizer: it is the same tokenizer, it is found by content, and whatever
 * happens to its file or folder, opening works as if it were not there. */
#include "support.h"

#include "tokenizer/tokenizer_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const fixtures[] = { "bpe-llama3", "bpe-split-mix", "spm-gemma", "unigram-precompiled",
                                        "wordpiece-bert" };
static const char *const texts[] = { "", "Hello world, it's 2024!\n\n  naïve café",
                                     "日本語 🦙 ▁▁ <s> </s> [MASK]", "aaaaaaaaaaaaaaaaaaaaaaaa\t\x01 ÀÉ",
                                     "don't STOP <|begin_of_text|> x" };

static we_str fixture_json(const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "tokenizers/tiny/%s/tokenizer.json", name);
    return test_read_fixture(path);
}

static void same_text(const we_tok *a, const we_tok *b, we_str text, bool special)
{
    we_error err = { 0 };
    we_ids x = { 0 }, y = { 0 };
    we_buf s = { 0 }, t = { 0 };
    CHECK_OK(we_tok_encode(a, text, special, &x, &err), &err);
    CHECK_OK(we_tok_encode(b, text, special, &y, &err), &err);
    assert_int_equal(x.n, y.n);
    if (x.n) assert_memory_equal(x.ids, y.ids, x.n * sizeof(*x.ids));
    CHECK_OK(we_tok_decode(a, x.ids, x.n, !special, &s, &err), &err);
    CHECK_OK(we_tok_decode(b, y.ids, y.n, !special, &t, &err), &err);
    assert_true(we_str_eq(we_buf_str(&s), we_buf_str(&t)));
    we_ids_deinit(&x);
    we_ids_deinit(&y);
    we_buf_deinit(&s);
    we_buf_deinit(&t);
}

static void same_tokenizer(const we_tok *a, const we_tok *b)
{
    assert_int_equal(we_tok_vocab_size(a), we_tok_vocab_size(b));
    for (size_t i = 0; i < WE_COUNT(texts); i++)
        for (int special = 0; special < 2; special++) same_text(a, b, we_str_from(texts[i]), special);
}

/* A compiled form in memory, as the file would be. */
typedef struct form {
    we_tok *tok; /* it was made from */
    we_buf small;
    we_tables tables;
} form;

static form form_new(const char *name)
{
    form f = { .tok = we_calloc(1, sizeof(*f.tok)) };
    we_error err = { 0 };
    CHECK_OK(we_tok_parse_json(f.tok, fixture_json(name), &f.small, &err), &err);
    we_tok_list_tables(f.tok, we_buf_str(&f.small), &f.tables);
    return f;
}

static void form_free(form *f)
{
    we_tok_close(f->tok);
    we_buf_deinit(&f->small);
}

TEST(tokenizer_compiled_is_the_same_tokenizer)
{
    for (size_t i = 0; i < WE_COUNT(fixtures); i++) {
        form f = form_new(fixtures[i]);
        we_error err = { 0 };
        we_tok *again = we_calloc(1, sizeof(*again));
        CHECK_OK(we_tok_take_tables(again, &f.tables, &err), &err);
        same_tokenizer(f.tok, again);
        we_tok_close(again);
        form_free(&f);
    }
}

/* Tables and the hashes in them may not change under the same number: files of that number are on people's disks. */
TEST(tokenizer_compiled_format_is_what_its_number_says)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < WE_COUNT(fixtures); i++) {
        form f = form_new(fixtures[i]);
        for (size_t k = 0; k < WE_N_TABLES; k++) hash = hash * 31 + we_str_hash(f.tables.table[k]);
        form_free(&f);
    }
    if (hash != 0x8a80b97a4c3be08eU) /* after raising FORMAT in compiled.c put the new value here */
        fail_msg("the compiled form has changed (now 0x%016llxU): raise FORMAT in compiled.c",
                 (unsigned long long)hash);
}

TEST(tokenizer_compiled_survives_lack_of_memory)
{
    form f = form_new("unigram-precompiled");
    we_error err = { 0 };
    we_status st = WE_OK;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_tok *tok = we_calloc(1, sizeof(*tok));
        st = tok ? we_tok_take_tables(tok, &f.tables, &err) : WE_E_NOMEM;
        we_tok_close(tok);
    }
    form_free(&f);
}

/* ---- Damage that no checksum shows: every table must be checked where it is taken ---- */

static void encode_all(const we_tok *tok)
{
    for (size_t i = 0; i < WE_COUNT(texts); i++) {
        we_ids ids = { 0 };
        we_buf text = { 0 };
        if (we_tok_encode(tok, we_str_from(texts[i]), true, &ids, NULL) == WE_OK)
            we_tok_decode(tok, ids.ids, ids.n, false, &text, NULL);
        for (size_t k = 0; k < ids.n; k++) assert_in_range(ids.ids[k], 0, we_tok_vocab_size(tok) - 1);
        we_ids_deinit(&ids);
        we_buf_deinit(&text);
    }
}

static void try_tables(const we_tables *tables)
{
    we_tok *tok = we_calloc(1, sizeof(*tok));
    assert_non_null(tok);
    if (we_tok_take_tables(tok, tables, NULL) == WE_OK) encode_all(tok);
    we_tok_close(tok);
}

TEST(tokenizer_compiled_bears_any_table)
{
    uint32_t seed = 1;
    for (size_t i = 0; i < WE_COUNT(fixtures); i++) {
        form f = form_new(fixtures[i]);
        for (size_t k = 0; k < WE_N_TABLES; k++) {
            const we_str table = f.tables.table[k];
            we_tables changed = f.tables;
            char *copy = we_malloc_aligned(64, table.len + 64);
            assert_non_null(copy);
            for (int round = 0; round < 60 && table.len; round++) {
                memcpy(copy, table.ptr, table.len);
                changed.table[k] = (we_str){ copy, table.len };
                seed = seed * 1664525U + 1013904223U;
                const size_t at = seed % table.len;
                if (round == 0)
                    memset(copy, 0, table.len); /* a torn map */
                else if (round == 1)
                    memset(copy, 0xFF, table.len);
                else if (round < 8)
                    changed.table[k].len = at & ~(size_t)15;
                else if (round < 12)
                    memset(copy + at / 2, 0, table.len - at / 2);
                else
                    for (size_t n = 0; n < 4 && at + n < table.len; n++) copy[at + n] ^= (char)(seed >> (8 * n));
                try_tables(&changed);
            }
            we_free(copy);
        }
        form_free(&f);
    }
}

/* ---- The cache directory ---- */

/* A model folder whose tokenizer.json is large enough for a compiled form: white space makes it so. */
static const char *model(const char *name, const char *fixture)
{
    const we_str json = fixture_json(fixture);
    const char *dir = test_path(name);
    char *text = we_malloc(WE_COMPILED_MIN + json.len), path[160];
    we_error err = { 0 };
    assert_non_null(text);
    memcpy(text, json.ptr, json.len);
    memset(text + json.len, ' ', WE_COMPILED_MIN);
    CHECK_OK(we_dir_make(dir, 0700, &err), &err);
    snprintf(path, sizeof(path), "%s/tokenizer.json", name);
    test_write(path, text, json.len + WE_COMPILED_MIN);
    we_free(text);
    return dir;
}

static const char *use_cache(const char *name)
{
    const char *dir = test_path(name);
    setenv("XDG_CACHE_HOME", dir, 1);
    return dir;
}

static char *form_path(const char *dir)
{
    char *path = we_path_join(dir, "tokenizer.json"), *text;
    size_t len;
    we_error err = { 0 };
    CHECK_OK(we_file_read(path, 0, &text, &len, &err), &err);
    we_free(path);
    path = we_compiled_path((we_str){ text, len });
    we_free(text);
    return path;
}

/* Opens, is the tokenizer it should be, and came from a compiled form or not. */
static void opens(const char *dir, const char *fixture, bool from_form)
{
    we_error err = { 0 };
    we_tok *tok, *plain;
    CHECK_OK(we_tok_open(&tok, dir, &err), &err);
    assert_int_equal(tok->compiled != NULL, from_form);
    CHECK_OK(we_tok_parse(&plain, fixture_json(fixture), (we_str){ "", 0 }, &err), &err);
    same_tokenizer(plain, tok);
    we_tok_close(plain);
    we_tok_close(tok);
}

TEST(tokenizer_compiled_is_made_once_and_found_by_content)
{
    struct stat info;
    use_cache("cache_once");
    const char *dir = model("m1", "bpe-llama3"), *copy = model("m2", "bpe-llama3");
    char *path = form_path(dir);
    assert_false(we_path_exists(path));
    opens(dir, "bpe-llama3", false);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(test_path("cache_once/whisperengine/tokenizers"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    opens(dir, "bpe-llama3", true);
    opens(copy, "bpe-llama3", true);
    model("m1", "bpe-split-mix"); /* another tokenizer in its place */
    opens(dir, "bpe-split-mix", false);
    opens(dir, "bpe-split-mix", true);
    opens(copy, "bpe-llama3", true);
    unlink(path); /* safe to delete */
    opens(copy, "bpe-llama3", false);
    we_free(path);
}

TEST(tokenizer_compiled_small_files_need_none)
{
    const char *cache = use_cache("cache_small");
    const we_str json = fixture_json("bpe-qwen");
    we_error err = { 0 };
    we_tok *tok;
    CHECK_OK(we_dir_make(test_path("small"), 0700, &err), &err);
    test_write("small/tokenizer.json", json.ptr, json.len);
    CHECK_OK(we_tok_open(&tok, test_path("small"), &err), &err);
    we_tok_close(tok);
    assert_false(we_path_exists(cache));
}

TEST(tokenizer_compiled_of_another_text_is_not_taken)
{
    use_cache("cache_stale");
    const char *a = model("a", "bpe-llama3"), *b = model("b", "wordpiece-bert");
    char *path_a = form_path(a), *path_b = form_path(b);
    opens(a, "bpe-llama3", false);
    assert_int_equal(rename(path_a, path_b), 0); /* as if the names had met */
    opens(b, "wordpiece-bert", false);
    opens(b, "wordpiece-bert", true);
    we_free(path_a);
    we_free(path_b);
}

TEST(tokenizer_compiled_damaged_is_made_anew)
{
    use_cache("cache_damaged");
    const char *dir = model("m3", "unigram-precompiled");
    char *path = form_path(dir), *bytes;
    size_t len;
    we_error err = { 0 };
    opens(dir, "unigram-precompiled", false);
    CHECK_OK(we_file_read(path, 0, &bytes, &len, &err), &err);
    const size_t cuts[] = { 0, 1, 8, sizeof(we_compiled_header) - 1, sizeof(we_compiled_header), len / 2, len - 1 };
    for (size_t i = 0; i < WE_COUNT(cuts); i++) {
        CHECK_OK(we_file_write_cache(path, &(we_str){ bytes, cuts[i] }, 1, 0600, &err), &err);
        opens(dir, "unigram-precompiled", false);
        opens(dir, "unigram-precompiled", true);
    }
    we_free(bytes);
    CHECK_OK(we_file_read(path, 0, &bytes, &len, &err), &err);
    we_compiled_header h;
    memcpy(&h, bytes, sizeof(h));
    we_tables tables;
    char *text;
    size_t text_len;
    char *json = we_path_join(dir, "tokenizer.json");
    CHECK_OK(we_file_read(json, 0, &text, &text_len, &err), &err);
    const we_str source = { text, text_len };
    assert_true(we_compiled_read((we_str){ bytes, len }, source, &tables));
    for (size_t i = 0; i < sizeof(h); i++) { /* every byte of the header */
        bytes[i] ^= 0x10;
        assert_false(we_compiled_read((we_str){ bytes, len }, source, &tables));
        bytes[i] ^= 0x10;
    }
    for (size_t k = 0; k < WE_N_TABLES; k++) /* and some of each table */
        for (size_t i = 0; i < h.tables[k].len; i += h.tables[k].len / 5 + 1) {
            bytes[h.tables[k].offset + i] ^= 1;
            assert_false(we_compiled_read((we_str){ bytes, len }, source, &tables));
            bytes[h.tables[k].offset + i] ^= 1;
        }
    assert_true(we_compiled_read((we_str){ bytes, len }, source, &tables));
    we_free(bytes);
    we_free(text);
    we_free(json);
    we_free(path);
}

TEST(tokenizer_compiled_folder_must_be_the_users_own)
{
    use_cache("cache_open");
    const char *dir = model("m4", "bpe-llama3");
    char *path = form_path(dir);
    opens(dir, "bpe-llama3", false);
    assert_int_equal(chmod(path, 0666), 0); /* others may write to the file ... */
    opens(dir, "bpe-llama3", false);
    opens(dir, "bpe-llama3", true);                                                     /* written anew */
    assert_int_equal(chmod(test_path("cache_open/whisperengine/tokenizers"), 0777), 0); /* ... or put one there */
    opens(dir, "bpe-llama3", false);
    opens(dir, "bpe-llama3", false);
    assert_int_equal(chmod(test_path("cache_open/whisperengine/tokenizers"), 0700), 0);
    opens(dir, "bpe-llama3", true);
    we_free(path);
}

TEST(tokenizer_compiled_is_left_out_where_it_cannot_be_written)
{
    const char *dir = model("m5", "bpe-llama3");
    test_write("cache_file", "x", 1); /* a file where the folder should be: as root, mode bits would refuse nothing */
    use_cache("cache_file");
    opens(dir, "bpe-llama3", false);
    opens(dir, "bpe-llama3", false);
    we_error err = { 0 };
    CHECK_OK(we_dir_make(test_path("cache_fixed/whisperengine/tokenizers"), 0700, &err), &err);
    use_cache("cache_fixed");
    assert_int_equal(chmod(test_path("cache_fixed/whisperengine/tokenizers"), 0500), 0);
    opens(dir, "bpe-llama3", false);
    assert_int_equal(chmod(test_path("cache_fixed/whisperengine/tokenizers"), 0700), 0);

    char *home = getenv("HOME") ? we_strdup(getenv("HOME")) : NULL;
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    opens(dir, "bpe-llama3", false);
    if (home) setenv("HOME", home, 1);
    we_free(home);
    use_cache("cache_file");
}

TEST(tokenizer_compiled_may_be_written_by_several_at_once)
{
    use_cache("cache_many");
    const char *dir = model("m6", "spm-gemma");
    pid_t children[6];
    for (size_t i = 0; i < WE_COUNT(children); i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            bool ok = true;
            for (int k = 0; k < 5 && ok; k++) {
                we_tok *tok = NULL;
                ok = we_tok_open(&tok, dir, NULL) == WE_OK && we_tok_vocab_size(tok) > 100;
                we_tok_close(tok);
                char *path = form_path(dir);
                if (path && k % 2) unlink(path);
                we_free(path);
            }
            _exit(ok ? 0 : 1);
        }
    }
    for (size_t i = 0; i < WE_COUNT(children); i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    we_tok *tok;
    we_error err = { 0 };
    CHECK_OK(we_tok_open(&tok, dir, &err), &err); /* makes it where the last child removed it */
    we_tok_close(tok);
    opens(dir, "spm-gemma", true);
}

TEST(tokenizer_compiled_folder_does_not_grow_forever)
{
    use_cache("cache_full");
    const char *dir = model("m7", "bpe-llama3");
    we_error err = { 0 };
    CHECK_OK(we_dir_make(test_path("cache_full/whisperengine/tokenizers"), 0700, &err), &err);
    const struct timespec long_ago[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    for (int i = 0; i < 16; i++) {
        char name[80];
        snprintf(name, sizeof(name), "cache_full/whisperengine/tokenizers/%d.wetok", i);
        test_write(name, "old", 3);
        if (i == 7) assert_int_equal(utimensat(AT_FDCWD, test_path(name), long_ago, 0), 0);
    }
    opens(dir, "bpe-llama3", false);
    assert_false(we_path_exists(test_path("cache_full/whisperengine/tokenizers/7.wetok")));
    assert_true(we_path_exists(test_path("cache_full/whisperengine/tokenizers/8.wetok")));
    opens(dir, "bpe-llama3", true);
}
