#include "session/asked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "math/gemm.h"
#include "process/pipeline.h"
#include "session/engine.h"
#include "session/parts.h"
#include "session/queue.h"
#include "session/start.h"

struct Asked {
    Job *job;            /* never queued: what it is made from */
    const Cancel *cancel;
    Pool *pool;
    Tokenizer *tok;
    TokenSet *calib, **prior; /* [job->npriors] */
    Subject *subject;
};

static Status tokens_of(Asked *a, const DataSpec *d, TokenSet **out, Error *err)
{
    CalibFile *file;
    const TextLimits limits = {.cancel = a->cancel};
    RETURN_IF_ERROR(dataspec_open(&file, d, a->job->opt.peer, &limits, err));
    Status st = a->tok ? ST_OK : tokenizer_open(&a->tok, a->job->model->path, err);
    if (st == ST_OK)
        st = tokens_make(out, file, a->tok, d->max_samples, d->seq_len, a->job->model->cfg.vocab, &limits, err);
    calib_free(file);
    return st;
}

static Status texts(void *ctx, Pipeline *p, const TokenSet **calib, Error *err)
{
    Asked *a = ctx;
    if (pipeline_last_data(p) >= 0)
        RETURN_IF_ERROR(tokens_of(a, &a->job->calib, &a->calib, err));
    *calib = a->calib;
    for (int i = 0; i < a->job->npriors; i++) {
        if (!pipeline_prior_data(p, i))
            continue;
        RETURN_IF_ERROR(tokens_of(a, &a->job->prior[i], &a->prior[i], err));
        pipeline_set_prior(p, i, a->prior[i]);
    }
    return ST_OK;
}

/* The job, with levels and texts as a measurement would have them. */
static Status make_job(Session *s, bool quantized, Job **out, Error *err)
{
    Job *j;
    *out = NULL;
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
    RETURN_IF_ERROR(quantized ? engine_meet(s, s->recipe, err) : ST_OK);
    RETURN_IF_ERROR(job_new(s, JOB_GENERATE, quantized ? TEXTS_CALIB : 0, &j, err));
    Status st = quantized ? job_take_levels(s, j, err) : ST_OK;
    if (st == ST_OK && quantized) {
        j->recipe = recipe_hold(s->recipe);
        st = job_take_priors(s, s->recipe, j, err);
    }
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    *out = j;
    return ST_OK;
}

static Status prepare(Asked *a, Session *s, bool quantized, Error *err)
{
    RETURN_IF_ERROR(make_job(s, quantized, &a->job, err));
    a->prior = mem_zarray((size_t)a->job->npriors, sizeof *a->prior);
    return a->prior ? ST_OK : error_nomem(err, "the texts of prior stages");
}

static Status open_subject(Asked *a, const AskedOptions *o, Error *err)
{
    const Job *j = a->job;
    uint64_t avail = mem_available_bytes(), taken = mem_resident_bytes();
    uint64_t limit = j->opt.mem ? j->opt.mem : avail / 10 * 7 + taken;
    const Work work = {.recipe = j->recipe, .levels = j->levels, .nlevels = j->nlevels, .level = j->level,
                       .peer = j->opt.peer, .lenient = true};
    if (limit <= taken)
        return error_set(err, ST_NOMEM, "the program takes %.1f MB but the limit is %.3g MB: raise --mem", (double)taken * 1e-6,
                         (double)limit * 1e-6);
    RETURN_IF_ERROR(pool_new(&a->pool, j->opt.threads, err));
    RETURN_IF_ERROR(gemm_ready(pool_threads(a->pool), err));
    const SubjectOptions so = {.model = j->model, .pool = a->pool, .arith = j->opt.arith, .mem = limit - taken,
                               .cancel = o->cancel, .work = o->quantized ? &work : NULL, .texts = texts, .ctx = a,
                               .progress = o->progress, .progress_ctx = o->ctx};
    return subject_new(&a->subject, &so, err);
}

Status asked_new(Asked **out, Session *s, const AskedOptions *o, Error *err)
{
    *out = NULL;
    if (queue_open(s->queue))
        return error_set(err, ST_USAGE, "a job runs, and both would take the memory: wait for it, or cancel it");
    Asked *a = mem_zarray(1, sizeof *a);
    if (!a)
        return error_nomem(err, "the model that is asked");
    a->cancel = o->cancel;
    Status st = prepare(a, s, o->quantized, err);
    if (st == ST_OK)
        st = open_subject(a, o, err);
    if (st != ST_OK) {
        asked_free(a);
        return st;
    }
    *out = a;
    return ST_OK;
}

void asked_free(Asked *a)
{
    if (!a)
        return;
    subject_free(a->subject);
    tokens_free(a->calib);
    for (int i = 0; a->prior && a->job && i < a->job->npriors; i++)
        tokens_free(a->prior[i]);
    free(a->prior);
    tokenizer_free(a->tok);
    pool_free(a->pool);
    job_free(a->job);
    free(a);
}

Subject *asked_subject(Asked *a)
{
    return a->subject;
}

/* ---- as a job ---- */

static Status take_ask(Job *j, const GenerateAsk *ask, Error *err)
{
    GenerateJob *g = &j->generate;
    g->prompt = strdup(ask->prompt);
    g->ids = mem_array((size_t)ask->nids, sizeof *g->ids);
    g->stop = mem_array((size_t)ask->nstop, sizeof *g->stop);
    if (!g->prompt || !g->ids || !g->stop)
        return error_nomem(err, "a job");
    memcpy(g->ids, ask->ids, (size_t)ask->nids * sizeof *g->ids);
    if (ask->nstop)
        memcpy(g->stop, ask->stop, (size_t)ask->nstop * sizeof *g->stop);
    g->nids = ask->nids;
    g->nstop = ask->nstop;
    g->max_tokens = ask->max_tokens;
    g->quantized = ask->quantized;
    snprintf(j->title, sizeof j->title, "generate, %s", ask->quantized ? "quantized" : "float");
    j->view->total = ask->max_tokens;
    return ST_OK;
}

Status session_generate(Session *s, const GenerateAsk *ask, Error *err)
{
    Job *j;
    RETURN_IF_ERROR(make_job(s, ask->quantized, &j, err));
    Status st = take_ask(j, ask, err);
    if (st != ST_OK) {
        job_free(j);
        return st;
    }
    return job_enqueue(s, j, err);
}

const Said *session_said(const Session *s)
{
    return s->said;
}

void said_free(Session *s)
{
    if (!s->said)
        return;
    free(s->said->prompt);
    free(s->said->ids);
    free(s->said);
    s->said = NULL;
}

void said_take(Session *s, Job *j)
{
    GenerateJob *g = &j->generate;
    Said *made = mem_zarray(1, sizeof *made);
    if (!made)
        return;
    said_free(s);
    *made = (Said){g->prompt, g->made, g->nmade, g->quantized};
    g->prompt = NULL;
    g->made = NULL;
    s->said = made;
    session_log(s, 0, "%lld token%s: 'generate' shows them", (long long)made->n, made->n == 1 ? "" : "s");
}
