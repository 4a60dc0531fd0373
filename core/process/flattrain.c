#include "process/flattrain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/spectral.h"
#include "quant/flatlinear.h"
#include "run/gradient.h"

/* ---- the parameters ---- */

/* A side's matrices as the kernels want them, and gradients by T and T^-T. */
typedef struct Side {
    Spectral s;
    int64_t at;                    /* its parameters */
    float *t, *t_t, *inv, *inv_t;  /* [n][n] with their transposes */
    double *gt, *gi;
} Side;

typedef struct Slot {
    struct FlatTrain *train;
    int slot;
    FlatLinear f;
    LinearForm form;
    float *w, *act; /* act: scratch, for each sample of a batch */
    int64_t per_act;
} Slot;

typedef struct FlatTrain {
    const FlatTask *task;
    const Model *m;
    const FlatPlace *p;
    double *value, *grad, *first, *second; /* [n] parameters, their gradients, and means of these and of their squares */
    int64_t n, clips;                      /* clip factors begin at `clips` */
    int64_t diag_at[FLAT_PAIRS], clip_at[FLAT_SLOTS];
    Side side[FLAT_PAIRS][2];
    float *diag[FLAT_PAIRS];
    FlatTransform t[FLAT_PAIRS];
    Slot slot[FLAT_SLOTS];
    const LinearForm **table;
    FlatRoom room;
    int64_t most_rows; /* of a batch */
    int steps;         /* done */
} FlatTrain;

static int64_t out_of(const FlatTrain *k, int slot)
{
    return k->m->linears[k->p->linear[slot]].out;
}

static int64_t size_of(const FlatTrain *k, int pair, int side)
{
    return side ? k->p->right[pair] : k->p->left[pair];
}

/* Where everything is: transforms and diagonals, then clip factors, which are moved in larger steps. */
static void place_params(FlatTrain *k)
{
    for (int pair = 0; pair < FLAT_PAIRS; pair++) {
        if (!k->p->on[pair])
            continue;
        for (int side = 0; side < 2; side++) {
            k->side[pair][side].at = k->n;
            k->n += spectral_params(size_of(k, pair, side));
        }
        k->diag_at[pair] = k->n;
        k->n += k->p->diag[pair] ? k->p->left[pair] * k->p->right[pair] : 0;
    }
    k->clips = k->n;
    for (int s = 0; s < FLAT_SLOTS; s++) {
        k->clip_at[s] = k->n;
        k->n += flat_on(k->p, s) ? flat_clips(out_of(k, s)) : 0;
    }
}

static Status side_init(FlatTrain *k, int pair, int side, Error *err)
{
    Side *d = &k->side[pair][side];
    int64_t n = size_of(k, pair, side);
    Rng rng = rng_of(k->task->seed, (uint64_t)(k->p->unit * FLAT_PAIRS + pair) * 2 + (uint64_t)side);
    RETURN_IF_ERROR(spectral_init(&d->s, n, &rng, k->value + d->at, err));
    d->t = mem_aligned((size_t)(4 * n * n), sizeof *d->t);
    d->gt = mem_zarray((size_t)(2 * n * n), sizeof *d->gt);
    if (!d->t || !d->gt)
        return error_nomem(err, "the training of transforms");
    d->t_t = d->t + n * n;
    d->inv = d->t + 2 * n * n;
    d->inv_t = d->t + 3 * n * n;
    d->gi = d->gt + n * n;
    return ST_OK;
}

static Status pair_init(FlatTrain *k, int pair, Error *err)
{
    int64_t l = k->p->left[pair], r = k->p->right[pair];
    for (int side = 0; side < 2; side++)
        RETURN_IF_ERROR(side_init(k, pair, side, err));
    if (k->p->diag[pair] && !(k->diag[pair] = mem_array((size_t)(l * r), sizeof(float))))
        return error_nomem(err, "the training of transforms");
    for (int64_t i = 0; i < l * r && k->p->diag[pair]; i++)
        k->value[k->diag_at[pair] + i] = 1;
    const Side *a = &k->side[pair][0], *b = &k->side[pair][1];
    k->t[pair] = (FlatTransform){.l = l, .r = r, .left = a->t, .left_t = a->t_t, .right = b->t, .inv_left = a->inv,
                                 .inv_left_t = a->inv_t, .inv_right = b->inv, .diag = k->diag[pair], .left_grad = a->gt,
                                 .right_grad = b->gt, .inv_left_grad = a->gi, .inv_right_grad = b->gi,
                                 .diag_grad = k->p->diag[pair] ? k->grad + k->diag_at[pair] : NULL};
    return ST_OK;
}

/* ---- the linears ---- */

static void form_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    const Slot *s = self;
    memcpy(w, s->f.wq + row0 * in, (size_t)(rows * in) * sizeof *w);
}

static void form_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    const Slot *s = self;
    (void)in;
    flat_act(&s->f, x, rows, ld, out, s->act + sample * s->per_act);
}

static Status slot_init(FlatTrain *k, int slot, Error *err)
{
    enum { START = 4 }; /* sigmoid(4) = 0.982 */
    Slot *s = &k->slot[slot];
    const Linear *l = &k->m->linears[k->p->linear[slot]];
    int pair = flat_pair_of(slot);
    size_t n = (size_t)(l->out * l->in);
    for (int64_t i = 0; i < flat_clips(l->out); i++)
        k->value[k->clip_at[slot] + i] = START;
    s->train = k;
    s->slot = slot;
    s->per_act = flat_act_floats(l->in, k->p->left[pair], k->p->right[pair]);
    s->w = mem_aligned(n, sizeof *s->w);
    s->f = (FlatLinear){.out = l->out, .in = l->in, .t = &k->t[pair], .left_only = pair == FLAT_VALUES,
                        .heads = slot == FLAT_V && k->p->on[FLAT_VALUES] ? &k->t[FLAT_VALUES] : NULL,
                        .clip = k->value + k->clip_at[slot], .clip_grad = k->grad + k->clip_at[slot], .w = s->w,
                        .wq = mem_aligned(n, sizeof(float)), .gw = mem_aligned(n, sizeof(float))};
    s->act = mem_aligned((size_t)(FLAT_BATCH * s->per_act), sizeof *s->act);
    s->form = (LinearForm){.weight = form_weight, .act = form_act, .self = s};
    k->table[k->p->linear[slot] - k->m->units[k->p->unit].first] = &s->form;
    if (!s->w || !s->f.wq || !s->f.gw || !s->act)
        return error_nomem(err, l->name);
    RETURN_IF_ERROR(flat_room(&k->room, &s->f, k->most_rows, pool_threads(runner_pool(k->task->r)), err));
    return runner_weight(k->task->r, k->p->linear[slot], -1, s->w, err);
}

/* Rows of the largest batch. */
static int64_t batch_rows(const Stream *in)
{
    int64_t most = 0;
    for (int s = 0; s < in->samples; s += FLAT_BATCH)
        most = max_i64(most, in->start[(int)min_i64(s + FLAT_BATCH, in->samples)] - in->start[s]);
    return most;
}

static Status train_init(FlatTrain *k, const FlatTask *t, Error *err)
{
    *k = (FlatTrain){.task = t, .m = runner_model(t->r), .p = t->place, .most_rows = batch_rows(t->in)};
    place_params(k);
    k->value = mem_zarray(4 * (size_t)k->n + 1, sizeof *k->value);
    k->table = mem_zarray((size_t)k->m->units[k->p->unit].count, sizeof *k->table);
    if (!k->value || !k->table)
        return error_nomem(err, "the training of transforms");
    k->grad = k->value + k->n;
    k->first = k->value + 2 * k->n;
    k->second = k->value + 3 * k->n;
    for (int pair = 0; pair < FLAT_PAIRS; pair++)
        if (k->p->on[pair])
            RETURN_IF_ERROR(pair_init(k, pair, err));
    for (int s = 0; s < FLAT_SLOTS; s++)
        if (flat_on(k->p, s))
            RETURN_IF_ERROR(slot_init(k, s, err));
    return ST_OK;
}

static void train_fini(FlatTrain *k)
{
    for (int pair = 0; pair < FLAT_PAIRS; pair++) {
        for (int side = 0; side < 2; side++) {
            spectral_fini(&k->side[pair][side].s);
            free(k->side[pair][side].t);
            free(k->side[pair][side].gt);
        }
        free(k->diag[pair]);
    }
    for (int s = 0; s < FLAT_SLOTS; s++) {
        free(k->slot[s].w);
        free(k->slot[s].f.wq);
        free(k->slot[s].f.gw);
        free(k->slot[s].act);
    }
    flat_room_fini(&k->room);
    free(k->value);
    free(k->table);
}

/* ---- what the parameters stand for ---- */

static void to_floats(const double *m, int64_t n, float *out, float *turned)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            out[i * n + j] = turned[j * n + i] = (float)m[i * n + j];
}

static void make_task(void *ctx, int64_t index, int worker)
{
    FlatTrain *k = ctx;
    Side *d = &k->side[index / 2][index % 2];
    (void)worker;
    if (!k->p->on[index / 2])
        return;
    spectral_make(&d->s, k->value + d->at);
    to_floats(d->s.t, d->s.n, d->t, d->t_t);
    to_floats(d->s.inv, d->s.n, d->inv, d->inv_t);
    memset(d->gt, 0, (size_t)(2 * d->s.n * d->s.n) * sizeof *d->gt);
}

static Status make(FlatTrain *k, Error *err)
{
    Pool *pool = runner_pool(k->task->r);
    const Cancel *cancel = runner_cancel(k->task->r);
    memset(k->grad, 0, (size_t)k->n * sizeof *k->grad);
    pool_run(pool, PHASE_OTHER, 2 * FLAT_PAIRS, make_task, k, cancel);
    RETURN_IF_ERROR(cancel_check(cancel, err));
    for (int pair = 0; pair < FLAT_PAIRS; pair++)
        for (int64_t i = 0; k->diag[pair] && i < k->p->left[pair] * k->p->right[pair]; i++)
            k->diag[pair][i] = (float)k->value[k->diag_at[pair] + i];
    return ST_OK;
}

static Status make_weights(FlatTrain *k, Error *err)
{
    for (int s = 0; s < FLAT_SLOTS; s++) {
        FlatLinear *f = &k->slot[s].f;
        if (!flat_on(k->p, s))
            continue;
        memset(f->gw, 0, (size_t)(f->out * f->in) * sizeof *f->gw);
        RETURN_IF_ERROR(flat_weight(f, &k->room, runner_pool(k->task->r), runner_cancel(k->task->r), err));
    }
    return ST_OK;
}

/* ---- gradients ---- */

/* From the gradient of what a linear gives to that of what reaches it. */
static Status linear_back(void *self, const LinearGrad *g, Error *err)
{
    FlatTrain *k = self;
    int s = 0;
    while (s < FLAT_SLOTS && (!flat_on(k->p, s) || k->p->linear[s] != g->linear))
        s++;
    if (s == FLAT_SLOTS)
        return ST_OK;
    const FlatChunk c = {.x = g->x, .g = g->g, .dx = g->dx, .rows = g->rows, .ldx = g->ldx, .ldg = g->ldg, .lddx = g->lddx};
    return flat_input_back(&k->slot[s].f, &c, &k->room, runner_pool(k->task->r), runner_cancel(k->task->r), err);
}

static void sides_task(void *ctx, int64_t index, int worker)
{
    FlatTrain *k = ctx;
    Side *d = &k->side[index / 2][index % 2];
    (void)worker;
    if (k->p->on[index / 2])
        spectral_backward(&d->s, k->value + d->at, d->gt, d->gi, k->grad + d->at);
}

static Status params_back(FlatTrain *k, Error *err)
{
    Pool *pool = runner_pool(k->task->r);
    const Cancel *cancel = runner_cancel(k->task->r);
    for (int s = 0; s < FLAT_SLOTS; s++)
        if (flat_on(k->p, s))
            RETURN_IF_ERROR(flat_weight_back(&k->slot[s].f, &k->room, pool, cancel, err));
    pool_run(pool, PHASE_OTHER, 2 * FLAT_PAIRS, sides_task, k, cancel);
    return cancel_check(cancel, err);
}

/* ---- one step ---- */

/* A batch: what the unit reads, and room for what it gives, which becomes the gradient of that. */
typedef struct Batch4 {
    int s0, n;
    Stream in, out;
} Batch4;

static Status batch_open(const FlatTrain *k, int s0, int n, Batch4 *b, Error *err)
{
    *b = (Batch4){.s0 = s0, .n = n};
    RETURN_IF_ERROR(stream_slice(&b->in, k->task->in, s0, n, err));
    Status st = stream_copy(&b->out, &b->in, err);
    if (st != ST_OK)
        stream_fini(&b->in);
    return st;
}

static void batch_close(Batch4 *b)
{
    stream_fini(&b->in);
    stream_fini(&b->out);
}

/* The mean squared error of what the unit gave; b->out becomes its gradient, of the error divided by its own value. */
static Status loss_of(const FlatTrain *k, int epoch, Batch4 *b, double *loss, Error *err)
{
    const Stream *t = k->task->target;
    double all = 0;
    for (int s = 0; s < b->n; s++) {
        double sum = 0;
        const float *want = t->data + t->start[b->s0 + s] * t->width;
        float *got = b->out.data + b->out.start[s] * t->width;
        int64_t n = (b->out.start[s + 1] - b->out.start[s]) * t->width;
        for (int64_t i = 0; i < n; i++) {
            got[i] -= want[i];
            sum += (double)got[i] * (double)got[i];
        }
        if (!isfinite(sum))
            return error_set(err, ST_DATA, "flatquant: the error of layer %d is %s at sample %d in epoch %d: its weights or inputs "
                             "hold values that are no number or beyond float32; leave the layer out with exclude", k->p->unit,
                             isnan(sum) ? "NaN" : "infinite", b->s0 + s, epoch + 1);
        all += sum;
    }
    double count = (double)b->out.rows * (double)t->width;
    *loss = count > 0 ? all / count : 0;
    float scale = (float)(all > 0 ? 2 / all : 0);
    for (int64_t i = 0; i < b->out.rows * t->width; i++)
        b->out.data[i] *= scale;
    return ST_OK;
}

/* AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), its rate warmed up and let down along a
 * cosine over `period` steps. */
static void adam(FlatTrain *k, double period)
{
    enum { WARM = 16 };
    static const double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.01, least = 1e-6;
    double at = k->steps++, warm = 0.01 + 0.99 * fmin(at, WARM) / WARM;
    double down = (1 + cos(3.14159265358979323846 * fmin(at / period, 1))) / 2;
    double c1 = 1 - pow(beta1, k->steps), c2 = 1 - pow(beta2, k->steps);
    for (int64_t i = 0; i < k->n; i++) {
        double rate = i < k->clips ? 1e-3 : 1e-2, g = k->grad[i];
        rate = warm * (least + (rate - least) * down);
        k->value[i] *= 1 - rate * decay;
        k->first[i] = beta1 * k->first[i] + (1 - beta1) * g;
        k->second[i] = beta2 * k->second[i] + (1 - beta2) * g * g;
        k->value[i] -= rate * (k->first[i] / c1) / (sqrt(k->second[i] / c2) + eps);
    }
}

static Status step(FlatTrain *k, int epoch, Batch4 *b, double period, double *loss, Error *err)
{
    Runner *r = k->task->r;
    int unit = k->p->unit;
    const Variant v = {.forms = k->table};
    const GradHooks hooks = {linear_back, k};
    RETURN_IF_ERROR(cancel_check(runner_cancel(r), err));
    RETURN_IF_ERROR(make(k, err));
    RETURN_IF_ERROR(make_weights(k, err));
    RETURN_IF_ERROR(runner_layer(r, unit, &v, &b->in, &b->out, NULL, 0, err));
    RETURN_IF_ERROR(loss_of(k, epoch, b, loss, err));
    RETURN_IF_ERROR(unit_backward(r, unit, &v, &b->in, &b->out, &hooks, err));
    RETURN_IF_ERROR(params_back(k, err));
    adam(k, period);
    return ST_OK;
}

static Status train(FlatTrain *k, FlatLoss *loss, Error *err)
{
    const FlatTask *t = k->task;
    int samples = t->peer ? t->in->samples / FLAT_BATCH * FLAT_BATCH : t->in->samples;
    int batches = (samples + FLAT_BATCH - 1) / FLAT_BATCH;
    double period = (double)t->epochs * t->in->samples;
    for (int e = 0; e < t->epochs && samples; e++) {
        double sum = 0;
        for (int i = 0; i < batches; i++) {
            Batch4 b;
            double one = 0;
            int n = (int)min_i64(FLAT_BATCH, samples - i * FLAT_BATCH);
            RETURN_IF_ERROR(batch_open(k, i * FLAT_BATCH, n, &b, err));
            Status st = step(k, e, &b, period, &one, err);
            batch_close(&b);
            RETURN_IF_ERROR(st);
            sum += one * n;
            if (t->told)
                t->told(t->ctx, (int64_t)e * batches + i + 1, (int64_t)t->epochs * batches, one);
        }
        loss->last = sum / samples;
        loss->first = e ? loss->first : loss->last;
    }
    return ST_OK;
}

/* ---- what comes of it ---- */

static Status take(FlatTrain *k, FlatFound *out, Error *err)
{
    RETURN_IF_ERROR(make(k, err));
    for (int pair = 0; pair < FLAT_PAIRS; pair++) {
        for (int side = 0; side < 2 && k->p->on[pair]; side++) {
            const FlatSide *to = side ? &out->right[pair] : &out->left[pair];
            size_t n = (size_t)(size_of(k, pair, side) * size_of(k, pair, side));
            memcpy(to->t, k->side[pair][side].t, n * sizeof *to->t);
            memcpy(to->inv, k->side[pair][side].inv, n * sizeof *to->inv);
        }
        if (out->diag[pair])
            memcpy(out->diag[pair], k->diag[pair], (size_t)(k->p->left[pair] * k->p->right[pair]) * sizeof(float));
    }
    for (int s = 0; s < FLAT_SLOTS; s++) {
        if (!flat_on(k->p, s))
            continue;
        int64_t n = 2 * out_of(k, s);
        const double *c = k->value + k->clip_at[s];
        for (int64_t i = 0; i < n; i++)
            out->clip[s][i] = (float)(1 / (1 + exp(-c[i])));
        out->limit[s] = (float)(1 / (1 + exp(-c[n])));
    }
    return ST_OK;
}

Status flat_train(const FlatTask *t, FlatFound *out, FlatLoss *loss, Error *err)
{
    FlatTrain k;
    *loss = (FlatLoss){-1, -1};
    RETURN_IF_ERROR(flat_found_init(out, runner_model(t->r), t->place, err));
    Status st = train_init(&k, t, err);
    if (st == ST_OK)
        st = train(&k, loss, err);
    if (st == ST_OK)
        st = take(&k, out, err);
    train_fini(&k);
    return st;
}

uint64_t flat_train_bytes(const Model *m, const FlatPlace *p, int64_t samples, int64_t longest, int threads)
{
    FlatTrain k = {.m = m, .p = p};
    int64_t rows = min_i64(samples, FLAT_BATCH) * longest;
    uint64_t bytes = 0, room = 0;
    place_params(&k);
    for (int pair = 0; pair < FLAT_PAIRS; pair++)
        for (int side = 0; side < 2 && p->on[pair]; side++) {
            int64_t n = size_of(&k, pair, side);
            bytes += spectral_bytes(n) + 6 * (uint64_t)(n * n) * sizeof(double);
        }
    for (int s = 0; s < FLAT_SLOTS; s++) {
        if (!flat_on(p, s))
            continue;
        const Linear *l = &m->linears[p->linear[s]];
        int pair = flat_pair_of(s);
        FlatTransform t = {.l = p->left[pair], .r = p->right[pair]}, heads = {.r = p->right[FLAT_VALUES]};
        const FlatLinear f = {.out = l->out, .in = l->in, .t = &t, .heads = s == FLAT_V && p->on[FLAT_VALUES] ? &heads : NULL};
        bytes += 3 * (uint64_t)l->out * (uint64_t)l->in * sizeof(float);
        bytes += FLAT_BATCH * (uint64_t)flat_act_floats(l->in, t.l, t.r) * sizeof(float);
        room = max_u64(room, flat_room_bytes(&f, rows, threads));
    }
    uint64_t streams = 2 * (uint64_t)rows * ((uint64_t)m->cfg.stream_width * sizeof(float) + sizeof(int32_t));
    return bytes + room + streams + 4 * (uint64_t)k.n * sizeof(double) + unit_backward_bytes(m, p->unit, rows, longest, threads);
}
