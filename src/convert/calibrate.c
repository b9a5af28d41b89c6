/* SPDX-License-Identifier: Apache-2.0
 * calibrate.c - quantizing with a text in view (--calibrate): which inputs each matrix meets while the model reads the text,
 * how much the model's predictions suffer from each matrix, and how many bits each then gets, so that the whole is no larger
 * than with the same bits for all. What a matrix becomes for its inputs is refine.c's business.
 *
 *   1. The model reads up to TOKENS tokens in float32 on a tapped device; X^T X of every input is summed.
 *   2. Every matrix is refined at the bits that were asked for.
 *   3. One matrix at a time is put in place of the model's own, and the KL divergence of some predictions is measured.
 *   4. Divergence falls by four with each bit. Bits go where they gain most for their size.
 *   5. Matrices that got other bits are refined again.
 *
 * Memory: the packed result, and X^T X of the inputs, at most HESSIAN_BYTES or what a single one takes. Where not all fit, the
 * model reads the text once for each part of them, and again in step 5.
 *
 * Everything follows from the text, the weights and the kernels: the same again, whatever the number of threads. */
#include "convert/convert_int.h"
#include "runtime/runtime.h"

#include <assert.h>
#include <math.h>

#define TEXT_BYTES ((size_t)1 << 20) /* of the file that are looked at */
#define TOKENS 32768                 /* that are read, in windows spread over those bytes */
#define WINDOW 512
#define LEAST_TOKENS 1024
#define HESSIAN_BYTES ((uint64_t)1 << 30)
#define MEASURED_STEPS 4 /* of WE_STEP_ROWS tokens, each a window of its own */
#define MEASURED_EVERY (WE_STEP_ROWS / WE_LOGIT_ROWS)

static const int bit_choices[] = { 2, 3, 4, 5, 6, 8 };

typedef struct input { /* that one matrix reads, or several */
    int64_t cols;
    we_hessian *h;
    bool wanted, finished;
} input;

typedef struct subject { /* a matrix that is to be quantized */
    const we_plan_item *item;
    const char *name; /* without ".weight" */
    ptrdiff_t input;  /* -1: no product reads it (embeddings beside a head of their own) */
    bool fixed;       /* the model does not know it: nothing can be measured */
    double loss;      /* divergence with the common bits */
    int bits;         /* chosen */
    we_matrix packed;
    uint8_t *bytes;
} subject;

struct we_calibration {
    const we_source *source;
    const we_convert_job *job;
    we_arena arena;
    subject *subjects;
    size_t n_subjects;
    input *inputs;
    size_t n_inputs;
    we_device *device, *tap;
    we_decoder *decoder;
    we_kv *kv;
    we_pool *pool;
    we_ids ids;
    size_t window, n_windows;
    int32_t bos;
    float *scratch;     /* of adding to X^T X */
    float *base_logits; /* [MEASURED_STEPS, WE_LOGIT_ROWS, vocab_size] */
    bool probing, collecting;
    uint64_t done, total; /* steps, for progress */
};

static we_status no_memory(const we_calibration *c, we_error *err)
{
    return we_fail(err, WE_E_NOMEM, "%s: no memory to calibrate it", c->source->name);
}

static we_status tell(we_calibration *c, uint64_t steps, we_error *err)
{
    c->done = WE_MIN(c->done + steps, c->total);
    if (!c->job->calibrate_progress || c->job->calibrate_progress(c->job->progress_user, c->done, c->total))
        return WE_OK;
    return we_fail(err, WE_E_CANCELLED, "The calibration was cancelled");
}

/* ---- The text ---- */

static we_status open_tokenizer(const char *model, we_tok **tok, we_error *err)
{
    if (we_path_is_dir(model)) return we_tok_open(tok, model, err);
    we_weights *weights;
    we_status st = we_weights_open(&weights, model, err);
    if (st) return st;
    st = we_tok_open_gguf(tok, we_weights_gguf(weights), err);
    we_weights_close(weights);
    return st;
}

static we_status check_text(const char *file, we_str text, we_error *err)
{
    if (text.len == 0) return we_fail(err, WE_E_FORMAT, "%s is empty: calibration needs text", file);
    if (memchr(text.ptr, 0, text.len))
        return we_fail(err, WE_E_FORMAT, "%s is no text: it holds bytes of value 0; calibration needs UTF-8", file);
    return WE_OK;
}

static we_status read_text(we_calibration *c, we_error *err)
{
    const char *file = c->job->calibrate;
    char *bytes = NULL;
    size_t len = 0;
    we_tok *tok = NULL;
    we_status st = we_file_read(file, 0, &bytes, &len, err);
    if (st) return st;
    if (len > TEXT_BYTES) /* not in the middle of a character */
        for (len = TEXT_BYTES; len && ((unsigned char)bytes[len] & 0xC0) == 0x80; len--) {
        }
    const we_str text = { bytes, len };
    if (!(st = check_text(file, text, err)) && !(st = open_tokenizer(c->source->name, &tok, err))) {
        st = we_tok_encode(tok, text, false, &c->ids, err);
        if (st) we_fail_in(err, st, "%s: ", file);
    }
    if (!st) c->bos = we_tok_bos_id(tok);
    if (!st && c->ids.n < LEAST_TOKENS)
        st = we_fail(err, WE_E_FORMAT,
                     "%s is too short: it has %zu tokens, calibration needs %d, and is best with %d (about %d KB)",
                     file, c->ids.n, LEAST_TOKENS, TOKENS, TOKENS / 256);
    we_tok_close(tok);
    we_free(bytes);
    return st;
}

/* ---- Running the model ---- */

/* Token i of a window: windows begin with BOS and are spread evenly over the text. */
static const int32_t *window_ids(const we_calibration *c, size_t index, size_t n_windows, size_t taken)
{
    const size_t room = c->ids.n - taken;
    return c->ids.ids + (n_windows > 1 ? room * index / (n_windows - 1) : 0);
}

/* WE_STEP_ROWS tokens or less at `position`; the logits of n_out of them. */
static we_status step(we_calibration *c, const int32_t *ids, size_t n, size_t position, const int32_t *out_rows,
                      size_t n_out, we_logits_fn on_logits, void *user, we_error *err)
{
    const we_device_ops *ops = c->tap->ops;
    const we_span span = { c->kv, 0, (int32_t)n, (int32_t)position };
    const we_step_request request = { .spans = &span,
                                      .n_spans = 1,
                                      .n_rows = (int)n,
                                      .ids = ids,
                                      .out_rows = out_rows,
                                      .n_out = (int)n_out,
                                      .all_rows = true,
                                      .on_logits = on_logits,
                                      .user = user };
    if (position == 0) ops->kv_trim(c->tap, c->kv, 0);
    we_status st = ops->kv_reserve(c->tap, c->kv, (int64_t)position, (int64_t)(position + n), err);
    return st ? st : we_decoder_step(c->decoder, &request, err);
}

/* All windows through the model, for what the tap sees. */
static we_status read_windows(we_calibration *c, size_t n_windows, we_error *err)
{
    int32_t ids[WINDOW], rows[WE_STEP_ROWS];
    const size_t begin = c->bos >= 0;
    we_status st = WE_OK;
    for (int i = 0; i < WE_STEP_ROWS; i++) rows[i] = i;
    for (size_t w = 0; w < n_windows && !st; w++) {
        ids[0] = c->bos;
        memcpy(ids + begin, window_ids(c, w, n_windows, c->window - begin), (c->window - begin) * sizeof *ids);
        for (size_t at = 0; at < c->window && !st; at += WE_STEP_ROWS) {
            const size_t n = WE_MIN(WE_STEP_ROWS, c->window - at);
            st = step(c, ids + at, n, at, rows, n, NULL, NULL, err);
            if (!st) st = tell(c, 1, err);
        }
    }
    return st;
}

/* ---- What the tap sees ---- */

static subject *subject_of(we_calibration *c, const we_tensor *weight)
{
    const char *name = we_decoder_matrix_name(c->decoder, weight);
    for (size_t i = 0; name && i < c->n_subjects; i++)
        if (strcmp(c->subjects[i].name, name) == 0) return &c->subjects[i];
    return NULL;
}

/* The first reading only finds which matrices read which input. */
static void note_input(we_calibration *c, const we_linear *l, int n)
{
    ptrdiff_t found = -1;
    for (int i = 0; i < n; i++) {
        const subject *s = subject_of(c, l[i].weight);
        if (s && s->input >= 0) found = s->input;
    }
    for (int i = 0; i < n; i++) {
        subject *s = subject_of(c, l[i].weight);
        if (!s || s->input >= 0) continue;
        if (found < 0) {
            found = (ptrdiff_t)c->n_inputs++;
            c->inputs[found].cols = s->item->cols;
        }
        s->input = found;
    }
}

static bool on_linear(void *user, const we_linear *l, int n, const float *x, int64_t n_rows)
{
    we_calibration *c = user;
    if (!c->probing && !c->collecting) return true;
    if (c->probing) note_input(c, l, n);
    const subject *s = subject_of(c, l[0].weight);
    if (c->collecting && s && s->input >= 0 && c->inputs[s->input].wanted)
        we_hessian_add(c->inputs[s->input].h, c->pool, x, (size_t)n_rows, c->scratch);
    return !we_decoder_is_head(c->decoder, l[0].weight); /* nobody asked for logits */
}

/* ---- Refining ---- */

static void subject_forget(subject *s)
{
    we_free(s->bytes);
    s->bytes = NULL;
}

static we_status make_packed(const we_calibration *c, subject *s, int bits, we_error *err)
{
    const we_plan_item *item = s->item;
    const we_quant quant = { WE_QUANT_AFFINE, bits, c->job->quant.group_size };
    subject_forget(s);
    s->packed = (we_matrix){ .rows = item->rows, .cols = item->cols, .quant = quant, .dtype = item->dtype };
    const size_t rows = (size_t)item->rows, data = rows * we_matrix_row_bytes(&s->packed),
                 scales = rows * we_matrix_row_scale_bytes(&s->packed);
    if (!(s->bytes = we_malloc(data + 2 * scales))) return no_memory(c, err);
    s->packed.data = s->bytes;
    s->packed.scales = s->bytes + data;
    s->packed.biases = s->bytes + data + scales;
    return WE_OK;
}

/* Rows [first, first + n) from their values. */
static void pack_rows(const subject *s, we_refiner *refiner, const float *values, int64_t first, int64_t n)
{
    const we_matrix part = we_matrix_rows(&s->packed, first, n);
    uint8_t *data = s->bytes + (part.data - s->packed.data), *scales = s->bytes + (part.scales - s->packed.data),
            *biases = s->bytes + (part.biases - s->packed.data);
    if (refiner) {
        we_refiner_run(refiner, values, n, data, scales, biases);
        return;
    }
    const size_t row_bytes = we_matrix_row_bytes(&part), scale_bytes = we_matrix_row_scale_bytes(&part);
    for (int64_t r = 0; r < n; r++, data += row_bytes, scales += scale_bytes, biases += scale_bytes)
        we_quant_row(part.quant, part.dtype, values + r * part.cols, part.cols, data, scales, biases);
}

static we_status refine_subject(we_calibration *c, subject *s, int bits, we_error *err)
{
    input *in = s->input >= 0 ? &c->inputs[s->input] : NULL;
    we_refiner *refiner = NULL;
    we_chunk_scratch scratch = { 0 };
    we_status st = make_packed(c, s, bits, err);
    if (!st && in && !in->finished) {
        st = we_hessian_finish(in->h, c->pool, c->job->quant.group_size, s->name, err);
        in->finished = !st;
    }
    if (!st && in && !(refiner = we_refiner_new(c->pool, in->h, s->packed.quant, s->packed.dtype)))
        st = no_memory(c, err);
    for (int64_t first = 0; first < s->item->rows && !st;) {
        const int64_t n = WE_MIN(we_chunk_rows(s->item), s->item->rows - first);
        const float *values;
        st = we_chunk_values(c->source, s->item, first, n, &scratch, &values, err);
        if (!st) pack_rows(s, refiner, values, first, n);
        if (!st) st = tell(c, 0, err);
        first += n;
    }
    we_refiner_free(refiner);
    we_chunk_scratch_deinit(&scratch);
    return st ? st : tell(c, 1, err);
}

static void drop_inputs(we_calibration *c)
{
    for (size_t i = 0; i < c->n_inputs; i++) {
        we_hessian_free(c->inputs[i].h);
        c->inputs[i] = (input){ .cols = c->inputs[i].cols };
    }
}

/* As many of the inputs from `next` on that subjects want as fit; gives where the next part begins. */
static we_status take_inputs(we_calibration *c, const bool *want, size_t *next, we_error *err)
{
    uint64_t bytes = 0;
    drop_inputs(c);
    for (; *next < c->n_inputs; (*next)++) {
        input *in = &c->inputs[*next];
        if (!want[*next]) continue;
        const uint64_t more = we_hessian_bytes(in->cols);
        if (bytes && bytes + more > HESSIAN_BYTES) break;
        bytes += more;
        if (!(in->h = we_hessian_new(in->cols))) return no_memory(c, err);
        in->wanted = true;
    }
    return WE_OK;
}

/* Refine all subjects whose bits are not yet what was chosen: read the text for their inputs, part by part. */
static we_status refine_all(we_calibration *c, we_error *err)
{
    bool *want = we_arena_calloc(&c->arena, WE_MAX(c->n_inputs, 1), sizeof *want);
    if (!want) return no_memory(c, err);
    we_status st = WE_OK;
    bool all_there = true;
    for (size_t i = 0; i < c->n_subjects; i++) {
        const subject *s = &c->subjects[i];
        const bool due = !s->bytes || s->packed.quant.bits != s->bits;
        if (due && s->input >= 0) want[s->input] = true;
        if (due && s->input >= 0) all_there &= c->inputs[s->input].h != NULL;
        if (due && s->input < 0 && !st) st = refine_subject(c, &c->subjects[i], s->bits, err);
    }
    for (size_t next = 0; next < c->n_inputs && !st;) {
        if (all_there) {
            next = c->n_inputs; /* from the first time */
        } else if (!(st = take_inputs(c, want, &next, err))) {
            c->collecting = true;
            st = read_windows(c, c->n_windows, err);
            c->collecting = false;
        }
        for (size_t i = 0; i < c->n_subjects && !st; i++) {
            subject *s = &c->subjects[i];
            if ((!s->bytes || s->packed.quant.bits != s->bits) && s->input >= 0 && c->inputs[s->input].h)
                st = refine_subject(c, s, s->bits, err);
        }
    }
    return st;
}

/* ---- Measuring ---- */

typedef struct measurement {
    we_calibration *c;
    int index;  /* of the step */
    double sum; /* of divergences */
    bool is_base;
} measurement;

static bool on_measured(void *user, size_t first, size_t n, const float *rows)
{
    measurement *m = user;
    const size_t width = (size_t)we_decoder_get_info(m->c->decoder)->vocab_size;
    float *base = m->c->base_logits + ((size_t)m->index * WE_LOGIT_ROWS + first) * width;
    if (m->is_base)
        memcpy(base, rows, n * width * sizeof *rows);
    else
        for (size_t i = 0; i < n; i++) m->sum += we_divergence(base + i * width, rows + i * width, (int)width);
    return true;
}

static we_status measure(we_calibration *c, bool is_base, double *loss, we_error *err)
{
    measurement m = { .c = c, .is_base = is_base };
    int32_t rows[WE_LOGIT_ROWS];
    we_status st = WE_OK;
    const size_t n = WE_MIN((size_t)WE_STEP_ROWS, c->window), n_out = n / MEASURED_EVERY;
    for (size_t i = 0; i < n_out; i++) rows[i] = (int32_t)(i * MEASURED_EVERY + MEASURED_EVERY - 1);
    for (; m.index < MEASURED_STEPS && !st; m.index++) {
        st = step(c, window_ids(c, (size_t)m.index, MEASURED_STEPS, n), n, 0, rows, n_out, on_measured, &m, err);
        if (!st) st = tell(c, 1, err);
    }
    *loss = m.sum / (double)(n_out * MEASURED_STEPS);
    return st;
}

/* Rows of `bytes` each in the order in which the model that is read has them: see head_rows. */
static void order_rows(const we_source_tensor *t, const uint8_t *from, size_t bytes, uint8_t *to)
{
    const int64_t half = t->head_rows / 2;
    for (int64_t r = 0; r < t->shape[0]; r++) {
        const int64_t in_head = r % t->head_rows, at = r - in_head + 2 * (in_head % half) + in_head / half;
        memcpy(to + (size_t)at * bytes, from + (size_t)r * bytes, bytes);
    }
}

/* What came of one matrix, in place of the model's own. */
static we_status measure_subject(we_calibration *c, subject *s, we_error *err)
{
    we_matrix packed = s->packed;
    uint8_t *bytes = NULL;
    const size_t rows = (size_t)packed.rows, row = we_matrix_row_bytes(&packed),
                 scales = we_matrix_row_scale_bytes(&packed);
    if (s->item->tensor->head_rows) {
        if (!(bytes = we_malloc(rows * (row + 2 * scales)))) return no_memory(c, err);
        order_rows(s->item->tensor, packed.data, row, bytes);
        order_rows(s->item->tensor, packed.scales, scales, bytes + rows * row);
        order_rows(s->item->tensor, packed.biases, scales, bytes + rows * (row + scales));
        packed.data = bytes;
        packed.scales = bytes + rows * row;
        packed.biases = packed.scales + rows * scales;
    }
    we_status st = we_decoder_replace(c->decoder, s->name, &packed, err);
    if (!st) st = measure(c, false, &s->loss, err);
    we_decoder_replace(c->decoder, s->name, NULL, NULL);
    we_free(bytes);
    return st;
}

static we_status measure_all(we_calibration *c, we_error *err)
{
    const size_t width = (size_t)we_decoder_get_info(c->decoder)->vocab_size;
    c->base_logits = we_malloc(MEASURED_STEPS * WE_LOGIT_ROWS * width * sizeof(float));
    if (!c->base_logits) return no_memory(c, err);
    double none;
    we_status st = measure(c, true, &none, err);
    for (size_t i = 0; i < c->n_subjects && !st; i++) {
        subject *s = &c->subjects[i];
        if (s->fixed) continue;
        st = measure_subject(c, s, err);
        if (!st && !isfinite(s->loss))
            st = we_fail(err, WE_E_FORMAT, "%s: its predictions are not finite numbers: are the weights whole?",
                         c->source->name);
        if (!st) we_log(convert, DEBUG, "%s: divergence %.6f with %d bits", s->name, s->loss, s->packed.quant.bits);
    }
    we_free(c->base_logits);
    c->base_logits = NULL;
    return st;
}

/* ---- Choosing ---- */

/* How much divergence each bit of the file would take away, with `bits` to `more` bits. */
static double gain(const subject *s, int common, int bits, int more)
{
    const double least = 1e-9; /* so that what does not matter shares what is left over */
    return fmax(s->loss, least) * (pow(4, common - bits) - pow(4, common - more)) /
           ((double)(more - bits) * (double)(s->item->rows * s->item->cols));
}

static int next_choice(int bits)
{
    for (size_t i = 0; i < WE_COUNT(bit_choices); i++)
        if (bit_choices[i] > bits) return bit_choices[i];
    return 0;
}

static double size_of(const subject *s) { return (double)(s->item->rows * s->item->cols); }

/* One step more where it gains most for its size, as long as one fits. held: keeps the bits it has. */
static void spend(we_calibration *c, double room, const subject *held)
{
    for (;;) {
        subject *best = NULL;
        double best_gain = 0;
        for (size_t i = 0; i < c->n_subjects; i++) {
            subject *s = &c->subjects[i];
            const int more = next_choice(s->bits);
            if (s->fixed || s == held || !more || (double)(more - s->bits) * size_of(s) > room) continue;
            const double g = gain(s, c->job->quant.bits, s->bits, more);
            if (g > best_gain) best = s, best_gain = g;
        }
        if (!best) return;
        const int more = next_choice(best->bits);
        room -= (double)(more - best->bits) * size_of(best);
        best->bits = more;
    }
}

static double loss_of_all(const we_calibration *c)
{
    double sum = 0;
    for (size_t i = 0; i < c->n_subjects; i++) {
        const subject *s = &c->subjects[i];
        if (!s->fixed) sum += s->loss * pow(4, c->job->quant.bits - s->bits);
    }
    return sum;
}

/* With `bits` for the largest matrix; false where that alone is too much. */
static bool choose_with(we_calibration *c, subject *largest, int bits)
{
    double room = 0; /* bits */
    for (size_t i = 0; i < c->n_subjects; i++) {
        subject *s = &c->subjects[i];
        if (s->fixed) continue;
        s->bits = s == largest ? bits : bit_choices[0];
        room += (double)(c->job->quant.bits - s->bits) * size_of(s);
    }
    if (room < 0) return false;
    spend(c, room, largest);
    return true;
}

/* The embeddings of a small model are more than half of it: a step of theirs that no longer fits would cost more than all
 * else gains. So each number of bits is tried for the largest matrix, and the best whole is taken. */
static void choose_bits(we_calibration *c)
{
    subject *largest = NULL;
    int best = c->job->quant.bits;
    double least = loss_of_all(c); /* with the same bits for all */
    for (size_t i = 0; i < c->n_subjects; i++)
        if (!c->subjects[i].fixed && (!largest || size_of(&c->subjects[i]) > size_of(largest)))
            largest = &c->subjects[i];
    if (!largest) return;
    bool found = false;
    for (size_t i = 0; i < WE_COUNT(bit_choices); i++)
        if (choose_with(c, largest, bit_choices[i]) && loss_of_all(c) < least) {
            least = loss_of_all(c);
            best = bit_choices[i];
            found = true;
        }
    if (found) {
        choose_with(c, largest, best);
        return;
    }
    for (size_t i = 0; i < c->n_subjects; i++) c->subjects[i].bits = c->job->quant.bits;
}

/* ---- The whole ---- */

static we_status list_subjects(we_calibration *c, const we_plan *plan, we_error *err)
{
    c->subjects = we_arena_calloc(&c->arena, WE_MAX(plan->n_items, 1), sizeof *c->subjects);
    c->inputs = we_arena_calloc(&c->arena, WE_MAX(plan->n_items, 1), sizeof *c->inputs);
    if (!c->subjects || !c->inputs) return no_memory(c, err);
    for (size_t i = 0; i < plan->n_items; i++) {
        const we_plan_item *item = &plan->items[i];
        if (item->action != WE_QUANTIZE) continue;
        const size_t len = strlen(item->tensor->name) - strlen(".weight");
        subject *s = &c->subjects[c->n_subjects++];
        *s = (subject){ .item = item, .input = -1, .bits = c->job->quant.bits };
        s->name = we_arena_strndup(&c->arena, item->tensor->name, len);
        if (!s->name) return no_memory(c, err);
    }
    return WE_OK;
}

static we_status open_model(we_calibration *c, we_error *err)
{
    const we_decoder_options options = { .precise = true };
    we_status st;
    if ((st = we_device_open(&c->device, &(we_device_options){ .device = "cpu" }, err)) ||
        (st = we_tap_open(&c->tap, c->device, on_linear, c, err)) ||
        (st = we_decoder_open(&c->decoder, c->tap, c->source->name, &options, err)) ||
        (st = we_decoder_kv_new(c->decoder, &c->kv, err)) || (st = we_pool_open(&c->pool, 0, err)))
        return st;
    c->window = (size_t)WE_MIN(WINDOW, we_decoder_get_info(c->decoder)->context);
    return WE_OK;
}

/* Which matrix reads what, in a first step whose products are not kept. */
static we_status find_inputs(we_calibration *c, we_error *err)
{
    c->probing = true;
    const we_status st = read_windows(c, 1, err);
    c->probing = false;
    int64_t widest = 0;
    for (size_t i = 0; i < c->n_inputs; i++) widest = WE_MAX(widest, c->inputs[i].cols);
    if (st) return st;
    for (size_t i = 0; i < c->n_subjects; i++)
        c->subjects[i].fixed = we_decoder_replace(c->decoder, c->subjects[i].name, NULL, NULL) != WE_OK;
    c->scratch = we_malloc(WE_MAX(we_hessian_scratch(widest), 1) * sizeof(float));
    return c->scratch ? WE_OK : no_memory(c, err);
}

static uint64_t steps_of(size_t n_windows, size_t window)
{
    return n_windows * ((window + WE_STEP_ROWS - 1) / WE_STEP_ROWS);
}

static we_status run(we_calibration *c, const we_plan *plan, we_error *err)
{
    we_status st;
    if ((st = read_text(c, err)) || (st = list_subjects(c, plan, err)) || (st = open_model(c, err))) return st;
    c->n_windows = WE_MIN(c->ids.n, TOKENS) / c->window;
    c->total = steps_of(c->n_windows + 1, c->window) + 2 * c->n_subjects + (c->n_subjects + 1) * MEASURED_STEPS;
    if ((st = find_inputs(c, err)) || (st = refine_all(c, err)) || (st = measure_all(c, err))) return st;
    choose_bits(c);
    if ((st = refine_all(c, err))) return st;
    c->done = c->total;
    return tell(c, 0, err);
}

static void let_go(we_calibration *c) /* of all but the result */
{
    drop_inputs(c);
    we_free(c->scratch);
    we_free(c->base_logits);
    we_ids_deinit(&c->ids);
    if (c->decoder) c->tap->ops->kv_free(c->tap, c->kv);
    we_decoder_close(c->decoder);
    we_device_close(c->tap);
    we_device_close(c->device);
    we_pool_close(c->pool);
    c->scratch = NULL;
    c->decoder = NULL;
    c->tap = c->device = NULL;
    c->pool = NULL;
}

we_status we_calibrate(we_calibration **out, const we_source *source, const we_convert_job *job, const we_plan *plan,
                       we_error *err)
{
    *out = NULL;
    we_calibration *c = we_calloc(1, sizeof *c);
    if (!c) return we_fail(err, WE_E_NOMEM, "%s: no memory to calibrate it", source->name);
    c->source = source;
    c->job = job;
    const we_status st = run(c, plan, err);
    let_go(c);
    if (st)
        we_calibration_free(c);
    else
        *out = c;
    return st;
}

void we_calibration_free(we_calibration *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_subjects; i++) subject_forget(&c->subjects[i]);
    we_arena_deinit(&c->arena);
    we_free(c);
}

const we_matrix *we_calibration_find(const we_calibration *c, we_str name)
{
    for (size_t i = 0; c && i < c->n_subjects; i++)
        if (we_str_is(name, c->subjects[i].name)) return &c->subjects[i].packed;
    return NULL;
}
