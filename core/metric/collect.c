/* Statistics of linears, collected on the way of a float pass. */
#include "metric/collect.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/local_error.h"
#include "dist/dist.h"
#include "run/rowplan.h"
#include "run/taps.h"

/* What is known so far of one linear of the layer at work; the tap's part only in the first linear of each shared
 * input. */
typedef struct LinearTotals {
    TapStat *tap;
    TapTotals in;
    WeightStat *weight;
    WeightTotals w;
    double energy;       /* sum of y^2 over `rows` rows; rows -1 until it is told */
    int64_t rows;
    double *sums;        /* [nsums] that it was made of, kept for other ranks */
    int64_t nsums;
    int64_t skipped;     /* samples of ranks whose tap was not fed, before the first that was */
} LinearTotals;

struct Collector {
    const Model *m;
    const PassPlan *plan;
    QSpec weights[LOCAL_EXTRA]; /* kinds of weights whose errors are summed beside the usual ones */
    int nweights;
    StatPool *pool;
    ObserverOps ops;
    LinearTotals *slot;       /* [most linears of a layer] */
    LinearResult *result;
    int64_t slots;
    int samples;      /* of this rank */
};

/* Linears [from, to) of a layer. */
typedef struct Range {
    int64_t from, to;
} Range;

static bool is_selected(const Collector *c, int64_t linear)
{
    return !c->plan->selected || c->plan->selected[linear];
}

static LinearTotals *slot_of(const Collector *c, int64_t linear)
{
    return &c->slot[linear - c->m->units[c->m->linears[linear].layer].first];
}

/* What the taps told. */
static void slot_clear_taps(LinearTotals *s)
{
    tapstat_free(s->tap);
    taptotals_fini(&s->in);
    free(s->sums);
    *s = (LinearTotals){.weight = s->weight, .w = s->w, .rows = -1};
}

static void slots_clear(Collector *c)
{
    for (int64_t i = 0; i < c->slots; i++) {
        LinearTotals *s = &c->slot[i];
        slot_clear_taps(s);
        weightstat_free(s->weight);
        weighttotals_fini(&s->w);
        s->weight = NULL;
    }
}

static Range layer_range(const Collector *c, int layer)
{
    int64_t first = c->m->units[layer].first;
    return (Range){first, first + c->m->units[layer].count};
}

/* ---- the observer ---- */

static bool wants_tap(void *self, Tap tap)
{
    const Collector *c = self;
    if (tap.kind != TAP_LINEAR_IN || tap.linear < 0 || tap.layer < 0)
        return false;
    Range r = layer_range(c, tap.layer);
    for (int64_t i = r.from; i < r.to; i++)
        if (pass_input(c->plan, i) == tap.linear && is_selected(c, i))
            return true;
    return false;
}

static bool wants_weight(void *self, int64_t linear)
{
    const Collector *c = self;
    return is_selected(c, linear) && (!c->plan->ranks || dist_leads(c->plan->ranks->dist)); /* it alone has all of the rest */
}

static TapWants wants_of(unsigned needs, bool parts)
{
    return (TapWants){.order = needs & NEED_ORDER, .std = needs & NEED_STD, .channel = needs & NEED_CHANNEL,
                      .hist = needs & NEED_HIST, .parts = parts};
}

static TapWants wanted(const Collector *c)
{
    return wants_of(c->plan->needs, c->plan->ranks != NULL);
}

static Status tap_begin(void *self, Tap tap, int samples, const int64_t *start, int64_t width, Error *err)
{
    Collector *c = self;
    c->samples = samples;
    return tapstat_new(&slot_of(c, tap.linear)->tap, c->pool, wanted(c), samples, start, width, err);
}

static void tap_tile(void *self, Tap tap, int sample, int64_t row0, const float *x, int64_t rows, int64_t width,
                     int64_t ld)
{
    (void)width;
    tapstat_tile(slot_of(self, tap.linear)->tap, sample, row0, x, rows, ld);
}

static Status finish_tap(Collector *c, int64_t linear, Error *err)
{
    LinearTotals *s = slot_of(c, linear);
    Status st = tapstat_end(s->tap, &s->in, err);
    tapstat_free(s->tap);
    s->tap = NULL;
    return st == ST_OK ? ST_OK : error_prefix(err, st, "%s: ", c->m->linears[linear].name);
}

static Status tap_end(void *self, Tap tap, Error *err)
{
    Collector *c = self;
    return c->plan->ranks ? ST_OK : finish_tap(c, tap.linear, err); /* others have samples of it, too */
}

static Status weight_begin(void *self, int64_t linear, int panels, Error *err)
{
    Collector *c = self;
    unsigned n = c->plan->needs;
    LinearTotals *s = slot_of(c, linear);
    RETURN_IF_ERROR(weightstat_new(&s->weight, c->pool, n & NEED_WEIGHT, n & (NEED_HIST | NEED_WHIST), panels,
                                   c->m->linears[linear].in, err));
    WeightFake fake[LOCAL_EXTRA];
    int fakes = n & NEED_WEIGHT ? c->nweights : 0;
    for (int k = 0; k < fakes; k++)
        fake[k] = local_error_fake(&c->weights[k]);
    return weightstat_fakes(s->weight, fake, fakes, err);
}

static void weight_panel(void *self, int64_t linear, int panel, int64_t row0, int64_t rows, const float *w, int64_t in)
{
    (void)in;
    weightstat_panel(slot_of(self, linear)->weight, panel, row0, rows, w);
}

static Status weight_end(void *self, int64_t linear, Error *err)
{
    Collector *c = self;
    LinearTotals *s = slot_of(c, linear);
    Status st = weightstat_end(s->weight, &s->w, err);
    weightstat_free(s->weight);
    s->weight = NULL;
    return st == ST_OK ? ST_OK : error_prefix(err, st, "%s: ", c->m->linears[linear].name);
}

static void add_energy(LinearTotals *s, const double *sums, int64_t n, int64_t rows)
{
    s->energy = s->rows < 0 ? 0 : s->energy;
    s->rows = (s->rows < 0 ? 0 : s->rows) + rows;
    for (int64_t i = 0; i < n; i++)
        s->energy += sums[i];
}

static Status output_energy(void *self, int64_t linear, const double *sums, int64_t n, int64_t rows, Error *err)
{
    Collector *c = self;
    LinearTotals *s = slot_of(c, linear);
    add_energy(s, sums, n, rows);
    if (!c->plan->ranks)
        return ST_OK;
    free(s->sums);
    s->sums = mem_array((size_t)n, sizeof *s->sums);
    s->nsums = n;
    if (!s->sums)
        return error_nomem(err, "the energy of an output");
    if (n)
        memcpy(s->sums, sums, (size_t)n * sizeof *sums);
    return ST_OK;
}

/* ---- several ranks ---- */

static Status pack_layer(void *self, int layer, Pack *out, Error *err)
{
    Collector *c = self;
    Range r = layer_range(c, layer);
    pack_i64(out, c->samples);
    for (int64_t i = r.from; i < r.to; i++) {
        LinearTotals *s = slot_of(c, i);
        pack_i64(out, s->tap != NULL);
        pack_i64(out, s->tap ? c->m->linears[i].in : 0);
        Status st = s->tap ? tapstat_pack(s->tap, out, err) : ST_OK;
        if (st != ST_OK)
            return error_prefix(err, st, "%s: ", c->m->linears[i].name);
        pack_i64(out, s->rows);
        pack_i64(out, s->nsums);
        if (s->sums)
            pack_put(out, s->sums, (size_t)s->nsums * sizeof *s->sums);
        slot_clear_taps(s);
    }
    return out->oom ? error_nomem(err, "statistics of a layer") : ST_OK;
}

static Status merge_tap(Collector *c, LinearTotals *s, int64_t width, Unpack *in, Error *err)
{
    static const int64_t none[] = {0};
    if (!s->tap) {
        RETURN_IF_ERROR(tapstat_new(&s->tap, c->pool, wanted(c), 0, none, width, err));
        RETURN_IF_ERROR(tapstat_skip(s->tap, s->skipped, err));
    }
    return tapstat_merge(s->tap, in, err);
}

static Status merge_layer(void *self, int layer, Unpack *in, Error *err)
{
    Collector *c = self;
    Range r = layer_range(c, layer);
    int64_t samples = unpack_i64(in);
    for (int64_t i = r.from; i < r.to && !in->bad; i++) {
        LinearTotals *s = slot_of(c, i);
        bool fed = unpack_i64(in) != 0;
        int64_t width = unpack_i64(in);
        if (fed)
            RETURN_IF_ERROR(merge_tap(c, s, width, in, err));
        else if (s->tap)
            RETURN_IF_ERROR(tapstat_skip(s->tap, samples, err));
        else
            s->skipped += samples;
        int64_t rows = unpack_i64(in), n = unpack_i64(in);
        double *sums = unpack_array(in, n, sizeof *sums);
        if (sums && rows >= 0)
            add_energy(s, sums, n, rows);
        free(sums);
    }
    return in->bad ? error_nomem(err, "statistics of a layer") : ST_OK;
}

/* The taps of all ranks, in place of this one's. */
static Status gather_layer(Collector *c, int layer, Error *err)
{
    Range r = layer_range(c, layer);
    RETURN_IF_ERROR(taps_gather(&(Observer){&c->ops, c}, layer, c->plan->ranks, err));
    for (int64_t i = r.from; i < r.to; i++)
        if (slot_of(c, i)->tap)
            RETURN_IF_ERROR(finish_tap(c, i, err));
    return ST_OK;
}

/* ---- results of a layer ---- */

static TapSummary summary_of(const TapTotals *t)
{
    TapSummary s = {.values = t->values, .rows = t->rows, .width = t->width, .samples = t->samples, .min = t->min,
                    .max = t->max, .mean = t->mean, .std = t->std, .kurtosis = t->kurtosis, .quantile = t->quantile,
                    .std_score = t->std_score, .token_max_sq = t->token_max_sq, .mean_sq = t->mean_sq, .bad = t->bad};
    memcpy(s.bad_text, t->bad_text, sizeof s.bad_text);
    return s;
}

static Status fill_input(LinearResult *r, const TapTotals *t, Error *err)
{
    r->in = summary_of(t);
    if (t->channel_max) {
        r->in.channel_max = mem_array((size_t)t->width, sizeof *r->in.channel_max);
        if (!r->in.channel_max)
            return error_nomem(err, "channel maxima");
        memcpy(r->in.channel_max, t->channel_max, (size_t)t->width * sizeof *t->channel_max);
    }
    return keyhist_copy(&r->in.hist, &t->hist, err);
}

static void fill_weight(LinearResult *r, WeightTotals *w)
{
    r->weight = (WeightSummary){.min = w->min, .max = w->max, .mean = w->mean, .std = w->std, .hist = w->hist,
                                .bad = w->bad};
    memcpy(r->weight.bad_text, w->bad_text, sizeof r->weight.bad_text);
    w->hist = (KeyHist){0};
}

static void results_fini(LinearResult *r, int n)
{
    for (int i = 0; i < n; i++)
        linear_result_fini(&r[i]);
}

/* A tap that was never fed (an expert without tokens) leaves NaN, not zeros. */
static const TapTotals not_fed = {.min = NAN, .max = NAN, .mean = NAN, .std = NAN, .mean_sq = NAN, .kurtosis = NAN,
                                  .quantile = NAN, .std_score = NAN, .token_max_sq = NAN};

static Status make_results(Collector *c, int layer, int *n, Error *err)
{
    *n = 0;
    Range range = layer_range(c, layer);
    for (int64_t i = range.from; i < range.to; i++) {
        if (!is_selected(c, i))
            continue;
        LinearTotals *s = slot_of(c, i), *in = slot_of(c, pass_input(c->plan, i));
        const TapTotals *t = in->in.width ? &in->in : &not_fed;
        LinearResult *r = &c->result[(*n)++];
        *r = (LinearResult){.linear = i};
        r->err = local_error_of(t, &s->w, c->weights, c->nweights,
                                s->rows > 0 ? s->energy / (double)s->rows : NAN);
        fill_weight(r, &s->w);
        Status st = fill_input(r, t, err);
        if (st != ST_OK) {
            results_fini(c->result, *n);
            return st;
        }
    }
    return ST_OK;
}

Status collector_unit(Collector *c, int unit, LinearResult **r, int *n, Error *err)
{
    if (c->plan->ranks)
        RETURN_IF_ERROR(gather_layer(c, unit, err));
    RETURN_IF_ERROR(make_results(c, unit, n, err));
    slots_clear(c);
    *r = c->result;
    return ST_OK;
}

/* ---- begin and end ---- */

/* With room for the largest layer. */
static Status collector_init(Collector *c, const PassPlan *p, Error *err)
{
    const Model *m = p->m;
    unsigned input = p->needs & NEED_INPUT, weight = p->needs & (NEED_WEIGHT | NEED_HIST | NEED_WHIST);
    *c = (Collector){.m = m, .plan = p};
    c->nweights = local_error_specs(p->levels, p->nlevels, c->weights);
    c->ops = (ObserverOps){
        .name = "statistics",
        .wants_tap = input ? wants_tap : NULL,
        .tap_begin = tap_begin,
        .tap_tile = tap_tile,
        .tap_end = tap_end,
        .wants_weight = weight ? wants_weight : NULL,
        .weight_begin = weight_begin,
        .weight_panel = weight_panel,
        .weight_end = weight_end,
        .output_energy = p->needs & NEED_OUTPUT ? output_energy : NULL,
        .pack = pack_layer,
        .merge = merge_layer,
    };
    for (int layer = 0; layer < model_depth(m); layer++)
        c->slots = m->units[layer].count > c->slots ? m->units[layer].count : c->slots;
    c->slot = mem_zarray((size_t)c->slots, sizeof *c->slot);
    c->result = mem_zarray((size_t)c->slots, sizeof *c->result);
    if (!c->slot || !c->result)
        return error_nomem(err, "analysis");
    slots_clear(c);
    return statpool_new(&c->pool, err);
}

Status collector_new(Collector **out, const PassPlan *p, Error *err)
{
    Collector *c = mem_zarray(1, sizeof *c);
    if (!c)
        return error_nomem(err, "analysis");
    Status st = collector_init(c, p, err);
    if (st != ST_OK) {
        collector_free(c);
        return st;
    }
    *out = c;
    return ST_OK;
}

void collector_free(Collector *c)
{
    if (!c)
        return;
    if (c->slot)
        slots_clear(c);
    free(c->slot);
    free(c->result);
    statpool_free(c->pool);
    free(c);
}

Observer collector_observer(Collector *c)
{
    return (Observer){&c->ops, c};
}

/* Of the energies of a layer's outputs, of one expert's at a time: a number for each band, sample and panel of outputs. */
static uint64_t energy_bytes(const PassPlan *p)
{
    enum { PANEL_LEAST = 64 };
    const uint64_t parts = (uint64_t)p->tokens->samples + (uint64_t)p->tokens->start[p->tokens->samples] / BAND_GOOD + 1;
    uint64_t most = 0, layer = 0, expert = 0;
    for (int64_t i = 0; i < p->m->nlinears; i++) {
        const Linear *l = &p->m->linears[i];
        layer = i && l->layer != p->m->linears[i - 1].layer ? 0 : layer;
        layer += l->expert < 0 ? (uint64_t)div_up(l->out, PANEL_LEAST) : 0;
        expert = l->expert < 0 ? expert : max_u64(expert, 3 * (uint64_t)div_up(l->out, PANEL_LEAST));
        most = max_u64(most, layer);
    }
    return (most + expert) * parts * sizeof(double);
}

uint64_t collector_bytes(const PassPlan *p, int threads)
{
    QSpec weights[LOCAL_EXTRA];
    int64_t longest = longest_of(p->tokens->start, p->tokens->samples);
    return pass_statistics_bytes(p->m, p->needs, local_error_specs(p->levels, p->nlevels, weights),
                                 p->tokens->start[p->tokens->samples], longest, threads) +
           (p->needs & NEED_OUTPUT ? energy_bytes(p) : 0);
}

uint64_t pass_statistics_bytes(const Model *m, unsigned needs, int nweights, int64_t rows, int64_t longest, int threads)
{
    TapWants w = wants_of(needs, false);
    uint64_t tap = 0, weights = 0, layer = 0;
    int64_t widest = 0;
    bool sums = needs & NEED_WEIGHT, hist = needs & (NEED_HIST | NEED_WHIST);
    for (int64_t i = 0; i < m->nlinears; i++) { /* the layer that has most: not all have experts */
        const Linear *l = &m->linears[i];
        layer = i && l->layer != m->linears[i - 1].layer ? 0 : layer;
        widest = l->in > widest ? l->in : widest;
        layer += sums ? (uint64_t)l->in * (uint64_t)(3 + nweights) * sizeof(double) : 0;
        /* a weight has a few thousand distinct keys, at worst all */
        layer += hist ? (uint64_t)(l->out * l->in < 65536 ? l->out * l->in : 65536) * 10 : 0;
        weights = layer > weights ? layer : weights;
    }
    if (needs & NEED_INPUT)
        tap = tapstat_bytes(w, rows, longest, widest, threads);
    if (sums || hist) /* a panel's sums in float and double */
        weights += (uint64_t)(threads < 1 ? 1 : threads) * ((uint64_t)widest * (uint64_t)(nweights ? (3 + nweights) * 12 + 64 * 4 : 36) +
                                                   (hist ? 65536 * 4 : 0));
    return tap + weights;
}
