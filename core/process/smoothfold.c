#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "process/smooth.h"
#include "qir/round.h"
#include "run/source.h"

/* How scales go into the model (specs/outlier_suppression.md 2.3). */

bool smooth_shifts(const SmoothCtx *c, const Subgraph *g)
{
    const SmoothSettings *set = c->settings;
    bool may = set->asymmetric && g->type == SUBGRAPH_NORM_LINEAR && g->norm && !g->ntensors;
    for (int t = 0; t < g->ntargets && !c->peer; t++) {
        const Linear *l = &c->model->linears[g->targets[t]];
        may = may && l->expert < 0 && l->kind != LK_ROUTER;
    }
    return may;
}

bool smooth_norm_biased(const SmoothCtx *c, const SmoothMethod *m, const Subgraph *g)
{
    const SmoothSettings *set = c->settings;
    return c->peer && g->norm &&
           (m->peer_norms == SMOOTH_NORMS_BIAS || (m->peer_norms == SMOOTH_NORMS_SHIFTED && set->asymmetric));
}

/* ---- records ---- */

static const float *keep_values(SmoothRecords *r, const float *v, int64_t n)
{
    float *copy = arena_alloc(&r->arena, (size_t)n * sizeof *copy);
    if (copy)
        memcpy(copy, v, (size_t)n * sizeof *copy);
    return copy;
}

static Status record(const SmoothCtx *c, const SmoothRecord *one, Error *err)
{
    SmoothRecords *r = c->records;
    if (!one->values || !mem_grow(&r->at, &r->cap, r->n + 1, sizeof *r->at))
        return error_nomem(err, "smoothing scales");
    r->at[r->n++] = *one;
    return ST_OK;
}

/* As the peer tells them: targets their factors, a linear that gives channels the reciprocals. */
static Status record_all(const SmoothCtx *c, const Subgraph *g, const float *s, const float *shift, const float *r,
                         Error *err)
{
    SmoothRecord of = {.n = g->width, .dtype = c->T}, moved = {.n = g->width, .dtype = c->T, .shift = true};
    if (!c->records)
        return ST_OK;
    of.values = keep_values(c->records, s, g->width);
    moved.values = shift ? keep_values(c->records, shift, g->width) : NULL;
    for (int t = 0; t < g->ntargets; t++) {
        of.linear = moved.linear = g->targets[t];
        RETURN_IF_ERROR(record(c, &of, err));
        if (shift)
            RETURN_IF_ERROR(record(c, &moved, err));
    }
    if (g->source < 0)
        return ST_OK;
    of = (SmoothRecord){.linear = g->source, .rows = true, .n = g->rows.n, .dtype = c->T,
                        .values = keep_values(c->records, r, g->rows.n)};
    return record(c, &of, err);
}

/* ---- the fold ---- */

static Status check(const Subgraph *g, const float *s, int64_t n, Error *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(s[i]) || s[i] <= 0)
            return error_set(err, ST_DATA,
                             "'%s': the smoothing scale of channel %lld is %g: its inputs or weights hold NaN or Inf, or "
                             "values beyond float32; leave it out with exclude", g->key, (long long)i, (double)s[i]);
    return ST_OK;
}

/* 1 / s: the peer's is rounded before anything is multiplied by it. */
static float *reciprocals(const SmoothCtx *c, const float *s, int64_t n, Error *err)
{
    float *r = mem_array((size_t)n, sizeof *r);
    if (!r)
        error_nomem(err, "smoothing scales");
    for (int64_t i = 0; r && i < n; i++)
        r[i] = round_to_dtype(1 / s[i], c->T);
    return r;
}

static Status fold_source(const SmoothCtx *c, const Subgraph *g, const float *r, Error *err)
{
    int64_t out = c->model->linears[g->source].out;
    float *rows = mem_array((size_t)out, sizeof *rows);
    if (!rows)
        return error_nomem(err, g->key);
    for (int64_t i = 0; i < out; i++)
        rows[i] = 1;
    for (int64_t i = 0; i < g->rows.n; i++)
        rows[subgraph_row(&g->rows, i)] = r[i];
    Status st = overlay_scale_outputs(c->overlay, g->source, rows, err);
    free(rows);
    return st;
}

/* A norm that gives n of the channels. */
typedef struct NormPart {
    const TensorInfo *norm;
    int64_t first, n;
} NormPart;

/* Those of a sub-graph; the second may have norm NULL. */
static void norm_parts(const Subgraph *g, NormPart part[2])
{
    const int64_t all = subgraph_shares(g) ? g->rows.n : g->width, n = g->norm2 ? all / 2 : all;
    part[0] = (NormPart){g->norm, 0, n};
    part[1] = (NormPart){g->norm2, n, all - n};
}

/* norm' = (norm - shift / gain) / s. */
static Status fold_norm(const SmoothCtx *c, const Subgraph *g, const NormPart *p, const float *r, const float *shift,
                        Error *err)
{
    Overlay *o = c->overlay;
    if (g->norm_one)
        RETURN_IF_ERROR(overlay_scale_unit_norm(o, p->norm, r, err));
    else
        RETURN_IF_ERROR(overlay_scale_tensor(o, p->norm, r, err));
    for (int i = 0; i < 1 + (c->peer && shift); i++) /* the peer's bug: twice in its asymmetric mode */
        RETURN_IF_ERROR(overlay_scale_norm_bias(o, p->norm, r, err));
    if (!shift)
        return ST_OK;
    float *b = mem_array((size_t)p->n, sizeof *b);
    if (!b)
        return error_nomem(err, g->key);
    for (int64_t i = 0; i < p->n; i++)
        b[i] = round_to_dtype(-shift[i] / (float)g->gain * r[i], c->T);
    Status st = overlay_shift_norm(o, p->norm, b, err);
    free(b);
    return st;
}

static Status fold_norms(const SmoothCtx *c, const Subgraph *g, const float *r, const float *shift, Error *err)
{
    NormPart part[2];
    norm_parts(g, part);
    for (int i = 0; i < 2; i++)
        if (part[i].norm)
            RETURN_IF_ERROR(fold_norm(c, g, &part[i], r + part[i].first, shift ? shift + part[i].first : NULL, err));
    return ST_OK;
}

/* Of a norm that multiplies by 1 + w a small factor is left as a w near -1, which a half-width file keeps but roughly. So
 * the scales are those that such a file can say: what reads the norm gets what is lost there. */
static Status settle_unit_norm(const SmoothCtx *c, const Subgraph *g, float *s, Error *err)
{
    NormPart part[2];
    norm_parts(g, part);
    for (int k = 0; k < 2 && part[k].norm; k++) {
        float *w, *of = s + part[k].first;
        RETURN_IF_ERROR(source_small(runner_source(c->runner), NULL, part[k].norm, &w, err));
        for (int64_t i = 0; i < part[k].n; i++) {
            float was = 1 + w[i], is = 1 + round_to_dtype(was / of[i] - 1, part[k].norm->dtype);
            of[i] = was / is > 0 && isfinite(was / is) ? was / is : of[i];
        }
        free(w);
    }
    return ST_OK;
}

Status smooth_fold(const SmoothCtx *c, const Subgraph *g, const SmoothScale *s, Error *err)
{
    Overlay *o = c->overlay;
    bool ov = subgraph_shares(g);
    const float *source = ov ? s->source : s->target, *shift = s->shifted ? s->shift : NULL;
    int64_t n = ov ? g->rows.n : g->width;
    RETURN_IF_ERROR(check(g, s->target, g->width, err));
    RETURN_IF_ERROR(check(g, source, n, err));
    if (g->norm && g->norm_one && !c->peer)
        RETURN_IF_ERROR(settle_unit_norm(c, g, s->target, err));
    float *r = reciprocals(c, source, n, err);
    Status st = r ? ST_OK : ST_NOMEM;
    for (int t = 0; t < g->ntargets && st == ST_OK; t++) {
        if (shift) /* by the weights as they are before */
            st = overlay_bias_from(o, g->targets[t], shift, err);
        if (st == ST_OK)
            st = overlay_scale_inputs(o, g->targets[t], s->target, err);
        if (st == ST_OK && !subgraph_folds(g))
            st = overlay_input_scale(o, g->targets[t], r, err);
    }
    for (int t = 0; t < g->ntensors && st == ST_OK; t++)
        st = overlay_scale_tensor(o, g->tensors[t], s->target, err);
    if (st == ST_OK && g->source >= 0)
        st = fold_source(c, g, r, err);
    if (st == ST_OK && g->norm)
        st = fold_norms(c, g, r, shift, err);
    if (st == ST_OK)
        st = record_all(c, g, s->target, shift, r, err);
    free(r);
    return st;
}

static Status add_bias(const SmoothCtx *c, const Subgraph *g, Error *err)
{
    float *zero = mem_zarray((size_t)g->width, sizeof *zero);
    if (!zero)
        return error_nomem(err, g->key);
    Status st = overlay_shift_norm(c->overlay, g->norm, zero, err);
    free(zero);
    return st;
}

Status smooth_norms(const SmoothCtx *c, const SmoothMethod *m, const Subgraph *g, int n, Error *err)
{
    static const double eps = 1e-6;
    for (int i = 0; i < n && c->peer && m->peer_norms != SMOOTH_NORMS_KEPT; i++) {
        if (g[i].norm && c->model->cfg.eps != eps)
            RETURN_IF_ERROR(overlay_norm_eps(c->overlay, g[i].norm, eps, err));
        if (smooth_norm_biased(c, m, &g[i]) && !g[i].norm_bias && !overlay_norm_bias(c->overlay, g[i].norm))
            RETURN_IF_ERROR(add_bias(c, &g[i], err));
    }
    return ST_OK;
}
