#ifndef SLIM_UI_LOG_H
#define SLIM_UI_LOG_H

#include "ui/keys.h"

/* The log: what was run, what happened, each line with its time of day. */

/* The end of it, as many lines as fit; what is cut shows so. */
void log_draw(Ui *ui, Rect r);
/* All of it. */
void log_text(Session *s, Str *out);
/* The page of it over the body: wrapped, following the end, filtered by kind; of one job alone, or of all (0). */
void log_open(Ui *ui, int job);
/* Opens it for all jobs. Signature of KeyRow.run. */
unsigned act_log(Ui *ui, const KeyRow *row, int key);

#endif
