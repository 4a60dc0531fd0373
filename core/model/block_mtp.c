#include <stdio.h>

#include "model/open.h"
#include "model/subgraph.h"

static const char *const linears[MTP_LINEARS + 1] = {[MTP_EH_PROJ] = "eh_proj"};
static const SmallSlot smalls[MTP_SMALLS + 1] = {
    [MTP_EMBED] = {"embed", SMALL_RAW}, [MTP_ENORM] = {"enorm", SMALL_ROUNDED}, [MTP_HNORM] = {"hnorm", SMALL_ROUNDED}};

static const char *const kept[] = {"eh_proj", NULL}; /* nn.Linear in vLLM's deepseek_mtp.py */

static Status take(Open *o, int unit, Block *b)
{
    const ModelConfig *c = &o->m->cfg;
    char name[NAME_MAX_BYTES];
    Want w = {LK_OTHER, c->hidden, 2 * c->hidden, "hidden_size, 2 hidden_size", -1, -1};
    snprintf(name, sizeof name, "%s%d.embed_tokens.weight", open_layers_prefix(o), unit);
    RETURN_IF_ERROR(open_take(o, name, true, c->vocab, c->hidden, "vocab_size, hidden_size", &b->small[MTP_EMBED]));
    if (!b->small[MTP_EMBED])
        b->small[MTP_EMBED] = o->m->entry.table;
    RETURN_IF_ERROR(open_unit_take(o, unit, c->hidden, 0, "hidden_size", &b->small[MTP_ENORM], "enorm.weight"));
    RETURN_IF_ERROR(open_unit_take(o, unit, c->hidden, 0, "hidden_size", &b->small[MTP_HNORM], "hnorm.weight"));
    return open_alone(o, unit, "", "eh_proj", &w, &b->linear[MTP_EH_PROJ]);
}

/* eh_proj reads what the norm of the next token's embedding gives, then the state's. */
static void subgraphs(SubgraphMaker *k, const Block *b)
{
    static const int slots[] = {MTP_EH_PROJ, -1};
    Subgraph *g = subgraph_norm(k, b, b->small[MTP_ENORM], 1, slots);
    if (!g)
        return;
    g->norm2 = b->small[MTP_HNORM];
    g->norm_one = k->m->cfg.norm == NORM_UNIT;
}

const BlockType block_mtp = {
    .name = "mtp", .role = ROLE_OTHER, .linears = linears, .smalls = smalls, .kept = kept, .take = take,
    .subgraphs = subgraphs};
