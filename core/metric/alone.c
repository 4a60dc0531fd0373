/* What one unit at its level does to the model's output when everything else is float: a sweep over few tokens. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "metric/alone.h"
#include "metric/divide.h"
#include "run/schedule.h"
#include "run/share.h"

/* Units that travel together: few at first, so that there is something to look at; tokens of the calibration set by
 * default, and at most so many of a text. */
enum { BATCH_FIRST = 7, BATCH_UNITS = 31, ALONE_TOKENS = 128, ALONE_TEXT = 128 };
/* Units that are swept at the plan's other levels, too, behind all the rest: those that come first. */
enum { LEVELED_UNITS = 10 };

enum { PART_ERROR, PART_PPL };
const MetricPart alone_parts[] = {{"error", "", "standard error of the score over the tokens"},
                                  {"ppl", "", "relative change of perplexity"},
                                  {NULL, NULL, NULL}};

static Dist *alone_dist(const AlonePass *a)
{
    return a->p->ranks ? a->p->ranks->dist : NULL;
}

/* ---- which tokens ---- */

static int64_t probe_want(const PassPlan *p)
{
    return p->probe ? p->probe : ALONE_TOKENS;
}

static bool on_eval(const PassPlan *p)
{
    return p->pass->eval;
}

/* The beginnings of the first texts, up to so many tokens in all; of the evaluation set everything. */
static Status make_probe(AlonePass *a, Error *err)
{
    const TokenSet *t = on_eval(a->p) ? a->p->eval : a->p->tokens;
    int64_t left = on_eval(a->p) ? INT64_MAX : probe_want(a->p), most = on_eval(a->p) ? INT64_MAX : ALONE_TEXT;
    a->own_start = mem_array((size_t)t->samples + 1, sizeof *a->own_start);
    a->own_ids = mem_array((size_t)t->start[t->samples] + 1, sizeof *a->own_ids);
    if (!a->own_start || !a->own_ids)
        return error_nomem(err, "the tokens of a sweep");
    a->probe = (TokenSet){.name = t->name, .start = a->own_start, .ids = a->own_ids};
    a->own_start[0] = 0;
    for (int i = 0; i < t->samples && left > 0; i++) {
        int64_t n = min_i64(min_i64(t->start[i + 1] - t->start[i], most), left);
        if (n < 2) /* predicts nothing */
            continue;
        memcpy(a->own_ids + a->own_start[a->probe.samples], t->ids + t->start[i], (size_t)n * sizeof *t->ids);
        a->own_start[a->probe.samples + 1] = a->own_start[a->probe.samples] + n;
        a->probe.samples++;
        left -= n;
    }
    if (!a->probe.samples)
        return error_set(err, ST_DATA, "'%s' has no text of two tokens: nothing is predicted", t->name ? t->name : "?");
    return predicted_init(&a->predicted, &a->probe, err);
}

/* ---- which units ---- */

static int64_t first_linear(const Model *m, MetricScope scope, int64_t unit)
{
    int64_t from, to;
    scope_linears(m, scope, unit, &from, &to);
    while (from < to && scope_unit_of(m, scope, from) != unit)
        from++;
    return from;
}

/* Linears among which those of a unit of the plan lie, and whether it takes one: a set those it lists, another those of the
 * metric's scope. */
static void unit_span(const AlonePass *a, int64_t unit, int64_t *from, int64_t *to)
{
    const PassSets *s = a->p->sets;
    if (!s) {
        scope_linears(a->p->m, a->metric->scope, unit, from, to);
        return;
    }
    *from = s->linear[s->start[unit]];
    *to = s->linear[s->start[unit + 1] - 1] + 1;
}

static bool unit_takes(const AlonePass *a, int64_t unit, int64_t linear)
{
    const PassSets *s = a->p->sets;
    if (!s)
        return scope_unit_of(a->p->m, a->metric->scope, linear) == unit;
    int64_t low = s->start[unit], high = s->start[unit + 1];
    while (high - low > 1) {
        int64_t mid = low + (high - low) / 2;
        if (s->linear[mid] <= linear)
            low = mid;
        else
            high = mid;
    }
    return s->linear[low] == linear;
}

/* Whether the sweep is of this unit: one of its linears is selected, and logits depend on them. */
static bool sweeps(const PassPlan *p, MetricScope scope, int64_t unit)
{
    int64_t first = first_linear(p->m, scope, unit);
    return first < p->m->nlinears && p->m->linears[first].layer < p->m->cfg.layers && pass_selects(p, scope, unit);
}

/* What block_error says of the groups that the unit touches, the last layer before all: it is under-rated there. */
static double urgency(const AlonePass *a, MetricScope scope, int64_t unit)
{
    const Model *m = a->p->m;
    int64_t from, to;
    double most = 0;
    scope_linears(m, scope, unit, &from, &to);
    for (int64_t i = from; i < to; i++) {
        if (scope_unit_of(m, scope, i) != unit)
            continue;
        if (m->linears[i].layer == m->cfg.layers - 1)
            return INFINITY;
        const UnitSlot *u = a->known ? scores_unit(a->known, &metric_block_error, m->linears[i].group) : NULL;
        if (u && isfinite(u->s.value) && u->s.value > most)
            most = u->s.value;
    }
    return most;
}

static int by_urgency(const void *pa, const void *pb)
{
    const AloneUnit *a = pa, *b = pb;
    if (a->first != b->first)
        return a->first > b->first ? -1 : 1;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

static bool is_known(const AlonePass *a, int64_t unit, uint64_t digest)
{
    const UnitSlot *u = a->known ? scores_unit_at(a->known, a->metric, unit, digest) : NULL;
    return u && !u->stale && (on_eval(a->p) || u->s.absent || u->s.tokens >= probe_want(a->p));
}

/* Every set, in the plan's order. */
static void make_sets(AlonePass *a)
{
    const PassSets *s = a->p->sets;
    for (int64_t i = 0; i < s->n; i++)
        a->unit[a->n++] = (AloneUnit){.unit = i, .layer = a->p->m->linears[s->linear[s->start[i]]].layer,
                                      .score = {.unit = i, .value = NAN}};
    a->total = a->n;
}

/* A unit of the sweep at a level (AloneUnit.at), unless it is known there. */
static void add_unit(AlonePass *a, AloneUnit u, int at, uint64_t digest)
{
    a->total++;
    if (is_known(a, u.unit, digest)) {
        a->done++;
        return;
    }
    u.at = at;
    u.score = (UnitScore){.unit = u.unit, .value = NAN, .levels = digest};
    a->unit[a->n++] = u;
}

/* Whether all of the unit at level k is nothing that its own level or one before k says already. */
static bool other_level(const AlonePass *a, int64_t unit, int k, uint64_t *digest)
{
    MetricScope scope = a->metric->scope;
    *digest = scores_level_all(a->p->m, scope, unit, &a->p->levels[k]);
    bool other = a->level[k].runs && *digest != a->digest[unit];
    for (int i = 0; i < k; i++)
        other = other && scores_level_all(a->p->m, scope, unit, &a->p->levels[i]) != *digest;
    return other;
}

/* Every unit at its level, by urgency, then the first of them at the others. */
static Status make_swept(AlonePass *a, Error *err)
{
    MetricScope scope = a->metric->scope;
    int64_t units = scope_units(a->p->m, scope), n = 0;
    AloneUnit *all = mem_zarray((size_t)units + 1, sizeof *all);
    if (!all)
        return error_nomem(err, "the units of a sweep");
    scores_levels(a->p->m, scope, a->p->levels, a->p->level, a->digest);
    for (int64_t u = 0; u < units; u++)
        if (sweeps(a->p, scope, u))
            all[n++] = (AloneUnit){.unit = u, .layer = a->p->m->linears[first_linear(a->p->m, scope, u)].layer,
                                   .first = urgency(a, scope, u)};
    qsort(all, (size_t)n, sizeof *all, by_urgency);
    for (int64_t i = 0; i < n; i++)
        add_unit(a, all[i], 0, a->digest[all[i].unit]);
    for (int64_t i = 0; a->kind->levels && !on_eval(a->p) && i < min_i64(n, LEVELED_UNITS); i++)
        for (int k = 0; k < a->p->nlevels; k++) {
            uint64_t digest;
            if (other_level(a, all[i].unit, k, &digest))
                add_unit(a, all[i], k + 1, digest);
        }
    free(all);
    return ST_OK;
}

static Status make_units(AlonePass *a, Error *err)
{
    int64_t units = a->p->sets ? a->p->sets->n : scope_units(a->p->m, a->metric->scope);
    size_t more = LEVELED_UNITS * (size_t)a->p->nlevels;
    a->digest = mem_zarray((size_t)units + 1, sizeof *a->digest);
    a->unit = mem_zarray((size_t)units + more + 1, sizeof *a->unit);
    if (!a->digest || !a->unit)
        return error_nomem(err, "the units of a sweep");
    if (!a->p->sets)
        return make_swept(a, err);
    make_sets(a);
    return ST_OK;
}

/* ---- levels without data ---- */

static Status make_levels(AlonePass *a, Error *err)
{
    const PassPlan *p = a->p;
    DType T = arith_dtype(runner_arith(a->r), p->m->cfg.dtype);
    a->types = (FormTypes){T, T, T};
    a->config = mem_zarray((size_t)p->nlevels + 1, sizeof *a->config);
    a->level = mem_zarray((size_t)p->nlevels + 1, sizeof *a->level);
    if (!a->config || !a->level)
        return error_nomem(err, "the levels of a sweep");
    for (int k = 0; k < p->nlevels; k++) {
        a->config[k] = level_without_data(&p->levels[k]);
        a->level[k] = quant_level(&a->config[k]);
    }
    a->opt = (FormsOptions){.levels = a->level, .peer = p->peer, .weight = T, .overlay = p->overlay, .read = leveled_read,
                            .ctx = a->r, .pool = runner_pool(a->r), .cancel = runner_cancel(a->r)};
    return ST_OK;
}

/* The number of a linear's level in the unit. */
static int level_of(const AlonePass *a, const AloneUnit *u, int64_t linear)
{
    return u->at ? u->at : a->p->level[linear];
}

/* Every range that the sweep needs. */
static Status find_ranges(AlonePass *a, Error *err)
{
    int64_t n = a->p->m->nlinears;
    bool *wanted = mem_zarray((size_t)n * (size_t)a->p->nlevels + 1, sizeof *wanted);
    if (!wanted)
        return error_nomem(err, "the levels of a sweep");
    for (int64_t k = 0; k < a->n; k++) {
        int64_t from, to;
        unit_span(a, a->unit[k].unit, &from, &to);
        for (int64_t i = from; i < to; i++)
            if (unit_takes(a, a->unit[k].unit, i) && level_of(a, &a->unit[k], i))
                wanted[(int64_t)(level_of(a, &a->unit[k], i) - 1) * n + i] = true;
    }
    a->ranges = (RangeSet){.r = a->r, .p = a->p, .level = a->level, .done = a->done, .total = a->total, .sink = a->sink};
    Status st = ranges_find(&a->ranges, wanted, err);
    free(wanted);
    return st;
}

/* ---- a batch ---- */

/* The levels of what the unit takes and this build can quantize. */
static Status unit_levels(AlonePass *a, AloneUnit *u, Error *err)
{
    const Model *m = a->p->m;
    int64_t from, to;
    u->level = mem_zarray((size_t)m->nlinears + 1, sizeof *u->level);
    if (!u->level)
        return error_nomem(err, "the levels of a sweep");
    unit_span(a, u->unit, &from, &to);
    for (int64_t i = from; i < to; i++) {
        int level = level_of(a, u, i);
        if (!unit_takes(a, u->unit, i) || !level || !a->level[level - 1].runs)
            continue;
        if (qweight_check(&a->config[level - 1].weight, m->linears[i].out, m->linears[i].in, NULL) == ST_OK)
            u->level[i] = (int16_t)level;
        u->fits = u->fits || u->level[i];
    }
    return ST_OK;
}

/* Its forms in one layer, with the ranges that are known. */
static Status layer_part(AlonePass *a, const AloneUnit *u, int layer, LayerForms *forms, Variant *v, Error *err)
{
    const Unit *l = &a->p->m->units[layer];
    FormsOptions *opt = mem_zarray(1, sizeof *opt); /* outlives the forms: part_end */
    if (!opt)
        return error_nomem(err, "the levels of a sweep");
    *opt = a->opt;
    opt->level = u->level;
    Status st = layer_forms_init(forms, a->p->m, opt, l->first, l->count, err);
    if (st != ST_OK) {
        free(opt);
        return st;
    }
    ranges_recall(&a->ranges, forms, u->level, &a->types);
    RETURN_IF_ERROR(layer_forms_stage(forms, 0, FORM_FIXED, &a->types, err));
    *v = (Variant){.forms = forms->table, .sdpa = a->p->peer};
    return ST_OK;
}

static void part_end(LayerForms *forms)
{
    const FormsOptions *opt = forms->opt;
    if (forms->states)
        layer_forms_fini(forms);
    free((void *)(uintptr_t)opt);
    *forms = (LayerForms){0};
}

/* What no calibration token reached has no form: any tells whether one of the unit has. */
static void note_unreached(AloneUnit *u, bool any)
{
    if (!u->fits || any)
        return;
    snprintf(u->score.why, sizeof u->score.why, "%s", leveled_unreached);
    u->score.absent = true;
    u->fits = false;
}

static Status unit_forms(AlonePass *a, AloneUnit *u, Error *err)
{
    RETURN_IF_ERROR(unit_levels(a, u, err));
    RETURN_IF_ERROR(layer_part(a, u, u->layer, &u->forms, &u->v, err));
    note_unreached(u, u->forms.any);
    return ST_OK;
}

static void unit_end(AloneUnit *u)
{
    part_end(&u->forms);
    for (int i = 0; i < u->nparts; i++)
        part_end(&u->part[i].forms);
    free(u->part);
    free(u->level);
    u->part = NULL;
    u->level = NULL;
    u->nparts = 0;
}

/* A set: the forms of its first layer, and of every further one that it touches, in their order. */
static Status set_forms(AlonePass *a, AloneUnit *u, Error *err)
{
    const Model *m = a->p->m;
    const PassSets *s = a->p->sets;
    RETURN_IF_ERROR(unit_levels(a, u, err));
    RETURN_IF_ERROR(layer_part(a, u, u->layer, &u->forms, &u->v, err));
    bool any = u->forms.any;
    u->part = mem_zarray((size_t)m->cfg.layers + 1, sizeof *u->part);
    if (!u->part)
        return error_nomem(err, "the levels of a sweep");
    for (int64_t k = s->start[u->unit], layer = u->layer; k < s->start[u->unit + 1]; k++) {
        if (m->linears[s->linear[k]].layer == layer)
            continue;
        layer = m->linears[s->linear[k]].layer;
        AlonePart *p = &u->part[u->nparts++];
        RETURN_IF_ERROR(layer_part(a, u, (int)layer, &p->forms, &p->v, err));
        p->change = (Perturb){.unit = (int)layer, .variant = &p->v};
        if (u->nparts > 1)
            p[-1].change.then = &p->change;
        any = any || p->forms.any;
    }
    note_unreached(u, any);
    return ST_OK;
}

/* Rows that predict a token of samples [s0, s0 + n). */
static int64_t predicted_in(const AlonePass *a, int s0, int n)
{
    int64_t rows = a->probe.start[s0 + n] - a->probe.start[s0];
    return rows - n; /* every sample has at least two tokens */
}

/* Its first predicted row. */
static int64_t predicted_before(const AlonePass *a, int s0)
{
    return a->probe.start[s0] - s0;
}

/* The predicted rows of a chunk behind the final norm into place `c` of each token. */
static void put_rows(AlonePass *a, const Stream *normed, int c)
{
    int64_t width = normed->width, t = 0;
    for (int s = 0; s < normed->samples; s++)
        for (int64_t row = normed->start[s]; row + 1 < normed->start[s + 1]; row++, t++)
            memcpy(a->rows.rows.data + (t * (1 + a->copies) + c) * width, normed->data + row * width,
                   (size_t)width * sizeof(float));
}

static Status begin_chunk(AlonePass *a, int s0, const Stream *plain, Error *err)
{
    int64_t tokens = predicted_in(a, s0, plain->samples), start[2] = {0, tokens * (1 + a->copies)};
    a->chunk0 = s0;
    Stream normed;
    RETURN_IF_ERROR(runner_final_norm(a->r, plain, &normed, NULL, 0, err));
    a->rows = (ShiftRows){.tokens = tokens, .copies = a->copies, .lse = a->plain.lse + predicted_before(a, s0),
                          .next = a->predicted.next + predicted_before(a, s0)};
    Status st = stream_init(&a->rows.rows, 1, start, normed.width, err);
    for (int c = 0; st == ST_OK && c <= a->copies; c++) /* places that no unit takes change nothing */
        put_rows(a, &normed, c);
    stream_fini(&normed);
    return st;
}

static Status take_stream(void *ctx, int p, int s0, const Stream *plain, const Stream *changed, Error *err)
{
    AlonePass *a = ctx;
    Stream normed;
    if (a->chunk0 != s0)
        RETURN_IF_ERROR(begin_chunk(a, s0, plain, err));
    RETURN_IF_ERROR(runner_final_norm(a->r, changed, &normed, NULL, 0, err));
    put_rows(a, &normed, 1 + p);
    stream_fini(&normed);
    return ST_OK;
}

static Status end_chunk(void *ctx, int done, int samples, Error *err)
{
    (void)done, (void)samples;
    AlonePass *a = ctx;
    int64_t at = predicted_before(a, a->chunk0) * a->copies;
    Status st = shift_rows_run(a->r, &a->rows, a->kl + at, a->nll + at, err);
    stream_fini(&a->rows.rows);
    a->chunk0 = -1;
    return st;
}

static void finish_unit(const AlonePass *a, int c, UnitScore *u)
{
    int64_t n = a->predicted.n, bad = -1;
    double sum = 0, square = 0, nll = 0;
    for (int64_t t = 0; t < n; t++) {
        double kl = a->kl[t * a->copies + c];
        bad = bad < 0 && !isfinite(kl) ? t : bad;
        sum += kl;
        square += kl * kl;
        nll += a->nll[t * a->copies + c];
    }
    double mean = sum / (double)n, spread = n > 1 ? (square / (double)n - mean * mean) / (double)(n - 1) : NAN;
    u->value = bad < 0 ? mean : NAN;
    u->part[PART_ERROR] = sqrt(fmax(spread, 0));
    u->part[PART_PPL] = expm1(nll / (double)n);
    u->tokens = a->probe.start[a->probe.samples];
    u->samples = a->probe.samples;
    if (bad >= 0)
        snprintf(u->why, sizeof u->why, "the logits of sample %d token %lld are no numbers", a->predicted.sample_of[bad],
                 (long long)(a->predicted.row_of[bad] - a->probe.start[a->predicted.sample_of[bad]]));
}

static Status tell_batch(AlonePass *a, Error *err)
{
    PassScore score[BATCH_UNITS];
    int n = 0;
    for (int c = 0; c < a->nbatch; c++) {
        AloneUnit *u = &a->unit[a->at + c];
        if (u->fits)
            finish_unit(a, c, &u->score);
        else if (!u->score.why[0])
            snprintf(u->score.why, sizeof u->score.why, "its level is none that this build can give it: it stays float");
        score[n++] = (PassScore){a->metric, u->score};
    }
    a->done += n;
    const PassStep step = {.done = a->done, .total = a->total, .news = true, .score = score, .nscore = n};
    return a->sink->step(a->sink->ctx, &step, err);
}

static Status run_batch(AlonePass *a, Error *err)
{
    Perturb perturb[BATCH_UNITS];
    Status st = ST_OK;
    const Model *m = a->p->m;
    a->chunk0 = -1;
    a->copies = shift_copies(a->nbatch);
    for (int c = 0; st == ST_OK && c < a->nbatch; c++)
        st = a->kind->begin(a, &a->unit[a->at + c], err);
    for (int c = 0; c < a->nbatch; c++) {
        const AloneUnit *u = &a->unit[a->at + c];
        perturb[c] = (Perturb){.unit = u->layer, .variant = &u->v, .until = m->cfg.layers,
                               .then = u->nparts ? &u->part[0].change : NULL};
    }
    const Sweep sweep = {.tokens = &a->probe, .perturb = perturb, .n = a->nbatch, .last = m->cfg.layers,
                         .chunk_rows = SWEEP_ROWS / (1 + a->nbatch), .sdpa = a->p->peer};
    if (st == ST_OK)
        st = schedule_sweep(a->r, &sweep, &(SweepSink){take_stream, end_chunk, a}, err);
    if (st == ST_OK)
        st = tell_batch(a, err);
    if (a->chunk0 >= 0)
        stream_fini(&a->rows.rows);
    for (int c = 0; c < a->nbatch; c++)
        a->kind->end(&a->unit[a->at + c]);
    return st;
}

/* As many units as memory lets travel together. */
static int batch_units(const AlonePass *a)
{
    const Model *m = a->p->m;
    uint64_t limit = runner_mem_limit(a->r);
    int64_t longest = longest_of(a->probe.start, a->probe.samples), rows = a->probe.start[a->probe.samples];
    int n = BATCH_UNITS;
    rows = max_i64(longest, min_i64(rows, SWEEP_ROWS / (1 + n)));
    while (limit && n > 1 && schedule_sweep_bytes(m, n, rows, longest, pool_threads(runner_pool(a->r))) > limit)
        n = n / 2;
    return n;
}

/* ---- float's own logits ---- */

static Status plain_logits(AlonePass *a, Error *err)
{
    Stream h = {0}, *hs = &h, normed = {0};
    const TokenSet *tokens = &a->probe;
    FloatPass pass = {.sdpa = a->p->peer};
    Outside embed = {.tokens = &tokens};
    const Schedule s = {.last = a->p->m->cfg.layers, .job = {"float", float_pass_run, &pass}, .outside = &embed};
    RETURN_IF_ERROR(schedule_forward(a->r, &hs, 1, &s, err));
    Status st = predicted_rows(&a->predicted, a->r, &h, &normed, err);
    if (st == ST_OK)
        st = logit_rows_run(a->r, &normed, a->predicted.next, false, &a->plain, err);
    stream_fini(&normed);
    stream_fini(&h);
    return st;
}

/* ---- the pass ---- */

/* Of what is left to do, every rank takes some: of each unit the layers from its own on run again. */
static Status take_mine(AlonePass *a, Error *err)
{
    const Model *m = a->p->m;
    double *load = mem_zarray((size_t)dist_size(alone_dist(a)), sizeof *load);
    int64_t n = 0, from, to;
    if (!load)
        return error_nomem(err, "a sweep");
    for (int64_t i = 0; i < a->n; i++) {
        unit_span(a, a->unit[i].unit, &from, &to);
        const int layer = from < m->nlinears ? m->linears[from].layer : 0;
        if (share_taker(alone_dist(a), load, m->cfg.layers - layer + 1) == dist_rank(alone_dist(a)))
            a->unit[n++] = a->unit[i];
    }
    a->n = n;
    free(load);
    return ST_OK;
}

static Status begin(AlonePass *a, Error *err)
{
    a->known = a->p->before;
    if (!a->p->m->exit.head)
        return error_set(err, ST_USAGE, "%s measures what the logits lose, and this model has no head", a->metric->name);
    RETURN_IF_ERROR(make_probe(a, err));
    RETURN_IF_ERROR(make_levels(a, err));
    RETURN_IF_ERROR(make_units(a, err));
    if (!a->n)
        return ST_OK;
    RETURN_IF_ERROR(a->kind->prepare(a, err));
    RETURN_IF_ERROR(take_mine(a, err));
    size_t cells = (size_t)a->predicted.n * BATCH_UNITS;
    a->kl = mem_zarray(cells + 1, sizeof *a->kl);
    a->nll = mem_zarray(cells + 1, sizeof *a->nll);
    return a->kl && a->nll ? plain_logits(a, err) : error_nomem(err, "a sweep");
}

static void end(AlonePass *a)
{
    if (a->kind->close)
        a->kind->close(a);
    predicted_fini(&a->predicted);
    logit_rows_fini(&a->plain);
    scores_fini(&a->ranges.found);
    free(a->own_start);
    free(a->own_ids);
    free(a->digest);
    free(a->config);
    free(a->level);
    free(a->unit);
    free(a->kl);
    free(a->nll);
}

Status alone_run(Runner *r, const PassPlan *p, const PassSink *sink, const AloneKind *kind, Error *err)
{
    AlonePass a = {.r = r, .p = p, .metric = p->metrics[0], .kind = kind, .sink = sink, .chunk0 = -1};
    Status st = begin(&a, err);
    int most = st == ST_OK ? batch_units(&a) : 1;
    for (int want = BATCH_FIRST; st == ST_OK && a.at < a.n; a.at += a.nbatch, want = 2 * want + 1) {
        a.nbatch = (int)min_i64(min_i64(want, most), a.n - a.at);
        st = cancel_check(runner_cancel(r), err);
        if (st == ST_OK)
            st = run_batch(&a, err);
    }
    end(&a);
    return st;
}

int64_t alone_steps(const PassPlan *p)
{
    MetricScope scope = p->metrics[0]->scope;
    int64_t n = 0;
    for (int64_t u = 0; u < scope_units(p->m, scope); u++)
        n += sweeps(p, scope, u);
    return n;
}

static int64_t plan_rows(const PassPlan *p, int64_t *longest)
{
    const TokenSet *t = on_eval(p) ? p->eval : p->tokens;
    *longest = longest_of(t->start, t->samples);
    if (on_eval(p))
        return t->start[t->samples];
    *longest = min_i64(*longest, ALONE_TEXT);
    return min_i64(probe_want(p), t->start[t->samples]);
}

uint64_t alone_bytes(const PassPlan *p, int threads)
{
    int64_t longest;
    uint64_t rows = (uint64_t)plan_rows(p, &longest);
    uint64_t travel = rows * (1 + BATCH_UNITS) * (uint64_t)p->m->cfg.hidden * sizeof(float);
    return travel + shift_rows_scratch((int64_t)rows, BATCH_UNITS, threads) +
           rows * BATCH_UNITS * 2 * sizeof(double);
}

uint64_t alone_need(const PassPlan *p, int threads)
{
    int64_t longest, rows = plan_rows(p, &longest);
    rows = max_i64(longest, min_i64(rows, SWEEP_ROWS / (1 + BATCH_UNITS)));
    return schedule_sweep_bytes(p->m, BATCH_UNITS, rows, longest, threads);
}

bool alone_answered(const PassPlan *p, const Scores *s)
{
    const Metric *m = p->metrics[0];
    for (int64_t u = 0; u < scope_units(p->m, m->scope); u++) {
        const UnitSlot *slot = scores_unit(s, m, u);
        if (sweeps(p, m->scope, u) && (!slot || slot->stale || (!on_eval(p) && !slot->s.absent && slot->s.tokens < probe_want(p))))
            return false;
    }
    return true;
}

/* ---- units of linears ---- */

static const AloneKind linears = {.prepare = find_ranges, .begin = unit_forms, .end = unit_end, .levels = true};

static Status run(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    return alone_run(r, p, sink, &linears, err);
}

/* And of a batch's forms. */
static uint64_t bytes(const PassPlan *p, int threads)
{
    return alone_bytes(p, threads) + leveled_bytes(p, threads) + (uint64_t)p->m->nlinears * sizeof(int16_t) * BATCH_UNITS;
}

/* Of the sweep, or of the float pass that finds the ranges. */
static uint64_t need(const PassPlan *p, int threads)
{
    return max_u64(alone_need(p, threads), leveled_need(p, threads));
}

#define READS(id) static const Metric *const reads_##id[] = {&metric_##id, &metric_block_error, &metric_input_range, NULL};
#define PASS(id, text, evaluates)                                                                                         \
    READS(id)                                                                                                       \
    static const MetricPass pass_##id = {.name = text, .step = "unit", .reads = reads_##id, .answered = alone_answered, \
                                         .steps = alone_steps, .bytes = bytes, .need = need, .run = run, .eval = evaluates, \
                                         .divides = DIVIDES_ITSELF};
PASS(alone, "alone", false)
PASS(alone_linear, "alone, by linear", false)
PASS(alone_block, "alone, by block", false)
PASS(alone_exact, "exact sweep", true)

#define ROW(id, unit_scope, text, costs, more)                                                                        \
    const Metric metric_##id = {.name = #id, .title = text, .unit = "nats", .scope = unit_scope,                      \
                                .family = FAMILY_DECIDE, .cost = costs, .parts = alone_parts, .direction = 1,         \
                                .pass = &pass_##id, .explain = ALONE_EXPLAIN more};
#define METHOD "Weights of methods that need data (gptq) stand as minmax on their grid."
#define EVERY_LEVEL " The ten that come first are\nmeasured at the recipe's other levels, too, behind all the rest."
ROW(alone, SCOPE_GROUP, "Alone", ALONE_FEW, METHOD EVERY_LEVEL)
ROW(alone_linear, SCOPE_LINEAR, "Alone, linear", ALONE_FEW, METHOD EVERY_LEVEL)
ROW(alone_block, SCOPE_BLOCK, "Alone, block", ALONE_FEW, METHOD EVERY_LEVEL)
ROW(alone_exact, SCOPE_GROUP, "Alone, exact", "half a pass over the evaluation tokens for each group: minutes to hours",
    "On the evaluation set: what alone estimates on a few calibration tokens. " METHOD)

/* ---- sets of linears ---- */

static const AloneKind sets = {.prepare = find_ranges, .begin = set_forms, .end = unit_end};

static Status run_sets(Runner *r, const PassPlan *p, const PassSink *sink, Error *err)
{
    return alone_run(r, p, sink, &sets, err);
}

static int64_t set_steps(const PassPlan *p)
{
    return p->sets->n;
}

/* Forms of every layer that the widest set touches. */
static uint64_t set_bytes(const PassPlan *p, int threads)
{
    int64_t most = 1;
    for (int64_t i = 0; i < p->sets->n; i++) {
        int64_t layers = 1;
        for (int64_t k = p->sets->start[i] + 1; k < p->sets->start[i + 1]; k++)
            layers += p->m->linears[p->sets->linear[k]].layer != p->m->linears[p->sets->linear[k - 1]].layer;
        most = max_i64(most, layers);
    }
    return bytes(p, threads) + (uint64_t)(most - 1) * leveled_bytes(p, threads);
}

static const Metric *const reads_together[] = {&metric_input_range, NULL};
const MetricPass pass_together = {.name = "interactions", .step = "set", .reads = reads_together, .steps = set_steps,
                                  .bytes = set_bytes, .need = need, .run = run_sets};
const Metric metric_together = {.name = "together", .title = "Together", .unit = "nats", .scope = SCOPE_GROUP,
                                .family = FAMILY_DECIDE, .cost = ALONE_FEW, .parts = alone_parts, .direction = 1,
                                .pass = &pass_together};
