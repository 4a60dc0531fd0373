#include "metric/probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "run/ops.h"

/* ---- forms ---- */

static Status read_weight(void *ctx, int64_t linear, float *w, Error *err)
{
    return runner_weight(ctx, linear, -1, w, err);
}

/* The values so far: those of an earlier part of the same pass count where they were made at the same levels. */
static Status begin_values(Probe *b, const Metric *m, Error *err)
{
    const Model *model = b->p->m;
    int64_t n = model_depth(model);
    uint64_t *levels = mem_array((size_t)n, sizeof *levels);
    if (!levels)
        return error_nomem(err, "scores");
    scores_levels(model, m->scope, b->p->levels, b->level, levels);
    for (int64_t i = 0; i < n; i++) {
        const UnitSlot *u = b->p->before ? scores_unit_at(b->p->before, m, i, levels[i]) : NULL;
        b->unit[i] = u ? scores_unit_full(u, m, i) : (UnitScore){.unit = i, .levels = levels[i]};
    }
    free(levels);
    return ST_OK;
}

Status probe_init(Probe *b, Runner *r, const PassPlan *p, const Metric *m, Error *err)
{
    size_t depth = (size_t)model_depth(p->m);
    *b = (Probe){.p = p, .r = r, .levels = mem_zarray((size_t)p->nlevels + 1, sizeof *b->levels),
                 .level = mem_zarray((size_t)p->m->nlinears, sizeof *b->level),
                 .forms = mem_zarray(depth, sizeof *b->forms), .unit = mem_zarray(depth, sizeof *b->unit)};
    if (!b->levels || !b->level || !b->forms || !b->unit) {
        probe_fini(b);
        return error_nomem(err, "quantized layers");
    }
    for (int i = 0; i < p->nlevels; i++)
        b->levels[i] = quant_level(&p->levels[i]);
    for (int64_t i = 0; i < p->m->nlinears; i++)
        b->level[i] = !p->selected || p->selected[i] ? p->level[i] : 0;
    /* never by the peer's rules, which are those of its deployed modules: what it probes with, block formats, is the same */
    b->opt = (FormsOptions){.levels = b->levels, .level = b->level, .overlay = p->overlay,
                            .weight = arith_dtype(runner_arith(r), p->m->cfg.dtype), .read = read_weight, .ctx = r,
                            .pool = runner_pool(r), .cancel = runner_cancel(r), .room = &b->room};
    Status st = begin_values(b, m, err);
    if (st != ST_OK)
        probe_fini(b);
    return st;
}

void probe_fini(Probe *b)
{
    for (int i = 0; b->forms && i < model_depth(b->p->m); i++)
        probe_drop(b, i);
    form_room_free(&b->room);
    free(b->levels);
    free(b->level);
    free(b->forms);
    free(b->unit);
    *b = (Probe){0};
}

bool probe_has(const Probe *b, int unit)
{
    const Unit *u = &b->p->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (b->level[i])
            return true;
    return false;
}

static bool is_wanted(const Probe *b, int unit)
{
    const Unit *u = &b->p->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (!b->p->selected || b->p->selected[i])
            return true;
    return false;
}

void probe_leave_out(Probe *b, int last)
{
    for (int i = 0; i < model_depth(b->p->m); i++) {
        UnitScore *u = &b->unit[i];
        u->absent = is_wanted(b, i) && (i >= last || !probe_has(b, i));
        if (u->absent)
            snprintf(u->why, sizeof u->why, "%s", i >= last ? "multi-token prediction: no logit depends on it"
                                                            : "none of its linears is quantized");
    }
}

/* Numbers of a scheme that don't fit a weight, kinds that this build doesn't run. */
static Status check_unit(const Probe *b, int unit, Error *err)
{
    const Unit *u = &b->p->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++) {
        const QuantLevel *q = b->level[i] ? &b->levels[b->level[i] - 1] : NULL;
        const Linear *l = &b->p->m->linears[i];
        if (q && !q->runs)
            return error_set(err, ST_DATA, "this build does not run the scheme of '%s'", l->name);
        if (q && qweight_check(&q->config->weight, l->out, l->in, err) != ST_OK)
            return error_prefix(err, ST_DATA, "'%s': ", l->name);
    }
    return ST_OK;
}

bool probe_calibrates(const Probe *b)
{
    return layer_forms_whole(b->p->m, b->levels, b->level, false);
}

bool probe_twice(const Probe *b, int unit)
{
    const Unit *u = &b->p->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (b->level[i] && b->levels[b->level[i] - 1].weight->prepare)
            return true;
    return false;
}

Status probe_unit(Probe *b, int unit, Variant *v, Error *err)
{
    const Unit *u = &b->p->m->units[unit];
    LayerForms *f = &b->forms[unit];
    FormStage stage = FORM_FIXED;
    if (!f->model) {
        RETURN_IF_ERROR(check_unit(b, unit, err));
        RETURN_IF_ERROR(layer_forms_init(f, b->p->m, &b->opt, u->first, u->count, err));
        stage = probe_calibrates(b) ? FORM_CALIBRATE : FORM_FIXED;
    }
    const FormTypes t = {.input = b->opt.weight, .inner = b->opt.weight, .kept = b->opt.weight};
    RETURN_IF_ERROR(layer_forms_stage(f, 0, stage, &t, err));
    *v = (Variant){.forms = f->any ? f->table : NULL, .sdpa = b->p->peer};
    return ST_OK;
}

Status probe_excuse(Probe *b, int unit, Status st, Error *err)
{
    if (st != ST_DATA)
        return st;
    snprintf(b->unit[unit].why, sizeof b->unit[unit].why, "%.*s", (int)sizeof b->unit[unit].why - 1, err->text);
    *err = (Error){0};
    return ST_OK;
}

void probe_drop(Probe *b, int unit)
{
    if (b->forms[unit].model)
        layer_forms_fini(&b->forms[unit]);
}

/* Its levels; NULL: this build doesn't run all that linears are at (or memory is short). */
static QuantLevel *levels_of(const PassPlan *p)
{
    QuantLevel *levels = mem_zarray((size_t)p->nlevels + 1, sizeof *levels);
    bool runs = levels != NULL;
    for (int i = 0; levels && i < p->nlevels; i++)
        levels[i] = quant_level(&p->levels[i]);
    for (int64_t i = 0; runs && i < p->m->nlinears; i++)
        runs = !p->level[i] || levels[p->level[i] - 1].runs;
    if (!runs)
        free(levels);
    return runs ? levels : NULL;
}

uint64_t probe_bytes(const PassPlan *p, bool all, int threads)
{
    QuantLevel *levels = levels_of(p);
    uint64_t bytes = (uint64_t)p->m->nlinears * (sizeof(LinearForm) + 64);
    bytes += levels ? layer_forms_bytes(p->m, levels, p->level, false, threads) : 0;
    for (int64_t i = 0; levels && all && i < p->m->nlinears; i++) {
        const QuantLevel *q = p->level[i] ? &levels[p->level[i] - 1] : NULL;
        if (q && !weight_quantizer_rowwise(q->weight, &q->config->weight, false))
            bytes += qweight_bytes(&q->config->weight, p->m->linears[i].out, p->m->linears[i].in);
    }
    free(levels);
    return bytes;
}

ProbeNeed probe_need(const PassPlan *p, int threads)
{
    QuantLevel *levels = levels_of(p);
    RunnerAsk ask = {.rows = p->tokens->start[p->tokens->samples], .threads = threads,
                     .longest = longest_of(p->tokens->start, p->tokens->samples)};
    RunnerNeed plain = runner_need(p->m, &ask);
    ask.level = levels ? p->level : NULL;
    RunnerNeed quant = runner_need(p->m, &ask);
    ask.whole = levels && layer_forms_whole(p->m, levels, p->level, false);
    RunnerNeed first = runner_need(p->m, &ask);
    free(levels);
    return (ProbeNeed){.calibrates = ask.whole, .stream = first.stream, .pass = first.kept + first.layer,
                       .more = quant.kept + quant.layer - plain.kept - plain.layer};
}

/* ---- mean squared errors ---- */

typedef struct MseRun {
    const Stream *plain, *changed;
    double *sum; /* [samples] */
} MseRun;

static void mse_task(void *ctx, int64_t sample, int worker)
{
    (void)worker;
    const MseRun *m = ctx;
    int64_t w = m->plain->width, from = m->plain->start[sample] * w, to = m->plain->start[sample + 1] * w;
    double sum = 0;
    for (int64_t i = from; i < to; i++) {
        double d = (double)m->changed->data[i] - (double)m->plain->data[i];
        sum += d * d;
    }
    m->sum[sample] = sum;
}

static int64_t first_bad(const float *x, int64_t from, int64_t to)
{
    while (from < to && isfinite(x[from]))
        from++;
    return from;
}

/* Says which value of a sample is the first that is not finite: of the float model, or of what was changed. */
static void say_bad(UnitScore *u, const Stream *plain, const Stream *changed, int sample, int number)
{
    int64_t w = plain->width, from = plain->start[sample] * w, to = plain->start[sample + 1] * w;
    int64_t a = first_bad(plain->data, from, to), b = first_bad(changed->data, from, to);
    bool is_plain = a < to;
    int64_t at = is_plain ? a : b;
    float v = at < to ? (is_plain ? plain : changed)->data[at] : 0;
    snprintf(u->why, sizeof u->why, "%s in the %s output, first at sample %d token %lld channel %lld",
             isnan(v) ? "NaN" : "Inf", is_plain ? "float" : "quantized", number, (long long)((at - from) / w),
             (long long)((at - from) % w));
}

Status mse_add(UnitScore *u, const Stream *plain, const Stream *changed, int first, Pool *pool, Error *err)
{
    MseRun m = {plain, changed, mem_array((size_t)plain->samples, sizeof *m.sum)};
    if (!m.sum)
        return error_nomem(err, "errors of texts");
    pool_run(pool, PHASE_STATISTICS, plain->samples, mse_task, &m, NULL);
    for (int i = 0; i < plain->samples; i++) {
        int64_t rows = plain->start[i + 1] - plain->start[i];
        if (!rows)
            continue;
        if (!isfinite(m.sum[i]) && !u->why[0])
            say_bad(u, plain, changed, i, first + i);
        sample_add(u, m.sum[i] / (double)(rows * plain->width), first + i);
        u->tokens += rows;
    }
    free(m.sum);
    return ST_OK;
}

/* The mean over its samples; NaN (why is set) once one was not finite. */
static void mse_end(UnitScore *u)
{
    u->value = u->why[0] || !u->samples ? (double)NAN : u->sum / u->samples;
}

Status mse_tell(const Telling *t, Error *err)
{
    int64_t n = 0;
    PassScore *list = mem_zarray((size_t)t->depth, sizeof *list);
    if (!list)
        return error_nomem(err, "scores");
    for (int64_t i = 0; i < t->depth; i++) {
        if (!t->unit[i].samples && !t->unit[i].why[0])
            continue;
        list[n] = (PassScore){t->metric, t->unit[i]};
        mse_end(&list[n++].s);
    }
    PassStep step = {.done = t->done, .total = t->total, .score = list, .nscore = n, .h = t->h};
    Status st = t->sink->step(t->sink->ctx, &step, err);
    free(list);
    return st;
}
