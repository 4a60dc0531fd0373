/* ui/layout, ui/text, ui/glyphs: where things go, how they are cut, what they are drawn with. */
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ui/glyphs.h"
#include "ui/layout.h"
#include "ui/lineparts.h"
#include "ui/text.h"

static void assert_inside(const Layout *l, Rect r)
{
    assert_true(r.y >= 0 && r.x >= 0 && r.h >= 0 && r.w >= 0);
    assert_true(r.y + r.h <= l->rows && r.x + r.w <= l->cols);
}

static void test_every_size(void **state)
{
    (void)state;
    for (int rows = 0; rows <= 120; rows++) {
        for (int cols = 0; cols <= 260; cols += 3) {
            for (int pref = 0; pref < 4; pref++) {
                Layout l;
                layout_compute(rows, cols, (LayoutPrefs){pref & 1, pref & 2}, &l);
                assert_int_equal(l.too_small, rows < 15 || cols < 60);
                if (l.too_small)
                    continue;
                Rect all[] = {l.head, l.tabs, l.main, l.side, l.figures, l.message, l.keys};
                for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
                    assert_inside(&l, all[i]);
                int body = l.figures.y - l.tabs.y - 1;
                int used = l.split == SPLIT_FULL    ? l.side.h
                           : l.split == SPLIT_BELOW ? l.main.h + 1 + l.side.h
                                                    : l.main.h;
                assert_int_equal(used, body);
                assert_int_equal(l.keys.y, rows - 1);
            }
        }
    }
}

static void test_pane_moves(void **state)
{
    (void)state;
    Layout l;
    LayoutPrefs side = {true, false};
    layout_compute(24, 80, side, &l);
    assert_int_equal(l.split, SPLIT_NONE);
    layout_compute(36, 80, side, &l);
    assert_int_equal(l.split, SPLIT_BELOW);
    layout_compute(30, 100, side, &l);
    assert_int_equal(l.split, SPLIT_RIGHT);
    assert_int_equal(l.main.w + 1 + l.side.w, 100);
    assert_true(l.main.w > l.side.w);
    layout_compute(24, 80, (LayoutPrefs){true, true}, &l);
    assert_int_equal(l.split, SPLIT_FULL);
    assert_int_equal(l.main.h, 0);
}

static void test_columns(void **state)
{
    (void)state;
    static const Column c[] = {
        {"a", 4, 4, 0, true}, {"name", 10, 30, 0, false}, {"b", 6, 6, 2, false}, {"c", 6, 12, 1, false}};
    int w[4];
    assert_int_equal(columns_fit(c, 4, 29, w), 29);
    assert_int_equal(w[1], 10);
    assert_int_equal(columns_fit(c, 4, 28, w), 28); /* b goes first, the name grows into its place */
    assert_int_equal(w[2], 0);
    assert_int_equal(w[1], 16);
    assert_int_equal(columns_fit(c, 4, 15, w), 15);
    assert_int_equal(w[3], 0);
    assert_int_equal(columns_fit(c, 4, 3, w), 15); /* what must stay stays; drawing cuts it */
    assert_int_equal(columns_fit(c, 4, 200, w), 4 + 1 + 30 + 1 + 6 + 1 + 12);
}

static void test_list(void **state)
{
    (void)state;
    ListPos p = {0, 0};
    assert_false(list_move(&p, MOVE_UP, 10, 4));
    assert_true(list_move(&p, MOVE_PAGE_DOWN, 10, 4));
    assert_int_equal(p.cur, 4);
    assert_int_equal(p.top, 1);
    assert_true(list_move(&p, MOVE_BOTTOM, 10, 4));
    assert_int_equal(p.top, 6);
    assert_false(list_move(&p, MOVE_DOWN, 10, 4));
    list_clamp(&p, 3, 4);
    assert_int_equal(p.cur, 2);
    assert_int_equal(p.top, 0);
    list_clamp(&p, 0, 4);
    assert_int_equal(p.cur, 0);
    assert_false(list_move(&p, MOVE_DOWN, 0, 0));
}

static void check_elide(const char *s, int width, const char *want)
{
    char out[256];
    text_elide(out, sizeof out, s, width, "..");
    assert_string_equal(out, want);
    assert_true(text_width(out) <= width);
}

static void test_elide(void **state)
{
    (void)state;
    check_elide("model.layers.12.mlp.down_proj", 40, "model.layers.12.mlp.down_proj");
    check_elide("model.layers.12.mlp.down_proj", 20, "model.lay..down_proj");
    check_elide("model.layers.12.self_attn.q_proj", 24, "model.layers.12...q_proj"); /* the layer's number stays */
    check_elide("abcdef", 2, "~");
    check_elide("abcdef", 0, "");
    assert_int_equal(text_width("\xe9\xbe\x99\xe7\x8c\xab"), 4); /* two wide characters */
    check_elide("\xe9\xbe\x99\xe7\x8c\xab\xe9\xbe\x99\xe7\x8c\xab", 7, "\xe9\xbe\x99..\xe7\x8c\xab");
}

static void check_cut(const char *s, int width, const char *want)
{
    char out[256];
    text_cut(out, sizeof out, s, width, "..");
    assert_string_equal(out, want);
    assert_true(text_width(out) <= width);
}

static void test_cut(void **state)
{
    (void)state;
    check_cut("KL 0.02053 ppl 92.83", 20, "KL 0.02053 ppl 92.83");
    check_cut("KL 0.02053 ppl 92.83", 19, "KL 0.02053 ppl.."); /* a number goes whole */
    check_cut("KL 0.02053 ppl 92.83", 11, "KL..");
    check_cut("onetwothreefour", 8, "one..our");
    check_cut("a b", 0, "");
}

static void check_clip(const char *s, int width, const char *want)
{
    char out[256];
    text_clip(out, sizeof out, s, width, "..");
    assert_string_equal(out, want);
    assert_true(text_width(out) <= width);
}

/* Of a line of a document the beginning stays, to the last cell, but never a part of a number. */
static void test_clip(void **state)
{
    (void)state;
    check_clip("float 90.21", 11, "float 90.21");
    check_clip("float 90.21 x", 12, "float ..");
    check_clip("float 90.21 xyz", 13, "float 90.21..");
    check_clip("    - '*layers.12.mlp'", 12, "    - '*la..");
    check_clip("    - '*layers.12.mlp'", 17, "    - '*layers..");
    check_clip("\xe9\xbe\x99\xe7\x8c\xab\xe9\xbe\x99", 5, "\xe9\xbe\x99..");
}

/* The numbers of a line of parts, at every width: each stands whole or not at all, and the first of them stays longest. */
static void test_parts(void **state)
{
    (void)state;
    for (int width = 60; width >= 0; width--) {
        LineParts l = {.n = 0};
        part_add(&l, SL_TEXT, 0, "float 13/56");
        part_add(&l, SL_TEXT, 2, "size %s", "7.2 MiB");
        part_add(&l, SL_PREDICTED, 1, "KL 0.026~");
        part_add(&l, SL_STALE, 3, "STALE KL 0.0199");
        part_add(&l, SL_STALE, 4, "ppl 92.83")->gap = 1;
        int used = parts_fit(&l, width), sum = 0, gaps = 0, lost = 5;
        assert_true(used <= width);
        for (int i = 0; i < l.n; i++) {
            assert_true(l.f[i].width == 0 || l.f[i].width == text_width(l.f[i].text));
            gaps += l.f[i].width && sum ? l.f[i].gap : 0;
            sum += l.f[i].width;
            if (!l.f[i].width && l.f[i].priority < lost)
                lost = l.f[i].priority;
        }
        assert_int_equal(used, sum + gaps);
        for (int i = 0; i < l.n; i++)
            assert_true(l.f[i].priority < lost ? l.f[i].width > 0 : l.f[i].width == 0);
        assert_int_equal(parts_kept(&l), lost == 5 ? INT_MAX : lost - 1);
    }
    LineParts l = {.n = 0};
    part_add(&l, SL_TEXT, 0, "a_long_name_of_a_model")->least = 8; /* a name gives way before a number goes */
    part_add(&l, SL_TEXT, 1, "56/56");
    assert_int_equal(parts_fit(&l, 18), 18);
    assert_int_equal(l.f[0].width, 11);
    assert_int_equal(parts_fit(&l, 14), 14); /* shorter it would say nothing */
    assert_int_equal(l.f[1].width, 0);
    for (int i = 0; i < 2 * PARTS_MAX; i++)
        part_add(&l, SL_TEXT, 1, "%d", i);
    assert_int_equal(l.n, PARTS_MAX);
}

static void test_hostile_text(void **state)
{
    (void)state;
    const char *s = "a\x1b[2Jb\xff\xc2\x9b\x7f" "c\xcc\x81";
    int w, n = 0;
    for (wchar_t c; (c = text_next(&s, &w)) != 0; n++)
        assert_true(c >= 32 &&
                    c < 127); /* escapes, C1 controls and bad bytes became '?', the combining accent is gone */
    assert_int_equal(n, 10);
    assert_int_equal(text_break("one two three", 8), 7);
    assert_int_equal(text_break("onetwothree", 4), 4);
    assert_int_equal(text_break("", 4), 0);
    assert_int_equal(text_break("\xe9\xbe\x99", 1), 3); /* wider than the room: it goes on all the same */
}

static void check_format(void (*fmt)(char *, size_t, double), double v, const char *want)
{
    char out[32];
    fmt(out, sizeof out, v);
    assert_string_equal(out, want);
}

static void test_numbers(void **state)
{
    (void)state;
    check_format(fmt_score, 153.37, "1.534e2");
    check_format(fmt_score, 0.00012, "1.200e-4");
    check_format(fmt_score, 0, "0.000e0");
    check_format(fmt_score, -0.4519, "-4.52e-1");
    check_format(fmt_score, 3.8234e-10, "3.82e-10");
    check_format(fmt_score, -3.8234e-110, "-4e-110");
    check_format(fmt_score, NAN, "NaN");
    check_format(fmt_bytes, 0, "0 B");
    check_format(fmt_bytes, 1000, "1.0 KiB");
    check_format(fmt_bytes, 723.0 * 1048576, "723 MiB");
    check_format(fmt_delta, 3145728, "+3.0M");
    check_format(fmt_delta, -2048, "-2.0K");
    check_format(fmt_delta, 0, "0");
    check_format(fmt_seconds, 0.44, "0.4 s");
    check_format(fmt_seconds, 59.4, "59 s");
    check_format(fmt_seconds, 108, "1:48");
    check_format(fmt_seconds, 7384, "2:03:04");
    check_format(fmt_percent, 0.313, "31 %");
    check_format(fmt_percent, 0.0005, "0.050 %");
    check_format(fmt_percent, NAN, "?");
    char out[32];
    fmt_count(out, sizeof out, 1234567);
    assert_string_equal(out, "1,234,567");
    fmt_count(out, sizeof out, -999);
    assert_string_equal(out, "-999");
}

static void test_glyphs(void **state)
{
    (void)state;
    Glyphs g;
    assert_true(glyphs_choose("auto", "xterm", true, 0, &g));
    assert_string_equal(g.name, "braille");
    assert_true(glyphs_choose(NULL, "xterm", true, 1, &g));
    assert_string_equal(g.name, "braille");
    assert_true(glyphs_choose("auto", "linux", true, 1, &g)); /* the console's font has no braille */
    assert_string_equal(g.name, "ascii");
    assert_true(glyphs_choose("braille", "linux", true, 1, &g));
    assert_string_equal(g.name, "braille");
    assert_true(glyphs_choose("auto", "linux-16color", true, 1, &g));
    assert_string_equal(g.name, "ascii");
    assert_true(glyphs_choose("auto", "linuxoid", true, 1, &g));
    assert_string_equal(g.name, "braille");
    assert_true(glyphs_choose("auto", "xterm", true, 2, &g)); /* frames would tear */
    assert_string_equal(g.name, "ascii");
    assert_true(glyphs_choose("braille", "xterm", true, 2, &g)); /* braille is never wide, frames are ASCII then */
    assert_int_equal(g.vline, '|');
    assert_true(glyphs_choose("auto", "xterm", true, -1, &g)); /* asked, and it does not say */
    assert_string_equal(g.name, "ascii");
    assert_true(glyphs_choose("block", "xterm", true, 2, &g));
    assert_string_equal(g.name, "block");
    assert_int_equal(g.vline, '|');
    assert_true(glyphs_choose("block", "xterm", false, 0, &g));
    assert_string_equal(g.name, "ascii");
    assert_false(glyphs_choose("cubes", "xterm", true, 0, &g));
    assert_int_equal(hist_cell(HIST_BRAILLE, 4, 4), 0x28ff);
    assert_int_equal(hist_cell(HIST_BRAILLE, 1, 0), 0x2840);
    assert_int_equal(hist_cell(HIST_BRAILLE, -3, 0), ' ');
    assert_int_equal(hist_cell(HIST_BLOCK, 8, 0), 0x2588);
    assert_int_equal(hist_cell(HIST_ASCII, 99, 0), '#');
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size), cmocka_unit_test(test_pane_moves),   cmocka_unit_test(test_columns),
        cmocka_unit_test(test_list),       cmocka_unit_test(test_elide), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_clip), cmocka_unit_test(test_parts),       cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_numbers),    cmocka_unit_test(test_glyphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
