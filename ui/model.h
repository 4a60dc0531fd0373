#ifndef SLIM_UI_MODEL_H
#define SLIM_UI_MODEL_H

#include "ui/workbench.h"

/* Screen 7 shows only tensors that pass (model_tree_filter; "": all): how many, of how many. ST_USAGE, and nothing changes, for what is
 * no filter. */
Status model_filter(Ui *ui, const char *text, int64_t *hits, int64_t *of, Error *err);

#endif
