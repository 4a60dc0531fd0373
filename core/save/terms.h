#ifndef SLIM_SAVE_TERMS_H
#define SLIM_SAVE_TERMS_H

#include "save/saver.h"

/* Tensors that a quantized linear is written as (specs/formats.md 7, 8). */
typedef enum SaveWhat {
    SW_CODE,         /* the weight's bytes as they are */
    SW_INT4_ROWS,    /* rows 2i (low nibble) and 2i+1 share a byte */
    SW_INT4_COLS,    /* columns 2k (low nibble) and 2k+1 share a byte */
    SW_FP4,          /* the same of e2m1 codes */
    SW_EXPONENT,     /* E8M0 bytes */
    SW_SCALE,        /* weight scale, in the part's dtype */
    SW_OFFSET, SW_ZERO,
    SW_OUTER,        /* scales of the outer blocks */
    SW_SCALE_BIAS,   /* W4A8 */
    SW_INPUT_SCALE, SW_INPUT_OFFSET,
    SW_DEQ_SCALE, SW_QUANT_BIAS,
    SW_BIAS
} SaveWhat;

enum { SAVE_PARTS_MAX = 10 };
typedef struct SavePart {
    const char *suffix;  /* ".weight_scale" */
    const char *label;   /* in the description */
    SaveWhat what;
    DType dtype;
    int ndim;
    int64_t shape[3];
} SavePart;

/* dtype of the linear's float weight. */
DType save_model_dtype(const SavePlan *plan, int64_t linear);
/* Columns of W4A8's scale_bias for a linear of this name; 0: the peer's rule has no answer for it. */
int64_t save_scale_bias_columns(const char *name, int64_t in, bool peer);
/* Bytes of one tensor: *data is what is to be written, in *buf (grown as needed, of *cap bytes) or borrowed from l. */
Status save_part_data(const SavePlan *plan, const SaveLinear *l, const SavePart *p, void **buf, size_t *cap,
                      const void **data, Error *err);
/* n float values into dst in dtype F32, BF16, F16 or I8. */
void save_cast(const float *x, int64_t n, DType dtype, void *dst);
/* x rounded to what `dtype` holds. */
float save_round(float x, DType dtype);

#endif
