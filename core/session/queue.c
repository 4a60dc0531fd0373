/* The job queue, the job thread and its events. */
#include "session/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "session/apply.h"
#include "session/kit.h"
#include "session/parts.h"
#include "session/table.h"

Status queue_init(Queue *q, Error *err)
{
    q->pipe[0] = q->pipe[1] = -1;
    q->events_tail = &q->events;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
    if (pipe2(q->pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set(err, ST_IO, "cannot make a pipe for job events: too many open files?");
    return ST_OK;
}

void queue_fini(Queue *q)
{
    for (size_t i = 0; i < q->njobs; i++)
        job_free(q->jobs[i]);
    free(q->jobs);
    for (int i = 0; i < 2; i++)
        if (q->pipe[i] >= 0)
            close(q->pipe[i]);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->wake);
}

Status job_room(Queue *q, Error *err)
{
    return mem_grow(&q->jobs, &q->cap_jobs, q->njobs + 1, sizeof *q->jobs) ? ST_OK : error_nomem(err, "the job list");
}

void job_free(Job *j)
{
    if (!j)
        return;
    free(j->calib.path);
    free(j->calib.name);
    free(j->eval.path);
    free(j->eval.name);
    free(j->selected);
    free(j->level);
    free(j->levels);
    quantize_job_fini(&j->quantize);
    free(j);
}

/* ---- events ---- */

void post(Session *s, Event e)
{
    Queue *q = s->queue;
    Event *copy = malloc(sizeof *copy);
    if (!copy) { /* rows of this layer are lost to the screen, not to the journal */
        for (int i = 0; i < e.nresults; i++)
            linear_result_fini(&e.results[i]);
        free(e.results);
        quantize_done_free(e.written);
        return;
    }
    *copy = e;
    copy->next = NULL;
    pthread_mutex_lock(&q->lock);
    *q->events_tail = copy;
    q->events_tail = &copy->next;
    pthread_mutex_unlock(&q->lock);
    ssize_t n;
    do
        n = write(q->pipe[1], "e", 1); /* a full pipe wakes the reader just as well */
    while (n < 0 && errno == EINTR);
}

static Event *take_events(Session *s)
{
    Queue *q = s->queue;
    char buf[256];
    while (read(q->pipe[0], buf, sizeof buf) > 0)
        ;
    pthread_mutex_lock(&q->lock);
    Event *first = q->events;
    q->events = NULL;
    q->events_tail = &q->events;
    pthread_mutex_unlock(&q->lock);
    return first;
}

/* ---- the thread ---- */

static Job *next_job(Session *s)
{
    Queue *q = s->queue;
    pthread_mutex_lock(&q->lock);
    while (!q->quit && !q->head)
        pthread_cond_wait(&q->wake, &q->lock);
    Job *j = q->quit ? NULL : q->head;
    if (j) {
        q->head = j->next;
        if (!q->head)
            q->tail = NULL;
        j->next = NULL;
        atomic_store(&q->cancel.level, 0);
    }
    pthread_mutex_unlock(&q->lock);
    return j;
}

static Status (*const run_of[])(Session *, Job *, Error *) = {
    [JOB_ANALYZE] = kit_analyze, [JOB_MEASURE] = kit_measure, [JOB_QUANTIZE] = kit_quantize};

static void *job_main(void *arg)
{
    Session *s = arg;
#ifdef SYS_gettid
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 5);
#endif
    for (Job *j; (j = next_job(s)) != NULL;) {
        post(s, (Event){.kind = EVT_START, .job = j});
        Error err = {0};
        Status st = run_of[j->view.kind](s, j, &err);
        err.status = st;
        post(s, (Event){.kind = EVT_END, .job = j, .error = err});
    }
    kit_free(s->queue->kit);
    s->queue->kit = NULL;
    return NULL;
}

static Status start_thread(Session *s, Error *err)
{
    Queue *q = s->queue;
    if (q->thread_on)
        return ST_OK;
    q->kit = kit_new();
    if (!q->kit)
        return error_nomem(err, "the job thread");
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    q->quit = false;
    int rc = pthread_create(&q->thread, NULL, job_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        kit_free(q->kit);
        q->kit = NULL;
        return error_set(err, ST_FAIL, "cannot start the job thread: %s", strerror(rc));
    }
    q->thread_on = true;
    return ST_OK;
}

void jobs_stop(Session *s)
{
    Queue *q = s->queue;
    if (q->thread_on) {
        pthread_mutex_lock(&q->lock);
        q->quit = true;
        atomic_store(&q->cancel.level, 2);
        pthread_cond_signal(&q->wake);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->thread, NULL);
        q->thread_on = false;
        q->head = q->tail = NULL;
    }
    for (Event *e = take_events(s), *next; e; e = next) {
        next = e->next;
        for (int i = 0; i < e->nresults; i++)
            linear_result_fini(&e->results[i]);
        free(e->results);
        quantize_done_free(e->written);
        free(e);
    }
}

/* ---- queueing ---- */

Status job_enqueue(Session *s, Job *j, Error *err)
{
    Queue *q = s->queue;
    Status st = start_thread(s, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->view.id = ++q->next_job;
    j->view.state = JOB_WAITING;
    q->jobs[q->njobs++] = j;
    table_scores_asked(s->table);
    pthread_mutex_lock(&q->lock);
    if (q->tail)
        q->tail->next = j;
    else
        q->head = j;
    q->tail = j;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
    return ST_OK;
}

Status session_cancel(Session *s, int level, Error *err)
{
    if (!session_busy(s))
        return error_set(err, ST_USAGE, "no job is running");
    pthread_mutex_lock(&s->queue->lock);
    atomic_store(&s->queue->cancel.level, level);
    for (Job *j = s->queue->head; j; j = j->next)
        j->view.state = JOB_STOPPED; /* waiting jobs never started: the thread doesn't see them any more */
    s->queue->head = s->queue->tail = NULL;
    pthread_mutex_unlock(&s->queue->lock);
    return ST_OK;
}

bool queue_will_score(const Session *s, const Metric *m, int64_t linear)
{
    const Queue *q = s->queue;
    for (size_t i = q->njobs; i-- > 0;) {
        const Job *j = q->jobs[i];
        if (j->view.kind == JOB_ANALYZE && (j->view.state == JOB_RUNNING || j->view.state == JOB_WAITING) &&
            (j->needs & m->needs) == m->needs && (!j->selected || j->selected[linear]) &&
            s->model->linears[linear].layer >= j->first_layer)
            return true;
    }
    return false;
}

bool session_busy(const Session *s)
{
    for (size_t i = 0; i < s->queue->njobs; i++)
        if (s->queue->jobs[i]->view.state == JOB_RUNNING || s->queue->jobs[i]->view.state == JOB_WAITING)
            return true;
    return false;
}

int session_jobs(const Session *s)
{
    return (int)s->queue->njobs;
}

const JobView *session_job(Session *s, int i)
{
    Job *j = s->queue->jobs[i];
    if (j->view.state == JOB_RUNNING)
        j->view.elapsed = (double)(clock_ns() - j->t_start) * 1e-9;
    return &j->view;
}

int session_fd(const Session *s)
{
    return s->queue->pipe[0];
}

unsigned session_pump(Session *s)
{
    unsigned kinds = 0;
    for (Event *e = take_events(s), *next; e; e = next) {
        next = e->next;
        kinds |= apply_event(s, e);
        free(e);
    }
    return kinds;
}

Status session_wait(Session *s, int cancel_fd, Error *err)
{
    for (;;) {
        session_pump(s);
        if (!session_busy(s))
            break;
        struct pollfd fds[2] = {{.fd = s->queue->pipe[0], .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
        int n = poll(fds, cancel_fd >= 0 ? 2 : 1, 1000);
        if (n > 0 && cancel_fd >= 0 && (fds[1].revents & (POLLIN | POLLHUP))) {
            char c;
            ssize_t got = read(cancel_fd, &c, 1);
            session_cancel(s, got == 1 && c == '2' ? 2 : 1, NULL);
            if (got <= 0)
                cancel_fd = -1;
        }
    }
    if (!s->queue->njobs)
        return ST_OK;
    const JobView *last = &s->queue->jobs[s->queue->njobs - 1]->view;
    if (last->state == JOB_STOPPED)
        return error_set(err, ST_CANCELLED, "%s: stopped; finished rows are kept", last->title);
    return last->status == ST_OK ? ST_OK : error_set(err, last->status, "%s", last->error);
}
