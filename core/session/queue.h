#ifndef SLIM_SESSION_QUEUE_H
#define SLIM_SESSION_QUEUE_H

#include <pthread.h>

#include "session/job.h"

/* The owner's list of jobs, and the queue and events that are shared with the job thread. */
typedef struct Queue {
    JobRow **jobs;             /* oldest first */
    size_t njobs, cap_jobs;
    int next_job;
    int ended, last_ended;     /* how many jobs of this sitting have, and the last of them */
    pthread_t thread;
    bool attended;             /* SessionOptions.attended */
    bool thread_on;
    pthread_mutex_t lock;      /* queue and events; never held longer than a list operation */
    pthread_cond_t wake, answered; /* answered: Job.ask of the running job */
    Job *head, *tail;          /* that wait */
    Job *running;
    bool quit;
    Event *events, **events_tail;
    int pipe[2];
    int *waits;                /* ids that still wait, of a journal that is being restored; 0: no more */
    size_t nwaits, cap_waits;
    struct Kit *kit;           /* job thread only, while it lives */
    struct Keeper *keeper;     /* that the job thread writes to, NULL: none */
} Queue;

Status queue_init(Queue *q, Error *err);
void queue_fini(Queue *q);
/* Makes session_fd readable. Any thread. */
void queue_wake(Queue *q);
/* Stops the running job and those that wait, joins the thread, drops events that were not applied. */
void jobs_stop(Session *s);
/* Of jobs that have ended the newest 500 stay in the list, and those that can be gone on with. Owner thread. */
void jobs_forget_oldest(Session *s);
/* A job with its data files found (calib false: it needs none); the caller's until enqueue, which takes it. */
enum { TEXTS_CALIB = 1, TEXTS_EVAL = 2 };
Status job_new(Session *s, JobKind kind, unsigned texts, Job **out, Error *err);
Status job_take_levels(Session *s, Job *j, Error *err); /* copies the present assignment */
/* The levels that the units of a pass are scored at (session_set_scheme). */
Status job_take_scheme(Session *s, const MetricPass *pass, Job *j, Error *err);
/* Queues it (job_append) and tells the journal. */
Status job_enqueue(Session *s, Job *j, Error *err);
/* Puts it, which has its id, at the end of the list and of the queue; held: it will not start by itself, and needs no thread
 * yet. The caller has made room in the list. */
void job_append(Session *s, Job *j, bool held);
/* Starts the job thread where it does not run yet. */
Status job_thread(Session *s, Error *err);
/* Takes it off the list of those that wait; false: it is not among them. Under the lock. */
bool job_unlink(Queue *q, Job *j);
/* Puts one that waits before the one before it; false: it is the first, or not among them. Under the lock. */
bool job_swap_ahead(Queue *q, Job *j);
/* It is a later pass of an analysis, which sharpens what the first finds: what a person asks for comes before it. */
bool job_gives_way(const JobRow *r);
/* Takes a waiting job out of the queue; false: it does not wait. Under the lock. */
bool job_take_out(Queue *q, Job *j);
bool job_is_open(const JobRow *r);
/* Starts the jobs that an earlier sitting left waiting, but for those that are paused; *n: how many. */
Status jobs_release(Session *s, int *n, Error *err);
/* The row with this id, NULL: none. */
JobRow *job_row_find(const Queue *q, int id);
/* Queues a measurement of these levels[nlinears] (copied) of a recipe (held), the open one or another. title NULL: how many
 * are quantized. */
Status job_measure(Session *s, Recipe *r, const int16_t *level, bool full, const char *title, Error *err);
/* Room in the list of jobs for as many as one request makes: a pass for every metric, and one more. */
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
/* Asks a person and waits for the answer: false when nobody gives one, or the job is to stop. */
bool post_ask(Queue *q, Job *j, const char *question, char *line, size_t size);
/* A message; one that there is no memory for is counted and told at the end. */
void post_log(Queue *q, Job *j, int level, const char *text);

#endif
