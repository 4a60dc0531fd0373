/* The screen of the calibration set: keys become commands, the cursor stays on its text, hostile texts are shown harmlessly. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/calibset.h"
#include "tests/lib/screen_world.h"
#include "tests/lib/tempdir.h"
#include "ui/keys.h"

static const struct Size {
    int cols, rows;
} sizes[] = {{60, 15}, {80, 24}, {100, 30}, {200, 60}};

static const char *last_command(World *w)
{
    Session *s = w->app.session;
    int n = session_commands(s);
    return n ? session_command(s, n - 1) : "";
}

static void says(World *w, const char *keys, const char *command)
{
    world_keys(w, keys);
    assert_string_equal(last_command(w), command);
}

static void keys_are_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        world_keys(&w, "6");
        world_shows(&w, "5 of 5 texts are used", true);
        world_shows(&w, "r finds which text sets which range", true);
        says(&w, "j x", "calib drop 2");
        world_shows(&w, "4 of 5 texts are used", true);
        world_shows(&w, "1 out", true);
        world_shows(&w, "1 text taken out", true);
        says(&w, "x", "calib keep 2");
        says(&w, "u u", "undo");
        world_shows(&w, "5 of 5 texts are used", true);
        says(&w, "Space", "calib tag 2 # no change");
        says(&w, "X", "calib drop tagged");
        world_shows(&w, "4/5 in", true);
        says(&w, "X", "calib keep tagged");
        says(&w, ">", "calib sort tokens desc # no change");
        world_shows(&w, "tokens v", true);
        says(&w, "I", "calib sort tokens asc # no change");
        says(&w, "<", "calib sort number asc # no change");
        world_keys(&w, "a");
        world_shows(&w, ":calib add", true);
        world_keys(&w, "Esc w");
        world_shows(&w, ":calib save", true);
        world_keys(&w, "Esc");
        world_close(&w);
    }
}

static void the_cursor_stays_on_its_text(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    world_keys(&w, "6 j j");
    world_shows(&w, "text 3", true);
    world_keys(&w, "> I >");
    world_shows(&w, "text 3", true);
    world_keys(&w, "\\");
    world_type(&w, "tokens<10");
    world_shows(&w, "0 texts of 5 pass", true);
    world_keys(&w, "Esc");
    world_shows(&w, "text 3", true);
    world_keys(&w, "/");
    world_type(&w, "kenny");
    world_keys(&w, "Enter");
    world_shows(&w, "match 1 of 1", true);
    world_shows(&w, "text 1", true);
    world_keys(&w, "Enter G"); /* the end of its details */
    world_shows(&w, "its tokens, | between them", true);
    world_shows(&w, "Q|u|est|ion|:| K|en|ny|", true);
    world_shows(&w, "Calib", true);
    world_keys(&w, "q q");
    world_close(&w);
}

static void ranges_come_with_the_pass(void **state)
{
    (void)state;
    World w;
    world_open(&w, 120, 40, "ascii", true, false);
    world_keys(&w, "6");
    world_shows(&w, "factor", false);
    says(&w, "r", "analyze text_range");
    world_wait(&w);
    world_shows(&w, "factor", true);
    world_shows(&w, "ranges 1.5x wider", true);
    world_shows(&w, "alone it sets the range of", true);
    world_keys(&w, "> >");
    const TextTable *t = session_texts(w.app.session, NULL);
    const TextRow *first = &t->row[t->order[0]];
    assert_true(t->sums.ranged == 56 && first->ranges.sets >= t->row[t->order[1]].ranges.sets);
    world_keys(&w, "g o"); /* the layer that it widens most, on Rank */
    TextLinear *l;
    int64_t n;
    assert_int_equal(session_text_linears(w.app.session, first->number, &l, &n, NULL), ST_OK);
    assert_int_equal(session_cursor(w.app.session), l[0].linear);
    assert_string_equal(session_metric(w.app.session)->name, "text_range");
    free(l);
    world_keys(&w, "6 x");
    world_shows(&w, "stale", true);
    world_keys(&w, "u");
    world_shows(&w, "stale", false);
    world_close(&w);
}

static void hostile_texts_are_harmless(void **state)
{
    (void)state;
    char *dir = temp_folder();
    temp_puts(temp_path(dir, "evil.jsonl"), "\"\\u001b[31mred \\u202etfel\\u0007\\u0001\\n\\tend\"\n"
                                            "\"\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c\"\n"
                                            "{\"input_ids\": [1, 2, 3]}\n\"\"\n");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        char line[200];
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        snprintf(line, sizeof line, "calib %s", temp_path(dir, "evil.jsonl"));
        assert_true(ui_command(w.ui, "%s", line));
        world_keys(&w, "6");
        for (int k = 0; k < 2; k++) {
            char *screen = world_screen(&w);
            for (const char *c = screen; *c; c++)
                assert_true((unsigned char)*c >= ' ' || *c == '\n');
            assert_null(strstr(screen, "\xe2\x80\xae"));
            assert_non_null(strstr(screen, "?[31mred "));
            free(screen);
            world_keys(&w, k ? "q" : "Enter");
        }
        world_shows(&w, "(token ids)", true);
        world_shows(&w, "1 without a token", true);
        world_close(&w);
    }
    temp_remove(dir);
}

static void a_set_that_cannot_be_read_is_told(void **state)
{
    (void)state;
    World w;
    char *dir = temp_folder(), line[200];
    temp_puts(temp_path(dir, "bad.jsonl"), "{\"other\": 1}\n");
    world_open(&w, 80, 24, "ascii", true, false);
    snprintf(line, sizeof line, "calib %s", temp_path(dir, "bad.jsonl"));
    assert_true(ui_command(w.ui, "%s", line));
    world_keys(&w, "6");
    world_shows(&w, "none of the fields", true);
    world_keys(&w, "x");
    world_shows(&w, "can't be read", true);
    world_close(&w);
    world_open(&w, 80, 24, "ascii", false, false);
    world_keys(&w, "6 j x Enter r > / q");
    world_close(&w);
    temp_remove(dir);
}

int main(void)
{
    setlocale(LC_ALL, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_commands),          cmocka_unit_test(the_cursor_stays_on_its_text),
        cmocka_unit_test(ranges_come_with_the_pass),  cmocka_unit_test(hostile_texts_are_harmless),
        cmocka_unit_test(a_set_that_cannot_be_read_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
