#ifndef SLIM_METRIC_WATCH_H
#define SLIM_METRIC_WATCH_H

#include "metric/metric.h"
#include "run/observer.h"

/* The float pass in which metrics only look: each has a Watch, those asked for share the forward. */

/* Scores of one layer. */
typedef struct WatchOut {
    PassScore *score;
    size_t n, cap;
} WatchOut;
Status watch_put(WatchOut *out, const Metric *m, const UnitScore *u, Error *err);

typedef struct Watch {
    const Metric *metric;
    const ObserverOps *ops; /* over what `open` gives; NULL: the layer's output is enough */
    /* [job] what it keeps during a pass; closed by `close` also after an error. */
    Status (*open)(const PassPlan *p, void **self, Error *err);
    /* [job] a unit ran, h is its output: puts the scores of the unit's linears, or of the unit. */
    Status (*layer)(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err);
    void (*close)(void *self);
    uint64_t (*bytes)(const PassPlan *p, int threads);
    bool outputs; /* watches outputs of linears, which passes then keep apart */
    bool meets;   /* of several ranks each comes to `layer`, with its texts' h, where they exchange what they found; rank 0
                   * puts the scores. Otherwise `ops` must pack and merge, and `layer` is rank 0's alone */
} Watch;

extern const Metric metric_act_outliers, metric_output_outliers, metric_massive, metric_coverage, metric_expert_load,
    metric_text_range;
extern const Watch watch_act_outliers, watch_output_outliers, watch_massive, watch_coverage, watch_expert_load,
    watch_text_range;
extern const MetricPass pass_watch;

/* What a linear's input or output came to when its last sample was seen. */
typedef struct TapScore {
    UnitScore u;
    bool ended;
} TapScore;
/* That score; of one that no token reached why it has none, absent. */
UnitScore watch_tap_score(const TapScore *t);
/* Whether one of the linears that the pass is to score sees (kind TAP_LINEAR_IN) or makes (TAP_LINEAR_OUT) what is tapped. */
bool watch_wants_tap(const PassPlan *p, TapKind kind, Tap tap);

/* Whether the pass is to score something of a unit, and linear i. */
bool watch_wants_unit(const PassPlan *p, int unit);
static inline bool watch_wants(const PassPlan *p, int64_t i)
{
    return !p->selected || p->selected[i];
}

/* Where the first NaN or Inf of a tap is: of its first sample that has one. begins with sample -1. */
typedef struct BadPlace {
    int sample;
    int64_t row, channel;
    bool nan;
} BadPlace;
/* Marks a score that is not defined, parts and all: why. */
void watch_undefined(UnitScore *u, const char *why);
/* Notes the first in x[rows][ld], rows of the sample from row0 on, unless an earlier one is known; false: there is none. */
bool bad_place_find(BadPlace *b, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld);
/* Between ranks: merge takes over the place of a part that begins with sample `first`, unless an earlier one is known. */
void watch_pack_bad(const BadPlace *b, Pack *out);
void watch_merge_bad(BadPlace *b, int64_t first, Unpack *in);
/* The sample of all texts that this rank's begin with. */
int64_t watch_first_sample(const PassPlan *p);
/* "NaN first at sample 7 token 211 channel 88", counted from 0. */
void bad_place_text(const BadPlace *b, char *out, int size);

#endif
