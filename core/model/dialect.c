#include <string.h>

#include "model/config.h"

/* The dialects of config.json: names that the library's configuration classes take for the same, and keys that change
 * what a decoder computes in a way that none of ours does. */

/* Names of one value (attribute_map of the configuration classes of transformers 5): which of them a file has depends on
 * the release that saved it. */
static const char *const synonyms[][3] = {
    {"num_experts", "num_local_experts", "n_routed_experts"},
    {"num_experts_per_tok", "moe_topk"},
    {"moe_intermediate_size", "expert_ffn_hidden_size"},
    {"intermediate_size", "ffn_hidden_size"},
};

/* What the class of a type always does where another type of the same row has a key for it. */
static const struct {
    const char *model_type, *key;
} always[] = {{"qwen3_vl_moe_text", "norm_topk_prob"}};

static Status set_true(cJSON *config, const char *key, Error *err)
{
    cJSON_DeleteItemFromObjectCaseSensitive(config, key);
    return cJSON_AddTrueToObject(config, key) ? ST_OK : error_nomem(err, "config.json");
}

Status config_synonyms(cJSON *config, const char *model_type, Error *err)
{
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (strcmp(always[i].model_type, model_type) == 0)
            RETURN_IF_ERROR(set_true(config, always[i].key, err));
    enum { NAMES = sizeof synonyms[0] / sizeof *synonyms[0] };
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++) {
        const cJSON *found = NULL;
        for (int k = 0; k < NAMES && synonyms[i][k] && !found; k++)
            found = json_get(config, synonyms[i][k]);
        for (int k = 0; k < NAMES && synonyms[i][k] && found; k++) {
            if (json_get(config, synonyms[i][k]))
                continue;
            cJSON_DeleteItemFromObjectCaseSensitive(config, synonyms[i][k]); /* null */
            cJSON *copy = cJSON_Duplicate(found, true);
            if (!copy || !cJSON_AddItemToObject(config, synonyms[i][k], copy)) {
                cJSON_Delete(copy);
                return error_nomem(err, "config.json");
            }
        }
    }
    return ST_OK;
}

/* Words of layer_types that have a newer name (_LEGACY_LAYER_TYPE_REMAP of transformers 5). */
static const char *const renamed[][2] = {
    {"attention", "full_attention"},
    {"mamba", "linear_attention"},
    {"deepseek_sparse_attention", "indexed_attention"},
    {"qwen_sparse_attention", "indexed_attention"},
};

const char *config_layer_word(const cJSON *entry)
{
    if (!cJSON_IsString(entry))
        return "(no string)";
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++)
        if (strcmp(renamed[i][0], entry->valuestring) == 0)
            return renamed[i][1];
    return entry->valuestring;
}

/* ---- keys that change the computation ---- */

/* Of a key that no row of ours follows: the value at which it changes nothing, and what it does at another. A true
 * boolean is 1, a false one 0, anything else that is no number is no such value. */
typedef struct RefusedKey {
    const char *key;
    double neutral;
    const char *reason;
} RefusedKey;

/* In any file. */
static const RefusedKey refused[] = {
    {"use_bidirectional_attention", 0, "its tokens look at those behind them"},
    {"is_causal", 1, "its tokens look at those behind them"},
};

/* In rope_parameters or rope_scaling, and in the parts of it. */
static const RefusedKey refused_rope[] = {
    {"llama_4_scaling_beta", 0, "it scales queries by their position"},
    {"alpha", 1, "it changes the base of its rotary embedding in its own way"},
    {"short_mscale", 1, "it scales its rotary embedding in its own way"},
    {"long_mscale", 1, "it scales its rotary embedding in its own way"},
};

/* Keys of rope_parameters that are read, or that say nothing to a text of tokens alone. */
static const char *const known_rope[] = {
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor",
    "high_freq_factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate",
    "short_factor", "long_factor", "partial_rotary_factor", "mrope_section", "mrope_interleaved", "finetuned",
    "max_position_embeddings", NULL,
};

/* In a file of a type without a row: keys of the library that are read, or that do not touch what a decoder computes. */
static const char *const known_keys[] = {
    "_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "architectures", "attention_bias",
    "attention_dropout", "attribute_map", "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "chunk_size_feed_forward", "dtype", "embd_pdrop", "eos_token_id", "experts_implementation", "head_dim",
    "hidden_act", "hidden_activation", "hidden_dropout", "hidden_dropout_prob", "hidden_size", "id2label",
    "initializer_range", "intermediate_size", "is_decoder", "is_encoder_decoder", "label2id", "layer_types",
    "max_length", "max_position_embeddings", "max_window_layers", "min_length", "mlp_bias", "model_type",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "num_labels", "original_max_position_embeddings",
    "output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id", "partial_rotary_factor",
    "pretraining_tp", "problem_type", "qkv_bias", "quantization_config", "resid_pdrop", "return_dict", "rms_norm_eps",
    "rope_parameters", "rope_scaling", "rope_theta", "rotary_dim", "sep_token_id", "sliding_window", "task_specific_params",
    "tie_word_embeddings", "tokenizer_class", "torch_dtype", "transformers_version", "unk_token_id", "use_cache",
    "use_return_dict", "use_sliding_window", "vision_config", "vocab_size", NULL,
};

static bool listed(const char *const *list, const char *key)
{
    for (; *list; list++)
        if (strcmp(*list, key) == 0)
            return true;
    return false;
}

/* Whether a value may change something: not null, false, 0 nor a text. */
static bool may_matter(const cJSON *v)
{
    return cJSON_IsTrue(v) || (cJSON_IsNumber(v) && v->valuedouble != 0) || cJSON_IsArray(v) || cJSON_IsObject(v);
}

static Status refuse(const cJSON *o, const char *of, const RefusedKey *k, size_t n, Error *err)
{
    for (; n; n--, k++) {
        const cJSON *v = json_get(o, k->key);
        double value = cJSON_IsTrue(v) ? 1 : cJSON_IsFalse(v) ? 0 : v ? v->valuedouble : k->neutral;
        if (v && (value != k->neutral || !(cJSON_IsBool(v) || cJSON_IsNumber(v))))
            return error_set(err, ST_DATA, "'%s%s%s': %s, which is not built in", of, *of ? "." : "", k->key, k->reason);
    }
    return ST_OK;
}

/* Adds a key to the list of those that are not known. */
static void add_unknown(Str *keys, const char *of, const char *key)
{
    enum { SHOWN = 200 };
    if (keys->len < SHOWN)
        str_printf(keys, "%s%s%s%s", keys->len ? ", " : "", of, *of ? "." : "", key);
}

/* `dict`: rope_parameters or rope_scaling, or the part of it for one kind of layer. */
static Status judge_rope(const cJSON *dict, const char *name, Str *unknown, Error *err)
{
    const cJSON *v;
    RETURN_IF_ERROR(refuse(dict, name, refused_rope, sizeof refused_rope / sizeof *refused_rope, err));
    cJSON_ArrayForEach(v, dict)
    {
        if (cJSON_IsObject(v))
            RETURN_IF_ERROR(refuse(v, name, refused_rope, sizeof refused_rope / sizeof *refused_rope, err));
        else if (may_matter(v) && !listed(known_rope, v->string))
            add_unknown(unknown, name, v->string);
    }
    return ST_OK;
}

Status config_judge(const cJSON *config, bool known, Str *unknown, Error *err)
{
    static const char *const ropes[] = {"rope_parameters", "rope_scaling"};
    const cJSON *v;
    RETURN_IF_ERROR(refuse(config, "", refused, sizeof refused / sizeof *refused, err));
    for (size_t i = 0; i < sizeof ropes / sizeof *ropes; i++)
        if (cJSON_IsObject(json_get(config, ropes[i])))
            RETURN_IF_ERROR(judge_rope(json_get(config, ropes[i]), ropes[i], unknown, err));
    if (!known)
        cJSON_ArrayForEach(v, config)
        {
            if (may_matter(v) && !listed(known_keys, v->string))
                add_unknown(unknown, "", v->string);
        }
    return ST_OK;
}
