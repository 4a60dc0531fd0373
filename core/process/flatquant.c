#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "model/block.h"
#include "process/flattrain.h"
#include "process/names.h"
#include "process/pipeline.h"
#include "run/gradient.h"
#include "save/changes.h"

/* flatquant (specs/outlier_suppression.md 14): what linears read and their weights are transformed by matrices that are
 * trained, layer by layer, so that both can be held in 4 bits; half of each transform goes into the weight, half is done at run
 * time. */

/* ---- its keys ---- */

typedef struct Settings {
    NameLists names; /* patterns of linears */
    int64_t seed, epochs;
} Settings;

static const Field fields[] = {
    FIELD_TYPE,
    FIELD_PATTERNS,
    {.key = "seed", .type = F_INT, .bounded = true, .lo = 0, .hi = 4294967295.0, .ours = true},
    {.key = "epochs", .type = F_INT, .bounded = true, .lo = 0, .hi = 1000, .ours = true},
    FIELD_END,
};
static const Object object = {.fields = fields};

static const void *settings(Arena *a, const YamlNode *map)
{
    Settings *s = arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    *s = (Settings){.epochs = 10};
    if (yaml_get(map, "seed"))
        lax_int(yaml_get(map, "seed"), &s->seed);
    if (yaml_get(map, "epochs"))
        lax_int(yaml_get(map, "epochs"), &s->epochs);
    return names_read(a, map, &s->names) ? s : NULL;
}

static void hash(const void *settings, Hasher *h)
{
    const Settings *s = settings;
    names_hash(&s->names, h);
    hasher_u64(h, (uint64_t)s->seed);
    hasher_u64(h, (uint64_t)s->epochs);
}

/* ---- where ---- */

typedef struct Flat {
    const Model *m;
    const Settings *set;
    const Work *work;
    int units;
    FlatPlace *place;  /* [units] */
    Stream in;         /* the peer's: what the unit read, kept behind its pass */
    FlatFound found;   /* of the present unit */
    bool told_few;
} Flat;

static void tell(const Flat *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(const Flat *f, const char *fmt, ...)
{
    char text[512];
    va_list args;
    if (!f->work->tell)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    f->work->tell(f->work->tell_ctx, text);
}

static bool any_on(const FlatPlace *p)
{
    bool any = false;
    for (int k = 0; k < FLAT_PAIRS; k++)
        any = any || p->on[k];
    return any;
}

/* A linear that stays float is left alone, so that no transform stands in front of it for nothing. */
static bool is_taken(const Flat *f, int64_t linear)
{
    const Work *w = f->work;
    return w->peer || w->lenient || w->changes || w->level[linear] > 0;
}

/* Linears that the patterns take, though another one of their pair is left out. */
static void tell_rolled_back(const Flat *f, const FlatPlace *was, const FlatPlace *is, const bool taken[FLAT_SLOTS])
{
    for (int s = 0; s < FLAT_SLOTS; s++) {
        int pair = flat_pair_of(s);
        if (taken[s] && was->on[pair] && !is->on[pair]) {
            tell(f, "flatquant leaves '%s' as it is: what reads the same, or gives it its input, is excluded or stays float",
                 f->m->linears[was->linear[s]].name);
            return;
        }
    }
}

static Status select_unit(Flat *f, int unit, bool *told, Error *err)
{
    FlatPlace *p = &f->place[unit];
    bool taken[FLAT_SLOTS] = {false};
    RETURN_IF_ERROR(flat_place(f->m, unit, f->work->peer, p, err));
    if (!any_on(p))
        return error_set(err, ST_DATA, "flatquant can't transform %s: layer %d has neither q, k, v and o nor gate, up and down of "
                         "its own behind a norm", f->m->arch->title, unit);
    const FlatPlace was = *p;
    for (int s = 0; s < FLAT_SLOTS; s++)
        if (p->linear[s] >= 0) {
            RETURN_IF_ERROR(names_select(&f->set->names, f->m->linears[p->linear[s]].name, &taken[s], err));
            taken[s] = taken[s] && is_taken(f, p->linear[s]);
        }
    flat_roll_back(p, taken);
    if (!*told) {
        tell_rolled_back(f, &was, p, taken);
        *told = memcmp(was.on, p->on, sizeof was.on) != 0;
    }
    Status st = any_on(p) ? unit_has_gradients(f->m, unit, err) : ST_OK;
    return st == ST_USAGE ? error_prefix(err, ST_DATA, "flatquant can't train %s: ", f->m->arch->title) : st;
}

/* Patterns that take none of what it could transform. */
static Status tell_unused(const Flat *f, Error *err)
{
    const char **name = mem_array((size_t)f->units * FLAT_SLOTS, sizeof *name);
    int n = 0;
    if (!name)
        return error_nomem(err, "flatquant");
    for (int u = 0; u < f->units; u++)
        for (int s = 0; s < FLAT_SLOTS; s++)
            if (f->place[u].linear[s] >= 0)
                name[n++] = f->m->linears[f->place[u].linear[s]].name;
    Status st = names_tell_unused(&f->set->names, f->work, "flatquant", "linear that can be transformed", name, n, err);
    free(name);
    return st;
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    Flat *f = mem_zarray(1, sizeof *f);
    bool told = false, any = false;
    if (!f)
        return error_nomem(err, "flatquant");
    *self = f;
    *f = (Flat){.m = ctx->model, .set = ctx->step->settings, .work = ctx->work, .units = ctx->model->cfg.layers};
    if (f->work->peer && strcmp(f->m->arch->model_type, "qwen3") != 0)
        return error_set(err, ST_DATA, "line %d: the original has no flatquant for %s, only for Qwen3: leave --compat peer out",
                         ctx->step->line, f->m->arch->title);
    if (!(f->place = mem_zarray((size_t)f->units + 1, sizeof *f->place)))
        return error_nomem(err, "flatquant");
    for (int u = 0; u < f->units; u++) {
        RETURN_IF_ERROR(select_unit(f, u, &told, err));
        any = any || any_on(&f->place[u]);
    }
    if (!any)
        return error_set(err, ST_DATA, "line %d: flatquant selects nothing: a pair of linears is transformed when all that read the "
                         "same input, such as '%s' and its neighbours, are taken and quantized", ctx->step->line,
                         f->m->linears[0].name);
    return tell_unused(f, err);
}

static void end(void *self)
{
    Flat *f = self;
    stream_fini(&f->in);
    flat_found_fini(&f->found);
    free(f->place);
    free(f);
}

/* ---- the run ---- */

static bool forward(const void *self, int unit)
{
    const Flat *f = self;
    return unit < 0 || (unit < f->units && any_on(&f->place[unit]));
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    Flat *f = self;
    (void)t;
    if (stage != FORM_CALIBRATE || !forward(f, u->unit))
        return ST_OK;
    stream_fini(&f->in);
    return f->work->peer ? stream_copy(&f->in, unit_input(u), err) : ST_OK; /* whose pass may leave its output there */
}

typedef struct Telling {
    const UnitRun *u;
    double first;
} Telling;

static void told(void *ctx, int64_t step, int64_t steps, double loss)
{
    Telling *t = ctx;
    t->first = step == 1 ? loss : t->first;
    unit_trained(t->u, step, steps, t->first > 0 ? loss / t->first : 1);
}

static void tell_few(Flat *f, int samples)
{
    if (samples >= FLAT_BATCH || f->told_few)
        return;
    f->told_few = true;
    tell(f, f->work->peer ? "flatquant: %d samples are fewer than a batch of %d: as in the original nothing is trained"
                          : "flatquant: %d samples are fewer than a batch of %d: they are trained as one batch",
         samples, FLAT_BATCH);
}

static Status train(Flat *f, UnitRun *u, const Stream *in, Error *err)
{
    FlatLoss loss;
    Telling t = {.u = u};
    const FlatTask task = {.r = u->runner, .place = &f->place[u->unit], .in = in, .target = unit_output(u),
                           .epochs = (int)f->set->epochs, .peer = f->work->peer, .seed = (uint64_t)f->set->seed, .told = told,
                           .ctx = &t};
    tell_few(f, in->samples);
    return flat_train(&task, &f->found, &loss, err);
}

/* ---- what a run that goes on takes over ---- */

/* Of what was found, which is told apart from what other processors keep. */
static Digest digest_found(const void *data, size_t n)
{
    Hasher h;
    hasher_init(&h);
    hasher_str(&h, "flatquant");
    hasher_bytes(&h, data, n);
    return hasher_end(&h);
}

static size_t found_bytes(const Flat *f)
{
    return (size_t)f->found.n * sizeof(float) + sizeof f->found.limit;
}

static Status keep_found(const Flat *f, UnitRun *u, Error *err)
{
    size_t n = found_bytes(f), all = (size_t)f->found.n * sizeof(float);
    if (!unit_keeps(u))
        return ST_OK;
    unsigned char *data = mem_array(n + sizeof(Digest), 1);
    if (!data)
        return error_nomem(err, "what training found");
    memcpy(data, f->found.all, all);
    memcpy(data + all, f->found.limit, sizeof f->found.limit);
    const Digest d = digest_found(data, n);
    memcpy(data + n, d.b, sizeof d.b);
    Status st = unit_keep_found(u, data, n + sizeof d.b, err);
    free(data);
    return st;
}

/* *got: what an earlier run found for this unit is here, whole. */
static Status take_found(Flat *f, UnitRun *u, bool *got, Error *err)
{
    void *data;
    size_t n;
    *got = false;
    RETURN_IF_ERROR(unit_found(u, &data, &n, err));
    Status st = data ? flat_found_init(&f->found, f->m, &f->place[u->unit], err) : ST_OK;
    size_t want = found_bytes(f), all = (size_t)f->found.n * sizeof(float);
    if (data && st == ST_OK && n == want + sizeof(Digest)) {
        const Digest d = digest_found(data, want);
        *got = memcmp(d.b, (const unsigned char *)data + want, sizeof d.b) == 0;
    }
    if (*got) {
        memcpy(f->found.all, data, all);
        memcpy(f->found.limit, (const unsigned char *)data + all, sizeof f->found.limit);
    } else {
        flat_found_fini(&f->found);
    }
    free(data);
    return st;
}

static Status learn(void *self, UnitRun *u, Error *err)
{
    Flat *f = self;
    flat_found_fini(&f->found);
    if (!forward(f, u->unit))
        return ST_OK;
    bool got;
    RETURN_IF_ERROR(take_found(f, u, &got, err));
    if (!got) {
        RETURN_IF_ERROR(train(f, u, f->work->peer ? &f->in : unit_input(u), err));
        RETURN_IF_ERROR(keep_found(f, u, err));
    }
    stream_fini(&f->in);
    DType round = f->work->peer ? arith_dtype(runner_arith(u->runner), f->m->cfg.dtype) : DT_F32;
    return flat_fold(f->m, &f->place[u->unit], &f->found, u->overlay, round, err);
}

/* ---- what is written ---- */

static Status promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    const Flat *f = self;
    (void)inner;
    save_changes_values(plan->changes);
    for (int u = 0; u < f->units; u++)
        RETURN_IF_ERROR(flat_promise(f->m, &f->place[u], plan->changes, err));
    return ST_OK;
}

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    const Flat *f = self;
    return forward(f, u->unit) ? flat_give(f->m, &f->place[u->unit], &f->found, to, err) : ST_OK;
}

static uint64_t bytes(const void *self, const PassSize *size)
{
    const Flat *f = self;
    uint64_t most = 0, input = f->work->peer ? (uint64_t)size->rows * (uint64_t)f->m->cfg.stream_width * sizeof(float) : 0;
    for (int u = 0; u < f->units; u++)
        if (any_on(&f->place[u]))
            most = max_u64(most, flat_train_bytes(f->m, &f->place[u], size->samples, size->longest, size->threads));
    return most + input;
}

static const Processor run = {
    .needs = PROCESSOR_TURN | PROCESSOR_FORWARD | PROCESSOR_OUTPUTS | PROCESSOR_INPUTS,
    .start = start,
    .end = end,
    .forward = forward,
    .stage = stage,
    .learn = learn,
    .give = give,
    .promise = promise,
    .bytes = bytes,
    .hash = hash,
};

const ProcessorType processor_flatquant = {
    .name = "flatquant",
    .object = &object,
    .settings = settings,
    .changes = true,
    .run = &run,
};
