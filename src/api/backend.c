/* SPDX-License-Identifier: Apache-2.0
 * backend.c - the list of backends that detection gives, and recommendations. */
#include "api/api.h"
#include "client/client.h"

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
    we_backend_kind chain[WE_BACKEND_CHAIN];
    we_status st = we_config_chain(chain, err);
    if (st) return st;
    we_backends *list = we_calloc(1, sizeof *list);
    if (!list) return we_fail(err, WE_E_NOMEM, "no memory to look for backends");
    st = we_backend_detect(list->found, chain, o.timeout_ms ? o.timeout_ms : 300, err);
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
        .priority = (int)index + 1,
        .available = f->available,
        .latency_ms = f->report.latency_ms,
    };
    WE_GIVE_INFO(info, i);
    return WE_OK;
}

we_status we_backends_model_for(const we_backends *list, size_t index, const char *model, char **name, we_error *err)
{
    *name = NULL;
    if (index >= WE_BACKEND_CHAIN)
        return we_fail(err, WE_E_RANGE, "there is no backend %zu: the list holds %d", index, WE_BACKEND_CHAIN);
    const we_backend_found *f = &list->found[index];
    return we_client_model_for(f->kind, &f->report, model, name, err);
}

size_t we_backends_optimal(const we_backends *list)
{
    size_t i = 0;
    while (i < WE_BACKEND_CHAIN && !list->found[i].available) i++;
    return i;
}

/* ---- Recommendations ---- */

#define RECOMMEND_CONTEXT 8192

we_status we_recommend_each(const we_recommend_options *opt, we_machine *machine, we_recommend_fn fn, void *user,
                            we_error *err)
{
    we_recommend_options o = WE_RECOMMEND_OPTIONS_INIT;
    WE_REFUSE_UNSIZED(opt, "WE_RECOMMEND_OPTIONS_INIT");
    WE_REFUSE_UNSIZED(machine, "its sizeof");
    WE_TAKE_OPTIONS(o, opt);
    if (o.context < 0 || o.context > 1 << 30)
        return we_fail(err, WE_E_RANGE, "context is %d, expected 1 to 1073741824, or 0 for %d", o.context,
                       RECOMMEND_CONTEXT);
    we_machine m;
    we_buf gpus = { 0 };
    we_status st = we_machine_look(&m, &gpus, !o.no_measure, err);
    if (!st) st = we_recommend_for(&m, o.context ? o.context : RECOMMEND_CONTEXT, fn, user, err);
    if (!st && machine) {
        m.gpus = we_buf_take(&gpus, NULL);
        WE_GIVE_INFO(machine, m);
    }
    we_buf_deinit(&gpus);
    return st;
}

we_status we_setup_recommendations(we_note_fn fn, void *user, we_error *err)
{
    we_backend_found found[WE_BACKEND_CHAIN];
    we_machine m;
    we_backend_kind chain[WE_BACKEND_CHAIN];
    we_buf gpus = { 0 };
    we_status st = we_config_chain(chain, err);
    if (!st) st = we_machine_look(&m, &gpus, false, err);
    if (!st && !(st = we_backend_detect(found, chain, 300, err))) {
        st = we_setup_texts(&m, found, fn, user, err);
        for (size_t i = 0; i < WE_BACKEND_CHAIN; i++) we_backend_found_deinit(&found[i]);
    }
    we_buf_deinit(&gpus);
    return st;
}
