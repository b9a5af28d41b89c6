/* SPDX-License-Identifier: Apache-2.0
 * device_int.h - what only the device room shares: how each device is opened. */
#ifndef WE_DEVICE_INT_H
#define WE_DEVICE_INT_H

#include "device/device.h"

we_status we_cpu_open(we_device **out, const we_device_options *options, we_error *err);
we_status we_mlx_open(we_device **out, const we_device_options *options, we_error *err);
/* For "auto": opened where MLX is there and runs on a GPU. */
bool we_mlx_suits(we_device **out, const we_device_options *options);

/* What kv_new takes. Inline: MLX's plugin calls nothing of the library by name. */
static inline bool we_kv_spec_valid(const we_kv_spec *spec)
{
    const int bits = spec->bits;
    if (spec->n_layers < 0 || spec->n_layers > 65536) return false;
    if (bits != 32 && bits != 16 && bits != 8 && bits != 4) return false;
    for (int i = 0; i < spec->n_layers; i++) {
        const we_kv_layer *l = &spec->layers[i];
        if (l->n_kv_heads < 1 || l->n_kv_heads > 65536 || l->head_dim < 1 || l->head_dim > 65536 || l->window < 0)
            return false;
    }
    return true;
}

#endif
