/* Strategies of auto-tuning by our own rules: levels are verified, nothing is asked twice, what fails says so
 * (specs/tuning.md 4-6, "do better"). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/fake_model.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tune_stub.h"

#define DEMAND "evaluation: {type: memory, demand: {expectations: [{dataset: d, target: 83, tolerance: 2}]}}\n"
#define AT_MOST(what) "evaluation: {type: memory, demand: {expectations: [{dataset: " what "}]}}\n"
#define QCONFIG                                                                  \
    "qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, " \
    "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}"
#define LINEAR "{type: linear_quant, " QCONFIG "}"
#define STANDING(strategies, process) \
    "strategy:\n  type: standing_high\n  anti_outlier_strategies: " strategies "\n  template: {process: " process "}\n"
#define THREE "[[], [{type: iter_smooth, alpha: 0.5}], [{type: iter_smooth, alpha: 0.9}]]"

static const StubRank eight[] = {{"m.0", 3, 0}, {"m.1", 9, 0}, {"m.2", 1, 0}, {"m.3", 7, 0},
                                 {"m.4", 5, 0}, {"m.5", 2, 0}, {"m.6", 8, 0}, {"m.7", 6, 0}};

/* Met from so many rows on, by suppression: "", 0.5, 0.9. */
typedef struct Needs {
    int rows[3];
} Needs;

static void by_level(void *ctx, const Practice *p, EvalResult *r)
{
    const Needs *n = ctx;
    int which = strstr(p->anti, "0.5") ? 1 : strstr(p->anti, "0.9") ? 2 : 0;
    stub_answer(r, "d", p->level >= n->rows[which] ? "83" : "70");
}

static void run(const char *plan, StubWorld *w, StubRun *r)
{
    char *dir = temp_folder();
    w->stop_after = w->stop_after ? w->stop_after : -1;
    stub_run(plan, false, dir, w, r);
    temp_remove(dir);
}

static void standing_high_finds_the_fewest(void **state)
{
    (void)state;
    static const char plan[] = STANDING(THREE, "[" LINEAR "]") DEMAND;
    Needs needs = {{5, 3, 2}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs};
    StubRun r;
    run(plan, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_int_equal(r.status, ST_OK);
    /* nothing is asked twice: each line is another try */
    assert_string_equal(str_text(&r.shown),
                        "1  [] missed\n"
                        "2  [*m.1.* *m.6.* *m.3.* *m.7.*] missed\n"
                        "3  [*m.1.* *m.6.* *m.3.* *m.7.* *m.4.* *m.0.*] met\n"
                        "4  [*m.1.* *m.6.* *m.3.* *m.7.* *m.4.*] met\n"
                        "5 iter_smooth(0.5) [*m.1.* *m.6.* *m.3.* *m.7.*] met\n"
                        "6 iter_smooth(0.5) [*m.1.* *m.6.*] missed\n"
                        "7 iter_smooth(0.9) [*m.1.* *m.6.*] met\n"
                        "8 iter_smooth(0.9) [] missed\n"
                        "9 iter_smooth(0.5) [] missed\n"
                        "10 iter_smooth(0.9) [*m.1.*] missed\n"
                        "11  [*m.1.*] missed\n"
                        "12 iter_smooth(0.5) [*m.1.*] missed\n");
    assert_int_equal(r.best, 6);
    assert_non_null(strstr(r.text, "2 blocks in float and iter_smooth(0.9)"));
    stub_run_free(&r);
}

static void the_first_try_needs_no_ranking(void **state)
{
    (void)state;
    Needs needs = {{0, 0, 0}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs};
    StubRun r;
    run(STANDING("[[]]", "[" LINEAR "]") DEMAND, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_int_equal(w.ranked, 0);
    stub_run_free(&r);
}

/* What the peer ends as a success: the last level is looked at, and misses. */
static void a_search_that_fails_says_so(void **state)
{
    (void)state;
    Needs needs = {{99, 99, 99}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs};
    StubRun r;
    run(STANDING("[[]]", "[" LINEAR "]") DEMAND, &w, &r);
    assert_int_equal(r.end, LOOP_NOT_MET);
    assert_int_equal(r.status, ST_FAIL);
    assert_non_null(strstr(str_text(&r.shown), "5  [*m.1.* *m.6.* *m.3.* *m.7.* *m.4.* *m.0.* *m.5.* *m.2.*] missed\n"));
    assert_int_equal(r.tries, 5);
    assert_true(r.best >= 0);
    assert_int_equal(r.final.len, 0);
    stub_run_free(&r);
}

/* The last level is not met by halving alone: all rows are needed. */
static void the_last_level_is_verified(void **state)
{
    (void)state;
    Needs needs = {{8, 99, 99}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs};
    StubRun r;
    run(STANDING("[[]]", "[" LINEAR "]") DEMAND, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_non_null(strstr(r.text, "8 blocks"));
    stub_run_free(&r);
}

static void few_rows(void **state)
{
    (void)state;
    Needs one = {{1, 99, 0}}, none = {{99, 99, 99}};
    StubWorld w = {.rank = eight, .nrank = 1, .answer = by_level, .ctx = &one};
    StubRun r;
    run(STANDING(THREE, "[" LINEAR "]") DEMAND, &w, &r); /* one block; with 0.9 none is needed */
    assert_int_equal(r.end, LOOP_MET);
    assert_non_null(strstr(r.text, "nothing more in float and iter_smooth(0.9)"));
    stub_run_free(&r);
    w.nrank = 0;
    run(STANDING(THREE, "[" LINEAR "]") DEMAND, &w, &r); /* no block, and other suppressions are tried all the same */
    assert_int_equal(r.end, LOOP_MET);
    stub_run_free(&r);
    w.ctx = &none;
    run(STANDING(THREE, "[" LINEAR "]") DEMAND, &w, &r);
    assert_int_equal(r.end, LOOP_NOT_MET);
    assert_non_null(strstr(r.text, "no rows"));
    stub_run_free(&r);
}

/* Scores that are no numbers come first; names that are there twice make one pattern. */
static void nan_is_the_worst(void **state)
{
    (void)state;
    static const StubRank odd[] = {{"m.0", 3, 0}, {"m.1", NAN, 0}, {"m.2", 9, 0}, {"m.2", 8, 0}, {"m.3", NAN, 0}, {"m.4", -1, 0}};
    Needs needs = {{5, 99, 99}};
    StubWorld w = {.rank = odd, .nrank = 6, .answer = by_level, .ctx = &needs};
    StubRun r;
    run(STANDING("[[]]", "[" LINEAR "]") DEMAND, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_string_equal(r.log, "1 2 of 6 scores of the ranking are no numbers: these stand first, as the worst\n");
    assert_non_null(strstr(str_text(&r.shown), "[*m.1.* *m.3.* *m.2.* *m.0.*]"));
    stub_run_free(&r);
}

/* linear_quant inside groups get the patterns; prior stays; what isn't set stays absent. */
static void practices_are_whole(void **state)
{
    (void)state;
    static const char plan[] =
        "strategy:\n  type: standing_high\n  anti_outlier_strategies: [[{type: flex_smooth_quant}]]\n"
        "  metadata: {config_id: mine, label: {w_bit: 8, a_bit: 8}}\n"
        "  template:\n    prior: [{process: [{type: adapt_rotation, stage: 1}]}]\n    process:\n      - {type: adapt_rotation, stage: 2}\n"
        "      - type: group\n        configs:\n          - {type: linear_quant, " QCONFIG ", include: ['*mlp*'], exclude: ['*down*']}\n"
        "          - {type: linear_quant, " QCONFIG ", include: ['*attn*']}\n"
        "    save: [{type: ascendv1_saver, part_file_size: 4}]\n" DEMAND;
    Needs needs = {{1, 99, 99}};
    StubWorld w = {.rank = eight, .nrank = 1, .answer = by_level, .ctx = &needs};
    StubRun r;
    Recipe *recipe;
    Error err = {0};
    run(plan, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    if (recipe_parse(&recipe, &recipe_rows, str_text(&r.final), r.final.len, "final", NULL, &err) != ST_OK)
        fail_msg("%s\n%s", err.text, str_text(&r.final));
    assert_int_equal(recipe_entries(recipe), 2);
    assert_int_equal(recipe_entry(recipe, 0)->nexclude, 2);
    assert_string_equal(recipe_entry(recipe, 0)->exclude[1], "*m.0.*");
    assert_int_equal(recipe_entry(recipe, 1)->nexclude, 1);
    assert_int_equal(recipe_stages(recipe), 2); /* the prior one, too */
    assert_non_null(strstr(str_text(&r.final), "config_id: mine_"));
    assert_non_null(strstr(str_text(&r.final), "- Demo"));
    assert_null(strstr(str_text(&r.final), "null"));
    recipe_free(recipe);
    stub_run_free(&r);
}

#define FALLBACK(exclude, more)                                                                                          \
    "strategy:\n  type: binary_fallback\n  rollback_path: spec.process.0.exclude\n  template:\n    apiversion: modelslim_v1\n" \
    "    metadata: {config_id: bf}\n    spec: {process: [{type: linear_quant, " QCONFIG exclude "}]}\n" more DEMAND

static void fallback_adds_to_the_list(void **state)
{
    (void)state;
    Needs needs = {{2, 99, 99}};
    StubWorld w = {.rank = eight, .nrank = 3, .answer = by_level, .ctx = &needs};
    StubRun r;
    run(FALLBACK(", exclude: ['*lm_head*', '*m.1.*']", ""), &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_string_equal(str_text(&r.shown), "1  [*lm_head* *m.1.*] missed\n"
                                            "2  [*lm_head* *m.1.* *m.0.*] met\n"); /* the first alone is there already */
    stub_run_free(&r);
}

static void fallback_ends_with_the_closest(void **state)
{
    (void)state;
    Needs needs = {{99, 99, 99}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs};
    StubRun r;
    run(FALLBACK("", ""), &w, &r);
    assert_int_equal(r.end, LOOP_NOT_MET);
    assert_true(r.best >= 0);
    assert_int_equal(r.tries, 5); /* 0, 4, 6, 7, 8 */
    stub_run_free(&r);
    run(FALLBACK("", "  rollback_candidates: [m.0, '*x?', 'm.1', '*{a,b}']\n"), &w, &r);
    assert_non_null(strstr(str_text(&r.shown), "[*m.0.* *x? *m.1.* *{a,b}] missed"));
    stub_run_free(&r);
    w.nrank = 0;
    run(FALLBACK("", ""), &w, &r);
    assert_int_equal(r.end, LOOP_NOT_MET);
    assert_non_null(strstr(r.text, "no candidates"));
    assert_int_equal(r.tries, 1);
    stub_run_free(&r);
}

/* A linear's own name is exact, a block's takes all below it; what names nothing is told. */
static void names_are_looked_up(void **state)
{
    (void)state;
    static const char *const names[] = {"model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj", "model.layers.10.mlp.up_proj"};
    Model *m = fake_model_names(names, 3);
    Needs needs = {{99, 99, 99}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs, .model = m};
    StubRun r;
    run(FALLBACK("", "  rollback_candidates: [model.layers.0, model.layers.0.mlp.down_proj, model.layers.1, '*nowhere*']\n"), &w, &r);
    assert_non_null(strstr(str_text(&r.shown), "[*model.layers.0.* model.layers.0.mlp.down_proj *model.layers.1.* *nowhere*] missed"));
    assert_string_equal(r.log, "1 rollback_candidates: '*model.layers.1.*' names no linear of this model\n"
                               "1 rollback_candidates: '*nowhere*' names no linear of this model\n");
    stub_run_free(&r);
    fake_model_free(m);
}

/* ---- with experience ---- */

#define EXPERIENCE "lab_practice/experience.yaml"
#define WITH(type, structures)                                                                                          \
    "strategy:\n  type: standing_high_with_experience\n  quant_type: " type "\n  structure_configs: " structures "\n" DEMAND

static void experience_is_a_recipe(void **state)
{
    (void)state;
    Needs needs = {{0, 0, 0}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs, .experience = EXPERIENCE};
    StubRun r;
    Recipe *recipe;
    Error err = {0};
    run(WITH("w8a8", "[{type: GQA, include: ['*self_attn*']}, {type: FFN, include: ['*mlp*'], exclude: ['*gate']}, "
                     "{type: DSA, include: ['*indexer*']}]"), &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    if (recipe_parse(&recipe, &recipe_rows, str_text(&r.final), r.final.len, "final", NULL, &err) != ST_OK)
        fail_msg("%s\n%s", err.text, str_text(&r.final));
    assert_int_equal(recipe_entries(recipe), 2);
    assert_int_equal(recipe_entry(recipe, 0)->q.act.scope, QS_PER_TENSOR);
    assert_string_equal(recipe_entry(recipe, 0)->exclude[0], "*indexer*");
    assert_int_equal(recipe_entry(recipe, 1)->q.act.scope, QS_PER_TOKEN);
    assert_int_equal(recipe_entry(recipe, 1)->nexclude, 2);
    assert_true(recipe_can_run(recipe, NULL));
    assert_non_null(strstr(str_text(&r.shown), "1 flex_smooth_quant ["));
    assert_non_null(strstr(str_text(&r.final), "standing_high_with_experience_"));
    recipe_free(recipe);
    stub_run_free(&r);
    run(WITH("w4a8", "[{type: MoE, include: ['*experts*']}]"), &w, &r);
    assert_non_null(strstr(str_text(&r.final), "ssz"));
    assert_non_null(strstr(str_text(&r.final), "w_bit: 4"));
    stub_run_free(&r);
}

static void open_fails(const char *plan, const char *experience, const char *says)
{
    char *dir = temp_folder();
    Plan *p = stub_plan(plan, false);
    LoopOptions o = {.plan = p, .rows = &stub_rows, .save_path = dir, .now = stub_now, .experience = experience};
    Loop *l;
    Error err = {0};
    Status st = loop_open(&l, &o, &err);
    if (st == ST_OK || !strstr(err.text, says))
        fail_msg("%d '%s', not '%s'", st, err.text, says);
    plan_free(p);
    temp_remove(dir);
}

static void experience_has_limits(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *mine = temp_path(dir, "mine.yaml");
    open_fails(WITH("w8a8", "[{type: XYZ, include: ['*']}]"), EXPERIENCE, "line 4: the experience with w8a8 has no structure 'XYZ': there are MHA, GQA");
    open_fails(WITH("w4a8", "[{type: FFN, include: ['*']}]"), EXPERIENCE, "no structure 'FFN'");
    open_fails(WITH("w8a8", "[{type: DSA, include: ['*']}]"), EXPERIENCE, "every structure stays in float");
    open_fails(WITH("w8a8", "[{type: FFN, include: ['*']}]"), NULL, "lab_practice/experience.yaml");
    temp_puts(mine, "quant_types: {w8a8: {structures: {FFN: {weight: {dtype: int8}}}, anti_outlier_strategies: []}}");
    open_fails(WITH("w8a8", "[{type: FFN, include: ['*']}]"), mine, "mine.yaml:1:49: quant_types.w8a8.structures.FFN.weight.scope: is missing");
    temp_puts(mine, "- nothing");
    open_fails(WITH("w8a8", "[{type: FFN, include: ['*']}]"), mine, "mine.yaml:1:1: must be a mapping");
    /* an edited table is used, and what this build can't run is left out */
    temp_puts(mine, "quant_types: {w8a8: {structures: {Mine: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, weight: "
                    "{scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}, anti_outlier_strategies: [[{type: unary_analysis}], []]}}");
    Needs needs = {{0, 0, 0}};
    StubWorld w = {.rank = eight, .nrank = 8, .answer = by_level, .ctx = &needs, .experience = mine};
    StubRun r;
    run(WITH("w8a8", "[{type: Mine, include: ['*']}]"), &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_string_equal(str_text(&r.shown), "1  [] met\n");
    assert_non_null(strstr(r.log, "the suppression 'unary_analysis' is left out: "));
    stub_run_free(&r);
    temp_remove(dir);
}

/* ---- fewest bytes ---- */

/* KL is the sum of what isn't in float, as the ranking says. */
typedef struct Sums {
    const StubRank *rank;
    int n;
    double scale;
} Sums;

static double left_of(const Sums *s, const Practice *p)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++)
        if (!stub_in_float(p, s->rank[i].name))
            sum += s->rank[i].score * s->scale;
    return sum;
}

static int64_t bytes_of(const Sums *s, const char *shown_line)
{
    int64_t bytes = 0;
    for (int i = 0; i < s->n; i++) {
        char name[40];
        snprintf(name, sizeof name, "*%s.*", s->rank[i].name);
        if (strstr(shown_line, name))
            bytes += s->rank[i].bytes;
    }
    return bytes;
}

static void by_sum(void *ctx, const Practice *p, EvalResult *r)
{
    char text[40];
    snprintf(text, sizeof text, "%.6f", left_of(ctx, p));
    stub_answer(r, "kl", text);
}

static void score_by_sum(void *ctx, const Practice *p, EvalResult *r)
{
    char text[40];
    snprintf(text, sizeof text, "%.6f", 100 - left_of(ctx, p));
    stub_answer(r, "d", text);
}

static void ppl_by_sum(void *ctx, const Practice *p, EvalResult *r)
{
    char text[40];
    snprintf(text, sizeof text, "%.9f", 20 * exp(left_of(ctx, p)));
    stub_answer(r, "ppl", text);
    assert_true(decimal_of(20, &r->accuracy[0].base));
    r->accuracy[0].has_base = true;
}

enum { GROUPS = 40 };
static StubRank groups[GROUPS];
static char group_names[GROUPS][16];

static Sums many(void)
{
    for (int i = 0; i < GROUPS; i++) {
        snprintf(group_names[i], sizeof group_names[i], "g.%d", i);
        groups[i] = (StubRank){group_names[i], exp(-0.15 * ((i * 17) % GROUPS)), 100 + (i * 7) % 50};
    }
    return (Sums){groups, GROUPS, 0.01};
}

static void check_fewest(const char *plan, void (*answer)(void *, const Practice *, EvalResult *), double most, int tries)
{
    Sums sums = many();
    StubWorld w = {.rank = groups, .nrank = GROUPS, .answer = answer, .ctx = &sums};
    StubRun r;
    run(plan, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_true(r.tries <= tries);
    /* no other try that was met takes fewer bytes, and the fractional optimum is not far */
    char *text = strdup(str_text(&r.shown)), *save;
    int64_t chosen = -1, least = INT64_MAX;
    int i = 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), i++) {
        int64_t bytes = bytes_of(&sums, line);
        if (i == r.best)
            chosen = bytes;
        if (strstr(line, "] met") && bytes < least)
            least = bytes;
    }
    assert_int_equal(chosen, least);
    double sum = 0, best = 0;
    for (int k = 0; k < GROUPS; k++)
        sum += groups[k].score * sums.scale;
    for (bool taken[GROUPS] = {false}; sum > most;) { /* greedy by score per byte */
        int at = -1;
        for (int k = 0; k < GROUPS; k++)
            if (!taken[k] && (at < 0 || groups[k].score / (double)groups[k].bytes > groups[at].score / (double)groups[at].bytes))
                at = k;
        taken[at] = true;
        sum -= groups[at].score * sums.scale;
        best += (double)groups[at].bytes;
    }
    assert_true((double)chosen <= best);
    free(text);
    stub_run_free(&r);
}

#define FEWEST "strategy: {type: fewest_bytes, scope: block}\n"
static void fewest_bytes_of_a_bound(void **state)
{
    (void)state;
    check_fewest(FEWEST AT_MOST("kl, at_most: 0.02"), by_sum, 0.02, 12);
    check_fewest(FEWEST AT_MOST("ppl, at_most: '+2%'"), ppl_by_sum, log1p(0.02), 12);
    check_fewest(FEWEST AT_MOST("ppl, at_most: 20.4"), ppl_by_sum, log(20.4 / 20), 12);
}

static void fewest_bytes_of_any_demand(void **state)
{
    (void)state;
    check_fewest(FEWEST AT_MOST("d, target: 100, tolerance: 0.02"), score_by_sum, 0.02, 18);
}

static void garbage(void *ctx, const Practice *p, EvalResult *r)
{
    if (p->level < *(int *)ctx) {
        r->state = EVAL_BAD;
        snprintf(r->text, sizeof r->text, "empty answers");
    } else {
        stub_answer(r, "kl", "0.001");
    }
}

static void fewest_bytes_meets_garbage(void **state)
{
    (void)state;
    int needs = 3;
    many();
    StubWorld w = {.rank = groups, .nrank = GROUPS, .answer = garbage, .ctx = &needs};
    StubRun r;
    run(FEWEST AT_MOST("kl, at_most: 0.02"), &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_non_null(strstr(r.text, "3 blocks"));
    stub_run_free(&r);
    needs = 1000;
    run(FEWEST AT_MOST("kl, at_most: 0.02"), &w, &r);
    assert_int_equal(r.end, LOOP_NOT_MET);
    stub_run_free(&r);
    w.nrank = 0;
    run(FEWEST AT_MOST("kl, at_most: 0.02"), &w, &r);
    assert_int_equal(r.end, LOOP_NOT_MET);
    stub_run_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(standing_high_finds_the_fewest), cmocka_unit_test(the_first_try_needs_no_ranking),
        cmocka_unit_test(a_search_that_fails_says_so),    cmocka_unit_test(the_last_level_is_verified),
        cmocka_unit_test(few_rows),                       cmocka_unit_test(nan_is_the_worst),
        cmocka_unit_test(practices_are_whole),            cmocka_unit_test(fallback_adds_to_the_list),
        cmocka_unit_test(fallback_ends_with_the_closest), cmocka_unit_test(names_are_looked_up), cmocka_unit_test(experience_is_a_recipe),
        cmocka_unit_test(experience_has_limits),          cmocka_unit_test(fewest_bytes_of_a_bound),
        cmocka_unit_test(fewest_bytes_of_any_demand),     cmocka_unit_test(fewest_bytes_meets_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
