/* SPDX-License-Identifier: Apache-2.0
 * dtype.c - the table of element types, and the small helpers that both containers use. */
#include "format/format_int.h"

#include <assert.h>
#include <stdio.h>

static const struct {
    const char *name;
    size_t size;
    int block; /* elements that lie together in `size` bytes */
} dtypes[] = {
    /* clang-format off */
    [WE_F32] = { "F32", 4, 1 }, [WE_F16] = { "F16", 2, 1 }, [WE_BF16] = { "BF16", 2, 1 }, [WE_F64] = { "F64", 8, 1 },
    [WE_I8]  = { "I8", 1, 1 },  [WE_U8]  = { "U8", 1, 1 },  [WE_I16]  = { "I16", 2, 1 },  [WE_U16] = { "U16", 2, 1 },
    [WE_I32] = { "I32", 4, 1 }, [WE_U32] = { "U32", 4, 1 }, [WE_I64]  = { "I64", 8, 1 },  [WE_U64] = { "U64", 8, 1 },
    [WE_BOOL] = { "BOOL", 1, 1 },
    [WE_F8_E4M3] = { "F8_E4M3", 1, 1 }, [WE_F8_E5M2] = { "F8_E5M2", 1, 1 }, [WE_F8_E8M0] = { "F8_E8M0", 1, 1 },
    [WE_GGML_Q4_0] = { "Q4_0", 18, 32 },  [WE_GGML_Q4_1] = { "Q4_1", 20, 32 },  [WE_GGML_Q5_0] = { "Q5_0", 22, 32 },
    [WE_GGML_Q5_1] = { "Q5_1", 24, 32 },  [WE_GGML_Q8_0] = { "Q8_0", 34, 32 },  [WE_GGML_Q2_K] = { "Q2_K", 84, 256 },
    [WE_GGML_Q3_K] = { "Q3_K", 110, 256 }, [WE_GGML_Q4_K] = { "Q4_K", 144, 256 }, [WE_GGML_Q5_K] = { "Q5_K", 176, 256 },
    [WE_GGML_Q6_K] = { "Q6_K", 210, 256 }, [WE_GGML_IQ4_NL] = { "IQ4_NL", 18, 32 },
    [WE_GGML_IQ4_XS] = { "IQ4_XS", 136, 256 }, [WE_GGML_MXFP4] = { "MXFP4", 17, 32 },
    /* clang-format on */
};
static_assert(WE_COUNT(dtypes) == WE_DTYPE_COUNT, "one row for each dtype");

size_t we_dtype_size(we_dtype dtype)
{
    assert((unsigned)dtype < WE_DTYPE_COUNT);
    return dtypes[dtype].size;
}

int we_dtype_block(we_dtype dtype)
{
    assert((unsigned)dtype < WE_DTYPE_COUNT);
    return dtypes[dtype].block;
}

const char *we_dtype_name(we_dtype dtype) { return (unsigned)dtype < WE_DTYPE_COUNT ? dtypes[dtype].name : "?"; }

bool we_dtype_from_name(we_str name, we_dtype *dtype)
{
    for (size_t i = 0; i < WE_COUNT(dtypes) && dtypes[i].block == 1; i++) /* safetensors has no blocks */
        if (we_str_is(name, dtypes[i].name)) {
            *dtype = (we_dtype)i;
            return true;
        }
    return false;
}

bool we_shape_bytes(we_dtype dtype, const int64_t *shape, int n_dims, uint64_t *bytes)
{
    uint64_t product = we_dtype_size(dtype);
    for (int i = 0; i < n_dims; i++) {
        if (shape[i] < 0) return false;
        if (shape[i] > 0 && product > (uint64_t)INT64_MAX / (uint64_t)shape[i]) return false;
        product *= (uint64_t)shape[i];
    }
    *bytes = product / (uint64_t)we_dtype_block(dtype);
    return true;
}

const char *we_shape_text(char out[WE_SHAPE_TEXT], const int64_t *shape, int n_dims)
{
    size_t at = 0;
    out[at++] = '[';
    for (int i = 0; i < n_dims; i++)
        at += (size_t)snprintf(out + at, WE_SHAPE_TEXT - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    out[at++] = ']';
    out[at] = '\0';
    return out;
}

we_weight *we_weight_list_add(we_weight_list *list)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 64;
        we_weight *items = we_realloc_array(list->items, capacity, sizeof(*items));
        if (!items) return NULL;
        list->items = items;
        list->capacity = capacity;
    }
    we_weight *added = &list->items[list->n++];
    memset(added, 0, sizeof(*added));
    return added;
}

void we_weight_list_deinit(we_weight_list *list)
{
    we_free(list->items);
    *list = (we_weight_list){ 0 };
}

we_status we_weight_list_finish(we_weight_list *list, we_arena *arena, const char *file, we_weight **out, size_t *n,
                                we_error *err)
{
    we_weight *items = we_arena_calloc(arena, list->n, sizeof(*items));
    if (!items) return we_fail(err, WE_E_NOMEM, "%s: no memory for a table of %zu tensors", file, list->n);
    if (list->n) memcpy(items, list->items, list->n * sizeof(*items));
    *out = items;
    *n = list->n;
    return WE_OK;
}
