/* SPDX-License-Identifier: Apache-2.0
 * run.c - the forward pass: embeddings, the layers of the architecture's page, the output matrix for the rows that are asked
 * for. One step at a time per decoder; the layers' ops run between the device's begin and end. */
#include "model/model_int.h"
#include <assert.h>

static we_status update_dynamic_rope(we_decoder *m, const we_step_request *r, we_error *err)
{
    if (m->config.rope_scaling.kind != WE_ROPE_DYNAMIC) return WE_OK;
    int64_t length = m->config.max_position_embeddings;
    for (int i = 0; i < r->n_spans; i++) length = WE_MAX(length, (int64_t)r->spans[i].position + r->spans[i].n);
    if (length == m->rope_length) return WE_OK;
    const we_status st = we_bind_ropes(m, length, err);
    if (!st) m->rope_length = length;
    return st;
}

static bool is_cancelled(const we_step_request *r)
{
    return r->cancelled && atomic_load_explicit(r->cancelled, memory_order_relaxed);
}

/* Behind the last layer's keys and values only rows are needed whose logits are wanted: a prompt's last one. */
static void choose_kept(we_step *s, const we_step_request *r)
{
    s->n_kept = s->kept_of_span = 0;
    if (r->all_rows || r->n_out == r->n_rows) return;
    s->last_row = r->n_rows - 1;
    s->kept = r->n_out ? r->out_rows : &s->last_row; /* ops take no empty tensors */
    s->n_kept = WE_MAX(r->n_out, 1);
    s->kept_of_span = 1;
    const we_span *span = r->spans;
    for (int i = 0; i < r->n_out; i++) {
        assert(i == 0 || r->out_rows[i] > r->out_rows[i - 1]);
        while (r->out_rows[i] >= span->first + span->n) span++;
        s->kept_of_span = WE_MAX(s->kept_of_span, span->first + span->n - r->out_rows[i]);
    }
}

static void run_layers(we_decoder *m, const we_step_request *r)
{
    const we_tensor *ids = r->ids ? m->step.ids : r->drawn_before;
    we_step *s = &m->step;
    const we_arch *page = m->arch;
    while (!page->layer) page = page->parent;
    choose_kept(s, r);
    s->d->ops->embed(s->d, s->x, m->embed_tokens, ids, m->config.embed_scale);
    for (int64_t i = 0; i < m->config.num_hidden_layers && !is_cancelled(r); i++) page->layer(s, &m->layers[i]);
}

/* Logits of out_rows[first .. first + n), and tokens drawn from them. */
static void run_head(we_decoder *m, const we_step_request *r, int first, int n)
{
    we_step *s = &m->step;
    int32_t kept[WE_LOGIT_ROWS];
    for (int i = 0; i < n; i++) kept[i] = first + i;
    s->d->ops->take_rows(s->d, s->picked, s->x, s->n_kept ? kept : r->out_rows + first, n);
    we_norm(s, s->picked, s->picked, m->norm);
    we_project(s, s->logits, s->picked, &m->lm_head);
    if (r->specs) s->d->ops->sample(s->d, r->drawn ? r->drawn : s->sampled, s->logits, r->specs + first);
}

static we_status read_results(we_decoder *m, const we_step_request *r, int first, int n, we_error *err)
{
    we_device *d = m->device;
    we_error why;
    if (r->sampled && r->specs) {
        const int32_t *drawn = d->ops->read(d, r->drawn ? r->drawn : m->step.sampled, &why);
        if (!drawn) return we_fail(err, why.status, "%s", why.message);
        memcpy(r->sampled + first, drawn, (size_t)n * sizeof *drawn);
    }
    if (r->on_logits) {
        const float *rows = d->ops->read(d, m->step.logits, &why);
        if (!rows) return we_fail(err, why.status, "%s", why.message);
        if (!r->on_logits(r->user, (size_t)first, (size_t)n, rows))
            return we_fail(err, WE_E_CANCELLED, "stopped by the caller");
    }
    return WE_OK;
}

/* The layers and the first piece of the head are one step of the device; further pieces of the head (there are some only
 * where all logits of a prompt are wanted) one each, so that scratch holds few rows of vocab_size. */
static we_status run_locked(we_decoder *m, const we_step_request *r, we_error *err)
{
    we_device *d = m->device;
    we_batch batch = { r->spans, r->n_spans, r->n_rows, m->options.precise, false };
    we_status st = update_dynamic_rope(m, r, err);
    if (st) return st;
    if (r->ids) d->ops->write_ids(d, m->step.ids, r->ids, r->n_rows);
    for (int first = 0; first == 0 || first < r->n_out; first += WE_LOGIT_ROWS) {
        const int n = WE_MIN(WE_LOGIT_ROWS, r->n_out - first);
        batch.goes_on = first > 0;
        d->ops->begin(d, &batch);
        if (first == 0) run_layers(m, r);
        const bool whole = !is_cancelled(r);
        if (n > 0 && whole) run_head(m, r, first, n);
        if ((st = d->ops->end(d, err))) return st;
        if (!whole) return we_fail(err, WE_E_CANCELLED, "stopped");
        if (n > 0 && (st = read_results(m, r, first, n, err))) return st;
    }
    return we_weights_check(m->weights, err); /* a file cut short gave zeros: what was computed is worthless */
}

we_status we_decoder_step(we_decoder *m, const we_step_request *r, we_error *err)
{
    assert(r->n_rows >= 1 && r->n_rows <= m->info.step_rows);
    pthread_mutex_lock(&m->lock);
    const we_status st = run_locked(m, r, err);
    pthread_mutex_unlock(&m->lock);
    return st;
}
