/* What passes find of the model as the open recipe's processors make it, beside what they found of the checkpoint's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/session.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/small_session.h"
#include "tests/lib/tempdir.h"

static Error err;

static void ok(Status st)
{
    session_ok(st, &err);
}

#define QUANT                                                                                                        \
    "    - {type: linear_quant, qconfig: {act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}, "   \
    "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}\n"

/* The default recipe behind kv_smooth. */
static void open_smoothed(Session *s, const char *factor)
{
    char text[600];
    const char *path = temp_path(small_root, "smoothed.yaml");
    snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec:\n  process:\n    - {type: kv_smooth, smooth_factor: %s}\n" QUANT,
             factor);
    temp_puts(path, text);
    ok(session_open_recipe(s, path, NULL, &err));
}

static void analyze(Session *s)
{
    static const char *const names[] = {"attention_mse", "kurtosis", "weight_error", NULL};
    ok(session_analyze(s, names, NULL, 0, true, &err));
}

/* Of each metric's unit, the sum tells models apart. */
static double sum_of(Session *s, const char *metric, ScoreState *state)
{
    const Metric *m = metric_find(metric);
    double sum = 0;
    *state = SCORE_OK;
    for (int64_t u = 0; u < scope_units(session_model(s), m->scope); u++) {
        Score sc = session_unit_score(s, m, u);
        *state = sc.state == SCORE_OK ? *state : sc.state;
        sum += sc.state == SCORE_OK || sc.state == SCORE_STALE ? sc.value : 0;
    }
    return sum;
}

static double scored(Session *s, const char *metric)
{
    ScoreState state;
    double sum = sum_of(s, metric, &state);
    assert_int_equal(state, SCORE_OK);
    return sum;
}

static void nothing_scored(Session *s)
{
    static const char *const names[] = {"attention_mse", "kurtosis", "weight_error"};
    for (int i = 0; i < 3; i++) {
        ScoreState state;
        sum_of(s, names[i], &state);
        assert_int_equal(state, SCORE_NONE);
        assert_false(session_has_run(s, metric_find(names[i])));
    }
}

typedef struct Found {
    double attention, kurtosis, weight;
} Found;

static Found found(Session *s)
{
    return (Found){scored(s, "attention_mse"), scored(s, "kurtosis"), scored(s, "weight_error")};
}

static void same(Found a, Found b)
{
    assert_true(a.attention == b.attention && a.kurtosis == b.kurtosis && a.weight == b.weight);
}

static void each_base_has_its_scores(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
    analyze(s);
    ok(session_wait(s, &err));
    Found plain = found(s);
    assert_null(session_result_before(s, 3));
    open_smoothed(s, "1.0");
    nothing_scored(s);
    assert_non_null(session_result_before(s, 3)); /* the checkpoint's inputs are known */
    analyze(s);
    ok(session_wait(s, &err));
    Found smoothed = found(s);
    assert_true(smoothed.attention != plain.attention && smoothed.weight != plain.weight);
    const LinearResult *before = session_result_before(s, 3), *now = session_result(s, 3);
    assert_true(before != now && before->in.rows == now->in.rows && before->in.hist.total == now->in.hist.total);
    ok(session_undo(s, NULL, &err));
    same(found(s), plain);
    assert_null(session_result_before(s, 3));
    ok(session_redo(s, NULL, &err));
    same(found(s), smoothed);
    open_smoothed(s, "0.5"); /* another base by a setting alone */
    nothing_scored(s);
    analyze(s);
    ok(session_wait(s, &err));
    assert_true(scored(s, "attention_mse") != smoothed.attention);
    ok(session_close(s, &err));
}

/* Of the model that a pass was asked for, whatever is open when it ends; all of it back from the journal. */
static void what_was_asked_for_is_kept_apart(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
    analyze(s);
    open_smoothed(s, "1.0");
    analyze(s);
    ok(session_wait(s, &err));
    Found smoothed = found(s);
    ok(session_undo(s, NULL, &err));
    Found plain = found(s);
    assert_true(smoothed.attention != plain.attention && smoothed.weight != plain.weight);
    ok(session_redo(s, NULL, &err));
    ok(session_close(s, &err));
    SessionOptions o = small_options();
    ok(session_restore(&s, &o, id, &err));
    same(found(s), smoothed);
    assert_non_null(session_result_before(s, 3));
    ok(session_undo(s, NULL, &err));
    same(found(s), plain);
    ok(session_close(s, &err));
}

/* Other texts make other factors: nothing of the old ones stays, of either base. */
static void other_texts_make_both_stale(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
    analyze(s);
    ok(session_wait(s, &err));
    open_smoothed(s, "1.0");
    analyze(s);
    ok(session_wait(s, &err));
    ok(session_set(s, "max-samples", "1", &err));
    ScoreState st;
    sum_of(s, "weight_error", &st);
    assert_int_equal(st, SCORE_STALE); /* of weights, which the texts have changed */
    assert_null(session_result_before(s, 3));
    ok(session_undo(s, NULL, &err));
    sum_of(s, "attention_mse", &st);
    assert_int_equal(st, SCORE_STALE);
    sum_of(s, "weight_error", &st);
    assert_int_equal(st, SCORE_OK); /* of the checkpoint's weights, which they have not */
    ok(session_close(s, &err));
}

/* weight_error behind a rotation that a prior stage found in texts of its own. */
static double error_turned_by(Session *s, const char *texts)
{
    static const char *const names[] = {"weight_error", NULL};
    char text[900];
    const char *path = temp_path(small_root, "turned.yaml");
    int n = snprintf(text, sizeof text, "apiversion: modelslim_v1\nspec:\n  prior:\n    - process: [{type: adapt_rotation, "
                     "stage: 1, steps: 3}]\n      dataset: %s\n  process:\n    - {type: adapt_rotation, stage: 2}\n" QUANT,
                     temp_path(small_root, texts));
    assert_true(n > 0 && (size_t)n < sizeof text);
    temp_puts(path, text);
    ok(session_open_recipe(s, path, NULL, &err));
    ok(session_analyze(s, names, NULL, 0, true, &err));
    ok(session_wait(s, &err));
    return scored(s, "weight_error");
}

static void a_prior_stage_has_its_own_texts(void **state)
{
    (void)state;
    static const char *const names[] = {"weight_error", NULL};
    char id[40];
    Session *s = small_session(id);
    temp_puts(temp_path(small_root, "first.jsonl"), "{\"input_ids\":[11,12,13,14,15,16,17,18]}\n");
    temp_puts(temp_path(small_root, "second.jsonl"), "{\"input_ids\":[40,41,42,5,44]}\n");
    ok(session_analyze(s, names, NULL, 0, true, &err));
    ok(session_wait(s, &err));
    double plain = scored(s, "weight_error"), first = error_turned_by(s, "first.jsonl");
    double second = error_turned_by(s, "second.jsonl"), again = error_turned_by(s, "first.jsonl");
    assert_true(first != plain && first != second && again == first);
    ok(session_close(s, &err));
}

/* No measurement of one base predicts for another; each tells what it was made behind. */
static void measurements_tell_their_processors(void **state)
{
    (void)state;
    char id[40];
    Session *s = small_session(id);
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    open_smoothed(s, "1.0");
    assert_null(session_effect(s, NULL));
    ok(session_measure(s, false, &err));
    ok(session_wait(s, &err));
    assert_int_equal(session_measurements(s), 2);
    Measurement a = session_measurement(s, 0), b = session_measurement(s, 1);
    assert_null(work_change(a.recipe, 0));
    assert_string_equal(work_change(b.recipe, 0), "kv_smooth");
    assert_null(work_change(b.recipe, 1));
    assert_false(a.comparable);
    assert_true(b.comparable && b.present);
    assert_int_equal(session_predict(s).measurements, session_predict(s).have ? 1 : 0);
    ok(session_close(s, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_base_has_its_scores),
        cmocka_unit_test(what_was_asked_for_is_kept_apart),
        cmocka_unit_test(other_texts_make_both_stale),
        cmocka_unit_test(a_prior_stage_has_its_own_texts),
        cmocka_unit_test(measurements_tell_their_processors),
    };
    return cmocka_run_group_tests(tests, small_begin, small_end);
}
