#ifndef SLIM_UI_UI_H
#define SLIM_UI_UI_H

#include "src/app.h"

/* The ncurses face: layout and drawing of a session, keys turned into commands run through app_execute. */
extern const ScreenFace ui_face; /* for App.screen */

#endif
