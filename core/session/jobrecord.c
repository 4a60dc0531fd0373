/* Jobs in the journal: what was queued, in which order, what has begun and how it ended; and the queue back from it. */
#include "session/jobrecord.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "session/bases.h"
#include "session/entries.h"
#include "session/fields.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/results.h"
#include "session/rulerecord.h"
#include "session/start.h"

static const char *const kinds[] = {[JOB_ANALYZE] = "analyze", [JOB_MEASURE] = "measure", [JOB_QUANTIZE] = "quantize",
                                    [JOB_EVALUATE] = "evaluate", [JOB_GENERATE] = "generate"};

/* ---- writing ---- */

static const char *truth(bool b)
{
    return b ? "true" : "false";
}

static void put_metrics(const Job *j, Str *b)
{
    str_puts(b, ",\"metrics\":[");
    for (int i = 0; j->metrics && j->metrics[i]; i++) {
        str_puts(b, i ? "," : "");
        str_json(b, j->metrics[i]->name);
    }
    str_putc(b, ']');
}

static void put_selected(const Session *s, const Job *j, Str *b)
{
    if (!j->selected)
        return;
    str_puts(b, ",\"selected\":[");
    for (int64_t i = 0, n = 0; i < s->model->nlinears; i++)
        if (j->selected[i])
            str_printf(b, "%s%lld", n++ ? "," : "", (long long)i);
    str_putc(b, ']');
}

static void put_folder(const QuantizeJob *q, Str *b)
{
    char *dir = path_absolute(q->dir);
    str_puts(b, ",\"dir\":");
    str_json(b, dir ? dir : q->dir);
    str_printf(b, ",\"verify\":%s,\"debug\":%s", truth(q->verify), truth(q->debug));
    free(dir);
}

void entry_job(const Session *s, const Job *j, Str *b)
{
    const JobView *v = j->view;
    str_printf(b, "{\"t\":\"job\",\"job\":%d,\"kind\":\"%s\",\"title\":", v->id, kinds[v->kind]);
    str_json(b, v->title);
    str_printf(b, ",\"own\":%s,\"request\":%d,\"sort\":\"%016llx\",\"work\":%lld", truth(j->row->own), j->row->request,
               (unsigned long long)j->row->sort, (long long)j->row->work);
    if (v->kind == JOB_ANALYZE) {
        str_printf(b, ",\"run\":%d,\"first\":%lld,\"needs\":%u,\"scheme\":", j->row->run, (long long)j->plan.first, j->plan.needs);
        str_json(b, s->scheme);
        put_metrics(j, b);
        put_selected(s, j, b);
    } else if (v->kind == JOB_MEASURE) {
        str_printf(b, ",\"full\":%s", truth(j->full));
        levels_record(b, j->level, s->model->nlinears);
    } else if (v->kind == JOB_QUANTIZE) {
        put_folder(&j->quantize, b);
        str_printf(b, ",\"resume\":%s,\"force\":%s", truth(j->quantize.resume), truth(j->quantize.force));
    }
    str_putc(b, '}');
}

/* What the newest pass is, for one that goes on from it; behind its needs, which others that are queued may change. */
static void put_run(const Session *s, const Job *j, Str *b)
{
    const Results *r = s->results;
    str_printf(b, ",\"identity\":\"%s\",\"arith\":\"%s\"", r->identity, arith_name(r->scores.arith));
    if (base_changed(&j->base)) {
        char base[65];
        digest_hex(&j->base, base);
        str_printf(b, ",\"base\":\"%s\"", base);
    }
    if (!j->plan.pass->has) /* statistics are known by their needs */
        put_metrics(j, b);
    put_selected(s, j, b);
    str_putc(b, '}');
}

void entry_job_begin(Session *s, Job *j)
{
    if (j->row->own && j->view->kind == JOB_QUANTIZE)
        return; /* its plan makes it again */
    if (j->view->kind == JOB_ANALYZE && !j->plan.first && j->row->run >= 0) {
        put_run(s, j, &j->begin);
    } else if (j->view->kind == JOB_QUANTIZE) {
        put_folder(&j->quantize, &j->begin);
        str_putc(&j->begin, '}');
    }
}

void entry_job_started(Keeper *kp, Job *j)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"job_begin\",\"job\":%d}", j->view->id);
    keeper_put(kp, &b, true);
    if (!j->begin.len)
        return;
    b = (Str){0};
    if (j->view->kind == JOB_ANALYZE)
        str_printf(&b, "{\"t\":\"run\",\"run\":%d,\"needs\":%u%s", j->row->run, j->plan.needs, str_text(&j->begin));
    else
        str_printf(&b, "{\"t\":\"quantize\"%s", str_text(&j->begin));
    keeper_put(kp, &b, true);
}

void entry_job_end(Session *s, const JobRow *row)
{
    const JobView *v = &row->view;
    Str b = {0};
    str_printf(&b, "{\"t\":\"job_end\",\"job\":%d,\"status\":%d,\"state\":%d,\"seconds\":", v->id, (int)v->status, (int)v->state);
    str_double(&b, v->elapsed);
    str_printf(&b, ",\"done\":%lld,\"total\":%lld,\"ok\":%d,\"failed\":%d,\"warned\":%d,\"last\":", (long long)v->done,
               (long long)v->total, v->ok, v->failed, v->warned);
    str_json(&b, v->last);
    str_puts(&b, ",\"error\":");
    str_json(&b, v->error);
    if (v->measured) {
        const double figures[] = {v->kl, v->kl_se, v->ppl, v->ppl_float, v->top1};
        str_puts(&b, ",\"found\":[");
        for (int i = 0; i < 5; i++) {
            str_puts(&b, i ? "," : "");
            str_double(&b, figures[i]);
        }
        str_putc(&b, ']');
    }
    str_putc(&b, '}');
    entry_put(s, &b, false);
}

void entry_job_gone(Session *s, int id)
{
    Str b = {0};
    str_printf(&b, "{\"t\":\"job_gone\",\"job\":%d}", id);
    entry_put(s, &b, false);
}

void entry_queue(Session *s)
{
    Queue *q = s->queue;
    Str b = {0};
    str_puts(&b, "{\"t\":\"queue\",\"order\":[");
    pthread_mutex_lock(&q->lock);
    for (const Job *j = q->head; j; j = j->next)
        str_printf(&b, "%s%d", j == q->head ? "" : ",", j->view->id);
    pthread_mutex_unlock(&q->lock);
    str_puts(&b, "],\"paused\":[");
    for (size_t i = 0, n = 0; i < q->njobs; i++)
        if (job_is_open(q->jobs[i]) && q->jobs[i]->view.paused)
            str_printf(&b, "%s%d", n++ ? "," : "", q->jobs[i]->view.id);
    str_puts(&b, "]}");
    entry_put(s, &b, true);
}

/* ---- what still waits ---- */

static void note_waiting(void *ctx, uint64_t seq, const char *json, uint32_t len)
{
    static const char queued[] = "{\"t\":\"job\",\"job\":", begun[] = "{\"t\":\"job_begin\",\"job\":", ended[] = "{\"t\":\"job_end\",\"job\":",
                      gone[] = "{\"t\":\"job_gone\",\"job\":";
    static const struct {
        const char *text;
        size_t n;
    } over[] = {{begun, sizeof begun - 1}, {ended, sizeof ended - 1}, {gone, sizeof gone - 1}};
    Queue *q = ctx;
    (void)seq;
    (void)len;
    if (strncmp(json, queued, sizeof queued - 1) == 0) {
        if (mem_grow(&q->waits, &q->cap_waits, q->nwaits + 1, sizeof *q->waits))
            q->waits[q->nwaits++] = atoi(json + sizeof queued - 1);
        return;
    }
    for (size_t k = 0; k < sizeof over / sizeof *over; k++)
        for (size_t i = 0; strncmp(json, over[k].text, over[k].n) == 0 && i < q->nwaits; i++)
            if (q->waits[i] == atoi(json + over[k].n))
                q->waits[i] = 0;
}

void jobs_find_waiting(Session *s, const char *dir)
{
    char *path = path_join(dir, "journal");
    s->queue->nwaits = 0;
    if (path) /* one that can't be looked at is told when it is opened */
        journal_glance(path, note_waiting, s->queue, NULL);
    free(path);
}

static bool waits(const Queue *q, int id)
{
    for (size_t i = 0; i < q->nwaits; i++)
        if (id && q->waits[i] == id)
            return true;
    return false;
}

/* ---- reading ---- */

/* A row of the list without its job. */
static Status put_row(Session *s, const JobRow *row, const char *dir, Error *err)
{
    Queue *q = s->queue;
    JobRow *r = job_room(q, err) == ST_OK ? malloc(sizeof *r) : NULL;
    if (!r)
        return error_nomem(err, "the job list");
    *r = *row;
    if (job_row_keep(r, dir, err) != ST_OK) {
        free(r);
        return ST_NOMEM;
    }
    q->jobs[q->njobs++] = r;
    return ST_OK;
}

Status jobs_show_unfinished(Session *s, JobRow row, const char *dir, Error *err)
{
    row.view.state = JOB_STOPPED;
    row.view.status = ST_CANCELLED;
    row.view.eta = -1;
    row.view.phase = row.view.last = row.view.error = row.view.bad = "";
    row.view.id = s->queue->next_job + 1;
    RETURN_IF_ERROR(put_row(s, &row, dir, err));
    s->queue->next_job++;
    return ST_OK;
}

/* Its metrics as rows of the table, NULL-terminated; caller frees. */
static Status read_metrics(const cJSON *o, const Metric ***out, Error *err)
{
    const cJSON *names = json_get(o, "metrics"), *v;
    size_t n = 0;
    *out = mem_zarray((size_t)cJSON_GetArraySize(names) + 1, sizeof **out);
    if (!*out)
        return error_nomem(err, "a list of metrics");
    cJSON_ArrayForEach(v, names) {
        const Metric *m = cJSON_IsString(v) ? metric_find(v->valuestring) : NULL;
        if (m)
            (*out)[n++] = m;
    }
    return n && (int)n == cJSON_GetArraySize(names) ? ST_OK : error_set(err, ST_DATA, "its metrics are not in this build");
}

static Status read_selected(const Session *s, const cJSON *o, bool **out, Error *err)
{
    const cJSON *list = json_get(o, "selected"), *v;
    int64_t i;
    *out = NULL;
    if (!list)
        return ST_OK;
    *out = mem_zarray((size_t)s->model->nlinears, 1);
    if (!*out)
        return error_nomem(err, "the selection");
    cJSON_ArrayForEach(v, list)
        if (whole_of(v->valuedouble, 0, s->model->nlinears - 1, &i))
            (*out)[i] = true;
    return ST_OK;
}

/* The session is what it was when the job was queued: what it needs is taken from it again. */
static Status analysis_back(Session *s, const cJSON *o, Job **out, Error *err)
{
    const Metric **metrics;
    bool *selected = NULL;
    char scheme[sizeof s->scheme];
    memcpy(scheme, s->scheme, sizeof scheme);
    snprintf(s->scheme, sizeof s->scheme, "%s", text_of(o, "scheme") ? text_of(o, "scheme") : "");
    Status st = read_metrics(o, &metrics, err);
    if (st == ST_OK)
        st = read_selected(s, o, &selected, err);
    if (st == ST_OK)
        st = start_analysis_again(s, metrics, selected, (unsigned)whole_in(o, "needs", 0, UINT32_MAX, 0), out, err);
    free(metrics);
    free(selected);
    memcpy(s->scheme, scheme, sizeof scheme);
    if (st == ST_OK)
        (*out)->row->run = (int)whole_in(o, "run", 0, INT32_MAX, -1);
    return st;
}

static Status measurement_back(Session *s, const cJSON *o, Job **out, Error *err)
{
    int16_t *level;
    RETURN_IF_ERROR(levels_parse(o, s->model->nlinears, s->assignment->level, &level, err));
    Status st = start_measurement(s, s->recipe, level, cJSON_IsTrue(json_get(o, "full")), text_of(o, "title"), out, err);
    free(level);
    return st;
}

static Status quantization_back(Session *s, const cJSON *o, Job **out, Error *err)
{
    const QuantizeOptions q = {.save_path = text_of(o, "dir"), .resume = cJSON_IsTrue(json_get(o, "resume")),
                               .verify = cJSON_IsTrue(json_get(o, "verify")), .debug = cJSON_IsTrue(json_get(o, "debug")),
                               .force = cJSON_IsTrue(json_get(o, "force"))};
    return start_quantization(s, &q, out, err);
}

static int kind_of(const cJSON *o)
{
    const char *kind = text_of(o, "kind");
    for (int k = 0; kind && k <= JOB_GENERATE; k++)
        if (strcmp(kinds[k], kind) == 0)
            return k;
    return -1;
}

/* One that was queued and has not begun waits again. What can't be made any more is a failed job that says why. */
static Status queue_again(Session *s, const cJSON *o, JobRow *row, Error *why)
{
    static Status (*const back[])(Session *, const cJSON *, Job **, Error *) = {
        [JOB_ANALYZE] = analysis_back, [JOB_MEASURE] = measurement_back, [JOB_QUANTIZE] = quantization_back};
    Job *j;
    RETURN_IF_ERROR(back[row->view.kind](s, o, &j, why));
    j->view->id = row->view.id;
    j->view->earlier = true;
    j->row->request = row->request;
    j->row->sort = row->sort;
    j->row->work = row->work;
    if (row->view.kind == JOB_ANALYZE)
        start_origin(s, j);
    entry_job_begin(s, j);
    job_append(s, j, true);
    return ST_OK;
}

Status job_restore(Session *s, const cJSON *o, Error *err)
{
    Queue *q = s->queue;
    const char *title = text_of(o, "title"), *dir = text_of(o, "dir"), *sort = text_of(o, "sort");
    JobRow row = {.run = (int)whole_in(o, "run", 0, INT32_MAX, -1), .own = cJSON_IsTrue(json_get(o, "own")),
                  .verify = cJSON_IsTrue(json_get(o, "verify")), .debug = cJSON_IsTrue(json_get(o, "debug")),
                  .request = (int)whole_in(o, "request", 0, INT32_MAX, 0), .work = whole_in(o, "work", 0, INT64_MAX, 0),
                  .sort = sort ? strtoull(sort, NULL, 16) : 0};
    int kind = kind_of(o);
    Error why = {0};
    if (kind < 0 || !title)
        return error_set(err, ST_DATA, "a record of a job is damaged");
    row.view = (JobView){.id = (int)whole_in(o, "job", 1, INT32_MAX, q->next_job + 1), .kind = (JobKind)kind, .state = JOB_STOPPED,
                         .status = ST_CANCELLED, .eta = -1, .title = title, .phase = "", .last = "", .error = "", .bad = "",
                         .target = kind == JOB_QUANTIZE && dir ? dir : ""};
    q->next_job = row.view.id > q->next_job ? row.view.id : q->next_job;
    s->results->next_run = row.run > s->results->next_run ? row.run : s->results->next_run;
    bool asked = kind != JOB_ANALYZE || row.run >= 0; /* else a question of its own, which is put again */
    bool again = asked && kind < JOB_EVALUATE && !s->read_only && waits(q, row.view.id) && !row.own && whole_in(o, "first", 0, INT64_MAX, 0) == 0;
    if (again && queue_again(s, o, &row, &why) == ST_OK)
        return ST_OK;
    if (again) {
        row.view.state = JOB_FAILED;
        row.view.status = why.status;
        row.view.error = why.text;
        session_log(s, 1, "#%d: %s can't wait again: %s", row.view.id, title, why.text);
    }
    return put_row(s, &row, kind == JOB_QUANTIZE ? dir : NULL, err);
}

Status job_end_restore(Session *s, const cJSON *o, Error *err)
{
    JobRow *r = job_row_find(s->queue, (int)whole_in(o, "job", 1, INT32_MAX, 0));
    const cJSON *found = json_get(o, "found"), *x;
    if (!r || r->job)
        return ST_OK;
    JobView *v = &r->view;
    v->state = (JobState)whole_in(o, "state", JOB_DONE, JOB_STOPPED, JOB_STOPPED);
    v->status = (Status)whole_in(o, "status", 0, 255, ST_CANCELLED);
    v->elapsed = num_of(o, "seconds", 0);
    v->done = whole_in(o, "done", 0, INT64_MAX, 0);
    v->total = whole_in(o, "total", 0, INT64_MAX, 0);
    v->ok = (int)whole_in(o, "ok", 0, INT32_MAX, 0);
    v->failed = (int)whole_in(o, "failed", 0, INT32_MAX, 0);
    v->warned = (int)whole_in(o, "warned", 0, INT32_MAX, 0);
    v->last = text_of(o, "last") ? text_of(o, "last") : "";
    v->error = text_of(o, "error") ? text_of(o, "error") : "";
    double *const to[] = {&v->kl, &v->kl_se, &v->ppl, &v->ppl_float, &v->top1};
    size_t i = 0;
    v->measured = cJSON_GetArraySize(found) == 5;
    cJSON_ArrayForEach(x, found)
        if (i < 5)
            *to[i++] = cJSON_IsNumber(x) ? x->valuedouble : NAN;
    return job_row_keep(r, r->dir, err);
}

Status job_gone_restore(Session *s, const cJSON *o, Error *err)
{
    Queue *q = s->queue;
    (void)err;
    for (size_t i = 0; i < q->njobs; i++)
        if (q->jobs[i]->view.id == (int)whole_in(o, "job", 1, INT32_MAX, 0) && !q->jobs[i]->job) {
            job_row_free(q->jobs[i]);
            memmove(&q->jobs[i], &q->jobs[i + 1], (q->njobs - i - 1) * sizeof *q->jobs);
            q->njobs--;
        }
    return ST_OK;
}

/* Those that still wait come in the order of the record; no thread runs yet. */
Status queue_restore(Session *s, const cJSON *o, Error *err)
{
    Queue *q = s->queue;
    const cJSON *order = json_get(o, "order"), *paused = json_get(o, "paused"), *v;
    (void)err;
    cJSON_ArrayForEach(v, order) {
        JobRow *r = job_row_find(q, v->valueint);
        if (!r || !r->job)
            continue;
        job_unlink(q, r->job);
        if (q->tail)
            q->tail->next = r->job;
        else
            q->head = r->job;
        q->tail = r->job;
    }
    for (size_t i = 0; i < q->njobs; i++)
        q->jobs[i]->view.paused = false;
    cJSON_ArrayForEach(v, paused) {
        JobRow *r = job_row_find(q, v->valueint);
        if (r)
            r->view.paused = true;
    }
    return ST_OK;
}
