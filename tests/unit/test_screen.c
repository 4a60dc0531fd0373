/* The workbench on a null terminal: golden screens from a recorded session, keys and what they do, any key at any size.
 * tests/accept_screens.sh rewrites the goldens. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/file.h"
#include "session/columns.h"
#include "session/fold.h"
#include "tests/lib/screen_world.h"
#include "ui/keys.h"

static const struct Size {
    int cols, rows;
} sizes[] = {{60, 15}, {80, 24}, {100, 30}, {200, 60}};

/* What is done before each picture; each goes on from the one before. */
static const struct Shot {
    const char *title, *keys, *text;
} shots[] = {
    {"rank", "g", NULL},
    {"detail of the worst layer", "Enter", NULL},
    {"histograms as a table", "H", NULL},
    {"plot of the input", "H d", NULL},
    {"of the input over its grid", "d", NULL},
    {"of the input's channels", "d", NULL},
    {"of the weight, zoomed at a percentile", "d % % % + +", NULL},
    {"over what becomes of it at another level", "d B", NULL},
    {"of the weight's rows, as a table", "d H", NULL},
    {"a map of its errors", "d d H", NULL},
    {"into the map", "j l l Enter", NULL},
    {"rank, third row excluded with its group", "Esc D D D D D D D D q j j j x", NULL},
    {"a pattern being typed", "u p", "*layers.1*.mlp.gate_proj"},
    {"what-if", "Esc 2", NULL},
    {"a rule switched off", "x", NULL},
    {"a rule being edited", "e", NULL},
    {"a rule moved up", "Esc G <", NULL},
    {"jobs", "u u 3", NULL},
    {"export", "5", NULL},
    {"the whole document", "d", NULL},
    {"help", "1 ?", NULL},
    {"what the screen shows, explained", "Tab", NULL},
    {"filtered", "q \\", "kind=down_proj"},
    {"a command being typed", "Enter :", "exclude nothing.of.that.name"},
    {"its error", "Enter", NULL},
    {"a key without a meaning here", "z", NULL},
    {"folded by block", "Esc g f", NULL},
    {"folded by kind, one open, another excluded", "f j x g l", NULL},
    {"the fold's details", "Enter", NULL},
    {"a goal being typed", "q 2 o", "+600K"},
    {"what it came to", "Enter", NULL},
    {"a point of the front", "f j j j", NULL},
    {"taken, against a budget", "Enter q :", "set budget=+400K"},
    {"grown, and over it", "Enter + + +", NULL},
    {"what was measured", "4", NULL},
    {"two of them side by side", "a j b =", NULL},
    {"a layer as both quantize it", "h", NULL},
    {"the same as numbers", "H", NULL},
    {"one of them", "H q q Enter", NULL},
    {"what is scored", "q Tab", NULL},
    {"two metrics side by side", "a G b =", NULL},
    {"what is under two scores", "h", NULL},
    {"in the order of A, what moved alone", "q d >", NULL},
    {"the guide", "q 8", NULL},
    {"the methods it lists", "G k k", NULL},
    {"the calibration set", "q 6", NULL},
    {"a text with its tokens", "j Enter", NULL},
    {"a text taken out", "q x", NULL},
    {"texts that pass a filter", "j \\", "he bought"},
    {"the model's tensors", "Esc 7 j j Enter j j Enter", NULL},
};

static void picture(World *w, Str *out)
{
    for (size_t i = 0; i < sizeof shots / sizeof shots[0]; i++) {
        world_keys(w, shots[i].keys);
        if (shots[i].text)
            world_type(w, shots[i].text);
        char *screen = world_screen(w);
        world_hide_times(screen);
        str_printf(out, "=== %s\n%s", shots[i].title, screen);
        free(screen);
    }
}

static void golden(const char *glyphs)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        Str out = {0};
        char path[128];
        world_open(&w, sizes[i].cols, sizes[i].rows, glyphs, true, false);
        picture(&w, &out);
        world_close(&w);
        snprintf(path, sizeof path, "tests/golden/screens/%dx%d.%s.txt", sizes[i].cols, sizes[i].rows, glyphs);
        world_compare(path, &out);
        str_free(&out);
    }
}

static void test_golden_utf8(void **state)
{
    (void)state;
    golden("braille");
}

static void test_golden_block(void **state)
{
    (void)state;
    golden("block");
}

static void test_golden_ascii(void **state)
{
    (void)state;
    golden("ascii");
}

static void test_no_model(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", false, false);
    world_shows(&w, "No model is open", true);
    world_keys(&w, "r x 2 j 3 5 d w ? q u ^C");
    world_shows(&w, "nothing runs", true);
    world_close(&w);
}

static void test_group_moves_together(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    Session *s = w.app.session;
    const Model *m = session_model(s);
    world_keys(&w, "/");
    world_type(&w, "layers.2.self_attn.k");
    world_keys(&w, "Enter x");
    int64_t k = model_find_linear(m, "model.layers.2.self_attn.k_proj");
    assert_int_equal(ui_here(w.ui).linear, k);
    for (int64_t i = k - 1; i <= k + 1; i++)
        assert_int_equal(session_level_of(s, i), 0);
    assert_string_equal(session_command(s, session_commands(s) - 1), "exclude model.layers.2.self_attn.k_proj");
    world_keys(&w, "u");
    assert_int_equal(session_level_of(s, k), 1);
    assert_int_equal(ui_here(w.ui).linear, k); /* the cursor stays on its layer */
    world_keys(&w, "^R");
    assert_int_equal(session_level_of(s, k), 0);
    world_close(&w);
}

static void test_cursor_follows_layer(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    world_keys(&w, "g j j j j");
    int64_t at = ui_here(w.ui).linear;
    world_keys(&w, "> I m M < .");
    assert_int_equal(ui_here(w.ui).linear, at);
    world_resize(&w, 200, 60);
    world_resize(&w, 1, 1);
    world_resize(&w, 60, 15);
    assert_int_equal(ui_here(w.ui).linear, at);
    assert_int_equal(w.ui->cursor_x, 0); /* the terminal's cursor rests on the row: readers of the screen follow it */
    world_close(&w);
}

static void test_search(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    world_keys(&w, "g");
    int64_t top = ui_here(w.ui).linear;
    world_keys(&w, "/");
    world_type(&w, "LAYERS.4");
    assert_non_null(strstr(session_model(w.app.session)->linears[ui_here(w.ui).linear].name, "layers.4."));
    world_keys(&w, "Esc"); /* out: nothing changed */
    assert_int_equal(ui_here(w.ui).linear, top);
    world_keys(&w, "/");
    world_type(&w, "layers.4");
    world_shows(&w, "match 1 of 7", true);
    world_keys(&w, "Enter");
    world_shows(&w, "match 1 of 7 for 'layers.4'", true);
    int y, x;
    char *screen = world_screen(&w), *hit = strstr(screen, "layers.4.");
    for (y = x = 0; screen + x < hit; x++)
        y += screen[x] == '\n';
    x = (int)(hit - (strstr(screen, "\n") ? screen : hit));
    for (const char *c = screen; c < hit; c++)
        x = *c == '\n' ? (int)(hit - c) - 1 : x;
    cchar_t cell;
    wchar_t text[CCHARW_MAX + 1];
    attr_t attr[3];
    short pair;
    for (int i = 0; i < 3; i++) { /* before it, its first character, and the one behind it */
        assert_int_equal(mvin_wch(y, x + (i == 0 ? -1 : i == 1 ? 0 : 8), &cell), OK);
        assert_int_equal(getcchar(&cell, text, &attr[i], &pair, NULL), OK);
    }
    assert_true(attr[0] == attr[2] && attr[1] != attr[0]);
    free(screen);
    world_keys(&w, "n n");
    world_shows(&w, "match 3 of 7", true);
    world_keys(&w, "N N N");
    world_shows(&w, "match 7 of 7", true);
    world_keys(&w, "Esc /");
    world_type(&w, "*.{4,5}.mlp.*");
    world_shows(&w, " of 6", true);
    world_keys(&w, "Esc /");
    world_type(&w, "nowhere");
    world_shows(&w, "nothing here holds 'nowhere'", true);
    world_keys(&w, "Esc n");
    world_shows(&w, "for 'layers.4'", true); /* what was given up is not searched for */
    world_close(&w);
    world_open(&w, 80, 24, "ascii", true, false);
    world_keys(&w, "n");
    world_shows(&w, "nothing was searched yet", true);
    world_close(&w);
}

static void test_paste_tags(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    Session *s = w.app.session;
    int64_t before = session_tag_count(s);
    ui_key(w.ui, KEY_PASTE_BEGIN);
    for (const char *p = "- \"model.layers.2.mlp.up_proj\"\n- 'model.layers.4.mlp.*',\n\x1b[2Jq"; *p; p++)
        ui_key(w.ui, (unsigned char)*p);
    ui_key(w.ui, KEY_PASTE_END);
    world_shows(&w, "tag: - \"model.layers.2.mlp.up_proj\"", true);
    assert_int_equal(session_tag_count(s), before); /* nothing happens before Enter */
    world_keys(&w, "Esc");
    ui_key(w.ui, KEY_PASTE_BEGIN);
    for (const char *p = "model.layers.2.mlp.up_proj\nmodel.layers.4.mlp.*"; *p; p++)
        ui_key(w.ui, (unsigned char)*p);
    ui_key(w.ui, KEY_PASTE_END);
    world_keys(&w, "Enter");
    assert_int_equal(session_tag_count(s), before + 4);
    world_close(&w);
}

static void queue_event(int y, int x, mmask_t button)
{
    MEVENT e = {.y = y, .x = x, .bstate = button};
    assert_int_equal(ungetmouse(&e), OK);
}

static void mouse_event(World *w, int y, int x, mmask_t button)
{
    queue_event(y, x, button);
    unsigned bits = ui_key(w->ui, KEY_CODE(KEY_MOUSE));
    if (bits & DO_RELAYOUT)
        ui_set_size(w->ui, w->ui->rows, w->ui->cols);
    ui_paint(w->ui);
}

/* A press, and its release. */
static void click(World *w, int y, int x, mmask_t button)
{
    mouse_event(w, y, x, button);
    mouse_event(w, y, x, BUTTON1_RELEASED);
}

static void test_sorted_both_ways(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    Session *s = w.app.session;
    int64_t n;
    Error err = {ST_OK, ""};
    static const struct {
        const char *line;
        int64_t first;
    } cases[] = {{"sort model", 0}, {"sort model desc", 55}, {"sort name", 6}, {"sort name desc", 51}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(app_execute(&w.app, cases[i].line, &err), ST_OK);
        assert_int_equal(session_order(s, &n, true)[0], cases[i].first);
    }
    assert_int_equal(app_execute(&w.app, "sort level asc", &err), ST_OK);
    assert_int_equal(session_level_of(s, session_order(s, &n, true)[0]), 0); /* float first */
    assert_int_equal(app_execute(&w.app, "sort second", &err), ST_USAGE); /* there is none */
    assert_int_equal(app_execute(&w.app, "columns std", &err), ST_OK);
    bool up;
    for (int i = 0; i < 6 && session_sort_key(s, &up) != SORT_SECOND; i++)
        world_keys(&w, ">");
    assert_int_equal(session_sort_key(s, &up), SORT_SECOND);
    assert_false(up);
    const int64_t *by = session_order(s, &n, true);
    int64_t last = 1;
    for (int64_t i = 0; i < n; i++) { /* those without a score come last */
        int64_t rank = session_second_rank(s, by[i]);
        assert_true(rank ? rank >= last : i > 0);
        last = rank ? rank : INT64_MAX;
    }
    assert_true(last == INT64_MAX);
    assert_int_equal(app_execute(&w.app, "columns none", &err), ST_OK);
    world_keys(&w, "> > > > >"); /* without a second one it is no stop on the way round */
    assert_int_equal(app_execute(&w.app, "sort score asc", &err), ST_OK);
    const int64_t *order = session_order(s, &n, true);
    const Metric *m = session_metric(s);
    for (int64_t i = 1; i < n; i++)
        assert_true(session_score(s, m, order[i - 1]).value <= session_score(s, m, order[i]).value);
    world_close(&w);
}

/* --calm: what a job shows of itself while it runs waits for a key, or for its end. */
static void test_calm(void **state)
{
    (void)state;
    Ui ui = {.calm = false};
    assert_true(ui_paints_for(&ui, EV_ROWS) && ui_paints_for(&ui, EV_PROGRESS) && !ui_paints_for(&ui, 0));
    ui.calm = true;
    assert_false(ui_paints_for(&ui, EV_ROWS | EV_PROGRESS));
    assert_true(ui_paints_for(&ui, EV_JOB) && ui_paints_for(&ui, EV_EFFECT | EV_ROWS) && ui_paints_for(&ui, EV_MESSAGE));
}

static void test_mouse(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    int64_t n;
    const int64_t *order = session_order(w.app.session, &n, false);
    int64_t third = order[2];
    mousemask(ALL_MOUSE_EVENTS, NULL);
    click(&w, 5, 10, BUTTON1_PRESSED); /* title, tabs, heading, then the rows */
    assert_int_equal(ui_here(w.ui).linear, third);
    click(&w, 20, 99, BUTTON1_PRESSED); /* the pane: nothing */
    assert_int_equal(ui_here(w.ui).linear, third);
    click(&w, 2, 20, BUTTON1_PRESSED); /* a heading sorts, and turns round */
    bool up;
    assert_int_equal(session_sort_key(w.app.session, &up), SORT_NAME);
    assert_true(up);
    click(&w, 2, 20, BUTTON1_PRESSED);
    assert_int_equal(session_sort_key(w.app.session, &up), SORT_NAME);
    assert_false(up);
    assert_int_equal(ui_here(w.ui).linear, third);
    mouse_event(&w, 2, 20, BUTTON1_PRESSED);
    mouse_event(&w, 9, 20, BUTTON1_PRESSED); /* curses' word for a step of a drag */
    mouse_event(&w, 9, 20, BUTTON1_RELEASED);
    assert_true(session_sort_key(w.app.session, &up) == SORT_NAME && up);
    assert_int_equal(ui_here(w.ui).linear, third);
    queue_event(2, 20, BUTTON1_PRESSED);
    mouse_event(&w, 2, 20, BUTTON1_RELEASED); /* a press and its release that came together */
    assert_true(session_sort_key(w.app.session, &up) == SORT_NAME && !up);
    mouse_event(&w, 20, 99, BUTTON1_PRESSED);
    queue_event(20, 99, BUTTON1_RELEASED);
    mouse_event(&w, 10, 10, BUTTON5_PRESSED); /* a release, and the wheel before it was looked at */
    assert_int_not_equal(ui_here(w.ui).linear, third);
    mouse_event(&w, 10, 10, BUTTON4_PRESSED);
    assert_int_equal(ui_here(w.ui).linear, third);
    click(&w, 2, 20, BUTTON1_PRESSED);
    assert_true(session_sort_key(w.app.session, &up) == SORT_NAME && up);
    click(&w, 1, 12, BUTTON1_PRESSED);
    assert_string_equal(w.ui->view->name, "whatif");
    click(&w, 29, 2, BUTTON1_PRESSED); /* F1Help */
    assert_non_null(w.ui->overlay);
    world_keys(&w, "q 1");
    click(&w, 10, 10, BUTTON4_PRESSED);
    assert_true(ui_here(w.ui).linear != third);
    world_close(&w);
}

/* ^L draws what is there: an open line, a question, a page and a message stay. */
static void test_drawn_anew(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    world_keys(&w, "Z ^L");
    world_shows(&w, "Z is no key here", true);
    world_keys(&w, "? ^L");
    world_shows(&w, "Keys on Rank", true);
    world_shows(&w, "> r  ", true);
    world_keys(&w, "q : d u m p ^L");
    world_shows(&w, ":dump", true);
    world_keys(&w, "Esc x q ^L");
    world_shows(&w, "quit?", true);
    world_keys(&w, "n : b i n d Space ^ L Space u n d o Enter ^L");
    world_shows(&w, "undone", true);
    world_close(&w);
}

/* From the recipe on the Export screen to the quantized model: it asks for the folder, and proposes one. */
static void test_export_leads_to_weights(void **state)
{
    (void)state;
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    world_keys(&w, "5 W");
    world_shows(&w, "folder: demo-w8a8_static", true);
    world_shows(&w, "where the quantized model goes", true);
    world_keys(&w, "Esc");
    assert_false(session_busy(w.app.session));
    world_close(&w);
}

static void assert_newest(Session *s, const char *command)
{
    assert_string_equal(session_command(s, session_commands(s) - 1), command);
}

/* Every key of a row works on a fold's head, as one command; those commands alone give the same bytes. */
static void test_fold_takes_every_action(void **state)
{
    (void)state;
    World w, again;
    Error err = {ST_OK, ""};
    world_open(&w, 80, 24, "ascii", true, false);
    Session *s = w.app.session;
    int first = session_commands(s);
    world_keys(&w, "o");
    world_shows(&w, "the table is not folded", true);
    world_keys(&w, "f f g");
    assert_newest(s, "fold kind");
    world_shows(&w, "+ *.down_proj", true);
    world_keys(&w, "x");
    assert_newest(s, "exclude *.down_proj");
    const Fold *f = session_fold_at(s, ui_here(w.ui).fold);
    assert_int_equal(f->floats, 8);
    world_keys(&w, "x");
    assert_newest(s, "include *.down_proj");
    assert_int_equal(session_fold_at(s, ui_here(w.ui).fold)->floats, 0);
    world_keys(&w, "b"); /* all at one level: the next, float */
    assert_newest(s, "level float *.down_proj");
    world_keys(&w, "b");
    assert_newest(s, "level W8A8 *.down_proj");
    world_keys(&w, "Space");
    assert_newest(s, "tag *.down_proj");
    world_keys(&w, "k Space");
    assert_newest(s, "tag --off *.down_proj");
    world_keys(&w, "k y");
    world_shows(&w, "): *.down_proj", true);
    world_keys(&w, "H");
    world_shows(&w, "a fold has no histogram", true);
    world_keys(&w, "Enter");
    world_shows(&w, "8 linears", true);
    world_shows(&w, "8 scored, 0 failed, 0 not measured", true);
    world_keys(&w, "Enter \\"); /* what the filter hides is not touched */
    world_type(&w, "layer=2..3 !v_proj");
    world_keys(&w, "Enter F g x");
    assert_newest(s, "exclude *layers.2.{mlp.*,self_attn.k_proj,self_attn.o_proj,self_attn.q_proj}");
    world_keys(&w, "f f Esc g j X"); /* the recorded tag */
    Export want, got;
    assert_int_equal(session_export_preview(s, NULL, NULL, &want, &err), ST_OK);
    world_open(&again, 80, 24, "ascii", true, false);
    for (int i = first; i < session_commands(s); i++)
        assert_int_equal(app_execute(&again.app, session_command(s, i), &err), ST_OK);
    assert_int_equal(session_export_preview(again.app.session, NULL, NULL, &got, &err), ST_OK);
    assert_string_equal(str_text(&want.text), str_text(&got.text));
    assert_non_null(strstr(str_text(&got.text), "layers.2.*"));
    export_fini(&want);
    export_fini(&got);
    world_close(&again);
    world_close(&w);
}

static void test_folds_open_and_close(void **state)
{
    (void)state;
    static const struct Size sizes_here[] = {{80, 24}, {100, 30}, {200, 60}, {60, 15}};
    for (size_t i = 0; i < sizeof sizes_here / sizeof sizes_here[0]; i++) {
        World w;
        world_open(&w, sizes_here[i].cols, sizes_here[i].rows, i % 2 ? "ascii" : "braille", true, false);
        Session *s = w.app.session;
        world_keys(&w, "g f f j j j");
        int64_t at = ui_here(w.ui).linear, n;
        int32_t fold = ui_here(w.ui).fold;
        assert_true(fold >= 0);
        world_keys(&w, "l");
        assert_true(session_fold_at(s, fold)->open);
        assert_int_equal(ui_here(w.ui).fold, fold); /* still on the head */
        world_keys(&w, "l");
        world_shows(&w, "this fold is open", true);
        world_keys(&w, "j j");
        assert_int_equal(ui_here(w.ui).fold, -1);
        assert_int_equal(ui_here(w.ui).linear, session_fold_at(s, fold)->members[1]);
        int64_t member = ui_here(w.ui).linear;
        world_keys(&w, "> I"); /* the cursor stays on its layer, wherever that goes */
        assert_int_equal(ui_here(w.ui).linear, member);
        world_keys(&w, "< h");
        assert_int_equal(ui_here(w.ui).linear, at);
        assert_true(ui_here(w.ui).fold >= 0);
        world_keys(&w, "O");
        session_rows(s, &n, false);
        assert_int_equal(n, 56 + 7);
        world_keys(&w, "End");
        assert_int_equal(ui_here(w.ui).fold, -1);
        world_keys(&w, "o"); /* from inside: its head */
        assert_true(ui_here(w.ui).fold >= 0);
        world_keys(&w, "O g /");
        world_type(&w, "layers.4.mlp.up");
        world_keys(&w, "Enter"); /* found inside a closed fold: its head, and itself once that is open */
        assert_true(ui_here(w.ui).fold >= 0);
        world_keys(&w, "o");
        assert_string_equal(session_model(s)->linears[ui_here(w.ui).linear].name, "model.layers.4.mlp.up_proj");
        world_keys(&w, "F F F"); /* block, none, group: a dense model has no experts */
        assert_int_equal(session_fold_mode(s), FOLD_GROUP);
        assert_int_equal(app_execute(&w.app, "fold experts", &(Error){ST_OK, ""}), ST_OK);
        world_keys(&w, "o");
        world_shows(&w, "no two rows of this table belong together", true);
        world_close(&w);
    }
}

static void test_job_fills_table(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    world_keys(&w, "m r");
    assert_true(session_busy(w.app.session));
    world_keys(&w, "3");
    world_shows(&w, "std", true);
    world_keys(&w, "q Q");
    world_shows(&w, "a job runs. Quit?", true);
    world_keys(&w, "n");
    world_wait(&w);
    world_shows(&w, "std done in", true);
    world_shows(&w, "worst: layers.", true);
    world_keys(&w, "1 g x F5");
    world_wait(&w);
    world_shows(&w, "measured: KL", true);
    world_shows(&w, " before, top-1", true);
    world_keys(&w, "C C C c 3");
    world_shows(&w, "done", true);
    assert_false(w.app.quit);
    world_keys(&w, "q q");
    world_shows(&w, "quit?", true);
    world_keys(&w, "y");
    assert_true(w.app.quit);
    world_close(&w);
}

static void test_script_on_screen(void **state)
{
    (void)state;
    World w;
    Error err = {ST_OK, ""};
    world_open(&w, 80, 24, "ascii", true, false);
    assert_int_equal(
        player_lines(w.ui, "demo.slim", "# a comment\ntag *layers.0.*\nwait\n\nnonsense\nexclude *\n", &err), ST_OK);
    for (int i = 0; i < 20 && w.ui->player; i++)
        player_step(w.ui);
    assert_null(w.ui->player);
    assert_int_equal(w.ui->script_status, ST_USAGE);
    assert_non_null(strstr(w.ui->script_error.text, "demo.slim:5: "));
    assert_true(session_tagged(w.app.session, 0));
    assert_int_equal(session_level_of(w.app.session, 10), 1);
    world_close(&w);
}

/* Commands that only a screen has. */
static void test_commands_of_the_screen(void **state)
{
    (void)state;
    World w;
    Error err = {ST_OK, ""};
    world_open(&w, 80, 24, "ascii", true, false);
    char file[] = "/tmp/test_screen_XXXXXX", line[64], *text, *screen;
    size_t n;
    close(mkstemp(file));
    assert_int_equal(app_execute(&w.app, "screen whatif", &err), ST_OK);
    assert_ptr_equal(w.ui->view, view_find("whatif"));
    assert_int_equal(app_execute(&w.app, "screen nowhere", &err), ST_USAGE);
    Look before = w.ui->term.theme.look[SL_TITLE];
    assert_int_equal(app_execute(&w.app, "theme themes/mono.theme", &err), ST_OK);
    assert_string_equal(w.ui->term.theme.name, "themes/mono.theme");
    assert_memory_not_equal(&w.ui->term.theme.look[SL_TITLE], &before, sizeof before);
    assert_int_equal(app_execute(&w.app, "theme nosuch", &err), ST_USAGE);
    assert_int_equal(app_execute(&w.app, "bind F9 screen jobs", &err), ST_OK);
    assert_int_equal(app_execute(&w.app, "bind Fx undo", &err), ST_USAGE);
    world_keys(&w, "F9");
    assert_ptr_equal(w.ui->view, view_find("jobs"));
    snprintf(line, sizeof line, "dump %s", file);
    if (app_execute(&w.app, line, &err) != ST_OK)
        fail_msg("%s: %s", line, err.text);
    assert_int_equal(file_read(file, 1 << 20, &text, &n, &err), ST_OK);
    screen = world_screen(&w);
    assert_string_equal(text, screen);
    free(text);
    free(screen);
    unlink(file);
    world_close(&w);
}

static unsigned next(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Lines that keys alone would hardly make. */
static const char *const texts[] = {
    ":exclude last=2\n", ":include *\n", ":sort name desc\n", ":filter score>1 !float\n", ":filter\n", ":fold group\n", ":fold none\n",
    ":columns std advice\n", ":columns none\n", ":tag *q_proj\n", ":savefilter a attn\n", ":filter @a\n", ":set lang=zh\n", ":set lang=en\n",
    ":help\n", ":help exclude\n", ":history\n", ":nosuch\n", ":undo\n", ":redo\n", ":theme mono\n", ":recipe default\n", ":show std\n",
    ":show kurtosis\n", ":rank\n", ":columns\n", ":compare list\n", ":bind K undo\n", ":exclude 'open\n", "\\layer=2..5\n", "/attn\n", "p*.3.*\n",
    ":screen jobs\n", ":screen rank\n", ":front\n", ":sheet a.csv!\n", ":export r.yaml!\n",
};

/* Keys of the table, lines, characters, controls, odd codes; sizes down to one cell. Whatever happens, it must go on.
 * SLIMSCOPE_FUZZ_KEYS: how many; `make fuzz-keys` tries a hundred thousand under ASan. */
static void test_any_key_any_size(void **state)
{
    (void)state;
    World w;
    unsigned seed = 20240607;
    int keys = getenv("SLIMSCOPE_FUZZ_KEYS") ? atoi(getenv("SLIMSCOPE_FUZZ_KEYS")) : 20000, rows = 0;
    const KeyRow *row[400];
    for (int v = -1; v < 0 || view_table[v]; v++)
        for (const KeyRow *r = v < 0 ? key_table : view_table[v]->keys; r && r->help && rows < 400; r++)
            row[rows++] = r;
    world_open(&w, 80, 24, "braille", true, false);
    char *home = realpath(".", NULL);
    assert_int_equal(chdir(w.dir), 0); /* paths typed by chance stay here */
    enum { TEXTS = sizeof texts / sizeof texts[0] };
    for (int i = 0; i < keys; i++) {
        unsigned kind = next(&seed) % 10;
        int key = (int)(next(&seed) % 0x300);
        if (kind < 5)
            key = row[next(&seed) % (unsigned)rows]->keys[0];
        else if (kind < 8)
            key = 32 + (int)(next(&seed) % 95);
        else if (kind == 8)
            key = KEY_CODE(256 + (int)(next(&seed) % 300));
        if (key == '!' || key == 'r' ||
            key == KEY_CODE(KEY_F(5))) /* jobs have their own test; here they would only take time */
            continue;
        unsigned bits = DO_NOTHING;
        for (const char *c = next(&seed) % 50 ? "" : texts[next(&seed) % TEXTS]; *c; c++)
            bits |= ui_key(w.ui, *c);
        bits |= ui_key(w.ui, key);
        if (bits & DO_RELAYOUT)
            ui_set_size(w.ui, w.ui->rows, w.ui->cols);
        if (next(&seed) % 40 == 0)
            world_resize(&w, 1 + (int)(next(&seed) % 220), 1 + (int)(next(&seed) % 70));
        ui_pump(w.ui);
        ui_paint(w.ui);
    }
    world_resize(&w, 1, 1);
    world_resize(&w, 500, 200);
    Session *s = w.app.session;
    for (int i = 0; i < session_jobs(s); i++) /* one that writes knows its folder from here */
        session_cancel_job(s, session_job(s, i)->id, 2, NULL);
    while (session_busy(s) && session_wait(s, NULL) != ST_USAGE)
        ;
    assert_int_equal(chdir(home), 0);
    free(home);
    world_close(&w);
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    setenv("LC_ALL", "C.UTF-8", 1);
    if (argc > 1 && strcmp(argv[1], "--record") == 0) {
        world_record();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_utf8),
        cmocka_unit_test(test_golden_block),
        cmocka_unit_test(test_golden_ascii),
        cmocka_unit_test(test_no_model),
        cmocka_unit_test(test_group_moves_together),
        cmocka_unit_test(test_cursor_follows_layer),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_paste_tags),
        cmocka_unit_test(test_fold_takes_every_action),
        cmocka_unit_test(test_folds_open_and_close),
        cmocka_unit_test(test_export_leads_to_weights),
        cmocka_unit_test(test_job_fills_table),
        cmocka_unit_test(test_script_on_screen),
        cmocka_unit_test(test_commands_of_the_screen),
        cmocka_unit_test(test_calm),
        cmocka_unit_test(test_mouse),
        cmocka_unit_test(test_drawn_anew),
        cmocka_unit_test(test_sorted_both_ways),
        cmocka_unit_test(test_any_key_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
