/* ui/theme: files, inheritance, warnings with their line, the depth ladder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/file.h"
#include "ui/theme.h"

static char *load_dir(void *ctx, const char *name, Error *err)
{
    char path[256], *text = NULL;
    size_t len;
    (void)ctx;
    snprintf(path, sizeof path, "themes/%s.theme", name);
    return file_read(path, 1 << 20, &text, &len, err) == ST_OK ? text : NULL;
}

static char *load_loop(void *ctx, const char *name, Error *err)
{
    (void)ctx, (void)name, (void)err;
    return strdup("include again\n");
}

static void parse_file(const char *name, Theme *t)
{
    Error err = {ST_OK, ""};
    Str warnings = {0};
    char *text = load_dir(NULL, name, &err);
    assert_non_null(text);
    theme_default(t);
    assert_int_equal(theme_parse(t, text, name, load_dir, NULL, &warnings, &err), ST_OK);
    assert_string_equal(str_text(&warnings), "");
    free(text);
}

static void test_shipped(void **state)
{
    (void)state;
    Theme file, built, mono;
    theme_default(&built);
    parse_file("default", &file); /* the file says what is built in */
    assert_memory_equal(file.look, built.look, sizeof built.look);
    theme_mono(&mono);
    parse_file("mono", &file);
    assert_memory_equal(file.look, mono.look, sizeof mono.look);
    for (int i = 0; i < SLOTS; i++)
        assert_true(mono.look[i].fg == THEME_DEFAULT && mono.look[i].bg == THEME_DEFAULT);
    parse_file("light", &file);
    assert_true(memcmp(file.look, built.look, sizeof built.look) != 0);
}

static void test_lines(void **state)
{
    (void)state;
    Theme t;
    Error err = {ST_OK, ""};
    Str w = {0};
    theme_default(&t);
    static const char text[] = "# a comment\n"
                               "score.high = #ff8000 - bold underline\n"
                               "tabel.row = red\n"
                               "table.row red\n"
                               "key = 300\n"
                               "key = blue 17 reverse\r\n"
                               "text.dim = shiny\n"
                               "include nothing-of-that-name\n"
                               "title = 7";
    assert_int_equal(theme_parse(&t, text, "x.theme", load_dir, NULL, &w, &err), ST_OK);
    assert_non_null(strstr(w.s, "x.theme:3: unknown slot 'tabel.row', did you mean 'table.row'?"));
    assert_non_null(strstr(w.s, "x.theme:4: expected 'slot = colour'"));
    assert_non_null(strstr(w.s, "x.theme:5: '300'"));
    assert_non_null(strstr(w.s, "x.theme:7: 'shiny'"));
    assert_non_null(strstr(w.s, "x.theme:8: cannot include"));
    assert_int_equal(t.look[SL_HIGH].fg, THEME_RGB | 0xff8000);
    assert_int_equal(t.look[SL_HIGH].attr, TA_BOLD | TA_UNDERLINE);
    assert_int_equal(t.look[SL_KEY].fg, 4);
    assert_int_equal(t.look[SL_KEY].bg, 17);
    assert_int_equal(t.look[SL_KEY].attr, TA_REVERSE);
    assert_int_equal(t.look[SL_TITLE].fg, 7);
    Theme d;
    theme_default(&d);
    assert_memory_equal(&t.look[SL_DIM], &d.look[SL_DIM], sizeof(Look)); /* a bad line changes nothing */
    str_free(&w);
}

static void test_endless_include(void **state)
{
    (void)state;
    Theme t;
    Error err = {ST_OK, ""};
    Str w = {0};
    theme_default(&t);
    assert_int_equal(theme_parse(&t, "include a\n", "x", load_loop, NULL, &w, &err), ST_DATA);
    assert_non_null(strstr(err.text, "nested deeper than 8"));
    str_free(&w);
}

static void test_depth(void **state)
{
    (void)state;
    bool bright;
    assert_int_equal(theme_color(THEME_RGB | 0xff0000, DEPTH_DIRECT, NULL), 0xff0000);
    assert_int_equal(theme_color(THEME_RGB | 0xff0000, DEPTH_256, NULL), 196);
    assert_int_equal(theme_color(THEME_RGB | 0x808080, DEPTH_256, NULL), 244);
    assert_int_equal(theme_color(THEME_RGB | 0xff0000, DEPTH_16, NULL), 9);
    assert_int_equal(theme_color(THEME_RGB | 0xff0000, DEPTH_8, &bright), 1);
    assert_true(bright);
    assert_int_equal(theme_color(208, DEPTH_256, NULL), 208);
    assert_int_equal(theme_color(12, DEPTH_8, &bright), 4);
    assert_int_equal(theme_color(THEME_DEFAULT, DEPTH_256, NULL), -1);
    assert_int_equal(theme_color(3, DEPTH_MONO, NULL), -1);
    assert_int_equal(theme_mix(THEME_RGB | 0x000000, THEME_RGB | 0xff8040, 0.5), THEME_RGB | 0x804020);
    assert_int_equal(theme_mix(1, 1, 7), THEME_RGB | 0xcd0000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_endless_include),
        cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
