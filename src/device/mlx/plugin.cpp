/* SPDX-License-Identifier: Apache-2.0
 * plugin.cpp - the op set over Apple's MLX: the one C++ file of the tree, since MLX's library is C++. Built as a plugin, so that
 * the program runs without MLX; mlx.c opens it.
 *
 * MLX is lazy: an op here only adds to a graph. end() hands to MLX what outlives a step (drawn tokens, the caches) and does not
 * wait; read() waits for the one tensor that it shows. So the next step can be built while this one runs (device.h,
 * runs_behind). Handles are ours, arrays are MLX's values with counted references: an op in place gives its handle another array.
 *
 * Activations have the type of the embeddings (bfloat16 for most models); a precise step makes them float32 there, and MLX's
 * rules of promotion carry that through every op. Caches are one array for each layer, [1, heads, capacity, head_dim], written
 * in place by slice_update, which MLX does without a copy as long as nobody else holds the array.
 *
 * Nothing thrown crosses the border to C: inside a step it sticks in `error`, elsewhere it becomes the status returned.
 *
 * Not compiled (mlx::core::compile) but for the gates: a step's replay took as long as building it anew, and a cache whose length
 * is an input costs more kernels than it saves (docs/performance.md).
 *
 * In this order: what a handle holds; errors; arrays; weights; handles; caches; a step's begin and end; its ops: embedding and
 * products, norms and rotation, attention, gates and rows, sampling; memory; opening and closing.
 * Meaning of every op: cpu/ref.c. Checked against mlx_lm/models and mlx_lm/sample_utils.py. */
#include <atomic>
#define _Atomic /* counters that only the host's functions touch */
#include "device/mlx/plugin.h"
#undef _Atomic

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <mlx/backend/cuda/cuda.h>
#include <mlx/backend/metal/metal.h>
#include <mlx/mlx.h>
#include <mlx/version.h>

namespace mx = mlx::core;
using mx::array;
using mx::Shape;

#define KV_STEP 256    /* positions by which a cache grows */
#define STEP_ROWS 2048 /* of a prompt at once, as mlx-lm has it */

namespace {

struct failure { /* our own checks, thrown inside an op */
    we_status status;
    std::string text;
};

/* How a tensor's array lies: rows by columns, or with heads apart, as norms per head, rotation and attention want it. */
enum form { FLAT, SPLIT /* [1, rows, heads, head_dim] */, HEADS /* [1, heads, rows, head_dim] */ };

struct shifted { /* a norm's weight as its op wants it */
    float offset;
    mx::Dtype dtype;
    array values;
};

/* Weights that read the same rows, behind each other in one matrix. */
struct joined {
    int n;
    array a;
    std::optional<array> scales, biases;
};

struct mask {
    int64_t position, n, first;
    int window;
    array values;
};

} // namespace

struct we_tensor {
    enum { WEIGHT, FLOATS, IDS } kind;
    int64_t rows, cols, max_rows;
    std::optional<array> a; /* FLOATS, IDS: nothing until written; WEIGHT: values or codes, once fetched */
    form lies = FLAT;
    std::optional<array> shown; /* what read() points into */

    we_matrix matrix = {}; /* WEIGHT: bytes are the caller's, and read once */
    std::optional<array> scales, biases;
    const char *mode = nullptr; /* NULL: plain */
    int bits = 0, group_size = 0;
    std::vector<shifted> norms;
    std::shared_ptr<joined>
        all; /* NULL, or where this weight is number `place`; its own arrays are views of its part */
    int place = 0;

    std::vector<int32_t> host; /* IDS that write_ids gave: they are checked */
    bool from_host = false;
};

struct we_rope {
    int dims;
    bool interleaved;
    float scale;
    array freqs; /* MLX wants 1 / inv_freq */
};

namespace {

struct kv_layer {
    we_kv_layer shape;
    int64_t first = 0, capacity = 0; /* positions [first, first + capacity) have room */
    std::vector<array> k, v;         /* one array, or codes, scales and biases; none until the first append */
};

} // namespace

struct we_kv {
    int bits;
    we_budget *budget;
    std::vector<kv_layer> layers;
};

namespace {

struct device {
    device(const we_mlx_host *h, mx::Stream s, bool on_gpu) : host(h), stream(s), gpu(on_gpu) {}
    we_device base = {}; /* first */
    const we_mlx_host *host;
    mx::Stream stream; /* made once for the process */
    bool gpu;
    bool hopper = false;       /* a CUDA device whose own quantized product is not to be used (product()) */
    std::recursive_mutex lock; /* held from begin to end, and by whatever touches arrays */
    const we_batch *batch = nullptr;
    we_error error = {};
    std::vector<we_tensor *> written; /* in this step, to be forgotten if nobody asked for them before the next */
    std::vector<we_tensor *> drawn;
    std::vector<mask> masks;
    std::optional<array> positions; /* of a batch of single tokens */
    size_t old_memory_limit = 0, old_cache_limit = 0;
    bool limited = false;
    std::string kernels, detail;
    std::function<std::vector<array>(const std::vector<array> &)> glu[3];
};

device *of(we_device *d) { return reinterpret_cast<device *>(d); }

/* ---- Errors ---- */

we_status status_of(const std::string &text)
{
    for (const char *word : { "allocate", "malloc", "out of memory", "OutOfMemory", "memory limit" })
        if (text.find(word) != std::string::npos) return WE_E_NOMEM;
    return WE_E_DEVICE;
}

/* Run `body`; what it throws becomes a status. */
template <typename F> we_status guarded(const we_mlx_host *host, we_error *err, const char *what, F &&body)
{
    try {
        body();
        return WE_OK;
    } catch (const failure &f) {
        return host->fail(err, f.status, "%s", f.text.c_str());
    } catch (const std::bad_alloc &) {
        return host->fail(err, WE_E_NOMEM, "%s: no memory (MLX)", what);
    } catch (const std::exception &e) {
        return host->fail(err, status_of(e.what()), "%s: MLX: %s", what, e.what());
    } catch (...) {
        return host->fail(err, WE_E_DEVICE, "%s: MLX failed without a word", what);
    }
}

/* An op of a step: nothing after the first failure. */
template <typename F> void op(we_device *base, const char *name, F &&body)
{
    device *d = of(base);
    if (d->error.status == WE_OK) guarded(d->host, &d->error, name, [&] { body(*d); });
}

[[noreturn]] void misfit(const char *op_name, const we_tensor *t, int64_t rows, int64_t cols)
{
    throw failure{ WE_E_INTERNAL, std::string(op_name) + ": a tensor of " + std::to_string(t->max_rows) + " x " +
                                      std::to_string(t->cols) + " can't take " + std::to_string(rows) + " x " +
                                      std::to_string(cols) };
}

/* ---- Arrays ---- */

int i32(int64_t n) { return static_cast<int>(n); }

mx::Dtype dtype_of(we_dtype t)
{
    switch (t) {
    case WE_F32: return mx::float32;
    case WE_F16: return mx::float16;
    case WE_BF16: return mx::bfloat16;
    default: return mx::uint8;
    }
}

/* MLX's CPU allocator gives nothing where the others throw, and counts it all the same. */
std::atomic<uint64_t> never_got{ 0 };

/* An array whose bytes `fill` writes: nothing lies between the file and MLX's memory. */
template <typename F> array filled(Shape shape, mx::Dtype dtype, F &&fill)
{
    size_t n = mx::size_of(dtype);
    for (const auto dim : shape) n *= static_cast<size_t>(dim);
    mx::allocator::Data data = mx::allocator::malloc(n);
    mx::allocator::Buffer buffer = data.buffer();
    if (!buffer.ptr() && n) {
        never_got += n;
        throw failure{ WE_E_NOMEM, "MLX could not allocate " + std::to_string(n) + " bytes" };
    }
    fill(buffer.raw_ptr(), n);
    return array(std::move(data), std::move(shape), dtype);
}

/* The one copy that weights get. Not the mapped file itself, which Metal could take as a buffer: it wants a tensor's bytes aligned,
 * and MLX's own writer puts them at any address (its header has no padding). */
array copy_of(const void *bytes, Shape shape, mx::Dtype dtype)
{
    return filled(std::move(shape), dtype, [&](void *to, size_t n) { std::memcpy(to, bytes, n); });
}

array as(const device &d, const array &a, mx::Dtype dtype)
{
    return a.dtype() == dtype ? a : mx::astype(a, dtype, d.stream);
}

const array &value(const we_tensor *t, const char *op_name)
{
    if (!t->a) throw failure{ WE_E_INTERNAL, std::string(op_name) + ": reads a tensor that nothing was written to" };
    return *t->a;
}

/* The tensor's array in one of the three forms; kept, since the next op mostly wants the same. */
const array &shaped(device &d, const we_tensor *constant, form want, int64_t heads, int64_t width, const char *op_name)
{
    we_tensor *t = const_cast<we_tensor *>(constant);
    const array &a = value(t, op_name);
    if (t->lies == want && (want == FLAT || a.shape(3) == width)) return a;
    array out = a;
    if (t->lies == HEADS) out = mx::transpose(out, { 0, 2, 1, 3 }, d.stream);
    if (want == FLAT)
        out = mx::reshape(out, { i32(t->rows), i32(t->cols) }, d.stream);
    else
        out = mx::reshape(out, { 1, i32(t->rows), i32(heads), i32(width) }, d.stream);
    if (want == HEADS) out = mx::transpose(out, { 0, 2, 1, 3 }, d.stream);
    t->a = out;
    t->lies = want;
    return *t->a;
}
const array &flat(device &d, const we_tensor *t, const char *op_name) { return shaped(d, t, FLAT, 0, 0, op_name); }

void put(device &d, we_tensor *t, array a, int64_t rows, form lies = FLAT)
{
    t->a = std::move(a);
    t->rows = rows;
    t->lies = lies;
    d.written.push_back(t);
}

void check_out(const we_tensor *out, int64_t rows, int64_t cols, const char *op_name)
{
    if (out->kind != we_tensor::FLOATS || rows > out->max_rows || cols != out->cols) misfit(op_name, out, rows, cols);
}

/* Rows [first, first + n) of a [1, heads, rows, width]. */
array rows_of(const device &d, const array &a, int64_t first, int64_t n)
{
    if (first == 0 && n == a.shape(2)) return a;
    return mx::slice(a, { 0, 0, i32(first), 0 }, { a.shape(0), a.shape(1), i32(first + n), a.shape(3) }, d.stream);
}

/* ---- Weights ---- */

/* Blocks narrower than MLX's groups become plain values. */
array plain_ggml(device &d, const we_matrix &m, mx::Dtype dtype)
{
    const size_t cols = static_cast<size_t>(m.cols);
    std::vector<float> row(cols);
    return filled({ i32(m.rows), i32(m.cols) }, dtype, [&](void *to, size_t) {
        for (int64_t r = 0; r < m.rows; r++) {
            const size_t at = static_cast<size_t>(r) * cols;
            d.host->row_f32(&m, r, row.data());
            if (dtype == mx::float32)
                std::copy(row.begin(), row.end(), static_cast<float *>(to) + at);
            else
                std::transform(row.begin(), row.end(), static_cast<uint16_t *>(to) + at, d.host->f32_to_bf16);
        }
    });
}

/* Codes one behind the other, as MLX has them: those of 5 bits cross words. */
void pack(const std::vector<uint8_t> &codes, int bits, uint32_t *words)
{
    const unsigned width = static_cast<unsigned>(bits);
    uint64_t left = 0;
    unsigned n = 0;
    for (const uint8_t code : codes) {
        left |= static_cast<uint64_t>(code) << n;
        if ((n += width) < 32) continue;
        *words++ = static_cast<uint32_t>(left);
        left >>= 32;
        n -= 32;
    }
}

int ggml_bits(we_dtype t)
{
    switch (t) {
    case WE_GGML_Q4_0:
    case WE_GGML_Q4_1:
    case WE_GGML_Q4_K: return 4;
    case WE_GGML_Q5_0:
    case WE_GGML_Q5_1:
    case WE_GGML_Q5_K: return 5;
    default: return 8;
    }
}

/* ggml's blocks: groups of 32 are MLX's affine packing under another roof. The scales are float32 where the step will be
 * precise, else bfloat16, as everything else is then. */
void fetch_ggml(device &d, we_tensor *t, bool precise)
{
    const we_matrix &m = t->matrix;
    const mx::Dtype dtype = precise ? mx::float32 : mx::bfloat16;
    if (d.host->ggml_group(m.dtype) != 32) {
        t->a = plain_ggml(d, m, dtype);
        return;
    }
    const size_t rows = static_cast<size_t>(m.rows), cols = static_cast<size_t>(m.cols), groups = cols / 32;
    const float zero = static_cast<float>(d.host->ggml_zero(m.dtype));
    const int bits = ggml_bits(m.dtype);
    const size_t words = cols * static_cast<size_t>(bits) / 32;
    std::vector<float> scales(rows * groups), biases(rows * groups);
    std::vector<uint8_t> codes(cols);
    t->a = filled({ i32(m.rows), i32(static_cast<int64_t>(words)) }, mx::uint32, [&](void *to, size_t) {
        for (size_t r = 0; r < rows; r++) {
            float *scale = &scales[r * groups], *bias = &biases[r * groups];
            d.host->ggml_unpack_row(&m, static_cast<int64_t>(r), codes.data(), scale, bias);
            for (size_t g = 0; g < groups; g++) bias[g] = -scale[g] * zero - bias[g];
            pack(codes, bits, static_cast<uint32_t *>(to) + r * words);
        }
    });
    const Shape shape = { i32(m.rows), i32(static_cast<int64_t>(groups)) };
    t->scales = as(d, copy_of(scales.data(), shape, mx::float32), dtype);
    t->biases = as(d, copy_of(biases.data(), shape, mx::float32), dtype);
    mx::eval(*t->scales, *t->biases);
    t->mode = "affine";
    t->bits = bits;
    t->group_size = 32;
}

void fetch(device &d, we_tensor *t, bool precise)
{
    if (t->a) return;
    const we_matrix &m = t->matrix;
    static const char *const modes[] = { nullptr, "affine", "mxfp4", "mxfp8", "nvfp4" };
    if (m.quant.mode == WE_QUANT_GGML) return fetch_ggml(d, t, precise);
    if (m.quant.mode == WE_QUANT_NONE) {
        t->a =
            copy_of(m.data, m.rows == 1 ? Shape{ i32(m.cols) } : Shape{ i32(m.rows), i32(m.cols) }, dtype_of(m.dtype));
        return;
    }
    const int64_t words = m.cols * m.quant.bits / 32, groups = m.cols / m.quant.group_size;
    const bool affine = m.quant.mode == WE_QUANT_AFFINE;
    const Shape shape = { i32(m.rows), i32(groups) };
    t->scales = copy_of(m.scales, shape, affine ? dtype_of(m.dtype) : mx::uint8);
    if (affine) t->biases = copy_of(m.biases, shape, dtype_of(m.dtype));
    t->mode = modes[m.quant.mode];
    t->bits = m.quant.bits;
    t->group_size = m.quant.group_size;
    t->a = copy_of(m.data, { i32(m.rows), i32(words) }, mx::uint32);
}

we_tensor *weight(device &d, const we_tensor *constant)
{
    we_tensor *t = const_cast<we_tensor *>(constant);
    fetch(d, t, d.batch && d.batch->precise);
    return t;
}

/* A vector in the activations' type, plus `offset`. */
const array &vector_of(device &d, const we_tensor *constant, float offset, mx::Dtype dtype)
{
    we_tensor *t = weight(d, constant);
    for (const shifted &s : t->norms)
        if (s.offset == offset && s.dtype == dtype) return s.values;
    array v = mx::reshape(*t->a, { -1 }, d.stream);
    if (offset != 0.0f) v = mx::add(as(d, v, mx::float32), array(offset), d.stream);
    v = as(d, v, dtype);
    mx::eval(v);
    t->norms.push_back({ offset, dtype, v });
    return t->norms.back().values;
}

/* ---- Handles ---- */

bool size_fits(int64_t rows, int64_t cols)
{
    return rows > 0 && cols > 0 && cols <= INT32_MAX && rows <= INT32_MAX && rows <= INT64_MAX / 64 / cols;
}

we_status tensor_make(we_device *base, decltype(we_tensor::kind) kind, int64_t rows, int64_t cols, we_tensor **out,
                      we_error *err)
{
    *out = nullptr;
    if (!size_fits(rows, cols))
        return of(base)->host->fail(err, WE_E_RANGE, "a tensor can't be %lld x %lld", static_cast<long long>(rows),
                                    static_cast<long long>(cols));
    return guarded(of(base)->host, err, "a tensor", [&] {
        *out = new we_tensor();
        (*out)->kind = kind;
        (*out)->rows = 0;
        (*out)->cols = cols;
        (*out)->max_rows = rows;
    });
}

we_status weight_new(we_device *base, const we_matrix *m, we_tensor **out, we_error *err)
{
    *out = nullptr;
    const bool packed = m->quant.mode != WE_QUANT_NONE && m->quant.mode != WE_QUANT_GGML;
    if (!size_fits(m->rows, m->cols) || (m->quant.mode != WE_QUANT_NONE && m->cols % m->quant.group_size) ||
        (packed && m->cols * m->quant.bits % 32))
        return of(base)->host->fail(err, WE_E_UNSUPPORTED, "MLX can't take a weight of %lld x %lld in groups of %d",
                                    static_cast<long long>(m->rows), static_cast<long long>(m->cols),
                                    m->quant.group_size);
    const we_status st = tensor_make(base, we_tensor::WEIGHT, m->rows, m->cols, out, err);
    if (st) return st;
    (*out)->matrix = *m;
    (*out)->rows = m->rows;
    return WE_OK;
}

we_status weight_fetch(we_device *base, we_tensor *t, bool precise, we_error *err)
{
    device &d = *of(base);
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    return guarded(d.host, err, "weights", [&] { fetch(d, t, precise); });
}

we_status tensor_new(we_device *base, int64_t max_rows, int64_t cols, we_tensor **out, we_error *err)
{
    return tensor_make(base, we_tensor::FLOATS, max_rows, cols, out, err);
}
we_status ids_new(we_device *base, int64_t max_rows, we_tensor **out, we_error *err)
{
    return tensor_make(base, we_tensor::IDS, max_rows, 1, out, err);
}

void tensor_free(we_device *base, we_tensor *t)
{
    if (!t) return;
    device &d = *of(base);
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    std::erase(d.written, t);
    std::erase(d.drawn, t);
    delete t;
}

we_status rope_new(we_device *base, const float *inv_freq, int dims, bool interleaved, float scale, we_rope **out,
                   we_error *err)
{
    *out = nullptr;
    device &d = *of(base);
    if (dims < 2 || dims % 2 || dims > 65536)
        return d.host->fail(err, WE_E_ARG, "a rotary embedding can't turn %d dimensions", dims);
    return guarded(d.host, err, "a rotary embedding", [&] {
        std::vector<float> freqs(static_cast<size_t>(dims) / 2);
        for (size_t i = 0; i < freqs.size(); i++) freqs[i] = static_cast<float>(1.0 / static_cast<double>(inv_freq[i]));
        *out = new we_rope{ dims, interleaved, scale, array(freqs.begin(), { dims / 2 }, mx::float32) };
    });
}

void rope_free(we_device *base, we_rope *rope)
{
    std::lock_guard<std::recursive_mutex> guard(of(base)->lock);
    delete rope;
}

void write_ids(we_device *base, we_tensor *ids, const int32_t *values, int64_t n)
{
    std::lock_guard<std::recursive_mutex> guard(of(base)->lock);
    ids->host.assign(values, values + n);
    ids->from_host = true;
    ids->rows = n;
    ids->a.reset(); /* made where it is read */
}

const void *read(we_device *base, const we_tensor *constant, we_error *err)
{
    device &d = *of(base);
    we_tensor *t = const_cast<we_tensor *>(constant);
    const void *out = nullptr;
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    guarded(d.host, err, "a step", [&] {
        if (t->kind == we_tensor::IDS && t->from_host) {
            out = t->host.data();
            return;
        }
        if (t->kind == we_tensor::IDS) { /* begun already: no new op, which would wait behind the steps begun since */
            t->shown = value(t, "read");
            t->shown->eval();
            out = t->shown->data<int32_t>();
            return;
        }
        t->shown = mx::contiguous(as(d, flat(d, t, "read"), mx::float32), false, d.stream);
        t->shown->eval();
        out = t->shown->data<float>();
    });
    return out;
}

/* ---- Caches ---- */

int64_t rounded(int64_t n) { return (n + KV_STEP - 1) / KV_STEP * KV_STEP; }
int padded_dim(const we_kv_layer &l) { return (l.head_dim + 31) / 32 * 32; }
int kv_group(const we_kv_layer &l) { return padded_dim(l) % 64 == 0 ? 64 : 32; }

/* Keys and values of one position, with 16-bit scales and biases. */
uint64_t position_bytes(const we_kv_layer &l, int bits)
{
    const uint64_t dim = static_cast<uint64_t>(l.head_dim), padded = static_cast<uint64_t>(padded_dim(l));
    const uint64_t row =
        bits >= 16 ? dim * static_cast<uint64_t>(bits) / 8
                   : padded * static_cast<uint64_t>(bits) / 8 + padded / static_cast<uint64_t>(kv_group(l)) * 4;
    return 2 * static_cast<uint64_t>(l.n_kv_heads) * row;
}

uint64_t held(const we_kv *kv)
{
    uint64_t bytes = 0;
    for (const kv_layer &l : kv->layers) bytes += static_cast<uint64_t>(l.capacity) * position_bytes(l.shape, kv->bits);
    return bytes;
}

we_status kv_new(we_device *base, const we_kv_spec *spec, we_kv **out, we_error *err)
{
    *out = nullptr;
    device &d = *of(base);
    if (!we_kv_spec_valid(spec))
        return d.host->fail(err, WE_E_ARG, "a KV cache of %d bits and %d layers can't be laid out", spec->bits,
                            spec->n_layers);
    return guarded(d.host, err, "a KV cache", [&] {
        we_kv *kv = new we_kv{ spec->bits, &d.base.budget, {} };
        *out = kv;
        kv->layers.resize(static_cast<size_t>(spec->n_layers));
        for (size_t i = 0; i < kv->layers.size(); i++) kv->layers[i].shape = spec->layers[i];
    });
}

void kv_free(we_device *base, we_kv *kv)
{
    if (!kv) return;
    device &d = *of(base);
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    d.host->budget_give(kv->budget, held(kv));
    delete kv;
}

/* Positions [first, length) stay, and there will be room for `capacity` from `first` on. */
void resize(const device &d, std::vector<array> &arrays, const kv_layer &l, int64_t first, int64_t length,
            int64_t capacity)
{
    if (arrays.empty()) return;
    if (length <= first) return arrays.clear();
    for (array &a : arrays) {
        std::vector<array> parts = { rows_of(d, a, first - l.first, length - first) };
        Shape more = a.shape();
        more[2] = i32(capacity - (length - first));
        if (more[2]) parts.push_back(mx::zeros(more, a.dtype(), d.stream));
        a = mx::concatenate(parts, 2, d.stream);
    }
}

void lay_out(const device &d, kv_layer &l, int64_t first, int64_t length, int64_t capacity)
{
    if (first == l.first && capacity == l.capacity) return;
    resize(d, l.k, l, first, length, capacity);
    resize(d, l.v, l, first, length, capacity);
    l.first = first;
    l.capacity = capacity;
}

/* Where a layer's room begins once positions that no later token sees are dropped. */
int64_t first_kept(const kv_layer &l, int64_t length)
{
    if (!l.shape.window) return l.first;
    return std::max(l.first, (length - l.shape.window) / KV_STEP * KV_STEP);
}

we_status kv_reserve(we_device *base, we_kv *kv, int64_t length, int64_t n, we_error *err)
{
    device &d = *of(base);
    if (length < 0 || n < length || n > INT32_MAX)
        return d.host->fail(err, WE_E_RANGE, "a KV cache can't grow from %lld to %lld positions",
                            static_cast<long long>(length), static_cast<long long>(n));
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    const uint64_t before = held(kv);
    uint64_t after = 0;
    for (const kv_layer &l : kv->layers)
        after += static_cast<uint64_t>(std::max(rounded(n), l.first + l.capacity) - first_kept(l, length)) *
                 position_bytes(l.shape, kv->bits);
    if (after > before && !d.host->budget_take(kv->budget, after - before))
        return d.host->fail(
            err, WE_E_NOMEM,
            "no memory for a KV cache of %lld tokens: the limit of %llu MB is reached (MLX_MEMORY_POOL_SIZE)",
            static_cast<long long>(n), static_cast<unsigned long long>(kv->budget->limit >> 20));
    const we_status st = guarded(d.host, err, "a KV cache", [&] {
        for (kv_layer &l : kv->layers) {
            const int64_t first = first_kept(l, length);
            lay_out(d, l, first, length, std::max(rounded(n), l.first + l.capacity) - first);
        }
    });
    if (after < before) d.host->budget_give(kv->budget, before - after);
    return st;
}

bool can_trim(const kv_layer &l, int64_t n)
{
    if (l.shape.window == 0 || n == 0 || l.shape.window == 1) return true;
    return l.first <= std::max<int64_t>(n - l.shape.window + 1, 0);
}

/* An array half empty gives its memory back; one nearly full keeps it for what comes. */
bool kv_trim(we_device *base, we_kv *kv, int64_t n)
{
    device &d = *of(base);
    n = std::max<int64_t>(n, 0);
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    for (const kv_layer &l : kv->layers)
        if (!can_trim(l, n)) return false;
    const uint64_t before = held(kv);
    we_error why;
    guarded(d.host, &why, "a KV cache", [&] {
        for (kv_layer &l : kv->layers) {
            const int64_t first = std::min(l.first, n / KV_STEP * KV_STEP),
                          kept = std::max<int64_t>(rounded(n) - first, 0);
            if (first < l.first || kept == 0)
                l.k.clear(), l.v.clear(), l.first = first, l.capacity = kept;
            else if (2 * kept <= l.capacity)
                lay_out(d, l, first, n, kept);
        }
    });
    d.host->budget_give(kv->budget, before - held(kv));
    return true;
}

we_status kv_copy(we_device *base, const we_kv *kv, we_kv **out, we_error *err)
{
    *out = nullptr;
    device &d = *of(base);
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    const uint64_t bytes = held(kv); /* shared now, of its own with the first append */
    if (!d.host->budget_take(kv->budget, bytes))
        return d.host->fail(err, WE_E_NOMEM,
                            "no memory for a copy of a KV cache: the limit is reached (MLX_MEMORY_POOL_SIZE)");
    const we_status st = guarded(d.host, err, "a KV cache", [&] { *out = new we_kv(*kv); });
    if (st) d.host->budget_give(kv->budget, bytes);
    return st;
}

uint64_t kv_bytes(we_device *, const we_kv *kv) { return held(kv); }

uint64_t kv_bytes_needed(we_device *, const we_kv_spec *spec, int64_t n_positions)
{
    if (!we_kv_spec_valid(spec) || n_positions < 0 || n_positions > INT32_MAX) return UINT64_MAX;
    uint64_t bytes = 0;
    for (int i = 0; i < spec->n_layers; i++) {
        const we_kv_layer &l = spec->layers[i];
        int64_t n = rounded(n_positions);
        if (l.window) n = std::min(n, rounded(static_cast<int64_t>(l.window) + STEP_ROWS) + KV_STEP);
        bytes += static_cast<uint64_t>(n) * position_bytes(l, spec->bits);
    }
    return bytes;
}

/* What a cache holds of new rows [1, heads, n, head_dim]: themselves, or their packing. */
std::vector<array> packed(const device &d, const we_kv *kv, const we_kv_layer &shape, array a)
{
    if (kv->bits == 32) return { as(d, a, mx::float32) };
    if (mx::size_of(a.dtype()) != 2) a = mx::astype(a, mx::float16, d.stream);
    if (kv->bits == 16) return { a };
    const int more = padded_dim(shape) - shape.head_dim;
    if (more) a = mx::pad(a, { { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, more } }, array(0, a.dtype()), "constant", d.stream);
    return mx::quantize(a, kv_group(shape), kv->bits, "affine", std::nullopt, d.stream);
}

void write_rows(const device &d, std::vector<array> &arrays, std::vector<array> rows, int64_t at, int64_t capacity)
{
    for (size_t i = 0; i < rows.size(); i++) {
        const array &r = rows[i];
        if (arrays.size() <= i) {
            Shape all = r.shape();
            all[2] = i32(capacity);
            arrays.push_back(mx::zeros(all, r.dtype(), d.stream));
        }
        array &a = arrays[i];
        a = mx::slice_update(a, as(d, r, a.dtype()), Shape{ 0, 0, i32(at), 0 },
                             Shape{ 1, r.shape(1), i32(at) + r.shape(2), r.shape(3) }, d.stream);
    }
}

/* Positions [begin, end) of a layer's keys or values as attention takes them. */
array seen(const device &d, const we_kv *kv, const kv_layer &l, const std::vector<array> &arrays, int64_t begin,
           int64_t end)
{
    std::vector<array> rows;
    for (const array &a : arrays) rows.push_back(rows_of(d, a, begin - l.first, end - begin));
    if (rows.size() == 1) return rows[0];
    array out = mx::dequantize(rows[0], rows[1], rows[2], kv_group(l.shape), kv->bits, "affine", std::nullopt,
                               std::nullopt, d.stream);
    if (out.shape(3) == l.shape.head_dim) return out;
    return mx::slice(out, { 0, 0, 0, 0 }, { 1, out.shape(1), out.shape(2), l.shape.head_dim }, d.stream);
}

/* ---- A step ---- */

void begin(we_device *base, const we_batch *batch)
{
    device &d = *of(base);
    d.lock.lock();
    d.batch = batch;
    d.error.status = WE_OK;
    d.masks.clear();
    d.positions.reset();
    guarded(d.host, &d.error, "a step", [&] {
        if (batch->n_rows < 1 || batch->n_spans < 1) throw failure{ WE_E_ARG, "a step without tokens" };
        mx::set_default_stream(d.stream); /* of this thread, for what is not told where to run */
        if (batch->goes_on) return;
        /* What nobody asked for would hold the caches' old arrays, and writing in place would become a copy. */
        for (we_tensor *t : d.written)
            if (t->a && t->a->status() == array::Status::unscheduled) t->a.reset();
        d.written.clear();
    });
}

we_status end(we_device *base, we_error *err)
{
    device &d = *of(base);
    guarded(d.host, d.error.status ? nullptr : &d.error, "a step", [&] {
        if (d.error.status) return;
        std::vector<array> wanted;
        for (we_tensor *t : d.drawn) wanted.push_back(*t->a); /* they come after all that the caches get */
        for (int i = 0; i < d.batch->n_spans && d.drawn.empty(); i++) {
            const we_kv *kv = d.batch->spans[i].kv;
            if (!kv) continue;
            for (const kv_layer &l : kv->layers) {
                wanted.insert(wanted.end(), l.k.begin(), l.k.end());
                wanted.insert(wanted.end(), l.v.begin(), l.v.end());
            }
        }
        if (!wanted.empty()) mx::async_eval(std::move(wanted));
    });
    const we_error first = d.error;
    d.drawn.clear();
    d.batch = nullptr;
    d.lock.unlock();
    return first.status ? d.host->fail(err, first.status, "%s", first.message) : WE_OK;
}

/* ---- Ops: embedding and products ---- */

void embed(we_device *base, we_tensor *out, const we_tensor *table, const we_tensor *ids, float scale)
{
    op(base, "embed", [&](device &d) {
        const we_tensor *t = weight(d, table);
        check_out(out, ids->rows, t->cols, "embed");
        if (ids->from_host) {
            for (const int32_t id : ids->host)
                if (id < 0 || id >= t->rows)
                    throw failure{ WE_E_RANGE, "token id " + std::to_string(id) +
                                                   " is not below the vocabulary's size of " +
                                                   std::to_string(t->rows) };
        }
        const array at = ids->from_host ? array(ids->host.begin(), { i32(ids->rows) }, mx::int32) : value(ids, "embed");
        const array codes = t->rows == 1 ? mx::reshape(*t->a, { 1, -1 }, d.stream) : *t->a;
        array rows = mx::take(codes, at, 0, d.stream);
        if (t->mode) {
            array scales = mx::take(*t->scales, at, 0, d.stream);
            std::optional<array> biases;
            if (t->biases) biases = mx::take(*t->biases, at, 0, d.stream);
            if (d.batch->precise && t->biases) {
                scales = as(d, scales, mx::float32);
                biases = as(d, *biases, mx::float32);
            }
            std::optional<mx::Dtype> dtype;
            if (!t->biases) dtype = d.batch->precise ? mx::float32 : mx::bfloat16;
            rows = mx::dequantize(rows, scales, biases, t->group_size, t->bits, t->mode, std::nullopt, dtype, d.stream);
        }
        if (d.batch->precise) rows = as(d, rows, mx::float32);
        if (scale != 1.0f) rows = mx::multiply(rows, array(scale, rows.dtype()), d.stream);
        put(d, out, rows, ids->rows);
    });
}

/* Where one group is a whole row (64 or 128 codes of 4 or 8 bits), MLX's CUDA build takes a kernel of its own for Hopper
 * (qmm_sm90), which in MLX 0.32.4 writes zeros for two rows and more, and fails to compile where CUDA's headers are those of
 * nvidia-cuda-runtime: docs/performance.md. Such a weight is small: it is unpacked for each product instead. */
bool has_wrong_kernel(const device &d, const we_tensor *w)
{
    return d.hopper && w->biases && (w->bits == 4 || w->bits == 8) && w->cols % 64 == 0 && w->group_size >= w->cols;
}

array product(device &d, const array &x, const we_tensor *w, const array &a, const std::optional<array> &scales,
              const std::optional<array> &biases)
{
    if (w->mode && has_wrong_kernel(d, w)) {
        const array plain = mx::dequantize(a, as(d, *scales, x.dtype()), as(d, *biases, x.dtype()), w->group_size,
                                           w->bits, w->mode, std::nullopt, std::nullopt, d.stream);
        return mx::matmul(x, mx::transpose(plain, d.stream), d.stream);
    }
    /* MLX computes in the promoted type: float32 activations make float32 of bfloat16 scales. */
    if (w->mode) return mx::quantized_matmul(x, a, *scales, biases, true, w->group_size, w->bits, w->mode, d.stream);
    return mx::matmul(x, mx::transpose(as(d, a, x.dtype()), d.stream), d.stream);
}

bool alike(const we_tensor *a, const we_tensor *b)
{
    return a->mode == b->mode && a->bits == b->bits && a->group_size == b->group_size &&
           a->a->dtype() == b->a->dtype() && a->scales.has_value() == b->scales.has_value() &&
           (!a->scales || a->scales->dtype() == b->scales->dtype());
}

std::optional<array> put_behind(device &d, const we_linear *l, int n, std::optional<array> we_tensor::*part)
{
    std::vector<array> parts;
    for (int i = 0; i < n; i++)
        if (const auto &a = weight(d, l[i].weight)->*part) parts.push_back(*a);
    if (parts.empty()) return std::nullopt;
    array all = mx::concatenate(parts, 0, d.stream);
    mx::eval(all);
    int first = 0;
    for (int i = 0; i < n; i++) {
        we_tensor *w = weight(d, l[i].weight);
        array view = mx::slice(all, { first, 0 }, { first + i32(w->rows), all.shape(1) }, d.stream);
        mx::eval(view);
        w->*part = view;
        first += i32(w->rows);
    }
    return all;
}

/* A token's step is as long as its kernels are many: weights that read the same rows are put behind each other when they first
 * meet, without a second copy that stays. NULL: they can't be. */
const joined *join(device &d, const we_linear *l, int n)
{
    const we_tensor *first = weight(d, l[0].weight);
    bool together = n > 1 && first->rows > 1, apart = true;
    for (int i = 0; i < n && together; i++) {
        const we_tensor *w = weight(d, l[i].weight);
        together = !l[i].add && w->rows > 1 && alike(first, w) && w->all == first->all;
        apart &= !w->all;
        if (w->all) together &= w->place == i && w->all->n == n;
        for (int j = 0; j < i; j++) together &= l[j].weight != l[i].weight;
    }
    if (!together) return nullptr;
    if (!apart) return first->all.get();
    auto all = std::make_shared<joined>(joined{ n, *put_behind(d, l, n, &we_tensor::a),
                                                put_behind(d, l, n, &we_tensor::scales),
                                                put_behind(d, l, n, &we_tensor::biases) });
    for (int i = 0; i < n; i++) {
        we_tensor *w = weight(d, l[i].weight);
        w->all = all;
        w->place = i;
    }
    return all.get();
}

#define FEW_ROWS 8 /* more are worth products of their own, whose results lie in order */

void linear(we_device *base, const we_linear *l, int n, const we_tensor *x)
{
    op(base, "linear", [&](device &d) {
        const array in = flat(d, x, "linear");
        for (int i = 0; i < n; i++) {
            const we_tensor *w = l[i].weight;
            if (w->kind != we_tensor::WEIGHT || x->cols != w->cols || l[i].out == x || x->rows > d.batch->n_rows ||
                (l[i].add && l[i].out->rows != x->rows) || (l[i].bias && l[i].bias->cols != w->rows))
                misfit("linear", l[i].out, x->rows, w->rows);
            check_out(l[i].out, x->rows, w->rows, "linear");
        }
        std::optional<array> ys;
        const joined *all = join(d, l, n);
        if (all && x->rows <= FEW_ROWS) ys = product(d, in, weight(d, l[0].weight), all->a, all->scales, all->biases);
        int first = 0;
        for (int i = 0; i < n; i++) {
            const we_tensor *w = weight(d, l[i].weight);
            array y = ys ? mx::slice(*ys, { 0, first }, { i32(x->rows), first + i32(w->rows) }, d.stream)
                         : product(d, in, w, w->rows == 1 ? mx::reshape(*w->a, { 1, -1 }, d.stream) : *w->a, w->scales,
                                   w->biases);
            first += i32(w->rows);
            if (l[i].bias) y = mx::add(y, vector_of(d, l[i].bias, 0.0f, y.dtype()), d.stream);
            if (l[i].add) y = mx::add(flat(d, l[i].out, "linear"), y, d.stream);
            put(d, l[i].out, y, x->rows);
        }
    });
}

/* ---- Ops: norms and rotation ---- */

void rms_norm(we_device *base, we_tensor *out, const we_tensor *x, const we_tensor *w, int width, float eps,
              float offset)
{
    op(base, "rms_norm", [&](device &d) {
        const int64_t rows = x->rows, group = width ? width : x->cols;
        check_out(out, rows, x->cols, "rms_norm");
        if (group < 1 || x->cols % group || w->kind != we_tensor::WEIGHT || w->cols != group)
            misfit("rms_norm", w, 1, group);
        const bool whole = group == x->cols;
        const array in = whole ? flat(d, x, "rms_norm") : shaped(d, x, SPLIT, x->cols / group, group, "rms_norm");
        put(d, out, mx::fast::rms_norm(in, vector_of(d, w, offset, in.dtype()), eps, d.stream), rows,
            whole ? FLAT : SPLIT);
    });
}

void rope(we_device *base, we_tensor *x, const we_rope *r, int n_heads, int head_dim)
{
    op(base, "rope", [&](device &d) {
        if (x->rows != d.batch->n_rows || x->cols != static_cast<int64_t>(n_heads) * head_dim || r->dims > head_dim)
            misfit("rope", x, d.batch->n_rows, static_cast<int64_t>(n_heads) * head_dim);
        const we_span *spans = d.batch->spans;
        const int n_spans = d.batch->n_spans;
        const auto turn = [&](const array &a, auto at) {
            array in = a;
            if (r->scale != 1.0f) {
                std::vector<float> by(static_cast<size_t>(head_dim), 1.0f);
                for (int i = 0; i < r->dims; i++) by[static_cast<size_t>(i)] = r->scale;
                in = mx::multiply(in, as(d, array(by.begin(), { head_dim }, mx::float32), a.dtype()), d.stream);
            }
            return mx::fast::rope(in, r->dims, r->interleaved, std::nullopt, 1.0f, at, r->freqs, d.stream);
        };
        if (n_spans > 1 && n_spans == d.batch->n_rows) { /* a token of each sequence: one op for all */
            if (!d.positions) {
                std::vector<int32_t> at;
                for (int i = 0; i < n_spans; i++) at.push_back(spans[i].position);
                d.positions = array(at.begin(), { n_spans }, mx::int32);
            }
            const array a = mx::reshape(flat(d, x, "rope"), { n_spans, n_heads, 1, head_dim }, d.stream);
            put(d, x, mx::reshape(turn(a, *d.positions), { 1, n_spans, n_heads, head_dim }, d.stream), x->rows, SPLIT);
            return;
        }
        const array a = shaped(d, x, HEADS, n_heads, head_dim, "rope");
        if (n_spans == 1) return put(d, x, turn(a, spans[0].position), x->rows, HEADS);
        std::vector<array> parts;
        for (int i = 0; i < n_spans; i++)
            parts.push_back(turn(rows_of(d, a, spans[i].first, spans[i].n), spans[i].position));
        put(d, x, mx::concatenate(parts, 2, d.stream), x->rows, HEADS);
    });
}

/* ---- Ops: attention ---- */

void kv_append(we_device *base, int layer, const we_tensor *k, const we_tensor *v)
{
    op(base, "kv_append", [&](device &d) {
        for (int i = 0; i < d.batch->n_spans; i++) {
            const we_span &s = d.batch->spans[i];
            const kv_layer *l = s.kv && layer >= 0 && static_cast<size_t>(layer) < s.kv->layers.size()
                                    ? &s.kv->layers[static_cast<size_t>(layer)]
                                    : nullptr;
            if (!l || s.position < l->first || s.position + s.n > l->first + l->capacity || k->cols != v->cols ||
                k->cols != static_cast<int64_t>(l->shape.n_kv_heads) * l->shape.head_dim ||
                k->rows != d.batch->n_rows || v->rows != k->rows)
                throw failure{ WE_E_INTERNAL, "kv_append: layer " + std::to_string(layer) + " has no room for " +
                                                  std::to_string(k->rows) + " x " + std::to_string(k->cols) + " at " +
                                                  std::to_string(s.position) };
        }
        for (int i = 0; i < d.batch->n_spans; i++) {
            const we_span &s = d.batch->spans[i];
            kv_layer &l = s.kv->layers[static_cast<size_t>(layer)];
            const int heads = l.shape.n_kv_heads, dim = l.shape.head_dim;
            const int64_t at = s.position - l.first;
            write_rows(d, l.k,
                       packed(d, s.kv, l.shape, rows_of(d, shaped(d, k, HEADS, heads, dim, "kv_append"), s.first, s.n)),
                       at, l.capacity);
            write_rows(d, l.v,
                       packed(d, s.kv, l.shape, rows_of(d, shaped(d, v, HEADS, heads, dim, "kv_append"), s.first, s.n)),
                       at, l.capacity);
        }
    });
}

/* Which of the keys [first, position + n) the queries at position ... position + n - 1 see through a window. */
const array &window_mask(device &d, int64_t position, int64_t n, int64_t first, int window)
{
    for (const mask &m : d.masks)
        if (m.position == position && m.n == n && m.first == first && m.window == window) return m.values;
    const array q = mx::reshape(mx::arange(i32(position), i32(position + n), d.stream), { -1, 1 }, d.stream);
    const array k = mx::reshape(mx::arange(i32(first), i32(position + n), d.stream), { 1, -1 }, d.stream);
    const array values = mx::logical_and(mx::less_equal(k, q, d.stream),
                                         mx::greater(k, mx::subtract(q, array(window), d.stream), d.stream), d.stream);
    d.masks.push_back({ position, n, first, window, values });
    return d.masks.back().values;
}

array attend_span(device &d, const we_span &s, const array &q, const we_attend *spec)
{
    const kv_layer &l = s.kv->layers[static_cast<size_t>(spec->layer)];
    const int64_t end = s.position + s.n;
    const int64_t first = spec->window ? std::max<int64_t>(s.position - spec->window + 1, 0) : 0;
    if (l.k.empty() || first < l.first || end > l.first + l.capacity)
        throw failure{ WE_E_INTERNAL, "attend: layer " + std::to_string(spec->layer) + " lacks positions" };
    const array k = as(d, seen(d, s.kv, l, l.k, first, end), q.dtype()),
                v = as(d, seen(d, s.kv, l, l.v, first, end), q.dtype());
    if (s.n == 1) return mx::fast::scaled_dot_product_attention(q, k, v, spec->scale, "", {}, {}, false, d.stream);
    if (!spec->window || end <= spec->window)
        return mx::fast::scaled_dot_product_attention(q, k, v, spec->scale, "causal", {}, {}, false, d.stream);
    return mx::fast::scaled_dot_product_attention(
        q, k, v, spec->scale, "array", window_mask(d, s.position, s.n, first, spec->window), {}, false, d.stream);
}

void attend(we_device *base, we_tensor *out, const we_tensor *q, const we_attend *spec)
{
    op(base, "attend", [&](device &d) {
        check_out(out, q->rows, q->cols, "attend");
        if (out == q || q->rows != d.batch->n_rows || q->cols != static_cast<int64_t>(spec->n_heads) * spec->head_dim ||
            spec->n_heads % spec->n_kv_heads)
            misfit("attend", q, d.batch->n_rows, static_cast<int64_t>(spec->n_heads) * spec->head_dim);
        for (int i = 0; i < d.batch->n_spans; i++) {
            const we_kv *kv = d.batch->spans[i].kv;
            if (!kv || spec->layer < 0 || static_cast<size_t>(spec->layer) >= kv->layers.size())
                throw failure{ WE_E_INTERNAL,
                               "attend: a sequence without a cache of layer " + std::to_string(spec->layer) };
        }
        const array heads = shaped(d, q, HEADS, spec->n_heads, spec->head_dim, "attend");
        std::vector<array> parts;
        for (int i = 0; i < d.batch->n_spans; i++) {
            const we_span &s = d.batch->spans[i];
            parts.push_back(attend_span(d, s, rows_of(d, heads, s.first, s.n), spec));
        }
        put(d, out, parts.size() == 1 ? parts[0] : mx::concatenate(parts, 2, d.stream), q->rows, HEADS);
    });
}

/* ---- Ops: gates and rows ---- */

template <we_activation act> std::vector<array> gated(const std::vector<array> &in)
{
    const array &g = in[0], &up = in[1];
    const mx::Dtype t = g.dtype();
    if constexpr (act == WE_ACT_SILU) return { mx::multiply(mx::multiply(g, mx::sigmoid(g)), up) };
    if constexpr (act == WE_ACT_GELU) {
        const array phi =
            mx::divide(mx::add(array(1.0f, t), mx::erf(mx::multiply(g, array(std::sqrt(0.5f), t)))), array(2.0f, t));
        return { mx::multiply(mx::multiply(g, phi), up) };
    }
    const array cube = mx::multiply(mx::multiply(g, g), g);
    const array inner =
        mx::multiply(array(0.7978845608028654f, t), mx::add(g, mx::multiply(array(0.044715f, t), cube)));
    const array half = mx::multiply(array(0.5f, t), g);
    return { mx::multiply(mx::multiply(half, mx::add(array(1.0f, t), mx::tanh(inner))), up) };
}

void glu(we_device *base, we_tensor *gate, const we_tensor *up, we_activation act)
{
    op(base, "glu", [&](device &d) {
        check_out(gate, up->rows, up->cols, "glu");
        const array g = flat(d, gate, "glu"), u = flat(d, up, "glu");
        put(d, gate, d.glu[act]({ g, u })[0], up->rows);
    });
}

void add(we_device *base, we_tensor *x, const we_tensor *y)
{
    op(base, "add", [&](device &d) {
        check_out(x, y->rows, y->cols, "add");
        const array a = flat(d, x, "add"), b = flat(d, y, "add");
        put(d, x, mx::add(a, b, d.stream), y->rows);
    });
}

void take_rows(we_device *base, we_tensor *out, const we_tensor *x, const int32_t *rows, int n)
{
    op(base, "take_rows", [&](device &d) {
        check_out(out, n, x->cols, "take_rows");
        bool in_order = true;
        for (int i = 0; i < n; i++) {
            if (rows[i] < 0 || rows[i] >= x->rows) misfit("take_rows", x, rows[i], x->cols);
            in_order &= rows[i] == rows[0] + i;
        }
        const array a = flat(d, x, "take_rows");
        if (in_order && n == x->rows) return put(d, out, a, n);
        if (in_order) return put(d, out, mx::slice(a, { rows[0], 0 }, { rows[0] + n, i32(x->cols) }, d.stream), n);
        put(d, out, mx::take(a, array(rows, { n }, mx::int32), 0, d.stream), n);
    });
}

/* ---- Ops: sampling. One row [vocabulary] of float32 to one id. Order and meaning: device.h and cpu/sample.c. ---- */

array penalized(const device &d, const array &x, const we_sample_spec &spec)
{
    std::vector<int32_t> ids;
    for (int i = 0; i < spec.n_recent; i++)
        if (spec.recent[i] >= 0 && spec.recent[i] < x.shape(0)) ids.push_back(spec.recent[i]);
    if (ids.empty()) return x;
    const array at(ids.begin(), { i32(static_cast<int64_t>(ids.size())) }, mx::int32), by(spec.repetition_penalty);
    const array old = mx::take(x, at, 0, d.stream); /* an id that comes twice is written twice with the same value */
    const array now = mx::where(mx::less(old, array(0.0f), d.stream), mx::multiply(old, by, d.stream),
                                mx::divide(old, by, d.stream), d.stream);
    return mx::put_along_axis(x, at, now, 0, d.stream);
}

array keep_above(const device &d, const array &x, const array &lowest)
{
    return mx::where(mx::greater_equal(x, lowest, d.stream), x, array(-INFINITY), d.stream);
}

/* A value stays where what lies strictly above it has less than top_p of the mass. */
array keep_top_p(const device &d, const array &x, float top_p)
{
    const array down = mx::negative(mx::sort(mx::negative(x, d.stream), 0, d.stream), d.stream);
    const array p = mx::softmax(down, 0, true, d.stream);
    const array before = mx::subtract(mx::cumsum(p, 0, false, true, d.stream), p, d.stream);
    const array kept = mx::where(mx::less(before, array(top_p), d.stream), down, array(INFINITY), d.stream);
    return keep_above(d, x, mx::min(kept, false, d.stream));
}

/* Exactly k stay: of those equal to the lowest, the first ids. */
array keep_top_k(const device &d, const array &x, int k)
{
    const array up = mx::sort(x, 0, d.stream);
    const array lowest = mx::slice(up, { x.shape(0) - k }, { x.shape(0) - k + 1 }, d.stream);
    const array above = mx::greater(x, lowest, d.stream), equal = mx::equal(x, lowest, d.stream);
    const array room =
        mx::subtract(array(k), mx::sum(mx::astype(above, mx::int32, d.stream), false, d.stream), d.stream);
    const array rank = mx::cumsum(mx::astype(equal, mx::int32, d.stream), 0, false, true, d.stream);
    const array first = mx::logical_and(equal, mx::less_equal(rank, room, d.stream), d.stream);
    return mx::where(mx::logical_or(above, first, d.stream), x, array(-INFINITY), d.stream);
}

array draw(const device &d, const array &x, const array &largest, const we_sample_spec &spec)
{
    const array scaled = mx::multiply(mx::subtract(x, largest, d.stream), array(1.0f / spec.temperature), d.stream);
    const array sums = mx::cumsum(mx::exp(scaled, d.stream), 0, false, true, d.stream);
    const int n = x.shape(0);
    const array total = mx::slice(sums, { n - 1 }, { n }, d.stream);
    const float u = static_cast<float>(d.host->uniform(spec.seed, spec.counter));
    const array at = mx::multiply(total, array(std::min(u, 0x1.fffffep-1f)), d.stream);
    return mx::argmax(mx::greater(sums, at, d.stream), 0, true, d.stream); /* the first that lies above */
}

array sample_row(const device &d, const array &logits, const we_sample_spec &spec)
{
    array x = logits;
    const float penalty = spec.repetition_penalty;
    if (penalty != 0.0f && penalty != 1.0f && spec.n_recent > 0) x = penalized(d, x, spec);
    if (!(spec.temperature > 0.0f) || std::isinf(1.0f / spec.temperature)) return mx::argmax(x, 0, true, d.stream);
    const array largest = mx::max(x, false, d.stream);
    if (spec.top_p > 0.0f && spec.top_p < 1.0f) x = keep_top_p(d, x, spec.top_p);
    if (spec.min_p > 0.0f) x = keep_above(d, x, mx::add(largest, array(std::log(spec.min_p)), d.stream));
    if (spec.top_k > 0 && spec.top_k < x.shape(0)) x = keep_top_k(d, x, spec.top_k);
    return draw(d, x, largest, spec);
}

bool greedy(const we_sample_spec &s)
{
    return !(s.temperature > 0.0f) && (s.repetition_penalty == 0.0f || s.repetition_penalty == 1.0f || s.n_recent < 1);
}

void sample(we_device *base, we_tensor *ids, const we_tensor *logits, const we_sample_spec *specs)
{
    op(base, "sample", [&](device &d) {
        const int64_t n = logits->rows;
        if (ids->kind != we_tensor::IDS || n > ids->max_rows) misfit("sample", ids, n, 1);
        const array all = flat(d, logits, "sample");
        bool plain = true;
        for (int64_t i = 0; i < n; i++) plain &= greedy(specs[i]);
        std::vector<array> rows;
        if (plain) rows.push_back(mx::argmax(all, 1, false, d.stream));
        for (int64_t i = 0; i < n && !plain; i++) {
            const array row = mx::slice(all, { i32(i), 0 }, { i32(i) + 1, i32(logits->cols) }, d.stream);
            rows.push_back(sample_row(d, as(d, mx::reshape(row, { -1 }, d.stream), mx::float32), specs[i]));
        }
        const array drawn = rows.size() == 1 ? rows[0] : mx::concatenate(rows, 0, d.stream);
        put(d, ids, mx::astype(drawn, mx::int32, d.stream), n);
        ids->from_host = false;
        d.drawn.push_back(ids);
    });
}

/* ---- Memory ---- */

uint64_t figure(const mx::Device &which, const char *key)
{
    const auto &info = mx::device_info(which);
    const auto at = info.find(key);
    return at != info.end() && std::holds_alternative<size_t>(at->second) ? std::get<size_t>(at->second) : 0;
}

/* What a model may still take: of a GPU's own memory, or of what Metal recommends. 0: MLX knows no better than the system. */
uint64_t available(const device &d)
{
    if (!d.gpu) return 0;
    const uint64_t free_now = figure(d.stream.device, "free_memory"),
                   most = figure(d.stream.device, "max_recommended_working_set_size");
    const uint64_t active = mx::get_active_memory();
    if (free_now) return free_now + mx::get_cache_memory();
    return most > active ? most - active : most ? 1 : 0;
}

void memory(we_device *base, we_device_memory *out)
{
    device &d = *of(base);
    *out = {};
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    guarded(d.host, nullptr, "memory", [&] {
        out->active_bytes = mx::get_active_memory() - never_got;
        out->peak_bytes = std::max(mx::get_peak_memory(), mx::get_active_memory()) - never_got;
        out->cached_bytes = mx::get_cache_memory();
        out->limit_bytes = mx::get_memory_limit();
        out->available_bytes = available(d);
    });
}

/* Not measured: a GPU's limits depend on the kernel. 0 says so. */
void measure(we_device *, we_limits *out)
{
    out->memory_bytes_per_second = 0;
    out->multiply_adds_per_second = 0;
}

void unloaded(we_device *base)
{
    device &d = *of(base);
    std::lock_guard<std::recursive_mutex> guard(d.lock);
    guarded(d.host, nullptr, "memory", [&] {
        for (we_tensor *t : d.written) t->a.reset();
        d.written.clear();
        mx::synchronize(d.stream);
        mx::clear_cache();
    });
}

/* ---- Open and close ---- */

void close_device(we_device *base)
{
    device *d = of(base);
    guarded(d->host, nullptr, "memory", [&] {
        mx::synchronize(d->stream);
        d->masks.clear();
        d->positions.reset();
        mx::clear_cache();
        if (d->limited) {
            mx::set_memory_limit(d->old_memory_limit);
            mx::set_cache_limit(d->old_cache_limit);
        }
    });
    delete d;
}

const we_device_ops ops = {
    .name = "mlx",
    .weight_new = weight_new,
    .weight_fetch = weight_fetch,
    .tensor_new = tensor_new,
    .ids_new = ids_new,
    .tensor_free = tensor_free,
    .rope_new = rope_new,
    .rope_free = rope_free,
    .write_ids = write_ids,
    .read = read,
    .unloaded = unloaded,
    .memory = memory,
    .kv_new = kv_new,
    .kv_free = kv_free,
    .kv_reserve = kv_reserve,
    .kv_trim = kv_trim,
    .kv_copy = kv_copy,
    .kv_bytes = kv_bytes,
    .kv_bytes_needed = kv_bytes_needed,
    .begin = begin,
    .end = end,
    .embed = embed,
    .linear = linear,
    .rms_norm = rms_norm,
    .rope = rope,
    .kv_append = kv_append,
    .attend = attend,
    .glu = glu,
    .gated = nullptr, /* glu is one kernel where it counts */
    .add = add,
    .take_rows = take_rows,
    .sample = sample,
    .measure = measure,
    .close = close_device,
};

std::string name_of(const mx::Device &which)
{
    const auto &info = mx::device_info(which);
    const auto at = info.find("device_name");
    return at != info.end() && std::holds_alternative<std::string>(at->second) ? std::get<std::string>(at->second) : "";
}

/* Gates are fused into one kernel where MLX has a compiler for that; on a CPU it would call the system's at run time. */
void choose_gates(device &d)
{
    d.glu[WE_ACT_SILU] = gated<WE_ACT_SILU>;
    d.glu[WE_ACT_GELU] = gated<WE_ACT_GELU>;
    d.glu[WE_ACT_GELU_TANH] = gated<WE_ACT_GELU_TANH>;
    if (!d.gpu) return;
    for (auto &f : d.glu) f = mx::compile(f, true);
}

we_status open_device(we_device **out, const we_device_options *options, const we_mlx_host *host, bool gpu_only,
                      we_error *err)
{
    *out = nullptr;
    return guarded(host, err, "MLX not available", [&] {
        const bool gpu = mx::is_available(mx::Device(mx::Device::gpu));
        if (!gpu && gpu_only) throw failure{ WE_E_UNSUPPORTED, "MLX not available. It finds no GPU on this machine" };
        const mx::Device which(gpu ? mx::Device::gpu : mx::Device::cpu);
        static const mx::Stream stream = mx::new_thread_unsafe_stream(which);
        mx::set_default_device(which);
        device *d = new device(host, stream, gpu);
        d->hopper = figure(which, "compute_capability_major") == 9;
        const std::string name = name_of(which);
        d->kernels = mx::metal::is_available() ? "metal" : gpu ? "cuda" : "mlx-cpu";
        d->detail = std::string("MLX ") + mx::version() + (name.empty() ? "" : " on " + name);
        d->base.ops = &ops;
        d->base.kernels = d->kernels.c_str();
        d->base.detail = d->detail.c_str();
        d->base.n_threads = 1;
        d->base.step_rows = STEP_ROWS;
        d->base.runs_behind = true;
        d->base.budget.limit = options->memory_limit_bytes;
        if (options->memory_limit_bytes) {
            d->limited = true;
            d->old_memory_limit = mx::set_memory_limit(options->memory_limit_bytes);
            d->old_cache_limit = mx::set_cache_limit(options->memory_limit_bytes);
        }
        mx::reset_peak_memory();
        choose_gates(*d);
        *out = &d->base;
    });
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

} // namespace

extern "C" __attribute__((visibility("default"))) const we_mlx_plugin we_mlx_plugin_table = {
    WE_MLX_LAYOUT,
    TEXT(MLX_VERSION_MAJOR) "." TEXT(MLX_VERSION_MINOR) "." TEXT(MLX_VERSION_PATCH),
    mx::version,
    open_device,
};
