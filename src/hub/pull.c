/* SPDX-License-Identifier: Apache-2.0
 * pull.c - a model from the hub, from its name to its folder:
 *
 *     revision -> commit (API) -> list of files (kept list, else API) -> those that a model needs
 *     -> blobs that are not here (download.c) -> links, the kept list, the ref
 *
 * Links and ref come last: until all bytes are here and right, an earlier revision stays what the name leads to, and a
 * reader never sees half a model. */
#include "hub/hub_int.h"
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define TICK_MS 100

typedef struct pull {
    const we_pull_options *options;
    we_hub_settings settings;
    we_hub_name name;
    we_hub_client client;
    we_hub_files files;
    char commit[41];
    char *root, *tree; /* CACHE/models--ORG--NAME, its trees/COMMIT.json */
    atomic_bool cancel;
    /* Between the thread that works and the one that called, which tells the progress and hears that it should stop. */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    we_pull_progress progress;
    char file[256], waiting[256]; /* what progress points to */
    bool done;
    char *path;
    we_status status;
    we_error error;
} pull;

static we_status no_memory(we_error *err) { return we_fail(err, WE_E_NOMEM, "no memory for a download"); }

static we_status set_tree_path(pull *p, we_error *err)
{
    we_buf path = { 0 };
    we_buf_printf(&path, "%s/trees/%s.json", p->root, p->commit);
    p->tree = we_buf_take(&path, NULL);
    we_buf_deinit(&path);
    return p->tree ? WE_OK : no_memory(err);
}

/* The list of a commit never changes: the one that is kept will do. */
static we_status list_files(pull *p, we_error *err)
{
    we_status st = set_tree_path(p, err);
    if (st) return st;
    if (we_path_exists(p->tree)) {
        we_error why;
        if (!we_hub_files_read(&p->files, p->tree, &why)) return WE_OK;
        we_log(hub, WARN, "%s; asking the hub anew", why.message);
        we_hub_files_deinit(&p->files);
    }
    return we_hub_api_files(&p->client, p->commit, &p->files, err);
}

static we_status link_all(const pull *p, we_error *err)
{
    we_status st = WE_OK;
    for (size_t i = 0; i < p->files.n && !st; i++) {
        const we_hub_file *f = &p->files.items[i];
        if (f->needed) st = we_hub_link(p->root, p->commit, f->path, we_hub_blob(f), err);
    }
    if (!st) st = we_hub_write_ref(p->root, p->name.revision, p->commit, err);
    /* A cache without its kept list works as well. */
    we_error why;
    if (!st && !we_path_exists(p->tree) && we_hub_files_write(&p->files, p->tree, &why))
        we_log(hub, WARN, "%s", why.message);
    return st;
}

/* Without the network: a folder all of whose files are here. */
static we_status pull_offline(pull *p, char **path, we_error *err)
{
    char *dir = we_hub_snapshot(p->settings.cache, p->name.folder, p->name.revision);
    if (dir && we_hub_has_config(dir)) {
        *path = dir;
        return WE_OK;
    }
    we_free(dir);
    return we_fail(err, WE_E_NOT_FOUND, "%s is not on this machine, and HF_HUB_OFFLINE forbids to fetch it",
                   p->name.repo);
}

/* On the working thread: leave the figures for the other one. */
static bool keep_progress(void *user, const we_pull_progress *now)
{
    pull *p = user;
    pthread_mutex_lock(&p->lock);
    p->progress = *now;
    if (now->file) snprintf(p->file, sizeof p->file, "%s", now->file);
    if (now->waiting) snprintf(p->waiting, sizeof p->waiting, "%s", now->waiting);
    p->progress.file = now->file ? p->file : NULL;
    p->progress.waiting = now->waiting ? p->waiting : NULL;
    pthread_mutex_unlock(&p->lock);
    return true;
}

static we_status pull_online(pull *p, char **path, we_error *err)
{
    p->client = (we_hub_client){ &p->settings, &p->name, &p->cancel, p->options->retries, NULL };
    we_status st = we_hub_net_open(&p->client.net, err);
    if (!st && WE_HUB_IS_COMMIT(we_str_from(p->name.revision)))
        snprintf(p->commit, sizeof p->commit, "%s", p->name.revision);
    else if (!st)
        st = we_hub_api_commit(&p->client, p->commit, err);
    if (!st) st = list_files(p, err);
    we_net_close(p->client.net);
    if (!st) st = we_hub_files_choose(&p->files, p->name.repo, err);
    if (!st) st = we_dir_make(p->root, 0777, err);
    if (!st) {
        const we_download d = { &p->client, p->commit, p->root, p->options->connections, keep_progress, p };
        st = we_download_run(&d, &p->files, &p->cancel, err);
    }
    if (!st) st = link_all(p, err);
    char *snapshots = st ? NULL : we_hub_join(p->root, "snapshots", p->commit);
    if (!st && !snapshots) st = no_memory(err);
    *path = snapshots;
    return st;
}

static void *run(void *arg)
{
    pull *p = arg;
    p->status = pull_online(p, &p->path, &p->error);
    pthread_mutex_lock(&p->lock);
    p->done = true;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Tell the progress until the working thread has ended. */
static void attend(pull *p)
{
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) until.tv_sec++, until.tv_nsec -= 1000000000L;
        if (!p->done) pthread_cond_timedwait(&p->ended, &p->lock, &until);
        we_pull_progress now = p->progress;
        char file[sizeof p->file], waiting[sizeof p->waiting];
        memcpy(file, p->file, sizeof file);
        memcpy(waiting, p->waiting, sizeof waiting);
        now.file = now.file ? file : NULL;
        now.waiting = now.waiting ? waiting : NULL;
        const bool done = p->done;
        pthread_mutex_unlock(&p->lock);
        if (p->options->progress && !p->options->progress(p->options->progress_user, &now))
            atomic_store(&p->cancel, true);
        if (done) return;
        pthread_mutex_lock(&p->lock);
    }
}

static we_status pull_on_thread(pull *p, char **path, we_error *err)
{
    pthread_t thread;
    we_status st = WE_OK;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->ended, NULL);
    if (pthread_create(&thread, NULL, run, p) != 0) {
        st = we_fail(err, WE_E_NOMEM, "the system gave no thread for a download");
    } else {
        attend(p);
        pthread_join(thread, NULL);
        st = p->status;
        *path = p->path;
        if (st && err) *err = p->error;
    }
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    return st;
}

we_status we_hub_pull(const char *name, const we_pull_options *options, char **path, we_error *err)
{
    pull p = { .options = options };
    *path = NULL;
    we_status st = we_hub_name_parse(&p.name, name, err);
    if (!st) st = we_hub_settings_read(&p.settings, options->token, options->endpoint, err);
    if (!st && !p.settings.cache)
        st = we_fail(err, WE_E_NOT_FOUND, "no place for models: neither HF_HOME nor HOME is set");
    if (!st && !(p.root = we_path_join(p.settings.cache, p.name.folder))) st = no_memory(err);
    if (!st) st = p.settings.offline ? pull_offline(&p, path, err) : pull_on_thread(&p, path, err);
    we_hub_files_deinit(&p.files);
    we_hub_name_deinit(&p.name);
    we_hub_settings_deinit(&p.settings);
    we_free(p.tree);
    we_free(p.root);
    return st;
}
