#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "recipe/pattern_impl.h"
#include "recipe/recipe_impl.h"

/* linear_quant: which quantizers exist, which pairs can be written, and the entries of a recipe (specs/config.md 4,
 * 5). */

/* A quantizer: sym 1, 0, or -1 = either. */
typedef struct Quantizer {
    QScope scope;
    QType dtype;
    int sym;
    const char *methods; /* separated by blanks */
} Quantizer;

static const Quantizer act_table[] = {
    {QS_PER_TENSOR, QT_FLOAT, 1, "none"},
    {QS_PER_TENSOR, QT_INT8, -1, "minmax histogram"},
    {QS_PER_TENSOR, QT_FP8_E4M3, 1, "minmax"},
    {QS_PER_TOKEN, QT_INT8, -1, "minmax"},
    {QS_PER_TOKEN, QT_FP8_E4M3, 1, "minmax"},
    {QS_PER_CHANNEL, QT_INT8, -1, "minmax"},
    {QS_PER_CHANNEL, QT_FP8_E4M3, 1, "minmax"},
    {QS_PD_MIX, QT_INT8, 0, "minmax"},
    {QS_PER_BLOCK, QT_MXFP8, 1, "minmax"},
    {QS_PER_BLOCK, QT_MXFP4, 1, "minmax"},
    {QS_DUAL_SCALE, QT_MXFP4, 1, "dualscale"},
    {.methods = NULL},
};

static const Quantizer weight_table[] = {
    {QS_PER_CHANNEL, QT_INT8, 1, "minmax ssz gptq"},
    {QS_PER_CHANNEL, QT_INT4, 1, "minmax ssz gptq"},
    {QS_PER_CHANNEL, QT_INT8, 0, "gptq"},
    {QS_PER_CHANNEL, QT_INT4, 0, "gptq"},
    {QS_PER_GROUP, QT_INT8, -1, "gptq"},
    {QS_PER_GROUP, QT_INT4, -1, "gptq"},
    {QS_PER_CHANNEL, QT_FP8_E4M3, 1, "minmax"},
    {QS_PER_BLOCK, QT_MXFP8, 1, "minmax mse_round"},
    {QS_PER_BLOCK, QT_MXFP4, 1, "minmax fouroversix ceil_x"},
    {QS_DUAL_SCALE, QT_MXFP4, 1, "dualscale"},
    {.methods = NULL},
};

/* Ours: the peer's loader refuses them. */
static const Quantizer own_weight_table[] = {
    {QS_PER_GROUP, QT_INT8, -1, "minmax"},
    {QS_PER_GROUP, QT_INT4, -1, "minmax"},
    {QS_PER_GROUP, QT_INT8, 1, "ssz"},
    {QS_PER_GROUP, QT_INT4, 1, "ssz"},
    {QS_PER_CHANNEL, QT_INT8, 1, "w8a8s"},
    {.methods = NULL},
};

static bool has_word(const char *words, const char *w)
{
    size_t n = strlen(w);
    for (const char *s = words; n && (s = strstr(s, w)) != NULL; s += n)
        if ((s == words || s[-1] == ' ') && (s[n] == ' ' || !s[n]))
            return true;
    return false;
}

static bool quantizer_takes(const Quantizer *k, const QSpec *q)
{
    return k->scope == q->scope && k->dtype == q->dtype && (k->sym < 0 || k->sym == (int)q->symmetric) &&
           has_word(k->methods, q->method);
}

/* The quantizer of one side must exist; says which methods or which signs do. */
static void check_side(Check *c, const YamlNode *map, const char *side, const QSpec *q, const Quantizer *table)
{
    const Quantizer *same = NULL;
    for (const Quantizer *k = table; k->methods; k++) {
        if (quantizer_takes(k, q))
            return;
        if (k->scope == q->scope && k->dtype == q->dtype &&
            (!same || k->sym < 0 || k->sym == (int)q->symmetric))
            same = k;
    }
    for (const Quantizer *k = own_weight_table; table == weight_table && k->methods; k++)
        if (quantizer_takes(k, q)) {
            check_note(c, yaml_get(map, "method"), "weights %s %s %s are ours: the peer refuses them",
                       qscope_name(q->scope), qtype_name(q->dtype), q->method);
            return;
        }
    size_t was = check_push(c, side);
    const YamlNode *at = yaml_get(map, "method");
    const char *what = table == act_table ? "an activation" : "a weight";
    if (!same)
        check_fail(c, at, "there is no %s %s quantizer for %s", qscope_name(q->scope), qtype_name(q->dtype), what);
    else if (same->sym >= 0 && same->sym != (int)q->symmetric)
        check_fail(c, yaml_get(map, "symmetric"), "%s %s needs symmetric: %s for %s", qscope_name(q->scope),
                   qtype_name(q->dtype), same->sym ? "true" : "false", what);
    else if (strcmp(q->method, "autoround") == 0)
        check_fail(c, at, "linear_quant has no method 'autoround': use the processor autoround_quant");
    else
        check_fail(c, at, "no method '%s' for %s %s %s %s; there is: %s", q->method, qscope_name(q->scope),
                   qtype_name(q->dtype), q->symmetric ? "sym" : "asym", what, same->methods);
    check_pop(c, was);
}

/* Copies a list and compiles its patterns. deflt: what an absent or null list stands for ("*" or none). */
static void read_list(Check *c, const YamlNode *map, const char *key, const char *deflt, ListRef *out,
                      const char **bad)
{
    const YamlNode *v = yaml_get(map, key);
    *out = (ListRef){.node = v};
    bool use_default = !v || v->kind == YAML_NULL;
    int n = use_default ? deflt != NULL : v->kind == YAML_SEQ ? v->count : 0;
    Arena *a = &c->r->arena;
    out->text = arena_alloc(a, (size_t)(n + 1) * sizeof *out->text);
    out->pattern = arena_alloc(a, (size_t)(n + 1) * sizeof *out->pattern);
    if (!out->text || !out->pattern) {
        check_nomem(c);
        return;
    }
    if (v && v->kind == YAML_NULL)
        check_note(c, v, "%s: null isn't a list and the peer refuses it; export writes a list", key);
    size_t was = check_push(c, key);
    for (int i = 0; i < n; i++) {
        const YamlNode *item = use_default ? NULL : v->items[i];
        if (item && item->kind != YAML_STR)
            continue; /* said already */
        Error e = {0};
        const char *text = item ? item->text : deflt;
        size_t at = check_push_index(c, i);
        Status st = pattern_compile(&out->pattern[out->n], text, &e);
        if (st == ST_OK)
            out->text[out->n++] = text;
        else if (st == ST_NOMEM)
            check_nomem(c);
        else { /* the peer finds out when it matches */
            check_block(c, item, "%s", e.text);
            *bad = arena_strdup(a, e.text);
        }
        check_pop(c, at);
    }
    check_pop(c, was);
}

static void add_entry(Check *c, const YamlNode *map, const QConfig *q, const Scheme *scheme)
{
    Recipe *r = c->r;
    if (!mem_grow(&r->entry, &r->entries_cap, r->nentries + 1, sizeof *r->entry)) {
        check_nomem(c);
        return;
    }
    Entry *e = &r->entry[r->nentries++];
    *e = (Entry){.map = map, .alias = c->alias, .pub = {.q = *q, .scheme = scheme, .line = map->line}};
    read_list(c, map, "include", "*", &e->include, &e->bad);
    read_list(c, map, "exclude", NULL, &e->exclude, &e->bad);
    e->pub.include = e->include.text;
    e->pub.ninclude = e->include.n;
    e->pub.exclude = e->exclude.text;
    e->pub.nexclude = e->exclude.n;
}

void check_linear_quant(Check *c, const YamlNode *map)
{
    const YamlNode *qc = yaml_get(map, "qconfig"), *act = yaml_get(qc, "act"), *weight = yaml_get(qc, "weight");
    QConfig q = {.act = {.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .method = "none"}};
    size_t was = check_push(c, "qconfig");
    int before = c->errors;
    if (!weight || !qspec_read(weight, &q.weight) || (act && !qspec_read(act, &q.act))) {
        check_pop(c, was);
        return; /* said already */
    }
    if (act) {
        check_side(c, act, "act", &q.act, act_table);
        check_ext(c, act, "act", &q.act);
    }
    check_side(c, weight, "weight", &q.weight, weight_table);
    check_ext(c, weight, "weight", &q.weight);
    const Scheme *scheme = scheme_find(&q);
    if (!scheme && c->errors == before) {
        const bool token = q.act.scope == QS_PER_TOKEN && !q.act.symmetric;
        check_block(c, qc, "%s %s %s activations with %s %s %s weights can't be written by any saver%s",
                   qscope_name(q.act.scope), qtype_name(q.act.dtype), q.act.symmetric ? "sym" : "asym",
                   qscope_name(q.weight.scope), qtype_name(q.weight.dtype), q.weight.symmetric ? "sym" : "asym",
                   token ? ": per_token needs symmetric: true" : "");
    }
    if (scheme && !scheme->weight_method && strcmp(q.weight.method, "w8a8s") == 0)
        check_block(c, qc, "weights w8a8s go with per_tensor int8 activations, not with %s %s",
                    qscope_name(q.act.scope), qtype_name(q.act.dtype));
    if (scheme && strcmp(scheme->name, "W4A16") == 0 && strcmp(q.weight.method, "gptq") == 0)
        check_note(c, qc, "W4A16 is ours: the peer loads it and then finds nothing to write it with");
    check_pop(c, was);
    if (scheme && !scheme->runnable)
        check_block(c, qc, "linear_quant %s: kept, not run by this build", scheme->name);
    static const char main_list[] = "spec.process.";
    if (c->gather && strncmp(c->path, main_list, sizeof main_list - 1) == 0)
        add_entry(c, map, &q, scheme);
}

/* dynamic_cache: the peer's loader takes any qconfig, its run only this one. */
void check_dynamic_cache(Check *c, const YamlNode *map)
{
    const YamlNode *qc = yaml_get(map, "qconfig");
    QSpec q;
    if (!qc || !qspec_read(qc, &q))
        return; /* said already */
    if (q.dtype != QT_INT8 || q.scope != QS_PER_CHANNEL || strcmp(q.method, "minmax") != 0)
        check_block(c, qc, "dynamic_cache runs with per_channel int8 minmax, not with %s %s %s", qscope_name(q.scope),
                    qtype_name(q.dtype), q.method);
    check_ext(c, qc, "qconfig", &q);
}

/* Whether an item of a processor list is a mapping with a known type; says so otherwise. */
static const ProcessorType *processor_type(Check *c, const YamlNode *item)
{
    const YamlNode *type = yaml_get(item, "type");
    const char *words[40] = {NULL};
    char near[64];
    if (item->kind != YAML_MAP) {
        check_fail(c, item, "must be a mapping with a type, not %s", yaml_kind_name(item->kind));
        return NULL;
    }
    if (!type || type->kind != YAML_STR) {
        check_fail(c, type ? type : item, "type is missing");
        return NULL;
    }
    for (int i = 0; processor_table[i].name && i < 39; i++) {
        if (strcmp(processor_table[i].name, type->text) == 0)
            return &processor_table[i];
        words[i] = processor_table[i].name;
    }
    check_fail(c, type, "unknown processor '%.60s'%s", type->text, check_nearest(type->text, words, near, sizeof near));
    return NULL;
}

void check_processors(Check *c, const YamlNode *list)
{
    for (int i = 0; i < list->count; i++) {
        const YamlNode *item = list->items[i];
        size_t was = check_push_index(c, i);
        const ProcessorType *t = processor_type(c, item);
        if (t) {
            size_t at = check_push(c, t->name);
            check_object(c, item, &t->object);
            if (!t->runs)
                check_block(c, item, "processor '%s': kept, not run by this build", t->name);
            check_pop(c, at);
        }
        check_pop(c, was);
    }
}
