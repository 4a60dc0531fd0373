#include "quant/actrange.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "qir/intquant.h"

enum { RANGE_ROWS = 128 };

typedef struct RangeTask {
    int sample;
    int64_t row, rows;
    float mn, mx;
} RangeTask;

typedef struct RangeJob {
    RangeTask *tasks;
    const float *x;
    int64_t width;
} RangeJob;

static void range_task(void *ctx, int64_t i, int worker)
{
    (void)worker;
    RangeJob *j = ctx;
    RangeTask *t = &j->tasks[i];
    intquant_range(j->x + t->row * j->width, t->rows * j->width, &t->mn, &t->mx);
}

/* Extremes do not depend on the order in which they are taken, so neither tiles nor threads show in the result. */
Status act_ranges(const float *x, const Stream *shape, int64_t width, Pool *pool, float *mn, float *mx, Error *err)
{
    int64_t n = 0;
    for (int s = 0; s < shape->samples; s++)
        n += (shape->start[s + 1] - shape->start[s] + RANGE_ROWS - 1) / RANGE_ROWS;
    RangeJob j = {.tasks = mem_array((size_t)n, sizeof *j.tasks), .x = x, .width = width};
    if (!j.tasks)
        return error_nomem(err, "activation ranges");
    int64_t k = 0;
    for (int s = 0; s < shape->samples; s++) {
        for (int64_t r = shape->start[s]; r < shape->start[s + 1]; r += RANGE_ROWS) {
            int64_t left = shape->start[s + 1] - r;
            j.tasks[k++] = (RangeTask){.sample = s, .row = r, .rows = left < RANGE_ROWS ? left : RANGE_ROWS};
        }
        mn[s] = INFINITY;
        mx[s] = -INFINITY;
    }
    pool_run(pool, PHASE_QUANT_ACT, n, range_task, &j, NULL);
    Status st = ST_OK;
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        RangeTask *t = &j.tasks[i];
        int64_t at = t->row - shape->start[t->sample];
        if (!isfinite(t->mn) || !isfinite(t->mx))
            st = error_set(err, ST_DATA,
                           "its input holds NaN or Inf (sample %d, rows %lld to %lld): 'slimscope check' tells whether "
                           "the model does; else keep the layers before it in float",
                           shape->first + t->sample, (long long)at, (long long)(at + t->rows - 1));
        mn[t->sample] = t->mn < mn[t->sample] ? t->mn : mn[t->sample];
        mx[t->sample] = t->mx > mx[t->sample] ? t->mx : mx[t->sample];
    }
    free(j.tasks);
    return st;
}
