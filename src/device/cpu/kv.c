/* SPDX-License-Identifier: Apache-2.0
 * kv.c - where keys and values lie: pages of WE_KV_PAGE positions, counted references, one table of pages for each layer.
 * Who may see which position is attend.c's business; how long a sequence is, the runtime's.
 *
 *     page = header | head 0: block 0, block 1, ... | head 1: ...      block = keys, values of WE_KV_BLOCK positions
 *
 * A head's blocks of a page lie together since attention reads one head after the other: with 16 KB at a time (one block a
 * page) memory gave half of what it gives in order.
 *
 * Invariants: a page that is referenced twice is never written (kv_reserve gives the writer a copy of its own first).
 * Pages before `first` of a sliding layer are gone. Failure to allocate changes nothing.
 *
 * Numbers:  32 bit: float32. 16 bit: IEEE half. 8 and 4 bit: codes, then scales, then (4 bit) lowest values: we_kv_codes. */
#include "device/cpu/cpu_int.h"

#include <assert.h>
#include <math.h>

#define ALIGNMENT 64
#define BLOCKS (WE_KV_PAGE / WE_KV_BLOCK) /* of a head in a page */

struct we_kv_page {
    _Alignas(ALIGNMENT) atomic_int refs;
    we_budget *budget; /* that its bytes are counted in */
    size_t size;
    _Alignas(ALIGNMENT) uint8_t bytes[];
};

/* ---- Sizes ---- */

static int64_t pages_of(int64_t n_positions) { return (n_positions + WE_KV_PAGE - 1) / WE_KV_PAGE; }

static size_t code_bytes_of(int bits, int head_dim) /* of a block; so are those of its scales */
{
    return (size_t)we_kv_groups(head_dim) * WE_KV_GROUP * WE_KV_BLOCK * (size_t)bits / 8;
}
static size_t scale_bytes_of(int head_dim) { return (size_t)we_kv_groups(head_dim) * WE_KV_BLOCK * sizeof(uint16_t); }

static size_t block_bytes_of(int bits,
                             int head_dim) /* a multiple of ALIGNMENT: every block begins at an aligned address */
{
    switch (bits) {
    case 32: return WE_KV_BLOCK * 4 * (size_t)head_dim;
    case 16: return WE_KV_BLOCK * 2 * (size_t)head_dim;
    case 8: return code_bytes_of(8, head_dim) + scale_bytes_of(head_dim);
    default: return code_bytes_of(4, head_dim) + 2 * scale_bytes_of(head_dim);
    }
}

static size_t page_bytes_of(const we_kv_layer *l, int bits) /* at most 2^60: no overflow */
{
    return sizeof(we_kv_page) + 2 * (size_t)l->n_kv_heads * BLOCKS * block_bytes_of(bits, l->head_dim);
}

/* ---- Pages ---- */

/* New pages lie in one mapping, which the system may back with its large pages: a layer's page alone fills none. Each goes back
 * alone, hence whole units. */
static size_t mapped_bytes(const we_kv_store *s)
{
    const size_t unit = we_pages_unit();
    return (s->page_bytes + unit - 1) / unit * unit;
}

static void page_unref(we_kv_page *page)
{
    if (!page || atomic_fetch_sub(&page->refs, 1) != 1) return;
    we_budget_give(page->budget, page->size);
    we_pages_free(page, page->size);
}

static bool page_shared(we_kv_page *page) { return atomic_load(&page->refs) > 1; }

/* ---- A cache ---- */

we_status we_cpu_kv_new(we_device *device, const we_kv_spec *spec, we_kv **out, we_error *err)
{
    *out = NULL;
    if (!we_kv_spec_valid(spec))
        return we_fail(err, WE_E_ARG, "a KV cache of %d bits and %d layers can't be laid out", spec->bits,
                       spec->n_layers);
    we_kv *kv = we_calloc(1, sizeof(*kv) + (size_t)spec->n_layers * sizeof(we_kv_store));
    if (!kv) return we_fail(err, WE_E_NOMEM, "no memory for a KV cache");
    kv->bits = spec->bits;
    kv->n_layers = spec->n_layers;
    we_cpu *d = we_cpu_of(device);
    for (int i = 0; i < spec->n_layers; i++) {
        const we_kv_layer *shape = &spec->layers[i];
        kv->layers[i].shape = *shape;
        kv->layers[i].page_bytes = page_bytes_of(shape, spec->bits);
        we_cpu_raise(&d->max_head_dim, shape->head_dim);
    }
    *out = kv;
    return WE_OK;
}

void we_cpu_kv_free(we_device *d, we_kv *kv)
{
    (void)d;
    if (!kv) return;
    for (int i = 0; i < kv->n_layers; i++) {
        for (int64_t p = 0; p < kv->layers[i].capacity; p++) page_unref(kv->layers[i].pages[p]);
        we_free(kv->layers[i].pages);
    }
    we_free(kv);
}

we_status we_cpu_kv_copy(we_device *d, const we_kv *kv, we_kv **out, we_error *err)
{
    *out = NULL;
    const size_t bytes = sizeof(*kv) + (size_t)kv->n_layers * sizeof(we_kv_store);
    we_kv *copy = we_malloc(bytes);
    if (!copy) return we_fail(err, WE_E_NOMEM, "no memory for a copy of a KV cache");
    memcpy(copy, kv, bytes);
    for (int i = 0; i < copy->n_layers; i++) copy->layers[i].pages = NULL, copy->layers[i].capacity = 0;
    for (int i = 0; i < copy->n_layers; i++) {
        const we_kv_store *from = &kv->layers[i];
        we_kv_store *to = &copy->layers[i];
        if (from->capacity == 0) continue;
        to->pages = we_calloc((size_t)from->capacity, sizeof(*to->pages));
        if (!to->pages) {
            we_cpu_kv_free(d, copy);
            return we_fail(err, WE_E_NOMEM, "no memory for a copy of a KV cache");
        }
        to->capacity = from->capacity;
        for (int64_t p = 0; p < from->capacity; p++) {
            to->pages[p] = from->pages[p];
            if (to->pages[p]) atomic_fetch_add(&to->pages[p]->refs, 1);
        }
    }
    *out = copy;
    return WE_OK;
}

/* ---- Growing: all memory is taken first, then nothing can fail ---- */

static bool table_grow(we_kv_store *s, int64_t n_pages)
{
    if (n_pages <= s->capacity) return true;
    const int64_t capacity = WE_MAX(n_pages, s->capacity * 2);
    we_kv_page **pages = we_realloc_array(s->pages, (size_t)capacity, sizeof(*pages));
    if (!pages) return false;
    for (int64_t p = s->capacity; p < capacity; p++) pages[p] = NULL;
    s->pages = pages;
    s->capacity = capacity;
    return true;
}

static bool needs_page(const we_kv_store *s, int64_t p) { return !s->pages[p] || page_shared(s->pages[p]); }

/* For positions [length, n) of all layers; SIZE_MAX: more than there can be. */
static size_t new_bytes(const we_kv *kv, int64_t length, int64_t n)
{
    size_t bytes = 0;
    for (int i = 0; i < kv->n_layers; i++) {
        const we_kv_store *s = &kv->layers[i];
        const size_t each = mapped_bytes(s);
        for (int64_t p = length / WE_KV_PAGE; p < pages_of(n); p++) {
            if (!needs_page(s, p)) continue;
            if (each > SIZE_MAX / 2 - bytes) return SIZE_MAX;
            bytes += each;
        }
    }
    return bytes;
}

/* Zeroed: products run over whole blocks, and what was never written must be a number. */
static uint8_t *take_bytes(we_budget *budget, size_t bytes)
{
    if (bytes == SIZE_MAX || !we_budget_take(budget, bytes)) return NULL;
    uint8_t *p = we_pages_new(bytes);
    if (!p) we_budget_give(budget, bytes);
    return p;
}

/* Pages from `at` on; gives where the next ones go. */
static uint8_t *place_pages(we_budget *budget, we_kv_store *s, int64_t length, int64_t n, uint8_t *at)
{
    for (int64_t p = length / WE_KV_PAGE; p < pages_of(n); p++) {
        if (!needs_page(s, p)) continue;
        we_kv_page *old = s->pages[p], *page = (we_kv_page *)(void *)at;
        atomic_init(&page->refs, 1);
        page->budget = budget;
        page->size = mapped_bytes(s);
        at += page->size;
        if (old && p * WE_KV_PAGE < length) memcpy(page->bytes, old->bytes, s->page_bytes - sizeof(*page));
        page_unref(old);
        s->pages[p] = page;
    }
    return at;
}

/* Pages that lie wholly before what the next token's window shows. */
static void drop_pages(we_kv_store *s, int64_t length)
{
    if (s->shape.window == 0) return;
    for (; (s->first + 1) * WE_KV_PAGE <= length - s->shape.window; s->first++) {
        page_unref(s->pages[s->first]);
        s->pages[s->first] = NULL;
    }
}

we_status we_cpu_kv_reserve(we_device *d, we_kv *kv, int64_t length, int64_t n, we_error *err)
{
    if (length < 0 || n < length || n > INT32_MAX)
        return we_fail(err, WE_E_RANGE, "a KV cache can't grow from %lld to %lld positions", (long long)length,
                       (long long)n);
    bool ok = true;
    for (int i = 0; i < kv->n_layers && ok; i++) ok = table_grow(&kv->layers[i], pages_of(n));
    const size_t bytes = ok && n > length ? new_bytes(kv, length, n) : 0;
    uint8_t *at = bytes ? take_bytes(&d->budget, bytes) : NULL, *const end = at ? at + bytes : NULL;
    if (!ok || (bytes && !at)) {
        char limit[24], used[24];
        if (d->budget.limit)
            return we_fail(
                err, WE_E_NOMEM,
                "no memory for a KV cache of %lld tokens: %s of the limit of %s are in use (MLX_MEMORY_POOL_SIZE)",
                (long long)n, we_format_bytes(used, atomic_load(&d->budget.used)),
                we_format_bytes(limit, d->budget.limit));
        return we_fail(err, WE_E_NOMEM, "no memory for a KV cache of %lld tokens", (long long)n);
    }
    for (int i = 0; i < kv->n_layers; i++) {
        if (at) at = place_pages(&d->budget, &kv->layers[i], length, n, at);
        drop_pages(&kv->layers[i], length);
    }
    if (at != end) { /* a copy that shared a page has gone meanwhile */
        we_budget_give(&d->budget, (size_t)(end - at));
        we_pages_free(at, (size_t)(end - at));
    }
    return WE_OK;
}

/* ---- Forgetting ---- */

static bool can_trim(const we_kv_store *s, int64_t n)
{
    const int64_t window = s->shape.window;
    if (window == 0 || n == 0 || window == 1) return true;
    return s->first * WE_KV_PAGE <= WE_MAX(n - window + 1, 0);
}

bool we_cpu_kv_trim(we_device *d, we_kv *kv, int64_t n)
{
    (void)d;
    n = WE_MAX(n, 0);
    for (int i = 0; i < kv->n_layers; i++)
        if (!can_trim(&kv->layers[i], n)) return false;
    for (int i = 0; i < kv->n_layers; i++) {
        we_kv_store *s = &kv->layers[i];
        for (int64_t p = pages_of(n); p < s->capacity; p++) {
            page_unref(s->pages[p]);
            s->pages[p] = NULL;
        }
        s->first = WE_MIN(s->first, n / WE_KV_PAGE);
    }
    return true;
}

/* ---- Figures ---- */

/* Pages that a copy shares count in both. */
uint64_t we_cpu_kv_bytes(we_device *d, const we_kv *kv)
{
    (void)d;
    uint64_t bytes = 0;
    for (int i = 0; i < kv->n_layers; i++)
        for (int64_t p = 0; p < kv->layers[i].capacity; p++)
            if (kv->layers[i].pages[p]) bytes += kv->layers[i].page_bytes;
    return bytes;
}

uint64_t we_cpu_kv_bytes_needed(we_device *d, const we_kv_spec *spec, int64_t n_positions)
{
    (void)d;
    if (!we_kv_spec_valid(spec) || n_positions < 0 || n_positions > INT32_MAX) return UINT64_MAX;
    const int64_t step = 512; /* what a long prompt's steps write before a window drops what it left behind */
    uint64_t bytes = 0;
    for (int i = 0; i < spec->n_layers; i++) {
        const we_kv_layer *l = &spec->layers[i];
        int64_t n_pages = pages_of(n_positions);
        if (l->window > 0) n_pages = WE_MIN(n_pages, pages_of((int64_t)l->window + step) + 1);
        const uint64_t page_bytes = page_bytes_of(l, spec->bits);
        if ((uint64_t)n_pages > (UINT64_MAX - bytes) / page_bytes) return UINT64_MAX;
        bytes += (uint64_t)n_pages * page_bytes;
    }
    return bytes;
}

/* ---- Bytes ---- */

bool we_kv_has(const we_kv *kv, int layer, int64_t begin, int64_t end)
{
    if (layer < 0 || layer >= kv->n_layers) return false;
    const we_kv_store *s = &kv->layers[layer];
    if (begin < 0 || pages_of(end) > s->capacity) return false;
    for (int64_t p = begin / WE_KV_PAGE; p < pages_of(end); p++)
        if (!s->pages[p]) return false;
    return true;
}

static uint8_t *block_at(const we_kv *kv, int layer, int64_t index, int head, bool values)
{
    const we_kv_store *s = &kv->layers[layer];
    const size_t bytes = block_bytes_of(kv->bits, s->shape.head_dim);
    const size_t of_page = (size_t)head * BLOCKS + (size_t)(index % BLOCKS);
    return s->pages[index / BLOCKS]->bytes + (2 * of_page + values) * bytes;
}

const void *we_kv_block(const we_kv *kv, int layer, int64_t index, int head, bool values)
{
    return block_at(kv, layer, index, head, values);
}

we_kv_codes we_kv_codes_of(const we_kv *kv, int layer, int64_t index, int head, bool values)
{
    const int bits = kv->bits, head_dim = kv->layers[layer].shape.head_dim;
    uint8_t *codes = block_at(kv, layer, index, head, values), *scales = codes + code_bytes_of(bits, head_dim);
    return (we_kv_codes){
        .bits = bits,
        .head_dim = head_dim,
        .codes = codes,
        .scales = (uint16_t *)(void *)scales,
        .lows = bits == 4 ? (uint16_t *)(void *)(scales + scale_bytes_of(head_dim)) : NULL,
    };
}

/* One number into a nibble or byte; a NaN becomes 0. */
static uint8_t code_of(float x, float low, float high)
{
    return x > low ? (uint8_t)(int)lrintf(WE_MIN(x, high)) : (uint8_t)(int)low;
}

/* A group's codes and its scale. */
static uint16_t round_8(const float *x, int n, uint8_t *codes, const we_cpu_kernels *k)
{
    float largest = 0;
    for (int i = 0; i < n; i++) largest = WE_MAX(largest, fabsf(x[i]));
    const float scale = largest / 127.0f;
    uint16_t half;
    k->to_f16(&scale, &half, 1);
    const float rounded = we_f16_to_f32(half), inverse = rounded > 0 ? 1.0f / rounded : 0.0f;
    for (int i = 0; i < n; i++) codes[i] = code_of(x[i] * inverse, -127, 127);
    return half;
}

static uint16_t round_4(const float *x, int n, uint8_t *codes, uint16_t *lowest, const we_cpu_kernels *k)
{
    float low = x[0], high = x[0];
    for (int i = 1; i < n; i++) low = WE_MIN(low, x[i]), high = WE_MAX(high, x[i]);
    const float pair[2] = { (high - low) / 15.0f, low };
    uint16_t half[2];
    k->to_f16(pair, half, 2);
    const float scale = we_f16_to_f32(half[0]), base = we_f16_to_f32(half[1]),
                inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (int i = 0; i < n; i++) codes[i] = code_of((x[i] - base) * inverse, 0, 15);
    *lowest = half[1];
    return half[0];
}

/* Codes of one position to where a block has them. */
static void put_codes(const we_kv_codes *b, bool values, int position, int g, const uint8_t *from, int n)
{
    if (b->bits == 8 && values)
        memcpy(b->codes + (position * we_kv_groups(b->head_dim) + g) * WE_KV_GROUP, from, WE_KV_GROUP);
    else if (b->bits == 8)
        for (int i = 0; i < n; i++) b->codes[(g * WE_KV_GROUP + i) * WE_KV_BLOCK + position] = from[i];
    else if (values) {
        uint8_t *to = b->codes + (position * we_kv_groups(b->head_dim) + g) * WE_KV_GROUP / 2;
        for (int i = 0; i < WE_KV_GROUP / 2; i++) to[i] = (uint8_t)(from[i] | from[i + WE_KV_GROUP / 2] << 4);
    } else {
        const int shift = position % 32 / 16 * 4;
        for (int i = 0; i < n; i++) {
            uint8_t *to = b->codes + (g * WE_KV_GROUP + i) * WE_KV_BLOCK / 2 + position / 32 * 16 + position % 16;
            *to = (uint8_t)((*to & ~(15 << shift)) | from[i] << shift);
        }
    }
}

static void write_codes(const we_cpu_kernels *k, const we_kv_codes *b, bool values, int position, const float *x)
{
    for (int g = 0; g < we_kv_groups(b->head_dim); g++, x += WE_KV_GROUP) {
        const int n = WE_MIN(b->head_dim - g * WE_KV_GROUP, WE_KV_GROUP), at = g * WE_KV_BLOCK + position;
        uint8_t codes[WE_KV_GROUP] = { 0 };
        b->scales[at] = b->bits == 8 ? round_8(x, n, codes, k) : round_4(x, n, codes, &b->lows[at], k);
        put_codes(b, values, position, g, codes, n);
    }
}

static void write_keys_f32(float *block, int column, const float *x, int n)
{
    for (int i = 0; i < n; i++) block[i * WE_KV_BLOCK + column] = x[i];
}

static void write_keys_f16(uint16_t *block, int column, const float *x, int n, const we_cpu_kernels *k)
{
    uint16_t half[64];
    for (int begin = 0; begin < n; begin += 64) {
        const int some = WE_MIN(n - begin, 64);
        k->to_f16(x + begin, half, some);
        for (int i = 0; i < some; i++) block[(begin + i) * WE_KV_BLOCK + column] = half[i];
    }
}

void we_kv_write(const we_cpu_kernels *k, we_kv *kv, int layer, int64_t position, const float *keys,
                 const float *values)
{
    const we_kv_store *s = &kv->layers[layer];
    const int dim = s->shape.head_dim, row = (int)(position % WE_KV_BLOCK);
    const int64_t index = position / WE_KV_BLOCK;
    for (int h = 0; h < s->shape.n_kv_heads; h++, keys += dim, values += dim) {
        if (kv->bits < 16) {
            const we_kv_codes kb = we_kv_codes_of(kv, layer, index, h, false);
            const we_kv_codes vb = we_kv_codes_of(kv, layer, index, h, true);
            write_codes(k, &kb, false, row, keys);
            write_codes(k, &vb, true, row, values);
            continue;
        }
        uint8_t *kb = block_at(kv, layer, index, h, false), *vb = block_at(kv, layer, index, h, true);
        if (kv->bits == 32) {
            write_keys_f32((float *)(void *)kb, row, keys, dim);
            memcpy((float *)(void *)vb + row * dim, values, (size_t)dim * sizeof(float));
        } else {
            write_keys_f16((uint16_t *)(void *)kb, row, keys, dim, k);
            k->to_f16(values, (uint16_t *)(void *)vb + row * dim, dim);
        }
    }
}
