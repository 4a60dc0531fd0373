#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "process/pipeline_impl.h"

/* What a work comes to before anything runs: its processors, in which passes they calibrate, and what they need. */

/* ---- the steps ---- */

/* Room for what a list stands for. */
static Status plan_room(Plan *p, size_t steps, size_t items, Error *err)
{
    p->steps = mem_zarray(steps, sizeof *p->steps);
    p->passes = mem_zarray(items + steps + 2, sizeof *p->passes);
    return p->steps && p->passes ? ST_OK : error_nomem(err, "the recipe's processors");
}

/* What changes the model stands before what looks at it. The original's cache scales may be of keys and values as they were. */
static Status check_before(const Pipeline *p, const Plan *plan, const RecipeStep *s, Error *err)
{
    for (int i = 0; i < plan->nsteps && s->processor->changes; i++) {
        const PipelineStep *at = &plan->steps[i];
        if (at->entry >= 0 || (!p->work.peer && !(at->row->needs & PROCESSOR_TURN)))
            return error_set(err, ST_DATA, "line %d: '%s' has to stand before '%s': it changes what is %s by then", s->line, s->type,
                             at->type, at->entry >= 0 ? "quantized" : "looked at");
    }
    return ST_OK;
}

static Status add_step(const Pipeline *p, Plan *plan, const RecipeStep *s, int item, bool prior, Error *err)
{
    const Processor *row = s->processor ? s->processor->run : NULL;
    bool runs = row && (!prior || s->processor->prior);
    if ((!runs && p->work.lenient) || (runs && p->work.changes && !prior && !(row->needs & PROCESSOR_TURN)))
        return ST_OK;
    if (!runs)
        return error_set(err, ST_DATA, "line %d: processor '%s' is not run by this build%s", s->line, s->type,
                         row ? " in a prior stage" : "");
    RETURN_IF_ERROR(check_before(p, plan, s, err));
    if (s->processor->levels && (s->entry < 0 || s->entry + s->entries > p->work.nlevels))
        return error_set(err, ST_INTERNAL, "entry %d of %d levels", s->entry, p->work.nlevels);
    PipelineStep *step = &plan->steps[plan->nsteps++];
    *step = (PipelineStep){.row = row, .type = s->processor->name, .settings = s->settings, .item = item,
                            .entry = s->entry, .entries = s->entries};
    return row->start(&step->self, &(ProcessorCtx){.model = p->m, .work = &p->work, .levels = p->levels, .step = s,
                                                   .prior = prior}, err);
}

/* The original's group is one forward for all that stand in it: what one of them changes the others have looked at already. */
static Status check_group(const RecipeUnit *u, Error *err)
{
    for (int k = 0; u->nsteps > 1 && k < u->nsteps; k++) {
        const RecipeStep *s = &u->steps[k];
        const Processor *row = s->processor ? s->processor->run : NULL;
        if (row && (row->needs & PROCESSOR_TURN) && !(row->needs & PROCESSOR_AHEAD))
            return error_set(err, ST_DATA, "line %d: in the original a group shares one forward, so '%s' in it changes what the "
                             "others have looked at: put it before the group, or leave --compat peer out", s->line, s->type);
    }
    return ST_OK;
}

static Status list_steps(const Pipeline *p, Plan *plan, const RecipeStage *stage, bool prior, Error *err)
{
    size_t n = 0;
    for (int i = 0; i < stage->nunits; i++)
        n += (size_t)stage->units[i].nsteps;
    RETURN_IF_ERROR(plan_room(plan, n, (size_t)stage->nunits, err));
    for (int i = 0; i < stage->nunits; i++) {
        if (p->work.peer)
            RETURN_IF_ERROR(check_group(&stage->units[i], err));
        for (int k = 0; k < stage->units[i].nsteps; k++)
            RETURN_IF_ERROR(add_step(p, plan, &stage->units[i].steps[k], i, prior, err));
    }
    return ST_OK;
}

/* Without a recipe: every level's linears, together. */
static Status list_levels(const Pipeline *p, Plan *plan, Error *err)
{
    RETURN_IF_ERROR(plan_room(plan, (size_t)p->work.nlevels, 1, err));
    for (int i = 0; i < p->work.nlevels; i++) {
        const RecipeStep s = {.entry = i, .entries = 1, .type = processor_linear_quant.name,
                              .processor = &processor_linear_quant};
        RETURN_IF_ERROR(add_step(p, plan, &s, 0, false, err));
    }
    return ST_OK;
}

/* ---- the passes ---- */

static bool steps_forward(const Plan *p, int first, int n, int unit)
{
    for (int i = first; i < first + n; i++)
        if (p->steps[i].row->forward && p->steps[i].row->forward(p->steps[i].self, unit))
            return true;
    return false;
}

bool pass_widens(const Plan *p, const PlanPass *pass, int unit)
{
    for (int i = pass->first; i < pass->first + pass->n; i++)
        if (p->steps[i].row->widens && p->steps[i].row->widens(p->steps[i].self, unit))
            return true;
    return false;
}

static bool ends_pass(const PipelineStep *s)
{
    return ((s->row->needs & PROCESSOR_TURN) && !(s->row->needs & PROCESSOR_AHEAD)) || (s->row->needs & PROCESSOR_AGAIN);
}

/* Where nothing is quantized a unit gives the same before and behind what a processor makes of it: no pass has to find out
 * what nobody changes any more. */
static int flow_pass(const Plan *p, bool kept)
{
    int last = p->npasses - 1;
    return kept && last > 0 && p->passes[last].n == 0 && p->passes[last - 1].data ? last - 1 : last;
}

/* The peer's: one for every item of the list. Ours: as few as there can be, the last of them behind every change. kept: no
 * linear is quantized. */
static void list_passes(Plan *p, bool peer, bool kept)
{
    int at = 0;
    do {
        PlanPass *pass = &p->passes[p->npasses++];
        *pass = (PlanPass){.first = at};
        bool full = false;
        while (at < p->nsteps && !full) {
            const PipelineStep *s = &p->steps[at++];
            bool ends = at < p->nsteps && p->steps[at].item != s->item;
            full = ends_pass(s) || (peer && ends);
        }
        pass->n = at - pass->first;
        pass->data = steps_forward(p, pass->first, pass->n, -1);
        if (peer && at > 0 && (p->steps[at - 1].row->needs & PROCESSOR_AGAIN)) /* its own second forward, whatever comes behind it */
            p->passes[p->npasses++] = (PlanPass){.first = at, .data = true};
    } while (at < p->nsteps);
    if (!peer && at > 0 && ends_pass(&p->steps[at - 1]))
        p->passes[p->npasses++] = (PlanPass){.first = at};
    p->flow = flow_pass(p, kept && !peer);
}

static int last_data(const Plan *p, const Model *m)
{
    int unit = model_depth(m) - 1;
    while (unit >= 0 && !steps_forward(p, 0, p->nsteps, unit))
        unit--;
    return unit;
}

/* ---- what can't be run ---- */

static Status check_levels(const Pipeline *p, Error *err)
{
    const Model *m = p->m;
    const Work *w = &p->work;
    char text[96];
    for (int64_t i = 0; i < m->nlinears; i++) {
        int16_t level = w->level[i];
        if (level < 0 || level > w->nlevels)
            return error_set(err, ST_INTERNAL, "'%s' has level %d of %d", m->linears[i].name, level, w->nlevels);
        if (level == 0)
            continue;
        const QConfig *c = &w->levels[level - 1];
        if (p->levels[level - 1].runs) {
            Status st = qweight_check(&c->weight, m->linears[i].out, m->linears[i].in, err);
            if (st != ST_OK)
                return error_prefix(err, st, "'%s': ", m->linears[i].name);
            continue;
        }
        qconfig_describe(c, text, sizeof text);
        return error_set(err, ST_USAGE,
                         "'%s': %s with act method '%s' and weight method '%s' can't be quantized by this build: "
                         "choose another method or scheme for it",
                         m->linears[i].name, text, c->act.method, c->weight.method);
    }
    return ST_OK;
}

/* ---- public ---- */

static Status own_levels(Pipeline *p, Error *err)
{
    int n = recipe_entries(p->work.recipe);
    p->own = mem_array((size_t)n, sizeof *p->own);
    if (!p->own)
        return error_nomem(err, "the recipe's levels");
    for (int i = 0; i < n; i++)
        p->own[i] = recipe_entry(p->work.recipe, i)->q;
    p->work.levels = p->own;
    p->work.nlevels = n;
    return ST_OK;
}

/* Each level's rows, once for all linears. */
static Status find_levels(Pipeline *p, Error *err)
{
    if (p->work.recipe && !p->work.levels)
        RETURN_IF_ERROR(own_levels(p, err));
    p->levels = mem_array((size_t)p->work.nlevels, sizeof *p->levels);
    if (!p->levels)
        return error_nomem(err, "the recipe's levels");
    for (int i = 0; i < p->work.nlevels; i++)
        p->levels[i] = quant_level(&p->work.levels[i]);
    return ST_OK;
}

static Status find_acts(Pipeline *p, Error *err)
{
    p->acts = mem_zarray((size_t)p->m->nlinears, sizeof *p->acts);
    if (!p->acts)
        return error_nomem(err, "the recipe's levels");
    for (int64_t i = 0; i < p->m->nlinears; i++)
        if (p->work.level[i] > 0 && p->levels[p->work.level[i] - 1].act->rows)
            p->acts[i] = p->work.level[i];
    return ST_OK;
}

/* Whether a processor changes the model. */
static bool edits(const Pipeline *p)
{
    for (int i = 0; i < p->nplans; i++)
        for (int k = 0; k < p->plan[i].nsteps; k++)
            if (p->plan[i].steps[k].row->needs & PROCESSOR_TURN)
                return true;
    return false;
}

static Status make_plans(Pipeline *p, Error *err)
{
    const Recipe *r = p->work.recipe;
    int n = r ? recipe_stages(r) : 0;
    p->plan = mem_zarray((size_t)n + 1, sizeof *p->plan);
    if (!p->plan)
        return error_nomem(err, "the recipe's processors");
    p->nplans = n ? n : 1;
    p->prior = mem_zarray((size_t)p->nplans, sizeof *p->prior);
    if (!p->prior)
        return error_nomem(err, "the recipe's processors");
    for (int i = 0; i < p->nplans; i++) {
        Plan *plan = &p->plan[i];
        RETURN_IF_ERROR(n ? list_steps(p, plan, recipe_stage(r, i), i < n - 1, err) : list_levels(p, plan, err));
        list_passes(plan, p->work.peer, i < p->nplans - 1 || p->work.changes);
        plan->last_data = last_data(plan, p->m);
    }
    return ST_OK;
}

Status pipeline_new(Pipeline **out, const Model *m, const Work *w, Error *err)
{
    *out = NULL;
    Pipeline *p = mem_zarray(1, sizeof *p);
    if (!p)
        return error_nomem(err, "the recipe's processors");
    p->m = m;
    p->work = *w;
    Status st = find_levels(p, err);
    if (st == ST_OK)
        st = check_levels(p, err);
    if (st == ST_OK)
        st = find_acts(p, err);
    if (st == ST_OK)
        st = make_plans(p, err);
    if (st == ST_OK && edits(p))
        st = overlay_new(&p->overlay, m, err);
    if (st == ST_OK && p->overlay && w->peer) /* which rounds behind each of its commands */
        overlay_round(p->overlay, m->cfg.dtype);
    if (st != ST_OK) {
        pipeline_free(p);
        return st;
    }
    *out = p;
    return ST_OK;
}

void pipeline_free(Pipeline *p)
{
    if (!p)
        return;
    for (int i = 0; p->plan && i < p->nplans; i++) {
        Plan *plan = &p->plan[i];
        for (int k = 0; k < plan->nsteps; k++)
            if (plan->steps[k].self)
                plan->steps[k].row->end(plan->steps[k].self);
        free(plan->steps);
        free(plan->passes);
    }
    overlay_free(p->overlay);
    rotation_free(p->kept);
    rotation_free(p->turned);
    free(p->plan);
    free(p->prior);
    free(p->acts);
    free(p->own);
    free(p->levels);
    free(p);
}

const Work *pipeline_work(const Pipeline *p)
{
    return &p->work;
}

const Model *pipeline_model(const Pipeline *p)
{
    return p->m;
}

const QuantLevel *pipeline_levels(const Pipeline *p)
{
    return p->levels;
}

int pipeline_last_data(const Pipeline *p)
{
    return main_plan(p)->last_data;
}

int pipeline_priors(const Pipeline *p)
{
    return p->nplans - 1;
}

bool pipeline_prior_data(const Pipeline *p, int stage)
{
    return p->plan[stage].last_data >= 0;
}

void pipeline_set_prior(Pipeline *p, int stage, const TokenSet *texts)
{
    p->prior[stage] = texts;
}

void pipeline_watch_priors(Pipeline *p, PriorFn *fn, void *ctx)
{
    p->watch = fn;
    p->watch_ctx = ctx;
}

void pipeline_watch_training(Pipeline *p, TrainFn *fn, void *ctx)
{
    p->watch_training = fn;
    p->watch_training_ctx = ctx;
}

Digest pipeline_order(const Pipeline *p)
{
    Digest order = work_order(&p->work);
    for (int i = 0; i < pipeline_priors(p); i++) {
        Hasher h;
        hasher_init(&h);
        hasher_bytes(&h, order.b, sizeof order.b);
        hasher_str(&h, p->prior[i] ? p->prior[i]->sha256 : "");
        order = hasher_end(&h);
    }
    return order;
}

bool pipeline_flow_is_output(const Pipeline *p)
{
    return !p->work.peer || (main_plan(p)->npasses == 1 && !p->overlay && !(pipeline_needs(p) & PROCESSOR_TRAINS));
}

int pipeline_pass_of(const Pipeline *p, int level)
{
    const Plan *plan = main_plan(p);
    for (int k = 0; k < plan->npasses; k++)
        for (int i = plan->passes[k].first; i < plan->passes[k].first + plan->passes[k].n; i++)
            if (level > plan->steps[i].entry && level <= plan->steps[i].entry + plan->steps[i].entries)
                return k;
    return 0;
}

const int16_t *pipeline_acts(const Pipeline *p)
{
    return p->acts;
}

int pipeline_streams(const Pipeline *p, bool rerun)
{
    bool again = false;
    for (int i = 0; i < p->nplans; i++)
        for (int k = 0; k < p->plan[i].npasses; k++) {
            bool last = k == p->plan[i].flow && !(rerun && p->work.peer);
            again = again || (p->plan[i].passes[k].data && !last);
        }
    return again ? 2 : 1;
}

unsigned pipeline_needs(const Pipeline *p)
{
    unsigned needs = 0;
    for (int i = 0; i < p->nplans; i++)
        for (int k = 0; k < p->plan[i].nsteps; k++) {
            const PipelineStep *s = &p->plan[i].steps[k];
            needs |= s->row->needs | (s->row->more ? s->row->more(s->self) : 0);
        }
    return needs;
}

bool pipeline_whole(const Pipeline *p)
{
    return (pipeline_needs(p) & PROCESSOR_WHOLE) || layer_forms_whole(p->m, p->levels, p->work.level, p->work.peer);
}

bool pipeline_attends(const Pipeline *p, int unit, Hasher *h)
{
    const Plan *plan = main_plan(p);
    bool any = false;
    for (int i = 0; i < plan->nsteps; i++) {
        const PipelineStep *s = &plan->steps[i];
        if (!s->row->attends || !s->row->attends(s->self, unit))
            continue;
        any = true;
        if (h)
            hasher_str(h, s->type);
        if (h && s->row->hash)
            s->row->hash(s->settings, h);
    }
    return any;
}

int pipeline_first(const Pipeline *p)
{
    const Model *m = p->m;
    int first = m->cfg.layers;
    for (int64_t i = 0; i < m->nlinears && first == m->cfg.layers; i++)
        if (p->work.level[i] > 0)
            first = m->linears[i].layer < m->cfg.layers ? m->linears[i].layer : m->cfg.layers;
    for (int u = 0; u < first; u++)
        if (pipeline_attends(p, u, NULL))
            return u;
    return first;
}

const Rotation *pipeline_turned(const Pipeline *p)
{
    return p->turned;
}

Overlay *pipeline_overlay(const Pipeline *p)
{
    return p->overlay;
}

Status pipeline_promise(const Pipeline *p, DType inner, SavePlan *out, Error *err)
{
    const Plan *plan = main_plan(p);
    bool wide = false;
    if (p->overlay)
        save_changes_values(out->changes);
    for (int k = 0; k < plan->npasses; k++) {
        const PlanPass *pass = &plan->passes[k];
        for (int i = pass->first; i < pass->first + pass->n; i++)
            if (plan->steps[i].row->promise)
                RETURN_IF_ERROR(plan->steps[i].row->promise(plan->steps[i].self, wide ? DT_F32 : inner, out, err));
        wide = wide || (p->work.peer && pass_widens(plan, pass, -1));
    }
    return ST_OK;
}

/* The most that one processor holds: what it found is in the model when the next one's turn comes. */
static uint64_t processor_bytes(const Pipeline *p, const PassSize *size)
{
    uint64_t most = 0;
    const Plan *plan = main_plan(p);
    for (int k = 0; k < plan->nsteps; k++) {
        const PipelineStep *s = &plan->steps[k];
        uint64_t bytes = s->row->bytes ? s->row->bytes(s->self, size) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

void pipeline_set_whole(Pipeline *p, const TokenSet *texts)
{
    p->whole = texts;
}

uint64_t pipeline_bytes(const Pipeline *p, const PassSize *own)
{
    PassSize all = *own;
    const PassSize *size = &all;
    if (p->whole) {
        all.all_samples = p->whole->samples;
        all.all_rows = p->whole->start[p->whole->samples];
        all.all_longest = longest_of(p->whole->start, p->whole->samples);
    }
    const Model *m = p->m;
    int64_t dim = m->cfg.head_dim > m->cfg.v_dim ? m->cfg.head_dim : m->cfg.v_dim;
    uint64_t cache = 4 * (uint64_t)size->samples * (uint64_t)m->cfg.kv_heads * (uint64_t)dim * sizeof(float);
    return cache + processor_bytes(p, size) + layer_forms_bytes(m, p->levels, p->work.level, p->work.peer, size->threads);
}

uint64_t pipeline_prior_bytes(const Pipeline *p, int threads, ArithMode arith)
{
    uint64_t most = 0;
    for (int i = 0; i < pipeline_priors(p); i++) {
        const TokenSet *t = p->prior[i];
        if (!t)
            continue;
        const RunnerAsk ask = {.rows = t->start[t->samples], .threads = threads, .arith = arith,
                               .longest = longest_of(t->start, t->samples)};
        RunnerNeed n = runner_need(p->m, &ask);
        uint64_t bytes = n.stream + n.kept + n.layer;
        const PassSize size = {.samples = t->samples, .threads = threads, .rows = ask.rows, .longest = ask.longest};
        for (int k = 0; k < p->plan[i].nsteps; k++) {
            const PipelineStep *s = &p->plan[i].steps[k];
            bytes += s->row->bytes ? s->row->bytes(s->self, &size) : 0;
        }
        most = bytes > most ? bytes : most;
    }
    return most;
}

bool pipeline_divides(const Pipeline *p)
{
    for (int k = 0; k < p->nplans; k++)
        for (int i = 0; i < p->plan[k].nsteps; i++)
            if (!p->plan[k].steps[i].row->divides)
                return false;
    return true;
}
