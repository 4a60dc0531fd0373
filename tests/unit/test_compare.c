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

#include "session/session.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_numbers_of_measurements),
        cmocka_unit_test(rivals_are_the_base_and_the_one_before),
        cmocka_unit_test(levels_are_compared_by_what_they_are),
        cmocka_unit_test(comparisons_come_back_with_the_session),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
