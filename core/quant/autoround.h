#ifndef SLIM_QUANT_AUTOROUND_H
#define SLIM_QUANT_AUTOROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "qir/qweight.h"
#include "qir/scheme.h"

/* A weight whose rounding and clipping are trained by the signs of gradients (specs/quantization.md 11): how far each element
 * is moved before it is rounded, and how much of the range of each group is kept. Rows are independent. */
typedef struct AutoRound {
    int bits;              /* 4 or 8 */
    bool symmetric;        /* else: the grid's longer side is turned to where a group reaches further */
    bool rounds, clips;    /* what is trained; the rest stays as it began */
    DType T, scale_T;      /* of the weight, and of the scales */
    int64_t out, in;
    int64_t group, groups; /* elements of a row under one scale (the last may have fewer), and how many of them */
    const float *w;        /* [out][in] values of T */
    float *v;              /* [out][in] added before rounding, begins at 0; NULL: all 0 */
    float *low, *high;     /* [out][groups] shares of the range below and above 0, begin at 1; NULL: all 1 */
    float *g;              /* [out][in] gradient of the quantized weight, then of v */
    float *dlow, *dhigh;   /* [out][groups] gradients of low and high */
} AutoRound;

/* A quantizer of spec q (int4 or int8) for w[out][in], with nothing trained yet. */
AutoRound autoround_of(const QSpec *q, const float *w, int64_t out, int64_t in, DType T);
/* The quantized weight's rows [row0, row0 + rows) into y[rows][in]; y may be their w. */
void autoround_rows(const AutoRound *a, int64_t row0, int64_t rows, float *y);
/* The same as data, into rows [row0, row0 + rows) of q. peer: codes of an asymmetric grid count from 0, with half of the grid
 * as the offset; else the offset is in them already. */
void autoround_codes(const AutoRound *a, int64_t row0, int64_t rows, bool peer, QWeight *q);
/* Straight through the rounding: g becomes the gradient of v, dlow and dhigh are filled. */
void autoround_backward(AutoRound *a, int64_t row0, int64_t rows);
/* One step of `rate` against the signs of the gradients. */
void autoround_step(AutoRound *a, int64_t row0, int64_t rows, float rate);

/* ---- the loop ---- */

/* Which samples a step looks at. */
enum { AUTOROUND_BATCH = 8 };

/* torch's generator: mt19937 (Matsumoto and Nishimura, 1998). */
typedef struct TorchRandom {
    uint32_t state[624];
    int at;
} TorchRandom;
void torch_random(TorchRandom *r, uint32_t seed);
/* A permutation of [0, n), n >= 1, as torch.randperm draws it. */
void torch_permute(TorchRandom *r, int n, int *out);

/* When the parameters of a step are the best so far, by losses of which each is of other samples: their mean over five
 * steps has to fall below the best, which then goes there by a part of the way. */
typedef struct AutoRoundBest {
    int n;
    double best, last[5];
} AutoRoundBest;
/* Whether the parameters that gave this loss are to be kept. */
bool autoround_better(AutoRoundBest *b, double loss);

#endif
