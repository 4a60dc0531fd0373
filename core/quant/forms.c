#include "quant/forms.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dist/dist.h"
#include "model/weight.h"
#include "quant/actrange.h"
#include "quant/hessian.h"

/* How the rows of a sample are fake-quantized. */
typedef enum ActRule {
    ACT_SAME,    /* left alone */
    ACT_OWN,     /* each row by its own parameters */
    ACT_SAMPLE,  /* by the sample's */
    ACT_ONE,     /* by those of the calibration */
    ACT_COLUMNS  /* the peer's deployed dynamic quantizers */
} ActRule;

/* What linears that see the same input at the same level share: runner and forms quantize that input once. */
typedef struct FormState {
    LayerForms *layer;
    const QConfig *config;
    const ActQuantizer *act;
    const WeightQuantizer *weight;
    int64_t first;     /* index of the first of them, within the layer */
    int level;
    FormStage stage;
    DType T, kept_T;
    ActRule rule;
    const void *reader; /* the linear that shows it its input in the present pass: of each chunk once */
    bool seen;         /* the calibration fed it: an expert may get no token */
    void *observed;    /* of act->observer */
    Pack watched;      /* of several ranks, what FORM_WATCH saw of this one's samples */
    ActParam *param;   /* [samples] of the present pass */
    float range[2];    /* what calibration found */
    ActParam fixed;    /* and made of it */
    DType fixed_T;
} FormState;

typedef struct FormLinear {
    FormState *s; /* NULL: float */
    int64_t index; /* within the layer */
    QWeight q;
    bool have; /* q is made */
} FormLinear;

static bool is_rowwise(const FormState *s)
{
    return weight_quantizer_rowwise(s->weight, &s->config->weight, s->layer->opt->peer);
}

/* Calibration: the next pass finds what the later ones take. */
static bool calibrates(FormStage stage)
{
    return stage == FORM_CALIBRATE || stage == FORM_WATCH;
}

static bool is_static(const FormState *s)
{
    return s->act->observer && !s->act->dynamic;
}

/* ---- quantized weights ---- */

static const Linear *linear_of(const LayerForms *l, int64_t i)
{
    return &l->model->linears[l->first + i];
}

enum { FINITE_ROWS = 64 };

typedef struct FiniteCheck {
    const Linear *lin;
    const float *w;
    atomic_llong bad; /* first block of rows that holds NaN or Inf */
} FiniteCheck;

static void finite_task(void *ctx, int64_t i, int worker)
{
    (void)worker;
    FiniteCheck *f = ctx;
    int64_t row = i * FINITE_ROWS, rows = f->lin->out - row < FINITE_ROWS ? f->lin->out - row : FINITE_ROWS;
    float mn, mx;
    intquant_range(f->w + row * f->lin->in, rows * f->lin->in, &mn, &mx);
    long long before = atomic_load(&f->bad);
    while (!(isfinite(mn) && isfinite(mx)) && i < before && !atomic_compare_exchange_weak(&f->bad, &before, i))
        ;
}

/* A NaN or Inf would spoil its row without a word, and everything behind it. */
static Status check_finite(const Linear *lin, const float *w, Pool *pool, Error *err)
{
    int64_t blocks = (lin->out + FINITE_ROWS - 1) / FINITE_ROWS;
    FiniteCheck f = {.lin = lin, .w = w, .bad = blocks};
    if (pool)
        pool_run(pool, PHASE_QUANT_WEIGHT, blocks, finite_task, &f, NULL);
    else
        for (int64_t i = 0; i < blocks; i++)
            finite_task(&f, i, 0);
    if (f.bad == blocks)
        return ST_OK;
    int64_t at = f.bad * FINITE_ROWS * lin->in;
    while (isfinite(w[at]))
        at++;
    return error_set(err, ST_DATA, "its weight holds %s at [%lld,%lld]: 'slimscope check' looks through the whole "
                     "model; fetch it again, or keep the layer in float", isnan(w[at]) ? "NaN" : "Inf",
                     (long long)(at / lin->in), (long long)(at % lin->in));
}

static float *weight_buffer(LayerForms *l, const Linear *lin, Error *err)
{
    FormRoom *r = l->room;
    size_t n = (size_t)(lin->out * lin->in);
    if (n > r->weight_cap) {
        free(r->weight);
        r->weight = mem_aligned(n, sizeof *r->weight);
        r->weight_cap = r->weight ? n : 0;
        if (!r->weight)
            error_nomem(err, lin->name);
    }
    return r->weight;
}

void form_room_free(FormRoom *r)
{
    free(r->weight);
    free(r->code);
    *r = (FormRoom){0};
}

void layer_forms_done(LayerForms *l, QWeight *w)
{
    FormRoom *r = l->room;
    size_t n = (size_t)(w->out * w->in) * qweight_code(w->dtype);
    if (w->code && n > r->code_cap) {
        free(r->code);
        r->code = w->code;
        r->code_cap = n;
        w->code = NULL;
    }
    qweight_fini(w);
}

static WeightTask task_of(const FormState *s, int64_t in)
{
    const FormsOptions *o = s->layer->opt;
    return (WeightTask){.q = &s->config->weight, .in = in, .T = o->weight, .F = s->kept_T, .peer = o->peer,
                        .pool = o->pool, .cancel = o->cancel};
}

static Status quantize_weight(LayerForms *l, FormLinear *f, const void *shared, Error *err)
{
    const Linear *lin = linear_of(l, f->index);
    const FormState *s = f->s;
    if (f->have)
        return ST_OK;
    float *w = weight_buffer(l, lin, err);
    Status st = w ? l->opt->read(l->opt->ctx, l->first + f->index, w, err) : ST_NOMEM;
    if (st == ST_OK)
        st = check_finite(lin, w, l->opt->pool, err);
    if (st == ST_OK)
        st = qweight_init_in(&f->q, &s->config->weight, lin->out, lin->in, &l->room->code, &l->room->code_cap, err);
    if (st == ST_OK) {
        WeightTask t = task_of(s, lin->in);
        t.w = w;
        t.out = lin->out;
        t.shared = shared;
        t.stored = t.q->dtype == QT_FLOAT ? weight_dtype(lin) : DT_F32;
        Profile *profile = t.pool ? pool_profile(t.pool) : NULL;
        Phase was = profile_enter(profile, 0, PHASE_QUANT_WEIGHT); /* what this thread does between its pool runs, too */
        st = s->weight->quantize(&t, &f->q, err);
        profile_leave(profile, 0, was);
        f->have = st == ST_OK;
        if (!f->have)
            qweight_fini(&f->q);
    }
    if (st == ST_DATA)
        error_prefix(err, st, "'%s': ", lin->name);
    return st;
}

/* ---- the input of one calibration pass ---- */

typedef struct HessianInput {
    FormState *s;
    const float *x;
    const Stream *shape;
    int64_t width;
} HessianInput;

/* The peer's deployed static quantizer on an input of another dtype than its scale: levels in the wider one, values in
 * the scale's (specs/quantization.md 0). */
static void deployed_rows(const FormState *s, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    int8_t level[256];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < in; i += (int64_t)sizeof level) {
            int64_t n = in - i < (int64_t)sizeof level ? in - i : (int64_t)sizeof level;
            intquant_quantize(x + r * ld + i, n, s->fixed.p, 8, s->T, level);
            intquant_dequantize(level, n, s->fixed.p, s->fixed_T, out + r * in + i);
        }
}

static void fake_rows(const FormState *s, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    const ActParam *p = s->rule == ACT_SAMPLE ? &s->param[sample] : s->rule == ACT_ONE ? &s->fixed : NULL;
    const QSpec *q = &s->config->act;
    if (s->rule == ACT_COLUMNS)
        act_columns(s->act, q, x, rows, in, ld, s->T, out);
    else if (s->rule == ACT_ONE && s->stage == FORM_DEPLOYED && s->config->act.dtype == QT_INT8)
        deployed_rows(s, x, rows, in, ld, out);
    else if (s->rule != ACT_SAME)
        s->act->rows(q, p, x, rows, in, ld, s->T, s->layer->opt->peer, out);
    else
        for (int64_t r = 0; r < rows; r++)
            memcpy(out + r * in, x + r * ld, (size_t)in * sizeof *x);
}

static void hessian_rows(void *ctx, int64_t row0, int64_t rows, float *out)
{
    const HessianInput *h = ctx;
    const int64_t *start = h->shape->start;
    int s = 0, end = h->shape->samples;
    while (end - s > 1) { /* the last sample that begins at or before row0 */
        int mid = s + (end - s) / 2;
        if (start[mid] <= row0)
            s = mid;
        else
            end = mid;
    }
    for (int64_t at = row0; at < row0 + rows; s++) {
        int64_t stop = start[s + 1] < row0 + rows ? start[s + 1] : row0 + rows;
        if (stop > at)
            fake_rows(h->s, s, h->x + at * h->width, stop - at, h->width, h->width, out + (at - row0) * h->width);
        at = stop > at ? stop : at;
    }
}

/* Of all ranks' rows: the sums go from one to the next, and the last one's to all. *rows: of this rank, then of all. */
static Status gather_moments(const LayerForms *l, HessianInput *in, int64_t *rows, Pool *pool, float *h, Error *err)
{
    Dist *d = l->opt->dist;
    Hessian *g = NULL;
    Pack before = {0}, mine = {0};
    Status st = dist_take(d, &before, err);
    if (st == ST_OK)
        st = hessian_new(&g, in->width, h, pool, l->opt->cancel, err);
    Unpack sums = unpack_of(&before);
    if (st == ST_OK && dist_rank(d) > 0)
        st = hessian_merge(g, &sums, err);
    if (st == ST_OK)
        st = hessian_add(g, hessian_rows, in, *rows, err);
    if (st == ST_OK)
        st = dist_rank(d) + 1 < dist_size(d) ? hessian_pack(g, &mine, err) : hessian_end(g, err);
    if (st == ST_OK)
        dist_hand_on(d, &mine);
    if (st == ST_OK)
        st = dist_from_last(d, h, (size_t)(in->width * in->width) * sizeof *h, err);
    *rows = g ? hessian_total(g) : 0;
    if (st == ST_OK)
        st = dist_from_last(d, rows, sizeof *rows, err);
    hessian_free(g);
    pack_fini(&before);
    pack_fini(&mine);
    return st;
}

static bool is_own(const LayerForms *l, int64_t i)
{
    const FormsOptions *o = l->opt;
    return (!o->own || o->own[l->first + i]) && form_is_own(o->makers, l->first + i);
}

/* Made here, or by the rank that makes it. */
static Status make_weight(LayerForms *l, FormLinear *f, const void *shared, Error *err)
{
    const FormMakers *m = l->opt->makers;
    const Linear *lin = linear_of(l, f->index);
    if (f->have)
        return ST_OK;
    if (is_own(l, f->index))
        RETURN_IF_ERROR(quantize_weight(l, f, shared, err));
    if (!m || (m->taken && f->s->weight->prepare))
        return ST_OK;
    RETURN_IF_ERROR(form_share(m, l->first + f->index, &f->q, &f->s->config->weight, lin->out, lin->in, err));
    f->have = true;
    return ST_OK;
}

static Status make_weights(FormState *s, const void *shared, Error *err)
{
    LayerForms *l = s->layer;
    for (int64_t i = s->first; i < l->n; i++)
        if (l->lin[i].s == s)
            RETURN_IF_ERROR(make_weight(l, &l->lin[i], shared, err));
    return ST_OK;
}

/* Whether one of the state's weights is made here. */
static bool makes_weights(const FormState *s)
{
    const LayerForms *l = s->layer;
    for (int64_t i = s->first; i < l->n; i++)
        if (l->lin[i].s == s && is_own(l, i))
            return true;
    return false;
}

/* One Hessian at a time: the weights that need it are quantized while it is there. */
static Status quantize_by_hessian(FormState *s, const float *x, const Stream *shape, int64_t width, Pool *pool,
                                  Error *err)
{
    LayerForms *l = s->layer;
    HessianInput in = {.s = s, .x = x, .shape = shape, .width = width};
    int64_t rows = shape->start[shape->samples] - shape->start[0];
    const bool makes = makes_weights(s);
    if (!makes && dist_size(l->opt->dist) == 1)
        return make_weights(s, NULL, err);
    float *h = mem_aligned((size_t)(width * width), sizeof *h);
    Status st = !h ? error_nomem(err, "the second moments of a linear's input")
                : dist_size(l->opt->dist) > 1 ? gather_moments(l, &in, &rows, pool, h, err)
                : hessian_gather(hessian_rows, &in, rows, width, pool, l->opt->cancel, h, err);
    void *shared = NULL;
    WeightTask t = task_of(s, width);
    t.rows = rows;
    if (st == ST_OK && makes)
        st = s->weight->prepare(&t, h, &shared, err);
    if (st == ST_DATA)
        error_prefix(err, st, "'%s': ", linear_of(l, s->first)->name);
    if (st == ST_OK)
        st = make_weights(s, shared, err);
    s->weight->release(shared);
    free(h);
    form_room_free(l->room); /* a pass goes on */
    return st;
}

/* The parameters of the range that was found. */
static void fix_range(FormState *s)
{
    s->fixed = act_param_of(s->act, &s->config->act, s->range[0], s->range[1], s->T, s->layer->opt->peer);
    s->fixed_T = s->act->wide ? DT_F32 : s->T;
}

/* Feeds the observer; under the peer's rule sample b is quantized by what samples 0..b gave. */
static void feed_own(FormState *s, const float *x, const Stream *shape, int64_t width, const float *mn, const float *mx)
{
    const ActQuantizer *a = s->act;
    const QSpec *q = &s->config->act;
    bool peer = s->layer->opt->peer;
    float lo, hi;
    for (int i = 0; i < shape->samples; i++) {
        act_observe(a->observer, s->observed, x, shape->start + i, 1, width, mn + i, mx + i, peer);
        if (s->rule != ACT_SAMPLE || a->dynamic || shape->start[i + 1] == shape->start[i])
            continue;
        a->observer->range(s->observed, q, peer, s->T, &lo, &hi);
        s->param[i] = act_param_of(a, q, lo, hi, s->T, peer);
    }
}

/* What other ranks' samples gave: of those before this one, or behind it. */
static Status feed_others(FormState *s, const Pack *all, int from, int to, Error *err)
{
    Status st = ST_OK;
    for (int r = from; st == ST_OK && r < to; r++) {
        Unpack in = unpack_of(&all[r]);
        st = act_observe_packed(s->act->observer, s->observed, &in, s->layer->opt->peer, err);
    }
    return st;
}

static Status observe(FormState *s, const float *x, const Stream *shape, int64_t width, const float *mn, const float *mx,
                      Error *err)
{
    Dist *d = s->layer->opt->dist;
    Pack mine = {0}, *all = NULL;
    Status st = ST_OK;
    if (dist_size(d) > 1 && s->stage == FORM_WATCH && !s->weight->prepare)
        return act_observe_pack(s->act->observer, x, shape->start, shape->samples, width, mn, mx, &s->watched, err);
    if (dist_size(d) == 1 && shape->start[shape->samples] == shape->start[0])
        return ST_OK;
    if (dist_size(d) > 1)
        st = act_observe_pack(s->act->observer, x, shape->start, shape->samples, width, mn, mx, &mine, err);
    if (dist_size(d) > 1 && st == ST_OK)
        st = dist_gather_all(d, &mine, &all, err);
    if (all)
        st = feed_others(s, all, 0, dist_rank(d), err);
    if (st == ST_OK)
        feed_own(s, x, shape, width, mn, mx);
    if (all && st == ST_OK)
        st = feed_others(s, all, dist_rank(d) + 1, dist_size(d), err);
    if (st == ST_OK) {
        s->act->observer->range(s->observed, &s->config->act, s->layer->opt->peer, s->T, &s->range[0], &s->range[1]);
        fix_range(s);
    }
    dist_packs_free(all, dist_size(d));
    pack_fini(&mine);
    return st;
}

static Status prepare_state(FormState *s, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    size_t n = (size_t)shape->samples;
    float *range = mem_array(2 * n, sizeof *range);
    free(s->param);
    s->param = mem_zarray(n, sizeof *s->param);
    if (!range || !s->param) {
        free(range);
        return error_nomem(err, "activation ranges");
    }
    Status st = act_ranges(x, shape, width, pool, range, range + n, err);
    if (st == ST_DATA)
        error_prefix(err, st, "'%s': ", linear_of(s->layer, s->first)->name);
    if (st == ST_OK && s->act->dynamic && s->act->sample)
        for (size_t i = 0; i < n; i++)
            if (range[i] <= range[n + i])
                s->param[i] = (ActParam){.p = s->act->sample(&s->config->act, range[i], range[n + i], s->T),
                                         .lo = -INFINITY, .hi = INFINITY};
    if (st == ST_OK && calibrates(s->stage) && s->act->observer)
        st = observe(s, x, shape, width, range, range + n, err);
    free(range);
    if (st == ST_OK && calibrates(s->stage)) {
        s->seen = true;
        if (s->weight->prepare)
            st = quantize_by_hessian(s, x, shape, width, pool, err);
    }
    return st;
}

/* One state's part of what a rank packed. */
static Status feed_watched(FormState *s, Unpack *in, Error *err)
{
    const int64_t seen = unpack_i64(in), len = unpack_i64(in);
    if (in->bad || len < 0 || len > in->end - in->at)
        return error_set(err, ST_INTERNAL, "what a rank saw of activations is not whole");
    Unpack own = {.at = in->at, .end = in->at + len};
    in->at += len;
    s->seen = s->seen || seen;
    while (own.at != own.end)
        RETURN_IF_ERROR(act_observe_packed(s->act->observer, s->observed, &own, s->layer->opt->peer, err));
    return ST_OK;
}

static bool is_watched(const LayerForms *l, int64_t i)
{
    const FormState *s = l->lin[i].s;
    return s && s->first == i && s->stage == FORM_WATCH && s->act->observer && !s->weight->prepare;
}

Status layer_forms_gather(LayerForms *l, Error *err)
{
    Pack mine = {0}, *all = NULL;
    for (int64_t i = 0; i < l->n; i++) {
        if (!is_watched(l, i))
            continue;
        FormState *s = l->lin[i].s;
        pack_i64(&mine, s->seen);
        pack_i64(&mine, (int64_t)s->watched.len);
        pack_put(&mine, s->watched.data, s->watched.len);
        pack_fini(&s->watched);
    }
    Status st = dist_gather_all(l->opt->dist, &mine, &all, err);
    pack_fini(&mine);
    for (int r = 0; st == ST_OK && r < dist_size(l->opt->dist); r++) {
        Unpack in = unpack_of(&all[r]);
        for (int64_t i = 0; st == ST_OK && i < l->n; i++)
            st = is_watched(l, i) ? feed_watched(l->lin[i].s, &in, err) : ST_OK;
    }
    if (all)
        dist_packs_free(all, dist_size(l->opt->dist));
    for (int64_t i = 0; st == ST_OK && i < l->n; i++) {
        FormState *s = l->lin[i].s;
        if (!is_watched(l, i) || !s->seen)
            continue;
        s->act->observer->range(s->observed, &s->config->act, l->opt->peer, s->T, &s->range[0], &s->range[1]);
        fix_range(s);
    }
    return st;
}

/* ---- what the runner calls ---- */

static Status form_prepare(void *self, const float *x, const Stream *shape, int64_t width, Pool *pool, Error *err)
{
    const FormLinear *f = self;
    if (f->s->reader && f->s->reader != f)
        return ST_OK;
    f->s->reader = f;
    return prepare_state(f->s, x, shape, width, pool, err);
}

static void form_weight(void *self, int64_t row0, int64_t rows, int64_t in, float *w)
{
    const FormLinear *f = self;
    const FormState *s = f->s;
    if (f->have)
        qweight_rows(&f->q, row0, rows, s->layer->opt->weight, w);
    else
        s->weight->rows(&s->config->weight, w, rows, in, s->layer->opt->weight, s->layer->opt->peer);
}

static void form_act(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out)
{
    const FormLinear *f = self;
    fake_rows(f->s, sample, x, rows, in, ld, out);
}

static void form_weight_codes(void *self, int64_t row0, int64_t rows, int64_t in, float *w, float *scale)
{
    const FormLinear *f = self;
    const FormState *s = f->s;
    if (f->have)
        qweight_codes(&f->q, row0, rows, w, scale);
    else
        s->weight->codes(&s->config->weight, w, rows, in, s->layer->opt->weight, scale);
}

static void form_act_codes(void *self, int sample, const float *x, int64_t rows, int64_t in, int64_t ld, float *out,
                           float *scale)
{
    const FormState *s = ((const FormLinear *)self)->s;
    (void)sample;
    s->act->codes(&s->config->act, s->rule == ACT_ONE ? &s->fixed : NULL, x, rows, in, ld, s->T, out, scale);
}

/* ---- one layer ---- */

static ActRule rule_of(const FormState *s, FormStage stage)
{
    const ActQuantizer *a = s->act;
    bool peer = s->layer->opt->peer;
    if (!a->rows)
        return ACT_SAME;
    if (is_static(s))
        return calibrates(stage) && peer ? ACT_SAMPLE : ACT_ONE;
    if (!peer)
        return ACT_OWN;
    if (stage == FORM_DEPLOYED)
        return a->sample && s->config->weight.scope != QS_PER_GROUP ? ACT_COLUMNS : ACT_OWN;
    if (a->sample)
        return ACT_SAMPLE;
    return calibrates(stage) ? ACT_SAME : ACT_OWN;
}

/* In a deployed pass two dtypes that differ compute in float32. */
static DType pass_dtype(const FormState *s, FormStage stage, const FormTypes *t)
{
    const Model *m = s->layer->model;
    const Linear *lin = linear_of(s->layer, s->first);
    DType T = lin->input == m->linears[s->layer->first].input ? t->input : t->inner;
    return !calibrates(stage) && is_static(s) && s->fixed_T != T ? DT_F32 : T;
}

static bool needs_prepare(const FormState *s)
{
    if (calibrates(s->stage) && (s->act->observer || s->weight->prepare))
        return true;
    return s->stage != FORM_WATCH && s->rule == ACT_SAMPLE;
}

static bool state_lost(const FormState *s)
{
    return !s->seen && (s->act->observer || s->weight->prepare);
}

/* Whether a linear of the layer stays float for want of data: its own, or another expert's, since engines load the
 * experts of a layer with one scheme alone (recipe/runtime_table.c). The peer leaves the others quantized. */
static bool is_lost(const LayerForms *l, int64_t i)
{
    const Linear *all = l->model->linears + l->first;
    bool lost = l->lin[i].s && state_lost(l->lin[i].s);
    for (int64_t k = 0; k < l->n && !lost && l->lin[i].s && all[i].expert >= 0 && !l->opt->peer; k++)
        lost = l->lin[k].s && all[k].group == all[i].group && state_lost(l->lin[k].s);
    return lost;
}

static Status set_state(FormState *s, FormStage stage, const FormTypes *t, Error *err)
{
    s->stage = stage;
    s->reader = NULL;
    if (stage == FORM_FLOAT)
        return ST_OK;
    s->T = pass_dtype(s, stage, t);
    s->rule = rule_of(s, stage);
    if (calibrates(stage)) {
        s->kept_T = t->kept;
        s->seen = false;
        if (s->act->observer && !s->observed)
            s->observed = mem_zarray(1, s->act->observer->size);
        else if (s->act->observer)
            memset(s->observed, 0, s->act->observer->size);
        if (s->act->observer && !s->observed)
            return error_nomem(err, "an activation's calibration");
    }
    return ST_OK;
}

/* Whether the linear computes with integers and scales; not by the peer's rules, which round in between. */
static bool has_codes(const FormLinear *f)
{
    const FormState *s = f->s;
    bool act = s->act->codes && (s->rule == ACT_ONE || s->rule == ACT_OWN);
    return act && !s->layer->opt->peer && (f->have ? qweight_has_codes(&s->config->weight) : s->weight->codes != NULL);
}

static void set_form(LayerForms *l, FormLinear *f)
{
    FormState *s = f->s;
    LinearForm *form = &l->forms[f->index];
    bool lost = s->stage >= FORM_FIXED && is_lost(l, f->index);
    *form = (LinearForm){.self = f, .act_key = s};
    l->table[f->index] = s->stage == FORM_FLOAT || lost ? NULL : form;
    if (!l->table[f->index])
        return;
    form->prepare = needs_prepare(s) ? form_prepare : NULL;
    if (s->stage == FORM_WATCH) {
        form->parts = !s->weight->prepare;
        l->table[f->index] = form->prepare ? form : NULL;
        l->any = l->any || form->prepare;
        return;
    }
    l->any = true;
    form->weight = s->weight->prepare && s->stage == FORM_CALIBRATE ? NULL : form_weight;
    form->act = s->rule == ACT_SAME ? NULL : form_act;
    if (form->weight && form->act && has_codes(f)) {
        form->weight_codes = form_weight_codes;
        form->act_codes = form_act_codes;
    }
}

static FormState *new_state(LayerForms *l, int64_t i)
{
    int16_t level = l->opt->level[l->first + i];
    const QuantLevel *q = &l->opt->levels[level - 1];
    l->states[i] = (FormState){.layer = l, .config = q->config, .act = q->act, .weight = q->weight, .first = i, .level = level,
                               .T = DT_F32, .kept_T = DT_F32, .fixed_T = DT_F32};
    return &l->states[i];
}

/* The state of the linear that shows i's input, where that is another one at the same level; else one of its own. */
static FormState *state_of(LayerForms *l, int64_t i)
{
    int64_t leader = overlay_input(l->opt->overlay, l->model, l->first + i) - l->first;
    if (leader >= 0 && leader < i && l->opt->level[l->first + leader] == l->opt->level[l->first + i])
        return l->lin[leader].s;
    return l->states[i].layer ? &l->states[i] : new_state(l, i);
}

Status layer_forms_stage(LayerForms *l, int level, FormStage stage, const FormTypes *t, Error *err)
{
    for (int64_t i = 0; i < l->n; i++) /* inputs may have been changed since */
        if (l->lin[i].s && (level == 0 || l->lin[i].s->level == level))
            l->lin[i].s = state_of(l, i);
    for (int64_t i = 0; i < l->n; i++) {
        FormState *s = l->lin[i].s;
        if (!s)
            continue;
        if (s->first == i && (level == 0 || s->level == level))
            RETURN_IF_ERROR(set_state(s, stage, t, err));
        else if (s->first == i)
            s->reader = NULL;
    }
    l->any = false;
    for (int64_t i = 0; i < l->n; i++) {
        FormLinear *f = &l->lin[i];
        if (!f->s)
            continue;
        bool now = level == 0 || f->s->level == level;
        if (now && stage > FORM_WATCH && !f->s->weight->prepare && !is_rowwise(f->s))
            RETURN_IF_ERROR(make_weight(l, f, NULL, err));
        set_form(l, f);
    }
    form_room_free(l->room); /* a pass comes */
    return ST_OK;
}

void layer_forms_fini(LayerForms *l)
{
    for (int64_t i = 0; l->states && i < l->n; i++) {
        free(l->states[i].param);
        free(l->states[i].observed);
        pack_fini(&l->states[i].watched);
    }
    for (int64_t i = 0; l->lin && i < l->n; i++)
        if (l->lin[i].have)
            qweight_fini(&l->lin[i].q);
    form_room_free(&l->own);
    free(l->states);
    free(l->lin);
    free(l->forms);
    free(l->table);
    *l = (LayerForms){0};
}

Status layer_forms_init(LayerForms *l, const Model *m, const FormsOptions *o, int64_t first, int64_t n, Error *err)
{
    *l = (LayerForms){.model = m, .opt = o, .first = first, .n = n, .states = mem_zarray((size_t)n, sizeof *l->states),
                      .lin = mem_zarray((size_t)n, sizeof *l->lin), .forms = mem_zarray((size_t)n, sizeof *l->forms),
                      .table = mem_zarray((size_t)n, sizeof *l->table)};
    if (!l->states || !l->lin || !l->forms || !l->table) {
        layer_forms_fini(l);
        return error_nomem(err, "a layer's quantizers");
    }
    l->room = o->room ? o->room : &l->own;
    for (int64_t i = 0; i < n; i++) {
        l->lin[i].index = i;
        if (o->level[first + i] == 0)
            continue;
        l->lin[i].s = state_of(l, i);
        if (!l->lin[i].s->act || !l->lin[i].s->weight) {
            layer_forms_fini(l);
            return error_set(err, ST_INTERNAL, "'%s': no quantizer for its level", m->linears[first + i].name);
        }
    }
    return ST_OK;
}

void layer_forms_move(LayerForms *to, LayerForms *from, const FormsOptions *o)
{
    form_room_free(&from->own);
    *to = *from;
    *from = (LayerForms){0};
    to->opt = o;
    to->room = &to->own;
    for (int64_t i = 0; i < to->n; i++)
        if (to->states[i].layer)
            to->states[i].layer = to;
}

bool layer_forms_unseen(const LayerForms *l, int64_t i)
{
    return is_lost(l, i);
}

bool layer_forms_param(const LayerForms *l, int64_t i, QParam *p, DType *T)
{
    const FormState *s = l->lin[i].s;
    if (!s || !s->act->observer || !s->seen)
        return false;
    *p = s->fixed.p;
    *T = s->fixed_T;
    return true;
}

bool layer_forms_range(const LayerForms *l, int64_t i, float *lo, float *hi)
{
    const FormState *s = l->lin[i].s;
    if (!s || !s->act->observer || !s->seen)
        return false;
    *lo = s->range[0];
    *hi = s->range[1];
    return true;
}

void layer_forms_recall(LayerForms *l, int64_t i, const FormTypes *t, float lo, float hi)
{
    FormState *s = l->lin[i].s;
    if (!s || !s->act->observer || s->seen)
        return;
    s->T = pass_dtype(s, FORM_WATCH, t);
    s->range[0] = lo;
    s->range[1] = hi;
    fix_range(s);
    s->seen = true;
}

int64_t layer_forms_zeros(const LayerForms *l, int64_t i)
{
    const FormLinear *f = &l->lin[i];
    return f->have && f->q.dtype == QT_FLOAT ? f->q.zeros : -1;
}

Status layer_forms_take(LayerForms *l, int64_t i, QWeight *out, Error *err)
{
    FormLinear *f = &l->lin[i];
    RETURN_IF_ERROR(quantize_weight(l, f, NULL, err));
    *out = f->q;
    f->q = (QWeight){0};
    f->have = false;
    return ST_OK;
}

void layer_forms_put(LayerForms *l, int64_t i, QWeight *w)
{
    FormLinear *f = &l->lin[i];
    if (f->have)
        qweight_fini(&f->q);
    f->q = *w;
    f->have = true;
    *w = (QWeight){0};
}
