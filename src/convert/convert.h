/* SPDX-License-Identifier: Apache-2.0
 * convert.h - other forms of a model to an MLX folder: Hugging Face folders (safetensors, PyTorch's .bin), GGUF files,
 * with MLX's quantizations, as mlx_lm.convert writes them. Names of models are not known here (hub/ is above): paths only. */
#ifndef WE_CONVERT_H
#define WE_CONVERT_H

#include "model/model.h"

/** See we_convert_ready in whisperengine.h. */
we_status we_convert_may_begin(const char *target, const we_convert_options *opt, we_error *err);

/** See we_convert in whisperengine.h; `source` is a folder. */
we_status we_convert_folder(const char *source, const char *target, const we_convert_options *opt,
                            we_convert_result *result, we_error *err);

/** The same of a GGUF file. Errors: also WE_E_UNSUPPORTED (an architecture that this build does not run; `lossless` for a family
 * that overflows in float16). */
we_status we_convert_gguf(const char *path, const char *target, const we_convert_options *opt,
                          we_convert_result *result, we_error *err);

#endif
