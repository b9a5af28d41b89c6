/* SPDX-License-Identifier: Apache-2.0
 * kernels.c - how fast products with weights run, next to what this machine could do in the same run: the bandwidth of
 * reading memory, on all threads. Weights are larger than the caches together, as a model's are.
 *
 *     bench/kernels [--kernels NAME] [--threads N] [--rows R] [--cols C] [--bits B] [--tokens T] */
#include "device/cpu/cpu_int.h"

#include <stdio.h>
#include <stdlib.h>

#define MATRICES_MB 512
#define SECONDS 0.7

typedef struct read_job {
    const uint64_t *words;
    int64_t n;
    _Atomic uint64_t sink;
} read_job;

static void read_words(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    read_job *job = arg;
    uint64_t s[8] = { 0 };
    for (int64_t i = begin; i + 8 <= end; i += 8)
        for (int j = 0; j < 8; j++) s[j] += job->words[i + j];
    atomic_fetch_add(&job->sink, s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7]);
}

static double read_bandwidth(we_cpu *d, const uint8_t *bytes, size_t n)
{
    read_job job = { .words = (const uint64_t *)(const void *)bytes, .n = (int64_t)(n / 8) };
    double best = 0;
    for (int i = 0; i < 5; i++) {
        const double start = we_now_s();
        we_cpu_for(d, job.n, 1 << 16, read_words, &job);
        best = WE_MAX(best, (double)n / (we_now_s() - start));
    }
    return best;
}

static void fill(uint8_t *bytes, size_t n, unsigned seed)
{
    uint32_t state = seed;
    for (size_t i = 0; i + 4 <= n; i += 4) {
        state = state * 1664525u + 1013904223u;
        memcpy(bytes + i, &state, 4);
    }
}

static void fail(const char *what)
{
    fprintf(stderr, "kernels: %s\n", what);
    exit(1);
}

/* tokens/s and bytes/s of one packing for n tokens: each product reads the next of several matrices. */
static void measure(we_device *device, we_quant quant, we_dtype dtype, int64_t rows, int64_t cols, uint8_t *bytes,
                    size_t n_bytes, int n, double bandwidth)
{
    we_cpu *d = we_cpu_of(device);
    we_matrix shape = { .rows = rows, .cols = cols, .quant = quant, .dtype = dtype };
    const size_t codes = (size_t)rows * we_matrix_row_bytes(&shape);
    const size_t scales = quant.mode ? (size_t)rows * we_matrix_row_scale_bytes(&shape) : 0;
    const size_t each = codes + 2 * scales;
    const int n_matrices = (int)WE_MIN(n_bytes / each, 64);
    we_tensor *w[64], *x, *y;
    we_error err;
    for (int i = 0; i < n_matrices; i++) {
        we_matrix m = shape;
        m.data = bytes + (size_t)i * each;
        m.scales = m.data + codes;
        m.biases = quant.mode == WE_QUANT_AFFINE ? m.scales + scales : NULL;
        if (device->ops->weight_new(device, &m, &w[i], &err)) fail(err.message);
    }
    if (device->ops->tensor_new(device, n, cols, &x, &err) || device->ops->tensor_new(device, n, rows, &y, &err))
        fail(err.message);
    x->rows = n;
    for (int64_t i = 0; i < n * cols; i++) x->f[i] = (float)(i % 17) - 8.0f;

    const we_span span = { .n = n };
    const we_batch batch = { .spans = &span, .n_spans = 1, .n_rows = n };
    device->ops->begin(device, &batch);
    double best = 0;
    const double end = we_now_s() + SECONDS;
    do {
        const double start = we_now_s();
        for (int i = 0; i < n_matrices; i++) {
            const we_linear l = { .out = y, .weight = w[i] };
            device->ops->linear(device, &l, 1, x);
        }
        best = WE_MAX(best, (double)n_matrices / (we_now_s() - start));
    } while (we_now_s() < end);
    if (device->ops->end(device, &err)) fail(err.message);
    const double bytes_s = best * (double)each, macs_s = best * (double)rows * (double)cols * n;
    printf("%-8s %d bit /%-3d %4d tokens  %7.2f GB/s  %3.0f%% of reading  %8.1f GMAC/s\n",
           quant.mode ? we_quant_mode_name(quant.mode) : we_dtype_name(dtype),
           quant.mode ? quant.bits : 8 * (int)we_dtype_size(dtype), quant.group_size, n, bytes_s / 1e9,
           100 * bytes_s / bandwidth, macs_s / 1e9);
    fflush(stdout);
    for (int i = 0; i < n_matrices; i++) device->ops->tensor_free(device, w[i]);
    device->ops->tensor_free(device, x);
    device->ops->tensor_free(device, y);
    (void)d;
}

int main(int argc, char **argv)
{
    we_device_options options = { 0 };
    int64_t rows = 8192, cols = 2048;
    int only_bits = 0, only_tokens = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--kernels"))
            options.kernels = argv[i + 1];
        else if (!strcmp(argv[i], "--threads"))
            options.threads = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--rows"))
            rows = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--cols"))
            cols = atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--bits"))
            only_bits = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--tokens"))
            only_tokens = atoi(argv[i + 1]);
        else
            fail("unknown option");
    }
    we_device *device;
    we_error err;
    if (we_device_open(&device, &options, &err)) fail(err.message);
    const size_t n_bytes = (size_t)MATRICES_MB << 20;
    uint8_t *bytes = we_malloc_aligned(64, n_bytes);
    if (!bytes) fail("no memory");
    fill(bytes, n_bytes, 1);
    const double bandwidth = read_bandwidth(we_cpu_of(device), bytes, n_bytes);
    printf("kernels %s, %d threads, matrices of %lld x %lld; reading memory: %.1f GB/s\n", device->kernels,
           device->n_threads, (long long)rows, (long long)cols, bandwidth / 1e9);

    static const struct {
        we_quant quant;
        we_dtype dtype;
    } kinds[] = {
        { { WE_QUANT_AFFINE, 4, 64 }, WE_BF16 },
        { { WE_QUANT_AFFINE, 8, 64 }, WE_BF16 },
        { { WE_QUANT_AFFINE, 4, 32 }, WE_F16 },
        { { WE_QUANT_AFFINE, 2, 64 }, WE_BF16 },
        { { WE_QUANT_AFFINE, 3, 64 }, WE_BF16 },
        { { WE_QUANT_AFFINE, 5, 64 }, WE_BF16 },
        { { WE_QUANT_AFFINE, 6, 64 }, WE_BF16 },
        { { WE_QUANT_MXFP4, 4, 32 }, WE_BF16 },
        { { WE_QUANT_NVFP4, 4, 16 }, WE_BF16 },
        { { WE_QUANT_MXFP8, 8, 32 }, WE_BF16 },
        { { 0 }, WE_BF16 },
        { { 0 }, WE_F16 },
    };
    static const int tokens[] = { 1, 2, 4, 8, 128, 256, 512 };
    for (size_t k = 0; k < WE_COUNT(kinds); k++)
        for (size_t t = 0; t < WE_COUNT(tokens); t++) {
            const int bits = kinds[k].quant.mode ? kinds[k].quant.bits : 8 * (int)we_dtype_size(kinds[k].dtype);
            if (only_bits && bits != only_bits) continue;
            if (only_tokens && t) continue;
            const int n = only_tokens ? only_tokens : tokens[t];
            measure(device, kinds[k].quant, kinds[k].dtype, rows, cols, bytes, n > 64 ? n_bytes / 16 : n_bytes, n,
                    bandwidth);
        }
    we_free(bytes);
    we_device_close(device);
    return 0;
}
