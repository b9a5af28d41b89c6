/* SPDX-License-Identifier: Apache-2.0
 * test_device_budget.c - device: a limit on what is held; caches are counted while they grow and when they are freed. */
#include "device/device.h"
#include "support.h"
#include <stdatomic.h>

TEST(device_budget_stops_a_cache_that_grows)
{
    we_device *d;
    we_kv *kv, *copy;
    we_error err;
    const we_kv_layer layers[] = { { .n_kv_heads = 4, .head_dim = 64 }, { .n_kv_heads = 4, .head_dim = 64 } };
    const we_kv_spec spec = { .layers = layers, .n_layers = 2, .bits = 16 };
    CHECK_OK(we_device_open(&d, &(we_device_options){ .threads = 1, .memory_limit_bytes = 1 << 20 }, &err), &err);
    CHECK_OK(d->ops->kv_new(d, &spec, &kv, &err), &err);
    int64_t n = 0;
    we_status st = WE_OK;
    while (!st && n < 100000) {
        st = d->ops->kv_reserve(d, kv, n, n + 64, &err);
        assert_true(atomic_load(&d->budget.used) <= 1 << 20);
        if (!st) n += 64;
    }
    assert_int_equal(st, WE_E_NOMEM);
    EXPECT_MESSAGE(&err, "limit of 1.05 MB");
    assert_true(n >= 256 && n < 2048); /* 2 layers * 2 * 4 * 64 numbers of 2 bytes: 2 KiB a position */
    CHECK_OK(d->ops->kv_copy(d, kv, &copy, &err), &err);
    d->ops->kv_free(d, kv);
    assert_true(atomic_load(&d->budget.used) > 0); /* shared pages are the copy's now */
    d->ops->kv_free(d, copy);
    assert_int_equal(atomic_load(&d->budget.used), 0);
    assert_false(we_budget_take(&d->budget, UINT64_MAX));
    assert_true(we_budget_take(&d->budget, 1 << 20));
    we_budget_give(&d->budget, 1 << 20);
    we_device_close(d);
}
