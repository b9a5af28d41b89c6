/* SPDX-License-Identifier: Apache-2.0
 * rope.c - rotary frequencies and the ways of stretching them to longer contexts. Computed in double precision and rounded
 * once; checked against mlx_lm/models/rope_utils.py.
 * Sources: RoFormer, arXiv:2104.09864; YaRN, arXiv:2309.00071; LongRoPE, arXiv:2402.13753; Llama 3's scaling as published in
 * its model code. */
#include "model/model_int.h"
#include <math.h>

static const double pi = 3.14159265358979323846;

/* Wavelengths beyond what the model was trained on are stretched by `factor`, short ones stay, between the two blend. */
static double llama3_frequency(const we_rope_scaling *r, double period)
{
    const double wavelength = 2 * pi * period;
    const double longest = r->original_max_position_embeddings / r->low_freq_factor;
    const double shortest = r->original_max_position_embeddings / r->high_freq_factor;
    if (wavelength > longest) return 1 / (period * r->factor);
    if (wavelength <= shortest) return 1 / period;
    const double smooth = (r->original_max_position_embeddings / wavelength - r->low_freq_factor) /
                          (r->high_freq_factor - r->low_freq_factor);
    return ((1 - smooth) / r->factor + smooth) / period;
}

static double yarn_magnitude(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1; }

/* The dimension whose wave makes `rotations` turns within the original context. */
static double yarn_dimension(const we_rope_params *p, double rotations)
{
    return p->dims * log(p->scaling.original_max_position_embeddings / (rotations * 2 * pi)) / (2 * log(p->base));
}

static double yarn_frequency(const we_rope_params *p, int i, double period)
{
    const double low = fmax(floor(yarn_dimension(p, p->scaling.beta_fast)), 0);
    double high = fmin(ceil(yarn_dimension(p, p->scaling.beta_slow)), p->dims - 1);
    if (low == high) high += 0.001; /* no division by zero */
    const double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return (1 - ramp) / period + ramp / (period * p->scaling.factor);
}

void we_rope_frequencies(const we_rope_params *p, float *inv_freq, float *scale)
{
    const we_rope_scaling *r = &p->scaling;
    double base = p->base;
    *scale = 1;
    if (r->kind == WE_ROPE_DYNAMIC) {
        const double most = (double)p->max_position_embeddings, length = fmax((double)p->length, most);
        base *= pow(r->factor * length / most - (r->factor - 1), p->dims / (p->dims - 2.0));
    } else if (r->kind == WE_ROPE_YARN) {
        *scale = (float)(yarn_magnitude(r->factor, r->mscale) / yarn_magnitude(r->factor, r->mscale_all_dim));
    } else if (r->kind == WE_ROPE_LONGROPE) {
        const double factor = (double)p->max_position_embeddings / r->original_max_position_embeddings;
        if (factor > 1) *scale = (float)sqrt(1 + log(factor) / log(r->original_max_position_embeddings));
    }
    for (int i = 0; i < p->dims / 2; i++) {
        const double period = pow(base, 2.0 * i / p->dims);
        double f = 1 / period;
        switch (r->kind) {
        case WE_ROPE_DEFAULT:
        case WE_ROPE_DYNAMIC: break;
        case WE_ROPE_LINEAR: f /= r->factor; break;
        case WE_ROPE_LLAMA3: f = llama3_frequency(r, period); break;
        case WE_ROPE_YARN: f = yarn_frequency(p, i, period); break;
        case WE_ROPE_LONGROPE: f /= r->long_factor[i < r->n_long_factor ? i : r->n_long_factor - 1]; break;
        }
        inv_freq[i] = (float)f;
    }
}
