/* What-if by its keys: goals and budgets while they are typed, grow and trim, the front, kept sets, interactions. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/screen_world.h"
#include "ui/keys.h"

static int64_t bytes(const World *w)
{
    return (int64_t)session_predict(w->app.session).size.bytes;
}

static void a_goal_is_told_while_it_is_typed(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    int64_t before = bytes(&w);
    world_keys(&w, "2 o");
    world_shows(&w, "can be had: +345K to +4.1M, 8.", true);
    world_type(&w, "kl");
    world_shows(&w, "KL divergence from float, the mean in nats a token", true);
    world_type(&w, "=9");
    world_shows(&w, "groups at another level than the recipe's", true);
    world_keys(&w, "^U");
    world_type(&w, "+1K");
    world_shows(&w, "bytes=+1K is out of reach: from +0.3 to +4.1 MiB can be had", true);
    world_keys(&w, "Esc");
    assert_int_equal(bytes(&w), before);
    world_keys(&w, "o");
    world_type(&w, "+1M");
    world_keys(&w, "Enter");
    world_shows(&w, "u undoes it", true);
    assert_true(bytes(&w) > before);
    world_keys(&w, "u");
    assert_int_equal(bytes(&w), before);
    world_keys(&w, "T");
    world_type(&w, "9bits");
    world_shows(&w, "tune searches kl=, ppl= or bytes", true);
    world_keys(&w, "Esc");
    world_close(&w);
}

static void a_budget_is_held_against_what_is_typed(void **state)
{
    (void)state;
    World w;
    world_open(&w, 200, 60, "ascii", true, false);
    world_keys(&w, "2 B");
    world_type(&w, "much");
    world_shows(&w, "budget is +20M (above the recipe)", true);
    world_keys(&w, "^U");
    world_type(&w, "+400K");
    world_keys(&w, "Enter");
    world_shows(&w, "used 345 KiB of 400 KiB, 5", true);
    world_shows(&w, "left; can be had: 345 KiB to 4.1 MiB", true);
    world_keys(&w, "p");
    world_type(&w, "*layers.0.mlp.down_proj");
    world_shows(&w, "over the budget by 7", true);
    world_keys(&w, "Tab");
    world_shows(&w, "model.layers.0.mlp.down_proj", true);
    world_keys(&w, "^U");
    world_type(&w, "*layers.2.mlp.up_proj");
    world_keys(&w, "Tab");
    world_shows(&w, "goes along: fused groups stay whole", true);
    world_keys(&w, "Esc x");
    world_shows(&w, "[ ]", true);
    world_keys(&w, "B");
    world_type(&w, "+200K");
    world_keys(&w, "Enter");
    world_shows(&w, "! over the budget by 14", true);
    world_close(&w);
}

static void keys_grow_and_trim(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    int64_t before = bytes(&w);
    world_keys(&w, "2 +");
    world_shows(&w, "grow: model.layers.", true);
    int64_t grown = bytes(&w);
    assert_true(grown > before);
    world_keys(&w, "-");
    world_shows(&w, "trim: ", true);
    assert_true(bytes(&w) < grown);
    world_keys(&w, "u u");
    assert_int_equal(bytes(&w), before);
    world_close(&w);
}

static void the_front_is_walked_and_taken(void **state)
{
    (void)state;
    static const struct {
        int cols, rows;
        const char *glyphs;
    } sizes[] = {{60, 15, "ascii"}, {80, 24, "braille"}, {100, 30, "block"}, {200, 60, "braille"}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, sizes[i].glyphs, true, false);
        int64_t before = bytes(&w);
        world_keys(&w, "2 f");
        world_shows(&w, "@ now +345K", true);
        world_shows(&w, "K knee +1.0M", true);
        world_shows(&w, "o measured", true);
        world_keys(&w, "j j Enter");
        assert_true(bytes(&w) > before);
        world_keys(&w, "x");
        world_shows(&w, "the front is in sight", true);
        world_keys(&w, "g Enter"); /* the first is a measured set: it is taken as it was */
        assert_true(bytes(&w) < before);
        world_keys(&w, "Esc u u");
        assert_int_equal(bytes(&w), before);
        world_shows(&w, "[x]", true);
        world_close(&w);
    }
}

static void sets_are_kept_by_keys(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    world_keys(&w, "2 S");
    world_shows(&w, "no set is kept yet; a keeps this one as A, b as B", true);
    int64_t a = bytes(&w);
    world_keys(&w, "a + b S");
    assert_int_equal(bytes(&w), a);
    world_shows(&w, "set A: ", true);
    world_keys(&w, "S");
    assert_true(bytes(&w) > a);
    world_keys(&w, "=");
    world_shows(&w, "A to B: +", true);
    world_shows(&w, "-> float", true);
    world_keys(&w, "q u");
    assert_int_equal(bytes(&w), a);
    world_close(&w);
}

static void interactions_tell_their_cost_first(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    world_keys(&w, "2 i");
    world_shows(&w, "measure 7 sets of 3 groups, 3 pairs, about 0.11 passes? y yes", true);
    world_keys(&w, "n");
    assert_int_equal(session_jobs(w.app.session), 0);
    world_keys(&w, "u u u u u u i");
    world_shows(&w, "interactions are of two groups or more", true);
    world_close(&w);
}

int main(void)
{
    setlocale(LC_ALL, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_goal_is_told_while_it_is_typed),
        cmocka_unit_test(a_budget_is_held_against_what_is_typed),
        cmocka_unit_test(keys_grow_and_trim),
        cmocka_unit_test(the_front_is_walked_and_taken),
        cmocka_unit_test(sets_are_kept_by_keys),
        cmocka_unit_test(interactions_tell_their_cost_first),
    };
    return cmocka_run_group_tests_name("what-if by keys", tests, NULL, NULL);
}
