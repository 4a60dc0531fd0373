#include "process/roundunit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"
#include "qir/round.h"
#include "quant/autoround.h"
#include "run/gradient.h"

/* A step moves by REACH / iters at first, down to 0 at the end: half of it altogether. The peer's goes ten times as far, to and
 * fro over the whole range of what is added before rounding, and fits the texts at the cost of others. */
#define REACH 0.5
#define PEER_REACH 5.0

/* Gradients of weights are gathered from CHUNK rows at a time, in tiles that belong to one task each, one chunk behind the
 * other: the order of every sum is fixed. */
enum { CHUNK = 512, FILL = 64, TILE_OUT = 128, TILE_IN = 512, LINE = 16, STEP_ELEMENTS = 1 << 16 };

/* A linear that is trained. */
typedef struct RoundLinear {
    int64_t linear; /* of the model */
    const QuantLevel *level;
    DType T;
    AutoRound a;
    float *w;
    QWeight *best;
    LinearForm form;
} RoundLinear;

typedef struct Trainer {
    const RoundTask *t;
    const Model *m;
    Pool *pool;
    const Cancel *cancel;
    RoundLinear *lin;         /* [n] */
    int n;
    int *of;                  /* [linears of the unit] into lin, -1: not trained */
    const LinearForm **table; /* [linears of the unit] */
    /* the gradient of a weight */
    float *x, *gt;            /* [CHUNK][in] inputs as they are multiplied, [out][CHUNK] */
    const GemmOps *gemm;
    unsigned char *scratch;   /* [threads][scratch_bytes] */
    size_t scratch_bytes;
    /* which samples come next */
    TorchRandom random;
    int *order, at;           /* [samples] */
    double *first;            /* [samples] loss without training */
    AutoRoundBest rule;
} Trainer;

/* ---- what the trained linears compute ---- */

static void form_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    const RoundLinear *l = self;
    autoround_rows(&l->a, row0, rows, w);
    for (int64_t i = 0; i < rows * in && l->T != DT_F32; i++)
        w[i] = round_to_dtype(w[i], l->T);
}

static void form_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    const RoundLinear *l = self;
    (void)sample;
    l->level->act->rows(&l->level->config->act, NULL, x, rows, in, ld, l->T, false, out);
}

/* The peer's inputs stay as they are while it trains. */
static void set_form(const Trainer *tr, RoundLinear *l)
{
    l->form = (LinearForm){.weight = form_weight, .self = l, .act_key = l->level->config};
    if (!tr->t->peer && l->level->act->rows)
        l->form.act = form_act;
}

/* ---- the gradient of a weight ---- */

typedef struct OuterProduct {
    const Trainer *tr;
    RoundLinear *l;
    const LinearGrad *g;
    int64_t from, rows; /* rows of the chunk at work */
    int64_t part, o0;   /* outputs that read the same columns of x, and the first of them: all, but of linears in groups */
} OuterProduct;

static void fill_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const OuterProduct *p = ctx;
    const AutoRound *a = &p->l->a;
    int64_t r0 = index * FILL, n = min_i64(p->rows - r0, FILL);
    const float *x = p->g->x + (p->from + r0) * p->g->ldx + p->o0 / p->part * a->in;
    const float *g = p->g->g + (p->from + r0) * p->g->ldg + p->o0;
    float *to = p->tr->x + r0 * a->in;
    if (p->l->form.act)
        form_act(p->l, 0, x, n, a->in, p->g->ldx, to);
    else
        for (int64_t r = 0; r < n; r++)
            memcpy(to + r * a->in, x + r * p->g->ldx, (size_t)a->in * sizeof *to);
    for (int64_t o0 = 0; o0 < p->part; o0 += LINE) /* by cache lines of both */
        for (int64_t r = 0; r < n; r++)
            for (int64_t o = o0; o < p->part && o < o0 + LINE; o++)
                p->tr->gt[o * CHUNK + r0 + r] = g[r * p->g->ldg + o];
}

static void outer_task(void *ctx, int64_t index, int worker)
{
    const OuterProduct *p = ctx;
    const Trainer *tr = p->tr;
    const AutoRound *a = &p->l->a;
    int64_t across = div_up(a->in, TILE_IN), o = index / across * TILE_OUT, i = index % across * TILE_IN;
    const GemmArgs args = {.m = min_i64(p->part - o, TILE_OUT), .n = min_i64(a->in - i, TILE_IN), .k = p->rows,
                           .x = tr->gt + o * CHUNK, .ldx = CHUNK, .w = tr->x + i, .ldw = a->in, .w_by_k = true,
                           .y = a->g + (p->o0 + o) * a->in + i, .ldy = a->in, .beta = 1};
    tr->gemm->tile(&args, tr->scratch + (size_t)worker * tr->scratch_bytes);
}

static Status gather(void *self, const LinearGrad *g, Error *err)
{
    const Trainer *tr = self;
    int k = tr->of[g->linear - tr->m->units[tr->t->unit].first];
    if (k < 0)
        return ST_OK;
    OuterProduct p = {.tr = tr, .l = &tr->lin[k], .g = g};
    const AutoRound *a = &p.l->a;
    p.part = a->out / max_i64(tr->m->linears[g->linear].groups, 1);
    const int64_t tiles = div_up(p.part, TILE_OUT) * div_up(a->in, TILE_IN);
    for (p.o0 = 0; p.o0 < a->out; p.o0 += p.part)
        for (p.from = 0; p.from < g->rows; p.from += p.rows) {
            p.rows = min_i64(g->rows - p.from, CHUNK);
            pool_run(tr->pool, PHASE_QUANT_WEIGHT, div_up(p.rows, FILL), fill_task, &p, tr->cancel);
            pool_run(tr->pool, PHASE_QUANT_WEIGHT, tiles, outer_task, &p, tr->cancel);
            RETURN_IF_ERROR(cancel_check(tr->cancel, err));
        }
    return ST_OK;
}

/* ---- passes over all trained weights ---- */

typedef void RowsFn(const Trainer *tr, RoundLinear *l, int64_t row, int64_t rows, float rate);

typedef struct EachRow {
    const Trainer *tr;
    RowsFn *fn;
    float rate;
    RoundLinear *l;
    int64_t rows;
} EachRow;

static void rows_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const EachRow *e = ctx;
    int64_t row = index * e->rows;
    e->fn(e->tr, e->l, row, min_i64(e->l->a.out - row, e->rows), e->rate);
}

static void each_row(const Trainer *tr, RowsFn *fn, float rate)
{
    for (int i = 0; i < tr->n; i++) {
        EachRow e = {.tr = tr, .fn = fn, .rate = rate, .l = &tr->lin[i]};
        e.rows = max_i64(1, STEP_ELEMENTS / e.l->a.in);
        pool_run(tr->pool, PHASE_QUANT_WEIGHT, div_up(e.l->a.out, e.rows), rows_task, &e, NULL);
    }
}

static void keep_rows(const Trainer *tr, RoundLinear *l, int64_t row, int64_t rows, float rate)
{
    (void)rate;
    autoround_codes(&l->a, row, rows, tr->t->peer, l->best);
}

static void step_rows(const Trainer *tr, RoundLinear *l, int64_t row, int64_t rows, float rate)
{
    (void)tr;
    autoround_backward(&l->a, row, rows);
    autoround_step(&l->a, row, rows, rate);
    memset(l->a.g + row * l->a.in, 0, (size_t)(rows * l->a.in) * sizeof *l->a.g);
}

/* ---- samples ---- */

/* The peer's: a new order at every step, and the first sample in place of those that are lacking. Ours: every sample as often
 * as any other, none twice in a step. */
static int draw(Trainer *tr, int *batch)
{
    const int n = tr->t->in->samples, pick = n < AUTOROUND_BATCH ? n : AUTOROUND_BATCH;
    if (tr->t->peer || tr->at + pick > n) {
        torch_permute(&tr->random, n, tr->order);
        tr->at = 0;
    }
    for (int k = 0; k < AUTOROUND_BATCH; k++)
        batch[k] = k < pick ? tr->order[tr->at + k] : 0;
    tr->at += pick;
    return tr->t->peer ? AUTOROUND_BATCH : pick;
}

static int64_t rows_of(const Stream *s, int sample)
{
    return s->start[sample + 1] - s->start[sample];
}

/* Those samples of the unit's input, one behind the other. */
static Status take(const Stream *in, const int *batch, int n, Stream *out, Error *err)
{
    int64_t start[AUTOROUND_BATCH + 1] = {0};
    for (int k = 0; k < n; k++)
        start[k + 1] = start[k] + rows_of(in, batch[k]);
    RETURN_IF_ERROR(stream_init(out, n, start, in->width, err));
    int32_t *ids = in->ids ? mem_array((size_t)start[n], sizeof *ids) : NULL;
    Status st = in->ids && !ids ? error_nomem(err, "texts of a training step") : ST_OK;
    for (int k = 0; k < n; k++) {
        memcpy(out->data + start[k] * in->width, in->data + in->start[batch[k]] * in->width,
               (size_t)(rows_of(in, batch[k]) * in->width) * sizeof *in->data);
        if (ids)
            memcpy(ids + start[k], in->ids + in->start[batch[k]], (size_t)rows_of(in, batch[k]) * sizeof *ids);
    }
    if (ids)
        st = stream_set_ids(out, ids, err);
    free(ids);
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

/* ---- a step ---- */

typedef struct Losses {
    const Stream *want;
    const int *batch;
    Stream *y;    /* what was given becomes the gradient of the loss */
    double *loss; /* [samples of y] */
} Losses;

static void loss_task(void *ctx, int64_t k, int worker)
{
    (void)worker;
    const Losses *l = ctx;
    int64_t n = rows_of(l->y, (int)k) * l->y->width;
    const float *want = l->want->data + l->want->start[l->batch[k]] * l->want->width;
    float *y = l->y->data + l->y->start[k] * l->y->width;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float d = y[i] - want[i];
        sum += (double)fabsf(d);
        y[i] = d > 0 ? 1000.0f : d < 0 ? -1000.0f : 0;
    }
    l->loss[k] = sum;
}

/* Runs the samples through the unit as it is: *out is the gradient of their losses. */
static Status forward(const Trainer *tr, const Variant *v, const int *batch, int n, const Stream *in, Stream *out, double *loss,
                      Error *err)
{
    RETURN_IF_ERROR(stream_copy(out, in, err));
    Status st = runner_layer(tr->t->runner, tr->t->unit, v, in, out, NULL, 0, err);
    if (st == ST_OK)
        pool_run(tr->pool, PHASE_ELEMENTS, n, loss_task, &(Losses){tr->t->want, batch, out, loss}, NULL);
    for (int k = 0; k < n && st == ST_OK; k++)
        if (!isfinite(loss[k]))
            st = error_set(err, ST_DATA, "layer %d: the loss of text %d is %s while its rounding is trained: 'slimscope check' "
                           "looks through the weights; leave the layer out with exclude, or the text", tr->t->unit, batch[k] + 1,
                           isnan(loss[k]) ? "NaN" : "Inf");
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

/* The peer's score of a step. */
static double peer_score(const Trainer *tr, const int *batch, const double *loss)
{
    const Stream *in = tr->t->in;
    int pick = in->samples < AUTOROUND_BATCH ? in->samples : AUTOROUND_BATCH;
    double rows = 0, sum = 0;
    for (int k = 0; k < pick; k++)
        rows += (double)rows_of(in, batch[k]);
    for (int k = 0; k < AUTOROUND_BATCH; k++)
        sum += loss[k];
    return sum / (rows * (double)in->width) / AUTOROUND_BATCH;
}

/* Ours: beside what the same samples lose without training, so that steps of other samples can be compared. */
static double own_score(const Trainer *tr, const int *batch, int n, const double *loss)
{
    double sum = 0, first = 0;
    for (int k = 0; k < n; k++) {
        sum += loss[k];
        first += tr->first[batch[k]];
    }
    return first > 0 ? sum / first : 1;
}

static Status train_step(Trainer *tr, const Variant *v, int64_t it, double *score, Error *err)
{
    int batch[AUTOROUND_BATCH], n = draw(tr, batch);
    double loss[AUTOROUND_BATCH];
    Stream in, grad;
    RETURN_IF_ERROR(take(tr->t->in, batch, n, &in, err));
    Status st = forward(tr, v, batch, n, &in, &grad, loss, err);
    if (st != ST_OK) {
        stream_fini(&in);
        return st;
    }
    *score = tr->t->peer ? peer_score(tr, batch, loss) : own_score(tr, batch, n, loss);
    if (autoround_better(&tr->rule, *score))
        each_row(tr, keep_rows, 0);
    const GradHooks hooks = {gather, tr};
    st = unit_backward(tr->t->runner, tr->t->unit, v, &in, &grad, &hooks, err);
    stream_fini(&grad);
    stream_fini(&in);
    RETURN_IF_ERROR(st);
    double left = 1 - (double)it / (double)tr->t->set->iters, reach = tr->t->peer ? PEER_REACH : REACH;
    each_row(tr, step_rows, (float)(reach / (double)tr->t->set->iters * left));
    return cancel_check(tr->cancel, err);
}

/* What every sample loses with the weights as they are now. */
static Status all_losses(const Trainer *tr, const Variant *v, double *loss, Error *err)
{
    const int n = tr->t->in->samples;
    for (int s = 0; s < n; s += AUTOROUND_BATCH) {
        int batch[AUTOROUND_BATCH], k = n - s < AUTOROUND_BATCH ? n - s : AUTOROUND_BATCH;
        Stream in, grad;
        for (int i = 0; i < k; i++)
            batch[i] = s + i;
        RETURN_IF_ERROR(take(tr->t->in, batch, k, &in, err));
        Status st = forward(tr, v, batch, k, &in, &grad, loss + s, err);
        if (st == ST_OK)
            stream_fini(&grad);
        stream_fini(&in);
        RETURN_IF_ERROR(st);
    }
    return ST_OK;
}

static Status train(Trainer *tr, RoundResult *out, Error *err)
{
    const RoundTask *t = tr->t;
    const Variant v = {.forms = tr->table, .dtype = t->dtype, .sdpa = t->sdpa};
    torch_random(&tr->random, t->set->seed + (uint32_t)t->unit * UINT32_C(0x9E3779B9));
    tr->at = t->in->samples;
    if (t->peer)
        torch_permute(&tr->random, t->in->samples, tr->order);
    else
        RETURN_IF_ERROR(all_losses(tr, &v, tr->first, err));
    for (int64_t it = 0; it < t->set->iters; it++) {
        double score;
        RETURN_IF_ERROR(train_step(tr, &v, it, &score, err));
        out->first = it == 0 ? score : out->first;
        if (t->step)
            t->step(t->ctx, it + 1, t->set->iters, out->first > 0 ? score / out->first : 1);
    }
    out->best = tr->rule.best;
    return ST_OK;
}

/* ---- memory ---- */

static void trainer_fini(Trainer *tr)
{
    for (int i = 0; tr->lin && i < tr->n; i++) {
        RoundLinear *l = &tr->lin[i];
        free(l->w);
        free(l->a.v);
        free(l->a.g);
        free(l->a.low);
    }
    free(tr->lin);
    free(tr->of);
    free(tr->table);
    free(tr->x);
    free(tr->gt);
    free(tr->scratch);
    free(tr->order);
    free(tr->first);
}

/* low, high and their gradients lie in one piece. */
static Status room_for(const Trainer *tr, RoundLinear *l, Error *err)
{
    const RoundSettings *set = tr->t->set;
    const Linear *lin = &tr->m->linears[l->linear];
    size_t n = (size_t)(lin->out * lin->in), groups;
    l->w = mem_aligned(n, sizeof *l->w);
    l->a = autoround_of(&l->level->config->weight, l->w, lin->out, lin->in, tr->t->T);
    l->a.rounds = set->rounds;
    l->a.clips = set->clips;
    groups = (size_t)(l->a.out * l->a.groups);
    l->a.g = mem_zarray(n, sizeof *l->a.g);
    l->a.v = set->rounds ? mem_zarray(n, sizeof *l->a.v) : NULL;
    l->a.low = set->clips ? mem_array(4 * groups, sizeof *l->a.low) : NULL;
    if (!l->w || !l->a.g || (set->rounds && !l->a.v) || (set->clips && !l->a.low))
        return error_nomem(err, lin->name);
    if (set->clips) {
        l->a.high = l->a.low + groups;
        l->a.dlow = l->a.high + groups;
        l->a.dhigh = l->a.dlow + groups;
        for (size_t i = 0; i < 2 * groups; i++)
            l->a.low[i] = 1;
    }
    return qweight_init(l->best, &l->level->config->weight, lin->out, lin->in, err);
}

static Status read_weight(const Trainer *tr, RoundLinear *l, int64_t ahead, Error *err)
{
    const Linear *lin = &tr->m->linears[l->linear];
    RETURN_IF_ERROR(runner_weight(tr->t->runner, l->linear, ahead, l->w, err));
    for (int64_t i = 0; i < lin->out * lin->in; i++)
        if (!isfinite(l->w[i]))
            return error_set(err, ST_DATA, "'%s': its weight holds %s at [%lld,%lld]: 'slimscope check' looks through the whole "
                             "model; fetch it again, or keep the layer in float", lin->name, isnan(l->w[i]) ? "NaN" : "Inf",
                             (long long)(i / lin->in), (long long)(i % lin->in));
    return ST_OK;
}

static Status make_linears(Trainer *tr, QWeight *q, Error *err)
{
    const RoundTask *t = tr->t;
    const Unit *u = &tr->m->units[t->unit];
    for (int64_t i = 0; i < u->count; i++) {
        tr->of[i] = -1;
        tr->table[i] = t->level[i] || !t->others ? NULL : t->others[i];
        if (!t->level[i])
            continue;
        RoundLinear *l = &tr->lin[tr->n];
        *l = (RoundLinear){.linear = u->first + i, .level = &t->levels[t->level[i] - 1], .T = t->T, .best = &q[i]};
        tr->of[i] = tr->n++;
        RETURN_IF_ERROR(room_for(tr, l, err));
        set_form(tr, l);
        tr->table[i] = &l->form;
    }
    for (int i = 0; i < tr->n; i++)
        RETURN_IF_ERROR(read_weight(tr, &tr->lin[i], i + 1 < tr->n ? tr->lin[i + 1].linear : -1, err));
    return ST_OK;
}

static Status make_room(Trainer *tr, Error *err)
{
    const Unit *u = &tr->m->units[tr->t->unit];
    int64_t in = 0, out = 0;
    for (int64_t i = 0; i < u->count; i++) {
        const Linear *l = &tr->m->linears[u->first + i];
        in = max_i64(in, tr->t->level[i] ? l->in : 0);
        out = max_i64(out, tr->t->level[i] ? l->out : 0);
    }
    tr->gemm = gemm_find(GEMM_F32);
    tr->scratch_bytes = tr->gemm->scratch(TILE_OUT, TILE_IN, CHUNK);
    tr->scratch = mem_aligned((size_t)pool_threads(tr->pool), tr->scratch_bytes);
    tr->x = mem_aligned((size_t)in * CHUNK, sizeof *tr->x);
    tr->gt = mem_aligned((size_t)out * CHUNK, sizeof *tr->gt);
    tr->lin = mem_zarray((size_t)u->count, sizeof *tr->lin);
    tr->of = mem_array((size_t)u->count, sizeof *tr->of);
    tr->table = mem_zarray((size_t)u->count, sizeof *tr->table);
    tr->order = mem_array((size_t)tr->t->in->samples, sizeof *tr->order);
    tr->first = mem_zarray((size_t)tr->t->in->samples, sizeof *tr->first);
    bool fine = tr->scratch && tr->x && tr->gt && tr->lin && tr->of && tr->table && tr->order && tr->first;
    return fine ? ST_OK : error_nomem(err, "training a layer's rounding");
}

Status round_unit(const RoundTask *t, QWeight *q, RoundResult *out, Error *err)
{
    Trainer tr = {.t = t, .m = runner_model(t->runner), .pool = runner_pool(t->runner), .cancel = runner_cancel(t->runner)};
    *out = (RoundResult){0};
    Status st = make_room(&tr, err);
    if (st == ST_OK)
        st = make_linears(&tr, q, err);
    if (st == ST_OK)
        st = train(&tr, out, err);
    trainer_fini(&tr);
    return st;
}

uint64_t round_unit_bytes(const Model *m, int unit, const int16_t *level, const QuantLevel *levels, int64_t rows,
                          int64_t longest, int samples, int threads)
{
    const Unit *u = &m->units[unit];
    uint64_t bytes = 0;
    int64_t in = 0, out = 0;
    for (int64_t i = 0; i < u->count; i++) {
        const Linear *l = &m->linears[u->first + i];
        if (!level[i])
            continue;
        const QSpec *q = &levels[level[i] - 1].config->weight;
        uint64_t n = (uint64_t)l->out * (uint64_t)l->in, groups = (uint64_t)l->out * (uint64_t)div_up(l->in, qspec_group(q, l->in));
        bytes += (3 * n + 4 * groups) * sizeof(float) + qweight_bytes(q, l->out, l->in);
        in = max_i64(in, l->in);
        out = max_i64(out, l->out);
    }
    if (!bytes)
        return 0;
    int64_t batch = min_i64(rows, AUTOROUND_BATCH * longest);
    if (samples < AUTOROUND_BATCH)
        batch = AUTOROUND_BATCH * longest; /* some come again */
    uint64_t stream = (uint64_t)batch * ((uint64_t)m->cfg.stream_width * sizeof(float) + sizeof(int32_t));
    bytes += (uint64_t)(in + out) * CHUNK * sizeof(float);
    bytes += (uint64_t)threads * gemm_find(GEMM_F32)->scratch(TILE_OUT, TILE_IN, CHUNK);
    return bytes + 2 * stream + (uint64_t)samples * (sizeof(int) + sizeof(double)) + unit_backward_bytes(m, unit, batch, longest, threads);
}
