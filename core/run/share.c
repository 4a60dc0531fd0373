#include "run/share.h"

#include <stdlib.h>

#include "base/mem.h"
#include "run/rowplan.h"

/* The end of a band of whole samples that is nearest to `rows`, at or behind sample `from`, but not before the first. */
static int nearest(const RowPlan *p, int64_t rows, int from)
{
    int best = from;
    int64_t least = -1;
    for (int64_t b = 1; b <= p->n; b++) {
        int64_t away = p->start[b] > rows ? p->start[b] - rows : rows - p->start[b];
        if (p->sample[b] < from || (least >= 0 && away >= least))
            continue;
        least = away;
        best = p->sample[b];
    }
    return best;
}

Status share_cuts(const TokenSet *t, int size, int *cut, Error *err)
{
    const Stream shape = {.samples = t->samples, .rows = t->start[t->samples], .start = t->start};
    RowPlan p;
    RETURN_IF_ERROR(rowplan_make(&p, &shape, err));
    cut[0] = 0;
    for (int r = 1; r < size; r++)
        cut[r] = nearest(&p, shape.rows * r / size, cut[r - 1]);
    cut[size] = t->samples;
    rowplan_fini(&p);
    return ST_OK;
}

Status share_init(Share *s, Dist *d, const TokenSet *whole, Error *err)
{
    const int size = dist_size(d), rank = dist_rank(d);
    int *cut = mem_array((size_t)size + 1, sizeof *cut);
    *s = (Share){.dist = d, .whole = whole, .mine = *whole};
    s->mine.start = NULL;
    Status st = cut ? share_cuts(whole, size, cut, err) : error_nomem(err, "a share of the texts");
    if (st == ST_OK) {
        s->first = cut[rank];
        s->mine.samples = cut[rank + 1] - cut[rank];
        s->mine.ids = whole->ids + whole->start[s->first];
        s->mine.item = whole->item ? whole->item + s->first : NULL;
        s->mine.start = mem_array((size_t)s->mine.samples + 1, sizeof *s->mine.start);
        for (int i = 0; s->mine.start && i <= s->mine.samples; i++)
            s->mine.start[i] = whole->start[s->first + i] - whole->start[s->first];
        st = s->mine.start ? ST_OK : error_nomem(err, "a share of the texts");
    }
    free(cut);
    return st;
}

void share_fini(Share *s)
{
    free(s->mine.start);
    *s = (Share){0};
}
