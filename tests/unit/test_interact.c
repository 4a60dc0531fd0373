/* Interactions: sets of groups against plain measurements of the same sets, what is known and kept, and the questions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metric/metric.h"
#include "metric/rows.h"
#include "session/session.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/tempdir.h"

#define CALIB "tests/golden/analysis/_models/calib5.jsonl"
#define DYNAMIC "lab_practice/default/default-w8a8-dynamic.yaml"

static char *dir;
static Error err;

static int setup(void **state)
{
    (void)state;
    dir = temp_folder();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_remove(dir);
    return 0;
}

static void ok(Status st)
{
    session_ok(st, &err);
}

/* The first 128 tokens of the one text are what alone takes, and the one window of the evaluation. */
static Session *open_session(int threads)
{
    Session *s = demo_session(dir);
    char count[16];
    snprintf(count, sizeof count, "%d", threads);
    ok(session_set(s, "threads", count, &err));
    ok(session_set(s, "max-samples", "0", &err));
    ok(session_set(s, "seq-len", "0", &err));
    ok(session_set(s, "ctx", "128", &err));
    ok(session_set_calib(s, CALIB, &err));
    ok(session_set_eval(s, CALIB, &err));
    ok(session_open_recipe(s, DYNAMIC, NULL, &err));
    return s;
}

static const char *const named[] = {"*layers.1.mlp.down_proj", "*layers.1.self_attn.o_proj", "*layers.6.mlp.*",
                                    "*layers.3.self_attn.q_proj"};
enum { NAMED = 4, GROUPS = 5 };

static InteractView ask(Session *s, int n, int64_t pairs, int64_t want_sets)
{
    InteractCost c;
    InteractView v;
    ok(session_interact(s, &(InteractAsk){.targets = named, .n = n, .pairs = pairs, .dry = true}, &c, &err));
    assert_int_equal(c.sets, want_sets);
    ok(session_interact(s, &(InteractAsk){.targets = named, .n = n, .pairs = pairs}, &c, &err));
    ok(session_wait(s, &err));
    ok(session_interactions(s, &v, &err));
    assert_int_equal(v.known, v.wanted);
    assert_false(v.runs);
    return v;
}

/* KL of these groups quantized and nothing else, by an ordinary measurement. */
static double measured(Session *s, const int64_t *group, int n)
{
    const Model *m = session_model(s);
    const char *all = "*";
    ok(session_edit(s, &all, 1, 0, false, NULL, &err));
    for (int i = 0; i < n; i++) {
        const char *name = m->linears[group_linear(&m->groups[group[i]], 0)].name;
        ok(session_edit(s, &name, 1, 0, true, NULL, &err));
    }
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    int64_t differs;
    const Effect *e = session_effect(s, &differs);
    assert_true(e && !differs);
    return e->kl_mean;
}

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-4 * want + 1e-7)
        fail_msg("%.9g, not %.9g", got, want);
}

static void sets_are_what_measuring_finds(void **state)
{
    (void)state;
    Session *s = open_session(2);
    InteractView v = ask(s, NAMED, 10, GROUPS + 1 + 10);
    int64_t group[GROUPS];
    InteractPair pair[10];
    double sum = 0, joint = v.joint, said = v.sum;
    assert_int_equal(v.groups, GROUPS);
    assert_int_equal(v.npairs, 10);
    assert_int_equal(v.tokens, 128);
    memcpy(pair, v.pair, sizeof pair);
    for (int i = 0; i < GROUPS; i++)
        group[i] = v.group[i];
    double single[GROUPS];
    for (int i = 0; i < GROUPS; i++) {
        single[i] = measured(s, &group[i], 1);
        sum += single[i];
    }
    near(said, sum);
    near(joint, measured(s, group, GROUPS));
    for (int i = 0; i < 10; i++) {
        double apart = 0;
        const int64_t two[] = {pair[i].a, pair[i].b};
        for (int k = 0; k < GROUPS; k++)
            apart += group[k] == two[0] || group[k] == two[1] ? single[k] : 0;
        near(pair[i].apart, apart);
        near(pair[i].joint, measured(s, two, 2)); /* also two of one layer, and of neighbours */
        assert_true(i == 0 || fabs(pair[i].joint - pair[i].apart) <= fabs(pair[i - 1].joint - pair[i - 1].apart) + 1e-12);
    }
    session_free(s);
}

/* A set of one is what alone says, in whatever batch and with whatever threads. */
static void a_set_of_one_is_alone(void **state)
{
    (void)state;
    double joint[2];
    for (int threads = 1; threads <= 2; threads++) {
        Session *s = open_session(threads);
        const char *const alone[] = {"alone", NULL};
        ok(session_analyze(s, alone, NULL, 0, false, &err));
        ok(session_wait(s, &err));
        InteractView v = ask(s, NAMED, 0, GROUPS + 1);
        double sum = 0;
        for (int64_t i = 0; i < v.groups; i++)
            sum += session_unit_score(s, &metric_alone, v.group[i]).value;
        assert_true(fabs(v.sum - sum) <= 1e-12 * sum);
        joint[threads - 1] = v.joint;
        session_free(s);
    }
    assert_true(joint[0] == joint[1]);
}

/* What is known is not measured again: with more pairs, after the session was closed; it is of its data alone. */
static void known_sets_are_kept(void **state)
{
    (void)state;
    Session *s = open_session(1);
    SessionOptions o = demo_session_options(dir);
    char id[40];
    InteractView v = ask(s, NAMED, 1, GROUPS + 1 + 1);
    double joint = v.joint;
    ask(s, NAMED, 3, 2);
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    ok(session_restore(&s, &o, id, &err));
    ok(session_interactions(s, &v, &err));
    assert_true(v.joint == joint && v.known == GROUPS + 1 + 3 && v.npairs == 3 && !v.present);
    const int jobs = session_jobs(s); /* as the journal has them */
    ask(s, NAMED, 3, 0);
    assert_int_equal(session_jobs(s), jobs);
    ok(session_set(s, "max-samples", "2", &err));
    ok(session_interactions(s, &v, &err));
    assert_int_equal(v.known, 0);
    assert_true(isnan(v.joint));
    session_free(s);
}

/* Stopped, it keeps the sets that are done and goes on with the others. */
static void it_goes_on_after_a_stop(void **state)
{
    (void)state;
    Session *s = open_session(1);
    InteractCost c;
    InteractView v;
    const char *all = "*";
    ok(session_interact(s, &(InteractAsk){.targets = &all, .n = 1, .pairs = 80}, &c, &err));
    const int64_t sets = c.sets;
    do {
        session_pump(s);
        ok(session_interactions(s, &v, &err));
    } while (!v.known && session_busy(s));
    assert_true(v.runs);
    ok(session_cancel(s, 2, &err));
    assert_int_equal(session_wait(s, &err), ST_CANCELLED);
    ok(session_interactions(s, &v, &err));
    int64_t left = v.wanted - v.known;
    assert_true(v.known > 0 && left > 0 && v.wanted == sets);
    ok(session_interact(s, &(InteractAsk){.targets = &all, .n = 1, .pairs = 80}, &c, &err));
    assert_int_equal(c.sets, left);
    ok(session_wait(s, &err));
    ok(session_interactions(s, &v, &err));
    assert_true(v.known == v.wanted && isfinite(v.joint));
    session_free(s);
}

/* Without targets: what the present set gives back, at the levels it would quantize it to. */
static void it_asks_about_what_is_given_back(void **state)
{
    (void)state;
    Session *s = open_session(1);
    InteractCost c;
    InteractView v;
    assert_int_equal(session_interactions(s, &v, &err), ST_USAGE);
    assert_int_equal(session_interact(s, &(InteractAsk){.pairs = 15}, &c, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "0 are given back"));
    const char *one = "*layers.1.mlp.down_proj", *two = "*layers.2.mlp.*";
    ok(session_edit(s, &one, 1, 0, false, NULL, &err));
    assert_int_equal(session_interact(s, &(InteractAsk){.pairs = 15}, &c, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "1 is given back"));
    ok(session_edit(s, &two, 1, 0, false, NULL, &err));
    ok(session_interact(s, &(InteractAsk){.pairs = 15}, &c, &err));
    assert_true(c.groups == 3 && c.pairs == 3 && c.sets == 7 && c.tokens == 128 && c.passes > 0.1 && c.passes < 0.12);
    ok(session_wait(s, &err));
    ok(session_interactions(s, &v, &err));
    assert_true(v.present);
    ok(session_undo(s, NULL, &err));
    ok(session_interactions(s, &v, &err));
    assert_false(v.present); /* another set now */
    const char *const wrong[] = {"*nosuch*"};
    assert_int_equal(session_interact(s, &(InteractAsk){.targets = wrong, .n = 1}, &c, &err), ST_DATA);
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_are_what_measuring_finds),
        cmocka_unit_test(a_set_of_one_is_alone),
        cmocka_unit_test(known_sets_are_kept),
        cmocka_unit_test(it_goes_on_after_a_stop),
        cmocka_unit_test(it_asks_about_what_is_given_back),
    };
    return cmocka_run_group_tests_name("interact", tests, setup, teardown);
}
