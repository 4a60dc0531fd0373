/* The reports of a tuning run: every try with what it gave and took, the verdict, the recipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/json.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tune_stub.h"
#include "tune/trials.h"

#define Q "qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}"
#define PLAN(target)                                                                                                                    \
    "strategy: {type: standing_high, anti_outlier_strategies: [[], [{type: iter_smooth}]], template: {process: [{type: linear_quant, " Q "}]}}\n" \
    "evaluation: {type: memory, demand: {expectations: [{dataset: 'a|b', target: " target ", tolerance: 2}, {dataset: kl, at_most: 0.5}]}}\n"

static const StubRank rank[] = {{"m.0", 3, 0}, {"m.1", 9, 0}, {"m.2", 1, 0}, {"m.3", 7, 0}, {"m.4", 5, 0}, {"m.5", 2, 0}};

static void answer(void *ctx, const Practice *p, EvalResult *r)
{
    (void)ctx;
    char text[20];
    snprintf(text, sizeof text, "%d.50", 78 + p->level + (p->anti[0] != 0));
    stub_answer(r, "a|b", text);
    stub_answer(r, "kl", "0.25");
    r->accuracy[0].error = 0.3;
    r->seconds = 1.5;
}

typedef struct Reports {
    char dir[200];
    Str md, running;
    cJSON *json;
    int met, front, tries;
} Reports;

/* The definition of the front, beside what is told. */
static void hold_front(const Loop *l, Reports *out)
{
    for (int i = 0; i < loop_tries(l); i++) {
        const LoopTry *t = loop_try(l, i);
        double mine = decimal_value(&t->result.accuracy[0].value);
        bool beaten = false;
        for (int k = 0; k < loop_tries(l); k++) {
            const LoopTry *o = loop_try(l, k);
            double other = decimal_value(&o->result.accuracy[0].value);
            beaten = beaten || (o->bytes <= t->bytes && other >= mine && (o->bytes < t->bytes || other > mine));
        }
        if (beaten)
            assert_false(trials_on_front(l, i));
        out->front += trials_on_front(l, i);
        out->met += t->result.satisfied;
    }
    assert_true(out->front > 0);
}

static void at_end(void *ctx, const Loop *l, const LoopStep *done)
{
    Reports *r = ctx;
    const TrialsAbout about = {.model = "DIR", .seconds = 12};
    Error err = {0};
    size_t n;
    assert_int_equal(trials_write(l, done, &about, &err), ST_OK);
    char *md = temp_get(temp_path(r->dir, "report.md"), &n), *json = temp_get(temp_path(r->dir, "report.json"), &n);
    str_puts(&r->md, md);
    assert_int_equal(json_parse(json, n, "report.json", &r->json, &err), ST_OK);
    free(md);
    free(json);
    hold_front(l, r);
    r->tries = loop_tries(l);
    LoopStep running = {.kind = LOOP_EVALUATE, .best = loop_best(l)};
    trials_markdown(l, &running, &about, &r->running);
}

static void reports_of(const char *plan, Reports *r, StubRun *run)
{
    char *dir = temp_folder();
    *r = (Reports){0};
    snprintf(r->dir, sizeof r->dir, "%s", dir);
    StubWorld w = {.rank = rank, .nrank = 6, .answer = answer, .stop_after = -1, .at_end = at_end, .end_ctx = r};
    stub_run(plan, false, dir, &w, run);
    temp_remove(dir);
}

static void reports_free(Reports *r, StubRun *run)
{
    str_free(&r->md);
    str_free(&r->running);
    cJSON_Delete(r->json);
    stub_run_free(run);
}

static const char *text_of(const cJSON *j, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));
}

static void reports_tell_all(void **state)
{
    (void)state;
    Reports r;
    StubRun run;
    reports_of(PLAN("84"), &r, &run);
    assert_int_equal(run.end, LOOP_MET);
    const cJSON *tries = cJSON_GetObjectItemCaseSensitive(r.json, "tries"), *one;
    assert_int_equal(cJSON_GetArraySize(tries), r.tries);
    assert_string_equal(text_of(r.json, "verdict"), "MET");
    assert_string_equal(text_of(r.json, "final_yaml"), str_text(&run.final));
    assert_int_equal(cJSON_GetObjectItemCaseSensitive(r.json, "best")->valueint, run.best + 1);
    int met = 0;
    cJSON_ArrayForEach(one, tries)
    {
        const cJSON *a = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(one, "accuracies"), 0);
        assert_string_equal(text_of(a, "dataset"), "a|b");
        assert_non_null(strstr(text_of(a, "accuracy"), ".50")); /* as it was written */
        assert_true(cJSON_GetObjectItemCaseSensitive(a, "error")->valuedouble == 0.3);
        assert_int_equal(cJSON_GetObjectItemCaseSensitive(one, "float_bytes")->valueint, 4000);
        met += cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(one, "satisfied"));
    }
    assert_int_equal(met, r.met);
    const char *md = str_text(&r.md);
    assert_non_null(strstr(md, "# Tuning of DIR\n\n**MET**: the demand is met with "));
    assert_non_null(strstr(md, "- a|b: 84, less no more than 2\n- kl: at most 0.5\n"));
    assert_non_null(strstr(md, "| a\\|b | kl |"));
    assert_non_null(strstr(md, " ± 0.3 | 0.25 | met"));
    assert_non_null(strstr(md, str_text(&run.final)));
    char bold[24];
    snprintf(bold, sizeof bold, "| **%d** |", run.best + 1);
    assert_non_null(strstr(md, bold));
    int rows = 0;
    for (const char *s = md; (s = strstr(s, "\n| ")) != NULL; s++)
        rows++;
    assert_int_equal(rows, r.tries + 1);
    assert_non_null(strstr(str_text(&r.running), "**RUNNING**\n"));
    reports_free(&r, &run);
}

/* 81.5 ± 0.3 where 81.75 is the least: nobody knows. */
static void chance_is_told(void **state)
{
    (void)state;
    Reports r;
    StubRun run;
    reports_of(PLAN("83.75"), &r, &run);
    assert_non_null(strstr(str_text(&r.md), "| 81.50 ± 0.3 | 0.25 | missed, within its error |"));
    assert_null(strstr(str_text(&r.md), "82.50 ± 0.3 | 0.25 | met, within its error"));
    assert_non_null(strstr(run.log, ": a|b is nearer to what is demanded than its error of 0.3: whether it is met may be chance\n"));
    reports_free(&r, &run);
}

static void a_missed_demand_names_the_closest(void **state)
{
    (void)state;
    Reports r;
    StubRun run;
    reports_of(PLAN("99"), &r, &run);
    assert_int_equal(run.end, LOOP_NOT_MET);
    assert_string_equal(text_of(r.json, "verdict"), "NOT MET");
    assert_null(text_of(r.json, "final_yaml"));
    assert_non_null(strstr(str_text(&r.md), "No try meets the demand; the closest is try "));
    assert_non_null(strstr(str_text(&r.md), "**NOT MET**: "));
    reports_free(&r, &run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_tell_all),
        cmocka_unit_test(chance_is_told),
        cmocka_unit_test(a_missed_demand_names_the_closest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
