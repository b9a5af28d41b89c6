/* SPDX-License-Identifier: Apache-2.0
 * fuzz_url.c - any text as a backend's URL and as OLLAMA_HOST: refused with a message, or a target whose address is an address
 * and whose host reads back as itself. */
#include "backend/backend.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Without the path, from which a server's own "/chat/completions" is taken off. */
static we_str place_of(const char *base)
{
    const char *end = strchr(strstr(base, "://") + 3, '/');
    return (we_str){ base, end ? (size_t)(end - base) : strlen(base) };
}

static void check_target(we_status st, const we_backend_target *t, const we_error *err)
{
    if (st) {
        if (err->status != st || !err->message[0] || t->model || t->base) abort();
        return;
    }
    if (!t->base[0]) return;
    for (const char *p = t->base; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == '?' || *p == '#') abort();
    for (const char *p = strstr(t->base, "://") + 3; *p && *p != '/'; p++)
        if (*p == '@') abort();
    we_backend_target again;
    if (we_backend_target_parse(&again, t->base, NULL)) abort(); /* as a server of its own */
    if (!we_str_eq(place_of(again.base), place_of(t->base))) abort();
    we_backend_target_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = we_strndup((const char *)data, size);
    we_backend_target t;
    we_error err = { 0 };
    unsetenv("OLLAMA_HOST");
    we_status st = we_backend_target_parse(&t, text, &err);
    check_target(st, &t, &err);
    we_backend_target_deinit(&t);
    err = (we_error){ 0 };
    setenv("OLLAMA_HOST", text, 1);
    st = we_backend_target_default(&t, WE_BACKEND_OLLAMA, &err);
    check_target(st, &t, &err);
    we_backend_target_deinit(&t);
    we_free(text);
    return 0;
}
