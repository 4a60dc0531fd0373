#include "model/open.h"
#include "model/subgraph.h"

/* Feed-forward block: "mlp" with gate_proj, up_proj and down_proj. */

static const char *const linears[DENSE_LINEARS + 1] = {
    [DENSE_GATE] = "gate", [DENSE_UP] = "up", [DENSE_DOWN] = "down"};

static Status take(Open *o, int unit, Block *b)
{
    static const DenseSpec usual;
    const DenseSpec *how = b->spec->how ? b->spec->how : &usual;
    const char *keys = how->keys ? how->keys : "intermediate_size, hidden_size";
    const char *module = block_module(b->spec);
    int64_t h = o->m->cfg.hidden, width = o->m->cfg.inter;
    DenseConf *conf = open_conf(o, b, sizeof *conf);
    if (!conf)
        return ST_NOMEM;
    *conf = (DenseConf){.fused = how->fused, .plain = how->up != NULL};
    if (!conf->plain)
        return open_gated(o, unit, module, NULL, width, keys, how->fused, b->linear);
    Want up = {LK_OTHER, width, h, keys, -1, -1}, down = {LK_DOWN, h, width, keys, -1, -1};
    RETURN_IF_ERROR(open_alone(o, unit, module, how->up, &up, &b->linear[DENSE_UP]));
    return open_alone(o, unit, module, how->down, &down, &b->linear[DENSE_DOWN]);
}

static void subgraphs(SubgraphMaker *k, const Block *b)
{
    const DenseConf *c = b->conf;
    int32_t down = b->linear[DENSE_DOWN];
    if (c->plain) /* the activation stands between */
        subgraph_pair(k, SUBGRAPH_UP_DOWN, -1, (SubgraphRows){0}, down);
    else
        subgraph_gated(k, b->linear[c->fused ? DENSE_GATE : DENSE_UP], c->fused ? k->m->linears[down].in : 0, down);
}

static const int *reads(const Block *b)
{
    static const int slots[] = {DENSE_GATE, DENSE_UP, -1};
    (void)b;
    return slots;
}

const BlockType block_dense = {
    .name = "dense", .role = ROLE_FEED_FORWARD, .module = "mlp", .linears = linears, .take = take, .reads = reads,
    .subgraphs = subgraphs};
