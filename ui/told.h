#ifndef SLIM_UI_TOLD_H
#define SLIM_UI_TOLD_H

#include "ui/workbench.h"

/* What the message line says of the session's jobs. */

/* How each job ended that ended since the last call. */
void told_jobs(Ui *ui);
/* Once, that the running job asks something. */
void told_question(Ui *ui);

/* Name of the layer with the largest score of the shown metric; false: none has one. */
bool told_worst(Ui *ui, char *name, size_t size);

#endif
