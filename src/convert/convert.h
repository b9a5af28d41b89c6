/* SPDX-License-Identifier: Apache-2.0
 * convert.h - other forms of a model to an MLX folder: Hugging Face folders (safetensors, PyTorch's .bin), with MLX's
 * quantizations, as mlx_lm.convert writes them. Names of models are not known here (hub/ is above): paths only. */
#ifndef WE_CONVERT_H
#define WE_CONVERT_H

#include "model/model.h"

/** See we_convert in whisperengine.h; `source` is a folder. */
we_status we_convert_folder(const char *source, const char *target, const we_convert_options *opt,
                            we_convert_result *result, we_error *err);

#endif
