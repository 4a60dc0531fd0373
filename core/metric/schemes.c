#include "metric/schemes.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "metric/weights.h"

extern const WeightAnalysis weight_error;

typedef struct Losses {
    const Model *m;
    SchemeLoss *row;
    int n;
    double *error_sq, *weight_sq; /* [n] sums of squares */
    int64_t *values;              /* [n] */
} Losses;

static void add(Losses *x, int k, int64_t linear, const UnitScore *s)
{
    SchemeLoss *row = &x->row[k];
    const Linear *l = &x->m->linears[linear];
    const Scheme *scheme = scheme_find(&row->q);
    if (!isfinite(s->value)) {
        row->unfit++;
        return;
    }
    row->linears++;
    row->mean += s->value;
    if (row->worst_linear < 0 || s->value > row->worst) {
        row->worst = s->value;
        row->worst_linear = linear;
    }
    if (s->value > 0) { /* part 0: the error's norm */
        x->error_sq[k] += s->part[0] * s->part[0];
        x->weight_sq[k] += s->part[0] * s->part[0] / (s->value * s->value);
    }
    x->values[k] += l->out * l->in;
    if (scheme)
        row->bytes += scheme_bytes(scheme, &row->q, &(SchemeLinear){.l = l, .bias = l->bias != NULL, .model = x->m->cfg.dtype});
}

static Status on_step(void *ctx, const PassStep *step, Error *err)
{
    (void)err;
    Losses *x = ctx;
    for (int64_t i = 0; i < step->nscore; i++) {
        const UnitScore *s = &step->score[i].s;
        for (int k = 0; k < x->n; k++)
            if (s->levels == scores_level_all(x->m, SCOPE_LINEAR, s->unit, &x->row[k].q))
                add(x, k, s->unit, s);
    }
    return ST_OK;
}

static Status run_pass(Runner *r, Losses *x, Error *err)
{
    const Metric *const metrics[] = {&weight_error.metric, NULL};
    QConfig *levels = mem_array((size_t)x->n, sizeof *levels);
    int16_t *level = mem_array((size_t)x->m->nlinears, sizeof *level);
    Status st = levels && level ? ST_OK : error_nomem(err, "a comparison of schemes");
    for (int k = 0; st == ST_OK && k < x->n; k++)
        levels[k] = x->row[k].q;
    for (int64_t i = 0; st == ST_OK && i < x->m->nlinears; i++)
        level[i] = 1;
    const PassPlan p = {.m = x->m, .pass = &pass_weights, .metrics = metrics, .levels = levels, .nlevels = x->n,
                        .level = level};
    if (st == ST_OK)
        st = pass_weights.run(r, &p, &(PassSink){on_step, x}, err);
    free(levels);
    free(level);
    return st;
}

Status schemes_compare(Runner *r, SchemeLoss *rows, int n, Error *err)
{
    Losses x = {.m = runner_model(r), .row = rows, .n = n};
    x.error_sq = mem_zarray((size_t)n, sizeof *x.error_sq);
    x.weight_sq = mem_zarray((size_t)n, sizeof *x.weight_sq);
    x.values = mem_zarray((size_t)n, sizeof *x.values);
    Status st = x.error_sq && x.weight_sq && x.values ? ST_OK : error_nomem(err, "a comparison of schemes");
    for (int k = 0; k < n; k++)
        rows[k] = (SchemeLoss){.q = rows[k].q, .worst_linear = -1};
    if (st == ST_OK)
        st = run_pass(r, &x, err);
    for (int k = 0; st == ST_OK && k < n; k++) {
        SchemeLoss *row = &rows[k];
        row->mean = row->linears ? row->mean / (double)row->linears : NAN;
        row->sqnr = x.error_sq[k] > 0 ? 10 * log10(x.weight_sq[k] / x.error_sq[k]) : INFINITY;
        row->bits = x.values[k] ? 8 * (double)row->bytes / (double)x.values[k] : NAN;
    }
    free(x.error_sq);
    free(x.weight_sq);
    free(x.values);
    return st;
}
