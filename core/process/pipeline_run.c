#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "process/pipeline_impl.h"
#include "process/unitranks.h"
#include "run/schedule.h"

/* The units of the model, one after the other: the forwards that their processors need, then the sinks. */

typedef struct PipelineRun {
    Pipeline *p;
    Runner *r;
    const PipelineOptions *o;
    const Plan *plan;  /* of the present stage */
    bool main;         /* that is the main list */
    int stage;         /* its number */
    const TokenSet *texts; /* of the stage */
    SinkWants *wants;  /* [nsinks] */
    DType T;           /* in which weights are quantized and activations begin */
    FormsOptions forms;
    UnitRanks ranks;   /* who divides the texts of the main list */
    FormRoom room; /* of forms */
    Stream x, y;       /* the unit's input; y: what a pass gives when it isn't the last */
    const Stream *gave; /* where the pass left its output */
    bool wide;         /* the peer: x is float32 though the model isn't */
    bool rerun;        /* SinkWants.rerun, the peer's */
    bool gives;        /* UnitRun.gives */
    VariantDtype dtype; /* of the pass that comes */
    int end;           /* units [.., end) run */
    int last_flow;     /* last unit that a forward runs through */
    bool flow_out;     /* a sink wants the streams */
    FormMakers makers; /* SinkWants.makers; of forms */
    int64_t ahead;     /* linear whose weight is read next, -1: none */
} PipelineRun;

static Status read_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    const PipelineRun *run = ctx;
    return runner_weight(run->r, linear, run->ahead, w, err);
}

/* ---- one pass ---- */

Status unit_observe(UnitRun *u, Observer o, Error *err)
{
    if (u->nobs == (int)(sizeof u->obs / sizeof *u->obs))
        return error_set(err, ST_DATA, "more than %d processors watch one pass: give them passes of their own",
                         u->nobs);
    u->obs[u->nobs++] = o;
    return ST_OK;
}

const Stream *unit_input(const UnitRun *u)
{
    return &u->run->x;
}

const Stream *unit_output(const UnitRun *u)
{
    return u->run->gave;
}

UnitRanks *unit_ranks(const UnitRun *u)
{
    return u->run->main && u->run->ranks.dist ? &u->run->ranks : NULL;
}

Variant unit_plain(const UnitRun *u)
{
    return (Variant){.dtype = u->run->dtype, .sdpa = u->run->o->sdpa};
}

DType unit_weight_dtype(const UnitRun *u)
{
    return u->run->T;
}

/* The sink that keeps what processors find, NULL: none does. */
static const Sink *keeper(const UnitRun *u)
{
    for (int i = 0; i < u->run->o->nsinks; i++)
        if (u->run->o->sinks[i].ops->keep)
            return &u->run->o->sinks[i];
    return NULL;
}

bool unit_keeps(const UnitRun *u)
{
    return keeper(u) != NULL;
}

Status unit_keep_found(UnitRun *u, const void *data, size_t n, Error *err)
{
    const Sink *s = keeper(u);
    return s ? s->ops->keep(s->self, u->unit, data, n, err) : ST_OK;
}

Status unit_found(UnitRun *u, void **data, size_t *n, Error *err)
{
    const Sink *s = keeper(u);
    *data = NULL;
    return s ? s->ops->found(s->self, u->unit, data, n, err) : ST_OK;
}

static Status stage_steps(UnitRun *u, int first, int n, FormStage stage, const FormTypes *t, Error *err)
{
    for (int i = first; i < first + n; i++) {
        const PipelineStep *s = &u->run->plan->steps[i];
        if (s->row->stage)
            RETURN_IF_ERROR(s->row->stage(s->self, u, stage, t, err));
    }
    return ST_OK;
}

static Status run_pass(UnitRun *u, bool bare, const Stream *in, Stream *out, Error *err)
{
    Variant v = unit_plain(u);
    v.forms = u->forms->any ? u->forms->table : NULL;
    v.attn = attn_forms(&u->attn);
    v.bare = bare;
    if (in == &u->run->x && unit_ranks(u) && (u->nobs || u->forms->any)) /* somebody looks at all ranks' texts */
        v.route = unit_ranks_route(&u->run->ranks);
    Status st = runner_layer(u->runner, u->unit, &v, in, out, u->obs, u->nobs, err);
    u->nobs = 0;
    u->attn.n = 0;
    return st;
}

static void tell_prior(const PipelineRun *run, bool search, int64_t done, int64_t of)
{
    const PriorAt at = {.stage = run->main ? -1 : run->stage, .search = search, .done = done, .of = of};
    if (run->p->nplans > 1 && run->p->watch)
        run->p->watch(run->p->watch_ctx, &at);
}

void unit_search(const UnitRun *u, int64_t done, int64_t of)
{
    tell_prior(u->run, true, done, of);
}

void unit_trained(const UnitRun *u, int64_t done, int64_t of, double share)
{
    const Pipeline *p = u->run->p;
    const TrainAt at = {.unit = u->unit, .units = u->run->end, .done = done, .of = of, .share = share};
    if (p->watch_training)
        p->watch_training(p->watch_training_ctx, &at);
}

static Status learn(UnitRun *u, const PlanPass *pass, Error *err)
{
    for (int i = pass->first; i < pass->first + pass->n; i++) {
        const PipelineStep *s = &u->run->plan->steps[i];
        if (s->row->learn)
            RETURN_IF_ERROR(s->row->learn(s->self, u, err));
    }
    return ST_OK;
}

/* Where pass k's output goes. */
static Status out_of(PipelineRun *run, bool last, Stream **out, Error *err)
{
    run->gave = *out = last ? &run->x : &run->y;
    return last || run->y.data ? ST_OK : stream_copy(&run->y, &run->x, err);
}

/* ---- one unit ---- */

/* Ours: what comes behind a processor that changes the model runs through what was found before. The last pass that runs
 * gives the next unit's input. */
static Status flow_ours(UnitRun *u, bool forward, Error *err)
{
    PipelineRun *run = u->run;
    const FormTypes t = {.input = run->T, .inner = run->T, .kept = run->T};
    for (int k = 0; k < run->plan->npasses; k++) {
        const PlanPass *pass = &run->plan->passes[k];
        bool last = k == run->plan->flow;
        Stream *out;
        if (forward && (last || (k < run->plan->flow && pass->data))) {
            RETURN_IF_ERROR(stage_steps(u, 0, pass->first, FORM_FIXED, &t, err));
            RETURN_IF_ERROR(stage_steps(u, pass->first, pass->n, FORM_CALIBRATE, &t, err));
            RETURN_IF_ERROR(out_of(run, last, &out, err));
            RETURN_IF_ERROR(run_pass(u, false, &run->x, out, err));
        }
        RETURN_IF_ERROR(learn(u, pass, err));
    }
    return ST_OK;
}

/* Whether one of the first n steps of the peer's has deployed linears: their low-rank branches run from then on. */
static bool deployed(const Plan *p, int n)
{
    int i = 0;
    while (i < n && p->steps[i].entry < 0)
        i++;
    return i < n;
}

/* The peer's pass k; `wide`: deployed linears of the unit return float32. */
static Status peer_pass(UnitRun *u, const PlanPass *pass, bool wide, bool last, Error *err)
{
    PipelineRun *run = u->run;
    DType in = run->wide ? DT_F32 : run->T;
    const FormTypes t = {.input = in, .inner = wide || run->wide ? DT_F32 : run->T, .kept = in};
    Stream *out;
    run->dtype = run->wide ? VARIANT_WIDE : wide ? VARIANT_MIXED : VARIANT_MODEL;
    RETURN_IF_ERROR(stage_steps(u, 0, pass->first, FORM_DEPLOYED, &t, err));
    RETURN_IF_ERROR(stage_steps(u, pass->first, pass->n, FORM_CALIBRATE, &t, err));
    RETURN_IF_ERROR(out_of(run, last, &out, err));
    return run_pass(u, !deployed(run->plan, pass->first), &run->x, out, err);
}

/* The pass that a sink's rerun adds behind the list's. */
static PlanPass pass_at(const PipelineRun *run, int k)
{
    return k < run->plan->npasses ? run->plan->passes[k] : (PlanPass){.first = run->plan->nsteps, .data = true};
}

/* The last pass of the peer's that runs, -1: none. */
static int peer_last(const PipelineRun *run)
{
    int n = run->plan->npasses + run->rerun, last = n - 1;
    while (last >= 0 && !pass_at(run, last).data)
        last--;
    return last < 0 && run->flow_out ? n - 1 : last;
}

/* Whether the last pass that runs in this unit reads what deployed linears gave in float32. */
static bool peer_wide(const PipelineRun *run, int unit, int passes)
{
    bool wide = false;
    for (int k = 0; k < passes && run->T != DT_F32; k++) {
        const PlanPass pass = pass_at(run, k);
        wide = wide || pass_widens(run->plan, &pass, unit);
    }
    return wide;
}

static Status flow_peer(UnitRun *u, bool forward, Error *err)
{
    PipelineRun *run = u->run;
    int last = peer_last(run), n = run->plan->npasses + run->rerun;
    for (int k = 0; k < n; k++) {
        const PlanPass pass = pass_at(run, k);
        if (forward && (k == last || (k < last && pass.data)))
            RETURN_IF_ERROR(peer_pass(u, &pass, peer_wide(run, u->unit, k), k == last, err));
        RETURN_IF_ERROR(learn(u, &pass, err));
    }
    if (forward && last >= 0)
        run->wide = run->wide || peer_wide(run, u->unit, last);
    return ST_OK;
}

/* Sinks that only look come before the one that takes the weights away. */
static Status to_sinks(UnitRun *u, const Stream *flow, Error *err)
{
    const PipelineRun *run = u->run;
    for (int takes = 0; takes < 2; takes++)
        for (int i = 0; run->main && i < run->o->nsinks; i++) {
            const Sink *s = &run->o->sinks[i];
            if (s->ops->takes == takes && u->unit >= run->wants[i].first && u->unit < run->wants[i].end)
                RETURN_IF_ERROR(s->ops->unit(s->self, u, flow, err));
        }
    return ST_OK;
}

/* What processors see of the run, outside its units. */
static UnitRun whole_run(PipelineRun *run)
{
    return (UnitRun){.runner = run->r, .model = run->p->m, .work = &run->p->work, .unit = -1, .overlay = run->p->overlay,
                     .gives = run->gives, .texts = run->texts, .kept = &run->p->kept, .turned = &run->p->turned, .run = run};
}

static Status run_unit(PipelineRun *run, int unit, Error *err)
{
    const Model *m = run->p->m;
    LayerForms forms;
    UnitRun u = whole_run(run);
    u.unit = unit;
    u.first = m->units[unit].first;
    u.n = m->units[unit].count;
    u.forms = &forms;
    RETURN_IF_ERROR(layer_forms_init(&forms, m, &run->forms, u.first, u.n, err));
    bool forward = unit <= run->last_flow;
    Status st = run->p->work.peer ? flow_peer(&u, forward, err) : flow_ours(&u, forward, err);
    if (st == ST_OK)
        st = to_sinks(&u, forward ? &run->x : NULL, err);
    layer_forms_fini(&forms);
    return st;
}

/* ---- what sinks ask for ---- */

Status unit_follow(UnitRun *u, Stream *s, Error *err)
{
    PipelineRun *run = u->run;
    const FormTypes t = {.input = run->T, .inner = run->T, .kept = run->T};
    run->dtype = VARIANT_MODEL;
    RETURN_IF_ERROR(stage_steps(u, 0, run->plan->nsteps, FORM_FIXED, &t, err));
    return run_pass(u, false, s, s, err);
}

Status unit_keep(UnitRun *u, LayerForms *out, AttnForms *attn, FormsOptions *o, Error *err)
{
    const PipelineRun *run = u->run;
    const FormTypes t = {.input = run->T, .inner = run->T, .kept = run->T};
    RETURN_IF_ERROR(stage_steps(u, 0, run->plan->nsteps, FORM_FIXED, &t, err));
    u->nobs = 0;
    *attn = u->attn;
    u->attn.n = 0;
    *o = run->forms;
    o->read = NULL;
    o->ctx = NULL;
    o->room = NULL;
    layer_forms_move(out, u->forms, o);
    return ST_OK;
}

bool unit_unseen(const UnitRun *u, int64_t i)
{
    return layer_forms_unseen(u->forms, i);
}

/* The next quantized linear that will be taken, whose weight can be read meanwhile; not beyond the unit when a forward comes between. */
static int64_t next_linear(const UnitRun *u, int64_t linear)
{
    int64_t end = u->unit < u->run->last_flow ? u->first + u->n : u->model->nlinears;
    for (int64_t i = linear + 1; i < end; i++)
        if (u->work->level[i] && form_is_own(u->run->forms.makers, i))
            return i;
    return -1;
}

Status unit_take(UnitRun *u, int64_t i, SaveLinear *out, QWeight *w, Error *err)
{
    PipelineRun *run = u->run;
    int64_t linear = u->first + i;
    const QuantLevel *l = &run->p->levels[u->work->level[linear] - 1];
    *out = (SaveLinear){.linear = linear, .config = l->config, .scheme = l->scheme, .act_dtype = run->T};
    run->ahead = next_linear(u, linear);
    Status st = layer_forms_take(u->forms, i, w, err);
    run->ahead = -1;
    RETURN_IF_ERROR(st);
    out->weight = w;
    out->has_act = layer_forms_param(u->forms, i, &out->act, &out->act_dtype);
    return ST_OK;
}

void unit_done(UnitRun *u, QWeight *w)
{
    layer_forms_done(u->forms, w);
}

Status unit_gifts(const UnitRun *u, const Gifts *to, Error *err)
{
    for (int i = 0; i < u->run->plan->nsteps; i++) {
        const PipelineStep *s = &u->run->plan->steps[i];
        if (s->row->give)
            RETURN_IF_ERROR(s->row->give(s->self, u, to, err));
    }
    return ST_OK;
}

/* ---- one stage ---- */

static const TokenSet *texts_of_stage(const Pipeline *p, const PipelineOptions *o, int stage)
{
    if (stage == p->nplans - 1)
        return o->calib;
    return p->prior[stage];
}

/* Where the run begins, and its stream there: with the texts, or where a sink has one. What processors change is changed
 * anew from the first unit on, also for units that are written already: what lies outside of the units is read behind
 * them. */
static Status begin(PipelineRun *run, const TokenSet *calib, int first, int *unit, Error *err)
{
    int starts = run->main ? run->o->nsinks - 1 : -1; /* the sink that has one */
    while (starts >= 0 && !run->o->sinks[starts].ops->start)
        starts--;
    *unit = first;
    if (starts >= 0) {
        const Sink *s = &run->o->sinks[starts];
        RETURN_IF_ERROR(s->ops->start(s->self, first, unit, &run->x, err));
        run->wants[starts].first = *unit;
    } else if (run->last_flow >= (run->p->overlay ? 0 : first)) {
        RETURN_IF_ERROR(runner_embed(run->r, calib, &run->x, err));
        *unit = 0;
    } else if (run->p->overlay) {
        *unit = 0;
    } else {
        run->last_flow = -1; /* what is left needs none */
    }
    for (int u = 0; u < *unit && run->p->work.peer && run->last_flow >= 0; u++) /* as the units before left it */
        run->wide = run->wide || peer_wide(run, u, peer_last(run));
    return ST_OK;
}

/* What processors do before the first unit, or behind the last. */
static Status ends_of(PipelineRun *run, bool last, Error *err)
{
    for (int i = 0; i < run->plan->nsteps; i++) {
        const PipelineStep *s = &run->plan->steps[i];
        Status (*fn)(void *, UnitRun *, Error *) = last ? s->row->finish : s->row->begin;
        UnitRun u = whole_run(run);
        if (fn)
            RETURN_IF_ERROR(fn(s->self, &u, err));
    }
    return ST_OK;
}

/* The streams are the run's own: some units have none. */
static Status unit_job(void *self, LayerCtx *ctx, Error *err)
{
    const PipelineRun *run = self;
    RETURN_IF_ERROR(run_unit(self, ctx->layer, err));
    if (!run->main)
        tell_prior(run, false, ctx->layer + 1, run->end);
    return ST_OK;
}

static Status run_stage(PipelineRun *run, int stage, int first, Error *err)
{
    const PipelineOptions *o = run->o;
    run->texts = texts_of_stage(run->p, o, stage);
    run->plan = &run->p->plan[stage];
    run->main = stage == run->p->nplans - 1;
    run->stage = stage;
    run->wide = false;
    run->last_flow = run->plan->last_data;
    run->end = model_depth(run->p->m);
    if (run->main) {
        run->end = 0;
        for (int i = 0; i < o->nsinks; i++) {
            run->end = run->wants[i].end > run->end ? run->wants[i].end : run->end;
            if (run->wants[i].flow && run->wants[i].end - 1 > run->last_flow)
                run->last_flow = run->wants[i].end - 1;
        }
    }
    int unit;
    tell_prior(run, false, 0, run->end);
    if (run->main)
        RETURN_IF_ERROR(unit_ranks_init(&run->ranks, o->dist, run->texts, run->p->m, err));
    run->forms.dist = run->ranks.dist;
    RETURN_IF_ERROR(ends_of(run, false, err));
    RETURN_IF_ERROR(begin(run, run->texts, first, &unit, err));
    Schedule order = {.first = unit, .last = run->end, .job = {"pipeline", unit_job, run}};
    if (unit < run->end)
        RETURN_IF_ERROR(schedule_forward(run->r, NULL, 0, &order, err));
    stream_fini(&run->x);
    stream_fini(&run->y);
    return run->main ? ST_OK : ends_of(run, true, err);
}

/* ---- the run ---- */

static Status check_texts(const Pipeline *p, const PipelineOptions *o, Error *err)
{
    for (int i = 0; i < p->nplans; i++) {
        const TokenSet *t = texts_of_stage(p, o, i);
        if (p->plan[i].last_data >= 0 && (!t || t->samples == 0))
            return error_set(err, ST_DATA, "the recipe needs calibration texts: name a data set (dataset:)");
    }
    return ST_OK;
}

/* *open: how many sinks were opened, the last of them perhaps in vain; *first: the first unit that one of them wants. */
static Status open_sinks(PipelineRun *run, int *open, int *first, Error *err)
{
    const PipelineOptions *o = run->o;
    *first = model_depth(run->p->m);
    for (int i = 0; i < o->nsinks; i++) {
        SinkWants *w = &run->wants[i];
        *open = i + 1;
        RETURN_IF_ERROR(o->sinks[i].ops->open(o->sinks[i].self, run->p, run->r, w, err));
        *first = w->first < *first ? w->first : *first;
        run->flow_out = run->flow_out || w->flow;
        run->rerun = run->rerun || (w->rerun && run->p->work.peer);
        run->gives = run->gives || o->sinks[i].ops->takes;
        if (o->sinks[i].ops->takes && w->makers)
            run->makers = *w->makers;
    }
    return ST_OK;
}

/* Whether every level with a Hessian calibrates in the last pass that runs, and only what takes its weights looks at them. A
 * pruned weight is looked at by its processor, too. */
static bool only_taken(const PipelineRun *run)
{
    const Pipeline *p = run->p;
    bool only = !p->work.peer && run->o->nsinks == 1 && p->nplans == 1;
    for (int i = 0; only && i < p->work.nlevels; i++)
        if (p->levels[i].runs && p->levels[i].weight->prepare)
            only = p->levels[i].config->weight.dtype != QT_FLOAT && pipeline_pass_of(p, i + 1) == main_plan(p)->flow;
    return only;
}

/* Whether a sink wants any unit. */
static bool is_wanted(const PipelineRun *run)
{
    for (int i = 0; i < run->o->nsinks; i++)
        if (run->wants[i].end > 0)
            return true;
    return run->o->nsinks == 0;
}

static Status run_all(PipelineRun *run, int first, Error *err)
{
    for (int i = 0; i < run->p->nplans && is_wanted(run); i++)
        RETURN_IF_ERROR(run_stage(run, i, i < run->p->nplans - 1 ? 0 : first, err));
    for (int i = 0; i < run->o->nsinks; i++)
        if (run->o->sinks[i].ops->finish)
            RETURN_IF_ERROR(run->o->sinks[i].ops->finish(run->o->sinks[i].self, err));
    return ST_OK;
}

Status pipeline_run(Pipeline *p, Runner *r, const PipelineOptions *o, Error *err)
{
    RETURN_IF_ERROR(check_texts(p, o, err));
    if (runner_overlay(r) != p->overlay && p->overlay)
        return error_set(err, ST_INTERNAL, "a runner that doesn't see what the processors change");
    PipelineRun run = {.p = p, .r = r, .o = o, .ahead = -1,
                       .T = arith_dtype(runner_arith(r), p->m->cfg.dtype),
                       .wants = mem_zarray((size_t)o->nsinks, sizeof *run.wants)};
    if (!run.wants)
        return error_nomem(err, "the run");
    run.forms = (FormsOptions){.levels = p->levels, .level = p->work.level, .peer = p->work.peer, .weight = run.T,
                               .overlay = p->overlay, .read = read_weight, .ctx = &run, .pool = runner_pool(r),
                               .cancel = runner_cancel(r), .room = &run.room};
    int open = 0, first;
    Status st = open_sinks(&run, &open, &first, err);
    bool opened = st == ST_OK;
    if (st == ST_OK && run.makers.dist) {
        run.makers.taken = only_taken(&run);
        run.forms.makers = &run.makers;
    }
    if (st == ST_OK)
        st = run_all(&run, first, err);
    bool keep = st != ST_OK && !(opened && st == ST_DATA); /* bad data is bad again: nothing to go on with */
    for (int i = 0; i < open; i++)
        o->sinks[i].ops->close(o->sinks[i].self, keep);
    stream_fini(&run.x);
    stream_fini(&run.y);
    form_room_free(&run.room);
    unit_ranks_fini(&run.ranks);
    free(run.wants);
    return st;
}
