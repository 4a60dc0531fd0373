/* What the job thread does: quantization. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "process/sink_save.h"
#include "session/kit_impl.h"

static void quantize_layer(void *ctx, int layer, int64_t linears, uint64_t bytes_in, uint64_t bytes_out)
{
    Kit *k = ctx;
    char phase[40];
    (void)linears;
    snprintf(phase, sizeof phase, "layer %d, %.1f MB in, %.1f out", layer, (double)bytes_in * 1e-6,
             (double)bytes_out * 1e-6);
    kit_tell(k, phase, layer + 1, model_depth(k->job->model));
}

/* Reads back what each saver wrote. */
static Status verify_written(Kit *k, QuantizeDone *d, Error *err)
{
    QuantizeJob *q = &k->job->quantize;
    int64_t layers = model_depth(k->job->model);
    for (int i = 0; i < q->nsavers; i++) {
        if (!q->saver[i]->weights)
            continue; /* debug_info */
        kit_tell(k, "verifying", layers, layers);
        VerifyReport *v = &d->verify[d->nverified];
        d->saver[d->nverified++] = q->saver[i]->type;
        RETURN_IF_ERROR(save_verify(&q->plan[i], q->saver[i], v, &k->job->cancel, err));
        d->problems += v->problems;
    }
    return ST_OK;
}

/* The check of what was written, and the result to the session. */
static Status complete(Kit *k, const SaveResult *run, int64_t t0, Error *err)
{
    QuantizeJob *q = &k->job->quantize;
    QuantizeDone *d = mem_zarray(1, sizeof *d);
    if (!d)
        return error_nomem(err, "the result");
    d->run = *run;
    d->seconds = (double)(clock_ns() - t0) * 1e-9;
    snprintf(d->save_path, sizeof d->save_path, "%s", q->dir);
    Phase was = profile_enter(k->profile, 0, PHASE_SAVE);
    /* what its processors changed is known to a run only, and none was made */
    bool unknown = run->there && q->nsavers && q->plan[0].overlay, verify = q->verify && dist_leads(k->job->opt.dist);
    if (verify && unknown)
        kit_warn(k, "--verify compares nothing: the output was there already, and what the recipe's processors changed in the "
                         "model is found by a run alone; 'slimscope check' reads it");
    Status st = verify && !unknown ? verify_written(k, d, err) : ST_OK;
    profile_leave(k->profile, 0, was);
    if (st != ST_OK) {
        quantize_done_free(d);
        return st;
    }
    int64_t problems = d->problems;
    k->job->written = d;
    post(k->queue, k->job, EVT_WRITTEN);
    if (problems)
        return error_set(err, ST_FAIL, "'%s' does not hold what was meant to be written: %lld problem%s", q->dir,
                         (long long)problems, problems == 1 ? "" : "s");
    return ST_OK;
}

/* Layouts, descriptions and copy buffers of the savers, whatever the model. */
enum { QUANTIZE_BESIDE = 8 << 20 };

/* share: of the texts, where ranks divide them. */
static Status write_files(Kit *k, const QuantizeJob *q, Pipeline *p, const Share *share, SaveResult *run, Error *err)
{
    const bool divided = share->dist != NULL;
    const SaveOptions o = {.savers = q->saver, .plans = q->plan, .nsavers = q->nsavers,
                           .calib = !q->needs_data ? NULL : divided ? &share->mine : k->calib, .dist = k->job->opt.dist,
                           .divided = divided, .texts = q->needs_data ? k->calib->sha256 : NULL, .resume = q->resume,
                           .layer = quantize_layer, .layer_ctx = k};
    const JobMemory m = {.held = QUANTIZE_BESIDE, .runner = save_estimate(p, &o, pool_threads(k->pool), k->job->opt.arith),
                         .states = k->lab ? effectlab_states(k->lab) : 0};
    RETURN_IF_ERROR(kit_runner(k, k->job, pipeline_overlay(p), &m, err));
    kit_tell(k, "quantizing", 0, model_depth(k->job->model));
    RETURN_IF_ERROR(save_run(p, k->runner, &o, run, err));
    if (run->unseen) {
        char text[480];
        snprintf(text, sizeof text, "%lld expert linear%s stayed in float, first %s: %s: use more texts, or a scheme that "
                 "needs no data", (long long)run->unseen, run->unseen == 1 ? "" : "s", run->first_unseen,
                 k->job->opt.peer ? "they saw no token"
                                  : "experts of their layers saw no token, and a layer's experts load with one scheme alone");
        kit_warn(k, text);
    }
    return ST_OK;
}

/* Over several ranks: their texts, where these can be divided; what is quantized and written always is. */
static Status write_divided(Kit *k, const QuantizeJob *q, Pipeline *p, SaveResult *run, Error *err)
{
    Job *j = k->job;
    Share share = {0};
    RETURN_IF_ERROR(kit_meet(k, j, err));
    RETURN_IF_ERROR(dist_same(j->opt.dist, "recipe", q->text, q->len, err));
    const bool many = dist_size(j->opt.dist) > 1 && q->needs_data, divided = many && kit_divides(j, p, k->calib);
    if (many && !divided)
        post_log(k->queue, j, 0, "the calibration is not divided over ranks (a processor that needs all texts, or fewer texts "
                                 "than ranks): each runs all texts; what is quantized and written is divided");
    k->together = many ? j->opt.dist : NULL; /* all layers in their order, whoever has which texts */
    pipeline_set_whole(p, divided ? k->calib : NULL);
    Status st = divided ? share_init(&share, j->opt.dist, k->calib, err) : ST_OK;
    if (st == ST_OK)
        st = write_files(k, q, p, &share, run, err);
    share_fini(&share);
    return st;
}

Status kit_quantize(Kit *k, Job *j, Error *err)
{
    QuantizeJob *q = &j->quantize;
    if (q->needs_data)
        RETURN_IF_ERROR(kit_tokens(k, &j->calib, false, &k->calib, &k->calib_of, err));
    RETURN_IF_ERROR(kit_pool(k, j, err));
    const Work work = {.recipe = q->recipe, .levels = j->levels, .nlevels = j->nlevels, .level = j->level,
                       .peer = j->opt.peer, .tell = kit_warn, .tell_ctx = k};
    Pipeline *p;
    RETURN_IF_ERROR(pipeline_new(&p, j->model, &work, err));
    for (int i = 0; i < q->nsavers; i++) {
        q->plan[i].warn = kit_warn;
        q->plan[i].warn_ctx = k;
        q->plan[i].overlay = pipeline_overlay(p); /* --verify reads the same model as the savers */
    }
    int64_t t0 = clock_ns();
    SaveResult run = {0};
    Status st = kit_priors(k, j, p, err);
    if (st == ST_OK)
        st = write_divided(k, q, p, &run, err);
    if (st == ST_OK)
        st = complete(k, &run, t0, err);
    kit_end_pipeline(k, p);
    RETURN_IF_ERROR(st);
    kit_tell(k, "done", model_depth(j->model), model_depth(j->model));
    return ST_OK;
}
