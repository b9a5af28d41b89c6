/* SPDX-License-Identifier: Apache-2.0
 * test_recommend.c - which models are recommended on machines of given memory, and that what they need is counted as an opened
 * model counts it. */
#include "backend/backend.h"
#include "hub/hub.h"
#include "model/model.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#define GB UINT64_C(1000000000)
#define GIB ((uint64_t)1 << 30)

typedef struct picks {
    char recommended[512];
    we_recommendation llama_8b, llama_70b, gemma_4b, phi;
    char reason_70b[256], command_8b[128];
    size_t n;
} picks;

static bool pick(void *user, const we_recommendation *r)
{
    picks *p = user;
    p->n++;
    if (r->is_recommended) {
        assert_true(r->fits);
        strcat(strcat(p->recommended, p->recommended[0] ? " " : ""), r->name);
    }
    assert_int_equal(r->needed_bytes, r->weights_bytes + r->kv_bytes + r->scratch_bytes);
    assert_true(r->weights_bytes > 0 && r->kv_bytes > 0 && r->scratch_bytes > 0 && r->reason[0] && r->command[0]);
    if (strcmp(r->name, "llama-3.1-8b-instruct") == 0) {
        p->llama_8b = *r;
        strcpy(p->command_8b, r->command);
    }
    if (strcmp(r->name, "gemma-3-4b") == 0) p->gemma_4b = *r;
    if (strcmp(r->name, "phi-3-mini") == 0) p->phi = *r;
    if (strcmp(r->name, "llama-3.1-70b") == 0) {
        p->llama_70b = *r;
        strcpy(p->reason_70b, r->reason);
    }
    return true;
}

static picks on(uint64_t total, uint64_t available, uint64_t disk, int tier)
{
    we_error err;
    picks p = { 0 };
    const we_machine m = { .size = sizeof m,
                           .memory_total_bytes = total,
                           .memory_available_bytes = available,
                           .disk_free_bytes = disk,
                           .memory_bytes_per_second = 40e9,
                           .n_cpus = 8,
                           .tier_gb = tier,
                           .gpus = "" };
    setenv("HF_HUB_CACHE", test_dir(), 1); /* nothing is here */
    setenv("LOCAL_MODELS_DIR", test_dir(), 1);
    CHECK_OK(we_recommend_for(&m, 8192, pick, &p, &err), &err);
    assert_int_equal(p.n, we_hub_n_short_names);
    return p;
}

TEST(recommend_follows_the_tiers)
{
    assert_string_equal(on(8 * GIB - GIB / 3, 6 * GIB, 100 * GB, 8).recommended, "llama-3.2-3b phi-3-mini");
    assert_string_equal(on(16 * GIB - GIB / 2, 12 * GIB, 100 * GB, 16).recommended,
                        "mistral-7b-instruct llama-3.1-8b-instruct");
    assert_string_equal(on(64 * GIB, 60 * GIB, 100 * GB, 32).recommended, "llama-3.1-70b");
    const picks p = on(32 * GIB, 30 * GIB, 100 * GB, 32); /* the largest does not fit: the tier below */
    assert_string_equal(p.recommended, "mistral-7b-instruct llama-3.1-8b-instruct");
    assert_false(p.llama_70b.fits);
    assert_non_null(strstr(p.reason_70b, "too large"));
    assert_string_equal(p.command_8b, "whisperengine pull llama-3.1-8b-instruct");
}

TEST(recommend_takes_what_fits_a_small_machine)
{
    const picks p = on(3 * GIB, 2 * GIB, 100 * GB, 8);
    assert_true(p.recommended[0] != 0 && !strchr(p.recommended, ' '));
    assert_string_equal(on(GIB / 2, GIB / 4, 100 * GB, 8).recommended, ""); /* nothing does */
}

TEST(recommend_looks_at_the_disk_and_at_free_memory)
{
    const picks full = on(64 * GIB, 60 * GIB, 5 * GB, 32);
    assert_string_equal(full.recommended, "mistral-7b-instruct llama-3.1-8b-instruct");
    assert_non_null(strstr(full.reason_70b, "disk"));
    const picks busy = on(16 * GIB, 2 * GIB, 100 * GB, 16);
    assert_true(busy.llama_8b.fits);
    assert_false(busy.llama_8b.fits_now);
}

TEST(recommend_counts_as_is_known)
{
    const picks p = on(64 * GIB, 60 * GIB, 100 * GB, 32);
    /* 32 layers, 8 heads of 128, keys and values of 2 bytes, 8192 positions: 1 GiB */
    assert_in_range(p.llama_8b.kv_bytes, GIB, GIB + GIB / 50);
    assert_in_range(p.phi.context, 4096, 4096); /* no more than the model has */
    assert_true(p.gemma_4b.kv_bytes < GIB / 2); /* 29 of its 34 layers see 1024 tokens only */
    /* 40 GB/s over the 4.5 GB of weights less embeddings, and half the cache */
    assert_in_range((int)p.llama_8b.tokens_per_second, 7, 9);
}

TEST(recommend_shapes_have_the_parameters_that_the_names_say)
{
    for (size_t i = 0; i < we_hub_n_short_names; i++) {
        const we_hub_shape *s = &we_hub_shapes[i];
        const double hidden = s->hidden_size, q = (double)s->n_heads * s->head_dim,
                     kv = (double)s->n_kv_heads * s->head_dim;
        const double layer = hidden * (2 * q + 2 * kv) + 3 * hidden * s->intermediate_size;
        const double all = s->n_layers * layer + (s->tied ? 1 : 2) * hidden * s->vocab_size;
        const double named = (double)we_hub_short_names[i].n_parameters;
        if (all < 0.9 * named || all > 1.01 * named) /* the 4b and 12b of Gemma 3 see pictures too */
            fail_msg("%s: the shape has %.0f M parameters, the row %.0f M", we_hub_short_names[i].name, all / 1e6,
                     named / 1e6);
    }
}

TEST(recommend_counts_what_an_opened_model_counts)
{
    we_error err;
    we_device *device;
    we_decoder *decoder;
    uint64_t kv, scratch;
    char path[512];
    snprintf(path, sizeof path, "%s/models/default", getenv("WE_SOURCE_DIR") ? getenv("WE_SOURCE_DIR") : ".");
    if (!we_path_is_dir(path)) skip();
    CHECK_OK(we_device_open(&device, &(we_device_options){ .threads = 1 }, &err), &err);
    CHECK_OK(we_decoder_open(&decoder, device, path, &(we_decoder_options){ .bind_only = true, .context = 1000 }, &err),
             &err);
    const we_decoder_info *i = we_decoder_get_info(decoder);
    const we_decoder_shape shape = { i->n_layers, i->hidden_size, 0, i->n_heads, i->n_kv_heads,
                                     i->head_dim, i->vocab_size,  0, 0 };
    CHECK_OK(we_decoder_count(&shape, device, 1000, &kv, &scratch, &err), &err);
    assert_int_equal(kv, i->kv_bytes_at_context);
    assert_true(scratch < i->scratch_bytes); /* the feed-forward's width is not among the figures that a model tells */
    we_decoder_close(decoder);
    we_device_close(device);
}

TEST(recommend_measures_bandwidth)
{
    const double speed = we_memory_bandwidth();
    assert_true(speed > 1e7 && speed < 1e14); /* a frozen machine may be slow; none is that fast */
}

static bool count_it(void *user, const we_recommendation *r)
{
    (void)r;
    ++*(int *)user;
    return *(int *)user < 3;
}

TEST(recommend_stops_and_survives_no_memory)
{
    we_error err;
    int n = 0;
    we_status st = WE_E_NOMEM;
    const we_machine m = { .size = sizeof m, .memory_total_bytes = 8 * GIB, .tier_gb = 8, .gpus = "" };
    CHECK_OK(we_recommend_for(&m, 8192, count_it, &n, &err), &err);
    assert_int_equal(n, 3);
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        n = 0;
        st = we_recommend_for(&m, 8192, count_it, &n, &err);
    }
}

static void join(void *user, const char *text) { strcat(strcat(user, text), "\n"); }

TEST(recommend_sets_up_in_sentences)
{
    we_error err;
    char all[16384] = "";
    setenv("LMSTUDIO_HOST", "127.0.0.1:1", 1);
    setenv("OLLAMA_HOST", "127.0.0.1:1", 1);
    CHECK_OK(we_setup_recommendations(join, all, &err), &err);
    assert_non_null(strstr(all, "This machine has"));
    assert_non_null(strstr(all, "MLX (available)"));
    assert_non_null(strstr(all, "Ollama (not available)"));
    assert_non_null(strstr(all, "127.0.0.1:1"));
}
