/* SPDX-License-Identifier: Apache-2.0
 * test_hub.c - names, lists of files, partial files, locks, links. The whole way of a pull is driven by tests/e2e/test_pull.py. */
#include "hub/hub_int.h"
#include "backend/backend.h"
#include "support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OID "0123456789abcdef0123456789abcdef01234567"

/* ---- Names ---- */

TEST(hub_names_are_repositories_and_revisions)
{
    we_hub_name n;
    we_error err;
    CHECK_OK(we_hub_name_parse(&n, "mlx-community/Qwen3-0.6B-4bit@refs/pr/1", &err), &err);
    assert_string_equal(n.repo, "mlx-community/Qwen3-0.6B-4bit");
    assert_string_equal(n.revision, "refs/pr/1");
    assert_string_equal(n.folder, "models--mlx-community--Qwen3-0.6B-4bit");
    char *repo = we_hub_repo_of(n.folder);
    assert_string_equal(repo, n.repo);
    we_free(repo);
    we_hub_name_deinit(&n);
    CHECK_OK(we_hub_name_parse(&n, "phi-3-mini", &err), &err);
    assert_string_equal(n.revision, "main");
    assert_non_null(strchr(n.repo, '/'));
    we_hub_name_deinit(&n);
    static const char *const wrong[] = { "a/b/c", "../x",  "/x",   "x/",       "a--b/c", "a/.b",
                                         "a/b-",  "a/b c", "a/b@", "a/b@../c", "a/b@/c" };
    for (size_t i = 0; i < WE_COUNT(wrong); i++) CHECK_STATUS(we_hub_name_parse(&n, wrong[i], &err), WE_E_ARG, &err);
}

/* A home without a models.json of the developer's. */
static void empty_home(void)
{
    setenv("HOME", test_dir(), 1);
    setenv("XDG_CONFIG_HOME", test_dir(), 1);
}

TEST(hub_short_names_lead_to_repositories)
{
    we_error err;
    we_hub_models table;
    empty_home();
    CHECK_OK(we_hub_models_read(&table, &err), &err);
    assert_int_equal(table.n, we_hub_n_short_names);
    for (size_t i = 0; i < we_hub_n_short_names; i++) {
        const we_hub_short_name *row = &we_hub_short_names[i];
        we_hub_name n;
        CHECK_OK(we_hub_name_parse(&n, row->name, &err), &err);
        assert_string_equal(n.repo, row->repo);
        we_hub_name_deinit(&n);
        assert_true(row->context >= 2048 && row->bytes > row->n_parameters / 2);
        assert_ptr_equal(we_hub_models_find(&table, we_str_from(row->name))->row, row); /* each name once */
    }
    static const char *const promised[] = { "llama-3.1-8b-instruct", "mistral-7b-instruct",
                                            "codellama-7b",          "phi-3-mini",
                                            "llama-3.2-3b",          "llama-3.1-70b" };
    for (size_t i = 0; i < WE_COUNT(promised); i++)
        assert_non_null(we_hub_models_find(&table, we_str_from(promised[i])));
    we_hub_models_deinit(&table);
    we_hub_name n;
    CHECK_STATUS(we_hub_name_parse(&n, "llama-3.1-8b-instrct", &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "did you mean \"llama-3.1-8b-instruct\"");
}

static const char users[] = "{\"mine\": {\"mlx\": \"me/mine\", \"ollama\": \"mine:7b\"},"
                            " \"qwen3-8b\": {\"ollama\": \"qwen3:8b-q8_0\"}, \"empty\": {}}";

TEST(hub_models_of_the_user_come_on_top)
{
    we_error err;
    we_hub_models t;
    CHECK_OK(we_hub_models_parse(&t, we_str_from(users), "f", &err), &err);
    assert_int_equal(t.n, we_hub_n_short_names + 2);
    const we_hub_model *mine = we_hub_models_find(&t, WE_STR("mine")),
                       *qwen = we_hub_models_find(&t, WE_STR("qwen3-8b"));
    assert_string_equal(mine->called[WE_BACKEND_MLX], "me/mine");
    assert_null(mine->called[WE_BACKEND_LMSTUDIO]);
    assert_null(mine->row);
    assert_string_equal(qwen->called[WE_BACKEND_OLLAMA], "qwen3:8b-q8_0");
    assert_string_equal(qwen->called[WE_BACKEND_LMSTUDIO], "qwen3-8b");
    assert_true(qwen->is_users[WE_BACKEND_OLLAMA] && !qwen->is_users[WE_BACKEND_MLX] && qwen->row);
    we_hub_models_deinit(&t);
    for (int n = 0;; n++) { /* memory ends at each place */
        we_alloc_fail_after(n);
        const we_status st = we_hub_models_parse(&t, we_str_from(users), "f", &err);
        we_alloc_fail_after(-1);
        if (!st) break;
        assert_int_equal(st, WE_E_NOMEM);
    }
    we_hub_models_deinit(&t);
}

TEST(hub_models_that_are_wrong_are_named)
{
    static const struct {
        const char *json, *says;
    } cases[] = {
        { "{\"a\": {\"ollama\": \"x\"}", "models.json: line 1, column 22" },
        { "[]", "models.json is an array; expected an object of models" },
        { "{\"a\": \"x\"}", "models.json: \"a\" is a string; expected an object" },
        { "{\"a\": {\"olama\": \"x\"}}", "models.json: \"a\" has a key \"olama\"; expected mlx, lmstudio, ollama" },
        { "{\"a\": {\"ollama\": 7}}", "models.json: \"a\".ollama is a number; expected a text" },
        { "{\"a\": {\"ollama\": \"\"}}", "models.json: \"a\".ollama is \"\"; expected 1 to 1024 bytes" },
        { "{\"a\": {\"ollama\": \"x\\u0000y\"}}", "without control characters" },
        { "{\"a/b\": {}}", "models.json: \"a/b\" is no short name" },
        { "{\"default\": {}}", "is no short name" },
        { "{\"\": {}}", "is no short name" },
    };
    we_error err;
    we_hub_models t;
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        CHECK_STATUS(we_hub_models_parse(&t, we_str_from(cases[i].json), "models.json", &err), WE_E_FORMAT, &err);
        EXPECT_MESSAGE(&err, cases[i].says);
        assert_int_equal(t.n, 0);
    }
}

TEST(hub_kinds_have_the_keys_of_their_urls)
{
    for (int k = 0; k < WE_HUB_KINDS; k++)
        assert_string_equal(we_hub_kind_key(k), we_backend_row_of((we_backend_kind)k)->id);
}

TEST(hub_paths_stay_below_their_folder)
{
    static const char *const good[] = { "a", "config.json", "a/b/c", "..a", "a..", ".hidden", "a/..b", "\xC3\xA4" };
    static const char *const bad[] = { "",     "/",      "/a",  "a/",   "a//b", ".",    "..",  "a/..",
                                       "../a", "a/../b", "./a", "a\\b", "a\nb", "\x7F", "\xFF" };
    for (size_t i = 0; i < WE_COUNT(good); i++) assert_true(we_hub_path_is_safe(we_str_from(good[i])));
    for (size_t i = 0; i < WE_COUNT(bad); i++) assert_false(we_hub_path_is_safe(we_str_from(bad[i])));
    assert_false(we_hub_path_is_safe((we_str){ "a\0b", 3 }));
}

/* ---- Lists of files ---- */

static we_status parse(we_hub_files *files, const char *const *paths, size_t n, we_error *err)
{
    we_buf json = { 0 };
    for (size_t i = 0; i < n; i++)
        we_buf_printf(&json, "%s{\"type\":\"file\",\"path\":\"%s\",\"oid\":\"" OID "\",\"size\":%zu}", i ? "," : "[",
                      paths[i], i);
    we_buf_printf(&json, "]");
    *files = (we_hub_files){ 0 };
    we_status st = we_buf_status(&json, err, "a test");
    if (!st) st = we_hub_files_parse(files, we_buf_str(&json), err);
    if (!st) st = we_hub_files_sort(files, err);
    we_buf_deinit(&json);
    return st;
}

/* The chosen ones, in order, joined by spaces. */
static void check_choice(const char *const *paths, size_t n, const char *wanted)
{
    we_hub_files files;
    we_error err;
    we_buf chosen = { 0 };
    CHECK_OK(parse(&files, paths, n, &err), &err);
    CHECK_OK(we_hub_files_choose(&files, "a/b", &err), &err);
    for (size_t i = 0; i < files.n; i++)
        if (files.items[i].needed) we_buf_printf(&chosen, "%s%s", chosen.len ? " " : "", files.items[i].path);
    assert_string_equal(chosen.ptr, wanted);
    we_buf_deinit(&chosen);
    we_hub_files_deinit(&files);
}

TEST(hub_chooses_what_a_model_needs)
{
    static const char *const sharded[] = { "config.json",
                                           "model-00001-of-00002.safetensors",
                                           "model-00002-of-00002.safetensors",
                                           "consolidated.safetensors",
                                           "model.safetensors.index.json",
                                           "tokenizer.model",
                                           "onnx/model.onnx",
                                           "README.md",
                                           ".gitattributes",
                                           "chat_template.jinja",
                                           "original/tokenizer.model",
                                           "model.gguf",
                                           "additional_chat_templates/a.jinja" };
    check_choice(sharded, WE_COUNT(sharded),
                 "additional_chat_templates/a.jinja chat_template.jinja config.json model-00001-of-00002.safetensors "
                 "model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.model");
    static const char *const npz[] = { "weights.npz", "config.json", "pytorch_model.bin" };
    check_choice(npz, WE_COUNT(npz), "config.json weights.npz");
    static const char *const bin[] = { "pytorch_model.bin", "config.json", "optimizer.bin", "vocab.txt" };
    check_choice(bin, WE_COUNT(bin), "config.json pytorch_model.bin vocab.txt");
}

TEST(hub_keeps_lists_as_huggingface_hub_does)
{
    static const char json[] =
        "[{\"type\":\"file\",\"path\":\"b\",\"oid\":\"" OID "\",\"size\":134,\"xetHash\":\"" OID OID
        "\",\"lfs\":{\"oid\":\"" OID OID "\",\"size\":9}}]";
    we_hub_files files = { 0 }, again = { 0 };
    we_error err;
    char *text, wrong[sizeof json];
    memcpy(wrong, json, sizeof json);
    CHECK_STATUS(we_hub_files_parse(&files, we_str_from(wrong), &err), WE_E_FORMAT, &err); /* 80 digits are no hash */
    we_hub_files_deinit(&files);
    static const char *const paths[] = { "config.json", "a/b" };
    CHECK_OK(parse(&files, paths, 2, &err), &err);
    const char *path = test_path("trees/x.json");
    CHECK_OK(we_hub_files_write(&files, path, &err), &err);
    CHECK_OK(we_file_read(path, 0, &text, NULL, &err), &err);
    assert_string_equal(
        text, "{\n \"format_version\": 1,\n \"files\": {\n  \"a/b\": {\n   \"size\": 1,\n   \"blob_id\": \"" OID
              "\"\n  },\n  \"config.json\": {\n   \"size\": 0,\n   \"blob_id\": \"" OID "\"\n  }\n }\n}");
    we_free(text);
    CHECK_OK(we_hub_files_read(&again, path, &err), &err);
    assert_int_equal(again.n, 2);
    assert_string_equal(again.items[1].path, "config.json");
    assert_int_equal(again.items[0].size, 1);
    we_hub_files_deinit(&again);
    we_hub_files_deinit(&files);
}

TEST(hub_lists_survive_failing_allocations)
{
    static const char *const paths[] = { "config.json", "model.safetensors", "a/b" };
    const char *path = test_path("t/list.json"); /* before allocations fail */
    we_status st = WE_E_NOMEM;
    we_error err;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_hub_files files, again = { 0 };
        st = parse(&files, paths, 3, &err);
        if (!st) st = we_hub_files_write(&files, path, &err);
        if (!st) st = we_hub_files_read(&again, path, &err);
        we_hub_files_deinit(&files);
        we_hub_files_deinit(&again);
        if (st) assert_int_equal(st, WE_E_NOMEM);
    }
}

/* ---- Partial files ---- */

TEST(hub_partial_files_remember_their_chunks)
{
    we_partial p;
    we_error err;
    char hex[WE_HASH_HEX_SIZE], *text;
    const char *path = test_path("blob.whisperengine.incomplete"), *blob = test_path("blob");
    const we_hub_file file = { .size = 5 };
    CHECK_OK(we_partial_open(&p, path, test_path("old"), 5, 2, &err), &err);
    assert_int_equal(p.n_chunks, 3);
    CHECK_OK(we_partial_write(&p, 2, 0, "o", 1, &err), &err);
    CHECK_OK(we_partial_note(&p, 2, 1, &err), &err);
    CHECK_OK(we_partial_write(&p, 0, 0, "he", 2, &err), &err); /* not noted: as if it had been killed before */
    we_partial_close(&p);
    CHECK_OK(we_partial_open(&p, path, test_path("old"), 5, 999, &err), &err); /* its own size of chunks stays */
    assert_int_equal(p.n_chunks, 3);
    assert_int_equal(we_partial_done(&p), 1);
    CHECK_OK(we_partial_write(&p, 0, 0, "he", 2, &err), &err);
    CHECK_OK(we_partial_write(&p, 1, 0, "ll", 2, &err), &err);
    CHECK_OK(we_partial_hash(&p, &file, NULL, hex, &err), &err);
    assert_string_equal(hex, "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"); /* git hash-object of "hello" */
    CHECK_OK(we_partial_finish(&p, blob, &err), &err);
    we_partial_close(&p);
    CHECK_OK(we_file_read(blob, 0, &text, NULL, &err), &err);
    assert_string_equal(text, "hello");
    we_free(text);
    assert_false(we_path_exists(path));
}

TEST(hub_partial_files_begin_with_what_another_left)
{
    we_partial p;
    we_error err;
    const char *old = test_write("x.incomplete", "hel", 3), *path = test_path("x.whisperengine.incomplete");
    CHECK_OK(we_partial_open(&p, path, old, 5, 2, &err), &err);
    assert_int_equal(we_partial_done(&p), 3);
    assert_int_equal(p.filled[0], 2);
    assert_int_equal(p.filled[1], 1);
    assert_false(we_path_exists(old));
    CHECK_OK(we_partial_restart(&p, true, &err), &err);
    assert_int_equal(p.n_chunks, 1);
    assert_int_equal(we_partial_done(&p), 0);
    we_partial_close(&p);
}

/* ---- Locks and links ---- */

TEST(hub_locks_exclude_each_other)
{
    int first, second;
    we_error err;
    CHECK_OK(we_hub_lock(test_dir(), "models--a--b", "hash", &first, &err), &err);
    assert_true(first >= 0);
    CHECK_OK(we_hub_lock(test_dir(), "models--a--b", "hash", &second, &err), &err);
    assert_int_equal(second, -1);
    we_hub_unlock(first);
    CHECK_OK(we_hub_lock(test_dir(), "models--a--b", "hash", &second, &err), &err);
    assert_true(second >= 0);
    we_hub_unlock(second);
    assert_true(we_path_exists(test_path(".locks/models--a--b/hash.lock")));
}

TEST(hub_links_lead_to_blobs_and_through_no_link)
{
    we_error err;
    char target[256];
    const char *root = test_path("models--a--b");
    assert_int_equal(mkdir(root, 0755), 0);
    for (int again = 0; again < 2; again++) CHECK_OK(we_hub_link(root, OID, "a/b/c.json", "hash", &err), &err);
    const ssize_t n = readlink(test_path("models--a--b/snapshots/" OID "/a/b/c.json"), target, sizeof target);
    CHECK_STR(((we_str){ target, (size_t)n }), "../../../../blobs/hash");
    assert_int_equal(symlink("/tmp", test_path("models--a--b/snapshots/" OID "/d")), 0);
    CHECK_STATUS(we_hub_link(root, OID, "d/x.json", "hash", &err), WE_E_FORMAT, &err);
    EXPECT_MESSAGE(&err, "passes through a link");
    CHECK_STATUS(we_hub_link(root, OID, "a/b/c.json/d", "hash", &err), WE_E_FORMAT, &err);
}
