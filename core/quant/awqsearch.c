#include "quant/awqsearch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "quant/products.h"

#define LEAST 1e-4f
enum { ROWS = 64 };

/* ---- scales ---- */

/* The means as they count: heads that share a value head have the mean of theirs. */
static void shared_means(const AwqTask *t, float *a)
{
    memcpy(a, t->mean, (size_t)t->in * sizeof *a);
    if (!t->heads || t->heads == t->kv_heads || t->peer)
        return;
    int64_t share = t->heads / t->kv_heads, dim = t->in / t->heads;
    for (int64_t k = 0; k < t->kv_heads; k++)
        for (int64_t c = 0; c < dim; c++) {
            double sum = 0;
            for (int64_t h = k * share; h < (k + 1) * share; h++)
                sum += (double)t->mean[h * dim + c];
            for (int64_t h = k * share; h < (k + 1) * share; h++)
                a[h * dim + c] = (float)(sum / (double)share);
        }
}

/* A channel that says nothing about its scale. */
static bool is_dead(const AwqTask *t, float a)
{
    return !t->peer && a == 0.0f;
}

/* s = a^r, over the middle of its extremes. */
static void ratio_scales(const AwqTask *t, const float *a, double r, float *s)
{
    float least = INFINITY, most = 0;
    for (int64_t j = 0; j < t->in; j++) {
        float v = (float)pow((double)a[j], (double)(float)r);
        s[j] = v < LEAST ? LEAST : v;
        if (is_dead(t, a[j]))
            continue;
        least = s[j] < least || isnan(s[j]) ? s[j] : least;
        most = s[j] > most || isnan(s[j]) ? s[j] : most;
    }
    float middle = sqrtf(most * least);
    for (int64_t j = 0; j < t->in; j++) {
        s[j] = is_dead(t, a[j]) ? 1.0f : s[j] / middle;
        s[j] = isfinite(s[j]) ? s[j] : 1.0f;
    }
}

static Status search(const AwqTask *t, const float *a, float *tried, float *s, double *losses, AwqFound *out, Error *err)
{
    double best = INFINITY;
    for (int k = 0; k < t->grid; k++) {
        double r = (double)k / (double)t->grid, loss = NAN;
        ratio_scales(t, a, r, tried);
        RETURN_IF_ERROR(t->loss(t->ctx, tried, &loss, err));
        if (losses)
            losses[k] = loss;
        if (k == 0)
            out->before = loss;
        if (!(loss < best))
            continue;
        best = loss;
        out->any = true;
        out->ratio = r;
        out->loss = loss;
        memcpy(s, tried, (size_t)t->in * sizeof *s);
    }
    return ST_OK;
}

Status awq_search(const AwqTask *t, float *s, double *losses, AwqFound *out, Error *err)
{
    *out = (AwqFound){.loss = NAN, .before = NAN};
    for (int64_t j = 0; j < t->in; j++)
        s[j] = 1.0f;
    float *a = mem_array((size_t)t->in, sizeof *a), *tried = mem_array((size_t)t->in, sizeof *tried);
    Status st = a && tried ? ST_OK : error_nomem(err, "the search for awq's scales");
    if (st == ST_OK) {
        shared_means(t, a);
        st = search(t, a, tried, s, losses, out, err);
    }
    free(a);
    free(tried);
    return st;
}

/* ---- a target's weight ---- */

typedef struct ScaleRun {
    float *w;
    const float *s;
    int64_t rows, in;
    bool back;
} ScaleRun;

static void scale_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const ScaleRun *f = ctx;
    for (int64_t r = index * ROWS; r < min_i64((index + 1) * ROWS, f->rows); r++)
        for (int64_t j = 0; j < f->in; j++)
            f->w[r * f->in + j] = f->back ? f->w[r * f->in + j] / f->s[j] : f->w[r * f->in + j] * f->s[j];
}

Status awq_fake(const QSpec *q, const float *s, bool peer, float *w, int64_t rows, int64_t in, Pool *pool,
                const Cancel *cancel, Error *err)
{
    ScaleRun f = {.w = w, .s = s, .rows = rows, .in = in};
    pool_run(pool, PHASE_QUANT_WEIGHT, div_up(rows, ROWS), scale_task, &f, cancel);
    RETURN_IF_ERROR(peer ? fake_weight_peer(q, DT_F32, w, rows, in, pool, cancel, err)
                         : fake_weight(q, w, rows, in, pool, cancel, err));
    f.back = true;
    pool_run(pool, PHASE_QUANT_WEIGHT, div_up(rows, ROWS), scale_task, &f, cancel);
    return cancel_check(cancel, err);
}
