/* SPDX-License-Identifier: Apache-2.0
 * plan.c - what a conversion will do, decided before a byte is written: which tensor is kept, cast, quantized or
 * dequantized, how large each becomes, in which file it will lie, and config.json as it will be.
 *
 * The rules are mlx-lm's, so that a folder from here can stand for one from there:
 *   * floats are cast to --dtype, else to config.json's torch_dtype, else text_config.dtype; else each keeps its own;
 *   * --quantize takes matrices named .weight (linear layers and embeddings) whose rows are whole groups;
 *   * a recipe gives v_proj and down_proj of some layers, and lm_head, more bits than the rest;
 *   * the configuration is sorted, says "quantization" and the same as "quantization_config", and names the layers whose
 *     packing is not the common one.
 * Source: mlx_lm/convert.py and quantize_model, save_model, make_shards, save_config in mlx_lm/utils.py, version 0.32.2. */
#include "convert/convert_int.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define SHARD_BYTES ((uint64_t)5 << 30)

static const we_dtype float_types[] = { WE_F16, WE_BF16, WE_F32 };
static const char *const float_names[] = { "float16", "bfloat16", "float32" };

static bool is_float(we_dtype t) { return t == WE_F32 || t == WE_F16 || t == WE_BF16 || t == WE_F64; }

static bool float_by_name(we_str name, we_dtype *dtype)
{
    for (size_t i = 0; i < WE_COUNT(float_names); i++)
        if (we_str_is(name, float_names[i])) {
            *dtype = float_types[i];
            return true;
        }
    return false;
}

/* ---- Options ---- */

static const struct {
    const char *name;
    int low_bits, high_bits;
} recipes[] = {
    [WE_RECIPE_NONE] = { NULL, 0, 0 },
    [WE_RECIPE_MIXED_2_6] = { "mixed_2_6", 2, 6 },
    [WE_RECIPE_MIXED_3_4] = { "mixed_3_4", 3, 4 },
    [WE_RECIPE_MIXED_3_6] = { "mixed_3_6", 3, 6 },
    [WE_RECIPE_MIXED_4_6] = { "mixed_4_6", 4, 6 },
};
static_assert(WE_COUNT(recipes) == WE_RECIPE_COUNT, "one row for each recipe");

/* What mx.quantize takes where nothing is said. */
static const we_quant mode_defaults[] = {
    [WE_QUANT_AFFINE] = { WE_QUANT_AFFINE, 4, 64 },
    [WE_QUANT_MXFP4] = { WE_QUANT_MXFP4, 4, 32 },
    [WE_QUANT_MXFP8] = { WE_QUANT_MXFP8, 8, 32 },
    [WE_QUANT_NVFP4] = { WE_QUANT_NVFP4, 4, 16 },
};
static_assert(WE_COUNT(mode_defaults) == WE_QUANT_MODE_COUNT, "one row for each mode");

static we_status check_quant(const we_convert_job *job, we_error *err)
{
    const we_quant q = job->quant, d = mode_defaults[q.mode];
    if (job->recipe && q.mode != WE_QUANT_AFFINE)
        return we_fail(err, WE_E_ARG, "the recipe %s mixes affine packings: leave the mode \"%s\" out",
                       recipes[job->recipe].name, we_quant_mode_name(q.mode));
    if (we_quant_valid(q)) return WE_OK;
    if (q.mode != WE_QUANT_AFFINE)
        return we_fail(err, WE_E_RANGE, "the mode %s has %d bits in groups of %d; %d bits in groups of %d do not exist",
                       we_quant_mode_name(q.mode), d.bits, d.group_size, q.bits, q.group_size);
    return we_fail(
        err, WE_E_RANGE,
        "affine packings have 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, not %d bits in groups of %d", q.bits,
        q.group_size);
}

static we_status check_names(we_convert_job *job, const we_convert_options *o, we_error *err)
{
    if (o->mode && !we_quant_mode_parse(we_str_from(o->mode), &job->quant.mode))
        return we_fail(err, WE_E_ARG, "\"%s\" is no mode of quantization: affine, mxfp4, mxfp8 or nvfp4", o->mode);
    if (o->predicate) {
        for (int i = WE_RECIPE_NONE + 1; i < WE_RECIPE_COUNT; i++)
            if (strcmp(o->predicate, recipes[i].name) == 0) job->recipe = (we_recipe)i;
        if (!job->recipe)
            return we_fail(err, WE_E_ARG, "\"%s\" is no recipe: mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6",
                           o->predicate);
    }
    job->has_dtype = o->dtype != NULL;
    if (o->dtype && !float_by_name(we_str_from(o->dtype), &job->dtype))
        return we_fail(err, WE_E_ARG, "\"%s\" is no type of weights: float16, bfloat16 or float32", o->dtype);
    return WE_OK;
}

we_status we_convert_job_init(we_convert_job *job, const we_convert_options *o, we_error *err)
{
    *job = (we_convert_job){ .quantize = o->quantize,
                             .dequantize = o->dequantize,
                             .overwrite = o->overwrite,
                             .quant.mode = WE_QUANT_AFFINE,
                             .progress = o->progress,
                             .progress_user = o->progress_user,
                             .calibrate = o->calibrate,
                             .calibrate_progress = o->calibrate_progress };
    if (o->quantize && o->dequantize)
        return we_fail(err, WE_E_ARG, "a model is either quantized or dequantized, not both");
    if (!o->quantize && (o->mode || o->predicate || o->bits || o->group_size))
        return we_fail(err, WE_E_ARG, "bits, group size, mode and recipe only have a meaning when quantizing");
    if (!o->quantize && o->calibrate)
        return we_fail(err, WE_E_ARG, "a text to calibrate with only has a meaning when quantizing");
    const we_status st = check_names(job, o, err);
    if (st) return st;
    if (job->calibrate && (job->recipe || job->quant.mode != WE_QUANT_AFFINE))
        return we_fail(err, WE_E_ARG, "calibration chooses the bits of affine packings itself: leave %s out",
                       job->recipe ? "the recipe" : "the mode");
    job->quant.bits = o->bits ? o->bits : mode_defaults[job->quant.mode].bits;
    job->quant.group_size = o->group_size ? o->group_size : mode_defaults[job->quant.mode].group_size;
    return check_quant(job, err);
}

/* ---- The configuration as a tree ---- */

const we_json *we_config_with(we_arena *arena, const we_json *object, const char *key, const we_json *value)
{
    we_json *copy = we_arena_alloc(arena, sizeof *copy);
    if (!copy) return NULL;
    *copy = *object;
    copy->first = NULL;
    copy->n = 0;
    const we_json **end = &copy->first;
    for (const we_json *m = object->first, *next; m || value; m = next) {
        const bool is_new = !m;
        next = is_new ? NULL : m->next;
        if (!is_new && we_str_is(m->key, key)) continue; /* comes last */
        we_json *member = we_arena_alloc(arena, sizeof *member);
        if (!member) return NULL;
        *member = is_new ? *value : *m;
        if (is_new) {
            member->key = we_str_from(key);
            value = NULL;
        }
        member->next = NULL;
        *end = member;
        end = &member->next;
        copy->n++;
    }
    return copy;
}

/* ---- Tensors by name ---- */

typedef struct planner {
    we_plan *plan;
    const we_source *source;
    const we_convert_job *job;
    const we_source_tensor **by_name;
    const we_json *quantization; /* config.json's, or NULL */
    bool has_dtype;
    we_dtype dtype;
    int n_layers;       /* for recipes: layers, and where their number stands among a name's parts */
    int layer_location; /* -1: the model has no down_proj */
    we_error *err;
} planner;

static int by_name(const void *a, const void *b)
{
    const we_source_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* "model.norm" and ".weight" -> that tensor or NULL. */
static const we_source_tensor *find(const planner *p, we_str path, const char *suffix)
{
    size_t low = 0, high = p->source->n_tensors;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const char *name = p->by_name[middle]->name;
        int order = strncmp(path.ptr, name, path.len);
        if (order == 0) order = strcmp(suffix, name + path.len);
        if (order == 0) return p->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* "a.b.weight" -> "a.b"; false where the name does not end so. */
static bool path_of(const char *name, const char *suffix, we_str *path)
{
    const we_str s = we_str_from(name);
    if (!we_str_ends_with(s, we_str_from(suffix))) return false;
    *path = (we_str){ name, s.len - strlen(suffix) };
    return true;
}

static we_status index_names(planner *p)
{
    const size_t n = p->source->n_tensors;
    p->by_name = we_arena_calloc(&p->plan->arena, n, sizeof *p->by_name);
    if (!p->by_name) return we_fail(p->err, WE_E_NOMEM, "%s: no memory for its names", p->source->name);
    for (size_t i = 0; i < n; i++) p->by_name[i] = &p->source->tensors[i];
    if (n) qsort(p->by_name, n, sizeof *p->by_name, by_name);
    return WE_OK;
}

static const char *place(const planner *p, const we_source_tensor *t) { return t->file ? t->file : p->source->name; }

/* ---- Recipes ---- */

static int number_at(we_str path, int location)
{
    for (size_t at = 0; at < path.len; location--) {
        const char *dot = memchr(path.ptr + at, '.', path.len - at);
        const size_t end = dot ? (size_t)(dot - path.ptr) : path.len;
        int64_t number;
        if (location == 0)
            return we_parse_i64((we_str){ path.ptr + at, end - at }, &number) && number >= 0 && number < INT32_MAX
                       ? (int)number
                       : -1;
        at = end + 1;
    }
    return -1; /* the path is shorter */
}

static bool holds(we_str path, const char *text)
{
    const size_t len = strlen(text);
    for (size_t at = 0; at + len <= path.len; at++)
        if (memcmp(path.ptr + at, text, len) == 0) return true;
    return false;
}

/* Where the layer's number stands in names, from the first down_proj; and how many layers there are. */
static we_status find_layers(planner *p)
{
    p->layer_location = -1;
    for (size_t i = 0; i < p->source->n_tensors; i++) {
        const we_str path = we_str_from(p->source->tensors[i].name);
        if (!holds(path, "down_proj")) continue;
        for (int at = 0; p->layer_location < 0 && at < 16; at++)
            if (number_at(path, at) >= 0) p->layer_location = at;
        p->n_layers = WE_MAX(p->n_layers, number_at(path, p->layer_location) + 1);
    }
    if (p->layer_location >= 0) return WE_OK;
    return we_fail(p->err, WE_E_UNSUPPORTED,
                   "%s: %s needs layers with a down_proj, which this model does not have: leave the recipe out",
                   p->source->name, recipes[p->job->recipe].name);
}

/* Source: mixed_quant_predicate_builder in mlx_lm/convert.py, and what it cites: llama.cpp's Q4_K_M. Matching is by
 * substring there, so that Phi-3's qkv_proj counts as a v_proj. */
static we_quant choose(const planner *p, we_str path)
{
    we_quant q = p->job->quant;
    if (!p->job->recipe) return q;
    const int n = p->n_layers, index = WE_MAX(number_at(path, p->layer_location), 0);
    const int after =
        index - n / 8; /* % as in Python: what it gives for a negative number is excluded by the first test */
    const bool more = index < n / 8 || index >= 7 * n / 8 || after % 3 == 2;
    const bool high = holds(path, "lm_head") || (more && (holds(path, "v_proj") || holds(path, "v_a_proj") ||
                                                          holds(path, "v_b_proj") || holds(path, "down_proj")));
    q.bits = high ? recipes[p->job->recipe].high_bits : recipes[p->job->recipe].low_bits;
    return q;
}

/* ---- Packed tensors ---- */

static bool read_quant(const we_json *object, we_quant *q)
{
    int64_t bits, group_size;
    we_str mode;
    if (!we_json_i64(we_json_get(object, "bits"), &bits) || bits < 2 || bits > 8) return false;
    q->mode = WE_QUANT_AFFINE;
    if (we_json_str(we_json_get(object, "mode"), &mode) && !we_quant_mode_parse(mode, &q->mode)) return false;
    group_size = mode_defaults[q->mode].group_size; /* null in what mlx-lm's recipes write */
    we_json_i64(we_json_get(object, "group_size"), &group_size);
    q->bits = (int)bits;
    q->group_size = group_size > 0 && group_size < 1024 ? (int)group_size : 0;
    return we_quant_valid(*q);
}

static bool fits(const we_source_tensor *w, const we_source_tensor *scales, we_quant q)
{
    return w->n_dims == 2 && scales->n_dims == 2 && w->shape[0] == scales->shape[0] && w->shape[1] > 0 &&
           w->shape[1] < INT64_MAX / 32 && scales->shape[1] < INT64_MAX / 128 &&
           w->shape[1] * 32 == scales->shape[1] * q.group_size * q.bits &&
           (q.mode == WE_QUANT_AFFINE ? is_float(scales->dtype) && scales->dtype != WE_F64 : scales->dtype == WE_U8);
}

/* How a packed tensor is packed: the configuration says it, for the layer or for all. */
static we_status find_quant(planner *p, we_str path, const we_source_tensor *w, const we_source_tensor *scales,
                            we_quant *q)
{
    const we_json *own = NULL;
    for (const we_json *m = p->quantization ? p->quantization->first : NULL; m; m = m->next)
        if (we_str_eq(m->key, path)) own = m;
    if (read_quant(own, q) && fits(w, scales, *q)) return WE_OK;
    if (read_quant(p->quantization, q) && fits(w, scales, *q)) return WE_OK;
    char a[WE_SHAPE_TEXT], b[WE_SHAPE_TEXT];
    return we_fail(
        p->err, WE_E_FORMAT,
        "%s: %s is %s %s with scales %s %s, which is not the packing that config.json's \"quantization\" says",
        place(p, w), w->name, we_dtype_name(w->dtype), we_shape_text(a, w->shape, w->n_dims),
        we_dtype_name(scales->dtype), we_shape_text(b, scales->shape, scales->n_dims));
}

/* ---- Items ---- */

/* A tensor of the target: "path" + suffix. */
static we_status add_part(planner *p, we_plan_item *item, we_str path, const char *suffix, we_dtype dtype,
                          const int64_t *shape, int n_dims)
{
    we_part *part = &item->parts[item->n_parts++];
    part->name = we_arena_printf(&p->plan->arena, "%.*s%s", (int)path.len, path.ptr, suffix);
    if (!part->name) return we_fail(p->err, WE_E_NOMEM, "%s: no memory for its plan", p->source->name);
    part->dtype = dtype;
    part->n_dims = n_dims;
    memcpy(part->shape, shape, (size_t)n_dims * sizeof *shape);
    uint64_t bytes = we_dtype_size(dtype);
    for (int i = 0; i < n_dims; i++) bytes *= (uint64_t)shape[i]; /* below the source's, or twice that */
    part->bytes = bytes;
    p->plan->total_bytes += bytes;
    p->plan->n_parts++;
    return WE_OK;
}

static we_status add_quantized(planner *p, we_plan_item *item, we_str path)
{
    const we_quant q = item->quant;
    const int64_t rows = item->rows, cols = item->cols;
    const bool affine = q.mode == WE_QUANT_AFFINE;
    const int64_t packed[] = { rows, cols * q.bits / 32 }, scales[] = { rows, cols / q.group_size };
    we_status st = add_part(p, item, path, ".weight", WE_U32, packed, 2);
    if (!st) st = add_part(p, item, path, ".scales", affine ? item->dtype : WE_U8, scales, 2);
    if (!st && affine) st = add_part(p, item, path, ".biases", item->dtype, scales, 2);
    p->plan->n_quantized++;
    return st;
}

static we_status refuse_foreign(planner *p, const we_source_tensor *t)
{
    return we_fail(p->err, WE_E_UNSUPPORTED,
                   "%s: %s has the type %s: 8-bit floats (FP8) and their scales are not converted; take the model's "
                   "bfloat16 or float16 version",
                   place(p, t), t->name, we_dtype_name(t->dtype));
}

static we_status check_tensor(planner *p, const we_source_tensor *t)
{
    if (t->dtype == WE_F8_E4M3 || t->dtype == WE_F8_E5M2 || t->dtype == WE_F8_E8M0 ||
        we_str_ends_with(we_str_from(t->name), WE_STR("weight_scale_inv")))
        return refuse_foreign(p, t);
    if (we_row_elements(t) > (int64_t)(WE_LONGEST_ROW_BYTES / sizeof(double)))
        return we_fail(p->err, WE_E_UNSUPPORTED, "%s: %s has rows of %lld elements, which no model has", place(p, t),
                       t->name, (long long)we_row_elements(t));
    return WE_OK;
}

/* A matrix of packed codes, which `scales` belong to. */
static we_status plan_packed(planner *p, we_plan_item *item, we_str path, const we_source_tensor *scales)
{
    const we_source_tensor *t = item->tensor;
    const we_status st = find_quant(p, path, t, scales, &item->quant);
    if (st) return st;
    const int64_t cols = t->shape[1] * 32 / item->quant.bits;
    p->plan->total_parameters += (uint64_t)(t->shape[0] * cols);
    p->plan->n_quantized += !p->job->dequantize;
    if (!p->job->dequantize) return add_part(p, item, path, ".weight", t->dtype, t->shape, t->n_dims);

    const bool affine = item->quant.mode == WE_QUANT_AFFINE;
    item->action = WE_DEQUANTIZE;
    item->scales = scales;
    item->biases = affine ? find(p, path, ".biases") : NULL;
    if (affine && (!item->biases || item->biases->dtype != scales->dtype || item->biases->n_dims != 2 ||
                   item->biases->shape[0] != scales->shape[0] || item->biases->shape[1] != scales->shape[1]))
        return we_fail(p->err, WE_E_FORMAT, "%s: %s has no biases like its scales", place(p, t), t->name);
    item->dtype = !affine ? WE_BF16 : p->has_dtype ? p->dtype : scales->dtype; /* as mx.dequantize */
    item->cols = cols;
    const int64_t shape[] = { item->rows, cols };
    return add_part(p, item, path, ".weight", item->dtype, shape, 2);
}

static we_status plan_plain(planner *p, we_plan_item *item, we_str path, bool is_weight)
{
    const we_source_tensor *t = item->tensor;
    p->plan->total_parameters += (uint64_t)(item->rows * item->cols);
    item->dtype = !is_float(t->dtype) ? t->dtype : p->has_dtype ? p->dtype : t->dtype == WE_F64 ? WE_F32 : t->dtype;
    item->action = item->dtype == t->dtype ? WE_COPY : WE_CAST;
    if (p->job->quantize && is_weight && is_float(t->dtype) && t->n_dims == 2 && item->rows > 0 && item->cols > 0 &&
        item->cols % p->job->quant.group_size == 0) {
        item->action = WE_QUANTIZE;
        item->given = we_calibration_find(p->job->calibrated, path);
        item->quant = item->given ? item->given->quant : choose(p, path);
        return add_quantized(p, item, path);
    }
    return add_part(p, item, we_str_from(t->name), "", item->dtype, t->shape, t->n_dims);
}

static we_status plan_tensor(planner *p, const we_source_tensor *t)
{
    we_plan_item *item = &p->plan->items[p->plan->n_items];
    *item = (we_plan_item){ .tensor = t, .dtype = t->dtype, .rows = we_row_count(t), .cols = we_row_elements(t) };
    we_status st = check_tensor(p, t);
    if (st) return st;
    we_str path = { 0 };
    const bool is_weight = path_of(t->name, ".weight", &path);
    const we_source_tensor *scales = is_weight && t->dtype == WE_U32 ? find(p, path, ".scales") : NULL;
    p->plan->read_bytes += (uint64_t)(item->rows * item->cols) * we_dtype_size(t->dtype);
    if (scales) {
        p->plan->n_items++;
        return plan_packed(p, item, path, scales);
    }
    /* Scales and biases of a packed tensor: gone with it, or cast like it, and no parameters of their own. */
    const we_source_tensor *weight = NULL;
    if (path_of(t->name, ".scales", &path) || path_of(t->name, ".biases", &path)) weight = find(p, path, ".weight");
    const bool belongs = weight && weight->dtype == WE_U32;
    if (belongs && p->job->dequantize) return WE_OK;
    p->plan->n_items++;
    st = plan_plain(p, item, path, is_weight);
    if (belongs) p->plan->total_parameters -= (uint64_t)(item->rows * item->cols);
    return st;
}

static we_status plan_tensors(planner *p)
{
    p->plan->items = we_arena_calloc(&p->plan->arena, p->source->n_tensors, sizeof *p->plan->items);
    if (!p->plan->items) return we_fail(p->err, WE_E_NOMEM, "%s: no memory for its plan", p->source->name);
    for (size_t i = 0; i < p->source->n_tensors; i++) {
        const we_status st = plan_tensor(p, &p->source->tensors[i]);
        if (st) return st;
    }
    return WE_OK;
}

/* Files of at most 5 GiB of tensors, in order; a larger tensor has one of its own. */
static we_status cut_shards(planner *p)
{
    we_plan *plan = p->plan;
    const uint64_t most = p->job->shard_bytes ? p->job->shard_bytes : SHARD_BYTES;
    plan->parts = we_arena_calloc(&plan->arena, plan->n_parts, sizeof *plan->parts);
    if (!plan->parts) return we_fail(p->err, WE_E_NOMEM, "%s: no memory for its plan", p->source->name);
    uint64_t filled = 0;
    size_t n = 0;
    for (size_t i = 0; i < plan->n_items; i++)
        for (int k = 0; k < plan->items[i].n_parts; k++) {
            we_part *part = &plan->items[i].parts[k];
            if (plan->n_shards == 0 || filled + part->bytes > most) {
                plan->n_shards++;
                filled = 0;
            }
            part->shard = plan->n_shards - 1;
            filled += part->bytes;
            plan->parts[n++] = part;
        }
    return WE_OK;
}

/* ---- config.json ---- */

static const we_json *number(we_arena *arena, int value)
{
    we_json *v = we_arena_calloc(arena, 1, sizeof *v);
    const char *text = v ? we_arena_printf(arena, "%d", value) : NULL;
    if (!text) return NULL;
    *v = (we_json){ .type = WE_JSON_NUMBER, .text = we_str_from(text) };
    return v;
}

/* {"group_size": 64, "bits": 4, "mode": "affine"} */
static const we_json *quant_object(we_arena *arena, we_quant q)
{
    static const we_json empty = { .type = WE_JSON_OBJECT };
    const we_json mode = { .type = WE_JSON_STRING, .text = we_str_from(we_quant_mode_name(q.mode)) };
    const we_json *bits = number(arena, q.bits), *group_size = number(arena, q.group_size), *o = &empty;
    if (!bits || !group_size) return NULL;
    if (o) o = we_config_with(arena, o, "group_size", group_size);
    if (o) o = we_config_with(arena, o, "bits", bits);
    return o ? we_config_with(arena, o, "mode", &mode) : NULL;
}

/* The common packing, and behind it the layers that mlx-lm would name: all of them with a recipe, or in a model that was
 * partly quantized before. Appended at the end of the list by hand: we_config_with would copy it for each. */
static const we_json *quantization_object(planner *p)
{
    we_arena *arena = &p->plan->arena;
    const bool was_quantized = p->quantization != NULL;
    const we_json *common = was_quantized ? p->quantization : quant_object(arena, p->job->quant);
    we_json *o = common ? we_arena_alloc(arena, sizeof *o) : NULL;
    if (!o || (!was_quantized && !p->job->recipe && !p->job->calibrated)) return common;
    *o = (we_json){ .type = WE_JSON_OBJECT };
    const we_json **end = &o->first;
    for (const we_json *m = common->first; m; m = m->next) {
        we_json *member = we_arena_alloc(arena, sizeof *member);
        if (!member) return NULL;
        *member = *m;
        *end = member;
        end = &member->next;
        o->n++;
    }
    for (size_t i = 0; i < p->plan->n_items; i++) {
        const we_plan_item *item = &p->plan->items[i];
        if (item->action != WE_QUANTIZE) continue;
        const we_json *params = quant_object(arena, item->quant);
        we_json *member = params ? we_arena_alloc(arena, sizeof *member) : NULL;
        if (!member) return NULL;
        *member = *params;
        path_of(item->tensor->name, ".weight", &member->key);
        member->next = NULL;
        *end = member;
        end = &member->next;
        o->n++;
    }
    *end = NULL;
    return o;
}

static int by_key(const void *a, const void *b)
{
    const we_json *const *x = a, *const *y = b;
    const size_t n = WE_MIN((*x)->key.len, (*y)->key.len);
    const int order = n ? memcmp((*x)->key.ptr, (*y)->key.ptr, n) : 0;
    return order ? order : ((*x)->key.len > (*y)->key.len) - ((*x)->key.len < (*y)->key.len);
}

/* The members sorted, the last of each name: what Python's dict would hold. */
static const we_json *sorted(we_arena *arena, const we_json *object)
{
    we_json **members = we_arena_calloc(arena, object->n, sizeof *members), *copy = we_arena_alloc(arena, sizeof *copy);
    if (!members || !copy) return NULL;
    size_t n = 0;
    for (const we_json *m = object->first; m; m = m->next) {
        if (!(members[n] = we_arena_alloc(arena, sizeof **members))) return NULL;
        *members[n++] = *m;
    }
    if (n) qsort(members, n, sizeof *members, by_key);
    *copy = *object;
    copy->first = NULL;
    const we_json **end = &copy->first;
    for (size_t i = 0; i < n; i++) {
        members[i]->next = NULL;
        *end = members[i];
        end = (const we_json **)&members[i]->next;
    }
    return copy;
}

static we_status plan_config(planner *p)
{
    we_arena *arena = &p->plan->arena;
    static const char *const left_out[] = { "_name_or_path", "quantization_config", "quantization" };
    const we_json *config = p->source->config, *quantization = p->quantization;
    if (p->job->quantize) quantization = quantization_object(p);
    if (p->job->quantize && !quantization) goto no_memory;
    if (p->job->dequantize) quantization = NULL;
    for (size_t i = 0; i < WE_COUNT(left_out) && config; i++) config = we_config_with(arena, config, left_out[i], NULL);
    if (config && quantization) config = we_config_with(arena, config, "quantization", quantization);
    if (config && quantization) config = we_config_with(arena, config, "quantization_config", quantization);
    if (config && (p->plan->config = sorted(arena, config))) return WE_OK;
no_memory:
    return we_fail(p->err, WE_E_NOMEM, "%s: no memory for its configuration", p->source->name);
}

/* ---- The whole ---- */

static we_status read_config(planner *p)
{
    const we_json *config = p->source->config, *foreign = we_json_get(config, "quantization_config");
    we_str text;
    p->quantization = we_json_get(config, "quantization");
    if (!we_json_is(p->quantization, WE_JSON_OBJECT)) p->quantization = NULL;
    if (!foreign) foreign = we_json_get(we_json_get(config, "text_config"), "quantization_config");
    if (!p->quantization && we_json_str(we_json_get(foreign, "quant_method"), &text))
        return we_fail(p->err, WE_E_UNSUPPORTED,
                       "%s: its weights are packed by \"%.*s\" (config.json, quantization_config), which is not "
                       "converted; take the model's bfloat16 or float16 version",
                       p->source->name, (int)WE_MIN(text.len, 40U), text.ptr);
    p->has_dtype = p->job->has_dtype;
    p->dtype = p->job->dtype;
    if (!p->has_dtype && we_json_str(we_json_get(config, "torch_dtype"), &text))
        p->has_dtype = float_by_name(text, &p->dtype);
    else if (!p->has_dtype && we_json_str(we_json_get(we_json_get(config, "text_config"), "dtype"), &text))
        p->has_dtype = float_by_name(text, &p->dtype);
    return WE_OK;
}

/* -q of what is packed already would silently do nothing. */
static we_status check_outcome(planner *p)
{
    size_t n_new = 0;
    for (size_t i = 0; i < p->plan->n_items; i++) n_new += p->plan->items[i].action == WE_QUANTIZE;
    if (!p->job->quantize || n_new) return WE_OK;
    if (p->plan->n_quantized)
        return we_fail(p->err, WE_E_ARG, "%s is quantized already: dequantize it first (-d), then quantize the result",
                       p->source->name);
    we_log(convert, WARN, "%s: no matrix has rows of whole groups of %d: nothing is quantized", p->source->name,
           p->job->quant.group_size);
    return WE_OK;
}

we_status we_plan_init(we_plan *plan, const we_source *source, const we_convert_job *job, we_error *err)
{
    *plan = (we_plan){ 0 };
    planner p = { .plan = plan, .source = source, .job = job, .err = err };
    we_status st;
    if (!(st = index_names(&p)) && !(st = read_config(&p)) && !(st = job->recipe ? find_layers(&p) : WE_OK) &&
        !(st = plan_tensors(&p)) && !(st = check_outcome(&p)) && !(st = cut_shards(&p)))
        st = plan_config(&p);
    if (st) we_plan_deinit(plan);
    return st;
}

void we_plan_deinit(we_plan *plan)
{
    we_arena_deinit(&plan->arena);
    *plan = (we_plan){ 0 };
}
