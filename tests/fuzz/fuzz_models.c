/* SPDX-License-Identifier: Apache-2.0
 * fuzz_models.c - any bytes as the user's models.json: an error, or a table whose names are plain and found again. */
#include "hub/hub.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    we_hub_models t;
    we_error err;
    if (we_hub_models_parse(&t, (we_str){ (const char *)data, size }, "models.json", &err)) {
        if (t.items || !err.message[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < t.n; i++) {
        const we_hub_model *m = &t.items[i];
        if (!m->name[0] || strpbrk(m->name, "/@ \n") || we_hub_models_find(&t, we_str_from(m->name)) != m) abort();
        for (int k = 0; k < WE_HUB_KINDS; k++)
            if (m->is_users[k] && !m->called[k][0]) abort();
    }
    we_hub_models_deinit(&t);
    return 0;
}
