#ifndef SLIM_SRC_REPORTDATA_H
#define SLIM_SRC_REPORTDATA_H

#include "session/session.h"
#include "src/output.h"

/* What a session's report is made of, for the page and the text alike. */

/* A metric over the layers: rows are kinds of unit ("mlp.down_proj"), columns layers. */
enum { LAYERMAP_KINDS = 24, LAYERMAP_NAME = 64 };
typedef struct LayerMap {
    char kind[LAYERMAP_KINDS][LAYERMAP_NAME];
    int kinds, layers;
    double *value;    /* [LAYERMAP_KINDS][layers] the most sensitive; NaN: none */
    bool *failed;     /* and whether one had no score */
    double lo, hi;    /* of the values; lo > hi: there are none */
    int64_t left_out; /* units of no layer, or of kinds beyond */
} LayerMap;
/* Caller frees with layermap_free. ST_NOMEM. */
Status layermap_make(const Session *s, const Metric *m, LayerMap **out, Error *err);
void layermap_free(LayerMap *map);
/* Share of the scale, logarithmic where all values are above zero. */
double layermap_share(const LayerMap *map, double v);

/* The metric that is shown, or the first that has scores; NULL: none has. And the one to set beside it. */
const Metric *report_metric(const Session *s);
const Metric *report_beside(const Session *s, const Metric *shown);
/* Both scores of a linear; false: one has none. */
bool report_both(const Session *s, const Metric *x, const Metric *y, int64_t linear, double v[2]);

/* The first linear of each of the most sensitive units that have a histogram, at most `most`; gives how many. */
Status report_worst(const Session *s, const Metric *m, int most, int64_t *linear, double *score, int *n, Error *err);

/* What measurements span. */
typedef struct FrontSpan {
    double lo[2], hi[2]; /* MiB, KL */
    int n;               /* measurements */
} FrontSpan;
FrontSpan report_span(const Session *s);
/* Points of the predicted front worth drawing: those within a factor of 300 of the largest KL that was measured. */
bool report_on_front(const FrontRow *r, const FrontSpan *v);

/* Weights of a report's layers are read for it as long as they have no more values than this, all together. */
enum { REPORT_VALUES = 128 << 20 };

/* The session's plots and rankings as text, 80 columns wide, drawn with `form` (src/chart.h). Needs an open model. */
Status report_text(Session *s, int form, Str *out, Error *err);

#endif
