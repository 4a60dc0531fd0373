/* What a fused group at a level does to the stream that leaves its layer, through the eyes of the model's final norm; and
 * the ranges that its static levels get from the same pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "measure/blocks.h"
#include "metric/collect.h"
#include "metric/leveled.h"
#include "metric/rows.h"
#include "model/block.h"
#include "run/schedule.h"
#include "run/share.h"
#include "run/taps.h"
#include "run/unit.h"

/* How many tokens the errors are taken over, and how many of a text's beginning at least: below 64 a text has hardly
 * begun, and what its first tokens weigh shows. */
enum { PROBE_TOKENS = 512, PROBE_LEAST = 64 };

enum { PART_STREAM, PART_FIRST, PART_ERROR };
static const MetricPart block_parts[] = {
    {"stream", "", "squared error of the layer's output over its square, mean over tokens"},
    {"first", "", "the same of each text's first token"},
    {"error", "", "standard error of the score over blocks of 16 tokens"},
    {NULL, NULL, NULL}};

enum { PART_LO, PART_HI };
static const MetricPart range_parts[] = {{"lo", "", "least input that the scale covers"},
                                         {"hi", "", "greatest input that the scale covers"},
                                         {NULL, NULL, NULL}};

typedef struct BlockPass {
    Runner *r;
    const PassPlan *p;
    const PassSink *sink;
    LeveledSet set;
    LayerForms *forms;      /* [set.n] of the unit at work */
    int nforms;
    const LinearForm **one; /* [linears of the largest unit] of the group at work */
    PassScore *score;       /* [cap] of the unit at work */
    int64_t nscore, cap;
    bool errors;            /* block_error is asked for */
    bool *own;              /* [nlinears] of groups that this rank scores */
    double *sum, *tokens;   /* of blocks of the probe's tokens */
    Collector *stats;       /* what the float pass shows it, NULL: nothing is asked for */
} BlockPass;

/* ---- which tokens ---- */

static PassProbe probe(const PassPlan *p)
{
    return pass_probe(p, PROBE_TOKENS, PROBE_LEAST);
}

/* ---- what is compared ---- */

/* A unit's float way over the probe: the state before each of its blocks up to the first late one, and the output. */
typedef struct Way {
    Stream *state; /* [n + 1]; empty where not known, the last is the output */
    Stream normed; /* of the output */
    double spread; /* of the normed rows around their mean: the score's denominator */
    int n;
} Way;

static void way_fini(Way *w)
{
    for (int i = 0; w->state && i <= w->n; i++)
        stream_fini(&w->state[i]);
    stream_fini(&w->normed);
    free(w->state);
}

/* mean_t |x_t|^2 - |mean_t x_t|^2 over the rows that are not a text's first, or over all where there is no other. */
static double spread_of(const Stream *x)
{
    double square = 0, mean_sq = 0;
    int64_t n = x->rows - x->samples, width = x->width;
    bool firsts = false;
    for (int s = 0; s < x->samples; s++) /* texts of no token have no first */
        n += x->start[s + 1] == x->start[s];
    if (n < 2) {
        firsts = true;
        n = x->rows;
    }
    for (int64_t c = 0; c < width; c++) {
        double sum = 0;
        for (int s = 0; s < x->samples; s++)
            for (int64_t t = x->start[s] + !firsts; t < x->start[s + 1]; t++) {
                double v = (double)x->data[t * width + c];
                sum += v;
                square += v * v;
            }
        mean_sq += sum / (double)n * (sum / (double)n);
    }
    return square / (double)n - mean_sq;
}

static Status way_step(BlockPass *b, int unit, int from, int to, Way *w, Error *err)
{
    const Variant v = {.sdpa = b->p->peer};
    RETURN_IF_ERROR(stream_copy(&w->state[to], &w->state[from], err));
    return unit_forward(b->r, unit, from, to, &v, &w->state[from], &w->state[to], NULL, 0, err);
}

static Status way_init(Way *w, BlockPass *b, int unit, const Stream *h, Error *err)
{
    const Unit *u = &b->p->m->units[unit];
    int late = unit_first_late(u);
    *w = (Way){.state = mem_zarray((size_t)u->nblocks + 1, sizeof *w->state), .n = u->nblocks};
    if (!w->state)
        return error_nomem(err, "hidden states");
    const Share *share = b->p->ranks ? b->p->ranks->share : NULL;
    const PassProbe at = probe(b->p);
    Status st = share ? share_beginnings(share, &w->state[0], h, at.samples, at.rows, err)
                      : stream_beginnings(&w->state[0], h, at.samples, at.rows, err);
    for (int k = 0; st == ST_OK && k < late; k++)
        st = way_step(b, unit, k, k + 1, w, err);
    if (st == ST_OK && late < w->n)
        st = way_step(b, unit, late, w->n, w, err);
    if (st == ST_OK)
        st = runner_final_norm(b->r, &w->state[w->n], &w->normed, NULL, 0, err);
    if (st == ST_OK)
        w->spread = spread_of(&w->normed);
    return st;
}

/* The block of the unit from which on the group is felt; what is added late would be lost if its block did not run. */
static int first_block(const Model *m, int unit, int64_t group)
{
    const Unit *u = &m->units[unit];
    for (int k = 0; k < u->nblocks; k++) {
        const Block *b = &u->block[k];
        for (int i = 0; i < block_linears(b->type); i++)
            if (b->linear[i] >= 0 && m->linears[b->linear[i]].group == group)
                return k;
        if (b->spec->late || b->type->role == ROLE_OTHER)
            return 0;
    }
    return 0; /* experts, whose linears are no slots */
}

/* Sums over tokens, in their order. */
typedef struct Distance {
    double normed;       /* |F(h') - F(h)|^2 */
    double error;        /* standard error of its mean, from blocks of tokens of a text: those beside each other are alike */
    double stream, first; /* |h' - h|^2 / |h|^2, and of the texts' first tokens */
    int64_t rows, firsts;
    int64_t bad;         /* the first row that is no number, -1: none */
} Distance;

static double square_diff(const float *a, const float *b, int64_t n, double *square)
{
    double error = 0, own = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)b[i] - (double)a[i];
        error += d * d;
        own += (double)a[i] * (double)a[i];
    }
    *square = own;
    return error;
}

/* Blocks of the probe's tokens, room for their sums and numbers of tokens. */
static Status blocks_init(BlockPass *b, Error *err)
{
    const PassProbe at = probe(b->p);
    size_t n = (size_t)at.samples * (size_t)div_up(at.rows, BLOCK_TOKENS);
    b->sum = mem_array(2 * n + 1, sizeof *b->sum);
    b->tokens = b->sum + n;
    return b->sum ? ST_OK : error_nomem(err, "block errors");
}

static Distance distance(BlockPass *b, const Way *w, const Stream *changed, const Stream *normed)
{
    const Stream *plain = &w->state[w->n];
    Distance d = {.rows = plain->rows, .bad = -1};
    int64_t block = -1;
    for (int s = 0; s < plain->samples; s++)
        for (int64_t t = plain->start[s]; t < plain->start[s + 1]; t++) {
            double own, ratio;
            if ((t - plain->start[s]) % BLOCK_TOKENS == 0) {
                block++;
                b->sum[block] = b->tokens[block] = 0;
            }
            double e = square_diff(w->normed.data + t * normed->width, normed->data + t * normed->width, normed->width,
                                   &own);
            ratio = square_diff(plain->data + t * plain->width, changed->data + t * plain->width, plain->width, &own);
            ratio = own > 0 ? ratio / own : ratio > 0 ? 1 : 0;
            if (d.bad < 0 && !(isfinite(e) && isfinite(ratio)))
                d.bad = t;
            d.normed += e;
            b->sum[block] += e;
            b->tokens[block]++;
            d.stream += ratio;
            d.first += t == plain->start[s] ? ratio : 0;
            d.firsts += t == plain->start[s];
        }
    d.error = block_sums_error(b->sum, b->tokens, block + 1);
    return d;
}

static void say_bad(UnitScore *u, const Stream *s, int64_t row)
{
    int sample = 0;
    while (row >= s->start[sample + 1])
        sample++;
    snprintf(u->why, sizeof u->why, "NaN or Inf behind the layer at sample %d token %lld", sample,
             (long long)(row - s->start[sample]));
}

/* ---- one group at one level ---- */

/* The group's linears in the table, and whether any computes otherwise than in float. */
static bool take_group(BlockPass *b, const LayerForms *f, int64_t group)
{
    bool any = false;
    memset(b->one, 0, (size_t)f->n * sizeof *b->one);
    for (int64_t i = 0; i < f->n; i++)
        if (b->p->m->linears[f->first + i].group == group && f->table[i]) {
            b->one[i] = f->table[i];
            any = true;
        }
    return any;
}

static Status run_group(BlockPass *b, int unit, int64_t group, const Way *w, UnitScore *u, Error *err)
{
    int from = first_block(b->p->m, unit, group);
    const Variant v = {.forms = b->one, .sdpa = b->p->peer};
    Stream changed, normed = {0};
    RETURN_IF_ERROR(stream_copy(&changed, &w->state[from], err));
    Status st = unit_forward(b->r, unit, from, w->n, &v, &w->state[from], &changed, NULL, 0, err);
    if (st == ST_OK)
        st = runner_final_norm(b->r, &changed, &normed, NULL, 0, err);
    if (st == ST_OK) {
        const Distance d = distance(b, w, &changed, &normed);
        u->value = d.normed / (double)d.rows / w->spread;
        u->part[PART_STREAM] = d.stream / (double)d.rows;
        u->part[PART_FIRST] = d.first / (double)d.firsts;
        u->part[PART_ERROR] = d.error / w->spread;
        u->tokens = d.rows;
        u->samples = changed.samples;
        if (d.bad >= 0)
            say_bad(u, &changed, d.bad);
        else if (!isfinite(u->value))
            snprintf(u->why, sizeof u->why, "the layer's output is the same for every token");
    }
    stream_fini(&changed);
    stream_fini(&normed);
    return st;
}

static PassScore *new_score(BlockPass *b, const Metric *m, int64_t unit, const QConfig *q)
{
    PassScore *s = &b->score[b->nscore++];
    *s = (PassScore){m, {.unit = unit, .value = NAN, .levels = scores_level_all(b->p->m, m->scope, unit, q)}};
    for (int k = 0; k < metric_parts(m); k++)
        s->s.part[k] = NAN;
    return s;
}

static Status score_group(BlockPass *b, int unit, int64_t group, const Way *w, Error *err)
{
    for (int k = 0; k < b->set.n; k++) {
        const Leveled *l = &b->set.of[k];
        PassScore *s = new_score(b, &metric_block_error, group, l->q);
        const char *why = leveled_refuses(&b->set, l, SCOPE_GROUP, group);
        if (*why) {
            snprintf(s->s.why, sizeof s->s.why, "%s", why);
        } else if (!take_group(b, &b->forms[k], group)) {
            snprintf(s->s.why, sizeof s->s.why, "%s", leveled_unreached);
            s->s.absent = true;
        } else {
            RETURN_IF_ERROR(run_group(b, unit, group, w, &s->s, err));
        }
    }
    return ST_OK;
}

/* ---- one unit ---- */

static Dist *ranks_of(const BlockPass *b)
{
    return b->p->ranks ? b->p->ranks->dist : NULL;
}

/* Rows of experts, of all ranks. */
static Status add_routed(void *self, const int64_t *rows, int64_t *all, int n, Error *err)
{
    Pack mine = {0}, *packs;
    Dist *d = ranks_of(self);
    pack_put(&mine, rows, (size_t)n * sizeof *rows);
    const Status st = dist_gather_all(d, &mine, &packs, err);
    pack_fini(&mine);
    RETURN_IF_ERROR(st);
    memset(all, 0, (size_t)n * sizeof *all);
    for (int r = 0; r < dist_size(d); r++) {
        Unpack in = unpack_of(&packs[r]);
        for (int e = 0; e < n; e++)
            all[e] += unpack_i64(&in);
    }
    dist_packs_free(packs, dist_size(d));
    return ST_OK;
}

/* Second moments go from rank to rank: one whose texts don't reach an expert has to say so. */
static bool wants_moments(const PassPlan *p)
{
    bool moments = false;
    for (int k = 0; k < p->nlevels; k++) {
        const QuantLevel l = quant_level(&p->levels[k]);
        moments = moments || (l.runs && l.weight->prepare);
    }
    return moments;
}

/* The float pass over all texts, in place, on which the forms calibrate and statistics are collected. */
static Status run_float(BlockPass *b, LayerCtx *ctx, Error *err)
{
    WatchForms w;
    Stream *h = ctx->streams[0];
    Status st = watch_init(&w, b->forms, b->nforms, &b->set.types, err);
    const RouteForm route = {add_routed, b};
    const Variant v = {.forms = w.any ? w.table : NULL, .sdpa = b->p->peer,
                       .route = b->p->ranks && wants_moments(b->p) ? &route : NULL};
    if (st == ST_OK && b->stats) {
        const Observer obs = collector_observer(b->stats);
        st = runner_layer(b->r, ctx->layer, &v, h, h, &obs, 1, err);
    } else if (st == ST_OK) {
        st = layer_forward(ctx, &v, h, h, err);
    }
    watch_fini(&w);
    for (int k = 0; st == ST_OK && b->p->ranks && k < b->nforms; k++)
        st = layer_forms_gather(&b->forms[k], err);
    return st;
}

static void put_ranges(BlockPass *b, int unit)
{
    const Unit *u = &b->p->m->units[unit];
    for (int k = 0; k < b->nforms; k++)
        for (int64_t i = 0; i < u->count; i++) {
            float lo, hi;
            if (!layer_forms_range(&b->forms[k], i, &lo, &hi))
                continue;
            UnitScore *s = &new_score(b, &metric_input_range, u->first + i, b->set.of[k].q)->s;
            s->value = fmax(fabs((double)lo), fabs((double)hi));
            s->part[PART_LO] = (double)lo;
            s->part[PART_HI] = (double)hi;
            s->tokens = pass_texts(b->p)->start[pass_texts(b->p)->samples];
            s->samples = pass_texts(b->p)->samples;
        }
}

/* Groups go round. */
static Status take_groups(BlockPass *b, Error *err)
{
    const Model *m = b->p->m;
    int64_t before = -1, n = 0;
    b->own = mem_zarray((size_t)m->nlinears + 1, sizeof *b->own);
    if (!b->own)
        return error_nomem(err, "block errors");
    for (int64_t i = 0; i < m->nlinears; i++) {
        const int64_t group = m->linears[i].group;
        const bool first = group > before && pass_selects(b->p, SCOPE_GROUP, group);
        before = max_i64(before, group);
        n += first;
        b->own[m->groups[group].first] |= first && n % dist_size(ranks_of(b)) == dist_rank(ranks_of(b));
        b->own[i] = b->own[m->groups[group].first];
    }
    for (int k = 0; k < b->set.n; k++)
        b->set.of[k].opt.own = b->own;
    return ST_OK;
}

static Status score_groups(BlockPass *b, int unit, const Way *w, Error *err)
{
    const Unit *u = &b->p->m->units[unit];
    int64_t before = -1;
    for (int k = 0; k < b->nforms; k++)
        RETURN_IF_ERROR(layer_forms_stage(&b->forms[k], 0, FORM_FIXED, &b->set.types, err));
    for (int64_t i = 0; i < u->count; i++) {
        int64_t group = b->p->m->linears[u->first + i].group;
        if (group <= before || !pass_selects(b->p, SCOPE_GROUP, group))
            continue;
        before = group;
        if (!b->own[u->first + i])
            continue; /* another rank's */
        RETURN_IF_ERROR(cancel_check(runner_cancel(b->r), err));
        RETURN_IF_ERROR(score_group(b, unit, group, w, err));
    }
    return ST_OK;
}

static Status run_unit(void *self, LayerCtx *ctx, Error *err)
{
    BlockPass *b = self;
    const Unit *u = &b->p->m->units[ctx->layer];
    Way w = {0};
    Status st = ST_OK;
    b->nscore = 0;
    b->nforms = 0;
    while (st == ST_OK && b->nforms < b->set.n) {
        st = layer_forms_init(&b->forms[b->nforms], b->p->m, &b->set.of[b->nforms].opt, u->first, u->count, err);
        b->nforms += st == ST_OK;
    }
    if (st == ST_OK && b->errors)
        st = way_init(&w, b, ctx->layer, ctx->streams[0], err);
    if (st == ST_OK)
        st = run_float(b, ctx, err);
    if (st == ST_OK && dist_leads(ranks_of(b)))
        put_ranges(b, ctx->layer);
    if (st == ST_OK && b->errors)
        st = score_groups(b, ctx->layer, &w, err);
    way_fini(&w);
    while (b->nforms > 0)
        layer_forms_fini(&b->forms[--b->nforms]);
    return st;
}

/* To rank 0, which tells those of all groups: what is kept of a layer is whole. */
static Status gather_scores(BlockPass *b, Error *err)
{
    Dist *d = ranks_of(b);
    Pack mine = {0}, *all = NULL;
    for (int64_t i = 0; i < b->nscore && !dist_leads(d); i++)
        pack_put(&mine, &b->score[i].s, sizeof b->score[i].s);
    const Status st = dist_gather(d, &mine, &all, err);
    pack_fini(&mine);
    RETURN_IF_ERROR(st);
    b->nscore = dist_leads(d) ? b->nscore : 0;
    for (int r = 1; all && r < dist_size(d); r++) {
        Unpack in = unpack_of(&all[r]);
        for (; in.at != in.end && b->nscore < b->cap; b->nscore++) {
            b->score[b->nscore].metric = &metric_block_error;
            unpack_get(&in, &b->score[b->nscore].s, sizeof b->score->s);
        }
    }
    dist_packs_free(all, dist_size(d));
    return ST_OK;
}

static Status unit_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    BlockPass *b = ctx;
    if (b->p->ranks)
        RETURN_IF_ERROR(gather_scores(b, err));
    PassStep gave = {.score = b->score, .nscore = b->nscore, .h = streams[0]};
    if (b->stats)
        RETURN_IF_ERROR(collector_unit(b->stats, unit, &gave.linear, &gave.nlinear, err));
    return pass_tell_layer(b->p, b->sink, unit, &gave, err);
}

/* ---- the pass ---- */

static Status begin(BlockPass *b, Error *err)
{
    const Model *m = b->p->m;
    int64_t most = 0;
    for (int unit = 0; unit < model_depth(m); unit++)
        most = max_i64(most, m->units[unit].count);
    RETURN_IF_ERROR(leveled_init(&b->set, b->r, b->p, err));
    RETURN_IF_ERROR(take_groups(b, err));
    b->cap = 2 * most * b->set.n; /* a group and a range a linear, at most */
    b->one = mem_zarray((size_t)most + 1, sizeof *b->one);
    b->score = mem_zarray((size_t)b->cap + 1, sizeof *b->score);
    b->forms = mem_zarray((size_t)b->set.n + 1, sizeof *b->forms);
    b->errors = pass_asks(b->p, &metric_block_error);
    if (!b->one || !b->score || !b->forms)
        return error_nomem(err, "block errors");
    RETURN_IF_ERROR(blocks_init(b, err));
    return b->p->needs ? collector_new(&b->stats, b->p, err) : ST_OK;
}

/* Whether layers of the texts' beginnings take over what an indexer chose, which a rank doesn't tell the others. */
static bool takes_over(const PassPlan *p)
{
    int64_t start[] = {0, min_i64(probe(p).rows, longest_of(p->tokens->start, p->tokens->samples))};
    const Stream beginning = {.samples = 1, .start = start};
    for (int unit = 0; unit < model_depth(p->m); unit++)
        if (runner_carries(p->m, unit, &beginning))
            return true;
    return false;
}

/* A rank without any text runs no pass that second moments could come by in. */
static bool whole(const PassPlan *p, int ranks)
{
    return (wants_moments(p) && !share_all_have(p->tokens, ranks)) || takes_over(p);
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    BlockPass b = {.r = r, .p = p, .sink = sink};
    Status st = begin(&b, err);
    if (st == ST_OK)
        st = pass_by_layer(r, p, (LayerJob){"block_error", run_unit, &b}, unit_done, &b, err);
    collector_free(b.stats);
    leveled_fini(&b.set);
    free(b.one);
    free(b.own);
    free(b.sum);
    free(b.score);
    free(b.forms);
    return st;
}

/* Forms, and the probe's states: before each block, one changed, two behind the final norm. */
static uint64_t bytes(const PassPlan *p, int threads)
{
    int blocks = 0;
    for (int unit = 0; unit < model_depth(p->m); unit++)
        blocks = p->m->units[unit].nblocks > blocks ? p->m->units[unit].nblocks : blocks;
    uint64_t rows = (uint64_t)probe(p).rows * (uint64_t)probe(p).samples;
    return leveled_bytes(p, threads) + (p->needs ? collector_bytes(p, threads) : 0) +
           rows * (uint64_t)(p->m->cfg.stream_width * (blocks + 2) + 2 * p->m->cfg.hidden) * sizeof(float);
}

static const MetricPass pass_block_error = {
    .name = "block error", .step = "layer", .stream = true, .steps = pass_layers, .bytes = bytes, .need = leveled_need,
    .run = run, .collects = true, .divides = DIVIDES_SAMPLES, .whole = whole};

const Metric metric_block_error = {
    .name = "block_error",
    .title = "Block error",
    .unit = "",
    .scope = SCOPE_GROUP,
    .family = FAMILY_DECIDE,
    .cost = "one float pass over the calibration set, and the rest of each layer again for each of its groups over 512 "
            "tokens: a quarter more",
    .parts = block_parts,
    .direction = 1,
    .pass = &pass_block_error,
    .explain = "How far a fused group at its level moves what its layer hands on, token by token, through the final norm.\n"
               "The best cheap guide to what to give back: it weighs an error by the stream it is added to.\n"
               "It doesn't see what later layers repair; of the last layer, which none follow, it thinks too well: see "
               "alone.",
};

const Metric metric_input_range = {
    .name = "input_range",
    .title = "Input range",
    .unit = "",
    .scope = SCOPE_LINEAR,
    .family = FAMILY_INPUT,
    .cost = "one float pass over the calibration set",
    .parts = range_parts,
    .direction = 1,
    .pass = &pass_block_error,
    .explain = "The range that calibration gives a static level's inputs: the larger end of it is the score.\n"
               "A wide range makes coarse steps; whether that harms is for block_error and alone to say.\n"
               "Levels that quantize each token by its own range have none.",
};
