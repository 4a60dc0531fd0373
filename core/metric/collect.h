#ifndef SLIM_METRIC_COLLECT_H
#define SLIM_METRIC_COLLECT_H

#include "metric/pass.h"

/* What PassPlan.needs asks for of the plan's selected linears, collected by an observer of any float pass over all texts:
 * pass_statistics is nothing else, and passes with MetricPass.collects take it along. */
typedef struct Collector Collector;

/* The plan must outlive it. Errors leave *out as it was. */
Status collector_new(Collector **out, const PassPlan *p, Error *err);
/* NULL is fine. */
void collector_free(Collector *c);
/* Lives as long as c. */
Observer collector_observer(Collector *c);
/* [job] a unit ran: the results of its selected linears, (*r)[*n] in their order. Their buffers are the caller's, the array
 * is lent until the next unit. */
Status collector_unit(Collector *c, int unit, LinearResult **r, int *n, Error *err);
/* Bytes of its tables. */
uint64_t collector_bytes(const PassPlan *p, int threads);

#endif
