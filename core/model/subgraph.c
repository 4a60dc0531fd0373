#include "model/subgraph.h"

#include <stdio.h>
#include <string.h>

#include "model/open.h"

const char *subgraph_name(SubgraphType t)
{
    static const char *const names[SUBGRAPH_TYPES] = {
        [SUBGRAPH_UP_DOWN] = "up-down",
        [SUBGRAPH_OV] = "ov",
        [SUBGRAPH_LINEAR_LINEAR] = "linear-linear",
        [SUBGRAPH_NORM_LINEAR] = "norm-linear",
    };
    return names[t];
}

/* ---- making one ---- */

static Subgraph *add(SubgraphMaker *k, const Subgraph *g)
{
    if (k->st != ST_OK)
        return NULL;
    if ((size_t)k->n == k->cap) {
        size_t cap = k->cap ? 2 * k->cap : 8;
        Subgraph *list = arena_alloc(k->arena, cap * sizeof *list);
        if (!list) {
            k->st = ST_NOMEM;
            return NULL;
        }
        if (k->n)
            memcpy(list, k->list, (size_t)k->n * sizeof *list);
        k->list = list;
        k->cap = cap;
    }
    k->list[k->n] = *g;
    return &k->list[k->n++];
}

static void *copy(SubgraphMaker *k, const void *of, size_t bytes)
{
    void *p = k->st == ST_OK ? arena_alloc(k->arena, bytes + 1) : NULL;
    if (p && bytes)
        memcpy(p, of, bytes);
    k->st = p ? k->st : ST_NOMEM;
    return p;
}

/* A norm's module: its tensor's name without ".weight". */
static const char *module_of(SubgraphMaker *k, const TensorInfo *t)
{
    static const char end[] = ".weight";
    size_t n = strlen(t->name), e = sizeof end - 1;
    if (n > e && strcmp(t->name + n - e, end) == 0)
        n -= e;
    char *name = arena_strndup(k->arena, t->name, n);
    k->st = name ? k->st : ST_NOMEM;
    return name;
}

/* Fills in what its targets say. */
static void set_targets(SubgraphMaker *k, Subgraph *g, const int64_t *targets, int n)
{
    const Linear *first = &k->m->linears[targets[0]];
    int64_t watch = first->input;
    g->targets = copy(k, targets, (size_t)n * sizeof *targets);
    g->ntargets = n;
    g->watch = copy(k, &watch, sizeof watch);
    g->nwatch = 1;
    g->width = first->in;
}

static const char *key_of(SubgraphMaker *k, const Subgraph *g)
{
    if (g->norm)
        return module_of(k, g->norm);
    return k->m->linears[g->source >= 0 ? g->source : g->targets[0]].name;
}

Subgraph *subgraph_pair(SubgraphMaker *k, SubgraphType type, int64_t source, SubgraphRows rows, int64_t target)
{
    Subgraph *g = add(k, &(Subgraph){.type = type, .source = source, .rows = rows});
    if (!g)
        return NULL;
    set_targets(k, g, &target, 1);
    if (k->st == ST_OK)
        g->key = key_of(k, g);
    return k->st == ST_OK ? g : NULL;
}

Subgraph *subgraph_norm(SubgraphMaker *k, const Block *b, const TensorInfo *norm, double gain, const int *slots)
{
    int64_t targets[BLOCK_LINEARS_MAX];
    int n = 0;
    for (int i = 0; slots[i] >= 0; i++)
        if (b->linear[slots[i]] >= 0)
            targets[n++] = b->linear[slots[i]];
    const Subgraph one = {.type = SUBGRAPH_NORM_LINEAR, .norm = norm, .gain = gain, .source = -1};
    Subgraph *g = n && norm ? add(k, &one) : NULL;
    if (!g)
        return NULL;
    set_targets(k, g, targets, n);
    if (k->st == ST_OK)
        g->key = key_of(k, g);
    return k->st == ST_OK ? g : NULL;
}

void subgraph_heads_norm(SubgraphMaker *k, const TensorInfo *norm, int heads, int64_t target)
{
    const int64_t dim = norm->shape[0];
    const Subgraph one = {.type = SUBGRAPH_OV, .norm = norm, .gain = 1, .source = -1, .rows = subgraph_all_rows(dim),
                          .ov = {.heads = heads, .kv_heads = 1, .head_dim = dim}};
    Subgraph *g = add(k, &one);
    if (!g)
        return;
    set_targets(k, g, &target, 1);
    if (k->st == ST_OK)
        g->key = key_of(k, g);
}

void subgraph_gated(SubgraphMaker *k, int64_t up, int64_t first, int64_t down)
{
    int64_t n = k->m->linears[down].in;
    Activation act = k->unit->cfg->act;
    bool linear = act == ACT_SILU || act == ACT_GELU_TANH; /* the others clamp what up gives */
    subgraph_pair(k, SUBGRAPH_UP_DOWN, linear ? up : -1, (SubgraphRows){n, first, n, n}, down);
}

/* ---- norms before blocks ---- */

/* What reads a norm. */
typedef struct Readers {
    int64_t *linear;
    const TensorInfo **tensor;
    int n, ntensors;
    int64_t dense;        /* the first linear that sees every token, -1: none */
    const Block *experts; /* the block whose experts read it, NULL: none */
    bool passes;          /* experts without weights hand on what the norm gives */
} Readers;

static void add_experts(const ModelConfig *cfg, const Block *b, Readers *r)
{
    const MoeConf *c = b->conf;
    r->experts = b;
    r->passes = cfg->moe.zero > 0;
    for (int e = 0; e < cfg->moe.experts; e++)
        for (int part = 0; part < 2; part++) {
            int64_t i = c->expert + 3 * e + expert_place(c->rule, part);
            r->linear[r->n++] = i;
        }
    if (b->small[MOE_ROUTER_WEIGHT])
        r->tensor[r->ntensors++] = b->small[MOE_ROUTER_WEIGHT];
}

static void add_readers(const Unit *u, const Block *b, Readers *r)
{
    static const int none[] = {-1};
    for (const int *slot = b->type->reads ? b->type->reads(b) : none; *slot >= 0; slot++) {
        int64_t at = b->linear[*slot];
        if (at < 0)
            continue;
        r->dense = r->dense < 0 ? at : r->dense;
        r->linear[r->n++] = at;
    }
    if (b->type == &block_moe)
        add_experts(u->cfg, b, r);
}

static const TensorInfo *norm_before(const Block *b, const TensorInfo **bias)
{
    *bias = NULL;
    if (!b->join)
        return NULL;
    if (b->join->type == &block_residual)
        *bias = b->join->small[RESIDUAL_BEFORE_BIAS];
    return b->join->small[b->join->type == &block_residual ? RESIDUAL_BEFORE : HYPER_BEFORE];
}

/* Every expert's gate: together they see every token. */
static void watch_experts(SubgraphMaker *k, Subgraph *g, const Block *b)
{
    const MoeConf *c = b->conf;
    int n = k->unit->cfg->moe.experts;
    int64_t *watch = arena_alloc(k->arena, (size_t)n * sizeof *watch);
    k->st = watch ? k->st : ST_NOMEM;
    for (int e = 0; watch && e < n; e++)
        watch[e] = c->expert + 3 * e;
    g->watch = watch;
    g->nwatch = n;
}

static void add_norm(SubgraphMaker *k, const TensorInfo *norm, const TensorInfo *bias, const Readers *r)
{
    Subgraph *g = add(k, &(Subgraph){.type = SUBGRAPH_NORM_LINEAR, .source = -1});
    if (!g)
        return;
    if (norm && !r->passes) {
        g->norm = norm;
        g->gain = 1;
        g->norm_bias = bias;
        g->norm_one = k->m->cfg.norm == NORM_UNIT;
        g->tensors = copy(k, r->tensor, (size_t)r->ntensors * sizeof *r->tensor);
        g->ntensors = r->ntensors;
    }
    set_targets(k, g, r->linear, r->n);
    if (r->dense >= 0 && k->st == ST_OK)
        ((int64_t *)g->watch)[0] = k->m->linears[r->dense].input;
    else if (r->experts)
        watch_experts(k, g, r->experts);
    if (k->st == ST_OK)
        g->key = key_of(k, g);
}

/* The norm before block i with all that reads it, unless an earlier block has that norm too. */
static void norm_of_block(SubgraphMaker *k, const Unit *u, int i, Readers *r)
{
    const TensorInfo *bias, *other, *norm = norm_before(&u->block[i], &bias);
    for (int j = 0; j < i && norm; j++)
        if (norm_before(&u->block[j], &other) == norm)
            return;
    *r = (Readers){.linear = r->linear, .tensor = r->tensor, .dense = -1};
    for (int j = i; j < u->nblocks; j++)
        if (j == i || (norm && norm_before(&u->block[j], &other) == norm))
            add_readers(u, &u->block[j], r);
    if (r->n && u->block[i].join)
        add_norm(k, norm, bias, r);
}

static void make_ours(SubgraphMaker *k, const Unit *u)
{
    Readers r = {.linear = arena_alloc(k->arena, ((size_t)u->count + 1) * sizeof *r.linear),
                 .tensor = arena_alloc(k->arena, ((size_t)u->nblocks + 1) * sizeof *r.tensor)};
    if (!r.linear || !r.tensor)
        k->st = ST_NOMEM;
    for (int i = 0; i < u->nblocks && k->st == ST_OK; i++) {
        norm_of_block(k, u, i, &r);
        if (u->block[i].type->subgraphs)
            u->block[i].type->subgraphs(k, &u->block[i]);
    }
}

/* ---- the peer's ---- */

static const Subgraph *find_ours(const SubgraphMaker *k, SubgraphType type, const char *key)
{
    for (int i = 0; i < k->n; i++)
        if (k->list[i].type == type && strcmp(k->list[i].key, key) == 0)
            return &k->list[i];
    return NULL;
}

/* A name of a table, for expert `e`. The table's are fixed texts with at most one number. */
static const char *full_name(const Model *m, int unit, const char *name, int e, char *buf, size_t size)
{
    const char *at = strstr(name, "%d");
    if (at)
        snprintf(buf, size, "%s%d.%.*s%d%s", model_layers_prefix(m), unit, (int)(at - name), name, e, at + 2);
    else
        snprintf(buf, size, "%s%d.%s", model_layers_prefix(m), unit, name);
    return buf;
}

/* One line of the table for one expert: as ours of that source, but with the line's targets. A line whose modules the
 * unit hasn't adds nothing. */
static void add_line(SubgraphMaker *k, const SubgraphMaker *ours, int unit, const SubgraphFold *f, int e)
{
    char name[NAME_MAX_BYTES * 2];
    int64_t targets[4];
    int n = 0;
    const Subgraph *from = find_ours(ours, f->type, full_name(k->m, unit, f->source, e, name, sizeof name));
    for (int i = 0; i < 4 && f->targets[i]; i++) {
        targets[n] = model_find_linear(k->m, full_name(k->m, unit, f->targets[i], e, name, sizeof name));
        n += targets[n] >= 0;
    }
    Subgraph *g = from && n ? add(k, from) : NULL;
    if (!g)
        return;
    g->tensors = NULL;
    g->ntensors = 0;
    g->ov.group_max = f->group_max;
    set_targets(k, g, targets, n);
}

/* Whether a line is in the table of the adapter that the model is opened with. */
static bool is_in_table(const Model *m, const SubgraphFold *f, SubgraphUser user)
{
    bool named = false;
    for (const SubgraphFold *other = m->arch->folds; other->source; other++)
        named = named || (other->pedigree && strcmp(other->pedigree, m->pedigree) == 0);
    bool own = f->pedigree ? strcmp(f->pedigree, m->pedigree) == 0 : !named;
    return own && f->users & user;
}

static void make_table(SubgraphMaker *k, const SubgraphMaker *ours, int unit, SubgraphUser user)
{
    for (const SubgraphFold *f = k->m->arch->folds; f->source; f++) {
        bool each = strstr(f->source, "%d") != NULL;
        for (int e = 0; is_in_table(k->m, f, user) && e < (each ? k->m->cfg.moe.experts : 1); e++)
            add_line(k, ours, unit, f, e);
    }
}

/* Norms whose output itself is the input of linears: not where experts are, whose block makes another tensor of it. */
static void make_found(SubgraphMaker *k, const SubgraphMaker *ours)
{
    for (int i = 0; i < ours->n; i++) {
        const Subgraph *g = &ours->list[i];
        bool experts = g->ntensors > 0;
        for (int t = 0; t < g->ntargets; t++)
            experts = experts || k->m->linears[g->targets[t]].expert >= 0;
        if (g->type == SUBGRAPH_NORM_LINEAR && g->norm && !g->norm2 && !experts)
            add(k, g);
    }
}

static bool has_table(const Model *m, SubgraphUser user)
{
    for (const SubgraphFold *f = m->arch->folds; f && f->source; f++)
        if (is_in_table(m, f, user))
            return true;
    return false;
}

Status subgraphs_of_unit(const Model *m, int unit, SubgraphUser user, Arena *a, Subgraph **out, int *n, bool *found,
                         Error *err)
{
    SubgraphMaker ours = {.m = m, .unit = &m->units[unit], .arena = a, .st = ST_OK}, peer = ours;
    bool table = user != SUBGRAPH_OURS && has_table(m, user);
    make_ours(&ours, &m->units[unit]);
    if (table && unit < m->cfg.layers) /* no adapter has lines for multi-token prediction */
        make_table(&peer, &ours, unit, user);
    else if (!table && user != SUBGRAPH_OURS)
        make_found(&peer, &ours);
    const SubgraphMaker *k = user == SUBGRAPH_OURS ? &ours : &peer;
    if (found)
        *found = table;
    *out = k->list;
    *n = k->n;
    return ours.st == ST_OK && peer.st == ST_OK ? ST_OK : error_nomem(err, "the model's sub-graphs");
}
