#include "session/asked.h"

#include <stdlib.h>

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

/* The job as a measurement would have it. */
static Status prepare(Asked *a, Session *s, bool quantized, Error *err)
{
    RETURN_IF_ERROR(job_new(s, JOB_MEASURE, quantized ? TEXTS_CALIB : 0, &a->job, err));
    if (!quantized)
        return ST_OK;
    RETURN_IF_ERROR(engine_meet(s, s->recipe, err));
    RETURN_IF_ERROR(job_take_levels(s, a->job, err));
    a->job->recipe = recipe_hold(s->recipe);
    RETURN_IF_ERROR(job_take_priors(s, s->recipe, a->job, err));
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
    if (!s->model)
        return error_set(err, ST_USAGE, "no model is open: open MODEL first");
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
    for (int i = 0; a->prior && i < a->job->npriors; i++)
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
