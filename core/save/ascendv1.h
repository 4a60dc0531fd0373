#ifndef SLIM_SAVE_ASCENDV1_H
#define SLIM_SAVE_ASCENDV1_H

#include "save/format.h"

/* The place of a label in the order of types that a whole model is called by ("model_quant_type"), -1 when it has no vote.
 * A linear with a low-rank branch counts as its scheme does, and by our rule a little more than without. *label: what it counts as. */
int ascend_rank(bool peer, const char **label);
/* quant_model_description.json of everything in the layout. group: group_size. */
Status ascend_describe(SaveOut *s, const char *type, int64_t group, Error *err);

#endif
