#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "process/smooth.h"
#include "run/source.h"

/* Which value made scales impossible. Scales are made from the last sub-graph of a layer to the first, but what is no number
 * comes from the front. */

static const char look_through[] = "'slimscope check' looks through the whole model; fetch it again";

/* The first of n values that is no number, -1: all are. */
static int64_t first_bad(const float *v, int64_t n)
{
    int64_t i = 0;
    while (i < n && isfinite(v[i]))
        i++;
    return i < n ? i : -1;
}

static const char *word(float v)
{
    return isnan(v) ? "NaN" : "Inf";
}

static Status blame_norm(const SmoothCtx *c, const TensorInfo *norm, Error *err)
{
    float *w;
    RETURN_IF_ERROR(source_small(runner_source(c->runner), NULL, norm, &w, err));
    int64_t at = first_bad(w, norm->shape[0]);
    if (at >= 0)
        error_set(err, ST_DATA, "'%s' has %s at [%lld]: the model is damaged; %s", norm->name, word(w[at]), (long long)at,
                  look_through);
    free(w);
    return at >= 0 ? ST_DATA : ST_OK;
}

/* The norms that give what linear i reads. */
static Status blame_norms(const SmoothCtx *c, const Subgraph *g, int n, int64_t i, Error *err)
{
    for (int k = 0; k < n; k++)
        for (int t = 0; t < g[k].ntargets && g[k].norm; t++)
            if (g[k].targets[t] == i) {
                RETURN_IF_ERROR(blame_norm(c, g[k].norm, err));
                return g[k].norm2 ? blame_norm(c, g[k].norm2, err) : ST_OK;
            }
    return ST_OK;
}

static Status blame_weight(const SmoothCtx *c, int64_t i, Error *err)
{
    const Linear *l = &c->model->linears[i];
    float *w = mem_aligned((size_t)(l->out * l->in), sizeof *w);
    if (!w)
        return error_nomem(err, l->name);
    Status st = runner_weight(c->runner, i, -1, w, err);
    int64_t at = st == ST_OK ? first_bad(w, l->out * l->in) : -1;
    if (at >= 0)
        st = error_set(err, ST_DATA, "'%s': its weight holds %s at [%lld,%lld]: %s", l->name, word(w[at]),
                       (long long)(at / l->in), (long long)(at % l->in), look_through);
    free(w);
    return st;
}

Status smooth_blame(const SmoothCtx *c, const SmoothWatch *w, const Subgraph *g, int n, Error *err)
{
    for (int64_t i = w->first; i < w->first + w->nlinears; i++) {
        int64_t channel = smooth_watch_bad(w, i);
        if (channel >= 0) {
            RETURN_IF_ERROR(blame_norms(c, g, n, i, err));
            return error_set(err, ST_DATA, "'%s': its input holds NaN or Inf, first in channel %lld: %s",
                             c->model->linears[i].name, (long long)channel, look_through);
        }
        RETURN_IF_ERROR(blame_weight(c, i, err));
    }
    return ST_OK;
}
