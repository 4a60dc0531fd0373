#ifndef SLIM_PROCESS_QUANTRUN_IMPL_H
#define SLIM_PROCESS_QUANTRUN_IMPL_H

#include "process/cachelayers.h"
#include "process/cachewatch.h"
#include "quant/quantform.h"
#include "process/processor.h"
#include "process/quantrun.h"

/* Inside quantrun*.c. */

/* An item of spec.process as the run sees it. */
typedef struct RunUnit {
    const RecipeUnit *u; /* NULL: a saver that runs the layer again (the peer's compressed_tensors) */
    bool data;           /* has a forward of its own */
} RunUnit;

typedef struct QuantRun {
    Runner *r;
    const Model *m;
    const QuantRunOptions *o;
    QuantRunResult *out;
    DType T;             /* in which weights are quantized and activations begin */
    int64_t *first;      /* [layers+1] first linear of each layer */
    RunUnit *units;
    int nunits;
    int last_data;       /* last layer that needs a forward, -1: none */
    void **saver;        /* [nsavers] */
    SavePlan *plan;      /* [nsavers] */
    int *saver_first;    /* [nsavers] first layer it still takes */
    int first_layer;     /* the least of them */
    char flow[65];       /* digest for a resume: SavePlan.flow */
    Stream x, y;         /* the layer's input; y: what a unit's forward gives when it isn't the last */
    bool wide;           /* the peer: x is float32 though the model isn't */
    int64_t ahead;       /* linear whose weight is read next, -1: none */
    FormsOptions forms;
} QuantRun;

/* What a layer's pass found besides the linears' parameters. */
typedef struct LayerCache {
    CacheWatch watch;
    const RecipeCache *spec; /* NULL: none */
    DType T;
} LayerCache;

/* The dynamic_cache step that takes this layer's attention, NULL: none. name (may be NULL) gets the module's name.
 * ST_DATA: a pattern is bad. */
Status cache_step(const Recipe *r, const Model *m, int layer, const RecipeCache **out, char name[256], Error *err);

/* Runs the units' forwards over x, which becomes the next layer's input. */
Status quantrun_forward(QuantRun *q, int layer, LayerForms *forms, LayerCache *cache, Error *err);
/* Quantizes the layer's weights and hands everything to the savers. */
Status quantrun_write(QuantRun *q, int layer, LayerForms *forms, const LayerCache *cache, Error *err);

#endif
