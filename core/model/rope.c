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
} RopeKeys;

static Status rope_dict(const cJSON *config, RopeKeys *k, Error *err)
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
    const cJSON *v;
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
    for (size_t i = 0; i < sizeof rope_types / sizeof *rope_types; i++)
        if (strcmp(rope_types[i].name, s) == 0) {
            *type = rope_types[i].type;
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

/* Rotated dimensions of a head: all, or the share partial_rotary_factor gives. */
static Status rotated_dims(const RopeKeys *k, const ModelConfig *cfg, int *dim, Error *err)
{
    double share = 1;
    bool found;
    RETURN_IF_ERROR(positive(k, "partial_rotary_factor", true, &share, &found, err));
    *dim = share <= 1 ? (int)(cfg->head_dim * share) : 0;
    if (*dim < 2 || *dim % 2)
        return error_set(err, ST_DATA,
                         "rope: %g of head_dim %d must be an even number of dimensions, at least 2 and at most all",
                         share, cfg->head_dim);
    return ST_OK;
}

/* original_max_position_embeddings and factor, which stand in for each other. */
static Status rope_extent(const RopeKeys *k, ModelConfig *cfg, Error *err)
{
    RopeParams *r = &cfg->rope;
    static const char orig_key[] = "original_max_position_embeddings";
    bool orig = false, has_factor = false;
    /* a top-level key is Phi-3's, and wins there */
    RETURN_IF_ERROR(json_int(k->config, orig_key, &r->original_max, &orig, err));
    if (!orig)
        RETURN_IF_ERROR(json_int(k->dict, orig_key, &r->original_max, &orig, err));
    if (!orig)
        r->original_max = cfg->max_positions;
    if (r->original_max <= 0)
        return error_set(err, ST_DATA, "rope: '%s' must be positive, not %lld", orig_key, (long long)r->original_max);
    if (!orig && r->type == ROPE_LLAMA3)
        return error_set(err, ST_DATA, "rope type llama3 needs '%s'", orig_key);
    RETURN_IF_ERROR(positive(k, "factor", false, &r->factor, &has_factor, err));
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
    return json_bool(k->dict, "truncate", &r->truncate, NULL, err);
}

Status config_rope(const cJSON *config, const Arch *arch, Arena *a, ModelConfig *cfg, Error *err)
{
    RopeParams *r = &cfg->rope;
    RopeKeys k;
    bool found;
    *r = (RopeParams){.theta = arch->default_theta, .factor = 1, .beta_fast = 32, .beta_slow = 1, .truncate = true,
                      .original_max = cfg->max_positions};
    RETURN_IF_ERROR(rope_dict(config, &k, err));
    RETURN_IF_ERROR(rope_type(&k, &r->type, err));
    RETURN_IF_ERROR(positive(&k, "rope_theta", true, &r->theta, &found, err));
    RETURN_IF_ERROR(rotated_dims(&k, cfg, &r->dim, err));
    if (r->type == ROPE_DEFAULT)
        return ST_OK;
    RETURN_IF_ERROR(rope_extent(&k, cfg, err));
    if (r->type == ROPE_LLAMA3)
        RETURN_IF_ERROR(rope_llama3(&k, r, err));
    if (r->type == ROPE_YARN || r->type == ROPE_LONGROPE)
        RETURN_IF_ERROR(positive(&k, "attention_factor", false, &r->attention_factor, &r->has_attention_factor, err));
    if (r->type == ROPE_YARN)
        RETURN_IF_ERROR(rope_yarn(&k, r, err));
    if (r->type == ROPE_LONGROPE) {
        RETURN_IF_ERROR(factor_list(&k, "short_factor", r->dim / 2, a, &r->short_factor, err));
        RETURN_IF_ERROR(factor_list(&k, "long_factor", r->dim / 2, a, &r->long_factor, err));
    }
    return ST_OK;
}
