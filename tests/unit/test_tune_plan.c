/* Tuning plans: what is taken, and what is refused where and why (specs/tuning.md 1, 4-7; tests/golden/config/broken 30-40). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/tune_stub.h"

#define BROKEN "tests/golden/config/broken/"

/* The verdict on a text; says: part of the only message, NULL: taken. */
static void verdict(const PlanRows *rows, const char *name, const char *text, size_t len, bool peer, const char *says)
{
    Plan *p = NULL;
    Str all = {0};
    Error err = {0};
    Status st = plan_parse(&p, rows, text, len, name, peer, &all, &err);
    if (st != (says ? ST_DATA : ST_OK) || (says && !strstr(err.text, says)))
        fail_msg("%s: %d '%s', not '%s'", name, st, err.text, says ? says : "taken");
    if (says) {
        assert_int_equal(strncmp(str_text(&all), err.text, strlen(err.text)), 0);
        bool server = strstr(err.text, "inference_engine") != NULL; /* both halves have to name the same one, too */
        if (!server && strchr(str_text(&all), '\n') != str_text(&all) + all.len - 1)
            fail_msg("one fault, several lines:\n%s", str_text(&all));
    } else {
        assert_non_null(plan_strategy(p));
        plan_free(p);
    }
    str_free(&all);
}

static void plans_of_the_peer(void **state)
{
    (void)state;
    static const struct {
        const char *file, *peer, *ours;
    } rows[] = {
        {"30-good-plan", NULL, NULL},
        {"31-plan-dataset-not-configured", "31-plan-dataset-not-configured.yaml:15:37: evaluation.demand.expectations.0.dataset: ", "aime25"},
        {"32-plan-empty-strategies", "32-plan-empty-strategies.yaml:3:28: strategy.anti_outlier_strategies: needs at least one item", "needs at least one item"},
        {"33-good-binary_fallback-plan", NULL, NULL},
        {"34-plan-rollback_path-not-list", "34-plan-rollback_path-not-list.yaml:3:18: strategy.rollback_path: must lead to a list of template, 'spec.dataset' is none", "strategy.rollback_path"},
        {"35-plan-tolerance-negative", "35-plan-tolerance-negative.yaml:15:69: evaluation.demand.expectations.0.tolerance: must be at least 0, not -1", "at least 0"},
        {"36-plan-port-out-of-range", "evaluation.inference_engine.port: ", "70000"},
        {"37-plan-public-host", "evaluation.inference_engine.host: ", "8.8.8.8"},
        {"38-plan-wrong-quant_type", "38-plan-wrong-quant_type.yaml:3:15: strategy.quant_type: 'w4a4' is none of w4a8, w8a8", "w4a4"},
        {"39-plan-standing_high-without-template", "39-plan-standing_high-without-template.yaml:2:3: strategy.template: is missing", NULL},
        {"40-plan-linear_quant-only-inside-group", "40-plan-linear_quant-only-inside-group.yaml:8:7: strategy.template.process: needs at least one linear_quant", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[200], name[120];
        snprintf(name, sizeof name, "%s.yaml", rows[i].file);
        snprintf(path, sizeof path, BROKEN "%s", name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        char text[4096];
        size_t n = fread(text, 1, sizeof text, f);
        fclose(f);
        verdict(&plan_rows, name, text, n, true, rows[i].peer);
        verdict(&plan_rows, name, text, n, false, rows[i].ours);
    }
}

#define EVALUATION "evaluation: {type: stub, demand: {expectations: [{dataset: d, target: 83, tolerance: 2}]}}\n"
#define Q "qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}"
#define LINEAR "{type: linear_quant, " Q "}"
#define HIGH(more) "strategy: {type: standing_high, anti_outlier_strategies: [[]], template: {process: [" LINEAR "]}" more "}\n"
#define BACK(path, template, more) "strategy: {type: binary_fallback, rollback_path: " path ", template: " template more "}\n"
#define RECIPE "{apiversion: modelslim_v1, metadata: {verified_model_types: [A]}, spec: {process: [" LINEAR "]}}"
#define KNOWN(more) "strategy: {type: standing_high_with_experience" more "}\n"

typedef struct Case {
    const char *text, *ours, *peer; /* what is said; NULL: taken */
} Case;

static const Case cases[] = {
    {HIGH("") EVALUATION, NULL, NULL},
    {"", "a mapping with strategy and evaluation is expected, not an empty file", "an empty file"},
    {"- 1\n", "t:1:1: a mapping with strategy and evaluation is expected, not list", "not list"},
    {HIGH(""), "t:1:1: evaluation: is missing", "evaluation: is missing"},
    {EVALUATION, "strategy: is missing", "strategy: is missing"},
    {HIGH("") EVALUATION "more: 1\n", "t:3:1: more: unknown key", "more: unknown key"},
    {"strategy: 3\n" EVALUATION, "t:1:11: strategy: must be a mapping", "must be a mapping"},
    {"strategy: {}\n" EVALUATION, "strategy.type: is missing: one of standing_high", "strategy.type: is missing"},
    {"strategy: {type: standing_hi}\n" EVALUATION, "t:1:18: strategy.type: unknown strategy 'standing_hi' (did you mean 'standing_high'?)",
     "(did you mean 'standing_high'?)"},
    {HIGH("") "evaluation: {type: service}\n", "evaluation.type: unknown evaluator 'service'; there are stub, memory", "there are stub"},
    {HIGH("") "evaluation: {type: memory, demand: {expectations: [{dataset: d, target: 83, tolerance: 2}]}}\n", NULL, "unknown evaluator 'memory'"},
    {HIGH("") "evaluation: {type: stub}\n", "evaluation.demand: is missing", "evaluation.demand: is missing"},
    /* keys beside those that are known: the peer lets them pass */
    {HIGH(", metadat: {}") EVALUATION, "strategy.metadat: unknown key (did you mean 'metadata'?)", NULL},
    {HIGH(", scope: group, metric: alone") EVALUATION, NULL, ""},
    {HIGH(", scope: layer") EVALUATION, "strategy.scope: 'layer' is none of block, group, linear", ""},
    {HIGH(", metadata: {config_id: a, label: {w_bit: 8}}") EVALUATION, NULL, NULL},
    {HIGH(", metadata: {config_id: 3}") EVALUATION, "strategy.metadata.config_id: must be text", "config_id: must be text"},
    {"strategy: {type: standing_high}\n" EVALUATION, "strategy.anti_outlier_strategies: is missing", ""},
    {"strategy: {type: standing_high, anti_outlier_strategies: [{type: iter_smooth}], template: {process: [" LINEAR "]}}\n" EVALUATION,
     "strategy.anti_outlier_strategies.0: must be a list", "strategy.anti_outlier_strategies.0: must be a list"},
    {"strategy: {type: standing_high, anti_outlier_strategies: [[], [{type: iter_smoth}]], template: {process: [" LINEAR "]}}\n" EVALUATION,
     "strategy.anti_outlier_strategies.1.0: unknown processor 'iter_smoth' (did you mean 'iter_smooth'?)", "unknown processor"},
    {"strategy: {type: standing_high, anti_outlier_strategies: [[{type: iter_smooth, alpha: 2}]], template: {process: [" LINEAR "]}}\n" EVALUATION,
     "strategy.anti_outlier_strategies.0.0.iter_smooth.alpha: must lie between 0 and 1", "alpha"},
    {"strategy: {type: standing_high, anti_outlier_strategies: [[]], template: {process: [], save: [{type: none}]}}\n" EVALUATION,
     "", ""}, /* two faults */
    {"strategy: {type: standing_high, anti_outlier_strategies: [[]], template: {runner: x, process: [" LINEAR "]}}\n" EVALUATION,
     "strategy.template.runner: 'x' is none of auto", "strategy.template.runner"},
    {"strategy: {type: standing_high, anti_outlier_strategies: [[]], template: {}}\n" EVALUATION,
     "strategy.template.process: needs at least one linear_quant", "needs at least one linear_quant"},
    {BACK("spec.process.0.exclude", RECIPE, "") EVALUATION, NULL, NULL},
    {BACK("spec.process.0.include", RECIPE, "") EVALUATION, NULL, NULL},
    {BACK("metadata.verified_model_types", RECIPE, "") EVALUATION, NULL, NULL},
    {BACK("spec.process.1.exclude", RECIPE, "") EVALUATION, "'1' is no place in the list at 'spec.process', which has 1 items", "'1' is no place"},
    {BACK("spec.process.0.excludes", RECIPE, "") EVALUATION, "'excludes' isn't there in template, at spec.process.0", "'excludes' isn't there"},
    {BACK("spec.process.0.type", RECIPE, "") EVALUATION, "must lead to a list of template, 'spec.process.0.type' is text", "must lead to a list"},
    {BACK("spec..process", RECIPE, "") EVALUATION, "'' isn't there in template, at spec", "'' isn't there"},
    {BACK("nothing", RECIPE, "") EVALUATION, "'nothing' isn't there in template", "'nothing' isn't there"},
    {BACK("' '", RECIPE, "") EVALUATION, "", ""},
    {BACK("spec.process", "{apiversion: modelslim_v0, spec: {process: []}}", "") EVALUATION, "strategy.template.apiversion: must be modelslim_v1, not modelslim_v0",
     "must be modelslim_v1"},
    {BACK("spec.process", "{spec: {process: []}}", "") EVALUATION, "strategy.template.apiversion: is missing", "apiversion: is missing"},
    {BACK("spec.process.0.exclude", RECIPE, ", rollback_candidates: null, analysis_dataset: a.jsonl") EVALUATION, NULL, NULL},
    {BACK("spec.process.0.exclude", RECIPE, ", rollback_candidates: [a, 1]") EVALUATION, "strategy.rollback_candidates.1: must be text",
     "strategy.rollback_candidates.1: must be text"},
    {KNOWN(", structure_configs: [{type: GQA, include: ['*a*']}]") EVALUATION, NULL, NULL},
    {KNOWN(", structure_configs: [{type: GQA, include: ['*a*'], exclude: null}], quant_type: w4a8") EVALUATION, NULL, NULL},
    {KNOWN("") EVALUATION, "strategy.structure_configs: is missing", "strategy.structure_configs: is missing"},
    {KNOWN(", structure_configs: []") EVALUATION, "strategy.structure_configs: needs at least 1 item", "needs at least 1 item"},
    {KNOWN(", structure_configs: [{type: ' ', include: ['*a*']}]") EVALUATION, "strategy.structure_configs.0.type: must not be blank", "must not be blank"},
    {KNOWN(", structure_configs: [{type: GQA, include: []}]") EVALUATION, "strategy.structure_configs.0.include: needs at least 1 item", "needs at least"},
    {KNOWN(", structure_configs: [{type: GQA, include: ['']}]") EVALUATION, "strategy.structure_configs.0.include.0: must not be blank", "must not be blank"},
    {"strategy: {type: fewest_bytes}\n" EVALUATION, NULL, "unknown strategy 'fewest_bytes'"},
    {"strategy: {type: fewest_bytes, scope: linear, metric: alone, template: {process: [" LINEAR "]}}\n" EVALUATION, NULL, "unknown strategy"},
    {"strategy: {type: fewest_bytes, template: {process: []}}\n" EVALUATION, "strategy.template.process: needs", NULL},
    /* what the peer's loader refuses anywhere */
    {HIGH(", metadata: {config_id: 'a@b'}") EVALUATION, NULL, "strategy.metadata.config_id: has a character that the peer refuses"},
    {"strategy: {type: standing_high, type: standing_high}\n" EVALUATION, "t:1", "t:1"}, /* a key twice */
};

static void rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int peer = 0; peer < 2; peer++) {
            const char *says = peer ? cases[i].peer : cases[i].ours;
            if (says && !*says) { /* several lines, or what depends: refused */
                Plan *p;
                Error err = {0};
                assert_int_equal(plan_parse(&p, &stub_rows, cases[i].text, strlen(cases[i].text), "t", peer, NULL, &err), ST_DATA);
                assert_int_equal(strncmp(err.text, "t:", 2), 0);
                continue;
            }
            if (peer && strstr(cases[i].text, "fewest_bytes"))
                says = "unknown strategy";
            verdict(&stub_rows, "t", cases[i].text, strlen(cases[i].text), peer, says);
        }
}

/* Errors of both halves in one go. */
static void all_errors_are_told(void **state)
{
    (void)state;
    static const char text[] = "strategy: {type: standing_high, anti_outlier_strategies: [], template: {process: []}}\n"
                               "evaluation: {type: stub, demand: {expectations: []}, seed: x}\n";
    Plan *p;
    Str all = {0};
    Error err = {0};
    assert_int_equal(plan_parse(&p, &stub_rows, text, strlen(text), "t", false, &all, &err), ST_DATA);
    int lines = 0;
    for (const char *s = str_text(&all); *s; s++)
        lines += *s == '\n';
    assert_int_equal(lines, 4);
    str_free(&all);
    assert_int_equal(plan_open(&p, &stub_rows, "tests/golden/config/no-such.yaml", false, &all, &err), ST_IO);
    str_free(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_of_the_peer), cmocka_unit_test(rules), cmocka_unit_test(all_errors_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
