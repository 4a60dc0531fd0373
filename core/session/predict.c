/* Predictions from what fused groups weigh, and the measurements that they go by. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/assignment.h"
#include "session/parts.h"
#include "session/points.h"
#include "session/results.h"
#include "session/sizes.h"
#include "session/whatif.h"

/* ---- measurements ---- */

static bool belongs(const Measured *m, const Measured *newest)
{
    return digest_cmp(&m->fit, &newest->fit) == 0 && m->effect.tokens == newest->effect.tokens && m->level;
}

static void take_point(const Session *s, const GroupTable *t, const Measured *m, TuneResult *r, int16_t *set)
{
    const Effect *e = &m->effect;
    group_set(s, t, m->level, set);
    *r = (TuneResult){.point = {.s = group_sum(t, set), .kl = e->kl_mean, .set = set,
                                .ppl = e->ppl_float > 0 ? log(e->ppl_quant / e->ppl_float) : NAN}};
    for (int64_t i = 0; i < s->model->nlinears; i++)
        r->bytes += (int64_t)recipe_linear_bytes(s->recipe, s->model, i, m->level[i], s->opt.peer);
}

Status points_take(Session *s, const GroupTable *t, Points *out, Error *err)
{
    const Results *rs = s->results;
    const Measured *newest = results_newest(s);
    size_t most = newest ? rs->nmeasured : 0;
    *out = (Points){.result = mem_zarray(most + 1, sizeof *out->result), .measured = mem_array(most + 1, sizeof(size_t)),
                    .sets = mem_array((most + 1) * (size_t)t->n, sizeof *out->sets)};
    if (!out->result || !out->measured || !out->sets)
        return error_nomem(err, "the measurements");
    for (size_t i = 0; i < most; i++)
        if (belongs(&rs->measured[i], newest)) {
            take_point(s, t, &rs->measured[i], &out->result[out->n], out->sets + (size_t)out->n * (size_t)t->n);
            out->measured[out->n++] = i;
        }
    return ST_OK;
}

void points_free(Points *p)
{
    free(p->result);
    free(p->measured);
    free(p->sets);
    free(p->errors);
    *p = (Points){0};
}

Status points_errors(const Session *s, Points *p, TuneWhat what, Error *err)
{
    size_t n = (size_t)p->n;
    p->errors = mem_array(n * n, sizeof *p->errors);
    if (!p->errors)
        return error_nomem(err, "the measurements");
    for (size_t i = 0; i < n * n; i++) {
        const Measured *a = &s->results->measured[p->measured[i / n]], *b = &s->results->measured[p->measured[i % n]];
        const Paired d = paired_of(&a->effect, a->blocks, &b->effect, b->blocks);
        p->errors[i] = what == TUNE_PPL ? d.ppl_se : d.kl_se;
        p->result[i / n].error = p->errors + i / n * n;
    }
    return ST_OK;
}

TunePoint *points_list(const Points *p)
{
    TunePoint *list = mem_array((size_t)p->n + 1, sizeof *list);
    for (int i = 0; list && i < p->n; i++)
        list[i] = p->result[i].point;
    return list;
}

/* ln of a ratio as a relative change. */
static void as_change(TuneRange *r)
{
    r->value = expm1(r->value);
    r->low = expm1(r->low);
    r->high = expm1(r->high);
}

Status points_foretell(const Points *p, const GroupTable *t, const int16_t *set, double s, TuneRange *kl, TuneRange *ppl,
                       Error *err)
{
    TunePoint *list = points_list(p);
    Status st = list ? ST_OK : error_nomem(err, "a prediction");
    if (st == ST_OK)
        st = tune_predict(list, p->n, TUNE_KL, set, t->n, s, kl, err);
    if (st == ST_OK)
        st = tune_predict(list, p->n, TUNE_PPL, set, t->n, s, ppl, err);
    if (st == ST_OK)
        as_change(ppl);
    free(list);
    return st;
}

/* ---- the present assignment ---- */

/* Of a set that was measured: what the other measurements say of it. */
static Status hindsight(const Points *p, const GroupTable *t, const int16_t *set, int at, Prediction *out, Error *err)
{
    TuneRange kl;
    TunePoint *list = points_list(p);
    if (!list)
        return error_nomem(err, "a prediction");
    out->measured = true;
    list[at] = list[p->n - 1];
    Status st = tune_predict(list, p->n - 1, TUNE_KL, set, t->n, out->sum, &kl, err);
    free(list);
    RETURN_IF_ERROR(st);
    out->without = kl.value;
    out->miss = p->result[at].point.kl > 0 ? kl.value / p->result[at].point.kl - 1 : NAN;
    return ST_OK;
}

/* Which of the points is of these very levels, -1: none. */
static int measured_at(const Session *s, const Points *p, const int16_t *level)
{
    size_t bytes = (size_t)s->model->nlinears * sizeof(int16_t);
    for (int i = p->n; i-- > 0;)
        if (memcmp(s->results->measured[p->measured[i]].level, level, bytes) == 0)
            return i;
    return -1;
}

static Status foretell(Session *s, const GroupTable *t, const int16_t *level, const int16_t *set, Prediction *p, Error *err)
{
    Points points;
    Status st = points_take(s, t, &points, err);
    p->measurements = points.n;
    if (st == ST_OK)
        st = points_foretell(&points, t, set, p->sum, &p->kl, &p->ppl, err);
    int at = st == ST_OK ? measured_at(s, &points, level) : -1;
    if (at >= 0)
        st = hindsight(&points, t, set, at, p, err);
    points_free(&points);
    return st;
}

/* What is known of the groups under these levels, into p; the sum of all at home. */
static double weigh(const Session *s, const GroupTable *t, const int16_t *set, const int16_t *home, Prediction *p)
{
    double all = 0;
    bool every = s->model->cfg.layers >= model_depth(s->model); /* group leads to logits */
    for (int64_t g = 0; g < t->n; g++) {
        int64_t at = g * t->levels + (set[g] ? set[g] : home[g]);
        bool counts = at != g * t->levels &&
                      (every || s->model->linears[group_linear(&s->model->groups[g], 0)].layer < s->model->cfg.layers);
        p->groups += counts;
        p->unknown += counts && isnan(t->v[at]);
        p->alone += counts && !isnan(t->alone[at]);
        all += t->v[g * t->levels + home[g]];
    }
    p->sum = group_sum(t, set);
    return all;
}

static Prediction predict(Session *s, const int16_t *level, SizeReport size)
{
    const Assignment *a = s->assignment;
    const TuneRange none = {.value = NAN, .low = NAN, .high = NAN};
    Prediction p = {.size = size, .share_back = NAN, .sum = NAN, .without = NAN, .miss = NAN, .kl = none, .ppl = none};
    const GroupTable *t;
    Status st = group_table(s, &t, NULL);
    p.no_memory = st == ST_NOMEM;
    if (st != ST_OK)
        return p;
    int16_t *set = mem_array((size_t)t->n, sizeof *set), *home = mem_array((size_t)t->n, sizeof *home);
    p.no_memory = !set || !home;
    if (set && home) {
        group_set(s, t, level, set);
        group_set(s, t, a->home, home);
        double all = weigh(s, t, set, home, &p);
        p.have = isfinite(p.sum) && isfinite(all) && all > 0;
        p.share_back = p.have ? (all - p.sum) / all : NAN;
        st = p.have ? foretell(s, t, level, set, &p, NULL) : ST_OK;
        p.have = p.have && st == ST_OK;
        p.no_memory = st == ST_NOMEM;
    }
    free(set);
    free(home);
    return p;
}

Prediction predict_levels(Session *s, const int16_t *level)
{
    SizeReport size;
    sizes_of(s, s->recipe, level, &size);
    return predict(s, level, size);
}

/* While scores arrive the size stays what it is. */
static const SizeReport *present_size(Session *s)
{
    WhatIfs *w = s->whatifs;
    if (!w->size_known || w->size_version != s->assignment->version || w->size_peer != s->opt.peer) {
        sizes_of(s, s->recipe, s->assignment->level, &w->size);
        w->size_version = s->assignment->version;
        w->size_peer = s->opt.peer;
        w->size_known = true;
    }
    return &w->size;
}

Prediction session_predict(Session *s)
{
    WhatIfs *w = s->whatifs;
    if (!s->model || !s->recipe)
        return (Prediction){.share_back = NAN, .sum = NAN, .without = NAN, .miss = NAN};
    if (!w->predicted_known || w->predicted_version != s->assignment->version ||
        w->predicted_results != s->results->loss_version) {
        w->predicted = predict(s, s->assignment->level, *present_size(s));
        w->predicted_version = s->assignment->version;
        w->predicted_results = s->results->loss_version;
        w->predicted_known = !w->predicted.no_memory;
    }
    return w->predicted;
}
