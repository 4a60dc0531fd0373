#ifndef SLIM_UI_LOG_H
#define SLIM_UI_LOG_H

#include "ui/workbench.h"

/* The log: what was run, what happened, each line with its time of day. */

/* The end of it, as many lines as fit; what is cut shows so. */
void log_draw(Ui *ui, Rect r);
/* All of it. */
void log_text(Session *s, Str *out);

#endif
