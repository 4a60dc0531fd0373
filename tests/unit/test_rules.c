/* What was decided as rules: levels against a plain reading of the rows, through random edits, undo, a change of recipe and a
 * resume, also of what older programs wrote; predictions fitted to made-up measurements. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/file.h"
#include "io/journal.h"
#include "session/assignment.h"
#include "session/entries.h"
#include "session/parts.h"
#include "session/results.h"
#include "tests/lib/fake_model.h"
#include "tests/lib/screen_world.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/weights.h"

enum { LINEARS = 56, STEPS = 300 };

static Error err;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = temp_folder();
    return 0;
}

static int end(void **state)
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
    assert_int_equal(session_model(s)->nlinears, LINEARS);
    return s;
}

/* Closes the session and brings it back from its journal. */
static Session *again(Session *s)
{
    SessionOptions o = options();
    char id[40];
    snprintf(id, sizeof id, "%s", session_id(s));
    ok(session_close(s, &err));
    ok(session_restore(&s, &o, id, &err));
    return s;
}

static void exclude(Session *s, const char *target)
{
    ok(session_edit(s, &target, 1, 0, false, NULL, &err));
}

static int64_t floats(Session *s)
{
    return session_predict(s).size.floats;
}

/* Entries: int8 by token for down_proj, by tensor for all others; the last layer is float. */
static const char two_levels[] =
    "apiversion: modelslim_v1\nspec:\n  process:\n"
    "    - type: linear_quant\n      qconfig:\n"
    "        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}\n"
    "        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n"
    "      include: ['*down_proj']\n      exclude: ['*layers.7.*']\n"
    "    - type: linear_quant\n      qconfig:\n"
    "        act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}\n"
    "        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n"
    "      exclude: ['*layers.7.*']\n";

static void open_recipe(Session *s, const char *name, const char *text)
{
    temp_puts(temp_path(dir, name), text);
    ok(session_open_recipe(s, temp_path(dir, name), NULL, &err));
}

/* ---- a plain reading of the rows ---- */

static void closed_hits(Session *s, const char *text, bool *hits)
{
    const Model *m = session_model(s);
    bool own[LINEARS] = {false};
    int64_t n;
    ok(session_target(s, text, own, &n, &err));
    for (int64_t i = 0; i < LINEARS; i++)
        for (int64_t k = 0; k < LINEARS; k++)
            hits[i] |= own[k] && m->linears[i].group == m->linears[k].group;
}

static int64_t bytes_of(Session *s, const int16_t *level)
{
    SizeReport r;
    recipe_sizes(session_recipe(s), session_model(s), level, NULL, &r);
    return (int64_t)r.bytes;
}

/* Levels, what is new in each row and the sizes, from the recipe and the rows alone. */
static void check_rows(Session *s)
{
    int16_t level[LINEARS], next[LINEARS];
    ok(recipe_assign(session_recipe(s), session_model(s), level, &err));
    int64_t base = bytes_of(s, level), sum = 0;
    for (int k = 0; k < session_whatifs(s); k++) {
        WhatIf w = *session_whatif(s, k);
        bool hits[LINEARS] = {false};
        int64_t takes = 0, fresh = 0;
        closed_hits(s, w.pattern, hits);
        memcpy(next, level, sizeof next);
        for (int64_t i = 0; i < LINEARS; i++) {
            takes += hits[i];
            if (hits[i] && (w.to != WHATIF_QUANTIZE || level[i] == 0))
                next[i] = w.to == WHATIF_QUANTIZE ? s->assignment->home[i] : (int16_t)w.to;
            fresh += next[i] != level[i];
        }
        assert_int_equal(w.hits, takes);
        if (!w.on)
            continue;
        assert_int_equal(w.fresh, fresh);
        assert_int_equal(w.fresh_bytes, bytes_of(s, next) - bytes_of(s, level));
        assert_true((fresh == 0) == (strstr(w.note, "nothing new") != NULL));
        sum += w.fresh_bytes;
        memcpy(level, next, sizeof level);
    }
    for (int64_t i = 0; i < LINEARS; i++)
        assert_int_equal(session_level_of(s, i), level[i]);
    assert_int_equal(base + sum, bytes_of(s, level));
}

/* Everything that undo has to bring back. */
static char *picture(Session *s)
{
    Str b = {0};
    str_printf(&b, "%s\n", recipe_name(session_recipe(s)));
    for (int64_t i = 0; i < LINEARS; i++)
        str_printf(&b, "%d ", session_level_of(s, i));
    for (int k = 0; k < session_whatifs(s); k++)
        str_printf(&b, "\n%d %d %s", session_whatif(s, k)->on, session_whatif(s, k)->to, session_whatif(s, k)->pattern);
    char *text = str_detach(&b);
    assert_non_null(text);
    return text;
}

static const char *const targets[] = {
    "*down_proj", "*layers.{1,6}.mlp.down_proj", "model.layers.6.mlp.down_proj", "model.layers.3.self_attn.k_proj",
    "*layers.3.*", "*layers.7.*", "*.o_proj", "*.up_proj", "*", "model.layers.7.mlp.gate_proj",
};
enum { TARGETS = sizeof targets / sizeof *targets };

/* Any edit; those that can't be are told and change nothing. */
static void any_edit(Session *s, unsigned long long *seed, int n)
{
    const char *t = targets[fake_random(seed) % TARGETS];
    int rows = session_whatifs(s), depth = session_undo_depth(s);
    const char *row = rows ? session_whatif(s, (int)(fake_random(seed) % (unsigned)rows))->pattern : NULL;
    char name[200], file[20];
    snprintf(name, sizeof name, "%s", row ? row : "*");
    Status st = ST_OK;
    switch (fake_random(seed) % (row ? 9 : 4)) {
    case 0:
    case 1: exclude(s, t); break;
    case 2: st = session_edit(s, &t, 1, 0, true, NULL, &err); break;
    case 3: st = session_edit(s, &t, 1, (int)(fake_random(seed) % (unsigned)session_levels(s)), false, NULL, &err); break;
    case 4: st = session_rule_switch(s, name, fake_random(seed) % 2, NULL, &err); break;
    case 5: st = session_rule_delete(s, name, NULL, &err); break;
    case 6: st = session_rule_move(s, name, fake_random(seed) % 2 ? 1 : -2, NULL, &err); break;
    case 7: st = session_rule_edit(s, name, t, NULL, &err); break;
    case 8:
        snprintf(file, sizeof file, "r%d.yaml", n);
        if (fake_random(seed) % 2)
            open_recipe(s, file, two_levels);
        else
            ok(session_open_recipe(s, NULL, NULL, &err));
        break;
    }
    assert_true(st == ST_OK || st == ST_USAGE);
    assert_true(session_undo_depth(s) - depth <= (st == ST_OK));
}

static void any_edit_can_be_undone(void **state)
{
    (void)state;
    Session *s = open_demo();
    char *seen[STEPS + 1];
    int n = 0;
    unsigned long long seed = 11;
    seen[0] = picture(s);
    for (int k = 0; k < STEPS; k++) {
        any_edit(s, &seed, k);
        check_rows(s);
        if (session_undo_depth(s) > n)
            seen[++n] = picture(s);
    }
    assert_true(n > STEPS / 2);
    s = again(s);
    for (int at = n; at >= 0; at--) {
        char *now = picture(s);
        assert_string_equal(now, seen[at]);
        free(now);
        check_rows(s);
        assert_int_equal(session_undo(s, NULL, &err), at ? ST_OK : ST_USAGE);
    }
    s = again(s);
    for (int at = 0; at <= n; at++) {
        char *now = picture(s);
        assert_string_equal(now, seen[at]);
        free(now);
        free(seen[at]);
        assert_int_equal(session_redo(s, NULL, &err), at < n ? ST_OK : ST_USAGE);
    }
    session_free(s);
}

/* The file of a recipe may be another one, or gone, when its session is resumed: what was open is. */
static void a_recipe_is_kept_with_its_text(void **state)
{
    (void)state;
    Session *s = open_demo();
    Str what = {0};
    exclude(s, "*layers.{1,6}.mlp.down_proj");
    open_recipe(s, "recipe.yaml", two_levels);
    assert_int_equal(session_levels(s), 3);
    temp_puts(temp_path(dir, "recipe.yaml"), "no recipe at all");
    s = again(s);
    assert_string_equal(recipe_name(session_recipe(s)), "recipe.yaml");
    assert_int_equal(session_levels(s), 3);
    assert_int_equal(floats(s), 7 + 2);
    open_recipe(s, "recipe.yaml", two_levels); /* the same text again is no step */
    assert_int_equal(session_undo_depth(s), 2);
    ok(session_undo(s, &what, &err));
    assert_non_null(strstr(str_text(&what), "w8a8_static is open again with its 1 rule"));
    assert_int_equal(floats(s), 2);
    ok(session_undo(s, NULL, &err));
    assert_int_equal(session_undo(s, NULL, &err), ST_USAGE);
    str_free(&what);
    session_free(s);
}

/* A level has another number in another recipe, or is not there. */
static void levels_are_carried_by_name(void **state)
{
    (void)state;
    Session *s = open_demo();
    Str what = {0};
    const char *two = "*layers.2.mlp.down_proj", *mixed = "*layers.3.self_attn.o_proj";
    open_recipe(s, "two.yaml", two_levels);
    ok(session_edit(s, &two, 1, session_level_find(s, "W8A8"), false, NULL, &err));
    ok(session_edit(s, &mixed, 1, session_level_find(s, "W8A8_DYNAMIC"), false, NULL, &err));
    assert_int_equal(session_whatif(s, 0)->to, 2);
    ok(session_open_recipe(s, NULL, &what, &err));
    assert_non_null(strstr(str_text(&what), "1 rule kept, 1 dropped (it has no level W8A8_DYNAMIC)"));
    assert_int_equal(session_whatifs(s), 1);
    assert_string_equal(session_level_name(s, session_whatif(s, 0)->to), "W8A8");
    check_rows(s);
    ok(session_undo(s, NULL, &err));
    assert_int_equal(session_whatif(s, 0)->to, 2);
    assert_int_equal(session_whatif(s, 1)->to, 1);
    check_rows(s);
    str_free(&what);
    session_free(s);
}

/* ---- what older programs wrote ---- */

static void append(const char *id, const char *const *records)
{
    Str path = {0};
    Journal *j;
    str_printf(&path, "%s/sessions/%s/journal", dir, id);
    ok(journal_open(&j, str_text(&path), JOURNAL_CUT, NULL, NULL, NULL, &err));
    for (; *records; records++)
        ok(journal_append(j, *records, false, &err));
    ok(journal_close(j, &err));
    str_free(&path);
}

static void cells(Session *s, const char *pattern, int from, int to, char *out, size_t size)
{
    bool hits[LINEARS] = {false};
    closed_hits(s, pattern, hits);
    size_t n = (size_t)snprintf(out, size, "{\"t\":\"edit\",\"kind\":0,\"cells\":[");
    bool first = true;
    for (int i = 0; i < LINEARS; i++)
        if (hits[i]) {
            n += (size_t)snprintf(out + n, size - n, "%s%d,%d,%d", first ? "" : ",", i, from, to);
            first = false;
        }
    snprintf(out + n, size - n, "]}");
}

static void older_journals_become_rules(void **state)
{
    (void)state;
    Session *s = open_demo();
    SessionOptions o = options();
    char id[40], both[2000], group[2000], back[2000];
    cells(s, "*layers.{1,6}.mlp.down_proj", 1, 0, both, sizeof both);
    cells(s, "*layers.3.self_attn.k_proj", 1, 0, group, sizeof group);
    cells(s, "*layers.6.mlp.down_proj", 0, 1, back, sizeof back);
    snprintf(id, sizeof id, "%s", session_id(s));
    s->worth = true; /* kept, although nothing was decided yet */
    ok(session_close(s, &err));
    const char *const records[] = {
        both, "{\"t\":\"whatif\",\"text\":\"*layers.{1,6}.mlp.down_proj\"}", group,
        "{\"t\":\"whatif\",\"text\":\"model.layers.3.self_attn.k_proj\"}", "{\"t\":\"undo\"}", "{\"t\":\"redo\"}", back,
        NULL};
    append(id, records);
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_undo_depth(s), 3);
    assert_int_equal(session_whatifs(s), 3);
    assert_string_equal(session_whatif(s, 0)->pattern, "*layers.{1,6}.mlp.down_proj");
    assert_string_equal(session_whatif(s, 1)->pattern, "model.layers.3.self_attn.{q,k,v}_proj");
    assert_int_equal(session_whatif(s, 2)->to, WHATIF_QUANTIZE);
    assert_int_equal(floats(s), 4);
    check_rows(s);
    ok(session_undo(s, NULL, &err));
    assert_int_equal(floats(s), 5);
    ok(session_close(s, &err));
    const char *const dropped[] = {"{\"t\":\"recipe\"}", NULL}; /* there a recipe took all decisions away */
    append(id, dropped);
    ok(session_restore(&s, &o, id, &err));
    assert_int_equal(session_whatifs(s), 0);
    assert_int_equal(floats(s), 0);
    ok(session_undo(s, NULL, &err));
    assert_int_equal(floats(s), 5);
    ok(session_close(s, &err));
    const char *const bad[] = {"{\"t\":\"rules\",\"rules\":[{\"text\":\"*\",\"to\":7,\"on\":true}]}", NULL};
    append(id, bad);
    assert_int_equal(session_restore(&s, &o, id, &err), ST_DATA);
}

/* ---- predictions ---- */

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * fabs(want)))
        fail_msg("%.17g is not %.17g", got, want);
}

static void predictions_are_fitted_per_recipe(void **state)
{
    (void)state;
    Session *s = open_demo();
    give_effect(s, 0.28, 0.01, 1000); /* before the analysis: 56 linears */
    Prediction p = session_predict(s);
    assert_true(!p.have && p.groups == 32 && p.unknown == 32);
    give_equal_errors(s, 1);
    p = session_predict(s);
    assert_true(p.have && !p.unknown && p.kl.rough);
    assert_int_equal(p.measurements, 1);
    near(p.sum, 56);
    near(p.kl.value, 0.28);
    near(p.kl.high, 1.5 * 0.28);
    exclude(s, "*down_proj"); /* 48 */
    near(session_predict(s).kl.value, 0.24);
    near(session_predict(s).share_back, 1.0 / 7);
    give_effect(s, 0.12, 0.01, 1000);
    near(session_predict(s).kl.value, 0.12);
    exclude(s, "*.o_proj"); /* 40 */
    near(session_predict(s).kl.value, 0.1); /* on the line from nothing */
    near(session_predict(s).kl.factor, 1.15);
    exclude(s, "*layers.3.self_attn.q_proj"); /* 37: of eight groups and one more */
    near(session_predict(s).kl.value, 0.12 * 37 / 48);
    ok(session_undo(s, NULL, &err));
    give_effect(s, 0.3, 0.01, 1000); /* not below what more linears gave: both are pooled */
    p = session_predict(s);
    assert_int_equal(p.measurements, 3);
    near(p.kl.value, 0.3);
    give_effect(s, 0.5, 0.01, 4000); /* of more tokens: a line of its own */
    near(session_predict(s).kl.value, 0.5);
    assert_int_equal(session_predict(s).measurements, 1);
    ok(session_undo(s, NULL, &err));
    int64_t differs;
    near(session_effect(s, &differs)->kl_mean, 0.12);
    assert_int_equal(differs, 0);
    near(session_predict(s).kl.value, 0.5 / 40 * 48);
    give_equal_errors(s, 2); /* of a new pass: the sums of older measurements are theirs, too */
    near(session_predict(s).kl.value, 0.5 / 40 * 48);
    near(session_predict(s).sum, 96);
    s = again(s);
    session_free(s);
}

static void set_arith(Session *s, int mode)
{
    ok(session_set(s, "dtype-sim", arith_name((ArithMode)mode), &err));
}

/* Measurements in one arithmetic say nothing of another. */
static void predictions_are_fitted_per_arithmetic(void **state)
{
    (void)state;
    Session *s = open_demo();
    const char *recipe;
    for (int round = 0; round < 3; round++) { /* measured; measured of less; back from the journal */
        for (int mode = 0; mode < ARITH_MODES; mode++) {
            set_arith(s, mode);
            give_equal_errors(s, 1);
            identity_now(s, s->results->identity);
            Prediction p = session_predict(s);
            assert_int_equal(p.measurements, round);
            assert_true(round || !session_effect(s, NULL));
            if (round == 2)
                continue;
            if (mode && !round) {
                assert_int_equal(session_other_effect(s, &recipe)->arith, mode - 1);
                assert_null(recipe);
            }
            give_effect(s, 0.1 * (mode + 1), 0.01, 1000);
            p = session_predict(s);
            assert_int_equal(p.measurements, round + 1);
            near(p.kl.value, (mode + 1) * 0.1);
            assert_int_equal(session_effect(s, NULL)->arith, mode);
        }
        for (int mode = 0; mode < ARITH_MODES; mode++) {
            set_arith(s, mode);
            assert_false(session_predict(s).have); /* what groups weigh in another arithmetic is not taken for it */
            give_equal_errors(s, 1);
            assert_int_equal(session_predict(s).measurements, round ? 2 : 1);
            near(session_predict(s).kl.value, (mode + 1) * 0.1);
            near(session_effect(s, NULL)->kl_mean, 0.1 * (mode + 1));
            assert_int_equal(session_effect(s, NULL)->arith, mode);
        }
        if (round == 0)
            exclude(s, "*down_proj");
        if (round == 1)
            s = again(s);
    }
    session_free(s);
}

static void another_recipe_is_told_as_such(void **state)
{
    (void)state;
    Session *s = open_demo();
    const char *recipe;
    int64_t differs;
    give_equal_errors(s, 1);
    give_effect(s, 0.28, 0.01, 1000);
    exclude(s, "*layers.3.*");
    assert_non_null(session_effect(s, &differs));
    assert_int_equal(differs, 7);
    exclude(s, "*layers.3.mlp.*"); /* nothing new: no other assignment */
    session_effect(s, &differs);
    assert_int_equal(differs, 7);
    open_recipe(s, "recipe.yaml", two_levels);
    assert_null(session_effect(s, &differs));
    near(session_other_effect(s, &recipe)->kl_mean, 0.28);
    assert_string_equal(recipe, "w8a8_static");
    assert_int_equal(session_predict(s).measurements, 0);
    give_equal_errors(s, 1);
    give_effect(s, 0.1, 0.01, 1000);
    near(session_predict(s).kl.value, 0.1);
    ok(session_open_recipe(s, NULL, NULL, &err));
    near(session_predict(s).kl.value, 0.28 * 49 / 56);
    ok(session_rule_switch(s, "*layers.3.*", false, NULL, &err));
    ok(session_rule_switch(s, "*layers.3.mlp.*", false, NULL, &err));
    near(session_effect(s, &differs)->kl_mean, 0.28);
    assert_int_equal(differs, 0);
    assert_ptr_equal(session_base_effect(s), session_effect(s, NULL));
    temp_puts(temp_path(dir, "c.jsonl"), "{\"prompt\":\"a\"}\n");
    ok(session_set_calib(s, temp_path(dir, "c.jsonl"), &err));
    assert_null(session_effect(s, NULL));
    assert_non_null(session_other_effect(s, &recipe)); /* of other data, the newest: another recipe's, too */
    session_free(s);
}

/* ---- on the screen ---- */

/* Every key of What-if that changes a rule is a command, and one undo step. */
static void keys_are_commands_and_steps(void **state)
{
    static const struct {
        const char *keys, *text, *command;
    } steps[] = {
        {"x", NULL, "rule off *layers.{1,6}.mlp.down_proj"},
        {"Space", NULL, "rule on *layers.{1,6}.mlp.down_proj"},
        {">", NULL, "rule down *layers.{1,6}.mlp.down_proj"},
        {"<", NULL, "rule up *layers.{1,6}.mlp.down_proj"},
        {"e ^U", "*layers.{1,3}.mlp.*\n", "rule edit *layers.{1,6}.mlp.down_proj *layers.{1,3}.mlp.*"},
        {"d", NULL, "rule delete *layers.{1,3}.mlp.*"},
    };
    enum { KEYS = sizeof steps / sizeof steps[0] };
    (void)state;
    World w;
    int64_t count[KEYS + 1];
    world_open(&w, 80, 24, "ascii", true, false);
    Session *s = w.app.session;
    world_keys(&w, "2 g");
    count[0] = session_predict(s).size.floats;
    for (int i = 0; i < KEYS; i++) {
        int depth = session_undo_depth(s);
        world_keys(&w, steps[i].keys);
        if (steps[i].text)
            world_type(&w, steps[i].text);
        assert_string_equal(session_command(s, session_commands(s) - 1), steps[i].command);
        assert_int_equal(session_undo_depth(s), depth + 1);
        count[i + 1] = session_predict(s).size.floats;
    }
    assert_int_equal(session_whatifs(s), 1);
    for (int i = KEYS; i > 0; i--) {
        assert_int_equal(session_predict(s).size.floats, count[i]);
        world_keys(&w, "u");
    }
    assert_int_equal(session_predict(s).size.floats, count[0]);
    assert_int_equal(session_whatifs(s), 2);
    world_close(&w);
}

int main(void)
{
#define WITH_FOLDER(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(any_edit_can_be_undone),
        WITH_FOLDER(a_recipe_is_kept_with_its_text),
        WITH_FOLDER(levels_are_carried_by_name),
        WITH_FOLDER(older_journals_become_rules),
        WITH_FOLDER(predictions_are_fitted_per_arithmetic),
        WITH_FOLDER(predictions_are_fitted_per_recipe),
        WITH_FOLDER(another_recipe_is_told_as_such),
        cmocka_unit_test(keys_are_commands_and_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
