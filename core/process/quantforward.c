#include <string.h>

#include "process/quantrun_impl.h"

/* The forwards of one layer (specs/quantization.md 8, 10). Ours is one pass in which every unit calibrates. The peer's
 * units run one after the other over the same input, each through what those before it deployed, and the last one that
 * ran gives the next layer's input. */

static Status pass(QuantRun *q, int layer, const LayerForms *forms, VariantDtype dtype, Stream *out, LayerCache *cache,
                   Error *err)
{
    Variant v = {.forms = forms->table, .dtype = dtype, .sdpa = q->o->peer};
    Observer obs = cache_watch_observer(&cache->watch);
    return runner_layer(q->r, layer, &v, &q->x, out, &obs, cache->spec ? 1 : 0, err);
}

static Status forward_ours(QuantRun *q, int layer, LayerForms *forms, LayerCache *cache, Error *err)
{
    const FormTypes t = {.input = q->T, .inner = q->T, .kept = q->T};
    RETURN_IF_ERROR(layer_forms_stage(forms, 0, FORM_CALIBRATE, &t, err));
    cache->T = q->T;
    return pass(q, layer, forms, VARIANT_MODEL, &q->x, cache, err);
}

/* Sends the linears of unit u to a stage. */
static Status stage_unit(const RunUnit *u, LayerForms *forms, FormStage stage, const FormTypes *t, Error *err)
{
    for (int i = 0; u->u && i < u->u->nsteps; i++)
        if (u->u->steps[i].entry >= 0)
            RETURN_IF_ERROR(layer_forms_stage(forms, u->u->steps[i].entry + 1, stage, t, err));
    return ST_OK;
}

/* Whether a linear that this unit deployed in the layer returns float32 (all but block formats do). */
static bool unit_widens(const QuantRun *q, int layer, const RunUnit *u)
{
    for (int i = 0; u->u && i < u->u->nsteps; i++) {
        if (u->u->steps[i].entry < 0)
            continue;
        int level = u->u->steps[i].entry + 1;
        if (q->o->levels[level - 1].weight.scope == QS_PER_BLOCK)
            continue;
        for (int64_t l = q->first[layer]; l < q->first[layer + 1]; l++)
            if (q->o->level[l] == level)
                return true;
    }
    return false;
}

static bool unit_watches(const RunUnit *u, const RecipeCache *spec)
{
    for (int i = 0; u->u && i < u->u->nsteps; i++)
        if (u->u->steps[i].processor == &processor_dynamic_cache && u->u->steps[i].settings == spec)
            return true;
    return false;
}

/* Unit k's forward; `wide`: deployed linears of the layer return float32. */
static Status forward_unit(QuantRun *q, int layer, int k, bool wide, bool last, LayerForms *forms, LayerCache *cache,
                           Error *err)
{
    DType in = q->wide ? DT_F32 : q->T;
    const FormTypes t = {.input = in, .inner = wide || q->wide ? DT_F32 : q->T, .kept = in};
    LayerCache none = {.spec = NULL}, *watch = unit_watches(&q->units[k], cache->spec) ? cache : &none;
    for (int i = 0; i < k; i++)
        RETURN_IF_ERROR(stage_unit(&q->units[i], forms, FORM_DEPLOYED, &t, err));
    RETURN_IF_ERROR(stage_unit(&q->units[k], forms, FORM_CALIBRATE, &t, err));
    if (!last && !q->y.data)
        RETURN_IF_ERROR(stream_copy(&q->y, &q->x, err));
    watch->T = t.inner;
    VariantDtype dtype = q->wide ? VARIANT_WIDE : wide ? VARIANT_MIXED : VARIANT_MODEL;
    RETURN_IF_ERROR(pass(q, layer, forms, dtype, last ? &q->x : &q->y, watch, err));
    q->wide = last ? q->wide || (wide && q->T != DT_F32) : q->wide;
    return ST_OK;
}

static Status forward_peer(QuantRun *q, int layer, LayerForms *forms, LayerCache *cache, Error *err)
{
    bool wide = false;
    int last = q->nunits - 1;
    while (last >= 0 && !q->units[last].data)
        last--;
    for (int k = 0; k <= last; k++) {
        if (q->units[k].data)
            RETURN_IF_ERROR(forward_unit(q, layer, k, wide, k == last, forms, cache, err));
        wide = wide || (q->T != DT_F32 && unit_widens(q, layer, &q->units[k]));
    }
    return ST_OK;
}

Status quantrun_forward(QuantRun *q, int layer, LayerForms *forms, LayerCache *cache, Error *err)
{
    return q->o->peer ? forward_peer(q, layer, forms, cache, err) : forward_ours(q, layer, forms, cache, err);
}
