/* SPDX-License-Identifier: Apache-2.0
 * test_format_pytorch.c - files of torch.save: tensors and views of shared storages, pickles that are broken or want more
 * than data, shards by index. The fixtures are PyTorch's own (tests/fixtures/pytorch/README.md). */
#include "support.h"

#include "format/pickle.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct opened {
    we_arena arena;
    char *text;
    size_t len, n, unpacked;
    we_weight *weights;
} opened;

static we_status open_file(opened *o, const char *name, size_t max_unpacked, we_error *err)
{
    char path[128];
    *o = (opened){ 0 };
    snprintf(path, sizeof path, "pytorch/%s", name);
    we_status st = we_file_read(test_fixture(path), 0, &o->text, &o->len, err);
    return st ? st
              : we_pytorch_parse(&o->arena, (we_str){ o->text, o->len }, name, max_unpacked, &o->weights, &o->n,
                                 &o->unpacked, err);
}

static void close_file(opened *o)
{
    we_arena_deinit(&o->arena);
    we_free(o->text);
}

static const we_weight *named(const opened *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++)
        if (strcmp(o->weights[i].name, name) == 0) return &o->weights[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void check_tensor(const opened *o, const char *name, we_dtype dtype, const char *shape, const float *want)
{
    char text[WE_SHAPE_TEXT];
    const we_weight *w = named(o, name);
    assert_int_equal(w->dtype, dtype);
    assert_string_equal(we_shape_text(text, w->shape, w->n_dims), shape);
    for (size_t i = 0; i < w->bytes / we_dtype_size(dtype); i++) {
        float f;
        memcpy(&f, w->data + 4 * i, sizeof f);
        assert_true(f == want[i]);
    }
}

static void check_tensors(const char *file)
{
    opened o;
    we_error err;
    CHECK_OK(open_file(&o, file, 4096, &err), &err);
    assert_int_equal(o.n, 12); /* the note is none */
    float all[24], transposed[24], second[12];
    for (int i = 0; i < 24; i++) all[i] = (float)i;
    for (int i = 0; i < 24; i++) transposed[i] = (float)(i % 4 * 6 + i / 4);
    for (int i = 0; i < 12; i++) second[i] = (float)(2 * i);
    check_tensor(&o, "whole", WE_F32, "[4, 6]", all);
    check_tensor(&o, "rows", WE_F32, "[2, 6]", all + 6);
    check_tensor(&o, "transposed", WE_F32, "[6, 4]", transposed);
    check_tensor(&o, "every_second", WE_F32, "[4, 3]", second);
    check_tensor(&o, "spread", WE_F32, "[3, 2]", (float[]){ 5, 6, 5, 6, 5, 6 });
    check_tensor(&o, "parameter", WE_F32, "[2, 2]", (float[]){ 1, 1, 1, 1 });
    check_tensor(&o, "scalar", WE_F32, "[]", (float[]){ 7 });
    check_tensor(&o, "empty", WE_F32, "[0, 4]", NULL);
    assert_ptr_equal(named(&o, "rows")->data, named(&o, "whole")->data + 24);
    assert_int_equal(o.unpacked, 4 * (24 + 12 + 6));
    assert_int_equal(named(&o, "half")->dtype, WE_F16);
    assert_int_equal(named(&o, "bfloat")->dtype, WE_BF16);
    assert_int_equal(named(&o, "double")->dtype, WE_F64);
    assert_int_equal(named(&o, "ints")->dtype, WE_I64);
    close_file(&o);
}

TEST(format_pytorch_reads_tensors_and_views) { check_tensors("tensors.bin"); }

TEST(format_pytorch_reads_newer_pickles) { check_tensors("protocol4.bin"); }

static void check_refused(const char *file, size_t max_unpacked, we_status status, const char *message)
{
    opened o;
    we_error err;
    CHECK_STATUS(open_file(&o, file, max_unpacked, &err), status, &err);
    EXPECT_MESSAGE(&err, message);
    EXPECT_MESSAGE(&err, file);
    close_file(&o);
}

TEST(format_pytorch_runs_no_code)
{
    remove("/tmp/we-was-here");
    check_refused("code.bin", 4096, WE_E_UNSUPPORTED, "system\"");
    assert_false(we_path_exists("/tmp/we-was-here"));
}

TEST(format_pytorch_tells_what_it_does_not_read)
{
    check_refused("old.bin", 4096, WE_E_UNSUPPORTED, "before 1.6");
    check_refused("torchscript.bin", 4096, WE_E_UNSUPPORTED, "TorchScript");
    check_refused("tensors.bin", 100, WE_E_UNSUPPORTED, "not stored in order");
    check_refused("README.md", 4096, WE_E_FORMAT, "zip");
}

TEST(format_pytorch_survives_any_cut)
{
    opened o;
    we_error err;
    CHECK_OK(open_file(&o, "tensors.bin", 4096, &err), &err);
    for (size_t len = 0; len < o.len; len += 7) {
        we_arena arena = { 0 };
        we_weight *weights;
        size_t n, unpacked = 0;
        char *cut = malloc(len + 1); /* its own block, so that a sanitizer sees its end */
        memcpy(cut, o.text, len);
        assert_int_not_equal(we_pytorch_parse(&arena, (we_str){ cut, len }, "f", 4096, &weights, &n, &unpacked, &err),
                             0);
        free(cut);
        we_arena_deinit(&arena);
    }
    close_file(&o);
}

TEST(format_pytorch_out_of_memory)
{
    opened file;
    we_status st = WE_OK;
    we_error err = { 0 };
    CHECK_OK(open_file(&file, "tensors.bin", 4096, &err), &err);
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        opened o = { 0 };
        st =
            we_pytorch_parse(&o.arena, (we_str){ file.text, file.len }, "f", 4096, &o.weights, &o.n, &o.unpacked, &err);
        if (st) assert_int_equal(st, WE_E_NOMEM);
        close_file(&o);
    }
    close_file(&file);
}

/* ---- Pickles by hand ---- */

TEST(format_pytorch_pickles_that_are_refused)
{
#define P(text)                \
    {                          \
        text, sizeof(text) - 1 \
    }
    static const struct {
        we_str bytes;
        we_status status;
        const char *message;
    } cases[] = {
        { P(""), WE_E_FORMAT, "cut short" },
        { P("."), WE_E_FORMAT, "empty stack" },
        { P("(."), WE_E_FORMAT, "empty stack" },
        { P("\x80"), WE_E_FORMAT, "cut short" },
        { P("K"), WE_E_FORMAT, "cut short" },
        { P("X\xff\xff\xff\x7f"
            "a"),
          WE_E_FORMAT, "cut short" },
        { P("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
            "a"),
          WE_E_FORMAT, "cut short" },
        { P("\x8a\x09"
            "123456789."),
          WE_E_FORMAT, "64 bits" },
        { P("t."), WE_E_FORMAT, "without a mark" },
        { P("\x87."), WE_E_FORMAT, "empty stack" },
        { P("(\x85."), WE_E_FORMAT, "mark" },
        { P("h\x01."), WE_E_FORMAT, "remembered" },
        { P("}q\x05."), WE_E_FORMAT, "gaps" },
        { P("q\x00."), WE_E_FORMAT, "remembers" },
        { P("K\x01K\x02s."), WE_E_FORMAT, "adds items" },
        { P("}(K\x01u."), WE_E_FORMAT, "adds items" },
        { P("](K\x01u."), WE_E_FORMAT, "adds items" },
        { P("K\x01"
            "b."),
          WE_E_FORMAT, "attributes" },
        { P("]K\x01"
            "b."),
          WE_E_FORMAT, "attributes" },
        { P("K\x01)R."), WE_E_FORMAT, "no function" },
        { P("ctorch\nFloatStorage\n)R."), WE_E_FORMAT, "storage" },
        { P("Q."), WE_E_FORMAT, "empty stack" },
        { P("cposix\nsystem\n."), WE_E_UNSUPPORTED, "posix.system" },
        { P("cbuiltins\neval\n."), WE_E_UNSUPPORTED, "builtins.eval" },
        { P("ctorch\nload\n."), WE_E_UNSUPPORTED, "torch.load" },
        { P("\x8c\x02os\x8c\x06system\x93."), WE_E_UNSUPPORTED, "os.system" },
        { P("cposix\n"), WE_E_FORMAT, "cut short" },
        { P("\x81."), WE_E_UNSUPPORTED, "0x81" },             /* NEWOBJ */
        { P("iposix\nsystem\n."), WE_E_UNSUPPORTED, "0x69" }, /* INST */
        { P("S'x'\n."), WE_E_UNSUPPORTED, "0x53" },
        { P("\x98."), WE_E_UNSUPPORTED, "0x98" }, /* READONLY_BUFFER */
    };
#undef P
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        we_arena arena = { 0 };
        const we_pickle *value;
        we_error err = { 0 };
        CHECK_STATUS(we_pickle_parse(&arena, cases[i].bytes, "f", &value, &err), cases[i].status, &err);
        EXPECT_MESSAGE(&err, cases[i].message);
        we_arena_deinit(&arena);
    }
}

TEST(format_pytorch_pickle_values)
{
    we_arena arena = { 0 };
    we_error err;
    const we_pickle *v;
    const we_str bytes = WE_STR("\x80\x02(J\xff\xff\xff\xffM\x34\x12\x8a\x02\x00\x80\x8a\x00\x88N]q\x00h\x00"
                                "a(K\x01K\x02"
                                "e}X\x01\x00\x00\x00kK\x07st.");
    CHECK_OK(we_pickle_parse(&arena, bytes, "f", &v, &err), &err);
    static const int64_t numbers[] = { -1, 0x1234, -32768, 0, 1 };
    assert_int_equal(v->type, WE_PICKLE_TUPLE);
    assert_int_equal(v->n, 8);
    for (size_t i = 0; i < WE_COUNT(numbers); i++) assert_int_equal(v->items[i]->number, numbers[i]);
    assert_int_equal(v->items[5]->type, WE_PICKLE_NONE);
    const we_pickle *list = v->items[6], *dict = v->items[7];
    assert_int_equal(list->n, 3);
    assert_ptr_equal(list->items[0], list); /* a list may hold itself */
    assert_int_equal(dict->type, WE_PICKLE_DICT);
    CHECK_STR(dict->items[0]->text, "k");
    assert_int_equal(dict->items[1]->number, 7);
    we_arena_deinit(&arena);
}

/* ---- Folders ---- */

static void copy_fixture(const char *name, const char *path)
{
    char *text, from[128];
    size_t len;
    we_error err;
    snprintf(from, sizeof from, "pytorch/%s", name);
    CHECK_OK(we_file_read(test_fixture(from), 0, &text, &len, &err), &err);
    test_write(path, text, len);
    we_free(text);
}

TEST(format_pytorch_folders)
{
    we_error err;
    we_weights *w;
    const char *dir = test_path("pt");
    CHECK_OK(we_dir_make(dir, 0700, &err), &err);
    copy_fixture("tensors.bin", "pt/pytorch_model-00001-of-00002.bin");
    static const char index[] =
        "{\"weight_map\":{\"whole\":\"pytorch_model-00001-of-00002.bin\",\"x\":\"pytorch_model-00002-of-00002.bin\"}}";
    test_write("pt/pytorch_model.bin.index.json", index, sizeof index - 1);
    CHECK_STATUS(we_weights_open_any(&w, dir, &err), WE_E_NOT_FOUND, &err);
    EXPECT_MESSAGE(&err, "pytorch_model-00002-of-00002.bin");
    remove(test_path("pt/pytorch_model.bin.index.json"));
    CHECK_OK(we_weights_open_any(&w, dir, &err), &err);
    assert_int_equal(we_weights_count(w), 12);
    we_weights_drop(w, we_weights_find(w, "whole")->data, 96);
    we_weights_close(w);
    CHECK_STATUS(we_weights_open(&w, dir, &err), WE_E_NOT_FOUND, &err); /* an engine does not run them */
    EXPECT_MESSAGE(&err, "whisperengine convert");
}
