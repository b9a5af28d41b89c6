/* SPDX-License-Identifier: Apache-2.0
 * backend.c - the list of backends that detection gives. */
#include "api/api.h"
#include "backend/backend.h"

struct we_backends {
    we_backend_found found[WE_BACKEND_CHAIN];
};

we_status we_backends_detect(we_backends **out, const we_backends_options *opt, we_error *err)
{
    *out = NULL;
    we_backends_options o = WE_BACKENDS_OPTIONS_INIT;
    WE_REFUSE_UNSIZED(opt, "WE_BACKENDS_OPTIONS_INIT");
    WE_TAKE_OPTIONS(o, opt);
    if (o.timeout_ms < 0 || o.timeout_ms > 600000)
        return we_fail(err, WE_E_RANGE, "timeout_ms is %d, expected 1 to 600000, or 0 for 300", o.timeout_ms);
    we_backends *list = we_calloc(1, sizeof *list);
    if (!list) return we_fail(err, WE_E_NOMEM, "no memory to look for backends");
    const we_status st = we_backend_detect(list->found, o.timeout_ms ? o.timeout_ms : 300, err);
    if (st) {
        we_free(list);
        return st;
    }
    *out = list;
    return WE_OK;
}

void we_backends_close(we_backends *list)
{
    if (!list) return;
    for (size_t i = 0; i < WE_BACKEND_CHAIN; i++) we_backend_found_deinit(&list->found[i]);
    we_free(list);
}

size_t we_backends_count(const we_backends *list)
{
    (void)list;
    return WE_BACKEND_CHAIN;
}

we_status we_backends_get(const we_backends *list, size_t index, we_backend_info *info, we_error *err)
{
    WE_REFUSE_UNSIZED(info, "its sizeof");
    if (index >= WE_BACKEND_CHAIN)
        return we_fail(err, WE_E_RANGE, "there is no backend %zu: the list holds %d", index, WE_BACKEND_CHAIN);
    const we_backend_found *f = &list->found[index];
    const we_backend_row *row = we_backend_row_of(f->kind);
    const we_backend_info i = {
        .id = row->id,
        .name = row->name,
        .description = row->description,
        .reason = f->reason,
        .version = f->report.version ? f->report.version : "",
        .url = f->url,
        .models = f->report.models,
        .n_models = f->report.n_models,
        .kind = f->kind,
        .priority = row->priority,
        .available = f->available,
        .latency_ms = f->report.latency_ms,
    };
    WE_GIVE_INFO(info, i);
    return WE_OK;
}

size_t we_backends_optimal(const we_backends *list)
{
    size_t i = 0;
    while (i < WE_BACKEND_CHAIN && !list->found[i].available) i++;
    return i;
}
