/* SPDX-License-Identifier: Apache-2.0
 * device_int.h - what only the device room shares: how each device is opened. */
#ifndef WE_DEVICE_INT_H
#define WE_DEVICE_INT_H

#include "device/device.h"

we_status we_cpu_open(we_device **out, const we_device_options *options, we_error *err);
we_status we_mlx_open(we_device **out, const we_device_options *options, we_error *err);
/* For "auto": opened where MLX is there and runs on a GPU. */
bool we_mlx_suits(we_device **out, const we_device_options *options);

#endif
