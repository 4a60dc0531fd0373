/* The jobs of a session, the job thread and its events. */
#include "session/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/priority.h"
#include "session/apply.h"
#include "session/attach.h"
#include "session/interact.h"
#include "session/entries.h"
#include "session/kit.h"
#include "session/parts.h"
#include "session/picture.h"
#include "session/results.h"
#include "session/serve.h"
#include "session/texts.h"
#include "session/tuning.h"

Status queue_init(Queue *q, Error *err)
{
    q->pipe[0] = q->pipe[1] = -1;
    q->events_tail = &q->events;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->wake, NULL);
    pthread_cond_init(&q->answered, NULL);
    if (pipe2(q->pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set(err, ST_IO, "cannot make a pipe for job events: too many open files?");
    return ST_OK;
}

/* What the running of a job needs. */
static void drop_work(Job *j)
{
    dataspec_fini(&j->calib);
    dataspec_fini(&j->eval);
    for (int i = 0; i < j->npriors; i++)
        dataspec_fini(&j->prior[i]);
    free(j->prior);
    free(j->metrics);
    free(j->selected);
    set_job_fini(&j->sets);
    scores_fini(&j->before);
    free(j->level);
    free(j->found);
    free(j->found_bytes);
    eval_result_free(&j->evaluate.result);
    free((char *)j->evaluate.folder);
    free((char *)j->evaluate.work_dir);
    free((char *)j->evaluate.id);
    free(j->generate.prompt);
    free(j->generate.ids);
    free(j->generate.stop);
    free(j->generate.made);
    free(j->levels);
    free(j->blocks);
    rules_fini(&j->rules);
    quantize_done_free(j->written);
    recipe_free(j->recipe);
    quantize_job_fini(&j->quantize);
    free(j->weight);
    str_free(&j->begin);
    free(j);
}

void job_row_free(JobRow *r)
{
    if (!r)
        return;
    if (r->job)
        drop_work(r->job);
    free(r->texts);
    free(r->dir);
    free(r);
}

void queue_fini(Queue *q)
{
    for (size_t i = 0; i < q->njobs; i++)
        job_row_free(q->jobs[i]);
    free(q->jobs);
    free(q->waits);
    for (int i = 0; i < 2; i++)
        if (q->pipe[i] >= 0)
            close(q->pipe[i]);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->wake);
    pthread_cond_destroy(&q->answered);
}

Status job_room(Queue *q, Error *err)
{
    size_t n = q->njobs + 1 + (size_t)metric_count();
    return mem_grow(&q->jobs, &q->cap_jobs, n, sizeof *q->jobs) ? ST_OK : error_nomem(err, "the job list");
}

Status job_row_keep(JobRow *r, const char *dir, Error *err)
{
    const char **const text[] = {&r->view.title, &r->view.phase, &r->view.last, &r->view.error, &r->view.bad, &r->view.target};
    enum { N = sizeof text / sizeof *text };
    size_t n = 0;
    for (int i = 0; i < N; i++)
        n += strlen(*text[i]) + 1;
    char *own = dir ? strdup(dir) : NULL, *at = malloc(n);
    if ((dir && !own) || !at) {
        free(own);
        free(at);
        return error_nomem(err, "the job list");
    }
    free(r->dir);
    r->dir = own;
    char *whole = at;
    for (int i = 0; i < N; i++) {
        size_t k = strlen(*text[i]) + 1;
        memcpy(at, *text[i], k);
        *text[i] = at;
        at += k;
    }
    free(r->texts);
    r->texts = whole;
    return ST_OK;
}

/* Without memory for the row's own texts the job stays as it is. */
void job_end(Job *j)
{
    JobRow *r = j->row;
    if (job_row_keep(r, j->quantize.dir, NULL) != ST_OK)
        return;
    r->job = NULL;
    drop_work(j);
}

const char *job_row_dir(const JobRow *r)
{
    return r->dir ? r->dir : r->job->quantize.dir;
}

void job_free(Job *j)
{
    if (j)
        job_row_free(j->row);
}

/* ---- events ---- */

void queue_wake(Queue *q)
{
    ssize_t n;
    do
        n = write(q->pipe[1], "e", 1); /* a full pipe wakes the reader just as well */
    while (n < 0 && errno == EINTR);
}

/* Under the lock. */
static void append(Queue *q, Event *e)
{
    if (e->queued)
        return;
    e->queued = true;
    e->next = NULL;
    *q->events_tail = e;
    q->events_tail = &e->next;
}

static void push(Queue *q, Event *e)
{
    pthread_mutex_lock(&q->lock);
    append(q, e);
    pthread_mutex_unlock(&q->lock);
    queue_wake(q);
}

void post(Queue *q, Job *j, EventKind kind)
{
    push(q, &j->own[kind]);
}

void post_progress(Queue *q, Job *j, const JobProgress *p)
{
    pthread_mutex_lock(&q->lock);
    j->progress = *p;
    append(q, &j->own[EVT_PROGRESS]);
    pthread_mutex_unlock(&q->lock);
    queue_wake(q);
}

Status post_rows(Queue *q, Job *j, const PassStep *step, Error *err)
{
    size_t n = (size_t)step->nlinear;
    RowsEvent *e = malloc(sizeof *e + n * sizeof *e->r);
    if (!e)
        return error_nomem(err, "a layer's results");
    e->event = (Event){.kind = EVT_ROWS, .job = j};
    e->done = step->done;
    e->total = step->total;
    e->n = step->nlinear;
    if (n)
        memcpy(e->r, step->linear, n * sizeof *e->r);
    push(q, &e->event);
    return ST_OK;
}

Status post_scores(Queue *q, Job *j, const PassStep *step, Error *err)
{
    size_t n = (size_t)step->nscore;
    ScoresEvent *e = malloc(sizeof *e + n * sizeof *e->s);
    if (!e)
        return error_nomem(err, "the scores");
    e->event = (Event){.kind = EVT_SCORES, .job = j};
    e->done = step->done;
    e->total = step->total;
    e->news = step->news;
    e->n = step->nscore;
    if (n)
        memcpy(e->s, step->score, n * sizeof *e->s);
    push(q, &e->event);
    return ST_OK;
}

void post_log(Queue *q, Job *j, int level, const char *text)
{
    size_t n = strlen(text) + 1;
    LogEvent *e = malloc(sizeof *e + n);
    if (!e) {
        j->unsaid++;
        return;
    }
    e->event = (Event){.kind = EVT_LOG, .job = j};
    e->level = level;
    memcpy(e->text, text, n);
    push(q, &e->event);
}

/* The oldest event, of a job's progress with what is newest. */
static Event *take_event(Queue *q, JobProgress *now)
{
    pthread_mutex_lock(&q->lock);
    Event *e = q->events;
    if (e) {
        q->events = e->next;
        if (!q->events)
            q->events_tail = &q->events;
        e->queued = false;
        if (e->kind == EVT_PROGRESS)
            *now = e->job->progress;
    }
    pthread_mutex_unlock(&q->lock);
    return e;
}

static void drop_event(Event *e)
{
    RowsEvent *rows = (RowsEvent *)e;
    for (int i = 0; e->kind == EVT_ROWS && i < rows->n; i++)
        linear_result_fini(&rows->r[i]);
    if (e->kind >= EVT_ROWS)
        free(e);
}

int session_fd(const Session *s)
{
    return s->serve ? serve_fd(s->serve) : s->attach ? attach_fd(s->attach) : s->queue->pipe[0];
}

unsigned session_pump(Session *s)
{
    Queue *q = s->queue;
    char buf[256];
    while (read(q->pipe[0], buf, sizeof buf) > 0)
        ;
    unsigned kinds = (s->keeper ? apply_keeper(s) : 0) | (texts_pump(s) ? EV_TEXTS : 0) | pictures_pump(s);
    JobProgress now;
    for (Event *e; (e = take_event(q, &now)) != NULL;) {
        EventKind kind = e->kind;
        kinds |= apply_event(s, e, &now);
        if (kind >= EVT_ROWS)
            free(e);
    }
    serve_pump(s);
    return kinds | attached_pump(s);
}

/* ---- the thread ---- */

/* The first that is not held, NULL: none. Under the lock. */
static Job *first_ready(const Queue *q)
{
    Job *j = q->head;
    while (j && j->held)
        j = j->next;
    return j;
}

bool job_unlink(Queue *q, Job *j)
{
    Job **at = &q->head, *before = NULL;
    while (*at && *at != j) {
        before = *at;
        at = &(*at)->next;
    }
    if (!*at)
        return false;
    *at = j->next;
    if (q->tail == j)
        q->tail = before;
    j->next = NULL;
    return true;
}

static Job *next_job(Queue *q)
{
    pthread_mutex_lock(&q->lock);
    Job *j;
    while (!(j = first_ready(q)) && !q->quit)
        pthread_cond_wait(&q->wake, &q->lock);
    if (q->quit)
        j = NULL;
    if (j) {
        job_unlink(q, j);
        q->running = j;
    }
    pthread_mutex_unlock(&q->lock);
    return j;
}

static void *job_main(void *arg)
{
    Queue *q = arg;
    thread_computes(q->attended);
    for (Job *j; (j = next_job(q)) != NULL;) {
        if (q->keeper)
            entry_job_started(q->keeper, j); /* before the first of its layers is */
        post(q, j, EVT_START);
        Status st = kit_run(q->kit, j, &j->error);
        j->error.status = st;
        pthread_mutex_lock(&q->lock);
        q->running = NULL; /* whoever applies its end frees it */
        pthread_mutex_unlock(&q->lock);
        post(q, j, EVT_END);
    }
    kit_free(q->kit);
    q->kit = NULL;
    return NULL;
}

Status job_thread(Session *s, Error *err)
{
    Queue *q = s->queue;
    if (q->thread_on)
        return ST_OK;
    q->keeper = s->keeper;
    q->attended = s->opt.attended;
    q->kit = kit_new(q, s->keeper, s->dir);
    if (!q->kit)
        return error_nomem(err, "the job thread");
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    q->quit = false;
    int rc = pthread_create(&q->thread, NULL, job_main, q);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        kit_free(q->kit);
        q->kit = NULL;
        return error_set(err, ST_NOMEM,
                         "cannot start the job thread: memory or the system's limit of threads is too small");
    }
    q->thread_on = true;
    return ST_OK;
}

bool job_take_out(Queue *q, Job *j)
{
    if (!job_unlink(q, j))
        return false;
    j->view->state = JOB_STOPPED; /* it never started: the thread will not see it */
    j->view->status = ST_CANCELLED;
    return true;
}

void jobs_stop(Session *s)
{
    Queue *q = s->queue;
    if (q->thread_on) {
        pthread_mutex_lock(&q->lock);
        q->quit = true;
        if (q->running)
            atomic_store(&q->running->cancel.level, 2);
        while (q->head)
            job_take_out(q, q->head);
        pthread_cond_signal(&q->wake);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->thread, NULL);
        q->thread_on = false;
    }
    JobProgress now;
    for (Event *e; (e = take_event(q, &now)) != NULL;)
        drop_event(e);
}

/* ---- queueing ---- */

void job_append(Session *s, Job *j, bool held)
{
    Queue *q = s->queue;
    j->view->state = JOB_WAITING;
    j->held = held;
    for (int k = 0; k < EVT_ROWS; k++)
        j->own[k] = (Event){.kind = (EventKind)k, .job = j};
    q->jobs[q->njobs++] = j->row;
    pthread_mutex_lock(&q->lock);
    if (q->tail)
        q->tail->next = j;
    else
        q->head = j;
    q->tail = j;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

bool job_swap_ahead(Queue *q, Job *j)
{
    Job **at = &q->head;
    while (*at && (*at)->next != j)
        at = &(*at)->next;
    Job *before = *at;
    if (!before)
        return false;
    before->next = j->next;
    j->next = before;
    *at = j;
    if (q->tail == j)
        q->tail = before;
    return true;
}

bool job_gives_way(const JobRow *r)
{
    return r->request && r->request != r->view.id;
}

static const Job *job_before(const Queue *q, const Job *j)
{
    const Job *k = q->head;
    while (k && k->next != j)
        k = k->next;
    return k;
}

/* What is asked for now comes before the later passes of analyses that wait. Whether it did. */
static bool go_ahead(Queue *q, Job *j)
{
    bool moved = false;
    pthread_mutex_lock(&q->lock);
    for (const Job *k; !job_gives_way(j->row) && (k = job_before(q, j)) != NULL && job_gives_way(k->row);)
        moved = job_swap_ahead(q, j);
    pthread_mutex_unlock(&q->lock);
    return moved;
}

static bool collects(const Job *j)
{
    return j->view->kind == JOB_ANALYZE && !j->aside && j->plan.needs && (j->plan.pass->has || j->plan.pass->collects);
}

/* A pass of statistics takes the place of what an earlier one left of a linear: it has to find what those find that are
 * queued, too, and they, in whatever order they come to run, what it does. */
static void share_needs(Session *s, Job *j)
{
    Queue *q = s->queue;
    if (!collects(j))
        return;
    pthread_mutex_lock(&q->lock);
    unsigned all = j->plan.needs;
    if (q->running && collects(q->running))
        all |= q->running->plan.needs;
    for (const Job *k = q->head; k; k = k->next)
        all |= collects(k) ? k->plan.needs : 0;
    for (Job *k = q->head; k; k = k->next) /* none of them has begun */
        if (collects(k))
            k->plan.needs = all;
    j->plan.needs = all;
    pthread_mutex_unlock(&q->lock);
}

Status job_enqueue(Session *s, Job *j, Error *err)
{
    Status st = attached_refuses(s, err);
    if (st == ST_OK)
        st = job_thread(s, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    Str record = {0};
    j->view->id = ++s->queue->next_job;
    share_needs(s, j);
    if (s->keeper) {
        entry_job(s, j, &record);
        entry_job_begin(s, j);
        entry_put(s, &record, true); /* before the job thread tells that it begins */
    }
    job_append(s, j, false);
    if (go_ahead(s->queue, j))
        entry_queue(s);
    return ST_OK;
}

bool job_is_open(const JobRow *r)
{
    return r->view.state == JOB_RUNNING || r->view.state == JOB_WAITING;
}

JobRow *job_row_find(const Queue *q, int id)
{
    for (size_t i = 0; i < q->njobs; i++)
        if (q->jobs[i]->view.id == id)
            return q->jobs[i];
    return NULL;
}

bool queue_analyzes(const Queue *q)
{
    for (size_t i = 0; i < q->njobs; i++)
        if (q->jobs[i]->view.kind == JOB_ANALYZE && job_is_open(q->jobs[i]))
            return true;
    return false;
}

/* The plan as it was asked for: while it runs, ranks divide what the job thread's selects. */
static PassPlan asked_plan(const Job *j)
{
    const PassPlan *p = &j->plan;
    return (PassPlan){.m = p->m, .pass = p->pass, .metrics = p->metrics, .needs = p->needs, .selected = j->selected, .first = p->first};
}

bool queue_will_score(const Session *s, const Metric *m, int64_t unit)
{
    const Queue *q = s->queue;
    for (size_t i = q->njobs; i-- > 0;) {
        const JobRow *r = q->jobs[i];
        if (r->view.kind != JOB_ANALYZE || !job_is_open(r) || !r->job || r->job->aside)
            continue;
        const PassPlan asked = asked_plan(r->job);
        if (pass_plan_covers(&asked, m, unit))
            return true;
    }
    return false;
}

size_t queue_open(const Queue *q)
{
    size_t n = 0;
    for (size_t i = 0; i < q->njobs; i++)
        n += job_is_open(q->jobs[i]);
    return n;
}
