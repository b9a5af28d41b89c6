/* SPDX-License-Identifier: Apache-2.0
 * device.c - opening a device by its name, and what is the same on all of them. */
#include "device/device_int.h"

#include <stdatomic.h>
#include <string.h>

static const struct {
    const char *name;
    we_status (*open)(we_device **out, const we_device_options *options, we_error *err);
} devices[] = {
    { "mlx", we_mlx_open },
    { "cpu", we_cpu_open },
};

we_status we_device_open(we_device **out, const we_device_options *options, we_error *err)
{
    *out = NULL;
    const we_device_options defaults = { 0 };
    if (!options) options = &defaults;
    if (options->threads < 0)
        return we_fail(err, WE_E_ARG, "threads is %d, expected 0 (all cores) or more", options->threads);
    if (!options->device || strcmp(options->device, "auto") == 0)
        return we_mlx_suits(out, options) ? WE_OK : we_cpu_open(out, options, err);
    for (size_t i = 0; i < WE_COUNT(devices); i++)
        if (strcmp(options->device, devices[i].name) == 0) return devices[i].open(out, options, err);
    return we_fail(err, WE_E_UNSUPPORTED, "there is no device '%s'; there are: auto, mlx, cpu", options->device);
}

void we_device_close(we_device *d)
{
    if (d) d->ops->close(d);
}

bool we_budget_take(we_budget *b, uint64_t bytes)
{
    uint64_t used = atomic_load(&b->used);
    do {
        if (b->limit && (bytes > b->limit || used > b->limit - bytes)) return false;
    } while (!atomic_compare_exchange_weak(&b->used, &used, used + bytes));
    return true;
}

void we_budget_give(we_budget *b, uint64_t bytes) { atomic_fetch_sub(&b->used, bytes); }

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"). */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double we_uniform(uint64_t seed, uint64_t counter)
{
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    const uint64_t z =
        mix(mix(seed + golden) + (counter + 1) * golden); /* the seed is mixed first: streams of near seeds differ */
    return (double)(z >> 11) * 0x1p-53;
}
