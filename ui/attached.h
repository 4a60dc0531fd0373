#ifndef SLIM_UI_ATTACHED_H
#define SLIM_UI_ATTACHED_H

#include "ui/workbench.h"

/* A screen that shows the session of another process (session/attach.h). */

/* Whether it is one. */
bool ui_attached(const Ui *ui);
/* What the line of messages says while nothing else is said: whose session it is, and how far its job; in at most `width` cells
 * where a shorter form can do it. false: the session is this process's own. */
bool attached_line(Ui *ui, int width, char *out, size_t size, Slot *slot);
/* Asks, then stops the job there; when it has been asked for already: at once. */
unsigned attached_stop(Ui *ui, const JobView *j);

#endif
