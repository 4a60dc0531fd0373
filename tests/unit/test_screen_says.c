/* What the workbench says at each size: figures, messages, details, what a filter passes, what Tab offers, which keys. */
#include <locale.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/fold.h"
#include "tests/lib/screen_world.h"
#include "ui/keys.h"

static const struct Size {
    int cols, rows;
} sizes[] = {{60, 15}, {80, 24}, {100, 30}, {200, 60}};

/* At no size does a message cover the figures, nor a figure lose digits. */
static void test_messages_beside_figures(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        world_keys(&w, "g j j j j x");
        world_shows(&w, "1 linear sent to float", true);
        world_shows(&w, "float 6/56  size 6.8 MiB", true);
        world_shows(&w, "KL 0.01", true);
        world_shows(&w, "STALE KL 0.0", true);
        world_shows(&w, "56/56", true);
        static const char text[] = "measured: KL 0.02053, perplexity 92.83 (float 88.1), top-1 agreement 87.3 %, "
                                   "and a tail that no screen of a hundred columns shows, only the widest one, it seems, "
                                   "shows the whole of it";
        ui_say(w.ui, SL_OK, "%s", text);
        world_shows(&w, "float 6/56  size 6.8 MiB", true);
        world_shows(&w, "KL 0.02053,", true);
        world_shows(&w, text, sizes[i].cols == 200);
        Session *s = w.app.session;
        bool logged = strcmp(session_log_line(s, session_log_lines(s) - 1).text, text) == 0;
        assert_int_equal(logged, sizes[i].cols < 200);
        world_keys(&w, "\\");
        world_type(&w, "mlp");
        world_keys(&w, "Enter f f > >");
        world_shows(&w, "of 56", true);
        world_shows(&w, "56/56", true);
        world_close(&w);
    }
}

/* No command that succeeds is silent, and the log has it with its time. */
static void test_success_is_told(void **state)
{
    (void)state;
    World w;
    char dir[] = "/tmp/test_said_XXXXXX";
    assert_non_null(mkdtemp(dir));
    world_open(&w, 100, 30, "ascii", true, false);
    static const struct {
        const char *line, *said;
    } cases[] = {
        {"theme themes/mono.theme", "colours of the theme themes/mono.theme"},
        {"theme default", "colours of the theme default"},
        {"set eval-tokens=256", "set: eval-tokens=256"},
        {"set threads 1", "threads is 1 now"},
        {"dump @/screen.txt", "the screen was written to @/screen.txt"},
        {"bind F6 undo", "F6 runs 'undo' from now on"},
        {"recipe default", "recipe"},
        {"calib " SCREEN_CALIB, "calibration texts are those of"},
        {"eval " SCREEN_CALIB, "evaluation texts are those of"},
        {"show std", "std: "},
        {"sort name", "sorted by name, rising"},
        {"filter attn", "32 layers of 56 pass"},
        {"filter", "the filter is gone"},
        {"fold kind", "folded by kind: 7 folds"},
        {"fold none", "every layer has its row again"},
        {"tag *layers.0.*", "tagged"},
        {"columns kind advice", "shown too: kinds, and advice by rules"},
        {"columns none", "only the usual columns are shown"},
        {"exclude model.layers.0.self_attn.q_proj", "3 linears sent to float: +93.0 KiB; a fused group stays whole"},
        {"undo", "undone: "},
        {"exclude *layers.0.mlp.down_proj", "1 linear sent to float: +126.0 KiB"},
        {"include *layers.0.mlp.down_proj", "1 linear quantized again: -126.0 KiB"},
        {"undo", "undone: "},
        {"undo", "undone: "},
        {"export @/best.yaml", "written: @/best.yaml"},
        {"history --save @/h.slim", "written: @/h.slim"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str line = {0}, said = {0};
        for (const char *c = cases[i].line; *c; c++)
            str_printf(&line, *c == '@' ? "%s" : "%.1s", *c == '@' ? dir : c);
        for (const char *c = cases[i].said; *c; c++)
            str_printf(&said, *c == '@' ? "%s" : "%.1s", *c == '@' ? dir : c);
        Session *s = w.app.session;
        int logged = session_log_lines(s);
        ui_command(w.ui, "%s", str_text(&line));
        if (!strstr(w.ui->message, str_text(&said)))
            fail_msg("'%s': '%s' says not '%s'", str_text(&line), w.ui->message, str_text(&said));
        LogLine l = session_log_line(s, logged);
        assert_int_equal(l.text[0], ':');
        assert_string_equal(l.text + 1, str_text(&line));
        assert_true(l.when > 1700000000);
        str_free(&line);
        str_free(&said);
    }
    ui_command(w.ui, "exclude *layers.3.*"); /* measured by nobody yet */
    world_keys(&w, "F5");
    world_shows(&w, "measuring the real effect", true);
    world_keys(&w, "1 r");
    world_shows(&w, "is queued behind #", true);
    world_wait(&w);
    world_keys(&w, "3");
    world_shows(&w, "starts", true);
    world_shows(&w, ":measure", true);
    world_close(&w);
    Str cmd = {0};
    str_printf(&cmd, "rm -r '%s'", dir);
    assert_int_equal(system(cmd.s), 0);
    str_free(&cmd);
}

/* A key that was bound anew is told so in the bar; what can't be run is refused when it is bound. */
static void test_bound_keys_are_told(void **state)
{
    (void)state;
    World w;
    Error err = {ST_OK, ""};
    world_open(&w, 200, 60, "ascii", true, false);
    world_shows(&w, "F6Sort", true);
    assert_int_equal(app_execute(&w.app, "bind F6 screen jobs", &err), ST_OK);
    world_shows(&w, "F6screen", true);
    world_shows(&w, ">Sort", true); /* by the key that is left to it */
    world_shows(&w, "F6Sort", false);
    assert_int_equal(app_execute(&w.app, "bind Z tag *layers.0.*", &err), ST_OK);
    world_shows(&w, "Ztag", true);
    assert_int_equal(app_execute(&w.app, "bind K up", &err), ST_USAGE);
    assert_non_null(strstr(err.text, "unknown command 'up'"));
    assert_int_equal(app_execute(&w.app, "bind K 'nosuch *'", &err), ST_USAGE);
    assert_int_equal(app_execute(&w.app, "bind F7 'exclude *layers.0.mlp.*'", &err), ST_OK);
    world_keys(&w, "Z");
    world_shows(&w, "8 tagged", true);
    world_keys(&w, "F7");
    world_shows(&w, "3 linears sent to float", true);
    world_keys(&w, "?");
    world_shows(&w, "exclude *layers.0.mlp.*", true);
    world_shows(&w, "> < ", false);
    world_keys(&w, "q 9");
    world_shows(&w, "there is no screen 9", true);
    world_close(&w);
}

/* Tab offers without what the line shows already, tells what each is, and how many it left out. */
static void test_completion_is_shown(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        world_keys(&w, ": Tab");
        world_shows(&w, "Score every linear's", true);
        world_shows(&w, "PgDn scrolls  Down chooses", true);
        char *first = world_screen(&w);
        assert_non_null(strstr(first, " 1-"));
        free(first);
        world_keys(&w, "PgDn");
        world_shows(&w, " 1-", false); /* it scrolls */
        world_keys(&w, "PgUp");
        world_shows(&w, "float 5/56", true); /* the figures stay */
        world_type(&w, "undo");
        world_shows(&w, "Score every linear's", false);
        world_keys(&w, "^U");
        world_type(&w, "set ");
        world_keys(&w, "Tab");
        world_shows(&w, "now 128: tokens of an evaluation window", true);
        world_keys(&w, "^U");
        world_type(&w, "exclude model.layers.3.");
        world_keys(&w, "Tab Tab");
        world_shows(&w, " mlp.        self_attn.", true);
        world_shows(&w, "exclude model.layers.3.", true);
        world_keys(&w, "Esc");
        world_close(&w);
    }
}

/* The list above the command line narrows with each letter, finds commands by what they are for, and gives its words. */
static void test_palette(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        world_keys(&w, ":");
        world_shows(&w, "Score every linear's", true); /* without Tab */
        world_type(&w, "fol");
        world_shows(&w, "Score every linear's", false);
        world_shows(&w, "Fold the table", true);
        world_keys(&w, "^U");
        world_type(&w, "colours"); /* begins no command */
        world_shows(&w, "theme", true);
        world_keys(&w, "Down Enter");
        world_shows(&w, ":theme", true);
        world_keys(&w, "^U");
        world_type(&w, "fold ki");
        world_shows(&w, "fold none|block|kind", true); /* what it takes */
        world_keys(&w, "Tab Enter");
        world_shows(&w, "folded by kind", true);
        world_keys(&w, ":");
        world_type(&w, "sort name");
        world_keys(&w, "Enter :");
        world_type(&w, "fol");
        world_keys(&w, "^R");
        world_shows(&w, ":fold kind", true);
        world_shows(&w, "line 1 of 1 of the history with 'fol'", true);
        world_keys(&w, "^R");
        world_shows(&w, "no older line of the history holds 'fol'", true);
        world_keys(&w, "Esc : Up");
        world_shows(&w, ":sort name", true);
        world_keys(&w, "Down Esc");
        world_close(&w);
    }
}

/* Filters that have names, presets, and what was filtered by before. */
static void test_filters_kept(void **state)
{
    (void)state;
    World w;
    int64_t n;
    world_open(&w, 80, 24, "ascii", true, false);
    Session *s = w.app.session;
    world_keys(&w, "\\");
    world_type(&w, "last=2 !attn");
    world_keys(&w, "Enter");
    session_order(s, &n, false);
    assert_int_equal(n, 2 * 3);
    world_keys(&w, ":");
    world_type(&w, "savefilter late");
    world_keys(&w, "Enter");
    world_shows(&w, "kept as @late", true);
    world_keys(&w, "Esc \\");
    world_type(&w, "@la");
    world_shows(&w, "no filter is kept as '@la': there are @late", true);
    world_type(&w, "te kind=down_proj");
    session_order(s, &n, false);
    assert_int_equal(n, 2);
    world_keys(&w, "Esc \\ Up");
    world_shows(&w, "filter: last=2 !attn", true);
    world_keys(&w, "^U");
    world_type(&w, "kind=");
    world_keys(&w, "Tab");
    world_shows(&w, "kind=o_proj", true);
    world_keys(&w, "Esc \\");
    world_type(&w, "first=x");
    world_shows(&w, "first= and last= take a number of blocks", true);
    world_keys(&w, "Esc");
    world_close(&w);
}

/* A filter narrows the table while it is typed, counts, says what it doesn't understand, and is no edit before Enter. */
static void test_filter_is_live(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        int64_t n;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        Session *s = w.app.session;
        int undo = session_undo_depth(s);
        world_keys(&w, "g j j \\");
        int64_t at = ui_here(w.ui).linear;
        world_type(&w, "attn");
        session_order(s, &n, false);
        assert_int_equal(n, 32);
        world_shows(&w, "32 layers of 56 pass", true);
        world_shows(&w, "words, kind= layer=3..7 score>9 float !word; Tab lists", true); /* the hint stays */
        world_shows(&w, "mlp.", false);
        world_type(&w, " scor>10");
        world_shows(&w, "'scor>10': only scores are compared", true);
        world_keys(&w, "Enter");
        world_shows(&w, "'scor>10': only scores are compared", true);
        assert_string_equal(session_filter_text(s), "");
        world_keys(&w, "\\");
        world_type(&w, "layers.5. layer=9");
        world_shows(&w, "0 layers of 56 pass", true);
        world_keys(&w, "Esc"); /* nothing changed */
        session_order(s, &n, false);
        assert_int_equal(n, 56);
        assert_int_equal(ui_here(w.ui).linear, at);
        assert_int_equal(session_undo_depth(s), undo);
        world_keys(&w, "\\");
        world_type(&w, "gate_proj");
        world_keys(&w, "Enter");
        world_shows(&w, "8 of 56", true);
        assert_int_equal(session_undo_depth(s), undo + 1);
        world_keys(&w, "\\ Backspace Backspace Backspace Backspace Backspace Backspace Backspace Backspace Backspace");
        session_order(s, &n, false);
        assert_int_equal(n, 56); /* an empty line shows all, still no edit */
        world_keys(&w, "Backspace");
        assert_string_equal(session_filter_text(s), "gate_proj");
        world_keys(&w, "u");
        session_order(s, &n, false);
        assert_int_equal(n, 56);
        world_close(&w);
    }
}

/* At every size: what leads to the details, and all of them down to what the metric means; other layers from there. */
static void test_details_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        const Model *m = session_model(w.app.session);
        world_shows(&w, "EnterDetails", true);
        world_keys(&w, "g Enter");
        int64_t first = ui_here(w.ui).linear, n;
        world_shows(&w, m->linears[first].name, true);
        bool scrolls = sizes[i].rows < 60;
        world_shows(&w, "J K next layer", scrolls);
        world_keys(&w, "j");
        assert_int_equal(ui_here(w.ui).linear, first); /* only the details moved */
        world_shows(&w, "lines 2-", scrolls);
        world_keys(&w, "PgDn PgDn PgDn PgDn");
        world_shows(&w, "unseen.", true); /* the last word of what kurtosis means */
        world_keys(&w, "J");
        int64_t second = session_order(w.app.session, &n, false)[1];
        assert_int_equal(ui_here(w.ui).linear, second);
        world_shows(&w, m->linears[second].name, true);
        world_keys(&w, "m");
        assert_int_equal(ui_here(w.ui).linear, second);
        world_keys(&w, "M G K");
        assert_int_equal(ui_here(w.ui).linear, first);
        world_shows(&w, m->linears[first].name, true); /* from its first line */
        world_keys(&w, "q J");
        world_shows(&w, "no details are shown beside the table", sizes[i].cols < 100);
        assert_int_equal(ui_here(w.ui).linear, first);
        world_keys(&w, "H"); /* as numbers: enough of them */
        char *screen = world_screen(&w), *line = strstr(screen, " %\n");
        int bins = 0;
        for (; line; line = strstr(line + 1, " %\n"))
            bins++;
        if (sizes[i].rows >= 24 && bins < 10)
            fail_msg("%d bins in:\n%s", bins, screen);
        if (sizes[i].rows >= 60 && !strstr(screen, "0.1 % "))
            fail_msg("no percentiles in:\n%s", screen);
        free(screen);
        world_close(&w);
    }
}

/* Nobody meant a row yet: the top shows what is worst. From the first key that means a row on, the cursor stays on its
 * layer, also where that is the first row. */
static void test_first_row_keeps_its_layer(void **state)
{
    (void)state;
    static const char *const keys[] = {"m", "M", ">", "I", "Enter m", "g m", "j k >", "x u >"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        World w;
        int64_t n;
        Error err = {ST_OK, ""};
        world_open(&w, 80, 24, "ascii", true, false);
        Session *s = w.app.session;
        session_set_cursor(s, -1);
        assert_int_equal(app_execute(&w.app, "sort model", &err), ST_OK);
        assert_int_equal(ui_here(w.ui).linear, 0);
        assert_int_equal(app_execute(&w.app, "sort score", &err), ST_OK);
        int64_t top = session_order(s, &n, true)[0];
        assert_int_equal(ui_here(w.ui).linear, top);
        world_keys(&w, keys[i]);
        if (ui_here(w.ui).linear != top)
            fail_msg("'%s' left the layer", keys[i]);
        world_close(&w);
    }
}

/* The values of the column with the mark are in the order of the mark; where no column shows them, the tab line tells. */
static void test_sort_mark_is_true(void **state)
{
    (void)state;
    World w;
    int64_t n;
    Error err = {ST_OK, ""};
    world_open(&w, 80, 24, "ascii", true, false);
    Session *s = w.app.session;
    assert_int_equal(app_execute(&w.app, "sort size", &err), ST_OK);
    world_shows(&w, "cost v", true);
    const int64_t *order = session_order(s, &n, true);
    for (int64_t i = 1; i < n; i++)
        assert_true(session_linear_cost(s, order[i - 1]) >= session_linear_cost(s, order[i]));
    world_keys(&w, "I");
    order = session_order(s, &n, true);
    for (int64_t i = 1; i < n; i++)
        assert_true(session_linear_cost(s, order[i - 1]) <= session_linear_cost(s, order[i]));
    world_shows(&w, "cost ^", true);
    assert_int_equal(app_execute(&w.app, "sort model", &err), ST_OK);
    world_shows(&w, "by model ^", true);
    world_shows(&w, "# ^", false);
    assert_int_equal(app_execute(&w.app, "sort level", &err), ST_OK);
    world_shows(&w, "levev", true);
    world_resize(&w, 60, 15);
    world_keys(&w, "f"); /* folded there is no room for the column */
    world_shows(&w, "by level", true);
    world_close(&w);
}

/* Whether a text is in sight, at once or after some scrolling by the key. */
static bool comes_into_sight(World *w, const char *key, const char *text)
{
    bool found = false;
    for (int i = 0; i < 20 && !found; i++) {
        char *s = world_screen(w);
        found = strstr(s, text) != NULL;
        free(s);
        world_keys(w, key);
    }
    for (int i = 0; i < 20; i++)
        world_keys(w, "K");
    return found;
}

/* Every figure of What-if and every check of Export can be read at every size; what decides stands first. */
static void test_figures_in_reach(void **state)
{
    (void)state;
    static const char *const figures[] = {"predicted", "STALE      KL", "top-1 ", "linears differ since", "KL p99",
                                          "at first", "float      ppl", "size       "};
    static const char *const checks[] = {"measurement is stale", "round trip", "known keys", "MiB in float",
                                         "W the quantized"};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        world_keys(&w, "2");
        world_shows(&w, "STALE      KL", true);
        world_shows(&w, "linears differ since", true);
        world_shows(&w, "J K scroll", sizes[i].rows == 15);
        for (size_t k = 0; k < sizeof figures / sizeof figures[0]; k++)
            assert_true(comes_into_sight(&w, "J", figures[k]));
        world_keys(&w, "5");
        world_shows(&w, "measurement is stale", true);
        for (size_t k = 0; k < sizeof checks / sizeof checks[0]; k++)
            assert_true(comes_into_sight(&w, "J", checks[k]));
        world_close(&w);
    }
}

/* Two rules never look alike, and the note of the cursor's rule is told where its column has no room. */
static void test_rules_are_told_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        World w;
        world_open(&w, sizes[i].cols, sizes[i].rows, "ascii", true, false);
        ui_command(w.ui, "%s", "exclude model.layers.2.mlp.down_proj");
        ui_command(w.ui, "%s", "exclude model.layers.5.mlp.down_proj");
        ui_command(w.ui, "%s", "exclude *layers.{2,5}.mlp.down_proj");
        world_keys(&w, "2 G");
        world_shows(&w, "layers.2.mlp.down_proj", true);
        world_shows(&w, "layers.5.mlp.down_proj", true);
        world_shows(&w, "! nothing new", true);
        world_keys(&w, "Enter");
        world_shows(&w, "! nothing new", true);
        world_close(&w);
    }
}

/* What is wrong is told whole on a screen of 80 columns: the line of the keys gives way. A success is not. */
static void test_long_errors_are_whole(void **state)
{
    (void)state;
    static const char tail[] = "names look like 'model.layers.0.self_attn.q_proj'";
    World w;
    world_open(&w, 80, 24, "ascii", true, false);
    ui_say(w.ui, SL_ERR, "'model.layer.99.nonsense' selects no layer of this model: %s", tail);
    world_shows(&w, tail + 16, true);
    world_shows(&w, "F1Help", false);
    world_keys(&w, "j");
    world_shows(&w, "F1Help", true);
    ui_say(w.ui, SL_OK, "'model.layer.99.nonsense' selects no layer of this model: %s", tail);
    world_shows(&w, "F1Help", true);
    world_close(&w);
}

/* What is told from the log is not logged again, and edits are told however long the log has become. */
static void test_log_grows_full(void **state)
{
    (void)state;
    World w;
    world_open(&w, 60, 15, "ascii", true, false);
    Session *s = w.app.session;
    session_log(s, 0, "a session of 07:39 has 70 of 336 rows and a name that is longer than the screen: slimscope resume");
    int n = session_log_lines(s);
    w.ui->message[0] = '\0';
    ui_greet(w.ui);
    world_shows(&w, "a session of 07:39", true);
    assert_int_equal(session_log_lines(s), n);
    for (int i = 0; i < 2100; i++)
        session_log(s, 0, "line %d", i);
    assert_int_equal(session_log_lines(s), n + 2100);
    assert_int_equal(session_log_first(s), n + 100);
    assert_string_equal(session_log_line(s, n + 2099).text, "line 2099");
    assert_string_equal(session_log_line(s, n + 100).text, "line 100");
    world_keys(&w, "g j j j j x");
    world_shows(&w, "1 linear sent to float", true);
    world_keys(&w, "u");
    world_shows(&w, "undone: ", true);
    world_keys(&w, "3 Enter G");
    world_shows(&w, "undone: ", true);
    world_close(&w);
}

/* ^C where nothing runs says how to leave; once it stops the job after its tile, twice at once; never does it leave. */
static void test_stopped_once_and_twice(void **state)
{
    (void)state;
    World w;
    world_open(&w, 100, 30, "ascii", true, false);
    Session *s = w.app.session;
    for (int i = 0; i < 2; i++) {
        world_keys(&w, "^C");
        world_shows(&w, "nothing runs; Q or F10 quits", true);
    }
    assert_false(w.app.quit);
    for (int times = 1; times <= 2; times++) {
        Error err = {0};
        assert_int_equal(app_execute(&w.app, "analyze mse_layer_wise", &err), ST_OK);
        const int id = session_job(s, session_jobs(s) - 1)->id;
        char once[100], twice[100];
        snprintf(once, sizeof once, "#%d stops after this tile, finished rows are kept; again: at once", id);
        snprintf(twice, sizeof twice, "#%d stops at once", id);
        while (session_job(s, session_jobs(s) - 1)->state == JOB_WAITING) {
            struct pollfd p = {.fd = session_fd(s), .events = POLLIN};
            poll(&p, 1, -1);
            session_pump(s);
        }
        world_keys(&w, "^C"); /* nothing is taken from the job thread between keys: it runs until then */
        world_shows(&w, once, true);
        if (times == 2) {
            world_keys(&w, "^C");
            world_shows(&w, twice, true);
        }
        world_wait(&w);
        assert_int_equal(session_job(s, session_jobs(s) - 1)->state, JOB_STOPPED);
        assert_false(w.app.quit);
        world_keys(&w, "^C");
        world_shows(&w, "nothing runs; Q or F10 quits", true);
        w.ui->last_int = 0;
    }
    world_close(&w);
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    setenv("LC_ALL", "C.UTF-8", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_beside_figures),
        cmocka_unit_test(test_success_is_told),
        cmocka_unit_test(test_bound_keys_are_told),
        cmocka_unit_test(test_completion_is_shown),
        cmocka_unit_test(test_palette),
        cmocka_unit_test(test_filters_kept),
        cmocka_unit_test(test_filter_is_live),
        cmocka_unit_test(test_details_whole),
        cmocka_unit_test(test_first_row_keeps_its_layer),
        cmocka_unit_test(test_sort_mark_is_true),
        cmocka_unit_test(test_figures_in_reach),
        cmocka_unit_test(test_rules_are_told_apart),
        cmocka_unit_test(test_long_errors_are_whole),
        cmocka_unit_test(test_log_grows_full),
        cmocka_unit_test(test_stopped_once_and_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
