/* SPDX-License-Identifier: Apache-2.0
 * write.c - a planned model into files: safetensors shards, their index, config.json, the files beside. Which bytes lie
 * where is known before the first is computed, so that the pieces can be written in any order: each of two threads takes
 * the next piece, reads, computes and writes it; while one waits for the disk the other computes.
 *
 * The layout of a file is told in format/safetensors.c. What the folder holds besides is mlx-lm's: config.json,
 * model.safetensors.index.json (for a single file too), the tokenizer's files, generation_config.json, README.md. */
#include "convert/convert_int.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define N_THREADS 2
#define HEADER_ALIGNMENT 8
#define LARGEST_SIDE_FILE ((size_t)512 << 20)

typedef struct shard {
    char name[64];
    we_buf header; /* with its length before it */
    uint64_t bytes;
    int fd;
} shard;

typedef struct writer {
    const we_source *source;
    const we_convert_job *job;
    we_calibration *calibration;
    we_convert_job calibrated; /* the job with it */
    we_plan plan;
    we_target target;
    shard *shards;
    we_buf config, index;
    we_chunk_counts *counts; /* [n_items] */
    /* guarded by `lock` while the threads run */
    pthread_mutex_t lock;
    size_t next_item;
    int64_t next_row;
    uint64_t done_bytes;
    we_error error;
    bool stopped;
} writer;

/* ---- What the files hold ---- */

static void write_shape(we_json_writer *w, const we_part *part)
{
    we_json_begin_array(w);
    for (int i = 0; i < part->n_dims; i++) we_json_write_i64(w, part->shape[i]);
    we_json_end_array(w);
}

static void name_shard(const we_plan *plan, size_t index, char out[64])
{
    if (plan->n_shards > 1)
        snprintf(out, 64, "model-%05zu-of-%05zu.safetensors", index + 1, plan->n_shards);
    else
        snprintf(out, 64, "model.safetensors");
}

/* The header, and the offsets of the parts, which count from its end until it is known. */
static void lay_out(writer *w, size_t index)
{
    shard *s = &w->shards[index];
    we_json_writer json = { .buf = &s->header };
    name_shard(&w->plan, index, s->name);
    we_buf_append(&s->header, "\0\0\0\0\0\0\0\0", 8);
    we_json_begin_object(&json);
    we_json_key(&json, "__metadata__");
    we_json_write_raw(&json, WE_STR("{\"format\":\"mlx\"}"));
    uint64_t at = 0;
    for (size_t i = 0; i < w->plan.n_parts; i++) {
        we_part *part = w->plan.parts[i];
        if (part->shard != index) continue;
        part->offset = at;
        we_json_key(&json, part->name);
        we_json_begin_object(&json);
        we_json_key(&json, "dtype");
        we_json_write_str(&json, we_str_from(we_dtype_name(part->dtype)));
        we_json_key(&json, "shape");
        write_shape(&json, part);
        we_json_key(&json, "data_offsets");
        we_json_begin_array(&json);
        we_json_write_i64(&json, (int64_t)at);
        we_json_write_i64(&json, (int64_t)(at + part->bytes));
        we_json_end_array(&json);
        we_json_end_object(&json);
        at += part->bytes;
    }
    we_json_end_object(&json);
    while (!s->header.failed && s->header.len % HEADER_ALIGNMENT) we_buf_append_char(&s->header, ' ');
    if (s->header.failed) return;
    const uint64_t json_len = s->header.len - 8;
    for (int i = 0; i < 8; i++) s->header.ptr[i] = (char)(json_len >> (8 * i));
    for (size_t i = 0; i < w->plan.n_parts; i++)
        if (w->plan.parts[i]->shard == index) w->plan.parts[i]->offset += s->header.len;
    s->bytes = s->header.len + at;
}

static int by_name(const void *a, const void *b)
{
    const we_part *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static we_status write_index(writer *w, we_error *err)
{
    const size_t n = w->plan.n_parts;
    const we_part **sorted = we_arena_calloc(&w->plan.arena, n, sizeof *sorted);
    if (!sorted) return we_fail(err, WE_E_NOMEM, "%s: no memory for the index", w->source->name);
    if (n) memcpy(sorted, w->plan.parts, n * sizeof *sorted);
    if (n) qsort(sorted, n, sizeof *sorted, by_name);
    we_json_writer json = { .buf = &w->index, .indent = 4, .ascii = true };
    we_json_begin_object(&json);
    we_json_key(&json, "metadata");
    we_json_begin_object(&json);
    we_json_key(&json, "total_size");
    we_json_write_i64(&json, (int64_t)w->plan.total_bytes);
    we_json_key(&json, "total_parameters");
    we_json_write_i64(&json, (int64_t)w->plan.total_parameters);
    we_json_end_object(&json);
    we_json_key(&json, "weight_map");
    we_json_begin_object(&json);
    for (size_t i = 0; i < n; i++) {
        we_json_key(&json, sorted[i]->name);
        we_json_write_str(&json, we_str_from(w->shards[sorted[i]->shard].name));
    }
    we_json_end_object(&json);
    we_json_end_object(&json);
    return we_buf_status(&w->index, err, "model.safetensors.index.json");
}

static we_status prepare(writer *w, we_error *err)
{
    w->shards = we_calloc(w->plan.n_shards, sizeof *w->shards);
    w->counts = we_calloc(w->plan.n_items, sizeof *w->counts);
    if (!w->shards || !w->counts) return we_fail(err, WE_E_NOMEM, "%s: no memory to convert it", w->source->name);
    for (size_t i = 0; i < w->plan.n_shards; i++) w->shards[i].fd = -1;
    for (size_t i = 0; i < w->plan.n_shards; i++) {
        lay_out(w, i);
        const we_status st = we_buf_status(&w->shards[i].header, err, w->shards[i].name);
        if (st) return st;
    }
    we_json_writer json = { .buf = &w->config, .indent = 4, .ascii = true };
    we_json_write_tree(&json, w->plan.config);
    const we_status st = we_buf_status(&w->config, err, "config.json");
    return st ? st : write_index(w, err);
}

static uint64_t bytes_needed(const writer *w)
{
    uint64_t bytes = w->config.len + w->index.len;
    for (size_t i = 0; i < w->plan.n_shards; i++) bytes += w->shards[i].bytes;
    for (size_t i = 0; i < w->source->n_files; i++) {
        const we_side_file *f = &w->source->files[i];
        bytes += f->path ? we_path_size(f->path) : f->bytes.len;
    }
    return bytes;
}

/* ---- Small files ---- */

static we_status write_small(writer *w, const char *name, we_str bytes, we_error *err)
{
    char *path = we_path_join(w->target.beside, name);
    if (!path) return we_fail(err, WE_E_NOMEM, "%s: no memory for its path", name);
    const we_status st = we_file_write(path, bytes.ptr, bytes.len, 0666, err);
    we_free(path);
    return st;
}

static we_status write_side_file(writer *w, const we_side_file *f, we_error *err)
{
    if (!f->path) return write_small(w, f->name, f->bytes, err);
    char *text;
    size_t len;
    we_status st = we_file_read(f->path, LARGEST_SIDE_FILE, &text, &len, err);
    if (st) return st;
    st = write_small(w, f->name, (we_str){ text, len }, err);
    we_free(text);
    return st;
}

static we_status write_small_files(writer *w, we_error *err)
{
    we_status st = write_small(w, "config.json", we_buf_str(&w->config), err);
    if (!st) st = write_small(w, "model.safetensors.index.json", we_buf_str(&w->index), err);
    for (size_t i = 0; i < w->source->n_files && !st; i++) st = write_side_file(w, &w->source->files[i], err);
    return st;
}

/* ---- Weights ---- */

static we_status fail_writing(const writer *w, const shard *s, int code, we_error *err)
{
    return we_fail(err, WE_E_IO, "%s: %s cannot be written: %s", w->target.path, s->name, strerror(code));
}

static we_status write_at(const writer *w, const shard *s, const uint8_t *bytes, uint64_t len, uint64_t at,
                          we_error *err)
{
    while (len) {
        const ssize_t n = pwrite(s->fd, bytes, (size_t)WE_MIN(len, (uint64_t)1 << 30), (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail_writing(w, s, n ? errno : ENOSPC, err);
        bytes += n;
        len -= (uint64_t)n;
        at += (uint64_t)n;
    }
    return WE_OK;
}

static we_status open_shards(writer *w, we_error *err)
{
    we_status st = WE_OK;
    for (size_t i = 0; i < w->plan.n_shards && !st; i++) {
        shard *s = &w->shards[i];
        char *path = we_path_join(w->target.beside, s->name);
        if (!path) return we_fail(err, WE_E_NOMEM, "%s: no memory for its path", s->name);
        s->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        we_free(path);
        if (s->fd < 0) return fail_writing(w, s, errno, err);
        st = write_at(w, s, (const uint8_t *)s->header.ptr, s->header.len, 0, err);
    }
    return st;
}

static we_status close_shards(writer *w, bool sync, we_error *err)
{
    we_status st = WE_OK;
    for (size_t i = 0; w->shards && i < w->plan.n_shards; i++) {
        shard *s = &w->shards[i];
        if (s->fd < 0) continue;
        if (sync && !st && fsync(s->fd) != 0) st = fail_writing(w, s, errno, err);
        if (close(s->fd) != 0 && sync && !st) st = fail_writing(w, s, errno, err);
        s->fd = -1;
    }
    return st;
}

typedef struct assignment {
    size_t item;
    int64_t first, n;
} assignment;

/* The next piece; false when there is none left, or somebody failed. */
static bool take(writer *w, assignment *a)
{
    pthread_mutex_lock(&w->lock);
    while (w->next_item < w->plan.n_items && w->next_row >= w->plan.items[w->next_item].rows) {
        w->next_item++;
        w->next_row = 0;
    }
    const bool found = !w->stopped && w->next_item < w->plan.n_items;
    if (found) {
        const we_plan_item *item = &w->plan.items[w->next_item];
        *a = (assignment){ w->next_item, w->next_row, WE_MIN(we_chunk_rows(item), item->rows - w->next_row) };
        w->next_row += a->n;
    }
    pthread_mutex_unlock(&w->lock);
    return found;
}

static void stop(writer *w, const we_error *error)
{
    pthread_mutex_lock(&w->lock);
    if (!w->stopped) w->error = *error;
    w->stopped = true;
    pthread_mutex_unlock(&w->lock);
}

static uint64_t source_bytes(const we_plan_item *item, int64_t rows)
{
    return (uint64_t)(rows * we_row_elements(item->tensor)) * we_dtype_size(item->tensor->dtype);
}

static we_status do_piece(writer *w, const assignment *a, we_chunk_scratch *scratch, we_error *err)
{
    const we_plan_item *item = &w->plan.items[a->item];
    const uint8_t *out[3] = { 0 };
    we_chunk_counts counts = { 0 };
    we_status st = we_chunk_compute(w->source, item, a->first, a->n, scratch, out, &counts, err);
    for (int i = 0; i < item->n_parts && !st; i++) {
        const uint64_t row_bytes = we_part_row_bytes(item, &item->parts[i]);
        st = write_at(w, &w->shards[item->parts[i].shard], out[i], row_bytes * (uint64_t)a->n,
                      item->parts[i].offset + row_bytes * (uint64_t)a->first, err);
    }
    if (st) return st;
    const uint64_t bytes = source_bytes(item, a->n);
    if (item->action == WE_COPY && w->source->done) w->source->done(w->source, out[0], (size_t)bytes);
    pthread_mutex_lock(&w->lock);
    w->counts[a->item].n_nan += counts.n_nan;
    w->counts[a->item].n_inf += counts.n_inf;
    w->done_bytes += bytes;
    pthread_mutex_unlock(&w->lock);
    return WE_OK;
}

/* The caller's thread alone tells how far it is. */
static bool tell(writer *w)
{
    pthread_mutex_lock(&w->lock);
    const uint64_t done = w->done_bytes;
    pthread_mutex_unlock(&w->lock);
    return !w->job->progress || w->job->progress(w->job->progress_user, done, w->plan.read_bytes);
}

static void work(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    writer *w = arg;
    we_chunk_scratch scratch = { 0 };
    assignment a;
    we_error err = { 0 };
    while (take(w, &a)) {
        we_status st = do_piece(w, &a, &scratch, &err);
        if (!st && thread == 0 && !tell(w)) st = we_fail(&err, WE_E_CANCELLED, "The conversion was cancelled");
        if (st) stop(w, &err);
    }
    we_chunk_scratch_deinit(&scratch);
}

static we_status write_weights(writer *w, we_error *err)
{
    we_pool *pool = NULL;
    we_status st = open_shards(w, err);
    if (!st) st = we_pool_open(&pool, N_THREADS, err);
    if (!st) we_pool_run(pool, work, w);
    we_pool_close(pool);
    if (!st && w->stopped) {
        if (err) *err = w->error;
        st = w->error.status;
    }
    if (!st && !tell(w)) st = we_fail(err, WE_E_CANCELLED, "The conversion was cancelled");
    if (!st && w->source->check) st = w->source->check(w->source, err);
    const we_status closed = close_shards(w, !st, err);
    return st ? st : closed;
}

/* ---- The whole ---- */

we_status we_convert_check(const char *dir, const char *shown, we_error *err)
{
    we_device *device = NULL;
    we_decoder *decoder = NULL;
    we_error why;
    we_status st = we_device_open(&device, &(we_device_options){ .device = "cpu", .threads = 1 }, err);
    if (st) return st;
    st = we_decoder_open(&decoder, device, dir, &(we_decoder_options){ .bind_only = true }, &why);
    we_decoder_close(decoder);
    we_device_close(device);
    const size_t len = strlen(dir);
    const char *message = strncmp(why.message, dir, len) == 0 ? why.message + len : why.message;
    while (st && (*message == '/' || *message == ':' || *message == ' ')) message++;
    if (st == WE_E_UNSUPPORTED) {
        we_log(convert, WARN, "%s: this engine will not run the result: %s", shown, message);
        return WE_OK;
    }
    return st ? we_fail(err, st, "%s: %s", shown, message) : WE_OK;
}

static void report(const writer *w, we_convert_result *r)
{
    enum { NAMED = 5 };
    we_buf names = { 0 };
    size_t n_named = 0, n_bad = 0;
    *r = (we_convert_result){ .n_tensors = w->plan.n_parts,
                              .n_quantized = w->plan.n_quantized,
                              .n_files = w->plan.n_shards,
                              .n_parameters = w->plan.total_parameters,
                              .bytes = bytes_needed(w) };
    if (w->plan.total_parameters)
        r->bits_per_weight = 8.0 * (double)w->plan.total_bytes / (double)w->plan.total_parameters;
    for (size_t i = 0; i < w->plan.n_items; i++) {
        const we_chunk_counts c = w->counts[i];
        r->n_nan += c.n_nan;
        r->n_inf += c.n_inf;
        if (!c.n_nan && !c.n_inf) continue;
        if (n_bad++ < NAMED)
            we_buf_printf(&names, "%s%s (%" PRIu64 " NaN, %" PRIu64 " Inf)", n_named++ ? ", " : "",
                          w->plan.items[i].tensor->name, c.n_nan, c.n_inf);
    }
    if (n_bad > NAMED) we_buf_printf(&names, " and %zu more", n_bad - NAMED);
    if (n_bad)
        we_log(convert, WARN,
               "%s: %" PRIu64 " weights are NaN and %" PRIu64 " infinite, in %s: such a model hardly works",
               w->source->name, r->n_nan, r->n_inf, names.ptr ? names.ptr : "");
    we_buf_deinit(&names);
}

/* A first plan says what is to be quantized; the one that is carried out knows what came of it. */
static we_status calibrate(writer *w, we_error *err)
{
    we_plan plan;
    we_status st = we_plan_init(&plan, w->source, w->job, err);
    if (st) return st;
    if (!(st = we_target_check_room(&w->target, plan.total_bytes, err)))
        st = we_calibrate(&w->calibration, w->source, w->job, &plan, err);
    we_plan_deinit(&plan);
    w->calibrated = *w->job;
    w->calibrated.calibrated = w->calibration;
    w->job = &w->calibrated;
    return st;
}

static we_status write_all(writer *w, we_error *err)
{
    we_status st;
    if (w->job->calibrate && (st = calibrate(w, err))) return st;
    if ((st = we_plan_init(&w->plan, w->source, w->job, err)) || (st = prepare(w, err)) ||
        (st = we_target_check_room(&w->target, bytes_needed(w), err)) || (st = we_target_begin(&w->target, err)) ||
        (st = write_small_files(w, err)) || (st = write_weights(w, err)))
        return st;
    if (!w->source->is_checked && (st = we_convert_check(w->target.beside, w->source->name, err))) return st;
    return we_target_finish(&w->target, err);
}

we_status we_convert_may_begin(const char *target, const we_convert_options *opt, we_error *err)
{
    we_convert_job job;
    we_target t = { .lock = -1 };
    we_status st = we_convert_job_init(&job, opt, err);
    if (!st) st = we_target_init(&t, target, job.overwrite, NULL, err);
    if (!st && job.calibrate && access(job.calibrate, R_OK) != 0) /* not read: it may be a pipe */
        st = we_fail(err, errno == ENOENT ? WE_E_NOT_FOUND : WE_E_IO, "%s: %s", job.calibrate, strerror(errno));
    we_target_deinit(&t);
    return st;
}

we_status we_convert_write(const we_source *source, const we_convert_job *job, const char *target,
                           we_convert_result *result, we_error *err)
{
    writer w = { .source = source, .job = job, .lock = PTHREAD_MUTEX_INITIALIZER };
    we_status st = we_target_init(&w.target, target, job->overwrite, source->name, err);
    if (!st) st = write_all(&w, err);
    if (!st) report(&w, result);
    close_shards(&w, false, NULL);
    we_target_deinit(&w.target);
    for (size_t i = 0; w.shards && i < w.plan.n_shards; i++) we_buf_deinit(&w.shards[i].header);
    we_free(w.shards);
    we_free(w.counts);
    we_buf_deinit(&w.config);
    we_buf_deinit(&w.index);
    we_plan_deinit(&w.plan);
    we_calibration_free(w.calibration);
    return st;
}
