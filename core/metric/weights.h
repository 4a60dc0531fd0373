#ifndef SLIM_METRIC_WEIGHTS_H
#define SLIM_METRIC_WEIGHTS_H

#include "metric/metric.h"
#include "metric/pass.h"
#include "run/weightwalk.h"

/* Analyses that look at weights only. One pass reads every selected linear and shows its rows to those that are asked for;
 * a new one is a WeightAnalysis in a file of its own and a word in core/registry.c. */
extern const MetricPass pass_weights;

/* The linear at hand. */
typedef struct WeightCase {
    const PassPlan *plan;
    Runner *r;
    int64_t linear, blocks;
    const Linear *l;
    double n;          /* values */
    /* known after sweep 0 */
    double sum;
    float min, max;
    bool fine;         /* no value has bits below the upper 16 of a float32: bfloat16 */
} WeightCase;

/* What a worker has beside the block: room for as many values, another copy of them. */
typedef struct WeightScratch {
    float *copy, *more;
} WeightScratch;

typedef struct WeightScores {
    PassScore *score;
    size_t n, cap;
} WeightScores;

typedef struct WeightAnalysis {
    Metric metric; /* its pass is pass_weights */
    size_t size;   /* bytes of `self`, zeroed before begin */
    /* For the whole pass, and its end (also after an error of begin); NULL: nothing. */
    Status (*begin)(void *self, const PassPlan *p, int threads, Error *err);
    void (*end)(void *self);
    uint64_t (*bytes)(const PassPlan *p, int threads); /* of the tables; NULL: few */
    /* The doubles that a block leaves. */
    int (*sums)(const void *self);
    /* Of each linear: whether rows are to be shown in sweep 0, 1, ... WEIGHT_SWEEPS - 1. */
    bool (*wants)(void *self, const WeightCase *c, int sweep);
    /* [worker] Fills sum, which is zeroed. */
    void (*block)(void *self, const WeightCase *c, int sweep, const WeightBlock *b, const WeightScratch *s, double *sum);
    /* After each sweep that it wanted, with all values finite: the sums [c->blocks][sums] in the order of the blocks. */
    void (*swept)(void *self, const WeightCase *c, int sweep, const double *sum);
    /* After the sweeps: adds the linear's scores. */
    Status (*finish)(void *self, const WeightCase *c, WeightScores *out, Error *err);
} WeightAnalysis;
enum { WEIGHT_SWEEPS = 3 };

/* Column k of sums [n][stride], in their order: added, and the largest. */
double weights_total(const double *sum, int64_t n, int stride, int k);
double weights_top(const double *sum, int64_t n, int stride, int k);
/* A score of the case's linear, with this reason when it has none. */
Status weights_add(WeightScores *out, const WeightAnalysis *a, const WeightCase *c, const UnitScore *s, Error *err);

#endif
