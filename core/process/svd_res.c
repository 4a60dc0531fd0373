#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/num.h"
#include "math/gemm.h"
#include "math/svd.h"
#include "model/weight.h"
#include "process/names.h"
#include "process/processor.h"

/* svd_res: of each linear it selects a part of low rank runs beside the weight in float, and the weight is what is left
 * (specs/outlier_suppression.md 15). Ours: the best part of that rank, what is left by its rounded factors, and the branch is there
 * from then on. The peer's: a random sketch, what is left by the factors before they are rounded, and no branch before the linears are
 * deployed. */

/* ---- its keys ---- */

enum { RANK = 32, SEED = 42, SIDE = 8 };

typedef struct SvdSettings {
    int64_t rank;
    bool none;         /* an include without items: it selects nothing */
    NameLists linears;
} SvdSettings;

static const Field fields[] = {
    FIELD_TYPE,
    {.key = "rank", .type = F_INT, .bounded = true, .lo = 1, .hi = 1e9, .absent = "32"},
    {.key = "include", .type = F_PATTERNS, .absent = "[\"*\"]"},
    {.key = "exclude", .type = F_PATTERNS, .absent = "[]"},
    FIELD_END,
};

static const void *settings(Arena *a, const YamlNode *map)
{
    SvdSettings *k = arena_alloc(a, sizeof *k);
    const YamlNode *rank = yaml_get(map, "rank"), *include = yaml_get(map, "include");
    if (!k)
        return NULL;
    *k = (SvdSettings){.rank = RANK, .none = include && include->kind == YAML_SEQ && include->count == 0};
    if (rank)
        lax_int(rank, &k->rank);
    return names_read(a, map, &k->linears) ? k : NULL;
}

static const Object object = {.fields = fields};

/* ---- which linears ---- */

typedef struct SvdRes {
    const Model *m;
    const Work *work;
    const SvdSettings *set;
    bool *on; /* [nlinears] */
} SvdRes;

/* As it is asked for: linears that others took away are none of them. */
static int64_t next_of(const SvdRes *s, const UnitRun *u, int64_t i)
{
    while (i < u->first + u->n && (!s->on[i] || overlay_branch(u->overlay, i)))
        i++;
    return i;
}

static Status tell_unused(const SvdRes *s, Error *err)
{
    const Model *m = s->m;
    const char **name = mem_array((size_t)m->nlinears + 1, sizeof *name);
    if (!name)
        return error_nomem(err, "names of linears");
    for (int64_t i = 0; i < m->nlinears; i++)
        name[i] = m->linears[i].name;
    Status st = names_tell_unused(&s->set->linears, s->work, "svd_res", "linear", name, (int)m->nlinears, err);
    free(name);
    return st;
}

/* A branch beside a float weight is work alone. */
static void tell_floats(const SvdRes *s)
{
    int64_t floats = 0, quantized = 0;
    char text[160];
    for (int64_t i = 0; i < s->m->nlinears; i++) {
        floats += s->on[i] && !s->work->level[i];
        quantized += s->work->level[i] > 0;
    }
    snprintf(text, sizeof text, "svd_res: %lld of its linears stay float, where a branch saves nothing: leave them out",
             (long long)floats);
    if (floats && quantized && s->work->tell)
        s->work->tell(s->work->tell_ctx, text);
}

static Status select_linears(SvdRes *s, Error *err)
{
    for (int64_t i = 0; i < s->m->nlinears; i++) {
        const Linear *l = &s->m->linears[i];
        if (!s->set->none)
            RETURN_IF_ERROR(names_select(&s->set->linears, l->name, &s->on[i], err));
        if (s->on[i] && s->set->rank > min_i64(l->out, l->in))
            return error_set(err, ST_DATA, "svd_res: '%s' is %lld x %lld, no part of it has rank %lld: lower the rank, or leave it out",
                             l->name, (long long)l->out, (long long)l->in, (long long)s->set->rank);
    }
    tell_floats(s);
    return tell_unused(s, err);
}

static void end(void *self)
{
    SvdRes *s = self;
    free(s->on);
    free(s);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    SvdRes *s = mem_zarray(1, sizeof *s);
    if (!s)
        return error_nomem(err, "svd_res");
    *self = s;
    *s = (SvdRes){.m = ctx->model, .work = ctx->work, .set = ctx->step->settings,
                  .on = mem_zarray((size_t)ctx->model->nlinears + 1, sizeof *s->on)};
    return s->on ? select_linears(s, err) : error_nomem(err, "svd_res");
}

/* ---- the parts ---- */

typedef struct Part {
    int64_t linear;
    float *w, *l1, *l2;
    Status status;
    Error err;
} Part;

typedef struct Parts {
    const SvdRes *s;
    Twister *peer; /* of the unit; NULL: ours */
    Part part[SIDE];
    int n;
} Parts;

static void part_task(void *ctx, int64_t index, int worker)
{
    (void)worker;
    Parts *p = ctx;
    Part *a = &p->part[index];
    const Linear *l = &p->s->m->linears[a->linear];
    a->status = p->peer ? svd_sketch(a->w, l->out, l->in, p->s->set->rank, p->peer, a->l1, a->l2, &a->err)
                        : svd_best(a->w, l->out, l->in, p->s->set->rank, a->l1, a->l2, &a->err);
}

static Status begin_part(Parts *p, UnitRun *u, int64_t linear, Error *err)
{
    const Linear *l = &u->model->linears[linear];
    Part *a = &p->part[p->n++];
    size_t rank = (size_t)p->s->set->rank;
    *a = (Part){.linear = linear, .w = mem_aligned((size_t)(l->out * l->in), sizeof *a->w),
                .l1 = mem_array(rank * (size_t)l->in, sizeof *a->l1), .l2 = mem_array((size_t)l->out * rank, sizeof *a->l2)};
    if (!a->w || !a->l1 || !a->l2)
        return error_nomem(err, l->name);
    RETURN_IF_ERROR(runner_weight(u->runner, linear, -1, a->w, err));
    for (int64_t i = 0; i < l->out * l->in; i++)
        if (!isfinite(a->w[i]))
            return error_set(err, ST_DATA, "'%s': its weight holds %s at [%lld,%lld]: 'slimscope check' looks through the whole model",
                             l->name, isnan(a->w[i]) ? "NaN" : "Inf", (long long)(i / l->in), (long long)(i % l->in));
    return ST_OK;
}

static Status copy_of(const float *v, int64_t n, float **out, Error *err)
{
    *out = mem_array((size_t)n, sizeof **out);
    if (!*out)
        return error_nomem(err, "svd_res");
    memcpy(*out, v, (size_t)n * sizeof *v);
    return ST_OK;
}

/* What the weight loses by the peer's rule: the product of the factors before they were rounded. Ours: *lost is NULL. */
static Status lost_of(const Parts *p, const Part *a, const Linear *l, LowRank **lost, Error *err)
{
    int64_t rank = p->s->set->rank;
    float *l1 = NULL, *l2 = NULL;
    *lost = NULL;
    if (!p->peer)
        return ST_OK;
    Status st = copy_of(a->l1, rank * l->in, &l1, err);
    if (st == ST_OK)
        st = copy_of(a->l2, l->out * rank, &l2, err);
    if (st == ST_OK)
        return lowrank_new(lost, l->out, l->in, rank, l1, l2, DT_F32, err);
    free(l1);
    free(l2);
    return st;
}

/* The model has it from here on. */
static Status end_part(const Parts *p, Part *a, UnitRun *u, Error *err)
{
    const Linear *l = &u->model->linears[a->linear];
    LowRank *kept = NULL, *lost = NULL;
    if (a->status != ST_OK) {
        *err = a->err;
        return error_prefix(err, a->status, "'%s': ", l->name);
    }
    RETURN_IF_ERROR(lost_of(p, a, l, &lost, err));
    Status st = lowrank_new(&kept, l->out, l->in, p->s->set->rank, a->l1, a->l2, weight_dtype(l), err);
    a->l1 = a->l2 = NULL; /* taken */
    if (st == ST_OK)
        st = overlay_low_rank(u->overlay, a->linear, lost ? lost : kept, kept, err);
    lowrank_free(kept);
    lowrank_free(lost);
    return st;
}

static void run_parts(Parts *p, UnitRun *u)
{
    if (!p->peer)
        pool_run(runner_pool(u->runner), PHASE_QUANT_WEIGHT, p->n, part_task, p, runner_cancel(u->runner));
    for (int i = 0; p->peer && i < p->n; i++)
        part_task(p, i, 0);
}

static int side_of(int threads)
{
    return threads < SIDE ? threads : SIDE;
}

static Status some_parts(Parts *p, UnitRun *u, int64_t *at, Error *err)
{
    Status st = ST_OK;
    int most = side_of(pool_threads(runner_pool(u->runner)));
    for (p->n = 0; st == ST_OK && p->n < most && *at < u->first + u->n; *at = next_of(p->s, u, *at + 1))
        st = begin_part(p, u, *at, err);
    if (st == ST_OK)
        run_parts(p, u);
    if (st == ST_OK)
        st = cancel_check(runner_cancel(u->runner), err);
    for (int i = 0; i < p->n; i++) {
        if (st == ST_OK)
            st = end_part(p, &p->part[i], u, err);
        free(p->part[i].w);
        free(p->part[i].l1);
        free(p->part[i].l2);
    }
    return st;
}

static Status learn(void *self, UnitRun *u, Error *err)
{
    const SvdRes *s = self;
    Twister *peer = u->work->peer ? mem_array(1, sizeof *peer) : NULL;
    Parts *p = mem_zarray(1, sizeof *p);
    Status st = p && (peer || !u->work->peer) ? gemm_callers(pool_threads(runner_pool(u->runner)), err) : error_nomem(err, "svd_res");
    if (st == ST_OK) {
        *p = (Parts){.s = s, .peer = peer};
        if (peer)
            twister_seed(peer, SEED);
    }
    for (int64_t at = next_of(s, u, u->first); st == ST_OK && at < u->first + u->n;)
        st = some_parts(p, u, &at, err);
    free(peer);
    free(p);
    return st;
}

/* ---- what is written ---- */

static const char *const suffix[] = {".svd_lowrank_l1", ".svd_lowrank_l2"};

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    const SvdRes *s = self;
    char name[600];
    for (int64_t i = u->first; i < u->first + u->n; i++) {
        const LowRank *b = s->on[i] ? overlay_branch(u->overlay, i) : NULL;
        for (int k = 0; b && k < 2; k++) {
            snprintf(name, sizeof name, "%.500s%s", s->m->linears[i].name, suffix[k]);
            RETURN_IF_ERROR(to->tensor(to->self, &(SaveValues){.name = name, .n = b->rank * (k ? b->out : b->in),
                                                               .values = k ? b->l2 : b->l1}, err));
        }
    }
    return ST_OK;
}

static Status promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    const SvdRes *s = self;
    (void)inner;
    char name[600];
    for (int64_t i = 0; i < s->m->nlinears; i++) {
        const Linear *l = &s->m->linears[i];
        if (!s->on[i] || save_changes_has_branch(plan->changes, i))
            continue;
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%.500s%s", l->name, suffix[k]);
            const SaveMade t = {.name = name, .linear = i, .layer = l->layer, .ndim = 2, .branch = true, .dtype = weight_dtype(l),
                                .shape = {k ? l->out : s->set->rank, k ? s->set->rank : l->in}};
            RETURN_IF_ERROR(save_changes_made(plan->changes, &t, err));
        }
        RETURN_IF_ERROR(save_changes_branch(plan->changes, i, err));
    }
    return ST_OK;
}

/* Branches of the whole model, in the peer's way twice, and the linears that are worked on at a time. */
static uint64_t bytes(const void *self, const PassSize *size)
{
    const SvdRes *s = self;
    uint64_t kept = 0, most = 0, rank = (uint64_t)s->set->rank;
    for (int64_t i = 0; i < s->m->nlinears; i++) {
        const Linear *l = &s->m->linears[i];
        if (!s->on[i])
            continue;
        uint64_t factors = rank * (uint64_t)(l->out + l->in) * sizeof(float);
        kept += factors * (s->work->peer ? 2 : 1);
        most = max_u64(most, (uint64_t)(l->out * l->in) * sizeof(float) + factors + svd_bytes(l->out, l->in, s->set->rank));
    }
    return kept + most * (uint64_t)side_of(size->threads);
}

static void hash(const void *settings, Hasher *h)
{
    const SvdSettings *k = settings;
    hasher_u64(h, (uint64_t)k->rank);
    hasher_u64(h, k->none);
    names_hash(&k->linears, h);
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_TURN | PROCESSOR_BRANCHES,
    .start = start,
    .end = end,
    .learn = learn,
    .give = give,
    .promise = promise,
    .bytes = bytes,
    .hash = hash,
};

const ProcessorType processor_svd_res = {
    .name = "svd_res",
    .object = &object,
    .settings = settings,
    .changes = true,
    .run = &run,
};
