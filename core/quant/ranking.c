#include "quant/ranking.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/convert.h"

/* Floats that aren't negative are in the order of their bits: the first sweep counts them by the upper half of these, the
 * second by the lower half, where the upper is that of the wanted place. Counts are whole numbers, so their sum is the same
 * in any order. */
enum { HALF = 1 << 16, ROWS = 64 };

Status ranking_init(Ranking *r, Error *err)
{
    size_t threads = r->pool ? (size_t)pool_threads(r->pool) : 1;
    r->values = mem_array(threads * (size_t)r->width, sizeof *r->values);
    r->count = mem_array(threads * HALF, sizeof *r->count);
    if (r->values && r->count)
        return ST_OK;
    ranking_fini(r);
    return error_nomem(err, "ranking a weight");
}

void ranking_fini(Ranking *r)
{
    free(r->values);
    free(r->count);
    r->values = NULL;
    r->count = NULL;
}

static void count_rows(Ranking *r, int64_t index, int worker, bool low)
{
    float *v = r->values + (int64_t)worker * r->width;
    uint32_t *count = r->count + (size_t)worker * HALF;
    for (int64_t row = index * ROWS, end = min_i64(row + ROWS, r->rows); row < end; row++) {
        r->row(r->ctx, row, v);
        for (int64_t i = 0; i < r->width && !low; i++)
            count[bits_of_float(v[i]) >> 16]++;
        for (int64_t i = 0; i < r->width && low; i++)
            if (bits_of_float(v[i]) >> 16 == r->high)
                count[bits_of_float(v[i]) & 0xffff]++;
    }
}

static void high_task(void *ctx, int64_t index, int worker)
{
    count_rows(ctx, index, worker, false);
}

static void low_task(void *ctx, int64_t index, int worker)
{
    count_rows(ctx, index, worker, true);
}

/* Counts, and finds the half that holds place *k of those counted; *k becomes its place there. */
static Status sweep(Ranking *r, PoolTask *task, int64_t *k, uint32_t *half, int64_t *equal, Error *err)
{
    int threads = r->pool ? pool_threads(r->pool) : 1;
    int64_t tasks = div_up(r->rows, ROWS);
    memset(r->count, 0, (size_t)threads * HALF * sizeof *r->count);
    if (r->pool)
        pool_run(r->pool, PHASE_QUANT_WEIGHT, tasks, task, r, r->cancel);
    for (int64_t i = 0; !r->pool && i < tasks && !cancel_level(r->cancel); i++)
        task(r, i, 0);
    RETURN_IF_ERROR(cancel_check(r->cancel, err));
    for (*half = 0; *half < HALF; ++*half) {
        *equal = 0;
        for (int t = 0; t < threads; t++)
            *equal += r->count[(size_t)t * HALF + *half];
        if (*k <= *equal)
            return ST_OK;
        *k -= *equal;
    }
    return error_set(err, ST_INTERNAL, "a weight holds NaN where it is ranked");
}

Status ranking_find(Ranking *r, int64_t k, RankCut *out, Error *err)
{
    int64_t place = k, equal;
    uint32_t low;
    RETURN_IF_ERROR(sweep(r, high_task, &place, &r->high, &equal, err));
    RETURN_IF_ERROR(sweep(r, low_task, &place, &low, &equal, err));
    *out = (RankCut){.at = float_of_bits(r->high << 16 | low), .below = k - place, .equal = equal};
    return ST_OK;
}

uint64_t ranking_bytes(int64_t width, int threads)
{
    return (uint64_t)threads * ((uint64_t)width * sizeof(float) + HALF * sizeof(uint32_t));
}
