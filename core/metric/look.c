#include "metric/look.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/num.h"

typedef struct Look {
    LookAtInput *fn;
    void *ctx;
    int64_t leader;
} Look;

static Status look_prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    (void)pool;
    const Look *l = self;
    return l->fn(l->ctx, l->leader, x, shape, width, err);
}

Status look_forward(Runner *r, const PassPlan *p, int unit, const Stream *in, Stream *out, LookAtInput *fn, void *ctx,
                    Error *err)
{
    const Unit *u = &p->m->units[unit];
    size_t n = (size_t)u->count;
    Look *look = mem_zarray(n, sizeof *look);
    LinearForm *form = mem_zarray(n, sizeof *form);
    const LinearForm **table = mem_zarray(n, sizeof *table);
    Status st = look && form && table ? ST_OK : error_nomem(err, "a layer's inputs");
    for (int64_t i = 0; st == ST_OK && i < u->count; i++) {
        int64_t k = pass_input(p, u->first + i) - u->first;
        if (k < 0 || k >= u->count || (p->selected && !p->selected[u->first + i]))
            continue;
        look[k] = (Look){fn, ctx, u->first + k};
        form[k] = (LinearForm){.prepare = look_prepare, .self = &look[k]};
        table[k] = &form[k];
    }
    const Variant v = {.forms = table, .sdpa = p->peer};
    if (st == ST_OK)
        st = runner_layer(r, unit, &v, in, out, NULL, 0, err);
    free(look);
    free(form);
    free(table);
    return st;
}

uint64_t look_need(const PassPlan *p, int threads)
{
    const RunnerAsk ask = {.rows = p->tokens->start[p->tokens->samples], .threads = threads, .whole = true,
                           .longest = longest_of(p->tokens->start, p->tokens->samples)};
    RunnerNeed n = runner_need(p->m, &ask);
    return n.stream + n.kept + n.layer;
}
