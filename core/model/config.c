#include "model/config.h"

#include <math.h>
#include <string.h>

#include "base/ascii.h"
enum { MAX_LAYERS = 10000, MAX_HEADS = 1 << 16, MAX_POSITIONS_DEFAULT = 2048, MAX_EXPERTS = 100000 };
#define MAX_WIDTH (INT64_C(1) << 31)

/* Keys that, in a file of a type we have no row for, mean a decoder that computes something else than Llama's.
 * `neutral`: the value at which the key changes nothing. */
static const struct {
    const char *key;
    double neutral;
    const char *reason;
} foreign_keys[] = {
    {"num_experts", 0, "it is a mixture of experts"},
    {"num_local_experts", 0, "it is a mixture of experts"},
    {"n_routed_experts", 0, "it is a mixture of experts"},
    {"kv_lora_rank", 0, "it has multi-head latent attention (MLA)"},
    {"attn_logit_softcapping", 0, "it caps the attention scores"},
    {"final_logit_softcapping", 0, "it caps the logits"},
    {"query_pre_attn_scalar", 0, "it scales the attention scores in its own way"},
    {"attention_multiplier", 0, "it scales the attention scores in its own way"},
    {"embedding_multiplier", 1, "it scales the embeddings"},
    {"residual_multiplier", 1, "it scales what is added to the residual stream"},
    {"logits_scaling", 1, "it scales the logits"},
    {"logit_scale", 1, "it scales the logits"},
    {"scale_emb", 1, "it scales the embeddings"},
    {"scale_depth", 0, "it scales what is added to the residual stream"},
    {"layer_norm_eps", 0, "it has LayerNorm instead of RMSNorm"},
    {"norm_eps", 0, "its norms are not described by rms_norm_eps"},
    {"no_rope_layers", 0, "some of its layers have no rotary embedding"},
    {"no_rope_layer_interval", 0, "some of its layers have no rotary embedding"},
    {"rope_local_base_freq", 0, "its layers have different rotary embeddings"},
    {"sliding_window_pattern", 0, "its pattern of windows is not known"},
    {"use_parallel_residual", 0, "its attention and feed-forward blocks run side by side"},
    {"parallel_attn", 0, "its attention and feed-forward blocks run side by side"},
    {"use_qk_norm", 0, "it normalizes q and k in its own way"},
    {"clip_qkv", 0, "it clips q, k and v"},
};

/* Types whose files look like Llama's in keys and tensors and which still compute something else. */
static const struct {
    const char *model_type, *reason;
} foreign_types[] = {
    {"gemma", "its norms and embeddings are scaled differently"},
    {"cohere", "its blocks and rotary embeddings are laid out differently"},
    {"cohere2", "its blocks and rotary embeddings are laid out differently"},
    {"ernie4_5", "its rotary embeddings are laid out differently"},
    {"helium", "its rotary embeddings are laid out differently"},
    {"step3p5", "the gates of its heads and its mixture of experts are not built in"},
    {"step3_5_flash", "the gates of its heads and its mixture of experts are not built in"},
    {"Step-3.5-Flash", "the gates of its heads and its mixture of experts are not built in"},
};

const cJSON *config_text(const cJSON *root)
{
    static const char *const nested[] = {"text_config", "llm_config", "thinker_config"};
    for (int depth = 0; depth < 3 && !json_get(root, "hidden_size"); depth++) {
        const cJSON *inner = NULL;
        for (size_t i = 0; i < sizeof nested / sizeof *nested && !inner; i++)
            inner = json_get(root, nested[i]);
        if (!cJSON_IsObject(inner))
            break;
        root = inner;
    }
    return root;
}

Status config_model_type(const cJSON *config, char out[64], Error *err)
{
    const char *s = NULL;
    RETURN_IF_ERROR(json_str(config, "model_type", &s, NULL, err));
    bool from_class = !s || !*s;
    const cJSON *list = json_get(config, "architectures");
    if (from_class && cJSON_IsArray(list) && cJSON_IsString(list->child))
        s = list->child->valuestring;
    if (!s || !*s)
        return error_set(err, ST_DATA, "neither 'model_type' nor 'architectures' tells what model this is");
    size_t n = strlen(s);
    const char *tail = from_class ? strstr(s, "ForCausalLM") : NULL;
    if (tail)
        n = (size_t)(tail - s);
    if (n == 0 || n > 63)
        return error_set(err, ST_DATA, "the model type '%s' is no usable name", s);
    for (size_t i = 0; i < n; i++)
        out[i] = from_class ? (char)ascii_lower((unsigned char)s[i]) : s[i];
    out[n] = 0;
    return ST_OK;
}

/* A whole number in [1, max]; required unless *out is positive already. */
static Status size_key(const cJSON *config, const char *key, int64_t max, int64_t *out, Error *err)
{
    bool found;
    RETURN_IF_ERROR(json_int(config, key, out, &found, err));
    if (!found && *out <= 0)
        return error_set(err, ST_DATA, "'%s' is missing", key);
    if (*out < 1 || *out > max)
        return error_set(err, ST_DATA, "'%s' must be between 1 and %lld, not %lld", key, (long long)max,
                         (long long)*out);
    return ST_OK;
}

/* The family's own name of a key, or the usual one. */
static const char *or_key(const char *own, const char *usual)
{
    return own ? own : usual;
}

/* A number of type int under `key`, within [least, max]; *out keeps its value when the key is absent. */
static Status count_key(const cJSON *config, const char *key, int64_t least, int64_t max, int *out, Error *err)
{
    int64_t v = *out;
    RETURN_IF_ERROR(json_int(config, key, &v, NULL, err));
    if (v < least || v > max)
        return error_set(err, ST_DATA, "'%s' must be between %lld and %lld, not %lld", key, (long long)least,
                         (long long)max, (long long)v);
    *out = (int)v;
    return ST_OK;
}

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

static Status read_mla(const cJSON *config, const Arch *arch, ModelConfig *cfg, Error *err)
{
    MlaConfig *m = &cfg->mla;
    const cJSON *q = cJSON_GetObjectItemCaseSensitive(config, "q_lora_rank");
    *m = (MlaConfig){.q_rank = cJSON_IsNull(q) ? 0 : 1536, .kv_rank = 512, .nope = 128, .rope = 64, .v = 128,
                     .interleaved = true, .q_scale = 1, .kv_scale = 1};
    if (m->q_rank)
        RETURN_IF_ERROR(size_key(config, "q_lora_rank", MAX_WIDTH, &m->q_rank, err));
    RETURN_IF_ERROR(size_key(config, "kv_lora_rank", MAX_WIDTH, &m->kv_rank, err));
    RETURN_IF_ERROR(count_key(config, "qk_nope_head_dim", 0, MAX_HEADS, &m->nope, err));
    RETURN_IF_ERROR(count_key(config, "qk_rope_head_dim", 2, MLA_ROPE_MAX, &m->rope, err));
    RETURN_IF_ERROR(count_key(config, "v_head_dim", 1, MAX_HEADS, &m->v, err));
    RETURN_IF_ERROR(json_bool(config, "rope_interleave", &m->interleaved, NULL, err));
    cfg->kv_heads = cfg->heads;
    cfg->head_dim = m->nope + m->rope;
    cfg->v_dim = m->v;
    return arch->latent_scale ? read_latent_scales(config, cfg, err) : ST_OK;
}

/* Layers of linear attention: those layer_types names, else all but every full_attention_interval-th. */
static Status delta_layers(const cJSON *config, ModelConfig *cfg, Error *err)
{
    int step = 4, i = 0;
    RETURN_IF_ERROR(count_key(config, "full_attention_interval", 1, MAX_LAYERS, &step, err));
    for (i = 0; i < cfg->layers; i++)
        cfg->delta.layer[i] = (i + 1) % step != 0;
    const cJSON *list = json_get(config, "layer_types"), *v;
    if (!list)
        return ST_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != cfg->layers)
        return error_set(err, ST_DATA, "'layer_types' must be a list with an entry for each of the %d layers",
                         cfg->layers);
    i = 0;
    cJSON_ArrayForEach(v, list)
    {
        const char *s = cJSON_IsString(v) ? v->valuestring : "(no string)";
        cfg->delta.layer[i] = strcmp(s, "linear_attention") == 0;
        if (!cfg->delta.layer[i] && strcmp(s, "full_attention") != 0)
            return error_set(err, ST_DATA,
                             "'layer_types[%d]' is '%s': this family has linear_attention and full_attention", i, s);
        i++;
    }
    return ST_OK;
}

static Status read_delta(const cJSON *config, Arena *a, ModelConfig *cfg, Error *err)
{
    DeltaConfig *d = &cfg->delta;
    const struct {
        const char *key;
        int64_t max;
        int *to;
    } sizes[] = {
        {"linear_num_key_heads", MAX_HEADS, &d->key_heads},     {"linear_num_value_heads", MAX_HEADS, &d->value_heads},
        {"linear_key_head_dim", MAX_HEADS, &d->key_dim},        {"linear_value_head_dim", MAX_HEADS, &d->value_dim},
        {"linear_conv_kernel_dim", DELTA_KERNEL_MAX, &d->kernel},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t v = 0;
        RETURN_IF_ERROR(size_key(config, sizes[i].key, sizes[i].max, &v, err));
        *sizes[i].to = (int)v;
    }
    if (d->value_heads % d->key_heads)
        return error_set(err, ST_DATA, "'linear_num_value_heads' %d is no multiple of 'linear_num_key_heads' %d",
                         d->value_heads, d->key_heads);
    d->layer = arena_alloc(a, (size_t)cfg->layers * sizeof *d->layer);
    return d->layer ? delta_layers(config, cfg, err) : error_nomem(err, "the model's layers");
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
    RETURN_IF_ERROR(count_key(config, "index_topk_freq", 0, MAX_LAYERS, &freq, err));
    RETURN_IF_ERROR(count_key(config, "index_skip_topk_offset", 0, MAX_LAYERS, &offset, err));
    for (int i = 0; i < cfg->layers; i++)
        cfg->index.shared[i] = i > 0 && freq > 1 && i >= offset && (i - offset + 1) % freq != 0;
    return ST_OK;
}

/* The indexer of sparse attention, and which layers take over the choice of the one before (GLM: a list, letters F and
 * S, or every index_topk_freq-th layer with one of its own). */
static Status read_index(const cJSON *config, const Arch *arch, Arena *a, ModelConfig *cfg, Error *err)
{
    IndexConfig *x = &cfg->index;
    if (arch->indexer == INDEXER_NONE)
        return ST_OK;
    *x = (IndexConfig){.heads = 64, .dim = 128, .top_k = 2048, .interleaved = arch->indexer == INDEXER_PAIRS};
    RETURN_IF_ERROR(count_key(config, "index_n_heads", 1, MAX_HEADS, &x->heads, err));
    RETURN_IF_ERROR(count_key(config, "index_head_dim", cfg->mla.rope, MAX_HEADS, &x->dim, err));
    RETURN_IF_ERROR(size_key(config, "index_topk", MAX_WIDTH, &x->top_k, err));
    RETURN_IF_ERROR(json_bool(config, "indexer_rope_interleave", &x->interleaved, NULL, err));
    if (!cfg->mla.q_rank)
        return error_set(err, ST_DATA, "'q_lora_rank' is missing: the indexer's queries come from that latent");
    x->shared = arena_alloc(a, (size_t)cfg->layers * sizeof *x->shared);
    if (!x->shared)
        return error_nomem(err, "the model's layers");
    return shared_indexers(config, cfg, err);
}

static Status read_sizes(const cJSON *config, const Arch *arch, ModelConfig *cfg, Error *err)
{
    int64_t layers = 0, heads = 0, kv, head_dim;
    RETURN_IF_ERROR(size_key(config, "hidden_size", MAX_WIDTH, &cfg->hidden, err));
    if (arch->ffn_key || !arch->moe || arch->moe->layers != MOE_ALL || json_get(config, "intermediate_size"))
        RETURN_IF_ERROR(size_key(config, or_key(arch->ffn_key, "intermediate_size"), MAX_WIDTH, &cfg->inter, err));
    RETURN_IF_ERROR(size_key(config, "vocab_size", MAX_WIDTH, &cfg->vocab, err));
    RETURN_IF_ERROR(size_key(config, or_key(arch->layers_key, "num_hidden_layers"), MAX_LAYERS, &layers, err));
    RETURN_IF_ERROR(size_key(config, "num_attention_heads", MAX_HEADS, &heads, err));
    kv = heads;
    RETURN_IF_ERROR(size_key(config, "num_key_value_heads", MAX_HEADS, &kv, err));
    if (heads % kv && !arch->mla)
        return error_set(err, ST_DATA, "'num_attention_heads' %lld is no multiple of 'num_key_value_heads' %lld",
                         (long long)heads, (long long)kv);
    head_dim = arch->head_dim_from_config ? arch->default_head_dim : cfg->hidden / heads;
    if (!json_get(config, "head_dim") && !arch->head_dim_from_config && !arch->mla && cfg->hidden % heads)
        return error_set(err, ST_DATA,
                         "'hidden_size' %lld is no multiple of 'num_attention_heads' %lld and there is no 'head_dim'",
                         (long long)cfg->hidden, (long long)heads);
    RETURN_IF_ERROR(size_key(config, "head_dim", MAX_HEADS, &head_dim, err));
    cfg->max_positions = MAX_POSITIONS_DEFAULT;
    RETURN_IF_ERROR(size_key(config, "max_position_embeddings", MAX_WIDTH, &cfg->max_positions, err));
    cfg->layers = (int)layers;
    cfg->heads = (int)heads;
    cfg->kv_heads = (int)kv;
    cfg->head_dim = (int)head_dim;
    cfg->v_dim = cfg->head_dim;
    return arch->mla ? read_mla(config, arch, cfg, err) : ST_OK;
}

/* mlp_layer_types, which GLM-5 may give instead of first_k_dense_replace. */
static Status listed_moe_layers(const cJSON *list, ModelConfig *cfg, Error *err)
{
    const cJSON *v;
    int i = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != cfg->layers)
        return error_set(err, ST_DATA, "'mlp_layer_types' must be a list with an entry for each of the %d layers",
                         cfg->layers);
    cJSON_ArrayForEach(v, list)
    {
        const char *s = cJSON_IsString(v) ? v->valuestring : "(no string)";
        cfg->moe.layer[i] = strcmp(s, "sparse") == 0;
        if (!cfg->moe.layer[i++] && strcmp(s, "dense") != 0)
            return error_set(err, ST_DATA, "'mlp_layer_types[%d]' is '%s': supported are dense and sparse", i - 1, s);
    }
    return ST_OK;
}

/* Which layers have experts (specs/models.md 2.4). */
static Status moe_layers(const cJSON *config, const MoeRule *rule, ModelConfig *cfg, Error *err)
{
    int dense = 0, step = 1;
    if (rule->layers == MOE_AFTER_DENSE && json_get(config, "mlp_layer_types"))
        return listed_moe_layers(json_get(config, "mlp_layer_types"), cfg, err);
    if (rule->layers == MOE_AFTER_DENSE)
        RETURN_IF_ERROR(count_key(config, "first_k_dense_replace", 0, MAX_LAYERS, &dense, err));
    if (rule->layers == MOE_SPARSE_STEP)
        RETURN_IF_ERROR(count_key(config, "decoder_sparse_step", 1, MAX_LAYERS, &step, err));
    for (int i = 0; i < cfg->layers; i++)
        cfg->moe.layer[i] = i >= dense && (i + 1) % step == 0;
    const cJSON *list = rule->layers == MOE_SPARSE_STEP ? json_get(config, "mlp_only_layers") : NULL, *v;
    if (list && !cJSON_IsArray(list))
        return error_set(err, ST_DATA, "'mlp_only_layers' must be a list of layers");
    cJSON_ArrayForEach(v, list)
    {
        if (!cJSON_IsNumber(v))
            return error_set(err, ST_DATA, "'mlp_only_layers' must be a list of layers");
        if (v->valuedouble >= 0 && v->valuedouble < cfg->layers)
            cfg->moe.layer[(int)v->valuedouble] = false;
    }
    return ST_OK;
}

/* Number of groups the experts are chosen from. */
static Status moe_groups(const cJSON *config, const MoeRule *rule, MoeConfig *m, Error *err)
{
    const char *method = rule->group == GROUP_MAX ? "greedy" : "noaux_tc";
    m->groups = m->top_groups = 1;
    if (rule->group == GROUP_NONE)
        return ST_OK;
    RETURN_IF_ERROR(json_str(config, "topk_method", &method, NULL, err));
    if (rule->group == GROUP_MAX && strcmp(method, "greedy") == 0)
        return ST_OK;
    if (strcmp(method, rule->group == GROUP_MAX ? "group_limited_greedy" : "noaux_tc") != 0)
        return error_set(err, ST_DATA, "'topk_method' is '%s', which this family does not have", method);
    RETURN_IF_ERROR(count_key(config, "n_group", 1, m->experts, &m->groups, err));
    RETURN_IF_ERROR(count_key(config, "topk_group", 1, m->groups, &m->top_groups, err));
    int size = m->experts / m->groups;
    if (m->experts % m->groups || m->top_k > m->top_groups * size || (rule->group == GROUP_TOP2 && size < 2))
        return error_set(err, ST_DATA, "'n_group' %d and 'topk_group' %d do not fit %d experts of which %d are chosen",
                         m->groups, m->top_groups, m->experts, m->top_k);
    return ST_OK;
}

static Status read_moe(const cJSON *config, const Arch *arch, Arena *a, ModelConfig *cfg, Error *err)
{
    const MoeRule *rule = arch->moe;
    MoeConfig *m = &cfg->moe;
    int64_t experts = 0, top_k = 0;
    const char *zero = "identity";
    RETURN_IF_ERROR(size_key(config, rule->experts_key, MAX_EXPERTS, &experts, err));
    if (rule->zero_key)
        RETURN_IF_ERROR(count_key(config, rule->zero_key, 0, MAX_EXPERTS, &m->zero, err));
    RETURN_IF_ERROR(json_str(config, "zero_expert_type", &zero, NULL, err));
    if (m->zero && strcmp(zero, "identity") != 0)
        return error_set(err, ST_DATA, "'zero_expert_type' is '%s': supported is identity", zero);
    RETURN_IF_ERROR(size_key(config, or_key(rule->top_k_key, "num_experts_per_tok"), experts + m->zero, &top_k, err));
    RETURN_IF_ERROR(size_key(config, rule->inter_key, MAX_WIDTH, &m->inter, err));
    m->experts = (int)experts;
    m->top_k = (int)top_k;
    m->scale = 1;
    m->renorm = rule->renorm == RENORM_ALWAYS || (rule->renorm == RENORM_CONFIG && arch->renorm);
    if (rule->renorm == RENORM_CONFIG)
        RETURN_IF_ERROR(json_bool(config, "norm_topk_prob", &m->renorm, NULL, err));
    if (rule->scaled)
        RETURN_IF_ERROR(json_num(config, "routed_scaling_factor", &m->scale, NULL, err));
    m->act_limit = arch->act == ACT_SILU_CLAMPED ? 10 : 7;
    m->act_alpha = 1.702;
    RETURN_IF_ERROR(json_num(config, "swiglu_limit", &m->act_limit, NULL, err));
    RETURN_IF_ERROR(json_num(config, "swiglu_alpha", &m->act_alpha, NULL, err));
    if (!(m->act_limit > 0) || !isfinite(m->act_alpha))
        return error_set(err, ST_DATA, "'swiglu_limit' %g must be positive", m->act_limit);
    if (!isfinite(m->scale))
        return error_set(err, ST_DATA, "'routed_scaling_factor' must be a number");
    RETURN_IF_ERROR(moe_groups(config, rule, m, err));
    if (rule->shared && rule->shared_inter_key) {
        RETURN_IF_ERROR(size_key(config, rule->shared_inter_key, MAX_WIDTH, &m->shared_inter, err));
    } else if (rule->shared) {
        int n = 0;
        RETURN_IF_ERROR(count_key(config, "n_shared_experts", 0, MAX_EXPERTS, &n, err));
        if (n && m->inter > MAX_WIDTH / n)
            return error_set(err, ST_DATA, "'n_shared_experts' %d is too much", n);
        m->shared_inter = n * m->inter;
    }
    m->layer = arena_alloc(a, ((size_t)cfg->layers + 1) * sizeof *m->layer);
    if (!m->layer)
        return error_nomem(err, "the model's layers");
    m->layer[cfg->layers] = true; /* that of multi-token prediction */
    return moe_layers(config, rule, cfg, err);
}

/* Scales and caps of scores and logits; which projections are normed. */
static Status read_scores(const cJSON *config, const Arch *arch, ModelConfig *cfg, Error *err)
{
    double dims = cfg->head_dim;
    bool use = true;
    if (arch->score_scale_key)
        RETURN_IF_ERROR(json_num(config, "query_pre_attn_scalar", &dims, NULL, err));
    if (!(dims > 0))
        return error_set(err, ST_DATA, "'query_pre_attn_scalar' must be positive, not %g", dims);
    cfg->attn_scale = 1.0 / sqrt(dims);
    if (arch->softcaps) {
        RETURN_IF_ERROR(json_num(config, "attn_logit_softcapping", &cfg->attn_softcap, NULL, err));
        RETURN_IF_ERROR(json_num(config, "final_logit_softcapping", &cfg->final_softcap, NULL, err));
    }
    if (!(cfg->attn_softcap >= 0 && cfg->final_softcap >= 0))
        return error_set(err, ST_DATA, "'attn_logit_softcapping' and 'final_logit_softcapping' must be positive");
    if (arch->qk_norm_key) {
        use = false;
        RETURN_IF_ERROR(json_bool(config, "use_qk_norm", &use, NULL, err));
    }
    cfg->qk_norm = use ? arch->qk_norm : QK_NORM_NONE;
    return ST_OK;
}

static Status read_activation(const cJSON *config, Activation *act, Error *err)
{
    static const struct {
        const char *name;
        Activation act;
    } names[] = {{"silu", ACT_SILU},
                 {"swish", ACT_SILU},
                 {"gelu_pytorch_tanh", ACT_GELU_TANH},
                 {"gelu_new", ACT_GELU_TANH}};
    const char *s = NULL;
    bool found;
    RETURN_IF_ERROR(json_str(config, "hidden_activation", &s, &found, err));
    if (!found)
        RETURN_IF_ERROR(json_str(config, "hidden_act", &s, &found, err));
    if (!found)
        return ST_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, s) == 0) {
            *act = names[i].act;
            return ST_OK;
        }
    return error_set(err, ST_DATA, "'hidden_act' is '%s': supported are silu and gelu_pytorch_tanh", s);
}

static Status read_dtype(const cJSON *config, DType *dtype, bool *found, Error *err)
{
    static const struct {
        const char *name;
        DType dtype;
    } names[] = {{"float32", DT_F32}, {"bfloat16", DT_BF16}, {"float16", DT_F16}};
    const char *s = NULL, *key = "dtype";
    RETURN_IF_ERROR(json_str(config, key, &s, found, err));
    if (!*found) {
        key = "torch_dtype";
        RETURN_IF_ERROR(json_str(config, key, &s, found, err));
    }
    if (!*found)
        return ST_OK;
    if (strncmp(s, "torch.", 6) == 0)
        s += 6;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, s) == 0) {
            *dtype = names[i].dtype;
            return ST_OK;
        }
    return error_set(err, ST_DATA, "'%s' is '%s': supported are float32, bfloat16 and float16", key, s);
}

Status config_layer_types(const cJSON *config, int64_t window, ModelConfig *cfg, bool *found, Error *err)
{
    const cJSON *list = json_get(config, "layer_types"), *v;
    *found = list != NULL;
    if (!list)
        return ST_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != cfg->layers)
        return error_set(err, ST_DATA, "'layer_types' must be a list with an entry for each of the %d layers",
                         cfg->layers);
    int i = 0;
    cJSON_ArrayForEach(v, list)
    {
        const char *s = cJSON_IsString(v) ? v->valuestring : "(no string)";
        bool sliding = strcmp(s, "sliding_attention") == 0;
        bool full = strcmp(s, "full_attention") == 0 ||
                    (cfg->index.heads && strcmp(s, "deepseek_sparse_attention") == 0);
        if (!sliding && !full)
            return error_set(err, ST_DATA,
                             "'layer_types[%d]' is '%s': supported are full_attention and sliding_attention", i, s);
        if (sliding && window <= 0)
            return error_set(err, ST_DATA, "'layer_types[%d]' is sliding_attention, but no sliding_window is in use",
                             i);
        cfg->window[i++] = sliding ? window : 0;
    }
    return ST_OK;
}

Status config_windows(const cJSON *config, int64_t window, int pattern, ModelConfig *cfg, Error *err)
{
    bool listed;
    RETURN_IF_ERROR(json_int(config, "sliding_window", &window, NULL, err));
    if (window < 0 || (window == 0 && json_get(config, "sliding_window")))
        return error_set(err, ST_DATA, "'sliding_window' must be positive, not %lld", (long long)window);
    RETURN_IF_ERROR(config_layer_types(config, window, cfg, &listed, err));
    for (int i = 0; i < cfg->layers && !listed; i++)
        cfg->window[i] = pattern && (i + 1) % pattern == 0 ? 0 : window;
    return ST_OK;
}

Status config_windows_all(const cJSON *config, ModelConfig *cfg, Error *err)
{
    return config_windows(config, 0, 0, cfg, err);
}

/* Windows of a type without rules of its own: only an explicit list can be trusted. */
static Status plain_windows(const cJSON *config, bool known, ModelConfig *cfg, Error *err)
{
    int64_t window = 0;
    bool use = true, listed;
    if (!known) {
        RETURN_IF_ERROR(json_int(config, "sliding_window", &window, NULL, err));
        RETURN_IF_ERROR(json_bool(config, "use_sliding_window", &use, NULL, err));
    }
    RETURN_IF_ERROR(config_layer_types(config, use ? window : 0, cfg, &listed, err));
    if (!listed && use && window > 0)
        return error_set(err, ST_DATA,
                         "'sliding_window' is set, but which layers it holds for is known only for built-in types");
    return ST_OK;
}

/* Refuses a type without a row when a key says that it is no Llama. */
static Status refuse_foreign(const cJSON *config, const char *model_type, Error *err)
{
    for (size_t i = 0; i < sizeof foreign_types / sizeof *foreign_types; i++)
        if (strcmp(foreign_types[i].model_type, model_type) == 0)
            return error_set(err, ST_DATA, "%s", foreign_types[i].reason);
    for (size_t i = 0; i < sizeof foreign_keys / sizeof *foreign_keys; i++) {
        const cJSON *v = json_get(config, foreign_keys[i].key);
        if (!v || cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == foreign_keys[i].neutral))
            continue;
        return error_set(err, ST_DATA, "%s ('%s')", foreign_keys[i].reason, foreign_keys[i].key);
    }
    return ST_OK;
}

Status config_read(const cJSON *config, const Arch *arch, bool known, Arena *a, ModelConfig *cfg, bool *has_dtype,
                   Error *err)
{
    if (!known)
        RETURN_IF_ERROR(refuse_foreign(config, cfg->model_type, err));
    RETURN_IF_ERROR(read_sizes(config, arch, cfg, err));
    RETURN_IF_ERROR(read_index(config, arch, a, cfg, err));
    cfg->stream_width = cfg->hidden;
    cfg->eps = arch->default_eps;
    RETURN_IF_ERROR(json_num(config, "rms_norm_eps", &cfg->eps, NULL, err));
    if (!(cfg->eps >= 0 && cfg->eps < 1))
        return error_set(err, ST_DATA, "'rms_norm_eps' must be between 0 and 1, not %g", cfg->eps);
    cfg->act = arch->act;
    cfg->tied = arch->tied;
    if (arch->act != ACT_SWIGLU_CLAMPED && arch->act != ACT_SILU_CLAMPED) /* whatever hidden_act says */
        RETURN_IF_ERROR(read_activation(config, &cfg->act, err));
    RETURN_IF_ERROR(read_scores(config, arch, cfg, err));
    if (arch->moe)
        RETURN_IF_ERROR(read_moe(config, arch, a, cfg, err));
    RETURN_IF_ERROR(json_bool(config, "tie_word_embeddings", &cfg->tied, NULL, err));
    RETURN_IF_ERROR(read_dtype(config, &cfg->dtype, has_dtype, err));
    size_t layers = (size_t)cfg->layers + 1; /* that of multi-token prediction has no window */
    cfg->window = arena_alloc(a, layers * sizeof *cfg->window);
    if (!cfg->window)
        return error_nomem(err, "the model's layers");
    memset(cfg->window, 0, layers * sizeof *cfg->window);
    if (known && arch->delta)
        RETURN_IF_ERROR(read_delta(config, a, cfg, err)); /* and no windows */
    else if (known && arch->read)
        RETURN_IF_ERROR(arch->read(config, a, cfg, err)); /* its windows too */
    else if (known && arch->windows)
        RETURN_IF_ERROR(arch->windows(config, cfg, err));
    else
        RETURN_IF_ERROR(plain_windows(config, known, cfg, err));
    return config_rope(config, arch, a, cfg, err);
}
