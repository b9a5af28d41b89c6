/* SPDX-License-Identifier: Apache-2.0
 * engine.c - the engine handle, the version, memory figures, the monitor. */
#include "api/api.h"
#include "client/client.h"

#ifndef WE_VERSION
#define WE_VERSION "0.0.0"
#endif

const char *we_version(void) { return WE_VERSION; }

we_status we_engine_open(we_engine **out, const we_engine_options *opt, we_error *err)
{
    *out = NULL;
    we_engine_options o = WE_ENGINE_OPTIONS_INIT;
    WE_REFUSE_UNSIZED(opt, "WE_ENGINE_OPTIONS_INIT");
    WE_TAKE_OPTIONS(o, opt);
    int64_t limit_mb = 0, threads = o.threads;
    const bool own_kernels = o.kernels != NULL;
    we_status st = o.memory_limit_bytes ? WE_OK : we_config_i64("MLX_MEMORY_POOL_SIZE", &limit_mb, err);
    if (!st && !threads) st = we_config_i64("MLX_THREADS", &threads, err);
    if (!st && !own_kernels) st = we_config_str("MLX_KERNELS", &o.kernels, err);
    if (st) return st;
    o.threads = (int)threads;
    if (limit_mb) o.memory_limit_bytes = (uint64_t)limit_mb << 20;
    we_engine *e = we_calloc(1, sizeof *e);
    if (!e) return we_fail(err, WE_E_NOMEM, "no memory for the engine");
    st = we_device_open(&e->device, &(we_device_options){ o.device, o.kernels, o.threads, o.memory_limit_bytes }, err);
    if (st) {
        we_free(e);
        return st == WE_E_UNSUPPORTED && o.kernels && !own_kernels ? we_fail_in(err, st, "MLX_KERNELS: ") : st;
    }
    *out = e;
    return WE_OK;
}

void we_engine_close(we_engine *e)
{
    if (!e) return;
    we_device_close(e->device);
    we_free(e);
}

void we_engine_get_info(const we_engine *e, we_engine_info *info)
{
    we_device *d = e->device;
    we_device_memory m = { 0 };
    if (d->ops->memory) d->ops->memory(d, &m);
    const we_engine_info i = { .size = sizeof i,
                               .device = d->ops->name,
                               .kernels = d->kernels,
                               .threads = d->n_threads,
                               .detail = d->detail ? d->detail : "",
                               .memory_limit_bytes = m.limit_bytes,
                               .memory_active_bytes = m.active_bytes,
                               .memory_cached_bytes = m.cached_bytes };
    WE_GIVE_INFO(info, i);
}

we_status we_memory_get_info(we_memory_info *info, we_error *err)
{
    we_memory_info i = { .size = sizeof i };
    WE_REFUSE_UNSIZED(info, "its sizeof");
    const we_status st = we_system_memory(&i, err);
    if (!st) WE_GIVE_INFO(info, i);
    return st;
}

we_status we_monitor_get(we_monitor_info *info, we_error *err)
{
    we_monitor_info i;
    WE_REFUSE_UNSIZED(info, "its sizeof");
    const we_status st = we_monitor_self(&i, err);
    if (!st) WE_GIVE_INFO(info, i);
    return st;
}

we_status we_monitor_each(we_monitor_fn fn, void *user, we_error *err)
{
    return we_monitor_each_process(fn, user, err);
}
