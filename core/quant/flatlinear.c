#include "quant/flatlinear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"

enum { LEVELS = 7 }; /* the largest code; the least is one below -7 */
static const float LEAST = 1e-5f; /* of a range */

static double sigmoid(double c)
{
    return 1 / (1 + exp(-c));
}

static double sigmoid_slope(double c)
{
    double s = sigmoid(c);
    return s * (1 - s);
}

/* ---- one row as a matrix ---- */

/* The two sides of X <- A' X B, A' as a matrix of its own, too; b NULL: the identity. */
typedef struct Sides {
    int64_t l, r;
    const float *a, *a_t, *b;
} Sides;

static Sides input_sides(const FlatLinear *f)
{
    const FlatTransform *t = f->t;
    return (Sides){t->l, t->r, t->left, t->left_t, f->left_only ? NULL : t->right};
}

static Sides weight_sides(const FlatLinear *f)
{
    const FlatTransform *t = f->t;
    return (Sides){t->l, t->r, t->inv_left, t->inv_left_t, t->inv_right};
}

static int64_t gemm_floats(int64_t m, int64_t n, int64_t k)
{
    return (int64_t)(gemm_f32.scratch(m, n, k) / sizeof(float)) + 16;
}

static int64_t side_floats(int64_t l, int64_t r)
{
    int64_t most = max_i64(l, r);
    return gemm_floats(most, most, most);
}

/* y = x w, or y += x w; by_k: w is [k][n], else [n][k]. */
static void multiply(const float *x, int64_t m, int64_t k, const float *w, int64_t n, bool by_k, float beta, float *y,
                     float *scratch)
{
    gemm_f32.tile(&(GemmArgs){.m = m, .n = n, .k = k, .x = x, .ldx = k, .w = w, .ldw = by_k ? n : k, .w_by_k = by_k, .y = y,
                              .ldy = n, .beta = beta}, scratch);
}

/* mid = x B, y = A' mid */
static void forward_row(const Sides *s, const float *x, float *mid, float *y, float *scratch)
{
    if (s->b)
        multiply(x, s->l, s->r, s->b, s->r, true, 0, mid, scratch);
    else
        memcpy(mid, x, (size_t)(s->l * s->r) * sizeof *x);
    multiply(s->a_t, s->l, s->l, mid, s->r, true, 0, y, scratch);
}

/* From dy to dx; da[l][l], db[r][r] are added to. mid as forward_row leaves it; dmid, turned: room. */
static void backward_row(const Sides *s, const float *x, const float *mid, const float *dy, float *dmid, float *turned,
                         float *dx, float *da, float *db, float *scratch)
{
    multiply(mid, s->l, s->r, dy, s->l, false, 1, da, scratch);
    multiply(s->a, s->l, s->l, dy, s->r, true, 0, s->b ? dmid : dx, scratch);
    if (!s->b)
        return;
    for (int64_t i = 0; i < s->l; i++)
        for (int64_t j = 0; j < s->r; j++)
            turned[j * s->l + i] = x[i * s->r + j];
    multiply(turned, s->r, s->l, dmid, s->r, true, 1, db, scratch);
    multiply(dmid, s->l, s->r, s->b, s->r, false, 0, dx, scratch);
}

/* ---- one row's codes ---- */

static float largest(const float *x, int64_t n, int64_t *at)
{
    float most = 0;
    *at = 0;
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) <= most)) { /* NaN stays */
            most = fabsf(x[i]);
            *at = i;
            if (isnan(most))
                break;
        }
    return most;
}

static float code(float v)
{
    float q = rintf(v);
    return q > LEVELS ? LEVELS : q < -LEVELS - 1 ? -LEVELS - 1 : q;
}

static float step_of(float range)
{
    return (range < LEAST ? LEAST : range) / LEVELS; /* NaN stays */
}

/* y = codes times the step; y may be x. */
static void fake_row(const float *x, int64_t n, float ratio, float *y)
{
    int64_t at;
    float s = step_of(largest(x, n, &at) * ratio);
    for (int64_t i = 0; i < n; i++)
        y[i] = code(x[i] / s) * s;
}

/* From the gradient of fake_row's y to that of x, in place; returns that of the ratio. */
static double fake_row_back(const float *x, int64_t n, float ratio, float *g)
{
    int64_t at;
    float most = largest(x, n, &at), s = step_of(most * ratio);
    double ds = 0;
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] / s, q = code(v);
        bool in = rintf(v) == q;
        ds += (double)g[i] * (double)(in ? q - v : q);
        g[i] = in ? g[i] : 0;
    }
    if (!(most * ratio >= LEAST))
        return 0;
    g[at] += (float)(ds * (double)ratio / LEVELS) * (x[at] < 0 ? -1 : 1);
    return ds * (double)most / LEVELS;
}

/* ---- one row's clamp ---- */

typedef struct Clamp {
    float least, most, lo, hi;
    int64_t least_at, most_at;
} Clamp;

static Clamp clamp_of(const FlatLinear *f, int64_t o, const float *x)
{
    Clamp c = {.least = x[0], .most = x[0]};
    for (int64_t i = 1; i < f->in; i++) {
        if (x[i] < c.least) {
            c.least = x[i];
            c.least_at = i;
        }
        if (x[i] > c.most) {
            c.most = x[i];
            c.most_at = i;
        }
    }
    c.lo = c.least * (float)sigmoid(f->clip[o]);
    c.hi = c.most * (float)sigmoid(f->clip[f->out + o]);
    return c;
}

static void clamp_row(const Clamp *c, const float *x, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] < c->lo ? c->lo : x[i] > c->hi ? c->hi : x[i];
}

/* From the gradient of the clamped row to that of x, in place; adds those of its two numbers. */
static void clamp_row_back(const FlatLinear *f, int64_t o, const Clamp *c, const float *x, float *g)
{
    double lo = 0, hi = 0;
    for (int64_t i = 0; i < f->in; i++) {
        if (x[i] < c->lo)
            lo += (double)g[i];
        else if (x[i] > c->hi)
            hi += (double)g[i];
        else
            continue;
        g[i] = 0;
    }
    double cl = f->clip[o], ch = f->clip[f->out + o];
    f->clip_grad[o] += lo * (double)c->least * sigmoid_slope(cl);
    f->clip_grad[f->out + o] += hi * (double)c->most * sigmoid_slope(ch);
    g[c->least_at] += (float)(lo * sigmoid(cl));
    g[c->most_at] += (float)(hi * sigmoid(ch));
}

/* ---- what is read ---- */

int64_t flat_act_floats(int64_t in, int64_t l, int64_t r)
{
    return round_up(2 * in, 16) + side_floats(l, r);
}

static void scale_row(const float *x, const float *diag, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = diag ? x[i] * diag[i] : x[i];
}

static float act_ratio(const FlatLinear *f)
{
    return (float)sigmoid(f->clip[2 * f->out]);
}

void flat_act(const FlatLinear *f, const float *x, int64_t rows, int64_t ld, float *out, float *scratch)
{
    const Sides s = input_sides(f);
    float *row = scratch, *mid = row + f->in, *rest = scratch + round_up(2 * f->in, 16), ratio = act_ratio(f);
    for (int64_t t = 0; t < rows; t++) {
        scale_row(x + t * ld, f->t->diag, f->in, row);
        forward_row(&s, row, mid, out + t * f->in, rest);
        fake_row(out + t * f->in, f->in, ratio, out + t * f->in);
    }
}

/* ---- room ---- */

/* Rows of a block of a weight: heads stay whole. */
static int64_t block_rows(const FlatLinear *f)
{
    return f->heads ? f->heads->r : FLAT_ROWS;
}

/* What a block adds: to A, to B, to the diagonal, to O, and to an input's number. */
typedef struct Part {
    float *a, *b, *diag, *o, *number;
} Part;

static int64_t part_floats(const FlatLinear *f)
{
    int64_t l = f->t->l, r = f->t->r, o = f->heads ? f->heads->r : 0;
    return round_up(l * l + r * r + f->in + o * o + 1, 16);
}

static Part part_of(const FlatLinear *f, const FlatRoom *room, int64_t slot)
{
    float *at = room->part + slot * room->per_part;
    int64_t l = f->t->l, r = f->t->r, o = f->heads ? f->heads->r : 0;
    memset(at, 0, (size_t)part_floats(f) * sizeof *at);
    return (Part){at, at + l * l, at + l * l + r * r, at + l * l + r * r + f->in, at + l * l + r * r + f->in + o * o};
}

/* Six rows, three blocks of rows of a weight, O', and what products need. */
static int64_t worker_floats(const FlatLinear *f)
{
    int64_t heads = f->heads ? f->heads->r : 0, rows = f->heads ? heads : 1;
    int64_t gemm = side_floats(f->t->l, f->t->r);
    if (heads)
        gemm = max_i64(gemm, max_i64(gemm_floats(heads, f->in, heads), gemm_floats(heads, heads, f->in)));
    gemm = max_i64(gemm, gemm_floats(FLAT_ROWS, f->in, FLAT_ROWS));
    return round_up(6 * f->in, 16) + round_up(3 * rows * f->in, 16) + round_up(heads * heads, 16) +
           round_up(FLAT_ROWS * FLAT_ROWS, 16) + round_up(gemm, 16);
}

typedef struct WorkerRoom {
    float *row, *mid, *dmid, *turned, *dx, *y; /* [in] */
    float *block[3];                           /* [rows of a block][in] */
    float *o_t, *g_t, *rest;
} WorkerRoom;

static WorkerRoom worker_of(const FlatLinear *f, const FlatRoom *room, int worker)
{
    int64_t rows = f->heads ? f->heads->r : 1;
    float *at = room->worker + worker * room->per_worker;
    WorkerRoom w = {at, at + f->in, at + 2 * f->in, at + 3 * f->in, at + 4 * f->in, at + 5 * f->in, {NULL}, NULL, NULL, NULL};
    at += round_up(6 * f->in, 16);
    for (int i = 0; i < 3; i++)
        w.block[i] = at + i * rows * f->in;
    at += round_up(3 * rows * f->in, 16);
    w.o_t = at;
    w.g_t = at + round_up(f->heads ? rows * rows : 0, 16);
    w.rest = w.g_t + round_up(FLAT_ROWS * FLAT_ROWS, 16);
    return w;
}

static bool grow(float **p, int64_t have, int64_t want)
{
    if (have >= want)
        return true;
    free(*p);
    *p = mem_aligned((size_t)want, sizeof **p);
    return *p != NULL;
}

Status flat_room(FlatRoom *room, const FlatLinear *f, int64_t rows, int threads, Error *err)
{
    int64_t worker = max_i64(room->per_worker, worker_floats(f)), part = max_i64(room->per_part, part_floats(f));
    bool fits = grow(&room->worker, room->worker ? room->per_worker : 0, worker > room->per_worker ? worker * threads : 0) &&
                grow(&room->part, room->part ? room->per_part : 0, part > room->per_part ? part * FLAT_WAVE : 0) &&
                grow(&room->act, room->act_cap, rows * f->in);
    room->per_worker = worker;
    room->per_part = part;
    room->act_cap = max_i64(room->act_cap, rows * f->in);
    if (fits)
        return ST_OK;
    flat_room_fini(room);
    return error_nomem(err, "the training of transforms");
}

void flat_room_fini(FlatRoom *room)
{
    free(room->worker);
    free(room->part);
    free(room->act);
    *room = (FlatRoom){.worker = NULL};
}

uint64_t flat_room_bytes(const FlatLinear *f, int64_t rows, int threads)
{
    return (uint64_t)(worker_floats(f) * threads + part_floats(f) * FLAT_WAVE + rows * f->in) * sizeof(float);
}

/* ---- blocks of rows, a wave at a time ---- */

typedef struct FlatJob {
    FlatLinear *f;
    const FlatRoom *room;
    const FlatChunk *c; /* of inputs; NULL: rows of the weight */
    int64_t first, rows, block;
    void (*one)(const struct FlatJob *j, int64_t r0, int64_t rows, const Part *p, const WorkerRoom *w);
} FlatJob;

static void job_task(void *ctx, int64_t index, int worker)
{
    const FlatJob *j = ctx;
    int64_t r0 = (j->first + index) * j->block, rows = min_i64(j->block, j->rows - r0);
    const WorkerRoom w = worker_of(j->f, j->room, worker);
    const Part p = part_of(j->f, j->room, index);
    j->one(j, r0, rows, &p, &w);
}

static void add(double *to, const float *from, int64_t n)
{
    for (int64_t i = 0; to && i < n; i++)
        to[i] += (double)from[i];
}

/* What block `slot` of the wave has found goes to the sums. */
static void take_part(const FlatJob *j, int64_t slot)
{
    FlatLinear *f = j->f;
    FlatTransform *t = f->t;
    const float *at = j->room->part + slot * j->room->per_part;
    int64_t l = t->l, r = t->r, o = f->heads ? f->heads->r : 0;
    add(j->c ? t->left_grad : t->inv_left_grad, at, l * l);
    if (!j->c || !f->left_only)
        add(j->c ? t->right_grad : t->inv_right_grad, at + l * l, r * r);
    add(t->diag_grad, at + l * l + r * r, f->in);
    if (o && !j->c)
        add(f->heads->right_grad, at + l * l + r * r + f->in, o * o);
    if (j->c)
        f->clip_grad[2 * f->out] += (double)at[l * l + r * r + f->in + o * o];
}

static Status run_job(FlatJob *j, bool parts, Pool *pool, const Cancel *cancel, Error *err)
{
    int64_t n = div_up(j->rows, j->block);
    for (j->first = 0; j->first < n; j->first += FLAT_WAVE) {
        int64_t have = min_i64(FLAT_WAVE, n - j->first);
        pool_run(pool, PHASE_OTHER, have, job_task, j, cancel);
        RETURN_IF_ERROR(cancel_check(cancel, err));
        for (int64_t i = 0; i < have && parts; i++)
            take_part(j, i);
    }
    return ST_OK;
}

/* ---- the weight ---- */

static void divide_row(const float *x, const float *diag, int64_t n, float *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = diag ? x[i] / diag[i] : x[i];
}

static void turn(const float *m, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            to[j * n + i] = m[i * n + j];
}

/* Row o transformed: y; clamped: to. */
static Clamp weight_row(const FlatLinear *f, const Sides *s, int64_t o, const WorkerRoom *w, float *to)
{
    divide_row(f->w + o * f->in, f->t->diag, f->in, w->row);
    forward_row(s, w->row, w->mid, w->y, w->rest);
    Clamp c = clamp_of(f, o, w->y);
    clamp_row(&c, w->y, f->in, to);
    return c;
}

static void weight_block(const FlatJob *j, int64_t r0, int64_t rows, const Part *p, const WorkerRoom *w)
{
    const FlatLinear *f = j->f;
    const Sides s = weight_sides(f);
    (void)p;
    for (int64_t i = 0; i < rows; i++)
        weight_row(f, &s, r0 + i, w, f->heads ? w->block[0] + i * f->in : f->wq + (r0 + i) * f->in);
    if (f->heads) {
        turn(f->heads->right, rows, w->o_t);
        multiply(w->o_t, rows, rows, w->block[0], f->in, true, 0, f->wq + r0 * f->in, w->rest);
    }
    for (int64_t i = 0; i < rows; i++)
        fake_row(f->wq + (r0 + i) * f->in, f->in, 1, f->wq + (r0 + i) * f->in);
}

Status flat_weight(FlatLinear *f, const FlatRoom *room, Pool *pool, const Cancel *cancel, Error *err)
{
    FlatJob j = {.f = f, .room = room, .rows = f->out, .block = block_rows(f), .one = weight_block};
    return run_job(&j, false, pool, cancel, err);
}

/* From the gradient g of row o behind the clamp, which is lost; w has the row as weight_row leaves it. */
static void weight_row_back(const FlatLinear *f, const Sides *s, int64_t o, const Clamp *c, float *g, const Part *p,
                            const WorkerRoom *w)
{
    const float *src = f->w + o * f->in, *diag = f->t->diag;
    clamp_row_back(f, o, c, w->y, g);
    backward_row(s, w->row, w->mid, g, w->dmid, w->turned, w->dx, p->a, p->b, w->rest);
    for (int64_t i = 0; i < f->in && diag; i++)
        p->diag[i] -= w->dx[i] * src[i] / (diag[i] * diag[i]);
}

static void weight_block_back(const FlatJob *j, int64_t r0, int64_t rows, const Part *p, const WorkerRoom *w)
{
    const FlatLinear *f = j->f;
    const Sides s = weight_sides(f);
    float *g = f->gw + r0 * f->in, *clamped = w->block[0], *turned = w->block[1], *dclamped = w->block[2];
    for (int64_t i = 0; i < rows; i++) {
        float *to = f->heads ? clamped + i * f->in : clamped;
        Clamp c = weight_row(f, &s, r0 + i, w, to);
        if (f->heads)
            continue;
        fake_row_back(to, f->in, 1, g + i * f->in);
        weight_row_back(f, &s, r0 + i, &c, g + i * f->in, p, w);
    }
    if (!f->heads)
        return;
    turn(f->heads->right, rows, w->o_t);
    multiply(w->o_t, rows, rows, clamped, f->in, true, 0, turned, w->rest);
    for (int64_t i = 0; i < rows; i++)
        fake_row_back(turned + i * f->in, f->in, 1, g + i * f->in);
    multiply(clamped, rows, f->in, g, rows, false, 1, p->o, w->rest);
    multiply(f->heads->right, rows, rows, g, f->in, true, 0, dclamped, w->rest);
    for (int64_t i = 0; i < rows; i++) {
        Clamp c = weight_row(f, &s, r0 + i, w, clamped + i * f->in);
        weight_row_back(f, &s, r0 + i, &c, dclamped + i * f->in, p, w);
    }
}

Status flat_weight_back(FlatLinear *f, const FlatRoom *room, Pool *pool, const Cancel *cancel, Error *err)
{
    FlatJob j = {.f = f, .room = room, .rows = f->out, .block = block_rows(f), .one = weight_block_back};
    return run_job(&j, true, pool, cancel, err);
}

/* ---- inputs ---- */

static void input_block_back(const FlatJob *j, int64_t r0, int64_t rows, const Part *p, const WorkerRoom *w)
{
    const FlatLinear *f = j->f;
    const FlatChunk *c = j->c;
    const float *diag = f->t->diag, ratio = act_ratio(f);
    const Sides s = input_sides(f);
    double number = 0;
    for (int64_t t = r0; t < r0 + rows; t++) {
        const float *x = c->x + t * c->ldx;
        float *g = c->dx + t * c->lddx;
        scale_row(x, diag, f->in, w->row);
        forward_row(&s, w->row, w->mid, w->y, w->rest);
        fake_row(w->y, f->in, ratio, j->room->act + t * f->in);
        number += fake_row_back(w->y, f->in, ratio, g);
        backward_row(&s, w->row, w->mid, g, w->dmid, w->turned, w->dx, p->a, p->b, w->rest);
        for (int64_t i = 0; i < f->in; i++) {
            if (diag)
                p->diag[i] += w->dx[i] * x[i];
            g[i] = diag ? w->dx[i] * diag[i] : w->dx[i];
        }
    }
    *p->number = (float)(number * sigmoid_slope(f->clip[2 * f->out]));
}

/* gw += g' a, of FLAT_ROWS outputs: rows of the chunk in order, some at a time. */
static void weight_grad_task(void *ctx, int64_t index, int worker)
{
    const FlatJob *j = ctx;
    const FlatLinear *f = j->f;
    const FlatChunk *c = j->c;
    const WorkerRoom w = worker_of(f, j->room, worker);
    int64_t o0 = index * FLAT_ROWS, outs = min_i64(FLAT_ROWS, f->out - o0);
    for (int64_t t = 0; t < c->rows; t += FLAT_ROWS) {
        int64_t rows = min_i64(FLAT_ROWS, c->rows - t);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t o = 0; o < outs; o++)
                w.g_t[o * rows + i] = c->g[(t + i) * c->ldg + o0 + o];
        multiply(w.g_t, outs, rows, j->room->act + t * f->in, f->in, true, 1, f->gw + o0 * f->in, w.rest);
    }
}

Status flat_input_back(FlatLinear *f, const FlatChunk *c, const FlatRoom *room, Pool *pool, const Cancel *cancel, Error *err)
{
    FlatJob j = {.f = f, .room = room, .c = c, .rows = c->rows, .block = FLAT_ROWS, .one = input_block_back};
    RETURN_IF_ERROR(run_job(&j, true, pool, cancel, err));
    pool_run(pool, PHASE_OTHER, div_up(f->out, FLAT_ROWS), weight_grad_task, &j, cancel);
    return cancel_check(cancel, err);
}
