#include "process/sink_save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dist/deal.h"
#include "model/weight.h"
#include "save/store.h"
#include "save/target.h"

struct SaveSink {
    const SaveOptions *o;
    SaveResult *out;
    const Pipeline *p;
    Runner *r;
    void **saver;     /* [nsavers] */
    SavePlan *plan;   /* [nsavers] */
    SaveChanges *changes; /* of all plans */
    int *first;       /* [nsavers] first unit it still takes */
    int32_t *rank_of; /* [nlinears] of several ranks: who quantizes it */
    FormMakers makers;
    char flow[65];    /* digest for a resume: SavePlan.flow */
    int unit;         /* present one */
    Profile *profile;
};

/* ---- memory ---- */

static uint64_t largest_weight(const Pipeline *p, int threads)
{
    const Model *m = pipeline_model(p);
    const int16_t *level = pipeline_work(p)->level;
    uint64_t most = 0, raw = 0;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        uint64_t n = (uint64_t)l->out * (uint64_t)l->in;
        if (level[i] == 0)
            continue;
        const QuantLevel *at = &pipeline_levels(p)[level[i] - 1];
        const QSpec *q = &at->config->weight;
        uint64_t bytes = n * sizeof(float) + qweight_bytes(q, l->out, l->in);
        bytes += at->weight->scratch ? at->weight->scratch(q, l->out, l->in, threads) : 0;
        bytes += q->dtype == QT_INT4 || q->dtype == QT_MXFP4 ? n / 2 : 0; /* two to a byte, as a saver packs them */
        bytes += q->dtype == QT_FLOAT && weight_dtype(l) == DT_F32 ? n * sizeof(float) : 0; /* kept as two bytes */
        most = bytes > most ? bytes : most;
        uint64_t size = weight_bytes(l);
        raw = size > raw ? size : raw;
    }
    return most + 2 * raw; /* the next one is read meanwhile */
}

static uint64_t main_estimate(const Pipeline *p, const SaveOptions *o, int threads, ArithMode arith)
{
    const Model *m = pipeline_model(p);
    uint64_t bytes = largest_weight(p, threads);
    const bool turned = pipeline_needs(p) & PROCESSOR_OUTPUTS, inputs = pipeline_needs(p) & PROCESSOR_INPUTS;
    bytes += turned ? runner_whole_bytes(m, threads) : 0;
    if (!o->calib || pipeline_last_data(p) < 0)
        return bytes;
    const RunnerAsk ask = {.rows = o->calib->start[o->calib->samples], .threads = threads, .arith = arith,
                           .longest = longest_of(o->calib->start, o->calib->samples),
                           .level = pipeline_acts(p), .whole = pipeline_whole(p), .inputs = inputs, .turned = turned,
                           .branches = pipeline_needs(p) & PROCESSOR_BRANCHES};
    RunnerNeed n = runner_need(m, &ask);
    bool rerun = false;
    for (int i = 0; i < o->nsavers; i++)
        rerun = rerun || o->savers[i]->peer_reruns;
    bytes += (uint64_t)pipeline_streams(p, rerun) * n.stream + n.kept + n.layer;
    return bytes + pipeline_bytes(p, &(PassSize){.samples = o->calib->samples, .threads = threads, .rows = ask.rows,
                                                .longest = ask.longest});
}

uint64_t save_estimate(const Pipeline *p, const SaveOptions *o, int threads, ArithMode arith)
{
    uint64_t prior = pipeline_prior_bytes(p, threads, arith), main = main_estimate(p, o, threads, arith);
    return prior > main ? prior : main;
}

static Status check_memory(const SaveSink *s, Error *err)
{
    const TokenSet *calib = s->o->calib;
    s->out->bound = save_estimate(s->p, s->o, pool_threads(runner_pool(s->r)), runner_arith(s->r));
    uint64_t limit = runner_mem_limit(s->r);
    if (!limit || s->out->bound <= limit)
        return ST_OK;
    return error_set(err, ST_NOMEM,
                     "quantizing needs %.1f MB (the largest linear, %lld calibration tokens, what the methods "
                     "take) but the limit is %.1f MB: raise --mem, or use fewer or shorter texts",
                     (double)s->out->bound / 1e6,
                     (long long)(calib && pipeline_last_data(s->p) >= 0 ? calib->start[calib->samples] : 0),
                     (double)limit / 1e6);
}

/* ---- the sink ---- */

static Status plan_saver(SaveSink *s, int i, Error *err)
{
    DType T = arith_dtype(runner_arith(s->r), pipeline_model(s->p)->cfg.dtype);
    SavePlan *plan = &s->plan[i];
    *plan = s->o->plans[i];
    plan->texts = pipeline_last_data(s->p) < 0 ? NULL : s->o->texts ? s->o->texts : s->o->calib->sha256;
    plan->dist = s->o->dist;
    plan->flow = s->flow;
    plan->overlay = runner_overlay(s->r);
    plan->arith = arith_name(runner_arith(s->r));
    plan->cache_dtype = T;
    plan->changes = s->changes;
    return pipeline_promise(s->p, T, plan, err);
}

static Status open_saver(SaveSink *s, int i, Error *err)
{
    return s->o->savers[i]->ops->open(&s->saver[i], s->o->savers[i], &s->plan[i], s->o->resume, &s->first[i], err);
}

/* What quantizing a linear costs, in steps of whatever size: with second moments each input goes with each other one. */
static uint64_t cost_of(const Pipeline *p, int64_t i)
{
    const Linear *l = &pipeline_model(p)->linears[i];
    const int level = pipeline_work(p)->level[i];
    if (level == 0)
        return 0;
    const uint64_t n = (uint64_t)l->out * (uint64_t)l->in;
    return pipeline_levels(p)[level - 1].weight->prepare ? n * (uint64_t)l->in : n;
}

/* A layer ends when every rank has done its part, so each layer is divided for itself. */
static Status deal_unit(SaveSink *s, const Unit *u, int begin, uint64_t *cost, int32_t *rank, Error *err)
{
    for (int32_t i = 0; i < u->count; i++)
        cost[i] = cost_of(s->p, u->first + i);
    RETURN_IF_ERROR(deal_out(cost, u->count, dist_speeds(s->o->dist), dist_size(s->o->dist), begin, rank, err));
    memcpy(s->rank_of + u->first, rank, (size_t)u->count * sizeof *rank);
    return ST_OK;
}

static Status deal_linears(SaveSink *s, Error *err)
{
    const Model *m = pipeline_model(s->p);
    if (dist_size(s->o->dist) == 1)
        return ST_OK;
    uint64_t *cost = mem_array((size_t)m->nlinears, sizeof *cost);
    int32_t *rank = mem_array((size_t)m->nlinears, sizeof *rank);
    s->rank_of = mem_zarray((size_t)m->nlinears, sizeof *s->rank_of);
    Status st = cost && rank && s->rank_of ? ST_OK : error_nomem(err, "the division of a layer's linears");
    for (int i = 0; st == ST_OK && i < model_depth(m); i++)
        st = deal_unit(s, &m->units[i], i, cost, rank, err);
    free(cost);
    free(rank);
    s->makers = (FormMakers){.dist = s->o->dist, .rank = s->rank_of};
    return st;
}

static const FormMakers *makers_of(const SaveSink *s)
{
    return s->rank_of ? &s->makers : NULL;
}

/* Rank 0 looks at the target before any of them opens it. */
static Status check_target(SaveSink *s, Error *err)
{
    if (dist_leads(s->o->dist))
        RETURN_IF_ERROR(save_target_check(s->o->savers, s->plan, s->o->nsavers, s->o->resume, &s->out->there, err));
    return dist_from_first(s->o->dist, &s->out->there, sizeof s->out->there, err);
}

static Status sink_open(void *self, const Pipeline *p, Runner *r, SinkWants *wants, Error *err)
{
    SaveSink *s = self;
    s->p = p;
    s->r = r;
    s->profile = pool_profile(runner_pool(r));
    if (pipeline_work(p)->peer && runner_arith(r) != ARITH_EXACT)
        return error_set(err, ST_INTERNAL, "the peer's quantization needs a runner in exact arithmetic");
    RETURN_IF_ERROR(check_memory(s, err));
    Digest order = pipeline_order(p); /* what decides the values beside the plan and the texts */
    digest_hex(&order, s->flow);
    wants->end = model_depth(pipeline_model(p));
    wants->first = s->o->nsavers > 0 ? wants->end : 0;
    int resumed = wants->first; /* layers whose weights are there; what describes them may be made again */
    RETURN_IF_ERROR(save_changes_new(&s->changes, pipeline_model(p), err));
    for (int i = 0; i < s->o->nsavers; i++)
        RETURN_IF_ERROR(plan_saver(s, i, err));
    RETURN_IF_ERROR(deal_linears(s, err));
    wants->makers = makers_of(s);
    RETURN_IF_ERROR(check_target(s, err));
    if (s->out->there) {
        wants->end = 0;
        return ST_OK;
    }
    for (int i = 0; i < s->o->nsavers; i++) {
        RETURN_IF_ERROR(open_saver(s, i, err));
        wants->first = s->first[i] < wants->first ? s->first[i] : wants->first;
        if (s->o->savers[i]->weights && s->first[i] < resumed)
            resumed = s->first[i];
        /* this saver of the peer's isn't data-free: it runs what the processors deployed once more */
        wants->rerun = wants->rerun || s->o->savers[i]->peer_reruns;
    }
    s->out->layers_resumed = resumed;
    return ST_OK;
}

/* Told by their number and the first: a large model may have thousands. */
static Status keep_float(SaveSink *s, int64_t linear, Error *err)
{
    if (s->out->unseen++ == 0)
        snprintf(s->out->first_unseen, sizeof s->out->first_unseen, "%s", pipeline_model(s->p)->linears[linear].name);
    s->out->floats++;
    for (int i = 0; i < s->o->nsavers; i++)
        if (s->unit >= s->first[i])
            RETURN_IF_ERROR(s->o->savers[i]->ops->keep_float(s->saver[i], linear, err));
    return ST_OK;
}

static void count_linear(SaveSink *s, const UnitRun *u, int64_t i)
{
    const int64_t linear = u->first + i;
    const QuantLevel *l = &pipeline_levels(s->p)[u->work->level[linear] - 1];
    const bool bias = overlay_has_bias(runner_overlay(s->r), u->model, linear);
    s->out->quantized++;
    s->out->bytes_read += weight_bytes(&u->model->linears[linear]);
    s->out->bytes_written += scheme_bytes(l->scheme, l->config,
                                          &(SchemeLinear){&u->model->linears[linear], bias, u->work->peer, u->model->cfg.dtype});
}

static Status write_linear(SaveSink *s, UnitRun *u, int64_t i, Error *err)
{
    SaveLinear l;
    QWeight w;
    float *bias = NULL;
    RETURN_IF_ERROR(unit_take(u, i, &l, &w, err));
    Status st = runner_bias(s->r, l.linear, &bias, err);
    l.bias = bias;
    Phase was = profile_enter(s->profile, 0, PHASE_SAVE);
    for (int k = 0; k < s->o->nsavers && st == ST_OK; k++)
        if (u->unit >= s->first[k])
            st = s->o->savers[k]->ops->linear(s->saver[k], &l, err);
    profile_leave(s->profile, 0, was);
    free(bias);
    unit_done(u, &w);
    return st;
}

static Status write_cache(void *self, const SaveCache *c, Error *err)
{
    SaveSink *s = self;
    for (int i = 0; i < s->o->nsavers; i++) {
        if (s->unit < s->first[i])
            continue;
        RETURN_IF_ERROR(s->o->savers[i]->ops->cache(s->saver[i], c, err));
    }
    return ST_OK;
}

static Status write_tensor(void *self, const SaveValues *v, Error *err)
{
    SaveSink *s = self;
    for (int i = 0; i < s->o->nsavers; i++)
        if (s->unit >= s->first[i] && s->o->savers[i]->ops->tensor)
            RETURN_IF_ERROR(s->o->savers[i]->ops->tensor(s->saver[i], v, err));
    return ST_OK;
}

static Status write_debug(void *self, const SaveDebug *d, Error *err)
{
    SaveSink *s = self;
    for (int i = 0; i < s->o->nsavers; i++)
        if (s->unit >= s->first[i] && s->o->savers[i]->ops->debug)
            RETURN_IF_ERROR(s->o->savers[i]->ops->debug(s->saver[i], d, err));
    return ST_OK;
}

/* Of the ranks that don't lead: what processors make rank 0 writes. */
static Status leave_cache(void *self, const SaveCache *c, Error *err)
{
    (void)self;
    (void)c;
    (void)err;
    return ST_OK;
}

static Status leave_tensor(void *self, const SaveValues *v, Error *err)
{
    (void)self;
    (void)v;
    (void)err;
    return ST_OK;
}

static bool wants_debug(const SaveSink *s)
{
    for (int i = 0; i < s->o->nsavers; i++)
        if (s->o->savers[i]->ops->debug)
            return true;
    return false;
}

static Status hand_over(SaveSink *s, UnitRun *u, Error *err)
{
    Gifts to = {.cache = leave_cache, .tensor = leave_tensor, .self = s};
    if (dist_leads(s->o->dist))
        to = (Gifts){.cache = write_cache, .tensor = write_tensor, .debug = wants_debug(s) ? write_debug : NULL, .self = s};
    for (int i = 0; i < s->o->nsavers && dist_size(s->o->dist) > 1; i++)
        if (u->unit >= s->first[i] && s->o->savers[i]->ops->layer_met)
            RETURN_IF_ERROR(s->o->savers[i]->ops->layer_met(s->saver[i], u->unit, err));
    return unit_gifts(u, &to, err);
}

static Status end_layer(const SaveSink *s, int unit, Error *err)
{
    Phase was = profile_enter(s->profile, 0, PHASE_SAVE);
    Status st = ST_OK;
    for (int i = 0; i < s->o->nsavers && st == ST_OK; i++)
        if (unit >= s->first[i])
            st = s->o->savers[i]->ops->layer_done(s->saver[i], unit, err);
    profile_leave(s->profile, 0, was);
    return st;
}

static Status write_linears(SaveSink *s, UnitRun *u, Error *err)
{
    for (int64_t i = 0; i < u->n; i++) {
        RETURN_IF_ERROR(cancel_check(runner_cancel(s->r), err));
        if (u->work->level[u->first + i] == 0) {
            s->out->floats++;
        } else if (unit_unseen(u, i)) {
            RETURN_IF_ERROR(keep_float(s, u->first + i, err));
        } else {
            count_linear(s, u, i);
            if (form_is_own(makers_of(s), u->first + i))
                RETURN_IF_ERROR(write_linear(s, u, i, err));
        }
    }
    return ST_OK;
}

static Status write_unit(SaveSink *s, UnitRun *u, Error *err)
{
    RETURN_IF_ERROR(write_linears(s, u, err));
    RETURN_IF_ERROR(hand_over(s, u, err));
    return end_layer(s, u->unit, err);
}

static Status sink_unit(void *self, UnitRun *u, const Stream *flow, Error *err)
{
    (void)flow;
    SaveSink *s = self;
    int64_t before = s->out->quantized;
    s->unit = u->unit;
    Status st = write_unit(s, u, err);
    if (st != ST_OK)
        return st == ST_IO && s->o->nsavers && s->plan[0].dir ? store_nothing_replaced(s->plan[0].dir, st, err) : st;
    if (s->o->layer)
        s->o->layer(s->o->layer_ctx, u->unit, s->out->quantized - before, s->out->bytes_read, s->out->bytes_written);
    return ST_OK;
}

/* With the first saver's files, whichever it is that a run goes on with. */
static Status sink_keep(void *self, int unit, const void *data, size_t n, Error *err)
{
    SaveSink *s = self;
    for (int i = 0; i < s->o->nsavers; i++)
        if (s->o->savers[i]->ops->keep && unit >= s->first[i])
            return s->o->savers[i]->ops->keep(s->saver[i], unit, data, n, err);
    return ST_OK;
}

static Status sink_found(void *self, int unit, void **data, size_t *n, Error *err)
{
    SaveSink *s = self;
    *data = NULL;
    for (int i = 0; i < s->o->nsavers && !*data; i++)
        if (s->o->savers[i]->ops->found)
            RETURN_IF_ERROR(s->o->savers[i]->ops->found(s->saver[i], unit, data, n, err));
    uint64_t all = *data != NULL; /* of several ranks: either all of them take it or none */
    Status st = dist_common(s->o->dist, &all, err);
    if (!all || st != ST_OK) {
        free(*data);
        *data = NULL;
    }
    return st;
}

static Status finish_all(SaveSink *s, Error *err)
{
    NameList removed = {0};
    for (int i = 0; i < s->o->nsavers; i++) /* all of them are whole before the first touches the target */
        if (s->o->savers[i]->ops->ready)
            RETURN_IF_ERROR(s->o->savers[i]->ops->ready(s->saver[i], err));
    for (int i = 0; i < s->o->nsavers; i++)
        RETURN_IF_ERROR(s->o->savers[i]->ops->finish(s->saver[i], err));
    if (!dist_leads(s->o->dist))
        return ST_OK;
    Status st = save_target_clean(s->o->savers, s->plan, s->o->nsavers, &removed, err);
    Str text = {0};
    names_text(&removed, &text);
    snprintf(s->out->removed, sizeof s->out->removed, "%s", str_text(&text));
    str_free(&text);
    names_free(&removed);
    return st;
}

static Status sink_finish(void *self, Error *err)
{
    SaveSink *s = self;
    if (s->out->there)
        return ST_OK;
    Phase was = profile_enter(s->profile, 0, PHASE_SAVE);
    Status st = finish_all(s, err);
    profile_leave(s->profile, 0, was);
    return st;
}

static void sink_close(void *self, bool keep)
{
    SaveSink *s = self;
    for (int i = s->o->nsavers; i-- > 0;) { /* the first, which made the folder, comes last */
        if (s->saver[i])
            s->o->savers[i]->ops->close(s->saver[i], keep);
        s->saver[i] = NULL;
    }
}

Sink save_sink(SaveSink *s)
{
    static const SinkOps ops = {.name = "savers", .takes = true, .open = sink_open, .unit = sink_unit,
                                .finish = sink_finish, .keep = sink_keep, .found = sink_found, .close = sink_close};
    return (Sink){&ops, s};
}

Status save_sink_new(SaveSink **out, const SaveOptions *o, SaveResult *result, Error *err)
{
    size_t n = (size_t)o->nsavers;
    SaveSink *s = mem_zarray(1, sizeof *s);
    *out = s;
    *result = (SaveResult){0};
    if (!s)
        return error_nomem(err, "the savers");
    *s = (SaveSink){.o = o, .out = result, .saver = mem_zarray(n, sizeof *s->saver),
                    .plan = mem_zarray(n, sizeof *s->plan), .first = mem_zarray(n, sizeof *s->first)};
    if (s->saver && s->plan && s->first)
        return ST_OK;
    save_sink_free(s);
    *out = NULL;
    return error_nomem(err, "the savers");
}

void save_sink_free(SaveSink *s)
{
    if (!s)
        return;
    save_changes_free(s->changes);
    free(s->saver);
    free(s->plan);
    free(s->first);
    free(s->rank_of);
    free(s);
}

Status save_run(Pipeline *p, Runner *r, const SaveOptions *o, SaveResult *out, Error *err)
{
    SaveSink *s;
    RETURN_IF_ERROR(save_sink_new(&s, o, out, err));
    Sink sink = save_sink(s);
    Status st = pipeline_run(p, r, &(PipelineOptions){.calib = o->calib, .sinks = &sink, .nsinks = 1,
                                                      .sdpa = pipeline_work(p)->peer, .dist = o->divided ? o->dist : NULL}, err);
    save_sink_free(s);
    return st;
}
