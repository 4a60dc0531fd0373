/* Figures of a measurement in the journal. */
#include "session/effectrecord.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "session/fields.h"

typedef enum FigureType { FIGURE_DOUBLE, FIGURE_INT, FIGURE_INT64, FIGURE_BOOL } FigureType;

/* In the order in which records without names hold them; what came later stands behind `unseen_first`. */
static const struct Figure {
    const char *key;
    FigureType type;
    size_t at;
} figures[] = {
    {"tokens", FIGURE_INT64, offsetof(Effect, tokens)},
    {"predicted", FIGURE_INT64, offsetof(Effect, predicted)},
    {"kl_mean", FIGURE_DOUBLE, offsetof(Effect, kl_mean)},
    {"kl_median", FIGURE_DOUBLE, offsetof(Effect, kl_median)},
    {"kl_p99", FIGURE_DOUBLE, offsetof(Effect, kl_p99)},
    {"kl_max", FIGURE_DOUBLE, offsetof(Effect, kl_max)},
    {"kl_se", FIGURE_DOUBLE, offsetof(Effect, kl_se)},
    {"top1", FIGURE_DOUBLE, offsetof(Effect, top1)},
    {"top1_se", FIGURE_DOUBLE, offsetof(Effect, top1_se)},
    {"ppl_float", FIGURE_DOUBLE, offsetof(Effect, ppl_float)},
    {"ppl_quant", FIGURE_DOUBLE, offsetof(Effect, ppl_quant)},
    {"ppl_float_se", FIGURE_DOUBLE, offsetof(Effect, ppl_float_se)},
    {"ppl_quant_se", FIGURE_DOUBLE, offsetof(Effect, ppl_quant_se)},
    {"out_mse", FIGURE_DOUBLE, offsetof(Effect, out_mse)},
    {"out_mse_se", FIGURE_DOUBLE, offsetof(Effect, out_mse_se)},
    {"first_layer_run", FIGURE_INT, offsetof(Effect, first_layer_run)},
    {"layers_run", FIGURE_INT, offsetof(Effect, layers_run)},
    {"from_cache", FIGURE_BOOL, offsetof(Effect, from_cache)},
    {"seconds", FIGURE_DOUBLE, offsetof(Effect, seconds)},
    {"unseen_linears", FIGURE_INT64, offsetof(Effect, unseen.linears)},
    {"unseen_experts", FIGURE_INT64, offsetof(Effect, unseen.experts)},
    {"unseen_first", FIGURE_INT64, offsetof(Effect, unseen.first)},
    {"texts", FIGURE_INT, offsetof(Effect, texts)},
    {"ppl_change", FIGURE_DOUBLE, offsetof(Effect, ppl_change)},
    {"ppl_change_se", FIGURE_DOUBLE, offsetof(Effect, ppl_change_se)},
    {"whole", FIGURE_BOOL, offsetof(Effect, whole)},
};
enum { FIGURES = sizeof figures / sizeof *figures };
/* Lengths of lists without names: before and since unseen experts are counted. */
enum { LIST_OLD = 19, LIST_NEW = 22 };

static double figure_get(const Effect *e, const struct Figure *f)
{
    const char *p = (const char *)e + f->at;
    switch (f->type) {
    case FIGURE_DOUBLE: return *(const double *)(const void *)p;
    case FIGURE_INT: return *(const int *)(const void *)p;
    case FIGURE_INT64: return (double)*(const int64_t *)(const void *)p;
    case FIGURE_BOOL: return *(const bool *)(const void *)p;
    }
    return NAN;
}

/* false: v is no value of this type. */
static bool figure_set(Effect *e, const struct Figure *f, double v)
{
    char *p = (char *)e + f->at;
    int64_t n = 0;
    if (f->type == FIGURE_DOUBLE) {
        *(double *)(void *)p = v;
        return true;
    }
    if (!whole_of(v, f->type == FIGURE_INT64 ? -1 : 0, f->type == FIGURE_INT64 ? INT64_MAX : INT32_MAX, &n))
        return false;
    if (f->type == FIGURE_INT)
        *(int *)(void *)p = (int)n;
    else if (f->type == FIGURE_INT64)
        *(int64_t *)(void *)p = n;
    else
        *(bool *)(void *)p = n != 0;
    return true;
}

void effect_record(Str *b, const Effect *e)
{
    str_puts(b, ",\"effect\":{");
    for (int i = 0; i < FIGURES; i++) {
        double v = figure_get(e, &figures[i]);
        str_printf(b, "%s\"%s\":", i ? "," : "", figures[i].key);
        if (isfinite(v))
            str_printf(b, "%.17g", v);
        else
            str_puts(b, "null");
    }
    str_putc(b, '}');
}

static bool from_list(const cJSON *record, const cJSON *list, Effect *e)
{
    int n = cJSON_GetArraySize(list), i = 0;
    const cJSON *v;
    if (n != LIST_OLD && n != LIST_NEW)
        return false;
    cJSON_ArrayForEach(v, list)
        if (!figure_set(e, &figures[i++], cJSON_IsNumber(v) ? v->valuedouble : NAN))
            return false;
    e->texts = (int)whole_in(record, "texts", 0, INT32_MAX, 0);
    return true;
}

/* A figure that is not there was not known to the program that wrote it. */
static bool from_names(const cJSON *o, Effect *e)
{
    for (int i = 0; i < FIGURES; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, figures[i].key);
        if (!v)
            continue;
        if (!figure_set(e, &figures[i], cJSON_IsNumber(v) ? v->valuedouble : NAN))
            return false;
    }
    return true;
}

Status effect_parse(const cJSON *record, int64_t nlinears, Effect *out, Error *err)
{
    const cJSON *list = json_get(record, "v"), *named = json_get(record, "effect");
    *out = (Effect){.unseen.first = -1, .ppl_change = NAN, .ppl_change_se = NAN};
    bool good = list ? from_list(record, list, out) : cJSON_IsObject(named) && from_names(named, out);
    if (!good || out->unseen.first >= nlinears) /* another model's */
        return error_set(err, ST_DATA, "a measurement record is damaged");
    if (isnan(out->ppl_change)) /* not in older records: it has no error then */
        out->ppl_change = out->ppl_quant / out->ppl_float - 1;
    return ST_OK;
}

/* ---- blocks ---- */

void blocks_record(Str *b, const TokenBlocks *blocks)
{
    str_printf(b, ",\"blocks\":{\"set\":\"%s\",\"v\":\"", blocks->set);
    base64_put(b, blocks->b, (size_t)blocks->n * sizeof *blocks->b);
    str_puts(b, "\"}");
}

static bool blocks_good(const TokenBlocks *b, const Effect *e)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < b->n; i++) {
        const TokenBlock *k = &b->b[i];
        if (!isfinite(k->kl) || !isfinite(k->nll_float) || !isfinite(k->nll_more) || k->agree > k->tokens)
            return false;
        tokens += k->tokens;
    }
    return tokens == e->predicted;
}

Status blocks_parse(const cJSON *record, const Effect *e, TokenBlocks **out, Error *err)
{
    const cJSON *o = json_get(record, "blocks");
    *out = NULL;
    if (!o)
        return ST_OK;
    const char *set = text_of(o, "set"), *v = text_of(o, "v");
    size_t len = v ? strlen(v) : 0, bytes = 0;
    TokenBlocks *b = mem_zarray(1, sizeof *b + len / 4 * 3 + 1);
    if (!b)
        return error_nomem(err, "a measurement's blocks");
    bool good = set && strlen(set) < sizeof b->set && v && base64_get(v, len, b->b, &bytes) && bytes % sizeof *b->b == 0;
    if (good) {
        memcpy(b->set, set, strlen(set));
        b->n = (int64_t)(bytes / sizeof *b->b);
    }
    if (good && blocks_good(b, e)) {
        *out = b;
        return ST_OK;
    }
    free(b);
    return error_set(err, ST_DATA, "the blocks of a measurement record are damaged");
}
