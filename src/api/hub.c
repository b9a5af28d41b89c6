/* SPDX-License-Identifier: Apache-2.0
 * hub.c - the public functions about the Hugging Face hub and its cache: options checked, then hub/. */
#include "api/api.h"

we_status we_short_names_each(we_short_name_fn fn, void *user, we_error *err)
{
    we_hub_models table;
    const we_status st = we_hub_models_read(&table, err);
    bool go_on = true;
    for (size_t i = 0; i < table.n && go_on; i++) {
        const we_hub_model *m = &table.items[i];
        we_short_name n = { .size = sizeof n,
                            .name = m->name,
                            .mlx = m->called[WE_BACKEND_MLX],
                            .lmstudio = m->called[WE_BACKEND_LMSTUDIO],
                            .ollama = m->called[WE_BACKEND_OLLAMA],
                            .llamacpp = m->called[WE_BACKEND_LLAMACPP],
                            .transformers = m->called[WE_BACKEND_TRANSFORMERS] };
        for (int kind = 0; kind < WE_HUB_KINDS; kind++) n.is_users = n.is_users || m->is_users[kind];
        go_on = fn(user, &n);
    }
    we_hub_models_deinit(&table);
    return st;
}

we_status we_model_pull(const char *name, const we_pull_options *opt, char **path, we_error *err)
{
    we_pull_options o = WE_PULL_OPTIONS_INIT;
    *path = NULL;
    WE_REFUSE_UNSIZED(opt, "WE_PULL_OPTIONS_INIT");
    WE_TAKE_OPTIONS(o, opt);
    if (o.connections < 1 || o.connections > WE_HUB_MOST_CONNECTIONS)
        return we_fail(err, WE_E_RANGE, "connections is %d, expected 1 to %d", o.connections, WE_HUB_MOST_CONNECTIONS);
    if (o.retries < 0 || o.retries > 100)
        return we_fail(err, WE_E_RANGE, "retries is %d, expected 0 to 100", o.retries);
    return we_hub_pull(name, &o, path, err);
}

we_status we_model_get_source(we_model_source *source, const char *path, we_error *err)
{
    WE_REFUSE_UNSIZED(source, "its sizeof");
    we_model_source s;
    const we_status st = we_hub_source_of(&s, path, err);
    s.size = sizeof s;
    WE_GIVE_INFO(source, s);
    return st;
}

void we_model_source_deinit(we_model_source *source)
{
    if (source) we_hub_source_deinit(source);
}

/* What the hashes can't tell: whether the files fit together, also of a folder that came from elsewhere. */
static we_status check_content(const char *path, we_error *err)
{
    char model_type[64], quantization[128];
    we_model_info info = { .size = sizeof info };
    const we_status st = we_model_inspect(path, NULL, &info, model_type, quantization, err);
    return st == WE_E_UNSUPPORTED ? WE_OK : st;
}

we_status we_model_verify(const char *path, const we_verify_options *opt, we_verify_result *result, we_error *err)
{
    we_verify_options o = WE_VERIFY_OPTIONS_INIT;
    we_verify_result r = { .size = sizeof r };
    WE_REFUSE_UNSIZED(opt, "WE_VERIFY_OPTIONS_INIT");
    WE_REFUSE_UNSIZED(result, "its sizeof");
    WE_TAKE_OPTIONS(o, opt);
    we_status st = we_hub_verify(path, &o, &r, err);
    if (!st && r.n_bad == 0) st = check_content(path, err);
    WE_GIVE_INFO(result, r);
    return st;
}

we_status we_model_removal_plan(we_removal *removal, const char *name, we_error *err)
{
    WE_REFUSE_UNSIZED(removal, "its sizeof");
    we_removal r;
    const we_status st = we_hub_removal_plan(&r, name, err);
    r.size = sizeof r;
    WE_GIVE_INFO(removal, r);
    return st;
}

we_status we_model_removal_run(const we_removal *removal, we_error *err) { return we_hub_removal_run(removal, err); }

void we_model_removal_deinit(we_removal *removal)
{
    if (removal) we_hub_removal_deinit(removal);
}
