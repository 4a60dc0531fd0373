#include "metric/leveled.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/ranges.h"
#include "run/taps.h"

Status leveled_read(void *runner, int64_t linear, float *w, Error *err)
{
    return runner_weight(runner, linear, -1, w, err);
}

const char leveled_unreached[] = "no token reached it, or another of its layer's experts: it stays float";

static bool same_level(const QConfig *a, const QConfig *b)
{
    return qspec_key(&a->act) == qspec_key(&b->act) && qspec_key(&a->weight) == qspec_key(&b->weight);
}

/* Whether an earlier level of the plan is the same. */
static bool seen_before(const PassPlan *p, int k)
{
    for (int i = 0; i < k; i++)
        if (same_level(&p->levels[i], &p->levels[k]))
            return true;
    return false;
}

static Status add_level(LeveledSet *s, Runner *r, const PassPlan *p, int k, Error *err)
{
    Leveled *l = &s->of[s->n++];
    *l = (Leveled){.q = &p->levels[k], .number = k + 1, .at = mem_zarray((size_t)s->m->nlinears + 1, sizeof *l->at)};
    if (!l->at)
        return error_nomem(err, "the levels of a pass");
    for (int64_t i = 0; i < s->m->nlinears; i++)
        if (s->level[k].runs && qweight_check(&s->config[k].weight, s->m->linears[i].out, s->m->linears[i].in, NULL) == ST_OK)
            l->at[i] = (int16_t)l->number;
    l->opt = (FormsOptions){.levels = s->level, .level = l->at, .peer = p->peer, .weight = s->types.inner, .overlay = p->overlay,
                            .read = leveled_read, .ctx = r, .pool = runner_pool(r), .cancel = runner_cancel(r),
                            .dist = p->ranks && p->ranks->share ? p->ranks->dist : NULL};
    return ST_OK;
}

static Status make_levels(LeveledSet *s, Runner *r, const PassPlan *p, bool without_data, Error *err)
{
    DType T = arith_dtype(runner_arith(r), p->m->cfg.dtype);
    size_t n = (size_t)p->nlevels + 1;
    *s = (LeveledSet){.m = p->m, .of = mem_zarray(n, sizeof *s->of), .config = mem_zarray(n, sizeof *s->config),
                      .level = mem_zarray(n, sizeof *s->level), .types = {T, T, T}};
    Status st = s->of && s->config && s->level ? ST_OK : error_nomem(err, "the levels of a pass");
    for (int k = 0; st == ST_OK && k < p->nlevels; k++) {
        s->config[k] = without_data ? level_without_data(&p->levels[k]) : p->levels[k];
        s->level[k] = quant_level(&s->config[k]);
        if (!seen_before(p, k))
            st = add_level(s, r, p, k, err);
    }
    if (st != ST_OK)
        leveled_fini(s);
    return st;
}

Status leveled_init(LeveledSet *s, Runner *r, const PassPlan *p, Error *err)
{
    return make_levels(s, r, p, false, err);
}

Status leveled_init_without_data(LeveledSet *s, Runner *r, const PassPlan *p, Error *err)
{
    return make_levels(s, r, p, true, err);
}

void leveled_fini(LeveledSet *s)
{
    for (int k = 0; k < s->n; k++)
        free(s->of[k].at);
    free(s->of);
    free(s->config);
    free(s->level);
    *s = (LeveledSet){0};
}

const char *leveled_refuses(const LeveledSet *s, const Leveled *l, MetricScope scope, int64_t unit)
{
    int64_t from, to;
    if (!s->level[l->number - 1].runs)
        return "this build can't run the level";
    scope_linears(s->m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++)
        if (l->at[i] && scope_unit_of(s->m, scope, i) == unit)
            return "";
    return "the level does not fit its shape";
}

uint64_t leveled_bytes(const PassPlan *p, int threads)
{
    uint64_t sum = 0;
    int16_t *at = mem_array((size_t)p->m->nlinears + 1, sizeof *at);
    for (int64_t i = 0; at && i < p->m->nlinears; i++)
        at[i] = 1;
    for (int k = 0; at && k < p->nlevels; k++) {
        const QuantLevel l = quant_level(&p->levels[k]);
        if (l.runs && !seen_before(p, k))
            sum += layer_forms_bytes(p->m, &l, at, p->peer, threads);
    }
    free(at);
    return sum;
}

uint64_t leveled_need(const PassPlan *p, int threads)
{
    const TokenSet *t = p->tokens;
    bool whole = false;
    for (int k = 0; k < p->nlevels; k++) {
        const QuantLevel l = quant_level(&p->levels[k]);
        whole = whole || (l.runs && l.weight->prepare);
    }
    const RunnerAsk ask = {.rows = t->start[t->samples], .longest = longest_of(t->start, t->samples), .threads = threads,
                           .whole = whole};
    const RunnerNeed n = runner_need(p->m, &ask);
    return n.stream + n.kept + n.layer;
}

/* ---- watching for several levels ---- */

typedef struct WatchForm {
    LinearForm form;
    LayerForms *of; /* [n] */
    int n;
    int64_t index;  /* of the linear within the layer */
} WatchForm;

static Status watch_prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    const WatchForm *w = self;
    for (int k = 0; k < w->n; k++) {
        const LinearForm *f = w->of[k].table[w->index];
        if (f)
            RETURN_IF_ERROR(f->prepare(f->self, x, shape, width, pool, err));
    }
    return ST_OK;
}

Status watch_init(WatchForms *w, LayerForms *forms, int nforms, const FormTypes *t, Error *err)
{
    *w = (WatchForms){.n = nforms ? forms[0].n : 0};
    w->table = mem_zarray((size_t)w->n + 1, sizeof *w->table);
    w->form = mem_zarray((size_t)w->n + 1, sizeof *w->form);
    if (!w->table || !w->form)
        return error_nomem(err, "a layer's calibration");
    for (int k = 0; k < nforms; k++)
        RETURN_IF_ERROR(layer_forms_stage(&forms[k], 0, FORM_WATCH, t, err));
    for (int64_t i = 0; i < w->n; i++) {
        bool any = false, parts = true;
        for (int k = 0; k < nforms; k++) {
            any = any || forms[k].table[i];
            parts = parts && (!forms[k].table[i] || forms[k].table[i]->parts);
        }
        w->form[i] = (WatchForm){.form = {.prepare = watch_prepare, .parts = parts, .self = &w->form[i]}, .of = forms,
                                 .n = nforms, .index = i};
        w->table[i] = any ? &w->form[i].form : NULL;
        w->any = w->any || any;
    }
    return ST_OK;
}

void watch_fini(WatchForms *w)
{
    free(w->table);
    free(w->form);
    *w = (WatchForms){0};
}
