/* SPDX-License-Identifier: Apache-2.0
 * refine.c - a matrix to affine codes such that its products stay near, not its weights: what is made small is
 *
 *     tr((Q - W) H (Q - W)^T),  H = X^T X of the inputs X that the matrix meets
 *
 * and the result is MLX's plain packing. Where X comes from and how many bits a matrix gets is calibrate.c's business.
 *
 * Per row w of W, all rows alike:
 *   1. Grid: for each group the scale and bias with the least weighted error, searched over shrunken ranges.
 *   2. Codes from left to right, each column aiming at what the columns before it left over. With H = V V^T, V upper
 *      triangular, the error is |V^T (q - w)|^2, whose entry j knows the columns up to j alone: the best value for column j
 *      is w_j - sum over i < j of V_ij / V_jj (q_i - w_i). (GPTQ computes the same through the inverse of H.)
 *   3. Scales and biases of the row by least squares on H with these codes, rounded to the type they are stored in.
 *   4. Codes again, one at a time, where another one makes the error smaller.
 *
 * Rows are computed sixteen at a time, one in each lane of a vector, so that each element of H is read once for all of them.
 * Rows do not know of each other: the result does not depend on the number of threads.
 *
 * Source: Frantar et al. 2022, GPTQ (arXiv:2210.17323); Chee et al. 2023, QuIP (arXiv:2307.13304), for step 2 without an
 * inverse; Behdin et al. 2023, QuantEase (arXiv:2309.01885), for step 4. */
#include "convert/convert_int.h"
#include "device/device.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>

#define LANES 16
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t masks __attribute__((vector_size(LANES * sizeof(int32_t))));
#define WHERE(mask, a, b) ((lanes)(((mask) & (masks)(a)) | (~(mask) & (masks)(b))))

#define MAX_GROUP 128
#define TOKENS 128        /* of a block of inputs at most */
#define PANEL 64          /* columns of a Cholesky step */
#define DAMPING 0.01      /* of H's mean diagonal, added to its diagonal */
#define GRID_STEPS 8      /* ranges that are tried */
#define GRID_LEAST 0.475F /* the smallest, as a part of the whole */
#define RIDGE 1e-4        /* holds scales and biases that the inputs say nothing about */

/* out[i] += sum over k of m[i][k] * d[k] */
static void add_products(float *out, size_t out_stride, const float *m, size_t m_stride, const lanes *d, size_t n,
                         size_t n_k)
{
    we_host_mul_add(m, (int64_t)m_stride, (const float *)d, LANES, out, (int64_t)out_stride, (int64_t)n, LANES,
                    (int64_t)n_k);
}

/* ---- Work on all threads: pieces in any order ---- */

typedef void (*piece_fn)(void *arg, size_t piece, int thread);

typedef struct pieces {
    piece_fn fn;
    void *arg;
    size_t n;
    atomic_size_t next;
} pieces;

static void run_pieces(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    pieces *p = arg;
    for (size_t i; (i = atomic_fetch_add(&p->next, 1)) < p->n;) p->fn(p->arg, i, thread);
}

static void for_pieces(we_pool *pool, size_t n, piece_fn fn, void *arg)
{
    pieces p = { fn, arg, n, 0 };
    we_pool_run(pool, run_pieces, &p);
}

/* ---- H ---- */

struct we_hessian {
    int64_t n;
    uint64_t n_rows;   /* of inputs added */
    float *h;          /* [n, n], the lower triangle and the blocks on the diagonal until it is finished */
    float *factor;     /* [n, n]: row j has V_ij / V_jj for i < j */
    float *weight;     /* [n]: V_jj squared, what an error in column j costs when the later columns make up for it */
    float *group_sums; /* [n, groups]: of h's rows over each group */
    int group_size;
};

uint64_t we_hessian_bytes(int64_t n) { return 2 * (uint64_t)n * (uint64_t)n * sizeof(float); }

static void *aligned_zeros(size_t n)
{
    float *p = we_malloc_aligned(64, WE_MAX(n, 1) * sizeof *p);
    if (p) memset(p, 0, n * sizeof *p);
    return p;
}

we_hessian *we_hessian_new(int64_t n)
{
    assert(n > 0 && n % LANES == 0);
    we_hessian *h = we_calloc(1, sizeof *h);
    if (!h) return NULL;
    h->n = n;
    if ((h->h = aligned_zeros((size_t)(n * n)))) return h;
    we_free(h);
    return NULL;
}

void we_hessian_free(we_hessian *h)
{
    if (!h) return;
    we_free(h->h);
    we_free(h->factor);
    we_free(h->weight);
    we_free(h->group_sums);
    we_free(h);
}

typedef struct addition {
    we_hessian *h;
    const float *x, *transposed; /* [rows, n]; [n, TOKENS] */
    size_t n_rows;
} addition;

/* Sixteen columns of H, from the diagonal down. */
static void add_columns(void *arg, size_t piece, int thread)
{
    (void)thread;
    const addition *a = arg;
    const size_t n = (size_t)a->h->n, first = piece * LANES;
    lanes d[TOKENS];
    for (size_t t = 0; t < a->n_rows; t++) memcpy(&d[t], a->x + t * n + first, sizeof d[t]);
    add_products(a->h->h + first * n + first, n, a->transposed + first * TOKENS, TOKENS, d, n - first, a->n_rows);
}

void we_hessian_add(we_hessian *h, we_pool *pool, const float *x, size_t n_rows, float *scratch)
{
    const size_t n = (size_t)h->n;
    assert(n_rows <= TOKENS);
    for (size_t t = 0; t < n_rows; t++)
        for (size_t i = 0; i < n; i++) scratch[i * TOKENS + t] = x[t * n + i];
    addition a = { h, x, scratch, n_rows };
    for_pieces(pool, n / LANES, add_columns, &a);
    h->n_rows += n_rows;
}

size_t we_hessian_scratch(int64_t n) { return (size_t)n * TOKENS; }

/* The triangle to a full matrix with its damping; false where it holds what is no number. */
static bool complete(we_hessian *h, double damping)
{
    const size_t n = (size_t)h->n;
    double trace = 0;
    for (size_t i = 0; i < n; i++) trace += (double)h->h[i * n + i];
    if (!isfinite(trace)) return false;
    const float added = (float)(damping * (trace > 0 ? trace / (double)n : 1));
    for (size_t i = 0; i < n; i++) {
        h->h[i * n + i] += added;
        for (size_t j = 0; j < i; j++) h->h[j * n + i] = h->h[i * n + j];
    }
    return true;
}

typedef struct panel { /* columns first .. first + PANEL of V are known: take their share from what lies before */
    float *a;          /* [n, n] */
    size_t n, first, size;
    const float *minus; /* [first, PANEL]: -V_ik */
} panel;

static void subtract_panel(void *arg, size_t piece, int thread)
{
    (void)thread;
    const panel *p = arg;
    const size_t j = piece * LANES;
    lanes d[PANEL];
    for (size_t k = 0; k < p->size; k++) memcpy(&d[k], p->a + (p->first + k) * p->n + j, sizeof d[k]);
    add_products(p->a + j * p->n + j, p->n, p->minus + j * PANEL, PANEL, d, p->first - j, p->size);
}

/* H = V V^T from the last column to the first; row k of `a` becomes V's column k. Only what lies at or left of the diagonal
 * is read and written, but for whole vectors on the diagonal. False where H is not positive. */
static bool factorize(float *a, size_t n, we_pool *pool, float *minus)
{
    for (size_t end = n; end > 0;) {
        const size_t size = WE_MIN(end, PANEL), first = end - size;
        for (size_t k = end; k-- > first;) {
            float *row = a + k * n;
            if (!(row[k] > 0)) return false;
            const float root = sqrtf(row[k]);
            for (size_t i = 0; i < k; i++) row[i] /= root;
            row[k] = root;
            for (size_t j = first; j < k; j++) { /* the panel's other columns at once, the rest below */
                const float share = row[j];
                float *other = a + j * n;
                for (size_t i = 0; i <= j; i++) other[i] -= share * row[i];
            }
        }
        for (size_t i = 0; i < first; i++)
            for (size_t k = 0; k < size; k++) minus[i * PANEL + k] = -a[(first + k) * n + i];
        panel p = { a, n, first, size, minus };
        for_pieces(pool, first / LANES, subtract_panel, &p);
        end = first;
    }
    return true;
}

static bool factor_of(we_hessian *h, we_pool *pool, float *minus)
{
    const size_t n = (size_t)h->n;
    memcpy(h->factor, h->h, n * n * sizeof(float));
    if (!factorize(h->factor, n, pool, minus)) return false;
    for (size_t j = 0; j < n; j++) {
        float *row = h->factor + j * n;
        h->weight[j] = row[j] * row[j];
        for (size_t i = 0; i < j; i++) row[i] /= row[j];
    }
    return true;
}

we_status we_hessian_finish(we_hessian *h, we_pool *pool, int group_size, const char *name, we_error *err)
{
    const size_t n = (size_t)h->n, groups = n / (size_t)group_size;
    assert(n % (size_t)group_size == 0 && !h->factor);
    float *minus = aligned_zeros(n * PANEL);
    h->factor = aligned_zeros(n * n);
    h->weight = we_malloc(n * sizeof(float));
    h->group_sums = aligned_zeros(n * groups);
    h->group_size = group_size;
    we_status st = WE_OK;
    if (!minus || !h->factor || !h->weight || !h->group_sums)
        st = we_fail(err, WE_E_NOMEM, "%s: no memory to calibrate it", name);
    bool done = false;
    double damping = DAMPING;
    for (int tries = 0; !st && !done && tries < 4; tries++, damping *= 10)
        if (!complete(h, damping))
            st = we_fail(err, WE_E_FORMAT,
                         "%s: its inputs are not finite numbers for the calibration text, so it cannot be calibrated: "
                         "are the weights whole? (convert tells where NaN and Inf are)",
                         name);
        else
            done = factor_of(h, pool, minus);
    we_free(minus);
    if (!st && !done) st = we_fail(err, WE_E_INTERNAL, "%s: its inputs' covariance has no factor", name);
    for (size_t i = 0; !st && i < n; i++)
        for (size_t j = 0; j < n; j++) h->group_sums[i * groups + j / (size_t)group_size] += h->h[i * n + j];
    return st;
}

/* ---- Sixteen rows ---- */

typedef struct block { /* a thread's; [cols] lanes where nothing else is said */
    const we_hessian *h;
    we_quant quant;
    we_dtype dtype;
    size_t cols, groups;
    lanes *w, *q, *e, *g, *v; /* weights, codes, error of the product's factor, H e, scratch */
    lanes *scale, *bias;      /* [groups] */
    lanes *kept;              /* [2 groups] */
    lanes *normal;            /* [2 groups, 2 groups], of the least squares */
    double *solve;            /* [2 groups, 2 groups + 1] */
} block;

static float store_float(we_dtype dtype, float f)
{
    if (dtype == WE_F16) return we_f16_to_f32(we_f32_to_f16(f));
    if (dtype == WE_BF16) return we_bf16_to_f32(we_f32_to_bf16(f));
    return f;
}

static void round_all(we_dtype dtype, lanes *x)
{
    for (int r = 0; r < LANES; r++) (*x)[r] = store_float(dtype, (*x)[r]);
}

/* The nearest codes: cut to the range first, where adding 1.5 * 2^23 leaves a whole number. NaN gives 0. */
static inline void to_codes(const lanes *x, const lanes *inverse, const lanes *bias, float most, lanes *out)
{
    const lanes zero = { 0 }, top = zero + most;
    lanes c = (*x - *bias) * *inverse;
    c = WHERE(c > zero, c, zero);
    c = WHERE(c < top, c, top);
    *out = (c + 12582912.0F) - 12582912.0F;
}

typedef struct grid {
    lanes scale, bias, error;
} grid;

/* Round with this grid; where the weighted error is less than the best one's, it becomes the best. codes: out. */
static void try_grid(const block *b, const lanes *x, const float *weight, const lanes *scale, const lanes *bias,
                     grid *best, lanes *codes)
{
    const float most = (float)((1 << b->quant.bits) - 1);
    const lanes inverse = 1.0F / *scale;
    lanes error = { 0 };
    for (int i = 0; i < b->quant.group_size; i++) {
        to_codes(&x[i], &inverse, bias, most, &codes[i]);
        const lanes off = codes[i] * *scale + *bias - x[i];
        error += off * off * weight[i];
    }
    const masks better = error < best->error;
    best->error = WHERE(better, error, best->error);
    best->scale = WHERE(better, *scale, best->scale);
    best->bias = WHERE(better, *bias, best->bias);
}

/* The line through (code, weight) of the group, weighted; a group of one code keeps its scale. */
static void fit_line(const lanes *x, const lanes *codes, const float *weight, int n, lanes *scale, lanes *bias)
{
    lanes sum_q = { 0 }, sum_x = { 0 }, qq = { 0 }, qx = { 0 };
    float total = 0;
    for (int i = 0; i < n; i++) {
        total += weight[i];
        sum_q += codes[i] * weight[i];
        sum_x += x[i] * weight[i];
    }
    const lanes mean_q = sum_q / total, mean_x = sum_x / total;
    for (int i = 0; i < n; i++) {
        const lanes off = codes[i] - mean_q;
        qq += off * off * weight[i];
        qx += off * (x[i] - mean_x) * weight[i];
    }
    const lanes slope = qx / qq, zero = { 0 };
    *scale = WHERE((qq > zero) & ((slope > zero + 1e-7F) | (slope < zero - 1e-7F)), slope, *scale);
    *bias = mean_x - *scale * mean_q;
}

static void find_grid(const block *b, const lanes *x, const float *weight, lanes *scale, lanes *bias)
{
    const int n = b->quant.group_size;
    const float most = (float)((1 << b->quant.bits) - 1), least = 1e-7F;
    const lanes zero = { 0 };
    lanes low = x[0], high = x[0], codes[MAX_GROUP];
    for (int i = 1; i < n; i++) {
        low = WHERE(x[i] < low, x[i], low);
        high = WHERE(x[i] > high, x[i], high);
    }
    grid best = { zero + least, low, zero + INFINITY };
    for (int step = 0; step < GRID_STEPS; step++) {
        const float part = 1 - (1 - GRID_LEAST) * (float)step / (GRID_STEPS - 1);
        lanes s = (high - low) * (part / most);
        s = WHERE(s > zero + least, s, zero + least);
        round_all(b->dtype, &s);
        lanes o = (low + high) * 0.5F - s * (most * 0.5F);
        round_all(b->dtype, &o);
        try_grid(b, x, weight, &s, &o, &best, codes);
        fit_line(x, codes, weight, n, &s, &o);
        round_all(b->dtype, &s);
        round_all(b->dtype, &o);
        try_grid(b, x, weight, &s, &o, &best, codes);
    }
    *scale = best.scale;
    *bias = best.bias;
}

/* Steps 1 and 2. */
static void code_left_to_right(block *b)
{
    const size_t n = b->cols, size = (size_t)b->quant.group_size;
    const float most = (float)((1 << b->quant.bits) - 1);
    for (size_t group = 0; group < b->groups; group++) {
        const size_t first = group * size;
        lanes *target = b->v + first;
        memset(target, 0, size * sizeof *target);
        add_products((float *)target, LANES, b->h->factor + first * n, n, b->e, size, first);
        for (size_t j = 0; j < size; j++) target[j] = b->w[first + j] - target[j];
        find_grid(b, target, b->h->weight + first, &b->scale[group], &b->bias[group]);
        const lanes scale = b->scale[group], inverse = 1.0F / scale, bias = b->bias[group];
        for (size_t j = 0; j < size; j++) {
            const float *factor = b->h->factor + (first + j) * n + first;
            lanes aim = target[j];
            for (size_t i = 0; i < j; i++) aim -= factor[i] * b->e[first + i];
            to_codes(&aim, &inverse, &bias, most, &b->q[first + j]);
            b->e[first + j] = b->q[first + j] * scale + bias - b->w[first + j];
        }
    }
}

/* e from codes, scales and biases, and g = H e. */
static void find_errors(block *b)
{
    for (size_t i = 0; i < b->cols; i++) {
        const size_t group = i / (size_t)b->quant.group_size;
        b->e[i] = b->q[i] * b->scale[group] + b->bias[group] - b->w[i];
    }
    memset(b->g, 0, b->cols * sizeof *b->g);
    add_products((float *)b->g, LANES, b->h->h, b->cols, b->e, b->cols, b->cols);
}

static void error_of(const block *b, lanes *sum) /* e^T H e */
{
    *sum = (lanes){ 0 };
    for (size_t i = 0; i < b->cols; i++) *sum += b->e[i] * b->g[i];
}

/* (A + ridge) x = y for one lane by Cholesky; x over y. a: [n, n + 1], y the last column. False: not positive. */
static bool solve(double *a, size_t n)
{
    const size_t stride = n + 1;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * stride + j];
            for (size_t k = 0; k < j; k++) sum -= a[i * stride + k] * a[j * stride + k];
            if (i == j && !(sum > 0)) return false;
            a[i * stride + j] = i == j ? sqrt(sum) : sum / a[j * stride + j];
        }
        double y = a[i * stride + n];
        for (size_t k = 0; k < i; k++) y -= a[i * stride + k] * a[k * stride + n];
        a[i * stride + n] = y / a[i * stride + i];
    }
    for (size_t i = n; i-- > 0;) {
        double x = a[i * stride + n];
        for (size_t k = i + 1; k < n; k++) x -= a[k * stride + i] * a[k * stride + n];
        a[i * stride + n] = x / a[i * stride + i];
    }
    return true;
}

/* D^T H D, where D's first columns hold a group's codes (about their middle, which keeps them apart from the others), its
 * last ones hold 1 in a group's rows. The lower triangle. */
static void normal_equations(block *b, float middle)
{
    const size_t n = b->cols, groups = b->groups, size = (size_t)b->quant.group_size, width = 2 * groups;
    lanes *m = b->normal, *centred = b->e;
    for (size_t i = 0; i < n; i++) centred[i] = b->q[i] - middle;
    memset(m, 0, width * width * sizeof *m);
    for (size_t k = 0; k < groups; k++) {
        memset(b->v + k * size, 0, (n - k * size) * sizeof *b->v);
        add_products((float *)(b->v + k * size), LANES, b->h->h + k * size * n + k * size, n, centred + k * size,
                     n - k * size, size);
        for (size_t i = k * size; i < n; i++) m[(i / size) * width + k] += b->v[i] * centred[i];
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < groups; k++) {
            const float sum = b->h->group_sums[i * groups + k];
            m[(groups + k) * width + i / size] += sum * centred[i];
            if (k <= i / size) m[(groups + i / size) * width + groups + k] += sum;
        }
}

/* Step 3: corrections of all scales and biases of a row at once. */
static void fit_scales(block *b)
{
    const size_t groups = b->groups, size = (size_t)b->quant.group_size, width = 2 * groups, stride = width + 1;
    const float middle = (float)((1 << b->quant.bits) - 1) * 0.5F;
    normal_equations(b, middle); /* writes over e; g stays */
    for (int r = 0; r < LANES; r++) {
        double *a = b->solve;
        for (size_t i = 0; i < width; i++) {
            for (size_t j = 0; j <= i; j++) a[i * stride + j] = (double)b->normal[i * width + j][r];
            a[i * stride + i] += RIDGE * a[i * stride + i] + 1e-20;
            a[i * stride + width] = 0;
        }
        for (size_t i = 0; i < b->cols; i++) {
            const double g = (double)b->g[i][r];
            a[(i / size) * stride + width] -= g * (double)(b->q[i][r] - middle);
            a[(groups + i / size) * stride + width] -= g;
        }
        if (!solve(a, width)) continue;
        for (size_t k = 0; k < groups; k++) {
            const double by = a[k * stride + width], off = a[(groups + k) * stride + width];
            const float scale = store_float(b->dtype, (float)((double)b->scale[k][r] + by));
            const float bias = store_float(b->dtype, (float)((double)b->bias[k][r] + off - by * (double)middle));
            if (!isfinite(scale) || !isfinite(bias) || scale == 0) continue;
            b->scale[k][r] = scale;
            b->bias[k][r] = bias;
        }
    }
}

/* Step 4. g follows each change: inside the group at once, elsewhere when the group is done. */
static void code_one_by_one(block *b)
{
    const size_t n = b->cols, size = (size_t)b->quant.group_size;
    const float most = (float)((1 << b->quant.bits) - 1);
    lanes change[MAX_GROUP];
    for (size_t group = 0; group < b->groups; group++) {
        const size_t first = group * size;
        const lanes scale = b->scale[group], inverse = 1.0F / scale, bias = b->bias[group];
        for (size_t j = first; j < first + size; j++) {
            const float *h = b->h->h + j * n;
            const lanes aim = b->q[j] * scale + bias - b->g[j] / h[j];
            lanes code;
            to_codes(&aim, &inverse, &bias, most, &code);
            const lanes off = (code - b->q[j]) * scale;
            b->q[j] = code;
            b->e[j] += off;
            change[j - first] = off;
            add_products((float *)(b->g + first), LANES, h + first, 1, &off, size, 1);
        }
        add_products((float *)b->g, LANES, b->h->h + first, n, change, first, size);
        add_products((float *)(b->g + first + size), LANES, b->h->h + (first + size) * n + first, n, change,
                     n - first - size, size);
    }
}

/* Where the rounding of scales to their type outweighs what step 3 gains, a row keeps those it had. */
static void refine_block(block *b)
{
    lanes before, after;
    code_left_to_right(b);
    find_errors(b);
    error_of(b, &before);
    memcpy(b->kept, b->scale, b->groups * sizeof(lanes));
    memcpy(b->kept + b->groups, b->bias, b->groups * sizeof(lanes));
    fit_scales(b);
    find_errors(b);
    error_of(b, &after);
    const masks better = after < before;
    bool all_better = true;
    for (int r = 0; r < LANES; r++) all_better &= better[r] != 0;
    if (!all_better) {
        for (size_t k = 0; k < b->groups; k++) {
            b->scale[k] = WHERE(better, b->scale[k], b->kept[k]);
            b->bias[k] = WHERE(better, b->bias[k], b->kept[b->groups + k]);
        }
        find_errors(b);
    }
    code_one_by_one(b);
}

/* ---- A matrix ---- */

struct we_refiner {
    we_pool *pool;
    const we_hessian *h;
    we_quant quant;
    we_dtype dtype;
    block *blocks;  /* a thread's each */
    uint8_t *codes; /* [cols] for each thread */
    /* of the call that runs */
    const float *rows;
    int64_t n_rows;
    uint8_t *data, *scales, *biases;
};

static void block_deinit(block *b)
{
    lanes *const all[] = { b->w, b->q, b->e, b->g, b->v, b->scale, b->bias, b->kept, b->normal };
    for (size_t i = 0; i < WE_COUNT(all); i++) we_free(all[i]);
    we_free(b->solve);
}

static bool block_init(block *b, const we_refiner *r)
{
    *b = (block){ .h = r->h, .quant = r->quant, .dtype = r->dtype, .cols = (size_t)r->h->n };
    b->groups = b->cols / (size_t)r->quant.group_size;
    const size_t width = 2 * b->groups;
    const struct {
        lanes **to;
        size_t n;
    } all[] = { { &b->w, b->cols },      { &b->q, b->cols },  { &b->e, b->cols },
                { &b->g, b->cols },      { &b->v, b->cols },  { &b->scale, b->groups },
                { &b->bias, b->groups }, { &b->kept, width }, { &b->normal, width * width } };
    for (size_t i = 0; i < WE_COUNT(all); i++)
        if (!(*all[i].to = we_malloc_aligned(sizeof(lanes), all[i].n * sizeof(lanes)))) return false;
    return (b->solve = we_malloc(width * (width + 1) * sizeof(double))) != NULL;
}

we_refiner *we_refiner_new(we_pool *pool, const we_hessian *h, we_quant quant, we_dtype dtype)
{
    assert(quant.mode == WE_QUANT_AFFINE && we_quant_valid(quant) && quant.group_size == h->group_size);
    const size_t n_threads = (size_t)we_pool_threads(pool);
    we_refiner *r = we_calloc(1, sizeof *r);
    if (!r) return NULL;
    *r = (we_refiner){ .pool = pool, .h = h, .quant = quant, .dtype = dtype };
    r->blocks = we_calloc(n_threads, sizeof *r->blocks);
    r->codes = we_malloc(n_threads * (size_t)h->n);
    bool ok = r->blocks && r->codes;
    for (size_t i = 0; i < n_threads && ok; i++) ok = block_init(&r->blocks[i], r);
    if (ok) return r;
    we_refiner_free(r);
    return NULL;
}

void we_refiner_free(we_refiner *r)
{
    if (!r) return;
    for (int i = 0; r->blocks && i < we_pool_threads(r->pool); i++) block_deinit(&r->blocks[i]);
    we_free(r->blocks);
    we_free(r->codes);
    we_free(r);
}

static void put_float(we_dtype dtype, float f, uint8_t *out)
{
    const uint16_t half = dtype == WE_F16 ? we_f32_to_f16(f) : we_f32_to_bf16(f);
    if (dtype == WE_F32)
        memcpy(out, &f, sizeof f);
    else
        memcpy(out, &half, sizeof half);
}

/* One lane of a finished block to a packed row. */
static void put_row(const we_refiner *r, const block *b, int lane, int64_t row, uint8_t *codes)
{
    const size_t float_bytes = we_dtype_size(r->dtype), row_bytes = b->cols * (size_t)r->quant.bits / 8;
    for (size_t i = 0; i < b->cols; i++) codes[i] = (uint8_t)b->q[i][lane];
    we_quant_pack_row(r->quant.bits, codes, (int64_t)b->cols, r->data + (size_t)row * row_bytes);
    for (size_t k = 0; k < b->groups; k++) {
        const size_t at = ((size_t)row * b->groups + k) * float_bytes;
        put_float(r->dtype, b->scale[k][lane], r->scales + at);
        put_float(r->dtype, b->bias[k][lane], r->biases + at);
    }
}

static void refine_piece(void *arg, size_t piece, int thread)
{
    const we_refiner *r = arg;
    block *b = &r->blocks[thread];
    const int64_t first = (int64_t)piece * LANES;
    const int n = (int)WE_MIN(LANES, r->n_rows - first);
    for (size_t i = 0; i < b->cols; i++)
        for (int lane = 0; lane < LANES; lane++) /* the last row again where there are fewer than sixteen */
            b->w[i][lane] = r->rows[(size_t)(first + WE_MIN(lane, n - 1)) * b->cols + i];
    refine_block(b);
    for (int lane = 0; lane < n; lane++) put_row(r, b, lane, first + lane, r->codes + (size_t)thread * b->cols);
}

void we_refiner_run(we_refiner *r, const float *rows, int64_t n_rows, uint8_t *data, uint8_t *scales, uint8_t *biases)
{
    r->rows = rows;
    r->n_rows = n_rows;
    r->data = data;
    r->scales = scales;
    r->biases = biases;
    for_pieces(r->pool, (size_t)((n_rows + LANES - 1) / LANES), refine_piece, r);
}
