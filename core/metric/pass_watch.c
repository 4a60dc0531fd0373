/* One float pass for all metrics that describe what flows through the model. */
#include "metric/watch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "dist/dist.h"
#include "run/need.h"
#include "run/schedule.h"
#include "run/share.h"
#include "run/taps.h"

static const Watch *const watches[] = {&watch_act_outliers, &watch_output_outliers, &watch_massive, &watch_coverage,
                                       &watch_expert_load, &watch_text_range};
enum { WATCHES = sizeof watches / sizeof *watches };

typedef struct WatchPass {
    const PassPlan *p;
    const PassSink *sink;
    const Watch *watch[WATCHES]; /* [n] that were asked for */
    void *self[WATCHES];
    Observer obs[WATCHES];
    int n, nobs;
    Pool *pool;
    WatchOut out;
} WatchPass;

Status watch_put(WatchOut *out, const Metric *m, const UnitScore *u, Error *err)
{
    if (!mem_grow(&out->score, &out->cap, out->n + 1, sizeof *out->score))
        return error_nomem(err, "the scores of a layer");
    out->score[out->n++] = (PassScore){m, *u};
    return ST_OK;
}

bool watch_wants_unit(const PassPlan *p, int unit)
{
    const Unit *u = &p->m->units[unit];
    bool any = !p->selected;
    for (int64_t i = u->first; !any && i < u->first + u->count; i++)
        any = p->selected[i];
    return any;
}

bool bad_place_find(BadPlace *b, int sample, int64_t row0, const float *x, int64_t rows, int64_t width, int64_t ld)
{
    if (b->sample >= 0 && b->sample <= sample)
        return true;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < width; j++)
            if (!isfinite(x[r * ld + j])) {
                *b = (BadPlace){sample, row0 + r, j, isnan(x[r * ld + j])};
                return true;
            }
    return false;
}

void bad_place_text(const BadPlace *b, char *out, int size)
{
    snprintf(out, (size_t)size, "%s first at sample %d token %lld channel %lld", b->nan ? "NaN" : "Inf", b->sample,
             (long long)b->row, (long long)b->channel);
}

void watch_pack_bad(const BadPlace *b, Pack *out)
{
    pack_i64(out, b->sample);
    pack_i64(out, b->row);
    pack_i64(out, b->channel);
    pack_i64(out, b->nan);
}

void watch_merge_bad(BadPlace *b, int64_t first, Unpack *in)
{
    const int64_t sample = unpack_i64(in), row = unpack_i64(in), channel = unpack_i64(in), nan = unpack_i64(in);
    if (b->sample < 0 && sample >= 0)
        *b = (BadPlace){(int)(first + sample), row, channel, nan != 0};
}

int64_t watch_first_sample(const PassPlan *p)
{
    return p->ranks && p->ranks->share ? p->ranks->share->first : 0;
}

UnitScore watch_tap_score(const TapScore *t)
{
    UnitScore s = t->u;
    if (t->ended)
        return s;
    watch_undefined(&s, "no token reached it");
    s.absent = true;
    return s;
}

bool watch_wants_tap(const PassPlan *p, TapKind kind, Tap tap)
{
    if (tap.kind != kind || tap.linear < 0 || tap.layer < 0)
        return false;
    const Unit *u = &p->m->units[tap.layer];
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (watch_wants(p, i) && (kind == TAP_LINEAR_OUT ? i : pass_input(p, i)) == tap.linear)
            return true;
    return false;
}

void watch_undefined(UnitScore *u, const char *why)
{
    u->value = NAN;
    for (int i = 0; i < METRIC_PARTS; i++)
        u->part[i] = NAN;
    snprintf(u->why, sizeof u->why, "%s", why);
}

/* ---- the pass ---- */

static Status open_all(WatchPass *w, Error *err)
{
    for (int i = 0; i < WATCHES; i++) {
        if (!pass_asks(w->p, watches[i]->metric))
            continue;
        w->watch[w->n] = watches[i];
        RETURN_IF_ERROR(watches[i]->open(w->p, &w->self[w->n++], err));
        if (watches[i]->ops)
            w->obs[w->nobs++] = (Observer){watches[i]->ops, w->self[w->n - 1]};
    }
    return ST_OK;
}

static Status unit_done(void *ctx, int unit, Stream **streams, int nstreams, Error *err)
{
    (void)nstreams;
    WatchPass *w = ctx;
    w->out.n = 0;
    for (int i = 0; w->p->ranks && i < w->nobs; i++)
        RETURN_IF_ERROR(taps_gather(&w->obs[i], unit, w->p->ranks, err));
    const bool tells = !w->p->ranks || dist_leads(w->p->ranks->dist); /* it has what all ranks saw */
    for (int i = 0; i < w->n; i++)
        if (tells || w->watch[i]->meets)
            RETURN_IF_ERROR(w->watch[i]->layer(w->self[i], unit, streams[0], w->pool, &w->out, err));
    const PassStep gave = {.score = w->out.score, .nscore = (int64_t)w->out.n, .h = streams[0]};
    return pass_tell_layer(w->p, w->sink, unit, &gave, err);
}

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    WatchPass w = {.p = p, .sink = sink, .pool = runner_pool(r)};
    Status st = open_all(&w, err);
    if (st == ST_OK) {
        FloatPass pass = {.obs = w.obs, .nobs = w.nobs, .sdpa = p->peer};
        st = pass_by_layer(r, p, (LayerJob){"what flows", float_pass_run, &pass}, unit_done, &w, err);
    }
    for (int i = 0; i < w.n; i++)
        w.watch[i]->close(w.self[i]);
    free(w.out.score);
    return st;
}

static uint64_t bytes(const PassPlan *p, int threads)
{
    uint64_t sum = 0;
    for (int i = 0; i < WATCHES; i++)
        sum += pass_asks(p, watches[i]->metric) ? watches[i]->bytes(p, threads) : 0;
    return sum;
}

/* Of a forward; outputs that are watched stand beside what comes of them, for the rows of a chunk. */
static uint64_t need(const PassPlan *p, int threads)
{
    int64_t rows = p->tokens->start[p->tokens->samples], longest = longest_of(p->tokens->start, p->tokens->samples), out = 0;
    const RunnerAsk ask = {.rows = rows, .longest = longest, .threads = threads};
    RunnerNeed n = runner_need(p->m, &ask);
    for (int64_t i = 0; i < p->m->nlinears; i++)
        out = max_i64(out, p->m->linears[i].out);
    bool outputs = false;
    for (int i = 0; i < WATCHES; i++)
        outputs = outputs || (watches[i]->outputs && pass_asks(p, watches[i]->metric));
    uint64_t apart = (uint64_t)min_i64(rows, max_i64(CHUNK_ROWS, longest)) * (uint64_t)(out + p->m->cfg.hidden) * sizeof(float);
    return n.stream + n.kept + n.layer + (outputs ? apart : 0);
}

const MetricPass pass_watch = {
    .name = "what flows",
    .step = "layer",
    .stream = true,
    .divides = DIVIDES_SAMPLES,
    .any_level = true,
    .steps = pass_layers,
    .bytes = bytes,
    .need = need,
    .run = run,
};
