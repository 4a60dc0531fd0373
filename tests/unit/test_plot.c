/* Plots: what is derived from histograms, against sorted values; what a weight becomes, against a quantizer written out; the
 * drawings in the three glyph sets; odd values. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "src/plot.h"
#include "tests/lib/bench.h"
#include "tests/lib/tempdir.h"
#include "tests/lib/tiny_model.h"

static Error err;

static void ok(Status st)
{
    if (st != ST_OK)
        fail_msg("status %d: %s", (int)st, err.text);
}

static void near(double got, double want, double within, const char *what)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%s: %.17g, not %.17g", what, got, want);
}

static KeyHist hist_of(const float *v, int64_t n)
{
    uint64_t *dense = mem_zarray(65536, sizeof *dense);
    KeyHist h;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        dense[bits >> 16]++;
    }
    ok(keyhist_from_counts(&h, dense, &err));
    free(dense);
    return h;
}

/* bf16 values around 0 with a few far out: the keys are exact, so that every count is. */
enum { N = 5000 };
static float values[N];
static void make_values(void)
{
    Rng r = rng_new(7);

    for (int i = 0; i < N; i++) {
        double u = rng_unit(&r) + rng_unit(&r) + rng_unit(&r) - 1.5;
        float f = (float)(i % 2500 == 0 ? 300 * u : u);
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        bits &= 0xffff0000u;
        memcpy(&values[i], &bits, sizeof bits);
    }
}

static int rising(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* ---- windows and bins ---- */

static void one_far_value_does_not_fill_a_bin(void **state)
{
    (void)state;
    float v[N];
    memcpy(v, values, sizeof v);
    v[17] = 1e6f;
    KeyHist h = hist_of(v, N);
    HistWindow w = histview_whole(&h, -1.5, 1e6);
    assert_true(w.hi < 1e4);
    HistBins b;
    ok(histview_bins(&h, w, 50, true, &b, &err));
    int filled = 0;
    for (int i = 0; i < b.n; i++)
        filled += b.count[i] > 0;
    assert_true(filled > 3 && b.above >= 1);
    free(b.count);
    keyhist_fini(&h);
}

static void bins_hold_every_value(void **state)
{
    (void)state;
    KeyHist h = hist_of(values, N);
    const HistWindow w = {-0.75, 1};
    HistBins b, clip;
    ok(histview_bins(&h, w, 32, false, &b, &err));
    ok(histview_bins(&h, w, 32, true, &clip, &err));
    double sum = b.below + b.above, below = 0, above = 0;
    for (int i = 0; i < 32; i++)
        sum += b.count[i];
    for (int i = 0; i < N; i++) { /* a key stands for values up to 1/128 above it in amount */
        below += (double)values[i] < w.lo * (1 + 1.0 / 128);
        above += (double)values[i] > w.hi;
    }
    near(sum, N, 1e-6, "all");
    near(b.below, below, 20, "below");
    near(b.above, above, 20, "above");
    near(clip.count[0], b.count[0] + b.below, 1e-9, "first bin");
    near(clip.count[31], b.count[31] + b.above, 1e-9, "last bin");
    assert_true(clip.top >= b.top);
    free(b.count);
    free(clip.count);
    keyhist_fini(&h);
}

static void zoom_keeps_its_place_and_ends_at_the_limit(void **state)
{
    (void)state;
    const HistWindow limit = {-8, 8};
    HistWindow z = histview_zoom(limit, 2, 0.5, limit);
    near((2 - z.lo) / (z.hi - z.lo), 10.0 / 16, 1e-12, "place of the cursor");
    near(z.hi - z.lo, 8, 1e-12, "half as wide");
    HistWindow back = histview_zoom(z, 2, 2, limit);
    near(back.lo, -8, 1e-12, "left");
    near(back.hi, 8, 1e-12, "right");
    back = histview_zoom(limit, 2, 2, limit);
    assert_true(back.lo == -8 && back.hi == 8);
    for (int i = 0; i < 200; i++)
        z = histview_zoom(z, 0.1, 0.5, limit);
    assert_true(z.hi > z.lo); /* as far as doubles go */
    z = histview_pan((HistWindow){0, 4}, 0.5, limit);
    assert_true(z.lo == 2 && z.hi == 6);
    z = histview_pan(z, 5, limit);
    assert_true(z.lo == 4 && z.hi == 8);
    z = histview_pan(z, -50, limit);
    assert_true(z.lo == -8 && z.hi == -4);
}

static void shares_are_those_of_sorted_values(void **state)
{
    (void)state;
    KeyHist h = hist_of(values, N);
    float sorted[N];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, N, sizeof *sorted, rising);
    for (int i = 50; i < N; i += 97) {
        double v = (double)sorted[i];
        int below = 0, upto = 0;
        for (int k = 0; k < N; k++) {
            below += (double)sorted[k] < v;
            upto += sorted[k] <= sorted[i];
        }
        /* a negative key's range ends at the value, a positive one's begins there */
        near(histview_share_below(&h, v), v < 0 ? upto / (double)N : below / (double)N, 1e-9, "share");
    }
    for (int i = 0; i < PLOT_PERCENTILES; i++) {
        double q = plot_percentiles[i], v = keyhist_quantile(&h, q);
        near(histview_share_below(&h, v), q, 1.5 / N, "share below a percentile");
    }
    assert_true(histview_share_below(&h, -1e30) == 0 && histview_share_below(&h, 1e30) == 1);
    keyhist_fini(&h);
}

/* ---- the grid ---- */

static void grid_bins_are_rounded_values(void **state)
{
    (void)state;
    KeyHist h = hist_of(values, N);
    const HistGrid g = {0.25, -4, 3};
    const HistWindow w = {-1.125, 0.875}; /* a bin for each code */
    HistBins b;
    ok(histview_grid_bins(&h, &g, w, 8, &b, &err));
    double want[8] = {0}, sum = 0;
    for (int i = 0; i < N; i++) {
        double k = fmin(fmax(rint((double)values[i] / g.step), g.lo), g.hi);
        want[(int)k + 4]++;
    }
    for (int i = 0; i < 8; i++) {
        near(b.count[i], want[i], 25, "code"); /* values at the edge between two, within their key */
        sum += b.count[i];
    }
    near(sum, N, 1e-6, "all");
    int codes = histview_codes_holding(&h, &g, 0.5, &err), used = 0;
    double best[8], held = 0;
    memcpy(best, b.count, sizeof best);
    while (held < 0.5 * N) {
        int at = 0;
        for (int i = 1; i < 8; i++)
            at = best[i] > best[at] ? i : at;
        held += best[at];
        best[at] = 0;
        used++;
    }
    assert_int_equal(codes, used);
    free(b.count);
    keyhist_fini(&h);
}

static void ticks_are_those_that_fit(void **state)
{
    (void)state;
    const HistGrid g = {0.1, -128, 127};
    assert_int_equal(histview_tick_every(&g, (HistWindow){-1, 1}, 80, 3), 1); /* 4 cells each */
    assert_int_equal(histview_tick_every(&g, (HistWindow){-2, 2}, 80, 3), 2); /* 2 cells are too few */
    assert_int_equal(histview_tick_every(&g, (HistWindow){-5000, 5000}, 80, 3), 0); /* all of it within a cell */
    assert_int_equal(histview_tick_every(&(HistGrid){0, 0, 0}, (HistWindow){-1, 1}, 80, 3), 0);
    assert_true(histview_tick_in(&g, 1, 0.15, 0.25) && !histview_tick_in(&g, 1, 0.11, 0.19));
    assert_true(histview_tick_in(&g, 1, 0.2, 0.21) && !histview_tick_in(&g, 2, 0.05, 0.15));
    assert_false(histview_tick_in(&g, 1, 12.75, 13)); /* beyond the last code */
    assert_false(histview_tick_in(&g, 0, -1, 1));
}

/* ---- a weight ---- */

#define MODEL "tests/golden/analysis/_models/llama-fp32"

static void looks_are_the_weight_and_what_becomes_of_it(void **state)
{
    (void)state;
    static const char *const scheme[] = {"W8A8_DYNAMIC", "W4A8_DYNAMIC"};
    Model *m = test_model_open(MODEL, NULL);
    const Source s = {.model = m};
    int64_t at = model_find_linear(m, "model.layers.0.mlp.down_proj");
    const Linear *l = &m->linears[at];
    float *w = mem_array((size_t)(l->out * l->in), sizeof *w), *made = mem_array((size_t)(l->out * l->in), sizeof *made);
    ok(source_rows(&s, NULL, l, 0, l->out, w, &err));
    for (int k = 0; k < 2; k++) {
        QConfig q;
        WeightLook look;
        double top = k ? 7 : 127, square = 0, error = 0, worst = 0;
        assert_true(scheme_config(scheme[k], &q));
        ok(weight_look(&s, at, &q.weight, NULL, &look, &err));
        for (int64_t r = 0; r < l->out; r++) {
            float most = 0;
            for (int64_t c = 0; c < l->in; c++)
                most = fmaxf(most, fabsf(w[r * l->in + c]));
            assert_true(look.row_max[r] == most);
            float step = most / (float)top;
            for (int64_t c = 0; c < l->in; c++) {
                int64_t i = r * l->in + c;
                made[i] = fminf(fmaxf(rintf(w[i] / step), -(float)top - 1), (float)top) * step;
                double e = (double)made[i] - (double)w[i];
                square += (double)w[i] * (double)w[i];
                error += e * e;
                worst = fmax(worst, fabs(e));
            }
        }
        near(look.square, square, 1e-9 * square, "square");
        near(look.error, error, 1e-6 * error, "error");
        near(look.worst, worst, 1e-6, "worst");
        KeyHist own = hist_of(w, l->out * l->in), back = hist_of(made, l->out * l->in);
        assert_true(look.values.n == own.n && memcmp(look.values.count, own.count, (size_t)own.n * sizeof *own.count) == 0);
        assert_true(look.made.total == back.total);
        for (double p = -0.3; p < 0.3; p += 0.01)
            near(histview_share_below(&look.made, p), histview_share_below(&back, p), 2e-3, "share of what it becomes");
        assert_true(look.grid.step > 0 && look.grid.lo == -(int)top - 1 && look.grid.hi == (int)top);
        float column = 0;
        for (int64_t r = 0; r < l->out; r++)
            column = fmaxf(column, fabsf(w[r * l->in + 3]));
        assert_true(look.col_max[3] == column);
        keyhist_fini(&own);
        keyhist_fini(&back);
        weight_look_fini(&look);
    }
    free(w);
    free(made);
    model_free(m);
}

static void maps_go_down_to_the_values_of_a_group(void **state)
{
    (void)state;
    Model *m = test_model_open(MODEL, NULL);
    const Source s = {.model = m};
    int64_t at = model_find_linear(m, "model.layers.0.mlp.down_proj");
    WeightHeat all, part;
    WeightCell cell;
    ok(weight_heat(&s, at, &(HeatAsk){.group = 32, .rows = 400, .cols = 400}, NULL, &all, &err));
    const HeatArea area = {1, 3, 10, 7};
    ok(weight_heat(&s, at, &(HeatAsk){.group = 32, .area = area, .rows = 400, .cols = 400}, NULL, &part, &err));
    assert_true(part.rows == 3 && part.cols == 7);
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 7; c++)
            assert_true(part.mean[r * 7 + c] == all.mean[(r + 1) * all.cols + 10 + c]);
    assert_true(part.top == part.mean[(part.top_group - 1) * 7 + part.top_channel - 10]);
    for (int g = 0; g < 5; g++) {
        ok(weight_cell(&s, at, &(HeatAsk){.group = 32, .area = {g, 1, 14, 1}}, &cell, &err));
        double sum = 0;
        for (int64_t i = 0; i < cell.n; i++)
            sum += pow((double)cell.made[i] - (double)cell.value[i], 2);
        near(sum / (double)cell.n, all.mean[g * all.cols + 14], 1e-12, "cell");
        assert_true(cell.first == 32 * g && cell.n == 32);
        weight_cell_fini(&cell);
    }
    weight_heat_fini(&all);
    weight_heat_fini(&part);
    model_free(m);
}

/* Every cell is in one field, and a field that is gone into shows just its own. */
static void fields_part_the_map(void **state)
{
    (void)state;
    const WeightHeat h = {.groups = 48, .channels = 576, .area = {5, 43, 100, 77}, .rows = 9, .cols = 20};
    int64_t g = 5;
    for (int r = 0; r < h.rows; r++) {
        HeatArea a = plot_field(&h, r, 0);
        assert_true(a.group0 == g && a.groups >= 4);
        for (int64_t k = a.group0 - 5; k < a.group0 - 5 + a.groups; k++)
            assert_int_equal(k * h.rows / 43, r); /* as add_cell puts them */
        g += a.groups;
    }
    assert_int_equal(g, 48);
    HeatArea last = plot_field(&h, 0, 19);
    assert_int_equal(last.channel0 + last.channels, 177);
    Picture p = {.heat = h};
    PlotData d = {.picture = &p};
    PlotLook look = {.kind = PLOT_ERROR, .row = 2, .col = 3};
    assert_true(plot_into(&d, &look) && look.depth == 1 && !look.cell);
    HeatArea want = plot_field(&h, 2, 3);
    assert_memory_equal(&look.area[0], &want, sizeof want);
    p.heat = (WeightHeat){.groups = 48, .channels = 576, .area = {7, 1, 9, 1}, .rows = 1, .cols = 1};
    assert_true(plot_into(&d, &look) && look.cell && look.depth == 2);
    assert_false(plot_into(&d, &look));
    assert_true(plot_out(&look) && plot_out(&look) && !plot_out(&look) && !look.cell);
}

/* ---- drawings ---- */

static char *drawn(PlotData *d, PlotLook *look, int w, int h, HistForm form)
{
    Sheet c;
    Str out = {0};
    ok(canvas_init(&c, w, h, form, &err));
    plot_draw(d, look, &c);
    canvas_print(&c, &out);
    canvas_fini(&c);
    char *text = str_detach(&out);
    assert_non_null(text);
    return text;
}

static void has(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("no '%s' in\n%s", what, text);
}

static const HistForm forms[] = {HIST_ASCII, HIST_BLOCK, HIST_BRAILLE};

static void histograms_say_what_they_show(void **state)
{
    (void)state;
    KeyHist h = hist_of(values, N);
    LinearResult res = {.in = {.width = 1, .std = 0.5}};
    PlotData d = {.h = &h, .min = -300, .max = 300, .mean = 0, .std = 0.5, .grid = {0.1, -128, 127}, .steps = "int8", .res = &res};
    for (int f = 0; f < 3; f++) {
        PlotLook look = {.kind = PLOT_INPUT, .marked = true, .by_share = true, .share = 0.99};
        char *t = drawn(&d, &look, 80, 20, forms[f]);
        has(t, "5,000 values, counts logarithmic");
        has(t, " int8 steps");
        has(t, "s 3 std");
        has(t, " below, ");
        has(t, ": 99 % lie below");
        if (forms[f] == HIST_ASCII)
            for (const char *p = t; *p; p++)
                assert_true((unsigned char)*p < 127);
        free(t);
        look.table = true;
        t = drawn(&d, &look, 80, 20, forms[f]);
        has(t, "from         to        count    share");
        has(t, "0.1 % ");
        free(t);
        look = (PlotLook){.kind = PLOT_INPUT, .zoomed = true, .w = {-0.2, 0.2}, .linear = true};
        t = drawn(&d, &look, 80, 20, forms[f]);
        has(t, "-0.2 ");
        has(t, "bins of");
        has(t, "counts linear");
        free(t);
    }
    keyhist_fini(&h);
}

/* Two intensities: where the float is above what becomes of it, the lighter one. */
static void overlays_have_two_intensities(void **state)
{
    (void)state;
    static const char *const solid[] = {"#", "\xe2\x96\x88", "\xe2\xa3\xbf"}, *const light[] = {":", "\xe2\x96\x91", "\xe2\xa1\xaa"};
    KeyHist h = hist_of(values, N);
    PlotData d = {.h = &h, .min = -1.5, .max = 1.5, .std = 0.5, .grid = {0.5, -4, 3}, .steps = "int4", .over_grid = true, .res = &(LinearResult){0}};
    for (int f = 0; f < 3; f++) {
        PlotLook look = {.kind = PLOT_GRID, .zoomed = true, .w = {-1.2, 1.2}};
        char *t = drawn(&d, &look, 70, 20, forms[f]);
        has(t, solid[f]);
        has(t, light[f]);
        has(t, "of 8 codes; an int4 step is 0.5");
        has(t, "dequantized");
        free(t);
    }
    keyhist_fini(&h);
}

static void profiles_name_outliers(void **state)
{
    (void)state;
    float v[300];
    for (int i = 0; i < 300; i++)
        v[i] = 1 + 0.001f * (float)i;
    v[123] = 4000;
    PlotData d = {.value = v, .n = 300};
    for (int f = 0; f < 3; f++) {
        PlotLook look = {.kind = PLOT_CHANNELS};
        char *t = drawn(&d, &look, 80, 16, forms[f]);
        has(t, "outliers > 6 times the mean: 1 of 300; most 123:4000");
        has(t, "4000");
        free(t);
        look.marked = true;
        look.at = 123;
        look.table = true;
        t = drawn(&d, &look, 80, 16, forms[f]);
        has(t, "^ channel 123: 4000");
        has(t, "       123        4000");
        free(t);
    }
    PlotLook half = {.kind = PLOT_CHANNELS, .marked = true, .by_share = true, .share = 0.5};
    plot_resolve(&d, &half);
    near(half.at, 151, 0, "the channel in the middle"); /* 150 are below it, but for the one that is far out */
}

static void odd_values_are_drawn(void **state)
{
    (void)state;
    static const float zeros[64] = {0}, same[3] = {2, 2, 2}, one[1] = {-5};
    const float wild[] = {NAN, INFINITY, -INFINITY, 1, 2, 3};
    const struct {
        const float *v;
        int64_t n;
    } set[] = {{zeros, 64}, {same, 3}, {one, 1}, {wild, 6}, {wild, 1}, {wild, 0}};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        KeyHist h = hist_of(set[i].v, set[i].n);
        LinearResult res = {.in = {.width = 1}};
        for (int f = 0; f < 3; f++)
            for (int w = 1; w < 90; w += 11)
                for (int rows = 1; rows < 26; rows += 3)
                    for (int table = 0; table < 2; table++) {
                        PlotData d = {.h = &h, .min = set[i].n ? 0 : NAN, .max = NAN, .mean = NAN, .res = &res, .steps = ""};
                        PlotLook look = {.kind = PLOT_INPUT, .table = table, .marked = true, .by_share = true, .share = 0.5};
                        free(drawn(&d, &look, w, rows, forms[f]));
                        PlotData p = {.value = set[i].v, .n = set[i].n > 3 ? 1 : set[i].n, .res = &res};
                        look.kind = PLOT_CHANNELS;
                        free(drawn(&p, &look, w, rows, forms[f]));
                    }
        keyhist_fini(&h);
    }
}

/* ---- of a session ---- */

static Session *session_of(const char *dir)
{
    SessionOptions o;
    Session *s;
    session_options_default(&o);
    o.threads = 1;
    ok(session_new(&s, &o, &err));
    ok(session_open_model(s, dir, NULL, &err));
    return s;
}

/* What is made in the background is what is made at once, only the newest wish counts, and few are kept. */
static void pictures_come_by_themselves(void **state)
{
    (void)state;
    Session *s = session_of(MODEL);
    PictureAsk ask = {.kind = PICTURE_LOOK, .linear = 0};
    const Picture *p = NULL;
    for (int64_t i = 0; i < session_model(s)->nlinears; i++) {
        ask.linear = i;
        p = session_picture(s, &ask);
    }
    while (!p) {
        session_picture_wait(s);
        p = session_picture(s, &ask);
    }
    assert_false(session_picture_waits(s));
    assert_int_equal(p->ask.linear, session_model(s)->nlinears - 1);
    double least = p->look.min, std = p->look.std;
    Session *other = session_of(MODEL);
    ok(session_picture_now(other, &ask, NULL, &p, &err));
    assert_true(p->look.min == least && p->look.std == std);
    QConfig q;
    assert_true(scheme_config("W4A8_DYNAMIC", &q));
    ask.quantized = true;
    ask.q = q.weight;
    ok(session_picture_now(other, &ask, NULL, &p, &err));
    assert_true(p->look.made.total > 0);
    const Picture *same;
    ask.quantized = false; /* the weight itself is in it, too, and in the one before */
    ok(session_picture_now(other, &ask, NULL, &same, &err));
    assert_true(same->look.values.total == p->look.values.total);
    for (int64_t i = 0; i < PICTURES_KEPT; i++) {
        ask.linear = i;
        ok(session_picture_now(other, &ask, NULL, &p, &err));
    }
    ask.linear = 0;
    ok(session_picture_now(other, &ask, NULL, &same, &err)); /* the oldest of them is still there */
    assert_int_equal(same->ask.linear, 0);
    session_free(s);
    session_free(other);
}

static void what_cannot_be_shown_says_why(void **state)
{
    (void)state;
    char *dir = temp_folder();
    tiny_model_write(dir, NULL);
    tiny_model_config(dir, NULL, NULL);
    Session *s = session_of(dir);
    PlotLook look = {.kind = PLOT_INPUT};
    PlotData d;
    ok(plot_data(s, 0, &look, true, NULL, &d, &err));
    has(d.why, "not watched yet");
    look = (PlotLook){.kind = PLOT_DEQUANT};
    snprintf(look.level, sizeof look.level, "nothing");
    assert_int_equal(plot_data(s, 0, &look, true, NULL, &d, &err), ST_USAGE);
    has(err.text, "W4A8_DYNAMIC");
    snprintf(look.level, sizeof look.level, "W8A8S"); /* sees the whole weight */
    ok(plot_data(s, 0, &look, true, NULL, &d, &err));
    has(d.why, "has to see the whole weight");
    char full[PLOT_LEVEL], level[PLOT_LEVEL] = "";
    QConfig q;
    ok(plot_level(s, "W4A8", &q, full, &err));
    assert_string_equal(full, "W4A8_DYNAMIC");
    int n = 0;
    do
        plot_level_next(s, level, level);
    while (level[0] && n++ < 40);
    assert_true(n > 4 && n < 20); /* each once, and round */
    for (int k = PLOT_INPUT; k < PLOT_KINDS; k++) { /* weights that are all 0 */
        look = (PlotLook){.kind = (PlotKind)k};
        plot_map_size(60, 16, &look);
        ok(plot_data(s, 3, &look, true, NULL, &d, &err));
        char *t = drawn(&d, &look, 60, 16, HIST_ASCII);
        has(t, plot_title((PlotKind)k));
        free(t);
        assert_int_equal(plot_find(plot_name((PlotKind)k)), k);
    }
    session_free(s);
    temp_remove(dir);
}

/* The map of layers against the channel maxima of every layer, and the linears that it takes. */
static void the_map_of_layers_has_every_maximum(void **state)
{
    (void)state;
    Session *s = session_of(MODEL);
    const Model *m = session_model(s);
    char *dir = temp_folder();
    temp_puts(temp_path(dir, "ids.jsonl"), "{\"input_ids\":[1,5,9,13,2,7,40,3]}\n{\"input_ids\":[11,6,30,21,14]}\n");
    ok(session_set_calib(s, temp_path(dir, "ids.jsonl"), &err));
    static const char *const metric[] = {"kurtosis", NULL};
    PlotLook look = {.kind = PLOT_LAYERS, .rows = 2, .cols = 7};
    PlotData d;
    ChannelMap map;
    int64_t at = 0;
    while (m->linears[at].layer < 1)
        at++;
    ok(plot_data(s, at, &look, true, NULL, &d, &err));
    has(d.why, "channels were not watched");
    assert_int_equal(channel_map(&d, 2, 7, &map, &err), ST_DATA);
    ok(session_analyze(s, metric, NULL, 0, true, &err));
    ok(session_wait(s, &err));
    ok(plot_data(s, at, &look, true, NULL, &d, &err));
    assert_string_equal(d.why, "");
    ok(channel_map(&d, 1000, 100000, &map, &err));
    assert_int_equal(map.h.groups, model_depth(m));
    assert_int_equal(map.h.cols, m->linears[at].in);
    double top = 0, sum = 0;
    for (int64_t g = 0; g < map.h.groups; g++) {
        const Linear *l = &m->linears[map.linear[g]];
        assert_true(l->layer == map.layer[g] && l->kind == m->linears[at].kind && (g == 0 || map.layer[g] > map.layer[g - 1]));
        const float *v = session_result(s, map.linear[g])->in.channel_max;
        for (int64_t c = 0; c < l->in; c++) {
            assert_true(map.h.max[g * l->in + c] == (double)v[c] && map.h.mean[g * l->in + c] == (double)v[c]);
            top = fmax(top, (double)v[c]);
            sum += (double)v[c];
        }
    }
    near(map.h.average, sum / (double)(map.h.groups * map.h.channels), 1e-9, "mean");
    assert_true(map.h.top == top && (double)session_result(s, map.linear[map.h.top_group])->in.channel_max[map.h.top_channel] == top);
    channel_map_fini(&map);
    ok(channel_map(&d, 2, 7, &map, &err)); /* fields of several layers and channels: none is lost */
    double most = 0;
    for (int i = 0; i < map.h.rows * map.h.cols; i++)
        most = fmax(most, map.h.max[i]);
    assert_true(map.h.rows == 2 && map.h.cols == 7 && most == top);
    channel_map_fini(&map);
    look.row = 1;
    assert_true(plot_layers_linear(&d, &look) >= 0 && m->linears[plot_layers_linear(&d, &look)].layer > 0);
    Str out = {0};
    ok(plot_numbers(&d, &look, OUT_CSV, &out, &err));
    has(str_text(&out), "layer,channel,largest");
    str_free(&out);
    session_free(s);
    temp_remove(dir);
}

static int setup(void **state)
{
    (void)state;
    make_values();
    return setlocale(LC_ALL, "C.UTF-8") ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_of_layers_has_every_maximum),
        cmocka_unit_test(one_far_value_does_not_fill_a_bin),
        cmocka_unit_test(bins_hold_every_value),
        cmocka_unit_test(zoom_keeps_its_place_and_ends_at_the_limit),
        cmocka_unit_test(shares_are_those_of_sorted_values),
        cmocka_unit_test(grid_bins_are_rounded_values),
        cmocka_unit_test(ticks_are_those_that_fit),
        cmocka_unit_test(looks_are_the_weight_and_what_becomes_of_it),
        cmocka_unit_test(maps_go_down_to_the_values_of_a_group),
        cmocka_unit_test(fields_part_the_map),
        cmocka_unit_test(histograms_say_what_they_show),
        cmocka_unit_test(overlays_have_two_intensities),
        cmocka_unit_test(profiles_name_outliers),
        cmocka_unit_test(odd_values_are_drawn),
        cmocka_unit_test(pictures_come_by_themselves),
        cmocka_unit_test(what_cannot_be_shown_says_why),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
