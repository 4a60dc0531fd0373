#ifndef SLIM_SESSION_RECORD_H
#define SLIM_SESSION_RECORD_H

#include "base/str.h"
#include "metric/metric.h"
#include "model/model.h"

/* Results of a layer as JSON for the journal, and back (new results, the caller's). */
void record_results(Str *b, const LinearResult *r, int n, const Model *m);
struct cJSON;
Status record_parse(const struct cJSON *rows, const Model *m, LinearResult **out, int *n, Error *err);

#endif
