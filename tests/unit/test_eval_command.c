#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/evaltest.h"
#include "tests/lib/server_process.h"
#include "tests/lib/tempdir.h"

/* Evaluators that hand the model to someone else: a program, a person. */

extern const EvaluatorType evaluator_command, evaluator_manual;

/* A plan's `evaluation` with a script of the shell as the program. */
static char *plan(const char *script, const char *more)
{
    static char text[2000];
    snprintf(text, sizeof text,
             "type: command\n"
             "demand: {expectations: [{dataset: gsm8k, target: 83, tolerance: 2}, {dataset: 测试 1, target: 0.5, "
             "tolerance: 0}]}\n"
             "run: [sh, -c, '%s', sh, '{model}', 't{try}', '{id}']\n%s",
             script, more);
    return text;
}

static void expect(const char *script, const char *more, EvalState state, const char *says)
{
    EvalTest t;
    evaltest_open(&t, &evaluator_command, plan(script, more));
    evaltest_expect(&t, state, says);
    assert_false(state != EVAL_DONE && t.result.satisfied);
    evaltest_close(&t);
}

static void test_done(void **state)
{
    (void)state;
    EvalTest t;
    char want[600], *got;
    evaltest_open(&t, &evaluator_command,
                  plan("echo \"$1 $2 $3 $SLIMSCOPE_TRY\" >&2; [ \"$1\" = \"$SLIMSCOPE_MODEL\" ] || exit 1;"
                       "echo; echo \"  gsm8k  81.00\"; echo \"other 3\"; printf \"测试 1\\t5e-1\\r\\n\"",
                       ""));
    evaltest_expect(&t, EVAL_DONE, "");
    assert_int_equal(t.result.n, 2);
    assert_string_equal(evaltest_value(&t, "gsm8k"), "81.00");
    assert_string_equal(evaltest_value(&t, "测试 1"), "0.5");
    assert_true(t.result.satisfied);
    snprintf(want, sizeof want, "%s t3 standing_high_7 3\n", t.model);
    got = temp_get(temp_path(t.save, "command/try3.log"), NULL);
    assert_string_equal(got, want);
    free(got);
    evaltest_close(&t);
    evaltest_open(&t, &evaluator_command, plan("echo gsm8k 80.99; echo 测试 1 0.5", ""));
    evaltest_expect(&t, EVAL_DONE, "");
    assert_false(t.result.satisfied);
    evaltest_close(&t);
}

static void test_failed(void **state)
{
    (void)state;
    static const struct {
        const char *script, *more;
        EvalState state;
        const char *says;
    } cases[] = {
        {"echo gsm8k 1; echo out of memory >&2; exit 3", "", EVAL_BAD,
         "calls the model bad (exit code 3): sh: out of memory"},
        {"echo gsm8k 1; exit 2", "", EVAL_FAILED, "exit code 2: sh: gsm8k 1"},
        {"exit 4", "bad_exit: 4", EVAL_BAD, "exit code 4"},
        {"echo one; echo two >&2; exit 1", "", EVAL_FAILED, "the program failed: exit code 1: sh: two"},
        {"kill -9 $$", "", EVAL_FAILED, "killed by signal 9"},
        {"echo loading >&2; exec sleep 60", "timeout: 0.2", EVAL_FAILED, "no end within 0.2 s: sh: loading"},
        {"echo gsm8k 81", "", EVAL_FAILED, "no line for '测试 1'"},
        {"echo gsm8k 81; echo 测试 1 nan", "", EVAL_FAILED, "line '测试 1 nan' is no 'dataset value'"},
        {"echo loading the model; echo gsm8k 81; echo 测试 1 1", "", EVAL_FAILED, "line 'loading the model' is no"},
        {"echo gsm8k 81; echo gsm8k 82; echo 测试 1 1", "", EVAL_FAILED, "gives 'gsm8k' twice"},
        {"echo gsm8k 81 82 83; echo 测试 1 1", "", EVAL_FAILED, "line 'gsm8k 81 82 83'"},
        {"printf \"gsm8k\\0 81\\n\"", "", EVAL_FAILED, "is no text"},
        {"yes gsm8k 81", "", EVAL_FAILED, "wrote too much"},
        {"printf \"\\033[31mred\" >&2; exit 1", "", EVAL_FAILED, "?[31mred"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(cases[i].script, cases[i].more, cases[i].state, cases[i].says);
}

/* "+2%" needs the float model's value, which stands behind. */
static void test_relative(void **state)
{
    (void)state;
    static const char text[] = "type: command\n"
                               "demand: {expectations: [{dataset: ppl, at_most: '+2%%'}]}\n"
                               "run: [sh, -c, 'echo ppl %s', '{model}']\n";
    static const struct {
        const char *line;
        EvalState state;
        bool met;
    } cases[] = {{"10.2 10", EVAL_DONE, true}, {"10.3 10", EVAL_DONE, false}, {"10.2", EVAL_FAILED, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[300];
        EvalTest t;
        snprintf(yaml, sizeof yaml, text, cases[i].line);
        evaltest_open(&t, &evaluator_command, yaml);
        evaltest_expect(&t, cases[i].state,
                        cases[i].state == EVAL_FAILED ? "no value of the float model for 'ppl'" : "");
        assert_int_equal(t.result.satisfied, cases[i].met);
        evaltest_close(&t);
    }
}

static void *raise_later(void *cancel)
{
    struct timespec t = {.tv_nsec = 100000000L};
    nanosleep(&t, NULL);
    atomic_store(&((Cancel *)cancel)->level, 2);
    return NULL;
}

static void test_cancelled(void **state)
{
    (void)state;
    EvalTest t;
    pthread_t thread;
    evaltest_open(&t, &evaluator_command, plan("echo $$; exec sleep 60", ""));
    assert_int_equal(pthread_create(&thread, NULL, raise_later, &t.cancel), 0);
    assert_int_equal(evaltest_run(&t, 1), ST_CANCELLED);
    pthread_join(thread, NULL);
    char *log = temp_get(temp_path(t.save, "command/try1.out"), NULL);
    assert_true(process_ends(strtol(log, NULL, 10)));
    free(log);
    evaltest_close(&t);
}

static void test_not_ready(void **state)
{
    (void)state;
    EvalTest t;
    evaltest_open(&t, &evaluator_command,
                  "type: command\ndemand: {expectations: [{dataset: d, target: 1, tolerance: 0}]}\nrun: "
                  "[no-such-program, '{model}']\n");
    assert_int_equal(evaltest_run(&t, 1), ST_DATA);
    assert_string_equal(t.err.text, "evaluation.run: no program 'no-such-program' that can be run in PATH");
    evaltest_close(&t);
}

/* The digest is that of the files its words name. */
static void test_digest(void **state)
{
    (void)state;
    EvalTest t;
    char yaml[600], *dir = temp_folder();
    const char *file = temp_path(dir, "eval.py");
    Digest d[3];
    snprintf(
        yaml, sizeof yaml,
        "type: command\ndemand: {expectations: [{dataset: d, target: 1, tolerance: 0}]}\nrun: [sh, '%s', '{model}']\n",
        file);
    evaltest_open(&t, &evaluator_command, yaml);
    for (int i = 0; i < 3; i++) {
        Hasher h;
        temp_puts(file, i == 1 ? "print(1)" : "print(2)");
        hasher_init(&h);
        assert_int_equal(evaluator_command.digest(t.settings, &h, &t.err), ST_OK);
        d[i] = hasher_end(&h);
    }
    assert_int_equal(digest_cmp(&d[0], &d[2]), 0);
    assert_int_not_equal(digest_cmp(&d[0], &d[1]), 0);
    evaltest_close(&t);
    temp_remove(dir);
}

static void test_plans(void **state)
{
    (void)state;
    static const char demand[] = "demand: {expectations: [{dataset: d, target: 1, tolerance: 0}]}\n";
    static const struct {
        const EvaluatorType *type;
        const char *keys, *error;
    } cases[] = {
        {&evaluator_command, "run: [eval, '{model}']\n", ""},
        {&evaluator_command, "run: [eval, x]\n", "plan:3:6: run: no word behind the program has {model}"},
        {&evaluator_command, "run: ['{model}']\n", "no word behind the program"},
        {&evaluator_command, "run: []\n", "run: needs at least 1 item"},
        {&evaluator_command, "run: eval {model}\n", "run: must be"},
        {&evaluator_command, "", "run: is missing"},
        {&evaluator_command, "run: [e, '{model}']\ntimeout: 0\n", "timeout: must lie between 0 and"},
        {&evaluator_command, "run: [e, '{model}']\nbad_exit: 0\n", "bad_exit: must lie in 1"},
        {&evaluator_command, "run: [e, '{model}']\nshell: true\n", "shell: unknown key"},
        {&evaluator_manual, "", ""},
        {&evaluator_manual, "run: [e]\n", "run: unknown key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[600], *all;
        snprintf(text, sizeof text, "type: %s\n%s%s", cases[i].type->name, demand, cases[i].keys);
        all = evaltest_errors(cases[i].type, text, false);
        if (cases[i].error[0] ? !strstr(all, cases[i].error) : all[0])
            fail_msg("%s: %s", text, all);
        free(all);
    }
}

/* ---- a person ---- */

static const char asks[] =
    "type: manual\n"
    "demand: {expectations: [{dataset: gsm8k, target: 83, tolerance: '2.0'}, {dataset: ppl, at_most: '+2%'}]}\n";

static void test_person(void **state)
{
    (void)state;
    static const char *const unclear[] = {"what", "81.5 3", "", "nan", " 81.5% ", "9", "5.1 5.0\n", NULL};
    EvalTest t;
    evaltest_open(&t, &evaluator_manual, asks);
    t.answers = unclear;
    evaltest_expect(&t, EVAL_DONE, "");
    assert_string_equal(evaltest_value(&t, "gsm8k"), "81.5");
    assert_string_equal(evaltest_value(&t, "ppl"), "5.1");
    assert_true(t.result.satisfied);
    assert_non_null(strstr(t.asked.s, "its value on 'gsm8k' (wanted: at least 83 - 2.0), or bad, or stop: "));
    assert_non_null(strstr(t.asked.s, t.model));
    assert_non_null(strstr(t.asked.s, "try 3 (standing_high_7)"));
    assert_non_null(strstr(t.asked.s, "a number is wanted"));
    assert_non_null(
        strstr(t.asked.s, "its value on 'ppl' (wanted: at most 2% above the float model's) and the float model's behind it"));
    evaltest_close(&t);
}

static void test_person_ends(void **state)
{
    (void)state;
    static const char *const low[] = {"80.99", NULL}, *const bad[] = {"BAD", NULL}, *const stop[] = {"stop", NULL};
    EvalTest t;
    evaltest_open(&t, &evaluator_manual, asks);
    t.answers = low; /* not met: ppl isn't asked for */
    evaltest_expect(&t, EVAL_DONE, "");
    assert_int_equal(t.result.n, 1);
    assert_false(t.result.satisfied);
    t.answers = bad;
    evaltest_expect(&t, EVAL_BAD, "called bad at 'gsm8k'");
    t.answers = stop;
    assert_int_equal(evaltest_run(&t, 4), ST_CANCELLED);
    assert_non_null(strstr(t.err.text, "go on with try 4"));
    assert_int_equal(evaltest_run(&t, 4), ST_CANCELLED); /* nobody answers */
    t.kit.ask = NULL;
    assert_int_equal(evaltest_run(&t, 4), ST_USAGE);
    assert_non_null(strstr(t.err.text, "nobody to ask"));
    evaltest_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done),      cmocka_unit_test(test_failed),    cmocka_unit_test(test_relative),
        cmocka_unit_test(test_cancelled), cmocka_unit_test(test_not_ready), cmocka_unit_test(test_digest),
        cmocka_unit_test(test_plans),     cmocka_unit_test(test_person),    cmocka_unit_test(test_person_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
