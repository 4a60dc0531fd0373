#ifndef SLIM_PROCESS_SINK_KEEP_H
#define SLIM_PROCESS_SINK_KEEP_H

#include "process/pipeline.h"

/* The pipeline's sink that keeps how every decoder layer computes once it is quantized, so that passes of any kind can follow:
 * linears as a measurement runs them, with the weights that were made (one byte a parameter; those of row-wise methods are
 * made anew from the file). */
typedef struct KeptModel {
    const Model *m;
    LayerForms *forms;        /* [layers] */
    AttnForms *attn;          /* [layers] */
    Variant *variants;        /* [layers] */
    const Variant **variant;  /* [layers] for runner_layer */
    FormsOptions opt;
    int64_t unseen;           /* linears that stay float, for want of calibration tokens */
} KeptModel;
/* Room for m. Caller frees with keptmodel_fini, before the pipeline. */
Status keptmodel_init(KeptModel *k, const Model *m, Error *err);
void keptmodel_fini(KeptModel *k);
/* Lives as long as the run. */
Sink keep_sink(KeptModel *k);
/* Bytes that it takes, at most. */
uint64_t keptmodel_bytes(const Pipeline *p);

#endif
