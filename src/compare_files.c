/* compare measurements FILE FILE: what measure wrote as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "session/effectrecord.h"
#include "src/compare.h"

enum { DOCUMENT_MAX = 256 << 20 };

static double number_at(const cJSON *o, const char *key)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static double mean_of(const cJSON *root, const char *key)
{
    return number_at(json_get(root, key), "mean");
}

static Status fill(const cJSON *root, const char *path, MeasuredFile *out, Error *err)
{
    const cJSON *arith = json_get(root, "arithmetic"), *recipe = json_get(root, "recipe");
    double tokens = number_at(json_get(root, "evaluation"), "tokens"), predicted = number_at(root, "predicted_tokens");
    Effect *e = &out->effect;
    *e = (Effect){.kl_mean = mean_of(root, "kl"), .kl_se = number_at(json_get(root, "kl"), "se"),
                  .top1 = mean_of(root, "top1"), .ppl_float = mean_of(root, "perplexity_float"),
                  .ppl_quant = mean_of(root, "perplexity_quantized"), .whole = cJSON_IsTrue(json_get(root, "whole_set"))};
    bool good = isfinite(e->kl_mean) && isfinite(e->ppl_float) && isfinite(e->ppl_quant) && isfinite(e->top1) && tokens > 0 &&
                tokens < 1e15 && predicted > 0 && predicted <= tokens && cJSON_IsString(arith) &&
                arith_find(arith->valuestring, &e->arith);
    if (!good)
        return error_set(err, ST_DATA, "'%s' is no document that measure wrote with --format json", path);
    e->tokens = (int64_t)tokens;
    e->predicted = (int64_t)predicted;
    out->bytes = number_at(root, "bytes");
    str_puts(&out->recipe, cJSON_IsString(recipe) ? recipe->valuestring : "?");
    return blocks_parse(root, e, &out->blocks, err);
}

Status measured_file_read(const char *path, MeasuredFile *out, Error *err)
{
    cJSON *root;
    *out = (MeasuredFile){.blocks = NULL};
    RETURN_IF_ERROR(json_parse_file(path, DOCUMENT_MAX, &root, err));
    Status st = fill(root, path, out, err);
    cJSON_Delete(root);
    if (st != ST_OK)
        measured_file_fini(out);
    return st;
}

void measured_file_fini(MeasuredFile *f)
{
    free(f->blocks);
    str_free(&f->recipe);
    *f = (MeasuredFile){.blocks = NULL};
}

bool measured_file_named(const char *word)
{
    return str_ends_with(word, ".json") || strchr(word, '/') != NULL;
}
