#include "quant/forms.h"
#include "quant/hessian.h"

/* What forms need of a pass and of memory, before there is any. */

bool layer_forms_whole(const Model *m, const QuantLevel *levels, const int16_t *level, bool peer)
{
    for (int64_t i = 0; i < m->nlinears; i++) {
        if (level[i] == 0)
            continue;
        const QuantLevel *l = &levels[level[i] - 1];
        if (l->act->observer || l->weight->prepare || (peer && l->act->sample))
            return true;
    }
    return false;
}

uint64_t layer_forms_bytes(const Model *m, const QuantLevel *levels, const int16_t *level, bool peer, int threads)
{
    uint64_t most = 0, kept = 0, work = 0;
    int32_t layer = -1;
    for (int64_t i = 0; i < m->nlinears; i++) {
        const Linear *l = &m->linears[i];
        if (l->layer != layer)
            kept = 0;
        layer = l->layer;
        if (level[i] == 0)
            continue;
        const QSpec *q = &levels[level[i] - 1].config->weight;
        const WeightQuantizer *w = levels[level[i] - 1].weight;
        if (!w || weight_quantizer_rowwise(w, q, peer))
            continue;
        kept += qweight_bytes(q, l->out, l->in);
        uint64_t one = (uint64_t)l->out * (uint64_t)l->in * sizeof(float);
        one += w->scratch ? w->scratch(q, l->out, l->in, threads) : 0;
        if (w->prepare) { /* before it the moments are gathered, then prepared */
            uint64_t gather = hessian_scratch(l->in, threads), make = w->prepare_bytes(l->in, threads);
            gather = gather > make ? gather : make;
            one = (one > gather ? one : gather) + (uint64_t)l->in * (uint64_t)l->in * sizeof(float) + (uint64_t)l->in * 16;
        }
        work = one > work ? one : work;
        most = kept > most ? kept : most;
    }
    return most + work;
}
