#ifndef SLIM_METRIC_PROBE_H
#define SLIM_METRIC_PROBE_H

#include "metric/metric.h"
#include "metric/sampleparts.h"
#include "quant/forms.h"
#include "run/runner.h"

/* Quantized units for passes that compare them with float ones: the plan's selected linears at its levels. */
typedef struct Probe {
    const PassPlan *p;
    Runner *r;
    QuantLevel *levels;  /* [p->nlevels] */
    int16_t *level;      /* [nlinears] of the plan, 0 where it selects none */
    FormsOptions opt;
    FormRoom room;
    LayerForms *forms;   /* [model_depth]; zeroed until its unit begins */
    UnitScore *unit;     /* [model_depth] the values so far, with what they were made at */
} Probe;

/* Of a metric whose units are layers: begins with p->before's values where those were made at the same levels. */
Status probe_init(Probe *b, Runner *r, const PassPlan *p, const Metric *m, Error *err);
void probe_fini(Probe *b);
/* Says of the units that have no value why: none of their linears is quantized, or they are [last, depth), behind which no
 * logits come. */
void probe_leave_out(Probe *b, int last);
/* Whether a unit has a linear that is quantized. */
bool probe_has(const Probe *b, int unit);
/* The unit's forms for its next pass, into *v. They calibrate in that pass, which has to show them all texts, unless they
 * did before. ST_DATA: the unit can't be quantized so; the text says why. */
Status probe_unit(Probe *b, int unit, Variant *v, Error *err);
/* Whether the unit's pass is one that calibrates: what ranges and weights it finds hold in those that follow. */
bool probe_calibrates(const Probe *b);
/* Whether what the unit gives in that pass is not yet its quantized output: weights are found in it. */
bool probe_twice(const Probe *b, int unit);
/* What is wrong with the data of one unit (ST_DATA) is the reason that it has no score, others have theirs: ST_OK. */
Status probe_excuse(Probe *b, int unit, Status st, Error *err);
/* The unit's forms go. */
void probe_drop(Probe *b, int unit);
/* Bytes beside the runner's: of one unit at a time, or kept of all. */
uint64_t probe_bytes(const PassPlan *p, bool all, int threads);
/* And the runner's for a quantized unit over all texts. */
typedef struct ProbeNeed {
    bool calibrates;
    uint64_t stream, pass; /* one stream; what lies beside it, in the pass that calibrates where there is one */
    uint64_t more;         /* what any quantized pass takes more than a float one */
} ProbeNeed;
ProbeNeed probe_need(const PassPlan *p, int threads);

/* ---- mean squared errors, as the peer takes them ---- */

/* Adds of each sample the mean square of changed - plain to *u, and the samples and tokens; NaN with a reason in u->why
 * where a value is not finite. first: number of the first sample among all texts. Samples side by side on the pool. */
Status mse_add(UnitScore *u, const Stream *plain, const Stream *changed, int first, Pool *pool, Error *err);
/* The values that there are, to the sink: of units [0, depth), those that have a sample or a reason. */
typedef struct Telling {
    const Metric *metric;
    const PassSink *sink;
    const UnitScore *unit;
    int64_t depth, done, total;
    const Stream *h; /* PassStep.h */
} Telling;
Status mse_tell(const Telling *t, Error *err);

extern const Metric metric_mse_layer_wise, metric_mse_model_wise, metric_attention_mse; /* rows that their passes tell values of */

#endif
