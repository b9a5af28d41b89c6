/* SPDX-License-Identifier: Apache-2.0
 * detect.c - all backends of the chain, inspected at the same time, each on a thread of its own. Every inspection gets the same
 * deadline and keeps it (a request to a server ends with it), so the threads are simply joined and nothing is left behind. */
#include "backend/backend_int.h"
#include <pthread.h>

typedef struct look {
    we_backend_found *found;
    int wait_ms;
    pthread_t thread;
    bool started, out_of_memory;
} look;

static void inspect(look *l)
{
    we_backend_found *f = l->found;
    we_backend_target target;
    we_backend *b = NULL;
    we_error err;
    we_status st = we_backend_target_default(&target, f->kind, &err);
    if (!st) st = we_backend_open(&b, &target, NULL, &err);
    if (!st) st = we_backend_inspect(b, &f->report, l->wait_ms, &err);
    f->available = !st;
    snprintf(f->reason, sizeof f->reason, "%s", st ? err.message : f->report.reason);
    f->url = target.base ? target.base : we_strdup("");
    target.base = NULL;
    l->out_of_memory = !f->url || st == WE_E_NOMEM;
    we_backend_close(b);
    we_backend_target_deinit(&target);
}

static void *run(void *arg)
{
    inspect(arg);
    return NULL;
}

we_status we_backend_detect(we_backend_found *found, const we_backend_kind *chain, int wait_ms, we_error *err)
{
    look looks[WE_BACKEND_CHAIN];
    for (size_t i = 0; i < WE_BACKEND_CHAIN; i++) {
        found[i] = (we_backend_found){ .kind = chain[i] };
        looks[i] = (look){ .found = &found[i], .wait_ms = wait_ms };
    }
    for (size_t i = 0; i < WE_BACKEND_CHAIN; i++)
        looks[i].started = pthread_create(&looks[i].thread, NULL, run, &looks[i]) == 0;
    bool out_of_memory = false;
    for (size_t i = 0; i < WE_BACKEND_CHAIN; i++) {
        if (looks[i].started)
            pthread_join(looks[i].thread, NULL);
        else
            inspect(&looks[i]);
        out_of_memory = out_of_memory || looks[i].out_of_memory;
    }
    if (!out_of_memory) return WE_OK;
    for (size_t i = 0; i < WE_BACKEND_CHAIN; i++) we_backend_found_deinit(&found[i]);
    return we_fail(err, WE_E_NOMEM, "no memory to look for backends");
}

void we_backend_found_deinit(we_backend_found *f)
{
    we_free(f->url);
    we_backend_report_deinit(&f->report);
    *f = (we_backend_found){ 0 };
}
