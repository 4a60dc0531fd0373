/* Two metrics over the same units. The table is this file's: scores are put, no pass runs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define metric_table table_of_the_build
#include "core/registry.c"
#undef metric_table

#include "session/disagree.h"
#include "session/parts.h"
#include "session/results.h"
#include "session/runpair.h"

static const MetricPass pass_given = {.name = "given", .step = "layer"};
#define ROW(row, called, of, way) \
    static const Metric row = {.name = called, .title = called, .unit = "", .scope = of, .direction = way, .pass = &pass_given, \
                               .family = FAMILY_ERROR, .cost = "", .explain = ""}
ROW(given_kurtosis, "kurtosis", SCOPE_LINEAR, 1);
ROW(given_error, "block_error", SCOPE_GROUP, 1);
ROW(given_alone, "alone", SCOPE_GROUP, 1);
ROW(given_block, "blockwise", SCOPE_BLOCK, 1);
ROW(given_attention, "attention", SCOPE_ATTENTION, 1);
ROW(given_down, "sqnr", SCOPE_LINEAR, -1);
const Metric *const metric_table[] = {&given_kurtosis, &given_error, &given_alone, &given_block, &given_attention, &given_down,
                                      &metric_local_error, NULL};

enum { LINEARS = 56, GROUPS = 32 }; /* of lab_models/demo: 8 layers of qkv, o, gate + up, down */
static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static Session *open_demo(void)
{
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 1;
    o.state_dir = NULL;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, "lab_models/demo", NULL, &err));
    assert_int_equal(session_model(s)->nlinears, LINEARS);
    assert_int_equal(scope_units(session_model(s), SCOPE_GROUP), GROUPS);
    return s;
}

static void put(Session *s, const Metric *m, int64_t unit, double v)
{
    PassScore p = {.metric = m, .s = {.unit = unit, .value = v, .tokens = 10, .samples = 1}};
    ok(results_store_unit(s->results, &p, &err));
}

static const PairRow *row_of(const MetricPair *p, int64_t unit)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->row[i].unit == unit)
            return &p->row[i];
    fail_msg("unit %d is in no row", (int)unit);
    return NULL;
}

static void says(Session *s, const MetricPair *p, int64_t unit, const char *want)
{
    Str b = {0};
    metric_pair_why(s, p, row_of(p, unit), &b);
    assert_string_equal(str_text(&b), want);
    str_free(&b);
}

/* Every group's score by its number, so that group 0 is the most sensitive. */
static void put_groups(Session *s, const Metric *m, double scale)
{
    for (int64_t g = 0; g < GROUPS; g++)
        put(s, m, g, scale * (double)(GROUPS - g));
}

static void a_group_has_the_largest_of_its_linears(void **state)
{
    (void)state;
    Session *s = open_demo();
    MetricPair p;
    double v[LINEARS];
    assert_int_equal(metric_pair(s, &given_kurtosis, &given_error, &p, &err), ST_DATA);
    assert_non_null(strstr(err.text, "analyze kurtosis block_error"));
    for (int64_t i = 0; i < LINEARS; i++) {
        put(s, &given_kurtosis, i, (double)((i * 17) % LINEARS));
        put(s, &given_down, i, (double)((i * 17) % LINEARS));
    }
    put_groups(s, &given_error, 1);
    unit_values(s, &given_kurtosis, SCOPE_GROUP, v);
    for (int64_t g = 0; g < GROUPS; g++) {
        double most = -1;
        for (int64_t i = 0; i < LINEARS; i++)
            if (scope_unit_of(session_model(s), SCOPE_GROUP, i) == g && (double)((i * 17) % LINEARS) > most)
                most = (double)((i * 17) % LINEARS);
        assert_true(v[g] == most);
    }
    ok(metric_pair(s, &given_kurtosis, &given_error, &p, &err));
    assert_true(p.scope == SCOPE_GROUP && p.n == GROUPS && p.units == GROUPS && p.agreement.n == GROUPS);
    for (int64_t i = 1; i < p.n; i++) /* causes first, then what moved most */
        assert_true(p.row[i].why == p.row[i - 1].why || p.row[i - 1].why != DISAGREE_NOT);
    for (int64_t i = 1; i < p.n; i++)
        assert_true((p.row[i].why == DISAGREE_NOT) != (p.row[i - 1].why == DISAGREE_NOT) ||
                    fabs(p.row[i].rank_a - p.row[i].rank_b) <= fabs(p.row[i - 1].rank_a - p.row[i - 1].rank_b));
    metric_pair_fini(&p);
    ok(metric_pair(s, &given_kurtosis, &given_down, &p, &err)); /* less is more sensitive there */
    assert_true(p.scope == SCOPE_LINEAR && fabs(p.agreement.spearman + 1) < 1e-12);
    assert_true(p.row[0].a == p.row[0].b);
    metric_pair_fini(&p);
    unit_values(s, &given_down, SCOPE_LINEAR, v);
    assert_true(v[1] == -17);
    session_free(s);
}

static void coarser_scopes_meet(void **state)
{
    (void)state;
    Session *s = open_demo();
    MetricPair p;
    put_groups(s, &given_error, 1);
    for (int64_t l = 0; l < 8; l++) {
        put(s, &given_block, l, (double)(8 - l));
        put(s, &given_attention, l, (double)(8 - l));
    }
    ok(metric_pair(s, &given_error, &given_block, &p, &err));
    assert_true(p.scope == SCOPE_BLOCK && p.n == 8 && p.agreement.spearman > 0.999);
    metric_pair_fini(&p);
    ok(metric_pair(s, &given_attention, &given_error, &p, &err));
    assert_true(p.scope == SCOPE_ATTENTION && p.n == 8 && p.agreement.kendall > 0.999);
    metric_pair_fini(&p);
    ok(metric_pair(s, &given_attention, &given_block, &p, &err));
    assert_true(p.scope == SCOPE_BLOCK && p.n == 8);
    metric_pair_fini(&p);
    put(s, &given_block, 3, (double)NAN); /* failed */
    ok(metric_pair(s, &given_error, &given_block, &p, &err));
    assert_true(p.n == 7 && p.units == 8);
    metric_pair_fini(&p);
    session_free(s);
}

/* Of 32 groups the top tenth is the first 4, the lower half what ranks behind 16.5. */
static void inputs_and_the_stream_disagree(void **state)
{
    (void)state;
    Session *s = open_demo();
    const Model *m = session_model(s);
    MetricPair p;
    put_groups(s, &given_error, 1);
    for (int64_t i = 0; i < LINEARS; i++) { /* agrees, but for two */
        int64_t g = scope_unit_of(m, SCOPE_GROUP, i);
        put(s, &given_kurtosis, i, g == 20 ? 1000 : g == 1 ? 0.5 : (double)(GROUPS - g));
    }
    ok(metric_pair(s, &given_kurtosis, &given_error, &p, &err));
    assert_int_equal(row_of(&p, 20)->why, DISAGREE_STAYS);
    assert_int_equal(row_of(&p, 1)->why, DISAGREE_REACHES);
    assert_int_equal(p.row[2].why, DISAGREE_NOT);
    says(s, &p, 20, "its input is spiky (kurtosis #1), but the error does not reach the residual stream: block_error #21; "
                    "alone decides");
    says(s, &p, 1, "ordinary input (kurtosis #32), but what it writes moves the residual stream: block_error #2; alone decides");
    says(s, &p, 5, "");
    metric_pair_fini(&p);
    put(s, &given_alone, 20, 0.0003);
    ok(metric_pair(s, &given_kurtosis, &given_error, &p, &err));
    says(s, &p, 20, "its input is spiky (kurtosis #1), but the error does not reach the residual stream: block_error #21, "
                    "alone KL 0.0003"); /* nothing to hold it against */
    metric_pair_fini(&p);
    put(s, &given_alone, 1, 0.1);
    ok(metric_pair(s, &given_error, &given_kurtosis, &p, &err)); /* whichever is named first */
    says(s, &p, 20, "its input is spiky (kurtosis #1), but the error does not reach the residual stream: block_error #21, "
                    "alone KL 0.0003: leave it quantized");
    says(s, &p, 1, "ordinary input (kurtosis #32), but what it writes moves the residual stream: block_error #2, alone KL 0.1");
    metric_pair_fini(&p);
    session_free(s);
}

static void block_error_is_blind_behind_the_block(void **state)
{
    (void)state;
    Session *s = open_demo();
    MetricPair p;
    put_groups(s, &given_error, 2);
    put_groups(s, &given_alone, 0.01);
    put(s, &given_alone, 30, 0.01 * 2 * 4); /* 4 times what the others' ratio says */
    put(s, &given_alone, 10, 0.01 * 22 / 4);
    put(s, &given_alone, 11, 0.01 * 21 * 2.9);
    ok(metric_pair(s, &given_error, &given_alone, &p, &err));
    assert_true(fabs(p.agreement.median_ratio - 0.005) < 1e-12);
    assert_int_equal(row_of(&p, 30)->why, DISAGREE_UNDER);
    assert_int_equal(row_of(&p, 10)->why, DISAGREE_OVER);
    assert_int_equal(row_of(&p, 11)->why, DISAGREE_NOT);
    assert_int_equal(p.row[2].why, DISAGREE_NOT);
    says(s, &p, 30, "block_error is blind behind the block and rates it 4.0 times too low: believe alone");
    metric_pair_fini(&p);
    ok(metric_pair(s, &given_alone, &given_error, &p, &err));
    says(s, &p, 30, "block_error is blind behind the block and rates it 4.0 times too low: believe alone");
    says(s, &p, 10, "block_error is blind behind the block and rates it 4.0 times too high: believe alone");
    metric_pair_fini(&p);
    session_free(s);
}

static ScoreColumn *column(ScoreFile *f, const char *const *name, const double *value, int n)
{
    ScoreColumn *c;
    ok(score_column(f, "m", &c, &err));
    for (int i = 0; i < n; i++)
        ok(score_add(f, c, name[i], strlen(name[i]), -1, value[i], &err));
    return c;
}

static void runs_are_matched_by_name(void **state)
{
    (void)state;
    static const char *const na[] = {"a", "b", "c", "d", "gone"}, *const nb[] = {"d", "c", "new", "b", "a", "newer"};
    const double nan = (double)NAN, va[] = {4, 3, 2, 1, 9}, vb[] = {40, 30, 5, nan, 10, 6};
    ScoreFile fa = {0}, fb = {0};
    RunPair p;
    ScoreColumn *a = column(&fa, na, va, 5), *b = column(&fb, nb, vb, 6);
    ok(run_pair(a, b, 1, 2, &p, &err));
    assert_true(p.n == 3 && p.only_a == 2 && p.only_b == 2); /* b has no number there */
    assert_true(fabs(p.agreement.spearman + 1) < 1e-12 && p.agreement.both_top == 1);
    assert_string_equal(p.row[0].name, "a"); /* moved as far as d, and before it */
    assert_true(p.row[0].rank_a == 1 && p.row[0].rank_b == 3 && p.row[0].a == 4 && p.row[0].b == 10);
    assert_string_equal(p.row[2].name, "c");
    run_pair_fini(&p);
    ok(run_pair(a, b, -1, 2, &p, &err));
    assert_true(p.row[0].rank_a == 3 && p.row[0].a == 4);
    run_pair_fini(&p);
    b->n = 1;
    assert_int_equal(run_pair(a, b, 1, 2, &p, &err), ST_DATA);
    score_file_fini(&fa);
    score_file_fini(&fb);
}

static void the_session_is_a_run(void **state)
{
    (void)state;
    Session *s = open_demo();
    ScoreFile f = {0};
    put(s, &given_alone, 2, 0.5);
    put(s, &given_alone, 0, 0.25);
    put(s, &given_alone, 1, (double)NAN);
    ok(session_column(s, &given_alone, &f, &err));
    assert_true(f.n == 1 && f.column[0].n == 2);
    assert_string_equal(f.column[0].name, "alone");
    assert_string_equal(f.column[0].score[0].name, "model.layers.0.self_attn.qkv");
    assert_true(f.column[0].score[0].value == 0.25 && f.column[0].score[1].value == 0.5);
    score_file_fini(&f);
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_has_the_largest_of_its_linears),
        cmocka_unit_test(coarser_scopes_meet),
        cmocka_unit_test(inputs_and_the_stream_disagree),
        cmocka_unit_test(block_error_is_blind_behind_the_block),
        cmocka_unit_test(runs_are_matched_by_name),
        cmocka_unit_test(the_session_is_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
