/* The loop of auto-tuning by our own rules: what is known isn't done again, whatever happens to the run or the folder
 * (specs/tuning.md 1, 9, "do better"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tune_stub.h"
#include "tune/history.h"

#define QCONFIG                                                                  \
    "qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, " \
    "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}"
#define STANDING                                                                                                      \
    "strategy:\n  type: standing_high\n  anti_outlier_strategies: [[], [{type: iter_smooth, alpha: 0.5}]]\n  template: {process: " \
    "[{type: linear_quant, " QCONFIG "}], save: [{type: ascendv1_saver}]}\n"
#define FALLBACK                                                                                          \
    "strategy:\n  type: binary_fallback\n  rollback_path: spec.process.0.exclude\n  template:\n    apiversion: modelslim_v1\n" \
    "    metadata: {config_id: bf}\n    spec: {process: [{type: linear_quant, " QCONFIG "}]}\n"
#define FEWEST "strategy: {type: fewest_bytes, scope: block}\n"
#define EVALUATE(type, more) \
    "evaluation: {type: " type ", demand: {expectations: [{dataset: d, target: 83, tolerance: 2}]}" more "}\n"

static const StubRank eight[] = {{"m.0", 3, 10}, {"m.1", 9, 10}, {"m.2", 1, 10}, {"m.3", 7, 10},
                                 {"m.4", 5, 10}, {"m.5", 2, 10}, {"m.6", 8, 10}, {"m.7", 6, 10}};

typedef struct Needs {
    int rows, smoothed; /* without and with suppression */
    const char *fails;  /* EVAL_FAILED of the try that has so many patterns; NULL: none */
    int failing;
    bool bad;
} Needs;

static void by_level(void *ctx, const Practice *p, EvalResult *r)
{
    const Needs *n = ctx;
    if (n->fails && p->level == n->failing) {
        r->state = EVAL_FAILED;
        snprintf(r->text, sizeof r->text, "%s", n->fails);
        return;
    }
    if (n->bad)
        r->state = EVAL_BAD;
    stub_answer(r, "d", p->level >= (p->anti[0] ? n->smoothed : n->rows) ? "82" : "70");
}

static StubWorld world(Needs *needs)
{
    return (StubWorld){.rank = eight, .nrank = 8, .answer = by_level, .ctx = needs, .stop_after = -1, .model_id = "m1", .data_id = "c1"};
}

/* ---- killed and run again ---- */

/* false: the run was over before the kill. */
static bool goes_on_after(const char *plan, int kill, const StubWorld *whole, const StubRun *once)
{
    char *dir = temp_folder();
    Needs needs = *(const Needs *)whole->ctx;
    StubWorld w = world(&needs);
    StubRun first, again;
    w.nrank = whole->nrank;
    w.stop_after = kill;
    stub_run(plan, false, dir, &w, &first);
    w.stop_after = -1;
    stub_run(plan, false, dir, &w, &again);
    assert_string_equal(str_text(&again.shown), str_text(&once->shown));
    assert_string_equal(str_text(&again.final), str_text(&once->final));
    assert_int_equal(again.end, once->end);
    /* the running step alone was done twice */
    assert_int_equal(w.evaluated, whole->evaluated);
    assert_int_equal(w.ranked, whole->ranked);
    assert_true(w.quantized <= whole->quantized + 1);
    assert_true(w.kept >= (whole->kept > 0));
    bool stopped = first.stopped;
    stub_run_free(&first);
    stub_run_free(&again);
    temp_remove(dir);
    return stopped;
}

static void goes_on_after_every_kill(void **state)
{
    (void)state;
    static const char *const plans[] = {STANDING EVALUATE("stub", ""), FALLBACK EVALUATE("memory", ""), FEWEST EVALUATE("memory", "")};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        char *dir = temp_folder();
        Needs needs = {3, 2, NULL, 0, false};
        StubWorld whole = world(&needs);
        StubRun once;
        int kill = 0;
        whole.nrank = 4;
        whole.ctx = &needs;
        stub_run(plans[i], false, dir, &whole, &once);
        assert_int_equal(once.end, LOOP_MET);
        while (goes_on_after(plans[i], kill, &whole, &once))
            kill++;
        assert_true(kill >= 6);
        stub_run_free(&once);
        temp_remove(dir);
    }
}

/* A third run has nothing to do at all. */
static void a_finished_run_is_not_repeated(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {5, 3, NULL, 0, false};
    StubWorld w = world(&needs);
    StubRun r;
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r);
    stub_run_free(&r);
    StubWorld next = world(&needs);
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &next, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_int_equal(next.ranked + next.quantized + next.evaluated + next.kept, 0);
    assert_int_equal(r.cached, r.tries);
    assert_string_equal(r.notes, "");
    stub_run_free(&r);
    /* the result was deleted: it is made again, and nothing else */
    unlink(temp_path(temp_path(dir, "quant_model"), "of"));
    rmdir(temp_path(dir, "quant_model"));
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &next, &r);
    assert_int_equal(next.quantized, 1);
    assert_int_equal(next.evaluated, 0);
    assert_int_equal(next.kept, 1);
    stub_run_free(&r);
    temp_remove(dir);
}

/* ---- the winner's weights ---- */

static void the_winner_is_kept(void **state)
{
    (void)state;
    static const char *const types[] = {EVALUATE("stub", ""), EVALUATE("memory", "")};
    for (int i = 0; i < 2; i++) {
        char *dir = temp_folder(), plan[2000];
        Needs needs = {5, 3, NULL, 0, false};
        StubWorld w = world(&needs);
        StubRun r;
        size_t n;
        snprintf(plan, sizeof plan, "%s%s", STANDING, types[i]);
        stub_run(plan, false, dir, &w, &r);
        assert_int_equal(r.end, LOOP_MET);
        char *id = temp_get(temp_path(temp_path(dir, "quant_model"), "of"), &n);
        assert_non_null(strstr(str_text(&r.final), id)); /* not the last try, which missed */
        assert_true(w.kept >= 1);
        if (i == 1) /* in memory: only the result is written */
            assert_int_equal(w.written, 1);
        else /* kept aside when it was found, not made once more */
            assert_int_equal(w.quantized, w.evaluated);
        char *file = temp_get(temp_path(dir, "best_practice.yaml"), &n);
        assert_string_equal(file, str_text(&r.final));
        Recipe *recipe;
        Error err = {0};
        assert_int_equal(recipe_parse(&recipe, &recipe_rows, file, n, "best", NULL, &err), ST_OK);
        recipe_free(recipe);
        free(file);
        free(id);
        stub_run_free(&r);
        temp_remove(dir);
    }
}

/* ---- what has changed ---- */

static void what_has_changed_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *plan, *model, *data, *says;
        bool known; /* the answers of the first run count */
    } rows[] = {
        {STANDING EVALUATE("memory", ""), "m1", "c1", "", true},
        {STANDING EVALUATE("memory", ""), "m2", "c1", "the model is not the one", false},
        {STANDING EVALUATE("memory", ""), "m1", "c2", "the calibration set is not the one", false},
        {STANDING EVALUATE("memory", ", seed: 2"), "m1", "c1", "evaluation has other settings", false},
        {STANDING EVALUATE("memory", ", seed: 1"), "m1", "c1", "the plan is not the one", true}, /* what absent stands for */
        {STANDING "evaluation: {type: memory, demand: {expectations: [{dataset: d, target: 80, tolerance: 0}]}}\n", "m1", "c1",
         "the plan is not the one", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *dir = temp_folder();
        Needs needs = {5, 3, NULL, 0, false};
        StubWorld w = world(&needs);
        StubRun r;
        stub_run(STANDING EVALUATE("memory", ""), false, dir, &w, &r);
        int before = w.evaluated;
        stub_run_free(&r);
        w.model_id = rows[i].model;
        w.data_id = rows[i].data;
        stub_run(rows[i].plan, false, dir, &w, &r);
        if (!strstr(r.notes, rows[i].says) || (!rows[i].says[0] && r.notes[0]))
            fail_msg("%zu: '%s'", i, r.notes);
        assert_int_equal(w.evaluated, rows[i].known ? before : 2 * before);
        stub_run_free(&r);
        temp_remove(dir);
    }
}

/* Accuracies are kept, not verdicts: another demand judges them anew. */
static void another_demand_judges_anew(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {5, 99, NULL, 0, false};
    StubWorld w = world(&needs);
    StubRun r;
    stub_run(STANDING EVALUATE("memory", ""), false, dir, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    stub_run_free(&r);
    int before = w.evaluated;
    stub_run(STANDING "evaluation: {type: memory, demand: {expectations: [{dataset: d, target: 70, tolerance: 0}]}}\n", false, dir, &w, &r);
    assert_int_equal(r.tries, 1); /* all in 8 bits does now */
    assert_int_equal(w.evaluated, before);
    stub_run_free(&r);
    /* a data set that was never looked at */
    stub_run(STANDING "evaluation: {type: memory, demand: {expectations: [{dataset: d, target: 70, tolerance: 0}, {dataset: e, at_most: 3}]}}\n",
             false, dir, &w, &r);
    assert_true(w.evaluated > before);
    assert_int_equal(r.cached, 0);
    assert_int_equal(r.end, LOOP_NOT_MET);
    stub_run_free(&r);
    temp_remove(dir);
}

/* ---- files that are broken ---- */

static void broken_files_are_put_aside(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
    } rows[] = {
        {"accuracy.yaml", "a: [1\n"},         {"accuracy.yaml", "\x80\x01\x02"}, {"accuracy.yaml", "- list\n"}, {"accuracy.yaml", "k: &a *a\n"},
        {"accuracy.yaml", "a: 1\na: 2\n"},    {"run.json", "{\"model\": "},      {"run.json", "[]]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *dir = temp_folder(), name[64];
        Needs needs = {2, 99, NULL, 0, false};
        StubWorld w = world(&needs);
        StubRun r;
        size_t n;
        Error err = {0};
        assert_int_equal(dir_make(temp_path(dir, "history"), &err), ST_OK);
        snprintf(name, sizeof name, "history/%s", rows[i].name);
        temp_puts(temp_path(dir, name), rows[i].text);
        stub_run(STANDING EVALUATE("memory", ""), false, dir, &w, &r);
        assert_int_equal(r.end, LOOP_MET);
        assert_non_null(strstr(r.notes, rows[i].name));
        assert_ptr_equal(strchr(r.notes, '\n'), r.notes + strlen(r.notes) - 1); /* one line */
        strcat(name, ".broken");
        char *kept = temp_get(temp_path(dir, name), &n);
        assert_string_equal(kept, rows[i].text);
        free(kept);
        stub_run_free(&r);
        temp_remove(dir);
    }
}

static void entries_without_accuracies_are_dropped(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {2, 99, NULL, 0, false};
    StubWorld w = world(&needs);
    StubRun r;
    size_t n;
    Error err = {0};
    assert_int_equal(dir_make(temp_path(dir, "history"), &err), ST_OK);
    temp_puts(temp_path(dir, "history/accuracy.yaml"),
              "a: {is_satisfied: true}\nb: 7\nc: {accuracies: [{dataset: d}]}\nd: {accuracies: [{dataset: d, accuracy: x}]}\n"
              "mine: {accuracies: [{dataset: 'q', accuracy: '7.50'}], expectations: [{dataset: q, target: '8', tolerance: '1'}], is_satisfied: true}\n");
    stub_run(STANDING EVALUATE("memory", ""), false, dir, &w, &r);
    assert_non_null(strstr(r.notes, "4 of 5 entries have no accuracies"));
    stub_run_free(&r);
    char *text = temp_get(temp_path(dir, "history/accuracy.yaml"), &n);
    assert_non_null(strstr(text, "\"mine\":\n  accuracies:\n  - dataset: \"q\"\n    accuracy: '7.50'\n  expectations:\n  - \"dataset\": \"q\"\n"));
    free(text);
    temp_remove(dir);
}

/* Answers of many runs: the file stays one that can be read, and the newest are in it. */
static void old_answers_make_room(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Error err = {0};
    HistoryOptions o = {.save_path = dir};
    Str text = {0};
    History *h;
    size_t n;
    assert_int_equal(dir_make(temp_path(dir, "history"), &err), ST_OK);
    for (int i = 0; i < 8500; i++)
        str_printf(&text, "key%d:\n  accuracies: [{dataset: d, accuracy: '1.00000000000000000000000000000000001', error: 0.25}]\n", i);
    assert_true(text.len < YAML_BYTES_MAX);
    temp_puts(temp_path(dir, "history/accuracy.yaml"), str_text(&text));
    str_free(&text);
    assert_int_equal(tunehist_open(&h, &o, &err), ST_OK);
    HistoryAnswer a = {.bytes = 7};
    assert_int_equal(tunehist_put(h, "new", &a, NULL, 0, &err), ST_OK);
    tunehist_free(h);
    free(temp_get(temp_path(dir, "history/accuracy.yaml"), &n));
    assert_true(n <= YAML_BYTES_MAX && n > YAML_BYTES_MAX / 2);
    assert_int_equal(tunehist_open(&h, &o, &err), ST_OK);
    assert_non_null(tunehist_get(h, "new"));
    assert_int_equal(tunehist_get(h, "new")->bytes, 7);
    assert_non_null(tunehist_get(h, "key8499"));
    assert_null(tunehist_get(h, "key0"));
    tunehist_free(h);
    temp_remove(dir);
}

static void a_folder_that_cannot_be_written(void **state)
{
    (void)state;
    char *dir = temp_folder();
    const char *file = temp_path(dir, "file");
    temp_puts(file, "x");
    Plan *p = stub_plan(STANDING EVALUATE("memory", ""), false);
    LoopOptions o = {.plan = p, .rows = &stub_rows, .save_path = file, .now = stub_now};
    Loop *l;
    Error err = {0};
    assert_int_equal(loop_open(&l, &o, &err), ST_IO);
    assert_non_null(strstr(err.text, "file"));
    plan_free(p);
    temp_remove(dir);
}

/* ---- what fails ---- */

/* No answer of the model's: said, not remembered, asked again by the next run. */
static void a_failed_evaluation_is_retried(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {5, 3, "the server did not start", 4, false};
    StubWorld w = world(&needs);
    StubRun r;
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r);
    assert_int_equal(r.end, LOOP_FAILED);
    assert_int_equal(r.status, ST_FAIL);
    assert_non_null(strstr(r.text, "try 2 can't be evaluated: the server did not start"));
    stub_run_free(&r);
    int before = w.evaluated;
    needs.fails = NULL;
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r);
    assert_int_equal(r.end, LOOP_MET);
    assert_int_equal(r.cached, before - 1);
    stub_run_free(&r);
    temp_remove(dir);
}

static void garbage_is_an_answer(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {0, 0, NULL, 0, true};
    StubWorld w = world(&needs);
    StubRun r;
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r);
    assert_int_equal(r.end, LOOP_NOT_MET); /* although 82 would do */
    stub_run_free(&r);
    int before = w.evaluated;
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r);
    assert_int_equal(w.evaluated, before);
    assert_int_equal(r.end, LOOP_NOT_MET);
    stub_run_free(&r);
    temp_remove(dir);
}

static void a_failed_quantization_ends_the_run(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {5, 3, NULL, 0, false};
    StubWorld w = world(&needs);
    StubRun r;
    w.fail_quantize = true;
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r);
    assert_int_equal(r.end, LOOP_FAILED);
    assert_non_null(strstr(r.text, "try 1 can't be quantized: no room"));
    assert_int_equal(r.best, -1);
    stub_run_free(&r);
    temp_remove(dir);
}

/* ---- how long ---- */

static int64_t late;
static void slow(void *ctx, const Practice *p, EvalResult *r)
{
    late += 100;
    by_level(ctx, p, r);
}

static void time_ends_between_tries(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {5, 3, NULL, 0, false};
    StubWorld w = world(&needs);
    StubRun r;
    w.now = &late;
    w.timeout = 250;
    w.answer = slow;
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r);
    assert_int_equal(r.end, LOOP_TIMEOUT);
    assert_int_equal(r.status, ST_FAIL);
    assert_int_equal(r.tries, 3); /* the third began in time */
    stub_run_free(&r);
    stub_run(STANDING EVALUATE("stub", ""), false, dir, &w, &r); /* and on */
    assert_int_equal(r.tries, 6);
    assert_int_equal(r.cached, 3);
    stub_run_free(&r);
    temp_remove(dir);
}

#define S(a) "[{type: iter_smooth, alpha: " #a "}], "
#define TWENTY                                                                                                           \
    "[[], " S(0.01) S(0.02) S(0.03) S(0.04) S(0.05) S(0.06) S(0.07) S(0.08) S(0.09) S(0.11) S(0.12) S(0.13) S(0.14) S(0.15) \
        S(0.16) S(0.17) S(0.18) S(0.19) "[{type: iter_smooth, alpha: 0.2}]]"

/* Thirty tries a run, and those that were known are not counted. */
static void thirty_tries_a_run(void **state)
{
    (void)state;
    static const char plan[] = "strategy:\n  type: standing_high\n  anti_outlier_strategies: " TWENTY "\n  template: {process: "
                               "[{type: linear_quant, " QCONFIG "}]}\n" EVALUATE("memory", "");
    char *dir = temp_folder();
    Needs needs = {8, 4, NULL, 0, false};
    StubWorld w = world(&needs);
    StubRun r;
    int all, once;
    int runs = 0;
    do {
        stub_run(plan, false, dir, &w, &r);
        all = r.end;
        once = r.tries - r.cached;
        stub_run_free(&r);
        assert_true(once <= LOOP_TRIES_MAX);
        assert_true(all == LOOP_MET || once == LOOP_TRIES_MAX);
    } while (all == LOOP_EXHAUSTED && ++runs < 9);
    assert_int_equal(all, LOOP_MET);
    assert_true(runs >= 1); /* one run was not enough */
    temp_remove(dir);
}

/* Two plans in one folder: no file of the first is written over by another recipe. */
static void ids_do_not_collide(void **state)
{
    (void)state;
    char *dir = temp_folder();
    Needs needs = {5, 99, NULL, 0, false};
    StubWorld w = world(&needs);
    StubRun r;
    stub_run(STANDING EVALUATE("memory", ""), false, dir, &w, &r);
    int first = r.tries;
    stub_run_free(&r);
    w.nrank = 7;
    w.model_id = "m2";
    stub_run("strategy:\n  type: standing_high\n  anti_outlier_strategies: [[{type: iter_smooth, alpha: 0.7}]]\n"
             EVALUATE("memory", ""), false, dir, &w, &r);
    int second = r.tries;
    stub_run_free(&r);
    int files = temp_entries(temp_path(dir, "history"));
    assert_int_equal(files, first + second + 4); /* accuracy.yaml, history.yaml, ranking.json, run.json */
    temp_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_after_every_kill),
        cmocka_unit_test(a_finished_run_is_not_repeated),
        cmocka_unit_test(the_winner_is_kept),
        cmocka_unit_test(what_has_changed_is_named),
        cmocka_unit_test(another_demand_judges_anew),
        cmocka_unit_test(broken_files_are_put_aside),
        cmocka_unit_test(entries_without_accuracies_are_dropped),
        cmocka_unit_test(old_answers_make_room),
        cmocka_unit_test(a_folder_that_cannot_be_written),
        cmocka_unit_test(a_failed_evaluation_is_retried),
        cmocka_unit_test(garbage_is_an_answer),
        cmocka_unit_test(a_failed_quantization_ends_the_run),
        cmocka_unit_test(time_ends_between_tries),
        cmocka_unit_test(thirty_tries_a_run),
        cmocka_unit_test(ids_do_not_collide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
