#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "model/config.h"
#include "model/open.h"
#include "model/subgraph.h"

/* Attention over a window of keys and over compressed ones: "attn" of DeepSeek-V4. */

static const char *const linears[COMP_LINEARS + 1] = {
    [COMP_Q_A] = "q_a", [COMP_Q] = "q", [COMP_KV_A] = "kv_a", [COMP_O_A] = "o_a", [COMP_O] = "o",
    [COMP_KV] = "comp_kv", [COMP_GATE] = "comp_gate", [COMP_INDEX_Q] = "index_q", [COMP_INDEX_W] = "index_w",
    [COMP_INDEX_KV] = "index_comp_kv", [COMP_INDEX_GATE] = "index_comp_gate"};
static const SmallSlot smalls[COMP_SMALLS + 1] = {
    [COMP_Q_A_NORM] = {"q_a_norm", SMALL_ROUNDED}, [COMP_KV_A_NORM] = {"kv_a_norm", SMALL_ROUNDED},
    [COMP_SINKS] = {"sinks", SMALL_KEPT}, [COMP_NORM] = {"comp_norm", SMALL_ROUNDED},
    [COMP_APE] = {"comp_ape", SMALL_KEPT}, [COMP_INDEX_NORM] = {"index_comp_norm", SMALL_ROUNDED},
    [COMP_INDEX_APE] = {"index_comp_ape", SMALL_KEPT}};

/* Made with quant_config None in vLLM's deepseek_v4 (its compressor's fused_wkv_wgate, its indexer's weights_proj). */
static const char *const kept[] = {"compressor.wkv", "compressor.wgate", "indexer.weights_proj", NULL};

/* ---- config.json ---- */

/* What a layer's keys are, by the number compress_ratios has and by the word transformers saves in layer_types. */
static const struct {
    int ratio;
    const char *word;
} kinds[COMPRESS_KINDS] = {
    [COMPRESS_NONE] = {0, "sliding_attention"},
    [COMPRESS_SPARSE] = {4, "compressed_sparse_attention"},
    [COMPRESS_HEAVY] = {128, "heavily_compressed_attention"},
};

/* How a layer's keys are compressed: layer_types, or compress_ratios with an entry for each layer (and for those behind
 * the last, which predict more tokens). */
static Status read_kinds(const cJSON *config, Arena *a, ModelConfig *cfg, Error *err)
{
    bool words = json_get(config, "layer_types") != NULL;
    const char *key = words ? "layer_types" : "compress_ratios";
    const cJSON *list = json_get(config, key), *v;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0, i = 0;
    if (n < cfg->layers)
        return error_set(err, ST_DATA, "'%s' must be a list with an entry for each of the %d layers, it has %d", key,
                         cfg->layers, n);
    cfg->compress.kind = arena_alloc(a, (size_t)cfg->layers);
    if (!cfg->compress.kind)
        return error_nomem(err, "the model's layers");
    cJSON_ArrayForEach(v, list)
    {
        int k = 0;
        while (k < COMPRESS_KINDS && (words ? strcmp(config_layer_word(v), kinds[k].word) != 0
                                            : !(cJSON_IsNumber(v) && v->valuedouble == kinds[k].ratio)))
            k++;
        if (k == COMPRESS_KINDS && words)
            return error_set(err, ST_DATA, "'layer_types[%d]' is '%s': this family has sliding_attention, "
                             "compressed_sparse_attention and heavily_compressed_attention", i, config_layer_word(v));
        if (k == COMPRESS_KINDS)
            return error_set(err, ST_DATA, "'compress_ratios[%d]' must be 0, 4 or 128", i);
        if (i < cfg->layers)
            cfg->compress.kind[i] = (unsigned char)k;
        i++;
    }
    return ST_OK;
}

/* compress_rates and mlp_layer_types, which transformers saves instead of compress_rate_csa, compress_rate_hca and
 * num_hash_layers. */
static Status read_saved(const cJSON *config, ModelConfig *cfg, int rate[COMPRESS_KINDS], int rate_max, Error *err)
{
    const cJSON *rates = json_get(config, "compress_rates"), *list, *v;
    int n = 0;
    if (rates && !cJSON_IsObject(rates))
        return error_set(err, ST_DATA, "'compress_rates' must be an object");
    for (int k = COMPRESS_SPARSE; k < COMPRESS_KINDS && rates; k++)
        RETURN_IF_ERROR(config_count(rates, kinds[k].word, 1, rate_max, &rate[k], err));
    RETURN_IF_ERROR(config_layer_list(config, "mlp_layer_types", cfg, &list, err));
    if (!list)
        return ST_OK;
    cfg->moe.hash_layers = 0;
    cJSON_ArrayForEach(v, list)
    {
        const char *s = config_layer_word(v);
        bool hash = strcmp(s, "hash_moe") == 0;
        if (!hash && strcmp(s, "moe") != 0)
            return error_set(err, ST_DATA, "'mlp_layer_types[%d]' is '%s': this family has hash_moe and moe", n, s);
        if (hash && cfg->moe.hash_layers != n)
            return error_set(err, ST_DATA, "'mlp_layer_types[%d]' is hash_moe behind a layer that is not: supported are "
                             "leading ones", n);
        cfg->moe.hash_layers += hash;
        n++;
    }
    return ST_OK;
}

/* A whole number of [least, most] under `key`; one that is 0 so far must be there. */
static Status count(const cJSON *config, const char *key, int64_t least, int64_t most, int *out, Error *err)
{
    if (!*out && least > 0 && !json_get(config, key))
        return error_set(err, ST_DATA, "'%s' is missing", key);
    return config_count(config, key, least, most, out, err);
}

static Status check(const cJSON *config, const ModelConfig *cfg, Error *err)
{
    const CompressConfig *c = &cfg->compress;
    const char *score = "sqrtsoftplus";
    RETURN_IF_ERROR(json_str(config, "scoring_func", &score, NULL, err));
    if (strcmp(score, "sqrtsoftplus") != 0)
        return error_set(err, ST_DATA, "'scoring_func' is '%s', which this family does not have", score);
    if (cfg->kv_heads != 1)
        return error_set(err, ST_DATA, "'num_key_value_heads' must be 1 in this family, not %d", cfg->kv_heads);
    if (c->rope % 2 || c->rope > cfg->head_dim || c->rope > c->index_dim)
        return error_set(err, ST_DATA, "'qk_rope_head_dim' %d must be even and at most 'head_dim' %d and "
                         "'index_head_dim' %d", c->rope, cfg->head_dim, c->index_dim);
    if (cfg->heads % c->groups)
        return error_set(err, ST_DATA, "'num_attention_heads' %d is no multiple of 'o_groups' %d", cfg->heads,
                         c->groups);
    if (!(cfg->hyper.eps >= 0 && cfg->hyper.eps < 1))
        return error_set(err, ST_DATA, "'hc_eps' must be between 0 and 1, not %g", cfg->hyper.eps);
    return ST_OK;
}

static Status read(const cJSON *config, const Arch *arch, const BlockSpec *spec, Arena *a, ModelConfig *cfg, Error *err)
{
    enum { MANY = 1 << 16, RATE_MAX = 1 << 20 };
    CompressConfig *c = &cfg->compress;
    int q_rank = 0, group_rank = 0, top = 512, window = 128, rate[COMPRESS_KINDS] = {0, 4, 128};
    double share = 0;
    (void)arch;
    (void)spec;
    *c = (CompressConfig){.rope = 64, .index_heads = 64, .index_dim = 128};
    cfg->hyper = (HyperConfig){.copies = 4, .rounds = 20, .eps = 1e-6};
    cfg->moe.hash_layers = 3;
    const struct {
        const char *key;
        int64_t least, most;
        int *to;
    } keys[] = {
        {"q_lora_rank", 1, INT_MAX, &q_rank},         {"qk_rope_head_dim", 2, MANY, &c->rope},
        {"o_groups", 1, MANY, &c->groups},            {"o_lora_rank", 1, INT_MAX, &group_rank},
        {"index_n_heads", 1, MANY, &c->index_heads},  {"index_head_dim", 2, MANY, &c->index_dim},
        {"index_topk", 1, INT_MAX, &top},             {"sliding_window", 1, INT_MAX, &window},
        {"compress_rate_csa", 1, RATE_MAX, &rate[COMPRESS_SPARSE]},   {"compress_rate_hca", 1, RATE_MAX, &rate[COMPRESS_HEAVY]},
        {"hc_mult", 1, HYPER_MAX, &cfg->hyper.copies}, {"hc_sinkhorn_iters", 1, 1000, &cfg->hyper.rounds},
        {"num_hash_layers", 0, MANY, &cfg->moe.hash_layers},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        RETURN_IF_ERROR(count(config, keys[i].key, keys[i].least, keys[i].most, keys[i].to, err));
    RETURN_IF_ERROR(json_num(config, "hc_eps", &cfg->hyper.eps, NULL, err));
    RETURN_IF_ERROR(json_num(config, "partial_rotary_factor", &share, NULL, err));
    if (share > 0 && share <= 1) /* as transformers saves it; wins over qk_rope_head_dim */
        c->rope = (int)(cfg->head_dim * share);
    RETURN_IF_ERROR(read_saved(config, cfg, rate, RATE_MAX, err));
    RETURN_IF_ERROR(check(config, cfg, err));
    c->q_rank = q_rank;
    c->group_rank = group_rank;
    c->index_top = top;
    memcpy(c->rate, rate, sizeof c->rate);
    cfg->stream_width = cfg->hyper.copies * cfg->hidden;
    RETURN_IF_ERROR(config_window_list(a, cfg, err));
    for (int i = 0; i < cfg->layers; i++)
        cfg->window[i] = window;
    return read_kinds(config, a, cfg, err);
}

/* ---- tensors ---- */

static Status one(Open *o, int unit, const char *module, const char *name, LinearKind kind, int64_t out, int64_t in,
                  const char *keys, int32_t input, int32_t *index)
{
    Want w = {kind, out, in, keys, input, -1};
    return open_alone(o, unit, module, name, &w, index);
}

/* A compressor `dim` wide, as module attn.`of`compressor. */
static Status take_compressor(Open *o, int unit, const char *of, int64_t dim, int32_t input, int32_t *kv,
                              int32_t *gate, const TensorInfo **norm, const TensorInfo **ape)
{
    const CompressConfig *c = &o->m->cfg.compress;
    int kind = c->kind[unit];
    int64_t out = kind == COMPRESS_SPARSE ? 2 * dim : dim, h = o->m->cfg.hidden;
    const char *keys = *of ? "index_head_dim, hidden_size" : "head_dim, hidden_size";
    char module[48], name[64];
    snprintf(module, sizeof module, "attn.%scompressor", of);
    RETURN_IF_ERROR(one(o, unit, module, "wkv", LK_OTHER, out, h, keys, input, kv));
    RETURN_IF_ERROR(one(o, unit, module, "wgate", LK_OTHER, out, h, keys, input, gate));
    snprintf(name, sizeof name, "%s.ape", module);
    RETURN_IF_ERROR(open_unit_take(o, unit, c->rate[kind], out, keys, ape, "%s", name));
    snprintf(name, sizeof name, "%s.norm.weight", module);
    return open_unit_take(o, unit, dim, 0, keys, norm, "%s", name);
}

static Status take_linears(Open *o, int unit, Block *b)
{
    const ModelConfig *m = &o->m->cfg;
    int32_t *l = b->linear;
    const CompressConfig *c = &m->compress;
    int64_t h = m->hidden, q = (int64_t)m->heads * m->head_dim, index = (int64_t)c->index_heads * c->index_dim;
    const char *a = "attn", *ix = "attn.indexer", *q_keys = "num_attention_heads x head_dim, q_lora_rank";
    RETURN_IF_ERROR(one(o, unit, a, "wq_a", LK_OTHER, c->q_rank, h, "q_lora_rank, hidden_size", -1, &l[COMP_Q_A]));
    RETURN_IF_ERROR(one(o, unit, a, "wq_b", LK_Q, q, c->q_rank, q_keys, -1, &l[COMP_Q]));
    RETURN_IF_ERROR(one(o, unit, a, "wkv", LK_OTHER, m->head_dim, h, "head_dim, hidden_size", l[COMP_Q_A],
                        &l[COMP_KV_A]));
    open_join(o, l[COMP_Q_A], "qkv_a"); /* fused_wqa_wkv of engines */
    RETURN_IF_ERROR(one(o, unit, a, "wo_a", LK_OTHER, c->groups * c->group_rank, q / c->groups,
                        "o_groups x o_lora_rank, num_attention_heads x head_dim / o_groups", -1, &l[COMP_O_A]));
    o->m->linears[l[COMP_O_A]].groups = c->groups;
    RETURN_IF_ERROR(one(o, unit, a, "wo_b", LK_O, h, c->groups * c->group_rank,
                        "hidden_size, o_groups x o_lora_rank", -1, &l[COMP_O]));
    if (c->kind[unit] == COMPRESS_NONE)
        return ST_OK;
    RETURN_IF_ERROR(take_compressor(o, unit, "", m->head_dim, l[COMP_Q_A], &l[COMP_KV], &l[COMP_GATE],
                                    &b->small[COMP_NORM], &b->small[COMP_APE]));
    if (c->kind[unit] != COMPRESS_SPARSE)
        return ST_OK;
    RETURN_IF_ERROR(one(o, unit, ix, "wq_b", LK_OTHER, index, c->q_rank,
                        "index_n_heads x index_head_dim, q_lora_rank", l[COMP_Q], &l[COMP_INDEX_Q]));
    RETURN_IF_ERROR(one(o, unit, ix, "weights_proj", LK_OTHER, c->index_heads, h, "index_n_heads, hidden_size",
                        l[COMP_Q_A], &l[COMP_INDEX_W]));
    return take_compressor(o, unit, "indexer.", c->index_dim, l[COMP_Q_A], &l[COMP_INDEX_KV], &l[COMP_INDEX_GATE],
                           &b->small[COMP_INDEX_NORM], &b->small[COMP_INDEX_APE]);
}

/* What the norm of the keys is called: transformers saves it without "kv_". */
static const char *kv_norm_name(const Open *o, int unit)
{
    static const char own[] = "attn.kv_norm.weight", saved[] = "attn.norm.weight";
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s%d.%s", open_layers_prefix(o), unit, saved);
    return checkpoint_find(o->m->ckpt, name) ? saved : own;
}

static Status take(Open *o, int unit, Block *b)
{
    const ModelConfig *m = &o->m->cfg;
    const struct {
        const char *name;
        int64_t n;
        const char *keys;
        const TensorInfo **to;
    } vectors[] = {
        {"attn.q_norm.weight", m->compress.q_rank, "q_lora_rank", &b->small[COMP_Q_A_NORM]},
        {kv_norm_name(o, unit), m->head_dim, "head_dim", &b->small[COMP_KV_A_NORM]},
        {"attn.attn_sink", m->heads, "num_attention_heads", &b->small[COMP_SINKS]},
    };
    CompressedConf *conf = open_conf(o, b, sizeof *conf);
    if (!conf)
        return ST_NOMEM;
    *conf = (CompressedConf){.kind = (CompressKind)m->compress.kind[unit], .window = m->window[unit]};
    b->rope = conf->kind == COMPRESS_NONE ? &m->rope_local : &m->rope;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        RETURN_IF_ERROR(open_unit_take(o, unit, vectors[i].n, 0, vectors[i].keys, vectors[i].to, "%s",
                                       vectors[i].name));
    return take_linears(o, unit, b);
}

static const int *reads(const Block *b)
{
    static const int slots[] = {COMP_Q_A, COMP_KV_A, COMP_KV, COMP_GATE, COMP_INDEX_W, COMP_INDEX_KV, COMP_INDEX_GATE, -1};
    (void)b;
    return slots;
}

/* Keys are values here, and scores are made of queries that are normed head by head: nothing gives wo_a's input channels
 * that a scale could be put into. Nor is there a place for one at run time: engines multiply by wo_a's groups outside of a
 * module. */
static void subgraphs(SubgraphMaker *k, const Block *b)
{
    static const int of_q[] = {COMP_Q, COMP_INDEX_Q, -1};
    int32_t o_a = b->linear[COMP_O_A];
    subgraph_pair(k, SUBGRAPH_LINEAR_LINEAR, o_a, subgraph_all_rows(k->m->linears[o_a].out), b->linear[COMP_O]);
    subgraph_norm(k, b, b->small[COMP_Q_A_NORM], 1, of_q);
}

const BlockType block_compressed = {
    .name = "compressed", .role = ROLE_ATTENTION, .scores = true, .module = "attn", .linears = linears, .smalls = smalls,
    .kept = kept, .read = read, .take = take, .reads = reads, .subgraphs = subgraphs};
