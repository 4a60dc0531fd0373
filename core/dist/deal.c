#include "dist/deal.h"

#include <stdlib.h>

#include "base/mem.h"

typedef struct Thing {
    uint64_t cost;
    int64_t at;
} Thing;

static int dearest_first(const void *a, const void *b)
{
    const Thing *x = a, *y = b;
    if (x->cost != y->cost)
        return x->cost > y->cost ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static double end_of(const uint64_t *has, const double *speed, int r, uint64_t cost)
{
    return (double)(has[r] + cost) / (speed ? speed[r] : 1);
}

static int first_done(const uint64_t *has, const double *speed, int size, int begin, uint64_t cost)
{
    int best = begin % size;
    for (int k = 1; k < size; k++) {
        const int r = (begin + k) % size;
        best = end_of(has, speed, r, cost) < end_of(has, speed, best, cost) ? r : best;
    }
    return best;
}

Status deal_out(const uint64_t *cost, int64_t n, const double *speed, int size, int begin, int32_t *rank_of, Error *err)
{
    Thing *t = mem_array((size_t)n + 1, sizeof *t);
    uint64_t *has = mem_zarray((size_t)size, sizeof *has);
    Status st = t && has ? ST_OK : error_nomem(err, "the division of work");
    for (int64_t i = 0; st == ST_OK && i < n; i++)
        t[i] = (Thing){cost[i], i};
    if (st == ST_OK && n)
        qsort(t, (size_t)n, sizeof *t, dearest_first);
    for (int64_t i = 0; st == ST_OK && i < n; i++) {
        const int r = first_done(has, speed, size, begin, t[i].cost);
        rank_of[t[i].at] = r;
        has[r] += t[i].cost;
    }
    free(t);
    free(has);
    return st;
}
