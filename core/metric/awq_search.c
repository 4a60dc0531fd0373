/* AWQ's search for scales (specs/analysis.md 9.7; Lin et al. 2024): columns that meet large inputs are made larger before
 * the weight is quantized. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/search.h"
#include "quant/awqsearch.h"

#define LEAST_SCALE 1e-5
enum { ROWS = 64 };

enum { PART_ALPHA, PART_AFTER, PART_ERRORS };

static const MetricPart parts[] = {
    {"alpha", "", "exponent with the least error, the first of equal ones; 0 is no scales"},
    {"after", "", "error with it: squares of the weight's errors, by the mean input of their channel, over those of the weight"},
    {"e0.0", "", "error at alpha 0: without scales"},
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

typedef struct Scaled {
    const float *w;
    float *q;          /* Q(W s) / s */
    const float *s;    /* [in] */
    const double *by;  /* [in] */
    int64_t out, in;
    double *error, *square; /* [tasks] */
} Scaled;

static void error_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const Scaled *a = ctx;
    double error = 0, square = 0;
    for (int64_t r = index * ROWS; r < min_i64((index + 1) * ROWS, a->out); r++)
        for (int64_t j = 0; j < a->in; j++) {
            double w = (double)a->w[r * a->in + j], d = w - (double)a->q[r * a->in + j];
            error += d * d * a->by[j];
            square += w * w * a->by[j];
        }
    a->error[index] = error;
    a->square[index] = square;
}

static Status error_at(const SearchLinear *l, Scaled *a, double *error, Error *err)
{
    const SearchInput *in = l->in;
    double sum = 0, square = 0;
    memcpy(a->q, a->w, (size_t)(a->out * a->in) * sizeof *a->q);
    RETURN_IF_ERROR(awq_fake(&l->q->weight, a->s, false, a->q, a->out, a->in, in->pool, in->cancel, err));
    pool_run(in->pool, PHASE_QUANT_WEIGHT, div_up(a->out, ROWS), error_task, a, in->cancel);
    for (int64_t i = 0; i < div_up(a->out, ROWS); i++) {
        sum += a->error[i];
        square += a->square[i];
    }
    *error = sum / square;
    return cancel_check(in->cancel, err);
}

static void find_scales(const SearchInput *in, double alpha, float *s)
{
    double mean = 0;
    for (int64_t j = 0; j < in->width; j++)
        mean += pow(in->mean_abs[j], alpha);
    mean /= (double)in->width;
    for (int64_t j = 0; j < in->width; j++)
        s[j] = (float)fmax(pow(in->mean_abs[j], alpha) / mean, LEAST_SCALE);
}

static Status search(const SearchLinear *l, Scaled *a, float *s, UnitScore *u, Error *err)
{
    int best = 0;
    for (int i = 0; i < ALPHAS; i++) {
        find_scales(l->in, search_alpha(i), s);
        RETURN_IF_ERROR(error_at(l, a, &u->part[PART_ERRORS + i], err));
        best = u->part[PART_ERRORS + i] < u->part[PART_ERRORS + best] ? i : best;
    }
    double before = u->part[PART_ERRORS], after = u->part[PART_ERRORS + best];
    u->part[PART_ALPHA] = search_alpha(best);
    u->part[PART_AFTER] = after;
    u->value = before > 0 ? before / after : before == 0 ? 1 : NAN;
    return ST_OK;
}

static Status run(const SearchLinear *l, UnitScore *u, Error *err)
{
    size_t tasks = (size_t)div_up(l->l->out, ROWS);
    if (l->q->weight.dtype == QT_FLOAT) {
        search_absent(u, "its level leaves the weight in float");
        return ST_OK;
    }
    float *s = mem_array((size_t)l->in->width, sizeof *s);
    Scaled a = {.w = l->w, .q = l->work, .s = s, .by = l->in->mean_abs, .out = l->l->out, .in = l->in->width,
                .error = mem_array(tasks, sizeof *a.error), .square = mem_array(tasks, sizeof *a.square)};
    Status st = s && a.error && a.square ? search(l, &a, s, u, err) : error_nomem(err, "scaled weights");
    free(s);
    free(a.error);
    free(a.square);
    return st;
}

static uint64_t bytes(const Linear *l, const QConfig *q, int threads)
{
    return (uint64_t)l->in * 4 + (uint64_t)div_up(l->out, ROWS) * 16 + fake_weight_bytes(&q->weight, l->out, l->in, false, threads);
}

const Search search_awq = {.metric = &metric_awq_search, .run = run, .bytes = bytes};

const Metric metric_awq_search = {
    .name = "awq_search",
    .title = "AWQ gain",
    .unit = "x",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_ERROR,
    .cost = "one float pass, and eleven times quantizing each weight",
    .parts = parts,
    .direction = 1,
    .pass = &pass_search,
    .explain = "How many times smaller AWQ's scales make the error of the weight at the linear's level, each channel counted by\n"
               "the mean magnitude of its input, with the best of the exponents 0, 0.1, ... 1. 1: nothing to gain. It is of\n"
               "weights alone, and of most use at 4 bits in groups (--scheme W4A16).",
};
