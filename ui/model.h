#ifndef SLIM_UI_MODEL_H
#define SLIM_UI_MODEL_H

#include "ui/workbench.h"

/* The session's filter of tensors becomes `text` (session_tensor_filter), and screen 7 shows what passes: how many, of how many. ST_USAGE, and
 * nothing changes, for what is no filter. */
Status model_filter(Ui *ui, const char *text, int64_t *hits, int64_t *of, Error *err);

#endif
