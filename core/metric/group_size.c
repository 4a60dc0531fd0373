#include "metric/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metric/weightgrid.h"

/* specs/analysis.md 9.3: the error of 4-bit groups of several sizes. */

extern const WeightAnalysis group_size;

enum { SIZES = 5, BITS = 4 };
static const int64_t sizes[SIZES] = {32, 64, 128, 256, 0}; /* 0: the row */

typedef struct Groups {
    double sq[SIZES];
} Groups;

static int sums(const void *self)
{
    (void)self;
    return SIZES;
}

static bool wants(void *self, const WeightCase *c, int sweep)
{
    (void)self, (void)c;
    return sweep == 0;
}

static int64_t group_of(const WeightCase *c, int k)
{
    return sizes[k] && sizes[k] < c->l->in ? sizes[k] : c->l->in;
}

static void block(void *self, const WeightCase *c, int sweep, const WeightBlock *b, const WeightScratch *s, double *sum)
{
    (void)self, (void)sweep;
    for (int k = 0; k < SIZES; k++) {
        if (k && group_of(c, k) == group_of(c, k - 1))
            sum[k] = sum[k - 1];
        else
            sum[k] = weightgrid_groups(b->w, b->rows, c->l->in, group_of(c, k), BITS, s->copy);
    }
}

static void swept(void *self, const WeightCase *c, int sweep, const double *sum)
{
    (void)sweep;
    Groups *g = self;
    for (int k = 0; k < SIZES; k++)
        g->sq[k] = weights_total(sum, c->blocks, SIZES, k);
}

static const MetricPart parts[] = {
    {"rmse_32", "", "root mean square error of a value in groups of 32"},
    {"rmse_64", "", "of 64"},
    {"rmse_128", "", "of 128"},
    {"rmse_256", "", "of 256"},
    {"rmse_row", "", "of a whole row"},
    {"bits_32", "bits", "a value takes in groups of 32: 4, and 20 for scale and zero of each group"},
    {"bits_64", "bits", "of 64"},
    {"bits_128", "bits", "of 128"},
    {"bits_256", "bits", "of 256"},
    {"bits_row", "bits", "of a whole row"},
    {NULL, NULL, NULL},
};

static Status finish(void *self, const WeightCase *c, WeightScores *out, Error *err)
{
    const Groups *g = self;
    UnitScore s = {.value = g->sq[0] > 0 ? sqrt(g->sq[SIZES - 1] / g->sq[0]) : g->sq[SIZES - 1] > 0 ? NAN : 1};
    for (int k = 0; k < SIZES; k++) {
        s.part[k] = sqrt(g->sq[k] / c->n);
        s.part[SIZES + k] = BITS + 20.0 / (double)group_of(c, k);
    }
    if (!isfinite(s.value))
        snprintf(s.why, sizeof s.why,
                 g->sq[0] > 0 ? "its squares overflow" : "groups of 32 lose nothing of it, and a row does");
    return weights_add(out, &group_size, c, &s, err);
}

const WeightAnalysis group_size = {
    .metric = {
        .name = "group_size",
        .title = "Group size",
        .unit = "",
        .scope = SCOPE_LINEAR,
        .family = FAMILY_WEIGHT,
        .cost = "reads the weights once, no data",
        .parts = parts,
        .any_level = true,
        .direction = 1,
        .pass = &pass_weights,
        .explain = "Error of 4-bit rows over that of groups of 32 (asymmetric minmax): what small groups would save here.\n"
                   "Trust it to say who needs small groups; normally distributed weights gain 1.5 in rows of 600\n"
                   "and 1.7 in rows of 3,000. The sizes between stand beside it with the bits that a value then takes.",
    },
    .size = sizeof(Groups),
    .sums = sums,
    .wants = wants,
    .block = block,
    .swept = swept,
    .finish = finish,
};
