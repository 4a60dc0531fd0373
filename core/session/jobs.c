/* What a person does to the jobs of a session, and sees of them. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "session/attach.h"
#include "session/autotuning.h"
#include "session/entries.h"
#include "session/guide.h"
#include "session/keeper.h"
#include "session/notes.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/serve.h"
#include "session/tuning.h"

static Status unknown(const Queue *q, int id, Error *err)
{
    return q->njobs ? error_set(err, ST_USAGE, "there is no job %d", id) : error_set(err, ST_USAGE, "no job ran or waits yet");
}

/* The job that runs, else the first that waits; NULL: none. Ids are the owner's, the list is the queue's. */
static JobRow *front_row(Queue *q)
{
    for (size_t i = 0; i < q->njobs; i++)
        if (q->jobs[i]->view.state == JOB_RUNNING)
            return q->jobs[i];
    pthread_mutex_lock(&q->lock);
    const Job *first = q->running ? q->running : q->head;
    JobRow *row = first ? first->row : NULL;
    pthread_mutex_unlock(&q->lock);
    return row && row->job ? row : NULL;
}

/* ---- stopping and discarding ---- */

static void cancel(Session *s, Job *j, int level)
{
    pthread_mutex_lock(&s->queue->lock);
    bool waited = job_take_out(s->queue, j);
    if (!waited)
        atomic_store(&j->cancel.level, level);
    pthread_mutex_unlock(&s->queue->lock);
    JobRow *row = j->row;
    int id = j->view->id;
    if (waited) {
        s->notes->about = &row->view;
        session_note(s, LOG_JOB, 1, "#%d: %s is taken out of the queue", id, row->view.title);
        s->notes->about = NULL;
        row->view.paused = row->view.earlier = false;
        entry_job_end(s, row);
        serve_ended(s, &row->view);
        job_end(j);
    }
    if (waited)
        tuning_ended(s, id, ST_CANCELLED);
    if (waited)
        autotune_ended(s, id, ST_CANCELLED);
    if (waited)
        guide_ended(s, id, ST_CANCELLED);
}

Status session_cancel(Session *s, int level, Error *err)
{
    if (s->attach)
        return attach_cancel(s->attach, 0, level, err);
    JobRow *row = front_row(s->queue);
    if (!row)
        return error_set(err, ST_USAGE, "no job is running");
    cancel(s, row->job, level);
    return ST_OK;
}

/* The stopped analysis that a row is of is not gone on with any more. */
static void forget_stopped(Session *s, const JobRow *row)
{
    results_forget_stopped(s->results);
    entry_run_end(s, row->run, ST_OK);
    if (s->keeper)
        keeper_keep_streams(s->keeper, -1);
}

Status session_cancel_job(Session *s, int id, int level, Error *err)
{
    if (s->attach)
        return attach_cancel(s->attach, id, level, err);
    JobRow *row = job_row_find(s->queue, id);
    if (row && job_is_open(row)) {
        cancel(s, row->job, level);
        return ST_OK;
    }
    const JobView *v = row ? session_job_find(s, id) : NULL;
    if (!v || !v->resumable || v->kind != JOB_ANALYZE)
        return error_set(err, ST_USAGE, "no job %d runs or waits", id);
    forget_stopped(s, row);
    return ST_OK;
}

static void drop_row(Session *s, size_t i)
{
    Queue *q = s->queue;
    JobRow *row = q->jobs[i];
    const JobView *v = session_job(s, (int)i);
    if (v->resumable && v->kind == JOB_ANALYZE)
        forget_stopped(s, row);
    entry_job_gone(s, v->id);
    if (q->last_ended == v->id)
        q->last_ended = 0;
    memmove(&q->jobs[i], &q->jobs[i + 1], (q->njobs - i - 1) * sizeof *q->jobs);
    q->njobs--;
    if (row->job)
        job_free(row->job);
    else
        job_row_free(row);
}

void jobs_forget_oldest(Session *s)
{
    enum { ENDED_KEPT = 500 };
    Queue *q = s->queue;
    size_t ended = 0, i = 0;
    for (size_t k = 0; k < q->njobs; k++)
        ended += !job_is_open(q->jobs[k]);
    while (i < q->njobs && ended > ENDED_KEPT) {
        const JobView *v = session_job(s, (int)i);
        if (job_is_open(q->jobs[i]) || v->resumable || v->id == q->last_ended) {
            i++;
        } else {
            drop_row(s, i);
            ended--;
        }
    }
}

Status session_discard_job(Session *s, int id, Error *err)
{
    Queue *q = s->queue;
    bool any = false;
    RETURN_IF_ERROR(attached_refuses(s, err));
    for (size_t i = q->njobs; i-- > 0;) {
        if (id && q->jobs[i]->view.id != id)
            continue;
        if (id && job_is_open(q->jobs[i]))
            return error_set(err, ST_USAGE, "job %d %s: 'cancel %d' stops it first", id,
                             q->jobs[i]->view.state == JOB_RUNNING ? "runs" : "waits", id);
        if (job_is_open(q->jobs[i]))
            continue;
        drop_row(s, i);
        any = true;
    }
    return any ? ST_OK : id ? unknown(q, id, err) : error_set(err, ST_USAGE, "no job has ended yet");
}

/* ---- pausing and order ---- */

/* Lets the job thread see who is held. All at once: it takes the first that is not. */
static void set_holds(Queue *q)
{
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < q->njobs; i++) {
        const JobView *v = &q->jobs[i]->view;
        Job *j = q->jobs[i]->job;
        if (!j || !job_is_open(q->jobs[i]))
            continue;
        j->held = v->paused || v->earlier;
        atomic_store(&j->cancel.hold, v->paused);
    }
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

static void set_pause(Session *s, JobRow *row, bool on)
{
    Job *j = row->job;
    if (row->view.state == JOB_RUNNING && on)
        j->t_pause = clock_ns();
    if (row->view.state == JOB_RUNNING && !on) { /* neither its time nor that of a layer */
        int64_t slept = clock_ns() - j->t_pause;
        j->t_start += slept;
        j->t_layer += slept;
    }
    row->view.paused = on;
    s->notes->about = &row->view;
    session_note(s, LOG_JOB, 0, on ? "#%d: %s is paused" : "#%d: %s goes on", row->view.id, row->view.title);
    s->notes->about = NULL;
}

Status session_pause_job(Session *s, int id, bool on, Error *err)
{
    Queue *q = s->queue;
    JobRow *row = id ? job_row_find(q, id) : on ? front_row(q) : NULL;
    int n = 0;
    RETURN_IF_ERROR(attached_refuses(s, err));
    if (id && !row)
        return unknown(q, id, err);
    if (row && !job_is_open(row))
        return error_set(err, ST_USAGE, "job %d has ended: there is nothing to pause", id);
    if (row && row->view.paused == on)
        return error_set(err, ST_USAGE, on ? "job %d is paused already" : "job %d is not paused", row->view.id);
    if (!row && on)
        return error_set(err, ST_USAGE, "no job is running");
    RETURN_IF_ERROR(job_thread(s, err));
    for (size_t i = 0; i < q->njobs; i++)
        if (row ? q->jobs[i] == row : q->jobs[i]->view.paused && job_is_open(q->jobs[i])) {
            set_pause(s, q->jobs[i], on);
            n++;
        }
    if (!n)
        return error_set(err, ST_USAGE, "no job is paused");
    set_holds(q);
    entry_queue(s);
    return ST_OK;
}

Status jobs_release(Session *s, int *n, Error *err)
{
    Queue *q = s->queue;
    int freed = 0;
    RETURN_IF_ERROR(job_thread(s, err));
    for (size_t i = 0; i < q->njobs; i++) {
        JobView *v = &q->jobs[i]->view;
        freed += v->earlier && !v->paused;
        v->earlier = false;
    }
    set_holds(q);
    *n = freed;
    return ST_OK;
}

/* The stopped job that an earlier sitting left, NULL: none, or its person had paused it. */
static const JobView *left_stopped(Session *s)
{
    for (int i = session_jobs(s); i-- > 0;) {
        const JobView *v = session_job(s, i);
        if (v->resumable)
            return v->paused ? NULL : v;
    }
    return NULL;
}

Status session_go_on(Session *s, int *waiting, Error *err)
{
    const JobView *v = left_stopped(s);
    Status st = ST_OK;
    int n = 0;
    bool searched = tuning_stopped(s) || s->autotune->state == AUTOTUNE_STOPPED;
    if (v || searched)
        st = session_resume_job(s, searched ? 0 : v->id, err);
    if (v && !searched && st == ST_OK) /* what ran goes before what waited */
        session_move_job(s, s->queue->next_job, -session_jobs(s), NULL);
    if (st == ST_OK)
        st = jobs_release(s, &n, err);
    if (waiting)
        *waiting = n;
    return st != ST_OK || v || searched || n ? st : error_set(err, ST_USAGE, "no stopped job to go on with");
}

Status session_move_job(Session *s, int id, int by, Error *err)
{
    Queue *q = s->queue;
    JobRow *row = job_row_find(q, id);
    RETURN_IF_ERROR(attached_refuses(s, err));
    if (!row)
        return unknown(q, id, err);
    pthread_mutex_lock(&q->lock);
    bool waits = false, moved = false;
    for (const Job *w = q->head; w; w = w->next)
        waits |= w->row == row;
    for (int i = by; waits && i < 0 && job_swap_ahead(q, row->job); i++)
        moved = true;
    for (int i = 0; waits && i < by && row->job->next; i++)
        moved = job_swap_ahead(q, row->job->next);
    pthread_mutex_unlock(&q->lock);
    if (!waits)
        return error_set(err, ST_USAGE, "job %d %s: only one that waits can be moved", id,
                         row->view.state == JOB_RUNNING ? "runs" : row->view.state == JOB_WAITING ? "starts" : "has ended");
    if (!moved)
        return error_set(err, ST_USAGE, by < 0 ? "job %d is the next one already" : "job %d is the last one already", id);
    entry_queue(s);
    return ST_OK;
}

/* ---- what is seen ---- */

bool session_busy(const Session *s)
{
    return queue_open(s->queue) > 0;
}

bool session_works(const Session *s)
{
    const Queue *q = s->queue;
    bool ready = false;
    for (size_t i = 0; i < q->njobs; i++) {
        const JobView *v = &q->jobs[i]->view;
        if (v->state == JOB_RUNNING)
            return !v->paused;
        ready = ready || (v->state == JOB_WAITING && !v->paused && !v->earlier);
    }
    return ready;
}

void session_profile(const Session *s, ProfileReport *out)
{
    const Queue *q = s->queue;
    const JobRow *last = NULL;
    *out = (ProfileReport){0};
    for (size_t i = 0; i < q->njobs; i++)
        last = job_is_open(q->jobs[i]) ? last : q->jobs[i];
    for (size_t i = 0; last && i < q->njobs; i++)
        if (q->jobs[i] == last || (last->request && q->jobs[i]->request == last->request))
            profile_report_add(out, &q->jobs[i]->profile);
}

int session_jobs(const Session *s)
{
    return (int)s->queue->njobs;
}

/* The newest job that works on the same pass, or on the same folder. */
static const JobRow *newest_of(const Queue *q, const JobRow *j)
{
    for (size_t i = q->njobs; i-- > 0;) {
        const JobRow *k = q->jobs[i];
        if (k->view.kind != j->view.kind)
            continue;
        if (j->view.kind == JOB_QUANTIZE ? strcmp(job_row_dir(k), job_row_dir(j)) == 0 : k->run == j->run)
            return k;
    }
    return j;
}

static bool can_resume(const Session *s, const JobRow *j)
{
    bool ended = j->view.state == JOB_STOPPED || (j->view.state == JOB_FAILED && j->view.done > 0);
    if (ended && s->autotune->state == AUTOTUNE_STOPPED && s->autotune->last == j->view.id)
        return true;
    if (!ended || newest_of(s->queue, j) != j)
        return false;
    return (j->view.kind == JOB_QUANTIZE && !j->own) || (j->view.kind == JOB_ANALYZE && j->run >= 0 && j->run == s->results->stopped.run);
}

/* Its place among those that wait, from 1, and the job that will run before it (NULL: none). */
static int place_of(Queue *q, const Job *j, const Job **before)
{
    int place = 1;
    pthread_mutex_lock(&q->lock);
    *before = q->running == j ? NULL : q->running;
    for (const Job *w = q->head; w && w != j; w = w->next, place++)
        *before = w->held ? *before : w;
    pthread_mutex_unlock(&q->lock);
    return place;
}

/* What the newest job took that did the same, by how much it was. */
static double estimate(const Queue *q, const JobRow *r)
{
    for (size_t i = q->njobs; i-- > 0;) {
        const JobRow *k = q->jobs[i];
        if (k->view.state == JOB_DONE && k->sort == r->sort && k->work && r->work)
            return k->view.elapsed * (double)r->work / (double)k->work;
    }
    return -1;
}

static void see_waiting(Queue *q, JobRow *r)
{
    const Job *before;
    r->view.place = place_of(q, r->job, &before);
    r->view.behind = before ? before->row->view.id : 0;
    r->view.gives_way = job_gives_way(r);
    r->view.estimate = estimate(q, r);
}

const JobView *session_job(Session *s, int i)
{
    JobRow *r = s->queue->jobs[i];
    JobView *v = &r->view;
    v->behind = 0;
    v->gives_way = false;
    v->estimate = -1;
    v->place = v->state == JOB_RUNNING ? 0 : -1;
    if (v->state == JOB_RUNNING && r->job)
        v->elapsed = (double)((v->paused ? r->job->t_pause : clock_ns()) - r->job->t_start) * 1e-9;
    else if (v->state == JOB_RUNNING && s->attach)
        v->elapsed = attach_elapsed(s->attach);
    v->held = v->state == JOB_RUNNING && v->paused && r->job ? mem_resident_bytes() : 0;
    if (v->state == JOB_WAITING && r->job)
        see_waiting(s->queue, r);
    v->resumable = can_resume(s, r);
    return v;
}

const JobView *session_job_find(Session *s, int id)
{
    for (int i = session_jobs(s); i-- > 0;)
        if (s->queue->jobs[i]->view.id == id)
            return session_job(s, i);
    return NULL;
}

const JobView *session_job_ended(Session *s, int *times)
{
    *times = s->queue->ended;
    return s->queue->last_ended ? session_job_find(s, s->queue->last_ended) : NULL;
}

Status session_wait(Session *s, Error *err)
{
    Queue *q = s->queue;
    for (;;) {
        session_pump(s);
        if (!session_works(s))
            break;
        struct pollfd fd = {.fd = session_fd(s), .events = POLLIN};
        poll(&fd, 1, 1000);
    }
    for (size_t i = 0; i < q->njobs; i++)
        if (job_is_open(q->jobs[i]))
            return error_set(err, ST_USAGE, q->jobs[i]->view.earlier ? "job %d waits since an earlier sitting: 'resume' starts it"
                                                                     : "job %d is paused: 'resume %d' goes on with it",
                             q->jobs[i]->view.id, q->jobs[i]->view.id);
    if (!q->njobs)
        return ST_OK;
    const JobRow *newest = q->jobs[q->njobs - 1];
    const JobView *last = &newest->view;
    for (size_t i = q->njobs; newest->request && i-- > 0 && q->jobs[i]->request == newest->request;)
        if (q->jobs[i]->view.status != ST_OK || q->jobs[i]->view.state == JOB_STOPPED)
            last = &q->jobs[i]->view;
    if (last->state == JOB_STOPPED)
        return error_set(err, ST_CANCELLED, "%s: stopped; finished rows are kept", last->title);
    return last->status == ST_OK ? ST_OK : error_set(err, last->status, "%s", last->error);
}
