/* SPDX-License-Identifier: Apache-2.0
 * jobs.h - what takes its time and goes on when the settings close: models that are downloaded or converted, each on a thread of its
 * own. A job that ended tells so (a listener, else a notification) and is gone. No widgets here. */
#ifndef DESK_JOBS_H
#define DESK_JOBS_H

#include <gio/gio.h>
#include <stdint.h>

typedef struct desk_jobs desk_jobs;

typedef enum desk_job_stage { DESK_JOB_ASKING, DESK_JOB_DOWNLOADING, DESK_JOB_CONVERTING } desk_job_stage;

typedef struct desk_job { /* the main loop's view of one; borrowed */
    int id;
    desk_job_stage stage;
    const char *name;     /* what is downloaded, or converted */
    uint64_t done, total; /* bytes; 0, 0: unknown */
} desk_job;

typedef struct desk_job_events {                         /* called in the main loop; arguments are borrowed */
    void (*changed)(gpointer user, const desk_job *job); /* also: it began */
    /* problem: "" where it was cancelled, NULL where all is well. */
    void (*ended)(gpointer user, const desk_job *job, const char *problem);
} desk_job_events;

/** gtk: for notifications; borrowed. */
desk_jobs *desk_jobs_new(GApplication *gtk);
/** Stops what runs and waits for the threads' end; nothing half-written stays. NULL is allowed. */
void desk_jobs_close(desk_jobs *jobs);

/** Who is told; NULL: nobody, then ends are notified. */
void desk_jobs_listen(desk_jobs *jobs, const desk_job_events *events, gpointer user);
void desk_jobs_each(desk_jobs *jobs, void (*fn)(gpointer user, const desk_job *job), gpointer user);

/** Fetch a model of the hub.
 * bits   : where it comes unpacked, convert it afterwards to NAME-4bit and the like among the own models; 0: leave it as it is. */
void desk_jobs_pull(desk_jobs *jobs, const char *name, int bits);
/** Convert a model to `target` among the own models. bits: 0: as it is, in MLX's form. */
void desk_jobs_convert(desk_jobs *jobs, const char *name, const char *target, int bits);
void desk_jobs_cancel(desk_jobs *jobs, int id);

/** "Qwen3-4B" of "Qwen/Qwen3-4B" or a GGUF file, with the bits behind it; g_free. */
char *desk_job_target(const char *name, int bits);

#endif
