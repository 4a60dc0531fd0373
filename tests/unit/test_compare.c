/* Measurements of a session side by side. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/columns.h"
#include "session/comparing.h"
#include "session/parts.h"
#include "session/results.h"
#include "tests/lib/bench.h"
#include "tests/lib/tempdir.h"

static const char llama[] = "tests/golden/models/llama/fp32";
static const char recipe[] = "apiversion: modelslim_v1\nspec:\n  process:\n    - type: linear_quant\n      qconfig:\n"
                             "        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}\n"
                             "        weight: {scope: per_channel, dtype: int4, symmetric: true, method: minmax}\n"
                             "      include: ['*']\n  save:\n    - type: ascendv1_saver\n";

static Error err;
static char *dir;

static int make_dir(void **state)
{
    (void)state;
    dir = temp_folder();
    Str text = {0}; /* 12 texts of 30 tokens */
    for (int t = 0; t < 12; t++) {
        str_puts(&text, "{\"input_ids\":[");
        for (int i = 0; i < 30; i++)
            str_printf(&text, "%s%d", i ? "," : "", (t * 31 + i * i * 7 + i) % 100);
        str_puts(&text, "]}\n");
    }
    temp_puts(temp_path(dir, "texts.jsonl"), str_text(&text));
    temp_puts(temp_path(dir, "w4.yaml"), recipe);
    str_free(&text);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_remove(dir);
    return 0;
}

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static SessionOptions options(void)
{
    SessionOptions o;
    session_options_default(&o);
    o.threads = 2;
    o.eval_tokens = 120;
    o.state_dir = dir;
    return o;
}

static Session *open_session(void)
{
    SessionOptions o = options();
    Session *s;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, llama, NULL, &err));
    ok(session_set_calib(s, temp_path(dir, "texts.jsonl"), &err));
    ok(session_set_eval(s, temp_path(dir, "texts.jsonl"), &err));
    return s;
}

static void measure(Session *s, bool full)
{
    ok(session_measure(s, full, &err));
    ok(session_wait(s, &err));
}

static void to_float(Session *s, const char *target)
{
    ok(session_edit(s, &target, 1, 0, false, NULL, &err));
}

static int number(const Session *s, const char *name)
{
    int i;
    ok(session_measurement_find(s, name, &i, &err));
    return session_measurement(s, i).id;
}

static void names_and_numbers_of_measurements(void **state)
{
    (void)state;
    Session *s = open_session();
    int i;
    assert_int_equal(session_measurement_find(s, "present", &i, &err), ST_USAGE);
    measure(s, false);
    assert_int_equal(number(s, "present"), 1);
    assert_int_equal(number(s, "base"), 1);
    assert_int_equal(session_measurement_find(s, "previous", &i, &err), ST_USAGE);
    to_float(s, "*.2.mlp.down_proj");
    assert_int_equal(session_measurement_find(s, "present", &i, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "not measured"));
    measure(s, false);
    to_float(s, "*.1.mlp.down_proj");
    measure(s, false);
    assert_int_equal(session_measurements(s), 3);
    assert_int_equal(number(s, "present"), 3);
    assert_int_equal(number(s, "previous"), 2);
    assert_int_equal(number(s, "#1"), 1);
    ok(session_undo(s, NULL, &err));
    measure(s, false); /* again: newest, and still number 2 */
    assert_int_equal(session_measurements(s), 3);
    assert_int_equal(session_measurement(s, 2).id, 2);
    assert_true(session_measurement(s, 2).present && !session_measurement(s, 2).base);
    assert_true(session_measurement(s, 0).base && !session_measurement(s, 0).present);
    assert_int_equal(number(s, "previous"), 3);
    measure(s, true); /* more tokens: another measurement, which the older ones don't compare with */
    assert_int_equal(session_measurements(s), 4);
    assert_int_equal(number(s, "present"), 4);
    assert_int_equal(session_paired(s, 3, 1).state, PAIR_TOKENS);
    assert_true(session_measurement(s, 3).effect->whole && !session_measurement(s, 2).effect->whole);
    assert_int_equal(session_measurement_find(s, "9", &i, &err), ST_USAGE);
    assert_int_equal(session_measurement_find(s, "", &i, &err), ST_USAGE);
    assert_int_equal(session_measurement_find(s, "worst", &i, &err), ST_USAGE);
    session_free(s);
}

/* What is kept of measurements is asked for anew when they move, which a job does that only waits. */
static void room_for_more_is_told(void **state)
{
    (void)state;
    Session *s = open_session();
    measure(s, false);
    const uint64_t version = session_compare_version(s);
    ok(results_room(s->results, 0, &err));
    assert_true(session_compare_version(s) == version);
    ok(results_room(s->results, 1000, &err));
    assert_true(session_compare_version(s) != version);
    ok(session_close(s, &err));
}

static void rivals_are_the_base_and_the_one_before(void **state)
{
    (void)state;
    Session *s = open_session();
    Measurement m;
    Paired p;
    assert_false(session_rival(s, RIVAL_BASE, &m, &p));
    measure(s, false);
    assert_false(session_rival(s, RIVAL_BASE, &m, &p)); /* itself */
    assert_false(session_rival(s, RIVAL_PREVIOUS, &m, &p));
    double kl = session_effect(s, NULL)->kl_mean;
    to_float(s, "*.down_proj");
    assert_false(session_rival(s, RIVAL_BASE, &m, &p)); /* the present one is not measured */
    measure(s, false);
    assert_true(session_rival(s, RIVAL_BASE, &m, &p));
    assert_true(m.id == 1 && p.state == PAIR_OK && p.kl == session_effect(s, NULL)->kl_mean - kl && p.kl < 0);
    assert_true(p.kl_se > 0 && p.kl_se < session_effect(s, NULL)->kl_se + session_base_effect(s)->kl_se);
    assert_int_equal(verdict_of(p.kl, p.kl_se), VERDICT_BETTER);
    to_float(s, "*.1.self_attn.o_proj");
    measure(s, false);
    assert_true(session_rival(s, RIVAL_BASE, &m, &p) && m.id == 1);
    assert_true(session_rival(s, RIVAL_PREVIOUS, &m, &p) && m.id == 2);
    measure(s, true); /* over all tokens nothing else is measured */
    assert_false(session_rival(s, RIVAL_BASE, &m, &p));
    session_free(s);
}

static void levels_are_compared_by_what_they_are(void **state)
{
    (void)state;
    Session *s = open_session();
    LevelChange *c;
    int64_t n;
    measure(s, false);
    to_float(s, "*.2.mlp.down_proj");
    measure(s, false);
    Measurement a = session_measurement(s, 0), b = session_measurement(s, 1);
    ok(session_level_changes(s, &a, &b, &c, &n, &err));
    assert_int_equal(n, 1);
    assert_string_equal(session_model(s)->linears[c->linear].name, "model.layers.2.mlp.down_proj");
    assert_string_equal(c->from, "W8A8");
    assert_string_equal(c->to, "float");
    free(c);
    ok(session_level_changes(s, &a, &a, &c, &n, &err));
    assert_true(n == 0 && !c);
    ok(session_open_recipe(s, temp_path(dir, "w4.yaml"), NULL, &err));
    measure(s, false); /* level 1, too, but another scheme */
    a = session_measurement(s, 1);
    b = session_measurement(s, 2);
    ok(session_level_changes(s, &a, &b, &c, &n, &err));
    assert_int_equal(n, session_model(s)->nlinears - 1); /* down_proj of layer 2 stays float */
    assert_string_equal(c->from, "W8A8");
    assert_string_equal(c->to, "W4A8_DYNAMIC");
    free(c);
    SizeReport w8, w4;
    assert_true(session_measurement_size(s, &a, &w8) && session_measurement_size(s, &b, &w4));
    assert_true(w4.bytes < w8.bytes);
    assert_int_equal(session_paired(s, 1, 2).state, PAIR_OK);
    session_free(s);
}

static void same_pair(const Paired *a, const Paired *b)
{
    assert_true(a->state == b->state && a->tokens == b->tokens && a->whole == b->whole);
    assert_memory_equal(&a->kl, &b->kl, 6 * sizeof a->kl);
}

static void comparisons_come_back_with_the_session(void **state)
{
    (void)state;
    Session *s = open_session();
    char id[40];
    measure(s, false);
    to_float(s, "*.down_proj");
    measure(s, false);
    Paired was = session_paired(s, 1, 0);
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o = options();
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_measurements(s), 2);
    Paired now = session_paired(s, 1, 0);
    same_pair(&now, &was);
    assert_true(now.state == PAIR_OK && now.kl_se > 0);
    assert_int_equal(number(s, "present"), 2);
    measure(s, false); /* the same again, by this program: it compares with what is recorded */
    now = session_paired(s, 1, 0);
    same_pair(&now, &was);
    session_free(s);
}

/* ---- two of them ---- */

static void pair_says(const Session *s, int a, int b, int64_t changes, const char *differs)
{
    MeasuredPair p;
    Str text = {0};
    ok(measured_pair(s, a, b, &p, &err));
    assert_int_equal(p.changes, changes);
    measured_pair_differs(&p, &text);
    assert_string_equal(str_text(&text), differs);
    str_free(&text);
    measured_pair_fini(&p);
}

static void a_pair_tells_all_that_differs_and_no_more(void **state)
{
    (void)state;
    Session *s = open_session();
    MeasuredPair p;
    measure(s, false);
    to_float(s, "*.2.mlp.down_proj");
    measure(s, false);
    assert_int_equal(measured_pair(s, 1, 1, &p, &err), ST_USAGE);
    pair_says(s, 0, 1, 1, "levels of 1 linear only");
    ok(measured_pair(s, 0, 1, &p, &err));
    assert_true(p.told && p.sized && p.size[0].bytes < p.size[1].bytes);
    assert_string_equal(str_text(&p.config), "rules\n+float *.2.mlp.down_proj\n");
    assert_string_equal(p.change[0].from, "W8A8");
    assert_string_equal(p.change[0].to, "float");
    measured_pair_fini(&p);
    ok(session_undo(s, NULL, &err));
    ok(session_set(s, "max-samples", "5", &err)); /* fewer calibration texts, nothing else */
    measure(s, false);
    pair_says(s, 0, 2, 0, "calibration only");
    ok(session_set(s, "seed", "7", &err));
    ok(session_open_recipe(s, temp_path(dir, "w4.yaml"), NULL, &err));
    measure(s, false);
    Str differs = {0};
    str_printf(&differs, "levels of %lld linears, recipe, seed", (long long)session_model(s)->nlinears);
    pair_says(s, 2, 3, session_model(s)->nlinears, str_text(&differs));
    str_free(&differs);
    ok(measured_pair(s, 2, 3, &p, &err));
    assert_non_null(strstr(str_text(&p.config), "recipe\n"));
    assert_non_null(strstr(str_text(&p.config), "+        weight: {scope: per_channel, dtype: int4, symmetric: true, method: minmax}\n"));
    assert_string_equal(p.differs[1].a, "42");
    assert_string_equal(p.differs[1].b, "7");
    measured_pair_fini(&p);
    session_free(s);
}

static void levels_in_words(void **state)
{
    (void)state;
    Session *s = open_session();
    Str text = {0};
    measure(s, false);
    to_float(s, "*.2.mlp.down_proj");
    to_float(s, "*.1.self_attn.o_proj");
    measure(s, false);
    Measurement m = session_measurement(s, 0);
    session_measurement_levels(s, &m, false, &text);
    assert_string_equal(str_text(&text), "all W8A8");
    str_clear(&text);
    m = session_measurement(s, 1);
    session_measurement_levels(s, &m, false, &text);
    assert_string_equal(str_text(&text), "float: o_proj down_proj x1");
    str_clear(&text);
    session_measurement_levels(s, &m, true, &text);
    assert_string_equal(str_text(&text), "float: o down x1");
    str_free(&text);
    session_free(s);
}

/* ---- marks ---- */

static void marks_are_kept(void **state)
{
    (void)state;
    Session *s = open_session();
    char id[40];
    assert_int_equal(session_mark(s, MARK_A, "1", &err), ST_USAGE);
    measure(s, false);
    to_float(s, "*.down_proj");
    measure(s, false);
    ok(session_mark(s, MARK_A, "base", &err));
    ok(session_mark(s, MARK_B, "present", &err));
    assert_string_equal(session_marked(s, MARK_A), "1");
    assert_string_equal(session_marked(s, MARK_B), "2");
    ok(session_mark(s, MARK_B, "#1", &err)); /* one thing has one mark */
    assert_string_equal(session_marked(s, MARK_A), "");
    ok(session_mark(s, MARK_A, "2", &err));
    session_swap_marks(s);
    assert_true(session_marked_measurement(s, MARK_A) == 0 && session_marked_measurement(s, MARK_B) == 1);
    assert_int_equal(session_mark(s, MARK_A, "3", &err), ST_USAGE);
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o = options();
    ok(session_restore(&s, &o, id, &err));
    assert_string_equal(session_marked(s, MARK_A), "1");
    assert_string_equal(session_marked(s, MARK_B), "2");
    pair_says(s, 0, 1, 3, "levels of 3 linears only"); /* what they were made with came back, too */
    assert_string_equal(session_measurement(s, 1).rules, "float *.down_proj\n");
    uint64_t version = session_compare_version(s);
    ok(session_mark(s, MARK_A, NULL, &err));
    assert_string_equal(session_marked(s, MARK_A), "");
    assert_int_not_equal(session_compare_version(s), version);
    ok(session_open_model(s, llama, NULL, &err));
    assert_string_equal(session_marked(s, MARK_B), "");
    session_free(s);
}

/* ---- runs ---- */

static void analyze(Session *s, const char *metric)
{
    const char *const names[] = {metric, NULL};
    ok(session_analyze(s, names, NULL, 0, false, &err));
    ok(session_wait(s, &err));
}

static double score(Session *s, const char *metric, int64_t linear)
{
    const Metric *m = session_metric_find(s, metric);
    if (!m)
        fail_msg("there is no %s", metric);
    return session_score(s, m, linear).value;
}

static void from_says(Session *s, const char *metric, const char *want)
{
    Str text = {0};
    session_scores_from(s, session_metric_find(s, metric), &text);
    if (strncmp(str_text(&text), want, strlen(want)) != 0)
        fail_msg("%s is %s", metric, str_text(&text));
    str_free(&text);
}

static void a_new_calibration_set_keeps_the_scores_so_far(void **state)
{
    (void)state;
    Session *s = open_session();
    char id[40];
    int columns;
    assert_int_equal(session_keep_scores(s, "none", &columns, &err), ST_USAGE);
    ok(session_set_calib(s, "lab_calib/boolq.jsonl", &err)); /* nothing was scored: nothing is kept */
    assert_null(session_metric_find(s, "texts.kurtosis"));
    ok(session_set_calib(s, temp_path(dir, "texts.jsonl"), &err));
    analyze(s, "kurtosis");
    double was = score(s, "kurtosis", 3);
    ok(session_set_calib(s, temp_path(dir, "texts.jsonl"), &err)); /* the same set */
    assert_null(session_metric_find(s, "texts.kurtosis"));
    temp_puts(temp_path(dir, "fewer.jsonl"), "{\"input_ids\":[1,2,3,4,5,6,7,8,9,10,11,12]}\n{\"input_ids\":[9,8,7,61,52]}\n");
    ok(session_set_calib(s, temp_path(dir, "fewer.jsonl"), &err));
    assert_true(score(s, "texts.kurtosis", 3) == was);
    from_says(s, "kurtosis", "now: STALE");
    from_says(s, "texts.kurtosis", "kept: texts.jsonl, 12 texts, 360 tokens #");
    ok(session_keep_scores(s, "again", &columns, &err) == ST_USAGE ? ST_OK : ST_INTERNAL); /* stale ones are of another set */
    analyze(s, "kurtosis");
    assert_true(score(s, "kurtosis", 3) != was && score(s, "texts.kurtosis", 3) == was);
    from_says(s, "kurtosis", "now: fewer.jsonl, 2 texts, 17 tokens #");
    ok(session_mark(s, MARK_A, "kurtosis", &err));
    ok(session_mark(s, MARK_B, "texts.kurtosis", &err));
    assert_int_equal(session_mark(s, MARK_B, "std.texts", &err), ST_USAGE);
    assert_int_equal(session_mark(s, MARK_B, "block_error", &err), ST_USAGE); /* no scores */
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o = options();
    ok(session_restore(&s, &o, id, &err));
    assert_true(score(s, "texts.kurtosis", 3) == was);
    assert_ptr_equal(session_marked_metric(s, MARK_B), session_metric_find(s, "texts.kurtosis"));
    assert_int_equal(session_marked_measurement(s, MARK_A), -1);
    from_says(s, "texts.kurtosis", "kept: texts.jsonl, 12 texts");
    ok(session_keep_scores(s, "mine", &columns, &err));
    assert_true(score(s, "mine.kurtosis", 3) == score(s, "kurtosis", 3));
    session_free(s);
}

static void dropped_columns_are_gone(Session *s)
{
    assert_null(session_metric_find(s, "mine.kurtosis"));
    assert_null(session_metric_find(s, "mine.std"));
    assert_non_null(session_metric_find(s, "mine2.kurtosis"));
    assert_null(session_marked_metric(s, MARK_A));
    assert_string_equal(session_marked(s, MARK_A), "");
    assert_string_equal(session_marked(s, MARK_B), "kurtosis");
}

static void what_was_kept_is_dropped(void **state)
{
    (void)state;
    Session *s = open_session();
    char id[40], run[THING_MAX];
    int columns, measured;
    analyze(s, "kurtosis");
    analyze(s, "std");
    ok(session_keep_scores(s, "mine", &columns, &err));
    ok(session_keep_scores(s, "mine2", &columns, &err));
    ok(session_show(s, "mine.std", &err));
    session_set_columns(s, session_metric_find(s, "mine.kurtosis"), 0);
    ok(session_mark(s, MARK_A, "mine.kurtosis", &err));
    ok(session_mark(s, MARK_B, "kurtosis", &err));
    session_kept_run(s, "mine2.kurtosis", run);
    assert_string_equal(run, "mine2");
    session_kept_run(s, "kurtosis", run);
    assert_string_equal(run, "");
    session_kept_run(s, "3@that", run);
    assert_string_equal(run, "that");
    uint64_t version = session_compare_version(s);
    assert_int_equal(session_drop_kept(s, "min", &columns, &measured, &err), ST_USAGE);
    assert_int_equal(session_drop_kept(s, "kurtosis", &columns, &measured, &err), ST_USAGE);
    ok(session_drop_kept(s, "mine", &columns, &measured, &err));
    assert_true(columns >= 2 && measured == 0);
    assert_true(session_compare_version(s) > version);
    assert_ptr_not_equal(session_metric(s), NULL);
    assert_null(session_metric(s)->loaded);
    assert_null(session_second(s));
    dropped_columns_are_gone(s);
    double was = score(s, "kurtosis", 3);
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o = options();
    ok(session_restore(&s, &o, id, &err)); /* it stays so */
    dropped_columns_are_gone(s);
    ok(session_keep_scores(s, "mine", &columns, &err)); /* the name is free again */
    assert_true(score(s, "mine.kurtosis", 3) == was && score(s, "mine2.kurtosis", 3) == was);
    session_free(s);
}

static void another_session_is_brought_in(void **state)
{
    (void)state;
    Session *s = open_session();
    char id[40], own[40];
    int columns, measured, i;
    analyze(s, "kurtosis");
    to_float(s, "*.down_proj");
    measure(s, false);
    double was = score(s, "kurtosis", 5);
    Measurement before = session_measurement(s, 0);
    const double kl = before.effect->kl_mean;
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    s = open_session();
    measure(s, false);
    snprintf(own, sizeof own, "%s", session_id(s));
    assert_int_equal(session_keep_other(s, own, "me", &columns, &measured, &err), ST_USAGE);
    assert_int_equal(session_keep_other(s, "19700101-000000-1", "x", &columns, &measured, &err), ST_DATA);
    ok(session_keep_other(s, id, "first", &columns, &measured, &err));
    ok(session_keep_other(s, id, "first", &columns, &measured, &err)); /* again: in its place */
    assert_int_equal(measured, 1);
    assert_true(score(s, "first.kurtosis", 5) == was);
    assert_true(session_measurements(s) == 1 && session_measurements_all(s) == 2);
    ok(session_measurement_find(s, "1@first", &i, &err));
    assert_true(i == 1 && session_measurement(s, i).effect->kl_mean == kl && !session_measurement(s, i).present);
    pair_says(s, 0, 1, 3, "levels of 3 linears only");
    Paired was_pair = session_paired(s, 0, 1);
    assert_true(was_pair.state == PAIR_OK && was_pair.kl > 0);
    ok(session_mark(s, MARK_A, "1@first", &err));
    session_free(s);
    SessionOptions o = options();
    ok(session_restore(&s, &o, own, &err));
    assert_int_equal(session_measurements_all(s), 2);
    assert_int_equal(session_marked_measurement(s, MARK_A), 1);
    Paired now = session_paired(s, 0, 1);
    same_pair(&now, &was_pair);
    pair_says(s, 0, 1, 3, "levels of 3 linears only");
    int64_t changed;
    ok(session_take(s, 1, &changed, &err));
    assert_int_equal(changed, 3);
    session_free(s);
}

/* ---- back to one ---- */

static void a_measurement_is_taken_back_with_its_recipe(void **state)
{
    (void)state;
    Session *s = open_session();
    int64_t changed;
    to_float(s, "*.2.mlp.down_proj");
    measure(s, false);
    ok(session_undo(s, NULL, &err));
    measure(s, false);
    ok(session_take(s, 0, &changed, &err));
    assert_int_equal(changed, 1);
    assert_true(session_measurement(s, 0).present);
    assert_int_equal(session_whatifs(s), 1);
    assert_string_equal(session_whatif(s, 0)->pattern, "*.2.mlp.down_proj");
    int depth = session_undo_depth(s);
    ok(session_take(s, 0, &changed, &err));
    assert_true(changed == 0 && session_undo_depth(s) == depth);
    ok(session_undo(s, NULL, &err));
    assert_true(session_measurement(s, 1).present);
    ok(session_open_recipe(s, temp_path(dir, "w4.yaml"), NULL, &err));
    depth = session_undo_depth(s);
    assert_false(session_measurement(s, 0).comparable);
    ok(session_take(s, 0, &changed, &err)); /* its recipe, too, and in one step */
    assert_true(session_measurement(s, 0).present && session_measurement(s, 0).comparable);
    assert_int_equal(session_undo_depth(s), depth + 1);
    ok(session_undo(s, NULL, &err));
    assert_string_equal(recipe_name(session_recipe(s)), "w4.yaml");
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_numbers_of_measurements),
        cmocka_unit_test(room_for_more_is_told),
        cmocka_unit_test(rivals_are_the_base_and_the_one_before),
        cmocka_unit_test(levels_are_compared_by_what_they_are),
        cmocka_unit_test(comparisons_come_back_with_the_session),
        cmocka_unit_test(a_pair_tells_all_that_differs_and_no_more),
        cmocka_unit_test(levels_in_words),
        cmocka_unit_test(marks_are_kept),
        cmocka_unit_test(a_new_calibration_set_keeps_the_scores_so_far),
        cmocka_unit_test(what_was_kept_is_dropped),
        cmocka_unit_test(another_session_is_brought_in),
        cmocka_unit_test(a_measurement_is_taken_back_with_its_recipe),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
