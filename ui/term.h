#ifndef SLIM_UI_TERM_H
#define SLIM_UI_TERM_H

#define NCURSES_NOMACROS 1 /* macros named move, clear, ... break fields of those names */
#include <curses.h>
#include <stdbool.h>
#include <stdio.h>
#include <termios.h>

#include "base/error.h"
#include "base/str.h"
#include "ui/glyphs.h"
#include "ui/theme.h"

/* The terminal: set-up, restore, signals, colours, cells. One at a time in a process (signals and curses are the
 * process's). */

/* A key as the workbench knows it: a character (Unicode) or a function key. */
#define KEY_CODE(code) (0x200000 + (code))
#define KEY_CTRL(c) ((c)&31)
enum { KEY_ESC = 27, KEY_PASTE_BEGIN = KEY_CODE(0x900), KEY_PASTE_END = KEY_CODE(0x901), KEY_NONE = -1 };

enum { TERM_WINCH = 1, TERM_INT = 2, TERM_TSTP = 4, TERM_QUIT = 8 }; /* what term_signals reports */

enum { TERM_MAX_PAIRS = 200 };
typedef struct Term {
    SCREEN *screen;
    FILE *in, *out;
    bool null;               /* /dev/null with a size: tests and --dump-screen */
    bool utf8, mouse;
    bool no_locale;          /* the one the environment names is not installed */
    Depth depth;
    int color_flag, color_setting; /* as in theme_wants_color */
    Glyphs glyphs;
    Theme theme;
    attr_t attr[SLOTS];
    int pair[SLOTS];
    int npairs;
    struct { int fg, bg; } pairs[TERM_MAX_PAIRS];
    int wake[2];             /* self-pipe of the signal handlers */
    int err_read, err_saved; /* stderr while curses is active */
    Str captured;            /* what came from it, replayed at the end */
    struct termios modes;    /* as found */
    bool have_modes;
    bool own_on;             /* bracketed paste was switched on */
    const char *glyph_set;   /* as asked for; borrowed */
    bool unanswered;         /* the terminal was asked how wide its characters are, and has not said it yet */
    char typed[120];         /* what was typed meanwhile; curses takes back so many */
    size_t ntyped;
} Term;

typedef struct TermOptions {
    const char *glyphs;      /* NULL: auto */
    int color;               /* -1 auto, 0 never, 1 always */
    bool mouse;
    int rows, cols;          /* > 0: null terminal */
} TermOptions;

/* Takes the terminal over. On failure everything is as it was. */
Status term_open(Term *t, const TermOptions *o, Error *err);
/* Gives it back and replays captured stderr. Safe on a Term that failed to open. */
void term_close(Term *t);
/* Signals since the last call. */
unsigned term_signals(Term *t);
/* The next key without waiting; KEY_NONE when there is none. */
int term_key(Term *t);
/* Takes over the window's size (null: rows, cols). */
void term_resize(Term *t, int rows, int cols);
/* ^Z: gives the terminal back, stops, takes it again. */
void term_suspend(Term *t);
/* Leaves curses for plain output on t->out, and comes back. */
void term_leave(Term *t);
void term_return(Term *t);
/* Sends bytes as they are, whatever signals come. false: the terminal takes no more. */
bool term_write(Term *t, const char *bytes, size_t len);
/* After term_leave: waits for Enter, or a signal that the loop must see. */
void term_wait_enter(Term *t);
/* Gives text to the clipboard by OSC 52; false: out of memory, or the terminal takes no more. */
bool term_copy(Term *t, const char *text, size_t len);
/* New bytes of captured stderr into *out. */
void term_captured(Term *t, Str *out);
/* Gives the theme's slots their attributes on this terminal. */
void term_set_theme(Term *t, const Theme *theme);
/* The setting color: -1 auto, 0 never, 1 always. false: something stronger decides otherwise. */
bool term_set_color(Term *t, int setting);
/* Attributes of a look that isn't a slot's (gradients). */
void term_look(Term *t, const Look *l, attr_t *attr, int *pair);

#endif
