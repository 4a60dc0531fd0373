#ifndef SLIM_SAVE_DEQUANT_H
#define SLIM_SAVE_DEQUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/safetensors.h"

/* A linear read back from stored tensors (specs/formats.md 7, 8): what an inference engine computes with. */
typedef struct Dequant {
    int64_t out, in, groups, group;
    DType dtype;             /* of the stored weight */
    enum { PACK_NONE, PACK_ROWS, PACK_FP4, PACK_FLOAT } pack;
    const uint8_t *code;
    const void *scale;       /* [out][groups], scale_dtype; U8: E8M0 */
    DType scale_dtype;
    const float *offset;     /* NULL: 0 */
    const void *deq;         /* [out], deq_dtype: the scale is deq / input_scale */
    DType deq_dtype;
    float input_scale;
    const float *outer;      /* [out][outer_blocks] */
    int64_t outer_blocks, outer_block;
} Dequant;

/* Gives the bytes of a tensor, NULL when it is absent or can't be read; they stay valid while the Dequant is used. */
typedef const void *DequantFetch(void *ctx, const char *name, const TensorInfo **t);

/* Gathers the tensors of `module`; false with a reason when one is missing or of a wrong shape or type. dual_block: of
 * dual_scale, which the file does not tell; 0: in over the number of outer scales. */
bool dequant_open(Dequant *d, const char *module, const char *label, int64_t out, int64_t in, int64_t dual_block,
                  DequantFetch *fetch, void *ctx, char *why, size_t size);
/* Row n into y[in]. */
void dequant_row(const Dequant *d, int64_t n, float *y);
/* Element i of float values (F32, BF16, F16). */
double dequant_value(const void *p, int64_t i, DType dtype);

#endif
