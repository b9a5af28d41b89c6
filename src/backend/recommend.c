/* SPDX-License-Identifier: Apache-2.0
 * recommend.c - which models suit a machine. Their memory is counted from their shapes (hub's table) by the code that counts an
 * opened model's; their speed is what the memory's bandwidth allows: decoding reads all weights and half a full cache for
 * each token. A model of the user's own table is counted where it is here: nothing else is known of it. Tiers are those of the project's guide: 8 GB, 16 GB, 32 GB and more. */
#include "backend/backend_int.h"
#include "hub/hub.h"
#include "model/model.h"

#define GIB ((uint64_t)1 << 30)

/* A machine sold as 16 GB shows less than 16 GiB. */
static int tier_of(uint64_t total_bytes) { return total_bytes >= 28 * GIB ? 32 : total_bytes >= 14 * GIB ? 16 : 8; }

/* What the system and other programs keep: a tenth, at least 1 GiB. */
uint64_t we_machine_usable(const we_machine *m)
{
    const uint64_t kept = WE_MAX(m->memory_total_bytes / 10, GIB);
    return m->memory_total_bytes > kept ? m->memory_total_bytes - kept : 0;
}

double we_memory_bandwidth(void)
{
    we_device *device;
    we_limits limits = { .size = sizeof limits };
    if (we_device_open(&device, &(we_device_options){ .device = "cpu" }, NULL)) return 0;
    device->ops->measure(device, &limits);
    we_device_close(device);
    return limits.memory_bytes_per_second;
}

we_status we_machine_look(we_machine *m, we_buf *gpus, bool measure, we_error *err)
{
    we_memory_info memory = { .size = sizeof memory };
    we_status st = we_system_memory(&memory, err);
    if (st) return st;
    char *cache = we_hub_cache_dir();
    we_system_gpus(gpus);
    if ((st = we_buf_status(gpus, err, "the names of GPUs"))) {
        we_free(cache);
        return st;
    }
    *m = (we_machine){
        .size = sizeof *m,
        .memory_total_bytes = memory.total_bytes,
        .memory_available_bytes = memory.available_bytes,
        .disk_free_bytes = we_disk_free(cache ? cache : "."),
        .memory_bytes_per_second = measure ? we_memory_bandwidth() : 0,
        .n_cpus = we_cpu_count(),
        .tier_gb = tier_of(memory.total_bytes),
        .gpus = gpus->ptr ? gpus->ptr : "",
    };
    we_free(cache);
    return WE_OK;
}

/* ---- One model ---- */

static we_status count(we_recommendation *r, const we_hub_shape *s, we_device *device, we_error *err)
{
    const we_decoder_shape shape = { s->n_layers,   s->hidden_size, s->intermediate_size,
                                     s->n_heads,    s->n_kv_heads,  s->head_dim,
                                     s->vocab_size, s->window,      s->full_every };
    const we_status st = we_decoder_count(&shape, device, r->context, &r->kv_bytes, &r->scratch_bytes, err);
    r->needed_bytes = r->weights_bytes + r->kv_bytes + r->scratch_bytes;
    return st;
}

/* Of embeddings that are not the output matrix too, a token reads one row. */
static double bytes_per_token(const we_recommendation *r, const we_hub_shape *s)
{
    const double embeddings = s->tied ? 0 : (double)s->vocab_size * s->hidden_size / (double)r->n_parameters;
    return (double)r->weights_bytes * (1 - embeddings) + (double)r->kv_bytes / 2;
}

static bool is_here(const char *name)
{
    char *path = NULL;
    const bool here = we_hub_find(name, &path, NULL) == WE_OK;
    we_free(path);
    return here;
}

typedef struct texts {
    char command[128], reason[256];
} texts;

static void judge(we_recommendation *r, const we_machine *m, texts *t)
{
    char needed[24], has[24];
    we_format_bytes(needed, r->needed_bytes);
    const bool memory = r->needed_bytes <= we_machine_usable(m);
    const bool disk = r->is_here || !m->disk_free_bytes || r->download_bytes <= m->disk_free_bytes;
    r->fits = memory && disk;
    r->fits_now = r->needed_bytes <= m->memory_available_bytes;
    if (!memory)
        snprintf(t->reason, sizeof t->reason, "too large: it needs %s, and this machine has %s for models", needed,
                 we_format_bytes(has, we_machine_usable(m)));
    else if (!disk)
        snprintf(t->reason, sizeof t->reason, "the disk has no room: %s are free",
                 we_format_bytes(has, m->disk_free_bytes));
    else if (!r->fits_now)
        snprintf(t->reason, sizeof t->reason, "fits once other programs are closed: it needs %s, free are %s", needed,
                 we_format_bytes(has, m->memory_available_bytes));
    else
        snprintf(t->reason, sizeof t->reason, "fits: it needs %s, free are %s", needed,
                 we_format_bytes(has, m->memory_available_bytes));
    snprintf(t->command, sizeof t->command, "whisperengine %s %s", r->is_here ? "chat --model" : "pull", r->name);
    r->command = t->command;
    r->reason = t->reason;
}

static void tell_speed(we_recommendation *r, const we_machine *m, double bytes_each)
{
    if (m->memory_bytes_per_second > 0 && bytes_each > 0)
        r->tokens_per_second = m->memory_bytes_per_second / bytes_each;
}

static we_status look_at(we_recommendation *r, texts *t, const we_hub_short_name *row, const we_machine *m, int context,
                         we_device *device, we_error *err)
{
    const we_hub_shape *shape = &we_hub_shapes[row - we_hub_short_names];
    *r = (we_recommendation){
        .size = sizeof *r,
        .name = row->name,
        .n_parameters = row->n_parameters,
        .download_bytes = row->bytes,
        .weights_bytes = row->bytes,
        .context = WE_MIN(context, row->context),
        .tier_gb = shape->tier_gb,
        .is_here = is_here(row->name),
    };
    const we_status st = count(r, shape, device, err);
    if (st) return st;
    tell_speed(r, m, bytes_per_token(r, shape));
    judge(r, m, t);
    return WE_OK;
}

/* A model of the user's own. False: it is not here, or can't run. */
static bool look_at_users(we_recommendation *r, texts *t, const char *name, const we_machine *m, int context)
{
    char *path = NULL, type[64], quantization[128];
    we_model_options o = WE_MODEL_OPTIONS_INIT;
    we_model_info info = { .size = sizeof info };
    we_status st = we_hub_find(name, &path, NULL);
    if (!st) st = we_model_inspect(path, NULL, &info, type, quantization, NULL);
    o.context = WE_MIN(context, info.max_position_embeddings);
    if (!st) st = we_model_inspect(path, &o, &info, type, quantization, NULL);
    we_free(path);
    if (st) return false;
    *r = (we_recommendation){
        .size = sizeof *r,
        .name = name,
        .n_parameters = info.n_parameters,
        .weights_bytes = info.weights_bytes,
        .kv_bytes = info.kv_bytes_at_context,
        .scratch_bytes = info.scratch_bytes,
        .needed_bytes = info.weights_bytes + info.kv_bytes_at_context + info.scratch_bytes,
        .context = info.context,
        .is_here = true,
    };
    tell_speed(r, m, (double)info.weight_bytes_read_per_token + (double)info.kv_bytes_at_context / 2);
    judge(r, m, t);
    return true;
}

/* ---- All of them ---- */

/* The models of the highest tier, up to the machine's, of which one fits; where no tier has any, the largest that fits. */
static void choose(we_recommendation *all, size_t n, const we_machine *m)
{
    int best = 0;
    size_t largest = n;
    for (size_t i = 0; i < n; i++) {
        if (!all[i].fits) continue;
        if (all[i].tier_gb <= m->tier_gb) best = WE_MAX(best, all[i].tier_gb);
        if (largest == n || all[i].needed_bytes > all[largest].needed_bytes) largest = i;
    }
    for (size_t i = 0; best && i < n; i++) all[i].is_recommended = all[i].fits && all[i].tier_gb == best;
    if (!best && largest < n) all[largest].is_recommended = true;
}

we_status we_recommend_for(const we_machine *m, int context, we_recommend_fn fn, void *user, we_error *err)
{
    we_device *device = NULL; /* lays out the caches that are counted */
    we_hub_models table;
    we_status st = we_hub_models_read(&table, err);
    if (st) return st;
    size_t n = 0;
    we_recommendation *all = we_calloc(table.n, sizeof *all);
    texts *t = we_calloc(table.n, sizeof *t);
    st = all && t ? we_device_open(&device, &(we_device_options){ .device = "cpu", .threads = 1 }, err)
                  : we_fail(err, WE_E_NOMEM, "no memory for recommendations");
    for (size_t i = 0; i < table.n && !st; i++) {
        const we_hub_model *model = &table.items[i];
        if (!model->is_users[WE_BACKEND_MLX] && model->row)
            st = look_at(&all[n], &t[n], model->row, m, context, device, err), n++;
        else if (look_at_users(&all[n], &t[n], model->name, m, context))
            n++;
    }
    if (!st) choose(all, n, m);
    for (size_t i = 0; i < n && !st; i++)
        if (!fn(user, &all[i])) break;
    we_device_close(device);
    we_hub_models_deinit(&table);
    we_free(all);
    we_free(t);
    return st;
}

/* ---- As sentences ---- */

typedef struct teller {
    we_note_fn fn;
    void *user;
} teller;

static bool tell_model(void *user, const we_recommendation *r)
{
    const teller *t = user;
    char text[512], needed[24];
    if (!r->is_recommended) return true;
    we_format_bytes(needed, r->needed_bytes);
    snprintf(text, sizeof text, "%s suits this machine (%s with a context of %d tokens): %s", r->name, needed,
             r->context, r->command);
    t->fn(t->user, text);
    return true;
}

we_status we_setup_texts(const we_machine *m, const we_backend_found *found, we_note_fn fn, void *user, we_error *err)
{
    enum { CONTEXT = 8192 };
    char text[1400], total[24], available[24];
    teller t = { fn, user };
    snprintf(text, sizeof text, "This machine has %s of memory, %s of it free, and %d core%s.",
             we_format_bytes(total, m->memory_total_bytes), we_format_bytes(available, m->memory_available_bytes),
             m->n_cpus, m->n_cpus == 1 ? "" : "s");
    fn(user, text);
    const we_status st = we_recommend_for(m, CONTEXT, tell_model, &t, err);
    for (size_t i = 0; i < WE_BACKEND_CHAIN && !st; i++) {
        const we_backend_row *row = we_backend_row_of(found[i].kind);
        snprintf(text, sizeof text, "%s (%s): %s", row->name, found[i].available ? "available" : "not available",
                 found[i].reason);
        fn(user, text);
    }
    return st;
}
