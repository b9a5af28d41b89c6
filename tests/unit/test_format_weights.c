/* SPDX-License-Identifier: Apache-2.0
 * test_format_weights.c - the weights of a folder: which files count, shards and their index, names, loading, files
 * that change meanwhile. The containers: test_format_safetensors.c, test_format_npz.c. */
#include "support.h"

#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- Folders ---- */

static const char *folder(const char *name)
{
    const char *path = test_path(name);
    we_error err;
    CHECK_OK(we_dir_make(path, 0700, &err), &err);
    return path;
}

static void write_text(const char *path, const char *text) { test_write(path, text, strlen(text)); }

/* A file with one tensor of three bytes for each letter of `names`: "a" holds "aaa". */
static void write_shard(const char *path, const char *names)
{
    we_buf header = { 0 }, file = { 0 };
    for (size_t i = 0; names[i]; i++)
        we_buf_printf(&header, "%s\"%c\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[%zu,%zu]}", i ? "," : "{",
                      names[i], 3 * i, 3 * i + 3);
    we_buf_append_str(&header, header.len ? WE_STR("}") : WE_STR("{}"));
    for (int i = 0; i < 8; i++) we_buf_append_char(&file, (char)((uint64_t)header.len >> (8 * i)));
    we_buf_append_str(&file, we_buf_str(&header));
    for (size_t i = 0; names[i]; i++) we_buf_printf(&file, "%c%c%c", names[i], names[i], names[i]);
    test_write(path, file.ptr, file.len);
    we_buf_deinit(&header);
    we_buf_deinit(&file);
}

#define INDEX "model.safetensors.index.json"
#define SHARD_1 "model-00001-of-00003.safetensors"
#define SHARD_2 "model-00002-of-00003.safetensors"
#define SHARD_3 "model-00003-of-00003.safetensors"

static const char index_text[] =
    "{\"metadata\":{\"total_size\":15},\"weight_map\":{\"a\":\"" SHARD_1 "\",\"e\":\"" SHARD_3 "\",\"b\":\"" SHARD_2
    "\",\"c\":\"" SHARD_2 "\",\"d\":\"" SHARD_1 "\"}}\n";

/* The names of all tensors in the order of we_weights_at, each checked for its bytes. */
static void check_opens(const char *dir, const char *names)
{
    we_weights *w;
    we_error err;
    CHECK_OK(we_weights_open(&w, dir, &err), &err);
    assert_int_equal(we_weights_count(w), strlen(names));
    for (size_t i = 0; names[i]; i++) {
        const we_weight *t = we_weights_at(w, i);
        const char name[] = { names[i], 0 }, data[] = { names[i], names[i], names[i] };
        assert_string_equal(t->name, name);
        assert_memory_equal(t->data, data, 3);
        assert_ptr_equal(we_weights_find(w, name), t);
    }
    assert_null(we_weights_at(w, strlen(names)));
    assert_null(we_weights_find(w, "none"));
    assert_null(we_weights_find(w, ""));
    we_weights_close(w);
}

static void check_fails(const char *dir, we_status status, const char *message)
{
    we_weights *w;
    we_error err;
    CHECK_STATUS(we_weights_open(&w, dir, &err), status, &err);
    assert_null(w);
    EXPECT_MESSAGE(&err, message);
    assert_int_equal(we_weights_open(&w, dir, NULL), status);
}

/* ---- Which files count ---- */

TEST(weights_of_one_file)
{
    const char *dir = folder("m");
    write_shard("m/model.safetensors", "ba");
    write_shard("m/optimizer.safetensors", "z");
    write_text("m/config.json", "{}");
    check_opens(dir, "ba");
}

TEST(weights_of_shards_by_their_index)
{
    const char *dir = folder("m");
    write_shard("m/" SHARD_1, "da");
    write_shard("m/" SHARD_2, "bc");
    write_shard("m/" SHARD_3, "e");
    write_shard("m/model-old.safetensors", "z"); /* not in the index */
    write_text("m/" INDEX, index_text);
    check_opens(dir, "dabce");
}

TEST(weights_of_shards_without_an_index)
{
    const char *dir = folder("m");
    write_shard("m/" SHARD_2, "bc");
    write_shard("m/" SHARD_1, "da");
    check_opens(dir, "dabc");
}

TEST(weights_index_that_names_no_file_of_the_folder_is_stale)
{
    const char *dir = folder("m");
    write_shard("m/model.safetensors", "abc");
    write_text("m/" INDEX, index_text);
    check_opens(dir, "abc");
}

TEST(weights_with_older_names)
{
    const char *dir = folder("m");
    write_shard("m/weights.00.safetensors", "a");
    write_shard("m/weights.01.safetensors", "b");
    check_opens(dir, "ab");
    write_shard("m/model.safetensors", "c"); /* the newer name wins */
    check_opens(dir, "c");
}

TEST(weights_links_are_followed)
{
    folder("blobs");
    const char *dir = folder("m");
    write_shard("blobs/0123", "ab");
    assert_int_equal(symlink("../blobs/0123", test_path("m/model.safetensors")), 0);
    check_opens(dir, "ab");
}

TEST(weights_that_are_missing_are_told)
{
    check_fails(test_path("none"), WE_E_NOT_FOUND, "is not there");
    write_text("file", "");
    check_fails(test_path("file"), WE_E_NOT_FOUND, "is not a folder");
    const char *dir = folder("m");
    write_text("m/model.gguf", "GGUF");
    check_fails(dir, WE_E_NOT_FOUND, "has no weights: expected model.safetensors");
    check_fails(dir, WE_E_NOT_FOUND, "whisperengine convert");
    write_shard("m/model.safetensors", "");
    check_fails(dir, WE_E_FORMAT, "model.safetensors holds no tensors");
}

TEST(weights_missing_shards_are_named)
{
    const char *dir = folder("m");
    write_shard("m/" SHARD_2, "bc");
    write_text("m/" INDEX, index_text);
    check_fails(dir, WE_E_NOT_FOUND, "2 of the 3 files");
    check_fails(dir, WE_E_NOT_FOUND, "are missing: " SHARD_1 ", " SHARD_3 ". The download is incomplete");
    assert_int_equal(symlink("nowhere", test_path("m/" SHARD_1)), 0);
    check_fails(dir, WE_E_NOT_FOUND, "2 of the 3 files");
    assert_int_equal(unlink(test_path("m/" SHARD_2)), 0);
    check_fails(dir, WE_E_NOT_FOUND, "3 of the 3 files");
}

/* ---- The index ---- */

TEST(weights_index_stays_in_its_folder)
{
    static const char *const names[] = { "../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "",
                                         "a\\\\b",           "a\\u0000b" };
    folder("m");
    write_shard("x.safetensors", "a");
    write_shard("m/model.safetensors", "a");
    for (size_t i = 0; i < WE_COUNT(names); i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
        write_text("m/" INDEX, text);
        check_fails(test_path("m"), WE_E_FORMAT, "shards must lie beside it");
    }
}

TEST(weights_broken_index_is_told)
{
    static const char *const texts[] = { "",
                                         "[]",
                                         "{}",
                                         "{\"weight_map\":{}}",
                                         "{\"weight_map\":[]}",
                                         "{\"weight_map\":{\"a\":1}}",
                                         "{\"weight_map\":{\"a\":{}}}",
                                         "{\"metadata\":{",
                                         "{\"weight_map\":{\"a\":\"b\"",
                                         "{\"weight_map\":{\"a\":\"b\"}} x" };
    const char *dir = folder("m");
    write_shard("m/model.safetensors", "a");
    for (size_t i = 0; i < WE_COUNT(texts); i++) {
        write_text("m/" INDEX, texts[i]);
        check_fails(dir, WE_E_FORMAT, INDEX ": expected a \"weight_map\"");
    }
    write_text("m/" INDEX, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    check_fails(dir, WE_E_FORMAT, INDEX " is a Git LFS pointer");
}

/* ---- Files ---- */

TEST(weights_git_lfs_pointers_are_recognised)
{
    static const char pointer[] =
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    const char *dir = folder("m");
    write_text("m/model.safetensors", pointer);
    check_fails(dir, WE_E_FORMAT, "model.safetensors is a Git LFS pointer, not the weights: run `git lfs pull` in ");
    assert_int_equal(unlink(test_path("m/model.safetensors")), 0);
    write_text("m/weights.npz", pointer);
    check_fails(dir, WE_E_FORMAT, "weights.npz is a Git LFS pointer");
    assert_true(we_is_lfs_pointer(we_str_from(pointer)));
    assert_false(we_is_lfs_pointer(WE_STR("version https://git-lfs")));
    assert_false(we_is_lfs_pointer(WE_STR("")));
}

TEST(weights_broken_files_are_named)
{
    const char *dir = folder("m");
    write_text("m/model.safetensors", "");
    check_fails(dir, WE_E_FORMAT, "model.safetensors in ");
    check_fails(dir, WE_E_FORMAT, " is empty");
    write_text("m/model.safetensors", "<html>502 Bad Gateway</html>");
    check_fails(dir, WE_E_FORMAT, "model.safetensors: not a safetensors file");
    assert_int_equal(unlink(test_path("m/model.safetensors")), 0);
    write_text("m/weights.npz", "<html>502 Bad Gateway</html>");
    check_fails(dir, WE_E_FORMAT, "weights.npz: not a zip archive");
}

TEST(weights_tensors_that_are_there_twice_are_told)
{
    const char *dir = folder("m");
    write_shard("m/model-1.safetensors", "abc");
    write_shard("m/model-2.safetensors", "deb");
    check_fails(dir, WE_E_FORMAT, "tensor \"b\" is both in model-1.safetensors and in model-2.safetensors");
    assert_int_equal(unlink(test_path("m/model-2.safetensors")), 0);
    write_shard("m/model-1.safetensors", "abca");
    check_fails(dir, WE_E_FORMAT, "model-1.safetensors: has tensor \"a\" twice");
}

TEST(weights_of_npz_are_unpacked_and_counted)
{
    /* clang-format off */
    static const uint8_t npz[] = { /* numpy 2.4: np.savez_compressed("w.npz", a=np.full(3, ord("a"), "u1")) */
        0x50, 0x4b, 0x03, 0x04, 0x2d, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x21, 0x00, 0x1a, 0x10, 0x35,
        0x14, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x05, 0x00, 0x14, 0x00, 0x61, 0x2e, 0x6e, 0x70,
        0x79, 0x01, 0x00, 0x10, 0x00, 0x83, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x47, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x9b, 0xec, 0x17, 0xea, 0x1b, 0x10, 0xc9, 0xc8, 0x50, 0xc6, 0x50, 0xad, 0x9e,
        0x92, 0x5a, 0x9c, 0x5c, 0xa4, 0x6e, 0xa5, 0xa0, 0x5e, 0x53, 0x6a, 0xa8, 0xae, 0xa3, 0xa0, 0x9e, 0x96,
        0x5f, 0x54, 0x52, 0x94, 0x98, 0x17, 0x9f, 0x5f, 0x94, 0x92, 0x0a, 0x12, 0x77, 0x4b, 0xcc, 0x29, 0x4e,
        0x05, 0x8a, 0x17, 0x67, 0x24, 0x16, 0xa4, 0x02, 0xf9, 0x1a, 0xc6, 0x3a, 0x9a, 0x3a, 0x0a, 0xb5, 0x0a,
        0x14, 0x00, 0xae, 0xc4, 0xc4, 0x44, 0x00, 0x50, 0x4b, 0x01, 0x02, 0x2d, 0x03, 0x2d, 0x00, 0x00, 0x00,
        0x08, 0x00, 0x00, 0x00, 0x21, 0x00, 0x1a, 0x10, 0x35, 0x14, 0x47, 0x00, 0x00, 0x00, 0x83, 0x00, 0x00,
        0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x01, 0x00, 0x00,
        0x00, 0x00, 0x61, 0x2e, 0x6e, 0x70, 0x79, 0x50, 0x4b, 0x05, 0x06, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x01, 0x00, 0x33, 0x00, 0x00, 0x00, 0x7e, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    /* clang-format on */
    const char *dir = folder("m");
    test_write("m/weights.npz", npz, sizeof npz);
    check_opens(dir, "a");
    we_weights *w;
    we_error err;
    CHECK_OK(we_weights_open(&w, dir, &err), &err);
    assert_int_equal(we_weights_mapped_bytes(w), sizeof npz);
    assert_int_equal(we_weights_unpacked_bytes(w), 3);
    we_weights_close(w);
}

/* ---- Loading ---- */

typedef struct progress_log {
    int calls, cancel_at;
    uint64_t done, total;
} progress_log;

static bool note_progress(void *user, uint64_t done, uint64_t total)
{
    progress_log *log = user;
    assert_true(done > log->done || total == 0);
    log->done = done;
    log->total = total;
    return ++log->calls != log->cancel_at;
}

/* One tensor of `len` bytes. */
static void write_large(const char *path, size_t len)
{
    char *file = calloc(1, len + 256);
    const int header_len =
        snprintf(file + 8, 200, "{\"a\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", len, len);
    file[0] = (char)header_len;
    test_write(path, file, 8 + (size_t)header_len + len);
    free(file);
}

TEST(weights_load_tells_its_progress)
{
    const size_t len = (size_t)40 << 20;
    const char *dir = folder("m");
    write_large("m/model.safetensors", len);
    we_weights *w;
    we_error err;
    CHECK_OK(we_weights_open(&w, dir, &err), &err);
    assert_int_equal(we_weights_mapped_bytes(w), we_path_size(test_path("m/model.safetensors")));
    assert_int_equal(we_weights_unpacked_bytes(w), 0);

    progress_log log = { 0 };
    CHECK_OK(we_weights_load(w, note_progress, &log, &err), &err);
    assert_int_equal(log.calls, 3);
    assert_int_equal(log.done, log.total);
    assert_int_equal(log.total, we_weights_mapped_bytes(w));
    CHECK_OK(we_weights_load(w, NULL, NULL, &err), &err);

    log = (progress_log){ .cancel_at = 2 };
    CHECK_STATUS(we_weights_load(w, note_progress, &log, &err), WE_E_CANCELLED, &err);
    assert_int_equal(log.calls, 2);
    we_weights_close(w);
    we_weights_close(NULL);
}

TEST(weights_cut_short_while_open_are_noticed)
{
    const char *dir = folder("m");
    write_large("m/model.safetensors", 1 << 20);
    we_weights *w;
    we_error err;
    CHECK_OK(we_weights_open(&w, dir, &err), &err);
    CHECK_OK(we_weights_check(w, &err), &err);
    assert_int_equal(truncate(test_path("m/model.safetensors"), 1000), 0);
    CHECK_STATUS(we_weights_check(w, &err), WE_E_DEVICE, &err);
    EXPECT_MESSAGE(&err, "model.safetensors");
    CHECK_STATUS(we_weights_load(w, NULL, NULL, &err), WE_E_DEVICE, &err); /* no SIGBUS */
    we_weights_close(w);
}

TEST(weights_out_of_memory_is_told)
{
    const char *dir = folder("m");
    write_shard("m/" SHARD_1, "da");
    write_shard("m/" SHARD_2, "bc");
    write_shard("m/" SHARD_3, "e");
    write_text("m/" INDEX, index_text);
    we_weights *w;
    we_error err;
    we_status st = WE_OK;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        st = we_weights_open(&w, dir, &err);
        if (st) assert_int_equal(st, WE_E_NOMEM);
        we_weights_close(w);
    }
}
