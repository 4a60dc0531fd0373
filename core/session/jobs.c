/* The job queue, the job thread and its events. */
#include "session/internal.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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
    pthread_mutex_lock(&s->lock);
    *s->events_tail = copy;
    s->events_tail = &copy->next;
    pthread_mutex_unlock(&s->lock);
    ssize_t n;
    do
        n = write(s->pipe[1], "e", 1); /* a full pipe wakes the reader just as well */
    while (n < 0 && errno == EINTR);
}

static Event *take_events(Session *s)
{
    char buf[256];
    while (read(s->pipe[0], buf, sizeof buf) > 0)
        ;
    pthread_mutex_lock(&s->lock);
    Event *first = s->events;
    s->events = NULL;
    s->events_tail = &s->events;
    pthread_mutex_unlock(&s->lock);
    return first;
}

/* ---- the thread ---- */

static Job *next_job(Session *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->quit && !s->queue_head)
        pthread_cond_wait(&s->wake, &s->lock);
    Job *j = s->quit ? NULL : s->queue_head;
    if (j) {
        s->queue_head = j->next;
        if (!s->queue_head)
            s->queue_tail = NULL;
        j->next = NULL;
        atomic_store(&s->cancel.level, 0);
    }
    pthread_mutex_unlock(&s->lock);
    return j;
}

static Status (*const engine_of[])(Session *, Job *, Error *) = {
    [JOB_ANALYZE] = engine_analyze, [JOB_MEASURE] = engine_measure, [JOB_QUANTIZE] = engine_quantize};

static void *job_main(void *arg)
{
    Session *s = arg;
#ifdef SYS_gettid
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 5);
#endif
    for (Job *j; (j = next_job(s)) != NULL;) {
        post(s, (Event){.kind = EVT_START, .job = j});
        Error err = {0};
        Status st = engine_of[j->view.kind](s, j, &err);
        err.status = st;
        post(s, (Event){.kind = EVT_END, .job = j, .error = err});
    }
    engine_free(s->engine);
    s->engine = NULL;
    return NULL;
}

static Status start_thread(Session *s, Error *err)
{
    if (s->thread_on)
        return ST_OK;
    s->engine = engine_new();
    if (!s->engine)
        return error_nomem(err, "the job thread");
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    s->quit = false;
    int rc = pthread_create(&s->thread, NULL, job_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        engine_free(s->engine);
        s->engine = NULL;
        return error_set(err, ST_FAIL, "cannot start the job thread: %s", strerror(rc));
    }
    s->thread_on = true;
    return ST_OK;
}

void jobs_stop(Session *s)
{
    if (s->thread_on) {
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        atomic_store(&s->cancel.level, 2);
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        s->thread_on = false;
        s->queue_head = s->queue_tail = NULL;
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

static char *data_path(Session *s, const char *path, const char *name, Error *err)
{
    if (path)
        return strdup(path);
    if (!s->opt.find_data)
        return strdup(name);
    return s->opt.find_data(s->opt.find_ctx, name, err);
}

Status job_new(Session *s, JobKind kind, bool calib, Job **out, Error *err)
{
    Job *j = calloc(1, sizeof *j);
    if (!j || !mem_grow(&s->jobs, &s->cap_jobs, s->njobs + 1, sizeof *s->jobs)) {
        free(j);
        return error_nomem(err, "a job");
    }
    j->opt = s->opt;
    j->view.kind = kind;
    j->view.eta = -1;
    j->run = -1;
    Error why = {0};
    j->calib.path = calib ? data_path(s, s->calib_path, session_calib(s), &why) : strdup("");
    j->calib.name = strdup(session_calib(s));
    j->eval.path =
        kind == JOB_MEASURE && j->calib.path ? data_path(s, s->eval_path, session_eval(s), &why) : strdup("");
    j->eval.name = strdup(session_eval(s));
    if (!j->calib.path || !j->calib.name || !j->eval.path || !j->eval.name) {
        job_free(j);
        if (why.status == ST_OK)
            return error_nomem(err, "a job");
        return error_set(err, why.status, "%s", why.text);
    }
    j->calib.max_samples = s->opt.max_samples;
    j->calib.seq_len = s->opt.seq_len;
    j->eval.ctx = s->opt.ctx;
    j->eval.max_tokens = s->opt.eval_tokens;
    *out = j;
    return ST_OK;
}

Status job_enqueue(Session *s, Job *j, Error *err)
{
    Status st = start_thread(s, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->view.id = ++s->next_job;
    j->view.state = JOB_WAITING;
    s->jobs[s->njobs++] = j;
    s->rank_valid = false;
    pthread_mutex_lock(&s->lock);
    if (s->queue_tail)
        s->queue_tail->next = j;
    else
        s->queue_head = j;
    s->queue_tail = j;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    return ST_OK;
}

Status job_take_levels(Session *s, Job *j, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    j->nlevels = s->nlevels - 1;
    j->level = mem_array(n, sizeof *j->level);
    j->levels = mem_array((size_t)s->nlevels, sizeof *j->levels);
    if (!j->level || !j->levels)
        return error_nomem(err, "a job");
    memcpy(j->level, s->level, n * sizeof *j->level);
    memcpy(j->levels, s->levels, (size_t)j->nlevels * sizeof *j->levels);
    return ST_OK;
}

static Status metric_needs(const char *const *metrics, unsigned *needs, Str *title, Error *err)
{
    for (int i = 0; metrics[i]; i++) {
        const Metric *m = metric_find(metrics[i]);
        if (!m) {
            Str names = {0};
            metric_names(&names);
            error_set(err, ST_USAGE, "metric '%s' is not in this build: there are %s", metrics[i], str_text(&names));
            str_free(&names);
            return ST_USAGE;
        }
        *needs |= m->needs;
        str_printf(title, "%s%s", i ? "+" : "", m->name);
    }
    return *needs ? ST_OK : error_set(err, ST_USAGE, "no metric was named");
}

static Status select_linears(const Session *s, const char *const *patterns, int n, Job *j, Error *err)
{
    int64_t total = s->model->nlinears;
    j->nselected = (int)total;
    if (n == 0)
        return ST_OK;
    j->selected = mem_zarray((size_t)total, 1);
    if (!j->selected)
        return error_nomem(err, "the selection");
    for (int i = 0; i < n; i++) {
        int64_t count;
        RETURN_IF_ERROR(session_target(s, patterns[i], j->selected, &count, err));
    }
    j->nselected = 0;
    for (int64_t i = 0; i < total; i++)
        j->nselected += j->selected[i];
    return ST_OK;
}

/* Whether every wanted linear already has these statistics, made under the present data and arithmetic. */
static bool answered(const Session *s, const Job *j)
{
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if ((!j->selected || j->selected[i]) &&
            (s->slot[i].stale || (s->slot[i].needs & j->needs) != j->needs ||
             ((j->needs & NEED_WEIGHT) && s->slot[i].r.err.have &&
              !local_error_covers(&s->slot[i].r.err, j->weights, j->nweights))))
            return false;
    return true;
}

Status session_analyze(Session *s, const char *const *metrics, const char *const *patterns, int npatterns, bool detail,
                       Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    unsigned needs = 0;
    Str title = {0};
    Status st = metric_needs(metrics, &needs, &title, err);
    if (detail) /* one pass serves every metric and the detail pane */
        for (int i = 0; metric_table[i]; i++)
            needs |= metric_table[i]->needs | NEED_HIST;
    Job *j = NULL;
    if (st == ST_OK)
        st = job_new(s, JOB_ANALYZE, true, &j, err);
    if (st == ST_OK) {
        snprintf(j->view.title, sizeof j->view.title, "%s", str_text(&title));
        st = select_linears(s, patterns, npatterns, j, err);
    }
    str_free(&title);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    for (int64_t i = 0; i < s->model->nlinears; i++) /* don't lose what an earlier pass over the same data learnt */
        if (!s->slot[i].stale && (!j->selected || j->selected[i]))
            needs |= s->slot[i].needs;
    j->needs = needs;
    j->nweights = local_error_specs(s->levels, s->nlevels - 1, j->weights);
    if (answered(s, j)) {
        session_log(s, 0, "%s: nothing changed since the last pass; shown from its results", j->view.title);
        job_free(j);
        return ST_OK;
    }
    j->run = ++s->next_run;
    j->view.total = model_depth(s->model);
    identity_now(s, s->identity);
    snprintf(s->run_arith, sizeof s->run_arith, "%s", arith_name(s->opt.arith));
    durable_run(s, j);
    return job_enqueue(s, j, err);
}

Status session_resume_job(Session *s, Error *err)
{
    if (s->resume_run < 0 || !s->model)
        return error_set(err, ST_USAGE, "no stopped analysis to continue");
    if (session_busy(s))
        return error_set(err, ST_USAGE, "a job runs already");
    Job *j;
    RETURN_IF_ERROR(job_new(s, JOB_ANALYZE, true, &j, err));
    j->needs = s->resume_needs;
    j->nweights = local_error_specs(s->levels, s->nlevels - 1, j->weights);
    j->run = s->resume_run;
    j->first_layer = s->resume_layer;
    j->nselected = (int)s->model->nlinears;
    if (s->resume_selected) {
        j->selected = mem_array((size_t)s->model->nlinears, 1);
        if (!j->selected) {
            job_free(j);
            return error_nomem(err, "a job");
        }
        memcpy(j->selected, s->resume_selected, (size_t)s->model->nlinears);
    }
    j->view.total = model_depth(s->model);
    j->view.done = j->first_layer;
    snprintf(j->view.title, sizeof j->view.title, "analysis continued from layer %d", j->first_layer);
    identity_now(s, s->identity);
    return job_enqueue(s, j, err);
}

Status session_measure(Session *s, bool full, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    Job *j;
    RETURN_IF_ERROR(job_new(s, JOB_MEASURE, true, &j, err));
    j->full = full;
    if (full)
        j->eval.max_tokens = 0;
    Status st = job_take_levels(s, j, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->key = assignment_key(s, s->level);
    j->local_sum = local_sum(s, s->level);
    j->version = s->version;
    j->view.total = s->model->cfg.layers;
    int64_t q = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        q += s->level[i] != 0;
    snprintf(j->view.title, sizeof j->view.title, "measure: %lld quantized, %lld float%s", (long long)q,
             (long long)(s->model->nlinears - q), full ? ", full set" : "");
    return job_enqueue(s, j, err);
}

Status session_cancel(Session *s, int level, Error *err)
{
    if (!session_busy(s))
        return error_set(err, ST_USAGE, "no job is running");
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->cancel.level, level);
    for (Job *j = s->queue_head; j; j = j->next)
        j->view.state = JOB_STOPPED; /* waiting jobs never started: the thread doesn't see them any more */
    s->queue_head = s->queue_tail = NULL;
    pthread_mutex_unlock(&s->lock);
    return ST_OK;
}

bool session_busy(const Session *s)
{
    for (size_t i = 0; i < s->njobs; i++)
        if (s->jobs[i]->view.state == JOB_RUNNING || s->jobs[i]->view.state == JOB_WAITING)
            return true;
    return false;
}

int session_jobs(const Session *s)
{
    return (int)s->njobs;
}

static double seconds_since(int64_t t)
{
    return (double)(clock_ns() - t) * 1e-9;
}

const JobView *session_job(Session *s, int i)
{
    Job *j = s->jobs[i];
    if (j->view.state == JOB_RUNNING)
        j->view.elapsed = seconds_since(j->t_start);
    return &j->view;
}

/* ---- applying events ---- */

void slot_store(Session *s, LinearResult *r, unsigned needs)
{
    Slot *sl = &s->slot[r->linear];
    if (sl->needs)
        linear_result_fini(&sl->r);
    sl->r = *r;
    sl->needs = needs;
    sl->stale = false;
    s->rank_valid = false;
    s->order_stale = true;
    s->results++;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Remaining time from the median of the newest layers, once three are done. */
static void time_layer(Job *j)
{
    int64_t now = clock_ns();
    j->layer_s[j->layers_timed % 8] = (double)(now - j->t_layer) * 1e-9;
    j->layers_timed++;
    j->t_layer = now;
    if (j->layers_timed < 3)
        return;
    double v[8];
    int n = j->layers_timed < 8 ? j->layers_timed : 8;
    memcpy(v, j->layer_s, sizeof v);
    qsort(v, (size_t)n, sizeof *v, compare_double);
    j->view.eta = v[n / 2] * (double)(j->view.total - j->view.done);
}

void note_layer(Session *s, int run, int layer, const char *sha)
{
    if (s->resume_run == run && s->resume_layer == layer)
        memcpy(s->resume_prev_sha, s->resume_sha, sizeof s->resume_prev_sha);
    else
        s->resume_prev_sha[0] = 0;
    s->resume_run = run;
    s->resume_layer = layer + 1;
    snprintf(s->resume_sha, sizeof s->resume_sha, "%s", sha);
}

static void apply_rows(Session *s, Event *e)
{
    Job *j = e->job;
    for (int i = 0; i < e->nresults; i++) {
        int64_t linear = e->results[i].linear;
        slot_store(s, &e->results[i], j->needs);
        Score sc = session_score(s, s->metric, linear);
        if (session_unseen(s, linear)) {
            j->view.unseen++;
        } else if (sc.state == SCORE_FAILED) {
            j->view.failed++;
            session_log(s, 2, "%s: %s", s->model->linears[linear].name, sc.reason);
        } else {
            j->view.ok++;
        }
        if (sc.state == SCORE_OK)
            snprintf(j->view.last, sizeof j->view.last, "%s  %.4g", s->model->linears[linear].name, sc.value);
    }
    free(e->results);
    j->view.done = e->layer + 1;
    time_layer(j);
    note_layer(s, j->run, e->layer, e->sha);
}

static void apply_data(Session *s, const Event *e)
{
    DataInfo *d = e->is_eval ? &s->eval_info : &s->calib_info;
    char *name = e->is_eval ? s->eval_info_name : s->calib_info_name;
    *d = e->data;
    snprintf(name, sizeof s->calib_info_name, "%s", e->is_eval ? e->job->eval.name : e->job->calib.name);
    d->name = name;
}

/* Static ranges come from calibration tokens: what none of them reached has no range. */
static void warn_unseen(Session *s, const Effect *e)
{
    if (!e->unseen.linears)
        return;
    session_log(s, 1, "%lld linears of %lld experts stayed float: no calibration token reached them, so they have no "
                "static range; the first is %s",
                (long long)e->unseen.linears, (long long)e->unseen.experts, s->model->linears[e->unseen.first].name);
}

static void apply_effect(Session *s, const Event *e)
{
    warn_unseen(s, &e->effect);
    if (!mem_grow(&s->measured, &s->cap_measured, s->nmeasured + 1, sizeof *s->measured))
        return;
    Measured m = {e->job->key, e->effect, e->job->local_sum, e->job->version};
    size_t i = 0; /* the newest measurement of an assignment replaces an older one and moves to the end */
    while (i < s->nmeasured &&
           !(digest_cmp(&s->measured[i].key, &m.key) == 0 && s->measured[i].effect.tokens == m.effect.tokens))
        i++;
    if (i < s->nmeasured)
        memmove(&s->measured[i], &s->measured[i + 1], (s->nmeasured - i - 1) * sizeof *s->measured), s->nmeasured--;
    s->measured[s->nmeasured++] = m;
    s->results++;
    durable_measured(s, &m);
}

static void apply_end(Session *s, const Event *e)
{
    JobView *v = &e->job->view;
    Status st = e->error.status;
    v->elapsed = seconds_since(e->job->t_start);
    v->state = st == ST_OK ? JOB_DONE : st == ST_CANCELLED ? JOB_STOPPED : JOB_FAILED;
    v->status = st;
    v->eta = -1;
    snprintf(v->error, sizeof v->error, "%s", st == ST_OK ? "" : e->error.text);
    if (st != ST_OK && st != ST_CANCELLED)
        session_log(s, 2, "%s: %s", v->title, e->error.text);
    if (v->kind == JOB_ANALYZE) {
        if (st == ST_OK || !s->journal || v->done == 0 || v->done >= v->total || !s->resume_sha[0]) {
            s->resume_run = -1;
        } else {
            s->resume_needs = e->job->needs;
            free(s->resume_selected);
            s->resume_selected = NULL;
            if (e->job->selected && (s->resume_selected = mem_array((size_t)s->model->nlinears, 1)))
                memcpy(s->resume_selected, e->job->selected, (size_t)s->model->nlinears);
        }
        durable_run_end(s, e->job, st);
        if (st == ST_OK)
            coverage_log(s);
    }
    s->rank_valid = false;
}

static unsigned apply_event(Session *s, Event *e)
{
    Job *j = e->job;
    switch (e->kind) {
    case EVT_START:
        j->view.state = JOB_RUNNING;
        j->t_start = j->t_layer = clock_ns();
        return EV_JOB;
    case EVT_ROWS: apply_rows(s, e); return EV_ROWS | EV_PROGRESS;
    case EVT_PROGRESS:
        snprintf(j->view.phase, sizeof j->view.phase, "%s", e->phase);
        if (j->view.kind != JOB_ANALYZE) { /* an analysis counts whole layers by their rows */
            j->view.done = e->done;
            j->view.total = e->total;
        }
        if (e->bound)
            j->view.bound = e->bound;
        j->view.peak = e->peak;
        return EV_PROGRESS;
    case EVT_DATA: apply_data(s, e); return EV_JOB;
    case EVT_EFFECT: apply_effect(s, e); return EV_EFFECT;
    case EVT_WRITTEN:
        quantize_done_free(s->quantized);
        s->quantized = e->written;
        return EV_JOB;
    case EVT_LOG: session_log(s, e->level, "%s", e->error.text); return EV_MESSAGE;
    case EVT_END: apply_end(s, e); return EV_JOB | EV_MESSAGE;
    }
    return 0;
}

int session_fd(const Session *s)
{
    return s->pipe[0];
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
        struct pollfd fds[2] = {{.fd = s->pipe[0], .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
        int n = poll(fds, cancel_fd >= 0 ? 2 : 1, 1000);
        if (n > 0 && cancel_fd >= 0 && (fds[1].revents & (POLLIN | POLLHUP))) {
            char c;
            ssize_t got = read(cancel_fd, &c, 1);
            session_cancel(s, got == 1 && c == '2' ? 2 : 1, NULL);
            if (got <= 0)
                cancel_fd = -1;
        }
    }
    if (!s->njobs)
        return ST_OK;
    const JobView *last = &s->jobs[s->njobs - 1]->view;
    if (last->state == JOB_STOPPED)
        return error_set(err, ST_CANCELLED, "%s: stopped; finished rows are kept", last->title);
    return last->status == ST_OK ? ST_OK : error_set(err, last->status, "%s", last->error);
}
