#include "run/rowplan.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"

static void add_block(RowPlan *p, int64_t end, int sample_after)
{
    p->start[p->n + 1] = end;
    p->sample[p->n + 1] = sample_after;
    int64_t rows = end - p->start[p->n];
    p->largest = rows > p->largest ? rows : p->largest;
    p->n++;
}

Status rowplan_make(RowPlan *p, const Stream *shape, Error *err)
{
    int64_t most = shape->rows / BAND_GOOD + 2 * (int64_t)shape->samples + 2;
    *p = (RowPlan){0};
    p->start = mem_zarray((size_t)most, sizeof *p->start);
    p->sample = mem_zarray((size_t)most, sizeof *p->sample);
    if (!p->start || !p->sample)
        return error_nomem(err, "the row plan");
    for (int s = 0; s < shape->samples; s++) {
        int64_t r0 = shape->start[s], r1 = shape->start[s + 1], open = p->start[p->n];
        p->longest_sample = r1 - r0 > p->longest_sample ? r1 - r0 : p->longest_sample;
        bool anew = shape->copy && s % shape->copy == 0;
        if (r0 > open && (anew || r1 - open > BAND_MAX)) {
            add_block(p, r0, s);
            open = r0;
        }
        int64_t parts = div_up(r1 - open, BAND_MAX);
        for (int64_t i = 1; i < parts; i++) /* only a sample alone is cut */
            add_block(p, open + (r1 - open) * i / parts, -1);
        if (r1 - open >= BAND_GOOD)
            add_block(p, r1, s + 1);
    }
    if (p->start[p->n] < shape->rows)
        add_block(p, shape->rows, shape->samples);
    p->sample[p->n] = shape->samples;
    return ST_OK;
}

void rowplan_fini(RowPlan *p)
{
    free(p->start);
    free(p->sample);
    *p = (RowPlan){0};
}

int64_t rowplan_end(const RowPlan *p, int64_t b0, int64_t rows)
{
    int64_t end = b0;
    for (int64_t b = b0 + 1; b <= p->n; b++) {
        if (p->sample[b] < 0)
            continue;
        if (end > b0 && p->start[b] - p->start[b0] > rows)
            break;
        end = b;
    }
    return end;
}

int64_t rowplan_largest_whole(const RowPlan *p)
{
    int64_t most = 0;
    for (int64_t b = 0; b < p->n;) {
        int64_t e = rowplan_end(p, b, 0);
        most = p->start[e] - p->start[b] > most ? p->start[e] - p->start[b] : most;
        b = e;
    }
    return most;
}
