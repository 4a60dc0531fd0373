/* Every key of every screen, in the states that it is for: it changes what is seen or says something; nothing is pressed in vain. */
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

#include "tests/lib/screen_world.h"
#include "src/lang.h"
#include "ui/actions.h"
#include "ui/keys.h"

/* What leads to a state of a screen, from the screen as it is opened. */
static const struct State {
    const char *view, *keys;
} states[] = {
    {"rank", "g"},       {"rank", "G"},           {"rank", "g Enter"},   {"rank", "g d"},          {"rank", "g Enter d"},
    {"rank", "f g"},     {"rank", "f g l j"},     {"rank", "g Space j"}, {"rank", "g Enter D H"},  {"rank", "/ q _ Enter"},
    {"whatif", "g"},     {"whatif", "G"},         {"whatif", "f"},       {"jobs", "g"},            {"jobs", "G"},
    {"jobs", "g Enter"}, {"compare", "g"},        {"compare", "G"},      {"compare", "g a j b ="}, {"compare", "g a j b = h"},
    {"compare", "Tab"},  {"compare", "Tab g a G b ="}, {"export", "g"},  {"export", "d"},          {"calib", "g"},
    {"calib", "G Enter"}, {"calib", "g Space"},   {"model", "g"},        {"model", "G"},           {"model", "g j Enter j"},
    {"model", "Tab"},    {"guide", "g"},          {"guide", "G"},        {"guide", "G Enter"},
};

static const struct Kind {
    int cols, rows;
    const char *glyphs, *lang;
} looks[] = {{80, 24, "ascii", "en"}, {60, 15, "braille", "zh"}, {100, 30, "block", "en"}};

/* Nothing is under way: no line, page, question or job; the screen is the one of the state. */
static void enter(World *w, const struct State *st)
{
    Session *s = w->app.session;
    for (int i = 0; i < session_jobs(s); i++)
        session_cancel_job(s, session_job(s, i)->id, 2, NULL);
    while (session_busy(s) && session_wait(s, NULL) != ST_USAGE)
        ;
    ui_pump(w->ui);
    world_keys(w, "Esc Esc Esc Esc");
    app_execute(&w->app, "fold none", NULL);
    app_execute(&w->app, "filter", NULL);
    char digit[2] = {view_find(st->view)->key, 0};
    world_keys(w, strcmp(digit, "1") == 0 ? "2" : "1");
    world_keys(w, digit);
    world_keys(w, st->keys);
    assert_ptr_equal(w->ui->view, view_find(st->view));
}

/* Presses the key. Whether it was answered. */
static bool answered(World *w, const KeyRow *row, int key)
{
    char *before = world_screen(w);
    unsigned bits = ui_key(w->ui, key);
    if (bits & DO_RELAYOUT)
        ui_set_size(w->ui, w->ui->rows, w->ui->cols);
    ui_paint(w->ui);
    char *after = world_screen(w);
    bool did = (bits & DO_QUIT) || w->ui->message[0] || w->ui->question.text || strcmp(before, after) != 0;
    free(before);
    free(after);
    return did || row->run == act_redraw || row->run == act_suspend; /* what they do is not on the screen */
}

/* `all`: also the other keys of a row. */
static int every_key(World *w, const struct State *st, bool all, int *pressed)
{
    int silent = 0;
    const View *v = view_find(st->view);
    for (const KeyRow *row = key_next(v, NULL); row; row = key_next(v, row))
        for (int i = 0; i < (all ? KEYS_PER_ROW : 1) && row->keys[i]; i++) {
            if (row->run == act_suspend)
                continue;
            enter(w, st);
            ++*pressed;
            if (answered(w, row, row->keys[i]))
                continue;
            char name[16];
            key_text(row->keys[i], name, sizeof name);
            print_message("# %s on %s (%s): '%s' was not answered\n", name, st->view, st->keys, row->help);
            silent++;
        }
    return silent;
}

static void test_every_key(void **state)
{
    (void)state;
    int vain = 0;
    for (size_t l = 0; l < sizeof looks / sizeof *looks; l++) {
        World w;
        Error err = {ST_OK, ""};
        int silent = 0, pressed = 0;
        char line[40];
        world_open(&w, looks[l].cols, looks[l].rows, looks[l].glyphs, true, false);
        snprintf(line, sizeof line, "set lang=%s", looks[l].lang);
        assert_int_equal(app_execute(&w.app, line, &err), ST_OK);
        char *home = realpath(".", NULL);
        assert_int_equal(chdir(w.dir), 0); /* what is written stays here */
        for (size_t i = 0; i < sizeof states / sizeof *states; i++)
            if (l == 0 || i % 2 == l % 2) /* each view has states of either kind: the other looks share them */
                silent += every_key(&w, &states[i], l == 0, &pressed);
        assert_int_equal(chdir(home), 0);
        free(home);
        assert_true(pressed > (l == 0 ? 1000 : 500));
        if (silent)
            print_message("# at %dx%d: %d of %d\n", looks[l].cols, looks[l].rows, silent, pressed);
        vain += silent;
        world_close(&w);
    }
    lang_choose("en", NULL);
    if (vain)
        fail_msg("%d keys were pressed in vain", vain);
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    setenv("LC_ALL", "C.UTF-8", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_key)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
