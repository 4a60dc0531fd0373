#ifndef SLIM_QIR_PART_H
#define SLIM_QIR_PART_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"

/* Tensors that a quantized linear is written as (specs/formats.md 7, 8): what they hold, and their shapes, which decide
 * sizes that are shown as well as what savers write. */
typedef enum QPartKind {
    PART_CODE,       /* the weight's bytes as they are */
    PART_FLOAT,      /* the weight's values as floats */
    PART_INT4_ROWS,  /* rows 2i (low nibble) and 2i+1 share a byte */
    PART_FP4,        /* e2m1 codes: columns 2k (low nibble) and 2k+1 share a byte */
    PART_EXPONENT,   /* E8M0 bytes */
    PART_SCALE,      /* weight scale, in the part's dtype */
    PART_OFFSET, PART_ZERO,
    PART_OUTER,      /* scales of the outer blocks */
    PART_SCALE_BIAS, /* W4A8 */
    PART_INPUT_SCALE, PART_INPUT_OFFSET,
    PART_DEQ_SCALE, PART_QUANT_BIAS,
    PART_BIAS
} QPartKind;

typedef struct QPart {
    const char *suffix; /* ".weight_scale" */
    const char *label;  /* in the description */
    QPartKind kind;
    DType dtype;
    int ndim;
    int64_t shape[3];
} QPart;

/* Parts that the schemes of the Ascend formats are made of, in scheme_table. */
typedef enum QPartId {
    P_END, P_CODE8, P_FP8, P_ROWS4, P_FP4, P_QUANT_BIAS, P_IN_SCALE, P_IN_OFFSET, P_DEQ, P_SCALE, P_OFFSET, P_ZERO,
    P_SCALE_BIAS, P_EXPONENT, P_OUTER, P_FLOAT, P_BIAS
} QPartId;

/* The linear that the parts are of. */
typedef struct QPartOf {
    const char *name;   /* of its module */
    int64_t out, in;
    int64_t group;      /* inputs under one scale */
    int64_t outer;      /* inputs under one outer scale; 0: all */
    bool peer;          /* the peer's rules (--compat peer) */
} QPartOf;

/* Suffix, kind, dtype and shape; no label. */
QPart part_make(QPartId id, const QPartOf *of);
/* Bytes of the tensor. */
uint64_t part_bytes(const QPart *p);

/* W4A8's scale_bias by the linear's name: one sum a row, a sum for each of 16 slices, or no sum at all. */
typedef enum ScaleBias { SCALE_BIAS_SUMMED, SCALE_BIAS_SLICED, SCALE_BIAS_WHOLE } ScaleBias;
ScaleBias scale_bias_of(const char *name, bool peer);
/* Its columns; 0: the peer's rule has no answer for so many inputs. */
int64_t scale_bias_columns(const char *name, int64_t in, bool peer);

#endif
