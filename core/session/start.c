/* Making jobs: what each needs is found and copied, then it is queued. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/autotuning.h"
#include "session/bases.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/engine.h"
#include "session/start.h"
#include "session/table.h"
#include "session/texts.h"
#include "session/tuning.h"

static char *data_path(Session *s, const char *path, const char *name, Error *err)
{
    if (path)
        return strdup(path);
    if (!s->opt.find_data)
        return strdup(name);
    return s->opt.find_data(s->opt.find_ctx, name, err);
}

char *data_find(Session *s, const char *name, Error *err)
{
    return data_path(s, NULL, name, err);
}

char *texts_path(Session *s, Error *err)
{
    return data_path(s, s->calib_path, session_calib(s), err);
}

char *eval_path(Session *s, Error *err)
{
    return data_path(s, s->eval_path, session_eval(s), err);
}

Status job_new(Session *s, JobKind kind, unsigned texts, Job **out, Error *err)
{
    RETURN_IF_ERROR(job_room(s->queue, err));
    JobRow *row = calloc(1, sizeof *row);
    Job *j = calloc(1, sizeof *j);
    if (!row || !j) {
        free(row);
        free(j);
        return error_nomem(err, "a job");
    }
    *row = (JobRow){.job = j, .run = -1};
    row->view = (JobView){.kind = kind, .eta = -1, .title = j->title, .phase = j->phase, .last = j->last, .error = "",
                          .bad = j->bad, .target = j->target};
    j->row = row;
    j->view = &row->view;
    j->opt = s->opt;
    j->model = s->model;
    Error why = {0};
    j->calib.path = texts & TEXTS_CALIB ? texts_path(s, &why) : strdup("");
    if (j->calib.path)
        texts_fill(s, &j->calib, &why);
    j->eval.path =
        texts & TEXTS_EVAL && j->calib.path ? eval_path(s, &why) : strdup("");
    j->eval.name = strdup(session_eval(s));
    if (!j->calib.path || why.status != ST_OK || !j->eval.path || !j->eval.name) {
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

Status job_take_priors(Session *s, const Recipe *r, Job *j, Error *err)
{
    int n = r ? recipe_stages(r) - 1 : 0;
    if (n <= 0)
        return ST_OK;
    j->prior = mem_zarray((size_t)n, sizeof *j->prior);
    if (!j->prior)
        return error_nomem(err, "a job");
    for (; j->npriors < n; j->npriors++) {
        const char *own = recipe_stage(r, j->npriors)->dataset, *name = own ? own : recipe_dataset(r);
        DataSpec *d = &j->prior[j->npriors];
        *d = (DataSpec){.path = data_path(s, NULL, name, err), .name = strdup(name), .max_samples = s->opt.max_samples,
                        .seq_len = s->opt.seq_len};
        if (!d->path || !d->name) {
            bool said = !d->path;
            dataspec_fini(d);
            return said ? err->status : error_nomem(err, "a job");
        }
    }
    return ST_OK;
}

Status job_take_levels(Session *s, Job *j, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    j->nlevels = s->assignment->nlevels - 1;
    j->level = mem_array(n, sizeof *j->level);
    j->levels = mem_array((size_t)s->assignment->nlevels, sizeof *j->levels);
    if (!j->level || !j->levels)
        return error_nomem(err, "a job");
    memcpy(j->level, s->assignment->level, n * sizeof *j->level);
    memcpy(j->levels, s->assignment->levels, (size_t)j->nlevels * sizeof *j->levels);
    return ST_OK;
}

/* ---- how long jobs take ---- */

/* What decides how long a job takes, beside what it does. */
static void hash_run(const Session *s, Hasher *h)
{
    hasher_init(h);
    hasher_u64(h, (uint64_t)s->opt.threads);
    hasher_str(h, arith_name(s->opt.arith));
    hasher_u64(h, (uint64_t)s->opt.max_samples);
    hasher_u64(h, (uint64_t)s->opt.seq_len);
    hasher_u64(h, (uint64_t)s->opt.tokens);
    hasher_str(h, s->calib_print);
}

static uint64_t sort_of(Hasher *h)
{
    const Digest d = hasher_end(h);
    uint64_t v;
    memcpy(&v, d.b, sizeof v);
    return v;
}

static void sort_measurement(const Session *s, Job *j)
{
    Hasher h;
    hash_run(s, &h);
    hasher_u64(&h, JOB_MEASURE);
    hasher_u64(&h, (uint64_t)j->eval.max_tokens);
    hasher_u64(&h, (uint64_t)j->eval.ctx);
    hasher_str(&h, s->eval_print);
    j->row->sort = sort_of(&h);
    j->row->work = 1;
}

void start_sort_quantization(const Session *s, Job *j)
{
    Hasher h;
    hash_run(s, &h);
    hasher_u64(&h, JOB_QUANTIZE);
    hasher_bytes(&h, j->quantize.text, j->quantize.len);
    j->row->sort = sort_of(&h);
    j->row->work = 1;
}

static void sort_analysis(const Session *s, Job *j)
{
    Hasher h;
    hash_run(s, &h);
    for (int i = 0; j->metrics[i]; i++)
        hasher_str(&h, j->metrics[i]->name);
    j->row->sort = sort_of(&h);
}

/* The rows of these names; caller frees. */
static Status find_metrics(const Session *s, const char *const *names, const Metric ***out, Error *err)
{
    size_t n = 0;
    while (names[n])
        n++;
    *out = mem_zarray(n + 1, sizeof **out);
    if (!*out)
        return error_nomem(err, "a list of metrics");
    for (size_t i = 0; i < n; i++) {
        (*out)[i] = metric_find(names[i]);
        if ((*out)[i])
            continue;
        Str built = {0};
        const Metric *other = session_metric_find(s, names[i]);
        metric_names(NULL, &built);
        if (other)
            error_set(err, ST_USAGE, other->loaded->kept ? "'%s' is of a run that was kept: %s"
                                                         : "'%s' was loaded from %s: another program makes it",
                      other->name, other->loaded->file);
        else
            error_set(err, ST_USAGE, "metric '%s' is not in this build: there are %s", names[i], str_text(&built));
        str_free(&built);
        free(*out);
        *out = NULL;
        return ST_USAGE;
    }
    return ST_OK;
}

static Status select_linears(const Session *s, const char *const *patterns, int n, Job *j, Error *err)
{
    int64_t total = s->model->nlinears;
    if (n == 0)
        return ST_OK;
    j->selected = mem_zarray((size_t)total, 1);
    if (!j->selected)
        return error_nomem(err, "the selection");
    for (int i = 0; i < n; i++) {
        int64_t count;
        RETURN_IF_ERROR(session_target(s, patterns[i], j->selected, &count, err));
    }
    return ST_OK;
}

static int64_t values_of(const Session *s, int64_t linear)
{
    const Linear *l = &s->model->linears[linear];
    return l->in * l->out;
}

/* How heavy each step is, where steps are layers, and how much the job is. */
static Status weigh_steps(const Session *s, Job *j, Error *err)
{
    int64_t steps = j->view->total;
    j->row->work = 0;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        j->row->work += !j->selected || j->selected[i] ? values_of(s, i) : 0;
    if (steps <= 0)
        return ST_OK;
    j->weight = mem_zarray((size_t)steps + 1, sizeof *j->weight);
    if (!j->weight)
        return error_nomem(err, "a job");
    j->weights = steps;
    for (int64_t i = 0; i < s->model->nlinears; i++)
        if (s->model->linears[i].layer >= 0 && s->model->linears[i].layer < steps)
            j->weight[s->model->linears[i].layer + 1] += (double)values_of(s, i);
    for (int64_t i = 1; i <= steps; i++)
        j->weight[i] += j->weight[i - 1];
    return ST_OK;
}

/* What the job has to find, by pass; its lists are there. */
static Status make_plan(Session *s, const MetricPass *pass, Job *j, Error *err)
{
    RETURN_IF_ERROR(job_take_scheme(s, pass, j, err));
    j->plan = (PassPlan){.m = s->model, .pass = pass, .metrics = j->metrics, .selected = j->selected, .levels = j->levels,
                         .nlevels = j->nlevels, .level = j->level, .peer = j->opt.peer, .seed = j->opt.seed, .probe = j->opt.tokens,
                         .data_labels = j->opt.data_labels};
    for (int i = 0; j->metrics[i]; i++)
        j->plan.needs |= j->metrics[i]->needs;
    j->view->total = pass->stream ? pass->steps(&j->plan) : 0; /* others know it with the tokens */
    return weigh_steps(s, j, err);
}

/* What a pass reads. */
static unsigned texts_of(const MetricPass *pass)
{
    return (pass->data_free ? 0 : TEXTS_CALIB) | (pass->eval ? TEXTS_EVAL : 0);
}

/* "kurtosis+local_error"; list may be NULL. */
static void join_metrics(const Metric *const *list, Str *out)
{
    for (int i = 0; list && list[i]; i++)
        str_printf(out, "%s%s", i ? "+" : "", list[i]->name);
}

static void name_metrics(Job *j)
{
    Str title = {0};
    join_metrics(j->metrics, &title);
    snprintf(j->title, sizeof j->title, "%s", str_text(&title));
    str_free(&title);
}

/* Those of `all` that this pass makes, and the job's name. */
static Status take_metrics(const Metric *const *all, const MetricPass *pass, Job *j, Error *err)
{
    size_t n = metric_list_len(all), at = 0;
    j->metrics = mem_zarray(n + 1, sizeof *j->metrics);
    if (!j->metrics)
        return error_nomem(err, "a list of metrics");
    for (size_t i = 0; i < n; i++)
        if (all[i]->pass == pass)
            j->metrics[at++] = all[i];
    name_metrics(j);
    return ST_OK;
}

/* Of these metrics, and of those that the pass goes by, what is known. */
static Status take_scores(const Session *s, Job *j, const Metric *const *metrics, Error *err)
{
    const ScoreOrigin now = origin_now(s);
    if (!j->before.m)
        RETURN_IF_ERROR(scores_init(&j->before, s->model, err));
    j->plan.before = &j->before;
    return scores_copy_units(&j->before, &s->results->scores, metrics, &now, err);
}

/* What the pass is to do, and a copy of the scores that it reads. */
static Status plan_and_scores(Session *s, const MetricPass *pass, Job *j, Error *err)
{
    RETURN_IF_ERROR(make_plan(s, pass, j, err));
    return pass->reads ? take_scores(s, j, pass->reads, err) : ST_OK;
}

Status start_analysis_of(Session *s, unsigned texts, Job **out, Error *err)
{
    const Digest base = base_now(s);
    const bool changed = base_changed(&base);
    RETURN_IF_ERROR(job_new(s, JOB_ANALYZE, texts | (changed ? TEXTS_CALIB : 0), out, err));
    (*out)->base = base;
    (*out)->recipe = changed ? recipe_hold(s->recipe) : NULL;
    Status st = job_take_priors(s, (*out)->recipe, *out, err);
    if (st != ST_OK) {
        job_free(*out);
        *out = NULL;
    }
    return st;
}

static Status analysis_job(Session *s, const Metric *const *all, const MetricPass *pass, const char *const *patterns,
                           int npatterns, bool detail, Job **out, Error *err)
{
    Job *j;
    RETURN_IF_ERROR(start_analysis_of(s, texts_of(pass), &j, err));
    Status st = take_metrics(all, pass, j, err);
    if (st == ST_OK)
        st = select_linears(s, patterns, npatterns, j, err);
    if (st == ST_OK)
        st = plan_and_scores(s, pass, j, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    for (int i = 0; detail && metric_table[i]; i++) /* one pass serves every metric of its and the detail pane */
        j->plan.needs |= metric_table[i]->pass == pass ? metric_table[i]->needs | pass->detail : 0;
    if (pass->keep)
        pass->keep(&j->plan, &s->results->scores);
    *out = j;
    return ST_OK;
}

Status start_aside(Session *s, const Metric *m, const char *const *patterns, int npatterns, Job **out, Error *err)
{
    const Metric *const list[] = {m, NULL};
    RETURN_IF_ERROR(analysis_job(s, list, m->pass, patterns, npatterns, false, out, err));
    (*out)->aside = true;
    (*out)->origin = origin_now(s);
    sort_analysis(s, *out);
    return ST_OK;
}

Status start_analysis_again(Session *s, const Metric *const *metrics, const bool *selected, unsigned needs, Job **out, Error *err)
{
    const MetricPass *pass = metrics[0]->pass;
    Job *j;
    RETURN_IF_ERROR(start_analysis_of(s, texts_of(pass), &j, err));
    j->metrics = metric_list_copy(metrics);
    Status st = j->metrics ? ST_OK : error_nomem(err, "a list of metrics");
    if (st == ST_OK)
        name_metrics(j);
    if (st == ST_OK && selected && !(j->selected = mem_array((size_t)s->model->nlinears, 1)))
        st = error_nomem(err, "the selection");
    if (st == ST_OK && selected)
        memcpy(j->selected, selected, (size_t)s->model->nlinears);
    if (st == ST_OK)
        st = plan_and_scores(s, pass, j, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->plan.needs = needs;
    if (pass->keep)
        pass->keep(&j->plan, &s->results->scores);
    *out = j;
    return ST_OK;
}

static Status select_again(const Stopped *p, const Model *m, Job *j, Error *err)
{
    j->metrics = metric_list_copy(p->metrics);
    if (!j->metrics)
        return error_nomem(err, "a job");
    if (!p->selected)
        return ST_OK;
    if (p->nselected != m->nlinears)
        return error_set(err, ST_INTERNAL, "the stopped analysis is of %lld layers, the model has %lld",
                         (long long)p->nselected, (long long)m->nlinears);
    j->selected = mem_array((size_t)m->nlinears, 1);
    if (!j->selected)
        return error_nomem(err, "a job");
    memcpy(j->selected, p->selected, (size_t)m->nlinears);
    return ST_OK;
}

/* The step to go on from: behind the newest one whose stream is on the disk, or with the scores as they are. */
static Status find_step(const Session *s, const Stopped *p, Job *j, Error *err)
{
    int layer;
    bool there = p->pass->stream && s->keeper && keeper_pass(s->keeper, p->run, &layer, j->stream_sha);
    if (p->pass->stream && s->keeper && !there && !p->sha[0]) { /* the first layer may still be on its way to the disk */
        keeper_flush(s->keeper);
        there = keeper_pass(s->keeper, p->run, &layer, j->stream_sha);
    }
    if (!p->pass->stream) {
        j->plan.first = p->done;
        RETURN_IF_ERROR(take_scores(s, j, j->metrics, err));
    } else if (there) {
        j->plan.first = layer + 1;
    } else if (!p->sha[0]) {
        return error_set(err, ST_USAGE, "the stopped analysis can't go on: none of its layers is on the disk");
    } else { /* of an earlier session */
        snprintf(j->stream_sha, sizeof j->stream_sha, "%s", p->sha);
        j->plan.first = p->done;
    }
    return ST_OK;
}

static void name_continued(const Stopped *p, int64_t first, Job *j)
{
    Str title = {0};
    join_metrics(p->metrics, &title);
    snprintf(j->title, sizeof j->title, "%.50s from %.10s %lld", title.len ? str_text(&title) : "analysis",
             p->pass->step, (long long)first);
    str_free(&title);
}

/* Queues the rest of the stopped pass, as part of a request (0: for itself). */
static Status continue_pass(Session *s, int request, Error *err)
{
    const Stopped *p = &s->results->stopped;
    Job *j;
    char now[65];
    identity_now(s, now);
    if (s->results->identity[0] && strcmp(now, s->results->identity) != 0)
        return error_set(err, ST_USAGE, "the stopped analysis was made with other data or settings: start it anew");
    RETURN_IF_ERROR(start_analysis_of(s, texts_of(p->pass), &j, err));
    Status st = select_again(p, s->model, j, err);
    if (st == ST_OK)
        st = make_plan(s, p->pass, j, err);
    if (st == ST_OK)
        st = find_step(s, p, j, err);
    if (st == ST_OK && p->pass->reads)
        st = take_scores(s, j, p->pass->reads, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->plan.needs = p->needs;
    j->row->run = p->run;
    j->row->request = request;
    j->view->total = p->total;
    j->view->done = j->plan.first;
    name_continued(p, j->plan.first, j);
    snprintf(s->results->identity, sizeof s->results->identity, "%s", now);
    s->results->scores.origin = j->origin = origin_now(s);
    return job_enqueue(s, j, err);
}

bool session_stopped(const Session *s, int64_t *done, int64_t *total, const char **step)
{
    const Stopped *p = &s->results->stopped;
    if (p->run < 0 || !s->model || queue_analyzes(s->queue))
        return false;
    *done = p->done;
    *total = p->total;
    *step = p->pass->step;
    return true;
}

/* Whether a pass that runs or waits gives what this job is to find. */
static bool runs_already(const Session *s, const Job *j)
{
    const Queue *q = s->queue;
    size_t n = (size_t)s->model->nlinears;
    const uint64_t now = origin_now(s).data;
    for (size_t i = 0; i < q->njobs; i++) {
        const JobView *v = &q->jobs[i]->view;
        const Job *k = q->jobs[i]->job;
        bool open = v->state == JOB_RUNNING || v->state == JOB_WAITING;
        if (!open || !k || v->kind != JOB_ANALYZE || k->aside || !k->level || !j->plan.pass->has || !pass_gives(k->plan.pass, j->plan.pass))
            continue;
        bool same = !k->selected == !j->selected && (!k->selected || memcmp(k->selected, j->selected, n) == 0) &&
                    k->nlevels == j->nlevels && memcmp(k->level, j->level, n * sizeof *k->level) == 0;
        if (same && (j->plan.needs & ~k->plan.needs) == 0 && k->origin.data == now &&
            atomic_load(&k->cancel.level) == 0)
            return true;
    }
    return false;
}

/* Whether the rest of the stopped pass gives what this job is to find. */
static bool stopped_answers(const Session *s, const Job *j)
{
    const Stopped *p = &s->results->stopped;
    char now[65];
    if (p->run < 0 || !pass_gives(p->pass, j->plan.pass) || (j->plan.needs & ~p->needs) != 0 || queue_analyzes(s->queue))
        return false;
    identity_now(s, now);
    if (strcmp(now, s->results->identity) != 0 || !p->selected != !j->selected)
        return false;
    if (p->selected && memcmp(p->selected, j->selected, (size_t)s->model->nlinears) != 0)
        return false;
    for (size_t i = 0; j->metrics[i]; i++) {
        bool found = j->metrics[i]->pass->has != NULL; /* statistics are known by their needs */
        for (size_t k = 0; p->metrics && p->metrics[k]; k++)
            found |= p->metrics[k] == j->metrics[i];
        if (!found)
            return false;
    }
    return true;
}

/* ---- an analysis ---- */

void start_origin(Session *s, Job *j)
{
    identity_now(s, s->results->identity);
    s->results->scores.arith = s->opt.arith;
    s->results->scores.origin = j->origin = origin_now(s);
    sort_analysis(s, j);
}

static Status start_pass(Session *s, Job *j, int *request, Error *err)
{
    if (pass_answered(&j->plan, &s->results->scores)) {
        session_log(s, 0, "%s: nothing changed since the last pass; shown from its results", j->title);
        job_free(j);
        return ST_OK;
    }
    if (runs_already(s, j)) {
        session_log(s, 0, "%s: it runs or waits already", j->title);
        job_free(j);
        return ST_OK;
    }
    if (stopped_answers(s, j)) {
        job_free(j);
        *request = *request ? *request : s->queue->next_job + 1;
        return continue_pass(s, *request, err);
    }
    j->row->run = ++s->results->next_run;
    start_origin(s, j);
    *request = *request ? *request : s->queue->next_job + 1;
    j->row->request = *request;
    return job_enqueue(s, j, err);
}

/* Whether nothing but a pass of its own gives what the job is to find. */
static bool runs_anew(const Session *s, const Job *j)
{
    return !pass_answered(&j->plan, &s->results->scores) && !runs_already(s, j) && !stopped_answers(s, j);
}

/* One float pass instead of two, where `j` takes along what `other` is to find: the same texts, linears and levels. */
static bool can_join(const Session *s, const Job *j, const Job *other)
{
    size_t n = (size_t)s->model->nlinears;
    if (j == other || j->plan.pass == other->plan.pass || !pass_gives(j->plan.pass, other->plan.pass))
        return false;
    bool same = !j->selected == !other->selected && (!j->selected || memcmp(j->selected, other->selected, n) == 0) &&
                j->nlevels == other->nlevels; /* with a scheme of its own the one has more levels than the other */
    for (int k = 0; same && k < j->nlevels; k++)
        same = qspec_key(&j->levels[k].act) == qspec_key(&other->levels[k].act) &&
               qspec_key(&j->levels[k].weight) == qspec_key(&other->levels[k].weight);
    return same && runs_anew(s, j) && runs_anew(s, other);
}

static Status join(Job *j, const Job *other, Error *err)
{
    size_t n = metric_list_len(j->metrics), more = metric_list_len(other->metrics);
    const Metric **both = mem_zarray(n + more + 1, sizeof *both);
    if (!both)
        return error_nomem(err, "a list of metrics");
    memcpy(both, j->metrics, n * sizeof *both);
    memcpy(both + n, other->metrics, more * sizeof *both);
    free(j->metrics);
    j->metrics = both;
    j->plan.metrics = both;
    j->plan.needs |= other->plan.needs;
    name_metrics(j);
    return ST_OK;
}

/* Jobs [n] of one request, each of a pass: those that another takes along are freed and NULL. */
static Status join_jobs(const Session *s, Job **jobs, int n, Error *err)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            if (!jobs[i] || !jobs[k] || !can_join(s, jobs[i], jobs[k]))
                continue;
            RETURN_IF_ERROR(join(jobs[i], jobs[k], err));
            job_free(jobs[k]);
            jobs[k] = NULL;
        }
    return ST_OK;
}

/* Where nothing is there of the metric on show, what is asked for takes its place. */
static void show_asked(Session *s, const Metric *const *asked)
{
    const Metric *shown = s->table->metric;
    bool among = shown && session_has_run(s, shown);
    for (int i = 0; asked[i]; i++)
        among = among || asked[i] == shown;
    if (!among && session_show(s, asked[0]->name, NULL) == ST_OK)
        entry_view(s);
}

Status session_analyze(Session *s, const char *const *metrics, const char *const *patterns, int npatterns, bool detail,
                       Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    if (!metrics[0])
        return error_set(err, ST_USAGE, "no metric was named");
    const Metric **all;
    RETURN_IF_ERROR(find_metrics(s, metrics, &all, err));
    results_compare_levels(s);
    show_asked(s, all);
    int n = 0, request = 0;
    Job **jobs = mem_zarray(metric_list_len(all) + 1, sizeof *jobs);
    Status st = jobs ? ST_OK : error_nomem(err, "jobs");
    for (int i = 0; st == ST_OK && all[i]; i++) {
        bool first = true; /* of its pass */
        for (int k = 0; k < i; k++)
            first = first && all[k]->pass != all[i]->pass;
        if (first)
            st = analysis_job(s, all, all[i]->pass, patterns, npatterns, detail, &jobs[n], err);
        n += first && st == ST_OK;
    }
    if (st == ST_OK)
        st = join_jobs(s, jobs, n, err);
    for (int i = 0; i < n; i++) {
        if (st == ST_OK && jobs[i])
            st = start_pass(s, jobs[i], &request, err);
        else
            job_free(jobs[i]);
    }
    free(jobs);
    free(all);
    return st;
}

static Status resume_quantize(Session *s, const JobRow *r, Error *err)
{
    char *dir = strdup(job_row_dir(r));
    if (!dir)
        return error_nomem(err, "a folder's name");
    const QuantizeOptions o = {.save_path = dir, .resume = true, .verify = r->verify, .debug = r->debug};
    Status st = session_quantize(s, &o, err);
    free(dir);
    return st;
}

Status session_resume_job(Session *s, int id, Error *err)
{
    static const char *const states[] = {[JOB_WAITING] = "it waits", [JOB_RUNNING] = "it runs", [JOB_DONE] = "it is done",
                                         [JOB_FAILED] = "it failed before it had anything to keep",
                                         [JOB_STOPPED] = "a later one went on with it, or it kept nothing"};
    const Queue *q = s->queue;
    const JobView *named = id ? session_job_find(s, id) : NULL;
    int n;
    if (named && named->earlier)
        return jobs_release(s, &n, err);
    if (named && named->paused && named->place >= 0)
        return session_pause_job(s, id, false, err);
    if (!id && tuning_stopped(s))
        return tuning_resume(s, err);
    if (!id && s->autotune->state == AUTOTUNE_STOPPED)
        return session_autotune_again(s, err);
    for (int i = session_jobs(s); s->model && i-- > 0;) {
        const JobView *v = session_job(s, i);
        if (id && v->id != id)
            continue;
        if (v->resumable && q->jobs[i]->own)
            return session_autotune_again(s, err);
        if (v->resumable)
            return v->kind == JOB_QUANTIZE ? resume_quantize(s, q->jobs[i], err) : continue_pass(s, 0, err);
        if (id)
            return error_set(err, ST_USAGE, "nothing of job %d can be gone on with: %s", id, states[v->state]);
    }
    if (id)
        return error_set(err, ST_USAGE, "there is no job %d", id);
    Error none = {0};
    Status st = jobs_release(s, &n, err);
    if (st != ST_OK || n)
        return st;
    return session_pause_job(s, 0, false, &none) == ST_OK ? ST_OK : error_set(err, ST_USAGE, "no stopped job to go on with");
}

/* The levels that a recipe has, in place of the open one's. */
static Status take_recipe(Session *s, Job *j, Recipe *r, const int16_t *level, Error *err)
{
    size_t n = (size_t)s->model->nlinears;
    int entries = recipe_entries(r);
    j->nlevels = entries;
    j->level = mem_array(n, sizeof *j->level);
    j->levels = mem_array((size_t)entries + 1, sizeof *j->levels);
    if (!j->level || !j->levels)
        return error_nomem(err, "a job");
    memcpy(j->level, level, n * sizeof *j->level);
    for (int i = 0; i < entries; i++)
        j->levels[i] = recipe_entry(r, i)->q;
    j->recipe = recipe_hold(r);
    j->key = recipe_key(s, r, level);
    j->fit = recipe_fit_key(s, r);
    return job_take_priors(s, r, j, err);
}

Status start_measurement(Session *s, Recipe *r, const int16_t *level, bool full, const char *title, Job **out, Error *err)
{
    Job *j;
    size_t n = (size_t)s->model->nlinears;
    RETURN_IF_ERROR(results_room(s->results, queue_open(s->queue) + 1, err)); /* what is measured must find its place */
    RETURN_IF_ERROR(job_new(s, JOB_MEASURE, TEXTS_CALIB | TEXTS_EVAL, &j, err));
    j->full = full;
    j->aside = s->texts->aside;
    if (full)
        j->eval.max_tokens = 0;
    Status st = take_recipe(s, j, r, level, err);
    j->ruled = st == ST_OK && memcmp(level, s->assignment->level, n * sizeof *level) == 0;
    if (j->ruled)
        st = rules_copy(&s->assignment->rules, 0, &j->rules, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    j->view->total = s->model->cfg.layers;
    int64_t q = 0;
    for (size_t i = 0; i < n; i++)
        q += level[i] != 0;
    if (title)
        snprintf(j->title, sizeof j->title, "%s", title);
    else
        snprintf(j->title, sizeof j->title, "measure: %lld quantized, %lld float%s", (long long)q,
                 (long long)((int64_t)n - q), full ? ", full set" : "");
    sort_measurement(s, j);
    *out = j;
    return ST_OK;
}

/* Evaluators are borrowed, the texts are not: a person may tune by another plan while it ends. */
Status start_evaluation(Session *s, const EvaluateJob *e, Job **out, Error *err)
{
    Job *j;
    RETURN_IF_ERROR(job_new(s, JOB_EVALUATE, TEXTS_CALIB | TEXTS_EVAL, &j, err));
    j->aside = true;
    j->evaluate = *e;
    j->evaluate.folder = e->folder ? strdup(e->folder) : NULL;
    j->evaluate.work_dir = strdup(e->work_dir);
    j->evaluate.id = strdup(e->id);
    bool whole = (!e->folder || j->evaluate.folder) && j->evaluate.work_dir && j->evaluate.id;
    Status st = whole ? take_recipe(s, j, s->recipe, s->assignment->level, err) : error_nomem(err, "a job");
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    *out = j;
    return ST_OK;
}

Status job_measure(Session *s, Recipe *r, const int16_t *level, bool full, const char *title, Error *err)
{
    Job *j;
    RETURN_IF_ERROR(start_measurement(s, r, level, full, title, &j, err));
    j->row->own = title != NULL;
    return job_enqueue(s, j, err);
}

Status session_measure(Session *s, bool full, Error *err)
{
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    RETURN_IF_ERROR(engine_meet(s, s->recipe, err));
    return job_measure(s, s->recipe, s->assignment->level, full, NULL, err);
}
