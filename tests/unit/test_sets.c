/* Sets kept under names: what comes back, in one step, also under another recipe and after the session was closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/parts.h"
#include "tests/lib/demo_session.h"
#include "tests/lib/tempdir.h"

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

static void exclude(Session *s, const char *pattern)
{
    session_ok(session_edit(s, &pattern, 1, 0, false, NULL, &err), &err);
}

static int64_t floats(Session *s)
{
    return session_predict(s).size.floats;
}

static void swap(Session *s, const char *name, const char *want, int64_t want_changed)
{
    int64_t changed;
    const char *took;
    int depth = session_undo_depth(s);
    session_ok(session_swap(s, name, &changed, &took, &err), &err);
    assert_string_equal(took, want);
    assert_int_equal(changed, want_changed);
    assert_int_equal(session_undo_depth(s), depth + (changed != 0));
}

static void sets_are_kept_and_taken(void **state)
{
    (void)state;
    Session *s = demo_session(dir);
    int64_t changed;
    const char *took;
    bool replaced;
    assert_int_equal(session_swap(s, NULL, &changed, &took, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "no set is kept yet"));
    assert_int_equal(session_keep(s, "3", NULL, &err), ST_USAGE);
    assert_int_equal(session_keep(s, "a name", NULL, &err), ST_USAGE);
    exclude(s, "*layers.0.mlp.down_proj");
    session_ok(session_keep(s, "A", &replaced, &err), &err);
    assert_false(replaced);
    exclude(s, "*layers.1.mlp.*");
    session_ok(session_keep(s, "B", NULL, &err), &err);
    assert_int_equal(session_kept_sets(s), 2);
    assert_true(session_kept_set(s, 1).present && !session_kept_set(s, 0).present);
    swap(s, NULL, "A", 3);
    assert_int_equal(floats(s), 1);
    assert_int_equal(session_whatifs(s), 1); /* the rules come along */
    swap(s, NULL, "B", 3);
    assert_int_equal(floats(s), 4);
    session_ok(session_undo(s, NULL, &err), &err); /* one step back is A again */
    assert_true(session_kept_set(s, 0).present);
    swap(s, NULL, "B", 3); /* goes by what stands, not by what was taken last */
    exclude(s, "*layers.2.mlp.down_proj");
    swap(s, NULL, "B", 1); /* an edited one: to the one kept last */
    session_ok(session_undo(s, NULL, &err), &err);
    session_ok(session_keep(s, "B", &replaced, &err), &err);
    assert_true(replaced && session_kept_sets(s) == 2);
    swap(s, "A", "A", 4);
    assert_int_equal(session_swap(s, "C", &changed, &took, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "there are A, B"));
    session_ok(session_keep_not(s, "A", &err), &err);
    assert_int_equal(session_kept_sets(s), 1);
    assert_int_equal(session_keep_not(s, "A", &err), ST_USAGE);
    swap(s, NULL, "B", 4);
    session_free(s);
}

/* With its recipe, as one step. */
static void a_set_brings_its_recipe(void **state)
{
    (void)state;
    Session *s = demo_session(dir);
    exclude(s, "*layers.0.mlp.down_proj");
    session_ok(session_keep(s, "A", NULL, &err), &err);
    session_ok(session_open_recipe(s, "lab_practice/default/default-w8a8-dynamic.yaml", NULL, &err), &err);
    exclude(s, "*layers.1.mlp.down_proj");
    session_ok(session_keep(s, "B", NULL, &err), &err);
    assert_false(session_kept_set(s, 0).comparable);
    int64_t changed;
    const char *took;
    int depth = session_undo_depth(s);
    session_ok(session_swap(s, "A", &changed, &took, &err), &err);
    assert_string_equal(recipe_name(session_recipe(s)), "w8a8_static");
    assert_int_equal(floats(s), 1);
    assert_int_equal(session_undo_depth(s), depth + 1);
    session_ok(session_undo(s, NULL, &err), &err);
    assert_string_equal(recipe_name(session_recipe(s)), "default-w8a8-dynamic.yaml");
    assert_int_equal(floats(s), 2);
    session_free(s);
}

static void sets_outlive_the_program(void **state)
{
    (void)state;
    Session *s = demo_session(dir);
    char id[40];
    exclude(s, "*layers.0.mlp.down_proj");
    session_ok(session_keep(s, "A", NULL, &err), &err);
    session_ok(session_open_recipe(s, "lab_practice/default/default-w8a8-dynamic.yaml", NULL, &err), &err);
    exclude(s, "*layers.1.mlp.down_proj");
    session_ok(session_keep(s, "B", NULL, &err), &err);
    session_ok(session_keep(s, "C", NULL, &err), &err);
    session_ok(session_keep_not(s, "C", &err), &err);
    snprintf(id, sizeof id, "%s", session_id(s));
    session_free(s);
    SessionOptions o = demo_session_options(dir);
    session_ok(session_restore(&s, &o, id, &err), &err);
    assert_int_equal(session_kept_sets(s), 2);
    assert_string_equal(session_kept_set(s, 1).name, "B");
    assert_true(session_kept_set(s, 1).present);
    int64_t changed;
    const char *took;
    session_ok(session_swap(s, NULL, &changed, &took, &err), &err);
    assert_string_equal(took, "A");
    assert_string_equal(recipe_name(session_recipe(s)), "w8a8_static");
    assert_int_equal(floats(s), 1);
    session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_are_kept_and_taken),
        cmocka_unit_test(a_set_brings_its_recipe),
        cmocka_unit_test(sets_outlive_the_program),
    };
    return cmocka_run_group_tests_name("sets", tests, setup, teardown);
}
