/* What GPTQ leaves of a weight's error, with the columns in their order and by falling diagonal (Frantar et al. 2023),
 * beside minmax on the same grid: the output's error by the input's second moments, tr(dW H dW^T) / tr(W H W^T). */
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/search.h"
#include "quant/hessian.h"
#include "quant/quantizer.h"

enum { ROWS = 64 };
enum { PART_MINMAX, PART_GPTQ, PART_ORDER, PART_GAIN, PART_ORDER_GAIN };

static const MetricPart parts[] = {
    {"minmax", "", "error of the output over its square, plain rounding"},
    {"gptq", "", "the same of GPTQ, columns in their order"},
    {"act_order", "", "the same of GPTQ, columns by falling diagonal (actorder)"},
    {"gain", "x", "minmax over gptq"},
    {"order_gain", "x", "gptq over act_order"},
    {NULL, NULL, NULL},
};

static void input_rows(void *ctx, int64_t row0, int64_t rows, float *out)
{
    const SearchInput *in = ctx;
    memcpy(out, in->x + row0 * in->width, (size_t)(rows * in->width) * sizeof *out);
}

typedef struct Difference {
    const float *w;
    float *d;              /* becomes dW */
    const QWeight *q;      /* NULL: d is the quantized weight */
    int64_t out, in;
} Difference;

static void difference_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Difference *f = ctx;
    int64_t r = index * ROWS, n = min_i64(ROWS, f->out - r);
    if (f->q)
        qweight_rows(f->q, r, n, DT_F32, f->d + r * f->in);
    for (int64_t i = r * f->in; i < (r + n) * f->in; i++)
        f->d[i] -= f->w[i];
}

static Status error_of(const SearchLinear *l, const QWeight *q, const float *h, double *sum, Error *err)
{
    const SearchInput *in = l->in;
    Difference f = {.w = l->w, .d = l->work, .q = q, .out = l->l->out, .in = in->width};
    pool_run(in->pool, PHASE_QUANT_WEIGHT, div_up(f.out, ROWS), difference_task, &f, in->cancel);
    return product_form(l->work, f.out, f.in, h, in->pool, in->cancel, sum, err);
}

static Status run_gptq(const SearchLinear *l, const QSpec *q, const float *h, float *factor, double *sum, Error *err)
{
    const SearchInput *in = l->in;
    const WeightQuantizer *w = weight_quantizer_find(q);
    WeightTask t = {.q = q, .w = l->w, .out = l->l->out, .in = in->width, .T = DT_F32, .F = DT_F32, .pool = in->pool,
                    .cancel = in->cancel};
    void *shared = NULL;
    QWeight made = {0};
    memcpy(factor, h, (size_t)(in->width * in->width) * sizeof *h);
    Status st = w->prepare(&t, factor, &shared, err);
    t.shared = shared;
    if (st == ST_OK)
        st = qweight_init(&made, q, t.out, t.in, err);
    if (st == ST_OK)
        st = w->quantize(&t, &made, err);
    if (st == ST_OK)
        st = error_of(l, &made, h, sum, err);
    qweight_fini(&made);
    w->release(shared);
    return st;
}

static Status compare(const SearchLinear *l, QSpec q, float *h, float *factor, UnitScore *u, Error *err)
{
    const SearchInput *in = l->in;
    int64_t out = l->l->out;
    double square, error[3];
    SearchInput rows = *in;
    RETURN_IF_ERROR(hessian_gather(input_rows, &rows, in->rows, in->width, in->pool, in->cancel, h, err));
    RETURN_IF_ERROR(product_form(l->w, out, in->width, h, in->pool, in->cancel, &square, err));
    memcpy(l->work, l->w, (size_t)(out * in->width) * sizeof *l->w);
    RETURN_IF_ERROR(fake_weight(&q, l->work, out, in->width, in->pool, in->cancel, err));
    RETURN_IF_ERROR(error_of(l, NULL, h, &error[0], err));
    for (int order = 0; order < 2; order++) {
        q.ext.act_order = order;
        RETURN_IF_ERROR(run_gptq(l, &q, h, factor, &error[1 + order], err));
    }
    for (int i = 0; i < 3; i++)
        u->part[PART_MINMAX + i] = error[i] / square;
    u->part[PART_GAIN] = error[0] / error[1];
    u->part[PART_ORDER_GAIN] = error[1] / error[2];
    u->value = error[0] > 0 ? error[0] / fmin(error[1], error[2]) : square > 0 ? 1 : NAN;
    return ST_OK;
}

/* The level's grid, for gptq; false: it has none for such weights. */
static bool gptq_spec(const QSpec *q, QSpec *out)
{
    *out = (QSpec){.dtype = q->dtype, .scope = q->scope, .symmetric = q->symmetric, .method = "gptq"};
    out->ext.group_size = q->ext.group_size;
    return weight_quantizer_find(out) != NULL;
}

static Status run(const SearchLinear *l, UnitScore *u, Error *err)
{
    size_t n = (size_t)(l->in->width * l->in->width);
    QSpec q;
    if (!gptq_spec(&l->q->weight, &q)) {
        search_absent(u, "gptq has no grid such as its level's: it is for int8 and int4");
        return ST_OK;
    }
    float *h = mem_aligned(n, sizeof *h), *factor = mem_aligned(n, sizeof *factor);
    Status st = h && factor ? compare(l, q, h, factor, u, err) : error_nomem(err, "the second moments of a linear's input");
    free(h);
    free(factor);
    return st;
}

static uint64_t bytes(const Linear *l, const QConfig *level, int threads)
{
    QSpec q;
    if (!gptq_spec(&level->weight, &q))
        return 0;
    const WeightQuantizer *w = weight_quantizer_find(&q);
    uint64_t make = w->prepare_bytes(l->in, threads) + w->scratch(&q, l->out, l->in, threads) + product_bytes(l->in, threads);
    return (uint64_t)l->in * (uint64_t)l->in * 8 + qweight_bytes(&q, l->out, l->in) +
           max_u64(make, hessian_scratch(l->in, threads));
}

const Search search_gptq = {.metric = &metric_gptq_gain, .run = run, .bytes = bytes};

const Metric metric_gptq_gain = {
    .name = "gptq_gain",
    .title = "GPTQ gain",
    .unit = "x",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_ERROR,
    .cost = "one float pass, second moments, and each weight quantized twice by GPTQ",
    .parts = parts,
    .direction = 1,
    .pass = &pass_search,
    .explain = "How many times smaller GPTQ makes the error of the output than plain rounding to the same grid, with or without\n"
               "activation order, whichever is better; inputs stay in float. The errors are measured on the calibration set\n"
               "that GPTQ sees, so they flatter it where texts are few. Large: method: gptq is worth its time there.",
};
