#include <limits.h>
#include <math.h>
#include <string.h>

#include "recipe/recipe_impl.h"

/* The ext mapping of a qconfig's side: which keys a method reads, and what the peer refuses at load
 * (specs/quantization.md 1, 7.5). */

typedef enum ExtType { EXT_INT, EXT_NUMBER, EXT_BOOL } ExtType;

/* A key that a method reads. */
typedef struct ExtKey {
    const char *method, *key;
    ExtType type;
    bool strict;     /* numbers only: texts and true/false aren't converted */
    bool open;       /* lo < x < hi, else lo <= x <= hi */
    double lo, hi;
    size_t at;       /* into QSpec: int, int64_t, double or bool as `size` and type say */
    size_t size;
} ExtKey;

#define AT(field) .at = offsetof(QSpec, field), .size = sizeof((QSpec *)0)->field
#define POSITIVE .strict = true, .open = true, .lo = 0, .hi = 1e15

static const ExtKey ext_keys[] = {
    {.method = "ssz", .key = "step", .type = EXT_INT, .lo = -INFINITY, .hi = INFINITY, AT(ext.steps)},
    {.method = "ssz", .key = "group_size", .type = EXT_INT, POSITIVE, AT(group_size)},
    {.method = "minmax", .key = "group_size", .type = EXT_INT, POSITIVE, AT(group_size)},
    {.method = "gptq", .key = "percdamp", .type = EXT_NUMBER, POSITIVE, AT(ext.percdamp)},
    {.method = "gptq", .key = "block_size", .type = EXT_INT, POSITIVE, AT(ext.block_size)},
    {.method = "gptq", .key = "group_size", .type = EXT_INT, POSITIVE, AT(group_size)},
    {.method = "gptq", .key = "actorder", .type = EXT_BOOL, AT(ext.act_order)},
    {.method = "autoround", .key = "group_size", .type = EXT_INT, POSITIVE, AT(group_size)},
    {.method = "ceil_x", .key = "ceil_x_value", .type = EXT_NUMBER, .lo = 6, .hi = 12, AT(ext.ceil_x)},
    {.method = "ceil_x", .key = "enable_search", .type = EXT_BOOL, AT(ext.search)},
    {.method = "ceil_x", .key = "search_min", .type = EXT_NUMBER, .lo = 6, .hi = 12, AT(ext.search_min)},
    {.method = "ceil_x", .key = "search_max", .type = EXT_NUMBER, .lo = 6, .hi = 12, AT(ext.search_max)},
    {.method = "ceil_x", .key = "search_step", .type = EXT_NUMBER, .open = true, .lo = 0, .hi = 1e15,
     AT(ext.search_step)},
    {.method = "dualscale", .key = "dual_block_size", .type = EXT_INT, .lo = 1, .hi = 1e15, AT(ext.dual_block)},
    {.method = "w8a8s", .key = "fraction", .type = EXT_NUMBER, .open = true, .lo = 0, .hi = 1, AT(ext.fraction)},
    {.method = NULL},
};

/* The value of one key as a number; false when it is none of its type or out of its range. */
static bool read_number(const ExtKey *k, const YamlNode *v, double *x)
{
    bool b;
    if (k->strict && v->kind != YAML_INT && v->kind != YAML_FLOAT)
        return false;
    if (k->type == EXT_BOOL) {
        *x = lax_bool(v, &b) && b;
        return lax_bool(v, &b);
    }
    return lax_float(v, x) && (k->open ? *x > k->lo && *x < k->hi : *x >= k->lo && *x <= k->hi);
}

static void put_number(const ExtKey *k, double x, QSpec *q)
{
    void *to = (char *)q + k->at;
    int64_t whole = fabs(x) < 9e15 ? (int64_t)x : 0;
    if (k->type == EXT_BOOL)
        *(bool *)to = x != 0;
    else if (k->type == EXT_NUMBER)
        *(double *)to = x;
    else if (k->size == sizeof(int))
        *(int *)to = whole > 0 && whole <= INT_MAX ? (int)whole : 0;
    else
        *(int64_t *)to = whole;
}

static bool is_mean(const YamlNode *agg)
{
    return agg && agg->kind == YAML_STR && strcmp(agg->text, "mean") == 0;
}

/* Whether the side reads this key: its method does, and group_size needs groups. (gptq's is checked without them.) */
static bool key_counts(const ExtKey *k, const QSpec *q)
{
    return strcmp(k->method, q->method) == 0 && (q->scope == QS_PER_GROUP || strcmp(k->key, "group_size") != 0);
}

static void read_ext(const YamlNode *ext, QSpec *q)
{
    for (const ExtKey *k = ext_keys; ext && k->method; k++) {
        double x;
        const YamlNode *v = key_counts(k, q) ? yaml_get(ext, k->key) : NULL;
        if (v && read_number(k, v, &x))
            put_number(k, x, q);
    }
    q->ext.mean = strcmp(q->method, "minmax") == 0 && is_mean(yaml_get(ext, "aggregation_type"));
}

bool qspec_read(const YamlNode *map, QSpec *q)
{
    const YamlNode *dtype = yaml_get(map, "dtype"), *scope = yaml_get(map, "scope"), *sym = yaml_get(map, "symmetric");
    const YamlNode *method = yaml_get(map, "method");
    *q = (QSpec){0};
    if (!dtype || !scope || !sym || !method || dtype->kind != YAML_STR || scope->kind != YAML_STR ||
        method->kind != YAML_STR)
        return false;
    int t = qtype_parse(dtype->text), s = qscope_parse(scope->text);
    if (t < 0 || s < 0 || !lax_bool(sym, &q->symmetric))
        return false;
    q->dtype = (QType)t;
    q->scope = (QScope)s;
    size_t n = method->len < sizeof q->method ? method->len : sizeof q->method - 1;
    memcpy(q->method, method->text, n);
    read_ext(yaml_get(map, "ext"), q);
    return true;
}

static void check_key(Check *c, const ExtKey *k, const YamlNode *v)
{
    double x;
    if (!read_number(k, v, &x)) {
        if (k->type == EXT_BOOL)
            check_fail(c, v, "%s must be true or false", k->key);
        else if (k->open && k->hi >= 1e15)
            check_fail(c, v, "%s must be a number above %g", k->key, k->lo);
        else if (k->hi >= 1e15)
            check_fail(c, v, "%s must be a number, at least %g", k->key, k->lo);
        else
            check_fail(c, v, "%s must be a number in %g … %g%s", k->key, k->lo, k->hi,
                       k->open ? ", both excluded" : "");
    } else if (k->type == EXT_INT && x != floor(x)) {
        check_block(c, v, "%s: a whole number is needed to run it, not %g", k->key, x);
    } else if (strcmp(k->key, "actorder") == 0) {
        check_note(c, v, "actorder is ours: the peer ignores it");
    }
}

/* Block axis of an mx method: of a linear the last one is meant. */
static void check_axes(Check *c, const YamlNode *v)
{
    int64_t axis = -1;
    bool fine = lax_int(v, &axis);
    if (v->kind == YAML_SEQ) {
        fine = true;
        for (int i = 0; i < v->count; i++)
            fine = fine && lax_int(v->items[i], &axis);
        axis = v->count == 1 ? axis : 0;
    }
    if (!fine)
        check_fail(c, v, "axes must be an integer");
    else if (axis != -1 && axis != 1)
        check_block(c, v, "axes: blocks along the last axis are all that this build makes");
}

/* ceil_x takes no other keys, and a search needs room. */
static void check_ceil_x(Check *c, const YamlNode *ext, const QSpec *q)
{
    static const char *const keys[] = {"axes", "ceil_x_value", "enable_search", "search_min", "search_max",
                                       "search_step", NULL};
    char near[64];
    for (int i = 0; ext && i < ext->count; i++) {
        const YamlNode *key = ext->keys[i];
        const char *const *k = keys;
        while (*k && !(key->kind == YAML_STR && strcmp(*k, key->text) == 0))
            k++;
        if (!*k)
            check_fail(c, key, "ceil_x has no key '%.60s'%s", key->text ? key->text : "?",
                       check_nearest(key->text ? key->text : "", keys, near, sizeof near));
    }
    double lo = q->ext.search_min > 0 ? q->ext.search_min : 6, hi = q->ext.search_max > 0 ? q->ext.search_max : 12;
    if (q->ext.search && !(hi > lo))
        check_fail(c, ext, "search_max must be above search_min, not %g and %g", hi, lo);
}

void check_ext(Check *c, const YamlNode *map, const char *side, const QSpec *q)
{
    const YamlNode *ext = yaml_get(map, "ext"), *axes = yaml_get(ext, "axes");
    size_t was = check_push(c, side);
    size_t at = check_push(c, "ext");
    const bool weight = strcmp(side, "weight") == 0;
    for (const ExtKey *k = ext_keys; ext && k->method; k++) {
        const bool gptq = strcmp(k->method, "gptq") == 0 && strcmp(q->method, "gptq") == 0;
        const YamlNode *v = gptq || key_counts(k, q) ? yaml_get(ext, k->key) : NULL;
        if (v)
            check_key(c, k, v);
    }
    const YamlNode *agg = yaml_get(ext, "aggregation_type");
    if (agg && !weight && strcmp(q->method, "minmax") == 0 && !is_mean(agg) &&
        (agg->kind != YAML_STR || strcmp(agg->text, "max") != 0))
        check_fail(c, agg, "aggregation_type must be max or mean");
    if (axes && (q->scope == QS_PER_BLOCK || q->scope == QS_DUAL_SCALE))
        check_axes(c, axes);
    if (strcmp(q->method, "ceil_x") == 0)
        check_ceil_x(c, ext, q);
    if (strcmp(q->method, "dualscale") == 0 && !yaml_get(ext, "dual_block_size"))
        check_fail(c, ext ? ext : map, "dual_block_size is needed by dualscale");
    check_pop(c, at);
    check_pop(c, was);
}
