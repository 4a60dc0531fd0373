#ifndef SLIM_MODEL_WEIGHT_H
#define SLIM_MODEL_WEIGHT_H

#include "math/kernels.h"
#include "model/model.h"

/* Weights of linears as checkpoints hold them: plain floats, views of stacked tensors, and codes of 8 or 4 bits with
 * scales (specs/models.md 2.6, 2.7). run/source.h reads through here. */

/* Magnitudes of a code, and how codes of 4 bits lie in a byte: the low half first. */
typedef struct CodeTable {
    int bits;              /* 8 or 4 */
    double largest;        /* magnitude of a code */
    void (*values)(float *lut); /* fills [1 << bits] */
} CodeTable;

/* A way to code weights: one row of storage_table. A linear or stacked tensor called X has its codes in X + weight and
 * its scales in X + scale; value = bf16(code * scale), the product in float32. */
typedef struct Storage {
    const char *name;      /* "fp8" */
    const char *title;     /* "FP8 E4M3" */
    const char *weight, *scale, *shape; /* ends of tensor names; shape: [out, in] as integers, NULL without */
    const char *refused;   /* end of a tensor that would change the values: "_zero_point"; NULL: none */
    const CodeTable *code;
    DType dtype;           /* of the codes' tensor */
    DType scale_dtype;     /* DT_COUNT: F32, F16 or BF16 */
    int codes;             /* in one element of the codes' tensor */
    int64_t group;         /* values of a row with one scale; 0: blocks of config.json's size; -1: told by the scales */
} Storage;
extern const Storage storage_table[]; /* ends with a row without a name */

/* Codes and scales of one tensor. Matrices of a stacked one have `rows` rows each. */
typedef struct WeightStore {
    const Storage *how;
    const TensorInfo *scale, *shape; /* shape may be NULL */
    int64_t rows, in;           /* of one matrix */
    int64_t row_bytes;          /* of one row of codes */
    int64_t block_out, block_in;/* values that share a scale */
    bool exact;                 /* products stay as float32 has them */
} WeightStore;

/* The dtype in which the values of a weight can be written without loss. */
DType weight_dtype(const Linear *l);
/* Whether weight_decode knows the weight: plain floats or codes. */
bool weight_readable(const Linear *l);
/* Bytes of codes and scales, or of floats, that belong to this linear. */
uint64_t weight_bytes(const Linear *l);

/* The bytes of the weight's and the scales' tensors that hold rows [r0, r1): of a weight that is strided by columns
 * within a stacked tensor, all of it. */
typedef struct WeightSpan {
    uint64_t begin, n, scale_begin, scale_n;
} WeightSpan;
WeightSpan weight_span(const Linear *l, int64_t r0, int64_t r1);

/* Rows [r0, r0 + rows) as float32 [rows][in], unrounded. raw and scale: what the span of rows [first, end) read, with
 * first <= r0 and end >= r0 + rows; aligned to their elements. */
void weight_decode(const MathKernels *k, const Linear *l, int64_t first, const void *raw, const void *scale, int64_t r0,
                 int64_t rows, float *w);

/* The checkpoint's bias as float32 out[l->out], unrounded, of a linear that has one. */
Status weight_bias(const Model *m, const Linear *l, float *out, Error *err);
/* ST_DATA: a tensor of values that are no floats. */
Status weight_check_plain(const TensorInfo *t, Error *err);

/* Whether what a checkpoint says of a coded weight's shape (compressed-tensors' weight_shape) is true: reads 16 bytes.
 */
Status weight_verify(const Model *m, const Linear *l, Error *err);

#endif
