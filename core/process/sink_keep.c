#include "process/sink_keep.h"

#include <stdlib.h>

#include "base/mem.h"

Status keptmodel_init(KeptModel *k, const Model *m, Error *err)
{
    size_t n = (size_t)m->cfg.layers;
    *k = (KeptModel){.m = m, .forms = mem_zarray(n, sizeof *k->forms), .attn = mem_zarray(n, sizeof *k->attn),
                     .variants = mem_zarray(n, sizeof *k->variants), .variant = mem_zarray(n, sizeof *k->variant)};
    if (k->forms && k->attn && k->variants && k->variant)
        return ST_OK;
    keptmodel_fini(k);
    return error_nomem(err, "the quantized model");
}

void keptmodel_fini(KeptModel *k)
{
    for (int i = 0; k->forms && i < k->m->cfg.layers; i++)
        layer_forms_fini(&k->forms[i]);
    free(k->forms);
    free(k->attn);
    free(k->variants);
    free(k->variant);
    *k = (KeptModel){.m = NULL};
}

static Status sink_open(void *self, const Pipeline *p, Runner *r, SinkWants *wants, Error *err)
{
    (void)r;
    (void)err;
    const KeptModel *k = self;
    (void)p;
    *wants = (SinkWants){.first = 0, .end = k->m->cfg.layers, .flow = false};
    return ST_OK;
}

static Status sink_unit(void *self, UnitRun *u, const Stream *flow, Error *err)
{
    (void)flow;
    KeptModel *k = self;
    for (int64_t i = 0; i < u->n; i++)
        k->unseen += unit_unseen(u, i);
    LayerForms *forms = &k->forms[u->unit];
    AttnForms *attn = &k->attn[u->unit];
    RETURN_IF_ERROR(unit_keep(u, forms, attn, &k->opt, err));
    k->variants[u->unit] = (Variant){.forms = forms->any ? forms->table : NULL, .attn = attn_forms(attn)};
    k->variant[u->unit] = &k->variants[u->unit];
    return ST_OK;
}

static void sink_close(void *self, bool keep)
{
    (void)self;
    (void)keep;
}

Sink keep_sink(KeptModel *k)
{
    static const SinkOps ops = {.name = "model in memory", .open = sink_open, .unit = sink_unit, .close = sink_close};
    return (Sink){&ops, k};
}

uint64_t keptmodel_bytes(const Pipeline *p)
{
    const Model *m = pipeline_model(p);
    const Work *w = pipeline_work(p);
    uint64_t sum = 0;
    for (int64_t i = 0; i < m->nlinears; i++)
        if (w->level[i] > 0 && m->linears[i].layer < m->cfg.layers)
            sum += (uint64_t)(m->linears[i].out * m->linears[i].in) + (uint64_t)m->linears[i].out * sizeof(double);
    return sum;
}
