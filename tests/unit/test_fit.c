/* fit, front and tune on the demo model: what they choose, what they leave alone, one undo step, refusals, and a search
 * that goes on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/goal.h"
#include "session/parts.h"
#include "session/results.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/weights.h"

enum { LINEARS = 56, GROUPS = 32 };

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

static SessionOptions options(void)
{
    return demo_session_options(dir);
}

static Session *open_demo(void)
{
    Session *s = demo_session(dir);
    assert_int_equal(session_model(s)->ngroups, GROUPS);
    return s;
}

/* Later groups lose more, fewer bits more. */
static double rising(const Model *m, int64_t group, int level)
{
    (void)m;
    return 1e-3 * (double)(group + 1) * level * level;
}

static Session *weighed(void)
{
    Session *s = open_demo();
    give_block_errors(s, rising);
    return s;
}

static const FitOptions plain = {0};

static void refused(Session *s, const char *goal, Status st, const char *says)
{
    FitDone d;
    int depth = session_undo_depth(s);
    assert_int_equal(session_fit(s, goal, &plain, &d, &err), st);
    if (!strstr(err.text, says))
        fail_msg("'%s' says nothing of '%s'", err.text, says);
    assert_null(d.level);
    assert_int_equal(session_undo_depth(s), depth);
}

static void goals_are_read(void **state)
{
    (void)state;
    Goal g;
    ok(goal_parse("kl=0.1", &g, &err));
    assert_true(g.kind == GOAL_KL && g.value == 0.1);
    ok(goal_parse("ppl=+1%", &g, &err));
    assert_true(g.kind == GOAL_PPL && fabs(g.value - 0.01) < 1e-15);
    ok(goal_parse("bytes=+20M", &g, &err));
    assert_true(g.kind == GOAL_BYTES && g.more && g.value == 20.0 * 1048576);
    ok(goal_parse("bytes=4096", &g, &err));
    assert_true(!g.more && g.value == 4096);
    ok(goal_parse("bits=5.2", &g, &err));
    assert_true(g.kind == GOAL_BITS && g.value == 5.2);
    ok(goal_parse("+20M", &g, &err));
    assert_true(g.kind == GOAL_BYTES && g.more);
    ok(goal_parse("+1%", &g, &err));
    assert_true(g.kind == GOAL_PPL && fabs(g.value - 0.01) < 1e-15);
    ok(goal_parse("5.2bits", &g, &err));
    assert_true(g.kind == GOAL_BITS && g.value == 5.2);
    static const char *const bad[] = {"", "kl", "kl=", "kl=-1", "kl=0.1x", "ppl=1", "ppl=x%", "bytes=-3", "bits=0", "loss=1",
                                      "kl=nan", "bytes=+"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(goal_parse(bad[i], &g, &err), ST_USAGE);
}

static void fit_spends_bytes(void **state)
{
    (void)state;
    Session *s = weighed();
    FitDone d;
    int64_t last = -1;
    double before = INFINITY;
    uint64_t base = session_predict(s).size.bytes;
    static const char *const goals[] = {"bytes=+0", "bytes=+300K", "bytes=+1M", "bytes=+2M", "bytes=1G"};
    for (size_t i = 0; i < sizeof goals / sizeof *goals; i++) {
        ok(session_fit(s, goals[i], &(FitOptions){.dry = true}, &d, &err));
        assert_int_equal(session_undo_depth(s), 0);
        assert_true(d.groups > last && d.sum < before && d.kl.measurements == 0);
        Goal g;
        ok(goal_parse(goals[i], &g, &err));
        assert_true((double)d.after.bytes <= g.value + (g.more ? (double)base : 0));
        last = d.groups;
        before = d.sum;
        fit_done_free(&d);
    }
    assert_int_equal(last, GROUPS);
    ok(session_fit(s, "bytes=+1M", &plain, &d, &err));
    assert_int_equal(session_undo_depth(s), 1);
    for (int64_t i = 0; i < LINEARS; i++)
        assert_int_equal(session_level_of(s, i), d.level[i]);
    assert_int_equal(session_predict(s).size.bytes, d.after.bytes);
    assert_true(d.changed > 0 && session_whatifs(s) > 0);
    fit_done_free(&d);
    ok(session_undo(s, NULL, &err));
    assert_int_equal(session_predict(s).size.floats, 0);
    refused(s, "bytes=1M", ST_USAGE, "from 6.4 to 10.5 MiB can be had");
    refused(s, "bits=3", ST_USAGE, "from 8.000 to 16.000 bits per weight can be had");
    refused(s, "speed=3", ST_USAGE, "is no goal");
    session_free(s);
}

/* What rules and the recipe decided stays, but for --free. */
static void fit_leaves_decisions(void **state)
{
    (void)state;
    Session *s = weighed();
    FitDone d;
    const char *mine = "*layers.0.self_attn.*"; /* what the least would be given back for */
    ok(session_edit(s, &mine, 1, 0, false, NULL, &err));
    ok(session_fit(s, "bytes=+600K", &plain, &d, &err));
    assert_int_equal(d.left.held, 2);
    int64_t q = -1;
    for (int64_t i = 0; i < LINEARS; i++)
        q = strcmp(session_model(s)->linears[i].name, "model.layers.0.self_attn.q_proj") == 0 ? i : q;
    assert_int_equal(session_level_of(s, q), 0);
    fit_done_free(&d);
    ok(session_undo(s, NULL, &err));
    ok(session_fit(s, "bytes=+600K", &(FitOptions){.free = true}, &d, &err));
    assert_int_equal(d.left.held, 0);
    assert_int_equal(session_level_of(s, q), 1);
    fit_done_free(&d);
    session_free(s);
}

static void fit_reaches_what_is_foretold(void **state)
{
    (void)state;
    Session *s = open_demo();
    FitDone d;
    refused(s, "kl=0.1", ST_USAGE, "block_error is not known for 32 of 32 groups");
    give_block_errors(s, rising);
    refused(s, "kl=0.1", ST_USAGE, "nothing was measured yet that tells KL");
    give_effect(s, 0.528, 0.6, 1000); /* the sum is 0.528, too */
    ok(session_fit(s, "kl=0.1", &plain, &d, &err));
    assert_true(d.kl.value <= 0.1 + 1e-9 && d.kl.value > 0.05 && d.kl.rough);
    assert_true(fabs(d.kl.high - 1.5 * d.kl.value) < 1e-12);
    assert_true(fabs(session_predict(s).kl.value - d.kl.value) < 1e-12);
    uint64_t bytes = d.after.bytes;
    fit_done_free(&d);
    ok(session_undo(s, NULL, &err));
    ok(session_fit(s, "ppl=+5%", &(FitOptions){.dry = true}, &d, &err));
    assert_true(d.ppl.value <= 0.05 + 1e-9 && d.after.bytes > bytes);
    fit_done_free(&d);
    refused(s, "ppl=-5%", ST_USAGE, "is out of reach: perplexity changes by");
    session_free(s);
}

/* int8 by token and int4 by token: all three levels come up, and bits are counted. */
static const char mixed[] =
    "apiversion: modelslim_v1\nspec:\n  process:\n"
    "    - type: linear_quant\n      qconfig:\n"
    "        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}\n"
    "        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n"
    "      exclude: ['*layers.7.*']\n"
    "    - type: linear_quant\n      qconfig:\n"
    "        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}\n"
    "        weight: {scope: per_channel, dtype: int4, symmetric: true, method: minmax}\n"
    "      include: ['*nothing*']\n";

static void fit_mixes_levels(void **state)
{
    (void)state;
    Session *s = open_demo();
    FitDone d;
    int count[3] = {0};
    temp_puts(temp_path(dir, "mixed.yaml"), mixed);
    ok(session_open_recipe(s, temp_path(dir, "mixed.yaml"), NULL, &err));
    give_block_errors(s, rising);
    ok(session_fit(s, "bits=8", &plain, &d, &err));
    assert_int_equal(d.left.excluded, 4);
    assert_true(d.after.average_bits <= 8 && d.after.average_bits > 7.8);
    for (int64_t i = 0; i < LINEARS; i++) {
        count[session_level_of(s, i)]++;
        assert_true(i < LINEARS - 7 || session_level_of(s, i) == 0); /* the recipe's exclude */
    }
    assert_true(count[0] > 7 && count[1] > 0 && count[2] > 0);
    assert_int_equal(session_undo_depth(s), 2); /* the recipe is one */
    fit_done_free(&d);
    session_free(s);
}

/* grow gives back what loses most by the byte, one after the other as the front does; trim goes the same way back. */
static void grow_and_trim_go_by_loss_per_byte(void **state)
{
    (void)state;
    Session *s = weighed();
    FrontRow *rows;
    GrowDone d;
    int64_t n;
    ok(session_front(s, false, &rows, &n, &err));
    uint64_t first = session_predict(s).size.bytes;
    for (int64_t i = 1; i < 6; i++) {
        ok(session_grow(s, 1, &d, &err));
        assert_int_equal(d.group, rows[i].group);
        assert_int_equal(d.level, 0);
        assert_int_equal(session_predict(s).size.bytes, rows[i].bytes);
        assert_true(fabs(d.sum - rows[i].sum) < 1e-12 && d.sum < d.sum_before);
        assert_int_equal(session_undo_depth(s), i);
    }
    for (int64_t i = 5; i > 0; i--) {
        ok(session_grow(s, -1, &d, &err));
        assert_int_equal(d.group, rows[i].group);
        assert_int_equal(session_predict(s).size.bytes, rows[i - 1].bytes);
    }
    assert_int_equal(session_predict(s).size.bytes, first);
    assert_int_equal(session_whatifs(s), 0);
    assert_int_equal(session_grow(s, -1, &d, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "nothing was given back"));
    ok(session_grow(s, 1000, &d, &err));
    assert_int_equal(d.groups, GROUPS);
    assert_int_equal(session_predict(s).size.floats, LINEARS);
    assert_int_equal(session_grow(s, 1, &d, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "no group is left"));
    free(rows);
    session_free(s);
}

/* trim takes back also what a person gave back; grow and fit leave a person's rules, not the ones they made. */
static void rules_that_fit_made_hold_nothing(void **state)
{
    (void)state;
    Session *s = weighed();
    FitDone d;
    GrowDone g;
    const char *mine[] = {"*layers.0.mlp.down_proj"};
    ok(session_edit(s, mine, 1, 0, false, NULL, &err));
    ok(session_fit(s, "+600K", &plain, &d, &err));
    assert_int_equal(d.left.held, 1);
    fit_done_free(&d);
    ok(session_fit(s, "+300K", &plain, &d, &err)); /* the first fit's rules give way */
    assert_int_equal(d.left.held, 1);
    assert_true(d.after.bytes < d.before.bytes);
    assert_int_equal(session_level_of(s, model_find_linear(session_model(s), "model.layers.0.mlp.down_proj")), 0);
    fit_done_free(&d);
    int rules = session_whatifs(s);
    ok(session_fit(s, "+600K", &plain, &d, &err));
    fit_done_free(&d);
    ok(session_fit(s, "+300K", &plain, &d, &err));
    assert_int_equal(session_whatifs(s), rules); /* and do not pile up */
    fit_done_free(&d);
    ok(session_grow(s, -1000, &g, &err));
    assert_int_equal(session_predict(s).size.floats, 0);
    session_free(s);
}

/* A rule that fit made and a person asks for again is the person's; so it is after the session was closed. */
static void asked_for_again_a_rule_holds(void **state)
{
    (void)state;
    Session *s = weighed();
    FitDone d;
    SessionOptions o = options();
    char id[40];
    GrowDone g;
    ok(session_grow(s, 1, &g, &err));
    assert_int_equal(session_whatifs(s), 1);
    ok(session_fit(s, "+0K", &(FitOptions){.dry = true}, &d, &err));
    assert_int_equal(d.left.held, 0);
    fit_done_free(&d);
    char *text = strdup(session_whatif(s, 0)->pattern);
    const char *again[] = {text};
    ok(session_edit(s, again, 1, 0, false, NULL, &err));
    ok(session_fit(s, "+130K", &(FitOptions){.dry = true}, &d, &err));
    assert_int_equal(d.left.held, 1);
    fit_done_free(&d);
    ok(session_undo(s, NULL, &err));
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    ok(session_restore(&s, &o, id, &err));
    give_block_errors(s, rising);
    ok(session_fit(s, "+130K", &(FitOptions){.dry = true}, &d, &err));
    assert_int_equal(d.left.held, 0);
    fit_done_free(&d);
    ok(session_redo(s, NULL, &err));
    ok(session_fit(s, "+130K", &(FitOptions){.dry = true}, &d, &err));
    assert_int_equal(d.left.held, 1);
    fit_done_free(&d);
    free(text);
    session_free(s);
}

/* What is told while a goal is typed: the greedy way's set, within the budget, never better than fit's. */
static void a_goal_is_looked_at(void **state)
{
    (void)state;
    static const char *const goals[] = {"+300K", "bytes=+1M", "9bits", "kl=0.2"};
    Session *s = weighed();
    FitLook l;
    Reach r;
    give_effect(s, 0.5, 0.6, 1000);
    ok(session_reach(s, &r, &err));
    assert_true(r.low == r.opened && r.high > r.low && r.bits_low > 7.9 && fabs(r.bits_high - 16) < 1e-9);
    assert_true(fabs(r.kl_high - 0.5) < 1e-9 && r.kl_low < 1e-9);
    for (size_t i = 0; i < sizeof goals / sizeof *goals; i++) {
        FitDone d;
        ok(session_fit_look(s, goals[i], &l, &err));
        ok(session_fit(s, goals[i], &(FitOptions){.dry = true}, &d, &err));
        assert_true(l.groups > 0 && l.bytes > r.low && l.bytes <= r.high);
        assert_true(i == 3 ? l.bytes >= (int64_t)d.after.bytes : l.kl.value >= d.kl.value - 1e-12);
        assert_true(i != 2 || l.bits <= 9);
        assert_true(i != 3 || l.kl.value <= 0.2 + 1e-9);
        fit_done_free(&d);
    }
    assert_int_equal(session_fit_look(s, "300K", &l, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "from 6.4 to 10.5 MiB can be had"));
    assert_int_equal(session_fit_look(s, "bits=3", &l, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "bits per weight can be had"));
    assert_int_equal(session_undo_depth(s), 0);
    session_free(s);
}

static void a_budget_is_held_against(void **state)
{
    (void)state;
    Session *s = weighed();
    Budget b;
    GrowDone d;
    char id[40];
    assert_false(session_budget(s, &b));
    ok(session_set(s, "budget", "+200K", &err));
    assert_true(session_budget(s, &b));
    assert_true(b.more && !b.bits && b.limit == 200 * 1024 && b.used == 0 && b.low == 0 && b.high > 4e6);
    ok(session_grow(s, 2, &d, &err));
    assert_true(session_budget(s, &b));
    assert_true(b.used == (double)d.bytes);
    assert_int_equal(session_set(s, "budget", "kl=0.1", &err), ST_USAGE);
    assert_int_equal(session_set(s, "budget", "lots", &err), ST_USAGE);
    ok(session_set(s, "budget", "8.5bits", &err));
    assert_true(session_budget(s, &b));
    assert_true(b.bits && b.limit == 8.5 && b.used > 8 && fabs(b.high - 16) < 1e-9);
    SessionOptions o = options();
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    ok(session_restore(&s, &o, id, &err));
    assert_true(session_budget(s, &b));
    assert_true(b.bits && b.limit == 8.5);
    ok(session_set(s, "budget", "none", &err));
    assert_false(session_budget(s, &b));
    session_free(s);
}

/* Of a set that is measured nothing is foretold, but what the others say of it. */
static void a_measured_set_is_not_foretold(void **state)
{
    (void)state;
    Session *s = weighed();
    GrowDone d;
    give_effect(s, 0.5, 0.6, 1000);
    Prediction p = session_predict(s);
    assert_true(p.measured && isnan(p.without));
    ok(session_grow(s, 3, &d, &err));
    p = session_predict(s);
    assert_false(p.measured);
    double foretold = p.kl.value;
    give_effect(s, 2 * foretold, 0.3, 1000);
    p = session_predict(s);
    assert_true(p.measured && fabs(p.without - foretold) < 1e-12 && fabs(p.miss + 0.5) < 1e-12);
    session_free(s);
}

static void front_falls(void **state)
{
    (void)state;
    Session *s = weighed();
    FrontRow *rows;
    int64_t n, knees = 0, measured = 0;
    double last = INFINITY;
    give_effect(s, 0.5, 0.6, 1000);
    ok(session_front(s, false, &rows, &n, &err));
    assert_int_equal(n, GROUPS + 1); /* the first point is the measured one */
    for (int64_t i = 0; i < n; i++) {
        knees += rows[i].knee;
        measured += isfinite(rows[i].kl_measured);
        if (isfinite(rows[i].kl_measured))
            continue;
        assert_true(rows[i].kl.value < last);
        last = rows[i].kl.value;
    }
    assert_true(knees == 1 && measured == 1);
    assert_int_equal(rows[n - 1].floats, GROUPS);
    free(rows);
    session_free(s);
}

static TuneView look(Session *s)
{
    TuneView v;
    ok(session_tuning(s, &v, &err));
    return v;
}

/* The whole search on the model itself; then again, which measures nothing; then after a stop in its midst. */
static void tune_searches_and_goes_on(void **state)
{
    (void)state;
    Session *s = open_demo();
    static const TuneOptions o = {0};
    TuneView v;
    assert_int_equal(session_tuning(s, &v, &err), ST_USAGE);
    ok(session_tune(s, "kl=0.03", &o, &err));
    assert_int_equal(session_tune(s, "kl=0.03", &o, &err), ST_USAGE); /* it runs */
    ok(session_wait(s, &err));
    v = look(s);
    assert_int_equal(v.state, TUNING_MET);
    assert_true(v.ntries >= 3 && v.ntries <= 8 && v.best >= 0 && v.tries[v.best].effect.kl_mean <= 0.03);
    for (int i = 0; i < v.ntries; i++)
        assert_true(!v.tries[i].holds || v.tries[i].bytes >= v.tries[v.best].bytes);
    assert_int_equal(s->results->nmeasured, v.ntries);
    assert_int_equal(session_undo_depth(s), 1);
    int64_t differs;
    assert_true(session_effect(s, &differs)->kl_mean == v.tries[v.best].effect.kl_mean && differs == 0);
    int tries = v.ntries, jobs = session_jobs(s);
    ok(session_undo(s, NULL, &err));
    ok(session_tune(s, "kl=0.03", &o, &err));
    v = look(s);
    assert_true(v.state == TUNING_MET && v.ntries == tries);
    assert_int_equal(session_jobs(s), jobs); /* all is known */
    ok(session_undo(s, NULL, &err));

    ok(session_tune(s, "kl=0.005", &o, &err));
    assert_int_equal(look(s).state, TUNING_RUNS);
    ok(session_cancel(s, 2, &err));
    assert_int_equal(session_wait(s, &err), ST_CANCELLED);
    assert_int_equal(look(s).state, TUNING_STOPPED);
    assert_int_equal(session_undo_depth(s), 1); /* the best so far is in place */
    char id[40];
    SessionOptions opt = options();
    snprintf(id, sizeof id, "%s", session_id(s));
    ok(session_close(s, &err));
    ok(session_restore(&s, &opt, id, &err));
    assert_int_equal(look(s).state, TUNING_STOPPED);
    ok(session_resume_job(s, 0, &err));
    ok(session_wait(s, &err));
    v = look(s);
    assert_true(v.state == TUNING_MET && v.tries[v.best].effect.kl_mean <= 0.005);
    ok(session_close(s, &err));
}

static void tune_says_what_is_out_of_reach(void **state)
{
    (void)state;
    Session *s = open_demo();
    static const TuneOptions o = {0};
    assert_int_equal(session_tune(s, "bytes=1M", &o, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "from 6.4 to 10.5 MiB can be had"));
    assert_int_equal(session_tune(s, "bits=5", &o, &err), ST_USAGE);
    assert_int_equal(session_jobs(s), 0);
    ok(session_tune(s, "ppl=-50%", &o, &err));
    ok(session_wait(s, &err));
    TuneView v = look(s);
    assert_int_equal(v.state, TUNING_MISSED);
    assert_true(v.best < 0 && v.ntries >= 3);
    assert_int_equal(session_undo_depth(s), 1); /* the set of least loss */
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goals_are_read),
        cmocka_unit_test(fit_spends_bytes),
        cmocka_unit_test(fit_leaves_decisions),
        cmocka_unit_test(fit_reaches_what_is_foretold),
        cmocka_unit_test(fit_mixes_levels),
        cmocka_unit_test(front_falls),
        cmocka_unit_test(grow_and_trim_go_by_loss_per_byte),
        cmocka_unit_test(rules_that_fit_made_hold_nothing),
        cmocka_unit_test(asked_for_again_a_rule_holds),
        cmocka_unit_test(a_goal_is_looked_at),
        cmocka_unit_test(a_budget_is_held_against),
        cmocka_unit_test(a_measured_set_is_not_foretold),
        cmocka_unit_test(tune_searches_and_goes_on),
        cmocka_unit_test(tune_says_what_is_out_of_reach),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
