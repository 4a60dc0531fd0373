/* The screen that compares: histograms of a layer under two decisions, runs that are dropped, what is brought in. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/comparing.h"
#include "src/lang.h"
#include "tests/lib/screen_world.h"

static const char *last_command(World *w)
{
    Session *s = w->app.session;
    int n = session_commands(s);
    return n ? session_command(s, n - 1) : "";
}

static void run(World *w, const char *line)
{
    Error err = {ST_OK, ""};
    if (app_execute(&w->app, line, &err) != ST_OK)
        fail_msg("%s: %s", line, err.text);
}

/* "error 0.64 % of the weight" behind a letter. */
static double told_error(World *w, const char *letter)
{
    char *screen = world_screen(w), *at = strstr(screen, letter);
    at = at ? strstr(at, ": error ") : NULL;
    double v = at ? strtod(at + 8, NULL) : -1;
    free(screen);
    return v;
}

static void a_layer_as_both_quantize_it(void **state)
{
    (void)state;
    static const struct {
        int cols, rows;
    } sizes[] = {{60, 15}, {80, 24}, {100, 30}, {200, 60}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        world_keys(&w, "4 h");
        world_shows(&w, "two must be compared first", true);
        world_keys(&w, "a j b = h");
        int64_t at = ui_here(w.ui).linear;
        assert_true(at >= 0);
        world_shows(&w, session_model(w.app.session)->linears[at].name, true);
        char *screen = world_screen(&w);
        bool a_float = strstr(screen, "A #2 float: nothing is lost") != NULL, b_float = strstr(screen, "B #1 float: nothing is lost") != NULL;
        free(screen);
        assert_true(a_float != b_float); /* the layer is one of those that differ */
        double off = told_error(&w, a_float ? "B #1 W8A8" : "A #2 W8A8");
        assert_true(off > 0.2 && off < 3); /* of a weight, in 255 steps */
        world_keys(&w, "H");
        world_shows(&w, "count", true);
        world_keys(&w, "H L");
        if (sizes[i].rows > 24)
            world_shows(&w, "counts linear", true);
        world_keys(&w, "L d j"); /* all layers, from the first on */
        assert_int_equal(ui_here(w.ui).linear, 1);
        world_keys(&w, "J");
        assert_int_equal(ui_here(w.ui).linear, 2);
        world_keys(&w, "K K K q");
        world_shows(&w, "A - B", true);
        world_keys(&w, "L");
        world_shows(&w, "that is for histograms", true);
        world_close(&w);
    }
}

/* Wide characters keep their second halves where plots stand side by side. */
static void wide_characters_stay_whole(void **state)
{
    (void)state;
    World w;
    Error err = {ST_OK, ""};
    world_open(&w, 100, 30, "ascii", true, false);
    assert_int_equal(lang_choose("zh", &err), ST_OK);
    world_keys(&w, "4 a j b = h");
    free(world_screen(&w));
    world_shows(&w, "权重与其反量化值", true);
    world_keys(&w, "q");
    assert_int_equal(lang_choose("en", &err), ST_OK);
    world_close(&w);
}

static void runs_are_dropped(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    world_keys(&w, "4 Tab D");
    world_shows(&w, "it is this session's own", true);
    run(&w, "compare keep first");
    world_keys(&w, "G");
    world_shows(&w, "first.", true);
    world_keys(&w, "D");
    assert_string_equal(last_command(&w), "compare drop first");
    world_shows(&w, "dropped: all that was kept or brought in as first", true);
    world_shows(&w, "first.kurtosis", false);
    world_keys(&w, "D");
    world_shows(&w, "it is this session's own", true);
    Error err = {ST_OK, ""};
    assert_int_equal(app_execute(&w.app, "compare drop first", &err), ST_USAGE);
    assert_non_null(strstr(err.text, "nothing was kept, loaded or brought in as 'first'"));
    world_close(&w);
}

static void what_is_brought_in_is_asked_for(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    world_keys(&w, "4 i");
    world_shows(&w, ":load session", true);
    world_keys(&w, "Esc c");
    world_shows(&w, ":compare measurements", true);
    world_shows(&w, "what the recipe gives by itself", true); /* what it could be, explained */
    world_keys(&w, "Esc Tab i");
    world_shows(&w, ":load scores", true);
    world_keys(&w, "Esc c");
    world_shows(&w, ":compare runs", true);
    world_type(&w, "tests/golden/");
    world_shows(&w, "a folder", true);
    world_keys(&w, "Esc");
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_as_both_quantize_it),
        cmocka_unit_test(wide_characters_stay_whole),
        cmocka_unit_test(runs_are_dropped),
        cmocka_unit_test(what_is_brought_in_is_asked_for),
    };
    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
