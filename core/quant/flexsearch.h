#ifndef SLIM_QUANT_FLEXSEARCH_H
#define SLIM_QUANT_FLEXSEARCH_H

#include "base/error.h"
#include "base/pool.h"
#include "qir/scheme.h"

/* The searches of flex_smooth_quant and flex_awq_ssz (specs/outlier_suppression.md 5, 6): exponents alpha and beta of the
 * scales s = a^alpha / w^beta with which an input is divided and the columns of the weights that read it are
 * multiplied, where the quantized products of a sample of tokens differ least from the float ones. */

/* How scales come from the statistics of an input and of the weights that read it. Two arithmetics: the peer rounds every
 * operation to the dtypes of its operands; ours are DT_F32. */
typedef struct FlexScale {
    const float *a; /* [in] of the input */
    const float *w; /* [in] of the weights (max|W| of a column); NULL: 1 */
    int64_t in;
    int64_t heads, kv_heads; /* of an input of attention heads, some of which share a value head: they share its scales;
                              * 0: every channel has its own */
    bool mean;               /* heads that share take the mean of their scales, else the scale of their largest statistics */
    DType T, A;              /* of weights and of inputs; scales are of A */
} FlexScale;
/* s[in]; of the value heads, source[kv_heads * in/heads], NULL: not wanted. Statistics below 1e-5 count as that: in the
 * peer's arithmetic those of the weights alone. */
void flex_scales(const FlexScale *f, bool peer, double alpha, double beta, float *s, float *source);

/* A weight that reads the input. */
typedef struct FlexTarget {
    const float *x; /* [rows][in] tokens, values of T; several may see the same */
    int64_t rows;   /* 0: calibration showed it none, it is passed over */
    int64_t out;
    const float *bias; /* [out]; NULL: none, or it doesn't count */
} FlexTarget;

enum { FLEX_GRID = 21 }; /* exponents 0, 0.05, ... 1 */
static inline double flex_exponent(int i)
{
    return i * 5 / 100.0;
}

typedef struct FlexTask {
    const FlexTarget *targets;
    int n;
    FlexScale scale; /* the scales that are tried; under peer a, w and T alone count, unclamped */
    /* Weight of target i as float32 [out][in], values of T. Each is read once a phase. */
    Status (*weight)(void *ctx, int i, float *w, Error *err);
    void *ctx;
    const QConfig *q; /* flex_awq_ssz: what quantizes; beta stays 0. NULL: int8, each row of both by its own scale */
    bool has_alpha, has_beta; /* it is given, the other one is searched for */
    double alpha, beta;
    bool peer;        /* the peer's rules and rounding: nothing clamped, the scales of an input's columns for its rows */
    Pool *pool;
    const Cancel *cancel;
    struct Dist *dist; /* ranks that take turns at the tries, each with the same of everything else; NULL: one */
} FlexTask;

typedef struct FlexFound {
    bool any;                      /* some error was a number; else alpha and beta are 0 */
    double alpha, beta;
    float error;                   /* of them: root mean square of the difference over that of the products */
    float tried[2][FLEX_GRID];     /* errors by alpha (with beta = 1 - alpha, 0 or given), and by beta for that alpha; 0
                                    * where it isn't searched for */
} FlexFound;

/* Of equal errors the larger exponent wins. The same for every number of threads. ST_DATA: what q names can't be run. */
Status flex_search(const FlexTask *t, FlexFound *out, Error *err);
/* Bytes it takes beside tokens, for targets of at most so many rows and outputs. */
uint64_t flex_search_bytes(const QConfig *q, int64_t rows, int64_t out, int64_t in, bool peer, int threads);

#endif
