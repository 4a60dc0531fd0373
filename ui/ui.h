#ifndef SLIM_UI_UI_H
#define SLIM_UI_UI_H

#include <stdbool.h>

#include "src/app.h"

/* The ncurses face: layout and drawing of a session, keys turned into commands run through app_execute. */
typedef struct UiOptions {
    const char *theme;        /* NULL: default */
    const char *glyphs;       /* "auto", "braille", "block", "ascii" */
    int color;                /* -1 auto, 0 never, 1 always */
    bool mouse;
    const char *script;       /* commands shown while they run; NULL none */
    int pace_ms;
    int cols, rows;           /* > 0: null terminal of this size (tests, --dump-screen) */
    const char *dump_screen;  /* file that gets the last screen as text; NULL none */
} UiOptions;

/* Runs the workbench until quit. Restores the terminal in every case. */
Status ui_run(App *a, const UiOptions *o, Error *err);

#endif
