/* ui/theme: files, inheritance, warnings with their line, the depth ladder. */
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
    static const char *const others[] = {"light", "high-contrast", "colour-blind", "console-16"};
    for (int i = 0; i < 4; i++) {
        assert_non_null(strstr(THEME_NAMES, others[i]));
        parse_file(others[i], &file);
        assert_true(memcmp(file.look, built.look, sizeof built.look) != 0);
    }
}

/* ---- what eyes make of it ---- */

enum { R, G, B };

/* sRGB to linear light, 0..1 (IEC 61966-2-1). */
static void linear_of(int color, double out[3])
{
    int rgb = color & THEME_RGB ? color & 0xffffff : theme_mix(color, color, 0) & 0xffffff;
    for (int c = 0; c < 3; c++) {
        double v = (rgb >> (16 - 8 * c) & 255) / 255.0;
        out[c] = v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
    }
}

/* WCAG 2.1: relative luminance, and the contrast ratio of two colours, 1..21. */
static double luminance(const double v[3])
{
    return 0.2126 * v[R] + 0.7152 * v[G] + 0.0722 * v[B];
}

static double contrast(int a, int b)
{
    double x[3], y[3];
    linear_of(a, x);
    linear_of(b, y);
    double p = luminance(x) + 0.05, q = luminance(y) + 0.05;
    return p > q ? p / q : q / p;
}

/* Linear light as an eye without one kind of cone has it: Machado, Oliveira, Fernandes 2009, severity 1. */
typedef enum Eye { NORMAL, PROTANOPE, DEUTERANOPE, EYES } Eye;
static const double seen[EYES][3][3] = {
    [NORMAL] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
    [PROTANOPE] = {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
    [DEUTERANOPE] = {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
};

static double lab_f(double t)
{
    return t > 216.0 / 24389 ? cbrt(t) : (24389.0 / 27 * t + 16) / 116;
}

static void lab_of(int color, Eye eye, double out[3])
{
    double v[3], w[3];
    linear_of(color, v);
    for (int c = 0; c < 3; c++) {
        w[c] = seen[eye][c][R] * v[R] + seen[eye][c][G] * v[G] + seen[eye][c][B] * v[B];
        w[c] = w[c] < 0 ? 0 : w[c] > 1 ? 1 : w[c];
    }
    double x = lab_f((0.4124 * w[R] + 0.3576 * w[G] + 0.1805 * w[B]) / 0.9505), y = lab_f(luminance(w)),
           z = lab_f((0.0193 * w[R] + 0.1192 * w[G] + 0.9505 * w[B]) / 1.0890);
    out[0] = 116 * y - 16;
    out[1] = 500 * (x - y);
    out[2] = 200 * (y - z);
}

/* Distance of two colours in CIELAB (1976); about 2.3 can just be told apart, side by side. */
static double apart(int a, int b, Eye eye)
{
    double x[3], y[3], sum = 0;
    lab_of(a, eye, x);
    lab_of(b, eye, y);
    for (int c = 0; c < 3; c++)
        sum += (x[c] - y[c]) * (x[c] - y[c]);
    return sqrt(sum);
}

static void test_contrast(void **state)
{
    (void)state;
    Theme t;
    parse_file("high-contrast", &t);
    for (int i = 0; i < SLOTS; i++) {
        const Look *l = &t.look[i];
        if (l->fg < 16 || l->bg < 16 || contrast(l->fg, l->bg) < 7 || (l->attr & TA_DIM))
            fail_msg("slot %d: contrast %.2f, attributes %u", i, l->fg < 16 || l->bg < 16 ? 0 : contrast(l->fg, l->bg), l->attr);
    }
    assert_true(contrast(THEME_RGB | 0x000000, THEME_RGB | 0xffffff) > 20.9);
    assert_true(contrast(THEME_RGB | 0x777777, THEME_RGB | 0xffffff) < 4.5); /* the well-known near miss */
}

static void test_colour_blind(void **state)
{
    (void)state;
    static const Slot pairs[][2] = {
        {SL_LOW, SL_HIGH},      {SL_LOW, SL_MID},       {SL_MID, SL_HIGH},      {SL_DONE, SL_FAILED}, {SL_DONE, SL_STALE},
        {SL_RUNNING, SL_FAILED}, {SL_STALE, SL_FAILED}, {SL_STALE, SL_PREDICTED}, {SL_OK, SL_ERR},    {SL_OK, SL_WARN},
        {SL_WARN, SL_ERR},      {SL_ADDED, SL_REMOVED}, {SL_BAR, SL_OUTLIER},   {SL_BAR, SL_CLIP},    {SL_CLIP, SL_OUTLIER},
        {SL_DIM, SL_TAGGED},
    };
    enum { ENOUGH = 25, ALIKE = 12 };
    Theme t;
    parse_file("colour-blind", &t);
    for (int i = 0; i < SLOTS; i++)
        assert_true(t.look[i].fg < 0 || t.look[i].fg >= 16); /* of the first sixteen nobody knows what they look like */
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        for (int eye = NORMAL; eye < EYES; eye++) {
            double d = apart(t.look[pairs[i][0]].fg, t.look[pairs[i][1]].fg, (Eye)eye);
            if (d < ENOUGH)
                fail_msg("slots %d and %d are %.1f apart for eye %d", (int)pairs[i][0], (int)pairs[i][1], d, eye);
        }
    /* what the test would find: red and green of one lightness */
    assert_true(apart(THEME_RGB | 0xa06a00, THEME_RGB | 0x6f7a00, NORMAL) > ENOUGH);
    assert_true(apart(THEME_RGB | 0xa06a00, THEME_RGB | 0x6f7a00, DEUTERANOPE) < ALIKE);
}

static void test_console(void **state)
{
    (void)state;
    Theme t;
    parse_file("console-16", &t);
    for (int i = 0; i < SLOTS; i++)
        assert_true(t.look[i].fg < 16 && t.look[i].bg < 8); /* eight colours have no bright background */
}

/* Who decides about colours: each of the four where those above it say nothing. */
static void test_wants_color(void **state)
{
    (void)state;
    for (int config = -1; config <= 1; config++) {
        for (int no = 0; no < 3; no++) {
            const char *no_color = no == 0 ? NULL : no == 1 ? "" : "1";
            assert_true(theme_wants_color(1, no_color, config, true));
            assert_false(theme_wants_color(0, no_color, config, true));
            assert_int_equal(theme_wants_color(-1, no_color, config, true), no < 2 && config != 0);
            for (int flag = -1; flag <= 1; flag++)
                assert_false(theme_wants_color(flag, no_color, config, false));
        }
    }
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
    assert_int_equal(theme_color(8, DEPTH_8, &bright), -1); /* bold black would be seen nowhere */
    assert_false(bright);
    assert_int_equal(theme_color(THEME_RGB | 0x4e9a5f, DEPTH_16, NULL), 2); /* a dull green is green, not grey */
    assert_int_equal(theme_color(THEME_RGB | 0x6e7a70, DEPTH_16, NULL), 8);
    assert_int_equal(theme_color(THEME_DEFAULT, DEPTH_256, NULL), -1);
    assert_int_equal(theme_color(3, DEPTH_MONO, NULL), -1);
    assert_int_equal(theme_mix(THEME_RGB | 0x000000, THEME_RGB | 0xff8040, 0.5), THEME_RGB | 0x804020);
    assert_int_equal(theme_mix(1, 1, 7), THEME_RGB | 0xcd0000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped),
        cmocka_unit_test(test_contrast),
        cmocka_unit_test(test_colour_blind),
        cmocka_unit_test(test_console),
        cmocka_unit_test(test_wants_color),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_endless_include),
        cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
