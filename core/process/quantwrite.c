#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/weight.h"
#include "process/quantrun_impl.h"

/* One layer's weights, one after the other: read, quantized, handed to every saver. */

/* Told by their number and the first: a large model may have thousands. */
static Status keep_float(QuantRun *q, int layer, int64_t linear, Error *err)
{
    if (q->out->unseen++ == 0)
        snprintf(q->out->first_unseen, sizeof q->out->first_unseen, "%s", q->m->linears[linear].name);
    q->out->floats++;
    for (int i = 0; i < q->o->nsavers; i++)
        if (layer >= q->saver_first[i])
            RETURN_IF_ERROR(q->o->savers[i]->keep_float(q->saver[i], linear, err));
    return ST_OK;
}

/* The next quantized linear, whose weight can be read meanwhile; not beyond the layer when a forward comes between. */
static int64_t next_linear(const QuantRun *q, int layer, int64_t linear)
{
    int64_t end = layer < q->last_data ? q->first[layer + 1] : q->m->nlinears;
    for (int64_t i = linear + 1; i < end; i++)
        if (q->o->level[i])
            return i;
    return -1;
}

static Status write_linear(QuantRun *q, int layer, LayerForms *forms, int64_t i, Error *err)
{
    int64_t linear = forms->first + i;
    const Linear *lin = &q->m->linears[linear];
    const QConfig *c = &q->o->levels[q->o->level[linear] - 1];
    SaveLinear l = {.linear = linear, .config = c, .scheme = scheme_find(c), .act_dtype = q->T};
    QWeight w;
    float *bias = NULL;
    q->ahead = next_linear(q, layer, linear);
    Status st = layer_forms_take(forms, i, &w, err);
    q->ahead = -1;
    RETURN_IF_ERROR(st);
    l.weight = &w;
    l.has_act = layer_forms_param(forms, i, &l.act, &l.act_dtype);
    st = runner_bias(q->r, linear, &bias, err);
    l.bias = bias;
    for (int s = 0; s < q->o->nsavers && st == ST_OK; s++)
        if (layer >= q->saver_first[s])
            st = q->o->savers[s]->linear(q->saver[s], &l, err);
    q->out->bytes_written += scheme_bytes(l.scheme, c, &(SchemeLinear){lin, bias != NULL, q->o->peer, q->m->cfg.dtype});
    free(bias);
    qweight_fini(&w);
    q->out->quantized++;
    q->out->bytes_read += weight_bytes(lin);
    return st;
}

static Status write_cache(QuantRun *q, int layer, const LayerCache *cache, Error *err)
{
    char name[256];
    const RecipeCache *spec;
    float *scale[2] = {NULL, NULL}, *offset[2];
    int64_t n[2];
    Status st = cache_step(q->o->recipe, q->m, layer, &spec, name, err);
    for (int i = 0; i < 2 && st == ST_OK; i++)
        st = cache_watch_params(&cache->watch, i, &spec->q, cache->T, &scale[i], &offset[i], &n[i], err);
    if (st == ST_OK && n[0] != n[1])
        st = error_set(err, ST_DATA, "'%s': keys are %lld wide and values %lld: C8 can't be written", name,
                       (long long)n[0], (long long)n[1]);
    for (int s = 0; s < q->o->nsavers && st == ST_OK; s++) {
        if (layer < q->saver_first[s])
            continue;
        if (!q->o->savers[s]->cache)
            st = error_set(err, ST_DATA, "%s can't write dynamic_cache", q->o->savers[s]->type);
        else
            st = q->o->savers[s]->cache(q->saver[s],
                                        &(SaveCache){.layer = layer, .attention = name, .n = n[0], .k_scale = scale[0],
                                                     .k_offset = offset[0], .v_scale = scale[1], .v_offset = offset[1],
                                                     .dtype = cache->T}, err);
    }
    free(scale[0]);
    free(scale[1]);
    return st;
}

Status quantrun_write(QuantRun *q, int layer, LayerForms *forms, const LayerCache *cache, Error *err)
{
    for (int64_t i = 0; i < forms->n; i++) {
        if (cancel_level(runner_cancel(q->r)))
            return error_set(err, ST_CANCELLED, "cancelled");
        if (q->o->level[forms->first + i] == 0)
            q->out->floats++;
        else if (layer_forms_unseen(forms, i))
            RETURN_IF_ERROR(keep_float(q, layer, forms->first + i, err));
        else
            RETURN_IF_ERROR(write_linear(q, layer, forms, i, err));
    }
    if (cache->spec)
        RETURN_IF_ERROR(write_cache(q, layer, cache, err));
    for (int s = 0; s < q->o->nsavers; s++)
        if (layer >= q->saver_first[s])
            RETURN_IF_ERROR(q->o->savers[s]->layer_done(q->saver[s], layer, err));
    return ST_OK;
}
