/* What the table shows beside the metric: intervals and ties, a second metric, kinds and advice, and marking many rows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/assignment.h"
#include "session/columns.h"
#include "session/parts.h"
#include "session/ranking.h"
#include "session/results.h"
#include "tests/lib/screen_world.h"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("%s", err.text);
}

/* ---- ranks and ties, from scores put by hand ---- */

static void put(Session *s, const Metric *m, int64_t unit, double value, double error)
{
    PassScore p = {.metric = m, .s = {.unit = unit, .value = value, .tokens = 128, .part = {error}}};
    ok(results_store_unit(s->results, &p, &err));
}

static void test_ties(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    Session *s = w.app.session;
    const Metric *m = metric_find("alone");
    const Model *model = session_model(s);
    assert_non_null(m);
    /* a definition written out: errors meet where a - 2 ea <= b + 2 eb */
    static const struct {
        double value, error;
        bool tied;
    } groups[] = {{10, 0.1, false}, {5, 0.5, true}, {4.5, 0.1, true}, {3, 0.1, false}, {2, (double)NAN, false}};
    for (int64_t g = 0; g < 5; g++)
        put(s, m, g, groups[g].value, groups[g].error);
    ok(session_show(s, "alone", &err));
    for (int64_t i = 0; i < model->nlinears; i++) {
        int32_t g = model->linears[i].group;
        assert_int_equal(session_rank(s, i), g < 5 ? g + 1 : 0);
        assert_int_equal(session_tied(s, i), g < 5 && groups[g].tied);
        double share = session_interval(s, m, i);
        if (g < 4)
            assert_true(fabs(share - 2 * groups[g].error / groups[g].value) < 1e-12);
        else
            assert_true(isnan(share));
    }
    world_keys(&w, "g ^L");
    world_shows(&w, "95%", true);
    world_shows(&w, "=2", true); /* the sign of a tie */
    world_shows(&w, "95 % interval +-20 %", false);
    world_keys(&w, "/");
    world_type(&w, model->linears[group_linear(&model->groups[1], 0)].name);
    world_keys(&w, "Enter");
    world_shows(&w, "20%", true);
    world_shows(&w, "95 % interval", true); /* the pane says it in words */
    world_close(&w);
}

/* ---- the second metric, kind, advice ---- */

static void test_second(void **state)
{
    (void)state;
    World w;
    world_open(&w, 120, 30, "ascii", true, false);
    Session *s = w.app.session;
    assert_null(session_second(s));
    world_keys(&w, "g c");
    const Metric *second = session_second(s);
    assert_non_null(second);
    assert_ptr_not_equal(second, session_metric(s));
    world_shows(&w, second->name, true);
    world_shows(&w, "#2", true);
    int64_t best = -1, n;
    const int64_t *order = session_order(s, &n, false);
    for (int64_t i = 0; i < n; i++) { /* its ranks are those that it has when it is shown */
        if (session_second_rank(s, order[i]) == 1)
            best = order[i];
    }
    assert_true(best >= 0);
    ok(session_show(s, second->name, &err));
    assert_int_equal(session_rank(s, best), 1);
    ok(session_show(s, "kurtosis", &err));
    for (int i = 0; i < 8 && session_second(s); i++)
        world_keys(&w, "c");
    assert_null(session_second(s)); /* behind the last: none */
    world_keys(&w, "C");
    assert_int_equal(session_columns(s), COLUMN_KIND);
    world_keys(&w, "C");
    assert_int_equal(session_columns(s), COLUMN_ADVICE);
    world_shows(&w, "keep float", true);
    world_shows(&w, "fine", true);
    world_keys(&w, "C C");
    assert_int_equal(session_columns(s), 0);
    world_close(&w);
}

/* The words of the command, and what is kept. */
static void test_command(void **state)
{
    (void)state;
    World w;
    world_open(&w, 120, 30, "ascii", true, false);
    Session *s = w.app.session;
    ok(app_execute(&w.app, "columns std advice", &err));
    assert_string_equal(session_second(s)->name, "std");
    assert_int_equal(session_columns(s), COLUMN_ADVICE);
    assert_int_equal(app_execute(&w.app, "columns std kurtosis", &err), ST_USAGE);
    assert_int_equal(app_execute(&w.app, "columns advise", &err), ST_USAGE);
    assert_non_null(strstr(err.text, "did you mean 'advice'"));
    char id[64];
    snprintf(id, sizeof id, "%s", session_id(s));
    SessionOptions o = *session_options(s);
    char *dir = strdup(o.state_dir);
    o.state_dir = dir;
    ok(app_close(&w.app, &err));
    ok(session_restore(&s, &o, id, &err));
    assert_string_equal(session_second(s)->name, "std");
    assert_int_equal(session_columns(s), COLUMN_ADVICE);
    session_free(s);
    free(dir);
    world_close(&w);
}

static void test_advice(void **state)
{
    (void)state;
    World w;
    world_open(&w, 120, 30, "ascii", true, false);
    Session *s = w.app.session;
    double sum = 0;
    for (int64_t g = 0; g < session_model(s)->ngroups; g++) {
        Advice a = session_advice(s, group_linear(&session_model(s)->groups[g], 0));
        sum += a.share;
        assert_string_equal(a.word, a.share >= 0.05 ? "keep float" : "fine"); /* all are 8-bit */
    }
    assert_true(fabs(sum - 1) < 1e-9);
    world_shows(&w, "twentieth-of-loss", true); /* the pane names the rule */
    Advice rule;
    int n = 0;
    for (; advice_rule(n, &rule); n++)
        assert_true(rule.word && rule.rule && rule.why);
    assert_true(n >= 4);
    world_close(&w);
}

/* ---- many rows at once ---- */

static void test_tags(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    Session *s = w.app.session;
    ok(app_execute(&w.app, "tag --off *", &err));
    world_keys(&w, "g *");
    assert_int_equal(session_tag_count(s), 8); /* down_proj of 8 layers */
    ok(app_execute(&w.app, "tag --off *", &err));
    world_keys(&w, "[");
    assert_int_equal(session_tag_count(s), 7); /* of its block */
    world_keys(&w, "]");
    assert_int_equal(session_tag_count(s), 0);
    world_keys(&w, "g v j j j");
    world_shows(&w, "\n|", true); /* rows of the range are marked */
    assert_int_equal(session_tag_count(s), 0);
    world_keys(&w, "v");
    assert_int_equal(session_tag_count(s), 4);
    ok(app_execute(&w.app, "tag --off *", &err));
    world_keys(&w, "v j Esc");
    world_shows(&w, "nothing was tagged", true);
    assert_int_equal(session_tag_count(s), 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ties),   cmocka_unit_test(test_second), cmocka_unit_test(test_command),
        cmocka_unit_test(test_advice), cmocka_unit_test(test_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
