#ifndef SLIM_SAVE_ASCEND_PARTS_H
#define SLIM_SAVE_ASCEND_PARTS_H

#include "save/saveout.h"

/* Tensors of a quantized linear as ascendv1_saver and mindie_format_saver write them (specs/formats.md 7, 12 for W4A16
 * and W8A8S). wide_deq: deq_scale of models that aren't bf16 is the bit pattern in int64. 0: not expressible. */
int ascend_parts(const SavePlan *plan, int64_t i, bool wide_deq, SavePart out[SAVE_PARTS_MAX]);

#endif
