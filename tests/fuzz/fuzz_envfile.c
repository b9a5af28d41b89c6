/* SPDX-License-Identifier: Apache-2.0
 * fuzz_envfile.c - arbitrary bytes as a file of KEY=value. Every line that is one must read back the same after it was written
 * anew, and changing a variable must leave all others as they are. */
#include "client/client_int.h"

#include <stdlib.h>

static void require(bool holds)
{
    if (!holds) abort();
}

typedef struct seen {
    uint64_t others; /* hash of all lines but KEY's */
    size_t n_key;
    we_str wanted;
} seen;

static bool look(void *user, const we_envline *line)
{
    seen *s = user;
    if (we_str_is(line->key, "KEY")) {
        s->n_key++;
        require(!s->wanted.ptr || (!line->problem && we_str_eq(line->value, s->wanted)));
    } else {
        s->others = s->others * 31 + we_str_hash(line->key) + 7 * we_str_hash(line->value);
    }
    return true;
}

static bool rewrite(void *user, const we_envline *line)
{
    const we_str text = *(const we_str *)user;
    char *value = we_strndup(line->value.ptr, line->value.len);
    seen before = { 0 }, after = { .wanted = line->value };
    we_buf out = { 0 };
    require(we_envfile_parse(text, look, &before, NULL) == WE_OK);
    require(we_envfile_change(&out, text, "KEY", value, NULL) == WE_OK);
    require(we_envfile_parse(we_buf_str(&out), look, &after, NULL) == WE_OK);
    require(after.n_key == 1 && after.others == before.others);
    we_buf_deinit(&out);
    we_free(value);
    return false; /* the first will do */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    we_str text = { (const char *)data, size };
    require(we_envfile_parse(text, rewrite, &text, NULL) == WE_OK);
    return 0;
}
