#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "process/adaptfind.h"
#include "process/adaptwatch.h"
#include "process/rotating.h"

/* adapt_rotation (specs/outlier_suppression.md 12). Stage 1, in a prior stage of its own data: watches what the layers it
 * is told of read, and searches the rotation under which that is rounded best; it changes nothing. Stage 2 turns the model
 * as quarot does, by what stage 1 has found. */

/* ---- its keys ---- */

typedef struct AdaptSettings {
    int64_t stage;
    RotateSettings rotate; /* of stage 1: the block size of R0 alone */
    AdaptWatchSettings watch;
    int64_t steps;
    int bits;
} AdaptSettings;

static const char *const dtypes[] = {"int4", "int8", NULL};
static const Field fields[] = {
    FIELD_TYPE,
    {.key = "stage", .type = F_INT, .required = true, .bounded = true, .lo = 1, .hi = 2},
    {.key = "steps", .type = F_INT, .bounded = true, .lo = 1, .hi = 1000},
    {.key = "quant_dtype", .type = F_ENUM, .words = dtypes},
    {.key = "layer_type", .type = F_STRINGS, .longest = 128, .least = 1, .filled = true},
    FIELD_BLOCK_SIZE,
    {.key = "max_samples", .type = F_INT, .bounded = true, .lo = 1, .hi = 100000},
    {.key = "online", .type = F_BOOL},
    {.key = "down_proj_online_layers", .type = F_INTS, .bounded = true, .lo = 0, .hi = 1e9},
    FIELD_TP_SIZE(64),
    FIELD_END,
};

/* The fields of the other stage are refused. */
static void check(Check *c, const YamlNode *map)
{
    static const char *const stage1[] = {"steps", "quant_dtype", "layer_type", "max_samples", NULL};
    static const char *const stage2[] = {"online", "down_proj_online_layers", "max_tp_size", NULL};
    const YamlNode *stage = yaml_get(map, "stage");
    int64_t s;
    if (!stage || !lax_int(stage, &s) || (s != 1 && s != 2))
        return;
    for (const char *const *k = s == 1 ? stage2 : stage1; *k; k++)
        if (yaml_get(map, *k))
            check_fail(c, yaml_get(map, *k), "'%s' belongs to stage %d, this is stage %d", *k, s == 1 ? 2 : 1, (int)s);
}

static const Object object = {.fields = fields, .check = check};

static const void *settings(Arena *a, const YamlNode *map)
{
    static const char *const usual[] = {"up_proj", NULL};
    AdaptSettings *s = arena_alloc(a, sizeof *s);
    const YamlNode *v;
    if (!s)
        return NULL;
    *s = (AdaptSettings){.steps = 20, .bits = 4, .watch = {.parts = usual, .nparts = 1, .most = 2048}};
    lax_int(yaml_get(map, "stage"), &s->stage);
    if ((v = yaml_get(map, "steps")) != NULL)
        lax_int(v, &s->steps);
    if ((v = yaml_get(map, "max_samples")) != NULL)
        lax_int(v, &s->watch.most);
    if (node_is(yaml_get(map, "quant_dtype"), "int8"))
        s->bits = 8;
    if ((v = yaml_get(map, "layer_type")) != NULL && !(s->watch.parts = texts_read(a, v, &s->watch.nparts)))
        return NULL;
    return rotate_settings(a, map, &s->rotate) ? s : NULL;
}

/* ---- both stages ---- */

typedef struct Adapt {
    const Model *m;
    const AdaptSettings *set;
    bool peer;
    Rotating turn;     /* stage 2 */
    Rotation *start;   /* stage 1: R0 */
    AdaptWatch *watch;
} Adapt;

static void end(void *self)
{
    Adapt *a = self;
    rotating_end(&a->turn);
    rotation_free(a->start);
    adapt_watch_free(a->watch);
    free(a);
}

/* Whether stage 1 stands in a prior stage of the recipe. */
static bool has_stage1(const Recipe *r)
{
    for (int i = 0; i + 1 < recipe_stages(r); i++)
        for (int u = 0; u < recipe_stage(r, i)->nunits; u++)
            for (int k = 0; k < recipe_stage(r, i)->units[u].nsteps; k++) {
                const RecipeStep *s = &recipe_stage(r, i)->units[u].steps[k];
                if (s->processor == &processor_adapt_rotation && ((const AdaptSettings *)s->settings)->stage == 1)
                    return true;
            }
    return false;
}

static Status start1(Adapt *a, const ProcessorCtx *ctx, Error *err)
{
    if (!ctx->prior)
        return error_set(err, ST_DATA, "line %d: stage 1 of adapt_rotation stands in a stage of spec.prior, which has texts of "
                         "its own", ctx->step->line);
    RETURN_IF_ERROR(rotmap_check(a->m, a->peer, err));
    Status st = rotation_hadamard(&a->start, a->m->cfg.hidden, a->set->rotate.block, err);
    if (st != ST_OK)
        return error_prefix(err, st, "hidden_size %lld: ", (long long)a->m->cfg.hidden);
    return adapt_watch_new(&a->watch, a->m, &a->set->watch, a->peer, err);
}

static Status start2(Adapt *a, const ProcessorCtx *ctx, Error *err)
{
    if (ctx->prior)
        return error_set(err, ST_DATA, "line %d: stage 2 of adapt_rotation stands in spec.process: a prior stage changes "
                         "nothing", ctx->step->line);
    bool found = has_stage1(ctx->work->recipe);
    if (!found && !a->peer) /* which then turns by Hadamard's matrix, as quarot */
        return error_set(err, ST_DATA, "line %d: adapt_rotation has no matrix to turn by: put its stage 1 into spec.prior, or "
                         "use quarot", ctx->step->line);
    return rotating_start(&a->turn, ctx, &a->set->rotate, found, err);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    Adapt *a = mem_zarray(1, sizeof *a);
    if (!a)
        return error_nomem(err, "adapt_rotation");
    *self = a;
    *a = (Adapt){.m = ctx->model, .set = ctx->step->settings, .peer = ctx->work->peer};
    const TurnSpec *spec = rotmap_spec(a->m);
    if (a->peer && !(spec && spec->adapt))
        return error_set(err, ST_DATA, "line %d: the original has no adapt_rotation for %s: leave --compat peer out",
                         ctx->step->line, a->m->arch->title);
    return a->set->stage == 1 ? start1(a, ctx, err) : start2(a, ctx, err);
}

static bool forward(const void *self, int unit)
{
    const Adapt *a = self;
    return a->watch && (unit < 0 || adapt_watch_wants(a->watch, unit));
}

static Status stage(void *self, UnitRun *u, FormStage stage, const FormTypes *t, Error *err)
{
    Adapt *a = self;
    (void)t;
    if (stage != FORM_CALIBRATE || !forward(a, u->unit))
        return ST_OK;
    RETURN_IF_ERROR(adapt_watch_unit(a->watch, u->unit, u->texts->start[u->texts->samples], err));
    return unit_observe(u, adapt_watch_observer(a->watch), err);
}

static Status begin(void *self, UnitRun *u, Error *err)
{
    Adapt *a = self;
    return a->watch ? ST_OK : rotating_begin(&a->turn, u, *u->kept, err);
}

static Status learn(void *self, UnitRun *u, Error *err)
{
    Adapt *a = self;
    if (!a->watch)
        return rotating_learn(&a->turn, u, err);
    return adapt_watch_take(a->watch, u, err);
}

static void told(void *ctx, int64_t done, int64_t of)
{
    unit_search(ctx, done, of);
}

/* All layers have been watched. */
static Status finish(void *self, UnitRun *u, Error *err)
{
    Adapt *a = self;
    int64_t rows, n = a->m->cfg.hidden;
    float *acts = adapt_watch_rows(a->watch, &rows);
    if (rows == 0)
        return error_set(err, ST_DATA, "adapt_rotation: no token reached a layer of layer_type");
    float *h = mem_array((size_t)(n * n), sizeof *h);
    if (!h)
        return error_nomem(err, "a rotation");
    const AdaptTask t = {.acts = acts, .rows = rows, .n = n, .start = a->start, .bits = a->set->bits,
                         .steps = (int)a->set->steps, .peer = a->peer, .pool = runner_pool(u->runner),
                         .cancel = runner_cancel(u->runner), .told = told, .ctx = u};
    Status st = adapt_find(&t, h, err);
    if (st != ST_OK) {
        free(h);
        return st;
    }
    rotation_free(*u->kept);
    *u->kept = NULL;
    return rotation_dense(u->kept, h, n, err);
}

static Status promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    const Adapt *a = self;
    (void)inner;
    return a->watch ? ST_OK : rotating_promise(&a->turn, false, plan, err);
}

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    const Adapt *a = self;
    return a->watch ? ST_OK : rotating_give(&a->turn, false, u, to, err);
}

static uint64_t bytes(const void *self, const PassSize *size)
{
    const Adapt *a = self;
    if (!a->watch)
        return 0;
    int64_t rows = adapt_watch_most(a->watch, size->rows), n = a->m->cfg.hidden;
    return 2 * (uint64_t)rows * (uint64_t)n * sizeof(float) + adapt_bytes(rows, n, size->threads);
}

static void hash(const void *settings, Hasher *h)
{
    const AdaptSettings *s = settings;
    hasher_u64(h, (uint64_t)s->stage);
    rotate_hash(&s->rotate, h);
    hasher_u64(h, (uint64_t)s->steps << 8 | (uint64_t)s->bits);
    hasher_u64(h, (uint64_t)s->watch.most);
    for (int i = 0; i < s->watch.nparts; i++)
        hasher_str(h, s->watch.parts[i]);
}

static const Processor run = {
    .divides = true, /* stage 1: of its stage every rank has all texts */
    .needs = PROCESSOR_TURN | PROCESSOR_FORWARD | PROCESSOR_OUTPUTS | PROCESSOR_INPUTS,
    .start = start,
    .end = end,
    .begin = begin,
    .finish = finish,
    .forward = forward,
    .stage = stage,
    .learn = learn,
    .give = give,
    .promise = promise,
    .bytes = bytes,
    .hash = hash,
};

const ProcessorType processor_adapt_rotation = {
    .name = "adapt_rotation",
    .object = &object,
    .first = true,
    .peer_divides = true,
    .prior = true,
    .settings = settings,
    .changes = true,
    .run = &run,
};
