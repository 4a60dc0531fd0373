#ifndef SLIM_SESSION_RECORD_H
#define SLIM_SESSION_RECORD_H

#include "base/str.h"
#include "metric/metric.h"
#include "model/model.h"

/* Results of a layer as JSON for the journal, and back (new results, the caller's). */
void record_results(Str *b, const LinearResult *r, int n, const Model *m);
struct cJSON;
Status record_parse(const struct cJSON *rows, const Model *m, LinearResult **out, int *n, Error *err);

/* Values of passes as JSON, by the names of their metrics: {"NAME":[{"i":unit,...}]}; and back into `to`. A metric that
 * this build does not have is left out; a unit that the model does not have is ST_DATA. */
void record_scores(Str *b, const PassScore *s, int64_t n);
Status record_parse_scores(const struct cJSON *metrics, Scores *to, Error *err);

#endif
