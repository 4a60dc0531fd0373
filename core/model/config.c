#include "model/config.h"

#include <math.h>
#include <string.h>

#include "base/ascii.h"

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

cJSON *config_text(cJSON *root)
{
    static const char *const nested[] = {"text_config", "llm_config", "language_config", "thinker_config"};
    for (int depth = 0; depth < 3; depth++) {
        if (json_get(root, "hidden_size") && (json_get(root, "num_hidden_layers") || json_get(root, "num_layers")))
            break;
        cJSON *inner = NULL;
        for (size_t i = 0; i < sizeof nested / sizeof *nested && !cJSON_IsObject(inner); i++)
            inner = cJSON_GetObjectItemCaseSensitive(root, nested[i]);
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

Status config_size(const cJSON *config, const char *key, int64_t max, int64_t *out, Error *err)
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

const char *config_key(const char *own, const char *usual)
{
    return own ? own : usual;
}

Status config_count(const cJSON *config, const char *key, int64_t least, int64_t max, int *out, Error *err)
{
    int64_t v = *out;
    RETURN_IF_ERROR(json_int(config, key, &v, NULL, err));
    if (v < least || v > max)
        return error_set(err, ST_DATA, "'%s' must be between %lld and %lld, not %lld", key, (long long)least,
                         (long long)max, (long long)v);
    *out = (int)v;
    return ST_OK;
}

/* Whether every layer has experts: then nothing needs intermediate_size. */
static bool no_dense_layer(const Arch *arch)
{
    const BlockSpec *moe = arch_block(arch, &block_moe);
    return moe && ((const MoeRule *)moe->how)->layers == MOE_ALL;
}

static Status read_sizes(const cJSON *config, const Arch *arch, ModelConfig *cfg, Error *err)
{
    int64_t layers = 0, heads = 0, kv, head_dim;
    bool latent = arch_block(arch, &block_mla) != NULL; /* has sizes of its own for heads */
    RETURN_IF_ERROR(config_size(config, "hidden_size", CONFIG_WIDTH_MAX, &cfg->hidden, err));
    if (arch->ffn_key || !no_dense_layer(arch) || json_get(config, "intermediate_size"))
        RETURN_IF_ERROR(config_size(config, config_key(arch->ffn_key, "intermediate_size"), CONFIG_WIDTH_MAX,
                                    &cfg->inter, err));
    RETURN_IF_ERROR(config_size(config, "vocab_size", CONFIG_WIDTH_MAX, &cfg->vocab, err));
    RETURN_IF_ERROR(config_size(config, config_key(arch->layers_key, "num_hidden_layers"), CONFIG_LAYERS_MAX, &layers,
                                err));
    RETURN_IF_ERROR(config_size(config, "num_attention_heads", CONFIG_HEADS_MAX, &heads, err));
    kv = heads;
    RETURN_IF_ERROR(config_size(config, "num_key_value_heads", CONFIG_HEADS_MAX, &kv, err));
    if (heads % kv && !latent)
        return error_set(err, ST_DATA, "'num_attention_heads' %lld is no multiple of 'num_key_value_heads' %lld",
                         (long long)heads, (long long)kv);
    head_dim = arch->default_head_dim ? arch->default_head_dim : cfg->hidden / heads;
    if (!json_get(config, "head_dim") && !arch->default_head_dim && !latent && cfg->hidden % heads)
        return error_set(err, ST_DATA,
                         "'hidden_size' %lld is no multiple of 'num_attention_heads' %lld and there is no 'head_dim'",
                         (long long)cfg->hidden, (long long)heads);
    RETURN_IF_ERROR(config_size(config, "head_dim", CONFIG_HEADS_MAX, &head_dim, err));
    if (json_get(config, "max_position_embeddings"))
        RETURN_IF_ERROR(config_size(config, "max_position_embeddings", CONFIG_WIDTH_MAX, &cfg->max_positions, err));
    cfg->layers = (int)layers;
    cfg->heads = (int)heads;
    cfg->kv_heads = (int)kv;
    cfg->head_dim = (int)head_dim;
    cfg->v_dim = cfg->head_dim;
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
    if (*found && strncmp(s, "torch.", 6) == 0)
        s += 6;
    if (*found && (strcmp(s, "auto") == 0 || strncmp(s, "float8_", 7) == 0)) /* that of the tensors that aren't coded */
        *found = false;
    if (!*found)
        return ST_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, s) == 0) {
            *dtype = names[i].dtype;
            return ST_OK;
        }
    return error_set(err, ST_DATA, "'%s' is '%s': supported are float32, bfloat16 and float16", key, s);
}

Status config_layer_list(const cJSON *config, const char *key, const ModelConfig *cfg, const cJSON **list, Error *err)
{
    *list = json_get(config, key);
    if (*list && (!cJSON_IsArray(*list) || cJSON_GetArraySize(*list) != cfg->layers))
        return error_set(err, ST_DATA, "'%s' must be a list with an entry for each of the %d layers", key, cfg->layers);
    return ST_OK;
}

Status config_layer_types(const cJSON *config, int64_t window, ModelConfig *cfg, bool *found, Error *err)
{
    const cJSON *list, *v;
    *found = json_get(config, "layer_types") != NULL;
    RETURN_IF_ERROR(config_layer_list(config, "layer_types", cfg, &list, err));
    if (!list)
        return ST_OK;
    int i = 0;
    cJSON_ArrayForEach(v, list)
    {
        const char *s = config_layer_word(v);
        bool sliding = strcmp(s, "sliding_attention") == 0;
        bool full = strcmp(s, "full_attention") == 0 ||
                    (cfg->index.heads && strcmp(s, "indexed_attention") == 0);
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

Status config_window_list(Arena *a, ModelConfig *cfg, Error *err)
{
    size_t n = (size_t)cfg->layers + 1; /* that of multi-token prediction has no window */
    cfg->window = arena_alloc(a, n * sizeof *cfg->window);
    if (!cfg->window)
        return error_nomem(err, "the model's layers");
    memset(cfg->window, 0, n * sizeof *cfg->window);
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

/* What every kind of block of the row reads, in the row's order; each kind once. */
static Status read_blocks(const cJSON *config, const Arch *arch, Arena *a, ModelConfig *cfg, Error *err)
{
    for (const BlockSpec *s = arch->blocks; s->type; s++)
        if (s->type->read && arch_block(arch, s->type) == s)
            RETURN_IF_ERROR(s->type->read(config, arch, s, a, cfg, err));
    if (!(cfg->attn_scale > 0))
        cfg->attn_scale = 1.0 / sqrt((double)cfg->head_dim);
    return ST_OK;
}

Status config_read(const cJSON *config, const Arch *arch, bool known, Arena *a, ModelConfig *cfg, bool *has_dtype,
                   Error *err)
{
    if (!known)
        RETURN_IF_ERROR(refuse_foreign(config, cfg->model_type, err));
    RETURN_IF_ERROR(read_sizes(config, arch, cfg, err));
    cfg->stream_width = cfg->hidden;
    cfg->eps = arch->default_eps;
    cfg->norm = arch->norm;
    RETURN_IF_ERROR(json_num(config, "rms_norm_eps", &cfg->eps, NULL, err));
    if (!(cfg->eps >= 0 && cfg->eps < 1))
        return error_set(err, ST_DATA, "'rms_norm_eps' must be between 0 and 1, not %g", cfg->eps);
    cfg->act = arch->act;
    cfg->tied = arch->exit.tied;
    if (arch->act != ACT_SWIGLU_CLAMPED && arch->act != ACT_SILU_CLAMPED) /* whatever hidden_act says */
        RETURN_IF_ERROR(read_activation(config, &cfg->act, err));
    RETURN_IF_ERROR(read_blocks(config, arch, a, cfg, err));
    if (arch->exit.softcap)
        RETURN_IF_ERROR(json_num(config, "final_logit_softcapping", &cfg->final_softcap, NULL, err));
    if (!(cfg->attn_softcap >= 0 && cfg->final_softcap >= 0))
        return error_set(err, ST_DATA, "'attn_logit_softcapping' and 'final_logit_softcapping' must be positive");
    RETURN_IF_ERROR(json_bool(config, "tie_word_embeddings", &cfg->tied, NULL, err));
    RETURN_IF_ERROR(read_dtype(config, &cfg->dtype, has_dtype, err));
    if (!cfg->window) { /* no block had rules of its own */
        RETURN_IF_ERROR(config_window_list(a, cfg, err));
        RETURN_IF_ERROR(plain_windows(config, known, cfg, err));
    }
    return config_rope(config, arch, known, a, cfg, err);
}
