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
#include "session/fold.h"
#include "session/settings.h"
#include "src/commands.h"
#include "ui/ui.h"
#include "src/internal.h"
#include "src/output.h"
#include "ui/ui.h"

#define MODEL "lab_models/demo"
#define TEXTS "tests/golden/analysis/_models/calib5.jsonl"
#define RECIPE "tests/golden/config/broken/00-good-base.yaml"

/* ---- the table ---- */

static void every_command_is_complete(void **state)
{
    (void)state;
    for (int i = 0; command_table[i]; i++) {
        const Command *c = command_table[i];
        assert_non_null(c->name);
        assert_non_null(c->args);
        assert_non_null(c->summary);
        assert_non_null(c->run);
        assert_ptr_equal(command_find(c->name), c);
        assert_int_equal(c->summary[strlen(c->summary) - 1], '.');
        assert_false((c->flags & CMD_EDIT) && (c->flags & CMD_NEUTRAL));
        for (const Option *o = c->options; o && o->name; o++) {
            assert_true(o->type == ARG_FLAG ? o->value == NULL : o->value != NULL);
            for (const Option *other = c->options; other != o; other++)
                assert_string_not_equal(o->name, other->name);
        }
    }
    assert_null(command_find("frobnicate"));
    assert_null(command_find(""));
}

static void the_manual_names_everything(void **state)
{
    (void)state;
    Str man = {0};
    write_man_page(&ui_face, &man);
    for (int i = 0; command_table[i]; i++) {
        char head[64];
        snprintf(head, sizeof head, ".SS %s", command_table[i]->name);
        assert_non_null(strstr(str_text(&man), head));
    }
    assert_null(strstr(str_text(&man), "\\-\\-man\n")); /* hidden */
    str_free(&man);
}

/* ---- history: undone edits are left out, unless something saw them ---- */

static void quiet(void *ctx, const char *text, size_t len)
{
    if (ctx)
        str_append(ctx, text, len);
}

/* Runs lines (all must pass) and gives the saved script without comments and without the line that opens the model. */
static char *saved(const char *const *lines)
{
    App a;
    Error err = {0};
    char path[] = "/tmp/test_commands_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(app_init(&a, FACE_SCRIPT, &err), ST_OK);
    a.print = quiet;
    assert_int_equal(app_execute(&a, "open " MODEL, &err), ST_OK);
    for (; *lines; lines++)
        if (app_execute(&a, *lines, &err) != ST_OK)
            fail_msg("%s: %s", *lines, err.text);
    Str save = {0};
    str_printf(&save, "history --save %s !", path);
    assert_int_equal(app_execute(&a, str_text(&save), &err), ST_OK);
    str_free(&save);
    app_fini(&a);
    char *text, *line, *rest;
    size_t len;
    assert_int_equal(file_read(path, 1 << 20, &text, &len, &err), ST_OK);
    unlink(path);
    Str out = {0};
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (line[0] != '#' && strncmp(line, "open ", 5) != 0)
            str_printf(&out, "%s%s", out.len ? "; " : "", line);
    free(text);
    return str_detach(&out);
}

#define A "exclude *.0.mlp.down_proj"
#define B "exclude *.1.mlp.down_proj"
#define C "include *.0.mlp.down_proj"

static void undone_edits_are_left_out(void **state)
{
    (void)state;
    static const struct {
        const char *lines[12], *want;
    } cases[] = {
        {{A, B}, A "; " B},
        {{A, "undo"}, ""},
        {{A, B, "undo"}, A},
        {{A, B, "undo", "undo"}, ""},
        {{A, "undo", "redo"}, A},
        {{A, B, "undo", "undo", "redo"}, A},
        {{A, B, "undo", "undo", "redo", "redo"}, A "; " B},
        {{A, "undo", B}, B},
        {{A, "sort name", "undo"}, "sort name"},
        {{A, "sort name desc", B, "undo", "undo"}, "sort name desc"},
        {{A, "export --preview", "undo"}, A "; export --preview; undo"},
        {{A, "export --preview", "undo", "redo"}, A "; export --preview"},
        {{A, "export --preview", B, "undo", "undo", "redo", "redo"}, A "; export --preview; " B},
        {{A, "export --preview", "undo", "export --preview", "redo"},
         A "; export --preview; undo; export --preview; redo"},
        {{A, A, "undo"}, A " # no change"},
        {{C, A, C, "undo", "undo"}, C " # no change"},
        {{"tag *.0.*", "undo", "filter q_proj", "undo"}, ""},
        {{"  exclude   '*.0.mlp.down_proj'   # why"}, A},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = saved(cases[i].lines);
        assert_string_equal(got, cases[i].want);
        free(got);
    }
}

static void failed_commands_are_not_recorded(void **state)
{
    (void)state;
    App a;
    Error err = {0};
    assert_int_equal(app_init(&a, FACE_SCRIPT, &err), ST_OK);
    a.print = quiet;
    assert_int_equal(app_execute(&a, "", &err), ST_OK);
    assert_int_equal(app_execute(&a, "# nothing", &err), ST_OK);
    assert_int_equal(app_execute(&a, "open " MODEL, &err), ST_OK);
    assert_int_equal(app_execute(&a, "exclude nothing", &err), ST_DATA);
    assert_int_equal(app_execute(&a, "undo", &err), ST_USAGE);
    assert_int_equal(app_execute(&a, "help", &err), ST_OK);
    assert_int_equal(session_commands(a.session), 1);
    assert_ptr_equal(strstr(session_command(a.session, 0), "open /"), session_command(a.session, 0));
    char *words[] = {"exclude", "two words\nlines"};
    assert_int_equal(app_execute_words(&a, 2, words, &err), ST_USAGE);
    assert_non_null(strstr(err.text, "line break"));
    app_fini(&a);
}

static void run_line(App *a, const char *line)
{
    Error err = {0};
    if (app_execute(a, line, &err) != ST_OK)
        fail_msg("%s: %s", line, err.text);
}

/* What commands of the language leave in the session; each line goes on from those before. */
static void lines_change_the_session(void **state)
{
    (void)state;
    App a;
    Error err = {0};
    bool ascending;
    assert_int_equal(app_init(&a, FACE_SCRIPT, &err), ST_OK);
    a.print = quiet;
    run_line(&a, "open " MODEL);
    const Session *s = a.session;
    const int64_t down = model_find_linear(session_model(s), "model.layers.0.mlp.down_proj");
    assert_int_equal(session_model(s)->nlinears, 56);
    run_line(&a, "calib " TEXTS);
    assert_non_null(strstr(session_calib(s), TEXTS));
    run_line(&a, "eval " TEXTS);
    assert_non_null(strstr(session_eval(s), TEXTS));
    run_line(&a, "set seed=7");
    assert_int_equal(session_options(s)->seed, 7);
    assert_string_equal(session_level_name(s, 1), "W8A8");
    run_line(&a, "recipe " RECIPE);
    assert_string_equal(session_level_name(s, 1), "W8A8_DYNAMIC");
    assert_int_equal(session_level_of(s, down), 0); /* it excludes them */
    run_line(&a, "recipe default");
    assert_int_equal(session_level_of(s, down), 1);
    run_line(&a, "show std");
    assert_string_equal(session_metric(s)->name, "std");
    run_line(&a, "sort name desc");
    assert_int_equal(session_sort_key(s, &ascending), SORT_NAME);
    assert_false(ascending);
    run_line(&a, "fold kind");
    assert_int_equal(session_fold_mode(s), fold_mode_find("kind"));
    run_line(&a, "filter down_proj layer=0..1");
    assert_string_equal(session_filter_text(s), "down_proj layer=0..1");
    run_line(&a, "tag *.0.mlp.down_proj");
    assert_true(session_tagged(s, down) && session_tag_count(s) == 1);
    run_line(&a, "exclude tagged");
    assert_int_equal(session_level_of(s, down), 0);
    run_line(&a, "undo");
    assert_int_equal(session_level_of(s, down), 1);
    run_line(&a, "redo");
    assert_int_equal(session_level_of(s, down), 0);
    run_line(&a, "include tagged");
    assert_int_equal(session_level_of(s, down), 1);
    run_line(&a, "level float *.0.mlp.down_proj");
    assert_int_equal(session_level_of(s, down), 0);
    app_fini(&a);
}

/* Every setting can be given where a run is started, and `set` names it. */
static void settings_are_options(void **state)
{
    (void)state;
    static const char *const verbs[] = {"workbench", "measure"};
    for (const Setting *s = setting_table; s->key; s++) {
        const Command *set = command_find("set");
        if (!strstr(set->summary, s->key) && !strstr(set->help, s->key))
            fail_msg("'set' doesn't name '%s'", s->key);
        static const char *const not_of_measure[] = {"tokens", "labels", "budget", "session-cap"};
        int of = 2;
        for (size_t i = 0; i < sizeof not_of_measure / sizeof *not_of_measure; i++)
            of = strcmp(s->key, not_of_measure[i]) == 0 ? 1 : of;
        for (int i = 0; i < of && strcmp(s->key, "eval-tokens") != 0; i++) /* measure --full says that one */
            if (!option_find(command_find(verbs[i]), s->key, strlen(s->key), NULL))
                fail_msg("'%s' has no --%s", verbs[i], s->key);
    }
}

/* ---- completion ---- */

/* Completions of a line, joined by blanks. */
static char *complete(App *a, const char *line)
{
    char **list = app_complete(a, line);
    Str b = {0};
    for (int i = 0; list && list[i]; i++) {
        str_printf(&b, "%s%s", i ? " " : "", list[i]);
        free(list[i]);
    }
    free(list);
    return str_detach(&b);
}

static void completed_words_are_explained(void **state)
{
    (void)state;
    App a;
    Error err = {0};
    assert_int_equal(app_init(&a, FACE_SCRIPT, &err), ST_OK);
    assert_int_equal(app_execute(&a, "set threads=3 eval-tokens=0", &err), ST_OK);
    static const struct {
        const char *line, *word, *want;
    } cases[] = {
        {"", "undo", "Take the newest edit back."},
        {"help un", "undo", "Take the newest edit back."},
        {"analyze ", "kurtosis", "Kurtosis"},
        {"tag --o", "--off", "take the tag away"},
        {"set ", "threads=", "now 3: compute threads"},
        {"set ", "dtype-sim=", "now fp32: arithmetic"},
        {"set dtype-sim=", "dtype-sim=fast", "now fp32; fast: float32, but products of matrices take bf16 inputs"},
        {"set eval-tokens=", "eval-tokens=", "now all: evaluation tokens of a measurement, 0 for all"},
        {"calib ", "undo", ""},
        {"nosuch ", "undo", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str b = {0};
        app_complete_help(&a, cases[i].line, cases[i].word, &b);
        assert_string_equal(str_text(&b), cases[i].want);
        str_free(&b);
    }
    for (const Setting *s = setting_table; s->key; s++) {
        Str b = {0};
        app_complete_help(&a, "set ", s->key, &b);
        if (!strncmp(str_text(&b), "now ", 4) == 0)
            fail_msg("nothing is told of the setting '%s'", s->key);
        str_free(&b);
    }
    app_fini(&a);
}

static void words_are_completed_by_what_they_are(void **state)
{
    (void)state;
    App a;
    Error err = {0};
    assert_int_equal(app_init(&a, FACE_SCRIPT, &err), ST_OK);
    assert_int_equal(app_execute(&a, "open " MODEL, &err), ST_OK);
    a.screen = &ui_face;
    static const struct {
        const char *line, *want;
    } cases[] = {
        {"screen ra", "rank"},
        {"exc", "exclude"},
        {"re", "recipe redo replay report resume"},
        {"async mea", "measure"},
        {"frobnicate x", ""},
        {"analyze ku", "kurtosis"},
        {"set thr", "threads="},
        {"set compat=", "compat=none compat=peer"},
        {"set dtype-sim=e", "dtype-sim=exact"},
        {"analyze --fo", "--format"},
        {"analyze --format ", "csv json text yaml"},
        {"analyze --format=js", ""},
        {"analyze --metrics kurtosis st", "std"},
        {"analyze --max-samples ", ""},
        {"exclude mod", "model."},
        {"exclude model.layers.7.m", "model.layers.7.mlp."},
        {"exclude model.layers.7.mlp.d", "model.layers.7.mlp.down_proj"},
        {"exclude model.layers.7.mlp.down_proj tag", "tagged"},
        {"exclude 'model.layers.7.mlp.d", "model.layers.7.mlp.down_proj"},
        {"level W", "W8A8"},
        {"level W8A8 mod", "model."},
        {"sort s", "score second size"},
        {"fold ", "block experts group kind none"},
        {"help und", "undo"},
        {"open lab_models/demo/tokenizer.", "lab_models/demo/tokenizer.json"},
        {"open lab_mo", "lab_models/"},
        {"exclude x # comm", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = complete(&a, cases[i].line);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("'%s' completes to '%s', not '%s'", cases[i].line, got, cases[i].want);
        free(got);
    }
    app_fini(&a);
}

/* ---- numbers ---- */

static void numbers_take_the_fewest_digits(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0, "0"},
                 {1, "1"},
                 {-3, "-3"},
                 {0.1, "0.1"},
                 {1.0 / 3, "0.3333333333333333"},
                 {1e300, "1e+300"},
                 {5e-324, "5e-324"},
                 {12.5, "12.5"},
                 {0.1 + 0.2, "0.30000000000000004"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Str b = {0};
        str_double(&b, cases[i].v);
        assert_string_equal(str_text(&b), cases[i].text);
        str_free(&b);
    }
    Str b = {0};
    str_double(&b, 0.0 / (double)0);
    str_double(&b, 1e308 * 10);
    assert_string_equal(str_text(&b), "nullnull");
    str_clear(&b);
    str_bytes(&b, 1023);
    str_bytes(&b, 1536);
    assert_string_equal(str_text(&b), "1023 B1.5 KiB");
    str_free(&b);
}

static void topk_counts_groups_of_equal_scores(void **state)
{
    (void)state;
    const RankedRow rows[] = {
        {.failed = true, .unit = 4},
        {.failed = true, .unit = 5},
        {.score = 9},
        {.score = 9},
        {.score = 9},
        {.score = 3},
        {.score = 1},
        {.score = 1},
    };
    static const int want[] = {0, 5, 6, 8, 8, 8, 8};
    for (int k = 1; k < 7; k++)
        assert_int_equal(ranking_cut(rows, 8, k), want[k]);
    assert_int_equal(ranking_cut(rows, 0, 3), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_is_complete),
        cmocka_unit_test(the_manual_names_everything),
        cmocka_unit_test(undone_edits_are_left_out),
        cmocka_unit_test(failed_commands_are_not_recorded),
        cmocka_unit_test(lines_change_the_session),
        cmocka_unit_test(settings_are_options),
        cmocka_unit_test(words_are_completed_by_what_they_are),
        cmocka_unit_test(completed_words_are_explained),
        cmocka_unit_test(numbers_take_the_fewest_digits),
        cmocka_unit_test(topk_counts_groups_of_equal_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
