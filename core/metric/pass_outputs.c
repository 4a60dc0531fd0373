/* Output errors: of linears, of the groups in the residual stream, of blocks, at every level of the plan. */
#include "metric/outputs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/leveled.h"
#include "metric/look.h"
#include "quant/products.h"
#include "metric/watch.h"
#include "model/block.h"
#include "run/schedule.h"
#include "run/unit.h"

enum { FORM_ROWS = 64 };
enum { LINEAR_MSE, LINEAR_SQNR, LINEAR_COSINE, LINEAR_WEIGHT, LINEAR_INPUT, LINEAR_MAX };
enum { GROUP_FIRST, GROUP_RATIO };
enum { BLOCK_MSE, BLOCK_SQNR, BLOCK_COSINE, BLOCK_TOKEN, BLOCK_MAX };

typedef struct OutputPass {
    Runner *r;
    const PassPlan *p;
    const PassSink *sink;
    LeveledSet set;
    LayerForms *forms;      /* [set.n] of the unit at work */
    int nforms;
    char (*lost)[120];      /* [set.n] why no linear of the unit has a score at the level; "": they have */
    char (*bad)[120];       /* [most linears of a unit] why the input can't be calibrated, by its first reader; "": it can */
    const LinearForm **one; /* [most linears of a unit] */
    Stream *state;          /* [most blocks + 1] of the probe: before each block, and the output */
    int states;
    float *w, *work;        /* [largest weight] */
    bool linears, groups, blocks;
    WatchOut out;
} OutputPass;

/* ---- which tokens ---- */

static PassProbe probe(const PassPlan *p)
{
    return pass_probe(p, OUTPUT_TOKENS, OUTPUT_LEAST);
}

/* ---- scores ---- */

/* Whose place in o->bad tells of a linear's input. */
static int64_t bad_at(const PassPlan *p, int64_t linear)
{
    int64_t first = p->m->units[p->m->linears[linear].layer].first, input = pass_input(p, linear);
    return (input >= first ? input : linear) - first;
}

/* Why a unit has no score at level k, "": it can have one. */
static const char *refuses(const OutputPass *o, MetricScope scope, int64_t of, int k)
{
    const Model *m = o->p->m;
    int64_t from, to;
    if (o->lost[k][0])
        return o->lost[k];
    scope_linears(m, scope, of, &from, &to);
    for (int64_t i = from; i < to; i++) {
        const char *bad = o->bad[bad_at(o->p, i)];
        if (*bad && scope_unit_of(m, scope, i) == of)
            return bad;
    }
    return leveled_refuses(&o->set, &o->set.of[k], scope, of);
}

static UnitScore new_score(const OutputPass *o, MetricScope scope, int64_t unit, int k)
{
    return (UnitScore){.unit = unit, .value = NAN, .levels = scores_level_all(o->p->m, scope, unit, o->set.of[k].q)};
}

static Status put(OutputPass *o, const Metric *m, UnitScore *u, const char *why, Error *err)
{
    if (*why)
        watch_undefined(u, why);
    else if (!isfinite(u->value))
        watch_undefined(u, "NaN or Inf, or nothing but 0, in its output");
    return watch_put(&o->out, m, u, err);
}

static double decibels(double square, double error)
{
    return error > 0 ? 10 * log10(square / error) : INFINITY;
}

static void put_sums(UnitScore *u, const ProductSums *s, double values, int mse, int sqnr, int cosine, int max)
{
    u->value = s->error / s->square;
    u->part[mse] = s->error / values;
    u->part[sqnr] = decibels(s->square, s->error);
    u->part[cosine] = s->cross / sqrt(s->square * s->changed);
    u->part[max] = s->max;
}

/* Why a linear that the level fits has no form: calibration showed it nothing. */
static const char *unformed(const Model *m, int64_t linear)
{
    return m->linears[linear].expert < 0 ? "no token reached it"
                                         : "experts of its layer saw no token, so all of them stay in float";
}

/* ---- linears ---- */

typedef struct WeightRun {
    const LinearForm *form;
    float *w;
    int64_t out, in;
} WeightRun;

static void weight_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const WeightRun *w = ctx;
    int64_t r = index * FORM_ROWS;
    w->form->weight(w->form->self, r, min_i64(FORM_ROWS, w->out - r), w->in, w->w + r * w->in);
}

/* The linear's weight at a level, into o->work. */
static Status make_weight(OutputPass *o, const LinearForm *f, const Linear *l, Error *err)
{
    memcpy(o->work, o->w, (size_t)(l->out * l->in) * sizeof *o->w);
    WeightRun run = {.form = f, .w = o->work, .out = l->out, .in = l->in};
    if (f->weight)
        pool_run(runner_pool(o->r), PHASE_QUANT_WEIGHT, div_up(l->out, FORM_ROWS), weight_task, &run, runner_cancel(o->r));
    return cancel_check(runner_cancel(o->r), err);
}

typedef struct ActRun {
    const LinearForm *form;
    const float *x;
    const Stream *shape;
    int64_t width;
    float *out;
} ActRun;

static void act_task(void *ctx, int64_t sample, int worker)
{
    (void)worker;
    const ActRun *a = ctx;
    int64_t r = a->shape->start[sample], n = a->shape->start[sample + 1] - r;
    if (n > 0)
        a->form->act(a->form->self, (int)sample, a->x + r * a->width, n, a->width, a->width, a->out + r * a->width);
}

static Status make_input(OutputPass *o, const LinearForm *f, const float *x, const Stream *shape, int64_t width, float *out,
                         Error *err)
{
    if (f->prepare)
        RETURN_IF_ERROR(f->prepare(f->self, x, shape, width, runner_pool(o->r), err));
    ActRun run = {f, x, shape, width, out};
    if (f->act)
        pool_run(runner_pool(o->r), PHASE_QUANT_ACT, shape->samples, act_task, &run, runner_cancel(o->r));
    else
        memcpy(out, x, (size_t)(shape->rows * width) * sizeof *x);
    return cancel_check(runner_cancel(o->r), err);
}

/* One linear's outputs in float, and what they are compared with. */
typedef struct Compared {
    const Linear *l;
    const float *x, *bias;
    float *xq, *y;
    int64_t rows;
} Compared;

static Status compare(OutputPass *o, const Compared *c, const float *x, const float *w, ProductSums *s, Error *err)
{
    const Product p = {.x = x, .w = w, .bias = c->bias, .rows = c->rows, .in = c->l->in, .out = c->l->out};
    return product_compare(&p, runner_pool(o->r), runner_cancel(o->r), c->y, s, err);
}

static Status score_linear(OutputPass *o, const Compared *c, const LinearForm *f, UnitScore *u, Error *err)
{
    ProductSums both, weight, input;
    RETURN_IF_ERROR(make_weight(o, f, c->l, err));
    RETURN_IF_ERROR(compare(o, c, c->xq, o->work, &both, err));
    RETURN_IF_ERROR(compare(o, c, c->x, o->work, &weight, err));
    RETURN_IF_ERROR(compare(o, c, c->xq, o->w, &input, err));
    put_sums(u, &both, (double)c->rows * (double)c->l->out, LINEAR_MSE, LINEAR_SQNR, LINEAR_COSINE, LINEAR_MAX);
    u->part[LINEAR_WEIGHT] = weight.error / both.square;
    u->part[LINEAR_INPUT] = input.error / both.square;
    return ST_OK;
}

static Status look_linear(OutputPass *o, int64_t linear, Compared *c, const Stream *shape, Error *err)
{
    const Linear *l = &o->p->m->linears[linear];
    const Product plain = {.x = c->x, .w = o->w, .bias = c->bias, .rows = c->rows, .in = l->in, .out = l->out};
    c->l = l;
    RETURN_IF_ERROR(product_make(&plain, runner_pool(o->r), runner_cancel(o->r), c->y, err));
    for (int k = 0; k < o->set.n; k++) {
        UnitScore u = new_score(o, SCOPE_LINEAR, linear, k);
        const char *why = refuses(o, SCOPE_LINEAR, linear, k);
        const LinearForm *f = *why ? NULL : o->forms[k].table[linear - o->forms[k].first];
        u.tokens = c->rows;
        u.samples = shape->samples;
        if (!*why && f) {
            RETURN_IF_ERROR(make_input(o, f, c->x, shape, l->in, c->xq, err));
            RETURN_IF_ERROR(score_linear(o, c, f, &u, err));
        }
        u.absent = !*why && !f;
        RETURN_IF_ERROR(put(o, &metric_output_error, &u, u.absent ? unformed(o->p->m, linear) : why, err));
    }
    return ST_OK;
}

static Status look(void *ctx, int64_t leader, const float *x, const Stream *shape, int64_t width, Error *err)
{
    OutputPass *o = ctx;
    const Unit *unit = &o->p->m->units[o->p->m->linears[leader].layer];
    Compared c = {.x = x, .rows = shape->start[shape->samples]};
    int64_t widest = 0;
    for (int64_t i = leader; i < unit->first + unit->count; i++)
        widest = max_i64(widest, pass_input(o->p, i) == leader ? o->p->m->linears[i].out : 0);
    if (!c.rows)
        return ST_OK;
    c.xq = mem_aligned((size_t)(c.rows * width), sizeof *c.xq);
    c.y = mem_aligned((size_t)(c.rows * widest), sizeof *c.y);
    Status st = c.xq && c.y ? ST_OK : error_nomem(err, "outputs of a linear");
    for (int64_t i = leader; st == ST_OK && i < unit->first + unit->count; i++) {
        float *bias = NULL;
        if (pass_input(o->p, i) != leader || !watch_wants(o->p, i))
            continue;
        st = runner_weight(o->r, i, -1, o->w, err);
        if (st == ST_OK)
            st = runner_bias(o->r, i, &bias, err);
        c.bias = bias;
        if (st == ST_OK)
            st = look_linear(o, i, &c, shape, err);
        free(bias);
    }
    free(c.xq);
    free(c.y);
    return st;
}

/* Linears come before groups and blocks. */
static bool known(const OutputPass *o, int64_t linear)
{
    for (size_t i = 0; i < o->out.n; i++)
        if (o->out.score[i].s.unit == linear)
            return true;
    return false;
}

static Status put_unseen(OutputPass *o, int64_t linear, Error *err)
{
    for (int k = 0; k < o->set.n; k++) {
        UnitScore s = new_score(o, SCOPE_LINEAR, linear, k);
        s.absent = true;
        RETURN_IF_ERROR(put(o, &metric_output_error, &s, "no token reached it", err));
    }
    return ST_OK;
}

static Status score_linears(OutputPass *o, int unit, Error *err)
{
    const Unit *u = &o->p->m->units[unit];
    Stream next;
    RETURN_IF_ERROR(stream_copy(&next, &o->state[0], err));
    Status st = look_forward(o->r, o->p, unit, &o->state[0], &next, look, o, err);
    stream_fini(&next);
    for (int64_t i = u->first; st == ST_OK && i < u->first + u->count; i++)
        if (watch_wants(o->p, i) && !known(o, i))
            st = put_unseen(o, i, err);
    return st;
}

/* ---- the probe in float ---- */

/* Where the state behind block k stands: at the unit's end when it is not known before. */
static int state_after(const Unit *u, int k)
{
    return k < unit_first_late(u) ? k + 1 : u->nblocks;
}

static Status run_states(OutputPass *o, int unit, Error *err)
{
    const Variant v = {.sdpa = o->p->peer};
    const Unit *u = &o->p->m->units[unit];
    for (int k = 0; k < u->nblocks; k = state_after(u, k)) {
        int to = state_after(u, k);
        RETURN_IF_ERROR(stream_copy(&o->state[to], &o->state[k], err));
        o->states = to + 1;
        RETURN_IF_ERROR(unit_forward(o->r, unit, k, to, &v, &o->state[k], &o->state[to], NULL, 0, err));
    }
    return ST_OK;
}

static void drop_states(OutputPass *o)
{
    for (int k = 0; k < o->states; k++)
        stream_fini(&o->state[k]);
    o->states = 0;
}

/* ---- groups ---- */

/* The blocks that the group is computed in, and up to where its gift is in the stream. */
static void group_blocks(const Model *m, int unit, int64_t group, int *from, int *to)
{
    const Unit *u = &m->units[unit];
    bool expert = m->linears[m->groups[group].first].expert >= 0;
    *from = 0;
    *to = u->nblocks;
    for (int k = 0; k < unit_first_late(u); k++) {
        const Block *b = &u->block[k];
        bool has = false;
        for (int i = 0; i < block_linears(b->type); i++)
            has = has || (b->linear[i] >= 0 && m->linears[b->linear[i]].group == group);
        if (has || (expert && strcmp(b->type->name, "moe") == 0)) { /* experts are no slots */
            *from = k;
            *to = k + 1;
            return;
        }
    }
}

typedef struct RowSums {
    double ratio, first;        /* sums over tokens of |d|^2 / |h|^2 */
    double error, square, changed, cross, max;
    int64_t rows, firsts;
} RowSums;

static RowSums compare_states(const Stream *plain, const Stream *changed)
{
    RowSums s = {.rows = plain->rows};
    for (int n = 0; n < plain->samples; n++)
        for (int64_t t = plain->start[n]; t < plain->start[n + 1]; t++) {
            const float *a = plain->data + t * plain->width, *b = changed->data + t * plain->width;
            double error = 0, square = 0;
            for (int64_t j = 0; j < plain->width; j++) {
                double x = (double)a[j], y = (double)b[j], d = y - x;
                error += d * d;
                square += x * x;
                s.changed += y * y;
                s.cross += x * y;
                s.max = fmax(s.max, fabs(d));
            }
            double ratio = error > 0 ? error / square : error;
            s.error += error;
            s.square += square;
            s.ratio += ratio;
            s.first += t == plain->start[n] ? ratio : 0;
            s.firsts += t == plain->start[n];
        }
    return s;
}

/* The group's linears in the table (group -1: all that are selected); false: none computes otherwise than in float. */
static bool take_forms(OutputPass *o, const LayerForms *f, int64_t group)
{
    bool any = false;
    memset(o->one, 0, (size_t)f->n * sizeof *o->one);
    for (int64_t i = 0; i < f->n; i++)
        if (group < 0 ? watch_wants(o->p, f->first + i) : o->p->m->linears[f->first + i].group == group) {
            o->one[i] = f->table[i];
            any = any || o->one[i];
        }
    return any;
}

static Status run_changed(OutputPass *o, int unit, int from, int to, RowSums *sums, Error *err)
{
    const Variant v = {.forms = o->one, .sdpa = o->p->peer};
    Stream changed;
    RETURN_IF_ERROR(stream_copy(&changed, &o->state[from], err));
    Status st = unit_forward(o->r, unit, from, to, &v, &o->state[from], &changed, NULL, 0, err);
    if (st == ST_OK)
        *sums = compare_states(&o->state[to], &changed);
    stream_fini(&changed);
    return st;
}

static Status score_group(OutputPass *o, int unit, int64_t group, int k, Error *err)
{
    UnitScore u = new_score(o, SCOPE_GROUP, group, k);
    const char *why = refuses(o, SCOPE_GROUP, group, k);
    int from, to;
    if (!*why && !take_forms(o, &o->forms[k], group)) {
        u.absent = true;
        why = unformed(o->p->m, o->p->m->groups[group].first);
    }
    if (!*why) {
        RowSums s;
        group_blocks(o->p->m, unit, group, &from, &to);
        RETURN_IF_ERROR(run_changed(o, unit, from, to, &s, err));
        u.tokens = s.rows;
        u.samples = (int)s.firsts;
        u.value = s.ratio / (double)s.rows;
        u.part[GROUP_FIRST] = s.first / (double)s.firsts;
        u.part[GROUP_RATIO] = s.error / s.square;
    }
    return put(o, &metric_residual_error, &u, why, err);
}

static bool group_selected(const PassPlan *p, int64_t group)
{
    const FusedGroup *g = &p->m->groups[group];
    for (int32_t k = 0; k < g->count; k++)
        if (watch_wants(p, group_linear(g, k)))
            return true;
    return false;
}

static Status score_groups(OutputPass *o, int unit, Error *err)
{
    const Unit *u = &o->p->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++) {
        int64_t group = o->p->m->linears[i].group;
        if (o->p->m->groups[group].first != i || !group_selected(o->p, group))
            continue;
        for (int k = 0; k < o->set.n; k++) {
            RETURN_IF_ERROR(cancel_check(runner_cancel(o->r), err));
            RETURN_IF_ERROR(score_group(o, unit, group, k, err));
        }
    }
    return ST_OK;
}

static Status score_block(OutputPass *o, int unit, int k, Error *err)
{
    UnitScore u = new_score(o, SCOPE_BLOCK, unit, k);
    const char *why = refuses(o, SCOPE_BLOCK, unit, k);
    int last = o->p->m->units[unit].nblocks;
    if (!*why && !take_forms(o, &o->forms[k], -1))
        why = "none of its linears is quantized";
    if (!*why) {
        RowSums s;
        RETURN_IF_ERROR(run_changed(o, unit, 0, last, &s, err));
        const ProductSums sums = {s.error, s.square, s.changed, s.cross, s.max};
        u.tokens = s.rows;
        u.samples = (int)s.firsts;
        put_sums(&u, &sums, (double)s.rows * (double)o->state[0].width, BLOCK_MSE, BLOCK_SQNR, BLOCK_COSINE, BLOCK_MAX);
        u.part[BLOCK_TOKEN] = s.ratio / (double)s.rows;
    }
    return put(o, &metric_block_output, &u, why, err);
}

/* ---- a unit ---- */

static void drop_forms(OutputPass *o)
{
    while (o->nforms > 0)
        layer_forms_fini(&o->forms[--o->nforms]);
}

static Status make_forms(OutputPass *o, int unit, Error *err)
{
    const Unit *u = &o->p->m->units[unit];
    for (int k = 0; k < o->set.n; k++) {
        o->lost[k][0] = 0;
        RETURN_IF_ERROR(layer_forms_init(&o->forms[k], o->p->m, &o->set.of[k].opt, u->first, u->count, err));
        o->nforms++;
    }
    return ST_OK;
}

static void lose(char to[120], const Error *why)
{
    snprintf(to, 120, "%.119s", why->text);
}

/* An input that can't be calibrated loses its own linears their scores, no others. */
typedef struct ExcusedForm {
    LinearForm form;
    const LinearForm *of;
    char *bad;
} ExcusedForm;

static Status excused_prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    const ExcusedForm *f = self;
    Error why = {0};
    Status st = f->of->prepare(f->of->self, x, shape, width, pool, &why);
    if (st != ST_DATA)
        return st == ST_OK ? ST_OK : error_set(err, st, "%s", why.text);
    lose(f->bad, &why);
    return ST_OK;
}

/* The float pass over all texts, on which static levels calibrate. */
static Status run_float(OutputPass *o, LayerCtx *ctx, Error *err)
{
    const Unit *u = &o->p->m->units[ctx->layer];
    WatchForms w;
    ExcusedForm *excused = mem_zarray((size_t)u->count + 1, sizeof *excused);
    const LinearForm **table = mem_zarray((size_t)u->count + 1, sizeof *table);
    Status st = watch_init(&w, o->forms, o->nforms, &o->set.types, err);
    if (st == ST_OK && (!excused || !table))
        st = error_nomem(err, "a layer's calibration");
    for (int64_t i = 0; st == ST_OK && i < u->count; i++) {
        o->bad[i][0] = 0;
        excused[i] = (ExcusedForm){.form = {.prepare = excused_prepare, .self = &excused[i]}, .of = w.table[i],
                                   .bad = o->bad[bad_at(o->p, u->first + i)]};
        excused[i].form.parts = w.table[i] && w.table[i]->parts;
        table[i] = w.table[i] ? &excused[i].form : NULL;
    }
    const Variant v = {.forms = w.any ? table : NULL, .sdpa = o->p->peer};
    if (st == ST_OK)
        st = layer_forward(ctx, &v, ctx->streams[0], ctx->streams[0], err);
    watch_fini(&w);
    free(excused);
    free(table);
    return st;
}

static Status fix_forms(OutputPass *o, Error *err)
{
    for (int k = 0; k < o->nforms; k++) {
        Error why = {0};
        Status st = o->lost[k][0] ? ST_OK : layer_forms_stage(&o->forms[k], 0, FORM_FIXED, &o->set.types, &why);
        if (st == ST_DATA)
            lose(o->lost[k], &why);
        else if (st != ST_OK)
            return error_set(err, st, "%s", why.text);
    }
    return ST_OK;
}

static Status score_unit(OutputPass *o, LayerCtx *ctx, Error *err)
{
    RETURN_IF_ERROR(make_forms(o, ctx->layer, err));
    RETURN_IF_ERROR(stream_beginnings(&o->state[0], ctx->streams[0], probe(o->p).samples, probe(o->p).rows, err));
    o->states = 1;
    RETURN_IF_ERROR(run_float(o, ctx, err));
    RETURN_IF_ERROR(fix_forms(o, err));
    if (o->linears)
        RETURN_IF_ERROR(score_linears(o, ctx->layer, err));
    if (o->groups || o->blocks)
        RETURN_IF_ERROR(run_states(o, ctx->layer, err));
    if (o->groups)
        RETURN_IF_ERROR(score_groups(o, ctx->layer, err));
    for (int k = 0; o->blocks && watch_wants_unit(o->p, ctx->layer) && k < o->set.n; k++)
        RETURN_IF_ERROR(score_block(o, ctx->layer, k, err));
    return ST_OK;
}

static Status run_unit(void *self, LayerCtx *ctx, Error *err)
{
    OutputPass *o = self;
    o->out.n = 0;
    Status st = score_unit(o, ctx, err);
    drop_states(o);
    drop_forms(o);
    return st;
}

static Status unit_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    OutputPass *o = ctx;
    const PassStep gave = {.score = o->out.score, .nscore = (int64_t)o->out.n, .h = streams[0]};
    return pass_tell_layer(o->p, o->sink, unit, &gave, err);
}

/* ---- the pass ---- */

typedef struct Largest {
    int64_t weight, in, out, linears;
    int blocks;
} Largest;

static Largest largest(const Model *m)
{
    Largest l = {0};
    for (int64_t i = 0; i < m->nlinears; i++) {
        l.weight = max_i64(l.weight, m->linears[i].in * m->linears[i].out);
        l.in = max_i64(l.in, m->linears[i].in);
        l.out = max_i64(l.out, m->linears[i].out);
    }
    for (int unit = 0; unit < model_depth(m); unit++) {
        l.linears = max_i64(l.linears, m->units[unit].count);
        l.blocks = m->units[unit].nblocks > l.blocks ? m->units[unit].nblocks : l.blocks;
    }
    return l;
}

static Status begin(OutputPass *o, Error *err)
{
    Largest l = largest(o->p->m);
    o->linears = pass_asks(o->p, &metric_output_error);
    o->groups = pass_asks(o->p, &metric_residual_error);
    o->blocks = pass_asks(o->p, &metric_block_output);
    RETURN_IF_ERROR(leveled_init(&o->set, o->r, o->p, err));
    o->forms = mem_zarray((size_t)o->set.n + 1, sizeof *o->forms);
    o->lost = mem_zarray((size_t)o->set.n + 1, sizeof *o->lost);
    o->one = mem_zarray((size_t)l.linears + 1, sizeof *o->one);
    o->bad = mem_zarray((size_t)l.linears + 1, sizeof *o->bad);
    o->state = mem_zarray((size_t)l.blocks + 1, sizeof *o->state);
    o->w = mem_aligned(o->linears ? (size_t)l.weight : 1, sizeof *o->w);
    o->work = mem_aligned(o->linears ? (size_t)l.weight : 1, sizeof *o->work);
    bool all = o->forms && o->lost && o->one && o->bad && o->state && o->w && o->work;
    return all ? ST_OK : error_nomem(err, "errors of outputs");
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    OutputPass o = {.r = r, .p = p, .sink = sink};
    Status st = begin(&o, err);
    if (st == ST_OK)
        st = pass_by_layer(r, p, (LayerJob){"outputs", run_unit, &o}, unit_done, &o, err);
    leveled_fini(&o.set);
    free(o.forms);
    free(o.lost);
    free(o.one);
    free(o.bad);
    free(o.state);
    free(o.w);
    free(o.work);
    free(o.out.score);
    return st;
}

/* Forms, the probe's states, and a linear's weight and outputs twice. */
static uint64_t bytes(const PassPlan *p, int threads)
{
    Largest l = largest(p->m);
    uint64_t rows = (uint64_t)probe(p).rows * (uint64_t)probe(p).samples, width = (uint64_t)p->m->cfg.stream_width;
    uint64_t linear = pass_asks(p, &metric_output_error)
                          ? (uint64_t)l.weight * 8 + rows * (uint64_t)(l.in + l.out) * 4 + product_bytes(l.in, threads)
                          : 0;
    return leveled_bytes(p, threads) + linear + rows * width * (uint64_t)(l.blocks + 2) * 4;
}

const MetricPass pass_outputs = {
    .name = "outputs",
    .step = "layer",
    .stream = true,
    .steps = pass_layers,
    .bytes = bytes,
    .need = leveled_need,
    .divides = DIVIDES_UNITS,
    .run = run,
};
