#include "tune/demand.h"

#include <stdlib.h>
#include <string.h>

#include "tune/canon.h"

Status eval_result_add(EvalResult *r, const Accuracy *a, Error *err)
{
    Accuracy *more = realloc(r->accuracy, (size_t)(r->n + 1) * sizeof *more);
    if (!more)
        return error_nomem(err, "an evaluation");
    r->accuracy = more;
    r->accuracy[r->n++] = *a;
    return ST_OK;
}

const Accuracy *eval_result_of(const EvalResult *r, const char *dataset)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->accuracy[i].dataset, dataset) == 0)
            return &r->accuracy[i];
    return NULL;
}

Status eval_result_copy(EvalResult *out, const EvalResult *r, Error *err)
{
    *out = *r;
    out->accuracy = NULL;
    if (r->n == 0)
        return ST_OK;
    out->accuracy = mem_array((size_t)r->n, sizeof *out->accuracy);
    if (!out->accuracy) {
        out->n = 0;
        return error_nomem(err, "an evaluation");
    }
    memcpy(out->accuracy, r->accuracy, (size_t)r->n * sizeof *out->accuracy);
    return ST_OK;
}

void eval_result_free(EvalResult *r)
{
    free(r->accuracy);
    r->accuracy = NULL;
    r->n = 0;
}

bool expectation_met(const Expectation *e, const Accuracy *a)
{
    if (!e->at_most)
        return decimal_sign(&e->target, &a->value, &e->tolerance) <= 0;
    if (!e->relative)
        return decimal_sign(&a->value, &e->target, NULL) <= 0;
    return a->has_base && decimal_value(&a->value) <= decimal_value(&a->base) * (1 + decimal_value(&e->target) / 100);
}

bool demand_met(const Expectation *e, int n, EvalResult *r)
{
    r->satisfied = r->state == EVAL_DONE;
    for (int i = 0; i < n && r->satisfied; i++) {
        const Accuracy *a = eval_result_of(r, e[i].dataset);
        r->satisfied = a && expectation_met(&e[i], a);
    }
    return r->satisfied;
}

/* ---- in a plan ---- */

/* A number of at least, or above, `f->lo`. */
static void check_decimal(Check *c, const YamlNode *v, const Field *f)
{
    Decimal d;
    if (!decimal_of_node(v, &d)) {
        check_fail(c, v, "must be a decimal number, not %s", v->text ? v->text : yaml_kind_name(v->kind));
        return;
    }
    int sign = decimal_sign(&d, NULL, NULL);
    if (f->open ? sign <= 0 : sign < 0)
        check_fail(c, v, "must be %s 0, not %s", f->open ? "above" : "at least", v->text);
}

/* "0.1", "+2%": the number without its plus and percent. */
static bool read_at_most(const YamlNode *v, Decimal *d, bool *relative)
{
    *relative = v->kind == YAML_STR && v->len > 1 && v->text[v->len - 1] == '%';
    return *relative ? v->text[0] == '+' && decimal_parse(v->text + 1, v->len - 2, d) : decimal_of_node(v, d);
}

static void check_at_most(Check *c, const YamlNode *v, const Field *f)
{
    (void)f;
    Decimal d;
    bool relative;
    if (!read_at_most(v, &d, &relative))
        check_fail(c, v, "must be a decimal number or a share like \"+2%%\", not %s", v->text ? v->text : yaml_kind_name(v->kind));
    else if (d.minus)
        check_fail(c, v, "must be at least 0, not %s", v->text);
}

static const Field expectation_fields[] = {
    {.key = "dataset", .type = F_STR, .required = true, .longest = DATASET_MAX, .filled = true},
    {.key = "target", .type = F_CHECKED, .value = check_decimal, .open = true, .canon = canon_decimal},
    {.key = "tolerance", .type = F_CHECKED, .value = check_decimal, .canon = canon_decimal},
    {.key = "at_most", .type = F_CHECKED, .value = check_at_most, .ours = true},
    FIELD_END,
};

static void check_expectation(Check *c, const YamlNode *map)
{
    const YamlNode *most = yaml_get(map, "at_most");
    static const char *const both[] = {"target", "tolerance"};
    for (int i = 0; i < 2; i++) {
        const YamlNode *v = yaml_get(map, both[i]);
        size_t was = check_push(c, both[i]);
        if (most && v)
            check_fail(c, v, "does not go with at_most");
        else if (!most && !v)
            check_fail(c, map, "is missing");
        check_pop(c, was);
    }
}

static const Object expectation_object = {.fields = expectation_fields, .check = check_expectation};

/* Each data set once. */
static void check_demand(Check *c, const YamlNode *map)
{
    const YamlNode *list = yaml_get(map, "expectations");
    int n = list && list->kind == YAML_SEQ ? list->count : 0;
    for (int i = 0; i < n; i++) {
        const YamlNode *name = yaml_get(list->items[i], "dataset");
        for (int k = 0; k < i && name && name->kind == YAML_STR; k++) {
            if (!node_is(yaml_get(list->items[k], "dataset"), name->text))
                continue;
            size_t was = check_push(c, "expectations"), at = check_push_index(c, i);
            check_push(c, "dataset");
            check_fail(c, name, "'%.80s' is expected twice", name->text);
            check_pop(c, at);
            check_pop(c, was);
            break;
        }
    }
}

static const Field demand_fields[] = {
    {.key = "expectations", .type = F_OBJECTS, .object = &expectation_object, .required = true, .least = 1},
    FIELD_END,
};
const Object demand_object = {.fields = demand_fields, .check = check_demand};

const Expectation *demand_read(Arena *a, const YamlNode *demand, int *n)
{
    const YamlNode *list = yaml_get(demand, "expectations");
    Expectation *e = arena_alloc(a, (size_t)(list->count + 1) * sizeof *e);
    *n = 0;
    for (int i = 0; e && i < list->count; i++) {
        const YamlNode *m = list->items[i], *most = yaml_get(m, "at_most");
        Expectation x = {.dataset = yaml_get(m, "dataset")->text, .at_most = most != NULL};
        bool fine = most ? read_at_most(most, &x.target, &x.relative)
                         : decimal_of_node(yaml_get(m, "target"), &x.target) &&
                               decimal_of_node(yaml_get(m, "tolerance"), &x.tolerance);
        if (fine)
            e[(*n)++] = x;
    }
    return e;
}
