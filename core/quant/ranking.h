#ifndef SLIM_QUANT_RANKING_H
#define SLIM_QUANT_RANKING_H

#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"

/* The k-th smallest of the values of a matrix, found by counting, not by sorting: its rows are made twice, in tasks. */

/* Values of row `row` into out[width]: not negative, no NaN. [worker] */
typedef void RankRow(const void *ctx, int64_t row, float *out);

typedef struct Ranking {
    int64_t rows, width;
    RankRow *row;
    const void *ctx;
    Pool *pool;           /* NULL: this thread only */
    const Cancel *cancel; /* may be NULL */
    float *values;        /* the rest is ranking.c's */
    uint32_t *count;
    uint32_t high;
} Ranking;

/* What is not above a place among the values. */
typedef struct RankCut {
    float at;      /* the value there */
    int64_t below; /* how many values are smaller */
    int64_t equal; /* how many are the same */
} RankCut;

/* The members before `values` are the caller's. ST_NOMEM. */
Status ranking_init(Ranking *r, Error *err);
void ranking_fini(Ranking *r);
/* k in [1, rows * width]. ST_CANCELLED. The same for every number of threads. */
Status ranking_find(Ranking *r, int64_t k, RankCut *out, Error *err);
/* Bytes that one takes. */
uint64_t ranking_bytes(int64_t width, int threads);

#endif
