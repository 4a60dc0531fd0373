#include <math.h>
#include <string.h>

#include "model/config.h"

static const struct {
    const char *name;
    RopeType type;
} rope_types[] = {
    {"default", ROPE_DEFAULT}, {"linear", ROPE_LINEAR}, {"dynamic", ROPE_DYNAMIC},   {"llama3", ROPE_LLAMA3},
    {"yarn", ROPE_YARN},       {"longrope", ROPE_LONGROPE}, {"su", ROPE_LONGROPE},
};

/* The places a rope key may stand in, the first that has it wins. */
typedef struct RopeKeys {
    const cJSON *dict; /* rope_scaling or rope_parameters, NULL when neither is there */
    const cJSON *config;
    double share; /* partial_rotary_factor when it isn't given */
    bool partial; /* the family has partial_rotary_factor */
    int64_t original_max; /* original_max_position_embeddings when it isn't given */
} RopeKeys;

/* Looks the dict up. `part`: the entry of a dict nested by layer type that is wanted, NULL when the family has none. */
static Status rope_dict(const cJSON *config, const char *part, RopeKeys *k, Error *err)
{
    const char *name = "rope_scaling";
    k->config = config;
    k->dict = json_get(config, name);
    if (!k->dict) {
        name = "rope_parameters";
        k->dict = json_get(config, name);
    }
    if (!k->dict)
        return ST_OK;
    if (!cJSON_IsObject(k->dict))
        return error_set(err, ST_DATA, "'%s' must be an object", name);
    const cJSON *v, *inner = part ? json_get(k->dict, part) : NULL;
    if (cJSON_IsObject(inner))
        k->dict = inner;
    cJSON_ArrayForEach(v, k->dict)
    {
        if (cJSON_IsObject(v))
            return error_set(err, ST_DATA, "'%s.%s': rope parameters for each layer type are not supported", name,
                             v->string);
    }
    return ST_OK;
}

static Status rope_type(const RopeKeys *k, RopeType *type, Error *err)
{
    const char *s = "default";
    bool found = false;
    if (k->dict) {
        RETURN_IF_ERROR(json_str(k->dict, "rope_type", &s, &found, err));
        if (!found)
            RETURN_IF_ERROR(json_str(k->dict, "type", &s, NULL, err));
    }
    if (strcmp(s, "mrope") == 0 && json_get(k->dict, "mrope_section")) /* of text alone its three positions are one */
        s = "default";
    for (size_t i = 0; i < sizeof rope_types / sizeof *rope_types; i++)
        if (strcmp(rope_types[i].name, s) == 0) {
            *type = rope_types[i].type;
            if (*type == ROPE_YARN && json_get(k->dict, "short_factor")) /* Phi-3's first name for longrope */
                *type = ROPE_LONGROPE;
            return ST_OK;
        }
    return error_set(err, ST_DATA,
                     "'rope_type' is '%s': supported are default, linear, dynamic, llama3, yarn, longrope", s);
}

/* A positive number, from the dict or (`top`) from the top level; 0 where absent, when that is allowed. */
static Status positive(const RopeKeys *k, const char *key, bool top, double *out, bool *found, Error *err)
{
    *found = false;
    if (k->dict)
        RETURN_IF_ERROR(json_num(k->dict, key, out, found, err));
    if (!*found && top)
        RETURN_IF_ERROR(json_num(k->config, key, out, found, err));
    if (*found && !(*out > 0))
        return error_set(err, ST_DATA, "rope: '%s' must be positive, not %g", key, *out);
    return ST_OK;
}

static Status factor_list(const RopeKeys *k, const char *key, int n, Arena *a, double **out, Error *err)
{
    const cJSON *list = json_get(k->dict, key), *v;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != n)
        return error_set(err, ST_DATA,
                         "longrope: '%s' must be a list of %d numbers (half the rotated dimensions), found %d", key, n,
                         cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0);
    *out = arena_alloc(a, (size_t)n * sizeof **out);
    if (!*out)
        return error_nomem(err, key);
    int i = 0;
    cJSON_ArrayForEach(v, list)
    {
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble) || v->valuedouble <= 0)
            return error_set(err, ST_DATA, "longrope: '%s' must hold positive numbers", key);
        (*out)[i++] = v->valuedouble;
    }
    return ST_OK;
}

/* Rotated dimensions of a head: all, or in families that have it the share partial_rotary_factor gives. Of others'
 * embeddings the plain one ignores the key and those that are scaled do not go with it. */
static Status rotated_dims(const RopeKeys *k, const ModelConfig *cfg, RopeType type, int *dim, Error *err)
{
    double share = k->share;
    bool found;
    int all = cfg->mla.kv_rank ? cfg->mla.rope : cfg->head_dim;
    if (cfg->compress.kind) {
        *dim = cfg->compress.rope;
        return ST_OK;
    }
    RETURN_IF_ERROR(positive(k, "partial_rotary_factor", true, &share, &found, err));
    if (found && !k->partial) {
        if (share != 1 && type != ROPE_DEFAULT)
            return error_set(err, ST_DATA, "'partial_rotary_factor' is %g, but this family rotates whole heads", share);
        share = k->share;
    }
    if (!found && k->partial) { /* MiniMax gives the number itself */
        double dims;
        RETURN_IF_ERROR(positive(k, "rotary_dim", true, &dims, &found, err));
        share = found ? dims / all : share;
    }
    *dim = share <= 1 ? (int)(all * share) : 0;
    if (*dim < 2 || *dim % 2)
        return error_set(err, ST_DATA,
                         "rope: %g of head_dim %d must be an even number of dimensions, at least 2 and at most all",
                         share, all);
    return ST_OK;
}

static Status missing_positions(RopeType type, Error *err)
{
    return error_set(err, ST_DATA, "'max_position_embeddings' is missing: rope type %s needs it", rope_types[type].name);
}

/* original_max_position_embeddings and factor, which stand in for each other. */
static Status rope_extent(const RopeKeys *k, const ModelConfig *cfg, RopeParams *r, Error *err)
{
    static const char orig_key[] = "original_max_position_embeddings";
    bool orig = false, has_factor = false;
    /* a top-level key is Phi-3's, and wins there */
    RETURN_IF_ERROR(json_int(k->config, orig_key, &r->original_max, &orig, err));
    if (!orig)
        RETURN_IF_ERROR(json_int(k->dict, orig_key, &r->original_max, &orig, err));
    if (!orig)
        r->original_max = k->original_max ? k->original_max : cfg->max_positions;
    if (!orig && !r->original_max)
        return missing_positions(r->type, err);
    if (r->original_max <= 0)
        return error_set(err, ST_DATA, "rope: '%s' must be positive, not %lld", orig_key, (long long)r->original_max);
    if (!orig && r->type == ROPE_LLAMA3)
        return error_set(err, ST_DATA, "rope type llama3 needs '%s'", orig_key);
    RETURN_IF_ERROR(positive(k, "factor", false, &r->factor, &has_factor, err));
    if ((!has_factor || r->type == ROPE_DYNAMIC) && !cfg->max_positions)
        return missing_positions(r->type, err);
    if (!has_factor && (r->type == ROPE_YARN || r->type == ROPE_LONGROPE))
        r->factor = (double)cfg->max_positions / (double)r->original_max;
    else if (!has_factor)
        return error_set(err, ST_DATA, "rope type %s needs 'factor'", rope_types[r->type].name);
    return ST_OK;
}

static Status rope_llama3(const RopeKeys *k, RopeParams *r, Error *err)
{
    bool low, high;
    RETURN_IF_ERROR(positive(k, "low_freq_factor", false, &r->low_freq_factor, &low, err));
    RETURN_IF_ERROR(positive(k, "high_freq_factor", false, &r->high_freq_factor, &high, err));
    if (!low || !high || r->high_freq_factor <= r->low_freq_factor)
        return error_set(err, ST_DATA, "rope type llama3 needs 'low_freq_factor' and a larger 'high_freq_factor'");
    return ST_OK;
}

static Status rope_yarn(const RopeKeys *k, RopeParams *r, Error *err)
{
    RETURN_IF_ERROR(json_num(k->dict, "beta_fast", &r->beta_fast, NULL, err));
    RETURN_IF_ERROR(json_num(k->dict, "beta_slow", &r->beta_slow, NULL, err));
    if (r->beta_fast == 0)
        r->beta_fast = 32;
    if (r->beta_slow == 0)
        r->beta_slow = 1;
    if (r->beta_fast < 0 || r->beta_slow < 0)
        return error_set(err, ST_DATA, "rope: 'beta_fast' and 'beta_slow' must be positive");
    RETURN_IF_ERROR(json_num(k->dict, "mscale", &r->mscale, NULL, err));
    RETURN_IF_ERROR(json_num(k->dict, "mscale_all_dim", &r->mscale_all_dim, NULL, err));
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(k->dict, "truncate")))
        r->truncate = false; /* as the library's test of it has it */
    return json_bool(k->dict, "truncate", &r->truncate, NULL, err);
}

static Status rope_params(const RopeKeys *k, double theta, Arena *a, const ModelConfig *cfg, RopeParams *r, Error *err)
{
    bool found;
    *r = (RopeParams){.theta = theta, .factor = 1, .beta_fast = 32, .beta_slow = 1, .truncate = true,
                      .original_max = cfg->max_positions};
    RETURN_IF_ERROR(rope_type(k, &r->type, err));
    RETURN_IF_ERROR(positive(k, "rope_theta", true, &r->theta, &found, err));
    RETURN_IF_ERROR(rotated_dims(k, cfg, r->type, &r->dim, err));
    if (r->type == ROPE_DEFAULT)
        return ST_OK;
    RETURN_IF_ERROR(rope_extent(k, cfg, r, err));
    if (r->type == ROPE_LLAMA3)
        RETURN_IF_ERROR(rope_llama3(k, r, err));
    if (r->type == ROPE_YARN || r->type == ROPE_LONGROPE)
        RETURN_IF_ERROR(positive(k, "attention_factor", false, &r->attention_factor, &r->has_attention_factor, err));
    if (r->type == ROPE_YARN)
        RETURN_IF_ERROR(rope_yarn(k, r, err));
    if (r->type == ROPE_LONGROPE) {
        RETURN_IF_ERROR(factor_list(k, "short_factor", r->dim / 2, a, &r->short_factor, err));
        RETURN_IF_ERROR(factor_list(k, "long_factor", r->dim / 2, a, &r->long_factor, err));
    }
    return ST_OK;
}

/* The embedding of layers with a window: an entry of its own in a nested dict, or rope_local_base_freq alone. */
static Status rope_local(const cJSON *config, Arena *a, ModelConfig *cfg, Error *err)
{
    static const char part[] = "sliding_attention";
    RopeKeys k = {.share = 1};
    double theta = 10000;
    bool found;
    RETURN_IF_ERROR(rope_dict(config, part, &k, err));
    const cJSON *outer = json_get(config, "rope_scaling");
    outer = outer ? outer : json_get(config, "rope_parameters");
    if (outer && cJSON_IsObject(json_get(outer, part)))
        return rope_params(&k, theta, a, cfg, &cfg->rope_local, err);
    k.dict = NULL;
    RETURN_IF_ERROR(positive(&k, "rope_local_base_freq", true, &theta, &found, err));
    cfg->rope_local = (RopeParams){.theta = theta, .factor = 1, .original_max = cfg->max_positions};
    return rotated_dims(&k, cfg, ROPE_DEFAULT, &cfg->rope_local.dim, err);
}

/* One entry of a dict nested by layer type, or the flat dict for `part` when it stands for it; theta comes from
 * `key` at the top level unless the entry has its own. */
static Status rope_part(const cJSON *config, const char *part, bool flat, const char *key, double theta, Arena *a,
                        ModelConfig *cfg, RopeParams *out, Error *err)
{
    RopeKeys k = {.share = 1};
    bool found;
    RETURN_IF_ERROR(rope_dict(config, part, &k, err));
    const cJSON *outer = json_get(config, "rope_scaling");
    outer = outer ? outer : json_get(config, "rope_parameters");
    bool nested = outer && k.dict != outer;
    RETURN_IF_ERROR(positive(&(RopeKeys){.config = config}, key, true, &theta, &found, err));
    if (!nested && !flat)
        k.dict = NULL;
    RETURN_IF_ERROR(rope_params(&k, theta, a, cfg, out, err));
    if (!nested || !json_get(k.dict, "rope_theta"))
        out->theta = theta;
    if (!out->has_attention_factor) {
        out->has_attention_factor = true;
        out->attention_factor = 1;
    }
    return ST_OK;
}

/* Layers with compressed keys have the scaled embedding, those with a window alone a plain one. */
static Status rope_compressed(const cJSON *config, Arena *a, ModelConfig *cfg, Error *err)
{
    RETURN_IF_ERROR(rope_part(config, "compress", true, "compress_rope_theta", 160000, a, cfg, &cfg->rope, err));
    return rope_part(config, "main", false, "rope_theta", 10000, a, cfg, &cfg->rope_local, err);
}

Status config_rope(const cJSON *config, const Arch *arch, bool known, Arena *a, ModelConfig *cfg, Error *err)
{
    RopeKeys k = {.share = arch->partial_rotary > 0 ? arch->partial_rotary : 1,
                  .partial = arch->partial_rotary > 0 || !known, .original_max = arch->original_max};
    if (cfg->compress.kind)
        return rope_compressed(config, a, cfg, err);
    RETURN_IF_ERROR(rope_dict(config, cfg->rope_apart ? "full_attention" : NULL, &k, err));
    RETURN_IF_ERROR(rope_params(&k, arch->default_theta, a, cfg, &cfg->rope, err));
    const RopeParams *r = &cfg->rope;
    if (cfg->mla.kv_rank && r->type != ROPE_DEFAULT && r->mscale_all_dim != 0) {
        double m = r->factor > 1 ? 0.1 * r->mscale_all_dim * log(r->factor) + 1 : 1;
        cfg->attn_scale *= m * m;
    }
    return cfg->rope_apart ? rope_local(config, a, cfg, err) : ST_OK;
}
