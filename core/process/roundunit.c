#include "process/roundunit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"
#include "process/roundstep.h"
#include "qir/round.h"

/* A step moves by REACH / iters at first, down to 0 at the end: half of it altogether. The peer's goes ten times as far, to and
 * fro over the whole range of what is added before rounding, and fits the texts at the cost of others. */
#define REACH 0.5
#define PEER_REACH 5.0

/* Gradients of weights are gathered from CHUNK rows of a text at a time, in tiles that belong to one task each, one chunk and
 * text behind the other: the order of every sum is fixed. */
enum { CHUNK = 512, FILL = 64, TILE_OUT = 128, TILE_IN = 512, LINE = 16, STEP_ELEMENTS = 1 << 16 };

/* A linear that is trained. */
typedef struct RoundLinear {
    int64_t linear; /* of the model */
    const QuantLevel *level;
    DType T;
    AutoRound a;
    float *w;
    float *wq;          /* [out][in] of several ranks: what w is with all that was trained so far; NULL: of one */
    QWeight *best;
    LinearForm form;
    int64_t row0, row1; /* rows that this rank moves */
    int64_t *rows;      /* [ranks + 1] those of all ranks; NULL: there is one */
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
    /* of several ranks: what the backward pass of this one's texts told */
    RoundRanks ranks;
    RoundRows *told;          /* [n], NULL: one rank */
    const RoundBatch *now;    /* the step's texts */
    /* which samples come next */
    TorchRandom random;
    int *order, at;           /* [samples] */
    double *first;            /* [samples] loss without training */
    AutoRoundBest rule;
} Trainer;

/* ---- what the trained linears compute ---- */

static void trained_rows(const RoundLinear *l, int64_t row0, int64_t rows, float *w)
{
    autoround_rows(&l->a, row0, rows, w);
    for (int64_t i = 0; i < rows * l->a.in && l->T != DT_F32; i++)
        w[i] = round_to_dtype(w[i], l->T);
}

static void form_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    const RoundLinear *l = self;
    if (l->wq)
        memcpy(w, l->wq + row0 * in, (size_t)(rows * in) * sizeof *w);
    else
        trained_rows(l, row0, rows, w);
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
    const float *x, *g; /* of the rows at work; of g the outputs from o0 on */
    int64_t ldx, ldg, rows;
    int64_t o0, lo, hi; /* outputs that read the same columns of x: the first, and which of those behind it this rank moves */
} OuterProduct;

static void fill_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const OuterProduct *p = ctx;
    const AutoRound *a = &p->l->a;
    int64_t r0 = index * FILL, n = min_i64(p->rows - r0, FILL);
    const float *x = p->x + r0 * p->ldx, *g = p->g + r0 * p->ldg;
    float *to = p->tr->x + r0 * a->in;
    if (p->l->form.act)
        form_act(p->l, 0, x, n, a->in, p->ldx, to);
    else
        for (int64_t r = 0; r < n; r++)
            memcpy(to + r * a->in, x + r * p->ldx, (size_t)a->in * sizeof *to);
    for (int64_t o0 = p->lo; o0 < p->hi; o0 += LINE) /* by cache lines of both */
        for (int64_t r = 0; r < n; r++)
            for (int64_t o = o0; o < p->hi && o < o0 + LINE; o++)
                p->tr->gt[o * CHUNK + r0 + r] = g[r * p->ldg + o];
}

static void outer_task(void *ctx, int64_t index, int worker)
{
    const OuterProduct *p = ctx;
    const Trainer *tr = p->tr;
    const AutoRound *a = &p->l->a;
    int64_t across = div_up(a->in, TILE_IN), o = p->lo + index / across * TILE_OUT, i = index % across * TILE_IN;
    const GemmArgs args = {.m = min_i64(p->hi - o, TILE_OUT), .n = min_i64(a->in - i, TILE_IN), .k = p->rows,
                           .x = tr->gt + o * CHUNK, .ldx = CHUNK, .w = tr->x + i, .ldw = a->in, .w_by_k = true,
                           .y = a->g + (p->o0 + o) * a->in + i, .ldy = a->in, .beta = 1};
    tr->gemm->tile(&args, tr->scratch + (size_t)worker * tr->scratch_bytes);
}

static int64_t parts_of(const Trainer *tr, const RoundLinear *l)
{
    return max_i64(tr->m->linears[l->linear].groups, 1);
}

/* What `rows` rows of one text add to the gradient of the rows that this rank moves. */
static Status add_text(const Trainer *tr, RoundLinear *l, const float *x, int64_t ldx, const float *g, int64_t ldg, int64_t rows,
                       Error *err)
{
    const int64_t part = l->a.out / parts_of(tr, l), in = l->a.in;
    for (int64_t o0 = 0, k = 0; o0 < l->a.out; o0 += part, k++) {
        OuterProduct p = {.tr = tr, .l = l, .ldx = ldx, .ldg = ldg, .o0 = o0, .lo = max_i64(l->row0 - o0, 0),
                          .hi = min_i64(l->row1 - o0, part)};
        for (int64_t r = 0; p.lo < p.hi && r < rows; r += p.rows) {
            p.rows = min_i64(rows - r, CHUNK);
            p.x = x + r * ldx + k * in;
            p.g = g + r * ldg + o0;
            pool_run(tr->pool, PHASE_QUANT_WEIGHT, div_up(p.rows, FILL), fill_task, &p, tr->cancel);
            pool_run(tr->pool, PHASE_QUANT_WEIGHT, div_up(p.hi - p.lo, TILE_OUT) * div_up(in, TILE_IN), outer_task, &p, tr->cancel);
            RETURN_IF_ERROR(cancel_check(tr->cancel, err));
        }
    }
    return ST_OK;
}

static Status gather(void *self, const LinearGrad *g, Error *err)
{
    const Trainer *tr = self;
    int k = tr->of[g->linear - tr->m->units[tr->t->unit].first], text;
    if (k < 0)
        return ST_OK;
    RoundLinear *l = &tr->lin[k];
    if (tr->told)
        return round_rows_add(&tr->told[k], tr->now, g, l->a.in * parts_of(tr, l), l->a.out, err);
    for (int64_t row = 0, end; row < g->rows; row = end) {
        end = round_text_end(tr->now, g, row, &text);
        RETURN_IF_ERROR(add_text(tr, l, g->x + row * g->ldx, g->ldx, g->g + row * g->ldg, g->ldg, end - row, err));
    }
    return ST_OK;
}

/* Of several ranks: what all of them were told of one linear. */
static Status gather_told(const Trainer *tr, RoundLinear *l, const RoundRows *k, Error *err)
{
    const int64_t in = l->a.in * parts_of(tr, l), out = l->a.out;
    float *x = NULL, *g = NULL;
    Status st = round_rows_all(&tr->ranks, tr->now, k, k->x, in, &x, err);
    if (st == ST_OK)
        st = round_rows_all(&tr->ranks, tr->now, k, k->g, out, &g, err);
    for (int64_t i = 0, row = 0; st == ST_OK && i < tr->now->n; row += k->of[i++])
        st = add_text(tr, l, x + row * in, in, g + row * out, out, k->of[i], err);
    free(x);
    free(g);
    return st;
}

static Status gather_all_told(const Trainer *tr, Error *err)
{
    Status st = round_rows_count(&tr->ranks, tr->now, tr->told, tr->n, err);
    for (int i = 0; st == ST_OK && i < tr->n; i++)
        st = gather_told(tr, &tr->lin[i], &tr->told[i], err);
    for (int i = 0; i < tr->n; i++) {
        tr->told[i].rows = 0;
        memset(tr->told[i].of, 0, sizeof tr->told[i].of);
    }
    return st;
}

/* ---- passes over what this rank moves of all trained weights ---- */

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
    int64_t row = e->l->row0 + index * e->rows;
    e->fn(e->tr, e->l, row, min_i64(e->l->row1 - row, e->rows), e->rate);
}

static void each_row(const Trainer *tr, RowsFn *fn, float rate)
{
    for (int i = 0; i < tr->n; i++) {
        EachRow e = {.tr = tr, .fn = fn, .rate = rate, .l = &tr->lin[i]};
        e.rows = max_i64(1, STEP_ELEMENTS / e.l->a.in);
        pool_run(tr->pool, PHASE_QUANT_WEIGHT, div_up(e.l->row1 - e.l->row0, e.rows), rows_task, &e, NULL);
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

static void form_rows(const Trainer *tr, RoundLinear *l, int64_t row, int64_t rows, float rate)
{
    (void)tr, (void)rate;
    trained_rows(l, row, rows, l->wq + row * l->a.in);
}

/* Of several ranks, who have moved some rows each: all weights on all of them, as they are now. */
static Status form_weights(const Trainer *tr, Error *err)
{
    if (tr->told)
        each_row(tr, form_rows, 0);
    for (int i = 0; tr->told && i < tr->n; i++) {
        const RoundLinear *l = &tr->lin[i];
        RETURN_IF_ERROR(round_ranks_exchange(&tr->ranks, l->wq, l->rows, (size_t)l->a.in * sizeof *l->wq, err));
    }
    return ST_OK;
}

/* Of several ranks: what each kept of its rows, on all of them. */
static Status tell_kept(const Trainer *tr, Error *err)
{
    for (int i = 0; tr->told && i < tr->n; i++) {
        const RoundLinear *l = &tr->lin[i];
        const QWeight *q = l->best;
        const size_t groups = (size_t)q->groups * sizeof(float);
        RETURN_IF_ERROR(round_ranks_exchange(&tr->ranks, q->code, l->rows, (size_t)q->in, err));
        RETURN_IF_ERROR(round_ranks_exchange(&tr->ranks, q->scale, l->rows, groups, err));
        if (q->offset)
            RETURN_IF_ERROR(round_ranks_exchange(&tr->ranks, q->offset, l->rows, groups, err));
    }
    return ST_OK;
}

/* ---- samples ---- */

/* The peer's: a new order at every step, and the first sample in place of those that are lacking. Ours: every sample as often
 * as any other, none twice in a step. */
static int draw(Trainer *tr, int *batch)
{
    const int n = tr->ranks.samples, pick = n < AUTOROUND_BATCH ? n : AUTOROUND_BATCH;
    if (tr->t->peer || tr->at + pick > n) {
        torch_permute(&tr->random, n, tr->order);
        tr->at = 0;
    }
    for (int k = 0; k < AUTOROUND_BATCH; k++)
        batch[k] = k < pick ? tr->order[tr->at + k] : 0;
    tr->at += pick;
    return tr->t->peer ? AUTOROUND_BATCH : pick;
}

/* ---- a step ---- */

typedef struct Losses {
    const Stream *want;
    Stream *y;    /* what was given becomes the gradient of the loss */
    double *loss; /* [samples of y] */
} Losses;

static void loss_task(void *ctx, int64_t k, int worker)
{
    (void)worker;
    const Losses *l = ctx;
    int64_t from = l->y->start[k] * l->y->width, n = l->y->start[k + 1] * l->y->width - from;
    const float *want = l->want->data + from;
    float *y = l->y->data + from;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        float d = y[i] - want[i];
        sum += (double)fabsf(d);
        y[i] = d > 0 ? 1000.0f : d < 0 ? -1000.0f : 0;
    }
    l->loss[k] = sum;
}

/* Runs this rank's texts of the batch through the unit as it is: *out is the gradient of their losses, which go to
 * loss[batch's texts]. */
static Status forward(const Trainer *tr, const Variant *v, const RoundBatch *b, Stream *out, double *loss, Error *err)
{
    RETURN_IF_ERROR(stream_copy(out, &b->in, err));
    Status st = runner_layer(tr->t->runner, tr->t->unit, v, &b->in, out, NULL, 0, err);
    if (st == ST_OK)
        pool_run(tr->pool, PHASE_ELEMENTS, b->to - b->from, loss_task, &(Losses){&b->want, out, loss + b->from}, NULL);
    for (int k = b->from; k < b->to && st == ST_OK; k++)
        if (!isfinite(loss[k]))
            st = error_set(err, ST_DATA, "layer %d: the loss of text %d is %s while its rounding is trained: 'slimscope check' "
                           "looks through the weights; leave the layer out with exclude, or the text", tr->t->unit, b->text[k] + 1,
                           isnan(loss[k]) ? "NaN" : "Inf");
    if (st != ST_OK)
        stream_fini(out);
    return st;
}

/* The peer's score of a step. */
static double peer_score(const Trainer *tr, const RoundBatch *b, const double *loss)
{
    const int pick = tr->ranks.samples < AUTOROUND_BATCH ? tr->ranks.samples : AUTOROUND_BATCH;
    double sum = 0;
    for (int k = 0; k < AUTOROUND_BATCH; k++)
        sum += loss[k];
    return sum / ((double)b->start[pick] * (double)tr->t->in->width) / AUTOROUND_BATCH;
}

/* Ours: beside what the same samples lose without training, so that steps of other samples can be compared. */
static double own_score(const Trainer *tr, const RoundBatch *b, const double *loss)
{
    double sum = 0, first = 0;
    for (int k = 0; k < b->n; k++) {
        sum += loss[k];
        first += tr->first[b->text[k]];
    }
    return first > 0 ? sum / first : 1;
}

/* Keeps the weights where they are the best so far, and gathers their gradients. grad: of this rank's losses. */
static Status step_down(Trainer *tr, const Variant *v, const RoundBatch *b, double *loss, Stream *grad, double *score, Error *err)
{
    const GradHooks hooks = {gather, tr};
    if (tr->told)
        RETURN_IF_ERROR(round_ranks_exchange(&tr->ranks, loss, b->cut, sizeof *loss, err));
    *score = tr->t->peer ? peer_score(tr, b, loss) : own_score(tr, b, loss);
    if (autoround_better(&tr->rule, *score))
        each_row(tr, keep_rows, 0);
    tr->now = b;
    if (b->from < b->to)
        RETURN_IF_ERROR(unit_backward(tr->t->runner, tr->t->unit, v, &b->in, grad, &hooks, err));
    return tr->told ? gather_all_told(tr, err) : ST_OK;
}

static Status train_step(Trainer *tr, const Variant *v, int64_t it, double *score, Error *err)
{
    int text[AUTOROUND_BATCH], n = draw(tr, text);
    double loss[AUTOROUND_BATCH] = {0};
    RoundBatch b;
    Stream grad = {0};
    Status st = round_batch_take(&tr->ranks, tr->t, text, n, &b, err);
    if (st == ST_OK && b.from < b.to)
        st = forward(tr, v, &b, &grad, loss, err);
    if (st == ST_OK) {
        st = step_down(tr, v, &b, loss, &grad, score, err);
        stream_fini(&grad);
    }
    round_batch_fini(&b);
    RETURN_IF_ERROR(st);
    double left = 1 - (double)it / (double)tr->t->set->iters, reach = tr->t->peer ? PEER_REACH : REACH;
    each_row(tr, step_rows, (float)(reach / (double)tr->t->set->iters * left));
    RETURN_IF_ERROR(form_weights(tr, err));
    return cancel_check(tr->cancel, err);
}

/* What every sample loses with the weights as they are now. */
static Status all_losses(const Trainer *tr, const Variant *v, double *loss, Error *err)
{
    const int n = tr->t->in->samples;
    double *own = loss + (tr->told ? tr->t->ranks->first : 0);
    for (int s = 0; s < n; s += AUTOROUND_BATCH) {
        RoundBatch b;
        Stream grad = {0};
        Status st = round_batch_own(&tr->ranks, tr->t, s, n - s < AUTOROUND_BATCH ? n - s : AUTOROUND_BATCH, &b, err);
        if (st == ST_OK)
            st = forward(tr, v, &b, &grad, own + s, err);
        if (st == ST_OK)
            stream_fini(&grad);
        round_batch_fini(&b);
        RETURN_IF_ERROR(st);
    }
    return tr->told ? round_ranks_exchange(&tr->ranks, loss, tr->ranks.cut, sizeof *loss, err) : ST_OK;
}

static Status train(Trainer *tr, RoundResult *out, Error *err)
{
    const RoundTask *t = tr->t;
    const Variant v = {.forms = tr->table, .dtype = t->dtype, .sdpa = t->sdpa};
    torch_random(&tr->random, t->set->seed + (uint32_t)t->unit * UINT32_C(0x9E3779B9));
    tr->at = tr->ranks.samples;
    RETURN_IF_ERROR(form_weights(tr, err));
    if (t->peer)
        torch_permute(&tr->random, tr->ranks.samples, tr->order);
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
    return tell_kept(tr, err);
}

/* ---- memory ---- */

static void trainer_fini(Trainer *tr)
{
    for (int i = 0; tr->lin && i < tr->n; i++) {
        RoundLinear *l = &tr->lin[i];
        free(l->w);
        free(l->wq);
        free(l->a.v);
        free(l->a.g);
        free(l->a.low);
        free(l->rows);
    }
    for (int i = 0; tr->told && i < tr->n; i++) {
        free(tr->told[i].x);
        free(tr->told[i].g);
    }
    free(tr->told);
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
    l->wq = tr->told ? mem_aligned(n, sizeof *l->wq) : NULL;
    l->a = autoround_of(&l->level->config->weight, l->w, lin->out, lin->in, tr->t->T);
    l->a.rounds = set->rounds;
    l->a.clips = set->clips;
    groups = (size_t)(l->a.out * l->a.groups);
    l->a.g = mem_zarray(n, sizeof *l->a.g);
    l->a.v = set->rounds ? mem_zarray(n, sizeof *l->a.v) : NULL;
    l->a.low = set->clips ? mem_array(4 * groups, sizeof *l->a.low) : NULL;
    if (!l->w || (tr->told && !l->wq) || !l->a.g || (set->rounds && !l->a.v) || (set->clips && !l->a.low))
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

/* Which of its rows this rank moves. */
static Status share_rows(const Trainer *tr, RoundLinear *l, Error *err)
{
    const Dist *d = tr->ranks.dist;
    l->row1 = l->a.out;
    if (!tr->told)
        return ST_OK;
    l->rows = mem_array((size_t)dist_size(d) + 1, sizeof *l->rows);
    if (!l->rows)
        return error_nomem(err, tr->m->linears[l->linear].name);
    RETURN_IF_ERROR(round_ranks_rows(&tr->ranks, l->a.out, parts_of(tr, l), TILE_OUT, l->rows, err));
    l->row0 = l->rows[dist_rank(d)];
    l->row1 = l->rows[dist_rank(d) + 1];
    return ST_OK;
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
        RETURN_IF_ERROR(share_rows(tr, l, err));
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
    tr->order = mem_array((size_t)tr->ranks.samples, sizeof *tr->order);
    tr->first = mem_zarray((size_t)tr->ranks.samples, sizeof *tr->first);
    tr->told = tr->ranks.dist ? mem_zarray((size_t)u->count + 1, sizeof *tr->told) : NULL;
    bool fine = tr->scratch && tr->x && tr->gt && tr->lin && tr->of && tr->table && tr->order && tr->first &&
                (tr->told || !tr->ranks.dist);
    return fine ? ST_OK : error_nomem(err, "training a layer's rounding");
}

Status round_unit(const RoundTask *t, QWeight *q, RoundResult *out, Error *err)
{
    Trainer tr = {.t = t, .m = runner_model(t->runner), .pool = runner_pool(t->runner), .cancel = runner_cancel(t->runner),
                  .ranks = round_ranks_of(t)};
    *out = (RoundResult){0};
    Status st = make_room(&tr, err);
    if (st == ST_OK)
        st = make_linears(&tr, q, err);
    if (st == ST_OK)
        st = train(&tr, out, err);
    trainer_fini(&tr);
    return st;
}

/* Of several ranks: what a step's texts take to put together, and what is told of them, of this rank's and of one linear's all. */
static uint64_t told_bytes(const Model *m, int unit, const int16_t *level, int64_t rows, int64_t own)
{
    const Unit *u = &m->units[unit];
    uint64_t dense = 0, experts = 0, most = 0;
    for (int64_t i = 0; i < u->count; i++) {
        const Linear *l = &m->linears[u->first + i];
        const uint64_t row = level[i] ? (uint64_t)(l->in * max_i64(l->groups, 1) + l->out) * sizeof(float) : 0;
        *(l->expert >= 0 ? &experts : &dense) += row;
        most = max_u64(most, row);
    }
    if (experts) /* a row goes to some of them */
        dense += (uint64_t)((double)experts / m->cfg.moe.experts * m->cfg.moe.top_k);
    const uint64_t together = (uint64_t)rows * (2 * (uint64_t)m->cfg.stream_width * sizeof(float) + sizeof(int32_t));
    return max_u64(together, (uint64_t)own * dense + (uint64_t)rows * most);
}

uint64_t round_unit_bytes(const Model *m, int unit, const int16_t *level, const QuantLevel *levels, const PassSize *size)
{
    const Unit *u = &m->units[unit];
    const bool divided = size->all_rows > size->rows;
    const int64_t rows = pass_rows(size), longest = divided ? size->all_longest : size->longest;
    const int samples = divided ? size->all_samples : size->samples;
    uint64_t bytes = 0;
    int64_t in = 0, out = 0;
    for (int64_t i = 0; i < u->count; i++) {
        const Linear *l = &m->linears[u->first + i];
        if (!level[i])
            continue;
        const QSpec *q = &levels[level[i] - 1].config->weight;
        uint64_t n = (uint64_t)l->out * (uint64_t)l->in, groups = (uint64_t)l->out * (uint64_t)div_up(l->in, qspec_group(q, l->in));
        bytes += ((divided ? 4 : 3) * n + 4 * groups) * sizeof(float) + qweight_bytes(q, l->out, l->in);
        in = max_i64(in, l->in);
        out = max_i64(out, l->out);
    }
    if (!bytes)
        return 0;
    int64_t batch = min_i64(rows, AUTOROUND_BATCH * longest);
    if (samples < AUTOROUND_BATCH)
        batch = AUTOROUND_BATCH * longest; /* some come again */
    /* a step's texts are dealt out as all texts are, but no text is cut; and at first each rank runs its own */
    const int64_t share = divided ? (int64_t)((double)batch * (double)size->rows / (double)rows) + longest : batch;
    const int64_t own = max_i64(min_i64(batch, share), divided ? min_i64(size->rows, AUTOROUND_BATCH * size->longest) : 0);
    uint64_t stream = (uint64_t)own * ((uint64_t)m->cfg.stream_width * sizeof(float) + sizeof(int32_t));
    bytes += (uint64_t)(in + out) * CHUNK * sizeof(float);
    bytes += (uint64_t)size->threads * gemm_find(GEMM_F32)->scratch(TILE_OUT, TILE_IN, CHUNK);
    bytes += divided ? told_bytes(m, unit, level, batch, own) : 0;
    return bytes + 3 * stream + (uint64_t)samples * (sizeof(int) + sizeof(double)) +
           unit_backward_bytes(m, unit, own, longest, size->threads);
}
