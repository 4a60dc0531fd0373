/* Under --compat peer, tuning does event for event what the peer's own classes did (tests/golden/config/tuning_traces.txt): the
 * ranking asked for, every try with its recipe, what is quantized and what is known, how it ends, which files there are. The
 * answers are those recorded; who asks otherwise gets none that fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/tempdir.h"
#include "tests/lib/tune_stub.h"
#include "tune/canon.h"
#include "tune/loopkeys.h"

#define TRACES "tests/golden/config/tuning_traces.txt"
#define EVALUATION "evaluation: {type: stub, demand: {expectations: [{dataset: d, target: 83, tolerance: 2}]}}\n"
#define QCONFIG                                                                  \
    "qconfig: {act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, " \
    "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}"
#define STANDING(strategies, more)                                                                                     \
    "strategy:\n  type: standing_high\n  anti_outlier_strategies: " strategies "\n  template:\n    process:\n"         \
    "      - {type: linear_quant, " QCONFIG more "}\n    save: [{type: ascendv1_saver, part_file_size: 4}]\n" EVALUATION
#define FALLBACK(exclude, more)                                                                                          \
    "strategy:\n  type: binary_fallback\n  rollback_path: spec.process.0.exclude\n  template:\n    apiversion: modelslim_v1\n" \
    "    metadata: {config_id: bf}\n    spec: {process: [{type: linear_quant, " QCONFIG exclude "}]}\n" more EVALUATION
#define SMOOTH(alpha) "[{type: iter_smooth, alpha: " #alpha "}]"
#define THREE "[[], " SMOOTH(0.5) ", " SMOOTH(0.9) "]"
#define SEVEN                                                                                                        \
    "[" SMOOTH(0.1) ", " SMOOTH(0.2) ", " SMOOTH(0.3) ", " SMOOTH(0.4) ", " SMOOTH(0.5) ", " SMOOTH(0.6) ", " SMOOTH(0.7) "]"

static const double eight[] = {3, 9, 1, 7, 5, 2, 8, 6};
static const double equal[] = {5, 5, 9}, two[] = {1, 2};
enum { FALLING = -64 }; /* so many scores, falling */

typedef struct Scenario {
    const char *title, *plan;
    const double *score;
    int n, runs;
} Scenario;

static const Scenario scenarios[] = {
    {"standing_high: zero rollback satisfies", STANDING(THREE, ""), eight, 8, 1},
    {"standing_high: needs >=5 rolled back blocks with any strategy", STANDING(THREE, ""), eight, 8, 1},
    {"standing_high: strategy 0 needs 6, strategy 1 needs 3, strategy 2 needs 1", STANDING(THREE, ""), eight, 8, 1},
    {"standing_high: strategy 0 needs 7, strategy 2 needs 0", STANDING(THREE, ""), eight, 8, 1},
    {"standing_high: never satisfied (ends as SUCCESS with the unsatisfied practice)", STANDING("[[]]", ""), eight, 8, 1},
    {"standing_high: no analysis scores, never satisfied", STANDING("[[], " SMOOTH(0.5) "]", ""), NULL, 0, 1},
    {"standing_high: existing exclude kept, duplicates dropped; equal scores keep the analysis order",
     STANDING("[[]]", ", include: ['*mlp*'], exclude: ['*lm_head*', '*m.1.*', '*lm_head*']"), equal, 3, 1},
    {"standing_high: 64 blocks, satisfaction not monotonic", STANDING(THREE, ""), NULL, FALLING, 1},
    {"standing_high: more than 30 iterations (7 strategies, only one of them fits at each level)", STANDING(SEVEN, ""), eight, 8, 1},
    {"standing_high resume: same save_path, same plan, run twice (2nd run below)", STANDING(THREE, ""), eight, 8, 2},
    {"binary_fallback: zero satisfies", FALLBACK("", ""), eight, 8, 1},
    {"binary_fallback: needs >=5", FALLBACK("", ""), eight, 8, 1},
    {"binary_fallback: needs all 8", FALLBACK("", ""), eight, 8, 1},
    {"binary_fallback: never satisfied", FALLBACK("", ""), eight, 8, 1},
    {"binary_fallback: user candidates (wildcard kept, plain names wrapped), needs 2",
     FALLBACK("", "  rollback_candidates: ['*m.3.*', 'm.5', m.6]\n"), eight, 8, 1},
    {"binary_fallback: empty analysis", FALLBACK("", ""), NULL, 0, 1},
    {"binary_fallback: existing exclude is replaced, not extended", FALLBACK(", exclude: ['*lm_head*']", ""), two, 2, 1},
};
enum { NSCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* ---- the recorded text ---- */

static char *golden;

/* The text of a scenario behind its heading, up to the next one. */
static char *section(const char *title)
{
    char head[200];
    snprintf(head, sizeof head, "\n### %s\n", title);
    const char *at = strstr(golden, head);
    if (!at)
        fail_msg("no trace '%s'", title);
    at += strlen(head);
    const char *end = at;
    do
        end = strstr(end + 1, "\n### ");
    while (end && end[5] == ' '); /* a second run */
    while (end > at && end[-1] == '\n')
        end--;
    char *text = strndup(at, end ? (size_t)(end - at) + (*end == '\n') : strlen(at));
    return text;
}

/* ---- a run as such text ---- */

static void put_list(Str *out, const char *const *list, int n)
{
    if (n > 8) {
        str_printf(out, "<%d patterns %s .. %s>", n, list[0], list[n - 1]);
        return;
    }
    str_putc(out, '[');
    for (int i = 0; i < n; i++)
        str_printf(out, "%s'%s'", i ? ", " : "", list[i]);
    str_putc(out, ']');
}

static void put_try(Str *out, const LoopTry *t)
{
    const char *anti = t->practice->anti;
    str_printf(out, "TRY id=%s anti_outlier=[%s%s%s] exclude=", t->practice->id, anti[0] ? "'" : "", anti, anti[0] ? "'" : "");
    put_list(out, t->practice->patterns, t->practice->npatterns);
    if (t->cached)
        str_printf(out, "  [cache hit: satisfied=%s]", t->result.satisfied ? "True" : "False");
    str_putc(out, '\n');
}

static void rank(Loop *l, const Scenario *s, Error *err)
{
    int n = s->n < 0 ? -s->n : s->n;
    RankRow row[64];
    char name[64][16];
    for (int i = 0; i < n; i++) {
        snprintf(name[i], sizeof name[i], "m.%d", i);
        row[i] = (RankRow){.name = name[i], .score = s->score ? s->score[i] : 100 - i, .bytes = -1};
    }
    assert_int_equal(loop_ranked(l, row, n, err), ST_OK);
}

/* The next recorded answer behind *at. */
static bool recorded(const char **at)
{
    const char *e = strstr(*at, "  evaluate -> satisfied=");
    if (!e)
        fail_msg("more is evaluated than was recorded");
    *at = e + strlen("  evaluate -> satisfied=");
    return **at == 'T';
}

static void put_end(Str *out, const LoopStep *s, const char *dir)
{
    if (s->end == LOOP_MET)
        str_printf(out, "SAVE practice %s\n", s->final_id);
    if (s->end == LOOP_REFUSED)
        str_printf(out, "END raised SpecError: %s\n", s->text);
    else
        str_puts(out, "END returned\n");
    assert_int_equal(s->status, s->end == LOOP_REFUSED ? ST_FAIL : ST_OK);
    str_printf(out, "history dir: %s\n", stub_files(dir));
}

static void run(const Scenario *sc, const char *dir, const char **answers, Str *out)
{
    Plan *plan = stub_plan(sc->plan, true);
    LoopOptions o = {.plan = plan, .rows = &stub_rows, .save_path = dir, .peer = true, .now = stub_now};
    Loop *l;
    LoopStep s = {0};
    Error err = {0};
    int shown = 0;
    if (loop_open(&l, &o, &err) != ST_OK)
        fail_msg("%s", err.text);
    for (;;) {
        assert_int_equal(loop_next(l, &s, &err), ST_OK);
        while (shown < loop_tries(l))
            put_try(out, loop_try(l, shown++));
        if (s.kind == LOOP_RANK) {
            str_printf(out, "ANALYSE scope=%s metrics=%s dataset=%s quant_modules=", s.wish->scope == RANK_BLOCKS ? "layer" : "?",
                       s.wish->metric, s.wish->dataset);
            put_list(out, s.wish->modules, s.wish->nmodules);
            str_puts(out, s.wish->recipe ? " by a recipe\n" : " device=npu\n");
            rank(l, sc, &err);
        } else if (s.kind == LOOP_QUANTIZE) {
            assert_true(s.write);
            str_puts(out, "  quantize\n");
            assert_int_equal(loop_quantized(l, &(LoopMade){.st = ST_OK}, &err), ST_OK);
        } else if (s.kind == LOOP_EVALUATE) {
            EvalResult r = {0};
            bool yes = recorded(answers);
            str_printf(out, "  evaluate -> satisfied=%s\n", yes ? "True" : "False");
            stub_answer(&r, "d", yes ? "81" : "80.999");
            assert_int_equal(loop_evaluated(l, &r, &err), ST_OK);
            eval_result_free(&r);
        } else {
            break;
        }
    }
    assert_int_equal(s.kind, LOOP_DONE);
    put_end(out, &s, dir);
    loop_free(l);
    plan_free(plan);
}

static void trace_is_followed(void **state)
{
    const Scenario *sc = *state;
    char *want = section(sc->title), *dir = temp_folder();
    const char *answers = want;
    Str got = {0};
    for (int i = 0; i < sc->runs; i++) {
        if (i)
            str_puts(&got, "\n###   second run\n");
        run(sc, dir, &answers, &got);
    }
    assert_string_equal(str_text(&got), want);
    str_free(&got);
    free(want);
    temp_remove(dir);
}

/* No trace is left out. */
static void every_trace_is_here(void **state)
{
    (void)state;
    int n = 0;
    for (const char *at = golden; (at = strstr(at, "\n### ")) != NULL; at++)
        n += strncmp(at, "\n###   second run", 17) != 0 && strncmp(at, "\n### accuracy cache key", 23) != 0;
    assert_int_equal(n, NSCENARIOS);
}

/* The text behind a heading of the worked key, and its md5. */
static void worked(const char *head, char **json, char md5[33])
{
    const char *at = strstr(golden, head), *end = at ? strchr(at, '\n') : NULL;
    assert_non_null(end);
    at += strlen(head);
    *json = strndup(at, (size_t)(end - at));
    assert_int_equal(sscanf(end + 1, " md5 %32s", md5), 1);
}

static void worked_key_of_a_practice(void **state)
{
    (void)state;
    static const char text[] = "metadata: {config_id: any}\nspec:\n  process: [{type: linear_quant, " QCONFIG "}]\n"
                               "  save: [{type: ascendv1_saver, part_file_size: 4, ext: {}, save_directory: .}]\napiversion: modelslim_v1\n";
    char *json, md5[33], key[65];
    Error err = {0};
    worked("quant config json: ", &json, md5);
    YamlDoc *doc;
    Str canon = {0};
    assert_int_equal(yaml_parse(&doc, text, strlen(text), "t", &err), ST_OK);
    canon_practice(&recipe_rows, yaml_root(doc), &canon);
    assert_string_equal(str_text(&canon), json);
    assert_int_equal(loop_practice_key(&stub_rows, true, text, strlen(text), key, &err), ST_OK);
    assert_string_equal(key, md5);
    yaml_doc_free(doc);
    str_free(&canon);
    free(json);
}

static void worked_key_of_an_evaluation(void **state)
{
    (void)state;
    static const char text[] =
        STANDING("[[]]", "") "#"; /* its evaluation is replaced below */
    char *json, md5[33], key[65], plan_text[3000];
    Error err = {0};
    Plan *plan;
    Str canon = {0};
    worked("evaluation json: ", &json, md5);
    snprintf(plan_text, sizeof plan_text,
             "%.*sevaluation: {type: service_oriented, demand: {expectations: [{dataset: d, target: 83, tolerance: '2'}]}, evaluation: {type: "
             "aisbench, datasets: {d: {config_name: c}}}, inference_engine: {type: vllm-ascend}}\n",
             (int)(strstr(text, "evaluation:") - text), text);
    if (plan_parse(&plan, &plan_rows, plan_text, strlen(plan_text), "p", true, NULL, &err) != ST_OK)
        fail_msg("%s", err.text);
    canon_object(&recipe_rows, plan_evaluation(plan), plan_evaluator(plan)->object, NULL, &canon);
    assert_string_equal(str_text(&canon), json);
    assert_int_equal(loop_evaluation_key(plan, &plan_rows, true, NULL, NULL, key, &err), ST_OK);
    assert_string_equal(key, md5);
    plan_free(plan);
    str_free(&canon);
    free(json);
}

static int load(void **state)
{
    (void)state;
    size_t n;
    golden = temp_get(TRACES, &n);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    free(golden);
    return 0;
}

int main(void)
{
    struct CMUnitTest tests[NSCENARIOS + 3];
    for (int i = 0; i < NSCENARIOS; i++)
        tests[i] = (struct CMUnitTest){.name = scenarios[i].title, .test_func = trace_is_followed,
                                       .initial_state = (void *)(uintptr_t)&scenarios[i]};
    tests[NSCENARIOS] = (struct CMUnitTest)cmocka_unit_test(every_trace_is_here);
    tests[NSCENARIOS + 1] = (struct CMUnitTest)cmocka_unit_test(worked_key_of_a_practice);
    tests[NSCENARIOS + 2] = (struct CMUnitTest)cmocka_unit_test(worked_key_of_an_evaluation);
    return cmocka_run_group_tests(tests, load, unload);
}
