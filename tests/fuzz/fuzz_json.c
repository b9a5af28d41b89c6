/* SPDX-License-Identifier: Apache-2.0
 * fuzz_json.c - arbitrary bytes as JSON. What parses must, once written, parse again to an equal tree, indented and in ASCII
 * too; the pull reader must agree with the tree on what is valid. */
#include "base/base.h"

#include <stdlib.h>

static void require(bool holds)
{
    if (!holds) abort();
}

static void require_equal(const we_json *a, const we_json *b)
{
    require(a->type == b->type && a->n == b->n);
    require(we_str_eq(a->key, b->key) && we_str_eq(a->text, b->text));
    const we_json *x = a->first, *y = b->first;
    for (; x && y; x = x->next, y = y->next) require_equal(x, y);
    require(!x && !y);
}

static void check_rewritten(const we_json *tree, we_json_writer w)
{
    we_buf text = { 0 };
    we_arena arena = { 0 };
    const we_json *again;
    w.buf = &text;
    we_json_write_tree(&w, tree);
    require(we_buf_status(&text, NULL, "the text") == WE_OK);
    require(we_json_parse(&arena, we_buf_str(&text), &again, NULL) == WE_OK);
    require_equal(tree, again);
    we_arena_deinit(&arena);
    we_buf_deinit(&text);
}

/* Whether the reader comes to the end when it skips the value it finds. */
static bool reader_accepts(we_str input)
{
    we_json_reader reader;
    we_json_reader_init(&reader, input);
    const bool ok = we_json_skip(&reader) && we_json_next(&reader) == WE_JSON_EV_END;
    require(ok || (reader.error.status == WE_E_FORMAT && reader.error.message[0]));
    we_json_reader_deinit(&reader);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const we_str input = { (const char *)data, size };
    we_arena arena = { 0 };
    const we_json *tree;
    const bool valid = we_json_parse(&arena, input, &tree, NULL) == WE_OK;
    require(valid == reader_accepts(input));
    if (valid) {
        check_rewritten(tree, (we_json_writer){ .indent = 0 });
        check_rewritten(tree, (we_json_writer){ .indent = 3, .ascii = true });
    }
    we_arena_deinit(&arena);
    return 0;
}
