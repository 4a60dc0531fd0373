#ifndef SLIM_QIR_QWEIGHT_H
#define SLIM_QIR_QWEIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "qir/scheme.h"

/* A quantized weight as data, before a saver packs it: one byte an element (specs/quantization.md 3, 7). */
typedef struct QWeight {
    QType dtype;
    QScope scope;
    bool symmetric;
    int64_t out, in;
    uint8_t *code;     /* [out][in]. int8, int4: the integer (two's complement, int4 not packed); fp8_e4m3, mxfp8: the
                        * e4m3fn byte; mxfp4: the e2m1 code 0..15, bit 3 the sign; float: two bytes, of the dtype `half` */
    DType half;        /* float: BF16 or F16 */
    int64_t zeros;     /* float: how many values are 0 */
    int64_t group;     /* neighbouring elements of a row that share parameters: in for per_channel, group_size for
                        * per_group, 32 for the mx formats */
    int64_t groups;    /* ceil(in / group) */
    float *scale;      /* [out][groups], values of the arithmetic's dtype; NULL for mx */
    float *offset;     /* [out][groups]; NULL: all 0 */
    uint8_t *exponent; /* mx: [out][groups] E8M0 bytes (exponent + 127; 255 is NaN) */
    int64_t outer_block, outer_blocks; /* dual_scale: elements of a row under one outer scale, and how many of them */
    float *outer;      /* dual_scale: [out][outer_blocks] */
} QWeight;

/* Whether the numbers of `q` fit a weight [out][in]: ST_DATA says which do not (a group_size that does not divide in).
 */
Status qweight_check(const QSpec *q, int64_t out, int64_t in, Error *err);
/* Allocates what the spec needs for a weight [out][in]; all zero. qweight_check is
 * made, too. Caller frees with qweight_fini. */
Status qweight_init(QWeight *w, const QSpec *q, int64_t out, int64_t in, Error *err);
/* The same, but codes are not zeroed, and lie in *room if its *cap bytes are enough. It is taken or freed: *room becomes
 * NULL. */
Status qweight_init_in(QWeight *w, const QSpec *q, int64_t out, int64_t in, uint8_t **room, size_t *cap, Error *err);
void qweight_fini(QWeight *w);
/* Bytes of an element's code. */
static inline size_t qweight_code(QType dtype)
{
    return dtype == QT_FLOAT ? 2 : 1;
}
/* Bytes that qweight_init would take: for planners. */
uint64_t qweight_bytes(const QSpec *q, int64_t out, int64_t in);
/* Dequantized rows [row0, row0+rows) into y[rows][in]. T: dtype of the arithmetic in which the product is rounded;
 * DT_F32 for none. */
void qweight_rows(const QWeight *w, int64_t row0, int64_t rows, DType T, float *y);
/* Whether rows are integers times one scale each. */
bool qweight_has_codes(const QSpec *q);
/* Of such a weight: the integers as floats into y[rows][in], the scales into scale[rows]; qweight_rows is their product,
 * rounded to T. */
void qweight_codes(const QWeight *w, int64_t row0, int64_t rows, float *y, float *scale);

#endif
