/* SPDX-License-Identifier: Apache-2.0
 * cmd_convert.c - `convert`: a Hugging Face model or a GGUF file to an MLX folder, with the flags of mlx_lm.convert. Ctrl-C (and being ended
 * from outside) stops it at the next piece, and what was begun is removed. */
#include "cli.h"

#include <inttypes.h>
#include <signal.h>

#define AT(field) offsetof(cli_options, field)
#define MODES "affine|mxfp4|mxfp8|nvfp4"
#define RECIPES "mixed_2_6|mixed_3_4|mixed_3_6|mixed_4_6"
#define DTYPES "float16|bfloat16|float32"

static int check_flags(const cli_options *o)
{
    if (!o->hf_path == !o->gguf)
        return cli_usage_error(o->command, o->gguf ? "--hf-path and --gguf exclude each other"
                                                   : "--hf-path is needed: a folder or ORG/NAME; or --gguf: a file");
    if (o->lossless && !o->gguf) return cli_usage_error(o->command, "--lossless has a meaning only with --gguf");
    if (o->lossless && (o->quantize || o->dequantize || o->dtype))
        return cli_usage_error(o->command, "--lossless keeps the file's own numbers: leave %s out",
                               o->quantize     ? "--quantize"
                               : o->dequantize ? "--dequantize"
                                               : "--dtype");
    if (o->quantize && o->dequantize)
        return cli_usage_error(o->command, "--quantize and --dequantize exclude each other");
    if (!o->quantize && (o->q_bits.set || o->q_group_size.set || o->q_mode || o->quant_predicate || o->calibrate))
        return cli_usage_error(o->command, "%s has a meaning only with -q",
                               o->q_bits.set         ? "--q-bits"
                               : o->q_group_size.set ? "--q-group-size"
                               : o->q_mode           ? "--q-mode"
                               : o->quant_predicate  ? "--quant-predicate"
                                                     : "--calibrate");
    if (o->calibrate && (o->quant_predicate || (o->q_mode && strcmp(o->q_mode, "affine") != 0)))
        return cli_usage_error(o->command, "--calibrate chooses the bits of affine packings itself: leave %s out",
                               o->quant_predicate ? "--quant-predicate" : "--q-mode");
    if (o->quant_predicate && o->q_mode && strcmp(o->q_mode, "affine") != 0)
        return cli_usage_error(o->command, "--quant-predicate mixes affine packings: leave --q-mode %s out", o->q_mode);
    return CLI_OK;
}

static const char *target_of(const cli_options *o) { return o->mlx_path ? o->mlx_path : "mlx_model"; }

typedef struct stages { /* a calibration, where asked for, and the conversion: one line after the other */
    cli_progress calibrating, converting;
    bool converts;
} stages;

static bool step(void *user, uint64_t done, uint64_t total)
{
    stages *s = user;
    if (!s->converts) {
        cli_progress_end();
        s->converting = cli_progress_begin("Converting", true);
        s->converting.show_rate = true;
        s->converts = true;
    }
    cli_progress_step(&s->converting, done, total);
    return !cli_interrupted();
}

static bool calibrate_step(void *user, uint64_t done, uint64_t total)
{
    cli_progress_step(&((stages *)user)->calibrating, done, total);
    return !cli_interrupted();
}

static void tell_result(const cli_options *options, const we_convert_result *r)
{
    char bytes[24];
    cli_note("%s: %s in %zu file%s, %zu tensors, %zu matrices quantized, %.3f bits per weight", target_of(options),
             we_format_bytes(bytes, r->bytes), r->n_files, r->n_files == 1 ? "" : "s", r->n_tensors, r->n_quantized,
             r->bits_per_weight);
}

static int print_result(const cli_options *options, const we_convert_result *r, double seconds)
{
    cli_json json;
    cli_json_begin(&json);
    we_json_begin_object(&json.w);
    cli_json_text(&json, "path", target_of(options));
    cli_json_i64(&json, "bytes", r->bytes);
    cli_json_i64(&json, "files", r->n_files);
    cli_json_i64(&json, "tensors", r->n_tensors);
    cli_json_i64(&json, "quantized", r->n_quantized);
    cli_json_i64(&json, "parameters", r->n_parameters);
    cli_json_f64(&json, "bits_per_weight", r->bits_per_weight);
    cli_json_i64(&json, "nan", r->n_nan);
    cli_json_i64(&json, "inf", r->n_inf);
    cli_json_f64(&json, "seconds", seconds);
    we_json_end_object(&json.w);
    return cli_json_end(&json);
}

/* Does the name look like ORG/NAME of the hub? */
static bool is_hub_name(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash && slash > name && slash[1] && name[0] != '.' && !strchr(slash + 1, '/');
}

/* What --hf-path names comes from the hub first, where it is not on this machine. `*path` is freed with we_free. */
static int bring_source(const cli_options *options, char **path)
{
    we_error err;
    const char *name = options->gguf ? options->gguf : options->hf_path;
    *path = NULL;
    const we_status st = we_model_find(name, path, &err);
    if (!st) return CLI_OK;
    if (st != WE_E_NOT_FOUND || options->gguf || !is_hub_name(name)) return cli_fail(&err);
    cli_note("%s is not on this machine: asking the hub", name);
    return cli_pull(options, name, path, NULL);
}

static int refused(const cli_options *options, we_status st, const we_error *err)
{
    return st == WE_E_RANGE ? cli_usage_error(options->command, "%s", err->message) : cli_fail(err);
}

static int convert_run(const cli_options *options)
{
    we_error err;
    char *source;
    int status = check_flags(options);
    if (status) return status;
    we_convert_options o = WE_CONVERT_OPTIONS_INIT;
    o.quantize = options->quantize;
    o.dequantize = options->dequantize;
    o.overwrite = options->overwrite;
    o.lossless = options->lossless;
    o.bits = options->q_bits.set ? (int)options->q_bits.value : 0;
    o.group_size = options->q_group_size.set ? (int)options->q_group_size.value : 0;
    o.mode = options->q_mode;
    o.predicate = options->quant_predicate;
    o.dtype = options->dtype;
    o.calibrate = options->calibrate;
    const char *target = target_of(options);
    we_status st = we_convert_ready(target, &o, &err); /* before gigabytes are fetched */
    if (st) return refused(options, st, &err);
    if ((status = bring_source(options, &source))) return status;
    stages progress = { .calibrating = cli_progress_begin("Calibrating", false) };
    o.progress = step;
    o.calibrate_progress = calibrate_step;
    o.progress_user = &progress;

    cli_interrupt_catch();
    signal(SIGXFSZ, SIG_IGN); /* a file beyond the user's limit is an error with a name, not our end */
    we_convert_result result = { .size = sizeof result };
    const double start = we_now_s();
    st = we_convert(source, target, &o, &result, &err);
    we_free(source);
    cli_progress_end();
    if (st == WE_E_CANCELLED && cli_interrupted()) {
        cli_note("Stopped: %s is as it was before.", target);
        return cli_interrupt_status();
    }
    if (st) return refused(options, st, &err);
    if (options->json) return print_result(options, &result, we_now_s() - start);
    tell_result(options, &result);
    return CLI_OK;
}

static const cli_option convert_own[] = {
    { "hf-path", 0, CLI_TEXT, AT(hf_path), 0, 0, "P", "the model to convert: a folder, or ORG/NAME" },
    { "model", 'm', CLI_TEXT, AT(hf_path), 0, 0, "P", "the same" },
    { "gguf", 0, CLI_TEXT, AT(gguf), 0, 0, "FILE", "the GGUF file to import, bfloat16 without -q" },
    { "lossless", 0, CLI_FLAG, AT(lossless), 0, 0, NULL,
      "of --gguf: Q4_0, Q4_1 and Q8_0 with the same values, in a float16 model" },
    { "mlx-path", 0, CLI_TEXT, AT(mlx_path), 0, 0, "P", "the folder to make (default mlx_model)" },
    { "quantize", 'q', CLI_FLAG, AT(quantize), 0, 0, NULL, "pack linear layers and embeddings" },
    { "q-bits", 0, CLI_INT, AT(q_bits), 1, 64, "N", "bits of a weight: 2, 3, 4, 5, 6 or 8 (default 4; mxfp8: 8)" },
    { "q-group-size", 0, CLI_INT, AT(q_group_size), 1, 65536, "N",
      "weights that share a scale: 32, 64 or 128 (default 64; mxfp4 and mxfp8: 32, nvfp4: 16)" },
    { "q-mode", 0, CLI_WORD, AT(q_mode), 0, 0, MODES, "how weights are packed (default affine)" },
    { "quant-predicate", 0, CLI_WORD, AT(quant_predicate), 0, 0, RECIPES, "more bits for the layers that need them" },
    { "calibrate", 0, CLI_TEXT, AT(calibrate), 0, 0, "FILE",
      "pack for text like this, with more bits where they help, in the same size (minutes)" },
    { "dtype", 0, CLI_WORD, AT(dtype), 0, 0, DTYPES,
      "of what is not packed (default: config.json's torch_dtype, else as it is)" },
    { "dequantize", 'd', CLI_FLAG, AT(dequantize), 0, 0, NULL, "unpack a quantized model" },
    { "overwrite", 0, CLI_FLAG, AT(overwrite), 0, 0, NULL,
      "replace the model at --mlx-path; it stays until the new one is whole" },
};
const cli_command cli_command_convert = {
    "convert",
    "(--hf-path P or --gguf FILE) [--mlx-path P] [-q] [options]",
    "make an MLX model of a Hugging Face or GGUF one",
    "Reads safetensors, PyTorch's .bin and GGUF files. The options are those of mlx_lm.convert, and the folder is as it\n"
    "would write it; it appears whole or not at all.",
    convert_own,
    WE_COUNT(convert_own),
    { NULL },
    0,
    convert_run,
};
