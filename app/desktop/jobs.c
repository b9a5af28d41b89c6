/* SPDX-License-Identifier: Apache-2.0
 * jobs.c - see jobs.h. A thread writes its figures under the lock and asks for one idle call at a time, however often the
 * library tells its progress. */
#include "jobs.h"
#include "base/base.h"
#include <glib/gi18n.h>
#include <whisperengine.h>

typedef struct job {
    desk_jobs *jobs;
    desk_job view; /* the main loop's */
    char *name, *target;
    int bits;
    gboolean pulls;
    GThread *thread;
    int cancelled, told; /* atomic */
    /* of the thread, under the lock */
    GMutex lock;
    desk_job_stage stage;
    uint64_t done, total;
    /* the thread's, read by the main loop once it has ended */
    we_status status;
    we_error err;
} job;

struct desk_jobs {
    GApplication *gtk;
    GPtrArray *all; /* of job */
    const desk_job_events *events;
    gpointer user;
    int last_id;
};

static void job_free(gpointer p)
{
    job *j = p;
    g_mutex_clear(&j->lock);
    g_free(j->name);
    g_free(j->target);
    g_free(j);
}

/* ---- In the main loop ---- */

static void look(job *j)
{
    g_mutex_lock(&j->lock);
    j->view.stage = j->stage;
    j->view.done = j->done;
    j->view.total = j->total;
    g_mutex_unlock(&j->lock);
}

static gboolean show(gpointer p)
{
    job *j = p;
    const desk_jobs *jobs = j->jobs;
    g_atomic_int_set(&j->told, 0);
    look(j);
    if (jobs->events) jobs->events->changed(jobs->user, &j->view);
    return G_SOURCE_REMOVE;
}

static void notify(const desk_jobs *jobs, const job *j)
{
    const char *title = !j->status                             ? _("Model Is Ready")
                        : j->view.stage == DESK_JOB_CONVERTING ? _("Conversion Failed")
                                                               : _("Download Failed");
    GNotification *n = g_notification_new(title);
    g_notification_set_body(n, j->status ? j->err.message : j->name);
    g_application_send_notification(jobs->gtk, j->name, n);
    g_object_unref(n);
}

static gboolean end(gpointer p)
{
    job *j = p;
    desk_jobs *jobs = j->jobs;
    g_thread_join(j->thread);
    look(j);
    const char *problem = !j->status ? NULL : j->status == WE_E_CANCELLED ? "" : j->err.message;
    g_ptr_array_remove(jobs->all, j); /* so that who is told lists the others */
    if (jobs->events)
        jobs->events->ended(jobs->user, &j->view, problem);
    else if (!problem || *problem)
        notify(jobs, j);
    job_free(j);
    return G_SOURCE_REMOVE;
}

/* ---- On the thread ---- */

/* False: it was cancelled. */
static bool tell(job *j, desk_job_stage stage, uint64_t done, uint64_t total)
{
    g_mutex_lock(&j->lock);
    j->stage = stage;
    j->done = done;
    j->total = total;
    g_mutex_unlock(&j->lock);
    if (g_atomic_int_compare_and_exchange(&j->told, 0, 1)) g_idle_add_full(G_PRIORITY_DEFAULT, show, j, NULL);
    return !g_atomic_int_get(&j->cancelled);
}

static bool on_pull(void *user, const we_pull_progress *p)
{
    return tell(user, p->total_bytes ? DESK_JOB_DOWNLOADING : DESK_JOB_ASKING, p->done_bytes, p->total_bytes);
}

static bool on_convert(void *user, uint64_t done, uint64_t total)
{
    return tell(user, DESK_JOB_CONVERTING, done, total);
}

static we_status convert(job *j)
{
    we_convert_options o = WE_CONVERT_OPTIONS_INIT;
    o.quantize = j->bits > 0;
    o.bits = j->bits;
    o.progress = on_convert;
    o.progress_user = j;
    tell(j, DESK_JOB_CONVERTING, 0, 0);
    return we_convert_model_to_mlx(j->name, j->target, &o, NULL, &j->err);
}

/* Weights that packing makes smaller; a folder that can't be inspected is perhaps one that converting mends. */
static gboolean is_unpacked(const char *path)
{
    char type[64], quantization[128];
    we_model_info info = { .size = sizeof info };
    return we_model_inspect(path, NULL, &info, type, quantization, NULL) || g_str_has_prefix(quantization, "bfloat") ||
           g_str_has_prefix(quantization, "float");
}

static we_status pull(job *j)
{
    we_pull_options o = WE_PULL_OPTIONS_INIT;
    char *path = NULL;
    o.progress = on_pull;
    o.progress_user = j;
    we_status st = we_model_pull(j->name, &o, &path, &j->err);
    if (!st && j->bits && is_unpacked(path)) st = convert(j);
    we_free(path);
    return st;
}

static gpointer work(gpointer p)
{
    job *j = p;
    j->status = j->pulls ? pull(j) : convert(j);
    g_idle_add_full(G_PRIORITY_DEFAULT, end, j, NULL); /* behind every `show` */
    return NULL;
}

/* ---- Doors ---- */

desk_jobs *desk_jobs_new(GApplication *gtk)
{
    desk_jobs *jobs = g_new0(desk_jobs, 1);
    jobs->gtk = gtk;
    jobs->all = g_ptr_array_new();
    return jobs;
}

void desk_jobs_close(desk_jobs *jobs)
{
    if (!jobs) return;
    for (guint i = 0; i < jobs->all->len; i++) g_atomic_int_set(&((job *)jobs->all->pdata[i])->cancelled, 1);
    for (guint i = 0; i < jobs->all->len; i++) {
        job *j = jobs->all->pdata[i];
        g_thread_join(j->thread);
        while (g_idle_remove_by_data(j)) continue;
        job_free(j);
    }
    g_ptr_array_unref(jobs->all);
    g_free(jobs);
}

void desk_jobs_listen(desk_jobs *jobs, const desk_job_events *events, gpointer user)
{
    jobs->events = events;
    jobs->user = user;
}

void desk_jobs_each(desk_jobs *jobs, void (*fn)(gpointer user, const desk_job *job), gpointer user)
{
    for (guint i = 0; i < jobs->all->len; i++) fn(user, &((job *)jobs->all->pdata[i])->view);
}

static void start(desk_jobs *jobs, const char *name, char *target, int bits, gboolean pulls)
{
    job *j = g_new0(job, 1);
    *j = (job){ .jobs = jobs, .name = g_strdup(name), .target = target, .bits = bits, .pulls = pulls };
    g_mutex_init(&j->lock);
    j->stage = pulls ? DESK_JOB_ASKING : DESK_JOB_CONVERTING;
    j->view = (desk_job){ .id = ++jobs->last_id, .stage = j->stage, .name = j->name };
    g_ptr_array_add(jobs->all, j);
    if (jobs->events) jobs->events->changed(jobs->user, &j->view);
    j->thread = g_thread_new("job", work, j);
}

void desk_jobs_pull(desk_jobs *jobs, const char *name, int bits)
{
    start(jobs, name, desk_job_target(name, bits), bits, TRUE);
}

void desk_jobs_convert(desk_jobs *jobs, const char *name, const char *target, int bits)
{
    start(jobs, name, g_strdup(target), bits, FALSE);
}

void desk_jobs_cancel(desk_jobs *jobs, int id)
{
    for (guint i = 0; i < jobs->all->len; i++) {
        job *j = jobs->all->pdata[i];
        if (j->view.id == id) g_atomic_int_set(&j->cancelled, 1);
    }
}

char *desk_job_target(const char *name, int bits)
{
    char *base = g_path_get_basename(name);
    if (g_str_has_suffix(base, ".gguf")) base[strlen(base) - 5] = 0;
    base[strcspn(base, "@")] = 0; /* a revision */
    char *target = bits ? g_strdup_printf("%s-%dbit", base, bits) : g_strdup_printf("%s-mlx", base);
    g_free(base);
    return target;
}
