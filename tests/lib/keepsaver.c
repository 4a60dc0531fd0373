#include "tests/lib/keepsaver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static Kept *sink; /* of the run under test */

static Status keep_open(void **self, const SaveFormat *f, const SavePlan *plan, bool resume, int *first_layer, Error *err)
{
    (void)f, (void)plan, (void)err;
    *self = sink;
    *first_layer = resume ? sink->first_layer : 0;
    return ST_OK;
}

static Status keep_linear(void *self, const SaveLinear *l, Error *err)
{
    Kept *k = self;
    const QWeight *w = l->weight;
    QWeight *c = &k->w[l->linear];
    if (k->fault && l->linear == k->n - 1)
        return error_set(err, ST_IO, "%s", k->fault);
    assert_null(c->code); /* once */
    assert_int_equal(qweight_init(c, &l->config->weight, w->out, w->in, err), ST_OK);
    size_t n = (size_t)(w->out * w->groups);
    memcpy(c->code, w->code, (size_t)(w->out * w->in) * qweight_code(w->dtype));
    c->half = w->half;
    if (w->scale)
        memcpy(c->scale, w->scale, n * sizeof *w->scale);
    if (w->offset)
        memcpy(c->offset, w->offset, n * sizeof *w->offset);
    if (w->exponent)
        memcpy(c->exponent, w->exponent, n);
    if (w->outer)
        memcpy(c->outer, w->outer, (size_t)(w->out * w->outer_blocks) * sizeof *w->outer);
    k->l[l->linear] = *l;
    return ST_OK;
}

static Status keep_keep_float(void *self, int64_t linear, Error *err)
{
    (void)err;
    Kept *k = self;
    assert_null(k->w[linear].code);
    return ST_OK;
}

static Status keep_cache(void *self, const SaveCache *c, Error *err)
{
    (void)err;
    Kept *k = self;
    assert_true(k->caches < 8);
    float *all = malloc(4 * (size_t)c->n * sizeof *all);
    const float *from[] = {c->k_scale, c->k_offset, c->v_scale, c->v_offset};
    assert_non_null(all);
    for (int i = 0; i < 4; i++)
        memcpy(all + i * c->n, from[i], (size_t)c->n * sizeof *all);
    k->scales[k->caches] = all;
    k->cache[k->caches++] = *c;
    return ST_OK;
}

static Status keep_layer_done(void *self, int layer, Error *err)
{
    (void)err;
    Kept *k = self;
    k->layers_done = layer + 1;
    if (k->stop_after == k->layers_done)
        atomic_store(&k->stop->level, 1);
    return ST_OK;
}

static Status keep_finish(void *self, Error *err)
{
    (void)err;
    ((Kept *)self)->finished = true;
    return ST_OK;
}

static void keep_close(void *self, bool keep)
{
    ((Kept *)self)->closed = true;
    ((Kept *)self)->kept = keep;
}

static const SaverOps keeping = {.open = keep_open, .linear = keep_linear, .keep_float = keep_keep_float,
                                 .cache = keep_cache, .layer_done = keep_layer_done, .finish = keep_finish,
                                 .close = keep_close};
const SaveFormat keep_saver = {.type = "keeper", .weights = "kept", .ops = &keeping};

void kept_init(Kept *k, int64_t n)
{
    *k = (Kept){.n = n, .w = calloc((size_t)n, sizeof *k->w), .l = calloc((size_t)n, sizeof *k->l), .stop_after = -1};
    assert_true(k->w && k->l);
    sink = k;
}

void kept_fini(Kept *k)
{
    for (int64_t i = 0; i < k->n; i++)
        qweight_fini(&k->w[i]);
    for (int i = 0; i < k->caches; i++)
        free(k->scales[i]);
    free(k->w);
    free(k->l);
}
