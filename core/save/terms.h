#ifndef SLIM_SAVE_TERMS_H
#define SLIM_SAVE_TERMS_H

#include "save/saver.h"

/* The values of a quantized linear's tensors (specs/formats.md 7, 8). */

/* dtype of the linear's float weight. */
DType save_model_dtype(const SavePlan *plan, int64_t linear);
/* Bytes of one tensor: *data is what is to be written, in *buf (grown as needed, of *cap bytes) or borrowed from l. */
Status save_part_data(const SavePlan *plan, const SaveLinear *l, const QPart *p, void **buf, size_t *cap,
                      const void **data, Error *err);
/* n float values into dst in dtype F32, BF16, F16 or I8. */
void save_cast(const float *x, int64_t n, DType dtype, void *dst);

#endif
