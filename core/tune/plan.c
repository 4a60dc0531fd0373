#include "tune/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

struct Plan {
    YamlDoc *doc;
    Arena arena;
    const PlanRows *rows;
    const char *name;
    bool peer;
    const YamlNode *strategy_map, *evaluation_map;
    const StrategyType *strategy;
    const EvaluatorType *evaluator;
    const void *strategy_settings, *evaluator_settings;
    const Expectation *expect;
    int nexpect;
};

enum { ROWS_MAX = 64 };
typedef struct PlanCheck {
    Plan *p;
    const YamlNode *root;
} PlanCheck;

static const Field root_fields[] = {
    {.key = "strategy", .type = F_MAP, .required = true},
    {.key = "evaluation", .type = F_MAP, .required = true},
    FIELD_END,
};
static const Object root_object = {.fields = root_fields};

/* The mapping of a key against the keys of its type; what is there beside them the peer lets pass. */
static void check_typed(Check *c, const char *key, const YamlNode *map, const Object *o)
{
    const Object keys = {.fields = o->fields, .check = o->check, .extra = o->extra || check_peer(c)};
    size_t was = check_push(c, key);
    check_object(c, map, &keys);
    check_pop(c, was);
}

/* The type that a mapping names; -1, said: none. */
static int type_of(Check *c, const char *key, const YamlNode *map, const char *const *names, const char *noun)
{
    const YamlNode *type = yaml_get(map, "type");
    char list[300] = "", near[80] = "";
    size_t n = 0;
    int best = 4, found = -1;
    for (int i = 0; names[i]; i++) {
        if (node_is(type, names[i]))
            return i;
        int d = type && type->kind == YAML_STR ? str_distance(type->text, names[i], best) : best;
        if (d < best) {
            best = d;
            found = i;
        }
        if (n < sizeof list)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", names[i]);
    }
    size_t was = check_push(c, key);
    check_push(c, "type");
    if (found >= 0)
        snprintf(near, sizeof near, " (did you mean '%s'?)", names[found]);
    if (!type || type->kind != YAML_STR)
        check_fail(c, type ? type : map, "%s: one of %s", type ? "must be text" : "is missing", list);
    else
        check_fail(c, type, "unknown %s '%.60s'%s; there are %s", noun, type->text, near, list);
    check_pop(c, was);
    return -1;
}

static void check_strategy(Check *c, PlanCheck *k)
{
    const char *names[ROWS_MAX + 1] = {NULL};
    const StrategyType *row[ROWS_MAX], *one;
    for (int i = 0, n = 0; (one = k->p->rows->strategy(i)) && n < ROWS_MAX; i++)
        if (one->peer || !k->p->peer) {
            row[n] = one;
            names[n++] = one->name;
        }
    int at = type_of(c, "strategy", k->p->strategy_map, names, "strategy");
    if (at < 0)
        return;
    k->p->strategy = row[at];
    check_typed(c, "strategy", k->p->strategy_map, row[at]->object);
}

static void check_evaluation(Check *c, PlanCheck *k)
{
    const char *names[ROWS_MAX + 1] = {NULL};
    const EvaluatorType *row[ROWS_MAX], *one;
    for (int i = 0, n = 0; (one = k->p->rows->evaluator(i)) && n < ROWS_MAX; i++)
        if (one->peer || !k->p->peer) {
            row[n] = one;
            names[n++] = one->name;
        }
    int at = type_of(c, "evaluation", k->p->evaluation_map, names, "evaluator");
    if (at < 0)
        return;
    k->p->evaluator = row[at];
    check_typed(c, "evaluation", k->p->evaluation_map, row[at]->object);
}

static void check_plan(Check *c, void *ctx)
{
    PlanCheck *k = ctx;
    const YamlNode *root = k->root;
    if (!root || root->kind != YAML_MAP) {
        check_fail(c, root, "a mapping with strategy and evaluation is expected, not %s", root ? yaml_kind_name(root->kind) : "an empty file");
        return;
    }
    if (k->p->peer)
        check_characters(c, root);
    check_object(c, root, &root_object);
    k->p->strategy_map = yaml_get(root, "strategy");
    k->p->evaluation_map = yaml_get(root, "evaluation");
    if (k->p->strategy_map && k->p->strategy_map->kind == YAML_MAP)
        check_strategy(c, k);
    if (k->p->evaluation_map && k->p->evaluation_map->kind == YAML_MAP)
        check_evaluation(c, k);
}

static Status read_settings(Plan *p, Error *err)
{
    p->strategy_settings = p->strategy->settings(&p->arena, p->strategy_map);
    p->evaluator_settings = p->evaluator->settings(&p->arena, p->evaluation_map);
    p->expect = demand_read(&p->arena, yaml_get(p->evaluation_map, "demand"), &p->nexpect);
    return p->strategy_settings && p->evaluator_settings && p->expect ? ST_OK : error_nomem(err, "a plan");
}

Status plan_parse(Plan **out, const PlanRows *rows, const char *text, size_t len, const char *name, bool peer, Str *all,
                  Error *err)
{
    Plan *p = calloc(1, sizeof *p);
    if (!p)
        return error_nomem(err, "a plan");
    Error first = {0};
    p->rows = rows;
    p->peer = peer;
    p->name = arena_strdup(&p->arena, name);
    Status st = p->name ? yaml_parse(&p->doc, text, len, name, &first) : error_nomem(&first, "a plan");
    if (st != ST_OK && all)
        str_printf(all, "%s\n", first.text);
    if (st == ST_OK) {
        PlanCheck k = {.p = p, .root = yaml_root(p->doc)};
        st = check_run(rows->recipe, name, peer, all, check_plan, &k, &first);
    }
    if (st == ST_OK)
        st = read_settings(p, &first);
    if (st != ST_OK) {
        plan_free(p);
        return error_set(err, st, "%s", first.text);
    }
    *out = p;
    return ST_OK;
}

Status plan_open(Plan **out, const PlanRows *rows, const char *path, bool peer, Str *all, Error *err)
{
    char *text;
    size_t len;
    RETURN_IF_ERROR(document_read(path, &text, &len, all, err));
    Status st = plan_parse(out, rows, text, len, path_base(path), peer, all, err);
    free(text);
    return st;
}

void plan_free(Plan *p)
{
    if (!p)
        return;
    yaml_doc_free(p->doc);
    arena_free(&p->arena);
    free(p);
}

const char *plan_name(const Plan *p)
{
    return p->name;
}

const StrategyType *plan_strategy(const Plan *p)
{
    return p->strategy;
}

const void *plan_strategy_settings(const Plan *p)
{
    return p->strategy_settings;
}

const EvaluatorType *plan_evaluator(const Plan *p)
{
    return p->evaluator;
}

const void *plan_evaluator_settings(const Plan *p)
{
    return p->evaluator_settings;
}

const Expectation *plan_demand(const Plan *p, int *n)
{
    *n = p->nexpect;
    return p->expect;
}

const YamlNode *plan_evaluation(const Plan *p)
{
    return p->evaluation_map;
}

const YamlNode *plan_strategy_map(const Plan *p)
{
    return p->strategy_map;
}

const char *plan_source(const Plan *p, size_t *len)
{
    return yaml_source(p->doc, len);
}
