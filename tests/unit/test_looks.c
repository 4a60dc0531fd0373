/* Attributes of a screen for each theme at each number of colours: golden, as text. tests/accept_screens.sh rewrites it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/file.h"
#include "tests/lib/screen_world.h"

#define GOLDEN "tests/golden/screens/looks.txt"

static const char *const themes[] = {"default", "light", "mono", "high-contrast", "colour-blind", "console-16"};
static const struct {
    const char *name;
    Depth depth;
} depths[] = {{"256 colours", DEPTH_256}, {"16 colours", DEPTH_16}, {"8 colours", DEPTH_8}, {"no colours", DEPTH_MONO}};
enum { HIGH = 15, WIDE = 100, LOOKS = 52, THEMES = sizeof themes / sizeof *themes, DEPTHS = sizeof depths / sizeof *depths };

typedef struct Cell {
    attr_t attr;
    short pair;
} Cell;

static void put_look(World *w, const Cell *c, Str *out)
{
    static const struct {
        attr_t bit;
        const char *name;
    } names[] = {{A_BOLD, "bold"}, {A_DIM, "dim"}, {A_UNDERLINE, "underline"}, {A_REVERSE, "reverse"}};
    int fg = -1, bg = -1;
    if (c->pair > 0) {
        fg = w->ui->term.pairs[c->pair - 1].fg;
        bg = w->ui->term.pairs[c->pair - 1].bg;
    }
    str_printf(out, "%d on %d", fg, bg);
    for (int i = 0; i < 4; i++)
        str_printf(out, "%s%s", c->attr & names[i].bit ? " " : "", c->attr & names[i].bit ? names[i].name : "");
    str_putc(out, '\n');
}

/* A letter for each look that is there, in the order in which they come, then what the letters are. */
static void put_screen(World *w, Str *out)
{
    Cell look[LOOKS];
    int n = 0;
    for (int y = 0; y < HIGH; y++) {
        for (int x = 0; x < WIDE; x++) {
            cchar_t cell;
            wchar_t text[CCHARW_MAX + 1];
            Cell c = {0};
            int k = 0;
            mvin_wch(y, x, &cell);
            assert_int_equal(getcchar(&cell, text, &c.attr, &c.pair, NULL), OK);
            c.attr &= A_BOLD | A_DIM | A_UNDERLINE | A_REVERSE;
            while (k < n && (look[k].attr != c.attr || look[k].pair != c.pair))
                k++;
            assert_true(k < LOOKS);
            look[k] = c;
            n = k == n ? n + 1 : n;
            str_putc(out, (char)(k < 26 ? 'a' + k : 'A' + k - 26));
        }
        str_putc(out, '\n');
    }
    for (int k = 0; k < n; k++) {
        str_printf(out, "%c  ", k < 26 ? 'a' + k : 'A' + k - 26);
        put_look(w, &look[k], out);
    }
}

static void test_looks(void **state)
{
    (void)state;
    World w;
    Str out = {0};
    Error err = {ST_OK, ""};
    world_open(&w, WIDE, HIGH, "ascii", true, false);
    world_keys(&w, "g j Space j x g");
    assert_true(term_set_color(&w.ui->term, 1));
    for (int t = 0; t < THEMES; t++)
        for (int d = 0; d < DEPTHS; d++) {
            w.ui->term.depth = depths[d].depth;
            assert_int_equal(w.app.set_theme(w.app.ui_ctx, themes[t], &err), ST_OK);
            erase();
            ui_paint(w.ui);
            str_printf(&out, "=== %s, %s\n", themes[t], depths[d].name);
            put_screen(&w, &out);
        }
    world_close(&w);
    char *want = NULL;
    size_t n;
    if (getenv("ACCEPT")) {
        assert_int_equal(file_write_atomic(GOLDEN, out.s, out.len, &err), ST_OK);
        str_free(&out);
        return;
    }
    assert_int_equal(file_read(GOLDEN, 1 << 20, &want, &n, &err), ST_OK);
    assert_string_equal(want, str_text(&out));
    free(want);
    str_free(&out);
}

/* Where there is no colour, every theme looks as mono does. */
static void test_without_colours(void **state)
{
    (void)state;
    World w;
    Error err = {ST_OK, ""};
    world_open(&w, WIDE, HIGH, "ascii", true, false);
    assert_int_equal(w.ui->term.depth, DEPTH_MONO);
    Str mono = {0};
    for (int t = 0; t < THEMES; t++) {
        Str one = {0};
        assert_int_equal(w.app.set_theme(w.app.ui_ctx, themes[t], &err), ST_OK);
        ui_paint(w.ui);
        put_screen(&w, &one);
        if (t == 0)
            str_puts(&mono, str_text(&one));
        assert_string_equal(str_text(&mono), str_text(&one));
        str_free(&one);
    }
    str_free(&mono);
    world_close(&w);
}

int main(void)
{
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("SLIMSCOPE_DATA", ".", 1);
    unsetenv("NO_COLOR");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_looks), cmocka_unit_test(test_without_colours)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
