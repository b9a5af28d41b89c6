/* SPDX-License-Identifier: Apache-2.0
 * convert.c - converting models: names to folders, then convert/ does the work. */
#include "api/api.h"
#include "convert/convert.h"

we_status we_convert(const char *source, const char *target, const we_convert_options *opt, we_convert_result *result,
                     we_error *err)
{
    we_convert_options o = WE_CONVERT_OPTIONS_INIT;
    we_convert_result r = { .size = sizeof r };
    WE_REFUSE_UNSIZED(opt, "WE_CONVERT_OPTIONS_INIT");
    WE_REFUSE_UNSIZED(result, "its sizeof");
    WE_TAKE_OPTIONS(o, opt);
    if (!source || !target) return we_fail(err, WE_E_ARG, "a source and a target are needed to convert a model");
    char *dir;
    we_status st = we_hub_find(source, &dir, err);
    if (st) return st;
    const bool is_gguf = we_is_gguf(dir);
    if (o.lossless && !is_gguf)
        st = we_fail(err, WE_E_ARG, "%s is no GGUF file: only those are imported without loss", dir);
    else
        st = is_gguf ? we_convert_gguf(dir, target, &o, &r, err) : we_convert_folder(dir, target, &o, &r, err);
    r.size = sizeof r;
    if (!st && result) WE_GIVE_INFO(result, r);
    we_free(dir);
    return st;
}

we_status we_convert_ready(const char *target, const we_convert_options *opt, we_error *err)
{
    we_convert_options o = WE_CONVERT_OPTIONS_INIT;
    WE_REFUSE_UNSIZED(opt, "WE_CONVERT_OPTIONS_INIT");
    WE_TAKE_OPTIONS(o, opt);
    if (!target) return we_fail(err, WE_E_ARG, "a target is needed to convert a model");
    return we_convert_may_begin(target, &o, err);
}

we_status we_convert_model_to_mlx(const char *source_model_path, const char *target_model_name,
                                  const we_convert_options *opt, char **path, we_error *err)
{
    char *target;
    if (path) *path = NULL;
    if (!target_model_name) return we_fail(err, WE_E_ARG, "a name for the converted model is needed");
    we_status st = we_hub_target(target_model_name, &target, err);
    if (!st) st = we_convert(source_model_path, target, opt, NULL, err);
    if (!st && path)
        *path = target;
    else
        we_free(target);
    return st;
}
