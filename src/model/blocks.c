/* SPDX-License-Identifier: Apache-2.0
 * blocks.c - the blocks that architecture pages are made of: each a few ops of the device with the configuration's numbers
 * filled in. A page calls them in the order of its paper. */
#include "model/model_int.h"

void we_norm(we_step *s, we_tensor *out, const we_tensor *x, const we_tensor *weight)
{
    s->d->ops->rms_norm(s->d, out, x, weight, 0, (float)s->c->rms_norm_eps, s->c->norm_offset);
}

void we_qkv(we_step *s, const we_tensor *x, const we_layer *w)
{
    const we_linear l[] = {
        { s->q, w->q_proj.weight, w->q_proj.bias, false },
        { s->k, w->k_proj.weight, w->k_proj.bias, false },
        { s->v, w->v_proj.weight, w->v_proj.bias, false },
    };
    s->d->ops->linear(s->d, l, WE_COUNT(l), x);
}

void we_head_norms(we_step *s, const we_layer *w)
{
    const int head_dim = (int)s->c->head_dim;
    const float eps = (float)s->c->rms_norm_eps;
    s->d->ops->rms_norm(s->d, s->q, s->q, w->q_norm, head_dim, eps, s->c->norm_offset);
    s->d->ops->rms_norm(s->d, s->k, s->k, w->k_norm, head_dim, eps, s->c->norm_offset);
}

void we_rotate(we_step *s, const we_layer *w)
{
    s->d->ops->rope(s->d, s->q, *w->rope, (int)s->c->num_attention_heads, (int)s->c->head_dim);
    s->d->ops->rope(s->d, s->k, *w->rope, (int)s->c->num_key_value_heads, (int)s->c->head_dim);
}

void we_attention(we_step *s, const we_layer *w)
{
    const bool cuts = s->n_kept && w->index == s->c->num_hidden_layers - 1;
    const we_attend spec = {
        .layer = w->index,
        .n_heads = (int)s->c->num_attention_heads,
        .n_kv_heads = (int)s->c->num_key_value_heads,
        .head_dim = (int)s->c->head_dim,
        .scale = s->c->attention_scale,
        .window = w->window,
        .last = cuts ? s->kept_of_span : 0,
    };
    const we_device_ops *ops = s->d->ops;
    ops->kv_append(s->d, w->index, s->k, s->v);
    ops->attend(s->d, s->a, s->q, &spec);
    if (!cuts) return;
    ops->take_rows(s->d, s->a, s->a, s->kept, s->n_kept);
    ops->take_rows(s->d, s->x, s->x, s->kept, s->n_kept);
}

void we_project(we_step *s, we_tensor *out, const we_tensor *x, const we_proj *p)
{
    s->d->ops->linear(s->d, &(we_linear){ out, p->weight, p->bias, false }, 1, x);
}

void we_project_add(we_step *s, we_tensor *out, const we_tensor *x, const we_proj *p)
{
    s->d->ops->linear(s->d, &(we_linear){ out, p->weight, p->bias, true }, 1, x);
}

void we_gated(we_step *s, const we_tensor *x, const we_layer *w, we_activation act)
{
    const we_linear l[] = {
        { s->gate, w->gate_proj.weight, w->gate_proj.bias, false },
        { s->up, w->up_proj.weight, w->up_proj.bias, false },
    };
    const we_device_ops *ops = s->d->ops;
    if (ops->gated && ops->gated(s->d, l, x, act, w->down_proj.weight)) return;
    ops->linear(s->d, l, WE_COUNT(l), x);
    ops->glu(s->d, s->gate, s->up, act);
}

void we_add(we_step *s, we_tensor *x, const we_tensor *y) { s->d->ops->add(s->d, x, y); }
