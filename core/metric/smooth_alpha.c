/* SmoothQuant's scales by their exponent (specs/analysis.md 9.7; Xiao et al. 2023): what dividing an input's channels by
 * s and multiplying the weight's columns would leave of the output's error at the linear's level. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "metric/search.h"
#include "quant/flexsearch.h"
#include "quant/quantizer.h"

enum { PART_ALPHA, PART_BEFORE, PART_AFTER, PART_IN_BEFORE, PART_IN_AFTER, PART_ERRORS };

static const MetricPart parts[] = {
    {"alpha", "", "exponent with the least error; none: no scales at all are best"},
    {"before", "", "error of the output over its square, without scales"},
    {"after", "", "the same with the best"},
    {"in_before", "", "largest channel maximum of the input over the mean one"},
    {"in_after", "", "the same with the best"},
    {"e0.0", "", "error at alpha 0"},
    {"e0.1", "", "at 0.1"},
    {"e0.2", "", "at 0.2"},
    {"e0.3", "", "at 0.3"},
    {"e0.4", "", "at 0.4"},
    {"e0.5", "", "at 0.5"},
    {"e0.6", "", "at 0.6"},
    {"e0.7", "", "at 0.7"},
    {"e0.8", "", "at 0.8"},
    {"e0.9", "", "at 0.9"},
    {"e1.0", "", "at 1"},
    {NULL, NULL, NULL},
};

typedef struct Smooth {
    const SearchLinear *l;
    const ActQuantizer *act;
    float *a;      /* [in] largest |x| */
    float *s;      /* [in]; all 1 without scales */
    float *x, *xq; /* [probe][in] */
    float *y;      /* [probe][out] in float */
} Smooth;

/* Those that flex_smooth_quant would take. */
static void find_scales(Smooth *m, double alpha)
{
    const SearchInput *in = m->l->in;
    const FlexScale f = {.a = m->a, .w = in->column, .in = in->width, .T = DT_F32, .A = DT_F32};
    flex_scales(&f, false, alpha, 1 - alpha, m->s, NULL);
}

/* Largest channel maximum over the mean one. */
static double spread(const Smooth *m)
{
    const SearchInput *in = m->l->in;
    double top = 0, sum = 0;
    for (int64_t j = 0; j < in->width; j++) {
        double a = (double)m->a[j] / (double)m->s[j];
        top = fmax(top, a);
        sum += a;
    }
    return top > 0 ? top * (double)in->width / sum : 1;
}

/* The scaled probe as the level quantizes it; ranges of static levels are those of all tokens. */
static void quantize_input(Smooth *m)
{
    const SearchInput *in = m->l->in;
    const QSpec *q = &m->l->q->act;
    float lo = INFINITY, hi = -INFINITY;
    for (int64_t j = 0; j < in->width; j++) {
        lo = fminf(lo, in->lo[j] / m->s[j]);
        hi = fmaxf(hi, in->hi[j] / m->s[j]);
        for (int64_t r = 0; r < in->nprobe; r++)
            m->x[r * in->width + j] = in->probe[r * in->width + j] / m->s[j];
    }
    bool fixed = m->act->observer && !m->act->dynamic;
    ActParam p = fixed ? act_param_of(m->act, q, lo, hi, DT_F32, false) : (ActParam){0};
    m->act->rows(q, fixed ? &p : NULL, m->x, in->nprobe, in->width, in->width, DT_F32, false, m->xq);
}

/* Error of the output over its square with these scales. */
static Status error_of(Smooth *m, double *error, Error *err)
{
    const SearchLinear *l = m->l;
    const SearchInput *in = l->in;
    ProductSums sums;
    Product p = {.x = m->xq, .w = l->work, .rows = in->nprobe, .in = in->width, .out = l->l->out};
    quantize_input(m);
    for (int64_t r = 0; r < l->l->out; r++)
        for (int64_t j = 0; j < in->width; j++)
            l->work[r * in->width + j] = l->w[r * in->width + j] * m->s[j];
    RETURN_IF_ERROR(fake_weight(&l->q->weight, l->work, l->l->out, in->width, in->pool, in->cancel, err));
    RETURN_IF_ERROR(product_compare(&p, in->pool, in->cancel, m->y, &sums, err));
    *error = sums.error / sums.square;
    return ST_OK;
}

static Status search(Smooth *m, UnitScore *u, Error *err)
{
    const SearchInput *in = m->l->in;
    Product plain = {.x = in->probe, .w = m->l->w, .rows = in->nprobe, .in = in->width, .out = m->l->l->out};
    double best = NAN, after;
    RETURN_IF_ERROR(product_make(&plain, in->pool, in->cancel, m->y, err));
    for (int64_t j = 0; j < in->width; j++) {
        m->a[j] = fmaxf(fabsf(in->lo[j]), fabsf(in->hi[j]));
        m->s[j] = 1;
    }
    u->part[PART_IN_BEFORE] = u->part[PART_IN_AFTER] = spread(m);
    RETURN_IF_ERROR(error_of(m, &after, err));
    u->part[PART_BEFORE] = after;
    for (int i = 0; i < ALPHAS; i++) {
        find_scales(m, search_alpha(i));
        RETURN_IF_ERROR(error_of(m, &u->part[PART_ERRORS + i], err));
        if (u->part[PART_ERRORS + i] < after) {
            after = u->part[PART_ERRORS + i];
            best = search_alpha(i);
            u->part[PART_IN_AFTER] = spread(m);
        }
    }
    u->part[PART_ALPHA] = best;
    u->part[PART_AFTER] = after;
    u->value = u->part[PART_BEFORE] > 0 ? u->part[PART_BEFORE] / after : u->part[PART_BEFORE] == 0 ? 1 : NAN;
    return ST_OK;
}

static Status run(const SearchLinear *l, UnitScore *u, Error *err)
{
    Smooth m = {.l = l, .act = act_quantizer_find(&l->q->act)};
    size_t in = (size_t)l->in->width, n = (size_t)l->in->nprobe;
    if (!m.act)
        return error_set(err, ST_DATA, "this build has no quantizer for its input");
    if (!m.act->rows) {
        search_absent(u, "its level leaves the input in float: there is nothing to smooth");
        return ST_OK;
    }
    m.a = mem_array(in, sizeof *m.a);
    m.s = mem_array(in, sizeof *m.s);
    m.x = mem_aligned(n * in, sizeof *m.x);
    m.xq = mem_aligned(n * in, sizeof *m.xq);
    m.y = mem_aligned(n * (size_t)l->l->out, sizeof *m.y);
    Status st = m.a && m.s && m.x && m.xq && m.y ? search(&m, u, err) : error_nomem(err, "smoothed inputs");
    free(m.a);
    free(m.s);
    free(m.x);
    free(m.xq);
    free(m.y);
    return st;
}

static uint64_t bytes(const Linear *l, const QConfig *q, int threads)
{
    uint64_t n = SEARCH_TOKENS + SEARCH_TOKENS; /* at most one text's share more */
    return n * ((uint64_t)l->in * 8 + (uint64_t)l->out * 4) + product_bytes(l->in, threads) +
           fake_weight_bytes(&q->weight, l->out, l->in, false, threads);
}

const Search search_smooth_alpha = {.metric = &metric_smooth_alpha, .run = run, .bytes = bytes};

const Metric metric_smooth_alpha = {
    .name = "smooth_alpha",
    .title = "Smoothing",
    .unit = "x",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_ERROR,
    .cost = "one float pass, and twelve products a linear over 256 tokens",
    .parts = parts,
    .direction = 1,
    .pass = &pass_search,
    .explain = "How many times smaller SmoothQuant's scales make the error of the output at the linear's level, with the best\n"
               "of the exponents 0, 0.1, ... 1. Near 1: smoothing does nothing here; large: smooth it before giving it back.\n"
               "Linears that read one input must share its scales: take an alpha that suits all of them.",
};
