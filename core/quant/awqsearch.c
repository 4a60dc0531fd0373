#include "quant/awqsearch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dist/dist.h"
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

static double exponent(const AwqTask *t, int k)
{
    return (double)k / (double)t->grid;
}

/* Losses of the exponents that are this rank's turn, then of all. */
static Status try_all(const AwqTask *t, const float *a, float *tried, double *losses, Error *err)
{
    const int size = dist_size(t->dist);
    Pack mine = {0}, *all = NULL;
    for (int k = dist_rank(t->dist); k < t->grid; k += size) {
        losses[k] = NAN;
        ratio_scales(t, a, exponent(t, k), tried);
        RETURN_IF_ERROR(t->loss(t->ctx, tried, &losses[k], err));
    }
    if (size == 1)
        return ST_OK;
    for (int k = dist_rank(t->dist); k < t->grid; k += size)
        pack_f64(&mine, losses[k]);
    Status st = dist_gather_all(t->dist, &mine, &all, err);
    pack_fini(&mine);
    for (int r = 0; st == ST_OK && r < size; r++) {
        Unpack in = unpack_of(&all[r]);
        for (int k = r; k < t->grid; k += size)
            losses[k] = unpack_f64(&in);
    }
    dist_packs_free(all, size);
    return st;
}

static Status search(const AwqTask *t, const float *a, float *tried, float *s, double *losses, AwqFound *out, Error *err)
{
    int best = -1;
    RETURN_IF_ERROR(try_all(t, a, tried, losses, err));
    for (int k = 0; k < t->grid; k++)
        if (losses[k] < (best < 0 ? INFINITY : losses[best]))
            best = k;
    out->before = t->grid > 0 ? losses[0] : NAN;
    if (best < 0)
        return ST_OK;
    out->any = true;
    out->ratio = exponent(t, best);
    out->loss = losses[best];
    ratio_scales(t, a, out->ratio, s);
    return ST_OK;
}

Status awq_search(const AwqTask *t, float *s, double *losses, AwqFound *out, Error *err)
{
    *out = (AwqFound){.loss = NAN, .before = NAN};
    for (int64_t j = 0; j < t->in; j++)
        s[j] = 1.0f;
    float *a = mem_array((size_t)t->in, sizeof *a), *tried = mem_array((size_t)t->in, sizeof *tried);
    double *all = losses ? losses : mem_array((size_t)t->grid, sizeof *all);
    Status st = a && tried && all ? ST_OK : error_nomem(err, "the search for awq's scales");
    if (st == ST_OK) {
        shared_means(t, a);
        st = search(t, a, tried, s, all, out, err);
    }
    if (!losses)
        free(all);
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
