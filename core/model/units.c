#include "model/open.h"

#include <stdio.h>
#include <string.h>

/* The units of a model: the blocks its family's row lists, taken from the checkpoint. */

const char *block_module(const BlockSpec *s)
{
    return s->module ? s->module : s->type->module;
}

int block_linears(const BlockType *t)
{
    int n = 0;
    while (t->linears && t->linears[n])
        n++;
    return n;
}

int block_smalls(const BlockType *t)
{
    int n = 0;
    while (t->smalls && t->smalls[n].name)
        n++;
    return n;
}

/* Whether every inference engine keeps a linear of this name in such a block in float. */
static bool block_keeps(const BlockType *t, const char *name)
{
    size_t len = strlen(name), n;
    for (int i = 0; t->kept && t->kept[i]; i++)
        if ((n = strlen(t->kept[i])) < len && name[len - n - 1] == '.' && strcmp(name + len - n, t->kept[i]) == 0)
            return true;
    return false;
}

/* The linear in the slot of this name, -1 when the kind has no such slot or the block leaves it empty. */
static int32_t block_linear(const Block *b, const char *slot)
{
    for (int k = 0; k < block_linears(b->type); k++)
        if (strcmp(b->type->linears[k], slot) == 0)
            return b->linear[k];
    return -1;
}

int32_t unit_linear(const Unit *u, const char *slot)
{
    int32_t at = -1;
    for (int i = 0; i < u->nblocks && at < 0; i++)
        at = block_linear(&u->block[i], slot);
    return at;
}

const Block *unit_block(const Unit *u, BlockRole role, int nth)
{
    for (int i = 0; i < u->nblocks; i++)
        if (u->block[i].type->role == role && u->block[i].nth == nth)
            return &u->block[i];
    return NULL;
}

void unit_attention_name(const Model *m, int unit, int nth, char *buf, size_t size)
{
    const Block *b = unit_block(&m->units[unit], ROLE_ATTENTION, nth);
    int32_t any = b ? block_linear(b, "kv_b") : -1;
    any = b && any < 0 ? block_linear(b, "q") : any;
    buf[0] = '\0';
    if (any < 0)
        return;
    const char *name = m->linears[any].name, *dot = strrchr(name, '.');
    if (dot)
        snprintf(buf, size, "%.*s", (int)(dot - name), name);
}

int32_t unit_experts(const Unit *u)
{
    for (int i = 0; i < u->nblocks; i++)
        if (u->block[i].type == &block_moe)
            return ((const MoeConf *)u->block[i].conf)->expert;
    return -1;
}

static const TensorInfo *small_of(const Block *b, const char *slot)
{
    for (int k = 0; k < block_smalls(b->type); k++)
        if (b->small[k] && strcmp(b->type->smalls[k].name, slot) == 0)
            return b->small[k];
    return b->join ? small_of(b->join, slot) : NULL;
}

const TensorInfo *unit_small(const Unit *u, const char *slot)
{
    const TensorInfo *t = NULL;
    for (int i = 0; i < u->nblocks && !t; i++)
        t = small_of(&u->block[i], slot);
    return t;
}

bool unit_has_experts(const ModelConfig *cfg, int unit)
{
    return cfg->moe.layer[unit];
}

bool unit_has_no_experts(const ModelConfig *cfg, int unit)
{
    return !cfg->moe.layer[unit];
}

bool unit_is_delta(const ModelConfig *cfg, int unit)
{
    return cfg->delta.layer[unit];
}

bool unit_is_not_delta(const ModelConfig *cfg, int unit)
{
    return !cfg->delta.layer[unit];
}

const BlockSpec *arch_block(const Arch *a, const BlockType *t)
{
    for (const BlockSpec *s = a->blocks; s->type; s++)
        if (s->type == t)
            return s;
    return NULL;
}

/* ---- one unit ---- */

/* A block without anything in its slots. */
static Status empty_block(Open *o, const BlockType *type, const BlockSpec *spec, Block *b)
{
    Arena *a = &o->m->arena;
    size_t nl = (size_t)block_linears(type), ns = (size_t)block_smalls(type);
    *b = (Block){.type = type, .spec = spec, .linear = nl ? arena_alloc(a, nl * sizeof *b->linear) : NULL,
                 .small = ns ? arena_alloc(a, ns * sizeof *b->small) : NULL};
    if ((nl && !b->linear) || (ns && !b->small))
        return error_nomem(o->err, "the model's layers");
    for (size_t i = 0; i < nl; i++)
        b->linear[i] = -1;
    for (size_t i = 0; i < ns; i++)
        b->small[i] = NULL;
    return ST_OK;
}

static Status take_join(Open *o, int unit, Block *b)
{
    const JoinSpec *j = b->spec->join;
    if (!j)
        return ST_OK;
    Block *join = arena_alloc(&o->m->arena, sizeof *join);
    if (!join)
        return error_nomem(o->err, "the model's layers");
    b->join = join;
    RETURN_IF_ERROR(empty_block(o, j->type, b->spec, join));
    return j->type->take(o, unit, join);
}

/* The blocks of the unit, in the order they compute: `ahead` (may be NULL), then those of the row that it has. */
static Status list_blocks(Open *o, int unit, const BlockSpec *ahead, Unit *u)
{
    const Model *m = o->m;
    int nth[ROLE_OTHER + 1] = {0}, n = ahead != NULL;
    for (const BlockSpec *s = m->arch->blocks; s->type; s++)
        n += !s->has || s->has(&m->cfg, unit);
    u->block = arena_alloc(&o->m->arena, (size_t)n * sizeof *u->block);
    if (!u->block)
        return error_nomem(o->err, "the model's layers");
    for (const BlockSpec *s = ahead ? ahead : m->arch->blocks; s->type; s = s == ahead ? m->arch->blocks : s + 1) {
        if (s->has && !s->has(&m->cfg, unit))
            continue;
        Block *b = &u->block[u->nblocks++];
        RETURN_IF_ERROR(empty_block(o, s->type, s, b));
        b->nth = nth[s->type->role]++;
    }
    return ST_OK;
}

/* Takes the blocks as the model defines them. */
static Status take_unit(Open *o, int unit, const BlockSpec *ahead)
{
    Unit *u = &o->m->units[unit];
    *u = (Unit){.cfg = &o->m->cfg, .first = (int32_t)o->m->nlinears};
    RETURN_IF_ERROR(list_blocks(o, unit, ahead, u));
    for (int place = 0, taken = 0; taken < u->nblocks; place++)
        for (int i = 0; i < u->nblocks; i++) {
            Block *b = &u->block[i];
            if (b->spec->defined != place)
                continue;
            int64_t first = o->m->nlinears;
            RETURN_IF_ERROR(take_join(o, unit, b));
            RETURN_IF_ERROR(b->type->take(o, unit, b));
            for (Linear *l = o->m->linears + first; l < o->m->linears + o->m->nlinears; l++)
                l->kept = block_keeps(b->type, l->name);
            taken++;
        }
    u->count = (int32_t)o->m->nlinears - u->first;
    return ST_OK;
}

/* ---- multi-token prediction ---- */

/* Whether the checkpoint has tensors of the layer behind the last. */
static bool has_mtp(const Open *o)
{
    char prefix[NAME_MAX_BYTES];
    int n = snprintf(prefix, sizeof prefix, "%s%d.", open_layers_prefix(o), o->m->cfg.layers);
    for (int64_t i = 0; i < checkpoint_count(o->m->ckpt); i++)
        if (strncmp(checkpoint_at(o->m->ckpt, i)->name, prefix, (size_t)n) == 0)
            return true;
    return false;
}

/* The tables as they were before a layer that turned out to be incomplete. */
static Status cut_linears(Open *o, int64_t linears, int64_t groups)
{
    Model *m = o->m;
    m->nlinears = linears;
    m->ngroups = groups;
    map_free(&m->by_name);
    for (int64_t i = 0; i < linears; i++)
        if (!map_add(&m->by_name, m->linears[i].name, strlen(m->linears[i].name), i, NULL))
            return error_nomem(o->err, "the model's layers");
    return ST_OK;
}

/* The decoder runs without this layer, so what is wrong with it is no error of the model's. */
static Status open_mtp(Open *o)
{
    Model *m = o->m;
    Error own = {0}, *err = o->err;
    int64_t linears = m->nlinears, groups = m->ngroups, params = m->params;
    /* not under an alias: the same decoder may have none */
    if (!m->arch->ahead || strcmp(m->cfg.model_type, m->arch->model_type) != 0 || !has_mtp(o))
        return ST_OK;
    o->err = &own;
    Status st = take_unit(o, m->cfg.layers, m->arch->ahead);
    o->err = err;
    m->params = params; /* the decoder's */
    m->mtp_layers = st == ST_OK;
    m->nunits += m->mtp_layers;
    if (st == ST_OK || st == ST_NOMEM)
        return st == ST_OK ? ST_OK : error_nomem(err, "the model's layers");
    m->mtp_reason = arena_strdup(&m->arena, own.text);
    return m->mtp_reason ? cut_linears(o, linears, groups) : error_nomem(err, "the model's layers");
}

Status open_units(Open *o)
{
    Model *m = o->m;
    m->units = mem_zarray((size_t)m->cfg.layers + 1, sizeof *m->units); /* that of multi-token prediction is behind */
    if (!m->units)
        return error_nomem(o->err, "the model's layers");
    for (m->nunits = 0; m->nunits < m->cfg.layers; m->nunits++)
        RETURN_IF_ERROR(take_unit(o, m->nunits, NULL));
    return open_mtp(o);
}
