#ifndef SLIM_QIR_LOOPS_H
#define SLIM_QIR_LOOPS_H

#include <stdint.h>

#include "qir/intquant.h"
#include "qir/scheme.h"

/* The loops of intquant.h and mx.h, written once (int_body.h, mx_body.h) and compiled for several processors; all give
 * the same bytes. For callers that have many short pieces: looking the table up costs as much as a piece. */

/* Rows side by side and columns at a time of gptq_columns. */
enum { LOOP_ROWS = 16, LOOP_COLUMNS = 8 };

/* A block of n columns of LOOP_ROWS rows, as gptq quantizes it: one column after the other, each spreading its error over
 * those that follow (specs/quantization.md 7.3). */
typedef struct GptqColumns {
    int64_t n;
    float (*x)[LOOP_ROWS];            /* [n] present values; of columns that are done: error / u[j][j] */
    int8_t (*code)[LOOP_ROWS];        /* [n] */
    float (*scale)[LOOP_ROWS];        /* [LOOP_COLUMNS] of the columns in work */
    float (*offset)[LOOP_ROWS];
    const float *u;                   /* [n][ldu] upper triangle */
    int64_t ldu;
    int bits;
} GptqColumns;

typedef struct QuantLoops {
    void (*quantize)(const float *x, int64_t n, QParam p, int bits, DType T, int8_t *q);
    void (*dequantize)(const int8_t *q, int64_t n, QParam p, DType T, float *y);
    void (*fake)(const float *x, int64_t n, QParam p, int bits, DType T, float *y);
    void (*codes)(const float *x, int64_t n, QParam p, int bits, DType T, float *y);
    void (*fake_each)(const float *x, int64_t n, const float *scale, const float *offset, int bits, DType T, float *y);
    void (*range)(const float *x, int64_t n, float *mn, float *mx);
    void (*fit)(const float *x, int64_t n, float scale, int bits, DType T, DType M, IntFit *out);
    /* Columns [a, b), b - a <= LOOP_COLUMNS; behind them all n hold present values. */
    void (*gptq_columns)(const GptqColumns *c, int64_t a, int64_t b);
    /* Of mx.h: with the scale of the block; decode and encode of QT_MXFP8 codes serve e4m3, too. */
    float (*amax)(const float *x, int64_t n);
    void (*mx_encode)(QType t, const float *x, int64_t n, float scale, uint8_t *code);
    void (*mx_decode)(QType t, const uint8_t *code, int64_t n, float scale, DType T, float *y);
    void (*mx_fake)(QType t, const float *x, int64_t n, float scale, DType T, float *y);
    void (*e4m3_encode)(const float *x, int64_t n, float scale, DType T, uint8_t *code);
    void (*e4m3_fake)(const float *x, int64_t n, float scale, DType T, float *y);
} QuantLoops;

extern const QuantLoops quant_loops_generic;
#if defined(__x86_64__)
extern const QuantLoops quant_loops_avx2, quant_loops_avx512;
#endif

/* The fastest that may run here (math/cpu.h). */
const QuantLoops *quant_loops(void);

#endif
