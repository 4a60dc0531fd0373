#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config.h"
#include "model/open.h"
#include "model/subgraph.h"

/* Multi-head latent attention: "self_attn" with kv_a_proj_with_mqa and so on; DeepSeek-V3.2's and GLM-5's with an
 * indexer. */

static const char *const linears[MLA_LINEARS + 1] = {
    [MLA_Q_A] = "q_a", [MLA_Q] = "q", [MLA_KV_A] = "kv_a", [MLA_KV_B] = "kv_b", [MLA_O] = "o",
    [MLA_INDEX_Q] = "index_q", [MLA_INDEX_K] = "index_k", [MLA_INDEX_W] = "index_w"};
static const SmallSlot smalls[MLA_SMALLS + 1] = {
    [MLA_Q_A_NORM] = {"q_a_norm", SMALL_ROUNDED}, [MLA_KV_A_NORM] = {"kv_a_norm", SMALL_ROUNDED},
    [MLA_INDEX_NORM] = {"index_norm", SMALL_ROUNDED}, [MLA_INDEX_BIAS] = {"index_bias", SMALL_ROUNDED}};
/* kv_b_proj is absorbed into the products around it (vllm_ascend/attention/mla_v1.py); of an indexer vLLM's
 * deepseek_v2.py gives these no quant_config. */
static const char *const kept[] = {"kv_b_proj", "indexer.wk", "indexer.weights_proj", NULL};

static const MlaSpec plain;

static const MlaSpec *how_of(const BlockSpec *s)
{
    return s->how ? s->how : &plain;
}

/* ---- config.json ---- */

/* sqrt(hidden / rank) for q and for the latent of k and v, unless the file says that there are none. */
static Status read_latent_scales(const cJSON *config, ModelConfig *cfg, Error *err)
{
    MlaConfig *m = &cfg->mla;
    bool q = true, kv = true;
    RETURN_IF_ERROR(json_bool(config, "mla_scale_q_lora", &q, NULL, err));
    RETURN_IF_ERROR(json_bool(config, "mla_scale_kv_lora", &kv, NULL, err));
    if (q && m->q_rank)
        m->q_scale = (float)sqrt((double)cfg->hidden / (double)m->q_rank);
    if (kv)
        m->kv_scale = (float)sqrt((double)cfg->hidden / (double)m->kv_rank);
    return ST_OK;
}

static Status read_mla(const cJSON *config, const MlaSpec *how, ModelConfig *cfg, Error *err)
{
    MlaConfig *m = &cfg->mla;
    const cJSON *q = cJSON_GetObjectItemCaseSensitive(config, "q_lora_rank");
    *m = (MlaConfig){.q_rank = cJSON_IsNull(q) ? 0 : 1536, .kv_rank = 512, .nope = 128, .rope = 64, .v = 128,
                     .interleaved = true, .q_scale = 1, .kv_scale = 1};
    if (m->q_rank)
        RETURN_IF_ERROR(config_size(config, "q_lora_rank", CONFIG_WIDTH_MAX, &m->q_rank, err));
    RETURN_IF_ERROR(config_size(config, "kv_lora_rank", CONFIG_WIDTH_MAX, &m->kv_rank, err));
    RETURN_IF_ERROR(config_count(config, "qk_nope_head_dim", 0, CONFIG_HEADS_MAX, &m->nope, err));
    RETURN_IF_ERROR(config_count(config, "qk_rope_head_dim", 2, MLA_ROPE_MAX, &m->rope, err));
    RETURN_IF_ERROR(config_count(config, "v_head_dim", 1, CONFIG_HEADS_MAX, &m->v, err));
    RETURN_IF_ERROR(json_bool(config, "rope_interleave", &m->interleaved, NULL, err));
    cfg->kv_heads = cfg->heads;
    cfg->head_dim = m->nope + m->rope;
    cfg->v_dim = m->v;
    return how->scaled ? read_latent_scales(config, cfg, err) : ST_OK;
}

/* Layer i's entry of a list of words, or letter of a string; NULL when there is none. */
static const char *indexer_word(const cJSON *list, int i)
{
    if (cJSON_IsString(list))
        return list->valuestring[i] == 'F' ? "full" : list->valuestring[i] == 'S' ? "shared" : NULL;
    const cJSON *v = cJSON_GetArrayItem(list, i);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static Status listed_indexers(const cJSON *list, const char *key, ModelConfig *cfg, Error *err)
{
    int n = cJSON_IsString(list) ? (int)strlen(list->valuestring) : cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n != cfg->layers)
        return error_set(err, ST_DATA, "'%s' must have an entry for each of the %d layers, it has %d", key,
                         cfg->layers, n);
    for (int i = 0; i < n; i++) {
        const char *word = indexer_word(list, i);
        cfg->index.shared[i] = word && strcmp(word, "shared") == 0;
        if (!word || (!cfg->index.shared[i] && strcmp(word, "full") != 0))
            return error_set(err, ST_DATA, "'%s': the entry of layer %d must be full or shared", key, i);
    }
    return ST_OK;
}

static Status shared_indexers(const cJSON *config, ModelConfig *cfg, Error *err)
{
    static const char *const keys[] = {"indexer_types", "index_topk_pattern"};
    int freq = 1, offset = 2;
    for (int i = 0; i < 2; i++) {
        const cJSON *list = json_get(config, keys[i]);
        if (!list)
            continue;
        RETURN_IF_ERROR(listed_indexers(list, keys[i], cfg, err));
        return cfg->index.shared[0] ? error_set(err, ST_DATA, "'%s': layer 0 has no layer before it whose choice it "
                                                "could share", keys[i])
                                    : ST_OK;
    }
    RETURN_IF_ERROR(config_count(config, "index_topk_freq", 0, CONFIG_LAYERS_MAX, &freq, err));
    RETURN_IF_ERROR(config_count(config, "index_skip_topk_offset", 0, CONFIG_LAYERS_MAX, &offset, err));
    for (int i = 0; i < cfg->layers; i++)
        cfg->index.shared[i] = i > 0 && freq > 1 && i >= offset && (i - offset + 1) % freq != 0;
    return ST_OK;
}

/* The indexer of sparse attention, and which layers take over the choice of the one before (GLM: a list, letters F and
 * S, or every index_topk_freq-th layer with one of its own). */
static Status read_index(const cJSON *config, const MlaSpec *how, Arena *a, ModelConfig *cfg, Error *err)
{
    IndexConfig *x = &cfg->index;
    if (how->indexer == INDEXER_NONE)
        return ST_OK;
    *x = (IndexConfig){.heads = 64, .dim = 128, .top_k = 2048, .interleaved = how->indexer == INDEXER_PAIRS};
    RETURN_IF_ERROR(config_count(config, "index_n_heads", 1, CONFIG_HEADS_MAX, &x->heads, err));
    RETURN_IF_ERROR(config_count(config, "index_head_dim", cfg->mla.rope, CONFIG_HEADS_MAX, &x->dim, err));
    RETURN_IF_ERROR(config_size(config, "index_topk", CONFIG_WIDTH_MAX, &x->top_k, err));
    RETURN_IF_ERROR(json_bool(config, "indexer_rope_interleave", &x->interleaved, NULL, err));
    if (!cfg->mla.q_rank)
        return error_set(err, ST_DATA, "'q_lora_rank' is missing: the indexer's queries come from that latent");
    x->shared = arena_alloc(a, (size_t)cfg->layers * sizeof *x->shared);
    if (!x->shared)
        return error_nomem(err, "the model's layers");
    return shared_indexers(config, cfg, err);
}

static Status read(const cJSON *config, const Arch *arch, const BlockSpec *spec, Arena *a, ModelConfig *cfg, Error *err)
{
    const MlaSpec *how = how_of(spec);
    (void)arch;
    cfg->rope_fp32 = how->rope_fp32;
    RETURN_IF_ERROR(read_mla(config, how, cfg, err));
    return read_index(config, how, a, cfg, err);
}

/* ---- tensors ---- */

static Status take_indexer(Open *o, int unit, Block *b)
{
    static const char dim[] = "index_head_dim";
    const ModelConfig *c = &o->m->cfg;
    const IndexConfig *x = &c->index;
    char module[64];
    snprintf(module, sizeof module, "%s.indexer", block_module(b->spec));
    Want q = {LK_OTHER, (int64_t)x->heads * x->dim, c->mla.q_rank, "index_n_heads x index_head_dim, q_lora_rank",
              b->linear[MLA_Q], -1};
    Want k = {LK_OTHER, x->dim, c->hidden, "index_head_dim, hidden_size", b->linear[MLA_Q_A], -1};
    Want w = {LK_OTHER, x->heads, c->hidden, "index_n_heads, hidden_size", b->linear[MLA_Q_A], -1};
    RETURN_IF_ERROR(open_alone(o, unit, module, "wq_b", &q, &b->linear[MLA_INDEX_Q]));
    RETURN_IF_ERROR(open_alone(o, unit, module, "wk", &k, &b->linear[MLA_INDEX_K]));
    RETURN_IF_ERROR(open_unit_take(o, unit, x->dim, 0, dim, &b->small[MLA_INDEX_NORM], "%s.k_norm.weight", module));
    RETURN_IF_ERROR(open_unit_take(o, unit, x->dim, 0, dim, &b->small[MLA_INDEX_BIAS], "%s.k_norm.bias", module));
    return open_alone(o, unit, module, "weights_proj", &w, &b->linear[MLA_INDEX_W]);
}

/* The indexer of a layer that takes over another's choice computes nothing; files may hold one all the same. */
static Status ignore_indexer(Open *o, int unit, const Block *b)
{
    static const char *const parts[] = {"wq_b.weight", "wq_b.weight_scale_inv", "wk.weight", "wk.weight_scale_inv",
                                        "k_norm.weight", "k_norm.bias", "weights_proj.weight"};
    char text[NAME_MAX_BYTES];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(text, sizeof text, "%s%d.%s.indexer.%s", open_layers_prefix(o), unit, block_module(b->spec), parts[i]);
        const TensorInfo *t = checkpoint_find(o->m->ckpt, text);
        if (t)
            open_use(o, t);
    }
    return ST_OK;
}

static Status take_linears(Open *o, int unit, Block *b)
{
    const ModelConfig *c = &o->m->cfg;
    const MlaConfig *a = &c->mla;
    const char *module = block_module(b->spec);
    Want q = {LK_Q, (int64_t)c->heads * c->head_dim, a->q_rank ? a->q_rank : c->hidden,
              "num_attention_heads x (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank or hidden_size", -1, -1};
    Want kv_a = {LK_OTHER, a->kv_rank + a->rope, c->hidden, "kv_lora_rank + qk_rope_head_dim, hidden_size", -1, -1};
    Want kv_b = {LK_OTHER, (int64_t)c->heads * (a->nope + a->v), a->kv_rank,
                 "num_attention_heads x (qk_nope_head_dim + v_head_dim), kv_lora_rank", -1, -1};
    Want out = {LK_O, c->hidden, (int64_t)c->heads * c->v_dim, "hidden_size, num_attention_heads x v_head_dim", -1, -1};
    if (a->q_rank) {
        Want q_a = {LK_OTHER, a->q_rank, c->hidden, "q_lora_rank, hidden_size", -1, -1};
        RETURN_IF_ERROR(open_alone(o, unit, module, "q_a_proj", &q_a, &b->linear[MLA_Q_A]));
        RETURN_IF_ERROR(open_unit_take(o, unit, a->q_rank, 0, "q_lora_rank", &b->small[MLA_Q_A_NORM],
                                       "%s.q_a_layernorm.weight", module));
    }
    RETURN_IF_ERROR(open_alone(o, unit, module, a->q_rank ? "q_b_proj" : "q_proj", &q, &b->linear[MLA_Q]));
    kv_a.input = b->linear[a->q_rank ? MLA_Q_A : MLA_Q];
    RETURN_IF_ERROR(open_alone(o, unit, module, "kv_a_proj_with_mqa", &kv_a, &b->linear[MLA_KV_A]));
    if (a->q_rank) /* read the same input: engines have them as one, fused_qkv_a_proj */
        open_join(o, b->linear[MLA_Q_A], "qkv_a");
    RETURN_IF_ERROR(open_unit_take(o, unit, a->kv_rank, 0, "kv_lora_rank", &b->small[MLA_KV_A_NORM],
                                   "%s.kv_a_layernorm.weight", module));
    RETURN_IF_ERROR(open_alone(o, unit, module, "kv_b_proj", &kv_b, &b->linear[MLA_KV_B]));
    return open_alone(o, unit, module, "o_proj", &out, &b->linear[MLA_O]);
}

static Status take(Open *o, int unit, Block *b)
{
    const IndexConfig *x = &o->m->cfg.index;
    MlaConf *conf = open_conf(o, b, sizeof *conf);
    if (!conf)
        return ST_NOMEM;
    *conf = (MlaConf){.inherits = x->heads && x->shared[unit], .window = o->m->cfg.window[unit]};
    b->rope = &o->m->cfg.rope;
    RETURN_IF_ERROR(take_linears(o, unit, b));
    if (!x->heads)
        return ST_OK;
    return conf->inherits ? ignore_indexer(o, unit, b) : take_indexer(o, unit, b);
}

/* Values are the last rows of each head's of kv_b_proj. */
static void subgraphs(SubgraphMaker *k, const Block *b)
{
    static const int of_q[] = {MLA_Q, MLA_INDEX_Q, -1}, of_kv[] = {MLA_KV_B, -1};
    const ModelConfig *c = k->unit->cfg;
    SubgraphRows rows = {.n = (int64_t)c->heads * c->mla.v, .first = c->mla.nope, .run = c->mla.v,
                         .step = c->mla.nope + c->mla.v};
    Subgraph *g = subgraph_pair(k, SUBGRAPH_OV, b->linear[MLA_KV_B], rows, b->linear[MLA_O]);
    if (g)
        g->ov = (OvShape){.heads = c->heads, .kv_heads = c->heads, .head_dim = c->mla.v};
    if (b->small[MLA_Q_A_NORM])
        subgraph_norm(k, b, b->small[MLA_Q_A_NORM], 1, of_q);
    subgraph_norm(k, b, b->small[MLA_KV_A_NORM], (double)c->mla.kv_scale, of_kv);
}

static const int *reads(const Block *b)
{
    static const int latent[] = {MLA_Q_A, MLA_KV_A, MLA_INDEX_K, MLA_INDEX_W, -1}, straight[] = {MLA_Q, MLA_KV_A, -1};
    return b->linear[MLA_Q_A] >= 0 ? latent : straight;
}

const BlockType block_mla = {
    .name = "mla", .role = ROLE_ATTENTION, .scores = true, .module = "self_attn", .linears = linears, .smalls = smalls, .kept = kept,
    .read = read, .take = take, .reads = reads, .subgraphs = subgraphs};
