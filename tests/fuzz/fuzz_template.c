/* SPDX-License-Identifier: Apache-2.0
 * fuzz_template.c - a template's text, a NUL, a JSON context: parsed and rendered within small limits. */
#include "template/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const we_template_limits limits = { .max_output_bytes = 1 << 16,
                                               .max_steps = 100000,
                                               .max_memory_bytes = 8 << 20 };
    const uint8_t *nul = memchr(data, 0, size);
    size_t len = nul ? (size_t)(nul - data) : size;
    we_str context = { nul ? (const char *)nul + 1 : "{}", nul ? size - len - 1 : 2 };
    we_arena arena = { 0 };
    we_template *template = NULL;
    const we_json *json = NULL;
    we_buf out = { 0 };
    we_error err;
    if (!we_template_parse(&template, (we_str){ (const char *)data, len }, &err)) {
        if (we_json_parse(&arena, context, &json, &err) || json->type != WE_JSON_OBJECT) json = NULL;
        we_template_run(template, json, "2024-07-26", &limits, &out, &err);
    }
    we_template_free(template);
    we_buf_deinit(&out);
    we_arena_deinit(&arena);
    return 0;
}
