#include <math.h>
#include <string.h>

#include "recipe/recipe_impl.h"

/* The ext mapping of a qconfig's side: which keys a method reads, and what the peer refuses at load
 * (specs/quantization.md 1, 7.5). */

/* The value of one key as a number; false when it is none of its type or out of its range. */
static bool read_value(const ExtField *f, const YamlNode *v, double *x)
{
    bool b;
    if (f->one_of) {
        int i = v->kind == YAML_STR ? ext_word(f->one_of, v->text) : -1;
        *x = i;
        return i >= 0;
    }
    if (f->word) {
        *x = node_is(v, f->word);
        return *x != 0 || node_is(v, f->other);
    }
    if (f->strict && v->kind != YAML_INT && v->kind != YAML_FLOAT)
        return false;
    if (f->type == EXT_BOOL) {
        *x = lax_bool(v, &b) && b;
        return lax_bool(v, &b);
    }
    return lax_float(v, x) && (f->open ? *x > f->lo && *x < f->hi : *x >= f->lo && *x <= f->hi);
}

/* Whether the side reads this key: its method does, and group_size needs groups. (gptq's is checked without them.) */
static bool key_counts(const ExtField *f, const QSpec *q)
{
    return ext_reads(f, q->method) && (q->scope == QS_PER_GROUP || !f->grouped);
}

static void read_ext(const YamlNode *ext, QSpec *q)
{
    for (const ExtField *f = ext_fields; ext && f->key; f++) {
        double x;
        const YamlNode *v = key_counts(f, q) ? yaml_get(ext, f->key) : NULL;
        if (v && read_value(f, v, &x))
            ext_put(&q->ext, f, x);
    }
}

bool qspec_read(const YamlNode *map, QSpec *q)
{
    const YamlNode *method = yaml_get(map, "method");
    *q = (QSpec){0};
    return method && method->kind == YAML_STR && qspec_read_as(map, method->text, q);
}

bool qspec_read_as(const YamlNode *map, const char *method, QSpec *q)
{
    const YamlNode *dtype = yaml_get(map, "dtype"), *scope = yaml_get(map, "scope"), *sym = yaml_get(map, "symmetric");
    *q = (QSpec){0};
    if (!dtype || !scope || !sym || dtype->kind != YAML_STR || scope->kind != YAML_STR)
        return false;
    int t = qtype_parse(dtype->text), s = qscope_parse(scope->text);
    if (t < 0 || s < 0 || !lax_bool(sym, &q->symmetric))
        return false;
    q->dtype = (QType)t;
    q->scope = (QScope)s;
    size_t n = strlen(method);
    memcpy(q->method, method, n < sizeof q->method ? n : sizeof q->method - 1);
    read_ext(yaml_get(map, "ext"), q);
    return true;
}

static bool is_whole(const ExtField *f)
{
    return f->type == EXT_INT || f->type == EXT_LONG;
}

static void check_key(Check *c, const ExtField *f, const YamlNode *v)
{
    double x;
    if (!read_value(f, v, &x)) {
        if (f->one_of)
            check_fail(c, v, "%s must be one of: %s", f->key, f->one_of);
        else if (f->word)
            check_fail(c, v, "%s must be %s or %s", f->key, f->other, f->word);
        else if (f->type == EXT_BOOL)
            check_fail(c, v, "%s must be true or false", f->key);
        else if (f->open && f->hi >= EXT_NO_LIMIT)
            check_fail(c, v, "%s must be a number above %g", f->key, f->lo);
        else if (f->hi >= EXT_NO_LIMIT)
            check_fail(c, v, "%s must be a number, at least %g", f->key, f->lo);
        else
            check_fail(c, v, "%s must be a number in %g … %g%s", f->key, f->lo, f->hi,
                       f->open ? ", both excluded" : "");
    } else if (is_whole(f) && x != floor(x)) {
        check_block(c, v, "%s: a whole number is needed to run it, not %g", f->key, x);
    } else if (f->ours) {
        check_note(c, v, "%s is ours: the peer ignores it", f->key);
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
    const char *keys[EXT_COUNT + 2] = {"axes"};
    char near[64];
    for (int i = 0, n = 1; i < EXT_COUNT; i++)
        if (ext_reads(&ext_fields[i], "ceil_x"))
            keys[n++] = ext_fields[i].key;
    for (int i = 0; ext && i < ext->count; i++) {
        const YamlNode *key = ext->keys[i];
        const char *const *k = keys;
        while (*k && !node_is(key, *k))
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
    for (const ExtField *f = ext_fields; f->key; f++) {
        const bool gptq = strcmp(q->method, "gptq") == 0 && ext_reads(f, "gptq");
        const YamlNode *v = gptq || key_counts(f, q) ? yaml_get(ext, f->key) : NULL;
        if (v && !(weight && f->of_act))
            check_key(c, f, v);
        else if (!v && f->needed && ext_reads(f, q->method))
            check_fail(c, ext ? ext : map, "%s is needed by %s", f->key, q->method);
    }
    if (axes && (q->scope == QS_PER_BLOCK || q->scope == QS_DUAL_SCALE))
        check_axes(c, axes);
    if (strcmp(q->method, "ceil_x") == 0)
        check_ceil_x(c, ext, q);
    check_pop(c, at);
    check_pop(c, was);
}
