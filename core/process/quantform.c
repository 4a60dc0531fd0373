#include "process/quantform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Where the range of an activation comes from. */
typedef enum RangeFrom {
    RANGE_NONE,    /* float, or each row its own: nothing to look at beforehand */
    RANGE_ALL,     /* calibration: over every row of every sample */
    RANGE_RUNNING, /* the peer's calibration: sample b over samples 0..b (specs/quantization.md 5) */
    RANGE_SAMPLE,  /* the peer's per_token: over the whole sample (the same section) */
    RANGE_FIXED    /* evaluation: as calibrated */
} RangeFrom;

/* One linear's form, shared by all linears that see the same input at the same level: then runner and job quantize that
 * input once. */
typedef struct FormState {
    const Model *model;
    const QConfig *config;
    const ActQuantizer *act;
    const WeightQuantizer *weight;
    DType T;
    bool peer;
    int64_t linear; /* first of them */
    RangeFrom from;
    QParam *param;  /* [samples] of the stream that runs now, NULL before prepare */
    QParam fixed;   /* RANGE_FIXED, and what a calibration leaves behind */
    bool seen;      /* the calibration fed it: an expert may get no token */
} FormState;

/* ---- ranges ---- */

enum { RANGE_ROWS = 128 };

typedef struct RangeTask {
    int sample;
    int64_t row, rows;
    float mn, mx;
} RangeTask;

typedef struct RangeJob {
    RangeTask *tasks;
    const float *x;
    int64_t width;
} RangeJob;

static void range_task(void *ctx, int64_t i, int worker)
{
    (void)worker;
    RangeJob *j = ctx;
    RangeTask *t = &j->tasks[i];
    intquant_range(j->x + t->row * j->width, t->rows * j->width, &t->mn, &t->mx);
}

/* Least and greatest of every sample into mn, mx [samples]; an empty sample gets +inf, -inf. Extremes do not depend on
 * the order in which they are taken, so neither tiles nor threads show in the result. */
static Status sample_ranges(const float *x, const Stream *shape, int64_t width, Pool *pool, float *mn, float *mx,
                            Error *err)
{
    int64_t n = 0;
    for (int s = 0; s < shape->samples; s++)
        n += (shape->start[s + 1] - shape->start[s] + RANGE_ROWS - 1) / RANGE_ROWS;
    RangeJob j = {.tasks = mem_array((size_t)n, sizeof *j.tasks), .x = x, .width = width};
    if (!j.tasks)
        return error_nomem(err, "activation ranges");
    int64_t k = 0;
    for (int s = 0; s < shape->samples; s++) {
        for (int64_t r = shape->start[s]; r < shape->start[s + 1]; r += RANGE_ROWS) {
            int64_t left = shape->start[s + 1] - r;
            j.tasks[k++] = (RangeTask){.sample = s, .row = r, .rows = left < RANGE_ROWS ? left : RANGE_ROWS};
        }
        mn[s] = INFINITY;
        mx[s] = -INFINITY;
    }
    pool_run(pool, n, range_task, &j, NULL);
    bool bad = false;
    for (int64_t i = 0; i < n; i++) {
        RangeTask *t = &j.tasks[i];
        bad |= !isfinite(t->mn) || !isfinite(t->mx);
        mn[t->sample] = t->mn < mn[t->sample] ? t->mn : mn[t->sample];
        mx[t->sample] = t->mx > mx[t->sample] ? t->mx : mx[t->sample];
    }
    int64_t at = 0;
    while (bad && isfinite(j.tasks[at].mn) && isfinite(j.tasks[at].mx))
        at++;
    Status st = ST_OK;
    if (bad)
        st = error_set(err, ST_DATA,
                       "its input holds NaN or Inf (sample %d, rows %lld to %lld): keep the layers before it in float",
                       j.tasks[at].sample, (long long)(j.tasks[at].row - shape->start[j.tasks[at].sample]),
                       (long long)(j.tasks[at].row + j.tasks[at].rows - 1 - shape->start[j.tasks[at].sample]));
    free(j.tasks);
    return st;
}

/* The range of each sample becomes the range its parameters are made from; *end_mn, *end_mx: of all of them. */
static void spread_ranges(RangeFrom from, int samples, float *mn, float *mx, float *end_mn, float *end_mx)
{
    float a = INFINITY, b = -INFINITY;
    for (int s = 0; s < samples; s++) {
        a = mn[s] < a ? mn[s] : a;
        b = mx[s] > b ? mx[s] : b;
        if (from == RANGE_RUNNING) {
            mn[s] = a;
            mx[s] = b;
        }
    }
    for (int s = 0; s < samples && from == RANGE_ALL; s++) {
        mn[s] = a;
        mx[s] = b;
    }
    *end_mn = a;
    *end_mx = b;
}

static Status form_prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    FormState *f = self;
    size_t n = (size_t)shape->samples;
    float *range = mem_array(2 * n, sizeof *range);
    free(f->param);
    f->param = mem_zarray(n, sizeof *f->param);
    if (!range || !f->param) {
        free(range);
        return error_nomem(err, "activation ranges");
    }
    Status st = sample_ranges(x, shape, width, pool, range, range + n, err);
    if (st == ST_OK) {
        float mn, mx;
        spread_ranges(f->from, shape->samples, range, range + n, &mn, &mx);
        for (size_t s = 0; s < n; s++)
            if (range[s] <= range[n + s]) /* samples up to here have rows */
                f->param[s] = f->act->param(&f->config->act, range[s], range[n + s], f->T);
        f->fixed = f->act->param(&f->config->act, mn, mx, f->T);
        f->seen = true;
    } else if (st == ST_DATA) {
        error_prefix(err, "'%s': ", f->model->linears[f->linear].name);
    }
    free(range);
    return st;
}

static void form_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    (void)row0;
    const FormState *f = self;
    f->weight->rows(&f->config->weight, w, rows, in, f->T, f->peer);
}

static void form_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    const FormState *f = self;
    const QParam *p = f->from == RANGE_NONE ? NULL : f->from == RANGE_FIXED ? &f->fixed : &f->param[sample];
    f->act->rows(&f->config->act, p, x, rows, in, ld, f->T, out);
}

/* ---- one layer ---- */

void layer_forms_fini(LayerForms *l)
{
    for (int64_t i = 0; l->states && i < l->n; i++)
        free(l->states[i].param);
    free(l->states);
    free(l->state_of);
    free(l->forms);
    free(l->table);
}

static RangeFrom calibration_range(const ActQuantizer *a, bool peer)
{
    if (!a->param)
        return RANGE_NONE;
    if (a->calibrated)
        return peer ? RANGE_RUNNING : RANGE_ALL;
    return peer ? RANGE_SAMPLE : RANGE_NONE;
}

Status layer_forms_init(LayerForms *l, const Model *m, const QuantJobOptions *o, int64_t first, int64_t n, DType T,
                        Error *err)
{
    *l = (LayerForms){.n = n, .states = mem_zarray((size_t)n, sizeof *l->states),
                      .state_of = mem_array((size_t)n, sizeof *l->state_of),
                      .forms = mem_zarray((size_t)n, sizeof *l->forms),
                      .table = mem_zarray((size_t)n, sizeof *l->table)};
    if (!l->states || !l->state_of || !l->forms || !l->table) {
        layer_forms_fini(l);
        *l = (LayerForms){0};
        return error_nomem(err, "a layer's quantizers");
    }
    for (int64_t i = 0; i < n; i++) {
        int16_t level = o->level[first + i];
        l->state_of[i] = -1;
        if (level == 0)
            continue;
        int64_t leader = m->linears[first + i].input - first;
        if (leader >= 0 && leader < i && o->level[first + leader] == level) {
            l->state_of[i] = l->state_of[leader];
        } else {
            const QConfig *c = &o->levels[level - 1];
            const ActQuantizer *a = act_quantizer_find(&c->act);
            l->state_of[i] = i;
            l->states[i] = (FormState){.model = m, .config = c, .act = a, .weight = weight_quantizer_find(&c->weight),
                                       .T = T, .peer = o->peer, .linear = first + i,
                                       .from = calibration_range(a, o->peer)};
        }
        FormState *s = &l->states[l->state_of[i]];
        l->forms[i] = (LinearForm){.prepare = s->from == RANGE_NONE ? NULL : form_prepare, .weight = form_weight,
                                   .act = s->act->rows ? form_act : NULL, .self = s};
        l->table[i] = &l->forms[i];
        l->any = true;
    }
    return ST_OK;
}

void layer_forms_fix(LayerForms *l, QParam *found)
{
    for (int64_t i = 0; i < l->n; i++) {
        if (l->state_of[i] < 0)
            continue;
        FormState *s = &l->states[l->state_of[i]];
        if (!s->act->calibrated)
            continue;
        if (!s->seen) { /* no range to quantize by: it stays float */
            l->table[i] = NULL;
            continue;
        }
        found[i] = s->fixed;
        s->from = RANGE_FIXED;
        l->forms[i].prepare = NULL;
    }
}
