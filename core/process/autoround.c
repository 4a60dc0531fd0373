#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/pack.h"
#include "process/pipeline.h"
#include "process/roundunit.h"
#include "process/unitranks.h"
#include "run/schedule.h"
#include "run/unit.h"

/* autoround_quant (specs/quantization.md 10.5, 11): the weights of its strategies' linears are quantized unit by unit by what
 * training finds. The peer trains each unit on the inputs of the float model and hands the float outputs on. Ours reads what
 * the quantized units before give, with inputs quantized as they will be, and holds it against what the float model gives. */

typedef struct AutoRoundQuant {
    const Model *m;
    const RoundSettings *set;
    const QuantLevel *levels;
    const int16_t *at;      /* [model.nlinears] levels */
    int first, last;        /* levels of its strategies */
    bool peer;
    Stream ref;             /* ours: what the float model has at the input of unit ref_unit */
    int ref_unit;           /* -1: it isn't made yet */
} AutoRoundQuant;

/* ---- settings ---- */

static const void *settings(Arena *a, const YamlNode *map)
{
    RoundSettings *s = arena_alloc(a, sizeof *s);
    int64_t iters = 10, seed = 0;
    bool rounds = true, clips = true;
    if (!s)
        return NULL;
    if (yaml_get(map, "iters"))
        lax_int(yaml_get(map, "iters"), &iters);
    if (yaml_get(map, "seed"))
        lax_int(yaml_get(map, "seed"), &seed);
    if (yaml_get(map, "enable_round_tuning"))
        lax_bool(yaml_get(map, "enable_round_tuning"), &rounds);
    if (yaml_get(map, "enable_minmax_tuning"))
        lax_bool(yaml_get(map, "enable_minmax_tuning"), &clips);
    *s = (RoundSettings){.iters = iters, .rounds = rounds, .clips = clips, .seed = (uint32_t)seed};
    return s;
}

static void hash(const void *settings, Hasher *h)
{
    const RoundSettings *s = settings;
    hasher_u64(h, (uint64_t)s->iters);
    hasher_u64(h, s->rounds);
    hasher_u64(h, s->clips);
    hasher_u64(h, s->seed);
}

/* ---- what is its own ---- */

static bool is_own(const AutoRoundQuant *q, int64_t linear)
{
    return q->at[linear] >= q->first && q->at[linear] <= q->last;
}

static bool has_own(const AutoRoundQuant *q, int unit)
{
    const Unit *u = &q->m->units[unit];
    for (int64_t i = u->first; i < u->first + u->count; i++)
        if (is_own(q, i))
            return true;
    return false;
}

static bool forward(const void *self, int unit)
{
    const AutoRoundQuant *q = self;
    if (unit >= 0)
        return has_own(q, unit);
    for (int u = 0; u < model_depth(q->m); u++)
        if (has_own(q, u))
            return true;
    return false;
}

/* As the deployed layers of the peer's do. */
static bool widens(const void *self, int unit)
{
    return forward(self, unit);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    AutoRoundQuant *q = mem_zarray(1, sizeof *q);
    if (!q)
        return error_nomem(err, "autoround_quant");
    *q = (AutoRoundQuant){.m = ctx->model, .set = ctx->step->settings, .levels = ctx->levels, .at = ctx->work->level,
                          .first = ctx->step->entry + 1, .last = ctx->step->entry + ctx->step->entries,
                          .peer = ctx->work->peer, .ref_unit = -1};
    *self = q;
    for (int u = 0; u < model_depth(q->m); u++)
        if (has_own(q, u)) {
            Status st = unit_has_gradients(q->m, u, err);
            if (st != ST_OK)
                return error_prefix(err, st, "line %d: autoround_quant: ", ctx->step->line);
        }
    return ST_OK;
}

static void end(void *self)
{
    AutoRoundQuant *q = self;
    stream_fini(&q->ref);
    free(q);
}

/* ---- what the float model has ---- */

/* q->ref at the input of the unit: it goes along with the run, which may begin at a later unit. */
static Status float_input(AutoRoundQuant *q, UnitRun *u, Error *err)
{
    const Variant plain = {.forms = NULL};
    if (q->ref_unit < 0) {
        RETURN_IF_ERROR(runner_embed(u->runner, u->texts, &q->ref, err));
        q->ref_unit = 0;
    }
    for (; q->ref_unit < u->unit; q->ref_unit++)
        RETURN_IF_ERROR(runner_layer(u->runner, q->ref_unit, &plain, &q->ref, &q->ref, NULL, 0, err));
    return ST_OK;
}

/* What the unit would give in float: ours as the float model has it, the peer's of this very input. *made is the caller's. */
static Status float_output(AutoRoundQuant *q, UnitRun *u, const Variant *plain, Stream *made, const Stream **want, Error *err)
{
    if (!q->peer) {
        RETURN_IF_ERROR(float_input(q, u, err));
        RETURN_IF_ERROR(runner_layer(u->runner, u->unit, plain, &q->ref, &q->ref, NULL, 0, err));
        q->ref_unit = u->unit + 1;
        *want = &q->ref;
        return ST_OK;
    }
    RETURN_IF_ERROR(stream_copy(made, unit_input(u), err));
    *want = made;
    return runner_layer(u->runner, u->unit, plain, unit_input(u), made, NULL, 0, err);
}

/* ---- what a unit's training found, kept for a run that goes on ---- */

static void pack_weights(const AutoRoundQuant *q, const UnitRun *u, const QWeight *w, Pack *out)
{
    for (int64_t i = 0; i < u->n; i++) {
        if (!is_own(q, u->first + i))
            continue;
        size_t groups = (size_t)(w[i].out * w[i].groups);
        pack_put(out, w[i].code, (size_t)(w[i].out * w[i].in));
        pack_put(out, w[i].scale, groups * sizeof *w[i].scale);
        if (w[i].offset)
            pack_put(out, w[i].offset, groups * sizeof *w[i].offset);
    }
    const Digest d = digest_of(out->data, out->len);
    pack_put(out, d.b, sizeof d.b);
}

static Status keep_found(const AutoRoundQuant *q, UnitRun *u, const QWeight *w, Error *err)
{
    Pack p = {0};
    if (!unit_keeps(u))
        return ST_OK;
    pack_weights(q, u, w, &p);
    Status st = p.oom ? error_nomem(err, "what training found") : unit_keep_found(u, p.data, p.len, err);
    pack_fini(&p);
    return st;
}

static Status unpack_weights(const AutoRoundQuant *q, const UnitRun *u, Unpack *in, QWeight *w, Error *err)
{
    for (int64_t i = 0; i < u->n; i++) {
        const Linear *l = &u->model->linears[u->first + i];
        if (!is_own(q, u->first + i))
            continue;
        RETURN_IF_ERROR(qweight_init(&w[i], &q->levels[q->at[u->first + i] - 1].config->weight, l->out, l->in, err));
        size_t groups = (size_t)(w[i].out * w[i].groups);
        unpack_get(in, w[i].code, (size_t)(w[i].out * w[i].in));
        unpack_get(in, w[i].scale, groups * sizeof *w[i].scale);
        if (w[i].offset)
            unpack_get(in, w[i].offset, groups * sizeof *w[i].offset);
    }
    return ST_OK;
}

static void drop_weights(QWeight *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        qweight_fini(&w[i]);
}

/* *got: all of the unit's weights are there, whole. */
static Status take_found(const AutoRoundQuant *q, UnitRun *u, QWeight *w, bool *got, Error *err)
{
    void *data = NULL;
    size_t n = 0;
    Digest is;
    *got = false;
    RETURN_IF_ERROR(unit_found(u, &data, &n, err));
    if (!data || n < sizeof is.b) {
        free(data);
        return ST_OK;
    }
    const size_t len = n - sizeof is.b;
    is = digest_of(data, len);
    Unpack in = {data, (const unsigned char *)data + len, false};
    Status st = ST_OK;
    if (memcmp(is.b, (const unsigned char *)data + len, sizeof is.b) == 0) {
        st = unpack_weights(q, u, &in, w, err);
        *got = st == ST_OK && !in.bad && in.at == in.end;
    }
    free(data);
    if (st == ST_OK && !*got)
        drop_weights(w, u->n);
    return st;
}

/* ---- one unit ---- */

static void told(void *ctx, int64_t done, int64_t of, double share)
{
    unit_trained(ctx, done, of, share);
}

/* Others that are quantized already and need not see their input first compute so; the rest in float. */
static Status train(AutoRoundQuant *q, UnitRun *u, const int16_t *level, QWeight *w, Error *err)
{
    const LinearForm **others = mem_zarray((size_t)u->n, sizeof *others);
    Stream made = {0};
    const Stream *want = NULL;
    RoundResult result;
    if (!others)
        return error_nomem(err, "training a layer's rounding");
    for (int64_t i = 0; i < u->n; i++)
        if (u->forms->table[i] && !u->forms->table[i]->prepare && !level[i])
            others[i] = u->forms->table[i];
    Variant plain = unit_plain(u);
    if (q->peer)
        plain.forms = others;
    unit_trained(u, 0, q->set->iters, 1);
    Status st = float_output(q, u, &plain, &made, &want, err);
    const RoundTask t = {.runner = u->runner, .unit = u->unit, .set = q->set, .levels = q->levels, .level = level,
                         .others = others, .dtype = plain.dtype, .sdpa = plain.sdpa, .peer = q->peer,
                         .T = unit_weight_dtype(u), .in = unit_input(u), .want = want, .ranks = unit_ranks(u), .step = told, .ctx = u};
    if (st == ST_OK)
        st = round_unit(&t, w, &result, err);
    stream_fini(&made);
    free(others);
    return st;
}

static Status find_weights(AutoRoundQuant *q, UnitRun *u, const int16_t *level, QWeight *w, Error *err)
{
    bool got = false;
    RETURN_IF_ERROR(take_found(q, u, w, &got, err));
    uint64_t all = got; /* of several ranks: each sees the folder with its own eyes */
    RETURN_IF_ERROR(dist_common(unit_dist(u), &all, err));
    if (all)
        return ST_OK;
    if (got)
        drop_weights(w, u->n);
    RETURN_IF_ERROR(train(q, u, level, w, err));
    return keep_found(q, u, w, err);
}

static Status quantize_unit(AutoRoundQuant *q, UnitRun *u, Error *err)
{
    QWeight *w = mem_zarray((size_t)u->n, sizeof *w);
    int16_t *level = mem_zarray((size_t)u->n, sizeof *level);
    Status st = w && level ? ST_OK : error_nomem(err, "training a layer's rounding");
    for (int64_t i = 0; i < u->n && st == ST_OK; i++)
        level[i] = is_own(q, u->first + i) ? q->at[u->first + i] : 0;
    if (st == ST_OK)
        st = find_weights(q, u, level, w, err);
    for (int64_t i = 0; i < u->n && st == ST_OK; i++)
        if (level[i])
            layer_forms_put(u->forms, i, &w[i]);
    if (w)
        drop_weights(w, u->n);
    free(w);
    free(level);
    return st;
}

/* Calibrating is training: ours hands on what the quantized unit gives, the peer what the float one does. */
static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    AutoRoundQuant *q = self;
    if (stage == FORM_CALIBRATE) {
        if (has_own(q, u->unit))
            RETURN_IF_ERROR(quantize_unit(q, u, err));
        stage = q->peer ? FORM_FLOAT : FORM_FIXED;
    }
    for (int level = q->first; level <= q->last; level++)
        RETURN_IF_ERROR(layer_forms_stage(u->forms, level, stage, t, err));
    return ST_OK;
}

/* ---- what it takes ---- */

static uint64_t bytes(const void *self, const PassSize *size)
{
    const AutoRoundQuant *q = self;
    uint64_t most = 0;
    int16_t *level = mem_array((size_t)q->m->nlinears, sizeof *level);
    for (int64_t i = 0; level && i < q->m->nlinears; i++)
        level[i] = is_own(q, i) ? q->at[i] : 0;
    for (int u = 0; level && u < model_depth(q->m); u++) {
        uint64_t one = round_unit_bytes(q->m, u, level + q->m->units[u].first, q->levels, size);
        most = one > most ? one : most;
    }
    free(level);
    return most + (uint64_t)size->rows * ((uint64_t)q->m->cfg.stream_width * sizeof(float) + sizeof(int32_t));
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_FORWARD | PROCESSOR_TRAINS,
    .start = start,
    .end = end,
    .forward = forward,
    .stage = stage,
    .widens = widens,
    .bytes = bytes,
    .hash = hash,
};

const ProcessorType processor_autoround_quant = {
    .name = "autoround_quant",
    .object = &autoround_object,
    .levels = true,
    .entries = autoround_strategies,
    .settings = settings,
    .run = &run,
};
