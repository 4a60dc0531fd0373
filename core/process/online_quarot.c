#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/block.h"
#include "process/names.h"
#include "process/processor.h"
#include "save/changes.h"

/* online_quarot (specs/outlier_suppression.md 11.2): matrices that are applied while the model runs, each under a name of
 * its own. Of language models those with an indexer have such places: its queries (q_rot) and keys (k_rot), turned alike
 * behind norm and RoPE, so that they multiply to what they did while what is kept of them has no channel that is larger
 * than the others. Which keys are chosen stays the same. */

typedef struct Settings {
    NameLists names; /* patterns of the places */
    int64_t block;   /* -1: whole */
} Settings;

static const Field fields[] = {FIELD_TYPE, FIELD_PATTERNS_OR_NULL, FIELD_BLOCK_SIZE, FIELD_END};
static const Object object = {.fields = fields};

static const void *settings(Arena *a, const YamlNode *map)
{
    Settings *s = arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    *s = (Settings){.block = -1};
    if (yaml_get(map, "block_size"))
        lax_int(yaml_get(map, "block_size"), &s->block);
    return names_read(a, map, &s->names) ? s : NULL;
}

static void hash(const void *settings, Hasher *h)
{
    const Settings *s = settings;
    names_hash(&s->names, h);
    hasher_u64(h, (uint64_t)s->block);
}

/* ---- the places ---- */

typedef struct Place {
    int unit;
    int64_t linear; /* that gives what is turned */
    bool key;
    bool on;        /* the patterns take it */
    char name[320];
} Place;

typedef struct Online {
    const Model *m;
    const Settings *set;
    const Work *work;
    Place *place; /* [n] queries and keys in turn */
    int n;
    Rotation *r, *back; /* R, which files hold, and R', by which rows are multiplied */
} Online;

static const Block *indexer_of(const Unit *u)
{
    for (int i = 0; i < u->nblocks; i++)
        if (u->block[i].type == &block_mla && u->block[i].linear[MLA_INDEX_Q] >= 0)
            return &u->block[i];
    return NULL;
}

/* "model.layers.0.self_attn.indexer.wq_b" -> "model.layers.0.self_attn.indexer.q_rot" */
static void name_place(const Model *m, Place *p)
{
    const char *name = m->linears[p->linear].name, *dot = strrchr(name, '.');
    snprintf(p->name, sizeof p->name, "%.*s.%c_rot", dot ? (int)(dot - name) : 0, name, p->key ? 'k' : 'q');
}

static Status list_places(Online *o, Error *err)
{
    const Model *m = o->m;
    int units = model_depth(m);
    o->place = mem_zarray(2 * (size_t)units + 1, sizeof *o->place);
    if (!o->place)
        return error_nomem(err, "online_quarot");
    for (int u = 0; u < units; u++) {
        const Block *b = indexer_of(&m->units[u]);
        for (int key = 0; b && key < 2; key++) {
            Place *p = &o->place[o->n++];
            *p = (Place){.unit = u, .linear = b->linear[key ? MLA_INDEX_K : MLA_INDEX_Q], .key = key};
            name_place(m, p);
            RETURN_IF_ERROR(names_select(&o->set->names, p->name, &p->on, err));
        }
    }
    return o->n ? ST_OK
                : error_set(err, ST_DATA, "online_quarot has nothing to turn in %s: it is for the queries and keys of indexers "
                            "(DeepSeek V3.2, GLM 5); rotations of other models are quarot's", m->arch->title);
}

/* Ours: what is turned is turned on both sides, and no pattern is in vain. */
static Status check_sides(const Online *o, Error *err)
{
    bool any = false;
    for (int i = 0; i < o->n; i += 2) {
        const Place *q = &o->place[i], *k = q + 1;
        any = any || q->on;
        if (q->on != k->on)
            return error_set(err, ST_DATA, "online_quarot: the patterns take '%s' and not '%s': queries and keys that are not "
                             "turned alike choose other keys", q->on ? q->name : k->name, q->on ? k->name : q->name);
    }
    return any ? ST_OK
               : error_set(err, ST_DATA, "online_quarot selects nothing: its patterns take names such as '%s'",
                           o->place[0].name);
}

/* Ours tells of patterns that take nothing. */
static Status tell_unused(const Online *o, Error *err)
{
    const char **name = mem_array((size_t)o->n, sizeof *name);
    if (!name)
        return error_nomem(err, "online_quarot");
    for (int i = 0; i < o->n; i++)
        name[i] = o->place[i].name;
    Status st = names_tell_unused(&o->set->names, o->work, "online_quarot", "rotation", name, o->n, err);
    free(name);
    return st;
}

static Status make_rotation(Online *o, Error *err)
{
    int64_t dim = o->m->cfg.index.dim;
    Status st = rotation_hadamard(&o->r, dim, o->set->block, err);
    if (st != ST_OK)
        return error_prefix(err, st, "index_head_dim %lld: ", (long long)dim);
    return rotation_transpose(&o->back, o->r, err);
}

static Status start(void **self, const ProcessorCtx *ctx, Error *err)
{
    Online *o = mem_zarray(1, sizeof *o);
    if (!o)
        return error_nomem(err, "online_quarot");
    *self = o;
    *o = (Online){.m = ctx->model, .set = ctx->step->settings, .work = ctx->work};
    RETURN_IF_ERROR(list_places(o, err));
    RETURN_IF_ERROR(make_rotation(o, err));
    if (o->work->peer)
        return ST_OK;
    RETURN_IF_ERROR(check_sides(o, err));
    return tell_unused(o, err);
}

static void end(void *self)
{
    Online *o = self;
    rotation_free(o->r);
    rotation_free(o->back);
    free(o->place);
    free(o);
}

/* ---- the run ---- */

static Status begin(void *self, UnitRun *u, Error *err)
{
    const Online *o = self;
    for (int i = 0; i < o->n; i++)
        if (o->place[i].on)
            RETURN_IF_ERROR(overlay_rotate_scored(u->overlay, o->place[i].linear, o->back, err));
    return ST_OK;
}

/* ---- what is written ---- */

static Status promise(void *self, DType inner, SavePlan *plan, Error *err)
{
    const Online *o = self;
    int64_t n = rotation_size(o->r);
    (void)inner;
    for (int i = 0; i < o->n; i++) {
        const SaveMade made = {.name = o->place[i].name, .linear = -1, .layer = o->place[i].unit, .ndim = 2, .shape = {n, n}};
        if (o->place[i].on)
            RETURN_IF_ERROR(save_changes_made(plan->changes, &made, err));
    }
    return ST_OK;
}

static Status give(void *self, const UnitRun *u, const Gifts *to, Error *err)
{
    const Online *o = self;
    int64_t n = rotation_size(o->r);
    float *m = mem_array((size_t)(n * n), sizeof *m);
    Status st = m ? rotation_rows(o->r, m, err) : error_nomem(err, "a rotation");
    for (int i = 0; i < o->n && st == ST_OK; i++)
        if (o->place[i].on && o->place[i].unit == u->unit)
            st = to->tensor(to->self, &(SaveValues){.name = o->place[i].name, .n = n * n, .values = m}, err);
    free(m);
    return st;
}

static const Processor run = {
    .divides = true,
    .needs = PROCESSOR_TURN | PROCESSOR_AHEAD,
    .start = start,
    .end = end,
    .begin = begin,
    .give = give,
    .promise = promise,
    .hash = hash,
};

const ProcessorType processor_online_quarot = {
    .name = "online_quarot",
    .object = &object,
    .anywhere = true,
    .peer_divides = true,
    .settings = settings,
    .run = &run,
};
