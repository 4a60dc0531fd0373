#include "metric/errordots.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"

/* Rows of inputs and outputs of a weight that a task takes. */
enum { ROW_TILE = 64, OUT_TILE = 128 };

/* x and g of one linear and one chunk of rows. */
typedef struct HeldChunk {
    int64_t linear, rows;
    int32_t *row;     /* [rows] of the pass's stream */
    float *x, *g;     /* [rows][in], [rows][out] */
    bool shares;      /* x is that of the entry before */
    bool done;
} HeldChunk;

static const Linear *linear_of(const ErrorDots *d, int64_t linear)
{
    return &runner_model(d->r)->linears[linear];
}

static double *dots_of(const ErrorDots *d, int k, int64_t linear)
{
    return d->dot + ((int64_t)k * d->groups + linear_of(d, linear)->group - d->group0) * d->shape->rows;
}

static const LinearForm *form_of(const ErrorDots *d, int k, int64_t linear)
{
    return d->forms[k].table[linear - d->forms[k].first];
}

/* ---- the quantized input ---- */

/* The input of a linear in one chunk, and a form of it. */
typedef struct InputRun {
    const ErrorDots *d;
    const LinearForm *form;
    const float *x, *dx;
    int64_t in, ld, lddx, rows;
    const int32_t *row;
    double *dot;
    int64_t *start; /* [samples + 1] the chunk's rows by sample */
} InputRun;

static void act_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const InputRun *i = ctx;
    int64_t at = i->start[index], n = i->start[index + 1] - at;
    if (n > 0)
        i->form->act(i->form->self, (int)index, i->x + at * i->ld, n, i->in, i->ld, i->d->x + at * i->in);
}

/* Where each sample's rows begin in the chunk, whose rows ascend. */
static Status chunk_starts(InputRun *i, Error *err)
{
    const Stream *s = i->d->shape;
    i->start = mem_array((size_t)s->samples + 1, sizeof *i->start);
    if (!i->start)
        return error_nomem(err, "gradients of a layer");
    int64_t t = 0;
    for (int k = 0; k < s->samples; k++) {
        i->start[k] = t;
        while (t < i->rows && i->row[t] < s->start[k + 1])
            t++;
    }
    i->start[s->samples] = i->rows;
    return ST_OK;
}

/* d->x = the input as the form quantizes it; the form has an act. */
static Status quantize_input(ErrorDots *d, InputRun *i, Error *err)
{
    size_t need = (size_t)(i->rows * i->in);
    if (need > d->x_cap) {
        free(d->x);
        d->x_cap = 0;
        d->x = mem_aligned(need, sizeof *d->x);
        if (!d->x)
            return error_nomem(err, "gradients of a layer");
        d->x_cap = need;
    }
    RETURN_IF_ERROR(chunk_starts(i, err));
    Pool *pool = runner_pool(d->r);
    Status st = ST_OK;
    if (i->form->prepare) {
        const Stream shape = {.samples = d->shape->samples, .rows = i->rows, .width = i->in, .start = i->start};
        st = i->form->prepare(i->form->self, i->x, &shape, i->in, pool, err);
    }
    if (st == ST_OK) {
        pool_run(pool, PHASE_QUANT_ACT, d->shape->samples, act_task, i, runner_cancel(d->r));
        st = cancel_check(runner_cancel(d->r), err);
    }
    free(i->start);
    i->start = NULL;
    return st;
}

/* ---- (x' - x) . (g W), on the way ---- */

static void input_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    const InputRun *i = ctx;
    int64_t end = min_i64((index + 1) * ROW_TILE, i->rows);
    for (int64_t t = index * ROW_TILE; t < end; t++) {
        const float *x = i->x + t * i->ld, *q = i->d->x + t * i->in, *dx = i->dx + t * i->lddx;
        double sum = 0;
        for (int64_t c = 0; c < i->in; c++)
            sum += (double)(q[c] - x[c]) * (double)dx[c];
        i->dot[i->row[t]] += sum;
    }
}

static Status add_input_error(ErrorDots *d, const LinearGrad *g, const int32_t *row, Error *err)
{
    const Linear *l = linear_of(d, g->linear);
    for (int k = 0; k < d->nforms; k++) {
        InputRun i = {.d = d, .form = form_of(d, k, g->linear), .x = g->x, .dx = g->dx, .in = l->in, .ld = g->ldx,
                      .lddx = g->lddx, .rows = g->rows, .row = row, .dot = dots_of(d, k, g->linear)};
        if (!i.form || !i.form->act)
            continue;
        RETURN_IF_ERROR(quantize_input(d, &i, err));
        pool_run(runner_pool(d->r), PHASE_STATISTICS, div_up(i.rows, ROW_TILE), input_task, &i, runner_cancel(d->r));
        RETURN_IF_ERROR(cancel_check(runner_cancel(d->r), err));
    }
    return ST_OK;
}

/* ---- what the pass hands over ---- */

static float *copy_rows(const float *x, int64_t ld, int64_t rows, int64_t n)
{
    float *out = mem_aligned((size_t)(rows * n), sizeof *out);
    for (int64_t t = 0; out && t < rows; t++)
        memcpy(out + t * n, x + t * ld, (size_t)n * sizeof *out);
    return out;
}

static HeldChunk *new_held(ErrorDots *d)
{
    if (d->nheld == d->held_cap) {
        int cap = d->held_cap ? 2 * d->held_cap : 16;
        HeldChunk *grown = realloc(d->held, (size_t)cap * sizeof *grown);
        if (!grown)
            return NULL;
        d->held = grown;
        d->held_cap = cap;
    }
    HeldChunk *h = &d->held[d->nheld++];
    *h = (HeldChunk){0};
    return h;
}

/* Whether the entry before it has the same input: linears of one input come one after the other. */
static bool same_input(const ErrorDots *d, const HeldChunk *h)
{
    const HeldChunk *before = h - 1;
    const Overlay *o = runner_overlay(d->r);
    const Model *m = runner_model(d->r);
    return h > d->held && before->rows == h->rows && before->linear != h->linear &&
           overlay_input(o, m, before->linear) == overlay_input(o, m, h->linear) &&
           memcmp(before->row, h->row, (size_t)h->rows * sizeof *h->row) == 0;
}

static Status hold(ErrorDots *d, const LinearGrad *g, Error *err)
{
    const Linear *l = linear_of(d, g->linear);
    HeldChunk *h = new_held(d);
    if (!h)
        return error_nomem(err, "gradients of a layer");
    h->linear = g->linear;
    h->rows = g->rows;
    h->row = mem_array((size_t)g->rows, sizeof *h->row);
    if (!h->row)
        return error_nomem(err, "gradients of a layer");
    for (int64_t t = 0; t < g->rows; t++)
        h->row[t] = g->row ? g->row[t] : (int32_t)(g->row0 + t);
    h->shares = same_input(d, h);
    h->x = h->shares ? h[-1].x : copy_rows(g->x, g->ldx, g->rows, l->in);
    h->g = copy_rows(g->g, g->ldg, g->rows, l->out);
    return h->x && h->g ? add_input_error(d, g, h->row, err) : error_nomem(err, "gradients of a layer");
}

static Status take_linear(void *self, const LinearGrad *g, Error *err)
{
    ErrorDots *d = self;
    bool any = false;
    for (int k = 0; k < d->nforms; k++)
        any = any || form_of(d, k, g->linear);
    if (!any || g->rows == 0 || !d->wanted[linear_of(d, g->linear)->group - d->group0])
        return ST_OK;
    return hold(d, g, err);
}

GradHooks errordots_hooks(ErrorDots *d)
{
    return (GradHooks){take_linear, d};
}

/* ---- g . (x' dW^T), behind it ---- */

typedef struct WeightRun {
    const ErrorDots *d;
    const LinearForm *form;
    const HeldChunk *h;
    const float *w, *x; /* the weight; the quantized input */
    int64_t in, out;
    const GemmOps *gemm;
    double *part;       /* [tiles of outputs][rows] */
} WeightRun;

static void weight_task(void *ctx, int64_t index, int worker)
{
    const WeightRun *r = ctx;
    int64_t o = index * OUT_TILE, n = min_i64(OUT_TILE, r->out - o), in = r->in;
    float *dw = r->d->scratch + (size_t)worker * r->d->scratch_floats, *y = dw + OUT_TILE * in, *gemm = y + ROW_TILE * OUT_TILE;
    const float *w = r->w + o * in;
    memcpy(dw, w, (size_t)(n * in) * sizeof *dw);
    r->form->weight(r->form->self, o, n, in, dw);
    for (int64_t i = 0; i < n * in; i++)
        dw[i] -= w[i];
    double *part = r->part + index * r->h->rows;
    for (int64_t t = 0; t < r->h->rows; t += ROW_TILE) {
        int64_t rows = min_i64(ROW_TILE, r->h->rows - t);
        GemmArgs g = {.m = rows, .n = n, .k = in, .x = r->x + t * in, .ldx = in, .w = dw, .ldw = in, .y = y, .ldy = n};
        r->gemm->tile(&g, gemm);
        for (int64_t i = 0; i < rows; i++) {
            const float *to = r->h->g + (t + i) * r->out + o;
            double sum = 0;
            for (int64_t c = 0; c < n; c++)
                sum += (double)to[c] * (double)y[i * n + c];
            part[t + i] = sum;
        }
    }
}

/* One chunk under one form; tiles of outputs are summed in their order. */
static Status add_weight_error(ErrorDots *d, int k, const HeldChunk *h, const float *w, Error *err)
{
    const Linear *l = linear_of(d, h->linear);
    int64_t tiles = div_up(l->out, OUT_TILE);
    WeightRun r = {.d = d, .form = form_of(d, k, h->linear), .h = h, .w = w, .x = h->x, .in = l->in, .out = l->out,
                   .gemm = gemm_find(GEMM_F32)};
    if (!r.form || !r.form->weight)
        return ST_OK;
    if (r.form->act) {
        InputRun i = {.d = d, .form = r.form, .x = h->x, .in = l->in, .ld = l->in, .rows = h->rows, .row = h->row};
        RETURN_IF_ERROR(quantize_input(d, &i, err));
        r.x = d->x;
    }
    r.part = mem_array((size_t)(tiles * h->rows), sizeof *r.part);
    if (!r.part)
        return error_nomem(err, "gradients of a layer");
    pool_run(runner_pool(d->r), PHASE_LINEAR, tiles, weight_task, &r, runner_cancel(d->r));
    Status st = cancel_check(runner_cancel(d->r), err);
    double *dot = dots_of(d, k, h->linear);
    for (int64_t i = 0; st == ST_OK && i < tiles; i++)
        for (int64_t t = 0; t < h->rows; t++)
            dot[h->row[t]] += r.part[i * h->rows + t];
    free(r.part);
    return st;
}

/* All chunks of a linear, whose weight is read once. */
static Status finish_linear(ErrorDots *d, int at, float *w, Error *err)
{
    int64_t linear = d->held[at].linear, ahead = -1;
    for (int i = at; i < d->nheld && ahead < 0; i++)
        ahead = !d->held[i].done && d->held[i].linear != linear ? d->held[i].linear : -1;
    RETURN_IF_ERROR(runner_weight(d->r, linear, ahead, w, err));
    for (int i = at; i < d->nheld; i++) {
        HeldChunk *h = &d->held[i];
        if (h->linear != linear)
            continue;
        for (int k = 0; k < d->nforms; k++)
            RETURN_IF_ERROR(add_weight_error(d, k, h, w, err));
        h->done = true;
    }
    return ST_OK;
}

/* Of a worker that works on weights up to so many inputs. */
static size_t worker_floats(int64_t in)
{
    enum { LINE = 16 }; /* floats */
    size_t gemm = gemm_find(GEMM_F32)->scratch(ROW_TILE, OUT_TILE, in) / sizeof(float);
    return ((size_t)(OUT_TILE * in) + ROW_TILE * OUT_TILE + gemm + 2 * LINE - 1) / LINE * LINE;
}

Status errordots_finish(ErrorDots *d, Error *err)
{
    size_t most = 0;
    int64_t in = 0;
    for (int i = 0; i < d->nheld; i++) {
        const Linear *l = linear_of(d, d->held[i].linear);
        most = most > (size_t)(l->out * l->in) ? most : (size_t)(l->out * l->in);
        in = max_i64(in, l->in);
    }
    if (!most)
        return ST_OK;
    d->scratch_floats = worker_floats(in);
    d->scratch = mem_aligned((size_t)pool_threads(runner_pool(d->r)) * d->scratch_floats, sizeof *d->scratch);
    float *w = mem_aligned(most, sizeof *w);
    Status st = d->scratch && w ? ST_OK : error_nomem(err, "a layer's weights");
    for (int i = 0; st == ST_OK && i < d->nheld; i++)
        st = d->held[i].done ? ST_OK : finish_linear(d, i, w, err);
    free(w);
    return st;
}

/* ---- begin and end ---- */

Status errordots_begin(ErrorDots *d, Runner *r, int unit, LayerForms *forms, int nforms, const Stream *shape, Error *err)
{
    const Model *m = runner_model(r);
    const Unit *u = &m->units[unit];
    int64_t least = INT64_MAX, most = -1;
    for (int64_t i = u->first; i < u->first + u->count; i++) {
        least = min_i64(least, m->linears[i].group);
        most = max_i64(most, m->linears[i].group);
    }
    *d = (ErrorDots){.r = r, .forms = forms, .nforms = nforms, .shape = shape, .group0 = least, .groups = most - least + 1};
    if (most < 0)
        d->groups = 0;
    d->wanted = mem_zarray((size_t)d->groups + 1, sizeof *d->wanted);
    d->dot = mem_zarray((size_t)(d->groups * nforms) * (size_t)shape->rows + 1, sizeof *d->dot);
    return d->wanted && d->dot ? ST_OK : error_nomem(err, "gradients of a layer");
}

const double *errordots_rows(const ErrorDots *d, int k, int64_t group)
{
    return d->dot + ((int64_t)k * d->groups + group - d->group0) * d->shape->rows;
}

void errordots_end(ErrorDots *d)
{
    for (int i = 0; i < d->nheld; i++) {
        free(d->held[i].row);
        if (!d->held[i].shares)
            free(d->held[i].x);
        free(d->held[i].g);
    }
    free(d->held);
    free(d->wanted);
    free(d->dot);
    free(d->x);
    free(d->scratch);
    *d = (ErrorDots){0};
}

/* Values that a row of the stream leaves behind in a linear: of experts those that a token takes. */
static double held_floats(const Model *m, const Linear *l)
{
    double share = l->expert >= 0 && m->cfg.moe.experts ? (double)m->cfg.moe.top_k / m->cfg.moe.experts : 1;
    return share * (double)(l->in + l->out + 1);
}

uint64_t errordots_bytes(const Model *m, int64_t rows, int nforms, int threads)
{
    double held = 0;
    int64_t groups = 0, in = 0, out = 0;
    uint64_t weight = 0;
    for (int unit = 0; unit < m->nunits; unit++) {
        const Unit *u = &m->units[unit];
        double floats = 0;
        int64_t n = 0;
        for (int64_t i = u->first; i < u->first + u->count; i++) {
            const Linear *l = &m->linears[i];
            floats += held_floats(m, l);
            n += i == u->first || l->group != l[-1].group;
            in = max_i64(in, l->in);
            out = max_i64(out, l->out);
            weight = max_u64(weight, (uint64_t)(l->out * l->in) * sizeof(float));
        }
        held = floats > held ? floats : held;
        groups = max_i64(groups, n);
    }
    uint64_t each = (uint64_t)(in + (groups * nforms + div_up(out, OUT_TILE)) * 2) * sizeof(float);
    return (uint64_t)rows * ((uint64_t)held * sizeof(float) + each) + weight +
           (uint64_t)threads * worker_floats(in) * sizeof(float);
}
