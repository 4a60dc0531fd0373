#ifndef SLIM_METRIC_LOOK_H
#define SLIM_METRIC_LOOK_H

#include "metric/pass.h"

/* [job] The whole input x[rows][width] that linear `leader` and others share, rows packed as in `shape`. */
typedef Status LookAtInput(void *ctx, int64_t leader, const float *x, const Stream *shape, int64_t width, Error *err);

/* Runs a unit in float and shows every input that a selected linear reads before it is multiplied; one that no token
 * reaches isn't shown. out may be in. All rows are held at once (RunnerAsk.whole). */
Status look_forward(Runner *r, const PassPlan *p, int unit, const Stream *in, Stream *out, LookAtInput *fn, void *ctx,
                    Error *err);
/* Bytes of it over all tokens of the plan, for MetricPass.need. */
uint64_t look_need(const PassPlan *p, int threads);

#endif
