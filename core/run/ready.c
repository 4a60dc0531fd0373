#include "run/ready.h"

#include <stdlib.h>

#include "base/mem.h"

Status ready_new(Ready **out, const Model *m, uint64_t limit, Error *err)
{
    Ready *r = *out = mem_zarray(1, sizeof *r);
    if (!r)
        return error_nomem(err, "the weights that stay");
    *r = (Ready){.n = m->nlinears, .limit = limit};
    r->linear = mem_zarray((size_t)r->n, sizeof *r->linear);
    r->refused = mem_zarray((size_t)r->n + 1, sizeof *r->refused);
    if (r->linear && r->refused)
        return ST_OK;
    ready_free(r);
    *out = NULL;
    return error_nomem(err, "the weights that stay");
}

static void drop(ReadyWeight *w)
{
    free(w->data);
    free(w->scale);
    *w = (ReadyWeight){.gemm = NULL};
}

void ready_free(Ready *r)
{
    if (!r)
        return;
    for (int64_t i = 0; r->linear && i < r->n; i++)
        drop(&r->linear[i]);
    drop(&r->head);
    free(r->linear);
    free(r->refused);
    free(r);
}

bool ready_room(Ready *r, ReadyWeight *w, int64_t i, int64_t panels, size_t step, int64_t scales)
{
    uint64_t bytes = (uint64_t)panels * step + (uint64_t)scales * sizeof *w->scale;
    bool fits = r->bytes + bytes <= r->limit;
    drop(w);
    if (fits) {
        *w = (ReadyWeight){.data = mem_aligned((size_t)panels * step, 1), .step = step,
                           .scale = scales ? mem_array((size_t)scales, sizeof *w->scale) : NULL};
        fits = w->data && (w->scale || !scales);
    }
    if (fits) {
        r->bytes += bytes;
        return true;
    }
    drop(w);
    r->left += !r->refused[i];
    r->refused[i] = true;
    return false;
}
