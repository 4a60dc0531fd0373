#ifndef SLIM_QUANT_AWQSEARCH_H
#define SLIM_QUANT_AWQSEARCH_H

#include "base/error.h"
#include "base/pool.h"
#include "qir/scheme.h"

/* The search of awq (specs/outlier_suppression.md 7; Lin et al. 2024): scales by the mean magnitude of an input's
 * channels, with which the weights that read it lose least at their quantization, judged by what a block gives. */

typedef struct AwqTask {
    const float *mean;       /* [in] mean |x| of each channel */
    int64_t in;
    int64_t heads, kv_heads; /* of an input of attention heads, some of which share a value head: they share its scales by
                              * the mean of their channels; 0: every channel has its own. Not the peer's. */
    int grid;                /* exponents 0, 1/grid, ... (grid-1)/grid */
    bool peer;               /* a channel that is always 0 counts as a very small one; ours leaves it alone */
    /* What the block's output loses when every target's weight w becomes Q(w s)/s: the mean of the squared differences from
     * what it gives as it is. NaN: it can't be told. */
    Status (*loss)(void *ctx, const float *s, double *loss, Error *err);
    void *ctx;
    struct Dist *dist;       /* ranks that take turns at the exponents, each with the same of everything else; NULL: one */
} AwqTask;

typedef struct AwqFound {
    bool any;       /* some loss was a number; else there are no scales */
    double ratio;   /* exponent of the best */
    double loss, before; /* with its scales, and with none */
} AwqFound;

/* s[in]: the best scales, of equal ones those of the smaller exponent; 1 when there are none. losses[grid], NULL: not
 * wanted. */
Status awq_search(const AwqTask *t, float *s, double *losses, AwqFound *out, Error *err);

/* w[rows][in] becomes Q(w s)/s with the quantizer of q: all rows of the weight at once where it looks at the whole of it
 * (weight_quantizer_rowwise). peer: its rules, in float32. ST_DATA: q can't be run. */
Status awq_fake(const QSpec *q, const float *s, bool peer, float *w, int64_t rows, int64_t in, Pool *pool,
                const Cancel *cancel, Error *err);

#endif
