#ifndef SLIM_METRIC_SEARCH_H
#define SLIM_METRIC_SEARCH_H

#include "metric/metric.h"
#include "quant/products.h"

/* The float pass in which methods are tried on each linear: what smoothing, scales and GPTQ would gain at its level. */

/* Tokens on which outputs are compared, from the beginnings of the texts. */
enum { SEARCH_TOKENS = 256, SEARCH_LEAST = 16 };

/* What linears that share an input share. */
typedef struct SearchInput {
    const PassPlan *p;
    Pool *pool;
    const Cancel *cancel;
    int64_t width, rows;
    int samples;
    const float *x;         /* [rows][width] */
    const float *lo, *hi;   /* [width] extremes */
    const double *mean_abs; /* [width] */
    const float *column;    /* [width] max|W| over all weights that read it */
    const float *probe;     /* [nprobe][width] */
    int64_t nprobe;
} SearchInput;

typedef struct SearchLinear {
    const SearchInput *in;
    const Linear *l;
    const QConfig *q;       /* its level */
    const float *w;         /* [out][in] */
    float *work;            /* [out][in] */
} SearchLinear;

typedef struct Search {
    const Metric *metric;
    /* [job] value and parts of *u. ST_DATA: the linear has no score, the text says why. */
    Status (*run)(const SearchLinear *s, UnitScore *u, Error *err);
    uint64_t (*bytes)(const Linear *l, const QConfig *q, int threads); /* beside w and work */
} Search;

extern const Metric metric_smooth_alpha, metric_awq_search, metric_gptq_gain;
extern const Search search_smooth_alpha, search_awq, search_gptq;
extern const MetricPass pass_search;

/* Exponents that are tried: 0, 0.1, ... 1. */
enum { ALPHAS = 11 };
static inline double search_alpha(int i)
{
    return i / 10.0;
}
/* A linear that the search has nothing to say of, which is no failure. */
void search_absent(UnitScore *u, const char *why);

#endif
