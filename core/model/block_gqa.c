#include <math.h>

#include "model/config.h"
#include "model/open.h"
#include "model/subgraph.h"

/* Attention over scores: "self_attn" with q_proj, k_proj, v_proj and o_proj. */

static const char *const linears[GQA_LINEARS + 1] = {[GQA_Q] = "q", [GQA_K] = "k", [GQA_V] = "v", [GQA_O] = "o"};
static const SmallSlot smalls[GQA_SMALLS + 1] = {[GQA_Q_NORM] = {"q_norm", SMALL_ROUNDED},
                                                 [GQA_K_NORM] = {"k_norm", SMALL_ROUNDED},
                                                 [GQA_SINKS] = {"sinks", SMALL_ROUNDED}};

static const GqaSpec plain;

static const GqaSpec *how_of(const BlockSpec *s)
{
    return s->how ? s->how : &plain;
}

/* Windows, caps and scales of the scores, which projections are normed. */
static Status read(const cJSON *config, const Arch *arch, const BlockSpec *spec, Arena *a, ModelConfig *cfg, Error *err)
{
    const GqaSpec *how = how_of(spec);
    double dims = cfg->head_dim;
    bool use = true;
    (void)arch;
    if (how->scale_key)
        RETURN_IF_ERROR(json_num(config, "query_pre_attn_scalar", &dims, NULL, err));
    if (!(dims > 0))
        return error_set(err, ST_DATA, "'query_pre_attn_scalar' must be positive, not %g", dims);
    cfg->attn_scale = 1.0 / sqrt(dims);
    if (how->softcap)
        RETURN_IF_ERROR(json_num(config, "attn_logit_softcapping", &cfg->attn_softcap, NULL, err));
    if (how->qk_norm_key) {
        use = false;
        RETURN_IF_ERROR(json_bool(config, "use_qk_norm", &use, NULL, err));
    }
    cfg->qk_norm = use ? how->qk_norm : QK_NORM_NONE;
    cfg->rope_apart = cfg->rope_apart || how->local_rope;
    if (!how->windows || cfg->window)
        return ST_OK;
    RETURN_IF_ERROR(config_window_list(a, cfg, err));
    return how->windows(config, cfg, err);
}

static Status take_o(Open *o, int unit, Block *b)
{
    const ModelConfig *c = &o->m->cfg;
    Want w = {LK_O, c->hidden, (int64_t)c->heads * c->v_dim, "hidden_size, num_attention_heads x head_dim", -1, -1};
    return open_alone(o, unit, block_module(b->spec), "o_proj", &w, &b->linear[GQA_O]);
}

static Status take_linears(Open *o, int unit, Block *b)
{
    static const char kv_keys[] = "num_key_value_heads x head_dim, hidden_size";
    const ModelConfig *c = &o->m->cfg;
    const GqaSpec *how = how_of(b->spec);
    const char *module = block_module(b->spec);
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    if (how->fused) {
        Want w = {LK_QKV, q + 2 * kv, c->hidden,
                  "(num_attention_heads + 2 num_key_value_heads) x head_dim, hidden_size", -1, -1};
        RETURN_IF_ERROR(take_o(o, unit, b)); /* the family's definition order */
        return open_alone(o, unit, module, "qkv_proj", &w, &b->linear[GQA_Q]);
    }
    const char *q_keys = how->gate ? "2 num_attention_heads x head_dim, hidden_size"
                                   : "num_attention_heads x head_dim, hidden_size";
    Want w = {LK_Q, how->gate ? 2 * q : q, c->hidden, q_keys, -1, -1};
    RETURN_IF_ERROR(open_linear(o, unit, module, "q_proj", &w, &b->linear[GQA_Q]));
    w = (Want){LK_K, kv, c->hidden, kv_keys, b->linear[GQA_Q], -1};
    RETURN_IF_ERROR(open_linear(o, unit, module, "k_proj", &w, &b->linear[GQA_K]));
    w.kind = LK_V;
    RETURN_IF_ERROR(open_linear(o, unit, module, "v_proj", &w, &b->linear[GQA_V]));
    RETURN_IF_ERROR(open_close_group(o, b->linear[GQA_Q], "qkv"));
    return take_o(o, unit, b);
}

static Status take(Open *o, int unit, Block *b)
{
    const ModelConfig *c = &o->m->cfg;
    const GqaSpec *how = how_of(b->spec);
    const char *module = block_module(b->spec);
    bool full = c->qk_norm == QK_NORM_FULL;
    GqaConf *conf = open_conf(o, b, sizeof *conf);
    if (!conf)
        return ST_NOMEM;
    *conf = (GqaConf){.fused = how->fused, .gate = how->gate, .every_key = how->every_key, .qk_norm = c->qk_norm,
                      .window = c->window[unit], .local_rope = how->local_rope && c->window[unit] > 0};
    b->rope = conf->local_rope ? &c->rope_local : &c->rope;
    if (how->sinks)
        RETURN_IF_ERROR(open_unit_take(o, unit, c->heads, 0, "num_attention_heads", &b->small[GQA_SINKS], "%s.sinks",
                                       module));
    if (c->qk_norm != QK_NORM_NONE) {
        RETURN_IF_ERROR(open_unit_take(o, unit, c->head_dim * (full ? (int64_t)c->heads : 1), 0, "head_dim",
                                       &b->small[GQA_Q_NORM], "%s.q_norm.weight", module));
        RETURN_IF_ERROR(open_unit_take(o, unit, c->head_dim * (full ? (int64_t)c->kv_heads : 1), 0, "head_dim",
                                       &b->small[GQA_K_NORM], "%s.k_norm.weight", module));
    }
    return take_linears(o, unit, b);
}

/* Scores weigh values channel by channel, and so does a gate of the output. */
static void subgraphs(SubgraphMaker *k, const Block *b)
{
    const ModelConfig *c = k->unit->cfg;
    int64_t values = (int64_t)c->kv_heads * c->head_dim;
    bool fused = ((const GqaConf *)b->conf)->fused;
    int32_t source = b->linear[fused ? GQA_Q : GQA_V];
    SubgraphRows rows = subgraph_all_rows(values);
    rows.first = fused ? k->m->linears[source].out - values : 0;
    Subgraph *g = subgraph_pair(k, SUBGRAPH_OV, source, rows, b->linear[GQA_O]);
    if (g)
        g->ov = (OvShape){.heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim};
}

static const int *reads(const Block *b)
{
    static const int slots[] = {GQA_Q, GQA_K, GQA_V, -1};
    (void)b;
    return slots;
}

const BlockType block_gqa = {
    .name = "gqa", .role = ROLE_ATTENTION, .scores = true, .module = "self_attn", .linears = linears, .smalls = smalls, .read = read,
    .take = take, .reads = reads, .subgraphs = subgraphs};
