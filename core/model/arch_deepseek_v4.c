#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "io/json.h"
#include "model/arch.h"
#include "model/layers.h"

static const ArchName names[] = {
    {.name = "DeepSeek-V4-Flash"},
    {.name = "DeepSeek-V4-Pro"},
    {.name = NULL},
};

static const MoeRule rule = {
    .block = "ffn",
    .experts_key = "n_routed_experts",
    .inter_key = "moe_intermediate_size",
    .bias = "gate.bias",
    .gate = "w1",
    .up = "w3",
    .down = "w2",
    .down_second = true,
    .shared = "shared_experts",
    .round_steps = true,
    .layers = MOE_ALL,
    .score = SCORE_SQRT_SOFTPLUS,
    .renorm = RENORM_ALWAYS,
    .renorm_eps = 1e-20,
    .scaled = true,
    .round_weights = true,
};

/* ---- config.json ---- */

/* compress_ratios: how a layer's keys are compressed, an entry for each layer (and for those behind the last, which
 * predict more tokens). */
static Status read_kinds(const cJSON *config, Arena *a, ModelConfig *cfg, Error *err)
{
    static const int ratios[COMPRESS_KINDS] = {0, 4, 128};
    const cJSON *list = json_get(config, "compress_ratios"), *v;
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0, i = 0;
    if (n < cfg->layers)
        return error_set(err, ST_DATA, "'compress_ratios' must be a list with an entry for each of the %d layers, it "
                         "has %d", cfg->layers, n);
    cfg->compress.kind = arena_alloc(a, (size_t)cfg->layers);
    if (!cfg->compress.kind)
        return error_nomem(err, "the model's layers");
    cJSON_ArrayForEach(v, list)
    {
        int k = 0;
        while (k < COMPRESS_KINDS && !(cJSON_IsNumber(v) && v->valuedouble == ratios[k]))
            k++;
        if (k == COMPRESS_KINDS)
            return error_set(err, ST_DATA, "'compress_ratios[%d]' must be 0, 4 or 128", i);
        if (i < cfg->layers)
            cfg->compress.kind[i] = (unsigned char)k;
        i++;
    }
    return ST_OK;
}

/* A whole number of [least, most] under `key`; one that is 0 so far must be there. */
static Status count(const cJSON *config, const char *key, int64_t least, int64_t most, int *out, Error *err)
{
    int64_t v = *out;
    bool found;
    RETURN_IF_ERROR(json_int(config, key, &v, &found, err));
    if (!found && !v && least > 0)
        return error_set(err, ST_DATA, "'%s' is missing", key);
    if (v < least || v > most)
        return error_set(err, ST_DATA, "'%s' must be between %lld and %lld, not %lld", key, (long long)least,
                         (long long)most, (long long)v);
    *out = (int)v;
    return ST_OK;
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

static Status read(const cJSON *config, Arena *a, ModelConfig *cfg, Error *err)
{
    enum { MANY = 1 << 16, RATE_MAX = 1 << 20 };
    CompressConfig *c = &cfg->compress;
    int q_rank = 0, group_rank = 0, top = 512, window = 128, rate4 = 4, rate128 = 128;
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
        {"compress_rate_csa", 1, RATE_MAX, &rate4},   {"compress_rate_hca", 1, RATE_MAX, &rate128},
        {"hc_mult", 1, HYPER_MAX, &cfg->hyper.copies}, {"hc_sinkhorn_iters", 1, 1000, &cfg->hyper.rounds},
        {"num_hash_layers", 0, MANY, &cfg->moe.hash_layers},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        RETURN_IF_ERROR(count(config, keys[i].key, keys[i].least, keys[i].most, keys[i].to, err));
    RETURN_IF_ERROR(json_num(config, "hc_eps", &cfg->hyper.eps, NULL, err));
    RETURN_IF_ERROR(check(config, cfg, err));
    c->q_rank = q_rank;
    c->group_rank = group_rank;
    c->index_top = top;
    c->rate[COMPRESS_SPARSE] = rate4;
    c->rate[COMPRESS_HEAVY] = rate128;
    cfg->stream_width = cfg->hyper.copies * cfg->hidden;
    for (int i = 0; i < cfg->layers; i++)
        cfg->window[i] = window;
    return read_kinds(config, a, cfg, err);
}

/* ---- a layer's tensors ---- */

/* Experts of every token id. */
static Status take_hash(Open *o, int layer, LayerTensors *t)
{
    const ModelConfig *c = &o->m->cfg;
    char name[64];
    snprintf(name, sizeof name, "%s%d.ffn.gate.tid2eid", open_layers_prefix(o), layer);
    const TensorInfo *h = t->hash = checkpoint_find(o->m->ckpt, name);
    if (!h)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is missing", open_file_of(o, NULL), name);
    if (h->dtype != DT_I64 && h->dtype != DT_I32)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' is %s: only I64 and I32 tables of experts can be used",
                         open_file_of(o, h), name, dtype_name(h->dtype));
    if (h->ndim != 2 || h->shape[0] != c->vocab || h->shape[1] != c->moe.top_k)
        return error_set(o->err, ST_DATA, "'%s': tensor '%s' must have the shape [%lld,%d] (vocab_size, "
                         "num_experts_per_tok)", open_file_of(o, h), name, (long long)c->vocab, c->moe.top_k);
    return map_add(&o->used, h->name, strlen(h->name), 0, NULL) ? ST_OK : error_nomem(o->err, "the model's tensors");
}

/* A compressor `dim` wide, as module attn.`of`compressor. */
static Status take_compressor(Open *o, int layer, const char *of, int64_t dim, int32_t input, int32_t *kv,
                              int32_t *gate, const TensorInfo **norm, const TensorInfo **ape)
{
    const CompressConfig *c = &o->m->cfg.compress;
    int kind = c->kind[layer];
    int64_t out = kind == COMPRESS_SPARSE ? 2 * dim : dim, h = o->m->cfg.hidden;
    const char *keys = *of ? "index_head_dim, hidden_size" : "head_dim, hidden_size";
    char module[48], name[64];
    snprintf(module, sizeof module, "attn.%scompressor", of);
    RETURN_IF_ERROR(open_linear(o, layer, module, "wkv", LK_OTHER, out, h, keys, input, kv));
    RETURN_IF_ERROR(open_linear(o, layer, module, "wgate", LK_OTHER, out, h, keys, input, gate));
    snprintf(name, sizeof name, "%s.ape", module);
    RETURN_IF_ERROR(open_layer_take(o, layer, name, c->rate[kind], out, keys, ape));
    snprintf(name, sizeof name, "%s.norm.weight", module);
    return open_layer_take(o, layer, name, dim, 0, keys, norm);
}

static Status take_linears(Open *o, int layer, LayerTensors *t)
{
    const ModelConfig *m = &o->m->cfg;
    const CompressConfig *c = &m->compress;
    int64_t h = m->hidden, q = (int64_t)m->heads * m->head_dim, index = (int64_t)c->index_heads * c->index_dim;
    const char *a = "attn", *ix = "attn.indexer", *q_keys = "num_attention_heads x head_dim, q_lora_rank";
    RETURN_IF_ERROR(open_linear(o, layer, a, "wq_a", LK_OTHER, c->q_rank, h, "q_lora_rank, hidden_size", -1, &t->q_a));
    RETURN_IF_ERROR(open_linear(o, layer, a, "wq_b", LK_Q, q, c->q_rank, q_keys, -1, &t->q));
    RETURN_IF_ERROR(open_linear(o, layer, a, "wkv", LK_OTHER, m->head_dim, h, "head_dim, hidden_size", t->q_a,
                                &t->kv_a));
    RETURN_IF_ERROR(open_linear(o, layer, a, "wo_a", LK_OTHER, c->groups * c->group_rank, q / c->groups,
                                "o_groups x o_lora_rank, num_attention_heads x head_dim / o_groups", -1, &t->o_a));
    o->m->linears[t->o_a].groups = c->groups;
    RETURN_IF_ERROR(open_linear(o, layer, a, "wo_b", LK_O, h, c->groups * c->group_rank,
                                "hidden_size, o_groups x o_lora_rank", -1, &t->o));
    if (c->kind[layer] == COMPRESS_NONE)
        return ST_OK;
    RETURN_IF_ERROR(take_compressor(o, layer, "", m->head_dim, t->q_a, &t->comp_kv, &t->comp_gate, &t->comp_norm,
                                    &t->comp_ape));
    if (c->kind[layer] != COMPRESS_SPARSE)
        return ST_OK;
    RETURN_IF_ERROR(open_linear(o, layer, ix, "wq_b", LK_OTHER, index, c->q_rank,
                                "index_n_heads x index_head_dim, q_lora_rank", t->q, &t->index_q));
    RETURN_IF_ERROR(open_linear(o, layer, ix, "weights_proj", LK_OTHER, c->index_heads, h, "index_n_heads, hidden_size",
                                t->q_a, &t->index_w));
    return take_compressor(o, layer, "indexer.", c->index_dim, t->q_a, &t->index_comp_kv, &t->index_comp_gate,
                           &t->index_comp_norm, &t->index_comp_ape);
}

static Status take(Open *o, int layer, LayerTensors *t)
{
    const ModelConfig *m = &o->m->cfg;
    int64_t n = m->hyper.copies;
    const struct {
        const char *name;
        int64_t n;
        const char *keys;
        const TensorInfo **to;
    } vectors[] = {
        {"attn_norm.weight", m->hidden, "hidden_size", &t->input_norm},
        {"ffn_norm.weight", m->hidden, "hidden_size", &t->post_norm},
        {"attn.q_norm.weight", m->compress.q_rank, "q_lora_rank", &t->q_a_norm},
        {"attn.kv_norm.weight", m->head_dim, "head_dim", &t->kv_a_norm},
        {"attn.attn_sink", m->heads, "num_attention_heads", &t->sinks},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        RETURN_IF_ERROR(open_layer_take(o, layer, vectors[i].name, vectors[i].n, 0, vectors[i].keys, vectors[i].to));
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%d.hc_%s", open_layers_prefix(o), layer, i ? "ffn" : "attn");
        RETURN_IF_ERROR(open_hyper(o, name, n * (2 + n), 3, t->hyper[i]));
    }
    if (layer < m->moe.hash_layers)
        RETURN_IF_ERROR(take_hash(o, layer, t));
    return take_linears(o, layer, t);
}

/* DeepSeek-V4: hyper-connections instead of a residual stream; attention over a window and over compressed keys;
 * the first layers choose experts by the token's id. */
const Arch arch_deepseek_v4 = {
    .model_type = "deepseek_v4",
    .title = "DeepSeek V4",
    .norm = NORM_LATE,
    .head_dim_from_config = true,
    .default_head_dim = 512,
    .bare_names = true,
    .act = ACT_SILU_CLAMPED,
    .moe = &rule,
    .default_theta = 10000,
    .default_eps = 1e-6,
    .names = names,
    .read = read,
    .take = take,
};
