#include <stdio.h>
#include <string.h>

#include "recipe/pattern_impl.h"
#include "recipe/recipe_impl.h"

/* linear_quant: that its quantizers exist, that its pair can be written, and the entries of a recipe (specs/config.md
 * 4, 5), float_sparse's among them. Which quantizers there are is handed in. */

/* What the keys that fit a side but for its method and its sign say: which methods there are, which signs. */
typedef struct Rivals {
    char methods[160]; /* of the peer's loader, for this sign; separated by blanks */
    bool any;          /* something of this scope and dtype exists */
    bool sign;         /* … with this sign */
} Rivals;

static void add_rival(Rivals *r, const QuantKey *k, const QSpec *q)
{
    size_t n = strlen(r->methods);
    if (k->owner == QUANT_OURS || k->owner == QUANT_STEP || k->scope != q->scope || k->dtype != q->dtype)
        return;
    r->any = true;
    if (k->sym >= 0 && (k->sym != 0) != q->symmetric)
        return;
    r->sign = true;
    if (n < sizeof r->methods)
        snprintf(r->methods + n, sizeof r->methods - n, "%s%s", n ? " " : "", k->method);
}

/* The quantizer of one side must exist; says which methods or which signs do. Whether the peer's loader takes it. */
static bool check_side(Check *c, const YamlNode *map, const char *side, const QSpec *q, const QuantKey *(*key)(int i))
{
    const bool weight = key == c->r->rows->weight;
    Rivals r = {.any = false};
    const QuantKey *k;
    if (strcmp(q->method, "autoround") == 0) {
        size_t was = check_push(c, side);
        check_fail(c, yaml_get(map, "method"), "linear_quant has no method 'autoround': use the processor autoround_quant");
        check_pop(c, was);
        return false;
    }
    for (int i = 0; (k = key(i)) != NULL && (k->owner == QUANT_STEP || !quantkey_takes(k, q)); i++)
        add_rival(&r, k, q);
    if (k && k->owner == QUANT_OURS)
        check_note(c, yaml_get(map, "method"), "%s %s %s %s are ours: the peer refuses them",
                   weight ? "weights" : "activations", qscope_name(q->scope), qtype_name(q->dtype), q->method);
    if (k)
        return k->owner != QUANT_OURS;
    size_t was = check_push(c, side);
    const YamlNode *at = yaml_get(map, "method");
    const char *what = weight ? "a weight" : "an activation";
    if (!r.any)
        check_fail(c, at, "there is no %s %s quantizer for %s", qscope_name(q->scope), qtype_name(q->dtype), what);
    else if (!r.sign)
        check_fail(c, yaml_get(map, "symmetric"), "%s %s needs symmetric: %s for %s", qscope_name(q->scope),
                   qtype_name(q->dtype), q->symmetric ? "false" : "true", what);
    else
        check_fail(c, at, "no method '%s' for %s %s %s %s; there is: %s", q->method, qscope_name(q->scope),
                   qtype_name(q->dtype), q->symmetric ? "sym" : "asym", what, r.methods);
    check_pop(c, was);
    return false;
}

/* Copies a list and compiles its patterns. deflt: what an absent or null list stands for ("*" or none), and, where `empty`
 * says so, one without items. */
static void read_list(Check *c, const YamlNode *map, const char *key, const char *deflt, bool empty, ListRef *out,
                      const char **bad)
{
    const YamlNode *v = yaml_get(map, key);
    *out = (ListRef){.node = v};
    bool use_default = !v || v->kind == YAML_NULL || (empty && v->kind == YAML_SEQ && v->count == 0);
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

void recipe_add_entry(Check *c, const YamlNode *map, const QConfig *q, const Scheme *scheme, bool empty)
{
    static const char main_list[] = "spec.process.";
    Recipe *r = c->r;
    if (!c->gather || strncmp(c->path, main_list, sizeof main_list - 1) != 0)
        return;
    if (!mem_grow(&r->entry, &r->entries_cap, r->nentries + 1, sizeof *r->entry)) {
        check_nomem(c);
        return;
    }
    Entry *e = &r->entry[r->nentries++];
    *e = (Entry){.map = map, .alias = c->alias, .pub = {.q = *q, .scheme = scheme, .line = map->line}};
    read_list(c, map, "include", "*", empty, &e->include, &e->bad);
    read_list(c, map, "exclude", NULL, false, &e->exclude, &e->bad);
    e->pub.include = e->include.text;
    e->pub.ninclude = e->include.n;
    e->pub.exclude = e->exclude.text;
    e->pub.nexclude = e->exclude.n;
}

void recipe_no_scheme(Check *c, const YamlNode *at, const QConfig *q)
{
    const bool token = q->act.scope == QS_PER_TOKEN && !q->act.symmetric;
    check_block(c, at, "%s %s %s activations with %s %s %s weights can't be written by any saver%s",
                qscope_name(q->act.scope), qtype_name(q->act.dtype), q->act.symmetric ? "sym" : "asym",
                qscope_name(q->weight.scope), qtype_name(q->weight.dtype), q->weight.symmetric ? "sym" : "asym",
                token ? ": per_token needs symmetric: true" : "");
}

static void check_linear_quant(Check *c, const YamlNode *map)
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
        check_side(c, act, "act", &q.act, c->r->rows->act);
        check_ext(c, act, "act", &q.act);
    }
    const bool both_have = check_side(c, weight, "weight", &q.weight, c->r->rows->weight);
    check_ext(c, weight, "weight", &q.weight);
    const Scheme *scheme = scheme_find(&q);
    if (!scheme && c->errors == before)
        recipe_no_scheme(c, qc, &q);
    for (const Scheme *s = scheme_table; scheme && !scheme->weight_method && s->name; s++)
        if (s->weight_method && strcmp(s->weight_method, q.weight.method) == 0)
            check_block(c, qc, "weights %s go with %s %s activations, not with %s %s", s->weight_method,
                        qscope_name(s->act_scope), qtype_name(s->act_type), qscope_name(q.act.scope),
                        qtype_name(q.act.dtype));
    if (scheme && scheme->ours && both_have)
        check_note(c, qc, "%s is ours: the peer loads it and then finds nothing to write it with", scheme->name);
    check_pop(c, was);
    if (scheme && !scheme->runnable)
        check_block(c, qc, "linear_quant %s: kept, not run by this build", scheme->name);
    recipe_add_entry(c, map, &q, scheme, false);
}

static const Field linear_quant_fields[] = {
    FIELD_TYPE,
    {.key = "qconfig", .type = F_OBJECT, .object = &qconfig_object, .required = true},
    {.key = "include", .type = F_PATTERNS, .longest = 200, .nullable = true, .absent = "[\"*\"]"}, /* null gets a note */
    {.key = "exclude", .type = F_PATTERNS, .longest = 200, .nullable = true, .absent = "[]"},
    FIELD_END,
};
const Object linear_quant_object = {.fields = linear_quant_fields, .check = check_linear_quant};

/* ---- float_sparse ---- */

static void check_float_sparse(Check *c, const YamlNode *map)
{
    const YamlNode *ratio = yaml_get(map, "sparse_ratio");
    QConfig q = {.act = {.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .method = "none"},
                 .weight = {.dtype = QT_FLOAT, .scope = QS_PER_TENSOR, .symmetric = true, .method = "admm",
                            .ext.sparse_ratio = 0.3}};
    double x;
    if (ratio && lax_float(ratio, &x) && x >= 0 && x <= 1)
        q.weight.ext.sparse_ratio = x;
    recipe_add_entry(c, map, &q, scheme_find(&q), true);
}

static const Field float_sparse_fields[] = {
    FIELD_TYPE,
    {.key = "sparse_ratio", .type = F_FLOAT, .bounded = true, .lo = 0, .hi = 1, .absent = "0.3", .canon = canon_number},
    FIELD_PATTERNS,
    FIELD_END,
};
const Object float_sparse_object = {.fields = float_sparse_fields, .check = check_float_sparse};
