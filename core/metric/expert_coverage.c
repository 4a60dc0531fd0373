/* How the tokens of the calibration set divide over the experts, by what the routers chose. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/watch.h"

enum { PART_TOKENS, PART_EXPERTS, PART_UNSEEN, PART_FEWEST, PART_MEDIAN, PART_LARGEST, PART_ENTROPY, PART_EFFECTIVE };
enum { LOAD_TOKENS, LOAD_SHARE, LOAD_RANK };

static const MetricPart block_parts[] = {
    {"tokens", "", "that the router saw"},
    {"experts", "", "of the block"},
    {"unseen", "", "experts that no token reached"},
    {"fewest", "tokens", "of the expert with fewest, unseen ones left out"},
    {"median", "tokens", "of an expert"},
    {"largest", "%", "share of the choices that the busiest expert has"},
    {"entropy", "bits", "of the choices; as many as log2 of the experts when all are chosen alike"},
    {"effective", "", "experts that would give this entropy, chosen alike"},
    {NULL, NULL, NULL},
};
static const MetricPart load_parts[] = {
    {"tokens", "", "that reached the expert"},
    {"share", "%", "of the block's choices"},
    {"rank", "", "of the block's experts by tokens, the busiest is 1"},
    {NULL, NULL, NULL},
};

typedef struct ExpertCounts {
    const PassPlan *p;
    int experts;
    atomic_llong *chosen; /* [experts]; more to choose from than experts is left out */
    atomic_llong rows;
    double *sorted;       /* [experts] */
} ExpertCounts;

static bool wants_tap(void *self, Tap tap)
{
    const ExpertCounts *c = self;
    return tap.kind == TAP_EXPERTS && tap.layer >= 0 && watch_wants_unit(c->p, tap.layer);
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    (void)tap, (void)sample, (void)row0;
    ExpertCounts *c = self;
    atomic_fetch_add(&c->rows, rows);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < width; k++)
            if (x[r * ld + k] >= 0 && x[r * ld + k] < (float)c->experts)
                atomic_fetch_add(&c->chosen[(int)x[r * ld + k]], 1);
}

static void clear(ExpertCounts *c)
{
    for (int e = 0; e < c->experts; e++)
        atomic_store(&c->chosen[e], 0);
    atomic_store(&c->rows, 0);
}

static Status pack_counts(void *self, int layer, Pack *out, Error *err)
{
    (void)layer;
    ExpertCounts *c = self;
    pack_i64(out, atomic_load(&c->rows));
    for (int e = 0; e < c->experts; e++)
        pack_i64(out, atomic_load(&c->chosen[e]));
    clear(c);
    return out->oom ? error_nomem(err, "tokens of experts") : ST_OK;
}

static Status merge_counts(void *self, int layer, Unpack *in, Error *err)
{
    (void)layer, (void)err;
    ExpertCounts *c = self;
    atomic_fetch_add(&c->rows, unpack_i64(in));
    for (int e = 0; e < c->experts; e++)
        atomic_fetch_add(&c->chosen[e], unpack_i64(in));
    return ST_OK;
}

static double choices(ExpertCounts *c)
{
    double sum = 0;
    for (int e = 0; e < c->experts; e++)
        sum += c->sorted[e] = (double)atomic_load(&c->chosen[e]);
    qsort(c->sorted, (size_t)c->experts, sizeof *c->sorted, compare_doubles);
    return sum;
}

static bool has_experts(const ExpertCounts *c, int unit)
{
    const Unit *u = &c->p->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (c->p->m->linears[i].expert >= 0)
            return true;
    return false;
}

static void absent(UnitScore *u, const char *why)
{
    watch_undefined(u, why);
    u->absent = true;
}

/* ---- blocks ---- */

static void block_figures(ExpertCounts *c, double sum, UnitScore *u)
{
    int unseen = 0, n = c->experts;
    double entropy = 0;
    while (unseen < n && c->sorted[unseen] == 0)
        unseen++;
    for (int e = unseen; e < n; e++)
        entropy -= c->sorted[e] / sum * log2(c->sorted[e] / sum);
    u->value = n > 1 ? fmax(1 - entropy / log2(n), 0) : 0;
    u->part[PART_TOKENS] = (double)u->tokens;
    u->part[PART_EXPERTS] = n;
    u->part[PART_UNSEEN] = unseen;
    u->part[PART_FEWEST] = c->sorted[unseen];
    u->part[PART_MEDIAN] = (c->sorted[(n - 1) / 2] + c->sorted[n / 2]) / 2;
    u->part[PART_LARGEST] = 100 * c->sorted[n - 1] / sum;
    u->part[PART_ENTROPY] = entropy;
    u->part[PART_EFFECTIVE] = exp2(entropy);
}

static Status block_layer(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err)
{
    (void)pool, (void)h;
    ExpertCounts *c = self;
    if (!watch_wants_unit(c->p, unit))
        return ST_OK;
    UnitScore u = {.unit = unit, .samples = pass_texts(c->p)->samples, .tokens = atomic_load(&c->rows)};
    double sum = c->experts ? choices(c) : 0;
    if (!has_experts(c, unit))
        absent(&u, "it has no experts");
    else if (sum == 0)
        absent(&u, "its router chose no expert");
    else
        block_figures(c, sum, &u);
    clear(c);
    return watch_put(out, &metric_coverage, &u, err);
}

/* ---- experts ---- */

static void load_figures(const ExpertCounts *c, int expert, double sum, UnitScore *u)
{
    double tokens = (double)atomic_load(&c->chosen[expert]);
    int busier = 0;
    for (int e = 0; e < c->experts; e++)
        busier += c->sorted[e] > tokens;
    u->tokens = (int64_t)tokens;
    u->value = tokens * c->experts / sum;
    u->part[LOAD_TOKENS] = tokens;
    u->part[LOAD_SHARE] = 100 * tokens / sum;
    u->part[LOAD_RANK] = busier + 1;
}

static Status load_layer(void *self, int unit, const Stream *h, Pool *pool, WatchOut *out, Error *err)
{
    (void)pool, (void)h;
    ExpertCounts *c = self;
    const Unit *l = &c->p->m->units[unit];
    double sum = c->experts ? choices(c) : 0;
    for (int64_t i = l->first; i < l->first + l->count; i++) {
        UnitScore u = {.unit = i, .samples = pass_texts(c->p)->samples};
        int expert = c->p->m->linears[i].expert;
        if (!watch_wants(c->p, i))
            continue;
        if (expert < 0 || expert >= c->experts)
            absent(&u, "it is not one of several experts");
        else if (sum == 0)
            absent(&u, "its router chose no expert");
        else
            load_figures(c, expert, sum, &u);
        RETURN_IF_ERROR(watch_put(out, &metric_expert_load, &u, err));
    }
    clear(c);
    return ST_OK;
}

/* ---- the rows ---- */

static Status begin(const PassPlan *p, void **self, Error *err)
{
    size_t n = (size_t)p->m->cfg.moe.experts;
    ExpertCounts *c = mem_zarray(1, sizeof *c);
    *self = c;
    if (c) {
        c->p = p;
        c->experts = (int)n;
        c->chosen = mem_zarray(n, sizeof *c->chosen);
        c->sorted = mem_zarray(n, sizeof *c->sorted);
    }
    return c && c->chosen && c->sorted ? ST_OK : error_nomem(err, "tokens of experts");
}

static void end(void *self)
{
    ExpertCounts *c = self;
    if (!c)
        return;
    free(c->chosen);
    free(c->sorted);
    free(c);
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    (void)threads;
    return (uint64_t)p->m->cfg.moe.experts * 16;
}

static const ObserverOps ops = {.name = "experts", .wants_tap = wants_tap, .tap_tile = tap_tile, .pack = pack_counts,
                                .merge = merge_counts};

const Watch watch_coverage = {.metric = &metric_coverage, .ops = &ops, .open = begin, .layer = block_layer, .close = end,
                              .bytes = bytes};
const Watch watch_expert_load = {.metric = &metric_expert_load, .ops = &ops, .open = begin, .layer = load_layer,
                                 .close = end, .bytes = bytes};

const Metric metric_coverage = {
    .name = "coverage",
    .title = "Imbalance",
    .unit = "",
    .scope = SCOPE_BLOCK,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .parts = block_parts,
    .direction = 1,
    .pass = &pass_watch,
    .explain = "How unevenly the calibration set reaches a block's experts: 0 when all get as many tokens, 1 when one gets\n"
               "all (1 - entropy / log2 of the experts). Unseen experts have no ranges: nothing that needs data can be said\n"
               "of them. Where many are unseen or have few tokens, use more texts, or texts of what the model is for.",
};

const Metric metric_expert_load = {
    .name = "expert_load",
    .title = "Expert load",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .parts = load_parts,
    .direction = -1,
    .pass = &pass_watch,
    .explain = "Tokens of the linear's expert over what each would get if all were chosen alike: 1 is an even share, 0 an\n"
               "expert that the texts never reach. Lowest first: scores and ranges of such experts rest on few tokens.\n"
               "Linears outside experts have none.",
};
