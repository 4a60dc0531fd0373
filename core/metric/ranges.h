#ifndef SLIM_METRIC_RANGES_H
#define SLIM_METRIC_RANGES_H

#include "metric/pass.h"
#include "quant/forms.h"

/* Ranges of inputs for passes that quantize single units without a calibration of their own: those that input_range has
 * already, the rest from a float pass over the calibration texts. */

/* The same level for such a pass: methods that need data stand as minmax on their grid. */
QConfig level_without_data(const QConfig *q);

typedef struct RangeSet {
    Runner *r;
    const PassPlan *p;
    const QuantLevel *level;    /* [p->nlevels] */
    Scores found;               /* input_range */
    int64_t done, total;        /* steps of the pass that asks */
    const PassSink *sink;
} RangeSet;

/* Every range that is wanted, wanted[level - 1][nlinears], in s->found; what a float pass finds is told to the sink too.
 * Experts that no token reaches have none. Ended by scores_fini(&s->found), also after an error. */
Status ranges_find(RangeSet *s, const bool *wanted, Error *err);
/* Whether there are such ranges of a level at all. */
bool range_needed(const QuantLevel *l);
/* Forms of a layer whose linears are at level[nlinears] are calibrated as if they had found them. */
void ranges_recall(const RangeSet *s, LayerForms *forms, const int16_t *level, const FormTypes *t);

#endif
