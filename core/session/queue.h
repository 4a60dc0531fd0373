#ifndef SLIM_SESSION_QUEUE_H
#define SLIM_SESSION_QUEUE_H

#include <pthread.h>

#include "session/job.h"

/* The owner's list of jobs, and the queue and events that are shared with the job thread. */
typedef struct Queue {
    JobRow **jobs;             /* oldest first */
    size_t njobs, cap_jobs;
    int next_job;
    pthread_t thread;
    bool thread_on;
    pthread_mutex_t lock;      /* queue and events; never held longer than a list operation */
    pthread_cond_t wake;
    Job *head, *tail;          /* that wait */
    Job *running;
    bool quit;
    Event *events, **events_tail;
    int pipe[2];
    struct Kit *kit;           /* job thread only, while it lives */
} Queue;

Status queue_init(Queue *q, Error *err);
void queue_fini(Queue *q);
/* Makes session_fd readable. Any thread. */
void queue_wake(Queue *q);
/* Stops the running job and those that wait, joins the thread, drops events that were not applied. */
void jobs_stop(Session *s);
/* A job with its data files found (calib false: it needs none); the caller's until enqueue, which takes it. */
enum { TEXTS_CALIB = 1, TEXTS_EVAL = 2 };
Status job_new(Session *s, JobKind kind, unsigned texts, Job **out, Error *err);
Status job_take_levels(Session *s, Job *j, Error *err); /* copies the present assignment */
/* The levels that the units of a pass are scored at (session_set_scheme). */
Status job_take_scheme(Session *s, const MetricPass *pass, Job *j, Error *err);
Status job_enqueue(Session *s, Job *j, Error *err);
/* Queues a measurement of these levels[nlinears] (copied) of a recipe (held), the open one or another. title NULL: how many
 * are quantized. */
Status job_measure(Session *s, Recipe *r, const int16_t *level, bool full, const char *title, Error *err);
/* Room in the list of jobs for one more. */
Status job_room(Queue *q, Error *err);
/* How many jobs run or wait. */
size_t queue_open(const Queue *q);
/* Whether an analysis runs or waits. */
bool queue_analyzes(const Queue *q);
/* Whether a job that runs or waits will give this unit of the metric's scope a score. */
bool queue_will_score(const Session *s, const Metric *m, int64_t unit);

/* ---- job thread ---- */
/* Posts the job's own event of this kind. */
void post(Queue *q, Job *j, EventKind kind);
void post_progress(Queue *q, Job *j, const JobProgress *p);
/* The results are taken over on success only. */
Status post_rows(Queue *q, Job *j, const PassStep *step, Error *err);
Status post_scores(Queue *q, Job *j, const PassStep *step, Error *err);
/* A message; one that there is no memory for is counted and told at the end. */
void post_log(Queue *q, Job *j, int level, const char *text);

#endif
